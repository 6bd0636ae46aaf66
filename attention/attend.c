/* Self-attention of transformer blocks: out = softmax(q k' / sqrt(D)) v over the blocks that the
 * policy reads. What a run needs is carved here once: the token order, plans and kept LSEs by layer
 * and branch. Searching and choosing happen on the device; only recall and counts come back. The
 * report of it all is report.c's. */
#include "attention/attend.h"

#include "attention/patterns.h"
#include "attention/plan_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ts_attn_state { /* of one layer and branch */
    ts_plan plan;      /* bits absent: none is ever made */
    bool have;
    ts_tensor lse; /* f32 [1, A, N], adaspa */
};

/* ---- opening ---- */
static ts_status no_memory(ts_attn *a)
{
    return ts_fail(&a->ctx->err, TS_EMEMORY, "no memory for plans of %d tokens", a->grid.N);
}

/* Density that no key asked for: remembered for the report, an error when `strict`. */
static ts_status fall_back(ts_attn *a, const char *why)
{
    snprintf(a->why, sizeof a->why, "%s", why);
    if (a->o.policy.strict)
        return ts_fail(&a->ctx->err, TS_EFAIL, "attention %s: %s, and strict refuses that",
                       ts_policy_name(a->o.policy.kind), why);
    if (a->ctx->dev->counting)
        ts_warn(a->ctx, "attention %s: %s", ts_policy_name(a->o.policy.kind), why);
    return TS_OK;
}

/* What makes a whole run dense: *dense says so. */
static ts_status reasons(ts_attn *a, bool *dense)
{
    char why[200];
    const ts_policy *p = &a->o.policy;
    *dense = p->kind == TS_DENSE;
    if (*dense || p->kind == TS_BLOCKS) return TS_OK;
    if (a->grid.N >= p->min_tokens) {
        if (p->kind != TS_TILE || *p->file || p->k < a->grid.F) return TS_OK;
        snprintf(why, sizeof why, "%d of %d latent frame%s see everything: every block is read",
                 a->grid.F, a->grid.F, a->grid.F == 1 ? "" : "s");
        return fall_back(a, why);
    }
    *dense = true;
    snprintf(why, sizeof why,
             "%d tokens are fewer than min-tokens=%ld, below which sparsity does not pay: "
             "everything is dense",
             a->grid.N, p->min_tokens);
    if (!p->said_min_tokens) return fall_back(a, why);
    snprintf(a->why, sizeof a->why, "%s", why);
    return TS_OK;
}

/* Layers and steps that a key names and the run has not. */
static ts_status within(ts_attn *a)
{
    const ts_policy *p = &a->o.policy;
    const ts_set *d = &p->dense_layers;
    int last = d->n ? d->span[d->n - 1].last : 0;
    if (p->kind != TS_DENSE && a->o.layers && last >= a->o.layers)
        return ts_fail(&a->ctx->err, TS_EUSAGE,
                       "attention %s: dense-layers has layer %d, the model has 0 to %d",
                       ts_policy_name(p->kind), last, a->o.layers - 1);
    return TS_OK;
}

static ts_status order_tokens(ts_attn *a, int32_t **at)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    long n = a->grid.N;
    int32_t *back = malloc((size_t)n * sizeof *back);
    *at = malloc((size_t)n * sizeof **at);
    if (!*at || !back) TRY(no_memory(a));
    ts_grid_order(&a->grid, a->o.policy.order, *at);
    if (a->o.policy.order == TS_RASTER) goto done;
    for (int32_t i = 0; i < n; i++) back[(*at)[i]] = i;
    a->grid.perm = ts_take(&a->ctx->arena, TS_I32, TS_DIM(n));
    a->grid.back = ts_take(&a->ctx->arena, TS_I32, TS_DIM(n));
    TRY(dev->ops->upload(dev, a->grid.perm.p, *at, (size_t)n * sizeof **at));
    TRY(dev->ops->upload(dev, a->grid.back.p, back, (size_t)n * sizeof *back));
    TRY(dev->ops->join(dev));
done:
    free(back);
    return st;
}

static size_t bits_bytes(const ts_attn *a, int A)
{
    return (size_t)A * (size_t)a->grid.nb * (size_t)ts_plan_words(a->grid.nb) * sizeof(uint32_t);
}

