/* The kernels of simd_*.inc for AVX-512 with its instruction for rounding to bf16, which gives 0
 * for what is below the smallest normal number; copies stay exact and stay those of AVX-512. */
#include "backend/cpu/simd.h"
#include "backend/cpu/vec_avx512.h"

AI __m256i narrow(V a) { return (__m256i)_mm512_cvtneps_pbh(a); }

#include "backend/cpu/simd_rows.inc"

void ts_simd_avx512_bf16(ts_simd *t)
{
    t->norm = normalize_rows;
    t->activate = activate_rows;
    t->rope = rotate_heads;
    t->lincomb = lincomb;
    t->finite = all_finite;
}
