/* Searches by error on the CPU, and on a device whose memory is not the host's. */
#include "tests/attention/by_error.h"
#include "tests/testing.h"

static const char *const places[] = {"cpu", "far"};

START_TEST(choices_and_plans) { by_error_choices(places[_i]); }
END_TEST

START_TEST(fixed_forms)
{
    for (int i = 0; i < BY_ERROR_FORMS; i++) by_error_form(places[_i], TS_F32, i);
}
END_TEST

START_TEST(every_third_step) { by_error_every_third("cpu"); }
END_TEST

START_TEST(interrupted) { by_error_interrupted(places[_i]); }
END_TEST

START_TEST(damaged) { by_error_damaged("cpu"); }
END_TEST

int main(void)
{
    Suite *s = suite_create("by error");
    TCase *t = tcase_create("search");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, choices_and_plans, 0, 2);
    tcase_add_loop_test(t, fixed_forms, 0, 2);
    tcase_add_test(t, every_third_step);
    tcase_add_loop_test(t, interrupted, 0, 2);
    tcase_add_test(t, damaged);
    suite_add_tcase(s, t);
    return testing_main(s);
}
