/* How many threads and how much memory this process may use: the machine's, or less by affinity and
 * cgroup (v1 and v2). */
#include "backend/cpu/limits.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH = 1024 };

static bool read_limit(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    if (!f) return false;
    size_t n = fread(text, 1, size - 1, f);
    fclose(f);
    text[n] = 0;
    return n > 0;
}

/* The group of this process below the mount of `controller` ("" for v2), from /proc/self/cgroup:
 * "ID:CONTROLLERS:PATH" a line. */
static bool cgroup_of(const char *root, const char *controller, char *out, size_t size)
{
    char path[PATH], text[8192], *save = NULL;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!read_limit(path, text, sizeof text)) return false;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        names++;
        bool match = !*controller && !*names;
        char *rest = NULL;
        for (char *n = strtok_r(names, ",", &rest); n && !match; n = strtok_r(NULL, ",", &rest))
            match = *controller && !strcmp(n, controller);
        if (match) {
            snprintf(out, size, "%s", group);
            return true;
        }
    }
    return false;
}

/* Calls see on what FOLDER/file holds, and after it FOLDER/second's where there is one, for the
 * group and every group above it, up to the mount. */
static void visit_groups(const char *root, const char *mount, const char *group, const char *file,
                         const char *second, void (*see)(const char *text, void *user), void *user)
{
    char at[PATH], path[2 * PATH], text[2048];
    snprintf(at, sizeof at, "%s", strcmp(group, "/") ? group : "");
    for (;;) {
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s/%s", root, mount, at, file);
        bool there = read_limit(path, text, sizeof text);
        if (there && second) {
            size_t n = strlen(text);
            snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s/%s", root, mount, at, second);
            there = read_limit(path, text + n, sizeof text - n);
        }
        if (there) see(text, user);
        char *slash = strrchr(at, '/');
        if (!slash) return;
        *slash = 0;
    }
}

static void least_bytes(const char *text, void *user)
{
    size_t *least = user;
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    if (end != text && n < *least) *least = (size_t)n;
}

/* "QUOTA PERIOD"; "max" or a negative quota: none */
static void least_cpus(const char *text, void *user)
{
    double *least = user, quota, period;
    if (sscanf(text, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0 &&
        quota / period < *least)
        *least = quota / period;
}

static void visit_memory(const char *root, const char *second,
                         void (*see)(const char *text, void *user), void *user)
{
    char group[PATH];
    if (cgroup_of(root, "", group, sizeof group))
        visit_groups(root, "", group, "memory.max", second, see, user);
    if (cgroup_of(root, "memory", group, sizeof group))
        visit_groups(root, "/memory", group, "memory.limit_in_bytes", second, see, user);
}

size_t ts_limit_memory(const char *root, size_t machine)
{
    size_t least = machine;
    visit_memory(root, NULL, least_bytes, &least);
    return least;
}

/* The number behind a word that begins a line; 0: there is none. */
static unsigned long long number_after(const char *text, const char *word)
{
    const char *at = strncmp(text, word, strlen(word)) ? strstr(text, word) : text;
    while (at && at > text && at[-1] != '\n') at = strstr(at + 1, word);
    return at ? strtoull(at + strlen(word), NULL, 10) : 0;
}

/* A limit, and behind it the first lines of memory.stat: "anon N" (v2), "total_rss N" (v1). */
static void least_unused(const char *text, void *user)
{
    size_t *least = user;
    char *end;
    unsigned long long most = strtoull(text, &end, 10), used = number_after(end, "anon ");
    if (end == text) return;
    if (!used) used = number_after(end, "total_rss ");
    if (used > most) used = most;
    if (most - used < *least) *least = (size_t)(most - used);
}

size_t ts_limit_available(const char *root, size_t machine)
{
    char path[PATH], text[4096];
    size_t least = machine;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (read_limit(path, text, sizeof text)) {
        unsigned long long kib = number_after(text, "MemAvailable:");
        if (kib && kib < machine / 1024) least = (size_t)kib * 1024;
    }
    visit_memory(root, "memory.stat", least_unused, &least);
    return least;
}

double ts_limit_cpus(const char *root, double machine)
{
    double least = machine;
    char group[PATH];
    if (cgroup_of(root, "", group, sizeof group))
        visit_groups(root, "", group, "cpu.max", NULL, least_cpus, &least);
    if (cgroup_of(root, "cpu", group, sizeof group))
        visit_groups(root, "/cpu", group, "cpu.cfs_quota_us", "cpu.cfs_period_us", least_cpus,
                     &least);
    return least;
}

/* CPUs of a list such as "0-3,8". */
static long count_list(const char *text)
{
    long n = 0, first, last;
    int used;
    for (;; text++) {
        if (sscanf(text, "%ld%n", &first, &used) != 1) return n;
        text += used;
        last = first;
        if (sscanf(text, "-%ld%n", &last, &used) == 1) text += used;
        n += last < first ? 0 : last - first + 1;
        if (*text != ',') return n;
    }
}

size_t ts_limit_cache(const char *root)
{
    size_t last = (size_t)2 << 20;
    long highest = 0;
    for (int i = 0;; i++) {
        static const char *const files[] = {"level", "size", "shared_cpu_list"};
        char path[PATH], text[3][4096];
        for (int k = 0; k < 3; k++) {
            snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu0/cache/index%d/%s", root, i,
                     files[k]);
            if (!read_limit(path, text[k], sizeof text[k])) return last;
        }
        long level = atol(text[0]), cpus = count_list(text[2]);
        unsigned long long size;
        char unit = 0;
        if (level < highest || cpus < 1 || sscanf(text[1], "%llu%c", &size, &unit) < 1) continue;
        highest = level;
        last = (size_t)(size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0)) / (size_t)cpus;
    }
}

static size_t machine_memory(void)
{
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

size_t ts_limit_all_memory(void) { return ts_limit_memory("", machine_memory()); }

size_t ts_limit_unused_memory(void) { return ts_limit_available("", machine_memory()); }

size_t ts_limit_resident(void)
{
    char text[256];
    unsigned long long pages;
    if (!read_limit("/proc/self/statm", text, sizeof text) || sscanf(text, "%*u %llu", &pages) != 1)
        return 0;
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

size_t ts_limit_address_room(void)
{
    struct rlimit limit;
    char text[256];
    if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
    if (!read_limit("/proc/self/statm", text, sizeof text)) return SIZE_MAX;
    size_t used = (size_t)strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE),
           most = (size_t)limit.rlim_cur;
    return used < most ? most - used : 0;
}

int ts_limit_threads(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN)
                                                   : CPU_COUNT(&set);
    double quota = ts_limit_cpus("", n);
    return quota < 1 ? 1 : (int)quota;
}
