/* What VAEs of several classes share: latents, moments and frames on their way in and out, decoders
 * and encoders at work, and layers. All of it on the device. Internal to codecs/vae_*.c. */
#ifndef TS_VAE_PARTS_H
#define TS_VAE_PARTS_H
#include "codecs/vae_tiles.h"

/* ---- config ---- */
/* Lists of blocks, one for each level of block_out_channels, are of one kind each:
 * "down_block_types" and "up_block_types" of a config, where they are there. TS_EMODEL. */
ts_status ts_vae_check_blocks(ts_ctx *, const cJSON *config, const char *path, int levels,
                              const char *down, const char *up);

/* TS_EMODEL unless each of the levels' block_out_channels is a multiple of norm_num_groups. */
ts_status ts_vae_check_widths(ts_ctx *, const char *path, const int *width, int levels, int groups);
/* TS_EMODEL: a scaling_factor that nothing can be divided by. */
ts_status ts_vae_check_scale(ts_ctx *, const char *path, double scale);

/* ---- in and out ---- */
/* What latents are multiplied by and what is added, [2, C] f32: for a decoder std and mean, for an
 * encoder their reverse. */
ts_status ts_vae_scales(ts_ctx *, const ts_vae_info *, bool encoder, ts_tensor *out);
/* Frame f of tile (i, j) of latents [F, H, W, C], scaled to what the decoder was trained on, into
 * out [1, h, w, C]. */
ts_status ts_vae_cut_latents(ts_ctx *, ts_tensor latents, ts_tensor scales, ts_vae_axis y,
                             ts_vae_axis x, int i, int j, long f, ts_tensor out);
/* TS_ESHAPE unless they are [F, H, W, 3] with sides in multiples of the stride; `what` they are. */
ts_status ts_vae_check_pixels(ts_ctx *, const ts_vae_info *, ts_host pixels, const char *what);
/* Pixels of tile (i, j) of host frames f.. of [F, H, W, 3] into out [frames, h, w, 3 patch^2]:
 * colour c at row a, column b of a patch is channel c patch^2 + b patch + a. */
ts_status ts_vae_cut_pixels(ts_ctx *, ts_host pixels, int stride, int patch, ts_vae_axis y,
                            ts_vae_axis x, int i, int j, long f, ts_tensor out);
/* The normalised means of moments [.., 2 C] into latent [.., C]. */
ts_status ts_vae_normalise(ts_ctx *, ts_tensor moments, ts_tensor scales, ts_tensor latent);
/* Decoded frame `index`, x [1, H, W, 3 patch^2] with channels as above, as rgb, the caller's host
 * [H patch, W patch, 3]: (x + 1) / 2; with patch 1 x is spoilt. `what` names a frame in the
 * sentence of TS_ENUMBER. */
ts_status ts_vae_download(ts_ctx *, ts_tensor x, int patch, bool clamp, const char *what, int index,
                          float *rgb, ts_frame *out);
/* Part `part` (from 0) of `parts` begins, of frame `step` of `steps`; step 0: of all. */
void ts_vae_progress(ts_ctx *, int step, int steps, int part, int parts, double since);

/* ---- a decoder at work: what every class's struct ts_vae begins with ---- */
typedef struct {
    ts_ctx *ctx;
    ts_vae_info info;
    ts_tensor z, scales;
    ts_vae_axis y, x;   /* in latents */
    int tiles;          /* of space */
    ts_tensor whole;    /* f32 [frames, H, W, c] that are put together or handed out */
    ts_vae_blend blend; /* with tiles: into `whole` */
    float *rgb;         /* host: one frame [H, W, 3] */
    const char *what;   /* a frame is, in sentences */
    int index;          /* frames given */
    double began;
} ts_vae_decoding;
/* Reads z until its end; takes from the arena. TS_EUSAGE: a tile that does not fit; TS_EMEMORY.
 * Ends with free(rgb), whatever it said. */
