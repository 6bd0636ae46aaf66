/* T5 and UMT5 encoders: golden numbers of hash-generated weights, the encoder written plainly in
 * f64 (in f32 and bf16, on the CPU and far), every fixture's states, and what is refused. */
#include "prompts/text.h"

#include "tests/golden.h"
#include "tests/prompts/t5_plain.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONG = 130, MOST = 160, DIM = 16, REAL = 8, PADDED = 10 };
static const int32_t golden_ids[PADDED] = {5, 17, 3, 60, 41, 9, 22, 1, 0, 0};

typedef struct {
    const char *name, *cls, *feed;
    t5_shape s;
} setup;
#define SHAPE .layers = 3, .dim = DIM, .ff = 24, .vocab = 64
static const setup setups[] = {
    {"T1",
     "T5EncoderModel",
     "gated-gelu",
     {SHAPE, .heads = 2, .kv = 8, .buckets = 32, .gated = true, .act = TS_ACT_GELU_TANH}},
    {"T2",
     "UMT5EncoderModel",
     "gated-gelu",
     {SHAPE, .heads = 2, .kv = 8, .buckets = 32, .every = true, .gated = true,
      .act = TS_ACT_GELU_TANH}},
    {"T3",
     "T5EncoderModel",
     "relu",
     {SHAPE, .heads = 2, .kv = 8, .buckets = 8, .act = TS_ACT_RELU}},
    {"heads wider than the model",
     "UMT5EncoderModel",
     "gated-silu",
     {SHAPE, .heads = 3, .kv = 12, .buckets = 32, .every = true, .gated = true,
      .act = TS_ACT_SILU}},
    {"gelu",
     "T5EncoderModel",
     "gelu",
     {SHAPE, .heads = 5, .kv = 4, .buckets = 32, .act = TS_ACT_GELU}},
    {"gelu_new",
     "T5EncoderModel",
     "gelu_new",
     {SHAPE, .heads = 1, .kv = 8, .buckets = 8, .act = TS_ACT_GELU_TANH}},
    {"gated-relu",
     "UMT5EncoderModel",
     "gated-relu",
     {SHAPE, .heads = 2, .kv = 8, .buckets = 8, .every = true, .gated = true, .act = TS_ACT_RELU}}};
enum { SETUPS = sizeof setups / sizeof *setups };

/* ---- one model opened from a folder ---- */
typedef struct {
    ts_ctx *c;
    ts_encoder *e;
    ts_component part;
    char *dir;
    ts_bag *bag;
    int texts;
    ts_ids text[3];
    float *out[3];
} bench;

static ts_component component(const setup *g, char *dir)
{
    const t5_shape *s = &g->s;
    char text[512];
    snprintf(text, sizeof text,
             "{\"d_model\": %d, \"num_layers\": %d, \"num_heads\": %d, \"d_kv\": %d, \"d_ff\": %d, "
             "\"vocab_size\": %d, \"relative_attention_num_buckets\": %d, \"feed_forward_proj\": "
             "\"%s\"}",
             s->dim, s->layers, s->heads, s->kv, s->ff, s->vocab, s->buckets, g->feed);
    ts_component c = {
        .dir = dir, .config = cJSON_Parse(text), .config_path = "text_encoder/config.json"};
    ck_assert(c.config != NULL);
    snprintf(c.cls, sizeof c.cls, "%s", g->cls);
    return c;
}

static void save(const ts_bag *bag, const char *dir)
{
    char path[4096];
    ts_err err = {0};
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
}

static bench prepare(const setup *g, const char *backend, const char *embedding)
{
    int threads = g == setups + 1 ? 2 : 1;
    bench b = {.c = testing_open(backend, NULL, threads),
               .dir = testing_tmp(),
               .bag = t5_golden(&g->s, embedding)};
    save(b.bag, b.dir);
    b.part = component(g, b.dir);
    return b;
}

static bench begin(const setup *g, const char *backend)
{
    bench b = prepare(g, backend, "shared.weight");
    ck_ok(b.c, ts_encoder_open(b.c, &b.part, &b.e));
    return b;
}

static void put_text(bench *b, const int32_t *ids, int n)
{
    b->text[b->texts] = (ts_ids){ids, n};
    b->out[b->texts++] = malloc((size_t)n * (size_t)b->e->width * sizeof(float));
}

