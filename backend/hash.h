/* FNV-1a, 64 bits, of bytes one after another, begun with TS_HASH. */
#ifndef TS_HASH_H
#define TS_HASH_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TS_HASH UINT64_C(14695981039346656037) /* of no bytes */
static inline uint64_t ts_hash(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * UINT64_C(1099511628211);
    return h;
}

/* Of a text and the NUL that ends it: "ab", "c" is not "a", "bc". */
static inline uint64_t ts_hash_text(uint64_t h, const char *text)
{
    return ts_hash(h, text, strlen(text) + 1);
}
#endif
