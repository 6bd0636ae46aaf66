/* WanTransformer3DModel (Wan 2.1 and 2.2, text to video), as diffusers defines it (models/transformers/transformer_wan.py). With t the timestep, c the text:
 *
 *   temb = mlp(sincos(t)), e = proj(silu(temb))                                 prepare
 *   h = conv(x), kernel = stride = patch                                        enter
 *   [shift_a scale_a gate_a shift_f scale_f gate_f] = table + e                 block
 *   h += gate_a O(attention(rope(rms(Q n)), rope(rms(K n)), V n)),   n = ln(h) (1 + scale_a) + shift_a
 *   h += O(attention(rms(Q n), rms(K c), V c)),                      n = ln(h) w + b, or h
 *   h += gate_f W2 gelu(W1 n),                                       n = ln(h) (1 + scale_f) + shift_f
 *   [shift scale] = table + temb, v = P(ln(h) (1 + scale) + shift)              leave
 *
 * The rms of Q and K is taken over all heads together. The residual stream h is f32, activations have the type of ctx->act. Text: the rows after the real ones are zeros, hence one key and one
 * value that occur many times: one row with log(count) added to its logit gives the same softmax. Image-to-video variants (image_dim, added_kv_proj_dim) are refused. */
#include "dit/dit.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TEXTS = 16 };
enum { FREQ_DIM, FFN_DIM, CROSS_NORM, ROPE_MAX }; /* indices into ts_dit_info.params */

typedef struct { ts_layer q, k, v, o; ts_weight *norm_q, *norm_k; } attention;
typedef struct {
    attention self, cross;
    ts_layer up, down;
    ts_weight *norm_w, *norm_b; /* before cross-attention; NULL: that norm is the identity */
    ts_weight *table;           /* [1, 6, D] */
} block;

typedef struct {
    ts_ctx *ctx;
    ts_weights *weights;
    ts_dit_info info;
    block *block;
    ts_layer patch, out, time1, time2, time_proj, text1, text2;
    ts_weight *table;           /* [1, 2, D] */
    /* the run's */
    ts_grid grid;
    ts_tensor temb, e6;         /* f32 [nt, D], [nt, 6 D] */
    ts_tensor cos, sin;         /* f32 [N, head_dim / 2] */
    ts_tensor kv;               /* [layers 2 T, D]: keys then values of a layer; the texts' rows one after the other */
    ts_tensor bias;             /* f32 [1, T]: log of how often a row occurs */
    long text_rows;             /* T */
    struct { long first, rows, zeros; } text[TEXTS]; /* rows: with the one for its zero rows, if any */
} wan;

/* Groups of weights: blocks, enter and leave, then what only prepare uses: embedders, and keys and values of the text for each block. */
static int group_ends(const wan *w) { return w->info.layers; }
static int group_embed(const wan *w) { return w->info.layers + 1; }
static int group_text(const wan *w, int layer) { return w->info.layers + 2 + layer; }

/* ---- describe ---- */

static ts_status sane(ts_ctx *ctx, const char *path, const ts_dit_info *o)
{
    const struct { const char *key; long got, least, most; } range[] = {
        {"num_layers", o->layers, 1, 4096}, {"num_attention_heads", o->heads, 1, 4096}, {"attention_head_dim", o->head_dim, 2, 4096}, {"in_channels", o->in_channels, 1, 1 << 16},
        {"out_channels", o->out_channels, 1, 1 << 16}, {"text_dim", o->text_dim, 1, 1 << 20}, {"freq_dim", o->params[FREQ_DIM], 2, 1 << 16}, {"ffn_dim", o->params[FFN_DIM], 1, 1 << 24},
        {"rope_max_seq_len", o->params[ROPE_MAX], 1, 1 << 24}, {"patch_size", o->patch[0], 1, 64}, {"patch_size", o->patch[1], 1, 64}, {"patch_size", o->patch[2], 1, 64},
    };
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].got < range[i].least || range[i].got > range[i].most)
            return ts_fail(&ctx->err, TS_EMODEL, "%s: \"%s\" is %ld, expected %ld to %ld", path, range[i].key, range[i].got, range[i].least, range[i].most);
    if (o->head_dim % 2) return ts_fail(&ctx->err, TS_EMODEL, "%s: \"attention_head_dim\" is %d, expected an even number", path, o->head_dim);
    if (o->params[FREQ_DIM] % 2) return ts_fail(&ctx->err, TS_EMODEL, "%s: \"freq_dim\" is %ld, expected an even number", path, o->params[FREQ_DIM]);
    return TS_OK;
}

