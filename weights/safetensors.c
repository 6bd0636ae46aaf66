/* Maps a safetensors file and checks every claim of its header before any is followed.
 *
 *   u64 little-endian n | n bytes of JSON, padded with spaces | tensor bytes
 *   {"NAME": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ..., "__metadata__":
 *   {"key": "value"}}
 *
 * Offsets count from the end of the header; tensors leave no byte of the data out. Which files
 * belong together is the business of checkpoint.c. */
#include "weights/safetensors.h"

#include "weights/file.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_HEADER = 100 << 20 }; /* what the reference implementation accepts */

/* A number of the header: a whole number that a double holds exactly. */
static bool read_whole(const cJSON *j, uint64_t *out)
{
    if (!cJSON_IsNumber(j)) return false;
    double v = j->valuedouble;
    if (!(v >= 0 && v < 9007199254740992.0) || v != floor(v)) return false;
    *out = (uint64_t)v;
    return true;
}

/* Reads the shape: false where the JSON is no list of whole numbers or the element count overflows.
 * More than 5 dimensions leave *nd at their number. */
static bool read_shape(const cJSON *shape, int *nd, long dim[5], uint64_t *count)
{
    const cJSON *j;
    bool zero = false;
    *nd = 0;
    *count = 1;
    if (!cJSON_IsArray(shape)) return false;
    cJSON_ArrayForEach(j, shape)
    {
        uint64_t d;
        if (!read_whole(j, &d)) return false;
        if (*nd < 5) dim[*nd] = (long)d;
        (*nd)++;
        if (d == 0)
            zero = true;
        else if (__builtin_mul_overflow(*count, d, count) || *count > INT64_MAX)
            return false;
    }
    if (zero) *count = 0;
    return true;
}

static bool find_type(const char *name, ts_dtype *type)
{
    for (int i = 0; i < TS_DTYPES; i++)
        if (!strcmp(name, ts_dtype_name((ts_dtype)i))) return *type = (ts_dtype)i, true;
    return false;
}

/* Types of one byte that no tensor of ours has: for a source to decode. NULL: it is none. */
static const char *find_fp8(const char *name)
{
    static const char *const fp8[] = {TS_STORED_E4M3, TS_STORED_E5M2};
    for (size_t i = 0; i < sizeof fp8 / sizeof *fp8; i++)
        if (!strcmp(name, fp8[i])) return fp8[i];
    return NULL;
}

static ts_status read_entry(ts_err *err, const ts_safetensors *s, const cJSON *j, size_t data,
                            ts_entry *e)
{
    const char *name = j->string ? j->string : "";
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(j, "dtype"),
                *shape = cJSON_GetObjectItemCaseSensitive(j, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(j, "data_offsets");
    uint64_t begin, end, count, size = s->size - data;
    int nd;
    if (!(e->name = strdup(name)))
        return ts_fail(err, TS_EMEMORY, "%s: out of memory for the header", s->path);
    if (!cJSON_IsObject(j) || !cJSON_IsString(dtype) || !shape || cJSON_GetArraySize(offsets) != 2)
        return ts_fail(
            err, TS_EMODEL,
            "%s: tensor \"%s\": expected an object with dtype, shape and two data_offsets", s->path,
            name);
    if (!read_whole(cJSON_GetArrayItem(offsets, 0), &begin) ||
        !read_whole(cJSON_GetArrayItem(offsets, 1), &end) || begin > end)
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\": data_offsets are no range", s->path,
                       name);
    if (end > size)
        return ts_fail(err, TS_EMODEL,
                       "%s: tensor \"%s\" ends at byte %llu of the data, but the file holds %llu: "
                       "it is cut off or damaged",
                       s->path, name, (unsigned long long)end, (unsigned long long)size);
    if (!read_shape(shape, &nd, e->t.dim, &count))
        return ts_fail(
            err, TS_EMODEL,
            "%s: tensor \"%s\": the shape is no list of sizes that fit in 63 bits together",
            s->path, name);
    e->t.data = e->at = (const char *)s->map + data + begin;
    e->bytes = end - begin;
    e->t.nd = nd;
    bool known = find_type(dtype->valuestring, &e->t.type);
    const char *fp8 = find_fp8(dtype->valuestring);
    uint64_t bytes;
    if (fp8) e->t.type = TS_U8;
    if ((known || fp8) &&
        (__builtin_mul_overflow(count, ts_dtype_size(e->t.type), &bytes) || bytes != e->bytes)) {
        char text[96];
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\": %s %s does not take %llu bytes", s->path,
                       name, dtype->valuestring, ts_shape_text(nd < 5 ? nd : 5, e->t.dim, text),
                       (unsigned long long)e->bytes);
    }
    int made = 0;
    if (!known)
        made = asprintf(&e->odd, "type %.20s", dtype->valuestring);
    else if (nd > 5)
        made = asprintf(&e->odd, "%d dimensions", nd);
    if (made < 0)
        return e->odd = NULL, ts_fail(err, TS_EMEMORY, "%s: out of memory for the header", s->path);
    if (e->odd) e->t.type = TS_U8;
    if (e->odd && (nd > 5 || !fp8)) e->t.nd = 0;
    e->storage = fp8 ? fp8 : ts_dtype_name(e->t.type);
    return TS_OK;
}

