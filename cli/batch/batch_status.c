/* --status: what the manifests of a folder say of all who worked on it, and of who works now. */
#include "cli/batch/batch_manifest.h"

#include "backend/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    char share[256], host[256], started[40], last[40];
    double pid, rows, faulty,
        seconds;            /* rows, faulty: of its last run; seconds: of all rows done */
    char *hashes;           /* of the rows of its last run; NULL: not written down */
    char *command, *folder; /* of its last run, and where it was given; NULL: not known */
    char end[16];           /* how its last run ended; "": it did not say so */
    bool ends;              /* it would have */
    int done, failed;
    bool locked;
    cJSON *now; /* what it is at; NULL: not known */
} manifest;
typedef struct {
    char *output, *error, *file, hash[TS_ID + 1];
    int owner, order, line;
    char at[40];
    bool done;
} outcome;
typedef struct {
    const char *out;
    manifest *a;
    int manifests;
    outcome *o;
    int outcomes, room;
    char *asked; /* hashes of all rows that are asked for now, in order; NULL: not known */
    size_t rows_asked;
} survey;

static manifest *manifest_of(survey *s, const char *share, const char *path)
{
    for (int i = 0; i < s->manifests; i++)
        if (!strcmp(s->a[i].share, share)) return s->a + i;
    manifest *more = realloc(s->a, sizeof *more * (size_t)(s->manifests + 1));
    if (!more) return NULL;
    s->a = more;
    manifest *a = s->a + s->manifests++;
    *a = (manifest){.locked = ts_manifest_locked(path)};
    if (a->locked) a->now = ts_batch_now(s->out, share);
    snprintf(a->share, sizeof a->share, "%s", share);
    return a;
}

static void keep_run_text(char **to, const cJSON *j, const char *key)
{
    free(*to);
    *to = cJSON_HasObjectItem(j, key) ? strdup(ts_record_text(j, key)) : NULL;
}

static const char *state_of(const manifest *a)
{
    if (a->locked) return "at work";
    if (*a->end) return strcmp(a->end, "stopped") ? "ended" : "stopped";
    return a->ends ? "killed" : "ended";
}

static void survey_line(void *user, const char *share, const char *path, const cJSON *j)
{
    survey *s = user;
    manifest *a = manifest_of(s, share, path);
    const char *status = ts_record_text(j, "status"), *at = ts_record_text(j, "at");
    if (!a) return;
    snprintf(a->last, sizeof a->last, "%s", at);
    if (cJSON_GetObjectItemCaseSensitive(j, "run")) {
        snprintf(a->host, sizeof a->host, "%s", ts_record_text(j, "host"));
        snprintf(a->started, sizeof a->started, "%s", at);
        a->pid = ts_record_number(j, "pid");
        a->rows = ts_record_number(j, "rows");
        a->faulty = ts_record_number(j, "faulty");
        free(a->hashes);
        a->hashes = cJSON_HasObjectItem(j, "hashes") ? strdup(ts_record_text(j, "hashes")) : NULL;
        keep_run_text(&a->command, j, "command");
        keep_run_text(&a->folder, j, "folder");
        a->ends = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "ends"));
        *a->end = 0;
        return;
    }
    snprintf(a->end, sizeof a->end, "%s", ts_record_text(j, "end"));
    if (strcmp(status, "done") && strcmp(status, "failed")) return;
    if (s->outcomes == s->room) {
        int room = s->room ? 2 * s->room : 256;
        outcome *more = realloc(s->o, sizeof *more * (size_t)room);
        if (!more) return;
        s->o = more;
        s->room = room;
    }
    outcome *o = s->o + s->outcomes++;
    *o = (outcome){.output = strdup(ts_record_text(j, "output")),
                   .error = strdup(ts_record_text(j, "error")),
                   .file = strdup(ts_record_text(j, "file")),
                   .line = (int)ts_record_number(j, "line"),
                   .owner = (int)(a - s->a),
                   .order = s->outcomes,
                   .done = !strcmp(status, "done")};
    snprintf(o->at, sizeof o->at, "%s", at);
    snprintf(o->hash, sizeof o->hash, "%s", ts_record_text(j, "hash"));
    a->seconds += ts_record_number(j, "seconds");
}

