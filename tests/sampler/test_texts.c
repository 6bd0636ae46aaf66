/* Texts shared by runs: each distinct one once, the same latents as a run of its own gives, kept
 * across processes in a folder, and sizes that are not counted twice. */
#include "sampler/texts.h"
#include "tests/testing.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ts_ctx *ctx;
static ts_model *model;
static char warned[4096];
static int text_events, encoded;

static void note(void *user, const char *sentence)
{
    (void)user;
    snprintf(warned, sizeof warned, "%s", sentence);
}

static void watch(void *user, const ts_event *e)
{
    (void)user;
    if (e->phase != TS_PHASE_TEXT) return;
    text_events++;
    if (!e->layers && e->step) encoded = e->step;
}

static void begin(void)
{
    ts_options o = ts_options_default();
    ts_env env = {.progress = watch, .warn = note};
    o.default_model = "weights/default";
    ck_assert(ts_open(&o, &env, &ctx) == TS_OK);
    ck_ok(ctx, ts_model_open(ctx, NULL, &model));
    text_events = 0;
    *warned = 0;
}

static void end(void)
{
    ts_model_close(model);
    ts_close(ctx);
}

static ts_request request(const char *prompt, int side)
{
    ts_request q;
    ts_request_init(model, &q);
    q.prompt = prompt;
    q.width = q.height = side;
    q.frames = 1;
    q.steps = 2;
    return q;
}

static ts_bag *denoise(ts_run *run)
{
    ts_bag *latents;
    ck_ok(ctx, ts_run_encode(run));
    ck_ok(ctx, ts_run_denoise(run, &latents));
    ts_run_close(run);
    return latents;
}

static const float *states_of(const ts_texts *t, int id)
{
    long n;
    return testing_f32(ts_texts_bag(t, id), "states", &n);
}

static void same(ts_bag *a, ts_bag *b)
{
    long n, m;
    const float *x = testing_f32(a, "latents", &n), *y = testing_f32(b, "latents", &m);
    ck_assert(n == m && !memcmp(x, y, (size_t)n * sizeof *x));
    ts_bag_free(a);
    ts_bag_free(b);
}

static ts_status open_with(const ts_request *q, ts_texts *t, const ts_run *like, ts_run **run,
                           ts_estimate *e)
{
    const ts_run_options o = {.size = sizeof o, .texts = t, .like = like};
    return ts_run_open_with(model, q, &o, run, e);
}

START_TEST(shared_texts_give_the_same_latents)
{
    static const char *const prompts[] = {"a panda", "a birthday cake on a purple background",
                                          "a fox"};
    ts_texts *t;
    ts_estimate e;
    int id[4];
    begin();
    ck_ok(ctx, ts_texts_open(model, &t));
    for (int i = 0; i < 3; i++) ck_ok(ctx, ts_texts_add(t, prompts[i], "prompt", &id[i]));
    ck_ok(ctx, ts_texts_add(t, "a panda", "prompt", &id[3]));
    ck_assert(id[3] == id[0] && id[1] != id[0] && id[2] != id[1]);
    ck_assert_ptr_null(ts_texts_bag(t, id[0]));
    ck_ok(ctx, ts_texts_encode(t, id, 4, NULL));
    int events = text_events;
    ck_assert_int_gt(events, 0);
    for (int i = 0; i < 3; i++) {
        ts_request q = request(prompts[i], 32);
        ts_run *shared, *own;
        ck_ok(ctx, open_with(&q, t, NULL, &shared, &e));
        q.prompt = prompts[i];
        ts_bag *a = denoise(shared);
        ck_ok(ctx, ts_run_open(model, &q, &own, &e));
        same(a, denoise(own));
    }
    ts_texts_drop(t, id[0]);
    ck_assert_ptr_null(ts_texts_bag(t, id[0]));
    ts_request q = request(prompts[0], 32);
    ts_run *run, *own;
    ck_ok(ctx, open_with(&q, t, NULL, &run, &e));
    ts_bag *again = denoise(run); /* is encoded anew */
    ck_ok(ctx, ts_run_open(model, &q, &own, &e));
    same(again, denoise(own));
    ts_texts_close(t);
    end();
}
END_TEST

