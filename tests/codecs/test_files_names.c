/* Names of output files, and what is refused before any work: kinds, patterns, folders, options,
 * calls out of order. */
#include "test_files.h"

#include <unistd.h>

/* ---- names ---- */

static void is_kind(const char *path, ts_file_kind want)
{
    ts_file_kind kind = (ts_file_kind)-1;
    ck_assert_msg(ts_file_kind_of(&err, path, NULL, &kind) == TS_OK, "%s: %s", path, err.text);
    ck_assert_msg(kind == want, "%s: kind %d, expected %d", path, kind, want);
}

START_TEST(test_kinds)
{
    char *d = testing_tmp();
    is_kind("a.png", TS_FILE_PNG);
    is_kind("x/a.PNG", TS_FILE_PNG);
    is_kind("x.gif/a.mp4", TS_FILE_MP4);
    is_kind("a.b.webm", TS_FILE_WEBM);
    is_kind("a.gif", TS_FILE_GIF);
    is_kind("a.MKV", TS_FILE_MKV);
    is_kind("a.y4m", TS_FILE_Y4M);
    is_kind("-", TS_FILE_Y4M);
    is_kind("/dev/stdout", TS_FILE_Y4M);
    is_kind("50%/a.png", TS_FILE_PNG);
    is_kind("50%.mp4", TS_FILE_MP4);
    is_kind("f-%d.png", TS_FILE_FRAMES);
    is_kind("f-%04d.png", TS_FILE_FRAMES);
    is_kind("f-%04d.jpg", TS_FILE_FRAMES);
    is_kind("%d.WebP", TS_FILE_FRAMES);
    is_kind("50%/a.jpeg", TS_FILE_JPEG);
    is_kind("%09d.png", TS_FILE_FRAMES);
    is_kind("not-there/", TS_FILE_FRAMES);
    is_kind(path_in(d, ""), TS_FILE_FRAMES);
    ck_assert_int_eq(mkdir(path_in(d, "clips.mp4"), 0777), 0);
    is_kind(path_in(d, "clips.mp4/"), TS_FILE_FRAMES);
    /* a folder without the slash, whatever its name */
    ts_file_kind kind;
    ck_assert_int_eq(ts_file_kind_of(&err, path_in(d, "clips.mp4"), NULL, &kind), TS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "clips.mp4/ puts numbered frames into it"));
    ck_assert_int_eq(ts_file_kind_of(&err, d, NULL, &kind), TS_EUSAGE);
    free(d);
}
END_TEST

START_TEST(test_kinds_unknown)
{
    static const char *const BAD[] = {"a",      "",          "a.avi", "a.bmp", "a.",        ".png",
                                      "x/.mp4", "a.png.txt", "mp4",   "%04d",  "f-%04d.bmp"};
    ts_file_kind kind;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        ck_assert_msg(ts_file_kind_of(&err, BAD[i], NULL, &kind) == TS_EUSAGE, "'%s' was taken",
                      BAD[i]);
        for (int k = 0; k < 4; k++)
            ck_assert_msg(strstr(err.text, SINGLE[k] + 1), "%s does not say %s", err.text,
                          SINGLE[k] + 1);
    }
}
END_TEST

START_TEST(test_patterns_bad)
{
    static const char *const BAD[] = {"%s.png",
                                      "%4d.png",
                                      "%d%d.png",
                                      "%04d-%04d.png",
                                      "%.png",
                                      "100%.png",
                                      "%%.png",
                                      "%d%%.png",
                                      "%i.png",
                                      "%-4d.png",
                                      "%0d.png",
                                      "%010d.png",
                                      "%0000000000004d.png",
                                      "%ld.png",
                                      "%n.png"};
    ts_file_kind kind;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        ck_assert_msg(ts_file_kind_of(&err, BAD[i], NULL, &kind) == TS_EUSAGE, "'%s' was taken",
                      BAD[i]);
        ck_assert_msg(strstr(err.text, "exactly one %d or %0Nd") != NULL, "%s", err.text);
    }
}
END_TEST

/* ---- checks before any work ---- */

