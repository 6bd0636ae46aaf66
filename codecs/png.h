/* One picture as a PNG, with text chunks, by libpng. */
#ifndef TS_PNG_H
#define TS_PNG_H
#include "backend/ctx.h"

enum { TS_PNG_MAX_SIDE = 1000000 }; /* as libpng takes it by default */
typedef struct {
    const char *name; /* for sentences: the file's final name */
    /* UTF-8 text under `parameters`: tEXt where Latin-1 can say it, else iTXt; may be NULL */
    const char *parameters;
    const char *json; /* under `tessera`: iTXt, compressed when long; may be NULL */
} ts_png_text;
/* 8-bit RGB [h, w, 3] into the file `path`, which is made or emptied. TS_EIO, TS_EMEMORY. */
ts_status ts_png_write(ts_err *, const char *path, int w, int h, const uint8_t *rgb,
                       const ts_png_text *);
/* The text under `key` that stands before the picture (malloc'd), *text NULL: none. TS_EMODEL: not
 * a whole PNG header. */
ts_status ts_png_read_text(ts_err *, const char *path, const char *key, char **text);
#endif
