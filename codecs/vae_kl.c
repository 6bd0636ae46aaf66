/* AutoencoderKL (the VAE of Stable Diffusion 1 and XL, and so of PixArt): its config, and pictures
 * through its network, whole or in tiles. Frames are pictures that know nothing of each other.
 *
 * It is computed in f32 always, which is what force_upcast asks for. The decoder's output is not
 * clamped here: who resizes pictures needs what lies beyond. */
#include "codecs/vae_kl.h"
#include "codecs/vae_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void ts_kl_config_set(ts_vae_info *v, const ts_kl_config *c)
{
    _Static_assert(sizeof *c <= sizeof v->params, "the config fits into params");
    memcpy(v->params, c, sizeof *c);
}

void ts_kl_config_get(const ts_vae_info *v, ts_kl_config *c) { memcpy(c, v->params, sizeof *c); }

/* ---- config ---- */

/* "down_block_types" and "up_block_types" list one kind for every level. */
static ts_status check_kinds(ts_ctx *ctx, const cJSON *json, const char *path, const char *key,
                             const char *kind, int levels)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, key), *one;
    if (!list || cJSON_IsNull(list)) return TS_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != levels)
        return ts_fail(
            &ctx->err, TS_EMODEL,
            "%s: \"%s\" must list a kind for each of the %d levels of block_out_channels", path,
            key, levels);
    cJSON_ArrayForEach(
        one, list) if (!cJSON_IsString(one) ||
                       strcmp(one->valuestring,
                              kind)) return ts_fail(&ctx->err, TS_EMODEL,
                                                    "%s: \"%s\" has %s, only %s is supported", path,
                                                    key,
                                                    cJSON_IsString(one) ? one->valuestring
                                                                        : "what is no string",
                                                    kind);
    return TS_OK;
}

static ts_status check_config(ts_ctx *ctx, const char *path, const ts_kl_config *c, double scale)
{
    ts_err *e = &ctx->err;
    if (c->levels < 1 || c->res < 1 || c->res + 1 > TS_KL_RES)
        return ts_fail(e, TS_EMODEL, "%s: layers_per_block is %d, expected 1 to %d", path, c->res,
                       TS_KL_RES - 1);
    if (c->z < 1 || c->z > 128)
        return ts_fail(e, TS_EMODEL, "%s: latent_channels is %d, expected 1 to 128", path, c->z);
    if (c->sample_size < 1 || c->sample_size > 1 << 14)
        return ts_fail(e, TS_EMODEL, "%s: sample_size is %d, expected 1 to 16384", path,
                       c->sample_size);
    if (!(fabs(scale) > 1e-6 && fabs(scale) < 1e6))
        return ts_fail(e, TS_EMODEL, "%s: scaling_factor is %g, expected a number that is not 0",
                       path, scale);
    for (int i = 0; i < c->levels; i++)
        if (c->width[i] < 1 || c->groups < 1 || c->width[i] % c->groups)
            return ts_fail(
                e, TS_EMODEL,
                "%s: block_out_channels[%d] is %d, must be a multiple of norm_num_groups, %d", path,
                i, c->width[i], c->groups);
    return TS_OK;
}

