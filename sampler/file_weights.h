/* Files of weights as `info` tells them. Internal to sampler/. */
#ifndef TS_FILE_WEIGHTS_H
#define TS_FILE_WEIGHTS_H
#include "backend/ctx.h"

#include <cjson/cJSON.h>

/* Adds "kind" ("Wan transformer", "LoRA", "weights", ...), what its shapes tell, tensors,
 * parameters and bytes by type. TS_EMODEL. */
ts_status ts_describe_weights(ts_ctx *, const char *path, cJSON *j);
#endif
