/* Batches as a shell sees them, with the default model at its smallest: what is refused before
 * anything is rendered, that rows come out as generate would make them, names, and what one row's
 * failure does to the others. Stopping and going on is test_batch_resume.c's. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TINY "--size 32x32 --frames 1 --steps 1 --scale 1 "
#define NAMED "--name {index:04}_{slug:60}_s{seed} "
static const char *tmp;

START_TEST(slips)
{
    static const struct {
        const char *args, *phrase;
    } row[] = {
        {"batch", "the folder of the outputs is missing"},
        {"batch p.txt", "the folder of the outputs is missing"},
        {"batch --out %s/o", "a prompt file is missing"},
        {"batch %s/p.txt --out %s/o --seed random", "the seeds of a batch are fixed"},
        {"batch %s/p.txt --out %s/o --shard 3/2", "--shard: got \"3/2\", wanted I/N"},
        {"batch %s/p.txt --out %s/o --shard auto", "--shard auto: the environment is not that of"},
        {"batch %s/p.txt --out %s/o --shard 1/2 --queue redis://localhost/x",
         "--shard and --queue do not go together"},
        {"batch %s/p.txt --out %s/o --fail-fast --keep-going", "do not go together"},
        {"batch %s/p.txt --out %s/o --claim-timeout 5",
         "--claim-timeout has a meaning with --queue only"},
        {"batch %s/p.txt --out %s/o --name {indx}",
         "--name: got \"{indx}\", wanted a name with fields in braces: {index}"},
        {"batch %s/p.txt --out %s/o --name {index", "--name: got"},
        {"batch %s/p.txt --out %s/o --name {slug:}", "--name: got"},
        {"batch %s/p.txt --out %s/o --name /x{index}", "below the folder of --out"},
        {"batch %s/p.txt --out %s/o --name ../{index}", "has a part that is . or .."},
        {"batch %s/p.txt --out %s/o --name tessera-batch{index}", "is one of the batch's own"},
        {"batch %s/p.txt --out %s/o --format avi",
         "--format: got \"avi\", wanted png, jpg, webp, mp4, webm, gif, mkv, y4m or frames"},
        {"batch %s/p.txt --out %s/o --count 0", "--count: got"},
        {"batch %s/p.txt --out %s/o --output x", "--output is not a flag of this command"},
        {"batch - - --out %s/o", "can be read once"},
        {"generate x --retry", "--retry is not a flag of this command"},
    };
    scratch_put("p.txt", "a panda\na fox\n");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char args[4096] = "", *to = args;
        for (const char *s = row[i].args; *s; s++) {
            if (s[0] == '%' && s[1] == 's') {
                to += sprintf(to, "%s", tmp);
                s++;
            } else {
                *to++ = *s;
                *to = 0;
            }
        }
        const program_result *r = program_run("%s </dev/null", args);
        ck_assert_msg(r->code == 2, "%s: exit code %d\n%s", args, r->code, r->err);
        text_has(r->err, row[i].phrase);
        ck_assert_msg(!scratch_has("o"), "%s made a folder", args);
    }
    program_expect(program_run("batch %s/none.txt --out %s/o", tmp, tmp), 3);
    program_expect(program_run("batch %s --out %s/o", tmp, tmp), 3);
    text_has(program_run("batch 'a panda' --out %s/o", tmp)->err,
             "a prompt itself goes to generate");
    program_expect(program_run("batch %s/p.txt --out %s/p.txt", tmp, tmp), 2);
    program_expect(program_run("batch %s/p.txt --out %s/o --model /nonexistent", tmp, tmp), 3);
    program_expect(program_run("batch --status --out %s/none", tmp), 3);
    program_expect(program_run("batch --status %s", tmp), 3);
    scratch_clear();
}
END_TEST

/* Two hundred rows, twenty of them wrong, each in its own way. */
START_TEST(twenty_faults_in_two_hundred_rows)
{
    static const struct {
        const char *row, *phrase;
    } wrong[20] = {
        {"{\"prompt\": \"x\", \"steps\": 0}",
         "steps: got \"0\", expected a whole number from 1 to 1000"},
        {"{\"prompt\": \"x\", \"steps\": 2.5}", "steps: got \"2.5\", expected a whole number"},
        {"{\"prompt\": \"x\", \"stesp\": 5}", "unknown key stesp, expected steps"},
        {"{\"prompt\": \"x\", \"negative_prompt\": \"y\"}",
         "unknown key negative-prompt, expected negative"},
        {"{\"prompt\": \"x\", \"zzz\": 5}",
         "unknown key zzz, expected prompt, or a flag's name like steps"},
        {"{\"prompt\": \"\"}", "the prompt is empty, expected a text"},
        {"{\"seed\": 4}", "no prompt, expected a text"},
        {"{\"prompt\": \"caf\xE9\"}", "byte 0xe9 at column 16, expected UTF-8"},
        {"{\"prompt\": \"x\"", "broken JSON at column"},
        {"{\"prompt\": \"x\", \"size\": \"32\"}", "size: got \"32\", expected WxH"},
        {"{\"prompt\": \"x\", \"width\": 8}",
         "width: got \"8\", expected a whole number from 16 to 8192"},
        {"{\"prompt\": \"x\", \"size\": \"32x32\", \"height\": 32}",
         "size and width or height are both given"},
        {"{\"prompt\": \"x\", \"seed\": \"random\"}", "the seeds of a batch are fixed"},
        {"{\"prompt\": \"x\", \"seed\": 1e30}", "is more than JSON numbers hold exactly"},
        {"{\"prompt\": \"x\", \"seeds\": [1, 2], \"count\": 3}",
         "names 2 seeds and count asks for 3 renderings"},
        {"{\"prompt\": \"x\", \"sampler\": \"heun\"}",
         "sampler: got \"heun\", expected unipc, euler, dpmpp-2m, ddim, lcm, "
         "dpmpp-2m-sde or euler-a"},
        {"{\"prompt\": \"x\", \"format\": \"png\", \"frames\": 5}",
         "5 frames do not fit one picture"},
        {"{\"prompt\": \"x\", \"format\": \"mp4\", \"output\": \"a.gif\"}",
         "output a.gif does not go with format mp4"},
        {"{\"prompt\": \"x\", \"guidance\": 101}",
         "guidance: got \"101\", expected a number from 0 to 100"},
        {"{\"prompt\": \"x\", \"prompt\": \"y\"}", "prompt is given twice"},
    };
    char *all = NULL;
    size_t size;
    FILE *f = open_memstream(&all, &size);
    for (int i = 1; i <= 200; i++) {
        if (i % 10 == 4)
            fprintf(f, "%s\n", wrong[i / 10].row);
        else
            fprintf(f, "{\"prompt\": \"prompt number %d\", \"seed\": %d}\n", i, i);
    }
    fclose(f);
    scratch_put("p.jsonl", all);
    free(all);
    const program_result *r = program_run(
        "batch %s/p.jsonl --out %s/o " NAMED TINY "--dry-run --progress json", tmp, tmp);
    program_expect(r, 1);
    ck_assert_int_eq(text_count(r->err, "\"event\":\"fault\""), 20);
    r = program_run("batch %s/p.jsonl --out %s/o " NAMED TINY "--dry-run", tmp, tmp);
    program_expect(r, 1);
    const char *at = r->err;
    for (int i = 0; i < 20; i++) { /* in order, each with its line */
        char where[4300];
        snprintf(where, sizeof where, "%s/p.jsonl:%d: ", tmp, 10 * i + 4);
        const char *line = strstr(at, where);
        ck_assert_msg(line != NULL, "%s is not in\n%s", where, at);
        const char *end = strchr(line, '\n'), *phrase = strstr(line, wrong[i].phrase);
        ck_assert_msg(phrase && phrase < end, "\"%s\" is not in\n%.300s", wrong[i].phrase, line);
        at = end;
    }
    text_has(r->err, "20 of 200 rows: 20 can not be used");
    ck_assert_int_eq(text_count(r->out, "to do "), 180);
    ck_assert_int_eq(text_count(r->out, "faulty "), 20);
    text_has(r->out, "/o/0001_prompt-number-1_s1.png");
    text_has(r->out, "/o/0200_prompt-number-200_s200.png");
    ck_assert(!scratch_has("o"));
    r = program_run("batch %s/p.jsonl --out %s/o " NAMED TINY "--fail-fast", tmp, tmp);
    program_expect(r, 3);
    text_has(r->err, "20 faults in the files, and --fail-fast: nothing is rendered");
    scratch_put("q.txt", "\xFF\n--s 5\n");
    r = program_run("batch %s/q.txt --out %s/q", tmp, tmp);
    program_expect(r, 3);
    text_has(r->err, "no row that can be rendered");
    ck_assert(!scratch_has("q"));
    scratch_clear();
}
END_TEST

