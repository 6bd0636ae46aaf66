/* Clips made of images by the program: --image and --last-image, keys of rows, files made again
 * with --from. */
#include "tests/cli/program.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define F "tests/fixtures/"
#define I2V "--model " F "wan21-i2v/model "
#define FLF "--model " F "wan21-flf2v/model "
#define A14B "--model " F "wan22-i2v-a14b/model "
#define PHOTO F "wan21-i2v/image.png"
#define SMALL "--size 64x48 --frames 5 --steps 2 "

static char *tmp;

static void expect_same(const char *a, const char *b)
{
    program_expect(program_shell("cmp %s/%s %s/%s", tmp, a, tmp, b), 0);
}

/* The fixture's own numbers are compared in sampler/test_pipeline; here only whether flags get
 * there. */
START_TEST(made_again)
{
    const program_result *r;
    program_expect(program_shell("cp " PHOTO " %s/photo.png", tmp), 0);
    program_expect(
        program_run("generate fox " I2V SMALL "--image %s/photo.png -o %s/a.mp4", tmp, tmp), 0);
    r = program_run("info --json %s/a.mp4", tmp);
    ck_assert_msg(strstr(r->out, "\"image\":\"photo.png\"") &&
                      strstr(r->out, "\"image_hash\":\"") && !strstr(r->out, "last_image"),
                  "%s", r->out);
    program_expect(program_run("generate --from %s/a.mp4 " I2V "-o %s/b.mp4", tmp, tmp), 0);
    expect_same("a.mp4", "b.mp4");
    /* another one of that name, and none */
    program_expect(program_shell("cp " F "wan21-flf2v/last.png %s/photo.png", tmp), 0);
    r = program_run("generate --from %s/a.mp4 " I2V "-o %s/c.mp4", tmp, tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "the image is not the one that") != NULL, "%s", r->err);
    program_expect(program_shell("! cmp -s %s/a.mp4 %s/c.mp4 && rm %s/photo.png", tmp, tmp, tmp),
                   0);
    r = program_run("generate --from %s/a.mp4 " I2V "-o %s/d.mp4", tmp, tmp);
    program_expect(r, 3);
    ck_assert_msg(strstr(r->err, "photo.png, an image that ") &&
                      strstr(r->err, "was made of, is not there: --image gives it"),
                  "%s", r->err);
    program_expect(
        program_run("generate --from %s/a.mp4 " I2V "--image " PHOTO " -o %s/d.mp4", tmp, tmp), 0);
}
END_TEST

START_TEST(size_of_the_image)
{
    const program_result *r = program_run("generate fox " I2V "--image " PHOTO " --dry-run");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "912x432") != NULL, "%s", r->out);
    r = program_run("generate fox " I2V "--image " PHOTO " --dry-run --size 64x48");
    ck_assert_msg(strstr(r->out, "64x48") != NULL, "%s", r->out);
}
END_TEST

