/* A growing string; characters by utf8proc. */
#include "prompts/buffer.h"

#include <stdlib.h>
#include <string.h>

void ts_buf_put(ts_buf *t, const char *s, size_t n)
{
    if (t->n + n + 1 > t->room) {
        size_t room = 2 * t->room + n + 64;
        char *more = realloc(t->s, room);
        if (!more) {
            t->failed = true;
            return;
        }
        t->s = more;
        t->room = room;
    }
    if (n) memcpy(t->s + t->n, s, n);
    t->s[t->n += n] = 0;
}

void ts_buf_char(ts_buf *t, int32_t c)
{
    utf8proc_uint8_t b[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, b);
    if (n > 0) ts_buf_put(t, (const char *)b, (size_t)n);
}

void ts_buf_normalize(ts_buf *t, const char *s, int form)
{
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t n = utf8proc_map(
        (const utf8proc_uint8_t *)s, 0, &made,
        (utf8proc_option_t)(UTF8PROC_NULLTERM | UTF8PROC_STABLE | form));
    if (n >= 0)
        ts_buf_put(t, (const char *)made, (size_t)n);
    else if (n == UTF8PROC_ERROR_INVALIDUTF8)
        ts_buf_put(t, s, strlen(s));
    else
        t->failed = true;
    free(made);
}

ts_status ts_utf8_check(ts_err *err, const char *s)
{
    int32_t c;
    for (const char *at = s; *at;) {
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)at, -1, &c);
        if (n <= 0)
            return ts_fail(err, TS_EUSAGE, "the text is not UTF-8: byte 0x%02x at offset %zu",
                           (uint8_t)*at, (size_t)(at - s));
        at += n;
    }
    return TS_OK;
}

size_t ts_utf8_next(const char *s, int32_t *c)
{
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, c);
    if (n > 0) return (size_t)n;
    *c = 0xFFFD;
    return 1;
}

bool ts_is_white(int32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool ts_is_space(int32_t c) { return (c >= 0x1C && c <= 0x1F) || ts_is_white(c); }
