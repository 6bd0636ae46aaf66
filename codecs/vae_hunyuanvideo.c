/* AutoencoderKLHunyuanVideo: its config, and clips through its network in tiles of time, and of
 * space where these are asked for.
 *
 * Tiles of time are its authors' own, whatever is asked for: a clip of more than 4 latent frames is
 * decoded 5 at a time, every 3, of which later tiles lose the first frame; 4 frames of each are
 * blended with what the tile before had become. Encoded are 17 frames at a time, every 12. */
#include "codecs/vae_hunyuanvideo.h"
#include "codecs/vae_video_files.h"

#include <stdlib.h>
#include <string.h>

/* latent frames: that are one tile, that a longer clip's tiles have and begin after */
enum { TILE_LEAST = 4, TILE_LATENTS = 5, TILE_STEP = 3 };

/* ---- config ---- */

static ts_status check_hy(ts_ctx *ctx, const char *path, const ts_res_config *c, int space,
                          int time, double scale)
{
    const ts_range range[] = {
        {"levels of block_out_channels", c->levels, 1, TS_RES_LEVELS},
        {"layers_per_block", c->res, 1, TS_RES_BLOCKS - 1},
        {"latent_channels", c->z, 1, 128},
        {"norm_num_groups", c->groups, 1, 1 << 16},
        {"temporal_compression_ratio", time, 1, 1 << (c->levels - 1)},
        {"spatial_compression_ratio", space, 1 << (c->levels - 1), 1 << (c->levels - 1)}};
    ts_status st = ts_config_ranges(ctx, path, range, sizeof range / sizeof *range);
    if (st) return st;
    st = ts_vae_check_widths(ctx, path, c->width, c->levels, c->groups);
    if (st) return st;
    if (time & (time - 1))
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: temporal_compression_ratio is %d, expected a power of 2", path, time);
    return ts_vae_check_scale(ctx, path, scale);
}

static ts_status describe_hy(ts_ctx *ctx, const cJSON *json, const char *path, ts_vae_info *v,
                             void *config)
{
    ts_status st;
    ts_res_config c = {.width = {128, 256, 512, 512},
                       .levels = 4,
                       .res = 2,
                       .z = 16,
                       .groups = 32,
                       .attention = true,
                       .quant = true,
                       .post_quant = true};
    double scale = 0.476986;
    int space = 8, time = 4;
    const ts_key keys[] = {
        TS_ONLY("in_channels", "3"),
        TS_ONLY("out_channels", "3"),
        {"latent_channels", TS_KEY_INT, &c.z, 0, NULL, NULL},
        {"block_out_channels", TS_KEY_INTS, c.width, TS_RES_LEVELS, &c.levels, NULL},
        {"layers_per_block", TS_KEY_INT, &c.res, 0, NULL, NULL},
        {"norm_num_groups", TS_KEY_INT, &c.groups, 0, NULL, NULL},
        {"scaling_factor", TS_KEY_FLOAT, &scale, 0, NULL, NULL},
        {"spatial_compression_ratio", TS_KEY_INT, &space, 0, NULL, NULL},
        {"temporal_compression_ratio", TS_KEY_INT, &time, 0, NULL, NULL},
        {"mid_block_add_attention", TS_KEY_BOOL, &c.attention, 0, NULL, NULL},
        TS_ONLY("act_fn", "\"silu\""),
        /* lists, read apart */
        TS_IGNORED("down_block_types"),
        TS_IGNORED("up_block_types"),
    };
    memset(v, 0, sizeof *v);
    TRY(ts_config_read(ctx, json, path, keys, sizeof keys / sizeof *keys));
    TRY(check_hy(ctx, path, &c, space, time, scale));
    TRY(ts_vae_check_blocks(ctx, json, path, c.levels, "HunyuanVideoDownBlock3D",
                            "HunyuanVideoUpBlock3D"));
    while (time >> c.times > 1) c.times++;
    v->channels = c.z;
    v->time_stride = time;
    v->stride = space;
    v->tile = (ts_vae_tile){256, 256};
    for (int i = 0; i < c.z; i++) v->std[i] = (float)(1 / scale);
    *(ts_res_config *)config = c;
    v->config = config;
done:
    return st;
}

/* ---- tiles of time ---- */

typedef struct {
    long first, latents; /* of the clip */
    bool dropped;        /* its first frame, decoded or latent, is the tile's before */
} time_tile;

