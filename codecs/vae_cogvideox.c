/* AutoencoderKLCogVideoX, as diffusers defines it
 * (models/autoencoders/autoencoder_kl_cogvideox.py): its config, and clips through its network
 * whole or in tiles.
 *
 * A clip is decoded in chunks of two latents and encoded in chunks of eight frames, the first of
 * which takes what is left over as well. Statistics of norms are of a chunk, so chunks are no
 * choice of ours. A whole frame leaves chunk by chunk; tiles take turns, each with its whole
 * sequence. */
#include "codecs/vae_cogvideox.h"
#include "codecs/vae_parts.h"
#include "codecs/vae_video_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 2, CHUNK_FRAMES = 8 }; /* latents; frames */

/* ---- config ---- */
static ts_status check_cog_config(ts_ctx *ctx, const char *path, const ts_cog_config *c,
                                  double scale)
{
    ts_err *e = &ctx->err;
    const ts_range range[] = {{"layers_per_block", c->residuals, 1, TS_COG_RESIDUALS - 1},
                              {"latent_channels", c->z, 1, 128},
                              {"norm_num_groups", c->groups, 1, 1 << 12},
                              {"temporal_compression_ratio", c->time, 1, 1 << (c->levels - 1)}};
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st) return st;
    if (c->time & (c->time - 1))
        return ts_fail(e, TS_EMODEL,
                       "%s: \"temporal_compression_ratio\" is %d, expected a power of two", path,
                       c->time);
    st = ts_vae_check_scale(ctx, path, scale);
    return st ? st : ts_vae_check_widths(ctx, path, c->width, c->levels, c->groups);
}

static ts_status describe_cog_vae(ts_ctx *ctx, const cJSON *json, const char *path, ts_vae_info *v,
                                  void *config)
{
    ts_status st = TS_OK;
    ts_cog_config c = {.width = {128, 256, 256, 512},
                       .levels = 4,
                       .residuals = 3,
                       .z = 16,
                       .groups = 32,
                       .time = 4};
    double scale = 1.15258426, eps = 1e-6;
    int height = 480, width = 720; /* its authors' tiles are half of them */
    ts_key keys[] = {TS_ONLY("in_channels", "3"),
                     TS_ONLY("out_channels", "3"),
                     {"latent_channels", TS_KEY_INT, &c.z, 0, NULL, NULL},
                     {"block_out_channels", TS_KEY_INTS, c.width, TS_COG_LEVELS, &c.levels, NULL},
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
                     {"invert_scale_latents", TS_KEY_BOOL, &v->images_as_decoded, 0, NULL, NULL},
                     {"sample_height", TS_KEY_INT, &height, 0, NULL, NULL},
                     {"sample_width", TS_KEY_INT, &width, 0, NULL, NULL},
                     /* lists, read apart; of precision */
                     TS_IGNORED("down_block_types"),
                     TS_IGNORED("up_block_types"),
                     TS_IGNORED("force_upcast")};
    memset(v, 0, sizeof *v);
    TRY(ts_config_read(ctx, json, path, keys, sizeof keys / sizeof *keys));
    TRY(check_cog_config(ctx, path, &c, scale));
    TRY(ts_vae_check_blocks(ctx, json, path, c.levels, "CogVideoXDownBlock3D",
                            "CogVideoXUpBlock3D"));
    c.eps = (float)eps;
    v->channels = c.z;
    v->time_stride = c.time;
    v->time_step = CHUNK;
    v->stride = 1 << (c.levels - 1);
    v->tile = (ts_vae_tile){width / 2 / v->stride * v->stride, height / 2 / v->stride * v->stride};
    v->overlap_w = 1 / 5.0;
    v->overlap_h = 1 / 6.0;
    for (int i = 0; i < c.z; i++) v->std[i] = (float)(1 / scale);
    *(ts_cog_config *)config = c;
    v->config = config;
done:
    return st;
}

