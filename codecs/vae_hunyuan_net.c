/* What AutoencoderKLHunyuanVideo brings to the network that it shares with AutoencoderKL
 * (diffusers' autoencoder_kl_hunyuan_video.py): a third axis, on sequences [F, H, W, C].
 *
 *   convolution  3 x 3 x 3, causal: two frames stand before the first, each the first; around a
 *                frame stand its own edges
 *   norm         over a group's channels of the whole sequence
 *   attention    one head; frame i sees the frames 0 .. i
 *   doubling     in space; where time doubles too, the first frame stays one
 *
 * Convolutions know zeros alone, so a few frames at a time are copied with what stands around them,
 * doubled on the way where they are. */
#include "codecs/vae_hunyuanvideo.h"

#include <math.h>

typedef struct {
    bool double_space, double_time;
    int stride_t, stride; /* of time, of space */
} hy_change;

/* frame f of a sequence whose time is doubled, among its own */
static long source_of(hy_change k, long f)
{
    if (f < 0) f = 0;
    return k.double_time && f ? 1 + (f - 1) / 2 : f;
}

typedef struct {
    ts_device *dev;
    ts_tensor t; /* [frames, H + 2, W + 2, C] */
} hy_padded;

/* rows of `n` numbers, `step` apart, in `frames` frames: from element `from` to element `to` */
static ts_status copy_edge(const hy_padded *p, long frames, long rows, long step, long n, long from,
                           long to)
{
    size_t size = ts_dtype_size(p->t.type);
    long frame = p->t.dim[1] * p->t.dim[2] * p->t.dim[3];
    return ts_copy_op(p->dev, (ts_copy){.src = ts_at(p->t.p, (size_t)from * size),
                                        .dst = ts_at(p->t.p, (size_t)to * size),
                                        .stype = p->t.type,
                                        .dtype = p->t.type,
                                        .nd = 3,
                                        .dim = {frames, rows, n},
                                        .ss = {frame, step, 1},
                                        .ds = {frame, step, 1}});
}

/* Frames first .. of x, doubled as `k` says, with their edges around them. */
static ts_status pad_frames(ts_ctx *ctx, hy_change k, ts_tensor x, long first, ts_tensor to)
{
    ts_status st = TS_OK;
    hy_padded p = {ctx->dev, to};
    long H = x.dim[1], W = x.dim[2], C = x.dim[3], s = k.double_space ? 2 : 1, frames = to.dim[0],
         high = s * H, wide = s * W, row = (wide + 2) * C;
    for (long f = 0; f < frames; f++)
        TRY(ts_copy_op(ctx->dev, (ts_copy){.src = ts_vae_frames(x, source_of(k, first + f), 1).p,
                                           .dst = ts_at(ts_vae_frames(to, f, 1).p,
                                                        (size_t)(row + C) * ts_dtype_size(to.type)),
                                           .stype = x.type,
                                           .dtype = to.type,
                                           .nd = 5,
                                           .dim = {H, s, W, s, C},
                                           .ss = {W * C, 0, C, 0, 1},
                                           .ds = {s * row, row, s * C, C, 1}}));
    TRY(copy_edge(&p, frames, high, row, C, row + C, row));
    TRY(copy_edge(&p, frames, high, row, C, row + wide * C, row + (wide + 1) * C));
    TRY(copy_edge(&p, frames, 1, row, row, row, 0));
    TRY(copy_edge(&p, frames, 1, row, row, high * row, (high + 1) * row));
done:
    return st;
}

/* frames of a result that are made at once */
enum { FRAMES_AT_ONCE = 4 };

/* y = l(x) + resid of a kernel of 3 */
static ts_status convolve_hy(ts_ctx *ctx, const ts_layer *l, hy_change k, ts_tensor x,
                             ts_tensor resid, ts_tensor y)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&ctx->arena);
    long s = k.double_space ? 2 : 1;
    for (long f = 0, some; f < y.dim[0]; f += some) {
        some = y.dim[0] - f < FRAMES_AT_ONCE ? y.dim[0] - f : FRAMES_AT_ONCE;
        ts_tensor in = ts_take(
            &ctx->arena, x.type,
            TS_DIM((some - 1) * k.stride_t + 3, s * x.dim[1] + 2, s * x.dim[2] + 2, x.dim[3]));
        TRY(pad_frames(ctx, k, x, f * k.stride_t - 2, in));
        TRY(ts_conv_op(ctx->dev,
                       (ts_conv){.x = in,
                                 .w = l->w,
                                 .b = l->b,
                                 .stride = {k.stride_t, k.stride, k.stride},
                                 .resid = ts_there(resid) ? ts_vae_frames(resid, f, some) : resid,
                                 .y = ts_vae_frames(y, f, some)}));
        ts_release(&ctx->arena, mark);
    }
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status convolve_hy_same(ts_ctx *ctx, const ts_layer *l, ts_tensor x, ts_tensor resid,
                                  ts_tensor y)
{
    return convolve_hy(ctx, l, (hy_change){.stride_t = 1, .stride = 1}, x, resid, y);
}

static ts_status enlarge_hy(ts_ctx *ctx, const ts_layer *l, bool time, ts_tensor x, ts_tensor y)
{
    hy_change k = {.double_space = true, .double_time = time, .stride_t = 1, .stride = 1};
    return convolve_hy(ctx, l, k, x, (ts_tensor){0}, y);
}

static ts_status reduce_hy(ts_ctx *ctx, const ts_layer *l, bool time, ts_tensor x, ts_tensor y)
{
    hy_change k = {.stride_t = time ? 2 : 1, .stride = 2};
    return convolve_hy(ctx, l, k, x, (ts_tensor){0}, y);
}

/* ---- attention ---- */

static ts_status attend_frames_so_far(ts_ctx *ctx, long frames, ts_tensor q, ts_tensor k,
                                      ts_tensor v, ts_tensor out)
{
    ts_status st = TS_OK;
    long N = q.dim[0] / frames, C = q.dim[1];
    for (long f = 0; f < frames; f++) {
        long seen = (f + 1) * N;
        ts_tensor one = ts_row_range(q, f * N, N), o = ts_row_range(out, f * N, N);
        TRY(ts_attention_op(ctx->dev, (ts_attention){.q = {one.p, q.type, 4, {1, N, 1, C}, q.ld},
                                                     .k = {k.p, k.type, 4, {1, seen, 1, C}, k.ld},
                                                     .v = {v.p, v.type, 4, {1, seen, 1, C}, v.ld},
                                                     .out = {o.p, o.type, 4, {1, N, 1, C}, o.ld},
                                                     .scale = 1 / sqrtf((float)C)}));
    }
done:
    return st;
}

static ts_status find_hy_square(ts_weights *ws, int group, ts_layer *l, long width, const char *at,
                                const char *name)
{
    return ts_find_linear(ws, group, l, width, width, true, "%s.%s", at, name);
}

const ts_res_kind ts_hy_layers = {.nd = 5,
                                  .behind = ".conv",
                                  .convolve = convolve_hy_same,
                                  .enlarge = enlarge_hy,
                                  .reduce = reduce_hy,
                                  .attend = attend_frames_so_far,
                                  .find_square = find_hy_square};
