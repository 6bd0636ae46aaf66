/* JSON files as checkpoints have them, and tables that say what a class understands of its config.
 *
 * Python writes NaN, Infinity and -Infinity, which JSON has not: outside of strings they are
 * rewritten to null before cJSON sees them. */
#include "weights/config.h"

#include "weights/file.h"

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON = 1 << 29 };

/* Copies JSON and writes null for the three literals, until `limit` bytes are out. Returns how much
 * of the input that took: faults are found in the copy and told in the input. */
static size_t copy_without_literals(const char *in, size_t n, char *out, size_t limit, size_t *made)
{
    static const char *const literal[] = {"-Infinity", "Infinity", "NaN"};
    size_t i = 0, o = 0;
    bool string = false;
    while (i < n && o < limit) {
        char c = in[i];
        size_t skip = 0;
        for (int k = 0; !string && (c == '-' || c == 'I' || c == 'N') && !skip && k < 3; k++)
            if (n - i >= strlen(literal[k]) && !strncmp(in + i, literal[k], strlen(literal[k])))
                skip = strlen(literal[k]);
        if (skip) {
            for (int k = 0; k < 4; k++, o++)
                if (out) out[o] = "null"[k];
            i += skip;
            continue;
        }
        if (c == '"') string = !string;
        bool pair = string && c == '\\' && i + 1 < n;
        for (int k = 0; k < 1 + pair; k++, i++, o++)
            if (out) out[o] = in[i];
    }
    *made = o;
    return i;
}

ts_status ts_json_load(ts_err *err, const char *path, cJSON **out)
{
    ts_status st;
    uint8_t *data = NULL;
    char *copy = NULL;
    const char *end = NULL;
    size_t n = 0, made;
    *out = NULL;
    TRY(ts_file_read(err, path, MAX_JSON, "JSON", &data, &n));
    const char *text = (const char *)data;
    if (!(copy = malloc(n + n / 3 + 8))) { /* "NaN" grows by a third */
        st = ts_fail(err, TS_EMEMORY, "%s: out of memory", path);
        goto done;
    }
    copy_without_literals(text, n, copy, SIZE_MAX, &made);
    copy[made] = 0;
    *out = cJSON_ParseWithLengthOpts(copy, made + 1, &end, 1);
    if (!*out) {
        size_t at = end ? copy_without_literals(text, n, NULL, (size_t)(end - copy), &made) : 0;
        int line = 1, column = 1;
        for (size_t i = 0; i < at && i < n; i++) {
            if (text[i] == '\n') {
                line++;
                column = 1;
            } else
                column++;
        }
        st = ts_fail(err, TS_EMODEL, "%s:%d:%d: not valid JSON%s", path, line, column,
                     at >= n ? " (the file ends too early)" : "");
    }
done:
    free(copy);
    free(data);
    return st;
}

/* ---- tables ---- */

typedef struct {
    ts_ctx *ctx;
    const char *path;
} reader;

