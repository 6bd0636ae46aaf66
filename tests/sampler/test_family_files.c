/* Single files of HunyuanVideo, CogVideoX and Open-Sora-Plan, made of the fixtures' directories in
 * the names that their authors, ComfyUI and GGUF files give to tensors, beside a directory and
 * alone; what they are told to be. */
#include "codecs/vae_video_files.h"
#include "sampler/model.h"
#include "tests/cli/program.h"
#include "tests/sampler/pipeline.h"
#include "tests/sampler/renamed.h"
#include "tests/weights/gguf_writer.h"
#include "tests/weights/scratch.h"
#include "weights/kinds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HUNYUAN "hunyuanvideo-t2v"

/* A file of a fixture's model. */
static const char *part_of(const char *fixture, const char *part)
{
    static char file[4096];
    snprintf(file, sizeof file, "%s/model/%s.safetensors", testing_fixture(fixture), part);
    return file;
}

/* ---- transformers ---- */

static const struct {
    const char *fixture;
    const ts_dit_class *dit;
    int naming; /* -1: diffusers' */
    const char *prefix;
} transformers[] = {
    {HUNYUAN, &ts_dit_hunyuanvideo, 0, ""},
    {HUNYUAN, &ts_dit_hunyuanvideo, 0, "model.diffusion_model."},
    {HUNYUAN, &ts_dit_hunyuanvideo, 1, ""},
    {HUNYUAN, &ts_dit_hunyuanvideo, -1, ""},
    {"cogvideox-2b", &ts_dit_cogvideox, 0, "model.diffusion_model."},
    {"cogvideox15-5b", &ts_dit_cogvideox, 0, ""},
    {"cogvideox-2b", &ts_dit_cogvideox, 1, "diffusion_model."},
    {"cogvideox15-5b", &ts_dit_cogvideox, -1, ""},
    {"cogvideox-5b-i2v", &ts_dit_cogvideox, 1, ""},
    {"cogvideox15-5b-i2v", &ts_dit_cogvideox, 0, ""},
    {"open-sora-plan-v1.2", &ts_dit_opensora, -1, "module."},
    {"pixart-sigma", &ts_dit_pixart, -1, ""},
};
enum { TRANSFORMERS = sizeof transformers / sizeof *transformers };

static char *write_transformer(int i)
{
    const ts_names *names = transformers[i].dit->names;
    return renamed_weights(
        part_of(transformers[i].fixture, "transformer/diffusion_pytorch_model"), "",
        transformers[i].naming < 0 ? NULL : names->naming + transformers[i].naming,
        transformers[i].prefix);
}

/* As the directory, to the bit, so that no warning is due: the config agrees. */
START_TEST(transformers_by_file)
{
    char *path = write_transformer(_i);
    pipeline_render_files(transformers[_i].fixture, "transformer", path, _i % 2 ? "far" : "cpu",
                          _i % 2 == 1);
    free(path);
}
END_TEST

/* What `info` says of the file. */
START_TEST(transformers_are_known)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *path = write_transformer(_i), *json;
    ck_ok(c, ts_file_json(c, path, &json));
    ck_assert_msg(strstr(json, transformers[_i].dit->cls), "%s", json);
    ck_assert_msg(strstr(json, "\"num_layers\":"), "%s", json);
    ck_assert_msg((strstr(json, "of its authors") != NULL) == (transformers[_i].naming >= 0), "%s",
                  json);
    free(json);
    free(path);
    testing_close(c);
}
END_TEST

/* In two parts, every other tensor in the second: marks of the kind are apart. The second's path,
 * malloc'd. */
static char *split_file(const char *path)
{
    ts_err err = {0};
    ts_bag *bag = testing_bag(path), *half[2] = {ts_bag_new(), ts_bag_new()};
    char *dir = testing_tmp(), *name = NULL;
    for (int i = 0; i < ts_bag_count(bag); i++) {
        const ts_host *t = ts_bag_find(bag, ts_bag_name(bag, i));
        ts_bag_put(half[i % 2], ts_bag_name(bag, i), t->type, t->nd, t->dim, t->data);
    }
    for (int i = 0; i < 2; i++) {
        free(name);
        ck_assert(asprintf(&name, "%s/dit-0000%d-of-00002.safetensors", dir, i + 1) > 0);
        ck_assert_msg(!ts_bag_save(&err, half[i], name), "%s", err.text);
        ts_bag_free(half[i]);
    }
    ts_bag_free(bag);
    free(dir);
    return name;
}

