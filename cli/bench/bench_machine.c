/* Where and when something was measured: what a reader of times asks first. */
#include "cli/bench/bench.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double read_load(void)
{
    double minute;
    return getloadavg(&minute, 1) == 1 ? minute : -1;
}

/* "model name : ..." of /proc/cpuinfo; machines that have no such line go without a name. */
static void name_cpu(char *out, size_t size)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    *out = 0;
    while (f && !*out && fgets(line, sizeof line, f)) {
        const char *value = strncmp(line, "model name", 10) ? NULL : strchr(line, ':');
        if (value) snprintf(out, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
    }
    if (f) fclose(f);
}

void ts_bench_begin(ts_bench_machine *m)
{
    cpu_set_t set;
    time_t t = time(NULL);
    struct tm utc;
    name_cpu(m->cpu, sizeof m->cpu);
    strftime(m->date, sizeof m->date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &utc));
    m->cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    m->load[0] = read_load();
}

void ts_bench_end(ts_bench_machine *m) { m->load[1] = read_load(); }

void ts_bench_add_machine(cJSON *j, const ts_bench_machine *m)
{
    cJSON_AddStringToObject(j, "date", m->date);
    cJSON_AddStringToObject(j, "cpu", m->cpu);
    cJSON_AddNumberToObject(j, "cores", m->cores);
    cJSON *a = cJSON_AddArrayToObject(j, "load");
    for (int i = 0; i < 2; i++)
        cJSON_AddItemToArray(a,
                             m->load[i] < 0 ? cJSON_CreateNull() : cJSON_CreateNumber(m->load[i]));
}

void ts_bench_print_machine(const ts_bench_machine *m)
{
    printf("%s%s%d core%s", m->cpu, *m->cpu ? ", " : "", m->cores, m->cores == 1 ? "" : "s");
    if (m->load[0] >= 0)
        printf("; load of the machine %.1f before, %.1f after", m->load[0], m->load[1]);
    putchar('\n');
}
