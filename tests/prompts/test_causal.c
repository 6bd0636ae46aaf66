/* CLIP's text tower and Llama: every layer's states and the pooled row of the fixtures, on the CPU
 * and far, several texts at once as each alone; what is refused. */
#include "prompts/text.h"

#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    ts_ctx *c;
    ts_encoder *e;
    ts_text_output output;
    ts_ids text[2];
    int texts;
    float *out[2];
    ts_status st;
} bench;

static ts_component component(const char *cls, const char *dir, const char *config)
{
    char path[1024];
    static char at[512];
    snprintf(at, sizeof at, "tests/fixtures/%s", dir);
    snprintf(path, sizeof path, "%s/config.json", at);
    ts_component c = {.dir = at, .config_path = "config.json"};
    ts_err err = {0};
    snprintf(c.cls, sizeof c.cls, "%s", cls);
    if (config)
        c.config = cJSON_Parse(config);
    else
        ck_assert_msg(!ts_json_load(&err, path, &c.config), "%s", err.text);
    return c;
}

static ts_status encode(ts_ctx *c, void *user)
{
    bench *b = user;
    (void)c;
    b->st = ts_encoder_run(b->e, b->output, b->text, b->texts, b->out);
    return b->st;
}

/* The rows of text `which`, and that the other, which is shorter, gets the same beginning. */
static void expect_states(bench *b, ts_text_output output, int n, const float *want,
                          const char *what)
{
    long wide = output.pooled ? b->e->pooled : b->e->width, rows = output.pooled ? 1 : n;
    b->output = output;
    for (int i = 0; i < 2; i++) b->out[i] = calloc((size_t)(n * wide), sizeof(float));
    testing_run(b->c, encode, b);
    double off = testing_rel(b->out[1], want, rows * wide);
    ck_assert_msg(off < 1e-5, "%s: relative error %.2e", what, off);
    if (!output.pooled) {
        off = testing_rel(b->out[0], want, b->text[0].n * wide);
        ck_assert_msg(off < 1e-5, "%s, of a shorter text: relative error %.2e", what, off);
    }
    for (int i = 0; i < 2; i++) free(b->out[i]);
}

static const struct {
    const char *name, *backend;
} cases[] = {{"hunyuanvideo-t2v", "cpu"},
             {"hunyuanvideo-t2v", "far"},
             {"hunyuanvideo-tiled", "cpu"},
             {"hunyuanvideo-tiled", "far"}};

static bench begin(int i, const char *cls, const char *part, const ts_bag *want, const char *ids)
{
    char dir[512];
    bench b = {.c = testing_open(cases[i].backend, NULL, 1), .texts = 2};
    ts_err err = {0};
    ts_host t;
    snprintf(dir, sizeof dir, "%s/model/%s", cases[i].name, part);
    ts_component c = component(cls, dir, NULL);
    ck_ok(b.c, ts_encoder_open(b.c, &c, &b.e));
    cJSON_Delete(c.config);
    ts_status st = ts_bag_get(&err, want, ids, TS_I64, 1, (long[]){-1}, &t);
    int32_t *id = malloc((size_t)t.dim[0] * sizeof *id);
    ck_assert_msg(!st, "%s", err.text);
    for (long k = 0; k < t.dim[0]; k++) id[k] = (int32_t)((const int64_t *)t.data)[k];
    b.text[1] = (ts_ids){id, (int)t.dim[0]};
    b.text[0] = (ts_ids){id, b.text[1].n - 2};
    return b;
}

static ts_bag *expected(int i)
{
    char path[512];
    snprintf(path, sizeof path, "tests/fixtures/%s/expected.safetensors", cases[i].name);
    return testing_bag(path);
}

static void finish(bench *b, ts_bag *want)
{
    free((void *)b->text[1].ids);
    ts_encoder_close(b->e);
    testing_close(b->c);
    ts_bag_free(want);
}

