/* What a row asks for: its name and seed follow from it alone, what the file of its kind can not
 * hold is known before anything is rendered, and an output counts as done while it is whole. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TINY "--size 32x32 --frames 1 --steps 1 --scale 1 "
static const char *tmp;

static const program_result *run_batch(const char *rows, const char *more)
{
    scratch_put("p.txt", rows);
    return program_run("batch %s --out %s " TINY "%s", scratch_path("p.txt"), scratch_path("o"),
                       more);
}

/* The last column of the plan's k-th row, from 0. */
static void planned_name(const char *out, int k, char name[200])
{
    const char *at = out;
    for (int i = -1; at && i < k; i++) at = strstr(at, "/o/") ? strstr(at, "/o/") + 3 : NULL;
    ck_assert_msg(at != NULL, "row %d is not in\n%s", k, out);
    snprintf(name, 200, "%.*s", (int)strcspn(at, "\n"), at);
}

START_TEST(a_line_that_is_inserted_changes_no_other)
{
    char before[4][200], after[200];
    const char *rows = "a panda\na fox --d 7\na panda --s 2\na fox --count 2 --f 5\n";
    const program_result *r = run_batch(rows, "--dry-run");
    program_expect(r, 0);
    for (int i = 0; i < 4; i++) planned_name(r->out, i, before[i]);
    ck_assert_msg(!strncmp(before[0], "a-panda_s42_", 12) && strlen(before[0]) == 22, "%s",
                  before[0]);
    ck_assert(!strncmp(before[1], "a-fox_s7_", 9) && !strncmp(before[2], "a-panda_s42_", 12));
    ck_assert_msg(strcmp(before[0], before[2]) != 0, "two rows, one name: %s", before[0]);
    char more[400];
    snprintf(more, sizeof more, "# new\na new one\na panda --output mine\n\n%s", rows);
    r = run_batch(more, "--dry-run");
    program_expect(r, 0);
    for (int i = 0; i < 4; i++) {
        planned_name(r->out, i + 2, after);
        ck_assert_str_eq(before[i], after);
    }
    /* and as generate would draw it */
    program_expect(run_batch("first\na panda\n", ""), 0);
    program_expect(program_run("generate 'a panda' " TINY "-o %s", scratch_path("g.png")), 0);
    program_expect(
        program_shell("cmp %s %s/a-panda_s42_*.png", scratch_path("g.png"), scratch_path("o")), 0);
    r = run_batch("a panda\nsecond\nfirst\n", "");
    program_expect(r, 0);
    text_has(r->err, "2 of 3 rows skipped: their outputs are there");
    r = run_batch("a panda\n", "");
    program_expect(r, 0);
    r = program_run("batch --status %s", scratch_path("o"));
    text_has(r->out, "2 outputs are of rows that are no longer asked for");
    text_has(r->out, "no longer asked for: first_s42_");
    text_has(r->out, "no longer asked for: second_s42_");
    scratch_clear();
}
END_TEST

START_TEST(equal_rows_have_outputs_of_their_own)
{
    const program_result *r = run_batch(
        "a panda\na cat --d 5\na panda --count 2\na cat --d 5\na panda\na cat --d 5\n",
        "--dry-run");
    program_expect(r, 0);
    static const char *const seeds[] = {"a-panda_s42_", "a-panda_s43_", "a-panda_s44_",
                                        "a-panda_s45_"};
    for (int i = 0; i < 4; i++) ck_assert_int_eq(text_count(r->out, seeds[i]), 1);
    ck_assert_int_eq(text_count(r->out, "a-cat_s5_"), 3);
    ck_assert_int_eq(text_count(r->out, "-2.png"), 1);
    ck_assert_int_eq(text_count(r->out, "-3.png"), 1);
    r = run_batch("a cat --d 5 --output x\na cat --d 5 --output x\n", "--dry-run");
    program_expect(r, 1); /* names that rows give are theirs to keep apart */
    text_has(r->err, "p.txt:2: writes x.png, as ");
    r = run_batch("a cat --d 5\na cat --d 6\n", "--name {slug} --dry-run");
    program_expect(r, 2); /* and so are those of a template that tells different rows not apart */
    scratch_clear();
}
END_TEST

