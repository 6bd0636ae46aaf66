/* The stream of a sample and the hooks, with a family made up for it: tokens are latents, the rows
 * of text pass the blocks behind them, a block adds 1 to the tokens and 2 to the text. */
#include "dit/dit.h"
#include "sampler/latents.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};
enum { F = 2, H = 8, W = 8, N = F * H * W, C = 4, LAYERS = 3, SLOTS = 2, SAMPLES = 3 };
static const long shape[4] = {C, F, H, W}, rows[SLOTS] = {3, 5};

/* ---- the family ---- */
typedef struct {
    ts_ctx *ctx;
    const ts_weight *ones; /* [C] */
    ts_tensor states[SLOTS];
    int blocks; /* calls */
} toy;
typedef struct {
    int layers;
} toy_config;

static ts_status describe_toy(ts_ctx *ctx, const cJSON *config, const char *path, ts_dit_info *o,
                              void *own)
{
    toy_config *c = own;
    (void)ctx;
    (void)config;
    (void)path;
    c->layers = LAYERS;
    *o = (ts_dit_info){.layers = c->layers,
                       .heads = 1,
                       .head_dim = C,
                       .dim = C,
                       .in_channels = C,
                       .out_channels = C,
                       .patch = {1, 1, 1},
                       .text_dim = C};
    return TS_OK;
}

static ts_status bind_toy(void *self, ts_ctx *ctx, const ts_dit_info *info, const void *config,
                          ts_weights *ws)
{
    toy *t = self;
    const toy_config *c = config;
    ck_assert(c->layers == LAYERS && info->layers == LAYERS);
    t->ctx = ctx;
    return ts_find_vector(ws, 0, &t->ones, 1, (long[]){C}, "ones");
}

static void close_toy(void *self) { (void)self; }

static long rows_of_toy(const void *self, const ts_dit_inputs *in, int slot)
{
    ts_host h;
    ts_err err;
    (void)self;
    return ts_bag_get(&err, in->text[slot], "states", TS_F32, 2, (long[]){-1, C}, &h) ? -1
                                                                                      : h.dim[0];
}

static ts_status prepare_toy(void *self, const ts_grid *g, const ts_dit_inputs *in, const float *t,
                             int nt)
{
    ts_status st = TS_OK;
    toy *y = self;
    ts_host h;
    ts_device *dev = y->ctx->dev;
    (void)g;
    (void)t;
    (void)nt;
    for (int i = 0; i < in->slots; i++) {
        TRY(ts_bag_get(&y->ctx->err, in->text[i], "states", TS_F32, 2, (long[]){-1, C}, &h));
        y->states[i] = ts_take(&y->ctx->arena, TS_F32, 2, h.dim);
        TRY(dev->ops->upload(dev, y->states[i].p, h.data,
                             (size_t)ts_count(y->states[i]) * sizeof(float)));
        TRY(dev->ops->join(dev));
    }
done:
    return st;
}

static ts_status enter_toy(void *self, ts_eval e, ts_tensor x, ts_tensor h)
{
    ts_status st;
    toy *t = self;
    long text = t->states[e.slot].dim[0];
    ck_assert(h.dim[0] == N + text && h.dim[1] == C);
    TRY(ts_cast(t->ctx->dev, ts_view(x, TS_DIM(N, C)), ts_row_range(h, 0, N)));
    TRY(ts_cast(t->ctx->dev, t->states[e.slot], ts_row_range(h, N, text)));
done:
    return st;
}

static ts_status add_ones(toy *t, ts_tensor h, float times)
{
    ts_status st = TS_OK;
    ts_tensor one = ts_view(t->ones->t, TS_DIM(1, C));
    for (long i = 0; i < h.dim[0]; i++) {
        ts_tensor row = ts_row_range(h, i, 1);
        TRY(ts_lincomb_op(t->ctx->dev,
                          (ts_lincomb){.n = 2, .c = {1, times}, .x = {row, one}, .y = row}));
    }
done:
    return st;
}

static ts_status block_of_toy(void *self, int layer, ts_eval e, ts_attn *attn, ts_tensor h)
{
    ts_status st;
    toy *t = self;
    ck_assert_int_eq(attn->layer, layer + 7);
    ck_assert_int_eq(h.dim[0], N + rows[e.slot]);
    t->blocks++;
    TRY(add_ones(t, ts_row_range(h, 0, N), 1));
    TRY(add_ones(t, ts_row_range(h, N, rows[e.slot]), 2));
done:
    return st;
}

static ts_status leave_toy(void *self, ts_eval e, ts_tensor h, ts_tensor v)
{
    toy *t = self;
    (void)e;
    ck_assert(h.dim[0] == N);
    return ts_cast(t->ctx->dev, h, ts_view(v, TS_DIM(N, C)));
}

