/* JSON with its faults and Python's literals, and tables of keys. */
#include "tests/weights/scratch.h"
#include "weights/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;

static cJSON *load(const char *text)
{
    ts_err err = {0};
    cJSON *j = NULL;
    ts_status st = ts_json_load(&err, scratch_text(dir, "c.json", text), &j);
    ck_assert_msg(st == TS_OK && j, "%s", err.text);
    return j;
}

START_TEST(reads_literals_of_python)
{
    cJSON *j = load("{\"a\": NaN, \"b\": Infinity, \"c\": [-Infinity,NaN,-1, NaN], \"NaN\": "
                    "\"-Infinity \\\" NaN\\\\\", \"d\": \"Infinity\", \"n\": -2}");
    ck_assert(cJSON_IsNull(cJSON_GetObjectItem(j, "a")) &&
              cJSON_IsNull(cJSON_GetObjectItem(j, "b")));
    const cJSON *c = cJSON_GetObjectItem(j, "c");
    ck_assert(cJSON_IsNull(cJSON_GetArrayItem(c, 0)) && cJSON_IsNull(cJSON_GetArrayItem(c, 1)) &&
              cJSON_GetArrayItem(c, 2)->valueint == -1 && cJSON_IsNull(cJSON_GetArrayItem(c, 3)));
    ck_assert_str_eq(cJSON_GetObjectItem(j, "NaN")->valuestring, "-Infinity \" NaN\\");
    ck_assert_str_eq(cJSON_GetObjectItem(j, "d")->valuestring, "Infinity");
    ck_assert_int_eq(cJSON_GetObjectItem(j, "n")->valueint, -2);
    cJSON_Delete(j);
    /* nothing but literals: the copy grows by a third */
    char many[4 * 500 + 3] = "[";
    for (int i = 0; i < 500; i++) strcat(many, i ? ",NaN" : "NaN");
    strcat(many, "]");
    j = load(many);
    ck_assert_int_eq(cJSON_GetArraySize(j), 500);
    cJSON_Delete(j);
}
END_TEST

static const struct {
    const char *text, *where;
} fault[] = {
    {"", ":1:1:"},
    {"{\"a\": 1,\n \"b\": x}", ":2:7:"},
    /* counted in the file, not in the copy */
    {"{\"a\": NaN, \"b\": -Infinity, \"c\": ?}", ":1:33:"},
    {"{\"a\": [1, 2}", ":1:12:"},
    {"{\"a\": 1}\n\n}", ":3:1:"},
    {"{\"a\": \"open", ":1:8:"},
    {"Infinit", ":1:1:"},
};

START_TEST(tells_line_and_column)
{
    ts_err err = {0};
    cJSON *j;
    const char *path = scratch_text(dir, "bad.json", fault[_i].text);
    scratch_expect(&err, ts_json_load(&err, path, &j), TS_EMODEL, path, fault[_i].where, NULL);
    ck_assert_ptr_null(j);
}
END_TEST

START_TEST(tells_what_is_no_file)
{
    ts_err err = {0};
    cJSON *j;
    scratch_expect(&err, ts_json_load(&err, "/no/such.json", &j), TS_EMODEL, "/no/such.json",
                   "No such file", NULL);
    scratch_expect(&err, ts_json_load(&err, dir, &j), TS_EMODEL, dir, "not a file", NULL);
    scratch_expect(&err, ts_json_load(&err, scratch_text(dir, "cut.json", "{\"a\": [1, "), &j),
                   TS_EMODEL, "ends too early", NULL);
}
END_TEST

typedef struct {
    int heads, patch[3], mult[4], mults;
    double eps;
    bool cross;
    char cls[64];
    float mean[4];
    int means;
} values;
static const values untouched = {.heads = 40,
                                 .patch = {1, 2, 2},
                                 .mult = {9, 9, 9, 9},
                                 .mults = 7,
                                 .eps = 1e-6,
                                 .cross = true,
                                 .cls = "default",
                                 .means = 3};

