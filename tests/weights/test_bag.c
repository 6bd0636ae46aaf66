/* Bags: what goes in comes out, in memory and through files; a failed save leaves nothing
 * behind. */
#include "tests/weights/scratch.h"
#include "weights/safetensors.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char *dir;
static ts_err err;

static int files_in(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s", path);
    char *b = malloc(1 << 16);
    *n = fread(b, 1, 1 << 16, f);
    fclose(f);
    return b;
}

START_TEST(holds_what_is_put)
{
    ts_bag *b = ts_bag_new();
    ts_host t;
    const float x[6] = {1, 2, 3, 4, 5, 6};
    float *own = ts_bag_put(b, "x", TS_F32, 2, (long[]){2, 3}, x);
    ck_assert(own != x && !memcmp(own, x, sizeof x) && (uintptr_t)own % 64 == 0);
    own[5] = 7;
    ck_assert(ts_bag_get(&err, b, "x", TS_F32, 2, (long[]){-1, 3}, &t) == TS_OK &&
              ((const float *)t.data)[5] == 7 && t.data == own);
    const uint8_t *zeros = ts_bag_put(b, "a", TS_U8, 1, (long[]){100}, NULL);
    for (int i = 0; i < 100; i++) ck_assert_uint_eq(zeros[i], 0);
    ck_assert_ptr_nonnull(ts_bag_put(b, "empty", TS_F32, 2, (long[]){0, 3}, NULL));
    ck_assert_int_eq(ts_bag_count(b), 3);
    ck_assert(!strcmp(ts_bag_name(b, 0), "a") && !strcmp(ts_bag_name(b, 2), "x") &&
              ts_bag_has(b, "a") && !ts_bag_has(b, "b"));
    const float y = 9;
    ck_assert_ptr_nonnull(ts_bag_put(b, "x", TS_F32, 0, NULL, &y)); /* replaces */
    ck_assert(ts_bag_count(b) == 3 && ts_bag_get(&err, b, "x", TS_F32, -1, NULL, &t) == TS_OK &&
              t.nd == 0 && *(const float *)t.data == 9);
    scratch_expect(&err, ts_bag_get(&err, b, "nope", TS_F32, -1, NULL, &t), TS_EMODEL, "\"nope\"",
                   NULL);
    scratch_expect(&err, ts_bag_get(&err, b, "a", TS_U8, 1, (long[]){99}, &t), TS_ESHAPE, "\"a\"",
                   "U8 [100]", "U8 [99]", NULL);
    scratch_expect(&err, ts_bag_get(&err, b, "a", TS_U8, 2, (long[]){-1, 100}, &t), TS_ESHAPE,
                   "\"a\"", "[any, 100]", NULL);
    scratch_expect(&err, ts_bag_get(&err, b, "a", TS_F32, -1, NULL, &t), TS_ESHAPE, "\"a\"",
                   "U8 [100]", "F32 of any shape", NULL);
    ts_bag_free(b);
    ts_bag_free(NULL);
}
END_TEST

START_TEST(keeps_metadata)
{
    ts_bag *b = ts_bag_new();
    ck_assert_ptr_null(ts_bag_meta_get(b, "k"));
    ts_bag_meta(b, "k", "1");
    ts_bag_meta(b, "j", "2");
    ts_bag_meta(b, "k", "3");
    ts_bag_meta(b, "k", ts_bag_meta_get(b, "k")); /* its own value */
    ck_assert_str_eq(ts_bag_meta_get(b, "k"), "3");
    ts_bag_meta(b, "k", NULL);
    ts_bag_meta(b, "k", NULL);
    ck_assert(!ts_bag_meta_get(b, "k") && !strcmp(ts_bag_meta_get(b, "j"), "2"));
    ts_bag_free(b);
}
END_TEST

/* Every type through a file and back; two bags filled in different order give the same bytes;
 * everything in the file is aligned. */
