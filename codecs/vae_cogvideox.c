/* AutoencoderKLCogVideoX, its decoder, as diffusers defines it
 * (models/autoencoders/autoencoder_kl_cogvideox.py): config, layers, and clips whole or in tiles.
 *
 * A clip is decoded in chunks of two latents, the first of which takes one more where their number
 * is odd. Causal convolutions carry the last two frames that they saw from chunk to chunk, and see
 * the first frame twice before there were any. Norms do not carry anything: their statistics are of
 * a chunk, so chunks are no choice of ours. They are guided by the chunk's latents z:
 *
 *   norm(x) = groupnorm(x) (Y z) + B z, z by its nearest neighbours at the size of x
 *
 * which is computed at the size of z. In time a chunk of an odd number of frames takes its first by
 * itself. A whole frame leaves chunk by chunk; tiles take turns, each with its whole sequence. */
#include "codecs/vae_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS = 8, RESIDUALS = 8, CONVS = 192, PAST = 2, CHUNK = 2 };

typedef struct {                                           /* from config.json */
    int width[LEVELS], levels, residuals, z, groups, time; /* time: frames to a latent */
    float eps;
} cog_config;

/* ---- config ---- */
static ts_status check_cog_config(ts_ctx *ctx, const char *path, const cog_config *c, double scale)
{
    ts_err *e = &ctx->err;
    const ts_range range[] = {{"layers_per_block", c->residuals, 1, RESIDUALS - 1},
                              {"latent_channels", c->z, 1, 128},
                              {"norm_num_groups", c->groups, 1, 1 << 12},
                              {"temporal_compression_ratio", c->time, 1, 1 << (c->levels - 1)}};
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st) return st;
    if (c->time & (c->time - 1))
        return ts_fail(e, TS_EMODEL,
                       "%s: \"temporal_compression_ratio\" is %d, expected a power of two", path,
                       c->time);
    if (!(fabs(scale) > 1e-6 && fabs(scale) < 1e6))
        return ts_fail(e, TS_EMODEL, "%s: scaling_factor is %g, expected a number that is not 0",
                       path, scale);
    for (int i = 0; i < c->levels; i++)
        if (c->width[i] < 1 || c->width[i] % c->groups)
            return ts_fail(
                e, TS_EMODEL,
                "%s: block_out_channels[%d] is %d, must be a multiple of norm_num_groups, %d", path,
                i, c->width[i], c->groups);
    return TS_OK;
}

static ts_status describe_cog_vae(ts_ctx *ctx, const cJSON *json, const char *path, ts_vae_info *v,
                                  void *config)
{
    ts_status st = TS_OK;
    cog_config c = {.width = {128, 256, 256, 512},
                    .levels = 4,
                    .residuals = 3,
                    .z = 16,
                    .groups = 32,
                    .time = 4};
    double scale = 1.15258426, eps = 1e-6;
    ts_key keys[] = {TS_ONLY("in_channels", "3"),
                     TS_ONLY("out_channels", "3"),
                     {"latent_channels", TS_KEY_INT, &c.z, 0, NULL, NULL},
                     {"block_out_channels", TS_KEY_INTS, c.width, LEVELS, &c.levels, NULL},
                     {"layers_per_block", TS_KEY_INT, &c.residuals, 0, NULL, NULL},
                     {"norm_num_groups", TS_KEY_INT, &c.groups, 0, NULL, NULL},
                     {"norm_eps", TS_KEY_FLOAT, &eps, 0, NULL, NULL},
                     {"temporal_compression_ratio", TS_KEY_INT, &c.time, 0, NULL, NULL},
                     {"scaling_factor", TS_KEY_FLOAT, &scale, 0, NULL, NULL},
                     TS_ONLY("act_fn", "\"silu\""),
                     TS_ONLY("shift_factor", "null"),
                     TS_ONLY("latents_mean", "null"),
                     TS_ONLY("latents_std", "null"),
                     TS_ONLY("use_quant_conv", "false"),
                     TS_ONLY("use_post_quant_conv", "false"),
                     /* the one kind of block, of the encoder, of tiles and of precision */
                     TS_IGNORED("down_block_types"),
                     TS_IGNORED("up_block_types"),
                     TS_IGNORED("invert_scale_latents"),
                     TS_IGNORED("sample_height"),
                     TS_IGNORED("sample_width"),
                     TS_IGNORED("force_upcast")};
    memset(v, 0, sizeof *v);
    TRY(ts_config_read(ctx, json, path, keys, sizeof keys / sizeof *keys));
    TRY(check_cog_config(ctx, path, &c, scale));
    c.eps = (float)eps;
    v->channels = c.z;
    v->time_stride = c.time;
    v->time_step = CHUNK;
    v->stride = 1 << (c.levels - 1);
    for (int i = 0; i < c.z; i++) v->std[i] = (float)(1 / scale);
    *(cog_config *)config = c;
    v->config = config;
done:
    return st;
}

