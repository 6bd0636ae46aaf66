/* PixArtTransformer2DModel (PixArt-alpha and PixArt-Sigma), as diffusers defines it (models/transformers/pixart_transformer_2d.py; Chen et al., PixArt-alpha, 2023). With t the timestep, c the
 * text, s a number of the picture (height, width, height / width; only where the checkpoint has their embedders):
 *
 *   emb = mlp(sincos(t)) + [mlp_r(sincos(height)) mlp_r(sincos(width)) mlp_a(sincos(height / width))],  e = W silu(emb),  text = mlp(c)       prepare
 *   h = conv(x) + positions, kernel = stride = patch                                                                                         enter
 *   [shift_a scale_a gate_a shift_f scale_f gate_f] = table + e                                                                              block
 *   h += gate_a O(attention(Q n, K n, V n)),      n = ln(h) (1 + scale_a) + shift_a
 *   h += O(attention(Q h, K text, V text))        on h itself: no norm, no gate
 *   h += gate_f W2 gelu(W1 n),                    n = ln(h) (1 + scale_f) + shift_f
 *   [shift scale] = table + emb, v = P(ln(h) (1 + scale) + shift)                                                                            leave
 *
 * Positions are fixed: [sin(x w) cos(x w) sin(y w) cos(y w)], w_i = 10000^(-4 i / D), with x and y stretched so that every grid spans that of the training size. Padded rows of the text are
 * masked in the reference (-10000 on their logits leaves exactly 0 of them in f32), so only the real rows are keys. Of the output's channels the first half is the noise, the second a variance
 * that samplers do not use. The residual stream h is f32, activations have the type of ctx->act. */
#include "dit/dit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TEXTS = 64, FREQ = 256 };                          /* FREQ: of sincos */
enum { SAMPLE_SIZE, CROSS_DIM, CAPTION_DIM, SCALE_BITS }; /* indices into ts_dit_info.params; CAPTION_DIM 0: the text enters as it is; SCALE_BITS: the interpolation scale, a double's bits */

typedef struct { ts_layer q, k, v, o; } attention;
typedef struct {
    attention self, cross;
    ts_layer up, down;
    ts_weight *table;     /* [6, D] */
} block;

typedef struct {
    ts_ctx *ctx;
    ts_weights *weights;
    ts_dit_info info;
    double scale;         /* of positions */
    block *block;
    ts_layer patch, out, time1, time2, modulate, text1, text2, size1, size2, aspect1, aspect2;
    ts_weight *table;     /* [2, D] */
    bool sized;           /* the checkpoint has size1 .. aspect2 */
    int height, width;    /* of the picture in pixels */
    /* the run's */
    ts_grid grid;
    ts_tensor emb, e6;    /* f32 [nt, D], [nt, 6 D] */
    ts_tensor positions;  /* f32 [N, D] */
    ts_tensor kv;         /* [layers 2 T, D]: keys then values of a layer; the texts' rows one after the other */
    long text_rows;       /* T */
    struct { long first, rows; } text[TEXTS];
} pixart;

/* Groups of weights: blocks, enter and leave, then what only prepare uses: embedders, and keys and values of the text for each block. */
static int group_ends(const pixart *p) { return p->info.layers; }
static int group_embed(const pixart *p) { return p->info.layers + 1; }
static int group_text(const pixart *p, int layer) { return p->info.layers + 2 + layer; }

/* ---- describe ---- */

