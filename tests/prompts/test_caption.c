/* Captions against what diffusers' PixArt pipelines make of them, and what can not be cleaned. */
#include "prompts/text.h"
#include "tests/testing.h"

#include <stdlib.h>
#include <string.h>

#include "tests/prompts/caption_rows.h"
enum { CAPTIONS = sizeof captions / sizeof *captions };

static void check(const char *text, const char *want)
{
    ts_err err = {0};
    char *got = NULL;
    ck_assert_msg(ts_clean_caption(&err, text, &got) == TS_OK, "\"%s\": %s", text, err.text);
    ck_assert_msg(!strcmp(got, want), "\"%s\" becomes \"%s\", expected \"%s\"", text, got, want);
    free(got);
}

START_TEST(caption) { check(captions[_i].text, captions[_i].clean); }
END_TEST

/* What the reference can not say of itself in a table. */
START_TEST(no_string)
{
    check("a%00b", "ab"); /* a NUL, which ftfy removes */
    check("\xEF\xBB\xBF"
          "Cat",
          "cat");
}
END_TEST

/* mT5 reads Chinese, T5 does not; strokes and the like go in both. */
START_TEST(chinese)
{
    static const char *const text = "A lantern \xE4\xBD\xA0\xE5\xA5\xBD \xE3\x87\x80, wet",
                             *const want[] = {"a lantern , wet",
                                              "a lantern \xE4\xBD\xA0\xE5\xA5\xBD , wet"};
    ts_err err = {0};
    char *got = NULL;
    for (int han = 0; han < 2; han++) {
        ck_assert(!(han ? ts_clean_caption_with_han : ts_clean_caption)(&err, text, &got));
        ck_assert_msg(!strcmp(got, want[han]), "\"%s\", expected \"%s\"", got, want[han]);
        free(got);
    }
}
END_TEST

START_TEST(refused)
{
    ts_err err = {0};
    char *got = (char *)"";
    ck_assert_int_eq(ts_clean_caption(&err, "caf\xE9", &got), TS_EUSAGE);
    ck_assert_str_eq(err.text, "the text is not UTF-8: byte 0xe9 at offset 3");
    ck_assert_ptr_null(got);
}
END_TEST

/* Long and unkind: one word, all digits, all marks, nested references. Cleaned, or refused in a
 * sentence. */
START_TEST(long_ones)
{
    static const char *const units[] = {"a",  "7",  "(",  "&amp;", "<b>", "%", "\xE6\x97\xA5",
                                        "- ", "a1", "&#", "<"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t n = strlen(units[u]), times = 4000;
        char *text = calloc(n * times + 1, 1), *got = NULL;
        ts_err err = {0};
        for (size_t i = 0; i < times; i++) memcpy(text + i * n, units[u], n);
        ts_status st = ts_clean_caption(&err, text, &got);
        ck_assert_msg(st == TS_OK ||
                          (st == TS_EUSAGE && strstr(err.text, "too long to be cleaned")),
                      "\"%s\" 4000 times: %s", units[u], err.text);
        if (got) ck_assert_uint_le(strlen(got), 2 * n * times);
        free(text);
        free(got);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("caption");
    TCase *tc = tcase_create("caption");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, caption, 0, CAPTIONS);
    tcase_add_test(tc, no_string);
    tcase_add_test(tc, chinese);
    tcase_add_test(tc, refused);
    tcase_add_test(tc, long_ones);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
