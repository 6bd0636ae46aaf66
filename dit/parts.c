/* The parts of transformers (parts.h): each a formula over the operations of the device. */
#include "dit/parts.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors ---- */

ts_tensor ts_part_take(ts_ctx *ctx, ts_dtype type, long rows, long columns)
{
    return ts_take(&ctx->arena, type, TS_DIM(rows, columns));
}

ts_status ts_part_upload(ts_ctx *ctx, ts_tensor to, const float *from)
{
    return ctx->dev->ops->upload(ctx->dev, to.p, from, (size_t)ts_count(to) * sizeof *from);
}

ts_status ts_part_add(ts_ctx *ctx, ts_tensor a, ts_tensor b, ts_tensor y)
{
    return ts_lincomb_op(ctx->dev, (ts_lincomb){.n = 2, .c = {1, 1}, .x = {a, b}, .y = y});
}

ts_tensor ts_part_heads(ts_tensor t, int heads)
{
    assert(t.nd == 2 && t.dim[1] % heads == 0);
    return (ts_tensor){t.p, t.type, 3, {t.dim[0], heads, t.dim[1] / heads}, t.ld};
}

ts_tensor ts_part_batch_of_one(ts_tensor t, int heads)
{
    assert(t.nd == 2 && t.dim[1] % heads == 0);
    return (ts_tensor){t.p, t.type, 4, {1, t.dim[0], heads, t.dim[1] / heads}, t.ld};
}

/* ---- layers ---- */

ts_status ts_part_linear(ts_ctx *ctx, const ts_layer *l, ts_tensor x, ts_act act, ts_tensor y)
{
    return ts_linear_op(ctx->dev, (ts_linear){.x = x, .w = l->w, .b = l->b, .act = act, .y = y});
}

ts_status ts_part_norm(ts_ctx *ctx, const ts_layer *n, float eps, ts_tensor x, ts_tensor y)
{
    return ts_norm_op(
        ctx->dev,
        (ts_norm){.kind = TS_NORM_LAYER, .eps = eps, .x = x, .w = n->w, .b = n->b, .y = y});
}

static ts_status rms_rows(ts_ctx *ctx, const ts_weight *w, float eps, ts_tensor x)
{
    return ts_norm_op(ctx->dev, (ts_norm){.kind = TS_NORM_RMS, .eps = eps, .x = x, .w = w, .y = x});
}

ts_status ts_part_rms(ts_ctx *ctx, const ts_weight *w, float eps, ts_tensor x)
{
    ts_status st = TS_OK;
    if (x.nd == 2) return rms_rows(ctx, w, eps, x);
    long N = x.dim[0], A = x.dim[1], d = x.dim[2];
    if (x.ld == A * d) return rms_rows(ctx, w, eps, ts_tensor_of(x.p, x.type, TS_DIM(N * A, d)));
    /* heads of tokens that lie in wider rows: one head of all tokens at a time */
    ts_tensor head = {x.p, x.type, 2, {N, d}, x.ld};
    for (long a = 0; a < A; a++) {
        TRY(rms_rows(ctx, w, eps, head));
        head.p = ts_at(head.p, (size_t)d * ts_dtype_size(x.type));
    }
done:
    return st;
}

void ts_part_sincos(const float *v, long rows, long columns, float *out)
{
    long half = columns / 2;
    for (long i = 0; i < half; i++) {
        float w = expf((float)-log(10000.0) * (float)i / (float)half);
        for (long r = 0; r < rows; r++) {
            float angle = v[r] * w;
            out[r * columns + i] = cosf(angle);
            out[r * columns + half + i] = sinf(angle);
        }
    }
}

