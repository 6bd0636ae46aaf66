/* The network of AutoencoderKLWan, shared by its decoder and encoder: weights bound once, streams
 * that carry what each causal convolution saw last. Internal to codecs/vae_wan*.c. */
#ifndef TS_VAE_WAN_H
#define TS_VAE_WAN_H
#include "codecs/vae.h"

enum { TS_WAN_LEVELS = 8, TS_WAN_RES = 8, TS_WAN_CACHES = 32 };

typedef struct { /* from config.json: what ts_vae_info.config is */
    int base, dec_base, z, levels, mult[TS_WAN_LEVELS], res, in, out, patch; /* patch 1: none */
    bool time[TS_WAN_LEVELS], residual;
} ts_wan_config;

/* kernel kt in time; kt > 1: causal, the cache that holds its past, its place among those that
 * share it */
typedef struct {
    ts_layer l;
    long in, out;
    int kt, cache, slot;
} ts_wan_conv;
/* wide: the shortcut exists */
typedef struct {
    const ts_weight *norm1, *norm2;
    ts_wan_conv conv1, conv2, shortcut;
    bool wide;
} ts_wan_res;
typedef struct {
    const ts_weight *norm;
    ts_layer qkv, proj;
    long width;
} ts_wan_attn;
typedef struct {
    bool exists, time;
    ts_layer conv;
    long in, out;
    ts_wan_conv time_conv;
} ts_wan_sample;
typedef struct {
    int n, group;
    ts_wan_res res[TS_WAN_RES];
    ts_wan_sample sample;
} ts_wan_block;
typedef struct {
    ts_wan_res res[2];
    ts_wan_attn attn;
    int group;
} ts_wan_mid;

/* What causal convolutions of one input width and level share: `past` frames of each, room for
 * `step` at once. `own`: a convolution that some chunks skip shares with none. */
typedef struct {
    long width;
    int level, convs, past, step;
    bool own;
} ts_wan_cache;

typedef struct { /* one half of the autoencoder */
    ts_ctx *ctx;
    ts_weights *weights;
    ts_wan_config c;
    bool encoder;
    ts_layer quant; /* quant_conv or post_quant_conv */
    ts_wan_conv conv_in, conv_out;
    const ts_weight *norm_out;
    ts_wan_mid mid;
    ts_wan_block block[TS_WAN_LEVELS];
    ts_wan_cache cache[TS_WAN_CACHES];
    int caches, tail_group;
} ts_wan_net;

/* what a stream remembers in a cache: frames [n, H, W, C], where the pasts begin, and how many
 * frames went through */
typedef struct {
    ts_tensor t;
    long past, at, seen;
} ts_wan_memory;
typedef struct { /* a sequence on its way through the net, chunk by chunk */
    ts_wan_memory cache[TS_WAN_CACHES];
    int chunk; /* chunks done */
} ts_wan_stream;

ts_status ts_wan_bind(ts_wan_net *, ts_ctx *, ts_weights *, const ts_vae_info *, bool encoder);
/* Carves what a stream remembers whose first tensor is [., h, w, .] (latent or patchified pixels)
 * from the arena. single: it ends after the first chunk, and nothing is remembered. */
void ts_wan_stream_init(const ts_wan_net *, ts_wan_stream *, long h, long w, bool single);
/* x [F, H, W, C] through the net in one chunk. Decoder: x one latent frame, out f32 [F', H', W',
 * out]: the first chunk gives one frame, later ones time_stride. Encoder: x pixels (1 frame, then
 * groups of time_stride), out f32 [1, H', W', 2 z]. Takes from the arena and gives back. */
ts_status ts_wan_decode_chunk(ts_wan_net *, ts_wan_stream *, ts_tensor x, ts_tensor out);
ts_status ts_wan_encode_chunk(ts_wan_net *, ts_wan_stream *, ts_tensor x, ts_tensor out);
#endif
