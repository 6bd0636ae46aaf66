/* Text in self-attention, against plain code written from the definition: video tokens first, then
 * text that is read by all and reads everything; plans, budgets, scores and recall of the blocks
 * that hold video alone. Queries, keys and values lie in attention's order throughout. */
#include "attention/patterns.h"
#include "attention/plan_file.h"
#include "attention/saved.h"
#include "tests/backend/guarded.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 4, LAYERS = 2, SLOTS = 2, A = 3, D = 16, WIDTH = A * D, MOST = 640, BLOCKS = 10 };
static const char *const branches[SLOTS] = {"cond", "uncond"};

/* A whole number of blocks and a token beside it; one video token in the mixed block; a long prompt
 * and a short one; a branch without text; more than half a block of video in the mixed one. */
static const struct {
    int grid[3], text[SLOTS];
} shapes[] = {{{1, 8, 8}, {1, 64}},
              {{1, 5, 13}, {1, 130}},
              {{5, 6, 10}, {226, 3}},
              {{2, 8, 8}, {0, 30}},
              {{7, 6, 9}, {77, 200}}};
enum { SHAPES = sizeof shapes / sizeof *shapes, LONG = 2, CLIP = 4 };

typedef struct {
    const char *policy;
    ts_grid grid;
    int text[SLOTS], steps; /* steps 0: STEPS */
    ts_dtype type;
    ts_scores scores;
    bool untimed;
    float *out; /* [STEPS, SLOTS, LAYERS, MOST, A, D] */
    ts_attn attn;
    const ts_bag *from; /* state to begin with, and how many steps it had */
    int done;
    ts_bag *state; /* out, of the end */
    /* what the device was asked for, between a step's begin and its end, and at its end */
    int *asked, during, after;
} text_run;

static text_run run_of(const char *policy, int shape)
{
    const int *g = shapes[shape].grid;
    text_run r = {.policy = policy, .grid = ts_grid_of(g[0], g[1], g[2])};
    memcpy(r.text, shapes[shape].text, sizeof r.text);
    r.scores = TS_SCORES_EVERY;
    r.out = calloc((size_t)STEPS * SLOTS * LAYERS * MOST * WIDTH, sizeof *r.out);
    return r;
}

static void run_free(text_run *r)
{
    ts_attn_close(&r->attn);
    ts_bag_free(r->state);
    free(r->out);
}

static ts_sequence sequence_of(const text_run *r, int slot)
{
    return ts_sequence_of(r->grid.N, r->text[slot]);
}

static float *output_of(const text_run *r, int step, int slot, int layer)
{
    return r->out + ((((long)step - 1) * SLOTS + slot) * LAYERS + layer) * MOST * WIDTH;
}

/* Uniform in -1..1 from an integer hash. */
static float uniform(uint32_t of, uint32_t i)
{
    uint32_t x = of * 0x85ebca6bu + i * 0x9E3779B9u;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return (float)(x / 4294967296.0 * 2 - 1);
}

/* q, k or v (what 0 1 2) [T, A, D], rounded to the type: still but for a slow drift, later heads
 * more and more about tokens of a kind. */
static void draw_input(const text_run *r, int what, int step, int slot, int layer, float *x)
{
    uint32_t still = (uint32_t)(what + 3 * (slot + SLOTS * layer)),
             moving = 1000 + still * STEPS + (uint32_t)step;
    long n = sequence_of(r, slot).T;
    for (long t = 0, i = 0; t < n; t++)
        for (long a = 0; a < A; a++)
            for (long d = 0; d < D; d++, i++) {
                uint32_t bits;
                float kind = uniform(100000 + (uint32_t)(t / 50), (uint32_t)d);
                x[i] = 1.5f * uniform(still, (uint32_t)i) + 0.3f * uniform(moving, (uint32_t)i) +
                       (what < 2 ? 0.9f * (float)a * kind : 0);
                memcpy(&bits, x + i, sizeof bits);
                if (r->type == TS_BF16) bits &= 0xFFFF0000u;
                memcpy(x + i, &bits, sizeof bits);
            }
}

