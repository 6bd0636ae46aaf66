/* The Wan transformer against its oracle: golden numbers that need no files, then every fixture,
 * taps first and in order, so that a failure names the first layer that differs. */
#include "tests/dit/evaluate.h"
#include "tests/dit/golden_wan.h"
#include "tests/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};

/* ---- golden ---- */

enum { COUNT = 4 * 3 * 6 * 8, ROWS = 12, TOKENS = 36 };
typedef struct {
    double first[6], last[2], mean, root;
} golden;
static const golden w1 = {{1.54262, -0.28579, 2.05220, 0.91651, 1.74325, -3.40044},
                          {1.35565, -2.34895},
                          -0.188842,
                          1.279702};
static const golden w2 = {{0.72504, -0.82827, 0.79103, 1.23387, 0.65489, -2.26226},
                          {1.32994, -2.41949},
                          -0.162130,
                          1.190089};

static const golden w3 = {{1.72470, -1.47566, 4.18131, 0.30510, -0.01203, 0.62378},
                          {1.11056, -0.73759},
                          -0.130707,
                          1.286639};

static void run_golden(const char *backend, const uint8_t *sel, const char *what, const golden *g)
{
    float x[COUNT], states[ROWS * 16];
    ts_bag *weights = golden_wan_weights(&golden_w1);
    char *dir = golden_wan_save(&golden_w1, weights);
    ts_ctx *ctx = testing_open(backend, NULL, 0);
    golden_input("input.x", 1.7, COUNT, x);
    golden_input("input.ctx", 1.7, ROWS * 16, states);
    evaluation e = {.dit = evaluation_open(ctx, dir, 0),
                    .x = x,
                    .latent = {4, 3, 6, 8},
                    .text = {{.states = {states, TS_F32, 2, {ROWS, 16}}, .length = ROWS}},
                    .t = {750, 0},
                    .texts = 1,
                    .nt = 2,
                    .samples = 1,
                    .steps = 1,
                    .sel = sel,
                    .trow_sel = 1};
    testing_run(ctx, evaluation_phase, &e);
    golden_expect(what, e.v[0], COUNT, g->first, g->last, g->mean, g->root, 2e-5);
    evaluation_free(&e);
    testing_close(ctx);
    ts_bag_free(weights);
    free(dir);
}

START_TEST(golden_one_timestep) { run_golden(backends[_i], NULL, "W1", &w1); }
END_TEST

START_TEST(golden_timestep_of_each_token)
{
    uint8_t sel[TOKENS] = {0};
    memset(sel, 1, 12);
    run_golden(backends[_i], sel, "W2", &w2);
}
END_TEST

/* Four channels of a sample, five beside it; 512 rows of text and five of a picture. */
enum { BESIDE = 5, LONG_ROWS = 512, PICTURE_ROWS = 5, PICTURE_DIM = 4 };

typedef struct {
    ts_ctx *ctx;
    char *dir;
    ts_bag *weights;
    float x[COUNT * 9 / 4], states[LONG_ROWS * 16], picture[PICTURE_ROWS * PICTURE_DIM];
    evaluation e;
} with_picture;

static with_picture *open_with_picture(const char *backend, const golden_wan *c)
{
    with_picture *p = calloc(1, sizeof *p);
    p->weights = golden_wan_weights(c);
    p->dir = golden_wan_save(c, p->weights);
    p->ctx = testing_open(backend, NULL, 0);
    golden_input("input.x", 1.7, COUNT * 9 / 4, p->x);
    golden_input("input.ctx", 1.7, LONG_ROWS * 16, p->states);
    golden_input("input.img", 1.7, PICTURE_ROWS * PICTURE_DIM, p->picture);
    p->e = (evaluation){
        .dit = evaluation_open(p->ctx, p->dir, 0),
        .x = p->x,
        .latent = {4, 3, 6, 8},
        .text = {{.states = {p->states, TS_F32, 2, {LONG_ROWS, 16}}, .length = LONG_ROWS}},
        .latents = {p->x + COUNT, TS_F32, 4, {BESIDE, 3, 6, 8}},
        .picture = {p->picture, TS_F32, 2, {PICTURE_ROWS, PICTURE_DIM}},
        .t = {750},
        .texts = 1,
        .nt = 1,
        .samples = 1,
        .steps = 1};
    return p;
}

static void close_with_picture(with_picture *p)
{
    evaluation_free(&p->e);
    testing_close(p->ctx);
    ts_bag_free(p->weights);
    free(p->dir);
    free(p);
}

START_TEST(golden_picture)
{
    with_picture *p = open_with_picture(backends[_i], &golden_w3);
    testing_run(p->ctx, evaluation_phase, &p->e);
    golden_expect("W3", p->e.v[0], COUNT, w3.first, w3.last, w3.mean, w3.root, 2e-5);
    close_with_picture(p);
}
END_TEST

