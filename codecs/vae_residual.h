/* The network that AutoencoderKL has and, with a third axis, AutoencoderKLHunyuanVideo: residual
 * blocks by levels of widths, which sizes double or halve between, and one attention layer in the
 * middle. A class brings its convolutions, its attention and its changes of size. Internal to
 * codecs/vae_*.c. */
#ifndef TS_VAE_RESIDUAL_H
#define TS_VAE_RESIDUAL_H
#include "codecs/vae_parts.h"

enum { TS_RES_LEVELS = 8, TS_RES_BLOCKS = 8 };

typedef struct { /* from config.json: what ts_vae_info.config is */
    int width[TS_RES_LEVELS], levels, res, z, groups;
    int times; /* levels that halve time, the last ones of an encoder that are not its end */
    bool attention, quant, post_quant;
} ts_res_config;

/* What a class brings. Tensors are [F, H, W, C], of pictures F = 1; what is computed takes from the
 * arena and gives back. */
typedef struct {
    int nd;             /* of a convolution's weights, 4 or 5 */
    const char *behind; /* the names of convolutions other than quantisation's, such as ".conv" */
    /* y = l(x) + resid of a kernel of 3, resid may be absent */
    ts_status (*convolve)(ts_ctx *, const ts_layer *l, ts_tensor x, ts_tensor resid, ts_tensor y);
    /* y [2 F - 1 or F, 2 H, 2 W, C] and y [(F - 1) / 2 + 1 or F, H / 2, W / 2, C]: with `time` the
     * first */
    ts_status (*enlarge)(ts_ctx *, const ts_layer *l, bool time, ts_tensor x, ts_tensor y);
    ts_status (*reduce)(ts_ctx *, const ts_layer *l, bool time, ts_tensor x, ts_tensor y);
    ts_vae_attend_fn *attend;
    /* layer AT.NAME of attention, [width, width] with a bias */
    ts_status (*find_square)(ts_weights *, int group, ts_layer *, long width, const char *at,
                             const char *name);
} ts_res_kind;

typedef struct { /* in = out: no shortcut */
    ts_layer norm1, norm2, conv1, conv2, shortcut;
    long in, out;
} ts_res_residual;
typedef struct { /* sample: the convolution that changes the size, where there is one */
    int n;
    ts_res_residual res[TS_RES_BLOCKS];
    ts_layer sample;
    bool samples, time;
} ts_res_block;

typedef struct { /* one half of the autoencoder */
    ts_ctx *ctx;
    ts_weights *weights;
    const ts_res_kind *kind;
    ts_res_config c;
    ts_layer quant, conv_in, conv_out; /* quant: quant_conv or post_quant_conv */
    ts_res_residual mid[2];
    ts_vae_attention attention;
    ts_layer norm_out;
    ts_res_block block[TS_RES_LEVELS];
} ts_res_net;

ts_status ts_res_bind(ts_res_net *, const ts_res_kind *, ts_ctx *, ts_weights *,
                      const ts_vae_info *, bool encoder);
/* A picture or a sequence at once. Decoder: z [F, h, w, C] -> out [frames, h stride, w stride, 3].
 * Encoder: pixels [frames, H, W, 3] -> out [F, H / stride, W / stride, 2 C] (mean, logvar). Take
 * from the arena and give back. */
ts_status ts_res_decode(ts_res_net *, ts_tensor z, ts_tensor out);
ts_status ts_res_encode(ts_res_net *, ts_tensor pixels, ts_tensor out);
#endif
