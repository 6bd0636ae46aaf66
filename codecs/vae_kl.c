/* AutoencoderKL (the VAE of Stable Diffusion 1 and XL, and so of PixArt): its config, and pictures
 * through its network, whole or in tiles. Frames are pictures that know nothing of each other.
 *
 * It is computed in f32 always, which is what force_upcast asks for. The decoder's output is not
 * clamped here: who resizes pictures needs what lies beyond. */
#include "codecs/vae_residual.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config ---- */

static ts_status check_kl_config(ts_ctx *ctx, const char *path, const ts_res_config *c, int size,
                                 double scale)
{
    ts_err *e = &ctx->err;
    if (c->levels < 1 || c->res < 1 || c->res + 1 > TS_RES_BLOCKS)
        return ts_fail(e, TS_EMODEL, "%s: layers_per_block is %d, expected 1 to %d", path, c->res,
                       TS_RES_BLOCKS - 1);
    if (c->z < 1 || c->z > 128)
        return ts_fail(e, TS_EMODEL, "%s: latent_channels is %d, expected 1 to 128", path, c->z);
    if (size < 1 || size > 1 << 14)
        return ts_fail(e, TS_EMODEL, "%s: sample_size is %d, expected 1 to 16384", path, size);
    ts_status st = ts_vae_check_scale(ctx, path, scale);
    return st ? st : ts_vae_check_widths(ctx, path, c->width, c->levels, c->groups);
}

static ts_status describe_kl(ts_ctx *ctx, const cJSON *json, const char *path, ts_vae_info *v,
                             void *config)
{
    ts_status st = TS_OK;
    ts_res_config c = {.width = {64},
                       .levels = 1,
                       .res = 1,
                       .z = 4,
                       .groups = 32,
                       .attention = true,
                       .quant = true,
                       .post_quant = true};
    double scale = 0.18215, shift = 0;
    int size = 32;
    ts_key keys[] = {TS_ONLY("in_channels", "3"),
                     TS_ONLY("out_channels", "3"),
                     {"latent_channels", TS_KEY_INT, &c.z, 0, NULL, NULL},
                     {"block_out_channels", TS_KEY_INTS, c.width, TS_RES_LEVELS, &c.levels, NULL},
                     {"layers_per_block", TS_KEY_INT, &c.res, 0, NULL, NULL},
                     {"norm_num_groups", TS_KEY_INT, &c.groups, 0, NULL, NULL},
                     TS_ONLY("act_fn", "\"silu\""),
                     {"mid_block_add_attention", TS_KEY_BOOL, &c.attention, 0, NULL, NULL},
                     {"use_quant_conv", TS_KEY_BOOL, &c.quant, 0, NULL, NULL},
                     {"use_post_quant_conv", TS_KEY_BOOL, &c.post_quant, 0, NULL, NULL},
                     {"sample_size", TS_KEY_INT, &size, 0, NULL, NULL},
                     {"scaling_factor", TS_KEY_FLOAT, &scale, 0, NULL, NULL},
                     {"shift_factor", TS_KEY_FLOAT, &shift, 0, NULL, NULL},
                     TS_ONLY("latents_mean", "null"),
                     TS_ONLY("latents_std", "null"),
                     TS_IGNORED("down_block_types"),
                     TS_IGNORED("up_block_types"),
                     TS_IGNORED("force_upcast")};
    memset(v, 0, sizeof *v);
    TRY(ts_config_read(ctx, json, path, keys, sizeof keys / sizeof *keys));
    TRY(check_kl_config(ctx, path, &c, size, scale));
    TRY(ts_vae_check_blocks(ctx, json, path, c.levels, "DownEncoderBlock2D", "UpDecoderBlock2D"));
    v->channels = c.z;
    v->time_stride = 1;
    v->stride = 1 << (c.levels - 1);
    v->tile = (ts_vae_tile){size, size};
    for (int i = 0; i < c.z; i++) {
        v->mean[i] = (float)shift;
        v->std[i] = (float)(1 / scale);
    }
    *(ts_res_config *)config = c;
    v->config = config;
done:
    return st;
}

/* ---- layers ---- */

static ts_status convolve_kl(ts_ctx *ctx, const ts_layer *l, ts_tensor x, ts_tensor resid,
                             ts_tensor y)
{
    return ts_conv_op(ctx->dev, (ts_conv){.x = x,
                                          .w = l->w,
                                          .b = l->b,
                                          .stride = {1, 1, 1},
                                          .pad = {0, 0, 1, 1, 1, 1},
                                          .resid = resid,
                                          .y = y});
}

static ts_status enlarge_kl(ts_ctx *ctx, const ts_layer *l, bool time, ts_tensor x, ts_tensor y)
{
    (void)time;
    return ts_vae_enlarge(ctx, l, x, y);
}

static ts_status reduce_kl(ts_ctx *ctx, const ts_layer *l, bool time, ts_tensor x, ts_tensor y)
{
    (void)time;
    return ts_conv_op(
        ctx->dev,
        (ts_conv){
            .x = x, .w = l->w, .b = l->b, .stride = {1, 2, 2}, .pad = {0, 0, 0, 1, 0, 1}, .y = y});
}

static bool has_square(const ts_weights *ws, const char *at, const char *name)
{
    char w[176];
    snprintf(w, sizeof w, "%s.%s.weight", at, name);
    return ts_weights_has(ws, w);
}

