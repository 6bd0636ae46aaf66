/* Prompts on the command line: - and @FILE, and what is no syntax here. */
#ifndef TS_PROMPT_TEXT_H
#define TS_PROMPT_TEXT_H
#include "cli/cli.h"

/* Of the words of the command line that are prompts, "-" becomes what standard input holds (once)
 * and "@FILE" what the file holds; the texts belong to the ts_cli. A text of --prompt stays as it
 * is. TS_EMODEL: it can not be read, or is no text. */
ts_status ts_prompt_words(ts_cli *);
/* Warns of what other programs read as weights, LoRAs and choices: "(a fox:1.5)", "<lora:x:1>",
 * "[a|b]", "{a|b}". */
void ts_prompt_warn(ts_screen *, const char *prompt);
#endif
