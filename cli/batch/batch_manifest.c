/* The manifest of a batch: JSON Lines in OUT, one file a share, each line on the disk before the
 * work goes on. It is the lock, too: who works on a share holds its manifest locked, and the
 * manifest's last `run` line says who that is. What a row's state is follows from the manifests of
 * all shares and from which outputs exist, so that a batch may be shared out differently the next
 * time. */
#include "cli/batch/batch.h"

#include "backend/number.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct ts_manifest {
    int fd;
    char *path;
};

#define STEM "tessera-batch"
#define END ".jsonl"

/* ---- lines ---- */
static void utc_text(char out[40])
{
    struct timespec t;
    struct tm tm;
    char seconds[24];
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, 40, "%s.%03ldZ", seconds, t.tv_nsec / 1000000);
}

static const char *record_text(const cJSON *j, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, key));
    return s ? s : "";
}

static double record_number(const cJSON *j, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

/* One write a line, so that a kill leaves a whole line or none; a power failure may leave a part,
 * which readers pass over. Takes the object. */
static ts_status append_record(ts_batch *b, cJSON *j)
{
    ts_status st = TS_OK;
    char now[40], *text = NULL, *line = NULL;
    utc_text(now);
    cJSON_AddStringToObject(j, "at", now);
    text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    int n = text ? asprintf(&line, "%s\n", text) : -1;
    if (n < 0)
        TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for a line of %s", b->manifest->path));
    ssize_t wrote = write(b->manifest->fd, line, (size_t)n);
    if (wrote != n)
        TRY(ts_fail(&b->c->err, TS_EIO, "%s: can not be written: %s", b->manifest->path,
                    wrote < 0 ? strerror(errno) : "the disk is full"));
    if (fsync(b->manifest->fd) && errno != EINVAL && errno != ENOTSUP)
        TRY(ts_fail(&b->c->err, TS_EIO, "%s: can not be brought to the disk: %s", b->manifest->path,
                    strerror(errno)));
done:
    free(text);
    if (n >= 0) free(line);
    return st;
}

ts_status ts_manifest_add(ts_batch *b, const ts_job *j, const char *status)
{
    cJSON *o = cJSON_CreateObject();
    char seed[24];
    cJSON_AddStringToObject(o, "hash", j->id);
    cJSON_AddStringToObject(o, "output", j->name);
    cJSON_AddStringToObject(o, "status", status);
    cJSON_AddStringToObject(o, "file", j->file);
    cJSON_AddNumberToObject(o, "line", j->row->line);
    cJSON_AddNumberToObject(o, "index", j->row->index);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)j->q.seed);
    if (j->q.seed <= UINT64_C(1) << 53)
        cJSON_AddRawToObject(o, "seed", seed);
    else
        cJSON_AddStringToObject(o, "seed", seed);
    if (!strcmp(status, "started") && j->replaces) cJSON_AddBoolToObject(o, "replaces", true);
    if (strcmp(status, "started") && !j->found)
        cJSON_AddNumberToObject(o, "seconds", (double)(long)(j->seconds * 1000) / 1000);
    if (!strcmp(status, "done") && j->bytes > 0) cJSON_AddNumberToObject(o, "bytes", j->bytes);
    if (j->found) cJSON_AddBoolToObject(o, "found", true);
    if (j->error && !strcmp(status, "failed")) cJSON_AddStringToObject(o, "error", j->error);
    return append_record(b, o);
}

/* ---- all manifests of a folder ---- */
/* Calls `each` for every line of every manifest that is JSON; share: the middle of the file's name,
 * "all" where it has none. */
typedef void visit(void *user, const char *share, const char *path, const cJSON *);

static bool is_manifest(const char *name, char share[256])
{
    size_t n = strlen(name), m = strlen(STEM), k = strlen(END);
    if (n < m + k || n >= 256 || strncmp(name, STEM, m) || strcmp(name + n - k, END)) return false;
    if (n == m + k) return snprintf(share, 256, "all"), true;
    if (name[m] != '.') return false;
    return snprintf(share, 256, "%.*s", (int)(n - m - k - 1), name + m + 1), true;
}

static void read_manifest(const char *path, const char *share, visit *each, void *user)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    if (!f) return;
    while (getline(&line, &room, f) > 0) {
        cJSON *j = cJSON_Parse(line);
        if (cJSON_IsObject(j)) each(user, share, path, j);
        cJSON_Delete(j);
    }
    free(line);
    fclose(f);
}

