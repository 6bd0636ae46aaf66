/* Maps a GGUF file and checks every claim of its header before any is followed.
 *
 *   "GGUF" | u32 version | u64 tensors | u64 keys
 *   keys x: string key | u32 type | value        array: u32 type of elements | u64 n | elements
 *   tensors x: string name | u32 nd | u64 dim[nd], fastest first | u32 type | u64 offset
 *   zeros up to a multiple of the alignment, then the data, where offsets begin
 *   string: u64 n | n bytes
 *
 * What keys mean is the business of those who ask for them, but for the few that lay out the
 * file. */
#include "weights/gguf.h"

#include "backend/utf8.h"
#include "weights/file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* LEAST: bytes that a key and a tensor take */
enum { MAX_ENTRIES = 1 << 20, MAX_KEY = 1 << 16, MAX_TENSOR_NAME = 255, MAX_ALIGNMENT = 1 << 16 };
enum { HEADER = 24, LEAST_KEY = 13, LEAST_TENSOR = 24 };

struct ts_gguf {
    char *path;
    const uint8_t *map;
    size_t size;
    ts_gguf_value *value; /* sorted by key, all different */
    int values;
    ts_entry *entry; /* sorted by name, all different */
    int entries;
    const ts_block_type **type; /* one an entry, in the order of entries */
    char *warning;
};

/* ---- reading ---- */

/* What is left of the header. */
typedef struct {
    const uint8_t *p, *end;
    bool short_of; /* more was asked for than is left */
} cursor;

static const uint8_t *take_bytes(cursor *c, uint64_t n)
{
    const uint8_t *p = c->p;
    if (c->short_of || n > (uint64_t)(c->end - c->p)) {
        c->short_of = true;
        return NULL;
    }
    c->p += n;
    return p;
}

