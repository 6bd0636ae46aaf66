/* The layer loop: what it says, where it stops, what it holds; and what must not change the
 * numbers: threads, streamed weights, repeated rows of text, half precision (within its
 * rounding). */
#include "tests/dit/evaluate.h"
#include "tests/dit/golden_wan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define T2V "wan21-t2v"
#define T2V_DIR "tests/fixtures/wan21-t2v/model/transformer"
static const char *const backends[] = {"cpu", "far"};

static long cells(const evaluation *e)
{
    return e->latent[0] * e->latent[1] * e->latent[2] * e->latent[3];
}

static void close_all(ts_ctx *ctx, evaluation *e, ts_bag *expected)
{
    evaluation_free(e);
    testing_close(ctx);
    ts_bag_free(expected);
}

/* ---- NaN and infinity ---- */

static const struct {
    const char *tensor;
    float value;
    const char *says;
} poisons[] = {
    {"blocks.0.attn1.to_v.weight", NAN, "layer 1 of 3"},
    {"blocks.1.ffn.net.2.bias", NAN, "layer 2 of 3"},
    {"blocks.2.attn2.to_out.0.weight", INFINITY, "layer 3 of 3"},
    {"patch_embedding.bias", NAN, "patch embedding"},
    {"proj_out.bias", -INFINITY, "output"},
};
enum { POISONS = sizeof poisons / sizeof *poisons };

/* The fixture's transformer with one number changed, in a new folder. */
static char *poisoned(const char *tensor, float value)
{
    char path[600], *dir = testing_tmp();
    ts_err err = {0};
    ts_host t;
    ts_bag *bag = testing_bag(T2V_DIR "/diffusion_pytorch_model.safetensors");
    ck_assert_msg(ts_bag_get(&err, bag, tensor, TS_F32, -1, NULL, &t) == TS_OK, "%s", err.text);
    float *w = ts_bag_put(bag, tensor, TS_F32, t.nd, t.dim, t.data);
    w[3] = value;
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
    ts_bag_free(bag);
    return dir;
}

static ts_dit *open_poisoned(ts_ctx *ctx, int k)
{
    ts_dit *dit = NULL;
    cJSON *config = NULL;
    char *dir = poisoned(poisons[k].tensor, poisons[k].value);
    ck_ok(ctx, ts_json_load(&ctx->err, T2V_DIR "/config.json", &config));
    ck_ok(ctx, ts_dit_open(ctx, &ts_dit_wan, config, "config.json", dir, 0, &dit));
    cJSON_Delete(config);
    free(dir);
    return dit;
}

START_TEST(numbers_that_are_none)
{
    int k = _i % POISONS;
    ts_ctx *ctx = testing_open(backends[_i / POISONS], NULL, 0);
    ts_bag *expected;
    evaluation e;
    evaluation_of_fixture(&e, ctx, T2V, T2V_DIR, &expected);
    ts_dit *sound = e.dit;
    e.dit = open_poisoned(ctx, k);
    ck_assert_int_eq(evaluation_try(ctx, &e), TS_ENUMBER);
    ck_assert_msg(strstr(ctx->err.text, "step 1") && strstr(ctx->err.text, poisons[k].says) &&
                      strstr(ctx->err.text, "tessera-test"),
                  "says \"%s\"", ctx->err.text);
    ts_dit_close(e.dit);
    e.dit = sound;
    ck_ok(ctx, evaluation_try(ctx, &e));
    close_all(ctx, &e, expected);
}
END_TEST

/* ---- progress and stop ---- */

typedef struct {
    ts_event seen[64];
    int n, stop_at;
    volatile int stop;
} watcher;

static void watch(void *user, const ts_event *event)
{
    watcher *w = user;
    ck_assert_int_lt(w->n, 64);
    w->seen[w->n++] = *event;
    if (w->n == w->stop_at) w->stop = 1;
}

