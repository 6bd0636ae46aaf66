/* The part of ts_run_watch (tessera.h) that the sampling loop calls. Internal to sampler/. */
#ifndef TS_WATCH_H
#define TS_WATCH_H
#include "sampler/preview.h"

/* Does somebody watch this step (from 0)? Then r->clean takes the clean latents that it foretells
 * (ts_solver_clean), and ts_watch_call follows it. Never on a counting device. */
bool ts_watch_due(const ts_run *, int step);
/* After a step; x: the sample. What the function returns. */
ts_status ts_watch_call(ts_run *, const ts_solver *, ts_tensor x);
void ts_watch_add_profile(ts_profile *to, const ts_profile *more);
#endif
