/* What a denoising step asks of its device, on the CPU and on one whose addresses fault. */
#include "tests/sampler/steps.h"
#include "tests/testing.h"

static const char *const backends[] = {"cpu", "far"};

START_TEST(steps) { steps_expect((steps_what)(_i / 2), backends[_i % 2], NULL); }
END_TEST

int main(void)
{
    Suite *suite = suite_create("steps");
    TCase *tc = tcase_create("steps");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, steps, 0, 2 * STEPS_CASES);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
