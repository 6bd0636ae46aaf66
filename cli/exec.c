/* Runs the command of --exec. It is a child with the standard signals, no input, and an output that
 * does not mix with results. */
#include "cli/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The last two only of a batch. */
static const char *const own_names[] = {"TESSERA_OUTPUT=",  "TESSERA_PROMPT=", "TESSERA_SEED=",
                                        "TESSERA_SECONDS=", "TESSERA_FILE=",   "TESSERA_LINE="};
enum { OWN_NAMES = sizeof own_names / sizeof *own_names };

static bool is_own(const char *variable)
{
    for (int i = 0; i < OWN_NAMES; i++)
        if (!strncmp(variable, own_names[i], strlen(own_names[i]))) return true;
    return false;
}

static void free_environment(char **list)
{
    for (char **at = list; at && *at && is_own(*at); at++) free(*at);
    free(list);
}

/* Ours, malloc'd, and behind them what else is in the environment. NULL: no memory. */
static char **make_environment(const ts_exec *e)
{
    char seed[24], seconds[32], line[16];
    const char *const value[] = {e->output, e->prompt, seed, seconds, e->file, line};
    int own = e->file ? OWN_NAMES : OWN_NAMES - 2;
    size_t n = 0;
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)e->seed);
    snprintf(seconds, sizeof seconds, "%.3f", e->seconds);
    snprintf(line, sizeof line, "%d", e->line);
    while (environ[n]) n++;
    char **list = calloc(n + OWN_NAMES + 1, sizeof *list), **at = list;
    for (int i = 0; list && i < own; i++, at++)
        if (asprintf(at, "%s%s", own_names[i], value[i]) < 0)
            return *at = NULL, free_environment(list), NULL;
    for (size_t i = 0; list && i < n; i++)
        if (!is_own(environ[i])) *at++ = environ[i];
    return list;
}

/* 0, or an errno. */
static int spawn_command(const ts_screen *s, const char *command, char **env, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none, all;
    char *const argv[] = {"sh", "-c", (char *)command, NULL};
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    if (s->mode == TS_SCREEN_JSON) /* nothing but events is on stderr */
        posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, 2, 1);
    posix_spawnattr_setsigdefault(&how, &all); /* what we ignore is not ignored there */
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    int failed = posix_spawn(pid, "/bin/sh", &files, &how, argv, env);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

void ts_exec_run(ts_screen *s, const char *command, const ts_exec *e)
{
    pid_t pid = 0;
    int status = 0, failed = ENOMEM;
    char text[1200], why[100] = "";
    char **env = make_environment(e);
    fflush(stdout);
    ts_screen_clear(s);
    if (env) failed = spawn_command(s, command, env, &pid);
    while (!failed && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) failed = errno;
    if (failed)
        snprintf(why, sizeof why, "can not be started: %s", strerror(failed));
    else if (WIFSIGNALED(status))
        snprintf(why, sizeof why, "was ended by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status))
        snprintf(why, sizeof why, "ended with exit code %d", WEXITSTATUS(status));
    if (*why) {
        snprintf(text, sizeof text, "%.600s: --exec \"%.200s\" %s", e->output, command, why);
        ts_screen_warn(s, text);
    }
    free_environment(env);
}
