/* The container: what a good file gives, and that no bad one is believed. */
#include "tests/weights/scratch.h"
#include "weights/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static ts_err err;

START_TEST(reads_what_is_there)
{
    ts_safetensors s;
    const char *path = scratch_safetensors(
        dir, "good.safetensors",
        "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},\"__metadata__\":{"
        "\"format\":\"pt\",\"note\":\"\\u00e9\"},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},\"empty\":{\"dtype\":"
        "\"I64\",\"shape\":[4,0,2],\"data_offsets\":[16,16]},"
        "\"five\":{\"shape\":[1,2,1,2,1],\"dtype\":\"U8\",\"data_offsets\":[16,20]}}   ",
        20);
    ck_assert_msg(ts_safetensors_open(&err, path, &s) == TS_OK, "%s", err.text);
    ck_assert_int_eq(s.entries, 4);
    for (int i = 1; i < s.entries; i++)
        ck_assert_int_lt(strcmp(s.entry[i - 1].name, s.entry[i].name), 0);
    const ts_entry *a = ts_safetensors_find(&s, "a"), *b = ts_safetensors_find(&s, "b"),
                   *e = ts_safetensors_find(&s, "empty"), *f = ts_safetensors_find(&s, "five");
    ck_assert(a && b && e && f && !ts_safetensors_find(&s, "c") &&
              !ts_safetensors_find(&s, "__metadata__"));
    ck_assert(a->t.type == TS_F32 && a->t.nd == 0 && a->bytes == 4 &&
              ((const uint8_t *)a->t.data)[3] == 3);
    ck_assert(b->t.type == TS_BF16 && b->t.nd == 2 && b->t.dim[0] == 2 && b->t.dim[1] == 3 &&
              ((const uint8_t *)b->t.data)[0] == 4);
    ck_assert(e->bytes == 0 && e->t.nd == 3 && f->t.nd == 5 && f->t.dim[3] == 2);
    ck_assert_int_eq(s.metas, 2);
    for (int i = 0; i < s.metas; i++)
        ck_assert_str_eq(s.meta[i].value, strcmp(s.meta[i].key, "note") ? "pt" : "é");
    ts_safetensors_close(&s);
    ts_safetensors_close(&s); /* closing twice is legal */
}
END_TEST

/* What weights/ sees of a file: entries, and rows of their numbers as f32. The BF16 table begins at
 * an odd byte. */
START_TEST(is_a_source_of_rows)
{
    ts_source s;
    float row[6], f;
    const char *path = scratch_safetensors(
        dir, "rows.safetensors",
        "{\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
        "\"t\":{\"dtype\":\"BF16\",\"shape\":[3,1,2],\"data_offsets\":[1,13]},"
        "\"x\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[13,17]},"
        "\"v\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[17,21]}}",
        21);
    ck_assert_msg(ts_source_open(&err, path, &s) == TS_OK, "%s", err.text);
    ck_assert_str_eq(s.path, path);
    ck_assert(s.entries == 4 && s.size > 21);
    const ts_entry *t = s.entry, *v = s.entry + 2, *x = s.entry + 3;
    ck_assert_str_eq(t->name, "t");
    ck_assert_str_eq(t->storage, "BF16");
    ck_assert_str_eq(s.entry[1].storage, "U8");
    ck_assert(ts_entry_rows(t) == 3 && ts_entry_width(t) == 2 && ts_entry_rows(v) == 1 &&
              ts_entry_width(v) == 2 && ts_entry_rows(x) == 1 && ts_entry_width(x) == 1);
    ck_assert(s.class->read(&err, &s, t, 1, 2, row) == TS_OK);
    for (int i = 0; i < 4; i++) { /* bytes 5, 6; 7, 8; ... */
        uint32_t bits = (uint32_t)(5 + 2 * i) << 16 | (uint32_t)(6 + 2 * i) << 24;
        memcpy(&f, &bits, sizeof f);
        ck_assert(row[i] == f);
    }
    ck_assert(s.class->read(&err, &s, x, 0, 1, row) == TS_OK &&
              !memcmp(row, (uint8_t[]){13, 14, 15, 16}, 4));
    ck_assert(s.class->read(&err, &s, v, 0, 1, row) == TS_OK);
    ts_widen(TS_F16, (uint8_t[]){19, 20}, 1, &f);
    ck_assert(row[1] == f);
    ts_source_close(&s);
    ts_source_close(&s); /* closing twice is legal */
    scratch_text(dir, "rows.safetensors", "no safetensors file");
    scratch_expect(&err, ts_source_open(&err, path, &s), TS_EMODEL, "rows.safetensors", NULL);
    ck_assert(!s.class && !s.entry);
}
END_TEST

