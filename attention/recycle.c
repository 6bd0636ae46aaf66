/* How much a layer's queries are still those of its last search. Nothing in a step waits for the
 * device: what a sparse call finds is read when its step is over and decides the next. */
#include "attention/recycle.h"

/* y [1, nb, A, D]: means of the blocks' queries, each of the length sqrt(D). */
static ts_status pool_queries(ts_attn *a, const ts_attention *op, ts_tensor y)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    const long *n = op->q.dim;
    TRY(ts_pool_op(dev, (ts_pool){op->q, y}));
    ts_tensor rows = ts_tensor_of(y.p, TS_F32, TS_DIM(y.dim[1] * n[2], n[3]));
    TRY(ts_norm_op(dev, (ts_norm){.kind = TS_NORM_L2, .eps = 1e-12f, .x = rows, .y = rows}));
done:
    return st;
}

static ts_tensor take_queries(ts_attn *a, const ts_attn_state *s, const ts_attention *op)
{
    const long *n = op->q.dim;
    ts_tensor t = ts_take(&a->ctx->arena, TS_F32, TS_DIM(1, s->plan.nb, n[2], n[3]));
    t.ld = n[2] * n[3];
    return t;
}

ts_status ts_recycle_keep(ts_attn *a, ts_attn_state *s, const ts_attention *op)
{
    ts_status st = TS_OK;
    ts_arena *arena = &a->ctx->arena;
    size_t mark = ts_mark(arena);
    ts_tensor now = take_queries(a, s, op);
    TRY(pool_queries(a, op, now));
    ts_tensor video = ts_tensor_of(now.p, TS_F32, TS_DIM(s->queries.dim[0], now.dim[3]));
    TRY(ts_lincomb_op(a->ctx->dev, (ts_lincomb){1, {1}, {video}, s->queries}));
done:
    ts_release(arena, mark);
    return st;
}

ts_status ts_recycle_compare(ts_attn *a, ts_attn_state *s, const ts_attention *op, ts_tensor error)
{
    ts_status st = TS_OK;
    ts_arena *arena = &a->ctx->arena;
    size_t mark = ts_mark(arena);
    ts_tensor now = take_queries(a, s, op), then = now;
    TRY(pool_queries(a, op, now));
    now.dim[1] = then.dim[1] = s->queries.dim[0] / now.dim[2]; /* video alone */
    then.p = s->queries.p;
    TRY(ts_head_errors_op(a->ctx->dev, (ts_head_errors){now, then, 0, error}));
done:
    ts_release(arena, mark);
    return st;
}

void ts_recycle_read(ts_attn *a, ts_attn_state *s, ts_sequence q, const float *error)
{
    ts_attn_counters *n = &a->counters;
    int A = a->o.heads;
    double alike = 0;
    for (int h = 0; h < A; h++) alike += (1 - (double)error[h] / (2.0 * q.nv * a->o.width)) / A;
    bool stale = alike < a->o.policy.similar;
    if (!n->compared || alike < n->alike_least) n->alike_least = alike;
    n->alike += alike;
    n->compared++;
    n->turned += stale != s->stale;
    s->stale = stale;
}

bool ts_recycle_due(const ts_attn *a, const ts_attn_state *s)
{
    const ts_policy *p = &a->o.policy;
    return p->kind == TS_RECYCLED && s->stale && s->searches < p->searches &&
           a->step - s->scored >= p->apart;
}
