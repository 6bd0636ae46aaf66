/* The kernels of simd_*.inc for AVX-512. */
#include "backend/cpu/simd.h"
#include "backend/cpu/vec_avx512.h"

AI __m256i narrow(V a) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bf16(a), 16)); }

#include "backend/cpu/simd_rows.inc"

#include "backend/cpu/simd_move.inc"

void ts_simd_avx512(ts_simd *t)
{
    t->norm = normalize_rows;
    t->activate = activate_rows;
    t->rope = rotate_heads;
    t->lincomb = lincomb;
    t->finite = all_finite;
    t->copy = copy_strided;
    t->gather = gather_rows;
    t->resample = resample;
    t->affine = affine;
}
