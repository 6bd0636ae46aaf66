/* Each flash kernel against plain C, within bounds that follow from the formats. */
#include "backend/cuda/attention_launch.h"
#include "tests/cuda/attention_case.h"

static const ts_cuda_chip chip = {8, 0, 3, 166912}; /* an A100 of three multiprocessors */

struct flash_case {
    const char *label;
    attention_shape s; /* D: less than that of the kernel */
    int longer;        /* 1: only where long variants are asked for */
};
/*   type B  A  Nq  Nk  D keep shared sums bias nk in_place pad spread */
static const flash_case plain[] = {
    {"ragged", {TS_BF16, 1, 2, 200, 200, 0, 0.4, 0, 0, 0, 0, 0, 0, 1}, 0},
    {"least", {TS_BF16, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1}, 0},
    {"cross", {TS_BF16, 2, 1, 70, 150, 8, 1, 0, 0, 0, 77, 0, 24, 1}, 0},
    {"no keys", {TS_BF16, 2, 1, 70, 64, 0, 1, 0, 0, 0, -1, 0, 0, 1}, 0},
    {"peaked", {TS_BF16, 3, 1, 130, 130, 0, 0.5, 1, 0, 0, 100, 1, 8, 4}, 0},
    {"many", {TS_BF16, 1, 3, 450, 450, 0, 0.25, 1, 0, 0, 0, 0, 24, 4}, 0},
    {"words", {TS_BF16, 1, 1, 2100, 2100, 8, 0.05, 0, 0, 0, 0, 0, 0, 1}, 0},
};
static const flash_case summed[] = {
    {"ragged", {TS_BF16, 1, 2, 200, 200, 0, 0.4, 0, 1, 0, 0, 0, 0, 1}, 0},
    {"dense", {TS_BF16, 2, 1, 150, 150, 8, 1, 0, 1, 0, 70, 1, 8, 2}, 0},
    {"turns", {TS_BF16, 1, 8, 130, 130, 0, 1, 0, 1, 0, 0, 0, 0, 1}, 0},
    {"no keys", {TS_BF16, 2, 1, 70, 70, 0, 1, 0, 1, 0, -1, 0, 0, 1}, 0},
    {"words", {TS_BF16, 1, 1, 2100, 2100, 8, 0.05, 0, 1, 0, 2075, 0, 0, 1}, 1},
};
static const flash_case biased[] = {
    {"of keys", {TS_BF16, 2, 2, 70, 130, 8, 1, 0, 0, 1, 100, 0, 0, 1}, 0},
    {"of all", {TS_BF16, 1, 2, 100, 100, 0, 1, 0, 0, 2, 0, 1, 8, 1}, 0},
    {"infinite", {TS_BF16, 1, 2, 70, 200, 0, 1, 0, 0, 3, 0, 0, 0, 2}, 0},
    {"no keys", {TS_BF16, 2, 1, 70, 70, 0, 1, 0, 0, 2, -1, 0, 0, 1}, 0},
};

/*                                                            spread rest every */
static const flash_case rested[] = {
    {"ragged", {TS_BF16, 1, 3, 200, 200, 0, 0.4, 0, 0, 0, 0, 0, 0, 1, 1, 0}, 0},
    {"forms", {TS_BF16, 3, 4, 330, 330, 8, 0.4, 0, 0, 0, 0, 1, 8, 1, 2, 0}, 0},
    {"keys that are masked", {TS_BF16, 1, 2, 200, 200, 0, 0.3, 1, 0, 0, 50, 0, 0, 1, 1, 0}, 0},
    {"words", {TS_BF16, 1, 1, 4160, 4160, 8, 0.02, 0, 0, 0, 0, 0, 0, 1, 1, 0}, 1},
    {"whole tiles", {TS_BF16, 1, 1, 4096, 4096, 8, 0.02, 0, 0, 0, 0, 0, 0, 1, 1, 0}, 1},
};
/* of kernels with 64 rows */
static const flash_case sampled[] = {
    {"every third", {TS_BF16, 2, 2, 460, 460, 0, 0.4, 0, 0, 0, 0, 0, 0, 1, 2, 3}, 0},
    {"every fourth, dense", {TS_BF16, 1, 2, 330, 330, 0, 1, 0, 0, 0, 0, 0, 8, 1, 0, 4}, 0},
    {"every second of a plan", {TS_BF16, 1, 1, 330, 330, 8, 0.4, 0, 0, 0, 0, 0, 0, 1, 0, 2}, 0},
};