START_TEST(round_trips)
{
    char path[2][600];
    size_t n[2];
    char *bytes[2];
    static const int64_t big[2] = {INT64_MIN, INT64_MAX};
    static const float f[3] = {1.5f, -0.0f, 1e-40f};
    static const int32_t i[1] = {-7};
    static const uint32_t u[1] = {0xdeadbeef};
    static const uint8_t c[5] = {1, 2, 3, 4, 5};
    static const char prompt[] = "a \"cat\"\n\\ \xe2\x9c\x93 \x01";
    for (int k = 0; k < 2; k++) {
        ts_bag *b = ts_bag_new();
        snprintf(path[k], sizeof path[k], "%s/trip-%d.safetensors", dir, k);
        for (int j = 0; j < 6; j++) switch (k ? 5 - j : j) {
            case 0: ts_bag_put(b, "z/big", TS_I64, 1, (long[]){2}, big); break;
            case 1: ts_bag_put(b, "f", TS_F32, 3, (long[]){1, 3, 1}, f); break;
            case 2: ts_bag_put(b, "i", TS_I32, 0, NULL, i); break;
            case 3: ts_bag_put(b, "u", TS_U32, 1, (long[]){1}, u); break;
            case 4:
                ts_bag_put(b, "a-c\"\\", TS_U8, 1, (long[]){5}, c);
                ts_bag_meta(b, "prompt", prompt);
                break;
            case 5:
                ts_bag_put(b, "none", TS_F32, 2, (long[]){0, 4}, NULL);
                ts_bag_meta(b, "a", "");
                break;
            }
        ck_assert_msg(ts_bag_save(&err, b, path[k]) == TS_OK, "%s", err.text);
        ts_bag_free(b);
        bytes[k] = slurp(path[k], n + k);
    }
    ck_assert(n[0] == n[1] && !memcmp(bytes[0], bytes[1], n[0]));
    ck_assert_uint_eq((uint8_t)bytes[0][0] % 8, 0);
    free(bytes[0]);
    free(bytes[1]);
    ts_safetensors s;
    ck_assert_msg(ts_safetensors_open(&err, path[0], &s) == TS_OK, "%s", err.text);
    for (int j = 0; j < s.entries; j++)
        ck_assert_uint_eq((uintptr_t)s.entry[j].t.data % ts_dtype_size(s.entry[j].t.type), 0);
    ts_safetensors_close(&s);
    ts_bag *b = testing_bag(path[0]);
    ts_host t;
    ck_assert_int_eq(ts_bag_count(b), 6);
    ck_assert(ts_bag_get(&err, b, "z/big", TS_I64, 1, (long[]){2}, &t) == TS_OK &&
              !memcmp(t.data, big, sizeof big));
    ck_assert(ts_bag_get(&err, b, "f", TS_F32, 3, (long[]){1, 3, 1}, &t) == TS_OK &&
              !memcmp(t.data, f, sizeof f));
    ck_assert(ts_bag_get(&err, b, "i", TS_I32, 0, NULL, &t) == TS_OK &&
              !memcmp(t.data, i, sizeof i));
    ck_assert(ts_bag_get(&err, b, "u", TS_U32, 1, (long[]){1}, &t) == TS_OK &&
              !memcmp(t.data, u, sizeof u));
    ck_assert(ts_bag_get(&err, b, "a-c\"\\", TS_U8, 1, (long[]){5}, &t) == TS_OK &&
              !memcmp(t.data, c, sizeof c));
    ck_assert(ts_bag_get(&err, b, "none", TS_F32, 2, (long[]){0, 4}, &t) == TS_OK);
    ck_assert_str_eq(ts_bag_meta_get(b, "prompt"), prompt);
    ck_assert_str_eq(ts_bag_meta_get(b, "a"), "");
    /* a loaded bag names its file */
    scratch_expect(&err, ts_bag_get(&err, b, "x", TS_F32, -1, NULL, &t), TS_EMODEL, path[0],
                   "\"x\"", NULL);
    ts_bag_free(b);
}
END_TEST

START_TEST(widens_halves_and_refuses_the_rest)
{
    ts_bag *b;
    uint16_t data[4] = {scratch_bf16(1.5f), scratch_bf16(-2), scratch_f16(0.125f), scratch_f16(-3)};
    char file[300];
    const char *header = "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},\"h\":{"
                         "\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[4,8]}}";
    memset(file, 0, 8);
    file[0] = (char)strlen(header);
    memcpy(file + 8, header, strlen(header));
    memcpy(file + 8 + strlen(header), data, 8);
    b = testing_bag(scratch_write(dir, "halves.safetensors", file, 16 + strlen(header)));
    long n;
    const float *x = testing_f32(b, "b", &n), *h = testing_f32(b, "h", NULL);
    ck_assert(n == 2 && x[0] == 1.5f && x[1] == -2 && h[0] == 0.125f && h[1] == -3);
    ts_bag_free(b);
    const char *path = scratch_safetensors(
        dir, "f64.safetensors", "{\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}",
        8);
    scratch_expect(&err, ts_bag_load(&err, path, &b), TS_EMODEL, path, "\"d\"", "F64", NULL);
    ck_assert_ptr_null(b);
}
END_TEST

