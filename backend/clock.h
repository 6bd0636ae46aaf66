/* A clock that only goes forward: seconds since some moment, of CLOCK_MONOTONIC. */
#ifndef TS_CLOCK_H
#define TS_CLOCK_H
#include <time.h>

static inline double ts_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif
