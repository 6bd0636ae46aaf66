/* Attention alone: the dense kernel beside cuDNN's and PyTorch's, what a plan gains of what it
 * promises, what a search costs. */
#include "tests/cuda/bench/bench.h"

#include "backend/cuda/attention_launch.h"
#include "backend/cuda/cuda.h"

#include <math.h>
#include <stdlib.h>

enum { KEEPS = 3, SAMPLE = 64 };
static const double keeps[KEEPS] = {0.5, 0.2, 0.1};

typedef struct {
    long N, A, D, nb;
    ts_tensor q, k, v, out, other; /* bf16 [1, N, A, D] */
    ts_tensor lse, sums;
    ts_plan plan[KEEPS];
    ts_attention dense, fused, sparse[KEEPS];
    const ts_plan *planned[KEEPS];
    ts_topk choice;
    ts_dnn_heads heads; /* of cuDNN, where it has a plan */
    size_t work;
    bool sdpa;
} set_up;

static ts_status run_attention(bench *b, const void *args)
{
    return ts_attention_op(b->ctx.dev, *(const ts_attention *)args);
}
static ts_status run_sums(bench *b, const void *args)
{
    const set_up *s = args;
    return ts_block_sums_op(
        b->ctx.dev,
        (ts_block_sums){
            .q = s->q, .k = s->k, .scale = s->dense.scale, .lse = s->lse, .sums = s->sums});
}
static ts_status run_choice(bench *b, const void *args)
{
    return ts_topk_op(b->ctx.dev, *(const ts_topk *)args);
}
static ts_status run_sdpa(bench *b, const void *args)
{
    const set_up *s = args;
    ts_cuda *c = ts_cuda_of(b->device);
    void *scratch;
    ts_status st = ts_cuda_scratch(c, s->work + 1, &scratch);
    if (st || bench_counts(b)) return st;
    return ts_dnn_attention(c->dnn, &b->ctx.err, &s->heads, ts_cuda_at(s->q.p), ts_cuda_at(s->k.p),
                            ts_cuda_at(s->v.p), ts_cuda_at(s->other.p), s->dense.scale, scratch,
                            c->queue);
}

static ts_topk choose(const set_up *s, double keep, ts_plan plan)
{
    return (ts_topk){
        .scores = ts_view(s->sums, TS_DIM(s->A, s->nb, s->nb)), .keep = keep, .plan = plan};
}

static ts_status take_inputs(bench *b, set_up *s)
{
    ts_status st;
    ts_tensor *t[] = {&s->q, &s->k, &s->v};
    ts_arena *arena = &b->ctx.arena;
    for (int i = 0; i < 3; i++) {
        TRY(bench_random(b, TS_BF16, s->N, s->A * s->D, 1, t[i]));
        *t[i] = (ts_tensor){t[i]->p, TS_BF16, 4, {1, s->N, s->A, s->D}, s->A * s->D};
    }
    s->out = s->other = s->q;
    s->out.p = bench_take(b, TS_BF16, s->N, s->A * s->D).p;
    s->other.p = bench_take(b, TS_BF16, s->N, s->A * s->D).p;
    s->lse = ts_take(arena, TS_F32, TS_DIM(1, s->A, s->N));
    s->sums = ts_take(arena, TS_F32, TS_DIM(1, s->A, s->nb, s->nb));
    s->dense = (ts_attention){
        .q = s->q, .k = s->k, .v = s->v, .out = s->out, .scale = (float)(1 / sqrt((double)s->D))};
    s->fused = s->dense;
    s->fused.lse = s->lse;
    s->fused.sums = s->sums;
    TRY(run_attention(b, &s->fused));
    for (int i = 0; i < KEEPS; i++) { /* plans of a real search: every row its budget */
        ts_tensor bits = ts_take(arena, TS_U32, TS_DIM(s->A, s->nb, ts_plan_words((int)s->nb)));
        s->plan[i] = (ts_plan){.A = (int)s->A,
                               .nb = (int)s->nb,
                               .bits = bits.p,
                               .share = (double)ts_plan_budget(keeps[i], s->nb) / (double)s->nb};
        TRY(ts_topk_op(b->ctx.dev, choose(s, keeps[i], s->plan[i])));
        s->planned[i] = s->plan + i;
        s->sparse[i] = s->dense;
        s->sparse[i].plan = s->planned + i;
    }
    s->choice = choose(s, keeps[1], s->plan[1]);
done:
    return st;
}