static ts_status attend(ts_ctx *ctx, text_run *r, int step, int slot, int layer)
{
    ts_status st = TS_OK;
    ts_device *dev = ctx->dev;
    long T = sequence_of(r, slot).T;
    size_t mark = ts_mark(&ctx->arena), bytes = (size_t)(T * WIDTH) * sizeof(float);
    float *host = malloc(bytes);
    ts_tensor full = ts_take(&ctx->arena, TS_F32, TS_DIM(T, WIDTH)), t[4];
    for (int i = 0; i < 4; i++) {
        ts_tensor m = ts_take(&ctx->arena, r->type, TS_DIM(T, WIDTH));
        t[i] = (ts_tensor){m.p, m.type, 3, {T, A, D}, WIDTH};
        if (i == 3 || dev->counting) continue;
        draw_input(r, i, step, slot, layer, host);
        TRY(dev->ops->upload(dev, full.p, host, bytes));
        TRY(ts_cast(dev, full, m));
        TRY(dev->ops->join(dev));
    }
    ts_attn_begin(&r->attn, step, layer, slot);
    int before = r->asked ? *r->asked : 0;
    TRY(ts_attend(&r->attn, t[0], t[1], t[2], t[3]));
    if (r->asked) r->during += *r->asked - before;
    TRY(ts_cast(dev, (ts_tensor){t[3].p, t[3].type, 2, {T, WIDTH}, WIDTH}, full));
    if (!dev->counting)
        TRY(dev->ops->download(dev, output_of(r, step, slot, layer), full.p, bytes));
done:
    ts_release(&ctx->arena, mark);
    free(host);
    return st;
}

static ts_status open_run(ts_ctx *ctx, text_run *r)
{
    ts_attn_options o = {.grid = r->grid,
                         .layers = LAYERS,
                         .heads = A,
                         .width = D,
                         .slots = SLOTS,
                         .slot_name = branches,
                         .text = r->text,
                         .keep_plans = true,
                         .keep_scores = r->scores,
                         .timed = !r->untimed};
    ck_ok(ctx, ts_policy_parse(&ctx->err, r->policy, &o.policy));
    ts_policy_settle(&o.policy, STEPS);
    return ts_attn_open(&r->attn, ctx, &o);
}

static ts_status phase(ts_ctx *ctx, void *user)
{
    ts_status st;
    text_run *r = user;
    TRY(open_run(ctx, r));
    if (r->from && !ctx->dev->counting) TRY(ts_attn_load(&r->attn, r->from));
    for (int step = 1 + r->done; step <= (r->steps ? r->steps : STEPS); step++) {
        for (int layer = 0; layer < LAYERS; layer++)
            for (int slot = 0; slot < SLOTS; slot++) TRY(attend(ctx, r, step, slot, layer));
        int before = r->asked ? *r->asked : 0;
        TRY(ts_attn_step_end(&r->attn));
        if (r->asked) r->after += *r->asked - before;
    }
    TRY(ts_attn_finish(&r->attn));
    if (ctx->dev->counting) goto done;
    r->state = ts_bag_new();
    TRY(ts_attn_save(&r->attn, r->state));
done:
    return st;
}

static void run_on(const char *backend, const char *level, text_run *r)
{
    ts_ctx *ctx = testing_open(backend, level, 1);
    testing_run(ctx, phase, r);
    testing_close(ctx);
}

/* ---- the definition ---- */
typedef bool choice[A][BLOCKS][BLOCKS]; /* is a pair of the nb blocks read? */

/* A saved plan among the video blocks, and what every call reads beside it. */
static void read_choice(const text_run *r, int slot, int layer, choice c)
{
    ts_err err = {0};
    ts_sequence s = sequence_of(r, slot);
    uint32_t chosen[A * BLOCKS];
    ck_assert_msg(ts_plan_get(&err, ts_attn_plans(&r->attn), "plans", branches[slot], layer, A,
                              s.nv, chosen) == TS_OK,
                  "%s", err.text);
    for (int a = 0; a < A; a++)
        for (int p = 0; p < s.nb; p++)
            for (int j = 0; j < s.nb; j++)
                c[a][p][j] = p >= s.nv || j >= s.nv || chosen[a * s.nv + p] >> j & 1;
}

