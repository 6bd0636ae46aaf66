/* One value of a flag: from text, and in words what was wanted. */
#ifndef TS_FLAG_VALUE_H
#define TS_FLAG_VALUE_H
#include "cli/flags.h"

/* false: the text is no value of its kind and range. Of a flag that may be given several times the
 * value is added. */
bool ts_flag_convert(const ts_flag *, const char *text, ts_flag_value *);
void ts_flag_wanted(const ts_flag *, char *out, size_t size);
/* The word that a mistyped one, or one of another program, was probably meant to be: "fp32" is f32.
 * false: none, or the flag takes no words. */
bool ts_flag_nearest(const ts_flag *, const char *text, char *out, size_t size);
#endif
