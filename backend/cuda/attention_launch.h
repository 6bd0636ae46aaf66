/* Which kernel a call of attention takes: between attention_launch.c and the tests that run each
 * kernel by itself. */
#ifndef TS_CUDA_ATTENTION_LAUNCH_H
#define TS_CUDA_ATTENTION_LAUNCH_H
#include "backend/cuda/attention_kernels.h"
#include "backend/cuda/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif
/* the flash kernel that a call takes on a chip; NULL: attention_f32.cu's */
const ts_flash_kernel *ts_flash_choice(const ts_attention *, const ts_cuda_chip *);
/* whether a flash kernel could do it */
bool ts_flash_fits(const ts_flash_kernel *, const ts_attention *, const ts_cuda_chip *);
size_t ts_flash_scratch(const ts_flash_kernel *, const ts_attention *, const ts_cuda_chip *);
/* All of the batch by this kernel; NULL: by attention_f32.cu's. */
cudaError_t ts_flash_run(const ts_flash_kernel *, const ts_attention *, const ts_cuda_chip *,
                         void *scratch, cudaStream_t);
#ifdef __cplusplus
}
#endif
#endif
