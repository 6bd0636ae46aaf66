/* The layers of AutoencoderKL (diffusers' autoencoder_kl.py; Rombach et al., 2022): residual blocks
 * and one attention layer on pictures.
 *
 *   residual   x -> shortcut(x) + conv2(silu(gn(conv1(silu(gn(x))))))
 *   attention  x -> x + O(softmax(q k' / sqrt(C)) v), q k v of gn(x), one head
 *
 * Whole pictures of 128 channels are the largest tensors here, so a block takes as few as it can:
 * normalisation happens in place wherever what it overwrites is not needed again. */
#include "codecs/vae_kl.h"
#include "codecs/vae_parts.h"

#include <stdio.h>
#include <string.h>

static const float EPS = 1e-6f;

/* ---- binding. Groups of the decoder: 0 first layers and middle, 1 + i block i, 1 + levels last
 * layers. Those of the encoder follow: first layer, blocks, and middle with last layers. ---- */
typedef struct {
    ts_kl_net *n;
    int group;
    ts_status st;
} kl_binder;

static ts_layer bind_kl_conv(kl_binder *b, long out, long in, int k, const char *name)
{
    ts_layer l = {NULL, NULL};
    if (!b->st)
        b->st = ts_find_conv(b->n->weights, b->group, &l, 4, (long[]){out, in, k, k}, "%s", name);
    return l;
}

static ts_kl_norm bind_kl_norm(kl_binder *b, long width, const char *name)
{
    ts_kl_norm o = {NULL, NULL};
    if (!b->st) b->st = ts_find_vector(b->n->weights, b->group, &o.w, 1, &width, "%s.weight", name);
    if (!b->st) b->st = ts_find_vector(b->n->weights, b->group, &o.b, 1, &width, "%s.bias", name);
    return o;
}

static ts_kl_res bind_kl_residual(kl_binder *b, long in, long out, const char *name)
{
    char t[160];
    ts_kl_res r = {.in = in, .out = out};
    r.norm1 = bind_kl_norm(b, in, ts_vae_name(t, name, "norm1"));
    r.norm2 = bind_kl_norm(b, out, ts_vae_name(t, name, "norm2"));
    r.conv1 = bind_kl_conv(b, out, in, 3, ts_vae_name(t, name, "conv1"));
    r.conv2 = bind_kl_conv(b, out, out, 3, ts_vae_name(t, name, "conv2"));
    if (in != out) r.shortcut = bind_kl_conv(b, out, in, 1, ts_vae_name(t, name, "conv_shortcut"));
    return r;
}

/* A linear layer of attention: under its name or the one that old files have, as a matrix or as the
 * 1 x 1 convolution that it once was. */
static ts_layer bind_kl_square(kl_binder *b, long width, const char *at, const char *name,
                               const char *old)
{
    char t[160], w[176];
    ts_layer l = {NULL, NULL};
    ts_weights *ws = b->n->weights;
    snprintf(w, sizeof w, "%s.weight", ts_vae_name(t, at, name));
    if (!ts_weights_has(ws, w)) {
        snprintf(w, sizeof w, "%s.weight", ts_vae_name(t, at, old));
        if (!ts_weights_has(ws, w))
            ts_vae_name(t, at, name); /* the sentence has the name of today */
    }
    if (b->st) return l;
    b->st = ts_find_linear(ws, b->group, &l, width, width, true, "%s", t);
    if (b->st == TS_ESHAPE)
        b->st = ts_find_conv(ws, b->group, &l, 4, (long[]){width, width, 1, 1}, "%s", t);
    return l;
}

static void bind_kl_middle(kl_binder *b, long width, const char *half)
{
    char at[64], t[160];
    ts_kl_net *n = b->n;
    for (int i = 0; i < 2; i++) {
        snprintf(t, sizeof t, "%s.mid_block.resnets.%d", half, i);
        n->mid[i] = bind_kl_residual(b, width, width, t);
    }
    n->attn.width = n->c.attention ? width : 0;
    if (!n->c.attention) return;
    snprintf(at, sizeof at, "%s.mid_block.attentions.0", half);
    n->attn.norm = bind_kl_norm(b, width, ts_vae_name(t, at, "group_norm"));
    n->attn.q = bind_kl_square(b, width, at, "to_q", "query");
    n->attn.k = bind_kl_square(b, width, at, "to_k", "key");
    n->attn.v = bind_kl_square(b, width, at, "to_v", "value");
    n->attn.o = bind_kl_square(b, width, at, "to_out.0", "proj_attn");
}

static void bind_kl_block(kl_binder *b, int i, long in, long out, int res, const char *half,
                          const char *sample)
{
    char t[160];
    ts_kl_block *k = b->n->block + i;
    k->n = res;
    for (int r = 0; r < res; r++) {
        snprintf(t, sizeof t, "%s_blocks.%d.resnets.%d", half, i, r);
        k->res[r] = bind_kl_residual(b, r ? out : in, out, t);
    }
    k->samples = i + 1 < b->n->c.levels;
    if (!k->samples) return;
    snprintf(t, sizeof t, "%s_blocks.%d.%s.0.conv", half, i, sample);
    k->sample = bind_kl_conv(b, out, out, 3, t);
}

