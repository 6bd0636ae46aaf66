/* A whole file in memory: configs, vocabularies, pictures. */
#ifndef TS_FILE_H
#define TS_FILE_H
#include "backend/ctx.h"
/* data: malloc'd, a 0 behind its `size` bytes. TS_EMODEL: not there, no regular file, of more than
 * `most` bytes ("too many for WHAT"), not readable; the sentence begins with the path.
 * TS_EMEMORY. */
ts_status ts_file_read(ts_err *, const char *path, long most, const char *what, uint8_t **data,
                       size_t *size);
#endif
