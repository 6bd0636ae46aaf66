/* Numbers of a tensor as f32, one or a vector at a time; activations; indices of any size; grids
 * that fit.
 *
 * A vector is 16 bytes of the narrowest type of an operation, or two loads of 16 bytes of a wider
 * one: 8 numbers where all are of 16 bits, else 4. Addresses of vectors are multiples of 16 bytes,
 * or of their size where they are smaller. */
#ifndef TS_NUMBERS_CUH
#define TS_NUMBERS_CUH
#include "backend/cuda/kernels.h"
#include "backend/cuda/ptx.h"

#include <limits.h>
#include <math.h>

/* N words of 32 bits at once: 1, 2, 4 or 8. */
template <int N> TS_DEV void load_words(uint32_t (&w)[N], const void *p)
{
    if constexpr (N == 1) {
        w[0] = *(const uint32_t *)p;
    } else if constexpr (N == 2) {
        uint2 u = *(const uint2 *)p;
        w[0] = u.x;
        w[1] = u.y;
    } else {
        TS_UNROLL
        for (int i = 0; i < N / 4; i++) {
            uint4 u = ((const uint4 *)p)[i];
            w[4 * i] = u.x;
            w[4 * i + 1] = u.y;
            w[4 * i + 2] = u.z;
            w[4 * i + 3] = u.w;
        }
    }
}
template <int N> TS_DEV void store_words(void *p, const uint32_t (&w)[N])
{
    if constexpr (N == 1) {
        *(uint32_t *)p = w[0];
    } else if constexpr (N == 2) {
        *(uint2 *)p = {w[0], w[1]};
    } else {
        TS_UNROLL
        for (int i = 0; i < N / 4; i++)
            ((uint4 *)p)[i] = make_uint4(w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]);
    }
}

/* Halves of 32 bits, the lower one first. */
TS_DEV float widen_half(ts_dtype t, uint32_t h)
{
    return t == TS_BF16 ? __uint_as_float(h << 16) : ts_widen_f16((uint16_t)h);
}
TS_DEV uint32_t narrow_pair(ts_dtype t, float low, float high)
{
    return t == TS_BF16 ? ts_bf16x2(low, high)
                        : ts_round_f16(low) | (uint32_t)ts_round_f16(high) << 16;
}

/* V numbers from number i of p on: f32, bf16 or f16. */
template <int V> TS_DEV void get(float (&v)[V], const void *p, ts_dtype t, long i)
{
    if constexpr (V < 4) {
        TS_UNROLL
        for (int k = 0; k < V; k++)
            v[k] = t == TS_F32 ? ((const float *)p)[i + k]
                               : widen_half(t, ((const uint16_t *)p)[i + k]);
    } else if (t == TS_F32) {
        uint32_t w[V];
        load_words(w, (const float *)p + i);
        TS_UNROLL
        for (int k = 0; k < V; k++) v[k] = __uint_as_float(w[k]);
    } else {
        uint32_t w[V / 2];
        load_words(w, (const uint16_t *)p + i);
        TS_UNROLL
        for (int k = 0; k < V; k++)
            v[k] = widen_half(t, k % 2 ? w[k / 2] >> 16 : w[k / 2] & 0xFFFF);
    }
}
template <int V> TS_DEV void put(void *p, ts_dtype t, long i, const float (&v)[V])
{
    if constexpr (V < 4) {
        TS_UNROLL
        for (int k = 0; k < V; k++)
            if (t == TS_F32)
                ((float *)p)[i + k] = v[k];
            else
                ((uint16_t *)p)[i + k] = (uint16_t)narrow_pair(t, v[k], 0);
    } else if (t == TS_F32) {
        uint32_t w[V];
        TS_UNROLL
        for (int k = 0; k < V; k++) w[k] = __float_as_uint(v[k]);
        store_words((float *)p + i, w);
    } else {
        uint32_t w[V / 2];
        TS_UNROLL
        for (int k = 0; k < V / 2; k++) w[k] = narrow_pair(t, v[2 * k], v[2 * k + 1]);
        store_words((uint16_t *)p + i, w);
    }
}

/* ---- activations: as ts_act_ref, by the functions of the device's mathematics (2 ulp) ---- */
TS_DEV float activated(ts_act act, float x)
{
    switch (act) {
    case TS_ACT_SILU: return x / (1 + expf(-x));
    case TS_ACT_GELU: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case TS_ACT_GELU_TANH: return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case TS_ACT_QUICK_GELU: return x / (1 + expf(-1.702f * x));
    case TS_ACT_RELU: return x > 0 ? x : 0;
    case TS_ACT_NONE: break;
    }
    return x;
}
template <int V> TS_DEV void activate_all(ts_act act, float (&v)[V])
{
    if (act == TS_ACT_NONE) return;
    TS_UNROLL
    for (int k = 0; k < V; k++) v[k] = activated(act, v[k]);
}

