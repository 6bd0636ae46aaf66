/* Policies carried out on random queries, keys and values of several steps, layers and branches: what they compute, keep, count, refuse, and hand over. On the CPU and behind addresses that fault. */
#include "attention/attend.h"
#include "attention/patterns.h"
#include "attention/plan_file.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 4, LAYERS = 3, SLOTS = 2, A = 4, D = 16, WIDTH = A * D };
static const int shapes[][3] = {{5, 6, 10}, {3, 9, 13}, {1, 17, 23}}; /* 300, 351 and 391 tokens: 5, 6 and 7 blocks, the last one ragged */
enum { SHAPES = sizeof shapes / sizeof *shapes };
static const char *const branches[SLOTS] = {"cond", "uncond"};

typedef struct { /* one run: what it is to do, and what came out */
    const char *policy;
    ts_grid grid;
    bool plans, scores;
    ts_order order;
    float *out;       /* [STEPS, SLOTS, LAYERS, N, A, D], raster */
    ts_attn attn;
    ts_status opened, finished;
    int32_t *at;
} job;

static long one(const job *j) { return (long)j->grid.N * WIDTH; }
static float *output(const job *j, int step, int slot, int layer) { return j->out + (((step - 1) * SLOTS + slot) * LAYERS + layer) * one(j); }

/* Uniform in -1..1 from an integer hash of what it is for and its index. */
static float uniform(uint32_t of, uint32_t i)
{
    uint32_t x = of * 0x85ebca6bu + i * 0x9E3779B9u;
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
    return (float)(x / 4294967296.0 * 2 - 1);
}

/* Of q, k or v (what 0 1 2), raster. The same at every step but for a slow drift, as latents that settle; later heads look more and more at tokens of their own kind, of which blocks hold few: they are easier to
 * keep. */
static void draw(const job *j, int what, int step, int slot, int layer, float *x)
{
    uint32_t still = (uint32_t)(what + 3 * (slot + SLOTS * layer)), moving = 1000 + still * STEPS + (uint32_t)step;
    for (long n = 0, i = 0; n < j->grid.N; n++)
        for (long a = 0; a < A; a++)
            for (long d = 0; d < D; d++, i++) {
                float kind = what < 2 ? 0.8f * (float)a * uniform(100000 + (uint32_t)(n / 50), (uint32_t)d) : 0;
                x[i] = 1.5f * uniform(still, (uint32_t)i) + 0.3f * uniform(moving, (uint32_t)i) + kind;
            }
}

static ts_status call(ts_ctx *ctx, job *j, int step, int slot, int layer)
{
    ts_status st = TS_OK;
    ts_device *dev = ctx->dev;
    size_t mark = ts_mark(&ctx->arena), bytes = (size_t)one(j) * sizeof(float);
    float *host = malloc(bytes), *placed = malloc(bytes);
    ts_tensor t[4];
    for (int i = 0; i < 4; i++) t[i] = ts_take(&ctx->arena, TS_F32, TS_DIM(j->grid.N, A, D)), t[i].ld = WIDTH;
    for (int i = 0; i < 3 && !dev->counting; i++) {
        draw(j, i, step, slot, layer, host);
        for (int n = 0; n < j->grid.N; n++) memcpy(placed + (long)n * WIDTH, host + (long)j->at[n] * WIDTH, WIDTH * sizeof(float));
        TRY(dev->ops->upload(dev, t[i].p, placed, bytes));
        TRY(dev->ops->join(dev));
    }
    ts_attn_begin(&j->attn, step, slot);
    TRY(ts_attend(&j->attn, layer, t[0], t[1], t[2], t[3]));
    if (dev->counting) goto done;
    TRY(dev->ops->download(dev, placed, t[3].p, bytes));
    for (int n = 0; n < j->grid.N; n++) memcpy(output(j, step, slot, layer) + (long)j->at[n] * WIDTH, placed + (long)n * WIDTH, WIDTH * sizeof(float));
done:
    ts_release(&ctx->arena, mark);
    free(host), free(placed);
    return st;
}

static ts_status open(ts_ctx *ctx, job *j)
{
    ts_attn_options o = {.grid = j->grid, .steps = STEPS, .layers = LAYERS, .heads = A, .slots = SLOTS, .slot_name = branches, .keep_plans = j->plans, .keep_scores = j->scores};
    ck_ok(ctx, ts_policy_parse(&ctx->err, j->policy, &o.policy));
    ts_policy_settle(&o.policy, STEPS);
    j->opened = ts_attn_open(&j->attn, ctx, &o);
    j->order = j->attn.o.policy.order; /* a plan file may decide it */
    ts_grid_order(&j->grid, j->order, j->at);
    return j->opened;
}

static ts_status phase(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    job *j = user;
    TRY(open(ctx, j));
    for (int step = 1; step <= STEPS; step++)
        for (int layer = 0; layer < LAYERS; layer++)
            for (int slot = 0; slot < SLOTS; slot++) TRY(call(ctx, j, step, slot, layer));
    TRY(j->finished = ts_attn_finish(&j->attn));
done:
    return st;
}

