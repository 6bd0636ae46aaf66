/* A block of a Wan transformer in bf16, operation by operation as dit/adaln.c has it, with random
 * weights. The text stands beside it as keys and values, all of its rows. */
#include "tests/cuda/bench/bench.h"

#include <math.h>

enum { Q, K, V, O, TEXT_Q, TEXT_O, UP, DOWN };
enum { NORM_Q, NORM_K, NORM_TEXT, NORM_TEXT_B, NORM_TEXT_Q };
static const float eps = 1e-6f;

static ts_status take_weights(bench *b, bench_layer *l)
{
    ts_status st = TS_OK;
    long C = l->of.A * l->of.D, ff = l->of.ff;
    for (int i = Q; i <= DOWN; i++) {
        TRY(bench_weight(b, i == UP ? ff : C, i == DOWN ? ff : C, l->w + i));
        TRY(bench_vector(b, i == UP ? ff : C, l->b + i));
    }
    for (int i = NORM_Q; i <= NORM_TEXT_Q; i++) TRY(bench_vector(b, C, l->norm + i));
    TRY(bench_random(b, TS_F32, 1, 6 * C, 0.02, &l->table));
    TRY(bench_random(b, TS_F32, 1, 6 * C, 0.02, &l->e));
    l->m = bench_take(b, TS_F32, 1, 6 * C);
done:
    return st;
}

ts_status bench_layer_take(bench *b, const bench_shape *of, double keep, bench_layer *l)
{
    ts_status st;
    ts_arena *arena = &b->ctx.arena;
    long N = of->N, A = of->A, C = A * of->D, nb = (N + TS_BLOCK - 1) / TS_BLOCK;
    *l = (bench_layer){.of = *of, .keep = keep};
    TRY(take_weights(b, l));
    TRY(bench_random(b, TS_F32, N, C, 1, &l->h));
    ts_tensor *part[] = {&l->n, &l->q, &l->k, &l->v};
    for (int i = 0; i < 4; i++) *part[i] = bench_take(b, TS_BF16, N, C);
    l->u = bench_take(b, TS_BF16, N, of->ff);
    TRY(bench_random(b, TS_F32, N, of->D / 2, 1, &l->cos));
    TRY(bench_random(b, TS_F32, N, of->D / 2, 1, &l->sin));
    TRY(bench_random(b, TS_BF16, of->text, C, 1, &l->text_k));
    TRY(bench_random(b, TS_BF16, of->text, C, 1, &l->text_v));
    l->lse = ts_take(arena, TS_F32, TS_DIM(1, A, N));
    l->sums = ts_take(arena, TS_F32, TS_DIM(1, A, nb, nb));
    l->stat = ts_take(arena, TS_F32, TS_DIM(3, A));
    ts_tensor bits = ts_take(arena, TS_U32, TS_DIM(A, nb, ts_plan_words((int)nb)));
    l->plan = (ts_plan){.A = (int)A,
                        .nb = (int)nb,
                        .bits = bits.p,
                        .share = (double)ts_plan_budget(keep, nb) / (double)nb};
done:
    return st;
}

static ts_status apply_linear(bench *b, const bench_layer *l, int i, ts_tensor x, ts_act act,
                              ts_tensor y)
{
    return ts_linear_op(b->ctx.dev,
                        (ts_linear){.x = x, .w = l->w + i, .b = l->b + i, .act = act, .y = y});
}

/* gate: its place in m; -1: none */
static ts_status add_linear(bench *b, const bench_layer *l, int i, ts_tensor x, int gate)
{
    long C = l->of.A * l->of.D;
    ts_linear a = {.x = x, .w = l->w + i, .b = l->b + i, .resid = l->h, .y = l->h};
    if (gate >= 0) a.gate = ts_columns(l->m, gate * C, C);
    return ts_linear_op(b->ctx.dev, a);
}

static ts_status modulate(bench *b, const bench_layer *l, int shift, int scale)
{
    long C = l->of.A * l->of.D;
    return ts_norm_op(b->ctx.dev, (ts_norm){.kind = TS_NORM_LAYER,
                                            .eps = eps,
                                            .x = l->h,
                                            .scale = ts_columns(l->m, scale * C, C),
                                            .shift = ts_columns(l->m, shift * C, C),
                                            .y = l->n});
}

static ts_status norm_rms(bench *b, const bench_layer *l, int i, ts_tensor x)
{
    return ts_norm_op(b->ctx.dev,
                      (ts_norm){.kind = TS_NORM_RMS, .eps = eps, .x = x, .w = l->norm + i, .y = x});
}

