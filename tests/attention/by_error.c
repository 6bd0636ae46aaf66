/* A run of few tokens on some device, and its definition in double. */
#include "tests/attention/by_error.h"

#include "attention/patterns.h"
#include "attention/plan_file.h"
#include "attention/saved.h"
#include "attention/search.h"
#include "backend/cpu/ref.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 7, AREA = 53 };
enum { A = 6, D = 16, STEPS = 4, N = 6 * 64 - 13, NB = 6, WIDTH = A * D };
static const double SCALE = 0.25;

/* ---- tokens ---- */
/* q, k or v (what 0 1 2) of a head, each of another kind: 0 by chance and sharp: nothing
 * stands for a block; 1 keys that are equal within
 * blocks: means say all; 2 values that follow their keys around the means of the blocks, queries
 * equal within blocks: linear says nearly all; 3 one key among the many of two blocks is what all
 * queries look for: means miss it, and masses know; 4 and 5 queries and keys that tell nothing, and
 * values, equal within blocks, whose mean those of a window and of a tile come near. Tokens drift a
 * little from step to step. */
static double token(int what, int head, long n, long d, int step)
{
    static const char *const name[] = {"q", "k", "v"};
    uint32_t at = (uint32_t)((n * A + head) * D + d),
             block = (uint32_t)((n / 64 * A + head) * D + d);
    long i = n % 64;
    double x = golden_u(name[what], at), same = golden_u(name[what], block + 100000),
           offset = 0.9 * (i % 2 ? 1 : -1) * golden_u("offset", at - (i % 2 ? WIDTH : 0)),
           drift = 0.02 * step * golden_u("drift", at);
    if (head == 1 && what == 1) return 2.5 * same;
    if (head == 2) return what == 0 ? 0.7 * same : what == 1 ? same + offset : 1 + 2 * offset;
    if (head == 3 && what == 0) return (d == 0 ? 3 : 0.2 * x) + drift;
    if (head == 3 && what == 1 && d == 0)
        return i == 5 && (n / 64 == 1 || n / 64 == 3) ? 9 : n / 64 == 4 ? 0.3 : -0.2;
    if (head > 3 && what < 2) return 0.02 * x;
    if (head > 3) {
        block = (uint32_t)(n / 64 * D + d) + (head == 4 ? 11000 : 15200);
        return (d ? 0.05 : 1) * golden_u("v", block) + drift;
    }
    return (what == 2 ? 1 : head ? 1.2 : 3.5) * x + drift;
}

/* The number that a tensor of a type holds. */
static float held(ts_dtype type, double x)
{
    return type == TS_BF16 ? ts_from_bf16(ts_to_bf16((float)x)) : (float)x;
}

static void draw_tokens(int what, int step, ts_dtype type, void *x)
{
    for (long n = 0; n < N; n++)
        for (int h = 0; h < A; h++)
            for (long d = 0; d < D; d++)
                ts_store(x, type, n * WIDTH + h * D + d, (float)token(what, h, n, d, step));
}

/* ---- the definition ---- */
typedef struct { /* of one head */
    double q[N][D], k[N][D], v[N][D], km[NB][D], vm[NB][D], C[NB][D][D], dense[N][D];
    double mass[NB][NB], fresh[NB][NB], means[NB][NB], own[N];
} oracle;

static long rows_of(long block) { return block == NB - 1 ? N - 64 * (NB - 1) : 64; }
static double dot(const double *a, const double *b)
{
    double x = 0;
    for (int d = 0; d < D; d++) x += a[d] * b[d];
    return x;
}

static double mean_logit(const oracle *o, long n, long j)
{
    return SCALE * dot(o->q[n], o->km[j]) + log((double)rows_of(j));
}

