/* New files: whole or not at all, beside others of the same name. The source is included, so that
 * the ways of a poorer file system can be taken here. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int no_renameat2, no_link; /* errno to fail with; 0: as the system does */
static int try_renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    if (no_renameat2) return errno = no_renameat2, -1;
    return renameat2(a, from, b, to, flags);
}
static int try_link(const char *from, const char *to)
{
    if (no_link) return errno = no_link, -1;
    return link(from, to);
}
#define renameat2 try_renameat2
#define link try_link
#include "backend/file_new.c"
#undef renameat2
#undef link

#include "tests/testing.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char *root;
static ts_err err;

static void make_folder(void)
{
    root = testing_tmp();
    no_renameat2 = no_link = 0;
}
static void remove_folder(void)
{
    free(root);
    root = NULL;
}

/* of the test's folder; valid until the fifth call after it */
static const char *at(const char *name)
{
    static char path[4][512];
    static int next;
    char *to = path[next++ % 4];
    snprintf(to, sizeof path[0], "%s/%s", root, name);
    return to;
}

static int files_there(void)
{
    int n = 0;
    DIR *d = opendir(root);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static void write_new(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void check_text(const char *name, const char *text)
{
    char got[4096] = "";
    FILE *f = fopen(at(name), "r");
    ck_assert_msg(f != NULL, "%s is not there", name);
    got[fread(got, 1, sizeof got - 1, f)] = 0;
    fclose(f);
    ck_assert_str_eq(got, text);
}

static void check_sentence(ts_status got, ts_status want, const char *a, const char *b)
{
    ck_assert_msg(got == want, "status %d, expected %d: %s", got, want, err.text);
    ck_assert_msg(strstr(err.text, a) && strstr(err.text, b), "%s", err.text);
}

static ts_status write_text(const char *path, bool replace, const char *text)
{
    ts_newfile f = {0};
    ts_status st = ts_newfile_open(&err, path, replace, &f);
    if (st == TS_OK) st = ts_newfile_write(&err, &f, text, strlen(text));
    if (st == TS_OK) st = ts_newfile_keep(&err, &f);
    ts_newfile_drop(&f);
    return st;
}

START_TEST(test_whole_or_not)
{
    ts_newfile f, none = {0};
    write_new("a.txt", "old");
    ck_assert(ts_newfile_open(&err, at("a.txt"), true, &f) == TS_OK);
    ck_assert(ts_newfile_write(&err, &f, "ne", 2) == TS_OK);
    check_text("a.txt", "old");
    ck_assert_ptr_nonnull(strstr(f.part, "/.a.tmp-"));
    ck_assert_str_eq(strrchr(f.part, '.'), ".txt");
    ck_assert_int_eq(files_there(), 2);
    ck_assert(ts_newfile_write(&err, &f, "w", 1) == TS_OK);
    ck_assert(ts_newfile_keep(&err, &f) == TS_OK);
    check_text("a.txt", "new");
    ck_assert_int_eq(files_there(), 1);
    ts_newfile_drop(&f); /* kept: stays */
    ts_newfile_drop(&none);
    check_text("a.txt", "new");
    ck_assert(ts_newfile_open(&err, at("a.txt"), true, &f) == TS_OK);
    ck_assert(ts_newfile_write(&err, &f, "x", 1) == TS_OK);
    ts_newfile_drop(&f);
    check_text("a.txt", "new");
    ck_assert_int_eq(files_there(), 1);
}
END_TEST

START_TEST(test_stream)
{
    ts_newfile f;
    FILE *s;
    ck_assert(ts_newfile_open(&err, at("a"), false, &f) == TS_OK);
    ck_assert(ts_newfile_stream(&err, &f, &s) == TS_OK);
    for (int i = 0; i < 3; i++) fprintf(s, "%d,", i);
    ck_assert(ts_newfile_keep(&err, &f) == TS_OK);
    check_text("a", "0,1,2,");
    ck_assert(ts_newfile_open(&err, at("b"), false, &f) == TS_OK);
    ck_assert(ts_newfile_stream(&err, &f, &s) == TS_OK);
    fputs("half", s);
    ts_newfile_drop(&f);
    ck_assert_int_eq(files_there(), 1);
}
END_TEST

/* Two writers of one name in one process, as in two containers whose programs have one number. */
START_TEST(test_two_writers)
{
    ts_newfile f[2];
    for (int i = 0; i < 2; i++) ck_assert(ts_newfile_open(&err, at("a"), true, f + i) == TS_OK);
    ck_assert_str_ne(f[0].part, f[1].part);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 2; i++)
            ck_assert(ts_newfile_write(&err, f + i, i ? "b" : "a", 1) == TS_OK);
    ck_assert(ts_newfile_keep(&err, f) == TS_OK);
    check_text("a", "aaa");
    ck_assert(ts_newfile_keep(&err, f + 1) == TS_OK);
    check_text("a", "bbb");
    ck_assert_int_eq(files_there(), 1);
}
END_TEST

static void *write_often(void *text)
{
    ts_err mine;
    for (int i = 0; i < 50; i++) {
        ts_newfile f;
        bool kept = ts_newfile_open(&mine, at("a"), true, &f) == TS_OK &&
                    ts_newfile_write(&mine, &f, text, 3) == TS_OK &&
                    ts_newfile_keep(&mine, &f) == TS_OK;
        if (!kept) return mine.text[0] ? strdup(mine.text) : strdup("?");
    }
    return NULL;
}

/* The name is the only thing that they share: none fails, none sees another's bytes. */
START_TEST(test_many_writers)
{
    pthread_t thread[3];
    static char text[3][4] = {"aaa", "bbb", "ccc"};
    char got[8] = "";
    for (int i = 0; i < 3; i++) pthread_create(thread + i, NULL, write_often, text[i]);
    for (int i = 0; i < 3; i++) {
        void *sentence;
        pthread_join(thread[i], &sentence);
        ck_assert_msg(!sentence, "%s", (char *)sentence);
    }
    FILE *f = fopen(at("a"), "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fread(got, 1, sizeof got, f), 3);
    fclose(f);
    ck_assert(got[0] == got[1] && got[1] == got[2]);
    ck_assert_int_eq(files_there(), 1);
}
END_TEST

/* Without replace what has the name stays: there before, or come meanwhile. On every kind of file
 * system. */
START_TEST(test_no_replace)
{
    static const int ways[][2] = {{0, 0}, {ENOSYS, 0}, {EINVAL, EPERM}};
    ts_newfile f;
    no_renameat2 = ways[_i][0];
    no_link = ways[_i][1];
    ck_assert(write_text(at("a"), false, "one") == TS_OK);
    check_text("a", "one");
    check_sentence(write_text(at("a"), false, "two"), TS_EUSAGE, root, "exists already");
    check_text("a", "one");
    ck_assert_int_eq(files_there(), 1);
    ck_assert(ts_newfile_open(&err, at("b"), false, &f) == TS_OK);
    ck_assert(ts_newfile_write(&err, &f, "late", 4) == TS_OK);
    write_new("b", "first");
    check_sentence(ts_newfile_keep(&err, &f), TS_EUSAGE, "/b exists already", "overwrit");
    check_text("b", "first");
    ck_assert_int_eq(files_there(), 2);
    /* a link to nothing is something */
    ck_assert(symlink("nowhere", at("c")) == 0);
    check_sentence(write_text(at("c"), false, "x"), TS_EUSAGE, "/c", "exists already");
    ck_assert_int_eq(files_there(), 3);
}
END_TEST

START_TEST(test_rename_folders)
{
    no_renameat2 = _i ? ENOSYS : 0;
    ck_assert(mkdir(at("from"), 0777) == 0 && mkdir(at("to"), 0777) == 0);
    write_new("from/x", "x");
    write_new("to/y", "y");
    ck_assert(ts_rename_new(at("from"), at("to")) == -1 && errno == EEXIST);
    check_text("to/y", "y");
    ck_assert(ts_rename_new(at("from"), at("new")) == 0);
    check_text("new/x", "x");
}
END_TEST

START_TEST(test_refusals)
{
    ck_assert(mkdir(at("d"), 0777) == 0);
    check_sentence(write_text(at("d"), true, "x"), TS_EIO, "/d", "directory");
    check_sentence(write_text(at("none/a"), true, "x"), TS_EIO, "none/a", "No such file");
    check_sentence(write_text("/dev/full", true, "x"), TS_EIO, "/dev/full", "No space left");
    ck_assert(access("/dev/full", W_OK) == 0); /* written to, and neither removed nor replaced */
    ck_assert(write_text("/dev/null", false, "x") == TS_OK && access("/dev/null", W_OK) == 0);
    ck_assert_int_eq(files_there(), 1);
}
END_TEST

/* A disk that is full: of writing at once, and of a stream that tells nobody until it is kept. */
START_TEST(test_full_disk)
{
    struct rlimit old, small;
    static const char big[1 << 16];
    ts_newfile f;
    FILE *s;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 1000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    bool opened = ts_newfile_open(&err, at("a"), false, &f) == TS_OK;
    ts_status wrote = ts_newfile_write(&err, &f, big, sizeof big);
    check_sentence(wrote, TS_EIO, "/a: can not be written", "too large");
    check_sentence(ts_newfile_keep(&err, &f), TS_EIO, "/a: can not be written", "too large");
    bool streamed = ts_newfile_open(&err, at("b"), false, &f) == TS_OK &&
                    ts_newfile_stream(&err, &f, &s) == TS_OK;
    if (streamed)
        for (int i = 0; i < 50; i++) fwrite(big, 1, 1000, s);
    ts_status kept = ts_newfile_keep(&err, &f);
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert(opened && streamed);
    check_sentence(kept, TS_EIO, "/b: can not be written", "too large");
    ck_assert_int_eq(files_there(), 0);
}
END_TEST

/* Names as long as a file system takes them, in characters that are not cut. */
START_TEST(test_long_names)
{
    char name[256] = "", *cut;
    ts_newfile f;
    while (strlen(name) + 2 + 4 < sizeof name) strcat(name, "\xc3\xa4");
    strcat(name, ".mp4");
    ck_assert(ts_newfile_open(&err, at(name), false, &f) == TS_OK);
    ck_assert_str_eq(strrchr(f.part, '.'), ".mp4");
    cut = strstr(f.part, ".tmp-");
    ck_assert(cut && cut[-1] == '\xa4');
    ck_assert(ts_newfile_keep(&err, &f) == TS_OK);
    ck_assert_int_eq(files_there(), 1);
    ck_assert(write_text(at(".hidden"), false, "x") == TS_OK);
    check_text(".hidden", "x");
}
END_TEST

/* The rights of a new file are those that the process gives to any. */
START_TEST(test_mode)
{
    struct stat s;
    mode_t was = umask(027);
    ck_assert(write_text(at("a"), false, "x") == TS_OK);
    umask(was);
    ck_assert(stat(at("a"), &s) == 0);
    ck_assert_int_eq(s.st_mode & 0777, 0640);
}
END_TEST

static int mode_of(const char *name)
{
    struct stat s;
    ck_assert_msg(lstat(at(name), &s) == 0, "%s: %s", name, strerror(errno));
    return s.st_mode & 07777;
}

/* A file that is replaced passes on its permissions, whether its owner may write it or not. */
START_TEST(test_mode_of_what_is_replaced)
{
    static const mode_t modes[] = {0600, 0400, 0664, 0644, 0000};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        ts_newfile f;
        ck_assert(write_text(at("a"), true, "old") == TS_OK);
        ck_assert_int_eq(chmod(at("a"), modes[i]), 0);
        ck_assert(ts_newfile_open(&err, at("a"), true, &f) == TS_OK);
        struct stat s;
        ck_assert(stat(f.part, &s) == 0);
        ck_assert_int_eq(s.st_mode & 0777, (modes[i] | 0600)); /* nobody else reads it meanwhile */
        ck_assert(ts_newfile_write(&err, &f, "new", 3) == TS_OK);
        ck_assert(ts_newfile_keep(&err, &f) == TS_OK);
        ck_assert_int_eq(mode_of("a"), (int)modes[i]);
        chmod(at("a"), 0600);
        check_text("a", "new");
    }
    ck_assert_int_eq(files_there(), 1);
}
END_TEST

/* What a link points to is replaced, in its own folder, there or not; the link stays. */
START_TEST(test_links_are_followed)
{
    struct stat s;
    ck_assert_int_eq(mkdir(at("far"), 0777), 0);
    ck_assert(write_text(at("far/a"), false, "old") == TS_OK);
    ck_assert_int_eq(chmod(at("far/a"), 0640), 0);
    ck_assert_int_eq(symlink("far/b", at("one")), 0); /* of its folder */
    ck_assert_int_eq(symlink("a", at("far/b")), 0);
    ck_assert(ts_newfile_check(&err, at("one")) == TS_OK);
    ck_assert(write_text(at("one"), false, "no") == TS_EUSAGE);
    ck_assert(write_text(at("one"), true, "new") == TS_OK);
    check_text("far/a", "new");
    ck_assert_int_eq(mode_of("far/a"), 0640);
    ck_assert(lstat(at("one"), &s) == 0 && S_ISLNK(s.st_mode));
    ck_assert(lstat(at("far/b"), &s) == 0 && S_ISLNK(s.st_mode));
    ck_assert_int_eq(symlink(at("far/new"), at("two")), 0); /* dangling */
    ck_assert(write_text(at("two"), true, "made") == TS_OK);
    check_text("far/new", "made");
    ck_assert(lstat(at("two"), &s) == 0 && S_ISLNK(s.st_mode));
    ck_assert_int_eq(symlink("no/folder", at("three")), 0);
    check_sentence(ts_newfile_check(&err, at("three")), TS_EIO, "three", "No such file");
    check_sentence(write_text(at("three"), true, "x"), TS_EIO, "no/folder", "No such file");
    ck_assert_int_eq(symlink("ring", at("ring")), 0);
    check_sentence(ts_newfile_check(&err, at("ring")), TS_EIO, "ring", "symbolic links");
    check_sentence(write_text(at("ring"), true, "x"), TS_EIO, "ring", "symbolic links");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("file_new");
    TCase *t = tcase_create("all");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, make_folder, remove_folder);
    tcase_add_test(t, test_whole_or_not);
    tcase_add_test(t, test_stream);
    tcase_add_test(t, test_two_writers);
    tcase_add_test(t, test_many_writers);
    tcase_add_loop_test(t, test_no_replace, 0, 3);
    tcase_add_loop_test(t, test_rename_folders, 0, 2);
    tcase_add_test(t, test_refusals);
    tcase_add_test(t, test_full_disk);
    tcase_add_test(t, test_long_names);
    tcase_add_test(t, test_mode);
    tcase_add_test(t, test_mode_of_what_is_replaced);
    tcase_add_test(t, test_links_are_followed);
    return testing_main(s);
}
