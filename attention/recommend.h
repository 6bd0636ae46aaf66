/* What `--attention auto` stands for: the cheapest policy that came near enough to full attention
 * where this was measured on a grid and with a number of steps like the run's. */
#ifndef TS_RECOMMEND_H
#define TS_RECOMMEND_H
#include "attention/policy.h"

typedef struct {
    const char *policy; /* as in the table; NULL: dense */
    double psnr;        /* dB that were measured of it; 0: dense */
    int F, H, W, steps; /* tokens and steps it was measured on; F 0: too few tokens to gain */
    double asked;       /* dB that were asked for; 0: no recommendation was */
} ts_advice;

/* Puts the recommended policy, settled, in the place of one that is TS_AUTO; dense where tokens are
 * too few to gain and where nothing came near enough. */
void ts_policy_recommend(ts_policy *, const ts_grid *, int steps, ts_advice *);
/* One line for people; gain: how many times faster than dense the run is expected to be; at most 1:
 * not known. malloc'd; NULL: no memory. */
char *ts_advice_text(const ts_advice *, const ts_grid *, double gain);
#endif
