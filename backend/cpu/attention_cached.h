/* Block sums from the logits of now and a kept lse: one pass, no values read (the cached search of adaptive sparse attention). */
#ifndef TS_ATTENTION_CACHED_H
#define TS_ATTENTION_CACHED_H
#include "backend/cpu/cpu.h"
/* a: q, k (v and out only for their shapes), scale, nk. lse [B, A, Nq], sums [B, A, nb, nb]: sum over a tile of exp(s - lse[row]). Addresses of the host. */
ts_status ts_cpu_block_sums(ts_cpu *, const ts_attention *a, const float *lse, float *sums);
#endif
