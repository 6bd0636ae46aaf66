/* Gaussian noise from a counter-based generator: Philox 4x32-10 (Salmon et al., SC 2011), the same
 * on every device and thread count. docs/formats.md says how numbers follow from (seed, index). */
#ifndef TS_NOISE_H
#define TS_NOISE_H
#include <stddef.h>
#include <stdint.h>
void ts_noise(uint64_t seed, float *out, size_t n); /* out[i] depends on (seed, i) alone */
/* Elements first .. first + n - 1 of a stream of the seed: of stream 0 they are ts_noise's, of
 * others (one a step of a solver that adds noise) as many again, independent ones. */
void ts_noise_part(uint64_t seed, uint32_t stream, size_t first, float *out, size_t n);
#endif
