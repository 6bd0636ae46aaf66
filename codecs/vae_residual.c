/* Residual autoencoders (diffusers' autoencoder_kl.py; Rombach et al., 2022):
 *
 *   residual   x -> shortcut(x) + conv2(silu(gn(conv1(silu(gn(x))))))
 *   attention  x -> x + O(softmax(q k' / sqrt(C)) v), q k v of gn(x), one head
 *
 * Whole pictures of 128 channels are the largest tensors here, so a block takes as few as it can:
 * normalisation happens in place wherever what it overwrites is not needed again. */
#include "codecs/vae_residual.h"

#include <stdio.h>
#include <string.h>

/* ---- binding. Groups of the decoder: 0 first layers and middle, 1 + i block i, 1 + levels last
 * layers. Those of the encoder follow: first layer, blocks, and middle with last layers. ---- */
typedef struct {
    ts_res_net *n;
    int group;
    ts_status st;
} res_binder;

static ts_layer bind_res_kernel(res_binder *b, long out, long in, int k, const char *name,
                                const char *behind)
{
    ts_layer l = {NULL, NULL};
    if (!b->st)
        b->st = ts_find_conv(b->n->weights, b->group, &l, b->n->kind->nd,
                             (long[]){out, in, k, k, k}, "%s%s", name, behind);
    return l;
}

static ts_layer bind_res_conv(res_binder *b, long out, long in, int k, const char *name)
{
    return bind_res_kernel(b, out, in, k, name, b->n->kind->behind);
}

static ts_layer bind_res_norm(res_binder *b, long width, const char *name)
{
    ts_layer l = {NULL, NULL};
    if (!b->st) b->st = ts_find_norm(b->n->weights, b->group, &l, width, "%s", name);
    return l;
}

static ts_res_residual bind_res_residual(res_binder *b, long in, long out, const char *name)
{
    char t[160];
    ts_res_residual r = {.in = in, .out = out};
    r.norm1 = bind_res_norm(b, in, ts_vae_name(t, name, "norm1"));
    r.norm2 = bind_res_norm(b, out, ts_vae_name(t, name, "norm2"));
    r.conv1 = bind_res_conv(b, out, in, 3, ts_vae_name(t, name, "conv1"));
    r.conv2 = bind_res_conv(b, out, out, 3, ts_vae_name(t, name, "conv2"));
    if (in != out) r.shortcut = bind_res_conv(b, out, in, 1, ts_vae_name(t, name, "conv_shortcut"));
    return r;
}

static void bind_res_middle(res_binder *b, long width, const char *half)
{
    char at[64], t[160];
    ts_res_net *n = b->n;
    ts_vae_attention *a = &n->attention;
    const struct {
        ts_layer *l;
        const char *name;
    } square[] = {{&a->q, "to_q"}, {&a->k, "to_k"}, {&a->v, "to_v"}, {&a->o, "to_out.0"}};
    for (int i = 0; i < 2; i++) {
        snprintf(t, sizeof t, "%s.mid_block.resnets.%d", half, i);
        n->mid[i] = bind_res_residual(b, width, width, t);
    }
    if (!n->c.attention) return;
    snprintf(at, sizeof at, "%s.mid_block.attentions.0", half);
    a->norm = bind_res_norm(b, width, ts_vae_name(t, at, "group_norm"));
    for (int i = 0; i < 4 && !b->st; i++)
        b->st = n->kind->find_square(n->weights, b->group, square[i].l, width, at, square[i].name);
}

/* Of a decoder's blocks and of an encoder's alike those change time that are the last `times`
 * before the end. */
static void bind_res_block(res_binder *b, int i, long in, long out, int res, const char *half,
                           const char *sample)
{
    char t[160];
    const ts_res_config *c = &b->n->c;
    ts_res_block *k = b->n->block + i;
    k->n = res;
    for (int r = 0; r < res; r++) {
        snprintf(t, sizeof t, "%s_blocks.%d.resnets.%d", half, i, r);
        k->res[r] = bind_res_residual(b, r ? out : in, out, t);
    }
    k->samples = i + 1 < c->levels;
    k->time = k->samples && i >= c->levels - 1 - c->times;
    if (!k->samples) return;
    snprintf(t, sizeof t, "%s_blocks.%d.%s.0.conv", half, i, sample);
    k->sample = bind_res_conv(b, out, out, 3, t);
}

