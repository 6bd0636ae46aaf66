/* Matrices whose numbers have to be decoded: rows by several threads, how long they stay, what is
 * said when they do not. */
#include "tests/weights/scratch.h"
#include "weights/set.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GROUPS = 3, ROWS = 600, COLUMNS = 512, BYTES = 4 * ROWS * COLUMNS };
static char *dir;

/* Groups of one matrix in E4M3, with a scale a row. A row that `bad` names has none. */
static const char *write_model(int bad)
{
    enum { MATRIX = ROWS * COLUMNS, ALL = MATRIX + 4 * ROWS };
    static uint8_t file[8 + 4096 + GROUPS * ALL];
    size_t n = 8;
    n += (size_t)sprintf((char *)file + n, "{");
    for (int g = 0; g < GROUPS; g++)
        n += (size_t)sprintf((char *)file + n,
                             "%s\"m%d.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[%d,%d],"
                             "\"data_offsets\":[%d,%d]},\"m%d.weight_scale\":{\"dtype\":\"F32\","
                             "\"shape\":[%d,1],\"data_offsets\":[%d,%d]}",
                             g ? "," : "", g, ROWS, COLUMNS, g * ALL, g * ALL + MATRIX, g, ROWS,
                             g * ALL + MATRIX, (g + 1) * ALL);
    n += (size_t)sprintf((char *)file + n, "}");
    memset(file, 0, 8);
    memcpy(file, &(uint32_t){(uint32_t)n - 8}, 4);
    for (int g = 0; g < GROUPS; g++) {
        for (int r = 0; r < ROWS; r++) /* 1, 2, 4 and 8 by turns */
            for (int k = 0; k < COLUMNS; k++) file[n++] = (uint8_t)(0x38 + 8 * ((r + k + g) % 4));
        for (int r = 0; r < ROWS; r++, n += 4)
            memcpy(file + n, &(float){r == bad ? 0 : (float)(r + 1)}, 4);
    }
    return scratch_write(dir, "model.safetensors", file, n);
}

static ts_weights *open_model(ts_ctx *c, const char *path, const ts_weight *w[GROUPS])
{
    ts_weights *ws;
    ck_ok(c, ts_weights_open(c, path, "model", NULL, &ws));
    for (int g = 0; g < GROUPS; g++) {
        char name[32];
        snprintf(name, sizeof name, "m%d.weight", g);
        ck_ok(c, ts_weights_find(ws, g, TS_ROLE_MATRIX, name, 2, (long[]){ROWS, COLUMNS}, w + g));
        ts_keep_wish(NULL, w[g], (ts_form){TS_F32, 0, BYTES});
    }
    return ws;
}

static void check_matrix(const ts_weight *w, int g)
{
    const float *f = (const float *)(uintptr_t)w->t.p.at;
    ck_assert_ptr_nonnull(f);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < COLUMNS; k++) {
            float got = f[(long)r * COLUMNS + k], want = (float)((r + 1) << (r + k + g) % 4);
            ck_assert_msg(got == want, "group %d, row %d, column %d: %g, expected %g", g, r, k, got,
                          want);
        }
}

/* 1 to 5 threads, which share 600 rows unequally; everything is packed once. */
START_TEST(threads_share_rows)
{
    ts_ctx *c = testing_open("cpu", NULL, _i);
    const ts_weight *w[GROUPS];
    ts_weights *ws = open_model(c, write_model(-1), w);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) ck_ok(c, ts_weights_enter(ws, g));
    for (int g = 0; g < GROUPS; g++) check_matrix(w[g], g);
    ts_weights_cost cost = ts_weights_spent(ws, true);
    ck_assert(cost.bytes == GROUPS * BYTES && cost.seconds > 0);
    cost = ts_weights_spent(ws, false);
    ck_assert(cost.bytes == 0 && cost.seconds == 0);
    ck_assert_str_eq(testing_warned(c), "");
    ts_weights_close(ws);
    testing_close(c);
}
END_TEST

