/* HunyuanVideoTransformer3DModel, as diffusers defines it
 * (models/transformers/transformer_hunyuan_video.py). With t the timestep, g the guidance, p the
 * pooled row of a text, e its embedding at a timestep:
 *
 *   e = mlp(sincos(t)) + mlp(sincos(1000 g)) + mlp(p)
 *   enter   video = conv(x), kernel = stride = patch;  text as hunyuanvideo_text.h has it
 *   dual    of video and text, each with its own weights: [shift_a scale_a gate_a shift_f scale_f
 *           gate_f] = M silu(e), n = ln(h) (1 + scale_a) + shift_a; queries and keys have their rms
 *           taken head by head, those of video are turned by their positions; attention is over
 *           both; h += gate_a O(..), h += gate_f W2 gelu(W1 (ln(h) (1 + scale_f) + shift_f))
 *   single  of both in one: [shift scale gate] = M silu(e), n = ln(h) (1 + scale) + shift,
 *           h += gate O [attention(n), gelu(W n)]
 *   leave   [scale shift] = M silu(e), v = P(ln(video) (1 + scale) + shift)
 *
 * Rows of a text behind its real ones are keys of nobody, so they are left out. The residual stream
 * h is f32, activations have the type of ctx->act. */
#include "dit/hunyuanvideo_files.h"
#include "dit/hunyuanvideo_text.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int dual, single, refiner;
    int pooled, patch, patch_t, axes[3], ff; /* ff: numbers of a feed-forward layer's middle */
    double mlp_ratio, theta;
    bool guidance;
} hunyuan_config;

typedef struct { /* of a dual block: one of its two streams */
    ts_layer mod, q, k, v, o, up, down;
    const ts_weight *norm_q, *norm_k;
} hunyuan_side;
typedef struct {
    hunyuan_side
        side[2]; /* of a dual block: video, text; of a single one the first, down: of both */
} hunyuan_block;
typedef struct {
    ts_ctx *ctx;
    ts_weights *weights;
    ts_dit_info info;
    const hunyuan_config *config;
    hunyuan_block *block;
    ts_hunyuan_text text;
    ts_layer time1, time2, guidance1, guidance2, pooled1, pooled2;
    ts_layer patch, norm_out, out;
    /* of a run */
    ts_grid grid;
    int nt;
    ts_tensor emb;      /* f32 [slots nt, D]: e of a slot's timesteps */
    ts_tensor cos, sin; /* f32 [N, d / 2] */
} hunyuan;

/* ---- describe ---- */

static ts_status check_hunyuan(ts_ctx *ctx, const char *path, const ts_dit_info *o,
                               const hunyuan_config *c)
{
    const ts_range range[] = {
        {"num_layers", c->dual, 0, 4096},
        {"num_single_layers", c->single, 0, 4096},
        {"num_layers and num_single_layers together", o->layers, 1, 4096},
        {"num_refiner_layers", c->refiner, 0, 256},
        {"num_attention_heads", o->heads, 1, 4096},
        {"attention_head_dim", o->head_dim, 2, 4096},
        {"in_channels", o->in_channels, 1, 1 << 16},
        {"out_channels", o->out_channels, 1, 1 << 16},
        {"text_embed_dim", o->text_dim, 1, 1 << 20},
        {"pooled_projection_dim", c->pooled, 1, 1 << 20},
        {"patch_size", c->patch, 1, 64},
        {"patch_size_t", c->patch_t, 1, 64},
        {"mlp_ratio times the width", c->ff, 1, 1 << 24},
    };
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st) return st;
    for (int i = 0; i < 3; i++)
        if (c->axes[i] < 0 || c->axes[i] % 2)
            return ts_fail(&ctx->err, TS_EMODEL,
                           "%s: \"rope_axes_dim\" has %d, expected even numbers", path, c->axes[i]);
    if (c->axes[0] + c->axes[1] + c->axes[2] != o->head_dim)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"rope_axes_dim\" adds up to %d, \"attention_head_dim\" is %d", path,
                       c->axes[0] + c->axes[1] + c->axes[2], o->head_dim);
    if (!(c->theta > 0))
        return ts_fail(&ctx->err, TS_EMODEL, "%s: \"rope_theta\" is %g, must be more than 0", path,
                       c->theta);
    return TS_OK;
}