/* Calls `each` for every manifest of the folder until one is no success. */
static ts_status visit_manifests(const char *out,
                                 ts_status (*each)(void *user, const char *share, const char *path),
                                 void *user)
{
    ts_status st = TS_OK;
    struct dirent **list;
    char share[256];
    int n = scandir(out, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        if (!st && is_manifest(list[i]->d_name, share) &&
            asprintf(&path, "%s/%s", out, list[i]->d_name) >= 0) {
            st = each(user, share, path);
            free(path);
        }
        free(list[i]);
    }
    if (n >= 0) free(list);
    return st;
}

typedef struct {
    visit *each;
    void *user;
} reader;

static ts_status read_one(void *user, const char *share, const char *path)
{
    const reader *r = user;
    read_manifest(path, share, r->each, r->user);
    return TS_OK;
}

static void read_manifests(const char *out, visit *each, void *user)
{
    visit_manifests(out, read_one, &(reader){each, user});
}

static bool is_locked_file(const char *path)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool locked = fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
    close(fd);
    return locked;
}

/* ---- formats ---- */
enum { RUN_FORMAT = 1 }; /* of `run` lines and of what follows them */

static void find_newest(void *user, const char *share, const char *path, const cJSON *j)
{
    double *newest = user, format = record_number(j, "run");
    (void)share;
    (void)path;
    if (format > *newest) *newest = format;
}

static ts_status refuse_newer(void *user, const char *share, const char *path)
{
    double newest = 0;
    read_manifest(path, share, find_newest, &newest);
    if (newest <= RUN_FORMAT) return TS_OK;
    return ts_fail(user, TS_EMODEL, "%s: a manifest of format %g, tessera %s reads %d", path,
                   newest, ts_version(), RUN_FORMAT);
}

/* ---- the lock ---- */
typedef struct {
    char who[512];
} holder;

static void name_holder(void *user, const char *share, const char *path, const cJSON *j)
{
    holder *h = user;
    (void)share;
    (void)path;
    if (cJSON_GetObjectItemCaseSensitive(j, "run"))
        snprintf(h->who, sizeof h->who, "process %.0f on %.100s, since %.40s",
                 record_number(j, "pid"), record_text(j, "host"), record_text(j, "at"));
}

static ts_status refuse_folder_in_use(ts_batch *b, const char *path, const char *share)
{
    holder h = {"another process"};
    read_manifest(path, share, name_holder, &h);
    if (!strcmp(share, "all"))
        return ts_fail(&b->c->err, TS_EUSAGE,
                       "%s is in use by %s: --shard I/N or --queue for all of them lets "
                       "several work on one folder",
                       b->out, h.who);
    return ts_fail(&b->c->err, TS_EUSAGE, "%s is in use by %s, as share %s", b->out, h.who, share);
}

/* Of how many shares "I-of-N" is one; false: it is another kind of label. */
static bool read_shares(const char *label, int *n)
{
    uint64_t i, of;
    const char *end;
    if (!ts_whole_prefix(label, &i, &end) || strncmp(end, "-of-", 4)) return false;
    if (!ts_whole_read(end + 4, INT_MAX, &of)) return false;
    *n = (int)of;
    return true;
}

/* Whether two shares may be at work at once: those of one division, or workers of a queue. */
static bool shares_compatible(const char *a, const char *b)
{
    int n, m;
    bool x = read_shares(a, &n), y = read_shares(b, &m);
    if (!strcmp(a, "all") || !strcmp(b, "all")) return false;
    return x && y ? n == m : !x && !y;
}

static ts_status refuse_other(void *user, const char *share, const char *path)
{
    ts_batch *b = user;
    bool apart = !strcmp(share, b->label) || shares_compatible(share, b->label);
    return apart || !is_locked_file(path) ? TS_OK : refuse_folder_in_use(b, path, share);
}

