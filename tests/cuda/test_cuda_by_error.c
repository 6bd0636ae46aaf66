/* adaspa on the CUDA device: searches by error and what they choose, against their definition in
 * double. */
#include "tests/attention/by_error.h"
#include "tests/attention/svg_choices.h"
#include "tests/cuda/emu/emulated.h"
#include "tests/testing.h"

#include <stdlib.h>

START_TEST(choices_and_plans)
{
    emu_set((emu_options){.late = 1});
    by_error_choices("cuda");
}
END_TEST

/* the kernels of f32, and those of tensor cores */
START_TEST(fixed_forms)
{
    emu_set((emu_options){.late = 1});
    by_error_form("cuda", _i % 2 ? TS_F32 : TS_BF16, _i / 2);
}
END_TEST

START_TEST(patterns)
{
    emu_set((emu_options){.late = 1});
    svg_choices("cuda", 0);
}
END_TEST

START_TEST(interrupted)
{
    emu_set((emu_options){.late = 1});
    by_error_interrupted("cuda");
}
END_TEST

/* All of them with LONG set. */
int main(void)
{
    bool all = getenv("LONG") != NULL;
    Suite *s = suite_create("cuda by error");
    TCase *t = tcase_create("cuda by error");
    tcase_set_timeout(t, 600);
    tcase_add_checked_fixture(t, NULL, emulated_expect_clean);
    tcase_add_test(t, choices_and_plans);
    tcase_add_loop_test(t, fixed_forms, 0, all ? 2 * BY_ERROR_FORMS : 1);
    tcase_add_test(t, patterns);
    if (all) tcase_add_test(t, interrupted);
    suite_add_tcase(s, t);
    return testing_main(s);
}