/* ---- the network ---- */
typedef struct { /* causal, 3 x 3 x 3 */
    ts_layer l;
    long in, out;
    int level, past; /* doublings of the latent's size before it; its place in a stream */
} cog_conv;
typedef struct {
    const ts_weight *w, *b;
    ts_layer scale, shift; /* Y and B */
    long width;
} cog_norm;
typedef struct {
    cog_norm norm1, norm2;
    cog_conv conv1, conv2;
    ts_layer shortcut; /* not bound: its input itself */
} cog_residual;
typedef struct {
    cog_residual res[RESIDUALS];
    int n, group;
    bool time;   /* doubles it */
    ts_layer up; /* not bound: the size stays */
} cog_block;
typedef struct {
    ts_ctx *ctx;
    ts_weights *weights;
    cog_config c;
    cog_conv conv_in, conv_out;
    cog_residual mid[2];
    cog_block block[LEVELS];
    cog_norm norm_out;
    int convs;
    struct {
        int level;
        long width;
    } past[CONVS];
} cog_net;

typedef struct {           /* a sequence on its way through the net */
    ts_tensor past[CONVS]; /* [PAST, H, W, in] of each convolution; absent: of a single chunk */
    bool begun;
} cog_stream;

typedef struct {
    cog_net *n;
    int group, level;
    ts_status st;
} cog_binder;

