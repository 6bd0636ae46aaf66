/* Calls of the public API that make no sense: out of order, without what they need, closed in a
 * wrong order. Each is refused in a sentence, and what was open goes on. */
#include "sampler/tessera.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_ctx *ctx;
static ts_model *model;
static int stop;

static void open_model(const char *path)
{
    ts_env env = {.stop = &stop};
    stop = 0;
    ck_assert_int_eq(ts_open(NULL, &env, &ctx), TS_OK);
    ck_ok(ctx, ts_model_open(ctx, path, &model));
}

static void close_all(void)
{
    ts_model_close(model);
    ts_close(ctx);
}

static ts_request small_request(void)
{
    ts_request q;
    ts_request_init(model, &q);
    q.prompt = "a panda";
    q.width = q.height = 32;
    q.frames = 1;
    q.steps = 2;
    return q;
}

static ts_run *open_small(void)
{
    ts_run *r;
    ts_request q = small_request();
    ck_ok(ctx, ts_run_open(model, &q, &r, NULL));
    return r;
}

static void refused(ts_status got, ts_status code, const char *sentence)
{
    ck_assert_int_eq(got, code);
    ck_assert_msg(strstr(ts_error(ctx), sentence) != NULL, "\"%s\" does not say \"%s\"",
                  ts_error(ctx), sentence);
}

/* A sink that counts. */
typedef struct {
    ts_sink s;
    int frames;
} counter;
static ts_status begin(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    ck_assert(s && w > 0 && h > 0 && frames > 0 && fps > 0 && json);
    return TS_OK;
}
static ts_status count_frame(ts_sink *s, const ts_frame *f)
{
    ck_assert_ptr_nonnull(f);
    ((counter *)s)->frames++;
    return TS_OK;
}
static ts_status end(ts_sink *s) { return s ? TS_OK : TS_EFAIL; }
static void drop(ts_sink *s) { (void)s; }
static counter new_counter(void)
{
    return (counter){.s = {.open = begin, .frame = count_frame, .close = end, .abort = drop}};
}

START_TEST(calls_out_of_order)
{
    const ts_bag *plans;
    ts_bag *latents = NULL;
    counter c = new_counter();
    open_model("weights/default");
    ts_run *r = open_small();
    refused(ts_run_denoise(r, NULL), TS_EUSAGE, "ts_run_encode comes first");
    refused(ts_run_decode(r, NULL, &c.s), TS_EUSAGE, "nothing has been denoised");
    refused(ts_run_latents(r, &latents), TS_EUSAGE, "nothing has been denoised");
    refused(ts_run_plans(r, &plans), TS_EFAIL, "nothing has been denoised");
    ck_assert(!plans && !latents && !ts_run_attention(r) && !ts_run_profile(r));
    refused(ts_run_picture(r, "docs/none.png"), TS_EUSAGE, "makes clips");
    stop = 1;
    ck_assert_int_eq(ts_run_encode(r), TS_ESTOP);
    stop = 0;
    refused(ts_run_denoise(r, NULL), TS_EUSAGE, "ts_run_encode comes first");
    ck_ok(ctx, ts_run_encode(r));
    ck_ok(ctx, ts_run_denoise(r, &latents));
    ck_ok(ctx, ts_run_decode(r, NULL, &c.s));
    ck_assert_int_eq(c.frames, 1);
    ts_run_close(r);
    /* one that only decodes */
    ts_request q = small_request();
    ck_ok(ctx, ts_run_open_with(
                   model, &q, &(ts_run_options){.size = sizeof(ts_run_options), .latents = latents},
                   &r, NULL));
    refused(ts_run_encode(r), TS_EUSAGE, "to decode given latents");
    refused(ts_run_denoise(r, NULL), TS_EUSAGE, "to decode given latents");
    ck_ok(ctx, ts_run_decode(r, latents, &c.s));
    ts_run_close(r);
    ts_bag_free(latents);
    close_all();
}
END_TEST

