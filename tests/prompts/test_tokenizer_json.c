/* tokenizer.json as different exports have it, against the ids of the tokenizers library (0.23.3),
 * the fixtures' prompts, and damaged and unsupported files. */
#include "prompts/text.h"

#include "tests/prompts/models.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE "wan21-t2v/model/tokenizer/tokenizer.json" /* 512 pieces, byte fallback */
/* the fixture's own normalizer: Precompiled, Strip right, Replace two spaces or more */
#define KEEP ""
#define METASPACE(scheme, split)                                                 \
    "{'type': 'Metaspace', 'replacement': '\\u2581', 'prepend_scheme': '" scheme \
    "', 'split': " split "}"
#define ALWAYS METASPACE("always", "true")

/* JSON in single quotes */
static cJSON *parse(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; *p; p++) *p = *p == '\'' ? '"' : *p;
    cJSON *j = cJSON_Parse(copy);
    ck_assert_msg(j != NULL, "%s", copy);
    free(copy);
    return j;
}

/* byte_fallback -1: the fixture's */
static const struct {
    const char *normalizer, *pre_tokenizer, *added;
    int byte_fallback;
    const char *text;
    int n, ids[24];
} rows[] = {
    {NULL, NULL, NULL, -1, " a  cat", IDS(35, 263, 35, 35, 293, 301, 1)},
    {NULL, "{'type': 'Metaspace', 'replacement': '\\u2581', 'add_prefix_space': true}", NULL, -1,
     "a cat", IDS(330, 407, 1)},
    {NULL, METASPACE("never", "true"), NULL, -1, "a cat", IDS(263, 407, 1)},
    {NULL, METASPACE("first", "true"), "[{'id': 512, 'content': '<x>', 'special': true}]", -1,
     "a<x>a", IDS(330, 512, 263, 1)},
    {NULL, ALWAYS, "[{'id': 512, 'content': '<x>', 'special': true}]", -1, "a<x>a",
     IDS(330, 512, 330, 1)},
    {"{'type': 'Strip', 'strip_left': true, 'strip_right': true}", METASPACE("first", "true"), NULL,
     -1, "  a cat", IDS(263, 407, 1)},
    {NULL, METASPACE("always", "false"), NULL, -1, "a cat", IDS(330, 407, 1)},
    {NULL, "{'type': 'Sequence', 'pretokenizers': [{'type': 'WhitespaceSplit'}, " ALWAYS "]}", NULL,
     -1,
     " a\t\xE2\x80\x83"
     "cat\x1Cx ",
     IDS(330, 407, 31, 353, 1)},
    {NULL, "{'type': 'WhitespaceSplit'}", NULL, -1, "a  cat ", IDS(263, 293, 301, 1)},
    {"{'type': 'Sequence', 'normalizers': [{'type': 'Strip', 'strip_left': false, 'strip_right': "
     "true}, {'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': '\\u2581'}]}",
     ALWAYS, NULL, -1, " a   cat  ", IDS(330, 407, 1)},
    {"{'type': 'Sequence', 'normalizers': [{'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, "
     "'content': ' '}, {'type': 'Strip', 'strip_left': true, 'strip_right': true}]}",
     ALWAYS, NULL, -1, "  a   cat  ", IDS(330, 407, 1)},
    {"{'type': 'Sequence', 'normalizers': [{'type': 'Replace', 'pattern': {'String': 'cat'}, "
     "'content': 'dog'}, {'type': 'Prepend', 'prepend': 'a '}]}",
     ALWAYS, NULL, -1, "catcat", IDS(330, 434, 277, 276, 264, 277, 1)},
    {"{'type': 'Prepend', 'prepend': 'a '}", ALWAYS, NULL, -1, "", IDS(1)},
    {"{'type': 'NFC'}", ALWAYS, NULL, -1, "e\xCC\x81 ﬁ", IDS(260, 490, 260, 242, 175, 132, 1)},
    {"{'type': 'NFD'}", ALWAYS, NULL, -1, "é ﬁ", IDS(260, 261, 207, 132, 260, 242, 175, 132, 1)},
    {"{'type': 'NFKC'}", ALWAYS, NULL, -1, "e\xCC\x81 ﬁ", IDS(260, 490, 290, 270, 1)},
    {"{'type': 'NFKD'}", ALWAYS, NULL, -1, "é ﬁ", IDS(260, 261, 207, 132, 290, 270, 1)},
    {"{'type': 'Lowercase'}", ALWAYS, NULL, -1, "A CAT İΣ",
     IDS(330, 407, 260, 270, 207, 138, 210, 134, 1)},
    {KEEP, ALWAYS, NULL, -1, "a\r\ncat \xEF\xBC\xA1\xE2\x80\x8Bﬁ e\xCC\x81",
     IDS(330, 407, 356, 290, 270, 260, 490, 1)},
    {KEEP, ALWAYS, NULL, 0, "日本 cat 語\xF0\x9F\x99\x82", IDS(260, 2, 407, 260, 2, 1)},
    {KEEP, ALWAYS, NULL, 1, "日本 cat 語\xF0\x9F\x99\x82",
     IDS(260, 233, 154, 168, 233, 159, 175, 407, 260, 235, 173, 161, 243, 162, 156, 133, 1)},
    {KEEP, ALWAYS,
     "[{'id': 512, 'content': '<x>', 'lstrip': true, 'special': true}, {'id': 513, 'content': "
     "'<y>', 'rstrip': true, 'special': true}, {'id': 514, 'content': '<xx>', 'special': true}]",
     -1, "a <x> a <y> \t a <xx> </s><y>", IDS(330, 512, 330, 513, 330, 514, 1, 513, 1)},
    {"{'type': 'Lowercase'}", ALWAYS,
     "[{'id': 512, 'content': 'DOG', 'normalized': true, 'special': false}, {'id': 513, 'content': "
     "'CAT', 'normalized': false, 'special': false}]",
     -1, "dog Dog cat CAT", IDS(512, 260, 512, 407, 260, 513, 1)},
    {"{'type': 'Lowercase'}", ALWAYS, "[{'id': 512, 'content': 'DOG'}]", -1, "dog DOG",
     IDS(512, 260, 512, 1)},
    {NULL, ALWAYS,
     "[{'id': 512, 'content': 'cat', 'special': true}, {'id': 513, 'content': 'cat an', 'special': "
     "true}]",
     -1, "cat and cat", IDS(513, 302, 260, 512, 1)},
    {NULL, ALWAYS,
     "[{'id': 512, 'content': '<x>', 'lstrip': true, 'special': true}, {'id': 513, 'content': "
     "'<y>', 'rstrip': true, 'special': true}]",
     -1, "a <x> a<y> \t a <x>", IDS(330, 512, 330, 513, 330, 512, 1)},
    {KEEP, ALWAYS, NULL, -1, "<unk></s>a<pad>", IDS(2, 1, 330, 0, 1)},
};

