/* Tiles of frames with blended seams, latents and moments between host and device, and the doubling
 * of frames that every decoder here does. A tile blends with its already blended neighbours above
 * and to the left. */
#include "codecs/vae_parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- tiles ---- */
ts_vae_axis ts_vae_axis_of(int size, int tile)
{
    if (tile <= 0 || tile >= size) return (ts_vae_axis){1, size, size, size};
    int stride = tile * 3 / 4;
    return (ts_vae_axis){(size + stride - 1) / stride, tile, stride, size};
}

int ts_vae_span(ts_vae_axis a, int i)
{
    return a.size - i * a.stride < a.tile ? a.size - i * a.stride : a.tile;
}

/* Row (or column) k of the first e of b becomes a mixture with the last e of a. Lines of `n`
 * floats, `step` apart. */
static void mix(const float *a, float *b, int e, int lines, long a_line, long b_line, long a_row,
                long b_row, int n)
{
    for (int k = 0; k < e; k++) {
        float t = (float)k / (float)e;
        for (int l = 0; l < lines; l++) {
            const float *s = a + k * a_row + l * a_line;
            float *d = b + k * b_row + l * b_line;
            for (int c = 0; c < n; c++) d[c] = s[c] * (1 - t) + d[c] * t;
        }
    }
}

static int least(int a, int b, int c) { return a < b ? (a < c ? a : c) : b < c ? b : c; }

/* Blends tile (i, j) of p, whose neighbours before it are done, and puts its kept part into whole
 * [frames, H, W, c]; the tile above is of no use any more. */
static void place(ts_vae_patch *p, ts_vae_axis y, ts_vae_axis x, int i, int j, int frames, int c,
                  int up, float *whole)
{
    int H = y.size * up, W = x.size * up, keep_y = y.stride * up, keep_x = x.stride * up,
        blend_y = (y.tile - y.stride) * up, blend_x = (x.tile - x.stride) * up;
    ts_vae_patch *t = p + i * x.n + j, *above = i ? t - x.n : NULL, *left = j ? t - 1 : NULL;
    long row = (long)t->w * c;
    int rows = t->h < keep_y ? t->h : keep_y, columns = t->w < keep_x ? t->w : keep_x;
#pragma omp parallel for schedule(static)
    for (int f = 0; f < frames; f++) {
        float *b = t->data + f * t->h * row;
        if (above) {
            long ar = (long)above->w * c;
            int e = least(above->h, t->h, blend_y);
            mix(above->data + f * above->h * ar + (above->h - e) * ar, b, e, t->w, c, c, ar, row,
                c);
        }
        if (left) {
            long lr = (long)left->w * c;
            int e = least(left->w, t->w, blend_x);
            mix(left->data + f * left->h * lr + (long)(left->w - e) * c, b, e, t->h, lr, row, c, c,
                c);
        }
        for (int r = 0; r < rows; r++)
            memcpy(whole + (((long)f * H + i * keep_y + r) * W + j * keep_x) * c, b + r * row,
                   (size_t)columns * (size_t)c * sizeof(float));
    }
    if (above) {
        free(above->data);
        above->data = NULL;
    }
}

ts_status ts_vae_check_tile(ts_ctx *ctx, const ts_vae_info *info, ts_vae_tile t)
{
    if (t.w % info->stride || t.h % info->stride)
        return ts_fail(&ctx->err, TS_EUSAGE, "VAE tile %dx%d: must be multiples of %d", t.w, t.h,
                       info->stride);
    return TS_OK;
}

