/* T5 and UMT5 encoders with hash-generated weights against golden numbers, and what a config may hold. (Whole fixtures: tests/sampler/test_pipeline.c compares their states.) */
#include "prompts/text.h"

#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, DIM = 16, HEADS = 2, KV = 8, FF = 24, VOCAB = 64, REAL = 8 };
static const int32_t ids[REAL] = {5, 17, 3, 60, 41, 9, 22, 1};

typedef struct { const char *name, *cls, *config; bool every, gated; int buckets; double first[6]; } golden;
static const golden cases[] = {
    {"T1", "T5EncoderModel", "\"feed_forward_proj\": \"gated-gelu\"", false, true, 32, {1.86458, 0.45791, -0.93280, -1.90828, 1.64543, -0.95293}},
    {"T2", "UMT5EncoderModel", "\"feed_forward_proj\": \"gated-gelu\"", true, true, 32, {1.83249, 0.25054, -1.00132, -2.06897, 1.58835, -0.81745}},
    {"T3", "T5EncoderModel", "\"feed_forward_proj\": \"relu\", \"relative_attention_num_buckets\": 8", false, false, 8, {2.48121, -0.25562, -0.79322, -2.16049, 0.95903, -1.25107}}};

static void checkpoint(const golden *g, const char *dir)
{
    ts_bag *b = ts_bag_new();
    char t[160];
    ts_err err = {0};
    golden_put_plain(b, "shared.weight", (long)VOCAB, (long)DIM, 0L);
    golden_put(b, "encoder.final_layer_norm.weight", (long)DIM, 0L);
    for (int i = 0; i < LAYERS; i++) {
        for (int k = 0; k < 4; k++) {
            snprintf(t, sizeof t, "encoder.block.%d.layer.0.SelfAttention.%c.weight", i, "qkvo"[k]);
            golden_put(b, t, (long)DIM, (long)DIM, 0L);
        }
        snprintf(t, sizeof t, "encoder.block.%d.layer.0.SelfAttention.relative_attention_bias.weight", i);
        if (i == 0 || g->every) golden_put_plain(b, t, (long)g->buckets, (long)HEADS, 0L);
        for (int k = 0; k < 2; k++) {
            snprintf(t, sizeof t, "encoder.block.%d.layer.%d.layer_norm.weight", i, k);
            golden_put(b, t, (long)DIM, 0L);
        }
        static const char *const in[] = {"wi_0", "wi_1", "wi"};
        for (int k = g->gated ? 0 : 2; k < (g->gated ? 2 : 3); k++) {
            snprintf(t, sizeof t, "encoder.block.%d.layer.1.DenseReluDense.%s.weight", i, in[k]);
            golden_put(b, t, (long)FF, (long)DIM, 0L);
        }
        snprintf(t, sizeof t, "encoder.block.%d.layer.1.DenseReluDense.wo.weight", i);
        golden_put(b, t, (long)DIM, (long)FF, 0L);
    }
    snprintf(t, sizeof t, "%s/model.safetensors", dir);
    ck_assert_msg(ts_bag_save(&err, b, t) == TS_OK, "%s", err.text);
    ts_bag_free(b);
}

typedef struct { ts_encoder *e; float *out[2]; } job;

static ts_status run(ts_ctx *c, void *user)
{
    (void)c;
    job *j = user;
    ts_ids text[2] = {{ids, REAL}, {ids + 3, REAL - 3}};
    return ts_encoder_run(j->e, text, 2, j->out);
}

static ts_component component(const golden *g, char *dir, const char *extra)
{
    char text[512];
    snprintf(text, sizeof text, "{\"d_model\": 16, \"num_layers\": 3, \"num_heads\": 2, \"d_kv\": 8, \"d_ff\": 24, \"vocab_size\": 64, %s%s}", g->config, extra);
    ts_component c = {.dir = dir, .config = cJSON_Parse(text), .config_path = "text_encoder/config.json"};
    ck_assert(c.config != NULL);
    snprintf(c.cls, sizeof c.cls, "%s", g->cls);
    return c;
}

START_TEST(goldens)
{
    const golden *g = cases + _i % 3;
    ts_ctx *c = testing_open(_i < 3 ? "cpu" : "far", NULL, 2);
    char *tmp = testing_tmp();
    float states[REAL * DIM], other[REAL * DIM];
    job j = {.out = {states, other}};
    checkpoint(g, tmp);
    ts_component part = component(g, tmp, "");
    ck_ok(c, ts_encoder_open(c, &part, &j.e));
    ck_assert_int_eq(ts_encoder_width(j.e), DIM);
    testing_run(c, run, &j);
    /* the golden's last values are of masked rows, which nobody reads and we do not compute */
    for (int i = 0; i < 6; i++) ck_assert_msg(fabs(states[i] - g->first[i]) <= 2e-5, "%s: value %d is %.6f, expected %.6f", g->name, i, states[i], g->first[i]);
    ts_encoder_close(j.e), cJSON_Delete(part.config), testing_close(c), free(tmp);
}
END_TEST

/* A text's states do not depend on what else is encoded in the same call. */
START_TEST(alone)
{
    ts_ctx *c = testing_open("cpu", NULL, 2);
    char *tmp = testing_tmp();
    float a[REAL * DIM], b[REAL * DIM], d[REAL * DIM], e[REAL * DIM];
    checkpoint(cases + 1, tmp);
    ts_component part = component(cases + 1, tmp, "");
    job j = {.out = {a, b}}, k = {.out = {d, e}};
    ck_ok(c, ts_encoder_open(c, &part, &j.e));
    testing_run(c, run, &j);
    k.e = j.e;
    testing_run(c, run, &k);
    ck_assert(!memcmp(a, d, sizeof a) && !memcmp(b, e, sizeof(float) * (REAL - 3) * DIM));
    ck_assert(memcmp(a, b, sizeof(float) * DIM)); /* another text, other states */
    ts_encoder_close(j.e), cJSON_Delete(part.config), testing_close(c), free(tmp);
}
END_TEST

START_TEST(refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_encoder *e;
    golden g = cases[0];
    checkpoint(&g, tmp);
    ts_component part = component(&g, tmp, "");
    strcpy(part.cls, "BertModel");
    ck_assert_int_eq(ts_encoder_open(c, &part, &e), TS_EMODEL);
    ck_assert(strstr(c->err.text, "BertModel"));
    cJSON_Delete(part.config);
    g.config = "\"feed_forward_proj\": \"gated-tanh\"";
    part = component(&g, tmp, "");
    ck_assert_int_eq(ts_encoder_open(c, &part, &e), TS_EMODEL);
    ck_assert_msg(strstr(c->err.text, "gated-tanh"), "%s", c->err.text);
    cJSON_Delete(part.config);
    g = cases[0];
    part = component(&g, tmp, ", \"num_layers\": 4");
    cJSON_SetNumberValue(cJSON_GetObjectItem(part.config, "num_layers"), 4);
    ck_assert_int_eq(ts_encoder_open(c, &part, &e), TS_EMODEL);
    ck_assert_msg(strstr(c->err.text, "encoder.block.3."), "%s", c->err.text);
    cJSON_Delete(part.config), testing_close(c), free(tmp);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("t5");
    TCase *tc = tcase_create("t5");
    tcase_add_loop_test(tc, goldens, 0, 6);
    tcase_add_test(tc, alone);
    tcase_add_test(tc, refused);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
