/* Files that a flag names, beside what is rendered: latents, plans, reports, measurements. */
#ifndef TS_SIDE_H
#define TS_SIDE_H
#include "backend/file_new.h"
#include "cli/flags.h"

/* Bytes of a file, or of all files of a folder; 0: there is none. */
double ts_side_bytes(const char *path);
/* Before any work: the file can be written. may_exist: it is replaced without --overwrite. TS_OK,
 * too, when the flag is not given. TS_EUSAGE, TS_EIO. */
ts_status ts_side_check(ts_err *, const ts_flags *, ts_flag_id, bool may_exist);
/* Before any work: the folder can be written into, or made. TS_EUSAGE, TS_EIO. */
ts_status ts_side_check_folder(ts_err *, ts_flag_id, const char *folder);
/* A new file, as a stream; TS_EIO, TS_EUSAGE and TS_EMEMORY name the flag. */
ts_status ts_side_open(ts_err *, const ts_flags *, ts_flag_id, bool may_exist, ts_newfile *,
                       FILE **);
ts_status ts_side_keep(ts_err *, ts_flag_id, ts_newfile *);
/* The whole of it: a text of n bytes and a newline. */
ts_status ts_side_write(ts_err *, const ts_flags *, ts_flag_id, const char *text, size_t n);
#endif