START_TEST(transformers_in_parts)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *whole = write_transformer(_i), *second = split_file(whole), *json;
    ck_ok(c, ts_file_json(c, second, &json));
    ck_assert_msg(strstr(json, transformers[_i].dit->cls) && strstr(json, "\"files\":2"), "%s",
                  json);
    free(json);
    testing_close(c);
    pipeline_render_files(transformers[_i].fixture, "transformer", second, "cpu", false);
    free(second);
    free(whole);
}
END_TEST

/* ---- VAEs and text encoders ---- */

static const struct {
    const char *fixture, *component, *file, *own, *other; /* own, other: prefixes */
    const ts_names *const names;                          /* NULL: its names stay */
    const char *is;
} parts[] = {
    {HUNYUAN, "vae", "vae/diffusion_pytorch_model", "", "", NULL, "HunyuanVideo VAE"},
    {HUNYUAN, "vae", "vae/diffusion_pytorch_model", "", "first_stage_model.",
     &ts_vae_hunyuanvideo_names, "HunyuanVideo VAE"},
    {HUNYUAN, "text_encoder", "text_encoder/model", "", "model.", NULL, "Llama text encoder"},
    {HUNYUAN, "text_encoder", "text_encoder/model", "", "language_model.model.", NULL,
     "Llama text encoder"},
    {HUNYUAN, "text_encoder_2", "text_encoder_2/model", "", "", NULL, "CLIP text encoder"},
    {HUNYUAN, "text_encoder_2", "text_encoder_2/model", "text_model.", "", NULL,
     "CLIP text encoder"},
    {"cogvideox-2b", "vae", "vae/diffusion_pytorch_model", "", "vae.", NULL, "CogVideoX VAE"},
    {"open-sora-plan-v1.2", "vae", "vae/diffusion_pytorch_model", "", "", NULL,
     "Open-Sora-Plan VAE"},
    {"open-sora-plan-v1.2", "text_encoder", "text_encoder/model", "", "", NULL, "T5 text encoder"},
};

START_TEST(parts_by_file)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *json,
        *path = renamed_weights(part_of(parts[_i].fixture, parts[_i].file), parts[_i].own,
                                parts[_i].names ? parts[_i].names->naming : NULL, parts[_i].other);
    ck_ok(c, ts_file_json(c, path, &json));
    ck_assert_msg(strstr(json, parts[_i].is), "%s", json);
    free(json);
    testing_close(c);
    pipeline_render_files(parts[_i].fixture, parts[_i].component, path, "cpu", false);
    free(path);
}
END_TEST

/* ---- Llama in a GGUF ---- */

/* Tokens and merges of a tokenizer.json as keys. */
static void put_vocabulary(gguf_writer *w, const char *file)
{
    enum { MOST = 4096 };
    static const char *token[MOST], *merge[MOST];
    static char text[MOST][64];
    static int32_t type[MOST];
    cJSON *j = NULL, *one;
    ts_err err = {0};
    int n = 0, merges = 0;
    ck_assert_msg(!ts_json_load(&err, file, &j), "%s", err.text);
    cJSON *model = cJSON_GetObjectItem(j, "model");
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(model, "vocab"))
    {
        token[one->valueint] = one->string;
        type[one->valueint] = 1;
        n++;
    }
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j, "added_tokens"))
    {
        int id = cJSON_GetObjectItem(one, "id")->valueint;
        token[id] = cJSON_GetObjectItem(one, "content")->valuestring;
        type[id] = 3;
        n += id >= n;
    }
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(model, "merges"))
    {
        if (cJSON_IsArray(one))
            snprintf(text[merges], sizeof text[merges], "%s %s", one->child->valuestring,
                     one->child->next->valuestring);
        else
            snprintf(text[merges], sizeof text[merges], "%s", one->valuestring);
        merge[merges] = text[merges];
        merges++;
    }
    gguf_text(w, "tokenizer.ggml.model", "gpt2");
    gguf_text(w, "tokenizer.ggml.pre", "llama-bpe");
    gguf_texts(w, "tokenizer.ggml.tokens", token, (uint64_t)n);
    gguf_i32s(w, "tokenizer.ggml.token_type", type, (uint64_t)n);
    gguf_texts(w, "tokenizer.ggml.merges", merge, (uint64_t)merges);
    gguf_u32(w, "tokenizer.ggml.bos_token_id", 660);
    cJSON_Delete(j);
}

