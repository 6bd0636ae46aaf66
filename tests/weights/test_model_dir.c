/* Model directories on temporary folders: what is recognised, and what each wrong folder is
 * told. */
#include "tests/weights/scratch.h"
#include "weights/model_dir.h"
#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *path_of(const char *dir, const char *name)
{
    char *s = NULL;
    ck_assert(asprintf(&s, "%s/%s", dir, name) > 0);
    return s;
}

/* A small model in a new folder. */
static char *make_model(void)
{
    char *dir = testing_tmp();
    scratch_text(
        dir, "model_index.json",
        "{\"_class_name\": \"WanPipeline\", \"_diffusers_version\": \"0.35\", \"boundary_ratio\": "
        "0.9, \"expand_timesteps\": false, \"image_encoder\": [null, null],"
        " \"scheduler\": [\"diffusers\", \"UniPCMultistepScheduler\"], \"tokenizer\": "
        "[\"transformers\", \"T5TokenizerFast\"],"
        " \"transformer\": [\"diffusers\", \"WanTransformer3DModel\"], \"text_encoder\": "
        "[\"transformers\", \"UMT5EncoderModel\"], \"_x\": [\"a\", \"b\"]}");
    scratch_text(dir, "scheduler/scheduler_config.json",
                 "{\"lambda_min_clipped\": -Infinity, \"flow_shift\": 3.0}");
    scratch_text(dir, "tokenizer/tokenizer.json", "{}");
    scratch_text(dir, "transformer/config.json", "{\"num_layers\": 2}");
    scratch_text(dir, "text_encoder/config.json", "{}");
    return dir;
}

static void expect(const char *name, const char *hub, const char *a, const char *b)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_model_dir m;
    scratch_expect(&ctx->err, ts_model_dir_open(ctx, name, hub, &m), TS_EMODEL, a, b, NULL);
    ck_assert(!m.dir && !m.index && m.parts == 0);
    testing_close(ctx);
}

static void check_model(const char *name, const char *hub, const char *dir)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_model_dir m;
    ck_ok(ctx, ts_model_dir_open(ctx, name, hub, &m));
    ck_assert_str_eq(m.dir, dir);
    ck_assert_str_eq(m.pipeline, "WanPipeline");
    ck_assert_int_eq(m.parts, 4);
    const ts_component *t = ts_model_dir_part(&m, "transformer"),
                       *s = ts_model_dir_part(&m, "scheduler"),
                       *k = ts_model_dir_part(&m, "tokenizer");
    ck_assert(t && s && k && ts_model_dir_part(&m, "text_encoder") &&
              !ts_model_dir_part(&m, "image_encoder") && !ts_model_dir_part(&m, "boundary_ratio"));
    ck_assert(!strcmp(t->cls, "WanTransformer3DModel") && !strcmp(t->library, "diffusers") &&
              cJSON_GetObjectItem(t->config, "num_layers")->valueint == 2);
    ck_assert(!strncmp(t->dir, dir, strlen(dir)) && !strcmp(t->dir + strlen(dir), "/transformer") &&
              strstr(t->config_path, "/transformer/config.json"));
    ck_assert(cJSON_IsNull(cJSON_GetObjectItem(s->config, "lambda_min_clipped")) &&
              strstr(s->config_path, "scheduler_config.json"));
    ck_assert(!k->config && k->config_path);
    ck_assert_double_eq(cJSON_GetObjectItem(m.index, "boundary_ratio")->valuedouble, 0.9);
    ts_model_dir_close(&m);
    testing_close(ctx);
}

START_TEST(opens_a_directory)
{
    char *dir = make_model(), *slash = path_of(dir, "//");
    check_model(dir, NULL, dir);
    check_model(slash, "/no/hub", dir);
    free(slash);
    free(dir);
}
END_TEST

