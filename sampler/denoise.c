/* The sampling loop: which expert, which guidance, transformer, solver, state. On a counting device
 * it sizes the arena. */
#include "sampler/images.h"
#include "sampler/latents.h"
#include "sampler/loras.h"
#include "sampler/run.h"
#include "sampler/watch.h"

#include "attention/saved.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {      /* the expert at work */
    int index, first; /* 0 or 1; the step (from 0) that its timetable begins with */
    int still;        /* row of its timetable that is 0, of tokens without noise; 0: none */
    size_t mark;      /* where its share of the arena begins */
} expert;

/* A transformer tells its limits in tokens; whoever gave a size reads pixels and frames. */
static ts_status refuse_size(ts_run *r)
{
    char why[sizeof r->ctx->err.text];
    const ts_grid *g = &r->grid;
    memcpy(why, r->ctx->err.text, sizeof why);
    return ts_fail(&r->ctx->err, TS_EUSAGE, "%d frame%s of %dx%d: ask for %s (%s)", r->q.frames,
                   r->q.frames == 1 ? "" : "s", r->q.width, r->q.height,
                   g->F > g->H && g->F > g->W ? "fewer frames" : "a smaller size", why);
}

/* The first expert's packed weights go before the second's come; prepare carves into what it held.
 * Its whole timetable, also where a run goes on within it: products of fewer rows may round
 * differently. */
static ts_status enter_expert(ts_run *r, expert *e, int index)
{
    int end = index == 0 ? r->low : r->q.steps,
        step = index == 0 || r->low < r->schedule.first ? r->schedule.first : r->low;
    if (e->index >= 0) ts_weights_leave(ts_dit_weights(r->m->dit[e->index]));
    ts_release(&r->ctx->arena, e->mark);
    float t[TS_MAX_STEPS + 1] = {0};
    int rows = end - step;
    *e = (expert){.index = index, .first = step, .mark = e->mark};
    memcpy(t, r->schedule.t + step, (size_t)rows * sizeof *t);
    if (ts_images_kept(r)) e->still = rows++;
    ts_dit_inputs in = ts_run_inputs(r, r->states, r->branches);
    ts_status st = ts_dit_prepare(r->m->dit[index], &r->attn.grid, &in, t, rows);
    return st == TS_EUSAGE ? refuse_size(r) : st;
}

/* ---- the samples of a batch and what the transformer makes of them ---- */
typedef struct {
    int n;
    ts_tensor x; /* [n or F, H, W, C] */
    /* as the transformer sees it: x, or with a first frame that is kept; u8 [N], 1 in its tokens,
     * absent: none is, and the same in raster order, where attention has another */
    ts_tensor in, sel, sel_raster;
    ts_tensor v[TS_BRANCHES]; /* [n or F, H, W, out_channels] */
    /* [n or F, H, W, C]: the prediction after guidance; v of the first branch where that is as wide
     */
    ts_tensor out;
} batch;

static void take_batch(ts_run *r, batch *b)
{
    ts_arena *a = &r->ctx->arena;
    long C = r->latent[0], wide = r->m->dit_info.out_channels;
    b->n = r->pictures ? r->pictures : 1;
    b->x = ts_latents_take(a, r->latent, C);
    b->in = ts_images_kept(r) ? ts_latents_take(a, r->latent, C) : b->x;
    for (int s = 0; s < r->branches; s++) b->v[s] = ts_latents_take(a, r->latent, wide);
    b->out = wide == C ? b->v[TS_COND] : ts_latents_take(a, r->latent, C);
}

/* The tokens of the first frame, in the order that attention has them in. */
static ts_status choose_still(ts_run *r, batch *b)
{
    ts_status st = TS_OK;
    ts_device *dev = r->ctx->dev;
    long N = r->grid.N, frame = (long)r->grid.H * r->grid.W;
    int32_t *at = NULL;
    uint8_t *sel = NULL;
    bool raster = r->policy.order == TS_RASTER;
    if (!ts_images_kept(r)) return TS_OK;
    b->sel = ts_take(&r->ctx->arena, TS_U8, TS_DIM(N));
    if (!raster) b->sel_raster = ts_take(&r->ctx->arena, TS_U8, TS_DIM(N));
    at = malloc((size_t)N * sizeof *at);
    sel = malloc((size_t)N);
    if (!at || !sel) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for %ld tokens", N));
    ts_grid_order(&r->grid, r->policy.order, at);
    for (long i = 0; i < N; i++) sel[i] = at[i] < frame;
    TRY(dev->ops->upload(dev, b->sel.p, sel, (size_t)N));
    for (long i = 0; i < N; i++) sel[i] = i < frame;
    if (!raster) TRY(dev->ops->upload(dev, b->sel_raster.p, sel, (size_t)N));
done:
    free(at);
    free(sel);
    return st;
}

