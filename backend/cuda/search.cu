/* What a search for a plan computes beside attention. Block sums from a known lse: one pass over
 * the keys on tensor cores, no values, no maxima:
 *
 *   sums_j = sum over the tile of 2^min(c q k' - lse / ln 2, 115),  c = scale log2 e
 *
 * What pooled keys weigh: two passes over them, one for lse and one for sums by column:
 *
 *   sums_j = sum over the rows of 2^(c q k_j' + log2 n_j - lse / ln 2), n_j tokens of block j
 *
 * Scores of block means: products of those of queries with those of keys. */
#include "backend/cuda/attention_kernels.h"
#include "backend/cuda/attention_tile.cuh"
#include "backend/cuda/product_tile.cuh"

namespace
{
enum { WARPS = 4, THREADS = 32 * WARPS };

/* A thread block has 128 query rows of one head, two blocks of them, a warp 32, whose fragments
 * stay in registers. Two stages of keys, in whose place Q is at first. */
enum { ROWS = 128 };
struct pair_of_blocks {
    int head, block, nq, tiles; /* block: the first; nq: of the head; tiles: of keys */
    ts_head_rows q, k;
    __device__ __forceinline__ pair_of_blocks(const ts_attend_args &p)
    {
        nq = (p.Nq + 63) >> 6;
        tiles = (p.Nk + 63) >> 6;
        head = (int)blockIdx.x / ((nq + 1) / 2);
        block = (int)blockIdx.x % ((nq + 1) / 2) * 2;
        q = {(const uint16_t *)p.q + head * p.D, p.ldq, p.Nq, p.D};
        k = {(const uint16_t *)p.k + head * p.D, p.ldk, p.Nk, p.D};
    }
};
template <int D> struct query_fragments {
    uint32_t of[2][D / 16][4];
};
template <int D>
TS_DEV void hold_queries(query_fragments<D> &q, const pair_of_blocks &my, unsigned char *shared)
{
    using T = ts_tile<D>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, at = T::at(lane & 15, lane >> 4);
    ts_fetch<D, THREADS>(shared, my.q, my.block * 64, ROWS);
    ts_cp_commit();
    ts_cp_wait<0>();
    __syncthreads();
    TS_UNROLL
    for (int i = 0; i < 2; i++) TS_UNROLL
    for (int d = 0; d < D / 16; d++)
        ts_ldmatrix(q.of[i][d], shared + (32 * warp + 16 * i) * T::row + T::on(at, d));
    __syncthreads();
    ts_fetch<D, THREADS>(shared, my.k, 0, 64);
    ts_cp_commit();
}
/* The keys of a turn, whose copies have come; those of the next one, of `turns`, begin. */
template <int D>
TS_DEV const unsigned char *take_keys(unsigned char *shared, const pair_of_blocks &my, int turn,
                                      int turns)
{
    using T = ts_tile<D>;
    ts_cp_wait<0>();
    __syncthreads();
    if (turn + 1 < turns)
        ts_fetch<D, THREADS>(shared + (turn + 1) % 2 * T::block, my.k, (turn + 1) % my.tiles * 64,
                             64);
    ts_cp_commit();
    return shared + turn % 2 * T::block;
}
/* s = Q K', unscaled, of the warp's 32 rows and the 64 keys of a tile */
template <int D>
TS_DEV void multiply_rows(float (&s)[2][8][4], const query_fragments<D> &q, const unsigned char *k,
                          int at_k)
{
    using T = ts_tile<D>;
    TS_UNROLL
    for (int i = 0; i < 2; i++) TS_UNROLL
    for (int n = 0; n < 8; n++) s[i][n][0] = s[i][n][1] = s[i][n][2] = s[i][n][3] = 0;
    TS_UNROLL
    for (int d = 0; d < D / 16; d++) TS_UNROLL
    for (int n = 0; n < 4; n++) { /* 16 keys */
        uint32_t b[4];
        ts_ldmatrix(b, k + T::on(at_k, d) + 16 * n * T::row);
        TS_UNROLL
        for (int i = 0; i < 2; i++) {
            ts_mma(s[i][2 * n], q.of[i][d], b[0], b[1]);
            ts_mma(s[i][2 * n + 1], q.of[i][d], b[2], b[3]);
        }
    }
}
template <int D> __global__ void __launch_bounds__(THREADS, 2) sum_bf16(ts_attend_args p)
{
    using T = ts_tile<D>;
    TS_SHARED(shared);
    float *parts = (float *)(shared + 2 * T::block); /* [2][WARPS], by turns */
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int at_k = T::at((lane >> 4) * 8 + (lane & 7), lane >> 3 & 1);
    const pair_of_blocks my(p);
    query_fragments<D> q;
    float lse2[2][2];
    TS_UNROLL
    for (int i = 0; i < 2; i++) TS_UNROLL
    for (int h = 0; h < 2; h++) {
        const int n = my.block * 64 + 32 * warp + 16 * i + 8 * h + g;
        lse2[i][h] = n < p.Nq ? p.lse[(long)my.head * p.Nq + n] * TS_LOG2E : INFINITY;
    }
    hold_queries(q, my, shared);
    /* of tile j, whose parts have come */
    auto store_tile = [&](int j) {
        const int half = (int)threadIdx.x, block = my.block + half;
        const float *part = parts + j % 2 * WARPS + 2 * half;
        if (half < 2 && block < my.nq)
            p.sums[((long)my.head * my.nq + block) * p.columns + j] = part[0] + part[1];
    };
    for (int j = 0; j < my.tiles; j++) {
        float s[2][8][4], sum = 0;
        const unsigned char *keys = take_keys<D>(shared, my, j, my.tiles);
        const int left = p.Nk - j * 64;
        if (j) store_tile(j - 1);
        multiply_rows<D>(s, q, keys, ts_anew(at_k));
        TS_UNROLL
        for (int i = 0; i < 2; i++) TS_UNROLL
        for (int n = 0; n < 8; n++) TS_UNROLL
        for (int e = 0; e < 4; e++) {
            const float x = fmaf(s[i][n][e], p.scale, -lse2[i][e >> 1]);
            if (left >= 64 || 8 * n + 2 * t + (e & 1) < left) sum += ts_exp2(fminf(x, 115));
        }
        sum = ts_warp_sum(sum);
        if (lane == 0) parts[j % 2 * WARPS + warp] = sum;
    }
    ts_cp_wait<0>();
    __syncthreads();
    store_tile(my.tiles - 1);
}
template <int D> constexpr size_t shared_of_sums(void)
{
    return 2 * ts_tile<D>::block + 2 * WARPS * sizeof(float);
}
template <int D> cudaError_t launch_sums(const ts_attend_args *a, cudaStream_t s)
{
    const unsigned grid = (unsigned)a->A * (unsigned)((a->Nq + ROWS - 1) / ROWS);
    return TS_LAUNCH((sum_bf16<D>), grid, THREADS, (shared_of_sums<D>()), s, *a);
}

/* ---- what pooled keys weigh ----
 * Queries are rows of S = Q K' in the first pass, which finds lse by row, and columns of K Q' in
 * the second, where a sum over queries stays within lanes. */
/* s = K Q': a fragment of 16 rows of Q holds the two of as many columns */
template <int D>
TS_DEV void multiply_columns(float (&s)[4][4][4], const query_fragments<D> &q,
                             const unsigned char *k, int at_k)
{
    using T = ts_tile<D>;
    TS_UNROLL
    for (int m = 0; m < 4; m++) TS_UNROLL
    for (int c = 0; c < 4; c++) s[m][c][0] = s[m][c][1] = s[m][c][2] = s[m][c][3] = 0;
    TS_UNROLL
    for (int d = 0; d < D / 16; d++) TS_UNROLL
    for (int m = 0; m < 4; m++) { /* 16 keys */
        uint32_t a[4];
        ts_ldmatrix(a, k + T::on(at_k, d) + 16 * m * T::row);
        TS_UNROLL
        for (int i = 0; i < 2; i++) {
            ts_mma(s[m][2 * i], a, q.of[i][d][0], q.of[i][d][2]);
            ts_mma(s[m][2 * i + 1], a, q.of[i][d][1], q.of[i][d][3]);
        }
    }
}
/* The last tile's keys: the last one counts less than the 64 that all are taken for, those beyond
 * it nothing. */
TS_DEV void weigh_last(float (&s)[2][8][4], const ts_attend_args &p, int j, int t)
{
    TS_UNROLL
    for (int n = 0; n < 8; n++) TS_UNROLL
    for (int e = 0; e < 4; e++) {
        const int key = j * 64 + 8 * n + 2 * t + (e & 1);
        const float less = (ts_log2_tokens(p.Nq, p.Nk, key) - 6) * p.inverse;
        TS_UNROLL
        for (int i = 0; i < 2; i++) s[i][n][e] = key < p.Nk ? s[i][n][e] + less : -INFINITY;
    }
}
/* Maxima and sums of this lane's rows grow by a tile. */
TS_DEV void take_logits(const float (&s)[2][8][4], float (&m)[2][2], float (&l)[2][2], float scale)
{
    TS_UNROLL
    for (int i = 0; i < 2; i++) TS_UNROLL
    for (int h = 0; h < 2; h++) {
        float most = -INFINITY, sum = 0;
        TS_UNROLL
        for (int n = 0; n < 8; n++) most = fmaxf(most, fmaxf(s[i][n][2 * h], s[i][n][2 * h + 1]));
        const float now = fmaxf(m[i][h], most * scale), base = now == -INFINITY ? 0 : now;
        TS_UNROLL
        for (int n = 0; n < 8; n++)
            sum += ts_exp2(fmaf(s[i][n][2 * h], scale, -base)) +
                   ts_exp2(fmaf(s[i][n][2 * h + 1], scale, -base));
        l[i][h] = l[i][h] * ts_exp2(m[i][h] - base) + sum;
        m[i][h] = now;
    }
}
/* Sums over the warp's queries, of log2 sums `base`, to part [64]. */
TS_DEV void add_columns(const float (&s)[4][4][4], const float (&base)[4][2], float scale,
                        float *part, int g, int t)
{
    TS_UNROLL
    for (int m = 0; m < 4; m++) TS_UNROLL
    for (int h = 0; h < 2; h++) {
        float sum = 0;
        TS_UNROLL
        for (int c = 0; c < 4; c++) TS_UNROLL
        for (int e = 0; e < 2; e++) sum += ts_exp2(fmaf(s[m][c][2 * h + e], scale, -base[c][e]));
        sum = ts_quad_sum(sum);
        if (t == 0) part[16 * m + 8 * h + g] = sum;
    }
}

template <int D> __global__ void __launch_bounds__(THREADS, 2) pool_bf16(ts_attend_args p)
{
    using T = ts_tile<D>;
    TS_SHARED(shared);
    float *parts = (float *)(shared + 2 * T::block), *lse2 = parts + 2 * WARPS * 64;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int at_rows = T::at(lane & 15, lane >> 4);
    const int at_k = T::at((lane >> 4) * 8 + (lane & 7), lane >> 3 & 1);
    const pair_of_blocks my(p);
    const int tiles = my.tiles;
    float m[2][2], l[2][2] = {}, base[4][2];
    query_fragments<D> q;
    TS_UNROLL
    for (int i = 0; i < 2; i++) m[i][0] = m[i][1] = -INFINITY;
    hold_queries(q, my, shared);
    for (int j = 0; j < tiles; j++) {
        float s[2][8][4];
        multiply_rows<D>(s, q, take_keys<D>(shared, my, j, 2 * tiles), ts_anew(at_k));
        if (j == tiles - 1) weigh_last(s, p, j, t);
        take_logits(s, m, l, p.scale);
    }
    TS_UNROLL
    for (int i = 0; i < 2; i++) TS_UNROLL
    for (int h = 0; h < 2; h++) {
        const int r = 32 * warp + 16 * i + 8 * h + g, n = my.block * 64 + r;
        const float most = ts_quad_max(m[i][h]);
        const float x = most + ts_log2(ts_quad_sum(l[i][h] * ts_exp2(m[i][h] - most)));
        if (t) continue;
        lse2[r] = n < p.Nq ? x : INFINITY;
        if (n < p.Nq && p.lse) p.lse[(long)my.head * p.Nq + n] = (x + 6) * TS_LN2;
    }
    __syncwarp();
    TS_UNROLL
    for (int c = 0; c < 4; c++) TS_UNROLL
    for (int e = 0; e < 2; e++) base[c][e] = lse2[32 * warp + 8 * c + 2 * t + e];
    /* of tile j, whose parts have come: a thread one of 64 keys of one of two query blocks */
    auto store_tile = [&](int j) {
        const int half = (int)threadIdx.x >> 6, i = threadIdx.x & 63, key = j * 64 + i;
        const float *part = parts + (j % 2 * WARPS + 2 * half) * 64 + i;
        if (key >= p.Nk || my.block + half >= my.nq) return;
        const float share = key == p.Nk - 1 ? (float)(p.Nq - key * 64) / 64 : 1;
        p.sums[((long)my.head * my.nq + my.block + half) * p.columns + key] = (part[0] + part[64]) *
                                                                              share;
    };
    for (int j = 0; j < tiles; j++) {
        float s[4][4][4];
        const unsigned char *keys = take_keys<D>(shared, my, tiles + j, 2 * tiles);
        if (j) store_tile(j - 1);
        multiply_columns<D>(s, q, keys, ts_anew(at_rows));
        add_columns(s, base, p.scale, parts + (j % 2 * WARPS + warp) * 64, g, t);
    }
    ts_cp_wait<0>();
    __syncthreads();
    store_tile(tiles - 1);
}
template <int D> constexpr size_t shared_of_pool(void)
{
    return 2 * ts_tile<D>::block + (2 * WARPS * 64 + ROWS) * sizeof(float);
}
static_assert(shared_of_sums<128>() <= 48 << 10 && shared_of_pool<128>() <= 48 << 10,
              "what every kernel may have");
template <int D> cudaError_t launch_pool(const ts_attend_args *a, cudaStream_t s)
{
    const unsigned grid = (unsigned)a->A * (unsigned)((a->Nq + ROWS - 1) / ROWS);
    return TS_LAUNCH((pool_bf16<D>), grid, THREADS, (shared_of_pool<D>()), s, *a);
}

/* scores of a head: products of means of q and of k, [B, nb, A, D] */
struct score_of {
    const float *q, *k;
    float *scores; /* [B, A, nb, nb] */
    int A, D, item, rows, columns, depth;
    static constexpr bool a_along = true, b_along = true;
    __device__ bool begin(int i)
    {
        item = i;
        return true;
    }
    __device__ long mean_at(int block, int d) const
    {
        return (((long)(item / A) * rows + block) * A + item % A) * D + d;
    }
    __device__ float a(int p, int d) const { return q[mean_at(p, d)]; }
    __device__ float b(int d, int j) const { return k[mean_at(j, d)]; }
    __device__ void put(int p, int j, float x) const
    {
        scores[((long)item * rows + p) * columns + j] = x;
    }
};
} /* namespace */

cudaError_t ts_pool_sums_bf16(const ts_attend_args *a, cudaStream_t s)
{
    return a->D <= 64 ? launch_pool<64>(a, s) : launch_pool<128>(a, s);
}
cudaError_t ts_sum_blocks_bf16(const ts_attend_args *a, cudaStream_t s)
{
    return a->D <= 64 ? launch_sums<64>(a, s) : launch_sums<128>(a, s);
}
cudaError_t ts_score_blocks(const float *q, const float *k, int B, int A, int nb, int D,
                            float *scores, cudaStream_t s)
{
    const score_of w = {q, k, scores, A, D, 0, nb, nb, D};
    return ts_launch_tiles(w, (long)B * A, nb, nb, s);
}