static ts_status read_meta(ts_err *err, ts_safetensors *s, const cJSON *meta)
{
    const cJSON *j;
    int n = cJSON_GetArraySize(meta);
    if (n == 0) return TS_OK;
    if (!(s->meta = calloc((size_t)n, sizeof *s->meta))) goto memory;
    cJSON_ArrayForEach(j, meta)
    {
        if (!cJSON_IsString(j) || !j->string) continue;
        ts_meta *m = s->meta + s->metas++;
        if (!(m->key = strdup(j->string)) || !(m->value = strdup(j->valuestring))) goto memory;
    }
    return TS_OK;
memory:
    return ts_fail(err, TS_EMEMORY, "%s: out of memory for the header", s->path);
}

static int compare_entry_names(const void *a, const void *b)
{
    return strcmp(((const ts_entry *)a)->name, ((const ts_entry *)b)->name);
}

static int compare_entry_places(const void *a, const void *b)
{
    const ts_entry *x = *(const ts_entry *const *)a, *y = *(const ts_entry *const *)b;
    const char *p = x->t.data, *q = y->t.data;
    return p < q ? -1 : p > q ? 1 : x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Names are unique, and the tensors fill the data from the first byte to the last, as the reference
 * implementation demands: a hole or a rest is a file that something went wrong with. */
static ts_status check_names_and_places(ts_err *err, ts_safetensors *s, size_t data)
{
    ts_status st = TS_OK;
    const char *start = (const char *)s->map + data, *all = (const char *)s->map + s->size,
               *at = start;
    qsort(s->entry, (size_t)s->entries, sizeof *s->entry, compare_entry_names);
    for (int i = 1; i < s->entries; i++)
        if (!strcmp(s->entry[i - 1].name, s->entry[i].name))
            return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\" appears twice", s->path,
                           s->entry[i].name);
    const ts_entry **place = malloc((size_t)s->entries * sizeof *place + 1);
    if (!place) return ts_fail(err, TS_EMEMORY, "%s: out of memory for the header", s->path);
    for (int i = 0; i < s->entries; i++) place[i] = s->entry + i;
    qsort(place, (size_t)s->entries, sizeof *place, compare_entry_places);
    const ts_entry *last = NULL;
    for (int i = 0; i < s->entries && st == TS_OK; i++) {
        if (place[i]->bytes == 0) continue;
        const char *p = place[i]->t.data;
        if (last && p < at)
            st = ts_fail(err, TS_EMODEL, "%s: tensors \"%s\" and \"%s\" overlap", s->path,
                         last->name, place[i]->name);
        else if (p > at)
            st = ts_fail(err, TS_EMODEL,
                         "%s: bytes %td to %td of the data, before tensor \"%s\", belong to no "
                         "tensor: it is damaged",
                         s->path, at - start, p - start, place[i]->name);
        at = p + place[i]->bytes;
        last = place[i];
    }
    free(place);
    if (!st && at != all)
        st = ts_fail(err, TS_EMODEL,
                     "%s: %td bytes follow the last tensor: it is damaged, or two files in one",
                     s->path, all - at);
    return st;
}

