/* What stderr says while a run goes on: a bar on a terminal, lines elsewhere, NDJSON events
 * (docs/formats.md) or nothing. */
#ifndef TS_PROGRESS_H
#define TS_PROGRESS_H
#include "sampler/tessera.h"

#include <stdint.h>
#include <stdio.h>

typedef enum { TS_SCREEN_BAR, TS_SCREEN_LINES, TS_SCREEN_JSON, TS_SCREEN_NONE } ts_screen_mode;
/* Of a bench: which measurement is at work. */
typedef struct {
    const char *policy; /* lent until the next; NULL: no bench */
    /* from 1; prompts 0: none; turn 0: frames are made and compared */
    int prompt, prompts, turn, turns;
} ts_screen_turn;

typedef struct {
    ts_screen_mode mode;
    FILE *out;
    double (*clock)(void); /* seconds, monotonic */
    int columns;           /* of the terminal; 0: ask it */
    bool armed;            /* a run has begun: events before are those of its sizing */
    double cost[3];        /* by phase, floating-point operations weighed by how fast they go */
    double began;          /* the run */
    int phase;             /* -1: none yet */
    /* of the phase: start, share that was there at the start (resumed), share done */
    double phase_began, first, share;
    double said;      /* when something was last shown */
    int layers;       /* of a step of the phase; 0: not told yet */
    bool drawn, over; /* a bar stands on the line; and that of the batch on the line above */
    /* of a batch: to render; the one at work, from 1; rows 0: no batch. Of a bench: 1, and 1
     * while one is measured */
    int rows, row;
    ts_screen_turn turn;
    /* of all rows, of those done, of the one at work; as `cost` */
    double batch_cost, batch_did, row_cost;
    double batch_spent, row_began; /* seconds of the rows done; when the one at work began */
    const char *row_output;
    /* of a batch's row, whose file is made in one place and named as another; NULL: no row */
    const char *made_at, *made_as;
    /* is told of every event of a run, in every mode: seconds that are left, negative: not known;
     * NULL: nobody */
    void (*watch)(void *watcher, const ts_event *, double left);
    void *watcher;
    long written_w, written_h; /* pixels of the file; 0: not told */
    ts_forecast forecast;      /* zero: not told */
    uint64_t warned[32];       /* hashes of warnings that were shown: each is said once */
    int warnings;
} ts_screen;

/* BAR becomes LINES when `out` is no terminal. */
void ts_screen_init(ts_screen *, ts_screen_mode, FILE *out);
/* Before the run begins: pixels of the file that it writes. */
void ts_screen_written(ts_screen *, long w, long h);
/* Before the run begins: what it will take; zero: not known. */
void ts_screen_forecast(ts_screen *, const ts_forecast *);
/* The run begins: from here on events are shown. `json`: its metadata, NULL or as ts_run_json made
 * it; `output`: where it goes. */
void ts_screen_start(ts_screen *, const ts_estimate *, int steps, const char *output,
                     const char *json);
/* A batch of so many rows begins; then for each row: it begins, its run begins (ts_screen_start),
 * it ends, `status` "done", "failed" or "elsewhere". Texts of many rows are encoded between
 * rows. */
/* cost 0: not known, and so is what is left */
void ts_screen_batch(ts_screen *, int rows, double cost);
void ts_screen_batch_texts(ts_screen *);
/* output: lent until the row ends */
void ts_screen_row(ts_screen *, const char *output, double cost);
typedef struct {
    const char *file, *output, *status, *error;
    const char *path; /* of a finished output, as a program opens it; NULL: none */
    int line, index, frames;
    double seconds, bytes; /* bytes: of the output, of a folder all its files */
    uint64_t seed;
} ts_row_end;
void ts_screen_row_done(ts_screen *, const ts_row_end *);
/* A bench begins; then of each measurement, when its run has begun (ts_screen_start), which it is
 * and the seconds that it will take, and that it has ended. Text is encoded between them. */
typedef struct {
    int policies, prompts, turns; /* prompts 0: there are none, and nothing is compared */
    double seconds;               /* that all of it will take; 0: not known */
} ts_screen_plan;
void ts_screen_bench(ts_screen *, const ts_screen_plan *);
void ts_screen_measure(ts_screen *, const ts_screen_turn *, double seconds);
void ts_screen_measured(ts_screen *);
/* as ts_screen_left, of the whole batch or bench */
double ts_screen_batch_left(const ts_screen *, double now);
typedef struct {
    int done, failed, skipped, others_done, others_failed;
    bool shared; /* with other workers, who ended the others */
} ts_batch_end;
void ts_screen_batch_done(ts_screen *, const ts_batch_end *);
void ts_screen_event(void *screen, const ts_event *);    /* ts_env.progress */
void ts_screen_warn(void *screen, const char *sentence); /* ts_env.warn */
/* The sentence with flags for `members` (ts_flags_reword), and with the name that a row's file will
 * have where it has that of its place. Warnings, faults and errors are shown so. */
void ts_screen_reword(const ts_screen *, const char *sentence, char *out, size_t size);
/* of an input; line 0: all of it; in every mode */
void ts_screen_fault(ts_screen *, const char *file, int line, const char *sentence);
/* for people only */
void ts_screen_note(ts_screen *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ts_screen_clear(ts_screen *); /* takes the bar away: a line of stdout comes */
/* some lines of text; an event {"event": name, "text"} */
void ts_screen_table(ts_screen *, const char *name, const char *text);
/* A preview has been written; an event alone. */
void ts_screen_preview(ts_screen *, const char *path, int step, int steps);
typedef struct {
    const char *output;
    char **paths; /* every file, or the folder */
    int n, frames;
    double bytes; /* of all of them; 0: not known */
} ts_written;
void ts_screen_done(ts_screen *, const ts_report *, const ts_written *);
void ts_screen_error(ts_screen *, int code, const char *sentence); /* in every mode */
const char *ts_clock_text(double seconds, char out[24]);           /* 0:07, 12:30, 1:02:03 */
/* Share of the phase that an event stands for: 0..1. */
double ts_event_share(const ts_event *);
/* Seconds until the run ends by the pace so far; negative: not known yet. */
double ts_screen_left(const ts_screen *, double now);
#endif