static ts_status describe(ts_ctx *ctx, const cJSON *config, const char *path, ts_dit_info *o)
{
    ts_status st;
    int freq = 256, ffn = 13824, rope = 1024, patches = 3;
    bool cross_norm = true;
    double eps = 1e-6;
    *o = (ts_dit_info){.layers = 40, .heads = 40, .head_dim = 128, .in_channels = 16, .out_channels = -1, .patch = {1, 2, 2}, .text_dim = 4096};
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
    if (!out) o->out_channels = 16;
    else if (cJSON_IsNull(out)) o->out_channels = o->in_channels;
    if (patches != 3) TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: \"patch_size\" has %d numbers, expected 3", path, patches));
    o->params[FREQ_DIM] = freq, o->params[FFN_DIM] = ffn, o->params[CROSS_NORM] = cross_norm, o->params[ROPE_MAX] = rope;
    o->eps = (float)eps;
    TRY(sane(ctx, path, o));
    o->dim = o->heads * o->head_dim;
done:
    return st;
}

/* ---- bind ---- */

/* `kv`: the group of the key's and the value's weights. */
static ts_status bind_attention(ts_weights *ws, int group, int kv, attention *a, long D, int layer, const char *name)
{
    ts_status st;
    TRY(ts_find_linear(ws, group, &a->q, D, D, true, "blocks.%d.%s.to_q", layer, name));
    TRY(ts_find_linear(ws, kv, &a->k, D, D, true, "blocks.%d.%s.to_k", layer, name));
    TRY(ts_find_linear(ws, kv, &a->v, D, D, true, "blocks.%d.%s.to_v", layer, name));
    TRY(ts_find_linear(ws, group, &a->o, D, D, true, "blocks.%d.%s.to_out.0", layer, name));
    TRY(ts_find_vector(ws, group, &a->norm_q, 1, &D, "blocks.%d.%s.norm_q.weight", layer, name));
    TRY(ts_find_vector(ws, kv, &a->norm_k, 1, &D, "blocks.%d.%s.norm_k.weight", layer, name));
done:
    return st;
}

