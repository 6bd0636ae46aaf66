/* Tensors under other names: rules, prefixes, fused tensors in parts, other shapes. */
#include "codecs/vae.h"
#include "dit/dit.h"
#include "prompts/text.h"
#include "tests/weights/gguf_writer.h"
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

/* Parts of what has to be decoded: with the scales of their own rows, from their own blocks. */
START_TEST(decoded_tensors_are_cut)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp(), path[4096], bytes[8 + 512] = {0};
    ts_weights *ws;
    const char *header = "{\"layers.0.qkv.weight\": {\"dtype\": \"F8_E4M3\", \"shape\": [6, 2], "
                         "\"data_offsets\": [0, 12]}, \"layers.0.qkv.scale_weight\": {\"dtype\": "
                         "\"F32\", \"shape\": [6, 1], \"data_offsets\": [12, 36]}}";
    size_t size = strlen(header);
    bytes[0] = (char)size;
    bytes[1] = (char)(size >> 8);
    memcpy(bytes + 8, header, size);
    memset(bytes + 8 + size, 0x38, 12); /* 1 */
    for (int i = 0; i < 6; i++)
        memcpy(bytes + 8 + size + 12 + 4 * i, (float[]){(float)(i + 1)}, sizeof(float));
    scratch_write(dir, "model.safetensors", bytes, 8 + size + 36);
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", &names, &ws));
    expect_rows(ws, ctx, "block.0.q.weight", 2, 2, (float[]){1, 1, 2, 2});
    expect_rows(ws, ctx, "block.0.v.weight", 2, 2, (float[]){5, 5, 6, 6});
    ts_weights_close(ws);

    struct { /* a row of 32 */
        uint16_t scale;
        int8_t q[32];
    } block[6];
    float row[32];
    for (int i = 0; i < 6; i++) {
        block[i].scale = scratch_f16(0.5F);
        memset(block[i].q, i + 1, sizeof block[i].q);
    }
    gguf_writer *w = gguf_begin();
    gguf_q8_0(w, "layers.0.qkv.weight", 6, 32, block);
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    gguf_end(w, path);
    ck_ok(ctx, ts_weights_open(ctx, path, "model", &names, &ws));
    ck_ok(ctx, ts_weights_rows(ws, "block.0.k.weight", (int32_t[]){1}, 1, 2, 32, row));
    ck_assert(row[0] == 2 && row[31] == 2);
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

START_TEST(shapes_may_differ_by_ones)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    ts_weights *ws;
    const ts_weight *a, *b, *c, *d;
    float numbers[12];
    write_numbers(dir,
                  (const char *const[]){T("a", "[3, 2]", "0, 24"), T("b", "[1, 1, 2, 2]", "24, 40"),
                                        T("c", "[6, 1, 2]", "40, 88"),
                                        T("d", "[2, 2, 1, 1, 1]", "88, 104"), NULL},
                  26);
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &ws));
    ck_ok(ctx, ts_find_vector(ws, 0, &a, 3, (long[]){1, 3, 2}, "a"));
    ck_ok(ctx, ts_find_vector(ws, 0, &b, 2, (long[]){2, 2}, "b"));
    ck_ok(ctx, ts_find_vector(ws, 0, &c, 4, (long[]){2, 3, 1, 2}, "c")); /* [2 x 3, 1, 2] */
    ck_ok(ctx, ts_find_vector(ws, 0, &d, 2, (long[]){2, 2}, "d"));
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
    ck_ok(ctx, ctx->dev->ops->download(ctx->dev, numbers, d->t.p, 4 * sizeof *numbers));
    for (int i = 0; i < 4; i++) ck_assert(numbers[i] == (float)(22 + i));
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

/* Rules as the authors' converters have them, one of each kind; by hand, as files of tests are made
 * by the rules themselves. */