/* Softmax over what a plan reads, with a form of the rest; plan NULL: all. */
static void attend(const oracle *o, const bool plan[NB][NB], int form, double out[N][D])
{
    for (long n = 0; n < N; n++) {
        double sum = 0, most = -INFINITY, w, part[D] = {0};
        long p = n / 64;
        for (long m = 0; m < N; m++) most = fmax(most, SCALE * dot(o->q[n], o->k[m]));
        memset(out[n], 0, sizeof out[n]);
        for (long m = 0; m < N; m++) {
            if (plan && !plan[p][m / 64]) continue;
            sum += w = exp(SCALE * dot(o->q[n], o->k[m]) - most);
            for (int d = 0; d < D; d++) out[n][d] += w * o->v[m][d];
        }
        for (long j = 0; form && j < NB; j++) {
            if (plan[p][j]) continue;
            sum += w = exp(mean_logit(o, n, j) - most);
            for (int d = 0; d < D; d++) out[n][d] += w * o->vm[j][d];
        }
        for (long j = 0; form == TS_REST_LINEAR && j < NB; j++)
            for (int e = 0; e < D && !plan[p][j]; e++)
                for (int d = 0; d < D; d++)
                    part[e] += o->fresh[p][j] / (double)rows_of(p) * o->q[n][d] * o->C[j][d][e];
        double share = exp(fmin(o->own[n] - (most + log(sum)), 0));
        for (int d = 0; d < D; d++) out[n][d] = out[n][d] / sum + share * part[d];
    }
}

static void weigh(oracle *o)
{
    for (long n = 0; n < N; n++) {
        double most = -INFINITY, sum = 0, L;
        for (long m = 0; m < N; m++) most = fmax(most, SCALE * dot(o->q[n], o->k[m]));
        for (long m = 0; m < N; m++) sum += exp(SCALE * dot(o->q[n], o->k[m]) - most);
        for (long m = 0; m < N; m++)
            o->mass[n / 64][m / 64] += exp(SCALE * dot(o->q[n], o->k[m]) - most) / sum;
        for (long j = 0, first = 1; j < NB; j++, first = 0)
            L = mean_logit(o, n, j),
            o->own[n] = first ? L : fmax(o->own[n], L) + log1p(exp(-fabs(o->own[n] - L)));
        for (long j = 0; j < NB; j++) o->fresh[n / 64][j] += exp(mean_logit(o, n, j) - o->own[n]);
    }
}

static oracle *oracle_of(int head, int step, ts_dtype type)
{
    oracle *o = calloc(1, sizeof *o);
    double qm[NB][D] = {{0}};
    for (long n = 0; n < N; n++)
        for (int d = 0; d < D; d++) {
            double each = 1 / (double)rows_of(n / 64);
            o->q[n][d] = held(type, token(0, head, n, d, step));
            o->k[n][d] = held(type, token(1, head, n, d, step));
            o->v[n][d] = held(type, token(2, head, n, d, step));
            qm[n / 64][d] += o->q[n][d] * each;
            o->km[n / 64][d] += o->k[n][d] * each;
            o->vm[n / 64][d] += o->v[n][d] * each;
        }
    for (long n = 0; n < N; n++)
        for (int d = 0; d < D; d++)
            for (int e = 0; e < D; e++)
                o->C[n / 64][d][e] += SCALE / (double)rows_of(n / 64) *
                                      (o->k[n][d] - o->km[n / 64][d]) *
                                      (o->v[n][e] - o->vm[n / 64][e]);
    for (long p = 0; p < NB; p++)
        for (long j = 0; j < NB; j++) o->means[p][j] = dot(qm[p], o->km[j]);
    weigh(o);
    attend(o, NULL, TS_REST_NONE, o->dense);
    return o;
}

/* Minus what the grid says of two blocks: window and tile as in attention/README.md. */
static double grid_score(bool tile, long p, long j)
{
    double frame[2] = {0}, place[2] = {0};
    bool in[2][FRAMES] = {{false}}, common = false;
    long of[2] = {p, j}, level = FRAMES;
    for (int i = 0; i < 2; i++)
        for (long n = of[i] * 64; n < of[i] * 64 + rows_of(of[i]); n++) {
            frame[i] += (double)(n / AREA) / (double)rows_of(of[i]);
            place[i] += (double)(n % AREA) / (double)rows_of(of[i]);
            in[i][n / AREA] = true;
        }
    double frames = fabs(frame[0] - frame[1]) / FRAMES, places = fabs(place[0] - place[1]) / AREA;
    if (!tile) return -fmax(frames, places);
    for (int f = 0; f < FRAMES; f++) common |= in[0][f] && in[1][f];
    for (long k = FRAMES - 1; k > 0; k--)
        for (long m = 0; m < k; m++)
            if (in[1][(m * FRAMES + k - 1) / k]) level = k;
    return -(places + (common ? 0 : (double)level));
}

