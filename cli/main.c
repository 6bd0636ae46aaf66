/* The program: picks the command, installs the signal handlers, turns a status into an exit code.
 * Nothing below this folder prints or exits. */
#include "backend/nearest.h"
#include "cli/batch/batch.h"
#include "cli/commands.h"
#include "cli/prompt_text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The library only reads it, the handler only writes it: the one thing that a signal handler can
 * reach. */
static volatile int stop_signal;

/* What people send and what schedulers send before they kill. A second one that people send ends
 * the program at once; those of schedulers may come several times (SIGXCPU every second). */
static const struct {
    int number;
    bool repeats;
    const char *said;
} stops[] = {
    {SIGINT, false, "interrupted"},
    {SIGTERM, false, "terminated"},
    {SIGHUP, false, "hung up"},
    {SIGQUIT, false, "stopped by SIGQUIT"},
    {SIGUSR1, true, "stopped by SIGUSR1"},
    {SIGUSR2, true, "stopped by SIGUSR2"},
    {SIGXCPU, true, "stopped: the limit of CPU time is reached"},
    {SIGALRM, true, "stopped by SIGALRM"},
};
enum { STOPS = sizeof stops / sizeof *stops };

static void on_signal(int number)
{
    __atomic_store_n(&stop_signal, number, __ATOMIC_RELAXED);
    for (int i = 0; i < STOPS; i++)
        if (stops[i].number == number && stops[i].repeats) return;
    for (int i = 0; i < STOPS; i++)
        if (!stops[i].repeats) signal(stops[i].number, SIG_DFL);
}

/* ---- time stopped by Ctrl-Z is no time of the run ---- */
static long long stopped; /* nanoseconds; only the handler writes it */

static long long clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void on_suspend(int number)
{
    int saved = errno;
    long long from = clock_ns();
    (void)number;
    raise(SIGSTOP); /* until SIGCONT */
    __atomic_add_fetch(&stopped, clock_ns() - from, __ATOMIC_RELAXED);
    errno = saved;
}

static double running_seconds(void)
{
    return 1e-9 * (double)(clock_ns() - __atomic_load_n(&stopped, __ATOMIC_RELAXED));
}

static void catch_suspend(void)
{
    struct sigaction old, sa = {.sa_handler = on_suspend, .sa_flags = SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGTSTP, NULL, &old);
    if (old.sa_handler != SIG_IGN) sigaction(SIGTSTP, &sa, NULL);
}

/* Threads at work may keep signals out (backend/quiet.h): here they are always handled at once. */
static void *wait_for_signals(void *unused)
{
    for (;;) pause();
    return unused;
}

static void catch_signals(void)
{
    pthread_t waits;
    for (int i = 0; i < STOPS; i++) {
        struct sigaction old, sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigemptyset(&sa.sa_mask);
        sigaction(stops[i].number, NULL, &old);
        if (old.sa_handler == SIG_IGN) continue; /* nohup, or a background job of a script */
        sigaction(stops[i].number, &sa, NULL);
    }
    /* a run goes on when the reader of its progress has ended */
    signal(SIGPIPE, SIG_IGN);
    /* beyond the limit of a file's size a write fails as on a full disk */
    signal(SIGXFSZ, SIG_IGN);
    if (!pthread_create(&waits, NULL, wait_for_signals, NULL)) pthread_detach(waits);
}

static const char *stop_text(int code)
{
    for (int i = 0; i < STOPS; i++)
        if (code == 128 + stops[i].number) return stops[i].said;
    return "stopped";
}

static int exit_code(ts_status st)
{
    int number = __atomic_load_n(&stop_signal, __ATOMIC_RELAXED);
    switch (st) {
    case TS_OK: return 0;
    case TS_EFAIL: return 1;
    case TS_EUSAGE: return 2;
    case TS_EMODEL:
    case TS_ESHAPE: return 3;
    case TS_EMEMORY:
    case TS_EDEVICE:
    case TS_ENUMBER:
    case TS_EIO: return 4;
    case TS_ESTOP: return 128 + (number ? number : SIGINT);
    }
    return 4;
}

/* Results that did not reach stdout are a failure, except that a reader which had enough is
 * none. */
static int flush_results(ts_screen *s, int code)
{
    bool full = fflush(stdout) != 0;
    int why = full ? errno : EIO;
    struct pollfd out = {.fd = STDOUT_FILENO};
    if (!full && !ferror(stdout)) return code;
    if (poll(&out, 1, 0) > 0 && out.revents & POLLERR) return code; /* a pipe without a reader */
    char text[128];
    snprintf(text, sizeof text, "standard output can not be written: %s", strerror(why));
    ts_screen_error(s, 4, text);
    return code ? code : 4;
}