static void bind_kl_decoder(kl_binder *b)
{
    ts_kl_net *n = b->n;
    const ts_kl_config *c = &n->c;
    long width = c->width[c->levels - 1];
    if (c->post_quant) n->quant = bind_kl_conv(b, c->z, c->z, 1, "post_quant_conv");
    n->conv_in = bind_kl_conv(b, width, c->z, 3, "decoder.conv_in");
    bind_kl_middle(b, width, "decoder");
    for (int i = 0; i < c->levels; i++) {
        long out = c->width[c->levels - 1 - i];
        b->group++;
        bind_kl_block(b, i, width, out, c->res + 1, "decoder.up", "upsamplers");
        width = out;
    }
    b->group++;
    n->norm_out = bind_kl_norm(b, width, "decoder.conv_norm_out");
    n->conv_out = bind_kl_conv(b, 3, width, 3, "decoder.conv_out");
}

static void bind_kl_encoder(kl_binder *b)
{
    ts_kl_net *n = b->n;
    const ts_kl_config *c = &n->c;
    long width = c->width[0];
    n->conv_in = bind_kl_conv(b, width, 3, 3, "encoder.conv_in");
    for (int i = 0; i < c->levels; i++) {
        b->group++;
        bind_kl_block(b, i, width, c->width[i], c->res, "encoder.down", "downsamplers");
        width = c->width[i];
    }
    b->group++;
    bind_kl_middle(b, width, "encoder");
    n->norm_out = bind_kl_norm(b, width, "encoder.conv_norm_out");
    n->conv_out = bind_kl_conv(b, 2L * c->z, width, 3, "encoder.conv_out");
    if (c->quant) n->quant = bind_kl_conv(b, 2L * c->z, 2L * c->z, 1, "quant_conv");
}

ts_status ts_kl_bind(ts_kl_net *n, ts_ctx *ctx, ts_weights *w, const ts_vae_info *info,
                     bool encoder)
{
    memset(n, 0, sizeof *n);
    n->ctx = ctx;
    n->weights = w;
    n->c = *(const ts_kl_config *)info->config;
    kl_binder b = {.n = n};
    if (encoder) {
        b.group = n->c.levels + 2;
        bind_kl_encoder(&b);
    } else
        bind_kl_decoder(&b);
    return b.st;
}

/* ---- layers ---- */
static ts_tensor take_kl(ts_kl_net *n, long h, long w, long c)
{
    return ts_take(&n->ctx->arena, n->ctx->codec, TS_DIM(1, h, w, c));
}

static ts_status norm_kl(ts_kl_net *n, const ts_kl_norm *g, ts_tensor x, ts_act act, ts_tensor y)
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

/* y = l(x) + resid, l of an odd kernel, zeros around */
static ts_status convolve_kl(ts_kl_net *n, const ts_layer *l, ts_tensor x, ts_tensor resid,
                             ts_tensor y)
{
    int pad = (int)l->w->t.dim[2] / 2;
    return ts_conv_op(n->ctx->dev, (ts_conv){.x = x,
                                             .w = l->w,
                                             .b = l->b,
                                             .stride = {1, 1, 1},
                                             .pad = {0, 0, pad, pad, pad, pad},
                                             .resid = resid,
                                             .y = y});
}

/* A block that keeps its width works in place; one that changes it leaves its result in y and
 * spoils x. */
