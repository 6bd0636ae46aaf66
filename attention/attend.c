/* Self-attention of transformer blocks: out = softmax(q k' / sqrt(D)) v over the blocks that the
 * policy reads. Searching and choosing happen on the device; what searches found and how long calls
 * took is read when the step is over, and only then are its calls counted. */
#include "attention/attend.h"

#include "attention/plans.h"
#include "attention/recycle.h"
#include "attention/residual.h"
#include "attention/saved.h"
#include "attention/search.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct ts_attn_call {
    ts_do what;
    int step, slot, layer;
    bool searched, compared; /* its row of a->found will be filled, by a comparison of queries */
    ts_moment begin, middle, end; /* middle: between searching and attending */
};

ts_status ts_attn_open(ts_attn *a, ts_ctx *ctx, const ts_attn_options *o)
{
    ts_status st = TS_OK;
    int calls = o->slots * o->layers;
    ts_attn_close(a);
    a->ctx = ctx;
    a->o = *o;
    a->grid = o->grid;
    a->room = calls > 0 ? calls : 1;
    a->call = calloc((size_t)a->room, sizeof *a->call);
    a->found_host = calloc((size_t)a->room * TS_FOUND * (size_t)(o->heads + 1),
                           sizeof *a->found_host);
    if (!a->call || !a->found_host) TRY(ts_plans_no_memory(a));
    TRY(ts_plans_open(a));
done:
    return st;
}

void ts_attn_close(ts_attn *a)
{
    free(a->state);
    free(a->call);
    free(a->found_host);
    ts_bag_free(a->plans);
    *a = (ts_attn){0};
}

void ts_attn_begin(ts_attn *a, int step, int layer, int slot)
{
    a->step = a->o.first + step;
    a->layer = layer;
    a->slot = slot;
}

ts_sequence ts_attn_sequence(const ts_attn *a, int slot)
{
    return ts_sequence_of(a->grid.N, a->o.text && slot < a->o.slots ? a->o.text[slot] : 0);
}

/* ---- one call ---- */
/* [T, A, D] -> [1, T, A, D]; rows stay as far apart as they were. */
static ts_tensor as_batch(ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 4, {1, t.dim[0], t.dim[1], t.dim[2]}, t.ld};
}

static ts_status mark_moment(ts_attn *a, ts_moment *m)
{
    ts_device *dev = a->ctx->dev;
    return a->o.timed ? dev->ops->mark(dev, m) : TS_OK;
}

/* The row of a->found that a call's search fills; absent where none is kept. */
static ts_tensor room_for(const ts_attn *a, const ts_attn_call *c)
{
    long A = a->o.heads;
    if (!ts_there(a->found)) return (ts_tensor){0};
    return ts_row_range(ts_view(a->found, TS_DIM((long)a->room * TS_FOUND, A)),
                        TS_FOUND * (c - a->call), TS_FOUND);
}

/* A plan from scores [1, A, nb, nb]. Means of blocks are no weights, their plans have no recall. */
static ts_status choose_blocks(ts_attn *a, ts_attn_call *c, ts_attn_state *s, ts_tensor scores)
{
    const ts_policy *p = &a->o.policy;
    ts_sequence q = ts_attn_sequence(a, c->slot);
    ts_tensor found = room_for(a, c);
    ts_topk choice = {.scores = ts_view(scores, TS_DIM(a->o.heads, q.nb, q.nb)),
                      .nv = q.nv,
                      .keep = p->keep,
                      .mass = p->mass,
                      .diagonal = p->kind == TS_POOLED || p->mass > 0,
                      .adaptive = p->kind == TS_ADASPA && p->adaptive,
                      .plan = s->plan};
    if (ts_there(found)) choice.stat = ts_row_range(found, 0, 3);
    return ts_topk_op(a->ctx->dev, choice);
}

/* Full attention, and with a search in it the plan that its block sums (and output) make. */
static ts_status attend_densely(ts_attn *a, ts_attn_call *c, ts_attn_state *s, ts_attention op,
                                ts_tensor sums)
{
    ts_status st = TS_OK;
    bool search = s && c->what == TS_DO_SEARCH;
    if (search) {
        op.lse = s->lse;
        op.sums = sums;
    }
    TRY(ts_attention_op(a->ctx->dev, op));
    if (!search) goto done;
    TRY(mark_moment(a, &c->middle));
    if (a->o.policy.kind == TS_SVG)
        TRY(ts_search_patterns(a, s, &op, sums, room_for(a, c)));
    else if (a->o.policy.by_error)
        TRY(ts_search_by_error(a, s, &op, sums, room_for(a, c)));
    else
        TRY(choose_blocks(a, c, s, sums));
    if (a->o.policy.kind == TS_RECYCLED) TRY(ts_recycle_keep(a, s, &op));
    if (ts_there(s->residual)) TRY(ts_residual_keep(a, s, &op));
done:
    return st;
}