static job job_of(const char *policy, int shape)
{
    job j = {.policy = policy, .grid = ts_grid_of(shapes[shape][0], shapes[shape][1], shapes[shape][2])};
    j.out = calloc((size_t)(STEPS * SLOTS * LAYERS * one(&j)), sizeof *j.out), j.at = calloc((size_t)j.grid.N, sizeof *j.at);
    return j;
}

static void drop(job *j)
{
    ts_attn_close(&j->attn);
    free(j->out), free(j->at);
    *j = (job){0};
}

/* A whole run with its plans and scores. */
static job run_on(const char *backend, int threads, const char *policy, int shape)
{
    job j = job_of(policy, shape);
    ts_ctx *ctx = testing_open(backend, NULL, threads);
    j.plans = j.scores = true;
    testing_run(ctx, phase, &j);
    testing_close(ctx);
    return j;
}

static double apart(const job *a, const job *b, int step)
{
    double worst = 0;
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) worst = fmax(worst, testing_rel(output(a, step, slot, layer), output(b, step, slot, layer), one(a)));
    return worst;
}

/* ---- what is computed ---- */
static const char *const everything[] = {
    "adaspa:keep=1,min-tokens=0,order=raster", "adaspa:keep=1,min-tokens=0,order=tile", "window:keep=1,min-tokens=0,order=raster,dense-steps=0", "window:keep=1,min-tokens=0,order=tile,dense-steps=0",
    "pooled:keep=1,min-tokens=0,order=raster,dense-steps=0", "pooled:keep=1,min-tokens=0,order=tile,dense-steps=0", "random:keep=1,min-tokens=0,order=raster,dense-steps=0",
    "random:keep=1,min-tokens=0,order=tile,dense-steps=0", "tile:k=9,min-tokens=0,order=raster,dense-steps=0", "tile:k=9,min-tokens=0,order=tile,dense-steps=0"};
enum { EVERYTHING = sizeof everything / sizeof *everything };

/* Sums of a few hundred f32 terms, in another order where tokens are. */
static void check_everything(const char *backend, const char *policy)
{
    for (int shape = 0; shape < SHAPES; shape++) {
        job dense = run_on(backend, 1, "dense", shape), j = run_on(backend, 1, policy, shape);
        for (int step = 1; step <= STEPS; step++) ck_assert_msg(apart(&j, &dense, step) < 1e-6, "%s, step %d: %.2e from dense", policy, step, apart(&j, &dense, step));
        ck_assert_int_gt(j.attn.account.sparse + j.attn.account.again, 0);
        ck_assert_double_eq_tol(j.attn.account.share, (double)(j.attn.account.sparse + j.attn.account.again), 1e-9);
        drop(&dense), drop(&j);
    }
}

START_TEST(keep_all) { check_everything("cpu", everything[_i]); }
END_TEST
START_TEST(keep_all_far) { check_everything("far", everything[_i]); }
END_TEST

/* Softmax over the kept keys of a downloaded plan, spelled out. */
static void check_masked(const job *j, int step, int slot, int layer, const uint32_t *bits)
{
    long N = j->grid.N, nb = j->grid.nb, words = ts_plan_words((int)nb);
    float *x[3];
    double worst = 0, norm = 0;
    for (int i = 0; i < 3; i++) x[i] = malloc((size_t)one(j) * sizeof *x[i]), draw(j, i, step, slot, layer, x[i]);
    double *p = malloc((size_t)N * sizeof *p);
    for (long n = 0; n < N; n += 7)
        for (long a = 0; a < A; a++) {
            double sum = 0;
            for (long m = 0; m < N; m++) {
                p[m] = 0;
                for (long d = 0; d < D; d++) p[m] += (double)x[0][j->at[n] * WIDTH + a * D + d] * x[1][j->at[m] * WIDTH + a * D + d] / sqrt(D);
                p[m] = bits[(a * nb + n / TS_BLOCK) * words + m / TS_BLOCK / 32] >> m / TS_BLOCK % 32 & 1 ? exp(p[m]) : 0;
                sum += p[m];
            }
            for (long d = 0; d < D; d++) {
                double y = 0, got = output(j, step, slot, layer)[j->at[n] * WIDTH + a * D + d];
                for (long m = 0; m < N; m++) y += p[m] / sum * x[2][j->at[m] * WIDTH + a * D + d];
                worst += (y - got) * (y - got), norm += y * y;
            }
        }
    ck_assert_msg(sqrt(worst / norm) < 1e-6, "%s, step %d, %s, layer %d: %.2e from its plan", j->policy, step, branches[slot], layer, sqrt(worst / norm));
    free(p);
    for (int i = 0; i < 3; i++) free(x[i]);
}

