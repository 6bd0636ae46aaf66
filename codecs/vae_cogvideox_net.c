/* The network of AutoencoderKLCogVideoX, both ways.
 *
 * Causal convolutions carry the last two frames that they saw from chunk to chunk, and see the
 * first frame twice before there were any. Norms do not carry anything: their statistics are of a
 * chunk. Those of the decoder are guided by the chunk's latents z:
 *
 *   norm(x) = groupnorm(x) (Y z) + B z, z by its nearest neighbours at the size of x
 *
 * which is computed at the size of z. In time a chunk of an odd number of frames takes its first by
 * itself, here and where the size changes. Convolutions that change it see frame by frame. */
#include "codecs/vae_cogvideox.h"
#include "codecs/vae_parts.h"

#include <stdio.h>
#include <string.h>

static const float EPS = 1e-6F; /* of norms, but those of an encoder's residuals */

/* ---- binding ---- */

typedef struct {
    ts_cog_net *n;
    int group, level;
    ts_status st;
} cog_binder;

static ts_cog_conv bind_cog_conv(cog_binder *b, long out, long in, const char *name)
{
    ts_cog_net *n = b->n;
    ts_cog_conv c = {.in = in, .out = out, .past = n->convs};
    n->past[n->convs].level = b->level;
    n->past[n->convs++].width = in;
    if (!b->st)
        b->st = ts_find_conv(n->weights, b->group, &c.l, 5, (long[]){out, in, 3, 3, 3}, "%s.conv",
                             name);
    return c;
}

static ts_layer bind_cog_point(cog_binder *b, long out, long in, const char *name)
{
    ts_layer l = {NULL, NULL};
    if (!b->st)
        b->st = ts_find_conv(b->n->weights, b->group, &l, 5, (long[]){out, in, 1, 1, 1}, "%s",
                             name);
    return l;
}

/* Of a decoder with what latents say of it. */
static ts_cog_norm bind_cog_norm(cog_binder *b, long width, double eps, const char *name)
{
    char t[160];
    bool plain = b->n->encoder;
    ts_cog_norm n = {.width = width, .eps = plain ? (float)eps : EPS};
    if (!b->st)
        b->st = ts_find_norm(b->n->weights, b->group, &n.l, width, "%s%s", name,
                             plain ? "" : ".norm_layer");
    if (plain) return n;
    n.scale = bind_cog_point(b, width, b->n->c.z, ts_vae_name(t, name, "conv_y.conv"));
    n.shift = bind_cog_point(b, width, b->n->c.z, ts_vae_name(t, name, "conv_b.conv"));
    return n;
}

static ts_cog_residual bind_cog_residual(cog_binder *b, long out, long in, const char *name)
{
    char t[160];
    double eps = b->n->c.eps;
    ts_cog_residual r = {.norm1 = bind_cog_norm(b, in, eps, ts_vae_name(t, name, "norm1"))};
    r.conv1 = bind_cog_conv(b, out, in, ts_vae_name(t, name, "conv1"));
    r.norm2 = bind_cog_norm(b, out, eps, ts_vae_name(t, name, "norm2"));
    r.conv2 = bind_cog_conv(b, out, out, ts_vae_name(t, name, "conv2"));
    if (in != out) r.shortcut = bind_cog_point(b, out, in, ts_vae_name(t, name, "conv_shortcut"));
    return r;
}

static void bind_cog_block(cog_binder *b, int i, long out, long in)
{
    ts_cog_net *n = b->n;
    ts_cog_block *k = n->block + i;
    bool down = n->encoder;
    const char *half = down ? "encoder.down" : "decoder.up", *way = down ? "down" : "up";
    char name[96];
    k->group = b->group;
    k->n = n->c.residuals + !down;
    k->time = 1 << i < n->c.time;
    for (int r = 0; r < k->n; r++) {
        snprintf(name, sizeof name, "%s_blocks.%d.resnets.%d", half, i, r);
        k->res[r] = bind_cog_residual(b, out, r ? out : in, name);
    }
    if (i + 1 == n->c.levels) return;
    if (!b->st)
        b->st = ts_find_conv(n->weights, b->group, &k->sample, 4, (long[]){out, out, 3, 3},
                             "%s_blocks.%d.%ssamplers.0.conv", half, i, way);
    b->level++;
}

static void bind_cog_middle(cog_binder *b, long width, const char *half)
{
    char name[96];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.mid_block.resnets.%d", half, i);
        b->n->mid[i] = bind_cog_residual(b, width, width, name);
    }
}

