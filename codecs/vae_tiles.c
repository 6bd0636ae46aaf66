/* Tiles of frames, and how frames are put together of them. */
#include "codecs/vae_tiles.h"

#include <stdlib.h>

static ts_ptr float_at(ts_ptr p, long n) { return ts_at(p, (size_t)n * sizeof(float)); }

ts_tensor ts_vae_frames(ts_tensor t, long first, long count)
{
    t.p = ts_at(t.p, (size_t)(first * t.dim[1] * t.dim[2] * t.dim[3]) * ts_dtype_size(t.type));
    t.dim[0] = count;
    return t;
}

static ts_vae_axis whole_axis(long size)
{
    int n = (int)size;
    return (ts_vae_axis){1, n, n, n};
}

/* tile: in latents, as all of an axis */
static ts_vae_axis axis_of(long size, int tile, double overlap)
{
    int n = (int)size, stride = (int)(tile * (1 - (overlap > 0 ? overlap : 0.25)));
    if (stride < 1 || n <= stride) return whole_axis(size);
    return (ts_vae_axis){(n + stride - 1) / stride, tile, stride, n};
}

int ts_vae_span(ts_vae_axis a, int i)
{
    return a.size - i * a.stride < a.tile ? a.size - i * a.stride : a.tile;
}

ts_status ts_vae_axes(ts_ctx *ctx, const ts_vae_info *info, ts_vae_tile t, long H, long W,
                      ts_vae_axis *y, ts_vae_axis *x)
{
    if (t.w % info->stride || t.h % info->stride)
        return ts_fail(&ctx->err, TS_EUSAGE, "VAE tile %dx%d: must be multiples of %d", t.w, t.h,
                       info->stride);
    int h = t.h / info->stride, w = t.w / info->stride;
    *y = whole_axis(H);
    *x = whole_axis(W);
    if (h < 1 || w < 1 || (H <= h && W <= w)) return TS_OK;
    *y = axis_of(H, h, info->overlap_h);
    *x = axis_of(W, w, info->overlap_w);
    return TS_OK;
}

/* Weights of the neighbour (1 - t) and of the tile (t) at k of n: t = k / n, each `repeat`
 * times. */
static ts_status upload_ramp(ts_ctx *ctx, int n, long repeat, ts_tensor *out)
{
    ts_status st = TS_OK;
    long all = n * repeat;
    float *w = malloc((size_t)(2 * all) * sizeof *w);
    if (!w) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a seam of %d pixels", n);
    *out = ts_take(&ctx->arena, TS_F32, TS_DIM(2, all));
    for (long k = 0; k < all; k++) {
        float t = (float)(k / repeat) / (float)n;
        w[k] = 1 - t;
        w[all + k] = t;
    }
    TRY(ctx->dev->ops->upload(ctx->dev, out->p, w, (size_t)(2 * all) * sizeof *w));
done:
    free(w);
    return st;
}

/* The ramps of an axis: of every tile but the first, and of the last, which may be shorter than the
 * overlap. */
static ts_status upload_ramps(ts_ctx *ctx, ts_vae_axis a, int up, long repeat, ts_tensor *inner,
                              ts_tensor *last)
{
    int blend = (a.tile - a.stride) * up, end = ts_vae_span(a, a.n - 1) * up;
    if (a.n == 1) return TS_OK;
    ts_status st = upload_ramp(ctx, blend, repeat, inner);
    return st ? st : upload_ramp(ctx, blend < end ? blend : end, repeat, last);
}

ts_status ts_vae_blend_open(ts_vae_blend *b, ts_ctx *ctx, ts_vae_axis y, ts_vae_axis x, int up,
                            ts_tensor whole)
{
    ts_status st = TS_OK;
    long F = whole.dim[0], C = whole.dim[3];
    *b = (ts_vae_blend){.ctx = ctx, .y = y, .x = x, .up = up, .whole = whole};
    if (y.n > 1)
        b->below = ts_take(&ctx->arena, TS_F32,
                           TS_DIM(x.n, F, (y.tile - y.stride) * up, x.tile * up, C));
    if (x.n > 1)
        b->right = ts_take(&ctx->arena, TS_F32,
                           TS_DIM(F, y.tile * up, (x.tile - x.stride) * up, C));
    TRY(upload_ramps(ctx, y, up, 1, &b->ramp_y, &b->last_y));
    TRY(upload_ramps(ctx, x, up, C, &b->ramp_x, &b->last_x));
done:
    return st;
}

