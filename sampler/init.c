/* Image to image: a picture becomes the latents that noise is put on. Its size is the one that is
 * drawn; the encoder's mean stands for its distribution. */
#include "sampler/encode.h"

#include "backend/hash.h"
#include "codecs/picture.h"

#include <stdlib.h>

static ts_status take_picture(ts_run *r, const ts_picture *p)
{
    ts_status st = TS_OK;
    ts_err *err = &r->ctx->err;
    ts_device *dev = r->ctx->dev;
    const long *l = r->latent;
    int s = r->m->vae_info.stride, w = (int)l[3] * s, h = (int)l[2] * s;
    size_t n = (size_t)w * (size_t)h * 3;
    ts_ptr room;
    float *pixels = malloc(n * sizeof *pixels);
    if (!pixels) TRY(ts_fail(err, TS_EMEMORY, "no memory for a picture of %dx%d", w, h));
    TRY(ts_picture_cover(err, p, w, h, pixels));
    r->picture_hash = ts_hash(TS_HASH, pixels, n * sizeof *pixels);
    for (size_t i = 0; i < n; i++) pixels[i] = 2 * pixels[i] - 1;
    if (!ts_there(r->picture)) {
        TRY(ts_alloc_for(dev, (size_t)(l[0] * l[2] * l[3]) * sizeof(float), "a picture", &room));
        r->picture = ts_tensor_of(room, TS_F32, TS_DIM(1, l[2], l[3], l[0]));
    }
    TRY(ts_encode(r, (ts_host){pixels, TS_F32, 4, {1, h, w, 3}}, r->picture));
done:
    free(pixels);
    return st;
}

/* Is there a place for a picture? */
static ts_status check_begins(ts_run *r)
{
    if (r->pictures) return TS_OK;
    return ts_fail(&r->ctx->err, TS_EUSAGE,
                   "a picture to begin with: this model makes clips and begins with noise");
}

ts_status ts_run_picture(ts_run *r, const char *path)
{
    ts_status st = TS_OK;
    ts_err *err = &r->ctx->err;
    ts_picture p = {0};
    TRY(check_begins(r));
    if (!path) TRY(ts_fail(err, TS_EUSAGE, "ts_run_picture: no path of a picture"));
    TRY(ts_picture_read(err, path, &p));
    if (p.see_through) ts_warn(r->ctx, "%s: is transparent in places: they are white", path);
    TRY(take_picture(r, &p));
done:
    ts_picture_free(&p);
    return st;
}

ts_status ts_run_picture_rgb(ts_run *r, int w, int h, const uint8_t *rgb)
{
    ts_status st = TS_OK;
    enum { MOST = 1 << 28 }; /* pixels, as of a file */
    TRY(check_begins(r));
    if (!rgb || w < 1 || h < 1 || (int64_t)w * h > MOST)
        TRY(ts_fail(&r->ctx->err, TS_EUSAGE, "ts_run_picture_rgb: %s of %dx%d",
                    rgb ? "a picture" : "no pixels", w, h));
    TRY(take_picture(r, &(ts_picture){.w = w, .h = h, .rgb = (uint8_t *)rgb}));
done:
    return st;
}
