/* Every fixture's prompts through its tokenizer.json and through its spiece.model, and folders
 * without either. */
#include "prompts/text.h"

#include "tests/prompts/models.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const fixtures[] = {
    "wan21-t2v",    "wan21-t2v-euler", "wan21-t2i-bf16", "wan22-a14b",   "wan22-ti2v-5b",
    "wan21-adaspa", "wan21-tile",      "wan21-window",   "wan21-pooled", "wan21-i2v"};

static void check_ids(ts_ctx *c, ts_tokenizer *t, const char *text, const ts_bag *want,
                      const char *key)
{
    char *clean;
    ts_host h;
    int ids[512];
    ck_ok(c, ts_clean_prompt(&c->err, text, &clean));
    ck_ok(c, ts_bag_get(&c->err, want, key, TS_I64, 1, (long[]){-1}, &h));
    ck_assert(h.dim[0] >= 1 && h.dim[0] <= 512);
    for (int i = 0; i < h.dim[0]; i++) ids[i] = (int)((const int64_t *)h.data)[i];
    models_expect(c, t, clean, ids, (int)h.dim[0]);
    free(clean);
}

static void check_fixture(ts_ctx *c, const char *name, const char *dir)
{
    char path[4096];
    ts_tokenizer *t;
    cJSON *j = testing_case(name);
    snprintf(path, sizeof path, "%s/expected.safetensors", testing_fixture(name));
    ts_bag *want = testing_bag(path);
    ck_ok(c, ts_tokenizer_open(c, dir, &t));
    check_ids(c, t, cJSON_GetObjectItem(j, "prompt")->valuestring, want, "ids");
    check_ids(c, t, cJSON_GetObjectItem(j, "negative")->valuestring, want, "negative_ids");
    ts_tokenizer_close(t);
    ts_bag_free(want);
    cJSON_Delete(j);
}

START_TEST(fixture_ids)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char dir[4096], file[8192], *tmp = testing_tmp();
    size_t n;
    snprintf(dir, sizeof dir, "%s/model/tokenizer", testing_fixture(fixtures[_i]));
    check_fixture(c, fixtures[_i], dir);
    /* the same vocabulary as SentencePiece has it */
    snprintf(file, sizeof file, "%s/spiece.model", dir);
    uint8_t *data = models_read(file, &n);
    models_write(tmp, "spiece.model", data, n);
    check_fixture(c, fixtures[_i], tmp);
    free(data);
    testing_close(c);
    free(tmp);
}
END_TEST

START_TEST(missing_files)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char path[4096], *tmp = testing_tmp();
    ts_tokenizer *t;
    ck_assert_int_eq(ts_tokenizer_open(c, tmp, &t), TS_EMODEL);
    ck_assert(strstr(c->err.text, "tokenizer.json") && strstr(c->err.text, "spiece.model") &&
              strstr(c->err.text, tmp));
    for (int i = 0; i < 2; i++) { /* a folder where a file should be */
        snprintf(path, sizeof path, "%s/%s", tmp, i ? "tokenizer.json" : "spiece.model");
        ck_assert_int_eq(mkdir(path, 0700), 0);
        ck_assert_int_eq(ts_tokenizer_open(c, tmp, &t), TS_EMODEL);
        ck_assert_msg(strstr(c->err.text, path) && !t, "%s", c->err.text);
    }
    testing_close(c);
    free(tmp);
}
END_TEST

START_TEST(not_json)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    models_write(tmp, "tokenizer.json", "{", 1);
    ck_assert_int_eq(ts_tokenizer_open(c, tmp, &t), TS_EMODEL);
    ck_assert(strstr(c->err.text, "tokenizer.json:1:"));
    testing_close(c);
    free(tmp);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *tc = tcase_create("tokenizer");
    tcase_add_loop_test(tc, fixture_ids, 0, sizeof fixtures / sizeof *fixtures);
    tcase_add_test(tc, missing_files);
    tcase_add_test(tc, not_json);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