static int order_by_output(const void *a, const void *b)
{
    const outcome *x = a, *y = b;
    int d = strcmp(x->output, y->output);
    if (!d) d = strcmp(x->at, y->at);
    return d ? d : x->order - y->order;
}

/* Calls for each manifest of the division that was begun last: of its shares, or the one of a batch
 * without shares, or of a worker of a queue, who knows all rows. missing: shares that have not
 * begun. */
static int current_manifests(survey *s, manifest **list, int *missing)
{
    manifest *last = s->a;
    int n, m, count = 0;
    *missing = 0;
    for (int k = 1; k < s->manifests; k++)
        if (strcmp(s->a[k].started, last->started) > 0) last = s->a + k;
    if (!ts_label_shares(last->share, &n)) return list[0] = last, 1;
    for (int k = 0; k < s->manifests; k++)
        if (ts_label_shares(s->a[k].share, &m) && m == n) list[count++] = s->a + k;
    *missing = n - count;
    return count;
}

static int order_asked(const void *a, const void *b) { return memcmp(a, b, TS_ID); }

static void collect_asked(survey *s, manifest *const *list, int n)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        if (!list[i]->hashes) return; /* of an earlier version */
        bytes += strlen(list[i]->hashes);
    }
    s->asked = calloc(bytes + 1, 1);
    for (int i = 0; s->asked && i < n; i++) strcat(s->asked, list[i]->hashes);
    s->rows_asked = bytes / TS_ID;
    if (s->asked && bytes) qsort(s->asked, s->rows_asked, TS_ID, order_asked);
}

/* Whether it is of a row that the files have now: another version of a row does not count. */
static bool is_asked(const survey *s, const outcome *o)
{
    if (!s->asked) return true;
    return strlen(o->hash) == TS_ID && s->rows_asked &&
           bsearch(o->hash, s->asked, s->rows_asked, TS_ID, order_asked);
}

static bool output_is_there(const survey *s, const outcome *o)
{
    struct stat info;
    char *path = NULL;
    bool there = asprintf(&path, "%s/%s", s->out, o->output) >= 0 && lstat(path, &info) == 0;
    free(path);
    return there;
}

/* The last word on its output. */
static bool is_last(const survey *s, int i)
{
    return i + 1 == s->outcomes || strcmp(s->o[i].output, s->o[i + 1].output) != 0;
}

typedef struct {
    int done, failed, gone, others, working, missing;
    double rows, faulty, seconds;
} status_sum;

static void count_outcomes(survey *s, status_sum *sum)
{
    manifest **list = calloc((size_t)s->manifests, sizeof(manifest *));
    int n = list ? current_manifests(s, list, &sum->missing) : 0;
    collect_asked(s, list, n);
    for (int i = 0; i < n; i++) {
        sum->rows += list[i]->rows;
        sum->faulty += list[i]->faulty;
    }
    free(list);
    for (int i = 0; i < s->manifests; i++) {
        sum->working += s->a[i].locked;
        sum->seconds += s->a[i].seconds;
    }
    if (s->outcomes) qsort(s->o, (size_t)s->outcomes, sizeof *s->o, order_by_output);
    for (int i = 0; i < s->outcomes; i++) {
        outcome *o = s->o + i;
        if (!is_last(s, i)) continue;
        if (!is_asked(s, o)) {
            sum->others += o->done && output_is_there(s, o);
        } else if (!o->done) {
            s->a[o->owner].failed++;
            sum->failed++;
        } else if (output_is_there(s, o)) {
            s->a[o->owner].done++;
            sum->done++;
        } else {
            sum->gone++;
        }
    }
}

