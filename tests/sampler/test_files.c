/* Models whose components are files: of the authors' names, of shapes that tell their config, with
 * and without a directory beside them; what is wrong with them. */
#include "sampler/model.h"
#include "tests/cli/program.h"
#include "tests/sampler/pipeline.h"
#include "tests/sampler/renamed.h"
#include "tests/weights/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *fixture;
    int variant;
} rendered[] = {{"files-f16", -1}, {"gguf-mixed", -1}, {"fp8-plain", -1}, {"fp8-scaled", -1}};
enum { RENDERED = sizeof rendered / sizeof *rendered };

START_TEST(files_give_the_numbers)
{
    pipeline_render_variant(rendered[_i].fixture, rendered[_i].variant, "cpu", false, false);
}
END_TEST
START_TEST(files_give_the_numbers_on_far)
{
    pipeline_render_variant(rendered[_i].fixture, rendered[_i].variant, "far", false, true);
}
END_TEST

static void encode_files(int variant, const char *backend)
{
    /* the last is llama.cpp's GGUF, vocabulary and all */
    pipeline_encode(variant < 1 ? "files-text" : "gguf-text", variant < 1 ? variant : -1, backend);
}

START_TEST(encoders_give_the_states) { encode_files(_i, "cpu"); }
END_TEST
START_TEST(encoders_give_the_states_on_far) { encode_files(_i, "far"); }
END_TEST

/* ---- by the authors' names, made from a directory ---- */

/* With what the authors' files have and nobody reads. */
static void add_unused(const char *path)
{
    ts_err err = {0};
    ts_bag *bag = testing_bag(path);
    ts_bag_put(bag, "y_embedder.y_embedding", TS_F32, 2, (long[]){120, 32}, NULL);
    ts_bag_put(bag, "pos_embed", TS_F32, 3, (long[]){1, 64, 32}, NULL);
    ck_assert_msg(!ts_bag_save(&err, bag, path), "%s", err.text);
    ts_bag_free(bag);
}

START_TEST(fused_layers_are_cut)
{
    const char *backend = _i ? "far" : "cpu";
    char file[4096];
    snprintf(file, sizeof file, "%s/model/transformer/diffusion_pytorch_model.safetensors",
             testing_fixture("pixart-alpha-256"));
    char *path = renamed_weights(file, "", ts_dit_pixart.names->naming, "");
    add_unused(path);
    pipeline_render_files("pixart-alpha-256", "transformer", path, backend, _i == 1);
    free(path);
}
END_TEST

START_TEST(image_encoders_by_file)
{
    char file[4096];
    snprintf(file, sizeof file, "%s/model/image_encoder/model.safetensors",
             testing_fixture("wan21-i2v"));
    char *path = renamed_weights(file, "vision_model.", ts_clip_vision_names.naming, "visual.");
    pipeline_render_files("wan21-i2v", "image_encoder", path, "cpu", false);
    free(path);
    snprintf(file, sizeof file, "%s/model/transformer/diffusion_pytorch_model.safetensors",
             testing_fixture("wan21-flf2v"));
    path = renamed_weights(file, "", ts_dit_wan.names->naming, "model.diffusion_model.");
    pipeline_render_files("wan21-flf2v", "transformer", path, "cpu", false);
    free(path);
}
END_TEST

/* ---- what is wrong ---- */

static char *fixture_path(const char *name)
{
    char *path;
    ck_assert(asprintf(&path, "%s", testing_fixture(name)) > 0);
    return path;
}

