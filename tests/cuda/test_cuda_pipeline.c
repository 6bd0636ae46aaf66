/* Whole pipelines on the emulated CUDA device, in f32, against diffusers. Products and convolutions
 * are computed by the host; everything else by the device's own kernels. */
#include "tests/cuda/emu/emulated.h"
#include "tests/sampler/pipeline.h"
#include "tests/testing.h"

static void render(const char *fixture, int mode, bool sparse, bool stream)
{
    emu_set((emu_options){.late = mode, .guard = 1});
    pipeline_render(fixture, "cuda", sparse, stream);
    emulated_expect_clean();
}

START_TEST(dense) { render(pipeline_fixtures[_i], 1, false, false); }
END_TEST
START_TEST(streamed) { render(pipeline_fixtures[0], _i, false, true); }
END_TEST
START_TEST(sparse) { render(pipeline_fixtures[_i], 1, true, false); }
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda pipeline");
    TCase *tc = tcase_create("cuda pipeline");
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, dense, 0, PIPELINE_SPARSE);
    tcase_add_loop_test(tc, streamed, 0, 2);
    tcase_add_loop_test(tc, sparse, PIPELINE_SPARSE, PIPELINE_FIXTURES);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
