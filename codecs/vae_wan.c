/* AutoencoderKLWan (Wan 2.1 and 2.2): its config, and sequences through its network as frames or
 * tiles of frames.
 *
 * A whole frame is decoded chunk by chunk, and frames leave as they are ready. Tiles exist to save
 * memory, and what the convolutions remember of a stream is most of it: so tiles take turns, each
 * with its whole sequence, and the clip is put together in host memory before its first frame
 * leaves. The 2.2 kind blends before its pixels are unshuffled. */
#include "codecs/vae_wan.h"
#include "codecs/vae_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void ts_wan_config_set(ts_vae_info *v, const ts_wan_config *c)
{
    _Static_assert(sizeof *c <= sizeof v->params, "the config fits into params");
    memcpy(v->params, c, sizeof *c);
}

void ts_wan_config_get(const ts_vae_info *v, ts_wan_config *c) { memcpy(c, v->params, sizeof *c); }

/* ---- config ---- */
static ts_status check_config(ts_ctx *ctx, const char *path, const ts_wan_config *c, int times,
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

static ts_status describe(ts_ctx *ctx, const cJSON *json, const char *path, ts_vae_info *v)
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
    st = check_config(ctx, path, &c, nt, means, stds);
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
    ts_wan_config_set(v, &c);
    return TS_OK;
}

/* ---- decode ---- */
struct ts_vae {
    ts_wan_net net;
    ts_vae_info info;
    ts_host z;
    ts_vae_axis y, x;     /* in latents */
    ts_wan_stream stream; /* without tiles */
    /* [frames, H / patch, W / patch, out] before unshuffling: a chunk, with tiles the clip */
    float *whole;
    float *rgb;                          /* one frame [H, W, 3] */
    float *latent;                       /* host: a latent frame of a tile, channels last */
    int next_latent, have, given, index; /* frames in `whole`, those handed out, of the clip */
};

static void close_vae(ts_vae *v)
{
    if (!v) return;
    free(v->whole);
    free(v->rgb);
    free(v->latent);
    free(v);
}

static int frames_of(const ts_vae_info *info, long latents)
{
    return (int)(latents - 1) * info->time_stride + 1;
}

static ts_status open_buffers(ts_vae *v, ts_ctx *ctx)
{
    bool tiled = v->y.n * v->x.n > 1;
    size_t area = (size_t)v->z.dim[2] * (size_t)v->z.dim[3],
           pixels = area * (size_t)(v->info.stride * v->info.stride) * 3;
    int frames = frames_of(&v->info, v->z.dim[1]);
    if (!tiled && frames > v->info.time_stride) frames = v->info.time_stride;
    v->whole = malloc(pixels * (size_t)frames * sizeof(float)); /* out = 3 patch^2 */
    v->rgb = malloc(pixels * sizeof(float));
    v->latent = malloc(area * (size_t)v->info.channels * sizeof(float));
    if (!v->whole || !v->rgb || !v->latent)
        return ts_fail(&ctx->err, TS_EMEMORY, "no memory for frames of %ldx%ld",
                       v->z.dim[3] * v->info.stride, v->z.dim[2] * v->info.stride);
    if (!tiled) ts_wan_stream_init(&v->net, &v->stream, v->z.dim[2], v->z.dim[3], v->z.dim[1] == 1);
    return TS_OK;
}

static ts_status open_vae(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_host z,
                          ts_vae_tile tile, ts_vae **out)
{
    ts_status st = TS_OK;
    ts_vae *v = calloc(1, sizeof *v);
    *out = NULL;
    if (!v) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a decoder");
    v->info = *info;
    v->z = z;
    TRY(ts_vae_check_tile(ctx, info, tile));
    TRY(ts_wan_bind(&v->net, ctx, w, info, false));
    v->y = ts_vae_axis_of((int)z.dim[2], tile.h / info->stride);
    v->x = ts_vae_axis_of((int)z.dim[3], tile.w / info->stride);
    TRY(open_buffers(v, ctx));
    *out = v;
    v = NULL;
done:
    close_vae(v);
    return st;
}

