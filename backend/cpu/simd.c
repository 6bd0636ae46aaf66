/* The table of kernels, and what every level plans in the same way. */
#include "backend/cpu/ref.h"

static void norm_plain(const ts_norm *a, void *scratch) { ts_norm_ref(a, scratch); }

static void resample_plain(const ts_resample *a, void *scratch)
{
    (void)scratch;
    ts_resample_ref(a);
}

void ts_simd_init(ts_simd *t, ts_level level)
{
    *t = (ts_simd){.norm = norm_plain,
                   .activate = ts_activate_ref,
                   .rope = ts_rope_ref,
                   .copy = ts_copy_ref,
                   .gather = ts_gather_ref,
                   .lincomb = ts_lincomb_ref,
                   .resample = resample_plain,
                   .affine = ts_affine_ref,
                   .finite = ts_finite_ref};
    if (level >= TS_LEVEL_AVX2) ts_simd_avx2(t);
    if (level >= TS_LEVEL_AVX512) ts_simd_avx512(t);
    if (level >= TS_LEVEL_AVX512_BF16) ts_simd_avx512_bf16(t);
}

size_t ts_norm_scratch(const ts_norm *a)
{
    if (a->kind != TS_NORM_GROUP) return 0;
    return (size_t)a->x.dim[a->x.nd - 1] * 2 * sizeof(float) +
           (size_t)TS_NORM_BLOCKS * (size_t)a->groups * sizeof(double);
}

size_t ts_resample_scratch(const ts_resample *a)
{
    size_t g = (size_t)a->ft * (size_t)a->fs * (size_t)a->fs,
           pitch = ((size_t)a->y.dim[3] + 15) & ~(size_t)15;
    size_t terms = a->reduce ? (size_t)a->x.dim[3] * g / (size_t)a->y.dim[3] : g;
    return (a->reduce ? 2 : 1) * terms * (pitch + 1) * sizeof(int);
}
