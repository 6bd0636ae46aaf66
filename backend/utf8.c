#include "backend/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

char *ts_utf8_repair(const char *text)
{
    static const char REPLACEMENT[3] = "\xEF\xBF\xBD"; /* U+FFFD */
    char *out = malloc(strlen(text) * sizeof REPLACEMENT + 1), *to = out;
    while (out && *text) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &c);
        if (n > 0) {
            memcpy(to, text, (size_t)n);
            to += n;
        } else {
            memcpy(to, REPLACEMENT, sizeof REPLACEMENT);
            to += sizeof REPLACEMENT;
            n = 1;
        }
        text += n;
    }
    if (out) *to = 0;
    return out;
}

char *ts_utf8_repair_own(char *text)
{
    char *whole = text ? ts_utf8_repair(text) : NULL;
    free(text);
    return whole;
}
