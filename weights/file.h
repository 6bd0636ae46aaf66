/* A whole file in memory: configs, vocabularies, pictures. */
#ifndef TS_FILE_H
#define TS_FILE_H
#include "backend/ctx.h"
/* data: malloc'd, a 0 behind its `size` bytes. TS_EMODEL: not there, no regular file, of more than
 * `most` bytes ("too many for WHAT"), not readable; the sentence begins with the path.
 * TS_EMEMORY. */
ts_status ts_file_read(ts_err *, const char *path, long most, const char *what, uint8_t **data,
                       size_t *size);
/* Maps a whole file for reading, which the caller unmaps; of 8 bytes at least. TS_EMODEL: not
 * there, no regular file, shorter ("no KIND file"). TS_EMEMORY. */
ts_status ts_file_map(ts_err *, const char *path, const char *kind, const void **map, size_t *size);
/* What stands where a file should be, but is none: fails when the first n bytes are those of a Git
 * LFS pointer. */
ts_status ts_file_refuse_pointer(ts_err *, const char *path, const void *bytes, size_t n);
/* Always fails: the file can not be opened, for the reason `code` (an errno); of a link whose
 * target is not there, as an interrupted download leaves it in a cache, that is said. */
ts_status ts_file_refuse_open(ts_err *, const char *path, int code);
#endif
