/* What the attention kernels of tensor cores (flash.cu, search.cu) share: tiles of bf16 in shared
 * memory, the walk along a row of a plan, the four lanes that hold a row of a fragment. */
#ifndef TS_CUDA_ATTENTION_TILE_CUH
#define TS_CUDA_ATTENTION_TILE_CUH
#include "backend/cuda/ptx.h"

#define TS_LANES (~0u)
#define TS_LN2 0.693147180559945f
#define TS_LOG2E 1.44269504088896f

/* Rows of D bf16 in shared memory, in chunks of 16 bytes, chunk c of row r at place c ^ (r & 7):
 * the eight rows that ldmatrix reads at once lie in eight different banks of 16 bytes. */
template <int D> struct ts_tile {
    static constexpr int row = D <= 64 ? 128 : 256, chunks = D / 8;
    static constexpr int block = 64 * row; /* bytes of 64 rows */
    TS_DEV int at(int r, int c) { return r * row + ((c ^ (r & 7)) << 4); }
    /* so many pairs of chunks further in the row: at(r, c) -> at(r, c + 2 pairs), c of 0 and 1 */
    TS_DEV int on(int at, int pairs) { return at ^ pairs << 5; }
};

/* Rows of one head of a tensor. */
struct ts_head_rows {
    const uint16_t *from; /* [n, ld] bf16, from column 0 of the head; 16-byte aligned */
    long ld;
    int n, width; /* what is beyond them is zero */
};
/* Copies `rows` rows from `first` on. A thread keeps its chunk of 16 bytes and, 8 rows or a
 * multiple apart, its place in the swizzled row. */
template <int D, int THREADS>
TS_DEV void ts_fetch(unsigned char *to, const ts_head_rows &x, int first, int rows)
{
    using T = ts_tile<D>;
    constexpr int ACROSS = T::row / 16, STEP = THREADS / ACROSS;
    const int c = threadIdx.x % ACROSS, r0 = threadIdx.x / ACROSS;
    const int bytes = 8 * c < x.width ? 16 : 0;
    if (c >= T::chunks) return;
    const uint16_t *src = x.from + (first + r0) * x.ld + (bytes ? 8 * c : 0);
    if (first + rows <= x.n) {
        unsigned char *at = to + T::at(r0, c);
        TS_UNROLL_BY(8)
        for (int r = 0; r < rows; r += STEP, src += STEP * x.ld)
            ts_cp16(STEP % 8 ? to + T::at(r0 + r, c) : at + r * T::row, src, bytes);
    } else {
        TS_UNROLL_BY(1)
        for (int r = r0; r < rows; r += STEP, src += STEP * x.ld) {
            const bool there = first + r < x.n;
            ts_cp16(to + T::at(r, c), there ? src : x.from, there ? bytes : 0);
        }
    }
}

/* Which key blocks come, ascending: the union of two rows of the plan, at words a and b of its bits
 * (bits NULL: everything; a = b: one row). */
struct ts_walk {
    int a, b, word;
    uint32_t left; /* of the word */
    __device__ __forceinline__ int next(const uint32_t *bits, int nk)
    {
        while (!left) {
            if (++word > (nk - 1) >> 5) return -1;
            left = bits ? __ldg(bits + a + word) | __ldg(bits + b + word) : ~0u;
        }
        int j = 32 * word + __ffs((int)left) - 1;
        left &= left - 1;
        return j < nk ? j : -1;
    }
};
TS_DEV bool ts_is_listed(const uint32_t *bits, int row, int j)
{
    return !bits || __ldg(bits + row + (j >> 5)) >> (j & 31) & 1;
}

/* Of the 64 blocks of tile j of nb pooled keys, those that a row of the plan leaves out. */
struct ts_left_out {
    uint32_t word[2];
    __device__ __forceinline__ ts_left_out(const uint32_t *bits, int row, int j, int nb)
    {
        TS_UNROLL
        for (int i = 0; i < 2; i++) {
            const int left = nb - 64 * j - 32 * i; /* blocks from this word on */
            word[i] = left > 0 ? ~__ldg(bits + row + 2 * j + i) : 0;
            if (left > 0 && left < 32) word[i] &= (1u << left) - 1;
        }
    }
    __device__ __forceinline__ bool has(int i) const /* block i of the tile */
    {
        return word[i >> 5] >> (i & 31) & 1;
    }
};
/* What pooled key j of nb, of N tokens, counts: log2 of the tokens of its block. */
TS_DEV float ts_log2_tokens(int N, int nb, int j)
{
    return j == nb - 1 ? ts_log2((float)(N - j * 64)) : 6;
}

/* Max or sum of the four lanes that hold a row. */
TS_DEV float ts_quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(TS_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(TS_LANES, x, 2));
}
TS_DEV float ts_quad_sum(float x)
{
    x += __shfl_xor_sync(TS_LANES, x, 1);
    return x + __shfl_xor_sync(TS_LANES, x, 2);
}
TS_DEV float ts_warp_sum(float x)
{
    TS_UNROLL
    for (int d = 16; d; d >>= 1) x += __shfl_xor_sync(TS_LANES, x, d);
    return x;
}

/* One block of logits: s[i] = (16 rows i of Q) (64 keys)', unscaled. Q's rows are in shared memory
 * at `q` (MT > 1) or in registers as fragments fq (MT 1). */
template <int D, int MT, int KS>
TS_DEV void ts_multiply_keys(float (&s)[MT][8][4], const unsigned char *q, int at_q,
                             const uint32_t (&fq)[KS][4], const unsigned char *k, int at_k,
                             bool planted)
{
    using T = ts_tile<D>;
    TS_UNROLL
    for (int i = 0; i < MT; i++) TS_UNROLL
    for (int n = 0; n < 8; n++) s[i][n][0] = s[i][n][1] = s[i][n][2] = s[i][n][3] = 0;
    TS_UNROLL
    for (int d = 0; d < D / 16; d++) {
        uint32_t a[MT][4], b[4];
        TS_UNROLL
        for (int i = 0; i < MT; i++) {
            if constexpr (MT == 1) {
                TS_UNROLL
                for (int e = 0; e < 4; e++) a[i][e] = fq[d][e];
            } else {
                ts_ldmatrix(a[i], q + T::on(at_q, d) + 16 * i * T::row);
            }
        }
        TS_UNROLL
        for (int n = 0; n < 4; n++) { /* 16 keys */
            ts_ldmatrix(b, k + T::on(at_k, d) + 16 * n * T::row);
            TS_UNROLL
            for (int i = 0; i < MT; i++) {
                ts_mma(s[i][2 * n], a[i], b[0], b[planted ? 2 : 1]);
                ts_mma(s[i][2 * n + 1], a[i], b[planted ? 1 : 2], b[3]);
            }
        }
    }
}
#endif
