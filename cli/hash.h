/* FNV-1a, 64 bits, of texts one after another. The NUL that ends each counts: "ab", "c" is not "a",
 * "bc". */
#ifndef TS_CLI_HASH_H
#define TS_CLI_HASH_H
#include <stdint.h>

#define TS_TEXTS_HASH UINT64_C(14695981039346656037) /* of none */
static inline uint64_t ts_texts_hash(uint64_t h, const char *text)
{
    do h = (h ^ (uint8_t)*text) * UINT64_C(1099511628211);
    while (*text++);
    return h;
}
#endif