static ts_status sane(ts_ctx *ctx, const char *path, const ts_dit_info *o, double scale)
{
    const struct { const char *key; long got, least, most; } range[] = {
        {"num_layers", o->layers, 1, 4096}, {"num_attention_heads", o->heads, 1, 4096}, {"attention_head_dim", o->head_dim, 1, 4096}, {"in_channels", o->in_channels, 1, 1 << 12},
        {"out_channels", o->out_channels, 1, 1 << 12}, {"caption_channels", o->params[CAPTION_DIM], 0, 1 << 20}, {"cross_attention_dim", o->params[CROSS_DIM], 1, 1 << 20},
        {"sample_size", o->params[SAMPLE_SIZE], 1, 1 << 14}, {"patch_size", o->patch[1], 1, 64},
    };
    long D = (long)o->heads * o->head_dim;
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].got < range[i].least || range[i].got > range[i].most)
            return ts_fail(&ctx->err, TS_EMODEL, "%s: \"%s\" is %ld, expected %ld to %ld", path, range[i].key, range[i].got, range[i].least, range[i].most);
    if (o->params[SAMPLE_SIZE] < o->patch[1])
        return ts_fail(&ctx->err, TS_EMODEL, "%s: \"sample_size\" is %ld, expected at least the \"patch_size\" of %d", path, o->params[SAMPLE_SIZE], o->patch[1]);
    if (!(scale > 0 && scale < 1e6)) return ts_fail(&ctx->err, TS_EMODEL, "%s: \"interpolation_scale\" is %g, expected a number above 0", path, scale);
    if (D % 4) return ts_fail(&ctx->err, TS_EMODEL, "%s: %d heads of %d are a width of %ld, expected a multiple of 4", path, o->heads, o->head_dim, D);
    if (o->params[CAPTION_DIM] && o->params[CROSS_DIM] != D)
        return ts_fail(&ctx->err, TS_EMODEL, "%s: \"cross_attention_dim\" is %ld, but the projected caption has %ld", path, o->params[CROSS_DIM], D);
    return TS_OK;
}

