/* The container, its keys and its types of blocks: what a good file gives, and that no bad one is
 * believed. */
#include "backend/cpu/block_decoders.h"
#include "tests/weights/scratch.h"
#include "weights/gguf.h"
#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static ts_err err;

/* ---- files made by hand ---- */

typedef struct {
    uint8_t b[1 << 16];
    size_t n;
} builder;

static void put_bytes(builder *w, const void *p, size_t n)
{
    ck_assert(w->n + n <= sizeof w->b);
    memcpy(w->b + w->n, p, n);
    w->n += n;
}

static void put_u32(builder *w, uint32_t v) { put_bytes(w, &v, 4); }
static void put_u64(builder *w, uint64_t v) { put_bytes(w, &v, 8); }

static void put_text(builder *w, const char *s)
{
    put_u64(w, strlen(s));
    put_bytes(w, s, strlen(s));
}

static void put_header(builder *w, uint32_t version, uint64_t tensors, uint64_t keys)
{
    w->n = 0;
    put_bytes(w, "GGUF", 4);
    put_u32(w, version);
    put_u64(w, tensors);
    put_u64(w, keys);
}

static void put_number(builder *w, const char *key, ts_gguf_type type, const void *v, size_t n)
{
    put_text(w, key);
    put_u32(w, type);
    put_bytes(w, v, n);
}

static void put_u32_key(builder *w, const char *key, uint32_t v)
{
    put_number(w, key, TS_GGUF_U32, &v, 4);
}

static void put_tensor(builder *w, const char *name, int nd, const uint64_t *dim, uint32_t type,
                       uint64_t offset)
{
    put_text(w, name);
    put_u32(w, (uint32_t)nd);
    for (int i = 0; i < nd; i++) put_u64(w, dim[i]);
    put_u32(w, type);
    put_u64(w, offset);
}

static void pad(builder *w, size_t alignment)
{
    while (w->n % alignment) w->b[w->n++] = 0;
}

static ts_status open_built(const builder *w, ts_source *s)
{
    return ts_source_open(&err, scratch_write(dir, "built.gguf", w->b, w->n), s);
}

static const ts_entry *entry_of(const ts_source *s, const char *name)
{
    for (int i = 0; i < s->entries; i++)
        if (!strcmp(s->entry[i].name, name)) return s->entry + i;
    ck_abort_msg("there is no entry %s", name);
}

/* ---- types ---- */

/* Every type that is decoded, random blocks with scales that are negative, subnormal and zero:
 * bit for bit what ggml's own decoders give, whole, by rows, and with the instructions of every
 * CPU. */
START_TEST(decodes_every_type)
{
    ts_source s;
    ts_bag *want = testing_bag(testing_fixture("gguf-types/expected.safetensors"));
    ck_assert_msg(ts_source_open(&err, testing_fixture("gguf-types/types.gguf"), &s) == TS_OK, "%s",
                  err.text);
    ck_assert_int_eq(s.entries, ts_bag_count(want));
    unsigned seen = 0;
    for (int i = 0; i < s.entries; i++) {
        const ts_entry *e = s.entry + i;
        long n, rows = ts_entry_rows(e), width = ts_entry_width(e);
        char name[64];
        snprintf(name, sizeof name, "decoded.%s", e->name);
        const float *f = testing_f32(want, name, &n);
        float *got = malloc((size_t)n * sizeof *got);
        ck_assert(got && n == rows * width && !e->odd);
        ck_assert(s.class->read(&err, &s, e, 0, rows, got) == TS_OK);
        ck_assert_msg(!memcmp(got, f, (size_t)n * sizeof *f), "%s differs", e->name);
        for (long r = 0; r < rows; r++) {
            ck_assert(s.class->read(&err, &s, e, r, 1, got) == TS_OK);
            ck_assert_msg(!memcmp(got, f + r * width, (size_t)width * sizeof *f),
                          "%s: row %ld differs", e->name, r);
        }
        free(got);
        seen++;
    }
    ck_assert_uint_ge(seen, 13);
    ts_source_close(&s);
    ts_bag_free(want);
}
END_TEST