static ts_status describe_hunyuan(ts_ctx *ctx, const cJSON *config, const char *path,
                                  ts_dit_info *o, void *own)
{
    ts_status st;
    hunyuan_config *c = own;
    int axes = 3;
    *c = (hunyuan_config){.dual = 20,
                          .single = 40,
                          .refiner = 2,
                          .pooled = 768,
                          .patch = 2,
                          .patch_t = 1,
                          .axes = {16, 56, 56},
                          .mlp_ratio = 4,
                          .theta = 256,
                          .guidance = true};
    *o = (ts_dit_info){.heads = 24,
                       .head_dim = 128,
                       .in_channels = 16,
                       .out_channels = 16,
                       .text_dim = 4096,
                       .eps = 1e-6F};
    const ts_key key[] = {
        {"in_channels", TS_KEY_INT, &o->in_channels, 0, NULL, NULL},
        {"out_channels", TS_KEY_INT, &o->out_channels, 0, NULL, NULL},
        {"num_attention_heads", TS_KEY_INT, &o->heads, 0, NULL, NULL},
        {"attention_head_dim", TS_KEY_INT, &o->head_dim, 0, NULL, NULL},
        {"num_layers", TS_KEY_INT, &c->dual, 0, NULL, NULL},
        {"num_single_layers", TS_KEY_INT, &c->single, 0, NULL, NULL},
        {"num_refiner_layers", TS_KEY_INT, &c->refiner, 0, NULL, NULL},
        {"mlp_ratio", TS_KEY_FLOAT, &c->mlp_ratio, 0, NULL, NULL},
        {"patch_size", TS_KEY_INT, &c->patch, 0, NULL, NULL},
        {"patch_size_t", TS_KEY_INT, &c->patch_t, 0, NULL, NULL},
        {"guidance_embeds", TS_KEY_BOOL, &c->guidance, 0, NULL, NULL},
        {"text_embed_dim", TS_KEY_INT, &o->text_dim, 0, NULL, NULL},
        {"pooled_projection_dim", TS_KEY_INT, &c->pooled, 0, NULL, NULL},
        {"rope_theta", TS_KEY_FLOAT, &c->theta, 0, NULL, NULL},
        {"rope_axes_dim", TS_KEY_INTS, c->axes, 3, &axes, NULL},
        TS_ONLY("qk_norm", "\"rms_norm\""),
        TS_ONLY("image_condition_type", "null"),
    };
    TRY(ts_config_read(ctx, config, path, key, (int)(sizeof key / sizeof *key)));
    if (axes != 3)
        TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: \"rope_axes_dim\" has %d numbers, expected 3", path,
                    axes));
    o->layers = c->dual + c->single;
    o->dim = o->heads * o->head_dim;
    o->patch[0] = c->patch_t;
    o->patch[1] = o->patch[2] = c->patch;
    o->pooled_dim = c->pooled;
    c->ff = c->mlp_ratio > 0 && c->mlp_ratio < 1024 ? (int)(o->dim * c->mlp_ratio) : 0;
    TRY(check_hunyuan(ctx, path, o, c));
done:
    return st;
}

/* ---- bind. Groups: blocks, then what enter and leave use, then what prepare uses ---- */

static int group_of_ends(const hunyuan *y) { return y->info.layers; }
static int group_of_embedders(const hunyuan *y) { return y->info.layers + 1; }

static ts_status bind_head_norms(hunyuan *y, const char *blocks, int group, int i, hunyuan_side *s,
                                 const char *added)
{
    ts_status st;
    long d = y->info.head_dim;
    TRY(ts_find_vector(y->weights, group, &s->norm_q, 1, &d, "%s.%d.attn.norm_%sq.weight", blocks,
                       i, added));
    TRY(ts_find_vector(y->weights, group, &s->norm_k, 1, &d, "%s.%d.attn.norm_%sk.weight", blocks,
                       i, added));
done:
    return st;
}

