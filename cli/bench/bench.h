/* What `tessera bench` measured of clips, for the table, the JSON and the HTML report. */
#ifndef TS_BENCH_H
#define TS_BENCH_H
#include "cli/bench/bench_doubt.h"
#include "cli/bench/bench_verdict.h"
#include "cli/cli.h"
#include "cli/image_flags.h"
#include "sampler/tessera-bench.h"

#include <cjson/cJSON.h>

enum { TS_BENCH_MOST = 64 }; /* policies, after --sweep */
typedef struct {             /* one policy on one prompt */
    /* [repeats]: of denoising; of all threads in it; of self-attention within it */
    double *seconds, *cpu, *attention;
    int repeats;      /* measured so far */
    ts_report report; /* of the last repeat */
    double computed;  /* share of its steps that were evaluated */
    /* [frames] against the dense clip; NULL: not decoded, or dense itself */
    double *mse, *ssim;
    double apart; /* |latents - dense latents| / |dense latents|; NaN: not compared */
    /* path of an encoded clip in the report's temporary folder; NULL */
    char *clip;
    char *plans; /* folder of plan pictures; NULL */
    char *said;  /* the run's own report on attention; NULL */
} ts_bench_cell;
typedef struct {
    char *attention; /* as run; with step caching, "POLICY, METHOD" */
    /* of a run with step caching: the two apart; NULL: none */
    char *policy, *cache;
    /* a policy without the swept key: one line of the curve; NULL: it was not swept */
    char *series;
    double x; /* the swept value */
    int line; /* 0: dense; what is one line of the curve has one number and one colour */
} ts_bench_policy;
typedef struct {   /* where it was measured */
    char cpu[128]; /* as the system names it; "": unknown */
    char date[32]; /* of the start, UTC, 2026-01-31T12:00:00Z */
    int cores;     /* that the process may use */
    /* load average of the last minute, at the start and at the end; negative: unknown */
    double load[2];
    double taken;          /* share of its time that others took; negative: unknown */
    double own, work, all; /* seconds at the start: of this process, of all, of the clock */
} ts_bench_machine;
typedef struct {
    ts_cli *c;
    ts_request q;
    char *image[TS_CLI_IMAGES]; /* paths of the images that clips are made of; NULL */
    ts_estimate e;
    /* of each policy: operations of a step; seconds that a run will take, 0: not known */
    double flops[TS_BENCH_MOST], expected[TS_BENCH_MOST], expected_decode;
    const char *const *prompt;
    int prompts, repeats;
    int policies; /* that were measured on done_prompts */
    int stride;   /* that were asked for */
    /* prompts with at least one repeat of every policy */
    int done_prompts;
    char sweep[32];                        /* name of the swept key; "": none */
    ts_bench_policy policy[TS_BENCH_MOST]; /* [0] is dense */
    ts_bench_cell *cell;                   /* [prompts, stride] */
    int w, h, frames;                      /* of decoded clips */
    ts_bench_machine machine;
    bool complete;
} ts_bench;

typedef struct { /* one row of the table: a policy over all prompts that were measured */
    double seconds, cpu, attention; /* sums over prompts of medians */
    /* seconds: sums over prompts of the fastest and of the slowest repeat */
    double least, most;
    /* dense over this; Amdahl's limit: dense self-attention divided by the gain that arithmetic
     * promises, everything else as it was */
    double speed, attention_speed, ideal;
    double kept, recall, ssim; /* means over prompts; recall 0, ssim NaN: not measured */
    /* of the mean squared error over all frames and prompts; NaN: not measured; infinite: equal */
    double psnr;
    double apart;                 /* of latents, the mean over prompts; NaN: not measured */
    long dense, searched, sparse; /* calls */
    /* the gain over dense and what it is worth; of dense nothing but the machine */
    ts_measured measured;
    int doubts; /* of `measured` */
} ts_bench_row;
ts_bench_row ts_bench_sum(const ts_bench *, int policy);
/* What it comes to: sentences of bench_verdict.h, those of levels first, of all policies by what
 * was measured, or, where the gain of one that was sparse is void, by arithmetic. */
enum { TS_BENCH_WHY = 512 };
typedef struct {
    char why[TS_BENCH_WHY];       /* why by arithmetic; "": as measured */
    bool frontier[TS_BENCH_MOST]; /* of each policy: no other one beats it */
    int lines;
    char line[TS_VERDICT_LEVELS + TS_VERDICT_LINES][TS_VERDICT_TEXT];
} ts_bench_words;
void ts_bench_conclude(const ts_bench *, ts_bench_words *);
static inline ts_bench_cell *ts_bench_at(const ts_bench *b, int prompt, int policy)
{
    return b->cell + (long)prompt * b->stride + policy;
}
double ts_bench_median(const double *, int n);
/* (largest - smallest) / median; 0: fewer than two */
double ts_bench_spread(const double *, int n);
void ts_bench_begin(ts_bench_machine *); /* before anything is measured */
void ts_bench_look(ts_bench_machine *);  /* what the machine did since; as often as wanted */
ts_measured ts_bench_measured(
    const ts_bench_machine *); /* of the machine alone, nothing compared */
void ts_bench_add_machine(cJSON *, const ts_bench_machine *); /* date, cpu, cores, load, ... */
void ts_bench_add_void(cJSON *, const char *why);             /* "": null, it is not */
/* What every bench's JSON begins with: tessera, bench, versions, and the machine; cJSON_Delete. */
cJSON *ts_bench_document(ts_ctx *, const char *what, const ts_bench_machine *);
/* null: not finite, which is not measured */
void ts_bench_number(cJSON *, const char *key, double x);
/* to --json, if given. TS_EIO, TS_EMEMORY */
ts_status ts_bench_write(ts_err *, const ts_flags *, cJSON *, bool complete);
void ts_bench_print_machine(const ts_bench_machine *); /* a line under a table */
/* a line that times are void, if the machine was busy */
void ts_bench_print_busy(const ts_bench_machine *);
/* What was measured of clips: the table on stdout, and --json, if given. TS_EIO, TS_EMEMORY. */
void ts_bench_print(const ts_bench *);
ts_status ts_bench_json(const ts_bench *);
/* To --html: one self-contained page: charts, clips side by side, PSNR over frames, plan pictures.
 * TS_EIO, TS_EMEMORY. */
ts_status ts_bench_html(const ts_bench *);
ts_status ts_cli_bench_clips(ts_cli *);
ts_status ts_cli_bench_step(ts_cli *);
#endif
