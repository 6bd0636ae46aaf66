/* Pictures in: PNG, JPEG, BMP and TGA by stb_image, WebP, TIFF and GIF (of what moves the first
 * picture) by libav, turned upright as EXIF says (libexif), and resized. */
#ifndef TS_PICTURE_H
#define TS_PICTURE_H
#include "backend/ctx.h"

typedef struct {
    int w, h;
    uint8_t *rgb;
    bool see_through; /* was transparent in places, which are on white now */
} ts_picture;         /* [h, w, 3]; free with ts_picture_free */
/* path "-": all of standard input. Grey becomes three equal channels; what is transparent is put on
 * white; 16 bits become 8. TS_EMODEL: not there, not such a picture, damaged, or of more than 2^28
 * pixels; the sentence names the file. */
ts_status ts_picture_read(ts_err *, const char *path, ts_picture *out);
/* The same, but that alpha is left out, as where pictures are conditions: colours are what they are
 * below it. */
ts_status ts_picture_read_colours(ts_err *, const char *path, ts_picture *out);
void ts_picture_free(ts_picture *); /* a zeroed one is legal */
/* Resizes with its aspect kept until w x h is covered and takes the middle of it: out [h, w, 3] in
 * 0..1. Lanczos of three lobes, which widen where a picture becomes smaller. TS_EMEMORY. */
ts_status ts_picture_cover(ts_err *, const ts_picture *, int w, int h, float *out);
#endif