static int count_time_tiles(long latents)
{
    return latents > TILE_LEAST ? (int)((latents + TILE_STEP - 1) / TILE_STEP) : 1;
}

static time_tile time_tile_of(long latents, int i)
{
    if (latents <= TILE_LEAST) return (time_tile){0, latents, false};
    long first = (long)i * TILE_STEP, left = latents - first;
    return (time_tile){first, left < TILE_LATENTS ? left : TILE_LATENTS, i > 0};
}

/* ---- decode ---- */
struct ts_vae {
    ts_vae_decoding d; /* whole: of a tile of time */
    ts_res_net net;
    ts_tensor tail;    /* the frames of the tile before that blend; absent: one tile */
    int tile, at, end; /* tiles of time done; frames of `whole` given, to give */
};

static void close_hy(ts_vae *v)
{
    if (!v) return;
    free(v->d.rgb);
    free(v);
}

static long frames_of_latents(const ts_vae_info *info, long latents)
{
    return (latents - 1) * info->time_stride + 1;
}

static ts_status open_hy(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_tensor z,
                         ts_vae_tile tile, ts_vae **out)
{
    ts_status st = TS_OK;
    long frames = frames_of_latents(info, time_tile_of(z.dim[0], 0).latents);
    ts_vae *v = calloc(1, sizeof *v);
    *out = NULL;
    if (!v) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a decoder");
    TRY(ts_vae_decoding_begin(&v->d, ctx, info, z, tile, "frame"));
    TRY(ts_res_bind(&v->net, &ts_hy_layers, ctx, w, info, false));
    TRY(ts_vae_decoding_carve(&v->d, frames, info->stride, 3));
    if (count_time_tiles(z.dim[0]) > 1)
        v->tail = ts_take(&ctx->arena, TS_F32,
                          TS_DIM(info->time_stride, v->d.whole.dim[1], v->d.whole.dim[2], 3));
    *out = v;
    v = NULL;
done:
    close_hy(v);
    return st;
}

/* Tile (i, j) of space of a tile of time into out [frames, h, w, 3]. */
static ts_status decode_hy_part(ts_vae *v, time_tile t, int i, int j, ts_tensor out)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&v->d.ctx->arena);
    ts_tensor z;
    TRY(ts_vae_decoding_latents(&v->d, i, j, t.first, t.latents, &z));
    TRY(ts_res_decode(&v->net, z, out));
done:
    ts_release(&v->d.ctx->arena, mark);
    return st;
}

/* All of a tile of time into `whole`. */
static ts_status decode_hy_time(ts_vae *v, time_tile t)
{
    ts_status st = TS_OK;
    ts_arena *a = &v->d.ctx->arena;
    size_t mark = ts_mark(a);
    int tiles = v->d.tiles, s = v->d.info.stride, parts = tiles * count_time_tiles(v->d.z.dim[0]);
    long frames = frames_of_latents(&v->d.info, t.latents);
    for (int k = 0; k < tiles; k++) {
        int i = k / v->d.x.n, j = k % v->d.x.n;
        ts_tensor out = ts_vae_frames(v->d.whole, 0, frames);
        if (tiles > 1)
            out = ts_take(
                a, TS_F32,
                TS_DIM(frames, ts_vae_span(v->d.y, i) * s, ts_vae_span(v->d.x, j) * s, 3));
        ts_vae_progress(v->d.ctx, v->d.index, (int)frames_of_latents(&v->d.info, v->d.z.dim[0]),
                        v->tile * tiles + k, parts, v->d.began);
        TRY(decode_hy_part(v, t, i, j, out));
        if (tiles > 1) TRY(ts_vae_put_frames(&v->d.blend, i, j, 0, out));
        ts_release(a, mark);
    }
done:
    ts_release(a, mark);
    return st;
}

/* The next frames of `whole`: blended with the tile before, and what blends with the next put
 * aside. */