START_TEST(rows_are_what_generate_makes)
{
    scratch_put(
        "p.jsonl",
        "{\"prompt\": \"a panda\", \"seed\": 7}\n"
        "{\"prompt\": \"a fox\", \"seeds\": [\"18446744073709551615\", 3], \"steps\": 2, "
        "\"guidance\": 2.5, \"negative\": \"blurry\", \"sampler\": \"euler\", \"shift\": 2}\n"
        "{\"prompt\": \"a panda\", \"frames\": 5, \"fps\": 9, \"output\": \"clips/mine\", "
        "\"width\": 48}\n"
        "{\"prompt\": \"a bear\", \"frames\": 5, \"format\": \"frames\", \"output\": \"folder\"}\n"
        "{\"prompt\": \"a fox\", \"frames\": 5, \"output\": \"b.gif\"}\n"
        "{\"prompt\": \"a fox\", \"frames\": 5, \"crf\": 0, \"output\": \"c.mkv\"}\n"
        "{\"prompt\": \"a fox\", \"frames\": 5, \"format\": \"y4m\", \"output\": \"d\"}\n"
        "{\"prompt\": \"a fox\", \"output\": \"e.jpeg\", \"quality\": 40}\n"
        "{\"prompt\": \"a fox\", \"frames\": 5, \"output\": \"f.webp\"}\n");
    const program_result *r = program_run("batch %s/p.jsonl -o %s/o/ " NAMED TINY "--progress json",
                                          tmp, tmp);
    program_expect(r, 0);
    static const struct {
        const char *made, *args;
    } same[] = {
        {"0001_a-panda_s7.png", "'a panda' " TINY "--seed 7"},
        {"0002_a-fox_s18446744073709551615.png",
         "'a fox' " TINY "--steps 2 --seed 18446744073709551615 --guidance 2.5 --negative blurry "
         "--sampler euler --shift 2"},
        {"0002_a-fox_s3.png",
         "'a fox' " TINY
         "--steps 2 --seed 3 --guidance 2.5 --negative blurry --sampler euler --shift 2"},
        {"clips/mine.mp4", "'a panda' " TINY "--frames 5 --fps 9 --seed 42 --size 48x32"},
        {"folder/0003.png", "'a bear' " TINY "--frames 5 --seed 42"},
        {"b.gif", "'a fox' " TINY "--frames 5 --seed 42"},
        {"c.mkv", "'a fox' " TINY "--frames 5 --crf 0 --seed 42"},
        {"d.y4m", "'a fox' " TINY "--frames 5 --seed 42"},
        {"e.jpeg", "'a fox' " TINY "--quality 40 --seed 42"},
        {"f.webp", "'a fox' " TINY "--frames 5 --seed 42"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char a[4300], b[4300];
        const char *end = strrchr(same[i].made, '.');
        snprintf(a, sizeof a, "%s/o/%s", tmp, same[i].made);
        snprintf(b, sizeof b, i == 4 ? "%s/g%zu/0003.png" : "%s/g%zu%s", tmp, i, i == 4 ? "" : end);
        if (i == 4)
            program_expect(program_run("generate %s -o %s/g4/", same[i].args, tmp), 0);
        else
            program_expect(program_run("generate %s -o %s", same[i].args, b), 0);
        ck_assert_msg(program_same(a, b), "%s is not what generate %s makes", same[i].made,
                      same[i].args);
    }
    char path[4300];
    snprintf(path, sizeof path, "%s/o/clips/mine.mp4", tmp);
    r = program_run("info %s --json", path);
    text_has(r->out, "\"width\":48,\"height\":32,\"frames\":5,\"fps\":9");
    text_has(r->out, "\"seed\":42");
    snprintf(path, sizeof path, "%s/o", tmp);
    /* nine outputs, clips/, the manifest; no folder of unfinished work */
    ck_assert_msg(program_files(path) == 11, "%d entries", program_files(path));
    scratch_clear();
}
END_TEST

START_TEST(each_text_is_encoded_once)
{
    scratch_put("p.txt", "a panda\na fox\na panda --d 9\na panda --w 48\n");
    const program_result *r = program_run("batch %s/p.txt --out %s/o " NAMED TINY "--progress json",
                                          tmp, tmp);
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->err, "\"phase\":\"text\",\"step\":0"), 1);
    /* two prompts, the empty negative one */
    text_has(r->err, "\"phase\":\"text\",\"step\":3,\"steps\":3");
    ck_assert_int_eq(text_count(r->err, "\"event\":\"row\""), 4);
    ck_assert_int_eq(text_count(r->err, "\"event\":\"start\""), 4);
    text_has(r->err, "\"event\":\"batch\",\"rows\":4");
    text_has(r->err, "\"batch_eta\":");
    text_has(r->err, "\"event\":\"batch_done\",\"done\":4,\"failed\":0,\"skipped\":0");
    for (const char *line = r->err; *line; line = strchr(line, '\n') + 1) {
        const char *end;
        cJSON *j = cJSON_ParseWithOpts(line, &end, 0);
        ck_assert_msg(cJSON_IsObject(j) && *end == '\n', "%.200s", line);
        cJSON_Delete(j);
    }
    /* equal sizes follow each other */
    const char *wide = strstr(r->err, "0004_"), *last = strstr(r->err, "0003_");
    ck_assert(wide && last && last < wide);
    scratch_clear();
}
END_TEST

