/* Clocks that only go forward, in seconds: since some moment, of CLOCK_MONOTONIC; that all threads
 * of the process have computed. */
#ifndef TS_CLOCK_H
#define TS_CLOCK_H
#include <time.h>

static inline double ts_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline double ts_process_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif
