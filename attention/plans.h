/* Plans of a run by layer and branch: carved, and where the policy fixes them filled, at the
 * opening of its attention. Internal to attention/. */
#ifndef TS_PLANS_H
#define TS_PLANS_H
#include "attention/attend.h"

struct ts_attn_state { /* of one layer and branch */
    ts_plan plan;      /* bits absent: none is ever made */
    bool have;
    double kept;      /* share of the blocks that plans are about, as far as the host knows it */
    ts_tensor lse;    /* adaspa: f32 [1, A, T] */
    ts_tensor scores; /* adaspa, where scores are kept: f32 [1, A, nb, nb] of the last search */
    int scored;       /* the step of that search; 0: none yet */
};

/* Order, plans and what searches need; a->state stays NULL where everything is dense. a->ctx, o and
 * grid are set. The errors of ts_attn_open. */
ts_status ts_plans_open(ts_attn *);
ts_attn_state *ts_plans_of(const ts_attn *, int slot, int layer);
size_t ts_plans_bytes(ts_sequence, int A); /* of the bits of a plan */
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
