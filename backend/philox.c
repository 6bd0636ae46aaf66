/* Philox 4x32-10: ten rounds of two multiplications, keys advanced by the Weyl constants of the
 * paper; normal numbers by the Box-Muller transform.
 *
 * Element i of a stream takes word i mod 4 of block i / 4: words (0, 1) and (2, 3) each make a
 * cosine and a sine, so any part can be drawn alone. */
#include "backend/philox.h"

#include <math.h>

void ts_philox(uint64_t seed, uint64_t counter, uint64_t more, uint32_t out[4])
{
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)more,
                     (uint32_t)(more >> 32)};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[0] = n0;
        c[1] = (uint32_t)b;
        c[2] = n2;
        c[3] = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++) out[i] = c[i];
}

void ts_normals(uint64_t seed, uint32_t stream, uint64_t first, float *out, size_t n)
{
    const double unit = 1.0 / 4294967296.0, turn = 6.283185307179586476925286766559;
    for (uint64_t i = first / 4 * 4; i < first + n; i += 4) {
        uint32_t w[4];
        double z[4];
        ts_philox(seed, i / 4, stream, w);
        for (int p = 0; p < 4; p += 2) {
            /* u1 in (0, 1]: the logarithm stays finite */
            double r = sqrt(-2 * log((w[p] + 1.0) * unit)), a = turn * (w[p + 1] * unit);
            z[p] = r * cos(a);
            z[p + 1] = r * sin(a);
        }
        for (uint64_t j = i < first ? first - i : 0; j < 4 && i + j < first + n; j++)
            out[i + j - first] = (float)z[j];
    }
}
