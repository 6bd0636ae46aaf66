/* CausalVAEModel (Open-Sora-Plan 1.2), its decoder: config, layers, and clips whole or in tiles.
 *
 * Convolutions are causal: before the first frame they see it again. Norms take their statistics
 * over the whole clip, so nothing can be decoded until all of it has passed the layer before;
 * memory is what tiles are for. Two of the three doublings of the size also double time, but for
 * the first frame: x at twice the points by linear interpolation along each axis,
 *
 *   y[2 i] = (x[i - 1] + 3 x[i]) / 4,   y[2 i + 1] = (3 x[i] + x[i + 1]) / 4,   x beyond its ends
 * as there
 *
 * then a causal convolution. The third is its nearest neighbours, frame by frame. */
#include "codecs/vae_parts.h"
#include "codecs/vae_video_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LEVELS = 8, MOST_BLOCKS = 8 };

typedef struct { /* from config.json; level 0 is the full size */
    int width[MOST_LEVELS], levels, blocks, z, groups;
    enum { UP_NONE, UP_SIZE, UP_SIZE_AND_TIME } up[MOST_LEVELS];
} causal_config;

/* ---- config ---- */

/* A list of so many names, each of which must be `only`. */
static ts_status check_names(ts_ctx *ctx, const cJSON *json, const char *path, const char *key,
                             const char *only, int levels)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, key), *one;
    if (!list) return TS_OK;
    bool ok = cJSON_IsArray(list) && cJSON_GetArraySize(list) == levels;
    cJSON_ArrayForEach(one, list) ok = ok && cJSON_IsString(one) && !strcmp(one->valuestring, only);
    if (ok) return TS_OK;
    return ts_fail(&ctx->err, TS_EMODEL, "%s: \"%s\" must be a list of %d times \"%s\"", path, key,
                   levels, only);
}

static ts_status read_ups(ts_ctx *ctx, const cJSON *json, const char *path, causal_config *c)
{
    static const char *const name[] = {"", "SpatialUpsample2x", "Spatial2xTime2x3DUpsample"};
    static const char *const key = "decoder_spatial_upsample";
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, key), *one;
    int n = 0;
    if (!list) return TS_OK;
    cJSON_ArrayForEach(one, list)
    {
        const char *s = cJSON_GetStringValue(one);
        int k = 0;
        while (s && k < 3 && strcmp(s, name[k]) != 0) k++;
        if (!s || k == 3 || n == c->levels || (k == UP_NONE) != (n == 0))
            return ts_fail(&ctx->err, TS_EMODEL,
                           "%s: \"%s\" is no list of \"\" and, %d times, \"%s\" or \"%s\"", path,
                           key, c->levels - 1, name[1], name[2]);
        c->up[n++] = (unsigned)k;
    }
    if (n == c->levels) return TS_OK;
    return ts_fail(&ctx->err, TS_EMODEL, "%s: \"%s\" has %d names, hidden_size_mult has %d", path,
                   key, n, c->levels);
}

static ts_status check_causal_config(ts_ctx *ctx, const char *path, const causal_config *c,
                                     int base, const int *mult, int embed)
{
    const ts_range range[] = {{"hidden_size", base, 1, 1 << 14},
                              {"num_res_blocks", c->blocks, 1, MOST_BLOCKS - 1},
                              {"z_channels", c->z, 1, 128},
                              {"embed_dim", embed, c->z, c->z},
                              {"norm_num_groups", c->groups, 1, 1 << 12}};
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st) return st;
    for (int i = 0; i < c->levels; i++)
        if (mult[i] < 1 || mult[i] > 1 << 10 || c->width[i] % c->groups)
            return ts_fail(&ctx->err, TS_EMODEL,
                           "%s: hidden_size_mult[%d] is %d: %d channels must be a multiple of "
                           "norm_num_groups, %d",
                           path, i, mult[i], c->width[i], c->groups);
    return TS_OK;
}