static ts_plan carve(ts_attn *a, int A)
{
    return (ts_plan){
        .A = A,
        .nb = a->grid.nb,
        .bits =
            ts_take(&a->ctx->arena, TS_U32, TS_DIM(A, a->grid.nb, ts_plan_words(a->grid.nb))).p};
}

/* A plan from bits of the host. */
static ts_status send(ts_attn *a, ts_plan *p, int A, const uint32_t *bits)
{
    ts_device *dev = a->ctx->dev;
    *p = carve(a, A);
    p->share = (double)ts_bits_count(bits, (long)A * a->grid.nb, a->grid.nb) /
               ((double)A * a->grid.nb * a->grid.nb);
    ts_status st = dev->ops->upload(dev, p->bits, bits, bits_bytes(a, A));
    return st ? st : dev->ops->join(dev); /* the host's bits are used again */
}

static ts_attn_state *state_of(ts_attn *a, int slot, int layer)
{
    return a->state + (long)slot * a->o.layers + layer;
}

void ts_attn_fix(ts_attn *a, int layer, ts_plan plan)
{
    for (int s = 0; s < a->o.slots; s++)
        *state_of(a, s, layer) = (ts_attn_state){.plan = plan, .have = true};
}

/* One plan for every distinct k. */
static ts_status open_tile(ts_attn *a, const int32_t *at, uint32_t *bits)
{
    ts_status st = TS_OK;
    const ts_policy *p = &a->o.policy;
    int *k = malloc((size_t)a->o.layers * sizeof *k);
    if (!k) TRY(no_memory(a));
    for (int l = 0; l < a->o.layers; l++) k[l] = p->k;
    if (*p->file) TRY(ts_tile_file(&a->ctx->err, p->file, a->grid.F, a->o.layers, k));
    for (int l = 0; l < a->o.layers; l++) {
        int same = 0;
        while (k[same] != k[l]) same++;
        ts_plan plan = state_of(a, 0, same)->plan;
        if (same == l) {
            if (!ts_pattern_tile(&a->grid, at, k[l], TS_BLOCK, bits)) TRY(no_memory(a));
            TRY(send(a, &plan, 1, bits));
        }
        ts_attn_fix(a, l, plan);
    }
done:
    free(k);
    return st;
}

static ts_status open_window(ts_attn *a, const int32_t *at, uint32_t *bits)
{
    ts_status st = TS_OK;
    ts_plan plan;
    if (!ts_pattern_window(&a->grid, at, a->o.policy.keep, bits)) TRY(no_memory(a));
    TRY(send(a, &plan, 1, bits));
    for (int l = 0; l < a->o.layers; l++) ts_attn_fix(a, l, plan);
done:
    return st;
}

static ts_status open_random(ts_attn *a, uint32_t *bits)
{
    ts_status st = TS_OK;
    size_t head = bits_bytes(a, 1) / sizeof *bits;
    for (int l = 0; l < a->o.layers; l++) {
        ts_plan plan;
        for (int h = 0; h < a->o.heads; h++)
            if (!ts_pattern_random(a->grid.nb, a->o.policy.keep, a->o.policy.seed, l, h,
                                   bits + (size_t)h * head))
                TRY(no_memory(a));
        TRY(send(a, &plan, a->o.heads, bits));
        ts_attn_fix(a, l, plan);
    }
done:
    return st;
}

static ts_status fits(ts_attn *a, const ts_bag *bag, const char *key, long here)
{
    const char *path = a->o.policy.file, *was = ts_bag_meta_get(bag, key);
    if (!was)
        return ts_fail(&a->ctx->err, TS_EMODEL,
                       "%s: no plan file of tessera, it does not say its %s", path, key);
    if (atol(was) != here)
        return ts_fail(&a->ctx->err, TS_EMODEL, "%s: made for %.20s %s, this run has %ld", path,
                       was, key, here);
    return TS_OK;
}

