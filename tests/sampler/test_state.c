/* States of runs: what they depend on and what not, and that this is checked before the text is
 * encoded. */
#include "sampler/run.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *tmp;
static int text_events;
static volatile int stop;
static int stop_after; /* a step; 0: none */

static void watch(void *user, const ts_event *e)
{
    (void)user;
    if (stop_after && e->phase == TS_PHASE_DENOISE && e->layer == 0 && e->step == stop_after)
        stop = 1;
    text_events += e->phase == TS_PHASE_TEXT && e->step == 0;
}

typedef struct {
    ts_ctx *c;
    ts_model *m;
    char state[4096];
} opened;

static opened open_model(const char *path)
{
    opened o = {.c = testing_open("cpu", NULL, 1)};
    o.c->env.progress = watch;
    ck_ok(o.c, ts_model_open(o.c, path, &o.m));
    snprintf(o.state, sizeof o.state, "%s/state", tmp);
    return o;
}

static void close_model(opened o)
{
    ts_model_close(o.m);
    testing_close(o.c);
}

static const char *model_path(const char *fixture)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/model", testing_fixture(fixture));
    return path;
}

static ts_request request_of(const opened *o)
{
    ts_request q;
    ts_request_init(o->m, &q);
    q.prompt = "a fox";
    q.negative = "blurry";
    q.width = q.height = 128;
    q.frames = 29;
    q.steps = 2;
    q.guidance = q.guidance_2 = 3;
    q.state = o->state;
    return q;
}

/* Encodes with noise of this value; 0: drawn. */
static ts_status encode(const opened *o, const ts_request *q, float noise, ts_run **out)
{
    ts_bag *bag = ts_bag_new();
    ck_ok(o->c, ts_run_open(o->m, q, out, NULL));
    float *x = ts_bag_put(bag, "noise", TS_F32, 4, (*out)->latent, NULL);
    const long *l = (*out)->latent;
    for (long i = 0; i < l[0] * l[1] * l[2] * l[3]; i++) x[i] = noise;
    if (noise != 0) ck_ok(o->c, ts_run_noise(*out, bag));
    ts_bag_free(bag);
    text_events = 0;
    return ts_run_encode(*out);
}

static void save_with(const opened *o, const ts_request *q, float noise)
{
    ts_run *r;
    unlink(o->state);
    ck_ok(o->c, encode(o, q, noise, &r));
    ck_ok(o->c, ts_run_denoise(r, NULL));
    ts_run_close(r);
}

static void goes_on(const opened *o, const ts_request *q, float noise)
{
    ts_run *r;
    ck_ok(o->c, encode(o, q, noise, &r));
    ck_ok(o->c, ts_run_denoise(r, NULL));
    ck_assert_int_eq(r->report.resumed, q->steps);
    ts_run_close(r);
}

static void goes_on_after(const opened *o, const ts_request *q, int steps)
{
    ts_run *r;
    ck_ok(o->c, encode(o, q, 0, &r));
    ck_ok(o->c, ts_run_denoise(r, NULL));
    ck_assert_int_eq(r->report.resumed, steps);
    ts_run_close(r);
}

static void refused(const opened *o, const ts_request *q, float noise, const char *sentence)
{
    ts_run *r;
    ck_assert_msg(encode(o, q, noise, &r) == TS_EMODEL, "not refused: %s", sentence);
    ck_assert_msg(text_events == 0, "the text was encoded first: %s", sentence);
    ck_assert_msg(strstr(ts_error(o->c), sentence) != NULL, "\"%s\" does not say \"%s\"",
                  ts_error(o->c), sentence);
    ts_run_close(r);
}