static ts_status bind_dual(hunyuan *y, int i)
{
    static const char blocks[] = "transformer_blocks";
    ts_status st;
    hunyuan_side *v = &y->block[i].side[0], *t = &y->block[i].side[1];
    long D = y->info.dim, M = y->config->ff;
    const ts_layer_row row[] = {
        TS_LINEAR(&v->mod, "norm1.linear", 6 * D, D),
        TS_LINEAR(&t->mod, "norm1_context.linear", 6 * D, D),
        TS_LINEAR(&v->q, "attn.to_q", D, D),
        TS_LINEAR(&t->q, "attn.add_q_proj", D, D),
        TS_LINEAR(&v->k, "attn.to_k", D, D),
        TS_LINEAR(&t->k, "attn.add_k_proj", D, D),
        TS_LINEAR(&v->v, "attn.to_v", D, D),
        TS_LINEAR(&t->v, "attn.add_v_proj", D, D),
        TS_LINEAR(&v->o, "attn.to_out.0", D, D),
        TS_LINEAR(&t->o, "attn.to_add_out", D, D),
        TS_LINEAR(&v->up, "ff.net.0.proj", M, D),
        TS_LINEAR(&t->up, "ff_context.net.0.proj", M, D),
        TS_LINEAR(&v->down, "ff.net.2", D, M),
        TS_LINEAR(&t->down, "ff_context.net.2", D, M),
    };
    TRY(ts_find_layers(y->weights, i, row, sizeof row / sizeof *row, blocks, i));
    TRY(bind_head_norms(y, blocks, i, i, v, ""));
    TRY(bind_head_norms(y, blocks, i, i, t, "added_"));
done:
    return st;
}

static ts_status bind_single(hunyuan *y, int i)
{
    static const char blocks[] = "single_transformer_blocks";
    ts_status st;
    int group = y->config->dual + i;
    hunyuan_side *s = &y->block[group].side[0];
    long D = y->info.dim, M = y->config->ff;
    const ts_layer_row row[] = {
        TS_LINEAR(&s->mod, "norm.linear", 3 * D, D), TS_LINEAR(&s->q, "attn.to_q", D, D),
        TS_LINEAR(&s->k, "attn.to_k", D, D),         TS_LINEAR(&s->v, "attn.to_v", D, D),
        TS_LINEAR(&s->up, "proj_mlp", M, D),         TS_LINEAR(&s->down, "proj_out", D, D + M),
    };
    TRY(ts_find_layers(y->weights, group, row, sizeof row / sizeof *row, blocks, i));
    TRY(bind_head_norms(y, blocks, group, i, s, ""));
done:
    return st;
}

static ts_status bind_hunyuan(void *self, ts_ctx *ctx, const ts_dit_info *info, const void *config,
                              ts_weights *ws)
{
    ts_status st;
    hunyuan *y = self;
    const hunyuan_config *c = config;
    const int *p = info->patch;
    long D = info->dim;
    y->ctx = ctx;
    y->weights = ws;
    y->info = *info;
    y->config = c;
    int ends = group_of_ends(y), embed = group_of_embedders(y);
    const ts_layer_row row[] = {
        TS_LINEAR(&y->time1, "time_text_embed.timestep_embedder.linear_1", D, TS_HUNYUAN_SINES),
        TS_LINEAR(&y->time2, "time_text_embed.timestep_embedder.linear_2", D, D),
        TS_LINEAR(&y->pooled1, "time_text_embed.text_embedder.linear_1", D, c->pooled),
        TS_LINEAR(&y->pooled2, "time_text_embed.text_embedder.linear_2", D, D),
        TS_LINEAR(&y->guidance1, "time_text_embed.guidance_embedder.linear_1", D, TS_HUNYUAN_SINES),
        TS_LINEAR(&y->guidance2, "time_text_embed.guidance_embedder.linear_2", D, D),
    };
    y->block = calloc((size_t)info->layers, sizeof *y->block);
    if (!y->block)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "a transformer of %d layers: out of memory",
                    info->layers));
    for (int i = 0; i < c->dual; i++) TRY(bind_dual(y, i));
    for (int i = 0; i < c->single; i++) TRY(bind_single(y, i));
    TRY(ts_find_conv(ws, ends, &y->patch, 5, (long[]){D, info->in_channels, p[0], p[1], p[2]},
                     "x_embedder.proj"));
    TRY(ts_find_linear(ws, ends, &y->norm_out, 2 * D, D, true, "norm_out.linear"));
    TRY(ts_find_linear(ws, ends, &y->out, (long)p[0] * p[1] * p[2] * info->out_channels, D, true,
                       "proj_out"));
    TRY(ts_find_layers(ws, embed, row, c->guidance ? 6 : 4, NULL, 0));
    TRY(ts_hunyuan_text_bind(&y->text, ctx, ws, &y->info, c->refiner, ends, embed));
