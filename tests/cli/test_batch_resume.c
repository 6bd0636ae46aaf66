/* Batches that are stopped, killed, shared out and begun again: at the end the folder holds what one undisturbed run makes. */
#include "tests/cli/program.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TINY "--size 32x32 --frames 1 --steps 2 --scale 1 "
static char *tmp;

static void clean(void) { program_expect(program_shell("find %s -mindepth 1 -delete", tmp), 0); }

static const char *path_of(const char *name)
{
    static char path[4][4300];
    static int next;
    char *to = path[next++ % 4];
    snprintf(to, sizeof path[0], "%s/%s", tmp, name);
    return to;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static bool there(const char *name) { return access(path_of(name), F_OK) == 0; }
static void says(const char *text, const char *phrase) { ck_assert_msg(strstr(text, phrase) != NULL, "\"%s\" is not in\n%s", phrase, text); }

static int count(const char *text, const char *phrase)
{
    int n = 0;
    for (; (text = strstr(text, phrase)); text++) n++;
    return n;
}

static int lines_with(const char *name, const char *phrase)
{
    char *text = program_slurp(path_of(name), NULL);
    int n = count(text, phrase);
    free(text);
    return n;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pause_ms(long ms) { nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL); }

/* The same names and bytes in both folders, accounts aside. */
static void same_folders(const char *a, const char *b)
{
    const program_result *r = program_shell("diff -r --exclude='tessera-batch*.jsonl' %s %s", path_of(a), path_of(b));
    ck_assert_msg(r->code == 0, "%s%s", r->out, r->err);
}

#define TWELVE "a panda\na fox --f 5\na cat --f 5 --format frames\na bear --d 1,2\na dog --output sub/dog --f 5 --format gif\na horse --s 20\na bird\na fish --f 5\na cake --s 30\na tree\na car\n"

START_TEST(killed_at_random_moments)
{
    enum { MOST = 60 };
    put("p.txt", TWELVE);
    double start = seconds();
    program_expect(program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("whole")), 0);
    double undisturbed = seconds() - start;
    unsigned seed = 20261124;
    int kills = 0, code = -1;
    for (int i = 0; i < MOST && code != 0; i++) {
        pid_t pid = program_start(path_of("err"), "batch %s --out %s " TINY "%s", path_of("p.txt"), path_of("o"), i % 2 ? "--resume-steps" : "");
        seed = seed * 1103515245u + 12345u;
        pause_ms((long)(undisturbed * (50 + (double)((seed >> 16) % 250)))); /* a twentieth to three tenths of it: at least three kills before the end, on any machine */
        kill(pid, SIGKILL);
        code = program_wait(pid);
        ck_assert_msg(code == 0 || code == 137, "exit code %d\n%s", code, program_slurp(path_of("err"), NULL));
        kills += code == 137;
    }
    const program_result *r = program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o"));
    program_expect(r, 0);
    ck_assert_int_ge(kills, 3);
    same_folders("whole", "o");
    ck_assert_int_eq(lines_with("o/tessera-batch.jsonl", "\"status\":\"done\""), 12); /* none was rendered, or written down, twice */
    r = program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o"));
    says(r->err, "12 of 12 rows skipped: their outputs are there");
    ck_assert_int_eq(lines_with("o/tessera-batch.jsonl", "\"status\":\"done\""), 12);
    clean();
}
END_TEST

