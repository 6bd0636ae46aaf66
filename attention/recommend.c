/* The table behind --attention auto. Its numbers are those of docs/measurements.md, "What sparse
 * attention costs in likeness" (bench of the default model, of frames of 8 x 8 tokens of the one
 * before it; mean PSNR of frames against the dense clip over the prompts named there); larger
 * models were not measured. */
#include "attention/recommend.h"

#include "backend/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAMES_ARE_BLOCKS 15, 8, 8
#define FOUR_BLOCKS_A_FRAME 8, 16, 16
typedef struct {
    int F, H, W, steps; /* tokens, steps */
    const char *policy;
    double psnr; /* dB */
} measurement;
static const measurement rows[] = {
    {FRAMES_ARE_BLOCKS, 24, "adaspa:keep=0.1,residual=0,rest=none", 24.9},
    {FRAMES_ARE_BLOCKS, 24, "adaspa:keep=0.2,residual=0", 25.7},
    {FRAMES_ARE_BLOCKS, 24, "adaspa:keep=0.35,residual=0", 28.9},
    {FRAMES_ARE_BLOCKS, 24, "adaspa:keep=0.5,residual=0", 32.4},
    {FRAMES_ARE_BLOCKS, 24, "pooled:keep=0.1", 23.9},
    {FRAMES_ARE_BLOCKS, 24, "pooled:keep=0.2", 24.2},
    {FRAMES_ARE_BLOCKS, 24, "pooled:keep=0.35", 27.2},
    {FRAMES_ARE_BLOCKS, 24, "pooled:keep=0.5", 31.0},
    {FOUR_BLOCKS_A_FRAME, 12, "adaspa:keep=0.1", 21.2},
    {FOUR_BLOCKS_A_FRAME, 12, "adaspa:keep=0.2", 33.6},
    {FOUR_BLOCKS_A_FRAME, 12, "adaspa:keep=0.35", 37.7},
    {FOUR_BLOCKS_A_FRAME, 12, "adaspa:keep=0.5", 41.0},
    {FOUR_BLOCKS_A_FRAME, 12, "pooled:keep=0.1", 18.8},
    {FOUR_BLOCKS_A_FRAME, 12, "pooled:keep=0.2", 20.6},
    {FOUR_BLOCKS_A_FRAME, 12, "pooled:keep=0.35", 21.7},
    {FOUR_BLOCKS_A_FRAME, 12, "pooled:keep=0.5", 23.0},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* More is no gain: what ranking and the rest cost is not counted, and takes as much of short runs.
 */
static const double MOST_WORK = 0.8;

static double apart(double a, double b) { return fabs(log(a / b)); }

/* What is in a block follows from the tokens of a frame: those are compared first, then steps. */
static double distance_to(const measurement *m, const ts_grid *g, int steps)
{
    return 1e3 * apart((double)g->H * g->W, (double)m->H * m->W) + apart(steps, m->steps);
}

static double nearest_distance(const ts_grid *g, int steps)
{
    double least = INFINITY;
    for (int i = 0; i < ROWS; i++) least = fmin(least, distance_to(rows + i, g, steps));
    return least;
}

void ts_policy_recommend(ts_policy *p, const ts_grid *g, int steps, ts_advice *a)
{
    ts_err err;
    ts_policy best = {.kind = TS_DENSE}, other;
    double work = MOST_WORK, nearest = nearest_distance(g, steps);
    *a = (ts_advice){.asked = p->psnr};
    for (int i = 0; i < ROWS; i++) {
        const measurement *m = rows + i;
        ts_policy_parse(&err, m->policy, &other);
        if (distance_to(m, g, steps) > nearest || g->N < other.min_tokens) continue;
        a->F = m->F;
        a->H = m->H;
        a->W = m->W;
        a->steps = m->steps;
        ts_policy_settle(&other, steps);
        double costs = ts_policy_work(&other, steps, g->nb);
        if (m->psnr < a->asked || costs > work || (costs == work && m->psnr <= a->psnr)) continue;
        work = costs;
        best = other;
        a->policy = m->policy;
        a->psnr = m->psnr;
    }
    *p = best;
}

/* "2,048 tokens (8 x 16 x 16)" */
static void print_grid(FILE *f, int F, int H, int W)
{
    fprintf(f, "%d tokens (%d x %d x %d)", F * H * W, F, H, W);
}

char *ts_advice_text(const ts_advice *a, const ts_grid *g, double gain)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    locale_t was = ts_point_begin();
    fprintf(f, "attention auto: %s", a->policy ? a->policy : "dense");
    if (!a->F)
        fprintf(f, ": %d tokens are too few to gain", g->N);
    else if (!a->policy)
        fprintf(f, ": no policy that saves was as near to it as %g dB", a->asked);
    if (gain > 1) fprintf(f, ", by arithmetic %.2f times as fast as dense", gain);
    if (a->policy) fprintf(f, "; PSNR %.1f dB against dense", a->psnr);
    if (a->F) {
        fputs(" on a small model, ", f);
        print_grid(f, a->F, a->H, a->W);
        fprintf(f, ", %d steps", a->steps);
    }
    ts_point_end(was);
    fclose(f);
    return text;
}
