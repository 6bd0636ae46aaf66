/* Files beside the output: refused before any work where they can not be written, and whole or not
 * there at all. */
#include "cli/side.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

double ts_side_bytes(const char *path)
{
    struct stat s;
    double sum = 0;
    DIR *d = opendir(path);
    if (!d) return stat(path, &s) ? 0 : (double)s.st_size;
    for (struct dirent *e; (e = readdir(d));)
        if (fstatat(dirfd(d), e->d_name, &s, 0) == 0 && S_ISREG(s.st_mode))
            sum += (double)s.st_size;
    closedir(d);
    return sum;
}

/* The folder that `path` lies in can be written to. */
static ts_status check_folder_of(ts_err *err, ts_flag_id id, const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX] = ".";
    if (slash)
        snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (access(folder, W_OK | X_OK))
        return ts_fail(err, TS_EIO, "--%s: can not write into %s: %s", ts_flag_name(id), folder,
                       strerror(errno));
    return TS_OK;
}

static ts_status check_name(ts_err *err, ts_flag_id id, const char *path)
{
    ts_err why;
    ts_status st = ts_newfile_check(&why, path);
    return st ? ts_fail(err, st, "--%s: %s", ts_flag_name(id), why.text) : TS_OK;
}

ts_status ts_side_check(ts_err *err, const ts_flags *f, ts_flag_id id, bool may_exist)
{
    ts_status st = TS_OK;
    struct stat s;
    const char *flag = ts_flag_name(id), *path = ts_flag_text(f, id);
    if (!path) return TS_OK;
    TRY(check_name(err, id, path));
    if (stat(path, &s) == 0) {
        if (!S_ISREG(s.st_mode)) TRY(ts_fail(err, TS_EUSAGE, "--%s: %s is not a file", flag, path));
        if (!may_exist && !ts_flag_set(f, TS_F_OVERWRITE))
            TRY(ts_fail(err, TS_EUSAGE, "--%s: %s exists: --overwrite replaces it", flag, path));
    }
    TRY(check_folder_of(err, id, path));
done:
    return st;
}

ts_status ts_side_check_folder(ts_err *err, ts_flag_id id, const char *folder)
{
    struct stat s;
    ts_status st = check_name(err, id, folder);
    if (st) return st;
    if (stat(folder, &s)) return check_folder_of(err, id, folder); /* it will be made */
    if (access(folder, W_OK | X_OK))
        return ts_fail(err, TS_EIO, "--%s: can not write into %s: %s", ts_flag_name(id), folder,
                       strerror(errno));
    return TS_OK;
}

ts_status ts_side_open(ts_err *err, const ts_flags *f, ts_flag_id id, bool may_exist,
                       ts_newfile *file, FILE **stream)
{
    ts_err why;
    bool replace = may_exist || ts_flag_set(f, TS_F_OVERWRITE);
    ts_status st = ts_newfile_open(&why, ts_flag_text(f, id), replace, file);
    if (!st) st = ts_newfile_stream(&why, file, stream);
    return st ? ts_fail(err, st, "--%s: %s", ts_flag_name(id), why.text) : TS_OK;
}

ts_status ts_side_keep(ts_err *err, ts_flag_id id, ts_newfile *file)
{
    ts_err why;
    ts_status st = ts_newfile_keep(&why, file);
    return st ? ts_fail(err, st, "--%s: %s", ts_flag_name(id), why.text) : TS_OK;
}

ts_status ts_side_write(ts_err *err, const ts_flags *f, ts_flag_id id, const char *text, size_t n)
{
    ts_status st = TS_OK;
    ts_newfile file = {0};
    FILE *stream;
    TRY(ts_side_open(err, f, id, false, &file, &stream));
    fwrite(text, 1, n, stream);
    fputc('\n', stream);
    TRY(ts_side_keep(err, id, &file));
done:
    ts_newfile_drop(&file);
    return st;
}
