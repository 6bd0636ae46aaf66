/* A growing string; characters by utf8proc. */
#include "prompts/buffer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void ts_buf_put(ts_buf *t, const char *s, size_t n)
{
    if (t->n + n + 1 > t->room) {
        size_t room = 2 * t->room + n + 64;
        char *more = realloc(t->s, room);
        if (!more) {
            t->failed = true;
            return;
        }
        t->s = more, t->room = room;
    }
    memcpy(t->s + t->n, s, n);
    t->s[t->n += n] = 0;
}

void ts_buf_char(ts_buf *t, int32_t c)
{
    utf8proc_uint8_t b[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, b);
    if (n > 0) ts_buf_put(t, (const char *)b, (size_t)n);
}

size_t ts_utf8_next(const char *s, int32_t *c)
{
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, c);
    return n > 0 ? (size_t)n : 0;
}

bool ts_is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}