static ts_status add_run_record(ts_batch *b)
{
    char host[256] = "", share[32];
    int mine = 0, faulty = 0;
    cJSON *j = cJSON_CreateObject(), *files = cJSON_CreateArray();
    /* of the rows, one behind the other */
    char *ids = calloc((size_t)b->jobs + 1, TS_ID);
    if (!ids) {
        cJSON_Delete(j);
        cJSON_Delete(files);
        return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d rows", b->jobs);
    }
    gethostname(host, sizeof host - 1);
    for (int i = 0; i < b->jobs; i++) {
        ts_job_state s = b->job[i].state;
        faulty += s == TS_JOB_FAULTY;
        if (s == TS_JOB_ELSEWHERE || s == TS_JOB_FAULTY) continue;
        memcpy(ids + TS_ID * (size_t)mine++, b->job[i].id, TS_ID);
    }
    for (int i = 0; i < b->files; i++)
        cJSON_AddItemToArray(files, cJSON_CreateString(b->file[i]->name));
    snprintf(share, sizeof share, "%d/%d", b->share, b->shares);
    cJSON_AddNumberToObject(j, "run", RUN_FORMAT);
    cJSON_AddStringToObject(j, "tessera", ts_version());
    cJSON_AddStringToObject(j, "host", host);
    cJSON_AddNumberToObject(j, "pid", getpid());
    cJSON_AddStringToObject(j, "share", share);
    cJSON_AddBoolToObject(j, "queue", b->queue != NULL);
    cJSON_AddNumberToObject(j, "rows", mine);
    cJSON_AddNumberToObject(j, "faulty", faulty);
    cJSON_AddStringToObject(j, "hashes", ids);
    cJSON_AddItemToObject(j, "files", files);
    free(ids);
    return append_record(b, j);
}

static ts_status make_folder(ts_batch *b)
{
    ts_status st = TS_OK;
    struct stat s;
    char *inside = ts_batch_path(b, "");
    if (!inside) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path");
    TRY(ts_batch_make_parents(&b->c->err, inside));
    if (stat(b->out, &s) || !S_ISDIR(s.st_mode))
        TRY(ts_fail(&b->c->err, TS_EUSAGE, "--out: %s is not a folder", b->out));
    if (access(b->out, W_OK | X_OK))
        TRY(ts_fail(&b->c->err, TS_EIO, "--out: can not write into %s: %s", b->out,
                    strerror(errno)));
done:
    free(inside);
    return st;
}

