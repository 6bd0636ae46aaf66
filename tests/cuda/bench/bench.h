/* `make bench-cuda`: what the CUDA device reaches on a GPU, beside what the GPU and NVIDIA's
 * libraries reach, and whether that is enough. Needs no model and no package: tensors and weights
 * are random, layers have the shapes of published models. The emulated device runs all of it at
 * tiny sizes, so that it stays whole; times are void then. */
#ifndef BENCH_H
#define BENCH_H
#include "attention/policy.h"
#include "backend/ctx.h"

#include <stdio.h>

enum { BENCH_REPEATS = 5, BENCH_CALLS = 16, BENCH_ROWS = 512 };

typedef struct {
    bool tiny;         /* sizes that an emulator bears; no bar is judged */
    const char *json;  /* file to write; NULL: none */
    const char *only;  /* the section to run; NULL: all */
    const char *torch; /* lines "D N seconds" of torch_attention.py; NULL: none */
    FILE *say;         /* where rows are printed */
} bench_options;

typedef enum { BENCH_NO_BAR, BENCH_AT_LEAST, BENCH_AT_MOST } bench_bar;
typedef struct { /* texts live as long as the program, `of` apart */
    const char *section, *what;
    char of[80]; /* which shape */
    double seconds;
    double rate; /* a second, of `unit` */
    const char *unit;
    double ratio; /* to what `against` says; 0: none */
    const char *against;
    bench_bar bar;
    double limit;
} bench_row;

typedef struct {
    ts_ctx ctx;        /* its device times what it does by parts (ts_profile) */
    ts_device *device; /* the CUDA device within */
    bench_options o;
    bench_row row[BENCH_ROWS];
    int rows, met, missed, left_out;
    char left[8][600]; /* which sections, and why */
    double copy_rate, matmul_rate;
    char clocks[3][256]; /* before, under load, after; "": not known */
} bench;

/* One thing to time, in turns with others. */
typedef struct {
    ts_status (*run)(bench *, const void *args);
    const void *args;
    double seconds;         /* out: median; 0 while counting */
    double parts[TS_TIMES]; /* out: of one run, by kind of operation */
} bench_call;

/* All of it: prints, writes o->json. 0: measured, whatever the bars say; 1: a part failed. */
int bench_cuda(const bench_options *);

/* ---- between the parts ---- */
ts_status bench_time(bench *, bench_call *, int n);
/* prints and keeps; nothing while counting */
void bench_say(bench *, const bench_row *);
bool bench_counts(const bench *);
/* [rows, columns] f32 or bf16 from the arena; of normal numbers times `spread` */
ts_tensor bench_take(bench *, ts_dtype, long rows, long columns);
ts_status bench_random(bench *, ts_dtype, long rows, long columns, double spread, ts_tensor *);
/* a matrix [O, K] in bf16, and a vector [C] in f32 */
ts_status bench_weight(bench *, long O, long K, ts_weight *);
ts_status bench_vector(bench *, long C, ts_weight *);
ts_status bench_attention_all(ts_ctx *, void *bench);
ts_status bench_kernels_all(ts_ctx *, void *bench);
ts_status bench_rest_all(ts_ctx *, void *bench);
ts_status bench_steps_all(ts_ctx *, void *bench);

/* ---- bench_block.c: a block of a Wan transformer ---- */
typedef struct {
    const char *name, *size;
    int layers;
    long N, A, D, ff, text; /* tokens, heads, width of a head, of the feed-forward; rows of text */
} bench_shape;
typedef struct {
    bench_shape of;
    ts_tensor h; /* f32 [N, A D], the residual stream */
    ts_tensor n, q, k, v, u;
    ts_tensor table, e, m; /* f32 [1, 6 A D] */
    ts_tensor cos, sin, text_k, text_v;
    ts_tensor lse, sums, stat;
    ts_weight w[9]; /* q k v o of the tokens, q o of the text, up, down: see bench_block.c */
    ts_weight b[9], norm[5];
    ts_plan plan;
    double keep;
} bench_layer;
/* One layer's memory and random weights. */
ts_status bench_layer_take(bench *, const bench_shape *, double keep, bench_layer *);
/* Its operations, as dit/adaln.c and attention/attend.c have them; test_bench_cuda compares. */
ts_status bench_layer_run(bench *, const bench_layer *, ts_do what);
#endif
