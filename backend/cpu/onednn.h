/* Linear layers and convolutions by oneDNN: primitives made once and kept, weights in the layout
 * that it asks for. Shapes were checked by cpu.c. */
#ifndef TS_ONEDNN_H
#define TS_ONEDNN_H
#include "backend/cpu/cpu.h"
ts_status ts_onednn_open(ts_cpu *); /* TS_EDEVICE */
void ts_onednn_close(ts_cpu *);
ts_status ts_onednn_linear(ts_cpu *, const ts_linear *);
ts_status ts_onednn_conv(ts_cpu *, const ts_conv *);
int ts_onednn_primitives(const ts_cpu *); /* that are kept; at most 512 */
ts_status ts_onednn_pack(ts_cpu *, const ts_host *from, long first, const ts_weight *to, ts_ptr at);
void ts_onednn_version(char *out, size_t size); /* "oneDNN 2.6.3" */
#endif
