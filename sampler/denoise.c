/* The sampling loop: which expert, which guidance, transformer, solver, state. On a counting device
 * it sizes the arena. */
#include "sampler/run.h"

#include "attention/saved.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {      /* the expert at work */
    int index, first; /* 0 or 1; the step (from 0) that its timetable begins with */
    size_t mark;      /* where its share of the arena begins */
} expert;

/* A transformer tells its limits in tokens; whoever typed a size reads flags. */
static ts_status too_many(ts_run *r)
{
    char why[sizeof r->ctx->err.text];
    const ts_grid *g = &r->grid;
    memcpy(why, r->ctx->err.text, sizeof why);
    return ts_fail(&r->ctx->err, TS_EUSAGE, "%d frame%s of %dx%d: ask for %s (%s)", r->q.frames,
                   r->q.frames == 1 ? "" : "s", r->q.width, r->q.height,
                   g->F > g->H && g->F > g->W ? "fewer --frames" : "a smaller --size", why);
}

/* The first expert's packed weights go before the second's come; prepare carves into what it
 * held. */
static ts_status take_over(ts_run *r, expert *e, int index, int step)
{
    ts_dit_text text[TS_BRANCHES];
    int end = index == 0 ? r->low : r->q.steps;
    if (e->index >= 0) ts_weights_leave(ts_dit_weights(r->m->dit[e->index]));
    ts_release(&r->ctx->arena, e->mark);
    *e = (expert){.index = index, .first = step, .mark = e->mark};
    for (int i = 0; i < r->texts; i++)
        text[i] = (ts_dit_text){
            .states = {r->states[i], TS_F32, 2, {r->n_ids[i], r->m->dit_info.text_dim}}};
    ts_dit_pixels(r->m->dit[index], (int)r->latent[2] * r->m->vae_info.stride,
                  (int)r->latent[3] * r->m->vae_info.stride);
    ts_status st = ts_dit_prepare(r->m->dit[index], &r->attn.grid, text, r->texts,
                                  r->schedule.t + step, end - step);
    return st == TS_EUSAGE ? too_many(r) : st;
}

/* the samples of a batch and what the transformer makes of them; with one sample `in` is x and
 * `out` the first output itself */
typedef struct {
    int n;
    ts_tensor x, out;                           /* [C, n or F, H, W] */
    ts_tensor in[TS_MOST_PICTURES];             /* [C, 1, H, W] */
    ts_tensor v[TS_MOST_PICTURES][TS_BRANCHES]; /* [out_channels, 1, H, W] */
} batch;

static void take_batch(ts_run *r, batch *b)
{
    ts_arena *a = &r->ctx->arena;
    const long *l = r->latent;
    long one[4] = {l[0], r->pictures ? 1 : l[1], l[2], l[3]},
         whole[4] = {r->m->dit_info.out_channels, one[1], l[2], l[3]};
    b->n = r->pictures ? r->pictures : 1;
    b->x = ts_take(a, TS_F32, 4, l);
    for (int k = 0; k < b->n; k++) {
        b->in[k] = b->n == 1 ? b->x : ts_take(a, TS_F32, 4, one);
        for (int i = 0; i < r->texts; i++) b->v[k][i] = ts_take(a, TS_F32, 4, whole);
    }
    b->out = b->n == 1 ? ts_tensor_of(b->v[0][0].p, TS_F32, 4, one) : ts_take(a, TS_F32, 4, l);
}

/* Sample k of `all` [C, n, H, W] to or from its own tensor, of which the first C channels count. */
static ts_status move(ts_run *r, const batch *b, int k, ts_tensor one, ts_tensor all, bool out)
{
    long area = r->latent[2] * r->latent[3];
    ts_ptr inside = ts_at(all.p, (size_t)(k * area) * sizeof(float));
    ts_copy c = {.src = out ? one.p : inside,
                 .dst = out ? inside : one.p,
                 .stype = TS_F32,
                 .dtype = TS_F32,
                 .nd = 2,
                 .dim = {r->latent[0], area},
                 .ss = {out ? area : b->n * area, 1},
                 .ds = {out ? b->n * area : area, 1}};
    return b->n == 1 ? TS_OK : ts_copy_op(r->ctx->dev, c);
}

