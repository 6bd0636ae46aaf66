/* The kernels of simd_*.inc for AVX2. */
#include "backend/cpu/simd.h"
#include "backend/cpu/vec_avx2.h"

#include "backend/cpu/simd_rows.inc"

#include "backend/cpu/simd_move.inc"

void ts_simd_avx2(ts_simd *t)
{
    t->norm = norm;
    t->activate = activate;
    t->rope = rope;
    t->lincomb = lincomb;
    t->finite = all_finite;
    t->copy = copy;
    t->gather = gather_rows;
    t->resample = resample;
    t->affine = affine;
}
