/* Open-Sora-Plan's transformer in files without a config. */
#ifndef TS_OPENSORA_FILES_H
#define TS_OPENSORA_FILES_H
#include "weights/checkpoint.h"
#include "weights/config.h"

extern const ts_names ts_opensora_names;
/* as ts_dit_class.infer */
ts_status ts_opensora_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
#endif
