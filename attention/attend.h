/* The one call that a transformer block makes for self-attention, and the account of what was done. */
#ifndef TS_ATTEND_H
#define TS_ATTEND_H
#include "attention/grid.h"

typedef struct { long dense, searched, sparse; } ts_attn_calls; /* of runs, not of counting */
typedef struct {
    ts_ctx *ctx;
    ts_grid grid;
    int step, branch; /* of the evaluation in progress: step from 1, branch as the sampler numbers guidance branches */
    ts_attn_calls calls;
} ts_attn;
void ts_attn_init(ts_attn *, ts_ctx *, ts_grid);
void ts_attn_begin(ts_attn *, int step, int branch);
/* q, k, v, out [N, A, D] (ld: token to token), scaled by 1 / sqrt(D); layer numbered through all experts from 0. TS_ESHAPE: not the grid's tokens. */
ts_status ts_attend(ts_attn *, int layer, ts_tensor q, ts_tensor k, ts_tensor v, ts_tensor out);
#endif
