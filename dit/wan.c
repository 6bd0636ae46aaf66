/* WanTransformer3DModel (Wan 2.1 and 2.2), as diffusers defines it
 * (models/transformers/transformer_wan.py): config, weights and what is made once a run. With t the
 * timestep, c the text:
 *
 *   emb = mlp(sincos(t)), e = proj(silu(emb)), text = mlp(c)
 *
 * Queries and keys have their rms taken over all heads together and are turned by their positions;
 * blocks are those of adaln.c. Image-to-video variants have channels for a mask and latents of the
 * pictures beside the sample's; those of 2.1 (image_dim, added_kv_proj_dim) also see states s of
 * their encoder:
 *
 *   pictures = ln(mlp(ln(s + positions))), positions where the pictures are two */
#include "dit/adaln.h"
#include "dit/wan_files.h"

#include <stdlib.h>

typedef struct {
    int freq_dim, ffn_dim; /* widths of the timestep's sines and of the feed-forward */
    int rope_max;          /* tokens along an axis */
    bool cross_norm;       /* a norm before cross-attention */
    int added_dim;         /* width of what keys and values of pictures read; 0: none */
} wan_config;

typedef struct {
    ts_adaln base;
    const wan_config *config;
    ts_layer time1, time2, time_proj, text1, text2;
    struct { /* not bound: it sees no pictures */
        ts_layer norm1, up, down, norm2;
        const ts_weight *positions; /* [1, rows, P]; NULL: none */
    } picture;
} wan;

/* ---- describe ---- */

static ts_status check_wan_ranges(ts_ctx *ctx, const char *path, const ts_dit_info *o,
                                  const wan_config *c)
{
    const ts_range range[] = {
        {"num_layers", o->layers, 1, 4096},
        {"num_attention_heads", o->heads, 1, 4096},
        {"attention_head_dim", o->head_dim, 2, 4096},
        {"in_channels", o->in_channels, 1, 1 << 16},
        {"out_channels", o->out_channels, 1, 1 << 16},
        {"text_dim", o->text_dim, 1, 1 << 20},
        {"freq_dim", c->freq_dim, 2, 1 << 16},
        {"ffn_dim", c->ffn_dim, 1, 1 << 24},
        {"rope_max_seq_len", c->rope_max, 1, 1 << 24},
        {"patch_size", o->patch[0], 1, 64},
        {"patch_size", o->patch[1], 1, 64},
        {"patch_size", o->patch[2], 1, 64},
        {"image_dim", o->picture_dim, 0, 1 << 20},
        {"pos_embed_seq_len", o->picture_rows, 0, 1 << 20},
    };
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st != TS_OK) return st;
    if (o->head_dim % 2)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"attention_head_dim\" is %d, expected an even number", path,
                       o->head_dim);
    if (c->freq_dim % 2)
        return ts_fail(&ctx->err, TS_EMODEL, "%s: \"freq_dim\" is %d, expected an even number",
                       path, c->freq_dim);
    int added = o->picture_dim ? o->heads * o->head_dim : 0;
    if (c->added_dim != added)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"added_kv_proj_dim\" is %d with \"image_dim\" %d, expected %d (0: "
                       "null)",
                       path, c->added_dim, o->picture_dim, added);
    if (o->picture_rows && !o->picture_dim)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"pos_embed_seq_len\" is %d without \"image_dim\"", path,
                       o->picture_rows);
    return TS_OK;
}

static ts_status describe_wan_dit(ts_ctx *ctx, const cJSON *config, const char *path,
                                  ts_dit_info *o, void *own)
{
    ts_status st;
    wan_config *c = own;
    int patches = 3;
    double eps = 1e-6;
    *c = (wan_config){.freq_dim = 256, .ffn_dim = 13824, .rope_max = 1024, .cross_norm = true};
    *o = (ts_dit_info){.layers = 40,
                       .heads = 40,
                       .head_dim = 128,
                       .in_channels = 16,
                       .out_channels = -1,
                       .patch = {1, 2, 2},
                       .text_dim = 4096};
    const ts_key key[] = {
        {"patch_size", TS_KEY_INTS, o->patch, 3, &patches, NULL},
        TS_DIT_KEYS(o),
        {"text_dim", TS_KEY_INT, &o->text_dim, 0, NULL, NULL},
        {"freq_dim", TS_KEY_INT, &c->freq_dim, 0, NULL, NULL},
        {"ffn_dim", TS_KEY_INT, &c->ffn_dim, 0, NULL, NULL},
        {"cross_attn_norm", TS_KEY_BOOL, &c->cross_norm, 0, NULL, NULL},
        TS_ONLY("qk_norm", "\"rms_norm_across_heads\""),
        {"eps", TS_KEY_FLOAT, &eps, 0, NULL, NULL},
        {"image_dim", TS_KEY_INT, &o->picture_dim, 0, NULL, NULL},
        {"added_kv_proj_dim", TS_KEY_INT, &c->added_dim, 0, NULL, NULL},
        {"rope_max_seq_len", TS_KEY_INT, &c->rope_max, 0, NULL, NULL},
        {"pos_embed_seq_len", TS_KEY_INT, &o->picture_rows, 0, NULL, NULL},
    };
    TRY(ts_config_read(ctx, config, path, key, (int)(sizeof key / sizeof *key)));
    const cJSON *out = cJSON_GetObjectItemCaseSensitive(config, "out_channels");
    if (!out)
        o->out_channels = 16;
    else if (cJSON_IsNull(out))
        o->out_channels = o->in_channels;
    if (patches != 3)
        TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: \"patch_size\" has %d numbers, expected 3", path,
                    patches));
    o->eps = (float)eps;
    TRY(check_wan_ranges(ctx, path, o, c));
    o->dim = o->heads * o->head_dim;
    if (o->in_channels > o->out_channels) o->beside = o->in_channels - o->out_channels;