static ts_status describe(ts_ctx *ctx, const cJSON *json, const char *path, ts_vae_info *v)
{
    ts_status st = TS_OK;
    ts_kl_config c = {.width = {64},
                      .levels = 1,
                      .res = 1,
                      .z = 4,
                      .groups = 32,
                      .sample_size = 32,
                      .attention = true,
                      .quant = true,
                      .post_quant = true};
    double scale = 0.18215, shift = 0;
    ts_key keys[] = {{"in_channels", TS_KEY_ONLY, NULL, 0, NULL, "3"},
                     {"out_channels", TS_KEY_ONLY, NULL, 0, NULL, "3"},
                     {"latent_channels", TS_KEY_INT, &c.z, 0, NULL, NULL},
                     {"block_out_channels", TS_KEY_INTS, c.width, TS_KL_LEVELS, &c.levels, NULL},
                     {"layers_per_block", TS_KEY_INT, &c.res, 0, NULL, NULL},
                     {"norm_num_groups", TS_KEY_INT, &c.groups, 0, NULL, NULL},
                     {"act_fn", TS_KEY_ONLY, NULL, 0, NULL, "\"silu\""},
                     {"mid_block_add_attention", TS_KEY_BOOL, &c.attention, 0, NULL, NULL},
                     {"use_quant_conv", TS_KEY_BOOL, &c.quant, 0, NULL, NULL},
                     {"use_post_quant_conv", TS_KEY_BOOL, &c.post_quant, 0, NULL, NULL},
                     {"sample_size", TS_KEY_INT, &c.sample_size, 0, NULL, NULL},
                     {"scaling_factor", TS_KEY_FLOAT, &scale, 0, NULL, NULL},
                     {"shift_factor", TS_KEY_FLOAT, &shift, 0, NULL, NULL},
                     {"latents_mean", TS_KEY_ONLY, NULL, 0, NULL, "null"},
                     {"latents_std", TS_KEY_ONLY, NULL, 0, NULL, "null"},
                     {"down_block_types", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
                     {"up_block_types", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
                     {"force_upcast", TS_KEY_IGNORE, NULL, 0, NULL, NULL}};
    memset(v, 0, sizeof *v);
    TRY(ts_config_read(ctx, json, path, keys, sizeof keys / sizeof *keys));
    TRY(check_config(ctx, path, &c, scale));
    TRY(check_kinds(ctx, json, path, "down_block_types", "DownEncoderBlock2D", c.levels));
    TRY(check_kinds(ctx, json, path, "up_block_types", "UpDecoderBlock2D", c.levels));
    v->channels = c.z;
    v->time_stride = 1;
    v->stride = 1 << (c.levels - 1);
    v->tile = c.sample_size;
    for (int i = 0; i < c.z; i++) {
        v->mean[i] = (float)shift;
        v->std[i] = (float)(1 / scale);
    }
    ts_kl_config_set(v, &c);
done:
    return st;
}

/* ---- decode ---- */
struct ts_vae {
    ts_kl_net net;
    ts_vae_info info;
    ts_host z;
    ts_vae_axis y, x; /* in latents */
    float *rgb;       /* one frame [H, W, 3] */
    float *latent;    /* host: the latent of a tile, channels last */
    int index;        /* frames given */
};

static void close_vae(ts_vae *v)
{
    if (!v) return;
    free(v->rgb);
    free(v->latent);
    free(v);
}

static ts_status open_vae(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_host z,
                          ts_vae_tile tile, ts_vae **out)
{
    ts_status st = TS_OK;
    ts_vae *v = calloc(1, sizeof *v);
    size_t area = (size_t)z.dim[2] * (size_t)z.dim[3];
    *out = NULL;
    if (!v) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a decoder");
    v->info = *info;
    v->z = z;
    TRY(ts_vae_check_tile(ctx, info, tile));
    TRY(ts_kl_bind(&v->net, ctx, w, info, false));
    v->y = ts_vae_axis_of((int)z.dim[2], tile.h / info->stride);
    v->x = ts_vae_axis_of((int)z.dim[3], tile.w / info->stride);
    v->rgb = malloc(area * (size_t)(info->stride * info->stride) * 3 * sizeof(float));
    v->latent = malloc(area * (size_t)info->channels * sizeof(float));
    if (!v->rgb || !v->latent)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for frames of %ldx%ld",
                    z.dim[3] * info->stride, z.dim[2] * info->stride));
    *out = v;
    v = NULL;
done:
    close_vae(v);
    return st;
}

static ts_status decode_tile(ts_vae *v, int i, int j, float *out)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = v->net.ctx;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor z = ts_take(&ctx->arena, TS_F32,
                          TS_DIM(1, ts_vae_span(v->y, i), ts_vae_span(v->x, j), v->info.channels));
    ts_vae_cut_latent(&v->info, v->z, v->y, v->x, i, j, v->index, v->latent);
    TRY(ts_vae_upload(ctx, z, v->latent));
    TRY(ts_kl_decode(&v->net, z, out));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status decode_patch(void *user, int i, int j, const ts_vae_patch *t)
{
    return decode_tile(user, i, j, t->data);
}

