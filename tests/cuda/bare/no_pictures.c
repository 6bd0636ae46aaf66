/* In place of what reads pictures by libav and libexif, where these are not installed: programs
 * that run on a GPU read the kinds that stb_image does, as they stand. */
#include "codecs/picture_exif.h"
#include "codecs/picture_libav.h"

ts_status ts_picture_decode_libav(ts_err *err, const char *path, const uint8_t *data, size_t size,
                                  long most, bool *known, int *channels, ts_picture *out)
{
    (void)err;
    (void)path;
    (void)data;
    (void)size;
    (void)most;
    (void)channels;
    (void)out;
    *known = false;
    return TS_OK;
}

int ts_picture_orientation(const char *path, const uint8_t *data, size_t size)
{
    (void)path;
    (void)data;
    (void)size;
    return 1;
}
