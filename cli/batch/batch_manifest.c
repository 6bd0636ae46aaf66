/* The manifest of a batch: JSON Lines in OUT, one file a share, each line on the disk before the
 * work goes on. It is the lock, too: who works on a share holds its manifest locked, and the
 * manifest's last `run` line says who that is. What a row's state is follows from the manifests of
 * all shares and from which outputs exist, so that a batch may be shared out differently the next
 * time. */
#include "cli/batch/batch_manifest.h"

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
    bool begun; /* the run's line is written */
    char *path;
};

#define STEM TS_MANIFEST_STEM
#define END TS_MANIFEST_END

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

const char *ts_record_text(const cJSON *j, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, key));
    return s ? s : "";
}

double ts_record_number(const cJSON *j, const char *key)
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
    if (j->refused) cJSON_AddBoolToObject(o, "refused", true);
    if (j->error && !strcmp(status, "failed")) cJSON_AddStringToObject(o, "error", j->error);
    return append_record(b, o);
}

/* ---- all manifests of a folder ---- */
static bool is_manifest(const char *name, char share[256])
{
    size_t n = strlen(name), m = strlen(STEM), k = strlen(END);
    if (n < m + k || n >= 256 || strncmp(name, STEM, m) || strcmp(name + n - k, END)) return false;
    if (n == m + k) return snprintf(share, 256, "all"), true;
    if (name[m] != '.') return false;
    return snprintf(share, 256, "%.*s", (int)(n - m - k - 1), name + m + 1), true;
}

static void read_manifest(const char *path, const char *share, ts_manifest_line *each, void *user)
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
    ts_manifest_line *each;
    void *user;
} reader;

static ts_status read_one(void *user, const char *share, const char *path)
{
    const reader *r = user;
    read_manifest(path, share, r->each, r->user);
    return TS_OK;
}

void ts_manifest_lines(const char *out, ts_manifest_line *each, void *user)
{
    visit_manifests(out, read_one, &(reader){each, user});
}

bool ts_manifest_locked(const char *path)
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
    double *newest = user, format = ts_record_number(j, "run");
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

ts_status ts_manifest_check(ts_err *err, const char *out)
{
    return visit_manifests(out, refuse_newer, err);
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
                 ts_record_number(j, "pid"), ts_record_text(j, "host"), ts_record_text(j, "at"));
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

bool ts_label_shares(const char *label, int *n)
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
    bool x = ts_label_shares(a, &n), y = ts_label_shares(b, &m);
    if (!strcmp(a, "all") || !strcmp(b, "all")) return false;
    return x && y ? n == m : !x && !y;
}

