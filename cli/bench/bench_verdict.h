/* What a bench of clips comes to, in sentences: which policies are worth their likeness, and which
 * are beaten, by which. A pure function of numbers. */
#ifndef TS_BENCH_VERDICT_H
#define TS_BENCH_VERDICT_H
#include <stdbool.h>

typedef struct { /* a policy against dense */
    const char *name;
    double saved; /* share of dense seconds that it saves; negative: it costs more */
    double psnr;  /* dB; infinite: the same frames; NaN: not compared */
} ts_candidate;

enum { TS_VERDICT_LINES = 12, TS_VERDICT_TEXT = 512 };
/* Sentences without a full stop. At most six, of those that nothing beats: the most saved first;
 * then of those that another beats, which saves as much (within 2%) and is nearer, or is as near
 * (within 1 dB) and saves more; of more than fit how many there are. Returns how many. */
int ts_verdict(const ts_candidate *, int n, char line[TS_VERDICT_LINES][TS_VERDICT_TEXT]);
/* Is it compared, and beaten by none? Those that are make the frontier. */
bool ts_verdict_stands(const ts_candidate *, int n, int i);
/* Two sentences: of those as near as 40, 30 and 20 dB the fastest, and of those that save 10, 25
 * and 50% the nearest. Returns how many; 0: fewer than two were compared. */
enum { TS_VERDICT_LEVELS = 2 };
int ts_verdict_levels(const ts_candidate *, int n, char line[TS_VERDICT_LEVELS][TS_VERDICT_TEXT]);
#endif