static ts_status next_hy_tile(ts_vae *v)
{
    ts_status st = TS_OK;
    int e = v->d.info.time_stride; /* frames that blend */
    time_tile t = time_tile_of(v->d.z.dim[0], v->tile);
    int frames = (int)frames_of_latents(&v->d.info, t.latents);
    v->at = t.dropped;
    v->end = v->at;
    if (frames == v->at) goto done; /* one latent, which the tile before had */
    TRY(decode_hy_time(v, t));
    for (int k = 0; t.dropped && k < e && v->at + k < frames; k++) {
        float part = (float)k / (float)e;
        ts_tensor to = ts_vae_frames(v->d.whole, v->at + k, 1);
        TRY(ts_lincomb_op(v->d.ctx->dev, (ts_lincomb){.n = 2,
                                                      .c = {1 - part, part},
                                                      .x = {ts_vae_frames(v->tail, k, 1), to},
                                                      .y = to}));
    }
    /* the first tile keeps one frame more */
    v->end = ts_there(v->tail) ? TILE_STEP * e + 1 : frames;
    if (v->end > frames) v->end = frames;
    if (ts_there(v->tail) && v->end + e <= frames)
        TRY(ts_cast(v->d.ctx->dev, ts_vae_frames(v->d.whole, v->end, e), v->tail));
done:
    v->tile++;
    return st;
}

static ts_status next_hy(ts_vae *v, ts_frame *out, bool *end)
{
    ts_status st = TS_OK;
    while (v->at == v->end && v->tile < count_time_tiles(v->d.z.dim[0])) TRY(next_hy_tile(v));
    *end = v->at == v->end;
    if (*end) return TS_OK;
    TRY(ts_vae_decoding_give(&v->d, ts_vae_frames(v->d.whole, v->at++, 1), 1, true, out));
done:
    return st;
}

/* ---- encode ---- */
typedef struct {
    ts_vae_encoding base;
    ts_res_net net;
    ts_tensor part; /* moments of a tile of time, [latents, H, W, 2 C] */
} hy_encoding;

/* A tile of time into `part`. */
static ts_status encode_hy_time(hy_encoding *e, time_tile t)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&e->base.ctx->arena);
    long frames = frames_of_latents(e->base.info, t.latents);
    for (int k = 0; k < e->base.y.n * e->base.x.n; k++) {
        int i = k / e->base.x.n, j = k % e->base.x.n;
        ts_tensor m, in;
        TRY(ts_vae_encoding_cut(&e->base, i, j, 1, t.first * e->base.info->time_stride, frames,
                                t.latents, &m, &in));
        TRY(ts_res_encode(&e->net, in, m));
        TRY(ts_vae_put_frames(&e->base.blend, i, j, 0, m));
        ts_release(&e->base.ctx->arena, mark);
    }
done:
    ts_release(&e->base.ctx->arena, mark);
    return st;
}

/* Of later tiles the first latent is dropped, and blending one latent takes all of the next from
 * the tile before: so a tile of 5 gives its first 4 the first time, and then its last 3. */
static ts_status encode_hy_tiles(hy_encoding *e)
{
    ts_status st = TS_OK;
    long latents = e->base.latents;
    for (int k = 0; k < count_time_tiles(latents); k++) {
        time_tile t = time_tile_of(latents, k);
        long from = t.dropped ? 2 : 0;
        if (t.latents <= from) break;
        TRY(encode_hy_time(e, t));
        TRY(ts_cast(e->base.ctx->dev, ts_vae_frames(e->part, from, t.latents - from),
                    ts_vae_frames(e->base.moments, t.first + from, t.latents - from)));
    }
done:
    return st;
}

static ts_status encode_hy(ts_ctx *ctx, ts_weights *w, const ts_vae_info *info, ts_host px,
                           ts_vae_tile tile, ts_tensor latent, ts_tensor moments)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&ctx->arena);
    hy_encoding h = {0};
    ts_vae_encoding *e = &h.base;
    TRY(ts_vae_encoding_begin(e, ctx, info, px, "frames", tile, moments));
    TRY(ts_res_bind(&h.net, &ts_hy_layers, ctx, w, info, true));
    h.part = ts_take(
        &ctx->arena, TS_F32,
        TS_DIM(time_tile_of(e->latents, 0).latents, e->y.size, e->x.size, 2L * info->channels));
    TRY(ts_vae_blend_open(&e->blend, ctx, e->y, e->x, 1, h.part));
    TRY(encode_hy_tiles(&h));
    TRY(ts_vae_normalise(ctx, e->moments, e->scales, latent));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

const ts_vae_class ts_vae_hunyuanvideo = {.cls = "AutoencoderKLHunyuanVideo",
                                          .names = &ts_vae_hunyuanvideo_names,
                                          .infer = ts_vae_hunyuanvideo_infer,
                                          .config_size = sizeof(ts_res_config),
                                          .describe = describe_hy,
                                          .open = open_hy,
                                          .next = next_hy,
                                          .close = close_hy,
                                          .encode = encode_hy};