static void run_case(const ts_flash_kernel *f, const flash_case &t)
{
    attention_case c = {};
    attention_shape s = t.s;
    s.D = f->D - s.D;
    attention_make(&c, s);
    ck_assert_msg(ts_flash_fits(f, &c.device, &chip), "%s, %s: does not fit", f->name, t.label);
    size_t scratch = ts_flash_scratch(f, &c.device, &chip);
    ck_cuda(ts_flash_run(f, &c.device, &chip, test_take<char>(scratch), test_stream()));
    std::string found = test_found();
    ck_assert_msg(found.empty(), "%s, %s: %s", f->name, t.label, found.c_str());
    ts_attention_ref(&c.host);
    attention_worst worst = attention_compare(c);
    ck_assert_msg(worst.share <= 1, "%s, %s: %.2f of the bound: %s", f->name, t.label, worst.share,
                  worst.what.c_str());
    if (test_verbose())
        printf("%s%s, %s: %.2f of the bound: %s\n", f->name, f->sums ? " sums" : "", t.label,
               worst.share, worst.what.c_str());
    test_release();
}
static const flash_case *cases_of(const ts_flash_kernel *f)
{
    return f->sums ? summed : f->bias ? biased : f->rest ? rested : plain;
}
static int count_kernels(void) { return ts_flash_count; }

START_TEST(kernel_is_within_its_bounds)
{
    const ts_flash_kernel *f = ts_flash_kernels + _i;
    const flash_case *list = cases_of(f);
    size_t n = f->sums   ? sizeof summed / sizeof *summed
               : f->bias ? sizeof biased / sizeof *biased
               : f->rest ? sizeof rested / sizeof *rested
                         : sizeof plain / sizeof *plain;
    for (size_t i = 0; i < n; i++) {
        if (list[i].longer && !test_long()) continue;
        test_order(list[i].longer ? 0 : (int)(i % TEST_ORDERS));
        run_case(f, list[i]);
    }
    for (size_t i = 0; f->rest && f->rows == 64 && i < sizeof sampled / sizeof *sampled; i++) {
        test_order((int)i % TEST_ORDERS);
        run_case(f, sampled[i]);
    }
}
END_TEST

/* of 64 and 128 rows, one stage and two, sums and none */
START_TEST(order_of_threads_changes_nothing)
{
    for (int i = 0; i < ts_flash_count; i++) {
        const ts_flash_kernel *f = ts_flash_kernels + i;
        if (f->D != 32 && f->D != 128) continue;
        test_order(_i);
        run_case(f, cases_of(f)[0]);
    }
}
END_TEST

/* fewer thread blocks than items of work, which ts_flash_run has with sums only */
START_TEST(items_take_turns)
{
    for (int i = 0; i < ts_flash_count; i++) {
        const ts_flash_kernel *f = ts_flash_kernels + i;
        attention_case c = {};
        if (f->sums || f->bias || f->rest) continue;
        attention_make(&c, {TS_BF16, 1, 3, 200, 200, f->D, 1, 0, 0, 0, 0, 0, 0, 1});
        ts_attend_args a = {};
        a.q = (const void *)(uintptr_t)c.device.q.p.at;
        a.k = (const void *)(uintptr_t)c.device.k.p.at;
        a.v = (const void *)(uintptr_t)c.device.v.p.at;
        a.out = (void *)(uintptr_t)c.device.out.p.at;
        a.ldq = a.ldk = a.ldv = a.ldo = c.ld;
        a.A = 3;
        a.Nq = a.Nk = 200;
        a.D = f->D;
        a.scale = c.device.scale * 1.44269504f;
        a.lse = (float *)(uintptr_t)c.device.lse.p.at;
        test_order(i % TEST_ORDERS);
        ck_cuda(f->launch(&a, NULL, 2, test_stream()));
        ck_well(f->name);
        ts_attention_ref(&c.host);
        attention_worst worst = attention_compare(c);
        ck_assert_msg(worst.share <= 1, "%s: %s", f->name, worst.what.c_str());
        test_release();
    }
}
END_TEST

START_TEST(rows_of_matrices_share_no_bank)
{
    emu_stats_read(1);
    for (int i = 0; i < ts_flash_count; i++) {
        const ts_flash_kernel *f = ts_flash_kernels + i;
        if (f->sums || f->bias || f->rest) continue;
        attention_case c = {};
        attention_shape s = plain[2].s;
        s.D = f->D;
        attention_make(&c, s);
        ck_cuda(ts_flash_run(f, &c.device, &chip, NULL, test_stream()));
        ck_well("launch");
    }
    emu_stats n = emu_stats_read(1);
    if (ON_GPU) return;
    ck_assert_msg(n.ldmatrix > 1000 && n.ldmatrix_conflicts == 0, "%ld of %ld phases",
                  n.ldmatrix_conflicts, 4 * n.ldmatrix);
}
END_TEST

static void open_case(void)
{
    test_order_default();
    ck_cuda(ts_cuda_attention_init(&chip));
}

int main(void)
{
    Suite *s = suite_create("flash");
    TCase *c = tcase_create("flash");
    tcase_set_timeout(c, 600);
    tcase_add_checked_fixture(c, open_case, test_release);
    tcase_add_loop_test(c, kernel_is_within_its_bounds, 0, count_kernels());
    tcase_add_loop_test(c, order_of_threads_changes_nothing, 0, TEST_ORDERS);
    tcase_add_test(c, items_take_turns);
    tcase_add_test(c, rows_of_matrices_share_no_bank);
    suite_add_tcase(s, c);
    return testing_main(s);
}