ts_status ts_vae_decoding_begin(ts_vae_decoding *, ts_ctx *, const ts_vae_info *, ts_tensor z,
                                ts_vae_tile, const char *what);
/* Carves `whole` of so many frames, `up` to a latent and c wide, and with tiles the blend. */
ts_status ts_vae_decoding_carve(ts_vae_decoding *, long frames, int up, long c);
/* *z [n, h, w, C], of the caller's mark: frames first .. of tile (i, j) as a network reads them. */
ts_status ts_vae_decoding_latents(ts_vae_decoding *, int i, int j, long first, long n,
                                  ts_tensor *z);
/* Hands the next frame out: x as ts_vae_download takes it. */
ts_status ts_vae_decoding_give(ts_vae_decoding *, ts_tensor x, int patch, bool clamp,
                               ts_frame *out);

/* ---- an encoder at work ---- */
typedef struct {
    ts_ctx *ctx;
    const ts_vae_info *info;
    ts_host px;
    ts_vae_axis y, x; /* in latents */
    long latents;     /* of px's frames */
    ts_tensor moments, scales;
    ts_vae_blend blend; /* to be opened: of the moments, or of a part of them */
} ts_vae_encoding;
/* `what` the pixels are. moments [latents, H, W, 2 C]: the caller's, or taken from the arena where
 * they are absent. TS_ESHAPE, TS_EUSAGE. */
ts_status ts_vae_encoding_begin(ts_vae_encoding *, ts_ctx *, const ts_vae_info *, ts_host px,
                                const char *what, ts_vae_tile, ts_tensor moments);
/* m and in f32, of the caller's mark: moments [latents, h, w, 2 C] of tile (i, j), empty, and what
 * they are made of: its pixels of frames first .. [frames, h up, w up, 3 patch^2] */
ts_status ts_vae_encoding_cut(ts_vae_encoding *, int i, int j, int patch, long first, long frames,
                              long latents, ts_tensor *m, ts_tensor *in);

/* ---- layers ---- */
/* "a.b" */
const char *ts_vae_name(char out[160], const char *a, const char *b);
/* y = act(gn(x) w + b), gn over a group's channels of all of x */
ts_status ts_vae_norm(ts_ctx *, const ts_layer *, int groups, float eps, ts_tensor x, ts_act,
                      ts_tensor y);
/* One head in each of `frames` frames: q, k, v, out [frames N, C], f32, rows apart by their ld. */
typedef ts_status ts_vae_attend_fn(ts_ctx *, long frames, ts_tensor q, ts_tensor k, ts_tensor v,
                                   ts_tensor out);
ts_vae_attend_fn ts_vae_attend;
/* x [F, H, W, C] += O(attend(Q n, K n, V n)), n = gn(x) w + b with an eps of 1e-6; takes from the
 * arena and gives back. */
typedef struct {
    ts_layer norm, q, k, v, o;
} ts_vae_attention;
ts_status ts_vae_add_attention(ts_ctx *, const ts_vae_attention *, int groups, ts_vae_attend_fn *,
                               ts_tensor x);
/* y [F, H, W, O] = conv(in) + resid, 3 x 3 x 3 and causal: `in` is [2 + F, H, W, C], the frames
 * from 2 on are there. Those two become the past's [2, H, W, C] where it has `begun`, else each the
 * first; a past that is there then takes the last two. */
enum { TS_VAE_PAST = 2 };
ts_status ts_vae_convolve_causal(ts_ctx *, const ts_layer *, ts_tensor in, ts_tensor past,
                                 bool begun, ts_tensor resid, ts_tensor y);
/* y [F, 2 H, 2 W, O] = conv3x3(nearest x2 of x [F, H, W, C]), f32; takes from the arena and gives
 * back. */
ts_status ts_vae_enlarge(ts_ctx *, const ts_layer *conv, ts_tensor x, ts_tensor y);
#endif
