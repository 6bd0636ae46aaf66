/* Plans from scores: which key blocks a row of blocks keeps, and the cheap scores of block means.
 * Shapes were checked. Addresses of the host. */
#ifndef TS_CPU_TOPK_H
#define TS_CPU_TOPK_H
#include "backend/cpu/cpu.h"
ts_status ts_cpu_topk(ts_cpu *, const ts_topk *);
ts_status ts_cpu_block_means(ts_cpu *, const ts_block_means *);
#endif
