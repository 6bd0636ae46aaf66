/* Prompt files: what each kind holds comes out as rows, in any line ending, and every fault is told
 * with its line while the rest stays readable. */
#include "prompts/rows.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ts_prompts *got;

static void parse_n(ts_prompts_kind kind, const char *text, size_t n)
{
    ts_err err = {0};
    ts_prompts_free(got);
    /* so that a byte read behind the end is seen by the sanitizer */
    char *exact = malloc(n ? n : 1);
    memcpy(exact, text, n);
    ts_status st = ts_prompts_parse(&err, "file", kind, exact, n, &got);
    free(exact);
    ck_assert_msg(st == TS_OK, "%s", err.text);
}
static void parse(ts_prompts_kind kind, const char *text) { parse_n(kind, text, strlen(text)); }
static void text(const char *t) { parse(TS_PROMPTS_TEXT, t); }
static void jsonl(const char *t) { parse(TS_PROMPTS_JSONL, t); }
static void csv(const char *t) { parse(TS_PROMPTS_CSV, t); }

static const char *value(int row, const char *key)
{
    const ts_prompt *r = got->row + row;
    for (int i = 0; i < r->fields; i++)
        if (!strcmp(r->field[i].key, key)) return r->field[i].value;
    return NULL;
}

static void row_is(int i, int line, const char *prompt, int fields)
{
    ck_assert_msg(i < got->rows, "%d rows", got->rows);
    const ts_prompt *r = got->row + i;
    ck_assert_int_eq(r->index, i + 1);
    ck_assert_int_eq(r->line, line);
    ck_assert_str_eq(r->prompt, prompt);
    ck_assert_msg(r->fields == fields, "row %d has %d fields", i + 1, r->fields);
    ck_assert(!r->faulty);
}

static void value_is(int row, const char *key, const char *want)
{
    const char *is = value(row, key);
    ck_assert_msg(is && !strcmp(is, want), "row %d, %s: \"%s\", expected \"%s\"", row + 1, key,
                  is ? is : "(none)", want);
}

static void no_faults(void)
{
    ck_assert_msg(!got->faults, "line %d: %s", got->fault[0].line, got->fault[0].text);
}

static void fault_is(int i, int line, const char *phrase)
{
    ck_assert_msg(i < got->faults, "%d faults", got->faults);
    ck_assert_msg(got->fault[i].line == line && strstr(got->fault[i].text, phrase),
                  "line %d: %s; expected line %d: %s", got->fault[i].line, got->fault[i].text, line,
                  phrase);
}

START_TEST(text_lines)
{
    text("# a comment\na panda\n\n  a fox  \n #1 fan\n\ta cat # not a comment\n  # one\n\t#");
    no_faults();
    ck_assert_int_eq(got->rows, 4);
    row_is(0, 2, "a panda", 0);
    row_is(1, 4, "a fox", 0);
    row_is(2, 5, "#1 fan", 0);
    row_is(3, 6, "a cat # not a comment", 0);
}
END_TEST

