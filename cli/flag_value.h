/* One value of a flag: from text, and in words what was wanted. */
#ifndef TS_FLAG_VALUE_H
#define TS_FLAG_VALUE_H
#include "cli/flags.h"

/* false: the text is no value of its kind and range. Of a flag that may be given several times the
 * value is added. */
bool ts_flag_convert(const ts_flag *, const char *text, ts_flag_value *);
void ts_flag_wanted(const ts_flag *, char *out, size_t size);
#endif
