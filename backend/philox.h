/* The counter-based random generator Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random
 * numbers, SC 2011): any part of a stream can be drawn alone. */
#ifndef TS_PHILOX_H
#define TS_PHILOX_H
#include <stdint.h>
/* Four words of the stream `seed` at counter (counter, more). */
void ts_philox(uint64_t seed, uint64_t counter, uint64_t more, uint32_t out[4]);
#endif
