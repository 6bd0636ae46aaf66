/* What a run's self-attention did, in numbers. */
#ifndef TS_COUNTERS_H
#define TS_COUNTERS_H
typedef struct { /* of one run; counted on a counting device too, without times and recall */
    /* calls: dense; dense with a search in it; sparse after a new search; sparse with the plan that
     * was there */
    long dense, searched, again, sparse;
    /* seconds in them; 0 where times are not taken (ts_attn_options.timed) */
    double dense_s, searched_s, again_s, sparse_s;
    double search_s; /* of all but dense_s: block sums, means, top-k */
    /* Sums over sparse calls: of the share of blocks kept, of those that plans are about, and of
     * the share read of all, text included. */
    double kept, read;
    double tried; /* sum over searches of what sparse calls for their residuals read of all */
    /* sum and least over searches of the mean recall of a plan's heads, when it was made */
    double recall, recall_least;
    long recalls;
    /* Of plans by mass, over heads of all searches: how many, and of the share of blocks of each
     * the sum, the sum of squares, the least and the most. */
    long heads;
    double head_sum, head_squares, head_least, head_most;
    /* Of recycled: comparisons of queries with those of a search, sum and least of their mean
     * cosines, and how often one found otherwise than the one before it. */
    long compared, turned;
    double alike, alike_least;
    /* heads by what searches that compare by error gave them: ts_ranking, ts_rest_form */
    long ranked[8], formed[3];
} ts_attn_counters;

long ts_attn_calls(const ts_attn_counters *);
double ts_attn_seconds(const ts_attn_counters *); /* in all calls */
/* By arithmetic, in dense calls: a search in a dense call costs next to nothing, a later one reads
 * no values: half a call; sparse calls what they read. */
double ts_attn_work(const ts_attn_counters *);
/* Full attention's time over this run's, of attention alone: by arithmetic from the shares read,
 * and by the times measured (0: no dense call to compare with). */
double ts_attn_gain(const ts_attn_counters *, double *measured);
#endif