static void choose_all(choice c) { memset(c, 1, sizeof(choice)); }

static double logit(const float *q, const float *k, long n, long m, long a)
{
    double s = 0;
    for (long d = 0; d < D; d++) s += (double)q[n * WIDTH + a * D + d] * k[m * WIDTH + a * D + d];
    return s / sqrt(D);
}

/* Relative L2 distance of some rows of a call from softmax over the keys that are read. */
static double call_error(const text_run *r, int step, int slot, int layer, choice c)
{
    static float x[3][MOST * WIDTH];
    const float *got = output_of(r, step, slot, layer);
    long T = sequence_of(r, slot).T;
    double off = 0, norm = 0, p[MOST];
    for (int i = 0; i < 3; i++) draw_input(r, i, step, slot, layer, x[i]);
    for (long n = 0; n < T; n += n < T - 20 ? 17 : 1)
        for (long a = 0; a < A; a++) {
            double sum = 0;
            for (long m = 0; m < T; m++) {
                p[m] = c[a][n / TS_BLOCK][m / TS_BLOCK] ? exp(logit(x[0], x[1], n, m, a)) : 0;
                sum += p[m];
            }
            for (long d = 0; d < D; d++) {
                double y = 0;
                for (long m = 0; m < T; m++) y += p[m] / sum * x[2][m * WIDTH + a * D + d];
                off += pow(y - got[n * WIDTH + a * D + d], 2);
                norm += y * y;
            }
        }
    return sqrt(off / norm);
}

/* What f32 sums of some hundred terms may be off by, and bf16: weights and outputs are rounded,
 * each by 2^-9. */
static double tolerance(const text_run *r) { return r->type == TS_F32 ? 1e-6 : 0x1p-8; }

/* The first step is dense, the last reads the plan that was saved and all text; text reads all. */
static void check_calls(const text_run *r, const char *with)
{
    choice c;
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            choose_all(c);
            double e = call_error(r, 1, slot, layer, c);
            ck_assert_msg(e < tolerance(r), "%s, %s, %s: dense %.2e", with, r->policy,
                          branches[slot], e);
            read_choice(r, slot, layer, c);
            e = call_error(r, STEPS, slot, layer, c);
            ck_assert_msg(e < tolerance(r), "%s, %s, %s: %.2e from its plan", with, r->policy,
                          branches[slot], e);
        }
}

/* ---- every policy, level and type ---- */
static const struct {
    const char *backend, *level;
    ts_dtype type;
} machines[] = {{"cpu", "ref", TS_F32},        {"cpu", "avx2", TS_F32},
                {"cpu", "avx512", TS_F32},     {"cpu", "avx512_bf16", TS_F32},
                {"cpu", "ref", TS_BF16},       {"cpu", "avx2", TS_BF16},
                {"cpu", "avx512", TS_BF16},    {"cpu", "avx512_bf16", TS_BF16},
                {"far", "avx512_bf16", TS_F32}};
enum { MACHINES = sizeof machines / sizeof *machines };
static const char *const policies[] = {"adaspa:search=mass,keep=0.4,min-tokens=0,order=tile",
                                       "pooled:keep=0.4,min-tokens=0,order=raster",
                                       "window:keep=0.4,min-tokens=0,order=tile",
                                       "random:keep=0.4,min-tokens=0,order=raster,seed=5",
                                       "tile:k=1,min-tokens=0,order=raster",
                                       "svg:keep=0.4,min-tokens=0",
                                       "adaspa:mass=0.6,min-tokens=0,order=raster",
                                       "recycled:keep=0.4,min-tokens=0,similar=0.5"};
enum { POLICIES = sizeof policies / sizeof *policies };

/* guarded_levels says which are left out */
static bool is_level_here(const char *level)
{
    const char *const *have = guarded_levels();
    while (*have && strcmp(*have, level)) have++;
    return *have || !strcmp(level, "ref");
}

