/* Self-attention of transformer blocks: out = softmax(q k' / sqrt(D)) v over the tokens of the grid, and the account of what was computed how. */
#include "attention/attend.h"

#include <math.h>

void ts_attn_init(ts_attn *a, ts_ctx *ctx, ts_grid grid)
{
    *a = (ts_attn){.ctx = ctx, .grid = grid};
}

void ts_attn_begin(ts_attn *a, int step, int branch)
{
    a->step = step;
    a->branch = branch;
}

/* [N, A, D] -> [1, N, A, D]; rows stay as far apart as they were. */
static ts_tensor batch(ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 4, {1, t.dim[0], t.dim[1], t.dim[2]}, t.ld};
}

ts_status ts_attend(ts_attn *a, int layer, ts_tensor q, ts_tensor k, ts_tensor v, ts_tensor out)
{
    ts_ctx *ctx = a->ctx;
    if (q.nd != 3 || q.dim[0] != a->grid.N)
        return ts_fail(&ctx->err, TS_ESHAPE, "self-attention of layer %d: %ld tokens, expected %d", layer + 1, q.dim[0], a->grid.N);
    if (!ctx->dev->counting) a->calls.dense++;
    return ts_attention_op(ctx->dev, (ts_attention){.q = batch(q), .k = batch(k), .v = batch(v), .out = batch(out), .scale = (float)(1 / sqrt((double)q.dim[2]))});
}