START_TEST(test_refused_at_once)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    for (int i = 0; i < 4; i++) {
        char *file = path_in(d, SINGLE[i]);
        write_text(file, "old");
        refused(file, o, TS_EUSAGE, "exists already");
        refused(file, o, TS_EUSAGE, file);
        unlink(file);
    }
    write_text(path_in(d, "plain"), "");
    refused(path_in(d, "plain/a.png"), o, TS_EIO, "is not a folder");
    refused(path_in(d, "plain/no/folder/"), o, TS_EIO, "Not a directory");
    refused(path_in(d, "."), o, TS_EUSAGE, "a folder: ");
    refused(path_in(d, "no/.."), o, TS_EUSAGE, "/ puts numbered frames into it");
    refused(path_in(d, "a.xyz"), o, TS_EUSAGE, ".webm");
    o.crf = 52;
    refused(path_in(d, "a.mp4"), o, TS_EUSAGE, "0 (best) to 51");
    o.crf = 64;
    refused(path_in(d, "a.webm"), o, TS_EUSAGE, "0 (best) to 63");
    o = plain();
    o.scale = -1;
    refused(path_in(d, "a.png"), o, TS_EUSAGE, "scale -1");
    ck_assert_int_eq(files_in(d), 1); /* nothing but "plain" */
    free(d);
}
END_TEST

START_TEST(test_folder_not_writable)
{
    char *d = testing_tmp(), *shut = path_in(d, "shut");
    bool root = geteuid() == 0;
    ck_assert_int_eq(chmod(d, 0711), 0);
    ck_assert_int_eq(mkdir(shut, 0555), 0);
    if (root && seteuid(65534) != 0) { /* root may write anywhere */
        printf("skip: can not act as another user\n");
    } else {
        refused(path_in(shut, "a.mp4"), plain(), TS_EIO, "Permission denied");
        refused(path_in(shut, "f-%d.png"), plain(), TS_EIO, "Permission denied");
        refused(path_in(shut, "new/"), plain(), TS_EIO, "Permission denied");
        refused(path_in(shut, "new/er/a.mp4"), plain(), TS_EIO, "shut can not be written to");
    }
    if (root) ck_assert_int_eq(seteuid(0), 0);
    free(d);
}
END_TEST

START_TEST(test_one_png_holds_one_frame)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    ts_sink *sink = NULL;
    ck_assert_int_eq(ts_file_open(&err, path_in(d, "a.png"), &o, &sink), TS_OK);
    ck_assert_int_eq(sink->open(sink, 8, 8, 2, 16, NULL), TS_EUSAGE);
    ck_assert_msg(strstr(sink->error, "%04d") && strstr(sink->error, "2 frames"), "%s",
                  sink->error);
    sink->abort(sink);
    ts_file_close(sink);
    ck_assert_int_eq(files_in(d), 0);
    free(d);
}
END_TEST

/* The caller's slips are answered, not obeyed. */
START_TEST(test_sink_order)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    float *rgb = flat(8, 8, 0, 0, 0);
    for (int i = 0; i < 4; i++) {
        ts_sink *sink = NULL;
        ck_assert_int_eq(ts_file_open(&err, path_in(d, SINGLE[i]), &o, &sink), TS_OK);
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 8, .h = 8, .index = 0, .rgb = rgb}),
                         TS_EUSAGE);
        ts_file_close(sink);
        ck_assert_int_eq(ts_file_open(&err, path_in(d, SINGLE[i]), &o, &sink), TS_OK);
        ck_assert_int_eq(sink->open(sink, 8, 8, 1, 16, NULL), TS_OK);
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 8, .h = 16, .index = 0, .rgb = rgb}),
                         TS_ESHAPE);
        /* after a failure */
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 8, .h = 8, .index = 0, .rgb = rgb}),
                         TS_EUSAGE);
        ts_file_close(sink);
        ck_assert_int_eq(ts_file_open(&err, path_in(d, SINGLE[i]), &o, &sink), TS_OK);
        ck_assert_int_eq(sink->open(sink, 8, 8, 1, 16, NULL), TS_OK);
        ck_assert_int_eq(sink->close(sink), TS_EUSAGE); /* a frame is missing */
        ck_assert_ptr_nonnull(strstr(sink->error, "0 frames, expected 1"));
        ts_file_close(sink);
    }
    ck_assert_int_eq(files_in(d), 0);
    ts_file_close(NULL);
    free(rgb);
    free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("files_names");
    TCase *c = tcase_create("files_names");
    suite_add_tcase(s, c);
    tcase_add_test(c, test_kinds);
    tcase_add_test(c, test_kinds_unknown);
    tcase_add_test(c, test_patterns_bad);
    tcase_add_test(c, test_refused_at_once);
    tcase_add_test(c, test_folder_not_writable);
    tcase_add_test(c, test_one_png_holds_one_frame);
    tcase_add_test(c, test_sink_order);
    return testing_main(s);
}