static cog_conv bind_cog_conv(cog_binder *b, long out, long in, const char *name)
{
    cog_net *n = b->n;
    cog_conv c = {.in = in, .out = out, .level = b->level, .past = n->convs};
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

static cog_norm bind_cog_norm(cog_binder *b, long width, const char *name)
{
    char t[160];
    cog_norm n = {.width = width};
    ts_weights *ws = b->n->weights;
    if (!b->st) b->st = ts_find_vector(ws, b->group, &n.w, 1, &width, "%s.norm_layer.weight", name);
    if (!b->st) b->st = ts_find_vector(ws, b->group, &n.b, 1, &width, "%s.norm_layer.bias", name);
    n.scale = bind_cog_point(b, width, b->n->c.z, ts_vae_name(t, name, "conv_y.conv"));
    n.shift = bind_cog_point(b, width, b->n->c.z, ts_vae_name(t, name, "conv_b.conv"));
    return n;
}

static cog_residual bind_cog_residual(cog_binder *b, long out, long in, const char *name)
{
    char t[160];
    cog_residual r = {.norm1 = bind_cog_norm(b, in, ts_vae_name(t, name, "norm1"))};
    r.conv1 = bind_cog_conv(b, out, in, ts_vae_name(t, name, "conv1"));
    r.norm2 = bind_cog_norm(b, out, ts_vae_name(t, name, "norm2"));
    r.conv2 = bind_cog_conv(b, out, out, ts_vae_name(t, name, "conv2"));
    if (in != out) r.shortcut = bind_cog_point(b, out, in, ts_vae_name(t, name, "conv_shortcut"));
    return r;
}

static void bind_cog_block(cog_binder *b, int i, long out, long in)
{
    cog_net *n = b->n;
    cog_block *k = n->block + i;
    char name[96];
    k->group = b->group = i + 1;
    k->n = n->c.residuals + 1;
    k->time = 1 << i < n->c.time;
    for (int r = 0; r < k->n; r++) {
        snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", i, r);
        k->res[r] = bind_cog_residual(b, out, r ? out : in, name);
    }
    if (i + 1 == n->c.levels) return;
    if (!b->st)
        b->st = ts_find_conv(n->weights, b->group, &k->up, 4, (long[]){out, out, 3, 3},
                             "decoder.up_blocks.%d.upsamplers.0.conv", i);
    b->level++;
}

static ts_status bind_cog_net(cog_net *n, ts_ctx *ctx, ts_weights *w, const ts_vae_info *info)
{
    memset(n, 0, sizeof *n);
    n->ctx = ctx;
    n->weights = w;
    n->c = *(const cog_config *)info->config;
    cog_binder b = {.n = n};
    int last = n->c.levels - 1;
    long width = n->c.width[last];
    n->conv_in = bind_cog_conv(&b, width, n->c.z, "decoder.conv_in");
    n->mid[0] = bind_cog_residual(&b, width, width, "decoder.mid_block.resnets.0");
    n->mid[1] = bind_cog_residual(&b, width, width, "decoder.mid_block.resnets.1");
    for (int i = 0; i <= last; i++) {
        bind_cog_block(&b, i, n->c.width[last - i], width);
        width = n->c.width[last - i];
    }
    n->norm_out = bind_cog_norm(&b, width, "decoder.norm_out");
    n->conv_out = bind_cog_conv(&b, 3, width, "decoder.conv_out");
    return b.st;
}

/* ---- layers ---- */
/* Carves what a stream of latents [., h, w, z] remembers; single: it has one chunk. */
static void begin_cog_stream(const cog_net *n, cog_stream *s, long h, long w, bool single)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < n->convs && !single; i++)
        s->past[i] = ts_take(
            &n->ctx->arena, n->ctx->codec,
            TS_DIM(PAST, h << n->past[i].level, w << n->past[i].level, n->past[i].width));
}

static ts_tensor take_cog(const cog_net *n, long f, long h, long w, long c)
{
    return ts_take(&n->ctx->arena, n->ctx->codec, TS_DIM(f, h, w, c));
}

/* Frames `now` of `in` [PAST + F, H, W, C] are there: those before them, then y = conv(in) + resid,
 * and what the next chunk will see of them. */
static ts_status convolve_cog(const cog_net *n, cog_stream *s, const cog_conv *c, ts_tensor in,
                              ts_tensor resid, ts_tensor y)
{
    ts_status st = TS_OK;
    ts_device *dev = n->ctx->dev;
    ts_tensor past = s->past[c->past];
    for (int i = 0; i < PAST; i++)
        TRY(ts_cast(dev, s->begun ? ts_vae_frames(past, i, 1) : ts_vae_frames(in, PAST, 1),
                    ts_vae_frames(in, i, 1)));
    if (ts_there(past)) TRY(ts_cast(dev, ts_vae_frames(in, in.dim[0] - PAST, PAST), past));
    TRY(ts_conv_op(dev, (ts_conv){.x = in,
                                  .w = c->l.w,
                                  .b = c->l.b,
                                  .stride = {1, 1, 1},
                                  .pad = {0, 0, 1, 1, 1, 1},
                                  .resid = resid,
                                  .y = y}));
done:
    return st;
}

/* Which of `latents` frames is nearest to frame f of `frames`. */
static long nearest_latent(long f, long frames, long latents)
{
    if (frames == 1 || frames % 2 == 0) return f * latents / frames;
    return f ? 1 + (f - 1) * (latents - 1) / (frames - 1) : 0;
}