START_TEST(calls)
{
    if (!is_level_here(machines[_i].level)) return;
    for (int shape = 0; shape < SHAPES; shape++)
        for (int p = 0; p < POLICIES; p++) {
            text_run r = run_of(policies[p], shape);
            char with[80];
            snprintf(with, sizeof with, "%s %s, shape %d", machines[_i].backend, machines[_i].level,
                     shape);
            r.type = machines[_i].type;
            run_on(machines[_i].backend, machines[_i].level, &r);
            check_calls(&r, with);
            run_free(&r);
        }
}
END_TEST

/* With everything kept no plan leaves anything out, whatever the text. */
START_TEST(keep_all)
{
    static const char *const all[] = {"adaspa:keep=1,min-tokens=0",
                                      "pooled:keep=1,min-tokens=0",
                                      "window:keep=1,min-tokens=0",
                                      "random:keep=1,min-tokens=0",
                                      "dense",
                                      "adaspa:mass=1,min-tokens=0"};
    choice c;
    choose_all(c);
    for (int shape = 0; shape < SHAPES; shape++) {
        text_run r = run_of(all[_i], shape);
        run_on("cpu", NULL, &r);
        for (int step = 1; step <= STEPS; step++)
            for (int slot = 0; slot < SLOTS; slot++)
                ck_assert_double_lt(call_error(&r, step, slot, 1, c), 1e-6);
        ck_assert_double_eq_tol(r.attn.counters.read, r.attn.counters.kept, 1e-9);
        run_free(&r);
    }
}
END_TEST

/* ---- searches ---- */
static const float *saved_scores(const text_run *r, const char *what, int slot, int layer, int step,
                                 long *count)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s.%d.%d", what, branches[slot], layer, step);
    return testing_f32(ts_attn_plans(&r->attn), name, count);
}

/* Block sums of the video's rows over all keys, with the log sum exp of the first step. */
static void check_sums(const text_run *r, int slot, int layer, int step)
{
    static float x[4][MOST * WIDTH];
    long count;
    const float *wsum = saved_scores(r, "wsum", slot, layer, step, &count);
    ts_sequence s = sequence_of(r, slot);
    ck_assert_int_eq(count, A * s.nv * s.nb);
    for (int i = 0; i < 4; i++) draw_input(r, i % 2, i < 2 ? 1 : step, slot, layer, x[i]);
    for (long a = 0; a < A; a++)
        for (long p = 0; p < s.nv; p++) {
            double want[BLOCKS] = {0};
            for (long n = p * TS_BLOCK; n < (p + 1) * TS_BLOCK; n++) {
                double sum = 0;
                for (long m = 0; m < s.T; m++) sum += exp(logit(x[0], x[1], n, m, a));
                for (long m = 0; m < s.T; m++)
                    want[m / TS_BLOCK] += exp(logit(x[2], x[3], n, m, a)) / sum;
            }
            for (long j = 0; j < s.nb; j++)
                ck_assert_double_eq_tol(wsum[(a * s.nv + p) * s.nb + j] / want[j], 1, 1e-5);
        }
}

/* The budget's best video blocks of a row, the lower first among equals; returns the share of the
 * row that is read, text included. */
static double best_of_row(const float *row, ts_sequence s, long budget, bool *kept)
{
    double read = 0, all = 0;
    for (int j = 0; j < s.nb; j++) kept[j] = j >= s.nv;
    for (long i = 0; i < budget; i++) {
        int best = -1;
        for (int j = 0; j < s.nv; j++)
            if (!kept[j] && (best < 0 || row[j] > row[best])) best = j;
        kept[best] = true;
    }
    for (int j = 0; j < s.nb; j++) {
        all += row[j];
        if (kept[j]) read += row[j];
    }
    return read / all;
}

