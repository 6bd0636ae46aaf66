/* Eight by eight numbers of 4 bytes turned over in registers. Needs AVX2 and F16C, which every
 * level above plain C has. */
#ifndef TS_VEC_TILE_H
#define TS_VEC_TILE_H
#include <immintrin.h>

AI void turn_over(__m256 r[8])
{
    __m256 a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xEE);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

/* Eight numbers of a float type as f32, or as bits where no cast is wanted (any type of 4 bytes as
 * TS_F32, of 2 as TS_BF16): the low half of each lane then holds what has two. */
AI __m256 pick8(const void *p, ts_dtype t, bool bits)
{
    if (t == TS_F32) return _mm256_loadu_ps(p);
    __m128i h = _mm_loadu_si128(p);
    if (bits) return _mm256_castsi256_ps(_mm256_cvtepu16_epi32(h));
    return t == TS_BF16 ? _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16))
                        : _mm256_cvtph_ps(h);
}

AI __m128i pack8(__m256i u)
{
    return _mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
}
AI __m128i to_bf16_8(__m256 a) /* to nearest, ties to even; NaN stays NaN and keeps its sign */
{
    __m256i u = _mm256_castps_si256(a),
            odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7FFF)), odd),
            nan = _mm256_or_si256(u, _mm256_set1_epi32(64 << 16));
    r = _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(r), _mm256_castsi256_ps(nan),
                                             _mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
    return pack8(_mm256_srli_epi32(r, 16));
}

AI void place8(void *p, __m256 v, ts_dtype t, bool bits)
{
    if (t == TS_F32)
        _mm256_storeu_ps(p, v);
    else if (bits)
        _mm_storeu_si128(p, pack8(_mm256_castps_si256(v)));
    else if (t == TS_BF16)
        _mm_storeu_si128(p, to_bf16_8(v));
    else
        _mm_storeu_si128(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
#endif
