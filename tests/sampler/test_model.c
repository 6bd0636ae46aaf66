/* Model directories whose parts contradict each other, or say that they are what no code here is
 * for: refused by name before anything is computed. */
#include "sampler/tessera.h"

#include "sampler/run.h"
#include "tests/cli/program.h"
#include "tests/weights/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *copied(const char *fixture)
{
    char *dir = testing_tmp();
    program_expect(program_shell("cp -rL %s/model/. %s", testing_fixture(fixture), dir), 0);
    return dir;
}

/* Sets `key` of the file to a JSON text; NULL: removes it. */
static void set(const char *dir, const char *file, const char *key, const char *value)
{
    char path[4200];
    ts_err err = {0};
    cJSON *j = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    ck_assert_msg(ts_json_load(&err, path, &j) == TS_OK, "%s", err.text);
    cJSON_DeleteItemFromObjectCaseSensitive(j, key);
    if (value) cJSON_AddItemToObject(j, key, cJSON_Parse(value));
    char *text = cJSON_PrintUnformatted(j);
    scratch_text(dir, file, text);
    free(text);
    cJSON_Delete(j);
}

static ts_status open_run(ts_ctx *c, const char *dir)
{
    ts_status st;
    ts_model *m = NULL;
    ts_run *r = NULL;
    ts_request q;
    ts_estimate e;
    TRY(ts_model_open(c, dir, &m));
    ts_request_init(m, &q);
    q.prompt = "a panda";
    q.width = q.height = 64;
    q.frames = 1;
    q.steps = 2;
    TRY(ts_run_open(m, &q, &r, &e));
done:
    ts_run_close(r);
    ts_model_close(m);
    return st;
}

