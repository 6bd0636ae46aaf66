/* The user's own defaults: a file of flags by command and by model, and presets that --preset
 * names.
 *
 *   # a line of its own
 *   steps = 30                       of every command that has --steps
 *   [generate]                       of one command
 *   [model Wan2.1-T2V-1.3B-Diffusers]  of a model, by its folder's name or as --model names it
 *   [preset draft]                   where --preset draft is given
 *
 * Later kinds go before earlier ones, and what is on the command line before all. */
#ifndef TS_USER_CONFIG_H
#define TS_USER_CONFIG_H
#include "backend/err.h"
#include "cli/flags.h"

#include <stdio.h>

typedef struct ts_user_config ts_user_config;
/* $TESSERA_CONFIG (empty: none), else tessera/config in $XDG_CONFIG_HOME or ~/.config; malloc'd;
 * NULL: there is no such place. */
char *ts_user_config_path(void);
/* Reads it all and looks at every line, whatever command is run. *out is NULL where there is no
 * file. TS_EUSAGE: FILE:LINE and what is wrong there; TS_EIO: it can not be read. */
ts_status ts_user_config_open(ts_err *, ts_user_config **out);
void ts_user_config_close(ts_user_config *); /* NULL is legal */
/* The words of a command line with those of the file before them that the line does not have: *n of
 * them, in memory of the config, as the words themselves belong to it or to argv. `line`: argv as
 * it was parsed. TS_EUSAGE: there is no such preset. */
ts_status ts_user_config_words(ts_user_config *, ts_err *, const char *command, ts_command_bit,
                               const ts_flags *line, int argc, char *const *argv, int *n,
                               char *const **words);
/* Every line that holds something, with its place and section. */
void ts_user_config_print(const ts_user_config *, FILE *);
#endif
