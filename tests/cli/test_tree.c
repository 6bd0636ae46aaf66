/* What the repository holds: no path of a machine in models, no link in a text that leads nowhere,
 * no name of a file or of a static function twice, no flag of the program in a string of the
 * library. */
#include "tests/cli/program.h"
#include "tests/testing.h"

#include <stdlib.h>
#include <string.h>

/* grep ends with 1 when it finds nothing; /nowhere makes it name the files. */
START_TEST(models_name_no_machine)
{
    program_expect(program_shell("test -f weights/default/tokenizer/spiece.model"), 0);
    const program_result *r = program_shell(
        "find weights tests/fixtures tests/fuzz/corpus -name '*.model' -o -name '*.json' | xargs "
        "grep -laE '/(home|root|tmp|work)/' /nowhere 2>/dev/null");
    ck_assert_msg(!*r->out, "paths of the machine that made them: %s", r->out);
}
END_TEST

/* [text](path) of every text, relative to its folder. */
START_TEST(texts_link_to_what_is_there)
{
    const program_result *r = program_shell(
        "for f in *.md */*.md */*/*.md; do test -f \"$f\" || continue; grep -oE '\\]\\([^)#]+' "
        "\"$f\" | cut -c 3- | grep -vE '^[a-z]+:' | while read -r to; do test -e "
        "\"$(dirname \"$f\")/$to\" || echo \"$f: $to\"; done; done");
    program_expect(r, 0);
    ck_assert_msg(!*r->out, "links to nothing:\n%s", r->out);
}
END_TEST

START_TEST(file_names_are_unique)
{
    const program_result *r = program_shell(
        "find backend weights attention prompts dit codecs sampler cli -name '*.[ch]' "
        "| sed 's|.*/||' | sort | uniq -d");
    program_expect(r, 0);
    ck_assert_msg(!*r->out, "names of two files:\n%s", r->out);
}
END_TEST

/* `folder/file.c` of every text; what is made while building has no fixed folder. */
START_TEST(texts_name_files_that_are_there)
{
    const program_result *r = program_shell(
        "for f in *.md */*.md; do grep -oE "
        "'`(backend|weights|attention|prompts|dit|codecs|sampler|cli|tests|tools|docs)/"
        "[a-zA-Z0-9_./-]+\\.[a-z]+`' \"$f\" | tr -d '`' | while read -r to; do test -e \"$to\" || "
        "echo \"$f: $to\"; done; done");
    program_expect(r, 0);
    ck_assert_msg(!*r->out, "files that are not there:\n%s", r->out);
}
END_TEST

/* The sentences of the library name members of its structs, which the program shows as flags
 * (ts_flags_reword). Comments may name flags: cc takes them away. */
START_TEST(the_library_names_no_flags)
{
    const program_result *r = program_shell(
        "find backend weights attention prompts dit codecs sampler -name '*.[ch]' -o -name '*.inc' "
        "-o -name '*.cu' | while read -r f; do cc -w -fpreprocessed -dD -E -P -x c \"$f\" | grep "
        "-oE "
        "'\"([^\"\\]|\\\\.)*\"' | grep -E -- '--[a-z]' | sed \"s|^|$f: |\"; done");
    program_expect(r, 0);
    ck_assert_msg(!*r->out && !*r->err, "%s%s", r->out, r->err);
}
END_TEST

/* A table that a script computes is what the script prints. */
START_TEST(tables_are_as_computed)
{
    const program_result *r = program_shell(
        "command -v python3 >/dev/null || exit 0; python3 tools/gpu_bounds.py | while read -r row; "
        "do grep -qxF -- \"$row\" docs/measurements.md || echo \"$row\"; done");
    program_expect(r, 0);
    ck_assert_msg(!*r->out, "rows that docs/measurements.md has not:\n%s", r->out);
}
END_TEST

/* This tree, and one of three files: names of kernels may be shared, others may not. */
START_TEST(static_functions_are_unique)
{
    char *tmp = testing_tmp();
    program_expect(program_shell("tools/static-names.sh"), 0);
    program_expect(
        program_shell("cd %s && mkdir backend weights attention prompts dit codecs "
                      "sampler cli && echo 'static int count_rows(int n)' > dit/a.c && "
                      "echo 'static inline void load_row(int n)' | tee dit/b.c > cli/d.c",
                      tmp),
        0);
    program_expect(program_shell("tools/static-names.sh %s", tmp), 0);
    program_expect(
        program_shell("printf 'static const char *\\ncount_rows(void)\\n' > %s/cli/c.c", tmp), 0);
    const program_result *r = program_shell("tools/static-names.sh %s", tmp);
    program_expect(r, 1);
    ck_assert_str_eq(r->out, "static count_rows is in dit/a.c cli/c.c\n");
    free(tmp);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tree");
    TCase *tc = tcase_create("tree");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, models_name_no_machine);
    tcase_add_test(tc, texts_link_to_what_is_there);
    tcase_add_test(tc, texts_name_files_that_are_there);
    tcase_add_test(tc, file_names_are_unique);
    tcase_add_test(tc, the_library_names_no_flags);
    tcase_add_test(tc, tables_are_as_computed);
    tcase_add_test(tc, static_functions_are_unique);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