/* Each moment at which a process can have ended, made by hand. */
START_TEST(every_moment)
{
    put("p.txt", "a panda\na fox\n");
    program_expect(program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o")), 0);
    program_expect(program_shell("cp -r %s %s", path_of("o"), path_of("whole")), 0);
    /* renamed, and not written down */
    program_expect(program_shell("sed -i '/0002.*done/d' %s", path_of("o/tessera-batch.jsonl")), 0);
    const program_result *r = program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o"));
    program_expect(r, 0);
    says(r->err, "2 of 2 rows skipped");
    ck_assert_int_eq(lines_with("o/tessera-batch.jsonl", "\"found\":true"), 1);
    /* written down, and the name lost with the power */
    unlink(path_of("o/0001_a-panda_s43.png"));
    r = program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o"));
    program_expect(r, 0);
    says(r->err, "1 of 2 rows skipped");
    same_folders("whole", "o");
    /* half a line at the end of the account */
    program_expect(program_shell("printf '{\"hash\":\"12' >>%s", path_of("o/tessera-batch.jsonl")), 0);
    unlink(path_of("o/0001_a-panda_s43.png"));
    r = program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o"));
    program_expect(r, 0);
    r = program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o"));
    says(r->err, "2 of 2 rows skipped");
    /* unfinished files of a killed process */
    program_expect(program_shell("mkdir -p %s/.tessera-batch/all/x && touch %s/.tessera-batch/all/.0.tmp-1.png", path_of("o"), path_of("o")), 0);
    program_expect(program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o")), 0);
    same_folders("whole", "o");
    clean();
}
END_TEST

START_TEST(outputs_in_the_way)
{
    put("p.txt", "a panda\na fox\n");
    program_expect(program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o")), 0);
    const program_result *r = program_run("batch %s --out %s " TINY "--steps 3", path_of("p.txt"), path_of("o")); /* other rows of the same names */
    program_expect(r, 2);
    says(r->err, "p.txt:1: ");
    says(r->err, "0001_a-panda_s43.png exists, and is not this row's");
    says(r->err, "2 outputs would replace a file: --overwrite allows it");
    pid_t pid = program_start(path_of("err"), "batch %s --out %s " TINY "--steps 1000 --overwrite", path_of("p.txt"), path_of("o"));
    ck_assert(program_says(pid, path_of("err"), "encoding text"));
    for (int i = 0; i < 200 && lines_with("o/tessera-batch.jsonl", "\"replaces\":true") < 1; i++) pause_ms(20);
    kill(pid, SIGKILL); /* begun, and the other file is still there: that does not make it this row's */
    ck_assert_int_eq(program_wait(pid), 137);
    r = program_run("batch %s --out %s " TINY "--steps 1000 --overwrite --dry-run", path_of("p.txt"), path_of("o"));
    program_expect(r, 0);
    says(r->out, "2 rows to render");
    program_expect(program_run("batch %s --out %s " TINY "--steps 3 --overwrite", path_of("p.txt"), path_of("o")), 0);
    r = program_run("info %s", path_of("o/0001_a-panda_s43.png"));
    says(r->out, "steps        3\n");
    put("q.txt", "a cat --output c --f 5 --format frames\n");
    program_expect(program_run("batch %s --out %s " TINY, path_of("q.txt"), path_of("o")), 0);
    program_expect(program_run("batch %s --out %s " TINY "--steps 3", path_of("q.txt"), path_of("o")), 2);
    program_expect(program_run("batch %s --out %s " TINY "--steps 3 --overwrite", path_of("q.txt"), path_of("o")), 0);
    ck_assert_int_eq(program_files(path_of("o/c")), 5);
    ck_assert(!there("o/.tessera-batch"));
    clean();
}
END_TEST

START_TEST(one_process_a_folder)
{
    char who[64];
    put("p.txt", "a panda --s 1000 --w 64 --h 64 --f 9\n");
    put("q.txt", "a fox\n");
    pid_t pid = program_start(path_of("err"), "batch %s --out %s " TINY, path_of("p.txt"), path_of("o"));
    for (int i = 0; i < 500 && !(there("o/tessera-batch.jsonl") && lines_with("o/tessera-batch.jsonl", "started") == 1); i++) pause_ms(20);
    kill(pid, SIGSTOP); /* so that it is there as long as it is needed */
    snprintf(who, sizeof who, "is in use by process %ld on ", (long)pid);
    const program_result *r = program_run("batch %s --out %s " TINY, path_of("q.txt"), path_of("o"));
    program_expect(r, 2);
    says(r->err, who);
    r = program_run("batch %s --out %s " TINY "--shard 1/2", path_of("q.txt"), path_of("o"));
    program_expect(r, 2);
    says(r->err, who);
    r = program_run("batch --status %s", path_of("o"));
    says(r->out, "at work");
    says(r->out, "0 of 1 rows done, 0 failed, 1 left");
    kill(pid, SIGINT);
    kill(pid, SIGCONT);
    ck_assert_int_eq(program_wait(pid), 130);
    r = program_run("batch --status --out %s", path_of("o"));
    says(r->out, "ended");
    ck_assert(!there("o/.tessera-batch"));
    program_expect(program_run("batch %s --out %s " TINY, path_of("q.txt"), path_of("o")), 0); /* the lock went with the process */
    pid = program_start(path_of("err"), "batch %s --out %s " TINY "--shard 1/2", path_of("p.txt"), path_of("s"));
    for (int i = 0; i < 500 && !(there("s/tessera-batch.1-of-2.jsonl") && lines_with("s/tessera-batch.1-of-2.jsonl", "started") == 1); i++) pause_ms(20);
    kill(pid, SIGSTOP);
    program_expect(program_run("batch %s --out %s " TINY "--shard 2/3", path_of("q.txt"), path_of("s")), 2); /* shares of another division overlap */
    program_expect(program_run("batch %s --out %s " TINY, path_of("q.txt"), path_of("s")), 2);
    program_expect(program_run("batch %s --out %s " TINY "--shard 2/2", path_of("q.txt"), path_of("s")), 0);
    kill(pid, SIGTERM);
    kill(pid, SIGCONT);
    ck_assert_int_eq(program_wait(pid), 143);
    clean();
}
END_TEST

START_TEST(a_row_goes_on_at_its_step)
{
    put("p.txt", "a panda --s 120 --f 5\n");
    program_expect(program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("whole")), 0);
    pid_t pid = program_start(path_of("err"), "batch %s --out %s " TINY "--resume-steps --progress json", path_of("p.txt"), path_of("o"));
    ck_assert(program_says(pid, path_of("err"), "\"step\":20,"));
    kill(pid, SIGKILL);
    ck_assert_int_eq(program_wait(pid), 137);
    const program_result *r = program_run("batch %s --out %s " TINY "--resume-steps --progress json", path_of("p.txt"), path_of("o"));
    program_expect(r, 0);
    ck_assert_int_eq(count(r->err, "\"phase\":\"denoise\",\"step\":10,"), 0);
    ck_assert_int_eq(count(r->err, "\"phase\":\"denoise\",\"step\":120,\"steps\":120,\"layer\":0"), 1);
    same_folders("whole", "o");
    ck_assert(!there("o/.tessera-batch"));
    clean();
}
END_TEST

/* A disk without room is no row's fault: the batch ends, and the row is to do. */
START_TEST(a_full_disk_ends_the_batch)
{
    put("p.txt", "a panda\na fox --scale 16\na cat\n");
    const program_result *r = program_shell("trap '' XFSZ; ulimit -f 8; exec $TESSERA batch %s --out %s " TINY, path_of("p.txt"), path_of("o")); /* of 512 or 1024 bytes */
    program_expect(r, 4);
    says(r->err, "can not be written");
    ck_assert(there("o/0001_a-panda_s43.png") && !there("o/0002_a-fox_s44.png") && !there("o/0003_a-cat_s45.png"));
    r = program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("o"));
    program_expect(r, 0);
    says(r->err, "1 of 3 rows skipped");
    ck_assert(there("o/0002_a-fox_s44.png") && there("o/0003_a-cat_s45.png") && !there("o/.tessera-batch"));
    clean();
}
END_TEST

START_TEST(shares_make_the_whole)
{
    put("p.txt", TWELVE "bad --s 0\n");
    program_expect(program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("whole")), 1);
    int codes = 0;
    for (int i = 1; i <= 4; i++) codes += program_run("batch %s --out %s " TINY "--shard %d/4", path_of("p.txt"), path_of("o"), i)->code;
    ck_assert_int_eq(codes, 1); /* the faulty row is one share's */
    same_folders("whole", "o");
    const program_result *r = program_run("batch --status %s", path_of("o"));
    says(r->out, "12 of 12 rows done, 0 failed, 0 left");
    says(r->out, "4-of-4");
    r = program_run("batch %s --out %s " TINY "--shard 2/3", path_of("p.txt"), path_of("o")); /* shared out anew: all accounts are read */
    says(r->err, "4 of 4 rows skipped");
    r = program_shell("JOB_COMPLETION_INDEX=1 $TESSERA batch %s --out %s " TINY "--shard auto/4 --dry-run", path_of("p.txt"), path_of("o2"));
    program_expect(r, 0);
    says(r->out, "3 rows to render");
    says(r->out, "0002_a-fox_s44.mp4");
    clean();
}
END_TEST

