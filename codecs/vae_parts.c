/* Latents, pixels, moments and frames on their way through, and layers that several VAEs have. */
#include "codecs/vae_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_ptr at_number(ts_ptr p, long n) { return ts_at(p, (size_t)n * sizeof(float)); }

/* ---- config ---- */
static ts_status check_block_kinds(ts_ctx *ctx, const cJSON *config, const char *path,
                                   const char *key, const char *kind, int levels)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(config, key), *one;
    if (!list || cJSON_IsNull(list)) return TS_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != levels)
        return ts_fail(
            &ctx->err, TS_EMODEL,
            "%s: \"%s\" must list a kind for each of the %d levels of block_out_channels", path,
            key, levels);
    cJSON_ArrayForEach(one, list)
    {
        const char *got = cJSON_GetStringValue(one);
        if (!got || strcmp(got, kind) != 0)
            return ts_fail(&ctx->err, TS_EMODEL, "%s: \"%s\" has %s, only %s is supported", path,
                           key, got ? got : "what is no string", kind);
    }
    return TS_OK;
}

ts_status ts_vae_check_blocks(ts_ctx *ctx, const cJSON *config, const char *path, int levels,
                              const char *down, const char *up)
{
    ts_status st;
    TRY(check_block_kinds(ctx, config, path, "down_block_types", down, levels));
    TRY(check_block_kinds(ctx, config, path, "up_block_types", up, levels));
done:
    return st;
}

ts_status ts_vae_check_widths(ts_ctx *ctx, const char *path, const int *width, int levels,
                              int groups)
{
    for (int i = 0; i < levels; i++)
        if (width[i] < 1 || groups < 1 || width[i] % groups)
            return ts_fail(
                &ctx->err, TS_EMODEL,
                "%s: block_out_channels[%d] is %d, must be a multiple of norm_num_groups, %d", path,
                i, width[i], groups);
    return TS_OK;
}

ts_status ts_vae_check_scale(ts_ctx *ctx, const char *path, double scale)
{
    if (fabs(scale) > 1e-6 && fabs(scale) < 1e6) return TS_OK;
    return ts_fail(&ctx->err, TS_EMODEL,
                   "%s: scaling_factor is %g, expected a number that is not 0", path, scale);
}

/* ---- in and out ---- */
ts_status ts_vae_scales(ts_ctx *ctx, const ts_vae_info *info, bool encoder, ts_tensor *out)
{
    int C = info->channels;
    float scale[2 * 128];
    *out = ts_take(&ctx->arena, TS_F32, TS_DIM(2, C));
    for (int c = 0; c < C; c++) {
        scale[c] = encoder ? 1 / info->std[c] : info->std[c];
        scale[C + c] = encoder ? -info->mean[c] / info->std[c] : info->mean[c];
    }
    return ctx->dev->ops->upload(ctx->dev, out->p, scale, (size_t)(2 * C) * sizeof *scale);
}

ts_status ts_vae_cut_latents(ts_ctx *ctx, ts_tensor latents, ts_tensor scales, ts_vae_axis y,
                             ts_vae_axis x, int i, int j, long f, ts_tensor out)
{
    long H = latents.dim[1], W = latents.dim[2], C = latents.dim[3], h = out.dim[1], w = out.dim[2],
         first = ((f * H + i * y.stride) * W + j * x.stride) * C;
    return ts_affine_op(ctx->dev,
                        (ts_affine){.nd = 3,
                                    .dim = {h, w, C},
                                    .x = {at_number(latents.p, first), TS_F32, {W * C, C, 1}},
                                    .s = {scales.p, TS_F32, {0, 0, 1}},
                                    .b = {at_number(scales.p, C), TS_F32, {0, 0, 1}},
                                    .y = {out.p, TS_F32, {w * C, C, 1}}});
}

ts_status ts_vae_check_pixels(ts_ctx *ctx, const ts_vae_info *info, ts_host px, const char *what)
{
    int s = info->stride;
    if (px.nd == 4 && px.dim[3] == 3 && px.dim[0] > 0 && px.dim[1] >= s && px.dim[2] >= s &&
        px.dim[1] % s == 0 && px.dim[2] % s == 0)
        return TS_OK;
    return ts_fail(&ctx->err, TS_ESHAPE, "%ld %s of %ldx%ld: sides must be multiples of %d",
                   px.dim[0], what, px.dim[2], px.dim[1], s);
}