START_TEST(text_options)
{
    text("A sunset --w 832 --h 480 --f 81 --d 42 --s 20 --g 7.5 --fs 5 --n low quality, blurry\n"
         "a -- b --not-one- c --size=64x32 --guidance_2 3 --n \"a --w in it\" --seeds 1,2,3\n"
         "well-known --x-- y\n"
         "quotes \"stay\" --n \"one\" and \"two\"\n"
         "last --negative\n"
         "a--w 5 and 3--h --5 --d 7");
    no_faults();
    row_is(0, 1, "A sunset", 8);
    static const char *const want[][2] = {{"width", "832"}, {"height", "480"},
                                          {"frames", "81"}, {"seed", "42"},
                                          {"steps", "20"},  {"guidance", "7.5"},
                                          {"shift", "5"},   {"negative", "low quality, blurry"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) value_is(0, want[i][0], want[i][1]);
    row_is(1, 2, "a -- b", 5);
    value_is(1, "not-one-", "c");
    value_is(1, "size", "64x32");
    value_is(1, "guidance-2", "3");
    value_is(1, "negative", "a --w in it");
    value_is(1, "seeds", "1,2,3");
    row_is(2, 3, "well-known", 1);
    value_is(2, "x--", "y");
    row_is(3, 4, "quotes \"stay\"", 1);
    value_is(3, "negative", "\"one\" and \"two\"");
    row_is(4, 5, "last", 1);
    value_is(4, "negative", "");
    row_is(5, 6, "a--w 5 and 3--h --5", 1);
    value_is(5, "seed", "7");
}
END_TEST

/* What word processors make of two hyphens and of spaces. */
START_TEST(dashes_and_spaces)
{
    static const char *const dashes[] = {"--",
                                         "\xE2\x80\x93",
                                         "\xE2\x80\x94",
                                         "\xE2\x80\x95",
                                         "\xE2\x80\x93\xE2\x80\x93",
                                         "-\xE2\x80\x93",
                                         "\xEF\xBC\x8D\xEF\xBC\x8D",
                                         "\xE2\x88\x92\xE2\x88\x92",
                                         "\xE2\x80\x90\xE2\x80\x90"};
    static const char *const spaces[] = {" ", "\xC2\xA0", " \xE2\x80\xAF", "\xE3\x80\x80"};
    for (size_t i = 0; i < sizeof dashes / sizeof *dashes; i++)
        for (size_t k = 0; k < sizeof spaces / sizeof *spaces; k++) {
            char line[200];
            const char *d = dashes[i], *b = spaces[k];
            snprintf(line, sizeof line, "a panda%s%ss%s3%s%sn%s\"a%s%ss b\"%s%ssteps-x=5", b, d, b,
                     b, d, b, b, d, b, "--");
            text(line);
            no_faults();
            row_is(0, 1, "a panda", 3);
            value_is(0, "steps", "3");
            snprintf(line, sizeof line, "a%s%ss b", b, d);
            value_is(0, "negative", line);
            value_is(0, "steps-x", "5");
            snprintf(line, sizeof line, "a panda --s 3%s", b);
            text(line);
            value_is(0, "steps", "3");
        }
    text("a panda \xE2\x80\x93 with a \xE2\x80\x94seal \xE2\x80\x93 and -s 3 and x\xE2\x80\x93s 3\n"
         "\xC2\xA0\xC2\xA0\n");
    no_faults();
    ck_assert_int_eq(got->rows, 1);
    ck_assert_int_eq(got->row[0].fields, 0);
}
END_TEST

START_TEST(lines_of_any_end)
{
    text("a panda\ra fox\ra cat\r");
    no_faults();
    ck_assert_int_eq(got->rows, 3);
    row_is(2, 3, "a cat", 0);
    text("a panda\ra fox\r\na cat\r\r\na dog\n\r# c\ra cow");
    no_faults();
    ck_assert_int_eq(got->rows, 5);
    row_is(1, 2, "a fox", 0);
    row_is(3, 4, "a dog", 0);
    row_is(4, 7, "a cow", 0);
    jsonl("{\"prompt\": \"a\"}\r{\"prompt\": \"b\"}\r");
    no_faults();
    row_is(1, 2, "b", 0);
    parse(TS_PROMPTS_GUESS, "prompt,seed\ra,1\r\"b\rc\",2\rd,3");
    no_faults();
    ck_assert_int_eq(got->rows, 3);
    row_is(1, 3, "b\rc", 1);
    row_is(2, 5, "d", 1);
}
END_TEST

START_TEST(bytes_before_and_between)
{
    static const char *const same[] = {"a panda --d 7\na fox\n",
                                       "\xEF\xBB\xBF"
                                       "a panda --d 7\na fox",
                                       "a panda --d 7\r\na fox\r\n",
                                       "\xEF\xBB\xBF"
                                       "# c\r\n\r\na panda --d 7\r\n\r\na fox\r\n\r\n"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        text(same[i]);
        no_faults();
        ck_assert_int_eq(got->rows, 2);
        row_is(0, i == 3 ? 3 : 1, "a panda", 1);
        value_is(0, "seed", "7");
        row_is(1, i == 3 ? 5 : 2, "a fox", 0);
    }
    text("\xE7\x8C\xAB \xF0\x9F\x90\xBC --n \xC3\xA9");
    row_is(0, 1, "\xE7\x8C\xAB \xF0\x9F\x90\xBC", 1);
    parse_n(TS_PROMPTS_TEXT,
            "\xFF\xFE"
            "a\0\n\0",
            6);
    ck_assert_int_eq(got->rows, 0);
    fault_is(0, 1, "UTF-16");
}
END_TEST

START_TEST(nothing_to_render)
{
    static const char *const empty[] = {"", "\n\r\n", "# only this\n", "\xEF\xBB\xBF"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        for (int k = TS_PROMPTS_GUESS; k < TS_PROMPTS_CSV; k++) {
            parse((ts_prompts_kind)k, empty[i]);
            ck_assert_int_eq(got->rows, 0);
            fault_is(0, 0, "no prompt in the file");
        }
    csv("prompt,seed\n\n,\n");
    ck_assert_int_eq(got->rows, 0);
    fault_is(0, 0, "no prompt in the file");
}
END_TEST

START_TEST(text_faults)
{
    text("good\nb\xE9"
         "d\n--n no prompt\na --w 5 --width 6\nalso good --g 3");
    ck_assert_int_eq(got->rows, 5);
    ck_assert_int_eq(got->faults, 3);
    fault_is(0, 2, "byte 0xe9 at column 2, expected UTF-8");
    fault_is(1, 3, "the prompt is empty");
    fault_is(2, 4, "width is given twice");
    row_is(4, 5, "also good", 1);
    ck_assert(got->row[1].faulty && got->row[2].faulty && got->row[3].faulty);
    parse_n(TS_PROMPTS_TEXT, "a\0b\nc", 5);
    fault_is(0, 1, "byte 0x00 at column 2");
    row_is(1, 2, "c", 0);
    text("\xED\xA0\x80 a surrogate\n\xC0\x80 overlong\n\xF4\x90\x80\x80 beyond\ncut \xE2\x82");
    ck_assert_int_eq(got->faults, 4);
}
END_TEST

START_TEST(json_values)
{
    jsonl("{\"prompt\": \"a panda\", \"size\": \"832x480\", \"frames\": 81, \"guidance\": 7.5, "
          "\"guidance_2\": 0.1, \"seed\": 9007199254740992, \"shift\": null, \"_note\": {\"any\": "
          "[]}}\n"
          "# a comment\n"
          "{\"prompt\":\"\\u732b "
          "\\\"q\\\"\\n\",\"seeds\":[1,\"18446744073709551615\",3],\"steps\":\"20\xC2\xA0\"}"
          "\r\n");
    no_faults();
    row_is(0, 1, "a panda", 5);
    value_is(0, "size", "832x480");
    value_is(0, "frames", "81");
    value_is(0, "guidance", "7.5");
    value_is(0, "guidance-2", "0.1");
    value_is(0, "seed", "9007199254740992");
    ck_assert(got->row[0].field[1].number && !got->row[0].field[0].number);
    row_is(1, 3, "\xE7\x8C\xAB \"q\"\n", 2);
    value_is(1, "seeds", "1,18446744073709551615,3");
    value_is(1, "steps", "20");
}
END_TEST

/* An object of lists and words where texts and numbers belong: none becomes text. */
START_TEST(json_types)
{
    jsonl("{\"prompt\": [\"a panda\", \"a fox\"]}\n"
          "{\"prompt\": true}\n"
          "{\"prompt\": {\"text\": \"a panda\"}}\n"
          "{\"prompt\": \"a\", \"negative\": [\"blurry\"]}\n"
          "{\"prompt\": \"a\", \"output\": false}\n"
          "{\"prompt\": \"a\", \"steps\": [2]}\n"
          "{\"prompt\": []}\n"
          "{\"prompt\": null}\n");
    static const char *const want[] = {
        "prompt: got a list, expected a text",    "prompt: got true, expected a text",
        "prompt: got an object, expected a text", "negative: got a list, expected a text",
        "output: got false, expected a text",     "steps: got a list, expected a text or a number",
        "prompt: got a list, expected a text",    "no prompt, expected a text"};
    ck_assert_int_eq(got->faults, (int)(sizeof want / sizeof *want));
    for (int i = 0; i < got->faults; i++) fault_is(i, i + 1, want[i]);
    ck_assert_int_eq(got->rows, got->faults);
}
END_TEST

START_TEST(json_arrays)
{
    static const char *const arrays[] = {
        "[\n {\"prompt\":\"a ] } panda\"},\n {\"prompt\":\"a fox\",\n  \"seeds\":[1,2]}\n]\n",
        "\r\n[{\"prompt\":\"a ] } panda\"},\r\n\r\n{\"seeds\":[1,2],\"prompt\":\"a fox\"}]",
        "# c\r[{\"prompt\":\"a ] } panda\"\r},{\"prompt\":\"a fox\",\"seeds\":[1,2]}]\r"};
    static const int line[][2] = {{2, 3}, {2, 4}, {2, 3}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        for (int kind = 0; kind < 2; kind++) {
            if (!kind && i == 2) continue; /* a comment is no sign of JSON */
            parse(kind ? TS_PROMPTS_JSONL : TS_PROMPTS_GUESS, arrays[i]);
            no_faults();
            ck_assert_int_eq(got->rows, 2);
            row_is(0, line[i][0], "a ] } panda", 0);
            row_is(1, line[i][1], "a fox", 1);
            value_is(1, "seeds", "1,2");
        }
    jsonl("[{\"prompt\": \"a\"},\n 5, {\"prompt\": [1]}]");
    fault_is(0, 2, "got a number, expected an object");
    fault_is(1, 2, "prompt: got a list");
    ck_assert_int_eq(got->rows, 3);
    text("[a] {b}\n");
    no_faults();
    parse(TS_PROMPTS_GUESS, "[photo] a panda");
    row_is(0, 1, "[photo] a panda", 0);
}
END_TEST

/* Parts of what stands on several lines are no rows: one sentence for all of it. */
START_TEST(json_over_several_lines)
{
    static const struct {
        const char *text;
        int line;
        const char *phrase;
    } broken[] = {
        {"[\n {\"prompt\":\"a panda\"}\n {\"prompt\":\"a fox\"}\n]\n", 3, "jq -c '.[]'"},
        {"[\n {\"prompt\":\"a panda\"},\n", 2, "broken JSON, expected an array"},
        {"[\n{\"prompt\":\"a\"}\n] x\n", 3, "broken JSON, expected an array"},
        {"{\n \"prompt\": \"a panda\"\n}\n{\n \"prompt\": \"a fox\"\n}\n", 1, "jq -c . makes"},
        {"\n{\"rows\": [\n{\"prompt\": \"a\"}\n]}\n", 2, "an object over several lines"},
        {"{\"prompt\": \"a\",\r\n\"seed\": 1}", 1, "an object over several lines"}};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        jsonl(broken[i].text);
        ck_assert_msg(got->faults == 1 && !got->rows, "%zu: %d faults, %d rows", i, got->faults,
                      got->rows);
        fault_is(0, broken[i].line, broken[i].phrase);
    }
}
END_TEST

START_TEST(json_faults)
{
    jsonl("{\"prompt\": \"a\" \"seed\": 1}\n"
          "\"a panda\"\n"
          "[{\"prompt\": \"a\"}]\n"
          "{\"prompt\": 5}\n"
          "{\"prompt\": \"a\", \"seed\": 18446744073709551615}\n"
          "{\"prompt\": \"a\", \"seed\": {\"x\": 1}}\n"
          "{\"prompt\": \"a\", \"seeds\": [1, [2]]}\n"
          "{\"prompt\": \"a\\u0000b\"}\n"
          "{\"prompt\": \"a\"} {\"prompt\": \"b\"}\n"
          "{\"prompt\": \"a\", \"prompt\": \"b\"}\n"
          "{\"seed\": 1}\n"
          "{\"prompt\": \"  \"}\n"
          "{\n"
          "{\"prompt\": \"fine\"}\n");
    static const char *const want[] = {
        "broken JSON at column",
        "got a text, expected an object",
        "got a list, expected an object",
        "prompt: got the number 5, expected a text",
        "is more than JSON numbers hold exactly, expected it in quotes",
        "seed: got an object",
        "seeds: a list in a list, expected numbers",
        "\\u0000",
        "more text at column 17",
        "prompt is given twice",
        "no prompt, expected a text",
        "the prompt is empty",
        "broken JSON"};
    ck_assert_int_eq(got->faults, (int)(sizeof want / sizeof *want));
    for (int i = 0; i < got->faults; i++) fault_is(i, i + 1, want[i]);
    ck_assert_int_eq(got->rows, got->faults + 1);
    row_is(got->rows - 1, 14, "fine", 0);
}
END_TEST

START_TEST(csv_records)
{
    csv("Prompt,seed, guidance_2 ,_note\r\n"
        "a panda,7,,x\r\n"
        "\"a fox, \"\"red\"\"\nin snow\",8,3.5\r\n"
        "\r\n"
        ",,,\r\n"
        "#1 fan, 9 ,\"\",\r\n"
        " \"quoted\" ,,,y");
    no_faults();
    ck_assert_int_eq(got->rows, 4);
    row_is(0, 2, "a panda", 1);
    value_is(0, "seed", "7");
    row_is(1, 3, "a fox, \"red\"\nin snow", 2);
    value_is(1, "guidance-2", "3.5");
    row_is(2, 7, "#1 fan", 1);
    value_is(2, "seed", "9");
    row_is(3, 8, "quoted", 0);
    csv("seed;prompt\n1;a, b\n");
    row_is(0, 2, "a, b", 1);
    csv("prompt\tseed\na panda\t5\n");
    value_is(0, "seed", "5");
    csv("prompt\none\n\"two\"\n");
    row_is(1, 3, "two", 0);
}
END_TEST

/* What spreadsheets and data frames write. */
START_TEST(csv_dialects)
{
    static const char *const same[] = {
        "sep=;\r\nprompt;seed\r\na panda;1\r\n", "\xEF\xBB\xBFSEP=;\nprompt;seed\na panda;1",
        "\"sep=;\"\nprompt;seed\na panda;1", "sep=\t\nprompt\tseed\na panda\t1\xC2\xA0\n"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        for (int kind = 0; kind < 2; kind++) {
            parse(kind ? TS_PROMPTS_CSV : TS_PROMPTS_GUESS, same[i]);
            no_faults();
            row_is(0, 3, "a panda", 1);
            value_is(0, "seed", "1");
            ck_assert_int_eq(got->header, 2);
        }
    csv("prompt,seed,frames,guidance,output,negative\n7.0,42.0,5.00,2.50,3.0,1.0\na fox,,,.0,,\n");
    no_faults();
    row_is(0, 2, "7.0", 5);
    value_is(0, "seed", "42.0"); /* what takes whole numbers knows that these are */
    value_is(0, "frames", "5.00");
    value_is(0, "guidance", "2.50");
    value_is(0, "output", "3.0");
    value_is(0, "negative", "1.0");
    value_is(1, "guidance", ".0");
    ck_assert_int_eq(got->header, 1);
    csv("sep=;");
    ck_assert_int_eq(got->rows, 0);
}
END_TEST

START_TEST(csv_faults)
{
    csv("prompt,seed\na,1,2\n\"b\" x,3\n,4\nc\xFF,5\nfine,6\n\"open,7\nlost,8\n");
    ck_assert_int_eq(got->faults, 5);
    fault_is(0, 2, "3 fields, expected 2");
    fault_is(1, 3, "text behind a closing quote");
    fault_is(2, 4, "no prompt");
    fault_is(3, 5, "byte 0xff at column 2");
    fault_is(4, 7, "a quote is opened and never closed");
    row_is(4, 6, "fine", 1);
    ck_assert_int_eq(got->rows, 6);
    csv("text,seed\na,1\n");
    fault_is(0, 1, "no column named prompt");
    ck_assert_int_eq(got->rows, 0);
    csv("prompt,seed,seed\na,1,2\n");
    fault_is(0, 1, "column seed stands twice");
    csv("prompt,\na,1\n");
    fault_is(0, 2, "column 2, which the header does not name");
    csv("\"prompt,seed\na,1\n");
    fault_is(0, 1, "never closed");
}
END_TEST

START_TEST(kinds_by_name_and_by_content)
{
    static const struct {
        const char *name;
        ts_prompts_kind kind;
    } names[] = {{"a.txt", TS_PROMPTS_TEXT},
                 {"a.JSONL", TS_PROMPTS_JSONL},
                 {"x/a.b.ndjson", TS_PROMPTS_JSONL},
                 {"a.csv", TS_PROMPTS_CSV},
                 {"a.tsv", TS_PROMPTS_CSV},
                 {"-", TS_PROMPTS_GUESS},
                 {"a", TS_PROMPTS_GUESS},
                 {".txt", TS_PROMPTS_GUESS}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(ts_prompts_kind_of(names[i].name) == names[i].kind, "%s", names[i].name);
    static const struct {
        const char *text, *prompt;
    } guesses[] = {{"\xEF\xBB\xBF \n{\"prompt\": \"p\"}", "p"},
                   {"prompt,seed\np,1", "p"},
                   {"seed;prompt\n1;p", "p"},
                   {"\"prompt\"\np", "p"},
                   {"prompt, a good one\n", "prompt, a good one"},
                   {"p\n", "p"}};
    for (size_t i = 0; i < sizeof guesses / sizeof *guesses; i++) {
        parse(TS_PROMPTS_GUESS, guesses[i].text);
        no_faults();
        ck_assert_str_eq(got->row[0].prompt, guesses[i].prompt);
    }
}
END_TEST

/* Two hundred rows of each kind, twenty of them broken in its way: all twenty are told, in order,
 * and the others are whole. */
START_TEST(twenty_faults_in_two_hundred_rows)
{
    static const char *const broken[3][4] = {{"\xFF", "--n x", "a --s 1 --steps 2", "\xC3("},
                                             {"{", "[1]", "{\"prompt\": 1}", "{}"},
                                             {",1", "a,b,c", "\"a\"b,1", "\xFE,1"}};
    for (int kind = 0; kind < 3; kind++) {
        char *all = NULL;
        size_t size;
        FILE *f = open_memstream(&all, &size);
        if (kind == 2) fprintf(f, "prompt,seed\n");
        for (int i = 1; i <= 200; i++) {
            if (i % 10 == 7)
                fprintf(f, "%s\n", broken[kind][i / 10 % 4]);
            else if (kind == 0)
                fprintf(f, "prompt %d --d %d\n", i, 1000 + i);
            else if (kind == 1)
                fprintf(f, "{\"prompt\": \"prompt %d\", \"seed\": %d}\n", i, 1000 + i);
            else
                fprintf(f, "prompt %d,%d\n", i, 1000 + i);
        }
        fclose(f);
        parse((ts_prompts_kind)(TS_PROMPTS_TEXT + kind), all);
        free(all);
        ck_assert_int_eq(got->rows, 200);
        ck_assert_int_eq(got->faults, 20);
        for (int i = 0; i < 20; i++) ck_assert_int_eq(got->fault[i].line, 10 * i + 7 + (kind == 2));
        for (int i = 1; i <= 200; i++) {
            char prompt[32], seed[16];
            snprintf(prompt, sizeof prompt, "prompt %d", i);
            snprintf(seed, sizeof seed, "%d", 1000 + i);
            if (i % 10 == 7)
                ck_assert(got->row[i - 1].faulty);
            else {
                row_is(i - 1, i + (kind == 2), prompt, 1);
                value_is(i - 1, "seed", seed);
            }
        }
    }
}
END_TEST

START_TEST(faults_of_others_keep_the_order)
{
    ts_err err = {0};
    text("a\n\xFF\nc\n");
    ck_assert(ts_prompts_fault(&err, got, got->row + 2, 3, "third %d", 3) == TS_OK &&
              ts_prompts_fault(&err, got, got->row, 1, "first") == TS_OK);
    ck_assert(ts_prompts_fault(&err, got, got->row, 1, "first, again") == TS_OK &&
              ts_prompts_fault(&err, got, NULL, 0, "all") == TS_OK);
    fault_is(0, 0, "all");
    fault_is(1, 1, "first");
    fault_is(2, 1, "first, again");
    fault_is(3, 2, "byte");
    fault_is(4, 3, "third 3");
    ck_assert(got->row[0].faulty && got->row[2].faulty);
}
END_TEST

START_TEST(files)
{
    ts_err err = {0};
    ts_prompts *r;
    char path[4200], *folder = testing_tmp();
    ck_assert(ts_prompts_read(&err, "/nonexistent.txt", &r) == TS_EMODEL && !r &&
              strstr(err.text, "/nonexistent.txt: No such file"));
    ck_assert(ts_prompts_read(&err, folder, &r) == TS_EMODEL && strstr(err.text, "directory"));
    snprintf(path, sizeof path, "%s/p.jsonl", folder);
    FILE *f = fopen(path, "w");
    fputs("{\"prompt\": \"a panda\"}\n", f);
    fclose(f);
    ck_assert(ts_prompts_read(&err, path, &r) == TS_OK && r->rows == 1 &&
              !strcmp(r->row[0].prompt, "a panda") && !strcmp(r->name, path));
    ts_prompts_free(r);
    free(folder);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rows");
    TCase *t = tcase_create("rows");
    tcase_add_test(t, text_lines);
    tcase_add_test(t, text_options);
    tcase_add_test(t, dashes_and_spaces);
    tcase_add_test(t, lines_of_any_end);
    tcase_add_test(t, bytes_before_and_between);
    tcase_add_test(t, nothing_to_render);
    tcase_add_test(t, text_faults);
    tcase_add_test(t, json_values);
    tcase_add_test(t, json_types);
    tcase_add_test(t, json_arrays);
    tcase_add_test(t, json_over_several_lines);
    tcase_add_test(t, json_faults);
    tcase_add_test(t, csv_records);
    tcase_add_test(t, csv_dialects);
    tcase_add_test(t, csv_faults);
    tcase_add_test(t, kinds_by_name_and_by_content);
    tcase_add_test(t, twenty_faults_in_two_hundred_rows);
    tcase_add_test(t, faults_of_others_keep_the_order);
    tcase_add_test(t, files);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    ts_prompts_free(got);
    return failed;
}
