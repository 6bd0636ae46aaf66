/* Rankings and forms by measured error. The output of full attention is there at a search step, so
 * that what a plan of some ranking gives can be held against it: the plan of the heaviest blocks is
 * not always the one that is nearest, and what stands for the others can be worse than nothing. */
#include "attention/search.h"

/* Fresh rankings follow the tokens from step to step, others grow old until the next search: these
 * have to halve the squared error. A form of the rest changes every output of its head; the error
 * that it was chosen by grows old too. Measured on the default model (README.md). */
static const float BETTER_RANKING = 2, BETTER_FORM = 4;
/* query blocks that errors are measured on, at least, where there are as many */
enum { SAMPLE = 24 };

const char *ts_ranking_name(ts_ranking r)
{
    static const char *const name[TS_RANKINGS_NAMED] = {
        [TS_RANK_FRESH] = "fresh",
        [TS_RANK_MASS] = "by mass",
        [TS_RANK_OWN] = "by mass with the own block",
        [TS_RANK_POOLED] = "pooled",
        [TS_RANK_WINDOW] = "window",
        [TS_RANK_TILE] = "tile",
        [TS_RANK_SPATIAL] = "spatial",
        [TS_RANK_TEMPORAL] = "temporal"};
    return name[r];
}

bool ts_search_ranks_anew(const ts_attn_state *s)
{
    return s->ranks[TS_RANK_FRESH] || s->ranks[TS_RANK_POOLED];
}

/* What the two kinds of calls here take from the arena while they run. */
typedef struct {
    ts_attn *a;
    ts_device *dev;
    ts_attn_state *s;
    const ts_attention *op;
    ts_tensor pooled_k, pooled_v; /* f32 [1, nb, A, D] */
    ts_tensor scores;             /* f32 [1, A, nb, nb] */
    ts_tensor own, lse;           /* f32 [1, A, T] */
} work;

static ts_tensor take_pooled(const work *w)
{
    const long *n = w->op->q.dim;
    ts_tensor t = ts_take(&w->a->ctx->arena, TS_F32, TS_DIM(1, w->s->plan.nb, n[2], n[3]));
    t.ld = n[2] * n[3];
    return t;
}

static void take_work(work *w, bool values, bool linear)
{
    ts_arena *arena = &w->a->ctx->arena;
    long T = w->op->q.dim[1], A = w->op->q.dim[2], nb = w->s->plan.nb;
    w->pooled_k = take_pooled(w);
    if (values) w->pooled_v = take_pooled(w);
    w->scores = ts_take(arena, TS_F32, TS_DIM(1, A, nb, nb));
    if (!linear) return;
    w->own = ts_take(arena, TS_F32, TS_DIM(1, A, T));
    w->lse = ts_take(arena, TS_F32, TS_DIM(1, A, T));
}

static ts_status pool_keys_and_values(const work *w)
{
    ts_status st = ts_pool_op(w->dev, (ts_pool){w->op->k, w->pooled_k});
    if (st || !ts_there(w->pooled_v)) return st;
    return ts_pool_op(w->dev, (ts_pool){w->op->v, w->pooled_v});
}

static ts_status weigh_pooled(const work *w)
{
    return ts_pool_sums_op(w->dev, (ts_pool_sums){.q = w->op->q,
                                                  .k = w->pooled_k,
                                                  .scale = w->op->scale,
                                                  .lse = w->own,
                                                  .sums = w->scores});
}

static ts_status score_pooled(const work *w)
{
    return ts_block_means_op(w->dev, (ts_block_means){w->op->q, w->op->k, w->scores});
}

/* Scores of the pattern that `which` [A] has of each head. */
static ts_status score_patterns(const work *w, ts_tensor which)
{
    long A = w->a->o.heads, nb = w->s->plan.nb;
    return ts_gather_op(w->dev, (ts_gather){ts_view(w->s->patterns, TS_DIM(2, nb * nb)), which,
                                            ts_view(w->scores, TS_DIM(A, nb * nb))});
}

/* The same pattern, 0 or 1, for every head: i32 [A]. */
static ts_tensor pattern_of_all(const ts_attn_state *s, int i)
{
    return ts_view(ts_row_range(s->each, i, 1), TS_DIM(s->each.dim[1]));
}

/* A plan by a ranking whose scores are there; `who` absent: for all heads. */
static ts_topk ranked(const work *w, ts_ranking r, ts_tensor scores, ts_tensor who)
{
    ts_attn *a = w->a;
    long A = a->o.heads, nb = w->s->plan.nb;
    return (ts_topk){.scores = ts_view(scores, TS_DIM(A, nb, nb)),
                     .nv = ts_attn_sequence(a, a->slot).nv,
                     .keep = a->o.policy.keep,
                     .diagonal = r != TS_RANK_MASS,
                     .who = who,
                     .which = (int)r,
                     .plan = w->s->plan};
}

