/* What single evaluations and kernels come to in sentences, at the borders. */
#include "cli/bench/bench_single.c"

#include "tests/testing.h"

static char line[TS_VERDICT_LINES][TS_VERDICT_TEXT];

static void expect_lines(const char *const *want, int n, const char *which)
{
    int wanted = 0;
    while (want[wanted]) wanted++;
    ck_assert_msg(n == wanted, "%s: %d lines, the last: %s", which, n, n ? line[n - 1] : "");
    for (int i = 0; i < n; i++)
        ck_assert_msg(!strcmp(line[i], want[i]), "%s: got: %s\nexpected: %s", which, line[i],
                      want[i]);
}

#define LIKENESS "how near they are to dense is not measured here: bench with prompts does that"
#define SHARE "self-attention is 40% of a dense run of 50 steps: more than that none can save"
static const ts_step_sum dense = {.name = "dense", .seconds = 100, .attention = 40};

START_TEST(policies)
{
    ts_step_sum p[] = {dense,
                       {.name = "a", .seconds = 90, .gain = 100 / 90., .ideal = 1.25},
                       {.name = "b", .seconds = 75, .search = 6, .gain = 100 / 75., .ideal = 1.5},
                       {.name = "c", .seconds = 99, .gain = 100 / 99., .ideal = 1.5},
                       {.name = "d", .seconds = 110, .gain = 100 / 110., .ideal = 1}};
    expect_lines((const char *const[]){SHARE,
                                       "b saves 25% of a run, of 33% by arithmetic; 8% of it is "
                                       "searching",
                                       "a saves 10% of a run, of 20% by arithmetic",
                                       "c saves nothing, of 33% by arithmetic",
                                       "d costs 10% more, of 0% by arithmetic", LIKENESS, NULL},
                 ts_step_verdict(p, 5, 50, line), "measured");
    /* one void gain, and all are told by arithmetic: what is compared is of one kind */
    p[1].doubtful = true;
    expect_lines((const char *const[]){SHARE, "b saves 33% of a run", "c saves 33% of a run",
                                       "a saves 20% of a run", "d saves nothing", LIKENESS, NULL},
                 ts_step_verdict(p, 5, 50, line), "void");
    ck_assert_int_eq(ts_step_verdict(p, 1, 50, line), 0);
    ck_assert_int_eq(ts_step_verdict(p, 0, 50, line), 0);
}
END_TEST

START_TEST(more_policies_than_lines)
{
    enum { MANY = 30 };
    ts_step_sum p[MANY] = {dense};
    char name[MANY][600];
    for (int i = 1; i < MANY; i++) {
        memset(name[i], 'x', sizeof name[i]);
        snprintf(name[i] + 590, 10, "%d", i);
        p[i] = (ts_step_sum){
            .name = name[i], .seconds = 100, .gain = 1 + i / 10., .ideal = 1 + i / 10.};
    }
    ck_assert_int_eq(ts_step_verdict(p, MANY, 50, line), TS_VERDICT_LINES);
    ck_assert_str_eq(line[TS_VERDICT_LINES - 1], LIKENESS);
    ck_assert_ptr_nonnull(strstr(line[1], " saves 74% of a run"));
}
END_TEST

static ts_kernel_result kernel(ts_kernel_what what, long tokens, double kept, double seconds,
                               double ratio)
{
    return (ts_kernel_result){.r = {.what = what,
                                    .name = "",
                                    .precision = "f32",
                                    .tokens = tokens,
                                    .kept = kept,
                                    .seconds = seconds,
                                    .ratio = ratio}};
}

START_TEST(kernels)
{
    ts_kernel_result k[] = {
        {.r = {.what = TS_KERNEL_PEAK, .flops = 1e9}},
        kernel(TS_KERNEL_DENSE, 512, 1, 0.010, 0),
        kernel(TS_KERNEL_FUSED, 512, 1, 0.011, 1.1),
        kernel(TS_KERNEL_CACHED, 512, 1, 0.005, 0.5),
        kernel(TS_KERNEL_SPARSE, 512, 0.5, 0.0099, 0.505),
        kernel(TS_KERNEL_SPARSE, 512, 0.25, 0.004, 0.625),
        kernel(TS_KERNEL_MEANS, 512, 0.25, 0.005, 1.25),
        kernel(TS_KERNEL_LINEAR, 512, 0.25, 0.02, 5),
        kernel(TS_KERNEL_DENSE, 4096, 1, 0.1, 0),
        kernel(TS_KERNEL_SPARSE, 4096, 0.9, 0.2, 0.45),
        kernel(TS_KERNEL_DENSE, 8192, 1, 0.4, 0),
        kernel(TS_KERNEL_SPARSE, 8192, 0.1, 0.05, 0.8),
    };
    enum { ROWS = sizeof k / sizeof *k };
    k[1].r.peak_share = 0.634;
    expect_lines(
        (const char *const[]){
            "512 tokens: dense reaches 63% of the peak; a plan of 0.5 of the blocks no "
            "faster, 0.25 of the blocks 2.50x as fast (62% of what it promises)",
            "512 tokens: finding blocks in a dense call makes it 1.10x as long, finding "
            "them again takes 0.50 of a dense call, means of the rest make a sparse call "
            "1.25x as long, linear parts 5.00x",
            "4096 tokens: dense takes 100 ms; a plan of 0.9 of the blocks slower, 0.50x",
            "8192 tokens: dense takes 400 ms; a plan of 0.1 of the blocks 8.00x as fast "
            "(80% of what it promises)",
            NULL},
        ts_kernel_verdict(k, ROWS, line), "kernels");
    /* a plan in doubt is left out; a dense row in doubt takes all of its tokens with it */
    k[4].doubts = k[10].doubts = TS_DOUBT_APART;
    k[6].doubts = k[7].doubts = k[2].doubts = k[3].doubts = TS_DOUBT_APART;
    expect_lines(
        (const char *const[]){
            "512 tokens: dense reaches 63% of the peak; a plan of 0.25 of the blocks "
            "2.50x as fast (62% of what it promises)",
            "4096 tokens: dense takes 100 ms; a plan of 0.9 of the blocks slower, 0.50x", NULL},
        ts_kernel_verdict(k, ROWS, line), "doubts");
    for (int i = 0; i < ROWS; i++) k[i].doubts = TS_DOUBT_BUSY;
    ck_assert_int_eq(ts_kernel_verdict(k, ROWS, line), 0);
    ck_assert_int_eq(ts_kernel_verdict(k, 0, line), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench_single");
    TCase *tc = tcase_create("bench_single");
    tcase_add_test(tc, policies);
    tcase_add_test(tc, more_policies_than_lines);
    tcase_add_test(tc, kernels);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