START_TEST(events)
{
    ts_ctx *ctx = testing_open(backends[_i], NULL, 0);
    ts_bag *expected;
    evaluation e;
    watcher w = {0};
    evaluation_of_fixture(&e, ctx, T2V, T2V_DIR, &expected);
    ctx->env.progress = watch;
    ctx->env.user = &w;
    e.steps = 2;
    testing_run(ctx, evaluation_phase, &e);
    ck_assert_int_eq(w.n, 6); /* counting says nothing */
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(w.seen[i].phase, TS_PHASE_DENOISE);
        ck_assert_int_eq(w.seen[i].step, i / 3 + 1);
        ck_assert_int_eq(w.seen[i].steps, 2);
        ck_assert_int_eq(w.seen[i].layer, i % 3 + 1);
        ck_assert_int_eq(w.seen[i].layers, 3);
        if (i % 3) ck_assert(w.seen[i].seconds >= w.seen[i - 1].seconds);
    }
    ck_assert_int_eq(e.attn.counters.dense, 3 * 2 * 2); /* layers, samples, steps */
    ck_assert_int_eq(e.attn.counters.searched + e.attn.counters.sparse, 0);
    close_all(ctx, &e, expected);
}
END_TEST

START_TEST(stop)
{
    ts_ctx *ctx = testing_open(backends[_i], NULL, 0);
    ts_bag *expected;
    evaluation e;
    watcher w = {.stop_at = 2};
    evaluation_of_fixture(&e, ctx, T2V, T2V_DIR, &expected);
    ctx->env.progress = watch;
    ctx->env.user = &w;
    ctx->env.stop = &w.stop;
    ck_assert_int_eq(evaluation_try(ctx, &e), TS_ESTOP);
    ck_assert_int_eq(w.n, 2); /* the third layer was not begun */
    close_all(ctx, &e, expected);
}
END_TEST

/* A step that was stopped has not asked for what its check found; the next run must not be told of
 * it. */
START_TEST(stop_after_nan)
{
    ts_ctx *ctx = testing_open(backends[_i], NULL, 0);
    ts_bag *expected;
    evaluation e;
    watcher w = {.stop_at = 2};
    evaluation_of_fixture(&e, ctx, T2V, T2V_DIR, &expected);
    ts_dit *sound = e.dit;
    e.dit = open_poisoned(ctx, 0);
    ctx->env.progress = watch;
    ctx->env.user = &w;
    ctx->env.stop = &w.stop;
    ck_assert_int_eq(evaluation_try(ctx, &e), TS_ESTOP);
    ts_dit_close(e.dit);
    e.dit = sound;
    w.stop = 0;
    ck_ok(ctx, evaluation_try(ctx, &e));
    close_all(ctx, &e, expected);
}
END_TEST

/* ---- memory ---- */

static const ts_ops *real_ops;
static int allocations;
static ts_status counted_alloc(ts_device *d, size_t bytes, ts_ptr *p)
{
    allocations++;
    return real_ops->alloc(d, bytes, p);
}

/* Asks for as many steps as told and says how often the device was asked for memory. */
static int allocations_of(const char *backend, int steps, size_t budget, evaluation *out)
{
    ts_ctx *ctx = testing_open(backend, NULL, 0);
    ts_bag *expected;
    evaluation e;
    evaluation_of_fixture(&e, ctx, T2V, T2V_DIR, &expected);
    ts_weights_budget(ts_dit_weights(e.dit), budget);
    ts_ops ops = *ctx->dev->ops;
    real_ops = ctx->dev->ops;
    allocations = 0;
    ops.alloc = counted_alloc;
    ctx->dev->ops = &ops;
    e.steps = steps;
    size_t size = testing_run(ctx, evaluation_phase, &e);
    ctx->dev->ops = real_ops;
    ck_assert_uint_eq(e.used[0], e.used[1]);
    ck_assert_uint_eq(e.peak[1], size); /* counted exactly */
    *out = e;
    close_all(ctx, out, expected);
    return allocations;
}

START_TEST(step_allocates_nothing)
{
    evaluation e;
    size_t budget = _i / 2 ? 1 : (size_t)1 << 30;
    int one = allocations_of(backends[_i % 2], 1, budget, &e);
    ck_assert_int_gt(one, 0);
    ck_assert_int_eq(allocations_of(backends[_i % 2], 4, budget, &e), one);
}
END_TEST