/* ---- clips ---- */
struct ts_vae {
    ts_vae_decoding d; /* whole: a chunk, with tiles the clip */
    ts_cog_net net;
    ts_cog_stream stream;         /* without tiles */
    int next_latent, have, given; /* frames in `whole`, those handed out */
};

/* Latents of the chunk that begins at `first` of `all`. */
static int chunk_of(int all, int first)
{
    return first == 0 ? all == 1 ? 1 : CHUNK + all % 2 : CHUNK;
}

static int frames_of_chunk(const ts_vae *v, int latents)
{
    int t = v->d.info.time_stride;
    return latents % 2 ? (latents - 1) * t + 1 : latents * t;
}

static int count_chunks(int all) { return all < CHUNK ? 1 : all / CHUNK; }

static void close_cog(ts_vae *v)
{
    if (!v) return;
    free(v->d.rgb);
    free(v);
}

static ts_status open_cog(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_tensor z,
                          ts_vae_tile tile, ts_vae **out)
{
    ts_status st = TS_OK;
    int latents = (int)z.dim[0];
    ts_vae *v = calloc(1, sizeof *v);
    *out = NULL;
    if (!v) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a decoder");
    TRY(ts_vae_decoding_begin(&v->d, ctx, info, z, tile, "frame"));
    TRY(ts_cog_bind(&v->net, ctx, w, info, false));
    bool tiled = v->d.tiles > 1;
    TRY(ts_vae_decoding_carve(&v->d, frames_of_chunk(v, tiled ? latents : chunk_of(latents, 0)),
                              info->stride, 3));
    if (!tiled)
        ts_cog_stream_begin(&v->net, &v->stream, z.dim[1], z.dim[2], count_chunks(latents) == 1);
    *out = v;
    v = NULL;
done:
    close_cog(v);
    return st;
}

/* The chunk of tile (i, j) that begins at a latent, through its stream into out. */
static ts_status decode_cog_chunk(ts_vae *v, ts_cog_stream *s, int i, int j, int first,
                                  ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&v->d.ctx->arena);
    ts_tensor z;
    TRY(ts_vae_decoding_latents(&v->d, i, j, first, chunk_of((int)v->d.z.dim[0], first), &z));
    TRY(ts_cog_decode(&v->net, s, z, out));
done:
    ts_release(&v->d.ctx->arena, mark);
    return st;
}