#define CAUSAL "\"CausalConv3d\""
static ts_status describe_causal(ts_ctx *ctx, const cJSON *json, const char *path, ts_vae_info *v,
                                 void *config)
{
    ts_status st = TS_OK;
    causal_config c = {.levels = 4,
                       .blocks = 2,
                       .z = 4,
                       .groups = 32,
                       .up = {UP_NONE, UP_SIZE, UP_SIZE_AND_TIME, UP_SIZE_AND_TIME}};
    int base = 128, embed = 4, mult[MOST_LEVELS] = {1, 2, 4, 4};
    double scale = 0.18215;
    ts_key keys[] = {{"hidden_size", TS_KEY_INT, &base, 0, NULL, NULL},
                     {"hidden_size_mult", TS_KEY_INTS, mult, MOST_LEVELS, &c.levels, NULL},
                     {"num_res_blocks", TS_KEY_INT, &c.blocks, 0, NULL, NULL},
                     {"z_channels", TS_KEY_INT, &c.z, 0, NULL, NULL},
                     {"embed_dim", TS_KEY_INT, &embed, 0, NULL, NULL},
                     {"norm_num_groups", TS_KEY_INT, &c.groups, 0, NULL, NULL},
                     TS_ONLY("decoder_attention", "\"AttnBlock3DFix\""),
                     TS_ONLY("decoder_conv_in", CAUSAL),
                     TS_ONLY("decoder_conv_out", CAUSAL),
                     TS_ONLY("decoder_mid_resnet", "\"ResnetBlock3D\""),
                     TS_ONLY("q_conv", CAUSAL),
                     TS_ONLY("use_quant_layer", "true"),
                     TS_ONLY("double_z", "true"),
                     TS_ONLY("attn_resolutions", "[]"),
                     TS_IGNORED("decoder_resnet_blocks"), /* these three: lists, read apart */
                     TS_IGNORED("decoder_spatial_upsample"),
                     TS_IGNORED("decoder_temporal_upsample"),
                     /* of training and of the encoder */
                     TS_IGNORED("encoder_attention"),
                     TS_IGNORED("encoder_conv_in"),
                     TS_IGNORED("encoder_conv_out"),
                     TS_IGNORED("encoder_mid_resnet"),
                     TS_IGNORED("encoder_resnet_blocks"),
                     TS_IGNORED("encoder_spatial_downsample"),
                     TS_IGNORED("encoder_temporal_downsample"),
                     TS_IGNORED("dropout"),
                     TS_IGNORED("resolution"),
                     TS_IGNORED("lr"),
                     TS_IGNORED("loss_params"),
                     TS_IGNORED("loss_type")};
    memset(v, 0, sizeof *v);
    TRY(ts_config_read(ctx, json, path, keys, sizeof keys / sizeof *keys));
    for (int i = 0; i < c.levels; i++) c.width[i] = base * mult[i];
    TRY(check_causal_config(ctx, path, &c, base, mult, embed));
    TRY(check_names(ctx, json, path, "decoder_resnet_blocks", "ResnetBlock3D", c.levels));
    TRY(check_names(ctx, json, path, "decoder_temporal_upsample", "", c.levels));
    TRY(read_ups(ctx, json, path, &c));
    v->channels = c.z;
    v->time_stride = 1;
    for (int i = 0; i < c.levels; i++) v->time_stride <<= c.up[i] == UP_SIZE_AND_TIME;
    v->stride = 1 << (c.levels - 1);
    v->tile = (ts_vae_tile){512, 512};
    v->overlap_w = v->overlap_h = 0.125;
    for (int i = 0; i < c.z; i++) v->std[i] = (float)(1 / scale);
    *(causal_config *)config = c;
    v->config = config;
done:
    return st;
}

/* ---- the network ---- */
typedef struct {
    ts_layer l;
    long in, out;
} causal_conv;
typedef struct {
    ts_layer norm1, norm2;
    causal_conv conv1, conv2;
    ts_layer shortcut; /* not bound: its input itself */
} causal_residual;
typedef struct {
    causal_residual res[MOST_BLOCKS];
    int n, group;
    causal_conv up; /* not bound: the size stays */
    bool time;
} causal_level;
typedef struct {
    ts_ctx *ctx;
    ts_weights *weights;
    causal_config c;
    ts_layer quant, norm_out;
    ts_vae_attention attention;
    causal_conv conv_in, conv_out;
    causal_residual mid[2];
    causal_level level[MOST_LEVELS]; /* in the order in which they run */
    int last_group;
} causal_net;

typedef struct {
    causal_net *n;
    int group;
    ts_status st;
} causal_binder;

static ts_layer bind_kernel(causal_binder *b, long out, long in, const int k[3], const char *name)
{
    ts_layer l = {NULL, NULL};
    if (!b->st)
        b->st = ts_find_conv(b->n->weights, b->group, &l, 5, (long[]){out, in, k[0], k[1], k[2]},
                             "%s.conv", name);
    return l;
}

static const int cube[3] = {3, 3, 3}, plane[3] = {1, 3, 3}, point[3] = {1, 1, 1};

static causal_conv bind_cube(causal_binder *b, long out, long in, const char *name)
{
    return (causal_conv){.l = bind_kernel(b, out, in, cube, name), .in = in, .out = out};
}

