/* The program as a shell sees it: exit codes, sentences, what goes to stdout, what info and tokens
 * print. Rendering is test_render.c's. */
#include "tests/cli/program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *tmp;

/* A refusal: its code, its sentence, nothing on stdout and nothing in the folder. */
static void refused(const program_result *r, int code, const char *phrase)
{
    program_expect(r, code);
    ck_assert_msg(strstr(r->err, phrase) != NULL, "\"%s\" is not in\n%s", phrase, r->err);
    ck_assert_msg(!strncmp(r->err, "tessera: ", 9), "%s", r->err);
    ck_assert_msg(!*r->out, "on stdout: %s", r->out);
    ck_assert_int_eq(program_files(tmp), 0);
}

START_TEST(slips_exit_2)
{
    static const struct {
        const char *args, *phrase;
    } row[] = {
        {"", "no command"},
        {"frobnicate", "unknown command \"frobnicate\""},
        {"genrate 'a panda'", "did you mean generate?"},
        {"'a panda'", "tessera generate \"a panda\""},
        {"--steps 4", "unknown flag --steps"},
        {"help nonsense", "unknown command \"nonsense\""},
        {"generate", "a prompt is missing"},
        {"generate a panda", "one argument, got 2 (\"a\", \"panda\")"},
        {"generate 'a panda' --stesp 4", "unknown flag --stesp: did you mean --steps?"},
        {"generate 'a panda' --size 99999x64",
         "--size: got \"99999x64\", wanted WxH with 16 to 8192 pixels a side"},
        {"generate 'a panda' --size 8x8", "--size: got"},
        {"generate 'a panda' --frames 0", "--frames: got \"0\""},
        {"generate 'a panda' --frames 1000000000", "--frames: got"},
        {"generate 'a panda' --steps 1001", "--steps: got"},
        {"generate 'a panda' --sampler heun", "wanted unipc, euler, dpmpp-2m, ddim, lcm, "
                                              "dpmpp-2m-sde or euler-a"},
        {"generate 'a panda' --sampler ddim",
         "sampler ddim: must be unipc or euler for this model"},
        {"generate 'a panda' --precision f16", "wanted auto, f32 or bf16"},
        {"generate 'a panda' --seed -2", "--seed: got"},
        {"generate 'a panda' --memory 8", "for instance 8G"},
        {"generate 'a panda' --memory 999999999G",
         "--memory: got \"999999999G\", wanted a size with its unit, 16M to 8192T"},
        /* before the model is looked at */
        {"generate 'a panda' --model /nonexistent --steps 0", "--steps: got"},
        {"decode", "a latents file is missing"},
        {"tokens", "a text is missing"},
        {"tokens one two", "one argument, got 2"},
        {"tokens one --prompt two", "tokens: one prompt, got 2 (\"one\", \"two\"), --prompt among"},

        {"bench", "bench: what to measure is missing: a prompt"},
        {"bench --kernel x", "takes no argument, got \"x\""},
        {"bench --kernel --tokens 0",
         "--tokens: got \"0\", wanted whole numbers from 1 to 16777216 with commas between"},
        {"bench --kernel --tokens 64,", "--tokens: got \"64,\""},
        {"bench --kernel --tokens 64,1.5", "--tokens: got"},
        {"bench --kernel --keep 1,0", "--keep: got \"1,0\", wanted numbers from 0.0001 to 1"},
        {"bench --kernel --keep nan", "--keep: got"},
        {"bench --kernel --keep ,", "--keep: got"},
        {"bench --kernel --heads 0", "--heads: got"},
        {"bench --kernel --repeats 0", "--repeats: got"},
        {"bench --kernel --json", "--json needs a value: a file name"},
        {"bench --kernel --json Makefile", "--json: Makefile exists: --overwrite replaces it"},
        {"bench --kernel --json docs", "--json: docs is not a file"},
        {"bench --kernel --cpu ref --precision bf16",
         "precision bf16: device cpu (ref) has no bf16"},
        {"info --device tpu", "device tpu: must be auto, cpu, cuda or cuda:NUMBER"},
        {"info --steps 4", "--steps is not a flag of this command"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        refused(program_run("%s", row[i].args), 2, row[i].phrase);
    refused(program_run("generate x -o %s/x.avi", tmp), 2, ".mp4");
    refused(program_run("generate x -o %s/x", tmp), 2, ".mp4");
    refused(program_run("generate x --frames 5 -o %s/x.png", tmp), 2, "%04d");
    refused(program_run("generate x --frames 5 -o %s/x-%%04d.mp4", tmp), 2,
            "numbers like %04d are for pictures");
    refused(program_run("generate x --frames 5 -o %s/%%d.GIF", tmp), 2, "a .gif holds all frames");
    refused(program_run("generate x -o %s/x.mp4 --quiet --frames 10000", tmp), 2,
            "10001 frames of 128x128: ask for fewer frames (");
    refused(program_run("generate x -o %s/x.mp4 --save-latents %s/l --state %s/l", tmp, tmp, tmp),
            2, "both name");
    refused(program_run("generate x -o %s/x.mp4 --save-latents %s/x.mp4", tmp, tmp), 2,
            "both name");
    refused(program_run("generate x -o %s/x.mp4 --state %s/x.mp4", tmp, tmp), 2, "both name");
    refused(program_run("generate x -o %s/x.mp4 --save-latents %s", tmp, tmp), 2, "is not a file");
    refused(program_run("generate x -o %s/x.mp4 --vae-tile 33x33", tmp), 2, "33x33");
}
END_TEST

START_TEST(unusable_inputs_exit_3)
{
    char *other = testing_tmp();
    refused(program_run("generate x -o %s/x.mp4 --model /nonexistent/model", tmp), 3,
            "/nonexistent/model");
    refused(program_run("generate x -o %s/x.mp4 --model %s", tmp, other), 3, "model_index.json");
    refused(program_run("generate x -o %s/x.mp4 --model Nobody/Nothing", tmp), 3, "Nobody/Nothing");
    refused(program_run("generate -o %s/x.mp4 --from /nonexistent.mp4", tmp), 3,
            "/nonexistent.mp4");
    refused(program_run("generate -o %s/x.mp4 --from Makefile", tmp), 3, "Makefile");
    refused(program_run("generate x -o %s/x.mp4 --noise /nonexistent.safetensors", tmp), 3,
            "/nonexistent.safetensors");
    refused(program_run("generate x -o %s/x.mp4 --noise "
                        "weights/default/vae/diffusion_pytorch_model.safetensors --steps 1 --size "
                        "64x64 --frames 1",
                        tmp),
            3, "noise");
    refused(program_run("decode /nonexistent.safetensors -o %s/x.mp4", tmp), 3,
            "/nonexistent.safetensors");
    refused(program_run("decode Makefile -o %s/x.mp4", tmp), 3, "Makefile");
    refused(
        program_run(
            "decode --quiet weights/default/vae/diffusion_pytorch_model.safetensors -o %s/x.mp4",
            tmp),
        3, "latents");
    refused(program_run("info /nonexistent"), 3, "/nonexistent");
    refused(program_run("info Makefile"), 3, "Makefile");
    refused(program_run("info %s", other), 3, "model_index.json");
    refused(program_run("tokens x --model /nonexistent/model"), 3, "/nonexistent/model");
    ck_assert_int_eq(program_files(other), 0);
    free(other);
}
END_TEST

START_TEST(tensors_of_a_wrong_shape_or_with_nan)
{
    char *other = testing_tmp(), path[4096];
    const program_result *r = program_run(
        "generate x --dry-run -o %s/x.png --size 64x64 --frames 1", tmp);
    long dim[4], right;
    program_expect(r, 0);
    ck_assert_msg(sscanf(strstr(r->out, "latents"), "latents %ld channels, %ld x %ld x %ld", dim,
                         dim + 1, dim + 2, dim + 3) == 4,
                  "%s", r->out);
    right = dim[2];
    snprintf(path, sizeof path, "%s/noise.safetensors", other);
    ts_err err = {0};
    for (int wrong = 0; wrong < 2; wrong++) {
        ts_bag *bag = ts_bag_new();
        dim[2] = right + wrong;
        float *x = ts_bag_put(bag, "noise", TS_F32, 4, dim, NULL);
        if (!wrong) x[17] = (float)NAN;
        ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
        ts_bag_free(bag);
        r = program_run(
            "generate x -o %s/x.png --quiet --size 64x64 --frames 1 --steps 2 --noise %s", tmp,
            path);
        refused(r, wrong ? 3 : 4,
                wrong ? "\"noise\" is F32" : "\"noise\" holds NaN or infinity at element 17");
        ck_assert_msg(strstr(r->err, path) != NULL, "which file? %s", r->err);
    }
    unlink(path);
    ts_bag *bag = ts_bag_new();
    float *z = ts_bag_put(bag, "latents", TS_F32, 4, dim, NULL);
    z[3] = (float)INFINITY;
    ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
    ts_bag_free(bag);
    r = program_run("decode %s -o %s/x.png", path, tmp);
    program_expect(r, 4);
    ck_assert_msg(strstr(r->err, path) &&
                      strstr(r->err, "\"latents\" holds NaN or infinity at element 3") &&
                      !strstr(r->err, "decoding"),
                  "%s", r->err);
    ck_assert_int_eq(program_files(tmp), 0);
    unlink(path);
    free(other);
}
END_TEST

/* A part that can not be measured ends no dry run: there is no guess then. */
START_TEST(a_time_that_can_not_be_measured)
{
    char *model = testing_tmp();
    /* numbers behind the header become NaN */
    program_expect(
        program_shell("cp -rL tests/fixtures/wan21-t2v/model/. %s && cd %s/vae && "
                      "f=diffusion_pytorch_model.safetensors && n=$(stat -c %%s $f) && "
                      "chmod u+w $f && tr '\\0' '\\377' </dev/zero | head -c $((n - 65536)) | "
                      "dd of=$f bs=65536 seek=1 conv=notrunc status=none",
                      model, model),
        0);
    const program_result *r = program_run("generate x --dry-run --model %s --steps 2 -o %s/x.mp4",
                                          model, tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "memory ") && !strstr(r->out, "on this machine"), "%s", r->out);
    free(model);
}
END_TEST

START_TEST(a_failing_machine_exits_4)
{
    refused(program_run("bench --kernel --json /nonexistent/x.json"), 4,
            "--json: can not write into /nonexistent");
    refused(program_run("bench --kernel --quiet --tokens 1000000 --memory 16M"), 4,
            "1000000 tokens of 12 heads of 128 need");
    refused(program_run("generate x -o /dev/null/folder/x.mp4"), 4, "/dev/null/folder");
    refused(program_run("generate x -o %s/x.mp4 --state /nonexistent/state", tmp), 4,
            "--state: can not write into /nonexistent");
    refused(program_run("generate x -o %s/x.mp4 --save-latents /nonexistent/l", tmp), 4,
            "--save-latents: can not write into /nonexistent");
    refused(
        program_run("generate x -o %s/x.png --quiet --memory 16M --size 512x512 --frames 1", tmp),
        4, "MB, 17 MB may be used: ask for a smaller size or fewer frames");
    refused(program_run("generate x -o %s/x.png --quiet --memory 200M --size 1024x1024 --vae-tile "
                        "off --frames 1",
                        tmp),
            4, "decoding of 1024x1024, 1 frame, needs");
    ck_assert_ptr_nonnull(strstr(
        program_run(
            "generate x -o %s/x.png --quiet --memory 200M --size 1024x1024 --vae-tile 1024x1024",
            tmp)
            ->err,
        "--vae-tile auto would fit"));
    /* and it does */
    program_expect(
        program_run("generate x -o %s/x.png --quiet --memory 200M --size 1024x1024 --dry-run", tmp),
        0);
    const program_result *r = program_shell("$TESSERA help generate >/dev/full");
    refused(r, 4, "standard output can not be written");
    r = program_shell("$TESSERA help generate | true");
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
}
END_TEST

START_TEST(json_errors_are_json)
{
    const program_result *r = program_run("generate x --progress json --stesp 4");
    program_expect(r, 2);
    cJSON *j = cJSON_ParseWithOpts(r->err, NULL, 0);
    ck_assert_msg(j != NULL, "%s", r->err);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(j, "event")), "error");
    ck_assert_int_eq(cJSON_GetObjectItem(j, "code")->valueint, 2);
    ck_assert_ptr_nonnull(
        strstr(cJSON_GetStringValue(cJSON_GetObjectItem(j, "message")), "--steps"));
    cJSON_Delete(j);
}
END_TEST