static ts_tensor embedding_of_toy(void *self, ts_eval e)
{
    toy *t = self;
    (void)e;
    return ts_view(t->ones->t, TS_DIM(1, C));
}

static const ts_dit_class class_of_toy = {.cls = "Toy",
                                          .size = sizeof(toy),
                                          .config_size = sizeof(toy_config),
                                          .describe = describe_toy,
                                          .bind = bind_toy,
                                          .close = close_toy,
                                          .prepare = prepare_toy,
                                          .rows = rows_of_toy,
                                          .enter = enter_toy,
                                          .block = block_of_toy,
                                          .leave = leave_toy,
                                          .embedding = embedding_of_toy};

/* ---- an evaluation of it ---- */
typedef struct {
    ts_dit *dit;
    bool tiles, probes;
    ts_status fails; /* what the hook returns before the last layer */
    char seen[2048]; /* by the hook */
    float x[SAMPLES][C * N], v[SAMPLES][C * N], text[SAMPLES][5 * C];
    int taps;
} job;

static const int slot_of[SAMPLES] = {0, 1, 0};

static void note(job *j, const char *what, int layer, int sample)
{
    size_t n = strlen(j->seen);
    snprintf(j->seen + n, sizeof j->seen - n, "%s %d.%d, ", what, layer, sample);
}

static ts_status see_step_before(void *user, const ts_dit_pass *p)
{
    note(user, "begin", p->n, p->event.step);
    return TS_OK;
}

static ts_status see_step_after(void *user, const ts_dit_pass *p)
{
    note(user, "end", p->n, p->event.step);
    return TS_OK;
}

static ts_status see_layer(void *user, const ts_dit_pass *p, int layer)
{
    ts_status st = TS_OK;
    job *j = user;
    note(j, "layer", layer, p->n);
    for (int i = 0; j->probes && i < p->n; i++) TRY(ts_dit_probe_layer(p, layer, i));
    if (j->fails && layer == LAYERS - 1) TRY(ts_fail(&((ts_err){0}), j->fails, "hook"));
done:
    return st;
}

/* The rows of text are those behind the tokens of the stream. */
static ts_status see_sample(void *user, const ts_dit_pass *p, int layer, int sample, ts_tensor t)
{
    ts_status st = TS_OK;
    job *j = user;
    ts_device *dev = p->attn->ctx->dev;
    note(j, "after", layer, sample);
    if (layer == LAYERS) {
        ck_assert(t.p.at == p->v[sample].p.at);
        return TS_OK;
    }
    ck_assert(t.dim[0] == N && t.dim[1] == C);
    if (layer < LAYERS - 1 || dev->counting) return TS_OK;
    TRY(dev->ops->download(dev, j->text[sample], ts_at(t.p, (size_t)(N * C) * sizeof(float)),
                           (size_t)(rows[slot_of[sample]] * C) * sizeof(float)));
done:
    return st;
}

static ts_status tap_first(void *user, const char *name, ts_tensor t)
{
    job *j = user;
    j->taps++;
    if (!strcmp(name, "condition_embedder")) return TS_OK;
    ck_assert(t.dim[0] == N && t.dim[1] == C);
    return TS_OK;
}

static ts_bag *text_of(int slot)
{
    ts_bag *bag = ts_bag_new();
    float *x = ts_bag_put(bag, "states", TS_F32, 2, (long[]){rows[slot], C}, NULL);
    for (int i = 0; i < rows[slot] * C; i++) x[i] = (float)(1000 * (slot + 1) + i);
    return bag;
}

