/* The decoders of blocks.inc for AVX2, and those of numbers of 8 bits: the halves of IEEE have
 * all of their exponents, so that F16C does what is left. */
#include "backend/cpu/blocks.inc"

#include <immintrin.h>

ts_block_decoder *const ts_blocks_avx2[TS_BLOCK_DECODERS] = DECODERS;

enum { W = 8 };

/* E4M3 with an exponent of five bits is an IEEE half that is 2^8 too small; 127 is its NaN. */
static inline __m256 widen_e4m3_avx2(__m128i b)
{
    __m128i low = _mm_and_si128(b, _mm_set1_epi16(127)),
            sign = _mm_slli_epi16(_mm_andnot_si128(_mm_set1_epi16(127), b), 8),
            nan = _mm_cmpeq_epi16(low, _mm_set1_epi16(127)),
            half = _mm_or_si128(_mm_or_si128(_mm_slli_epi16(low, 7), sign),
                                _mm_and_si128(nan, _mm_set1_epi16(0x7E00)));
    return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256));
}

static inline __m256 widen_e5m2_avx2(__m128i b) { return _mm256_cvtph_ps(_mm_slli_epi16(b, 8)); }

static inline __m128i load_bytes_avx2(const uint8_t *from)
{
    return _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)from));
}

static inline void widen_bytes_avx2(ts_fp8 type, const uint8_t *from, float *to)
{
    __m128i b = load_bytes_avx2(from);
    _mm256_storeu_ps(to, type == TS_E4M3 ? widen_e4m3_avx2(b) : widen_e5m2_avx2(b));
}

static inline void widen_all_avx2(ts_fp8 type, const uint8_t *from, size_t n, float *to)
{
    uint8_t rest[W] = {0};
    float wide[W];
    for (; n >= W; n -= W, from += W, to += W) widen_bytes_avx2(type, from, to);
    memcpy(rest, from, n);
    widen_bytes_avx2(type, rest, wide);
    memcpy(to, wide, n * sizeof *to);
}

static void decode_e4m3_avx2(const uint8_t *restrict from, size_t n, float *restrict to)
{
    widen_all_avx2(TS_E4M3, from, n, to);
}

static void decode_e5m2_avx2(const uint8_t *restrict from, size_t n, float *restrict to)
{
    widen_all_avx2(TS_E5M2, from, n, to);
}

ts_fp8_decoder *const ts_fp8_avx2[TS_FP8_TYPES] = {decode_e4m3_avx2, decode_e5m2_avx2};
