/* Linear layers and convolutions by oneDNN: primitives made once and kept, weights in the layout
 * that it asks for. Shapes were checked by cpu.c. */
#ifndef TS_ONEDNN_H
#define TS_ONEDNN_H
#include "backend/cpu/cpu.h"
ts_status ts_onednn_open(ts_cpu *); /* TS_EDEVICE */
void ts_onednn_close(ts_cpu *);
ts_status ts_onednn_linear(ts_cpu *, const ts_linear *);
ts_status ts_onednn_conv(ts_cpu *, const ts_conv *);
/* y[i] = x[i] w[i] for n matrices: [M, K], [K, N] of type `in`, [M, N] of type `out`, all packed.
 */
typedef struct {
    long n, M, K, N;
    ts_dtype in, out; /* f32 or bf16; in f32: out too */
} ts_product;
/* Raises *bytes to the scratch that it needs. */
ts_status ts_onednn_product_scratch(ts_cpu *, const ts_product *, size_t *bytes);
ts_status ts_onednn_product(ts_cpu *, const ts_product *, const void *x, const void *w, void *y,
                            void *scratch);
int ts_onednn_primitives(const ts_cpu *); /* that are kept; at most 512 */
ts_status ts_onednn_pack(ts_cpu *, const ts_host *from, long first, const ts_weight *to, ts_ptr at);
void ts_onednn_version(char *out, size_t size); /* "oneDNN 2.6.3" */
#endif
