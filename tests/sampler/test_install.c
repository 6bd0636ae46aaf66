/* What `make install` puts in place is enough for other programs: the first program and a C++ one
 * are compiled by pkg-config's word alone, against the shared library and against the archive, and
 * draw with the installed model; the libraries show the names of the public headers and no others;
 * nothing remains after `make uninstall`. */
#include "tests/cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A make of our own: no part of the one that may run this test, nor with its flags (a sanitizer's,
 * say). */
#define MAKE "env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS -u B -u CFLAGS -u LDFLAGS make -s"
static char *root;

/* A shell command with the installed place's pkg-config, its folder $R, and what docs/api.md says
 * for a PREFIX that the loader does not look into: $RPATH. */
static const program_result *shell_installed(const char *command)
{
    return program_shell("export R=%s PKG_CONFIG_PATH=%s/usr/lib/pkgconfig; "
                         "RPATH=-Wl,-rpath,$(pkg-config --variable=libdir tessera); %s",
                         root, root, command);
}

/* In a copy of the tree with the objects that are there: another PREFIX makes the program anew, and
 * other tests run the one that is here. The ldconfig of this machine is left alone. */
static void copy_tree(void)
{
    program_expect(program_shell("mkdir -p %s/fake && printf '#!/bin/sh\\ntouch %s/told\\n' "
                                 ">%s/fake/ldconfig && chmod +x %s/fake/ldconfig",
                                 root, root, root, root),
                   0);
    program_expect(
        program_shell(
            "mkdir -p %s/tree/build && cp -a Makefile docs tools weights attention "
            "backend prompts dit codecs cli sampler %s/tree/ && for d in flags place "
            "linked attention backend prompts dit codecs cli sampler weights; do test ! -e "
            "build/$d || cp -a build/$d %s/tree/build/; done",
            root, root, root),
        0);
}

static void install(void)
{
    static bool copied;
    if (!copied) copy_tree();
    copied = true;
    program_expect(program_shell("cd %s/tree && PATH=%s/fake:$PATH " MAKE " install PREFIX=%s/usr",
                                 root, root, root),
                   0);
}

START_TEST(a_first_program)
{
    install();
    const program_result *r = shell_installed("pkg-config --cflags --libs tessera");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "-ltessera") && !strstr(r->out, "-lpng"),
                  "the shared library brings what it needs: %s", r->out);
    r = shell_installed("cc -Wall -Wextra -Werror docs/example.c $(pkg-config --cflags --libs "
                        "tessera) $RPATH -o $R/example && ldd $R/example");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "libtessera.so.0 => "), "%s", r->out);
    r = shell_installed("$R/example $R/usr/share/tessera/default 'a panda' $R/shared.png && "
                        "$R/usr/bin/tessera info $R/shared.png");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "a panda") && strstr(r->out, "width        128\n"), "%s", r->out);
    ck_assert_msg(strstr(r->err, "step 12 of 12") && strstr(r->err, "preview of 32x32") &&
                      strstr(r->err, "noise left 0.00"),
                  "%s", r->err);
    r = shell_installed("$R/example $R/usr/share/tessera/default 'a panda' $R/shared.png");
    program_expect(r, 1);
    ck_assert_msg(strstr(r->err, "exists already") && !strstr(r->err, "step 1 "), "%s", r->err);
    /* interrupted all the time: from when it listens on, until it ends */
    r = shell_installed(
        "trap '' INT; $R/example $R/usr/share/tessera/default x $R/cut.png 2>$R/said & pid=$!; "
        "(while kill -INT $pid; do :; done) 2>/dev/null & wait $pid; code=$?; "
        "wait; cat $R/said >&2; exit $code");
    program_expect(r, 1);
    ck_assert_msg(strstr(r->err, "example: ") && strstr(r->err, "stop"), "%s", r->err);
    r = shell_installed("$R/example /nonexistent/model 'a panda' $R/never.png");
    program_expect(r, 1);
    ck_assert_msg(strstr(r->err, "/nonexistent/model"), "%s", r->err);
}
END_TEST

/* The same program on the archive draws the same. */
START_TEST(the_archive)
{
    char shared[4200], with_archive[4200];
    install();
    const program_result *r = shell_installed("pkg-config --libs tessera-static");
    program_expect(r, 0);
    ck_assert_msg(!strstr(r->out, "-lzmq") && !strstr(r->out, "-lvpx"),
                  "what belongs to other libraries: %s", r->out);
    r = shell_installed("cc docs/example.c $(pkg-config --cflags --libs tessera-static) -o "
                        "$R/alone && ldd $R/alone");
    program_expect(r, 0);
    ck_assert_msg(!strstr(r->out, "libtessera"), "%s", r->out);
    program_expect(shell_installed("for p in example alone; do $R/$p $R/usr/share/tessera/default "
                                   "'a fox' $R/$p.png || exit 1; done"),
                   0);
    snprintf(shared, sizeof shared, "%s/example.png", root);
    snprintf(with_archive, sizeof with_archive, "%s/alone.png", root);
    ck_assert(program_same(shared, with_archive));
}
END_TEST

START_TEST(a_cpp_program)
{
    install();
    const program_result *r;
    program_expect(shell_installed("g++ -std=c++11 -x c++ -Wall -Wextra -Wpedantic -Werror "
                                   "-fsyntax-only docs/example.c $(pkg-config --cflags tessera)"),
                   0);
    program_expect(shell_installed("cc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only "
                                   "docs/example.c $(pkg-config --cflags tessera)"),
                   0);
    r = shell_installed(
        "g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror docs/sink.cc $(pkg-config --cflags --libs "
        "tessera) $RPATH -o $R/sink && $R/sink $R/usr/share/tessera/default 'a panda'");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "128x128, 5 at") && strstr(r->out, "\"prompt\":\"a panda\"") &&
                      strstr(r->out, "frame 4: mean 0.") && !strstr(r->out, "frame 5"),
                  "%s", r->out);
    ck_assert_msg(strstr(r->err, "step 8 of 8"), "%s", r->err);
}
END_TEST

