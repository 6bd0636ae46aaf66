/* Runs with sparse attention through the public API: an expert that starts late, runs that are
 * stopped after a step and go on, saved plans and what does not fit them, the search for tiles. */
#include "sampler/tessera-bench.h"

#include "sampler/run.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *tmp;
static const char *const backends[] = {"cpu", "far"};

static ts_model *model_of(ts_ctx *c, const char *fixture)
{
    ts_model *m;
    char path[4096];
    snprintf(path, sizeof path, "%s/model", testing_fixture(fixture));
    ck_ok(c, ts_model_open(c, path, &m));
    return m;
}

/* 120 and more tokens: two blocks at least. */
static ts_request small(ts_model *m, int steps, const char *attention)
{
    ts_request q;
    ts_request_init(m, &q);
    q.prompt = "a fox";
    q.negative = "blurry";
    q.width = 128;
    q.height = 96;
    q.frames = 13;
    q.steps = steps;
    q.guidance = q.guidance_2 = 3;
    q.attention = attention;
    return q;
}

static ts_bag *denoise(ts_ctx *c, ts_run *r)
{
    ts_bag *latents;
    ck_ok(c, ts_run_encode(r));
    ck_ok(c, ts_run_denoise(r, &latents));
    return latents;
}

static ts_run *open(ts_ctx *c, ts_model *m, const ts_request *q)
{
    ts_run *r;
    ts_estimate e;
    ck_ok(c, ts_run_open(m, q, &r, &e));
    return r;
}

static void refused(ts_ctx *c, ts_model *m, const ts_request *q, ts_status code,
                    const char *sentence)
{
    ts_run *r;
    ts_estimate e;
    ck_assert_int_eq(ts_run_open(m, q, &r, &e), code);
    ck_assert_msg(strstr(ts_error(c), sentence) != NULL, "\"%s\" does not say \"%s\"", ts_error(c),
                  sentence);
}

static void same_latents(const ts_bag *a, const ts_bag *b, double most)
{
    long n, m;
    const float *x = testing_f32(a, "latents", &n), *y = testing_f32(b, "latents", &m);
    ck_assert_int_eq(n, m);
    if (most == 0)
        ck_assert_msg(!memcmp(x, y, (size_t)n * sizeof *x), "latents differ by %.2e",
                      testing_rel(x, y, n));
    else
        ck_assert_msg(testing_rel(x, y, n) <= most, "latents differ by %.2e", testing_rel(x, y, n));
}

/* ---- two experts ---- */
/* The layers of the second one are counted on; they search at its first step, and again where the
 * schedule says so. */
