/* One invocation of the program, and its commands. What needs only a part of it (flags, screen,
 * error, context) takes that part. */
#ifndef TS_CLI_H
#define TS_CLI_H
#include "backend/err.h"
#include "cli/flags.h"
#include "cli/progress.h"
#include "cli/user_config.h"
#include "sampler/tessera.h"

typedef struct {
    int argc; /* the command line as it was given */
    char *const *argv;
    ts_flags flags;
    ts_screen screen;
    ts_err err;               /* a failure that the library does not know; else the context's */
    const volatile int *stop; /* the signal that asked for it; 0: none */
    ts_ctx *ctx;
    ts_model *model;
    char **text; /* prompts that were read from files, until ts_cli_close */
    int texts;
    ts_user_config *config; /* NULL: there is none, or it is left alone */
} ts_cli;

/* Opens the context that flags and environment describe. */
ts_status ts_cli_open(ts_cli *);
/* What --attention auto stands for in a run: one line, and an event; nothing where a policy was
 * named. */
void ts_cli_advise(ts_cli *, const ts_run *);
void ts_cli_close(ts_cli *);
char *ts_cli_hub(void); /* the Hugging Face cache's folder, malloc'd; NULL: none is known */
ts_status ts_cli_stopped(ts_cli *); /* TS_ESTOP once a signal came */

/* The commands. TS_OK or the status that the exit code follows from; results go to stdout. */
ts_status ts_cli_generate(ts_cli *);
ts_status ts_cli_decode(ts_cli *);
ts_status ts_cli_info(ts_cli *);
ts_status ts_cli_models(ts_cli *);
ts_status ts_cli_tokens(ts_cli *);
ts_status ts_cli_bench(ts_cli *);
ts_status ts_cli_search_tile(ts_cli *);
ts_status ts_cli_batch(ts_cli *);
ts_status ts_cli_completion(ts_cli *);
ts_status ts_cli_config(ts_cli *);
#endif
