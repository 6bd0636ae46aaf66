/* Workers that share rows through a real Redis server on the loopback: each row is rendered once,
 * whoever dies or sleeps in between. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

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

#define TINY                                                   \
    "--size 32x32 --frames 1 --steps 2 --scale 1 --threads 1 " \
    "--name {index:04}_{slug:60}_s{seed} "
static const char *tmp;
static int port;
/* Debian's redis-tools have the same binary under another name, and install no daemon */
static const char *program = "redis-server";

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(s, (struct sockaddr *)&a, sizeof a) || getsockname(s, (struct sockaddr *)&a, &n))
        return 0;
    close(s);
    return ntohs(a.sin_port);
}

static bool answers(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)port)};
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
        execlp(program, "redis-server", "--port", at, "--bind", "127.0.0.1", "--save", "",
               "--appendonly", "no", more ? "--requirepass" : (char *)NULL, more, (char *)NULL);
        _exit(99);
    }
    for (int i = 0; i < 1200 && !answers(); i++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    ck_assert_msg(answers(), "redis-server does not answer");
    return pid;
}

static void end(pid_t server)
{
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    scratch_clear();
}

static pid_t worker(const char *err, const char *more)
{
    /* 900 s until a claim is void */
    return program_start(scratch_path(err),
                         "batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q %s",
                         scratch_path("p.txt"), scratch_path("o"), port, more);
}

/* What a script says of the claims `p` ([id, consumer, idle ms, times delivered] each); a whole
 * number. */
static long claims(const char *then)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)port)};
    char line[512] = "";
    size_t n = 0;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert(connect(s, (struct sockaddr *)&a, sizeof a) == 0);
    dprintf(
        s,
        "EVAL \"local p = redis.call('XPENDING', KEYS[1], 'tessera', '-', '+', 100) %s\" 1 q\r\n",
        then);
    while (n + 1 < sizeof line && !strchr(line, '\n') && read(s, line + n, 1) == 1) n++;
    close(s);
    ck_assert_msg(line[0] == ':', "%s", line);
    return strtol(line + 1, NULL, 10);
}
#define AGED "1000000" /* ms: as if their workers had not been heard of for so long */
#define AGE                                                                                        \
    "for i = 1, #p do redis.call('XCLAIM', KEYS[1], 'tessera', p[i][2], 0, p[i][1], 'IDLE', " AGED \
    ", 'JUSTID') end return #p"

/* Lines of all manifests that hold both texts. */
static int count_lines(const char *a, const char *b, const char *without)
{
    int n = 0;
    char line[4096];
    DIR *d = opendir(scratch_path("o"));
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4700];
        if (strncmp(e->d_name, "tessera-batch", 13)) continue;
        snprintf(path, sizeof path, "%s/o/%s", tmp, e->d_name);
        FILE *f = fopen(path, "r");
        while (fgets(line, sizeof line, f))
            n += strstr(line, a) && strstr(line, b) && !(without && strstr(line, without));
        fclose(f);
    }
    if (d) closedir(d);
    return n;
}