START_TEST(the_cache_serves_another_run)
{
    scratch_put("p.txt", "a panda\na fox\n");
    program_expect(
        program_run("batch %s/p.txt --out %s/o " NAMED TINY "--cache %s/cache", tmp, tmp, tmp), 0);
    char path[4200];
    snprintf(path, sizeof path, "%s/cache", tmp);
    ck_assert_int_eq(program_files(path), 3);
    const program_result *r = program_run(
        "batch %s/p.txt --out %s/o2 " NAMED TINY "--cache %s/cache --progress json", tmp, tmp, tmp);
    program_expect(r, 0);
    text_lacks(r->err, "\"phase\":\"text\",\"step\":1,"); /* no layer of the encoder ran */
    program_expect(
        program_shell("cmp %s/o/0001_a-panda_s42.png %s/o2/0001_a-panda_s42.png", tmp, tmp), 0);
    program_expect(
        program_run("batch %s/p.txt --out %s/o3 " NAMED TINY "--cache %s/p.txt", tmp, tmp, tmp), 2);
    scratch_clear();
}
END_TEST

/* Workers whose process ids are the same (each in a container) share a cache; and one that can not
 * be written to ends nothing. A folder in the place of each file stands for a disk that is full. */
START_TEST(a_cache_that_can_not_be_written_is_left_out)
{
    scratch_put("p.txt", "a panda\na fox\n");
    program_expect(
        program_run("batch %s/p.txt --out %s/o " NAMED TINY "--cache %s/cache", tmp, tmp, tmp), 0);
    program_expect(program_shell("cd %s/cache && for f in *; do rm $f; mkdir $f; done", tmp), 0);
    const program_result *r = program_run(
        "batch %s/p.txt --out %s/o2 " NAMED TINY "--cache %s/cache", tmp, tmp, tmp);
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->err, "texts can not be kept for later runs"), 1);
    program_expect(
        program_shell("cmp %s/o/0001_a-panda_s42.png %s/o2/0001_a-panda_s42.png", tmp, tmp), 0);
    scratch_clear();
}
END_TEST