/* The header as JSON. cJSON may look one byte past an unterminated text, hence the copy. */
static ts_status parse_header(ts_err *err, const ts_safetensors *s, uint64_t n, cJSON **header)
{
    ts_status st = TS_OK;
    const char *end = NULL;
    char *text = malloc(n + 1);
    if (!text)
        return ts_fail(err, TS_EMEMORY, "%s: out of memory for a header of %llu bytes", s->path,
                       (unsigned long long)n);
    memcpy(text, (const char *)s->map + 8, n);
    text[n] = 0;
    *header = text[0] == '{' ? cJSON_ParseWithLengthOpts(text, n + 1, &end, 1) : NULL;
    if (!cJSON_IsObject(*header))
        st = ts_fail(
            err, TS_EMODEL,
            "%s: the header is not JSON (at byte %td of it): no safetensors file, or damaged",
            s->path, end ? end - text : 0);
    free(text);
    return st;
}

static ts_status read_json_header(ts_err *err, ts_safetensors *s)
{
    ts_status st;
    cJSON *header = NULL, *j;
    const uint8_t *b = s->map;
    uint64_t n = 0;
    for (int i = 0; i < 8; i++) n |= (uint64_t)b[i] << 8 * i;
    st = ts_file_refuse_pointer(err, s->path, b, s->size);
    if (st) return st;
    if (n < 2 || n > MAX_HEADER || n > s->size - 8)
        return ts_fail(
            err, TS_EMODEL,
            "%s: claims a header of %llu bytes in a file of %zu: no safetensors file, or cut off",
            s->path, (unsigned long long)n, s->size);
    TRY(parse_header(err, s, n, &header));
    if (!(s->entry = calloc((size_t)cJSON_GetArraySize(header) + 1, sizeof *s->entry))) {
        st = ts_fail(err, TS_EMEMORY, "%s: out of memory for the header", s->path);
        goto done;
    }
    cJSON_ArrayForEach(j, header)
    {
        if (j->string && !strcmp(j->string, "__metadata__")) {
            if (!s->meta) TRY(read_meta(err, s, j));
            continue;
        }
        TRY(read_entry(err, s, j, 8 + n, s->entry + s->entries++));
    }
    TRY(check_names_and_places(err, s, 8 + n));
done:
    cJSON_Delete(header);
    return st;
}

ts_status ts_safetensors_open(ts_err *err, const char *path, ts_safetensors *out)
{
    ts_status st = TS_OK;
    memset(out, 0, sizeof *out);
    if (!(out->path = strdup(path))) return ts_fail(err, TS_EMEMORY, "%s: out of memory", path);
    TRY(ts_file_map(err, path, "safetensors", &out->map, &out->size));
    TRY(read_json_header(err, out));
done:
    if (st != TS_OK) ts_safetensors_close(out);
    return st;
}

void ts_safetensors_close(ts_safetensors *s)
{
    for (int i = 0; i < s->entries; i++) {
        free(s->entry[i].name);
        free(s->entry[i].odd);
    }
    for (int i = 0; i < s->metas; i++) {
        free(s->meta[i].key);
        free(s->meta[i].value);
    }
    free(s->entry);
    free(s->meta);
    if (s->map) munmap((void *)(uintptr_t)s->map, s->size);
    free(s->path);
    memset(s, 0, sizeof *s);
}

const ts_entry *ts_safetensors_find(const ts_safetensors *s, const char *name)
{
    ts_entry key = {.name = (char *)name};
    return s->entries ? bsearch(&key, s->entry, (size_t)s->entries, sizeof key, compare_entry_names)
                      : NULL;
}
