/* Files beside the output: refused before any work where they can not be written, and whole or not
 * there at all. */
#include "cli/side.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ts_status ts_side_check(ts_err *err, const ts_flags *f, ts_flag_id id, bool may_exist)
{
    struct stat s;
    const char *flag = ts_flag_name(id), *path = ts_flag_text(f, id),
               *slash = path ? strrchr(path, '/') : NULL;
    char folder[PATH_MAX] = ".";
    if (!path) return TS_OK;
    if (slash)
        snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (stat(path, &s) == 0) {
        if (!S_ISREG(s.st_mode))
            return ts_fail(err, TS_EUSAGE, "--%s: %s is not a file", flag, path);
        if (!may_exist && !ts_flag_set(f, TS_F_OVERWRITE))
            return ts_fail(err, TS_EUSAGE, "--%s: %s exists: --overwrite replaces it", flag, path);
    }
    if (access(folder, W_OK | X_OK))
        return ts_fail(err, TS_EIO, "--%s: can not write into %s: %s", flag, folder,
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