ts_status ts_part_embed_rows(ts_ctx *ctx, const ts_layer *l1, const ts_layer *l2, const float *v,
                             long rows, ts_tensor y)
{
    ts_status st;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor e = ts_part_take(ctx, TS_F32, rows, l1->w->t.dim[1]); /* [rows, width] */
    ts_tensor x = ts_part_take(ctx, TS_F32, rows, y.dim[1]);        /* [rows, O] */
    TRY(ts_part_upload(ctx, e, v));
    TRY(ts_part_linear(ctx, l1, e, TS_ACT_SILU, x));
    TRY(ts_part_linear(ctx, l2, x, TS_ACT_NONE, y));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

ts_status ts_part_embed(ts_ctx *ctx, const ts_layer *l1, const ts_layer *l2, const float *v,
                        long rows, ts_tensor y)
{
    long freq = l1->w->t.dim[1];
    float *host = malloc((size_t)(rows * freq) * sizeof *host);
    if (!host) return ts_fail(&ctx->err, TS_EMEMORY, "%ld timesteps: out of memory", rows);
    ts_part_sincos(v, rows, freq, host);
    ts_status st = ts_part_embed_rows(ctx, l1, l2, host, rows, y);
    free(host);
    return st;
}

ts_status ts_part_project(ts_ctx *ctx, const ts_layer *l, ts_tensor x, ts_tensor y)
{
    ts_status st;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor s = ts_part_take(ctx, TS_F32, x.dim[0], x.dim[1]);
    TRY(ts_activate_op(ctx->dev, (ts_activate){.act = TS_ACT_SILU, .x = x, .y = s}));
    TRY(ts_part_linear(ctx, l, s, TS_ACT_NONE, y));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

/* ---- modulation ---- */

ts_status ts_part_modulate(ts_ctx *ctx, const ts_layer *l, ts_tensor row, ts_modulation *m)
{
    *m = (ts_modulation){.m = ts_part_take(ctx, TS_F32, 1, l->w->t.dim[0])};
    return ts_part_project(ctx, l, row, m->m);
}

ts_status ts_part_modulation(ts_ctx *ctx, ts_tensor table, ts_tensor of, const int *row, int rows,
                             ts_tensor *m)
{
    ts_status st = TS_OK;
    long k = table.dim[0], D = table.dim[1];
    *m = ts_part_take(ctx, TS_F32, rows, k * D);
    for (int r = 0; r < rows; r++) {
        ts_tensor to = ts_row_range(*m, r, 1), from = ts_row_range(of, row[r], 1);
        if (of.dim[1] == k * D) {
            TRY(ts_part_add(ctx, ts_view(table, TS_DIM(1, k * D)), from, to));
            continue;
        }
        for (long i = 0; i < k; i++)
            TRY(ts_part_add(ctx, ts_row_range(table, i, 1), from, ts_columns(to, i * D, D)));
    }
done:
    return st;
}

ts_status ts_part_modulated(ts_ctx *ctx, float eps, ts_modulation m, int shift, int scale,
                            ts_tensor h, ts_tensor y)
{
    long D = h.dim[1];
    return ts_norm_op(ctx->dev, (ts_norm){.kind = TS_NORM_LAYER,
                                          .eps = eps,
                                          .x = h,
                                          .scale = ts_columns(m.m, scale * D, D),
                                          .shift = ts_columns(m.m, shift * D, D),
                                          .sel = m.sel,
                                          .y = y});
}

ts_status ts_part_add_gated(ts_ctx *ctx, const ts_layer *l, ts_tensor x, ts_modulation m, int gate,
                            ts_tensor h)
{
    long D = h.dim[1];
    return ts_linear_op(ctx->dev, (ts_linear){.x = x,
                                              .w = l->w,
                                              .b = l->b,
                                              .gate = ts_columns(m.m, gate * D, D),
                                              .sel = m.sel,
                                              .resid = h,
                                              .y = h});
}

/* ---- latents and tokens ---- */

ts_status ts_part_upload_latents(ts_ctx *ctx, const float *from, ts_tensor to)
{
    ts_status st;
    long C = to.dim[3], P = ts_rows(to);
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor raw = ts_part_take(ctx, TS_F32, C, P);
    TRY(ts_part_upload(ctx, raw, from));
    TRY(ts_copy_op(ctx->dev, (ts_copy){.src = raw.p,
                                       .dst = to.p,
                                       .stype = TS_F32,
                                       .dtype = TS_F32,
                                       .nd = 2,
                                       .dim = {P, C},
                                       .ss = {1, P},
                                       .ds = {to.ld, 1}}));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

ts_status ts_part_beside(ts_ctx *ctx, const ts_dit_inputs *in, ts_tensor *beside)
{
    const long *l = in->latents.dim; /* C' F H W */
    *beside = (ts_tensor){0};
    if (!in->latents.data) return TS_OK;
    *beside = ts_take(&ctx->arena, TS_F32, TS_DIM(l[1], l[2], l[3], l[0]));
    return ts_part_upload_latents(ctx, in->latents.data, *beside);
}

ts_status ts_part_join(ts_ctx *ctx, ts_tensor beside, ts_tensor *x)
{
    ts_status st = TS_OK;
    if (!ts_there(beside)) return TS_OK;
    long C = x->dim[3], more = beside.dim[3];
    ts_tensor all = ts_take(&ctx->arena, TS_F32, TS_DIM(x->dim[0], x->dim[1], x->dim[2], C + more));
    TRY(ts_cast(ctx->dev, *x, ts_columns(all, 0, C)));
    TRY(ts_cast(ctx->dev, beside, ts_columns(all, C, more)));
    *x = all;
done:
    return st;
}

ts_status ts_part_patchify(ts_ctx *ctx, const ts_layer *l, const int p[3], ts_tensor x,
                           ts_tensor resid, ts_tensor h)
{
    long grid[4] = {x.dim[0] / p[0], x.dim[1] / p[1], x.dim[2] / p[2], h.dim[1]};
    return ts_conv_op(ctx->dev,
                      (ts_conv){.x = x,
                                .w = l->w,
                                .b = l->b,
                                .stride = {p[0], p[1], p[2]},
                                .resid = ts_there(resid) ? ts_view(resid, 4, grid) : resid,
                                .y = ts_view(h, 4, grid)});
}

ts_status ts_part_unpatchify(ts_ctx *ctx, const int p[3], ts_tensor rows, ts_tensor v)
{
    long H = v.dim[1], W = v.dim[2], C = v.dim[3], K = rows.ld;
    long gf = v.dim[0] / p[0], gh = H / p[1], gw = W / p[2]; /* the grid of tokens */
    return ts_copy_op(
        ctx->dev, (ts_copy){.src = rows.p,
                            .dst = v.p,
                            .stype = TS_F32,
                            .dtype = TS_F32,
                            .nd = 6,
                            .dim = {gf, gh, gw, p[0], p[1], p[2] * C},
                            .ss = {gh * gw * K, gw * K, K, p[1] * p[2] * C, p[2] * C, 1},
                            .ds = {p[0] * H * W * C, p[1] * W * C, p[2] * C, H * W * C, W * C, 1}});
}

ts_status ts_part_move_patches(ts_ctx *ctx, const int p[3], ts_tensor v, ts_tensor rows,
                               bool to_rows)
{
    long H = v.dim[1], W = v.dim[2], C = v.dim[3], K = rows.ld, gh = H / p[1], gw = W / p[2],
         area = (long)p[1] * p[2],
         of_v[7] = {p[0] * H * W * C, p[1] * W * C, p[2] * C, 1, H * W * C, W * C, C},
         of_rows[7] = {gh * gw * K, gw * K, K, p[0] * area, area, p[2], 1};
    ts_copy c = {.src = to_rows ? v.p : rows.p,
                 .dst = to_rows ? rows.p : v.p,
                 .stype = TS_F32,
                 .dtype = TS_F32,
                 .nd = 7,
                 .dim = {v.dim[0] / p[0], gh, gw, C, p[0], p[1], p[2]}};
    memcpy(c.ss, to_rows ? of_v : of_rows, sizeof of_v);
    memcpy(c.ds, to_rows ? of_rows : of_v, sizeof of_v);
    return ts_copy_op(ctx->dev, c);
}

/* Cosines (or sines) of an axis' positions [n, half], to columns of every token of the grid. */
static ts_status spread_axis(ts_ctx *ctx, const ts_grid *g, int axis, ts_tensor from, ts_tensor to,
                             long column)
{
    long row = to.ld, n = from.dim[1];
    ts_copy c = {.src = from.p,
                 .dst = ts_at(to.p, (size_t)column * sizeof(float)),
                 .stype = TS_F32,
                 .dtype = TS_F32,
                 .nd = 4,
                 .dim = {g->F, g->H, g->W, n},
                 .ss = {0, 0, 0, 1},
                 .ds = {(long)g->H * g->W * row, g->W * row, row, 1}};
    c.ss[axis] = n;
    return ts_copy_op(ctx->dev, c);
}

/* host [2 n, half]: cosines, then sines, of an axis of 2 half channels at n positions. */
static void rope_axis(const double *position, long n, long half, double theta, float *host)
{
    for (long p = 0; p < n; p++)
        for (long j = 0; j < half; j++) {
            double angle = position[p] * pow(theta, -2.0 * (double)j / (double)(2 * half));
            host[p * half + j] = (float)cos(angle);
            host[(n + p) * half + j] = (float)sin(angle);
        }
}

ts_status ts_part_rope_table(ts_ctx *ctx, const ts_grid *g, const long width[3], double theta,
                             const double *const position[3], ts_tensor cos_to, ts_tensor sin_to)
{
    ts_status st = TS_OK;
    long length[3] = {g->F, g->H, g->W}, column = 0;
    bool ordered = ts_there(g->perm);
    float *host = NULL;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor c = cos_to, s = sin_to; /* [N, d / 2] in raster order */
    if (ordered) {
        c = ts_part_take(ctx, TS_F32, g->N, cos_to.dim[1]);
        s = ts_part_take(ctx, TS_F32, g->N, sin_to.dim[1]);
    }
    for (int axis = 0; axis < 3; axis++) {
        long n = length[axis], half = width[axis] / 2;
        if (!half) continue;
        ts_tensor both = ts_part_take(ctx, TS_F32, 2 * n, half);
        float *more = realloc(host, (size_t)(2 * n * half) * sizeof *host);
        if (!more) TRY(ts_fail(&ctx->err, TS_EMEMORY, "positions of %ld tokens: out of memory", n));
        host = more;
        rope_axis(position[axis], n, half, theta, host);
        TRY(ts_part_upload(ctx, both, host));
        TRY(spread_axis(ctx, g, axis, ts_row_range(both, 0, n), c, column));
        TRY(spread_axis(ctx, g, axis, ts_row_range(both, n, n), s, column));
        column += half;
    }
    if (!ordered) goto done;
    TRY(ts_gather_op(ctx->dev, (ts_gather){c, g->perm, cos_to}));
    TRY(ts_gather_op(ctx->dev, (ts_gather){s, g->perm, sin_to}));
done:
    ts_release(&ctx->arena, mark);
    free(host);
    return st;
}

ts_status ts_part_rope_indices(ts_ctx *ctx, const ts_grid *g, const long width[3], double theta,
                               ts_tensor cos_to, ts_tensor sin_to)
{
    ts_status st;
    long longest = g->F > g->H ? g->F : g->H;
    if (g->W > longest) longest = g->W;
    double *index = malloc((size_t)longest * sizeof *index);
    if (!index)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "positions of %ld tokens: out of memory", longest));
    for (long i = 0; i < longest; i++) index[i] = (double)i;
    TRY(ts_part_rope_table(ctx, g, width, theta, (const double *[]){index, index, index}, cos_to,
                           sin_to));
done:
    free(index);
    return st;
}

ts_status ts_part_sines(ts_ctx *ctx, const ts_grid *g, int axis, const double *position, long width,
                        ts_tensor to, long column)
{
    ts_status st;
    long n = axis == 0 ? g->F : axis == 1 ? g->H : g->W, half = width / 2;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor of = ts_part_take(ctx, TS_F32, n, width);
    float *host = malloc((size_t)(n * width) * sizeof *host);
    if (!host) TRY(ts_fail(&ctx->err, TS_EMEMORY, "positions of %d tokens: out of memory", g->N));
    for (long i = 0; i < n; i++)
        for (long k = 0; k < half; k++) {
            double angle = position[i] * pow(10000, -(double)k / (double)half);
            host[i * width + k] = (float)sin(angle);
            host[i * width + half + k] = (float)cos(angle);
        }
    TRY(ts_part_upload(ctx, of, host));
    TRY(spread_axis(ctx, g, axis, of, to, column));
done:
    ts_release(&ctx->arena, mark);
    free(host);
    return st;
}

/* ---- rows of text ---- */

static ts_status states_of(ts_ctx *ctx, const ts_dit_inputs *in, int slot, ts_host *states)
{
    return ts_bag_get(&ctx->err, in->text[slot], "states", TS_F32, 2, (long[]){-1, -1}, states);
}

ts_status ts_part_texts_lay(ts_ctx *ctx, ts_part_texts *t, const ts_dit_inputs *in, long length)
{
    ts_status st = TS_OK;
    if (in->slots > TS_PART_TEXTS)
        TRY(ts_fail(&ctx->err, TS_EUSAGE, "%d texts at once, expected at most %d", in->slots,
                    TS_PART_TEXTS));
    *t = (ts_part_texts){0};
    for (int i = 0; i < in->slots; i++) {
        ts_host s;
        TRY(states_of(ctx, in, i, &s));
        long real = s.dim[0], seen = length ? length : real;
        t->of[i].zeros = seen - real;
        t->of[i].first = t->rows;
        t->of[i].rows = real + (seen > real);
        t->rows += t->of[i].rows;
    }
    t->bias = ts_part_take(ctx, TS_F32, 1, t->rows);
done:
    return st;
}

ts_status ts_part_texts_upload(ts_ctx *ctx, const ts_part_texts *t, const ts_dit_inputs *in,
                               ts_tensor states)
{
    ts_status st = TS_OK;
    long width = states.dim[1];
    float *host = calloc((size_t)(t->rows * width), sizeof *host),
          *bias = calloc((size_t)t->rows, sizeof *bias);
    if (!host || !bias)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "%ld rows of text: out of memory", t->rows));
    for (int i = 0; i < in->slots; i++) {
        ts_host s;
        TRY(states_of(ctx, in, i, &s));
        long first = t->of[i].first, real = s.dim[0];
        if (real) memcpy(host + first * width, s.data, (size_t)(real * width) * sizeof *host);
        if (t->of[i].zeros) bias[first + real] = (float)log((double)t->of[i].zeros);
    }
    TRY(ts_part_upload(ctx, states, host));
    TRY(ts_part_upload(ctx, t->bias, bias));
done:
    free(host);
    free(bias);
    return st;
}

ts_status ts_part_texts_take(ts_ctx *ctx, const ts_part_texts *t, const ts_dit_inputs *in,
                             long width, ts_tensor *x)
{
    ts_status st;
    ts_tensor states = ts_part_take(ctx, TS_F32, t->rows, width);
    *x = states;
    TRY(ts_part_texts_upload(ctx, t, in, states));
    if (ctx->act == TS_F32) goto done;
    *x = ts_part_take(ctx, ctx->act, t->rows, width);
    TRY(ts_cast(ctx->dev, states, *x));
done:
    return st;
}

ts_tensor ts_part_text_rows(const ts_part_texts *t, ts_tensor all, int slot)
{
    return ts_row_range(all, t->of[slot].first, t->of[slot].rows);
}

ts_tensor ts_part_text_bias(const ts_part_texts *t, int slot)
{
    if (!t->of[slot].zeros) return (ts_tensor){0};
    return ts_tensor_of(ts_at(t->bias.p, (size_t)t->of[slot].first * sizeof(float)), TS_F32,
                        TS_DIM(1, 1, t->of[slot].rows));
}