/* Once names began with the row's index, and seeds were 42 and the index. */
START_TEST(outputs_of_earlier_names_are_kept)
{
    program_expect(run_batch("a panda --d 43\na fox --d 7\nto clips --output x --d 45\n",
                             "--name {index:04}_{slug:60}_s{seed}"),
                   0);
    const program_result *r = run_batch("a panda\na fox --d 7\nto clips --output x\na new one\n",
                                        "");
    program_expect(r, 0);
    text_has(r->err, "3 of 4 rows skipped: their outputs are there");
    text_has(r->out, "/o/0001_a-panda_s43.png");
    text_has(r->out, "/o/a-new-one_s42_");
    scratch_clear();
}
END_TEST

START_TEST(sizes_that_can_not_be_encoded)
{
    static const char *const rows[] = {"wide --w 2736 --h 16 --f 5 --scale 6\n",
                                       "wide --w 1040 --h 16 --f 5 --scale 16 --format webm\n",
                                       "wide --w 2736 --h 16 --output a.mp4 --scale 6\n"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char all[200];
        snprintf(all, sizeof all, "%sa panda\n", rows[i]);
        const program_result *r = run_batch(all, "--dry-run");
        program_expect(r, 1);
        text_has(r->err, "p.txt:1: ");
        text_has(r->err, "at most 16384");
        text_has(r->out, "1 row to render");
        text_has(r->err, "1 of 2 rows: 1 can not be used");
    }
    scratch_clear();
}
END_TEST

START_TEST(what_is_smaller_than_it_was_is_cut)
{
    const char *rows = "a panda --output a.gif --f 5\na fox --output b.mp4 --f 5\n"
                       "a cat --output c/ --f 5\n";
    program_expect(run_batch(rows, ""), 0);
    /* a GIF that still ends as one, a folder without its last frame */
    program_expect(program_shell("cd %s && truncate -s 50 a.gif && printf ';' >>a.gif && rm "
                                 "c/0004.png",
                                 scratch_path("o")),
                   0);
    const program_result *r = run_batch(rows, "");
    program_expect(r, 0);
    text_has(r->err, "1 of 3 rows skipped");
    ck_assert(scratch_has("o/c/0004.png"));
    r = run_batch(rows, "");
    text_has(r->err, "3 of 3 rows skipped");
    scratch_clear();
}
END_TEST