START_TEST(states_of_llama)
{
    char name[64];
    ts_bag *want = expected(_i);
    bench b = begin(_i, "LlamaModel", "text_encoder", want, "ids");
    for (int k = 2; k <= 5; k++) {
        snprintf(name, sizeof name, k == 5 ? "text_tap.embed_tokens" : "text_tap.layers.%d", 4 - k);
        expect_states(&b, (ts_text_output){.hidden = -k}, b.text[1].n,
                      testing_f32(want, name, NULL), name);
    }
    b.output = (ts_text_output){.hidden = -6};
    ck_assert_int_eq(ts_encoder_run(b.e, b.output, b.text, 1, b.out), TS_EUSAGE);
    b.output = (ts_text_output){.pooled = true};
    ck_assert_int_eq(ts_encoder_run(b.e, b.output, b.text, 1, b.out), TS_EUSAGE);
    finish(&b, want);
}
END_TEST

START_TEST(states_of_clip)
{
    char name[64];
    ts_bag *want = expected(_i);
    bench b = begin(_i, "CLIPTextModel", "text_encoder_2", want, "clip_ids");
    for (int k = 2; k <= 4; k++) {
        snprintf(name, sizeof name, k == 4 ? "clip_tap.embeddings" : "clip_tap.encoder.layers.%d",
                 3 - k);
        expect_states(&b, (ts_text_output){.hidden = -k}, b.text[1].n,
                      testing_f32(want, name, NULL), name);
    }
    expect_states(&b, (ts_text_output){.hidden = 0}, b.text[1].n,
                  testing_f32(want, "clip_tap.final_layer_norm", NULL), "the last norm");
    expect_states(&b, (ts_text_output){.pooled = true}, b.text[1].n,
                  testing_f32(want, "clip_states", NULL), "the pooled row");
    finish(&b, want);
}
END_TEST

/* More ids than the encoder has positions. */
START_TEST(long_text)
{
    ts_bag *want = expected(0);
    bench b = begin(0, "CLIPTextModel", "text_encoder_2", want, "clip_ids");
    int32_t many[78] = {0};
    ts_ids text = {many, 78};
    ck_assert_int_eq(ts_encoder_run(b.e, (ts_text_output){0}, &text, 1, b.out), TS_ESHAPE);
    ck_assert_msg(strstr(b.c->err.text, "a text of 78 tokens, the encoder reads at most 77"), "%s",
                  b.c->err.text);
    finish(&b, want);
}
END_TEST

static const struct {
    const char *cls, *config, *says;
} refused[] = {
    {"CLIPTextModel", "{\"hidden_act\": \"tanh\"}", "hidden_act \"tanh\" is not supported"},
    {"CLIPTextModel", "{\"hidden_size\": 25, \"num_attention_heads\": 3}",
     "hidden_size 25 is no multiple of 3 heads"},
    {"CLIPTextModel", "{\"model_type\": \"bert\"}", "model_type"},
    {"LlamaModel", "{\"num_attention_heads\": 4, \"num_key_value_heads\": 3}",
     "4 num_attention_heads are no multiple of 3 num_key_value_heads"},
    {"LlamaModel", "{\"head_dim\": 7}", "head_dim is 7, expected an even number"},
    {"LlamaModel", "{\"rope_scaling\": {\"rope_type\": \"llama3\"}}", "rope_scaling"},
    {"LlamaModel", "{\"rope_parameters\": {\"rope_type\": \"yarn\"}}", "rope_type"},
    {"LlamaModel", "{\"rope_theta\": 0}", "rope_theta is 0, must be more than 0"},
    {"LlamaModel", "{\"num_hidden_layers\": 0}", "num_hidden_layers"},
};
START_TEST(refused_configs)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_encoder *e;
    ts_component part = component(refused[_i].cls, "hunyuanvideo-t2v/model/text_encoder",
                                  refused[_i].config);
    ck_assert_int_eq(ts_encoder_open(c, &part, &e), TS_EMODEL);
    ck_assert_msg(strstr(c->err.text, refused[_i].says), "%s", c->err.text);
    cJSON_Delete(part.config);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("causal");
    TCase *tc = tcase_create("causal");
    int n = sizeof cases / sizeof *cases;
    tcase_add_loop_test(tc, states_of_llama, 0, n);
    tcase_add_loop_test(tc, states_of_clip, 0, n);
    tcase_add_test(tc, long_text);
    tcase_add_loop_test(tc, refused_configs, 0, sizeof refused / sizeof *refused);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