static const struct {
    const char *model, *transformer, *vae, *text_encoder, *tokenizer, *says[4];
} wrong[] = {
    /* a part given as another */
    {.model = "wan21-t2v/model",
     .vae = "files-f16/transformer.safetensors",
     .says = {"files-f16/transformer.safetensors", "is a Wan transformer", "a VAE was wanted"}},
    {.model = "wan21-t2v/model",
     .transformer = "files-f16/vae.safetensors",
     .says = {"is a Wan VAE", "a transformer was wanted"}},
    {.model = "wan21-t2v/model",
     .transformer = "files-text/umt5.safetensors",
     .says = {"is a UMT5 text encoder", "a transformer was wanted"}},
    {.model = "wan21-t2v/model",
     .transformer = "lora-names/original.safetensors",
     .says = {"is a LoRA", "a transformer was wanted"}},
    {.model = "wan21-t2v/model",
     .text_encoder = "files-text/expected.safetensors",
     .says = {"nothing in it is known", "a text encoder was wanted"}},
    /* not there, no weights */
    {.model = "wan21-t2v/model", .vae = "files-f16/nothing.safetensors", .says = {"no such vae"}},
    {.model = "wan21-t2v/model",
     .vae = "files-f16/case.json",
     .says = {"files-f16/case.json", "weight_map"}},
    {.model = "wan21-t2v/model", .tokenizer = "files-f16", .says = {"files-f16", "spiece.model"}},
    /* of another shape than the rest */
    {.model = "wan22-ti2v-5b/model",
     .vae = "files-f16/vae.safetensors",
     .says = {"channels", "16"}},
    /* not enough for a model, and heads that nothing tells */
    {.transformer = "fp8-scaled/none.safetensors", .says = {"no such transformer"}},
    {.transformer = "files-f16/transformer.safetensors",
     .vae = "files-f16/vae.safetensors",
     .text_encoder = "files-text/umt5.safetensors",
     .says = {"width, 32", "heads", "model folder"}},
};

START_TEST(what_is_no_such_part_is_refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *model = wrong[_i].model ? fixture_path(wrong[_i].model) : NULL, *part[4];
    const char *given[] = {wrong[_i].transformer, wrong[_i].vae, wrong[_i].text_encoder,
                           wrong[_i].tokenizer};
    for (int i = 0; i < 4; i++) part[i] = given[i] ? fixture_path(given[i]) : NULL;
    ts_model_files files = {.size = sizeof files,
                            .transformer = part[0],
                            .vae = part[1],
                            .text_encoder = part[2],
                            .tokenizer = part[3]};
    ts_model *m;
    ts_run *r = NULL;
    ts_request q;
    ts_status st = ts_model_open_files(c, model, &files, &m);
    if (!st) {
        ts_request_init(m, &q);
        q.prompt = "a cat";
        st = ts_run_open(m, &q, &r, NULL);
    }
    ck_assert_int_eq(st, TS_EMODEL);
    for (int i = 0; i < 4 && wrong[_i].says[i]; i++)
        ck_assert_msg(strstr(ts_error(c), wrong[_i].says[i]), "%s lacks %s", ts_error(c),
                      wrong[_i].says[i]);
    ts_run_close(r);
    ts_model_close(m);
    for (int i = 0; i < 4; i++) free(part[i]);
    free(model);
    testing_close(c);
}
END_TEST

START_TEST(hostile_transformers)
{
    char path[4096];
    ts_err err = {0};
    cJSON *all = NULL, *one;
    int n = 0;
    snprintf(path, sizeof path, "%s/hostile.json", testing_fixture("hostile-weights"));
    ck_assert_msg(!ts_json_load(&err, path, &all), "%s", err.text);
    cJSON_ArrayForEach(one, all)
    {
        if (strcmp(cJSON_GetObjectItem(one, "as")->valuestring, "transformer") != 0) continue;
        ts_ctx *c = testing_open("cpu", NULL, 1);
        ts_model_files files = {.size = sizeof files, .transformer = path};
        ts_model *m;
        ts_run *r = NULL;
        ts_request q;
        const cJSON *says;
        snprintf(path, sizeof path, "%s/%s", testing_fixture("hostile-weights"),
                 cJSON_GetObjectItem(one, "file")->valuestring);
        ts_status st = ts_model_open_files(c, "tests/fixtures/wan21-t2v/model", &files, &m);
        if (!st) {
            ts_request_init(m, &q);
            q.prompt = "a cat";
            st = ts_run_open(m, &q, &r, NULL);
        }
        ck_assert_msg(st == TS_EMODEL, "%s: %d %s", path, st, ts_error(c));
        cJSON_ArrayForEach(says, cJSON_GetObjectItem(one, "says")) ck_assert_msg(
            strstr(ts_error(c), says->valuestring), "%s lacks %s", ts_error(c), says->valuestring);
        ts_run_close(r);
        ts_model_close(m);
        testing_close(c);
        n++;
    }
    ck_assert_int_gt(n, 5);
    cJSON_Delete(all);
}
END_TEST

/* ---- experts ---- */

