/* What make builds anew, in a small tree of stand-ins with this tree's Makefile and a pkg-config of
 * the test's own. */
#include "tests/cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the one that may run this test, nothing. */
#define MAKE                                                                                       \
    "env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u B -u CFLAGS -u LDFLAGS PATH=$R/bin:$PATH make -s " \
    "OWN_LIBS=-fopenmp"

static char *root;

static const program_result *shell(const char *command)
{
    return program_shell("export R=%s; cd $R && %s", root, command);
}

/* Its program prints which queue it has; hiredis is installed when $R/hiredis is there. */
static void make_tree(void)
{
    program_expect(
        program_shell(
            "R=%s; cp Makefile $R/ && cd $R && mkdir -p bin tools cli/batch backend && "
            "printf '#!/bin/sh\\ncase \"$*\" in *exists*) test -f %s/hiredis ;; esac\\n' "
            ">bin/pkg-config && printf '#!/bin/sh\\n' >tools/find-clang.sh && "
            "chmod +x bin/pkg-config tools/find-clang.sh && echo 'int ts_stub;' >backend/stub.c && "
            "echo '#include <stdio.h>' >cli/main.c && echo 'const char *ts_queue(void); "
            "int main(void) { puts(ts_queue()); }' >>cli/main.c && for q in none redis; do echo "
            "\"const char *ts_queue(void); const char *ts_queue(void) { return \\\"$q\\\"; }\" "
            ">cli/batch/queue_$q.c; done; find . -name '*.c' -exec touch -d 2020-01-01 {} +",
            root, root),
        0);
}

static void has_queue(const char *command, const char *queue)
{
    const program_result *r = shell(command);
    program_expect(r, 0);
    ck_assert_msg(!strcmp(r->out, queue), "\"%s\", expected \"%s\": %s", r->out, queue, command);
}

START_TEST(hiredis_comes_and_goes)
{
    make_tree();
    has_queue(MAKE " >/dev/null && ./tessera", "none\n");
    has_queue("touch hiredis && " MAKE " >/dev/null && ./tessera", "redis\n");
    has_queue("rm hiredis && " MAKE " >/dev/null && ./tessera", "none\n");
    has_queue("touch hiredis && " MAKE " >/dev/null && ./tessera", "redis\n");
    has_queue(MAKE " && echo nothing", "nothing\n"); /* and is not linked again for no reason */
}
END_TEST

int main(void)
{
    root = testing_tmp();
    Suite *suite = suite_create("make");
    TCase *tc = tcase_create("make");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, hiredis_comes_and_goes);
    suite_add_tcase(suite, tc);
    int failed = testing_main(suite);
    free(root);
    return failed;
}
