/* One writer of new files. The name of the unfinished one is random, and the file system refuses to
 * make it twice (O_EXCL): a process id would not do, since every container has a process 1. */
#include "backend/file_new.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* The unfinished file's name is longer than the file's: with these at most 118 bytes, and the least
 * that file systems of Linux allow are 143 (eCryptfs). */
enum { MAX_STEM = 80, MAX_EXTENSION = 16, MAX_TRIES = 100, WRITE_AT_ONCE = 1 << 30 };

static const char *name_after_slash(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static ts_status fail_write(ts_err *err, const char *path, int why)
{
    return ts_fail(err, TS_EIO, "%s: can not be written: %s", path, strerror(why));
}

static ts_status fail_taken(ts_err *err, const char *path)
{
    return ts_fail(err, TS_EUSAGE,
                   "%s exists already, and overwriting was not asked for (`overwrite`)", path);
}

/* .NAME.tmp-RANDOM.EXT beside path; malloc'd; NULL: no memory. */
static char *name_part(const char *path, uint64_t random)
{
    const char *base = name_after_slash(path), *dot = strrchr(base, '.');
    if (!dot || dot == base || strlen(dot) > MAX_EXTENSION) dot = base + strlen(base);
    int stem = dot - base < MAX_STEM ? (int)(dot - base) : MAX_STEM;
    while (stem > 0 && (base[stem] & 0xC0) == 0x80) stem--; /* not within a character of UTF-8 */
    char *part = NULL;
    return asprintf(&part, "%.*s.%.*s.tmp-%016llx%s", (int)(base - path), path, stem, base,
                    (unsigned long long)random, dot) < 0
               ? NULL
               : part;
}

/* What a link points to, through links, there or not; any other path as it is. malloc'd; NULL and
 * errno: no memory, or links in a ring. */
static char *resolve_link(const char *path)
{
    enum { MAX_LINKS = 40 }; /* as the system does */
    char *at = strdup(path);
    for (int i = 0; at && i < MAX_LINKS; i++) {
        char to[PATH_MAX], *next = NULL;
        ssize_t n = readlink(at, to, sizeof to);
        if (n < 0) return at; /* no link */
        int before = *to == '/' ? 0 : (int)(name_after_slash(at) - at);
        if (asprintf(&next, "%.*s%.*s", before, at, (int)n, to) < 0) next = NULL;
        free(at);
        at = next;
    }
    errno = at ? ELOOP : ENOMEM;
    free(at);
    return NULL;
}

ts_status ts_newfile_check(ts_err *err, const char *path)
{
    ts_status st = TS_OK;
    struct stat s;
    char *target = resolve_link(path), *part = target ? name_part(target, UINT64_MAX) : NULL;
    bool loop = !target && errno == ELOOP;
    if (loop) TRY(fail_write(err, path, ELOOP));
    if (!part) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", path));
    /* the file system knows what it takes: of a name, and of the whole path */
    if ((lstat(target, &s) && errno == ENAMETOOLONG) || (lstat(part, &s) && errno == ENAMETOOLONG))
        TRY(ts_fail(err, TS_EUSAGE,
                    "%.80s...: the name is too long for the file system: %zu bytes, in a path of "
                    "%zu",
                    path, strlen(name_after_slash(path)), strlen(path)));
    if (strcmp(target, path)) { /* a link: its own folder does not matter */
        *(char *)name_after_slash(target) = 0;
        if (eaccess(*target ? target : ".", W_OK | X_OK)) TRY(fail_write(err, path, errno));
    }
done:
    free(part);
    free(target);
    return st;
}

static ts_status open_part(ts_err *err, ts_newfile *f)
{
    int why = 0;
    for (int i = 0; i < MAX_TRIES; i++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            return ts_fail(err, TS_EDEVICE, "%s: no random name from the system: %s", f->path,
                           strerror(errno));
        char *part = name_part(f->path, random);
        if (!part) return ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", f->path);
        f->fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd >= 0) {
            f->part = part;
            /* writable by the owner, until it is kept */
            if (f->mode >= 0) fchmod(f->fd, (mode_t)f->mode | S_IRUSR | S_IWUSR);
            return TS_OK;
        }
        why = errno;
        free(part);
        if (why != EEXIST) break;
    }
    return fail_write(err, f->path, why);
}

static ts_status open_direct(ts_err *err, ts_newfile *f)
{
    f->direct = true;
    f->fd = open(f->path, O_WRONLY | O_CLOEXEC);
    if (f->fd < 0) return fail_write(err, f->path, errno);
    f->part = strdup(f->path);
    if (f->part) return TS_OK;
    close(f->fd);
    return ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", f->path);
}

