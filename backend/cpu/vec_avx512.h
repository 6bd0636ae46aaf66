/* Sixteen lanes by AVX-512 (F, BW, DQ, VL); operators + - * / are the compiler's. What the kernels'
 * algorithms use of an instruction set is here and in vec_avx2.h. */
#ifndef TS_VEC_AVX512_H
#define TS_VEC_AVX512_H
#include "backend/cpu/ref.h"

#include <immintrin.h>

#define AI static inline __attribute__((always_inline))
typedef __m512 V;
enum { W = 16 };

AI __mmask16 first(int n) { return (__mmask16)((1u << n) - 1); }
AI V set(float x) { return _mm512_set1_ps(x); }
AI V zero(void) { return _mm512_setzero_ps(); }
AI V larger(V a, V b) { return _mm512_max_ps(a, b); } /* b where either is NaN */
AI V smaller(V a, V b) { return _mm512_min_ps(a, b); }
AI V nearest(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
AI V magnitude(V a) { return _mm512_abs_ps(a); }
AI V scale2(V a, V n) { return _mm512_scalef_ps(a, n); } /* a 2^n for whole n */
AI V where_negative(V x, V yes, V no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, zero(), _CMP_LT_OQ), no, yes);
}
AI V keep_first(V a, int n) { return _mm512_maskz_mov_ps(first(n), a); }
AI float total(V a) { return _mm512_reduce_add_ps(a); }
AI bool any_nan(V a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0; }

AI V widen(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
/* To nearest, ties to even, in the upper half of each lane; NaN stays NaN and keeps its sign. */
AI __m512i round_bf16(V a)
{
    __m512i u = _mm512_castps_si512(a),
            odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF)), odd);
    return _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), u,
                                _mm512_set1_epi32(64 << 16));
}
/* the same sixteen, packed: written where this is included, for there is an instruction that only
 * some machines have */
AI __m256i narrow(V);

AI V load_f32(const float *p) { return _mm512_loadu_ps(p); }
AI V load_bf16(const uint16_t *p) { return widen(_mm256_loadu_si256((const void *)p)); }
AI V load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
AI void store_f32(float *p, V a) { _mm512_storeu_ps(p, a); }
AI void store_bf16(uint16_t *p, V a) { _mm256_storeu_si256((void *)p, narrow(a)); }
AI void store_f16(uint16_t *p, V a)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

AI void stream_f32(float *p, V a) { _mm512_stream_ps(p, a); } /* p is aligned */
AI void stream_bf16(uint16_t *p, V a) { _mm256_stream_si256((void *)p, narrow(a)); }

/* The first n lanes; no byte beyond them is touched, absent lanes are 0. */
AI V load_f32_n(const float *p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
AI V load_bf16_n(const uint16_t *p, int n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }
AI V load_f16_n(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p));
}
AI void store_f32_n(float *p, V a, int n) { _mm512_mask_storeu_ps(p, first(n), a); }
AI void store_bf16_n(uint16_t *p, V a, int n) { _mm256_mask_storeu_epi16(p, first(n), narrow(a)); }
AI void store_f16_n(uint16_t *p, V a, int n)
{
    _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

/* p[index], 0 where the index is negative */
AI V gather(const float *p, const int *index)
{
    __m512i i = _mm512_loadu_si512(index);
    return _mm512_mask_i32gather_ps(zero(), _knot_mask16(_mm512_movepi32_mask(i)), i, p, 4);
}

/* The lanes of two vectors with even (odd) numbers; the first eight of p and of q in turn. */
AI V evens(V a, V b)
{
    return _mm512_permutex2var_ps(
        a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b);
}
AI V odds(V a, V b)
{
    return _mm512_permutex2var_ps(
        a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b);
}
AI V weave(const float *p, const float *q)
{
    V a = _mm512_castps256_ps512(_mm256_loadu_ps(p)),
      b = _mm512_castps256_ps512(_mm256_loadu_ps(q));
    return _mm512_permutex2var_ps(
        a, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), b);
}

/* Lanes (u, v) of pairs turn by the angle whose cosine and sine stand once a pair in c and s: (u c
 * - v s, v c + u s). */
AI V twice(const float *p)
{
    __m512i i = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(i, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
AI V rotate(V x, V c, V s) { return _mm512_fmaddsub_ps(x, c, _mm512_permute_ps(x, 0xB1) * s); }
/* The same of 2 W numbers in bf16; c and s hold W pairs' */
AI void turn_bf16(uint16_t *p, V c, V s)
{
    __m512i x = _mm512_loadu_si512(p), upper = _mm512_set1_epi32((int)0xFFFF0000);
    V u = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
      v = _mm512_castsi512_ps(_mm512_and_si512(x, upper));
    __m512i a = round_bf16(u * c - v * s), b = round_bf16(v * c + u * s);
    _mm512_storeu_si512(p, _mm512_or_si512(_mm512_srli_epi32(a, 16), _mm512_and_si512(b, upper)));
}

enum { BYTES = 64 };
AI void move(void *d, const void *s) { _mm512_storeu_si512(d, _mm512_loadu_si512(s)); }
/* n < BYTES */
AI void move_n(char *d, const char *s, size_t n)
{
    _mm512_mask_storeu_epi8(d, (1ull << n) - 1, _mm512_maskz_loadu_epi8((1ull << n) - 1, s));
}
/* d is aligned */
AI void stream(void *d, const void *s) { _mm512_stream_si512(d, _mm512_loadu_si512(s)); }
#endif
