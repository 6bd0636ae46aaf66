/* Outputs under trouble: closed descriptors, limits of size, signals, names that do not fit. */
#include "backend/utf8.h"
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL "--size 64x64 --frames 5 --steps 1 --scale 1 "
static const char *tmp;

/* The progress goes nowhere, not into the file that is opened next. */
START_TEST(closed_standard_error_spoils_no_file)
{
    static const char *const names[] = {"a.mp4", "a.webm", "a.gif", "a.png"}, *const closed[] = {
                                                                                  "2>&-",
                                                                                  "0<&- 2>&-",
                                                                                  "0<&- 1>&- 2>&-"};
    program_expect(program_run("generate x " SMALL "-o %s/whole.mp4 --save-latents "
                               "%s/whole.safetensors",
                               tmp, tmp),
                   0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *frames = strstr(names[i], "png") ? "--frames 1" : "";
        program_expect(program_run("generate x " SMALL "%s -o %s/open-%s", frames, tmp, names[i]),
                       0);
        for (size_t k = 0; k < sizeof closed / sizeof *closed; k++) {
            /* results that reach nobody are a failure */
            program_expect(program_shell("$TESSERA generate x " SMALL "%s --overwrite -o %s/%s %s",
                                         frames, tmp, names[i], closed[k]),
                           strstr(closed[k], "1>&-") ? 4 : 0);
            char open[64];
            snprintf(open, sizeof open, "open-%s", names[i]);
            ck_assert_msg(program_same(scratch_path(open), scratch_path(names[i])), "%s with %s",
                          names[i], closed[k]);
        }
    }
    program_expect(
        program_shell("$TESSERA decode %s/whole.safetensors -o %s/again.mp4 2>&-", tmp, tmp), 0);
    ck_assert(program_same(scratch_path("whole.mp4"), scratch_path("again.mp4")));
}
END_TEST

/* The limit ends no program in the middle of a file: what is said is true, and nothing half
 * stays. */
START_TEST(a_size_limit_is_a_full_disk)
{
    static const char *const names[] = {"a.mp4", "a.webm", "a.gif", "f-%d.png"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const program_result *r = program_shell(
            "ulimit -f 4; exec $TESSERA generate x --size 64x64 --frames 5 --steps 1 --scale 8 "
            "-o %s/%s",
            tmp, names[i]);
        program_expect(r, 4);
        text_has(r->err, "can not be written: File too large");
        bool kept = strstr(r->err, "tessera decode") != NULL;
        ck_assert_msg(kept || strstr(r->err, "the latents are lost"), "%s", r->err);
        ck_assert_int_eq(program_files(tmp), kept);
        scratch_clear();
    }
    /* the clip is written, and the failure of what was asked for beside it is told */
    const program_result *r = program_shell(
        "ulimit -f 20; exec $TESSERA generate x --size 64x64 --frames 21 --steps 1 --scale 1 -o "
        "%s/a.mp4 --save-latents %s/l.safetensors",
        tmp, tmp);
    program_expect(r, 4);
    text_has(r->err, "l.safetensors: can not be written: File too large");
    ck_assert(!scratch_has("l.safetensors"));
}
END_TEST

/* A second failure does not cost the latents of the first, nor its own. */
START_TEST(latents_are_kept_beside_those_of_an_earlier_failure)
{
    char *said = NULL;
    for (int i = 1; i <= 3; i++) {
        const program_result *r = program_shell(
            "ulimit -f 64; exec $TESSERA generate x --size 64x64 --steps 1 --scale 16 --seed %d "
            "-o %s/a.png",
            i, tmp);
        program_expect(r, 4);
        ck_assert(asprintf(&said,
                           i == 1 ? "the latents are in %s/a.png.latents.safetensors"
                                  : "the latents are in %s/a.png.latents-%d.safetensors",
                           tmp, i) > 0);
        text_has(r->err, said);
        free(said);
        ck_assert_int_eq(program_files(tmp), i);
    }
    program_expect(program_run("decode %s/a.png.latents-2.safetensors -o %s/b.png", tmp, tmp), 0);
    text_has(program_run("info %s/b.png", tmp)->out, "seed         2\n");
    scratch_clear();
    /* a name that fits, though the usual one behind it would not */
    program_expect(program_shell("ulimit -f 64; exec $TESSERA generate x --size 64x64 --steps 1 "
                                 "--scale 16 -o %s/$(printf 'ü%%.0s' $(seq 125)).png",
                                 tmp),
                   4);
    ck_assert_int_eq(program_files(tmp), 1);
    program_expect(program_shell("$TESSERA decode %s/ü*.latents.safetensors -o %s/b.png", tmp, tmp),
                   0);
}
END_TEST

