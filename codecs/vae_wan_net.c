/* The layers of AutoencoderKLWan (Wan 2.1 and 2.2; diffusers' autoencoder_kl_wan.py), run chunk by
 * chunk.
 *
 * A causal convolution of kernel kt sees kt - 1 frames before its own. Its input is one run of
 * frames, [past | now]; where the past does not exist yet it pads instead, which costs nothing for
 * taps that would only meet zeros. Causality lets everything go a frame at a time, so the decoder
 * follows each frame down to its pixels before it takes the next one.
 *
 * Caches. The pasts of all convolutions of one width and one level lie side by side, the last to
 * run first, with a spare frame behind them:
 *     [C0 C1][B0 B1][A0 A1] spare     A runs on [A0 A1 now] and keeps [A1 now]: the frame of A0,
 *     just behind B, is the spare one now. B runs on it, then C: spare [C0 C1][B0 B1][A0 A1]
 * So each input is written once and becomes the past where it lies; only when the end of the cache
 * is reached everything moves back. */
#include "codecs/vae_parts.h"
#include "codecs/vae_wan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- binding ---- */
/* frames: that the level has in a chunk */
typedef struct {
    ts_wan_net *n;
    int group, level, frames;
    ts_status st;
} wan_binder;

/* Convolutions are bound in the order in which they run. `own`: a cache for itself. */
static void share_cache(wan_binder *b, ts_wan_conv *c, int past, int step, bool own)
{
    ts_wan_net *n = b->n;
    int i = n->caches;
    for (int k = 0; k < n->caches && !own; k++)
        if (n->cache[k].width == c->in && n->cache[k].level == b->level && !n->cache[k].own) i = k;
    assert(i < TS_WAN_CACHES);
    if (i == n->caches)
        n->cache[n->caches++] = (ts_wan_cache){
            .width = c->in, .level = b->level, .past = past, .step = step, .own = own};
    c->cache = i;
    c->slot = n->cache[i].convs++;
}

static ts_wan_conv bind_wan_conv(wan_binder *b, long out, long in, int k, const char *name)
{
    ts_wan_conv c = {.in = in, .out = out, .kt = k};
    if (!b->st)
        b->st = ts_find_conv(b->n->weights, b->group, &c.l, 5, (long[]){out, in, k, k, k}, "%s",
                             name);
    if (k > 1) share_cache(b, &c, k - 1, 1, false);
    return c;
}

static ts_layer bind_wan_flat(wan_binder *b, long out, long in, int k, const char *name)
{
    ts_layer l = {NULL, NULL};
    if (!b->st)
        b->st = ts_find_conv(b->n->weights, b->group, &l, 4, (long[]){out, in, k, k}, "%s", name);
    return l;
}

static const ts_weight *bind_wan_gamma(wan_binder *b, long width, int nd, const char *name)
{
    const ts_weight *w = NULL;
    if (!b->st)
        b->st = ts_find_vector(b->n->weights, b->group, &w, nd, (long[]){width, 1, 1, 1},
                               "%s.gamma", name);
    return w;
}

static ts_wan_res bind_wan_residual(wan_binder *b, long in, long out, const char *name)
{
    char t[160];
    ts_wan_res r = {.wide = in != out};
    r.norm1 = bind_wan_gamma(b, in, 4, ts_vae_name(t, name, "norm1"));
    r.norm2 = bind_wan_gamma(b, out, 4, ts_vae_name(t, name, "norm2"));
    r.conv1 = bind_wan_conv(b, out, in, 3, ts_vae_name(t, name, "conv1"));
    r.conv2 = bind_wan_conv(b, out, out, 3, ts_vae_name(t, name, "conv2"));
    if (r.wide) r.shortcut = bind_wan_conv(b, out, in, 1, ts_vae_name(t, name, "conv_shortcut"));
    return r;
}

static ts_wan_mid bind_wan_middle(wan_binder *b, long width, const char *half)
{
    char name[96], t[160];
    ts_wan_mid m = {.group = b->group};
    snprintf(name, sizeof name, "%s.mid_block.resnets.0", half);
    m.res[0] = bind_wan_residual(b, width, width, name);
    snprintf(name, sizeof name, "%s.mid_block.resnets.1", half);
    m.res[1] = bind_wan_residual(b, width, width, name);
    snprintf(name, sizeof name, "%s.mid_block.attentions.0", half);
    m.attn.width = width;
    m.attn.norm = bind_wan_gamma(b, width, 3, ts_vae_name(t, name, "norm"));
    m.attn.qkv = bind_wan_flat(b, 3 * width, width, 1, ts_vae_name(t, name, "to_qkv"));
    m.attn.proj = bind_wan_flat(b, width, width, 1, ts_vae_name(t, name, "proj"));
    return m;
}

