/* What transformers with adaLN-single compute, with emb the embedding of the timestep, e its
 * projection, P the layer at the end:
 *
 *   h = conv(x) + positions, kernel = stride = patch
 *   enter [shift_a scale_a gate_a shift_f scale_f gate_f] = table + e
 *   block h += gate_a O(attention(rope(rms(Q n)), rope(rms(K n)), V n)),   n = ln(h) (1 + scale_a)
 *   + shift_a h += O(attention(rms(Q n), rms(K text), V text)),                n = ln(h) w + b, or
 *   h h += gate_f W2 gelu(W1 n),                                       n = ln(h) (1 + scale_f) +
 *   shift_f [shift scale] = table + emb, v = P(ln(h) (1 + scale) + shift)
 *   leave
 *
 * Positions, rms, rope and the norm before cross-attention are there where the class has them. The
 * residual stream h is f32, activations have the type of ctx->act. Rows of a text after its real
 * ones are zeros, hence one key and one value that occur many times: one row with log(count) added
 * to its logit gives the same softmax. */
#include "dit/adaln.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- bind ---- */

ts_status ts_adaln_bind(ts_adaln *a, ts_ctx *ctx, const ts_dit_info *info, ts_weights *ws)
{
    a->ctx = ctx;
    a->weights = ws;
    a->info = *info;
    a->block = calloc((size_t)info->layers, sizeof *a->block);
    return a->block ? TS_OK
                    : ts_fail(&ctx->err, TS_EMEMORY, "a transformer of %d layers: out of memory",
                              info->layers);
}

/* `kv`: the group of the key's and the value's weights, which read `in` numbers a row. */
static ts_status bind_attention(ts_adaln *a, ts_adaln_attention *t, int layer, int kv, long in,
                                const char *blocks, const char *name)
{
    ts_status st;
    ts_weights *ws = a->weights;
    long D = a->info.dim;
    TRY(ts_find_linear(ws, layer, &t->q, D, D, true, "%s.%d.%s.to_q", blocks, layer, name));
    TRY(ts_find_linear(ws, kv, &t->k, D, in, true, "%s.%d.%s.to_k", blocks, layer, name));
    TRY(ts_find_linear(ws, kv, &t->v, D, in, true, "%s.%d.%s.to_v", blocks, layer, name));
    TRY(ts_find_linear(ws, layer, &t->o, D, D, true, "%s.%d.%s.to_out.0", blocks, layer, name));
done:
    return st;
}

ts_status ts_adaln_bind_block(ts_adaln *a, int i, const char *blocks, const char *ff_name,
                              long text, long ff)
{
    ts_status st;
    ts_adaln_block *b = a->block + i;
    long D = a->info.dim;
    TRY(bind_attention(a, &b->self, i, i, D, blocks, "attn1"));
    TRY(bind_attention(a, &b->cross, i, ts_adaln_group_text(a, i), text, blocks, "attn2"));
    TRY(ts_find_linear(a->weights, i, &b->up, ff, D, true, "%s.%d.%s.net.0.proj", blocks, i,
                       ff_name));
    TRY(ts_find_linear(a->weights, i, &b->down, D, ff, true, "%s.%d.%s.net.2", blocks, i, ff_name));
done:
    return st;
}

void ts_adaln_unbind(void *self)
{
    ts_adaln *a = self;
    free(a->block);
}

/* ---- prepare ---- */

ts_tensor ts_adaln_take(ts_adaln *a, ts_dtype type, long rows, long columns)
{
    return ts_take(&a->ctx->arena, type, TS_DIM(rows, columns));
}

ts_status ts_adaln_upload(ts_adaln *a, ts_tensor to, const float *from)
{
    ts_device *dev = a->ctx->dev;
    ts_status st = dev->ops->upload(dev, to.p, from, (size_t)ts_count(to) * sizeof *from);
    return st ? st : dev->ops->join(dev);
}

ts_status ts_adaln_add(ts_adaln *a, ts_tensor x, ts_tensor z, ts_tensor y)
{
    return ts_lincomb_op(a->ctx->dev, (ts_lincomb){.n = 2, .c = {1, 1}, .x = {x, z}, .y = y});
}

