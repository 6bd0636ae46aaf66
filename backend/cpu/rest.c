/* The first-order part of what a plan leaves out (ts_rest_linear), as three products: C_j of every
 * block, M_p of every query block, and queries by M_p; by the kernels of attention in f32, a thread
 * a head, else by oneDNN, all threads a head. Errors of heads, and choices by them. */
#include "backend/cpu/rest.h"

#include "backend/cpu/attention.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/ref.h"

#include <math.h>
#include <omp.h>

static long token_of(ts_tensor t, long n, long h) { return n * t.ld + h * t.dim[3]; }

static const float *pooled_of(ts_tensor t, long block, long h)
{
    return (const float *)ts_host_of(t.p) + token_of(t, block, h);
}

static bool is_asked_for(const ts_rest_linear *a, long p)
{
    return a->every < 2 || p % a->every == 0;
}

/* Of block j in query block p: its mean weight in a row, by what C_j is a sum and not a mean. */
static float weight_of(const ts_rest_linear *a, long h, long p, long j)
{
    long N = a->q.dim[1], nb = a->plan.nb;
    if (ts_plan_reads(&a->plan, h, p, j)) return 0;
    return ((const float *)ts_host_of(a->sums.p))[(h * nb + p) * nb + j] * a->scale /
           (float)(ts_block_rows(N, p) * ts_block_rows(N, j));
}

/* What the rest weighs in row n, all blocks together, over what it weighs among pooled keys. */
static float share_of(const ts_rest_linear *a, long h, long n)
{
    long at = h * a->q.dim[1] + n;
    float x = ((const float *)ts_host_of(a->own.p))[at] - ((const float *)ts_host_of(a->lse.p))[at];
    return expf(fminf(x, 0));
}

/* ---- in plain C ---- */
size_t ts_rest_linear_room(const ts_rest_linear *a)
{
    size_t D = (size_t)a->q.dim[3];
    return ((size_t)a->plan.nb + 1) * D * D;
}

static void covariance(const ts_rest_linear *a, long h, long j, double *C)
{
    long D = a->q.dim[3], rows = ts_block_rows(a->q.dim[1], j);
    const float *km = pooled_of(a->pooled_k, j, h), *vm = pooled_of(a->pooled_v, j, h);
    memset(C, 0, (size_t)(D * D) * sizeof *C);
    for (long n = j * TS_BLOCK; n < j * TS_BLOCK + rows; n++)
        for (long d = 0; d < D; d++) {
            double k = ts_load(ts_host_of(a->k.p), a->k.type, token_of(a->k, n, h) + d) - km[d];
            for (long e = 0; e < D; e++)
                C[d * D + e] += k *
                                (ts_load(ts_host_of(a->v.p), a->v.type, token_of(a->v, n, h) + e) -
                                 vm[e]);
        }
}

static void add_linear_ref(const ts_rest_linear *a, long h, long p, const double *M)
{
    long D = a->q.dim[3];
    for (long n = p * TS_BLOCK; n < p * TS_BLOCK + ts_block_rows(a->q.dim[1], p); n++) {
        double share = (double)share_of(a, h, n);
        for (long e = 0; e < D; e++) {
            double y = 0;
            long at = token_of(a->out, n, h) + e;
            for (long d = 0; d < D; d++)
                y += M[d * D + e] *
                     (double)ts_load(ts_host_of(a->q.p), a->q.type, token_of(a->q, n, h) + d);
            ts_store(ts_host_of(a->out.p), a->out.type, at,
                     (float)(ts_load(ts_host_of(a->out.p), a->out.type, at) + share * y));
        }
    }
}

void ts_rest_linear_ref(const ts_rest_linear *a, double *C)
{
    long D = a->q.dim[3], nb = a->plan.nb;
    double *M = C + nb * D * D;
    for (long h = 0; h < a->q.dim[2]; h++) {
        if (ts_form_of(a->form, h, TS_REST_LINEAR) != TS_REST_LINEAR) continue;
        for (long j = 0; j < nb; j++) covariance(a, h, j, C + j * D * D);
        for (long p = 0; p < nb; p++) {
            if (!is_asked_for(a, p)) continue;
            memset(M, 0, (size_t)(D * D) * sizeof *M);
            for (long j = 0; j < nb; j++) {
                double w = (double)weight_of(a, h, p, j);
                for (long i = 0; w != 0 && i < D * D; i++) M[i] += w * C[j * D * D + i];
            }
            add_linear_ref(a, h, p, M);
        }
    }
}

