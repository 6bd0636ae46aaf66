/* A growing string and one step through UTF-8, for the text code of this folder. */
#ifndef TS_BUFFER_H
#define TS_BUFFER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { char *s; size_t n, room; bool failed; } ts_buf; /* zero to begin; s (NULL or NUL-terminated): free; failed: memory ran out */
void ts_buf_put(ts_buf *, const char *, size_t);
void ts_buf_char(ts_buf *, int32_t code_point);
size_t ts_utf8_next(const char *, int32_t *code_point); /* bytes of the first character; 0: not UTF-8 */
bool ts_is_space(int32_t code_point);                   /* Python's str.isspace */
#endif
