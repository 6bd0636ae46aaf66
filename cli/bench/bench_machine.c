/* Where and when something was measured, and what else the machine did meanwhile: what a reader of
 * times asks first. */
#include "backend/clock.h"
#include "cli/bench/bench.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static double read_load(void)
{
    double minute;
    return getloadavg(&minute, 1) == 1 ? minute : -1;
}

/* Seconds since the start of the system of those processors that this process may use: at work for
 * anybody, steal time included, and in all. proc_stat: the text of /proc/stat; lines cpuN: user,
 * nice, system, idle, iowait, irq, softirq, steal in ticks. */
static void sum_processors(char *proc_stat, const cpu_set_t *ours, double *work, double *all)
{
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    *work = *all = 0;
    for (char *save, *line = strtok_r(proc_stat, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        int cpu;
        double t[8];
        if (sscanf(line, "cpu%d %lf %lf %lf %lf %lf %lf %lf %lf", &cpu, t, t + 1, t + 2, t + 3,
                   t + 4, t + 5, t + 6, t + 7) != 9 ||
            line[3] == ' ' || cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, ours))
            continue;
        for (int i = 0; i < 8; i++) {
            *all += t[i] * tick;
            *work += i == 3 || i == 4 ? 0 : t[i] * tick;
        }
    }
}

static void read_processors(double *work, double *all)
{
    enum { MOST = 1 << 18 };
    cpu_set_t ours;
    char *text = malloc(MOST);
    FILE *f = fopen("/proc/stat", "r");
    *work = *all = 0;
    if (f && text && sched_getaffinity(0, sizeof ours, &ours) == 0) {
        text[fread(text, 1, MOST - 1, f)] = 0;
        sum_processors(text, &ours, work, all);
    }
    if (f) fclose(f);
    free(text);
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
    m->own = ts_process_seconds();
    read_processors(&m->work, &m->all);
}

/* The clock of processors ticks a hundred times a second: a moment is too short to say anything. */
void ts_bench_look(ts_bench_machine *m)
{
    double work, all, moment = 0.1 * m->cores;
    read_processors(&work, &all);
    m->load[1] = read_load();
    m->taken = -1;
    if (all - m->all < moment) return;
    m->taken = (work - m->work - (ts_process_seconds() - m->own)) / (all - m->all);
    if (m->taken < 0) m->taken = 0;
}

ts_measured ts_bench_measured(const ts_bench_machine *m)
{
    return (ts_measured){
        .taken = m->taken,
        .load = m->load[0] > m->load[1] ? m->load[0] : m->load[1],
        .cores = m->cores,
    };
}

void ts_bench_add_machine(cJSON *j, const ts_bench_machine *m)
{
    char why[TS_DOUBT_TEXT];
    const ts_measured busy = ts_bench_measured(m);
    cJSON_AddStringToObject(j, "date", m->date);
    cJSON_AddStringToObject(j, "cpu", m->cpu);
    cJSON_AddNumberToObject(j, "cores", m->cores);
    cJSON *a = cJSON_AddArrayToObject(j, "load");
    for (int i = 0; i < 2; i++)
        cJSON_AddItemToArray(a,
                             m->load[i] < 0 ? cJSON_CreateNull() : cJSON_CreateNumber(m->load[i]));
    ts_bench_number(j, "taken", m->taken < 0 ? NAN : m->taken);
    ts_bench_add_void(j, ts_doubt_text(&busy, ts_doubts(&busy), why));
}

void ts_bench_add_void(cJSON *j, const char *why)
{
    cJSON_AddItemToObject(j, "void", *why ? cJSON_CreateString(why) : cJSON_CreateNull());
}

void ts_bench_print_busy(const ts_bench_machine *m)
{
    char why[TS_DOUBT_TEXT];
    const ts_measured machine = ts_bench_measured(m);
    if (ts_doubts(&machine))
        printf("void: %s: what is compared here says nothing\n",
               ts_doubt_text(&machine, ts_doubts(&machine), why));
}

void ts_bench_print_machine(const ts_bench_machine *m)
{
    printf("%s%s%d core%s", m->cpu, *m->cpu ? ", " : "", m->cores, m->cores == 1 ? "" : "s");
    if (m->load[0] >= 0)
        printf("; load of the machine %.1f before, %.1f after", m->load[0], m->load[1]);
    if (m->taken >= 0) printf("; others took %.0f%% of its time", 100 * m->taken);
    putchar('\n');
}
