/* --status: what the manifests of a folder say of all who worked on it. */
#include "cli/batch/batch_manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    char share[256], host[256], started[40], last[40];
    double pid, rows, faulty,
        seconds;  /* rows, faulty: of its last run; seconds: of all rows done */
    char *hashes; /* of the rows of its last run; NULL: not written down */
    int done, failed;
    bool locked;
} manifest;
typedef struct {
    char *output, *error, hash[TS_ID + 1];
    int owner, order;
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
    snprintf(a->share, sizeof a->share, "%s", share);
    return a;
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
        return;
    }
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

static void print_survey(survey *s)
{
    status_sum sum = {0};
    count_outcomes(s, &sum);
    printf("%-24s %-24s %-8s %6s %6s %6s  %s\n", "share", "process", "state", "rows", "done",
           "failed", "last heard of");
    for (int i = 0; i < s->manifests; i++) {
        const manifest *a = s->a + i;
        char process[300];
        snprintf(process, sizeof process, "%s:%.0f", a->host, a->pid);
        printf("%-24s %-24s %-8s %6.0f %6d %6d  %s\n", a->share, process,
               a->locked ? "at work" : "ended", a->rows, a->done, a->failed, a->last);
        sum.working += a->locked;
        sum.seconds += a->seconds;
    }
    double left = sum.rows - sum.done - sum.failed;
    printf("%d of %.0f rows done, %d failed, ", sum.done, sum.rows + sum.faulty, sum.failed);
    if (sum.faulty > 0) printf("%.0f can not be used, ", sum.faulty);
    printf("%.0f left", left > 0 ? left : 0);
    if (sum.working && left > 0 && s->outcomes) {
        char about[24];
        printf(", about %s", ts_clock_text(sum.seconds / s->outcomes * left / sum.working, about));
    }
    putchar('\n');
    if (sum.missing > 0)
        printf("%d share%s not begun\n", sum.missing, sum.missing == 1 ? " has" : "s have");
    if (sum.gone)
        printf("%d output%s finished and gone: the next run renders %s again\n", sum.gone,
               sum.gone == 1 ? " was" : "s were", sum.gone == 1 ? "it" : "them");
    if (sum.others)
        printf("%d output%s of rows that are no longer asked for\n", sum.others,
               sum.others == 1 ? " is" : "s are");
    for (int i = 0; i < s->outcomes; i++) {
        const outcome *o = s->o + i;
        if (!is_last(s, i)) continue;
        if (!is_asked(s, o) && o->done && output_is_there(s, o))
            printf("no longer asked for: %s\n", o->output);
        if (is_asked(s, o) && !o->done) printf("failed: %s: %s\n", o->output, o->error);
    }
}

ts_status ts_batch_status(ts_err *err, const char *out)
{
    ts_status st = TS_OK;
    survey s = {.out = out};
    struct stat info;
    if (stat(out, &info)) return ts_fail(err, TS_EMODEL, "%s: %s", out, strerror(errno));
    st = ts_manifest_check(err, out);
    if (st) return st;
    ts_manifest_lines(out, survey_line, &s);
    if (s.manifests)
        print_survey(&s);
    else
        st = ts_fail(err, TS_EMODEL,
                     "%s: no batch has worked here: no " TS_MANIFEST_STEM TS_MANIFEST_END, out);
    for (int i = 0; i < s.outcomes; i++) {
        free(s.o[i].output);
        free(s.o[i].error);
    }
    for (int i = 0; i < s.manifests; i++) free(s.a[i].hashes);
    free(s.o);
    free(s.a);
    free(s.asked);
    return st;
}
