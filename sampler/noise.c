/* The noise of a clip, drawn on the host: the numbers of ts_randn. */
#include "sampler/noise.h"

#include "backend/philox.h"

void ts_noise_part(uint64_t seed, uint32_t stream, size_t first, float *out, size_t n)
{
    ts_normals(seed, stream, first, out, n);
}

void ts_noise(uint64_t seed, float *out, size_t n) { ts_noise_part(seed, 0, 0, out, n); }
