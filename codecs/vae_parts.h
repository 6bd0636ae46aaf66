/* What VAEs of every class share: tiles that blend with their neighbours, and nearest doubling followed by a convolution. Internal to codecs/vae_*.c.
 *
 * Origins of tiles run 0, stride, 2 stride, ... below the size, stride = 3/4 of the tile, as in diffusers' tiled_decode and tiled_encode. */
#ifndef TS_VAE_PARTS_H
#define TS_VAE_PARTS_H
#include "weights/weights.h"

typedef struct { int n, tile, stride, size; } ts_vae_axis; /* n tiles of `tile` (the last less) every `stride` of `size` */
typedef struct { float *data; int h, w; } ts_vae_patch;    /* [frames, h, w, c] of a tile; malloc'd */

ts_vae_axis ts_vae_axis_of(int size, int tile); /* tile 0: one of the whole size */
int ts_vae_span(ts_vae_axis, int i);            /* what tile i has of it */
/* Room for `frames` of h x w positions of c numbers. TS_EMEMORY. */
ts_status ts_vae_patch_take(ts_ctx *, ts_vae_patch *, int h, int w, int frames, int c);
void ts_vae_patches_free(ts_vae_patch *, int n); /* n of them and the list; NULL is legal */
/* Blends tile (i, j) of p, whose neighbours before it are done, and puts its kept part into whole [frames, H, W, c]; the tile above is of no use any more. up: of a tile to its output. */
void ts_vae_patch_place(ts_vae_patch *p, ts_vae_axis y, ts_vae_axis x, int i, int j, int frames, int c, int up, float *whole);

/* y [F, 2 H, 2 W, O] = conv3x3(nearest x2 of x [F, H, W, C]), f32; takes from the arena and gives back. */
ts_status ts_vae_enlarge(ts_ctx *, const ts_layer *conv, ts_tensor x, ts_tensor y);
#endif