/* y [F, H, W, C] = silu(norm(x)), guided by z [F', h, w, z] */
static ts_status norm_by_latents(const cog_net *n, const cog_norm *k, ts_tensor x, ts_tensor z,
                                 ts_tensor y)
{
    ts_status st = TS_OK;
    ts_device *dev = n->ctx->dev;
    long F = x.dim[0], W = x.dim[2], C = k->width, h = z.dim[1], w = z.dim[2], r = W / w;
    size_t mark = ts_mark(&n->ctx->arena), of_y = ts_dtype_size(y.type);
    ts_tensor scale = ts_take(&n->ctx->arena, TS_F32, TS_DIM(z.dim[0], h, w, C)),
              shift = ts_take(&n->ctx->arena, TS_F32, TS_DIM(z.dim[0], h, w, C));
    TRY(ts_linear_op(dev, (ts_linear){.x = z, .w = k->scale.w, .b = k->scale.b, .y = scale}));
    TRY(ts_linear_op(dev, (ts_linear){.x = z, .w = k->shift.w, .b = k->shift.b, .y = shift}));
    TRY(ts_norm_op(dev, (ts_norm){.kind = TS_NORM_GROUP,
                                  .groups = n->c.groups,
                                  .eps = n->c.eps,
                                  .x = x,
                                  .w = k->w,
                                  .b = k->b,
                                  .y = y}));
    for (long f = 0; f < F; f++) {
        long from = nearest_latent(f, F, z.dim[0]);
        ts_strided of = {ts_at(y.p, (size_t)(f * x.dim[1] * W * C) * of_y),
                         y.type,
                         {r * W * C, W * C, r * C, C, 1}};
        TRY(ts_affine_op(
            dev, (ts_affine){.nd = 5,
                             .dim = {h, r, w, r, C},
                             .x = of,
                             .y = of,
                             .s = {ts_vae_frames(scale, from, 1).p, TS_F32, {w * C, 0, C, 0, 1}},
                             .b = {ts_vae_frames(shift, from, 1).p, TS_F32, {w * C, 0, C, 0, 1}}}));
    }
    TRY(ts_activate_op(dev, (ts_activate){.act = TS_ACT_SILU, .x = y, .y = y}));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* y = conv(silu(norm(x))) + resid */
static ts_status norm_then_convolve(const cog_net *n, cog_stream *s, const cog_norm *k,
                                    const cog_conv *c, ts_tensor x, ts_tensor z, ts_tensor resid,
                                    ts_tensor y)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena);
    ts_tensor in = take_cog(n, PAST + x.dim[0], x.dim[1], x.dim[2], c->in);
    TRY(norm_by_latents(n, k, x, z, ts_vae_frames(in, PAST, x.dim[0])));
    TRY(convolve_cog(n, s, c, in, resid, y));
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* A block that keeps its width works in place; *x is then what it was. */
static ts_status add_cog_residual(const cog_net *n, cog_stream *s, const cog_residual *r,
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
static ts_status enlarge_cog(const cog_net *n, const cog_block *b, ts_tensor *x)
{
    ts_status st = TS_OK;
    long F = x->dim[0], out = b->time ? doubled_frames(F) : F;
    ts_tensor y = take_cog(n, out, 2 * x->dim[1], 2 * x->dim[2], x->dim[3]);
    for (long f = 0; f < F; f++) {
        long to = !b->time ? f : F % 2 ? f ? 2 * f - 1 : 0 : 2 * f;
        ts_tensor one = ts_vae_frames(y, to, 1);
        TRY(ts_vae_enlarge(n->ctx, &b->up, ts_vae_frames(*x, f, 1), one));
        if (b->time && (f || F % 2 == 0))
            TRY(ts_cast(n->ctx->dev, one, ts_vae_frames(y, to + 1, 1)));
    }
    *x = y;
done:
    return st;
}

/* Latents z [F', h, w, z] through the net in one chunk: out f32 [frames, H, W, 3]. */
static ts_status decode_cog(const cog_net *n, cog_stream *s, ts_tensor latents, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&n->ctx->arena), inner;
    long F = latents.dim[0], h = latents.dim[1], w = latents.dim[2];
    ts_tensor none = {0}, z = take_cog(n, F, h, w, n->c.z),
              x = take_cog(n, F, h, w, n->conv_in.out);
    inner = ts_mark(&n->ctx->arena);
    ts_tensor in = take_cog(n, PAST + F, h, w, n->c.z);
    TRY(ts_weights_enter(n->weights, 0));
    TRY(ts_cast(n->ctx->dev, latents, z));
    TRY(ts_cast(n->ctx->dev, latents, ts_vae_frames(in, PAST, F)));
    TRY(convolve_cog(n, s, &n->conv_in, in, none, x));
    ts_release(&n->ctx->arena, inner);
    for (int i = 0; i < 2; i++) TRY(add_cog_residual(n, s, &n->mid[i], z, &x));
    for (int i = 0; i < n->c.levels; i++) {
        const cog_block *b = n->block + i;
        TRY(ts_weights_enter(n->weights, b->group));
        for (int r = 0; r < b->n; r++) TRY(add_cog_residual(n, s, &b->res[r], z, &x));
        if (b->up.w) TRY(enlarge_cog(n, b, &x));
    }
    TRY(norm_then_convolve(n, s, &n->norm_out, &n->conv_out, x, z, none, out));
    s->begun = true;
done:
    ts_release(&n->ctx->arena, mark);
    return st;
}