static ts_status bind_block(wan *w, int i)
{
    ts_status st;
    block *b = w->block + i;
    ts_weights *ws = w->weights;
    long D = w->info.dim, ffn = w->info.params[FFN_DIM];
    TRY(bind_attention(ws, i, i, &b->self, D, i, "attn1"));
    TRY(bind_attention(ws, i, group_text(w, i), &b->cross, D, i, "attn2"));
    TRY(ts_find_linear(ws, i, &b->up, ffn, D, true, "blocks.%d.ffn.net.0.proj", i));
    TRY(ts_find_linear(ws, i, &b->down, D, ffn, true, "blocks.%d.ffn.net.2", i));
    if (w->info.params[CROSS_NORM]) {
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
    const int *p = info->patch;
    long D = info->dim, freq = info->params[FREQ_DIM];
    w->ctx = ctx, w->weights = ws, w->info = *info;
    int ends = group_ends(w), embed = group_embed(w);
    w->block = calloc((size_t)info->layers, sizeof *w->block);
    if (!w->block) TRY(ts_fail(&ctx->err, TS_EMEMORY, "a transformer of %d layers: out of memory", info->layers));
    for (int i = 0; i < info->layers; i++) TRY(bind_block(w, i));
    TRY(ts_find_conv(ws, ends, &w->patch, 5, (long[]){D, info->in_channels, p[0], p[1], p[2]}, "patch_embedding"));
    TRY(ts_find_linear(ws, ends, &w->out, (long)p[0] * p[1] * p[2] * info->out_channels, D, true, "proj_out"));
    TRY(ts_find_vector(ws, ends, &w->table, 3, (long[]){1, 2, D}, "scale_shift_table"));
    TRY(ts_find_linear(ws, embed, &w->time1, D, freq, true, "condition_embedder.time_embedder.linear_1"));
    TRY(ts_find_linear(ws, embed, &w->time2, D, D, true, "condition_embedder.time_embedder.linear_2"));
    TRY(ts_find_linear(ws, embed, &w->time_proj, 6 * D, D, true, "condition_embedder.time_proj"));
    TRY(ts_find_linear(ws, embed, &w->text1, D, info->text_dim, true, "condition_embedder.text_embedder.linear_1"));
    TRY(ts_find_linear(ws, embed, &w->text2, D, D, true, "condition_embedder.text_embedder.linear_2"));
done:
    return st;
}

static void unbind(void *self)
{
    wan *w = self;
    free(w->block);
}

/* ---- prepare ---- */

static ts_tensor take(wan *w, ts_dtype type, long rows, long columns)
{
    return ts_take(&w->ctx->arena, type, TS_DIM(rows, columns));
}

static ts_status linear(wan *w, const ts_layer *l, ts_tensor x, ts_act act, ts_tensor y)
{
    return ts_linear_op(w->ctx->dev, (ts_linear){.x = x, .w = l->w, .b = l->b, .act = act, .y = y});
}

static ts_status rms(wan *w, ts_weight *weight, ts_tensor x)
{
    return ts_norm_op(w->ctx->dev, (ts_norm){.kind = TS_NORM_RMS, .eps = w->info.eps, .x = x, .w = weight, .y = x});
}

static ts_status upload(wan *w, ts_tensor to, const float *from)
{
    return w->ctx->dev->ops->upload(w->ctx->dev, to.p, from, (size_t)ts_count(to) * sizeof *from);
}

/* [cos(t f_0) .. cos(t f_h-1), sin(t f_0) ..], f_i = exp(-ln(10000) i / h), h = columns / 2. In f32 throughout: with t up to 1000 the oracle's rounding of f_i shows in the fifth digit. */
static void sincos_rows(const float *t, long rows, long columns, float *out)
{
    long half = columns / 2;
    for (long i = 0; i < half; i++) {
        float f = expf((float)-log(10000.0) * (float)i / (float)half);
        for (long r = 0; r < rows; r++) {
            float angle = t[r] * f;
            out[r * columns + i] = cosf(angle);
            out[r * columns + half + i] = sinf(angle);
        }
    }
}

/* temb and e6 of every timestep of the run at once. */
static ts_status prepare_time(wan *w, const float *t, long nt)
{
    ts_status st = TS_OK;
    long D = w->info.dim, freq = w->info.params[FREQ_DIM];
    ts_tensor e = take(w, TS_F32, nt, freq), a = take(w, TS_F32, nt, D);
    float *host = malloc((size_t)(nt * freq) * sizeof *host);
    if (!host) TRY(ts_fail(&w->ctx->err, TS_EMEMORY, "%ld timesteps: out of memory", nt));
    sincos_rows(t, nt, freq, host);
    TRY(upload(w, e, host));
    TRY(linear(w, &w->time1, e, TS_ACT_SILU, a));
    TRY(linear(w, &w->time2, a, TS_ACT_NONE, w->temb));
    TRY(ts_activate_op(w->ctx->dev, (ts_activate){.act = TS_ACT_SILU, .x = w->temb, .y = a}));
    TRY(linear(w, &w->time_proj, a, TS_ACT_NONE, w->e6));
done:
    free(host);
    return st;
}

/* Channels of a head along t, h, w. */
static void axis_widths(long head_dim, long width[3])
{
    width[1] = width[2] = 2 * (head_dim / 6);
    width[0] = head_dim - width[1] - width[2];
}

/* Cosines (or sines) of the axis' positions, spread over the tokens of the grid. */
static ts_status spread(wan *w, int axis, ts_tensor from, ts_tensor to, long column)
{
    long half = w->info.head_dim / 2, H = w->grid.H, W = w->grid.W, n = from.dim[1];
    ts_copy c = {.src = from.p, .dst = ts_at(to.p, (size_t)column * sizeof(float)), .stype = TS_F32, .dtype = TS_F32, .nd = 4,
                 .dim = {w->grid.F, H, W, n}, .ss = {0, 0, 0, 1}, .ds = {H * W * half, W * half, half, 1}};
    c.ss[axis] = n;
    return ts_copy_op(w->ctx->dev, c);
}

/* Angle of channels (2j, 2j + 1) of an axis of d channels at position p: p 10000^(-2j / d). Angles in f64, as the oracle's. */
static ts_status prepare_rope(wan *w)
{
    ts_status st = TS_OK;
    long width[3], length[3] = {w->grid.F, w->grid.H, w->grid.W}, column = 0;
    float *host = NULL;
    bool ordered = ts_there(w->grid.perm);
    ts_tensor cos_of = ordered ? take(w, TS_F32, w->grid.N, w->info.head_dim / 2) : w->cos, sin_of = ordered ? take(w, TS_F32, w->grid.N, w->info.head_dim / 2) : w->sin;
    axis_widths(w->info.head_dim, width);
    for (int axis = 0; axis < 3; axis++) {
        long n = length[axis], half = width[axis] / 2;
        if (!half) continue;
        ts_tensor both = take(w, TS_F32, 2 * n, half);
        float *more = realloc(host, (size_t)(2 * n * half) * sizeof *host);
        if (!more) TRY(ts_fail(&w->ctx->err, TS_EMEMORY, "positions of %ld tokens: out of memory", n));
        host = more;
        for (long p = 0; p < n; p++)
            for (long j = 0; j < half; j++) {
                double angle = (double)p * pow(10000, -2.0 * (double)j / (double)width[axis]);
                host[p * half + j] = (float)cos(angle);
                host[(n + p) * half + j] = (float)sin(angle);
            }
        TRY(upload(w, both, host));
        TRY(spread(w, axis, ts_row_range(both, 0, n), cos_of, column));
        TRY(spread(w, axis, ts_row_range(both, n, n), sin_of, column));
        column += half;
    }
    if (!ordered) goto done;
    TRY(ts_gather_op(w->ctx->dev, (ts_gather){cos_of, w->grid.perm, w->cos}));
    TRY(ts_gather_op(w->ctx->dev, (ts_gather){sin_of, w->grid.perm, w->sin}));
done:
    free(host);
    return st;
}

/* Where each text's rows are, one row standing for all zero rows; how often a row occurs goes to its bias. */
static ts_status prepare_rows(wan *w, const ts_dit_text *text, int texts, ts_tensor states)
{
    ts_status st = TS_OK;
    long width = w->info.text_dim;
    float *host = calloc((size_t)(w->text_rows * width), sizeof *host), *bias = calloc((size_t)w->text_rows, sizeof *bias);
    if (!host || !bias) TRY(ts_fail(&w->ctx->err, TS_EMEMORY, "%ld rows of text: out of memory", w->text_rows));
    for (int i = 0; i < texts; i++) {
        long first = w->text[i].first, real = text[i].states.dim[0];
        if (real) memcpy(host + first * width, text[i].states.data, (size_t)(real * width) * sizeof *host);
        if (w->text[i].zeros) bias[first + real] = (float)log((double)w->text[i].zeros);
    }
    TRY(upload(w, states, host));
    TRY(upload(w, w->bias, bias));
done:
    free(host);
    free(bias);
    return st;
}

static ts_tensor text_part(const wan *w, int layer, int value)
{
    return ts_row_range(w->kv, (2L * layer + value) * w->text_rows, w->text_rows);
}

/* Keys and values of all texts for every block. */
static ts_status prepare_text(wan *w, const ts_dit_text *text, int texts)
{
    ts_status st;
    long D = w->info.dim, T = w->text_rows;
    ts_dtype act = w->ctx->act;
    ts_tensor states = take(w, TS_F32, T, w->info.text_dim), x = act == TS_F32 ? states : take(w, act, T, w->info.text_dim);
    ts_tensor a = take(w, act, T, D), c = take(w, act, T, D);
    TRY(prepare_rows(w, text, texts, states));
    if (act != TS_F32) TRY(ts_cast(w->ctx->dev, states, x));
    TRY(linear(w, &w->text1, x, TS_ACT_GELU_TANH, a));
    TRY(linear(w, &w->text2, a, TS_ACT_NONE, c));
    for (int i = 0; i < w->info.layers; i++) {
        const attention *cross = &w->block[i].cross;
        TRY(ts_weights_enter(w->weights, group_text(w, i)));
        TRY(linear(w, &cross->k, c, TS_ACT_NONE, text_part(w, i, 0)));
        TRY(rms(w, cross->norm_k, text_part(w, i, 0)));
        TRY(linear(w, &cross->v, c, TS_ACT_NONE, text_part(w, i, 1)));
    }
done:
    return st;
}

static ts_status place(wan *w, const ts_grid *grid, const ts_dit_text *text, int texts)
{
    ts_err *err = &w->ctx->err;
    long most = w->info.params[ROPE_MAX];
    if (texts > TEXTS) return ts_fail(err, TS_EUSAGE, "%d texts at once, expected at most %d", texts, TEXTS);
    if (grid->F > most || grid->H > most || grid->W > most)
        return ts_fail(err, TS_EUSAGE, "a grid of %d x %d x %d tokens: the model takes at most %ld along an axis", grid->F, grid->H, grid->W, most);
    w->grid = *grid;
    w->text_rows = 0;
    for (int i = 0; i < texts; i++) {
        long real = text[i].states.dim[0], length = text[i].length ? text[i].length : ts_dit_wan.text_rows;
        w->text[i].zeros = length - real;
        w->text[i].first = w->text_rows;
        w->text[i].rows = real + (length > real);
        w->text_rows += w->text[i].rows;
    }
    return TS_OK;
}

static ts_status prepare(void *self, const ts_grid *grid, const ts_dit_text *text, int texts, const float *t, int nt)
{
    ts_status st;
    wan *w = self;
    long D = w->info.dim;
    TRY(place(w, grid, text, texts));
    w->temb = take(w, TS_F32, nt, D);
    w->e6 = take(w, TS_F32, nt, 6 * D);
    w->cos = take(w, TS_F32, grid->N, w->info.head_dim / 2);
    w->sin = take(w, TS_F32, grid->N, w->info.head_dim / 2);
    w->kv = take(w, w->ctx->act, 2 * w->info.layers * w->text_rows, D);
    w->bias = take(w, TS_F32, 1, w->text_rows);
    size_t mark = ts_mark(&w->ctx->arena);
    st = ts_weights_enter(w->weights, group_embed(w));
    if (st == TS_OK) st = prepare_time(w, t, nt);
    if (st == TS_OK) st = prepare_rope(w);
    if (st == TS_OK) st = prepare_text(w, text, texts);
    ts_release(&w->ctx->arena, mark);
done:
    return st;
}

/* ---- enter, block, leave ---- */

static ts_tensor embedding(void *self, ts_eval e)
{
    wan *w = self;
    return ts_row_range(w->temb, e.trow, 1);
}

static ts_status enter(void *self, ts_eval e, ts_tensor x, ts_tensor h)
{
    ts_status st;
    wan *w = self;
    ts_device *dev = w->ctx->dev;
    const int *p = w->info.patch;
    long C = x.dim[0], F = x.dim[1], H = x.dim[2], W = x.dim[3];
    size_t mark = ts_mark(&w->ctx->arena);
    ts_tensor last = ts_take(&w->ctx->arena, TS_F32, TS_DIM(F, H, W, C)); /* channels last */
    (void)e;
    TRY(ts_copy_op(dev, (ts_copy){.src = x.p, .dst = last.p, .stype = TS_F32, .dtype = TS_F32, .nd = 2, .dim = {F * H * W, C}, .ss = {1, F * H * W}, .ds = {C, 1}}));
    TRY(ts_conv_op(dev, (ts_conv){.x = last, .w = w->patch.w, .b = w->patch.b, .stride = {p[0], p[1], p[2]},
                                  .y = ts_view(h, TS_DIM(w->grid.F, w->grid.H, w->grid.W, w->info.dim))}));
done:
    ts_release(&w->ctx->arena, mark);
    return st;
}

/* The rows of timesteps that a sample uses, one or two (ts_eval.sel). */
static int timesteps(ts_eval e, int row[2])
{
    row[0] = e.trow, row[1] = e.trow_sel;
    return ts_there(e.sel) ? 2 : 1;
}

/* y = a + b, [1, n] each */
static ts_status add(wan *w, ts_tensor a, ts_tensor b, ts_tensor y)
{
    return ts_lincomb_op(w->ctx->dev, (ts_lincomb){.n = 2, .c = {1, 1}, .x = {a, b}, .y = y});
}

/* m [R, 6 D] = table + e6, one row a timestep */
static ts_status modulation(wan *w, const block *b, ts_eval e, ts_tensor *m)
{
    ts_status st = TS_OK;
    int row[2], n = timesteps(e, row);
    long D = w->info.dim;
    *m = take(w, TS_F32, n, 6 * D);
    for (int r = 0; r < n; r++) TRY(add(w, ts_view(b->table->t, TS_DIM(1, 6 * D)), ts_row_range(w->e6, row[r], 1), ts_row_range(*m, r, 1)));
done:
    return st;
}

/* y = ln(h) (1 + scale) + shift; columns of m: shift at D `at`, then scale. */
static ts_status modulated(wan *w, ts_eval e, ts_tensor m, int at, ts_tensor h, ts_tensor y)
{
    long D = w->info.dim;
    return ts_norm_op(w->ctx->dev, (ts_norm){.kind = TS_NORM_LAYER, .eps = w->info.eps, .x = h, .scale = ts_columns(m, (at + 1) * D, D),
                                             .shift = ts_columns(m, at * D, D), .sel = e.sel, .y = y});
}

/* h += gate l(x); gate: columns of m at D `at`, or none (m absent). */
static ts_status add_gated(wan *w, const ts_layer *l, ts_tensor x, ts_eval e, ts_tensor m, int at, ts_tensor h)
{
    long D = w->info.dim;
    ts_linear a = {.x = x, .w = l->w, .b = l->b, .resid = h, .y = h};
    if (ts_there(m)) a.gate = ts_columns(m, at * D, D), a.sel = e.sel;
    return ts_linear_op(w->ctx->dev, a);
}

/* [rows, A d] -> [rows, A, d]; rows stay as far apart as they are */
static ts_tensor heads(const wan *w, ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 3, {t.dim[0], w->info.heads, w->info.head_dim}, t.ld};
}