ts_status ts_vae_cut_pixels(ts_ctx *ctx, ts_host pixels, int stride, int patch, ts_vae_axis y,
                            ts_vae_axis x, int i, int j, long f, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&ctx->arena);
    long F = out.dim[0], H = pixels.dim[1], W = pixels.dim[2], h = out.dim[1], w = out.dim[2],
         C = out.dim[3], p = patch;
    ts_tensor all = ts_take(&ctx->arena, TS_F32, TS_DIM(F, H, W, 3));
    TRY(ctx->dev->ops->upload(ctx->dev, all.p, (const float *)pixels.data + f * H * W * 3,
                              (size_t)ts_count(all) * sizeof(float)));
    TRY(ts_copy_op(ctx->dev,
                   (ts_copy){.src = at_number(all.p, ((long)i * y.stride * W + (long)j * x.stride) *
                                                         stride * 3),
                             .dst = out.p,
                             .nd = 6,
                             .dim = {F, h, w, 3, p, p},
                             .ss = {H * W * 3, p * W * 3, p * 3, 1, 3, W * 3},
                             .ds = {h * w * C, w * C, C, p * p, p, 1}}));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

ts_status ts_vae_normalise(ts_ctx *ctx, ts_tensor moments, ts_tensor scales, ts_tensor latent)
{
    long C = latent.dim[3];
    return ts_affine_op(ctx->dev, (ts_affine){.nd = 2,
                                              .dim = {ts_rows(latent), C},
                                              .x = {moments.p, TS_F32, {2 * C, 1}},
                                              .s = {scales.p, TS_F32, {0, 1}},
                                              .b = {at_number(scales.p, C), TS_F32, {0, 1}},
                                              .y = {latent.p, TS_F32, {C, 1}}});
}

ts_status ts_vae_download(ts_ctx *ctx, ts_tensor x, int patch, bool clamp, const char *what,
                          int index, float *rgb, ts_frame *out)
{
    ts_status st = TS_OK;
    ts_device *dev = ctx->dev;
    size_t mark = ts_mark(&ctx->arena);
    long H = x.dim[1], W = x.dim[2], C = x.dim[3], p = patch;
    int bad = 0;
    ts_tensor y = p == 1 ? x : ts_take(&ctx->arena, TS_F32, TS_DIM(H * p, W * p, 3));
    TRY(dev->ops->check(dev, x, index + 1));
    TRY(ts_affine_op(dev, (ts_affine){.nd = 5,
                                      .dim = {H, W, 3, p, p},
                                      .x = {x.p, TS_F32, {W * C, C, p * p, p, 1}},
                                      .y = {y.p, TS_F32, {p * W * p * 3, p * 3, 1, 3, W * p * 3}},
                                      .scale = 0.5f,
                                      .shift = 0.5f,
                                      .high = clamp ? 1 : 0}));
    TRY(dev->ops->download(dev, rgb, y.p, (size_t)ts_count(y) * sizeof *rgb));
    TRY(dev->ops->checked(dev, &bad));
    if (bad)
        TRY(ts_fail(&ctx->err, TS_ENUMBER, "%s %d holds NaN or infinity after decoding", what,
                    bad - 1));
    *out = (ts_frame){.w = (int)(W * p), .h = (int)(H * p), .index = index, .rgb = rgb};
done:
    ts_release(&ctx->arena, mark);
    return st;
}

void ts_vae_progress(ts_ctx *ctx, int step, int steps, int part, int parts, double since)
{
    ts_progress(ctx, (ts_event){.phase = TS_PHASE_DECODE,
                                .step = step,
                                .steps = steps,
                                .layer = part + 1,
                                .layers = parts,
                                .seconds = ts_seconds() - since});
}

/* ---- a decoder at work ---- */
ts_status ts_vae_decoding_begin(ts_vae_decoding *d, ts_ctx *ctx, const ts_vae_info *info,
                                ts_tensor z, ts_vae_tile tile, const char *what)
{
    ts_status st;
    long H = z.dim[1] * info->stride, W = z.dim[2] * info->stride;
    *d = (ts_vae_decoding){.ctx = ctx, .info = *info, .z = z, .what = what, .began = ts_seconds()};
    TRY(ts_vae_axes(ctx, info, tile, z.dim[1], z.dim[2], &d->y, &d->x));
    d->tiles = d->y.n * d->x.n;
    d->rgb = malloc((size_t)(H * W * 3) * sizeof *d->rgb);
    if (!d->rgb) TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for a %s of %ldx%ld", what, W, H));
    TRY(ts_vae_scales(ctx, info, false, &d->scales));
done:
    return st;
}

