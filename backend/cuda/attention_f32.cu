/* Attention of any type, head width and bias on the cores for f32: what flash.cu does not do. A
 * thread block of 256 computes 64 query rows of one head, thread (ty, tx) of 16 x 16 the rows 4 ty
 * .. 4 ty + 3 and of keys and of columns every 16th from tx on. Q K' goes along the head in slices
 * of 32 through shared memory; weights go through it once more for P V, V in slices of some keys.
 */
#include "backend/cuda/attention_kernels.h"
#include "backend/cuda/attention_tile.cuh"

namespace
{
enum { THREADS = 256, SLICE = 32 };
/* rows of slices and of weights in shared memory, in floats: vectors of four of neighbouring rows
 * lie in different banks */
enum { SLICE_ROW = SLICE + 4, WEIGHT_ROW = 64 + 4 };
enum { SLICES = 2 * 64 * SLICE_ROW, WEIGHTS = 64 * WEIGHT_ROW };
const size_t SHARED = (SLICES + WEIGHTS) * sizeof(float);
template <int DP> struct slice_of_values {
    static constexpr int keys = DP <= 64 ? 64 : 4096 / DP;
};

TS_DEV float widen(const float *p, long i) { return p[i]; }
TS_DEV float widen(const uint16_t *p, long i) { return ts_widen_bf16(p[i]); }
TS_DEV void narrow(float *p, long i, float x) { p[i] = x; }
TS_DEV void narrow(uint16_t *p, long i, float x) { p[i] = ts_round_bf16(x); }

/* Max or sum of the 16 threads of a row. */
TS_DEV float row_max(float x)
{
    for (int d = 8; d; d >>= 1) x = fmaxf(x, __shfl_xor_sync(TS_LANES, x, d));
    return x;
}
TS_DEV float row_sum(float x)
{
    for (int d = 8; d; d >>= 1) x += __shfl_xor_sync(TS_LANES, x, d);
    return x;
}

/* to [64][SLICE_ROW] = SLICE columns from d0 on of 64 rows from `first` on; zero beyond n rows and
 * D columns */
template <class T>
TS_DEV void load_slice(float *to, const T *from, long ld, int first, int n, int d0, int D)
{
    const int d = threadIdx.x % SLICE;
    for (int r = threadIdx.x / SLICE; r < 64; r += THREADS / SLICE)
        to[r * SLICE_ROW + d] = first + r < n && d0 + d < D ? widen(from, (first + r) * ld + d0 + d)
                                                            : 0;
}

/* Logits to the base 2 of this thread's rows and keys of block j, of type K; -inf beyond the last
 * key. Other threads may still read the slices after it. */
template <class T, class K = T>
TS_DEV void compute_tile(float (&s)[4][4], float *slices, const ts_attend_args &p, int head,
                         int first, int j)
{
    const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
    const T *q = (const T *)p.q + (long)head * p.D;
    const K *k = (const K *)p.k + (long)head * p.D;
    float *qs = slices, *ks = slices + 64 * SLICE_ROW;
    TS_UNROLL
    for (int i = 0; i < 4; i++) s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0;
    for (int d0 = 0; d0 < p.D; d0 += SLICE) {
        __syncthreads();
        load_slice(qs, q, p.ldq, first, p.Nq, d0, p.D);
        load_slice(ks, k, p.ldk, j * 64, p.Nk, d0, p.D);
        __syncthreads();
        for (int d = 0; d < SLICE; d += 4) {
            float4 a[4], b[4];
            TS_UNROLL
            for (int i = 0; i < 4; i++) {
                a[i] = *(const float4 *)(qs + (4 * ty + i) * SLICE_ROW + d);
                b[i] = *(const float4 *)(ks + (tx + 16 * i) * SLICE_ROW + d);
            }
            TS_UNROLL
            for (int i = 0; i < 4; i++) TS_UNROLL
            for (int c = 0; c < 4; c++) {
                s[i][c] = fmaf(a[i].x, b[c].x, s[i][c]);
                s[i][c] = fmaf(a[i].y, b[c].y, s[i][c]);
                s[i][c] = fmaf(a[i].z, b[c].z, s[i][c]);
                s[i][c] = fmaf(a[i].w, b[c].w, s[i][c]);
            }
        }
    }
    TS_UNROLL
    for (int i = 0; i < 4; i++) {
        const int row = min(first + 4 * ty + i, p.Nq - 1);
        const float *bias = p.bias + head * p.bias_head + row * p.bias_row;
        TS_UNROLL
        for (int c = 0; c < 4; c++) {
            const int key = j * 64 + tx + 16 * c;
            float x = s[i][c] * p.scale;
            if (p.bias && key < p.Nk) x = fmaf(s[i][c], p.scale, TS_LOG2E * __ldg(bias + key));
            s[i][c] = key < p.Nk ? x : -INFINITY;
        }
    }
}

/* o += P V_j for columns `column` .. column + DP of V, those beyond `width` being zero */
template <int DP, class T>
TS_DEV void add_tile(float (&o)[4][DP / 16], float *slices, const float *weights, const T *v,
                     long ld, int j, int Nk, int width)
{
    constexpr int KEYS = slice_of_values<DP>::keys;
    const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
    for (int m0 = 0; m0 < 64; m0 += KEYS) {
        __syncthreads();
        for (int i = threadIdx.x; i < KEYS * DP; i += THREADS) {
            const int m = j * 64 + m0 + i / DP, c = i % DP;
            slices[i] = m < Nk && c < width ? widen(v, m * ld + c) : 0;
        }
        __syncthreads();
        TS_UNROLL_BY(1)
        for (int m = 0; m < KEYS; m += 4) {
            float4 w[4];
            TS_UNROLL
            for (int i = 0; i < 4; i++)
                w[i] = *(const float4 *)(weights + (4 * ty + i) * WEIGHT_ROW + m0 + m);
            TS_UNROLL
            for (int c = 0; c < DP / 16; c++) {
                const float *at = slices + m * DP + tx + 16 * c;
                const float x = at[0], y = at[DP], z = at[2 * DP], u = at[3 * DP];
                TS_UNROLL
                for (int i = 0; i < 4; i++) {
                    o[i][c] = fmaf(w[i].x, x, o[i][c]);
                    o[i][c] = fmaf(w[i].y, y, o[i][c]);
                    o[i][c] = fmaf(w[i].z, z, o[i][c]);
                    o[i][c] = fmaf(w[i].w, u, o[i][c]);
                }
            }
        }
    }
}

/* The online softmax of flash.cu over this thread's rows. s becomes weights, also in `weights`. */
template <int COLUMNS>
TS_DEV void take_tile(float (&s)[4][4], float (&o)[4][COLUMNS], float (&m)[4], float (&l)[4],
                      float *weights)
{
    const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
    TS_UNROLL
    for (int i = 0; i < 4; i++) {
        const float most = fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3]));
        const float now = fmaxf(m[i], row_max(most));
        const float base = now == -INFINITY ? 0 : now, shrink = ts_exp2(m[i] - base);
        m[i] = now;
        l[i] *= shrink;
        TS_UNROLL
        for (int c = 0; c < 4; c++) {
            const float x = ts_exp2(s[i][c] - base);
            l[i] += x;
            weights[(4 * ty + i) * WEIGHT_ROW + tx + 16 * c] = x;
        }
        TS_UNROLL
        for (int c = 0; c < COLUMNS; c++) o[i][c] *= shrink;
    }
}

