/* The flash kernel in bf16 with AVX512_BF16: products of pairs by vdpbf16ps, sums and softmax in
 * f32. K and V are packed in pairs (VNNI). */
#include "backend/cpu/attention.h"
#include "backend/cpu/attention_vec512.h"

#include <immintrin.h>

enum { KS = 2 };
typedef uint16_t el;
typedef __m512bh kb;
#define ELTYPE TS_BF16
#define TOEL(x) ts_to_bf16(x)
#define SCALED 0
#define NAME(x) x##_avx512_bf16
#define KERNEL "avx512_bf16"
#define BLOAD(p) ((__m512bh)_mm512_loadu_si512(p))
#define ABCAST(p) ((__m512bh)_mm512_set1_epi32(*(const int *)(const void *)(p)))
#define MAC(a, b, c) _mm512_dpbf16_ps(c, a, b)
#define PSTORE2(p, a, b) _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(b, a))

/* 2^t, relative error 7.5e-5: a minimax polynomial of degree 3 on [0, 1); P is rounded to 2^-9 in
 * any case. */
static inline __m512 exp2_16(__m512 t)
{
    t = _mm512_max_ps(_mm512_set1_ps(-125), t); /* in this order NaN stays NaN */
    __m512 f = _mm512_reduce_ps(t, 0x09),
           p = _mm512_fmadd_ps(_mm512_set1_ps(0.0780245227f), f, _mm512_set1_ps(0.226067155f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.69583354f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.999925219f));
    return _mm512_scalef_ps(p, t);
}
#define VEXP(t) exp2_16(t)
#define OSTORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), (__m256i)_mm512_cvtneps_pbh(v))

/* 16 columns of two rows: the first in the low halves */
static inline void interleave_rows(uint16_t *to, const uint16_t *a, const uint16_t *b)
{
    __m512i lo = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)a)),
            hi = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)b));
    _mm512_storeu_si512(to, _mm512_or_si512(lo, _mm512_slli_epi32(hi, 16)));
}
#define PAIR interleave_rows

/* The scale is applied to the logits: a bf16 Q stays as it is. */
static inline void load_row(uint16_t *to, const uint16_t *from, long D, float scale)
{
    (void)scale;
    memcpy(to, from, (size_t)D * sizeof *to);
}
#define LOADROW load_row
#include "backend/cpu/attention_flash.h"
