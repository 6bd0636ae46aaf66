/* spiece.model: SentencePiece models made field by field against the ids of sentencepiece (0.2.3),
 * a model of 100 pieces with a character map, and damaged files. */
#include "prompts/text.h"

#include "tests/prompts/models.h"
#include "tests/prompts/pieces.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the model of 100 pieces ---- */
static const struct {
    const char *text;
    int n, ids[16];
} table[] = {{"a cat and a dog", IDS(3, 7, 25, 3, 5, 1)},
             {"  a   cat  ", IDS(3, 7, 1)},
             {"", IDS(1)},
             {"   ", IDS(1)},
             {"\xEF\xBC\xA1 café\xEF\xBC\x81", IDS(8, 2, 8, 91, 50, 84, 99, 9, 1)},
             {"cafe\xCC\x81", IDS(8, 91, 50, 84, 99, 1)},
             {"日本語 cat", IDS(8, 2, 7, 1)},
             {"\tcat\nX", IDS(7, 2, 1)},
             {"\xEF\xAC\x81sh\xE2\x80\x8B"
              "cat\xE3\x80\x80"
              "dog",
              IDS(8, 84, 58, 95, 57, 5, 1)},
             {"catdogspoon", IDS(7, 55, 96, 85, 94, 94, 97, 1)},
             {"zzz 42!", IDS(8, 2, 8, 2, 9, 1)},
             {"happy\xC2\xA0"
              "face, video.",
              IDS(35, 47, 10, 45, 11, 1)},
             {"a", IDS(3, 1)},
             {"\xE2\x96\x81"
              "cat",
              IDS(8, 7, 1)},
             {"\xF0\x9F\x99\x82\xF0\x9F\x99\x82 cat", IDS(8, 2, 7, 1)}};

static ts_tokenizer *hundred(ts_ctx *c, const char *dir)
{
    static uint8_t model[8192];
    ts_tokenizer *t;
    models_write(dir, "spiece.model", model, models_decode64(pieces_base64, model));
    ck_ok(c, ts_tokenizer_open(c, dir, &t));
    return t;
}

START_TEST(hundred_pieces)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t = hundred(c, tmp);
    ck_assert_int_eq(ts_token_count(t), 100);
    ck_assert_str_eq(ts_token_piece(t, 7), "\xE2\x96\x81"
                                           "cat");
    ck_assert(!ts_token_piece(t, 100) && !ts_token_piece(t, -1));
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        models_expect(c, t, table[i].text, table[i].ids, table[i].n);
    ts_tokenizer_close(t);
    testing_close(c);
    free(tmp);
}
END_TEST

START_TEST(cut_keeps_the_end)
{
    static const int whole[] = {3, 7, 25, 3, 5};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t = hundred(c, tmp);
    int32_t *ids;
    int n;
    bool cut;
    for (int max = 1; max < 8; max++) {
        ck_ok(c, ts_tokenize(t, "a cat and a dog", max, &ids, &n, &cut));
        ck_assert(n == (max < 6 ? max : 6) && cut == (max < 6) && ids[n - 1] == 1);
        for (int i = 0; i < n - 1; i++) ck_assert_int_eq(ids[i], whole[i]);
        free(ids);
    }
    ck_assert_int_eq(ts_tokenize(t, "a cat", 0, &ids, &n, &cut), TS_EUSAGE);
    ck_assert_int_eq(ts_tokenize(t, "a \xFF", 8, &ids, &n, &cut), TS_EUSAGE);
    ck_assert_msg(strstr(c->err.text, "offset 2") && !ids, "%s", c->err.text);
    ts_tokenizer_close(t);
    testing_close(c);
    free(tmp);
}
END_TEST

/* ---- models made here ---- */
#define HEAD \
    {"<unk>", 0, 2}, {"<s>", 0, 3}, { "</s>", 0, 3 }
#define WORDS                                               \
    {"\xE2\x96\x81", -3, 1}, {"a", -4, 1}, {"b", -4.5f, 1}, \
        {"\xE2\x96\x81"                                     \
         "a",                                               \
         -3.5f, 1},                                         \
        {"cat", -6, 1}, {"ab", -8.5f, 1},                   \
    {                                                       \
        "abcd", -1, 5                                       \
    }
