/* Attention on a GPU: which kernel, how many thread blocks, how much scratch; a launch for each
 * element of the batch. */
#include "backend/cuda/attention_launch.h"

#include "backend/cuda/rest_kernels.h"

static const double LOG2E = 1.4426950408889634;

static void *address_of(ts_ptr p) { return (void *)(uintptr_t)p.at; }
static long count_blocks(long n) { return (n + TS_BLOCK - 1) / TS_BLOCK; }
static void *row_of_batch(ts_tensor t, long b)
{
    if (!ts_there(t)) return NULL;
    return (char *)address_of(t.p) + (size_t)(b * t.dim[1] * t.ld) * (t.type == TS_BF16 ? 2 : 4);
}

static ts_attend_args attend_args(const ts_attention *a, long b)
{
    long A = a->q.dim[2], Nq = a->q.dim[1], Nk = a->k.dim[1];
    const ts_plan *plan = a->plan ? a->plan[b] : NULL;
    const long *bias = a->bias.dim;
    ts_attend_args p = {
        .q = row_of_batch(a->q, b),
        .k = row_of_batch(a->k, b),
        .v = row_of_batch(a->v, b),
        .out = row_of_batch(a->out, b),
        .ldq = a->q.ld,
        .ldk = a->k.ld,
        .ldv = a->v.ld,
        .ldo = a->out.ld,
        .A = (int)A,
        .Nq = (int)Nq,
        .D = (int)a->q.dim[3],
        .Nk = a->nk ? a->nk[b] : (int)Nk,
        .scale = (float)((double)a->scale * LOG2E),
        .columns = (int)count_blocks(Nk),
        .every = a->every,
    };
    if (ts_there(a->bias)) {
        p.bias = address_of(a->bias.p);
        p.bias_row = bias[1] == 1 ? 0 : a->bias.ld;
        p.bias_head = bias[0] == 1 ? 0 : bias[1] * a->bias.ld;
    }
    if (plan) {
        p.bits = address_of(plan->bits);
        p.shared_plan = plan->A == 1;
        p.pooled_k = row_of_batch(a->pooled_k, b);
        p.pooled_v = row_of_batch(a->pooled_v, b);
        p.inverse = 1 / p.scale;
        p.form = address_of(a->form.p);
    }
    if (ts_there(a->lse)) p.lse = (float *)address_of(a->lse.p) + b * A * Nq;
    if (ts_there(a->sums))
        p.sums = (float *)address_of(a->sums.p) + b * A * count_blocks(Nq) * p.columns;
    return p;
}

/* Whole chunks of 16 bytes from every head and row. */
static bool is_aligned(ts_tensor t)
{
    return t.p.at % 16 == 0 && t.ld % 8 == 0 && t.dim[3] % 8 == 0;
}
bool ts_flash_fits(const ts_flash_kernel *f, const ts_attention *a, const ts_cuda_chip *chip)
{
    return a->q.type == TS_BF16 && is_aligned(a->q) && is_aligned(a->k) && is_aligned(a->v) &&
           is_aligned(a->out) && a->q.dim[3] <= f->D && f->sums == ts_there(a->sums) &&
           f->bias == ts_there(a->bias) && f->shared <= chip->shared &&
           f->rest == (ts_there(a->pooled_k) || a->every > 1) && (a->every <= 1 || f->rows == 64);
}
/* Chips whose tensor cores are fast beside their shared memory: a warp wants 32 rows, for which it
 * reads K and V once. Ada and its like (8.6, 8.9, 12.0) have tensor cores that 16 rows can feed,
 * and few registers for more. */
static bool wants_wide_warps(const ts_cuda_chip *chip)
{
    return (chip->major == 8 && chip->minor == 0) || chip->major == 9 || chip->major == 10;
}
/* How well a kernel suits a call, of those of one head width. On wide chips 128 rows share what
 * they copy; with a plan they would walk the blocks of two lists, which is up to twice as many (an
 * H200 took 1.8 times as long for a tenth of the blocks), so 64 rows do, in warps of 32 where D is
 * 128 (at D 64 they were 3% slower than warps of 16 there). */
