/* The PixArt transformer against its oracle: golden numbers that need no files, then every fixture,
 * taps first and in order, so that a failure names the first layer that differs. */
#include "tests/dit/evaluate.h"
#include "tests/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};

/* ---- golden ---- */

enum {
    H = 8,
    W = 12,
    COUNT = 4 * H * W,
    OUT = 8 * H * W,
    ROWS = 12,
    REAL = 8,
    CAPTION = 16,
    D = 24
};
typedef struct {
    double first[6], last[2], mean, root;
} golden;
static const golden p1 = {{-0.28824, -0.23267, -1.14402, -0.56407, -0.61952, -1.20454},
                          {0.12551, 0.20909},
                          -0.102834,
                          1.191826};
static const golden p2 = {{0.37323, 0.06470, -0.21544, -0.87381, -0.58036, -1.34248},
                          {-0.13694, 0.24005},
                          0.281170,
                          1.364194};

static void put_block(ts_bag *b, int i)
{
    static const char *const square[] = {"attn1.to_q",     "attn1.to_k",    "attn1.to_v",
                                         "attn1.to_out.0", "attn2.to_q",    "attn2.to_k",
                                         "attn2.to_v",     "attn2.to_out.0"};
    char t[128];
    for (size_t k = 0; k < sizeof square / sizeof *square; k++)
        golden_put_linear(b, D, D, "transformer_blocks.%d.%s", i, square[k]);
    golden_put_linear(b, 4L * D, D, "transformer_blocks.%d.ff.net.0.proj", i);
    golden_put_linear(b, D, 4L * D, "transformer_blocks.%d.ff.net.2", i);
    snprintf(t, sizeof t, "transformer_blocks.%d.scale_shift_table", i);
    golden_put(b, t, 6L, (long)D, 0L);
}

/* A new folder with config.json and the weights, malloc'd. caption: the text is projected. */
static char *save(ts_ctx *ctx, bool sized, bool caption, const char *extra)
{
    char path[4096], *dir = testing_tmp();
    ts_bag *b = ts_bag_new();
    golden_put(b, "pos_embed.proj.weight", (long)D, 4L, 2L, 2L, 0L);
    golden_put(b, "pos_embed.proj.bias", (long)D, 0L);
    golden_put_linear(b, D, 256, "adaln_single.emb.timestep_embedder.linear_1");
    golden_put_linear(b, D, D, "adaln_single.emb.timestep_embedder.linear_2");
    for (int i = 0; sized && i < 2; i++) {
        const char *name = i ? "aspect_ratio" : "resolution";
        for (int k = 1; k <= 2; k++)
            golden_put_linear(b, D / 3, k == 1 ? 256 : D / 3,
                              "adaln_single.emb.%s_embedder.linear_%d", name, k);
    }
    golden_put_linear(b, 6 * D, D, "adaln_single.linear");
    if (caption) {
        golden_put_linear(b, D, CAPTION, "caption_projection.linear_1");
        golden_put_linear(b, D, D, "caption_projection.linear_2");
    }
    for (int i = 0; i < 2; i++) put_block(b, i);
    golden_put(b, "scale_shift_table", 2L, (long)D, 0L);
    golden_put_linear(b, 32, D, "proj_out");
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    ck_ok(ctx, ts_bag_save(&ctx->err, b, path));
    ts_bag_free(b);
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    fprintf(f,
            "{\"_class_name\": \"PixArtTransformer2DModel\", \"num_layers\": 2, "
            "\"num_attention_heads\": 3, \"attention_head_dim\": 8, \"cross_attention_dim\": 24, "
            "\"in_channels\": 4, "
            "\"out_channels\": 8%s%s}",
            caption ? ", \"caption_channels\": 16" : "", extra);
    fclose(f);
    return dir;
}

typedef struct {
    float x[COUNT], states[ROWS * D];
} inputs;

static void fill(inputs *in, long width)
{
    golden_input("input.x", 1.7, COUNT, in->x);
    golden_input("input.ctx", 1.7, ROWS * width, in->states);
}

