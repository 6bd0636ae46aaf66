/* What the host side of the CUDA device launches: the C face of the .cu files. Arguments are those
 * of the seam (backend/ops.h), with addresses of the device; shapes have been checked. A launcher
 * reads them, queues its kernels on the stream and returns: cudaSuccess, or why a launch was
 * refused. Nothing here allocates, waits, or looks at the device's memory. */
#ifndef TS_CUDA_KERNELS_H
#define TS_CUDA_KERNELS_H
#include <cuda_runtime_api.h>

#ifdef __cplusplus
#include <stddef.h>
#include <stdint.h>
extern "C" {
#endif
#include "backend/ops.h"

/* The first thing that went wrong in kernels, one record in memory of the device, zero at first.
 * Kernels change it by atomicCAS from 0, so that the first one stays. */
typedef struct {
    int bad_id;   /* gather: 1 + the place of the first id that is out of the table */
    int bad_tag;  /* check: the first tag whose tensor was not finite */
    int id, rows; /* of bad_id: the id, the rows of the table */
} ts_cuda_fault;

/* ---- rows.cu: one pass over rows of channels ---- */
/* bytes of scratch that a group norm needs; 0 for the others */
size_t ts_cuda_norm_scratch(const ts_norm *);
cudaError_t ts_cuda_norm(const ts_norm *, void *scratch, cudaStream_t);
cudaError_t ts_cuda_activate(const ts_activate *, cudaStream_t);
cudaError_t ts_cuda_rope(const ts_rope *, cudaStream_t);
/* What a product by a library leaves to do: y = resid + gate[sel] * act(t + b). */
typedef struct {
    ts_tensor t;    /* [M, O] f32 or bf16; may be y where their types are equal */
    const float *b; /* [O] f32 or NULL */
    ts_act act;
    ts_tensor gate;  /* f32 [R, O] or absent */
    ts_tensor sel;   /* u8 [M] or absent */
    ts_tensor resid; /* [M, O] of the type of y, or absent; may be y */
    ts_tensor y;     /* [M, O] f32 or bf16 */
} ts_cuda_epilogue_args;
cudaError_t ts_cuda_epilogue(const ts_cuda_epilogue_args *, cudaStream_t);

/* ---- move.cu: element by element ---- */
cudaError_t ts_cuda_copy(const ts_copy *, cudaStream_t); /* f32, bf16, f16, and equal types */
/* an id out of the table writes zeros and is noted in *fault */
cudaError_t ts_cuda_gather(const ts_gather *, ts_cuda_fault *fault, cudaStream_t);
cudaError_t ts_cuda_lincomb(const ts_lincomb *, cudaStream_t);
cudaError_t ts_cuda_affine(const ts_affine *, cudaStream_t); /* bits equal to those of the CPU */
cudaError_t ts_cuda_randn(const ts_randn *, cudaStream_t);   /* as ts_normals, see backend */
cudaError_t ts_cuda_resample(const ts_resample *, cudaStream_t);
cudaError_t ts_cuda_check(ts_tensor, int tag, ts_cuda_fault *fault, cudaStream_t);
/* Rows of a matrix of which a convolution is the product with its weight: for the outputs
 * (all positions of y in order) first .. first + count, a row of kt kh kw C numbers of x, zeros
 * where there is padding. to: [count, kt kh kw C] of the type of x. */
cudaError_t ts_cuda_unfold(const ts_conv *, long first, long count, void *to, cudaStream_t);

/* ---- topk.cu ---- */
size_t ts_cuda_topk_scratch(const ts_topk *);
/* exactly the choice of the CPU, the adaptive levels of heads included, with no step on the host */
cudaError_t ts_cuda_topk(const ts_topk *, void *scratch, cudaStream_t);

/* ---- rest.cu: what stands for the blocks that a plan leaves out ---- */
cudaError_t ts_cuda_pool(const ts_pool *, cudaStream_t); /* bits equal to those of the CPU */
size_t ts_cuda_head_errors_scratch(const ts_head_errors *);
cudaError_t ts_cuda_head_errors(const ts_head_errors *, void *scratch, cudaStream_t);
cudaError_t ts_cuda_choose(const ts_choose *, cudaStream_t);

/* ---- rest_launch.c, rest_linear.cu ---- */
size_t ts_cuda_rest_linear_scratch(const ts_rest_linear *);
cudaError_t ts_cuda_rest_linear(const ts_rest_linear *, void *scratch, cudaStream_t);

/* ---- attention: flash.cu (bf16, head widths to 128), attention_f32.cu (the rest), search.cu ----
 */
/* Which kernel a call takes on a device, decided once a call by the host. */
typedef struct {
    int major, minor; /* compute capability */
    int processors;   /* streaming multiprocessors */
    size_t shared;    /* bytes of shared memory that a thread block may have */
} ts_cuda_chip;
/* once a device, before the others: lets kernels use the shared memory that they need */
cudaError_t ts_cuda_attention_init(const ts_cuda_chip *);
/* bytes of scratch of the call; 0 without sums and pooled keys */
size_t ts_cuda_attention_scratch(const ts_attention *, const ts_cuda_chip *);
/* All of the batch. cudaErrorInvalidValue: D is over 512 and out is q. Where a row reads no key,
 * out is zero and lse -inf. */
cudaError_t ts_cuda_attention(const ts_attention *, const ts_cuda_chip *, void *scratch,
                              cudaStream_t);
cudaError_t ts_cuda_block_sums(const ts_block_sums *, const ts_cuda_chip *, cudaStream_t);
size_t ts_cuda_pool_sums_scratch(const ts_pool_sums *);
cudaError_t ts_cuda_pool_sums(const ts_pool_sums *, void *scratch, cudaStream_t);
size_t ts_cuda_block_means_scratch(const ts_block_means *);
cudaError_t ts_cuda_block_means(const ts_block_means *, void *scratch, cudaStream_t);

#ifdef __cplusplus
}
#endif
#endif
