/* Means of blocks, what a plan left out to first order, and what candidates for plans are off by.
 * Shapes were checked. */
#ifndef TS_CPU_REST_H
#define TS_CPU_REST_H
#include "backend/cpu/cpu.h"
ts_status ts_cpu_block_means(ts_cpu *, const ts_block_means *);
ts_status ts_cpu_pool(ts_cpu *, const ts_pool *);
ts_status ts_cpu_rest_linear(ts_cpu *, const ts_rest_linear *);
ts_status ts_cpu_head_errors(ts_cpu *, const ts_head_errors *);
ts_status ts_cpu_choose(ts_cpu *, const ts_choose *);

void ts_rest_linear_ref(const ts_rest_linear *, double *room); /* [ts_rest_linear_room] */
size_t ts_rest_linear_room(const ts_rest_linear *);            /* numbers */
#endif