static ts_status self_attention(wan *w, const block *b, ts_eval e, ts_attn *attn, int attn_layer, ts_tensor m, ts_tensor h)
{
    ts_status st;
    ts_device *dev = w->ctx->dev;
    long N = w->grid.N, D = w->info.dim;
    ts_dtype act = w->ctx->act;
    size_t mark = ts_mark(&w->ctx->arena);
    ts_tensor n = take(w, act, N, D), q = take(w, act, N, D), k = take(w, act, N, D), v = take(w, act, N, D);
    TRY(modulated(w, e, m, 0, h, n));
    TRY(linear(w, &b->self.q, n, TS_ACT_NONE, q));
    TRY(linear(w, &b->self.k, n, TS_ACT_NONE, k));
    TRY(linear(w, &b->self.v, n, TS_ACT_NONE, v));
    TRY(rms(w, b->self.norm_q, q));
    TRY(rms(w, b->self.norm_k, k));
    TRY(ts_rope_op(dev, (ts_rope){.x = heads(w, q), .cos = w->cos, .sin = w->sin}));
    TRY(ts_rope_op(dev, (ts_rope){.x = heads(w, k), .cos = w->cos, .sin = w->sin}));
    TRY(ts_attend(attn, attn_layer, heads(w, q), heads(w, k), heads(w, v), heads(w, n)));
    TRY(add_gated(w, &b->self.o, n, e, m, 2, h));
done:
    ts_release(&w->ctx->arena, mark);
    return st;
}

