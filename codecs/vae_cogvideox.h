/* The network of AutoencoderKLCogVideoX, shared by its decoder and encoder. Internal to
 * codecs/vae_cogvideox*.c. */
#ifndef TS_VAE_COGVIDEOX_H
#define TS_VAE_COGVIDEOX_H
#include "codecs/vae.h"

enum { TS_COG_LEVELS = 8, TS_COG_RESIDUALS = 8, TS_COG_CONVS = 192 };

typedef struct { /* from config.json: what ts_vae_info.config is; time: frames to a latent */
    int width[TS_COG_LEVELS], levels, residuals, z, groups, time;
    float eps;
} ts_cog_config;

typedef struct { /* causal, 3 x 3 x 3 */
    ts_layer l;
    long in, out;
    int past; /* its place in a stream */
} ts_cog_conv;
typedef struct {
    ts_layer l;
    ts_layer scale, shift; /* what the latents say of it, of a decoder; else not bound */
    float eps;
    long width;
} ts_cog_norm;
typedef struct {
    ts_cog_norm norm1, norm2;
    ts_cog_conv conv1, conv2;
    ts_layer shortcut; /* not bound: its input itself */
} ts_cog_residual;
typedef struct {
    ts_cog_residual res[TS_COG_RESIDUALS];
    int n, group;
    bool time;       /* its change of size is one of time, too */
    ts_layer sample; /* the convolution that changes the size; not bound: it stays */
} ts_cog_block;

typedef struct { /* one half of the autoencoder */
    ts_ctx *ctx;
    ts_weights *weights;
    ts_cog_config c;
    bool encoder;
    ts_cog_conv conv_in, conv_out;
    ts_cog_residual mid[2];
    ts_cog_block block[TS_COG_LEVELS];
    ts_cog_norm norm_out;
    int convs;
    struct {
        int level; /* changes of size before it */
        long width;
    } past[TS_COG_CONVS];
} ts_cog_net;

typedef struct { /* a sequence on its way through the net */
    /* the last frames that each convolution saw, [2, H, W, in]; absent: of a single chunk */
    ts_tensor past[TS_COG_CONVS];
    bool begun;
} ts_cog_stream;

ts_status ts_cog_bind(ts_cog_net *, ts_ctx *, ts_weights *, const ts_vae_info *, bool encoder);
/* Carves what a stream remembers of frames that are h x w as they enter: latents, of an encoder
 * pixels. single: it has one chunk. */
void ts_cog_stream_begin(const ts_cog_net *, ts_cog_stream *, long h, long w, bool single);
/* A chunk. Decoder: z f32 [F, h, w, C] -> out f32 [frames, h stride, w stride, 3]. Encoder: pixels
 * f32 [frames, H, W, 3] -> out f32 [F, H / stride, W / stride, 2 C] (mean, logvar). A size that
 * doubles time makes of an odd number of frames twice as many less one, of an even one twice as
 * many; one that halves it is the reverse. Take from the arena and give back. */
ts_status ts_cog_decode(const ts_cog_net *, ts_cog_stream *, ts_tensor z, ts_tensor out);
ts_status ts_cog_encode(const ts_cog_net *, ts_cog_stream *, ts_tensor pixels, ts_tensor out);
#endif
