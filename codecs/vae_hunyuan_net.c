/* The layers of AutoencoderKLHunyuanVideo (diffusers' autoencoder_kl_hunyuan_video.py): those of
 * AutoencoderKL with a third axis, on sequences [F, H, W, C].
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
#include "codecs/vae_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const float EPS = 1e-6f;

/* ---- binding. Groups of the decoder: 0 first layers and middle, 1 + i block i, 1 + levels last
 * layers. Those of the encoder follow: first layer, blocks, and middle with last layers. ---- */
typedef struct {
    ts_hy_net *n;
    int group;
    ts_status st;
} hy_binder;

static ts_layer bind_hy_conv(hy_binder *b, long out, long in, int k, const char *name)
{
    ts_layer l = {NULL, NULL};
    if (!b->st)
        b->st = ts_find_conv(b->n->weights, b->group, &l, 5, (long[]){out, in, k, k, k}, "%s",
                             name);
    return l;
}

static ts_hy_norm bind_hy_norm(hy_binder *b, long width, const char *name)
{
    ts_hy_norm o = {NULL, NULL};
    if (!b->st) b->st = ts_find_vector(b->n->weights, b->group, &o.w, 1, &width, "%s.weight", name);
    if (!b->st) b->st = ts_find_vector(b->n->weights, b->group, &o.b, 1, &width, "%s.bias", name);
    return o;
}

static ts_hy_res bind_hy_residual(hy_binder *b, long in, long out, const char *name)
{
    char t[160];
    ts_hy_res r = {.in = in, .out = out};
    r.norm1 = bind_hy_norm(b, in, ts_vae_name(t, name, "norm1"));
    r.norm2 = bind_hy_norm(b, out, ts_vae_name(t, name, "norm2"));
    r.conv1 = bind_hy_conv(b, out, in, 3, ts_vae_name(t, name, "conv1.conv"));
    r.conv2 = bind_hy_conv(b, out, out, 3, ts_vae_name(t, name, "conv2.conv"));
    if (in != out)
        r.shortcut = bind_hy_conv(b, out, in, 1, ts_vae_name(t, name, "conv_shortcut.conv"));
    return r;
}

static void bind_hy_middle(hy_binder *b, long width, const char *half)
{
    char at[64], t[160];
    ts_hy_net *n = b->n;
    const struct {
        ts_layer *l;
        const char *name;
    } linear[] = {{&n->q, "to_q"}, {&n->k, "to_k"}, {&n->v, "to_v"}, {&n->o, "to_out.0"}};
    for (int i = 0; i < 2; i++) {
        snprintf(t, sizeof t, "%s.mid_block.resnets.%d", half, i);
        n->mid[i] = bind_hy_residual(b, width, width, t);
    }
    if (!n->c.attention) return;
    snprintf(at, sizeof at, "%s.mid_block.attentions.0", half);
    n->attn_norm = bind_hy_norm(b, width, ts_vae_name(t, at, "group_norm"));
    for (int i = 0; i < 4 && !b->st; i++)
        b->st = ts_find_linear(n->weights, b->group, linear[i].l, width, width, true, "%s.%s", at,
                               linear[i].name);
}

/* Of a decoder's blocks and of an encoder's alike those change time that are the last `times`
 * before the end. */
static void bind_hy_block(hy_binder *b, int i, long in, long out, int res, const char *half,
                          const char *sample)
{
    char t[160];
    const ts_hy_config *c = &b->n->c;
    ts_hy_block *k = b->n->block + i;
    k->n = res;
    for (int r = 0; r < res; r++) {
        snprintf(t, sizeof t, "%s_blocks.%d.resnets.%d", half, i, r);
        k->res[r] = bind_hy_residual(b, r ? out : in, out, t);
    }
    k->samples = i + 1 < c->levels;
    k->time = k->samples && i >= c->levels - 1 - c->times;
    if (!k->samples) return;
    snprintf(t, sizeof t, "%s_blocks.%d.%s.0.conv.conv", half, i, sample);
    k->sample = bind_hy_conv(b, out, out, 3, t);
}

static void bind_hy_decoder(hy_binder *b)
{
    ts_hy_net *n = b->n;
    const ts_hy_config *c = &n->c;
    long width = c->width[c->levels - 1];
    n->quant = bind_hy_conv(b, c->z, c->z, 1, "post_quant_conv");
    n->conv_in = bind_hy_conv(b, width, c->z, 3, "decoder.conv_in.conv");
    bind_hy_middle(b, width, "decoder");
    for (int i = 0; i < c->levels; i++) {
        long out = c->width[c->levels - 1 - i];
        b->group++;
        bind_hy_block(b, i, width, out, c->res + 1, "decoder.up", "upsamplers");
        width = out;
    }
    b->group++;
    n->norm_out = bind_hy_norm(b, width, "decoder.conv_norm_out");
    n->conv_out = bind_hy_conv(b, 3, width, 3, "decoder.conv_out.conv");
}

