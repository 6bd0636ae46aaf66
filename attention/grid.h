/* The tokens of a picture or clip in the order in which attention sees them, and the text that
 * takes part in self-attention behind them. */
#ifndef TS_GRID_H
#define TS_GRID_H
#include "backend/ctx.h"
/* raster: the model's own, frames slowest. tile: tiles of 4 x 4 x 4 tokens, of a single picture 8 x
 * 8, one after another, tokens in each in raster order */
typedef enum { TS_RASTER, TS_TILE_ORDER } ts_order;
typedef struct {
    int F, H, W; /* tokens along time, height, width (after patching) */
    int N, nb;   /* F H W, and its blocks where no text is behind it */
    /* Of another order than raster, for the life of who made it (attend.h); otherwise absent. */
    /* i32 [N]: raster index of the token at each place, and the reverse: rows of x are put in order
     * by gathering them by perm */
    ts_tensor perm, back;
} ts_grid;
ts_grid ts_grid_of(int F, int H, int W); /* in raster order */
/* at [N]: raster index of the token at each place. Tile order sorts tokens at (t, y, x) by (t/4,
 * y/4, x/4, t%4, y%4, x%4), or (y/8, x/8, y%8, x%8) where F is 1; border tiles are smaller. */
void ts_grid_order(const ts_grid *, ts_order, int32_t *at);
const char *ts_order_name(ts_order);

/* What one evaluation's self-attention runs over: rows 0 .. N - 1 are the grid's tokens in its
 * order, rows N .. T - 1 the text's in their own, whatever the model's order is. Text is as long as
 * the model lets take part, which may differ between branches; most families have none (L 0).
 * Blocks count from the first video token on, so that only the last one is ragged. */
typedef struct {
    int N, L, T; /* rows of video, of text, of both */
    int nb;      /* blocks of T */
    /* Blocks that hold video alone: plans, budgets and scores are about these. Those behind them
     * (the mixed one, then text) are read by every query and read everything. Without text all
     * blocks are such, the ragged one too; 0: N is less than a block, with text */
    int nv;
} ts_sequence;
ts_sequence ts_sequence_of(int N, int L);
#endif
