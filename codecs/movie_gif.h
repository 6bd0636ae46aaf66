/* The comment of a GIF file: an extension block, which libav's writer does not write. */
#ifndef TS_MOVIE_GIF_H
#define TS_MOVIE_GIF_H
#include "backend/ctx.h"

/* Adds `text` (UTF-8) to the finished file `path`; `name`: for sentences. TS_EIO. */
ts_status ts_gif_write_comment(ts_err *, const char *name, const char *path, const char *text);
/* The last comment (malloc'd), *text NULL: none. TS_EMODEL: not a whole GIF. */
ts_status ts_gif_read_comment(ts_err *, const char *path, char **text);
#endif
