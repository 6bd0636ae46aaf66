/* Downloads of what a run's attention made, and the upload of what an earlier one had made. */
#include "attention/saved.h"

#include "attention/patterns.h"
#include "attention/plan_file.h"
#include "attention/plans.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_status need_bag(ts_attn *a)
{
    if (!a->plans) a->plans = ts_bag_new();
    return a->plans ? TS_OK : ts_plans_no_memory(a);
}

/* ---- scores ---- */
/* Rows and columns: those of the nv video blocks, all nb. */
static ts_status put_scores(ts_attn *a, int slot, int layer)
{
    ts_status st = TS_OK;
    char name[96];
    ts_device *dev = a->ctx->dev;
    ts_sequence s = ts_attn_sequence(a, slot);
    const ts_attn_state *state = ts_plans_of(a, slot, layer);
    size_t part = (size_t)s.nv * (size_t)s.nb, all = (size_t)s.nb * (size_t)s.nb;
    TRY(need_bag(a));
    snprintf(name, sizeof name, "wsum.%s.%d.%d", a->o.slot_name[slot], layer, state->scored);
    float *to = ts_bag_put(a->plans, name, TS_F32, 3, (long[]){a->o.heads, s.nv, s.nb}, NULL);
    if (!to) TRY(ts_plans_no_memory(a));
    for (size_t h = 0; h < (size_t)a->o.heads; h++)
        TRY(dev->ops->download(dev, to + h * part, ts_at(state->scores.p, h * all * sizeof *to),
                               part * sizeof *to));
done:
    return st;
}

ts_status ts_attn_keep_scores(ts_attn *a, int slot, int layer, const float *recall)
{
    ts_status st = TS_OK;
    char name[96];
    TRY(need_bag(a));
    snprintf(name, sizeof name, "recall.%s.%d.%d", a->o.slot_name[slot], layer,
             ts_plans_of(a, slot, layer)->scored);
    if (!ts_bag_put(a->plans, name, TS_F32, 1, (long[]){a->o.heads}, recall))
        TRY(ts_plans_no_memory(a));
    TRY(put_scores(a, slot, layer));
done:
    return st;
}

/* ---- the end of a run ---- */
static ts_status put_plan(ts_attn *a, int slot, int layer)
{
    ts_status st = TS_OK;
    ts_sequence s = ts_attn_sequence(a, slot);
    const ts_attn_state *state = ts_plans_of(a, slot, layer);
    int A = state->plan.A;
    uint32_t *chosen = malloc(ts_plans_bytes(s, A));
    if (!chosen) TRY(ts_plans_no_memory(a));
    TRY(ts_plans_fetch(a, state, s, chosen));
    TRY(ts_plan_put(&a->ctx->err, a->plans, a->o.slot_name[slot], layer, a->o.heads, s.nv, chosen,
                    A == 1 && a->o.heads != 1));
done:
    free(chosen);
    return st;
}

/* `text`: "cond 12, uncond 1", where text takes part. */
static ts_status describe_text(ts_attn *a)
{
    char *text = NULL;
    size_t size;
    bool any = false;
    for (int s = 0; a->o.text && s < a->o.slots; s++) any = any || a->o.text[s];
    if (!any) return TS_OK;
    FILE *f = open_memstream(&text, &size);
    if (!f) return ts_plans_no_memory(a);
    for (int s = 0; s < a->o.slots; s++)
        fprintf(f, "%s%s %d", s ? ", " : "", a->o.slot_name[s], a->o.text[s]);
    bool whole = !ferror(f);
    whole = !fclose(f) && whole;
    if (whole) ts_bag_meta(a->plans, "text", text);
    free(text);
    return whole ? TS_OK : ts_plans_no_memory(a);
}

static ts_status describe_plans(ts_attn *a)
{
    char text[64], *policy = ts_policy_text(&a->o.policy);
    if (!policy) return ts_plans_no_memory(a);
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
    return describe_text(a);
}

/* The counting run goes through every step, a resumed one through the rest, so only that can say
 * that a policy had no step to be sparse in. */