START_TEST(help_and_version)
{
    static const char *const args[] = {"help",          "--help",          "-h",
                                       "help generate", "generate --help", "generate 'a panda' -h",
                                       "help decode",   "help info",       "help tokens",
                                       "help help",     "help -h",         "help --help",
                                       "--version"};
    for (size_t i = 0; i < sizeof args / sizeof *args; i++) {
        const program_result *r = program_run("%s", args[i]);
        program_expect(r, 0);
        ck_assert_msg(strlen(r->out) > 100 || !strcmp(args[i], "--version"), "%s: %s", args[i],
                      r->out);
        ck_assert_str_eq(r->err, "");
    }
    ck_assert_ptr_nonnull(strstr(program_run("generate --help")->out, "--save-latents FILE"));
    ck_assert_ptr_null(strstr(program_run("tokens --help")->out, "--save-latents"));
    const program_result *r = program_run("--version");
    ck_assert_msg(!strncmp(r->out, "tessera 0.", 10), "%s", r->out);
    ck_assert_msg(strstr(r->out, "oneDNN") || strstr(r->out, "onednn") || strstr(r->out, "DNNL"),
                  "%s", r->out);
    ck_assert_msg(strstr(r->out, "libpng") != NULL, "%s", r->out);
    /* what this build and this machine have, and have not */
    ck_assert_msg(strstr(r->out, " threads, f32 and bf16\n") ||
                      strstr(r->out, " threads, f32 alone\n"),
                  "%s", r->out);
    ck_assert_msg(strstr(r->out, "\nhiredis ") || strstr(r->out, "\nno hiredis: "), "%s", r->out);
    ck_assert_msg(strstr(r->out, "\nbuilt with CUDA\n") || strstr(r->out, "\nbuilt without CUDA\n"),
                  "%s", r->out);
    ck_assert_msg(strstr(r->out, "\ndefault model installed\n") != NULL, "%s", r->out);
}
END_TEST