/* The budget's largest of each row, the block itself among them where `own`. */
static void choose(const double score[NB][NB], bool own, long budget, bool plan[NB][NB])
{
    memset(plan, 0, sizeof(bool[NB][NB]));
    for (long p = 0; p < NB; p++) {
        plan[p][p] = own;
        for (long taken = own; taken < budget; taken++) {
            long best = -1;
            for (long j = 0; j < NB; j++)
                if (!plan[p][j] && (best < 0 || score[p][j] > score[p][best])) best = j;
            plan[p][best] = true;
        }
    }
}

static void plan_by(const oracle *o, int ranking, long budget, bool plan[NB][NB])
{
    double near[NB][NB];
    for (long p = 0; p < NB; p++)
        for (long j = 0; j < NB; j++) near[p][j] = grid_score(ranking == TS_RANK_TILE, p, j);
    choose(ranking == TS_RANK_FRESH    ? o->fresh
           : ranking == TS_RANK_POOLED ? o->means
           : ranking >= TS_RANK_WINDOW ? near
                                       : o->mass,
           ranking != TS_RANK_MASS, budget, plan);
}

static double error_of(const oracle *o, const bool plan[NB][NB], int form)
{
    double(*out)[D] = malloc(sizeof o->dense), sum = 0;
    attend(o, plan, form, out);
    for (long n = 0; n < N; n++)
        for (int d = 0; d < D; d++)
            sum += (out[n][d] - o->dense[n][d]) * (out[n][d] - o->dense[n][d]);
    free(out);
    return sum;
}

static int best_of(const double *error, int n, double margin)
{
    int least = 0;
    for (int i = 1; i < n; i++)
        if (error[i] < error[least]) least = i;
    /* no choice of this test hangs on rounding */
    ck_assert(least == 0 || fabs(error[least] * margin / error[0] - 1) > 1e-3);
    return error[least] * margin < error[0] ? least : 0;
}

/* What the search of step 1 gives a head. */
static void search(const oracle *o, long budget, int *ranking, int *form, bool plan[NB][NB])
{
    double error[TS_RANKINGS];
    for (int r = 0; r < TS_RANKINGS; r++) {
        plan_by(o, r, budget, plan);
        error[r] = error_of(o, plan, TS_REST_NONE);
    }
    *ranking = best_of(error, TS_RANKINGS, 2);
    plan_by(o, *ranking, budget, plan);
    for (int f = 0; f <= TS_REST_LINEAR; f++) error[f] = error_of(o, plan, f);
    *form = best_of(error, TS_REST_LINEAR + 1, 4);
}

/* ---- a run ---- */
typedef struct {
    const char *policy;
    ts_dtype type; /* of the tensors */
    ts_attn attn;
    int first, last; /* steps */
    const ts_bag *from;
    ts_bag *saved; /* after the last step */
    float *out;    /* [N, A, D] of the last step */
} run;

static ts_status run_step(ts_ctx *ctx, run *r, int step)
{
    ts_status st = TS_OK;
    ts_device *dev = ctx->dev;
    size_t mark = ts_mark(&ctx->arena), bytes = (size_t)(N * WIDTH) * ts_dtype_size(r->type);
    ts_tensor t[4];
    void *x = malloc(bytes);
    for (int i = 0; i < 4; i++) {
        t[i] = ts_take(&ctx->arena, r->type, TS_DIM(N, A, D));
        t[i].ld = WIDTH;
    }
    for (int i = 0; i < 3; i++) {
        draw_tokens(i, step, r->type, x);
        TRY(dev->ops->upload(dev, t[i].p, x, bytes));
        TRY(dev->ops->join(dev));
    }
    ts_attn_begin(&r->attn, step, 0, 0);
    TRY(ts_attend(&r->attn, t[0], t[1], t[2], t[3]));
    TRY(dev->ops->download(dev, x, t[3].p, bytes));
    for (long i = 0; i < N * WIDTH && !dev->counting; i++) r->out[i] = ts_load(x, r->type, i);
    TRY(ts_attn_step_end(&r->attn));
done:
    ts_release(&ctx->arena, mark);
    free(x);
    return st;
}