ts_status ts_vae_decoding_carve(ts_vae_decoding *d, long frames, int up, long c)
{
    d->whole = ts_take(&d->ctx->arena, TS_F32,
                       TS_DIM(frames, (long)d->y.size * up, (long)d->x.size * up, c));
    return d->tiles > 1 ? ts_vae_blend_open(&d->blend, d->ctx, d->y, d->x, up, d->whole) : TS_OK;
}

ts_status ts_vae_decoding_latents(ts_vae_decoding *d, int i, int j, long first, long n,
                                  ts_tensor *z)
{
    ts_status st = TS_OK;
    *z = ts_take(&d->ctx->arena, TS_F32,
                 TS_DIM(n, ts_vae_span(d->y, i), ts_vae_span(d->x, j), d->info.channels));
    for (long f = 0; f < n; f++)
        TRY(ts_vae_cut_latents(d->ctx, d->z, d->scales, d->y, d->x, i, j, first + f,
                               ts_vae_frames(*z, f, 1)));
done:
    return st;
}

ts_status ts_vae_decoding_give(ts_vae_decoding *d, ts_tensor x, int patch, bool clamp,
                               ts_frame *out)
{
    ts_status st = ts_vae_download(d->ctx, x, patch, clamp, d->what, d->index, d->rgb, out);
    if (!st) d->index++;
    return st;
}

/* ---- an encoder at work ---- */
ts_status ts_vae_encoding_begin(ts_vae_encoding *e, ts_ctx *ctx, const ts_vae_info *info,
                                ts_host px, const char *what, ts_vae_tile tile, ts_tensor moments)
{
    ts_status st;
    int s = info->stride;
    *e = (ts_vae_encoding){.ctx = ctx, .info = info, .px = px, .moments = moments};
    TRY(ts_vae_check_pixels(ctx, info, px, what));
    e->latents = (px.dim[0] - 1) / info->time_stride + 1;
    TRY(ts_vae_axes(ctx, info, tile, px.dim[1] / s, px.dim[2] / s, &e->y, &e->x));
    TRY(ts_vae_scales(ctx, info, true, &e->scales));
    if (!ts_there(moments))
        e->moments = ts_take(&ctx->arena, TS_F32,
                             TS_DIM(e->latents, e->y.size, e->x.size, 2L * info->channels));
done:
    return st;
}

ts_status ts_vae_encoding_cut(ts_vae_encoding *e, int i, int j, int patch, long first, long frames,
                              long latents, ts_tensor *m, ts_tensor *in)
{
    ts_arena *a = &e->ctx->arena;
    int up = e->info->stride / patch;
    long h = ts_vae_span(e->y, i), w = ts_vae_span(e->x, j);
    *m = ts_take(a, TS_F32, TS_DIM(latents, h, w, 2L * e->info->channels));
    *in = ts_take(a, TS_F32, TS_DIM(frames, h * up, w * up, 3L * patch * patch));
    return ts_vae_cut_pixels(e->ctx, e->px, e->info->stride, patch, e->y, e->x, i, j, first, *in);
}

/* ---- layers ---- */
const char *ts_vae_name(char out[160], const char *a, const char *b)
{
    snprintf(out, 160, "%s.%s", a, b);
    return out;
}

ts_status ts_vae_norm(ts_ctx *ctx, const ts_layer *n, int groups, float eps, ts_tensor x,
                      ts_act act, ts_tensor y)
{
    return ts_norm_op(ctx->dev, (ts_norm){.kind = TS_NORM_GROUP,
                                          .groups = groups,
                                          .eps = eps,
                                          .x = x,
                                          .w = n->w,
                                          .b = n->b,
                                          .act = act,
                                          .y = y});
}

/* [frames N, C] as [frames, N, 1, C] */
static ts_tensor one_head(ts_tensor t, long frames)
{
    return (ts_tensor){t.p, t.type, 4, {frames, t.dim[0] / frames, 1, t.dim[1]}, t.ld};
}

ts_status ts_vae_attend(ts_ctx *ctx, long frames, ts_tensor q, ts_tensor k, ts_tensor v,
                        ts_tensor out)
{
    return ts_attention_op(ctx->dev, (ts_attention){.q = one_head(q, frames),
                                                    .k = one_head(k, frames),
                                                    .v = one_head(v, frames),
                                                    .out = one_head(out, frames),
                                                    .scale = 1 / sqrtf((float)q.dim[1])});
}

