/* Frames -> files and what files say about themselves: PNG by libpng, all others by libav.
 *
 * Every kind starts from the same 8-bit picture, rint(255 x) with halves to even, which PNG holds
 * unchanged. `scale` enlarges that picture by swscale's Lanczos filter, for all kinds, channel by
 * channel, before anything else. MP4 and WebM are yuv420p, BT.709, limited range; that format needs
 * even sides, so the last column or row of an odd side is written twice. Matroska is as MP4, but
 * with crf 0 FFV1, which holds the picture unchanged. GIF has one palette for
 * the clip and holds its frames (8-bit, as computed) in memory until close. */
#ifndef TS_FILES_H
#define TS_FILES_H
#include "backend/ctx.h"

typedef enum {
    TS_FILE_PNG,
    TS_FILE_FRAMES,
    TS_FILE_MP4,
    TS_FILE_WEBM,
    TS_FILE_GIF,
    TS_FILE_MKV, /* H.264, as MP4 */
    TS_FILE_Y4M, /* uncompressed yuv420p, without metadata */
    TS_FILE_JPEG,
    TS_FILE_WEBP
} ts_file_kind;
/* What holds one picture; */
static inline bool ts_file_is_still(ts_file_kind kind)
{
    return kind == TS_FILE_PNG || kind == TS_FILE_JPEG;
}
/* or can, and is an animation of several. */
static inline bool ts_file_is_picture(ts_file_kind kind)
{
    return ts_file_is_still(kind) || kind == TS_FILE_WEBP;
}
/* By the name: .png, .jpg, .jpeg, .webp, .mp4, .webm, .gif, .mkv, .y4m; "-" and /dev/stdout are
 * standard output, which gets a PNG of one frame and else Y4M; a %d or %0Nd in the name of a
 * picture's file, and a directory (ends in '/': made when it is not there; its frames are %04d.png)
 * are pictures numbered from 0. TS_EUSAGE lists what is known; a directory without the '/' is
 * refused.
 */
ts_status ts_file_kind_of(ts_err *, const char *path, const char *format, ts_file_kind *);
/* Makes the folders that lead to it; open does so, too. TS_EUSAGE, TS_EIO. */
ts_status ts_file_make_folders(ts_err *, const char *path);
typedef struct {
    /* 0..51, WebM to 63; -1: the codec's default here (18 H.264, 24 VP9). MP4, MKV and WebM only */
    int crf;
    int quality; /* 1 to 100; 0: the kind's own. JPEG and WebP only (codecs/picture_write.h) */
    int scale;   /* enlarge while writing, 1 (or 0): as computed */
    bool overwrite, metadata;
    /* of standard output alone: an extension without its dot; NULL: PNG of one frame, else Y4M */
    const char *format;
    const char *title, *parameters; /* prompt; A1111 text for PNG; may be NULL; copied */
    /* its `warn` hears what is not as asked for (encoder, timing of a GIF, odd sides); lent until
     * ts_file_close; may be NULL */
    const ts_env *env;
} ts_file_options;
/* A sink that writes new files (backend/file_new.h), which get their names in close; numbered PNGs
 * one by one as they come. Checks at once, and writes nothing: kind and options (TS_EUSAGE),
 * encoder (TS_EDEVICE), folder, or the nearest above it that is there, writable (TS_EIO), existing
 * output without overwrite (TS_EUSAGE; one that appears later, too, stays). frames > 1 into one PNG
 * is TS_EUSAGE in open and says %04d. A failed call has removed the file it was writing; abort
 * removes numbered frames as well. Free with ts_file_close, which aborts what is neither closed nor
 * aborted. */
ts_status ts_file_open(ts_err *, const char *path, const ts_file_options *, ts_sink **);
/* Before any work, once they are known: frames of w x h, enlarged `scale` times, are not larger
 * than the kind of file or its encoder takes, and their names fit. TS_EUSAGE. */
ts_status ts_file_check_size(ts_err *, const char *path, const ts_file_options *, int w, int h,
                             int frames);
void ts_file_close(ts_sink *); /* NULL is legal */
/* The JSON that a file of ours carries (an object with the key "tessera"; malloc'd), *json NULL:
 * none. The content tells the kind, not the name. TS_EMODEL: can not be read or is no such file. */
ts_status ts_file_info(ts_err *, const char *path, char **json);
#endif