/* A row that can not be decoded: of the threads the one that has it says so. */
START_TEST(a_damaged_row)
{
    ts_ctx *c = testing_open("cpu", NULL, 4);
    const ts_weight *w[GROUPS];
    const char *path = write_model(431);
    ts_weights *ws = open_model(c, path, w);
    scratch_expect(&c->err, ts_weights_enter(ws, 1), TS_EMODEL, path, "m1.weight_scale",
                   "scale 431 is 0", NULL);
    ck_assert(!w[1]->t.p.at);
    ts_weights_close(ws);
    testing_close(c);
}
END_TEST

/* What takes turns although there is a budget is said, once; without any budget, as a text encoder
 * has it, each layer is used once and nothing is said. */
START_TEST(turns_are_told_of)
{
    ts_ctx *c = testing_open("cpu", NULL, 2);
    const ts_weight *w[GROUPS];
    ts_weights *ws = open_model(c, write_model(-1), w);
    ts_weights_budget(ws, 0);
    for (int g = 0; g < GROUPS; g++) ck_ok(c, ts_weights_enter(ws, g));
    ck_assert_str_eq(testing_warned(c), "");
    ts_weights_budget(ws, 2 * BYTES); /* a slot and one group */
    ts_env env = c->env;
    c->env.warn = NULL; /* as in a forecast, which plans the same */
    ck_ok(c, ts_weights_enter(ws, 0));
    c->env = env;
    for (int round = 0; round < 3; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(c, ts_weights_enter(ws, g));
            check_matrix(w[g], g);
        }
    ck_assert(ts_weights_spent(ws, false).bytes == (GROUPS + 1.0 + 3 * (GROUPS - 1)) * BYTES);
    const char *said = testing_warned(c);
    ck_assert_msg(strstr(said, "model.safetensors") && strstr(said, ": 2.5 MB of them"), "%s",
                  said);
    ck_assert_ptr_eq(strchr(said, '\n'), strrchr(said, '\n'));
    ts_weights_close(ws);
    testing_close(c);
}
END_TEST

/* Four matrices of 2^26 numbers, Q8_0, in a file that is a hole: all of them may stay in f32,
 * beside a quarter for the rest, which is far more than their bytes. */
START_TEST(room_is_for_decoded_numbers)
{
    static uint8_t head[1024];
    size_t n = 24;
    uint64_t side = 8192, bytes = side * side / 32 * 34;
    memcpy(head, "GGUF\3\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    for (uint64_t i = 0; i < 4; i++) {
        uint64_t offset = i * bytes, length = 2;
        memcpy(head + n, &length, 8);
        head[n + 8] = 'm';
        head[n + 9] = (uint8_t)('0' + i);
        memcpy(head + n + 10, "\2\0\0\0", 4);
        memcpy(head + n + 14, &side, 8);
        memcpy(head + n + 22, &side, 8);
        memcpy(head + n + 30, "\10\0\0\0", 4);
        memcpy(head + n + 34, &offset, 8);
        n += 42;
    }
    const char *path = scratch_write(dir, "hole.gguf", head, n);
    size_t size = 224 + 4 * bytes;
    ck_assert_int_eq(truncate(path, (off_t)size), 0);
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    ck_ok(c, ts_weights_open(c, path, "model", NULL, &ws));
    size_t all = size + 4 * side * side * sizeof(float);
    ck_assert_uint_eq(ws->most, all + all / 4);
    ts_weights_close(ws);
    testing_close(c);
}
END_TEST

int main(void)
{
    dir = testing_tmp();
    Suite *s = suite_create("decoded");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, threads_share_rows, 1, 6);
    tcase_add_test(t, a_damaged_row);
    tcase_add_test(t, turns_are_told_of);
    tcase_add_test(t, room_is_for_decoded_numbers);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(dir);
    return failed;
}
