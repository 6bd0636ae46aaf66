/* How a screen shows an event of a run, in each of its modes. Internal to cli/progress*.c. */
#ifndef TS_PROGRESS_DRAW_H
#define TS_PROGRESS_DRAW_H
#include "cli/progress.h"

#include <cjson/cJSON.h>

/* ---- on a terminal, and in lines ---- */
void ts_draw_bar(ts_screen *, const ts_event *, double now);
void ts_draw_wipe(ts_screen *); /* takes the bar away, where one is drawn */
/* One line: a phase begins (of texts, and of what has no unit, nothing is said), goes on, ends. */
void ts_draw_begin(ts_screen *, const ts_event *);
void ts_draw_line(ts_screen *, const ts_event *, double now);
void ts_draw_end(ts_screen *, const ts_event *, double now);
/* "row 3/8", or of a bench "prompt 1/2, turn 2/3" */
enum { TS_DRAW_PLACE = 80 };
const char *ts_draw_place(const ts_screen *, char out[TS_DRAW_PLACE]);

/* ---- as JSON ---- */
cJSON *ts_draw_event(const char *name);      /* {"event": name}, the caller's */
void ts_draw_json(ts_screen *, cJSON *);     /* prints and deletes it */
double ts_draw_milliseconds(double seconds); /* seconds, rounded to them */
void ts_draw_progress(ts_screen *, const ts_event *, double now);
#endif
