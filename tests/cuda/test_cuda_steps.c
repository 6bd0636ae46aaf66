/* What a denoising step asks of the CUDA device: the host waits for it once an evaluation, and
 * within operations never. */
#include "backend/cuda/cuda.h"
#include "tests/cuda/emu/emulated.h"
#include "tests/sampler/steps.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>

START_TEST(steps)
{
    emu_set((emu_options){.late = 1});
    steps_expect((steps_what)_i, "cuda", ts_cuda_joins);
}
END_TEST

/* One that searches in every run, all of them with LONG set. */
int main(void)
{
    bool all = getenv("LONG") != NULL;
    Suite *suite = suite_create("cuda steps");
    TCase *tc = tcase_create("cuda steps");
    tcase_set_timeout(tc, 600);
    tcase_add_checked_fixture(tc, NULL, emulated_expect_clean);
    tcase_add_loop_test(tc, steps, all ? 0 : STEPS_MASS, all ? STEPS_CASES : STEPS_MASS + 1);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
