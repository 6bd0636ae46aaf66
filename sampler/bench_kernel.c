/* The attention kernels alone: what they reach of the machine's peak, what a plan gains of what it
 * promises, what a search costs. Everything of one number of tokens is timed in turns, so that
 * whatever else the machine does falls on all of it; ratios are of medians. */
#include "backend/median.h"
#include "backend/number.h"
#include "backend/philox.h"
#include "sampler/run.h"
#include "sampler/tessera-bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 32, KINDS = 9, CALLS = MOST + 8 };
static const char *const names[KINDS] = {"peak",          "dense",       "fused search",
                                         "cached search", "packing",     "sparse",
                                         "with means",    "with linear", "uneven"};

typedef struct { /* one thing to time */
    ts_kernel_row row;
    ts_device *dev;
    int threads;   /* of dev */
    ts_dtype type; /* of peaks */
    ts_plan plan;
    double work, cost; /* floating-point operations; the same in time of all threads */
    double *samples;   /* [repeats] seconds; of peaks: floating-point operations a second */
    double *packing;   /* [repeats] seconds of these, a thread */
    double *cpu;       /* [repeats] seconds of all threads */
} call;

typedef struct {
    ts_ctx *ctx;
    const ts_kernel_bench *b;
    /* devices of all threads of the host and of one: host memory is an address on both. one NULL:
     * there is no more than one thread */
    ts_device *all, *one;
    ts_device_facts facts; /* of all */
    ts_arena arena;
    ts_tensor q, k, v, out, lse, sums;
    ts_tensor pooled_k, pooled_v, own; /* for what a plan leaves out */
    ts_tensor bits[MOST + 1];
    call calls[CALLS];
    int n;
    double *store;             /* of samples */
    double done, total, start; /* cost */
} bench;

/* ---- the clock ---- */
static void report_progress(bench *x)
{
    double percent = 100 * x->done / x->total;
    ts_progress(x->ctx, (ts_event){.phase = TS_PHASE_BENCH,
                                   .step = percent > 99 ? 99 : (int)percent,
                                   .steps = 100,
                                   .seconds = ts_seconds() - x->start});
}

/* ---- plans ---- */
static uint32_t draw_word(uint64_t seed, uint64_t i)
{
    uint32_t w[4];
    ts_philox(seed, i / 4, 0, w);
    return w[i % 4];
}

/* `want` different blocks of nb into a row of bits: the first of a random order. */
static void keep_some(uint32_t *row, int *order, int nb, int want, uint64_t seed)
{
    for (int i = 0; i < nb; i++) order[i] = i;
    for (int i = 0; i < want; i++) {
        int j = i + (int)(((uint64_t)draw_word(seed, (uint64_t)i) * (uint64_t)(nb - i)) >> 32),
            t = order[i];
        order[i] = order[j];
        order[j] = t;
        row[order[i] / 32] |= 1u << (order[i] % 32);
    }
}

/* keep in every row; uneven: from 0.1 to 1.9 of that. Sets plan and what it keeps. */
static ts_status fill_plan(bench *x, call *c, ts_tensor bits, bool uneven)
{
    int A = (int)bits.dim[0], nb = (int)bits.dim[1];
    long words = bits.dim[2], kept = 0;
    uint32_t *host = calloc((size_t)(A * nb * words), sizeof *host);
    int *order = malloc((size_t)nb * sizeof *order);
    ts_status st = host && order ? TS_OK
                                 : ts_fail(&x->ctx->err, TS_EMEMORY, "no memory for a plan");
    for (long r = 0; !st && r < (long)A * nb; r++) {
        double share = c->row.keep *
                       (uneven ? 0.1 + 1.8 * draw_word(1, (uint64_t)r) / 4294967296.0 : 1);
        int want = (int)(share * nb + 0.5);
        want = want < 1 ? 1 : want > nb ? nb : want;
        kept += want;
        keep_some(host + r * words, order, nb, want, 2 + (uint64_t)r);
    }
    c->row.kept = (double)kept / ((double)A * nb * nb);
    c->plan = (ts_plan){.A = A, .nb = nb, .bits = bits.p, .share = c->row.kept};
    if (!st)
        st = x->all->ops->upload(x->all, bits.p, host, (size_t)(A * nb * words) * sizeof *host);
    free(host);
    free(order);
    return st;
}

