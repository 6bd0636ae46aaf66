/* Workers that share rows through a real Redis server on the loopback: each row is rendered once, whoever dies or sleeps in between. */
#include "tests/cli/program.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TINY "--size 32x32 --frames 1 --steps 2 --scale 1 --threads 1 "
static char *tmp;
static int port;
static const char *program = "redis-server"; /* Debian's redis-tools have the same binary under another name, and install no daemon */

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

static void says(const char *text, const char *phrase) { ck_assert_msg(strstr(text, phrase) != NULL, "\"%s\" is not in\n%s", phrase, text); }
static void pause_ms(long ms) { nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL); }

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s, (struct sockaddr *)&a, sizeof a) || getsockname(s, (struct sockaddr *)&a, &n)) return 0;
    close(s);
    return ntohs(a.sin_port);
}

static bool answers(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    bool good = connect(s, (struct sockaddr *)&a, sizeof a) == 0;
    close(s);
    return good;
}

static pid_t serve(const char *more)
{
    char at[16];
    snprintf(at, sizeof at, "%d", port);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen("/dev/null", "w", stdout)) _exit(99);
        execlp(program, "redis-server", "--port", at, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", more ? "--requirepass" : (char *)NULL, more, (char *)NULL);
        _exit(99);
    }
    for (int i = 0; i < 200 && !answers(); i++) pause_ms(50);
    ck_assert_msg(answers(), "redis-server does not answer");
    return pid;
}

static void end(pid_t server)
{
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    program_expect(program_shell("find %s -mindepth 1 -delete", tmp), 0);
}

static pid_t worker(const char *err, const char *more)
{
    return program_start(path_of(err), "batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q --claim-timeout 2 %s", path_of("p.txt"), path_of("o"), port, more);
}

/* Lines of all accounts that hold both texts. */
static int account(const char *a, const char *b, const char *without)
{
    int n = 0;
    char line[4096];
    DIR *d = opendir(path_of("o"));
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4700];
        if (strncmp(e->d_name, "tessera-batch", 13)) continue;
        snprintf(path, sizeof path, "%s/o/%s", tmp, e->d_name);
        FILE *f = fopen(path, "r");
        while (fgets(line, sizeof line, f)) n += strstr(line, a) && strstr(line, b) && !(without && strstr(line, without));
        fclose(f);
    }
    if (d) closedir(d);
    return n;
}

START_TEST(four_workers_one_killed_one_asleep)
{
    enum { ROWS = 14, WORKERS = 4 };
    pid_t server = serve(NULL), w[WORKERS];
    char names[WORKERS][8];
    FILE *f = fopen(path_of("p.txt"), "w");
    for (int i = 1; i <= ROWS; i++) fprintf(f, "a panda --s %d --f %d\n", i < 3 ? 100 : 10, i < 3 ? 5 : 1);
    fclose(f);
    program_expect(program_run("batch %s --out %s " TINY, path_of("p.txt"), path_of("whole")), 0);
    for (int i = 0; i < 2; i++) snprintf(names[i], sizeof names[i], "err%d", i), w[i] = worker(names[i], "");
    for (int i = 0; i < 2000 && account("\"started\"", "", NULL) < 2; i++) pause_ms(10); /* each in one of the long rows */
    ck_assert_int_eq(account("\"started\"", "", NULL), 2);
    kill(w[0], SIGKILL);
    kill(w[1], SIGSTOP);
    ck_assert_int_eq(program_wait(w[0]), 137);
    for (int i = 2; i < WORKERS; i++) snprintf(names[i], sizeof names[i], "err%d", i), w[i] = worker(names[i], "");
    for (int i = 2; i < WORKERS; i++) {
        int code = program_wait(w[i]);
        ck_assert_msg(code == 0, "exit code %d\n%s", code, program_slurp(path_of(names[i]), NULL));
    }
    const program_result *r = program_shell("diff -r --exclude='tessera-batch*.jsonl' --exclude=.tessera-batch %s %s", path_of("whole"), path_of("o"));
    ck_assert_msg(r->code == 0, "%s%s", r->out, r->err); /* all of them, the two of the lost workers as well */
    program_expect(program_shell("cp -rp %s %s", path_of("o"), path_of("before")), 0);
    kill(w[1], SIGCONT); /* it wakes up in the middle of a row that is finished, and throws its own away */
    int code = program_wait(w[1]);
    ck_assert_msg(code == 0, "exit code %d\n%s", code, program_slurp(path_of("err1"), NULL));
    r = program_shell("cd %s && find . -name '*.png' -printf '%%p %%i %%T@\\n' | sort >%s && cd %s && find . -name '*.png' -printf '%%p %%i %%T@\\n' | sort | cut -d' ' -f1 >%s", path_of("o"), path_of("list"),
                      path_of("before"), path_of("list2"));
    program_expect(program_shell("cut -d' ' -f1 %s | diff - %s", path_of("list"), path_of("list2")), 0);
    program_expect(program_shell("diff -r --exclude='tessera-batch*.jsonl' --exclude=.tessera-batch %s %s", path_of("whole"), path_of("o")), 0);
    ck_assert_int_eq(account("\"done\"", "", "\"found\""), ROWS); /* published once each */
    for (int i = 1; i <= ROWS; i++) {
        char name[16];
        snprintf(name, sizeof name, "\"%04d_", i);
        ck_assert_msg(account("\"done\"", name, NULL) == 1, "row %d", i);
    }
    program_expect(program_run("batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q", path_of("p.txt"), path_of("o"), port), 0); /* nothing is left, no waiting */
    ck_assert_int_eq(account("\"done\"", "", "\"found\""), ROWS);
    ck_assert_msg(access(path_of("o/.tessera-batch"), F_OK) != 0, "unfinished work was left");
    end(server);
}
END_TEST