/* More threads than CPUs take turns, which is slower. */
START_TEST(threads_beyond_the_cpus_are_warned_of)
{
    const program_result *r = program_run("generate 'a panda' --dry-run --threads 1024 -o %s/x.mp4",
                                          tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "warning: 1024 threads, of ") != NULL, "%s", r->err);
    r = program_run("generate 'a panda' --dry-run --threads 1 -o %s/x.mp4", tmp);
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
}
END_TEST

/* Libraries do not ask whether they got memory: whatever the limit, the program asks before they
 * are at work. 127: the loader had not enough for them. */
START_TEST(a_limit_of_the_address_space_is_kept)
{
    int refused_for_it = 0;
#ifdef __SANITIZE_ADDRESS__
    return; /* the sanitizer reserves more than any limit */
#endif
    for (int kb = 100000; kb <= 1000000; kb += kb < 600000 ? 20000 : 100000) {
        const program_result *r = program_shell(
            "ulimit -v %d && exec $TESSERA generate 'a panda' --steps 1 --frames 5 "
            "--threads 2 -o %s/x.mp4 --overwrite",
            kb, tmp);
        ck_assert_msg(r->code == 0 || r->code == 4 || r->code == 127, "%d kB: exit code %d\n%s", kb,
                      r->code, r->err);
        ck_assert_msg(r->code != 4 || strstr(r->err, "tessera: "), "%d kB: %s", kb, r->err);
        refused_for_it += strstr(r->err, "the address space is limited (ulimit -v): ") != NULL;
    }
    ck_assert_int_gt(refused_for_it, 0);
    program_expect(program_shell("rm -f %s/x.mp4*", tmp), 0);
}
END_TEST