static const models_piece words[] = {HEAD, WORDS},
                          users[] = {HEAD,         WORDS,         {"abab", 0, 4},
                                     {"  ", 0, 4}, {"<x>", 0, 4}, {"ba", 0, 4}};
static const models_piece spaced[] = {HEAD, {" ", -2, 1}, {"a", -3, 1}, {" a", -3.5f, 1}};
static const models_piece tied[] = {
    HEAD, {"\xE2\x96\x81", -10.6675f, 1}, {"c", -2.072f, 1}, {"cc", -2.4957f, 1}};
#define PIECES(list) .piece = list, .pieces = sizeof list / sizeof *list
static const models_field ids_of[] = {{3, 1}, {40, 0}, {41, 1}, {42, 2}, {43, -1}, {0, 0}},
                          and_bytes[] = {{3, 1}, {40, 0}, {42, 2}, {35, 1}, {0, 0}};
static const models_field no_collapse[] = {{4, 0}, {0, 0}}, no_dummy[] = {{3, 0}, {0, 0}},
                          as_is[] = {{5, 0}, {0, 0}};
static const models_spiece plain = {PIECES(words), .trainer = ids_of},
                           user = {PIECES(users), .trainer = ids_of},
                           with_bytes = {PIECES(words), .bytes = true, .trainer = and_bytes},
                           spaces = {PIECES(words), .trainer = ids_of, .normalizer = no_collapse},
                           user_spaces = {PIECES(users), .trainer = ids_of,
                                          .normalizer = no_collapse},
                           no_prefix = {PIECES(words), .trainer = ids_of, .normalizer = no_dummy},
                           no_escape = {PIECES(spaced), .trainer = ids_of, .normalizer = as_is},
                           /* tie: two splits that differ in f32 only */
    tie = {PIECES(tied), .trainer = ids_of};

static const struct {
    const models_spiece *model;
    const char *text;
    int n, ids[16];
} rows[] = {
    {&plain, "a  b", IDS(6, 3, 5, 2)},
    {&plain, "  ", IDS(2)},
    {&plain, "\xE2\x96\x81\xE2\x96\x81", IDS(2)},
    {&plain, "a\xE2\x96\x81", IDS(6, 2)},
    {&plain, "abab", IDS(6, 5, 8, 2)},
    {&plain, " cat  ", IDS(3, 7, 2)},
    {&plain, "xyb", IDS(3, 0, 5, 2)},
    {&plain, "x é b", IDS(3, 0, 3, 0, 3, 5, 2)},
    {&plain, "abcd", IDS(6, 5, 0, 2)},
    {&plain, "</s>", IDS(3, 0, 2)},
    {&user, "aabab", IDS(6, 10, 2)},
    {&user, "a  b", IDS(6, 3, 3, 5, 2)},
    {&user, " a  ", IDS(6, 2)},
    {&user, "<x>a<x>", IDS(3, 12, 4, 12, 2)},
    {&user, "ababab", IDS(6, 5, 10, 2)},
    {&user, "bba", IDS(3, 5, 13, 2)},
    {&with_bytes, "aé b", IDS(6, 205, 179, 3, 5, 2)},
    {&with_bytes, "xé", IDS(3, 130, 205, 179, 2)},
    {&with_bytes, "<0x41>", IDS(3, 70, 58, 130, 62, 59, 72, 2)},
    {&with_bytes, "aあ", IDS(6, 237, 139, 140, 2)},
    {&spaces, "a  b", IDS(6, 3, 3, 5, 2)},
    {&spaces, " a ", IDS(3, 6, 3, 2)},
    {&spaces, "  ", IDS(3, 3, 3, 2)},
    {&user_spaces, "a  b", IDS(6, 3, 3, 5, 2)},
    {&user_spaces, " a ", IDS(3, 6, 3, 2)},
    {&user_spaces, "    a", IDS(3, 3, 3, 3, 6, 2)},
    {&no_prefix, "a b", IDS(4, 3, 5, 2)},
    {&no_prefix, "", IDS(2)},
    {&no_prefix, "b", IDS(5, 2)},
    {&no_escape, "a a", IDS(5, 5, 2)},
    {&no_escape, "  a  a ", IDS(5, 5, 2)},
    {&tie, "ccc", IDS(3, 5, 4, 2)},
    {&tie, "ccccc", IDS(3, 5, 4, 5, 2)},
};