done:
    return st;
}

/* ---- bind ---- */

static ts_status bind_norms(ts_weights *ws, int group, int kv, ts_adaln_attention *a, long D,
                            int layer, const char *name)
{
    ts_status st;
    TRY(ts_find_vector(ws, group, &a->norm_q, 1, &D, "blocks.%d.%s.norm_q.weight", layer, name));
    TRY(ts_find_vector(ws, kv, &a->norm_k, 1, &D, "blocks.%d.%s.norm_k.weight", layer, name));
done:
    return st;
}

static ts_status bind_wan_block(wan *w, int i)
{
    ts_status st;
    ts_adaln *a = &w->base;
    ts_adaln_block *b = a->block + i;
    ts_weights *ws = a->weights;
    long D = a->info.dim;
    TRY(ts_adaln_bind_block(a, i, "blocks", "ffn", D, w->config->ffn_dim));
    TRY(bind_norms(ws, i, i, &b->self, D, i, "attn1"));
    TRY(bind_norms(ws, i, ts_adaln_group_text(a, i), &b->cross, D, i, "attn2"));
    if (w->config->cross_norm) TRY(ts_find_norm(ws, i, &b->norm, D, "blocks.%d.norm2", i));
    TRY(ts_find_vector(ws, i, &b->table, 3, (long[]){1, 6, D}, "blocks.%d.scale_shift_table", i));
    if (!a->info.picture_dim) goto done;
    int text = ts_adaln_group_text(a, i);
    TRY(ts_find_linear(ws, text, &b->picture_k, D, D, true, "blocks.%d.attn2.add_k_proj", i));
    TRY(ts_find_linear(ws, text, &b->picture_v, D, D, true, "blocks.%d.attn2.add_v_proj", i));
    TRY(ts_find_vector(ws, text, &b->picture_norm, 1, &D, "blocks.%d.attn2.norm_added_k.weight",
                       i));
done:
    return st;
}

#define EMBEDDER "condition_embedder."
#define PICTURE EMBEDDER "image_embedder."
static ts_status bind_wan_pictures(wan *w)
{
    ts_status st = TS_OK;
    ts_adaln *a = &w->base;
    ts_weights *ws = a->weights;
    int g = ts_adaln_group_embed(a);
    long D = a->info.dim, P = a->info.picture_dim, rows = a->info.picture_rows;
    if (!P) goto done;
    const ts_layer_row row[] = {
        TS_NORM(&w->picture.norm1, PICTURE "norm1", P),
        TS_LINEAR(&w->picture.up, PICTURE "ff.net.0.proj", P, P),
        TS_LINEAR(&w->picture.down, PICTURE "ff.net.2", D, P),
        TS_NORM(&w->picture.norm2, PICTURE "norm2", D),
    };
    TRY(ts_find_layers(ws, g, row, sizeof row / sizeof *row, NULL, 0));
    if (rows)
        TRY(ts_find_vector(ws, g, &w->picture.positions, 3, (long[]){1, rows, P},
                           PICTURE "pos_embed"));
done:
    return st;
}

static ts_status bind_wan(void *self, ts_ctx *ctx, const ts_dit_info *info, const void *config,
                          ts_weights *ws)
{
    ts_status st;
    wan *w = self;
    ts_adaln *a = &w->base;
    const int *p = info->patch;
    long D = info->dim;
    w->config = config;
    const ts_layer_row row[] = {
        TS_LINEAR(&w->time1, EMBEDDER "time_embedder.linear_1", D, w->config->freq_dim),
        TS_LINEAR(&w->time2, EMBEDDER "time_embedder.linear_2", D, D),
        TS_LINEAR(&w->time_proj, EMBEDDER "time_proj", 6 * D, D),
        TS_LINEAR(&w->text1, EMBEDDER "text_embedder.linear_1", D, info->text_dim),
        TS_LINEAR(&w->text2, EMBEDDER "text_embedder.linear_2", D, D),
    };
    TRY(ts_adaln_bind(a, ctx, info, ws));
    int ends = ts_adaln_group_ends(a), embed = ts_adaln_group_embed(a);
    for (int i = 0; i < info->layers; i++) TRY(bind_wan_block(w, i));
    TRY(ts_find_conv(ws, ends, &a->patch, 5, (long[]){D, info->in_channels, p[0], p[1], p[2]},
                     "patch_embedding"));
    TRY(ts_find_linear(ws, ends, &a->out, (long)p[0] * p[1] * p[2] * info->out_channels, D, true,
                       "proj_out"));
    TRY(ts_find_vector(ws, ends, &a->table, 3, (long[]){1, 2, D}, "scale_shift_table"));
    TRY(ts_find_layers(ws, embed, row, sizeof row / sizeof *row, NULL, 0));
    TRY(bind_wan_pictures(w));
done:
    return st;
}

