/* What the flash kernels in f32 and in bf16 have in common of AVX-512: sums, softmax and output are
 * f32 vectors of 16 in both. */
#ifndef TS_ATTENTION_VEC512_H
#define TS_ATTENTION_VEC512_H
#include <immintrin.h>
#include <stdint.h>

enum { VW = 16 };
#define NV 4
typedef __m512 vf;
#define VLOAD(p) _mm512_loadu_ps(p)
#define VSTORE(p, v) _mm512_storeu_ps(p, v)
#define VSET(x) _mm512_set1_ps(x)
#define VMAX(a, b) _mm512_max_ps(a, b)
#define VMIN(a, b) _mm512_min_ps(a, b)
#define VADD(a, b) _mm512_add_ps(a, b)
#define VSUB(a, b) _mm512_sub_ps(a, b)
#define VMUL(a, b) _mm512_mul_ps(a, b)
#define VFMADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#define VFMSUB(a, b, c) _mm512_fmsub_ps(a, b, c)
#define VSUM(v) _mm512_reduce_add_ps(v)
#define VTOP(v) _mm512_reduce_max_ps(v)

/* A 16 x 16 square of 32-bit units, rows and columns exchanged: within 128-bit lanes by unpacking,
 * then of whole lanes. */
static inline void transpose_16(uint32_t *to, long ts, const uint32_t *from, long fs)
{
    __m512i r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from + i * fs);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2; k++) {
            r[i + 2 * k] = _mm512_unpacklo_epi64(t[i + k], t[i + 2 + k]);
            r[i + 2 * k + 1] = _mm512_unpackhi_epi64(t[i + k], t[i + 2 + k]);
        }
    for (int k = 0; k < 4; k++) {
        t[k] = _mm512_shuffle_i32x4(r[k], r[4 + k], 0x88);
        t[4 + k] = _mm512_shuffle_i32x4(r[k], r[4 + k], 0xDD);
        t[8 + k] = _mm512_shuffle_i32x4(r[8 + k], r[12 + k], 0x88);
        t[12 + k] = _mm512_shuffle_i32x4(r[8 + k], r[12 + k], 0xDD);
    }
    for (int k = 0; k < 4; k++) {
        _mm512_storeu_si512(to + (0 + k) * ts, _mm512_shuffle_i32x4(t[k], t[8 + k], 0x88));
        _mm512_storeu_si512(to + (8 + k) * ts, _mm512_shuffle_i32x4(t[k], t[8 + k], 0xDD));
        _mm512_storeu_si512(to + (4 + k) * ts, _mm512_shuffle_i32x4(t[4 + k], t[12 + k], 0x88));
        _mm512_storeu_si512(to + (12 + k) * ts, _mm512_shuffle_i32x4(t[4 + k], t[12 + k], 0xDD));
    }
}
#define TRANSPOSE transpose_16
#endif