/* Rows j and j + d / 2 of each of the heads behind each other, as llama.cpp's converter does it. */
static void pair_rows(const float *from, long rows, long width, long d, float *to)
{
    for (long r = 0; r < rows; r++) {
        long head = r / d, j = r % d, at = head * d + (j < d / 2 ? 2 * j : 2 * (j - d / 2) + 1);
        memcpy(to + at * width, from + r * width, (size_t)width * sizeof *to);
    }
}

/* The Llama of the fixture with everything that a GGUF carries; keys but for that of the heads only
 * where whole. */
static char *write_llama(bool whole, const char *scaling)
{
    enum { MOST = 1 << 15, HEAD = 8 };
    const ts_naming *naming = ts_encoder_llama.names->naming;
    char *dir = testing_tmp(), *path, file[4096];
    static float numbers[MOST], paired[MOST];
    ts_bag *bag = testing_bag(part_of(HUNYUAN, "text_encoder/model"));
    gguf_writer *w = gguf_begin();
    gguf_text(w, "general.architecture", "llama");
    gguf_u32(w, "llama.attention.head_count", 4);
    gguf_u32(w, "llama.attention.head_count_kv", 2);
    gguf_u32(w, "llama.attention.key_length", HEAD);
    gguf_f32(w, "llama.rope.freq_base", 500000);
    gguf_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
    gguf_u32(w, "llama.context_length", 8192);
    if (scaling) gguf_text(w, "llama.rope.scaling.type", scaling);
    snprintf(file, sizeof file, "%s/model/tokenizer/tokenizer.json", testing_fixture(HUNYUAN));
    if (whole) put_vocabulary(w, file);
    for (int i = 0; i < ts_bag_count(bag); i++) {
        const char *name = ts_bag_name(bag, i);
        const ts_host *t = ts_bag_find(bag, name);
        char other[TS_NAME_ROOM];
        long n = 1;
        for (int d = 0; d < t->nd; d++) n *= t->dim[d];
        ck_assert(n <= MOST && ts_naming_reverse(naming, name, other));
        ts_widen(t->type, t->data, (size_t)n, numbers);
        bool turned = strstr(name, "q_proj") || strstr(name, "k_proj");
        if (turned) pair_rows(numbers, t->dim[0], t->dim[1], HEAD, paired);
        gguf_tensor(w, other, t->nd, t->dim, turned ? paired : numbers);
    }
    ck_assert(asprintf(&path, "%s/llama.gguf", dir) > 0);
    gguf_end(w, path);
    ts_bag_free(bag);
    free(dir);
    return path;
}

START_TEST(llama_in_a_gguf)
{
    char *path = write_llama(true, NULL);
    pipeline_render_files(HUNYUAN, "text_encoder", path, _i ? "far" : "cpu", _i == 1);
    free(path);
}
END_TEST

/* Ids by the file's own keys and by tokenizer.json are the same. */
START_TEST(vocabularies_of_keys)
{
    static const char *const texts[] = {
        "",
        "a whale's  tail\n\n 12345 x",
        "caf\xC3\xA9 \xF0\x9F\x99\x82\t!?",
        "<|start_header_id|>user<|end_header_id|>\n\nthe WINDOW<|eot_id|>",
        "<|eot_id",
        "\xC2\xA0 we'LL"};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *path = write_llama(true, NULL), folder[4096];
    ts_tokenizer *keys, *json;
    snprintf(folder, sizeof folder, "%s/model/tokenizer", testing_fixture(HUNYUAN));
    ck_assert(ts_tokenizer_is_in(path));
    ck_ok(c, ts_tokenizer_open(c, path, &keys));
    ck_ok(c, ts_tokenizer_open(c, folder, &json));
    ck_assert_int_eq(ts_token_count(keys), ts_token_count(json));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t *a, *b;
        int n, m;
        bool cut;
        ck_ok(c, ts_tokenize(keys, texts[i], 100, &a, &n, &cut));
        ck_ok(c, ts_tokenize(json, texts[i], 100, &b, &m, &cut));
        ck_assert_int_eq(n, m);
        ck_assert_msg(!memcmp(a, b, (size_t)n * sizeof *a), "%s", texts[i]);
        free(a);
        free(b);
    }
    ts_tokenizer_close(keys);
    ts_tokenizer_close(json);
    free(path);
    testing_close(c);
}
END_TEST