static ts_status check_sparse_calls(ts_attn *a)
{
    const ts_attn_counters *c = &a->counters;
    static const char *const why = "no step was left to be sparse: everything is dense";
    if (c->sparse + c->again > 0 || c->dense + c->searched == 0) return TS_OK;
    if (a->ctx->dev->counting && !a->o.policy.said_steps && !a->o.policy.dense_layers.n)
        return ts_plans_fall_back(a, why);
    snprintf(a->why, sizeof a->why, "%s", why);
    return TS_OK;
}

ts_status ts_attn_finish(ts_attn *a)
{
    ts_status st = TS_OK;
    long plans = 0;
    assert(!a->calls); /* all are counted */
    if (!a->state) goto done;
    TRY(check_sparse_calls(a));
    if (!a->o.keep_plans || a->ctx->dev->counting) goto done;
    TRY(need_bag(a));
    for (int s = 0; s < a->o.slots; s++)
        for (int l = 0; l < a->o.layers; l++) {
            const ts_attn_state *state = ts_plans_of(a, s, l);
            if (!state->have || ts_set_has(&a->o.policy.dense_layers, l)) continue;
            TRY(put_plan(a, s, l));
            if (a->o.keep_scores == TS_SCORES_LAST && state->scored) TRY(put_scores(a, s, l));
            plans++;
        }
    if (plans)
        TRY(describe_plans(a));
    else {
        ts_bag_free(a->plans);
        a->plans = NULL;
    }
done:
    return st;
}

/* ---- interruptions ---- */
/* What a search has left on the device of a layer and branch beside the bits of its plan. */
enum { KEPT = 5 };

static int kept_tensors(const ts_attn *a, int slot, int layer, ts_tensor of[KEPT],
                        char name[KEPT][96])
{
    const ts_attn_state *s = ts_plans_of(a, slot, layer);
    const ts_tensor all[KEPT] = {s->lse, s->ranking, s->form, s->queries, s->residual};
    static const char *const what[KEPT] = {"lse", "ranking", "rest", "queries", "residual"};
    int n = 0;
    for (int i = 0; i < KEPT; i++) {
        if (!ts_there(all[i])) continue;
        snprintf(name[n], 96, "%s.%s.%d", what[i], a->o.slot_name[slot], layer);
        of[n++] = all[i];
    }
    return n;
}

/* recycled: when the last search was, how many there were, and whether another is due. */
static ts_status save_searches(ts_attn *a, ts_bag *bag, int slot, int layer)
{
    char name[96];
    const ts_attn_state *s = ts_plans_of(a, slot, layer);
    if (!ts_there(s->queries)) return TS_OK;
    snprintf(name, sizeof name, "searches.%s.%d", a->o.slot_name[slot], layer);
    const int32_t numbers[3] = {s->scored, s->searches, s->stale};
    return ts_bag_put(bag, name, TS_I32, 1, (long[]){3}, numbers) ? TS_OK : ts_plans_no_memory(a);
}

static ts_status load_searches(ts_attn *a, const ts_bag *bag, int slot, int layer)
{
    char name[96];
    ts_host h;
    ts_attn_state *s = ts_plans_of(a, slot, layer);
    if (!ts_there(s->queries)) return TS_OK;
    snprintf(name, sizeof name, "searches.%s.%d", a->o.slot_name[slot], layer);
    ts_status st = ts_bag_get(&a->ctx->err, bag, name, TS_I32, 1, (long[]){3}, &h);
    if (st) return st;
    const int32_t *numbers = h.data;
    s->scored = numbers[0];
    s->searches = numbers[1];
    s->stale = numbers[2] != 0;
    return TS_OK;
}

static void name_bits(const ts_attn *a, int slot, int layer, char bits[96])
{
    snprintf(bits, 96, "plan.%s.%d.bits", a->o.slot_name[slot], layer);
}

static ts_status save_state(ts_attn *a, ts_bag *bag, int slot, int layer)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    ts_sequence s = ts_attn_sequence(a, slot);
    char bits[96], name[KEPT][96];
    ts_tensor kept[KEPT];
    int n = kept_tensors(a, slot, layer, kept, name);
    name_bits(a, slot, layer, bits);
    void *to = ts_bag_put(bag, bits, TS_U32, 3, (long[]){a->o.heads, s.nv, ts_plan_words(s.nv)},
                          NULL);
    if (!to) TRY(ts_plans_no_memory(a));
    TRY(ts_plans_fetch(a, ts_plans_of(a, slot, layer), s, to));
    TRY(save_searches(a, bag, slot, layer));
    for (int i = 0; i < n; i++) {
        to = ts_bag_put(bag, name[i], kept[i].type, kept[i].nd, kept[i].dim, NULL);
        if (!to) TRY(ts_plans_no_memory(a));
        TRY(dev->ops->download(dev, to, kept[i].p,
                               (size_t)ts_count(kept[i]) * ts_dtype_size(kept[i].type)));
    }