static cJSON *fixture(void)
{
    ts_err err = {0};
    cJSON *j;
    ts_status st = ts_json_load(&err, testing_fixture(FIXTURE), &j);
    ck_assert_msg(st == TS_OK, "%s", err.text);
    return j;
}

static void put(cJSON *j, const char *key, cJSON *value)
{
    cJSON_DeleteItemFromObject(j, key);
    ck_assert(cJSON_AddItemToObject(j, key, value));
}

static ts_status open_json(ts_ctx *c, const cJSON *j, const char *dir, ts_tokenizer **t)
{
    char *text = cJSON_PrintUnformatted(j);
    models_write(dir, "tokenizer.json", text, strlen(text));
    free(text);
    return ts_tokenizer_open(c, dir, t);
}

START_TEST(exports)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    cJSON *j = fixture(), *added = rows[_i].added ? parse(rows[_i].added) : NULL, *one;
    ts_tokenizer *t;
    if (!rows[_i].normalizer || *rows[_i].normalizer)
        put(j, "normalizer", rows[_i].normalizer ? parse(rows[_i].normalizer) : cJSON_CreateNull());
    put(j, "pre_tokenizer",
        rows[_i].pre_tokenizer ? parse(rows[_i].pre_tokenizer) : cJSON_CreateNull());
    if (rows[_i].byte_fallback >= 0)
        put(cJSON_GetObjectItem(j, "model"), "byte_fallback",
            cJSON_CreateBool(rows[_i].byte_fallback));
    while (added && (one = cJSON_DetachItemFromArray(added, 0)))
        cJSON_AddItemToArray(cJSON_GetObjectItem(j, "added_tokens"), one);
    ck_ok(c, open_json(c, j, tmp, &t));
    models_expect(c, t, rows[_i].text, rows[_i].ids, rows[_i].n);
    ck_assert_int_eq(ts_token_count(t), added ? rows[_i].n && strstr(rows[_i].added, "514") ? 515
                                                : strstr(rows[_i].added, "513")             ? 514
                                                                                            : 513
                                              : 512);
    ts_tokenizer_close(t);
    cJSON_Delete(j);
    cJSON_Delete(added);
    testing_close(c);
    free(tmp);
}
END_TEST

