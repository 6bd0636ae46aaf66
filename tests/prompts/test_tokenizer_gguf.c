/* Vocabularies among the keys of a GGUF: the ids of the spiece.model that one was made from, and
 * keys that are none. */
#include "tests/prompts/models.h"
#include "tests/testing.h"
#include "weights/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_tokenizer *open_fixture(ts_ctx *c, const char *place)
{
    ts_tokenizer *t;
    ck_ok(c, ts_tokenizer_open(c, place, &t));
    return t;
}

/* Full width, composed and decomposed letters and spaces of other scripts are the character map's;
 * what no piece has falls back to bytes. */
START_TEST(as_its_spiece_model)
{
    static const char *const texts[] = {
        "",
        "A small owl, at night!",
        "  two   spaces  ",
        "\xEF\xBC\xA1\xEF\xBD\x97\xEF\xBD\x8C", /* full width */
        "caf\xC3\xA9 cafe\xCC\x81",
        "x\xE3\x80\x80y\xC2\xA0z",
        "\xF0\x9F\xA6\x89 \xE6\x97\xA5\xE6\x9C\xAC",
        "\xEF\xAC\x81sh </s> <pad> \xE2\x96\x81",
        "tab\tand\nline",
    };
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_tokenizer *g = open_fixture(c, testing_fixture("gguf-text/umt5.gguf")),
                 *s = open_fixture(c, testing_fixture("wan21-t2v/model/tokenizer/spiece.model"));
    ck_assert_int_eq(ts_token_count(g), ts_token_count(s));
    for (int i = 0; i < ts_token_count(s); i++)
        ck_assert_str_eq(ts_token_piece(g, i), ts_token_piece(s, i));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t *ids;
        int n;
        bool cut;
        ck_ok(c, ts_tokenize(s, texts[i], 512, &ids, &n, &cut));
        models_expect(c, g, texts[i], ids, n);
        free(ids);
    }
    /* the map is there: both spellings are one */
    int32_t *wide, *narrow;
    int n, m;
    bool cut;
    ck_ok(c, ts_tokenize(g, texts[3], 512, &wide, &n, &cut));
    ck_ok(c, ts_tokenize(g, "Awl", 512, &narrow, &m, &cut));
    ck_assert(n == m && !memcmp(wide, narrow, (size_t)n * sizeof *wide));
    free(wide);
    free(narrow);
    ts_tokenizer_close(g);
    ts_tokenizer_close(s);
    testing_close(c);
    ck_assert(ts_tokenizer_is_in(testing_fixture("gguf-text/umt5.gguf")));
    ck_assert(!ts_tokenizer_is_in(testing_fixture("gguf-types/types.gguf")));
    ck_assert(!ts_tokenizer_is_in(testing_fixture("gguf-text")));
}
END_TEST

/* ---- made by hand ---- */

typedef struct {
    const char *model;
    const char *token[5];
    int type[5];
    int tokens, scores, types, unk, eos; /* -1: no such key */
    bool map;                            /* a damaged one */
} vocabulary;

static uint8_t file[4096];
static size_t size;

static void put(const void *p, size_t n)
{
    ck_assert(size + n <= sizeof file);
    memcpy(file + size, p, n);
    size += n;
}
static void put_u32(uint32_t v) { put(&v, 4); }
static void put_u64(uint64_t v) { put(&v, 8); }
static void put_text(const char *s)
{
    put_u64(strlen(s));
    put(s, strlen(s));
}
static void put_array(const char *key, ts_gguf_type type, int n)
{
    put_text(key);
    put_u32(TS_GGUF_ARRAY);
    put_u32(type);
    put_u64((uint64_t)n);
}

