/* Names of parts: a dash, digits, "-of-", as many digits, a dot. */
#include "weights/split.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DIGITS = 6 };
static const char OF[] = "-of-";

static int count_digits(const char *s)
{
    int n = 0;
    while (isdigit((unsigned char)s[n])) n++;
    return n;
}

bool ts_split_read(const char *path, ts_split *out)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    *out = (ts_split){.path = path, .part = 1, .parts = 1};
    for (const char *s = strchr(name, '-'); s; s = strchr(s + 1, '-')) {
        int n = count_digits(s + 1);
        const char *of = s + 1 + n, *after = of + sizeof OF - 1;
        if (n == 0 || n > MOST_DIGITS || strncmp(of, OF, sizeof OF - 1) != 0 ||
            count_digits(after) != n || after[n] != '.')
            continue;
        int part = atoi(s + 1), parts = atoi(after);
        if (part < 1 || part > parts) continue;
        *out = (ts_split){path, (size_t)(s + 1 - path), n, part, parts};
        return true;
    }
    return false;
}

char *ts_split_path(const ts_split *s, int part)
{
    char *path;
    if (s->parts < 2) return strdup(s->path);
    return asprintf(&path, "%.*s%0*d%s", (int)s->at, s->path, s->digits, part,
                    s->path + s->at + s->digits) < 0
               ? NULL
               : path;
}

char *ts_split_index(const ts_split *s)
{
    char *path;
    const char *end = s->path + s->at + 2 * (size_t)s->digits + sizeof OF - 1;
    return asprintf(&path, "%.*s%s.index.json", (int)s->at - 1, s->path, end) < 0 ? NULL : path;
}