static evaluation evaluation_of(ts_ctx *ctx, const char *dir, const inputs *in, long rows,
                                long width)
{
    return (evaluation){.dit = evaluation_open(ctx, dir, 0),
                        .x = in->x,
                        .latent = {4, 1, H, W},
                        .text = {{.states = {in->states, TS_F32, 2, {rows, width}}}},
                        .t = {501},
                        .texts = 1,
                        .nt = 1,
                        .samples = 1,
                        .steps = 1};
}

static void run_golden(const char *backend, bool sized, const char *what, const golden *g)
{
    inputs in;
    ts_ctx *ctx = testing_open(backend, NULL, 0);
    char *dir = save(ctx, sized, true, sized ? ", \"sample_size\": 128" : ", \"sample_size\": 8");
    fill(&in, CAPTION);
    /* the masked rows are not there at all */
    evaluation e = evaluation_of(ctx, dir, &in, REAL, CAPTION);
    e.height = 832;
    e.width = 1216;
    if (!sized) e.height = e.width = 0;
    testing_run(ctx, evaluation_phase, &e);
    golden_expect(what, e.v[0], OUT, g->first, g->last, g->mean, g->root, 2e-5);
    ck_assert_str_eq(testing_warned(ctx), "");
    evaluation_free(&e);
    testing_close(ctx);
    free(dir);
}

START_TEST(golden_masked) { run_golden(backends[_i], false, "P1", &p1); }
END_TEST
START_TEST(golden_size_conditions) { run_golden(backends[_i], true, "P2", &p2); }
END_TEST

/* ---- without a projection of the text, whose width is then that of keys and values ---- */
START_TEST(plain_text)
{
    inputs in;
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    char *dir = save(ctx, false, false, ", \"sample_size\": 8");
    fill(&in, D);
    evaluation e = evaluation_of(ctx, dir, &in, REAL, D);
    ck_assert_int_eq(ts_dit_describe(e.dit)->text_dim, D);
    testing_run(ctx, evaluation_phase, &e);
    float first = e.v[0][0];
    in.states[0] += 1; /* it is read, unlike what stands behind the real rows */
    testing_run(ctx, evaluation_phase, &e);
    ck_assert(e.v[0][0] != first);
    in.states[0] -= 1;
    in.states[REAL * D] += 1;
    testing_run(ctx, evaluation_phase, &e);
    ck_assert(e.v[0][0] == first);
    evaluation_free(&e);
    testing_close(ctx);
    free(dir);
}
END_TEST

/* ---- refusals ---- */
START_TEST(configs_refused)
{
    static const struct {
        const char *json, *says;
    } bad[] = {
        {"{\"num_layers\": 0}", "\"num_layers\" is 0, expected 1 to 4096"},
        {"{\"patch_size\": 0}", "\"patch_size\" is 0, expected 1 to 64"},
        {"{\"sample_size\": 1}", "\"sample_size\" is 1, expected at least the \"patch_size\" of 2"},
        {"{\"interpolation_scale\": -1}",
         "\"interpolation_scale\" is -1, expected a number above 0"},
        {"{\"num_attention_heads\": 3, \"attention_head_dim\": 3}",
         "3 heads of 3 are a width of 9, expected a multiple of 4"},
        {"{\"caption_channels\": 64, \"cross_attention_dim\": 1000}",
         "\"cross_attention_dim\" is 1000, but the projected caption has 1152"},
        {"{\"norm_type\": \"layer_norm\"}", "norm_type"},
        {"{\"activation_fn\": \"geglu\"}", "activation_fn"},
        {"{\"attention_bias\": false}", "attention_bias"},
    };
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cJSON *json = cJSON_Parse(bad[i].json);
        ts_dit_info info;
        ck_assert_int_eq(ts_dit_read(ctx, &ts_dit_pixart, json, "transformer/config.json", &info),
                         TS_EMODEL);
        ck_assert_msg(strstr(ctx->err.text, bad[i].says) &&
                          !strncmp(ctx->err.text, "transformer/config.json: ", 25),
                      "\"%s\" does not say \"%s\"", ctx->err.text, bad[i].says);
        cJSON_Delete(json);
    }
    testing_close(ctx);
}
END_TEST