/* Sample k of all: samples lie behind each other. */
static ts_tensor sample_of(const batch *b, ts_tensor all, int k)
{
    all.dim[0] /= b->n;
    all.p = ts_at(all.p, (size_t)(k * ts_count(all)) * sizeof(float));
    return all;
}

/* What is left of guidance: `out`, the prediction of every sample. A variance behind the prediction
 * is not used. */
static ts_status guide(ts_run *r, const batch *b, int branches, double g)
{
    ts_device *dev = r->ctx->dev;
    long C = r->latent[0];
    ts_tensor c = ts_columns(b->v[TS_COND], 0, C);
    if (branches == 1) return b->out.p.at == c.p.at ? TS_OK : ts_cast(dev, c, b->out);
    return ts_lincomb_op(dev, (ts_lincomb){.n = 2,
                                           .c = {(float)g, (float)(1 - g)},
                                           .x = {c, ts_columns(b->v[TS_UNCOND], 0, C)},
                                           .y = b->out});
}

/* Is the velocity of step i (from 0) foretold well enough? Not in the first and last steps, nor
 * where attention is to search. */
static ts_status may_reuse(ts_run *r, const expert *e, const batch *b, int i, int branches,
                           bool *reuse)
{
    const ts_cache_wish *w = &r->cache.wish;
    *reuse = false;
    if (!w->on || r->ctx->dev->counting || i - r->schedule.first < w->first ||
        i >= r->q.steps - w->last || ts_policy_searches(&r->policy, i + 1))
        return TS_OK;
    return ts_step_cache_ask(&r->cache, r->ctx, b->in, branches, e->index, reuse);
}

static ts_status evaluate_step(ts_run *r, const expert *e, const batch *b, int i, double seconds)
{
    ts_status st = TS_OK;
    int branches = ts_run_branches(r, i), row = i - e->first, n = 0;
    bool reuse = false;
    ts_eval eval[TS_MOST_PICTURES * TS_BRANCHES];
    ts_tensor x[TS_MOST_PICTURES * TS_BRANCHES], v[TS_MOST_PICTURES * TS_BRANCHES];
    ts_event event = {.phase = TS_PHASE_DENOISE,
                      .step = i + 1 - r->schedule.first,
                      .steps = ts_run_steps(r),
                      .seconds = seconds};
    for (int k = 0; k < b->n; k++)
        for (int s = 0; s < branches; s++, n++) {
            eval[n] = (ts_eval){.trow = row,
                                .slot = s,
                                .sample = k,
                                .sel = b->sel,
                                .sel_raster = b->sel_raster,
                                .trow_sel = e->still};
            x[n] = sample_of(b, b->in, k);
            v[n] = sample_of(b, b->v[s], k);
        }
    if (ts_images_kept(r)) TRY(ts_cast(r->ctx->dev, b->x, b->in));
    TRY(ts_images_keep(r, b->in));
    TRY(may_reuse(r, e, b, i, branches, &reuse));
    if (reuse) {
        TRY(ts_step_cache_reuse(&r->cache, r->ctx, b->v));
    } else {
        TRY(ts_dit_step(r->m->dit[e->index], &r->attn, event, n, eval, x, v));
        if (r->cache.wish.on)
            TRY(ts_step_cache_keep(&r->cache, r->ctx, b->in, b->v, branches, e->index));
    }
    TRY(guide(r, b, branches, ts_guidance_at(r, i)));
done:
    return st;
}