/* ---- by products ---- */
typedef struct {
    const ts_rest_linear *a;
    ts_dtype type; /* of the products' operands */
    long D, nb;
    /* [nb, D, 64] keys and [nb, 64, D] values without their means, [nb, 64, D] queries; zero where
     * a block has no more tokens */
    char *k, *v, *q;
    char *covariance, *weight, *sum; /* [nb, D, D], [nb, nb], [nb, D, D] */
    float *y;                        /* [nb, 64, D] */
    char *scratch;                   /* of products */
} linear_rest;

static size_t lay_out(linear_rest *r, char *at, size_t scratch)
{
    size_t e = ts_dtype_size(r->type), nb = (size_t)r->nb, D = (size_t)r->D,
           rows = nb * TS_BLOCK * D, square = nb * D * D, used = 0;
    struct {
        char **to;
        size_t bytes;
    } part[] = {{&r->k, rows * e},
                {&r->v, rows * e},
                {&r->q, rows * e},
                {&r->sum, square * e},
                {&r->covariance, square * e},
                {&r->weight, nb * nb * e},
                {(char **)&r->y, rows * sizeof *r->y},
                {&r->scratch, scratch}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        *part[i].to = at + used;
        used += (part[i].bytes + 63) & ~(size_t)63;
    }
    return used;
}

enum { WIDEST = 1024 }; /* numbers of a head that are converted at a time */

/* n numbers less their means (NULL: none), and back into a type. */
static void load_numbers(ts_tensor t, long at, const float *mean, long n, float *to)
{
    const void *p = ts_host_of(t.p);
    if (t.type == TS_BF16) {
        const uint16_t *x = (const uint16_t *)p + at;
#pragma omp simd
        for (long d = 0; d < n; d++) to[d] = ts_from_bf16(x[d]);
    } else
        memcpy(to, (const float *)p + at, (size_t)n * sizeof *to);
    if (!mean) return;
#pragma omp simd
    for (long d = 0; d < n; d++) to[d] -= mean[d];
}

static void store_numbers(ts_dtype type, void *p, long at, const float *from, long n)
{
    if (type == TS_BF16) {
        uint16_t *y = (uint16_t *)p + at;
#pragma omp simd
        for (long d = 0; d < n; d++) y[d] = ts_to_bf16(from[d]);
    } else
        memcpy((float *)p + at, from, (size_t)n * sizeof *from);
}

/* Block j of a head, D numbers from d on, without its mean; keys across. */
static void stage_columns(const linear_rest *r, long h, long j, long d, long n)
{
    const ts_rest_linear *a = r->a;
    long D = r->D, rows = ts_block_rows(a->q.dim[1], j), base = j * TS_BLOCK * D;
    const float *km = pooled_of(a->pooled_k, j, h) + d, *vm = pooled_of(a->pooled_v, j, h) + d;
    float row[WIDEST] = {0}, across[TS_BLOCK][16];
    for (long i = 0; i < TS_BLOCK; i++) {
        long at = j * TS_BLOCK + i;
        bool there = i < rows;
        if (there)
            load_numbers(a->v, token_of(a->v, at, h) + d, vm, n, row);
        else
            memset(row, 0, (size_t)n * sizeof *row);
        store_numbers(r->type, r->v, base + i * D + d, row, n);
        if (there) load_numbers(a->q, token_of(a->q, at, h) + d, NULL, n, row);
        store_numbers(r->type, r->q, base + i * D + d, row, n);
    }
    for (long c = 0; c < n; c += 16) {
        long wide = n - c < 16 ? n - c : 16;
        memset(across, 0, sizeof across);
        for (long i = 0; i < rows; i++)
            load_numbers(a->k, token_of(a->k, j * TS_BLOCK + i, h) + d + c, km + c, wide,
                         across[i]);
        for (long k = 0; k < wide; k++) {
            for (long i = 0; i < TS_BLOCK; i++) row[i] = across[i][k];
            store_numbers(r->type, r->k, base + (d + c + k) * TS_BLOCK, row, TS_BLOCK);
        }
    }
}