/* ---- places ---- */
/* i = *q by + *r, both from 0 on. Divisions of 64 bits cost several times those of 32. */
TS_DEV void split_index(long i, long by, long *q, long *r)
{
    if (((unsigned long)i | (unsigned long)by) >> 32) {
        *q = i / by;
        *r = i - *q * by;
    } else {
        uint32_t n = (uint32_t)i / (uint32_t)by;
        *q = n;
        *r = (uint32_t)i - n * (uint32_t)by;
    }
}
enum { TS_WARP = 32, TS_THREADS = 256 }; /* of a block of the element kernels */
TS_DEV long thread_index(void) { return (long)blockIdx.x * TS_THREADS + threadIdx.x; }

/* ---- of the host ---- */
/* Blocks of TS_THREADS for `threads`; 0: there is nothing to do, or more than a grid can hold. */
static inline unsigned ts_grid(long threads)
{
    long blocks = (threads + TS_THREADS - 1) / TS_THREADS;
    return threads > 0 && blocks <= INT_MAX ? (unsigned)blocks : 0;
}
/* Launches a kernel of one thread a place. */
#define TS_SWEEP(kernel, threads, stream, ...)                                                 \
    ((threads) == 0 ? cudaSuccess                                                              \
     : ts_grid(threads)                                                                        \
         ? TS_LAUNCH(kernel, dim3(ts_grid(threads)), dim3(TS_THREADS), 0, stream, __VA_ARGS__) \
         : cudaErrorInvalidValue)

/* Rows of C numbers, V of a row a thread: work.at<V>(row, c), and at<1> for each of the numbers
 * that are left at a row's end. */
template <class W, int V>
static __global__ void __launch_bounds__(TS_THREADS) ts_sweep_rows(W work, long rows, long C)
{
    long m, c;
    split_index(thread_index(), (C + V - 1) / V, &m, &c);
    if (m >= rows) return;
    c *= V;
    if (V == 1 || c + V <= C)
        work.template at<V>(m, c);
    else
        for (; c < C; c++) work.template at<1>(m, c);
}
/* MOST: the widest vector that the work has */
template <class W, int MOST = 8>
static cudaError_t ts_sweep(const W &work, long rows, long C, int V, cudaStream_t s)
{
    if (V > MOST) V = MOST;
    long wide = (C + V - 1) / V;
    if (rows == 0 || C == 0) return cudaSuccess;
    if (rows > LONG_MAX / wide) return cudaErrorInvalidValue;
    if constexpr (MOST > 4)
        if (V == 8) return TS_SWEEP((ts_sweep_rows<W, 8>), rows * wide, s, work, rows, C);
    if constexpr (MOST > 1)
        if (V == 4) return TS_SWEEP((ts_sweep_rows<W, 4>), rows * wide, s, work, rows, C);
    return TS_SWEEP((ts_sweep_rows<W, 1>), rows * wide, s, work, rows, C);
}

/* A tensor as kernels see it; p NULL: absent. */
typedef struct {
    char *p;
    ts_dtype type;
    long ld;
} ts_operand;
static inline char *ts_address(ts_ptr p) { return (char *)(uintptr_t)p.at; }
static inline ts_operand ts_operand_of(ts_tensor t) { return {ts_address(t.p), t.type, t.ld}; }
/* Whether rows that are ld numbers apart begin at places for vectors of V numbers. */
static inline bool ts_vectors_fit(const void *p, ts_dtype t, long ld, long rows, int V)
{
    size_t unit = (size_t)V * ts_dtype_size(t) < 16 ? (size_t)V * ts_dtype_size(t) : 16;
    return (uintptr_t)p % unit == 0 && (rows == 1 || (size_t)ld * ts_dtype_size(t) % unit == 0);
}
/* Numbers of a vector for these rows: 8, 4, or 1 where vectors do not fit. Operands that are absent
 * do not count. */
static inline int ts_vector_of(const ts_operand *t, int n, long rows)
{
    int V = 8;
    for (int i = 0; i < n; i++)
        if (t[i].p && ts_dtype_size(t[i].type) > 2) V = 4;
    for (int i = 0; i < n; i++)
        if (t[i].p && !ts_vectors_fit(t[i].p, t[i].type, t[i].ld, rows, V)) return 1;
    return V;
}
#endif