/* What a vocabulary can not be without, or is of another kind. */
START_TEST(odd_vocabularies_of_keys)
{
    static const char *const tokens[] = {"a", "b", "ab", "<x>"}, *const merges[] = {"a b"},
                             *const strange[] = {"a c"};
    static const int32_t types[] = {1, 1, 1, 3};
    static const struct {
        const char *pre;
        int types, merges, bos;
        const char *says;
    } row[] = {{"qwen2", 4, 1, 0, "\"qwen2\""},
               {"llama-bpe", 3, 1, 0, "4, 3"},
               {"llama-bpe", 4, 0, 0, "without tokenizer.ggml.merges"},
               {"llama-bpe", 4, 2, 0, "not in the vocab"},
               {"llama-bpe", 4, 1, 0, "byte"}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp(), path[4096];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_tokenizer *t;
        gguf_writer *w = gguf_begin();
        gguf_text(w, "tokenizer.ggml.model", "gpt2");
        gguf_text(w, "tokenizer.ggml.pre", row[i].pre);
        gguf_texts(w, "tokenizer.ggml.tokens", tokens, 4);
        gguf_i32s(w, "tokenizer.ggml.token_type", types, (uint64_t)row[i].types);
        if (row[i].merges)
            gguf_texts(w, "tokenizer.ggml.merges", row[i].merges == 2 ? strange : merges, 1);
        snprintf(path, sizeof path, "%s/%zu.gguf", dir, i);
        gguf_end(w, path);
        ck_assert_int_eq(ts_tokenizer_open(c, path, &t), TS_EMODEL);
        ck_assert_msg(strstr(ts_error(c), row[i].says) && strstr(ts_error(c), path), "%s",
                      ts_error(c));
    }
    free(dir);
    testing_close(c);
}
END_TEST

/* ---- alone ---- */

typedef struct {
    const char *name;
    long dim[5]; /* up to the first 0 */
} shape;
#define SHAPES 24
/* Files with what tells a model, all zeros, in one folder with the vocabularies of the fixture. */
static char *write_shapes(const char *dir, const char *name, const shape *tensor)
{
    char *path;
    ts_err err = {0};
    ts_bag *bag = ts_bag_new();
    for (int i = 0; i < SHAPES && tensor[i].name; i++) {
        int nd = 0;
        while (nd < 5 && tensor[i].dim[nd]) nd++;
        ts_bag_put(bag, tensor[i].name, TS_F32, nd, tensor[i].dim, NULL);
    }
    ck_assert(asprintf(&path, "%s/%s", dir, name) > 0);
    ck_assert_msg(!ts_bag_save(&err, bag, path), "%s", err.text);
    ts_bag_free(bag);
    return path;
}

