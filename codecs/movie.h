/* Clips by libav: MP4 and Matroska (H.264; Matroska of crf 0 is FFV1 in RGB), WebM (VP9), GIF and
 * Y4M, one video stream, and their metadata. */
#ifndef TS_MOVIE_H
#define TS_MOVIE_H
#include "codecs/files.h"

typedef struct ts_movie ts_movie;
typedef struct {
    ts_file_kind kind;   /* none of pictures */
    const char *encoder; /* libav's name for it; NULL: what ts_movie_encoder says */
    const char *name;    /* for sentences: the file's final name; lent until close */
    /* crf -1: the default of the kind; for an encoder without one it becomes the quantiser that it
     * stands for */
    int w, h, crf;
    double fps;                  /* GIF: at most TS_GIF_FPS */
    const char *title, *comment; /* UTF-8 metadata of MP4 and WebM; may be NULL */
} ts_movie_options;
/* a GIF counts in 1/100 s, and what is shown for less than 2/100 s is shown for 10/100 s by common
 * viewers */
enum { TS_GIF_FPS = 50 };

/* A clip of this kind and crf is the 8-bit RGB that came, exactly, of any size. */
static inline bool ts_movie_is_exact(ts_file_kind kind, int crf)
{
    return kind == TS_FILE_MKV && crf == 0;
}
/* The encoder that this libav has for a kind and crf, best first: libx264, libopenh264, mpeg4
 * (MPEG-4 part 2, an MP4 that is not H.264); libvpx-vp9; gif; ffv1. TS_EDEVICE: none. */
ts_status ts_movie_encoder(ts_err *, ts_file_kind, int crf, const char *name, const char **encoder);
/* Frames of w x h can be written. TS_EUSAGE: larger than the kind can hold (65535 a side for GIF,
 * else 16384) or than libav takes. */
ts_status ts_movie_check_size(ts_err *, ts_file_kind, const char *name, long w, long h);
/* Opens `path` (NULL: standard output) and writes the header. The same frames give the same bytes
 * again, however many processors there are: the number of encoder threads is fixed. TS_EUSAGE as
 * ts_movie_check_size; TS_EDEVICE, TS_EIO, TS_EMEMORY. */
ts_status ts_movie_open(ts_err *, const char *path, const ts_movie_options *, ts_movie **);
/* pixels: RGB [h, w, 3]; for a GIF indices [h, w] into `palette` (256 of 0xAARRGGBB), which is NULL
 * otherwise. TS_EIO, TS_EDEVICE. */
ts_status ts_movie_frame(ts_err *, ts_movie *, const uint8_t *pixels, const uint32_t *palette);
/* Writes what the encoder still holds and the trailer. TS_EIO, TS_EDEVICE. The movie is still to be
 * freed. */
ts_status ts_movie_finish(ts_err *, ts_movie *);
void ts_movie_free(ts_movie *); /* NULL is legal; the file stays as it is */
typedef struct {
    char container[16], codec[32]; /* "MP4", "h264" */
    int w, h;
    long frames;    /* 1: a picture */
    double seconds; /* 0: not known */
} ts_movie_facts;
/* What a picture or clip is, PNG included. TS_EMODEL: none that libav can read. */
ts_status ts_movie_probe(ts_err *, const char *path, ts_movie_facts *);
/* The `comment` of any picture or clip that libav can read (malloc'd), *comment NULL: none.
 * TS_EMODEL. */
ts_status ts_movie_comment(ts_err *, const char *path, char **comment);
#endif