START_TEST(streamed_weights)
{
    ts_ctx *ctx = testing_open(backends[_i], NULL, 0);
    ts_bag *expected, *same;
    evaluation whole, streamed;
    evaluation_of_fixture(&whole, ctx, T2V, T2V_DIR, &same);
    evaluation_of_fixture(&streamed, ctx, T2V, T2V_DIR, &expected);
    ts_weights_budget(ts_dit_weights(whole.dit), (size_t)1 << 30);
    ts_weights_budget(ts_dit_weights(streamed.dit), 1);
    streamed.steps = 2; /* each layer leaves and comes back */
    testing_run(ctx, evaluation_phase, &whole);
    testing_run(ctx, evaluation_phase, &streamed);
    for (int i = 0; i < 2; i++)
        ck_assert(!memcmp(whole.v[i], streamed.v[i], (size_t)cells(&whole) * sizeof(float)));
    ts_bag_free(same);
    evaluation_free(&whole);
    close_all(ctx, &streamed, expected);
}
END_TEST

/* ---- what must not change the numbers ---- */

START_TEST(samples_do_not_mix)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    ts_bag *expected;
    evaluation both;
    evaluation_of_fixture(&both, ctx, T2V, T2V_DIR, &expected);
    testing_run(ctx, evaluation_phase, &both);
    evaluation one = both;
    one.attn = (ts_attn){0};
    memset(one.v, 0, sizeof one.v);
    one.samples = 1;
    one.texts = 1;
    for (int i = 0; i < 2; i++) {
        one.text[0] = both.text[i];
        testing_run(ctx, evaluation_phase, &one);
        double rel = testing_rel(one.v[0], both.v[i], cells(&one));
        /* kernels for other numbers of text rows may sum in another order */
        ck_assert_msg(rel <= 1e-6, "sample %d alone differs by %.1e", i, rel);
    }
    ck_assert_msg(testing_rel(both.v[1], both.v[0], cells(&both)) > 1e-3,
                  "the text makes no difference");
    for (int i = 0; i < 2; i++) free(one.v[i]);
    ts_attn_close(&one.attn);
    close_all(ctx, &both, expected);
}
END_TEST

/* One row with log(count) added to its logit stands for all zero rows: against all 512 written
 * out. */
START_TEST(zero_rows)
{
    ts_ctx *ctx = testing_open(backends[_i], NULL, 0);
    ts_bag *expected;
    evaluation e;
    evaluation_of_fixture(&e, ctx, T2V, T2V_DIR, &expected);
    long n = e.text[0].states.dim[0], width = e.text[0].states.dim[1];
    e.samples = e.texts = 1;
    testing_run(ctx, evaluation_phase, &e);
    float *few = e.v[0], *rows = calloc((size_t)(512 * width), sizeof *rows);
    e.v[0] = NULL;
    memcpy(rows, e.text[0].states.data, (size_t)(n * width) * sizeof *rows);
    e.text[0].states = (ts_host){rows, TS_F32, 2, {512, width}};
    testing_run(ctx, evaluation_phase, &e);
    double rel = testing_rel(few, e.v[0], cells(&e));
    /* three sums of 512 terms in f32: 3 sqrt(512) 2^-24 */
    ck_assert_msg(rel <= 4e-6, "512 rows differ from %ld and their multiplicity by %.1e", n, rel);
    free(few);
    free(rows);
    close_all(ctx, &e, expected);
}
END_TEST

START_TEST(threads)
{
    float *one = NULL;
    for (int t = 1; t <= 3; t++) {
        ts_ctx *ctx = testing_open("cpu", NULL, t);
        ts_bag *expected;
        evaluation e;
        evaluation_of_fixture(&e, ctx, T2V, T2V_DIR, &expected);
        testing_run(ctx, evaluation_phase, &e);
        if (t == 1) {
            one = e.v[0];
            e.v[0] = NULL;
        } else {
            double rel = testing_rel(e.v[0], one, cells(&e));
            ck_assert_msg(rel <= 1e-6, "%d threads differ from one by %.1e", t, rel);
        }
        close_all(ctx, &e, expected);
    }
    free(one);
}
END_TEST

