/* The command models, and what a run of a HunyuanVideo model says before it begins. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#define HUNYUAN "tests/fixtures/hunyuanvideo-t2v"

START_TEST(a_folder_of_models)
{
    const program_result *r = program_run("models " HUNYUAN);
    program_expect(r, 0);
    text_has(r->out, HUNYUAN "/model");
    text_has(r->out, "hf download hunyuanvideo-community/HunyuanVideo");
    r = program_run("models --json " HUNYUAN);
    program_expect(r, 0);
    text_has(r->out, "HunyuanVideoPipeline");
    program_expect(program_run("models /nonexistent"), 3);
}
END_TEST

/* Guidance is an input of its transformer: one branch, whatever it is. */
START_TEST(guidance_is_told)
{
    const program_result *r = program_run("generate boat --model " HUNYUAN
                                          "/model --size 64x48 --frames 1 --steps 2 -q -o %s",
                                          scratch_path("6.png"));
    program_expect(r, 0);
    r = program_run("generate boat --model " HUNYUAN
                    "/model --size 64x48 --frames 1 --steps 2 --guidance 1 -q -o %s",
                    scratch_path("1.png"));
    program_expect(r, 0);
    ck_assert(!program_same(scratch_path("6.png"), scratch_path("1.png")));
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *suite = suite_create("models");
    TCase *tc = tcase_create("models");
    tcase_add_test(tc, a_folder_of_models);
    tcase_add_test(tc, guidance_is_told);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
