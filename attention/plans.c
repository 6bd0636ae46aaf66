/* Opening a run's plans: what makes it dense, the order of its tokens, fixed patterns and plan
 * files into bits on the device, room for plans that searches will make. */
#include "attention/plans.h"

#include "attention/patterns.h"
#include "attention/plan_file.h"
#include "attention/residual.h"
#include "attention/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ts_attn_state *ts_plans_of(const ts_attn *a, int slot, int layer)
{
    return a->state + (long)slot * a->o.layers + layer;
}

size_t ts_plans_bytes(ts_sequence s, int A)
{
    return (size_t)A * (size_t)s.nb * (size_t)ts_plan_words(s.nb) * sizeof(uint32_t);
}

void ts_plans_share(ts_attn_state *state, ts_sequence s, double kept)
{
    double all = (double)s.nb * s.nb, video = (double)s.nv * s.nv;
    state->kept = kept;
    state->plan.share = s.nv == s.nb ? kept : (kept * video + all - video) / all;
}

ts_status ts_plans_no_memory(ts_attn *a)
{
    return ts_fail(&a->ctx->err, TS_EMEMORY, "no memory for plans of %d tokens", a->grid.N);
}

void ts_plans_know(ts_attn_state *s, int heads, const float *ranking, const float *form)
{
    memset(s->ranks, 0, sizeof s->ranks);
    memset(s->forms, 0, sizeof s->forms);
    for (int h = 0; h < heads; h++) {
        s->ranks[(int)ranking[h]] = true;
        if (form) s->forms[(int)form[h]] = true;
    }
}

/* ---- what makes a whole run dense ---- */
ts_status ts_plans_fall_back(ts_attn *a, const char *why)
{
    snprintf(a->why, sizeof a->why, "%s", why);
    if (a->o.policy.strict)
        return ts_fail(&a->ctx->err, TS_EFAIL, "attention %s: %s, and strict refuses that",
                       ts_policy_name(a->o.policy.kind), why);
    if (a->ctx->dev->counting)
        ts_warn(a->ctx, "attention %s: %s", ts_policy_name(a->o.policy.kind), why);
    return TS_OK;
}

static bool has_text(const ts_attn *a)
{
    for (int s = 0; a->o.text && s < a->o.slots; s++)
        if (a->o.text[s]) return true;
    return false;
}

/* *dense: the run is. Where every block is read by a plan the run is not, but that is said. */
static ts_status find_density(ts_attn *a, bool *dense)
{
    char why[200];
    const ts_policy *p = &a->o.policy;
    *dense = p->kind == TS_DENSE;
    if (*dense) return TS_OK;
    if (p->kind != TS_BLOCKS && a->grid.N < p->min_tokens) {
        *dense = true;
        snprintf(why, sizeof why,
                 "%d tokens are fewer than min-tokens=%ld, below which sparsity does not pay: "
                 "everything is dense",
                 a->grid.N, p->min_tokens);
        if (!p->said_min_tokens) return ts_plans_fall_back(a, why);
        snprintf(a->why, sizeof a->why, "%s", why);
        return TS_OK;
    }
    if (has_text(a) && a->grid.N < TS_BLOCK) {
        *dense = true;
        snprintf(why, sizeof why,
                 "%d tokens before the text are fewer than a block of %d: everything is dense",
                 a->grid.N, TS_BLOCK);
        return ts_plans_fall_back(a, why);
    }
    if (p->kind != TS_TILE || *p->file || p->k < a->grid.F) return TS_OK;
    snprintf(why, sizeof why, "%d of %d latent frame%s see everything: every block is read",
             a->grid.F, a->grid.F, a->grid.F == 1 ? "" : "s");
    return ts_plans_fall_back(a, why);
}