START_TEST(names)
{
    scratch_put(
        "a b.txt",
        "A Panda, \"red\"!\n\xE7\x8C\xAB \xC3\x89t\xC3\xA9 x\n  ... --w 48\n.hidden/../x --d 5\n");
    const program_result *r = program_run("batch '%s/a b.txt' --out %s/o " NAMED TINY "--dry-run",
                                          tmp, tmp);
    program_expect(r, 0);
    text_has(r->out, "/o/0001_a-panda-red_s42.png");
    text_has(r->out, "/o/0002_\xE7\x8C\xAB-\xC3\xA9t\xC3\xA9-x_s42.png");
    text_has(r->out, "/o/0003_prompt_s42.png");
    text_has(r->out, "/o/0004_hidden-x_s5.png");
    r = program_run(
        "batch '%s/a b.txt' --out %s/o " NAMED TINY "--dry-run --name "
        "'{file}/{prompt}-{n}_{{{seed:6}}}_{width}x{height:5}_{frames}_{steps}_{line}_{slug:4}' "
        "--count 2 --format gif",
        tmp, tmp);
    program_expect(r, 0);
    text_has(r->out, "/o/a-b/A Panda, _red_!-1_{000042}_32x00032_1_1_1_a-pa.gif");
    text_has(r->out, "/o/a-b/A Panda, _red_!-2_{000043}_32x00032_1_1_1_a-pa.gif");
    text_has(r->out, "/o/a-b/_hidden_.._x-2_{000006}_32x00032_1_1_4_hidd.gif");
    r = program_run("batch '%s/a b.txt' --out %s/o " NAMED TINY "--dry-run --name '{index}.png'",
                    tmp, tmp);
    text_has(r->out, "/o/1.png\n");
    r = program_run("batch '%s/a b.txt' --out %s/o " NAMED TINY
                    "--dry-run --name '{slug:3}' --count 2",
                    tmp, tmp);
    program_expect(r, 2);
    text_has(r->err, "a b.txt:1: writes a-p.png, as ");
    text_has(r->err, "4 outputs would replace another of the same batch");
    r = program_run("batch '%s/a b.txt' '%s/a b.txt' --out %s/o " NAMED TINY "--dry-run", tmp, tmp,
                    tmp);
    program_expect(r, 0); /* the same rows again: their seeds go on */
    text_has(r->out, "/o/0001_a-panda-red_s43.png");
    r = program_run("batch '%s/a b.txt' --out %s/o " NAMED TINY "--dry-run --name same/{index:99}",
                    tmp, tmp);
    program_expect(r, 2);
    scratch_put("p.txt", "a --output x\nb --output x/y\n");
    r = program_run("batch %s/p.txt --out %s/o " NAMED TINY "--dry-run --format frames", tmp, tmp);
    program_expect(r, 1);
    text_has(r->err, "writes x/y, into what");
    static const char *const bad[] = {"../x",      "/etc/x", "a//b", "./x", "tessera-batch.png",
                                      "f-%04d.png"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char line[300];
        snprintf(line, sizeof line, "a --output %s\nb\n", bad[i]);
        scratch_put("p.txt", line);
        r = program_run("batch %s/p.txt --out %s/o " NAMED TINY "--dry-run", tmp, tmp);
        ck_assert_msg(r->code == 2 || r->code == 1, "%s: %d", bad[i], r->code);
        text_has(r->err, "p.txt:1: ");
    }
    scratch_clear();
}
END_TEST

