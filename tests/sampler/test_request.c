/* Requests and options of the public API: who owns their strings, structs of other versions, seeds
 * from metadata, and a whole run in one call. */
#include "sampler/tessera-bench.h"

#include "backend/ctx.h"
#include "tests/testing.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ts_ctx *ctx;
static ts_model *model;
static char *tmp;

static void open_default(void)
{
    ck_assert_int_eq(ts_open(NULL, NULL, &ctx), TS_OK);
    ck_ok(ctx, ts_model_open(ctx, "weights/default", &model));
}

static void close_all(void)
{
    ts_model_close(model);
    ts_close(ctx);
}

static ts_status apply_json(ts_request *q, const char *json)
{
    return ts_request_from_json(model, json, q);
}

static void fails(ts_status got, ts_status code, const char *sentence)
{
    ck_assert_int_eq(got, code);
    ck_assert_msg(strstr(ts_error(ctx), sentence) != NULL, "\"%s\" does not say \"%s\"",
                  ts_error(ctx), sentence);
}

/* ---- sizes ---- */
/* What tessera.json says of the model's training is heeded, and nothing is warned of near it. */
START_TEST(sizes_far_from_training)
{
    static const struct {
        int width, height, frames;
        const char *warning; /* NULL: none */
    } of[] = {{128, 128, 37, NULL},
              {128, 128, 145, NULL},
              {128, 144, 37, NULL},
              {192, 192, 37,
               "192x192 has 2.2 times the pixels of 128x128, which this model was trained "
               "at: expect pictures without their subject; more frames do no harm\n"},
              {256, 256, 1,
               "256x256 has 4.0 times the pixels of 128x128, which this model was trained "
               "at: expect pictures without their subject\n"},
              {64, 64, 37,
               "64x64 has 0.2 times the pixels of 128x128, which this model was trained at: "
               "expect pictures without their subject\n"},
              {128, 128, 149,
               "149 frames: this model was trained on 37, expect a subject that changes "
               "on the way\n"}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        ts_ctx *c = testing_open("cpu", NULL, 1);
        ts_model *m;
        ts_request q;
        ts_run *r;
        ts_estimate e;
        ck_ok(c, ts_model_open(c, "weights/default", &m));
        ck_assert_int_eq(ts_bench_frames(m), 29);
        ts_request_init(m, &q);
        q.prompt = "a fox";
        q.width = of[i].width;
        q.height = of[i].height;
        q.frames = of[i].frames;
        ck_ok(c, ts_run_open(m, &q, &r, &e));
        ck_assert_str_eq(testing_warned(c), of[i].warning ? of[i].warning : "");
        ts_run_close(r);
        ts_model_close(m);
        testing_close(c);
    }
}
END_TEST

/* ---- strings ---- */
/* Files read one after another: no request's strings depend on how many others there are. */
START_TEST(requests_own_their_strings)
{
    enum { FILES = 12 };
    static const char *const form =
        "{\"tessera\":\"0\",\"prompt\":\"prompt %d\",\"negative\":\"negative %d\",\"sampler\":"
        "\"euler\",\"attention\":\"dense\",\"vae_tile\":\"off\",\"init\":\"picture %d\"}";
    ts_request q[FILES];
    char json[512], want[32];
    open_default();
    for (int i = 0; i < FILES; i++) {
        snprintf(json, sizeof json, form, i, i, i);
        ts_request_init(model, q + i);
        ck_ok(ctx, apply_json(q + i, json));
        memset(json, '?', sizeof json);
    }
    for (int i = 0; i < FILES; i++) {
        snprintf(want, sizeof want, "prompt %d", i);
        ck_assert_str_eq(q[i].prompt, want);
        snprintf(want, sizeof want, "negative %d", i);
        ck_assert_str_eq(q[i].negative, want);
        snprintf(want, sizeof want, "picture %d", i);
        ck_assert_str_eq(q[i].init, want);
        ck_assert_str_eq(q[i].sampler, "euler");
    }
    /* again over the same: what it had stays until it is freed */
    const char *was = q[0].prompt;
    ck_ok(ctx, apply_json(q, "{\"tessera\":\"0\",\"prompt\":\"another\"}"));
    ck_assert_str_eq(q[0].prompt, "another");
    ck_assert_str_eq(was, "prompt 0");
    ck_assert_str_eq(q[0].negative, "negative 0");
    for (int i = 0; i < FILES; i++) ts_request_free(q + i);
    ts_request_free(NULL);
    close_all();
}
END_TEST