ts_status ts_vae_each_tile(ts_ctx *ctx, ts_vae_axis y, ts_vae_axis x, int frames, int c, int up,
                           float *whole,
                           ts_status (*one)(void *user, int i, int j, const ts_vae_patch *),
                           void *user)
{
    ts_status st = TS_OK;
    int n = y.n * x.n;
    ts_vae_patch *tile = calloc((size_t)n, sizeof *tile);
    if (!tile) TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for %d tiles", n));
    for (int k = 0; k < n; k++) {
        int i = k / x.n, j = k % x.n, h = ts_vae_span(y, i) * up, w = ts_vae_span(x, j) * up;
        tile[k] = (ts_vae_patch){
            .h = h,
            .w = w,
            .data = malloc((size_t)h * (size_t)w * (size_t)frames * (size_t)c * sizeof(float))};
        if (!tile[k].data)
            TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for %d frames of a tile of %dx%d", frames,
                        w, h));
        TRY(one(user, i, j, tile + k));
        place(tile, y, x, i, j, frames, c, up, whole);
    }
done:
    for (int k = 0; tile && k < n; k++) free(tile[k].data);
    free(tile);
    return st;
}

/* ---- latents and moments ---- */
void ts_vae_cut_latent(const ts_vae_info *info, ts_host latents, ts_vae_axis y, ts_vae_axis x,
                       int i, int j, long f, float *out)
{
    const float *z = latents.data;
    long C = latents.dim[0], F = latents.dim[1], H = latents.dim[2], W = latents.dim[3];
    int h = ts_vae_span(y, i), w = ts_vae_span(x, j);
    for (int r = 0; r < h; r++)
        for (int q = 0; q < w; q++)
            for (long c = 0; c < C; c++)
                out[((long)r * w + q) * C + c] =
                    z[((c * F + f) * H + i * y.stride + r) * W + j * x.stride + q] * info->std[c] +
                    info->mean[c];
}

ts_status ts_vae_upload(ts_ctx *ctx, ts_tensor to, const float *from)
{
    ts_status st = ctx->dev->ops->upload(ctx->dev, to.p, from, (size_t)ts_count(to) * sizeof *from);
    return st ? st : ctx->dev->ops->join(ctx->dev);
}

void ts_vae_split_moments(const ts_vae_info *info, const float *moments, long n, float *latent,
                          float *planes)
{
    long C = info->channels;
    for (long c = 0; c < 2 * C; c++)
        for (long i = 0; i < n; i++) {
            float v = moments[i * 2 * C + c];
            if (c < C) latent[c * n + i] = (v - info->mean[c]) / info->std[c];
            if (planes) planes[c * n + i] = v;
        }
}

/* ---- doubling ---- */
static ts_tensor frame_of(ts_tensor t, long f)
{
    t.p = ts_at(t.p, (size_t)(f * t.dim[1] * t.dim[2] * t.dim[3]) * sizeof(float));
    t.dim[0] = 1;
    return t;
}

/* rows that are made larger at once: the doubled input of the whole frame would be the largest
 * tensor of all */
enum { BAND = 32 };

ts_status ts_vae_enlarge(ts_ctx *ctx, const ts_layer *conv, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    long H = x.dim[1], W = x.dim[2], C = x.dim[3], O = y.dim[3], most = H < BAND + 2 ? H : BAND + 2;
    size_t mark = ts_mark(&ctx->arena), one = sizeof(float);
    ts_tensor big = ts_take(&ctx->arena, TS_F32, TS_DIM(1, 2 * most, 2 * W, C));
    /* rows r..e-1; the kernel also reaches a doubled row before and one after */
    for (long f = 0; f < x.dim[0]; f++)
        for (long r = 0; r < H; r += BAND) {
            long e = r + BAND < H ? r + BAND : H, above = r > 0, below = e < H,
                 rows = e - r + above + below;
            ts_tensor in = big, part = frame_of(y, f);
            ts_copy twice = {.src = ts_at(frame_of(x, f).p, (size_t)((r - above) * W * C) * one),
                             .dst = big.p,
                             .nd = 5,
                             .dim = {rows, 2, W, 2, C},
                             .ss = {W * C, 0, C, 0, 1},
                             .ds = {4 * W * C, 2 * W * C, 2 * C, C, 1}};
            in.p = ts_at(in.p, (size_t)(above * 2 * W * C) * one);
            in.dim[1] = 2 * (e - r) + above + below;
            part.p = ts_at(part.p, (size_t)(2 * r * 2 * W * O) * one);
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
