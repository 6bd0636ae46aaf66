/* What AutoencoderKLHunyuanVideo brings to a residual autoencoder. Internal to
 * codecs/vae_hunyuan*.c. */
#ifndef TS_VAE_HUNYUANVIDEO_H
#define TS_VAE_HUNYUANVIDEO_H
#include "codecs/vae_residual.h"

extern const ts_res_kind ts_hy_layers;
#endif