START_TEST(opens_a_name_of_the_cache)
{
    char *hub = testing_tmp(), *dir = make_model(), *repo = path_of(hub, "models--Org--Name"),
         *one = path_of(repo, "snapshots/abc"), *two = path_of(repo, "snapshots/def");
    expect("Org/Name", hub, repo, "names a pipeline that is read");
    static const char *const absent[][2] = {
        {"Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
         "download it with `hf download Wan-AI/Wan2.1-T2V-1.3B-"},
        {"Wan-AI/Wan2.2-TI2V-5B-Diffusers", "download it with `hf download Wan-AI/Wan2.2-TI2V-5B-"},
        {"PixArt-alpha/PixArt-XL-2-512x512", "download it with"},
        {"Wan-AI/Wan2.1-T2V-1.3B", "take Wan-AI/Wan2.1-T2V-1.3B-Diffusers"},
        {"black-forest-labs/FLUX.1-dev", "of a family that is not read"},
        {"Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "download it with"},
        {"Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers", "download it with"},
        {"THUDM/CogVideoX1.5-5B-I2V", "download it with"},
        {"hunyuanvideo-community/HunyuanVideo", "download it with"},
        {"hunyuanvideo-community/FramePackI2V_HY", "of a family that is not read"},
        {"hunyuanvideo-community/HunyuanVideo-I2V", "of a family that is not read"},
        {"THUDM/CogVideoX1.5-5B-SAT", "of a family that is not read"},
        {"Wan-AI/Wan2.2-I2V-A14B", "take Wan-AI/Wan2.2-I2V-A14B-Diffusers"},
        {"tencent/HunyuanVideo", "take hunyuanvideo-community/HunyuanVideo"},
        {"city96/Wan2.1-T2V-14B-gguf", "of a family that is not read"},
    };
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        expect(absent[i][0], hub, absent[i][0], absent[i][1]);
    scratch_text(hub, "models--Org--Name/snapshots/.keep", "");
    expect("Org/Name", hub, repo, "no snapshot");
    ck_assert_int_eq(rename(dir, one), 0);
    check_model("Org/Name", hub, one); /* the only one, without refs */
    mkdir(two, 0777);
    expect("Org/Name", hub, repo, "2 snapshots");
    scratch_text(hub, "models--Org--Name/refs/main", "abc\n");
    check_model("Org/Name", hub, one);
    scratch_text(hub, "models--Org--Name/refs/main", "gone");
    expect("Org/Name", hub, repo, "no snapshot gone");
    expect("Org/Name", NULL, "Org/Name", "no Hugging Face cache");
    expect("Org/Name/More", hub, "Org/Name/More", "no such folder");
    expect("/Org/Name", hub, "/Org/Name", "no such folder");
    expect("../Name", hub, "../Name", "no such folder");
    expect("", hub, "no such folder", "");
    expect(hub, hub, "is a Hugging Face cache", "ORG/NAME");
    expect(repo, hub, "snapshots/", repo);
    free(one);
    free(two);
    free(repo);
    free(hub);
    free(dir);
}
END_TEST

START_TEST(says_what_a_folder_is)
{
    char *dir = make_model(), *part = path_of(dir, "transformer"),
         *index = path_of(dir, "model_index.json"), *empty = testing_tmp(),
         *vae = path_of(dir, "vae");
    expect(part, NULL, part, "give the folder above");
    expect(index, NULL, "is a file", "diffusers");
    remove(index);
    expect(dir, NULL, dir, "incomplete");
    expect(empty, NULL, empty, "model_index.json, transformer/, vae/");
    scratch_text(empty, "wan2.1_t2v.safetensors", "x");
    expect(empty, NULL, "wan2.1_t2v.safetensors", "-Diffusers");
    free(part);
    free(index);
    free(dir);
    free(empty);
    free(vae);
}
END_TEST

START_TEST(says_what_is_missing)
{
    static const struct {
        const char *index, *a, *b;
    } bad[] = {
        {"{", "model_index.json:1:", "JSON"},
        {"[]", "model_index.json", "_class_name"},
        {"{}", "model_index.json", "_class_name"},
        {"{\"_class_name\": 3}", "model_index.json", "_class_name"},
        {"{\"_class_name\": \"P\", \"vae\": [\"diffusers\", \"AutoencoderKLWan\"]}",
         "/vae is missing", "AutoencoderKLWan"},
        {"{\"_class_name\": \"P\", \"vae\": [1, 2]}", "\"vae\"", "[library, class]"},
        {"{\"_class_name\": \"P\", \"../up\": [\"diffusers\", \"X\"]}", "\"../up\"",
         "[library, class]"},
        {"{\"_class_name\": \"P\", \"transformer\": [\"diffusers\", \"A\"], \"transformer\": "
         "[\"diffusers\", \"B\"]}",
         "\"transformer\"", "twice"},
        {"{\"_class_name\": \"P\", \"bare\": [\"diffusers\", \"A\"]}", "/bare/config.json",
         "No such file"},
        {"{\"_class_name\": \"P\", \"bare\": [\"transformers\", \"T5EncoderModel\"]}",
         "/bare/config.json", "No such file"},
        {"{\"_class_name\": \"P\", \"cut\": [\"transformers\", \"T5Tokenizer\"]}",
         "/cut/config.json:1:", "JSON"},
    };
    char *dir = make_model();
    scratch_text(dir, "bare/x.safetensors", "");
    scratch_text(dir, "cut/config.json", "{\"a\"");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        scratch_text(dir, "model_index.json", bad[i].index);
        expect(dir, NULL, bad[i].a, bad[i].b);
    }
    char many[2000] = "{\"_class_name\": \"P\"";
    for (int i = 0; i < 17; i++) {
        char name[60];
        snprintf(name, sizeof name, "c%d/tokenizer.json", i);
        scratch_text(dir, name, "");
        snprintf(many + strlen(many), sizeof many - strlen(many),
                 ", \"c%d\": [\"transformers\", \"T\"]", i);
    }
    strcat(many, "}");
    scratch_text(dir, "model_index.json", many);
    expect(dir, NULL, "more than 16", "model_index.json");
    free(dir);
}
END_TEST

