/* Pictures in that stb_image does not read: WebP, TIFF, GIF and BMPs of rarer kinds, by libav; of
 * what moves the first picture. */
#ifndef TS_PICTURE_LIBAV_H
#define TS_PICTURE_LIBAV_H
#include "codecs/picture.h"
/* The first picture of `size` bytes, not turned: out->rgb [h, w, *channels] (malloc'd), channels 3,
 * or 4 with transparency behind the colours. *known false: no such file, *out is untouched. At most
 * `most` pixels. TS_EMODEL: damaged, larger, or of a kind that this libav lacks; the sentence names
 * `path`. TS_EMEMORY. */
ts_status ts_picture_decode_libav(ts_err *, const char *path, const uint8_t *data, size_t size,
                                  long most, bool *known, int *channels, ts_picture *out);
#endif