static ts_status run(ts_ctx *c, void *user)
{
    (void)c;
    bench *b = user;
    return ts_encoder_run(b->e, (ts_text_output){0}, b->text, b->texts, b->out);
}

static void end(bench *b)
{
    ts_encoder_close(b->e);
    testing_close(b->c);
    for (int i = 0; i < b->texts; i++) free(b->out[i]);
    cJSON_Delete(b->part.config);
    ts_bag_free(b->bag);
    free(b->dir);
}

static void many_ids(int32_t *ids, int n)
{
    for (int i = 0; i < n; i++) ids[i] = (int32_t)((i * 37 + 11) % 64);
}

static double distance(const double *a, const double *b, int n)
{
    double d = 0, w = 0;
    for (int i = 0; i < n; i++) {
        d += (a[i] - b[i]) * (a[i] - b[i]);
        w += b[i] * b[i];
    }
    return sqrt(d / w);
}

/* ---- numbers ---- */

/* The plain encoder itself, masked rows included, has the golden numbers. */
START_TEST(plain)
{
    static const struct {
        double first[6], last[2], mean, rms;
    } want[] = {{{1.86458, 0.45791, -0.93280, -1.90828, 1.64543, -0.95293},
                 {-0.48767, 2.11386},
                 -0.176937,
                 1.030434},
                {{1.83249, 0.25054, -1.00132, -2.06897, 1.58835, -0.81745},
                 {0.25333, 2.04857},
                 -0.220698,
                 1.032303},
                {{2.48121, -0.25562, -0.79322, -2.16049, 0.95903, -1.25107},
                 {-1.29118, -0.49769},
                 -0.243509,
                 1.037855}};
    double x[PADDED * DIM];
    float y[PADDED * DIM];
    ts_bag *bag = t5_golden(&setups[_i].s, "shared.weight");
    t5_plain(bag, &setups[_i].s, T5_EXACT, golden_ids, PADDED, REAL, x);
    for (int i = 0; i < PADDED * DIM; i++) y[i] = (float)x[i];
    golden_expect(setups[_i].name, y, PADDED * DIM, want[_i].first, want[_i].last, want[_i].mean,
                  want[_i].rms, 2e-5);
    ts_bag_free(bag);
}
END_TEST

/* Real rows alone are what the masked computation has for them. Allowed: twice what rounding does
 * to the plain encoder, and a floor of 8 roundings for exp and tanh. */
static void against_plain(bench *b, const setup *g, t5_rounding r, const char *where)
{
    int32_t ids[MOST];
    double *want = calloc(MOST * DIM, sizeof *want), *rounded = calloc(MOST * DIM, sizeof *rounded);
    for (int i = 0; i < b->texts; i++) {
        int n = b->text[i].n, padded = n + 2;
        memset(ids, 0, sizeof ids);
        memcpy(ids, b->text[i].ids, (size_t)n * sizeof *ids);
        t5_plain(b->bag, &g->s, T5_EXACT, ids, padded, n, want);
        t5_plain(b->bag, &g->s, r, ids, padded, n, rounded);
        double allowed = 2 * distance(rounded, want, n * DIM) + 8 * 0x1p-24, e;
        for (int k = 0; k < n * DIM; k++) rounded[k] = b->out[i][k];
        e = distance(rounded, want, n * DIM);
        ck_assert_msg(e <= allowed,
                      "%s, %s: text %d of %d tokens: relative error %.2e, allowed %.2e", g->name,
                      where, i, n, e, allowed);
    }
    free(want);
    free(rounded);
}

static void put_three(bench *b, const int32_t *ids)
{
    put_text(b, golden_ids, REAL);
    put_text(b, ids, LONG);
    put_text(b, ids + 3, 1);
}

START_TEST(states)
{
    const setup *g = setups + _i % SETUPS;
    const char *backend = _i < SETUPS ? "cpu" : "far";
    int32_t ids[LONG];
    many_ids(ids, LONG);
    bench b = begin(g, backend);
    if (_i < SETUPS)
        put_three(&b, ids);
    else
        put_text(&b, ids, LONG);
    ck_assert_int_eq(b.e->width, DIM);
    testing_run(b.c, run, &b);
    against_plain(&b, g, T5_SINGLE, backend);
    ck_assert_str_eq(testing_warned(b.c), "");
    end(&b);
}
END_TEST

