/* What `bench --step` and `bench --kernel` come to, in sentences and as a page. The sentences are
 * pure functions of numbers. */
#ifndef TS_BENCH_SINGLE_H
#define TS_BENCH_SINGLE_H
#include "cli/bench/bench.h"

typedef struct { /* a policy: a run of all steps, from its single evaluations */
    const char *name;
    double seconds, cpu, attention, search; /* of the run; search is part of attention */
    double gain, ideal;                     /* over dense, and by Amdahl's law; 0: not known */
    bool doubtful;                          /* the gain is void */
} ts_step_sum;
/* Sentences without a full stop: what no policy can exceed, then each by what it saves, most first
 * and at most TS_VERDICT_LINES - 2 of them; by arithmetic where one gain is void. [0] is dense.
 * Returns how many; 0: there is nothing beside dense. */
int ts_step_verdict(const ts_step_sum *, int n, int steps,
                    char line[TS_VERDICT_LINES][TS_VERDICT_TEXT]);
typedef struct {
    ts_kernel_row r;
    int doubts; /* ts_doubts of what it is compared with */
} ts_kernel_result;
/* Of each number of tokens, in order, how fast plans are and what their searches cost; rows in
 * doubt are left out, and of a number of tokens whose dense row is, all. Returns how many. */
int ts_kernel_verdict(const ts_kernel_result *, int n,
                      char line[TS_VERDICT_LINES][TS_VERDICT_TEXT]);
/* To --html, if given: one self-contained page. why: gains are void, "": they are not. TS_EIO. */
ts_status ts_step_html(ts_cli *, const ts_request *, const ts_bench_machine *, const ts_step_sum *,
                       int n, const char *why, long tokens, int turns, bool complete);
ts_status ts_kernel_html(ts_cli *, const ts_kernel_bench *, const ts_bench_machine *,
                         const ts_kernel_result *, int n, bool complete);
/* The sentences on stdout, with why they are by arithmetic ("": they are not). */
void ts_bench_print_lines(const char *why, char line[][TS_VERDICT_TEXT], int n);
void ts_bench_add_lines(cJSON *, char line[][TS_VERDICT_TEXT], int n); /* `verdict` */
#endif