static double best_of_head(const float *wsum, ts_sequence s, double keep, bool kept[BLOCKS][BLOCKS])
{
    double recall = 0;
    long budget = (long)fmax(1, floor(keep * s.nv + 0.5));
    for (int p = 0; p < s.nv; p++)
        recall += best_of_row(wsum + (long)p * s.nb, s, budget, kept[p]) / s.nv;
    return recall;
}

/* Head-adaptive plans from the sums of the last search; returns how many heads have another budget
 * than the rest. */
static int check_choice(const text_run *r, int slot, int layer, double keep)
{
    ts_sequence s = sequence_of(r, slot);
    const float *wsum = saved_scores(r, "wsum", slot, layer, 2, NULL),
                *recall = saved_scores(r, "recall", slot, layer, 2, NULL);
    choice want, got;
    double base[A], high = fmin(1, 1.5 * keep);
    int give = 0;
    for (int a = 0; a < A; a++) {
        base[a] = best_of_head(wsum + (long)a * s.nv * s.nb, s, keep, want[a]);
        ck_assert_double_eq_tol(recall[a], base[a], 1e-6);
        give += base[a] > 0.8;
    }
    if (give > A / 2) give = A / 2;
    read_choice(r, slot, layer, got);
    for (int a = 0; a < A; a++) {
        int rank = 0;
        for (int b = 0; b < A; b++) rank += base[b] > base[a] || (base[b] == base[a] && b < a);
        best_of_head(wsum + (long)a * s.nv * s.nb, s,
                     rank < give        ? 2 * keep - high
                     : rank >= A - give ? high
                                        : keep,
                     want[a]);
        for (int p = 0; p < s.nv; p++)
            ck_assert_msg(!memcmp(want[a][p], got[a][p], (size_t)s.nb), "%s, head %d, row %d",
                          branches[slot], a, p);
    }
    return give;
}

START_TEST(searches)
{
    int unequal = 0;
    static const double keep[] = {0.2, 0.4, 0.5, 0.7};
    for (int i = 0; i < 4; i++)
        for (int shape = 0; shape < SHAPES; shape++) {
            char policy[80];
            snprintf(policy, sizeof policy, "adaspa:search=mass,keep=%g,min-tokens=0,order=raster",
                     keep[i]);
            text_run r = run_of(policy, shape);
            run_on(_i ? "far" : "cpu", NULL, &r);
            for (int slot = 0; slot < SLOTS; slot++)
                for (int layer = 0; layer < LAYERS; layer++) {
                    if (i == 1) check_sums(&r, slot, layer, 1);
                    if (i == 1) check_sums(&r, slot, layer, 2);
                    unequal += check_choice(&r, slot, layer, keep[i]);
                }
            ck_assert_int_eq(r.attn.counters.recalls, 2 * SLOTS * LAYERS);
            run_free(&r);
        }
    ck_assert_int_gt(unequal, 0);
}
END_TEST

/* Means of the video blocks: the block itself, and none that is left out is better (f32: 1e-5). */
START_TEST(means)
{
    static float x[2][MOST * WIDTH];
    text_run r = run_of("pooled:keep=0.5,min-tokens=0,order=raster", CLIP);
    choice c;
    run_on("cpu", NULL, &r);
    for (int slot = 0; slot < SLOTS; slot++) {
        ts_sequence s = sequence_of(&r, slot);
        for (int i = 0; i < 2; i++) draw_input(&r, i, STEPS, slot, 1, x[i]);
        read_choice(&r, slot, 1, c);
        for (int a = 0; a < A; a++)
            for (int p = 0; p < s.nv; p++) {
                double least = INFINITY, most = -INFINITY;
                int kept = 0;
                for (int j = 0; j < s.nv; j++) {
                    double score = 0;
                    for (int n = 0; n < TS_BLOCK; n++)
                        for (int m = 0; m < TS_BLOCK; m++)
                            score += logit(x[0], x[1], p * TS_BLOCK + n, j * TS_BLOCK + m, a) /
                                     (TS_BLOCK * TS_BLOCK) * sqrt(D);
                    kept += c[a][p][j];
                    if (c[a][p][j] && j != p) least = fmin(least, score);
                    if (!c[a][p][j]) most = fmax(most, score);
                }
                ck_assert(c[a][p][p] && least >= most - 1e-5);
                ck_assert_int_eq(kept, ts_plan_budget(0.5, s.nv));
            }
    }
    run_free(&r);
}
END_TEST