START_TEST(made)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    models_write_spiece(tmp, rows[_i].model);
    ck_ok(c, ts_tokenizer_open(c, tmp, &t));
    models_expect(c, t, rows[_i].text, rows[_i].ids, rows[_i].n);
    ts_tokenizer_close(t);
    testing_close(c);
    free(tmp);
}
END_TEST

static void expect_refused(const models_spiece *m, const char *phrase)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    models_write_spiece(tmp, m);
    ck_assert_int_eq(ts_tokenizer_open(c, tmp, &t), TS_EMODEL);
    ck_assert_msg(strstr(c->err.text, phrase) && strstr(c->err.text, "spiece.model") && !t,
                  "\"%s\" is not in \"%s\"", phrase, c->err.text);
    testing_close(c);
    free(tmp);
}

START_TEST(refused)
{
    static const models_field bpe[] = {{3, 2}, {0, 0}}, suffix[] = {{3, 1}, {24, 1}, {0, 0}},
                              no_unknown[] = {{40, -1}, {0, 0}}, far_end[] = {{42, 9}, {0, 0}};
    static const models_piece normal[] = {{"a", -1, 1}, {"b", -2, 1}}, odd[] = {{"a", -1, 7}};
    expect_refused(&(models_spiece){PIECES(words), .trainer = bpe}, "model_type 2");
    expect_refused(&(models_spiece){PIECES(words), .trainer = suffix},
                   "treat_whitespace_as_suffix");
    expect_refused(&(models_spiece){PIECES(normal), .trainer = no_unknown}, "unknown");
    expect_refused(&(models_spiece){PIECES(normal), .trainer = far_end}, "end piece");
    expect_refused(&(models_spiece){PIECES(odd)}, "piece 0");
    expect_refused(&(models_spiece){.pieces = 0}, "SentencePiece");
}
END_TEST

/* ---- damaged files ---- */

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
    ck_ok(c,
          ts_tokenize(t, "a cat, caf\xC3\xA9 \xEF\xBC\x81 \xF0\x9F\x99\x82", 16, &ids, &n, &cut));
    ck_assert(n >= 1 && n <= 16);
    free(ids);
    ts_tokenizer_close(t);
}

START_TEST(damaged)
{
    static uint8_t model[8192], bad[8192];
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    size_t n = models_decode64(pieces_base64, model);
    for (size_t i = 0; i < n; i += 7) { /* cut off */
        models_write(tmp, "spiece.model", model, i);
        survive(c, tmp);
    }
    for (size_t i = 0; i < n; i++) { /* one byte changed */
        memcpy(bad, model, n);
        bad[i] ^= (uint8_t)(1 + i * 7 % 255);
        models_write(tmp, "spiece.model", bad, n);
        survive(c, tmp);
    }
    testing_close(c);
    free(tmp);
}
END_TEST

/* Lengths that reach beyond the file, varints without an end, groups, a piece inside itself. */
START_TEST(hostile)
{
    static const struct {
        const char *s;
        size_t n;
    } file[] = {{"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 10},
                {"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11},
                {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 11},
                {"\x0B\x0C", 2},
                {"\x0A\x02\x0A\x7F", 4},
                {"\x0A\x03\x15\x00\x00", 5},
                {"\x0A", 1},
                {"", 0},
                {"not protobuf at all", 19},
                {"\x0A\x00\x1A\x03\x12\x7F\x00", 7}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *tmp = testing_tmp();
    ts_tokenizer *t;
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        models_write(tmp, "spiece.model", file[i].s, file[i].n);
        ck_assert_msg(ts_tokenizer_open(c, tmp, &t) == TS_EMODEL && !t, "file %zu was taken", i);
        ck_assert_msg(strstr(c->err.text, "spiece.model"), "%s", c->err.text);
    }
    testing_close(c);
    free(tmp);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spiece");
    TCase *tc = tcase_create("spiece");
    tcase_add_test(tc, hundred_pieces);
    tcase_add_test(tc, cut_keeps_the_end);
    tcase_add_loop_test(tc, made, 0, sizeof rows / sizeof *rows);
    tcase_add_test(tc, refused);
    tcase_add_test(tc, damaged);
    tcase_add_test(tc, hostile);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
