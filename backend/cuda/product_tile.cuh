/* Products of matrices on the cores for f32, in tiles of 64 x 64, of whatever a work says:
 *
 *   bool begin(int item)   what the item has: rows, columns, depth; false: nothing
 *   float a(row, k), float b(k, column)
 *   void put(row, column, sum)
 *   static constexpr bool a_along, b_along   numbers that are neighbours along k are so in memory
 *
 * Sums are in the order of k. */
#ifndef TS_CUDA_PRODUCT_TILE_CUH
#define TS_CUDA_PRODUCT_TILE_CUH
#include "backend/cuda/numbers.cuh"

enum { TS_TILE = 64, TS_TILE_DEPTH = 16, TS_TILE_ROW = TS_TILE + 4 };

/* Place i of a slice that is loaded: k, and row or column. */
template <bool ALONG> TS_DEV int ts_slice_depth(int i)
{
    return ALONG ? i % TS_TILE_DEPTH : i / TS_TILE;
}
template <bool ALONG> TS_DEV int ts_slice_place(int i)
{
    return ALONG ? i / TS_TILE_DEPTH : i % TS_TILE;
}

/* A thread block of 256 a tile, a thread 4 x 4 of it: rows 4 ty .. and columns tx, tx + 16, .. Of
 * `tiles` of an item `down` are in a column. */
template <class W>
static __global__ void __launch_bounds__(TS_THREADS, 2) ts_multiply_tiles(W w, int tiles, int down)
{
    TS_SHARED(shared);
    float *at = (float *)shared, *bt = at + TS_TILE_DEPTH * TS_TILE_ROW;
    const int tx = (int)threadIdx.x & 15, ty = (int)threadIdx.x >> 4;
    const int tile = (int)blockIdx.x % tiles;
    const int row = tile % down * TS_TILE, column = tile / down * TS_TILE;
    if (!w.begin((int)blockIdx.x / tiles)) return;
    float sum[4][4] = {};
    for (int k0 = 0; k0 < w.depth; k0 += TS_TILE_DEPTH) {
        __syncthreads();
        for (int i = (int)threadIdx.x; i < TS_TILE_DEPTH * TS_TILE; i += TS_THREADS) {
            const int k = ts_slice_depth<W::a_along>(i), r = ts_slice_place<W::a_along>(i);
            const bool inside = k0 + k < w.depth && row + r < w.rows;
            at[k * TS_TILE_ROW + r] = inside ? w.a(row + r, k0 + k) : 0;
        }
        for (int i = (int)threadIdx.x; i < TS_TILE_DEPTH * TS_TILE; i += TS_THREADS) {
            const int k = ts_slice_depth<W::b_along>(i), c = ts_slice_place<W::b_along>(i);
            const bool inside = k0 + k < w.depth && column + c < w.columns;
            bt[k * TS_TILE_ROW + c] = inside ? w.b(k0 + k, column + c) : 0;
        }
        __syncthreads();
        for (int k = 0; k < TS_TILE_DEPTH; k++) {
            const float4 a = *(const float4 *)(at + k * TS_TILE_ROW + 4 * ty);
            TS_UNROLL
            for (int c = 0; c < 4; c++) {
                const float b = bt[k * TS_TILE_ROW + tx + 16 * c];
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

/* items, of at most so many rows and columns */
template <class W>
static cudaError_t ts_launch_tiles(const W &w, long items, long rows, long columns, cudaStream_t s)
{
    const long down = (rows + TS_TILE - 1) / TS_TILE,
               tiles = down * ((columns + TS_TILE - 1) / TS_TILE);
    if (items > INT_MAX / tiles) return cudaErrorInvalidValue;
    return TS_LAUNCH((ts_multiply_tiles<W>), dim3((unsigned)(items * tiles)), dim3(TS_THREADS),
                     2 * TS_TILE_DEPTH * TS_TILE_ROW * sizeof(float), s, w, (int)tiles, (int)down);
}
#endif
