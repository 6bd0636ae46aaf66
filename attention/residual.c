/* Residuals of searches: the difference between what full attention gave and what the plan gives at
 * the same step changes less from step to step than either. */
#include "attention/residual.h"

#include "attention/search.h"

/* Of all layers and branches: a state file holds them too. */
static const double RESIDUAL_BYTES = 8589934592.0;

int ts_residual_tokens(const ts_attn *a)
{
    double bytes = 0;
    for (int slot = 0; slot < a->o.slots; slot++)
        bytes += (double)ts_attn_sequence(a, slot).T * a->o.heads * a->o.width * a->o.layers *
                 (double)ts_dtype_size(a->ctx->act);
    return bytes <= RESIDUAL_BYTES ? 1 : TS_BLOCK;
}

ts_tensor ts_residual_take(ts_attn *a, ts_sequence s)
{
    long width = (long)a->o.heads * a->o.width;
    ts_arena *arena = &a->ctx->arena;
    return a->o.policy.residual == 1 ? ts_take(arena, a->ctx->act, TS_DIM(s.T, width))
                                     : ts_take(arena, TS_F32, TS_DIM(s.nb, width));
}

/* [1, T, A, D] -> [T, A D] */
static ts_tensor rows_of_tokens(ts_tensor t)
{
    return (ts_tensor){t.p, t.type, 2, {t.dim[1], t.dim[2] * t.dim[3]}, t.ld};
}

/* The residual less what the blocks' means of x are, or those: f32 [nb, A D]. */
static ts_status pool_rows(ts_attn *a, ts_tensor x, ts_tensor y)
{
    ts_tensor pooled = ts_view(y, TS_DIM(1, y.dim[0], x.dim[2], x.dim[3]));
    pooled.ld = y.dim[1];
    return ts_pool_op(a->ctx->dev, (ts_pool){x, pooled});
}

ts_status ts_residual_keep(ts_attn *a, ts_attn_state *s, const ts_attention *dense)
{
    ts_status st = TS_OK;
    ts_device *dev = a->ctx->dev;
    ts_arena *arena = &a->ctx->arena;
    size_t mark = ts_mark(arena);
    ts_attention op = *dense;
    ts_tensor with = rows_of_tokens(dense->out), without, kept = s->residual;
    op.sums = op.lse = (ts_tensor){0};
    op.out = ts_take(arena, dense->out.type, TS_DIM(1, with.dim[0], op.q.dim[2], op.q.dim[3]));
    op.out.ld = with.dim[1];
    TRY(ts_search_attend(a, s, op, false));
    without = rows_of_tokens(op.out);
    if (a->o.policy.residual != 1) {
        without = ts_take(arena, TS_F32, TS_DIM(kept.dim[0], kept.dim[1]));
        with = kept;
        TRY(pool_rows(a, dense->out, with));
        TRY(pool_rows(a, op.out, without));
    }
    TRY(ts_lincomb_op(dev, (ts_lincomb){2, {1, -1}, {with, without}, kept}));
done:
    ts_release(arena, mark);
    return st;
}

/* Rows first.. of out, `tokens` a block, += a row of the residual a block. */
static ts_status add_to_blocks(ts_attn *a, const ts_attn_state *s, ts_tensor out, long first,
                               long blocks, long tokens)
{
    ts_tensor r = s->residual;
    ts_strided x = {ts_at(out.p, (size_t)(first * TS_BLOCK * out.ld) * ts_dtype_size(out.type)),
                    out.type,
                    {TS_BLOCK * out.ld, out.ld, 1}};
    ts_strided b = {ts_at(r.p, (size_t)(first * r.ld) * sizeof(float)), TS_F32, {r.ld, 0, 1}};
    if (!blocks || !tokens) return TS_OK;
    return ts_affine_op(
        a->ctx->dev,
        (ts_affine){
            .nd = 3, .dim = {blocks, tokens, r.dim[1]}, .x = x, .y = x, .b = b, .scale = 1});
}

ts_status ts_residual_add(ts_attn *a, const ts_attn_state *s, ts_tensor out)
{
    ts_status st = TS_OK;
    ts_tensor rows = rows_of_tokens(out);
    long whole = rows.dim[0] / TS_BLOCK;
    if (a->o.policy.residual == 1)
        return ts_lincomb_op(a->ctx->dev, (ts_lincomb){2, {1, 1}, {rows, s->residual}, rows});
    TRY(add_to_blocks(a, s, rows, 0, whole, TS_BLOCK));
    TRY(add_to_blocks(a, s, rows, whole, 1, rows.dim[0] % TS_BLOCK));
done:
    return st;
}