static ts_status kl_residual(ts_kl_net *n, const ts_kl_res *r, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    bool wide = r->in != r->out;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor none = {0}, t = take_kl(n, x.dim[1], x.dim[2], r->out),
              normal = wide ? x : take_kl(n, x.dim[1], x.dim[2], r->in);
    if (wide)
        TRY(convolve_kl(n, &r->shortcut, x, none, y));
    else
        y = x;
    TRY(norm_kl(n, &r->norm1, x, TS_ACT_SILU, normal));
    TRY(convolve_kl(n, &r->conv1, normal, none, t));
    TRY(norm_kl(n, &r->norm2, t, TS_ACT_SILU, t));
    TRY(convolve_kl(n, &r->conv2, t, y, y));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status kl_attend(ts_kl_net *n, ts_tensor x)
{
    ts_status st = TS_OK;
    const ts_kl_attn *a = &n->attn;
    ts_device *dev = n->ctx->dev;
    long N = x.dim[1] * x.dim[2], C = a->width;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor rows = ts_view(x, TS_DIM(N, C)), in = ts_take(&n->ctx->arena, x.type, TS_DIM(N, C)),
              part[3];
    const ts_layer *layer[3] = {&a->q, &a->k, &a->v};
    TRY(norm_kl(n, &a->norm, rows, TS_ACT_NONE, in));
    for (int i = 0; i < 3; i++) {
        part[i] = ts_take(&n->ctx->arena, x.type, TS_DIM(N, C));
        TRY(ts_linear_op(dev,
                         (ts_linear){.x = in, .w = layer[i]->w, .b = layer[i]->b, .y = part[i]}));
    }
    TRY(ts_vae_attend(n->ctx, 1, part[0], part[1], part[2], in));
    TRY(ts_linear_op(dev,
                     (ts_linear){.x = in, .w = a->o.w, .b = a->o.b, .resid = rows, .y = rows}));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status kl_middle(ts_kl_net *n, ts_tensor x)
{
    ts_status st = TS_OK;
    TRY(kl_residual(n, &n->mid[0], x, x));
    if (n->attn.width) TRY(kl_attend(n, x));
    TRY(kl_residual(n, &n->mid[1], x, x));
done:
    return st;
}

/* y, taken by the caller, = the block's last width at x's size. Only the first layer of a block
 * changes the width. */
static ts_status kl_residuals(ts_kl_net *n, const ts_kl_block *b, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    for (int r = 0; r < b->n; r++) TRY(kl_residual(n, b->res + r, r ? y : x, y));
done:
    return st;
}

static ts_status kl_finish(ts_kl_net *n, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    TRY(norm_kl(n, &n->norm_out, x, TS_ACT_SILU, x));
    TRY(convolve_kl(n, &n->conv_out, x, (ts_tensor){0}, y));
done:
    return st;
}

/* ---- decoder ---- */

/* Block i and what follows of x, which is the caller's and is spoilt. Each level's tensor is taken
 * before its block runs and given back when the last picture is out: the arena is a stack. */
static ts_status kl_up_from(ts_kl_net *n, int i, ts_tensor x, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    const ts_kl_block *b = n->block + i;
    long width = b->res[0].out;
    ts_tensor same = b->res[0].in == width ? x : take_kl(n, x.dim[1], x.dim[2], width);
    TRY(ts_weights_enter(n->weights, 1 + i));
    TRY(kl_residuals(n, b, x, same));
    if (b->samples) {
        ts_tensor y = take_kl(n, 2 * x.dim[1], 2 * x.dim[2], width);
        TRY(ts_vae_enlarge(n->ctx, &b->sample, same, y));
        TRY(kl_up_from(n, i + 1, y, out));
    } else {
        TRY(ts_weights_enter(n->weights, 1 + n->c.levels));
        TRY(kl_finish(n, same, out));
    }
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

ts_status ts_kl_decode(ts_kl_net *n, ts_tensor z, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor x = take_kl(n, z.dim[1], z.dim[2], n->conv_in.w->t.dim[0]), in = z;
    TRY(ts_weights_enter(n->weights, 0));
    if (n->c.post_quant) {
        in = take_kl(n, z.dim[1], z.dim[2], n->c.z);
        TRY(convolve_kl(n, &n->quant, z, (ts_tensor){0}, in));
    }
    TRY(convolve_kl(n, &n->conv_in, in, (ts_tensor){0}, x));
    TRY(kl_middle(n, x));
    TRY(kl_up_from(n, 0, x, out));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* ---- encoder ---- */

static ts_status kl_down_block(ts_kl_net *n, const ts_kl_block *b, ts_tensor *x)
{
    ts_status st = TS_OK;
    long H = x->dim[1], W = x->dim[2], width = b->res[0].out;
    ts_tensor same = b->res[0].in == width ? *x : take_kl(n, H, W, width);
    TRY(kl_residuals(n, b, *x, same));
    *x = same;
    if (!b->samples) goto done;
    *x = take_kl(n, H / 2, W / 2, width);
    TRY(ts_conv_op(n->ctx->dev, (ts_conv){.x = same,
                                          .w = b->sample.w,
                                          .b = b->sample.b,
                                          .stride = {1, 2, 2},
                                          .pad = {0, 0, 0, 1, 0, 1},
                                          .y = *x}));
done:
    return st;
}

ts_status ts_kl_encode(ts_kl_net *n, ts_tensor pixels, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    int first = n->c.levels + 2;
    ts_tensor none = {0}, x = take_kl(n, pixels.dim[1], pixels.dim[2], n->c.width[0]), y;
    TRY(ts_weights_enter(n->weights, first));
    TRY(convolve_kl(n, &n->conv_in, pixels, none, x));
    for (int i = 0; i < n->c.levels; i++) {
        TRY(ts_weights_enter(n->weights, first + 1 + i));
        TRY(kl_down_block(n, n->block + i, &x));
    }
    TRY(ts_weights_enter(n->weights, first + 1 + n->c.levels));
    TRY(kl_middle(n, x));
    y = n->c.quant ? take_kl(n, x.dim[1], x.dim[2], 2L * n->c.z) : out;
    TRY(kl_finish(n, x, y));
    if (n->c.quant) TRY(convolve_kl(n, &n->quant, y, none, out));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}
