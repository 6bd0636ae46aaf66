/* The one call that a transformer block makes for self-attention: carries out the policy
 * (policy.h), owns plans and kept LSEs, and counts what was done. */
#ifndef TS_ATTEND_H
#define TS_ATTEND_H
#include "attention/counters.h"
#include "attention/policy.h"
#include "weights/bag.h"

/* Which scores of searches are kept for ts_attn_plans. */
typedef enum {
    TS_SCORES_NONE,
    TS_SCORES_LAST, /* of a layer and branch: for pictures */
    TS_SCORES_EVERY
} ts_scores;

typedef struct {
    ts_policy policy;             /* settled */
    ts_grid grid;                 /* of ts_grid_of */
    int layers, heads, slots;     /* layers through all experts; slots: guidance branches */
    int width;                    /* of a head; only recycled asks */
    const char *const *slot_name; /* [slots] "cond", "uncond": names in plan files; borrowed */
    /* [slots] rows of text that take part in self-attention (ts_sequence.L); borrowed. NULL: none
     * in any */
    const int *text;
    bool keep_plans; /* for ts_attn_plans */
    ts_scores keep_scores;
    int first;  /* steps of the policy's schedule before the first that is run */
    bool timed; /* ask the device when calls begin and end, for the seconds of the counters */
} ts_attn_options;

typedef struct ts_attn_state ts_attn_state;
typedef struct ts_attn_call ts_attn_call;
typedef struct {
    ts_ctx *ctx;
    ts_attn_options o;
    ts_grid grid;          /* with the order of the policy */
    int step, layer, slot; /* of what comes next: step from 1, of the schedule */
    ts_attn_counters counters;
    char why[256];        /* density that no key asked for, and why; "": none */
    ts_attn_state *state; /* [slots, layers]; NULL: everything is dense */
    /* Calls since the last ts_attn_step_end, [room]; what searches among them found, f32 [room,
     * TS_FOUND, heads] (search.h), on the device and, at the step's end, on the host. */
    ts_attn_call *call;
    int calls, room;
    ts_tensor found;
    float *found_host;
    ts_bag *plans; /* what ts_attn_plans hands out */
    /* Looks at every call before it is carried out and writes to none of its tensors; NULL:
     * none. For the life of the open attention: set it after ts_attn_open. */
    ts_status (*observe)(void *observer, int layer, const ts_attention *);
    void *observer;
} ts_attn;

/* Opens a run's attention: checks that the policy fits the run, carves from ctx->arena what lives
 * as long as it. Call it again for another run or arena. In counting mode it warns of what will be
 * dense. TS_EMODEL, TS_ESHAPE: a plan file that does not fit; TS_EFAIL: `strict` and something must
 * be dense; TS_ESTOP. */
ts_status ts_attn_open(ts_attn *, ts_ctx *, const ts_attn_options *);
void ts_attn_close(ts_attn *); /* a zeroed one is legal */
/* Before each block: the step from 1 of those that are run, the layer numbered through all experts
 * from 0, the slot. */
void ts_attn_begin(ts_attn *, int step, int layer, int slot);
/* What the evaluations of a slot run over. */
ts_sequence ts_attn_sequence(const ts_attn *, int slot);
/* q, k, v, out [T, A, D] (ld: token to token): a->grid's tokens in its order, then the slot's text;
 * scaled by 1 / sqrt(D). out is apart from the others. Waits for nothing. TS_ESHAPE: not the slot's
 * tokens. */
ts_status ts_attend(ts_attn *, ts_tensor q, ts_tensor k, ts_tensor v, ts_tensor out);
/* At the end of a step (or of an evaluation of all its samples), when the device has been waited
 * for: counts the step's calls, reads what its searches found and how long it all took. */
ts_status ts_attn_step_end(ts_attn *);
/* A plan for a slot from a choice among the blocks that its plans are about, bits [nv, ..] of the
 * host, the same for all heads (ts_pattern_tile); carved from the arena. */
ts_status ts_attn_plan(ts_attn *, int slot, const uint32_t *chosen, ts_plan *);
void ts_attn_fix(ts_attn *, int slot, int layer, ts_plan); /* this plan for a layer of a slot */
#endif