START_TEST(four_workers_one_killed_one_asleep)
{
    enum { ROWS = 14, WORKERS = 4 };
    pid_t server = serve(NULL), w[WORKERS];
    int held[2];
    char names[WORKERS][8];
    FILE *f = fopen(scratch_path("p.txt"), "w");
    for (int i = 1; i <= ROWS; i++)
        fprintf(f, "a panda --s %d --f %d\n", i < 3 ? 100 : 10, i < 3 ? 5 : 1);
    fclose(f);
    program_expect(
        program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("whole")), 0);
    for (int i = 0; i < WORKERS; i++) snprintf(names[i], sizeof names[i], "err%d", i);
    for (int i = 0; i < 2; i++) { /* each in one of the long rows, whose events are several pages */
        held[i] = program_pipe(scratch_path(names[i]));
        w[i] = worker(names[i], "--progress json");
        free(program_reads(w[i], held[i], "\"phase\":\"denoise\",\"step\":2,"));
    }
    ck_assert(kill(w[0], SIGKILL) == 0 && kill(w[1], SIGSTOP) == 0);
    ck_assert_int_eq(program_drain(w[0], held[0]), 137);
    ck_assert_int_eq(count_lines("\"started\"", "", NULL), 2);
    ck_assert_int_eq(claims(AGE), 2);
    for (int i = 2; i < WORKERS; i++) w[i] = worker(names[i], "");
    for (int i = 2; i < WORKERS; i++) {
        int code = program_wait(w[i]);
        ck_assert_msg(code == 0, "exit code %d\n%s", code,
                      program_slurp(scratch_path(names[i]), NULL));
    }
    const program_result *r = program_shell(
        "diff -r --exclude='tessera-batch*.jsonl' --exclude=.tessera-batch %s %s",
        scratch_path("whole"), scratch_path("o"));
    /* all of them, the two of the lost workers as well */
    ck_assert_msg(r->code == 0, "%s%s", r->out, r->err);
    program_expect(program_shell("find %s -name '*.png' -printf '%%p %%i %%T@\n' -o -name '*.mp4' "
                                 "-printf '%%p %%i %%T@\n' | sort >%s",
                                 scratch_path("o"), scratch_path("before")),
                   0);
    /* it wakes up in the middle of a row that is finished, throws its own away, and says so */
    ck_assert(kill(w[1], SIGCONT) == 0);
    char *said = program_reads(w[1], held[1], "another worker took this row over");
    free(said);
    ck_assert_int_eq(program_drain(w[1], held[1]), 1);
    program_expect(program_shell("find %s -name '*.png' -printf '%%p %%i %%T@\n' -o -name '*.mp4' "
                                 "-printf '%%p %%i %%T@\n' | sort | diff %s -",
                                 scratch_path("o"), scratch_path("before")),
                   0);
    /* nobody took a row whose worker was at work */
    ck_assert_int_eq(count_lines("\"started\"", "", NULL), ROWS + 2);
    ck_assert_int_eq(count_lines("\"done\"", "", "\"found\""), ROWS); /* published once each */
    for (int i = 1; i <= ROWS; i++) {
        char name[16];
        snprintf(name, sizeof name, "\"%04d_", i);
        ck_assert_msg(count_lines("\"done\"", name, NULL) == 1, "row %d", i);
    }
    /* nothing is left, no waiting */
    program_expect(program_run("batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q",
                               scratch_path("p.txt"), scratch_path("o"), port),
                   0);
    ck_assert_int_eq(count_lines("\"done\"", "", "\"found\""), ROWS);
    ck_assert_msg(access(scratch_path("o/.tessera-batch"), F_OK) != 0, "unfinished work was left");
    end(server);
}
END_TEST

/* A row may take longer than the timeout, and stand still in a write or a decoder: its worker says
 * now and then that it is there. Nobody reads its events meanwhile. */
