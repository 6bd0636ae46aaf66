/* The sentences about measured policies: which are worth it, which are beaten, at the borders. */
#include "cli/bench/bench_verdict.c"

#include "tests/testing.h"

#include <string.h>

enum { MOST = 20 };
static char line[TS_VERDICT_LINES][TS_VERDICT_TEXT];

START_TEST(sentences)
{
    static const struct {
        ts_candidate c[4];
        const char *says[4];
    } rows[] = {
        {{{0}}, {0}},
        {{{"a", 0.22, 26.2}}, {"a saves 22% of denoising and changes the picture visibly (26 dB)"}},
        {{{"a", 0.22, NAN}}, {"a saves 22% of denoising"}},
        {{{"a", 0.02, INFINITY}}, {"a saves nothing and changes nothing"}},
        {{{"a", -0.05, 40}}, {"a costs 5% more and changes nothing that is easily seen (40 dB)"}},
        {{{"a", 0.3, 19.9}}, {"a saves 30% of denoising and changes the picture strongly (20 dB)"}},
        {{{"a", 0.3, 30}}, {"a saves 30% of denoising and changes small things (30 dB)"}},
        /* at the same speed the nearer one; within 1 dB both stand, the one that saves more first
         */
        {{{"a", 0.24, 22}, {"b", 0.23, 26}},
         {"b saves 23% of denoising and changes the picture visibly (26 dB)",
          "a is beaten by b, which saves as much and is 4.0 dB nearer"}},
        {{{"a", 0.22, 26}, {"b", 0.23, 25.5}},
         {"b saves 23% of denoising and changes the picture visibly (26 dB)",
          "a saves 22% of denoising and changes the picture visibly (26 dB)"}},
        /* at the same likeness the faster one; better in both */
        {{{"a", 0.2, 26}, {"b", 0.3, 25.5}},
         {"b saves 30% of denoising and changes the picture visibly (26 dB)",
          "a is beaten by b, which is as near and saves 30% instead of 20%"}},
        {{{"a", 0.2, 22}, {"b", 0.3, 26}},
         {"b saves 30% of denoising and changes the picture visibly (26 dB)",
          "a is beaten by b, which saves more and is 4.0 dB nearer"}},
        {{{"a", 0.2, 22}, {"b", 0.2, INFINITY}},
         {"b saves 20% of denoising and changes nothing",
          "a is beaten by b, which saves as much and changes nothing"}},
        {{{"a", 0.2, INFINITY}, {"b", 0.3, INFINITY}},
         {"b saves 30% of denoising and changes nothing",
          "a is beaten by b, which is as near and saves 30% instead of 20%"}},
        /* a choice: each better in one */
        {{{"a", 0.1, 35}, {"b", 0.3, 25}, {"c", 0.2, 24}},
         {"b saves 30% of denoising and changes the picture visibly (25 dB)",
          "a saves 10% of denoising and changes small things (35 dB)",
          "c is beaten by b, which is as near and saves 30% instead of 20%"}},
        /* what was not compared neither beats nor is beaten */
        {{{"a", 0.3, NAN}, {"b", 0.2, 30}},
         {"a saves 30% of denoising", "b saves 20% of denoising and changes small things (30 dB)"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int n = 0, want = 0;
        while (n < 4 && rows[i].c[n].name) n++;
        while (want < 4 && rows[i].says[want]) want++;
        ck_assert_msg(ts_verdict(rows[i].c, n, line) == want, "row %zu", i);
        for (int k = 0; k < want; k++)
            ck_assert_msg(!strcmp(line[k], rows[i].says[k]), "row %zu: %s", i, line[k]);
    }
}
END_TEST

/* At each likeness the fastest, at each gain the nearest; which of them none beats. */
START_TEST(levels)
{
    static const ts_candidate c[] = {{"a", 0.1, 41},  {"b", 0.3, 32},       {"c", 0.3, 35},
                                     {"d", 0.55, 22}, {"e", 0.4, NAN},      {"f", 0.01, 50},
                                     {"g", 0.2, 21},  {"h", -0.5, INFINITY}};
    static const bool stands[] = {true, false, true, true, false, true, false, true};
    ck_assert_int_eq(ts_verdict_levels(c, 8, line), 2);
    ck_assert_str_eq(line[0], "fastest at 40 dB and more: a (saves 10%); 30 dB: c (saves 30%); 20 "
                              "dB: d (saves 55%)");
    ck_assert_str_eq(line[1],
                     "nearest that saves 10% and more: a (41 dB); 25%: c (35 dB); 50%: d (22 dB)");
    for (int i = 0; i < 8; i++)
        ck_assert_msg(ts_verdict_stands(c, 8, i) == stands[i], "%s", c[i].name);
    ck_assert_int_eq(ts_verdict_levels(c + 4, 2, line), 0); /* one was compared */
    ck_assert_int_eq(ts_verdict_levels(c + 3, 4, line), 2);
    ck_assert_str_eq(line[0], "fastest at 40 dB and more: none; 30 dB: none; 20 dB: d (saves 55%)");
    ck_assert_str_eq(line[1], "nearest that saves 10% and more: d (22 dB); 25%: the same; 50%: the "
                              "same");
    ts_candidate equal[] = {{"x", 0.2, INFINITY}, {"y", 0.2, 30}};
    ck_assert_int_eq(ts_verdict_levels(equal, 2, line), 2);
    ck_assert_str_eq(line[1], "nearest that saves 10% and more: x (equal); 25%: none; 50%: none");
    char name[400];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    ts_candidate longest[] = {{name, 0.6, 25}, {name, 0.3, 35}, {name, 0.2, 45}};
    ck_assert_int_eq(ts_verdict_levels(longest, 3, line), 2);
    ck_assert_uint_lt(strlen(line[0]), TS_VERDICT_TEXT - 1);
}
END_TEST

/* Twenty that are worth it, or beaten: as many lines as there is room for, and the number of the
 * rest; a policy as long as there may be. */
START_TEST(more_than_fit)
{
    ts_candidate c[MOST];
    char name[400];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (int i = 0; i < MOST; i++) c[i] = (ts_candidate){name, 0.1 + 0.03 * i, 50 - 2 * i};
    ck_assert_int_eq(ts_verdict(c, MOST, line), 7);
    ck_assert(strstr(line[0], "saves 67%") && strstr(line[5], "saves 52%"));
    ck_assert_str_eq(line[6], "not named here: 14 more that nothing beats");
    for (int i = 0; i < MOST; i++) c[i] = (ts_candidate){name, 0.2, i ? 20 : 30};
    ck_assert_int_eq(ts_verdict(c, MOST, line), TS_VERDICT_LINES);
    ck_assert(strstr(line[10], "10.0 dB nearer"));
    ck_assert_str_eq(line[11], "not named here: 9 more that are beaten");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("verdict");
    TCase *t = tcase_create("verdict");
    tcase_add_test(t, sentences);
    tcase_add_test(t, levels);
    tcase_add_test(t, more_than_fit);
    suite_add_tcase(s, t);
    return testing_main(s);
}