ts_status ts_vae_add_attention(ts_ctx *ctx, const ts_vae_attention *a, int groups,
                               ts_vae_attend_fn *attend, ts_tensor x)
{
    ts_status st = TS_OK;
    long rows = ts_rows(x), C = x.dim[3];
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor all = ts_view(x, TS_DIM(rows, C)), in = ts_take(&ctx->arena, x.type, TS_DIM(rows, C)),
              part[3];
    const ts_layer *layer[3] = {&a->q, &a->k, &a->v};
    TRY(ts_vae_norm(ctx, &a->norm, groups, 1e-6F, all, TS_ACT_NONE, in));
    for (int i = 0; i < 3; i++) {
        part[i] = ts_take(&ctx->arena, x.type, TS_DIM(rows, C));
        TRY(ts_linear_op(ctx->dev,
                         (ts_linear){.x = in, .w = layer[i]->w, .b = layer[i]->b, .y = part[i]}));
    }
    TRY(attend(ctx, x.dim[0], part[0], part[1], part[2], in));
    TRY(ts_linear_op(ctx->dev,
                     (ts_linear){.x = in, .w = a->o.w, .b = a->o.b, .resid = all, .y = all}));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

ts_status ts_vae_convolve_causal(ts_ctx *ctx, const ts_layer *l, ts_tensor in, ts_tensor past,
                                 bool begun, ts_tensor resid, ts_tensor y)
{
    ts_status st = TS_OK;
    ts_tensor first = ts_vae_frames(in, TS_VAE_PAST, 1),
              last = ts_vae_frames(in, in.dim[0] - TS_VAE_PAST, TS_VAE_PAST);
    for (int i = 0; i < TS_VAE_PAST; i++)
        TRY(ts_cast(ctx->dev, begun ? ts_vae_frames(past, i, 1) : first, ts_vae_frames(in, i, 1)));
    if (ts_there(past)) TRY(ts_cast(ctx->dev, last, past));
    TRY(ts_conv_op(ctx->dev, (ts_conv){.x = in,
                                       .w = l->w,
                                       .b = l->b,
                                       .stride = {1, 1, 1},
                                       .pad = {0, 0, 1, 1, 1, 1},
                                       .resid = resid,
                                       .y = y}));
done:
    return st;
}

/* rows that are made larger at once: the doubled input of the whole frame would be the largest
 * tensor of all */
enum { BAND = 32 };

ts_status ts_vae_enlarge(ts_ctx *ctx, const ts_layer *conv, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    long H = x.dim[1], W = x.dim[2], C = x.dim[3], O = y.dim[3], most = H < BAND + 2 ? H : BAND + 2;
    size_t mark = ts_mark(&ctx->arena), from_size = ts_dtype_size(x.type),
           to_size = ts_dtype_size(y.type);
    ts_tensor big = ts_take(&ctx->arena, x.type, TS_DIM(1, 2 * most, 2 * W, C));
    /* rows r..e-1; the kernel also reaches a doubled row before and one after */
    for (long f = 0; f < x.dim[0]; f++)
        for (long r = 0; r < H; r += BAND) {
            long e = r + BAND < H ? r + BAND : H, above = r > 0, below = e < H,
                 rows = e - r + above + below;
            ts_tensor in = big, part = ts_vae_frames(y, f, 1);
            ts_copy twice = {
                .src = ts_at(ts_vae_frames(x, f, 1).p, (size_t)((r - above) * W * C) * from_size),
                .dst = big.p,
                .stype = x.type,
                .dtype = x.type,
                .nd = 5,
                .dim = {rows, 2, W, 2, C},
                .ss = {W * C, 0, C, 0, 1},
                .ds = {4 * W * C, 2 * W * C, 2 * C, C, 1}};
            in.p = ts_at(in.p, (size_t)(above * 2 * W * C) * from_size);
            in.dim[1] = 2 * (e - r) + above + below;
            part.p = ts_at(part.p, (size_t)(2 * r * 2 * W * O) * to_size);
            part.dim[1] = 2 * (e - r);
            TRY(ts_copy_op(ctx->dev, twice));
            TRY(ts_conv_op(ctx->dev, (ts_conv){.x = in,
                                               .w = conv->w,
                                               .b = conv->b,
                                               .stride = {1, 1, 1},
                                               .pad = {0, 0, !above, !below, 1, 1},
                                               .y = part}));
        }
done:
    ts_release(&ctx->arena, mark);
    return st;
}
