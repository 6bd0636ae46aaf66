/* What nvcc knows without being told, for g++: the words of CUDA C++ that kernels here use. Threads
 * of a block are fibers of one host thread (threads.cpp); each runs until it has to wait for
 * others. PTX is in backend/cuda/ptx.h, which has a body for nvcc and one for this. */
#ifndef EMU_CUDA_RUNTIME_H
#define EMU_CUDA_RUNTIME_H
#include "cuda_runtime_api.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstring>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
/* one block runs at a time */
#define __shared__ static __attribute__((section("emu_shared")))
#define __grid_constant__

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(4) ushort2 {
    unsigned short x, y;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/* ---- who am I ---- */
struct emu_thread {
    uint3 thread;
    unsigned lane, warp, id;
};
struct emu_block {
    uint3 block;
    dim3 grid, threads;
};
extern emu_thread *emu_self; /* NULL: the host */
extern emu_block emu_here;
#define threadIdx (emu_self->thread)
#define blockIdx (emu_here.block)
#define gridDim (emu_here.grid)
#define blockDim (emu_here.threads)
#define warpSize 32

/* ---- waiting for others. Where it was called from is part of the call: threads that meet must
 * have come from one place ---- */
#define EMU_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()
void emu_barrier(const char *file, int line);
#define __syncthreads() emu_barrier(__FILE__, __LINE__)
/* All lanes of `mask` meet; the last one runs `meet` over everybody's `args`, [32], NULL for lanes
 * outside of the mask. */
void emu_meet(const char *what, unsigned mask, void *args, void (*meet)(void **args, unsigned mask),
              const char *file, int line);
void emu_warp_ordered(void);
static inline void __syncwarp(unsigned mask = ~0u, EMU_AT)
{
    emu_meet(
        "__syncwarp", mask, NULL, [](void **, unsigned) { emu_warp_ordered(); }, file, line);
}
[[noreturn]] void emu_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

template <class T> struct emu_shuffle {
    T in, out;
    int lane;
};
template <class T> static void emu_shuffle_all(void **all, unsigned mask)
{
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        emu_shuffle<T> *me = (emu_shuffle<T> *)all[i];
        if (mask >> me->lane & 1)
            me->out = ((emu_shuffle<T> *)all[me->lane])->in;
        else /* undefined on the device */
            memset(&me->out, 0xFF, sizeof me->out);
    }
}
template <class T>
static inline T emu_shuffle_from(const char *what, unsigned mask, T v, int from, const char *file,
                                 int line)
{
    emu_shuffle<T> a = {v, v, from};
    emu_meet(what, mask, &a, emu_shuffle_all<T>, file, line);
    return a.out;
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int lane, EMU_AT)
{
    return emu_shuffle_from("__shfl_sync", mask, v, lane & 31, file, line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int d, EMU_AT)
{
    return emu_shuffle_from("__shfl_xor_sync", mask, v, (int)emu_self->lane ^ d, file, line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, int d, EMU_AT)
{
    int me = (int)emu_self->lane;
    return emu_shuffle_from("__shfl_down_sync", mask, v, me + d < 32 ? me + d : me, file, line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, int d, EMU_AT)
{
    int me = (int)emu_self->lane;
    return emu_shuffle_from("__shfl_up_sync", mask, v, me >= d ? me - d : me, file, line);
}
struct emu_vote {
    int yes;
    unsigned votes;
};
static inline unsigned __ballot_sync(unsigned mask, int yes, EMU_AT)
{
    emu_vote a = {yes, 0};
    emu_meet(
        "__ballot_sync", mask, &a,
        [](void **all, unsigned m) {
            unsigned votes = 0;
            for (int i = 0; i < 32; i++)
                if (m >> i & 1 && ((emu_vote *)all[i])->yes) votes |= 1u << i;
            for (int i = 0; i < 32; i++)
                if (m >> i & 1) ((emu_vote *)all[i])->votes = votes;
        },
        file, line);
    return a.votes;
}
static inline int __any_sync(unsigned mask, int yes, EMU_AT)
{
    return __ballot_sync(mask, yes, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int yes, EMU_AT)
{
    return __ballot_sync(mask, yes, file, line) == mask;
}
struct emu_addend {
    unsigned in, sum;
};
static inline unsigned __reduce_add_sync(unsigned mask, unsigned v, EMU_AT)
{
    emu_addend a = {v, 0};
    emu_meet(
        "__reduce_add_sync", mask, &a,
        [](void **all, unsigned m) {
            unsigned sum = 0;
            for (int i = 0; i < 32; i++)
                if (m >> i & 1) sum += ((emu_addend *)all[i])->in;
            for (int i = 0; i < 32; i++)
                if (m >> i & 1) ((emu_addend *)all[i])->sum = sum;
        },
        file, line);
    return a.sum;
}
/* a barrier; how many of the block's threads said yes */
int emu_barrier_count(int yes, const char *file, int line);
static inline int __syncthreads_count(int yes, EMU_AT)
{
    return emu_barrier_count(yes != 0, file, line);
}
static inline int __syncthreads_or(int yes, EMU_AT)
{
    return emu_barrier_count(yes != 0, file, line) != 0;
}

/* ---- memory ---- */
unsigned char *emu_dynamic_shared(void);
typedef enum {
    EMU_READ,
    EMU_WRITE,
    EMU_ATOMIC,
    EMU_WARP_READ,
    EMU_ASYNC_WRITE,
    EMU_ASYNC_DONE
} emu_access;
/* checks bounds, alignment, order */
void emu_touch(const void *, size_t, emu_access, const char *file, int line);
template <class T, class F>
__attribute__((no_sanitize_thread)) static T emu_atomic(T *p, F f, const char *file, int line)
{
    emu_touch(p, sizeof(T), EMU_ATOMIC, file, line);
    T old, now;
    memcpy(&old, p, sizeof old);
    now = f(old);
    memcpy(p, &now, sizeof now);
    return old;
}
template <class T, class V> static inline T atomicAdd(T *p, V v, EMU_AT)
{
    return emu_atomic(
        p, [v](T o) { return (T)(o + (T)v); }, file, line);
}
template <class T, class V> static inline T atomicMax(T *p, V v, EMU_AT)
{
    return emu_atomic(
        p, [v](T o) { return o > (T)v ? o : (T)v; }, file, line);
}
template <class T, class V> static inline T atomicMin(T *p, V v, EMU_AT)
{
    return emu_atomic(
        p, [v](T o) { return o < (T)v ? o : (T)v; }, file, line);
}
template <class T, class V> static inline T atomicOr(T *p, V v, EMU_AT)
{
    return emu_atomic(
        p, [v](T o) { return (T)(o | (T)v); }, file, line);
}
template <class T, class V> static inline T atomicExch(T *p, V v, EMU_AT)
{
    return emu_atomic(
        p, [v](T) { return (T)v; }, file, line);
}
template <class T, class V> static inline T atomicCAS(T *p, V was, V v, EMU_AT)
{
    return emu_atomic(
        p, [was, v](T o) { return o == (T)was ? (T)v : o; }, file, line);
}
template <class T> static inline T __ldg(const T *p) { return *p; }
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}

/* ---- arithmetic ---- */
static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
static inline int __float_as_int(float f) { return (int)__float_as_uint(f); }
static inline float __int_as_float(int i) { return __uint_as_float((unsigned)i); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((unsigned long long)a * b >> 32);
}
/* never contracted, there or here */
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
/* of pi x, by what is left of the nearest quarter turn */
static inline void sincospi(double x, double *s, double *c)
{
    double n = rint(2 * x);
    long double rest = 3.14159265358979323846264338327950288L * (x - n / 2);
    double sine = (double)sinl(rest), cosine = (double)cosl(rest);
    int quarter = (int)fmod(n, 4) & 3;
    *s = quarter == 0 ? sine : quarter == 1 ? cosine : quarter == 2 ? -sine : -cosine;
    *c = quarter == 0 ? cosine : quarter == 1 ? -sine : quarter == 2 ? -cosine : sine;
}
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
using std::max;
using std::min;
/* An approximation errs as much as its documentation allows, to either side by the bits of its
 * argument: what passes here has margin there. */
static inline float emu_err(float y, float x, float ulps)
{
    if (!(fabsf(y) > 1.17549435e-38f)) return y != y ? y : 0 * y; /* flushed; the sign stays */
    unsigned h = __float_as_uint(x) * 2654435761u >> 31;
    return y * (1 + (h ? ulps : -ulps) * 1.1920929e-7f);
}
#define __expf emu_expf /* glibc has functions of these names */
#define __logf emu_logf
static inline float __expf(float x) { return emu_err(expf(x), x, 2 + floorf(fabsf(1.173f * x))); }
static inline float __logf(float x) { return x > 0.5f && x < 2 ? logf(x) : emu_err(logf(x), x, 3); }
static inline float __fdividef(float a, float b) { return emu_err(a / b, a, 2); }

/* ---- bfloat16, half ---- */
static inline uint16_t emu_to_bf16(float f) /* to nearest, ties to even */
{
    uint32_t u = __float_as_uint(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}
static inline float emu_from_bf16(uint16_t h) { return __uint_as_float((uint32_t)h << 16); }
static inline uint16_t emu_to_f16(float f)
{
    _Float16 h = (_Float16)f;
    uint16_t u;
    memcpy(&u, &h, 2);
    return u;
}
static inline float emu_from_f16(uint16_t u)
{
    _Float16 h;
    memcpy(&h, &u, 2);
    return (float)h;
}

/* ---- launching ---- */
cudaError_t emu_launch_any(const char *name, const void *kernel, dim3 grid, dim3 block,
                           size_t shared, cudaStream_t, void (*call)(const void *),
                           const void *params, size_t bytes);
/* Arguments are converted and kept now, as <<<>>> does. */
template <class... P> struct emu_call {
    void (*kernel)(P...);
    std::tuple<P...> params;
};
template <class... P> static void emu_call_kernel(const void *p)
{
    const emu_call<P...> *c = (const emu_call<P...> *)p;
    std::apply(c->kernel, c->params);
}
template <class... P, class... A>
static cudaError_t emu_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                              size_t shared, cudaStream_t s, A... a)
{
    emu_call<P...> c = {kernel, std::tuple<P...>(a...)};
    return emu_launch_any(name, (const void *)kernel, grid, block, shared, s, emu_call_kernel<P...>,
                          &c, sizeof c);
}
#endif
