/* Work of the host in parts: all of it once, and the first failure. */
#include "backend/team.h"

#include "tests/testing.h"

enum { MOST = 1000 };
typedef struct {
    int done[MOST];
    long fails[2]; /* the parts that hold these fail */
} work;

static ts_status count_part(void *user, ts_err *err, long first, long n)
{
    work *w = user;
    for (long i = first; i < first + n; i++) w->done[i]++;
    for (int k = 0; k < 2; k++)
        if (w->fails[k] >= first && w->fails[k] < first + n)
            return ts_fail(err, TS_EMODEL, "number %ld", w->fails[k]);
    return TS_OK;
}

START_TEST(every_part_once)
{
    static const long sizes[] = {0, 1, 2, 3, 7, 8, 9, MOST};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int threads = 1; threads <= 8; threads++) {
            ts_err err = {0};
            work w = {.fails = {-1, -1}};
            ck_assert(ts_team_share(&err, threads, sizes[k], count_part, &w) == TS_OK);
            for (long i = 0; i < MOST; i++) ck_assert_int_eq(w.done[i], i < sizes[k]);
        }
}
END_TEST

START_TEST(the_first_failure)
{
    for (int threads = 1; threads <= 8; threads++)
        for (int again = 0; again < 20; again++) {
            ts_err err = {0};
            work w = {.fails = {900, 20}};
            ck_assert(ts_team_share(&err, threads, MOST, count_part, &w) == TS_EMODEL);
            /* of one part the one that it finds first */
            ck_assert_str_eq(err.text, threads == 1 ? "number 900" : "number 20");
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("team");
    TCase *t = tcase_create("all");
    tcase_add_test(t, every_part_once);
    tcase_add_test(t, the_first_failure);
    suite_add_tcase(s, t);
    return testing_main(s);
}