static uint64_t take_number(cursor *c, size_t bytes)
{
    uint64_t v = 0;
    const uint8_t *p = take_bytes(c, bytes);
    for (size_t i = 0; p && i < bytes; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static ts_status refuse_memory_for_header(ts_err *err, const ts_gguf *g)
{
    return ts_fail(err, TS_EMEMORY, "%s: out of memory for the header", g->path);
}

static ts_status refuse_cut(ts_err *err, const ts_gguf *g, const char *list, long i, long n)
{
    return ts_fail(err, TS_EMODEL,
                   "%s: ends within %s %ld of %ld: it is cut off at %zu bytes, or damaged", g->path,
                   list, i + 1, n, g->size);
}

/* A key or a name: its text, malloc'd. what: "key", "tensor". */
static ts_status read_label(ts_err *err, const ts_gguf *g, cursor *c, const char *what, long i,
                            long of, size_t most, char **out)
{
    uint64_t n = take_number(c, 8);
    const uint8_t *p;
    *out = NULL;
    if (!c->short_of && n > most)
        return ts_fail(err, TS_EMODEL,
                       "%s: %s %ld of %ld has a name of %llu bytes, at most %zu: "
                       "the file is damaged",
                       g->path, what, i + 1, of, (unsigned long long)n, most);
    if (!(p = take_bytes(c, n))) return refuse_cut(err, g, what, i, of);
    char *text = strndup((const char *)p, n), *whole = text ? ts_utf8_repair(text) : NULL;
    bool sound = whole && n && strlen(text) == n && !strcmp(text, whole);
    bool memory = whole != NULL;
    free(whole);
    if (sound) {
        *out = text;
        return TS_OK;
    }
    free(text);
    if (!memory) return refuse_memory_for_header(err, g);
    return ts_fail(err, TS_EMODEL, "%s: the name of %s %ld of %ld is %s", g->path, what, i + 1, of,
                   n ? "no text in UTF-8" : "empty");
}

/* ---- keys ---- */

/* Bytes of an element; of a string, the least. */
static const uint8_t element_size[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

/* The elements of v, which stand at the cursor. */
static ts_status read_elements(ts_err *err, const ts_gguf *g, cursor *c, ts_gguf_value *v, long i,
                               long of)
{
    v->data = c->p;
    if (v->n > (uint64_t)(c->end - c->p) / element_size[v->type])
        return ts_fail(err, TS_EMODEL,
                       "%s: key \"%s\" has %llu elements, more than the %td bytes that are left "
                       "can hold: it is cut off or damaged",
                       g->path, v->key, (unsigned long long)v->n, c->end - c->p);
    if (v->type == TS_GGUF_STRING)
        for (uint64_t k = 0; k < v->n && !c->short_of; k++) take_bytes(c, take_number(c, 8));
    else
        take_bytes(c, v->n * element_size[v->type]);
    if (c->short_of) return refuse_cut(err, g, "key", i, of);
    v->bytes = (size_t)(c->p - v->data);
    return TS_OK;
}

static ts_status read_typed_key(ts_err *err, ts_gguf *g, cursor *c, long i, long of)
{
    ts_gguf_value *v = g->value + g->values;
    ts_status st = read_label(err, g, c, "key", i, of, MAX_KEY, &v->key);
    if (st) return st;
    g->values++;
    uint64_t type = take_number(c, 4);
    v->n = 1;
    if (type == TS_GGUF_ARRAY) {
        v->array = true;
        type = take_number(c, 4);
        v->n = take_number(c, 8);
    }
    if (c->short_of) return refuse_cut(err, g, "key", i, of);
    if (type > TS_GGUF_F64)
        return ts_fail(err, TS_EMODEL,
                       "%s: key \"%s\" is of type %llu, which there is not: the "
                       "file is damaged",
                       g->path, v->key, (unsigned long long)type);
    if (type == TS_GGUF_ARRAY)
        return ts_fail(err, TS_EMODEL, "%s: key \"%s\": arrays of arrays are not supported",
                       g->path, v->key);
    v->type = (ts_gguf_type)type;
    return read_elements(err, g, c, v, i, of);
}

/* By name; of one name, as they stand in the file. */
static int compare_keys_in_order(const void *a, const void *b)
{
    const ts_gguf_value *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->data > y->data) - (x->data < y->data);
}

static ts_status read_typed_keys(ts_err *err, ts_gguf *g, cursor *c, long n)
{
    ts_status st = TS_OK;
    int kept = 0;
    if (!(g->value = calloc((size_t)n + 1, sizeof *g->value)))
        return refuse_memory_for_header(err, g);
    for (long i = 0; i < n; i++) TRY(read_typed_key(err, g, c, i, n));
    qsort(g->value, (size_t)g->values, sizeof *g->value, compare_keys_in_order);
    for (int i = 0; i < g->values; i++) {
        if (kept == 0 || strcmp(g->value[kept - 1].key, g->value[i].key)) {
            g->value[kept++] = g->value[i];
            continue;
        }
        if (!g->warning && asprintf(&g->warning, "%s: key \"%s\" is there twice, the first counts",
                                    g->path, g->value[i].key) < 0)
            g->warning = NULL;
        free(g->value[i].key);
    }
    g->values = kept;
done:
    return st;
}

const ts_gguf_value *ts_gguf_find(const ts_gguf *g, const char *key)
{
    int low = 0, high = g->values - 1;
    while (low <= high) {
        int mid = (low + high) / 2, order = strcmp(g->value[mid].key, key);
        if (order == 0) return g->value + mid;
        if (order < 0)
            low = mid + 1;
        else
            high = mid - 1;
    }
    return NULL;
}

bool ts_gguf_text(const ts_gguf *g, const char *key, const char **s, size_t *n)
{
    const ts_gguf_value *v = ts_gguf_find(g, key);
    if (!v || v->array || v->type != TS_GGUF_STRING) return false;
    const uint8_t *at = v->data;
    *s = ts_gguf_next_text(&at, n);
    return true;
}

bool ts_gguf_text_is(const ts_gguf *g, const char *key, const char *text)
{
    const char *s;
    size_t n;
    return ts_gguf_text(g, key, &s, &n) && n == strlen(text) && !memcmp(s, text, n);
}

static uint64_t load_bits(const ts_gguf_value *v, uint64_t i)
{
    uint64_t bits = 0; /* little-endian as the machine is */
    memcpy(&bits, v->data + i * element_size[v->type], element_size[v->type]);
    return bits;
}

static int64_t load_signed(const ts_gguf_value *v, uint64_t i)
{
    int unused = 64 - 8 * element_size[v->type];
    return (int64_t)(load_bits(v, i) << unused) >> unused;
}

static bool is_signed(ts_gguf_type t)
{
    return t == TS_GGUF_I8 || t == TS_GGUF_I16 || t == TS_GGUF_I32 || t == TS_GGUF_I64;
}

bool ts_gguf_whole(const ts_gguf *g, const char *key, int64_t *out)
{
    const ts_gguf_value *v = ts_gguf_find(g, key);
    if (!v || v->array || v->type == TS_GGUF_STRING || v->type == TS_GGUF_F32 ||
        v->type == TS_GGUF_F64)
        return false;
    if (is_signed(v->type)) {
        *out = load_signed(v, 0);
        return true;
    }
    uint64_t bits = load_bits(v, 0);
    *out = v->type == TS_GGUF_BOOL ? bits != 0 : (int64_t)bits;
    return bits <= INT64_MAX;
}

const ts_gguf_value *ts_gguf_array(const ts_gguf *g, const char *key, ts_gguf_type type)
{
    const ts_gguf_value *v = ts_gguf_find(g, key);
    return v && v->array && v->type == type ? v : NULL;
}

double ts_gguf_number(const ts_gguf_value *v, uint64_t i)
{
    assert(i < v->n && v->type != TS_GGUF_STRING);
    uint64_t bits = load_bits(v, i);
    uint32_t low = (uint32_t)bits;
    float f;
    double d;
    switch (v->type) {
    case TS_GGUF_F32: memcpy(&f, &low, sizeof f); return f;
    case TS_GGUF_F64: memcpy(&d, &bits, sizeof d); return d;
    case TS_GGUF_BOOL: return bits != 0;
    default: return is_signed(v->type) ? (double)load_signed(v, i) : (double)bits;
    }
}

const char *ts_gguf_next_text(const uint8_t **at, size_t *n)
{
    uint64_t bytes;
    memcpy(&bytes, *at, sizeof bytes);
    const char *s = (const char *)*at + sizeof bytes;
    *n = (size_t)bytes;
    *at += sizeof bytes + bytes;
    return s;
}

/* ---- tensors ---- */

/* "2 x 3" as the file has them, for sentences. */
static const char *dims_text(uint32_t nd, const uint64_t *dim, char buf[128])
{
    size_t n = 0;
    buf[0] = 0;
    for (uint32_t i = 0; i < nd && n < 128; i++) {
        int k = snprintf(buf + n, 128 - n, "%s%llu", i ? " x " : "", (unsigned long long)dim[i]);
        if (k > 0) n += (size_t)k;
    }
    return buf;
}

/* The shape that a writer kept where it flattened the tensor to rows of whole blocks
 * (ComfyUI-GGUF). */
static void restore_shape(const ts_gguf *g, ts_host *t)
{
    char key[MAX_TENSOR_NAME + 32];
    const char *name = g->entry[g->entries].name;
    snprintf(key, sizeof key, "comfy.gguf.orig_shape.%s", name);
    const ts_gguf_value *v = ts_gguf_array(g, key, TS_GGUF_I32);
    long dim[5], was = 1, now = 1;
    if (!v || v->n < 1 || v->n > 5) return;
    for (int i = 0; i < t->nd; i++) was *= t->dim[i];
    for (uint64_t i = 0; i < v->n; i++) {
        dim[i] = (long)ts_gguf_number(v, i);
        if (dim[i] < 1 || __builtin_mul_overflow(now, dim[i], &now)) return;
    }
    if (now != was) return;
    t->nd = (int)v->n;
    memcpy(t->dim, dim, v->n * sizeof *dim);
}

/* The shape and the bytes that numbers of this shape and type take. */
static ts_status read_dims(ts_err *err, const ts_gguf *g, cursor *c, ts_entry *e, uint32_t *id,
                           uint64_t *offset, long i, long of)
{
    uint64_t dim[5], count = 1;
    char text[128];
    uint32_t nd = (uint32_t)take_number(c, 4);
    if (c->short_of) return refuse_cut(err, g, "tensor", i, of);
    if (nd > 5)
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\" has %u dimensions, at most 5", g->path,
                       e->name, nd);
    for (uint32_t d = 0; d < nd; d++) dim[d] = take_number(c, 8);
    *id = (uint32_t)take_number(c, 4);
    *offset = take_number(c, 8);
    if (c->short_of) return refuse_cut(err, g, "tensor", i, of);
    for (uint32_t d = 0; d < nd; d++) {
        if (dim[d] == 0 || __builtin_mul_overflow(count, dim[d], &count) || count >> 62)
            return ts_fail(err, TS_EMODEL,
                           "%s: tensor \"%s\" is %s: dimensions are at least 1 and make less than "
                           "2^62 numbers together",
                           g->path, e->name, dims_text(nd, dim, text));
        e->t.dim[nd - 1 - d] = (long)dim[d];
    }
    e->t.nd = (int)nd;
    const ts_block_type *type = g->type[g->entries] = ts_block_type_of(*id);
    if (!type || !type->n) return TS_OK;
    if ((nd ? dim[0] : 1) % (unsigned)type->n)
        return ts_fail(err, TS_EMODEL,
                       "%s: tensor \"%s\" has rows of %llu numbers, which are no whole blocks of "
                       "%d (%s)",
                       g->path, e->name, (unsigned long long)(nd ? dim[0] : 1), type->n,
                       type->name);
    if (__builtin_mul_overflow(count / (unsigned)type->n, (size_t)type->bytes, &e->bytes))
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\" of %s %s takes more than 2^64 bytes",
                       g->path, e->name, dims_text(nd, dim, text), type->name);
    return TS_OK;
}