/* The whole sequence of tile (i, j), blended into the clip. */
static ts_status decode_cog_tile(ts_vae *v, int i, int j)
{
    ts_status st = TS_OK;
    ts_arena *a = &v->d.ctx->arena;
    size_t mark = ts_mark(a), inner;
    int latents = (int)v->d.z.dim[0], h = ts_vae_span(v->d.y, i), w = ts_vae_span(v->d.x, j),
        up = v->d.info.stride, chunks = count_chunks(latents), frame = 0, part = 0;
    ts_cog_stream s;
    ts_cog_stream_begin(&v->net, &s, h, w, chunks == 1);
    inner = ts_mark(a);
    for (int first = 0; first < latents; first += chunk_of(latents, first), part++) {
        int frames = frames_of_chunk(v, chunk_of(latents, first));
        ts_tensor t = ts_take(a, TS_F32, TS_DIM(frames, (long)h * up, (long)w * up, 3));
        ts_vae_progress(v->d.ctx, 0, (int)v->d.whole.dim[0], (i * v->d.x.n + j) * chunks + part,
                        v->d.tiles * chunks, v->d.began);
        TRY(decode_cog_chunk(v, &s, i, j, first, t));
        TRY(ts_vae_put_frames(&v->d.blend, i, j, frame, t));
        frame += frames;
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
    int latents = (int)v->d.z.dim[0], n = chunk_of(latents, v->next_latent);
    v->given = 0;
    if (v->d.tiles == 1) {
        v->have = frames_of_chunk(v, n);
        TRY(decode_cog_chunk(v, &v->stream, 0, 0, v->next_latent,
                             ts_vae_frames(v->d.whole, 0, v->have)));
        v->next_latent += n;
        return TS_OK;
    }
    for (int k = 0; k < v->d.tiles; k++) TRY(decode_cog_tile(v, k / v->d.x.n, k % v->d.x.n));
    v->next_latent = latents;
    v->have = (int)v->d.whole.dim[0];
done:
    return st;
}

static ts_status next_cog(ts_vae *v, ts_frame *out, bool *end)
{
    ts_status st = TS_OK;
    *end = v->given == v->have && v->next_latent == v->d.z.dim[0];
    if (*end) return TS_OK;
    if (v->given == v->have) TRY(decode_cog_frames(v));
    TRY(ts_vae_decoding_give(&v->d, ts_vae_frames(v->d.whole, v->given++, 1), 1, true, out));
done:
    return st;
}

/* ---- encode ---- */
typedef struct {
    ts_vae_encoding base;
    ts_cog_net net;
} cog_encoding;

/* Frames of the chunk that begins at `first` of `all`. */
static long frames_to_encode(long all, long first)
{
    if (all < CHUNK_FRAMES) return all;
    return first ? CHUNK_FRAMES : CHUNK_FRAMES + all % CHUNK_FRAMES;
}

static long latents_of_frames(const ts_vae_info *info, long frames)
{
    return (frames - 1) / info->time_stride + 1;
}

/* The whole sequence of tile (i, j), blended into the moments. */
static ts_status encode_cog_tile(cog_encoding *e, int i, int j)
{
    ts_status st = TS_OK;
    ts_arena *a = &e->base.ctx->arena;
    size_t mark = ts_mark(a), inner;
    int s = e->base.info->stride;
    long h = ts_vae_span(e->base.y, i), w = ts_vae_span(e->base.x, j), all = e->base.px.dim[0],
         latent = 0;
    ts_cog_stream stream;
    ts_cog_stream_begin(&e->net, &stream, h * s, w * s, frames_to_encode(all, 0) == all);
    inner = ts_mark(a);
    for (long first = 0, frames; first < all; first += frames) {
        frames = frames_to_encode(all, first);
        long latents = latents_of_frames(e->base.info, frames);
        ts_tensor m, in;
        TRY(ts_vae_encoding_cut(&e->base, i, j, 1, first, frames, latents, &m, &in));
        TRY(ts_cog_encode(&e->net, &stream, in, m));
        TRY(ts_vae_put_frames(&e->base.blend, i, j, latent, m));
        latent += latents;
        ts_release(a, inner);
    }
done:
    ts_release(a, mark);
    return st;
}

static ts_status encode_cog(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_host px,
                            ts_vae_tile tile, ts_tensor latent, ts_tensor moments)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&ctx->arena);
    cog_encoding c = {0};
    ts_vae_encoding *e = &c.base;
    TRY(ts_vae_encoding_begin(e, ctx, info, px, "frames", tile, moments));
    TRY(ts_cog_bind(&c.net, ctx, w, info, true));
    TRY(ts_vae_blend_open(&e->blend, ctx, e->y, e->x, 1, e->moments));
    for (int k = 0; k < e->y.n * e->x.n; k++) TRY(encode_cog_tile(&c, k / e->x.n, k % e->x.n));
    TRY(ts_vae_normalise(ctx, e->moments, e->scales, latent));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

const ts_vae_class ts_vae_cogvideox = {.cls = "AutoencoderKLCogVideoX",
                                       .names = &ts_vae_cogvideox_names,
                                       .infer = ts_vae_cogvideox_infer,
                                       .config_size = sizeof(ts_cog_config),
                                       .describe = describe_cog_vae,
                                       .open = open_cog,
                                       .next = next_cog,
                                       .close = close_cog,
                                       .encode = encode_cog};
