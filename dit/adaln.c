/* What transformers with adaLN-single compute, with emb the embedding of the timestep, e its
 * projection, P the layer at the end:
 *
 *   enter  h = conv(x) + positions, kernel = stride = patch
 *          where other channels stand beside the sample's: of both, the sample's first
 *   block  [shift_a scale_a gate_a shift_f scale_f gate_f] = table + e
 *          h += gate_a O(attention(rope(rms(Q n)), rope(rms(K n)), V n)), n = ln(h) (1 + scale_a) +
 * shift_a h += O(attention(rms(Q n), rms(K text), V text)),              n = ln(h) w + b, or h h +=
 * gate_f W2 gelu(W1 n),                                     n = ln(h) (1 + scale_f) + shift_f leave
 * [shift scale] = table + emb, v = P(ln(h) (1 + scale) + shift)
 *
 * With pictures attention(rms(Q n), rms(K' pictures), V' pictures) is added to what O reads of the
 * text. Positions, rms, rope and the norm before cross-attention are there where the class has
 * them. The residual stream h is f32, activations have the type of ctx->act. */
#include "dit/adaln.h"

#include <math.h>
#include <stdlib.h>

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

ts_status ts_adaln_bind_block(ts_adaln *a, int i, const char *blocks, const char *ff_name,
                              long text, long ff)
{
    ts_status st;
    ts_adaln_block *b = a->block + i;
    ts_weights *ws = a->weights;
    long D = a->info.dim;
    const ts_layer_row row[] = {
        TS_LINEAR(&b->self.q, "attn1.to_q", D, D),  TS_LINEAR(&b->self.k, "attn1.to_k", D, D),
        TS_LINEAR(&b->self.v, "attn1.to_v", D, D),  TS_LINEAR(&b->self.o, "attn1.to_out.0", D, D),
        TS_LINEAR(&b->cross.q, "attn2.to_q", D, D), TS_LINEAR(&b->cross.o, "attn2.to_out.0", D, D),
    };
    const ts_layer_row of_text[] = {TS_LINEAR(&b->cross.k, "attn2.to_k", D, text),
                                    TS_LINEAR(&b->cross.v, "attn2.to_v", D, text)};
    TRY(ts_find_layers(ws, i, row, sizeof row / sizeof *row, blocks, i));
    TRY(ts_find_layers(ws, ts_adaln_group_text(a, i), of_text, 2, blocks, i));
    TRY(ts_find_linear(ws, i, &b->up, ff, D, true, "%s.%d.%s.net.0.proj", blocks, i, ff_name));
    TRY(ts_find_linear(ws, i, &b->down, D, ff, true, "%s.%d.%s.net.2", blocks, i, ff_name));
done:
    return st;
}

/* ---- PixArt's layers ---- */

ts_status ts_adaln_bind_pixart(ts_adaln *a, ts_ctx *ctx, const ts_dit_info *info, ts_weights *ws,
                               long text, long caption, ts_adaln_embedders *m)
{
    enum { FREQUENCIES = 256 }; /* of the timestep's sines */
    ts_status st;
    long D = info->dim, side = info->patch[1];
    const ts_layer_row row[] = {
        TS_LINEAR(&m->time1, "adaln_single.emb.timestep_embedder.linear_1", D, FREQUENCIES),
        TS_LINEAR(&m->time2, "adaln_single.emb.timestep_embedder.linear_2", D, D),
        TS_LINEAR(&m->modulate, "adaln_single.linear", 6 * D, D),
        TS_LINEAR(&m->text1, "caption_projection.linear_1", D, caption),
        TS_LINEAR(&m->text2, "caption_projection.linear_2", D, D),
    };
    TRY(ts_adaln_bind(a, ctx, info, ws));
    int ends = ts_adaln_group_ends(a);
    for (int i = 0; i < info->layers; i++) {
        TRY(ts_adaln_bind_block(a, i, "transformer_blocks", "ff", text, 4 * D));
        TRY(ts_find_vector(ws, i, &a->block[i].table, 2, (long[]){6, D},
                           "transformer_blocks.%d.scale_shift_table", i));
    }
    TRY(ts_find_conv(ws, ends, &a->patch, 4, (long[]){D, info->in_channels, side, side},
                     "pos_embed.proj"));
    TRY(ts_find_linear(ws, ends, &a->out, side * side * info->out_channels, D, true, "proj_out"));
    TRY(ts_find_vector(ws, ends, &a->table, 2, (long[]){2, D}, "scale_shift_table"));
    TRY(ts_find_layers(ws, ts_adaln_group_embed(a), row, caption ? 5 : 3, NULL, 0));
done:
    return st;
}