static const char *const some[] = {"adaspa:keep=0.4,min-tokens=0,order=tile", "adaspa:keep=0.4,min-tokens=0,order=raster,adaptive=off", "window:keep=0.4,min-tokens=0,order=tile", "pooled:keep=0.4,min-tokens=0,order=raster",
                                   "random:keep=0.4,min-tokens=0,order=tile,seed=5", "tile:k=1,min-tokens=0,order=raster"};
enum { SOME = sizeof some / sizeof *some };

/* The last step's output is that of the plan which is handed over. */
static void check_plans(const char *backend, const char *policy, int shape)
{
    job j = run_on(backend, 1, policy, shape);
    ts_err err = {0};
    uint32_t *bits = malloc((size_t)(A * j.grid.nb * ts_plan_words(j.grid.nb)) * sizeof *bits);
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            ck_assert_msg(ts_plan_get(&err, ts_attn_plans(&j.attn), "plans", branches[slot], layer, A, j.grid.nb, bits) == TS_OK, "%s", err.text);
            check_masked(&j, STEPS, slot, layer, bits);
        }
    free(bits), drop(&j);
}

START_TEST(masked) { check_plans("cpu", some[_i], _i % 2); } /* clips: a single frame has no tile */
END_TEST
START_TEST(masked_far) { check_plans("far", some[_i], 1 - _i % 2); }
END_TEST

/* Four steps of adaspa: dense with a search, again, sparse, sparse. */
START_TEST(search_is_dense)
{
    job dense = run_on("cpu", 1, "dense", 0), j = run_on("cpu", 1, "adaspa:keep=0.3,min-tokens=0,order=raster", 0);
    const ts_attn_account *c = &j.attn.account;
    ck_assert_msg(apart(&j, &dense, 1) < 1e-6, "%.2e", apart(&j, &dense, 1));
    for (int step = 2; step <= STEPS; step++) ck_assert_msg(apart(&j, &dense, step) > 1e-3, "step %d is dense", step);
    ck_assert(c->dense == 0 && c->searched == LAYERS * SLOTS && c->again == LAYERS * SLOTS && c->sparse == 2 * LAYERS * SLOTS && c->recalls == 2 * LAYERS * SLOTS);
    ck_assert(c->recall_least > 0 && c->recall_least <= c->recall / (double)c->recalls && c->recall / (double)c->recalls <= 1);
    ck_assert(c->search_s > 0 && c->searched_s > 0 && c->again_s > 0 && c->sparse_s > 0 && c->dense_s == 0);
    drop(&dense), drop(&j);
}
END_TEST

/* Plans of pooled against means in double: the block itself, and of the rest none that is left out is better (f32 means: 1e-5) than one that is read. */
START_TEST(pooled_plans)
{
    static const char *const policy[] = {"pooled:keep=0.5,min-tokens=0,order=raster", "pooled:keep=0.5,min-tokens=0,order=tile"};
    enum { MOST = 8 };
    job j = run_on("cpu", 1, policy[_i % 2], _i / 2);
    int nb = j.grid.nb, words = (int)ts_plan_words(nb);
    uint32_t *bits = malloc((size_t)(A * nb * words) * sizeof *bits);
    float *x[2];
    ts_err err = {0};
    for (int i = 0; i < 2; i++) x[i] = malloc((size_t)one(&j) * sizeof *x[i]), draw(&j, i, STEPS, 1, 2, x[i]);
    ck_assert(nb <= MOST && ts_plan_get(&err, ts_attn_plans(&j.attn), "plans", "uncond", 2, A, nb, bits) == TS_OK);
    for (int a = 0; a < A; a++) {
        double mean[2][MOST][D] = {0};
        for (int n = 0; n < j.grid.N; n++)
            for (int i = 0; i < 2; i++)
                for (int d = 0; d < D; d++) mean[i][n / TS_BLOCK][d] += x[i][(long)j.at[n] * WIDTH + a * D + d] / (double)(n / TS_BLOCK < nb - 1 ? TS_BLOCK : j.grid.N - (nb - 1) * TS_BLOCK);
        for (int p = 0; p < nb; p++) {
            const uint32_t *row = bits + (a * nb + p) * words;
            double least = INFINITY, most = -INFINITY;
            for (int i = 0; i < nb; i++) {
                double score = 0;
                for (int d = 0; d < D; d++) score += mean[0][p][d] * mean[1][i][d];
                if (i != p && row[0] >> i & 1) least = fmin(least, score);
                if (!(row[0] >> i & 1)) most = fmax(most, score);
            }
            ck_assert(row[0] >> p & 1);
            ck_assert_int_eq(ts_bits_count(row, 1, nb), ts_budget(0.5, nb));
            ck_assert_msg(least >= most - 1e-5, "head %d, row %d: %g is read, %g is not", a, p, least, most);
        }
    }
    free(bits), free(x[0]), free(x[1]), drop(&j);
}
END_TEST

