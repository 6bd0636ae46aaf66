/* Single files of HunyuanVideo, made of the fixtures' directories in the names that their authors,
 * ComfyUI and GGUF files give to tensors, beside a directory and alone; what they are told to be.
 */
#include "sampler/model.h"
#include "tests/sampler/pipeline.h"
#include "tests/sampler/renamed.h"
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
    ck_assert_msg(strstr(json, "\"num_layers\":2"), "%s", json);
    ck_assert_msg((strstr(json, "of its authors") != NULL) == (transformers[_i].naming >= 0), "%s",
                  json);
    free(json);
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
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