/* before anything is computed, so in a dry run, too: `args`, with a sentence that has `want` */
static void refused_at_once(const char *want, const char *args)
{
    for (int dry = 0; dry < 2; dry++) {
        const program_result *r = program_shell("cd %s && $TESSERA generate x --size 64x64 --steps "
                                                "1 %s %s",
                                                tmp, args, dry ? "--dry-run" : "");
        program_expect(r, 2);
        text_has(r->err, want);
        text_lacks(r->err, "denoising");
        ck_assert_int_eq(program_files(tmp), 0);
    }
}

/* Of a name of 255 bytes a file can be made, of 256 none. */
START_TEST(names_that_do_not_fit_are_found_at_once)
{
    const char *want = "the name is too long for the file system";
    refused_at_once(want, "--frames 5 -o $(printf 'a%.0s' $(seq 252)).mp4");
    refused_at_once(want, "--frames 5 -o $(printf 'a%.0s' $(seq 251)).webm");
    refused_at_once(want, "-o $(printf 'a%.0s' $(seq 252)).png");
    refused_at_once(want, "--frames 5 -o $(printf 'a%.0s' $(seq 248))%04d.png");
    /* the eleventh does not fit */
    refused_at_once(want, "--frames 13 -o $(printf 'a%.0s' $(seq 250))%d.png");
    refused_at_once(want, "--frames 5 -o $(printf 'a%.0s' $(seq 256))/");
    refused_at_once(want, "-o $(printf 'a/%.0s' $(seq 2050))a.png");
    /* the path fits, but that of the unfinished file does not */
    refused_at_once(want, "-o $(printf './%.0s' $(seq 2044))a.png");
    static const char *const sides[] = {"save-latents", "save-plan", "state", "plan-image"};
    for (int i = 0; i < 4; i++) {
        char args[256];
        snprintf(args, sizeof args,
                 "--frames 5 --attention adaspa -o a.mp4 --%s $(printf 'a%%.0s' $(seq 256))",
                 sides[i]);
        refused_at_once(want, args);
        text_has(program_shell("cd %s && $TESSERA generate x %s --dry-run", tmp, args)->err,
                 sides[i]);
    }
    program_expect(program_shell("cd %s && $TESSERA generate x " SMALL
                                 "-o $(printf 'a%%.0s' $(seq 251)).mp4 --save-latents "
                                 "$(printf 'b%%.0s' $(seq 255))",
                                 tmp),
                   0);
    ck_assert_int_eq(program_files(tmp), 2);
}
END_TEST

START_TEST(sizes_that_no_encoder_takes_are_refused_at_once)
{
    refused_at_once("a.mp4: 16416x96 is too large, expected at most 16384 a side",
                    "--size 2736x16 --frames 5 --scale 6 -o a.mp4");
    refused_at_once("a.mp4: 256x16640 is too large, expected at most 16384 a side",
                    "--size 16x1040 --frames 5 --scale 16 -o a.mp4");
    refused_at_once("a.webm: 16640x256 is too large, expected at most 16384 a side",
                    "--size 1040x16 --frames 5 --scale 16 -o a.webm");
    refused_at_once("a.gif: 65792x256 is too large, expected at most 65535 a side",
                    "--size 4112x16 --frames 5 --scale 16 -o a.gif");
    refused_at_once("a.webm: 16384x16384 is too large: the FFmpeg library",
                    "--size 1024x1024 --frames 1 --scale 16 -o a.webm");
    program_expect(program_run("generate x --size 16x1040 --frames 1 --steps 1 --scale 1 -o "
                               "%s/c.mp4 --save-latents %s/tall.safetensors",
                               tmp, tmp),
                   0);
    const program_result *r = program_run(
        "decode %s/tall.safetensors --scale 16 -o %s/b.mp4 --dry-run", tmp, tmp);
    program_expect(r, 2);
    text_has(r->err, "256x16640 is too large");
}
END_TEST

static bool is_utf8(const char *text)
{
    char *whole = ts_utf8_repair(text);
    bool same = !strcmp(whole, text);
    free(whole);
    return same;
}

/* Names of files are bytes, JSON and the text of pictures are UTF-8. */
START_TEST(names_that_are_no_utf8)
{
    const program_result *r = program_shell(
        "cd %s && cp -rL $OLDPWD/tests/fixtures/pixart-alpha-256/model $(printf 'm\\377') && "
        "$TESSERA generate x --model $(printf 'm\\377') --steps 1 -o $(printf '\\377.png') "
        "--progress json",
        tmp);
    program_expect(r, 0);
    ck_assert_msg(is_utf8(r->err), "%s", r->err);
    text_has(r->err, "\xEF\xBF\xBD.png");
    /* to the last byte: the path as it is */
    ck_assert_str_eq(r->out, "\xff.png\n");
    r = program_shell("$TESSERA info %s/*.png --json", tmp);
    program_expect(r, 0);
    ck_assert_msg(is_utf8(r->out), "%s", r->out);
    text_has(r->out, "m\xEF\xBF\xBD\"");
    r = program_shell("cat %s/*.png | grep -a -o 'Steps: .*Version'", tmp);
    ck_assert_msg(is_utf8(r->out), "%s", r->out);
    r = program_shell("$TESSERA generate x --steps 1 -o $(printf '/dev/null/\\377/a.png') "
                      "--progress json");
    program_expect(r, 4);
    ck_assert_msg(is_utf8(r->err), "%s", r->err);
}
END_TEST

