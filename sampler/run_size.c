/* What a run will take: every phase is run on a counting device, and what does not fit the memory
 * is refused, or tried in smaller tiles. */
#include "backend/number.h"
#include "sampler/images.h"
#include "sampler/latents.h"
#include "sampler/run.h"
#include "sampler/texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- phases: the same functions on a counting device and for real ---- */
static ts_status denoise_phase(ts_ctx *c, void *user)
{
    (void)c;
    return ts_denoise(user);
}

static ts_status decode_phase(ts_ctx *c, void *user)
{
    (void)c;
    ts_run *r = user;
    return ts_decode(r, ts_latents_take(&r->ctx->arena, r->latent, r->latent[0]), NULL);
}

/* It grows and never shrinks. */
static void keep_scratch(ts_run *r, ts_phase phase)
{
    size_t want = r->ctx->dev->ops->scratch(r->ctx->dev),
           before = phase == TS_PHASE_TEXT ? 0 : r->scratch[phase - 1];
    r->scratch[phase] = want > before ? want : before;
}

/* The bytes of a phase's arena, its operations and the floating-point operations of its
 * products. */
static ts_status count_phase(ts_run *r, ts_phase phase, ts_status (*run)(ts_ctx *, void *),
                             double *flops)
{
    ts_profile *p = &r->price[phase];
    ts_device *dev = r->ctx->dev;
    ts_profile_read(dev, p, true);
    dev->ops->scratch(dev);
    ts_status st = ts_count_phase(r->ctx, run, r, &r->arena[phase]);
    ts_profile_read(dev, p, true);
    keep_scratch(r, phase);
    *flops = p->flops[TS_TIME_LINEAR] + p->flops[TS_TIME_CONV] + p->flops[TS_TIME_ATTENTION] +
             p->flops[TS_TIME_SEARCH];
    return st;
}

static ts_status parse_tile(ts_run *r)
{
    int w = 0, h = 0, end = 0, unit = r->m->vae_info.stride * 4;
    ts_vae_tile own = r->m->vae_info.tile;
    char or [48] = "";
    if (!strcmp(r->q.vae_tile, "auto") || !strcmp(r->q.vae_tile, "off")) return TS_OK;
    if (own.w % unit || own.h % unit) snprintf(or, sizeof or, ", or %dx%d", own.w, own.h);
    if (sscanf(r->q.vae_tile, "%dx%d%n", &w, &h, &end) != 2 || r->q.vae_tile[end] || w < unit ||
        h < unit || ((w % unit || h % unit) && (w != own.w || h != own.h)))
        return ts_fail(&r->ctx->err, TS_EUSAGE,
                       "VAE tile %s: must be auto, off, or WxH in multiples of %d%s", r->q.vae_tile,
                       unit, or);
    r->tile = (ts_vae_tile){w, h};
    return TS_OK;
}

static ts_status refuse_memory(ts_run *r, const char *what, size_t need, const char *advice)
{
    char a[TS_NUMBER_TEXT], b[TS_NUMBER_TEXT];
    const ts_device *dev = r->ctx->dev;
    return ts_fail(&r->ctx->err, TS_EMEMORY,
                   "%s of %dx%d, %d frame%s, needs %s, %s%s%s may be used: %s", what, r->q.width,
                   r->q.height, r->q.frames, r->q.frames == 1 ? "" : "s",
                   ts_bytes_text((double)need, a), ts_bytes_text((double)r->ctx->memory, b),
                   dev->own_memory ? " of the memory of device " : "",
                   dev->own_memory ? dev->name : "", advice);
}

static const char *const smaller = "ask for a smaller size or fewer frames",
                         *const coarser =
                             "ask for a smaller size or fewer frames, or have attention keep "
                             "less of what searches leave out (residual=64, or 0)";

/* Of the host: a frame as it leaves the decoder; a picture also as it is delivered. */
static size_t frame_bytes(const ts_run *r)
{
    size_t s = (size_t)r->m->vae_info.stride,
           drawn = (size_t)r->latent[2] * s * (size_t)r->latent[3] * s,
           delivered = r->pictures ? (size_t)r->q.width * (size_t)r->q.height : 0;
    return (drawn + delivered) * 3 * sizeof(float);
}

static ts_status count_tiled(ts_run *r, ts_vae_tile tile, size_t *bytes, double *flops)
{
    r->tile = tile;
    ts_status st = count_phase(r, TS_PHASE_DECODE, decode_phase, flops);
    *bytes = r->arena[TS_PHASE_DECODE] + r->scratch[TS_PHASE_DECODE] + frame_bytes(r) +
             ts_weights_packed(r->m->vae_weights, NULL);
    return st;
}

int ts_run_tiles(const ts_run *r, ts_vae_tile tile[2])
{
    ts_vae_tile own = r->m->vae_info.tile;
    int unit = r->m->vae_info.stride * 4, least = 256 > 4 * unit ? 256 : 4 * unit, n = 0;
    if ((long)own.w * own.h > (long)least * least) tile[n++] = own;
    tile[n++] = (ts_vae_tile){least, least};
    return n;
}

/* auto: the whole frame while it fits the memory, else in tiles. Where another wish does not fit
 * and that would, the refusal says so. */
static ts_status count_decode(ts_run *r, ts_estimate *e)
{
    ts_status st = TS_OK;
    ts_vae_tile tile[2], used = {0, 0};
    int tiles = ts_run_tiles(r, tile);
    size_t asked;
    char text[TS_NUMBER_TEXT];
    bool automatic = !strcmp(r->q.vae_tile, "auto");
    TRY(parse_tile(r));
    TRY(count_tiled(r, r->tile, &asked, &e->decode_flops));
    e->decode_bytes = asked;
    for (int i = 0; i < tiles && e->decode_bytes > r->ctx->memory; i++) {
        if (r->q.width <= tile[i].w && r->q.height <= tile[i].h) continue;
        used = tile[i];
        TRY(count_tiled(r, used, &e->decode_bytes, &e->decode_flops));
    }
    if (e->decode_bytes > r->ctx->memory)
        TRY(refuse_memory(r, "decoding", automatic ? e->decode_bytes : asked, smaller));
    if (used.w && !automatic) TRY(refuse_memory(r, "decoding", asked, "`vae_tile` auto would fit"));
    if (used.w)
        ts_warn(r->ctx, "decoding a whole frame would need %s: in tiles of %dx%d instead",
                ts_bytes_text((double)asked, text), used.w, used.h);
    e->tile_w = r->tile.w;
    e->tile_h = r->tile.h;
done:
    return st;
}

/* Packed weights stay resident while they fit; the largest layer must fit in any case. */
static ts_status count_denoise(ts_run *r, ts_estimate *e)
{
    ts_status st = TS_OK;
    double flops;
    size_t least = 0, most = 0, room = 0;
    ts_bag *zeros[TS_BRANCHES] = {0}; /* texts are not encoded yet */
    for (int i = 0; i < r->branches; i++) {
        TRY(ts_texts_zeros(r->texts, r->text_id[i], &zeros[i]));
        r->states[i] = zeros[i];
    }
    TRY(count_phase(r, TS_PHASE_DENOISE, denoise_phase, &flops));
    for (int i = 0; i < 2 && r->m->dit[i]; i++) {
        size_t largest, all = ts_weights_packed(ts_dit_weights(r->m->dit[i]), &largest);
        if (largest > least) least = largest;
        if (all > most) most = all;
    }
    bool residuals = r->attn.state && r->attn.o.policy.residual == 1;
    size_t activations = r->arena[TS_PHASE_DENOISE] + r->scratch[TS_PHASE_DENOISE];
    if (activations + least > r->ctx->memory)
        TRY(refuse_memory(r, "denoising", activations + least, residuals ? coarser : smaller));
    room = ts_run_room(r);
    e->weight_bytes = most;
    e->denoise_bytes = activations + (most < room ? most : room);
    e->step_flops = flops / ts_run_steps(r);
done:
    for (int i = 0; i < r->branches; i++) {
        ts_bag_free(zeros[i]);
        r->states[i] = NULL;
    }
    return st;
}

static ts_status count_text(ts_run *r, ts_estimate *e)
{
    ts_status st;
    size_t room;
    r->ctx->dev->ops->scratch(r->ctx->dev);
    TRY(ts_texts_count(r->texts, r->text_id, r->branches, &e->text_bytes,
                       &r->price[TS_PHASE_TEXT]));
    keep_scratch(r, TS_PHASE_TEXT);
    e->text_bytes += r->scratch[TS_PHASE_TEXT];
    TRY(ts_device_room(r->ctx->dev, &room)); /* the encoder's weights are mapped, too */
    if (e->text_bytes > r->ctx->memory || e->text_bytes > room)
        TRY(refuse_memory(r, "encoding the text", e->text_bytes,
                          r->ctx->dev->own_memory ? "close what else uses it, or compute on the CPU"
                                                  : "allow more memory, or take a larger machine"));
done:
    return st;
}