/* A linear layer of attention: under its name or the one that old files have, as a matrix or as the
 * 1 x 1 convolution that it once was. */
static ts_status find_kl_square(ts_weights *ws, int group, ts_layer *l, long width, const char *at,
                                const char *name)
{
    static const char *const old[][2] = {
        {"to_q", "query"}, {"to_k", "key"}, {"to_v", "value"}, {"to_out.0", "proj_attn"}};
    const char *was = name;
    for (int i = 0; i < 4; i++)
        if (!strcmp(old[i][0], name)) was = old[i][1];
    if (!has_square(ws, at, name) && has_square(ws, at, was)) name = was;
    ts_status st = ts_find_linear(ws, group, l, width, width, true, "%s.%s", at, name);
    if (st == TS_ESHAPE)
        st = ts_find_conv(ws, group, l, 4, (long[]){width, width, 1, 1}, "%s.%s", at, name);
    return st;
}

static const ts_res_kind kl_layers = {.nd = 4,
                                      .behind = "",
                                      .convolve = convolve_kl,
                                      .enlarge = enlarge_kl,
                                      .reduce = reduce_kl,
                                      .attend = ts_vae_attend,
                                      .find_square = find_kl_square};

/* ---- decode ---- */
struct ts_vae {
    ts_vae_decoding d;
    ts_res_net net;
};

static void close_kl(ts_vae *v)
{
    if (!v) return;
    free(v->d.rgb);
    free(v);
}

static ts_status open_kl(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_tensor z,
                         ts_vae_tile tile, ts_vae **out)
{
    ts_status st = TS_OK;
    ts_vae *v = calloc(1, sizeof *v);
    *out = NULL;
    if (!v) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a decoder");
    TRY(ts_vae_decoding_begin(&v->d, ctx, info, z, tile, "picture"));
    TRY(ts_res_bind(&v->net, &kl_layers, ctx, w, info, false));
    TRY(ts_vae_decoding_carve(&v->d, 1, info->stride, 3));
    *out = v;
    v = NULL;
done:
    close_kl(v);
    return st;
}

/* Tile (i, j) of the picture into out [1, h, w, 3]. */
static ts_status decode_kl_tile(ts_vae *v, int i, int j, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&v->d.ctx->arena);
    ts_tensor z;
    TRY(ts_vae_decoding_latents(&v->d, i, j, v->d.index, 1, &z));
    TRY(ts_res_decode(&v->net, z, out));
done:
    ts_release(&v->d.ctx->arena, mark);
    return st;
}

static ts_status decode_kl_tiles(ts_vae *v)
{
    ts_status st = TS_OK;
    ts_arena *a = &v->d.ctx->arena;
    size_t mark = ts_mark(a);
    int s = v->d.info.stride;
    for (int k = 0; k < v->d.tiles; k++) {
        int i = k / v->d.x.n, j = k % v->d.x.n;
        ts_tensor t = ts_take(a, TS_F32,
                              TS_DIM(1, ts_vae_span(v->d.y, i) * s, ts_vae_span(v->d.x, j) * s, 3));
        ts_vae_progress(v->d.ctx, v->d.index + 1, (int)v->d.z.dim[0], k, v->d.tiles, v->d.began);
        TRY(decode_kl_tile(v, i, j, t));
        TRY(ts_vae_blend_put(&v->d.blend, i, j, 0, t));
        ts_release(a, mark);
    }
done:
    ts_release(a, mark);
    return st;
}

static ts_status next_kl(ts_vae *v, ts_frame *out, bool *end)
{
    ts_status st = TS_OK;
    *end = v->d.index == v->d.z.dim[0];
    if (*end) return TS_OK;
    if (v->d.tiles > 1)
        TRY(decode_kl_tiles(v));
    else
        TRY(decode_kl_tile(v, 0, 0, v->d.whole));
    TRY(ts_vae_decoding_give(&v->d, v->d.whole, 1, false, out));
done:
    return st;
}

/* ---- encode ---- */
static ts_status encode_kl(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_host px,
                           ts_vae_tile tile, ts_tensor latent, ts_tensor moments)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&ctx->arena), inner;
    ts_res_net net;
    ts_vae_encoding e;
    TRY(ts_vae_encoding_begin(&e, ctx, info, px, "pictures", tile, moments));
    TRY(ts_res_bind(&net, &kl_layers, ctx, w, info, true));
    TRY(ts_vae_blend_open(&e.blend, ctx, e.y, e.x, 1, e.moments));
    inner = ts_mark(&ctx->arena);
    for (long f = 0; f < px.dim[0]; f++)
        for (int k = 0; k < e.y.n * e.x.n; k++) {
            int i = k / e.x.n, j = k % e.x.n;
            ts_tensor m, in;
            TRY(ts_vae_encoding_cut(&e, i, j, 1, f, 1, 1, &m, &in));
            TRY(ts_res_encode(&net, in, m));
            TRY(ts_vae_blend_put(&e.blend, i, j, f, m));
            ts_release(&ctx->arena, inner);
        }
    TRY(ts_vae_normalise(ctx, e.moments, e.scales, latent));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

const ts_vae_class ts_vae_kl = {.cls = "AutoencoderKL",
                                .config_size = sizeof(ts_res_config),
                                .describe = describe_kl,
                                .open = open_kl,
                                .next = next_kl,
                                .close = close_kl,
                                .encode = encode_kl};