done:
    return st;
}

/* Only what searches have made: other plans are there again when attention is opened. */
ts_status ts_attn_save(ts_attn *a, ts_bag *bag)
{
    ts_status st = TS_OK;
    if (!a->state || !ts_policy_keeps_plans(&a->o.policy)) return TS_OK;
    for (int s = 0; s < a->o.slots; s++)
        for (int l = 0; l < a->o.layers; l++)
            if (ts_plans_of(a, s, l)->have) TRY(save_state(a, bag, s, l));
done:
    return st;
}

/* Numbers of heads within 0..most, as the host wants to know them. */
static ts_status read_choices(ts_attn *a, const char *name, const ts_host *h, int most, float *to)
{
    const int32_t *x = h->data;
    for (int i = 0; i < a->o.heads; i++) {
        if (x[i] < 0 || x[i] > most)
            return ts_fail(&a->ctx->err, TS_EMODEL, "%s: %d of head %d, expected 0 to %d", name,
                           x[i], i, most);
        to[i] = (float)x[i];
    }
    return TS_OK;
}

static ts_status load_kept(ts_attn *a, const ts_bag *bag, int slot, int layer)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    ts_attn_state *state = ts_plans_of(a, slot, layer);
    char name[KEPT][96];
    ts_tensor kept[KEPT];
    ts_host h;
    int n = kept_tensors(a, slot, layer, kept, name);
    float *known = malloc(2 * (size_t)(a->o.heads + 1) * sizeof *known), *form = NULL;
    if (!known) return ts_plans_no_memory(a);
    for (int i = 0; i < n; i++) {
        TRY(ts_bag_get(&a->ctx->err, bag, name[i], kept[i].type, kept[i].nd, kept[i].dim, &h));
        if (kept[i].p.at == state->ranking.p.at)
            TRY(read_choices(a, name[i], &h, a->o.policy.kind == TS_SVG ? 1 : TS_RANKINGS - 1,
                             known));
        if (kept[i].p.at == state->form.p.at) {
            form = known + a->o.heads;
            TRY(read_choices(a, name[i], &h, TS_REST_LINEAR, form));
        }
        TRY(dev->ops->upload(dev, kept[i].p, h.data,
                             (size_t)ts_count(kept[i]) * ts_dtype_size(kept[i].type)));
    }
    if (ts_there(state->ranking)) ts_plans_know(state, a->o.heads, known, form);
done:
    free(known);
    return st;
}

static ts_status load_state(ts_attn *a, const ts_bag *bag, int slot, int layer)
{
    ts_status st = TS_OK;
    ts_sequence s = ts_attn_sequence(a, slot);
    ts_attn_state *state = ts_plans_of(a, slot, layer);
    char bits[96];
    ts_host h;
    name_bits(a, slot, layer, bits);
    if (!ts_bag_has(bag, bits)) return TS_OK;
    TRY(ts_bag_get(&a->ctx->err, bag, bits, TS_U32, 3,
                   (long[]){a->o.heads, s.nv, ts_plan_words(s.nv)}, &h));
    if (!ts_bits_valid(h.data, (long)a->o.heads * s.nv, s.nv))
        TRY(ts_fail(&a->ctx->err, TS_EMODEL, "%s: a row that reads no block, or one beyond %d",
                    bits, s.nv));
    TRY(ts_plans_send(a, state, s, h.data));
    TRY(load_kept(a, bag, slot, layer));
    TRY(load_searches(a, bag, slot, layer));
    state->have = true;
done:
    return st;
}

ts_status ts_attn_load(ts_attn *a, const ts_bag *bag)
{
    ts_status st = TS_OK;
    if (!a->state || !ts_policy_keeps_plans(&a->o.policy)) return TS_OK;
    for (int s = 0; s < a->o.slots; s++)
        for (int l = 0; l < a->o.layers; l++) TRY(load_state(a, bag, s, l));
done:
    return st;
}