static ts_status refuse_other(void *user, const char *share, const char *path)
{
    ts_batch *b = user;
    bool apart = !strcmp(share, b->label) || shares_compatible(share, b->label);
    return apart || !ts_manifest_locked(path) ? TS_OK : refuse_folder_in_use(b, path, share);
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
    char *command = ts_batch_command(), *folder = realpath(".", NULL);
    if (command) cJSON_AddStringToObject(j, "command", command);
    if (folder) cJSON_AddStringToObject(j, "folder", folder);
    cJSON_AddBoolToObject(j, "ends", true);
    free(command);
    free(folder);
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

/* malloc'd; NULL: no memory. */
static char *name_manifest(const char *out, const char *share)
{
    char *path = NULL;
    int n = strcmp(share, "all") ? asprintf(&path, "%s/" STEM ".%s" END, out, share)
                                 : asprintf(&path, "%s/" STEM END, out);
    return n < 0 ? NULL : path;
}

bool ts_share_at_work(const char *out, const char *share)
{
    char *path = name_manifest(out, share);
    bool locked = path && ts_manifest_locked(path);
    free(path);
    return locked;
}

/* Opened and locked. Workers of a queue whose containers share the name of their host can be of one
 * process number as well: the second is HOST-PID.2. */
static ts_status lock_manifest(ts_batch *b)
{
    enum { MOST = 999 };
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    ts_manifest *m = b->manifest;
    size_t n = strlen(b->label);
    for (int i = 2;; i++) {
        m->path = name_manifest(b->out, b->label);
        if (!m->path) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path");
        m->fd = open(m->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (m->fd < 0)
            return ts_fail(&b->c->err, TS_EIO, "%s: can not be written: %s", m->path,
                           strerror(errno));
        if (fcntl(m->fd, F_OFD_SETLK, &l) == 0) return TS_OK;
        if (errno != EAGAIN && errno != EACCES) break;
        if (!b->queue || i > MOST) return refuse_folder_in_use(b, m->path, b->label);
        close(m->fd);
        free(m->path);
        snprintf(b->label + n, sizeof b->label - n, ".%d", i);
    }
    char text[512];
    snprintf(text, sizeof text,
             "%.300s can not be locked (%.60s): nobody will be kept from rendering the same rows "
             "at the same time",
             m->path, strerror(errno));
    ts_screen_warn(&b->c->screen, text);
    return TS_OK;
}

ts_status ts_manifest_open(ts_batch *b)
{
    ts_status st = TS_OK;
    struct stat s;
    char last = '\n';
    ts_manifest *m = b->manifest = calloc(1, sizeof *m);
    if (!m) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for a manifest");
    m->fd = -1;
    TRY(make_folder(b));
    TRY(lock_manifest(b));
    TRY(visit_manifests(b->out, refuse_other, b));
    TRY(ts_manifest_check(&b->c->err, b->out));
    /* after a power failure */
    if (fstat(m->fd, &s) == 0 && s.st_size > 0 && pread(m->fd, &last, 1, s.st_size - 1) == 1 &&
        last != '\n' && write(m->fd, "\n", 1) != 1)
        TRY(ts_fail(&b->c->err, TS_EIO, "%s: can not be written: %s", m->path, strerror(errno)));
    TRY(add_run_record(b));
    m->begun = true;
    int folder = open(b->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }
done:
    return st;
}

void ts_manifest_end(ts_batch *b, const char *how)
{
    if (!b->manifest || !b->manifest->begun) return;
    ts_err why = b->c->err;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "end", how);
    append_record(b, j); /* what can not be written is missed as if the process had been killed */
    b->c->err = why;
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
    const char *id = ts_record_text(j, "hash");
    (void)share;
    (void)path;
    if (!strcmp(ts_record_text(j, "status"), "done") && strlen(id) == TS_ID) fputs(id, d->stream);
}

static int order_hashes(const void *a, const void *b) { return memcmp(a, b, TS_ID); }

ts_status ts_manifest_ids(ts_batch *b, char **ids, size_t *n)
{
    done_ids d = {0};
    d.stream = open_memstream(&d.ids, &d.n);
    if (d.stream) ts_manifest_lines(b->out, collect_done, &d);
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
    bool refused;              /* nothing was computed: whether it can be is seen anew */
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
    ts_job named = {.name = (char *)ts_record_text(j, "output")};
    past key = {.job = &named},
         *p = *named.name && r->n ? bsearch(&key, r->list, (size_t)r->n, sizeof key, order_by_name)
                                  : NULL;
    (void)share;
    (void)path;
    if (!p) return;
    const char *status = ts_record_text(j, "status"), *at = ts_record_text(j, "at");
    bool ours = !strcmp(ts_record_text(j, "hash"), p->job->id), done = !strcmp(status, "done"),
         begun = !strcmp(status, "started") &&
                 !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "replaces"));
    if ((done || begun) && strcmp(at, p->word) >= 0) {
        snprintf(p->word, sizeof p->word, "%s", at);
        p->owns = ours;
        p->done = ours && (done || p->done);
    }
    if (!ours) return;
    if (done) {
        p->seconds = ts_record_number(j, "seconds");
        p->bytes = ts_record_number(j, "bytes");
    }
    p->was_done = p->was_done || done;
    if (strcmp(at, p->last) < 0) return;
    snprintf(p->last, sizeof p->last, "%s", at);
    snprintf(p->status, sizeof p->status, "%s", status);
    p->refused = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "refused"));
    free(p->error);
    p->error = strcmp(status, "failed") ? NULL : strdup(ts_record_text(j, "error"));
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
    if (!strcmp(p->status, "failed") && !p->refused && !retry) {
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
    ts_manifest_lines(b->out, collect_outputs, &r);
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