static ts_status check_plans(ts_attn *a, const ts_bag *bag)
{
    ts_status st;
    char grid[64];
    const char *was = ts_bag_meta_get(bag, "grid");
    TRY(fits(a, bag, "tokens", a->grid.N));
    TRY(fits(a, bag, "block", TS_BLOCK));
    TRY(fits(a, bag, "heads", a->o.heads));
    TRY(fits(a, bag, "layers", a->o.layers));
    snprintf(grid, sizeof grid, "%dx%dx%d", a->grid.F, a->grid.H, a->grid.W);
    if (!was || strcmp(was, grid))
        TRY(ts_fail(&a->ctx->err, TS_EMODEL, "%s: made for a grid of %.40s tokens, this run has %s",
                    a->o.policy.file, was ? was : "unknown", grid));
done:
    return st;
}

static ts_status open_blocks(ts_attn *a, const ts_bag *bag, uint32_t *bits)
{
    ts_status st = TS_OK;
    const ts_policy *p = &a->o.policy;
    for (int s = 0; s < a->o.slots; s++)
        for (int l = 0; l < a->o.layers; l++) {
            if (ts_set_has(&p->dense_layers, l)) continue;
            TRY(ts_plan_get(&a->ctx->err, bag, p->file, a->o.slot_name[s], l, a->o.heads,
                            a->grid.nb, bits));
            TRY(send(a, &state_of(a, s, l)->plan, a->o.heads, bits));
            state_of(a, s, l)->have = true;
        }
done:
    return st;
}

/* Plans that are made on the way. */
static void open_found(ts_attn *a)
{
    for (int s = 0; s < a->o.slots; s++)
        for (int l = 0; l < a->o.layers; l++) {
            if (ts_set_has(&a->o.policy.dense_layers, l)) continue;
            state_of(a, s, l)->plan = carve(a, a->o.heads);
            if (a->o.policy.kind == TS_ADASPA)
                state_of(a, s, l)->lse = ts_take(&a->ctx->arena, TS_F32,
                                                 TS_DIM(1, a->o.heads, a->grid.N));
        }
}

static ts_status open_plans(ts_attn *a, const int32_t *at, const ts_bag *bag)
{
    ts_status st = TS_OK;
    uint32_t *bits = malloc(bits_bytes(a, a->o.heads));
    if (!bits) TRY(no_memory(a));
    switch (a->o.policy.kind) {
    case TS_TILE: TRY(open_tile(a, at, bits)); break;
    case TS_WINDOW: TRY(open_window(a, at, bits)); break;
    case TS_RANDOM: TRY(open_random(a, bits)); break;
    case TS_BLOCKS: TRY(open_blocks(a, bag, bits)); break;
    default: open_found(a);
    }
done:
    free(bits);
    return st;
}

ts_status ts_attn_open(ts_attn *a, ts_ctx *ctx, const ts_attn_options *o)
{
    ts_status st = TS_OK;
    ts_bag *bag = NULL;
    int32_t *at = NULL;
    bool dense;
    ts_attn_close(a);
    a->ctx = ctx;
    a->o = *o;
    a->grid = o->grid;
    TRY(within(a));
    TRY(reasons(a, &dense));
    if (dense) goto done;
    a->state = calloc((size_t)o->slots * (size_t)o->layers, sizeof *a->state);
    if (!a->state) TRY(no_memory(a));
    if (a->o.policy.kind == TS_BLOCKS) {
        TRY(ts_bag_load(&ctx->err, a->o.policy.file, &bag));
        TRY(check_plans(a, bag));
        const char *order = ts_bag_meta_get(bag, "order");
        if (!order || (strcmp(order, "tile") && strcmp(order, "raster")))
            TRY(ts_fail(&ctx->err, TS_EMODEL,
                        "%s: tokens in order \"%.40s\", expected raster or tile", a->o.policy.file,
                        order ? order : ""));
        a->o.policy.order = strcmp(order, "tile") ? TS_RASTER : TS_TILE_ORDER;
    }
    TRY(order_tokens(a, &at));
    TRY(open_plans(a, at, bag));
done:
    free(at);
    ts_bag_free(bag);
    return st;
}

void ts_attn_close(ts_attn *a)
{
    free(a->state);
    ts_bag_free(a->plans);
    *a = (ts_attn){0};
}

void ts_attn_begin(ts_attn *a, int step, int slot)
{
    a->step = step;
    a->slot = slot;
}

