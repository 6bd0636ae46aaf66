/* Searches that compare rankings and forms of the rest by the error of what they give, and sparse
 * calls that carry out what was chosen. Internal to attention/. */
#ifndef TS_SEARCH_H
#define TS_SEARCH_H
#include "attention/plans.h"

/* Numbers that a search leaves, f32 [TS_FOUND, A]: ts_topk.stat, then rankings and forms. */
enum { TS_FOUND_RANKING = 3, TS_FOUND_FORM, TS_FOUND };

/* After a dense call with its output and block sums `mass` [1, A, nb, nb]: for each head the
 * ranking whose plan gives the least error (another than fresh has to halve its square), then the
 * form of the rest with that plan (one has to quarter that of none). Errors are measured on a
 * sample of query blocks. Plan, ranking and form of s are written; found [TS_FOUND, A] may be
 * absent. */
ts_status ts_search_by_error(ts_attn *, ts_attn_state *, const ts_attention *dense, ts_tensor mass,
                             ts_tensor found);
/* The same of svg: for each head whichever of its two patterns gives the less error, the spatial
 * one among equals. */
ts_status ts_search_patterns(ts_attn *, ts_attn_state *, const ts_attention *dense, ts_tensor mass,
                             ts_tensor found);
/* A call with the plan of s and what the policy lets stand for the rest; `rank`: heads with such a
 * ranking get a new plan first. */
ts_status ts_search_attend(ts_attn *, ts_attn_state *, ts_attention op, bool rank);
/* Has some head, as far as the host knows, a ranking that is made anew? */
bool ts_search_ranks_anew(const ts_attn_state *);
const char *ts_ranking_name(ts_ranking);
#endif
