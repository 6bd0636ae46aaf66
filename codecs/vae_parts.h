/* What VAEs of every class share: tiles that blend with their neighbours, latents and moments on
 * their way in and out, and nearest doubling followed by a convolution. Internal to codecs/vae_*.c.
 *
 * Origins of tiles run 0, stride, 2 stride, ... below the size, stride = 3/4 of the tile, as in
 * diffusers' tiled_decode and tiled_encode. */
#ifndef TS_VAE_PARTS_H
#define TS_VAE_PARTS_H
#include "codecs/vae.h"

/* n tiles of `tile` (the last less) every `stride` of `size` */
typedef struct {
    int n, tile, stride, size;
} ts_vae_axis;
/* [frames, h, w, c] of a tile; malloc'd */
typedef struct {
    float *data;
    int h, w;
} ts_vae_patch;

ts_vae_axis ts_vae_axis_of(int size, int tile); /* tile 0: one of the whole size */
int ts_vae_span(ts_vae_axis, int i);            /* what tile i has of it */
/* TS_EUSAGE unless its sides are multiples of the stride */
ts_status ts_vae_check_tile(ts_ctx *, const ts_vae_info *, ts_vae_tile);
/* Computes every tile, blends it with its neighbours and puts its kept part into whole [frames, H,
 * W, c]. up: of a tile to its output. `one` fills the data of tile (i, j). TS_EMEMORY, what `one`
 * says. */
ts_status ts_vae_each_tile(ts_ctx *, ts_vae_axis y, ts_vae_axis x, int frames, int c, int up,
                           float *whole,
                           ts_status (*one)(void *user, int i, int j, const ts_vae_patch *),
                           void *user);

/* Frame f of tile (i, j) of the latents, channels last into out [h, w, C], scaled to what the
 * decoder was trained on. */
void ts_vae_cut_latent(const ts_vae_info *, ts_host latents, ts_vae_axis y, ts_vae_axis x, int i,
                       int j, long f, float *out);
/* f32; `from` may be overwritten once it returns */
ts_status ts_vae_upload(ts_ctx *, ts_tensor to, const float *from);
/* moments [n, 2 C] -> the normalised means, latent [C, n]; planes not NULL: all of them, [2 C,
 * n]. */
void ts_vae_split_moments(const ts_vae_info *, const float *moments, long n, float *latent,
                          float *planes);

/* y [F, 2 H, 2 W, O] = conv3x3(nearest x2 of x [F, H, W, C]), f32; takes from the arena and gives
 * back. */
ts_status ts_vae_enlarge(ts_ctx *, const ts_layer *conv, ts_tensor x, ts_tensor y);
#endif