static ts_status describe(ts_ctx *ctx, const cJSON *config, const char *path, ts_dit_info *o)
{
    ts_status st;
    int sample = 128, patch = 2, cross = 1152, caption = 0;
    double eps = 1e-6, scale = 0;
    *o = (ts_dit_info){.layers = 28, .heads = 16, .head_dim = 72, .in_channels = 4, .out_channels = 8};
    const ts_key key[] = {
        {"num_attention_heads", TS_KEY_INT, &o->heads, 0, NULL, NULL},
        {"attention_head_dim", TS_KEY_INT, &o->head_dim, 0, NULL, NULL},
        {"in_channels", TS_KEY_INT, &o->in_channels, 0, NULL, NULL},
        {"out_channels", TS_KEY_INT, &o->out_channels, 0, NULL, NULL},
        {"num_layers", TS_KEY_INT, &o->layers, 0, NULL, NULL},
        {"cross_attention_dim", TS_KEY_INT, &cross, 0, NULL, NULL},
        {"caption_channels", TS_KEY_INT, &caption, 0, NULL, NULL},
        {"sample_size", TS_KEY_INT, &sample, 0, NULL, NULL},
        {"patch_size", TS_KEY_INT, &patch, 0, NULL, NULL},
        {"norm_eps", TS_KEY_FLOAT, &eps, 0, NULL, NULL},
        {"interpolation_scale", TS_KEY_FLOAT, &scale, 0, NULL, NULL},
        {"attention_bias", TS_KEY_ONLY, NULL, 0, NULL, "true"},
        {"activation_fn", TS_KEY_ONLY, NULL, 0, NULL, "\"gelu-approximate\""},
        {"norm_type", TS_KEY_ONLY, NULL, 0, NULL, "\"ada_norm_single\""},
        {"norm_elementwise_affine", TS_KEY_ONLY, NULL, 0, NULL, "false"},
        {"attention_type", TS_KEY_ONLY, NULL, 0, NULL, "\"default\""},
        {"use_additional_conditions", TS_KEY_ONLY, NULL, 0, NULL, "true|false|null"}, /* what counts is whether the checkpoint has the embedders: some files say nothing, some the wrong thing */
        {"double_self_attention", TS_KEY_ONLY, NULL, 0, NULL, "false|null"},
        {"only_cross_attention", TS_KEY_ONLY, NULL, 0, NULL, "false|null"},
        {"num_vector_embeds", TS_KEY_ONLY, NULL, 0, NULL, "null"},
        /* of training, of memory, or of the class's other uses */
        {"dropout", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
        {"norm_num_groups", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
        {"num_embeds_ada_norm", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
        {"upcast_attention", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
        {"use_linear_projection", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
    };
    TRY(ts_config_read(ctx, config, path, key, (int)(sizeof key / sizeof *key)));
    if (!cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(config, "interpolation_scale"))) scale = sample / 64 > 1 ? sample / 64 : 1;
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(config, "out_channels"))) o->out_channels = o->in_channels;
    o->patch[0] = 1, o->patch[1] = o->patch[2] = patch;
    o->text_dim = caption ? caption : cross;
    o->sample_size = sample;
    o->params[SAMPLE_SIZE] = sample, o->params[CROSS_DIM] = cross, o->params[CAPTION_DIM] = caption;
    memcpy(&o->params[SCALE_BITS], &scale, sizeof scale);
    o->eps = (float)eps;
    TRY(sane(ctx, path, o, scale));
    o->dim = o->heads * o->head_dim;
done:
    return st;
}

/* ---- bind ---- */

/* `kv`: the group of the key's and the value's weights, which read `in` numbers a row. */
static ts_status bind_attention(ts_weights *ws, int group, int kv, attention *a, long D, long in, int layer, const char *name)
{
    ts_status st;
    TRY(ts_find_linear(ws, group, &a->q, D, D, true, "transformer_blocks.%d.%s.to_q", layer, name));
    TRY(ts_find_linear(ws, kv, &a->k, D, in, true, "transformer_blocks.%d.%s.to_k", layer, name));
    TRY(ts_find_linear(ws, kv, &a->v, D, in, true, "transformer_blocks.%d.%s.to_v", layer, name));
    TRY(ts_find_linear(ws, group, &a->o, D, D, true, "transformer_blocks.%d.%s.to_out.0", layer, name));
done:
    return st;
}

static ts_status bind_block(pixart *p, int i)
{
    ts_status st;
    block *b = p->block + i;
    ts_weights *ws = p->weights;
    long D = p->info.dim;
    TRY(bind_attention(ws, i, i, &b->self, D, D, i, "attn1"));
    TRY(bind_attention(ws, i, group_text(p, i), &b->cross, D, p->info.params[CROSS_DIM], i, "attn2"));
    TRY(ts_find_linear(ws, i, &b->up, 4 * D, D, true, "transformer_blocks.%d.ff.net.0.proj", i));
    TRY(ts_find_linear(ws, i, &b->down, D, 4 * D, true, "transformer_blocks.%d.ff.net.2", i));
    TRY(ts_find_vector(ws, i, &b->table, 2, (long[]){6, D}, "transformer_blocks.%d.scale_shift_table", i));
done:
    return st;
}

static ts_status bind_embedders(pixart *p)
{
    ts_status st;
    ts_weights *ws = p->weights;
    long D = p->info.dim, third = D / 3;
    int g = group_embed(p);
    TRY(ts_find_linear(ws, g, &p->time1, D, FREQ, true, "adaln_single.emb.timestep_embedder.linear_1"));
    TRY(ts_find_linear(ws, g, &p->time2, D, D, true, "adaln_single.emb.timestep_embedder.linear_2"));
    TRY(ts_find_linear(ws, g, &p->modulate, 6 * D, D, true, "adaln_single.linear"));
    p->sized = ts_weights_has(ws, "adaln_single.emb.resolution_embedder.linear_1.weight");
    if (p->sized) {
        TRY(ts_find_linear(ws, g, &p->size1, third, FREQ, true, "adaln_single.emb.resolution_embedder.linear_1"));
        TRY(ts_find_linear(ws, g, &p->size2, third, third, true, "adaln_single.emb.resolution_embedder.linear_2"));
        TRY(ts_find_linear(ws, g, &p->aspect1, third, FREQ, true, "adaln_single.emb.aspect_ratio_embedder.linear_1"));
        TRY(ts_find_linear(ws, g, &p->aspect2, third, third, true, "adaln_single.emb.aspect_ratio_embedder.linear_2"));
    }
    if (p->info.params[CAPTION_DIM]) {
        TRY(ts_find_linear(ws, g, &p->text1, D, p->info.params[CAPTION_DIM], true, "caption_projection.linear_1"));
        TRY(ts_find_linear(ws, g, &p->text2, D, D, true, "caption_projection.linear_2"));
    }
done:
    return st;
}

static ts_status bind(void *self, ts_ctx *ctx, const ts_dit_info *info, ts_weights *ws)
{
    ts_status st;
    pixart *p = self;
    long D = info->dim, side = info->patch[1];
    p->ctx = ctx, p->weights = ws, p->info = *info;
    memcpy(&p->scale, &info->params[SCALE_BITS], sizeof p->scale);
    p->block = calloc((size_t)info->layers, sizeof *p->block);
    if (!p->block) TRY(ts_fail(&ctx->err, TS_EMEMORY, "a transformer of %d layers: out of memory", info->layers));
    for (int i = 0; i < info->layers; i++) TRY(bind_block(p, i));
    TRY(ts_find_conv(ws, group_ends(p), &p->patch, 4, (long[]){D, info->in_channels, side, side}, "pos_embed.proj"));
    TRY(ts_find_linear(ws, group_ends(p), &p->out, side * side * info->out_channels, D, true, "proj_out"));
    TRY(ts_find_vector(ws, group_ends(p), &p->table, 2, (long[]){2, D}, "scale_shift_table"));
    TRY(bind_embedders(p));
    if (p->sized && D % 3) TRY(ts_fail(&ctx->err, TS_EMODEL, "a width of %ld with size conditions, expected a multiple of 3", D));
done:
    return st;
}

static void unbind(void *self)
{
    pixart *p = self;
    free(p->block);
}

static void pixels(void *self, int height, int width)
{
    pixart *p = self;
    p->height = height, p->width = width;
}

/* ---- prepare ---- */

static ts_tensor take(pixart *p, ts_dtype type, long rows, long columns)
{
    return ts_take(&p->ctx->arena, type, TS_DIM(rows, columns));
}

static ts_status linear(pixart *p, const ts_layer *l, ts_tensor x, ts_act act, ts_tensor y)
{
    return ts_linear_op(p->ctx->dev, (ts_linear){.x = x, .w = l->w, .b = l->b, .act = act, .y = y});
}

/* The bytes at `from` may go away once this returns. */
static ts_status upload(pixart *p, ts_tensor to, const float *from)
{
    ts_device *dev = p->ctx->dev;
    ts_status st = dev->ops->upload(dev, to.p, from, (size_t)ts_count(to) * sizeof *from);
    return st ? st : dev->ops->join(dev);
}

/* [cos(v f_0) .. cos(v f_127), sin(v f_0) ..], f_i = exp(-ln(10000) i / 128). In f32 throughout, as the oracle's: with v up to 1000 the rounding of f_i shows in the fifth digit. */
static void sincos_rows(const float *v, long rows, float *out)
{
    const long half = FREQ / 2;
    for (long i = 0; i < half; i++) {
        float f = expf((float)-log(10000.0) * (float)i / (float)half);
        for (long r = 0; r < rows; r++) {
            float angle = v[r] * f;
            out[r * FREQ + i] = cosf(angle);
            out[r * FREQ + half + i] = sinf(angle);
        }
    }
}

/* y [rows, D or D / 3] = l2 silu(l1 sincos(v)) of `rows` numbers */
static ts_status embed(pixart *p, const ts_layer *l1, const ts_layer *l2, const float *v, long rows, ts_tensor y)
{
    ts_status st = TS_OK;
    ts_tensor e = take(p, TS_F32, rows, FREQ), a = take(p, TS_F32, rows, y.dim[1]);
    float *host = malloc((size_t)(rows * FREQ) * sizeof *host);
    if (!host) TRY(ts_fail(&p->ctx->err, TS_EMEMORY, "%ld timesteps: out of memory", rows));
    sincos_rows(v, rows, host);
    TRY(upload(p, e, host));
    TRY(linear(p, l1, e, TS_ACT_SILU, a));
    TRY(linear(p, l2, a, TS_ACT_NONE, y));
done:
    free(host);
    return st;
}

/* What the picture's size adds to the embedding of every timestep. */
static ts_status add_size(pixart *p)
{
    ts_status st = TS_OK;
    long D = p->info.dim, third = D / 3;
    float s[2] = {(float)p->height, (float)p->width}, aspect = (float)p->height / (float)p->width;
    ts_tensor part = take(p, TS_F32, 3, third), row = ts_view(part, TS_DIM(1, D));
    TRY(embed(p, &p->size1, &p->size2, s, 2, ts_row_range(part, 0, 2)));
    TRY(embed(p, &p->aspect1, &p->aspect2, &aspect, 1, ts_row_range(part, 2, 1)));
    for (long i = 0; i < p->emb.dim[0]; i++)
        TRY(ts_lincomb_op(p->ctx->dev, (ts_lincomb){.n = 2, .c = {1, 1}, .x = {ts_row_range(p->emb, i, 1), row}, .y = ts_row_range(p->emb, i, 1)}));
done:
    return st;
}

/* emb and e6 of every timestep of the run at once. */
static ts_status prepare_time(pixart *p, const float *t, long nt)
{
    ts_status st;
    ts_tensor a = take(p, TS_F32, nt, p->info.dim);
    TRY(embed(p, &p->time1, &p->time2, t, nt, p->emb));
    if (p->sized) TRY(add_size(p));
    TRY(ts_activate_op(p->ctx->dev, (ts_activate){.act = TS_ACT_SILU, .x = p->emb, .y = a}));
    TRY(linear(p, &p->modulate, a, TS_ACT_NONE, p->e6));
done:
    return st;
}

/* [sin(v w_0) .., cos(v w_0) ..] of the n positions v = i / (n / base) / scale of an axis: [n, D / 2]. Positions in f32, angles in f64, as the oracle's. */
static void axis_rows(const pixart *p, long n, float *out)
{
    long quarter = p->info.dim / 4;
    float stretch = (float)((double)n / (double)(p->info.params[SAMPLE_SIZE] / p->info.patch[1])), scale = (float)p->scale;
    for (long i = 0; i < n; i++) {
        float v = (float)i / stretch / scale;
        for (long k = 0; k < quarter; k++) {
            double angle = (double)v * pow(10000, -(double)k / (double)quarter);
            out[i * 2 * quarter + k] = (float)sin(angle);
            out[i * 2 * quarter + quarter + k] = (float)cos(angle);
        }
    }
}

/* Columns 0 .. D / 2 - 1 hold the token's x, the others its y. */
static ts_status prepare_positions(pixart *p)
{
    ts_status st = TS_OK;
    long H = p->grid.H, W = p->grid.W, D = p->info.dim, half = D / 2;
    float *host = malloc((size_t)((H > W ? H : W) * half) * sizeof *host);
    ts_tensor x = take(p, TS_F32, W, half), y = take(p, TS_F32, H, half);
    ts_copy c = {.dst = p->positions.p, .stype = TS_F32, .dtype = TS_F32, .nd = 4, .dim = {p->grid.F, H, W, half}, .ds = {H * W * D, W * D, D, 1}};
    if (!host) TRY(ts_fail(&p->ctx->err, TS_EMEMORY, "positions of %ldx%ld tokens: out of memory", W, H));
    axis_rows(p, W, host);
    TRY(upload(p, x, host));
    axis_rows(p, H, host);
    TRY(upload(p, y, host));
    c.src = x.p, c.ss[2] = half, c.ss[3] = 1;
    TRY(ts_copy_op(p->ctx->dev, c));
    c.src = y.p, c.dst = ts_at(c.dst, (size_t)half * sizeof(float)), c.ss[1] = half, c.ss[2] = 0;
    TRY(ts_copy_op(p->ctx->dev, c));
done:
    free(host);
    return st;
}

static ts_tensor text_part(const pixart *p, int layer, int value)
{
    return ts_row_range(p->kv, (2L * layer + value) * p->text_rows, p->text_rows);
}

/* All texts' rows as blocks see them. */
static ts_status project(pixart *p, const ts_dit_text *text, int texts, ts_tensor *out)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = p->ctx;
    long D = p->info.dim, T = p->text_rows, width = p->info.text_dim;
    ts_dtype act = ctx->act;
    ts_tensor states = take(p, TS_F32, T, width), x = states;
    for (int i = 0; i < texts; i++) TRY(upload(p, ts_row_range(states, p->text[i].first, p->text[i].rows), text[i].states.data));
    if (act != TS_F32) {
        x = take(p, act, T, width);
        TRY(ts_cast(ctx->dev, states, x));
    }
    *out = x;
    if (!p->info.params[CAPTION_DIM]) goto done;
    ts_tensor a = take(p, act, T, D);
    *out = take(p, act, T, D);
    TRY(linear(p, &p->text1, x, TS_ACT_GELU_TANH, a));
    TRY(linear(p, &p->text2, a, TS_ACT_NONE, *out));
done:
    return st;
}

/* Keys and values of all texts for every block. */
static ts_status prepare_text(pixart *p, const ts_dit_text *text, int texts)
{
    ts_status st;
    ts_ctx *ctx = p->ctx;
    ts_tensor c;
    TRY(project(p, text, texts, &c));
    for (int i = 0; i < texts && ctx->tap && !ctx->dev->counting; i++) TRY(ctx->tap(ctx->tap_user, "caption_projection", ts_row_range(c, p->text[i].first, p->text[i].rows)));
    for (int i = 0; i < p->info.layers; i++) {
        const attention *cross = &p->block[i].cross;
        TRY(ts_weights_enter(p->weights, group_text(p, i)));
        TRY(linear(p, &cross->k, c, TS_ACT_NONE, text_part(p, i, 0)));
        TRY(linear(p, &cross->v, c, TS_ACT_NONE, text_part(p, i, 1)));
    }
done:
    return st;
}

static ts_status place(pixart *p, const ts_grid *grid, const ts_dit_text *text, int texts)
{
    ts_err *err = &p->ctx->err;
    if (texts > TEXTS) return ts_fail(err, TS_EUSAGE, "%d texts at once, expected at most %d", texts, TEXTS);
    if (grid->F != 1) return ts_fail(err, TS_EUSAGE, "%d frames, but this model draws pictures", grid->F);
    if (p->sized && (p->height < 1 || p->width < 1)) return ts_fail(err, TS_EUSAGE, "a picture of %dx%d pixels: this model has to know the size", p->width, p->height);
    p->grid = *grid;
    p->text_rows = 0;
    for (int i = 0; i < texts; i++) {
        p->text[i].first = p->text_rows, p->text[i].rows = text[i].states.dim[0];
        p->text_rows += p->text[i].rows;
    }
    return TS_OK;
}

static ts_status prepare(void *self, const ts_grid *grid, const ts_dit_text *text, int texts, const float *t, int nt)
{
    ts_status st;
    pixart *p = self;
    long D = p->info.dim;
    TRY(place(p, grid, text, texts));
    p->emb = take(p, TS_F32, nt, D);
    p->e6 = take(p, TS_F32, nt, 6 * D);
    p->positions = take(p, TS_F32, grid->N, D);
    p->kv = take(p, p->ctx->act, 2 * p->info.layers * p->text_rows, D);
    size_t mark = ts_mark(&p->ctx->arena);
    st = ts_weights_enter(p->weights, group_embed(p));
    if (st == TS_OK) st = prepare_time(p, t, nt);
    if (st == TS_OK) st = prepare_positions(p);
    if (st == TS_OK) st = prepare_text(p, text, texts);
    ts_release(&p->ctx->arena, mark);
done:
    return st;
}

/* ---- enter, block, leave ---- */

static ts_tensor embedding(void *self, ts_eval e)
{
    pixart *p = self;
    return ts_row_range(p->e6, e.trow, 1);
}

static ts_status enter(void *self, ts_eval e, ts_tensor x, ts_tensor h)
{
    ts_status st;
    pixart *p = self;
    ts_device *dev = p->ctx->dev;
    long C = x.dim[0], H = x.dim[2], W = x.dim[3], s = p->info.patch[1], grid[4] = {1, p->grid.H, p->grid.W, p->info.dim};
    size_t mark = ts_mark(&p->ctx->arena);
    ts_tensor last = ts_take(&p->ctx->arena, TS_F32, TS_DIM(1, H, W, C)); /* channels last */
    (void)e;
    TRY(ts_copy_op(dev, (ts_copy){.src = x.p, .dst = last.p, .stype = TS_F32, .dtype = TS_F32, .nd = 2, .dim = {H * W, C}, .ss = {1, H * W}, .ds = {C, 1}}));
    TRY(ts_conv_op(dev, (ts_conv){.x = last, .w = p->patch.w, .b = p->patch.b, .stride = {1, (int)s, (int)s}, .resid = ts_view(p->positions, 4, grid), .y = ts_view(h, 4, grid)}));
done:
    ts_release(&p->ctx->arena, mark);
    return st;
}

/* y = a + b, [1, n] each */
static ts_status add(pixart *p, ts_tensor a, ts_tensor b, ts_tensor y)
{
    return ts_lincomb_op(p->ctx->dev, (ts_lincomb){.n = 2, .c = {1, 1}, .x = {a, b}, .y = y});
}

/* y = ln(h) (1 + scale) + shift; columns of m: shift at D `at`, then scale. */
static ts_status modulated(pixart *p, ts_tensor m, int at, ts_tensor h, ts_tensor y)
{
    long D = p->info.dim;
    return ts_norm_op(p->ctx->dev, (ts_norm){.kind = TS_NORM_LAYER, .eps = p->info.eps, .x = h, .scale = ts_columns(m, (at + 1) * D, D), .shift = ts_columns(m, at * D, D), .y = y});
}

/* h += gate l(x); gate: columns of m at D `at`, or none (m absent). */
static ts_status add_gated(pixart *p, const ts_layer *l, ts_tensor x, ts_tensor m, int at, ts_tensor h)
{
    long D = p->info.dim;
    ts_linear a = {.x = x, .w = l->w, .b = l->b, .resid = h, .y = h};
    if (ts_there(m)) a.gate = ts_columns(m, at * D, D);
    return ts_linear_op(p->ctx->dev, a);
}

/* [rows, A d] -> [rows, A, d]; rows stay as far apart as they are */
static ts_tensor heads(const pixart *p, ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 3, {t.dim[0], p->info.heads, p->info.head_dim}, t.ld};
}

