/* Where outputs are while they are written, and how they get their names: a file of a batch is made
 * in OUT/.tessera-batch/SHARE/ and renamed when it is whole, so that a name in the folder always
 * stands for a finished output. */
#include "cli/batch/batch.h"

#include "backend/file_new.h"
#include "backend/number.h"
#include "backend/suffix.h"
#include "cli/batch/batch_manifest.h"
#include "cli/side.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *ftw)
{
    (void)info;
    (void)kind;
    (void)ftw;
    return remove(path), 0;
}

void ts_remove_tree(const char *path) { nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

char *ts_batch_path(const ts_batch *b, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", b->out, name) < 0 ? NULL : path;
}

bool ts_batch_exists(const ts_batch *b, const char *name)
{
    struct stat s;
    char *path = ts_batch_path(b, name);
    bool there = path && lstat(path, &s) == 0;
    free(path);
    return there;
}

double ts_batch_bytes(const ts_batch *b, const char *name)
{
    char *path = ts_batch_path(b, name);
    double bytes = path ? ts_side_bytes(path) : 0;
    free(path);
    return bytes;
}

static bool ends_with_bytes(int fd, off_t size, const char *end, size_t n)
{
    char last[8];
    return size >= (off_t)n && pread(fd, last, n, size - (off_t)n) == (ssize_t)n &&
           memcmp(last, end, n) == 0;
}

static uint64_t big_endian(const uint8_t *b, int n)
{
    uint64_t x = 0;
    for (int i = 0; i < n; i++) x = x << 8 | b[i];
    return x;
}

/* Length of the MP4 box at b [16]: 32 bits, or 1 and 64 bits behind its type; 0: to the end. */
static uint64_t box_length(const uint8_t *b, uint64_t left)
{
    uint64_t n = big_endian(b, 4);
    return n == 1 ? big_endian(b + 8, 8) : n ? n : left;
}

/* Length of the EBML element at b [16]: id and size, whose first bytes tell their own lengths by
 * leading zeros; a size of ones is not known, and goes to the end. */
static uint64_t element_length(const uint8_t *b, uint64_t left)
{
    int id = 1, n = 1;
    while (id < 4 && !(b[0] >> (8 - id))) id++;
    while (n < 8 && !(b[id] >> (8 - n))) n++;
    uint64_t ones = (UINT64_C(1) << (7 * n)) - 1, size = big_endian(b + id, n) & ones;
    return size == ones ? left : size + (uint64_t)(id + n);
}

/* Of a RIFF file, which is one part; 0: it is none. */
static uint64_t riff_length(const uint8_t *b, uint64_t left)
{
    uint64_t n = 0;
    for (int i = 3; i >= 0; i--) n = n << 8 | b[4 + i];
    return left < 12 || memcmp(b, "RIFF", 4) != 0 ? 0 : n + 8 + (n & 1);
}

/* The parts that the file is made of end where it ends. */
static bool parts_fill_file(int fd, off_t size, uint64_t length(const uint8_t *, uint64_t))
{
    uint64_t at = 0, all = (uint64_t)size;
    while (at < all) {
        uint8_t head[16] = {0};
        uint64_t n = pread(fd, head, sizeof head, (off_t)at) < 8 ? 0 : length(head, all - at);
        if (n < 2 || n > all - at) return false;
        at += n;
    }
    return true;
}

bool ts_batch_is_cut(const ts_batch *b, const ts_job *j)
{
    const char *kind = j->extension;
    char *path = ts_batch_path(b, j->name);
    struct stat s;
    bool whole = ts_batch_bytes(b, j->name) >= j->bytes;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &s) || !S_ISREG(s.st_mode)) goto done;
    if (!whole) goto done;
    if (!strcmp(kind, ".png")) whole = ends_with_bytes(fd, s.st_size, "IEND\xAE\x42\x60\x82", 8);
    if (!strcmp(kind, ".jpg") || !strcmp(kind, ".jpeg"))
        whole = ends_with_bytes(fd, s.st_size, "\xFF\xD9", 2);
    if (!strcmp(kind, ".webp")) whole = parts_fill_file(fd, s.st_size, riff_length);
    if (!strcmp(kind, ".gif")) whole = ends_with_bytes(fd, s.st_size, ";", 1);
    if (!strcmp(kind, ".mp4")) whole = parts_fill_file(fd, s.st_size, box_length);
    if (!strcmp(kind, ".webm") || !strcmp(kind, ".mkv"))
        whole = parts_fill_file(fd, s.st_size, element_length);
    whole = whole && s.st_size > 0;
done:
    if (fd >= 0) close(fd);
    free(path);
    return !whole;
}

char *ts_batch_work_path(const ts_batch *b, const ts_job *j, const char *end)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s%s", b->work, j->id, end) < 0 ? NULL : path;
}

char *ts_batch_state_path(const ts_batch *b, const ts_job *j)
{
    char *path = NULL;
    if (!b->queue) return ts_batch_work_path(b, j, ".state");
    return asprintf(&path, "%s/.tessera-batch/queue/%s.state", b->out, j->id) < 0 ? NULL : path;
}

