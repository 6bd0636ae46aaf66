/* A growing string and steps through UTF-8, for the text code of this folder. */
#ifndef TS_BUFFER_H
#define TS_BUFFER_H
#include "backend/ctx.h"

#include <utf8proc.h>

/* zero to begin; s (NULL or NUL-terminated): free; failed: memory ran out */
typedef struct {
    char *s;
    size_t n, room;
    bool failed;
} ts_buf;
void ts_buf_put(ts_buf *, const char *, size_t);
void ts_buf_char(ts_buf *, int32_t code_point);
static inline const char *ts_buf_text(const ts_buf *t) { return t->s ? t->s : ""; } /* never NULL */
/* Appends s in a normal form: of UTF8PROC_COMPOSE, DECOMPOSE, COMPAT. What is not UTF-8 stays as it
 * is. */
void ts_buf_normalize(ts_buf *, const char *s, int form);

/* TS_EUSAGE: the first byte that is not UTF-8 and where */
ts_status ts_utf8_check(ts_err *, const char *);
/* bytes of the first character, at least 1; a byte that is not UTF-8 counts as U+FFFD */
size_t ts_utf8_next(const char *, int32_t *code_point);
bool ts_is_space(int32_t code_point); /* Python's str.isspace */
/* Unicode's White_Space, Rust's char::is_whitespace: without the separators U+001C..1F */
bool ts_is_white(int32_t code_point);
#endif