ts_status ts_newfile_open(ts_err *err, const char *path, bool replace, ts_newfile *out)
{
    ts_status st = TS_OK;
    struct stat s;
    *out = (ts_newfile){.fd = -1, .mode = -1, .replace = replace};
    out->path = replace ? resolve_link(path) : strdup(path);
    if (!out->path && errno == ELOOP) return fail_write(err, path, ELOOP);
    if (!out->path) return ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", path);
    if (replace && stat(path, &s) == 0 && S_ISREG(s.st_mode)) out->mode = s.st_mode & 0777;
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode))
        TRY(fail_write(err, path, EISDIR));
    else if (stat(path, &s) == 0 && !S_ISREG(s.st_mode))
        TRY(open_direct(err, out));
    else if (!replace && lstat(path, &s) == 0)
        TRY(fail_taken(err, path));
    else
        TRY(open_part(err, out));
done:
    if (st) ts_newfile_drop(out);
    return st;
}

static bool write_bytes(ts_newfile *f, const char *bytes, size_t n)
{
    while (n && !f->why) {
        ssize_t k = write(f->fd, bytes, n < WRITE_AT_ONCE ? n : WRITE_AT_ONCE);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            f->why = k < 0 ? errno : EIO;
            break;
        }
        bytes += k;
        n -= (size_t)k;
    }
    return !f->why;
}

ts_status ts_newfile_write(ts_err *err, ts_newfile *f, const void *bytes, size_t n)
{
    return write_bytes(f, bytes, n) ? TS_OK : fail_write(err, f->path, f->why);
}

static ssize_t write_stream(void *file, const char *bytes, size_t n)
{
    return write_bytes(file, bytes, n) ? (ssize_t)n : 0;
}

ts_status ts_newfile_stream(ts_err *err, ts_newfile *f, FILE **out)
{
    *out = f->stream = fopencookie(f, "w", (cookie_io_functions_t){.write = write_stream});
    return *out ? TS_OK : ts_fail(err, TS_EMEMORY, "%s: no memory to write it", f->path);
}

/* A full disk or quota may show only here. Some kinds of file have nothing to bring to a disk. */
static void sync_file(ts_newfile *f)
{
    if (fsync(f->fd) && errno != EINVAL && errno != ENOTSUP && errno != EROFS) f->why = errno;
}

void ts_sync_folder_of(const char *path)
{
    const char *base = name_after_slash(path);
    char *folder = base == path ? strdup(".") : strndup(path, (size_t)(base - path));
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

/* As the file is that this one replaces; an owner can be given by root alone. */
static void keep_owner(ts_newfile *f)
{
    struct stat s;
    if (f->mode < 0 || stat(f->path, &s)) return;
    if ((s.st_uid != geteuid() || s.st_gid != getegid()) && fchown(f->fd, s.st_uid, s.st_gid))
        errno = 0; /* it is the writer's then */
    fchmod(f->fd, (mode_t)f->mode);
}

static void close_part(ts_newfile *f)
{
    if (f->stream) fclose(f->stream); /* writes what is left of it: f->why */
    f->stream = NULL;
    if (f->fd >= 0 && close(f->fd) && !f->why) f->why = errno;
    f->fd = -1;
}

ts_status ts_newfile_keep(ts_err *err, ts_newfile *f)
{
    ts_status st = TS_OK;
    if (f->stream && fflush(f->stream) && !f->why) f->why = errno;
    if (!f->direct) keep_owner(f);
    if (!f->why) sync_file(f);
    close_part(f);
    if (f->why) TRY(fail_write(err, f->path, f->why));
    if (f->direct) goto done;
    if (f->replace ? rename(f->part, f->path) : ts_rename_new(f->part, f->path))
        TRY(errno == EEXIST && !f->replace ? fail_taken(err, f->path)
                                           : fail_write(err, f->path, errno));
    ts_sync_folder_of(f->path);
    free(f->part);
    f->part = NULL; /* there is nothing to remove */
done:
    ts_newfile_drop(f);
    return st;
}

void ts_newfile_drop(ts_newfile *f)
{
    if (f->part) close_part(f);
    if (f->part && !f->direct) unlink(f->part);
    free(f->part);
    free(f->path);
    *f = (ts_newfile){.fd = -1};
}

/* Without a rename that refuses. */
static int rename_by_steps(const char *from, const char *to)
{
    struct stat s;
    if (lstat(from, &s)) return -1;
    if (S_ISDIR(s.st_mode)) {
        if (lstat(to, &s) == 0) return errno = EEXIST, -1;
        return rename(from, to);
    }
    if (link(from, to) == 0) return unlink(from);
    if (errno != EPERM && errno != ENOTSUP && errno != ENOSYS) return -1;
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return -1;
    close(fd);
    return rename(from, to);
}

int ts_rename_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) return -1;
    return rename_by_steps(from, to);
}