/* ---- clips ---- */
struct ts_vae {
    ts_ctx *ctx;
    cog_net net;
    ts_vae_info info;
    ts_tensor z, scales;
    ts_vae_axis y, x;   /* in latents */
    cog_stream stream;  /* without tiles */
    ts_tensor whole;    /* f32 [frames, H, W, 3]: a chunk, with tiles the clip */
    ts_vae_blend blend; /* with tiles: into the clip */
    float *rgb;         /* host: one frame [H, W, 3] */
    /* the latent that comes next, frames in `whole`, those handed out, of the clip */
    int next_latent, have, given, index;
    double began;
};

/* Latents of the chunk that begins at `first` of `all`. */
static int chunk_of(int all, int first)
{
    return first == 0 ? all == 1 ? 1 : CHUNK + all % 2 : CHUNK;
}

static int frames_of_chunk(const ts_vae *v, int latents)
{
    int t = v->info.time_stride;
    return latents % 2 ? (latents - 1) * t + 1 : latents * t;
}

static int count_chunks(int all) { return all < CHUNK ? 1 : all / CHUNK; }

static void close_cog(ts_vae *v)
{
    if (!v) return;
    free(v->rgb);
    free(v);
}

static ts_status open_cog(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_tensor z,
                          ts_vae_tile tile, ts_vae **out)
{
    ts_status st = TS_OK;
    long H = z.dim[1] * info->stride, W = z.dim[2] * info->stride;
    int latents = (int)z.dim[0], frames;
    ts_vae *v = calloc(1, sizeof *v);
    *out = NULL;
    if (!v) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a decoder");
    v->ctx = ctx;
    v->info = *info;
    v->z = z;
    v->began = ts_seconds();
    TRY(ts_vae_axes(ctx, info, tile, z.dim[1], z.dim[2], &v->y, &v->x));
    TRY(bind_cog_net(&v->net, ctx, w, info));
    v->rgb = malloc((size_t)(H * W * 3) * sizeof *v->rgb);
    if (!v->rgb) TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for a frame of %ldx%ld", W, H));
    TRY(ts_vae_scales(ctx, info, false, &v->scales));
    bool tiled = v->y.n * v->x.n > 1;
    frames = frames_of_chunk(v, tiled ? latents : chunk_of(latents, 0));
    v->whole = ts_take(&ctx->arena, TS_F32, TS_DIM(frames, H, W, 3));
    if (tiled)
        TRY(ts_vae_blend_open(&v->blend, ctx, v->y, v->x, info->stride, v->whole));
    else
        begin_cog_stream(&v->net, &v->stream, z.dim[1], z.dim[2], count_chunks(latents) == 1);
    *out = v;
    v = NULL;
done:
    close_cog(v);
    return st;
}