/* ---- one call ---- */
/* [N, A, D] -> [1, N, A, D]; rows stay as far apart as they were. */
static ts_tensor batch(ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 4, {1, t.dim[0], t.dim[1], t.dim[2]}, t.ld};
}

/* What a search saw, for files: scores and recall under BRANCH.LAYER.STEP. */
static ts_status keep_scores(ts_attn *a, int layer, ts_tensor scores, const float *recall)
{
    char name[96];
    ts_device *dev = a->ctx->dev;
    const char *branch = a->o.slot_name[a->slot];
    if (!a->o.keep_scores) return TS_OK;
    if (!a->plans && !(a->plans = ts_bag_new())) return no_memory(a);
    snprintf(name, sizeof name, "recall.%s.%d.%d", branch, layer, a->step);
    if (!ts_bag_put(a->plans, name, TS_F32, 1, (long[]){a->o.heads}, recall)) return no_memory(a);
    snprintf(name, sizeof name, "wsum.%s.%d.%d", branch, layer, a->step);
    float *to = ts_bag_put(a->plans, name, TS_F32, 3, scores.dim, NULL);
    return to ? dev->ops->download(dev, to, scores.p, (size_t)ts_count(scores) * sizeof *to)
              : no_memory(a);
}

/* A plan from scores [A, nb, nb]. */
static ts_status choose(ts_attn *a, int layer, ts_attn_state *s, ts_tensor scores)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    const ts_policy *p = &a->o.policy;
    int A = a->o.heads, nb = a->grid.nb;
    bool found = p->kind == TS_ADASPA;
    ts_tensor stat = ts_take(&a->ctx->arena, TS_F32, TS_DIM(3, A));
    float *host = malloc((size_t)(3 * A) * sizeof *host);
    if (!host) TRY(no_memory(a));
    TRY(ts_topk_op(dev, (ts_topk){.scores = scores,
                                  .keep = p->keep,
                                  .diagonal = !found,
                                  .adaptive = found && p->adaptive,
                                  .plan = s->plan,
                                  .stat = stat}));
    s->have = true;
    s->plan.share = (double)ts_plan_budget(p->keep, nb) / nb;
    /* block means are no weights: their plans have no recall, and every row its budget */
    if (!found || dev->counting) goto done;
    TRY(dev->ops->download(dev, host, stat.p, (size_t)(3 * A) * sizeof *host));
    double recall = 0, kept = 0;
    for (int h = 0; h < A; h++) {
        recall += (double)host[A + h] / A;
        kept += host[2 * A + h];
    }
    s->plan.share = kept / ((double)A * nb * nb);
    if (!a->account.recalls || recall < a->account.recall_least) a->account.recall_least = recall;
    a->account.recall += recall;
    a->account.recalls++;
    TRY(keep_scores(a, layer, scores, host));
done:
    free(host);
    return st;
}

/* What a call was and took: `search` of its seconds went into scores and choice. */
static void enter(ts_attn_account *c, ts_do what, double share, double seconds, double search)
{
    if (what == TS_DO_DENSE) {
        c->dense++;
        c->dense_s += seconds;
    } else if (what == TS_DO_SEARCH) {
        c->searched++;
        c->searched_s += seconds;
    } else if (what == TS_DO_SEARCH_AGAIN) {
        c->again++;
        c->again_s += seconds;
        c->share += share;
    } else { /* means of blocks cost next to nothing: no search to charge for */
        c->sparse++;
        c->sparse_s += seconds;
        c->share += share;
    }
    c->search_s += search;
}