START_TEST(what_denoising_depends_on)
{
    opened o = open_model(model_path("wan21-tile"));
    ts_request q = request_of(&o), other;
    save_with(&o, &q, 0);
    goes_on(&o, &q, 0);
    other = q;
    other.fps = q.fps + 1;
    other.scale = q.scale + 1;
    other.vae_tile = "64x64";
    goes_on(&o, &other, 0);
#define REFUSED(change, sentence)           \
    do {                                    \
        other = q;                          \
        other.change;                       \
        refused(&o, &other, 0, (sentence)); \
    } while (0)
    REFUSED(prompt = "a cat", "another request: prompt is \"a fox\" there, \"a cat\" is asked for");
    REFUSED(negative = "", "negative is \"blurry\" there, \"\" is asked for");
    REFUSED(width = 96, "size is \"128x128\" there, \"96x128\" is asked for");
    REFUSED(frames = 25, "frames is 29 there, 25 is asked for");
    REFUSED(steps = 3, "steps is 2 there, 3 is asked for");
    REFUSED(guidance = 2, "guidance is 3 there, 2 is asked for");
    REFUSED(shift = 2.5, "2.5 is asked for");
    REFUSED(sampler = "euler", "sampler is \"unipc\" there, \"euler\" is asked for");
    REFUSED(seed = 43, "seed is \"42\" there, \"43\" is asked for");
    REFUSED(attention = "window:keep=0.5", "attention is \"dense\" there, \"window:keep=0.5");
#undef REFUSED
    refused(&o, &q, 0.5f, "noise is not said there, \"");
    save_with(&o, &q, 0.5f);
    goes_on(&o, &q, 0.5f);
    other = q;
    other.seed = 43; /* nothing is drawn */
    goes_on(&o, &other, 0.5f);
    refused(&o, &q, 0.25f, "noise is \"");
    refused(&o, &q, 0, "seed is not said there, \"42\" is asked for");
    close_model(o);
}
END_TEST

START_TEST(greater_formats_are_refused)
{
    opened o = open_model(model_path("wan21-tile"));
    ts_request q = request_of(&o);
    save_with(&o, &q, 0);
    ts_bag *bag = testing_bag(o.state);
    ts_bag_meta(bag, "state_format", "1");
    ck_ok(o.c, ts_bag_save(&o.c->err, bag, o.state));
    goes_on(&o, &q, 0);
    ts_bag_meta(bag, "state_format", "3");
    ck_ok(o.c, ts_bag_save(&o.c->err, bag, o.state));
    refused(&o, &q, 0, "a state of format 3, tessera ");
    ts_bag_free(bag);
    close_model(o);
}
END_TEST

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

/* A file that attention reads may move, and may not change. */
START_TEST(what_is_in_a_plan_file)
{
    char a[4096], b[4096], policy[2][8300];
    opened o = open_model(model_path("wan21-tile"));
    ts_request q = request_of(&o);
    snprintf(a, sizeof a, "%s/a.json", tmp);
    snprintf(b, sizeof b, "%s/b.json", tmp);
    write_text(a, "{\"frames\": 8, \"layers\": [1, 1]}");
    write_text(b, "{\"frames\": 8, \"layers\": [1, 1]}");
    snprintf(policy[0], sizeof policy[0], "tile:file=%s,min-tokens=0", a);
    snprintf(policy[1], sizeof policy[1], "tile:file=%s,min-tokens=0", b);
    q.attention = policy[0];
    save_with(&o, &q, 0);
    q.attention = policy[1];
    goes_on(&o, &q, 0);
    write_text(b, "{\"frames\": 8, \"layers\": [1, 2]}");
    refused(&o, &q, 0, "plan is \"");
    close_model(o);
}
END_TEST

/* What is recorded is found from another folder. */
START_TEST(full_paths_of_plan_files)
{
    char here[4096], name[4200], *model = realpath(model_path("wan21-tile"), NULL);
    opened o = open_model(model);
    free(model);
    ts_request q = request_of(&o);
    ts_run *r;
    snprintf(name, sizeof name, "%s/t.json", tmp);
    write_text(name, "{\"frames\": 8, \"layers\": [1, 1]}");
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    ck_assert_int_eq(chdir(tmp), 0);
    q.attention = "tile:file=t.json";
    q.state = NULL;
    ts_status st = ts_run_open(o.m, &q, &r, NULL);
    ck_assert_int_eq(chdir(here), 0);
    ck_ok(o.c, st);
    char *json = ts_run_json(r), *full = realpath(name, NULL);
    ck_assert_msg(strstr(json, full) != NULL, "no %s in %s", full, json);
    free(json);
    free(full);
    ts_run_close(r);
    close_model(o);
}
END_TEST