static ts_status open_set_up(bench *b, long N, long A, long D, set_up **out)
{
    set_up *s = *out = calloc(1, sizeof *s);
    if (!s) return ts_fail(&b->ctx.err, TS_EMEMORY, "no memory for a bench");
    *s = (set_up){.N = N, .A = A, .D = D, .nb = (N + TS_BLOCK - 1) / TS_BLOCK};
    return take_inputs(b, s);
}

/* At both head widths, as wide in all as Wan 1.3B. */
static ts_status measure_widths(bench *b, long N, ts_status (*measure)(bench *, long, long, long))
{
    ts_status st = TS_OK;
    for (long d = 64; d <= 128 && !st; d += 64)
        st = measure(b, b->o.tiny ? 150 : N, b->o.tiny ? 2 : 1536 / d, d);
    return st;
}

/* Relative L2 between some rows of two outputs. */
static ts_status compare(bench *b, const set_up *s, double *difference)
{
    static uint16_t x[SAMPLE * 64 * 128], y[SAMPLE * 64 * 128];
    ts_status st;
    ts_device *dev = b->ctx.dev;
    size_t n = (size_t)((s->N < SAMPLE ? s->N : SAMPLE) * s->A * s->D);
    double off = 0, all = 0;
    *difference = 0;
    TRY(dev->ops->download(dev, x, s->out.p, n * sizeof *x));
    TRY(dev->ops->download(dev, y, s->other.p, n * sizeof *y));
    for (size_t i = 0; i < n; i++) {
        union {
            uint32_t u;
            float f;
        } p = {(uint32_t)x[i] << 16}, q = {(uint32_t)y[i] << 16};
        off += ((double)p.f - q.f) * ((double)p.f - q.f);
        all += (double)p.f * p.f;
    }
    *difference = all > 0 ? sqrt(off / all) : INFINITY;
done:
    return st;
}

/* Seconds of PyTorch for this shape; 0: not known. */
static double find_torch(const bench *b, const set_up *s)
{
    double seconds = 0, t;
    long D, N;
    FILE *f = b->o.torch ? fopen(b->o.torch, "r") : NULL;
    while (f && fscanf(f, "%ld %ld %lf", &D, &N, &t) == 3)
        if (D == s->D && N == s->N) seconds = t;
    if (f) fclose(f);
    return seconds;
}

static bench_row row_of(const set_up *s, const char *what, double seconds, double share)
{
    bench_row r = {
        .section = "attention", .what = what, .seconds = seconds, .unit = "FLOP", .against = ""};
    snprintf(r.of, sizeof r.of, "%ld tokens, %ld heads of %ld", s->N, s->A, s->D);
    r.rate = 4.0 * share * (double)s->N * (double)s->N * (double)(s->A * s->D) / seconds;
    return r;
}

/* Both kernels computed the same? Else their times say nothing of each other. */
static ts_status say_sdpa(bench *b, set_up *s, double own, double seconds)
{
    double off;
    ts_status st = run_attention(b, &s->dense);
    if (!st) st = run_sdpa(b, s);
    if (!st) st = compare(b, s, &off);
    if (st) return st;
    bench_row r = row_of(s, "dense, cuDNN", seconds, 1);
    bench_say(b, &r);
    r = row_of(s, "dense", own, 1);
    /* two roundings to bf16 of probabilities, of the output and of sums in another order */
    bool same = off < 0.02;
    r.ratio = same ? seconds / own : 0;
    r.against = "of cuDNN's rate";
    r.bar = BENCH_AT_LEAST;
    r.limit = 0.9;
    bench_say(b, &r);
    if (!same)
        return ts_fail(&b->ctx.err, TS_ENUMBER,
                       "attention of %ld tokens, %ld heads of %ld: cuDNN's differs by %.3g", s->N,
                       s->A, s->D, off);
    return TS_OK;
}

enum { DENSE, FUSED, CACHED, CHOICE, SPARSE, SDPA = SPARSE + KEEPS, CALLS };

static ts_status say_times(bench *b, set_up *s, const bench_call call[CALLS])
{
    ts_status st = TS_OK;
    double dense = call[DENSE].seconds, torch = find_torch(b, s);
    bench_row r = row_of(s, "dense", dense, 1);
    if (s->sdpa)
        st = say_sdpa(b, s, dense, call[SDPA].seconds);
    else
        bench_say(b, &r);
    if (torch > 0) {
        r = row_of(s, "dense, PyTorch", torch, 1);
        r.ratio = torch / dense;
        r.against = "times as long as dense";
        bench_say(b, &r);
    }
    static const char *const what[] = {"dense with sums", "sums alone", "top-k of sums"};
    for (int i = FUSED; i <= CHOICE; i++) {
        r = row_of(s, what[i - FUSED], call[i].seconds, i == FUSED ? 1 : 0.5);
        if (i == CHOICE) r.rate = 0;
        r.ratio = call[i].seconds / dense;
        r.against = "of dense";
        bench_say(b, &r);
    }
    for (int i = 0; i < KEEPS; i++) {
        static const char *const name[KEEPS] = {"half of the blocks", "a fifth", "a tenth"};
        double share = s->plan[i].share;
        r = row_of(s, name[i], call[SPARSE + i].seconds, share);
        r.ratio = r.seconds / (dense * share);
        r.against = "of dense x kept";
        r.bar = BENCH_AT_MOST;
        r.limit = 1.15;
        bench_say(b, &r);
    }
    return st;
}