static ts_wan_sample bind_wan_sample(wan_binder *b, long in, long out, bool time, long time_out,
                                     const char *name)
{
    char t[160];
    ts_wan_sample s = {.exists = true, .time = time, .in = in, .out = out};
    s.conv = bind_wan_flat(b, out, in, 3, ts_vae_name(t, name, "resample.1"));
    if (time) {
        ts_wan_conv *c = &s.time_conv;
        *c = (ts_wan_conv){.in = in, .out = time_out, .kt = 3};
        if (!b->st)
            b->st = ts_find_conv(b->n->weights, b->group, &c->l, 5, (long[]){time_out, in, 3, 1, 1},
                                 "%s", ts_vae_name(t, name, "time_conv"));
        if (b->n->encoder) b->level++; /* it sees what has been made smaller */
        share_cache(b, c, b->n->encoder ? 1 : 2, b->frames, true);
        if (b->n->encoder) {
            b->level--;
            b->frames /= 2;
        }
    }
    b->level++;
    return s;
}

static void bind_wan_decoder(wan_binder *b)
{
    ts_wan_net *n = b->n;
    const ts_wan_config *c = &n->c;
    long width = (long)c->dec_base * c->mult[c->levels - 1];
    n->quant = (ts_layer){NULL, NULL};
    if (!b->st)
        b->st = ts_find_conv(n->weights, 0, &n->quant, 5, (long[]){c->z, c->z, 1, 1, 1},
                             "post_quant_conv");
    n->conv_in = bind_wan_conv(b, width, c->z, 3, "decoder.conv_in");
    n->mid = bind_wan_middle(b, width, "decoder");
    for (int i = 0; i < c->levels; i++) {
        char name[96];
        ts_wan_block *k = n->block + i;
        long out = (long)c->dec_base * c->mult[c->levels - 1 - i],
             in = i && !c->residual ? width / 2 : width;
        k->group = b->group = i + 1;
        k->n = c->res + 1;
        for (int r = 0; r < k->n; r++) {
            snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", i, r);
            k->res[r] = bind_wan_residual(b, r ? out : in, out, name);
        }
        if (i + 1 < c->levels) {
            bool time = c->time[c->levels - 2 - i];
            snprintf(name, sizeof name,
                     c->residual ? "decoder.up_blocks.%d.upsampler"
                                 : "decoder.up_blocks.%d.upsamplers.0",
                     i);
            k->sample = bind_wan_sample(b, out, c->residual ? out : out / 2, time, 2 * out, name);
        }
        width = out;
    }
    n->tail_group = b->group;
    n->norm_out = bind_wan_gamma(b, width, 4, "decoder.norm_out");
    n->conv_out = bind_wan_conv(b, c->out, width, 3, "decoder.conv_out");
}

static void bind_wan_encoder(wan_binder *b)
{
    ts_wan_net *n = b->n;
    const ts_wan_config *c = &n->c;
    long width = c->base;
    int flat = 0;
    n->conv_in = bind_wan_conv(b, width, c->in, 3, "encoder.conv_in");
    for (int i = 0; i < c->levels; i++) {
        char name[96];
        ts_wan_block *k = n->block + i;
        long out = (long)c->base * c->mult[i];
        k->group = b->group = i + 1;
        k->n = c->res;
        for (int r = 0; r < k->n; r++, flat++) {
            if (c->residual)
                snprintf(name, sizeof name, "encoder.down_blocks.%d.resnets.%d", i, r);
            else
                snprintf(name, sizeof name, "encoder.down_blocks.%d", flat);
            k->res[r] = bind_wan_residual(b, r ? out : width, out, name);
        }
        if (i + 1 < c->levels) {
            if (c->residual)
                snprintf(name, sizeof name, "encoder.down_blocks.%d.downsampler", i);
            else
                snprintf(name, sizeof name, "encoder.down_blocks.%d", flat);
            k->sample = bind_wan_sample(b, out, out, c->time[i], out, name);
            flat++;
        }
        width = out;
    }
    n->tail_group = b->group;
    n->mid = bind_wan_middle(b, width, "encoder");
    n->norm_out = bind_wan_gamma(b, width, 4, "encoder.norm_out");
    n->conv_out = bind_wan_conv(b, 2 * c->z, width, 3, "encoder.conv_out");
    if (!b->st)
        b->st = ts_find_conv(n->weights, b->group, &n->quant, 5,
                             (long[]){2 * c->z, 2 * c->z, 1, 1, 1}, "quant_conv");
}

