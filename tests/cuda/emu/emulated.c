/* The emulated device for tests of what is above kernels. */
#include "tests/cuda/emu/emulated.h"

#include "backend/cuda/cuda.h"

enum { HALF = 3 * 4096 }; /* of a stage: small, so that everything passes in several parts */

ts_status emulated_open(const char *kind, const ts_env *env, ts_err *err, ts_device **out)
{
    return ts_cuda_open_with((ts_device_options){.kind = kind}, HALF, env, err, out);
}

/* Weights of fixtures have rows that must fit. */
ts_status testing_cuda_open(const ts_env *env, ts_err *err, ts_device **out)
{
    return ts_cuda_open_with((ts_device_options){.kind = "cuda"}, 16 * HALF, env, err, out);
}

void emulated_expect_clean(void)
{
    const char *said = emu_error();
    ck_assert_msg(!*said, "the emulator found: %s", said);
}
