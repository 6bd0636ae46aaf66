/* A bag: named host tensors and metadata, kept in order of name, and its way to and from
 * safetensors files (safetensors.c reads them).
 *
 * In a file wider types come first, then names in order: everything is aligned and the bytes depend
 * on nothing but the content. */
#include "weights/bag.h"

#include "backend/file_new.h"
#include "weights/safetensors.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *name;
    ts_host t;
    void *data;
    size_t bytes;
} item;
struct ts_bag {
    item *item;
    int n, room;
    ts_meta *meta;
    int metas;
    bool lost;  /* there was no memory for metadata: it can not be saved whole */
    char *path; /* of the file it came from; NULL: none */
};

ts_bag *ts_bag_new(void) { return calloc(1, sizeof(ts_bag)); }

void ts_bag_free(ts_bag *b)
{
    if (!b) return;
    for (int i = 0; i < b->n; i++) {
        free(b->item[i].name);
        free(b->item[i].data);
    }
    for (int i = 0; i < b->metas; i++) {
        free(b->meta[i].key);
        free(b->meta[i].value);
    }
    free(b->item);
    free(b->meta);
    free(b->path);
    free(b);
}

/* The place of a name: where it is, or where it would go. */
static int find_place(const ts_bag *b, const char *name, bool *there)
{
    int low = 0, high = b->n;
    while (low < high) {
        int mid = (low + high) / 2, c = strcmp(b->item[mid].name, name);
        if (c == 0) return *there = true, mid;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return *there = false, low;
}

static bool insert_item(ts_bag *b, int at, const char *name)
{
    if (b->n == b->room) {
        int room = b->room ? 2 * b->room : 8;
        item *more = realloc(b->item, (size_t)room * sizeof *more);
        if (!more) return false;
        b->item = more;
        b->room = room;
    }
    char *copy = strdup(name);
    if (!copy) return false;
    memmove(b->item + at + 1, b->item + at, (size_t)(b->n - at) * sizeof *b->item);
    b->item[at] = (item){.name = copy};
    b->n++;
    return true;
}

void *ts_bag_put(ts_bag *b, const char *name, ts_dtype type, int nd, const long *dim,
                 const void *data)
{
    bool there;
    int at = find_place(b, name, &there);
    size_t bytes = ts_dtype_size(type);
    assert(nd >= 0 && nd <= 5);
    for (int i = 0; i < nd; i++) {
        assert(dim[i] >= 0);
        bytes *= (size_t)dim[i];
    }
    void *copy = aligned_alloc(64, (bytes + 64) / 64 * 64); /* one byte at least */
    if (!copy) return NULL;
    if (data)
        memcpy(copy, data, bytes);
    else
        memset(copy, 0, bytes);
    if (!there && !insert_item(b, at, name)) return free(copy), NULL;
    item *t = b->item + at;
    free(t->data);
    t->data = copy;
    t->bytes = bytes;
    t->t = (ts_host){.data = copy, .type = type, .nd = nd};
    for (int i = 0; i < nd; i++) t->t.dim[i] = dim[i];
    return copy;
}

bool ts_bag_has(const ts_bag *b, const char *name)
{
    bool there;
    find_place(b, name, &there);
    return there;
}

int ts_bag_count(const ts_bag *b) { return b->n; }

const char *ts_bag_name(const ts_bag *b, int i)
{
    return i >= 0 && i < b->n ? b->item[i].name : NULL;
}

const ts_host *ts_bag_find(const ts_bag *b, const char *name)
{
    bool there;
    int at = find_place(b, name, &there);
    return there ? &b->item[at].t : NULL;
}

ts_status ts_bag_get(ts_err *err, const ts_bag *b, const char *name, ts_dtype type, int nd,
                     const long *dim, ts_host *out)
{
    bool there;
    int at = find_place(b, name, &there);
    const char *path = b->path ? b->path : "", *colon = b->path ? ": " : "";
    if (!there)
        return ts_fail(err, TS_EMODEL, "%s%sthere is no tensor \"%s\"%s%s%s", path, colon, name,
                       b->n ? " (the first is \"" : "", b->n ? b->item[0].name : "",
                       b->n ? "\")" : "");
    const ts_host *t = &b->item[at].t;
    int more = nd >= 0 && t->nd == nd + 1 && t->dim[0] == 1; /* a batch of one */
    bool same = t->type == type && (nd < 0 || nd + more == t->nd);
    for (int i = 0; same && i < nd; i++) same = dim[i] == -1 || dim[i] == t->dim[i + more];
    if (!same) {
        char got[96], want[96];
        return ts_fail(err, TS_ESHAPE, "%s%stensor \"%s\" is %s %s, expected %s %s", path, colon,
                       name, ts_dtype_name(t->type), ts_shape_text(t->nd, t->dim, got),
                       ts_dtype_name(type), nd < 0 ? "of any shape" : ts_shape_text(nd, dim, want));
    }
    *out = *t;
    out->nd -= more;
    memmove(out->dim, out->dim + more, (size_t)out->nd * sizeof *out->dim);
    return TS_OK;
}

ts_status ts_bag_finite(ts_err *err, const ts_bag *b, const char *name)
{
    ts_host t;
    ts_status st = ts_bag_get(err, b, name, TS_F32, -1, NULL, &t);
    size_t n = 1;
    if (st) return st;
    for (int i = 0; i < t.nd; i++) n *= (size_t)t.dim[i];
    for (size_t i = 0; i < n; i++)
        if (!isfinite(((const float *)t.data)[i]))
            return ts_fail(err, TS_ENUMBER,
                           "%s%stensor \"%s\" holds NaN or infinity at element %zu",
                           b->path ? b->path : "", b->path ? ": " : "", name, i);
    return TS_OK;
}

/* What there was no memory for fails when the bag is saved. */
void ts_bag_meta(ts_bag *b, const char *key, const char *value)
{
    int at = 0;
    while (at < b->metas && strcmp(b->meta[at].key, key) < 0) at++;
    bool there = at < b->metas && !strcmp(b->meta[at].key, key);
    if (there) {
        char *copy = value ? strdup(value) : NULL; /* value may be the old one */
        free(b->meta[at].value);
        b->meta[at].value = copy;
        b->lost = b->lost || (value && !copy);
        if (copy) return;
        free(b->meta[at].key);
        memmove(b->meta + at, b->meta + at + 1, (size_t)(--b->metas - at) * sizeof *b->meta);
        return;
    }
    if (!value) return;
    ts_meta *more = realloc(b->meta, (size_t)(b->metas + 1) * sizeof *more),
            new = {strdup(key), strdup(value)};
    if (more) b->meta = more;
    if (!more || !new.key || !new.value) {
        free(new.key);
        free(new.value);
        b->lost = true;
        return;
    }
    memmove(more + at + 1, more + at, (size_t)(b->metas++ - at) * sizeof *more);
    more[at] = new;
}

const char *ts_bag_meta_get(const ts_bag *b, const char *key)
{
    for (int i = 0; i < b->metas; i++)
        if (!strcmp(b->meta[i].key, key)) return b->meta[i].value;
    return NULL;
}

static int by_width_and_name(const void *a, const void *b)
{
    const item *x = *(const item *const *)a, *y = *(const item *const *)b;
    size_t m = ts_dtype_size(x->t.type), n = ts_dtype_size(y->t.type);
    return m > n ? -1 : m < n ? 1 : strcmp(x->name, y->name);
}

static bool add_entry(cJSON *header, const item *t, double offset)
{
    cJSON *j = cJSON_AddObjectToObject(header, t->name),
          *shape = cJSON_AddArrayToObject(j, "shape"),
          *offsets = cJSON_AddArrayToObject(j, "data_offsets");
    bool ok = cJSON_AddStringToObject(j, "dtype", ts_dtype_name(t->t.type)) && shape && offsets;
    for (int d = 0; ok && d < t->t.nd; d++)
        ok = cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->t.dim[d]));
    return ok && cJSON_AddItemToArray(offsets, cJSON_CreateNumber(offset)) &&
           cJSON_AddItemToArray(offsets, cJSON_CreateNumber(offset + (double)t->bytes));
}