/* [rows, A d] -> [1, rows, A, d] */
static ts_tensor batch_of_one(const wan *w, ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 4, {1, t.dim[0], w->info.heads, w->info.head_dim}, t.ld};
}

static ts_status cross_attention(wan *w, int layer, const block *b, ts_eval e, ts_tensor h)
{
    ts_status st;
    ts_device *dev = w->ctx->dev;
    long N = w->grid.N, D = w->info.dim, first = w->text[e.slot].first, rows = w->text[e.slot].rows;
    size_t mark = ts_mark(&w->ctx->arena);
    ts_tensor n = take(w, w->ctx->act, N, D), q = take(w, w->ctx->act, N, D), bias = {0};
    ts_tensor k = ts_row_range(text_part(w, layer, 0), first, rows), v = ts_row_range(text_part(w, layer, 1), first, rows);
    if (w->text[e.slot].zeros) bias = ts_tensor_of(ts_at(w->bias.p, (size_t)first * sizeof(float)), TS_F32, TS_DIM(1, 1, rows));
    if (b->norm_w) TRY(ts_norm_op(dev, (ts_norm){.kind = TS_NORM_LAYER, .eps = w->info.eps, .x = h, .w = b->norm_w, .b = b->norm_b, .y = n}));
    else TRY(ts_cast(dev, h, n));
    TRY(linear(w, &b->cross.q, n, TS_ACT_NONE, q));
    TRY(rms(w, b->cross.norm_q, q));
    TRY(ts_attention_op(dev, (ts_attention){.q = batch_of_one(w, q), .k = batch_of_one(w, k), .v = batch_of_one(w, v), .out = batch_of_one(w, n),
                                            .scale = (float)(1 / sqrt((double)w->info.head_dim)), .bias = bias}));
    TRY(add_gated(w, &b->cross.o, n, e, (ts_tensor){0}, 0, h));
done:
    ts_release(&w->ctx->arena, mark);
    return st;
}