/* header, data bytes, what the sentence must name beside the file */
static const struct {
    const char *header;
    size_t data;
    const char *part, *reason;
} hostile[] = {
    {"", 0, "header", "0 bytes"},
    {"nonsense", 16, "not JSON", NULL},
    {"[1, 2]", 16, "not JSON", NULL},
    {"{\"a\":", 16, "not JSON", NULL},
    {"{\"a\":1,", 0, "not JSON", NULL},
    {"{} x", 16, "not JSON", NULL},
    {"{\"a\": 3}", 16, "\"a\"", "dtype"},
    {"{\"a\": {}}", 16, "\"a\"", "dtype"},
    {"{\"a\": {\"dtype\": 1, \"shape\": [1], \"data_offsets\": [0, 4]}}", 16, "\"a\"", "dtype"},
    {"{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 4]}}", 16, "\"a\"", "shape"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": 1, \"data_offsets\": [0, 4]}}", 16, "\"a\"", "shape"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", 16, "\"a\"", "data_offsets"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0]}}", 16, "\"a\"",
     "data_offsets"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [\"0\", 4]}}", 16, "\"a\"",
     "range"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [-4, 0]}}", 16, "\"a\"",
     "range"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0.5, 4.5]}}", 16, "\"a\"",
     "range"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [8, 4]}}", 16, "\"a\"",
     "range"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 1e300]}}", 16, "\"a\"",
     "range"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [14, 18]}}", 16, "\"a\"",
     "cut off"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [9007199254740988, "
     "9007199254740991]}}",
     16, "\"a\"", "cut off"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}", 16, "\"a\"",
     "F32 [2] does not take 4 bytes"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [0], \"data_offsets\": [0, 4]}}", 16, "\"a\"",
     "does not take"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 4]}}", 16, "\"a\"",
     "shape"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1.5], \"data_offsets\": [0, 6]}}", 16, "\"a\"",
     "shape"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [null], \"data_offsets\": [0, 4]}}", 16, "\"a\"",
     "shape"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 0]}}",
     16, "\"a\"", "shape"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4294967296, 2147483648], \"data_offsets\": [0, 0]}}",
     16, "\"a\"", "63 bits"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2147483648, 2147483648], \"data_offsets\": [0, 0]}}",
     16, "\"a\"", "does not take"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, \"b\": {\"dtype\": "
     "\"U8\", \"shape\": [4], \"data_offsets\": [3, 7]}}",
     16, "\"a\"", "\"b\" overlap"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, \"b\": {\"dtype\": "
     "\"F9\", \"shape\": [4], \"data_offsets\": [0, 4]}}",
     16, "\"a\"", "\"b\" overlap"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, \"a\": {\"dtype\": "
     "\"U8\", \"shape\": [4], \"data_offsets\": [4, 8]}}",
     8, "\"a\"", "twice"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}}", 5, "1 bytes follow",
     "last tensor"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, \"b\": {\"dtype\": "
     "\"U8\", \"shape\": [0], \"data_offsets\": [16, 16]}}",
     16, "12 bytes follow", "last tensor"},
    {"{}", 16, "16 bytes follow", "last tensor"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [2, 6]}}", 6, "bytes 0 to 2",
     "\"a\""},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [0, 4]}, \"b\": {\"dtype\": "
     "\"U8\", \"shape\": [4], \"data_offsets\": [5, 9]}}",
     9, "bytes 4 to 5", "\"b\""},
};

START_TEST(refuses_hostile_headers)
{
    ts_safetensors s;
    const char *path = scratch_safetensors(dir, "hostile.safetensors", hostile[_i].header,
                                           hostile[_i].data);
    scratch_expect(&err, ts_safetensors_open(&err, path, &s), TS_EMODEL, path, hostile[_i].part,
                   hostile[_i].reason, NULL);
    ck_assert(!s.map && !s.entry && !s.path);
}
END_TEST