static double error_in_bf16(const char *backend, const char *level)
{
    ts_ctx *ctx = testing_open(backend, level, 0);
    ts_bag *expected;
    evaluation e;
    ctx->act = TS_BF16;
    evaluation_of_fixture(&e, ctx, T2V, T2V_DIR, &expected);
    testing_run(ctx, evaluation_phase, &e);
    double rel = testing_rel(e.v[0], testing_f32(expected, "velocity", NULL), cells(&e));
    close_all(ctx, &e, expected);
    return rel;
}

/* Each of nine branches rounds its weights and about five tensors to 2^-9 at most, 2^-9 / sqrt(12)
 * in the mean: near 2^-9 together. */
START_TEST(half_precision)
{
    double plain = error_in_bf16(backends[_i], "ref"), best = error_in_bf16(backends[_i], NULL);
    ck_assert_msg(plain >= 1e-4 && plain <= 1e-2, "plain code in bf16 is off by %.1e", plain);
    ck_assert_msg(best <= 2 * plain, "bf16 is off by %.1e, plain code by %.1e", best, plain);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    const char *key, *value, *says;
} configs[] = {
    {"image_dim", "1280", "image_dim"},
    {"added_kv_proj_dim", "32", "added_kv_proj_dim"},
    {"pos_embed_seq_len", "514", "pos_embed_seq_len"},
    {"qk_norm", "\"layer_norm\"", "qk_norm"},
    {"patch_size", "[1, 2]", "patch_size"},
    {"patch_size", "[1, 0, 2]", "patch_size"},
    {"num_attention_heads", "0", "num_attention_heads"},
    {"num_attention_heads", "\"two\"", "num_attention_heads"},
    {"attention_head_dim", "15", "attention_head_dim"},
    {"freq_dim", "63", "freq_dim"},
    {"num_layers", "-1", "num_layers"},
    {"num_layers", "4", "blocks.3.attn1.to_q.weight"}, /* the file has three */
    {"ffn_dim", "95", "blocks.0.ffn.net.0.proj.weight"},
    {"patch_size", "[2, 2, 2]", "patch_embedding.weight"},
    {"out_channels", "8", "proj_out.weight"},
};
enum { CONFIGS = sizeof configs / sizeof *configs };

START_TEST(refused_config)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    ts_dit *dit = NULL;
    cJSON *config = NULL, *value = cJSON_Parse(configs[_i].value);
    ck_ok(ctx, ts_json_load(&ctx->err, T2V_DIR "/config.json", &config));
    ck_assert(value && cJSON_ReplaceItemInObject(config, configs[_i].key, value));
    ts_status st = ts_dit_open(ctx, &ts_dit_wan, config, T2V_DIR "/config.json", T2V_DIR, 0, &dit);
    ck_assert(st == TS_EMODEL || st == TS_ESHAPE);
    ck_assert_ptr_null(dit);
    ck_assert_msg(strstr(ctx->err.text, configs[_i].says) && strstr(ctx->err.text, T2V),
                  "%s: %s says \"%s\"", configs[_i].key, configs[_i].value, ctx->err.text);
    cJSON_Delete(config);
    testing_close(ctx);
}
END_TEST

START_TEST(null_out_channels)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    ts_dit *dit = NULL;
    cJSON *config = NULL;
    ck_ok(ctx, ts_json_load(&ctx->err, T2V_DIR "/config.json", &config));
    cJSON_ReplaceItemInObject(config, "out_channels", cJSON_CreateNull());
    ck_ok(ctx, ts_dit_open(ctx, &ts_dit_wan, config, "config.json", T2V_DIR, 0, &dit));
    ck_assert_int_eq(ts_dit_describe(dit)->out_channels, 16);
    ck_assert_int_eq(ts_dit_describe(dit)->dim, 32);
    ts_dit_close(dit);
    cJSON_Delete(config);
    testing_close(ctx);
}
END_TEST