START_TEST(states_bf16)
{
    const setup *g = setups + _i % SETUPS;
    int32_t ids[LONG];
    many_ids(ids, LONG);
    bench b = begin(g, "cpu");
    b.c->act = TS_BF16;
    put_three(&b, ids);
    testing_run(b.c, run, &b);
    against_plain(&b, g, T5_HALF, "bf16");
    end(&b);
}
END_TEST

/* A text's states do not depend on the texts beside it, their order, or where the weights are
 * kept. */
START_TEST(alone)
{
    const setup *g = setups + _i;
    int32_t ids[LONG];
    many_ids(ids, LONG);
    bench a = begin(g, "cpu"), b = begin(g, "cpu");
    put_three(&a, ids);
    testing_run(a.c, run, &a);
    ts_weights_budget(b.e->weights, 0);
    for (int i = 2; i >= 0; i--) {
        put_text(&b, a.text[i].ids, a.text[i].n);
        testing_run(b.c, run, &b);
        ck_assert(!memcmp(a.out[i], b.out[2 - i], (size_t)a.text[i].n * DIM * sizeof(float)));
    }
    ck_assert(memcmp(a.out[0], a.out[1], DIM * sizeof(float)));
    end(&a);
    end(&b);
}
END_TEST

/* ---- fixtures ---- */
static const char *const fixtures[] = {"wan21-t2v", "wan21-t2v-euler", "wan21-t2i-bf16",
                                       "wan22-a14b", "wan22-ti2v-5b"};
enum { FIXTURES = sizeof fixtures / sizeof *fixtures };

static void fixture_text(bench *b, const ts_bag *want, const char *key, int32_t *ids)
{
    ts_host h;
    ck_ok(b->c, ts_bag_get(&b->c->err, want, key, TS_I64, 1, (long[]){-1}, &h));
    ck_assert(h.dim[0] <= MOST);
    for (int i = 0; i < h.dim[0]; i++) ids[i] = (int32_t)((const int64_t *)h.data)[i];
    put_text(b, ids, (int)h.dim[0]);
}

/* transformers computed these in f32, as we do: both are within a few f32 roundings of the
 * truth. */
START_TEST(fixture_states)
{
    const char *name = fixtures[_i % FIXTURES], *backend = _i < FIXTURES ? "cpu" : "far",
               *keys[] = {"states", "negative_states"};
    int32_t ids[2][MOST];
    char path[4096];
    ts_model_dir m;
    bench b = {.c = testing_open(backend, NULL, 1)};
    snprintf(path, sizeof path, "%s/model", testing_fixture(name));
    ck_ok(b.c, ts_model_dir_open(b.c, path, NULL, &m));
    ck_ok(b.c, ts_encoder_open(b.c, ts_model_dir_part(&m, "text_encoder"), &b.e));
    snprintf(path, sizeof path, "%s/expected.safetensors", testing_fixture(name));
    ts_bag *want = testing_bag(path);
    fixture_text(&b, want, "ids", ids[0]);
    fixture_text(&b, want, "negative_ids", ids[1]);
    testing_run(b.c, run, &b);
    for (int i = 0; i < 2; i++) {
        long n;
        const float *w = testing_f32(want, keys[i], &n);
        ck_assert_int_eq(n, (long)b.text[i].n * b.e->width);
        double e = testing_rel(b.out[i], w, n);
        ck_assert_msg(e <= 1e-5, "%s on %s: %s: relative error %.2e", name, backend, keys[i], e);
    }
    ck_assert_msg(!*testing_warned(b.c), "%s", testing_warned(b.c));
    ts_bag_free(want);
    ts_model_dir_close(&m);
    end(&b);
}
END_TEST

/* ---- life of a run ---- */
typedef struct {
    int events, last, stop_at;
    double seconds;
    volatile int stop;
} watch;

static void note(void *user, const ts_event *e)
{
    watch *w = user;
    ck_assert(e->phase == TS_PHASE_TEXT && e->layers == 3 && e->layer == w->last + 1);
    ck_assert(e->seconds > w->seconds);
    w->events++;
    w->last = e->layer;
    w->seconds = e->seconds;
    if (e->layer == w->stop_at) w->stop = 1;
}