static int suitability(const ts_flash_kernel *f, const ts_attention *a, const ts_cuda_chip *chip)
{
    bool wide = wants_wide_warps(chip);
    int rows = wide && !a->plan ? 128 : 64, threads = wide && f->D == 128 && rows == 64 ? 64 : 128;
    return 2 * (f->rows == rows) + (f->threads == threads);
}
const ts_flash_kernel *ts_flash_choice(const ts_attention *a, const ts_cuda_chip *chip)
{
    const ts_flash_kernel *best = NULL;
    for (int i = 0; i < ts_flash_count; i++) {
        const ts_flash_kernel *f = ts_flash_kernels + i;
        if (!ts_flash_fits(f, a, chip) || (best && f->D > best->D)) continue;
        if (!best || f->D < best->D || suitability(f, a, chip) > suitability(best, a, chip))
            best = f;
    }
    return best;
}

/* Thread blocks of a launch: one for all that a chip holds at once where each has scratch of its
 * own, else one an item of work. */
static int count_thread_blocks(const ts_flash_kernel *f, const ts_attention *a,
                               const ts_cuda_chip *chip)
{
    long step = a->every > 1 ? a->every * TS_BLOCK : f->rows;
    long items = a->q.dim[2] * ((a->q.dim[1] + step - 1) / step);
    /* a multiprocessor has a little more than a thread block may have, and keeps 1 KB of each */
    long fit = (long)((chip->shared + 1024) / (f->shared + 1024));
    long room = chip->processors * (fit < f->most ? fit : f->most);
    return (int)(f->sums && room < items ? room : items);
}
size_t ts_flash_scratch(const ts_flash_kernel *f, const ts_attention *a, const ts_cuda_chip *chip)
{
    long Nq = a->q.dim[1], rows = a->q.dim[0] * a->q.dim[2] * Nq;
    if (f && ts_there(a->pooled_k)) return 2 * (size_t)ts_count(a->pooled_k) * sizeof(uint16_t);
    if (!ts_there(a->sums)) return 0;
    if (f)
        return (size_t)count_thread_blocks(f, a, chip) * (size_t)count_blocks(a->k.dim[1]) *
               (size_t)f->rows * sizeof(float);
    return ts_there(a->lse) ? 0 : (size_t)rows * sizeof(float);
}

/* Sums take a second pass over the keys, with lse as it comes from the first; where out takes the
 * place of q, the first leaves out alone and a third makes it. */
static cudaError_t attend_with_sums(ts_attend_args p, bool bf16, cudaStream_t stream)
{
    void *out = p.out;
    cudaError_t e;
    if (out == p.q) p.out = NULL;
    e = ts_attend_any(&p, bf16, stream);
    if (!e) e = ts_sum_blocks_any(&p, bf16, stream);
    if (e || p.out) return e;
    p.out = out;
    return ts_attend_any(&p, bf16, stream);
}
static cudaError_t attend_any(const ts_attention *a, float *lse, cudaStream_t stream)
{
    cudaError_t e = cudaSuccess;
    bool bf16 = a->q.type == TS_BF16;
    for (long b = 0; b < a->q.dim[0] && !e; b++) {
        ts_attend_args p = attend_args(a, b);
        if (p.sums && !p.lse) p.lse = lse + b * p.A * p.Nq;
        e = p.sums ? attend_with_sums(p, bf16, stream) : ts_attend_any(&p, bf16, stream);
    }
    return e;
}
/* Pooled keys or values, f32, as what the kernels of tensor cores read. */
static cudaError_t round_pooled(ts_tensor t, void *to, cudaStream_t stream)
{
    ts_copy c = {.src = t.p,
                 .dst = {(uintptr_t)to},
                 .stype = TS_F32,
                 .dtype = TS_BF16,
                 .nd = 1,
                 .dim = {ts_count(t)},
                 .ss = {1},
                 .ds = {1}};
    return ts_cuda_copy(&c, stream);
}
/* The call with its pooled keys and values in scratch, as bf16. */
static cudaError_t stage_pooled(ts_attention *a, void *scratch, cudaStream_t stream)
{
    ts_tensor *pooled[] = {&a->pooled_k, &a->pooled_v};
    cudaError_t e = cudaSuccess;
    for (int i = 0; i < 2 && !e && ts_there(a->pooled_k); i++) {
        uint16_t *to = (uint16_t *)scratch + i * ts_count(a->pooled_k);
        e = round_pooled(*pooled[i], to, stream);
        pooled[i]->p = (ts_ptr){(uintptr_t)to};
        pooled[i]->type = TS_BF16;
    }
    return e;
}
cudaError_t ts_flash_run(const ts_flash_kernel *f, const ts_attention *a, const ts_cuda_chip *chip,
                         void *scratch, cudaStream_t stream)
{
    ts_attention staged = *a;
    if (!f) return attend_any(a, scratch, stream);
    cudaError_t e = stage_pooled(&staged, scratch, stream);
    for (long b = 0; b < a->q.dim[0] && !e; b++) {
        ts_attend_args p = attend_args(&staged, b);
        e = f->launch(&p, scratch, count_thread_blocks(f, a, chip), stream);
    }
    return e;
}

