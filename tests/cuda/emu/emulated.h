/* The emulated device for tests of what is above kernels; in `make check-cuda` the GPU in its
 * place. */
#ifndef EMULATED_H
#define EMULATED_H
#include "backend/device.h"

#include "tests/cuda/no_emu.h"
#include <check.h>
#include <cuda_runtime_api.h>
#include <stdbool.h>

/* With small stages, so that copies pass in several parts. */
ts_status emulated_open(const char *kind, const ts_env *, ts_err *, ts_device **);
void emulated_expect_clean(void); /* the emulator found nothing */
/* as in tests/testing.h, which needs more than Check */
int testing_main(Suite *);
ts_status testing_cuda_open(const ts_env *, ts_err *, ts_device **);
#endif
