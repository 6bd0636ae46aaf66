/* The emulated device for tests of what is above kernels. */
#ifndef EMULATED_H
#define EMULATED_H
#include "backend/device.h"

#include <cuda_runtime_api.h>

/* With small stages, so that copies pass in several parts. */
ts_status emulated_open(const char *kind, const ts_env *, ts_err *, ts_device **);
void emulated_expect_clean(void); /* the emulator found nothing */
#endif