static void bind_res_decoder(res_binder *b)
{
    ts_res_net *n = b->n;
    const ts_res_config *c = &n->c;
    long width = c->width[c->levels - 1];
    if (c->post_quant) n->quant = bind_res_kernel(b, c->z, c->z, 1, "post_quant_conv", "");
    n->conv_in = bind_res_conv(b, width, c->z, 3, "decoder.conv_in");
    bind_res_middle(b, width, "decoder");
    for (int i = 0; i < c->levels; i++) {
        long out = c->width[c->levels - 1 - i];
        b->group++;
        bind_res_block(b, i, width, out, c->res + 1, "decoder.up", "upsamplers");
        width = out;
    }
    b->group++;
    n->norm_out = bind_res_norm(b, width, "decoder.conv_norm_out");
    n->conv_out = bind_res_conv(b, 3, width, 3, "decoder.conv_out");
}

static void bind_res_encoder(res_binder *b)
{
    ts_res_net *n = b->n;
    const ts_res_config *c = &n->c;
    long width = c->width[0];
    n->conv_in = bind_res_conv(b, width, 3, 3, "encoder.conv_in");
    for (int i = 0; i < c->levels; i++) {
        b->group++;
        bind_res_block(b, i, width, c->width[i], c->res, "encoder.down", "downsamplers");
        width = c->width[i];
    }
    b->group++;
    bind_res_middle(b, width, "encoder");
    n->norm_out = bind_res_norm(b, width, "encoder.conv_norm_out");
    n->conv_out = bind_res_conv(b, 2L * c->z, width, 3, "encoder.conv_out");
    if (c->quant) n->quant = bind_res_kernel(b, 2L * c->z, 2L * c->z, 1, "quant_conv", "");
}

ts_status ts_res_bind(ts_res_net *n, const ts_res_kind *kind, ts_ctx *ctx, ts_weights *w,
                      const ts_vae_info *info, bool encoder)
{
    memset(n, 0, sizeof *n);
    n->ctx = ctx;
    n->weights = w;
    n->kind = kind;
    n->c = *(const ts_res_config *)info->config;
    res_binder b = {.n = n};
    if (encoder) {
        b.group = n->c.levels + 2;
        bind_res_encoder(&b);
    } else
        bind_res_decoder(&b);
    return b.st;
}

/* ---- layers ---- */
static ts_tensor take_res(ts_res_net *n, long f, long h, long w, long c)
{
    return ts_take(&n->ctx->arena, n->ctx->codec, TS_DIM(f, h, w, c));
}

static ts_status norm_res(ts_res_net *n, const ts_layer *g, ts_tensor x, ts_act act, ts_tensor y)
{
    return ts_vae_norm(n->ctx, g, n->c.groups, 1e-6F, x, act, y);
}

/* y = l(x) + resid of a kernel of 3 */
static ts_status convolve_res(ts_res_net *n, const ts_layer *l, ts_tensor x, ts_tensor resid,
                              ts_tensor y)
{
    return n->kind->convolve(n->ctx, l, x, resid, y);
}

/* y = l(x) of a kernel of 1 */
static ts_status convolve_res_point(ts_res_net *n, const ts_layer *l, ts_tensor x, ts_tensor y)
{
    return ts_conv_op(n->ctx->dev,
                      (ts_conv){.x = x, .w = l->w, .b = l->b, .stride = {1, 1, 1}, .y = y});
}

/* A block that keeps its width works in place; one that changes it leaves its result in y and
 * spoils x. */