/* `width` numbers of each of `rows` rows */
typedef struct {
    ts_ptr p;
    long step; /* from row to row */
} rows_at;

static ts_status copy_seam_rows(ts_ctx *ctx, long rows, long width, rows_at from, rows_at to)
{
    return ts_copy_op(ctx->dev, (ts_copy){.src = from.p,
                                          .dst = to.p,
                                          .nd = 2,
                                          .dim = {rows, width},
                                          .ss = {from.step, 1},
                                          .ds = {to.step, 1}});
}

/* to = from (1 - t) + to t; t changes from row to row or within a row */
static ts_status blend_rows(ts_ctx *ctx, long rows, long width, rows_at from, rows_at to,
                            ts_tensor ramp, bool by_row)
{
    ts_status st = TS_OK;
    ts_strided x = {from.p, TS_F32, {from.step, 1}}, y = {to.p, TS_F32, {to.step, 1}},
               one = {ramp.p, TS_F32, {by_row, !by_row}}, t = one;
    t.p = float_at(ramp.p, ramp.ld);
    ts_affine a = {.nd = 2, .dim = {rows, width}, .x = y, .y = y, .s = t};
    TRY(ts_affine_op(ctx->dev, a));
    a.x = x;
    a.s = one;
    a.b = y;
    TRY(ts_affine_op(ctx->dev, a));
done:
    return st;
}

ts_status ts_vae_blend_put(ts_vae_blend *b, int i, int j, long f, ts_tensor tile)
{
    ts_status st = TS_OK;
    ts_vae_axis y = b->y, x = b->x;
    long F = b->whole.dim[0], H = b->whole.dim[1], W = b->whole.dim[2], c = b->whole.dim[3],
         h = tile.dim[1], w = tile.dim[2], keep_y = (long)y.stride * b->up,
         keep_x = (long)x.stride * b->up, rows = (long)(y.tile - y.stride) * b->up,
         columns = (long)(x.tile - x.stride) * b->up;
    rows_at t = {tile.p, w * c},
            below = {float_at(b->below.p, (j * F + f) * rows * x.tile * b->up * c), w * c},
            right = {float_at(b->right.p, f * y.tile * b->up * columns * c), columns * c},
            whole = {float_at(b->whole.p, ((f * H + i * keep_y) * W + j * keep_x) * c), W * c};
    if (i) {
        ts_tensor ramp = i + 1 < y.n ? b->ramp_y : b->last_y;
        rows_at above = {float_at(below.p, (rows - ramp.ld) * w * c), w * c};
        TRY(blend_rows(b->ctx, ramp.ld, w * c, above, t, ramp, true));
    }
    if (j) {
        ts_tensor ramp = j + 1 < x.n ? b->ramp_x : b->last_x;
        rows_at left = {float_at(right.p, columns * c - ramp.ld), columns * c};
        TRY(blend_rows(b->ctx, h, ramp.ld, left, t, ramp, false));
    }
    TRY(copy_seam_rows(b->ctx, h < keep_y ? h : keep_y, (w < keep_x ? w : keep_x) * c, t, whole));
    if (i + 1 < y.n) {
        rows_at end = {float_at(tile.p, (h - rows) * w * c), w * c};
        TRY(copy_seam_rows(b->ctx, rows, w * c, end, below));
    }
    if (j + 1 < x.n) {
        rows_at end = {float_at(tile.p, (w - columns) * c), w * c};
        TRY(copy_seam_rows(b->ctx, h, columns * c, end, right));
    }
done:
    return st;
}

ts_status ts_vae_put_frames(ts_vae_blend *b, int i, int j, long to, ts_tensor m)
{
    ts_status st = TS_OK;
    for (long f = 0; f < m.dim[0]; f++)
        TRY(ts_vae_blend_put(b, i, j, to + f, ts_vae_frames(m, f, 1)));
done:
    return st;
}