START_TEST(events_and_stop)
{
    watch w = {.stop_at = 2 * _i}; /* 0: never */
    bench b = begin(setups, "cpu");
    put_text(&b, golden_ids, REAL);
    b.c->dev->counting = true;
    ck_ok(b.c, ts_arena_open(&b.c->arena, b.c->dev, 0));
    b.c->env.progress = note;
    b.c->env.user = &w;
    b.c->env.warn = NULL;
    b.c->env.stop = &w.stop;
    ck_ok(b.c, run(b.c, &b));
    size_t size = b.c->arena.peak;
    ck_assert_uint_eq(b.c->arena.used, 0);
    ts_arena_close(&b.c->arena);
    ck_assert_int_eq(w.events, 0); /* counting is nothing to watch */
    b.c->dev->counting = false;
    ck_ok(b.c, ts_arena_open(&b.c->arena, b.c->dev, size));
    ck_assert_int_eq(run(b.c, &b), _i ? TS_ESTOP : TS_OK);
    ck_assert_int_eq(w.events, _i ? 2 : 3);
    ck_assert_uint_eq(b.c->arena.used, 0);
    ts_arena_close(&b.c->arena);
    end(&b);
}
END_TEST

static ts_status run_and_keep(ts_ctx *c, void *user)
{
    bench *b = user;
    ts_status st = run(c, b);
    return c->dev->counting || st == TS_OK ? st : st == (ts_status)b->c->err.code ? TS_OK : st;
}

START_TEST(not_a_number)
{
    bench b = prepare(setups, "cpu", "shared.weight");
    ts_host h;
    ck_ok(b.c, ts_bag_get(&b.c->err, b.bag, "encoder.block.2.layer.1.DenseReluDense.wo.weight",
                          TS_F32, 2, (long[]){DIM, 24}, &h));
    float bad = _i ? INFINITY : NAN;
    memcpy((float *)(uintptr_t)h.data + 17, &bad, sizeof bad);
    save(b.bag, b.dir);
    ck_ok(b.c, ts_encoder_open(b.c, &b.part, &b.e));
    put_text(&b, golden_ids, REAL);
    b.c->err.code = TS_OK;
    testing_run(b.c, run_and_keep, &b);
    ck_assert_int_eq(b.c->err.code, TS_ENUMBER);
    ck_assert_msg(strstr(b.c->err.text, "text 1") && strstr(b.c->err.text, "NaN"), "%s",
                  b.c->err.text);
    end(&b);
}
END_TEST

START_TEST(bad_ids)
{
    static const int32_t outside[] = {3, 64}, negative[] = {3, -1};
    bench b = begin(setups, "cpu");
    float out[2 * DIM], *to[] = {out};
    b.c->dev->counting = true;
    ck_ok(b.c, ts_arena_open(&b.c->arena, b.c->dev, 0));
    ck_assert_int_eq(ts_encoder_run(b.e, (ts_text_output){0}, &(ts_ids){outside, 2}, 1, to),
                     TS_ESHAPE);
    ck_assert_msg(strstr(b.c->err.text, "64"), "%s", b.c->err.text);
    ck_assert_int_eq(ts_encoder_run(b.e, (ts_text_output){0}, &(ts_ids){negative, 2}, 1, to),
                     TS_ESHAPE);
    ck_assert_int_eq(ts_encoder_run(b.e, (ts_text_output){0}, &(ts_ids){outside, 0}, 1, to),
                     TS_EUSAGE);
    ck_assert_int_eq(ts_encoder_run(b.e, (ts_text_output){0}, NULL, 0, to), TS_EUSAGE);
    ck_assert_uint_eq(b.c->arena.used, 0);
    ts_arena_close(&b.c->arena);
    end(&b);
}
END_TEST

/* ---- what is on disk ---- */

/* The table of tokens under either name, or both. */
START_TEST(embedding_names)
{
    static const char *const other[] = {"encoder.embed_tokens.weight", "shared.weight"};
    bench a = begin(setups, "cpu"), b = prepare(setups, "cpu", "shared.weight");
    ts_host h;
    ck_ok(b.c, ts_bag_get(&b.c->err, b.bag, "shared.weight", TS_F32, 2, (long[]){64, DIM}, &h));
    ts_bag *moved = ts_bag_new();
    for (int i = 0; i < ts_bag_count(b.bag); i++) {
        const char *name = ts_bag_name(b.bag, i);
        ts_host t;
        ck_ok(b.c, ts_bag_get(&b.c->err, b.bag, name, TS_F32, -1, NULL, &t));
        bool table = !strcmp(name, "shared.weight");
        if (table) ts_bag_put(moved, other[0], t.type, t.nd, t.dim, t.data);
        if (!table || _i) ts_bag_put(moved, name, t.type, t.nd, t.dim, t.data);
    }
    save(moved, b.dir);
    ck_ok(b.c, ts_encoder_open(b.c, &b.part, &b.e));
    put_text(&a, golden_ids, REAL);
    put_text(&b, golden_ids, REAL);
    testing_run(a.c, run, &a);
    testing_run(b.c, run, &b);
    ck_assert(!memcmp(a.out[0], b.out[0], REAL * DIM * sizeof(float)));
    ck_assert_msg(!*testing_warned(b.c), "%s", testing_warned(b.c));
    ts_bag_free(moved);
    end(&a);
    end(&b);
}
END_TEST