/* [rows, A d] -> [1, rows, A, d] */
static ts_tensor batch_of_one(const pixart *p, ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 4, {1, t.dim[0], p->info.heads, p->info.head_dim}, t.ld};
}

static ts_status self_attention(pixart *p, const block *b, ts_attn *attn, int attn_layer, ts_tensor m, ts_tensor h)
{
    ts_status st;
    long N = p->grid.N, D = p->info.dim;
    ts_dtype act = p->ctx->act;
    size_t mark = ts_mark(&p->ctx->arena);
    ts_tensor n = take(p, act, N, D), q = take(p, act, N, D), k = take(p, act, N, D), v = take(p, act, N, D);
    TRY(modulated(p, m, 0, h, n));
    TRY(linear(p, &b->self.q, n, TS_ACT_NONE, q));
    TRY(linear(p, &b->self.k, n, TS_ACT_NONE, k));
    TRY(linear(p, &b->self.v, n, TS_ACT_NONE, v));
    TRY(ts_attend(attn, attn_layer, heads(p, q), heads(p, k), heads(p, v), heads(p, n)));
    TRY(add_gated(p, &b->self.o, n, m, 2, h));
done:
    ts_release(&p->ctx->arena, mark);
    return st;
}

static ts_status cross_attention(pixart *p, int layer, const block *b, ts_eval e, ts_tensor h)
{
    ts_status st;
    ts_device *dev = p->ctx->dev;
    long N = p->grid.N, D = p->info.dim, first = p->text[e.slot].first, rows = p->text[e.slot].rows;
    size_t mark = ts_mark(&p->ctx->arena);
    ts_tensor n = take(p, p->ctx->act, N, D), q = take(p, p->ctx->act, N, D);
    ts_tensor k = ts_row_range(text_part(p, layer, 0), first, rows), v = ts_row_range(text_part(p, layer, 1), first, rows);
    TRY(ts_cast(dev, h, n));
    TRY(linear(p, &b->cross.q, n, TS_ACT_NONE, q));
    TRY(ts_attention_op(dev, (ts_attention){.q = batch_of_one(p, q), .k = batch_of_one(p, k), .v = batch_of_one(p, v), .out = batch_of_one(p, n),
                                            .scale = (float)(1 / sqrt((double)p->info.head_dim))}));
    TRY(add_gated(p, &b->cross.o, n, (ts_tensor){0}, 0, h));
done:
    ts_release(&p->ctx->arena, mark);
    return st;
}