/* An output of a row's own that can not be used is that row's fault: all faults are told, and the
 * other rows are rendered. */
START_TEST(names_of_rows_are_faults_of_rows)
{
    scratch_put("p.txt", "a --output ../x.mp4\nb --s 0\nc --output /y\na fox --d 1\n"
                         "d --output 0004_a-fox_s1.png\na cat --seeds 1,2 --output cats/a.png\n"
                         "x --output f/a-b\ny --output f/a/\nz --output f/a/c\n");
    const program_result *r = program_run("batch %s --out %s " NAMED TINY, scratch_path("p.txt"),
                                          scratch_path("o"));
    program_expect(r, 1);
    static const char *const told[] = {"p.txt:1: the output's name \"../x.mp4\" has a part",
                                       "p.txt:2: steps: got",
                                       "p.txt:3: the output's name \"/y",
                                       "p.txt:5: writes 0004_a-fox_s1.png, as",
                                       "p.txt:9: writes f/a/c.png, into what",
                                       "5 of 10 rows: 5 can not be used"};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) text_has(r->err, told[i]);
    ck_assert(scratch_has("o/0004_a-fox_s1.png") && scratch_has("o/cats/a-1.png") &&
              scratch_has("o/cats/a-2.png") && scratch_has("o/f/a-b.png") && scratch_has("o/f/a"));
    r = program_run("batch --status %s", scratch_path("o"));
    text_has(r->out, "5 of 10 rows done, 0 failed, 5 can not be used, 0 left");
    scratch_put("p.txt", "a --output ../x\n");
    r = program_run("batch %s --out %s " NAMED TINY, scratch_path("p.txt"), scratch_path("o2"));
    program_expect(r, 3);
    text_has(r->err, "no row that can be rendered");
    r = program_run("batch %s --out %s " NAMED TINY "--fail-fast", scratch_path("p.txt"),
                    scratch_path("o2"));
    program_expect(r, 3);
    scratch_clear();
}
END_TEST

/* Done is what the files ask for now and what is there. */
START_TEST(status_counts_rows)
{
    scratch_put("p.txt", "a panda\na fox\na cat\n");
    const char *p = scratch_path("p.txt"), *o = scratch_path("o");
    program_expect(program_run("batch %s --out %s " NAMED TINY, p, o), 0);
    text_has(program_run("batch --status %s", o)->out, "3 of 3 rows done, 0 failed, 0 left");
    scratch_put("p.txt", "a panda\na red fox\na cat\n");
    program_expect(program_run("batch %s --out %s " NAMED TINY, p, o), 0);
    const program_result *r = program_run("batch --status %s", o);
    text_has(r->out, "3 of 3 rows done, 0 failed, 0 left");
    text_has(r->out, "1 output is of rows that are no longer asked for");
    unlink(scratch_path("o/0003_a-cat_s42.png"));
    r = program_run("batch --status %s", o);
    text_has(r->out, "2 of 3 rows done, 0 failed, 1 left");
    text_has(r->out, "1 output was finished and gone");
    scratch_put("p.txt", "a panda\n");
    for (int i = 1; i <= 2; i++)
        program_expect(program_run("batch %s --out %s " NAMED TINY "--shard %d/2", p, o, i), 0);
    text_has(program_run("batch --status %s", o)->out, "1 of 1 rows done, 0 failed, 0 left");
    scratch_clear();
}
END_TEST

/* The page's folder may be the one that the batch makes, by any name of it, or one in it. */
START_TEST(a_report_into_a_folder_that_is_made)
{
    scratch_put("p.txt", "a panda\n");
    static const char *const pages[] = {"o/page.html", "o/pages/of/mine.html", "other/page.html"};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        program_expect(program_run("batch %s/p.txt --out %s/o " NAMED TINY "--report %s/%s", tmp,
                                   tmp, tmp, pages[i]),
                       0);
        ck_assert_msg(scratch_has(pages[i]), "%s", pages[i]);
        program_expect(program_shell("rm -r %s/o", tmp), 0);
    }
    program_expect(program_shell("P=$(realpath ${TESSERA:-./tessera}) && cd %s && $P batch p.txt "
                                 "--out ./o " NAMED TINY
                                 "--report o/x/page.html && test -f o/x/page.html",
                                 tmp),
                   0);
    static const char *const bad[] = {"p.txt/page.html", "p.txt/a/page.html", "new/", "o"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const program_result *r = program_run(
            "batch %s/p.txt --out %s/new " NAMED TINY "--report %s/%s", tmp, tmp, tmp, bad[i]);
        ck_assert_msg(r->code == 2 || r->code == 4, "%s: %d", bad[i], r->code);
        text_has(r->err, "--report: ");
        ck_assert(!scratch_has("new"));
    }
    scratch_clear();
}
END_TEST

