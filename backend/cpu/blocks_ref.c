/* The decoders of blocks.inc in plain C. */
#include "backend/cpu/blocks.inc"

ts_block_decoder *const ts_blocks_ref[TS_BLOCK_DECODERS] = DECODERS;

ts_fp8_decoder *const ts_fp8_ref[TS_FP8_TYPES] = FP8_DECODERS;