/* The chunk of tile (i, j) that begins at a latent, through its stream into out. */
static ts_status decode_cog_chunk(ts_vae *v, cog_stream *s, int i, int j, int first, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&v->ctx->arena);
    int n = chunk_of((int)v->z.dim[0], first);
    ts_tensor z = ts_take(&v->ctx->arena, TS_F32,
                          TS_DIM(n, ts_vae_span(v->y, i), ts_vae_span(v->x, j), v->info.channels));
    for (int f = 0; f < n; f++)
        TRY(ts_vae_cut_latents(v->ctx, v->z, v->scales, v->y, v->x, i, j, first + f,
                               ts_vae_frames(z, f, 1)));
    TRY(decode_cog(&v->net, s, z, out));
done:
    ts_release(&v->ctx->arena, mark);
    return st;
}

/* The whole sequence of tile (i, j), blended into the clip. */
static ts_status decode_cog_tile(ts_vae *v, int i, int j)
{
    ts_status st = TS_OK;
    ts_arena *a = &v->ctx->arena;
    size_t mark = ts_mark(a), inner;
    int latents = (int)v->z.dim[0], h = ts_vae_span(v->y, i), w = ts_vae_span(v->x, j),
        up = v->info.stride, chunks = count_chunks(latents), frame = 0, part = 0;
    cog_stream s;
    begin_cog_stream(&v->net, &s, h, w, chunks == 1);
    inner = ts_mark(a);
    for (int first = 0; first < latents; first += chunk_of(latents, first), part++) {
        int frames = frames_of_chunk(v, chunk_of(latents, first));
        ts_tensor t = ts_take(a, TS_F32, TS_DIM(frames, (long)h * up, (long)w * up, 3));
        ts_vae_progress(v->ctx, 0, (int)v->whole.dim[0], (i * v->x.n + j) * chunks + part,
                        v->y.n * v->x.n * chunks, v->began);
        TRY(decode_cog_chunk(v, &s, i, j, first, t));
        for (int f = 0; f < frames; f++)
            TRY(ts_vae_blend_put(&v->blend, i, j, frame++, ts_vae_frames(t, f, 1)));
        ts_release(a, inner);
    }
done:
    ts_release(a, mark);
    return st;
}

/* More frames in `whole`: all of them, with tiles; else those of the next chunk. */
static ts_status decode_cog_frames(ts_vae *v)
{
    ts_status st = TS_OK;
    int latents = (int)v->z.dim[0], n = chunk_of(latents, v->next_latent);
    v->given = 0;
    if (v->y.n * v->x.n == 1) {
        v->have = frames_of_chunk(v, n);
        TRY(decode_cog_chunk(v, &v->stream, 0, 0, v->next_latent,
                             ts_vae_frames(v->whole, 0, v->have)));
        v->next_latent += n;
        return TS_OK;
    }
    for (int k = 0; k < v->y.n * v->x.n; k++) TRY(decode_cog_tile(v, k / v->x.n, k % v->x.n));
    v->next_latent = latents;
    v->have = (int)v->whole.dim[0];
done:
    return st;
}

static ts_status next_cog(ts_vae *v, ts_frame *out, bool *end)
{
    ts_status st = TS_OK;
    *end = v->given == v->have && v->next_latent == v->z.dim[0];
    if (*end) return TS_OK;
    if (v->given == v->have) TRY(decode_cog_frames(v));
    TRY(ts_vae_download(v->ctx, ts_vae_frames(v->whole, v->given++, 1), 1, true, "frame", v->index,
                        v->rgb, out));
    v->index++;
done:
    return st;
}

const ts_vae_class ts_vae_cogvideox = {.cls = "AutoencoderKLCogVideoX",
                                       .config_size = sizeof(cog_config),
                                       .describe = describe_cog_vae,
                                       .open = open_cog,
                                       .next = next_cog,
                                       .close = close_cog};