/* The JSON header, padded with spaces to a multiple of 8; NULL: no memory. */
static char *make_header(const ts_bag *b, const item *const *order)
{
    cJSON *header = cJSON_CreateObject(),
          *meta = b->metas ? cJSON_AddObjectToObject(header, "__metadata__") : NULL;
    double offset = 0;
    bool ok = header && !b->lost;
    for (int i = 0; ok && i < b->metas; i++)
        ok = cJSON_AddStringToObject(meta, b->meta[i].key, b->meta[i].value) != NULL;
    for (int i = 0; ok && i < b->n; i++) {
        ok = add_entry(header, order[i], offset);
        offset += (double)order[i]->bytes;
    }
    char *text = ok ? cJSON_PrintUnformatted(header) : NULL, *padded = NULL;
    cJSON_Delete(header);
    if (text && asprintf(&padded, "%s%*s", text, (int)(-strlen(text) & 7), "") < 0) padded = NULL;
    free(text);
    return padded;
}

static ts_status write_bag(ts_err *err, ts_newfile *f, const char *header, const item *const *order,
                           int n)
{
    ts_status st = TS_OK;
    uint8_t size[8];
    for (int i = 0; i < 8; i++) size[i] = (uint8_t)((uint64_t)strlen(header) >> 8 * i);
    TRY(ts_newfile_write(err, f, size, sizeof size));
    TRY(ts_newfile_write(err, f, header, strlen(header)));
    for (int i = 0; i < n; i++) TRY(ts_newfile_write(err, f, order[i]->data, order[i]->bytes));
done:
    return st;
}