/* The latents that enter a step, where somebody wants to see them. */
static ts_status record_latents(ts_run *r, int step, ts_tensor x)
{
    ts_status st = TS_OK;
    for (int i = 0; i < r->records && !r->ctx->dev->counting; i++)
        if (r->record[i] == step) TRY(ts_cast(r->ctx->dev, x, ts_run_recorded(r, i)));
done:
    return st;
}

/* Noise of the seeds: stream 0 before the first step, i + 1 what step i adds. Numbers go channel by
 * channel of a picture or clip; picture k of a batch has those that it would have alone with seed +
 * k. */
static ts_status draw_noise(ts_run *r, const batch *b, int stream, ts_tensor all)
{
    ts_status st = TS_OK;
    for (int k = 0; k < b->n; k++) {
        ts_tensor y = sample_of(b, all, k);
        TRY(ts_randn_op(r->ctx->dev, (ts_randn){.seed = r->q.seed + (uint64_t)k,
                                                .stream = (uint32_t)stream,
                                                .rows = 1,
                                                .columns = ts_rows(y),
                                                .y = y}));
    }
done:
    return st;
}

/* What the solver adds after step i (from 0). */
static ts_status draw_step_noise(ts_run *r, const batch *b, int i, ts_tensor to)
{
    if (!r->step_noise || r->ctx->dev->counting) return draw_noise(r, b, i + 1, to);
    return ts_latents_upload(r->ctx, r->latent,
                             r->step_noise + (size_t)i * ts_latents_count(r->latent), to);
}

/* The same picture under the noise of every sample. */
static ts_status add_picture(ts_run *r, const batch *b)
{
    ts_status st = TS_OK;
    ts_level l = ts_schedule_level(&r->schedule);
    for (int k = 0; k < b->n; k++) {
        ts_tensor x = sample_of(b, b->x, k);
        ts_tensor picture = r->ctx->dev->counting ? x : r->picture;
        TRY(ts_lincomb_op(
            r->ctx->dev,
            (ts_lincomb){.n = 2, .c = {(float)l.a, (float)l.s}, .x = {picture, x}, .y = x}));
    }
done:
    return st;
}

/* x at the level of the first step: noise, or a picture under noise. */
static ts_status begin_latents(ts_run *r, const batch *b)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = r->ctx;
    if (!r->noise)
        TRY(draw_noise(r, b, 0, b->x));
    else if (!ctx->dev->counting)
        TRY(ts_latents_upload(ctx, r->latent, r->noise, b->x));
    if (r->q.init)
        TRY(add_picture(r, b));
    else if (r->schedule.scale != 1)
        TRY(ts_lincomb_op(
            ctx->dev,
            (ts_lincomb){.n = 1, .c = {(float)r->schedule.scale}, .x = {b->x}, .y = b->x}));
done:
    return st;
}

/* The last latents leave the arena, into memory of the run. */
static ts_status keep_latents(ts_run *r, ts_tensor x)
{
    ts_status st;
    ts_device *dev = r->ctx->dev;
    int tag;
    TRY(dev->ops->check(dev, x, 1));
    TRY(dev->ops->checked(dev, &tag));
    if (tag)
        TRY(ts_fail(&r->ctx->err, TS_ENUMBER, "the latents hold NaN or infinity after step %d",
                    ts_run_steps(r)));
    if (!dev->counting) TRY(ts_cast(dev, x, r->latents));
done:
    return st;
}

/* Plans live as long as the run's latents: both experts' layers are in them, and each sample of a
 * batch has its own. */
