/* What stderr says while a run goes on: a bar on a terminal, lines elsewhere, NDJSON events (docs/formats.md) or nothing. */
#ifndef TS_PROGRESS_H
#define TS_PROGRESS_H
#include "tessera.h"

#include <stdint.h>
#include <stdio.h>

typedef enum { TS_SCREEN_BAR, TS_SCREEN_LINES, TS_SCREEN_JSON, TS_SCREEN_NONE } ts_screen_mode;
typedef struct {
    ts_screen_mode mode;
    FILE *out;
    double (*clock)(void);  /* seconds, monotonic */
    int columns;            /* of the terminal; 0: ask it */
    bool armed;             /* a run has begun: events before are those of its sizing */
    double cost[3];         /* by phase, floating-point operations weighed by how fast they go */
    double began;           /* the run */
    int phase;              /* -1: none yet */
    double phase_began, first, share; /* of the phase: start, share that was there at the start (resumed), share done */
    double said;            /* when something was last shown */
    bool drawn;             /* a bar stands on the line */
    uint64_t warned[32];    /* hashes of warnings that were shown: each is said once */
    int warnings;
} ts_screen;

/* BAR becomes LINES when `out` is no terminal. */
void ts_screen_init(ts_screen *, ts_screen_mode, FILE *out);
/* The run begins: from here on events are shown. `json`: its metadata, NULL or as ts_run_json made it; `output`: where it goes. */
void ts_screen_start(ts_screen *, const ts_estimate *, int steps, const char *output, const char *json);
void ts_screen_event(void *screen, const ts_event *);      /* ts_env.progress */
void ts_screen_warn(void *screen, const char *sentence);   /* ts_env.warn */
void ts_screen_note(ts_screen *, const char *format, ...) __attribute__((format(printf, 2, 3))); /* for people only */
void ts_screen_clear(ts_screen *); /* takes the bar away: a line of stdout comes */
void ts_screen_table(ts_screen *, const char *name, const char *text); /* some lines of text; an event {"event": name, "text"} */
void ts_screen_done(ts_screen *, const ts_report *, const char *output);
void ts_screen_error(ts_screen *, int code, const char *sentence); /* in every mode */
/* Share of the phase that an event stands for: 0..1. */
double ts_event_share(const ts_event *);
/* Seconds until the run ends by the pace so far; negative: not known yet. */
double ts_screen_left(const ts_screen *, double now);
#endif