/* Gain of attention by arithmetic: a later search is half a dense call, means of blocks are nothing. */
START_TEST(gains)
{
    static const struct { const char *policy; double searches; } of[] = {{"adaspa:keep=0.4,min-tokens=0,order=raster,adaptive=off", 1}, {"pooled:keep=0.4,min-tokens=0,order=raster,dense-steps=1", 0},
                                                                        {"window:keep=0.4,min-tokens=0,order=raster,dense-steps=1", 0}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        job j = run_on("cpu", 1, of[i].policy, 0);
        const ts_attn_account *c = &j.attn.account;
        double measured, kept = 0.4; /* 2 of 5 blocks */
        ck_assert_int_eq(c->dense + c->searched, LAYERS * SLOTS);
        ck_assert_int_eq(c->again, (long)of[i].searches * LAYERS * SLOTS);
        ck_assert_int_eq(c->again + c->sparse, 3 * LAYERS * SLOTS);
        ck_assert_double_eq_tol(ts_attn_gain(c, &measured), 4 / (1 + 0.5 * of[i].searches + 3 * kept), 1e-9);
        ck_assert(measured > 0);
        ck_assert((c->search_s > 0) == (i < 2));
        drop(&j);
    }
}
END_TEST

START_TEST(dense_layers)
{
    job dense = run_on("cpu", 1, "dense", 0), j = run_on("cpu", 1, "window:keep=0.3,min-tokens=0,order=raster,dense-layers=1,dense-steps=2", 0);
    for (int step = 1; step <= STEPS; step++)
        for (int layer = 0; layer < LAYERS; layer++) {
            double e = testing_rel(output(&j, step, 1, layer), output(&dense, step, 1, layer), one(&j));
            ck_assert_msg(step <= 2 || layer == 1 ? e < 1e-6 : e > 1e-3, "step %d, layer %d: %.2e", step, layer, e);
        }
    ck_assert(j.attn.account.dense == (2 * LAYERS + 2) * SLOTS && j.attn.account.sparse == 2 * (LAYERS - 1) * SLOTS);
    drop(&dense), drop(&j);
}
END_TEST

/* ---- the same bytes ---- */
static void same_bags(const ts_bag *a, const ts_bag *b)
{
    ts_err err = {0};
    ck_assert_int_eq(ts_bag_count(a), ts_bag_count(b));
    ck_assert_int_gt(ts_bag_count(a), 0);
    for (int i = 0; i < ts_bag_count(a); i++) {
        ts_host x, y;
        const char *name = ts_bag_name(a, i);
        bool whole = strstr(name, ".rows") || strstr(name, ".blocks");
        ck_assert(ts_bag_get(&err, a, name, whole ? TS_I32 : TS_F32, -1, NULL, &x) == TS_OK);
        ck_assert_msg(ts_bag_get(&err, b, name, x.type, x.nd, x.dim, &y) == TS_OK, "%s", err.text);
        size_t n = 4;
        for (int d = 0; d < x.nd; d++) n *= (size_t)x.dim[d];
        ck_assert_msg(!memcmp(x.data, y.data, n), "%s differs", name);
    }
}

START_TEST(threads)
{
    job a = run_on("cpu", 1, some[_i], 0), b = run_on("cpu", 2, some[_i], 0), c = run_on("cpu", 2, some[_i], 0), d = run_on("far", 2, some[_i], 0);
    const job *other[] = {&b, &c, &d};
    for (int i = 0; i < 3; i++) {
        same_bags(ts_attn_plans(&a.attn), ts_attn_plans(&other[i]->attn));
        ck_assert(!memcmp(a.out, other[i]->out, (size_t)(STEPS * SLOTS * LAYERS * one(&a)) * sizeof *a.out));
    }
    drop(&a), drop(&b), drop(&c), drop(&d);
}
END_TEST

/* ---- what searches see ---- */
static const float *scores(const job *j, const char *what, int slot, int layer, int step)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s.%d.%d", what, branches[slot], layer, step);
    return testing_f32(ts_attn_plans(&j->attn), name, NULL);
}

static double held(const float *row, const uint32_t *bits, int nb)
{
    double kept = 0;
    for (int i = 0; i < nb; i++) kept += bits[i / 32] >> i % 32 & 1 ? row[i] : 0;
    return kept;
}

static double logit(const float *q, const float *k, long n, long m, int a)
{
    double s = 0;
    for (long d = 0; d < D; d++) s += (double)q[n * WIDTH + a * D + d] * k[m * WIDTH + a * D + d] / sqrt(D);
    return s;
}

