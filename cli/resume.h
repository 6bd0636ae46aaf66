/* What is left of a run that is stopped, and what is said of it: where its state is, how far it
 * got, which command goes on. */
#ifndef TS_RESUME_H
#define TS_RESUME_H
#include "cli/render.h"

/* Gives the run its state file (r->state): that of --state; else, of a run of many minutes or one
 * that has left one before, OUTPUT.state, which goes away with ts_resume_end. TS_EMODEL: it is that
 * of another request. */
ts_status ts_resume_begin(ts_cli *, ts_render *);
void ts_resume_say_begin(ts_cli *, const ts_render *);
/* The run was stopped: before its end, or while it was decoded, when latents are kept in any case
 * of a run that is not short. saved: file of latents; NULL. */
void ts_resume_say_stop(ts_cli *, const ts_render *);
void ts_resume_stop_decode(ts_cli *, const ts_render *, const char *saved);
/* The state file, where it holds every step: nothing else has to be kept; else NULL. */
const char *ts_resume_whole(const ts_render *);
/* All of it denoised in less than a minute: not worth a file that was not asked for. */
bool ts_resume_is_short(const ts_render *);
void ts_resume_end(const ts_render *); /* the output is written */
#endif