static void compare_decoders(ts_block_decoder *const *a, ts_block_decoder *const *b)
{
    enum { BLOCKS = 40, ROOM = 210 };
    static uint8_t from[BLOCKS * ROOM + 1];
    static float x[BLOCKS * 256], y[BLOCKS * 256];
    uint32_t h = 1;
    for (uint32_t id = 0; id < TS_BLOCK_DECODERS; id++) {
        const ts_block_type *t = ts_block_type_of(id);
        ck_assert(!a[id] == !b[id] && !a[id] == !(t && t->decoded));
        if (!a[id]) continue;
        /* any bits: scales that are infinite or NaN as well */
        for (size_t i = 0; i < sizeof from; i++) from[i] = (uint8_t)((h = h * 1664525 + 7) >> 24);
        a[id](from + 1, BLOCKS, x);
        b[id](from + 1, BLOCKS, y);
        for (int i = 0; i < BLOCKS * t->n; i++)
            ck_assert_msg(!memcmp(x + i, y + i, sizeof *x) || (x[i] != x[i] && y[i] != y[i]),
                          "%s: number %d is %g and %g", t->name, i, x[i], y[i]);
    }
}

START_TEST(every_cpu_decodes_alike)
{
    compare_decoders(ts_blocks_ref, ts_blocks_ref);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        compare_decoders(ts_blocks_ref, ts_blocks_avx2);
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        compare_decoders(ts_blocks_ref, ts_blocks_avx512);
}
END_TEST

/* ---- a good file ---- */

/* Q8_0 of [3, 32] whose shape was [4, 24] before it was flattened, F32 of one number, F16 of
 * [2, 1, 3]; keys of every type. */