done:
    return st;
}

static void close_hunyuan(void *self)
{
    hunyuan *y = self;
    free(y->block);
    ts_hunyuan_text_unbind(&y->text);
}

/* ---- prepare ---- */

static long count_hunyuan_text(const void *self, const ts_dit_inputs *in, int slot)
{
    ts_err ignored = {0};
    ts_host s;
    (void)self;
    bool found = !ts_bag_get(&ignored, in->text[slot], "states", TS_F32, 2, (long[]){-1, -1}, &s);
    return found ? s.dim[0] : 0; /* ts_dit_prepare says what is wrong with it */
}

static ts_status prepare_embeddings(hunyuan *y, const ts_dit_inputs *in, const float *t)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = y->ctx;
    long D = y->info.dim, P = y->config->pooled, n = in->slots;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor time = ts_part_take(ctx, TS_F32, y->nt, D), text = ts_part_take(ctx, TS_F32, n, D),
              told = ts_part_take(ctx, TS_F32, 1, D);
    float *pooled = malloc((size_t)(n * P) * sizeof *pooled),
          guidance = (float)(1000 * in->guidance);
    if (!pooled) TRY(ts_fail(&ctx->err, TS_EMEMORY, "%ld texts: out of memory", n));
    for (int i = 0; i < n; i++) {
        ts_host p;
        TRY(ts_bag_get(&ctx->err, in->text[i], "pooled", TS_F32, 2, (long[]){1, P}, &p));
        memcpy(pooled + i * P, p.data, (size_t)P * sizeof *pooled);
    }
    TRY(ts_part_embed(ctx, &y->time1, &y->time2, t, y->nt, time));
    if (y->config->guidance) {
        TRY(ts_part_embed(ctx, &y->guidance1, &y->guidance2, &guidance, 1, told));
        for (int i = 0; i < y->nt; i++)
            TRY(ts_part_add(ctx, ts_row_range(time, i, 1), told, ts_row_range(time, i, 1)));
    }
    TRY(ts_part_embed_rows(ctx, &y->pooled1, &y->pooled2, pooled, n, text));
    TRY(ts_hunyuan_join(ctx, time, text, y->emb));
done:
    ts_release(&ctx->arena, mark);
    free(pooled);
    return st;
}

static ts_status prepare_hunyuan(void *self, const ts_grid *grid, const ts_dit_inputs *in,
                                 const float *t, int nt)
{
    ts_status st;
    hunyuan *y = self;
    ts_ctx *ctx = y->ctx;
    const int *a = y->config->axes;
    long D = y->info.dim, half = y->info.head_dim / 2;
    y->grid = *grid;
    y->nt = nt;
    TRY(ts_hunyuan_text_carve(&y->text, in, nt));
    y->emb = ts_part_take(ctx, TS_F32, (long)in->slots * nt, D);
    y->cos = ts_part_take(ctx, TS_F32, grid->N, half);
    y->sin = ts_part_take(ctx, TS_F32, grid->N, half);
    TRY(ts_weights_enter(y->weights, group_of_embedders(y)));
    TRY(prepare_embeddings(y, in, t));
    TRY(ts_hunyuan_text_prepare(&y->text, in, t));
    TRY(ts_part_rope_indices(ctx, grid, (long[]){a[0], a[1], a[2]}, y->config->theta, y->cos,
                             y->sin));
done:
    return st;
}

/* ---- enter ---- */

static ts_tensor find_embedding(const hunyuan *y, ts_eval e)
{
    return ts_row_range(y->emb, (long)e.slot * y->nt + e.trow, 1);
}

static ts_status enter_hunyuan(void *self, ts_eval e, ts_tensor x, ts_tensor h)
{
    ts_status st;
    hunyuan *y = self;
    long N = y->grid.N;
    ts_tensor text = ts_row_range(h, N, h.dim[0] - N);
    TRY(ts_part_patchify(y->ctx, &y->patch, y->info.patch, x, (ts_tensor){0},
                         ts_row_range(h, 0, N)));
    TRY(ts_hunyuan_text_enter(&y->text, e, text));
done:
    return st;
}

