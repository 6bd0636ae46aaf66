/* How a name ends. */
#ifndef TS_SUFFIX_H
#define TS_SUFFIX_H
#include <stdbool.h>
#include <string.h>

static inline bool ts_ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !memcmp(text + n - m, end, m);
}
#endif