START_TEST(dry_run_renders_nothing)
{
    const program_result *r = program_run(
        "generate 'a panda' -o %s/x.mp4 --dry-run --size 64x64 --frames 5 --steps 3 --seed 12345 "
        "--state %s/s --save-latents %s/l",
        tmp, tmp, tmp);
    static const char *const parts[] = {"model        default",
                                        "x.mp4",
                                        "64x64",
                                        "5 frames",
                                        "tokens",
                                        "12345",
                                        "time         about ",
                                        " on this machine: text ",
                                        ", denoising ",
                                        "3 steps",
                                        "memory",
                                        "decoding",
                                        "FLOP a step, "};
    program_expect(r, 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(r->out, parts[i]) != NULL, "no %s in\n%s", parts[i], r->out);
    ck_assert_int_eq(program_files(tmp), 0);
    r = program_run("generate 'a panda' -o %s/x.mp4 --dry-run --size 70x64 --frames 6", tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "70x64") && strstr(r->err, "64x64"),
                  "the rounding is not said: %s", r->err);
}
END_TEST

START_TEST(what_has_no_effect_is_said)
{
    const program_result *r = program_run("generate x -o %s/x.png --dry-run --guidance-2 3", tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "--guidance-2 has no effect: this model has one expert") != NULL,
                  "%s", r->err);
    r = program_run("generate x -o %s/x.png --dry-run --guidance 3", tmp);
    ck_assert_str_eq(r->err, "");
    r = program_run("generate x -o %s/x.png --dry-run --guidance-2 3 --model "
                    "tests/fixtures/wan22-a14b/model --size 64x64",
                    tmp);
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
    r = program_run("generate x -o %s/x.png --dry-run --memory 8192T", tmp);
    program_expect(r, 0);
    ck_assert_msg(
        strstr(r->err, "9007 TB of memory may be used, this machine and its cgroup have ") != NULL,
        "%s", r->err);
}
END_TEST