START_TEST(contradicting_classes)
{
    static const struct {
        const char *file, *key, *value, *got, *wanted;
    } row[] = {
        {"scheduler/scheduler_config.json", "flow_shift", "0", "is 0", "expected more than 0"},
        {"scheduler/scheduler_config.json", "flow_shift", "-3", "is -3", "expected more than 0"},
        {"scheduler/scheduler_config.json", "use_flow_sigmas", NULL, "no \"use_flow_sigmas\"",
         "rectified flow"},
        {"scheduler/scheduler_config.json", "prediction_type", NULL, "no \"prediction_type\"",
         "rectified flow"},
        {"model_index.json", "boundary_ratio", "\"0.9\"", "boundary_ratio", "0.9"},
        {"model_index.json", "boundary_ratio", "1.5", "is 1.5", "expected 0 to 1"},
        {"model_index.json", "expand_timesteps", "1", "expand_timesteps", "1"},
        {"transformer/config.json", "_class_name", "\"SanaTransformer2DModel\"",
         "SanaTransformer2DModel", "WanTransformer3DModel"},
        {"transformer_2/config.json", "_class_name", "\"WanVACETransformer3DModel\"",
         "WanVACETransformer3DModel", "WanTransformer3DModel"},
        {"transformer_2/config.json", "_class_name", "7", "is 7", "WanTransformer3DModel"},
        {"vae/config.json", "_class_name", "\"AutoencoderKL\"", "\"AutoencoderKL\"",
         "AutoencoderKLWan"},
        {"text_encoder/config.json", "architectures", "[\"T5EncoderModel\"]",
         "[\"T5EncoderModel\"]", "UMT5EncoderModel"},
        {"text_encoder/config.json", "architectures", "[\"BertModel\"]", "BertModel",
         "UMT5EncoderModel"},
        {"text_encoder/config.json", "model_type", "\"t5\"", "\"t5\"", "\"umt5\""},
        {"model_index.json", "transformer", "[\"diffusers\", \"SanaTransformer2DModel\"]",
         "SanaTransformer2DModel", "WanTransformer3DModel"},
        {"model_index.json", "transformer_2", "[\"diffusers\", \"SanaTransformer2DModel\"]",
         "SanaTransformer2DModel", "WanTransformer3DModel"},
        {"model_index.json", "vae", "[\"diffusers\", \"AutoencoderKL\"]", "AutoencoderKL,",
         "AutoencoderKLWan"},
        {"model_index.json", "text_encoder", "[\"transformers\", \"CLIPTextModel\"]",
         "CLIPTextModel", "UMT5EncoderModel"},
        {"model_index.json", "text_encoder", "[\"transformers\", \"T5EncoderModel\"]",
         "UMT5EncoderModel", "T5EncoderModel"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char *dir = copied("wan22-a14b"), file[4200];
        const char *named = row[i].file;
        ts_ctx *c = testing_open("cpu", NULL, 1);
        set(dir, row[i].file, row[i].key, row[i].value);
        /* a class that this pipeline may have: its own config says otherwise */
        if (i == sizeof row / sizeof *row - 1) named = "text_encoder/config.json";
        snprintf(file, sizeof file, "%s/%s", dir, named);
        scratch_expect(&c->err, open_run(c, dir), TS_EMODEL, file, row[i].got, row[i].wanted, NULL);
        testing_close(c);
        free(dir);
    }
}
END_TEST

/* What no code here reads is said, what is a matter of course is not. */
START_TEST(what_an_index_says_else)
{
    char *dir = copied("wan22-a14b");
    ts_ctx *c = testing_open("cpu", NULL, 1);
    set(dir, "model_index.json", "image_encoder", "[null, null]");
    ck_ok(c, open_run(c, dir));
    ck_assert_str_eq(testing_warned(c), "");
    testing_close(c);
    c = testing_open("cpu", NULL, 1);
    set(dir, "model_index.json", "force_upcast_of", "true");
    set(dir, "model_index.json", "safety_checker", "[\"transformers\", \"X\"]");
    scratch_text(dir, "safety_checker/config.json", "{}");
    ck_ok(c, open_run(c, dir));
    const char *said = testing_warned(c);
    ck_assert_msg(strstr(said, "\"force_upcast_of\": true is not known here") &&
                      strstr(said, "component \"safety_checker\" (X) is not used: a WanPipeline"),
                  "%s", said);
    testing_close(c);
    free(dir);
}
END_TEST

START_TEST(classes_left_out)
{
    static const char *const file[] = {"transformer/config.json", "transformer_2/config.json",
                                       "vae/config.json"};
    char *dir = copied("wan22-a14b");
    ts_ctx *c = testing_open("cpu", NULL, 1);
    for (int i = 0; i < 3; i++) set(dir, file[i], "_class_name", NULL);
    set(dir, "text_encoder/config.json", "architectures", "[\"UMT5ForConditionalGeneration\"]");
    ck_ok(c, open_run(c, dir));
    set(dir, "text_encoder/config.json", "architectures", NULL);
    set(dir, "text_encoder/config.json", "model_type", NULL);
    ck_ok(c, open_run(c, dir));
    testing_close(c);
    free(dir);
}
END_TEST

/* What a transformer can not place is refused in the words of whoever asked: what there is too much
 * of. */
START_TEST(more_tokens_than_the_model_takes)
{
    char *dir = copied("wan21-t2v");
    set(dir, "transformer/config.json", "rope_max_seq_len", "6");
    const program_result *r = program_run(
        "generate x --dry-run --quiet --frames 25 --size 64x64 --model %s", dir);
    program_expect(r, 2);
    ck_assert_msg(
        strstr(r->err, "25 frames of 64x64: ask for fewer frames (a grid of 7 x 4 x 4 tokens") !=
            NULL,
        "%s", r->err);
    r = program_run("generate x --dry-run --quiet --frames 1 --size 112x64 -o x.png --model %s",
                    dir);
    program_expect(r, 2);
    ck_assert_msg(
        strstr(r->err, "1 frame of 112x64: ask for a smaller size (a grid of 1 x 4 x 7 tokens") !=
            NULL,
        "%s", r->err);
    program_expect(
        program_run("generate x --dry-run --quiet --frames 21 --size 96x64 --model %s", dir), 0);
    free(dir);
}
END_TEST

START_TEST(the_program_exits_3)
{
    char *dir = copied("wan21-t2v");
    set(dir, "vae/config.json", "_class_name", "\"AutoencoderKL\"");
    const program_result *r = program_run("generate x --dry-run --model %s", dir);
    program_expect(r, 3);
    ck_assert_msg(strstr(r->err, "/vae/config.json: \"_class_name\" is \"AutoencoderKL\", a "
                                 "WanPipeline takes AutoencoderKLWan"),
                  "%s", r->err);
    free(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *tc = tcase_create("model");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, contradicting_classes);
    tcase_add_test(tc, what_an_index_says_else);
    tcase_add_test(tc, classes_left_out);
    tcase_add_test(tc, more_tokens_than_the_model_takes);
    tcase_add_test(tc, the_program_exits_3);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
