/* Tensors under other names: rules, prefixes, fused tensors in parts, other shapes. */
#include "codecs/vae.h"
#include "dit/dit.h"
#include "prompts/text.h"
#include "tests/weights/scratch.h"
#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ts_rename heads[] = {
    {"layers.#.qkv.", "block.#.q.", {3, 0, 1, 0}},
    {"layers.#.qkv.", "block.#.k.", {3, 1, 1, 0}},
    {"layers.#.qkv.", "block.#.v.", {3, 2, 1, 0}},
    {"layers.#.swapped.", "block.#.swap.", {2, 1, 1, 1}}, /* halves exchanged */
    {"layers.#.adds.", "block.#.norm.", {4, 0, 1, 3}},    /* quarters 0 and 2 */
    {"layers.#.list.#.", "block.#.at.#.", {0}},
    {"top", "bottom", {0}},
    {NULL, NULL, {0}}};
static const ts_rename tails[] = {{"w0.", "proj.", {0}}, {NULL, NULL, {0}}};
static const ts_naming namings[] = {{"layers.0.qkv.weight", heads, tails}};
static const ts_names names = {namings, 1, (const char *const[]){"model.x.", "model.", NULL},
                               (const char *const[]){"extra.", "*.scratch", NULL}};

/* A file of f32 tensors, numbers 0, 1, 2, ... through all of it; tensors: of its header, NULL at
 * the end. */
static void write_numbers(const char *dir, const char *const *tensors, int n)
{
    char header[2048] = "{", *file;
    for (int i = 0; tensors[i]; i++)
        snprintf(header + strlen(header), sizeof header - strlen(header), "%s%s", i ? ", " : "",
                 tensors[i]);
    strcat(header, "}");
    size_t size = strlen(header), at = 8 + size;
    file = calloc(1, at + (size_t)n * sizeof(float));
    file[0] = (char)size;
    file[1] = (char)(size >> 8);
    memcpy(file + 8, header, size);
    for (int i = 0; i < n; i++)
        memcpy(file + at + (size_t)i * sizeof(float), (float[]){(float)i}, sizeof(float));
    scratch_write(dir, "model.safetensors", file, at + (size_t)n * sizeof(float));
    free(file);
}
#define T(name, shape, at) \
    "\"" name "\": {\"dtype\": \"F32\", \"shape\": " shape ", \"data_offsets\": [" at "]}"
static const char *const all[] = {T("model.x.layers.0.qkv.weight", "[6, 2]", "0, 48"),
                                  T("model.x.layers.0.qkv.bias", "[6]", "48, 72"),
                                  T("model.x.layers.0.swapped.weight", "[4, 1]", "72, 88"),
                                  T("model.x.layers.0.adds.weight", "[4, 2]", "88, 120"),
                                  T("model.x.layers.0.list.12.w0.bias", "[2]", "120, 128"),
                                  T("model.x.top", "[2, 2]", "128, 144"),
                                  T("model.x.extra.thing", "[1]", "144, 148"),
                                  T("model.x.some.scratch", "[1]", "148, 152"),
                                  T("vae.of.another", "[1]", "152, 156"),
                                  NULL};

static void expect_rows(ts_weights *ws, ts_ctx *ctx, const char *name, long rows, long width,
                        const float *want)
{
    float got[16];
    for (int i = 0; i < rows; i++)
        ck_ok(ctx, ts_weights_rows(ws, name, (int32_t[]){i}, 1, rows, width, got + i * width));
    for (int i = 0; i < rows * width; i++)
        ck_assert_msg(got[i] == want[i], "%s[%d]: %g, expected %g", name, i, got[i], want[i]);
}

