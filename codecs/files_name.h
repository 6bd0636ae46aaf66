/* Names of output files: kind, numbered patterns, the checks before any work. */
#ifndef TS_FILES_NAME_H
#define TS_FILES_NAME_H
#include "codecs/files.h"

typedef struct {
    ts_file_kind kind;
    ts_file_kind each;     /* TS_FILE_FRAMES: of each of them */
    char *path;            /* as given, for sentences */
    char *folder;          /* where files go: "." when the path names none */
    char *lead;            /* what stands before a file's name in its path: "" or up to a slash */
    char *prefix, *suffix; /* of the file's name; one file: prefix is its name, suffix "" */
    int digits;            /* TS_FILE_FRAMES: at least so many */
    bool standard;         /* standard output */
    bool make_folder;      /* the path ends in '/' and is not there yet */
} ts_name;

/* format: as in ts_file_options. TS_EUSAGE for an unknown kind or a bad pattern, TS_EMEMORY. `out`
 * needs ts_name_free in every
 * case. */
ts_status ts_name_init(ts_err *, const char *path, const char *format, ts_name *out);
void ts_name_free(ts_name *);
/* The file of frame `index` (ignored for one file); malloc'd, NULL: no memory. */
char *ts_name_file(const ts_name *, int index);
/* The names of so many frames are not too long for the file system. TS_EUSAGE. */
ts_status ts_name_check_length(ts_err *, const ts_name *, int frames);
/* Makes the folders that lead to it, but for one that numbered frames are put into. TS_EIO. */
ts_status ts_name_make_parents(ts_err *, const ts_name *);
/* The name fits, the folder, or the nearest above it that is there, can be written (TS_EIO),
 * nothing exists that would be overwritten (TS_EUSAGE). */
ts_status ts_name_check(ts_err *, const ts_name *, bool overwrite);
/* The smallest index from `from` on whose numbered file exists; -1: none. */
int ts_name_next(const ts_name *, int from);
#endif