START_TEST(keys_and_numbers)
{
    static const struct {
        const char *row, *phrase;
    } wrong[] = {
        {"\"model\":\"y\"", "model is no key of a row: --model holds for all rows of a batch"},
        {"\"no_bins\":1", "no-bins is no key of a row: --no-bins holds for all rows"},
        {"\"noise\":\"q\"", "noise is no key of a row: only generate has --noise"},
        {"\"zzz\":1",
         "unknown key zzz, expected prompt, or a flag's name like steps; _zzz would be"},
        {"\"init\":\"none.png\"", "init: none.png: No such file or directory"},
        {"\"strength\":0.5", "strength: there is no picture to begin with, expected init, too"},
        {"\"steps\":\"2.5\"", "steps: got \"2.5\", expected a whole number"},
        {"\"seed\":\"7.5\"", "seed: got \"7.5\", expected a whole number"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char rows[300];
        snprintf(rows, sizeof rows, "{\"prompt\":\"x\",%s}\n{\"prompt\":\"good\"}\n", wrong[i].row);
        scratch_put("p.jsonl", rows);
        const program_result *r = program_run("batch %s --out %s " TINY "--dry-run",
                                              scratch_path("p.jsonl"), scratch_path("o"));
        program_expect(r, 1);
        text_has(r->err, "p.jsonl:1: ");
        text_has(r->err, wrong[i].phrase);
    }
    static const char *const same[] = {
        "p.csv",   "prompt;seeds;width;steps\nx;7.0,8;48.0;3.00\n",
        "p.jsonl", "{\"prompt\":\"x\",\"seeds\":\"7.0, 8.00\",\"width\":48.0,\"steps\":\"3.0\"}\n",
        "p.txt",   "x --seeds 7.0,8 --width 48.0 --steps 3.0\n"};
    for (int i = 0; i < 6; i += 2) {
        scratch_put(same[i], same[i + 1]);
        const program_result *r = program_run("batch %s --out %s " TINY "--dry-run",
                                              scratch_path(same[i]), scratch_path("o"));
        program_expect(r, 0);
        text_has(r->out, "48x32      1     3                    7 ");
        text_has(r->out, "48x32      1     3                    8 ");
    }
    program_expect(run_batch("a panda\n", "--strength 0.5 --dry-run"), 2);
    scratch_clear();
}
END_TEST

#define PICTURES \
    "--model tests/fixtures/pixart-alpha-256/model --size 64x64 --steps 2 --precision f32 "

/* A picture that can not be read is the fault of its row. */
START_TEST(rows_begin_with_pictures)
{
    program_expect(program_run("generate fox " PICTURES "-o %s", scratch_path("a.png")), 0);
    program_expect(program_run("generate fox " PICTURES "--init %s --strength 0.5 -o %s",
                               scratch_path("a.png"), scratch_path("b.png")),
                   0);
    scratch_put("c.png", "no picture");
    FILE *f = fopen(scratch_path("p.jsonl"), "w");
    fprintf(f, "{\"prompt\":\"fox\",\"init\":\"%s\",\"strength\":0.5,\"output\":\"b\"}\n",
            scratch_path("a.png"));
    fprintf(f, "{\"prompt\":\"fox\",\"init\":\"%s\"}\n{\"prompt\":\"fox\",\"output\":\"a\"}\n",
            scratch_path("c.png"));
    fclose(f);
    const program_result *r = program_run("batch %s --out %s " PICTURES, scratch_path("p.jsonl"),
                                          scratch_path("o"));
    program_expect(r, 1);
    text_has(r->err, "p.jsonl:2: ");
    text_has(r->err, "c.png");
    text_has(r->err, "1 of 3 rows: 1 failed");
    ck_assert(program_same(scratch_path("a.png"), scratch_path("o/a.png")));
    ck_assert(program_same(scratch_path("b.png"), scratch_path("o/b.png")));
    scratch_clear();
}
END_TEST

/* Names are data: nothing of them is a part of the command. */
START_TEST(a_command_after_every_row)
{
    scratch_put("p.txt", "it's $(touch pwned) --output \"a;b $(c)\"\na fox --d 7\n");
    const program_result *r = program_run(
        "batch %s --out %s " TINY "--report %s --exec 'test -f \"$TESSERA_OUTPUT\" && cp %s "
        "%s/$TESSERA_LINE.html && echo \"<$TESSERA_OUTPUT|$TESSERA_PROMPT|$TESSERA_SEED>\"; exit "
        "$((TESSERA_LINE - 1))'",
        scratch_path("p.txt"), scratch_path("o"), scratch_path("r.html"), scratch_path("r.html"),
        tmp);
    program_expect(r, 0);
    text_has(r->err, "/o/a;b $(c).png|it's $(touch pwned)|42>");
    text_has(r->err, "|a fox|7>");
    ck_assert_int_eq(text_count(r->err, "ended with exit code"), 1);
    text_has(r->err, "ended with exit code 1");
    text_lacks(r->out, "<");
    /* the page of each moment */
    ck_assert_int_eq(scratch_count("1.html", "<b>done</b>"), 1);
    ck_assert_int_eq(scratch_count("1.html", "<b>to do</b>"), 1);
    ck_assert_int_eq(scratch_count("1.html", "location.reload"), 1);
    ck_assert_int_eq(scratch_count("r.html", "<b>done</b>"), 2);
    ck_assert_int_eq(scratch_count("r.html", "location.reload"), 0);
    r = program_run("batch %s --out %s " TINY "--overwrite --progress json --exec 'echo no JSON'",
                    scratch_path("p.txt"), scratch_path("o2"));
    program_expect(r, 0);
    text_lacks(r->err, "no JSON");
    text_has(r->err, "/o2/a;b $(c).png\",\"written_width\":32,\"written_height\":32,\"frames\":1,"
                     "\"bytes\":");
    setenv("TESSERA_MINE", "kept", 1); /* but what is not of this output is not */
    setenv("TESSERA_LINE", "7", 1);
    r = program_run("generate 'a fox' " TINY "-o %s --progress json --exec 'test "
                    "$TESSERA_MINE$TESSERA_LINE = kept && cp $TESSERA_OUTPUT %s'",
                    scratch_path("g.png"), scratch_path("h.png"));
    program_expect(r, 0);
    ck_assert(program_same(scratch_path("g.png"), scratch_path("h.png")));
    text_has(r->err, "/g.png\"],\"frames\":1,\"bytes\":");
    scratch_clear();
}
END_TEST

START_TEST(what_can_not_be_written_is_refused_in_a_dry_run)
{
    scratch_put("mine.html", "<!doctype html><title>mine</title>");
    scratch_put("empty.html", "");
    program_expect(run_batch("a panda\n", "--out /dev/null --dry-run"), 2);
    program_expect(run_batch("a panda\n", "--out /dev/null/x --dry-run"), 4);
    char flags[4300];
    snprintf(flags, sizeof flags, "--dry-run --report %s", scratch_path("mine.html"));
    const program_result *r = run_batch("a panda\n", flags);
    program_expect(r, 2);
    text_has(r->err, "mine.html exists and is no report of a batch: --overwrite replaces it");
    snprintf(flags, sizeof flags, "--dry-run --overwrite --report %s", scratch_path("mine.html"));
    program_expect(run_batch("a panda\n", flags), 0);
    snprintf(flags, sizeof flags, "--dry-run --report %s", scratch_path("empty.html"));
    program_expect(run_batch("a panda\n", flags), 0);
    program_expect(run_batch("a panda\n", "--json"), 2);
    scratch_clear();
}
END_TEST

static const cJSON *key_of(const cJSON *j, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);
    ck_assert_msg(v != NULL, "no %s", key);
    return v;
}

