/* What the readers of prompt files share. Internal to rows.c and rows_csv.c. */
#ifndef TS_ROWS_PARSE_H
#define TS_ROWS_PARSE_H
#include "prompts/rows.h"

typedef struct {
    ts_err *err;
    ts_prompts *rows;
    /* TS_EMEMORY from the first time on that there was none; everything else is a fault */
    ts_status st;
} ts_parse;
/* row NULL: the file's */
void ts_parse_fault(ts_parse *, ts_prompt *, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Bytes of the first line, without its end: LF, CR LF, or CR alone; *all: with it. */
size_t ts_parse_line(const char *, size_t, size_t *all);
/* blanks off both ends, no-break ones included */
void ts_parse_trim(const char **, size_t *);
/* false: not UTF-8 or a NUL, and the fault is told */
bool ts_parse_text(ts_parse *, ts_prompt *, int line, const char *, size_t);
/* copies; `prompt` too; a key twice is a fault; `_key` is left out */
void ts_parse_field(ts_parse *, ts_prompt *, const char *key, size_t key_n, const char *value,
                    size_t value_n, bool number);
/* the row is complete: it goes to the list, whose index it gets */
void ts_parse_row(ts_parse *, ts_prompt *);
void ts_csv_parse(ts_parse *, const char *, size_t);
/* its first line is a header with `prompt` */
bool ts_csv_likely(const char *, size_t);
#endif
