/* What stands in a folder while and after files are written: numbered frames as they come, the old
 * file until the new one is whole, nothing after an abort or where there is no room. */
#include "test_files.h"

#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

static const char JSON[] = "{\"tessera\":\"0.1.0\",\"prompt\":\"ein Fuchs\"}";

/* ---- numbered frames ---- */

START_TEST(test_frames)
{
    static const struct {
        const char *path, *first, *last;
    } CASES[] = {{"f-%03d.png", "f-000.png", "f-010.png"},
                 {"%d-x.png", "0-x.png", "10-x.png"},
                 {"new/", "new/0000.png", "new/0010.png"},
                 {"old/", "old/0000.png", "old/0010.png"}};
    char *d = testing_tmp();
    ck_assert_int_eq(mkdir(path_in(d, "old"), 0777), 0);
    /* one that is there by chance is not filled */
    refused(path_in(d, "old"), plain(), TS_EUSAGE, "old/ puts numbered frames into it");
    for (int k = 0; k < 4; k++) {
        ts_file_options o = plain();
        int w, h;
        write_clip(path_in(d, CASES[k].path), o, 24, 16, 11, 16, NULL);
        ck_assert(there(path_in(d, CASES[k].first)));
        uint8_t *got = read_png(path_in(d, CASES[k].last), &w, &h);
        float *want = picture(24, 16, 10);
        for (int i = 0; i < 24 * 16 * 3; i++) ck_assert_int_eq(got[i], (int)rintf(want[i] * 255));
        free(got);
        free(want);
        refused(path_in(d, CASES[k].path), o, TS_EUSAGE, CASES[k].first);
    }
    ck_assert_int_eq(files_in(d), 11 + 11 + 2);
    ck_assert_int_eq(files_in(path_in(d, "new")), 11);
    free(d);
}
END_TEST

/* Each frame is there, whole, as soon as it was taken. */
START_TEST(test_frames_appear)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    ts_sink *sink = NULL;
    ck_assert_int_eq(ts_file_open(&err, path_in(d, "%d.png"), &o, &sink), TS_OK);
    ck_assert_int_eq(sink->open(sink, 8, 8, 3, 16, NULL), TS_OK);
    float *rgb = flat(8, 8, 1, 0, 0);
    for (int i = 0; i < 2; i++) {
        char name[32];
        int w, h;
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 8, .h = 8, .index = i, .rgb = rgb}),
                         TS_OK);
        snprintf(name, sizeof name, "%d.png", i);
        free(read_png(path_in(d, name), &w, &h));
        ck_assert_int_eq(files_in(d), i + 1);
    }
    ts_file_close(sink);
    ck_assert_int_eq(files_in(d), 0);
    free(rgb);
    free(d);
}
END_TEST

START_TEST(test_frames_of_an_older_run)
{
    char *d = testing_tmp(), *path = path_in(d, "f%d.png");
    ts_file_options o = plain();
    write_clip(path, o, 8, 8, 5, 16, NULL);
    write_text(path_in(d, "f01.png"), ""); /* not a name of this pattern */
    write_text(path_in(d, "fx.png"), "");
    o.overwrite = true;
    write_clip(path, o, 8, 8, 5, 16, NULL);
    ck_assert_str_eq(said, "");
    write_clip(path, o, 8, 8, 3, 16, NULL);
    ck_assert_msg(strstr(said, "frame 3 and what follows it are of an older run"), "%s", said);
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d.png", i);
        ck_assert_int_eq(unlink(path_in(d, name)), 0);
    }
    o.overwrite = false;
    write_clip(path, o, 8, 8, 1, 16, NULL); /* f01.png and fx.png stand in nobody's way */
    free(d);
}
END_TEST

/* ---- overwriting, aborting ---- */

START_TEST(test_overwrite)
{
    char *d = testing_tmp();
    for (int i = 0; i < 4; i++) {
        char *file = path_in(d, SINGLE[i]);
        ts_file_options o = plain();
        ts_sink *sink = NULL;
        size_t n;
        write_text(file, "old");
        o.overwrite = true;
        ck_assert_int_eq(ts_file_open(&err, file, &o, &sink), TS_OK);
        ck_assert_int_eq(sink->open(sink, 16, 16, 1, 16, NULL), TS_OK);
        float *rgb = flat(16, 16, 0, 1, 0);
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 16, .h = 16, .index = 0, .rgb = rgb}),
                         TS_OK);
        uint8_t *b = bytes_of(file, &n);
        ck_assert_str_eq((char *)b, "old"); /* until the new one is whole */
        free(b);
        ck_assert_int_eq(sink->close(sink), TS_OK);
        sink->abort(sink); /* too late to do anything */
        ts_file_close(sink);
        b = bytes_of(file, &n);
        ck_assert_uint_gt(n, 32);
        free(b);
        free(rgb);
    }
    ck_assert_int_eq(files_in(d), 4);
    free(d);
}
END_TEST