/* A key that is missing has the class's default: Wan 2.1 14B. */
START_TEST(defaults)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    ts_dit_info o;
    cJSON *config = cJSON_Parse(
        "{\"_class_name\": \"WanTransformer3DModel\", \"in_channels\": 48, \"image_dim\": null}");
    ck_ok(ctx, ts_dit_read(ctx, &ts_dit_wan, config, "config.json", &o));
    ck_assert(o.layers == 40 && o.heads == 40 && o.head_dim == 128 && o.dim == 5120 &&
              o.in_channels == 48 && o.out_channels == 16 && o.text_dim == 4096);
    ck_assert(o.patch[0] == 1 && o.patch[1] == 2 && o.patch[2] == 2 && o.eps == 1e-6f);
    ck_assert_str_eq(testing_warned(ctx), "");
    cJSON_Delete(config);
    testing_close(ctx);
}
END_TEST

static void refuse(ts_ctx *ctx, evaluation *e, ts_status want, const char *says)
{
    ts_status st = evaluation_try(ctx, e);
    ck_assert_msg(st == want && strstr(ctx->err.text, says),
                  "status %d, \"%s\"; expected %d, \"%s\"", st, ctx->err.text, want, says);
    ts_attn_close(&e->attn);
}

START_TEST(refused_input)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    ts_bag *expected;
    evaluation e, good;
    evaluation_of_fixture(&good, ctx, T2V, T2V_DIR, &expected);
    e = good;
    e.text[0].length = 20; /* has 38 rows */
    refuse(ctx, &e, TS_ESHAPE, "38 rows");
    e = good;
    e.text[1].states.dim[1] = 31;
    refuse(ctx, &e, TS_ESHAPE, ", 31]");
    e = good;
    e.text[0].states.type = TS_BF16;
    refuse(ctx, &e, TS_ESHAPE, "BF16");
    e = good;
    e.latent[0] = 15;
    refuse(ctx, &e, TS_ESHAPE, "[3, 8, 12, 15]");
    e = good;
    e.latent[3] = 11; /* half a patch */
    refuse(ctx, &e, TS_ESHAPE, "[3, 8, 11, 16]");
    e = good;
    e.latent[1] = 1025; /* only counted: nothing of that size is touched */
    refuse(ctx, &e, TS_EUSAGE, "1024");
    e = good;
    e.trow = 1;
    refuse(ctx, &e, TS_EUSAGE, "timestep 1");
    e = good;
    e.texts = 1;
    refuse(ctx, &e, TS_EUSAGE, "text 1");
    e = good;
    e.guidance = 6; /* conditions of other families */
    refuse(ctx, &e, TS_EMODEL, "a guidance that the model is told");
    e = good;
    e.latents = (ts_host){good.x, TS_F32, 4, {1, 1, 1, 1}};
    refuse(ctx, &e, TS_EMODEL, "latents beside the sample's own");
    e = good;
    e.picture = (ts_host){good.x, TS_F32, 2, {1, 1}};
    refuse(ctx, &e, TS_EMODEL, "states of a picture");
    close_all(ctx, &good, expected);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dit");
    TCase *c = tcase_create("loop");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, numbers_that_are_none, 0, 2 * POISONS);
    tcase_add_loop_test(c, events, 0, 2);
    tcase_add_loop_test(c, stop, 0, 2);
    tcase_add_loop_test(c, stop_after_nan, 0, 2);
    tcase_add_loop_test(c, step_allocates_nothing, 0, 4);
    tcase_add_loop_test(c, streamed_weights, 0, 2);
    tcase_add_test(c, samples_do_not_mix);
    tcase_add_loop_test(c, zero_rows, 0, 2);
    tcase_add_test(c, threads);
    tcase_add_loop_test(c, half_precision, 0, 2);
    tcase_add_loop_test(c, refused_config, 0, CONFIGS);
    tcase_add_test(c, null_out_channels);
    tcase_add_test(c, defaults);
    tcase_add_test(c, refused_input);
    suite_add_tcase(s, c);
    return testing_main(s);
}