/* What the libraries wrote: every component of the published kind opens, with the number of tensors
 * its class has. */
START_TEST(opens_what_libraries_wrote)
{
    static const struct {
        const char *name;
        int parts, files;
    } model[] = {{"wan21-t2v", 5, 1},
                 {"wan22-a14b", 6, 3},
                 {"wan22-ti2v-5b", 5, 1},
                 {"wan21-t2i-bf16", 5, 1}};
    for (size_t i = 0; i < sizeof model / sizeof *model; i++) {
        ts_ctx *ctx = testing_open("cpu", NULL, 1);
        ts_model_dir m;
        char path[600];
        snprintf(path, sizeof path, "%s/model", testing_fixture(model[i].name));
        ck_ok(ctx, ts_model_dir_open(ctx, path, NULL, &m));
        ck_assert_int_eq(m.parts, model[i].parts);
        const cJSON *layers = cJSON_GetObjectItem(ts_model_dir_part(&m, "transformer")->config,
                                                  "num_layers");
        for (int k = 0; k < m.parts; k++) {
            const ts_component *c = m.part + k;
            bool text = !strcmp(c->name, "text_encoder"),
                 dit = !strncmp(c->name, "transformer", 11);
            ts_weights *ws;
            ts_weights_stat s;
            if (!text && !dit && strcmp(c->name, "vae")) continue;
            ck_ok(ctx, ts_weights_open(ctx, c->dir, text ? "model" : "diffusion_pytorch_model",
                                       NULL, &ws));
            ts_weights_stats(ws, &s);
            ck_assert_int_gt(s.parameters, 0);
            if (dit)
                ck_assert(s.tensors == 15 + 27 * layers->valueint && s.files == model[i].files);
            ts_weights_close(ws);
        }
        ck_assert_str_eq(testing_warned(ctx), "");
        ts_model_dir_close(&m);
        testing_close(ctx);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("model_dir");
    TCase *t = tcase_create("all");
    tcase_add_test(t, opens_a_directory);
    tcase_add_test(t, opens_a_name_of_the_cache);
    tcase_add_test(t, says_what_a_folder_is);
    tcase_add_test(t, says_what_is_missing);
    tcase_add_test(t, opens_what_libraries_wrote);
    suite_add_tcase(s, t);
    return testing_main(s);
}