/* An older export: add_prefix_space without prepend_scheme. */
START_TEST(no_prefix_space)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    cJSON *j = fixture();
    ts_tokenizer *t;
    put(j, "pre_tokenizer",
        parse("{'type': 'Metaspace', 'replacement': '\\u2581', 'add_prefix_space': false}"));
    ck_ok(c, open_json(c, j, tmp, &t));
    models_expect(c, t, "a cat", (int[]){263, 407, 1}, 3);
    ts_tokenizer_close(t);
    cJSON_Delete(j);
    testing_close(c);
    free(tmp);
}
END_TEST

#define END                                                                                   \
    "'post_processor': {'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'A'}}, " \
    "{'SpecialToken': {'id': '</s>'}}], 'special_tokens': {'</s>': {'ids': [6]}}}"
#define MODEL                                                                                  \
    "'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': [['<unk>', 0], ['a', -1], ['b', -2], " \
    "['<0xC3>', -3], ['<0xa9>', -4], ['<0xA9>', -5], ['</s>', 0]], 'byte_fallback': true}"

static ts_status open_text(ts_ctx *c, const char *text, const char *dir, ts_tokenizer **t)
{
    cJSON *j = parse(text);
    ts_status st = open_json(c, j, dir, t);
    cJSON_Delete(j);
    return st;
}

/* Splits that are as good as each other in f64 and not in f32, or the other way round. */
START_TEST(sums_in_double)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    ck_ok(c, open_text(c,
                       "{'model': {'type': 'Unigram', 'unk_id': 0, 'vocab': [['<unk>', 0], "
                       "['</s>', 0], ['\\u2581', -10.667499542236328], ['c', -2.072000026702881], "
                       "['cc', -2.4956998825073242], ['z', -5], ['zz', -5]]},"
                       "'pre_tokenizer': " ALWAYS ", " END "}",
                       tmp, &t));
    models_expect(c, t, "ccc", (int[]){2, 3, 4, 6}, 4);
    models_expect(c, t, "ccccc", (int[]){2, 3, 4, 4, 6}, 5);
    ts_tokenizer_close(t);
    testing_close(c);
    free(tmp);
}
END_TEST

/* Byte pieces are written in capitals; all bytes of a character or none. */
START_TEST(byte_pieces)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    ck_ok(c, open_text(c, "{" MODEL ", " END "}", tmp, &t));
    models_expect(c, t,
                  "a\xC3\xA9"
                  "b",
                  (int[]){1, 3, 5, 2, 6}, 5);
    models_expect(c, t, "b\xC3\xA8", (int[]){2, 0, 6}, 3);
    /* one run of unknown characters */
    models_expect(c, t,
                  "\xC3\xA9\xC3\xA8"
                  "b",
                  (int[]){0, 2, 6}, 3);
    ts_tokenizer_close(t);
    testing_close(c);
    free(tmp);
}
END_TEST