/* Layers that a key names and the model has not. */
static ts_status check_layers(ts_attn *a)
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
    if (!*at || !back) TRY(ts_plans_no_memory(a));
    ts_grid_order(&a->grid, a->o.policy.order, *at);
    if (a->o.policy.order == TS_RASTER) goto done;
    for (int32_t i = 0; i < n; i++) back[(*at)[i]] = i;
    a->grid.perm = ts_take(&a->ctx->arena, TS_I32, TS_DIM(n));
    a->grid.back = ts_take(&a->ctx->arena, TS_I32, TS_DIM(n));
    TRY(dev->ops->upload(dev, a->grid.perm.p, *at, (size_t)n * sizeof **at));
    TRY(dev->ops->upload(dev, a->grid.back.p, back, (size_t)n * sizeof *back));
done:
    free(back);
    return st;
}

/* ---- one plan ---- */
static ts_plan carve_plan(ts_attn *a, ts_sequence s, int A)
{
    ts_tensor bits = ts_take(&a->ctx->arena, TS_U32, TS_DIM(A, s.nb, ts_plan_words(s.nb)));
    return (ts_plan){.A = A, .nb = s.nb, .bits = bits.p};
}

static void share_of_bits(ts_attn_state *state, ts_sequence s, const uint32_t *chosen)
{
    long rows = (long)state->plan.A * s.nv;
    ts_plans_share(state, s, (double)ts_bits_count(chosen, rows, s.nv) / ((double)rows * s.nv));
}

ts_status ts_plans_send(ts_attn *a, ts_attn_state *state, ts_sequence s, const uint32_t *chosen)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    int A = state->plan.A;
    size_t bytes = ts_plans_bytes(s, A);
    uint32_t *wide = malloc(bytes);
    if (!wide) TRY(ts_plans_no_memory(a));
    ts_bits_widen(chosen, A, s, wide);
    ts_plans_share(state, s,
                   (double)ts_bits_count(chosen, (long)A * s.nv, s.nv) / ((double)A * s.nv * s.nv));
    TRY(dev->ops->upload(dev, state->plan.bits, wide, bytes));
done:
    free(wide);
    return st;
}

ts_status ts_plans_fetch(ts_attn *a, const ts_attn_state *state, ts_sequence s, uint32_t *chosen)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    size_t bytes = ts_plans_bytes(s, state->plan.A);
    uint32_t *wide = malloc(bytes);
    if (!wide) TRY(ts_plans_no_memory(a));
    TRY(dev->ops->download(dev, wide, state->plan.bits, bytes));
    ts_bits_narrow(wide, state->plan.A, s, chosen);
done:
    free(wide);
    return st;
}

ts_status ts_attn_plan(ts_attn *a, int slot, const uint32_t *chosen, ts_plan *plan)
{
    ts_sequence s = ts_attn_sequence(a, slot);
    ts_attn_state state = {.plan = carve_plan(a, s, 1)};
    ts_status st = ts_plans_send(a, &state, s, chosen);
    *plan = state.plan;
    return st;
}

void ts_attn_fix(ts_attn *a, int slot, int layer, ts_plan plan)
{
    ts_sequence s = ts_attn_sequence(a, slot);
    double all = (double)s.nb * s.nb, video = (double)s.nv * s.nv;
    *ts_plans_of(a, slot, layer) = (ts_attn_state){
        .plan = plan,
        .have = true,
        .kept = s.nv == s.nb ? plan.share : 1 - (1 - plan.share) * all / video};
}

/* The first branch whose blocks are the same: it has the same fixed plans. */
static int first_alike(const ts_attn *a, int slot)
{
    int same = 0;
    ts_sequence s = ts_attn_sequence(a, slot);
    for (;; same++) {
        ts_sequence t = ts_attn_sequence(a, same);
        if (t.nb == s.nb && t.nv == s.nv) return same;
    }
}

/* ---- fixed patterns ---- */
typedef struct {
    const int32_t *at; /* [N] */
    int *k;            /* tile: [layers] */
    uint32_t *chosen;  /* room for [heads of the pattern, nv, ..] */
} pattern_job;