static ts_status print_version(ts_cli *c)
{
    ts_status st = ts_cli_open(c);
    if (st) return st;
    char *text = ts_versions(c->ctx);
    const char *client = ts_queue_client();
    fputs(text ? text : "", stdout);
    free(text);
    printf("%s\n", client ? client : "no hiredis: built without batch --queue");
    st = ts_model_open(c->ctx, NULL, &c->model);
    if (st)
        printf("no default model: %s\n", ts_error(c->ctx));
    else
        puts("default model installed");
    return TS_OK;
}

static ts_status refuse_unknown_command(ts_err *err, const char *word)
{
    enum { MOST = 32 };
    const char *names[MOST], *near;
    int n;
    const ts_command *all = ts_commands(&n);
    for (int i = 0; i < n; i++) names[i] = all[i].name;
    names[n] = "help";
    names[n + 1] = NULL;
    near = ts_nearest(word, names);
    if (near)
        return ts_fail(err, TS_EUSAGE, "unknown command \"%.64s\": did you mean %s?", word, near);
    if (strchr(word, ' '))
        return ts_fail(
            err, TS_EUSAGE,
            "unknown command \"%.64s\": a prompt goes to generate: tessera generate \"%.64s\"",
            word, word);
    return ts_fail(err, TS_EUSAGE, "unknown command \"%.64s\": tessera help lists them", word);
}

static ts_status run_command(ts_cli *c, const ts_command *cmd, int argc, char **argv)
{
    int n = argc;
    char *const *words = argv;
    ts_status st = ts_flags_parse(&c->flags, cmd->bit, argc, argv);
    bool own = !ts_flag_set(&c->flags, TS_F_NO_CONFIG) && !ts_flag_set(&c->flags, TS_F_HELP);
    if (st) return ts_fail(&c->err, st, "%s: %s", cmd->name, c->flags.error);
    if (ts_flag_set(&c->flags, TS_F_NO_CONFIG) && ts_flag_set(&c->flags, TS_F_PRESET))
        return ts_fail(&c->err, TS_EUSAGE,
                       "%s: --preset is of the configuration file, which --no-config leaves alone",
                       cmd->name);
    if (own && cmd->bit != TS_CMD_COMPLETION) {
        st = ts_user_config_open(&c->err, &c->config);
        if (!st)
            st = ts_user_config_words(c->config, &c->err, cmd->name, cmd->bit, &c->flags, argc,
                                      argv, &n, &words);
        if (!st && words != argv) st = ts_flags_parse(&c->flags, cmd->bit, n, words);
        if (st) return st;
    }
    const char *model = getenv("TESSERA_MODEL");
    /* beside what a file records, and a flag, it is but a default */
    if (model && *model && !ts_flag_text(&c->flags, TS_F_MODEL) &&
        !ts_flag_set(&c->flags, TS_F_FROM) && cmd->bit != TS_CMD_DECODE)
        c->flags.value[TS_F_MODEL].text = model;
    if (ts_flag_set(&c->flags, TS_F_HELP)) return ts_command_help(cmd), TS_OK;
    const char *kind = ts_flag_text(&c->flags, TS_F_PROGRESS);
    bool quiet = ts_flag_set(&c->flags, TS_F_QUIET) || (kind && !strcmp(kind, "none"));
    ts_screen_init(&c->screen,
                   quiet                           ? TS_SCREEN_NONE
                   : kind && !strcmp(kind, "json") ? TS_SCREEN_JSON
                                                   : TS_SCREEN_BAR,
                   stderr);
    c->screen.clock = running_seconds;
    if (c->flags.words > 0 && cmd->most == 0)
        return ts_fail(&c->err, TS_EUSAGE, "%s: takes no argument, got \"%.40s\"", cmd->name,
                       c->flags.word[0]);
    if (c->flags.words > cmd->most && ts_flag_set(&c->flags, TS_F_PROMPT))
        return ts_fail(&c->err, TS_EUSAGE,
                       "%s: one prompt, got %d (\"%.40s\", \"%.40s\"%s), --prompt among them",
                       cmd->name, c->flags.words, c->flags.word[0], c->flags.word[1],
                       c->flags.words > 2 ? ", ..." : "");
    if (c->flags.words > cmd->most)
        return ts_fail(&c->err, TS_EUSAGE,
                       "%s: one argument, got %d (\"%.40s\", \"%.40s\"%s): text of several "
                       "words goes in quotes",
                       cmd->name, c->flags.words, c->flags.word[0], c->flags.word[1],
                       c->flags.words > 2 ? ", ..." : "");
    if (c->flags.words < cmd->least)
        return ts_fail(&c->err, TS_EUSAGE, "%s: %s is missing: tessera %s %s", cmd->name,
                       cmd->missing, cmd->name, cmd->arguments);
    if (cmd->bit & (TS_CMD_GENERATE | TS_CMD_TOKENS | TS_CMD_BENCH | TS_CMD_SEARCH_TILE)) {
        st = ts_prompt_words(c);
        for (int i = 0; !st && i < c->flags.words && i < TS_WORDS; i++)
            ts_prompt_warn(&c->screen, c->flags.word[i]);
    }
    return st ? st : cmd->run(c);
}