static ts_status evaluate(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    job *j = user;
    ts_attn attn = {0};
    ts_bag *text[SLOTS] = {text_of(0), text_of(1)};
    ts_dit_inputs in = {.text = (const ts_bag *const *)text, .slots = SLOTS};
    ts_tensor x[SAMPLES], v[SAMPLES];
    ts_eval eval[SAMPLES];
    ts_attn_options o = {.grid = ts_grid_of(F, H, W), .layers = 7 + LAYERS, .heads = 1, .slots = 6};
    ts_dit_hook hook = {.user = j,
                        .step_before = see_step_before,
                        .step_after = see_step_after,
                        .layer_before = see_layer,
                        .sample_after = see_sample};
    *j->seen = 0;
    if (j->tiles) TRY(ts_policy_parse(&ctx->err, "window:min-tokens=0,order=tile", &o.policy));
    TRY(ts_attn_open(&attn, ctx, &o));
    ck_assert(j->tiles == ts_there(attn.grid.perm));
    for (int i = 0; i < SAMPLES; i++) {
        x[i] = ts_latents_take(&ctx->arena, shape, C);
        v[i] = ts_latents_take(&ctx->arena, shape, C);
        TRY(ctx->dev->ops->upload(ctx->dev, x[i].p, j->x[i], sizeof j->x[i]));
        eval[i] = (ts_eval){.slot = slot_of[i], .sample = i / 2};
    }
    for (int i = 0; i < SLOTS; i++) ck_assert_int_eq(ts_dit_text_rows(j->dit, &in, i), rows[i]);
    ctx->tap = tap_first;
    ctx->tap_user = j;
    ts_dit_watch(j->dit, &hook);
    TRY(ts_dit_prepare(j->dit, &attn.grid, &in, (float[]){500}, 1));
    TRY(ts_dit_step(j->dit, &attn, (ts_event){.phase = TS_PHASE_DENOISE, .step = 1, .steps = 1},
                    SAMPLES, eval, x, v));
    for (int i = 0; i < SAMPLES && !ctx->dev->counting; i++)
        TRY(ctx->dev->ops->download(ctx->dev, j->v[i], v[i].p, sizeof j->v[i]));
done:
    ts_dit_watch(j->dit, NULL);
    for (int i = 0; i < SLOTS; i++) ts_bag_free(text[i]);
    ts_attn_close(&attn);
    return st;
}

static ts_ctx *begin(const char *backend, job *j)
{
    char path[600], *dir = testing_tmp();
    ts_err err = {0};
    ts_ctx *ctx = testing_open(backend, NULL, 0);
    ts_bag *bag = ts_bag_new();
    float *one = ts_bag_put(bag, "ones", TS_F32, 1, (long[]){C}, NULL);
    for (int i = 0; i < C; i++) one[i] = 1;
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
    ts_bag_free(bag);
    ck_ok(ctx, ts_dit_open(ctx, &class_of_toy, NULL, "config.json", dir, 7, &j->dit));
    for (int s = 0; s < SAMPLES; s++)
        for (int i = 0; i < C * N; i++) j->x[s][i] = (float)(10000 * s + i);
    free(dir);
    return ctx;
}

static void end(ts_ctx *ctx, job *j)
{
    ts_dit_close(j->dit);
    testing_close(ctx);
    free(j);
}

/* Raster and tile order: every token comes back to its place, and so does every row of text, though
 * streams are of different lengths. */
START_TEST(samples_behind_each_other)
{
    job *j = calloc(1, sizeof *j);
    j->tiles = _i / 2;
    j->probes = true; /* which changes nothing */
    ts_ctx *ctx = begin(backends[_i % 2], j);
    testing_run(ctx, evaluate, j);
    for (int s = 0; s < SAMPLES; s++) {
        for (int i = 0; i < C * N; i++) ck_assert(j->v[s][i] == j->x[s][i] + LAYERS);
        for (int i = 0; i < rows[slot_of[s]] * C; i++)
            ck_assert(j->text[s][i] == (float)(1000 * (slot_of[s] + 1) + i + 2 * LAYERS));
    }
    ck_assert_int_eq(j->taps, SAMPLES * (2 + LAYERS)); /* counting has none */
    end(ctx, j);
}
END_TEST

START_TEST(hooks_in_order)
{
    job *j = calloc(1, sizeof *j);
    ts_ctx *ctx = begin(backends[_i], j);
    testing_run(ctx, evaluate, j);
    ck_assert_str_eq(j->seen, "after -1.0, after -1.1, after -1.2, begin 3.1, "
                              "layer 0.3, after 0.0, after 0.1, after 0.2, "
                              "layer 1.3, after 1.0, after 1.1, after 1.2, "
                              "layer 2.3, after 2.0, after 2.1, after 2.2, "
                              "after 3.0, after 3.1, after 3.2, end 3.1, ");
    end(ctx, j);
}
END_TEST

START_TEST(hook_ends_evaluation)
{
    job *j = calloc(1, sizeof *j);
    size_t size;
    ts_ctx *ctx = begin(backends[_i], j);
    j->fails = TS_EFAIL;
    ck_assert_int_eq(ts_count_phase(ctx, evaluate, j, &size), TS_EFAIL);
    ck_assert_ptr_null(strstr(j->seen, "after 2.0"));
    ck_assert_ptr_nonnull(strstr(j->seen, "layer 2.3"));
    end(ctx, j);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stream");
    TCase *c = tcase_create("stream");
    tcase_add_loop_test(c, samples_behind_each_other, 0, 4);
    tcase_add_loop_test(c, hooks_in_order, 0, 2);
    tcase_add_loop_test(c, hook_ends_evaluation, 0, 2);
    suite_add_tcase(s, c);
    return testing_main(s);
}
