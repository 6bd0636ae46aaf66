/* What `tessera bench` measured of clips, for the table, the JSON and the HTML report. */
#ifndef TS_BENCH_H
#define TS_BENCH_H
#include "cli/cli.h"

#include <cjson/cJSON.h>

enum { TS_BENCH_MOST = 64 }; /* policies, after --sweep */
typedef struct {       /* one policy on one prompt */
    double *seconds, *attention; /* [repeats]: denoising, attention within it */
    int repeats;                 /* measured so far */
    ts_report report;            /* of the last repeat */
    double *mse, *ssim;          /* [frames] against the dense clip; NULL: not decoded, or dense itself */
    char *clip;                  /* path of an encoded clip in the report's temporary folder; NULL */
    char *plans;                 /* folder of plan pictures; NULL */
    char *said;                  /* the run's own report on attention; NULL */
} ts_bench_cell;
typedef struct {
    char *attention;   /* as run */
    char *series;      /* a policy without the swept key: one line of the curve; NULL: it was not swept */
    double x;          /* the swept value */
} ts_bench_policy;
typedef struct {
    ts_cli *c;
    ts_request q;
    ts_estimate e;
    const char *const *prompt;
    int prompts, policies, repeats, done_prompts; /* prompts with at least one repeat of every policy */
    char sweep[32];                               /* name of the swept key; "": none */
    ts_bench_policy policy[TS_BENCH_MOST];        /* [0] is dense */
    ts_bench_cell *cell;                          /* [prompts, policies] */
    int w, h, frames;                             /* of decoded clips */
    bool complete;
} ts_bench;

typedef struct { /* one row of the table: a policy over all prompts that were measured */
    double seconds, attention;           /* sums over prompts of medians */
    double speed, attention_speed, ideal; /* dense over this; Amdahl's limit from the dense run's attention share and the gain that arithmetic promises */
    double kept, recall, psnr, ssim;     /* means over prompts; recall 0, psnr NaN: not measured; psnr infinite: equal */
    long dense, searched, sparse;        /* calls */
} ts_bench_row;
ts_bench_row ts_bench_sum(const ts_bench *, int policy);
static inline ts_bench_cell *ts_bench_at(const ts_bench *b, int prompt, int policy) { return b->cell + (long)prompt * b->policies + policy; }
double ts_bench_median(const double *, int n);
/* One self-contained page: charts, clips side by side, PSNR over frames, plan pictures. TS_EIO. */
ts_status ts_bench_html(const ts_bench *, const char *path);
ts_status ts_cli_bench_clips(ts_cli *);
ts_status ts_cli_bench_step(ts_cli *);
/* Writes PATH by way of PATH.part; `flag` is named in the sentence. TS_EIO. */
ts_status ts_cli_write(ts_cli *, const char *flag, const char *path, const char *text, size_t size);
#endif