ts_tensor ts_adaln_embedding(void *self, ts_eval e)
{
    const ts_adaln *a = self;
    return ts_row_range(a->e6, e.trow, 1);
}

void ts_adaln_unbind(void *self)
{
    ts_adaln *a = self;
    free(a->block);
}

/* ---- prepare ---- */

ts_status ts_adaln_begin(ts_adaln *a, const ts_grid *grid, const ts_dit_inputs *in, long text_rows,
                         long nt)
{
    ts_status st;
    ts_ctx *ctx = a->ctx;
    long D = a->info.dim;
    if (in->guidance != 0)
        TRY(ts_fail(&ctx->err, TS_EMODEL, "a guidance that the model is told: this one is not"));
    a->grid = *grid;
    a->picture = (ts_tensor){0};
    a->emb = ts_part_take(ctx, TS_F32, nt, D);
    a->e6 = ts_part_take(ctx, TS_F32, nt, 6 * D);
    TRY(ts_part_texts_lay(ctx, &a->text, in, in->text_rows ? in->text_rows : text_rows));
    a->kv = ts_part_take(ctx, ctx->act, 2 * a->info.layers * a->text.rows, D);
    if (in->picture.data)
        a->picture = ts_part_take(ctx, ctx->act, 2 * a->info.layers * in->picture.dim[0], D);
    TRY(ts_part_beside(ctx, in, &a->beside));
done:
    return st;
}

ts_status ts_adaln_text(ts_adaln *a, const ts_dit_inputs *in, const ts_layer *l1,
                        const ts_layer *l2, ts_tensor *c)
{
    ts_status st;
    ts_ctx *ctx = a->ctx;
    long D = a->info.dim, T = a->text.rows;
    TRY(ts_part_texts_take(ctx, &a->text, in, a->info.text_dim, c));
    if (!l1->w) goto done;
    ts_tensor x = *c;
    ts_tensor u = ts_part_take(ctx, ctx->act, T, D);
    *c = ts_part_take(ctx, ctx->act, T, D);
    TRY(ts_part_linear(ctx, l1, x, TS_ACT_GELU_TANH, u));
    TRY(ts_part_linear(ctx, l2, u, TS_ACT_NONE, *c));
done:
    return st;
}

/* Keys (value 0) or values (1) of all texts in a layer: [T, D]. */
static ts_tensor text_part(const ts_adaln *a, int layer, int value)
{
    return ts_row_range(a->kv, (2L * layer + value) * a->text.rows, a->text.rows);
}

/* Over all heads together, where the class has it. */
static ts_status norm_heads(const ts_adaln *a, const ts_weight *w, ts_tensor x)
{
    return w ? ts_part_rms(a->ctx, w, a->info.eps, x) : TS_OK;
}

/* The same of pictures: [R, D]. */
static ts_tensor picture_part(const ts_adaln *a, int layer, int value)
{
    long rows = a->picture.dim[0] / (2L * a->info.layers);
    return ts_row_range(a->picture, (2L * layer + value) * rows, rows);
}

static ts_status project_pictures(ts_adaln *a, int layer, ts_tensor pictures)
{
    ts_status st;
    const ts_adaln_block *b = a->block + layer;
    ts_tensor k = picture_part(a, layer, 0);
    TRY(ts_part_linear(a->ctx, &b->picture_k, pictures, TS_ACT_NONE, k));
    TRY(norm_heads(a, b->picture_norm, k));
    TRY(ts_part_linear(a->ctx, &b->picture_v, pictures, TS_ACT_NONE, picture_part(a, layer, 1)));
done:
    return st;
}