static bool have(const char *program)
{
    bool found = program_shell("command -v %s", program)->code == 0;
    if (!found) printf("skip: no %s\n", program);
    return found;
}

START_TEST(shares_of_gnu_parallel_and_mpirun)
{
    put("p.txt", "a panda\na fox\na cat\na bear\na dog\n");
    program_expect(program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("whole")), 0);
    if (have("parallel")) {
        program_expect(program_shell("HOME=%s parallel --will-cite -j2 $TESSERA batch %s --out %s " TINY "--threads 1 --shard auto/3 '#' {} ::: 1 2 3 </dev/null", tmp, path_of("p.txt"), path_of("o")), 0);
        program_expect(program_shell("diff -rq --exclude='tessera-batch*.jsonl' %s %s || test $(ls %s | grep -c png) = 5", path_of("whole"), path_of("o"), path_of("o")), 0);
        ck_assert(there("o/tessera-batch.3-of-3.jsonl"));
    }
    if (have("mpirun")) {
        program_expect(program_shell("mpirun --allow-run-as-root --oversubscribe -n 2 $TESSERA batch %s --out %s " TINY "--threads 1 --shard auto </dev/null", path_of("p.txt"), path_of("m")), 0);
        ck_assert(there("m/tessera-batch.1-of-2.jsonl") && there("m/tessera-batch.2-of-2.jsonl"));
        program_expect(program_shell("test $(ls %s | grep -c png) = 5", path_of("m")), 0);
    }
    clean();
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("batch_resume");
    TCase *t = tcase_create("batch_resume");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, killed_at_random_moments);
    tcase_add_test(t, every_moment);
    tcase_add_test(t, outputs_in_the_way);
    tcase_add_test(t, one_process_a_folder);
    tcase_add_test(t, a_row_goes_on_at_its_step);
    tcase_add_test(t, a_full_disk_ends_the_batch);
    tcase_add_test(t, shares_make_the_whole);
    tcase_add_test(t, shares_of_gnu_parallel_and_mpirun);
    suite_add_tcase(s, t);
    return testing_main(s);
}