static int pattern_heads(const ts_attn *a)
{
    return a->o.policy.kind == TS_RANDOM ? a->o.heads : 1;
}

/* The choice of a layer; false: no memory. */
static bool choose_pattern(const ts_attn *a, const pattern_job *j, ts_sequence s, int layer)
{
    const ts_policy *p = &a->o.policy;
    bool ok = true;
    if (p->kind == TS_TILE)
        return ts_pattern_tile(&a->grid, j->at, j->k[layer], TS_BLOCK, s.nv, j->chosen);
    if (p->kind == TS_WINDOW) return ts_pattern_window(&a->grid, j->at, p->keep, s.nv, j->chosen);
    if (p->kind == TS_RADIAL) return ts_pattern_radial(&a->grid, j->at, p->keep, s.nv, j->chosen);
    for (int h = 0; ok && h < a->o.heads; h++)
        ok = ts_pattern_random(s.nv, p->keep, p->seed, layer, h,
                               j->chosen + (size_t)h * (size_t)s.nv * (size_t)ts_plan_words(s.nv));
    return ok;
}

/* The first layer that has the same pattern. */
static int first_same_layer(const ts_attn *a, const pattern_job *j, int layer)
{
    int same = 0;
    if (a->o.policy.kind == TS_RANDOM) return layer;
    if (a->o.policy.kind != TS_TILE) return 0;
    while (j->k[same] != j->k[layer]) same++;
    return same;
}

/* Counting needs no pattern, but for tile, whose share no arithmetic tells. */
static ts_status open_pattern(ts_attn *a, const pattern_job *j, int slot, int layer)
{
    ts_status st = TS_OK;
    ts_sequence s = ts_attn_sequence(a, slot);
    ts_attn_state *state = ts_plans_of(a, slot, layer);
    int twin = first_alike(a, slot), same = first_same_layer(a, j, layer);
    if (twin < slot || same < layer) {
        *state = *ts_plans_of(a, twin, same);
        return TS_OK;
    }
    TRY(ts_stopped(a->ctx));
    *state = (ts_attn_state){.plan = carve_plan(a, s, pattern_heads(a)), .have = true};
    if (a->ctx->dev->counting && a->o.policy.kind != TS_TILE) {
        ts_plans_share(state, s, (double)ts_plan_budget(a->o.policy.keep, s.nv) / s.nv);
        return TS_OK;
    }
    if (!choose_pattern(a, j, s, layer)) TRY(ts_plans_no_memory(a));
    if (a->ctx->dev->counting)
        share_of_bits(state, s, j->chosen);
    else
        TRY(ts_plans_send(a, state, s, j->chosen));
done:
    return st;
}

static ts_status open_patterns(ts_attn *a, const int32_t *at)
{
    ts_status st = TS_OK;
    const ts_policy *p = &a->o.policy;
    pattern_job j = {
        .at = at,
        .k = malloc((size_t)a->o.layers * sizeof *j.k),
        .chosen = malloc(ts_plans_bytes(ts_sequence_of(a->grid.N, 0), pattern_heads(a)))};
    if (!j.k || !j.chosen) TRY(ts_plans_no_memory(a));
    for (int l = 0; l < a->o.layers; l++) j.k[l] = p->k;
    if (p->kind == TS_TILE && *p->file)
        TRY(ts_tile_file(&a->ctx->err, p->file, a->grid.F, a->o.layers, j.k));
    for (int l = 0; l < a->o.layers; l++)
        for (int s = 0; s < a->o.slots; s++) TRY(open_pattern(a, &j, s, l));
done:
    free(j.k);
    free(j.chosen);
    return st;
}