/* What the scores of a new plan are, before it is used. */
static ts_status renew_plan(ts_attn *a, ts_attn_call *c, ts_attn_state *s, const ts_attention *op,
                            ts_tensor sums)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    if (c->what == TS_DO_SEARCH_AGAIN)
        TRY(ts_block_sums_op(dev, (ts_block_sums){op->q, op->k, op->scale, s->lse, sums}));
    else
        TRY(ts_block_means_op(dev, (ts_block_means){op->q, op->k, sums}));
    TRY(choose_blocks(a, c, s, sums));
    TRY(mark_moment(a, &c->middle));
done:
    return st;
}

/* A new plan's share is an expectation until the step ends. */
static void expect_plan(ts_attn *a, ts_attn_call *c, ts_attn_state *s)
{
    ts_sequence q = ts_attn_sequence(a, c->slot);
    c->searched = ts_there(a->found);
    s->have = true;
    for (int i = 0; i < TS_RANKINGS; i++) s->ranks[i] = true;
    for (int i = 0; i <= TS_REST_LINEAR; i++) s->forms[i] = true;
    ts_plans_share(s, q, (double)ts_plan_budget(a->o.policy.keep, q.nv) / q.nv);
}

static ts_status carry_out(ts_attn *a, ts_attn_call *c, ts_attn_state *s, ts_attention op)
{
    ts_status st = TS_OK;
    ts_arena *arena = &a->ctx->arena;
    const ts_policy *p = &a->o.policy;
    size_t mark = ts_mark(arena);
    ts_do what = c->what;
    bool dense = what == TS_DO_DENSE || what == TS_DO_SEARCH,
         plans = what != TS_DO_DENSE && what != TS_DO_SPARSE;
    ts_tensor sums = {0};
    assert(s || !plans);
    if (plans) {
        long A = op.q.dim[2], nb = s->plan.nb;
        sums = ts_there(s->scores) ? s->scores : ts_take(arena, TS_F32, TS_DIM(1, A, nb, nb));
    }
    TRY(mark_moment(a, &c->begin));
    c->compared = what == TS_DO_SPARSE && p->kind == TS_RECYCLED;
    if (c->compared) TRY(ts_recycle_compare(a, s, &op, ts_row_range(room_for(a, c), 0, 1)));
    if (plans && !dense) TRY(renew_plan(a, c, s, &op, sums));
    if (plans) expect_plan(a, c, s);
    if (dense)
        TRY(attend_densely(a, c, s, op, sums));
    else
        TRY(ts_search_attend(a, s, op,
                             what == TS_DO_SPARSE && p->fresh && c->step % p->fresh == 0));
    if (s && !dense && ts_there(s->residual)) TRY(ts_residual_add(a, s, op.out));
    TRY(mark_moment(a, &c->end));
done:
    ts_release(arena, mark);
    return st;
}

static ts_status check_call(ts_attn *a, ts_tensor q)
{
    int layer = a->layer;
    ts_err *err = &a->ctx->err;
    ts_sequence s = ts_attn_sequence(a, a->slot);
    if ((q.nd != 3 || q.dim[0] != s.T) && s.L)
        return ts_fail(err, TS_ESHAPE,
                       "self-attention of layer %d: %ld tokens, expected %d and %d of text",
                       layer + 1, q.dim[0], s.N, s.L);
    if (q.nd != 3 || q.dim[0] != s.T)
        return ts_fail(err, TS_ESHAPE, "self-attention of layer %d: %ld tokens, expected %d",
                       layer + 1, q.dim[0], s.T);
    if (a->state && (layer >= a->o.layers || a->slot >= a->o.slots || q.dim[1] != a->o.heads))
        return ts_fail(err, TS_ESHAPE,
                       "self-attention of layer %d, branch %d: %ld heads, expected layers and "
                       "branches below %d and %d, %d heads",
                       layer + 1, a->slot, q.dim[1], a->o.layers, a->o.slots, a->o.heads);
    return TS_OK;
}

ts_status ts_attend(ts_attn *a, ts_tensor q, ts_tensor k, ts_tensor v, ts_tensor out)
{
    ts_status st;
    ts_device *dev = a->ctx->dev;
    TRY(check_call(a, q));
    if (a->calls == a->room) { /* more calls a step than layers and branches */
        TRY(dev->ops->join(dev));
        TRY(ts_attn_step_end(a));
    }
    ts_attn_state *s = a->state ? ts_plans_of(a, a->slot, a->layer) : NULL;
    ts_attn_call *c = a->call + a->calls;
    bool have = s && s->have && !ts_recycle_due(a, s);
    *c = (ts_attn_call){.what = s ? ts_policy_decide(&a->o.policy, a->step, a->layer, have)
                                  : TS_DO_DENSE,
                        .step = a->step,
                        .slot = a->slot,
                        .layer = a->layer};
    ts_attention op = {.q = as_batch(q),
                       .k = as_batch(k),
                       .v = as_batch(v),
                       .out = as_batch(out),
                       .scale = (float)(1 / sqrt((double)q.dim[2]))};
    if (a->observe) TRY(a->observe(a->observer, a->layer, &op));
    TRY(carry_out(a, c, s, op));
    a->calls++;
done:
    return st;
}