static ts_tensor heads_of(const bench_layer *l, ts_tensor t) /* [1, rows, A, D] */
{
    return (ts_tensor){t.p, t.type, 4, {1, t.dim[0], l->of.A, l->of.D}, t.ld};
}

static ts_status turn(bench *b, const bench_layer *l, ts_tensor x)
{
    x = (ts_tensor){x.p, x.type, 3, {l->of.N, l->of.A, l->of.D}, x.ld};
    return ts_rope_op(b->ctx.dev, (ts_rope){.x = x, .cos = l->cos, .sin = l->sin});
}

static ts_status choose(bench *b, const bench_layer *l)
{
    return ts_topk_op(b->ctx.dev,
                      (ts_topk){.scores = ts_view(l->sums, TS_DIM(l->of.A, l->plan.nb, l->plan.nb)),
                                .keep = l->keep,
                                .adaptive = true,
                                .plan = l->plan,
                                .stat = l->stat});
}

static ts_status attend_tokens(bench *b, const bench_layer *l, ts_do what)
{
    ts_status st = TS_OK;
    const ts_plan *plan = &l->plan;
    ts_attention a = {.q = heads_of(l, l->q),
                      .k = heads_of(l, l->k),
                      .v = heads_of(l, l->v),
                      .out = heads_of(l, l->n),
                      .scale = (float)(1 / sqrt((double)l->of.D))};
    if (what == TS_DO_SEARCH_AGAIN) {
        TRY(ts_block_sums_op(b->ctx.dev, (ts_block_sums){a.q, a.k, a.scale, l->lse, l->sums}));
        TRY(choose(b, l));
    }
    if (what == TS_DO_SEARCH) {
        a.lse = l->lse;
        a.sums = l->sums;
    } else if (what != TS_DO_DENSE) {
        a.plan = &plan;
    }
    TRY(ts_attention_op(b->ctx.dev, a));
    if (what == TS_DO_SEARCH) TRY(choose(b, l));
done:
    return st;
}

static ts_status attend_text(bench *b, const bench_layer *l)
{
    ts_status st;
    TRY(ts_norm_op(b->ctx.dev, (ts_norm){.kind = TS_NORM_LAYER,
                                         .eps = eps,
                                         .x = l->h,
                                         .w = l->norm + NORM_TEXT,
                                         .b = l->norm + NORM_TEXT_B,
                                         .y = l->n}));
    TRY(apply_linear(b, l, TEXT_Q, l->n, TS_ACT_NONE, l->q));
    TRY(norm_rms(b, l, NORM_TEXT_Q, l->q));
    TRY(ts_attention_op(b->ctx.dev, (ts_attention){.q = heads_of(l, l->q),
                                                   .k = heads_of(l, l->text_k),
                                                   .v = heads_of(l, l->text_v),
                                                   .out = heads_of(l, l->n),
                                                   .scale = (float)(1 / sqrt((double)l->of.D))}));
    TRY(add_linear(b, l, TEXT_O, l->n, -1));
done:
    return st;
}

ts_status bench_layer_run(bench *b, const bench_layer *l, ts_do what)
{
    ts_status st;
    TRY(ts_lincomb_op(b->ctx.dev,
                      (ts_lincomb){.n = 2, .c = {1, 1}, .x = {l->table, l->e}, .y = l->m}));
    TRY(modulate(b, l, 0, 1));
    TRY(apply_linear(b, l, Q, l->n, TS_ACT_NONE, l->q));
    TRY(apply_linear(b, l, K, l->n, TS_ACT_NONE, l->k));
    TRY(apply_linear(b, l, V, l->n, TS_ACT_NONE, l->v));
    TRY(norm_rms(b, l, NORM_Q, l->q));
    TRY(norm_rms(b, l, NORM_K, l->k));
    TRY(turn(b, l, l->q));
    TRY(turn(b, l, l->k));
    TRY(attend_tokens(b, l, what));
    TRY(add_linear(b, l, O, l->n, 2));
    TRY(attend_text(b, l));
    TRY(modulate(b, l, 3, 4));
    TRY(apply_linear(b, l, UP, l->n, TS_ACT_GELU_TANH, l->u));
    TRY(add_linear(b, l, DOWN, l->u, 5));
    TRY(b->ctx.dev->ops->check(b->ctx.dev, l->h, 1)); /* for NaN, as dit/dit.c does */
done:
    return st;
}
