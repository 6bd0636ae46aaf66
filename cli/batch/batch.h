/* One batch: the rows of its files, who renders which of them, and the manifest of what is done.
 * Internal to cli/batch/. docs/formats.md has the files. */
#ifndef TS_BATCH_H
#define TS_BATCH_H
#include "cli/cli.h"
#include "cli/forecast_text.h"
#include "cli/image_flags.h"
#include "sampler/tessera-bench.h"

#include <sys/types.h>

typedef enum {
    TS_JOB_TODO,
    TS_JOB_FAULTY,    /* its file says something that can not be used */
    TS_JOB_ELSEWHERE, /* another share's, or another worker's of the queue */
    TS_JOB_HAD,       /* done by an earlier run */
    TS_JOB_GAVE_UP,   /* failed in an earlier run, and no --retry */
    TS_JOB_DONE,
    TS_JOB_FAILED
} ts_job_state;

enum { TS_ID = 16 };  /* digits of ts_job.id */
typedef struct {      /* one rendering: a row of a file, or one of its copies */
    const char *file; /* for sentences */
    const ts_prompt *row;
    int copy, copies; /* from 1, of so many of its row */
    bool seeded;      /* the row has a seed of its own */
    /* what it was without one in earlier versions, by the row's index */
    uint64_t earlier_seed;
    /* its strings belong to files, command line and model, but for `init` and the images */
    ts_request q;
    char *init;                 /* full path of the picture to begin with; NULL: none */
    uint64_t picture;           /* hash of its bytes */
    uint64_t files;             /* of what attention and LoRAs are read from; 0: of nothing */
    char *image[TS_CLI_IMAGES]; /* the same of the images of a clip */
    uint64_t image_hash[TS_CLI_IMAGES];
    int crf, quality;      /* -1, 0: as suits the kind */
    bool folder;           /* numbered PNGs */
    const char *extension; /* ".mp4"; "" for a folder */
    const char *output;    /* as the row names it; NULL: by the template */
    const char *preview;   /* file of its previews; NULL: none */
    char *name;            /* of the output, below the batch's folder */
    char id[TS_ID + 1];    /* hash of all that decides about the output's content and name */
    int geometry;          /* index of its kind of run */
    int text[2], texts;    /* ids in ts_batch.texts: prompt, negative */
    ts_job_state state;
    bool replaces; /* another file of its name is there, which --overwrite gives up */
    bool found;    /* done, as its file shows, without a record that says so */
    bool again;    /* the manifest has it as done, and its output is gone, cut, or another row's */
    bool refused;  /* it can not be rendered, as was seen before anything was computed */
    bool lost;     /* rendered here, and thrown away: another worker has the row */
    double seconds;
    double bytes; /* of the output, of a folder all its files; 0: not known */
    char *error;  /* why it is faulty or failed */
} ts_job;

typedef struct { /* jobs whose runs have the same sizes */
    int first;   /* its first job */
    /* floating-point operations, those of the decoder weighed by how slowly they go */
    double cost;
    ts_forecast forecast; /* zero: not asked for */
    ts_estimate e;
    char *error; /* it can not be rendered: why; NULL: it can */
} ts_geometry;

typedef struct ts_manifest ts_manifest;
typedef struct ts_queue ts_queue;

typedef struct {
    ts_cli *c;
    const char *out;  /* folder, without a slash at its end */
    char *model;      /* its name */
    char *model_text; /* as hashes have it: with the files that flags give it */
    ts_prompts **file;
    int files, faults;
    ts_job *job; /* in order of files and rows */
    int jobs;
    ts_geometry *geometry;
    int geometries;
    int *order;        /* of rendering: indices of jobs */
    int share, shares; /* from 1 of so many; 1 of 1: all */
    /* of this process among those that may work on one folder: "all", "2-of-4", "host-123" */
    char label[80];
    char *work; /* folder of unfinished files, within `out` */
    ts_manifest *manifest;
    ts_queue *queue; /* NULL: static shares */
    int missing;     /* rows that the queue has as done, of which this folder has nothing */
    int others_done, others_failed; /* rows that other workers of the queue have ended */
    double now_written;             /* when the row at work was written down; 0: never */
    double page_written, page_took; /* when the report was, and how long it took */
    bool ended;                     /* all is done: the report is the last one */
    ts_texts *texts;
    bool *encoded; /* by id: its states are in memory, or could not be made */
    int texts_max;
    size_t room; /* bytes that states may take at once */
} ts_batch;

/* ---- batch_rows.c: files -> jobs ---- */
/* Reads all files, checks every value. Faults are counted and told at once, all of them. TS_EMODEL:
 * a file can not be read, or no row of any can be used. */
ts_status ts_batch_read(ts_batch *);
void ts_batch_free_jobs(ts_batch *);

/* ---- batch_name.c ---- */
#define TS_NAME_DEFAULT "{slug:60}_s{seed}_{hash:6}"
/* Checks a template; TS_EUSAGE lists the fields. */
ts_status ts_batch_template(ts_err *, const char *template);
/* Seeds of rows that have none, names of all jobs that are not faulty, then their ids; all follow
 * from what a row asks for, whatever stands around it. Of equal rows the seeds go on, and where
 * those are given, too, names get `-2`, `-3` behind them. An output that an earlier version made of
 * the row under the name and seed of its place keeps both. template NULL: the default. A row whose
 * own `output` can not be used is a fault like any other, told and left out. TS_EUSAGE: every
 * collision of the template is told; TS_EUSAGE, TS_EMODEL: no row is left. */
