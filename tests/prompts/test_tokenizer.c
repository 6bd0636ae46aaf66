/* Unigram tokenizers: a small model with a character map, every fixture's prompts through tokenizer.json and spiece.model, damaged files. */
#include "prompts/text.h"

#include "tests/prompts/pieces.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t decode64(const char *s, uint8_t *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    uint32_t bits = 0;
    int have = 0;
    for (; *s && *s != '='; s++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, *s) - digits), have += 6;
        if (have >= 8) out[n++] = (uint8_t)(bits >> (have -= 8));
    }
    return n;
}

static void write_file(const char *dir, const char *name, const void *data, size_t n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(data, 1, n, f) == n);
    fclose(f);
}

static void expect(ts_ctx *c, ts_tokenizer *t, const char *text, const int *want, int n)
{
    int32_t *ids;
    int got;
    bool cut;
    ck_ok(c, ts_tokenize(t, text, 512, &ids, &got, &cut));
    ck_assert_msg(got == n + 1 && ids[n] == 1 && !cut, "\"%s\": %d ids, expected %d and the end", text, got, n);
    for (int i = 0; i < n; i++) ck_assert_msg(ids[i] == want[i], "\"%s\": id %d is %d (%s), expected %d", text, i, ids[i], ts_token_piece(t, ids[i]), want[i]);
    free(ids);
}

#define IDS(...) (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), {__VA_ARGS__}
static const struct { const char *text; int n, ids[16]; } table[] = {
    {"a cat and a dog", IDS(3, 7, 25, 3, 5)}, {"  a   cat  ", IDS(3, 7)}, {"", 0, {0}}, {"   ", 0, {0}}, {"\xEF\xBC\xA1 caf\xC3\xA9\xEF\xBC\x81", IDS(8, 2, 8, 91, 50, 84, 99, 9)},
    {"cafe\xCC\x81", IDS(8, 91, 50, 84, 99)}, {"\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E cat", IDS(8, 2, 7)}, {"\tcat\nX", IDS(7, 2)},
    {"\xEF\xAC\x81sh\xE2\x80\x8B" "cat\xE3\x80\x80" "dog", IDS(8, 84, 58, 95, 57, 5)}, {"catdogspoon", IDS(7, 55, 96, 85, 94, 94, 97)}, {"zzz 42!", IDS(8, 2, 8, 2, 9)},
    {"happy\xC2\xA0" "face, video.", IDS(35, 47, 10, 45, 11)}, {"a", IDS(3)}, {"\xE2\x96\x81" "cat", IDS(8, 7)}, {"\xF0\x9F\x99\x82\xF0\x9F\x99\x82 cat", IDS(8, 2, 7)}};

START_TEST(spiece_table)
{
    static uint8_t model[8192];
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    write_file(tmp, "spiece.model", model, decode64(pieces_base64, model));
    ck_ok(c, ts_tokenizer_open(c, tmp, &t));
    ck_assert_int_eq(ts_token_count(t), 100);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) expect(c, t, table[i].text, table[i].ids, table[i].n);
    ts_tokenizer_close(t), testing_close(c), free(tmp);
}
END_TEST

START_TEST(cut_keeps_the_end)
{
    static uint8_t model[8192];
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    int32_t *ids;
    int n;
    bool cut;
    write_file(tmp, "spiece.model", model, decode64(pieces_base64, model));
    ck_ok(c, ts_tokenizer_open(c, tmp, &t));
    ck_ok(c, ts_tokenize(t, "a cat and a dog", 4, &ids, &n, &cut));
    ck_assert(n == 4 && cut && ids[0] == 3 && ids[1] == 7 && ids[2] == 25 && ids[3] == 1);
    free(ids);
    ck_ok(c, ts_tokenize(t, "a cat and a dog", 6, &ids, &n, &cut));
    ck_assert(n == 6 && !cut);
    free(ids);
    ts_tokenizer_close(t), testing_close(c), free(tmp);
}
END_TEST