static const shape hunyuan_shapes[SHAPES] = {
    {"img_in.proj.weight", {128, 16, 1, 2, 2}},
    {"time_in.mlp.2.weight", {128, 128}},
    {"guidance_in.mlp.0.weight", {128, 256}},
    {"txt_in.input_embedder.weight", {128, 128}},
    {"txt_in.individual_token_refiner.blocks.1.norm1.weight", {128}},
    {"vector_in.in_layer.weight", {128, 64}},
    {"double_blocks.0.img_attn_qkv.weight", {384, 128}},
    {"double_blocks.0.img_attn_q_norm.weight", {128}},
    {"double_blocks.0.img_mlp.fc1.weight", {512, 128}},
    {"single_blocks.2.linear2.weight", {128, 640}},
    {"final_layer.linear.weight", {64, 128}},
};
static const shape hunyuan_vae_shapes[SHAPES] = {
    {"decoder.conv_in.conv.weight", {64, 16, 3, 3, 3}},
    {"decoder.mid_block.attentions.0.to_q.weight", {64, 64}},
    {"decoder.up_blocks.0.resnets.0.conv1.conv.weight", {64, 64, 3, 3, 3}},
    {"decoder.up_blocks.0.resnets.2.conv1.conv.weight", {64, 64, 3, 3, 3}},
    {"decoder.up_blocks.1.resnets.0.conv1.conv.weight", {64, 64, 3, 3, 3}},
    {"decoder.up_blocks.2.resnets.0.conv1.conv.weight", {32, 64, 3, 3, 3}},
    {"decoder.up_blocks.3.resnets.0.conv1.conv.weight", {32, 32, 3, 3, 3}},
};
static const shape llama_shapes[SHAPES] = {
    {"model.embed_tokens.weight", {680, 128}},
    {"model.layers.0.self_attn.q_proj.weight", {256, 128}},
    {"model.layers.0.self_attn.k_proj.weight", {128, 128}},
    {"model.layers.0.mlp.gate_proj.weight", {64, 128}},
    {"model.layers.3.mlp.gate_proj.weight", {64, 128}},
};
static const shape clip_shapes[SHAPES] = {
    {"text_model.embeddings.token_embedding.weight", {674, 64}},
    {"text_model.embeddings.position_embedding.weight", {77, 64}},
    {"text_model.encoder.layers.0.self_attn.q_proj.weight", {64, 64}},
    {"text_model.encoder.layers.0.mlp.fc1.weight", {64, 64}},
};
static const shape t5_shapes[SHAPES] = {
    {"shared.weight", {400, 4096}},
    {"encoder.block.0.layer.0.SelfAttention.q.weight", {64, 1}},
    {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", {32, 1}},
    {"encoder.block.0.layer.1.DenseReluDense.wi_0.weight", {64, 1}},
    {"encoder.block.0.layer.1.DenseReluDense.wi_1.weight", {64, 1}},
};
static const shape cogvideox_shapes[3][SHAPES] = {
    {
        {"patch_embed.proj.weight", {1920, 16, 2, 2}},
        {"patch_embed.text_proj.weight", {1, 4096}},
        {"transformer_blocks.0.norm1.linear.weight", {6 * 1920, 1}},
        {"transformer_blocks.0.attn1.norm_q.weight", {64}},
        {"proj_out.weight", {64, 1}},
    },
    {
        {"patch_embed.proj.weight", {3072, 128}},
        {"patch_embed.text_proj.weight", {1, 4096}},
        {"transformer_blocks.0.norm1.linear.weight", {6 * 3072, 1}},
        {"transformer_blocks.0.attn1.norm_q.weight", {64}},
        {"proj_out.weight", {128, 1}},
    },
    {
        {"patch_embed.proj.weight", {3072, 32, 2, 2}},
        {"patch_embed.text_proj.weight", {1, 4096}},
        {"patch_embed.pos_embedding", {1, 1, 1}},
        {"transformer_blocks.0.norm1.linear.weight", {6 * 3072, 1}},
        {"transformer_blocks.0.attn1.norm_q.weight", {64}},
        {"proj_out.weight", {64, 1}},
    },
};
static const shape cogvideox_vae_shapes[SHAPES] = {
    {"decoder.conv_in.conv.weight", {64, 16, 3, 3, 3}},
    {"decoder.mid_block.resnets.0.norm1.norm_layer.weight", {64}},
    {"decoder.up_blocks.0.resnets.0.conv1.conv.weight", {64, 64, 1, 1, 1}},
    {"decoder.up_blocks.0.resnets.1.conv1.conv.weight", {64, 64, 1, 1, 1}},
    {"decoder.up_blocks.1.resnets.0.conv1.conv.weight", {64, 64, 1, 1, 1}},
    {"decoder.up_blocks.2.resnets.0.conv1.conv.weight", {64, 64, 1, 1, 1}},
    {"decoder.up_blocks.3.resnets.0.conv1.conv.weight", {32, 64, 1, 1, 1}},
};

/* HunyuanVideo by its four files is as published; one missing is named, with its tokenizer. */
START_TEST(hunyuanvideo_alone)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    char *dit = write_shapes(dir, "hunyuan_bf16.safetensors", hunyuan_shapes),
         *vae = write_shapes(dir, "hunyuan_vae.safetensors", hunyuan_vae_shapes),
         *llama = write_shapes(dir, "llava_llama3.safetensors", llama_shapes),
         *clip = write_shapes(dir, "clip_l.safetensors", clip_shapes);
    ts_model *m;
    ts_model_files files = {.size = sizeof files, .transformer = dit};
    ck_assert_int_eq(ts_model_open_files(c, NULL, &files, &m), TS_EMODEL);
    ck_assert_msg(strstr(ts_error(c), "a VAE, a text encoder, a second text encoder (CLIP) must be "
                                      "given, too"),
                  "%s", ts_error(c));
    files.vae = vae;
    files.text_encoder = llama;
    files.text_encoder_2 = clip;
    ck_assert_int_eq(ts_model_open_files(c, NULL, &files, &m), TS_EMODEL);
    ck_assert_msg(strstr(ts_error(c), "llava_llama3.safetensors: no tokenizer is in it") &&
                      strstr(ts_error(c), "(tokenizer/, tokenizer.json)"),
                  "%s", ts_error(c));
    program_expect(program_shell("cp -rL %s/tokenizer %s", testing_fixture(HUNYUAN "/model"), dir),
                   0);
    ck_assert_int_eq(ts_model_open_files(c, NULL, &files, &m), TS_EMODEL);
    ck_assert_msg(strstr(ts_error(c), "clip_l.safetensors: no tokenizer is in it") &&
                      strstr(ts_error(c), "tokenizer_2/, openai/clip-vit-large-patch14/") &&
                      strstr(ts_error(c), "vocab.json"),
                  "%s", ts_error(c));
    program_expect(
        program_shell("cp -L %s/tokenizer_2/*.* %s", testing_fixture(HUNYUAN "/model"), dir), 0);
    ck_ok(c, ts_model_open_files(c, NULL, &files, &m));
    ck_assert_str_eq(m->dir.pipeline, "HunyuanVideoPipeline");
    ck_assert(m->shift == 7 && m->solver == TS_EULER && m->def.guidance == 6);
    ck_assert(m->dit_info.layers == 4 && m->dit_info.heads == 1 && m->dit_info.text_dim == 128);
    ck_assert(m->vae_info.stride == 8 && m->vae_info.time_stride == 4);
    ck_assert_float_eq_tol(m->vae_info.std[0], 1 / 0.476986F, 1e-6F);
    ts_tokenizer *t;
    ck_ok(c, ts_model_tokenizer(m, 0, &t));
    ck_ok(c, ts_model_tokenizer(m, 1, &t));
    ts_model_close(m);
    ck_assert_str_eq(testing_warned(c), "");
    free(dit);
    free(vae);
    free(llama);
    free(clip);
    free(dir);
    testing_close(c);
}
END_TEST