ts_status ts_wan_bind(ts_wan_net *n, ts_ctx *ctx, ts_weights *w, const ts_vae_info *info,
                      bool encoder)
{
    memset(n, 0, sizeof *n);
    n->ctx = ctx;
    n->weights = w;
    n->encoder = encoder;
    n->c = *(const ts_wan_config *)info->config;
    wan_binder b = {.n = n, .frames = 1};
    for (int i = 0; encoder && i + 1 < n->c.levels; i++) b.frames <<= n->c.time[i];
    if (encoder)
        bind_wan_encoder(&b);
    else
        bind_wan_decoder(&b);
    return b.st;
}

/* ---- streams ---- */
/* spare frames of a cache; with more it would move back less often than every frame, which costs
 * some hundredths of the time */
enum { SPARE = 1 };

void ts_wan_stream_init(const ts_wan_net *n, ts_wan_stream *s, long h, long w, bool single)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < n->caches; i++) {
        const ts_wan_cache *l = n->cache + i;
        long frames = single ? 1 : (long)l->past * l->convs + (l->step > SPARE ? l->step : SPARE);
        long y = n->encoder ? h >> l->level : h << l->level,
             x = n->encoder ? w >> l->level : w << l->level;
        s->cache[i].t = ts_take(&n->ctx->arena, n->ctx->codec, TS_DIM(frames, y, x, l->width));
        s->cache[i].past = single ? 0 : l->past;
    }
}

/* ---- layers ---- */
static ts_tensor take_wan(ts_wan_net *n, long f, long h, long w, long c)
{
    return ts_take(&n->ctx->arena, n->ctx->codec, TS_DIM(f, h, w, c));
}

/* The input of a causal convolution for f frames: *in is all of it, *now the part that the frames
 * are to be written into. */
static ts_status begin_causal(ts_wan_net *n, ts_wan_stream *s, const ts_wan_conv *c, long f,
                              ts_tensor *in, ts_tensor *now)
{
    ts_status st = TS_OK;
    ts_wan_memory *l = s->cache + c->cache;
    long convs = n->cache[c->cache].convs, pasts = l->past * convs,
         have = l->seen < l->past ? l->seen : l->past;
    if (c->slot == 0 && l->at + pasts + f > l->t.dim[0]) {
        for (long i = 0; i < pasts; i++) {
            if (i % l->past < l->past - have) continue; /* nothing was there yet */
            TRY(ts_cast(n->ctx->dev, ts_vae_frames(l->t, l->at + i, 1), ts_vae_frames(l->t, i, 1)));
        }
        l->at = 0;
    }
    long first = l->at + l->past * (convs - c->slot);
    *in = ts_vae_frames(l->t, first - have, have + f);
    *now = ts_vae_frames(l->t, first, f);
done:
    return st;
}

/* Its f frames are the past from here on. */
static void advance_causal(ts_wan_net *n, ts_wan_stream *s, const ts_wan_conv *c, long f)
{
    if (c->slot + 1 == n->cache[c->cache].convs) {
        s->cache[c->cache].at += f;
        s->cache[c->cache].seen += f;
    }
}

static ts_status convolve_wan(ts_wan_net *n, ts_wan_stream *s, const ts_wan_conv *c, ts_tensor in,
                              int pad, ts_tensor resid, ts_tensor y)
{
    /* frames of the past that do not exist yet */
    int front = c->kt - 1 - (int)(in.dim[0] - y.dim[0]);
    ts_conv a = {.x = in,
                 .w = c->l.w,
                 .b = c->l.b,
                 .stride = {1, 1, 1},
                 .pad = {front, 0, pad, pad, pad, pad},
                 .resid = resid,
                 .y = y};
    if (c->kt > 1) advance_causal(n, s, c, y.dim[0]);
    return ts_conv_op(n->ctx->dev, a);
}