ts_status ts_batch_make_parents(ts_err *err, char *path)
{
    for (char *s = path + 1; (s = strchr(s, '/')); s++) {
        *s = 0;
        if (mkdir(path, 0777) && errno != EEXIST)
            return ts_fail(err, TS_EIO, "%s: can not be made: %s", path, strerror(errno));
        *s = '/';
    }
    return TS_OK;
}

/* Workers of a queue that were killed on this machine leave their folders: the next worker
 * removes them. A process that can not be seen is not dead, it may be another container's: its
 * manifest is not locked any more, either. */
static void remove_dead_workers(ts_batch *b)
{
    char inside[4400];
    size_t n = (size_t)(strrchr(b->label, '-') - b->label); /* HOST-PID, HOST-PID.2 */
    snprintf(inside, sizeof inside, "%s/.tessera-batch", b->out);
    DIR *d = opendir(inside);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *path = NULL;
        const char *end;
        uint64_t pid;
        if (strncmp(e->d_name, b->label, n + 1)) continue;
        if (!ts_whole_prefix(e->d_name + n + 1, &pid, &end) || (*end && *end != '.') || pid < 1 ||
            pid > INT_MAX || kill((pid_t)pid, 0) == 0 || errno != ESRCH ||
            ts_share_at_work(b->out, e->d_name) || asprintf(&path, "%s/%s", inside, e->d_name) < 0)
            continue;
        ts_remove_tree(path);
        free(path);
    }
    if (d) closedir(d);
}

ts_status ts_batch_work_open(ts_batch *b)
{
    ts_status st = TS_OK;
    char *inside = NULL;
    if (asprintf(&b->work, "%s/.tessera-batch/%s", b->out, b->label) < 0 ||
        asprintf(&inside, "%s/", b->work) < 0)
        TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path"));
    TRY(ts_batch_make_parents(&b->c->err, inside));
    if (b->queue && ts_flag_set(&b->c->flags, TS_F_RESUME_STEPS)) {
        free(inside);
        if (asprintf(&inside, "%s/.tessera-batch/queue/", b->out) < 0)
            TRY((inside = NULL, ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path")));
        TRY(ts_batch_make_parents(&b->c->err, inside));
    }
    if (b->queue) remove_dead_workers(b);
    DIR *d = opendir(b->work);
    if (!d) TRY(ts_fail(&b->c->err, TS_EIO, "%s: %s", b->work, strerror(errno)));
    /* what is in it is of a process that ended: the label's lock is ours */
    for (struct dirent *e; (e = readdir(d));) {
        char *path = NULL;
        bool state = ts_ends_with(e->d_name, ".state") || strstr(e->d_name, ".state.plans-"),
             keep = state && e->d_name[0] != '.' &&
                    (ts_flag_set(&b->c->flags, TS_F_RESUME_STEPS) ||
                     !ts_flag_set(&b->c->flags, TS_F_NO_STATE));
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (!keep && asprintf(&path, "%s/%s", b->work, e->d_name) >= 0) ts_remove_tree(path);
        free(path);
    }
    closedir(d);
done:
    free(inside);
    return st;
}

void ts_batch_work_close(ts_batch *b)
{
    char *slash = b->work ? strrchr(b->work, '/') : NULL, *queue = NULL;
    if (!slash) return;
    rmdir(b->work); /* states of rows that are to go on later keep it */
    *slash = 0;
    if (asprintf(&queue, "%s/queue", b->work) < 0) queue = NULL;
    if (queue) rmdir(queue);
    rmdir(b->work);
    free(queue);
    free(b->work);
    b->work = NULL;
}

ts_status ts_batch_publish(ts_batch *b, const ts_job *j, const char *from)
{
    ts_status st = TS_OK;
    char *to = ts_batch_path(b, j->name), *old = NULL;
    struct stat s;
    if (!to) TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path"));
    TRY(ts_batch_make_parents(&b->c->err, to));
    /* folders do not replace each other: the old one steps aside */
    if (j->replaces && lstat(to, &s) == 0 && (S_ISDIR(s.st_mode) || j->folder)) {
        if (asprintf(&old, "%s.old", from) < 0)
            TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path"));
        if (rename(to, old))
            TRY(ts_fail(&b->c->err, TS_EIO, "%s: can not be replaced: %s", to, strerror(errno)));
    }
    int failed = j->replaces && !old ? rename(from, to) : ts_rename_new(from, to);
    if (failed && errno == EEXIST)
        TRY(ts_fail(&b->c->err, TS_EFAIL, "%s exists: somebody else wrote it in the meantime", to));
    if (failed)
        TRY(ts_fail(&b->c->err, TS_EIO, "%s: can not be renamed from %s: %s", to, from,
                    strerror(errno)));
    ts_sync_folder_of(to);
    if (old) ts_remove_tree(old);
done:
    free(old);
    free(to);
    return st;
}