/* Logits of pooled keys of tile j: those of a block of keys, with what each block counts. */
template <class T>
TS_DEV void compute_pooled(float (&s)[4][4], float *slices, const ts_attend_args &p, int head,
                           int first, int j)
{
    const int tx = threadIdx.x & 15;
    compute_tile<T, float>(s, slices, p, head, first, j);
    TS_UNROLL
    for (int c = 0; c < 4; c++) {
        const float tokens = ts_log2_tokens(p.Nq, p.Nk, j * 64 + tx + 16 * c);
        TS_UNROLL
        for (int i = 0; i < 4; i++) s[i][c] += tokens;
    }
}

/* A call with pooled keys in the place of keys. */
TS_DEV ts_attend_args of_pooled(const ts_attend_args &p, int nb)
{
    ts_attend_args of = p;
    of.k = p.pooled_k;
    of.ldk = (long)p.A * p.D;
    of.Nk = nb;
    return of;
}
/* The query block of this thread block, and its head. */
struct attend_place {
    int head, block, first;
    __device__ __forceinline__ attend_place(const ts_attend_args &p)
    {
        const int step = max(p.every, 1), nq = (p.Nq + 63) >> 6, items = (nq + step - 1) / step;
        head = (int)blockIdx.x / items;
        block = (int)blockIdx.x % items * step;
        first = block * 64;
    }
};