ts_status ts_manifest_open(ts_batch *b)
{
    ts_status st = TS_OK;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat s;
    char last = '\n';
    ts_manifest *m = b->manifest = calloc(1, sizeof *m);
    if (!m) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for a manifest");
    m->fd = -1;
    TRY(make_folder(b));
    int n = strcmp(b->label, "all") ? asprintf(&m->path, "%s/" STEM ".%s" END, b->out, b->label)
                                    : asprintf(&m->path, "%s/" STEM END, b->out);
    if (n < 0) TRY((m->path = NULL, ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path")));
    m->fd = open(m->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (m->fd < 0)
        TRY(ts_fail(&b->c->err, TS_EIO, "%s: can not be written: %s", m->path, strerror(errno)));
    if (fcntl(m->fd, F_OFD_SETLK, &l)) {
        if (errno == EAGAIN || errno == EACCES) TRY(refuse_folder_in_use(b, m->path, b->label));
        char text[512];
        snprintf(text, sizeof text,
                 "%.300s can not be locked (%.60s): nobody will be kept from rendering the same "
                 "rows at the same time",
                 m->path, strerror(errno));
        ts_screen_warn(&b->c->screen, text);
    }
    TRY(visit_manifests(b->out, refuse_other, b));
    TRY(visit_manifests(b->out, refuse_newer, &b->c->err));
    /* after a power failure */
    if (fstat(m->fd, &s) == 0 && s.st_size > 0 && pread(m->fd, &last, 1, s.st_size - 1) == 1 &&
        last != '\n' && write(m->fd, "\n", 1) != 1)
        TRY(ts_fail(&b->c->err, TS_EIO, "%s: can not be written: %s", m->path, strerror(errno)));
    TRY(add_run_record(b));
    int folder = open(b->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }
done:
    return st;
}

void ts_manifest_close(ts_batch *b)
{
    if (!b->manifest) return;
    if (b->manifest->fd >= 0) close(b->manifest->fd); /* and with it the lock */
    free(b->manifest->path);
    free(b->manifest);
    b->manifest = NULL;
}

/* ---- what was done ---- */
typedef struct {
    char *ids;
    size_t n;
    FILE *stream;
} done_ids;

static void collect_done(void *user, const char *share, const char *path, const cJSON *j)
{
    const done_ids *d = user;
    const char *id = record_text(j, "hash");
    (void)share;
    (void)path;
    if (!strcmp(record_text(j, "status"), "done") && strlen(id) == TS_ID) fputs(id, d->stream);
}

static int order_hashes(const void *a, const void *b) { return memcmp(a, b, TS_ID); }

ts_status ts_manifest_ids(ts_batch *b, char **ids, size_t *n)
{
    done_ids d = {0};
    d.stream = open_memstream(&d.ids, &d.n);
    if (d.stream) read_manifests(b->out, collect_done, &d);
    if (!d.stream || fclose(d.stream))
        return free(d.ids), ts_fail(&b->c->err, TS_EMEMORY, "no memory for a manifest");
    *ids = d.ids;
    *n = d.n / TS_ID;
    if (*n) qsort(*ids, *n, TS_ID, order_hashes);
    return TS_OK;
}

/* ---- states ---- */
typedef struct {
    ts_job *job;
    /* The last word on the output, whichever row's it is: what is there now is this row's; and a
     * line says that it is whole. */
    bool owns, done, was_done; /* was_done: a line says that it once was */
    char word[40];             /* when the last word was */
    char last[40], status[16]; /* of the row itself */
    double seconds, bytes;
    char *error;
} past;
typedef struct {
    past *list; /* by name */
    int n;
    double seconds, cost;
} reading;

static int order_by_name(const void *a, const void *b)
{
    return strcmp(((const past *)a)->job->name, ((const past *)b)->job->name);
}

static void collect_outputs(void *user, const char *share, const char *path, const cJSON *j)
{
    reading *r = user;
    ts_job named = {.name = (char *)record_text(j, "output")};
    past key = {.job = &named},
         *p = *named.name && r->n ? bsearch(&key, r->list, (size_t)r->n, sizeof key, order_by_name)
                                  : NULL;
    (void)share;
    (void)path;
    if (!p) return;
    const char *status = record_text(j, "status"), *at = record_text(j, "at");
    bool ours = !strcmp(record_text(j, "hash"), p->job->id), done = !strcmp(status, "done"),
         begun = !strcmp(status, "started") &&
                 !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "replaces"));
    if ((done || begun) && strcmp(at, p->word) >= 0) {
        snprintf(p->word, sizeof p->word, "%s", at);
        p->owns = ours;
        p->done = ours && (done || p->done);
    }
    if (!ours) return;
    if (done) {
        p->seconds = record_number(j, "seconds");
        p->bytes = record_number(j, "bytes");
    }
    p->was_done = p->was_done || done;
    if (strcmp(at, p->last) < 0) return;
    snprintf(p->last, sizeof p->last, "%s", at);
    snprintf(p->status, sizeof p->status, "%s", status);
    free(p->error);
    p->error = strcmp(status, "failed") ? NULL : strdup(record_text(j, "error"));
}

/* Returns whether the job's output is in the way. */
static bool settle_by_record(ts_batch *b, past *p)
{
    ts_job *j = p->job;
    bool there = ts_batch_exists(b, j->name), retry = ts_flag_set(&b->c->flags, TS_F_RETRY);
    j->bytes = p->owns ? p->bytes : 0;
    /* names appear by renaming what is whole: a row that began and has its output is done; that the
     * file was cut since then is for ts_batch_is_cut to see */
    if (there && p->owns && !ts_batch_is_cut(b, j)) {
        j->state = TS_JOB_HAD;
        j->found = !p->done;
        j->seconds = p->seconds;
        return false;
    }
    j->again = p->was_done;
    if (!strcmp(p->status, "failed") && !retry) {
        j->state = TS_JOB_GAVE_UP;
        j->error = p->error;
        p->error = NULL;
    } else if (there) {
        j->replaces = true;
        return !ts_batch_is_cut(b, j) && !ts_flag_set(&b->c->flags, TS_F_OVERWRITE);
    }
    return false;
}

/* Rows to do by what the manifests say of them. tell: outputs that are in the way are faults. */
static ts_status classify_jobs(ts_batch *b, bool tell)
{
    ts_status st = TS_OK;
    reading r = {.list = calloc((size_t)(b->jobs ? b->jobs : 1), sizeof *r.list)};
    int in_the_way = 0;
    if (!r.list) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d rows", b->jobs);
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].state == TS_JOB_TODO) r.list[r.n++].job = b->job + i;
    if (r.n) qsort(r.list, (size_t)r.n, sizeof *r.list, order_by_name);
    read_manifests(b->out, collect_outputs, &r);
    for (int i = 0; i < r.n; i++) {
        char text[600];
        const ts_job *j = r.list[i].job;
        if (!settle_by_record(b, r.list + i) || !tell) continue;
        snprintf(text, sizeof text,
                 "%.200s/%.200s exists, and is not this row's: made with other settings, or by "
                 "somebody else",
                 b->out, j->name);
        ts_screen_fault(&b->c->screen, j->file, j->row->line, text);
        in_the_way++;
    }
    if (in_the_way)
        st = ts_fail(&b->c->err, TS_EUSAGE,
                     "%d output%s would replace a file: --overwrite allows it, another --out "
                     "or --name avoids it",
                     in_the_way, in_the_way == 1 ? "" : "s");
    for (int i = 0; i < r.n; i++) free(r.list[i].error);
    free(r.list);
    return st;
}

