/* What a search for a plan computes beside attention. Block sums from a known lse: one pass over
 * the keys on tensor cores, no values, no maxima:
 *
 *   sums_j = sum over the tile of 2^min(c q k' - lse / ln 2, 115),  c = scale log2 e
 *
 * What pooled keys weigh: two passes over them, one for lse and one for sums by column.
 *
 * Block means: rows of a block, added; and the products of those of queries with those of keys. */
#include "backend/cuda/attention_kernels.h"
#include "backend/cuda/attention_tile.cuh"

namespace
{
enum { WARPS = 4, THREADS = 32 * WARPS };

/* A thread block has 64 query rows of one head, a warp 16; two stages of K. */
template <int D> __global__ void __launch_bounds__(THREADS, 3) sum_bf16(ts_attend_args p)
{
    using T = ts_tile<D>;
    TS_SHARED(shared);
    unsigned char *sq = shared, *sk = sq + T::block;
    float *parts = (float *)(sk + 2 * T::block); /* [2][WARPS], by turns */
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int nq = (p.Nq + 63) >> 6, nk = (p.Nk + 63) >> 6;
    const int head = (int)blockIdx.x / nq, qb = (int)blockIdx.x % nq;
    const ts_head_rows q = {(const uint16_t *)p.q + head * p.D, p.ldq, p.Nq, p.D};
    const ts_head_rows k = {(const uint16_t *)p.k + head * p.D, p.ldk, p.Nk, p.D};
    const int at_q = T::at(16 * warp + (lane & 15), lane >> 4);
    const int at_k = T::at((lane >> 4) * 8 + (lane & 7), lane >> 3 & 1);
    float *sums = p.sums + (long)blockIdx.x * p.columns, lse2[2];
    uint32_t fq[D / 16][4];
    TS_UNROLL
    for (int h = 0; h < 2; h++) {
        const int n = qb * 64 + 16 * warp + 8 * h + g;
        lse2[h] = n < p.Nq ? p.lse[(long)head * p.Nq + n] * TS_LOG2E : INFINITY;
    }
    ts_fetch<D, THREADS>(sq, q, qb * 64, 64);
    ts_fetch<D, THREADS>(sk, k, 0, 64);
    ts_cp_commit();
    ts_cp_wait<0>();
    __syncthreads();
    TS_UNROLL
    for (int s = 0; s < D / 16; s++) ts_ldmatrix(fq[s], sq + T::on(at_q, s));

    for (int j = 0; j < nk; j++) {
        float s[1][8][4], sum = 0;
        ts_cp_wait<0>();
        __syncthreads();
        if (j && threadIdx.x == 0) { /* the block before: its parts have come */
            const float *part = parts + (j - 1) % 2 * WARPS;
            sums[j - 1] = (part[0] + part[1]) + (part[2] + part[3]);
        }
        if (j + 1 < nk) ts_fetch<D, THREADS>(sk + (j + 1) % 2 * T::block, k, (j + 1) * 64, 64);
        ts_cp_commit();
        ts_multiply_keys<D>(s, sq, at_q, fq, sk + j % 2 * T::block, ts_anew(at_k), false);
        const int left = p.Nk - j * 64; /* keys */
        TS_UNROLL
        for (int n = 0; n < 8; n++) TS_UNROLL
        for (int e = 0; e < 4; e++) {
            const float x = fmaf(s[0][n][e], p.scale, -lse2[e >> 1]);
            if (left >= 64 || 8 * n + 2 * t + (e & 1) < left) sum += ts_exp2(fminf(x, 115));
        }
        sum = ts_warp_sum(sum);
        if (lane == 0) parts[j % 2 * WARPS + warp] = sum;
    }
    ts_cp_wait<0>();
    __syncthreads();
    if (threadIdx.x == 0) {
        const float *part = parts + (nk - 1) % 2 * WARPS;
        sums[nk - 1] = (part[0] + part[1]) + (part[2] + part[3]);
    }
}
template <int D> constexpr size_t shared_of_sums(void)
{
    return 3 * ts_tile<D>::block + 2 * WARPS * sizeof(float);
}
template <int D> cudaError_t launch_sums(const ts_attend_args *a, cudaStream_t s)
{
    const unsigned grid = (unsigned)a->A * (unsigned)((a->Nq + 63) / 64);
    return TS_LAUNCH((sum_bf16<D>), grid, THREADS, (shared_of_sums<D>()), s, *a);
}

/* Logits to the base 2 of this lane's two rows and sixteen pooled keys of tile j. */
template <int KEYS>
TS_DEV void scale_pooled(float (&s)[1][KEYS][4], const ts_attend_args &p, int j, int t)
{
    TS_UNROLL
    for (int n = 0; n < KEYS; n++) TS_UNROLL
    for (int e = 0; e < 4; e++) {
        const int key = j * 64 + 8 * n + 2 * t + (e & 1);
        const float tokens = key < p.Nk ? ts_log2_tokens(p.Nq, p.Nk, key) : -INFINITY;
        s[0][n][e] = fmaf(s[0][n][e], p.scale, tokens);
    }
}

/* A thread block has 64 query rows of one head, a warp 16; two stages of pooled keys. */
template <int D> __global__ void __launch_bounds__(THREADS, 3) pool_bf16(ts_attend_args p)
{
    using T = ts_tile<D>;
    TS_SHARED(shared);
    unsigned char *sq = shared, *sk = sq + T::block;
    float *parts = (float *)(sk + 2 * T::block); /* [2][WARPS][64], by turns */
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int nq = (p.Nq + 63) >> 6, tiles = (p.Nk + 63) >> 6, first = (int)blockIdx.x % nq * 64;
    const int head = (int)blockIdx.x / nq;
    const ts_head_rows q = {(const uint16_t *)p.q + head * p.D, p.ldq, p.Nq, p.D};
    const ts_head_rows k = {(const uint16_t *)p.k + head * p.D, p.ldk, p.Nk, p.D};
    const int at_q = T::at(16 * warp + (lane & 15), lane >> 4);
    const int at_k = T::at((lane >> 4) * 8 + (lane & 7), lane >> 3 & 1);
    float *sums = p.sums + (long)blockIdx.x * p.columns;
    float m[2] = {-INFINITY, -INFINITY}, l[2] = {0, 0};
    uint32_t fq[D / 16][4];
    ts_fetch<D, THREADS>(sq, q, first, 64);
    ts_fetch<D, THREADS>(sk, k, 0, 64);
    ts_cp_commit();
    ts_cp_wait<0>();
    __syncthreads();
    TS_UNROLL
    for (int s = 0; s < D / 16; s++) ts_ldmatrix(fq[s], sq + T::on(at_q, s));

    for (int turn = 0; turn <= 2 * tiles; turn++) {
        const int j = turn % tiles;
        float s[1][8][4];
        ts_cp_wait<0>();
        __syncthreads();
        if (turn > tiles && threadIdx.x < 64) { /* the tile before: its parts have come */
            const float *part = parts + (turn - 1) % 2 * WARPS * 64 + threadIdx.x;
            const int key = (turn - tiles - 1) * 64 + (int)threadIdx.x;
            if (key < p.Nk) sums[key] = (part[0] + part[64]) + (part[128] + part[192]);
        }
        if (turn == 2 * tiles) break;
        if (turn + 1 < 2 * tiles)
            ts_fetch<D, THREADS>(sk + (turn + 1) % 2 * T::block, k, (turn + 1) % tiles * 64, 64);
        ts_cp_commit();
        ts_multiply_keys<D>(s, sq, at_q, fq, sk + turn % 2 * T::block, ts_anew(at_k), false);
        scale_pooled(s, p, j, t);
        if (turn < tiles) {
            TS_UNROLL
            for (int h = 0; h < 2; h++) {
                float now = m[h];
                TS_UNROLL
                for (int n = 0; n < 8; n++)
                    now = fmaxf(now, fmaxf(s[0][n][2 * h], s[0][n][2 * h + 1]));
                const float base = now == -INFINITY ? 0 : now;
                l[h] *= ts_exp2(m[h] - base);
                m[h] = now;
                TS_UNROLL
                for (int n = 0; n < 8; n++)
                    l[h] += ts_exp2(s[0][n][2 * h] - base) + ts_exp2(s[0][n][2 * h + 1] - base);
            }
            if (turn + 1 < tiles) continue;
            TS_UNROLL
            for (int h = 0; h < 2; h++) { /* m becomes lse to the base 2 */
                const int r = first + 16 * warp + 8 * h + g;
                const float most = ts_quad_max(m[h]),
                            all = ts_quad_sum(l[h] * ts_exp2(m[h] - most));
                m[h] = r < p.Nq ? most + ts_log2(all) : INFINITY;
                if (t == 0 && r < p.Nq && p.lse) p.lse[(long)head * p.Nq + r] = m[h] * TS_LN2;
            }
            continue;
        }
        float *part = parts + turn % 2 * WARPS * 64 + warp * 64 + 2 * t;
        TS_UNROLL
        for (int n = 0; n < 8; n++) TS_UNROLL
        for (int e = 0; e < 2; e++) {
            float x = ts_exp2(s[0][n][e] - m[0]) + ts_exp2(s[0][n][e + 2] - m[1]);
            TS_UNROLL
            for (int d = 4; d < 32; d *= 2) x += __shfl_xor_sync(TS_LANES, x, d);
            if (g == 0) part[8 * n + e] = x;
        }
    }
}
template <int D> constexpr size_t shared_of_pool(void)
{
    return 3 * ts_tile<D>::block + 2 * WARPS * 64 * sizeof(float);
}
template <int D> cudaError_t launch_pool(const ts_attend_args *a, cudaStream_t s)
{
    const unsigned grid = (unsigned)a->A * (unsigned)((a->Nq + 63) / 64);
    return TS_LAUNCH((pool_bf16<D>), grid, THREADS, (shared_of_pool<D>()), s, *a);
}

TS_DEV float widen_row(const float *p, long i) { return p[i]; }
TS_DEV float widen_row(const uint16_t *p, long i) { return ts_widen_bf16(p[i]); }

/* A thread block a block of rows and head: in the order of rows, divided at the end. */
template <class T>
__global__ void mean_rows(const T *x, long ld, int N, int D, int nb, float *means)
{
    const int head = (int)blockIdx.x / nb, block = (int)blockIdx.x % nb;
    const int first = block * 64, end = min(first + 64, N);
    for (int d = (int)threadIdx.x; d < D; d += (int)blockDim.x) {
        float sum = 0;
        for (int n = first; n < end; n++) sum += widen_row(x, n * ld + (long)head * D + d);
        means[(long)blockIdx.x * D + d] = sum / (float)(end - first);
    }
}

enum { TILE = 16 };
/* scores [A, nb, nb]: a thread a score, operands through shared memory */
__global__ void __launch_bounds__(TILE *TILE)
    score_means(const float *q, const float *k, int nb, int D, int across, float *scores)
{
    __shared__ float a[TILE][TILE + 1], b[TILE][TILE + 1];
    const int x = (int)threadIdx.x % TILE, y = (int)threadIdx.x / TILE;
    const int tile = (int)blockIdx.x % (across * across),
              head = (int)blockIdx.x / (across * across);
    const int row = tile / across * TILE, column = tile % across * TILE;
    const float *rows = q + (long)head * nb * D, *columns = k + (long)head * nb * D;
    float sum = 0;
    for (int d0 = 0; d0 < D; d0 += TILE) {
        const bool there = d0 + x < D;
        a[y][x] = there && row + y < nb ? rows[(long)(row + y) * D + d0 + x] : 0;
        b[y][x] = there && column + y < nb ? columns[(long)(column + y) * D + d0 + x] : 0;
        __syncthreads();
        for (int d = 0; d < TILE; d++) sum = fmaf(a[y][d], b[x][d], sum);
        __syncthreads();
    }
    if (row + y < nb && column + x < nb)
        scores[((long)head * nb + row + y) * nb + column + x] = sum;
}
} /* namespace */

