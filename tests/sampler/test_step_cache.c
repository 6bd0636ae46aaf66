/* Step caching: its language; which steps are reused, held to the rule by the latents that a run
 * goes through; runs that are interrupted. */
#include "sampler/run.h"
#include "sampler/step_cache.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *tmp;
static const char *const backends[] = {"cpu", "far"};
enum { STEPS = 12 };

/* ---- the language ---- */
static const struct {
    const char *text, *sentence;
} mistakes[] = {
    {"", "cache-steps : no such method, expected none or easycache"},
    {"teacache:threshold=0.1",
     "cache-steps teacache:threshold=0.1: no such method, expected none or easycache"},
    {"easycache:", "cache-steps easycache: a key must follow the colon"},
    {"easycache:limit=1",
     "cache-steps easycache: no key \"limit\", expected threshold, first or last"},
    {"easycache:threshold", "cache-steps easycache: threshold=, expected a number more than 0"},
    {"easycache:threshold=0", "cache-steps easycache: threshold=0, expected a number more than 0"},
    {"easycache:threshold=nan",
     "cache-steps easycache: threshold=nan, expected a number more than 0"},
    {"easycache:first=0", "cache-steps easycache: first=0, expected a whole number from 1"},
    {"easycache:first=3,last=-1", "cache-steps easycache: last=-1, expected a whole number from 0"},
    {"easycache:first=3,", "cache-steps easycache: no key \"\", expected threshold, first or last"},
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

START_TEST(mistake)
{
    ts_err err = {0};
    ts_cache_wish w;
    ck_assert_int_eq(ts_cache_parse(&err, mistakes[_i].text, &w), TS_EUSAGE);
    ck_assert_str_eq(err.text, mistakes[_i].sentence);
}
END_TEST

START_TEST(text)
{
    static const char *const said[][2] = {
        {"none", "none"},
        {"easycache", "easycache:threshold=0.05,first=3,last=1"},
        {"easycache:last=0,threshold=0.125,first=1", "easycache:threshold=0.125,first=1,last=0"}};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        ts_err err = {0};
        ts_cache_wish w, again;
        ck_assert_int_eq(ts_cache_parse(&err, said[i][0], &w), TS_OK);
        char *t = ts_cache_text(&w);
        ck_assert_str_eq(t, said[i][1]);
        ck_assert_int_eq(ts_cache_parse(&err, t, &again), TS_OK);
        ck_assert(again.on == w.on && again.threshold == w.threshold && again.first == w.first &&
                  again.last == w.last);
        free(t);
    }
}
END_TEST

/* ---- runs ---- */
static int stop, stop_after;

static void watch(void *user, const ts_event *e)
{
    (void)user;
    if (e->phase == TS_PHASE_DENOISE && e->layer == 0 && e->step == stop_after) stop = 1;
}

static ts_request small(ts_model *m, const char *cache)
{
    ts_request q;
    ts_request_init(m, &q);
    q.prompt = "a fox";
    q.width = 64;
    q.height = 64;
    q.frames = 5;
    q.steps = STEPS;
    q.guidance = q.guidance_2 = 1;
    q.sampler = "euler";
    q.cache_steps = cache;
    return q;
}

typedef struct {
    ts_ctx *c;
    ts_model *m;
    ts_run *r;
    long n;
    float *x[STEPS]; /* latents that enter each step, where they were recorded */
} run;

static run open_run(const char *backend, const char *fixture, const ts_request *like, bool record)
{
    static int all[STEPS];
    run o = {.c = testing_open(backend, NULL, 1)};
    char path[4096];
    ts_estimate e;
    ts_request q;
    snprintf(path, sizeof path, "%s/model", testing_fixture(fixture));
    o.c->env.progress = watch;
    o.c->env.stop = &stop;
    ck_ok(o.c, ts_model_open(o.c, path, &o.m));
    q = *like;
    ck_ok(o.c, ts_run_open(o.m, &q, &o.r, &e));
    for (int i = 0; i < STEPS; i++) all[i] = i;
    if (record) ck_ok(o.c, ts_run_record(o.r, all, STEPS));
    ck_ok(o.c, ts_run_encode(o.r));
    return o;
}