/* Readers of the text that AUTOMATIC1111's web UI made common take what follows a comma for the
 * next value. */
START_TEST(model_names_are_quoted_in_the_text)
{
    static const struct {
        const char *name, *said;
    } cases[] = {{"a, Seed: 7", "Model: \"a, Seed: 7\", Version: "},
                 {"a:b", "Model: \"a:b\", Version: "},
                 {"a,\"b", "Model: \"a,\\\"b\", Version: "},
                 {"plain name", "Model: plain name, Version: "}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        program_expect(program_shell("cp -rL tests/fixtures/pixart-alpha-256/model '%s/%s' && "
                                     "$TESSERA generate x --model '%s/%s' --steps 1 -o %s/a.png",
                                     tmp, cases[i].name, tmp, cases[i].name, tmp),
                       0);
        text_has(program_shell("grep -a -o 'Steps: .*Version: ' %s/a.png", tmp)->out,
                 cases[i].said);
        scratch_clear();
    }
}
END_TEST

/* What is printed can be opened: every file of several. */
START_TEST(printed_paths_exist)
{
    static const struct {
        const char *args;
        int files;
    } cases[] = {
        {"--frames 5 -o g-%04d.png", 5},
        {"--frames 13 -o %d.png", 13},
        {"--frames 5 -o %02d.jpg", 5},
        {"--frames 5 -o a.webp", 1},
        {"--frames 5 -o 'a folder/'", 1},
        {"--frames 5 -o a.mp4", 1},
        {"--model $OLDPWD/tests/fixtures/pixart-alpha-256/model --count 3 -o three.png", 3},
        {"--model $OLDPWD/tests/fixtures/pixart-alpha-256/model --count 3 -o three.jpeg", 3},
        {"--model $OLDPWD/tests/fixtures/pixart-alpha-256/model --count 3 -o three.webp", 3},
        {"--model $OLDPWD/tests/fixtures/pixart-alpha-256/model --count 3 --grid -o one.webp", 1},
        {"--model $OLDPWD/tests/fixtures/pixart-alpha-256/model --count 3 --grid -o one.png", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const program_result *r = program_shell(
            "cd %s && $TESSERA generate x --size 64x64 --steps 1 %s >list && "
            "while read -r f; do test -s \"$f\" || echo \"no $f\"; done <list; wc -l <list",
            tmp, cases[i].args);
        program_expect(r, 0);
        ck_assert_msg(atoi(r->out) == cases[i].files, "%s: %s", cases[i].args, r->out);
        scratch_clear();
    }
}
END_TEST

/* The pixels of the file are said before it is computed. */
START_TEST(the_written_size_is_said)
{
    const program_result *r = program_run("generate x --size 64x32 --frames 5 --steps 1 --scale 3 "
                                          "-o %s/a.mp4 --save-latents %s/l.safetensors",
                                          tmp, tmp);
    text_has(r->err, "64x32, written as 192x96, 5 frames at ");
    r = program_run("decode %s/l.safetensors --scale 2 -o %s/b.mp4 --progress json", tmp, tmp);
    text_has(r->err, "\"written_width\":128,\"written_height\":64");
    ck_assert_int_eq(text_count(r->err, "\"written_width\""), 2); /* start and done */
    r = program_run("generate x --size 64x32 --frames 1 --scale 1 -o %s/c.png --dry-run", tmp);
    text_has(r->out, "64x32, 1 frame\n");
    r = program_run(
        "generate x --model tests/fixtures/pixart-alpha-256/model --size 64x64 --no-bins "
        "--count 4 --grid -o %s/c.png --dry-run",
        tmp);
    text_has(r->out, "64x64, written as 136x136, 4 pictures\n");
}
END_TEST

int main(void)
{
    tmp = scratch_open();
    Suite *s = suite_create("outputs");
    TCase *t = tcase_create("outputs");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, scratch_clear, scratch_clear);
    tcase_add_test(t, closed_standard_error_spoils_no_file);
    tcase_add_test(t, a_size_limit_is_a_full_disk);
    tcase_add_test(t, latents_are_kept_beside_those_of_an_earlier_failure);
    tcase_add_test(t, names_that_do_not_fit_are_found_at_once);
    tcase_add_test(t, sizes_that_no_encoder_takes_are_refused_at_once);
    tcase_add_test(t, names_that_are_no_utf8);
    tcase_add_test(t, model_names_are_quoted_in_the_text);
    tcase_add_test(t, printed_paths_exist);
    tcase_add_test(t, the_written_size_is_said);
    suite_add_tcase(s, t);
    return testing_main(s);
}
