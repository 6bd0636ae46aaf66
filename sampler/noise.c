/* Philox (backend/philox.h) and the Box-Muller transform.
 * Element i of a tensor takes word i mod 4 of block i / 4: words (0, 1) and (2, 3) each make a
 * cosine and a sine, so any part can be drawn alone. */
#include "sampler/noise.h"

#include "backend/philox.h"

#include <math.h>

void ts_noise_part(uint64_t seed, uint32_t stream, size_t first, float *out, size_t n)
{
    const double unit = 1.0 / 4294967296.0, turn = 6.283185307179586476925286766559;
    for (size_t i = first / 4 * 4; i < first + n; i += 4) {
        uint32_t w[4];
        double z[4];
        ts_philox(seed, i / 4, stream, w);
        for (int p = 0; p < 4; p += 2) {
            /* u1 in (0, 1]: the logarithm stays finite */
            double r = sqrt(-2 * log((w[p] + 1.0) * unit)), a = turn * (w[p + 1] * unit);
            z[p] = r * cos(a);
            z[p + 1] = r * sin(a);
        }
        for (size_t j = i < first ? first - i : 0; j < 4 && i + j < first + n; j++)
            out[i + j - first] = (float)z[j];
    }
}

void ts_noise(uint64_t seed, float *out, size_t n) { ts_noise_part(seed, 0, 0, out, n); }