/* ---- plans of files ---- */
static ts_status check_number(ts_attn *a, const ts_bag *bag, const char *key, long here)
{
    const char *was = ts_bag_meta_get(bag, key), *path = a->o.policy.file;
    if (!was)
        return ts_fail(&a->ctx->err, TS_EMODEL,
                       "%s: no plan file of tessera, it does not say its %s", path, key);
    if (atol(was) != here)
        return ts_fail(&a->ctx->err, TS_EMODEL, "%s: made for %.20s %s, this run has %ld", path,
                       was, key, here);
    return TS_OK;
}

/* Text may be as long as it likes: a plan says nothing of it. The file's order becomes the run's.
 */
static ts_status check_plan_file(ts_attn *a, const ts_bag *bag)
{
    ts_status st;
    char grid[64];
    const char *path = a->o.policy.file, *was = ts_bag_meta_get(bag, "grid"),
               *order = ts_bag_meta_get(bag, "order"),
               *format = ts_bag_meta_get(bag, "plan_format");
    if (format && strcmp(format, "1"))
        TRY(ts_fail(&a->ctx->err, TS_EMODEL, "%s: plans of format %.20s, expected 1", path,
                    format));
    TRY(check_number(a, bag, "tokens", a->grid.N));
    TRY(check_number(a, bag, "block", TS_BLOCK));
    TRY(check_number(a, bag, "heads", a->o.heads));
    TRY(check_number(a, bag, "layers", a->o.layers));
    snprintf(grid, sizeof grid, "%dx%dx%d", a->grid.F, a->grid.H, a->grid.W);
    if (!was || strcmp(was, grid))
        TRY(ts_fail(&a->ctx->err, TS_EMODEL, "%s: made for a grid of %.40s tokens, this run has %s",
                    path, was ? was : "unknown", grid));
    if (!order || (strcmp(order, "tile") && strcmp(order, "raster")))
        TRY(ts_fail(&a->ctx->err, TS_EMODEL,
                    "%s: tokens in order \"%.40s\", expected raster or tile", path,
                    order ? order : ""));
    a->o.policy.order = strcmp(order, "tile") ? TS_RASTER : TS_TILE_ORDER;
done:
    return st;
}

static ts_status open_saved(ts_attn *a, const ts_bag *bag)
{
    ts_status st = TS_OK;
    const ts_policy *p = &a->o.policy;
    uint32_t *chosen = malloc(ts_plans_bytes(ts_sequence_of(a->grid.N, 0), a->o.heads));
    if (!chosen) TRY(ts_plans_no_memory(a));
    for (int slot = 0; slot < a->o.slots; slot++)
        for (int l = 0; l < a->o.layers; l++) {
            ts_sequence s = ts_attn_sequence(a, slot);
            ts_attn_state *state = ts_plans_of(a, slot, l);
            if (ts_set_has(&p->dense_layers, l)) continue;
            TRY(ts_plan_get(&a->ctx->err, bag, p->file, a->o.slot_name[slot], l, a->o.heads, s.nv,
                            chosen));
            *state = (ts_attn_state){.plan = carve_plan(a, s, a->o.heads), .have = true};
            TRY(ts_plans_send(a, state, s, chosen));
        }
done:
    free(chosen);
    return st;
}

/* ---- plans that are made on the way ---- */
/* Both patterns on the device, for branches of as many blocks once. */
static ts_status send_scores(ts_attn *a, const int32_t *at, int slot, ts_tensor *patterns,
                             ts_tensor *each)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    ts_sequence s = ts_attn_sequence(a, slot);
    size_t A = (size_t)a->o.heads, n = 2 * (size_t)s.nb * (size_t)s.nb;
    float *scores = malloc(n * sizeof *scores);
    int32_t *which = malloc(2 * A * sizeof *which);
    if (!scores || !which) TRY(ts_plans_no_memory(a));
    *patterns = ts_take(&a->ctx->arena, TS_F32, TS_DIM(2, s.nb, s.nb));
    *each = ts_take(&a->ctx->arena, TS_I32, TS_DIM(2, (long)A));
    if (dev->counting) goto done;
    if (!(a->o.policy.kind == TS_SVG ? ts_pattern_svg : ts_pattern_near)(&a->grid, at, s.nv, s.nb,
                                                                         scores))
        TRY(ts_plans_no_memory(a));
    for (size_t i = 0; i < 2 * A; i++) which[i] = i >= A;
    TRY(dev->ops->upload(dev, patterns->p, scores, n * sizeof *scores));
    TRY(dev->ops->upload(dev, each->p, which, 2 * A * sizeof *which));