static void put_good(builder *w, uint32_t version)
{
    float third = 1 / 3.0f;
    double tenth = 0.1;
    int64_t least = INT64_MIN;
    put_header(w, version, 4, 16);
    put_number(w, "u8", TS_GGUF_U8, "\xff", 1);
    put_number(w, "i8", TS_GGUF_I8, "\xff", 1);
    put_number(w, "u16", TS_GGUF_U16, "\xff\xff", 2);
    put_number(w, "i16", TS_GGUF_I16, "\xfe\xff", 2);
    put_u32_key(w, "u32", 4000000000);
    put_number(w, "i32", TS_GGUF_I32, "\xfd\xff\xff\xff", 4);
    put_number(w, "f32", TS_GGUF_F32, &third, 4);
    put_number(w, "bool", TS_GGUF_BOOL, "\x02", 1);
    put_number(w, "u64", TS_GGUF_U64, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    put_number(w, "i64", TS_GGUF_I64, &least, 8);
    put_number(w, "f64", TS_GGUF_F64, &tenth, 8);
    put_text(w, "text");
    put_u32(w, TS_GGUF_STRING);
    put_text(w, "wan");
    put_text(w, "texts");
    put_u32(w, TS_GGUF_ARRAY);
    put_u32(w, TS_GGUF_STRING);
    put_u64(w, 3);
    put_text(w, "a");
    put_text(w, "");
    put_text(w, "\xff");
    put_text(w, "scores");
    put_u32(w, TS_GGUF_ARRAY);
    put_u32(w, TS_GGUF_F32);
    put_u64(w, 2);
    put_bytes(w, &third, 4);
    put_bytes(w, &third, 4);
    put_u32_key(w, "general.alignment", 8);
    put_text(w, "comfy.gguf.orig_shape.q");
    put_u32(w, TS_GGUF_ARRAY);
    put_u32(w, TS_GGUF_I32);
    put_u64(w, 2);
    put_u32(w, 4);
    put_u32(w, 24);
    put_tensor(w, "q", 2, (uint64_t[]){32, 3}, 8, 16);
    put_tensor(w, "one", 0, NULL, 0, 0);
    put_tensor(w, "h", 3, (uint64_t[]){3, 1, 2}, 1, 120);
    put_tensor(w, "iq", 1, (uint64_t[]){32}, 20, 136);
    pad(w, 8);
    size_t data = w->n;
    put_bytes(w, &third, 4);
    w->n = data + 16;
    for (int k = 0; k < 3; k++) {
        put_bytes(w, "\0\x40", 2); /* 2 */
        for (int j = 0; j < 32; j++) put_bytes(w, (int8_t[]){(int8_t)(32 * k + j - 50)}, 1);
    }
    w->n = data + 120;
    for (int k = 0; k < 6; k++) put_bytes(w, (uint16_t[]){scratch_f16((float)k)}, 2);
    w->n = data + 136;
    for (int k = 0; k < 18; k++) put_bytes(w, "", 1);
}

START_TEST(gives_entries_and_rows)
{
    static builder w;
    ts_source s;
    float row[48];
    for (uint32_t version = 2; version <= 3; version++) {
        put_good(&w, version);
        ck_assert_msg(open_built(&w, &s) == TS_OK, "%s", err.text);
        ck_assert(s.entries == 4 && s.size == w.n && !s.warning);
        const ts_entry *q = entry_of(&s, "q"), *one = entry_of(&s, "one"), *h = entry_of(&s, "h");
        for (int i = 1; i < s.entries; i++)
            ck_assert_int_lt(strcmp(s.entry[i - 1].name, s.entry[i].name), 0);
        ck_assert(q->t.nd == 2 && q->t.dim[0] == 4 && q->t.dim[1] == 24 && !q->t.data &&
                  q->t.type == TS_F32 && q->bytes == 102);
        ck_assert_str_eq(q->storage, "Q8_0");
        ck_assert(s.class->read(&err, &s, q, 1, 2, row) == TS_OK);
        for (int i = 0; i < 48; i++) ck_assert(row[i] == 2 * (float)(i + 24 - 50));
        ck_assert(one->t.nd == 0 && one->t.data && one->t.type == TS_F32);
        ck_assert(s.class->read(&err, &s, one, 0, 1, row) == TS_OK && row[0] == 1 / 3.0f);
        ck_assert(h->t.nd == 3 && h->t.dim[0] == 2 && h->t.dim[1] == 1 && h->t.dim[2] == 3 &&
                  h->t.type == TS_F16);
        ck_assert(s.class->read(&err, &s, h, 1, 1, row) == TS_OK && row[2] == 5);
        ck_assert_str_eq(entry_of(&s, "iq")->odd, "type IQ4_NL");
        ts_source_close(&s);
        ts_source_close(&s); /* closing twice is legal */
    }
}
END_TEST

START_TEST(gives_keys)
{
    static builder w;
    ts_source s;
    int64_t v;
    const char *text;
    size_t n;
    put_good(&w, 3);
    ck_assert_msg(open_built(&w, &s) == TS_OK, "%s", err.text);
    const ts_gguf *g = ts_gguf_of(&s);
    ck_assert_ptr_nonnull(g);
    static const struct {
        const char *key;
        int64_t want;
    } whole[] = {{"u8", 255}, {"i8", -1},          {"u16", 65535}, {"i16", -2},
                 {"i32", -3}, {"u32", 4000000000}, {"bool", 1},    {"i64", INT64_MIN}};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        ck_assert_msg(ts_gguf_whole(g, whole[i].key, &v) && v == whole[i].want, "%s: %lld",
                      whole[i].key, (long long)v);
    ck_assert(!ts_gguf_whole(g, "u64", &v)); /* an int64_t does not hold it */
    ck_assert(!ts_gguf_whole(g, "f32", &v) && !ts_gguf_whole(g, "text", &v) &&
              !ts_gguf_whole(g, "texts", &v) && !ts_gguf_whole(g, "none", &v));
    ck_assert(ts_gguf_number(ts_gguf_find(g, "u64"), 0) == 0x1p64);
    ck_assert(ts_gguf_number(ts_gguf_find(g, "i8"), 0) == -1);
    ck_assert(ts_gguf_number(ts_gguf_find(g, "f64"), 0) == 0.1);
    ck_assert(ts_gguf_text_is(g, "text", "wan") && !ts_gguf_text_is(g, "text", "wa") &&
              !ts_gguf_text_is(g, "none", "") && !ts_gguf_text(g, "texts", &text, &n));
    const ts_gguf_value *a = ts_gguf_array(g, "texts", TS_GGUF_STRING),
                        *f = ts_gguf_array(g, "scores", TS_GGUF_F32);
    ck_assert(a && a->n == 3 && f && f->n == 2 && f->bytes == 8);
    ck_assert(!ts_gguf_array(g, "scores", TS_GGUF_I32) && !ts_gguf_array(g, "f32", TS_GGUF_F32));
    ck_assert(ts_gguf_number(f, 1) == (double)(1 / 3.0f));
    const uint8_t *at = a->data;
    for (int i = 0; i < 3; i++) {
        text = ts_gguf_next_text(&at, &n);
        ck_assert(n == strlen(i == 0   ? "a"
                              : i == 1 ? ""
                                       : "\xff") &&
                  !memcmp(text, i == 2 ? "\xff" : "a", n));
    }
    ck_assert(at == a->data + a->bytes);
    ts_source_close(&s);
    ck_assert(ts_source_open(&err, testing_fixture("gguf-types/expected.safetensors"), &s) ==
                  TS_OK &&
              !ts_gguf_of(&s));
    ts_source_close(&s);
}
END_TEST

START_TEST(first_of_two_keys_counts)
{
    static builder w;
    ts_source s;
    int64_t v;
    put_header(&w, 3, 0, 4);
    put_u32_key(&w, "b", 1);
    put_u32_key(&w, "a", 7);
    put_u32_key(&w, "a", 8);
    put_u32_key(&w, "a", 6);
    ck_assert_msg(open_built(&w, &s) == TS_OK, "%s", err.text);
    ck_assert(s.entries == 0 && ts_gguf_whole(ts_gguf_of(&s), "a", &v) && v == 7);
    ck_assert(s.warning && strstr(s.warning, "\"a\"") && strstr(s.warning, "twice"));
    ts_source_close(&s);

    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    const char *path = scratch_write(dir, "twice.gguf", w.b, w.n);
    ck_ok(ctx, ts_weights_open(ctx, path, "model", NULL, &ws));
    ck_assert_msg(strstr(testing_warned(ctx), "key \"a\" is there twice"), "%s",
                  testing_warned(ctx));
    ts_weights_close(ws);
    testing_close(ctx);
}
END_TEST

/* ---- bad files ---- */

/* Each writes a file with one fault. */
#define BAD(name) static void name(builder *w)
BAD(bad_version) { put_header(w, 4, 0, 0); }
BAD(bad_endian) { put_header(w, 0x03000000, 0, 0); }
BAD(bad_size) { put_bytes(w, "GGUF\3\0\0\0\0", 9); }
BAD(bad_keys) { put_header(w, 3, 0, 1); }
BAD(bad_key_count)
{
    put_header(w, 3, 0, (1 << 20) + 1);
    w->n = sizeof w->b;
}
BAD(bad_key_length)
{
    put_header(w, 3, 0, 1);
    put_u64(w, (1 << 16) + 1);
    w->n += 60000;
}
BAD(bad_key_empty)
{
    put_header(w, 3, 0, 1);
    put_u32_key(w, "", 1);
}
BAD(bad_key_text)
{
    put_header(w, 3, 0, 1);
    put_u32_key(w, "a\xff", 1);
}
BAD(bad_key_zero)
{
    put_header(w, 3, 0, 1);
    put_u64(w, 3);
    put_bytes(w, "a\0b", 3);
    put_u32(w, TS_GGUF_U32);
    put_u32(w, 1);
}
BAD(bad_key_type)
{
    put_header(w, 3, 0, 1);
    put_number(w, "key", (ts_gguf_type)13, "\0\0\0\0", 4);
}
BAD(bad_nested)
{
    put_header(w, 3, 0, 1);
    put_text(w, "key");
    put_u32(w, TS_GGUF_ARRAY);
    put_u32(w, TS_GGUF_ARRAY);
    put_u64(w, 0);
}
BAD(bad_array)
{
    put_header(w, 3, 0, 1);
    put_text(w, "key");
    put_u32(w, TS_GGUF_ARRAY);
    put_u32(w, TS_GGUF_U64);
    put_u64(w, UINT64_C(1) << 61);
}
BAD(bad_array_text)
{
    put_header(w, 3, 0, 1);
    put_text(w, "key");
    put_u32(w, TS_GGUF_ARRAY);
    put_u32(w, TS_GGUF_STRING);
    put_u64(w, 2);
    put_text(w, "one");
    put_u64(w, UINT64_MAX - 3);
}
BAD(bad_value)
{
    put_header(w, 3, 0, 1);
    put_number(w, "key", TS_GGUF_F64, "\0\0\0\0", 4);
}
BAD(bad_alignment)
{
    put_header(w, 3, 1, 1);
    put_u32_key(w, "general.alignment", 48);
    put_tensor(w, "a", 1, (uint64_t[]){1}, 0, 0);
    w->n += 256;
}
BAD(bad_alignment_zero)
{
    put_header(w, 3, 1, 1);
    put_u32_key(w, "general.alignment", 0);
    put_tensor(w, "a", 1, (uint64_t[]){1}, 0, 0);
    w->n += 256;
}
static void put_one(builder *w, const char *name, int nd, const uint64_t *dim, uint32_t type,
                    uint64_t offset)
{
    put_header(w, 3, 1, 0);
    put_tensor(w, name, nd, dim, type, offset);
    pad(w, 32);
    w->n += 256;
}
BAD(bad_name)
{
    char name[257];
    memset(name, 'n', 256);
    name[256] = 0;
    put_one(w, name, 1, (uint64_t[]){1}, 0, 0);
}
BAD(bad_name_text) { put_one(w, "\xc3", 1, (uint64_t[]){1}, 0, 0); }
BAD(bad_dims) { put_one(w, "a", 6, (uint64_t[]){1, 1, 1, 1, 1, 1}, 0, 0); }
BAD(bad_dim) { put_one(w, "a", 2, (uint64_t[]){4, 0}, 0, 0); }
BAD(bad_product) { put_one(w, "a", 2, (uint64_t[]){1u << 31, 1u << 31}, 0, 0); }
BAD(bad_row) { put_one(w, "a", 2, (uint64_t[]){48, 2}, 8, 0); }
BAD(bad_scalar) { put_one(w, "a", 0, NULL, 8, 0); }
BAD(bad_place) { put_one(w, "a", 1, (uint64_t[]){4}, 0, 16); }
BAD(bad_end) { put_one(w, "a", 1, (uint64_t[]){65}, 0, 0); }
BAD(bad_offset) { put_one(w, "a", 1, (uint64_t[]){1}, 0, UINT64_MAX - 31); }
BAD(bad_unknown) { put_one(w, "a", 1, (uint64_t[]){1}, 99, 288); }
BAD(bad_cut)
{
    put_header(w, 3, 1, 0);
    put_tensor(w, "a", 1, (uint64_t[]){1}, 0, 0);
    w->n++;
}
BAD(bad_overlap)
{
    put_header(w, 3, 2, 0);
    put_tensor(w, "b", 1, (uint64_t[]){9}, 0, 0);
    put_tensor(w, "a", 1, (uint64_t[]){9}, 0, 32);
    pad(w, 32);
    w->n += 256;
}
BAD(bad_twice)
{
    put_header(w, 3, 3, 0);
    put_tensor(w, "b", 1, (uint64_t[]){8}, 0, 0);
    put_tensor(w, "c", 1, (uint64_t[]){8}, 0, 64);
    put_tensor(w, "b", 1, (uint64_t[]){8}, 0, 32);
    pad(w, 32);
    w->n += 256;
}

static const struct {
    const char *what;
    void (*put)(builder *);
    const char *part, *reason;
} hostile[] = {
    {"a version that there is not", bad_version, "version 4", "2 and 3"},
    {"big-endian", bad_endian, "big-endian", NULL},
    {"a few bytes", bad_size, "9 bytes", "cut off"},
    {"keys that are not there", bad_keys, "1 keys", "cut off"},
    {"more keys than there may be", bad_key_count, "1048577 keys", NULL},
    {"a long key", bad_key_length, "key 1 of 1", "65537 bytes"},
    {"an empty key", bad_key_empty, "key 1 of 1", "empty"},
    {"a key that is no text", bad_key_text, "key 1 of 1", "UTF-8"},
    {"a key with a 0", bad_key_zero, "key 1 of 1", "UTF-8"},
    {"a type of value that there is not", bad_key_type, "\"key\"", "type 13"},
    {"an array of arrays", bad_nested, "\"key\"", "arrays of arrays"},
    {"an array larger than the file", bad_array, "\"key\"", "2305843009213693952 elements"},
    {"a text larger than the file", bad_array_text, "key 1 of 1", "cut off"},
    {"a number that is cut off", bad_value, "\"key\"", "cut off"},
    {"no power of two", bad_alignment, "general.alignment", "power of two"},
    {"an alignment of 0", bad_alignment_zero, "general.alignment", "power of two"},
    {"a long name", bad_name, "tensor 1 of 1", "256 bytes"},
    {"a name that is no text", bad_name_text, "tensor 1 of 1", "UTF-8"},
    {"six dimensions", bad_dims, "\"a\"", "6 dimensions"},
    {"a dimension of 0", bad_dim, "\"a\"", "4 x 0"},
    {"2^62 numbers", bad_product, "\"a\"", "2147483648 x 2147483648"},
    {"half a block in a row", bad_row, "\"a\"", "rows of 48"},
    {"one number in blocks", bad_scalar, "\"a\"", "rows of 1"},
    {"a place between alignments", bad_place, "\"a\"", "alignment"},
    {"an end behind the file", bad_end, "\"a\"", "260 bytes"},
    {"a beginning behind the file", bad_offset, "\"a\"", "cut off"},
    {"the same of an unknown type", bad_unknown, "\"a\"", "cut off"},
    {"no data", bad_cut, "1 tensors", "cut off"},
    {"two tensors in one place", bad_overlap, "\"b\" and \"a\"", "overlap"},
    {"one name twice", bad_twice, "\"b\"", "twice"},
};

START_TEST(refuses_hostile_headers)
{
    static builder w;
    ts_source s;
    memset(&w, 0, sizeof w);
    hostile[_i].put(&w);
    ts_status st = open_built(&w, &s);
    ck_assert_msg(st != TS_OK, "%s was taken", hostile[_i].what);
    scratch_expect(&err, st, TS_EMODEL, "built.gguf", hostile[_i].part, hostile[_i].reason, NULL);
    ck_assert(!s.class && !s.entry && !s.own);
}
END_TEST

/* The files that come with the list of hostile weights. */
START_TEST(refuses_hostile_files)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    char *list = strdup(testing_fixture("hostile-weights/hostile.json"));
    FILE *f = fopen(list, "rb");
    static char text[1 << 14];
    ck_assert(f && fread(text, 1, sizeof text - 1, f) > 0 && fclose(f) == 0);
    cJSON *all = cJSON_Parse(text), *j, *says;
    int seen = 0;
    cJSON_ArrayForEach(j, all)
    {
        const char *file = cJSON_GetObjectItem(j, "file")->valuestring;
        if (!strstr(file, ".gguf")) continue;
        char name[128];
        snprintf(name, sizeof name, "hostile-weights/%s", file);
        ts_weights *ws = NULL;
        const ts_weight *w;
        ts_status st = ts_weights_open(ctx, testing_fixture(name), "model", NULL, &ws);
        if (!st) /* of a type that is known and not read */
            st = ts_weights_find(ws, 0, TS_ROLE_MATRIX, "blocks.1.ffn.0.weight", 2,
                                 (long[]){-1, -1}, &w);
        ck_assert_msg(st == TS_EMODEL, "%s: status %d", file, st);
        cJSON_ArrayForEach(says, cJSON_GetObjectItem(j, "says"))
            ck_assert_msg(strstr(ctx->err.text, says->valuestring), "%s: \"%s\" is not in: %s",
                          file, says->valuestring, ctx->err.text);
        ts_weights_close(ws);
        seen++;
    }
    ck_assert_int_eq(seen, 9);
    cJSON_Delete(all);
    free(list);
    testing_close(ctx);
}
END_TEST