/* A row takes longer than the timeout: its worker says now and then that it is there, and keeps it. */
START_TEST(a_long_row_stays_with_its_worker)
{
    pid_t server = serve(NULL), w[2];
    put("p.txt", "a panda --s 250 --w 64 --h 64 --f 9\n");
    for (int i = 0; i < 2; i++) {
        w[i] = program_start(path_of(i ? "err1" : "err0"), "batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q --claim-timeout 1", path_of("p.txt"), path_of("o"), port);
        for (int k = 0; k < 500 && account("\"started\"", "", NULL) < 1; k++) pause_ms(10);
    }
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    ck_assert_int_eq(program_wait(w[0]), 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    ck_assert_int_eq(program_wait(w[1]), 0);
    ck_assert_int_eq(account("\"started\"", "", NULL), 1);
    ck_assert_int_eq(account("\"done\"", "", NULL), 1);
    ck_assert_msg(b.tv_sec - a.tv_sec >= 1, "the row was too short for this test");
    end(server);
}
END_TEST

START_TEST(a_stopped_worker_gives_its_row_back)
{
    pid_t server = serve(NULL);
    put("p.txt", "a panda --s 1000 --f 9\na fox\n");
    pid_t w = program_start(path_of("err"), "batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q --resume-steps --progress json", path_of("p.txt"), path_of("o"), port); /* 900 s until a claim is void */
    ck_assert(program_says(w, path_of("err"), "\"step\":5,"));
    kill(w, SIGTERM);
    ck_assert_int_eq(program_wait(w), 143);
    w = program_start(path_of("err2"), "batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q --resume-steps --progress json", path_of("p.txt"), path_of("o"), port);
    ck_assert(program_says(w, path_of("err2"), "\"phase\":\"denoise\",\"step\":"));
    ck_assert(program_says(w, path_of("err2"), "\"steps\":1000,\"layer\":"));
    char *said = program_slurp(path_of("err2"), NULL);
    ck_assert_msg(!strstr(said, "\"step\":2,\"steps\":1000"), "it began anew"); /* where the first one was */
    free(said);
    kill(w, SIGTERM);
    ck_assert_int_eq(program_wait(w), 143);
    end(server);
}
END_TEST

START_TEST(failures_and_refusals)
{
    pid_t server = serve("secret");
    put("p.txt", "a panda\nhuge --w 4096 --h 4096 --f 33\nbad --s 0\na fox\n");
    const program_result *r = program_run("batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q", path_of("p.txt"), path_of("o"), port);
    program_expect(r, 4);
    says(r->err, "NOAUTH");
    r = program_run("batch %s --out %s " TINY "--queue redis://:wrong@127.0.0.1:%d/q", path_of("p.txt"), path_of("o"), port);
    program_expect(r, 4);
    ck_assert_msg(!strstr(r->err, "wrong@"), "the password is told: %s", r->err);
    r = program_run("batch %s --out %s " TINY "--memory 64M --queue redis://:secret@127.0.0.1:%d/q", path_of("p.txt"), path_of("o"), port);
    program_expect(r, 1);
    says(r->err, "2 of 4 rows: 1 can not be used, 1 failed");
    r = program_shell("REDISCLI_AUTH=secret $TESSERA batch %s --out %s " TINY "--memory 64M --queue redis://127.0.0.1:%d/q", path_of("p.txt"), path_of("o"), port);
    program_expect(r, 1);
    says(r->err, "2 of 4 rows skipped");
    says(r->err, "1 failed before");
    put("p.txt", "another\n");
    r = program_run("batch %s --out %s " TINY "--queue redis://:secret@127.0.0.1:%d/q", path_of("p.txt"), path_of("o2"), port);
    program_expect(r, 2);
    says(r->err, "q holds another batch (3 rows, from other files or other flags)");
    static const char *const bad[] = {"http://x/y", "redis://127.0.0.1", "redis://127.0.0.1/", "redis://127.0.0.1:x/q", "redis://127.0.0.1:99999/q", "redis:///q", "redis://h/a/b", "rediss://h/q", "redis://x@h/q",
                                      "redis://[::1/q"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r = program_run("batch %s --out %s " TINY "--queue %s", path_of("p.txt"), path_of("o3"), bad[i]);
        ck_assert_msg(r->code == 2 && strstr(r->err, "--queue: "), "%s: %d %s", bad[i], r->code, r->err);
    }
    end(server);
    put("p.txt", "a panda\n");
    r = program_run("batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q", path_of("p.txt"), path_of("o3"), port);
    program_expect(r, 4);
    says(r->err, "Connection refused");
    ck_assert_msg(access(path_of("o3"), F_OK) != 0, "a folder was made for nothing");
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("batch_queue");
    TCase *t = tcase_create("batch_queue");
    tcase_set_timeout(t, 0);
    if (system("command -v redis-server >/dev/null")) program = "redis-check-rdb";
    if (system("command -v redis-server >/dev/null || (command -v redis-check-rdb >/dev/null && test -f /etc/debian_version)")) { /* no test runs yet: program_run has none to fail */
        printf("skip: no redis-server\n");
    } else if (system("echo x | ${TESSERA:-./tessera} batch - --out /dev/null --queue redis://localhost/q 2>&1 | grep -q 'no Redis client'") == 0) {
        printf("skip: built without hiredis\n");
    } else {
        port = free_port();
        tcase_add_test(t, four_workers_one_killed_one_asleep);
        tcase_add_test(t, a_long_row_stays_with_its_worker);
        tcase_add_test(t, a_stopped_worker_gives_its_row_back);
        tcase_add_test(t, failures_and_refusals);
    }
    suite_add_tcase(s, t);
    return testing_main(s);
}
