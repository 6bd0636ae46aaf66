/* Eight lanes by AVX2, FMA and F16C; operators + - * / are the compiler's. The counterpart of
 * vec_avx512.h. */
#ifndef TS_VEC_AVX2_H
#define TS_VEC_AVX2_H
#include "backend/cpu/ref.h"

#include <immintrin.h>

#define AI static inline __attribute__((always_inline))
typedef __m256 V;
enum { W = 8 };

AI __m256i first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
AI V set(float x) { return _mm256_set1_ps(x); }
AI V zero(void) { return _mm256_setzero_ps(); }
AI V larger(V a, V b) { return _mm256_max_ps(a, b); } /* b where either is NaN */
AI V smaller(V a, V b) { return _mm256_min_ps(a, b); }
AI V nearest(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
AI V magnitude(V a) { return _mm256_andnot_ps(set(-0.0f), a); }
/* a 2^n for whole n, |n| <= 252: in two factors, so that neither overflows before the product
 * does */
AI V scale2(V a, V n)
{
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1),
            rest = _mm256_sub_epi32(i, half), bias = _mm256_set1_epi32(127);
    return a * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)) *
           _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
}
AI V where_negative(V x, V yes, V no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(x, zero(), _CMP_LT_OQ));
}
AI V keep_first(V a, int n) { return _mm256_and_ps(a, _mm256_castsi256_ps(first(n))); }
AI float total(V a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
AI bool any_nan(V a) { return _mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)) != 0; }

AI V widen(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
/* To nearest, ties to even, in the upper half of each lane; NaN stays NaN and keeps its sign. */
AI __m256i round_bf16(V a)
{
    __m256i u = _mm256_castps_si256(a),
            odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7FFF)), odd),
            nan = _mm256_or_si256(u, _mm256_set1_epi32(64 << 16));
    return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(r), _mm256_castsi256_ps(nan),
                                                _mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
AI __m128i narrow(V a)
{
    __m256i r = _mm256_srli_epi32(round_bf16(a), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

AI V load_f32(const float *p) { return _mm256_loadu_ps(p); }
AI V load_bf16(const uint16_t *p) { return widen(_mm_loadu_si128((const void *)p)); }
AI V load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }
AI void store_f32(float *p, V a) { _mm256_storeu_ps(p, a); }
AI void store_bf16(uint16_t *p, V a) { _mm_storeu_si128((void *)p, narrow(a)); }
AI void store_f16(uint16_t *p, V a)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

AI void stream_f32(float *p, V a) { _mm256_stream_ps(p, a); } /* p is aligned */
AI void stream_bf16(uint16_t *p, V a) { _mm_stream_si128((void *)p, narrow(a)); }

/* The first n lanes; no byte beyond them is touched, absent lanes are 0. */
AI __m128i halves(const uint16_t *p, int n)
{
    uint16_t h[8] = {0};
    for (int i = 0; i < n; i++) h[i] = p[i];
    return _mm_loadu_si128((const void *)h);
}
AI void put_halves(uint16_t *p, __m128i v, int n)
{
    uint16_t h[8];
    _mm_storeu_si128((void *)h, v);
    for (int i = 0; i < n; i++) p[i] = h[i];
}
AI V load_f32_n(const float *p, int n) { return _mm256_maskload_ps(p, first(n)); }
AI V load_bf16_n(const uint16_t *p, int n) { return widen(halves(p, n)); }
AI V load_f16_n(const uint16_t *p, int n) { return _mm256_cvtph_ps(halves(p, n)); }
AI void store_f32_n(float *p, V a, int n) { _mm256_maskstore_ps(p, first(n), a); }
AI void store_bf16_n(uint16_t *p, V a, int n) { put_halves(p, narrow(a), n); }
AI void store_f16_n(uint16_t *p, V a, int n)
{
    put_halves(p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT), n);
}

/* p[index], 0 where the index is negative */
AI V gather(const float *p, const int *index)
{
    __m256i i = _mm256_loadu_si256((const void *)index);
    return _mm256_mask_i32gather_ps(
        zero(), p, i, _mm256_castsi256_ps(_mm256_cmpgt_epi32(i, _mm256_set1_epi32(-1))), 4);
}

/* The lanes of two vectors with even (odd) numbers; the first four of p and of q in turn. */
AI V in_order(V halves)
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(halves), 0xD8));
}
AI V evens(V a, V b) { return in_order(_mm256_shuffle_ps(a, b, 0x88)); }
AI V odds(V a, V b) { return in_order(_mm256_shuffle_ps(a, b, 0xDD)); }
AI V weave(const float *p, const float *q)
{
    __m128 a = _mm_loadu_ps(p), b = _mm_loadu_ps(q);
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_unpacklo_ps(a, b)),
                                _mm_unpackhi_ps(a, b), 1);
}

/* Lanes (u, v) of pairs turn by the angle whose cosine and sine stand once a pair in c and s: (u c
 * - v s, v c + u s). */
AI V twice(const float *p)
{
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)),
                                    _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
AI V rotate(V x, V c, V s) { return _mm256_fmaddsub_ps(x, c, _mm256_permute_ps(x, 0xB1) * s); }
/* The same of 2 W numbers in bf16; c and s hold W pairs' */
AI void turn_bf16(uint16_t *p, V c, V s)
{
    __m256i x = _mm256_loadu_si256((const void *)p), upper = _mm256_set1_epi32((int)0xFFFF0000);
    V u = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)),
      v = _mm256_castsi256_ps(_mm256_and_si256(x, upper));
    __m256i a = round_bf16(u * c - v * s), b = round_bf16(v * c + u * s);
    _mm256_storeu_si256((void *)p,
                        _mm256_or_si256(_mm256_srli_epi32(a, 16), _mm256_and_si256(b, upper)));
}

enum { BYTES = 32 };
AI void move(void *d, const void *s)
{
    _mm256_storeu_si256((void *)d, _mm256_loadu_si256((const void *)s));
}
/* n < BYTES: from both ends where a power of two is too short */
AI void move_n(char *d, const char *s, size_t n)
{
    if (n >= 16) {
        __m128i a = _mm_loadu_si128((const void *)s),
                b = _mm_loadu_si128((const void *)(s + n - 16));
        _mm_storeu_si128((void *)d, a);
        _mm_storeu_si128((void *)(d + n - 16), b);
    } else if (n >= 8) {
        uint64_t a, b;
        memcpy(&a, s, 8);
        memcpy(&b, s + n - 8, 8);
        memcpy(d, &a, 8);
        memcpy(d + n - 8, &b, 8);
    } else if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, s, 4);
        memcpy(&b, s + n - 4, 4);
        memcpy(d, &a, 4);
        memcpy(d + n - 4, &b, 4);
    } else
        for (size_t i = 0; i < n; i++) d[i] = s[i];
}
/* d is aligned */
AI void stream(void *d, const void *s)
{
    _mm256_stream_si256((void *)d, _mm256_loadu_si256((const void *)s));
}
#endif