/* A row that is done, one to do, one that can not be used. */
START_TEST(a_plan_for_programs)
{
    static const char *const states[] = {"had", "to do", "faulty"};
    program_expect(run_batch("a panda --d 18446744073709551615\n", ""), 0);
    const program_result *r = run_batch("a panda --d 18446744073709551615\na fox --w 48 --s 3 "
                                        "--output f.mp4 --scale 2\nbad --s 0\n",
                                        "--dry-run --json");
    program_expect(r, 1);
    cJSON *j = cJSON_ParseWithOpts(r->out, NULL, false), *row;
    const cJSON *rows = key_of(j, "rows");
    ck_assert_int_eq(cJSON_GetArraySize(rows), 3);
    for (int i = 0; i < 3; i++) {
        row = cJSON_GetArrayItem(rows, i);
        ck_assert_str_eq(key_of(row, "state")->valuestring, states[i]);
        ck_assert_str_eq(key_of(row, "file")->valuestring, scratch_path("p.txt"));
        ck_assert_int_eq(key_of(row, "line")->valueint, i + 1);
    }
    text_has(key_of(row, "error")->valuestring, "steps: got \"0\"");
    text_has(r->out, "\"seed\":18446744073709551615,");
    row = cJSON_GetArrayItem(rows, 1);
    ck_assert_str_eq(key_of(row, "output")->valuestring, "f.mp4");
    ck_assert_str_eq(key_of(row, "path")->valuestring, scratch_path("o/f.mp4"));
    ck_assert_str_eq(key_of(row, "prompt")->valuestring, "a fox");
    static const struct {
        const char *key;
        int value;
    } numbers[] = {{"width", 48}, {"height", 32}, {"written_width", 96}, {"written_height", 64},
                   {"steps", 3},  {"frames", 1},  {"seed", 42}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        ck_assert_int_eq(key_of(row, numbers[i].key)->valueint, numbers[i].value);
    double seconds = key_of(row, "seconds")->valuedouble;
    ck_assert_double_eq(key_of(j, "seconds")->valuedouble, seconds); /* the only one */
    ck_assert_int_eq(key_of(j, "todo")->valueint, 1);
    cJSON_Delete(j);
    scratch_clear();
}
END_TEST

/* Held at a step, killed there, finished, failed: what --status says of each. */
START_TEST(status_of_every_moment)
{
    scratch_put("p.txt", "a panda --s 50\nhuge --w 4096 --h 4096 --f 33\n");
    int held = program_pipe(scratch_path("err"));
    pid_t pid = program_start(scratch_path("err"),
                              "batch %s --out %s " TINY "--memory 64M --progress json",
                              scratch_path("p.txt"), scratch_path("o"));
    free(program_reads(pid, held, "\"phase\":\"denoise\",\"step\":2,"));
    const program_result *r = program_run("batch --status %s", scratch_path("o"));
    program_expect(r, 0);
    text_has(r->out, " at work ");
    text_has(r->out, "  at a-panda_s42_");
    text_has(r->out, " of 50");
    r = program_run("batch --status --json %s", scratch_path("o"));
    cJSON *j = cJSON_Parse(r->out),
          *share = cJSON_GetArrayItem(cJSON_GetObjectItem(j, "shares"), 0);
    cJSON *at = cJSON_GetObjectItem(share, "at");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(at, "phase")), "denoise");
    ck_assert_int_eq(cJSON_GetObjectItem(at, "steps")->valueint, 50);
    cJSON_Delete(j);
    kill(pid, SIGKILL);
    program_drain(pid, held);
    text_has(program_run("batch --status %s", scratch_path("o"))->out, " killed ");
    program_expect(run_batch("a panda\nhuge --w 4096 --h 4096 --f 33\n", "--memory 64M"), 1);
    r = program_run("batch --status %s", scratch_path("o"));
    text_has(r->out, " ended ");
    text_has(r->out, "failed: huge_s42_");
    text_has(r->out, "p.txt:2)\n");
    text_has(r->out, "again: ");
    text_has(r->out, " --memory 64M --retry (in /");
    r = program_run("batch --status --json %s", scratch_path("o"));
    j = cJSON_Parse(r->out);
    cJSON *failure = cJSON_GetArrayItem(cJSON_GetObjectItem(j, "failures"), 0);
    ck_assert_int_eq(cJSON_GetObjectItem(failure, "line")->valueint, 2);
    text_has(cJSON_GetStringValue(cJSON_GetObjectItem(failure, "error")), "may be used");
    ck_assert_int_eq(cJSON_GetObjectItem(j, "done")->valueint, 1);
    cJSON_Delete(j);
    scratch_clear();
}
END_TEST

