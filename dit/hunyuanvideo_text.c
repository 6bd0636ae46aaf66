/* The text of HunyuanVideo on its way to the blocks: embedded, projected and refined. */
#include "dit/hunyuanvideo_text.h"

#include <math.h>
#include <stdlib.h>

static ts_status bind_refiner(ts_hunyuan_text *x, ts_weights *ws, int group, int i)
{
    ts_hunyuan_refiner *r = x->refiner + i;
    long D = x->info->dim, M = 4 * D; /* whatever mlp_ratio is */
    const ts_layer_row row[] = {
        TS_LINEAR(&r->mod, "norm_out.linear", 2 * D, D),
        TS_LINEAR(&r->q, "attn.to_q", D, D),
        TS_LINEAR(&r->k, "attn.to_k", D, D),
        TS_LINEAR(&r->v, "attn.to_v", D, D),
        TS_LINEAR(&r->o, "attn.to_out.0", D, D),
        TS_LINEAR(&r->up, "ff.net.0.proj", M, D),
        TS_LINEAR(&r->down, "ff.net.2", D, M),
        TS_NORM(&r->norm1, "norm1", D),
        TS_NORM(&r->norm2, "norm2", D),
    };
    return ts_find_layers(ws, group, row, sizeof row / sizeof *row,
                          "context_embedder.token_refiner.refiner_blocks", i);
}

#define EMBED "context_embedder.time_text_embed."
ts_status ts_hunyuan_text_bind(ts_hunyuan_text *x, ts_ctx *ctx, ts_weights *ws,
                               const ts_dit_info *info, int refiners, int ends, int embedders)
{
    ts_status st = TS_OK;
    long D = info->dim, S = info->text_dim;
    *x = (ts_hunyuan_text){.ctx = ctx, .info = info, .refiners = refiners};
    const ts_layer_row row[] = {
        TS_LINEAR(&x->in, "context_embedder.proj_in", D, S),
        TS_LINEAR(&x->time1, EMBED "timestep_embedder.linear_1", D, TS_HUNYUAN_SINES),
        TS_LINEAR(&x->time2, EMBED "timestep_embedder.linear_2", D, D),
        TS_LINEAR(&x->pool1, EMBED "text_embedder.linear_1", D, S),
        TS_LINEAR(&x->pool2, EMBED "text_embedder.linear_2", D, D),
    };
    x->refiner = calloc((size_t)refiners + 1, sizeof *x->refiner);
    if (!x->refiner)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "a transformer of %d layers: out of memory",
                    info->layers));
    for (int i = 0; i < refiners; i++) TRY(bind_refiner(x, ws, ends, i));
    TRY(ts_find_layers(ws, embedders, row, sizeof row / sizeof *row, NULL, 0));
done:
    return st;
}

void ts_hunyuan_text_unbind(ts_hunyuan_text *x) { free(x->refiner); }

ts_status ts_hunyuan_text_carve(ts_hunyuan_text *x, const ts_dit_inputs *in, int nt)
{
    ts_status st;
    long D = x->info->dim;
    x->nt = nt;
    TRY(ts_part_texts_lay(x->ctx, &x->texts, in, 0));
    x->emb = ts_part_take(x->ctx, TS_F32, (long)in->slots * nt, D);
    x->states = ts_part_take(x->ctx, TS_F32, x->texts.rows, D);
done:
    return st;
}

/* host [slots, width]: the means of states */
static ts_status read_means_of_texts(ts_hunyuan_text *x, const ts_dit_inputs *in, float *mean)
{
    ts_status st = TS_OK;
    long S = x->info->text_dim;
    for (int i = 0; i < in->slots; i++) {
        ts_host s;
        TRY(ts_bag_get(&x->ctx->err, in->text[i], "states", TS_F32, 2, (long[]){-1, S}, &s));
        for (long k = 0; k < S; k++) {
            double sum = 0;
            for (long r = 0; r < s.dim[0]; r++) sum += ((const float *)s.data)[r * S + k];
            mean[i * S + k] = (float)(sum / (double)s.dim[0]);
        }
    }
done:
    return st;
}

