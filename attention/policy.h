/* What `--attention NAME[:key=value,...]` asks for: read, completed with what depends on the run,
 * and decided on step by step. Pure host code; attend.h carries it out. README.md describes every
 * policy. */
#ifndef TS_POLICY_H
#define TS_POLICY_H
#include "attention/grid.h"

typedef enum {
    TS_DENSE,
    TS_AUTO, /* what measurements recommend: stands for another (recommend.h) */
    TS_ADASPA,
    TS_TILE,
    TS_WINDOW,
    TS_RADIAL,
    TS_POOLED,
    TS_SVG,
    TS_RECYCLED,
    TS_RANDOM,
    TS_BLOCKS,
    TS_POLICIES
} ts_policy_kind;
typedef enum {
    TS_DO_DENSE,
    TS_DO_SEARCH,       /* dense, while its block sums (and output) make the plan of later steps */
    TS_DO_SEARCH_AGAIN, /* block sums from the kept lse make a new plan, which is used at once */
    TS_DO_POOL,         /* block means make a plan, which is used at once */
    TS_DO_SPARSE
} ts_do;

typedef struct {
    int first, last;
} ts_span;
enum { TS_SPANS = 32 };
/* of whole numbers, ascending: "0+1+28-29" */
typedef struct {
    ts_span span[TS_SPANS];
    int n;
} ts_set;

/* Beside the forms of ts_rest_form: the best of them by measured error, for each head */
enum { TS_REST_MEASURED = TS_REST_LINEAR + 1 };

typedef struct {
    ts_policy_kind kind;
    double keep; /* share of key blocks that are read */
    double mass; /* adaspa: share of a row's weight that its blocks hold, instead; 0: not said */
    ts_order order;
    long min_tokens; /* fewer: dense */
    int dense_steps; /* the first so many are dense; -1: not said */
    ts_set search;   /* adaspa, svg: steps that search; empty: not said */
    ts_set dense_layers;
    /* adaspa: rankings, svg: patterns are compared by the error of their output */
    bool by_error;
    int fresh; /* adaspa: plans are ranked anew at every so manieth step; 0: never */
    /* adaspa, svg, recycled: tokens over which the residual of a search is averaged that sparse
     * calls add, 1 or TS_BLOCK; 0: none is kept; -1: not said */
    int residual;
    int rest; /* what stands for blocks that are not read: ts_rest_form, or TS_REST_MEASURED */
    bool adaptive, strict;
    double psnr; /* auto: dB from dense that the measurement has to reach */
    /* recycled: the least mean cosine of queries with which a plan is used on; steps from one
     * search to the next, at least; searches of a layer and branch, at most */
    double similar;
    int apart, searches;
    int k;           /* tile: reference frames */
    uint64_t seed;   /* random */
    char file[1024]; /* blocks: plans; tile: a k per layer; "": none */
    /* by a key: then density that follows from them was asked for */
    bool said_min_tokens, said_steps;
} ts_policy;

/* TS_EUSAGE: which name, key or value, and what it may be. */
ts_status ts_policy_parse(ts_err *, const char *text, ts_policy *);
/* Completes what depends on the number of steps: adaspa and svg search at steps max(1, [0.2 S]) and
 * [0.6 S] (by error the second from ten steps on), recycled at the first of them, others are dense
 * for [0.2 S] steps, [x] = floor(x + 0.5). */
void ts_policy_settle(ts_policy *, int steps);
/* The policy with every key that applies to it, as ts_policy_parse reads it; malloc'd. */
char *ts_policy_text(const ts_policy *);
/* step from 1, layer from 0 through all experts; have: a plan for this layer and branch is
 * there. */
ts_do ts_policy_decide(const ts_policy *, int step, int layer, bool have);
/* Are plans made by searches in steps of their own, and kept until the next? */
bool ts_policy_keeps_plans(const ts_policy *);
/* Later searches are by the row sums (LSE) that the first one kept, without a dense call: not where
 * residuals are kept, which need its output. */
bool ts_policy_searches_again(const ts_policy *);
/* Does a step make plans that later ones use? */
bool ts_policy_searches(const ts_policy *, int step);
/* Of a settled policy with a budget: what self-attention of a run of these steps computes, a dense
 * run being 1, of nb blocks; dense layers and text left aside. A search by error is a dense call
 * and six (with rest=measured nine, svg two) sparse ones of 24 query blocks, and one of all where
 * its residual is kept; what ranking and the rest cost is not in it, nor searches of recycled
 * beyond those of its schedule.
 */
double ts_policy_work(const ts_policy *, int steps, int nb);
bool ts_set_has(const ts_set *, int);
const char *ts_policy_name(ts_policy_kind);
#endif
