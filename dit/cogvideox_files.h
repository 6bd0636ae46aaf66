/* CogVideoX' transformer in files without a config. */
#ifndef TS_COGVIDEOX_FILES_H
#define TS_COGVIDEOX_FILES_H
#include "weights/checkpoint.h"
#include "weights/config.h"

extern const ts_names ts_cogvideox_names;
/* as ts_dit_class.infer */
ts_status ts_cogvideox_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
#endif
