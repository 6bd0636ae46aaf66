/* A whole file in memory. */
#include "weights/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

ts_status ts_file_read(ts_err *err, const char *path, long most, const char *what, uint8_t **data,
                       size_t *size)
{
    ts_status st = TS_OK;
    struct stat info;
    FILE *f = fopen(path, "rbe");
    *data = NULL;
    if (!f) return ts_fail(err, TS_EMODEL, "%s: %s", path, strerror(errno));
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
done:
    fclose(f);
    if (st) {
        free(*data);
        *data = NULL;
    }
    return st;
}