/* Groups 0 to levels are the decoder's, what is before the blocks and each of them; as many and one
 * more the encoder's, the last what is behind its blocks. */
static int group_of_encoder(const ts_cog_net *n) { return n->c.levels + 1; }

static void bind_cog_decoder(cog_binder *b)
{
    ts_cog_net *n = b->n;
    int last = n->c.levels - 1;
    long width = n->c.width[last];
    n->conv_in = bind_cog_conv(b, width, n->c.z, "decoder.conv_in");
    bind_cog_middle(b, width, "decoder");
    for (int i = 0; i <= last; i++) {
        b->group = i + 1;
        bind_cog_block(b, i, n->c.width[last - i], width);
        width = n->c.width[last - i];
    }
    n->norm_out = bind_cog_norm(b, width, EPS, "decoder.norm_out");
    n->conv_out = bind_cog_conv(b, 3, width, "decoder.conv_out");
}

static void bind_cog_encoder(cog_binder *b)
{
    ts_cog_net *n = b->n;
    long width = n->c.width[0];
    b->group = group_of_encoder(n);
    n->conv_in = bind_cog_conv(b, width, 3, "encoder.conv_in");
    for (int i = 0; i < n->c.levels; i++) {
        b->group++;
        bind_cog_block(b, i, n->c.width[i], width);
        width = n->c.width[i];
    }
    b->group++;
    bind_cog_middle(b, width, "encoder");
    n->norm_out = bind_cog_norm(b, width, EPS, "encoder.norm_out");
    n->conv_out = bind_cog_conv(b, 2L * n->c.z, width, "encoder.conv_out");
}

ts_status ts_cog_bind(ts_cog_net *n, ts_ctx *ctx, ts_weights *w, const ts_vae_info *info,
                      bool encoder)
{
    memset(n, 0, sizeof *n);
    n->ctx = ctx;
    n->weights = w;
    n->encoder = encoder;
    n->c = *(const ts_cog_config *)info->config;
    cog_binder b = {.n = n};
    if (encoder)
        bind_cog_encoder(&b);
    else
        bind_cog_decoder(&b);
    return b.st;
}

/* ---- layers ---- */
void ts_cog_stream_begin(const ts_cog_net *n, ts_cog_stream *s, long h, long w, bool single)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < n->convs && !single; i++) {
        int level = n->past[i].level;
        long H = n->encoder ? h >> level : h << level, W = n->encoder ? w >> level : w << level;
        s->past[i] = ts_take(&n->ctx->arena, n->ctx->codec,
                             TS_DIM(TS_VAE_PAST, H, W, n->past[i].width));
    }
}

static ts_tensor take_cog(const ts_cog_net *n, long f, long h, long w, long c)
{
    return ts_take(&n->ctx->arena, n->ctx->codec, TS_DIM(f, h, w, c));
}

static ts_status convolve_cog(const ts_cog_net *n, ts_cog_stream *s, const ts_cog_conv *c,
                              ts_tensor in, ts_tensor resid, ts_tensor y)
{
    return ts_vae_convolve_causal(n->ctx, &c->l, in, s->past[c->past], s->begun, resid, y);
}

/* Which of `latents` frames is nearest to frame f of `frames`. */
static long nearest_latent(long f, long frames, long latents)
{
    if (frames == 1 || frames % 2 == 0) return f * latents / frames;
    return f ? 1 + (f - 1) * (latents - 1) / (frames - 1) : 0;
}

