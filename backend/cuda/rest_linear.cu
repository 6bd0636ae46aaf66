/* The first-order part of what a plan leaves out, on the cores for f32: weights w_pj of what query
 * block p leaves out, covariances C_j of the blocks, M_p = sum_j w_pj C_j, and out += share q M_p,
 * the last three as products of tiles of 64 x 64 that differ in what they load and store.
 *
 * Heads of another form leave at once: the host does not know the forms. */
#include "backend/cuda/rest_parts.cuh"

namespace
{
enum { TILE = 64, DEPTH = 16, TILE_ROW = TILE + 4 };

/* What a product is of: a [rows, depth] and b [depth, columns] of one item of work, zero beyond. */

/* C_j = (k - mean k)' (v - mean v) */
template <class T> struct covariance_of {
    ts_rest_args p;
    int head, block, rows, columns, depth;
    __device__ void begin(int h, int j)
    {
        head = h;
        block = j;
        rows = columns = p.D;
        depth = min(p.N - 64 * j, 64);
    }
    __device__ float a(int d, int n) const
    {
        return ts_read_f32((const T *)p.k, (block * 64L + n) * p.ldk + (long)head * p.D + d) -
               p.pooled_k[((long)block * p.A + head) * p.D + d];
    }
    __device__ float b(int n, int e) const
    {
        return ts_read_f32((const T *)p.v, (block * 64L + n) * p.ldv + (long)head * p.D + e) -
               p.pooled_v[((long)block * p.A + head) * p.D + e];
    }
    __device__ void put(int d, int e, float x) const
    {
        float *to = (float *)p.covariance + ((long)(head - p.first) * p.nb + block) * p.D * p.D;
        to[(long)d * p.D + e] = x;
    }
};

/* M = w C, of all query blocks of a head at once */
struct mix_of {
    ts_rest_args p;
    int head, rows, columns, depth;
    __device__ void begin(int h, int)
    {
        head = h - p.first;
        rows = p.nq;
        depth = p.nb;
        columns = p.D * p.D;
    }
    __device__ float a(int q, int j) const
    {
        return ((const float *)p.weight)[((long)head * p.nq + q) * p.ldw + j];
    }
    __device__ float b(int j, int i) const
    {
        return ((const float *)p.covariance)[((long)head * p.nb + j) * p.D * p.D + i];
    }
    __device__ void put(int q, int i, float x) const
    {
        ((float *)p.mixed)[((long)head * p.nq + q) * p.D * p.D + i] = x;
    }
};

/* out += share q M_p */
template <class T> struct apply_of {
    ts_rest_args p;
    int head, item, block, rows, columns, depth;
    __device__ void begin(int h, int q)
    {
        head = h;
        item = q;
        block = q * p.every;
        rows = min(p.N - 64 * block, 64);
        columns = depth = p.D;
    }
    __device__ float a(int n, int d) const
    {
        return ts_read_f32((const T *)p.q, (block * 64L + n) * p.ldq + (long)head * p.D + d);
    }
    __device__ float b(int d, int e) const
    {
        const long square = (long)p.D * p.D;
        const float *M = (const float *)p.mixed + ((long)(head - p.first) * p.nq + item) * square;
        return M[(long)d * p.D + e];
    }
    __device__ void put(int n, int e, float x) const
    {
        const long row = block * 64L + n, at = row * p.ldo + (long)head * p.D + e;
        T *out = (T *)p.out;
        ts_write_f32(out, at, fmaf(ts_share_of_rest(p, head, row), x, ts_read_f32(out, at)));
    }
};

/* A thread block of 256 a tile, a thread 4 x 4 of it: rows 4 ty .. and columns tx, tx + 16, .. Of
 * `items` of a head, with `tiles` each, `down` of them in a column. */
template <class W>
__global__ void __launch_bounds__(TS_THREADS, 2) multiply_tiles(W w, int items, int tiles, int down)
{
    TS_SHARED(shared);
    float *at = (float *)shared, *bt = at + DEPTH * TILE_ROW;
    const int tx = (int)threadIdx.x & 15, ty = (int)threadIdx.x >> 4;
    const int item = (int)blockIdx.x / tiles, tile = (int)blockIdx.x % tiles;
    const int row = tile % down * TILE, column = tile / down * TILE;
    const int head = w.p.first + item / items;
    if (!ts_is_linear(w.p, head)) return;
    w.begin(head, item % items);
    float sum[4][4] = {};
    for (int k0 = 0; k0 < w.depth; k0 += DEPTH) {
        __syncthreads();
        for (int i = (int)threadIdx.x; i < DEPTH * TILE; i += TS_THREADS) {
            const int k = i / TILE, c = i % TILE;
            const bool inside = k0 + k < w.depth;
            at[k * TILE_ROW + c] = inside && row + c < w.rows ? w.a(row + c, k0 + k) : 0;
            bt[k * TILE_ROW + c] = inside && column + c < w.columns ? w.b(k0 + k, column + c) : 0;
        }
        __syncthreads();
        for (int k = 0; k < DEPTH; k++) {
            const float4 a = *(const float4 *)(at + k * TILE_ROW + 4 * ty);
            TS_UNROLL
            for (int c = 0; c < 4; c++) {
                const float b = bt[k * TILE_ROW + tx + 16 * c];
                sum[0][c] = fmaf(a.x, b, sum[0][c]);
                sum[1][c] = fmaf(a.y, b, sum[1][c]);
                sum[2][c] = fmaf(a.z, b, sum[2][c]);
                sum[3][c] = fmaf(a.w, b, sum[3][c]);
            }
        }
    }
    TS_UNROLL
    for (int i = 0; i < 4; i++) TS_UNROLL
    for (int c = 0; c < 4; c++)
        if (row + 4 * ty + i < w.rows && column + tx + 16 * c < w.columns)
            w.put(row + 4 * ty + i, column + tx + 16 * c, sum[i][c]);
}
template <class W>
cudaError_t launch_tiles(const ts_rest_args *a, int items, long rows, long columns, cudaStream_t s)
{
    const long down = (rows + TILE - 1) / TILE, tiles = down * ((columns + TILE - 1) / TILE);
    W w = {};
    w.p = *a;
    if ((long)a->heads * items > INT_MAX / tiles) return cudaErrorInvalidValue;
    return TS_LAUNCH((multiply_tiles<W>), dim3((unsigned)(a->heads * items * tiles)),
                     dim3(TS_THREADS), 2 * DEPTH * TILE_ROW * sizeof(float), s, w, items,
                     (int)tiles, (int)down);
}
template <class T> cudaError_t add_linear_part(const ts_rest_args *a, cudaStream_t s)
{
    cudaError_t e = TS_SWEEP((ts_weigh_rest<float>), (long)a->heads * a->nq * a->ldw, s, *a);
    if (!e) e = launch_tiles<covariance_of<T>>(a, a->nb, a->D, a->D, s);
    if (!e) e = launch_tiles<mix_of>(a, 1, a->nq, (long)a->D * a->D, s);
    if (!e) e = launch_tiles<apply_of<T>>(a, a->nq, 64, a->D, s);
    return e;
}
} /* namespace */

cudaError_t ts_rest_linear_any(const ts_rest_args *a, bool bf16, cudaStream_t s)
{
    return bf16 ? add_linear_part<uint16_t>(a, s) : add_linear_part<float>(a, s);
}