static ts_status run_phase(ts_ctx *ctx, void *user)
{
    static const char *const branch[] = {"cond"};
    ts_status st = TS_OK;
    run *r = user;
    ts_attn_options o = {.grid = ts_grid_of(FRAMES, 1, AREA),
                         .layers = 1,
                         .heads = A,
                         .width = D,
                         .slots = 1,
                         .slot_name = branch,
                         .keep_plans = true};
    TRY(ts_policy_parse(&ctx->err, r->policy, &o.policy));
    ts_policy_settle(&o.policy, STEPS);
    TRY(ts_attn_open(&r->attn, ctx, &o));
    if (r->from) TRY(ts_attn_load(&r->attn, r->from));
    for (int step = r->first; step <= r->last; step++) TRY(run_step(ctx, r, step));
    if (!ctx->dev->counting) TRY(ts_attn_save(&r->attn, r->saved));
    TRY(ts_attn_finish(&r->attn));
done:
    return st;
}

static run run_in(ts_dtype type, const char *backend, const char *policy, int first, int last,
                  const ts_bag *from)
{
    run r = {.policy = policy, .type = type, .first = first, .last = last, .from = from};
    ts_ctx *ctx = testing_open(backend, NULL, 2);
    ctx->act = type;
    r.out = calloc((size_t)(N * WIDTH), sizeof *r.out);
    r.saved = ts_bag_new();
    testing_run(ctx, run_phase, &r);
    testing_close(ctx);
    return r;
}

static run run_of(const char *backend, const char *policy, int first, int last, const ts_bag *from)
{
    return run_in(TS_F32, backend, policy, first, last, from);
}

static void free_run(run *r)
{
    ts_attn_close(&r->attn);
    ts_bag_free(r->saved);
    free(r->out);
}

static void plan_of(const run *r, int head, bool plan[NB][NB])
{
    ts_err err = {0};
    uint32_t bits[A * NB];
    ck_assert_msg(!ts_plan_get(&err, ts_attn_plans(&r->attn), "plans", "cond", 0, A, NB, bits),
                  "%s", err.text);
    for (long p = 0; p < NB; p++)
        for (long j = 0; j < NB; j++) plan[p][j] = bits[head * NB + p] >> j & 1;
}

/* f32: sums of some hundred terms. bf16: roundings of the weights and of what comes out, and for
 * what stands for the rest of its keys, values, weights, covariances and their mixture, 2^-8 each
 * at most and in quadrature. A residual adds two more calls and its own rounding, which is of a
 * smaller number. */
static void check_output(const run *r, const oracle *o, int head, const bool plan[NB][NB], int form,
                         const double (*residual)[D])
{
    double(*out)[D] = malloc(sizeof o->dense), off = 0, size = 0;
    const double calls = residual ? 3 : 1,
                 most = sqrt(calls) * (r->type == TS_BF16 ? sqrt(7.0) / 256 : 2e-6);
    attend(o, plan, form, out);
    for (long n = 0; n < N; n++)
        for (int d = 0; d < D; d++) {
            size += out[n][d] * out[n][d];
            if (residual) out[n][d] += residual[n][d];
            double e = out[n][d] - r->out[n * WIDTH + head * D + d];
            off += e * e;
        }
    ck_assert_msg(sqrt(off / size) < most, "%s, head %d: %.2e from its definition", r->policy, head,
                  sqrt(off / size));
    free(out);
}

/* What a plan leaves out of the dense output, or its means over blocks. */
static void residual_of(const oracle *o, const bool plan[NB][NB], int form, int tokens,
                        double residual[N][D])
{
    double mean[NB][D] = {{0}};
    attend(o, plan, form, residual);
    for (long n = 0; n < N; n++)
        for (int d = 0; d < D; d++) {
            residual[n][d] = o->dense[n][d] - residual[n][d];
            mean[n / 64][d] += residual[n][d] / (double)rows_of(n / 64);
        }
    for (long n = 0; tokens == 64 && n < N; n++) memcpy(residual[n], mean[n / 64], sizeof mean[0]);
}

