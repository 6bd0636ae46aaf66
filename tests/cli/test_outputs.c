/* Outputs under trouble: closed descriptors, limits of size, signals, names that do not fit. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL "--size 64x64 --frames 5 --steps 1 --scale 1 "
static const char *tmp;

/* The progress goes nowhere, not into the file that is opened next. */
START_TEST(closed_standard_error_spoils_no_file)
{
    static const char *const names[] = {"a.mp4", "a.webm", "a.gif", "a.png"}, *const closed[] = {
                                                                                  "2>&-",
                                                                                  "0<&- 2>&-",
                                                                                  "0<&- 1>&- 2>&-"};
    program_expect(program_run("generate x " SMALL "-o %s/whole.mp4 --save-latents "
                               "%s/whole.safetensors",
                               tmp, tmp),
                   0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *frames = strstr(names[i], "png") ? "--frames 1" : "";
        program_expect(program_run("generate x " SMALL "%s -o %s/open-%s", frames, tmp, names[i]),
                       0);
        for (size_t k = 0; k < sizeof closed / sizeof *closed; k++) {
            /* results that reach nobody are a failure */
            program_expect(program_shell("$TESSERA generate x " SMALL "%s --overwrite -o %s/%s %s",
                                         frames, tmp, names[i], closed[k]),
                           strstr(closed[k], "1>&-") ? 4 : 0);
            char open[64];
            snprintf(open, sizeof open, "open-%s", names[i]);
            ck_assert_msg(program_same(scratch_path(open), scratch_path(names[i])), "%s with %s",
                          names[i], closed[k]);
        }
    }
    program_expect(
        program_shell("$TESSERA decode %s/whole.safetensors -o %s/again.mp4 2>&-", tmp, tmp), 0);
    ck_assert(program_same(scratch_path("whole.mp4"), scratch_path("again.mp4")));
}
END_TEST

int main(void)
{
    tmp = scratch_open();
    Suite *s = suite_create("outputs");
    TCase *t = tcase_create("outputs");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, scratch_clear, scratch_clear);
    tcase_add_test(t, closed_standard_error_spoils_no_file);
    suite_add_tcase(s, t);
    return testing_main(s);
}
