/* Whole pipelines through the public API in f32 against diffusers: text states, the latents after
 * every step, the final latents, frames. On the CPU and behind addresses that fault (far). */
#include "tests/sampler/pipeline.h"
#include "tests/testing.h"

START_TEST(on_cpu) { pipeline_render(pipeline_fixtures[_i], "cpu", false, false); }
END_TEST
START_TEST(on_far) { pipeline_render(pipeline_fixtures[_i], "far", false, false); }
END_TEST
START_TEST(streamed_on_far) { pipeline_render(pipeline_fixtures[_i], "far", false, true); }
END_TEST
START_TEST(sparse_on_cpu) { pipeline_render(pipeline_fixtures[_i], "cpu", true, false); }
END_TEST
START_TEST(sparse_on_far) { pipeline_render(pipeline_fixtures[_i], "far", true, false); }
END_TEST
START_TEST(default_model) { pipeline_render("default-model", "cpu", false, false); }
END_TEST

int main(void)
{
    Suite *suite = suite_create("pipeline");
    TCase *tc = tcase_create("pipeline");
    tcase_add_loop_test(tc, on_cpu, 0, PIPELINE_FIXTURES);
    tcase_add_loop_test(tc, on_far, 0, PIPELINE_FIXTURES);
    tcase_add_loop_test(tc, streamed_on_far, 0, PIPELINE_SPARSE);
    tcase_add_loop_test(tc, sparse_on_cpu, PIPELINE_SPARSE, PIPELINE_FIXTURES);
    tcase_add_loop_test(tc, sparse_on_far, PIPELINE_SPARSE, PIPELINE_FIXTURES);
    tcase_add_test(tc, default_model);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