/* p.out NULL: lse alone. Columns from `column` on, DP at most. */
template <int DP, class T, bool REST>
__global__ void __launch_bounds__(THREADS) attend_f32(ts_attend_args p, int column)
{
    TS_SHARED(shared);
    float *slices = (float *)shared, *weights = slices + SLICES;
    const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
    const int nq = (p.Nq + 63) >> 6, nk = (p.Nk + 63) >> 6, words = (nq + 31) >> 5;
    const attend_place at(p);
    const int head = at.head, first = at.first;
    const int plan = ((p.shared_plan ? 0 : head) * nq + at.block) * words;
    const T *v = (const T *)p.v + (long)head * p.D + column;
    float o[4][DP / 16], m[4], l[4];
    TS_UNROLL
    for (int i = 0; i < 4; i++) {
        m[i] = -INFINITY;
        l[i] = 0;
        TS_UNROLL
        for (int c = 0; c < DP / 16; c++) o[i][c] = 0;
    }
    ts_walk walk = {plan, plan, -1, 0};
    for (int j = walk.next(p.bits, nk); j >= 0; j = walk.next(p.bits, nk)) {
        float s[4][4];
        compute_tile<T>(s, slices, p, head, first, j);
        take_tile(s, o, m, l, weights);
        if (p.out) add_tile<DP>(o, slices, weights, v, p.ldv, j, p.Nk, p.D - column);
    }
    if (REST && (!p.form || p.form[head])) {
        const ts_attend_args of = of_pooled(p, nq);
        const float *pooled = (const float *)p.pooled_v + (long)head * p.D + column;
        for (int j = 0; j < (nq + 63) >> 6; j++) {
            float s[4][4];
            const ts_left_out left(p.bits, plan, j, nq);
            compute_pooled<T>(s, slices, of, head, first, j);
            TS_UNROLL
            for (int c = 0; c < 4; c++) TS_UNROLL
            for (int i = 0; i < 4; i++)
                if (!left.has(tx + 16 * c)) s[i][c] = -INFINITY;
            take_tile(s, o, m, l, weights);
            if (p.out) add_tile<DP>(o, slices, weights, pooled, of.ldk, j, nq, p.D - column);
        }
    }
    TS_UNROLL
    for (int i = 0; i < 4; i++) {
        const int n = first + 4 * ty + i;
        const float all = row_sum(l[i]), share = all == 0 ? 0 : 1 / all;
        if (n >= p.Nq) continue;
        if (tx == 0 && p.lse) p.lse[(long)head * p.Nq + n] = (m[i] + ts_log2(all)) * TS_LN2;
        if (!p.out) continue;
        T *out = (T *)p.out + n * p.ldo + (long)head * p.D + column;
        TS_UNROLL
        for (int c = 0; c < DP / 16; c++)
            if (column + tx + 16 * c < p.D) narrow(out, tx + 16 * c, o[i][c] * share);
    }
}

/* One row of blocks of sums. */
template <class T> __global__ void __launch_bounds__(THREADS) sum_f32(ts_attend_args p)
{
    TS_SHARED(shared);
    float *slices = (float *)shared, *parts = slices + SLICES; /* [2][8]: of warps, by turns */
    const int t = (int)threadIdx.x, ty = t >> 4;
    const int nq = (p.Nq + 63) >> 6, nk = (p.Nk + 63) >> 6, words = (nq + 31) >> 5;
    const attend_place at(p);
    const int head = at.head, first = at.first;
    const int plan = ((p.shared_plan ? 0 : head) * nq + at.block) * words;
    float *sums = p.sums + ((long)head * nq + at.block) * p.columns, lse2[4];
    TS_UNROLL
    for (int i = 0; i < 4; i++) {
        const int n = first + 4 * ty + i;
        lse2[i] = n < p.Nq ? p.lse[(long)head * p.Nq + n] * TS_LOG2E : INFINITY;
    }
    for (int j = 0; j < p.columns; j++) {
        float s[4][4], sum = 0, *part = parts + j % 2 * 8;
        if (j >= nk || !ts_is_listed(p.bits, plan, j)) {
            if (t == 0) sums[j] = 0;
            continue;
        }
        compute_tile<T>(s, slices, p, head, first, j);
        TS_UNROLL
        for (int i = 0; i < 4; i++) TS_UNROLL
        for (int c = 0; c < 4; c++)
            sum += s[i][c] == -INFINITY ? 0 : ts_exp2(fminf(s[i][c] - lse2[i], 115));
        sum = ts_warp_sum(sum);
        if (t % 32 == 0) part[t / 32] = sum;
        __syncthreads();
        if (t == 0) {
            float all = 0;
            for (int w = 0; w < THREADS / 32; w++) all += part[w];
            sums[j] = all;
        }
    }
}

