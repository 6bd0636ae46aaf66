/* Decoders of blocks by instruction set. Internal to backend/cpu. */
#ifndef TS_BLOCK_DECODERS_H
#define TS_BLOCK_DECODERS_H
#include "backend/blocks.h"

enum { TS_BLOCK_DECODERS = 16 };
/* from [blocks] -> to [blocks, n] */
typedef void ts_block_decoder(const uint8_t *from, size_t blocks, float *to);
/* By the number of a type, NULL where there is none: plain C, and the same for AVX2 and AVX-512. */
extern ts_block_decoder *const ts_blocks_ref[TS_BLOCK_DECODERS];
extern ts_block_decoder *const ts_blocks_avx2[TS_BLOCK_DECODERS];
extern ts_block_decoder *const ts_blocks_avx512[TS_BLOCK_DECODERS];
/* numbers of 8 bits, by ts_fp8 */
typedef void ts_fp8_decoder(const uint8_t *restrict from, size_t n, float *restrict to);
extern ts_fp8_decoder *const ts_fp8_ref[TS_FP8_TYPES];
extern ts_fp8_decoder *const ts_fp8_avx2[TS_FP8_TYPES];
extern ts_fp8_decoder *const ts_fp8_avx512[TS_FP8_TYPES];
#endif
