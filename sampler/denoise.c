/* The sampling loop: which expert, which guidance, transformer, solver, state. On a counting device it sizes the arena. */
#include "sampler/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {       /* the expert at work */
    int index, first;  /* 0 or 1; the step (from 0) that its timetable begins with */
    size_t mark;       /* where its share of the arena begins */
} expert;

/* A transformer tells its limits in tokens; whoever typed a size reads flags. */
static ts_status too_many(ts_run *r)
{
    char why[sizeof r->ctx->err.text];
    const ts_grid *g = &r->grid;
    memcpy(why, r->ctx->err.text, sizeof why);
    return ts_fail(&r->ctx->err, TS_EUSAGE, "%d frame%s of %dx%d: ask for %s (%s)", r->q.frames, r->q.frames == 1 ? "" : "s", r->q.width, r->q.height,
                   g->F > g->H && g->F > g->W ? "fewer --frames" : "a smaller --size", why);
}

/* The first expert's packed weights go before the second's come; prepare carves into what it held. */
static ts_status take_over(ts_run *r, expert *e, int index, int step)
{
    ts_dit_text text[TS_BRANCHES];
    int end = index == 0 ? r->low : r->q.steps;
    if (e->index >= 0) ts_weights_leave(ts_dit_weights(r->m->dit[e->index]));
    ts_release(&r->ctx->arena, e->mark);
    *e = (expert){.index = index, .first = step, .mark = e->mark};
    for (int i = 0; i < r->texts; i++)
        text[i] = (ts_dit_text){.states = {r->states[i], TS_F32, 2, {r->n_ids[i], r->m->dit_info.text_dim}}};
    ts_status st = ts_dit_prepare(r->m->dit[index], &r->attn.grid, text, r->texts, r->schedule.t + step, end - step);
    return st == TS_EUSAGE ? too_many(r) : st;
}

static ts_status step(ts_run *r, const expert *e, ts_solver *solver, int i, double seconds, ts_tensor x, const ts_tensor v[2])
{
    ts_status st = TS_OK;
    double g = ts_guidance_at(r, i);
    int n = g > 1 ? 2 : 1, row = i - e->first;
    ts_eval eval[2] = {{.trow = row, .slot = TS_COND}, {.trow = row, .slot = TS_UNCOND}};
    ts_tensor xs[2] = {x, x};
    ts_event event = {.phase = TS_PHASE_DENOISE, .step = i + 1, .steps = r->q.steps, .seconds = seconds};
    TRY(ts_dit_step(r->m->dit[e->index], &r->attn, event, n, eval, xs, v));
    if (n == 2) TRY(ts_lincomb_op(r->ctx->dev, (ts_lincomb){.n = 2, .c = {(float)g, (float)(1 - g)}, .x = {v[0], v[1]}, .y = v[0]}));
    TRY(ts_solver_step(solver, r->ctx->dev, x, v[0]));
done:
    return st;
}

/* The latents that enter a step, where somebody wants to see them. */
static ts_status record(ts_run *r, int step, ts_tensor x)
{
    for (int i = 0; i < r->records && !r->ctx->dev->counting; i++)
        if (r->record[i] == step) return r->ctx->dev->ops->download(r->ctx->dev, r->recorded + (long)i * ts_count(x), x.p, (size_t)ts_count(x) * sizeof(float));
    return TS_OK;
}

static ts_status hand_over(ts_run *r, ts_tensor x, ts_bag **out)
{
    ts_status st = TS_OK;
    ts_bag *bag = ts_bag_new();
    char *json = ts_run_json(r);
    float *z = ts_bag_put(bag, "latents", TS_F32, 4, r->latent, NULL);
    TRY(r->ctx->dev->ops->download(r->ctx->dev, z, x.p, (size_t)ts_count(x) * sizeof(float)));
    for (long i = 0; i < ts_count(x); i++)
        if (!isfinite(z[i])) TRY(ts_fail(&r->ctx->err, TS_ENUMBER, "the latents hold NaN or infinity after step %d", r->q.steps));
    ts_bag_meta(bag, "tessera", json);
    *out = bag, bag = NULL;
done:
    free(json);
    ts_bag_free(bag);
    return st;
}

/* Plans live as long as the run's latents: both experts' layers are in them. */
static ts_status open_attention(ts_run *r)
{
    static const char *const branch[TS_BRANCHES] = {[TS_COND] = "cond", [TS_UNCOND] = "uncond"};
    int layers = 0;
    for (int i = 0; i < 2 && r->m->dit[i]; i++) layers += ts_dit_describe(r->m->dit[i])->layers;
    return ts_attn_open(&r->attn, r->ctx, &(ts_attn_options){.policy = r->policy, .grid = r->grid, .steps = r->q.steps, .layers = layers, .heads = r->m->dit_info.heads, .slots = r->texts,
                                                             .slot_name = branch, .keep_plans = r->q.keep_plans, .keep_scores = r->q.keep_scores});
}

ts_status ts_denoise(ts_run *r, const float *noise, ts_bag **out)
{
    ts_status st = TS_OK;
    ts_arena *a = &r->ctx->arena;
    ts_device *dev = r->ctx->dev;
    ts_solver solver;
    bool found = false, count = dev->counting;
    ts_tensor x = ts_take(a, TS_F32, 4, r->latent), v[2];
    for (int i = 0; i < 2; i++) v[i] = i < r->texts ? ts_take(a, TS_F32, 4, r->latent) : (ts_tensor){0};
    expert e = {.index = -1};
    double start = ts_seconds();
    TRY(ts_solver_init(&solver, r->schedule, dev, a, 4, r->latent));
    TRY(open_attention(r));
    e.mark = ts_mark(a);
    ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DENOISE, .steps = r->q.steps});
    if (!count && r->q.state) TRY(ts_state_load(r, &solver, x, &found));
    if (!count && !found) TRY(dev->ops->upload(dev, x.p, noise, (size_t)ts_count(x) * sizeof(float)));
    r->report.resumed = solver.done;
    for (int i = solver.done; i < r->q.steps; i++) {
        int index = i >= r->low;
        TRY(ts_stopped(r->ctx));
        if (index != e.index) TRY(take_over(r, &e, index, i));
        TRY(record(r, i, x));
        TRY(step(r, &e, &solver, i, ts_seconds() - start, x, v));
        if (!count && r->q.state) TRY(ts_state_save(r, &solver, x));
        ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DENOISE, .step = i + 1, .steps = r->q.steps, .seconds = ts_seconds() - start});
    }
    TRY(ts_attn_finish(&r->attn));
    if (out) TRY(hand_over(r, x, out));
done:
    return st;
}