static ts_status run_res_residual(ts_res_net *n, const ts_res_residual *r, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    bool wide = r->in != r->out;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor none = {0}, t = take_res(n, x.dim[0], x.dim[1], x.dim[2], r->out),
              normal = wide ? x : take_res(n, x.dim[0], x.dim[1], x.dim[2], r->in);
    if (wide)
        TRY(convolve_res_point(n, &r->shortcut, x, y));
    else
        y = x;
    TRY(norm_res(n, &r->norm1, x, TS_ACT_SILU, normal));
    TRY(convolve_res(n, &r->conv1, normal, none, t));
    TRY(norm_res(n, &r->norm2, t, TS_ACT_SILU, t));
    TRY(convolve_res(n, &r->conv2, t, y, y));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status run_res_middle(ts_res_net *n, ts_tensor x)
{
    ts_status st = TS_OK;
    TRY(run_res_residual(n, &n->mid[0], x, x));
    if (n->c.attention)
        TRY(ts_vae_add_attention(n->ctx, &n->attention, n->c.groups, n->kind->attend, x));
    TRY(run_res_residual(n, &n->mid[1], x, x));
done:
    return st;
}

/* y, taken by the caller, = the block's last width at x's size. Only the first layer of a block
 * changes the width. */
static ts_status run_res_residuals(ts_res_net *n, const ts_res_block *b, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    for (int r = 0; r < b->n; r++) TRY(run_res_residual(n, b->res + r, r ? y : x, y));
done:
    return st;
}

static ts_status finish_res(ts_res_net *n, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    TRY(norm_res(n, &n->norm_out, x, TS_ACT_SILU, x));
    TRY(convolve_res(n, &n->conv_out, x, (ts_tensor){0}, y));
done:
    return st;
}

/* ---- decoder ---- */

/* Block i and what follows of x, which is the caller's and is spoilt. Each level's tensor is taken
 * before its block runs and given back when the last frame is out: the arena is a stack. */
static ts_status climb_res_from(ts_res_net *n, int i, ts_tensor x, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    const ts_res_block *b = n->block + i;
    long width = b->res[0].out, F = x.dim[0], H = x.dim[1], W = x.dim[2];
    ts_tensor same = b->res[0].in == width ? x : take_res(n, F, H, W, width);
    TRY(ts_weights_enter(n->weights, 1 + i));
    TRY(run_res_residuals(n, b, x, same));
    if (b->samples) {
        ts_tensor y = take_res(n, b->time ? 2 * F - 1 : F, 2 * H, 2 * W, width);
        TRY(n->kind->enlarge(n->ctx, &b->sample, b->time, same, y));
        TRY(climb_res_from(n, i + 1, y, out));
    } else {
        TRY(ts_weights_enter(n->weights, 1 + n->c.levels));
        TRY(finish_res(n, same, out));
    }
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

ts_status ts_res_decode(ts_res_net *n, ts_tensor z, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    long F = z.dim[0], H = z.dim[1], W = z.dim[2];
    ts_tensor x = take_res(n, F, H, W, n->conv_in.w->t.dim[0]), in = z;
    TRY(ts_weights_enter(n->weights, 0));
    if (n->c.post_quant) {
        in = take_res(n, F, H, W, n->c.z);
        TRY(convolve_res_point(n, &n->quant, z, in));
    }
    TRY(convolve_res(n, &n->conv_in, in, (ts_tensor){0}, x));
    TRY(run_res_middle(n, x));
    TRY(climb_res_from(n, 0, x, out));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* ---- encoder ---- */

static ts_status descend_res(ts_res_net *n, const ts_res_block *b, ts_tensor *x)
{
    ts_status st = TS_OK;
    long F = x->dim[0], H = x->dim[1], W = x->dim[2], width = b->res[0].out;
    ts_tensor same = b->res[0].in == width ? *x : take_res(n, F, H, W, width);
    TRY(run_res_residuals(n, b, *x, same));
    *x = same;
    if (!b->samples) goto done;
    *x = take_res(n, b->time ? (F - 1) / 2 + 1 : F, H / 2, W / 2, width);
    TRY(n->kind->reduce(n->ctx, &b->sample, b->time, same, *x));
done:
    return st;
}

ts_status ts_res_encode(ts_res_net *n, ts_tensor pixels, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    int first = n->c.levels + 2;
    ts_tensor x = take_res(n, pixels.dim[0], pixels.dim[1], pixels.dim[2], n->c.width[0]), y;
    TRY(ts_weights_enter(n->weights, first));
    TRY(convolve_res(n, &n->conv_in, pixels, (ts_tensor){0}, x));
    for (int i = 0; i < n->c.levels; i++) {
        TRY(ts_weights_enter(n->weights, first + 1 + i));
        TRY(descend_res(n, n->block + i, &x));
    }
    TRY(ts_weights_enter(n->weights, first + 1 + n->c.levels));
    TRY(run_res_middle(n, x));
    y = n->c.quant ? take_res(n, x.dim[0], x.dim[1], x.dim[2], 2L * n->c.z) : out;
    TRY(finish_res(n, x, y));
    if (n->c.quant) TRY(convolve_res_point(n, &n->quant, y, out));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}
