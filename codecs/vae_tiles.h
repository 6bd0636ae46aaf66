/* Tiles of frames, which blend with their neighbours. Internal to codecs/vae_*.c.
 *
 * Origins of tiles run 0, stride, 2 stride, ... below the size, stride being what does not overlap
 * of a tile, as in diffusers' tiled_decode and tiled_encode: also along a side that is no longer
 * than a tile, where the other is. */
#ifndef TS_VAE_TILES_H
#define TS_VAE_TILES_H
#include "codecs/vae.h"

/* frame f.. of [F, H, W, C] */
ts_tensor ts_vae_frames(ts_tensor, long first, long count);

/* n tiles of `tile` (the last less) every `stride` of `size` */
typedef struct {
    int n, tile, stride, size;
} ts_vae_axis;
int ts_vae_span(ts_vae_axis, int i); /* what tile i has of it */
/* Axes of a frame of H x W latents in such tiles, one of each where it is no larger than a tile.
 * TS_EUSAGE unless a tile's sides are multiples of the stride. */
ts_status ts_vae_axes(ts_ctx *, const ts_vae_info *, ts_vae_tile, long H, long W, ts_vae_axis *y,
                      ts_vae_axis *x);

/* Frames put together from tiles, which come row by row, each with its frames in order. A tile
 * blends with what its neighbours above and to the left had become; of those no more than the
 * overlap is kept. */
typedef struct {
    ts_ctx *ctx;
    ts_vae_axis y, x;
    int up;                   /* a tile's output to its latents */
    ts_tensor whole;          /* [frames, H, W, c] */
    ts_tensor below;          /* last rows of the tiles of a row: [x.n, frames, rows, width, c] */
    ts_tensor right;          /* last columns of a tile: [frames, height, columns, c] */
    ts_tensor ramp_y, last_y; /* [2, rows]: 1 - t and t; of the last tile */
    ts_tensor ramp_x, last_x; /* [2, columns c] */
} ts_vae_blend;
/* whole: the caller's, f32. Carves the rest from the arena. */
ts_status ts_vae_blend_open(ts_vae_blend *, ts_ctx *, ts_vae_axis y, ts_vae_axis x, int up,
                            ts_tensor whole);
/* Frame f of tile (i, j): [1, h, w, c], spoilt. */
ts_status ts_vae_blend_put(ts_vae_blend *, int i, int j, long f, ts_tensor tile);
/* Frames m of tile (i, j) to frame `to` .. of what the blend puts together. */
ts_status ts_vae_put_frames(ts_vae_blend *, int i, int j, long to, ts_tensor m);
#endif