START_TEST(a_long_row_stays_with_its_worker)
{
    pid_t server = serve(NULL);
    scratch_put("p.txt", "a panda --s 1000\n");
    int held = program_pipe(scratch_path("err"));
    pid_t w = worker("err", "--progress json --claim-timeout 1");
    free(program_reads(w, held, "\"phase\":\"denoise\",\"step\":2,"));
    ck_assert_int_eq(claims(AGE), 1);
    for (int i = 0; claims("return p[1][3]") >= atol(AGED); i++) {
        ck_assert_msg(i < 1200, "the claim grows old though its worker is there");
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    ck_assert_int_eq(claims("return p[1][4]"), 1); /* which is no new attempt */
    kill(w, SIGTERM);
    ck_assert_int_eq(program_drain(w, held), 143);
    ck_assert_int_eq(count_lines("\"started\"", "", NULL), 1);
    ck_assert_int_gt(claims("return p[1][3]"), 1000); /* nobody needs to wait for it */
    end(server);
}
END_TEST

/* Two workers and one row, which is for longer in a tiled decode than a claim lasts. */
START_TEST(a_long_decode_stays_with_its_worker)
{
    pid_t server = serve(NULL);
    scratch_put("p.txt", "a panda --w 64 --h 64 --f 57\n");
    int held = program_pipe(scratch_path("err"));
    pid_t w = worker("err", "--progress json --vae-tile 32x32 --claim-timeout 4"), other;
    free(program_reads(w, held, "\"phase\":\"decode\""));
    other = worker("other", "--vae-tile 32x32 --claim-timeout 4");
    ck_assert(program_says(other, scratch_path("other"), "waiting: 1 row is at other workers"));
    nanosleep(&(struct timespec){.tv_sec = 7}, NULL);
    ck_assert_int_eq(claims("return p[1][4]"), 1);
    ck_assert_int_eq(program_drain(w, held), 0);
    ck_assert_int_eq(program_wait(other), 0);
    ck_assert_int_eq(count_lines("\"started\"", "", NULL), 1);
    ck_assert_int_eq(count_lines("\"done\"", "", NULL), 1);
    end(server);
}
END_TEST

START_TEST(a_row_that_ends_its_workers_fails)
{
    pid_t server = serve(NULL);
    scratch_put("p.txt", "a panda --s 100\na fox\n");
    for (int i = 0; i < 3; i++) {
        int held = program_pipe(scratch_path("err"));
        pid_t w = worker("err", "--progress json");
        free(program_reads(w, held, "\"phase\":\"denoise\""));
        kill(w, SIGKILL);
        ck_assert_int_eq(program_drain(w, held), 137);
        ck_assert_int_eq(claims(AGE), 1);
    }
    const program_result *r = program_run("batch %s --out %s " TINY
                                          "--queue redis://127.0.0.1:%d/q",
                                          scratch_path("p.txt"), scratch_path("o"), port);
    program_expect(r, 1);
    text_has(r->out, "3 workers began it and were not heard of again");
    ck_assert(!scratch_has("o/0001_a-panda_s42.png") && scratch_has("o/0002_a-fox_s42.png"));
    end(server);
}
END_TEST

/* Opens DIR/tessera-batch.HOST-PID.jsonl and locks it, as a worker of that number does. */
static int lock_as_worker(const char *host, pid_t pid)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[4400];
    snprintf(path, sizeof path, "%s/o/tessera-batch.%s-%ld.jsonl", tmp, host, (long)pid);
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    return fd < 0 || fcntl(fd, F_OFD_SETLK, &l) ? -1 : fd;
}

/* Containers that share the host's name: a worker of the same process number is at work, and one of
 * a number that no process here has. */
START_TEST(workers_of_other_containers)
{
    pid_t server = serve(NULL), hidden = 0x7ffffff0; /* more than there can be */
    char host[65] = "", queue[64], words[4400];
    gethostname(host, sizeof host - 1);
    snprintf(queue, sizeof queue, "redis://127.0.0.1:%d/q", port);
    scratch_put("p.txt", "a panda\na fox\n");
    snprintf(words, sizeof words, "mkdir -p %s/o/.tessera-batch/%s-%ld/row", tmp, host,
             (long)hidden);
    program_expect(program_shell("%s", words), 0);
    int held = lock_as_worker(host, hidden);
    ck_assert_int_ge(held, 0);
    pid_t pid = fork();
    if (pid == 0) { /* the lock stays with this process through exec */
        if (lock_as_worker(host, getpid()) < 0) _exit(99);
        execlp(getenv("TESSERA"), "tessera", "batch", scratch_path("p.txt"), "--out",
               scratch_path("o"), "--size", "32x32", "--frames", "1", "--steps", "1", "--quiet",
               "--queue", queue, NULL);
        _exit(98);
    }
    ck_assert_int_eq(program_wait(pid), 0);
    snprintf(words, sizeof words, "o/tessera-batch.%s-%ld.2.jsonl", host, (long)pid);
    ck_assert_int_eq(scratch_count(words, "\"done\""), 2);
    snprintf(words, sizeof words, "o/.tessera-batch/%s-%ld/row", host, (long)hidden);
    ck_assert_msg(scratch_has(words), "the folder of a worker at work was removed");
    close(held);
    program_expect(program_run("batch %s --out %s --size 32x32 --frames 1 --steps 1 --queue %s",
                               scratch_path("p.txt"), scratch_path("o"), queue),
                   0);
    ck_assert_msg(!scratch_has(words), "the folder of a dead worker stays");
    end(server);
}
END_TEST

