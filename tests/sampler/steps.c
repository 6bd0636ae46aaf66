/* Steps of a fixture, and what each asked of its device. */
#include "tests/sampler/steps.h"

#include "sampler/run.h"
#include "tests/recorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *fixture, *attention, *sampler;
    int joins[STEPS_RUN], downloads[STEPS_RUN]; /* what each step may have */
} steps_case;
static const steps_case cases[] = {
    [STEPS_DENSE] = {"wan21-adaspa", "dense", NULL, {1, 1, 1, 1, 1, 1}, {0}},
    [STEPS_ADASPA] = {"wan21-adaspa",
                      "adaspa:keep=0.5,min-tokens=0,search-steps=2+4",
                      NULL,
                      {1, 2, 1, 2, 1, 1},
                      {0, 1, 0, 1, 0, 0}},
    [STEPS_MASS] = {"wan21-adaspa",
                    "adaspa:keep=0.5,min-tokens=0,search-steps=2+4,search=mass,rest=none",
                    NULL,
                    {1, 2, 1, 2, 1, 1},
                    {0, 1, 0, 1, 0, 0}},
    [STEPS_POOLED] =
        {"wan21-adaspa", "pooled:keep=0.5,min-tokens=0", NULL, {1, 1, 1, 1, 1, 1}, {0}},
    [STEPS_NOISE] = {"pixart-sigma", "dense", "lcm", {1, 1, 1, 1, 1, 1}, {0}},
};

/* in the first step, once the tables of the run are made; then after each step */
static recorded at[STEPS_RUN + 1];
static long waited[STEPS_RUN + 1];
static int last;
typedef struct {
    ts_device *dev;
    long (*waits)(ts_device *);
} watched;

static void see(void *user, const ts_event *e)
{
    const watched *w = user;
    if (e->phase != TS_PHASE_DENOISE || (e->layer ? last >= 0 : !e->step)) return;
    last = e->layer ? 0 : e->step;
    ck_assert_int_le(last, STEPS_RUN);
    at[last] = recorder_so_far();
    waited[last] = w->waits ? w->waits(w->dev) : 0;
}

static void expect_step(const steps_case *k, int i, bool counts)
{
    recorded s = recorder_between(at[i - 1], at[i]);
    int joins = k->joins[i - 1], downloads = k->downloads[i - 1];
    ck_assert_int_eq(s.checks, 1);
    ck_assert_msg(s.joins == joins && s.downloads == downloads,
                  "%s, step %d: %d joins, %d downloads, expected %d and %d", k->attention, i,
                  s.joins, s.downloads, joins, downloads);
    if (i == 1) return; /* weights come */
    ck_assert_msg(!s.allocs && !s.frees && !s.uploads && !s.ahead, "%s, step %d: %d, %d and %d",
                  k->attention, i, s.allocs, s.frees, s.uploads);
    long own = waited[i] - waited[i - 1];
    ck_assert_msg(!counts || own == joins, "%s, step %d: the device waited %ld times, expected %d",
                  k->attention, i, own, joins);
}

void steps_expect(steps_what which, const char *backend, long (*waits)(ts_device *))
{
    char path[4096];
    const steps_case *k = cases + which;
    ts_ctx *c = testing_open(backend, NULL, 2);
    watched w = {c->dev, waits};
    void *user = c->env.user;
    ts_model *m;
    ts_request q;
    ts_run *r;
    ts_estimate estimate;
    ts_bag *latents;
    snprintf(path, sizeof path, "%s/model", testing_fixture(k->fixture));
    ck_ok(c, ts_model_open(c, path, &m));
    ts_request_init(m, &q);
    q.prompt = "a fox";
    q.negative = "blurry";
    q.width = 128;
    q.height = 96;
    q.frames = q.frames > 1 ? 13 : 1;
    q.no_bins = true;
    q.steps = STEPS_RUN;
    q.guidance = q.guidance_2 = 3;
    q.attention = k->attention;
    q.sampler = k->sampler;
    ck_ok(c, ts_run_open(m, &q, &r, &estimate));
    ck_ok(c, ts_run_encode(r));
    c->env.progress = see;
    c->env.warn = NULL; /* it takes the same user */
    c->env.user = &w;
    last = -1;
    recorder_begin(c);
    ck_ok(c, ts_run_denoise(r, &latents));
    recorder_end();
    c->env.progress = NULL;
    c->env.user = user;
    ck_assert_int_eq(last, STEPS_RUN);
    for (int i = 1; i <= STEPS_RUN; i++) expect_step(k, i, waits != NULL);
    ts_bag_free(latents);
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
}