/* (x + 1) / 2 in place. False: a number is not finite. */
static bool to_unit(float *x, long n)
{
    int bad = 0;
#pragma omp parallel for schedule(static) reduction(| : bad)
    for (long i = 0; i < n; i++) {
        bad |= !isfinite(x[i]);
        x[i] = x[i] * 0.5f + 0.5f;
    }
    return !bad;
}

static ts_status next_frame(ts_vae *v, ts_frame *out, bool *end)
{
    ts_ctx *ctx = v->net.ctx;
    int h = (int)v->z.dim[2] * v->info.stride, w = (int)v->z.dim[3] * v->info.stride;
    *end = v->index == v->z.dim[1];
    if (*end) return TS_OK;
    ts_status st = v->y.n * v->x.n > 1 ? ts_vae_each_tile(ctx, v->y, v->x, 1, 3, v->info.stride,
                                                          v->rgb, decode_patch, v)
                                       : decode_tile(v, 0, 0, v->rgb);
    if (st) return st;
    if (!ctx->dev->counting && !to_unit(v->rgb, 3L * h * w))
        return ts_fail(&ctx->err, TS_ENUMBER, "picture %d holds NaN or infinity after decoding",
                       v->index);
    *out = (ts_frame){.w = w, .h = h, .index = v->index++, .rgb = v->rgb};
    return TS_OK;
}

/* ---- encode ---- */
typedef struct {
    ts_kl_net net;
    const ts_vae_info *info;
    ts_host px;
    ts_vae_axis y, x;     /* in latents */
    float *cut, *moments; /* a tile's pixels; [F, H', W', 2 C] of the whole */
    int frame;            /* being encoded */
} encoder;

/* Tile (i, j) of the frame into t, [h, w, 2 C]. */
static ts_status encode_tile(void *user, int i, int j, const ts_vae_patch *t)
{
    ts_status st = TS_OK;
    encoder *e = user;
    ts_ctx *ctx = e->net.ctx;
    long s = e->info->stride, H = e->px.dim[1], W = e->px.dim[2], h = t->h * s, w = t->w * s;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor x = ts_take(&ctx->arena, TS_F32, TS_DIM(1, h, w, 3));
    for (long r = 0; r < h; r++)
        memcpy(e->cut + r * w * 3,
               (const float *)e->px.data +
                   ((e->frame * H + i * e->y.stride * s + r) * W + j * e->x.stride * s) * 3,
               (size_t)(w * 3) * sizeof(float));
    TRY(ts_vae_upload(ctx, x, e->cut));
    TRY(ts_kl_encode(&e->net, x, t->data));
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
    long C = info->channels, s = info->stride, h = px.dim[1] / s, q = px.dim[2] / s, F = px.dim[0];
    if (px.nd != 4 || px.dim[3] != 3 || F < 1 || px.dim[1] % s || px.dim[2] % s || h < 1 || q < 1)
        TRY(ts_fail(&ctx->err, TS_ESHAPE, "%ld pictures of %ldx%ld: sides must be multiples of %ld",
                    F, px.dim[2], px.dim[1], s));
    TRY(ts_vae_check_tile(ctx, info, tile));
    e->info = info;
    e->px = px;
    TRY(ts_kl_bind(&e->net, ctx, w, info, true));
    e->y = ts_vae_axis_of((int)h, (int)(tile.h / s));
    e->x = ts_vae_axis_of((int)q, (int)(tile.w / s));
    e->cut = malloc((size_t)(px.dim[1] * px.dim[2] * 3) * sizeof(float));
    e->moments = malloc((size_t)(F * h * q * 2 * C) * sizeof(float));
    if (!e->cut || !e->moments)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for latents of %ldx%ld", q, h));
    for (; e->frame < F; e->frame++)
        TRY(ts_vae_each_tile(ctx, e->y, e->x, 1, (int)(2 * C), 1,
                             e->moments + e->frame * h * q * 2 * C, encode_tile, e));
    ts_vae_split_moments(info, e->moments, F * h * q, latent, moments);
done:
    free(e->cut);
    free(e->moments);
    free(e);
    return st;
}

const ts_vae_class ts_vae_kl = {.cls = "AutoencoderKL",
                                .describe = describe,
                                .open = open_vae,
                                .next = next_frame,
                                .close = close_vae,
                                .encode = encode};
