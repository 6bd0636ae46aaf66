/* Plans from scores: which key blocks a row of blocks keeps.
 * Shapes were checked. Addresses of the host. */
#ifndef TS_CPU_TOPK_H
#define TS_CPU_TOPK_H
#include "backend/cpu/cpu.h"
ts_status ts_cpu_topk(ts_cpu *, const ts_topk *);
#endif
