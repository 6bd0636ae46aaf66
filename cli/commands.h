/* The table of commands. */
#ifndef TS_COMMANDS_H
#define TS_COMMANDS_H
#include "cli/cli.h"

typedef struct {
    const char *name;
    ts_command_bit bit;
    const char *arguments, *summary, *more; /* more: NULL, or text for its help */
    int least, most;                        /* words */
    const char *missing;                    /* what a word is, where one is needed */
    ts_status (*run)(ts_cli *);
} ts_command;
const ts_command *ts_commands(int *count);
const ts_command *ts_command_find(const char *name); /* NULL: there is none */
/* Prints the help of a command, or of the program (NULL), as wide as the terminal. */
void ts_command_help(const ts_command *);
#endif