ts_status ts_batch_names(ts_batch *, const char *template);

/* ---- batch_share.c ---- */
/* "2/4", "auto", "auto/4"; environment through `get`, which may be getenv. TS_EUSAGE. */
ts_status ts_batch_share(ts_err *, const char *text, char *(*get)(const char *), int *share,
                         int *shares);

/* ---- batch_manifest.c: the manifest, and the lock ---- */
/* Makes the folder, opens and locks the manifest of this process, and looks whether another process
 * works on the same rows. TS_EUSAGE names who does; TS_EIO. */
ts_status ts_manifest_open(ts_batch *);
void ts_manifest_close(ts_batch *);
/* Ids of all rows that the folder's manifests have as done, sorted, TS_ID digits each; malloc'd. */
ts_status ts_manifest_ids(ts_batch *, char **ids, size_t *n);
/* What all manifests in the folder say of the jobs: sets their states. Needs no lock. TS_EUSAGE:
 * outputs that exist and are not theirs, all of them told. */
ts_status ts_manifest_read(ts_batch *);
/* the same of rows that are elsewhere, when the work is done */
ts_status ts_manifest_others(ts_batch *);
/* status: "started", "done", "failed". On the disk when it returns. */
ts_status ts_manifest_add(ts_batch *, const ts_job *, const char *status);
/* Seconds per unit of cost of the rows done before; 0: none. */
double ts_manifest_pace(const ts_batch *);

/* The run has ended: "complete", "incomplete" or "stopped"; none is a word of a row's status.
 * Without this line it was killed. */
void ts_manifest_end(ts_batch *, const char *how);

/* ---- batch_plan.c: --dry-run, after ts_batch_plan ---- */
void ts_batch_print_plan(const ts_batch *, bool json);

/* ---- batch_status.c ---- */
ts_status ts_batch_status(ts_err *, const char *out, bool json);

/* ---- batch_now.c: which row and step is at work, for --status ---- */
void ts_batch_watch(ts_batch *);
void ts_batch_unwatch(ts_batch *);

/* ---- batch_files.c: from work folder to output ---- */
/* every folder in front of a slash; the path is written to meanwhile */
ts_status ts_batch_make_parents(ts_err *, char *path);
/* makes it, removes what a killed process of the same share left */
ts_status ts_batch_work_open(ts_batch *);
void ts_batch_work_close(ts_batch *);                    /* removes it when empty */
char *ts_batch_path(const ts_batch *, const char *name); /* OUT/name; malloc'd; NULL: no memory */
bool ts_batch_exists(const ts_batch *, const char *name);
/* Bytes of a file, or of all files of a folder; 0: there is none. */
double ts_batch_bytes(const ts_batch *, const char *name);
/* What is there is no whole output: it is empty, ends too early for its kind, or is smaller than
 * job.bytes. */
bool ts_batch_is_cut(const ts_batch *, const ts_job *);
char *ts_batch_work_path(const ts_batch *, const ts_job *, const char *end); /* WORK/id+end */
/* of --resume-steps; workers of a queue share it; malloc'd */
char *ts_batch_state_path(const ts_batch *, const ts_job *);
/* The finished file or folder gets its name. TS_EFAIL: another one is there already. */
ts_status ts_batch_publish(ts_batch *, const ts_job *, const char *from);
void ts_remove_tree(const char *path);

/* ---- batch_render.c ---- */
/* texts, geometries, cost, order; geometries that can not be rendered make their jobs fail */
ts_status ts_batch_plan(ts_batch *);
/* all that is to do. TS_ESTOP, TS_EIO, TS_EMODEL, and TS_EFAIL with --fail-fast */
ts_status ts_batch_render(ts_batch *);

/* ---- queue_redis.c; queue_none.c in a build without hiredis ---- */
const char *ts_queue_client(void); /* "hiredis 1.1.0"; NULL: this build has none */
/* From here on a claim is kept fresh by a thread of the queue's own. TS_EUSAGE: the URL, or this
 * build has no hiredis; TS_EDEVICE: no server */
ts_status ts_queue_open(ts_batch *);
void ts_queue_close(ts_batch *);
/* offers all jobs that are to do and have not been offered yet */
ts_status ts_queue_fill(ts_batch *);
/* claims one; waits for those of others that may come back; -1: all are finished */
ts_status ts_queue_next(ts_batch *, int *job);
ts_status ts_queue_holds(ts_batch *, bool *); /* whether the claim is still ours, and renews it */
ts_status ts_queue_finish(ts_batch *, const ts_job *); /* done or failed */
/* What has become of the rows that were not this worker's: others_done, others_failed. */
ts_status ts_queue_count(ts_batch *);

/* ---- batch_report.c ---- */
void ts_batch_table(const ts_batch *);
/* how every report begins */
#define TS_REPORT_BEGIN                                                                     \
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>tessera batch" \
    "</title>"
/* Writes --report, with what other shares and workers have done. */
ts_status ts_batch_page(ts_batch *);
/* The same after a row, where the flag is given, unless writing takes a large part of the time; a
 * failure is left to the last page. */
void ts_batch_refresh(ts_batch *);
/* a sink that hands frames on and keeps a small picture of some of them */
typedef struct ts_strip ts_strip;
ts_sink *ts_strip_open(ts_sink *to, int frames, ts_strip **);
void ts_strip_save(ts_batch *, ts_strip *, const ts_job *);
void ts_strip_close(ts_strip *);
#endif
