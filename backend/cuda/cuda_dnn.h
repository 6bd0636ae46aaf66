/* Convolutions and dense attention by cuDNN, loaded when a device is opened. Tests have a twin of
 * this on the host. */
#ifndef TS_CUDA_DNN_H
#define TS_CUDA_DNN_H
#include "backend/ops.h"

#include <cuda_runtime_api.h>

typedef struct ts_dnn ts_dnn;
/* NULL and the reason in `why` when the library is not here or does not begin: convolutions are
 * then products. */
ts_dnn *ts_dnn_open(char *why, size_t size);
void ts_dnn_close(ts_dnn *);                /* NULL is legal */
const char *ts_dnn_version(const ts_dnn *); /* "cuDNN 9.28.1" */
long ts_dnn_runs(const ts_dnn *);           /* operations that it has queued; of NULL 0 */

/* y = x * w, all of one type, w as [O, kt, kh, kw, C]; no bias, no residual. */
typedef struct {                        /* without gaps: it is compared as bytes */
    ts_dtype type;                      /* f32 or bf16 */
    int stride[3], before[3], after[3]; /* zeros */
    long C, O;
    long x[3], y[3]; /* F, H, W */
    long kernel[3];
} ts_dnn_shape;
/* A plan for the shape, made once and kept; its workspace. False: the library has none that needs
 * at most `most` bytes. */
bool ts_dnn_plan_conv(ts_dnn *, const ts_dnn_shape *, size_t most, size_t *workspace);
/* Queues it; there is a plan. */
ts_status ts_dnn_conv(ts_dnn *, ts_err *, const ts_dnn_shape *, const void *x, const void *w,
                      void *y, void *workspace, cudaStream_t);

/* Scaled dot product attention over all keys, in bf16 with sums in f32: heads of D numbers beside
 * each other in the rows of q [Nq], k, v [Nk] and out [Nq], which are ld numbers apart. */
typedef struct { /* without gaps: it is compared as bytes */
    long Nq, Nk, A, D, ldq, ldk, ldv, ldo;
} ts_dnn_heads;
/* As ts_dnn_plan_conv. */
bool ts_dnn_plan_attention(ts_dnn *, const ts_dnn_heads *, size_t most, size_t *workspace);
/* Queues it; there is a plan. q, k, v, out: multiples of 16. */
ts_status ts_dnn_attention(ts_dnn *, ts_err *, const ts_dnn_heads *, const void *q, const void *k,
                           const void *v, void *out, float scale, void *workspace, cudaStream_t);
#endif