static ts_status run(ts_attn *a, int layer, ts_do what, ts_attn_state *s, ts_attention op)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    size_t mark = ts_mark(&a->ctx->arena);
    long A = op.q.dim[2], nb = a->grid.nb;
    bool dense = what == TS_DO_DENSE || what == TS_DO_SEARCH,
         plans = what != TS_DO_DENSE && what != TS_DO_SPARSE;
    const ts_plan *plan = dense ? NULL : &s->plan;
    ts_tensor sums = plans ? ts_take(&a->ctx->arena, TS_F32, TS_DIM(1, A, nb, nb)) : (ts_tensor){0};
    double start = ts_seconds(), search = 0;
    if (what == TS_DO_SEARCH_AGAIN)
        TRY(ts_block_sums_op(dev, (ts_block_sums){op.q, op.k, op.scale, s->lse, sums}));
    if (what == TS_DO_POOL) TRY(ts_block_means_op(dev, (ts_block_means){op.q, op.k, sums}));
    if (what == TS_DO_SEARCH) {
        op.lse = s->lse;
        op.sums = sums;
    } else if (plans)
        TRY(choose(a, layer, s, ts_view(sums, TS_DIM(A, nb, nb))));
    if (!dense) {
        op.plan = &plan;
        search = ts_seconds() - start;
    }
    TRY(ts_attention_op(dev, op));
    if (what == TS_DO_SEARCH) {
        double attended = ts_seconds();
        TRY(choose(a, layer, s, ts_view(sums, TS_DIM(A, nb, nb))));
        search = ts_seconds() - attended;
    }
    if (dev->counting)
        enter(&a->account, what, plan ? plan->share : 0, 0, 0);
    else
        enter(&a->account, what, plan ? plan->share : 0, ts_seconds() - start, plans ? search : 0);
done:
    ts_release(&a->ctx->arena, mark);
    return st;
}

ts_status ts_attend(ts_attn *a, int layer, ts_tensor q, ts_tensor k, ts_tensor v, ts_tensor out)
{
    ts_err *err = &a->ctx->err;
    if (q.nd != 3 || q.dim[0] != a->grid.N)
        return ts_fail(err, TS_ESHAPE, "self-attention of layer %d: %ld tokens, expected %d",
                       layer + 1, q.dim[0], a->grid.N);
    ts_attn_state *s = NULL;
    if (a->state) {
        if (layer >= a->o.layers || a->slot >= a->o.slots || q.dim[1] != a->o.heads)
            return ts_fail(err, TS_ESHAPE,
                           "self-attention of layer %d, branch %d: %ld heads, expected layers and "
                           "branches below %d and %d, %d heads",
                           layer + 1, a->slot, q.dim[1], a->o.layers, a->o.slots, a->o.heads);
        s = state_of(a, a->slot, layer);
    }
    ts_do what = s ? ts_policy_decide(&a->o.policy, a->step, layer, s->have) : TS_DO_DENSE;
    ts_attention op = {.q = batch(q),
                       .k = batch(k),
                       .v = batch(v),
                       .out = batch(out),
                       .scale = (float)(1 / sqrt((double)q.dim[2]))};
    ts_status st = a->observe ? a->observe(a->observer, layer, &op) : TS_OK;
    return st ? st : run(a, layer, what, s, op);
}

/* ---- the end, and interruptions ---- */
static ts_status put_plan(ts_attn *a, const char *branch, int layer, const ts_plan *p,
                          uint32_t *bits)
{
    ts_device *dev = a->ctx->dev;
    ts_status st = dev->ops->download(dev, bits, p->bits, bits_bytes(a, p->A));
    return st ? st
              : ts_plan_put(&a->ctx->err, a->plans, branch, layer, a->o.heads, a->grid.nb, bits,
                            p->A == 1 && a->o.heads != 1);
}

static void describe(ts_attn *a)
{
    char text[64], *policy = ts_policy_text(&a->o.policy);
    const struct {
        const char *key;
        long value;
    } number[] = {
        {"tokens", a->grid.N}, {"block", TS_BLOCK}, {"heads", a->o.heads}, {"layers", a->o.layers}};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        snprintf(text, sizeof text, "%ld", number[i].value);
        ts_bag_meta(a->plans, number[i].key, text);
    }
    snprintf(text, sizeof text, "%dx%dx%d", a->grid.F, a->grid.H, a->grid.W);
    ts_bag_meta(a->plans, "grid", text);
    ts_bag_meta(a->plans, "order", ts_order_name(a->o.policy.order));
    ts_bag_meta(a->plans, "attention", policy);
    free(policy);
}

/* The counting run goes through every step, a resumed one through the rest, so only that can say
 * that a policy had no step to be sparse in. */
static ts_status nothing_sparse(ts_attn *a)
{
    const ts_attn_account *c = &a->account;
    static const char *const why = "no step was left to be sparse: everything is dense";
    if (c->sparse + c->again > 0 || c->dense + c->searched == 0) return TS_OK;
    if (a->ctx->dev->counting && !a->o.policy.said_steps && !a->o.policy.dense_layers.n)
        return fall_back(a, why);
    snprintf(a->why, sizeof a->why, "%s", why);
    return TS_OK;
}