/* ---- fixed patterns ---- */
/* Of the tokens of the first nv blocks alone, the same for both branches. */
START_TEST(fixed)
{
    const int *g = shapes[CLIP].grid;
    int N = g[0] * g[1] * g[2], nv = N / TS_BLOCK, area = g[1] * g[2];
    text_run t = run_of("tile:k=2,min-tokens=0,order=raster", CLIP),
             w = run_of("window:keep=0.5,min-tokens=0,order=raster", CLIP);
    choice c;
    run_on("cpu", NULL, &t);
    run_on("cpu", NULL, &w);
    for (int slot = 0; slot < SLOTS; slot++) {
        bool want[BLOCKS][BLOCKS] = {0};
        double centre[BLOCKS][3] = {0};
        read_choice(&t, slot, 0, c);
        for (int i = 0; i < nv * TS_BLOCK; i++) {
            int at[3] = {i / area, i / g[2] % g[1], i % g[2]};
            for (int d = 0; d < 3; d++) centre[i / TS_BLOCK][d] += (double)at[d] / TS_BLOCK;
            for (int j = 0; j < nv * TS_BLOCK; j++) {
                int a = i / area, b = j / area; /* of seven frames the references are 0 and 4 */
                want[i / TS_BLOCK][j / TS_BLOCK] |= a == b || a % 4 == 0 || b % 4 == 0;
            }
        }
        for (int p = 0; p < nv; p++) ck_assert(!memcmp(c[1][p], want[p], (size_t)nv));
        read_choice(&w, slot, 0, c);
        for (int p = 0; p < nv; p++) {
            double far[BLOCKS] = {0}, least = INFINITY, most = 0;
            int kept = 0;
            for (int j = 0; j < nv; j++) {
                for (int d = 0; d < 3; d++)
                    far[j] = fmax(far[j], fabs(centre[p][d] - centre[j][d]) / g[d]);
                kept += c[0][p][j];
                if (c[0][p][j]) most = fmax(most, far[j]);
                if (!c[0][p][j]) least = fmin(least, far[j]);
            }
            ck_assert(most <= least + 1e-12);
            ck_assert_int_eq(kept, ts_plan_budget(0.5, nv));
        }
    }
    run_free(&t);
    run_free(&w);
}
END_TEST

/* Kept shares are about the video's blocks, the work about all. */
START_TEST(shares)
{
    text_run r = run_of("window:keep=0.5,min-tokens=0,order=raster,dense-steps=1", LONG);
    const ts_attn_counters *n = &r.attn.counters;
    double kept = 0, read = 0, gain, measured;
    run_on("cpu", NULL, &r);
    for (int slot = 0; slot < SLOTS; slot++) {
        ts_sequence s = sequence_of(&r, slot);
        double video = s.nv * s.nv, all = s.nb * s.nb;
        ck_assert(s.nv == 4 && s.nb == (slot ? 5 : 9)); /* 300 and 226 or 3 */
        kept += 3 * LAYERS * 0.5;
        read += 3 * LAYERS * (0.5 * video + all - video) / all;
    }
    ck_assert_double_eq_tol(n->kept, kept, 1e-9);
    ck_assert_double_eq_tol(n->read, read, 1e-9);
    gain = ts_attn_gain(n, &measured);
    ck_assert_double_eq_tol(gain, 16 / (4 + read), 1e-9);
    ck_assert(measured > 0);
    run_free(&r);
}
END_TEST

