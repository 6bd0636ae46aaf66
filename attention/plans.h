/* Plans of a run by layer and branch: carved, and where the policy fixes them filled, at the
 * opening of its attention. Internal to attention/. */
#ifndef TS_PLANS_H
#define TS_PLANS_H
#include "attention/attend.h"

/* What may order the blocks of a row (search.h) */
typedef enum {
    TS_RANK_FRESH,
    TS_RANK_MASS,
    TS_RANK_OWN,
    TS_RANK_POOLED,
    TS_RANK_WINDOW, /* from here on by scores that follow from the grid */
    TS_RANK_TILE,
    TS_RANKINGS, /* that adaspa compares; svg the two behind them */
    TS_RANK_SPATIAL = TS_RANKINGS,
    TS_RANK_TEMPORAL,
    TS_RANKINGS_NAMED
} ts_ranking;

struct ts_attn_state { /* of one layer and branch */
    ts_plan plan;      /* bits absent: none is ever made */
    bool have;
    double kept;      /* share of the blocks that plans are about, as far as the host knows it */
    ts_tensor lse;    /* adaspa: f32 [1, A, T] */
    ts_tensor scores; /* adaspa, where scores are kept: f32 [1, A, nb, nb] of the last search */
    int scored;       /* the step of that search; 0: none yet */
    /* Where rankings are compared by error, i32 [A] of each head: ts_ranking and ts_rest_form; and
     * as far as the host knows, which of them some head has. */
    ts_tensor ranking, form;
    /* Scores of two patterns f32 [2, nb, nb], those of adaspa from TS_RANK_WINDOW on or of svg,
     * where ranking counts from TS_RANK_SPATIAL, and i32 [2, A] of zeros and ones; of branches with
     * as many blocks the same */
    ts_tensor patterns, each;
    /* recycled: the mean queries of the last search (recycle.h); the next comparison found others;
     * searches so far */
    ts_tensor queries;
    bool stale;
    int searches;
    /* What the plan left out of the last search's output (residual.h), of each token f32 or bf16
     * [T, A D] or the mean of each block f32 [nb, A D]; absent: none is kept */
    ts_tensor residual;
    bool ranks[TS_RANKINGS], forms[TS_REST_LINEAR + 1];
};

/* Order, plans and what searches need; a->state stays NULL where everything is dense. a->ctx, o and
 * grid are set. The errors of ts_attn_open. */
ts_status ts_plans_open(ts_attn *);
ts_attn_state *ts_plans_of(const ts_attn *, int slot, int layer);
size_t ts_plans_bytes(ts_sequence, int A); /* of the bits of a plan */
/* What each head was given, [heads] whole numbers as f32: what the host knows of it. */
void ts_plans_know(ts_attn_state *, int heads, const float *ranking, const float *form);
/* Fills a carved plan, and its share, from a choice among the video blocks, [plan.A, nv, ..] of the
 * host. */
ts_status ts_plans_send(ts_attn *, ts_attn_state *, ts_sequence, const uint32_t *chosen);
/* The reverse. */
ts_status ts_plans_fetch(ts_attn *, const ts_attn_state *, ts_sequence, uint32_t *chosen);
/* `kept` of the video blocks, as a share of all: text is read. */
void ts_plans_share(ts_attn_state *, ts_sequence, double kept);
/* Density that no key asked for: remembered for the report, an error when `strict`. */
ts_status ts_plans_fall_back(ts_attn *, const char *why);
ts_status ts_plans_no_memory(ts_attn *); /* TS_EMEMORY */
#endif
