/* Text that has to be UTF-8, out of what need not be: names of files are bytes. */
#ifndef TS_UTF8_H
#define TS_UTF8_H

/* malloc'd: `text` with U+FFFD for each byte that is not UTF-8; NULL: no memory. */
char *ts_utf8_repair(const char *text);
/* The same of a malloc'd text (or NULL), which is freed. */
char *ts_utf8_repair_own(char *text);
#endif
