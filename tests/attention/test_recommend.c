/* --attention auto: the cheapest policy that was measured to be near enough, of the grid that is
 * most like the run's. */
#include "attention/recommend.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_policy recommend(const char *text, ts_grid g, int steps, ts_advice *a)
{
    ts_err err = {0};
    ts_policy p;
    ck_assert_msg(ts_policy_parse(&err, text, &p) == TS_OK, "%s", err.text);
    ts_policy_recommend(&p, &g, steps, a);
    ck_assert_int_ne(p.kind, TS_AUTO);
    return p;
}

static const int grids[][3] = {{15, 8, 8}, {8, 16, 16}, {21, 30, 52}, {1, 64, 64}};

/* What is asked for was measured; who asks for more gets no cheaper policy. */
START_TEST(near_enough)
{
    const int *g = grids[_i], steps[] = {4, 24, 50};
    for (int s = 0; s < 3; s++) {
        double last = 0;
        for (int psnr = 0; psnr <= 60; psnr += 2) {
            char text[32];
            ts_advice a;
            snprintf(text, sizeof text, "auto:psnr=%d", psnr);
            ts_grid grid = ts_grid_of(g[0], g[1], g[2]);
            ts_policy p = recommend(text, grid, steps[s], &a);
            double work = ts_policy_work(&p, steps[s], grid.nb);
            ck_assert(a.asked == psnr && a.F > 0);
            ck_assert_msg(work >= last, "psnr %d: %g after %g", psnr, work, last);
            ck_assert((p.kind == TS_DENSE) == !a.policy);
            ck_assert(a.policy ? a.psnr >= psnr && work <= 0.8 : work == 1);
            last = work;
        }
        ck_assert_msg(last == 1, "60 dB are reached by no sparse policy");
    }
}
END_TEST

/* It is settled for the run's steps, and its text says all of it. */
START_TEST(settled)
{
    ts_advice a;
    ts_policy p = recommend("auto:psnr=10", ts_grid_of(21, 30, 52), 50, &a), q;
    char *text = ts_policy_text(&p), *again;
    ts_err err = {0};
    ck_assert_msg(strstr(text, "-steps=10") != NULL, "%s", text);
    ck_assert(ts_policy_parse(&err, text, &q) == TS_OK);
    again = ts_policy_text(&q);
    ck_assert_str_eq(text, again);
    free(text);
    free(again);
}
END_TEST

START_TEST(sentences)
{
    ts_advice a;
    ts_grid few = ts_grid_of(3, 8, 8), some = ts_grid_of(8, 16, 16);
    ck_assert_int_eq(recommend("auto", few, 24, &a).kind, TS_DENSE);
    char *text = ts_advice_text(&a, &few, 0);
    ck_assert_str_eq(text, "attention auto: dense: 192 tokens are too few to gain");
    free(text);
    ck_assert_int_eq(recommend("auto:psnr=90", some, 20, &a).kind, TS_DENSE);
    text = ts_advice_text(&a, &some, 0);
    ck_assert_str_eq(text,
                     "attention auto: dense: no policy that saves was as near to it as 90 dB on "
                     "a small model, 2048 tokens (8 x 16 x 16), 12 steps");
    free(text);
    a = (ts_advice){.policy = "pooled:keep=0.5",
                    .psnr = 31.26,
                    .F = 8,
                    .H = 16,
                    .W = 16,
                    .steps = 24,
                    .asked = 30};
    text = ts_advice_text(&a, &some, 1.234);
    ck_assert_str_eq(text, "attention auto: pooled:keep=0.5, by arithmetic 1.23 times as fast as "
                           "dense; PSNR 31.3 dB against dense on a small model, 2048 tokens (8 x "
                           "16 x 16), 24 steps");
    free(text);
}
END_TEST

static double work_of(const char *text, int steps)
{
    ts_err err = {0};
    ts_policy p;
    ck_assert(ts_policy_parse(&err, text, &p) == TS_OK);
    ts_policy_settle(&p, steps);
    return ts_policy_work(&p, steps, 64);
}

/* Ten steps of 64 blocks: two dense; of searches one more (by error, both trying six or nine plans
 * on three eighths of the blocks, and where residuals are kept a sparse call), or one at half a
 * call (by mass).
 */
START_TEST(work)
{
    ck_assert_double_eq_tol(work_of("dense", 10), 1, 1e-12);
    ck_assert_double_eq_tol(work_of("window:keep=0.25", 10), (2 + 8 * 0.25) / 10, 1e-12);
    ck_assert_double_eq_tol(work_of("pooled:keep=0.25,dense-layers=0+1", 10), (2 + 8 * 0.25) / 10,
                            1e-12);
    ck_assert_double_eq_tol(work_of("adaspa:keep=0.25", 10),
                            (3 + 9 * 0.25 + 2 * 6 * 0.25 * 3 / 8) / 10, 1e-12);
    ck_assert_double_eq_tol(work_of("adaspa:keep=0.25,residual=0", 10),
                            (3 + 7 * 0.25 + 2 * 9 * 0.25 * 3 / 8) / 10, 1e-12);
    ck_assert_double_eq_tol(work_of("adaspa:keep=0.25,search=mass", 10), (2.5 + 8 * 0.25) / 10,
                            1e-12);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("recommend");
    TCase *t = tcase_create("recommend");
    tcase_add_loop_test(t, near_enough, 0, (int)(sizeof grids / sizeof *grids));
    tcase_add_test(t, settled);
    tcase_add_test(t, sentences);
    tcase_add_test(t, work);
    suite_add_tcase(s, t);
    return testing_main(s);
}