ts_status ts_attn_finish(ts_attn *a)
{
    ts_status st = TS_OK;
    uint32_t *bits = NULL;
    if (!a->state) goto done;
    TRY(nothing_sparse(a));
    if (!a->o.keep_plans || a->ctx->dev->counting) goto done;
    bits = malloc(bits_bytes(a, a->o.heads));
    if (!bits || (!a->plans && !(a->plans = ts_bag_new()))) TRY(no_memory(a));
    long plans = 0;
    for (int s = 0; s < a->o.slots; s++)
        for (int l = 0; l < a->o.layers; l++)
            if (state_of(a, s, l)->have && !ts_set_has(&a->o.policy.dense_layers, l)) {
                TRY(put_plan(a, a->o.slot_name[s], l, &state_of(a, s, l)->plan, bits));
                plans++;
            }
    if (plans)
        describe(a);
    else {
        ts_bag_free(a->plans);
        a->plans = NULL;
    }
done:
    free(bits);
    return st;
}

/* The parts of a layer's state that a search has made. */
static bool found(const ts_attn *a, const ts_attn_state *s)
{
    return a->o.policy.kind == TS_ADASPA && s->have;
}

static void state_names(const ts_attn *a, int slot, int layer, char bits[96], char lse[96])
{
    snprintf(bits, 96, "plan.%s.%d.bits", a->o.slot_name[slot], layer);
    snprintf(lse, 96, "lse.%s.%d", a->o.slot_name[slot], layer);
}

ts_status ts_attn_save(ts_attn *a, ts_bag *bag)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    char bits[96], lse[96];
    long words = ts_plan_words(a->grid.nb);
    for (int i = 0; a->state && i < a->o.slots * a->o.layers; i++) {
        const ts_attn_state *s = a->state + i;
        if (!found(a, s)) continue;
        state_names(a, i / a->o.layers, i % a->o.layers, bits, lse);
        void *to = ts_bag_put(bag, bits, TS_U32, 3, (long[]){a->o.heads, a->grid.nb, words}, NULL);
        void *kept = ts_bag_put(bag, lse, TS_F32, 3, s->lse.dim, NULL);
        if (!to || !kept) TRY(no_memory(a));
        TRY(dev->ops->download(dev, to, s->plan.bits, bits_bytes(a, a->o.heads)));
        TRY(dev->ops->download(dev, kept, s->lse.p, (size_t)ts_count(s->lse) * sizeof(float)));
    }
done:
    return st;
}

ts_status ts_attn_load(ts_attn *a, const ts_bag *bag)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    char bits[96], lse[96];
    ts_host h;
    long words = ts_plan_words(a->grid.nb);
    for (int i = 0; a->state && a->o.policy.kind == TS_ADASPA && i < a->o.slots * a->o.layers;
         i++) {
        ts_attn_state *s = a->state + i;
        state_names(a, i / a->o.layers, i % a->o.layers, bits, lse);
        if (!ts_bag_has(bag, bits)) continue;
        TRY(ts_bag_get(&a->ctx->err, bag, bits, TS_U32, 3, (long[]){a->o.heads, a->grid.nb, words},
                       &h));
        if (!ts_bits_valid(h.data, (long)a->o.heads * a->grid.nb, a->grid.nb))
            TRY(ts_fail(&a->ctx->err, TS_EMODEL, "%s: a row that reads no block, or one beyond %d",
                        bits, a->grid.nb));
        s->plan.share = (double)ts_bits_count(h.data, (long)a->o.heads * a->grid.nb, a->grid.nb) /
                        ((double)a->o.heads * a->grid.nb * a->grid.nb);
        TRY(dev->ops->upload(dev, s->plan.bits, h.data, bits_bytes(a, a->o.heads)));
        TRY(ts_bag_get(&a->ctx->err, bag, lse, TS_F32, 3, s->lse.dim, &h));
        TRY(dev->ops->upload(dev, s->lse.p, h.data, (size_t)ts_count(s->lse) * sizeof(float)));
        s->have = true;
    }
    TRY(dev->ops->join(dev));
done:
    return st;
}