/* A good file, cut at every length and with every byte of its header replaced: opened or refused,
 * never followed out of the file. Everything that opens is read. */
START_TEST(survives_damage)
{
    static builder w;
    static float row[1 << 14];
    ts_source s;
    long opened = 0, refused = 0;
    put_good(&w, 3);
    size_t whole = w.n;
    for (w.n = 0; w.n < whole; w.n++)
        scratch_expect(&err, open_built(&w, &s), TS_EMODEL, "built.gguf", NULL);
    for (size_t at = 4; at < whole - 160; at++)
        for (int k = 0; k < 8; k++) {
            uint8_t keep = w.b[at];
            w.b[at] ^= (uint8_t)(1 << k);
            ts_status st = open_built(&w, &s);
            w.b[at] = keep;
            if (st) {
                refused++;
                ck_assert_msg(strstr(err.text, "built.gguf"), "%s", err.text);
                continue;
            }
            opened++;
            for (int i = 0; i < s.entries; i++)
                if (!s.entry[i].odd && ts_entry_count(s.entry + i) < 1 << 14)
                    ck_assert(s.class->read(&err, &s, s.entry + i, 0, ts_entry_rows(s.entry + i),
                                            row) == TS_OK);
            ts_source_close(&s);
        }
    ck_assert_int_gt(opened, 1000); /* names and values may change */
    ck_assert_int_gt(refused, 1000);
}
END_TEST

