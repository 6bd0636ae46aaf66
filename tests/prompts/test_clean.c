/* What a prompt becomes before it is tokenized: ftfy.fix_text (default settings, without mojibake repair), html.unescape twice, white space collapsed. */
#include "prompts/text.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *in, *out; } rows[] = {
    {"a panda", "a panda"},
    {"  a \t\n panda  ", "a panda"},
    {"", ""},
    {" \t ", ""},
    {"A small cactus  with a happy face, in the Sahara &amp; sunlight!", "A small cactus with a happy face, in the Sahara & sunlight!"},
    {"&amp;amp;lt;b", "<b"},                                            /* ftfy once, the pipeline twice */
    {"<i>&amp;amp;</i>", "<i>&</i>"},                                   /* ftfy leaves a text with '<' alone */
    {"&lt &notit; &copy;&copy 5&frac12;", "< \xC2\xACit; \xC2\xA9\xC2\xA9 5\xC2\xBD"}, /* without ';' where browsers take it */
    {"&#233;&#xE9;&#x80;&#0;&#99999999;", "\xC3\xA9\xC3\xA9\xE2\x82\xAC\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"&nosuch; & &#; &#x;", "&nosuch; & &#; &#x;"},
    {"\xE2\x80\x9Cquoted\xE2\x80\x9D \xE2\x80\x98it\xE2\x80\x99s\xE2\x80\x99", "\"quoted\" 'it's'"},
    {"\xEF\xBC\xA1\xEF\xBC\x8C\xEF\xBC\x81", "A,!"},                     /* full width */
    {"\xE8\x89\xB2\xE8\xB0\x83\xE8\x89\xB3\xE4\xB8\xBD\xEF\xBC\x8C\xE8\xBF\x87\xE6\x9B\x9D", "\xE8\x89\xB2\xE8\xB0\x83\xE8\x89\xB3\xE4\xB8\xBD,\xE8\xBF\x87\xE6\x9B\x9D"},
    {"\xEF\xBD\xB6\xEF\xBE\x9E", "\xE3\x82\xAC"},                       /* half-width katakana, its mark composed by NFC */
    {"\xEF\xAC\x81sh \xEF\xAC\x84 \xC4\xB2", "fish ffl IJ"},            /* ligatures */
    {"cafe\xCC\x81", "caf\xC3\xA9"},                                    /* NFC */
    {"a\r\nb\rc\xE2\x80\xA8" "d", "a b c d"},                           /* line ends */
    {"a\x01" "b\x7F" "c\xEF\xBB\xBF" "d", "abcd"},                      /* control characters, byte order mark */
    {"\x1B[31mred\x1B[0m", "red"},                                      /* terminal colours */
    {"a\xC2\xA0" "b\xE3\x80\x80" "c", "a b c"},                         /* all kinds of space */
    {"\xF0\x9F\x99\x82 \xE6\x97\xA5\xE6\x9C\xAC", "\xF0\x9F\x99\x82 \xE6\x97\xA5\xE6\x9C\xAC"}};

START_TEST(table)
{
    ts_err err = {0};
    char *got;
    ck_assert_int_eq(ts_clean_prompt(&err, rows[_i].in, &got), TS_OK);
    ck_assert_str_eq(got, rows[_i].out);
    free(got);
}
END_TEST

START_TEST(not_utf8)
{
    static const struct { const char *in, *where; } bad[] = {{"abc\xFF", "offset 3"}, {"\xC3", "offset 0"}, {"ab\xED\xA0\x80", "offset 2"}, {"\xC0\x80", "offset 0"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ts_err err = {0};
        char *got;
        ck_assert_int_eq(ts_clean_prompt(&err, bad[i].in, &got), TS_EUSAGE);
        ck_assert_msg(strstr(err.text, bad[i].where) && strstr(err.text, "UTF-8") && !got, "%s", err.text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clean");
    TCase *tc = tcase_create("clean");
    tcase_add_loop_test(tc, table, 0, sizeof rows / sizeof *rows);
    tcase_add_test(tc, not_utf8);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