START_TEST(late_expert)
{
    ts_ctx *c = testing_open(backends[_i], NULL, 1);
    ts_model *m = model_of(c, "wan22-a14b");
    ts_request q = small(m, 10,
                         "adaspa:search=mass,keep=0.5,min-tokens=0,order=raster,search-steps=2+9");
    q.keep_plans = q.keep_scores = true;
    ts_run *r = open(c, m, &q);
    int low = r->low, layers = m->dit_info.layers;
    /* between the searches */
    ck_assert_msg(low > 2 && low < 8, "the second expert starts after %d steps", low);
    ts_bag_free(denoise(c, r));
    const ts_bag *plans;
    ck_ok(c, ts_run_plans(r, &plans));
    for (int slot = 0; slot < 2; slot++)
        for (int l = 0; l < 2 * layers; l++)
            for (int step = 1; step <= 10; step++) {
                char name[96];
                bool first = l < layers;
                snprintf(name, sizeof name, "wsum.%s.%d.%d", slot ? "uncond" : "cond", l, step);
                ck_assert_msg(ts_bag_has(plans, name) ==
                                  (first ? step == 2 : step == low + 1 || step == 9),
                              "%s", name);
            }
    const ts_attn_counters *a = &r->attn.counters;
    long calls = 2 * layers; /* a step */
    ck_assert_int_eq(a->dense, calls);
    ck_assert_int_eq(a->searched, 2 * calls);
    ck_assert_int_eq(a->again, calls);
    ck_assert_int_eq(a->sparse, 6 * calls);
    ck_assert_str_eq(ts_bag_meta_get(plans, "layers"), layers == 3 ? "6" : "");
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

/* ---- orders ---- */
/* Tokens in tiles go through every layer and come back to their places: with everything read,
 * latents are those of dense attention but for sums of f32 in another order. */
START_TEST(order_changes_nothing)
{
    ts_ctx *c = testing_open(backends[_i], NULL, 1);
    ts_model *m = model_of(c, "wan21-adaspa");
    ts_request q = small(m, 3, "dense");
    ts_run *r = open(c, m, &q);
    ts_bag *dense = denoise(c, r), *tiled;
    ts_run_close(r);
    q.attention = "window:keep=1,min-tokens=0,order=tile";
    r = open(c, m, &q);
    tiled = denoise(c, r);
    ck_assert(ts_there(r->attn.grid.perm) && r->attn.counters.sparse > 0);
    /* a few roundings of 6e-8, five times as large by guidance: 3 of one branch less 2 of the
     * other */
    same_latents(dense, tiled, 2e-6);
    ts_bag_free(dense);
    ts_bag_free(tiled);
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

/* ---- stopped, and going on ---- */
static volatile int stop;
static int stop_after;

static void watch(void *user, const ts_event *e)
{
    (void)user;
    if (e->phase == TS_PHASE_DENOISE && e->layer == 0 && e->step == stop_after) stop = 1;
}

static ts_ctx *watched(const char *backend)
{
    ts_ctx *c = testing_open(backend, NULL, 1);
    c->env.progress = watch;
    c->env.stop = &stop;
    return c;
}

/* Before the first search, right after it, between searches, after the last: the same bytes as
 * without a stop. */
static void check_resume(const char *backend, const char *fixture, const char *attention, int after)
{
    char state[4096];
    enum { STEPS = 7 };
    ts_bag *whole, *rest;
    snprintf(state, sizeof state, "%s/state", tmp);
    unlink(state);
    ts_ctx *c = watched(backend);
    ts_model *m = model_of(c, fixture);
    ts_request q = small(m, STEPS, attention);
    stop_after = -1;
    stop = 0;
    ts_run *r = open(c, m, &q);
    whole = denoise(c, r);
    ts_attn_counters all = r->attn.counters, parts;
    ts_run_close(r);
    q.state = state;
    q.keep_plans = true;
    r = open(c, m, &q);
    stop_after = after;
    ck_ok(c, ts_run_encode(r));
    ts_status st = ts_run_denoise(r, &rest);
    ck_assert_int_eq(st, after < STEPS ? TS_ESTOP : TS_OK);
    if (st == TS_OK) ts_bag_free(rest);
    parts = r->attn.counters;
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
    stop_after = -1;
    stop = 0;
    c = watched(backend); /* another process would know no more */
    m = model_of(c, fixture);
    r = open(c, m, &q);
    rest = denoise(c, r);
    ck_assert_int_eq(r->report.resumed, after);
    same_latents(whole, rest, 0);
    const ts_attn_counters *later =
        &r->attn.counters; /* both together did what the whole run did */
    ck_assert(parts.dense + later->dense == all.dense &&
              parts.searched + later->searched == all.searched &&
              parts.again + later->again == all.again &&
              parts.sparse + later->sparse == all.sparse);
    ck_assert_double_eq_tol(parts.kept + later->kept, all.kept, 1e-9);
    const ts_bag *plans;
    ck_ok(c, ts_run_plans(r, &plans));
    ts_bag_free(whole);
    ts_bag_free(rest);
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
}

static const struct {
    const char *fixture, *attention;
    int after;
} stops[] = {
    {"wan21-adaspa", "adaspa:search=mass,keep=0.4,min-tokens=0,order=tile,search-steps=2+5", 1},
    {"wan21-adaspa", "adaspa:search=mass,keep=0.4,min-tokens=0,order=tile,search-steps=2+5", 2},
    {"wan21-adaspa", "adaspa:search=mass,keep=0.4,min-tokens=0,order=raster,search-steps=2+5", 3},
    {"wan21-adaspa", "adaspa:search=mass,keep=0.4,min-tokens=0,order=raster,search-steps=2+5", 4},
    {"wan21-adaspa", "adaspa:search=mass,keep=0.4,min-tokens=0,order=raster,search-steps=2+5", 6},
    {"wan21-adaspa",
     "adaspa:search=mass,keep=0.4,min-tokens=0,order=raster,search-steps=2+5,strict", 7},
    {"wan21-adaspa", "svg:keep=0.4,min-tokens=0,search-steps=2+5", 3},
    {"wan21-adaspa", "adaspa:keep=0.4,min-tokens=0,search-steps=2+5", 1},
    {"wan21-adaspa", "adaspa:keep=0.4,min-tokens=0,search-steps=2+5", 3},
    {"wan21-adaspa", "adaspa:keep=0.4,min-tokens=0,search-steps=2+5,rest=linear", 6},
    {"wan21-adaspa", "pooled:keep=0.4,min-tokens=0,dense-steps=2,rest=linear", 4},
    {"wan22-a14b", "adaspa:search=mass,keep=0.5,min-tokens=0,order=raster,search-steps=2+6", 2},
    {"wan22-a14b", "adaspa:keep=0.5,min-tokens=0,search-steps=2+6", 5},
    {"wan22-a14b", "adaspa:mass=0.6,min-tokens=0,search-steps=2+6", 5},
    {"wan22-a14b", "recycled:keep=0.5,min-tokens=0,similar=1,apart=1", 4},
    {"wan22-a14b", "recycled:keep=0.5,min-tokens=0,similar=1", 5},
    {"wan21-adaspa", "recycled:keep=0.4,min-tokens=0,similar=0.999,rest=mean", 4},
    {"wan22-a14b", "adaspa:search=mass,keep=0.5,min-tokens=0,order=raster,search-steps=2+6", 5},
    {"wan21-adaspa", "pooled:keep=0.4,min-tokens=0,order=tile,strict", 4},
    {"wan21-tile", "tile:k=1,min-tokens=0,order=raster,strict", 4},
};
enum { STOPS = sizeof stops / sizeof *stops };

START_TEST(resume) { check_resume("cpu", stops[_i].fixture, stops[_i].attention, stops[_i].after); }
END_TEST
START_TEST(resume_far)
{
    check_resume("far", stops[_i].fixture, stops[_i].attention, stops[_i].after);
}
END_TEST

/* The plans of the file beside it, within the state, as states of format 1 have them. */
static ts_bag *state_of_format_1(const char *state, const char *plans)
{
    ts_bag *bag = testing_bag(state), *from = testing_bag(plans);
    for (int i = 0; i < ts_bag_count(from); i++) {
        ts_host h;
        const char *name = ts_bag_name(from, i);
        ts_dtype type = strncmp(name, "plan", 4) ? TS_F32 : TS_U32;
        ts_err err;
        ck_assert_int_eq(ts_bag_get(&err, from, name, type, -1, NULL, &h), TS_OK);
        ck_assert_ptr_nonnull(ts_bag_put(bag, name, type, h.nd, h.dim, h.data));
    }
    ts_bag_meta(bag, "plans", NULL);
    ts_bag_meta(bag, "state_format", NULL);
    ts_bag_free(from);
    return bag;
}

/* A state whose plan is damaged would read beyond the tokens. */
START_TEST(damaged_state)
{
    char state[4096], beside[4200];
    snprintf(state, sizeof state, "%s/damaged", tmp);
    snprintf(beside, sizeof beside, "%s.plans-1", state);
    ts_ctx *c = watched("cpu");
    ts_model *m = model_of(c, "wan21-adaspa");
    ts_request q = small(m, 4, "adaspa:search=mass,keep=0.4,min-tokens=0,order=raster");
    q.state = state;
    stop_after = 2;
    stop = 0;
    ts_run *r = open(c, m, &q);
    ts_bag *latents, *bag;
    ck_ok(c, ts_run_encode(r));
    ck_assert_int_eq(ts_run_denoise(r, &latents), TS_ESTOP);
    ts_run_close(r);
    stop_after = -1;
    stop = 0;
    ts_host h;
    if (access(beside, F_OK)) beside[strlen(beside) - 1] = '2'; /* the other of the two names */
    bag = state_of_format_1(state, beside);
    ck_ok(c, ts_bag_get(&c->err, bag, "plan.cond.1.bits", TS_U32, 3, (long[]){-1, -1, -1}, &h));
    uint32_t *bits = ts_bag_put(bag, "plan.cond.1.bits", TS_U32, 3, h.dim, h.data), was = bits[2];
    for (int damage = 0; damage < 2; damage++) {
        bits[2] = damage ? was | 1u << 31 : 0;
        ck_ok(c, ts_bag_save(&c->err, bag, state));
        r = open(c, m, &q);
        ck_ok(c, ts_run_encode(r));
        ck_assert_int_eq(ts_run_denoise(r, &latents), TS_EMODEL);
        ck_assert_msg(
            strstr(ts_error(c), "plan.cond.1.bits: a row that reads no block, or one beyond"), "%s",
            ts_error(c));
        ts_run_close(r);
    }
    bits[2] = was;
    ck_ok(c, ts_bag_save(&c->err, bag, state));
    ts_bag_free(bag);
    static const char *const done[] = {"-1", "5"};
    for (int i = 0; i < 2; i++) {
        char sentence[64];
        bag = testing_bag(state);
        ts_bag_meta(bag, "done", done[i]);
        ck_ok(c, ts_bag_save(&c->err, bag, state));
        ts_bag_free(bag);
        r = open(c, m, &q);
        ck_ok(c, ts_run_encode(r));
        ck_assert_int_eq(ts_run_denoise(r, &latents), TS_EMODEL);
        snprintf(sentence, sizeof sentence, "damaged: %s of 4 steps done", done[i]);
        ck_assert_msg(strstr(ts_error(c), sentence), "%s", ts_error(c));
        ts_run_close(r);
    }
    ts_model_close(m);
    testing_close(c);
}
END_TEST

/* ---- saved plans ---- */
START_TEST(replay)
{
    char path[4096], with[4200];
    ts_ctx *c = testing_open(backends[_i], NULL, 1);
    ts_model *m = model_of(c, "wan21-adaspa");
    ts_request q = small(m, 6,
                         "adaspa:search=mass,keep=0.4,min-tokens=0,order=tile,search-steps=2");
    ts_run *r = open(c, m, &q);
    const ts_bag *plans;
    ts_bag *searched = denoise(c, r), *replayed;
    ck_assert_int_eq(ts_run_plans(r, &plans), TS_EFAIL); /* nobody asked for them */
    ts_run_close(r);
    q.keep_plans = true;
    r = open(c, m, &q);
    ts_bag_free(denoise(c, r));
    ck_ok(c, ts_run_plans(r, &plans));
    ck_assert_ptr_nonnull(ts_bag_meta_get(plans, "model"));
    snprintf(path, sizeof path, "%s/plans.safetensors", tmp);
    ck_ok(c, ts_bag_write(c, plans, path));
    ts_run_close(r);
    snprintf(with, sizeof with, "blocks:file=%s,dense-steps=2", path);
    q.attention = with;
    r = open(c, m, &q);
    replayed = denoise(c, r);
    same_latents(searched, replayed, 1e-6); /* the step that searches is dense to rounding */
    ts_run_close(r);
    snprintf(with, sizeof with, "blocks:file=%s", path);
    q.width = 160;
    refused(c, m, &q, TS_EMODEL, "plans.safetensors: made for 192 tokens, this run has 240");
    q.width = 96;
    q.height = 128;
    refused(c, m, &q, TS_EMODEL,
            "plans.safetensors: made for a grid of 4x6x8 tokens, this run has 4x8x6");
    q.width = 128;
    q.height = 96;
    q.attention = "blocks:file=/nowhere/plans.safetensors";
    refused(c, m, &q, TS_EMODEL, "/nowhere/plans.safetensors");
    ts_model_close(m);
    m = model_of(c, "wan21-tile"); /* two heads */
    q = small(m, 6, with);
    refused(c, m, &q, TS_EMODEL, "plans.safetensors: made for 4 heads, this run has 2");
    ts_model_close(m);
    ts_bag_free(searched);
    ts_bag_free(replayed);
    testing_close(c);
}
END_TEST

/* Plans of a run without guidance lack a branch. */
START_TEST(other_branches)
{
    char path[4096], with[4200];
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = model_of(c, "wan21-adaspa");
    ts_request q = small(m, 2, "window:keep=0.4,min-tokens=0");
    const ts_bag *plans;
    q.guidance = 1;
    q.keep_plans = true;
    ts_run *r = open(c, m, &q);
    ts_bag_free(denoise(c, r));
    ck_ok(c, ts_run_plans(r, &plans));
    snprintf(path, sizeof path, "%s/one.safetensors", tmp);
    ck_ok(c, ts_bag_write(c, plans, path));
    ts_run_close(r);
    snprintf(with, sizeof with, "blocks:file=%s", path);
    q.attention = with;
    q.guidance = 3;
    refused(c, m, &q, TS_EMODEL,
            "one.safetensors: no plan for layer 0 of branch uncond (plan.uncond.0.rows)");
    ts_model_close(m);
    testing_close(c);
}
END_TEST

/* Said before any work: the run does not open. */
START_TEST(strict)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = model_of(c, "wan21-adaspa");
    ts_request q = small(m, 6, "adaspa:strict");
    refused(c, m, &q, TS_EFAIL, "attention adaspa: 192 tokens are fewer than min-tokens=");
    q.attention = "tile:strict,min-tokens=0";
    q.frames = 1;
    refused(c, m, &q, TS_EFAIL,
            "attention tile: 1 of 1 latent frame see everything: every block is read");
    q.attention = "adaspa:strict,min-tokens=0";
    q.steps = 1;
    q.frames = 13;
    refused(c, m, &q, TS_EFAIL, "attention adaspa: no step was left to be sparse");
    q.steps = 2;
    ts_run_close(open(c, m, &q));
    ts_model_close(m);
    testing_close(c);
}
END_TEST

/* ---- tiles by layer ---- */
static const char *const fox[] = {"a fox", "a whale"};

static cJSON *search(ts_ctx *c, ts_model *m, ts_tile_options o)
{
    char *json;
    ts_request q = small(m, 4, "dense");
    q.height = 128;
    q.frames = 29; /* a frame is a block */
    ck_ok(c, ts_search_tile(m, &q, &o, &json));
    cJSON *j = cJSON_Parse(json);
    ck_assert_msg(j != NULL, "%s", json);
    free(json);
    return j;
}

/* Entry i of a list; of an entry that is a list, its k-th. */
static const cJSON *item(const cJSON *j, const char *list, int i, int k)
{
    const cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(j, list), i);
    return k < 0 ? row : cJSON_GetArrayItem(row, k);
}

