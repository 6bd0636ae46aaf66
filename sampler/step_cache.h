/* Step caching: steps whose velocity is foretold well enough by the last one that was computed are
 * not evaluated. In the manner of EasyCache (arXiv 2507.02860): how much the velocity changes for a
 * change of the latents is measured between the last two computed steps; a step is reused while the
 * change that this foretells stays below a threshold. Internal to sampler/. */
#ifndef TS_STEP_CACHE_H
#define TS_STEP_CACHE_H
#include "backend/ctx.h"

typedef struct { /* what --cache-steps asks for */
    bool on;
    double threshold; /* of the relative change of the velocity, more than 0 */
    int first, last;  /* steps at the beginning and at the end that are computed in any case */
} ts_cache_wish;
/* "none", "easycache[:threshold=X,first=N,last=N]". TS_EUSAGE: which name, key or value, and what
 * it may be. */
ts_status ts_cache_parse(ts_err *, const char *text, ts_cache_wish *);
char *ts_cache_text(const ts_cache_wish *); /* with every key; malloc'd */

enum { TS_CACHE_BRANCHES = 2, TS_CACHE_TENSORS = 1 + TS_CACHE_BRANCHES };
typedef struct {
    ts_cache_wish wish;
    int branches;
    /* Of the last computed step: latents [rows, C]; what each branch gave, [rows, its channels],
     * which begin with the C of the latents. */
    ts_tensor x, v[TS_CACHE_BRANCHES];
    ts_tensor zero, sums; /* like x; f32 [4] */
    int known;            /* branches that v holds; 0: nothing was computed yet */
    int expert;           /* that computed it */
    double rate;          /* |change of v| / |change of x|; 0: not measured yet */
    double size;          /* |v| of the last computed step */
    long computed, reused;
} ts_step_cache;

/* Room in the arena for a run with latents like x and branches like v [branches]. */
ts_status ts_step_cache_open(ts_step_cache *, ts_ctx *, const ts_cache_wish *, ts_tensor x,
                             const ts_tensor *v, int branches);
/* Is the step with these latents foretold well enough? `branches` that it needs; joins. */
ts_status ts_step_cache_ask(ts_step_cache *, ts_ctx *, ts_tensor x, int branches, int expert,
                            bool *reuse);
/* v of the step from what is kept. */
ts_status ts_step_cache_reuse(ts_step_cache *, ts_ctx *, const ts_tensor *v);
/* The step was computed. Joins. */
ts_status ts_step_cache_keep(ts_step_cache *, ts_ctx *, ts_tensor x, const ts_tensor *v,
                             int branches, int expert);

/* For state files: tensors by name, and the numbers beside them as a text, of any locale. */
int ts_step_cache_parts(const ts_step_cache *, const char *name[TS_CACHE_TENSORS],
                        ts_tensor t[TS_CACHE_TENSORS]);
enum { TS_CACHE_TEXT = 160 };
void ts_step_cache_say(const ts_step_cache *, char text[TS_CACHE_TEXT]);
bool ts_step_cache_heed(ts_step_cache *, const char *text); /* false: not such a text */
char *ts_step_cache_report(const ts_step_cache *); /* for people; malloc'd; NULL: it is off */
#endif