static const char *const fixtures[] = {"wan21-t2v", "wan21-t2v-euler", "wan21-t2i-bf16", "wan22-a14b", "wan22-ti2v-5b", "wan21-adaspa", "wan21-tile", "wan21-window", "wan21-pooled"};

static void check_ids(ts_ctx *c, ts_tokenizer *t, const char *name, const char *text, const ts_bag *want, const char *key)
{
    char *clean;
    ts_host h;
    int32_t *ids;
    int n;
    bool cut;
    ck_ok(c, ts_clean_prompt(&c->err, text, &clean));
    ck_ok(c, ts_tokenize(t, clean, 512, &ids, &n, &cut));
    ck_ok(c, ts_bag_get(&c->err, want, key, TS_I64, 1, (long[]){-1}, &h));
    ck_assert_msg(n == h.dim[0], "%s: \"%s\" has %d ids, expected %ld", name, clean, n, h.dim[0]);
    for (int i = 0; i < n; i++) ck_assert_msg(ids[i] == ((const int64_t *)h.data)[i], "%s: \"%s\": id %d is %d, expected %ld", name, clean, i, ids[i], (long)((const int64_t *)h.data)[i]);
    free(ids), free(clean);
}

static void check_fixture(ts_ctx *c, const char *name, const char *dir)
{
    char path[4096];
    ts_tokenizer *t;
    cJSON *j = testing_case(name);
    snprintf(path, sizeof path, "%s/expected.safetensors", testing_fixture(name));
    ts_bag *want = testing_bag(path);
    ck_ok(c, ts_tokenizer_open(c, dir, &t));
    check_ids(c, t, name, cJSON_GetObjectItem(j, "prompt")->valuestring, want, "ids");
    check_ids(c, t, name, cJSON_GetObjectItem(j, "negative")->valuestring, want, "negative_ids");
    ts_tokenizer_close(t), ts_bag_free(want), cJSON_Delete(j);
}

static void copy_file(const char *from, const char *dir, const char *name)
{
    static char data[1 << 20];
    FILE *f = fopen(from, "rb");
    ck_assert_msg(f != NULL, "%s", from);
    size_t n = fread(data, 1, sizeof data, f);
    fclose(f);
    write_file(dir, name, data, n);
}

START_TEST(fixture_ids)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char dir[4096], file[8192], *tmp = testing_tmp();
    snprintf(dir, sizeof dir, "%s/model/tokenizer", testing_fixture(fixtures[_i]));
    check_fixture(c, fixtures[_i], dir);
    snprintf(file, sizeof file, "%s/spiece.model", dir); /* the same vocabulary as SentencePiece has it */
    copy_file(file, tmp, "spiece.model");
    check_fixture(c, fixtures[_i], tmp);
    testing_close(c), free(tmp);
}
END_TEST

/* Whatever a file holds, it is refused with a sentence or it works; it never crashes. */
static void survive(ts_ctx *c, const char *dir)
{
    ts_tokenizer *t;
    int32_t *ids;
    int n;
    bool cut;
    ts_status st = ts_tokenizer_open(c, dir, &t);
    if (st) {
        ck_assert_msg(st == TS_EMODEL && *c->err.text && !t, "status %d: %s", st, c->err.text);
        return;
    }
    if (!ts_tokenize(t, "a cat, caf\xC3\xA9 \xEF\xBC\x81", 16, &ids, &n, &cut)) free(ids);
    ts_tokenizer_close(t);
}

START_TEST(damaged_spiece)
{
    static uint8_t model[8192], bad[8192];
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    size_t n = decode64(pieces_base64, model);
    for (size_t i = 0; i < n; i += 7) { /* cut off */
        write_file(tmp, "spiece.model", model, i);
        survive(c, tmp);
    }
    for (size_t i = 0; i < n; i += 3) { /* one byte changed */
        memcpy(bad, model, n);
        bad[i] ^= (uint8_t)(1 + i % 255);
        write_file(tmp, "spiece.model", bad, n);
        survive(c, tmp);
    }
    testing_close(c), free(tmp);
}
END_TEST

