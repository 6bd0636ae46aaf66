/* Means of blocks of tokens, and scores from them. */
#include "backend/cpu/ref.h"
#include "backend/cpu/rest.h"

/* Sum over a block's rows of one head of x [B, N, A, D], divided by their number. */
static void block_mean(ts_tensor x, long b, long block, long h, float *out)
{
    long N = x.dim[1], D = x.dim[3], first = block * TS_BLOCK,
         end = first + TS_BLOCK < N ? first + TS_BLOCK : N;
    for (long d = 0; d < D; d++) out[d] = 0;
    for (long n = first; n < end; n++) {
        long at = (b * N + n) * x.ld + h * D;
        if (x.type == TS_BF16) {
            const uint16_t *row = (const uint16_t *)ts_host_of(x.p) + at;
#pragma omp simd
            for (long d = 0; d < D; d++) out[d] += ts_from_bf16(row[d]);
        } else if (x.type == TS_F32) {
            const float *row = (const float *)ts_host_of(x.p) + at;
#pragma omp simd
            for (long d = 0; d < D; d++) out[d] += row[d];
        } else {
            for (long d = 0; d < D; d++) out[d] += ts_load(ts_host_of(x.p), x.type, at + d);
        }
    }
    for (long d = 0; d < D; d++) out[d] /= (float)(end - first);
}

/* Means of keys lie transposed, so that a row of scores grows by whole vectors, each score in the
 * order of d. */
ts_status ts_cpu_block_means(ts_cpu *c, const ts_block_means *a)
{
    long B = a->q.dim[0], N = a->q.dim[1], A = a->q.dim[2], D = a->q.dim[3],
         nb = (N + TS_BLOCK - 1) / TS_BLOCK, rows = B * A * nb;
    void *scratch;
    ts_status st = ts_cpu_scratch(c, (size_t)(3 * rows * D) * sizeof(float), &scratch);
    if (st || c->dev.counting) return st;
    /* across [B, A, D, nb] */
    float *q = scratch, *k = q + rows * D, *across = k + rows * D,
          *scores = ts_host_of(a->scores.p);
#pragma omp parallel num_threads(c->threads)
    {
#pragma omp for schedule(static)
        for (long i = 0; i < rows; i++) {
            block_mean(a->q, i / (A * nb), i % nb, i / nb % A, q + i * D);
            block_mean(a->k, i / (A * nb), i % nb, i / nb % A, k + i * D);
            for (long d = 0; d < D; d++) across[(i / nb * D + d) * nb + i % nb] = k[i * D + d];
        }
#pragma omp for schedule(static)
        for (long i = 0; i < rows; i++) {
            float *score = scores + i * nb;
            memset(score, 0, (size_t)nb * sizeof *score);
            for (long d = 0; d < D; d++) {
                float x = q[i * D + d];
                const float *y = across + (i / nb * D + d) * nb;
#pragma omp simd
                for (long j = 0; j < nb; j++) score[j] += x * y[j];
            }
        }
    }
    return TS_OK;
}

ts_status ts_cpu_pool(ts_cpu *c, const ts_pool *a)
{
    long B = a->x.dim[0], A = a->x.dim[2], D = a->x.dim[3], nb = a->y.dim[1], rows = B * nb * A;
    if (c->dev.counting) return TS_OK;
    float *y = ts_host_of(a->y.p);
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (long i = 0; i < rows; i++) block_mean(a->x, i / (nb * A), i / A % nb, i % A, y + i * D);
    return TS_OK;
}
