/* The decoders of blocks.inc for AVX-512, and those of numbers of 8 bits: the halves of IEEE have
 * all of their exponents, so that F16C does what is left. */
#include "backend/cpu/blocks.inc"

#include <immintrin.h>

ts_block_decoder *const ts_blocks_avx512[TS_BLOCK_DECODERS] = DECODERS;

enum { W = 16 };

/* E4M3 with an exponent of five bits is an IEEE half that is 2^8 too small; 127 is its NaN. */
static inline __m512 widen_e4m3_avx512(__m256i b)
{
    __m256i low = _mm256_and_si256(b, _mm256_set1_epi16(127)),
            sign = _mm256_slli_epi16(_mm256_andnot_si256(_mm256_set1_epi16(127), b), 8),
            nan = _mm256_cmpeq_epi16(low, _mm256_set1_epi16(127)),
            half = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16(low, 7), sign),
                                   _mm256_and_si256(nan, _mm256_set1_epi16(0x7E00)));
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256));
}

static inline __m512 widen_e5m2_avx512(__m256i b)
{
    return _mm512_cvtph_ps(_mm256_slli_epi16(b, 8));
}

static inline __m256i load_bytes_avx512(const uint8_t *from)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
}

static inline void widen_bytes_avx512(ts_fp8 type, const uint8_t *from, float *to)
{
    __m256i b = load_bytes_avx512(from);
    _mm512_storeu_ps(to, type == TS_E4M3 ? widen_e4m3_avx512(b) : widen_e5m2_avx512(b));
}

static inline void widen_all_avx512(ts_fp8 type, const uint8_t *from, size_t n, float *to)
{
    uint8_t rest[W] = {0};
    float wide[W];
    for (; n >= W; n -= W, from += W, to += W) widen_bytes_avx512(type, from, to);
    memcpy(rest, from, n);
    widen_bytes_avx512(type, rest, wide);
    memcpy(to, wide, n * sizeof *to);
}

static void decode_e4m3_avx512(const uint8_t *restrict from, size_t n, float *restrict to)
{
    widen_all_avx512(TS_E4M3, from, n, to);
}

static void decode_e5m2_avx512(const uint8_t *restrict from, size_t n, float *restrict to)
{
    widen_all_avx512(TS_E5M2, from, n, to);
}

ts_fp8_decoder *const ts_fp8_avx512[TS_FP8_TYPES] = {decode_e4m3_avx512, decode_e5m2_avx512};
