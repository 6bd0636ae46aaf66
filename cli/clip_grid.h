/* Several clips side by side in one. */
#ifndef TS_CLIP_GRID_H
#define TS_CLIP_GRID_H
#include "backend/base.h"
#include "backend/err.h"

#include <stdbool.h>

typedef struct ts_clip_grid ts_clip_grid;
/* Of so many clips of one size, which it holds in memory in 8 bits. NULL: no memory. */
ts_clip_grid *ts_clip_grid_new(int clips);
/* A sink that takes one whole clip after the other. One that fails or is aborted leaves the grid
 * as it was before it. */
ts_sink *ts_clip_grid_sink(ts_clip_grid *);
bool ts_clip_grid_is_full(const ts_clip_grid *);
/* Bytes that clips of so many frames of w x h take in it. */
size_t ts_clip_grid_bytes(int clips, int frames, int w, int h);
/* Every frame of the full grid into `to`, open to close, placed as on a sheet (cli/sheet.h); with
 * the metadata of the first clip, which then say `grid` and `count`. The sentence of a failure is
 * in `to`. */
ts_status ts_clip_grid_write(const ts_clip_grid *, ts_sink *to);
void ts_clip_grid_free(ts_clip_grid *); /* NULL is legal */
#endif