static double rows_left(const status_sum *sum)
{
    double left = sum->rows - sum->done - sum->failed;
    return left > 0 ? left : 0;
}

/* Seconds, by the pace so far; negative: not known. */
static double time_left(const survey *s, const status_sum *sum)
{
    double left = rows_left(sum);
    return sum->working && left > 0 && s->outcomes
               ? sum->seconds / s->outcomes * left / sum->working
               : -1;
}

/* The run that was begun last: its command is the one to give again. */
static const manifest *newest_run(const survey *s)
{
    const manifest *last = s->a;
    for (int k = 1; k < s->manifests; k++)
        if (strcmp(s->a[k].started, last->started) > 0) last = s->a + k;
    return last;
}

static const char *retry_of(const manifest *a)
{
    return a->command && strstr(a->command, " --retry") ? "" : " --retry";
}

static void print_share(const manifest *a)
{
    char process[300], left[24];
    snprintf(process, sizeof process, "%s:%.0f", a->host, a->pid);
    printf("%-24s %-24s %-8s %6.0f %6d %6d  %s\n", a->share, process, state_of(a), a->rows, a->done,
           a->failed, a->last);
    if (!a->now) return;
    const char *phase = ts_record_text(a->now, "phase");
    printf("  at %s: %s %.0f of %.0f", ts_record_text(a->now, "output"),
           !strcmp(phase, "denoise")  ? "step"
           : !strcmp(phase, "decode") ? "frame"
                                      : "prompt",
           ts_record_number(a->now, "step"), ts_record_number(a->now, "steps"));
    if (cJSON_HasObjectItem(a->now, "eta"))
        printf(", %s left of this row", ts_clock_text(ts_record_number(a->now, "eta"), left));
    putchar('\n');
}

static void print_survey(const survey *s, const status_sum *sum)
{
    double left = time_left(s, sum);
    char about[24];
    printf("%-24s %-24s %-8s %6s %6s %6s  %s\n", "share", "process", "state", "rows", "done",
           "failed", "last heard of");
    for (int i = 0; i < s->manifests; i++) print_share(s->a + i);
    printf("%d of %.0f rows done, %d failed, ", sum->done, sum->rows + sum->faulty, sum->failed);
    if (sum->faulty > 0) printf("%.0f can not be used, ", sum->faulty);
    printf("%.0f left", rows_left(sum));
    if (left >= 0) printf(", about %s", ts_clock_text(left, about));
    putchar('\n');
    if (sum->missing > 0)
        printf("%d share%s not begun\n", sum->missing, sum->missing == 1 ? " has" : "s have");
    if (sum->gone)
        printf("%d output%s finished and gone: the next run renders %s again\n", sum->gone,
               sum->gone == 1 ? " was" : "s were", sum->gone == 1 ? "it" : "them");
    if (sum->others)
        printf("%d output%s of rows that are no longer asked for\n", sum->others,
               sum->others == 1 ? " is" : "s are");
    for (int i = 0; i < s->outcomes; i++) {
        const outcome *o = s->o + i;
        if (!is_last(s, i)) continue;
        if (!is_asked(s, o) && o->done && output_is_there(s, o))
            printf("no longer asked for: %s\n", o->output);
        if (is_asked(s, o) && !o->done)
            printf("failed: %s: %s (%s:%d)\n", o->output, o->error, o->file, o->line);
    }
    const manifest *last = newest_run(s);
    if (sum->failed && last->command)
        printf("again: %s%s (in %s)\n", last->command, retry_of(last),
               last->folder ? last->folder : ".");
}