/* What can be used of a type, and how. */
static ts_status set_type(ts_err *err, const ts_gguf *g, ts_entry *e, const ts_block_type *type,
                          uint32_t id)
{
    bool bf16 = type && !strcmp(type->name, "BF16");
    int made = 0;
    e->storage = type ? type->name : "?";
    e->t.type = id == 1 ? TS_F16 : bf16 ? TS_BF16 : TS_F32;
    if (!type)
        made = asprintf(&e->odd, "type %u, which GGML did not have when this was written,", id);
    else if (type->decoded)
        restore_shape(g, &e->t);
    else if (id > 1 && !bf16)
        made = asprintf(&e->odd, "type %s", type->name);
    if (made < 0) {
        e->odd = NULL;
        return refuse_memory_for_header(err, g);
    }
    if (e->odd) {
        e->t.nd = 0;
        e->t.type = TS_U8;
    }
    return TS_OK;
}

static ts_status read_tensor(ts_err *err, ts_gguf *g, cursor *c, long i, long of, uint64_t *offset)
{
    ts_status st;
    uint32_t id = 0;
    ts_entry *e = g->entry + g->entries;
    TRY(read_label(err, g, c, "tensor", i, of, MAX_TENSOR_NAME, &e->name));
    st = read_dims(err, g, c, e, &id, offset, i, of);
    if (!st) st = set_type(err, g, e, g->type[g->entries], id);
    g->entries++; /* owns its name from here on */
done:
    return st;
}