/* y [F, H, W, C] = y (Y z) + B z, z [F', h, w, z] */
static ts_status guide_by_latents(const ts_cog_net *n, const ts_cog_norm *k, ts_tensor z,
                                  ts_tensor y)
{
    ts_status st = TS_OK;
    ts_device *dev = n->ctx->dev;
    long F = y.dim[0], W = y.dim[2], C = k->width, h = z.dim[1], w = z.dim[2], r = W / w;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor scale = ts_take(&n->ctx->arena, TS_F32, TS_DIM(z.dim[0], h, w, C)),
              shift = ts_take(&n->ctx->arena, TS_F32, TS_DIM(z.dim[0], h, w, C));
    TRY(ts_linear_op(dev, (ts_linear){.x = z, .w = k->scale.w, .b = k->scale.b, .y = scale}));
    TRY(ts_linear_op(dev, (ts_linear){.x = z, .w = k->shift.w, .b = k->shift.b, .y = shift}));
    for (long f = 0; f < F; f++) {
        long from = nearest_latent(f, F, z.dim[0]);
        ts_strided of = {ts_vae_frames(y, f, 1).p, y.type, {r * W * C, W * C, r * C, C, 1}};
        TRY(ts_affine_op(
            dev, (ts_affine){.nd = 5,
                             .dim = {h, r, w, r, C},
                             .x = of,
                             .y = of,
                             .s = {ts_vae_frames(scale, from, 1).p, TS_F32, {w * C, 0, C, 0, 1}},
                             .b = {ts_vae_frames(shift, from, 1).p, TS_F32, {w * C, 0, C, 0, 1}}}));
    }
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* y [F, H, W, C] = silu(norm(x)); z [F', h, w, z]: what guides it, absent: of an encoder */
static ts_status norm_cog(const ts_cog_net *n, const ts_cog_norm *k, ts_tensor x, ts_tensor z,
                          ts_tensor y)
{
    ts_status st = TS_OK;
    TRY(ts_vae_norm(n->ctx, &k->l, n->c.groups, k->eps, x, TS_ACT_NONE, y));
    if (ts_there(z)) TRY(guide_by_latents(n, k, z, y));
    TRY(ts_activate_op(n->ctx->dev, (ts_activate){.act = TS_ACT_SILU, .x = y, .y = y}));
done:
    return st;
}

/* y = conv(silu(norm(x))) + resid */
static ts_status norm_then_convolve(const ts_cog_net *n, ts_cog_stream *s, const ts_cog_norm *k,
                                    const ts_cog_conv *c, ts_tensor x, ts_tensor z, ts_tensor resid,
                                    ts_tensor y)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor in = take_cog(n, TS_VAE_PAST + x.dim[0], x.dim[1], x.dim[2], c->in);
    TRY(norm_cog(n, k, x, z, ts_vae_frames(in, TS_VAE_PAST, x.dim[0])));
    TRY(convolve_cog(n, s, c, in, resid, y));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* A block that keeps its width works in place; *x is then what it was. */
static ts_status add_cog_residual(const ts_cog_net *n, ts_cog_stream *s, const ts_cog_residual *r,
                                  ts_tensor z, ts_tensor *x)
{
    ts_status st = TS_OK;
    ts_tensor none = {0},
              y = r->shortcut.w ? take_cog(n, x->dim[0], x->dim[1], x->dim[2], r->conv1.out) : *x;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor t = take_cog(n, x->dim[0], x->dim[1], x->dim[2], r->conv1.out);
    TRY(norm_then_convolve(n, s, &r->norm1, &r->conv1, *x, z, none, t));
    if (r->shortcut.w)
        TRY(ts_linear_op(n->ctx->dev,
                         (ts_linear){.x = *x, .w = r->shortcut.w, .b = r->shortcut.b, .y = y}));
    TRY(norm_then_convolve(n, s, &r->norm2, &r->conv2, t, z, y, y));
    *x = y;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* Frames that f of a chunk become where time doubles: an odd number keeps its first as it is. */
static long doubled_frames(long f) { return f % 2 ? 2 * f - 1 : 2 * f; }

/* *x twice as large, and where the block doubles time, each frame twice. */
static ts_status enlarge_cog(const ts_cog_net *n, const ts_cog_block *b, ts_tensor *x)
{
    ts_status st = TS_OK;
    long F = x->dim[0], out = b->time ? doubled_frames(F) : F;
    ts_tensor y = take_cog(n, out, 2 * x->dim[1], 2 * x->dim[2], x->dim[3]);
    for (long f = 0; f < F; f++) {
        long to = !b->time ? f : F % 2 ? f ? 2 * f - 1 : 0 : 2 * f;
        ts_tensor one = ts_vae_frames(y, to, 1);
        TRY(ts_vae_enlarge(n->ctx, &b->sample, ts_vae_frames(*x, f, 1), one));
        if (b->time && (f || F % 2 == 0))
            TRY(ts_cast(n->ctx->dev, one, ts_vae_frames(y, to + 1, 1)));
    }
    *x = y;
done:
    return st;
}

/* Frames that f of a chunk become where time is halved. */
static long halved_frames(long f) { return f % 2 ? f / 2 + 1 : f / 2; }

/* y = the pairs of frames of x in their middle, the first of an odd number by itself */
static ts_status halve_cog_time(const ts_cog_net *n, ts_tensor x, ts_tensor y)
{
    ts_status st = TS_OK;
    long odd = x.dim[0] % 2;
    if (odd) TRY(ts_cast(n->ctx->dev, ts_vae_frames(x, 0, 1), ts_vae_frames(y, 0, 1)));
    for (long f = odd; f < y.dim[0]; f++) {
        long pair = 2 * f - odd;
        TRY(ts_lincomb_op(n->ctx->dev, (ts_lincomb){.n = 2,
                                                    .c = {0.5F, 0.5F},
                                                    .x = {ts_vae_frames(x, pair, 1),
                                                          ts_vae_frames(x, pair + 1, 1)},
                                                    .y = ts_vae_frames(y, f, 1)}));
    }
done:
    return st;
}

/* *x half as large, and where the block halves time, half as many frames. */
static ts_status reduce_cog(const ts_cog_net *n, const ts_cog_block *b, ts_tensor *x)
{
    ts_status st = TS_OK;
    long F = b->time ? halved_frames(x->dim[0]) : x->dim[0], H = x->dim[1], W = x->dim[2],
         C = x->dim[3];
    ts_tensor y = take_cog(n, F, H / 2, W / 2, C), in = *x;
    size_t mark = ts_mark(&n->ctx->arena);
    if (b->time && x->dim[0] > 1) {
        in = take_cog(n, F, H, W, C);
        TRY(halve_cog_time(n, *x, in));
    }
    TRY(ts_conv_op(n->ctx->dev, (ts_conv){.x = in,
                                          .w = b->sample.w,
                                          .b = b->sample.b,
                                          .stride = {1, 2, 2},
                                          .pad = {0, 0, 0, 1, 0, 1},
                                          .y = y}));
    *x = y;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* ---- chunks ---- */

/* *x [F, h, w, width] = the first convolution of what enters; the block that stays is the
 * caller's. */
static ts_status begin_cog(const ts_cog_net *n, ts_cog_stream *s, ts_tensor from, ts_tensor x)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    long F = from.dim[0];
    ts_tensor in = take_cog(n, TS_VAE_PAST + F, from.dim[1], from.dim[2], n->conv_in.in);
    TRY(ts_cast(n->ctx->dev, from, ts_vae_frames(in, TS_VAE_PAST, F)));
    TRY(convolve_cog(n, s, &n->conv_in, in, (ts_tensor){0}, x));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

ts_status ts_cog_decode(const ts_cog_net *n, ts_cog_stream *s, ts_tensor latents, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    long F = latents.dim[0], h = latents.dim[1], w = latents.dim[2];
    ts_tensor none = {0}, z = take_cog(n, F, h, w, n->c.z),
              x = take_cog(n, F, h, w, n->conv_in.out);
    TRY(ts_weights_enter(n->weights, 0));
    TRY(ts_cast(n->ctx->dev, latents, z));
    TRY(begin_cog(n, s, latents, x));
    for (int i = 0; i < 2; i++) TRY(add_cog_residual(n, s, &n->mid[i], z, &x));
    for (int i = 0; i < n->c.levels; i++) {
        const ts_cog_block *b = n->block + i;
        TRY(ts_weights_enter(n->weights, b->group));
        for (int r = 0; r < b->n; r++) TRY(add_cog_residual(n, s, &b->res[r], z, &x));
        if (b->sample.w) TRY(enlarge_cog(n, b, &x));
    }
    TRY(norm_then_convolve(n, s, &n->norm_out, &n->conv_out, x, z, none, out));
    s->begun = true;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

ts_status ts_cog_encode(const ts_cog_net *n, ts_cog_stream *s, ts_tensor pixels, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    int first = group_of_encoder(n);
    ts_tensor none = {0},
              x = take_cog(n, pixels.dim[0], pixels.dim[1], pixels.dim[2], n->conv_in.out);
    TRY(ts_weights_enter(n->weights, first));
    TRY(begin_cog(n, s, pixels, x));
    for (int i = 0; i < n->c.levels; i++) {
        const ts_cog_block *b = n->block + i;
        TRY(ts_weights_enter(n->weights, b->group));
        for (int r = 0; r < b->n; r++) TRY(add_cog_residual(n, s, &b->res[r], none, &x));
        if (b->sample.w) TRY(reduce_cog(n, b, &x));
    }
    TRY(ts_weights_enter(n->weights, first + n->c.levels + 1));
    for (int i = 0; i < 2; i++) TRY(add_cog_residual(n, s, &n->mid[i], none, &x));
    TRY(norm_then_convolve(n, s, &n->norm_out, &n->conv_out, x, none, none, out));
    s->begun = true;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}