/* ---- what is timed ---- */
static call *add_call(bench *x, ts_kernel_what what, long tokens, double keep, ts_device *dev)
{
    call *c = x->calls + x->n;
    *c = (call){.dev = dev,
                .threads = dev == x->one ? 1 : x->facts.threads,
                .samples = x->store + 3 * (size_t)x->n * (size_t)x->b->repeats};
    c->packing = c->samples + x->b->repeats;
    c->cpu = c->packing + x->b->repeats;
    c->row = (ts_kernel_row){.what = what,
                             .name = names[what],
                             .precision = x->ctx->act == TS_BF16 ? "bf16" : "f32",
                             .level = x->facts.level,
                             .tokens = tokens,
                             .threads = c->threads,
                             .keep = keep,
                             .kept = keep};
    x->n++;
    return c;
}

static void set_work(bench *x, call *c)
{
    double dense = 4.0 * (double)c->row.tokens * (double)c->row.tokens * x->b->heads * x->b->dim;
    c->work = c->row.what == TS_KERNEL_PEAK || c->row.what == TS_KERNEL_PACKING
                  ? 0
                  : dense * c->row.kept * (c->row.what == TS_KERNEL_CACHED ? 0.5 : 1);
    c->cost = c->work * x->facts.threads / c->threads;
}

static double find_smallest_keep(const ts_kernel_bench *b)
{
    double least = 1;
    for (int i = 0; i < b->keep_count; i++) least = b->keep[i] < least ? b->keep[i] : least;
    return least < 1 ? least : 0.5;
}

/* The plan of which what it leaves out is measured; -1: every share is all. */
static int find_a_fifth(const ts_kernel_bench *b)
{
    int best = -1;
    for (int i = 0; i < b->keep_count; i++)
        if (b->keep[i] < 1 && (best < 0 || fabs(b->keep[i] - 0.2) < fabs(b->keep[best] - 0.2)))
            best = i;
    return best;
}

static void add_rest(bench *x, long tokens, const call *sparse)
{
    for (int w = TS_KERNEL_MEANS; w <= TS_KERNEL_LINEAR; w++) {
        call *c = add_call(x, (ts_kernel_what)w, tokens, sparse->row.keep, x->all);
        c->plan = sparse->plan;
        c->row.kept = sparse->row.kept;
    }
}

/* The list of one number of tokens; peaks with each, because ratios are of one moment. */
static ts_status list_calls(bench *x, long tokens)
{
    ts_status st = TS_OK;
    int plans = 0;
    x->n = 0;
    for (ts_dtype t = TS_F32; t <= TS_BF16; t++) {
        call *c = add_call(x, TS_KERNEL_PEAK, 0, 0, x->all);
        c->type = t;
        c->row.precision = t == TS_BF16 ? "bf16" : "f32";
    }
    add_call(x, TS_KERNEL_DENSE, tokens, 1, x->all);
    add_call(x, TS_KERNEL_FUSED, tokens, 1, x->all);
    add_call(x, TS_KERNEL_CACHED, tokens, 1, x->all);
    add_call(x, TS_KERNEL_PACKING, tokens, 1, x->all);
    for (int i = 0; i < x->b->keep_count; i++) {
        if (x->b->keep[i] >= 1) continue;
        call *sparse = add_call(x, TS_KERNEL_SPARSE, tokens, x->b->keep[i], x->all);
        TRY(fill_plan(x, sparse, x->bits[plans++], false));
        if (i == find_a_fifth(x->b)) add_rest(x, tokens, sparse);
    }
    if (x->one) {
        call *alone = add_call(x, TS_KERNEL_UNEVEN, tokens, find_smallest_keep(x->b), x->one);
        TRY(fill_plan(x, alone, x->bits[plans], true));
        call *together = add_call(x, TS_KERNEL_UNEVEN, tokens, alone->row.keep, x->all);
        together->plan = alone->plan;
        together->row.kept = alone->row.kept;
    }
    for (int i = 0; i < x->n; i++) set_work(x, x->calls + i);
done:
    return st;
}

/* Attention whose plan's rest takes part: all that a sparse call of a run does. */
static ts_status run_rest(bench *x, const call *c, ts_attention a)
{
    ts_status st;
    bool linear = c->row.what == TS_KERNEL_LINEAR;
    TRY(ts_pool_op(c->dev, (ts_pool){x->k, x->pooled_k}));
    TRY(ts_pool_op(c->dev, (ts_pool){x->v, x->pooled_v}));
    a.pooled_k = x->pooled_k;
    a.pooled_v = x->pooled_v;
    if (linear) {
        a.lse = x->lse;
        TRY(ts_pool_sums_op(
            c->dev, (ts_pool_sums){x->q, x->pooled_k, a.scale, .lse = x->own, .sums = x->sums}));
    }
    TRY(ts_attention_op(c->dev, a));
    if (linear)
        TRY(ts_rest_linear_op(c->dev, (ts_rest_linear){.q = x->q,
                                                       .k = x->k,
                                                       .v = x->v,
                                                       .out = x->out,
                                                       .pooled_k = x->pooled_k,
                                                       .pooled_v = x->pooled_v,
                                                       .scale = a.scale,
                                                       .sums = x->sums,
                                                       .own = x->own,
                                                       .lse = x->lse,
                                                       .plan = c->plan}));
done:
    return st;
}