static void bind_hy_encoder(hy_binder *b)
{
    ts_hy_net *n = b->n;
    const ts_hy_config *c = &n->c;
    long width = c->width[0];
    n->conv_in = bind_hy_conv(b, width, 3, 3, "encoder.conv_in.conv");
    for (int i = 0; i < c->levels; i++) {
        b->group++;
        bind_hy_block(b, i, width, c->width[i], c->res, "encoder.down", "downsamplers");
        width = c->width[i];
    }
    b->group++;
    bind_hy_middle(b, width, "encoder");
    n->norm_out = bind_hy_norm(b, width, "encoder.conv_norm_out");
    n->conv_out = bind_hy_conv(b, 2L * c->z, width, 3, "encoder.conv_out.conv");
    n->quant = bind_hy_conv(b, 2L * c->z, 2L * c->z, 1, "quant_conv");
}

ts_status ts_hy_bind(ts_hy_net *n, ts_ctx *ctx, ts_weights *w, const ts_vae_info *info,
                     bool encoder)
{
    memset(n, 0, sizeof *n);
    n->ctx = ctx;
    n->weights = w;
    n->c = *(const ts_hy_config *)info->config;
    hy_binder b = {.n = n};
    if (encoder) {
        b.group = n->c.levels + 2;
        bind_hy_encoder(&b);
    } else
        bind_hy_decoder(&b);
    return b.st;
}

/* ---- convolution ---- */

typedef struct {
    bool double_space, double_time;
    int stride_t, stride; /* of time, of space */
} hy_change;
static const hy_change SAME = {.stride_t = 1, .stride = 1};

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
static ts_status convolve_hy(ts_hy_net *n, const ts_layer *l, hy_change k, ts_tensor x,
                             ts_tensor resid, ts_tensor y)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = n->ctx;
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

/* y = l(x) of a kernel of 1 */
static ts_status convolve_hy_point(ts_hy_net *n, const ts_layer *l, ts_tensor x, ts_tensor y)
{
    return ts_conv_op(n->ctx->dev,
                      (ts_conv){.x = x, .w = l->w, .b = l->b, .stride = {1, 1, 1}, .y = y});
}

/* ---- layers ---- */

static ts_tensor take_hy(ts_hy_net *n, long f, long h, long w, long c)
{
    return ts_take(&n->ctx->arena, n->ctx->codec, TS_DIM(f, h, w, c));
}

static ts_status norm_hy(ts_hy_net *n, const ts_hy_norm *g, ts_tensor x, ts_act act, ts_tensor y)
{
    return ts_norm_op(n->ctx->dev, (ts_norm){.kind = TS_NORM_GROUP,
                                             .groups = n->c.groups,
                                             .eps = EPS,
                                             .x = x,
                                             .w = g->w,
                                             .b = g->b,
                                             .act = act,
                                             .y = y});
}

/* A block that keeps its width works in place; one that changes it leaves its result in y and
 * spoils x. */