static ts_status dispatch_command(ts_cli *c, int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    if (!word)
        return ts_fail(
            &c->err, TS_EUSAGE,
            "no command: tessera generate \"a prompt\" renders one, tessera help lists all");
    bool asks = !strcmp(word, "help");
    if (!strcmp(word, "--version") || !strcmp(word, "-V") || !strcmp(word, "version"))
        return print_version(c);
    bool of_itself = asks && argc > 2 &&
                     (!strcmp(argv[2], "help") || !strcmp(argv[2], "--help") ||
                      !strcmp(argv[2], "-h"));
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || (asks && argc == 2) || of_itself)
        return ts_command_help(NULL), TS_OK;
    if (word[0] == '-')
        return ts_fail(&c->err, TS_EUSAGE,
                       "unknown flag %.64s: a command comes first, tessera help lists them", word);
    const ts_command *cmd = ts_command_find(asks ? argv[2] : word);
    if (!cmd) return refuse_unknown_command(&c->err, asks ? argv[2] : word);
    if (asks) return ts_command_help(cmd), TS_OK;
    return run_command(c, cmd, argc - 2, argv + 2);
}

/* A slip on a command line that asks for JSON is reported as JSON too. */
static bool asks_for_json(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--progress=json") ||
            (!strcmp(argv[i], "--progress") && i + 1 < argc && !strcmp(argv[i + 1], "json")))
            return true;
    return false;
}

/* Whether `called`, the program's name on the command line, is the file exe; one without a slash
 * was found in PATH. */
static bool is_called(const char *exe, const char *called)
{
    struct stat a, b;
    const char *preload = getenv("LD_PRELOAD");
    if (!called || (preload && strstr(preload, "vgpreload"))) return false;
    if (!strchr(called, '/')) return true;
    return stat(exe, &a) == 0 && stat(called, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* By default the OpenMP library spins between parallel regions. On a machine that others use too
 * that means waiting for whatever runs on the other core: ten times slower at load 15 on 2 cores
 * was measured. The library reads its environment before main, so the program starts once more with
 * a short spin, unless the environment decides it already.
 *
 * Not where the process is another program that runs this one (ld.so, valgrind): it would start
 * that one anew, or this one without it. */
static void start_with_short_spin(char **argv)
{
    char exe[PATH_MAX]; /* the link's target, so that the process keeps its name */
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0 || getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    exe[n] = 0;
    if (!is_called(exe, argv[0])) return;
    /* where that fails the program goes on as it is */
    if (setenv("GOMP_SPINCOUNT", "2000", 1) == 0) execv(exe, argv);
}

/* Whatever file is opened next would get the number of a standard descriptor that is closed, and
 * the progress or results in it. The null device takes the number, opened the wrong way round, so
 * that reading from closed input and writing to closed output stay failures. */
static void hold_standard_descriptors(void)
{
    static const int ways[] = {
        [STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_WRONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) open("/dev/null", ways[fd]); /* the lowest number: fd */
}

int main(int argc, char **argv)
{
    hold_standard_descriptors();
    start_with_short_spin(argv);
    ts_cli c = {.argc = argc, .argv = argv, .stop = &stop_signal};
    ts_screen_init(&c.screen, asks_for_json(argc, argv) ? TS_SCREEN_JSON : TS_SCREEN_LINES, stderr);
    catch_signals();
    catch_suspend();
    ts_status st = dispatch_command(&c, argc, argv);
    int code = exit_code(st);
    if (st == TS_ESTOP)
        ts_screen_error(&c.screen, code, stop_text(code));
    else if (st)
        ts_screen_error(&c.screen, code, *c.err.text ? c.err.text : ts_error(c.ctx));
    ts_cli_close(&c);
    return flush_results(&c.screen, code);
}