/* Texts that are shared and were dropped after the run had them. */
START_TEST(dropped_texts)
{
    ts_texts *texts;
    ts_run *r;
    int id;
    open_model("weights/default");
    ck_ok(ctx, ts_texts_open(model, &texts));
    ts_request q = small_request();
    ts_run_options o = {.size = sizeof o, .texts = texts};
    ck_ok(ctx, ts_run_open_with(model, &q, &o, &r, NULL));
    ck_ok(ctx, ts_run_encode(r));
    ck_ok(ctx, ts_texts_add(texts, q.prompt, "prompt", &id));
    ts_texts_drop(texts, id);
    refused(ts_run_denoise(r, NULL), TS_EUSAGE, "the prompt is not encoded");
    ck_ok(ctx, ts_run_encode(r));
    ck_ok(ctx, ts_run_denoise(r, NULL));
    ts_run_close(r);
    ts_texts_close(texts);
    close_all();
}
END_TEST

START_TEST(null_arguments)
{
    ts_run *r;
    ts_texts *texts;
    char *json;
    int id;
    ts_sink zeroed = {0};
    ts_output o = ts_output_default();
    ts_sink *sink;
    ck_assert_int_eq(ts_open(NULL, NULL, NULL), TS_EUSAGE);
    ck_assert_ptr_nonnull(ts_error(NULL));
    open_model("weights/default");
    ts_request q = small_request();
    refused(ts_model_open(ctx, NULL, NULL), TS_EUSAGE, "nowhere");
    refused(ts_generate(model, NULL, "x.png"), TS_EUSAGE, "no request");
    refused(ts_generate(model, &q, NULL), TS_EUSAGE, "no path");
    refused(ts_generate_to(model, &q, NULL), TS_EUSAGE, "no sink");
    refused(ts_generate_to(model, &q, &zeroed), TS_EUSAGE, "all four");
    refused(ts_run_open(model, &q, NULL, NULL), TS_EUSAGE, "nowhere");
    refused(ts_run_open(model, NULL, &r, NULL), TS_EUSAGE, "no request");
    refused(ts_tokens(model, NULL, &json), TS_EUSAGE, "no text");
    refused(ts_request_files(model, NULL, &(uint64_t){0}), TS_EUSAGE, "no request");
    refused(ts_attention_check(ctx, NULL), TS_EUSAGE, "no policy");
    refused(ts_request_from_json(model, NULL, &q), TS_EMODEL, "not tessera's");
    refused(ts_output_open(ctx, NULL, &o, &sink), TS_EUSAGE, "no path");
    o.size = 0;
    refused(ts_output_open(ctx, "x.png", &o, &sink), TS_EUSAGE, "output of 0 bytes");
    o.size = sizeof o + 8;
    refused(ts_output_check_size(ctx, "x.png", &o, 64, 64, 1), TS_EUSAGE, "ts_output_default");
    o.size = offsetof(ts_output, overwrite); /* of an older program: defaults for the rest */
    ck_ok(ctx, ts_output_check(ctx, "never-written.png", &o, 1));
    refused(ts_output_check(ctx, "LICENSE.png/x.png", &(ts_output){0}, 1), TS_EUSAGE, "of 0 bytes");
    refused(ts_bag_write(ctx, NULL, "x"), TS_EUSAGE, "no bag");
    ck_ok(ctx, ts_texts_open(model, &texts));
    refused(ts_texts_add(texts, NULL, "prompt", &id), TS_EUSAGE, "no text");
    ts_texts_close(texts);
    q.prompt = q.negative = q.sampler = q.vae_tile = q.attention = NULL; /* defaults */
    ck_ok(ctx, ts_run_open(model, &q, &r, NULL));
    refused(ts_run_noise(r, NULL), TS_EUSAGE, "no bag");
    refused(ts_run_latents(r, NULL), TS_EUSAGE, "nowhere");
    refused(ts_run_plans(r, NULL), TS_EUSAGE, "nowhere");
    ck_ok(ctx, ts_run_encode(r));
    ck_ok(ctx, ts_run_denoise(r, NULL));
    refused(ts_run_decode(r, NULL, NULL), TS_EUSAGE, "no sink");
    refused(ts_run_decode(r, NULL, &zeroed), TS_EUSAGE, "all four");
    ts_run_close(r);
    close_all();
}
END_TEST