static void stage_block(const linear_rest *r, long h, long j)
{
    float weight[WIDEST];
    for (long d = 0; d < r->D; d += WIDEST)
        stage_columns(r, h, j, d, r->D - d < WIDEST ? r->D - d : WIDEST);
    for (long i = 0; i < r->nb; i += WIDEST) {
        long n = r->nb - i < WIDEST ? r->nb - i : WIDEST;
        for (long k = 0; k < n; k++) weight[k] = weight_of(r->a, h, j, i + k);
        store_numbers(r->type, r->weight, j * r->nb + i, weight, n);
    }
}

static void add_linear(const linear_rest *r, long h, long p)
{
    ts_tensor out = r->a->out;
    float row[WIDEST];
    for (long i = 0; i < ts_block_rows(out.dim[1], p); i++) {
        long at = token_of(out, p * TS_BLOCK + i, h);
        const float *y = r->y + (p * TS_BLOCK + i) * r->D;
        float share = share_of(r->a, h, p * TS_BLOCK + i);
        for (long d = 0; d < r->D; d += WIDEST) {
            long n = r->D - d < WIDEST ? r->D - d : WIDEST;
            load_numbers(out, at + d, NULL, n, row);
#pragma omp simd
            for (long k = 0; k < n; k++) row[k] += share * y[d + k];
            store_numbers(out.type, ts_host_of(out.p), at + d, row, n);
        }
    }
}

/* C_j of all blocks; M_p = sum of weight C_j; queries by M_p. */
static void plan_products(const linear_rest *r, ts_product p[3])
{
    long nb = r->nb, D = r->D;
    p[0] = (ts_product){nb, D, TS_BLOCK, D, r->type, r->type};
    p[1] = (ts_product){1, nb, nb, D * D, r->type, r->type};
    p[2] = (ts_product){nb, TS_BLOCK, D, D, r->type, TS_F32};
}

static ts_status rest_of_head(ts_cpu *c, const linear_rest *r, const ts_product p[3], long h)
{
    ts_status st;
    long nb = r->nb;
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (long j = 0; j < nb; j++) stage_block(r, h, j);
    TRY(ts_onednn_product(c, p, r->k, r->v, r->covariance, r->scratch));
    TRY(ts_onednn_product(c, p + 1, r->weight, r->covariance, r->sum, r->scratch));
    TRY(ts_onednn_product(c, p + 2, r->q, r->sum, r->y, r->scratch));
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (long j = 0; j < nb; j++)
        if (is_asked_for(r->a, j)) add_linear(r, h, j);
done:
    return st;
}

/* ---- whole heads, by a kernel in f32 ---- */
/* A thread makes all of a head and waits for nobody. C_j and M_p lie in panels of columns, [D /
 * panel][D][panel], so that every product reads its second operand from end to end; the same panel
 * of all C_j lies together. */
enum { MANY = 24 };                           /* query blocks whose M_p are made together */
static const size_t ROOM = (size_t)512 << 20; /* of all threads at most */
typedef struct {
    const ts_rest_linear *a;
    const ts_attn_kernel *kernel;
    long D, W, nb, panels; /* W: D padded to whole panels; panels: of a C_j */
    long step;             /* from panel to panel of an M_p's row: of query block to query block */
    /* [64][W] rows, [W][64], [W / panel][64][panel], [panels][nb + 1][panel], [MANY][nb],
     * [MANY][step] */
    float *row, *k, *v, *C, *weight, *M;
} head_work;

static size_t place_head(head_work *w, float *at)
{
    size_t used = 0, rows = (size_t)(TS_BLOCK * w->W);
    struct {
        float **to;
        size_t n;
    } part[] = {{&w->row, 2 * rows},
                {&w->k, rows},
                {&w->v, rows},
                {&w->C, (size_t)(w->panels * (w->nb + 1) * w->kernel->panel)},
                {&w->weight, (size_t)(MANY * w->nb)},
                {&w->M, (size_t)(MANY * w->step)}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        if (at) *part[i].to = at + used;
        used += (part[i].n + 15) & ~(size_t)15;
    }
    return used;
}