static ts_status feed_forward(pixart *p, const block *b, ts_tensor m, ts_tensor h)
{
    ts_status st;
    long N = p->grid.N, D = p->info.dim;
    size_t mark = ts_mark(&p->ctx->arena);
    ts_tensor n = take(p, p->ctx->act, N, D), u = take(p, p->ctx->act, N, 4 * D);
    TRY(modulated(p, m, 3, h, n));
    TRY(linear(p, &b->up, n, TS_ACT_GELU_TANH, u));
    TRY(add_gated(p, &b->down, u, m, 5, h));
done:
    ts_release(&p->ctx->arena, mark);
    return st;
}

static ts_status run_block(void *self, int layer, ts_eval e, ts_attn *attn, int attn_layer, ts_tensor h)
{
    ts_status st;
    pixart *p = self;
    const block *b = p->block + layer;
    long D = p->info.dim;
    size_t mark = ts_mark(&p->ctx->arena);
    ts_tensor m = take(p, TS_F32, 1, 6 * D);
    TRY(add(p, ts_view(b->table->t, TS_DIM(1, 6 * D)), ts_row_range(p->e6, e.trow, 1), m));
    TRY(self_attention(p, b, attn, attn_layer, m, h));
    TRY(cross_attention(p, layer, b, e, h));
    TRY(feed_forward(p, b, m, h));
done:
    ts_release(&p->ctx->arena, mark);
    return st;
}