/* ---- the face ---- */
cudaError_t ts_cuda_attention_init(const ts_cuda_chip *chip)
{
    cudaError_t e = ts_rest_linear_init();
    for (int i = 0; i < ts_flash_count && !e; i++) {
        const ts_flash_kernel *f = ts_flash_kernels + i;
        if (f->shared <= chip->shared)
            e = cudaFuncSetAttribute(f->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     (int)f->shared);
    }
    return e;
}
size_t ts_cuda_attention_scratch(const ts_attention *a, const ts_cuda_chip *chip)
{
    return ts_flash_scratch(ts_flash_choice(a, chip), a, chip);
}
cudaError_t ts_cuda_attention(const ts_attention *a, const ts_cuda_chip *chip, void *scratch,
                              cudaStream_t stream)
{
    return ts_flash_run(ts_flash_choice(a, chip), a, chip, scratch, stream);
}

cudaError_t ts_cuda_block_sums(const ts_block_sums *s, const ts_cuda_chip *chip,
                               cudaStream_t stream)
{
    ts_attention a = {.q = s->q, .k = s->k, .scale = s->scale, .lse = s->lse, .sums = s->sums};
    bool bf16 = a.q.type == TS_BF16, fits;
    cudaError_t e = cudaSuccess;
    (void)chip;
    fits = bf16 && is_aligned(a.q) && is_aligned(a.k) && a.q.dim[3] <= 128;
    for (long b = 0; b < a.q.dim[0] && !e; b++) {
        ts_attend_args p = attend_args(&a, b);
        e = fits ? ts_sum_blocks_bf16(&p, stream) : ts_sum_blocks_any(&p, bf16, stream);
    }
    return e;
}

/* Means of the blocks of q or k, [B, nb, A, D]. */
static ts_tensor means_of(ts_tensor t, void *at)
{
    long nb = count_blocks(t.dim[1]);
    return ts_tensor_of((ts_ptr){(uintptr_t)at}, TS_F32, 4,
                        (long[]){t.dim[0], nb, t.dim[2], t.dim[3]});
}
size_t ts_cuda_block_means_scratch(const ts_block_means *m)
{
    return 2 * (size_t)ts_count(means_of(m->q, NULL)) * sizeof(float);
}
cudaError_t ts_cuda_block_means(const ts_block_means *m, void *scratch, cudaStream_t stream)
{
    ts_tensor q = means_of(m->q, scratch), k = means_of(m->k, (float *)scratch + ts_count(q));
    cudaError_t e = ts_cuda_pool(&(ts_pool){m->q, q}, stream);
    if (!e) e = ts_cuda_pool(&(ts_pool){m->k, k}, stream);
    return e ? e
             : ts_score_blocks(address_of(q.p), address_of(k.p), (int)q.dim[0], (int)q.dim[2],
                               (int)q.dim[1], (int)q.dim[3], address_of(m->scores.p), stream);
}

static bool is_for_tensor_cores(const ts_pool_sums *s)
{
    return s->q.type == TS_BF16 && is_aligned(s->q) && s->q.dim[3] <= 128;
}
size_t ts_cuda_pool_sums_scratch(const ts_pool_sums *s)
{
    return is_for_tensor_cores(s) ? (size_t)ts_count(s->k) * 2 : 0;
}
cudaError_t ts_cuda_pool_sums(const ts_pool_sums *s, void *scratch, cudaStream_t stream)
{
    bool fits = is_for_tensor_cores(s), bf16 = s->q.type == TS_BF16;
    ts_attention a = {.q = s->q, .k = s->k, .scale = s->scale, .lse = s->lse};
    long nb = s->k.dim[1];
    cudaError_t e = cudaSuccess;
    if (fits) {
        a.k.p = (ts_ptr){(uintptr_t)scratch};
        a.k.type = TS_BF16;
        e = round_pooled(s->k, scratch, stream);
    }
    for (long b = 0; b < a.q.dim[0] && !e; b++) {
        ts_attend_args p = attend_args(&a, b);
        p.columns = (int)nb;
        p.inverse = 1 / p.scale;
        p.sums = (float *)address_of(s->sums.p) + b * p.A * nb * nb;
        e = fits ? ts_pool_sums_bf16(&p, stream) : ts_pool_sums_any(&p, bf16, stream);
    }
    return e;
}