static int32_t saved_choice(const run *r, const char *name, int head)
{
    ts_err err = {0};
    ts_host h;
    ck_assert_msg(!ts_bag_get(&err, r->saved, name, TS_I32, 1, (long[]){A}, &h), "%s", err.text);
    return ((const int32_t *)h.data)[head];
}

void by_error_choices(const char *backend)
{
    static const struct {
        const char *policy;
        int residual;
        bool fresh;
    } of[] = {{"adaspa:keep=0.34,min-tokens=0,rest=measured", 1, false},
              {"adaspa:keep=0.34,min-tokens=0,residual=0", 0, true},
              {"adaspa:keep=0.34,min-tokens=0,residual=64,fresh=1,rest=measured", 64, true}};
    int seen[TS_RANKINGS] = {0}, formed[TS_REST_LINEAR + 1] = {0};
    for (int n = 0; n < 3; n++) {
        run r = run_of(backend, of[n].policy, 1, STEPS, NULL);
        for (int h = 0; h < A; h++) {
            bool plan[NB][NB], now[NB][NB];
            int ranking, form;
            double residual[N][D];
            oracle *then = oracle_of(h, 1, TS_F32), *last = oracle_of(h, STEPS, TS_F32);
            search(then, 2, &ranking, &form, plan);
            ck_assert_int_eq(saved_choice(&r, "ranking.cond.0", h), ranking);
            ck_assert_int_eq(saved_choice(&r, "rest.cond.0", h), form);
            residual_of(then, plan, form, of[n].residual, residual);
            if (of[n].fresh && (ranking == TS_RANK_FRESH || ranking == TS_RANK_POOLED))
                plan_by(last, ranking, 2, plan);
            plan_of(&r, h, now);
            ck_assert_msg(!memcmp(plan, now, sizeof plan), "%s: plan of head %d", of[n].policy, h);
            check_output(&r, last, h, plan, form, of[n].residual ? residual : NULL);
            seen[ranking]++;
            formed[form]++;
            free(then);
            free(last);
        }
        ck_assert(r.attn.counters.searched == 1 && r.attn.counters.sparse == STEPS - 1);
        long ranked = 0;
        for (int i = 0; i < TS_RANKINGS; i++) ranked += r.attn.counters.ranked[i];
        ck_assert_int_eq(ranked, A);
        free_run(&r);
    }
    /* heads that differ, or nothing was tested */
    ck_assert_msg(seen[TS_RANK_FRESH] && seen[TS_RANK_WINDOW] && seen[TS_RANK_TILE] &&
                      seen[TS_RANK_FRESH] + seen[TS_RANK_WINDOW] + seen[TS_RANK_TILE] < 3 * A,
                  "%d fresh, %d window, %d tile of %d", seen[TS_RANK_FRESH], seen[TS_RANK_WINDOW],
                  seen[TS_RANK_TILE], 3 * A);
    ck_assert_msg(formed[0] && formed[1] && formed[2], "%d none, %d means, %d linear", formed[0],
                  formed[1], formed[2]);
}

static const struct {
    const char *policy;
    int form, residual; /* of step 1, with the plan of the last */
} fixed[BY_ERROR_FORMS] = {
    {"adaspa:keep=0.34,min-tokens=0,rest=linear,residual=0", 2, 0},
    {"adaspa:keep=0.34,min-tokens=0,rest=linear", 2, 1},
    {"adaspa:keep=0.34,min-tokens=0", 1, 1},
    {"pooled:keep=0.34,min-tokens=0,rest=mean", 1, 0},
    {"adaspa:keep=0.34,min-tokens=0,rest=none,residual=0", 0, 0},
    {"adaspa:keep=0.34,min-tokens=0,rest=mean,residual=0", 1, 0},
    {"adaspa:keep=0.34,min-tokens=0,rest=linear,residual=0,fresh=0", 2, 0},
    {"adaspa:keep=0.34,min-tokens=0,rest=mean,residual=64", 1, 64},
    {"adaspa:keep=0.34,min-tokens=0,search=mass,search-steps=1,residual=1", 0, 1},
    {"recycled:keep=0.34,min-tokens=0,similar=0,residual=1", 0, 1},
    {"svg:keep=0.34,min-tokens=0,residual=64", 0, 64},
    {"adaspa:keep=0.34,min-tokens=0,search=mass,rest=linear", 2, 0},
    {"pooled:keep=0.34,min-tokens=0,rest=linear", 2, 0},
    {"window:keep=0.34,min-tokens=0,rest=linear", 2, 0},
    {"random:keep=0.34,min-tokens=0,rest=mean", 1, 0}};

