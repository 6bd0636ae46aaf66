/* Single evaluations of a transformer, timed by part: dense, searching, searching again, sparse. No
 * text encoder, no VAE: text states, latents and timesteps are made up, weights are the model's.
 * What a run of S steps would take follows from the schedule of the policy. */
#include "backend/number.h"
#include "sampler/images.h"

#include "backend/philox.h"
#include "sampler/latents.h"
#include "sampler/tessera-bench.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_ROWS = 64 };

/* the first step of the schedule that does it, and how many do */
typedef struct {
    ts_do what;
    int step, steps;
} choice;

/* The kinds of evaluation that the schedule has in an open run of attention, and how many steps of
 * each. */
static int list_kinds(const ts_run *r, choice out[TS_STEP_KINDS])
{
    int n = 0, layer = 0, layers = r->m->dit_info.layers;
    bool have = false;
    while (layer < layers && ts_set_has(&r->policy.dense_layers, layer)) layer++;
    bool dense = !r->attn.state || layer == layers;
    for (int s = 1; s <= r->q.steps; s++) {
        ts_do what = dense ? TS_DO_DENSE : ts_policy_decide(&r->policy, s, layer, have);
        int i = 0;
        if (what == TS_DO_SEARCH) have = true;
        while (i < n && out[i].what != what) i++;
        if (i == n) out[n++] = (choice){.what = what, .step = s};
        out[i].steps++;
    }
    return n;
}

static const char *name_of(ts_do what)
{
    static const char *const name[] = {[TS_DO_DENSE] = "dense",
                                       [TS_DO_SEARCH] = "dense with a search",
                                       [TS_DO_SEARCH_AGAIN] = "sparse after a new search",
                                       [TS_DO_POOL] = "sparse, pooled",
                                       [TS_DO_SPARSE] = "sparse"};
    return name[what];
}

static ts_status time_evaluation(ts_run *r, const ts_tensor *x, const ts_tensor *v, choice c,
                                 ts_step_row *row)
{
    ts_profile p;
    ts_eval eval = {.trow = 0, .slot = TS_COND};
    ts_attn_counters was = r->attn.counters, is;
    double calls = r->m->dit_info.layers;
    ts_profile_read(r->ctx->dev, &p, true);
    double start = ts_seconds(), cpu = ts_process_seconds();
    ts_status st = ts_dit_step(
        r->m->dit[0], &r->attn,
        (ts_event){.phase = TS_PHASE_BENCH, .step = c.step, .steps = r->q.steps}, 1, &eval, x, v);
    ts_profile_read(r->ctx->dev, &p, true);
    is = r->attn.counters;
    *row = (ts_step_row){.attention_policy = r->q.attention,
                         .kind = name_of(c.what),
                         .steps = c.steps,
                         .tokens = r->grid.N,
                         .seconds = ts_seconds() - start,
                         .cpu = ts_process_seconds() - cpu};
    row->linear = p.seconds[TS_TIME_LINEAR] + p.seconds[TS_TIME_CONV];
    row->search = is.search_s - was.search_s;
    row->attention = ts_attn_seconds(&is) - ts_attn_seconds(&was);
    row->rest = row->seconds - row->linear - row->attention;
    row->kept = ((double)(is.dense + is.searched - was.dense - was.searched) + is.kept - was.kept) /
                calls;
    row->work = (ts_attn_work(&is) - ts_attn_work(&was)) / calls;
    return st;
}

/* Packs the layers before anything is timed, so that the first evaluation does not pay for it;
 * those that do not stay resident are packed by every evaluation. */
static ts_status pack_layers(ts_run *r)
{
    ts_status st = TS_OK;
    for (int g = 0; g <= r->m->dit_info.layers && !st; g++)
        st = ts_weights_enter(ts_dit_weights(r->m->dit[0]), g);
    return st;
}

typedef struct {
    ts_run r;
    const ts_step_bench *b;
} bench;

