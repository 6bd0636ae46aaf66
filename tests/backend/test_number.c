/* Numbers as text, in the C locale and under one with a decimal comma. */
#include "backend/number.h"
#include "tests/comma_locale.h"
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_reading(void)
{
    static const struct {
        const char *text;
        double value; /* NaN: it is none */
    } cases[] = {{"1", 1},        {"-0.25", -0.25}, {"+2.5e-1", 0.25},  {".5", 0.5},  {"5.", 5},
                 {"1e3", 1000},   {"00012", 12},    {"", NAN},          {" 1", NAN},  {"1 ", NAN},
                 {"0,5", NAN},    {"inf", NAN},     {"-infinity", NAN}, {"nan", NAN}, {"0x10", NAN},
                 {"-0x1p3", NAN}, {"1e999", NAN},   {"e3", NAN},        {".", NAN},   {"-", NAN},
                 {"1e", NAN},     {"1.5.2", NAN}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double x = 77;
        bool read = ts_number_read(cases[i].text, &x);
        ck_assert_msg(read == !isnan(cases[i].value), "\"%s\"", cases[i].text);
        ck_assert_msg(x == (read ? cases[i].value : 77), "\"%s\" is %.17g", cases[i].text, x);
    }
    const char *end, *text = "0.1:0.5:x";
    double x;
    ck_assert(ts_number_prefix(text, &x, &end) && x == 0.1 && end == text + 3);
    ck_assert(!ts_number_prefix(text + 8, &x, &end) && end == text + 8);
}

static void check_writing(void)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {0.2, "0.2"},
                 {-7.5, "-7.5"},
                 {1e6, "1000000"},
                 {9007199254740991.0, "9007199254740991"},
                 {1e300, "1e+300"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {1.0 / 3, "0.3333333333333333"}};
    char text[TS_NUMBER_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(ts_number_text(cases[i].value, text), cases[i].text);
    /* every double comes back, whatever its exponent */
    double edge[] = {DBL_MIN,  DBL_MAX, DBL_EPSILON,         4.9e-324,
                     -DBL_MAX, 0x1p53,  0x1.fffffffffffffp52};
    for (size_t i = 0; i < sizeof edge / sizeof *edge; i++) {
        double back;
        ts_number_text(edge[i], text);
        ck_assert_msg(ts_number_read(text, &back) && back == edge[i], "%s", text);
    }
    for (uint64_t i = 0, bits = 1; i < 20000; i++) {
        double x, back;
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x)) continue;
        ck_assert(strlen(ts_number_text(x, text)) < TS_NUMBER_TEXT - 1);
        ck_assert_msg(ts_number_read(text, &back) && back == x, "%s is %.17g", text, back);
    }
}

static void check_whole(void)
{
    uint64_t x = 77;
    const char *end, *text = "12-of-3";
    ck_assert(ts_whole_read("0", 0, &x) && x == 0);
    ck_assert(ts_whole_read("18446744073709551615", UINT64_MAX, &x) && x == UINT64_MAX);
    ck_assert(!ts_whole_read("18446744073709551616", UINT64_MAX, &x));
    ck_assert(!ts_whole_read("99999999999999999999999", UINT64_MAX, &x));
    ck_assert(ts_whole_read("007", 7, &x) && x == 7);
    static const char *const none[] = {"", "-1", "+1", " 1", "1 ", "8", "1.0", "0x1", "1e0"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        ck_assert_msg(!ts_whole_read(none[i], 7, &x), "\"%s\"", none[i]);
    ck_assert_uint_eq(x, 7);
    ck_assert(ts_whole_prefix(text, &x, &end) && x == 12 && end == text + 2);
    ck_assert(!ts_whole_prefix(end, &x, &end) && end == text + 2);
}

START_TEST(test_c_locale)
{
    check_reading();
    check_writing();
    check_whole();
}
END_TEST

START_TEST(test_bytes)
{
    static const struct {
        double bytes;
        const char *said;
    } cases[] = {{0, "0 bytes"},     {999, "999 bytes"}, {1000, "1.0 kB"},     {9949, "9.9 kB"},
                 {9951, "10 kB"},    {999499, "999 kB"}, {999501, "1.0 MB"},   {1.6e7, "16 MB"},
                 {3.21e9, "3.2 GB"}, {64.4e9, "64 GB"},  {9.007e15, "9007 TB"}};
    char text[TS_NUMBER_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(ts_bytes_text(cases[i].bytes, text), cases[i].said);
}
END_TEST

START_TEST(test_comma_locale)
{
    char text[32];
    if (!comma_locale_set()) return;
    check_reading();
    check_writing();
    check_whole();
    /* the host program's own locale is as it was */
    snprintf(text, sizeof text, "%.1f", 0.5);
    ck_assert_str_eq(text, "0,5");
    comma_locale_reset();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("number");
    TCase *t = tcase_create("all");
    suite_add_tcase(s, t);
    tcase_add_test(t, test_c_locale);
    tcase_add_test(t, test_bytes);
    tcase_add_test(t, test_comma_locale);
    return testing_main(s);
}
