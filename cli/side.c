/* Files beside the output: refused before any work where they can not be written, and whole or not
 * there at all. */
#include "cli/side.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ts_status ts_side_check(ts_cli *c, ts_flag_id id, bool may_exist)
{
    struct stat s;
    const char *flag = ts_flag_name(id), *path = ts_cli_text(c, id),
               *slash = path ? strrchr(path, '/') : NULL;
    char folder[PATH_MAX] = ".";
    if (!path) return TS_OK;
    if (slash)
        snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (stat(path, &s) == 0) {
        if (!S_ISREG(s.st_mode))
            return ts_cli_fail(c, TS_EUSAGE, "--%s: %s is not a file", flag, path);
        if (!may_exist && !ts_cli_set(c, TS_F_OVERWRITE))
            return ts_cli_fail(c, TS_EUSAGE, "--%s: %s exists: --overwrite replaces it", flag,
                               path);
    }
    if (access(folder, W_OK | X_OK))
        return ts_cli_fail(c, TS_EIO, "--%s: can not write into %s: %s", flag, folder,
                           strerror(errno));
    return TS_OK;
}

ts_status ts_side_open(ts_cli *c, ts_flag_id id, bool may_exist, ts_newfile *f, FILE **stream)
{
    ts_err err;
    ts_status st = ts_newfile_open(&err, ts_cli_text(c, id),
                                   may_exist || ts_cli_set(c, TS_F_OVERWRITE), f);
    if (!st) st = ts_newfile_stream(&err, f, stream);
    return st ? ts_cli_fail(c, st, "--%s: %s", ts_flag_name(id), err.text) : TS_OK;
}

ts_status ts_side_keep(ts_cli *c, ts_flag_id id, ts_newfile *f)
{
    ts_err err;
    ts_status st = ts_newfile_keep(&err, f);
    return st ? ts_cli_fail(c, st, "--%s: %s", ts_flag_name(id), err.text) : TS_OK;
}

ts_status ts_side_write(ts_cli *c, ts_flag_id id, const char *text, size_t n)
{
    ts_status st = TS_OK;
    ts_newfile f = {0};
    FILE *stream;
    TRY(ts_side_open(c, id, false, &f, &stream));
    fwrite(text, 1, n, stream);
    fputc('\n', stream);
    TRY(ts_side_keep(c, id, &f));
done:
    ts_newfile_drop(&f);
    return st;
}
