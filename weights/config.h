/* JSON as checkpoints have it (also Infinity and NaN literals), and component configs. */
#ifndef TS_CONFIG_H
#define TS_CONFIG_H
#include "backend/ctx.h"

#include <cjson/cJSON.h>

/* Reads and parses a file. TS_EMODEL: missing, or line and column of the fault. Literals NaN,
 * Infinity and -Infinity become null. *out: for cJSON_Delete. */
ts_status ts_json_load(ts_err *, const char *path, cJSON **);

/* A key of the configs that shapes tell: what they do not tell of it, for a sentence. */
#define TS_UNTOLD "_untold"

/* A table of what a class understands. Keys starting with '_' are no parameters. A key that the
 * file has and the table has not is a warning; a key of a wrong type or a fixed value that differs
 * is TS_EMODEL, naming file, key, value and what is supported. */
typedef enum {
    TS_KEY_INT,
    TS_KEY_FLOAT,
    TS_KEY_BOOL,
    TS_KEY_STRING,
    TS_KEY_INTS,
    TS_KEY_FLOATS,
    TS_KEY_ONLY,
    TS_KEY_IGNORE
} ts_key_kind;
typedef struct {
    const char *key;
    ts_key_kind kind;
    /* int, double, bool, char[64], int[n], float[n] (longer lists are refused); keeps its default
     * (and *count) when the key is missing or null */
    void *out;
    /* lists: capacity and the length found; count NULL: the list has exactly n */
    int n, *count;
    /* ONLY: the accepted values as JSON texts separated by '|', for instance "true|null" or
     * "\"gated-gelu\"|\"relu\""; a missing key is accepted */
    const char *only;
} ts_key;
/* Rows of the two kinds that need no place to write to. */
#define TS_ONLY(key, values)                    \
    {                                           \
        key, TS_KEY_ONLY, NULL, 0, NULL, values \
    }
#define TS_IGNORED(key)                         \
    {                                           \
        key, TS_KEY_IGNORE, NULL, 0, NULL, NULL \
    }
ts_status ts_config_read(ts_ctx *, const cJSON *, const char *path, const ts_key *, int n);
/* What a number of a config was read as, and its limits, both of which it may have. */
typedef struct {
    const char *key;
    long got, least, most;
} ts_range;
/* TS_EMODEL names the first number outside of its limits. */
ts_status ts_config_ranges(ts_ctx *, const char *path, const ts_range *, int n);
#endif