static ts_status run_call(bench *x, const call *c)
{
    const float scale = 1 / sqrtf((float)x->b->dim);
    const ts_plan *plan[] = {&c->plan};
    ts_attention a = {.q = x->q, .k = x->k, .v = x->v, .out = x->out, .scale = scale};
    if (c->row.what == TS_KERNEL_CACHED)
        return ts_block_sums_op(
            c->dev,
            (ts_block_sums){.q = x->q, .k = x->k, .scale = scale, .lse = x->lse, .sums = x->sums});
    if (c->row.what == TS_KERNEL_FUSED) {
        a.lse = x->lse;
        a.sums = x->sums;
    }
    if (c->plan.nb) a.plan = plan;
    if (c->row.what == TS_KERNEL_MEANS || c->row.what == TS_KERNEL_LINEAR) return run_rest(x, c, a);
    return ts_attention_op(c->dev, a);
}

/* One sample; the packing of a dense call is a row of its own as well. */
static ts_status time_sample(bench *x, call *c, int repeat)
{
    ts_status st = TS_OK;
    double start = ts_seconds(), cpu = ts_process_seconds(), packed = ts_facts(c->dev).packing;
    if (c->row.what == TS_KERNEL_PACKING) goto done;
    if (c->row.what == TS_KERNEL_PEAK)
        TRY(c->dev->ops->peak(c->dev, c->type, c->samples + repeat));
    else {
        TRY(run_call(x, c));
        TRY(c->dev->ops->join(c->dev));
        c->samples[repeat] = ts_seconds() - start;
        c->cpu[repeat] = ts_process_seconds() - cpu;
        c->packing[repeat] = (ts_facts(c->dev).packing - packed) / c->threads;
    }
    c->row.repeats = repeat + 1;
    for (int i = 0; c->row.what == TS_KERNEL_DENSE && i < x->n; i++)
        if (x->calls[i].row.what == TS_KERNEL_PACKING) {
            x->calls[i].samples[repeat] = x->calls[i].packing[repeat] = c->packing[repeat];
            x->calls[i].cpu[repeat] = c->packing[repeat] * c->threads;
            x->calls[i].row.repeats = repeat + 1;
        }
    x->done += c->cost;
    report_progress(x);
    TRY(ts_stopped(x->ctx));
done:
    return st;
}

/* ---- what is said ---- */
/* sparse: seconds of the last sparse row, whose plan those of what it leaves out have */
static double ratio_of(const ts_kernel_row *r, double dense, double sparse, double alone)
{
    switch (r->what) {
    case TS_KERNEL_SPARSE: return dense > 0 ? dense * r->kept / r->seconds : 0;
    case TS_KERNEL_FUSED:
    case TS_KERNEL_CACHED:
    case TS_KERNEL_PACKING: return dense > 0 ? r->seconds / dense : 0;
    case TS_KERNEL_MEANS:
    case TS_KERNEL_LINEAR: return sparse > 0 ? r->seconds / sparse : 0;
    case TS_KERNEL_UNEVEN: return alone > 0 && r->threads > 1 ? alone / r->seconds : 0;
    default: return 0;
    }
}

static void report_rows(bench *x, bool first)
{
    double peak = 0, dense = 0, bare = 0, sparse = 0, alone = 0; /* bare: dense unpacked */
    for (int i = 0; i < x->n; i++) {
        call *c = x->calls + i;
        ts_kernel_row *r = &c->row;
        if (!r->repeats) continue;
        double m = ts_median(c->samples, r->repeats);
        if (r->what == TS_KERNEL_PEAK) {
            r->flops = m;
            if (c->type == x->ctx->act) peak = m;
            if (m > 0 && first) x->b->row(x->b->user, r);
            continue;
        }
        /* plain C reads keys and values as they are */
        if (r->what == TS_KERNEL_PACKING && m <= 0) continue;
        r->seconds = m;
        r->cpu = ts_median(c->cpu, r->repeats);
        r->fastest = c->samples[0]; /* the median has sorted them */
        r->slowest = c->samples[r->repeats - 1];
        r->flops = c->work / m;
        r->packing = ts_median(c->packing, r->repeats);
        if (r->what == TS_KERNEL_DENSE) {
            dense = m;
            bare = m - r->packing;
        }
        if (r->what == TS_KERNEL_SPARSE) sparse = m;
        if (r->what == TS_KERNEL_SPARSE && bare > 0)
            r->kernel_ratio = bare * r->kept / (m - r->packing);
        if (r->what == TS_KERNEL_UNEVEN && r->threads == 1) alone = m;
        r->peak_share = peak > 0 ? r->flops / (peak / x->facts.threads * r->threads) : 0;
        r->ratio = ratio_of(r, dense, sparse, alone);
        x->b->row(x->b->user, r);
    }
}

