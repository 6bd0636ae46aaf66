/* Prompts of the command line that come from elsewhere, and prompts that are written in another
 * program's language: what is read, what is refused, what is warned of. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

/* What tokens saw of a prompt, after cleaning. */
static void reads(const char *words, const char *wanted)
{
    const program_result *r = program_shell("%s", words);
    program_expect(r, 0);
    cJSON *j = cJSON_Parse(r->out);
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(j, "text")), wanted);
    cJSON_Delete(j);
}

START_TEST(prompts_are_read_from_files_and_input)
{
    char command[8600];
    scratch_put("p.txt", "\xef\xbb\xbf  a fox\r\n that runs\n\n");
    reads("echo 'a panda' | $TESSERA tokens - --json", "a panda");
    snprintf(command, sizeof command, "$TESSERA tokens @%s --json", scratch_path("p.txt"));
    reads(command, "a fox that runs");
    reads("$TESSERA tokens --json -p - </dev/null", "-");
    reads("$TESSERA tokens --json --prompt=@home", "@home");
    snprintf(command, sizeof command, "cd %s && $TESSERA tokens @p.txt --json", scratch_path("."));
    reads(command, "a fox that runs");
    program_expect(
        program_run("generate @%s --dry-run -o %s", scratch_path("p.txt"), scratch_path("x.mp4")),
        0);
    scratch_clear();
}
END_TEST

START_TEST(what_is_no_prompt_is_refused)
{
    static const struct {
        const char *command, *phrase;
        int code;
    } row[] = {
        {"$TESSERA tokens @/nonexistent", "@/nonexistent: No such file or directory (--prompt", 3},
        {"$TESSERA tokens @/", "Is a directory", 3},
        {"$TESSERA tokens @", "the name of a file is missing", 2},
        {"printf 'a\\000b' | $TESSERA tokens -", "standard input: is no text", 3},
        {"printf 'a\\377b' | $TESSERA tokens -", "not UTF-8", 2},
        {"head -c 2000000 /dev/zero | $TESSERA tokens -", "more than 1048576 bytes", 3},
        {"$TESSERA tokens - <&-", "standard input: ", 3},
        {"echo x | $TESSERA bench - -", "can be read once", 2},
        {"$TESSERA tokens a -p b", "one prompt, got 2", 2},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const program_result *r = program_shell("%s", row[i].command);
        ck_assert_msg(r->code == row[i].code, "%s: %d\n%s", row[i].command, r->code, r->err);
        text_has(r->err, row[i].phrase);
        ck_assert_str_eq(r->out, "");
    }
}
END_TEST

START_TEST(other_languages_are_warned_of)
{
    static const char *const foreign[] = {"(a fox:1.5)", "(a fox: 0.8 )",      "(a (red) fox:1.2)",
                                          "<lora:x:1>",  "<LoRA:x:0.5> a fox", "[a fox|a cat]",
                                          "{a|b} fox",   "((a fox))",          "(a:-1)"};
    static const char *const plain[] = {"a fox (red)",      "a | b",   "ratio 16:9 (wide)",
                                        "at 10:30 (night)", "[a fox]", "a {b} c",
                                        "x <3 y",           "(a: b)"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        const program_result *r = program_run("tokens '%s'", foreign[i]);
        program_expect(r, 0);
        ck_assert_msg(text_count(r->err, "drawn as text") == 1, "%s: %s", foreign[i], r->err);
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        ck_assert_str_eq(program_run("tokens '%s'", plain[i])->err, "");
    scratch_put("p.txt", "(a fox:1.5)\n(a cat:1.5)\n");
    const program_result *r = program_run("batch %s --dry-run --out %s", scratch_path("p.txt"),
                                          scratch_path("o"));
    ck_assert_int_eq(text_count(r->err, "drawn as text"), 1);
    scratch_clear();
}
END_TEST

START_TEST(a_negative_prompt_needs_guidance)
{
    const char *out = scratch_path("x.mp4");
    static const char phrase[] = "the negative prompt has no effect";
    const program_result *r = program_run("generate x --negative y --guidance 1 --dry-run -o %s",
                                          out);
    program_expect(r, 0);
    text_has(r->err, phrase);
    text_lacks(program_run("generate x --negative y --guidance 2 --dry-run -o %s", out)->err,
               phrase);
    text_lacks(program_run("generate x --negative '' --guidance 1 --dry-run -o %s", out)->err,
               phrase);
    text_lacks(program_run("generate x --guidance 1 --dry-run -o %s", out)->err, phrase);
    scratch_put("p.jsonl", "{\"prompt\":\"x\",\"negative\":\"y\",\"guidance\":0.5}\n");
    text_has(
        program_run("batch %s --dry-run --out %s", scratch_path("p.jsonl"), scratch_path("o"))->err,
        phrase);
    scratch_clear();
    r = program_run("bench x --frames 1 --steps 2 --size 32x32 --repeats 1 --guidance 1 --negative "
                    "blurry --attention window:min-tokens=1");
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->err, phrase), 1);
    r = program_run(
        "search-tile x --frames 5 --steps 2 --size 32x32 --guidance 1 --negative blurry");
    ck_assert_int_eq(text_count(r->err, phrase), 1);
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *s = suite_create("prompt_words");
    TCase *t = tcase_create("prompt_words");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, prompts_are_read_from_files_and_input);
    tcase_add_test(t, what_is_no_prompt_is_refused);
    tcase_add_test(t, other_languages_are_warned_of);
    tcase_add_test(t, a_negative_prompt_needs_guidance);
    suite_add_tcase(s, t);
    return testing_main(s);
}
