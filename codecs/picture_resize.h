/* Pictures of 8 bits resized bit for bit as Pillow resizes them: the filters that image processors
 * and pipelines of diffusers and transformers name. */
#ifndef TS_PICTURE_RESIZE_H
#define TS_PICTURE_RESIZE_H
#include "codecs/picture.h"

typedef enum { TS_FILTER_LANCZOS, TS_FILTER_BICUBIC } ts_filter;
/* The whole picture as w x h (1 at least), its proportions not kept; out: ts_picture_free.
 * TS_EMEMORY. */
ts_status ts_picture_resize(ts_err *, const ts_picture *, int w, int h, ts_filter, ts_picture *out);
#endif