START_TEST(a_stopped_worker_gives_its_row_back)
{
    pid_t server = serve(NULL);
    scratch_put("p.txt", "a panda --s 1000 --f 9\na fox\n");
    int held = program_pipe(scratch_path("err"));
    pid_t w = worker("err", "--resume-steps --progress json");
    free(program_reads(w, held, "\"step\":5,"));
    kill(w, SIGTERM);
    ck_assert_int_eq(program_drain(w, held), 143);
    held = program_pipe(scratch_path("err"));
    w = worker("err", "--resume-steps --progress json");
    char *said = program_reads(w, held, "\"phase\":\"denoise\",\"step\":"),
         *more = program_reads(w, held, "\"step\":");
    /* the first one was there */
    ck_assert_msg(atoi(strstr(more, "\"step\":") + 7) > 5, "it began anew\n%s", more);
    free(said);
    free(more);
    kill(w, SIGTERM);
    ck_assert_int_eq(program_drain(w, held), 143);
    end(server);
}
END_TEST

/* What was rendered and deleted, or overwritten by another row, is rendered again, as without a
 * queue; where the manifest is gone, too, the queue's word is not taken for a success. */
START_TEST(outputs_that_are_gone)
{
    pid_t server = serve(NULL);
    scratch_put("p.txt", "a panda\na fox\n");
    static const struct {
        const char *before, *more;
        int code, done;
    } run[] = {{"true", "", 0, 2},    {"rm o/0001*", "", 0, 1},
               {"true", "", 0, 0},    {": >o/0002_a-fox_s42.png", "", 0, 1},
               {"rm -r o", "", 1, 0}, {"true", "--retry", 0, 2}};
    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        program_expect(program_shell("cd %s && %s", tmp, run[i].before), 0);
        const program_result *r = program_run(
            "batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q %s", scratch_path("p.txt"),
            scratch_path("o"), port, run[i].more);
        ck_assert_msg(r->code == run[i].code && text_count(r->out, "done ") == run[i].done,
                      "%zu: exit code %d\n%s%s", i, r->code, r->out, r->err);
        if (r->code) text_has(r->err, "2 finished, says the queue, but not there");
    }
    end(server);
}
END_TEST

/* A worker whose run ends with failed rows in the queue says so, whoever had them. */
START_TEST(a_row_that_failed_elsewhere_is_told)
{
    pid_t server = serve(NULL);
    scratch_put("p.txt", "a panda\nlarge --w 1024 --h 1024 --f 33\na fox\n");
    const program_result *r = program_run("batch %s --out %s " TINY
                                          "--memory 64M --queue redis://127.0.0.1:%d/q",
                                          scratch_path("p.txt"), scratch_path("o"), port);
    program_expect(r, 1);
    text_has(r->err, "1 of 3 rows: 1 failed\n");
    program_expect(program_shell("sed -i '/\"failed\"/d' %s/o/*.jsonl", tmp), 0);
    r = program_run("batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q",
                    scratch_path("p.txt"), scratch_path("o"), port);
    program_expect(r, 1);
    text_has(r->err, "0 done here, 0 failed, 2 skipped in ");
    text_has(r->err, "; other workers: 0 done, 1 failed");
    text_has(r->err, "1 of 3 rows: 1 failed at other workers (--status tells why)");
    end(server);
}
END_TEST

