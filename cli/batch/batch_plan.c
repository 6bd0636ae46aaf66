/* What --dry-run prints: which rows there are, what is to be done of them and how long it may take;
 * a table for people, or JSON. */
#include "cli/batch/batch.h"
#include "cli/render.h"

#include "backend/utf8.h"

#include <cjson/cJSON.h>

#include <stdlib.h>
#include <string.h>

/* Rows that are done know best; 0: not known. */
static double planned_seconds(const ts_batch *b, const ts_job *j, double pace)
{
    const ts_geometry *g = b->geometry + j->geometry;
    return pace > 0 ? pace * g->cost : ts_forecast_seconds(&g->forecast);
}

static bool is_unusable(const ts_job *j)
{
    return j->state == TS_JOB_FAULTY || j->state == TS_JOB_FAILED;
}

static const char *plan_word(const ts_job *j)
{
    switch (j->state) {
    case TS_JOB_HAD: return "had";
    case TS_JOB_GAVE_UP: return "gave up";
    case TS_JOB_FAULTY:
    case TS_JOB_FAILED: return "faulty";
    default: return "to do";
    }
}

static void print_plan_table(const ts_batch *b, double pace)
{
    double all = 0;
    int todo = 0;
    char about[24];
    printf("%-9s %12s %6s %5s %20s %10s  %s\n", "state", "size", "frames", "steps", "seed", "about",
           "output");
    for (int i = 0; i < b->jobs; i++) {
        const ts_job *j = b->job + i;
        char size[32] = "-", time[TS_DURATION_TEXT] = "-";
        if (j->state == TS_JOB_ELSEWHERE) continue;
        if (is_unusable(j)) {
            printf("%-9s %s:%d: %s\n", plan_word(j), j->file, j->row->line,
                   j->error ? j->error : "");
            continue;
        }
        const ts_estimate *e = &b->geometry[j->geometry].e;
        double seconds = planned_seconds(b, j, pace);
        snprintf(size, sizeof size, "%dx%d", e->width, e->height);
        if (j->state == TS_JOB_TODO) ts_duration_text(seconds, time);
        printf("%-9s %12s %6d %5d %20llu %10s  %s/%s\n", plan_word(j), size, e->frames, j->q.steps,
               (unsigned long long)j->q.seed, time, b->out, j->name);
        if (j->state != TS_JOB_TODO) continue;
        todo++;
        all += seconds;
    }
    printf("%d row%s to render, about %s\n", todo, todo == 1 ? "" : "s", ts_clock_text(all, about));
}

static void add_seconds(cJSON *j, const char *key, double seconds)
{
    cJSON_AddItemToObject(j, key,
                          seconds > 0 ? cJSON_CreateNumber((double)(long)(seconds * 1000) / 1000)
                                      : cJSON_CreateNull());
}

static cJSON *describe_row(const ts_batch *b, const ts_job *j, double pace)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "state", plan_word(j));
    cJSON_AddStringToObject(o, "file", j->file);
    cJSON_AddNumberToObject(o, "line", j->row->line);
    cJSON_AddNumberToObject(o, "index", j->row->index);
    if (j->error) cJSON_AddStringToObject(o, "error", j->error);
    if (is_unusable(j)) return o;
    const ts_estimate *e = &b->geometry[j->geometry].e;
    long w = e->width, h = e->height;
    char *path = ts_batch_path(b, j->name), seed[24];
    ts_written_size(j->name, j->crf, j->q.scale, &w, &h);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)j->q.seed);
    cJSON_AddStringToObject(o, "output", j->name);
    if (path) cJSON_AddStringToObject(o, "path", path);
    cJSON_AddStringToObject(o, "prompt", j->q.prompt);
    cJSON_AddRawToObject(o, "seed", seed); /* all 64 bits */
    cJSON_AddNumberToObject(o, "width", e->width);
    cJSON_AddNumberToObject(o, "height", e->height);
    cJSON_AddNumberToObject(o, "written_width", (double)w);
    cJSON_AddNumberToObject(o, "written_height", (double)h);
    cJSON_AddNumberToObject(o, "frames", e->frames);
    cJSON_AddNumberToObject(o, "steps", j->q.steps);
    if (j->state == TS_JOB_TODO) add_seconds(o, "seconds", planned_seconds(b, j, pace));
    free(path);
    return o;
}

static void print_plan_json(const ts_batch *b, double pace)
{
    cJSON *o = cJSON_CreateObject(), *rows = cJSON_AddArrayToObject(o, "rows");
    double all = 0;
    int todo = 0;
    for (int i = 0; i < b->jobs; i++) {
        const ts_job *j = b->job + i;
        if (j->state == TS_JOB_ELSEWHERE) continue;
        cJSON_AddItemToArray(rows, describe_row(b, j, pace));
        if (j->state != TS_JOB_TODO) continue;
        todo++;
        all += planned_seconds(b, j, pace);
    }
    cJSON_AddNumberToObject(o, "todo", todo);
    add_seconds(o, "seconds", all);
    char *text = ts_utf8_repair_own(cJSON_PrintUnformatted(o));
    if (text) puts(text);
    free(text);
    cJSON_Delete(o);
}

void ts_batch_print_plan(const ts_batch *b, bool json)
{
    double pace = ts_manifest_pace(b);
    if (json)
        print_plan_json(b, pace);
    else
        print_plan_table(b, pace);
}