/* ---- one number of tokens ---- */
static void take_tensors(bench *x, long N)
{
    long A = x->b->heads, D = x->b->dim, nb = (N + TS_BLOCK - 1) / TS_BLOCK;
    ts_tensor *big[] = {&x->q, &x->k, &x->v, &x->out};
    /* from token to token */
    for (int i = 0; i < 4; i++) {
        *big[i] = ts_take(&x->arena, x->ctx->act, TS_DIM(1, N, A, D));
        big[i]->ld = A * D;
    }
    ts_tensor *few[] = {&x->pooled_k, &x->pooled_v}; /* from block to block */
    for (int i = 0; i < 2; i++) {
        *few[i] = ts_take(&x->arena, TS_F32, TS_DIM(1, nb, A, D));
        few[i]->ld = A * D;
    }
    x->lse = ts_take(&x->arena, TS_F32, TS_DIM(1, A, N));
    x->own = ts_take(&x->arena, TS_F32, TS_DIM(1, A, N));
    x->sums = ts_take(&x->arena, TS_F32, TS_DIM(1, A, nb, nb));
    for (int i = 0; i <= x->b->keep_count; i++)
        x->bits[i] = ts_take(&x->arena, TS_U32, TS_DIM(A, nb, ts_plan_words((int)nb)));
}

/* What the tensors take, and on the devices the scratch of every operation. */
static ts_status size_of(bench *x, long N, size_t *bytes)
{
    ts_status st = TS_OK;
    ts_device *dev[] = {x->all, x->one};
    for (int i = 0; i < 2 && dev[i]; i++) {
        dev[i]->counting = true;
        TRY(ts_arena_open(&x->arena, dev[i], 0));
        take_tensors(x, N);
        for (int w = TS_KERNEL_DENSE; w <= TS_KERNEL_CACHED; w++)
            TRY(run_call(x, &(call){.row.what = (ts_kernel_what)w, .dev = dev[i]}));
        ts_plan plan = {x->b->heads, (int)x->bits[0].dim[1], x->bits[0].p, 0.2};
        for (int w = TS_KERNEL_MEANS; w <= TS_KERNEL_LINEAR; w++)
            TRY(run_call(x, &(call){.row.what = (ts_kernel_what)w, .dev = dev[i], .plan = plan}));
        *bytes = x->arena.peak;
        ts_arena_close(&x->arena);
        dev[i]->counting = false;
    }
done:
    ts_arena_close(&x->arena);
    x->all->counting = false;
    if (x->one) x->one->counting = false;
    return st;
}

/* Queries and keys of unit variance: logits of unit variance, as a layer's are before training
 * makes them sharper. */
static ts_status fill_inputs(bench *x)
{
    enum { PIECE = 1 << 20 };
    ts_status st = TS_OK;
    ts_tensor *t[] = {&x->q, &x->k, &x->v};
    float *f = malloc(PIECE * sizeof *f);
    void *raw = malloc(PIECE * sizeof *f);
    if (!f || !raw) TRY(ts_fail(&x->ctx->err, TS_EMEMORY, "no memory for random numbers"));
    for (int i = 0; i < 3; i++) {
        size_t n = (size_t)ts_count(*t[i]), each = ts_dtype_size(t[i]->type);
        /* the same numbers again and again: no kernel looks */
        ts_normals((uint64_t)i, 0, 0, f, n < PIECE ? n : PIECE);
        if (t[i]->type == TS_BF16)
            for (size_t k = 0; k < (n < PIECE ? n : PIECE); k++) {
                uint32_t bits;
                memcpy(&bits, f + k, sizeof bits);
                ((uint16_t *)raw)[k] = (uint16_t)(bits >> 16);
            }
        for (size_t at = 0; at < n; at += PIECE)
            TRY(x->all->ops->upload(x->all, ts_at(t[i]->p, at * each),
                                    t[i]->type == TS_BF16 ? raw : (void *)f,
                                    (n - at < PIECE ? n - at : PIECE) * each));
    }
done:
    free(f);
    free(raw);
    return st;
}