/* No loss: everything is read; any loss: the sparsest. A layer's errors are those of what earlier
 * layers were given. */
START_TEST(tiles)
{
    ts_ctx *c = testing_open(backends[_i], NULL, 1);
    ts_model *m = model_of(c, "wan21-tile");
    ts_tile_options o = {.prompt = fox, .prompts = 2, .samples = 2};
    cJSON *none = search(c, m, o), *made = cJSON_GetObjectItem(none, "made_with");
    ck_assert_int_eq(cJSON_GetObjectItem(none, "frames")->valueint, 8);
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(none, "layers")), 2);
    ck_assert_double_eq(cJSON_GetObjectItem(none, "kept")->valuedouble, 1);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(item(made, "candidates", i, -1)->valueint, i + 1);
    /* of four the first is dense: middles of two halves of three */
    ck_assert_int_eq(item(made, "measured_steps", 0, -1)->valueint, 2);
    ck_assert_int_eq(item(made, "measured_steps", 1, -1)->valueint, 4);
    o.loss = 1e9;
    cJSON *any = search(c, m, o), *other = cJSON_GetObjectItem(any, "made_with");
    for (int l = 0; l < 2; l++) {
        ck_assert_int_eq(item(none, "layers", l, -1)->valueint, 0);
        ck_assert_int_eq(item(any, "layers", l, -1)->valueint, 1);
        double least = 1e300;
        for (int k = 0; k < 4; k++) {
            double a = item(made, "errors", l, k)->valuedouble,
                   b = item(other, "errors", l, k)->valuedouble;
            ck_assert(a > 0 && b > 0);
            ck_assert_msg(l ? a != b : a == b, "layer %d, candidate %d: %g and %g", l, k, a, b);
            least = fmin(least, a);
        }
        ck_assert(least < 1);
    }
    double kept = cJSON_GetObjectItem(any, "kept")->valuedouble;
    ck_assert(kept > 0 && kept < 1);
    cJSON_Delete(none);
    cJSON_Delete(any);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

