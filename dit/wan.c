/* WanTransformer3DModel (Wan 2.1 and 2.2, text to video), as diffusers defines it
 * (models/transformers/transformer_wan.py): config, weights and what is made once a run. With t the
 * timestep, c the text:
 *
 *   emb = mlp(sincos(t)), e = proj(silu(emb)), text = mlp(c)
 *
 * Queries and keys have their rms taken over all heads together and are turned by their positions;
 * blocks are those of adaln.c. Image-to-video variants (image_dim, added_kv_proj_dim) are
 * refused. */
#include "dit/adaln.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FREQ_DIM, FFN_DIM, CROSS_NORM, ROPE_MAX }; /* indices into ts_dit_info.params */

typedef struct {
    ts_adaln base;
    ts_layer time1, time2, time_proj, text1, text2;
} wan;

/* ---- describe ---- */

static ts_status sane(ts_ctx *ctx, const char *path, const ts_dit_info *o)
{
    const struct {
        const char *key;
        long got, least, most;
    } range[] = {
        {"num_layers", o->layers, 1, 4096},
        {"num_attention_heads", o->heads, 1, 4096},
        {"attention_head_dim", o->head_dim, 2, 4096},
        {"in_channels", o->in_channels, 1, 1 << 16},
        {"out_channels", o->out_channels, 1, 1 << 16},
        {"text_dim", o->text_dim, 1, 1 << 20},
        {"freq_dim", o->params[FREQ_DIM], 2, 1 << 16},
        {"ffn_dim", o->params[FFN_DIM], 1, 1 << 24},
        {"rope_max_seq_len", o->params[ROPE_MAX], 1, 1 << 24},
        {"patch_size", o->patch[0], 1, 64},
        {"patch_size", o->patch[1], 1, 64},
        {"patch_size", o->patch[2], 1, 64},
    };
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].got < range[i].least || range[i].got > range[i].most)
            return ts_fail(&ctx->err, TS_EMODEL, "%s: \"%s\" is %ld, expected %ld to %ld", path,
                           range[i].key, range[i].got, range[i].least, range[i].most);
    if (o->head_dim % 2)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"attention_head_dim\" is %d, expected an even number", path,
                       o->head_dim);
    if (o->params[FREQ_DIM] % 2)
        return ts_fail(&ctx->err, TS_EMODEL, "%s: \"freq_dim\" is %ld, expected an even number",
                       path, o->params[FREQ_DIM]);
    return TS_OK;
}

