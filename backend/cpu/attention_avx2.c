/* The flash kernel in f32 with AVX2 and FMA: 6 rows x 2 vectors of 8. */
#include "backend/cpu/attention.h"

#include <immintrin.h>

enum { VW = 8, KS = 1 };
#define NV 2
typedef __m256 vf;
typedef float el;
typedef __m256 kb;
#define ELTYPE TS_F32
#define TOEL(x) (x)
#define SCALED 1
#define NAME(x) x##_avx2
#define KERNEL "avx2"
#define VLOAD(p) _mm256_loadu_ps(p)
#define VSTORE(p, v) _mm256_storeu_ps(p, v)
#define VSET(x) _mm256_set1_ps(x)
#define VMAX(a, b) _mm256_max_ps(a, b)
#define VMIN(a, b) _mm256_min_ps(a, b)
#define VADD(a, b) _mm256_add_ps(a, b)
#define VSUB(a, b) _mm256_sub_ps(a, b)
#define VMUL(a, b) _mm256_mul_ps(a, b)
#define VFMADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#define VFMSUB(a, b, c) _mm256_fmsub_ps(a, b, c)
#define BLOAD(p) _mm256_loadu_ps(p)
#define ABCAST(p) _mm256_broadcast_ss(p)
#define MAC(a, b, c) _mm256_fmadd_ps(a, b, c)
#define PSTORE2(p, a, b) (_mm256_storeu_ps(p, a), _mm256_storeu_ps((p) + 8, b))

static inline float sum_8(__m256 v)
{
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}

static inline float top_8(__m256 v)
{
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}
#define VSUM(v) sum_8(v)
#define VTOP(v) top_8(v)

/* 2^t for t <= 127, relative error 7.5e-8: rounded to the nearest integer by a magic number, a
 * minimax polynomial of degree 5 on [-0.5, 0.5], the integer added to the exponent. */
static inline __m256 exp2_8(__m256 t)
{
    t = _mm256_max_ps(_mm256_set1_ps(-125), t); /* in this order NaN stays NaN */
    __m256 magic = _mm256_set1_ps(12582912.f), z = _mm256_add_ps(t, magic),
           f = _mm256_sub_ps(t, _mm256_sub_ps(z, magic));
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(0.00132764722f), f, _mm256_set1_ps(0.00967554133f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.0555071327f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.240221197f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.693146967f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.00000007f));
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(z), 23)));
}
#define VEXP(t) exp2_8(t)

/* An 8 x 8 square of 32-bit units, rows and columns exchanged. */
static inline void transpose_8(uint32_t *to, long ts, const uint32_t *from, long fs)
{
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++)
        r[i] = _mm256_loadu_ps((const float *)(const void *)(from + i * fs));
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; k++) {
            r[i + 2 * k] = _mm256_shuffle_ps(t[i + k], t[i + 2 + k], 0x44);
            r[i + 2 * k + 1] = _mm256_shuffle_ps(t[i + k], t[i + 2 + k], 0xEE);
        }
    for (int k = 0; k < 4; k++) {
        _mm256_storeu_ps((float *)(void *)(to + k * ts),
                         _mm256_permute2f128_ps(r[k], r[4 + k], 0x20));
        _mm256_storeu_ps((float *)(void *)(to + (4 + k) * ts),
                         _mm256_permute2f128_ps(r[k], r[4 + k], 0x31));
    }
}
#define TRANSPOSE transpose_8
#define PAIR(to, a, b) ((void)(b), _mm256_storeu_ps(to, _mm256_loadu_ps(a)))
#define OSTORE(p, v) _mm256_storeu_ps(p, v)

static inline void load_row(float *to, const float *from, long D, float scale)
{
    for (long d = 0; d < D; d += 8)
        _mm256_storeu_ps(to + d, _mm256_mul_ps(_mm256_loadu_ps(from + d), _mm256_set1_ps(scale)));
}
#define LOADROW load_row
#include "backend/cpu/attention_flash.h"
