/* The instructions that C++ has no words for, one function each, with two bodies: PTX under nvcc,
 * and under g++ the one of the emulator (tests/cuda/emu). Kernels hold no other #if and no asm;
 * they launch by TS_LAUNCH and take dynamic shared memory by TS_SHARED.
 *
 * Fragments (PTX ISA, "Matrix fragments for mma.m16n8k16"): lane = 4 g + t; a[0..3] hold rows g,
 * g+8, g, g+8 and columns 2t.., 2t.., 2t+8.., 2t+8..; b[0..1] column g, rows 2t.., 2t+8..; c[0..3]
 * rows g, g, g+8, g+8, columns 2t, 2t+1 twice. */
#ifndef TS_PTX_H
#define TS_PTX_H
#include <cuda_runtime.h>
#include <stdint.h>

/* clang-format off */
#ifdef __CUDACC__
#define TS_DEV static __device__ __forceinline__
#define TS_AT0
#define TS_AT
#define TS_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#define TS_LAUNCH(kernel, grid, block, shared, stream, ...) \
    (kernel<<<grid, block, shared, stream>>>(__VA_ARGS__), cudaGetLastError())
#define TS_UNROLL _Pragma("unroll")
#define TS_DO_PRAGMA(x) _Pragma(#x)
#define TS_UNROLL_BY(n) TS_DO_PRAGMA(unroll n)
#else
#define TS_DEV static inline
#define TS_AT0 EMU_AT
#define TS_AT , EMU_AT
#define TS_SHARED(name) unsigned char *name = emu_dynamic_shared()
#define TS_LAUNCH(kernel, grid, block, shared, stream, ...) \
    emu_launch(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__)
#define TS_UNROLL
#define TS_UNROLL_BY(n)
void emu_cp16(void *, const void *, int, const char *, int);
void emu_commit(void);
void emu_wait(int);
void emu_ldmatrix4(uint32_t r[4], const void *, bool transposed, const char *, int);
void emu_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2], const char *, int);
void emu_mma_s8(int c[4], const uint32_t a[4], const uint32_t b[2], const char *, int);
#endif
/* clang-format on */

/* x, of which the compiler no longer knows that it was the same a turn ago: what follows from it is
 * computed in the loop instead of kept in registers through it. */
TS_DEV int ts_anew(int x)
{
#ifdef __CUDACC__
    asm volatile("" : "+r"(x));
#endif
    return x;
}

/* ---- cp.async ---- */
/* 16 bytes from global to shared memory, past the L1, later: `bytes` (0 or 16) are copied, the rest
 * is zero. Both addresses are multiples of 16. */
TS_DEV void ts_cp16(void *to, const void *from, int bytes TS_AT)
{
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
#else
    emu_cp16(to, from, bytes, file, line);
#endif
}
TS_DEV void ts_cp_commit(void)
{
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emu_commit();
#endif
}
/* Until at most `left` of this thread's latest groups are on their way; what it copied is then seen
 * by itself, by others after a barrier. */
template <int left> TS_DEV void ts_cp_wait(void)
{
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
#else
    emu_wait(left);
#endif
}

/* ---- ldmatrix ---- */
/* Four matrices of 8 x 8 sixteen-bit numbers: lane l gives the address of row l % 8 of matrix l /
 * 8; r[m] are elements (l / 4, 2 (l % 4)..+1) of matrix m, or of its transpose. */
TS_DEV void ts_ldmatrix(uint32_t (&r)[4], const void *row TS_AT)
{
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
#else
    uint32_t t[4];
    emu_ldmatrix4(t, row, false, file, line);
    for (int i = 0; i < 4; i++) r[i] = t[i];
#endif
}
TS_DEV void ts_ldmatrix_trans(uint32_t (&r)[4], const void *row TS_AT)
{
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
#else
    uint32_t t[4];
    emu_ldmatrix4(t, row, true, file, line);
    for (int i = 0; i < 4; i++) r[i] = t[i];
#endif
}

/* ---- mma ---- */
/* c += a b, 16 x 8 x 16, bf16 -> f32 */
TS_DEV void ts_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 TS_AT)
{
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    uint32_t x[4] = {a[0], a[1], a[2], a[3]}, y[2] = {b0, b1};
    float z[4] = {c[0], c[1], c[2], c[3]};
    emu_mma_bf16(z, x, y, file, line);
    for (int i = 0; i < 4; i++) c[i] = z[i];
#endif
}
/* The same for bytes: 16 x 8 x 32, s8 -> s32. */
TS_DEV void ts_mma(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1 TS_AT)
{
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    uint32_t x[4] = {a[0], a[1], a[2], a[3]}, y[2] = {b0, b1};
    int z[4] = {c[0], c[1], c[2], c[3]};
    emu_mma_s8(z, x, y, file, line);
    for (int i = 0; i < 4; i++) c[i] = z[i];
#endif
}

/* ---- arithmetic ---- */
/* 2^x and log2 x of the special function unit: relative error 2^-22, absolute error 2^-22 (results
 * around 0) */
TS_DEV float ts_exp2(float x)
{
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return emu_err(exp2f(x), x, 2);
#endif
}
TS_DEV float ts_log2(float x)
{
#ifdef __CUDACC__
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    if (x < 1.17549435e-38f) return -INFINITY;
    return log2f(x) + (__float_as_uint(x) & 1 ? 2.4e-7f : -2.4e-7f);
#endif
}

/* ---- sixteen bits ---- */
/* lo and hi rounded to bf16 (to nearest, ties to even), lo in the lower half */
TS_DEV uint32_t ts_bf16x2(float lo, float hi)
{
#ifdef __CUDACC__
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
#else
    return emu_to_bf16(lo) | (uint32_t)emu_to_bf16(hi) << 16;
#endif
}
TS_DEV uint16_t ts_round_bf16(float x) { return (uint16_t)ts_bf16x2(x, 0); }
TS_DEV float ts_widen_bf16(uint16_t h) { return __uint_as_float((uint32_t)h << 16); }
TS_DEV uint16_t ts_round_f16(float x)
{
#ifdef __CUDACC__
    uint16_t r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
#else
    return emu_to_f16(x);
#endif
}
TS_DEV float ts_widen_f16(uint16_t h)
{
#ifdef __CUDACC__
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h));
    return r;
#else
    return emu_from_f16(h);
#endif
}
#endif