static const struct {
    const char *json, *phrase;
} bad[] = {
    {"{'model': {'type': 'WordPiece'}}", "\"WordPiece\""},
    {"{'model': {'type': 'BPE'}}", "the model has no vocab"},
    {"{'model': {'type': 'Unigram', 'vocab': []}}", "vocab"},
    {"{'model': {'type': 'Unigram'}}", "vocab"},
    {"{'model': 3}", "model"},
    {"[]", "model"},
    {"{'model': {'type': 'Unigram', 'vocab': {'a': -1}}}", "vocab"},
    {"{'model': {'type': 'Unigram', 'vocab': [['a']]}}", "entry 0"},
    {"{'model': {'type': 'Unigram', 'vocab': [['a', -1], 'b']}}", "entry 1"},
    {"{'model': {'type': 'Unigram', 'vocab': [['a', '-1']]}}", "entry 0"},
    {"{'model': {'type': 'Unigram', 'vocab': [[7, -1]]}}", "entry 0"},
    {"{'model': {'type': 'Unigram', 'vocab': [['a', -1]]}}", "unk_id"},
    {"{'model': {'type': 'Unigram', 'unk_id': null, 'vocab': [['a', -1]]}}", "unk_id"},
    {"{'model': {'type': 'Unigram', 'unk_id': 5, 'vocab': [['a', -1]]}}", "unk_id is 5"},
    {"{" MODEL ", 'normalizer': {'type': 'Rot13'}}", "\"Rot13\""},
    {"{" MODEL ", 'normalizer': 'NFC'}", "normalizer"},
    {"{" MODEL
     ", 'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'NFC'}, {'type': 'Nmt'}]}}",
     "\"Nmt\""},
    {"{" MODEL ", 'normalizer': {'type': 'Replace', 'pattern': {'Regex': 'x+'}, 'content': ''}}",
     "\"x+\""},
    {"{" MODEL ", 'normalizer': {'type': 'Replace', 'pattern': {'String': 'x'}}}", "content"},
    {"{" MODEL ", 'normalizer': {'type': 'Replace', 'pattern': {'String': ''}, 'content': 'x'}}",
     "Replace"},
    {"{" MODEL ", 'normalizer': {'type': 'Prepend'}}", "\"Prepend\""},
    {"{" MODEL ", 'normalizer': {'type': 'Precompiled'}}", "precompiled_charsmap"},
    {"{" MODEL ", 'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': '////AAAA'}}",
     "character map"},
    {"{" MODEL ", 'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': 'AAA'}}",
     "character map"},
    {"{" MODEL ", 'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': 'AA*A'}}",
     "base64"},
    {"{" MODEL ", 'pre_tokenizer': {'type': 'ByteLevel'}}", "\"ByteLevel\""},
    {"{" MODEL ", 'pre_tokenizer': {'type': 'Metaspace', 'replacement': '_'}}", "\"_\""},
    {"{" MODEL ", 'pre_tokenizer': {'type': 'Metaspace', 'prepend_scheme': 'often'}}", "\"often\""},
    {"{" MODEL ", 'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [" ALWAYS
     ", {'type': 'WhitespaceSplit'}]}}",
     "\"WhitespaceSplit\""},
    {"{" MODEL ", 'post_processor': {'type': 'RobertaProcessing'}}", "\"RobertaProcessing\""},
    {"{" MODEL "}", "end token"},
    {"{" MODEL
     ", 'post_processor': {'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'A'}}]}}",
     "end token"},
    {"{" MODEL ", 'post_processor': {'type': 'TemplateProcessing', 'single': [{'Sequence': {}}, "
     "{'SpecialToken': {'id': '</s>'}}], 'special_tokens': {}}}",
     "</s>"},
    {"{" MODEL ", 'post_processor': {'type': 'TemplateProcessing', 'single': [{'Sequence': {}}, "
     "{'SpecialToken': {'id': 'E'}}], 'special_tokens': {'E': {'ids': [4294967296]}}}}",
     "behind a text, there are"},
    {"{" MODEL ", 'post_processor': {'type': 'TemplateProcessing', 'single': [{'SpecialToken': "
     "{'id': 'E'}}, {'Sequence': {}}, {'SpecialToken': {'id': 'F'}}], 'special_tokens': "
     "{'E': {'ids': [99]}, 'F': {'ids': [1]}}}}",
     "before a text, there are"},
    {"{" MODEL ", " END ", 'added_tokens': [{'id': 2147483647, 'content': 'x'}]}", "added token 0"},
    {"{" MODEL ", " END ", 'added_tokens': [{'id': 9}]}", "added token 0"},
    {"{" MODEL ", " END ", 'added_tokens': [{'content': 'x'}]}", "added token 0"},
    {"{" MODEL ", " END ", 'added_tokens': [{'id': -3, 'content': 'x'}]}", "added token 0"},
    {"{" MODEL ", " END ", 'added_tokens': [{'id': 9, 'content': 'word', 'single_word': true}]}",
     "\"word\""}};