/* An evaluation of each kind in the order of the schedule; counting: sizes the arena. */
static ts_status time_kinds(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    bench *b = user;
    ts_run *r = &b->r;
    ts_arena *a = &ctx->arena;
    ts_device *dev = ctx->dev;
    choice c[TS_STEP_KINDS];
    float *numbers = NULL, *states = NULL, t = 500;
    size_t count = ts_latents_count(r->latent);
    long text[2] = {TEXT_ROWS, r->m->dit_info.text_dim}, pooled[2] = {1, r->m->dit_info.pooled_dim};
    static const char *const branch[] = {"cond"};
    ts_bag *bag = ts_bag_new();
    ts_tensor x = ts_latents_take(a, r->latent, r->latent[0]);
    /* a class may return more than the velocity */
    ts_tensor v = ts_latents_take(a, r->latent, r->m->dit_info.out_channels);
    numbers = malloc(count * sizeof *numbers);
    if (bag) states = ts_bag_put(bag, "states", TS_F32, 2, text, NULL);
    if (pooled[1] && states && !ts_bag_put(bag, "pooled", TS_F32, 2, pooled, NULL)) states = NULL;
    if (!numbers || !states)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for %zu latents", count));
    ts_normals(r->q.seed, 0, 0, numbers, count);
    ts_normals(r->q.seed + 1, 0, 0, states, (size_t)(text[0] * text[1]));
    TRY(ts_latents_upload(ctx, r->latent, numbers, x));
    ts_dit_inputs in = ts_run_inputs(r, (const ts_bag *[]){bag}, 1);
    r->slot_text[0] = (int)ts_dit_text_rows(r->m->dit[0], &in, 0);
    TRY(ts_attn_open(&r->attn, ctx,
                     &(ts_attn_options){.policy = r->policy,
                                        .grid = r->grid,
                                        .layers = r->m->dit_info.layers,
                                        .heads = r->m->dit_info.heads,
                                        .width = r->m->dit_info.head_dim,
                                        .slots = 1,
                                        .slot_name = branch,
                                        .text = r->slot_text,
                                        .timed = true}));
    TRY(ts_dit_prepare(r->m->dit[0], &r->attn.grid, &in, &t, 1));
    TRY(pack_layers(r));
    int n = list_kinds(r, c);
    for (int i = 0; i < n; i++) {
        ts_step_row row;
        TRY(time_evaluation(r, &x, &v, c[i], &row));
        if (!dev->counting) b->b->row(b->b->user, &row);
    }
done:
    free(numbers);
    ts_bag_free(bag);
    return st;
}

static ts_status open_step(ts_model *m, const ts_request *q, ts_run *r)
{
    ts_status st = TS_OK;
    ts_request one;
    int images, most;
    *r = (ts_run){.m = m, .ctx = m->ctx};
    TRY(ts_request_read(m, q, &one));
    one.state = NULL;
    ts_model_images(m, &images, &most);
    one.image = images > 0 ? "an image" : NULL;
    one.last_image = images > 1 ? "another" : NULL;
    one.guidance = 1;
    one.guidance_2 = 1;
    TRY(ts_request_check(r, &one));
    TRY(ts_images_room(r));
    TRY(ts_model_weights(m));
done:
    return st;
}

/* Sizes the arena, and lets as many packed weights stay as fit beside it. */
static ts_status make_room(bench *b, size_t *size)
{
    ts_status st;
    ts_run *r = &b->r;
    char need[TS_NUMBER_TEXT], may[TS_NUMBER_TEXT];
    size_t largest, most = r->ctx->memory;
    ts_weights *w = ts_dit_weights(r->m->dit[0]);
    TRY(ts_count_phase(r->ctx, time_kinds, b, size));
    ts_weights_packed(w, &largest);
    if (*size + largest > most)
        TRY(ts_fail(&r->ctx->err, TS_EMEMORY,
                    "a step of %dx%d, %d frames, needs %s, %s may be used: ask for a "
                    "smaller size or fewer frames",
                    r->q.width, r->q.height, r->q.frames,
                    ts_bytes_text((double)(*size + largest), need),
                    ts_bytes_text((double)most, may)));
    ts_weights_budget(w, ts_room_beside(r->ctx, *size));
done:
    return st;
}

ts_status ts_bench_step(ts_model *m, const ts_request *q, const ts_step_bench *b)
{
    ts_status st = TS_OK;
    bench x = {.b = b};
    ts_ctx *ctx = m->ctx;
    size_t size;
    bool timed = true;
    TRY(open_step(m, q, &x.r));
    TRY(make_room(&x, &size));
    TRY(ts_profile_time(ctx->dev, true, &timed));
    TRY(ts_arena_open(&ctx->arena, ctx->dev, size));
    st = time_kinds(ctx, &x);
    ts_arena_close(&ctx->arena);
done:
    if (!timed) (void)ts_profile_time(ctx->dev, false, NULL);
    ts_attn_close(&x.r.attn);
    ts_images_close(&x.r);
    ts_request_release(&x.r);
    return st;
}