START_TEST(metadata_that_fails_changes_nothing)
{
    ts_request q, was;
    open_default();
    ts_request_init(model, &q);
    was = q;
    fails(apply_json(&q, "{\"prompt\":\"a panda\"}"), TS_EMODEL, "not tessera's");
    fails(apply_json(&q, "{\"tessera\":"), TS_EMODEL, "not tessera's");
    fails(apply_json(&q, "{\"tessera\":\"0\",\"width\":8,\"prompt\":\"a\",\"seed\":-1}"), TS_EMODEL,
          "the seed is -1, expected");
    fails(apply_json(&q, "{\"tessera\":\"9\",\"format\":2,\"width\":8}"), TS_EMODEL,
          "metadata of format 2, tessera");
    ck_assert_mem_eq(&q, &was, sizeof q);
    close_all();
}
END_TEST

static const struct {
    const char *json;
    bool right;
    uint64_t seed;
} seeds[] = {
    {"0", true, 0},
    {"9007199254740992", true, 9007199254740992},
    {"\"9007199254740993\"", true, 9007199254740993},
    {"\"18446744073709551615\"", true, UINT64_MAX},
    {"-1", false, 0},
    {"1.5", false, 0},
    {"1e300", false, 0},
    {"9007199254740994", false, 0},
    {"\"18446744073709551616\"", false, 0},
    {"\"-1\"", false, 0},
    {"\" 1\"", false, 0},
    {"\"1x\"", false, 0},
    {"\"\"", false, 0},
};

START_TEST(formats_of_metadata)
{
    ts_request q;
    open_default();
    ts_request_init(model, &q);
    ck_ok(ctx, apply_json(&q, "{\"tessera\":\"0\",\"format\":1,\"width\":8,\"new key\":{}}"));
    ck_assert_int_eq(q.width, 8);
    fails(apply_json(&q, "{\"tessera\":\"0\",\"format\":\"1\"}"), TS_EMODEL, "of format");
    ts_request_free(&q);
    close_all();
}
END_TEST

START_TEST(seeds_of_metadata)
{
    char json[128];
    ts_request q;
    open_default();
    ts_request_init(model, &q);
    snprintf(json, sizeof json, "{\"tessera\":\"0\",\"seed\":%s}", seeds[_i].json);
    ts_status st = apply_json(&q, json);
    if (seeds[_i].right) {
        ck_ok(ctx, st);
        ck_assert_uint_eq(q.seed, seeds[_i].seed);
    } else
        fails(st, TS_EMODEL, "the seed is");
    ts_request_free(&q);
    close_all();
}
END_TEST

/* ---- structs of other versions ---- */
/* A program that was built before the last members existed gets their defaults; what lies behind
 * its struct is neither read nor written. */
START_TEST(a_smaller_request)
{
    enum { OLD = offsetof(ts_request, attention) };
    union {
        ts_request q;
        unsigned char byte[sizeof(ts_request)];
    } old;
    ts_run *r;
    ts_estimate e;
    open_default();
    memset(&old, 0xa5, sizeof old);
    ts_request_init_sized(model, &old.q, OLD);
    ck_assert_uint_eq(old.q.size, OLD);
    ck_assert_int_gt(old.q.steps, 0);
    ck_ok(ctx, apply_json(&old.q, "{\"tessera\":\"0\",\"attention\":\"none\",\"steps\":3}"));
    ck_assert_int_eq(old.q.steps, 3);
    old.q.frames = 1;
    ck_ok(ctx, ts_run_open(model, &old.q, &r, &e));
    char *json = ts_run_json(r);
    ck_assert_msg(strstr(json, "\"steps\":3") && strstr(json, "\"attention\":\"dense\""), "%s",
                  json);
    for (size_t i = OLD; i < sizeof old; i++) ck_assert_int_eq(old.byte[i], 0xa5);
    free(json);
    ts_run_close(r);
    ts_request_free(&old.q);
    close_all();
}
END_TEST

START_TEST(larger_structs_are_refused)
{
    struct {
        ts_request q;
        long more;
    } next;
    struct {
        ts_options o;
        long more;
    } later;
    ts_run *r;
    open_default();
    ts_request_init_sized(model, &next.q, sizeof next);
    ck_assert_int_eq(next.more, 0);
    ck_assert_str_eq(next.q.attention, "dense");
    fails(ts_run_open(model, &next.q, &r, NULL), TS_EUSAGE, "this library");
    ck_assert_ptr_null(r);
    fails(ts_generate(model, &next.q, "never.png"), TS_EUSAGE, "this library");
    fails(apply_json(&next.q, "{\"tessera\":\"0\"}"), TS_EUSAGE, "this library");
    next.q.size = 0; /* never initialised */
    fails(ts_run_open(model, &next.q, &r, NULL), TS_EUSAGE, "ts_request_init");
    ts_request q;
    ts_request_init(model, &q);
    const ts_run_options wrong = {.size = sizeof wrong + 1};
    fails(ts_run_open_with(model, &q, &wrong, &r, NULL), TS_EUSAGE, "options of a run");
    close_all();
    ts_options_init(&later.o, sizeof later);
    ck_assert_int_eq(later.more, 0);
    fails(ts_open(&later.o, NULL, &ctx), TS_EUSAGE, "options of");
    ts_close(ctx);
    later.o.size = 0;
    fails(ts_open(&later.o, NULL, &ctx), TS_EUSAGE, "ts_options_default");
    ts_close(ctx);
}
END_TEST