/* Block sums of a later search: today's logits, the log sum exp of the first search. Both are sums of f32 logits of some units: 1e-5. */
START_TEST(cached_sums)
{
    enum { SLOT = 1, LAYER = 2, HEAD = 2 };
    job j = run_on("cpu", 1, "adaspa:keep=0.4,min-tokens=0,order=raster", 0);
    const float *wsum = scores(&j, "wsum", SLOT, LAYER, 2) + (long)HEAD * j.grid.nb * j.grid.nb;
    long N = j.grid.N, nb = j.grid.nb;
    float *x[4];
    double *want = calloc((size_t)(nb * nb), sizeof *want);
    for (int i = 0; i < 4; i++) x[i] = malloc((size_t)one(&j) * sizeof *x[i]), draw(&j, i % 2, 1 + i / 2, SLOT, LAYER, x[i]);
    for (long n = 0; n < N; n++) {
        double sum = 0;
        for (long m = 0; m < N; m++) sum += exp(logit(x[0], x[1], n, m, HEAD));
        for (long m = 0; m < N; m++) want[n / TS_BLOCK * nb + m / TS_BLOCK] += exp(logit(x[2], x[3], n, m, HEAD)) / sum;
    }
    for (long i = 0; i < nb * nb; i++) ck_assert_double_eq_tol(wsum[i] / want[i], 1, 1e-5);
    for (int i = 0; i < 4; i++) free(x[i]);
    free(want), drop(&j);
}
END_TEST

/* Rows of the first search sum to their tokens; recall is what the plan holds of them; a row's best blocks hold at least as much as any other's of the same number. */
START_TEST(searches)
{
    int shape = _i;
    job j = run_on("cpu", 1, "adaspa:keep=0.4,adaptive=off,min-tokens=0,order=raster", shape);
    int nb = j.grid.nb, words = (int)ts_plan_words(nb), budget = (int)ts_budget(0.4, nb);
    uint32_t *bits = malloc((size_t)(A * nb * words) * sizeof *bits), *fixed = malloc((size_t)(nb * words) * sizeof *fixed);
    ts_err err = {0};
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            const float *first = scores(&j, "wsum", slot, layer, 1), *wsum = scores(&j, "wsum", slot, layer, 2), *recall = scores(&j, "recall", slot, layer, 2);
            ck_assert(ts_plan_get(&err, ts_attn_plans(&j.attn), "plans", branches[slot], layer, A, nb, bits) == TS_OK);
            for (int a = 0; a < A; a++) {
                double mean = 0;
                for (int p = 0; p < nb; p++) {
                    const float *row = wsum + (a * nb + p) * nb;
                    const uint32_t *best = bits + (a * nb + p) * words;
                    double sum = 0, all = 0, kept = held(row, best, nb);
                    int tokens = p < nb - 1 ? TS_BLOCK : j.grid.N - p * TS_BLOCK;
                    for (int i = 0; i < nb; i++) sum += first[(a * nb + p) * nb + i], all += row[i];
                    ck_assert_double_eq_tol(sum, tokens, 1e-5 * tokens);
                    ck_assert_int_eq(ts_bits_count(best, 1, nb), budget);
                    mean += kept / all / nb;
                    ck_assert(ts_pattern_window(&j.grid, j.at, 0.4, fixed));
                    ck_assert(kept >= held(row, fixed + p * words, nb));
                    for (uint64_t seed = 0; seed < 20; seed++) {
                        ck_assert(ts_pattern_random(nb, 0.4, seed, layer, a, fixed));
                        ck_assert(kept >= held(row, fixed + p * words, nb));
                    }
                }
                ck_assert_double_eq_tol(recall[a], mean, 1e-6);
            }
        }
    free(bits), free(fixed), drop(&j);
}
END_TEST

/* Heads share the budget: as many have more as have less, by what they have in excess, so that the mean of the keeps is what was asked. 19 blocks, keep 0.4: 0.2, 0.4 or 0.6 of them. */
START_TEST(adaptive)
{
    job j = job_of("adaspa:keep=0.4,min-tokens=0,order=raster", 0);
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    int unequal = 0;
    free(j.out), free(j.at);
    j.grid = ts_grid_of(6, 14, 14), j.plans = j.scores = true;
    j.out = calloc((size_t)(STEPS * SLOTS * LAYERS * one(&j)), sizeof *j.out), j.at = calloc((size_t)j.grid.N, sizeof *j.at);
    testing_run(ctx, phase, &j);
    int nb = j.grid.nb, words = (int)ts_plan_words(nb), count[A];
    ck_assert_int_eq(nb, 19);
    uint32_t *bits = malloc((size_t)(A * nb * words) * sizeof *bits);
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            const float *recall = scores(&j, "recall", slot, layer, 2);
            int above = 0, few = 0, many = 0;
            ck_ok(ctx, ts_plan_get(&ctx->err, ts_attn_plans(&j.attn), "plans", branches[slot], layer, A, nb, bits));
            for (int a = 0; a < A; a++) {
                count[a] = (int)ts_bits_count(bits + (long)a * nb * words, 1, nb);
                above += recall[a] > 0.8, few += count[a] == ts_budget(0.2, nb), many += count[a] == ts_budget(0.6, nb);
                for (int p = 0; p < nb; p++) ck_assert_int_eq(ts_bits_count(bits + ((long)a * nb + p) * words, 1, nb), count[a]);
            }
            ck_assert_int_eq(few, above < A / 2 ? above : A / 2);
            ck_assert_int_eq(many, few);
            for (int a = 0; a < A; a++)
                for (int b = 0; b < A; b++) ck_assert(recall[a] <= recall[b] || count[a] <= count[b]);
            unequal += few > 0;
        }
    printf("%d of %d plans with unequal heads\n", unequal, SLOTS * LAYERS);
    ck_assert_int_gt(unequal, 0);
    free(bits), drop(&j), testing_close(ctx);
}
END_TEST