/* Rows of a run without --report are shown from their files, wherever the page is. */
START_TEST(a_report_after_the_run)
{
    scratch_put("p.txt", "a #panda\na fox --f 5\na cat --f 5 --format frames\na cow --f 5 --format "
                         "gif\na dog --output sub/d og\n");
    program_expect(program_run("batch %s/p.txt --out %s/o " NAMED TINY, tmp, tmp), 0);
    static const struct {
        const char *page, *to;
    } pages[] = {{"o/page.html", ""},
                 {"page.html", "o/"},
                 {"o/x/y/page.html", "../../"},
                 {"other/page.html", "../o/"}};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        char want[300];
        program_expect(program_run("batch %s/p.txt --out %s/o " NAMED TINY "--report %s/%s", tmp,
                                   tmp, tmp, pages[i].page),
                       0);
        char *page = program_slurp(scratch_path(pages[i].page), NULL);
        static const char *const shown[] = {
            "<img alt=\"\" loading=\"lazy\" src=\"%s0001_a-panda_s42.png\"",
            "<video controls muted loop playsinline preload=\"metadata\" "
            "src=\"%s0002_a-fox_s42.mp4\"",
            "src=\"%s0003_a-cat_s42/0000.png\"",
            "src=\"%s0004_a-cow_s42.gif\"",
            "src=\"%ssub/d%%20og.png\"",
            "<a href=\"%s0002_a-fox_s42.mp4\">"};
        for (size_t k = 0; k < sizeof shown / sizeof *shown; k++) {
            snprintf(want, sizeof want, shown[k], pages[i].to);
            text_has(page, want);
        }
        free(page);
    }
    ck_assert(scratch_has("o/0003_a-cat_s42/0000.png"));
    scratch_clear();
}
END_TEST

START_TEST(kinds_that_are_not_written)
{
    static const char *const bad[] = {"x.mov", "a/x.BMP", "x.avif"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char line[200];
        snprintf(line, sizeof line, "{\"prompt\":\"a\",\"output\":\"%s\"}\n", bad[i]);
        scratch_put("p.jsonl", line);
        const program_result *r = program_run("batch %s/p.jsonl --out %s/o " NAMED TINY, tmp, tmp);
        program_expect(r, 3);
        text_has(r->err, "unknown kind of output, expected a name that ends in .png");
    }
    scratch_put("p.jsonl", "{\"prompt\":\"a\",\"output\":\"v1.5 of mr.panda\"}\n");
    program_expect(program_run("batch %s/p.jsonl --out %s/o " NAMED TINY, tmp, tmp), 0);
    ck_assert(scratch_has("o/v1.5 of mr.panda.png"));
    scratch_clear();
}
END_TEST

/* A column without a meaning is told once, and how to keep it; a key of JSONL where it stands. */
START_TEST(unknown_columns_are_told_once)
{
    scratch_put("p.csv", "prompt,Notes,stpes,seed\na panda,nice,,1\na fox,good,5,2\na cat,,,3\n");
    const program_result *r = program_run("batch %s/p.csv --out %s/o " NAMED TINY, tmp, tmp);
    program_expect(r, 1);
    ck_assert_int_eq(text_count(r->err, "unknown key notes"), 1);
    ck_assert_int_eq(text_count(r->err, "a column _notes would be your own"), 1);
    ck_assert_int_eq(text_count(r->err, "p.csv:1: unknown key stpes, expected steps"), 1);
    text_has(r->err, "2 of 3 rows: 2 can not be used");
    ck_assert(scratch_has("o/0003_a-cat_s3.png") && !scratch_has("o/0001_a-panda_s1.png"));
    scratch_put("p.csv", "prompt,_Notes\na panda,nice\n");
    program_expect(program_run("batch %s/p.csv --out %s/o2 " NAMED TINY, tmp, tmp), 0);
    scratch_put("p.jsonl", "{\"prompt\":\"a\",\"zzz\":\"x\"}\n");
    r = program_run("batch %s/p.jsonl --out %s/o2 " NAMED TINY, tmp, tmp);
    text_has(r->err, "p.jsonl:1: unknown key zzz, expected prompt, or");
    text_has(r->err, "; _zzz would be your own");
    scratch_clear();
}
END_TEST