/* ---- block ---- */

/* Queries and keys of rows of video are turned, those of text are not. */
static ts_status norm_and_turn(hunyuan *y, const hunyuan_side *s, bool turn, ts_tensor q,
                               ts_tensor k)
{
    ts_status st;
    int A = y->info.heads;
    ts_tensor heads[2] = {ts_part_heads(q, A), ts_part_heads(k, A)};
    TRY(ts_part_rms(y->ctx, s->norm_q, y->info.eps, heads[0]));
    TRY(ts_part_rms(y->ctx, s->norm_k, y->info.eps, heads[1]));
    for (int i = 0; turn && i < 2; i++) {
        heads[i].dim[0] = y->grid.N;
        TRY(ts_rope_op(y->ctx->dev, (ts_rope){.x = heads[i], .cos = y->cos, .sin = y->sin}));
    }
done:
    return st;
}

typedef struct {
    ts_tensor n, q, k, v; /* [T, D] */
} hunyuan_work;

static hunyuan_work take_stream(hunyuan *y, long T)
{
    long D = y->info.dim;
    ts_ctx *ctx = y->ctx;
    return (hunyuan_work){ts_part_take(ctx, ctx->act, T, D), ts_part_take(ctx, ctx->act, T, D),
                          ts_part_take(ctx, ctx->act, T, D), ts_part_take(ctx, ctx->act, T, D)};
}

/* n, q, k, v of rows first .. of the stream */
static ts_status project_side(hunyuan *y, const hunyuan_side *s, ts_modulation m, bool video,
                              long first, ts_tensor h, const hunyuan_work *w)
{
    ts_status st;
    ts_ctx *ctx = y->ctx;
    long rows = h.dim[0];
    ts_tensor n = ts_row_range(w->n, first, rows), q = ts_row_range(w->q, first, rows),
              k = ts_row_range(w->k, first, rows), v = ts_row_range(w->v, first, rows);
    TRY(ts_part_modulated(ctx, y->info.eps, m, 0, 1, h, n));
    TRY(ts_part_linear(ctx, &s->q, n, TS_ACT_NONE, q));
    TRY(ts_part_linear(ctx, &s->k, n, TS_ACT_NONE, k));
    TRY(ts_part_linear(ctx, &s->v, n, TS_ACT_NONE, v));
    TRY(norm_and_turn(y, s, video, q, k));
done:
    return st;
}

/* Rows that a feed-forward layer takes at once: its middle is the largest tensor of all. */
enum { SOME_ROWS = 1 << 14 };
static long some_rows(long all, long done)
{
    return all - done < SOME_ROWS ? all - done : SOME_ROWS;
}

static ts_status feed_side(hunyuan *y, const hunyuan_side *s, ts_modulation m, ts_tensor h)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = y->ctx;
    size_t mark = ts_mark(&ctx->arena);
    for (long i = 0, rows; i < h.dim[0]; i += rows) {
        rows = some_rows(h.dim[0], i);
        ts_tensor some = ts_row_range(h, i, rows),
                  n = ts_part_take(ctx, ctx->act, rows, y->info.dim),
                  u = ts_part_take(ctx, ctx->act, rows, y->config->ff);
        TRY(ts_part_modulated(ctx, y->info.eps, m, 3, 4, some, n));
        TRY(ts_part_linear(ctx, &s->up, n, TS_ACT_GELU_TANH, u));
        TRY(ts_part_add_gated(ctx, &s->down, u, m, 5, some));
        ts_release(&ctx->arena, mark);
    }
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status attend_stream(hunyuan *y, ts_attn *attn, const hunyuan_work *w, ts_tensor out)
{
    int A = y->info.heads;
    return ts_attend(attn, ts_part_heads(w->q, A), ts_part_heads(w->k, A), ts_part_heads(w->v, A),
                     ts_part_heads(out, A));
}