/* ---- falling back ---- */
static void check_fallback(const char *policy, int shape, ts_status want, const char *warned, const char *why, long sparse)
{
    job j = job_of(policy, shape);
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ctx->dev->counting = true;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
    ts_status st = phase(ctx, &j);
    ts_arena_close(&ctx->arena);
    ctx->dev->counting = false;
    ck_assert_int_eq(st, want);
    if (warned) ck_assert_msg(strstr(testing_warned(ctx), warned) != NULL, "%s: warned \"%s\"", policy, testing_warned(ctx));
    else ck_assert_str_eq(testing_warned(ctx), "");
    if (want) ck_assert_msg(strstr(ctx->err.text, why) && strstr(ctx->err.text, ", and strict refuses that"), "%s: \"%s\"", policy, ctx->err.text);
    else {
        ck_assert_msg(strstr(j.attn.why, why) != NULL, "%s: because \"%s\"", policy, j.attn.why);
        testing_run(ctx, phase, &j);
        ck_assert_msg(strstr(j.attn.why, why) != NULL, "%s: because \"%s\"", policy, j.attn.why);
        ck_assert_int_eq(j.attn.account.sparse + j.attn.account.again, sparse);
        char *report = ts_attn_report(&j.attn);
        ck_assert_msg(report && strstr(report, why), "%s: %s", policy, report);
        free(report);
    }
    drop(&j), testing_close(ctx);
}

START_TEST(fallbacks)
{
    static const char *const few = "300 tokens are fewer than min-tokens=1024, below which sparsity does not pay: everything is dense", *const none = "no step was left to be sparse: everything is dense",
                            *const single = "1 of 1 latent frame see everything: every block is read";
    check_fallback("window", 0, TS_OK, "attention window: 300 tokens are fewer than min-tokens=1024", few, 0);
    check_fallback("adaspa", 0, TS_OK, few, few, 0);
    check_fallback("adaspa:strict", 0, TS_EFAIL, NULL, few, 0);
    check_fallback("pooled:min-tokens=301,strict", 0, TS_OK, NULL, "300 tokens are fewer than min-tokens=301", 0); /* that was asked for */
    check_fallback("pooled:min-tokens=300,strict,dense-steps=0", 0, TS_OK, NULL, "", STEPS * SLOTS * LAYERS);
    check_fallback("tile:min-tokens=0,dense-steps=0", 2, TS_OK, single, single, STEPS * SLOTS * LAYERS);
    check_fallback("tile:min-tokens=0,strict", 2, TS_EFAIL, NULL, single, 0);
    check_fallback("adaspa:min-tokens=0,search-steps=4,strict", 0, TS_OK, NULL, none, 0); /* so was this */
    check_fallback("window:min-tokens=0,dense-steps=4,strict", 0, TS_OK, NULL, none, 0);
    check_fallback("random:min-tokens=0,dense-layers=0-2,strict", 0, TS_OK, NULL, none, 0);
}
END_TEST

/* A run of one step has none left; nobody asked for that. */
START_TEST(one_step)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    for (int strict = 0; strict < 2; strict++) {
        job j = job_of(strict ? "adaspa:min-tokens=0,strict" : "adaspa:min-tokens=0", 0);
        ts_attn_options o = {.grid = j.grid, .steps = 1, .layers = 1, .heads = A, .slots = 1, .slot_name = branches};
        ck_ok(ctx, ts_policy_parse(&ctx->err, j.policy, &o.policy));
        ts_policy_settle(&o.policy, 1);
        ctx->dev->counting = true;
        ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
        ck_ok(ctx, ts_attn_open(&j.attn, ctx, &o));
        ck_ok(ctx, call(ctx, &j, 1, 0, 0));
        ck_assert_int_eq(ts_attn_finish(&j.attn), strict ? TS_EFAIL : TS_OK);
        ck_assert(strstr(strict ? ctx->err.text : testing_warned(ctx), "attention adaspa: no step was left to be sparse: everything is dense"));
        ts_arena_close(&ctx->arena);
        ctx->dev->counting = false;
        drop(&j);
    }
    testing_close(ctx);
}
END_TEST

/* ---- replays ---- */
static char *tmp;

