/* What measured gains are worth, at the borders of every doubt. */
#include "cli/bench/bench_doubt.c"

#include "tests/testing.h"

#include <string.h>

enum { BUSY = TS_DOUBT_BUSY, IMPOSSIBLE = TS_DOUBT_IMPOSSIBLE, APART = TS_DOUBT_APART };

START_TEST(doubts)
{
    static const struct {
        ts_measured m;
        int doubts;
        const char *says[4];
    } rows[] = {
        /* nothing speaks against it; the borders are no doubts yet */
        {{1.3, 1.4, 2, 0.5, 0.02, 0.3, 2}, 0, {0}},
        {{1.02 * 1.4, 1.4, 2, 2, 0.1, 9, 2}, 0, {0}},
        {{0.8, 1.4, 2, 0, 0, 0, 2}, 0, {0}},
        {{1.3, 0, 2, 0, -1, 2, 2}, 0, {0}},
        {{1.3, 1.4, 2, 0, -1, -1, 2}, 0, {0}},
        /* each of them alone */
        {{1.3, 1.4, 2, 0.5, 0.101, 0.3, 2}, BUSY, {"busy", "others took 10% of its time"}},
        {{1.3, 1.4, 2, 0.5, -1, 2.1, 2}, BUSY, {"busy", "a load of 2.1 on 2 cores"}},
        {{1.3, 1.4, 2, 0.5, -1, 1.5, 1}, BUSY, {"a load of 1.5 on 1 core"}},
        {{1.70, 1.48, 2, 0.5, 0, 0, 2},
         IMPOSSIBLE,
         {"1.70x is more than the 1.48x that arithmetic"}},
        {{1.0201, 1, 2, 0, 0, 0, 2}, IMPOSSIBLE, {"1.02x is more than the 1.00x"}},
        {{1.1, 1.4, 0.3, 0.31, 0, 0, 2},
         APART,
         {"turns lie 0.31 s apart, the difference is 0.3 s"}},
        {{0.9, 1.4, 0.3, 1, 0, 0, 2}, APART, {"apart"}}, /* slower, perhaps */
        /* what is not compared with anything is only of its machine */
        {{0, 0, 0, 5, 0, 0, 2}, 0, {0}},
        {{0, 0, 0, 5, 0.5, 0, 2}, BUSY, {"50%"}},
        /* all, and a measured share counts where both are known */
        {{5.26, 1.57, 1, 2, 0.4, 0, 2},
         BUSY | IMPOSSIBLE | APART,
         {"the machine was busy: others took 40% of its time; 5.26x", "allows; turns lie 2 s"}},
        {{1.3, 1.4, 2, 0, 0.01, 64, 2}, 0, {0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[TS_DOUBT_TEXT];
        int got = ts_doubts(&rows[i].m);
        ck_assert_msg(got == rows[i].doubts, "row %zu: %d", i, got);
        ts_doubt_text(&rows[i].m, got, text);
        ck_assert_msg(!*text == !got, "row %zu: %s", i, text);
        for (int k = 0; rows[i].says[k]; k++)
            ck_assert_msg(strstr(text, rows[i].says[k]), "row %zu: %s", i, text);
    }
}
END_TEST

/* The longest sentence fits. */
START_TEST(every_number_fits)
{
    char text[TS_DOUBT_TEXT];
    const ts_measured m = {1e9, 1e9 / 3, 1 / 3e9, 1e9 / 3, 1, 1, 2};
    ts_doubt_text(&m, BUSY | IMPOSSIBLE | APART, text);
    ck_assert_msg(strlen(text) < TS_DOUBT_TEXT - 8 && text[strlen(text) - 1] == 's', "%s", text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doubts");
    TCase *t = tcase_create("doubts");
    tcase_add_test(t, doubts);
    tcase_add_test(t, every_number_fits);
    suite_add_tcase(s, t);
    return testing_main(s);
}