ts_status ts_manifest_read(ts_batch *b) { return classify_jobs(b, true); }

ts_status ts_manifest_others(ts_batch *b)
{
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].state == TS_JOB_ELSEWHERE && b->job[i].name) b->job[i].state = TS_JOB_TODO;
    return classify_jobs(b, false);
}

double ts_manifest_pace(const ts_batch *b)
{
    double seconds = 0, cost = 0;
    for (int i = 0; i < b->jobs; i++) {
        const ts_job *j = b->job + i;
        if ((j->state != TS_JOB_HAD && j->state != TS_JOB_DONE) || j->seconds <= 0 ||
            j->geometry < 0)
            continue;
        seconds += j->seconds;
        cost += b->geometry[j->geometry].cost;
    }
    return cost > 0 ? seconds / cost : 0;
}

/* ---- --status ---- */
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
    *a = (manifest){.locked = is_locked_file(path)};
    snprintf(a->share, sizeof a->share, "%s", share);
    return a;
}

static void survey_line(void *user, const char *share, const char *path, const cJSON *j)
{
    survey *s = user;
    manifest *a = manifest_of(s, share, path);
    const char *status = record_text(j, "status"), *at = record_text(j, "at");
    if (!a) return;
    snprintf(a->last, sizeof a->last, "%s", at);
    if (cJSON_GetObjectItemCaseSensitive(j, "run")) {
        snprintf(a->host, sizeof a->host, "%s", record_text(j, "host"));
        snprintf(a->started, sizeof a->started, "%s", at);
        a->pid = record_number(j, "pid");
        a->rows = record_number(j, "rows");
        a->faulty = record_number(j, "faulty");
        free(a->hashes);
        a->hashes = cJSON_HasObjectItem(j, "hashes") ? strdup(record_text(j, "hashes")) : NULL;
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
    *o = (outcome){.output = strdup(record_text(j, "output")),
                   .error = strdup(record_text(j, "error")),
                   .owner = (int)(a - s->a),
                   .order = s->outcomes,
                   .done = !strcmp(status, "done")};
    snprintf(o->at, sizeof o->at, "%s", at);
    snprintf(o->hash, sizeof o->hash, "%s", record_text(j, "hash"));
    a->seconds += record_number(j, "seconds");
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
    if (!read_shares(last->share, &n)) return list[0] = last, 1;
    for (int k = 0; k < s->manifests; k++)
        if (read_shares(s->a[k].share, &m) && m == n) list[count++] = s->a + k;
    *missing = n - count;
    return count;
}

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
    if (s->asked && bytes) qsort(s->asked, s->rows_asked, TS_ID, order_hashes);
}

/* Whether it is of a row that the files have now: another version of a row does not count. */
static bool is_asked(const survey *s, const outcome *o)
{
    if (!s->asked) return true;
    return strlen(o->hash) == TS_ID && s->rows_asked &&
           bsearch(o->hash, s->asked, s->rows_asked, TS_ID, order_hashes);
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
    st = visit_manifests(out, refuse_newer, err);
    if (st) return st;
    read_manifests(out, survey_line, &s);
    if (s.manifests)
        print_survey(&s);
    else
        st = ts_fail(err, TS_EMODEL, "%s: no batch has worked here: no " STEM END, out);
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
