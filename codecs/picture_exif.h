/* How a picture is to be turned. */
#ifndef TS_PICTURE_EXIF_H
#define TS_PICTURE_EXIF_H
#include <stddef.h>
#include <stdint.h>

/* EXIF's orientation, 1 (upright, or not said) to 8, of the file `path` whose bytes are data[size]:
 * in a JPEG's APP1; in a PNG's eXIf chunk, or else in the text by which older writers kept it (Raw
 * profile type exif, APP1); in a WebP's chunk EXIF; in a TIFF's first directory. */
int ts_picture_orientation(const char *path, const uint8_t *data, size_t size);
#endif
