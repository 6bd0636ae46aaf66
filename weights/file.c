/* A whole file in memory. */
#include "weights/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

ts_status ts_file_refuse_pointer(ts_err *err, const char *path, const void *bytes, size_t n)
{
    static const char begin[] = "version https://git-";
    if (n < sizeof begin - 1 || memcmp(bytes, begin, sizeof begin - 1) != 0) return TS_OK;
    return ts_fail(err, TS_EMODEL,
                   "%s is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
                   path);
}

ts_status ts_file_refuse_open(ts_err *err, const char *path, int code)
{
    char target[PATH_MAX];
    ssize_t n = code == ENOENT ? readlink(path, target, sizeof target - 1) : -1;
    if (n < 0) return ts_fail(err, TS_EMODEL, "%s: %s", path, strerror(code));
    target[n] = 0;
    return ts_fail(
        err, TS_EMODEL,
        "%s is a link to %s, which is not there: the download is incomplete, run it again", path,
        target);
}

ts_status ts_file_map(ts_err *err, const char *path, const char *kind, const void **map,
                      size_t *size)
{
    ts_status st = TS_OK;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *map = NULL;
    if (fd < 0 || fstat(fd, &info))
        TRY(ts_file_refuse_open(err, path, errno));
    else if (!S_ISREG(info.st_mode))
        TRY(ts_fail(err, TS_EMODEL, "%s is not a file", path));
    else if (info.st_size < 8)
        TRY(ts_fail(err, TS_EMODEL, "%s: a file of %lld bytes is no %s file", path,
                    (long long)info.st_size, kind));
    *size = (size_t)info.st_size;
    void *p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        TRY(ts_fail(err, errno == ENOMEM ? TS_EMEMORY : TS_EMODEL, "%s: can not map %zu bytes: %s",
                    path, *size, strerror(errno)));
    *map = p;
done:
    if (fd >= 0) close(fd);
    return st;
}

ts_status ts_file_read(ts_err *err, const char *path, long most, const char *what, uint8_t **data,
                       size_t *size)
{
    ts_status st = TS_OK;
    struct stat info;
    FILE *f = fopen(path, "rbe");
    *data = NULL;
    if (!f) return ts_file_refuse_open(err, path, errno);
    if (fstat(fileno(f), &info) || !S_ISREG(info.st_mode))
        TRY(ts_fail(err, TS_EMODEL, "%s is not a file", path));
    if (info.st_size > most)
        TRY(ts_fail(err, TS_EMODEL, "%s: %lld bytes are too many for %s", path,
                    (long long)info.st_size, what));
    *size = (size_t)info.st_size;
    *data = malloc(*size + 1);
    if (!*data) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for %zu bytes", path, *size));
    if (fread(*data, 1, *size, f) != *size)
        TRY(ts_fail(err, TS_EMODEL, "%s: %s", path,
                    ferror(f) ? strerror(errno) : "it became shorter while it was read"));
    (*data)[*size] = 0;
    TRY(ts_file_refuse_pointer(err, path, *data, *size));
done:
    fclose(f);
    if (st) {
        free(*data);
        *data = NULL;
    }
    return st;
}
