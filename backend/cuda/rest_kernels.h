/* The kernels of the first-order part of what a plan leaves out (ts_rest_linear), as rest_launch.c
 * calls them: some heads at a time, by four products of matrices a head that takes this part. */
#ifndef TS_CUDA_REST_KERNELS_H
#define TS_CUDA_REST_KERNELS_H
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const void *q, *k, *v; /* [N, A, D], f32 or bf16 */
    void *out;             /* like them */
    long ldq, ldk, ldv, ldo;
    int A, N, nb, D;
    int first, heads; /* those of this launch */
    int every;        /* query blocks 0, every, .. alone get their part; at least 1 */
    float scale;
    const float *pooled_k, *pooled_v; /* [nb, A, D] */
    const float *sums, *own, *lse;    /* [A, nb, nb], [A, N] twice */
    const uint32_t *bits;             /* of the plan */
    int shared_plan;
    const int32_t *form; /* [A] or NULL: all heads are linear */
    /* scratch of so many heads, of the type in which they are multiplied: weights [heads, nb, ldw],
     * zero beyond nb; C of all blocks, M of all query blocks [heads, nb, D, D] */
    void *weight, *covariance, *mixed;
    long ldw;
} ts_rest_args;

#ifdef __cplusplus
extern "C" {
#endif
/* Any type and D; scratch is f32. */
cudaError_t ts_rest_linear_any(const ts_rest_args *, bool bf16, cudaStream_t);
#ifdef __cplusplus
}
#endif
#endif