ts_status ts_adaln_keys_and_values(ts_adaln *a, ts_tensor c, ts_tensor pictures)
{
    ts_status st = TS_OK;
    for (int i = 0; i < a->info.layers; i++) {
        const ts_adaln_attention *cross = &a->block[i].cross;
        TRY(ts_weights_enter(a->weights, ts_adaln_group_text(a, i)));
        TRY(ts_part_linear(a->ctx, &cross->k, c, TS_ACT_NONE, text_part(a, i, 0)));
        TRY(norm_heads(a, cross->norm_k, text_part(a, i, 0)));
        TRY(ts_part_linear(a->ctx, &cross->v, c, TS_ACT_NONE, text_part(a, i, 1)));
        if (ts_there(pictures)) TRY(project_pictures(a, i, pictures));
    }
done:
    return st;
}

/* ---- enter, block, leave ---- */

ts_status ts_adaln_enter(void *self, ts_eval e, ts_tensor x, ts_tensor h)
{
    ts_status st;
    ts_adaln *a = self;
    ts_ctx *ctx = a->ctx;
    size_t mark = ts_mark(&ctx->arena);
    (void)e;
    TRY(ts_part_join(ctx, a->beside, &x));
    TRY(ts_part_patchify(ctx, &a->patch, a->info.patch, x, a->positions, h));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

/* One row of modulation for each of the timesteps that a sample uses, one or two (ts_eval.sel). */
static ts_status select_modulation(ts_adaln *a, ts_eval e, ts_tensor table, ts_tensor of,
                                   ts_modulation *m)
{
    int row[2] = {e.trow, e.trow_sel};
    m->sel = e.sel;
    return ts_part_modulation(a->ctx, table, of, row, ts_there(e.sel) ? 2 : 1, &m->m);
}

/* x [N, A d] turned in place. Channels that turn together are brought beside each other first where
 * they are apart, to memory that lives until the caller's mark: attention sees queries and keys in
 * the same order, whichever it is. */
static ts_status rope_heads(const ts_adaln *a, ts_tensor *x)
{
    ts_status st = TS_OK;
    if (!ts_there(a->cos)) goto done;
    if (a->split) {
        long N = x->dim[0], third = a->info.head_dim / 3;
        ts_tensor beside = ts_part_take(a->ctx, x->type, N, x->dim[1]);
        TRY(ts_copy_op(a->ctx->dev, (ts_copy){.src = x->p,
                                              .dst = beside.p,
                                              .stype = x->type,
                                              .dtype = x->type,
                                              .nd = 4,
                                              .dim = {N, 3L * a->info.heads, 2, third / 2},
                                              .ss = {x->ld, third, third / 2, 1},
                                              .ds = {beside.ld, third, 1, 2}}));
        *x = beside;
    }
    TRY(ts_rope_op(a->ctx->dev,
                   (ts_rope){.x = ts_part_heads(*x, a->info.heads), .cos = a->cos, .sin = a->sin}));
done:
    return st;
}

static ts_status self_attention(ts_adaln *a, const ts_adaln_attention *t, ts_attn *attn,
                                ts_modulation m, ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = a->ctx;
    long N = h.dim[0], D = a->info.dim;
    int A = a->info.heads;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, ctx->act, N,
                               D); /* ln(h) (1 + scale) + shift, then what is read */
    ts_tensor q = ts_part_take(ctx, ctx->act, N, D);
    ts_tensor k = ts_part_take(ctx, ctx->act, N, D);
    ts_tensor v = ts_part_take(ctx, ctx->act, N, D);
    TRY(ts_part_modulated(ctx, a->info.eps, m, 0, 1, h, n));
    TRY(ts_part_linear(ctx, &t->q, n, TS_ACT_NONE, q));
    TRY(ts_part_linear(ctx, &t->k, n, TS_ACT_NONE, k));
    TRY(ts_part_linear(ctx, &t->v, n, TS_ACT_NONE, v));
    TRY(norm_heads(a, t->norm_q, q));
    TRY(norm_heads(a, t->norm_k, k));
    TRY(rope_heads(a, &q));
    TRY(rope_heads(a, &k));
    TRY(ts_attend(attn, ts_part_heads(q, A), ts_part_heads(k, A), ts_part_heads(v, A),
                  ts_part_heads(n, A)));
    TRY(ts_part_add_gated(ctx, &t->o, n, m, 2, h));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status norm_before_text(const ts_adaln *a, const ts_adaln_block *b, ts_tensor h,
                                  ts_tensor n)
{
    return b->norm.w ? ts_part_norm(a->ctx, &b->norm, a->info.eps, h, n)
                     : ts_cast(a->ctx->dev, h, n);
}

/* out = attention(q, k, v) of rows that every token sees, [rows, D] each */
static ts_status attend_rows(ts_adaln *a, ts_tensor q, ts_tensor k, ts_tensor v, ts_tensor bias,
                             ts_tensor out)
{
    int A = a->info.heads;
    return ts_attention_op(a->ctx->dev,
                           (ts_attention){.q = ts_part_batch_of_one(q, A),
                                          .k = ts_part_batch_of_one(k, A),
                                          .v = ts_part_batch_of_one(v, A),
                                          .out = ts_part_batch_of_one(out, A),
                                          .scale = (float)(1 / sqrt((double)a->info.head_dim)),
                                          .bias = bias});
}

static ts_status cross_attention(ts_adaln *a, int layer, int slot, ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = a->ctx;
    const ts_adaln_block *b = a->block + layer;
    const ts_layer *o = &b->cross.o;
    long N = h.dim[0], D = a->info.dim;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, ctx->act, N, D); /* ln(h) w + b, then what is read */
    ts_tensor q = ts_part_take(ctx, ctx->act, N, D);
    ts_tensor k = ts_part_text_rows(&a->text, text_part(a, layer, 0), slot); /* [rows, D] */
    ts_tensor v = ts_part_text_rows(&a->text, text_part(a, layer, 1), slot);
    TRY(norm_before_text(a, b, h, n));
    TRY(ts_part_linear(ctx, &b->cross.q, n, TS_ACT_NONE, q));
    TRY(norm_heads(a, b->cross.norm_q, q));
    TRY(attend_rows(a, q, k, v, ts_part_text_bias(&a->text, slot), n));
    if (ts_there(a->picture)) {
        TRY(attend_rows(a, q, picture_part(a, layer, 0), picture_part(a, layer, 1), (ts_tensor){0},
                        q));
        TRY(ts_part_add(ctx, n, q, n));
    }
    TRY(ts_linear_op(ctx->dev, (ts_linear){.x = n, .w = o->w, .b = o->b, .resid = h, .y = h}));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status apply_adaln_feed_forward(ts_adaln *a, const ts_adaln_block *b, ts_modulation m,
                                          ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = a->ctx;
    long N = h.dim[0];
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, ctx->act, N, a->info.dim);
    ts_tensor u = ts_part_take(ctx, ctx->act, N, b->up.w->t.dim[0]); /* [N, ff] */
    TRY(ts_part_modulated(ctx, a->info.eps, m, 3, 4, h, n));
    TRY(ts_part_linear(ctx, &b->up, n, TS_ACT_GELU_TANH, u));
    TRY(ts_part_add_gated(ctx, &b->down, u, m, 5, h));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

ts_status ts_adaln_run_block(void *self, int layer, ts_eval e, ts_attn *attn, ts_tensor h)
{
    ts_status st;
    ts_adaln *a = self;
    const ts_adaln_block *b = a->block + layer;
    ts_modulation m; /* [1 or 2, 6 D] */
    size_t mark = ts_mark(&a->ctx->arena);
    TRY(select_modulation(a, e, ts_view(b->table->t, TS_DIM(6, a->info.dim)), a->e6, &m));
    TRY(self_attention(a, &b->self, attn, m, h));
    TRY(cross_attention(a, layer, e.slot, h));
    TRY(apply_adaln_feed_forward(a, b, m, h));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

ts_status ts_adaln_leave(void *self, ts_eval e, ts_tensor h, ts_tensor v)
{
    ts_status st;
    ts_adaln *a = self;
    ts_ctx *ctx = a->ctx;
    long N = h.dim[0], D = a->info.dim;
    ts_modulation m; /* [1 or 2, 2 D] */
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, TS_F32, N, D);
    ts_tensor o = ts_part_take(ctx, TS_F32, N, a->out.w->t.dim[0]); /* a patch a row */
    TRY(select_modulation(a, e, ts_view(a->table->t, TS_DIM(2, D)), a->emb, &m));
    TRY(ts_part_modulated(ctx, a->info.eps, m, 0, 1, h, n));
    TRY(ts_part_linear(ctx, &a->out, n, TS_ACT_NONE, o));
    TRY(ts_part_unpatchify(ctx, a->info.patch, o, v));
done:
    ts_release(&ctx->arena, mark);
    return st;
}
