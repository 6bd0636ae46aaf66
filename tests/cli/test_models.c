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

/* The template stands around the prompt as it was typed; a long one loses its end, and the end of
 * the template with it. */
START_TEST(template_of_hunyuanvideo)
{
    const program_result *r = program_run("tokens ' a {} <|eot_id|>' --model " HUNYUAN "/model");
    program_expect(r, 0);
    text_has(r->out, "    0      660  <|begin_of_text|>\n    1      666  <|start_header_id|>");
    ck_assert_int_eq(text_count(r->out, "<|eot_id|>"), 3);
    ck_assert_int_eq(text_count(r->out, "{"), 1);
    r = program_run("tokens \"$(yes fox | head -400 | tr '\\n' ' ')\" --model " HUNYUAN "/model");
    program_expect(r, 0);
    text_has(r->out, "\n  350 ");
    ck_assert(text_count(r->out, "\n  351 ") == 0 && text_count(r->out, "<|eot_id|>") == 1);
    text_has(r->err, "longer than the model reads");
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *suite = suite_create("models");
    TCase *tc = tcase_create("models");
    tcase_add_test(tc, a_folder_of_models);
    tcase_add_test(tc, guidance_is_told);
    tcase_add_test(tc, template_of_hunyuanvideo);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