static ts_status measure_size(bench *b, long N, long A, long D)
{
    ts_status st;
    set_up *s = NULL;
    size_t mark = ts_mark(&b->ctx.arena);
    TRY(open_set_up(b, N, A, D, &s));
    enum { WORKSPACE = 64 << 20 };
    ts_dnn *dnn = ts_cuda_of(b->device)->dnn;
    s->heads = (ts_dnn_heads){N, N, A, D, A * D, A * D, A * D, A * D};
    s->sdpa = dnn && ts_dnn_plan_attention(dnn, &s->heads, WORKSPACE, &s->work);
    if (!s->sdpa && !bench_counts(b))
        fprintf(b->o.say, "attention: cuDNN is not here, or has no plan for %ld heads of %ld\n", A,
                D);
    bench_call call[CALLS] = {[DENSE] = {.run = run_attention, .args = &s->dense},
                              [FUSED] = {.run = run_attention, .args = &s->fused},
                              [CACHED] = {.run = run_sums, .args = s},
                              [CHOICE] = {.run = run_choice, .args = &s->choice},
                              [SDPA] = {.run = run_sdpa, .args = s}};
    for (int i = 0; i < KEEPS; i++)
        call[SPARSE + i] = (bench_call){.run = run_attention, .args = s->sparse + i};
    TRY(bench_time(b, call, s->sdpa ? CALLS : SDPA));
    if (!bench_counts(b)) TRY(say_times(b, s, call));
done:
    free(s);
    ts_release(&b->ctx.arena, mark);
    return st;
}

/* ---- the kernels beside each other ---- */
typedef struct {
    const ts_flash_kernel *f;
    const ts_attention *a;
} flash_call;

static ts_status run_flash(bench *b, const void *args)
{
    const flash_call *c = args;
    ts_cuda *cuda = ts_cuda_of(b->device);
    if (bench_counts(b)) return TS_OK;
    return ts_cuda_result(cuda, ts_flash_run(c->f, c->a, &cuda->chip, NULL, cuda->queue),
                          "attention");
}

/* Every flash kernel of a head width without sums: dense, and with each plan. */
static ts_status measure_kernels(bench *b, long N, long A, long D)
{
    ts_status st;
    set_up *s = NULL;
    size_t mark = ts_mark(&b->ctx.arena);
    TRY(open_set_up(b, N, A, D, &s));
    for (int i = 0; i < ts_flash_count; i++) {
        const ts_flash_kernel *f = ts_flash_kernels + i;
        if (f->D != D || !ts_flash_fits(f, &s->dense, &ts_cuda_of(b->device)->chip)) continue;
        flash_call c[1 + KEEPS] = {{f, &s->dense}};
        bench_call call[1 + KEEPS] = {{.run = run_flash, .args = c}};
        for (int k = 1; k <= KEEPS; k++) {
            c[k] = (flash_call){f, s->sparse + k - 1};
            call[k] = (bench_call){.run = run_flash, .args = c + k};
        }
        TRY(bench_time(b, call, 1 + KEEPS));
        for (int k = 0; k <= KEEPS && !bench_counts(b); k++) {
            double share = k ? s->plan[k - 1].share : 1;
            bench_row r = row_of(s, f->name, call[k].seconds, share);
            r.section = "kernel";
            snprintf(r.of, sizeof r.of, "%ld tokens, %.2f of the blocks", N, share);
            r.ratio = call[k].seconds / (call[0].seconds * share);
            r.against = "of its dense x kept";
            bench_say(b, &r);
        }
    }
done:
    free(s);
    ts_release(&b->ctx.arena, mark);
    return st;
}

ts_status bench_kernels_all(ts_ctx *ctx, void *user)
{
    (void)ctx;
    return measure_widths(user, 32760, measure_kernels);
}

/* ---- what a plan leaves out ---- */
typedef struct {
    ts_attention sparse, means; /* a fifth of the blocks; with the means of the others */
    ts_pool pool_k, pool_v;
    ts_pool_sums weights;
    ts_rest_linear linear;
    ts_head_errors errors;
} rest_calls;