static ts_status feed_forward(wan *w, const block *b, ts_eval e, ts_tensor m, ts_tensor h)
{
    ts_status st;
    long N = w->grid.N;
    size_t mark = ts_mark(&w->ctx->arena);
    ts_tensor n = take(w, w->ctx->act, N, w->info.dim), u = take(w, w->ctx->act, N, w->info.params[FFN_DIM]);
    TRY(modulated(w, e, m, 3, h, n));
    TRY(linear(w, &b->up, n, TS_ACT_GELU_TANH, u));
    TRY(add_gated(w, &b->down, u, e, m, 5, h));
done:
    ts_release(&w->ctx->arena, mark);
    return st;
}

static ts_status run_block(void *self, int layer, ts_eval e, ts_attn *attn, int attn_layer, ts_tensor h)
{
    ts_status st;
    wan *w = self;
    const block *b = w->block + layer;
    ts_tensor m;
    size_t mark = ts_mark(&w->ctx->arena);
    TRY(modulation(w, b, e, &m));
    TRY(self_attention(w, b, e, attn, attn_layer, m, h));
    TRY(cross_attention(w, layer, b, e, h));
    TRY(feed_forward(w, b, e, m, h));
done:
    ts_release(&w->ctx->arena, mark);
    return st;
}

/* A token's row of o holds its patch as [pt, ph, pw, C]: the channel is the fastest. */
static ts_status unpatchify(wan *w, ts_tensor o, ts_tensor v)
{
    const int *p = w->info.patch;
    long C = v.dim[0], F = v.dim[1], H = v.dim[2], W = v.dim[3], K = o.dim[1], gh = w->grid.H, gw = w->grid.W;
    return ts_copy_op(w->ctx->dev, (ts_copy){
        .src = o.p, .dst = v.p, .stype = TS_F32, .dtype = TS_F32, .nd = 7,
        .dim = {w->grid.F, gh, gw, p[0], p[1], p[2], C},
        .ss = {gh * gw * K, gw * K, K, p[1] * p[2] * C, p[2] * C, C, 1},
        .ds = {p[0] * H * W, p[1] * W, p[2], H * W, W, 1, F * H * W}});
}

