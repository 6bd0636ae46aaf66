/* Plans that follow from the grid alone: bits [blocks, ceil(blocks / 32)] on the host, one pattern
 * for all heads unless said otherwise, of the first so many blocks of the grid (ts_sequence.nv).
 * at [N]: raster index of the token at each place (ts_grid_order). */
#ifndef TS_PATTERNS_H
#define TS_PATTERNS_H
#include "attention/grid.h"
/* Attention tile (k : F - k) of arXiv 2502.06155: frames i, j see each other when i = j or either
 * is one of the k reference frames ceil(m F / k). A pair of blocks of `block` tokens is read when
 * any pair of their tokens may see each other. k of 0, or of F or more: everything. Returns false:
 * no memory. */
bool ts_pattern_tile(const ts_grid *, const int32_t *at, int k, int block, int blocks,
                     uint32_t *bits);
/* Sliding window: a row's budget of nearest blocks. A block is where its tokens are on average;
 * distance = max over time, height, width of |difference| / extent. */
bool ts_pattern_window(const ts_grid *, const int32_t *at, double keep, int blocks, uint32_t *bits);
/* Radial attention (arXiv 2506.19852, 3.2): the band of a frame that a token sees halves whenever
 * the distance in frames doubles. Of two blocks e places of a frame (in raster order) and d frames
 * apart, by where their tokens are on average, the distance is (e + 1) 2^floor(log2 max(d, 1)) / (H
 * W), and a row's budget goes to the nearest; the paper reads those of at most 1. Nearest of all
 * are the row's own block, then, in clips, blocks with a token of the first frame. */
bool ts_pattern_radial(const ts_grid *, const int32_t *at, double keep, int blocks, uint32_t *bits);
/* The two patterns of Sparse VideoGen (arXiv 2502.01776) as scores [2, nb, nb], larger: nearer, of
 * the first nv blocks among themselves (others 0). Spatial: minus the distance of their places in
 * raster order; temporal: in the order in which a pixel's tokens of all frames stand together. A
 * block is where its tokens are on average. Returns false: no memory. */
bool ts_pattern_svg(const ts_grid *, const int32_t *at, int nv, int nb, float *scores);
/* Window and tile as scores [2, nb, nb] like those of svg. Window: minus the distance above. Tile:
 * minus r + e / (H W), of blocks e places of a frame apart (in raster order, by where their tokens
 * are on average), r 0 where they have a frame in common, else the least k for which a frame of j
 * is among the k reference frames of ts_pattern_tile; so that a row's budget is its own frame, then
 * reference frames. Returns false: no memory. */
bool ts_pattern_near(const ts_grid *, const int32_t *at, int nv, int nb, float *scores);
/* The block itself and budget - 1 others, drawn for (seed, layer, head, row): those with the
 * smallest words of Philox, block j having word j % 4 of counter (row 2^32 + j / 4, layer 2^32 +
 * head). */
bool ts_pattern_random(int blocks, double keep, uint64_t seed, int layer, int head, uint32_t *bits);

/* ---- bits of plans ---- */
long ts_bits_count(const uint32_t *bits, long rows, int nb); /* blocks read */
/* every row reads a block, and none beyond nb */
bool ts_bits_valid(const uint32_t *bits, long rows, int nb);
/* A choice among video blocks [A, nv, ..] as a plan of the whole sequence [A, nb, ..], and back. */
void ts_bits_widen(const uint32_t *chosen, int A, ts_sequence, uint32_t *plan);
void ts_bits_narrow(const uint32_t *plan, int A, ts_sequence, uint32_t *chosen);
#endif
