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

enum { VARIABLES = 6 };

/* The environment with our variables before it: of two of a name the first counts. malloc'd, as are
 * the first VARIABLES of it. */
static char **make_environment(const ts_exec *e)
{
    size_t n = 0;
    while (environ[n]) n++;
    char **list = calloc(n + VARIABLES + 1, sizeof *list), **at = list;
    if (!list) return NULL;
    bool good = asprintf(at++, "TESSERA_OUTPUT=%s", e->output) >= 0 &&
                asprintf(at++, "TESSERA_PROMPT=%s", e->prompt) >= 0 &&
                asprintf(at++, "TESSERA_SEED=%llu", (unsigned long long)e->seed) >= 0 &&
                asprintf(at++, "TESSERA_SECONDS=%.3f", e->seconds) >= 0;
    if (good && e->file)
        good = asprintf(at++, "TESSERA_FILE=%s", e->file) >= 0 &&
               asprintf(at++, "TESSERA_LINE=%d", e->line) >= 0;
    for (size_t i = 0; good && i < n; i++)
        if (strncmp(environ[i], "TESSERA_", 8)) *at++ = environ[i];
    *at = NULL;
    return list;
}

/* 0, or what went wrong in words. */
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
    for (int i = 0; env && i < VARIABLES && env[i] && !strncmp(env[i], "TESSERA_", 8); i++)
        free(env[i]);
    free(env);
}
