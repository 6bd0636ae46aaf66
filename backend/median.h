/* The median of measurements: the middle one, or the mean of the two in the middle. */
#ifndef TS_MEDIAN_H
#define TS_MEDIAN_H
#include <stdlib.h>

static inline int ts_median_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Puts x[n] in ascending order on the way; 0 of none. */
static inline double ts_median(double *x, int n)
{
    if (n < 1) return 0;
    qsort(x, (size_t)n, sizeof *x, ts_median_order);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}
#endif