/* A loss between two candidates' errors takes the sparser one that still has it. */
START_TEST(tiles_between)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = model_of(c, "wan21-tile");
    const int ks[] = {4, 1, 4};
    ts_tile_options o = {.prompt = fox, .prompts = 1, .samples = 1, .k = ks, .ks = 3};
    cJSON *j = search(c, m, o),
          *errors = cJSON_GetObjectItem(cJSON_GetObjectItem(j, "made_with"), "errors");
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetArrayItem(errors, 0)), 2); /* sorted, none twice */
    double sparse = cJSON_GetArrayItem(cJSON_GetArrayItem(errors, 0), 0)->valuedouble,
           dense = cJSON_GetArrayItem(cJSON_GetArrayItem(errors, 0), 1)->valuedouble;
    ck_assert(dense < sparse);
    cJSON_Delete(j);
    o.loss = (sparse + dense) / 2;
    j = search(c, m, o);
    ck_assert_int_eq(item(j, "layers", 0, -1)->valueint, 4);
    cJSON_Delete(j);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

/* Frames smaller than a block: every tile's blocks meet, so that no k leaves anything out, whatever
 * the loss. */
START_TEST(tiles_of_small_frames)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = model_of(c, "wan21-tile");
    char *json;
    ts_request q = small(m, 4, "dense"); /* 4 frames of 48 tokens, 3 blocks */
    ts_tile_options o = {.prompt = fox, .prompts = 1, .samples = 1, .loss = 1e9};
    ck_ok(c, ts_search_tile(m, &q, &o, &json));
    cJSON *j = cJSON_Parse(json);
    ck_assert_int_eq(item(j, "layers", 0, -1)->valueint, 0);
    ck_assert_double_eq(cJSON_GetObjectItem(j, "kept")->valuedouble, 1);
    cJSON_Delete(j);
    free(json);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

/* Layers of both experts, measured at steps of their own. */
START_TEST(tiles_of_experts)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = model_of(c, "wan22-a14b");
    char *json;
    ts_request q = small(m, 10, "dense");
    q.height = 128;
    ts_tile_options o = {.prompt = fox, .prompts = 1, .samples = 2, .loss = 1e9};
    ck_ok(c, ts_search_tile(m, &q, &o, &json));
    cJSON *j = cJSON_Parse(json);
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(j, "layers")), 6);
    for (int l = 0; l < 6; l++) ck_assert_int_eq(item(j, "layers", l, -1)->valueint, 1);
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(cJSON_GetObjectItem(j, "made_with"),
                                                            "measured_steps")),
                     4);
    cJSON_Delete(j);
    free(json);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

START_TEST(tiles_refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = model_of(c, "wan21-tile");
    const int high[] = {1, 7}, low[] = {0};
    const struct {
        int frames;
        ts_tile_options o;
        const char *sentence;
    } wrong[] = {
        {29, {.prompt = fox, .samples = 1}, "search-tile: 0 prompts, expected 1 to 8"},
        {29,
         {.prompt = fox, .prompts = 9, .samples = 1},
         "search-tile: 9 prompts, expected 1 to 8"},
        {29, {.prompt = fox, .prompts = 1}, "search-tile: 0 steps to measure at, expected 1 to 32"},
        {29,
         {.prompt = fox, .prompts = 1, .samples = 1, .loss = NAN},
         "search-tile: a loss of nan, expected 0 or more"},
        {29,
         {.prompt = fox, .prompts = 1, .samples = 1, .k = high, .ks = 2},
         "search-tile: k of 7: of 8 latent frames 1 to 6 leave anything out"},
        {29,
         {.prompt = fox, .prompts = 1, .samples = 1, .k = low, .ks = 1},
         "search-tile: k of 0: of 8 latent frames 1 to 6 leave anything out"},
        {1,
         {.prompt = fox, .prompts = 1, .samples = 1},
         "search-tile: a clip of 1 latent frame: every tile reads all of it, ask for more frames"},
        {5,
         {.prompt = fox, .prompts = 1, .samples = 1},
         "search-tile: a clip of 2 latent frames: every tile reads all of it, ask for more frames"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *json;
        ts_request q = small(m, 4, "dense");
        q.frames = wrong[i].frames;
        ck_assert_int_eq(ts_search_tile(m, &q, &wrong[i].o, &json), TS_EUSAGE);
        ck_assert_str_eq(ts_error(c), wrong[i].sentence);
        ck_assert_ptr_null(json);
    }
    ts_model_close(m);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sparse runs");
    TCase *t = tcase_create("sparse runs");
    tmp = testing_tmp();
    tcase_add_loop_test(t, late_expert, 0, 2);
    tcase_add_loop_test(t, order_changes_nothing, 0, 2);
    tcase_add_loop_test(t, resume, 0, STOPS);
    tcase_add_loop_test(t, resume_far, 0, STOPS);
    tcase_add_test(t, damaged_state);
    tcase_add_loop_test(t, replay, 0, 2);
    tcase_add_test(t, other_branches);
    tcase_add_test(t, strict);
    tcase_add_loop_test(t, tiles, 0, 2);
    tcase_add_test(t, tiles_between);
    tcase_add_test(t, tiles_of_small_frames);
    tcase_add_test(t, tiles_of_experts);
    tcase_add_test(t, tiles_refused);
    suite_add_tcase(s, t);
    return testing_main(s);
}