/* Block j of x, less its mean (NULL: as it is), zero where there are no more tokens: [64][W] */
static void load_rows(const head_work *w, ts_tensor x, long h, long j, const float *mean, float *to)
{
    long rows = ts_block_rows(x.dim[1], j);
    memset(to, 0, (size_t)(TS_BLOCK * w->W) * sizeof *to);
    for (long i = 0; i < rows; i++)
        load_numbers(x, token_of(x, j * TS_BLOCK + i, h), mean, w->D, to + i * w->W);
}

static void make_covariance(const head_work *w, long h, long j)
{
    const ts_rest_linear *a = w->a;
    long P = w->kernel->panel, ld = (w->nb + 1) * P;
    load_rows(w, a->k, h, j, pooled_of(a->pooled_k, j, h), w->row);
    w->kernel->across(w->row, w->W, w->k);
    load_rows(w, a->v, h, j, pooled_of(a->pooled_v, j, h), w->row);
    for (long e = 0; e < w->W; e += P) {
        for (long i = 0; i < TS_BLOCK; i++)
            memcpy(w->v + i * P, w->row + i * w->W + e, (size_t)P * sizeof *w->v);
        w->kernel->product(w->W, TS_BLOCK, w->k, TS_BLOCK, w->v, w->C + e / P * w->W * ld + j * P,
                           ld);
    }
}

/* M of `many` query blocks p, p + every, .. */
static void sum_covariances(const head_work *w, long h, long p, long every, long many)
{
    long P = w->kernel->panel, rows = many < 4 ? 4 : many + many % 2;
    memset(w->weight, 0, (size_t)(MANY * w->nb) * sizeof *w->weight);
    for (long i = 0; i < many; i++)
        for (long j = 0; j < w->nb; j++)
            w->weight[i * w->nb + j] = weight_of(w->a, h, p + i * every, j);
    for (long f = 0; f < w->panels; f++)
        w->kernel->product(rows, w->nb, w->weight, w->nb, w->C + f * (w->nb + 1) * P, w->M + f * P,
                           w->step);
}

static void add_to_rows(const head_work *w, long h, long p, const float *M)
{
    const ts_rest_linear *a = w->a;
    long P = w->kernel->panel;
    float *y = w->row + TS_BLOCK * w->W;
    load_rows(w, a->q, h, p, NULL, w->row);
    for (long e = 0; e < w->W; e += P)
        w->kernel->product(TS_BLOCK, w->W, w->row, w->W, M + e * w->W, y + e, w->W);
    for (long i = 0; i < ts_block_rows(a->q.dim[1], p); i++, y += w->W) {
        long at = token_of(a->out, p * TS_BLOCK + i, h);
        float share = share_of(a, h, p * TS_BLOCK + i);
        load_numbers(a->out, at, NULL, w->D, w->row);
#pragma omp simd
        for (long d = 0; d < w->D; d++) w->row[d] += share * y[d];
        store_numbers(a->out.type, ts_host_of(a->out.p), at, w->row, w->D);
    }
}

static void rest_of_whole_head(const head_work *w, long h)
{
    long every = w->a->every > 1 ? w->a->every : 1;
    for (long j = 0; j < w->nb; j++) make_covariance(w, h, j);
    for (long p = 0; p < w->nb; p += MANY * every) {
        long left = (w->nb - p + every - 1) / every, many = left < MANY ? left : MANY;
        sum_covariances(w, h, p, every, many);
        for (long i = 0; i < many; i++) add_to_rows(w, h, p + i * every, w->M + i * w->step);
    }
}

/* false: the products of oneDNN are to be taken: of bf16, of heads that are fewer than threads, or
 * too large for each thread to have one */
static bool takes_whole_heads(const ts_cpu *c, head_work *w)
{
    const ts_rest_linear *a = w->a;
    long D = a->q.dim[3];
    w->kernel = ts_attn_kernel_for(c, a->q.type);
    if (!w->kernel || !w->kernel->product || a->q.dim[2] < c->threads) return false;
    w->D = D;
    w->nb = a->plan.nb;
    w->W = (D + w->kernel->panel - 1) / w->kernel->panel * w->kernel->panel;
    w->panels = w->W / w->kernel->panel * w->W;
    w->step = (w->panels + 1) * w->kernel->panel;
    return place_head(w, NULL) * sizeof(float) * (size_t)c->threads <= ROOM;
}