START_TEST(refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    ck_assert_msg(open_text(c, bad[_i].json, tmp, &t) == TS_EMODEL && !t, "%s was taken",
                  bad[_i].json);
    ck_assert_msg(strstr(c->err.text, bad[_i].phrase) && strstr(c->err.text, "tokenizer.json"),
                  "\"%s\" is not in \"%s\"", bad[_i].phrase, c->err.text);
    testing_close(c);
    free(tmp);
}
END_TEST

START_TEST(many_normalizers)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    cJSON *j = parse("{" MODEL ", " END "}"), *deep = parse("{'type': 'NFC'}"), *list;
    for (int i = 0; i < 40; i++) {
        cJSON *outer = parse("{'type': 'Sequence'}");
        list = cJSON_AddArrayToObject(outer, "normalizers");
        cJSON_AddItemToArray(list, deep);
        if (i == 0)
            for (int k = 0; k < 17; k++) cJSON_AddItemToArray(list, parse("{'type': 'NFC'}"));
        deep = outer;
        if (i) continue;
        put(j, "normalizer", cJSON_Duplicate(outer, 1));
        ck_assert_int_eq(open_json(c, j, tmp, &t), TS_EMODEL); /* too many */
        ck_assert_msg(strstr(c->err.text, "normalizers"), "%s", c->err.text);
    }
    put(j, "normalizer", deep);
    ck_assert_int_eq(open_json(c, j, tmp, &t), TS_EMODEL); /* too deep */
    cJSON_Delete(j);
    testing_close(c);
    free(tmp);
}
END_TEST

/* Whatever a file holds, it is refused with a sentence or it works; it never crashes and never
 * hangs. */
static void survive(ts_ctx *c, const char *dir)
{
    static const char *const texts[] = {
        "a cat, caf\xC3\xA9 \xEF\xBC\x81 \xE3\x8E\x8F\xF0\x9F\x99\x82\xC2\xBD\r\n \xEF\xAC\x83",
        ""};
    ts_tokenizer *t;
    int32_t *ids;
    int n;
    bool cut;
    ts_status st = ts_tokenizer_open(c, dir, &t);
    if (st) {
        ck_assert_msg(st == TS_EMODEL && *c->err.text && !t, "status %d: %s", st, c->err.text);
        return;
    }
    for (int i = 0; i < 2; i++) {
        ck_ok(c, ts_tokenize(t, texts[i], 64, &ids, &n, &cut));
        ck_assert(n >= 1 && n <= 64);
        for (int k = 0; k < n; k++) ck_assert(ids[k] >= 0);
        free(ids);
    }
    ts_tokenizer_close(t);
}