/* CogVideoX' timetable and the scale of its latents are by the width of the transformer. */
START_TEST(cogvideox_alone)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    char *dit = write_shapes(dir, "cogvideox.safetensors", cogvideox_shapes[_i]),
         *vae = write_shapes(dir, "cogvideox_vae.safetensors", cogvideox_vae_shapes),
         *t5 = write_shapes(dir, "t5xxl.safetensors", t5_shapes);
    ts_model *m;
    ts_model_files files = {
        .size = sizeof files, .transformer = dit, .vae = vae, .text_encoder = t5};
    program_expect(
        program_shell("cp -rL %s/tokenizer %s", testing_fixture("cogvideox-2b/model"), dir), 0);
    ck_ok(c, ts_model_open_files(c, NULL, &files, &m));
    ck_assert_str_eq(m->dir.pipeline,
                     _i == 2 ? "CogVideoXImageToVideoPipeline" : "CogVideoXPipeline");
    ck_assert(m->solver == TS_DDIM && m->diffusion.zero_snr &&
              m->diffusion.snr_shift == (_i ? 1 : 3));
    ck_assert(m->dit_info.patch[0] == (_i == 1 ? 2 : 1) && m->dit_info.heads == (_i ? 48 : 30));
    ck_assert(m->def.frames == (_i == 1 ? 81 : 49));
    ck_assert(m->vae_info.images_as_decoded == (_i == 1));
    ck_assert_float_eq_tol(m->vae_info.std[0], _i ? 1 / 0.7F : 1 / 1.15258426F, 1e-6F);
    ts_model_close(m);
    free(dit);
    free(vae);
    free(t5);
    free(dir);
    testing_close(c);
}
END_TEST

