/* The first-order part of what a plan leaves out on tensor cores, all of it in bf16 with sums in
 * f32: covariances C_j of blocks, M = w C of all query blocks of a head as one product, and out +=
 * share q M_p. The second is the largest by far: nq nb D^2 products, of which the others have N
 * D^2.
 *
 * Heads of another form leave at once: the host does not know the forms. */
#include "backend/cuda/rest_parts.cuh"

namespace
{
enum { WARPS = 4, THREADS = 32 * WARPS };

/* 64 rows of a block less their mean, zero beyond n rows and D columns. */
template <int D>
TS_DEV void load_centered(unsigned char *to, const uint16_t *x, long ld, int n, int width,
                          const float *mean)
{
    using T = ts_tile<D>;
    TS_UNROLL_BY(4)
    for (int i = (int)threadIdx.x; i < 64 * T::chunks; i += THREADS) {
        const int r = i / T::chunks, c = i % T::chunks;
        uint4 out = make_uint4(0, 0, 0, 0);
        if (r < n && 8 * c < width) {
            float v[8], m[8];
            uint32_t w[4];
            get(v, x, TS_BF16, r * ld + 8 * c);
            get(m, mean, TS_F32, 8 * c);
            TS_UNROLL
            for (int k = 0; k < 4; k++)
                w[k] = ts_bf16x2(v[2 * k] - m[2 * k], v[2 * k + 1] - m[2 * k + 1]);
            out = make_uint4(w[0], w[1], w[2], w[3]);
        }
        *(uint4 *)(to + T::at(r, c)) = out;
    }
}
/* Fragments of rows g and g + 8 of a product, 8 columns each, to rows `ld` apart. */
template <int N>
TS_DEV void store_fragments(uint16_t *to, long ld, int rows, int columns, const float (&c)[N][4],
                            int g, int t)
{
    TS_UNROLL
    for (int h = 0; h < 2; h++) {
        if (g + 8 * h >= rows) continue;
        TS_UNROLL
        for (int n = 0; n < N; n++)
            if (8 * n < columns)
                *(uint32_t *)(to + (g + 8 * h) * ld + 8 * n + 2 * t) = ts_bf16x2(c[n][2 * h],
                                                                                 c[n][2 * h + 1]);
    }
}

/* C_j = (k - mean k)' (v - mean v); a thread block a head and block, a warp D / 4 rows. */
template <int D> __global__ void __launch_bounds__(THREADS, 2) spread_blocks(ts_rest_args p)
{
    using T = ts_tile<D>;
    constexpr int MT = D / 64;
    TS_SHARED(shared);
    unsigned char *sk = shared, *sv = sk + T::block;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int item = (int)blockIdx.x / p.nb, head = p.first + item, j = (int)blockIdx.x % p.nb;
    if (!ts_is_linear(p, head)) return;
    const long column = (long)head * p.D, mean = ((long)j * p.A + head) * p.D;
    const int n = min(p.N - 64 * j, 64);
    load_centered<D>(sk, (const uint16_t *)p.k + j * 64 * p.ldk + column, p.ldk, n, p.D,
                     p.pooled_k + mean);
    load_centered<D>(sv, (const uint16_t *)p.v + j * 64 * p.ldv + column, p.ldv, n, p.D,
                     p.pooled_v + mean);
    __syncthreads();
    const int at_k = T::at((lane >> 4) * 8 + (lane & 7), lane >> 3 & 1);
    const int at_v = T::at(lane & 15, lane >> 4);
    float sum[MT][D / 8][4] = {};
    TS_UNROLL
    for (int c = 0; c < 4; c++) { /* 16 tokens */
        uint32_t a[MT][4], b[4];
        TS_UNROLL
        for (int i = 0; i < MT; i++)
            ts_ldmatrix_trans(a[i], sk + T::on(at_k, MT * warp + i) + 16 * c * T::row);
        TS_UNROLL
        for (int e = 0; e < D / 16; e++) {
            ts_ldmatrix_trans(b, sv + T::on(at_v, e) + 16 * c * T::row);
            TS_UNROLL
            for (int i = 0; i < MT; i++) {
                ts_mma(sum[i][2 * e], a[i], b[0], b[1]);
                ts_mma(sum[i][2 * e + 1], a[i], b[2], b[3]);
            }
        }
    }
    uint16_t *C = (uint16_t *)p.covariance + ((long)item * p.nb + j) * p.D * p.D;
    TS_UNROLL
    for (int i = 0; i < MT; i++) {
        const int d = 16 * (MT * warp + i);
        store_fragments(C + (long)d * p.D, p.D, p.D - d, p.D, sum[i], g, t);
    }
}

/* M = w C of a head: 128 query blocks by 128 numbers of [D, D] a thread block, a warp 32 rows; 64
 * blocks at a time in two stages. */
enum { MIX_ROWS = 128, MIX_COLUMNS = 128 };
__global__ void __launch_bounds__(THREADS) mix_blocks(ts_rest_args p, int down, int across)
{
    using A = ts_tile<64>;
    using B = ts_tile<MIX_COLUMNS>;
    constexpr int STAGE = 2 * A::block + B::block;
    TS_SHARED(shared);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int item = (int)blockIdx.x / (down * across), tile = (int)blockIdx.x % (down * across);
    const int row = tile % down * MIX_ROWS, column = tile / down * MIX_COLUMNS;
    if (!ts_is_linear(p, p.first + item)) return;
    const int square = p.D * p.D;
    const uint16_t *w = (const uint16_t *)p.weight + (long)item * p.nq * p.ldw;
    const uint16_t *C = (const uint16_t *)p.covariance + (long)item * p.nb * square + column;
    const int at_a = A::at(32 * warp + (lane & 15), lane >> 4);
    const int at_b = B::at(lane & 15, lane >> 4);
    auto fetch = [&](unsigned char *to, int j) {
        const ts_head_rows a = {w + 64 * j, p.ldw, p.nq, (int)p.ldw - 64 * j};
        const ts_head_rows b = {C, square, p.nb, square - column};
        ts_fetch<64, THREADS>(to, a, row, MIX_ROWS);
        ts_fetch<MIX_COLUMNS, THREADS>(to + 2 * A::block, b, 64 * j, 64);
    };
    float sum[2][MIX_COLUMNS / 8][4] = {};
    const int tiles = (p.nb + 63) >> 6;
    fetch(shared, 0);
    ts_cp_commit();
    for (int j = 0; j < tiles; j++) {
        const unsigned char *a = shared + j % 2 * STAGE, *b = a + 2 * A::block;
        const int ao = ts_anew(at_a), bo = ts_anew(at_b);
        ts_cp_wait<0>();
        __syncthreads();
        if (j + 1 < tiles) fetch(shared + (j + 1) % 2 * STAGE, j + 1);
        ts_cp_commit();
        TS_UNROLL
        for (int c = 0; c < 4; c++) { /* 16 blocks */
            uint32_t fa[2][4], fb[4];
            TS_UNROLL
            for (int i = 0; i < 2; i++) ts_ldmatrix(fa[i], a + A::on(ao, c) + 16 * i * A::row);
            TS_UNROLL
            for (int n = 0; n < MIX_COLUMNS / 16; n++) {
                ts_ldmatrix_trans(fb, b + B::on(bo, n) + 16 * c * B::row);
                TS_UNROLL
                for (int i = 0; i < 2; i++) {
                    ts_mma(sum[i][2 * n], fa[i], fb[0], fb[1]);
                    ts_mma(sum[i][2 * n + 1], fa[i], fb[2], fb[3]);
                }
            }
        }
    }
    ts_cp_wait<0>(); /* for nothing, which must be waited for too */
    uint16_t *M = (uint16_t *)p.mixed + (long)item * p.nq * square + column;
    TS_UNROLL
    for (int i = 0; i < 2; i++) {
        const int q = row + 32 * warp + 16 * i;
        store_fragments(M + (long)q * square, square, p.nq - q, square - column, sum[i], g, t);
    }
}

/* out += share q M_p; a thread block a head and query block, a warp 16 rows. */
template <int D> __global__ void __launch_bounds__(THREADS) apply_mixed(ts_rest_args p)
{
    using T = ts_tile<D>;
    TS_SHARED(shared);
    unsigned char *sq = shared, *sm = sq + T::block;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int item = (int)blockIdx.x / p.nq, head = p.first + item;
    const int first = (int)blockIdx.x % p.nq * p.every * 64;
    if (!ts_is_linear(p, head)) return;
    const ts_head_rows q = {(const uint16_t *)p.q + (long)head * p.D, p.ldq, p.N, p.D};
    const ts_head_rows M = {(const uint16_t *)p.mixed + (long)blockIdx.x * p.D * p.D, p.D, p.D,
                            p.D};
    ts_fetch<D, THREADS>(sq, q, first, 64);
    ts_fetch<D, THREADS>(sm, M, 0, D);
    ts_cp_commit();
    ts_cp_wait<0>();
    __syncthreads();
    const int at_q = T::at(16 * warp + (lane & 15), lane >> 4);
    const int at_m = T::at(lane & 15, lane >> 4);
    float sum[D / 8][4] = {};
    TS_UNROLL
    for (int d = 0; d < D / 16; d++) {
        uint32_t a[4], b[4];
        ts_ldmatrix(a, sq + T::on(at_q, d));
        TS_UNROLL
        for (int e = 0; e < D / 16; e++) {
            ts_ldmatrix_trans(b, sm + T::on(at_m, e) + 16 * d * T::row);
            ts_mma(sum[2 * e], a, b[0], b[1]);
            ts_mma(sum[2 * e + 1], a, b[2], b[3]);
        }
    }
    TS_UNROLL
    for (int h = 0; h < 2; h++) {
        const int n = first + 16 * warp + 8 * h + g;
        if (n >= p.N) continue;
        const float share = ts_share_of_rest(p, head, n);
        uint32_t *out = (uint32_t *)((uint16_t *)p.out + n * p.ldo + (long)head * p.D);
        TS_UNROLL
        for (int e = 0; e < D / 8; e++) {
            if (8 * e >= p.D) continue;
            const uint32_t x = out[4 * e + t];
            out[4 * e + t] = ts_bf16x2(
                fmaf(share, sum[e][2 * h], widen_half(TS_BF16, x & 0xFFFF)),
                fmaf(share, sum[e][2 * h + 1], widen_half(TS_BF16, x >> 16)));
        }
    }
}

constexpr size_t MIX_SHARED = 2 * (2 * ts_tile<64>::block + ts_tile<MIX_COLUMNS>::block);

template <int D> cudaError_t add_by_tiles(const ts_rest_args *a, cudaStream_t s)
{
    constexpr size_t row = ts_tile<D>::row;
    const unsigned heads = (unsigned)a->heads, nb = (unsigned)a->nb, nq = (unsigned)a->nq;
    const int down = (a->nq + MIX_ROWS - 1) / MIX_ROWS,
              across = (a->D * a->D + MIX_COLUMNS - 1) / MIX_COLUMNS;
    cudaError_t e = TS_SWEEP((ts_weigh_rest<uint16_t>), (long)a->heads * a->nq * a->ldw, s, *a);
    if (!e) e = TS_LAUNCH((spread_blocks<D>), heads * nb, THREADS, 128 * row, s, *a);
    if (!e)
        e = TS_LAUNCH(mix_blocks, heads * (unsigned)(down * across), THREADS, MIX_SHARED, s, *a,
                      down, across);
    if (!e) e = TS_LAUNCH((apply_mixed<D>), heads * nq, THREADS, (64 + D) * row, s, *a);
    return e;
}
} /* namespace */

cudaError_t ts_rest_linear_init(void)
{
    return cudaFuncSetAttribute((const void *)mix_blocks,
                                cudaFuncAttributeMaxDynamicSharedMemorySize, (int)MIX_SHARED);
}
cudaError_t ts_rest_linear_bf16(const ts_rest_args *a, cudaStream_t s)
{
    return a->D <= 64 ? add_by_tiles<64>(a, s) : add_by_tiles<128>(a, s);
}