/* What does not fit is said before anything is computed. */
START_TEST(pictures_that_do_not_fit)
{
    with_picture *p = open_with_picture("cpu", &golden_w3);
    p->e.latents.dim[0] = 4;
    ck_assert_int_eq(evaluation_try(p->ctx, &p->e), TS_ESHAPE);
    ck_assert_msg(strstr(p->ctx->err.text, "[4, 3, 6, 8], expected [5, 3, 6, 8]") != NULL, "%s",
                  p->ctx->err.text);
    p->e.latents.dim[0] = BESIDE;
    p->e.picture.dim[1] = 3;
    ck_assert_int_eq(evaluation_try(p->ctx, &p->e), TS_ESHAPE);
    ck_assert_msg(strstr(p->ctx->err.text, "[5, 3], expected [-1, 4]") != NULL, "%s",
                  p->ctx->err.text);
    close_with_picture(p);
    p = open_with_picture("cpu", &golden_w1);
    ck_assert_int_eq(evaluation_try(p->ctx, &p->e), TS_EMODEL);
    ck_assert_msg(strstr(p->ctx->err.text, "no channels for them") != NULL, "%s", p->ctx->err.text);
    p->e.latents.data = NULL;
    ck_assert_int_eq(evaluation_try(p->ctx, &p->e), TS_EMODEL);
    ck_assert_msg(strstr(p->ctx->err.text, "sees none") != NULL, "%s", p->ctx->err.text);
    close_with_picture(p);
}
END_TEST

/* ---- other shapes, against the sheet written plainly in f64 ---- */

START_TEST(plain_is_golden)
{
    float x[COUNT], states[ROWS * 16], v[COUNT], t[TOKENS];
    ts_bag *weights = golden_wan_weights(&golden_w1);
    golden_input("input.x", 1.7, COUNT, x);
    golden_input("input.ctx", 1.7, ROWS * 16, states);
    for (int i = 0; i < TOKENS; i++) t[i] = 750;
    golden_wan_forward(&golden_w1, weights, x, (long[]){4, 3, 6, 8}, states, ROWS, t, v);
    golden_expect("W1, plain", v, COUNT, w1.first, w1.last, w1.mean, w1.root, 2e-5);
    for (int i = 0; i < 12; i++) t[i] = 0;
    golden_wan_forward(&golden_w1, weights, x, (long[]){4, 3, 6, 8}, states, ROWS, t, v);
    golden_expect("W2, plain", v, COUNT, w2.first, w2.last, w2.mean, w2.root, 2e-5);
    ts_bag_free(weights);
}
END_TEST