START_TEST(told_by_info)
{
    static const struct {
        const char *fixture, *row, *json;
    } want[] = {
        {"wan21-flf2v", "images       a first and a last one",
         "\"images\":{\"least\":2,\"most\":2}"},
        {"wan22-i2v-a14b", "a first one, and a last one if wanted", "{\"least\":1,\"most\":2}"},
        {"wan21-i2v", "images       a first one\n", "{\"least\":1,\"most\":1}"},
        {"wan22-ti2v-5b-i2v", "a first one if wanted", "{\"least\":0,\"most\":1}"},
        {"wan21-t2v", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const program_result *r = program_run("info " F "%s/model", want[i].fixture);
        program_expect(r, 0);
        ck_assert_msg(want[i].row ? strstr(r->out, want[i].row) != NULL : !strstr(r->out, "images"),
                      "%s", r->out);
        r = program_run("info --json " F "%s/model", want[i].fixture);
        program_expect(r, 0);
        ck_assert_msg(want[i].json ? strstr(r->out, want[i].json) != NULL
                                   : !strstr(r->out, "images"),
                      "%s", r->out);
    }
}
END_TEST

START_TEST(standard_input)
{
    program_expect(
        program_run("generate fox " I2V SMALL "--image " PHOTO " --no-metadata -o %s/f.mp4", tmp),
        0);
    program_expect(
        program_run("generate fox " I2V SMALL "--image - --no-metadata -o %s/s.mp4 < " PHOTO, tmp),
        0);
    expect_same("f.mp4", "s.mp4");
}
END_TEST

static const struct {
    const char *command;
    int code;
    const char *says;
} wrong[] = {
    {"generate x " I2V SMALL, 2, "no image: this model makes clips of one: --image gives it"},
    {"generate x " FLF SMALL "--image " PHOTO, 2, "--last-image gives it"},
    {"generate x " I2V SMALL "--image " PHOTO " --last-image " PHOTO, 2, "places for the states"},
    {"generate x " A14B SMALL "--last-image " PHOTO, 2, "--image gives it"},
    {"generate x --model " F "wan21-t2v/model " SMALL "--image " PHOTO, 2, "of text alone"},
    {"generate x " A14B SMALL "--init " PHOTO, 2, "--image gives their first frame"},
    {"generate x " I2V SMALL "--image nowhere.png", 3, "--image: nowhere.png: No such file"},
    {"generate x " I2V "--image Makefile", 3, "Makefile: not a picture that can be read"},
    {"generate x " I2V SMALL "--image Makefile", 3, "Makefile: not a picture that can be read"},
    {"generate x " I2V "--image - < " PHOTO, 2, "a size is needed, or a file"},
    {"generate - " I2V SMALL "--image - < " PHOTO, 2, "can be read once"},
    {"generate x " A14B SMALL "--image - --last-image - < " PHOTO, 2, "can be read once"},
    {"bench x " I2V SMALL "--repeats 1", 2, "--image gives it"},
    {"bench --step " I2V "--image " PHOTO, 2, "--image goes with prompts, not with --step"},
};

START_TEST(refused)
{
    const program_result *r = program_shell(
        "${TESSERA:-./tessera} %s%s", wrong[_i].command,
        strncmp(wrong[_i].command, "generate", 8) ? "" : " -o /nowhere/x.mp4");
    program_expect(r, wrong[_i].code);
    ck_assert_msg(strstr(r->err, wrong[_i].says) != NULL, "%s: %s", wrong[_i].command, r->err);
}
END_TEST

/* Rows with one image, with two and of another shape; one that is not there, and one without. */
START_TEST(rows)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/p.jsonl", tmp);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs("{\"prompt\": \"a\", \"size\": \"64x48\", \"image\": \"" PHOTO "\", \"output\": \"a\"}\n"
          "{\"prompt\": \"b\", \"size\": \"64x48\", \"image\": \"" PHOTO "\", \"last-image\": \"" F
          "wan21-flf2v/last.png\", \"output\": \"b\"}\n"
          "{\"prompt\": \"d\", \"size\": \"64x48\", \"output\": \"d\"}\n",
          f);
    fclose(f);
    const program_result *r = program_run(
        "batch %s/p.jsonl " A14B "--frames 5 --steps 2 --out %s/o", tmp, tmp);
    program_expect(r, 1);
    ck_assert_msg(strstr(r->err, "--image gives it") != NULL, "%s", r->err);
    program_expect(program_shell("test -s %s/o/a.mp4 && test -s %s/o/b.mp4", tmp, tmp), 0);
    /* as one of generate: the images are where they were, and given by their names alone */
    program_expect(program_run("generate --from %s/o/b.mp4 " A14B "--image " PHOTO
                               " --last-image " F "wan21-flf2v/last.png -o %s/2.mp4",
                               tmp, tmp),
                   0);
    expect_same("o/b.mp4", "2.mp4");
    f = fopen(path, "w");
    fputs("{\"prompt\": \"a\", \"image\": \"none.png\"}\n", f);
    fclose(f);
    r = program_run("batch %s/p.jsonl " A14B "--out %s/o2", tmp, tmp);
    program_expect(r, 3);
    ck_assert_msg(strstr(r->err, "image: none.png: No such file or directory") != NULL, "%s",
                  r->err);
}
END_TEST

START_TEST(benched)
{
    program_expect(program_run("bench fox " I2V SMALL "--repeats 1 --attention dense --image " PHOTO
                               " --json %s/b.json",
                               tmp),
                   0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("clip images");
    TCase *tc = tcase_create("clip images");
    tmp = testing_tmp();
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, made_again);
    tcase_add_test(tc, size_of_the_image);
    tcase_add_test(tc, told_by_info);
    tcase_add_test(tc, standard_input);
    tcase_add_loop_test(tc, refused, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(tc, rows);
    tcase_add_test(tc, benched);
    suite_add_tcase(s, tc);
    int failed = testing_main(s);
    free(tmp);
    return failed;
}