/* What is left of guidance and batch: `out`, the prediction of every sample. */
static ts_status evaluate(ts_run *r, const expert *e, const batch *b, int i, double seconds)
{
    ts_status st = TS_OK;
    double g = ts_guidance_at(r, i);
    int branches = g > 1 ? 2 : 1, row = i - e->first, n = 0;
    long one[4] = {r->latent[0], b->in[0].dim[1], r->latent[2], r->latent[3]};
    ts_eval eval[TS_MOST_PICTURES * TS_BRANCHES];
    ts_tensor xs[TS_MOST_PICTURES * TS_BRANCHES], v[TS_MOST_PICTURES * TS_BRANCHES];
    ts_event event = {
        .phase = TS_PHASE_DENOISE, .step = i + 1, .steps = r->q.steps, .seconds = seconds};
    for (int k = 0; k < b->n; k++) {
        TRY(move(r, b, k, b->in[k], b->x, false));
        for (int s = 0; s < branches; s++, n++) {
            eval[n] = (ts_eval){.trow = row, .slot = s, .sample = k};
            xs[n] = b->in[k];
            v[n] = b->v[k][s];
        }
    }
    TRY(ts_dit_step(r->m->dit[e->index], &r->attn, event, n, eval, xs, v));
    for (int k = 0; k < b->n; k++) {
        /* a variance behind them is not used */
        ts_tensor c = ts_tensor_of(b->v[k][TS_COND].p, TS_F32, 4, one),
                  u = ts_tensor_of(b->v[k][TS_UNCOND].p, TS_F32, 4, one);
        if (branches == 2)
            TRY(ts_lincomb_op(
                r->ctx->dev,
                (ts_lincomb){.n = 2, .c = {(float)g, (float)(1 - g)}, .x = {c, u}, .y = c}));
        TRY(move(r, b, k, c, b->out, true));
    }
done:
    return st;
}

/* The latents that enter a step, where somebody wants to see them. */
static ts_status record(ts_run *r, int step, ts_tensor x)
{
    for (int i = 0; i < r->records && !r->ctx->dev->counting; i++)
        if (r->record[i] == step)
            return r->ctx->dev->ops->download(r->ctx->dev, r->recorded + (long)i * ts_count(x), x.p,
                                              (size_t)ts_count(x) * sizeof(float));
    return TS_OK;
}

/* Fresh noise of a step (from 0) for every sample, as the seeds and the step decide. */
static ts_status refresh(ts_run *r, ts_solver *solver, int i, float *host)
{
    ts_device *dev = r->ctx->dev;
    if (!ts_solver_wants_noise(solver)) return TS_OK;
    if (!dev->counting) ts_run_draw(r, i + 1, host);
    ts_status st = dev->ops->upload(dev, solver->noise.p, host,
                                    (size_t)ts_count(solver->noise) * sizeof(float));
    return st ? st : dev->ops->join(dev); /* the next step overwrites the host's copy */
}

/* x at the level of the first step: noise, or a picture under noise. */
static ts_status begin(ts_run *r, ts_tensor x, const float *noise)
{
    ts_status st = TS_OK;
    ts_device *dev = r->ctx->dev;
    size_t mark = ts_mark(&r->ctx->arena), size = (size_t)ts_count(x) * sizeof(float);
    if (!dev->counting) TRY(dev->ops->upload(dev, x.p, noise, size));
    if (r->q.init) {
        ts_tensor picture = ts_take(&r->ctx->arena, TS_F32, 4, x.dim);
        ts_level l = ts_schedule_level(&r->schedule);
        if (!dev->counting) TRY(dev->ops->upload(dev, picture.p, r->picture, size));
        TRY(ts_lincomb_op(
            dev, (ts_lincomb){.n = 2, .c = {(float)l.a, (float)l.s}, .x = {picture, x}, .y = x}));
    } else if (r->schedule.scale != 1) {
        TRY(ts_lincomb_op(dev,
                          (ts_lincomb){.n = 1, .c = {(float)r->schedule.scale}, .x = {x}, .y = x}));
    }
    TRY(dev->ops->join(dev));
done:
    ts_release(&r->ctx->arena, mark);
    return st;
}

