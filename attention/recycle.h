/* --attention recycled: an earlier search's plan is used on while the queries of a layer and branch
 * are like those that it was made for (Recycled Attention, arXiv 2411.05787: cosine of queries).
 * Internal to attention/. */
#ifndef TS_RECYCLE_H
#define TS_RECYCLE_H
#include "attention/plans.h"

/* Remembers the queries of a search: means of the nv video blocks, scaled to the length sqrt(D),
 * f32 [nv A, D] into s->queries. */
ts_status ts_recycle_keep(ts_attn *, ts_attn_state *, const ts_attention *);
/* error [1, A]: sum over the nv blocks of |present mean query - remembered one|^2, both scaled to
 * the length sqrt(D): 2 nv D (1 - the mean cosine) of each head. */
ts_status ts_recycle_compare(ts_attn *, ts_attn_state *, const ts_attention *, ts_tensor error);
/* What a comparison has found, [A] of the host: counts it, and says whether the plan is stale. */
void ts_recycle_read(ts_attn *, ts_attn_state *, ts_sequence, const float *error);
/* Is a search due at this step: the plan stale, and the bounds of the policy kept? */
bool ts_recycle_due(const ts_attn *, const ts_attn_state *);
#endif
