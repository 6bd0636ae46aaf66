/* Frames -> files and what files say about themselves: PNG by libpng, MP4, WebM and GIF by libav. */
#ifndef TS_FILES_H
#define TS_FILES_H
#include "backend/backend.h"

typedef enum { TS_FILE_PNG, TS_FILE_FRAMES, TS_FILE_MP4, TS_FILE_WEBM, TS_FILE_GIF } ts_file_kind;
/* By the name: .png, .mp4, .webm, .gif; a %d pattern ending in .png, a directory (exists, or ends in '/') are numbered PNGs. TS_EUSAGE lists what is known. */
ts_status ts_file_kind_of(ts_err *, const char *path, ts_file_kind *);
typedef struct {
    int crf;          /* 0..51; -1: the codec's default here (18 H.264, 24 VP9) */
    int scale;        /* enlarge while writing, 1: as computed */
    bool overwrite, metadata;
    const char *title, *parameters; /* prompt; A1111 text for PNG; may be NULL */
} ts_file_options;
/* A sink that writes under a temporary name in the same folder and renames in close. Checks at once: kind, folder there and writable, existing output without overwrite (TS_EUSAGE); frames > 1 into one PNG is TS_EUSAGE in open
 * and says %04d. Free with ts_file_close after close or abort. */
ts_status ts_file_open(ts_err *, const char *path, const ts_file_options *, ts_sink **);
void ts_file_close(ts_sink *);
/* The JSON that a file of ours carries (malloc'd), *json NULL: none. TS_EMODEL: can not be read. */
ts_status ts_file_info(ts_err *, const char *path, char **json);
#endif
