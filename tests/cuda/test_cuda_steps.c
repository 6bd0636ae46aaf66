/* What a denoising step asks of the CUDA device: the host waits for it once an evaluation, and
 * within operations never. */
#include "backend/cuda/cuda.h"
#include "tests/cuda/emu/emulated.h"
#include "tests/sampler/steps.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>

/* Does the device compute means of blocks, or refuse them? Asked without computing. */
static bool has_means(void)
{
    ts_err err = {0};
    ts_env env = {0};
    ts_device *d;
    ck_assert_msg(testing_cuda_open(&env, &err, &d) == TS_OK, "%s", err.text);
    d->counting = true;
    ts_tensor x = ts_tensor_of((ts_ptr){4096}, TS_F32, 4, (long[]){1, TS_BLOCK, 1, 64}), y = x;
    y.dim[1] = 1;
    ts_status st = ts_pool_op(d, (ts_pool){x, y});
    ck_assert_msg(st == TS_OK || st == TS_EDEVICE, "%s", err.text);
    ts_device_close(d);
    return st == TS_OK;
}

START_TEST(steps)
{
    if (_i == STEPS_ADASPA && !has_means()) {
        printf("skip: adaspa by error: the device has no means of blocks\n");
        return;
    }
    emu_set((emu_options){.late = 1});
    steps_expect((steps_what)_i, "cuda", ts_cuda_joins);
}
END_TEST

/* One that searches in every run, all of them with LONG set. */
int main(void)
{
    bool all = getenv("LONG") != NULL;
    Suite *suite = suite_create("cuda steps");
    TCase *tc = tcase_create("cuda steps");
    tcase_set_timeout(tc, 600);
    tcase_add_checked_fixture(tc, NULL, emulated_expect_clean);
    tcase_add_loop_test(tc, steps, all ? 0 : STEPS_MASS, all ? STEPS_CASES : STEPS_MASS + 1);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
