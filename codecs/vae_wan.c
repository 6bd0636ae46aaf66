/* AutoencoderKLWan (Wan 2.1 and 2.2): its config, and sequences through its network as frames or
 * tiles of frames.
 *
 * A whole frame is decoded chunk by chunk, and frames leave as they are ready. Tiles exist to save
 * memory, and what the convolutions remember of a stream is most of it: so tiles take turns, each
 * with its whole sequence, and the clip is put together before its first frame leaves. The 2.2 kind
 * blends before its pixels are unshuffled. */
#include "codecs/vae_wan.h"
#include "codecs/vae_parts.h"
#include "codecs/vae_wan_files.h"

#include <stdlib.h>

/* ---- config ---- */
static ts_status check_wan_config(ts_ctx *ctx, const char *path, const ts_wan_config *c, int times,
                                  int means, int stds)
{
    ts_err *e = &ctx->err;
    if (c->levels < 1 || c->base < 1 || c->dec_base < 1 || c->z < 1 || c->res < 1 ||
        c->res + 1 > TS_WAN_RES)
        return ts_fail(e, TS_EMODEL,
                       "%s: base_dim, z_dim, num_res_blocks and dim_mult are positive, "
                       "num_res_blocks less than %d",
                       path, TS_WAN_RES);
    for (int i = 0; i < c->levels; i++)
        if (c->mult[i] < 1)
            return ts_fail(e, TS_EMODEL, "%s: dim_mult[%d] is %d, must be positive", path, i,
                           c->mult[i]);
    if (times != c->levels - 1)
        return ts_fail(e, TS_EMODEL, "%s: temperal_downsample has %d entries, dim_mult needs %d",
                       path, times, c->levels - 1);
    if (means != c->z || stds != c->z)
        return ts_fail(e, TS_EMODEL,
                       "%s: latents_mean and latents_std have %d and %d entries, z_dim is %d", path,
                       means, stds, c->z);
    if (c->patch < 1 || c->patch > 8 || c->in != 3 * c->patch * c->patch || c->out != c->in)
        return ts_fail(
            e, TS_EMODEL,
            "%s: in_channels %d, out_channels %d: 3 times the square of patch_size %d are needed",
            path, c->in, c->out, c->patch);
    return TS_OK;
}

static ts_status describe_wan_vae(ts_ctx *ctx, const cJSON *json, const char *path, ts_vae_info *v,
                                  void *config)
{
    ts_wan_config c = {.base = 96,
                       .z = 16,
                       .levels = 4,
                       .mult = {1, 2, 4, 4},
                       .res = 2,
                       .in = 3,
                       .out = 3,
                       .patch = 1,
                       .time = {false, true, true}};
    int times[TS_WAN_LEVELS] = {0, 1, 1}, nt = 3, means = 0, stds = 0, temporal = 0, spatial = 0;
    ts_key keys[] = {{"base_dim", TS_KEY_INT, &c.base, 0, NULL, NULL},
                     {"decoder_base_dim", TS_KEY_INT, &c.dec_base, 0, NULL, NULL},
                     {"z_dim", TS_KEY_INT, &c.z, 0, NULL, NULL},
                     {"dim_mult", TS_KEY_INTS, c.mult, TS_WAN_LEVELS, &c.levels, NULL},
                     {"num_res_blocks", TS_KEY_INT, &c.res, 0, NULL, NULL},
                     TS_ONLY("attn_scales", "[]|null"),
                     TS_IGNORED("temperal_downsample"),
                     TS_IGNORED("dropout"),
                     {"latents_mean", TS_KEY_FLOATS, v->mean, 128, &means, NULL},
                     {"latents_std", TS_KEY_FLOATS, v->std, 128, &stds, NULL},
                     {"is_residual", TS_KEY_BOOL, &c.residual, 0, NULL, NULL},
                     {"in_channels", TS_KEY_INT, &c.in, 0, NULL, NULL},
                     {"out_channels", TS_KEY_INT, &c.out, 0, NULL, NULL},
                     {"patch_size", TS_KEY_INT, &c.patch, 0, NULL, NULL},
                     {"scale_factor_temporal", TS_KEY_INT, &temporal, 0, NULL, NULL},
                     {"scale_factor_spatial", TS_KEY_INT, &spatial, 0, NULL, NULL},
                     TS_IGNORED("clip_output")};
    ts_status st = ts_config_read(ctx, json, path, keys, sizeof keys / sizeof *keys);
    if (st) return st;
    const cJSON *t = cJSON_GetObjectItemCaseSensitive(json, "temperal_downsample"), *one;
    if (cJSON_IsArray(t)) {
        nt = 0;
        cJSON_ArrayForEach(one, t)
        {
            if (!cJSON_IsBool(one) || nt == TS_WAN_LEVELS)
                return ts_fail(&ctx->err, TS_EMODEL,
                               "%s: temperal_downsample is a list of at most %d booleans", path,
                               TS_WAN_LEVELS);
            times[nt++] = cJSON_IsTrue(one);
        }
    }
    for (int i = 0; i < nt; i++) c.time[i] = times[i];
    if (!c.dec_base) c.dec_base = c.base;
    st = check_wan_config(ctx, path, &c, nt, means, stds);
    if (st) return st;
    v->channels = c.z;
    v->time_stride = 1;
    v->stride = c.patch << (c.levels - 1);
    for (int i = 0; i < nt; i++) v->time_stride <<= c.time[i];
    if ((temporal && temporal != v->time_stride) || (spatial && spatial != v->stride))
        return ts_fail(
            &ctx->err, TS_EMODEL,
            "%s: scale_factor_temporal %d, scale_factor_spatial %d, but the layers make %d and %d",
            path, temporal, spatial, v->time_stride, v->stride);
    *(ts_wan_config *)config = c;
    v->config = config;
    return TS_OK;
}

