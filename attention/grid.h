/* The tokens of a picture or clip in the order in which attention sees them. */
#ifndef TS_GRID_H
#define TS_GRID_H
#include "backend/ctx.h"
/* raster: the model's own, frames slowest. tile: tiles of 4 x 4 x 4 tokens, of a single picture 8 x
 * 8, one after another, tokens in each in raster order */
typedef enum { TS_RASTER, TS_TILE_ORDER } ts_order;
typedef struct {
    int F, H, W; /* tokens along time, height, width (after patching) */
    int N, nb;   /* F H W, and blocks of TS_BLOCK */
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
#endif
