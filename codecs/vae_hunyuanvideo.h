/* The network of AutoencoderKLHunyuanVideo, shared by its decoder and encoder. Internal to
 * codecs/vae_hunyuan*.c. */
#ifndef TS_VAE_HUNYUANVIDEO_H
#define TS_VAE_HUNYUANVIDEO_H
#include "codecs/vae.h"

enum { TS_HY_LEVELS = 8, TS_HY_RES = 8 };

typedef struct { /* from config.json: what ts_vae_info.config is */
    int width[TS_HY_LEVELS], levels, res, z, groups;
    int times; /* levels that halve time, the last ones of an encoder that are not its end */
    bool attention;
} ts_hy_config;

typedef struct {
    const ts_weight *w, *b;
} ts_hy_norm;
typedef struct { /* in = out: no shortcut */
    ts_hy_norm norm1, norm2;
    ts_layer conv1, conv2, shortcut;
    long in, out;
} ts_hy_res;
typedef struct { /* sample: the convolution that changes the size, where there is one */
    int n;
    ts_hy_res res[TS_HY_RES];
    ts_layer sample;
    bool samples, time;
} ts_hy_block;

typedef struct { /* one half of the autoencoder */
    ts_ctx *ctx;
    ts_weights *weights;
    ts_hy_config c;
    ts_layer quant, conv_in, conv_out; /* quant: quant_conv or post_quant_conv */
    ts_hy_res mid[2];
    ts_hy_norm attn_norm, norm_out;
    ts_layer q, k, v, o;
    ts_hy_block block[TS_HY_LEVELS];
} ts_hy_net;

ts_status ts_hy_bind(ts_hy_net *, ts_ctx *, ts_weights *, const ts_vae_info *, bool encoder);
/* A sequence at once. Decoder: z [F, h, w, C] -> out [4 (F - 1) + 1, h stride, w stride, 3], with
 * the published strides. Encoder: pixels [F, H, W, 3] -> out [(F - 1) / 4 + 1, H / stride, W /
 * stride, 2 C] (mean, logvar). Take from the arena and give back. */
ts_status ts_hy_decode(ts_hy_net *, ts_tensor z, ts_tensor out);
ts_status ts_hy_encode(ts_hy_net *, ts_tensor pixels, ts_tensor out);
#endif
