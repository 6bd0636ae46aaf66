/* How the CUDA device is opened, for those who do not know CUDA's headers. */
#ifndef TS_CUDA_OPEN_H
#define TS_CUDA_OPEN_H
#include "backend/device.h"

/* There is a GPU, and a driver that this program can use. */
bool ts_cuda_present(void);
/* "cuda" or "cuda:1". TS_EUSAGE: another kind; TS_EDEVICE: no such GPU, no driver, too old a one or
 * too old a GPU, a library that is not here. */
ts_status ts_cuda_open(ts_device_options, const ts_env *, ts_err *, ts_device **);
#endif
