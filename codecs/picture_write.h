/* Pictures in JPEG and WebP and animations in WebP by libav's encoders, and the text that they
 * carry: a comment segment of a JPEG, an XMP packet of a WebP. */
#ifndef TS_PICTURE_WRITE_H
#define TS_PICTURE_WRITE_H
#include "codecs/movie.h"

/* This libav has an encoder for the kind. TS_EDEVICE. */
ts_status ts_picture_check_encoder(ts_err *, ts_file_kind, const char *name);
/* Pictures of w x h can be held: 65500 a side of a JPEG, 16383 of a WebP. TS_EUSAGE. */
ts_status ts_picture_check_size(ts_err *, ts_file_kind, const char *name, long w, long h);
typedef struct {
    ts_file_kind kind; /* TS_FILE_JPEG, 4:4:4 and BT.601 in full range, or TS_FILE_WEBP */
    const char *name;  /* for sentences; lent */
    int w, h;
    /* above 1: of an animation, WebP alone, which repeats for ever; frames last whole milliseconds
     */
    int frames;
    double fps; /* of those */
    /* 1 to 100, 0: TS_PICTURE_QUALITY. Of a JPEG a number as libjpeg's, down to about 25, than
     * which libav's quantisers are no coarser; WebP is lossless at 100 */
    int quality;
} ts_picture_options;
enum { TS_PICTURE_QUALITY = 95, TS_MOST_QUALITY = 100 };
typedef struct ts_picture_writer ts_picture_writer;
/* TS_EDEVICE, TS_EMEMORY. */
ts_status ts_picture_open(ts_err *, const ts_picture_options *, ts_picture_writer **);
/* The next frame, rgb [h, w, 3]. What is encoded is held in memory. TS_EDEVICE, TS_EMEMORY. */
ts_status ts_picture_add(ts_err *, ts_picture_writer *, const uint8_t *rgb);
/* Writes `path`, of the same frames the same bytes. text: UTF-8, or NULL. TS_EIO, TS_EDEVICE,
 * TS_EMEMORY. The writer is still to be freed. */
ts_status ts_picture_finish(ts_err *, ts_picture_writer *, const char *path, const char *text);
void ts_picture_writer_free(ts_picture_writer *); /* NULL is legal */
/* All of it for one picture. */
ts_status ts_picture_write(ts_err *, const ts_picture_options *, const char *path,
                           const uint8_t *rgb, const char *text);
/* What a WebP is, animations among them, which libav does not read; false: it is none. */
bool ts_webp_probe(const char *path, ts_movie_facts *);
/* The text of a file that ts_picture_write wrote (malloc'd); *text NULL: it is a JPEG or WebP of
 * somebody else's, or neither. TS_EMODEL: can not be read; TS_EMEMORY. */
ts_status ts_picture_read_text(ts_err *, const char *path, char **text);
#endif