static const char *write_vocabulary(const char *dir, const vocabulary *v)
{
    static char path[4096];
    size = 0;
    put("GGUF\3\0\0\0", 8);
    put_u64(0);
    put_u64((uint64_t)(4 + (v->unk >= 0) + (v->eos >= 0) + v->map));
    put_text("tokenizer.ggml.model");
    put_u32(TS_GGUF_STRING);
    put_text(v->model);
    put_array("tokenizer.ggml.tokens", TS_GGUF_STRING, v->tokens);
    for (int i = 0; i < v->tokens; i++) put_text(v->token[i]);
    put_array("tokenizer.ggml.scores", TS_GGUF_F32, v->scores);
    for (int i = 0; i < v->scores; i++) put(&(float){(float)-i}, 4);
    put_array("tokenizer.ggml.token_type", TS_GGUF_I32, v->types);
    for (int i = 0; i < v->types; i++) put(&v->type[i], 4);
    if (v->unk >= 0) {
        put_text("tokenizer.ggml.unknown_token_id");
        put_u32(TS_GGUF_U32);
        put_u32((uint32_t)v->unk);
    }
    if (v->eos >= 0) {
        put_text("tokenizer.ggml.eos_token_id");
        put_u32(TS_GGUF_U32);
        put_u32((uint32_t)v->eos);
    }
    if (v->map) {
        put_array("tokenizer.ggml.precompiled_charsmap", TS_GGUF_I8, 5);
        put("\x08\0\0\0\0", 5);
    }
    models_write(dir, "words.gguf", file, size);
    snprintf(path, sizeof path, "%s/words.gguf", dir);
    return path;
}

#define WORDS                              \
    {                                      \
        "<u>", "<e>", "\xE2\x96\x81", "a", \
            "\xE2\x96\x81"                 \
            "b"                            \
    }
#define TYPES         \
    {                 \
        1, 3, 1, 1, 1 \
    }

/* Without a piece of the unknown type and without "</s>" keys say which they are. */
START_TEST(ends_and_unknown_by_number)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    const vocabulary v = {"t5", WORDS, TYPES, 5, 5, 5, 0, 1, false};
    ts_tokenizer *t = open_fixture(c, write_vocabulary(dir, &v));
    models_expect(c, t, "a b", (int[]){2, 3, 4, 1}, 4);
    models_expect(c, t, "z", (int[]){2, 0, 1}, 3);
    ts_tokenizer_close(t);
    free(dir);
    testing_close(c);
}
END_TEST

static const struct {
    vocabulary v;
    const char *says;
} bad[] = {
    {{"llama", WORDS, TYPES, 5, 5, 5, 0, 1, false}, "\"llama\""},
    {{"t5", WORDS, TYPES, 5, 4, 5, 0, 1, false}, "5, 4, 5"},
    {{"t5", WORDS, TYPES, 5, 5, 3, 0, 1, false}, "5, 5, 3"},
    {{"t5", WORDS, TYPES, 0, 0, 0, 0, 1, false}, "0, 0, 0"},
    {{"t5", WORDS, {1, 3, 7, 1, 1}, 5, 5, 5, 0, 1, false}, "token 2 is of type 7"},
    {{"t5", WORDS, {1, 3, -1, 1, 1}, 5, 5, 5, 0, 1, false}, "token 2 is of type -1"},
    {{"t5", WORDS, TYPES, 5, 5, 5, -1, 1, false}, "no unknown or end piece"},
    {{"t5", WORDS, TYPES, 5, 5, 5, 0, -1, false}, "no unknown or end piece"},
    {{"t5", WORDS, TYPES, 5, 5, 5, 0, 5, false}, "no unknown or end piece"},
    {{"t5", WORDS, TYPES, 5, 5, 5, 0, 1, true}, "character map of 5 bytes"},
};

START_TEST(keys_that_are_none)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    ts_tokenizer *t;
    const char *path = write_vocabulary(dir, &bad[_i].v);
    ck_assert_int_eq(ts_tokenizer_open(c, path, &t), TS_EMODEL);
    ck_assert_msg(!t && strstr(c->err.text, path) && strstr(c->err.text, bad[_i].says), "%s",
                  c->err.text);
    free(dir);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer_gguf");
    TCase *tc = tcase_create("tokenizer_gguf");
    tcase_add_test(tc, as_its_spiece_model);
    tcase_add_test(tc, ends_and_unknown_by_number);
    tcase_add_loop_test(tc, keys_that_are_none, 0, sizeof bad / sizeof *bad);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
