/* What docs/api.md promises of threads, of how long things are borrowed, and of the order of
 * calls. */
#include "backend/hash.h"
#include "sampler/tessera.h"
#include "tests/testing.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_ctx *ctx;
static ts_model *model;
static pthread_t caller;
static int events, elsewhere;

static void hear(void *user, const ts_event *e)
{
    (void)user;
    events += e->phase == TS_PHASE_DENOISE;
    elsewhere += !pthread_equal(pthread_self(), caller);
}

static ts_status look(void *user, ts_step *s)
{
    (void)user;
    events += ts_step_number(s) > 0;
    elsewhere += !pthread_equal(pthread_self(), caller);
    return TS_OK;
}

/* A sink that hashes its frames. */
typedef struct {
    ts_sink s;
    uint64_t hash;
} hasher;
static ts_status begin(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    ck_assert(w > 0 && h > 0 && frames > 0 && fps > 0 && json);
    ((hasher *)s)->hash = TS_HASH;
    return TS_OK;
}
static ts_status add_frame(ts_sink *s, const ts_frame *f)
{
    hasher *h = (hasher *)s;
    h->hash = ts_hash(h->hash, f->rgb, (size_t)f->w * (size_t)f->h * 3 * sizeof *f->rgb);
    elsewhere += !pthread_equal(pthread_self(), caller);
    return TS_OK;
}
static ts_status end(ts_sink *s) { return s ? TS_OK : TS_EFAIL; }
static void drop(ts_sink *s) { (void)s; }

static void open_model(void)
{
    ts_options o = ts_options_default();
    ts_env env = {.progress = hear};
    o.threads = 2;
    caller = pthread_self();
    events = elsewhere = 0;
    ck_assert_int_eq(ts_open(&o, &env, &ctx), TS_OK);
    ck_ok(ctx, ts_model_open(ctx, "weights/default", &model));
}

static void close_all(void)
{
    ts_model_close(model);
    ts_close(ctx);
}

/* The request's own text is gone when this returns. */
static ts_run *open_run(const char *prompt, const char *sampler, int frames)
{
    ts_run *r;
    ts_request q;
    char said[64], solver[64];
    snprintf(said, sizeof said, "%s", prompt);
    snprintf(solver, sizeof solver, "%s", sampler);
    ts_request_init(model, &q);
    q.prompt = said;
    q.sampler = solver;
    q.frames = frames;
    q.steps = 3;
    ck_ok(ctx, ts_run_open(model, &q, &r, NULL));
    memset(said, '?', sizeof said - 1);
    memset(solver, '?', sizeof solver - 1);
    memset(&q, 0xff, sizeof q);
    return r;
}

static uint64_t decode(ts_run *r, const ts_bag *latents)
{
    hasher h = {.s = {.open = begin, .frame = add_frame, .close = end, .abort = drop}};
    ck_ok(ctx, ts_run_decode(r, latents, &h.s));
    return h.hash;
}

static uint64_t render(ts_run *r)
{
    ck_ok(ctx, ts_run_encode(r));
    ck_ok(ctx, ts_run_denoise(r, NULL));
    return decode(r, NULL);
}

static uint64_t render_alone(const char *prompt, const char *sampler, int frames)
{
    open_model();
    ts_run *r = open_run(prompt, sampler, frames);
    uint64_t hash = render(r);
    ts_run_close(r);
    close_all();
    return hash;
}

/* Runs of one model, open at once, their calls in any order among each other: each gives what it
 * gives alone. */
START_TEST(several_runs_of_a_model)
{
    uint64_t a = render_alone("a fox", "unipc", 5), b = render_alone("a panda", "euler", 1);
    ck_assert(a != b);
    open_model();
    ts_run *first = open_run("a fox", "unipc", 5), *second = open_run("a panda", "euler", 1);
    ck_ok(ctx, ts_run_encode(second));
    ck_ok(ctx, ts_run_encode(first));
    ck_ok(ctx, ts_run_denoise(first, NULL));
    ck_ok(ctx, ts_run_denoise(second, NULL));
    ck_assert(decode(first, NULL) == a);
    ck_assert(decode(second, NULL) == b);
    ck_assert(render(first) == a); /* all of it again */
    ts_run_close(first);
    ck_assert(decode(second, NULL) == b);
    ts_run_close(second);
    close_all();
}
END_TEST

/* A second denoising begins anew and gives the same; with other noise something else, and that is
 * what is decoded then. Latents of before stay as they are. */
START_TEST(a_second_denoising)
{
    ts_bag *z[3], *noise = ts_bag_new();
    const void *data[3];
    long dim[5], n = 1;
    open_model();
    ts_run *r = open_run("a fox", "unipc", 5);
    ck_ok(ctx, ts_run_encode(r));
    ck_ok(ctx, ts_run_denoise(r, z));
    uint64_t first = decode(r, NULL);
    ck_ok(ctx, ts_run_denoise(r, z + 1));
    for (int i = 0; i < 2; i++)
        ck_ok(ctx, ts_bag_tensor(ctx, z[i], "latents", NULL, NULL, dim, data + i));
    for (int i = 0; i < 4; i++) n *= dim[i];
    ck_assert(!memcmp(data[0], data[1], (size_t)n * sizeof(float)));
    ck_ok(ctx, ts_bag_add(ctx, noise, "noise", 4, dim, data[0]));
    ck_ok(ctx, ts_run_noise(r, noise));
    ts_bag_free(noise); /* it was copied */
    ck_ok(ctx, ts_run_denoise(r, z + 2));
    ck_ok(ctx, ts_bag_tensor(ctx, z[2], "latents", NULL, NULL, NULL, data + 2));
    ck_assert(memcmp(data[0], data[2], (size_t)n * sizeof(float)) != 0);
    ck_assert(decode(r, NULL) != first);
    ck_assert(decode(r, z[0]) == first);
    for (int i = 0; i < 3; i++) ts_bag_free(z[i]);
    ts_run_close(r);
    close_all();
}
END_TEST

START_TEST(callbacks_are_on_the_calling_thread)
{
    ts_watch w = {.size = sizeof w, .step = look};
    open_model();
    ts_run *r = open_run("a fox", "unipc", 5);
    ck_ok(ctx, ts_run_watch(r, &w));
    memset(&w, 0xff, sizeof w); /* it was copied */
    render(r);
    ck_assert_int_ge(events, 2 * 3);
    ck_assert_int_eq(elsewhere, 0);
    ts_run_close(r);
    close_all();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("promises");
    TCase *tc = tcase_create("promises");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, several_runs_of_a_model);
    tcase_add_test(tc, a_second_denoising);
    tcase_add_test(tc, callbacks_are_on_the_calling_thread);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