/* A directory of one expert and a second by file are a model of two; names tell which is which. */
START_TEST(a_second_expert_by_file)
{
    static const struct {
        const char *first, *second, *says; /* first NULL: the directory's own */
    } row[] = {{NULL, "b_low_noise.safetensors", ""},
               {"a_high_noise.safetensors", "b_low_noise.safetensors", ""},
               {"b_low_noise.safetensors", "a_high_noise.safetensors", "the other way round"},
               {"a_high_noise.safetensors", NULL, "one expert of two: it works alone"}};
    char *dir = testing_tmp(), *model = fixture_path("wan21-t2v/model"), path[2][512];
    program_expect(program_shell("for n in a_high_noise b_low_noise; do cp "
                                 "%s/transformer/diffusion_pytorch_model.safetensors "
                                 "%s/$n.safetensors; done",
                                 model, dir),
                   0);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_ctx *c = testing_open("cpu", NULL, 1);
        ts_model_files files = {.size = sizeof files};
        ts_model *m;
        if (row[i].first) {
            snprintf(path[0], sizeof path[0], "%s/%s", dir, row[i].first);
            files.transformer = path[0];
        }
        if (row[i].second) {
            snprintf(path[1], sizeof path[1], "%s/%s", dir, row[i].second);
            files.transformer_2 = path[1];
        }
        ck_ok(c, ts_model_open_files(c, model, &files, &m));
        ck_assert(m->family->experts == (row[i].second != NULL));
        ck_assert(m->boundary == (row[i].second ? 0.875 : 0));
        ck_assert_msg(*row[i].says ? strstr(testing_warned(c), row[i].says) != NULL
                                   : !*testing_warned(c),
                      "%s", testing_warned(c));
        ts_model_close(m);
        testing_close(c);
    }
    free(model);
    free(dir);
}
END_TEST

/* ---- settings ---- */

/* Alone, a model is as published: shift and boundary by its kind, the VAE's own statistics, heads
 * by what the file's metadata say. */
START_TEST(files_alone_have_published_settings)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dit = fixture_path("fp8-scaled/transformer.safetensors"),
         *small = fixture_path("files-f16/transformer.safetensors"),
         *vae = fixture_path("files-f16/vae.safetensors"),
         *text = fixture_path("files-text/umt5.safetensors"), *dir = testing_tmp(), path[512];
    ts_err err = {0};
    ts_model *m;
    ts_model_files files = {
        .size = sizeof files, .transformer = dit, .vae = vae, .text_encoder = text};
    ck_ok(c, ts_model_open_files(c, NULL, &files, &m));
    ck_assert(m->shift == 3 && m->boundary == 0 && m->dit_info.heads == 1);
    ck_assert_float_eq_tol(m->vae_info.mean[0], -0.7571F, 1e-6F);
    ts_model_close(m);
    files.transformer_2 = dit;
    ck_ok(c, ts_model_open_files(c, NULL, &files, &m));
    ck_assert(m->shift == 12 && m->boundary == 0.875 && m->family->experts);
    ts_model_close(m);
    files.transformer_2 = NULL;
    ts_bag *bag = testing_bag(small);
    ts_bag_meta(bag, "config", "{\"transformer\": {\"num_heads\": 2}}");
    snprintf(path, sizeof path, "%s/heads.safetensors", dir);
    ck_assert_msg(!ts_bag_save(&err, bag, path), "%s", err.text);
    ts_bag_free(bag);
    files.transformer = path;
    ck_ok(c, ts_model_open_files(c, NULL, &files, &m));
    ck_assert(m->dit_info.heads == 2 && m->dit_info.head_dim == 16);
    ts_model_close(m);
    free(dit);
    free(small);
    free(vae);
    free(text);
    free(dir);
    testing_close(c);
}
END_TEST

/* Beside a directory, latents keep its statistics. */
START_TEST(a_vae_keeps_the_statistics_of_its_directory)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *model = fixture_path("wan21-t2v/model"), *vae = fixture_path("files-f16/vae.safetensors"),
         *dir = testing_tmp(), path[512];
    ts_model *m;
    ts_model_files files = {.size = sizeof files, .vae = vae};
    program_expect(program_shell("cp -rL %s/. %s/m && chmod -R u+w %s/m && tr -d '\\n' "
                                 "<%s/vae/config.json | sed 's/\"latents_mean\": *\\[ *[-0-9.]*/"
                                 "\"latents_mean\": [0.5/' >%s/m/vae/config.json",
                                 model, dir, dir, model, dir),
                   0);
    snprintf(path, sizeof path, "%s/m", dir);
    ck_ok(c, ts_model_open_files(c, path, &files, &m));
    ck_assert(m->vae_info.mean[0] == 0.5F);
    ts_model_close(m);
    free(model);
    free(vae);
    free(dir);
    testing_close(c);
}
END_TEST

