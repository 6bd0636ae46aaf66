/* What the kernels of the first-order part have in common (rest_linear.cu, rest_tensor.cu). */
#ifndef TS_CUDA_REST_PARTS_CUH
#define TS_CUDA_REST_PARTS_CUH
#include "backend/cuda/attention_tile.cuh"
#include "backend/cuda/numbers.cuh"
#include "backend/cuda/rest_kernels.h"

TS_DEV float ts_read_f32(const float *p, long i) { return p[i]; }
TS_DEV float ts_read_f32(const uint16_t *p, long i) { return ts_widen_bf16(p[i]); }
TS_DEV void ts_write_f32(float *p, long i, float x) { p[i] = x; }
TS_DEV void ts_write_f32(uint16_t *p, long i, float x) { p[i] = ts_round_bf16(x); }

TS_DEV bool ts_is_linear(const ts_rest_args &p, int head)
{
    return !p.form || p.form[head] == TS_REST_LINEAR;
}
/* What the rest weighs in row n, all blocks together, over what it weighs among pooled keys. */
TS_DEV float ts_share_of_rest(const ts_rest_args &p, int head, long n)
{
    const long at = (long)head * p.N + n;
    return ts_exp2(fminf(p.own[at] - p.lse[at], 0) * TS_LOG2E);
}

/* Of block j in query block q: its mean weight in a row, by what C_j is a sum and not a mean. */
template <class E>
static __global__ void __launch_bounds__(TS_THREADS) ts_weigh_rest(ts_rest_args p)
{
    long row, j, head, q;
    split_index(thread_index(), p.ldw, &row, &j);
    if (row >= (long)p.heads * p.nq) return;
    split_index(row, p.nq, &head, &q);
    q *= p.every;
    const int h = p.first + (int)head, words = (p.nb + 31) >> 5;
    if (!ts_is_linear(p, h)) return;
    float x = 0;
    if (j < p.nb &&
        !ts_is_listed(p.bits, ((p.shared_plan ? 0 : h) * p.nb + (int)q) * words, (int)j))
        x = p.sums[((long)h * p.nb + q) * p.nb + j] * p.scale /
            (float)(min(p.N - 64 * (int)q, 64) * min(p.N - 64 * (int)j, 64));
    ts_write_f32((E *)p.weight, row * p.ldw + j, x);
}
#endif