static ts_status norm_wan(ts_wan_net *n, ts_tensor x, const ts_weight *gamma, ts_act act,
                          ts_tensor y)
{
    return ts_norm_op(
        n->ctx->dev,
        (ts_norm){.kind = TS_NORM_L2, .eps = 1e-12f, .x = x, .w = gamma, .act = act, .y = y});
}

/* y = conv(silu(norm(x))) + resid */
static ts_status norm_and_convolve(ts_wan_net *n, ts_wan_stream *s, const ts_weight *gamma,
                                   const ts_wan_conv *c, ts_tensor x, ts_tensor resid, ts_tensor y)
{
    ts_status st = TS_OK;
    ts_tensor in, now;
    TRY(begin_causal(n, s, c, x.dim[0], &in, &now));
    TRY(norm_wan(n, x, gamma, TS_ACT_SILU, now));
    TRY(convolve_wan(n, s, c, in, 1, resid, y));
done:
    return st;
}

/* A block that keeps its width works in place; *x is then what it was. */
static ts_status wan_residual(ts_wan_net *n, ts_wan_stream *s, const ts_wan_res *r, ts_tensor *x)
{
    ts_status st = TS_OK;
    ts_tensor none = {0},
              y = r->wide ? take_wan(n, x->dim[0], x->dim[1], x->dim[2], r->conv1.out) : *x;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor t = take_wan(n, x->dim[0], x->dim[1], x->dim[2], r->conv1.out);
    TRY(norm_and_convolve(n, s, r->norm1, &r->conv1, *x, none, t));
    if (r->wide) TRY(convolve_wan(n, s, &r->shortcut, *x, 0, none, y));
    TRY(norm_and_convolve(n, s, r->norm2, &r->conv2, t, y, y));
    *x = y;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status wan_attend(ts_wan_net *n, const ts_wan_attn *a, ts_tensor x)
{
    ts_status st = TS_OK;
    ts_device *dev = n->ctx->dev;
    long F = x.dim[0], N = x.dim[1] * x.dim[2], C = a->width;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor rows = ts_view(x, TS_DIM(F * N, C)),
              in = ts_take(&n->ctx->arena, x.type, TS_DIM(F * N, C)),
              qkv = ts_take(&n->ctx->arena, x.type, TS_DIM(F * N, 3 * C));
    TRY(norm_wan(n, rows, a->norm, TS_ACT_NONE, in));
    TRY(ts_linear_op(dev, (ts_linear){.x = in, .w = a->qkv.w, .b = a->qkv.b, .y = qkv}));
    TRY(ts_vae_attend(n->ctx, F, ts_columns(qkv, 0, C), ts_columns(qkv, C, C),
                      ts_columns(qkv, 2 * C, C), in));
    TRY(ts_linear_op(
        dev, (ts_linear){.x = in, .w = a->proj.w, .b = a->proj.b, .resid = rows, .y = rows}));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status wan_middle(ts_wan_net *n, ts_wan_stream *s, ts_tensor x)
{
    ts_status st = TS_OK;
    TRY(ts_weights_enter(n->weights, n->mid.group));
    TRY(wan_residual(n, s, &n->mid.res[0], &x));
    TRY(wan_attend(n, &n->mid.attn, x));
    TRY(wan_residual(n, s, &n->mid.res[1], &x));
done:
    return st;
}

/* ---- decoder ---- */
/* A frame becomes two: channels 0..C-1 and C..2C-1 of one convolution. The first latent frame
 * passes, and those behind it do not see it. */
static ts_status double_time(ts_wan_net *n, ts_wan_stream *s, const ts_wan_sample *u, ts_tensor *x)
{
    ts_status st = TS_OK;
    long H = x->dim[1], W = x->dim[2], C = x->dim[3];
    ts_tensor none = {0}, y = take_wan(n, 2, H, W, C), in, now, two;
    size_t mark = ts_mark(&n->ctx->arena);
    TRY(begin_causal(n, s, &u->time_conv, 1, &in, &now));
    TRY(ts_cast(n->ctx->dev, *x, now));
    two = take_wan(n, 1, H, W, 2 * C);
    TRY(convolve_wan(n, s, &u->time_conv, in, 0, none, two));
    TRY(ts_copy_op(n->ctx->dev, (ts_copy){.src = two.p,
                                          .dst = y.p,
                                          .stype = two.type,
                                          .dtype = y.type,
                                          .nd = 3,
                                          .dim = {2, H * W, C},
                                          .ss = {C, 2 * C, 1},
                                          .ds = {H * W * C, C, 1}}));
    *x = y;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* x becomes the first frame of *out, which is then the rest. */
static ts_status wan_finish(ts_wan_net *n, ts_wan_stream *s, ts_tensor x, ts_tensor *out)
{
    ts_status st = TS_OK;
    ts_tensor none = {0}, y = ts_vae_frames(*out, 0, 1);
    TRY(ts_weights_enter(n->weights, n->tail_group));
    TRY(norm_and_convolve(n, s, n->norm_out, &n->conv_out, x, none, y));
    *out = ts_vae_frames(*out, 1, out->dim[0] - 1);
done:
    return st;
}

/* A block makes one frame [1, H, W, C] into one or two of twice the size. */
static ts_status wan_up_block(ts_wan_net *n, ts_wan_stream *s, const ts_wan_block *b, ts_tensor x,
                              ts_tensor y)
{
    ts_status st = TS_OK;
    const ts_wan_sample *u = &b->sample;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor first = x;
    /* the blocks work in place: what came in is needed once more */
    if (n->c.residual && !b->res[0].wide) {
        first = take_wan(n, 1, x.dim[1], x.dim[2], x.dim[3]);
        TRY(ts_cast(n->ctx->dev, x, first));
    }
    for (int r = 0; r < b->n; r++) TRY(wan_residual(n, s, &b->res[r], &x));
    if (y.dim[0] == 2) TRY(double_time(n, s, u, &x));
    TRY(ts_vae_enlarge(n->ctx, &u->conv, x, y));
    if (n->c.residual) {
        int ft = u->time ? 2 : 1;
        TRY(ts_resample_op(
            n->ctx->dev,
            (ts_resample){.ft = ft, .fs = 2, .drop = ft - (int)y.dim[0], .x = first, .y = y}));
    }
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* Frame x through blocks i.. to the next frames of *out. */
static ts_status wan_up_from(ts_wan_net *n, ts_wan_stream *s, int i, ts_tensor x, ts_tensor *out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    const ts_wan_block *b = n->block + i;
    TRY(ts_weights_enter(n->weights, b->group));
    if (b->sample.exists) {
        ts_tensor y = take_wan(n, b->sample.time && s->chunk > 0 ? 2 : 1, 2 * x.dim[1],
                               2 * x.dim[2], b->sample.out);
        TRY(wan_up_block(n, s, b, x, y));
        for (long f = 0; f < y.dim[0]; f++)
            TRY(wan_up_from(n, s, i + 1, ts_vae_frames(y, f, 1), out));
    } else {
        for (int r = 0; r < b->n; r++) TRY(wan_residual(n, s, &b->res[r], &x));
        TRY(wan_finish(n, s, x, out));
    }
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

ts_status ts_wan_decode_chunk(ts_wan_net *n, ts_wan_stream *s, ts_tensor z, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor none = {0}, in, now, x = take_wan(n, 1, z.dim[1], z.dim[2], n->conv_in.out);
    TRY(ts_weights_enter(n->weights, 0));
    TRY(begin_causal(n, s, &n->conv_in, 1, &in, &now));
    TRY(ts_linear_op(n->ctx->dev, (ts_linear){.x = z, .w = n->quant.w, .b = n->quant.b, .y = now}));
    TRY(convolve_wan(n, s, &n->conv_in, in, 1, none, x));
    TRY(wan_middle(n, s, x));
    TRY(wan_up_from(n, s, 0, x, &out));
    s->chunk++;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* ---- encoder ---- */
/* Frames 1.. of the sequence become one of three: (x[2k-2], x[2k-1], x[2k]); the first passes. */
static ts_status halve_time(ts_wan_net *n, ts_wan_stream *s, const ts_wan_sample *d, ts_tensor x,
                            ts_tensor y)
{
    ts_status st = TS_OK;
    const ts_wan_conv *c = &d->time_conv;
    ts_tensor in, now;
    TRY(begin_causal(n, s, c, x.dim[0], &in, &now));
    TRY(ts_cast(n->ctx->dev, x, now));
    advance_causal(n, s, c, x.dim[0]);
    if (s->chunk == 0)
        TRY(ts_cast(n->ctx->dev, x, y));
    else
        TRY(ts_conv_op(n->ctx->dev,
                       (ts_conv){.x = in, .w = c->l.w, .b = c->l.b, .stride = {2, 1, 1}, .y = y}));
done:
    return st;
}

/* y = the block's frames before time is halved, made from x one by one. `keep`: x is needed
 * afterwards. */
static ts_status wan_down_frames(ts_wan_net *n, ts_wan_stream *s, const ts_wan_block *b,
                                 ts_tensor x, bool keep, ts_tensor y)
{
    ts_status st = TS_OK;
    const ts_wan_sample *d = &b->sample;
    size_t mark = ts_mark(&n->ctx->arena);
    for (long f = 0; f < x.dim[0]; f++) {
        ts_tensor one = ts_vae_frames(x, f, 1), to = ts_vae_frames(y, f, 1);
        if (keep && !b->res[0].wide) { /* the blocks work in place */
            one = take_wan(n, 1, x.dim[1], x.dim[2], x.dim[3]);
            TRY(ts_cast(n->ctx->dev, ts_vae_frames(x, f, 1), one));
        }
        for (int r = 0; r < b->n; r++) TRY(wan_residual(n, s, &b->res[r], &one));
        if (d->exists)
            TRY(ts_conv_op(n->ctx->dev, (ts_conv){.x = one,
                                                  .w = d->conv.w,
                                                  .b = d->conv.b,
                                                  .stride = {1, 2, 2},
                                                  .pad = {0, 0, 0, 1, 0, 1},
                                                  .y = to}));
        else
            TRY(ts_cast(n->ctx->dev, one, to));
        ts_release(&n->ctx->arena, mark);
    }
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

static ts_status wan_down_block(ts_wan_net *n, ts_wan_stream *s, const ts_wan_block *b,
                                ts_tensor *x)
{
    ts_status st = TS_OK;
    const ts_wan_sample *d = &b->sample;
    bool time = d->exists && d->time;
    long F = x->dim[0], H = x->dim[1] >> d->exists, W = x->dim[2] >> d->exists,
         C = b->res[0].conv1.out;
    ts_tensor y = take_wan(n, time && s->chunk > 0 ? F / 2 : F, H, W, C), all = y;
    size_t mark = ts_mark(&n->ctx->arena);
    TRY(ts_weights_enter(n->weights, b->group));
    if (time) all = take_wan(n, F, H, W, C);
    TRY(wan_down_frames(n, s, b, *x, n->c.residual, all));
    if (time) TRY(halve_time(n, s, d, all, y));
    if (n->c.residual) {
        int ft = time ? 2 : 1;
        TRY(ts_resample_op(n->ctx->dev, (ts_resample){.reduce = true,
                                                      .ft = ft,
                                                      .fs = d->exists ? 2 : 1,
                                                      .drop = s->chunk == 0 ? ft - 1 : 0,
                                                      .x = *x,
                                                      .y = y}));
    }
    *x = y;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

ts_status ts_wan_encode_chunk(ts_wan_net *n, ts_wan_stream *s, ts_tensor pixels, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor none = {0}, in, now,
              x = take_wan(n, pixels.dim[0], pixels.dim[1], pixels.dim[2], n->conv_in.out), h;
    TRY(ts_weights_enter(n->weights, 0));
    for (long f = 0; f < x.dim[0]; f++) {
        TRY(begin_causal(n, s, &n->conv_in, 1, &in, &now));
        TRY(ts_cast(n->ctx->dev, ts_vae_frames(pixels, f, 1), now));
        TRY(convolve_wan(n, s, &n->conv_in, in, 1, none, ts_vae_frames(x, f, 1)));
    }
    for (int i = 0; i < n->c.levels; i++) TRY(wan_down_block(n, s, n->block + i, &x));
    TRY(wan_middle(n, s, x));
    h = take_wan(n, x.dim[0], x.dim[1], x.dim[2], n->conv_out.out);
    TRY(norm_and_convolve(n, s, n->norm_out, &n->conv_out, x, none, h));
    TRY(ts_linear_op(n->ctx->dev, (ts_linear){.x = h, .w = n->quant.w, .b = n->quant.b, .y = out}));
    s->chunk++;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}