START_TEST(tensors_are_renamed_and_cut)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    ts_weights *ws;
    ts_weights_stat s;
    write_numbers(dir, all, 39);
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", &names, &ws));
    expect_rows(ws, ctx, "block.0.q.weight", 2, 2, (float[]){0, 1, 2, 3});
    expect_rows(ws, ctx, "block.0.k.weight", 2, 2, (float[]){4, 5, 6, 7});
    expect_rows(ws, ctx, "block.0.v.weight", 2, 2, (float[]){8, 9, 10, 11});
    expect_rows(ws, ctx, "block.0.swap.weight", 4, 1, (float[]){20, 21, 18, 19});
    expect_rows(ws, ctx, "block.0.norm.weight", 2, 2, (float[]){22, 23, 26, 27});
    ck_assert(ts_weights_has(ws, "block.0.at.12.proj.bias") && ts_weights_has(ws, "bottom"));
    ck_assert(!ts_weights_has(ws, "extra.thing") && !ts_weights_has(ws, "some.scratch") &&
              !ts_weights_has(ws, "vae.of.another") && !ts_weights_has(ws, "of.another"));
    ts_weights_stats(ws, &s);
    ck_assert_int_eq(s.parameters, 12 + 6 + 4 + 4 + 2 + 4);
    ts_weights_close(ws);
    /* by the file itself, and biases, which have one dimension */
    char path[4096];
    const ts_weight *k;
    float numbers[2];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_ok(ctx, ts_weights_open(ctx, path, "model", &names, &ws));
    ck_ok(ctx, ts_find_vector(ws, 0, &k, 1, (long[]){2}, "block.0.k.bias"));
    ck_ok(ctx, ts_weights_enter(ws, 0));
    ck_ok(ctx, ctx->dev->ops->download(ctx->dev, numbers, k->t.p, sizeof numbers));
    ck_assert(numbers[0] == 14 && numbers[1] == 15);
    ts_weights_close(ws);
    testing_close(ctx);
    free(dir);
}
END_TEST

/* Sentences have the names that the file has. */
START_TEST(sentences_name_what_the_file_has)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    ts_weights *ws;
    const ts_weight *w;
    write_numbers(dir, all, 39);
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", &names, &ws));
    scratch_expect(&ctx->err, ts_find_vector(ws, 0, &w, 2, (long[]){7, 2}, "block.0.k.weight"),
                   TS_ESHAPE, "layers.0.qkv.weight", "[7, 2]", NULL);
    scratch_expect(&ctx->err, ts_find_vector(ws, 0, &w, 1, (long[]){2}, "block.3.at.1.proj.bias"),
                   TS_EMODEL, "\"layers.3.list.1.w0.bias\" [2] is missing", NULL);
    ts_weights_close(ws);
    write_numbers(dir,
                  (const char *const[]){T("layers.0.qkv.weight", "[2, 2]", "0, 16"),
                                        T("top", "[1]", "16, 20"), NULL},
                  5);
    scratch_expect(&ctx->err, ts_weights_open(ctx, dir, "model", &names, &ws), TS_EMODEL,
                   "layers.0.qkv.weight", "2 rows", "3 equal parts", NULL);
    write_numbers(dir,
                  (const char *const[]){T("layers.0.qkv.weight", "[3, 2]", "0, 24"),
                                        T("top", "[1]", "24, 28"), T("bottom", "[1]", "28, 32"),
                                        NULL},
                  8);
    scratch_expect(&ctx->err, ts_weights_open(ctx, dir, "model", &names, &ws), TS_EMODEL, "\"top\"",
                   "\"bottom\"", "two names of one", NULL);
    testing_close(ctx);
    free(dir);
}
END_TEST