/* The entries, where their bytes are, and their types: one order for all. */
typedef struct {
    ts_entry e;
    const ts_block_type *type;
} typed_entry;

static int compare_typed_names(const void *a, const void *b)
{
    return strcmp(((const typed_entry *)a)->e.name, ((const typed_entry *)b)->e.name);
}

static int compare_typed_places(const void *a, const void *b)
{
    const typed_entry *x = a, *y = b;
    return x->e.at != y->e.at         ? (x->e.at > y->e.at) - (x->e.at < y->e.at)
           : x->e.bytes != y->e.bytes ? (x->e.bytes > y->e.bytes) - (x->e.bytes < y->e.bytes)
                                      : 0;
}

/* Places are checked in order of place, names in order of name, which is the one that stays. */
static ts_status check_tensors(ts_err *err, ts_gguf *g)
{
    ts_status st = TS_OK;
    size_t n = (size_t)g->entries;
    typed_entry *all = malloc((n + 1) * sizeof *all);
    if (!all) return refuse_memory_for_header(err, g);
    for (size_t i = 0; i < n; i++) all[i] = (typed_entry){g->entry[i], g->type[i]};
    qsort(all, n, sizeof *all, compare_typed_places);
    for (size_t i = 1; i < n && !st; i++)
        if ((const uint8_t *)all[i - 1].e.at + all[i - 1].e.bytes > (const uint8_t *)all[i].e.at)
            st = ts_fail(err, TS_EMODEL, "%s: tensors \"%s\" and \"%s\" overlap", g->path,
                         all[i - 1].e.name, all[i].e.name);
    qsort(all, n, sizeof *all, compare_typed_names);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(all[i - 1].e.name, all[i].e.name))
            st = ts_fail(err, TS_EMODEL, "%s: tensor \"%s\" appears twice", g->path, all[i].e.name);
    for (size_t i = 0; i < n; i++) {
        g->entry[i] = all[i].e;
        g->type[i] = all[i].type;
    }
    free(all);
    return st;
}

