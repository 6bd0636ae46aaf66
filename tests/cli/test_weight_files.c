/* Files of weights on the command line: paths, names in a folder of models, what an earlier run
 * had. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdlib.h>
#include <string.h>

#define SMALL "--size 64x48 --frames 1 --steps 2 --guidance 1"

/* m: as ComfyUI lays its models out */
static void make_models(void)
{
    program_expect(
        program_shell("cd %s && mkdir -p m/diffusion_models m/vae m/text_encoders m/loras",
                      scratch_path("")),
        0);
    program_expect(
        program_shell("f=tests/fixtures && m=%s && cp $f/fp8-scaled/transformer.safetensors "
                      "$m/diffusion_models/wan_fp8.safetensors && cp $f/files-f16/vae.safetensors "
                      "$m/vae/wan_vae.safetensors && cp $f/files-text/umt5.safetensors "
                      "$m/text_encoders/",
                      scratch_path("m")),
        0);
}

START_TEST(files_alone_by_name)
{
    make_models();
    const program_result *r = program_run(
        "generate boat " SMALL
        " --models %s --transformer wan_fp8 --vae wan_vae --text-encoder umt5 "
        "--seed 3 -o %s --save-latents %s",
        scratch_path("m"), scratch_path("a.png"), scratch_path("a.safetensors"));
    program_expect(r, 0);
    /* the same again: files are named without folders, and found in the folder of models */
    program_expect(program_run("generate --from %s --models %s -o %s --save-latents %s",
                               scratch_path("a.png"), scratch_path("m"), scratch_path("b.png"),
                               scratch_path("b.safetensors")),
                   0);
    program_expect(program_shell("cmp %s %s", scratch_path("a.png"), scratch_path("b.png")), 0);
    r = program_run("info %s", scratch_path("a.png"));
    text_has(r->out, "transformer  wan_fp8.safetensors\nvae          wan_vae.safetensors\n"
                     "text_encoder umt5.safetensors\n");
    r = program_run("generate --from %s -o %s", scratch_path("a.png"), scratch_path("c.png"));
    program_expect(r, 3);
    text_has(r->err, "wan_fp8.safetensors, the transformer that ");
    text_has(r->err, "--transformer gives it");
    /* latents have paths in full, and decode by them */
    program_expect(
        program_run("decode %s -o %s", scratch_path("a.safetensors"), scratch_path("d.mp4")), 0);
    r = program_run("generate boat --models %s --transformer wan_fp -o %s", scratch_path("m"),
                    scratch_path("c.png"));
    program_expect(r, 3);
    text_has(r->err, "--transformer: got wan_fp, which is not there, nor in ");
    text_has(r->err, "m/diffusion_models, ");
    r = program_run("generate boat --models %s --transformer wan_fp8 --vae wan_vae -o %s",
                    scratch_path("m"), scratch_path("c.png"));
    program_expect(r, 3);
    text_has(r->err, "a text encoder must be given, too");
    scratch_clear();
}
END_TEST

START_TEST(loras_by_name)
{
    make_models();
    program_expect(program_shell("cp tests/fixtures/lora-names/kohya.safetensors %s",
                                 scratch_path("m/loras/style_4step.safetensors")),
                   0);
    const program_result *r = program_run(
        "generate boat " SMALL " --model tests/fixtures/wan21-t2v/model --models %s --lora "
        "style_4step:-0.5 -o %s",
        scratch_path("m"), scratch_path("a.png"));
    program_expect(r, 0);
    text_has(r->err, "LoRA style_4step.safetensors: 30 layers of ranks 4 to 8, strength -0.5\n");
    ck_assert_msg(!strstr(r->err, "distilled"), "%s", r->err);
    r = program_run(
        "generate --from %s --model tests/fixtures/wan21-t2v/model --models %s --guidance "
        "4 -o %s",
        scratch_path("a.png"), scratch_path("m"), scratch_path("b.png"));
    program_expect(r, 0);
    text_has(r->err, "strength -0.5\n");
    text_has(r->err, "style_4step.safetensors is by its name distilled to a few steps: its authors "
                     "run it with --steps 4, --guidance 1, --shift 5, --sampler euler, --timesteps "
                     "trailing");
    r = program_run("generate --from %s --model tests/fixtures/wan21-t2v/model -o %s",
                    scratch_path("a.png"), scratch_path("c.png"));
    program_expect(r, 3);
    text_has(r->err, "style_4step.safetensors, a LoRA that ");
    scratch_clear();
}
END_TEST

START_TEST(timesteps_are_looked_at)
{
    static const struct {
        const char *list;
        int code;
        const char *says;
    } row[] = {{"1000,750,500,250", 0, "4 steps"}, {"trailing", 0, "2 steps"},
               {"default", 0, "2 steps"},          {"500,1000", 1, "timesteps"},
               {"1000,,500", 1, "timesteps"},      {"1001", 1, "timesteps"},
               {"500,0", 1, "timesteps"},          {"leading", 1, "timesteps"},
               {"1000,500,", 1, "timesteps"}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const program_result *r = program_run(
            "generate boat " SMALL
            " --model tests/fixtures/wan21-t2v/model --timesteps %s -o %s -y",
            row[i].list, scratch_path("a.png"));
        ck_assert_msg(!r->code == !row[i].code, "%s: %d %s", row[i].list, r->code, r->err);
        text_has(r->err, row[i].says);
    }
    scratch_clear();
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *s = suite_create("weight_files");
    TCase *t = tcase_create("weight_files");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, files_alone_by_name);
    tcase_add_test(t, loras_by_name);
    tcase_add_test(t, timesteps_are_looked_at);
    suite_add_tcase(s, t);
    return testing_main(s);
}