static ts_status hand_over(ts_run *r, ts_tensor x, ts_bag **out)
{
    ts_status st = TS_OK;
    ts_bag *bag = ts_bag_new();
    char *json = ts_run_json(r);
    float *z = ts_bag_put(bag, "latents", TS_F32, 4, r->latent, NULL);
    TRY(r->ctx->dev->ops->download(r->ctx->dev, z, x.p, (size_t)ts_count(x) * sizeof(float)));
    for (long i = 0; i < ts_count(x); i++)
        if (!isfinite(z[i]))
            TRY(ts_fail(&r->ctx->err, TS_ENUMBER, "the latents hold NaN or infinity after step %d",
                        r->q.steps));
    ts_bag_meta(bag, "tessera", json);
    *out = bag;
    bag = NULL;
done:
    free(json);
    ts_bag_free(bag);
    return st;
}

/* Plans live as long as the run's latents: both experts' layers are in them, and each sample of a
 * batch has its own. */
static ts_status open_attention(ts_run *r, int samples)
{
    static const char *const branch[TS_BRANCHES] = {[TS_COND] = "cond", [TS_UNCOND] = "uncond"};
    int layers = 0, slots = samples * r->texts;
    for (int i = 0; i < 2 && r->m->dit[i]; i++) layers += ts_dit_describe(r->m->dit[i])->layers;
    for (int i = 0; i < slots; i++) {
        const char *name = branch[i % r->texts];
        if (i < r->texts)
            snprintf(r->slot[i], sizeof r->slot[i], "%s", name);
        else
            snprintf(r->slot[i], sizeof r->slot[i], "%s-%d", name, i / r->texts);
        r->slot_name[i] = r->slot[i];
    }
    ts_scores scores = r->q.keep_scores        ? TS_SCORES_EVERY
                       : r->q.keep_last_scores ? TS_SCORES_LAST
                                               : TS_SCORES_NONE;
    return ts_attn_open(&r->attn, r->ctx,
                        &(ts_attn_options){.policy = r->policy,
                                           .grid = r->grid,
                                           .layers = layers,
                                           .heads = r->m->dit_info.heads,
                                           .slots = slots,
                                           .slot_name = r->slot_name,
                                           .keep_plans = r->q.keep_plans,
                                           .keep_scores = scores,
                                           .timed = true});
}

ts_status ts_denoise(ts_run *r, const float *noise, ts_bag **out)
{
    ts_status st = TS_OK;
    ts_arena *a = &r->ctx->arena;
    ts_device *dev = r->ctx->dev;
    ts_solver solver;
    batch b;
    bool found = false, count = dev->counting;
    expert e = {.index = -1};
    double start = ts_seconds();
    float *fresh = NULL;
    if (r->q.init && !r->picture && !count)
        TRY(ts_fail(&r->ctx->err, TS_EUSAGE, "the picture to begin with has not been read"));
    take_batch(r, &b);
    TRY(ts_solver_init(&solver, r->schedule, dev, a, 4, r->latent));
    if (ts_there(solver.noise) && !(fresh = calloc((size_t)ts_count(b.x), sizeof *fresh)))
        TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the noise of a step"));
    TRY(open_attention(r, b.n));
    ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DENOISE, .steps = r->q.steps});
    if (!count && r->q.state) TRY(ts_state_load(r, &solver, b.x, &found));
    if (!found) TRY(begin(r, b.x, noise));
    e.mark = ts_mark(a);
    r->report.resumed = solver.done - r->schedule.first;
    for (int i = solver.done; i < r->q.steps; i++) {
        int index = i >= r->low;
        TRY(ts_stopped(r->ctx));
        if (index != e.index) TRY(take_over(r, &e, index, i));
        TRY(record(r, i, b.x));
        TRY(evaluate(r, &e, &b, i, ts_seconds() - start));
        TRY(refresh(r, &solver, i, fresh));
        TRY(ts_solver_step(&solver, dev, b.x, b.out));
        if (!count && r->q.state) TRY(ts_state_save(r, &solver, b.x));
        ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DENOISE,
                                       .step = i + 1,
                                       .steps = r->q.steps,
                                       .seconds = ts_seconds() - start});
    }
    TRY(ts_attn_finish(&r->attn));
    if (out) TRY(hand_over(r, b.x, out));
done:
    free(fresh);
    return st;
}
