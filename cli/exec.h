/* A command of the user's, run when an output is there. */
#ifndef TS_EXEC_H
#define TS_EXEC_H
#include "cli/progress.h"

typedef struct {
    const char *output; /* its path, as it is printed */
    const char *prompt;
    uint64_t seed;
    double seconds;
    const char *file; /* of a batch: where the row stands; NULL: no batch */
    int line;
} ts_exec;
/* Runs `command` by sh -c, with all that is known of the output in variables TESSERA_*: nothing of
 * it becomes a part of the command. Waits for its end. What it prints goes to stderr, with events
 * there to nowhere. That it fails is a warning, which names the output. */
void ts_exec_run(ts_screen *, const char *command, const ts_exec *);
#endif