START_TEST(smaller_options)
{
    ts_options o = ts_options_default();
    o.size = offsetof(ts_options, precision);
    o.threads = 1;
    o.precision = "none such"; /* behind its end */
    ck_assert_int_eq(ts_open(&o, NULL, &ctx), TS_OK);
    ts_device_facts facts;
    ctx->dev->ops->facts(ctx->dev, &facts);
    ck_assert_int_eq(facts.threads, 1);
    ts_close(ctx);
}
END_TEST

/* ---- in one call ---- */
typedef struct {
    ts_sink sink;
    int frames, aborts, fail_at;
    float first;
} counting_sink;

static ts_status open_counting(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    (void)s;
    return w > 0 && h > 0 && frames > 0 && fps > 0 && json ? TS_OK : TS_EIO;
}
static ts_status count_frame(ts_sink *s, const ts_frame *f)
{
    counting_sink *c = (counting_sink *)s;
    if (!c->frames++) c->first = f->rgb[0];
    if (c->frames != c->fail_at) return TS_OK;
    snprintf(s->error, sizeof s->error, "the sink is full");
    return TS_EIO;
}
static ts_status close_counting(ts_sink *s) { return (void)s, TS_OK; }
static void abort_counting(ts_sink *s) { ((counting_sink *)s)->aborts++; }

static counting_sink counting(int fail_at)
{
    return (counting_sink){.sink = {.open = open_counting,
                                    .frame = count_frame,
                                    .close = close_counting,
                                    .abort = abort_counting},
                           .fail_at = fail_at};
}

static ts_request small_request(void)
{
    ts_request q;
    ts_request_init(model, &q);
    q.prompt = "a panda";
    q.width = q.height = 32;
    q.frames = 5;
    q.steps = 1;
    return q;
}

START_TEST(generate_into_a_sink)
{
    open_default();
    ts_request q = small_request();
    counting_sink all = counting(0), full = counting(2);
    ck_ok(ctx, ts_generate_to(model, &q, &all.sink));
    ck_assert_int_eq(all.frames, 5);
    ck_assert_int_eq(all.aborts, 0);
    fails(ts_generate_to(model, &q, &full.sink), TS_EIO, "the sink is full");
    ck_assert_int_gt(full.aborts, 0);
    q.steps = -1;
    full = counting(0);
    fails(ts_generate_to(model, &q, &full.sink), TS_EUSAGE, "-1 steps");
    ck_assert_int_eq(full.aborts, 1);
    close_all();
}
END_TEST

START_TEST(generate_into_a_file)
{
    char path[4200], noise[4200], *json;
    open_default();
    ts_request q = small_request();
    q.frames = 1;
    snprintf(path, sizeof path, "%s/one.png", tmp);
    ck_ok(ctx, ts_generate(model, &q, path));
    ck_ok(ctx, ts_output_info(ctx, path, &json));
    ck_assert_msg(json && strstr(json, "\"prompt\":\"a panda\""), "%s", json);
    free(json);
    fails(ts_generate(model, &q, path), TS_EUSAGE, "exists");
    q.frames = 5;
    snprintf(path, sizeof path, "%s/two.png", tmp);
    fails(ts_generate(model, &q, path), TS_EUSAGE, "5 frames do not fit one picture");
    ck_assert_int_ne(access(path, F_OK), 0);
    /* what the request names is read */
    snprintf(noise, sizeof noise, "%s/none.safetensors", tmp);
    q.noise_file = noise;
    fails(ts_generate(model, &q, path), TS_EMODEL, "none.safetensors");
    close_all();
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *suite = suite_create("request");
    TCase *tc = tcase_create("request");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, sizes_far_from_training);
    tcase_add_test(tc, requests_own_their_strings);
    tcase_add_test(tc, metadata_that_fails_changes_nothing);
    tcase_add_test(tc, formats_of_metadata);
    tcase_add_loop_test(tc, seeds_of_metadata, 0, (int)(sizeof seeds / sizeof *seeds));
    tcase_add_test(tc, a_smaller_request);
    tcase_add_test(tc, larger_structs_are_refused);
    tcase_add_test(tc, smaller_options);
    tcase_add_test(tc, generate_into_a_sink);
    tcase_add_test(tc, generate_into_a_file);
    suite_add_tcase(suite, tc);
    int failed = testing_main(suite);
    free(tmp);
    return failed;
}