static ts_status describe(ts_ctx *ctx, const cJSON *config, const char *path, ts_dit_info *o)
{
    ts_status st;
    int freq = 256, ffn = 13824, rope = 1024, patches = 3;
    bool cross_norm = true;
    double eps = 1e-6;
    *o = (ts_dit_info){.layers = 40,
                       .heads = 40,
                       .head_dim = 128,
                       .in_channels = 16,
                       .out_channels = -1,
                       .patch = {1, 2, 2},
                       .text_dim = 4096};
    const ts_key key[] = {
        {"patch_size", TS_KEY_INTS, o->patch, 3, &patches, NULL},
        {"num_attention_heads", TS_KEY_INT, &o->heads, 0, NULL, NULL},
        {"attention_head_dim", TS_KEY_INT, &o->head_dim, 0, NULL, NULL},
        {"in_channels", TS_KEY_INT, &o->in_channels, 0, NULL, NULL},
        {"out_channels", TS_KEY_INT, &o->out_channels, 0, NULL, NULL},
        {"text_dim", TS_KEY_INT, &o->text_dim, 0, NULL, NULL},
        {"freq_dim", TS_KEY_INT, &freq, 0, NULL, NULL},
        {"ffn_dim", TS_KEY_INT, &ffn, 0, NULL, NULL},
        {"num_layers", TS_KEY_INT, &o->layers, 0, NULL, NULL},
        {"cross_attn_norm", TS_KEY_BOOL, &cross_norm, 0, NULL, NULL},
        {"qk_norm", TS_KEY_ONLY, NULL, 0, NULL, "\"rms_norm_across_heads\""},
        {"eps", TS_KEY_FLOAT, &eps, 0, NULL, NULL},
        {"image_dim", TS_KEY_ONLY, NULL, 0, NULL, "null"},
        {"added_kv_proj_dim", TS_KEY_ONLY, NULL, 0, NULL, "null"},
        {"rope_max_seq_len", TS_KEY_INT, &rope, 0, NULL, NULL},
        {"pos_embed_seq_len", TS_KEY_ONLY, NULL, 0, NULL, "null"},
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
    o->params[FREQ_DIM] = freq;
    o->params[FFN_DIM] = ffn;
    o->params[CROSS_NORM] = cross_norm;
    o->params[ROPE_MAX] = rope;
    o->eps = (float)eps;
    TRY(sane(ctx, path, o));
    o->dim = o->heads * o->head_dim;
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

static ts_status bind_block(ts_adaln *a, int i)
{
    ts_status st;
    ts_adaln_block *b = a->block + i;
    ts_weights *ws = a->weights;
    long D = a->info.dim;
    TRY(ts_adaln_bind_block(a, i, "blocks", "ffn", D, a->info.params[FFN_DIM]));
    TRY(bind_norms(ws, i, i, &b->self, D, i, "attn1"));
    TRY(bind_norms(ws, i, ts_adaln_group_text(a, i), &b->cross, D, i, "attn2"));
    if (a->info.params[CROSS_NORM]) {
        TRY(ts_find_vector(ws, i, &b->norm_w, 1, &D, "blocks.%d.norm2.weight", i));
        TRY(ts_find_vector(ws, i, &b->norm_b, 1, &D, "blocks.%d.norm2.bias", i));
    }
    TRY(ts_find_vector(ws, i, &b->table, 3, (long[]){1, 6, D}, "blocks.%d.scale_shift_table", i));
done:
    return st;
}

static ts_status bind(void *self, ts_ctx *ctx, const ts_dit_info *info, ts_weights *ws)
{
    ts_status st;
    wan *w = self;
    ts_adaln *a = &w->base;
    const int *p = info->patch;
    long D = info->dim, freq = info->params[FREQ_DIM];
    TRY(ts_adaln_bind(a, ctx, info, ws));
    int ends = ts_adaln_group_ends(a), embed = ts_adaln_group_embed(a);
    for (int i = 0; i < info->layers; i++) TRY(bind_block(a, i));
    TRY(ts_find_conv(ws, ends, &a->patch, 5, (long[]){D, info->in_channels, p[0], p[1], p[2]},
                     "patch_embedding"));
    TRY(ts_find_linear(ws, ends, &a->out, (long)p[0] * p[1] * p[2] * info->out_channels, D, true,
                       "proj_out"));
    TRY(ts_find_vector(ws, ends, &a->table, 3, (long[]){1, 2, D}, "scale_shift_table"));
    TRY(ts_find_linear(ws, embed, &w->time1, D, freq, true,
                       "condition_embedder.time_embedder.linear_1"));
    TRY(ts_find_linear(ws, embed, &w->time2, D, D, true,
                       "condition_embedder.time_embedder.linear_2"));
    TRY(ts_find_linear(ws, embed, &w->time_proj, 6 * D, D, true, "condition_embedder.time_proj"));
    TRY(ts_find_linear(ws, embed, &w->text1, D, info->text_dim, true,
                       "condition_embedder.text_embedder.linear_1"));
    TRY(ts_find_linear(ws, embed, &w->text2, D, D, true,
                       "condition_embedder.text_embedder.linear_2"));
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

/* Cosines (or sines) of the axis' positions, spread over the tokens of the grid. */
static ts_status spread(ts_adaln *a, int axis, ts_tensor from, ts_tensor to, long column)
{
    long half = a->info.head_dim / 2, H = a->grid.H, W = a->grid.W, n = from.dim[1];
    ts_copy c = {.src = from.p,
                 .dst = ts_at(to.p, (size_t)column * sizeof(float)),
                 .stype = TS_F32,
                 .dtype = TS_F32,
                 .nd = 4,
                 .dim = {a->grid.F, H, W, n},
                 .ss = {0, 0, 0, 1},
                 .ds = {H * W * half, W * half, half, 1}};
    c.ss[axis] = n;
    return ts_copy_op(a->ctx->dev, c);
}

/* Angle of channels (2j, 2j + 1) of an axis of d channels at position p: p 10000^(-2j / d). Angles
 * in f64, as the oracle's. */
static ts_status prepare_rope(ts_adaln *a)
{
    ts_status st = TS_OK;
    long width[3], length[3] = {a->grid.F, a->grid.H, a->grid.W}, column = 0;
    float *host = NULL;
    bool ordered = ts_there(a->grid.perm);
    ts_tensor cos_of = ordered ? ts_adaln_take(a, TS_F32, a->grid.N, a->info.head_dim / 2) : a->cos,
              sin_of = ordered ? ts_adaln_take(a, TS_F32, a->grid.N, a->info.head_dim / 2) : a->sin;
    axis_widths(a->info.head_dim, width);
    for (int axis = 0; axis < 3; axis++) {
        long n = length[axis], half = width[axis] / 2;
        if (!half) continue;
        ts_tensor both = ts_adaln_take(a, TS_F32, 2 * n, half);
        float *more = realloc(host, (size_t)(2 * n * half) * sizeof *host);
        if (!more)
            TRY(ts_fail(&a->ctx->err, TS_EMEMORY, "positions of %ld tokens: out of memory", n));
        host = more;
        for (long p = 0; p < n; p++)
            for (long j = 0; j < half; j++) {
                double angle = (double)p * pow(10000, -2.0 * (double)j / (double)width[axis]);
                host[p * half + j] = (float)cos(angle);
                host[(n + p) * half + j] = (float)sin(angle);
            }
        TRY(ts_adaln_upload(a, both, host));
        TRY(spread(a, axis, ts_row_range(both, 0, n), cos_of, column));
        TRY(spread(a, axis, ts_row_range(both, n, n), sin_of, column));
        column += half;
    }
    if (!ordered) goto done;
    TRY(ts_gather_op(a->ctx->dev, (ts_gather){cos_of, a->grid.perm, a->cos}));
    TRY(ts_gather_op(a->ctx->dev, (ts_gather){sin_of, a->grid.perm, a->sin}));
done:
    free(host);
    return st;
}

static ts_status prepare(void *self, const ts_grid *grid, const ts_dit_text *text, int texts,
                         const float *t, int nt)
{
    ts_status st;
    wan *w = self;
    ts_adaln *a = &w->base;
    ts_tensor c;
    long most = a->info.params[ROPE_MAX];
    if (grid->F > most || grid->H > most || grid->W > most)
        return ts_fail(&a->ctx->err, TS_EUSAGE,
                       "a grid of %d x %d x %d tokens: the model takes at most %ld along an axis",
                       grid->F, grid->H, grid->W, most);
    TRY(ts_adaln_begin(a, grid, text, texts, ts_dit_wan.text_rows, nt));
    a->cos = ts_adaln_take(a, TS_F32, grid->N, a->info.head_dim / 2);
    a->sin = ts_adaln_take(a, TS_F32, grid->N, a->info.head_dim / 2);
    size_t mark = ts_mark(&a->ctx->arena);
    st = ts_weights_enter(a->weights, ts_adaln_group_embed(a));
    if (st == TS_OK) st = ts_adaln_embed(a, &w->time1, &w->time2, t, nt, a->emb);
    if (st == TS_OK) st = ts_adaln_project(a, &w->time_proj);
    if (st == TS_OK) st = prepare_rope(a);
    if (st == TS_OK) st = ts_adaln_text(a, text, texts, &w->text1, &w->text2, &c);
    if (st == TS_OK) st = ts_adaln_keys_and_values(a, c);
    ts_release(&a->ctx->arena, mark);
done:
    return st;
}

static ts_tensor embedding(void *self, ts_eval e)
{
    wan *w = self;
    return ts_row_range(w->base.emb, e.trow, 1);
}

const ts_dit_class ts_dit_wan = {
    .cls = "WanTransformer3DModel",
    .size = sizeof(wan),
    .describe = describe,
    .bind = bind,
    .close = ts_adaln_unbind,
    .prepare = prepare,
    .enter = ts_adaln_enter,
    .block = ts_adaln_run_block,
    .leave = ts_adaln_leave,
    .embedding = embedding,
    .text_rows = 512,
};
