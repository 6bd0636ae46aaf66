/* A run of self-attention under a policy on random queries, keys and values: steps, layers and
 * branches, on the CPU or behind addresses that fault. */
#ifndef SPARSE_RUN_H
#define SPARSE_RUN_H
#include "attention/saved.h"
#include "tests/testing.h"

enum { STEPS = 4, LAYERS = 3, SLOTS = 2, A = 4, D = 16, WIDTH = A * D, SHAPES = 3, SOME = 10 };
/* 300, 351 and 391 tokens: 5, 6 and 7 blocks, the last one ragged; the third is one frame. Beyond
 * SHAPES: 240 tokens, fewer than min-tokens */
extern const int sparse_shapes[SHAPES + 1][3];
extern const char *const sparse_branches[SLOTS];
extern const char *const sparse_some[SOME]; /* policies of every kind that keep a part */

typedef struct { /* what a run is to do, and what came out */
    const char *policy;
    ts_grid grid;
    bool plans, scores;
    ts_order order;
    float *out; /* [STEPS, SLOTS, LAYERS, N, A, D], raster */
    ts_attn attn;
    int32_t *at;
} sparse_run;

sparse_run sparse_run_of(const char *policy, int shape); /* not run yet; sparse_run_free */
/* A whole run with its plans and scores. */
sparse_run sparse_run_on(const char *backend, int threads, const char *policy, int shape);
void sparse_run_free(sparse_run *);
long sparse_count(const sparse_run *); /* numbers of one layer's output */
float *sparse_output(const sparse_run *, int step, int slot, int layer); /* step from 1 */
/* q, k or v (what 0 1 2) [N, A, D], raster. */
void sparse_draw(const sparse_run *, int what, int step, int slot, int layer, float *);
/* A search's numbers by their name in plan files ("wsum" [A, nb, nb], "recall" [A]). */
const float *sparse_scores(const sparse_run *, const char *what, int slot, int layer, int step);

/* The parts of a run: its policy opened, one layer's attention, all of it (for testing_run). */
ts_status sparse_open(ts_ctx *, sparse_run *);
ts_status sparse_call(ts_ctx *, sparse_run *, int step, int slot, int layer);
ts_status sparse_phase(ts_ctx *, void *user);
#endif