static ts_status read_alignment(ts_err *err, const ts_gguf *g, size_t *out)
{
    int64_t n;
    *out = 32;
    if (!ts_gguf_find(g, "general.alignment")) return TS_OK;
    if (!ts_gguf_whole(g, "general.alignment", &n) || n < 1 || n > MAX_ALIGNMENT || n & (n - 1))
        return ts_fail(err, TS_EMODEL, "%s: \"general.alignment\" is no power of two from 1 to %d",
                       g->path, MAX_ALIGNMENT);
    *out = (size_t)n;
    return TS_OK;
}

/* Where the bytes of each tensor are. offset: one an entry. */
static ts_status place_tensors(ts_err *err, ts_gguf *g, const cursor *c, const uint64_t *offset)
{
    size_t alignment, header = (size_t)(c->p - g->map);
    ts_status st = read_alignment(err, g, &alignment);
    if (st || g->entries == 0) return st;
    size_t begin = (header + alignment - 1) & ~(alignment - 1);
    if (begin > g->size)
        return ts_fail(err, TS_EMODEL, "%s: ends before its %d tensors, at %zu bytes: cut off",
                       g->path, g->entries, g->size);
    for (int i = 0; i < g->entries; i++) {
        ts_entry *e = g->entry + i;
        size_t left = g->size - begin;
        if (offset[i] % alignment)
            return ts_fail(err, TS_EMODEL,
                           "%s: tensor \"%s\" begins at byte %llu of the data, which is no "
                           "multiple of the file's alignment, %zu",
                           g->path, e->name, (unsigned long long)offset[i], alignment);
        if (offset[i] > left || e->bytes > left - offset[i])
            return ts_fail(err, TS_EMODEL,
                           "%s: tensor \"%s\" takes %zu bytes from byte %llu of the data, but the "
                           "file holds %zu: it is cut off or damaged",
                           g->path, e->name, e->bytes, (unsigned long long)offset[i], left);
        e->at = g->map + begin + offset[i];
        if (!e->odd && !g->type[i]->decoded) e->t.data = e->at;
    }
    return TS_OK;
}

static ts_status read_tensors(ts_err *err, ts_gguf *g, cursor *c, long n)
{
    ts_status st = TS_OK;
    uint64_t *offset = malloc(((size_t)n + 1) * sizeof *offset);
    g->entry = calloc((size_t)n + 1, sizeof *g->entry);
    g->type = calloc((size_t)n + 1, sizeof *g->type);
    if (!offset || !g->entry || !g->type) TRY(refuse_memory_for_header(err, g));
    for (long i = 0; i < n; i++) TRY(read_tensor(err, g, c, i, n, offset + i));
    TRY(place_tensors(err, g, c, offset));
    TRY(check_tensors(err, g));
done:
    free(offset);
    return st;
}

/* ---- the file ---- */

static ts_status refuse_version(ts_err *err, const ts_gguf *g, uint32_t version)
{
    if (version == 0x02000000 || version == 0x03000000)
        return ts_fail(err, TS_EMODEL, "%s: a big-endian GGUF, which is not supported", g->path);
    return ts_fail(err, TS_EMODEL, "%s: GGUF of version %u, supported are 2 and 3", g->path,
                   version);
}

