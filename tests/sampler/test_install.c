/* What `make install` puts in place is enough for another program: docs/example.c is compiled by
 * pkg-config's word alone, draws with the installed model, and nothing remains after `make
 * uninstall`. */
#include "tests/cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A make of our own: no part of the one that may run this test, nor with its flags (a sanitizer's,
 * say). */
#define MAKE "env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u B -u CFLAGS -u LDFLAGS make -s"
static char *root;

START_TEST(a_program_on_the_installed_library)
{
    program_expect(program_shell(MAKE " install PREFIX=%s/usr", root), 0);
    const program_result *r = program_shell(
        "export PKG_CONFIG_PATH=%s/usr/lib/pkgconfig; pkg-config --cflags --libs tessera && cc "
        "docs/example.c $(pkg-config --cflags --libs tessera) -o %s/example",
        root, root);
    program_expect(r, 0);
    ck_assert_msg(!strstr(r->out, "-lzmq") && !strstr(r->out, "-lvpx"),
                  "what belongs to other libraries: %s", r->out);
    r = program_shell("%s/example %s/usr/share/tessera/default 'a panda'", root, root);
    program_expect(r, 0);
    double rgb[3];
    const char *frame = strstr(r->out, "frame 0 begins with ");
    ck_assert_msg(frame &&
                      sscanf(frame, "frame 0 begins with %lf %lf %lf", rgb, rgb + 1, rgb + 2) == 3,
                  "%s", r->out);
    for (int i = 0; i < 3; i++) ck_assert_msg(rgb[i] >= 0 && rgb[i] <= 1, "%s", r->out);
    ck_assert_msg(strstr(r->out, "\"prompt\":\"a panda\"") && !strstr(r->out, "frame 1"), "%s",
                  r->out);
    r = program_shell("%s/example /nonexistent/model", root);
    program_expect(r, 1);
    ck_assert_ptr_nonnull(strstr(r->err, "/nonexistent/model"));
}
END_TEST

START_TEST(the_installed_program)
{
    /* again: over what is there */
    program_expect(program_shell(MAKE " install PREFIX=%s/usr", root), 0);
    const program_result *r = program_shell("cd / && %s/usr/bin/tessera info", root);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, root) && strstr(r->out, "/usr/bin/../share/tessera/default"), "%s",
                  r->out);
    program_expect(program_shell(MAKE
                                 " uninstall PREFIX=%s/usr && test -z \"$(find %s/usr -type f)\"",
                                 root, root),
                   0);
    program_expect(
        program_shell(MAKE
                      " install PREFIX=/usr DESTDIR=%s/stage && test -x %s/stage/usr/bin/tessera "
                      "&& grep -q '^prefix=/usr$' %s/stage/usr/lib/pkgconfig/tessera.pc",
                      root, root, root),
        0);
}
END_TEST

int main(void)
{
    root = testing_tmp();
    Suite *suite = suite_create("install");
    TCase *tc = tcase_create("install");
    tcase_set_timeout(tc, 0); /* it may have to build what it installs */
    tcase_add_test(tc, a_program_on_the_installed_library);
    tcase_add_test(tc, the_installed_program);
    suite_add_tcase(suite, tc);
    int failed = testing_main(suite);
    free(root);
    return failed;
}
