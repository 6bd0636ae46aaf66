/* The counter-based random generator Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random
 * numbers, SC 2011): any part of a stream can be drawn alone. */
#ifndef TS_PHILOX_H
#define TS_PHILOX_H
#include <stddef.h>
#include <stdint.h>
/* Four words of the stream `seed` at counter (counter, more). */
void ts_philox(uint64_t seed, uint64_t counter, uint64_t more, uint32_t out[4]);
/* Standard normal numbers first .. first + n - 1 of a stream of the seed, each a function of (seed,
 * stream, its index) alone: docs/formats.md says which. */
void ts_normals(uint64_t seed, uint32_t stream, uint64_t first, float *out, size_t n);
#endif