START_TEST(info_of_the_default_model)
{
    const program_result *r = program_run("info");
    static const char *const parts[] = {"WanPipeline",
                                        "WanTransformer3DModel",
                                        "AutoencoderKLWan",
                                        "UMT5EncoderModel",
                                        "BF16",
                                        "128x128",
                                        "memory",
                                        "text_encoder"};
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(r->out, parts[i]) != NULL, "no %s in\n%s", parts[i], r->out);
    char *table = strdup(r->out);
    r = program_run("info weights/default");
    ck_assert_ptr_nonnull(strstr(r->out, "WanTransformer3DModel"));
    r = program_run("info --json");
    program_expect(r, 0);
    cJSON *j = cJSON_Parse(r->out), *c;
    ck_assert_msg(j != NULL, "%s", r->out);
    double parameters = 0;
    cJSON_ArrayForEach(
        c, cJSON_GetObjectItem(
               j, "components")) if (!strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(c, "name")),
                                             "transformer"))
        parameters = cJSON_GetObjectItem(c, "parameters")->valuedouble;
    ck_assert_msg(parameters > 1e5, "%g parameters", parameters);
    char number[32];
    snprintf(number, sizeof number, " %.0f ", parameters);
    ck_assert_msg(strstr(table, number) != NULL, "no %s in\n%s", number, table);
    ck_assert(
        cJSON_GetObjectItem(cJSON_GetObjectItem(j, "estimate"), "denoise_bytes")->valuedouble >
        1e5);
    cJSON_Delete(j);
    free(table);
}
END_TEST