static cJSON *describe_share(const manifest *a)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "share", a->share);
    cJSON_AddStringToObject(j, "host", a->host);
    cJSON_AddNumberToObject(j, "pid", a->pid);
    cJSON_AddStringToObject(j, "state", state_of(a));
    cJSON_AddNumberToObject(j, "rows", a->rows);
    cJSON_AddNumberToObject(j, "done", a->done);
    cJSON_AddNumberToObject(j, "failed", a->failed);
    cJSON_AddStringToObject(j, "started", a->started);
    cJSON_AddStringToObject(j, "last", a->last);
    if (a->now) cJSON_AddItemToObject(j, "at", cJSON_Duplicate(a->now, true));
    return j;
}

static void print_survey_json(const survey *s, const status_sum *sum)
{
    cJSON *j = cJSON_CreateObject(), *shares = cJSON_AddArrayToObject(j, "shares");
    double left = time_left(s, sum);
    for (int i = 0; i < s->manifests; i++) cJSON_AddItemToArray(shares, describe_share(s->a + i));
    cJSON_AddNumberToObject(j, "rows", sum->rows + sum->faulty);
    cJSON_AddNumberToObject(j, "done", sum->done);
    cJSON_AddNumberToObject(j, "failed", sum->failed);
    cJSON_AddNumberToObject(j, "faulty", sum->faulty);
    cJSON_AddNumberToObject(j, "left", rows_left(sum));
    cJSON_AddNumberToObject(j, "gone", sum->gone);
    cJSON_AddNumberToObject(j, "shares_missing", sum->missing > 0 ? sum->missing : 0);
    cJSON_AddItemToObject(j, "eta", left < 0 ? cJSON_CreateNull() : cJSON_CreateNumber(left));
    cJSON *failures = cJSON_AddArrayToObject(j, "failures"),
          *others = cJSON_AddArrayToObject(j, "others");
    for (int i = 0; i < s->outcomes; i++) {
        const outcome *o = s->o + i;
        if (!is_last(s, i)) continue;
        if (!is_asked(s, o) && o->done && output_is_there(s, o))
            cJSON_AddItemToArray(others, cJSON_CreateString(o->output));
        if (!is_asked(s, o) || o->done) continue;
        cJSON *f = cJSON_CreateObject();
        cJSON_AddStringToObject(f, "output", o->output);
        cJSON_AddStringToObject(f, "file", o->file);
        cJSON_AddNumberToObject(f, "line", o->line);
        cJSON_AddStringToObject(f, "error", o->error);
        cJSON_AddItemToArray(failures, f);
    }
    const manifest *last = newest_run(s);
    if (last->command) cJSON_AddStringToObject(j, "command", last->command);
    if (last->folder) cJSON_AddStringToObject(j, "folder", last->folder);
    char *text = ts_utf8_repair_own(cJSON_PrintUnformatted(j));
    if (text) puts(text);
    free(text);
    cJSON_Delete(j);
}

static void free_survey(survey *s)
{
    for (int i = 0; i < s->outcomes; i++) {
        free(s->o[i].output);
        free(s->o[i].error);
        free(s->o[i].file);
    }
    for (int i = 0; i < s->manifests; i++) {
        free(s->a[i].hashes);
        free(s->a[i].command);
        free(s->a[i].folder);
        cJSON_Delete(s->a[i].now);
    }
    free(s->o);
    free(s->a);
    free(s->asked);
}

ts_status ts_batch_status(ts_err *err, const char *out, bool json)
{
    ts_status st = TS_OK;
    survey s = {.out = out};
    status_sum sum = {0};
    struct stat info;
    if (stat(out, &info)) return ts_fail(err, TS_EMODEL, "%s: %s", out, strerror(errno));
    TRY(ts_manifest_check(err, out));
    ts_manifest_lines(out, survey_line, &s);
    if (!s.manifests)
        TRY(ts_fail(err, TS_EMODEL,
                    "%s: no batch has worked here: no " TS_MANIFEST_STEM TS_MANIFEST_END, out));
    count_outcomes(&s, &sum);
    if (json)
        print_survey_json(&s, &sum);
    else
        print_survey(&s, &sum);
done:
    free_survey(&s);
    return st;
}
