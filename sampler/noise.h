/* Gaussian noise from a counter-based generator: Philox 4x32-10 (Salmon et al., SC 2011), the same on every device and thread count.
 * docs/formats.md says how numbers follow from (seed, index). */
#ifndef TS_NOISE_H
#define TS_NOISE_H
#include <stddef.h>
#include <stdint.h>
void ts_noise(uint64_t seed, float *out, size_t n); /* out[i] depends on (seed, i) alone */
#endif