static void finish_run(run *o, bool recorded)
{
    for (int i = 0; recorded && i < STEPS; i++) {
        ts_tensor t = ts_run_recorded(o->r, i);
        o->n = ts_count(t);
        o->x[i] = malloc((size_t)o->n * sizeof(float));
        ck_ok(o->c,
              o->c->dev->ops->download(o->c->dev, o->x[i], t.p, (size_t)o->n * sizeof(float)));
    }
    ts_run_close(o->r);
    ts_model_close(o->m);
    testing_close(o->c);
}

static void free_run(run *o)
{
    for (int i = 0; i < STEPS; i++) free(o->x[i]);
}

static ts_request asked(const char *cache)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m;
    char path[4096];
    snprintf(path, sizeof path, "%s/model", testing_fixture("wan21-t2v"));
    ck_ok(c, ts_model_open(c, path, &m));
    ts_request q = small(m, cache);
    q.negative = "";
    ts_model_close(m);
    testing_close(c);
    return q;
}

static double apart(const float *a, const float *b, long n)
{
    double sum = 0;
    for (long i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

/* What Euler's step between two latents was made of: the velocity. */
static float *velocity(const run *o, const double *sigma, int step)
{
    float *v = malloc((size_t)o->n * sizeof *v);
    for (long i = 0; i < o->n; i++)
        v[i] = (float)(((double)o->x[step + 1][i] - o->x[step][i]) /
                       (sigma[step + 1] - sigma[step]));
    return v;
}

/* A step's velocity is that of the step before to rounding where it was reused, and only there; it
 * was reused where the rate of the last two computed steps foretold less than the threshold. */
static void check_rule(const char *backend, double threshold, int first, int last)
{
    char cache[96];
    snprintf(cache, sizeof cache, "easycache:threshold=%g,first=%d,last=%d", threshold, first,
             last);
    ts_request q = asked(cache);
    stop_after = -1;
    stop = 0;
    run o = open_run(backend, "wan21-t2v", &q, true);
    double sigma[STEPS];
    ck_ok(o.c, ts_run_denoise(o.r, NULL));
    for (int i = 0; i < STEPS; i++) sigma[i] = (double)o.r->schedule.t[i] / 1000;
    long computed = o.r->cache.computed, reused = o.r->cache.reused;
    finish_run(&o, true);
    float *v[STEPS - 1] = {0}, *zero = calloc((size_t)o.n, sizeof *zero);
    int at = -1, before = -1, seen = 0;
    for (int i = 0; i < STEPS - 1; i++) {
        v[i] = velocity(&o, sigma, i);
        double size = apart(v[i], zero, o.n);
        bool same = i && apart(v[i], v[i - 1], o.n) < 1e-4 * size,
             may = i >= first && i < STEPS - last;
        double told = before < 0 ? INFINITY
                                 : apart(v[at], v[before], o.n) / apart(o.x[at], o.x[before], o.n) *
                                       apart(o.x[i], o.x[at], o.n) / apart(v[at], zero, o.n);
        if (fabs(told / threshold - 1) > 0.01)
            ck_assert_msg(same == (may && told < threshold),
                          "step %d is%s reused, foretold %g of %g", i + 1, same ? "" : " not", told,
                          threshold);
        seen += same;
        if (same) continue;
        before = at;
        at = i;
    }
    ck_assert_int_eq(computed + reused, STEPS);
    ck_assert_int_eq(reused - (last ? 0 : reused - seen), seen);
    for (int i = 0; i < STEPS - 1; i++) free(v[i]);
    free(zero);
    free_run(&o);
}

START_TEST(rule)
{
    static const double threshold[] = {0.02, 0.1, 0.5, 1000};
    for (int i = 0; i < 4; i++) check_rule(backends[_i], threshold[i], 2, 1);
    check_rule(backends[_i], 1000, 5, 3);
}
END_TEST

/* A threshold that nothing is below: the bytes of a run without. */
START_TEST(nothing_reused)
{
    ts_request q[2] = {asked("none"), asked("easycache:threshold=1e-30")};
    run o[2];
    stop_after = -1;
    stop = 0;
    for (int i = 0; i < 2; i++) {
        o[i] = open_run("cpu", "wan21-t2v", q + i, true);
        ck_ok(o[i].c, ts_run_denoise(o[i].r, NULL));
        char *said = ts_run_cache(o[i].r);
        ck_assert(!i ? !said : strstr(said, "12 computed, 0 reused") != NULL);
        free(said);
        finish_run(o + i, true);
    }
    for (int s = 0; s < STEPS; s++)
        ck_assert(!memcmp(o[0].x[s], o[1].x[s], (size_t)o[0].n * sizeof(float)));
    free_run(o);
    free_run(o + 1);
}
END_TEST

/* Steps in which attention searches, and the first of a second expert, are computed whatever is
 * foretold. */
START_TEST(never_reused)
{
    static const struct {
        const char *fixture, *attention;
        long computed;
    } of[] = {{"wan21-t2v", "dense", 3},
              {"wan21-t2v", "adaspa:keep=0.5,min-tokens=0,search-steps=1+6", 4},
              {"wan22-a14b", "dense", 5}};
    for (int i = 0; i < 3; i++) {
        ts_request q = asked("easycache:threshold=1000,first=2,last=1");
        stop_after = -1;
        stop = 0;
        q.attention = of[i].attention;
        run o = open_run(backends[_i], of[i].fixture, &q, false);
        ck_ok(o.c, ts_run_denoise(o.r, NULL));
        ck_assert_msg(o.r->cache.computed == of[i].computed, "%s, %s: %ld computed, expected %ld",
                      of[i].fixture, of[i].attention, o.r->cache.computed, of[i].computed);
        finish_run(&o, false);
    }
}
END_TEST

/* Stopped after each of some steps, and gone on by another process: the same bytes. */
START_TEST(interrupted)
{
    static const int after[] = {1, 3, 4, 7, 10};
    char state[4096];
    snprintf(state, sizeof state, "%s/state", tmp);
    ts_request q = asked("easycache:threshold=1.5,first=2");
    q.guidance = q.guidance_2 = 4;
    stop_after = -1;
    stop = 0;
    run whole = open_run(backends[_i], "wan21-t2v", &q, false);
    ts_bag *all, *rest;
    ck_ok(whole.c, ts_run_denoise(whole.r, &all));
    ck_assert_int_gt(whole.r->cache.reused, 2);
    for (int i = 0; i < 5; i++) {
        unlink(state);
        q.state = state;
        run a = open_run(backends[_i], "wan21-t2v", &q, false);
        stop_after = after[i];
        ck_assert_int_eq(ts_run_denoise(a.r, NULL), TS_ESTOP);
        finish_run(&a, false);
        stop_after = -1;
        stop = 0;
        run b = open_run(backends[_i], "wan21-t2v", &q, false);
        ck_ok(b.c, ts_run_denoise(b.r, &rest));
        ck_assert_int_eq(b.r->cache.computed, whole.r->cache.computed);
        ck_assert_int_eq(b.r->cache.reused, whole.r->cache.reused);
        finish_run(&b, false);
        long n, m;
        const float *x = testing_f32(all, "latents", &n), *y = testing_f32(rest, "latents", &m);
        ck_assert(n == m && !memcmp(x, y, (size_t)n * sizeof *x));
        ts_bag_free(rest);
    }
    ts_bag_free(all);
    finish_run(&whole, false);
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("step cache");
    TCase *t = tcase_create("cache");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, mistake, 0, MISTAKES);
    tcase_add_test(t, text);
    tcase_add_loop_test(t, rule, 0, 2);
    tcase_add_test(t, nothing_reused);
    tcase_add_loop_test(t, never_reused, 0, 2);
    tcase_add_loop_test(t, interrupted, 0, 2);
    suite_add_tcase(s, t);
    return testing_main(s);
}