/* What shapes leave open is said. */
START_TEST(shapes_that_tell_too_little)
{
    static const struct {
        const char *fixture, *part, *says;
    } row[] = {
        {HUNYUAN, "transformer", "its shapes do not tell how its positions share the channels"},
        {"cogvideox-2b", "transformer", "do not tell whether positions are added or turned by"},
        {"open-sora-plan-v1.2", "transformer", "the size and length that it was trained at"},
        {"pixart-sigma", "transformer", "the size that it was trained at"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_ctx *c = testing_open("cpu", NULL, 1);
        char file[4096];
        ts_model *m;
        ts_model_files files = {.size = sizeof files, .transformer = file};
        snprintf(file, sizeof file, "%s",
                 part_of(row[i].fixture, "transformer/diffusion_pytorch_model"));
        ck_assert_int_eq(ts_model_open_files(c, NULL, &files, &m), TS_EMODEL);
        ck_assert_msg(strstr(ts_error(c), row[i].says) && strstr(ts_error(c), "a model folder"),
                      "%s", ts_error(c));
        testing_close(c);
    }
}
END_TEST

/* ---- what is wrong ---- */

static const struct {
    const char *fixture;
    int naming; /* of the fixture's transformer; -1: it is not given */
    const char *drop, *part, *file, *says[3];
} wrong[] = {
    /* a part in the place of another */
    {HUNYUAN,
     -1,
     NULL,
     "text_encoder",
     HUNYUAN "/model/text_encoder_2/model.safetensors",
     {"is a CLIP text encoder, a text encoder was wanted"}},
    {HUNYUAN,
     -1,
     NULL,
     "text_encoder_2",
     HUNYUAN "/model/text_encoder/model.safetensors",
     {"is a Llama text encoder, a second text encoder (CLIP) was wanted"}},
    {HUNYUAN,
     -1,
     NULL,
     "transformer",
     HUNYUAN "/model/vae/diffusion_pytorch_model.safetensors",
     {"is a HunyuanVideo VAE, a transformer was wanted"}},
    {HUNYUAN,
     -1,
     NULL,
     "vae",
     "cogvideox-2b/model/vae/diffusion_pytorch_model.safetensors",
     {"is of class AutoencoderKLCogVideoX, the vae of", "is of AutoencoderKLHunyuanVideo"}},
    {"wan21-t2v",
     -1,
     NULL,
     "text_encoder_2",
     HUNYUAN "/model/text_encoder_2/model.safetensors",
     {"a second text encoder's", "WanPipeline has one"}},
    /* files that are no whole */
    {HUNYUAN,
     0,
     "double_blocks.1.img_attn_qkv.weight",
     NULL,
     NULL,
     {"double_blocks.1.img_attn_qkv.weight", "missing"}},
    {HUNYUAN, 0, "img_in.proj.weight", NULL, NULL, {"img_in.proj.weight", "unfinished"}},
    {HUNYUAN, 1, "txt_in.input_embedder.weight", NULL, NULL, {"without some of its embedders"}},
};

static void drop_tensor(const char *path, const char *name)
{
    ts_err err = {0};
    ts_bag *bag = testing_bag(path), *kept = ts_bag_new();
    for (int i = 0; i < ts_bag_count(bag); i++) {
        const ts_host *t = ts_bag_find(bag, ts_bag_name(bag, i));
        if (strcmp(ts_bag_name(bag, i), name) != 0)
            ts_bag_put(kept, ts_bag_name(bag, i), t->type, t->nd, t->dim, t->data);
    }
    ck_assert_int_eq(ts_bag_count(kept), ts_bag_count(bag) - 1);
    ck_assert_msg(!ts_bag_save(&err, kept, path), "%s", err.text);
    ts_bag_free(bag);
    ts_bag_free(kept);
}

static ts_status open_and_run(ts_ctx *c, const char *model, const ts_model_files *files)
{
    ts_model *m;
    ts_run *r = NULL;
    ts_request q;
    ts_status st = ts_model_open_files(c, model, files, &m);
    if (!st) {
        ts_request_init(m, &q);
        q.prompt = "a cat";
        q.width = 64;
        q.height = 48;
        q.frames = 9;
        st = ts_run_open(m, &q, &r, NULL);
    }
    ts_run_close(r);
    ts_model_close(m);
    return st;
}

START_TEST(wrong_parts_are_refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char model[4096], file[4096], *made = NULL;
    ts_model_files files = {.size = sizeof files};
    snprintf(model, sizeof model, "%s/model", testing_fixture(wrong[_i].fixture));
    if (wrong[_i].file) snprintf(file, sizeof file, "%s", testing_fixture(wrong[_i].file));
    if (wrong[_i].naming >= 0) {
        made = renamed_weights(part_of(HUNYUAN, "transformer/diffusion_pytorch_model"), "",
                               ts_dit_hunyuanvideo.names->naming + wrong[_i].naming, "");
        drop_tensor(made, wrong[_i].drop);
        files.transformer = made;
    } else {
        const char **part = !strcmp(wrong[_i].part, "vae")            ? &files.vae
                            : !strcmp(wrong[_i].part, "transformer")  ? &files.transformer
                            : !strcmp(wrong[_i].part, "text_encoder") ? &files.text_encoder
                                                                      : &files.text_encoder_2;
        *part = file;
    }
    ck_assert_int_ne(open_and_run(c, model, &files), TS_OK);
    for (int i = 0; i < 3 && wrong[_i].says[i]; i++)
        ck_assert_msg(strstr(ts_error(c), wrong[_i].says[i]), "%s lacks %s", ts_error(c),
                      wrong[_i].says[i]);
    free(made);
    testing_close(c);
}
END_TEST

/* A Llama whose positions are stretched is not computed as one that is not. */
START_TEST(scaled_positions_are_refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *path = write_llama(true, "linear"), model[4096];
    ts_model_files files = {.size = sizeof files, .text_encoder = path};
    ts_model *m;
    ts_request q;
    ts_run *r;
    snprintf(model, sizeof model, "%s/model", testing_fixture(HUNYUAN));
    ck_ok(c, ts_model_open_files(c, model, &files, &m));
    ts_request_init(m, &q);
    q.prompt = "a cat";
    q.width = q.height = 64;
    q.frames = 9;
    ts_status st = ts_run_open(m, &q, &r, NULL);
    if (!st) st = ts_run_encode(r);
    ck_assert_int_eq(st, TS_EMODEL);
    ck_assert_msg(strstr(ts_error(c), "rope_scaling"), "%s", ts_error(c));
    ts_run_close(r);
    ts_model_close(m);
    free(path);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("family files");
    TCase *tc = tcase_create("family files");
    tcase_add_loop_test(tc, transformers_by_file, 0, TRANSFORMERS);
    tcase_add_loop_test(tc, transformers_are_known, 0, TRANSFORMERS);
    tcase_add_loop_test(tc, transformers_in_parts, 0, TRANSFORMERS);
    tcase_add_loop_test(tc, parts_by_file, 0, sizeof parts / sizeof *parts);
    tcase_add_loop_test(tc, llama_in_a_gguf, 0, 2);
    tcase_add_test(tc, vocabularies_of_keys);
    tcase_add_test(tc, odd_vocabularies_of_keys);
    tcase_add_test(tc, hunyuanvideo_alone);
    tcase_add_loop_test(tc, cogvideox_alone, 0, 3);
    tcase_add_test(tc, shapes_that_tell_too_little);
    tcase_add_loop_test(tc, wrong_parts_are_refused, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(tc, scaled_positions_are_refused);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
