/* Tensors and weights: what every operation is made of. Addresses are opaque and are never
 * dereferenced above the devices.
 *
 * Shapes: N tokens, A heads, D head width, C channels, F H W frames and their grid. Tensors are
 * row-major with channels last. */
#ifndef TS_TENSOR_H
#define TS_TENSOR_H
#include "backend/err.h"

#include <stdbool.h>

typedef enum { TS_F32, TS_BF16, TS_F16, TS_I32, TS_U32, TS_U8, TS_I64, TS_DTYPES } ts_dtype;
size_t ts_dtype_size(ts_dtype);
const char *ts_dtype_name(ts_dtype); /* "F32", ... as safetensors spells them */

typedef struct {
    uint64_t at;
} ts_ptr; /* 0: none */
typedef struct {
    ts_ptr p; /* p.at 0: the tensor is absent */
    ts_dtype type;
    int nd;
    long dim[5];
    /* elements from one row (last dimension) to the next; all other dimensions are packed on it */
    long ld;
} ts_tensor;
ts_tensor ts_tensor_of(ts_ptr, ts_dtype, int nd, const long *dim); /* packed: ld = dim[nd-1] */
/* product of all dimensions but the last */
long ts_rows(ts_tensor);
long ts_count(ts_tensor); /* product of all dimensions */
/* the same elements in another packed shape; ld must allow it */
ts_tensor ts_view(ts_tensor, int nd, const long *dim);
ts_tensor ts_row_range(ts_tensor, long first, long rows); /* rows of a 2-D tensor */
/* a slice of the last dimension */
ts_tensor ts_columns(ts_tensor, long first, long columns);
static inline ts_ptr ts_at(ts_ptr p, size_t bytes) { return (ts_ptr){p.at + bytes}; }
static inline bool ts_there(ts_tensor t) { return t.p.at != 0; }

/* How a matrix lies in memory: as an operation asks for it, or as it was packed. */
typedef struct {
    ts_dtype type;
    int layout;   /* 0 row-major, else a number that the device gave */
    size_t bytes; /* 0: no operation has asked yet */
} ts_form;

/* A weight has a stable address for the life of its ts_weights; where its bytes are now is the
 * business of weights/, the only writer: operations report the form that they ask for
 * by ts_device.wish. Vectors (biases, norms, tables of modulation) are always resident f32. A
 * matrix or kernel has its stored shape in `t.dim` whatever its layout: linear [out, in], conv
 * [out, in, kh, kw] or [out, in, kt, kh, kw]. */
typedef struct {
    ts_tensor t; /* p 0: not resident now */
    /* f32 [1] or [out]: the weight is t times scale, row by row; absent: t is the weight.
     * Operations refuse it where their device can not multiply so */
    ts_tensor scale;
    int layout;   /* of what t.p holds */
    ts_form want; /* what the last counting run asked for */
} ts_weight;
/* What its owner notes after a device's pack into `at`: it lies there as it was wanted. */
static inline void ts_weight_packed(ts_weight *w, ts_ptr at)
{
    w->t.p = at;
    w->t.type = w->want.type;
    w->layout = w->want.layout;
}

/* A host tensor: bytes in memory that the caller or a mapped file owns. */
typedef struct {
    const void *data;
    ts_dtype type;
    int nd;
    long dim[5];
} ts_host;
#endif
