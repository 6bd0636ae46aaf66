/* Files that appear whole or not at all. A new file is written beside its name, under one that no
 * other process, container or machine can have taken, brought to the disk, and given its name. */
#ifndef TS_FILE_NEW_H
#define TS_FILE_NEW_H
#include "backend/err.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct { /* zeros: none */
    char *path;  /* its name, once it is kept; where a link that is replaced points to */
    /* where it is until then, for libraries that open files themselves: .NAME.tmp-RANDOM.EXT;
     * NULL: no file is open */
    char *part;
    int fd;       /* of part, to write */
    FILE *stream; /* of ts_newfile_stream; NULL: not asked for */
    bool replace;
    bool direct; /* path is no regular file (a pipe, a device): part is path itself */
    int mode;    /* permissions of the file that is replaced; -1: none is */
    int why;     /* errno of the first write that failed; 0: none did */
} ts_newfile;

/* Before any work: path, and that of the unfinished file, are not too long for the file system
 * (TS_EUSAGE), and where a link points to can be written into (TS_EIO). */
ts_status ts_newfile_check(ts_err *, const char *path);
/* Makes an empty file beside `path`. Without `replace` a file that has the name, now or when this
 * one is kept, stays: TS_EUSAGE. With it a link stays a link, and what it points to is replaced;
 * the file keeps its permissions, and its owner where that is allowed. TS_EIO names path and
 * reason. *out is to be kept or dropped. */
ts_status ts_newfile_open(ts_err *, const char *path, bool replace, ts_newfile *out);
/* The next bytes. TS_EIO. */
ts_status ts_newfile_write(ts_err *, ts_newfile *, const void *bytes, size_t n);
/* The file as a stream of stdio, which belongs to it; what can not be written is reported by
 * ts_newfile_keep. Not to be mixed with ts_newfile_write. TS_EMEMORY. */
ts_status ts_newfile_stream(ts_err *, ts_newfile *, FILE **);
/* Brings file and folder to the disk and gives the file its name. Whatever it returns, *file is
 * closed, and of a failure nothing is left. TS_EIO, TS_EUSAGE. */
ts_status ts_newfile_keep(ts_err *, ts_newfile *file);
/* Removes what was written, if it was not kept. */
void ts_newfile_drop(ts_newfile *);

/* rename that never replaces, for files and folders: 0, or -1 and errno, EEXIST when the name is
 * taken. Where the file system can not do it in one step, a file gets its name by a hard link, or
 * else takes the name first; an empty folder of the name would be replaced there. */
int ts_rename_new(const char *from, const char *to);
/* Brings the names in the folder of `path` to the disk, where that can be asked for: a new name,
 * too, is to survive a power cut. */
void ts_sync_folder_of(const char *path);
#endif