done:
    free(scores);
    free(which);
    return st;
}

static ts_status open_scores(ts_attn *a, const int32_t *at)
{
    ts_status st = TS_OK;
    for (int slot = 0; slot < a->o.slots; slot++) {
        int twin = first_alike(a, slot);
        ts_attn_state like = *ts_plans_of(a, twin, 0);
        if (twin == slot) TRY(send_scores(a, at, slot, &like.patterns, &like.each));
        for (int l = 0; l < a->o.layers; l++) {
            ts_attn_state *s = ts_plans_of(a, slot, l);
            s->patterns = like.patterns;
            s->each = like.each;
        }
    }
done:
    return st;
}

static void open_searched(ts_attn *a)
{
    ts_arena *arena = &a->ctx->arena;
    long A = a->o.heads;
    if (a->o.policy.residual < 0) a->o.policy.residual = ts_residual_tokens(a);
    bool search = ts_policy_keeps_plans(&a->o.policy), by_error = search && a->o.policy.by_error;
    for (int slot = 0; slot < a->o.slots; slot++)
        for (int l = 0; l < a->o.layers; l++) {
            ts_sequence s = ts_attn_sequence(a, slot);
            ts_attn_state *state = ts_plans_of(a, slot, l);
            if (ts_set_has(&a->o.policy.dense_layers, l)) continue;
            state->plan = carve_plan(a, s, a->o.heads);
            if (by_error) state->ranking = ts_take(arena, TS_I32, TS_DIM(A));
            if (by_error && a->o.policy.rest == TS_REST_MEASURED)
                state->form = ts_take(arena, TS_I32, TS_DIM(A));
            if (a->o.policy.kind == TS_RECYCLED)
                state->queries = ts_take(arena, TS_F32, TS_DIM(s.nv * A, a->o.width));
            if (a->o.policy.residual) state->residual = ts_residual_take(a, s);
            if (ts_policy_searches_again(&a->o.policy))
                state->lse = ts_take(arena, TS_F32, TS_DIM(1, A, s.T));
            if (search && a->o.keep_scores)
                state->scores = ts_take(arena, TS_F32, TS_DIM(1, A, s.nb, s.nb));
        }
    if (search) a->found = ts_take(arena, TS_F32, TS_DIM(a->room, TS_FOUND, A));
}

ts_status ts_plans_open(ts_attn *a)
{
    ts_status st = TS_OK;
    ts_bag *bag = NULL;
    int32_t *at = NULL;
    bool dense;
    ts_policy_kind kind = a->o.policy.kind;
    TRY(check_layers(a));
    TRY(find_density(a, &dense));
    if (dense) goto done;
    a->state = calloc((size_t)a->o.slots * (size_t)a->o.layers, sizeof *a->state);
    if (!a->state) TRY(ts_plans_no_memory(a));
    if (kind == TS_BLOCKS) {
        TRY(ts_bag_load(&a->ctx->err, a->o.policy.file, &bag));
        TRY(check_plan_file(a, bag));
    }
    TRY(order_tokens(a, &at));
    if (kind == TS_BLOCKS)
        TRY(open_saved(a, bag));
    else if (ts_policy_keeps_plans(&a->o.policy) || kind == TS_POOLED)
        open_searched(a);
    else
        TRY(open_patterns(a, at));
    if (ts_policy_keeps_plans(&a->o.policy) && a->o.policy.by_error) TRY(open_scores(a, at));
done:
    free(at);
    ts_bag_free(bag);
    return st;
}