static char *save(const job *j, const char *name)
{
    ts_err err = {0};
    char *path;
    if (asprintf(&path, "%s/%s", tmp, name) < 0) abort();
    ck_assert_msg(ts_bag_save(&err, ts_attn_plans(&j->attn), path) == TS_OK, "%s", err.text);
    return path;
}

/* A saved plan computes what the policy that made it did: all steps of fixed plans, those after the last search of found ones. */
static void check_replay(const char *backend, const char *policy)
{
    char with[4200];
    job j = run_on(backend, 1, policy, 1), r;
    char *path = save(&j, "plan.safetensors");
    bool found = j.attn.o.policy.kind == TS_ADASPA, pooled = j.attn.o.policy.kind == TS_POOLED;
    int first = found ? 3 : pooled ? STEPS : 2; /* fixed ones have one dense step */
    snprintf(with, sizeof with, "blocks:file=%s,dense-steps=%d", path, first - 1);
    r = run_on(backend, 1, with, 1);
    ck_assert_int_eq(r.order, j.order);
    for (int step = first; step <= STEPS; step++)
        for (int slot = 0; slot < SLOTS; slot++)
            for (int layer = 0; layer < LAYERS; layer++) ck_assert_msg(!memcmp(output(&j, step, slot, layer), output(&r, step, slot, layer), (size_t)one(&j) * sizeof(float)), "%s: step %d", policy, step);
    char *again = save(&r, "again.safetensors");
    ts_bag *was = testing_bag(path), *now = testing_bag(again);
    for (int i = 0; i < ts_bag_count(was); i++)
        if (!strncmp(ts_bag_name(was, i), "plan.", 5)) ck_assert(ts_bag_has(now, ts_bag_name(was, i)));
    const ts_attn_account *c = &j.attn.account; /* the last plans of adaspa and pooled have the budget of all before them, but for heads that change places */
    ck_assert_double_eq_tol(r.attn.account.share / (double)r.attn.account.sparse, c->share / (double)(c->sparse + c->again), found ? 0.05 : 1e-12);
    ts_bag_free(was), ts_bag_free(now), free(path), free(again), drop(&j), drop(&r);
}

START_TEST(replay) { check_replay("cpu", some[_i]); }
END_TEST
START_TEST(replay_far) { check_replay("far", some[_i]); }
END_TEST

static void misfit(const ts_bag *bag, const char *keys, ts_attn_options o, ts_status code, const char *want)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_attn a = {0};
    char path[4200], with[4400], sentence[4400];
    snprintf(path, sizeof path, "%s/misfit.safetensors", tmp);
    ck_ok(ctx, ts_bag_save(&ctx->err, bag, path));
    snprintf(with, sizeof with, "blocks:file=%s%s", path, keys);
    ck_ok(ctx, ts_policy_parse(&ctx->err, with, &o.policy));
    ts_policy_settle(&o.policy, o.steps);
    ctx->dev->counting = true;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
    ck_assert_int_eq(ts_attn_open(&a, ctx, &o), code);
    snprintf(sentence, sizeof sentence, "%s%s", *want == ':' ? path : "", want);
    ck_assert_msg(code == TS_OK || strstr(ctx->err.text, sentence), "\"%s\", expected \"%s\"", ctx->err.text, sentence);
    ts_attn_close(&a), ts_arena_close(&ctx->arena), testing_close(ctx);
}

static ts_bag *without(const ts_bag *bag, const char *name)
{
    ts_bag *out = ts_bag_new();
    static const char *const keys[] = {"attention", "order", "tokens", "block", "grid", "heads", "layers"};
    ts_err err = {0};
    for (int i = 0; i < ts_bag_count(bag); i++) {
        ts_host h;
        if (!strcmp(ts_bag_name(bag, i), name) || strncmp(ts_bag_name(bag, i), "plan.", 5)) continue;
        ck_assert(ts_bag_get(&err, bag, ts_bag_name(bag, i), TS_I32, -1, NULL, &h) == TS_OK);
        ts_bag_put(out, ts_bag_name(bag, i), TS_I32, h.nd, h.dim, h.data);
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        ck_assert_msg(ts_bag_meta_get(bag, keys[i]) != NULL, "no %s", keys[i]);
        if (strcmp(keys[i], name)) ts_bag_meta(out, keys[i], ts_bag_meta_get(bag, keys[i]));
    }
    return out;
}