/* What a terminal would obey is nothing that a sentence repeats. */
START_TEST(names_do_not_reach_a_terminal)
{
    static builder w;
    ts_source s;
    put_header(&w, 3, 2, 0);
    for (int i = 0; i < 2; i++)
        put_tensor(&w, "a\x1b[31m\nred\x7f\xC2\x9B\xC3\xA9", 1, (uint64_t[]){8}, 0,
                   32 * (uint64_t)i);
    pad(&w, 32);
    w.n += 64;
    scratch_expect(&err, open_built(&w, &s), TS_EMODEL, "\"a?[31m?red???\xC3\xA9\" appears twice",
                   NULL);
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_warn(c, "a%c b", 27);
    ck_assert_str_eq(testing_warned(c), "a? b\n");
    testing_close(c);
}
END_TEST

START_TEST(refuses_other_kinds)
{
    ts_source s;
    static const struct {
        const char *name, *bytes, *part;
    } kind[] = {
        {"a.gguf", "GGUX\3\0\0\0", "GGUF"},
        {"a.safetensors", "PK\3\4 and more", "PyTorch"},
        {"a.pth", "PK\3\4 and more", ".safetensors or .gguf"},
        {"a.safetensors", "<!DOCTYPE html>", "web page"},
        {"b.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"},
    };
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        size_t n = strlen(kind[i].bytes);
        const char *path = scratch_write(dir, kind[i].name, kind[i].bytes, n < 8 ? 8 : n);
        scratch_expect(&err, ts_source_open(&err, path, &s), TS_EMODEL, path, kind[i].part, NULL);
    }
}
END_TEST

int main(void)
{
    dir = testing_tmp();
    Suite *s = suite_create("gguf");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, decodes_every_type);
    tcase_add_test(t, every_cpu_decodes_alike);
    tcase_add_test(t, gives_entries_and_rows);
    tcase_add_test(t, gives_keys);
    tcase_add_test(t, first_of_two_keys_counts);
    tcase_add_loop_test(t, refuses_hostile_headers, 0, (int)(sizeof hostile / sizeof *hostile));
    tcase_add_test(t, refuses_hostile_files);
    tcase_add_test(t, survives_damage);
    tcase_add_test(t, names_do_not_reach_a_terminal);
    tcase_add_test(t, refuses_other_kinds);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(dir);
    return failed;
}