/* Images are encoded when texts are. */
static ts_status count_images(ts_run *r, ts_estimate *e)
{
    size_t bytes;
    ts_status st = ts_images_count(r, &bytes, &r->price[TS_PHASE_TEXT]);
    if (!st && bytes > e->text_bytes) e->text_bytes = bytes;
    return st;
}

/* ---- all of them ---- */

size_t ts_room_beside(const ts_ctx *c, size_t taken)
{
    size_t most = c->unused && c->unused < c->memory ? c->unused : c->memory;
    return taken < most ? most - taken : 1;
}

size_t ts_run_room(const ts_run *r)
{
    return ts_room_beside(r->ctx, r->arena[TS_PHASE_DENOISE] + r->scratch[TS_PHASE_DENOISE] +
                                      r->watched.bytes);
}

/* Others have what a phase wants beside weights, which only take what is left. */
static void warn_of_others(const ts_run *r)
{
    static const char *const names[] = {
        [TS_PHASE_DENOISE] = "denoising", [TS_PHASE_DECODE] = "decoding"};
    char need[TS_NUMBER_TEXT], left[TS_NUMBER_TEXT];
    for (int i = TS_PHASE_DENOISE; i <= TS_PHASE_DECODE; i++) {
        size_t bytes = r->arena[i] + r->scratch[i];
        if (!r->ctx->unused || bytes <= r->ctx->unused) continue;
        ts_warn(r->ctx,
                "%s needs %s, and other programs leave %s of this machine's memory: it may be "
                "slow, or the system may end the program",
                names[i], ts_bytes_text((double)bytes, need),
                ts_bytes_text((double)r->ctx->unused, left));
        return;
    }
}

static void describe_sizes(const ts_run *r, ts_estimate *e)
{
    e->width = r->q.width;
    e->height = r->q.height;
    e->frames = ts_run_frames(r);
    for (int i = 0; i < 4; i++) e->latent[i] = (int)r->latent[i];
    e->steps = ts_run_steps(r);
    e->tokens = r->grid.N;
    e->layers = r->m->dit_info.layers;
    e->text_tokens = r->n_ids[TS_COND];
    e->negative_tokens = r->n_ids[TS_UNCOND];
    e->precision = r->ctx->act == TS_BF16 ? "bf16" : "f32";
}

/* Whether everything that a counting run depends on is the same, and no other one has chosen other
 * layouts since. */
static bool sizes_hold(const ts_run *r, const ts_run *like)
{
    if (!like || like->m != r->m || like->counted != r->m->counts ||
        like->branches != r->branches || like->low != r->low || like->q.steps != r->q.steps)
        return false;
    for (int i = 0; i < r->branches; i++)
        if (like->n_ids[i] != r->n_ids[i]) return false;
    /* a picture may be drawn at one size and resized to another */
    if (like->q.width != r->q.width || like->q.height != r->q.height || like->q.count != r->q.count)
        return false;
    return !memcmp(like->latent, r->latent, sizeof r->latent) &&
           !strcmp(like->q.vae_tile, r->q.vae_tile) && !strcmp(like->q.attention, r->q.attention) &&
           !strcmp(like->q.cache_steps, r->q.cache_steps) &&
           !strcmp(like->q.loras ? like->q.loras : "", r->q.loras ? r->q.loras : "") &&
           !strcmp(like->q.timesteps, r->q.timesteps) && !strcmp(like->q.sampler, r->q.sampler) &&
           like->schedule.first == r->schedule.first && !like->q.init == !r->q.init &&
           !like->q.image == !r->q.image && !like->q.last_image == !r->q.last_image;
}

ts_status ts_run_size(ts_run *r, const ts_run *like, ts_estimate *e)
{
    ts_status st = TS_OK;
    *e = (ts_estimate){0};
    if (sizes_hold(r, like)) {
        *e = like->estimate;
        memcpy(r->arena, like->arena, sizeof r->arena);
        memcpy(r->scratch, like->scratch, sizeof r->scratch);
        memcpy(r->price, like->price, sizeof r->price);
        r->tile = like->tile;
        r->counted = like->counted;
    } else {
        r->counted = ++r->m->counts;
        if (r->owns_texts) TRY(count_text(r, e));
        TRY(count_images(r, e));
        TRY(count_denoise(r, e));
        TRY(count_decode(r, e));
        warn_of_others(r);
    }
    describe_sizes(r, e);
    r->estimate = *e;
done:
    return st;
}

ts_status ts_run_size_decode(ts_run *r, ts_estimate *e)
{
    ts_status st;
    *e = (ts_estimate){0};
    r->counted = ++r->m->counts;
    TRY(count_decode(r, e));
    warn_of_others(r);
    describe_sizes(r, e);
    r->estimate = *e;
done:
    return st;
}
