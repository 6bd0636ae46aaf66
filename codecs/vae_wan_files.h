/* Wan's VAEs in files without a config: of its authors and of ComfyUI. */
#ifndef TS_VAE_WAN_FILES_H
#define TS_VAE_WAN_FILES_H
#include "weights/checkpoint.h"
#include "weights/config.h"

extern const ts_names ts_vae_wan_names;
/* as ts_vae_class.infer */
ts_status ts_vae_wan_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
#endif