static ts_status open_attention(ts_run *r, int samples)
{
    static const char *const branch[TS_BRANCHES] = {[TS_COND] = "cond", [TS_UNCOND] = "uncond"};
    int layers = 0, slots = samples * r->branches;
    ts_dit_inputs in = ts_run_inputs(r, r->states, r->branches);
    for (int i = 0; i < 2 && r->m->dit[i]; i++) layers += ts_dit_describe(r->m->dit[i])->layers;
    for (int i = 0; i < slots; i++) {
        const char *name = branch[i % r->branches];
        if (i < r->branches)
            snprintf(r->slot[i], sizeof r->slot[i], "%s", name);
        else
            snprintf(r->slot[i], sizeof r->slot[i], "%s-%d", name, i / r->branches);
        r->slot_name[i] = r->slot[i];
        r->slot_text[i] = (int)ts_dit_text_rows(r->m->dit[0], &in, i % r->branches);
    }
    ts_scores scores = r->q.keep_scores        ? TS_SCORES_EVERY
                       : r->q.keep_last_scores ? TS_SCORES_LAST
                                               : TS_SCORES_NONE;
    return ts_attn_open(&r->attn, r->ctx,
                        &(ts_attn_options){.policy = r->policy,
                                           .grid = r->grid,
                                           .layers = layers,
                                           .heads = r->m->dit_info.heads,
                                           .width = r->m->dit_info.head_dim,
                                           .slots = slots,
                                           .slot_name = r->slot_name,
                                           .text = r->slot_text,
                                           .keep_plans = r->q.keep_plans,
                                           .keep_scores = scores,
                                           .first = r->schedule.first,
                                           .timed = true});
}

static ts_status keep_state(ts_run *r, const ts_solver *solver, ts_tensor x)
{
    ts_status st = ts_state_save(r, solver, x);
    if (!st) r->report.state_steps = solver->done - r->schedule.first;
    if (st != TS_EIO || !r->state_spare) return st;
    ts_warn(r->ctx, "%s: the run goes on without its state", r->ctx->err.text);
    return TS_OK;
}

static ts_status take_steps(ts_run *r, ts_solver *solver, const batch *b)
{
    ts_status st = TS_OK;
    ts_device *dev = r->ctx->dev;
    expert e = {.index = -1, .mark = ts_mark(&r->ctx->arena)};
    double start = ts_seconds();
    for (int i = solver->done; i < r->q.steps; i++) {
        int index = i >= r->low;
        TRY(ts_stopped(r->ctx));
        if (index != e.index) TRY(enter_expert(r, &e, index));
        TRY(record_latents(r, i, b->x));
        TRY(evaluate_step(r, &e, b, i, ts_seconds() - start));
        if (ts_solver_wants_noise(solver)) TRY(draw_step_noise(r, b, i, solver->noise));
        bool watched = ts_watch_due(r, i);
        if (watched) {
            TRY(ts_solver_clean(solver, dev, b->x, b->out, r->clean));
            TRY(ts_images_keep(r, r->clean));
        }
        TRY(ts_solver_step(solver, dev, b->x, b->out));
        if (i + 1 == r->q.steps) TRY(ts_images_keep(r, b->x));
        if (!dev->counting && r->q.state) TRY(keep_state(r, solver, b->x));
        if (!dev->counting) r->report.done = i + 1 - r->schedule.first;
        ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DENOISE,
                                       .step = i + 1 - r->schedule.first,
                                       .steps = ts_run_steps(r),
                                       .seconds = ts_seconds() - start});
        if (watched) TRY(ts_watch_call(r, solver, b->x));
    }
done:
    return st;
}

ts_status ts_denoise(ts_run *r)
{
    ts_status st = TS_OK;
    ts_device *dev = r->ctx->dev;
    ts_solver solver;
    batch b = {0};
    bool found = false, count = dev->counting;
    if (r->q.init && !ts_there(r->picture) && !count)
        TRY(ts_fail(&r->ctx->err, TS_EUSAGE, "the picture to begin with has not been read"));
    if (!count) TRY(ts_model_set_loras(r->m, r->q.loras));
    take_batch(r, &b);
    TRY(choose_still(r, &b));
    TRY(ts_solver_init(&solver, r->schedule, dev, &r->ctx->arena, 4, b.x.dim));
    TRY(open_attention(r, b.n));
    TRY(ts_step_cache_open(&r->cache, r->ctx, &r->cache_wish, b.x, b.v, r->branches));
    ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DENOISE, .steps = ts_run_steps(r)});
    if (!count && r->q.state) TRY(ts_state_load(r, &solver, b.x, &found));
    if (!found) TRY(begin_latents(r, &b));
    r->report.resumed = r->report.done = solver.done - r->schedule.first;
    r->report.state_steps = found ? r->report.done : 0;
    TRY(take_steps(r, &solver, &b));
    TRY(ts_attn_finish(&r->attn));
    TRY(keep_latents(r, b.x));
done:
    return st;
}
