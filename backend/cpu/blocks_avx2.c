/* The decoders of blocks.inc for AVX2. */
#include "backend/cpu/blocks.inc"

ts_block_decoder *const ts_blocks_avx2[TS_BLOCK_DECODERS] = DECODERS;

ts_fp8_decoder *const ts_fp8_avx2[TS_FP8_TYPES] = FP8_DECODERS;