static ts_status leave(void *self, ts_eval e, ts_tensor h, ts_tensor v)
{
    ts_status st;
    wan *w = self;
    long N = w->grid.N, D = w->info.dim;
    int row[2], rows = timesteps(e, row);
    size_t mark = ts_mark(&w->ctx->arena);
    ts_tensor m = take(w, TS_F32, rows, 2 * D), n = take(w, TS_F32, N, D), o = take(w, TS_F32, N, w->out.w->t.dim[0]);
    ts_tensor table = ts_view(w->table->t, TS_DIM(2, D));
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < 2; k++)
            TRY(add(w, ts_row_range(table, k, 1), ts_row_range(w->temb, row[r], 1), ts_columns(ts_row_range(m, r, 1), k * D, D)));
    TRY(modulated(w, e, m, 0, h, n));
    TRY(linear(w, &w->out, n, TS_ACT_NONE, o));
    TRY(unpatchify(w, o, v));
done:
    ts_release(&w->ctx->arena, mark);
    return st;
}

const ts_dit_class ts_dit_wan = {
    .cls = "WanTransformer3DModel",
    .size = sizeof(wan),
    .describe = describe,
    .bind = bind,
    .close = unbind,
    .prepare = prepare,
    .enter = enter,
    .block = run_block,
    .leave = leave,
    .embedding = embedding,
    .text_rows = 512,
};
