/* The VAEs of HunyuanVideo, CogVideoX and Open-Sora-Plan in files without a config. */
#ifndef TS_VAE_VIDEO_FILES_H
#define TS_VAE_VIDEO_FILES_H
#include "weights/checkpoint.h"
#include "weights/config.h"

extern const ts_names ts_vae_hunyuanvideo_names, ts_vae_cogvideox_names, ts_vae_causal_names;
/* as ts_vae_class.infer; CogVideoX' leaves out the scale of latents, which differs between models
 * of one shape */
ts_status ts_vae_hunyuanvideo_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
ts_status ts_vae_cogvideox_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
ts_status ts_vae_causal_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
#endif