/* ---- the end of a step ---- */
/* Heads by what they were given. */
static void count_choices(ts_attn *a, ts_attn_state *s, const float *found)
{
    ts_attn_counters *n = &a->counters;
    int A = a->o.heads;
    const float *ranking = found + TS_FOUND_RANKING * A, *form = found + TS_FOUND_FORM * A;
    bool measured = a->o.policy.rest == TS_REST_MEASURED;
    int first = a->o.policy.kind == TS_SVG ? TS_RANK_SPATIAL : 0;
    ts_plans_know(s, A, ranking, measured ? form : NULL);
    for (int h = 0; h < A; h++) {
        n->ranked[first + (int)ranking[h]]++;
        if (measured) n->formed[(int)form[h]]++;
    }
}

/* Shares of blocks that heads came to, kept [A] blocks each of all. */
static void count_density(ts_attn_counters *n, const float *kept, int A, double all)
{
    for (int h = 0; h < A; h++) {
        double share = kept[h] / all;
        if (!n->heads || share < n->head_least) n->head_least = share;
        if (!n->heads || share > n->head_most) n->head_most = share;
        n->head_sum += share;
        n->head_squares += share * share;
        n->heads++;
    }
}

/* What a search found, f32 [TS_FOUND, A]. */
static ts_status read_search(ts_attn *a, const ts_attn_call *c, const float *found)
{
    ts_attn_counters *n = &a->counters;
    ts_sequence q = ts_attn_sequence(a, c->slot);
    ts_attn_state *s = ts_plans_of(a, c->slot, c->layer);
    int A = a->o.heads;
    double recall = 0, kept = 0;
    for (int h = 0; h < A; h++) {
        recall += (double)found[A + h] / A;
        kept += found[2 * A + h];
    }
    ts_plans_share(s, q, kept / ((double)A * q.nv * q.nv));
    if (a->o.policy.mass > 0) count_density(n, found + 2L * A, A, (double)q.nv * q.nv);
    s->scored = c->step;
    s->searches++;
    n->turned += s->stale;
    s->stale = false;
    if (a->o.policy.by_error) count_choices(a, s, found);
    if (!n->recalls || recall < n->recall_least) n->recall_least = recall;
    n->recall += recall;
    n->recalls++;
    if (a->o.keep_scores != TS_SCORES_EVERY) return TS_OK;
    return ts_attn_keep_scores(a, c->slot, c->layer, found);
}

static ts_status read_seconds(ts_attn *a, const ts_attn_call *c, double *whole, double *search)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    *whole = *search = 0;
    if (!a->o.timed) return TS_OK;
    TRY(dev->ops->elapsed(dev, c->begin, c->end, whole));
    if (c->what == TS_DO_SEARCH)
        TRY(dev->ops->elapsed(dev, c->middle, c->end, search));
    else if (c->what == TS_DO_SEARCH_AGAIN || c->what == TS_DO_POOL)
        TRY(dev->ops->elapsed(dev, c->begin, c->middle, search));
done:
    return st;
}

static ts_status count_call(ts_attn *a, const ts_attn_call *c)
{
    double whole, search;
    ts_attn_counters *n = &a->counters;
    ts_status st = read_seconds(a, c, &whole, &search);
    if (st) return st;
    bool dense = c->what == TS_DO_DENSE || c->what == TS_DO_SEARCH,
         again = c->what == TS_DO_SEARCH_AGAIN;
    *(c->what == TS_DO_DENSE ? &n->dense
      : dense                ? &n->searched
      : again                ? &n->again
                             : &n->sparse) += 1;
    *(c->what == TS_DO_DENSE ? &n->dense_s
      : dense                ? &n->searched_s
      : again                ? &n->again_s
                             : &n->sparse_s) += whole;
    n->search_s += search;
    if (!a->state) return TS_OK;
    const ts_attn_state *s = ts_plans_of(a, c->slot, c->layer);
    if (c->what == TS_DO_SEARCH && ts_there(s->residual)) n->tried += s->plan.share;
    if (dense) return TS_OK;
    n->kept += s->kept;
    n->read += s->plan.share;
    return TS_OK;
}

ts_status ts_attn_step_end(ts_attn *a)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    size_t row = TS_FOUND * (size_t)a->o.heads;
    bool searched = false;
    for (int i = 0; i < a->calls; i++) searched |= a->call[i].searched || a->call[i].compared;
    searched = searched && !dev->counting;
    if (searched)
        TRY(dev->ops->download(dev, a->found_host, a->found.p,
                               (size_t)a->calls * row * sizeof *a->found_host));
    for (int i = 0; i < a->calls; i++) {
        const ts_attn_call *c = a->call + i;
        if (searched && c->searched) TRY(read_search(a, c, a->found_host + (size_t)i * row));
        if (searched && c->compared)
            ts_recycle_read(a, ts_plans_of(a, c->slot, c->layer), ts_attn_sequence(a, c->slot),
                            a->found_host + (size_t)i * row);
        TRY(count_call(a, c));
    }
done:
    a->calls = 0;
    return st;
}