/* ---- files ---- */
START_TEST(replay)
{
    char *tmp = testing_tmp(), path[4200], with[4300];
    ts_err err = {0};
    text_run r = run_of(policies[_i], CLIP), again;
    choice was, is;
    run_on("cpu", NULL, &r);
    const ts_bag *plans = ts_attn_plans(&r.attn);
    ck_assert_str_eq(ts_bag_meta_get(plans, "text"), "cond 77, uncond 200");
    ck_assert_str_eq(ts_bag_meta_get(plans, "tokens"), "378");
    snprintf(path, sizeof path, "%s/plan.safetensors", tmp);
    ck_assert(ts_bag_save(&err, plans, path) == TS_OK);
    snprintf(with, sizeof with, "blocks:file=%s,dense-steps=1", path);
    again = run_of(with, CLIP);
    again.text[0] = 12; /* another prompt */
    again.text[1] = 1;
    run_on(_i % 2 ? "far" : "cpu", NULL, &again);
    check_calls(&again, "replay");
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            read_choice(&r, slot, layer, was);
            read_choice(&again, slot, layer, is);
            for (int a = 0; a < A; a++)
                for (int p = 0; p < 5; p++) ck_assert(!memcmp(was[a][p], is[a][p], 5));
        }
    ck_assert_str_eq(ts_bag_meta_get(ts_attn_plans(&again.attn), "text"), "cond 12, uncond 1");
    run_free(&again);
    again = run_of(with, CLIP);
    again.text[0] = again.text[1] = 0; /* then the ragged block is one of the plan's, which has 5 */
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ctx->dev->counting = true;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
    ck_assert_int_eq(open_run(ctx, &again), TS_ESHAPE);
    ck_assert_msg(strstr(ctx->err.text, "plan.cond.0.rows"), "%s", ctx->err.text);
    ts_arena_close(&ctx->arena);
    ctx->dev->counting = false;
    testing_close(ctx);
    run_free(&again);
    run_free(&r);
    free(tmp);
}
END_TEST

/* Interrupted after the first search or between the others, the rest is what it would have been. */
START_TEST(interrupted)
{
    for (int done = 1; done < STEPS; done++) {
        text_run whole = run_of(policies[0], LONG), first = run_of(policies[0], LONG),
                 rest = run_of(policies[0], LONG);
        first.steps = done;
        run_on("cpu", NULL, &whole);
        run_on("cpu", NULL, &first);
        rest.from = first.state;
        rest.done = done;
        run_on(done % 2 ? "far" : "cpu", NULL, &rest);
        size_t step = SLOTS * LAYERS * MOST * WIDTH;
        ck_assert(!memcmp(whole.out + (size_t)done * step, rest.out + (size_t)done * step,
                          (STEPS - (size_t)done) * step * sizeof *rest.out));
        ck_assert_double_eq_tol(first.attn.counters.kept + rest.attn.counters.kept,
                                whole.attn.counters.kept, 1e-9);
        run_free(&rest);
        run_free(&first);
        run_free(&whole);
    }
}
END_TEST

/* Scores of pictures: of the last search, once a layer and branch, without recalls. */
START_TEST(last_scores)
{
    text_run every = run_of(policies[0], CLIP), last = run_of(policies[0], CLIP);
    int found = 0;
    last.scores = TS_SCORES_LAST;
    run_on("cpu", NULL, &every);
    run_on("cpu", NULL, &last);
    const ts_bag *bag = ts_attn_plans(&last.attn);
    for (int i = 0; i < ts_bag_count(bag); i++) found += !!strncmp(ts_bag_name(bag, i), "plan.", 5);
    ck_assert_int_eq(found, SLOTS * LAYERS);
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            long n, m;
            const float *x = saved_scores(&every, "wsum", slot, layer, 2, &n),
                        *y = saved_scores(&last, "wsum", slot, layer, 2, &m);
            ck_assert(n == m && !memcmp(x, y, (size_t)n * sizeof *x));
        }
    run_free(&every);
    run_free(&last);
}
END_TEST