START_TEST(tokens_as_table_and_json)
{
    const program_result *r = program_run("tokens 'a  panda &amp; a fox'");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "index") &&
                      strstr(r->out, "\xE2\x96\x81"
                                     "a") &&
                      strstr(r->out, "</s>"),
                  "%s", r->out);
    int rows = 0;
    for (const char *p = r->out; *p; p++) rows += *p == '\n';
    r = program_run("tokens 'a  panda &amp; a fox' --json");
    program_expect(r, 0);
    cJSON *j = cJSON_Parse(r->out);
    ck_assert_msg(j != NULL, "%s", r->out);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(j, "text")), "a panda & a fox");
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(j, "tokens")), rows - 1);
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItem(j, "truncated")));
    cJSON_Delete(j);
}
END_TEST

START_TEST(a_model_by_its_name)
{
    char *hub = testing_tmp(), *root = realpath("weights/default", NULL);
    program_expect(
        program_shell("mkdir -p %s/hub/models--Org--Name/snapshots %s/hub/models--Org--Name/refs "
                      "&& ln -s %s %s/hub/models--Org--Name/snapshots/abc && "
                      "printf abc > %s/hub/models--Org--Name/refs/main",
                      hub, hub, root, hub, hub),
        0);
    program_expect(program_shell("HF_HUB_CACHE=%s/hub $TESSERA tokens x --model Org/Name", hub), 0);
    program_expect(
        program_shell("unset HF_HUB_CACHE; HF_HOME=%s $TESSERA tokens x --model Org/Name", hub), 0);
    program_expect(program_shell("unset HF_HUB_CACHE HF_HOME; XDG_CACHE_HOME=%s HOME=/nonexistent "
                                 "$TESSERA tokens x --model Org/Name",
                                 hub),
                   3);
    program_expect(program_shell("HF_HUB_CACHE=%s/hub $TESSERA info Org/Name", hub), 0);
    program_expect(program_shell("unset HF_HUB_CACHE; HUGGINGFACE_HUB_CACHE=%s/hub $TESSERA tokens "
                                 "x --model Org/Name",
                                 hub),
                   0);
    program_expect(
        program_shell("unset HF_HUB_CACHE; HF_HOME='~' HOME=%s $TESSERA tokens x --model "
                      "Org/Name",
                      hub),
        0);
    program_expect(
        program_shell("HF_HUB_CACHE='~/hub' HOME=%s $TESSERA tokens x --model Org/Name", hub), 0);
    program_expect(program_shell("rm -r %s/hub", hub), 0);
    free(root);
    free(hub);
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("program");
    TCase *t = tcase_create("program");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, slips_exit_2);
    tcase_add_test(t, unusable_inputs_exit_3);
    tcase_add_test(t, tensors_of_a_wrong_shape_or_with_nan);
    tcase_add_test(t, a_time_that_can_not_be_measured);
    tcase_add_test(t, a_failing_machine_exits_4);
    tcase_add_test(t, json_errors_are_json);
    tcase_add_test(t, help_and_version);
    tcase_add_test(t, threads_beyond_the_cpus_are_warned_of);
    tcase_add_test(t, a_limit_of_the_address_space_is_kept);
    tcase_add_test(t, dry_run_renders_nothing);
    tcase_add_test(t, what_has_no_effect_is_said);
    tcase_add_test(t, info_of_the_default_model);
    tcase_add_test(t, tokens_as_table_and_json);
    tcase_add_test(t, a_model_by_its_name);
    suite_add_tcase(s, t);
    return testing_main(s);
}
