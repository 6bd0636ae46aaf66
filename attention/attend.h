/* The one call that a transformer block makes for self-attention: carries out the policy
 * (policy.h), owns plans and kept LSEs, and keeps account of what was done. */
#ifndef TS_ATTEND_H
#define TS_ATTEND_H
#include "attention/policy.h"
#include "weights/bag.h"

typedef struct { /* of one run; counted on a counting device too, without times */
    /* calls: dense; dense with a search in it; sparse after a new search; sparse with the plan that
     * was there */
    long dense, searched, again, sparse;
    double dense_s, searched_s, again_s, sparse_s; /* seconds in them */
    double search_s; /* of all but dense_s: block sums, means, top-k */
    double share;    /* sum over sparse calls of the share of blocks read */
    /* sum and least over searches of the mean recall of a plan's heads, when it was made */
    double recall, recall_least;
    long recalls;
} ts_attn_account;

typedef struct {
    ts_policy policy;             /* settled */
    ts_grid grid;                 /* of ts_grid_of */
    int layers, heads, slots;     /* layers through all experts; slots: guidance branches */
    const char *const *slot_name; /* [slots] "cond", "uncond": names in plan files; borrowed */
    bool keep_plans, keep_scores; /* for ts_attn_plans */
} ts_attn_options;

typedef struct ts_attn_state ts_attn_state;
typedef struct {
    ts_ctx *ctx;
    ts_attn_options o;
    ts_grid grid;   /* with the order of the policy */
    int step, slot; /* of the evaluation in progress: step from 1 */
    ts_attn_account account;
    char why[256];        /* density that no key asked for, and why; "": none */
    ts_attn_state *state; /* [slots, layers]; NULL: everything is dense */
    ts_bag *plans;        /* what ts_attn_plans hands out */
    /* Looks at every call before it is carried out and writes to none of its tensors; NULL: nobody
     * does. For the life of the open attention: set it after ts_attn_open. */
    ts_status (*observe)(void *observer, int layer, const ts_attention *);
    void *observer;
} ts_attn;

/* Opens a run's attention: checks that the policy fits the run, carves from ctx->arena what lives
 * as long as it. Call it again for another run or arena. In counting mode it warns of what will be
 * dense. TS_EMODEL, TS_ESHAPE: a plan file that does not fit; TS_EFAIL: `strict` and something must
 * be dense. */
ts_status ts_attn_open(ts_attn *, ts_ctx *, const ts_attn_options *);
void ts_attn_close(ts_attn *); /* a zeroed one is legal */
void ts_attn_begin(ts_attn *, int step, int slot);
/* q, k, v, out [N, A, D] (ld: token to token) in the order of a->grid, scaled by 1 / sqrt(D); layer
 * numbered through all experts from 0. out may be q. TS_ESHAPE: not the grid's tokens. */
ts_status ts_attend(ts_attn *, int layer, ts_tensor q, ts_tensor k, ts_tensor v, ts_tensor out);
void ts_attn_fix(ts_attn *, int layer, ts_plan); /* this plan for a layer in all branches */
/* After the last step, while the arena is there: downloads the plans in force (keep_plans).
 * TS_EFAIL: `strict`, and nothing was sparse. */
ts_status ts_attn_finish(ts_attn *);
/* Plans (and scores) under the names of docs/formats.md, with their metadata but for the model;
 * closed with the rest. NULL: none were kept. */
static inline ts_bag *ts_attn_plans(const ts_attn *a) { return a->plans; }
/* Plans and LSEs of a run that is interrupted, into its state file and back. */
ts_status ts_attn_save(ts_attn *, ts_bag *);
ts_status ts_attn_load(ts_attn *, const ts_bag *);
/* What was done, for people: several lines; malloc'd. NULL: dense was asked for, or nothing was
 * done. */
char *ts_attn_report(const ts_attn *);
double ts_attn_seconds(const ts_attn_account *); /* in all calls */
/* by arithmetic, in dense calls: a search in a dense call costs next to nothing, a later one reads
 * no values: half a call; sparse calls what they read */
double ts_attn_work(const ts_attn_account *);
/* Full attention's time over this run's, of attention alone: by arithmetic from the shares read,
 * and by the clock (0: no dense call to compare with). */
double ts_attn_gain(const ts_attn_account *, double *measured);
#endif
