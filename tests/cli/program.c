/* Child processes, their words and their ends. */
#include "tests/cli/program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 1200 }; /* polls of 50 ms */

static int code_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

char *program_slurp(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
    char *text = NULL;
    size_t n = 0, got;
    do {
        text = realloc(text, n + 65537);
        ck_assert_ptr_nonnull(text);
        n += got = fread(text + n, 1, 65536, f);
    } while (got);
    fclose(f);
    text[n] = 0;
    if (size) *size = n;
    return text;
}

static void keep(const char *path, char *to, size_t size)
{
    char *text = program_slurp(path, NULL);
    snprintf(to, size, "%s", text);
    free(text);
}

/* $TESSERA of the children, whatever folder they go to: what the environment names, else the
 * program at the root of the tree. */
static void name_program(void)
{
    const char *given = getenv("TESSERA");
    char *full = realpath(given && *given ? given : "tessera", NULL);
    ck_assert_msg(full != NULL, "%s: %s", given ? given : "./tessera", strerror(errno));
    setenv("TESSERA", full, 1);
    setenv("TESSERA_CONFIG", "", 0); /* not that of whoever runs the tests */
    free(full);
}

static const program_result *shell(const char *command)
{
    static program_result r;
    static char *folder;
    char out[4096], err[4096], *line = NULL;
    if (!folder) folder = testing_tmp();
    name_program();
    snprintf(out, sizeof out, "%s/out", folder);
    snprintf(err, sizeof err, "%s/err", folder);
    ck_assert(asprintf(&line, "( %s ) >%s 2>%s", command, out, err) > 0);
    r.code = code_of(system(line));
    keep(out, r.out, sizeof r.out);
    keep(err, r.err, sizeof r.err);
    free(line);
    return &r;
}

static char *format(const char *before, const char *args, va_list list)
{
    char *words = NULL, *command = NULL;
    ck_assert(vasprintf(&words, args, list) >= 0);
    ck_assert(asprintf(&command, "%s%s", before, words) > 0);
    free(words);
    return command;
}

const program_result *program_run(const char *args, ...)
{
    va_list list;
    va_start(list, args);
    char *command = format("$TESSERA ", args, list);
    va_end(list);
    const program_result *r = shell(command);
    free(command);
    return r;
}

const program_result *program_shell(const char *command, ...)
{
    va_list list;
    va_start(list, command);
    char *line = format("", command, list);
    va_end(list);
    const program_result *r = shell(line);
    free(line);
    return r;
}

void program_expect(const program_result *r, int code)
{
    /* Check dies of longer messages */
    ck_assert_msg(r->code == code, "exit code %d, expected %d\n%.3000s%.3000s", r->code, code,
                  r->out, r->err);
}

pid_t program_start(const char *err, const char *args, ...)
{
    va_list list;
    va_start(list, args);
    char *command = format("exec $TESSERA ", args, list);
    va_end(list);
    name_program();
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failing test leaves no renderer behind */
        signal(SIGINT, SIG_DFL);          /* a background make ignores it */
        signal(SIGQUIT, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        if (!freopen(err, "w", stderr) || !freopen("/dev/null", "w", stdout)) _exit(99);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(99);
    }
    free(command);
    return pid;
}

static bool has_ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

bool program_says(pid_t pid, const char *err, const char *text)
{
    for (int i = 0; i < PATIENCE; i++) {
        bool there = false;
        if (access(err, R_OK) == 0) {
            char *said = program_slurp(err, NULL);
            there = strstr(said, text) != NULL;
            free(said);
        }
        if (there) return true;
        if (has_ended(pid)) return false;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return false;
}

int program_wait(pid_t pid)
{
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return code_of(status);
}

/* ---- held programs ---- */
enum { PAGE = 4096, PIECE = 256 };

int program_pipe(const char *err)
{
    unlink(err);
    ck_assert_int_eq(mkfifo(err, 0600), 0);
    /* a writer, too: it can be opened before the program does */
    int fd = open(err, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_SETPIPE_SZ, PAGE), PAGE);
    return fd;
}

/* At most PIECE bytes; 0: it has ended and everything is read. */
static ssize_t read_piece(pid_t pid, int fd, char *to)
{
    for (int i = 0; i < PATIENCE; i++) {
        bool ended = has_ended(pid);
        ssize_t n = read(fd, to, PIECE);
        if (n > 0 || ended) return n > 0 ? n : 0;
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 50);
    }
    ck_abort_msg("process %ld is silent", (long)pid);
    return 0;
}

char *program_reads(pid_t pid, int fd, const char *text)
{
    char *said = calloc(1, 1);
    for (size_t n = 0; !strstr(said, text);) {
        said = realloc(said, n + PIECE + 1);
        ck_assert_ptr_nonnull(said);
        ssize_t got = read_piece(pid, fd, said + n);
        said[n += (size_t)got] = 0;
        ck_assert_msg(got > 0, "it ended without \"%s\":\n%.6000s", text, said);
    }
    return said;
}

bool program_reads_bytes(pid_t pid, int fd, long n)
{
    char piece[PIECE];
    for (ssize_t got; n > 0; n -= got)
        if ((got = read_piece(pid, fd, piece)) == 0) return false;
    return true;
}

int program_drain(pid_t pid, int fd)
{
    char piece[PIECE];
    while (read_piece(pid, fd, piece) > 0) {}
    close(fd);
    return program_wait(pid);
}

bool program_same(const char *a, const char *b)
{
    size_t n, m;
    char *x = program_slurp(a, &n), *y = program_slurp(b, &m);
    bool same = n == m && n > 0 && !memcmp(x, y, n);
    free(x);
    free(y);
    return same;
}

int program_files(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    ck_assert_msg(d != NULL, "%s", folder);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}