static ts_layer bind_causal_norm(causal_binder *b, long width, const char *name)
{
    ts_layer l = {NULL, NULL};
    if (!b->st) b->st = ts_find_norm(b->n->weights, b->group, &l, width, "%s", name);
    return l;
}

static causal_residual bind_causal_residual(causal_binder *b, long out, long in, const char *name)
{
    char t[160];
    causal_residual r = {.norm1 = bind_causal_norm(b, in, ts_vae_name(t, name, "norm1"))};
    r.conv1 = bind_cube(b, out, in, ts_vae_name(t, name, "conv1"));
    r.norm2 = bind_causal_norm(b, out, ts_vae_name(t, name, "norm2"));
    r.conv2 = bind_cube(b, out, out, ts_vae_name(t, name, "conv2"));
    if (in != out)
        r.shortcut = bind_kernel(b, out, in, point, ts_vae_name(t, name, "nin_shortcut"));
    return r;
}

static void bind_causal_level(causal_binder *b, int run, long out, long in)
{
    causal_net *n = b->n;
    causal_level *k = n->level + run;
    int i = n->c.levels - 1 - run;
    char name[96];
    k->group = b->group = run + 1;
    k->n = n->c.blocks + 1;
    for (int r = 0; r < k->n; r++) {
        snprintf(name, sizeof name, "decoder.up.%d.block.%d", i, r);
        k->res[r] = bind_causal_residual(b, out, r ? out : in, name);
    }
    if (n->c.up[i] == UP_NONE) return;
    k->time = n->c.up[i] == UP_SIZE_AND_TIME;
    snprintf(name, sizeof name, "decoder.up.%d.upsample.conv", i);
    k->up = (causal_conv){
        .l = bind_kernel(b, out, out, k->time ? cube : plane, name), .in = out, .out = out};
}

static ts_status bind_causal_net(causal_net *n, ts_ctx *ctx, ts_weights *w, const ts_vae_info *info)
{
    memset(n, 0, sizeof *n);
    n->ctx = ctx;
    n->weights = w;
    n->c = *(const causal_config *)info->config;
    causal_binder b = {.n = n};
    long width = n->c.width[n->c.levels - 1], z = n->c.z;
    n->quant = bind_kernel(&b, z, z, point, "post_quant_conv");
    n->conv_in = bind_cube(&b, width, z, "decoder.conv_in");
    n->mid[0] = bind_causal_residual(&b, width, width, "decoder.mid.block_1");
    n->mid[1] = bind_causal_residual(&b, width, width, "decoder.mid.block_2");
    n->attention.norm = bind_causal_norm(&b, width, "decoder.mid.attn_1.norm");
    n->attention.q = bind_kernel(&b, width, width, point, "decoder.mid.attn_1.q");
    n->attention.k = bind_kernel(&b, width, width, point, "decoder.mid.attn_1.k");
    n->attention.v = bind_kernel(&b, width, width, point, "decoder.mid.attn_1.v");
    n->attention.o = bind_kernel(&b, width, width, point, "decoder.mid.attn_1.proj_out");
    for (int run = 0; run < n->c.levels; run++) {
        long out = n->c.width[n->c.levels - 1 - run];
        bind_causal_level(&b, run, out, width);
        width = out;
    }
    n->last_group = b.group;
    n->norm_out = bind_causal_norm(&b, width, "decoder.norm_out");
    n->conv_out = bind_cube(&b, 3, width, "decoder.conv_out");
    return b.st;
}

/* ---- layers ---- */
static ts_tensor take_clip(const causal_net *n, long f, long h, long w, long c)
{
    return ts_take(&n->ctx->arena, n->ctx->codec, TS_DIM(f, h, w, c));
}

static ts_status convolve_clip(const causal_net *n, const causal_conv *c, ts_tensor in,
                               ts_tensor resid, ts_tensor y)
{
    return ts_vae_convolve_causal(n->ctx, &c->l, in, (ts_tensor){0}, false, resid, y);
}

/* y = conv(silu(norm(x))) + resid */
static ts_status norm_then_causal(const causal_net *n, const ts_layer *k, const causal_conv *c,
                                  ts_tensor x, ts_tensor resid, ts_tensor y)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor in = take_clip(n, TS_VAE_PAST + x.dim[0], x.dim[1], x.dim[2], c->in);
    TRY(ts_vae_norm(n->ctx, k, n->c.groups, 1e-6F, x, TS_ACT_SILU,
                    ts_vae_frames(in, TS_VAE_PAST, x.dim[0])));
    TRY(convolve_clip(n, c, in, resid, y));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* A block that keeps its width works in place; *x is then what it was. */