START_TEST(unused_tensors)
{
    bench b = prepare(setups, "cpu", "shared.weight");
    golden_put(b.bag, "stray.final_layer_norm.weight", 16L, 0L);
    save(b.bag, b.dir);
    ck_ok(b.c, ts_encoder_open(b.c, &b.part, &b.e));
    ck_assert_msg(strstr(testing_warned(b.c), "stray.final_layer_norm.weight"), "%s",
                  testing_warned(b.c));
    end(&b);
}
END_TEST

static void expect_refused(const setup *g, const char *key, cJSON *value, const char *cls,
                           const char *phrase)
{
    bench b = prepare(g, "cpu", "shared.weight");
    if (key) {
        cJSON_DeleteItemFromObject(b.part.config, key);
        cJSON_AddItemToObject(b.part.config, key, value);
    }
    if (cls) snprintf(b.part.cls, sizeof b.part.cls, "%s", cls);
    ts_status st = ts_encoder_open(b.c, &b.part, &b.e);
    ck_assert_msg((st == TS_EMODEL || st == TS_ESHAPE) && !b.e, "%s: status %d", phrase, st);
    ck_assert_msg(strstr(b.c->err.text, phrase), "\"%s\" is not in \"%s\"", phrase, b.c->err.text);
    end(&b);
}

START_TEST(refused)
{
    expect_refused(setups, NULL, NULL, "BertModel", "BertModel");
    expect_refused(setups, "feed_forward_proj", cJSON_CreateString("gated-tanh"), NULL,
                   "gated-tanh");
    expect_refused(setups, "feed_forward_proj", cJSON_CreateString("relu"), NULL,
                   "DenseReluDense.wi.");
    expect_refused(setups, "num_layers", cJSON_CreateNumber(4), NULL, "encoder.block.3.");
    expect_refused(setups, "num_layers", cJSON_CreateNumber(0), NULL, "less than 1");
    expect_refused(setups, "d_kv", cJSON_CreateNumber(-8), NULL, "less than 1");
    expect_refused(setups, "d_model", cJSON_CreateString("sixteen"), NULL, "d_model");
    expect_refused(setups, "d_ff", cJSON_CreateNumber(25), NULL, "wi_0");
    expect_refused(setups, "vocab_size", cJSON_CreateNumber(65), NULL, "shared.weight");
    expect_refused(setups, "relative_attention_num_buckets", cJSON_CreateNumber(16), NULL,
                   "relative_attention_bias");
    expect_refused(setups, "relative_attention_num_buckets", cJSON_CreateNumber(2), NULL,
                   "relative_attention_num_buckets");
    expect_refused(setups, "relative_attention_max_distance", cJSON_CreateNumber(8), NULL,
                   "relative_attention_max_distance");
    /* a T5's file */
    expect_refused(setups, NULL, NULL, "UMT5EncoderModel",
                   "encoder.block.1.layer.0.SelfAttention.relative_attention_bias");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("t5");
    TCase *tc = tcase_create("t5");
    tcase_add_loop_test(tc, plain, 0, 3);
    tcase_add_loop_test(tc, states, 0, 2 * SETUPS);
    tcase_add_loop_test(tc, states_bf16, 0, SETUPS);
    tcase_add_loop_test(tc, alone, 0, 3);
    tcase_add_loop_test(tc, fixture_states, 0, 2 * FIXTURES);
    tcase_add_loop_test(tc, events_and_stop, 0, 2);
    tcase_add_loop_test(tc, not_a_number, 0, 2);
    tcase_add_test(tc, bad_ids);
    tcase_add_loop_test(tc, embedding_names, 0, 2);
    tcase_add_test(tc, unused_tensors);
    tcase_add_test(tc, refused);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
