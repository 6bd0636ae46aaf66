/* The kernels of simd_*.inc for AVX2. */
#include "backend/cpu/simd.h"
#include "backend/cpu/vec_avx2.h"

#include "backend/cpu/simd_rows.inc"

#include "backend/cpu/simd_move.inc"

void ts_simd_avx2(ts_simd *t)
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