cudaError_t ts_search_init(void)
{
    cudaError_t e = cudaFuncSetAttribute((const void *)pool_bf16<128>,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)shared_of_pool<128>());
    return e ? e
             : cudaFuncSetAttribute((const void *)sum_bf16<128>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    (int)shared_of_sums<128>());
}
cudaError_t ts_pool_sums_bf16(const ts_attend_args *a, cudaStream_t s)
{
    return a->D <= 64 ? launch_pool<64>(a, s) : launch_pool<128>(a, s);
}
cudaError_t ts_sum_blocks_bf16(const ts_attend_args *a, cudaStream_t s)
{
    return a->D <= 64 ? launch_sums<64>(a, s) : launch_sums<128>(a, s);
}
cudaError_t ts_mean_blocks(const void *x, bool bf16, long ld, int A, int N, int D, float *means,
                           cudaStream_t s)
{
    const int nb = (N + 63) / 64, threads = D < 128 ? (D + 31) / 32 * 32 : 128;
    const unsigned grid = (unsigned)A * (unsigned)nb;
    if (bf16)
        return TS_LAUNCH((mean_rows<uint16_t>), grid, threads, 0, s, (const uint16_t *)x, ld, N, D,
                         nb, means);
    return TS_LAUNCH((mean_rows<float>), grid, threads, 0, s, (const float *)x, ld, N, D, nb,
                     means);
}
cudaError_t ts_score_blocks(const float *q, const float *k, int A, int nb, int D, float *scores,
                            cudaStream_t s)
{
    const int across = (nb + TILE - 1) / TILE;
    const unsigned grid = (unsigned)A * (unsigned)across * (unsigned)across;
    return TS_LAUNCH(score_means, grid, TILE * TILE, 0, s, q, k, nb, D, across, scores);
}