/* ---- dense, and refused ---- */
START_TEST(less_than_a_block)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    for (int i = 0; i < 2; i++) {
        text_run r = run_of(i ? "window:min-tokens=0,strict" : "window:min-tokens=0,dense-steps=0",
                            0);
        r.grid = ts_grid_of(1, 7, 9);
        r.text[1] = 0;
        ctx->dev->counting = true;
        ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
        ck_assert_int_eq(open_run(ctx, &r), i ? TS_EFAIL : TS_OK);
        ck_assert(strstr(i ? ctx->err.text : testing_warned(ctx),
                         "attention window: 63 tokens before the text are fewer than a block of "
                         "64: everything is dense"));
        ts_arena_close(&ctx->arena);
        ctx->dev->counting = false;
        run_free(&r);
    }
    testing_close(ctx);
}
END_TEST

/* min-tokens counts video. */
START_TEST(few_tokens)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    text_run r = run_of("window:min-tokens=301", LONG);
    ctx->dev->counting = true;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
    ck_ok(ctx, open_run(ctx, &r));
    ck_assert(!r.attn.state && strstr(r.attn.why, "300 tokens are fewer than min-tokens=301"));
    ts_attn_begin(&r.attn, 1, 0, 1);
    ts_tensor t = ts_take(&ctx->arena, TS_F32, TS_DIM(300, A, D));
    ck_assert_int_eq(ts_attend(&r.attn, t, t, t, t), TS_ESHAPE);
    ck_assert_msg(strstr(ctx->err.text, "layer 1: 300 tokens, expected 300 and 3 of text"), "%s",
                  ctx->err.text);
    ts_arena_close(&ctx->arena);
    ctx->dev->counting = false;
    run_free(&r);
    testing_close(ctx);
}
END_TEST

/* ---- what the device is asked for ---- */
static int asked, marks;
static ts_ops ops, real;

static ts_status count_download(ts_device *d, void *host, ts_ptr p, size_t n)
{
    asked++;
    return real.download(d, host, p, n);
}
static ts_status count_upload(ts_device *d, ts_ptr p, const void *host, size_t n)
{
    asked++;
    return real.upload(d, p, host, n);
}
static ts_status count_join(ts_device *d)
{
    asked++;
    return real.join(d);
}
static ts_status count_mark(ts_device *d, ts_moment *m)
{
    marks++;
    return real.mark(d, m);
}

/* Nothing that waits inside a step; at its end one download if it searched, and no time is asked
 * for unless somebody wants it. */
START_TEST(nothing_waits)
{
    for (int timed = 0; timed < 2; timed++)
        for (int p = 0; p < POLICIES; p++) {
            ts_ctx *ctx = testing_open("cpu", NULL, 1);
            text_run r = run_of(policies[p], CLIP);
            r.scores = TS_SCORES_NONE;
            r.untimed = !timed;
            r.asked = &asked;
            asked = marks = 0;
            real = ops = *ctx->dev->ops;
            ops.download = count_download;
            ops.upload = count_upload;
            ops.join = count_join;
            ops.mark = count_mark;
            ctx->dev->ops = &ops;
            testing_run(ctx, phase, &r);
            ck_assert_int_eq(r.during, 0);
            /* adaspa searches in two steps, svg in one; recycled compares in the others */
            ck_assert_int_eq(r.after, !strncmp(policies[p], "adaspa", 6)     ? 2
                                      : !strncmp(policies[p], "svg", 3)      ? 1
                                      : !strncmp(policies[p], "recycled", 8) ? STEPS
                                                                             : 0);
            ck_assert((marks > 0) == timed);
            ck_assert((ts_attn_seconds(&r.attn.counters) > 0) == timed);
            run_free(&r);
            testing_close(ctx);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("text");
    TCase *t = tcase_create("text");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, calls, 0, MACHINES);
    tcase_add_loop_test(t, keep_all, 0, 6);
    tcase_add_loop_test(t, searches, 0, 2);
    tcase_add_test(t, means);
    tcase_add_test(t, fixed);
    tcase_add_test(t, shares);
    tcase_add_loop_test(t, replay, 0, POLICIES);
    tcase_add_test(t, interrupted);
    tcase_add_test(t, last_scores);
    tcase_add_test(t, less_than_a_block);
    tcase_add_test(t, few_tokens);
    tcase_add_test(t, nothing_waits);
    suite_add_tcase(s, t);
    return testing_main(s);
}