static ts_status run_pools(bench *b, const void *args)
{
    const rest_calls *r = args;
    ts_status st = ts_pool_op(b->ctx.dev, r->pool_k);
    return st ? st : ts_pool_op(b->ctx.dev, r->pool_v);
}
static ts_status run_weights(bench *b, const void *args)
{
    return ts_pool_sums_op(b->ctx.dev, ((const rest_calls *)args)->weights);
}
static ts_status run_linear_rest(bench *b, const void *args)
{
    return ts_rest_linear_op(b->ctx.dev, ((const rest_calls *)args)->linear);
}
static ts_status run_errors(bench *b, const void *args)
{
    return ts_head_errors_op(b->ctx.dev, ((const rest_calls *)args)->errors);
}

static void set_rest(bench *b, set_up *s, rest_calls *r)
{
    ts_arena *arena = &b->ctx.arena;
    ts_tensor k = ts_take(arena, TS_F32, TS_DIM(1, s->nb, s->A, s->D)), v;
    k.ld = s->A * s->D; /* from block to block */
    v = k;
    v.p = ts_take(arena, TS_F32, TS_DIM(s->nb, s->A * s->D)).p;
    ts_tensor own = ts_take(arena, TS_F32, TS_DIM(1, s->A, s->N));
    r->sparse = r->means = s->sparse[1];
    r->means.lse = s->lse;
    r->means.pooled_k = k;
    r->means.pooled_v = v;
    r->pool_k = (ts_pool){s->k, k};
    r->pool_v = (ts_pool){s->v, v};
    r->weights = (ts_pool_sums){
        .q = s->q, .k = k, .scale = s->dense.scale, .lse = own, .sums = s->sums};
    r->linear = (ts_rest_linear){.q = s->q,
                                 .k = s->k,
                                 .v = s->v,
                                 .out = s->out,
                                 .pooled_k = k,
                                 .pooled_v = v,
                                 .scale = s->dense.scale,
                                 .sums = s->sums,
                                 .own = own,
                                 .lse = s->lse,
                                 .plan = s->plan[1]};
    r->errors = (ts_head_errors){
        .x = s->out, .of = s->other, .error = ts_take(arena, TS_F32, TS_DIM(s->A))};
}

static ts_status measure_rest(bench *b, long N, long A, long D)
{
    static const char *const what[] = {"a fifth, with means of the others", "means of k and v",
                                       "weights of means", "linear part", "errors of heads"};
    ts_status st;
    rest_calls r = {0};
    set_up *s = NULL;
    size_t mark = ts_mark(&b->ctx.arena);
    TRY(open_set_up(b, N, A, D, &s));
    set_rest(b, s, &r);
    bench_call call[] = {{.run = run_attention, .args = &r.sparse},
                         {.run = run_attention, .args = &r.means},
                         {.run = run_pools, .args = &r},
                         {.run = run_weights, .args = &r},
                         {.run = run_linear_rest, .args = &r},
                         {.run = run_errors, .args = &r}};
    enum { REST = sizeof call / sizeof *call };
    TRY(run_pools(b, &r)); /* each has what it reads */
    TRY(run_weights(b, &r));
    TRY(run_attention(b, &r.means));
    TRY(ts_cast(b->ctx.dev, ts_tensor_of(s->out.p, TS_BF16, 2, (long[]){N, A * D}),
                ts_tensor_of(s->other.p, TS_BF16, 2, (long[]){N, A * D})));
    TRY(bench_time(b, call, REST));
    for (int i = 1; i < REST && !bench_counts(b); i++) {
        bench_row row = row_of(s, what[i - 1], call[i].seconds, 0);
        row.section = "rest";
        row.ratio = call[i].seconds / call[0].seconds;
        row.against = "of a fifth alone";
        bench_say(b, &row);
    }
done:
    free(s);
    ts_release(&b->ctx.arena, mark);
    return st;
}

ts_status bench_rest_all(ts_ctx *ctx, void *user)
{
    (void)ctx;
    return measure_widths(user, 32760, measure_rest);
}

ts_status bench_attention_all(ts_ctx *ctx, void *user)
{
    /* 480x832x81 and 720x1280x81 of Wan, 720x1280x129 of HunyuanVideo; one more, smaller */
    static const long N[] = {8192, 32760, 75600, 118800};
    bench *b = user;
    ts_status st = TS_OK;
    (void)ctx;
    for (int i = 0; i < (b->o.tiny ? 1 : 4); i++) TRY(measure_widths(b, N[i], measure_size));
done:
    return st;
}