START_TEST(failed_saves_leave_nothing)
{
    char path[600], sub[600];
    ts_bag *b = ts_bag_new();
    ts_bag_put(b, "x", TS_F32, 1, (long[]){100000}, NULL);
    snprintf(path, sizeof path, "%s/no/such/x.safetensors", dir);
    scratch_expect(&err, ts_bag_save(&err, b, path), TS_EIO, path, "No such file", NULL);
    scratch_expect(&err, ts_bag_save(&err, b, "/dev/full"), TS_EIO, "/dev/full", "No space left",
                   NULL);
    ck_assert_int_eq(access("/dev/full", W_OK), 0);
    snprintf(sub, sizeof sub, "%s", scratch_text(dir, "saves/old.safetensors", "old"));
    snprintf(path, sizeof path, "%s/saves", dir);
    /* a file size limit is the nearest thing to a full disk that needs no privileges */
    struct rlimit old, small = {50000, 50000};
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    ts_status st = ts_bag_save(&err, b, sub);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    scratch_expect(&err, st, TS_EIO, sub, "File too large", NULL);
    ck_assert_int_eq(files_in(path), 1); /* the temporary is gone, ... */
    size_t n;
    char *text = slurp(sub, &n);
    ck_assert(n == 3 && !memcmp(text, "old", 3)); /* ... and the old file is whole */
    free(text);
    /* a folder in its place */
    scratch_expect(&err, ts_bag_save(&err, b, path), TS_EIO, path, "directory", NULL);
    ck_assert_int_eq(files_in(path), 1);
    /* a new file does not replace one */
    scratch_expect(&err, ts_bag_save_new(&err, b, sub), TS_EUSAGE, sub, "exists already", NULL);
    text = slurp(sub, &n);
    ck_assert(n == 3 && !memcmp(text, "old", 3));
    free(text);
    ck_assert(ts_bag_save(&err, b, sub) == TS_OK && files_in(path) == 1);
    ck_assert_int_eq(unlink(sub), 0);
    ck_assert(ts_bag_save_new(&err, b, sub) == TS_OK && files_in(path) == 1);
    ts_bag_free(b);
    ts_bag_free(testing_bag(sub));
}
END_TEST

/* ---- memory ---- */
static int allocations_left;
static void *allocate_or_not(size_t n) { return allocations_left-- > 0 ? malloc(n) : NULL; }

/* Whichever allocation of the header fails: a sentence and no file, never half a header. */
START_TEST(no_memory_for_the_header)
{
    char path[4096];
    cJSON_Hooks hooks = {allocate_or_not, free};
    ts_bag *bag = ts_bag_new();
    ck_assert_ptr_nonnull(ts_bag_put(bag, "a", TS_F32, 2, (long[]){2, 3}, NULL));
    ts_bag_meta(bag, "key", "value");
    snprintf(path, sizeof path, "%s/header", dir);
    ts_status st = TS_EMEMORY;
    int n = 0;
    while (st && n < 1000) {
        allocations_left = n++;
        cJSON_InitHooks(&hooks);
        st = ts_bag_save(&err, bag, path);
        cJSON_InitHooks(NULL);
        if (!st) break;
        ck_assert_int_eq(st, TS_EMEMORY);
        ck_assert_msg(strstr(err.text, "out of memory") && access(path, F_OK), "%s", err.text);
    }
    ck_assert_msg(!st && n > 10, "%d allocations", n);
    ts_bag_free(bag);
    bag = testing_bag(path);
    ck_assert_str_eq(ts_bag_meta_get(bag, "key"), "value");
    ts_bag_free(bag);
}
END_TEST

int main(void)
{
    dir = testing_tmp();
    Suite *s = suite_create("bag");
    TCase *t = tcase_create("all");
    tcase_add_test(t, holds_what_is_put);
    tcase_add_test(t, keeps_metadata);
    tcase_add_test(t, round_trips);
    tcase_add_test(t, widens_halves_and_refuses_the_rest);
    tcase_add_test(t, failed_saves_leave_nothing);
    tcase_add_test(t, no_memory_for_the_header);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(dir);
    return failed;
}