START_TEST(shapes_may_differ_by_ones_in_front)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    ts_weights *ws;
    const ts_weight *a, *b, *c;
    float numbers[12];
    write_numbers(dir,
                  (const char *const[]){T("a", "[3, 2]", "0, 24"), T("b", "[1, 1, 2, 2]", "24, 40"),
                                        T("c", "[6, 1, 2]", "40, 88"), NULL},
                  22);
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &ws));
    ck_ok(ctx, ts_find_vector(ws, 0, &a, 3, (long[]){1, 3, 2}, "a"));
    ck_ok(ctx, ts_find_vector(ws, 0, &b, 2, (long[]){2, 2}, "b"));
    ck_ok(ctx, ts_find_vector(ws, 0, &c, 4, (long[]){2, 3, 1, 2}, "c")); /* [2 x 3, 1, 2] */
    const ts_weight *w;
    ck_assert_int_eq(ts_find_vector(ws, 0, &w, 3, (long[]){1, 2, 3}, "a"), TS_ESHAPE);
    ck_assert_int_eq(ts_find_vector(ws, 0, &w, 4, (long[]){2, 2, 1, 2}, "c"), TS_ESHAPE);
    ck_assert_int_eq(ts_find_vector(ws, 0, &w, 2, (long[]){6, 2}, "c"), TS_ESHAPE);
    ck_ok(ctx, ts_weights_enter(ws, 0));
    ck_ok(ctx, ctx->dev->ops->download(ctx->dev, numbers, a->t.p, 6 * sizeof *numbers));
    for (int i = 0; i < 6; i++) ck_assert(numbers[i] == (float)i);
    ck_ok(ctx, ctx->dev->ops->download(ctx->dev, numbers, b->t.p, 4 * sizeof *numbers));
    for (int i = 0; i < 4; i++) ck_assert(numbers[i] == (float)(6 + i));
    ck_ok(ctx, ctx->dev->ops->download(ctx->dev, numbers, c->t.p, 12 * sizeof *numbers));
    for (int i = 0; i < 12; i++) ck_assert(numbers[i] == (float)(10 + i));
    ts_weights_close(ws);
    testing_close(ctx);
    free(dir);
}
END_TEST

/* There and back: every tensor of a diffusers directory has an original name, which gives it
 * again. */
static void check_round(const char *folder, const char *stem, const ts_naming *naming, int most)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_checkpoint c;
    int same = 0;
    ck_ok(ctx, ts_checkpoint_open(ctx, folder, stem, NULL, &c));
    ck_assert_int_gt(c.names, 0);
    for (int i = 0; i < c.names; i++) {
        char original[TS_NAME_ROOM];
        ts_renamed back[TS_NAME_CUTS];
        same += !ts_naming_reverse(naming, c.name[i].name, original);
        ck_assert_int_eq(ts_naming_apply(naming, original, back), 1);
        ck_assert_str_eq(back[0].name, c.name[i].name);
    }
    ck_assert_msg(same <= most, "%s: %d names of %d have no rule", folder, same, c.names);
    ts_checkpoint_close(&c);
    testing_close(ctx);
}

static const struct {
    const char *folder, *stem;
    const ts_names *const *names;
    int naming, most; /* most: tensors that are called the same in both */
} rounds[] = {
    {"wan21-t2v/model/transformer", "diffusion_pytorch_model", &ts_dit_wan.names, 0, 2},
    {"wan21-t2v/model/vae", "diffusion_pytorch_model", &ts_vae_wan.names, 1, 0},
    {"wan22-ti2v-5b/model/vae", "diffusion_pytorch_model", &ts_vae_wan.names, 0, 0},
    {"wan21-t2v/model/text_encoder", "model", &ts_encoder_umt5.names, 0, 0},
    {"wan21-t2v/model/text_encoder", "model", &ts_encoder_umt5.names, 1, 0},
};

START_TEST(published_names_go_there_and_back)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", testing_fixture(rounds[_i].folder));
    check_round(folder, rounds[_i].stem, (*rounds[_i].names)->naming + rounds[_i].naming,
                rounds[_i].most);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("naming");
    TCase *tc = tcase_create("naming");
    tcase_add_test(tc, tensors_are_renamed_and_cut);
    tcase_add_test(tc, sentences_name_what_the_file_has);
    tcase_add_test(tc, shapes_may_differ_by_ones_in_front);
    tcase_add_loop_test(tc, published_names_go_there_and_back, 0, sizeof rounds / sizeof *rounds);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
