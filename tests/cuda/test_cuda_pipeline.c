/* Whole pipelines on the emulated CUDA device against diffusers. Products and convolutions
 * are computed by the host; everything else by the device's own kernels. */
#include "tests/cuda/emu/emulated.h"
#include "tests/sampler/pipeline.h"
#include "tests/testing.h"

#include <stdlib.h>

static bool is_long(void) { return getenv("LONG") != NULL; }

/* guard: device memory faults while the host runs; each change of that costs a system call. */
static void render(const char *fixture, emu_options o, bool sparse, bool stream)
{
    emu_set(o);
    pipeline_render(fixture, "cuda", sparse, stream);
}

START_TEST(dense) { render(pipeline_fixtures[_i], (emu_options){.late = 1}, false, false); }
END_TEST
START_TEST(streamed)
{
    render("wan21-t2i-bf16", (emu_options){.late = _i, .guard = 1}, false, true);
}
END_TEST
START_TEST(sparse) { render(pipeline_fixtures[_i], (emu_options){.late = 1}, true, false); }
END_TEST

/* In bf16 a run's distance from f32 is the sum of some thousand roundings of activations. Plain C
 * on the CPU makes as many, in another order where sums are concerned: that run's own distance is
 * the measure, and twice that the bound, as it is of a kernel. */
START_TEST(bf16)
{
    static const char *const fixtures[] = {"wan21-t2v", "pixart-sigma"};
    emu_set((emu_options){.late = 1});
    double plain = pipeline_error_bf16(fixtures[_i], "cpu", "ref"),
           got = pipeline_error_bf16(fixtures[_i], "cuda", NULL);
    ck_assert_msg(plain > 1e-4, "%s: plain C in bf16 is off by %.2e: is it in bf16?", fixtures[_i],
                  plain);
    ck_assert_msg(got > 1e-4 && got < 2 * plain, "%s: off by %.2e, plain C by %.2e", fixtures[_i],
                  got, plain);
}
END_TEST

/* A streamed and a resident one in every run, all of them with LONG set. */
int main(void)
{
    Suite *suite = suite_create("cuda pipeline");
    TCase *tc = tcase_create("cuda pipeline");
    tcase_set_timeout(tc, 600);
    tcase_add_checked_fixture(tc, NULL, emulated_expect_clean); /* also of a test that failed */
    tcase_add_loop_test(tc, streamed, is_long() ? 0 : 1, 2);
    tcase_add_loop_test(tc, dense, 0, is_long() ? PIPELINE_SPARSE : 1);
    tcase_add_loop_test(tc, bf16, 0, 2);
    if (is_long()) tcase_add_loop_test(tc, sparse, PIPELINE_SPARSE, PIPELINE_FIXTURES);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