/* "file: "key" is VALUE: WANTED" */
static ts_status refuse_config_key(const reader *r, const cJSON *j, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static ts_status refuse_config_key(const reader *r, const cJSON *j, const char *format, ...)
{
    char wanted[200];
    va_list ap;
    va_start(ap, format);
    vsnprintf(wanted, sizeof wanted, format, ap);
    va_end(ap);
    char *value = cJSON_PrintUnformatted(j);
    ts_status st = ts_fail(&r->ctx->err, TS_EMODEL, "%s: \"%s\" is %.80s, %s", r->path, j->string,
                           value ? value : "?", wanted);
    free(value);
    return st;
}

static bool get_int(const cJSON *j, int *out)
{
    if (!cJSON_IsNumber(j) || j->valuedouble != floor(j->valuedouble) ||
        fabs(j->valuedouble) > INT_MAX)
        return false;
    *out = (int)j->valuedouble;
    return true;
}

static ts_status read_list(const reader *r, const cJSON *j, const ts_key *k)
{
    bool ints = k->kind == TS_KEY_INTS;
    const char *what = ints ? "whole numbers" : "numbers";
    const cJSON *item;
    int n = cJSON_IsArray(j) ? cJSON_GetArraySize(j) : -1, i = 0;
    if (n < 0 || n > k->n || (!k->count && n != k->n))
        return refuse_config_key(r, j, "expected a list of %s%d %s", k->count ? "up to " : "", k->n,
                                 what);
    cJSON_ArrayForEach(item, j)
    {
        int v = 0;
        if (ints ? !get_int(item, &v) : !cJSON_IsNumber(item))
            return refuse_config_key(r, j, "expected a list of %s", what);
        if (ints)
            ((int *)k->out)[i++] = v;
        else
            ((float *)k->out)[i++] = (float)item->valuedouble;
    }
    if (k->count) *k->count = n;
    return TS_OK;
}

static ts_status check_only_values(const reader *r, const cJSON *j, const ts_key *k)
{
    for (const char *p = k->only; p && *p;) {
        const char *end = NULL;
        cJSON *accepted = cJSON_ParseWithOpts(p, &end, 0);
        bool same = cJSON_Compare(accepted, j, 1);
        cJSON_Delete(accepted);
        if (same) return TS_OK;
        p = end && *end == '|' ? end + 1 : NULL;
    }
    return refuse_config_key(r, j, "supported: %s", k->only);
}

static ts_status read_key(const reader *r, const cJSON *j, const ts_key *k)
{
    int v;
    if (k->kind == TS_KEY_IGNORE) return TS_OK;
    if (k->kind == TS_KEY_ONLY) return check_only_values(r, j, k);
    if (cJSON_IsNull(j)) return TS_OK;
    switch (k->kind) {
    case TS_KEY_INT:
        if (!get_int(j, &v)) return refuse_config_key(r, j, "expected a whole number");
        *(int *)k->out = v;
        return TS_OK;
    case TS_KEY_FLOAT:
        if (!cJSON_IsNumber(j)) return refuse_config_key(r, j, "expected a number");
        *(double *)k->out = j->valuedouble;
        return TS_OK;
    case TS_KEY_BOOL:
        if (!cJSON_IsBool(j)) return refuse_config_key(r, j, "expected true or false");
        *(bool *)k->out = cJSON_IsTrue(j);
        return TS_OK;
    case TS_KEY_STRING:
        if (!cJSON_IsString(j) || strlen(j->valuestring) > 63)
            return refuse_config_key(r, j, "expected a text of up to 63 bytes");
        memcpy(k->out, j->valuestring, strlen(j->valuestring) + 1);
        return TS_OK;
    default: return read_list(r, j, k);
    }
}

ts_status ts_config_read(ts_ctx *ctx, const cJSON *config, const char *path, const ts_key *keys,
                         int n)
{
    reader r = {ctx, path};
    const cJSON *j;
    if (!cJSON_IsObject(config))
        return ts_fail(&ctx->err, TS_EMODEL, "%s: expected a JSON object", path);
    cJSON_ArrayForEach(j, config)
    {
        int i = 0;
        if (j->string[0] == '_') continue;
        while (i < n && strcmp(keys[i].key, j->string)) i++;
        if (i == n) {
            char *value = cJSON_PrintUnformatted(j);
            ts_warn(ctx, "%s: \"%s\": %.60s is not known here and ignored", path, j->string,
                    value ? value : "?");
            free(value);
            continue;
        }
        ts_status st = read_key(&r, j, keys + i);
        if (st != TS_OK) return st;
    }
    return TS_OK;
}

ts_status ts_config_ranges(ts_ctx *ctx, const char *path, const ts_range *range, int n)
{
    for (int i = 0; i < n; i++)
        if (range[i].got < range[i].least || range[i].got > range[i].most)
            return ts_fail(&ctx->err, TS_EMODEL, "%s: \"%s\" is %ld, expected %ld to %ld", path,
                           range[i].key, range[i].got, range[i].least, range[i].most);
    return TS_OK;
}
