/* Pixels of the host through the VAE's encoder, with an arena of its own; in tiles where a whole
 * frame does not fit the memory. */
#include "sampler/encode.h"

#include "backend/number.h"

typedef struct {
    ts_run *r;
    ts_host pixels;
    ts_vae_tile tile;
    ts_tensor to;
} encoding;

static ts_status encode_pixels(ts_ctx *c, void *user)
{
    ts_status st;
    encoding *e = user;
    ts_run *r = e->r;
    size_t mark = ts_mark(&c->arena);
    const long *to = e->to.dim; /* F' H' W' C or 2 C */
    long C = r->m->vae_info.channels;
    ts_tensor z = ts_take(&c->arena, TS_F32, TS_DIM(to[0], to[1], to[2], C)), moments = {0};
    if (to[3] != C) moments = ts_take(&c->arena, TS_F32, 4, to);
    TRY(r->m->family->vae->encode(c, r->m->vae_weights, &r->m->vae_info, e->pixels, e->tile, z,
                                  moments));
    if (!c->dev->counting) TRY(ts_cast(c->dev, to[3] == C ? z : moments, e->to));
done:
    ts_release(&c->arena, mark);
    return st;
}

static ts_status count_encoding(encoding *e, ts_vae_tile tile, size_t *activations, size_t *all)
{
    e->tile = tile;
    ts_status st = ts_count_phase(e->r->ctx, encode_pixels, e, activations);
    *all = *activations + ts_weights_packed(e->r->m->vae_weights, NULL);
    return st;
}

/* As the decoder is, in smaller tiles where that does not fit the memory. */
static ts_status fit_encoding(encoding *e, size_t *bytes, size_t *all)
{
    ts_status st;
    ts_ctx *c = e->r->ctx;
    ts_vae_tile tile[2];
    int tiles = ts_run_tiles(e->r, tile);
    char need[TS_NUMBER_TEXT], may[TS_NUMBER_TEXT];
    TRY(count_encoding(e, e->r->tile, bytes, all));
    for (int i = 0; i < tiles; i++)
        if (*all > c->memory && (!e->tile.w || tile[i].w < e->tile.w))
            TRY(count_encoding(e, tile[i], bytes, all));
    if (*all > c->memory)
        TRY(ts_fail(&c->err, TS_EMEMORY, "encoding a picture of %ldx%ld needs %s, %s may be used",
                    e->pixels.dim[2], e->pixels.dim[1], ts_bytes_text((double)*all, need),
                    ts_bytes_text((double)c->memory, may)));
done:
    return st;
}

ts_status ts_encode_count(ts_run *r, ts_host pixels, const long latent[4], size_t *bytes)
{
    size_t activations;
    encoding e = {.r = r,
                  .pixels = pixels,
                  .to = ts_tensor_of((ts_ptr){0}, TS_F32,
                                     TS_DIM(latent[1], latent[2], latent[3], latent[0]))};
    return fit_encoding(&e, &activations, bytes);
}

ts_status ts_encode(ts_run *r, ts_host pixels, ts_tensor to)
{
    ts_status st;
    ts_ctx *c = r->ctx;
    size_t bytes, all;
    encoding e = {.r = r, .pixels = pixels, .to = to};
    TRY(fit_encoding(&e, &bytes, &all));
    TRY(ts_arena_open(&c->arena, c->dev, bytes));
    TRY(encode_pixels(c, &e));
done:
    ts_arena_close(&c->arena);
    ts_weights_leave(r->m->vae_weights);
    return st;
}