START_TEST(inputs_refused)
{
    inputs in;
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    char *dir = save(ctx, true, true, ", \"sample_size\": 128");
    fill(&in, CAPTION);
    evaluation e = evaluation_of(ctx, dir, &in, REAL, CAPTION);
    ck_assert_int_eq(evaluation_try(ctx, &e), TS_EUSAGE); /* the size was not told */
    ck_assert_str_eq(ctx->err.text, "a picture of 0x0 pixels: this model has to know the size");
    e.height = 832;
    e.width = 1216;
    e.text[0].states.dim[0] = 0;
    ck_assert_int_eq(evaluation_try(ctx, &e), TS_ESHAPE);
    ck_assert_msg(strstr(ctx->err.text, "0 rows of text states"), "%s", ctx->err.text);
    e.text[0].states = (ts_host){in.states, TS_F32, 2, {REAL, CAPTION + 1}};
    ck_assert_int_eq(evaluation_try(ctx, &e), TS_ESHAPE);
    e.text[0].states = (ts_host){in.states, TS_F32, 2, {REAL, CAPTION}};
    e.latent[1] = 2;
    e.latent[2] = 4;
    ck_assert_int_eq(evaluation_try(ctx, &e), TS_EUSAGE);
    ck_assert_str_eq(ctx->err.text, "2 frames, but this model draws pictures");
    evaluation_free(&e);
    testing_close(ctx);
    free(dir);
}
END_TEST

/* ---- fixtures ---- */

static const char *const fixtures[] = {"pixart-alpha-256", "pixart-alpha-1024-micro",
                                       "pixart-sigma"};
enum { FIXTURES = sizeof fixtures / sizeof *fixtures };

static void compare_tap(const evaluation *e, const ts_bag *expected, const char *fixture,
                        const char *branch, const char *ours, const char *theirs)
{
    char key[96], other[96];
    long got, want;
    snprintf(key, sizeof key, "%s%s", branch, ours);
    snprintf(other, sizeof other, "%s%s", branch, theirs);
    const float *g = testing_f32(e->taps, key, &got), *w = testing_f32(expected, other, &want);
    /* padded rows come after the real ones */
    if (!strcmp(ours, "caption_projection")) want = want < got ? want : got;
    ck_assert_int_eq(got, want);
    evaluation_expect(fixture, other, g, w, got);
}

static void compare_branch(const evaluation *e, const ts_bag *expected, const char *fixture,
                           int sample, const char *branch)
{
    char ours[32], theirs[48];
    long n;
    ck_assert_int_eq(e->samples, 2);
    compare_tap(e, expected, fixture, branch, "condition_embedder", "adaln_single");
    compare_tap(e, expected, fixture, branch, "caption_projection", "caption_projection");
    compare_tap(e, expected, fixture, branch, "patch_embedding", "pos_embed");
    for (int i = 0; i < ts_dit_describe(e->dit)->layers; i++) {
        snprintf(ours, sizeof ours, "blocks.%d", i);
        snprintf(theirs, sizeof theirs, "transformer_blocks.%d", i);
        compare_tap(e, expected, fixture, branch, ours, theirs);
    }
    const float *want = testing_f32(expected, sample ? "negative_velocity" : "velocity", &n);
    /* the noise; the variance behind it is dropped by the sampler */
    evaluation_expect(fixture, sample ? "negative_velocity" : "velocity", e->v[sample], want, n);
}

START_TEST(fixture)
{
    char dir[256];
    snprintf(dir, sizeof dir, "tests/fixtures/%s/model/transformer", fixtures[_i % FIXTURES]);
    evaluation_compare(backends[_i / FIXTURES], fixtures[_i % FIXTURES], dir, compare_branch);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pixart");
    TCase *c = tcase_create("oracle");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, golden_masked, 0, 2);
    tcase_add_loop_test(c, golden_size_conditions, 0, 2);
    tcase_add_test(c, plain_text);
    tcase_add_test(c, configs_refused);
    tcase_add_test(c, inputs_refused);
    tcase_add_loop_test(c, fixture, 0, 2 * FIXTURES);
    suite_add_tcase(s, c);
    return testing_main(s);
}
