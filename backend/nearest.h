/* What a mistyped word was probably meant to be. */
#ifndef TS_NEAREST_H
#define TS_NEAREST_H
#include <stdbool.h>

/* The word of a list (ended by NULL, of lower case) that is nearest to a mistyped one, or that it
 * is the beginning of; upper case, and _ or blanks for -, are no slips. NULL: none is near. */
const char *ts_nearest(const char *word, const char *const *list);
/* The two are the same but for that. */
bool ts_same_word(const char *, const char *);
#endif
