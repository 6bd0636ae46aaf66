/* What a prompt becomes before it is tokenized: ftfy.fix_text (default settings, without mojibake
 * repair), html.unescape twice, white space collapsed. What is expected is what ftfy 6.3.1 and
 * Python 3.11 give, with the repair of mojibake and without. */
#include "prompts/entities.h"
#include "prompts/text.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *in, *out;
} rows[] = {
    {"a panda", "a panda"},
    {"  a \t\n panda  ", "a panda"},
    {"", ""},
    {" \t ", ""},
    {"A small cactus  with a happy face, in the Sahara &amp; sunlight!",
     "A small cactus with a happy face, in the Sahara & sunlight!"},
    /* ftfy once, the pipeline twice */
    {"&amp;amp;lt;b", "<b"},
    /* ftfy leaves a text with '<' alone */
    {"<i>&amp;amp;</i>", "<i>&</i>"},
    /* without ';' where browsers take it */
    {"&lt &notit; &copy;&copy 5&frac12;", "< \xC2\xACit; \xC2\xA9\xC2\xA9 5\xC2\xBD"},
    {"&#233;&#xE9;&#x80;&#0;&#99999999;", "\xC3\xA9\xC3\xA9\xE2\x82\xAC\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"&nosuch; & &#; &#x;", "&nosuch; & &#; &#x;"},
    {"\xE2\x80\x9Cquoted\xE2\x80\x9D \xE2\x80\x98it\xE2\x80\x99s\xE2\x80\x99", "\"quoted\" 'it's'"},
    {"\xEF\xBC\xA1\xEF\xBC\x8C\xEF\xBC\x81", "A,!"}, /* full width */
    {"\xE8\x89\xB2\xE8\xB0\x83\xE8\x89\xB3\xE4\xB8\xBD\xEF\xBC\x8C\xE8\xBF\x87\xE6\x9B\x9D",
     "\xE8\x89\xB2\xE8\xB0\x83\xE8\x89\xB3\xE4\xB8\xBD,\xE8\xBF\x87\xE6\x9B\x9D"},
    /* half-width katakana, its mark composed by NFC */
    {"\xEF\xBD\xB6\xEF\xBE\x9E", "\xE3\x82\xAC"},
    {"\xEF\xAC\x81sh \xEF\xAC\x84 \xC4\xB2", "fish ffl IJ"}, /* ligatures */
    {"cafe\xCC\x81", "caf\xC3\xA9"},                         /* NFC */
    {"a\r\nb\rc\xE2\x80\xA8"
     "d",
     "a b c d"}, /* line ends */
    /* control characters, byte order mark */
    {"a\x01"
     "b\x7F"
     "c\xEF\xBB\xBF"
     "d",
     "abcd"},
    {"\x1B[31mred\x1B[0m", "red"}, /* terminal colours */
    {"a\xC2\xA0"
     "b\xE3\x80\x80"
     "c",
     "a b c"}, /* all kinds of space */
    {"\xF0\x9F\x99\x82 \xE6\x97\xA5\xE6\x9C\xAC", "\xF0\x9F\x99\x82 \xE6\x97\xA5\xE6\x9C\xAC"},
    /* Wan's own negative prompt: its commas are full-width */
    {"色调艳丽\xEF\xBC\x8C过曝\xEF\xBC\x8C静态\xEF\xBC\x8C细节模糊不清\xEF\xBC\x8C字幕\xEF\xBC\x8C"
     "风格\xEF\xBC\x8C作品\xEF\xBC\x8C画作\xEF\xBC\x8C画面\xEF\xBC\x8C静止\xEF\xBC\x8C整体发灰\xEF"
     "\xBC\x8C最差质量\xEF\xBC\x8C低质量\xEF\xBC\x8CJPEG压缩残留\xEF\xBC\x8C丑陋的\xEF\xBC\x8C残缺"
     "的\xEF\xBC\x8C多余的手指\xEF\xBC\x8C画得不好的手部\xEF\xBC\x8C画得不好的脸部\xEF\xBC\x8C畸形"
     "的\xEF\xBC\x8C毁容的\xEF\xBC\x8C形态畸形的肢体\xEF\xBC\x8C手指融合\xEF\xBC\x8C静止不动的画面"
     "\xEF\xBC\x8C杂乱的背景\xEF\xBC\x8C三条腿\xEF\xBC\x8C背景人很多\xEF\xBC\x8C倒着走",
     "色调艳丽,过曝,静态,细节模糊不清,字幕,风格,作品,画作,画面,静止,整体发灰,最差质量,低质量,"
     "JPEG压缩残留,丑陋的,残缺的,多余的手指,画得不好的手部,画得不好的脸部,畸形的,毁容的,"
     "形态畸形的肢体,手指融合,静止不动的画面,杂乱的背景,三条腿,背景人很多,倒着走"},
    {"a\x1C"
     "b\x0B"
     "c",
     "abc"}, /* controls go, separators among them */
    {"\xE2\x80\x83"
     "em\xE2\x80\x83\xE2\x81\x9F\xE2\x80\xAF\xE1\x9A\x80space",
     "em space"},
    /* are not white */
    {"zero\xE2\x80\x8Bwidth\xE2\x80\x8Djoiner", "zero\xE2\x80\x8Bwidth\xE2\x80\x8Djoiner"},
    {"&amp;amp;amp;amp;amp;lt;", "<"},                  /* however deep */
    {"&amp;amp;amp;amp;amp;lt;<", "&amp;amp;amp;lt;<"}, /* with a '<' only twice */
    /* until the line with the '<' ... */
    {"&amp;amp;amp;lt;\n<b> &amp;amp;amp;lt;", "< <b> &amp;lt;"},
    {"<b>\n&amp;amp;amp;lt;", "<b> &amp;lt;"}, /* ... and in no line after it */
    /* capitals of small names */
    {"&EACUTE;t&EACUTE; STRA&SZLIG;E &nTILDE;", "ÉtÉ STRASSE &nTILDE;"},
    {"&AMPX; &GTCC; &COPYX", "&X; >CC; \xC2\xA9X"},               /* not of these */
    {"R&D; AT&T; this&not that", "R&D; AT&T; this\xC2\xAC that"}, /* text that only looks like it */
    {"&#150;&#x93;&#39;&#59;", "\xE2\x80\x93\"';"},               /* Windows-1252, a semicolon */
    {"&#1;&#xFFFE;&#127;x&#xD800;", "x\xEF\xBF\xBD"},             /* no characters, a surrogate */
    {"&#12ab;&#x;&#;&#99999999999999999999;", "ab;&#x;&#;\xEF\xBF\xBD"},
    /* the longest name, two characters */
    {"&CounterClockwiseContourIntegral; &fjlig; &nvlt;", "\xE2\x88\xB3 fj <\xE2\x83\x92"},
    /* C1 controls as Windows-1252 */
    {"\xC2\x80uro \xC2\x85 \xC2\x93q\xC2\x94 \xC2\x81",
     "\xE2\x82\xACuro \xE2\x80\xA6 \"q\" \xC2\x81"},
    /* which quotes become straight */
    {"\xCA\xBCn \xC5\x89 \xE2\x80\x9Aq\xE2\x80\x9B \xE2\x80\x9Eq\xE2\x80\x9F \xC2\xABq\xC2\xBB "
     "\xE2\x80\xB9q\xE2\x80\xBA",
     "'n 'n 'q' \"q\" \xC2\xABq\xC2\xBB \xE2\x80\xB9q\xE2\x80\xBA"},
    /* which letters come apart */
    {"Ǆ \xC7\x85 ǆ \xC7\x88 \xC7\x8B \xC4\xB2 \xEF\xAC\x80 \xEF\xAC\x83 \xEF\xAC\x85 \xEF\xAC\x86 "
     "æ œ",
     "DŽ Dž dž Lj Nj IJ ff ffi ſt st æ œ"},
    /* full and half width */
    {"\xEF\xBC\xA1\xEF\xBC\xA2\xEF\xBC\xA3\xE3\x80\x80\xEF\xBC\x91\xEF\xBD\x9E\xEF\xBF\xA5\xEF\xBD"
     "\xA1\xEF\xBE\x8A\xEF\xBE\x9F\xEF\xBE\xA1\xEF\xBF\x82",
     "ABC 1~\xC2\xA5\xE3\x80\x82パ가"},
    /* full-width signs that then mean something */
    {"\xEF\xBC\x9C\xEF\xBC\x86"
     "amp\xEF\xBC\x9B",
     "<&"},
    /* terminal escapes, whole ones */
    {"\x1B[1;31mred\x1B[0m \x1B[K\x1B[\xD9\xA1\xD9\xA2m \x1B[3;;4Hx\x1B]0;t\x1B[12",
     "red x]0;t[12"},
    {"\xEF\xBB\xBF"
     "bom\xEF\xBF\xB9"
     "a\xEF\xBF\xBA"
     "b\xEF\xBF\xBB\xEF\xBF\xBC\xE2\x81\xAA",
     "bomab"},
    /* NFC */
    {"e\xCC\x81 \xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8 A\xCC\x8A \xE2\x84\xA6 \xE2\x84\xAB \xCD\x84",
     "é 각 Å Ω Å \xCC\x88\xCC\x81"},
    {"a\xCC\x81\xCC\xA3 q\xCC\x87\xCC\xA3", "ạ\xCC\x81 q\xCC\xA3\xCC\x87"}, /* marks in order */
    /* NFC, not NFKC */
    {"\xC2\xBD \xE2\x91\xA0 \xE3\x8E\x8F \xE2\x84\xA2 \xE2\x80\xA6",
     "\xC2\xBD \xE2\x91\xA0 \xE3\x8E\x8F \xE2\x84\xA2 \xE2\x80\xA6"},
    {"a\r\rb\r\n\r\nc\xE2\x80\xA9"
     "d\x0C"
     "e",
     "a b c d e"},
    /* emoji stay */
    {"\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7 "
     "\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA",
     "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7 "
     "\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA"},
    /* ftfy takes 24 digits at most */
    {"&#00000000000000000000000008216; &#8216;", "\xE2\x80\x98 '"},
    {"&amp&#59;lt;", "&;lt;"}, /* and makes no semicolon */
    {"100% & more; 1 < 2 > 0", "100% & more; 1 < 2 > 0"},
    {"\xE2\x80\x98&rsquo;&ldquo;\xE2\x80\x9D", "''\"\""},
};

START_TEST(table)
{
    ts_err err = {0};
    char *got;
    ck_assert_int_eq(ts_clean_prompt(&err, rows[_i].in, &got), TS_OK);
    ck_assert_str_eq(got, rows[_i].out);
    free(got);
}
END_TEST

START_TEST(not_utf8)
{
    static const struct {
        const char *in, *where;
    } bad[] = {{"abc\xFF", "offset 3"},
               {"\xC3", "offset 0"},
               {"ab\xED\xA0\x80", "offset 2"},
               {"\xC0\x80", "offset 0"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ts_err err = {0};
        char *got;
        ck_assert_int_eq(ts_clean_prompt(&err, bad[i].in, &got), TS_EUSAGE);
        ck_assert_msg(strstr(err.text, bad[i].where) && strstr(err.text, "UTF-8") && !got, "%s",
                      err.text);
    }
}
END_TEST

/* Every name is found, by ftfy's rule and by html.unescape's; the search needs the table sorted. */
START_TEST(entities)
{
    ck_assert_int_eq(ts_entity_count, 2231);
    for (int i = 0; i < ts_entity_count; i++) {
        const char *name = ts_entities[i].name;
        char text[64], *whole, *marked;
        ts_err err = {0};
        ck_assert_msg(!i || strcmp(ts_entities[i - 1].name, name) < 0, "%s is not in order", name);
        if (name[strlen(name) - 1] != ';') continue;
        snprintf(text, sizeof text, "(&%s)", name);
        ck_assert_int_eq(ts_clean_prompt(&err, text, &whole), TS_OK);
        snprintf(text, sizeof text, "<(&%s)", name); /* ftfy does nothing here */
        ck_assert_int_eq(ts_clean_prompt(&err, text, &marked), TS_OK);
        ck_assert_msg(!strchr(whole, ';') || !strcmp(name, "semi;"), "&%s became %s", name, whole);
        ck_assert_msg(!strchr(marked, ';') || !strcmp(name, "semi;"), "&%s became %s", name,
                      marked);
        free(whole);
        free(marked);
    }
}
END_TEST

/* Work grows with the text and not with its square: beyond 64 levels the rest stays escaped. */
START_TEST(deep)
{
    enum { LEVELS = 50000 };
    ts_err err = {0};
    char *text = malloc(4 * LEVELS + 2), *got;
    *text = '&';
    for (int i = 0; i < LEVELS; i++) memcpy(text + 1 + 4 * i, "amp;", 5);
    ck_assert_int_eq(ts_clean_prompt(&err, text, &got), TS_OK);
    ck_assert_uint_eq(strlen(got), 1 + 4 * (LEVELS - 66));
    free(text);
    free(got);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clean");
    TCase *tc = tcase_create("clean");
    tcase_add_loop_test(tc, table, 0, sizeof rows / sizeof *rows);
    tcase_add_test(tc, not_utf8);
    tcase_add_test(tc, entities);
    tcase_add_test(tc, deep);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