static const struct {
    const ts_names *const *names;
    int naming;
    const char *from, *to[4];
    int cut[4][4];
} published[] = {
#define HUNYUAN &ts_dit_hunyuanvideo.names
    {HUNYUAN, 0, "img_in.proj.weight", {"x_embedder.proj.weight"}, {{0}}},
    {HUNYUAN, 0, "time_in.mlp.0.bias", {"time_text_embed.timestep_embedder.linear_1.bias"}, {{0}}},
    {HUNYUAN,
     0,
     "guidance_in.mlp.2.bias",
     {"time_text_embed.guidance_embedder.linear_2.bias"},
     {{0}}},
    {HUNYUAN,
     0,
     "vector_in.out_layer.weight",
     {"time_text_embed.text_embedder.linear_2.weight"},
     {{0}}},
    {HUNYUAN, 0, "txt_in.input_embedder.weight", {"context_embedder.proj_in.weight"}, {{0}}},
    {HUNYUAN,
     0,
     "txt_in.t_embedder.mlp.2.weight",
     {"context_embedder.time_text_embed.timestep_embedder.linear_2.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "txt_in.c_embedder.linear_1.weight",
     {"context_embedder.time_text_embed.text_embedder.linear_1.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.bias",
     {"context_embedder.token_refiner.refiner_blocks.1.attn.to_q.bias",
      "context_embedder.token_refiner.refiner_blocks.1.attn.to_k.bias",
      "context_embedder.token_refiner.refiner_blocks.1.attn.to_v.bias"},
     {{3, 0, 1, 0}, {3, 1, 1, 0}, {3, 2, 1, 0}}},
    {HUNYUAN,
     0,
     "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.weight",
     {"context_embedder.token_refiner.refiner_blocks.0.norm_out.linear.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "txt_in.individual_token_refiner.blocks.0.mlp.fc2.weight",
     {"context_embedder.token_refiner.refiner_blocks.0.ff.net.2.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.img_mod.linear.weight",
     {"transformer_blocks.7.norm1.linear.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.txt_mod.linear.weight",
     {"transformer_blocks.7.norm1_context.linear.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.txt_attn_qkv.weight",
     {"transformer_blocks.7.attn.add_q_proj.weight", "transformer_blocks.7.attn.add_k_proj.weight",
      "transformer_blocks.7.attn.add_v_proj.weight"},
     {{3, 0, 1, 0}, {3, 1, 1, 0}, {3, 2, 1, 0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.txt_attn_k_norm.weight",
     {"transformer_blocks.7.attn.norm_added_k.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.img_attn_q_norm.weight",
     {"transformer_blocks.7.attn.norm_q.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.img_attn_proj.weight",
     {"transformer_blocks.7.attn.to_out.0.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.txt_attn_proj.weight",
     {"transformer_blocks.7.attn.to_add_out.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.txt_mlp.fc1.weight",
     {"transformer_blocks.7.ff_context.net.0.proj.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "double_blocks.7.img_mlp.fc2.weight",
     {"transformer_blocks.7.ff.net.2.weight"},
     {{0}}},
    {HUNYUAN,
     0,
     "single_blocks.39.linear1.weight",
     {"single_transformer_blocks.39.attn.to_q.weight",
      "single_transformer_blocks.39.attn.to_k.weight",
      "single_transformer_blocks.39.attn.to_v.weight",
      "single_transformer_blocks.39.proj_mlp.weight"},
     {{7, 0, 1, 0}, {7, 1, 1, 0}, {7, 2, 1, 0}, {7, 3, 4, 0}}},
    {HUNYUAN,
     0,
     "single_blocks.39.linear2.bias",
     {"single_transformer_blocks.39.proj_out.bias"},
     {{0}}},
    {HUNYUAN,
     0,
     "single_blocks.39.modulation.linear.bias",
     {"single_transformer_blocks.39.norm.linear.bias"},
     {{0}}},
    {HUNYUAN,
     0,
     "single_blocks.39.k_norm.weight",
     {"single_transformer_blocks.39.attn.norm_k.weight"},
     {{0}}},
    {HUNYUAN, 0, "final_layer.linear.weight", {"proj_out.weight"}, {{0}}},
    /* shift then scale there, scale then shift here */
    {HUNYUAN,
     0,
     "final_layer.adaLN_modulation.1.weight",
     {"norm_out.linear.weight"},
     {{2, 1, 1, 1}}},
    {HUNYUAN,
     1,
     "double_blocks.7.img_attn.qkv.weight",
     {"transformer_blocks.7.attn.to_q.weight", "transformer_blocks.7.attn.to_k.weight",
      "transformer_blocks.7.attn.to_v.weight"},
     {{3, 0, 1, 0}, {3, 1, 1, 0}, {3, 2, 1, 0}}},
    {HUNYUAN,
     1,
     "double_blocks.7.img_mod.lin.weight",
     {"transformer_blocks.7.norm1.linear.weight"},
     {{0}}},
    {HUNYUAN,
     1,
     "double_blocks.7.txt_attn.norm.query_norm.scale",
     {"transformer_blocks.7.attn.norm_added_q.weight"},
     {{0}}},
    {HUNYUAN,
     1,
     "double_blocks.7.img_mlp.0.weight",
     {"transformer_blocks.7.ff.net.0.proj.weight"},
     {{0}}},
    {HUNYUAN,
     1,
     "time_in.in_layer.weight",
     {"time_text_embed.timestep_embedder.linear_1.weight"},
     {{0}}},
    {HUNYUAN,
     1,
     "txt_in.c_embedder.out_layer.weight",
     {"context_embedder.time_text_embed.text_embedder.linear_2.weight"},
     {{0}}},
    {HUNYUAN,
     1,
     "txt_in.individual_token_refiner.blocks.0.self_attn.proj.weight",
     {"context_embedder.token_refiner.refiner_blocks.0.attn.to_out.0.weight"},
     {{0}}},
    {HUNYUAN,
     1,
     "single_blocks.0.norm.key_norm.scale",
     {"single_transformer_blocks.0.attn.norm_k.weight"},
     {{0}}},
    {HUNYUAN,
     1,
     "single_blocks.0.modulation.lin.weight",
     {"single_transformer_blocks.0.norm.linear.weight"},
     {{0}}},
#define COGVIDEOX &ts_dit_cogvideox.names
    {COGVIDEOX,
     0,
     "transformer.layers.3.attention.query_key_value.weight",
     {"transformer_blocks.3.attn1.to_q.weight", "transformer_blocks.3.attn1.to_k.weight",
      "transformer_blocks.3.attn1.to_v.weight"},
     {{3, 0, 1, 0}, {3, 1, 1, 0}, {3, 2, 1, 0}}},
    {COGVIDEOX,
     0,
     "transformer.layers.3.mlp.dense_4h_to_h.bias",
     {"transformer_blocks.3.ff.net.2.bias"},
     {{0}}},
    {COGVIDEOX,
     0,
     "transformer.layers.3.post_attention_layernorm.weight",
     {"transformer_blocks.3.norm2.norm.weight"},
     {{0}}},
    /* chunks 0 to 2 and 6 to 8, 3 to 5 and 9 to 11 */
    {COGVIDEOX,
     0,
     "mixins.adaln_layer.adaLN_modulations.3.1.weight",
     {"transformer_blocks.3.norm1.linear.weight", "transformer_blocks.3.norm2.linear.weight"},
     {{12, 0, 3, 7}, {12, 3, 3, 10}}},
    {COGVIDEOX,
     0,
     "mixins.adaln_layer.key_layernorm_list.3.bias",
     {"transformer_blocks.3.attn1.norm_k.bias"},
     {{0}}},
    {COGVIDEOX, 0, "mixins.patch_embed.text_proj.weight", {"patch_embed.text_proj.weight"}, {{0}}},
    {COGVIDEOX, 0, "mixins.final_layer.norm_final.weight", {"norm_out.norm.weight"}, {{0}}},
    {COGVIDEOX,
     0,
     "mixins.final_layer.adaLN_modulation.1.weight",
     {"norm_out.linear.weight"},
     {{0}}},
    {COGVIDEOX, 0, "mixins.final_layer.linear.weight", {"proj_out.weight"}, {{0}}},
    {COGVIDEOX, 0, "transformer.final_layernorm.weight", {"norm_final.weight"}, {{0}}},
    {COGVIDEOX, 0, "time_embed.2.weight", {"time_embedding.linear_2.weight"}, {{0}}},
    {COGVIDEOX, 1, "blocks.3.attn1.to_q.weight", {"transformer_blocks.3.attn1.to_q.weight"}, {{0}}},
#define VAE &ts_vae_hunyuanvideo.names
    {VAE,
     0,
     "decoder.up.3.block.2.conv1.conv.weight",
     {"decoder.up_blocks.0.resnets.2.conv1.conv.weight"},
     {{0}}},
    {VAE,
     0,
     "decoder.up.1.upsample.conv.conv.bias",
     {"decoder.up_blocks.2.upsamplers.0.conv.conv.bias"},
     {{0}}},
    {VAE,
     0,
     "decoder.up.0.block.0.nin_shortcut.conv.weight",
     {"decoder.up_blocks.3.resnets.0.conv_shortcut.conv.weight"},
     {{0}}},
    {VAE,
     0,
     "encoder.down.1.downsample.conv.conv.weight",
     {"encoder.down_blocks.1.downsamplers.0.conv.conv.weight"},
     {{0}}},
    {VAE,
     0,
     "encoder.mid.attn_1.norm.weight",
     {"encoder.mid_block.attentions.0.group_norm.weight"},
     {{0}}},
    {VAE,
     0,
     "decoder.mid.attn_1.proj_out.weight",
     {"decoder.mid_block.attentions.0.to_out.0.weight"},
     {{0}}},
    {VAE, 0, "decoder.norm_out.bias", {"decoder.conv_norm_out.bias"}, {{0}}},
#define LLAMA &ts_encoder_llama.names
    {LLAMA, 0, "token_embd.weight", {"embed_tokens.weight"}, {{0}}},
    {LLAMA, 0, "blk.31.attn_output.weight", {"layers.31.self_attn.o_proj.weight"}, {{0}}},
    {LLAMA, 0, "blk.31.attn_norm.weight", {"layers.31.input_layernorm.weight"}, {{0}}},
    {LLAMA, 0, "blk.31.ffn_norm.weight", {"layers.31.post_attention_layernorm.weight"}, {{0}}},
    {LLAMA, 0, "blk.31.ffn_up.weight", {"layers.31.mlp.up_proj.weight"}, {{0}}},
    {LLAMA, 0, "output_norm.weight", {"norm.weight"}, {{0}}},
};

START_TEST(names_are_as_published)
{
    ts_renamed got[TS_NAME_CUTS];
    const ts_naming *naming = (*published[_i].names)->naming + published[_i].naming;
    int n = ts_naming_apply(naming, published[_i].from, got), want = 0;
    while (want < 4 && published[_i].to[want]) want++;
    ck_assert_int_eq(n, want);
    for (int k = 0; k < n; k++) {
        const int *cut = published[_i].cut[k];
        ck_assert_str_eq(got[k].name, published[_i].to[k]);
        ck_assert_msg(got[k].cut.of == cut[0] && got[k].cut.first == cut[1] &&
                          got[k].cut.n == cut[2] && got[k].cut.then == cut[3],
                      "%s", got[k].name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("naming");
    TCase *tc = tcase_create("naming");
    tcase_add_test(tc, tensors_are_renamed_and_cut);
    tcase_add_test(tc, decoded_tensors_are_cut);
    tcase_add_test(tc, sentences_name_what_the_file_has);
    tcase_add_test(tc, shapes_may_differ_by_ones);
    tcase_add_loop_test(tc, published_names_go_there_and_back, 0, sizeof rounds / sizeof *rounds);
    tcase_add_loop_test(tc, names_are_as_published, 0, sizeof published / sizeof *published);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