static ts_status add_causal_residual(const causal_net *n, const causal_residual *r, ts_tensor *x)
{
    ts_status st = TS_OK;
    const long *d = x->dim;
    ts_tensor none = {0}, y = r->shortcut.w ? take_clip(n, d[0], d[1], d[2], r->conv1.out) : *x;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor t = take_clip(n, d[0], d[1], d[2], r->conv1.out);
    TRY(norm_then_causal(n, &r->norm1, &r->conv1, *x, none, t));
    if (r->shortcut.w)
        TRY(ts_linear_op(n->ctx->dev,
                         (ts_linear){.x = *x, .w = r->shortcut.w, .b = r->shortcut.b, .y = y}));
    TRY(norm_then_causal(n, &r->norm2, &r->conv2, t, y, y));
    *x = y;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* Points i of x and j of y, of an axis with `n` points of x: y[2 k + odd] for `count` k from i on
 * (+)= w x[k + from]. */
typedef struct {
    ts_ptr x, y;
    ts_dtype type;
    long outer, n, inner;
} doubling;

static ts_status weigh_points(const causal_net *n, const doubling *d, float w, bool add, long x0,
                              long y0, long count)
{
    size_t size = ts_dtype_size(d->type);
    ts_strided x = {ts_at(d->x, (size_t)(x0 * d->inner) * size),
                    d->type,
                    {d->n * d->inner, d->inner, 1}},
               y = {ts_at(d->y, (size_t)(y0 * d->inner) * size),
                    d->type,
                    {2 * d->n * d->inner, 2 * d->inner, 1}};
    ts_affine a = {.nd = 3, .dim = {d->outer, count, d->inner}, .x = x, .y = y, .scale = w};
    if (add) a.b = y;
    return count > 0 ? ts_affine_op(n->ctx->dev, a) : TS_OK;
}

/* y [outer, 2 n, inner] from x [outer, n, inner] */
static ts_status double_axis(const causal_net *n, const doubling *d)
{
    ts_status st = TS_OK;
    const float near = 0.75F, far = 0.25F;
    TRY(weigh_points(n, d, near, false, 0, 0, d->n));
    TRY(weigh_points(n, d, near, false, 0, 1, d->n));
    TRY(weigh_points(n, d, far, true, 0, 0, 1));
    TRY(weigh_points(n, d, far, true, 0, 2, d->n - 1));
    TRY(weigh_points(n, d, far, true, 1, 1, d->n - 1));
    TRY(weigh_points(n, d, far, true, d->n - 1, 2 * d->n - 1, 1));
done:
    return st;
}

/* y [2 F - 1, 2 H, 2 W, C] = x at twice the points, its first frame by itself */
static ts_status interpolate(const causal_net *n, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    long F = x.dim[0], H = x.dim[1], W = x.dim[2], C = x.dim[3];
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor wide = take_clip(n, F, H, 2 * W, C), large = take_clip(n, F, 2 * H, 2 * W, C);
    TRY(double_axis(n, &(doubling){x.p, wide.p, x.type, F * H, W, C}));
    TRY(double_axis(n, &(doubling){wide.p, large.p, x.type, F, H, 2 * W * C}));
    TRY(ts_cast(n->ctx->dev, ts_vae_frames(large, 0, 1), ts_vae_frames(y, 0, 1)));
    if (F > 1)
        TRY(double_axis(n, &(doubling){ts_vae_frames(large, 1, F - 1).p,
                                       ts_vae_frames(y, 1, 2 * (F - 1)).p, x.type, 1, F - 1,
                                       4 * H * W * C}));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status enlarge_clip(const causal_net *n, const causal_level *k, ts_tensor *x)
{
    ts_status st = TS_OK;
    long F = x->dim[0], out = k->time ? 2 * F - 1 : F, H = 2 * x->dim[1], W = 2 * x->dim[2];
    ts_tensor none = {0}, y = take_clip(n, out, H, W, k->up.out);
    size_t mark = ts_mark(&n->ctx->arena);
    if (k->time) {
        ts_tensor in = take_clip(n, TS_VAE_PAST + out, H, W, k->up.in);
        TRY(interpolate(n, *x, ts_vae_frames(in, TS_VAE_PAST, out)));
        TRY(convolve_clip(n, &k->up, in, none, y));
    } else {
        TRY(ts_vae_enlarge(n->ctx, &k->up.l, *x, y));
    }
    *x = y;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* Latents f32 [F, h, w, z] -> out f32 [frames, H, W, 3] */
static ts_status decode_causally(const causal_net *n, ts_tensor z, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena), inner;
    long F = z.dim[0], h = z.dim[1], w = z.dim[2];
    ts_tensor none = {0}, x = take_clip(n, F, h, w, n->conv_in.out);
    inner = ts_mark(&n->ctx->arena);
    ts_tensor in = take_clip(n, TS_VAE_PAST + F, h, w, n->c.z);
    TRY(ts_weights_enter(n->weights, 0));
    TRY(ts_linear_op(n->ctx->dev, (ts_linear){.x = z,
                                              .w = n->quant.w,
                                              .b = n->quant.b,
                                              .y = ts_vae_frames(in, TS_VAE_PAST, F)}));
    TRY(convolve_clip(n, &n->conv_in, in, none, x));
    ts_release(&n->ctx->arena, inner);
    TRY(add_causal_residual(n, &n->mid[0], &x));
    TRY(ts_vae_add_attention(n->ctx, &n->attention, n->c.groups, ts_vae_attend, x));
    TRY(add_causal_residual(n, &n->mid[1], &x));
    for (int i = 0; i < n->c.levels; i++) {
        const causal_level *k = n->level + i;
        TRY(ts_weights_enter(n->weights, k->group));
        for (int r = 0; r < k->n; r++) TRY(add_causal_residual(n, &k->res[r], &x));
        if (k->up.l.w) TRY(enlarge_clip(n, k, &x));
    }
    TRY(norm_then_causal(n, &n->norm_out, &n->conv_out, x, none, out));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* ---- clips ---- */
struct ts_vae {
    ts_vae_decoding d;
    causal_net net;
    int have; /* frames that are decoded */
};

static void close_causal_vae(ts_vae *v)
{
    if (!v) return;
    free(v->d.rgb);
    free(v);
}

static ts_status open_causal_vae(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_tensor z,
                                 ts_vae_tile tile, ts_vae **out)
{
    ts_status st = TS_OK;
    ts_vae *v = calloc(1, sizeof *v);
    *out = NULL;
    if (!v) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a decoder");
    TRY(ts_vae_decoding_begin(&v->d, ctx, info, z, tile, "frame"));
    TRY(bind_causal_net(&v->net, ctx, w, info));
    TRY(ts_vae_decoding_carve(&v->d, (z.dim[0] - 1) * info->time_stride + 1, info->stride, 3));
    *out = v;
    v = NULL;
done:
    close_causal_vae(v);
    return st;
}

/* All frames of tile (i, j) into out. */
static ts_status decode_causal_tile(ts_vae *v, int i, int j, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&v->d.ctx->arena);
    ts_tensor z;
    TRY(ts_vae_decoding_latents(&v->d, i, j, 0, v->d.z.dim[0], &z));
    TRY(decode_causally(&v->net, z, out));
done:
    ts_release(&v->d.ctx->arena, mark);
    return st;
}

static ts_status decode_causal_clip(ts_vae *v)
{
    ts_status st = TS_OK;
    ts_arena *a = &v->d.ctx->arena;
    size_t mark = ts_mark(a);
    int tiles = v->d.tiles, s = v->d.info.stride;
    long frames = v->d.whole.dim[0];
    if (tiles == 1) TRY(decode_causal_tile(v, 0, 0, v->d.whole));
    for (int k = 0; tiles > 1 && k < tiles; k++) {
        int i = k / v->d.x.n, j = k % v->d.x.n;
        ts_tensor t = ts_take(
            a, TS_F32,
            TS_DIM(frames, (long)ts_vae_span(v->d.y, i) * s, (long)ts_vae_span(v->d.x, j) * s, 3));
        ts_vae_progress(v->d.ctx, 0, (int)frames, k, tiles, v->d.began);
        TRY(decode_causal_tile(v, i, j, t));
        TRY(ts_vae_put_frames(&v->d.blend, i, j, 0, t));
        ts_release(a, mark);
    }
    v->have = (int)frames;
done:
    ts_release(a, mark);
    return st;
}

static ts_status next_causal(ts_vae *v, ts_frame *out, bool *end)
{
    ts_status st = TS_OK;
    *end = v->have && v->d.index == v->have;
    if (*end) return TS_OK;
    if (!v->have) TRY(decode_causal_clip(v));
    TRY(ts_vae_decoding_give(&v->d, ts_vae_frames(v->d.whole, v->d.index, 1), 1, true, out));
done:
    return st;
}

const ts_vae_class ts_vae_causal = {.cls = "CausalVAEModel",
                                    .names = &ts_vae_causal_names,
                                    .infer = ts_vae_causal_infer,
                                    .config_size = sizeof(causal_config),
                                    .describe = describe_causal,
                                    .open = open_causal_vae,
                                    .next = next_causal,
                                    .close = close_causal_vae};