/* Without overwrite a file that appears while the clip is made stays, and is told of. */
START_TEST(test_file_that_appears_stays)
{
    static const char *const NAMES[] = {"a.png", "a.mp4", "a.webm", "a.gif", "f-%04d.png"};
    char *d = testing_tmp();
    float *rgb = flat(16, 16, 0, 1, 0);
    for (int i = 0; i < 5; i++) {
        ts_file_options o = plain();
        ts_sink *sink = NULL;
        char *theirs = path_in(d, i == 4 ? "f-0001.png" : NAMES[i]);
        int frames = i ? 2 : 1, k = 0;
        ts_status st = TS_OK;
        size_t n;
        ck_assert_int_eq(ts_file_open(&err, path_in(d, NAMES[i]), &o, &sink), TS_OK);
        ck_assert_int_eq(sink->open(sink, 16, 16, frames, 16, JSON), TS_OK);
        write_text(theirs, "theirs");
        for (; k < frames && !st; k++)
            st = sink->frame(sink, &(ts_frame){.w = 16, .h = 16, .index = k, .rgb = rgb});
        if (!st) st = sink->close(sink);
        ck_assert_int_eq(st, TS_EUSAGE);
        ck_assert_msg(strstr(sink->error, theirs) && strstr(sink->error, "exists already"), "%s",
                      sink->error);
        ts_file_close(sink);
        uint8_t *b = bytes_of(theirs, &n);
        ck_assert_str_eq((char *)b, "theirs");
        free(b);
        ck_assert_int_eq(files_in(d), 1);
        ck_assert_int_eq(unlink(theirs), 0);
    }
    free(rgb);
    free(d);
}
END_TEST

START_TEST(test_abort_leaves_nothing)
{
    static const char *const NAMES[] = {"a.png", "a.mp4", "a.webm", "a.gif", "f-%04d.png", "new/"};
    char *d = testing_tmp();
    float *rgb = flat(16, 16, 0, 1, 0);
    /* before open, after it, after a frame, by free alone */
    for (int i = 0; i < 6; i++)
        for (int when = 0; when < 4; when++) {
            ts_file_options o = plain();
            ts_sink *sink = NULL;
            ck_assert_int_eq(ts_file_open(&err, path_in(d, NAMES[i]), &o, &sink), TS_OK);
            if (when > 0) {
                ck_assert_msg(sink->open(sink, 16, 16, i ? 3 : 1, 16, JSON) == TS_OK, "%s",
                              sink->error);
                if (i < 4) ck_assert_int_eq(files_in(d), 1); /* the temporary one */
            }
            if (when > 1)
                ck_assert_int_eq(
                    sink->frame(sink, &(ts_frame){.w = 16, .h = 16, .index = 0, .rgb = rgb}),
                    TS_OK);
            if (when < 3) {
                sink->abort(sink);
                ck_assert_int_eq(files_in(d), 0);
                sink->abort(sink);
            }
            ts_file_close(sink);
            ck_assert_int_eq(files_in(d), 0);
        }
    free(rgb);
    free(d);
}
END_TEST

/* Two sinks of one process and one name do not write into one file, and long names fit. */
START_TEST(test_temporary_names)
{
    char *d = testing_tmp(), name[256];
    ts_file_options o = plain();
    ts_sink *a = NULL, *b = NULL;
    memset(name, 'n', 251);
    strcpy(name + 251, ".png");
    ck_assert_int_eq(ts_file_open(&err, path_in(d, name), &o, &a), TS_OK);
    ck_assert_int_eq(ts_file_open(&err, path_in(d, name), &o, &b), TS_OK);
    ck_assert_msg(a->open(a, 8, 8, 1, 16, NULL) == TS_OK, "%s", a->error);
    ck_assert_msg(b->open(b, 8, 8, 1, 16, NULL) == TS_OK, "%s", b->error);
    ck_assert_int_eq(files_in(d), 2);
    ts_file_close(a);
    float *rgb = flat(8, 8, 1, 1, 1);
    ck_assert_int_eq(b->frame(b, &(ts_frame){.w = 8, .h = 8, .index = 0, .rgb = rgb}), TS_OK);
    ck_assert_msg(b->close(b) == TS_OK, "%s", b->error);
    ts_file_close(b);
    ck_assert_int_eq(files_in(d), 1);
    ck_assert(there(path_in(d, name)));
    free(rgb);
    free(d);
}
END_TEST