/* Latent frame f of tile (i, j) through its stream into out. */
static ts_status decode_chunk(ts_vae *v, ts_wan_stream *s, int i, int j, int f, float *out)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = v->net.ctx;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor z = ts_take(&ctx->arena, TS_F32,
                          TS_DIM(1, ts_vae_span(v->y, i), ts_vae_span(v->x, j), v->info.channels));
    ts_vae_cut_latent(&v->info, v->z, v->y, v->x, i, j, f, v->latent);
    TRY(ts_vae_upload(ctx, z, v->latent));
    TRY(ts_wan_decode_chunk(&v->net, s, z, out));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status decode_tile(void *user, int i, int j, const ts_vae_patch *t)
{
    ts_status st = TS_OK;
    ts_vae *v = user;
    ts_ctx *ctx = v->net.ctx;
    size_t mark = ts_mark(&ctx->arena), frame = (size_t)t->h * (size_t)t->w * (size_t)v->net.c.out;
    int latents = (int)v->z.dim[1];
    ts_wan_stream s;
    ts_wan_stream_init(&v->net, &s, ts_vae_span(v->y, i), ts_vae_span(v->x, j), latents == 1);
    for (int f = 0; f < latents; f++)
        TRY(decode_chunk(v, &s, i, j, f,
                         t->data + frame * (size_t)(f ? frames_of(&v->info, f) : 0)));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status decode_tiles(ts_vae *v)
{
    int frames = frames_of(&v->info, v->z.dim[1]);
    ts_status st = ts_vae_each_tile(v->net.ctx, v->y, v->x, frames, v->net.c.out,
                                    v->info.stride / v->net.c.patch, v->whole, decode_tile, v);
    if (st == TS_OK) {
        v->have = frames;
        v->given = 0;
        v->next_latent = (int)v->z.dim[1];
    }
    return st;
}

/* Channel c p^2 + b p + a of a position is colour c at row offset a, column offset b. False: a
 * number is not finite. */
static bool unshuffle(const ts_vae *v, const float *x, float *rgb)
{
    int p = v->net.c.patch, H = (int)v->z.dim[2] * v->info.stride / p,
        W = (int)v->z.dim[3] * v->info.stride / p, O = v->net.c.out;
    int bad = 0;
#pragma omp parallel for schedule(static) reduction(| : bad)
    for (int y = 0; y < H; y++)
        for (int i = 0; i < W; i++)
            for (int o = 0; o < O; o++) {
                float s = x[((long)y * W + i) * O + o];
                int c = o / (p * p), b = o / p % p, a = o % p;
                bad |= !isfinite(s);
                s = s * 0.5f + 0.5f;
                rgb[((long)(y * p + a) * W * p + i * p + b) * 3 + c] = s < 0 ? 0 : s > 1 ? 1 : s;
            }
    return !bad;
}

static ts_status next_frame(ts_vae *v, ts_frame *out, bool *end)
{
    *end = false;
    if (v->given == v->have) {
        if (v->next_latent == v->z.dim[1]) {
            *end = true;
            return TS_OK;
        }
        ts_status st = v->y.n * v->x.n > 1
                           ? decode_tiles(v)
                           : decode_chunk(v, &v->stream, 0, 0, v->next_latent, v->whole);
        if (st) return st;
        if (v->y.n * v->x.n == 1) {
            v->have = v->next_latent++ ? v->info.time_stride : 1;
            v->given = 0;
        }
    }
    long pixels = v->z.dim[2] * v->z.dim[3] * v->info.stride * v->info.stride /
                  (v->net.c.patch * v->net.c.patch) * v->net.c.out;
    if (!unshuffle(v, v->whole + v->given++ * pixels, v->rgb))
        return ts_fail(&v->net.ctx->err, TS_ENUMBER,
                       "frame %d holds NaN or infinity after decoding", v->index);
    *out = (ts_frame){.w = (int)v->z.dim[3] * v->info.stride,
                      .h = (int)v->z.dim[2] * v->info.stride,
                      .index = v->index++,
                      .rgb = v->rgb};
    return TS_OK;
}

/* ---- encode ---- */
typedef struct {
    ts_wan_net net;
    const ts_vae_info *info;
    ts_host px;
    ts_vae_axis y, x;     /* in latents */
    float *cut, *moments; /* a chunk of a tile's pixels, shuffled; [F', H', W', 2 z] of the whole */
    int latents;
} encoder;

/* Frames first.. of tile (i, j), pixels shuffled into channels. */
static void cut_pixels(encoder *e, int i, int j, int h, int w, int first, int frames)
{
    int p = e->net.c.patch, s = e->info->stride, th = h * s / p, tw = w * s / p, C = e->net.c.in;
    long H = e->px.dim[1], W = e->px.dim[2];
    const float *src = e->px.data;
    for (int f = 0; f < frames; f++)
        for (int y = 0; y < th; y++)
            for (int x = 0; x < tw; x++)
                for (int o = 0; o < C; o++) {
                    int c = o / (p * p), b = o / p % p, a = o % p;
                    e->cut[(((long)f * th + y) * tw + x) * C + o] =
                        src[(((first + f) * H + i * e->y.stride * s + y * p + a) * W +
                             j * e->x.stride * s + x * p + b) *
                                3 +
                            c];
                }
}

/* One tile's whole sequence into t, [F', h, w, 2 z]. */
static ts_status encode_tile(void *user, int i, int j, const ts_vae_patch *t)
{
    ts_status st = TS_OK;
    encoder *e = user;
    ts_ctx *ctx = e->net.ctx;
    int p = e->net.c.patch, T = e->info->time_stride, h = t->h, w = t->w;
    size_t mark = ts_mark(&ctx->arena);
    ts_wan_stream s;
    ts_wan_stream_init(&e->net, &s, h * e->info->stride / p, w * e->info->stride / p,
                       e->latents == 1);
    for (int f = 0; f < e->latents; f++) {
        int frames = f ? T : 1, first = f ? 1 + (f - 1) * T : 0;
        size_t inner = ts_mark(&ctx->arena);
        ts_tensor x = ts_take(
            &ctx->arena, TS_F32,
            TS_DIM(frames, h * e->info->stride / p, w * e->info->stride / p, e->net.c.in));
        cut_pixels(e, i, j, h, w, first, frames);
        TRY(ts_vae_upload(ctx, x, e->cut));
        TRY(ts_wan_encode_chunk(&e->net, &s, x, t->data + (long)f * h * w * 2 * e->info->channels));
        ts_release(&ctx->arena, inner);
    }
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status encode(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_host px,
                        ts_vae_tile tile, float *latent, float *moments)
{
    ts_status st = TS_OK;
    encoder *e = calloc(1, sizeof *e);
    if (!e) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for an encoder");
    int C = info->channels, s = info->stride;
    if (px.nd != 4 || px.dim[3] != 3 || px.dim[0] < 1 || px.dim[1] % s || px.dim[2] % s ||
        px.dim[1] < s || px.dim[2] < s)
        TRY(ts_fail(&ctx->err, TS_ESHAPE, "%ld frames of %ldx%ld: sides must be multiples of %d",
                    px.dim[0], px.dim[2], px.dim[1], s));
    TRY(ts_vae_check_tile(ctx, info, tile));
    e->info = info;
    e->px = px;
    e->latents = (int)(px.dim[0] - 1) / info->time_stride + 1;
    TRY(ts_wan_bind(&e->net, ctx, w, info, true));
    e->y = ts_vae_axis_of((int)px.dim[1] / s, tile.h / s);
    e->x = ts_vae_axis_of((int)px.dim[2] / s, tile.w / s);
    long h = px.dim[1] / s, q = px.dim[2] / s, F = e->latents;
    e->cut = malloc((size_t)(px.dim[1] * px.dim[2] * 3 * info->time_stride) * sizeof(float));
    e->moments = malloc((size_t)(F * h * q * 2 * C) * sizeof(float));
    if (!e->cut || !e->moments)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for latents of %ldx%ld", q, h));
    TRY(ts_vae_each_tile(ctx, e->y, e->x, e->latents, 2 * C, 1, e->moments, encode_tile, e));
    ts_vae_split_moments(info, e->moments, F * h * q, latent, moments);
done:
    free(e->cut);
    free(e->moments);
    free(e);
    return st;
}

const ts_vae_class ts_vae_wan = {.cls = "AutoencoderKLWan",
                                 .describe = describe,
                                 .open = open_vae,
                                 .next = next_frame,
                                 .close = close_vae,
                                 .encode = encode};