static ts_status read_gguf(ts_err *err, ts_gguf *g)
{
    ts_status st;
    cursor c = {.p = g->map + 4, .end = g->map + g->size};
    if (g->size < HEADER)
        return ts_fail(err, TS_EMODEL, "%s: a file of %zu bytes is no GGUF: it is cut off", g->path,
                       g->size);
    uint32_t version = (uint32_t)take_number(&c, 4);
    if (version < 2 || version > 3) return refuse_version(err, g, version);
    uint64_t tensors = take_number(&c, 8), keys = take_number(&c, 8), room = g->size - HEADER;
    if (tensors > room / LEAST_TENSOR || keys > room / LEAST_KEY || tensors > MAX_ENTRIES ||
        keys > MAX_ENTRIES)
        return ts_fail(err, TS_EMODEL,
                       "%s: claims %llu tensors and %llu keys, more than a file of %zu bytes can "
                       "hold: it is cut off or damaged",
                       g->path, (unsigned long long)tensors, (unsigned long long)keys, g->size);
    TRY(read_typed_keys(err, g, &c, (long)keys));
    TRY(read_tensors(err, g, &c, (long)tensors));
done:
    return st;
}

static void free_gguf(ts_gguf *g)
{
    for (int i = 0; i < g->entries; i++) {
        free(g->entry[i].name);
        free(g->entry[i].odd);
    }
    for (int i = 0; i < g->values; i++) free(g->value[i].key);
    free(g->entry);
    free(g->type);
    free(g->value);
    free(g->warning);
    if (g->map) munmap((void *)(uintptr_t)g->map, g->size);
    free(g->path);
    free(g);
}

/* ---- as a source ---- */

static ts_status open_gguf(ts_err *err, const char *path, ts_source *out)
{
    ts_status st;
    const void *map;
    ts_gguf *g = calloc(1, sizeof *g);
    memset(out, 0, sizeof *out);
    if (!g || !(g->path = strdup(path))) {
        free(g);
        return ts_fail(err, TS_EMEMORY, "%s: out of memory", path);
    }
    TRY(ts_file_map(err, path, "GGUF", &map, &g->size));
    g->map = map;
    TRY(read_gguf(err, g));
    *out = (ts_source){.class = &ts_source_gguf,
                       .path = g->path,
                       .size = g->size,
                       .entry = g->entry,
                       .entries = g->entries,
                       .warning = g->warning,
                       .own = g};
done:
    if (st != TS_OK) free_gguf(g);
    return st;
}

static void close_gguf(ts_source *s) { free_gguf(s->own); }

/* Numbers [first, first + n), which may begin and end within blocks. */
static void decode_range(const ts_block_type *type, const uint8_t *at, size_t first, size_t n,
                         float *out)
{
    enum { MOST = 256 };
    float edge[MOST];
    size_t per = (size_t)type->n, bytes = (size_t)type->bytes;
    at += first / per * bytes;
    for (size_t skip = first % per; n;) {
        size_t whole = skip ? 0 : n / per, k = whole * per;
        if (whole) {
            ts_blocks_decode(type, at, whole, out);
        } else {
            k = n < per - skip ? n : per - skip;
            ts_blocks_decode(type, at, whole = 1, edge);
            memcpy(out, edge + skip, k * sizeof *out);
            skip = 0;
        }
        at += whole * bytes;
        out += k;
        n -= k;
    }
}

static ts_status read_gguf_rows(ts_err *err, const ts_source *s, const ts_entry *e, long first,
                                long rows, float *out)
{
    const ts_gguf *g = s->own;
    if (e->t.data) return ts_source_read_mapped(err, s, e, first, rows, out);
    const ts_block_type *type = g->type[e - s->entry];
    size_t width = (size_t)ts_entry_width(e);
    assert(first >= 0 && rows >= 0 && first + rows <= ts_entry_rows(e));
    decode_range(type, e->at, (size_t)first * width, (size_t)rows * width, out);
    return TS_OK;
}

const ts_source_class ts_source_gguf = {
    .open = open_gguf, .read = read_gguf_rows, .close = close_gguf};

const ts_gguf *ts_gguf_of(const ts_source *s)
{
    return s->class == &ts_source_gguf ? s->own : NULL;
}