static const struct {
    golden_wan c;
    long latent[3], real, length;
} shapes[] = {
    {{.patch = {1, 2, 2},
      .heads = 3,
      .head_dim = 20,
      .in = 5,
      .out = 6,
      .text_dim = 7,
      .freq_dim = 32,
      .ffn_dim = 50,
      .layers = 2,
      .cross_norm = false},
     {2, 6, 10},
     4,
     9},
    {{.patch = {2, 1, 3},
      .heads = 2,
      .head_dim = 10,
      .in = 3,
      .out = 3,
      .text_dim = 16,
      .freq_dim = 64,
      .ffn_dim = 24,
      .layers = 3,
      .cross_norm = true},
     {4, 5, 9},
     1,
     512},
    {{.patch = {1, 1, 1},
      .heads = 5,
      .head_dim = 4,
      .in = 2,
      .out = 1,
      .text_dim = 8,
      .freq_dim = 2,
      .ffn_dim = 8,
      .layers = 1,
      .cross_norm = false},
     {1, 1, 1},
     0,
     3},
    {{.patch = {1, 2, 2},
      .heads = 1,
      .head_dim = 128,
      .in = 16,
      .out = 16,
      .text_dim = 24,
      .freq_dim = 256,
      .ffn_dim = 96,
      .layers = 1,
      .cross_norm = true},
     {3, 14, 10},
     6,
     7},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

START_TEST(shape)
{
    const golden_wan *c = &shapes[_i % SHAPES].c;
    const long *l = shapes[_i % SHAPES].latent, real = shapes[_i % SHAPES].real,
               rows = shapes[_i % SHAPES].length, cells = l[0] * l[1] * l[2];
    long latent[4] = {c->in, l[0], l[1], l[2]},
         tokens = cells / (c->patch[0] * c->patch[1] * c->patch[2]);
    float *x = malloc((size_t)(cells * c->in) * sizeof *x),
          *want = malloc((size_t)(cells * c->out) * sizeof *want),
          *t = malloc((size_t)tokens * sizeof *t);
    float *states = calloc((size_t)(rows * c->text_dim), sizeof *states);
    ts_bag *weights = golden_wan_weights(c);
    char *dir = golden_wan_save(c, weights);
    golden_input("input.x", 1.7, cells * c->in, x);
    golden_input("input.ctx", 1.7, real * c->text_dim, states);
    for (long i = 0; i < tokens; i++) t[i] = 333;
    golden_wan_forward(c, weights, x, latent, states, rows, t, want);
    ts_ctx *ctx = testing_open(backends[_i / SHAPES], NULL, 0);
    evaluation e = {.dit = evaluation_open(ctx, dir, 0),
                    .x = x,
                    .latent = {latent[0], latent[1], latent[2], latent[3]},
                    .text = {{.states = {states, TS_F32, 2, {real, c->text_dim}}, .length = rows}},
                    .t = {500, 333},
                    .texts = 1,
                    .nt = 2,
                    .samples = 1,
                    .steps = 1,
                    .trow = 1};
    testing_run(ctx, evaluation_phase, &e);
    double rel = testing_rel(e.v[0], want, cells * c->out);
    /* f32 against f64: sums of a few hundred terms, 2^-24 each, through three layers */
    ck_assert_msg(rel <= 2e-6, "shape %d: relative error %.2e, expected at most 2e-6", _i % SHAPES,
                  rel);
    evaluation_free(&e);
    testing_close(ctx);
    ts_bag_free(weights);
    free(x);
    free(want);
    free(t);
    free(states);
    free(dir);
}
END_TEST

/* ---- fixtures ---- */

static const struct {
    const char *fixture, *folder;
} cases[] = {
    {"wan21-t2v", "tests/fixtures/wan21-t2v/model/transformer"},
    {"wan21-t2v-euler", "tests/fixtures/wan21-t2v-euler/model/transformer"},
    {"wan21-t2i-bf16", "tests/fixtures/wan21-t2i-bf16/model/transformer"},
    {"wan22-a14b", "tests/fixtures/wan22-a14b/model/transformer"},
    {"wan22-ti2v-5b", "tests/fixtures/wan22-ti2v-5b/model/transformer"},
    {"default-model", "weights/default/transformer"},
};
enum { CASES = sizeof cases / sizeof *cases };

/* [1, C, N] as the oracle's convolution leaves it -> [N, C] */
static float *tokens_first(const float *x, long N, long C)
{
    float *y = malloc((size_t)(N * C) * sizeof *y);
    for (long n = 0; n < N; n++)
        for (long c = 0; c < C; c++) y[n * C + c] = x[c * N + n];
    return y;
}

static int compare_tap(const evaluation *e, const ts_bag *expected, const char *fixture,
                       const char *branch, const char *what)
{
    char key[96];
    long got, want, D = ts_dit_describe(e->dit)->dim;
    snprintf(key, sizeof key, "%s%s", branch, what);
    if (!ts_bag_has(expected, key)) return 0;
    const float *g = testing_f32(e->taps, key, &got), *w = testing_f32(expected, key, &want);
    float *turned = strstr(what, "patch_embedding") ? tokens_first(w, want / D, D) : NULL;
    /* per token in Wan 2.2 5B, all of them equal */
    if (strstr(what, "condition_embedder")) want = got;
    ck_assert_int_eq(got, want);
    evaluation_expect(fixture, key, g, turned ? turned : w, got);
    free(turned);
    return 1;
}

static void compare_branch(const evaluation *e, const ts_bag *expected, const char *fixture,
                           int sample, const char *branch)
{
    char what[32];
    const char *v = sample ? "negative_velocity" : "velocity";
    long n;
    int taps = compare_tap(e, expected, fixture, branch, "condition_embedder") +
               compare_tap(e, expected, fixture, branch, "patch_embedding");
    for (int i = 0; i < ts_dit_describe(e->dit)->layers; i++) {
        snprintf(what, sizeof what, "blocks.%d", i);
        taps += compare_tap(e, expected, fixture, branch, what);
    }
    const float *want = testing_f32(expected, v, &n);
    evaluation_expect(fixture, v, e->v[sample], want, n);
    /* that one has no taps */
    if (strcmp(fixture, "default-model"))
        ck_assert_int_eq(taps, 2 + ts_dit_describe(e->dit)->layers);
}

START_TEST(fixture)
{
    evaluation_compare(backends[_i / CASES], cases[_i % CASES].fixture, cases[_i % CASES].folder,
                       compare_branch);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wan");
    TCase *c = tcase_create("oracle");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, golden_one_timestep, 0, 2);
    tcase_add_loop_test(c, golden_timestep_of_each_token, 0, 2);
    tcase_add_loop_test(c, golden_picture, 0, 2);
    tcase_add_test(c, pictures_that_do_not_fit);
    tcase_add_test(c, plain_is_golden);
    tcase_add_loop_test(c, shape, 0, 2 * SHAPES);
    tcase_add_loop_test(c, fixture, 0, 2 * CASES);
    suite_add_tcase(s, c);
    return testing_main(s);
}