START_TEST(sizes_are_taken_over_where_they_hold)
{
    ts_texts *t;
    ts_estimate e, again;
    begin();
    ck_ok(ctx, ts_texts_open(model, &t));
    ts_request q = request("a panda", 32),
               longer = request("a birthday cake on a purple background", 32),
               larger = request("a panda", 64), seeded = request("a panda", 32);
    ts_run *first, *run;
    seeded.seed = 7;
    ck_ok(ctx, open_with(&q, t, NULL, &first, &e));
    long counts = model->counts;
    ck_ok(ctx, open_with(&seeded, t, first, &run, &again));
    ck_assert_int_eq(model->counts, counts);
    ck_assert_mem_eq(&e, &again, sizeof e);
    ts_bag *a = denoise(run);
    /* counts: the sizes of `first` no longer hold */
    ck_ok(ctx, ts_run_open(model, &seeded, &run, &again));
    same(a, denoise(run));
    counts = model->counts;
    ck_ok(ctx, open_with(&q, t, first, &run, &again));
    ck_assert_int_eq(model->counts, ++counts);
    ts_run_close(first);
    first = run;
    const ts_request other[] = {longer, larger};
    for (int i = 0; i < 2; i++) {
        ck_ok(ctx, open_with(other + i, t, first, &run, &again));
        ck_assert_int_eq(model->counts, ++counts);
        ts_run_close(run);
    }
    ts_run_close(first);
    ts_texts_close(t);
    end();
}
END_TEST

static int files_in(const char *folder, char name[256])
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *f; (f = readdir(d));)
        if (f->d_name[0] != '.') {
            n++;
            snprintf(name, 256, "%s", f->d_name);
        }
    closedir(d);
    return n;
}

static ts_texts *cached(const char *text, const char *folder, int *id)
{
    ts_texts *t;
    ck_ok(ctx, ts_texts_open(model, &t));
    ck_ok(ctx, ts_texts_add(t, text, "prompt", id));
    text_events = 0;
    ck_ok(ctx, ts_texts_encode(t, id, 1, folder));
    return t;
}

START_TEST(states_are_kept_in_a_folder)
{
    char *folder = testing_tmp(), name[256] = "", path[4600];
    int id;
    begin();
    ts_texts *t = cached("a panda", folder, &id);
    int fresh = text_events;
    size_t bytes = ts_texts_bytes(t, id);
    float *states = malloc(bytes);
    memcpy(states, states_of(t, id), bytes);
    ts_texts_close(t);
    ck_assert_int_eq(files_in(folder, name), 1);
    end();
    begin(); /* as another process: read, not computed */
    t = cached("a panda", folder, &id);
    ck_assert_int_lt(text_events, fresh);
    ck_assert(!memcmp(states, states_of(t, id), bytes));
    ts_texts_close(t);
    ts_texts_close(cached("a fox", folder, &id));
    ck_assert_int_eq(files_in(folder, name), 2);
    DIR *d = opendir(folder);
    for (struct dirent *f; (f = readdir(d));) { /* damaged files are as good as none */
        if (f->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        ck_assert(truncate(path, 100) == 0);
    }
    closedir(d);
    t = cached("a panda", folder, &id);
    ck_assert_int_eq(text_events, fresh);
    ck_assert(!memcmp(states, states_of(t, id), bytes));
    ts_texts_close(t);
    t = cached("a panda", folder, &id);
    ck_assert_int_lt(text_events, fresh);
    ts_texts_close(t);
    ck_ok(ctx, ts_texts_open(model, &t));
    /* what can not be kept is encoded all the same, and said once */
    int ids[2];
    ck_ok(ctx, ts_texts_add(t, "a cat", "prompt", ids));
    ck_ok(ctx, ts_texts_add(t, "a dog", "prompt", ids + 1));
    ck_ok(ctx, ts_texts_encode(t, ids, 1, "/nonexistent/folder"));
    ck_assert_msg(strstr(warned, "can not be kept for later runs") != NULL, "%s", warned);
    *warned = 0;
    ck_ok(ctx, ts_texts_encode(t, ids + 1, 1, "/nonexistent/folder"));
    ck_assert_str_eq(warned, "");
    ck_assert(states_of(t, ids[0]) && states_of(t, ids[1]));
    ts_texts_close(t);
    free(states);
    free(folder);
    end();
}
END_TEST

START_TEST(many_texts)
{
    enum { N = 100 };
    int id[N];
    ts_texts *t;
    begin();
    ck_ok(ctx, ts_texts_open(model, &t));
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < N; i++) {
            char text[32];
            snprintf(text, sizeof text, "a panda, take %d", i);
            ck_ok(ctx, ts_texts_add(t, text, "prompt", &id[i]));
            ck_assert_int_eq(id[i], i);
        }
    ctx->memory = (size_t)8 * 1024 * 1024; /* so that they do not go in one piece */
    ck_ok(ctx, ts_texts_encode(t, id, N, NULL));
    ck_assert_int_eq(encoded, N);
    for (int i = 0; i < N; i++) ck_assert_ptr_nonnull(ts_texts_bag(t, id[i]));
    int bad;
    ck_assert_int_eq(ts_texts_add(t, "\xFF", "prompt", &bad), TS_EUSAGE);
    char *words = calloc(1, 1000 * strlen("panda ") + 1);
    for (int i = 0; i < 1000; i++) strcat(words, "panda ");
    ck_ok(ctx, ts_texts_add(t, words, "prompt of list.txt:7", &bad));
    ck_assert_msg(strstr(warned, "the prompt of list.txt:7 has") != NULL, "%s", warned);
    free(words);
    ts_texts_close(t);
    end();
}
END_TEST