void by_error_form(const char *backend, ts_dtype type, int i)
{
    run r = run_in(type, backend, fixed[i].policy, 1, STEPS, NULL);
    for (int h = 0; h < A; h++) {
        bool plan[NB][NB];
        double residual[N][D];
        oracle *then = oracle_of(h, 1, type), *last = oracle_of(h, STEPS, type);
        plan_of(&r, h, plan);
        residual_of(then, plan, fixed[i].form, fixed[i].residual, residual);
        check_output(&r, last, h, plan, fixed[i].form, fixed[i].residual ? residual : NULL);
        free(then);
        free(last);
    }
    free_run(&r);
}

void by_error_every_third(const char *backend)
{
    run r = run_of(backend, "adaspa:keep=0.34,min-tokens=0,residual=0,fresh=3", 1, STEPS, NULL);
    for (int h = 0; h < A; h++) {
        bool plan[NB][NB], now[NB][NB];
        int ranking, form;
        oracle *then = oracle_of(h, 1, TS_F32), *third = oracle_of(h, 3, TS_F32);
        search(then, 2, &ranking, &form, plan);
        if (ranking == TS_RANK_FRESH || ranking == TS_RANK_POOLED) plan_by(third, ranking, 2, plan);
        plan_of(&r, h, now);
        ck_assert(!memcmp(plan, now, sizeof plan));
        free(then);
        free(third);
    }
    free_run(&r);
}

void by_error_interrupted(const char *backend)
{
    static const char *const policy[] = {
        "adaspa:keep=0.34,min-tokens=0,residual=0",
        "adaspa:keep=0.34,min-tokens=0,residual=0,fresh=0,rest=mean",
        "adaspa:keep=0.34,min-tokens=0,residual=1,rest=measured",
        "adaspa:keep=0.34,min-tokens=0,residual=64"};
    for (int i = 0; i < 4; i++) {
        run whole = run_of(backend, policy[i], 1, STEPS, NULL),
            half = run_of(backend, policy[i], 1, 2, NULL),
            rest = run_of(backend, policy[i], 3, STEPS, half.saved);
        ck_assert(!memcmp(whole.out, rest.out, (size_t)(N * WIDTH) * sizeof *whole.out));
        ck_assert(ts_bag_has(half.saved, "ranking.cond.0") &&
                  !ts_bag_has(half.saved, "lse.cond.0") &&
                  ts_bag_has(half.saved, "residual.cond.0") == (i > 1));
        free_run(&whole);
        free_run(&half);
        free_run(&rest);
    }
}

static ts_status load_only(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    run *r = user;
    ts_attn_options o = {.grid = ts_grid_of(FRAMES, 1, AREA),
                         .layers = 1,
                         .heads = A,
                         .width = D,
                         .slots = 1,
                         .slot_name = (const char *const[]){"cond"}};
    TRY(ts_policy_parse(&ctx->err, r->policy, &o.policy));
    ts_policy_settle(&o.policy, STEPS);
    TRY(ts_attn_open(&r->attn, ctx, &o));
    st = ts_attn_load(&r->attn, r->from);
    ck_assert_int_eq(st, TS_EMODEL);
    ck_assert_str_eq(ctx->err.text, "rest.cond.0: 7 of head 2, expected 0 to 2");
    st = TS_OK;
done:
    return st;
}

void by_error_damaged(const char *backend)
{
    run good = run_of(backend, "adaspa:keep=0.34,min-tokens=0,rest=measured", 1, 2, NULL),
        bad = {.policy = good.policy, .type = TS_F32, .from = good.saved};
    static const int32_t form[A] = {0, 1, 7, 0};
    ck_assert(ts_bag_put(good.saved, "rest.cond.0", TS_I32, 1, (long[]){A}, form) != NULL);
    ts_ctx *ctx = testing_open(backend, NULL, 1);
    testing_run(ctx, load_only, &bad);
    testing_close(ctx);
    ts_attn_close(&bad.attn);
    free_run(&good);
}
