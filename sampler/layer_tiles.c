/* The search for a k of every layer: a hook of the layer loop lets samples pass each layer twice,
 * an observer of attention compares. Differences are summed on the host in double: what a device
 * adds up in its own order must not decide a choice. */
#include "sampler/layer_tiles.h"

#include "attention/patterns.h"

#include <stdlib.h>

static ts_status refuse_tiles_memory(ts_attn *a)
{
    return ts_fail(&a->ctx->err, TS_EMEMORY, "no memory to compare tiles of %d tokens", a->grid.N);
}

/* [1, N, A, D], whose ld is from token to token, as rows of tokens. */
static ts_tensor view_as_rows(ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 2, {t.dim[1], t.dim[2] * t.dim[3]}, t.ld};
}

/* x of any type to f32 [N, A D] of the host. */
static ts_status download_rows(ts_attn *a, ts_tensor x, float *to)
{
    ts_status st;
    ts_device *dev = a->ctx->dev;
    size_t mark = ts_mark(&a->ctx->arena);
    ts_tensor f = ts_take(&a->ctx->arena, TS_F32, TS_DIM(x.dim[1], x.dim[2] * x.dim[3]));
    TRY(ts_cast(dev, view_as_rows(x), f));
    if (!dev->counting) TRY(dev->ops->download(dev, to, f.p, (size_t)ts_count(f) * sizeof *to));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

static ts_plan *candidate_of(const ts_layer_tiles *s, int slot, int candidate)
{
    return s->plan + (long)slot * (s->ks + 1) + candidate;
}

static void fix_layer(ts_layer_tiles *s, int layer, int candidate)
{
    for (int slot = 0; slot < s->attn->o.slots; slot++)
        ts_attn_fix(s->attn, slot, layer, *candidate_of(s, slot, candidate));
}

/* The observer: while a layer is tried, its call is computed in full and with every candidate. */
static ts_status compare_tiles(void *observer, int layer, const ts_attention *call)
{
    ts_status st = TS_OK;
    ts_layer_tiles *s = observer;
    ts_attn *a = s->attn;
    ts_device *dev = a->ctx->dev;
    ts_attention op = *call;
    if (!s->trying) return TS_OK;
    size_t mark = ts_mark(&a->ctx->arena);
    long n = ts_count(op.q);
    float *full = malloc((size_t)n * sizeof *full), *tried = malloc((size_t)n * sizeof *tried);
    ts_tensor o = ts_take(&a->ctx->arena, op.out.type, op.out.nd, op.out.dim),
              y = ts_take(&a->ctx->arena, op.out.type, op.out.nd, op.out.dim);
    if (!full || !tried) TRY(refuse_tiles_memory(a));
    o.ld = y.ld = op.q.dim[2] * op.q.dim[3];
    op.out = o;
    TRY(ts_attention_op(dev, op));
    TRY(download_rows(a, o, full));
    for (int i = 0; i < s->ks; i++) {
        const ts_plan *plan = candidate_of(s, a->slot, i);
        double off = 0, all = 0;
        op.out = y;
        op.plan = &plan;
        TRY(ts_attention_op(dev, op));
        TRY(download_rows(a, y, tried));
        for (long j = 0; j < n && !dev->counting; j++) {
            off += ((double)tried[j] - full[j]) * ((double)tried[j] - full[j]);
            all += (double)full[j] * full[j];
        }
        s->error[(long)layer * s->ks + i] += off == 0 ? 0 : off / all;
    }
    s->samples++;
done:
    ts_release(&a->ctx->arena, mark);
    free(full);
    free(tried);
    return st;
}

void ts_layer_tiles_try(ts_layer_tiles *s, int layer)
{
    s->trying = true;
    s->samples = 0;
    fix_layer(s, layer, s->ks); /* what is carried out meanwhile reads everything */
    for (int i = 0; i < s->ks; i++) s->error[(long)layer * s->ks + i] = 0;
}

void ts_layer_tiles_choose(ts_layer_tiles *s, int layer)
{
    int best = 0;
    for (int i = 0; i < s->ks; i++) s->error[(long)layer * s->ks + i] /= s->samples;
    /* frames smaller than blocks: a k may read everything */
    while (best < s->ks &&
           !(s->error[(long)layer * s->ks + best] <= s->loss && s->plan[best].share < 1))
        best++;
    if (s->attn->ctx->dev->counting) best = 0;
    s->trying = false;
    s->chosen[layer] = best < s->ks ? s->k[best] : 0;
    fix_layer(s, layer, best);
}

/* Layers of an expert are numbered through both of them in attention. */
static ts_status search_layer(void *user, const ts_dit_pass *p, int layer)
{
    ts_status st = TS_OK;
    ts_layer_tiles *s = user;
    int numbered = ts_dit_first_layer(p->dit) + layer;
    ts_layer_tiles_try(s, numbered);
    for (int i = 0; i < p->n; i++) TRY(ts_dit_probe_layer(p, layer, i));
    ts_layer_tiles_choose(s, numbered);
done:
    return st;
}

/* The candidates of a slot; those of a slot whose sequence has the same blocks are the same. */
static ts_status make_plans(ts_layer_tiles *s, const int32_t *at, int slot, uint32_t *chosen)
{
    ts_status st = TS_OK;
    ts_attn *a = s->attn;
    ts_sequence q = ts_attn_sequence(a, slot);
    int same = 0;
    for (; same < slot; same++) {
        ts_sequence other = ts_attn_sequence(a, same);
        if (other.nb == q.nb && other.nv == q.nv) break;
    }
    for (int i = 0; i <= s->ks; i++) {
        if (same < slot) {
            *candidate_of(s, slot, i) = *candidate_of(s, same, i);
            continue;
        }
        if (!ts_pattern_tile(&a->grid, at, i < s->ks ? s->k[i] : 0, TS_BLOCK, q.nv, chosen))
            TRY(refuse_tiles_memory(a));
        TRY(ts_attn_plan(a, slot, chosen, candidate_of(s, slot, i)));
    }
done:
    return st;
}

ts_status ts_layer_tiles_open(ts_layer_tiles *s, ts_attn *a)
{
    ts_status st = TS_OK;
    int nb = a->grid.nb;
    uint32_t *chosen = malloc((size_t)nb * (size_t)ts_plan_words(nb) * sizeof *chosen);
    int32_t *at = malloc((size_t)a->grid.N * sizeof *at);
    s->attn = a;
    s->plan = calloc((size_t)a->o.slots * ((size_t)s->ks + 1), sizeof *s->plan);
    if (!chosen || !at || !s->plan) TRY(refuse_tiles_memory(a));
    ts_grid_order(&a->grid, a->o.policy.order, at);
    for (int slot = 0; slot < a->o.slots; slot++) TRY(make_plans(s, at, slot, chosen));
    s->hook = (ts_dit_hook){.user = s, .layer_before = search_layer};
    a->observe = compare_tiles;
    a->observer = s;
done:
    free(chosen);
    free(at);
    return st;
}

void ts_layer_tiles_close(ts_layer_tiles *s)
{
    free(s->plan);
    s->plan = NULL;
}