START_TEST(failures_and_refusals)
{
    pid_t server = serve("secret");
    scratch_put("p.txt", "a panda\nhuge --w 4096 --h 4096 --f 33\nbad --s 0\na fox\n");
    const program_result *r = program_run("batch %s --out %s " TINY
                                          "--queue redis://127.0.0.1:%d/q",
                                          scratch_path("p.txt"), scratch_path("o"), port);
    program_expect(r, 4);
    text_has(r->err, "NOAUTH");
    r = program_run("batch %s --out %s " TINY "--queue redis://:wrong@127.0.0.1:%d/q",
                    scratch_path("p.txt"), scratch_path("o"), port);
    program_expect(r, 4);
    ck_assert_msg(!strstr(r->err, "wrong@"), "the password is told: %s", r->err);
    r = program_run("batch %s --out %s " TINY "--memory 64M --queue redis://:secret@127.0.0.1:%d/q",
                    scratch_path("p.txt"), scratch_path("o"), port);
    program_expect(r, 1);
    text_has(r->err, "2 of 4 rows: 1 can not be used, 1 failed");
    ck_assert_int_gt(count_lines("\"command\"", "--queue redis://127.0.0.1:", NULL), 0);
    ck_assert_int_eq(count_lines("secret", "", NULL) + count_lines("wrong", "", NULL), 0);
    r = program_shell("REDISCLI_AUTH=secret $TESSERA batch %s --out %s " TINY
                      "--memory 64M --queue redis://127.0.0.1:%d/q",
                      scratch_path("p.txt"), scratch_path("o"), port);
    program_expect(r, 1);
    text_has(r->err, "2 of 4 rows skipped");
    text_has(r->err, "1 failed before");
    scratch_put("p.txt", "another\n");
    r = program_run("batch %s --out %s " TINY "--queue redis://:secret@127.0.0.1:%d/q",
                    scratch_path("p.txt"), scratch_path("o2"), port);
    program_expect(r, 2);
    text_has(r->err, "q holds another batch (3 rows, from other files or other flags)");
    static const char *const bad[] = {"http://x/y",
                                      "redis://127.0.0.1",
                                      "redis://127.0.0.1/",
                                      "redis://127.0.0.1:x/q",
                                      "redis://127.0.0.1:99999/q",
                                      "redis:///q",
                                      "redis://h/a/b",
                                      "rediss://h/q",
                                      "redis://x@h/q",
                                      "redis://[::1/q"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r = program_run("batch %s --out %s " TINY "--queue %s", scratch_path("p.txt"),
                        scratch_path("o3"), bad[i]);
        ck_assert_msg(r->code == 2 && strstr(r->err, "--queue: "), "%s: %d %s", bad[i], r->code,
                      r->err);
    }
    end(server);
    scratch_put("p.txt", "a panda\n");
    r = program_run("batch %s --out %s " TINY "--queue redis://127.0.0.1:%d/q",
                    scratch_path("p.txt"), scratch_path("o3"), port);
    program_expect(r, 4);
    text_has(r->err, "Connection refused");
    ck_assert_msg(access(scratch_path("o3"), F_OK) != 0, "a folder was made for nothing");
}
END_TEST

/* Where everything is to be tested (CI=true), what can not be is a failure. */
START_TEST(nothing_is_left_out)
{
    const char *ci = getenv("CI");
    ck_assert_msg(!ci || strcmp(ci, "true") != 0, "the queue is not tested: no redis-server, or "
                                                  "built without hiredis");
}
END_TEST

int main(void)
{
    tmp = scratch_open();
    Suite *s = suite_create("batch_queue");
    TCase *t = tcase_create("batch_queue");
    tcase_set_timeout(t, 0);
    if (system("command -v redis-server >/dev/null")) program = "redis-check-rdb";
    /* no test runs yet: program_run has none to fail */
    if (system("command -v redis-server >/dev/null || (command -v redis-check-rdb >/dev/null && "
               "test -f /etc/debian_version)")) {
        printf("skip: no redis-server\n");
        tcase_add_test(t, nothing_is_left_out);
    } else if (system("echo x | ${TESSERA:-./tessera} batch - --out /tmp/none --queue "
                      "redis://localhost/q 2>&1 | grep -q 'no Redis client'") == 0) {
        printf("skip: built without hiredis\n");
        tcase_add_test(t, nothing_is_left_out);
    } else {
        port = free_port();
        tcase_add_test(t, four_workers_one_killed_one_asleep);
        tcase_add_test(t, a_long_row_stays_with_its_worker);
        tcase_add_test(t, a_long_decode_stays_with_its_worker);
        tcase_add_test(t, a_row_that_ends_its_workers_fails);
        tcase_add_test(t, workers_of_other_containers);
        tcase_add_test(t, a_stopped_worker_gives_its_row_back);
        tcase_add_test(t, outputs_that_are_gone);
        tcase_add_test(t, a_row_that_failed_elsewhere_is_told);
        tcase_add_test(t, failures_and_refusals);
    }
    suite_add_tcase(s, t);
    return testing_main(s);
}
