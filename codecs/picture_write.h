/* Pictures in JPEG and WebP by libav's encoders, and the text that they carry: a comment segment of
 * a JPEG, an XMP packet of a WebP. */
#ifndef TS_PICTURE_WRITE_H
#define TS_PICTURE_WRITE_H
#include "codecs/files.h"

/* This libav has an encoder for the kind. TS_EDEVICE. */
ts_status ts_picture_check_encoder(ts_err *, ts_file_kind, const char *name);
/* Pictures of w x h can be held: 65500 a side of a JPEG, 16383 of a WebP. TS_EUSAGE. */
ts_status ts_picture_check_size(ts_err *, ts_file_kind, const char *name, long w, long h);
/* Writes `path`, for sentences `name`: rgb [h, w, 3], the same bytes again for the same picture.
 * text: UTF-8, or NULL. JPEG: 4:4:4, quantiser 2, BT.601 in full range; WebP: lossy, quality 95.
 * TS_EIO, TS_EDEVICE, TS_EMEMORY. */
ts_status ts_picture_write(ts_err *, ts_file_kind, const char *path, const char *name, int w, int h,
                           const uint8_t *rgb, const char *text);
/* The text of a file that ts_picture_write wrote (malloc'd); *text NULL: it is a JPEG or WebP of
 * somebody else's, or neither. TS_EMODEL: can not be read; TS_EMEMORY. */
ts_status ts_picture_read_text(ts_err *, const char *path, char **text);
#endif
