/* The network of AutoencoderKL, shared by its decoder and encoder. Internal to codecs/vae_kl*.c. */
#ifndef TS_VAE_KL_H
#define TS_VAE_KL_H
#include "codecs/vae.h"

enum { TS_KL_LEVELS = 8, TS_KL_RES = 8 };

typedef struct { /* from config.json: what ts_vae_info.config is */
    int width[TS_KL_LEVELS], levels, res, z, groups, sample_size;
    bool attention, quant, post_quant;
} ts_kl_config;

typedef struct {
    const ts_weight *w, *b;
} ts_kl_norm;
/* in = out: no shortcut */
typedef struct {
    ts_kl_norm norm1, norm2;
    ts_layer conv1, conv2, shortcut;
    long in, out;
} ts_kl_res;
typedef struct {
    ts_kl_norm norm;
    ts_layer q, k, v, o;
    long width;
} ts_kl_attn;
/* sample: the convolution that changes the size, where there is one */
typedef struct {
    int n;
    ts_kl_res res[TS_KL_RES];
    ts_layer sample;
    bool samples;
} ts_kl_block;

typedef struct { /* one half of the autoencoder */
    ts_ctx *ctx;
    ts_weights *weights;
    ts_kl_config c;
    ts_layer quant, conv_in, conv_out; /* quant: quant_conv or post_quant_conv */
    ts_kl_res mid[2];
    ts_kl_attn attn;
    ts_kl_block block[TS_KL_LEVELS];
    ts_kl_norm norm_out;
} ts_kl_net;

ts_status ts_kl_bind(ts_kl_net *, ts_ctx *, ts_weights *, const ts_vae_info *, bool encoder);
/* Decoder: z [1, h, w, C] -> out [1, h stride, w stride, 3]. Encoder: pixels [1, H, W, 3] -> out
 * [1, H / stride, W / stride, 2 C] (mean, logvar). Take from the arena and give back. */
ts_status ts_kl_decode(ts_kl_net *, ts_tensor z, ts_tensor out);
ts_status ts_kl_encode(ts_kl_net *, ts_tensor pixels, ts_tensor out);
#endif
