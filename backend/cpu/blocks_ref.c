/* The decoders of blocks.inc in plain C, and those of numbers of 8 bits. */
#include "backend/cpu/blocks.inc"

ts_block_decoder *const ts_blocks_ref[TS_BLOCK_DECODERS] = DECODERS;

/* f32 of these bits. */
static inline float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Sign, exponent and mantissa are put where f32 has them; a subnormal is its mantissa times a
 * power of two. */
static void decode_fp8_e4m3(const uint8_t *restrict from, size_t n, float *restrict to)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t b = from[i], low = b & 127, sign = (b & 128) << 24;
        float small = (float)(int)low * 0x1p-9f;
        uint32_t bits;
        memcpy(&bits, &small, sizeof bits);
        uint32_t normal = (low << 20) + (120u << 23);
        bits = low == 127 ? 0x7FC00000 : low < 8 ? bits : normal;
        to[i] = float_of(bits | sign);
    }
}

static void decode_fp8_e5m2(const uint8_t *restrict from, size_t n, float *restrict to)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t b = from[i], low = b & 127, sign = (b & 128) << 24;
        float small = (float)(int)low * 0x1p-16f;
        uint32_t bits;
        memcpy(&bits, &small, sizeof bits);
        uint32_t normal = (low << 21) + (112u << 23), special = (low << 21) | 0x7F800000;
        bits = low >= 124 ? special : low < 4 ? bits : normal;
        to[i] = float_of(bits | sign);
    }
}

ts_fp8_decoder *const ts_fp8_ref[TS_FP8_TYPES] = {decode_fp8_e4m3, decode_fp8_e5m2};
