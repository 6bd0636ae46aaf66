/* What a measured gain is worth: figures that can not be true, or that say less than chance does,
 * are void, and in words why. A pure function of numbers. */
#ifndef TS_BENCH_DOUBT_H
#define TS_BENCH_DOUBT_H

typedef struct {
    double gain; /* measured, over what it is compared with; 0: nothing is compared */
    double most; /* what arithmetic allows of it; 0: not known */
    /* seconds: between this and what it is compared with; of the slower and faster turns of
     * whichever of both lay further apart, 0: there was one turn */
    double difference, apart;
    /* share of the time of the processors that other programs and machines took meanwhile;
     * negative: not known, then the load average of a minute, negative: not known either */
    double taken, load;
    int cores; /* that the process may use */
} ts_measured;

/* BUSY: more than a tenth of the processors' time was taken, or the load is above the cores.
 * IMPOSSIBLE: the gain is more than arithmetic allows by more than a fiftieth, which clocks and
 * caches may make. APART: turns lie further apart than what they are to tell from each other. */
enum { TS_DOUBT_BUSY = 1, TS_DOUBT_IMPOSSIBLE = 2, TS_DOUBT_APART = 4 };
int ts_doubts(const ts_measured *); /* 0: it stands */

enum { TS_DOUBT_TEXT = 256 };
/* The doubts of the set as parts of a sentence between semicolons; none: "". Returns out. */
const char *ts_doubt_text(const ts_measured *, int doubts, char out[TS_DOUBT_TEXT]);
#endif
