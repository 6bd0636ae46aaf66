/* Previews of runs: when they are written and what they show, that the output is the same bytes
 * with and without, and what is refused or warned of. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL "--size 128x128 --steps 5 --scale 1 --progress json "
static const char *tmp;

static const char *info(const char *file)
{
    const program_result *r = program_run("info %s/%s", tmp, file);
    program_expect(r, 0);
    return r->out;
}

/* A clip: the middle frame, and all five of its latents; every step and every second, and the
 * last. */
START_TEST(clips)
{
    program_expect(program_run("generate x " SMALL "--frames 17 -o %s/a.mp4", tmp), 0);
    const program_result *r = program_run("generate x " SMALL "--frames 17 -o %s/b.mp4 --preview "
                                          "%s/new/p.png",
                                          tmp, tmp);
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->err, "\"event\":\"preview\""), 5);
    text_has(r->err, "/new/p.png\",\"step\":5,\"steps\":5}");
    text_lacks(r->err, "warning");
    ck_assert(program_same(scratch_path("a.mp4"), scratch_path("b.mp4")));
    ck_assert_int_eq(program_files(scratch_path("new")), 1);
    text_has(info("new/p.png"), "128x128");
    /* it is there already, and replaced */
    r = program_run("generate x " SMALL "--frames 17 -o %s/c.mp4 --preview %s/p.gif "
                    "--preview-every 2",
                    tmp, tmp);
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->err, "\"event\":\"preview\""), 3);
    text_has(r->err, "\"step\":2,");
    text_has(r->err, "\"step\":4,");
    text_has(r->err, "\"step\":5,");
    text_lacks(r->err, "warning");
    ck_assert(program_same(scratch_path("a.mp4"), scratch_path("c.mp4")));
    text_has(info("p.gif"), "5");
    program_expect(
        program_run("generate x " SMALL "--frames 17 -o %s/d.mp4 --preview %s/p.gif", tmp, tmp), 0);
    r = program_run("generate x " SMALL "--frames 17 -o %s/e.mp4 --preview %s/p.jpg", tmp, tmp);
    text_lacks(r->err, "warning");
    text_has(info("p.jpg"), "picture");
    program_run("generate x " SMALL "--frames 17 -o %s/f.mp4 --preview %s/p.webp", tmp, tmp);
    text_has(info("p.webp"), "frames       5");
}
END_TEST

/* Of several pictures all, side by side. */
START_TEST(pictures)
{
    program_expect(program_run("generate x --model tests/fixtures/pixart-sigma/model --no-bins "
                               "--size 64x64 --steps 3 --count 3 -o %s/a.png --preview %s/p.png",
                               tmp, tmp),
                   0);
    text_has(info("p.png"), "160x160"); /* 2 x 2 of 16 pixels with a gap of 8, 4 times as large */
}
END_TEST

/* Rows have the batch's, or one of their own. */
START_TEST(rows)
{
    scratch_put("rows.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\",\"preview\":\"own.png\"}\n");
    const program_result *r = program_shell(
        "R=$PWD; T=$(realpath $TESSERA); cd %s && $T batch rows.jsonl --model "
        "$R/weights/default --out o --frames 1 " SMALL "--preview all.png --preview-every 5",
        tmp);
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->err, "\"path\":\"all.png\",\"step\":5"), 1);
    ck_assert_int_eq(text_count(r->err, "\"path\":\"own.png\",\"step\":5"), 1);
    ck_assert(scratch_has("all.png") && scratch_has("own.png"));
    /* a preview decides nothing about a row: both are there */
    r = program_shell("R=$PWD; T=$(realpath $TESSERA); cd %s && $T batch rows.jsonl --model "
                      "$R/weights/default --out o --frames 1 " SMALL,
                      tmp);
    program_expect(r, 0);
    text_has(r->err, "\"skipped\":2");
    scratch_put("rows.jsonl", "{\"prompt\":\"a\",\"preview\":\"p.tiff\"}\n{\"prompt\":\"b\"}\n");
    r = program_run("batch %s/rows.jsonl --out %s/p --frames 1 " SMALL, tmp, tmp);
    program_expect(r, 1);
    text_has(r->err, "\"line\":1,\"message\":\"p.tiff: unknown kind of output");
}
END_TEST

static void refused(const char *flags, const char *sentence)
{
    const program_result *r = program_run("generate x --frames 1 --dry-run %s", flags);
    program_expect(r, 2);
    text_has(r->err, sentence);
}

START_TEST(previews_that_make_no_sense)
{
    refused("-o a.png --preview a.png", "--preview and the output: both name a.png");
    refused("-o a.png --preview l --save-latents l", "--save-latents and --preview: both name l");
    refused("--preview -", "preview: - is not one file: name a .png, or a clip like .gif");
    refused("--preview f-%d.png", "preview: f-%d.png is not one file");
    refused("--preview tests", "preview: tests is not one file");
    refused("--preview p.tiff", "p.tiff: unknown kind of output");
    refused("--preview-every 2", "--preview-every: there is no preview, --preview names its file");
    refused("--preview p.png --preview-every 0", "--preview-every: got \"0\", wanted");
    scratch_put("r.txt", "x\n");
    const program_result *r = program_run("batch %s/r.txt --out %s/o --preview -", tmp, tmp);
    program_expect(r, 2);
    text_has(r->err, "preview: - is not one file");
    r = program_run("batch %s/r.txt --out %s/o --preview-every 2", tmp, tmp);
    program_expect(r, 2);
    text_has(r->err, "--preview-every: there is no preview");
}
END_TEST

/* A preview that fails costs the run nothing but a warning, once. */
START_TEST(previews_that_fail)
{
    /* 512 bytes are enough for no preview, and the output goes to a pipe */
    const program_result *r = program_shell(
        "ulimit -f 1; exec $TESSERA generate x --size 64x64 --frames 1 --steps 4 "
        "--scale 1 -o - --preview %s/q.png | wc -c",
        tmp);
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->err, "warning: no more previews: "), 1);
    text_has(r->err, "q.png: can not be written: File too large");
    ck_assert(!scratch_has("q.png"));
}
END_TEST

int main(void)
{
    tmp = scratch_open();
    Suite *suite = suite_create("preview");
    TCase *tc = tcase_create("preview");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, clips);
    tcase_add_test(tc, pictures);
    tcase_add_test(tc, rows);
    tcase_add_test(tc, previews_that_make_no_sense);
    tcase_add_test(tc, previews_that_fail);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