/* The library names members, and the program flags: where a row is told of, and in the table. */
START_TEST(a_refusal_names_flags)
{
    scratch_put("rows.jsonl", "{\"prompt\":\"x\",\"frames\":4}\n{\"prompt\":\"y\"}\n");
    const program_result *r = program_run(
        "batch %s/rows.jsonl --model tests/fixtures/pixart-sigma/model --out %s/o --steps 1 --size "
        "64x64 --format frames --dry-run",
        tmp, tmp);
    text_has(r->err, "this model draws pictures, --count 4 draws so many");
    text_has(r->out, "this model draws pictures, --count 4 draws so many");
    scratch_clear();
}
END_TEST

int main(void)
{
    tmp = scratch_open();
    Suite *s = suite_create("batch_rows");
    TCase *t = tcase_create("batch_rows");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, a_line_that_is_inserted_changes_no_other);
    tcase_add_test(t, equal_rows_have_outputs_of_their_own);
    tcase_add_test(t, outputs_of_earlier_names_are_kept);
    tcase_add_test(t, sizes_that_can_not_be_encoded);
    tcase_add_test(t, what_is_smaller_than_it_was_is_cut);
    tcase_add_test(t, keys_and_numbers);
    tcase_add_test(t, rows_begin_with_pictures);
    tcase_add_test(t, a_command_after_every_row);
    tcase_add_test(t, what_can_not_be_written_is_refused_in_a_dry_run);
    tcase_add_test(t, a_refusal_names_flags);
    tcase_add_test(t, a_plan_for_programs);
    tcase_add_test(t, status_of_every_moment);
    suite_add_tcase(s, t);
    return testing_main(s);
}
