/* Limits of this process. `root` stands before /proc and /sys ("" in earnest, a folder of fakes in
 * tests). */
#ifndef TS_LIMITS_H
#define TS_LIMITS_H
#include "backend/ctx.h"
size_t ts_limit_memory(const char *root, size_t machine); /* bytes */
double ts_limit_cpus(const char *root, double machine);   /* CPUs' worth of time */
/* bytes of the last cache, for each CPU that shares it; 2 MiB where the machine does not say */
size_t ts_limit_cache(const char *root);
int ts_cpu_threads(void); /* at least 1 */
#endif