/* ---- decode ---- */
struct ts_vae {
    ts_vae_decoding
        d; /* whole: [frames, H / patch, W / patch, out], a chunk, with tiles the clip */
    ts_wan_net net;
    ts_wan_stream stream;         /* without tiles */
    int next_latent, have, given; /* frames in `whole`, those handed out */
};

static void close_wan(ts_vae *v)
{
    if (!v) return;
    free(v->d.rgb);
    free(v);
}

static int frames_of(const ts_vae_info *info, long latents)
{
    return (int)(latents - 1) * info->time_stride + 1;
}

/* What outlives a chunk. */
static ts_status carve_wan(ts_vae *v)
{
    ts_status st;
    ts_vae_decoding *d = &v->d;
    bool tiled = d->tiles > 1;
    int frames = frames_of(&d->info, d->z.dim[0]);
    if (!tiled && frames > d->info.time_stride) frames = d->info.time_stride;
    TRY(ts_vae_decoding_carve(d, frames, d->info.stride / v->net.c.patch, v->net.c.out));
    if (!tiled) ts_wan_stream_init(&v->net, &v->stream, d->y.size, d->x.size, d->z.dim[0] == 1);
done:
    return st;
}

static ts_status open_wan(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_tensor z,
                          ts_vae_tile tile, ts_vae **out)
{
    ts_status st = TS_OK;
    ts_vae *v = calloc(1, sizeof *v);
    *out = NULL;
    if (!v) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a decoder");
    TRY(ts_vae_decoding_begin(&v->d, ctx, info, z, tile, "frame"));
    TRY(ts_wan_bind(&v->net, ctx, w, info, false));
    TRY(carve_wan(v));
    *out = v;
    v = NULL;
done:
    close_wan(v);
    return st;
}

/* Latent frame f of tile (i, j) through its stream into out. */
static ts_status decode_wan_chunk(ts_vae *v, ts_wan_stream *s, int i, int j, int f, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&v->d.ctx->arena);
    ts_tensor z;
    TRY(ts_vae_decoding_latents(&v->d, i, j, f, 1, &z));
    TRY(ts_wan_decode_chunk(&v->net, s, z, out));
done:
    ts_release(&v->d.ctx->arena, mark);
    return st;
}

/* The whole sequence of tile (i, j), blended into the clip. */
static ts_status decode_wan_tile(ts_vae *v, int i, int j)
{
    ts_status st = TS_OK;
    ts_arena *a = &v->d.ctx->arena;
    size_t mark = ts_mark(a), inner;
    int latents = (int)v->d.z.dim[0], h = ts_vae_span(v->d.y, i), w = ts_vae_span(v->d.x, j),
        up = v->d.info.stride / v->net.c.patch, parts = v->d.tiles * latents;
    ts_wan_stream s;
    ts_wan_stream_init(&v->net, &s, h, w, latents == 1);
    inner = ts_mark(a);
    for (int f = 0; f < latents; f++) {
        int frames = f ? v->d.info.time_stride : 1, first = f ? frames_of(&v->d.info, f) : 0;
        ts_tensor t = ts_take(a, TS_F32, TS_DIM(frames, h * up, w * up, v->net.c.out));
        ts_vae_progress(v->d.ctx, 0, frames_of(&v->d.info, latents),
                        (i * v->d.x.n + j) * latents + f, parts, v->d.began);
        TRY(decode_wan_chunk(v, &s, i, j, f, t));
        TRY(ts_vae_put_frames(&v->d.blend, i, j, first, t));
        ts_release(a, inner);
    }
done:
    ts_release(a, mark);
    return st;
}

