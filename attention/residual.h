/* What a plan left out of a search's output, kept for the sparse calls that follow (residual
 * sharing: DiTFastAttn, arXiv 2406.08552, section 3.2, for windows; here for any plan and form of
 * the rest). Internal to attention/. */
#ifndef TS_RESIDUAL_H
#define TS_RESIDUAL_H
#include "attention/plans.h"

/* Tokens over which a residual is averaged where a run's policy does not say: 1 while that takes at
 * most RESIDUAL_BYTES in all layers and branches, else TS_BLOCK. */
int ts_residual_tokens(const ts_attn *);
/* Where the residual of one layer and branch lives, carved from the arena. */
ts_tensor ts_residual_take(ts_attn *, ts_sequence);
/* s->residual = the dense call's output less that of s->plan as its heads were given it. */
ts_status ts_residual_keep(ts_attn *, ts_attn_state *s, const ts_attention *dense);
/* out [1, T, A, D] += s->residual */
ts_status ts_residual_add(ts_attn *, const ts_attn_state *s, ts_tensor out);
#endif
