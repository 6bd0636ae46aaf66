/* What leaves a run's attention: plans and scores for files at its end, plans and LSEs of a run
 * that is interrupted, and these back. */
#ifndef TS_SAVED_H
#define TS_SAVED_H
#include "attention/attend.h"
/* After the last step's end, while the arena is there: downloads the plans in force (keep_plans).
 * TS_EFAIL: `strict`, and nothing was sparse. */
ts_status ts_attn_finish(ts_attn *);
/* Plans (and scores) under the names of docs/formats.md, with their metadata but for the model;
 * closed with the rest. NULL: none were kept. */
static inline ts_bag *ts_attn_plans(const ts_attn *a) { return a->plans; }
/* Of a search that ts_attn_step_end reads: its scores and recall [heads] for ts_attn_plans. */
ts_status ts_attn_keep_scores(ts_attn *, int slot, int layer, const float *recall);
/* Plans and LSEs of a run that is interrupted, into its state file and back. */
ts_status ts_attn_save(ts_attn *, ts_bag *);
ts_status ts_attn_load(ts_attn *, const ts_bag *);
#endif
