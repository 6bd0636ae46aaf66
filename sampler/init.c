/* Image to image: a picture becomes the latents that noise is put on. Its size is the one that is
 * drawn; the encoder's mean stands for its distribution. */
#include "sampler/latents.h"
#include "sampler/run.h"

#include "codecs/picture.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    ts_run *r;
    ts_host pixels;
    ts_vae_tile tile;
    float *latent;
} encoding;

/* latent: host [C, h w] */
static ts_status encode_picture(ts_ctx *c, void *user)
{
    encoding *e = user;
    ts_run *r = e->r;
    ts_status st = TS_OK;
    const long *l = r->latent, one[4] = {l[0], 1, l[2], l[3]};
    size_t mark = ts_mark(&c->arena);
    ts_tensor z = ts_latents_take(&c->arena, one, one[0]);
    TRY(r->m->family->vae->encode(c, r->m->vae_weights, &r->m->vae_info, e->pixels, e->tile, z,
                                  (ts_tensor){0}));
    TRY(ts_latents_download(c, one, z, e->latent));
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
    TRY(count_encoding(e, e->r->tile, &bytes, &all));
    for (int i = 0; i < sides && all > c->memory; i++)
        if (!e->tile.w || side[i] < e->tile.w)
            TRY(count_encoding(e, (ts_vae_tile){side[i], side[i]}, &bytes, &all));
    if (all > c->memory)
        TRY(ts_fail(
            &c->err, TS_EMEMORY, "encoding a picture of %ldx%ld needs %.1f GB, %.1f GB may be used",
            e->pixels.dim[2], e->pixels.dim[1], (double)all / 1e9, (double)c->memory / 1e9));
    TRY(ts_arena_open(&c->arena, c->dev, bytes));
    st = encode_picture(c, e);
    ts_arena_close(&c->arena);
done:
    ts_weights_leave(e->r->m->vae_weights);
    return st;
}

ts_status ts_run_picture(ts_run *r, const char *path)
{
    ts_status st = TS_OK;
    ts_err *err = &r->ctx->err;
    const long *l = r->latent, area = l[2] * l[3];
    int s = r->m->vae_info.stride, w = (int)l[3] * s, h = (int)l[2] * s;
    size_t n = (size_t)w * (size_t)h * 3;
    ts_picture p = {0};
    float *pixels = NULL, *latent = NULL;
    TRY(ts_picture_read(err, path, &p));
    pixels = malloc(n * sizeof *pixels);
    latent = malloc((size_t)(l[0] * area) * sizeof *latent);
    if (!r->picture) r->picture = malloc((size_t)(l[0] * l[1] * area) * sizeof *r->picture);
    if (!pixels || !latent || !r->picture)
        TRY(ts_fail(err, TS_EMEMORY, "no memory for a picture of %dx%d", w, h));
    TRY(ts_picture_cover(err, &p, w, h, pixels));
    for (size_t i = 0; i < n; i++) pixels[i] = 2 * pixels[i] - 1;
    TRY(run_encoding(
        &(encoding){.r = r, .pixels = {pixels, TS_F32, 4, {1, h, w, 3}}, .latent = latent}));
    /* the same for every picture of a batch */
    for (long c = 0; c < l[0]; c++)
        for (long k = 0; k < l[1]; k++)
            memcpy(r->picture + (c * l[1] + k) * area, latent + c * area,
                   (size_t)area * sizeof *latent);
done:
    ts_picture_free(&p);
    free(pixels);
    free(latent);
    return st;
}