/* The same weights elsewhere are the same model, other weights in the same place are not. */
START_TEST(the_model_itself)
{
    char copy[4096], command[20000], path[8200], other[256];
    opened o = open_model(model_path("wan21-tile"));
    ts_request q = request_of(&o);
    save_with(&o, &q, 0);
    close_model(o);
    snprintf(copy, sizeof copy, "%s/model", tmp);
    snprintf(command, sizeof command, "rm -rf %s && cp -rL %s %s && chmod -R u+w %s", copy,
             model_path("wan21-tile"), copy, copy);
    ck_assert_int_eq(system(command), 0);
    o = open_model(copy);
    q = request_of(&o);
    goes_on(&o, &q, 0);
    close_model(o);
    /* the VAE has no part in denoising, the transformer has */
    static const char *const part[] = {"vae", "transformer"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s/diffusion_pytorch_model.safetensors", copy, part[i]);
        FILE *f = fopen(path, "r+");
        ck_assert_ptr_nonnull(f);
        memset(other, 0x3c, sizeof other);
        ck_assert_int_eq(fseek(f, -(long)sizeof other, SEEK_END), 0);
        fwrite(other, 1, sizeof other, f);
        fclose(f);
        o = open_model(copy);
        q = request_of(&o);
        if (i)
            refused(&o, &q, 0, "model is \"");
        else
            goes_on(&o, &q, 0);
        close_model(o);
    }
}
END_TEST

/* Between two steps the solver's prediction is shown, at the end the latents. */
START_TEST(what_is_decoded)
{
    static const struct {
        const char *sampler, *shown;
    } at[] = {{"unipc", "solver.m0"}, {"euler", "latents"}};
    opened o = open_model(model_path("wan21-tile"));
    ts_request q = request_of(&o);
    for (int i = 0; i < 2; i++) {
        ts_run *r;
        q.sampler = at[i].sampler;
        unlink(o.state);
        ck_ok(o.c, encode(&o, &q, 0, &r));
        stop = 0;
        o.c->env.stop = &stop;
        stop_after = 1;
        ck_assert_int_eq(ts_run_denoise(r, NULL), TS_ESTOP);
        ts_run_close(r);
        stop = stop_after = 0;
        ts_bag *bag = testing_bag(o.state);
        ck_assert_str_eq(ts_bag_meta_get(bag, "done"), "1");
        ck_assert_str_eq(ts_state_shown(bag), at[i].shown);
        ts_run_options decoding = {.size = sizeof decoding, .latents = bag};
        ck_ok(o.c, ts_run_open_with(o.m, &q, &decoding, &r, NULL));
        ts_run_close(r);
        ts_bag_free(bag);
        goes_on_after(&o, &q, 1);
        bag = testing_bag(o.state);
        ck_assert_str_eq(ts_state_shown(bag), "latents");
        ts_bag_free(bag);
    }
    close_model(o);
}
END_TEST

/* A state that the caller can do without is warned of where it can not be written; one of another
 * request is refused at once, and none is kept. */
START_TEST(a_spare_state)
{
    opened o = open_model(model_path("wan21-t2v"));
    ts_request q = request_of(&o);
    ts_run *r;
    q.state = NULL;
    q.frames = 5;
    for (int spare = 0; spare < 2; spare++) {
        ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
        ck_ok(o.c, ts_run_state(r, "/nonexistent/state", spare));
        ck_ok(o.c, ts_run_encode(r));
        ck_assert_int_eq(ts_run_denoise(r, NULL), spare ? TS_OK : TS_EIO);
        ts_run_close(r);
    }
    unlink(o.state);
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_ok(o.c, ts_run_state(r, o.state, true));
    ck_ok(o.c, ts_run_encode(r));
    ck_ok(o.c, ts_run_denoise(r, NULL));
    ts_run_close(r);
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_ok(o.c, ts_run_state(r, o.state, true));
    ck_assert_int_eq(r->report.resumed, q.steps);
    ts_run_close(r);
    q.seed++;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_assert_int_eq(ts_run_state(r, o.state, true), TS_EMODEL);
    ck_assert_ptr_null(r->q.state);
    ts_run_close(r);
    close_model(o);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("state");
    TCase *t = tcase_create("state");
    tmp = testing_tmp();
    tcase_add_test(t, what_denoising_depends_on);
    tcase_add_test(t, greater_formats_are_refused);
    tcase_add_test(t, what_is_in_a_plan_file);
    tcase_add_test(t, full_paths_of_plan_files);
    tcase_add_test(t, the_model_itself);
    tcase_add_test(t, what_is_decoded);
    tcase_add_test(t, a_spare_state);
    suite_add_tcase(s, t);
    return testing_main(s);
}
