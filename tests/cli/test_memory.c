/* The memory that a dry run says is what the process takes: within a fifth, as its header line is
 * read by people who choose a machine by it. Larger runs come later: what is measured is the
 * largest of all children. */
#include "tests/cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static char *tmp;

/* "...; 163 MB of 25 GB" */
static double said_bytes(const char *text)
{
    const char *at = strstr(text, "on this machine: "), *end = at ? strstr(at, "; ") : NULL;
    char *unit;
    ck_assert_msg(end != NULL, "%s", text);
    double n = strtod(end + 2, &unit);
    ck_assert_msg(!strncmp(unit, " MB of ", 7), "%s", text);
    return n * 1e6;
}

START_TEST(a_process_takes_what_was_said)
{
#ifdef __SANITIZE_ADDRESS__
    return; /* its shadow is memory, too */
#endif
    static const char *const run[] = {"--scale 1 -o %s/a.mp4", "-o %s/b.mp4"};
    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        char args[4400], rest[4300];
        struct rusage used;
        snprintf(rest, sizeof rest, run[i], tmp);
        snprintf(args, sizeof args,
                 "generate 'a panda' --size 256x256 --frames 29 --steps 1 --threads 2 %s", rest);
        const program_result *r = program_run("%s --dry-run", args);
        program_expect(r, 0);
        double said = said_bytes(r->out);
        program_expect(program_run("%s", args), 0);
        ck_assert_int_eq(getrusage(RUSAGE_CHILDREN, &used), 0);
        double took = (double)used.ru_maxrss * 1024;
        ck_assert_msg(took < 1.2 * said && took > 0.8 * said, "%s: %.0f MB were said, %.0f taken",
                      args, said / 1e6, took / 1e6);
    }
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("memory");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, a_process_takes_what_was_said);
    suite_add_tcase(s, t);
    return testing_main(s);
}
