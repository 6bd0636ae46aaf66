/* Wan's transformer in files without a config: of its authors, of ComfyUI, in GGUF. */
#ifndef TS_WAN_FILES_H
#define TS_WAN_FILES_H
#include "weights/checkpoint.h"
#include "weights/config.h"

extern const ts_names ts_wan_names;
/* as ts_dit_class.infer */
ts_status ts_wan_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
#endif