static ts_status read_values(ts_ctx *ctx, const char *text, values *v)
{
    *v = untouched;
    const ts_key keys[] = {
        {"heads", TS_KEY_INT, &v->heads, 0, NULL, NULL},
        {"patch", TS_KEY_INTS, v->patch, 3, NULL, NULL},
        {"mult", TS_KEY_INTS, v->mult, 4, &v->mults, NULL},
        {"eps", TS_KEY_FLOAT, &v->eps, 0, NULL, NULL},
        {"cross", TS_KEY_BOOL, &v->cross, 0, NULL, NULL},
        {"cls", TS_KEY_STRING, v->cls, 0, NULL, NULL},
        {"mean", TS_KEY_FLOATS, v->mean, 4, &v->means, NULL},
        {"qk_norm", TS_KEY_ONLY, NULL, 0, NULL, "\"rms|x\"|null|[1, 2]|0.000001"},
        {"image_dim", TS_KEY_ONLY, NULL, 0, NULL, "null"},
        {"dropout", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
    };
    cJSON *j = load(text);
    ts_status st = ts_config_read(ctx, j, "m/config.json", keys, (int)(sizeof keys / sizeof *keys));
    cJSON_Delete(j);
    return st;
}

START_TEST(reads_tables)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    values v;
    ck_ok(ctx, read_values(ctx, "{}", &v));
    ck_assert(!memcmp(&v, &untouched, sizeof v));
    ck_ok(ctx, read_values(ctx,
                           "{\"heads\": null, \"patch\": null, \"mult\": null, \"eps\": NaN, "
                           "\"cross\": null, \"cls\": null, \"mean\": null}",
                           &v));
    ck_assert(!memcmp(&v, &untouched, sizeof v));
    ck_ok(ctx,
          read_values(
              ctx,
              "{\"heads\": 12, \"patch\": [2, 3, 4], \"mult\": [1, 2], \"eps\": 1e-5, \"cross\": "
              "false, \"cls\": \"Wan\", \"mean\": [0.5, -1], "
              "\"_class_name\": [], \"dropout\": {}, \"qk_norm\": \"rms|x\", \"image_dim\": null}",
              &v));
    ck_assert(v.heads == 12 && v.patch[0] == 2 && v.patch[2] == 4 && v.mults == 2 &&
              v.mult[1] == 2 && v.mult[2] == 9 && v.eps == 1e-5 && !v.cross && v.means == 2 &&
              v.mean[1] == -1);
    ck_assert_str_eq(v.cls, "Wan");
    ck_ok(ctx, read_values(ctx, "{\"qk_norm\": [1,2]}", &v));
    ck_ok(ctx, read_values(ctx, "{\"qk_norm\": 1e-06}", &v));
    ck_ok(ctx, read_values(ctx, "{\"mult\": []}", &v));
    ck_assert_int_eq(v.mults, 0);
    ck_assert_str_eq(testing_warned(ctx), "");
    ck_ok(ctx, read_values(ctx, "{\"heads\": 3, \"new_key\": {\"a\": [1]}, \"Heads\": 4}", &v));
    ck_assert_int_eq(v.heads, 3);
    ck_assert_str_eq(testing_warned(ctx),
                     "m/config.json: \"new_key\": {\"a\":[1]} is not known here and "
                     "ignored\nm/config.json: \"Heads\": 4 is not known here and ignored\n");
    testing_close(ctx);
}
END_TEST

static const struct {
    const char *text, *key, *value, *wanted;
} refused[] = {
    {"{\"heads\": 1.5}", "\"heads\"", "1.5", "whole number"},
    {"{\"heads\": \"12\"}", "\"heads\"", "\"12\"", "whole number"},
    {"{\"heads\": true}", "\"heads\"", "true", "whole number"},
    {"{\"heads\": 3000000000}", "\"heads\"", "3000000000", "whole number"},
    {"{\"eps\": \"small\"}", "\"eps\"", "small", "a number"},
    {"{\"cross\": 1}", "\"cross\"", "1", "true or false"},
    {"{\"cls\": 4}", "\"cls\"", "4", "text"},
    {"{\"cls\": \"0123456789012345678901234567890123456789012345678901234567890123\"}", "\"cls\"",
     "0123", "63"},
    {"{\"patch\": [1, 2]}", "\"patch\"", "[1,2]", "3 whole numbers"},
    {"{\"patch\": [1, 2, 2, 2]}", "\"patch\"", "[1,2,2,2]", "3 whole numbers"},
    {"{\"patch\": 2}", "\"patch\"", "2", "list"},
    {"{\"patch\": {\"a\": 1, \"b\": 2, \"c\": 3}}", "\"patch\"", "a", "list"},
    {"{\"mult\": [1, 2, 3, 4, 5]}", "\"mult\"", "5", "up to 4"},
    {"{\"mult\": [1, 2.5]}", "\"mult\"", "2.5", "whole numbers"},
    {"{\"mean\": [1, null]}", "\"mean\"", "null", "numbers"},
    {"{\"qk_norm\": \"layer\"}", "\"qk_norm\"", "\"layer\"", "\"rms|x\"|null"},
    {"{\"qk_norm\": \"RMS|X\"}", "\"qk_norm\"", "RMS", "supported"},
    {"{\"image_dim\": 1280}", "\"image_dim\"", "1280", "supported: null"},
    {"[]", "m/config.json", "", "object"},
};

START_TEST(refuses_by_name)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    values v;
    scratch_expect(&ctx->err, read_values(ctx, refused[_i].text, &v), TS_EMODEL, "m/config.json",
                   refused[_i].key, refused[_i].value, refused[_i].wanted, NULL);
    testing_close(ctx);
}
END_TEST

int main(void)
{
    dir = testing_tmp();
    Suite *s = suite_create("config");
    TCase *t = tcase_create("all");
    tcase_add_test(t, reads_literals_of_python);
    tcase_add_loop_test(t, tells_line_and_column, 0, (int)(sizeof fault / sizeof *fault));
    tcase_add_test(t, tells_what_is_no_file);
    tcase_add_test(t, reads_tables);
    tcase_add_loop_test(t, refuses_by_name, 0, (int)(sizeof refused / sizeof *refused));
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(dir);
    return failed;
}