/* ---- tokenizers ---- */

/* The text encoder of the case, copied somewhere, with the vocabulary where `to` says. */
static void expect_vocabulary(const char *to, bool found)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp(), *base = fixture_path("wan21-t2v/model"), encoder[4096];
    ts_model *m;
    ts_model_files files = {.size = sizeof files, .text_encoder = encoder};
    program_expect(program_shell("mkdir -p %s/text %s/x && cp tests/fixtures/files-text/"
                                 "umt5-enc.safetensors %s/text/ && cp -rL %s/. %s/m && rm -r %s/m/"
                                 "tokenizer && sed -i '/tokenizer/,/]/d' %s/m/model_index.json",
                                 dir, dir, dir, base, dir, dir, dir),
                   0);
    if (to)
        program_expect(program_shell("mkdir -p $(dirname %s/%s) && cp %s/tokenizer/%s %s/%s", dir,
                                     to, base, strrchr(to, '/') + 1, dir, to),
                       0);
    snprintf(encoder, sizeof encoder, "%s/text/umt5-enc.safetensors", dir);
    char model[4096];
    snprintf(model, sizeof model, "%s/m", dir);
    ts_status st = ts_model_open_files(c, model, &files, &m);
    if (!found) {
        ck_assert_int_eq(st, TS_EMODEL);
        ck_assert_msg(strstr(ts_error(c), "no tokenizer") && strstr(ts_error(c), encoder), "%s",
                      ts_error(c));
    } else {
        char *json;
        ck_ok(c, st);
        ck_ok(c, ts_tokens(m, "a small owl", &json));
        free(json);
    }
    ts_model_close(m);
    free(base);
    free(dir);
    testing_close(c);
}

START_TEST(vocabularies_are_looked_for)
{
    expect_vocabulary(NULL, false);
    expect_vocabulary("text/spiece.model", true);
    expect_vocabulary("text/tokenizer/tokenizer.json", true);
    expect_vocabulary("google/umt5-xxl/spiece.model", true);
    expect_vocabulary("x/spiece.model", false);
}
END_TEST

/* A folder of a component works as a file does, and a file of diffusers' names as one of the
 * authors'. */
START_TEST(folders_and_diffusers_names_are_taken)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *model = fixture_path("wan21-t2v/model"), folder[4096], file[4096];
    ts_model *m;
    char *json;
    snprintf(folder, sizeof folder, "%s/vae", model);
    snprintf(file, sizeof file, "%s/transformer/diffusion_pytorch_model.safetensors", model);
    ts_model_files files = {.size = sizeof files, .vae = folder, .transformer = file};
    ck_ok(c, ts_model_open_files(c, model, &files, &m));
    ck_assert_str_eq(testing_warned(c), "");
    ck_ok(c, ts_model_json(m, &json));
    ck_assert_msg(strstr(json, "\"heads\":2"), "%s", json);
    free(json);
    ts_model_close(m);
    free(model);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("files");
    TCase *tc = tcase_create("files");
    tcase_add_loop_test(tc, files_give_the_numbers, 0, RENDERED);
    tcase_add_loop_test(tc, files_give_the_numbers_on_far, 0, RENDERED);
    tcase_add_loop_test(tc, encoders_give_the_states, -1, 2);
    tcase_add_loop_test(tc, encoders_give_the_states_on_far, -1, 2);
    tcase_add_loop_test(tc, fused_layers_are_cut, 0, 2);
    tcase_add_test(tc, image_encoders_by_file);
    tcase_add_loop_test(tc, what_is_no_such_part_is_refused, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(tc, hostile_transformers);
    tcase_add_test(tc, a_second_expert_by_file);
    tcase_add_test(tc, files_alone_have_published_settings);
    tcase_add_test(tc, a_vae_keeps_the_statistics_of_its_directory);
    tcase_add_test(tc, vocabularies_are_looked_for);
    tcase_add_test(tc, folders_and_diffusers_names_are_taken);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