/* What is said of a row names its output, not where it is made. */
START_TEST(warnings_name_the_output)
{
    scratch_put("p.txt", "a panda --f 5 --format gif --fps 16\n");
    const program_result *r = program_run("batch %s/p.txt --out %s/o " NAMED TINY, tmp, tmp);
    program_expect(r, 0);
    text_has(
        r->err,
        "/o/0001_a-panda_s42.gif: GIF counts time in 1/100 s: frames last 6 or 7 of them at 16 a "
        "second; at 16.67 all last the same");
    scratch_put("p.txt",
                "a panda --f 5 --format gif --fps 16.67\na panda --f 5 --format gif --fps 12\n");
    r = program_run("batch %s/p.txt --out %s/o3 " NAMED TINY, tmp, tmp);
    program_expect(r, 0);
    text_lacks(r->err, "GIF counts time");
    text_lacks(r->err, ".tessera-batch");
    scratch_clear();
}
END_TEST

START_TEST(standard_input_and_several_files)
{
    scratch_put("a.csv", "prompt,steps\n\"a panda, red\",2\n");
    const program_result *r = program_shell(
        "printf '{\"prompt\": \"a fox\"}\\n' | $TESSERA batch %s/a.csv - --out %s/o " NAMED TINY
        "--dry-run --name '{file}-{index}'",
        tmp, tmp);
    program_expect(r, 0);
    text_has(r->out, "/o/a-1.png");
    text_has(r->out, "/o/stdin-1.png");
    r = program_shell("printf 'prompt;seed\\na fox;5\\n' | $TESSERA batch - --out %s/o " NAMED TINY
                      "--dry-run",
                      tmp);
    text_has(r->out, "/o/0001_a-fox_s5.png");
    scratch_clear();
}
END_TEST

/* One row that is too large for the memory, one whose attention is unknown: the others are
 * rendered, and the manifest says why. */
START_TEST(a_row_that_can_not_be_rendered_fails_alone)
{
    scratch_put(
        "p.txt",
        "a panda --d 1\nhuge --w 4096 --h 4096 --f 33\nodd --attention nonsense\na fox --d 2\n");
    const program_result *r = program_run("batch %s/p.txt --out %s/o " NAMED TINY "--memory 64M",
                                          tmp, tmp);
    program_expect(r, 1);
    text_has(r->err, "p.txt:2: ");
    text_has(r->err, " may be used");
    text_has(r->err, "p.txt:3: ");
    text_has(r->err, "nonsense");
    text_has(r->err, "2 of 4 rows: 1 can not be used, 1 failed");
    ck_assert(scratch_has("o/0001_a-panda_s1.png") && scratch_has("o/0004_a-fox_s2.png"));
    ck_assert_int_eq(text_count(r->out, "done "), 2);
    ck_assert_int_eq(text_count(r->out, "failed "), 1);
    scratch_clear();
}
END_TEST

/* A copy of the default model in which one token's embedding is NaN. */
static void poison(const char *word)
{
    const program_result *r = program_run("tokens '%s' --json", word);
    program_expect(r, 0);
    cJSON *j = cJSON_Parse(r->out);
    long id = cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(j, "tokens"), 0), "id")
                  ->valueint;
    cJSON_Delete(j);
    program_expect(program_shell("cp -r weights/default %s/model", tmp), 0);
    char path[4300];
    snprintf(path, sizeof path, "%s/model/text_encoder/model.safetensors", tmp);
    int fd = open(path, O_RDWR);
    uint64_t header;
    ck_assert(fd >= 0 && pread(fd, &header, 8, 0) == 8);
    char *text = calloc(1, header + 1);
    ck_assert(pread(fd, text, header, 8) == (ssize_t)header);
    j = cJSON_Parse(text);
    cJSON *t = cJSON_GetObjectItem(j, "shared.weight");
    if (!t) t = cJSON_GetObjectItem(j, "encoder.embed_tokens.weight");
    ck_assert_ptr_nonnull(t);
    long width = cJSON_GetArrayItem(cJSON_GetObjectItem(t, "shape"), 1)->valueint,
         begin = (long)cJSON_GetArrayItem(cJSON_GetObjectItem(t, "data_offsets"), 0)->valuedouble;
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(t, "dtype")), "BF16");
    uint16_t nan = 0x7FC0;
    ck_assert(pwrite(fd, &nan, 2, (off_t)(8 + (long)header + begin + id * width * 2)) == 2);
    close(fd);
    cJSON_Delete(j);
    free(text);
}

