/* The search for a k of every layer: a hook of the layer loop lets samples pass each layer twice,
 * an observer of attention compares. Differences are summed on the host in double: what a device
 * adds up in its own order must not decide a choice. */
#include "sampler/tile_search.h"

#include "attention/patterns.h"

#include <stdlib.h>

static ts_status no_memory(ts_attn *a)
{
    return ts_fail(&a->ctx->err, TS_EMEMORY, "no memory to compare tiles of %d tokens", a->grid.N);
}

/* [1, N, A, D], whose ld is from token to token, as rows of tokens. */
static ts_tensor tokens(ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 2, {t.dim[1], t.dim[2] * t.dim[3]}, t.ld};
}

/* x of any type to f32 [N, A D] of the host. */
static ts_status fetch(ts_attn *a, ts_tensor x, float *to)
{
    ts_status st;
    ts_device *dev = a->ctx->dev;
    size_t mark = ts_mark(&a->ctx->arena);
    ts_tensor f = ts_take(&a->ctx->arena, TS_F32, TS_DIM(x.dim[1], x.dim[2] * x.dim[3]));
    TRY(ts_cast(dev, tokens(x), f));
    if (!dev->counting) TRY(dev->ops->download(dev, to, f.p, (size_t)ts_count(f) * sizeof *to));
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

/* The observer: while a layer is tried, its call is computed in full and with every candidate. */
static ts_status compare_tiles(void *observer, int layer, const ts_attention *call)
{
    ts_status st = TS_OK;
    ts_tile_search *s = observer;
    ts_attn *a = s->attn;
    ts_device *dev = a->ctx->dev;
    ts_attention op = *call;
    if (!s->trying) return TS_OK;
    size_t mark = ts_mark(&a->ctx->arena);
    long n = ts_count(op.q);
    float *full = malloc((size_t)n * sizeof *full), *tried = malloc((size_t)n * sizeof *tried);
    ts_tensor o = ts_take(&a->ctx->arena, op.out.type, op.out.nd, op.out.dim),
              y = ts_take(&a->ctx->arena, op.out.type, op.out.nd, op.out.dim);
    if (!full || !tried) TRY(no_memory(a));
    o.ld = y.ld = op.q.dim[2] * op.q.dim[3];
    op.out = o;
    TRY(ts_attention_op(dev, op));
    TRY(fetch(a, o, full));
    for (int i = 0; i < s->ks; i++) {
        const ts_plan *plan = s->plan + i;
        double off = 0, all = 0;
        op.out = y;
        op.plan = &plan;
        TRY(ts_attention_op(dev, op));
        TRY(fetch(a, y, tried));
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

void ts_tile_search_try(ts_tile_search *s, int layer)
{
    s->trying = true;
    s->samples = 0;
    ts_attn_fix(s->attn, layer,
                s->plan[s->ks]); /* what is carried out meanwhile reads everything */
    for (int i = 0; i < s->ks; i++) s->error[(long)layer * s->ks + i] = 0;
}

void ts_tile_search_choose(ts_tile_search *s, int layer)
{
    ts_attn *a = s->attn;
    int best = 0;
    for (int i = 0; i < s->ks; i++) s->error[(long)layer * s->ks + i] /= s->samples;
    /* frames smaller than blocks: a k may read everything */
    while (best < s->ks &&
           !(s->error[(long)layer * s->ks + best] <= s->loss && s->plan[best].share < 1))
        best++;
    if (a->ctx->dev->counting) best = 0;
    s->trying = false;
    s->chosen[layer] = best < s->ks ? s->k[best] : 0;
    ts_attn_fix(a, layer, s->plan[best]);
}

/* Layers of an expert are numbered through both of them in attention. */
static ts_status search_layer(void *user, const ts_dit_pass *p, int layer)
{
    ts_status st = TS_OK;
    ts_tile_search *s = user;
    int numbered = ts_dit_first_layer(p->dit) + layer;
    ts_tile_search_try(s, numbered);
    for (int i = 0; i < p->n; i++) TRY(ts_dit_probe_layer(p, layer, i));
    ts_tile_search_choose(s, numbered);
done:
    return st;
}

ts_status ts_tile_search_open(ts_tile_search *s, ts_attn *a)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    int nb = a->grid.nb;
    size_t size = (size_t)nb * (size_t)ts_plan_words(nb) * sizeof(uint32_t);
    uint32_t *bits = malloc(size);
    int32_t *at = malloc((size_t)a->grid.N * sizeof *at);
    s->plan = calloc((size_t)s->ks + 1, sizeof *s->plan);
    if (!bits || !at || !s->plan) TRY(no_memory(a));
    ts_grid_order(&a->grid, a->o.policy.order, at);
    for (int i = 0; i <= s->ks; i++) {
        if (!ts_pattern_tile(&a->grid, at, i < s->ks ? s->k[i] : 0, TS_BLOCK, nb, bits))
            TRY(no_memory(a));
        s->plan[i] = (ts_plan){
            .A = 1,
            .nb = nb,
            .bits = ts_take(&a->ctx->arena, TS_U32, TS_DIM(nb, ts_plan_words(nb))).p,
            .share = (double)ts_bits_count(bits, nb, nb) / ((double)nb * nb)};
        TRY(dev->ops->upload(dev, s->plan[i].bits, bits, size));
        TRY(dev->ops->join(dev));
    }
    s->attn = a;
    s->hook = (ts_dit_hook){.user = s, .layer_before = search_layer};
    a->observe = compare_tiles;
    a->observer = s;
done:
    free(bits);
    free(at);
    return st;
}

void ts_tile_search_close(ts_tile_search *s)
{
    free(s->plan);
    s->plan = NULL;
}
