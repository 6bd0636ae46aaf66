/* Random queries, keys and values of several steps, layers and branches, and a run of a policy on
 * them as models call it. */
#include "tests/attention/sparse_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const int sparse_shapes[SHAPES + 1][3] = {{5, 6, 10}, {3, 9, 13}, {1, 17, 23}, {5, 6, 8}};
const char *const sparse_branches[SLOTS] = {"cond", "uncond"};
const char *const sparse_some[SOME] = {
    "adaspa:search=mass,keep=0.4,min-tokens=0,order=tile",
    "adaspa:search=mass,keep=0.4,min-tokens=0,order=raster,adaptive=off",
    "adaspa:mass=0.5,min-tokens=0,order=raster",
    "window:keep=0.4,min-tokens=0,order=tile",
    "radial:keep=0.4,min-tokens=0",
    "pooled:keep=0.4,min-tokens=0,order=raster",
    "svg:keep=0.4,min-tokens=0",
    "recycled:keep=0.4,min-tokens=0,similar=0.5",
    "random:keep=0.4,min-tokens=0,order=tile,seed=5",
    "tile:k=1,min-tokens=0,order=raster"};

long sparse_count(const sparse_run *j) { return (long)j->grid.N * WIDTH; }
float *sparse_output(const sparse_run *j, int step, int slot, int layer)
{
    return j->out + (((step - 1) * SLOTS + slot) * LAYERS + layer) * sparse_count(j);
}

/* Uniform in -1..1 from an integer hash of what it is for and its index. */
static float uniform(uint32_t of, uint32_t i)
{
    uint32_t x = of * 0x85ebca6bu + i * 0x9E3779B9u;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return (float)(x / 4294967296.0 * 2 - 1);
}

/* Of q, k or v (what 0 1 2), raster. The same at every step but for a slow drift, as latents that
 * settle; later heads look more and more at tokens of their own kind, of which blocks hold few:
 * they are easier to keep. */
void sparse_draw(const sparse_run *j, int what, int step, int slot, int layer, float *x)
{
    uint32_t still = (uint32_t)(what + 3 * (slot + SLOTS * layer)),
             moving = 1000 + still * STEPS + (uint32_t)step;
    for (long n = 0, i = 0; n < j->grid.N; n++)
        for (long a = 0; a < A; a++)
            for (long d = 0; d < D; d++, i++) {
                float kind = what < 2 ? 0.8f * (float)a *
                                            uniform(100000 + (uint32_t)(n / 50), (uint32_t)d)
                                      : 0;
                x[i] = 1.5f * uniform(still, (uint32_t)i) + 0.3f * uniform(moving, (uint32_t)i) +
                       kind;
            }
}

ts_status sparse_call(ts_ctx *ctx, sparse_run *j, int step, int slot, int layer)
{
    ts_status st = TS_OK;
    ts_device *dev = ctx->dev;
    size_t mark = ts_mark(&ctx->arena), bytes = (size_t)sparse_count(j) * sizeof(float);
    float *host = malloc(bytes), *placed = malloc(bytes);
    ts_tensor t[4];
    for (int i = 0; i < 4; i++) {
        t[i] = ts_take(&ctx->arena, TS_F32, TS_DIM(j->grid.N, A, D));
        t[i].ld = WIDTH;
    }
    for (int i = 0; i < 3 && !dev->counting; i++) {
        sparse_draw(j, i, step, slot, layer, host);
        for (int n = 0; n < j->grid.N; n++)
            memcpy(placed + (long)n * WIDTH, host + (long)j->at[n] * WIDTH, WIDTH * sizeof(float));
        TRY(dev->ops->upload(dev, t[i].p, placed, bytes));
        TRY(dev->ops->join(dev));
    }
    ts_attn_begin(&j->attn, step, layer, slot);
    TRY(ts_attend(&j->attn, t[0], t[1], t[2], t[3]));
    if (dev->counting) goto done;
    TRY(dev->ops->download(dev, placed, t[3].p, bytes));
    for (int n = 0; n < j->grid.N; n++)
        memcpy(sparse_output(j, step, slot, layer) + (long)j->at[n] * WIDTH,
               placed + (long)n * WIDTH, WIDTH * sizeof(float));
done:
    ts_release(&ctx->arena, mark);
    free(host);
    free(placed);
    return st;
}

ts_status sparse_open(ts_ctx *ctx, sparse_run *j)
{
    ts_attn_options o = {.grid = j->grid,
                         .layers = LAYERS,
                         .heads = A,
                         .width = D,
                         .slots = SLOTS,
                         .slot_name = sparse_branches,
                         .keep_plans = j->plans,
                         .keep_scores = j->scores ? TS_SCORES_EVERY : TS_SCORES_NONE,
                         .timed = true};
    ck_ok(ctx, ts_policy_parse(&ctx->err, j->policy, &o.policy));
    ts_policy_settle(&o.policy, STEPS);
    ts_status st = ts_attn_open(&j->attn, ctx, &o);
    j->order = j->attn.o.policy.order; /* a plan file may decide it */
    ts_grid_order(&j->grid, j->order, j->at);
    return st;
}

ts_status sparse_phase(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    sparse_run *j = user;
    TRY(sparse_open(ctx, j));
    for (int step = 1; step <= STEPS; step++) {
        for (int layer = 0; layer < LAYERS; layer++)
            for (int slot = 0; slot < SLOTS; slot++) TRY(sparse_call(ctx, j, step, slot, layer));
        TRY(ctx->dev->ops->join(ctx->dev));
        TRY(ts_attn_step_end(&j->attn));
    }
    TRY(ts_attn_finish(&j->attn));
done:
    return st;
}

sparse_run sparse_run_of(const char *policy, int shape)
{
    sparse_run j = {.policy = policy,
                    .grid = ts_grid_of(sparse_shapes[shape][0], sparse_shapes[shape][1],
                                       sparse_shapes[shape][2])};
    j.out = calloc((size_t)(STEPS * SLOTS * LAYERS * sparse_count(&j)), sizeof *j.out);
    j.at = calloc((size_t)j.grid.N, sizeof *j.at);
    return j;
}

void sparse_run_free(sparse_run *j)
{
    ts_attn_close(&j->attn);
    free(j->out);
    free(j->at);
    *j = (sparse_run){0};
}

/* A whole run with its plans and scores. */
sparse_run sparse_run_on(const char *backend, int threads, const char *policy, int shape)
{
    sparse_run j = sparse_run_of(policy, shape);
    ts_ctx *ctx = testing_open(backend, NULL, threads);
    j.plans = j.scores = true;
    testing_run(ctx, sparse_phase, &j);
    testing_close(ctx);
    return j;
}

const float *sparse_scores(const sparse_run *j, const char *what, int slot, int layer, int step)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s.%d.%d", what, sparse_branches[slot], layer, step);
    return testing_f32(ts_attn_plans(&j->attn), name, NULL);
}