START_TEST(misfits)
{
    job j = run_on("cpu", 1, "window:keep=0.4,min-tokens=0,order=tile", 0);
    const ts_bag *bag = ts_attn_plans(&j.attn);
    const ts_attn_options fit = {.grid = j.grid, .steps = STEPS, .layers = LAYERS, .heads = A, .slots = SLOTS, .slot_name = branches};
    ts_attn_options o = fit;
    misfit(bag, "", o, TS_OK, "");
    o.grid = ts_grid_of(3, 9, 13);
    misfit(bag, "", o, TS_EMODEL, ": made for 300 tokens, this run has 351");
    o.grid = ts_grid_of(6, 5, 10);
    misfit(bag, "", o, TS_EMODEL, ": made for a grid of 5x6x10 tokens, this run has 6x5x10");
    o = fit, o.heads = 8;
    misfit(bag, "", o, TS_EMODEL, ": made for 4 heads, this run has 8");
    o = fit, o.layers = 2;
    misfit(bag, "", o, TS_EMODEL, ": made for 3 layers, this run has 2");
    static const char *const needed[] = {"tokens", "block", "heads", "layers"};
    for (int i = 0; i < 4; i++) {
        char sentence[128];
        ts_bag *less = without(bag, needed[i]);
        snprintf(sentence, sizeof sentence, ": no plan file of tessera, it does not say its %s", needed[i]);
        misfit(less, "", fit, TS_EMODEL, sentence);
        ts_bag_free(less);
    }
    ts_bag *less = without(bag, "grid");
    misfit(less, "", fit, TS_EMODEL, ": made for a grid of unknown tokens, this run has 5x6x10");
    ts_bag_free(less), less = without(bag, "order");
    misfit(less, "", fit, TS_EMODEL, ": tokens in order \"\", expected raster or tile");
    ts_bag_meta(less, "order", "spiral");
    misfit(less, "", fit, TS_EMODEL, ": tokens in order \"spiral\", expected raster or tile");
    ts_bag_free(less), less = without(bag, "plan.uncond.1.rows");
    misfit(less, "", fit, TS_EMODEL, ": no plan for layer 1 of branch uncond (plan.uncond.1.rows)");
    misfit(less, ",dense-layers=1", fit, TS_OK, ""); /* not needed there */
    ts_bag_meta(less, "block", "128");
    misfit(less, "", fit, TS_EMODEL, ": made for 128 block, this run has 64");
    ts_bag_free(less), drop(&j);
}
END_TEST

START_TEST(metadata)
{
    job j = run_on("cpu", 1, "random:keep=0.4,min-tokens=0,order=tile", 1);
    const struct { const char *key, *value; } want[] = {{"attention", "random:keep=0.4,order=tile,min-tokens=0,dense-steps=1,seed=0"}, {"order", "tile"}, {"tokens", "351"}, {"block", "64"},
                                                         {"grid", "3x9x13"}, {"heads", "4"}, {"layers", "3"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) ck_assert_str_eq(ts_bag_meta_get(ts_attn_plans(&j.attn), want[i].key), want[i].value);
    drop(&j);
}
END_TEST

/* Nothing of the policy's is given away for a call that it can not answer. */
START_TEST(other_heads)
{
    job j = job_of("window:min-tokens=0", 0);
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ctx->dev->counting = true;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
    ck_ok(ctx, open(ctx, &j));
    ts_tensor t = ts_take(&ctx->arena, TS_F32, TS_DIM(j.grid.N, 3, D));
    t.ld = 3 * D;
    ck_assert_int_eq(ts_attend(&j.attn, 0, t, t, t, t), TS_ESHAPE);
    ck_assert_msg(strstr(ctx->err.text, "layer 1, branch 0: 3 heads, expected layers and branches below 3 and 2, 4 heads"), "%s", ctx->err.text);
    t = ts_take(&ctx->arena, TS_F32, TS_DIM(j.grid.N, A, D)), t.ld = WIDTH;
    ck_assert_int_eq(ts_attend(&j.attn, 3, t, t, t, t), TS_ESHAPE);
    ts_attn_begin(&j.attn, 1, 2);
    ck_assert_int_eq(ts_attend(&j.attn, 0, t, t, t, t), TS_ESHAPE);
    ts_arena_close(&ctx->arena);
    ctx->dev->counting = false;
    drop(&j), testing_close(ctx);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sparse");
    TCase *t = tcase_create("sparse");
    tmp = testing_tmp();
    tcase_add_loop_test(t, keep_all, 0, EVERYTHING);
    tcase_add_loop_test(t, keep_all_far, 0, EVERYTHING);
    tcase_add_loop_test(t, masked, 0, SOME);
    tcase_add_loop_test(t, masked_far, 0, SOME);
    tcase_add_test(t, search_is_dense);
    tcase_add_loop_test(t, pooled_plans, 0, 2 * SHAPES);
    tcase_add_test(t, gains);
    tcase_add_test(t, dense_layers);
    tcase_add_loop_test(t, threads, 0, SOME);
    tcase_add_test(t, cached_sums);
    tcase_add_loop_test(t, searches, 0, SHAPES);
    tcase_add_test(t, adaptive);
    tcase_add_test(t, fallbacks);
    tcase_add_test(t, one_step);
    tcase_add_loop_test(t, replay, 0, SOME);
    tcase_add_loop_test(t, replay_far, 0, SOME);
    tcase_add_test(t, misfits);
    tcase_add_test(t, metadata);
    tcase_add_test(t, other_heads);
    suite_add_tcase(s, t);
    return testing_main(s);
}