static ts_status hy_residual(ts_hy_net *n, const ts_hy_res *r, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    bool wide = r->in != r->out;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor t = take_hy(n, x.dim[0], x.dim[1], x.dim[2], r->out),
              normal = wide ? x : take_hy(n, x.dim[0], x.dim[1], x.dim[2], r->in);
    if (wide)
        TRY(convolve_hy_point(n, &r->shortcut, x, y));
    else
        y = x;
    TRY(norm_hy(n, &r->norm1, x, TS_ACT_SILU, normal));
    TRY(convolve_hy(n, &r->conv1, SAME, normal, (ts_tensor){0}, t));
    TRY(norm_hy(n, &r->norm2, t, TS_ACT_SILU, t));
    TRY(convolve_hy(n, &r->conv2, SAME, t, y, y));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status hy_attend(ts_hy_net *n, ts_tensor x)
{
    ts_status st = TS_OK;
    ts_device *dev = n->ctx->dev;
    long F = x.dim[0], N = x.dim[1] * x.dim[2], C = x.dim[3];
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor rows = ts_view(x, TS_DIM(F * N, C)),
              in = ts_take(&n->ctx->arena, x.type, TS_DIM(F * N, C)), part[3];
    const ts_layer *layer[3] = {&n->q, &n->k, &n->v};
    TRY(norm_hy(n, &n->attn_norm, rows, TS_ACT_NONE, in));
    for (int i = 0; i < 3; i++) {
        part[i] = ts_take(&n->ctx->arena, x.type, TS_DIM(F * N, C));
        TRY(ts_linear_op(dev,
                         (ts_linear){.x = in, .w = layer[i]->w, .b = layer[i]->b, .y = part[i]}));
    }
    for (long f = 0; f < F; f++) {
        long seen = (f + 1) * N;
        ts_tensor q = ts_row_range(part[0], f * N, N), o = ts_row_range(in, f * N, N);
        TRY(ts_attention_op(dev,
                            (ts_attention){.q = {q.p, q.type, 4, {1, N, 1, C}, q.ld},
                                           .k = {part[1].p, q.type, 4, {1, seen, 1, C}, part[1].ld},
                                           .v = {part[2].p, q.type, 4, {1, seen, 1, C}, part[2].ld},
                                           .out = {o.p, o.type, 4, {1, N, 1, C}, o.ld},
                                           .scale = 1 / sqrtf((float)C)}));
    }
    TRY(ts_linear_op(dev,
                     (ts_linear){.x = in, .w = n->o.w, .b = n->o.b, .resid = rows, .y = rows}));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status hy_middle(ts_hy_net *n, ts_tensor x)
{
    ts_status st = TS_OK;
    TRY(hy_residual(n, &n->mid[0], x, x));
    if (n->c.attention) TRY(hy_attend(n, x));
    TRY(hy_residual(n, &n->mid[1], x, x));
done:
    return st;
}

/* y, taken by the caller, = the block's last width at x's size. Only the first layer of a block
 * changes the width. */
static ts_status hy_residuals(ts_hy_net *n, const ts_hy_block *b, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    for (int r = 0; r < b->n; r++) TRY(hy_residual(n, b->res + r, r ? y : x, y));
done:
    return st;
}

static ts_status hy_finish(ts_hy_net *n, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    TRY(norm_hy(n, &n->norm_out, x, TS_ACT_SILU, x));
    TRY(convolve_hy(n, &n->conv_out, SAME, x, (ts_tensor){0}, y));
done:
    return st;
}

/* ---- decoder ---- */

/* Block i and what follows of x, which is the caller's and is spoilt. */
static ts_status hy_up_from(ts_hy_net *n, int i, ts_tensor x, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    const ts_hy_block *b = n->block + i;
    long width = b->res[0].out, F = x.dim[0], H = x.dim[1], W = x.dim[2];
    ts_tensor same = b->res[0].in == width ? x : take_hy(n, F, H, W, width);
    TRY(ts_weights_enter(n->weights, 1 + i));
    TRY(hy_residuals(n, b, x, same));
    if (b->samples) {
        ts_tensor y = take_hy(n, b->time ? 2 * F - 1 : F, 2 * H, 2 * W, width);
        hy_change twice = {.double_space = true, .double_time = b->time, 1, 1};
        TRY(convolve_hy(n, &b->sample, twice, same, (ts_tensor){0}, y));
        TRY(hy_up_from(n, i + 1, y, out));
    } else {
        TRY(ts_weights_enter(n->weights, 1 + n->c.levels));
        TRY(hy_finish(n, same, out));
    }
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

ts_status ts_hy_decode(ts_hy_net *n, ts_tensor z, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    long F = z.dim[0], H = z.dim[1], W = z.dim[2];
    ts_tensor x = take_hy(n, F, H, W, n->conv_in.w->t.dim[0]), in = take_hy(n, F, H, W, n->c.z);
    TRY(ts_weights_enter(n->weights, 0));
    TRY(convolve_hy_point(n, &n->quant, z, in));
    TRY(convolve_hy(n, &n->conv_in, SAME, in, (ts_tensor){0}, x));
    TRY(hy_middle(n, x));
    TRY(hy_up_from(n, 0, x, out));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* ---- encoder ---- */

static ts_status hy_down_block(ts_hy_net *n, const ts_hy_block *b, ts_tensor *x)
{
    ts_status st = TS_OK;
    long F = x->dim[0], H = x->dim[1], W = x->dim[2], width = b->res[0].out;
    ts_tensor same = b->res[0].in == width ? *x : take_hy(n, F, H, W, width);
    TRY(hy_residuals(n, b, *x, same));
    *x = same;
    if (!b->samples) goto done;
    *x = take_hy(n, b->time ? (F - 1) / 2 + 1 : F, H / 2, W / 2, width);
    TRY(convolve_hy(n, &b->sample, (hy_change){.stride_t = b->time ? 2 : 1, .stride = 2}, same,
                    (ts_tensor){0}, *x));
done:
    return st;
}

ts_status ts_hy_encode(ts_hy_net *n, ts_tensor pixels, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    int first = n->c.levels + 2;
    ts_tensor x = take_hy(n, pixels.dim[0], pixels.dim[1], pixels.dim[2], n->c.width[0]), y;
    TRY(ts_weights_enter(n->weights, first));
    TRY(convolve_hy(n, &n->conv_in, SAME, pixels, (ts_tensor){0}, x));
    for (int i = 0; i < n->c.levels; i++) {
        TRY(ts_weights_enter(n->weights, first + 1 + i));
        TRY(hy_down_block(n, n->block + i, &x));
    }
    TRY(ts_weights_enter(n->weights, first + 1 + n->c.levels));
    TRY(hy_middle(n, x));
    y = take_hy(n, x.dim[0], x.dim[1], x.dim[2], 2L * n->c.z);
    TRY(hy_finish(n, x, y));
    TRY(convolve_hy_point(n, &n->quant, y, out));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}