static ts_status save_bag(ts_err *err, const ts_bag *b, const char *path, bool replace)
{
    ts_status st = TS_OK;
    ts_newfile f = {0};
    char *header = NULL;
    const item **order = malloc((size_t)b->n * sizeof *order + 1);
    if (!order) TRY(ts_fail(err, TS_EMEMORY, "%s: out of memory", path));
    for (int i = 0; i < b->n; i++) order[i] = b->item + i;
    qsort(order, (size_t)b->n, sizeof *order, by_width_and_name);
    if (!(header = make_header(b, order))) TRY(ts_fail(err, TS_EMEMORY, "%s: out of memory", path));
    TRY(ts_newfile_open(err, path, replace, &f));
    TRY(write_bag(err, &f, header, order, b->n));
    TRY(ts_newfile_keep(err, &f));
done:
    ts_newfile_drop(&f);
    free(header);
    free(order);
    return st;
}

ts_status ts_bag_save(ts_err *err, const ts_bag *b, const char *path)
{
    return save_bag(err, b, path, true);
}

ts_status ts_bag_save_new(ts_err *err, const ts_bag *b, const char *path)
{
    return save_bag(err, b, path, false);
}

ts_status ts_bag_load(ts_err *err, const char *path, ts_bag **out)
{
    ts_status st;
    ts_safetensors s;
    ts_bag *b = NULL;
    *out = NULL;
    TRY(ts_safetensors_open(err, path, &s));
    if (!(b = ts_bag_new()) || !(b->path = strdup(path))) {
        st = ts_fail(err, TS_EMEMORY, "%s: out of memory", path);
        goto done;
    }
    for (int i = 0; i < s.entries; i++) {
        const ts_entry *e = s.entry + i;
        if (e->odd) {
            st = ts_fail(err, TS_EMODEL, "%s: tensor \"%s\": %s is not supported", path, e->name,
                         e->odd);
            goto done;
        }
        bool half = e->t.type == TS_F16 || e->t.type == TS_BF16;
        void *data = ts_bag_put(b, e->name, half ? TS_F32 : e->t.type, e->t.nd, e->t.dim,
                                half ? NULL : e->t.data);
        if (!data) {
            st = ts_fail(err, TS_EMEMORY, "%s: out of memory for tensor \"%s\"", path, e->name);
            goto done;
        }
        if (half) ts_widen(e->t.type, e->t.data, e->bytes / 2, data);
    }
    for (int i = 0; i < s.metas; i++) ts_bag_meta(b, s.meta[i].key, s.meta[i].value);
    if (b->lost) {
        st = ts_fail(err, TS_EMEMORY, "%s: out of memory for its metadata", path);
        goto done;
    }
    *out = b;
    b = NULL;
done:
    ts_safetensors_close(&s);
    ts_bag_free(b);
    return st;
}
