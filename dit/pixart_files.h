/* PixArt's transformer in files without a config: of its authors, and of diffusers alone. */
#ifndef TS_PIXART_FILES_H
#define TS_PIXART_FILES_H
#include "weights/checkpoint.h"
#include "weights/config.h"

extern const ts_names ts_pixart_names;
/* as ts_dit_class.infer */
ts_status ts_pixart_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
#endif