/* One row of blocks of what pooled keys weigh; k: f32 */
template <class T> __global__ void __launch_bounds__(THREADS) pool_f32(ts_attend_args p)
{
    TS_SHARED(shared);
    float *slices = (float *)shared, *parts = slices + SLICES; /* [8][64]: of warps */
    const int t = (int)threadIdx.x, tx = t & 15, ty = t >> 4;
    const int nq = (p.Nq + 63) >> 6, tiles = (p.Nk + 63) >> 6;
    const int head = (int)blockIdx.x / nq, first = (int)blockIdx.x % nq * 64;
    float *sums = p.sums + (long)blockIdx.x * p.columns, m[4], l[4], s[4][4];
    TS_UNROLL
    for (int i = 0; i < 4; i++) {
        m[i] = -INFINITY;
        l[i] = 0;
    }
    for (int j = 0; j < tiles; j++) {
        compute_pooled<T>(s, slices, p, head, first, j);
        TS_UNROLL
        for (int i = 0; i < 4; i++) {
            const float most = fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3]));
            const float now = fmaxf(m[i], most), base = now == -INFINITY ? 0 : now;
            l[i] *= ts_exp2(m[i] - base);
            m[i] = now;
            TS_UNROLL
            for (int c = 0; c < 4; c++) l[i] += ts_exp2(s[i][c] - base);
        }
    }
    TS_UNROLL
    for (int i = 0; i < 4; i++) { /* m becomes lse to the base 2 */
        const int n = first + 4 * ty + i;
        const float most = row_max(m[i]), all = row_sum(l[i] * ts_exp2(m[i] - most));
        m[i] = n < p.Nq ? most + ts_log2(all) : INFINITY;
        if (tx == 0 && n < p.Nq && p.lse) p.lse[(long)head * p.Nq + n] = m[i] * TS_LN2;
    }
    for (int j = 0; j < tiles; j++) {
        compute_pooled<T>(s, slices, p, head, first, j);
        TS_UNROLL
        for (int c = 0; c < 4; c++) {
            float sum = 0;
            TS_UNROLL
            for (int i = 0; i < 4; i++) sum += ts_exp2(s[i][c] - m[i]);
            sum += __shfl_xor_sync(TS_LANES, sum, 16);
            if (t % 32 < 16) parts[t / 32 * 64 + tx + 16 * c] = sum;
        }
        __syncthreads();
        if (t < 64 && j * 64 + t < p.Nk) {
            float all = 0;
            for (int w = 0; w < THREADS / 32; w++) all += parts[w * 64 + t];
            sums[j * 64 + t] = all;
        }
    }
}

unsigned count_items(const ts_attend_args *a)
{
    const int step = a->every > 1 ? a->every : 1, nq = (a->Nq + 63) / 64;
    return (unsigned)a->A * (unsigned)((nq + step - 1) / step);
}
template <int DP, bool REST>
cudaError_t launch_any(const ts_attend_args *a, bool bf16, int column, cudaStream_t s)
{
    const unsigned grid = count_items(a);
    if (bf16)
        return TS_LAUNCH((attend_f32<DP, uint16_t, REST>), grid, THREADS, SHARED, s, *a, column);
    return TS_LAUNCH((attend_f32<DP, float, REST>), grid, THREADS, SHARED, s, *a, column);
}
template <bool REST> cudaError_t attend_any(const ts_attend_args *a, bool bf16, cudaStream_t s)
{
    cudaError_t e = cudaSuccess;
    if (a->D <= 32 || !a->out) return launch_any<32, REST>(a, bf16, 0, s);
    if (a->D <= 64) return launch_any<64, REST>(a, bf16, 0, s);
    if (a->D <= 128) return launch_any<128, REST>(a, bf16, 0, s);
    if (a->D <= 256) return launch_any<256, REST>(a, bf16, 0, s);
    if (a->D > 512 && a->out == a->q) return cudaErrorInvalidValue;
    for (int column = 0; column < a->D && !e; column += 512)
        e = launch_any<512, REST>(a, bf16, column, s);
    return e;
}
} /* namespace */

cudaError_t ts_attend_any(const ts_attend_args *a, bool bf16, cudaStream_t s)
{
    return a->pooled_k ? attend_any<true>(a, bf16, s) : attend_any<false>(a, bf16, s);
}
cudaError_t ts_sum_blocks_any(const ts_attend_args *a, bool bf16, cudaStream_t s)
{
    const unsigned grid = count_items(a);
    if (bf16) return TS_LAUNCH((sum_f32<uint16_t>), grid, THREADS, SHARED, s, *a);
    return TS_LAUNCH((sum_f32<float>), grid, THREADS, SHARED, s, *a);
}
cudaError_t ts_pool_sums_any(const ts_attend_args *a, bool bf16, cudaStream_t s)
{
    const unsigned grid = (unsigned)a->A * (unsigned)((a->Nq + 63) / 64);
    if (bf16) return TS_LAUNCH((pool_f32<uint16_t>), grid, THREADS, SHARED, s, *a);
    return TS_LAUNCH((pool_f32<float>), grid, THREADS, SHARED, s, *a);
}
