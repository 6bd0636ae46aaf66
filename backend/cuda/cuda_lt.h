/* Products of matrices by cuBLASLt, loaded when a device is opened. Tests have a twin of this on
 * the host, which takes the same arguments: they are the library's own, column-major ones. */
#ifndef TS_CUDA_LT_H
#define TS_CUDA_LT_H
#include "backend/tensor.h"

#include <cuda_runtime_api.h>

typedef struct ts_lt ts_lt;
/* D = act(A' B + beta C + bias): A [k, m], B [k, n], C and D [m, n], each column ld elements
 * after the one before it, k up to ld_a and so on; sums in f32. */
typedef struct {
    long m, n, k;
    const void *a, *b;
    long lda, ldb;
    ts_dtype in; /* of A and B: f32, or bf16 */
    const void *c;
    long ldc; /* C has the type of D; NULL: beta is 0, else 1 */
    void *d;
    long ldd;
    ts_dtype out;     /* of C and D: f32, or bf16 where A and B are */
    const void *bias; /* [m] of the type of D, added to every column; NULL: none */
    bool gelu;        /* the tanh form of GELU as act; else none */
} ts_lt_product;

/* TS_EDEVICE: the library is not here, or does not begin. */
ts_status ts_lt_open(ts_err *, ts_lt **);
void ts_lt_close(ts_lt *); /* NULL is legal */
/* "cuBLAS 13.1" */
const char *ts_lt_version(const ts_lt *);
/* bytes of workspace that every product may use */
enum { TS_LT_WORKSPACE = 32 << 20 };
/* Whether the library has a way of doing it. */
bool ts_lt_has(ts_lt *, const ts_lt_product *);
/* Queues it. TS_EDEVICE: the library has no way of doing it. */
ts_status ts_lt_run(ts_lt *, ts_err *, const ts_lt_product *, void *workspace, cudaStream_t);
#endif