START_TEST(refused_json)
{
    static const struct { const char *json, *phrase; } row[] = {
        {"{", "tokenizer.json"},
        {"{\"model\": {\"type\": \"BPE\"}}", "\"BPE\""},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", "vocab"},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\"]]}}", "entry 0"},
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 5, \"vocab\": [[\"a\", -1]]}}", "unk_id is 5"},
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"normalizer\": {\"type\": \"Rot13\"}}", "\"Rot13\""},
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"x+\"}, \"content\": \"\"}}", "\"x+\""},
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"////AAAA\"}}", "character map"},
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"pre_tokenizer\": {\"type\": \"ByteLevel\"}}", "\"ByteLevel\""},
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"post_processor\": {\"type\": \"RobertaProcessing\"}}", "\"RobertaProcessing\""}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        write_file(tmp, "tokenizer.json", row[i].json, strlen(row[i].json));
        ck_assert_msg(ts_tokenizer_open(c, tmp, &t) == TS_EMODEL, "%s was taken", row[i].json);
        ck_assert_msg(strstr(c->err.text, row[i].phrase) && strstr(c->err.text, "tokenizer.json"), "\"%s\" is not in \"%s\"", row[i].phrase, c->err.text);
    }
    testing_close(c), free(tmp);
}
END_TEST

START_TEST(missing_files)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    ck_assert_int_eq(ts_tokenizer_open(c, tmp, &t), TS_EMODEL);
    ck_assert(strstr(c->err.text, "tokenizer.json") && strstr(c->err.text, "spiece.model") && strstr(c->err.text, tmp));
    testing_close(c), free(tmp);
}
END_TEST

/* The ways in which exports differ: WhitespaceSplit before Metaspace, add_prefix_space, added tokens, byte fallback. */
START_TEST(json_variants)
{
    static const char json[] =
        "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 2, \"byte_fallback\": true, \"vocab\": [[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"\\u2581a\",-2],[\"\\u2581\",-3],[\"b\",-4],[\"<0xC3>\",0],[\"<0xA9>\",0]]},"
        "\"added_tokens\": [{\"id\": 8, \"content\": \"<x>\", \"special\": true}],"
        "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true}, {\"type\": \"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, \"content\": \" \"}]},"
        "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"add_prefix_space\": true}]},"
        "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\"}}, {\"SpecialToken\": {\"id\": \"</s>\"}}], \"special_tokens\": {\"</s>\": {\"ids\": [1]}}}}";
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    write_file(tmp, "tokenizer.json", json, strlen(json));
    ck_ok(c, ts_tokenizer_open(c, tmp, &t));
    expect(c, t, "a  a\tb  ", (int[]){3, 3, 4, 5}, 4);
    expect(c, t, "a<x>a", (int[]){3, 8, 3}, 3);
    expect(c, t, "\xC3\xA9", (int[]){4, 6, 7}, 3);
    expect(c, t, "\xC3\xA8", (int[]){4, 2}, 2); /* one of its bytes has no piece */
    expect(c, t, "", NULL, 0);
    ck_assert_str_eq(ts_token_piece(t, 8), "<x>");
    ck_assert(!ts_token_piece(t, 9) && ts_token_count(t) == 9);
    ts_tokenizer_close(t), testing_close(c), free(tmp);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *tc = tcase_create("tokenizer");
    tcase_add_test(tc, spiece_table);
    tcase_add_test(tc, cut_keeps_the_end);
    tcase_add_loop_test(tc, fixture_ids, 0, sizeof fixtures / sizeof *fixtures);
    tcase_add_test(tc, damaged_spiece);
    tcase_add_test(tc, refused_json);
    tcase_add_test(tc, missing_files);
    tcase_add_test(tc, json_variants);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