/* The linear part of the rest, added to `out`; form absent: for all heads; every: as in
 * ts_rest_linear. */
static ts_status add_linear_part(const work *w, ts_tensor out, ts_tensor form, int every)
{
    return ts_rest_linear_op(w->dev, (ts_rest_linear){.q = w->op->q,
                                                      .k = w->op->k,
                                                      .v = w->op->v,
                                                      .out = out,
                                                      .pooled_k = w->pooled_k,
                                                      .pooled_v = w->pooled_v,
                                                      .scale = w->op->scale,
                                                      .sums = w->scores,
                                                      .own = w->own,
                                                      .lse = w->lse,
                                                      .plan = w->s->plan,
                                                      .form = form,
                                                      .every = every});
}

/* ---- comparing ---- */
typedef struct {
    work w;
    ts_tensor mass, again, error; /* again: what candidates give, like q; error f32 [.., A] */
    int every;
} comparison;

/* Scores of a ranking: those that are there, or made now. */
static ts_status scores_of(const comparison *c, ts_ranking r, ts_tensor *scores)
{
    *scores = c->w.scores;
    if (r == TS_RANK_FRESH) return weigh_pooled(&c->w);
    if (r == TS_RANK_POOLED) return score_pooled(&c->w);
    if (r >= TS_RANK_WINDOW)
        return score_patterns(&c->w, pattern_of_all(c->w.s, r - TS_RANK_WINDOW));
    *scores = c->mass;
    return TS_OK;
}

/* What the plan gives, and its error into a row. */
static ts_status measure_plan(const comparison *c, ts_rest_form form, long row)
{
    ts_status st = TS_OK;
    const work *w = &c->w;
    const ts_plan *plan = &w->s->plan;
    ts_attention op = *w->op;
    op.out = c->again;
    op.plan = &plan;
    op.every = c->every;
    op.sums = op.lse = (ts_tensor){0};
    if (form) {
        op.pooled_k = w->pooled_k;
        op.pooled_v = w->pooled_v;
        op.lse = w->lse;
    }
    if (form != TS_REST_LINEAR) /* else there are the means, to which it is added */
        TRY(ts_attention_op(w->dev, op));
    else {
        TRY(weigh_pooled(w));
        TRY(add_linear_part(w, c->again, (ts_tensor){0}, c->every));
    }
    TRY(ts_head_errors_op(
        w->dev, (ts_head_errors){c->again, w->op->out, c->every, ts_row_range(c->error, row, 1)}));
done:
    return st;
}

static ts_status choose_rankings(const comparison *c, ts_tensor found)
{
    ts_status st = TS_OK;
    const work *w = &c->w;
    ts_tensor scores, stat = {0};
    long A = w->a->o.heads, nb = w->s->plan.nb;
    for (int r = 0; r < TS_RANKINGS; r++) {
        TRY(scores_of(c, (ts_ranking)r, &scores));
        TRY(ts_topk_op(w->dev, ranked(w, (ts_ranking)r, scores, (ts_tensor){0})));
        TRY(measure_plan(c, TS_REST_NONE, r));
    }
    if (ts_there(found)) stat = ts_row_range(found, TS_FOUND_RANKING, 1);
    TRY(ts_choose_op(w->dev, (ts_choose){ts_row_range(c->error, 0, TS_RANKINGS), BETTER_RANKING,
                                         w->s->ranking, stat}));
    for (int r = 0; r < TS_RANKINGS; r++) {
        TRY(scores_of(c, (ts_ranking)r, &scores));
        ts_topk t = ranked(w, (ts_ranking)r, scores, w->s->ranking);
        t.weights = ts_view(c->mass, TS_DIM(A, nb, nb));
        if (ts_there(found)) t.stat = ts_row_range(found, 0, 3);
        TRY(ts_topk_op(w->dev, t));
    }
done:
    return st;
}

static ts_status choose_forms(const comparison *c, ts_tensor found)
{
    ts_status st = TS_OK;
    const work *w = &c->w;
    ts_tensor stat = {0};
    for (int form = TS_REST_NONE; form <= TS_REST_LINEAR; form++)
        TRY(measure_plan(c, (ts_rest_form)form, form));
    if (ts_there(found)) stat = ts_row_range(found, TS_FOUND_FORM, 1);
    TRY(ts_choose_op(w->dev, (ts_choose){ts_row_range(c->error, 0, TS_REST_LINEAR + 1), BETTER_FORM,
                                         w->s->form, stat}));
done:
    return st;
}