/* ---- no room ---- */

typedef struct {
    ts_status st;
    char text[512];
    int left;
} attempt;

/* Writes a clip where there is no room. Asserts nothing: Check itself writes a file at every
 * assertion. */
static attempt try_clip(const char *folder, const char *path)
{
    attempt a = {0};
    ts_file_options o = plain();
    ts_sink *sink = NULL;
    o.metadata = true;
    a.st = ts_file_open(&err, path, &o, &sink);
    snprintf(a.text, sizeof a.text, "%s", err.text);
    if (sink) {
        a.st = pour(sink, 64, 48, strstr(path, "a.png") ? 1 : 6, 16, JSON);
        snprintf(a.text, sizeof a.text, "%s", sink->error);
        sink->abort(sink);
        ts_file_close(sink);
    }
    a.left = files_in(folder);
    return a;
}

/* One sentence with the path and the reason, nothing left. */
static void check_attempt(const attempt *a, const char *folder, const char *reason, int left)
{
    ck_assert_msg(a->st == TS_EIO, "status %d, %s", a->st, a->text);
    ck_assert_msg(strstr(a->text, folder) && strstr(a->text, reason), "%s", a->text);
    ck_assert_msg(a->left == left, "%s: %d files, expected %d", a->text, a->left, left);
}

static const char *const ALL[] = {"a.png", "a.mp4", "a.webm", "a.gif", "f-%04d.png", "new/"};

/* Files may be so long and no longer: the failure comes with the header, a frame, the trailer, the
 * index that moves to the front, the comment. */
START_TEST(test_file_too_long)
{
    enum { LIMITS = 17 };
    struct rlimit old, small;
    attempt got[LIMITS];
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 6; i++) {
        char *whole = testing_tmp(), *d = testing_tmp(), *path = path_in(d, ALL[i]);
        const char *one = i == 4 ? "f-0000.png" : i == 5 ? "new/0000.png" : ALL[i];
        ts_file_options o = plain();
        size_t n;
        o.metadata = true;
        write_clip(path_in(whole, ALL[i]), o, 64, 48, i ? 6 : 1, 16, JSON);
        free(bytes_of(path_in(whole, one), &n));
        for (int k = 0; k < LIMITS; k++) {
            small = old;
            small.rlim_cur = k < LIMITS - 1 ? n * k / (LIMITS - 1) : n - 1;
            setrlimit(RLIMIT_FSIZE, &small);
            got[k] = try_clip(d, path);
            setrlimit(RLIMIT_FSIZE, &old);
        }
        for (int k = 0; k < LIMITS; k++) check_attempt(&got[k], d, "File too large", 0);
        free(whole);
        free(d);
    }
    signal(SIGXFSZ, before);
}
END_TEST

START_TEST(test_disk_full)
{
    char *d = testing_tmp(), *disk = path_in(d, "disk"), *paths[6], big[1 << 12] = {1};
    attempt got[6];
    ck_assert_int_eq(mkdir(disk, 0777), 0);
    for (int i = 0; i < 6; i++) paths[i] = path_in(disk, ALL[i]);
    FILE *f = NULL;
    if (mount("tmpfs", disk, "tmpfs", 0, "size=64k") != 0) {
        printf("skip: no small file system can be mounted: %s\n", strerror(errno));
    } else {
        f = fopen(path_in(disk, "filler"), "wb"); /* all of it */
        while (f && fwrite(big, 1, sizeof big, f) == sizeof big && fflush(f) == 0) continue;
        if (f) fclose(f);
        /* nothing is asserted while it is mounted */
        for (int i = 0; i < 6; i++) got[i] = try_clip(disk, paths[i]);
        ck_assert_int_eq(umount(disk), 0);
        for (int i = 0; i < 6; i++) check_attempt(&got[i], disk, "No space left on device", 1);
    }
    free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("files_whole");
    TCase *c = tcase_create("files_whole");
    tcase_set_timeout(c, 300);
    suite_add_tcase(s, c);
    tcase_add_test(c, test_frames);
    tcase_add_test(c, test_frames_appear);
    tcase_add_test(c, test_frames_of_an_older_run);
    tcase_add_test(c, test_overwrite);
    tcase_add_test(c, test_file_that_appears_stays);
    tcase_add_test(c, test_abort_leaves_nothing);
    tcase_add_test(c, test_temporary_names);
    tcase_add_test(c, test_file_too_long);
    tcase_add_test(c, test_disk_full);
    return testing_main(s);
}
