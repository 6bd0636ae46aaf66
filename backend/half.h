/* IEEE 754 binary16 in plain C, for machines and files. */
#ifndef TS_HALF_H
#define TS_HALF_H
#include <stdint.h>
#include <string.h>

/* Exact; NaN keeps its payload. */
static inline float ts_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, m = h & 0x3ff, bits;
    float f;
    if (exponent == 0) { /* zero or subnormal: m 2^-24 */
        f = (float)m * 0x1p-24f;
        return sign ? -f : f;
    }
    bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | m << 13;
    memcpy(&f, &bits, sizeof f);
    return f;
}
#endif
