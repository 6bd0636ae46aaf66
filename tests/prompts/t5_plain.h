/* The T5 encoder written plainly in f64, mask and padded rows included, on the tensors of a bag:
 * the oracle of the encoder's tests. */
#ifndef T5_PLAIN_H
#define T5_PLAIN_H
#include "weights/bag.h"

typedef struct {
    /* buckets 32 or 8, of a greatest distance of 128 */
    int layers, dim, heads, kv, ff, vocab, buckets;
    /* a table of biases in every block; wi_0 and wi_1 instead of wi */
    bool every, gated;
    ts_act act; /* RELU, SILU, GELU, GELU_TANH */
} t5_shape;
/* nothing is rounded; every sum and tensor to f32; the same, but what enters products to bf16,
 * weights too */
typedef enum { T5_EXACT, T5_SINGLE, T5_HALF } t5_rounding;
/* Tokens from `real` on are masked as keys. out [n, dim] */
void t5_plain(const ts_bag *, const t5_shape *, t5_rounding, const int32_t *ids, int n, int real,
              double *out);
/* Hash-generated tensors of such a checkpoint. embedding: the name of the table of tokens. */
ts_bag *t5_golden(const t5_shape *, const char *embedding);
#endif
