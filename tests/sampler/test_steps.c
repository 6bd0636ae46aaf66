/* What a denoising step asks of its device: one join an evaluation of the transformer, to see that
 * its numbers are finite, and nothing else that waits, moves bytes or takes memory. */
#include "sampler/run.h"
#include "tests/recorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 6 };
static const char *const backends[] = {"cpu", "far"};

/* in the first step, once the tables of the run are made; then after each step */
static recorded at[STEPS + 1];
static int last;

static void see(void *user, const ts_event *e)
{
    (void)user;
    if (e->phase != TS_PHASE_DENOISE || (e->layer ? last >= 0 : !e->step)) return;
    last = e->layer ? 0 : e->step;
    ck_assert_int_le(last, STEPS);
    at[last] = recorder_so_far();
}

/* joins, downloads: what each step may have */
static void run_steps(const char *backend, const char *fixture, const char *attention,
                      const char *sampler, const int *joins, const int *downloads)
{
    char path[4096];
    ts_ctx *c = testing_open(backend, NULL, 2);
    ts_model *m;
    ts_request q;
    ts_run *r;
    ts_estimate estimate;
    ts_bag *latents;
    snprintf(path, sizeof path, "%s/model", testing_fixture(fixture));
    ck_ok(c, ts_model_open(c, path, &m));
    ts_request_init(m, &q);
    q.prompt = "a fox";
    q.negative = "blurry";
    q.width = 128;
    q.height = 96;
    q.frames = q.frames > 1 ? 13 : 1;
    q.no_bins = true;
    q.steps = STEPS;
    q.guidance = q.guidance_2 = 3;
    q.attention = attention;
    q.sampler = sampler;
    ck_ok(c, ts_run_open(m, &q, &r, &estimate));
    ck_ok(c, ts_run_encode(r));
    c->env.progress = see;
    last = -1;
    recorder_begin(c);
    ck_ok(c, ts_run_denoise(r, &latents));
    recorder_end();
    c->env.progress = NULL;
    ck_assert_int_eq(last, STEPS);
    for (int i = 1; i <= STEPS; i++) {
        recorded s = recorder_between(at[i - 1], at[i]);
        ck_assert_int_eq(s.checks, 1);
        ck_assert_msg(s.joins == joins[i - 1] && s.downloads == downloads[i - 1],
                      "%s, step %d: %d joins, %d downloads, expected %d and %d", attention, i,
                      s.joins, s.downloads, joins[i - 1], downloads[i - 1]);
        if (i == 1) continue; /* weights come */
        ck_assert_msg(!s.allocs && !s.frees && !s.uploads && !s.ahead, "%s, step %d: %d, %d and %d",
                      attention, i, s.allocs, s.frees, s.uploads);
    }
    ts_bag_free(latents);
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
}

START_TEST(dense)
{
    static const int joins[STEPS] = {1, 1, 1, 1, 1, 1}, none[STEPS];
    run_steps(backends[_i], "wan21-adaspa", "dense", NULL, joins, none);
}
END_TEST

/* Two searches, whose statistics come back together when all was computed. */
START_TEST(adaspa)
{
    static const int joins[STEPS] = {1, 2, 1, 2, 1, 1}, downloads[STEPS] = {0, 1, 0, 1, 0, 0};
    run_steps(backends[_i], "wan21-adaspa", "adaspa:keep=0.5,min-tokens=0,search-steps=2+4", NULL,
              joins, downloads);
}
END_TEST

START_TEST(pooled)
{
    static const int joins[STEPS] = {1, 1, 1, 1, 1, 1}, none[STEPS];
    run_steps(backends[_i], "wan21-adaspa", "pooled:keep=0.5,min-tokens=0", NULL, joins, none);
}
END_TEST

/* A solver that adds noise at every step but the last. */
START_TEST(noise)
{
    static const int joins[STEPS] = {1, 1, 1, 1, 1, 1}, none[STEPS];
    run_steps(backends[_i], "pixart-sigma", "dense", "lcm", joins, none);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("steps");
    TCase *tc = tcase_create("steps");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, dense, 0, 2);
    tcase_add_loop_test(tc, adaspa, 0, 2);
    tcase_add_loop_test(tc, pooled, 0, 2);
    tcase_add_loop_test(tc, noise, 0, 2);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
