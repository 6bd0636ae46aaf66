/* The flash kernel in f32 with AVX-512: 6 rows x 4 vectors of 16. */
#include "backend/cpu/attention.h"
#include "backend/cpu/attention_vec512.h"

#include <immintrin.h>

enum { KS = 1 };
typedef float el;
typedef __m512 kb;
#define ELTYPE TS_F32
#define TOEL(x) (x)
#define SCALED 1
#define NAME(x) x##_avx512
#define KERNEL "avx512"
#define BLOAD(p) _mm512_loadu_ps(p)
#define ABCAST(p) _mm512_set1_ps(*(p))
#define MAC(a, b, c) _mm512_fmadd_ps(a, b, c)
#define PSTORE2(p, a, b) (_mm512_storeu_ps(p, a), _mm512_storeu_ps((p) + 16, b))

/* 2^t for t <= 127, relative error 7.5e-8: a minimax polynomial of degree 5 on [0, 1); below -125
 * it is 2^-125: at -126 the last bit of the polynomial makes numbers that are not normal, which
 * take some hundred cycles each, and masked keys come by whole vectors. */
static inline __m512 exp2_16(__m512 t)
{
    t = _mm512_max_ps(_mm512_set1_ps(-125), t); /* in this order NaN stays NaN */
    __m512 f = _mm512_reduce_ps(t, 0x09),
           p = _mm512_fmadd_ps(_mm512_set1_ps(0.0018775767f), f, _mm512_set1_ps(0.00898934002f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0558263181f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.240153617f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693153073f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.999999925f));
    return _mm512_scalef_ps(p, t);
}
#define VEXP(t) exp2_16(t)
#define PAIR(to, a, b) ((void)(b), _mm512_storeu_ps(to, _mm512_loadu_ps(a)))
#define OSTORE(p, v) _mm512_storeu_ps(p, v)

static inline void load_row(float *to, const float *from, long D, float scale)
{
    for (long d = 0; d < D; d += 16)
        _mm512_storeu_ps(to + d, _mm512_mul_ps(_mm512_loadu_ps(from + d), _mm512_set1_ps(scale)));
}
#define LOADROW load_row
#include "backend/cpu/attention_flash.h"
