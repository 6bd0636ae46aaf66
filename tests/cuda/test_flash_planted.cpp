/* Faults planted in the flash kernels (TS_PLANTED in their source): what holds the kernels finds
 * each, the emulator by a sentence or plain C by numbers beyond their bounds. */
#include "backend/cuda/attention_launch.h"
#include "tests/cuda/attention_case.h"

#define PLANTED(n)                                          \
    extern "C" const ts_flash_kernel ts_flash_planted##n[]; \
    extern "C" const int ts_flash_planted_count##n
PLANTED(1);
PLANTED(2);
PLANTED(3);
PLANTED(4);
PLANTED(5);

struct planted_fault {
    const char *what;
    const ts_flash_kernel *list;
    int kernel;        /* of the list: 0 of 64 rows with sums, 1 of 128 rows */
    const char *words; /* of the emulator; NULL: numbers are wrong */
};
static const planted_fault planted[] = {
    {"no wait for cp.async", ts_flash_planted1, 0, "is still copying: no wait"},
    {"no wait for cp.async", ts_flash_planted1, 1, "is still copying: no wait"},
    {"no barrier before the next copy", ts_flash_planted2, 0, "no barrier between"},
    {"no barrier before the next copy", ts_flash_planted2, 1, "no barrier between"},
    {"two registers of a fragment swapped", ts_flash_planted3, 0, NULL},
    {"two registers of a fragment swapped", ts_flash_planted3, 1, NULL},
    {"no __syncwarp before Q's place is reused", ts_flash_planted4, 1, "still reads"},
    {"no barrier before another warp reads lse", ts_flash_planted5, 0, "of this block has written"},
};

START_TEST(planted_fault_is_found)
{
    static const ts_cuda_chip chip = {8, 0, 3, 166912};
    const planted_fault *p = planted + _i;
    const ts_flash_kernel *f = p->list + p->kernel;
    attention_case c = {};
    attention_make(&c, {TS_BF16, 1, 2, 200, 200, f->D, 0.4, false, f->sums, 0, 0, false, 0, 1});
    ck_cuda(cudaFuncSetAttribute(f->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 (int)f->shared));
    size_t scratch = ts_flash_scratch(f, &c.device, &chip);
    ck_cuda(ts_flash_run(f, &c.device, &chip, test_take<char>(scratch), test_stream()));
    std::string found = test_found();
    if (p->words) {
        ck_assert_msg(found.find(p->words) != std::string::npos, "%s: \"%s\"", p->what,
                      found.c_str());
        return;
    }
    ck_assert_msg(found.empty(), "%s: %s", p->what, found.c_str());
    ts_attention_ref(&c.host);
    attention_worst worst = attention_compare(c);
    ck_assert_msg(worst.share > 10, "%s: %.2f of the bound", p->what, worst.share);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("flash_planted");
    TCase *c = tcase_create("planted");
    tcase_add_checked_fixture(c, test_order_default, test_release);
    tcase_add_loop_test(c, planted_fault_is_found, 0, sizeof planted / sizeof *planted);
    suite_add_tcase(s, c);
    return testing_main(s);
}