/* More frames in `whole`: all of them, with tiles; else those of the next latent. */
static ts_status decode_wan_frames(ts_vae *v)
{
    ts_status st = TS_OK;
    v->given = 0;
    if (v->d.tiles == 1) {
        v->have = v->next_latent ? v->d.info.time_stride : 1;
        return decode_wan_chunk(v, &v->stream, 0, 0, v->next_latent++,
                                ts_vae_frames(v->d.whole, 0, v->have));
    }
    for (int k = 0; k < v->d.tiles; k++) TRY(decode_wan_tile(v, k / v->d.x.n, k % v->d.x.n));
    v->next_latent = (int)v->d.z.dim[0];
    v->have = frames_of(&v->d.info, v->d.z.dim[0]);
done:
    return st;
}

static ts_status next_wan(ts_vae *v, ts_frame *out, bool *end)
{
    ts_status st = TS_OK;
    *end = v->given == v->have && v->next_latent == v->d.z.dim[0];
    if (*end) return TS_OK;
    if (v->given == v->have) TRY(decode_wan_frames(v));
    TRY(ts_vae_decoding_give(&v->d, ts_vae_frames(v->d.whole, v->given++, 1), v->net.c.patch, true,
                             out));
done:
    return st;
}

/* ---- encode ---- */
typedef struct {
    ts_vae_encoding base;
    ts_wan_net net;
} wan_encoding;

/* The whole sequence of tile (i, j), blended into the moments. */
static ts_status encode_wan_tile(wan_encoding *e, int i, int j)
{
    ts_status st = TS_OK;
    ts_arena *a = &e->base.ctx->arena;
    size_t mark = ts_mark(a), inner;
    int p = e->net.c.patch, h = ts_vae_span(e->base.y, i), w = ts_vae_span(e->base.x, j),
        up = e->base.info->stride / p;
    ts_wan_stream s;
    ts_wan_stream_init(&e->net, &s, h * up, w * up, e->base.latents == 1);
    inner = ts_mark(a);
    for (long f = 0; f < e->base.latents; f++) {
        int frames = f ? e->base.info->time_stride : 1, first = f ? frames_of(e->base.info, f) : 0;
        ts_tensor m, in;
        TRY(ts_vae_encoding_cut(&e->base, i, j, p, first, frames, 1, &m, &in));
        TRY(ts_wan_encode_chunk(&e->net, &s, in, m));
        TRY(ts_vae_blend_put(&e->base.blend, i, j, f, m));
        ts_release(a, inner);
    }
done:
    ts_release(a, mark);
    return st;
}

static ts_status encode_wan(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_host px,
                            ts_vae_tile tile, ts_tensor latent, ts_tensor moments)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&ctx->arena);
    wan_encoding c = {0};
    ts_vae_encoding *e = &c.base;
    TRY(ts_vae_encoding_begin(e, ctx, info, px, "frames", tile, moments));
    TRY(ts_wan_bind(&c.net, ctx, w, info, true));
    TRY(ts_vae_blend_open(&e->blend, ctx, e->y, e->x, 1, e->moments));
    for (int k = 0; k < e->y.n * e->x.n; k++) TRY(encode_wan_tile(&c, k / e->x.n, k % e->x.n));
    TRY(ts_vae_normalise(ctx, e->moments, e->scales, latent));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

const ts_vae_class ts_vae_wan = {.cls = "AutoencoderKLWan",
                                 .names = &ts_vae_wan_names,
                                 .infer = ts_vae_wan_infer,
                                 .config_size = sizeof(ts_wan_config),
                                 .describe = describe_wan_vae,
                                 .open = open_wan,
                                 .next = next_wan,
                                 .close = close_wan,
                                 .encode = encode_wan};
