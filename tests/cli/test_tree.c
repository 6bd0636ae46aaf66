/* What the repository holds: no path of a machine in models, no link in a text that leads
 * nowhere. */
#include "tests/cli/program.h"

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

int main(void)
{
    Suite *suite = suite_create("tree");
    TCase *tc = tcase_create("tree");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, models_name_no_machine);
    tcase_add_test(tc, texts_link_to_what_is_there);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