static ts_status linear(ts_adaln *a, const ts_layer *l, ts_tensor x, ts_act act, ts_tensor y)
{
    return ts_linear_op(a->ctx->dev, (ts_linear){.x = x, .w = l->w, .b = l->b, .act = act, .y = y});
}

static ts_status rms(ts_adaln *a, const ts_weight *weight, ts_tensor x)
{
    return weight ? ts_norm_op(
                        a->ctx->dev,
                        (ts_norm){
                            .kind = TS_NORM_RMS, .eps = a->info.eps, .x = x, .w = weight, .y = x})
                  : TS_OK;
}

ts_status ts_adaln_begin(ts_adaln *a, const ts_grid *grid, const ts_dit_text *text, int texts,
                         long text_rows, long nt)
{
    long D = a->info.dim;
    if (texts > TS_ADALN_TEXTS)
        return ts_fail(&a->ctx->err, TS_EUSAGE, "%d texts at once, expected at most %d", texts,
                       TS_ADALN_TEXTS);
    a->grid = *grid;
    a->text_rows = 0;
    for (int i = 0; i < texts; i++) {
        long real = text[i].states.dim[0], length = text[i].length ? text[i].length
                                                    : text_rows    ? text_rows
                                                                   : real;
        a->text[i].zeros = length - real;
        a->text[i].first = a->text_rows;
        a->text[i].rows = real + (length > real);
        a->text_rows += a->text[i].rows;
    }
    a->emb = ts_adaln_take(a, TS_F32, nt, D);
    a->e6 = ts_adaln_take(a, TS_F32, nt, 6 * D);
    a->kv = ts_adaln_take(a, a->ctx->act, 2 * a->info.layers * a->text_rows, D);
    a->bias = ts_adaln_take(a, TS_F32, 1, a->text_rows);
    return TS_OK;
}

/* [cos(v f_0) .. cos(v f_h-1), sin(v f_0) ..], f_i = exp(-ln(10000) i / h), h = columns / 2. In f32
 * throughout: with v up to 1000 the oracle's rounding of f_i shows in the fifth digit. */
static void sincos_rows(const float *v, long rows, long columns, float *out)
{
    long half = columns / 2;
    for (long i = 0; i < half; i++) {
        float f = expf((float)-log(10000.0) * (float)i / (float)half);
        for (long r = 0; r < rows; r++) {
            float angle = v[r] * f;
            out[r * columns + i] = cosf(angle);
            out[r * columns + half + i] = sinf(angle);
        }
    }
}

ts_status ts_adaln_embed(ts_adaln *a, const ts_layer *l1, const ts_layer *l2, const float *v,
                         long rows, ts_tensor y)
{
    ts_status st = TS_OK;
    long freq = l1->w->t.dim[1];
    size_t mark = ts_mark(&a->ctx->arena);
    ts_tensor e = ts_adaln_take(a, TS_F32, rows, freq),
              x = ts_adaln_take(a, TS_F32, rows, y.dim[1]);
    float *host = malloc((size_t)(rows * freq) * sizeof *host);
    if (!host) TRY(ts_fail(&a->ctx->err, TS_EMEMORY, "%ld timesteps: out of memory", rows));
    sincos_rows(v, rows, freq, host);
    TRY(ts_adaln_upload(a, e, host));
    TRY(linear(a, l1, e, TS_ACT_SILU, x));
    TRY(linear(a, l2, x, TS_ACT_NONE, y));
done:
    ts_release(&a->ctx->arena, mark);
    free(host);
    return st;
}

