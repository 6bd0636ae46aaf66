/* Looking things up in the table of flags. */
#ifndef TS_FLAGS_TABLE_H
#define TS_FLAGS_TABLE_H
#include "cli/flags.h"

#include <stddef.h>

/* A flag of one of the commands (ts_command_bit, or'ed), by the n bytes of its name, or by its
 * letter where that is not 0; NULL: there is none. */
const ts_flag *ts_flag_find(unsigned commands, const char *name, size_t n, char letter);
/* The same by the name that other programs have for a flag with this meaning and these values. */
const ts_flag *ts_flag_alias(unsigned commands, const char *name, size_t n);
/* Number i of these names, and of the flag here; NULL: there are no more. */
const char *ts_flag_alias_at(int i, const char **ours);
/* What the flag of that name in other programs is here, with its dashes; NULL: not known. */
const char *ts_flag_habit(const char *theirs);
#endif
