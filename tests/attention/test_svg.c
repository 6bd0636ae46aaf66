/* --attention svg on the CPU, and on a device whose memory is not the host's. */
#include "attention/patterns.h"
#include "attention/plans.h"
#include "tests/attention/sparse_run.h"
#include "tests/attention/svg_choices.h"

START_TEST(choices) { svg_choices("cpu", _i); }
END_TEST
START_TEST(choices_far) { svg_choices("far", _i); }
END_TEST

/* Of a picture both are the same: spatial, so that equal runs are equal. */
START_TEST(picture)
{
    sparse_run j = sparse_run_on("cpu", 1, SVG_POLICY, 2);
    ck_assert_int_eq(j.attn.counters.ranked[TS_RANK_SPATIAL], SLOTS * LAYERS * A);
    sparse_run_free(&j);
}
END_TEST

/* With text behind the video only its first nv blocks have places. */
START_TEST(scores)
{
    ts_grid g = ts_grid_of(3, 8, 16);
    int32_t at[3 * 8 * 16];
    float x[2 * 7 * 7];
    ts_grid_order(&g, TS_RASTER, at);
    ck_assert(ts_pattern_svg(&g, at, 6, 7, x));
    ck_assert(x[0] == 0 && x[1] == -64 && x[2] == -128 && x[7] == -64); /* blocks are half frames */
    ck_assert(x[49] == 0 && x[50] == -64 * 3 && x[51] == -1 && x[49 + 7 + 2] == -64 * 3 + 1);
    for (int i = 0; i < 7; i++) ck_assert(x[i * 7 + 6] == 0 && x[42 + i] == 0 && x[91 + i] == 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("svg");
    TCase *t = tcase_create("svg");
    tcase_add_loop_test(t, choices, 0, 2);
    tcase_add_loop_test(t, choices_far, 0, 1);
    tcase_add_test(t, picture);
    tcase_add_test(t, scores);
    suite_add_tcase(s, t);
    return testing_main(s);
}