static ts_status run_dual(hunyuan *y, const hunyuan_block *b, ts_tensor emb, ts_attn *attn,
                          ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = y->ctx;
    long N = y->grid.N, T = h.dim[0], first[2] = {0, N}, rows[2] = {N, T - N};
    ts_modulation m[2];
    size_t mark = ts_mark(&ctx->arena), inner;
    for (int i = 0; i < 2; i++) TRY(ts_part_modulate(ctx, &b->side[i].mod, emb, &m[i]));
    inner = ts_mark(&ctx->arena);
    hunyuan_work w = take_stream(y, T);
    for (int i = 0; i < 2; i++)
        TRY(project_side(y, &b->side[i], m[i], i == 0, first[i], ts_row_range(h, first[i], rows[i]),
                         &w));
    TRY(attend_stream(y, attn, &w, w.n));
    for (int i = 0; i < 2; i++)
        TRY(ts_part_add_gated(ctx, &b->side[i].o, ts_row_range(w.n, first[i], rows[i]), m[i], 2,
                              ts_row_range(h, first[i], rows[i])));
    ts_release(&ctx->arena, inner);
    for (int i = 0; i < 2; i++)
        TRY(feed_side(y, &b->side[i], m[i], ts_row_range(h, first[i], rows[i])));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status run_single(hunyuan *y, const hunyuan_side *s, ts_tensor emb, ts_attn *attn,
                            ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = y->ctx;
    long T = h.dim[0], D = y->info.dim, M = y->config->ff;
    ts_modulation m;
    size_t mark = ts_mark(&ctx->arena), inner;
    TRY(ts_part_modulate(ctx, &s->mod, emb, &m));
    hunyuan_work w = take_stream(y, T);
    ts_tensor out = ts_part_take(ctx, ctx->act, T, D);
    TRY(project_side(y, s, m, true, 0, h, &w));
    TRY(attend_stream(y, attn, &w, out));
    inner = ts_mark(&ctx->arena);
    for (long i = 0, rows; i < T; i += rows) {
        rows = some_rows(T, i);
        ts_tensor both = ts_part_take(ctx, ctx->act, rows, D + M);
        TRY(ts_cast(ctx->dev, ts_row_range(out, i, rows), ts_columns(both, 0, D)));
        TRY(ts_part_linear(ctx, &s->up, ts_row_range(w.n, i, rows), TS_ACT_GELU_TANH,
                           ts_columns(both, D, M)));
        TRY(ts_part_add_gated(ctx, &s->down, both, m, 2, ts_row_range(h, i, rows)));
        ts_release(&ctx->arena, inner);
    }
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status run_hunyuan_block(void *self, int layer, ts_eval e, ts_attn *attn, ts_tensor h)
{
    hunyuan *y = self;
    const hunyuan_block *b = y->block + layer;
    ts_tensor emb = find_embedding(y, e);
    return layer < y->config->dual ? run_dual(y, b, emb, attn, h)
                                   : run_single(y, &b->side[0], emb, attn, h);
}

/* ---- leave ---- */

static ts_status leave_hunyuan(void *self, ts_eval e, ts_tensor h, ts_tensor v)
{
    ts_status st;
    hunyuan *y = self;
    ts_ctx *ctx = y->ctx;
    ts_modulation m; /* [1, 2 D]: scale, shift */
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, TS_F32, h.dim[0], y->info.dim),
              o = ts_part_take(ctx, TS_F32, h.dim[0], y->out.w->t.dim[0]);
    TRY(ts_part_modulate(ctx, &y->norm_out, find_embedding(y, e), &m));
    TRY(ts_part_modulated(ctx, y->info.eps, m, 1, 0, h, n));
    TRY(ts_part_linear(ctx, &y->out, n, TS_ACT_NONE, o));
    TRY(ts_part_move_patches(ctx, y->info.patch, v, o, false));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_tensor select_hunyuan_embedding(void *self, ts_eval e)
{
    hunyuan *y = self;
    return find_embedding(y, e);
}

const ts_dit_class ts_dit_hunyuanvideo = {
    .cls = "HunyuanVideoTransformer3DModel",
    .names = &ts_hunyuanvideo_names,
    .infer = ts_hunyuanvideo_infer,
    .size = sizeof(hunyuan),
    .config_size = sizeof(hunyuan_config),
    .describe = describe_hunyuan,
    .bind = bind_hunyuan,
    .close = close_hunyuan,
    .prepare = prepare_hunyuan,
    .rows = count_hunyuan_text,
    .enter = enter_hunyuan,
    .block = run_hunyuan_block,
    .leave = leave_hunyuan,
    .embedding = select_hunyuan_embedding,
};