START_TEST(refuses_files_that_are_none)
{
    ts_safetensors s;
    char missing[600];
    snprintf(missing, sizeof missing, "%s/none.safetensors", dir);
    scratch_expect(&err, ts_safetensors_open(&err, missing, &s), TS_EMODEL, missing, "No such file",
                   NULL);
    scratch_expect(&err, ts_safetensors_open(&err, dir, &s), TS_EMODEL, dir, "not a file", NULL);
    const char *path = scratch_text(dir, "empty.safetensors", "");
    scratch_expect(&err, ts_safetensors_open(&err, path, &s), TS_EMODEL, path, "0 bytes", NULL);
    path = scratch_text(dir, "lfs.safetensors",
                        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    scratch_expect(&err, ts_safetensors_open(&err, path, &s), TS_EMODEL, path, "git lfs pull",
                   NULL);
    path = scratch_write(dir, "huge.safetensors", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10);
    scratch_expect(&err, ts_safetensors_open(&err, path, &s), TS_EMODEL, path,
                   "9223372036854775807", NULL);
    path = scratch_write(dir, "long.safetensors", "\x03\0\0\0\0\0\0\0{}", 10);
    scratch_expect(&err, ts_safetensors_open(&err, path, &s), TS_EMODEL, path, "header of 3 bytes",
                   NULL);
    char deep[4000] = "{\"a\":";
    memset(deep + 5, '[', 3000);
    deep[3005] = 0;
    path = scratch_safetensors(dir, "deep.safetensors", deep, 0);
    scratch_expect(&err, ts_safetensors_open(&err, path, &s), TS_EMODEL, path, "not JSON", NULL);
}
END_TEST

START_TEST(keeps_unknown_types_until_asked)
{
    ts_safetensors s;
    const char *path = scratch_safetensors(
        dir, "odd.safetensors",
        "{\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},\"six\":{\"dtype\":\"U8\","
        "\"shape\":[1,1,1,1,1,2],\"data_offsets\":[8,10]},"
        "\"f8\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[10,12]},\"ok\":{\"dtype\":"
        "\"U8\",\"shape\":[2],\"data_offsets\":[12,14]}}",
        14);
    ck_assert_msg(ts_safetensors_open(&err, path, &s) == TS_OK, "%s", err.text);
    ck_assert_ptr_null(ts_safetensors_find(&s, "ok")->odd);
    ck_assert_str_eq(ts_safetensors_find(&s, "d")->odd, "type F64");
    ck_assert_str_eq(ts_safetensors_find(&s, "f8")->odd, "type F8_E4M3");
    ck_assert_str_eq(ts_safetensors_find(&s, "six")->odd, "6 dimensions");
    ts_safetensors_close(&s);
}
END_TEST

/* A good file, cut at every length and with every byte of its header replaced: opened or refused,
 * never followed out of the file. Everything that opens is read. */
START_TEST(survives_damage)
{
    static const char header[] =
        "{\"ab\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},\"c\":{\"dtype\":"
        "\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}";
    uint8_t good[8 + sizeof header - 1 + 11] = {sizeof header - 1};
    memcpy(good + 8, header, sizeof header - 1);
    ts_safetensors s;
    long opened = 0, refused = 0;
    unsigned sum = 0;
    for (size_t n = 0; n < sizeof good; n++) {
        const char *path = scratch_write(dir, "cut.safetensors", good, n);
        scratch_expect(&err, ts_safetensors_open(&err, path, &s), TS_EMODEL, path, NULL);
    }
    for (size_t at = 0; at < sizeof good - 11; at++)
        for (const char *c = "0\"9-,}[e\\\xff"; *c; c++) {
            uint8_t keep = good[at];
            good[at] = (uint8_t)*c;
            const char *path = scratch_write(dir, "hit.safetensors", good, sizeof good);
            good[at] = keep;
            if (ts_safetensors_open(&err, path, &s) != TS_OK) {
                refused++;
                ck_assert_msg(strstr(err.text, path) != NULL, "%s", err.text);
                continue;
            }
            opened++;
            for (int i = 0; i < s.entries; i++)
                for (size_t k = 0; k < s.entry[i].bytes; k++)
                    sum += ((const uint8_t *)s.entry[i].t.data)[k];
            ts_safetensors_close(&s);
        }
    ck_assert_uint_eq(sum, 0);
    ck_assert_int_gt(opened, 10); /* names and padding may change */
    ck_assert_int_gt(refused, 500);
}
END_TEST

/* Every bf16 and f16 number against arithmetic on its parts: (-1)^s 2^(e - bias) (1 + m / 2^bits),
 * subnormals without the 1. */
START_TEST(widens_every_half)
{
    for (uint32_t h = 0; h < 65536; h++) {
        for (int k = 0; k < 2; k++) {
            int bits = k ? 10 : 7, top = (1 << (15 - bits)) - 1, bias = top / 2,
                e = (int)(h >> bits) & top, m = (int)h & ((1 << bits) - 1);
            double want = e ? ldexp(1 + ldexp(m, -bits), e - bias) : ldexp(m, 1 - bias - bits);
            if (e == top) want = m ? (double)NAN : HUGE_VAL;
            if (h & 0x8000) want = -want;
            uint8_t odd[3] = {0, (uint8_t)h, (uint8_t)(h >> 8)};
            float got;
            ts_widen(k ? TS_F16 : TS_BF16, odd + 1, 1, &got); /* at an odd address */
            ck_assert_msg(isnan(want) ? isnan(got)
                                      : got == (float)want && !signbit(got) == !signbit(want),
                          "%s %04x: %g, expected %g", k ? "f16" : "bf16", h, got, want);
        }
    }
}
END_TEST

START_TEST(writes_shapes)
{
    char b[96];
    ck_assert_str_eq(ts_shape_text(0, NULL, b), "[]");
    ck_assert_str_eq(ts_shape_text(2, (long[]){-1, 3}, b), "[any, 3]");
    ck_assert_str_eq(
        ts_shape_text(5, (long[]){INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, 1}, b),
        "[9223372036854775807, 9223372036854775807, 9223372036854775807, 9223372036854775807, 1]");
}
END_TEST

int main(void)
{
    dir = testing_tmp();
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, reads_what_is_there);
    tcase_add_test(t, is_a_source_of_rows);
    tcase_add_loop_test(t, refuses_hostile_headers, 0, (int)(sizeof hostile / sizeof *hostile));
    tcase_add_test(t, refuses_files_that_are_none);
    tcase_add_test(t, keeps_unknown_types_until_asked);
    tcase_add_test(t, survives_damage);
    tcase_add_test(t, widens_every_half);
    tcase_add_test(t, writes_shapes);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(dir);
    return failed;
}
