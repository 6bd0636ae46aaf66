/* Several clips of one request, made in turn: names, seeds, and what goes with one clip alone. */
#ifndef TS_SERIES_H
#define TS_SERIES_H
#include "cli/render.h"

/* The request's count becomes r->clips. TS_EUSAGE: a flag that is of one clip. */
ts_status ts_series_begin(ts_cli *, ts_render *);
/* The output is named: cat.mp4 becomes cat-0.mp4, which r->path is then, cat-1.mp4, ... Before any
 * work: all of them can be written. TS_EUSAGE, TS_EIO, TS_EMEMORY. */
ts_status ts_series_check(ts_cli *, ts_render *);
/* What clip i - 1 has left is freed; name and seed are those of clip i. TS_EMEMORY. */
ts_status ts_series_next(ts_cli *, ts_render *, int i);
#endif
