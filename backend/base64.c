/* base64 of any bytes: parts whose lengths are multiples of three can be encoded one by one. */
#include "backend/base64.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t ts_base64_encode(const uint8_t *from, size_t n, char *out)
{
    char *to = out;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t bits = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
                        (left > 2 ? from[i + 2] : 0);
        for (size_t k = 0; k < 4; k++) *to++ = k <= left ? digits[bits >> (18 - 6 * k) & 63] : '=';
    }
    *to = 0;
    return (size_t)(to - out);
}

bool ts_base64_decode(const char *text, uint8_t *out, size_t *n)
{
    uint32_t bits = 0;
    int have = 0;
    *n = 0;
    for (; *text && *text != '='; text++) {
        const char *d = strchr(digits, *text);
        if (*text == '\n' || *text == '\r') continue;
        if (!d) return false;
        bits = bits << 6 | (uint32_t)(d - digits);
        have += 6;
        if (have >= 8) out[(*n)++] = (uint8_t)(bits >> (have -= 8));
    }
    return true;
}
