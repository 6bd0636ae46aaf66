/* What the commands share: the session of one invocation, its context and model, its one error
 * sentence. */
#ifndef TS_CLI_H
#define TS_CLI_H
#include "backend/err.h"
#include "cli/flags.h"
#include "cli/progress.h"
#include "tessera.h"

typedef struct {
    ts_flags flags;
    ts_screen screen;
    const atomic_int *stop; /* the signal that asked for it; 0: none */
    ts_ctx *ctx;
    ts_model *model;
    /* the sentence of a failure that the library does not know; else the library's */
    char error[2048];
} ts_cli;

/* Writes the session's sentence and returns `code`. */
ts_status ts_cli_fail(ts_cli *, ts_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static inline bool ts_cli_set(const ts_cli *c, ts_flag_id id) { return c->flags.value[id].set; }
static inline const char *ts_cli_text(const ts_cli *c, ts_flag_id id)
{
    return c->flags.value[id].text;
}
/* Opens the context that flags and environment describe; precision NULL: auto. */
ts_status ts_cli_open(ts_cli *, const char *precision);
void ts_cli_close(ts_cli *);
ts_status ts_cli_stopped(ts_cli *); /* TS_ESTOP once a signal came */
/* `json`: the metadata of a file of ours, by content: latents, state, picture or clip; malloc'd;
 * NULL: it has none. */
ts_status ts_cli_metadata(ts_cli *, const char *path, char **json);
bool ts_cli_is_safetensors(const char *path);

/* What flags (or a row of a prompt file) say of a request; prompt, seed and the frames that follow
 * from an output's name are their owners' business. */
void ts_cli_settings(const ts_flag_value *, ts_request *);

/* The commands. TS_OK or the status that the exit code follows from; results go to stdout. */
ts_status ts_cli_generate(ts_cli *);
ts_status ts_cli_decode(ts_cli *);
ts_status ts_cli_info(ts_cli *);
ts_status ts_cli_tokens(ts_cli *);
ts_status ts_cli_bench(ts_cli *);
ts_status ts_cli_search_tile(ts_cli *);
/* What the flags of generate and bench say of a picture, over the model's defaults: size to shift,
 * but for prompt, attention and what is written. */
ts_status ts_cli_request(ts_cli *, ts_request *);
ts_status ts_cli_batch(ts_cli *);
/* "1.5 GB", "320 MB"; powers of 1000 */
const char *ts_cli_bytes(double bytes, char out[32]);
/* One row of a table on stdout: a label, then text. */
void ts_cli_row(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));
#endif