static ts_status rest_of_whole_heads(ts_cpu *c, const head_work *work)
{
    head_work each = *work;
    size_t room = place_head(&each, NULL);
    void *scratch;
    ts_status st = ts_cpu_scratch(c, room * sizeof(float) * (size_t)c->threads, &scratch);
    if (st || c->dev.counting) return st;
#pragma omp parallel num_threads(c->threads)
    {
        head_work w = *work;
        place_head(&w, (float *)scratch + (size_t)omp_get_thread_num() * room);
#pragma omp for schedule(dynamic)
        for (long h = 0; h < w.a->q.dim[2]; h++)
            if (!ts_cpu_stop(c) && ts_form_of(w.a->form, h, TS_REST_LINEAR) == TS_REST_LINEAR)
                rest_of_whole_head(&w, h);
    }
    return ts_cpu_stop(c) ? ts_fail(c->dev.err, TS_ESTOP, "stopped") : TS_OK;
}

ts_status ts_cpu_rest_linear(ts_cpu *c, const ts_rest_linear *a)
{
    ts_status st = TS_OK;
    void *scratch;
    size_t products = 0;
    ts_product p[3];
    linear_rest r = {.a = a,
                     .type = a->q.type == TS_BF16 && c->dev.has_bf16 ? TS_BF16 : TS_F32,
                     .D = a->q.dim[3],
                     .nb = a->plan.nb};
    if (!c->dnnl) {
        TRY(ts_cpu_scratch(c, ts_rest_linear_room(a) * sizeof(double), &scratch));
        if (!c->dev.counting) ts_rest_linear_ref(a, scratch);
        return TS_OK;
    }
    head_work w = {.a = a};
    if (takes_whole_heads(c, &w)) return rest_of_whole_heads(c, &w);
    plan_products(&r, p);
    for (int i = 0; i < 3; i++) TRY(ts_onednn_product_scratch(c, p + i, &products));
    TRY(ts_cpu_scratch(c, lay_out(&r, NULL, products), &scratch));
    if (c->dev.counting) goto done;
    lay_out(&r, scratch, products);
    for (long h = 0; h < a->q.dim[2]; h++) {
        if (ts_form_of(a->form, h, TS_REST_LINEAR) != TS_REST_LINEAR) continue;
        if (ts_cpu_stop(c)) TRY(ts_fail(c->dev.err, TS_ESTOP, "stopped"));
        TRY(rest_of_head(c, &r, p, h));
    }
done:
    return st;
}

/* ---- what candidates are off by ---- */
static double error_of_row(const ts_head_errors *a, long n, long h)
{
    double sum = 0;
    long x = token_of(a->x, n, h), of = token_of(a->of, n, h);
    for (long d = 0; d < a->x.dim[3]; d++) {
        double e = (double)ts_load(ts_host_of(a->x.p), a->x.type, x + d) -
                   (double)ts_load(ts_host_of(a->of.p), a->of.type, of + d);
        sum += e * e;
    }
    return sum;
}

ts_status ts_cpu_head_errors(ts_cpu *c, const ts_head_errors *a)
{
    long N = a->x.dim[1], every = a->every > 1 ? a->every : 1;
    float *error = ts_host_of(a->error.p);
    if (c->dev.counting) return TS_OK;
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (long h = 0; h < a->x.dim[2]; h++) {
        double sum = 0;
        for (long first = 0; first < N; first += every * TS_BLOCK)
            for (long n = first; n < N && n < first + TS_BLOCK; n++) sum += error_of_row(a, n, h);
        error[h] = (float)sum;
    }
    return TS_OK;
}

ts_status ts_cpu_choose(ts_cpu *c, const ts_choose *a)
{
    long n = a->error.dim[0], A = a->error.dim[1];
    const float *error = ts_host_of(a->error.p);
    int32_t *choice = ts_host_of(a->choice.p);
    if (c->dev.counting) return TS_OK;
    for (long h = 0; h < A; h++) {
        long least = 0;
        for (long i = 1; i < n; i++)
            if (error[i * a->error.ld + h] < error[least * a->error.ld + h]) least = i;
        if (!(error[least * a->error.ld + h] * a->margin < error[h])) least = 0;
        choice[h] = (int32_t)least;
        if (ts_there(a->stat)) ((float *)ts_host_of(a->stat.p))[h] = (float)least;
    }
    return TS_OK;
}
