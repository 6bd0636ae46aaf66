/* The kernels of the first-order part of what a plan leaves out (ts_rest_linear), as rest_launch.c
 * calls them: some heads at a time, by four products of matrices a head that takes this part. */
#ifndef TS_CUDA_REST_KERNELS_H
#define TS_CUDA_REST_KERNELS_H
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/cuda/kernels.h"

typedef struct {
    const void *q, *k, *v; /* [N, A, D], f32 or bf16 */
    void *out;             /* like them */
    long ldq, ldk, ldv, ldo;
    int A, N, nb, D;
    int first, heads; /* those of this launch */
    int every, nq;    /* query blocks 0, every, .. alone get their part: nq of them; every >= 1 */
    float scale;
    const float *pooled_k, *pooled_v; /* [nb, A, D] */
    const float *sums, *own, *lse;    /* [A, nb, nb], [A, N] twice */
    const uint32_t *bits;             /* of the plan */
    int shared_plan;
    const int32_t *form; /* [A] or NULL: all heads are linear */
    /* scratch of so many heads, of the type in which they are multiplied: weights [heads, nq, ldw],
     * zero beyond nb; C of all blocks [heads, nb, D, D]; M of those query blocks [heads, nq, D, D]
     */
    void *weight, *covariance, *mixed;
    long ldw;
} ts_rest_args;

#ifdef __cplusplus
extern "C" {
#endif
/* Any type and D; scratch is f32. */
cudaError_t ts_rest_linear_any(const ts_rest_args *, bool bf16, cudaStream_t);
/* On tensor cores: bf16, D up to 128; scratch is bf16. Addresses are multiples of 16 bytes, D and
 * every ld of 8 numbers. */
cudaError_t ts_rest_linear_bf16(const ts_rest_args *, cudaStream_t);
/* ts_cuda_rest_linear and its scratch with so many heads at a time; 0: as many as have room */
size_t ts_rest_linear_room_of(const ts_rest_linear *, int at_most);
cudaError_t ts_rest_linear_run(const ts_rest_linear *, int at_most, void *scratch, cudaStream_t);
/* lets it use the shared memory that it needs */
cudaError_t ts_rest_linear_init(void);
#ifdef __cplusplus
}
#endif
#endif