ts_status ts_hunyuan_join(ts_ctx *ctx, ts_tensor time, ts_tensor text, ts_tensor to)
{
    ts_status st = TS_OK;
    for (long s = 0; s < text.dim[0]; s++)
        for (long t = 0; t < time.dim[0]; t++)
            TRY(ts_part_add(ctx, ts_row_range(time, t, 1), ts_row_range(text, s, 1),
                            ts_row_range(to, s * time.dim[0] + t, 1)));
done:
    return st;
}

ts_status ts_hunyuan_text_prepare(ts_hunyuan_text *x, const ts_dit_inputs *in, const float *t)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = x->ctx;
    long D = x->info->dim, S = x->info->text_dim, n = in->slots;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor time = ts_part_take(ctx, TS_F32, x->nt, D), text = ts_part_take(ctx, TS_F32, n, D),
              states = ts_part_take(ctx, TS_F32, x->texts.rows, S);
    float *mean = malloc((size_t)(n * S) * sizeof *mean);
    if (!mean) TRY(ts_fail(&ctx->err, TS_EMEMORY, "%ld texts: out of memory", n));
    TRY(read_means_of_texts(x, in, mean));
    TRY(ts_part_embed(ctx, &x->time1, &x->time2, t, x->nt, time));
    TRY(ts_part_embed_rows(ctx, &x->pool1, &x->pool2, mean, n, text));
    TRY(ts_hunyuan_join(ctx, time, text, x->emb));
    TRY(ts_part_texts_upload(ctx, &x->texts, in, states));
    TRY(ts_part_linear(ctx, &x->in, states, TS_ACT_NONE, x->states));
done:
    ts_release(&ctx->arena, mark);
    free(mean);
    return st;
}

static ts_status refine(ts_hunyuan_text *x, const ts_hunyuan_refiner *r, ts_tensor emb, ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = x->ctx;
    ts_modulation m; /* [1, 2 D]: gates */
    long L = h.dim[0], D = x->info->dim;
    int A = x->info->heads;
    float eps = x->info->eps;
    const ts_layer *in[3] = {&r->q, &r->k, &r->v};
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, ctx->act, L, D), part[3],
              u = ts_part_take(ctx, ctx->act, L, r->up.w->t.dim[0]);
    TRY(ts_part_modulate(ctx, &r->mod, emb, &m));
    TRY(ts_part_norm(ctx, &r->norm1, eps, h, n));
    for (int i = 0; i < 3; i++) {
        part[i] = ts_part_take(ctx, ctx->act, L, D);
        TRY(ts_part_linear(ctx, in[i], n, TS_ACT_NONE, part[i]));
    }
    TRY(ts_attention_op(ctx->dev, (ts_attention){.q = ts_part_batch_of_one(part[0], A),
                                                 .k = ts_part_batch_of_one(part[1], A),
                                                 .v = ts_part_batch_of_one(part[2], A),
                                                 .out = ts_part_batch_of_one(n, A),
                                                 .scale = 1 / sqrtf((float)x->info->head_dim)}));
    TRY(ts_part_add_gated(ctx, &r->o, n, m, 0, h));
    TRY(ts_part_norm(ctx, &r->norm2, eps, h, n));
    TRY(ts_part_linear(ctx, &r->up, n, TS_ACT_SILU, u));
    TRY(ts_part_add_gated(ctx, &r->down, u, m, 1, h));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

ts_status ts_hunyuan_text_enter(ts_hunyuan_text *x, ts_eval e, ts_tensor text)
{
    ts_status st;
    ts_tensor emb = ts_row_range(x->emb, (long)e.slot * x->nt + e.trow, 1);
    TRY(ts_cast(x->ctx->dev, ts_part_text_rows(&x->texts, x->states, e.slot), text));
    for (int i = 0; i < x->refiners; i++) TRY(refine(x, x->refiner + i, emb, text));
done:
    return st;
}