/* Each header by itself, as C of 1999 and as C++, installed and in the tree. */
START_TEST(headers_stand_alone)
{
    install();
    program_expect(
        shell_installed("for h in $R/usr/include/tessera/*.h; do for c in 'cc -std=c99 -x c' 'g++ "
                        "-std=c++11 -x c++'; do echo \"#include <tessera/${h##*/}>\" | $c "
                        "-I$R/usr/include -Wall -Wextra -Wpedantic -Werror -fsyntax-only - || "
                        "exit 1; done; done; test -f $h"),
        0);
    program_expect(program_shell("echo '#include \"sampler/tessera-bench.h\"' | cc -I. -Wall "
                                 "-Werror -fsyntax-only -x c -"),
                   0);
}
END_TEST

/* tests/sampler/exported.txt: a name that is missing breaks programs, a new one is a promise. After
 * a change that is meant: nm -D --defined-only build/libtessera.so.0 | awk '{print $3}' | sort */
START_TEST(exported_names)
{
    install();
    const program_result *r = shell_installed(
        "nm -D --defined-only $R/usr/lib/libtessera.so | awk '{print $3}' | LC_ALL=C "
        "sort | diff tests/sampler/exported.txt -");
    ck_assert_msg(r->code == 0, "exported names (< the list, > the library):\n%s%s", r->out,
                  r->err);
    r = shell_installed("readelf -d $R/usr/lib/libtessera.so | grep SONAME");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "[libtessera.so.0]"), "%s", r->out);
    r = shell_installed(
        "v=$(pkg-config --modversion tessera) && test -f "
        "$R/usr/lib/libtessera.so.$v && echo $v | grep -qE '^[0-9]+(\\.[0-9]+){2}$'");
    program_expect(r, 0);
    /* the archive's other names are hidden from whoever loads a program, and all are ours */
    r = shell_installed("readelf -sW $R/usr/lib/libtessera.a | awk '$5 == \"GLOBAL\" && $6 == "
                        "\"DEFAULT\" && $7 != \"UND\" {print $8}' | LC_ALL=C sort | diff "
                        "tests/sampler/exported.txt -");
    ck_assert_msg(r->code == 0, "names of the archive:\n%s%s", r->out, r->err);
    r = shell_installed("nm -g --defined-only $R/usr/lib/libtessera.a | awk 'NF == 3 && $3 !~ "
                        "/^ts_/ {print $3}' | grep .");
    ck_assert_msg(r->code == 1, "names without ts_: %s%s", r->out, r->err);
}
END_TEST

START_TEST(the_installed_program)
{
    install(); /* again: over what is there */
    const program_result *r = program_shell("cd / && %s/usr/bin/tessera info", root);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, root) && strstr(r->out, "/usr/bin/../share/tessera/default"), "%s",
                  r->out);
    program_expect(program_shell("strings -a %s/usr/lib/libtessera.so | grep -qx "
                                 "%s/usr/share/tessera/default",
                                 root, root),
                   0);
    program_expect(program_shell(MAKE " uninstall PREFIX=%s/usr && test -z \"$(find %s/usr -not "
                                      "-type d)\"",
                                 root, root),
                   0);
    program_expect(
        program_shell("cd %s/tree && " MAKE
                      " install PREFIX=/usr DESTDIR=%s/stage && cd %s/stage/usr && test -x "
                      "bin/tessera && grep -q '^prefix=/usr$' lib/pkgconfig/tessera.pc && "
                      "test \"$(readlink lib/libtessera.so)\" = libtessera.so.0 && test -f "
                      "lib/libtessera.so.0 && cd share && grep -q '^complete -F' "
                      "bash-completion/completions/tessera && grep -q '^#compdef' "
                      "zsh/site-functions/_tessera && grep -q '^complete -c' "
                      "fish/vendor_completions.d/tessera.fish",
                      root, root, root),
        0);
}
END_TEST

/* The loader is told, but for a staged tree, and only by root. */
START_TEST(ldconfig)
{
    install();
    program_expect(program_shell("rm -f %s/told; cd %s/tree && PATH=%s/fake:$PATH " MAKE
                                 " install PREFIX=%s/usr DESTDIR=%s/stage && test ! -e %s/told",
                                 root, root, root, root, root, root),
                   0);
    program_expect(program_shell("cd %s/tree && PATH=%s/fake:$PATH " MAKE
                                 " install PREFIX=%s/usr && if test $(id -u) = 0; then test -e "
                                 "%s/told; else test ! -e %s/told; fi",
                                 root, root, root, root, root),
                   0);
}
END_TEST

int main(void)
{
    root = testing_tmp();
    Suite *suite = suite_create("install");
    TCase *tc = tcase_create("install");
    tcase_set_timeout(tc, 0); /* it may have to build what it installs */
    tcase_add_test(tc, a_first_program);
    tcase_add_test(tc, the_archive);
    tcase_add_test(tc, a_cpp_program);
    tcase_add_test(tc, headers_stand_alone);
    tcase_add_test(tc, exported_names);
    tcase_add_test(tc, the_installed_program);
    tcase_add_test(tc, ldconfig);
    suite_add_tcase(suite, tc);
    int failed = testing_main(suite);
    free(root);
    return failed;
}