/* A token's row of o holds its patch as [ph, pw, C]: the channel is the fastest. */
static ts_status unpatchify(pixart *p, ts_tensor o, ts_tensor v)
{
    long C = v.dim[0], H = v.dim[2], W = v.dim[3], K = o.dim[1], gh = p->grid.H, gw = p->grid.W, s = p->info.patch[1];
    return ts_copy_op(p->ctx->dev, (ts_copy){.src = o.p, .dst = v.p, .stype = TS_F32, .dtype = TS_F32, .nd = 5, .dim = {gh, gw, s, s, C},
                                             .ss = {gw * K, K, s * C, C, 1}, .ds = {s * W, s, W, 1, H * W}});
}

static ts_status leave(void *self, ts_eval e, ts_tensor h, ts_tensor v)
{
    ts_status st;
    pixart *p = self;
    long N = p->grid.N, D = p->info.dim;
    size_t mark = ts_mark(&p->ctx->arena);
    ts_tensor m = take(p, TS_F32, 1, 2 * D), n = take(p, TS_F32, N, D), o = take(p, TS_F32, N, p->out.w->t.dim[0]);
    for (int k = 0; k < 2; k++) TRY(add(p, ts_row_range(p->table->t, k, 1), ts_row_range(p->emb, e.trow, 1), ts_columns(m, k * D, D)));
    TRY(modulated(p, m, 0, h, n));
    TRY(linear(p, &p->out, n, TS_ACT_NONE, o));
    TRY(unpatchify(p, o, v));
done:
    ts_release(&p->ctx->arena, mark);
    return st;
}

const ts_dit_class ts_dit_pixart = {
    .cls = "PixArtTransformer2DModel",
    .older = "Transformer2DModel",
    .size = sizeof(pixart),
    .describe = describe,
    .bind = bind,
    .close = unbind,
    .pixels = pixels,
    .prepare = prepare,
    .enter = enter,
    .block = run_block,
    .leave = leave,
    .embedding = embedding,
};