START_TEST(nan_in_one_row_fails_that_row_only)
{
    poison("panda");
    scratch_put("p.txt", "a fox --d 1\na panda\na cat --d 2\n");
    const program_result *r = program_run(
        "batch %s/p.txt --out %s/o " NAMED TINY "--model %s/model", tmp, tmp, tmp);
    program_expect(r, 1);
    text_has(r->err, "p.txt:2: ");
    text_has(r->err, "NaN");
    ck_assert(scratch_has("o/0001_a-fox_s1.png") && scratch_has("o/0003_a-cat_s2.png") &&
              !scratch_has("o/0002_a-panda_s42.png"));
    r = program_run("batch %s/p.txt --out %s/o " NAMED TINY "--model %s/model", tmp, tmp, tmp);
    program_expect(r, 1);
    text_has(r->err, "2 of 3 rows skipped: their outputs are there");
    text_has(r->err, "1 row skipped that failed before");
    ck_assert_int_eq(text_count(r->err, "row 1/"), 0);
    r = program_run("batch %s/p.txt --out %s/o " NAMED TINY "--model %s/model --retry", tmp, tmp,
                    tmp);
    program_expect(r, 1);
    text_has(r->err, "row 1/1: 0002_a-panda_s42.png, failed");
    r = program_run("batch %s/p.txt --out %s/o2 " NAMED TINY "--model %s/model --fail-fast", tmp,
                    tmp, tmp);
    program_expect(r, 1);
    ck_assert(scratch_has("o2/0001_a-fox_s1.png") && !scratch_has("o2/0003_a-cat_s2.png"));
    r = program_run("batch --status %s/o", tmp);
    program_expect(r, 0);
    text_has(r->out, "2 of 3 rows done, 1 failed, 0 left");
    text_has(r->out, "failed: 0002_a-panda_s42.png: ");
    scratch_clear();
}
END_TEST

START_TEST(report_is_one_page)
{
    scratch_put("p.txt", "a <b>panda</b> & \"fox\" --f 5\na fox\nbad --s 0\n");
    const program_result *r = program_run(
        "batch %s/p.txt --out %s/o --size 32x32 --frames 1 --steps 1 --report %s/page.html", tmp,
        tmp, tmp);
    program_expect(r, 1);
    char path[4200];
    snprintf(path, sizeof path, "%s/page.html", tmp);
    char *page = program_slurp(path, NULL);
    text_has(page, "a &lt;b&gt;panda&lt;/b&gt; &amp; &quot;fox&quot;");
    ck_assert_int_eq(text_count(page, "data:image/png;base64,iVBOR"), 3);
    ck_assert_int_eq(text_count(page, "<section"), 3);
    text_has(page, "seed 42 ");
    text_has(page, "steps: got &quot;0&quot;, expected a whole number");
    text_lacks(page, "http");
    free(page);
    r = program_run(
        "batch %s/p.txt --out %s/o --size 32x32 --frames 1 --steps 1 --report %s/page.html", tmp,
        tmp, tmp);
    page = program_slurp(path, NULL);
    ck_assert_int_eq(text_count(page, "data:image/png;base64,iVBOR"), 3); /* of the earlier run */
    free(page);
    scratch_put("p.txt", "a panda\na fox\na cat\n"); /* the last share's page has the rows of all */
    for (int i = 1; i <= 2; i++)
        program_expect(program_run("batch %s/p.txt --out %s/s --size 32x32 --frames 1 --steps 1 "
                                   "--report %s/page.html --shard %d/2",
                                   tmp, tmp, tmp, i),
                       0);
    page = program_slurp(path, NULL);
    ck_assert_int_eq(text_count(page, "data:image/png;base64,iVBOR"), 3);
    text_has(page, "1 done, 2 done before, 0 failed, 0 to do");
    free(page);
    scratch_clear();
}
END_TEST

int main(void)
{
    tmp = scratch_open();
    Suite *s = suite_create("batch");
    TCase *t = tcase_create("batch");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, slips);
    tcase_add_test(t, twenty_faults_in_two_hundred_rows);
    tcase_add_test(t, rows_are_what_generate_makes);
    tcase_add_test(t, each_text_is_encoded_once);
    tcase_add_test(t, the_cache_serves_another_run);
    tcase_add_test(t, a_cache_that_can_not_be_written_is_left_out);
    tcase_add_test(t, names);
    tcase_add_test(t, names_of_rows_are_faults_of_rows);
    tcase_add_test(t, status_counts_rows);
    tcase_add_test(t, a_report_into_a_folder_that_is_made);
    tcase_add_test(t, a_report_after_the_run);
    tcase_add_test(t, kinds_that_are_not_written);
    tcase_add_test(t, unknown_columns_are_told_once);
    tcase_add_test(t, warnings_name_the_output);
    tcase_add_test(t, standard_input_and_several_files);
    tcase_add_test(t, a_row_that_can_not_be_rendered_fails_alone);
    tcase_add_test(t, nan_in_one_row_fails_that_row_only);
    tcase_add_test(t, report_is_one_page);
    suite_add_tcase(s, t);
    return testing_main(s);
}