ts_status ts_adaln_project(ts_adaln *a, const ts_layer *l)
{
    ts_status st;
    size_t mark = ts_mark(&a->ctx->arena);
    ts_tensor x = ts_adaln_take(a, TS_F32, a->emb.dim[0], a->info.dim);
    TRY(ts_activate_op(a->ctx->dev, (ts_activate){.act = TS_ACT_SILU, .x = a->emb, .y = x}));
    TRY(linear(a, l, x, TS_ACT_NONE, a->e6));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

/* All texts' rows, one standing for all zero rows of a text; how often a row occurs goes to its
 * bias. */
static ts_status upload_states(ts_adaln *a, const ts_dit_text *text, int texts, ts_tensor states)
{
    ts_status st = TS_OK;
    long width = a->info.text_dim;
    float *host = calloc((size_t)(a->text_rows * width), sizeof *host),
          *bias = calloc((size_t)a->text_rows, sizeof *bias);
    if (!host || !bias)
        TRY(ts_fail(&a->ctx->err, TS_EMEMORY, "%ld rows of text: out of memory", a->text_rows));
    for (int i = 0; i < texts; i++) {
        long first = a->text[i].first, real = text[i].states.dim[0];
        if (real)
            memcpy(host + first * width, text[i].states.data,
                   (size_t)(real * width) * sizeof *host);
        if (a->text[i].zeros) bias[first + real] = (float)log((double)a->text[i].zeros);
    }
    TRY(ts_adaln_upload(a, states, host));
    TRY(ts_adaln_upload(a, a->bias, bias));
done:
    free(host);
    free(bias);
    return st;
}

ts_status ts_adaln_text(ts_adaln *a, const ts_dit_text *text, int texts, const ts_layer *l1,
                        const ts_layer *l2, ts_tensor *c)
{
    ts_status st;
    long D = a->info.dim, T = a->text_rows, width = a->info.text_dim;
    ts_dtype act = a->ctx->act;
    ts_tensor states = ts_adaln_take(a, TS_F32, T, width),
              x = act == TS_F32 ? states : ts_adaln_take(a, act, T, width);
    TRY(upload_states(a, text, texts, states));
    if (act != TS_F32) TRY(ts_cast(a->ctx->dev, states, x));
    *c = x;
    if (!l1->w) goto done;
    ts_tensor u = ts_adaln_take(a, act, T, D);
    *c = ts_adaln_take(a, act, T, D);
    TRY(linear(a, l1, x, TS_ACT_GELU_TANH, u));
    TRY(linear(a, l2, u, TS_ACT_NONE, *c));
done:
    return st;
}

static ts_tensor text_part(const ts_adaln *a, int layer, int value)
{
    return ts_row_range(a->kv, (2L * layer + value) * a->text_rows, a->text_rows);
}

ts_status ts_adaln_keys_and_values(ts_adaln *a, ts_tensor c)
{
    ts_status st = TS_OK;
    for (int i = 0; i < a->info.layers; i++) {
        const ts_adaln_attention *cross = &a->block[i].cross;
        TRY(ts_weights_enter(a->weights, ts_adaln_group_text(a, i)));
        TRY(linear(a, &cross->k, c, TS_ACT_NONE, text_part(a, i, 0)));
        TRY(rms(a, cross->norm_k, text_part(a, i, 0)));
        TRY(linear(a, &cross->v, c, TS_ACT_NONE, text_part(a, i, 1)));
    }
done:
    return st;
}

/* ---- enter, block, leave ---- */

ts_status ts_adaln_enter(void *self, ts_eval e, ts_tensor x, ts_tensor h)
{
    ts_status st;
    ts_adaln *a = self;
    ts_device *dev = a->ctx->dev;
    const int *p = a->info.patch;
    long C = x.dim[0], F = x.dim[1], H = x.dim[2], W = x.dim[3],
         grid[4] = {a->grid.F, a->grid.H, a->grid.W, a->info.dim};
    size_t mark = ts_mark(&a->ctx->arena);
    /* channels last */
    ts_tensor last = ts_take(&a->ctx->arena, TS_F32, TS_DIM(F, H, W, C)), none = {0};
    (void)e;
    TRY(ts_copy_op(dev, (ts_copy){.src = x.p,
                                  .dst = last.p,
                                  .stype = TS_F32,
                                  .dtype = TS_F32,
                                  .nd = 2,
                                  .dim = {F * H * W, C},
                                  .ss = {1, F * H * W},
                                  .ds = {C, 1}}));
    TRY(ts_conv_op(
        dev, (ts_conv){.x = last,
                       .w = a->patch.w,
                       .b = a->patch.b,
                       .stride = {p[0], p[1], p[2]},
                       .resid = ts_there(a->positions) ? ts_view(a->positions, 4, grid) : none,
                       .y = ts_view(h, 4, grid)}));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

/* m [R, k n] = table [k, n] + of [nt, n]: one row for each of the timesteps that a sample uses, one
 * or two (ts_eval.sel). */
static ts_status modulation(ts_adaln *a, ts_eval e, ts_tensor table, ts_tensor of, ts_tensor *m)
{
    ts_status st = TS_OK;
    int row[2] = {e.trow, e.trow_sel}, rows = ts_there(e.sel) ? 2 : 1;
    long n = table.dim[1];
    *m = ts_adaln_take(a, TS_F32, rows, table.dim[0] * n);
    for (int r = 0; r < rows; r++)
        for (long k = 0; k < table.dim[0]; k++)
            TRY(ts_adaln_add(a, ts_row_range(table, k, 1), ts_row_range(of, row[r], 1),
                             ts_columns(ts_row_range(*m, r, 1), k * n, n)));
done:
    return st;
}

/* y = ln(h) (1 + scale) + shift; columns of m: shift at D `at`, then scale. */
static ts_status modulated(ts_adaln *a, ts_eval e, ts_tensor m, int at, ts_tensor h, ts_tensor y)
{
    long D = a->info.dim;
    return ts_norm_op(a->ctx->dev, (ts_norm){.kind = TS_NORM_LAYER,
                                             .eps = a->info.eps,
                                             .x = h,
                                             .scale = ts_columns(m, (at + 1) * D, D),
                                             .shift = ts_columns(m, at * D, D),
                                             .sel = e.sel,
                                             .y = y});
}

/* h += gate l(x); gate: columns of m at D `at`, or none (m absent). */
static ts_status add_gated(ts_adaln *a, const ts_layer *l, ts_tensor x, ts_eval e, ts_tensor m,
                           int at, ts_tensor h)
{
    long D = a->info.dim;
    ts_linear op = {.x = x, .w = l->w, .b = l->b, .resid = h, .y = h};
    if (ts_there(m)) {
        op.gate = ts_columns(m, at * D, D);
        op.sel = e.sel;
    }
    return ts_linear_op(a->ctx->dev, op);
}

/* [rows, A d] -> [rows, A, d]; rows stay as far apart as they are */
static ts_tensor heads(const ts_adaln *a, ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 3, {t.dim[0], a->info.heads, a->info.head_dim}, t.ld};
}

static ts_status turn(ts_adaln *a, ts_tensor x)
{
    return ts_there(a->cos)
               ? ts_rope_op(a->ctx->dev, (ts_rope){.x = heads(a, x), .cos = a->cos, .sin = a->sin})
               : TS_OK;
}

static ts_status self_attention(ts_adaln *a, const ts_adaln_attention *t, ts_eval e, ts_attn *attn,
                                int attn_layer, ts_tensor m, ts_tensor h)
{
    ts_status st;
    long N = a->grid.N, D = a->info.dim;
    ts_dtype act = a->ctx->act;
    size_t mark = ts_mark(&a->ctx->arena);
    ts_tensor n = ts_adaln_take(a, act, N, D), q = ts_adaln_take(a, act, N, D),
              k = ts_adaln_take(a, act, N, D), v = ts_adaln_take(a, act, N, D);
    TRY(modulated(a, e, m, 0, h, n));
    TRY(linear(a, &t->q, n, TS_ACT_NONE, q));
    TRY(linear(a, &t->k, n, TS_ACT_NONE, k));
    TRY(linear(a, &t->v, n, TS_ACT_NONE, v));
    TRY(rms(a, t->norm_q, q));
    TRY(rms(a, t->norm_k, k));
    TRY(turn(a, q));
    TRY(turn(a, k));
    TRY(ts_attend(attn, attn_layer, heads(a, q), heads(a, k), heads(a, v), heads(a, n)));
    TRY(add_gated(a, &t->o, n, e, m, 2, h));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

/* [rows, A d] -> [1, rows, A, d] */
static ts_tensor batch_of_one(const ts_adaln *a, ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 4, {1, t.dim[0], a->info.heads, a->info.head_dim}, t.ld};
}

static ts_status cross_attention(ts_adaln *a, int layer, const ts_adaln_block *b, ts_eval e,
                                 ts_tensor h)
{
    ts_status st;
    ts_device *dev = a->ctx->dev;
    long N = a->grid.N, D = a->info.dim, first = a->text[e.slot].first, rows = a->text[e.slot].rows;
    size_t mark = ts_mark(&a->ctx->arena);
    ts_tensor n = ts_adaln_take(a, a->ctx->act, N, D), q = ts_adaln_take(a, a->ctx->act, N, D),
              bias = {0};
    ts_tensor k = ts_row_range(text_part(a, layer, 0), first, rows),
              v = ts_row_range(text_part(a, layer, 1), first, rows);
    if (a->text[e.slot].zeros)
        bias = ts_tensor_of(ts_at(a->bias.p, (size_t)first * sizeof(float)), TS_F32,
                            TS_DIM(1, 1, rows));
    if (b->norm_w)
        TRY(ts_norm_op(dev, (ts_norm){.kind = TS_NORM_LAYER,
                                      .eps = a->info.eps,
                                      .x = h,
                                      .w = b->norm_w,
                                      .b = b->norm_b,
                                      .y = n}));
    else
        TRY(ts_cast(dev, h, n));
    TRY(linear(a, &b->cross.q, n, TS_ACT_NONE, q));
    TRY(rms(a, b->cross.norm_q, q));
    TRY(ts_attention_op(dev, (ts_attention){.q = batch_of_one(a, q),
                                            .k = batch_of_one(a, k),
                                            .v = batch_of_one(a, v),
                                            .out = batch_of_one(a, n),
                                            .scale = (float)(1 / sqrt((double)a->info.head_dim)),
                                            .bias = bias}));
    TRY(add_gated(a, &b->cross.o, n, e, (ts_tensor){0}, 0, h));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

static ts_status feed_forward(ts_adaln *a, const ts_adaln_block *b, ts_eval e, ts_tensor m,
                              ts_tensor h)
{
    ts_status st;
    long N = a->grid.N;
    size_t mark = ts_mark(&a->ctx->arena);
    ts_tensor n = ts_adaln_take(a, a->ctx->act, N, a->info.dim),
              u = ts_adaln_take(a, a->ctx->act, N, b->up.w->t.dim[0]);
    TRY(modulated(a, e, m, 3, h, n));
    TRY(linear(a, &b->up, n, TS_ACT_GELU_TANH, u));
    TRY(add_gated(a, &b->down, u, e, m, 5, h));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

ts_status ts_adaln_run_block(void *self, int layer, ts_eval e, ts_attn *attn, int attn_layer,
                             ts_tensor h)
{
    ts_status st;
    ts_adaln *a = self;
    const ts_adaln_block *b = a->block + layer;
    ts_tensor m;
    size_t mark = ts_mark(&a->ctx->arena);
    TRY(modulation(a, e, ts_view(b->table->t, TS_DIM(1, 6L * a->info.dim)), a->e6, &m));
    TRY(self_attention(a, &b->self, e, attn, attn_layer, m, h));
    TRY(cross_attention(a, layer, b, e, h));
    TRY(feed_forward(a, b, e, m, h));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

/* A token's row of o holds its patch as [pt, ph, pw, C]: the channel is the fastest. */
static ts_status unpatchify(ts_adaln *a, ts_tensor o, ts_tensor v)
{
    const int *p = a->info.patch;
    long C = v.dim[0], F = v.dim[1], H = v.dim[2], W = v.dim[3], K = o.dim[1], gh = a->grid.H,
         gw = a->grid.W;
    return ts_copy_op(a->ctx->dev,
                      (ts_copy){.src = o.p,
                                .dst = v.p,
                                .stype = TS_F32,
                                .dtype = TS_F32,
                                .nd = 7,
                                .dim = {a->grid.F, gh, gw, p[0], p[1], p[2], C},
                                .ss = {gh * gw * K, gw * K, K, p[1] * p[2] * C, p[2] * C, C, 1},
                                .ds = {p[0] * H * W, p[1] * W, p[2], H * W, W, 1, F * H * W}});
}

ts_status ts_adaln_leave(void *self, ts_eval e, ts_tensor h, ts_tensor v)
{
    ts_status st;
    ts_adaln *a = self;
    long N = a->grid.N, D = a->info.dim;
    size_t mark = ts_mark(&a->ctx->arena);
    ts_tensor m, n = ts_adaln_take(a, TS_F32, N, D),
                 o = ts_adaln_take(a, TS_F32, N, a->out.w->t.dim[0]);
    TRY(modulation(a, e, ts_view(a->table->t, TS_DIM(2, D)), a->emb, &m));
    TRY(modulated(a, e, m, 0, h, n));
    TRY(linear(a, &a->out, n, TS_ACT_NONE, o));
    TRY(unpatchify(a, o, v));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}