static ts_status measure_tokens(bench *x, int which)
{
    ts_status st = TS_OK;
    char need[TS_NUMBER_TEXT], may[TS_NUMBER_TEXT];
    size_t bytes = 0;
    long N = x->b->tokens[which];
    TRY(size_of(x, N, &bytes));
    if (bytes > x->ctx->memory)
        TRY(ts_fail(&x->ctx->err, TS_EMEMORY,
                    "%ld tokens of %d heads of %d need %s, %s may be used", N, x->b->heads,
                    x->b->dim, ts_bytes_text((double)bytes, need),
                    ts_bytes_text((double)x->ctx->memory, may)));
    TRY(ts_arena_open(&x->arena, x->all, bytes));
    take_tensors(x, N);
    TRY(fill_inputs(x));
    TRY(list_calls(x, N));
    TRY(run_call(x, x->calls + x->n - 1)); /* the shortest: memory is there, threads are awake */
    for (int r = 0; r < x->b->repeats && !st; r++)
        for (int i = 0; i < x->n && !st; i++) st = time_sample(x, x->calls + i, r);
    if (!st || st == TS_ESTOP) report_rows(x, which == 0);
done:
    ts_arena_close(&x->arena);
    return st;
}

static ts_status check_bench(ts_ctx *c, const ts_kernel_bench *b)
{
    if (b->tokens_count < 1 || b->tokens_count > MOST)
        return ts_fail(&c->err, TS_EUSAGE, "bench: %d numbers of tokens, wanted 1 to %d",
                       b->tokens_count, MOST);
    if (b->keep_count < 0 || b->keep_count > MOST)
        return ts_fail(&c->err, TS_EUSAGE, "bench: %d shares to keep, wanted up to %d",
                       b->keep_count, MOST);
    for (int i = 0; i < b->tokens_count; i++)
        if (b->tokens[i] < 1 || b->tokens[i] > 1 << 24)
            return ts_fail(&c->err, TS_EUSAGE, "bench: %ld tokens, wanted 1 to %d", b->tokens[i],
                           1 << 24);
    for (int i = 0; i < b->keep_count; i++)
        if (!(b->keep[i] > 0 && b->keep[i] <= 1))
            return ts_fail(&c->err, TS_EUSAGE,
                           "bench: a share of %g to keep, wanted more than 0, at most 1",
                           b->keep[i]);
    if (b->heads < 1 || b->dim < 1 || b->repeats < 1)
        return ts_fail(&c->err, TS_EUSAGE,
                       "bench: %d heads of %d, %d repeats, wanted at least 1 of each", b->heads,
                       b->dim, b->repeats);
    return TS_OK;
}

ts_status ts_bench_kernel(ts_ctx *ctx, const ts_kernel_bench *b)
{
    ts_status st = check_bench(ctx, b);
    bench *x = NULL;
    if (st) return st;
    x = calloc(1, sizeof *x);
    ts_device_facts facts = ts_facts(ctx->dev);
    ts_device_options like = {ctx->dev->name, facts.threads, facts.level};
    double *store = malloc(3 * (size_t)CALLS * (size_t)b->repeats * sizeof *store),
           extra = 2.5 + (1 + facts.threads) * find_smallest_keep(b);
    if (!x || !store) TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for a bench"));
    *x = (bench){.ctx = ctx, .b = b, .facts = facts, .store = store, .start = ts_seconds()};
    TRY(ts_device_open(like, &ctx->env, &ctx->err, &x->all));
    x->all->time_packing = true;
    like.threads = 1;
    if (facts.threads > 1) {
        TRY(ts_device_open(like, &ctx->env, &ctx->err, &x->one));
        x->one->time_packing = true;
    }
    for (int i = 0; i < b->keep_count; i++)
        extra += b->keep[i] < 1 ? b->keep[i] * (i == find_a_fifth(b) ? 3 : 1) : 0;
    for (int i = 0; i < b->tokens_count; i++)
        x->total += 4.0 * (double)b->tokens[i] * (double)b->tokens[i] * b->heads * b->dim *
                    b->repeats * extra;
    report_progress(x);
    for (int i = 0; i < b->tokens_count; i++) TRY(measure_tokens(x, i));
    ts_progress(ctx, (ts_event){.phase = TS_PHASE_BENCH,
                                .step = 100,
                                .steps = 100,
                                .seconds = ts_seconds() - x->start});
done:
    if (x) {
        ts_device_close(x->all);
        ts_device_close(x->one);
    }
    free(store);
    free(x);
    return st;
}