/* ---- prepare ---- */

/* Channels of a head along t, h, w. */
static void axis_widths(long head_dim, long width[3])
{
    width[1] = width[2] = 2 * (head_dim / 6);
    width[0] = head_dim - width[1] - width[2];
}

/* *out [R, D] of the inputs' pictures; it lives until the caller's mark. Absent: there are none. */
static ts_status embed_pictures(wan *w, const ts_dit_inputs *in, ts_tensor *out)
{
    static const float eps = 1e-5F; /* whatever the config's is */
    ts_status st = TS_OK;
    ts_ctx *ctx = w->base.ctx;
    *out = (ts_tensor){0};
    if (!in->picture.data) goto done;
    long R = in->picture.dim[0], P = in->picture.dim[1], D = w->base.info.dim;
    ts_tensor s = ts_part_take(ctx, TS_F32, R, P), x = ts_part_take(ctx, ctx->act, R, P),
              u = ts_part_take(ctx, ctx->act, R, P);
    *out = ts_part_take(ctx, ctx->act, R, D);
    TRY(ts_part_upload(ctx, s, in->picture.data));
    if (w->picture.positions)
        TRY(ts_part_add(ctx, s, ts_view(w->picture.positions->t, TS_DIM(R, P)), s));
    TRY(ts_part_norm(ctx, &w->picture.norm1, eps, s, x));
    TRY(ts_part_linear(ctx, &w->picture.up, x, TS_ACT_GELU, u));
    TRY(ts_part_linear(ctx, &w->picture.down, u, TS_ACT_NONE, *out));
    TRY(ts_part_norm(ctx, &w->picture.norm2, eps, *out, *out));
done:
    return st;
}

static ts_status prepare_wan_tables(wan *w, const ts_dit_inputs *in, const float *t, int nt)
{
    ts_status st;
    ts_adaln *a = &w->base;
    ts_ctx *ctx = a->ctx;
    ts_tensor c, pictures; /* [T, D], [R, D] */
    long width[3];
    size_t mark = ts_mark(&ctx->arena);
    TRY(ts_weights_enter(a->weights, ts_adaln_group_embed(a)));
    TRY(ts_part_embed(ctx, &w->time1, &w->time2, t, nt, a->emb));
    TRY(ts_part_project(ctx, &w->time_proj, a->emb, a->e6));
    axis_widths(a->info.head_dim, width);
    TRY(ts_part_rope_indices(ctx, &a->grid, width, 10000, a->cos, a->sin));
    TRY(ts_adaln_text(a, in, &w->text1, &w->text2, &c));
    TRY(embed_pictures(w, in, &pictures));
    TRY(ts_adaln_keys_and_values(a, c, pictures));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status prepare_wan(void *self, const ts_grid *grid, const ts_dit_inputs *in,
                             const float *t, int nt)
{
    ts_status st;
    wan *w = self;
    ts_adaln *a = &w->base;
    int most = w->config->rope_max;
    if (grid->F > most || grid->H > most || grid->W > most)
        TRY(ts_fail(&a->ctx->err, TS_EUSAGE,
                    "a grid of %d x %d x %d tokens: the model takes at most %d along an axis",
                    grid->F, grid->H, grid->W, most));
    TRY(ts_adaln_begin(a, grid, in, ts_dit_wan.text_rows, nt));
    a->cos = ts_part_take(a->ctx, TS_F32, grid->N, a->info.head_dim / 2);
    a->sin = ts_part_take(a->ctx, TS_F32, grid->N, a->info.head_dim / 2);
    TRY(prepare_wan_tables(w, in, t, nt));
done:
    return st;
}

static ts_tensor select_wan_embedding(void *self, ts_eval e)
{
    wan *w = self;
    return ts_row_range(w->base.emb, e.trow, 1);
}

const ts_dit_class ts_dit_wan = {
    .cls = "WanTransformer3DModel",
    .names = &ts_wan_names,
    .infer = ts_wan_infer,
    .size = sizeof(wan),
    .config_size = sizeof(wan_config),
    .describe = describe_wan_dit,
    .bind = bind_wan,
    .close = ts_adaln_unbind,
    .prepare = prepare_wan,
    .enter = ts_adaln_enter,
    .block = ts_adaln_run_block,
    .leave = ts_adaln_leave,
    .embedding = select_wan_embedding,
    .text_rows = 512,
};
