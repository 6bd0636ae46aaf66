/* The kernels of attention, as attention_launch.c chooses among them: flash.cu (tensor cores, bf16,
 * D up to 128), attention_f32.cu (any type and D), search.cu (block sums, weights of pooled keys,
 * scores of block means). Each call is for one element of a batch; shapes have been checked. For
 * sm_80 and newer. */
#ifndef TS_CUDA_ATTENTION_KERNELS_H
#define TS_CUDA_ATTENTION_KERNELS_H
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

/* One batch element: out = softmax(scale q k' + bias) v over the key blocks of a plan. Number (n,
 * h, d) of q is at n ldq + h D + d. */
typedef struct {
    const void *q, *k, *v; /* [Nq, A, D], [Nk, A, D] twice, f32 or bf16 */
    void *out;             /* like q; may be q */
    long ldq, ldk, ldv, ldo;
    int A, Nq, D;
    int Nk;      /* keys that are read, >= 0 */
    float scale; /* of the logits, times log2 e */
    /* f32: of head h, row n and key m at h bias_head + n bias_row + m, or NULL */
    const float *bias;
    long bias_head, bias_row;
    const uint32_t *bits; /* ts_plan.bits [A or 1, nq, words]; NULL: every block */
    int shared_plan;      /* 1: one pattern for all heads */
    /* [nq, A, D], packed, bf16 for flash.cu and f32 for the others: what the plan leaves out takes
     * part as these, with the tokens of its block; NULL: nothing. Nq is then the number of tokens
     */
    const void *pooled_k, *pooled_v;
    float inverse;       /* 1 / scale */
    const int32_t *form; /* [A]: heads of form 0 leave them out; NULL: none does */
    int every;           /* > 1: only query blocks 0, every, 2 every, .. are computed */
    float *lse;          /* [A, Nq]: out, may be NULL; where only sums are asked for: in */
    float *sums;         /* [A, nq, columns] or NULL, columns >= blocks of Nk */
    int columns;
} ts_attend_args;

#ifdef __cplusplus
extern "C" {
#endif

/* ---- flash.cu ---- */
typedef struct {
    const char *name;
    int D;             /* head width at most */
    int rows, threads; /* of a thread block: query rows, 64 or 128; threads */
    int most;          /* thread blocks that a multiprocessor's registers hold */
    size_t shared;     /* bytes of shared memory of a thread block */
    /* whether args.sums, args.bias, args.pooled_k may be (and is) there; args.every needs 64 rows
     */
    bool sums, bias, rest;
    /* Addresses are multiples of 16 bytes, ld and D of 8 numbers. grid: thread blocks, at most one
     * for every head and `rows` rows. scratch, where there are sums: f32 [grid, blocks of Nk, rows]
     */
    cudaError_t (*launch)(const ts_attend_args *, float *scratch, int grid, cudaStream_t);
    const void *kernel; /* for cudaFuncSetAttribute */
} ts_flash_kernel;
extern const ts_flash_kernel ts_flash_kernels[];
extern const int ts_flash_count;

/* ---- attention_f32.cu ---- */
/* without sums. D over 512 takes several passes, and then out may not be q */
cudaError_t ts_attend_any(const ts_attend_args *, bool bf16, cudaStream_t);
/* sums of args.lse: sum over a tile of 2^min(x - lse / ln 2, 115), zero where a block is not listed
 */
cudaError_t ts_sum_blocks_any(const ts_attend_args *, bool bf16, cudaStream_t);

/* What each of Nk pooled keys k [Nk, A, D], f32, weighs: sums [A, nq, Nk] over the rows of a block
 * of Nq; lse out, may be NULL */
cudaError_t ts_pool_sums_any(const ts_attend_args *, bool bf16, cudaStream_t);

/* ---- search.cu ---- */
/* The same for bf16 with D up to 128, addresses as for flash.cu; no plan, no bias. */
cudaError_t ts_sum_blocks_bf16(const ts_attend_args *, cudaStream_t);
/* ts_pool_sums_any for keys of bf16 as well, under the conditions of flash.cu */
cudaError_t ts_pool_sums_bf16(const ts_attend_args *, cudaStream_t);
/* scores [B, A, nb, nb] = q k', of means q and k [B, nb, A, D] */
cudaError_t ts_score_blocks(const float *q, const float *k, int B, int A, int nb, int D,
                            float *scores, cudaStream_t);

#ifdef __cplusplus
}
#endif
#endif
