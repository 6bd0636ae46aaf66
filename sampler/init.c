/* Image to image: a picture becomes the latents that noise is put on. Its size is the one that is
 * drawn; the encoder's mean stands for its distribution. */
#include "backend/number.h"
#include "sampler/run.h"

#include "backend/hash.h"
#include "codecs/picture.h"

#include <stdlib.h>

typedef struct {
    ts_run *r;
    ts_host pixels;
    ts_vae_tile tile;
} encoding;

static ts_status encode_picture(ts_ctx *c, void *user)
{
    ts_status st;
    encoding *e = user;
    ts_run *r = e->r;
    size_t mark = ts_mark(&c->arena);
    ts_tensor z = ts_take(&c->arena, TS_F32, 4, r->picture.dim); /* [1, H, W, C] */
    TRY(r->m->family->vae->encode(c, r->m->vae_weights, &r->m->vae_info, e->pixels, e->tile, z,
                                  (ts_tensor){0}));
    if (!c->dev->counting) TRY(ts_cast(c->dev, z, r->picture));
done:
    ts_release(&c->arena, mark);
    return st;
}

static ts_status count_encoding(encoding *e, ts_vae_tile tile, size_t *activations, size_t *all)
{
    e->tile = tile;
    ts_status st = ts_count_phase(e->r->ctx, encode_picture, e, activations);
    *all = *activations + ts_weights_packed(e->r->m->vae_weights, NULL);
    return st;
}

/* As the decoder is, in smaller tiles where that does not fit the memory. */
static ts_status run_encoding(encoding *e)
{
    ts_status st;
    ts_ctx *c = e->r->ctx;
    int side[2], sides = ts_run_tiles(e->r, side);
    size_t bytes, all;
    char need[TS_NUMBER_TEXT], may[TS_NUMBER_TEXT];
    TRY(count_encoding(e, e->r->tile, &bytes, &all));
    for (int i = 0; i < sides && all > c->memory; i++)
        if (!e->tile.w || side[i] < e->tile.w)
            TRY(count_encoding(e, (ts_vae_tile){side[i], side[i]}, &bytes, &all));
    if (all > c->memory)
        TRY(ts_fail(&c->err, TS_EMEMORY, "encoding a picture of %ldx%ld needs %s, %s may be used",
                    e->pixels.dim[2], e->pixels.dim[1], ts_bytes_text((double)all, need),
                    ts_bytes_text((double)c->memory, may)));
    TRY(ts_arena_open(&c->arena, c->dev, bytes));
    TRY(encode_picture(c, e));
done:
    ts_arena_close(&c->arena);
    ts_weights_leave(e->r->m->vae_weights);
    return st;
}

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
    TRY(run_encoding(&(encoding){.r = r, .pixels = {pixels, TS_F32, 4, {1, h, w, 3}}}));
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
