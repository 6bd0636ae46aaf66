/* Limits of this process. `root` stands before /proc and /sys ("" in earnest, a folder of fakes in
 * tests). */
#ifndef TS_LIMITS_H
#define TS_LIMITS_H
#include "backend/ctx.h"
size_t ts_limit_memory(const char *root, size_t machine); /* bytes */
/* Of these, what is not in use: what the kernel calls available, or less by a cgroup, in which what
 * is cached from files counts as free. */
size_t ts_limit_available(const char *root, size_t machine);
double ts_limit_cpus(const char *root, double machine); /* CPUs' worth of time */
/* bytes of the last cache, for each CPU that shares it; 2 MiB where the machine does not say */
size_t ts_limit_cache(const char *root);
/* of this process as it is: bytes that it may use, the machine's or less by its cgroup; CPUs, at
 * least 1 */
size_t ts_limit_all_memory(void);
size_t ts_limit_unused_memory(void); /* of these, what is not in use */
int ts_limit_threads(void);
size_t ts_limit_resident(void); /* bytes of memory that this process is using; 0: not known */
/* bytes of address space that are left to this process (ulimit -v); SIZE_MAX: it has no limit */
size_t ts_limit_address_room(void);
#endif