static uint32_t state = 1;
static uint32_t random_of(uint32_t n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

START_TEST(damaged)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    size_t n;
    uint8_t *data = models_read(testing_fixture(FIXTURE), &n), *copy = malloc(n);
    for (int i = 0; i < 40; i++) { /* cut off */
        models_write(tmp, "tokenizer.json", data, random_of((uint32_t)n));
        survive(c, tmp);
    }
    for (int i = 0; i < 200; i++) { /* bytes changed */
        memcpy(copy, data, n);
        for (int k = 0; k < 1 + i % 5; k++)
            copy[random_of((uint32_t)n)] = (uint8_t)(i % 2
                                                         ? (uint32_t) "[]{}\",:0a\\"[random_of(10)]
                                                         : random_of(256));
        models_write(tmp, "tokenizer.json", copy, n);
        survive(c, tmp);
    }
    free(data);
    free(copy);
    testing_close(c);
    free(tmp);
}
END_TEST

static char *encode64(const uint8_t *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc(n / 3 * 4 + 8), *p = out;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16 | (uint32_t)(i + 1 < n ? data[i + 1] : 0) << 8 |
                     (i + 2 < n ? data[i + 2] : 0);
        for (int k = 0; k < 4; k++) *p++ = i + (size_t)k > n ? '=' : digits[v >> (18 - 6 * k) & 63];
    }
    *p = 0;
    return out;
}

/* Maps that point anywhere and give bytes that are not UTF-8 to the rules after them. */
START_TEST(damaged_map)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    cJSON *j = parse(
        "{" MODEL ", " END ", 'normalizer': {'type': 'Sequence', 'normalizers': [{'type': "
        "'Precompiled', 'precompiled_charsmap': 'x'},"
        "{'type': 'Strip', 'strip_left': true, 'strip_right': true}, {'type': 'Lowercase'}, "
        "{'type': 'NFKC'}, {'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': ' '}]},"
        "'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': "
        "'WhitespaceSplit'}, " ALWAYS "]}}");
    cJSON *map = cJSON_GetArrayItem(
        cJSON_GetObjectItem(cJSON_GetObjectItem(j, "normalizer"), "normalizers"), 0);
    uint8_t blob[4 + 4096 + 64];
    for (int i = 0; i < 300; i++) {
        uint32_t trie = 4096;
        memcpy(blob, &trie, 4);
        for (size_t k = 4; k < sizeof blob; k++) blob[k] = (uint8_t)random_of(256);
        /* units that lead on: the label of their place, any offset, often with a value */
        for (uint32_t k = 0; k < 1024; k++) {
            uint32_t u = (random_of(2) ? 1u << 8 : 0) | (random_of(1024) << 10) | random_of(256);
            if (random_of(4)) memcpy(blob + 4 + 4 * k, &u, 4);
        }
        char *text = encode64(blob, sizeof blob);
        put(map, "precompiled_charsmap", cJSON_CreateString(text));
        char *printed = cJSON_PrintUnformatted(j);
        models_write(tmp, "tokenizer.json", printed, strlen(printed));
        survive(c, tmp);
        free(text);
        free(printed);
    }
    cJSON_Delete(j);
    testing_close(c);
    free(tmp);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer_json");
    TCase *tc = tcase_create("tokenizer_json");
    tcase_add_loop_test(tc, exports, 0, sizeof rows / sizeof *rows);
    tcase_add_test(tc, no_prefix_space);
    tcase_add_test(tc, sums_in_double);
    tcase_add_test(tc, byte_pieces);
    tcase_add_loop_test(tc, refused, 0, sizeof bad / sizeof *bad);
    tcase_add_test(tc, many_normalizers);
    tcase_add_test(tc, damaged);
    tcase_add_test(tc, damaged_map);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