#if TS_VERSION_AT_LEAST(TS_VERSION_MAJOR, TS_VERSION_MINOR, TS_VERSION_PATCH + 1) || \
    TS_VERSION_AT_LEAST(TS_VERSION_MAJOR + 1, 0, 0) || !TS_VERSION_AT_LEAST(0, 1, 0)
#error "the version is not what it is"
#endif
START_TEST(version_of_header_and_library)
{
    char text[48];
    snprintf(text, sizeof text, "%d.%d.%d", TS_VERSION_MAJOR, TS_VERSION_MINOR, TS_VERSION_PATCH);
    ck_assert_str_eq(ts_version(), text);
}
END_TEST

START_TEST(values_that_make_no_sense)
{
    ts_run *r;
    ts_options o = ts_options_default();
    o.threads = -3;
    ck_assert_int_eq(ts_open(&o, NULL, &ctx), TS_EUSAGE);
    ck_assert_msg(strstr(ts_error(ctx), "-3 threads") != NULL, "%s", ts_error(ctx));
    ts_close(ctx);
    o = ts_options_default();
    o.device = "tpu";
    ck_assert_int_eq(ts_open(&o, NULL, &ctx), TS_EUSAGE);
    ck_assert_msg(strstr(ts_error(ctx), "device tpu: must be") != NULL, "%s", ts_error(ctx));
    ts_close(ctx);
    o.device = "cpu";
    ck_assert_int_eq(ts_open(&o, NULL, &ctx), TS_OK);
    ts_close(ctx);
    open_model("weights/default");
    ts_request q = small_request();
    q.scale = -1;
    refused(ts_run_open(model, &q, &r, NULL), TS_EUSAGE, "scale -1");
    ck_assert_ptr_null(r);
    close_all();
}
END_TEST

/* What the library was told at its building, unless the caller says another. */
START_TEST(a_default_model_that_is_missing)
{
    ts_options o = ts_options_default();
    o.default_model = "/nonexistent/default";
    ck_assert_int_eq(ts_open(&o, NULL, &ctx), TS_OK);
    refused(ts_model_open(ctx, NULL, &model), TS_EMODEL, "/nonexistent/default is no model folder");
    ck_assert_ptr_null(strstr(ts_error(ctx), "--"));
    ts_close(ctx);
    o.default_model = "weights/default";
    ck_assert_int_eq(ts_open(&o, NULL, &ctx), TS_OK);
    ck_ok(ctx, ts_model_open(ctx, NULL, &model));
    close_all();
}
END_TEST

/* Parents first: children go on, and the leak checker sees the last one take all with it. */
START_TEST(closed_in_a_wrong_order)
{
    ts_texts *texts;
    ts_run *r, *shared;
    counter c = new_counter();
    open_model("weights/default");
    r = open_small();
    ck_ok(ctx, ts_texts_open(model, &texts));
    ts_request q = small_request();
    ts_run_options o = {.size = sizeof o, .texts = texts};
    ck_ok(ctx, ts_run_open_with(model, &q, &o, &shared, NULL));
    ts_close(ctx);
    ts_model_close(model);
    ts_texts_close(texts);
    ck_ok(ctx, ts_run_encode(r));
    ck_ok(ctx, ts_run_denoise(r, NULL));
    ck_ok(ctx, ts_run_decode(r, NULL, &c.s));
    ts_run_close(r);
    ck_ok(ctx, ts_run_encode(shared));
    ck_ok(ctx, ts_run_denoise(shared, NULL));
    ts_run_close(shared);
    /* a model that could not be opened holds nothing */
    ck_assert_int_eq(ts_open(NULL, NULL, &ctx), TS_OK);
    ck_assert_int_eq(ts_model_open(ctx, "/nonexistent/model", &model), TS_EMODEL);
    ts_close(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("misuse");
    TCase *tc = tcase_create("misuse");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, calls_out_of_order);
    tcase_add_test(tc, dropped_texts);
    tcase_add_test(tc, null_arguments);
    tcase_add_test(tc, version_of_header_and_library);
    tcase_add_test(tc, values_that_make_no_sense);
    tcase_add_test(tc, a_default_model_that_is_missing);
    tcase_add_test(tc, closed_in_a_wrong_order);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