/* ---- rules ---- */

/* States of a text under the family with another rule; *n numbers of them, malloc'd. */
static float *under_rule(const char *text, const char *prefix, int crop, long *n)
{
    ts_family f = *model->family;
    const ts_family *was = model->family;
    ts_texts *t;
    int id;
    f.text[0].prefix = prefix;
    f.text[0].crop = crop;
    model->family = &f;
    ck_ok(ctx, ts_texts_open(model, &t));
    ck_ok(ctx, ts_texts_add(t, text, "prompt", &id));
    ck_ok(ctx, ts_texts_encode(t, &id, 1, NULL));
    const float *states = testing_f32(ts_texts_bag(t, id), "states", n);
    ck_assert_int_eq(*n, ts_texts_tokens(t, id) * model->dit_info.text_dim);
    float *copy = malloc((size_t)*n * sizeof *copy);
    memcpy(copy, states, (size_t)*n * sizeof *copy);
    ts_texts_close(t);
    model->family = was;
    return copy;
}

/* A template stands before the prompt, and its rows are not handed on. */
START_TEST(template_and_crop)
{
    enum { CROP = 2 };
    long n, m, k;
    begin();
    long width = model->dit_info.text_dim;
    float *all = under_rule("a red panda eats", NULL, 0, &n),
          *cropped = under_rule("panda eats", "a red ", CROP, &m),
          *nothing = under_rule("a", NULL, 1000, &k);
    ck_assert_int_eq(k, 0);
    ck_assert_int_eq(m, n - CROP * width);
    ck_assert(!memcmp(cropped, all + CROP * width, (size_t)m * sizeof *all));
    free(all);
    free(cropped);
    free(nothing);
    end();
}
END_TEST

/* A second rule reads the text with an encoder of its own; T5 has no row for a whole text. */
START_TEST(second_rule)
{
    ts_family f;
    ts_texts *t;
    int id;
    begin();
    f = *model->family;
    f.text[1] = f.text[0];
    f.text[1].output.pooled = true;
    ck_assert_int_eq(ts_family_rules(model->family), 1);
    ck_assert_int_eq(ts_family_rules(&f), 2);
    model->family = &f;
    ck_ok(ctx, ts_texts_open(model, &t));
    ck_ok(ctx, ts_texts_add(t, "a panda", "prompt", &id));
    ck_assert_int_eq(ts_texts_encode(t, &id, 1, NULL), TS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(ts_error(ctx), "and no others"));
    ck_assert_ptr_null(ts_texts_bag(t, id)); /* half of a text is none */
    ts_texts_close(t);
    end();
}
END_TEST

/* A transformer that is told the guidance has no branch without the prompt. */
START_TEST(told_guidance)
{
    ts_family f;
    ts_run *r;
    ts_estimate e;
    begin();
    ts_request q = request("a panda", 32);
    q.guidance = 6;
    ck_ok(ctx, ts_run_open(model, &q, &r, &e));
    ck_assert_int_eq(r->branches, 2);
    ck_assert_int_eq(ts_run_branches(r, 0), 2);
    ts_run_close(r);
    f = *model->family;
    f.told_guidance = true;
    model->family = &f;
    /* the one that is here does not know what to do with it */
    ck_assert_int_eq(ts_run_open(model, &q, &r, &e), TS_EMODEL);
    ck_assert_ptr_nonnull(strstr(ts_error(ctx), "a guidance that the model is told"));
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("texts");
    TCase *t = tcase_create("texts");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, template_and_crop);
    tcase_add_test(t, second_rule);
    tcase_add_test(t, told_guidance);
    tcase_add_test(t, shared_texts_give_the_same_latents);
    tcase_add_test(t, sizes_are_taken_over_where_they_hold);
    tcase_add_test(t, states_are_kept_in_a_folder);
    tcase_add_test(t, many_texts);
    suite_add_tcase(s, t);
    return testing_main(s);
}
