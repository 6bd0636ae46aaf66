/* Versions of everything that a picture depends on. Apart from the core: it names libpng and
 * libav. */
#include "sampler/tessera.h"

#include "backend/ctx.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <png.h>
#include <stdio.h>

char *ts_versions(const ts_ctx *c)
{
    char *text = NULL, device[256];
    unsigned f = avformat_version(), v = avcodec_version();
    c->dev->ops->about(c->dev, device, sizeof device);
    if (asprintf(&text,
                 "tessera %s\n%s\nlibpng %s\nlibavformat "
                 "%u.%u.%u, libavcodec %u.%u.%u (FFmpeg %s)\nbuilt with%s CUDA\n",
                 ts_version(), device, png_get_libpng_ver(NULL), f >> 16, f >> 8 & 255, f & 255,
                 v >> 16, v >> 8 & 255, v & 255, av_version_info(),
                 ts_device_has_cuda() ? "" : "out") < 0)
        return NULL;
    return text;
}