ts_status ts_search_by_error(ts_attn *a, ts_attn_state *s, const ts_attention *dense,
                             ts_tensor mass, ts_tensor found)
{
    ts_status st = TS_OK;
    ts_arena *arena = &a->ctx->arena;
    size_t mark = ts_mark(arena);
    const long *n = dense->q.dim;
    bool forms = a->o.policy.rest == TS_REST_MEASURED;
    comparison c = {.w = {.a = a, .dev = a->ctx->dev, .s = s, .op = dense}, .mass = mass};
    c.every = s->plan.nb > SAMPLE ? s->plan.nb / SAMPLE : 1;
    take_work(&c.w, forms, forms);
    c.again = ts_take(arena, dense->q.type, TS_DIM(1, n[1], n[2], n[3]));
    c.again.ld = n[2] * n[3];
    c.error = ts_take(arena, TS_F32, TS_DIM(TS_RANKINGS, n[2]));
    TRY(pool_keys_and_values(&c.w));
    TRY(choose_rankings(&c, found));
    if (forms) TRY(choose_forms(&c, found));
done:
    ts_release(arena, mark);
    return st;
}

/* ---- patterns ---- */
ts_status ts_search_patterns(ts_attn *a, ts_attn_state *s, const ts_attention *dense,
                             ts_tensor mass, ts_tensor found)
{
    ts_status st = TS_OK;
    ts_arena *arena = &a->ctx->arena;
    size_t mark = ts_mark(arena);
    const long *n = dense->q.dim, A = n[2], nb = s->plan.nb;
    ts_tensor stat = {0};
    comparison c = {.w = {.a = a, .dev = a->ctx->dev, .s = s, .op = dense}, .mass = mass};
    const work *w = &c.w;
    c.every = nb > SAMPLE ? (int)nb / SAMPLE : 1;
    c.w.scores = ts_take(arena, TS_F32, TS_DIM(1, A, nb, nb));
    c.again = ts_take(arena, dense->q.type, TS_DIM(1, n[1], A, n[3]));
    c.again.ld = A * n[3];
    c.error = ts_take(arena, TS_F32, TS_DIM(2, A));
    for (int i = 0; i < 2; i++) {
        TRY(score_patterns(w, pattern_of_all(s, i)));
        TRY(ts_topk_op(w->dev, ranked(w, TS_RANK_MASS, w->scores, (ts_tensor){0})));
        TRY(measure_plan(&c, TS_REST_NONE, i));
    }
    if (ts_there(found)) stat = ts_row_range(found, TS_FOUND_RANKING, 1);
    TRY(ts_choose_op(w->dev, (ts_choose){c.error, 1, s->ranking, stat}));
    TRY(score_patterns(w, s->ranking));
    ts_topk t = ranked(w, TS_RANK_MASS, w->scores, (ts_tensor){0});
    t.weights = ts_view(mass, TS_DIM(A, nb, nb));
    if (ts_there(found)) t.stat = ts_row_range(found, 0, 3);
    TRY(ts_topk_op(w->dev, t));
done:
    ts_release(arena, mark);
    return st;
}

/* ---- carrying out ---- */
/* Scores of the two rankings that are made anew, the fresh ones last: the linear part weighs by
 * them. */
static ts_status rank_anew(const work *w)
{
    ts_status st = TS_OK;
    const ts_attn_state *s = w->s;
    if (s->ranks[TS_RANK_POOLED]) {
        TRY(score_pooled(w));
        TRY(ts_topk_op(w->dev, ranked(w, TS_RANK_POOLED, w->scores, s->ranking)));
    }
    if (!s->ranks[TS_RANK_FRESH]) goto done;
    TRY(weigh_pooled(w));
    TRY(ts_topk_op(w->dev, ranked(w, TS_RANK_FRESH, w->scores, s->ranking)));
done:
    return st;
}

ts_status ts_search_attend(ts_attn *a, ts_attn_state *s, ts_attention op, bool rank)
{
    ts_status st = TS_OK;
    ts_arena *arena = &a->ctx->arena;
    size_t mark = ts_mark(arena);
    int rest = a->o.policy.rest;
    bool measured = rest == TS_REST_MEASURED,
         linear = measured ? s->forms[TS_REST_LINEAR] : rest == TS_REST_LINEAR,
         means = linear || (measured ? s->forms[TS_REST_MEAN] : rest == TS_REST_MEAN);
    const ts_plan *plan = &s->plan;
    work w = {.a = a, .dev = a->ctx->dev, .s = s, .op = &op};
    rank = rank && ts_search_ranks_anew(s);
    op.plan = &plan;
    if (!rank && !means) return ts_attention_op(w.dev, op);
    take_work(&w, means, linear);
    TRY(pool_keys_and_values(&w));
    if (rank) TRY(rank_anew(&w));
    if (linear && !(rank && s->ranks[TS_RANK_FRESH])) TRY(weigh_pooled(&w));
    if (means) {
        op.pooled_k = w.pooled_k;
        op.pooled_v = w.pooled_v;
        op.form = s->form;
    }
    op.lse = w.lse;
    TRY(ts_attention_op(w.dev, op));
    if (linear) TRY(add_linear_part(&w, op.out, s->form, 0));
done:
    ts_release(arena, mark);
    return st;
}
