/* What the tests of CUDA kernels share. They run on the emulator (tests/cuda/emu) and, compiled by
 * nvcc with -DCHECK_MIN, on a GPU, where what only the emulator has does nothing. C++17.
 *
 * A program is test_X.cpp (host code), or test_X.cu where it has kernels of its own. */
#ifndef TESTS_CUDA_DEVICE_H
#define TESTS_CUDA_DEVICE_H
#include "backend/cuda/kernels.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>
#ifdef CHECK_MIN
#include "tests/cuda/check_min.h"
#else
#include <check.h>
extern "C" int testing_main(Suite *);
#endif
#include <cuda_runtime_api.h>

#include "tests/cuda/no_emu.h"

/* What must succeed; else the test fails with the device's words and the emulator's. */
#define ck_cuda(call)                                                                       \
    do {                                                                                    \
        cudaError_t ck_e_ = (call);                                                         \
        ck_assert_msg(!ck_e_, "%s: %s: %s", #call, cudaGetErrorString(ck_e_), emu_error()); \
    } while (0)

/* ---- the one stream, and memory that test_release gives back ---- */
enum { TEST_GUARD = ON_GPU ? 256 : 0 }; /* bytes around each; the emulator knows bounds exactly */
struct test_memory {
    char *at;
    size_t bytes;
};
inline std::vector<test_memory> test_taken;
inline cudaStream_t test_stream(void)
{
    static cudaStream_t s;
    cudaError_t e = s ? cudaSuccess : cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    if (e) {
        fprintf(stderr, "no GPU to test on: %s\n", cudaGetErrorString(e));
        exit(1);
    }
    return s;
}
/* n elements that nobody has written */
template <class T> T *test_take(size_t n)
{
    void *p = NULL;
    size_t bytes = (n ? n : 1) * sizeof(T);
    ck_cuda(cudaMalloc(&p, bytes + 2 * TEST_GUARD));
    if (TEST_GUARD > 0) ck_cuda(cudaMemsetAsync(p, 0xA5, bytes + 2 * TEST_GUARD, test_stream()));
    test_taken.push_back({(char *)p, bytes});
    return (T *)((char *)p + TEST_GUARD);
}
template <class T> T *test_give(const std::vector<T> &v)
{
    T *p = test_take<T>(v.size());
    ck_cuda(
        cudaMemcpyAsync(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice, test_stream()));
    return p;
}
/* "": all that was queued has run well; else what the emulator or the device says */
inline std::string test_found(void)
{
    cudaError_t e = cudaStreamSynchronize(test_stream());
    std::string found = emu_error();
    if (e && found.empty()) found = cudaGetErrorString(e);
    return found;
}
/* Fails the test where that is not "". */
#define ck_well(what)                                                        \
    do {                                                                     \
        std::string ck_found_ = test_found();                                \
        ck_assert_msg(ck_found_.empty(), "%s: %s", what, ck_found_.c_str()); \
    } while (0)
template <class T> std::vector<T> test_fetch(const T *p, size_t n)
{
    std::vector<T> v(n);
    cudaMemcpyAsync(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost, test_stream());
    std::string found = test_found();
    ck_assert_msg(found.empty(), "%s", found.c_str());
    return v;
}
/* Frees; on a GPU looks at the bytes around first. A checked fixture's teardown. */
inline void test_release(void)
{
    cudaStreamSynchronize(test_stream());
    emu_error();
    bool spoiled = false;
    for (test_memory &m : test_taken) {
        unsigned char guard[2 * TEST_GUARD + 1];
        if (TEST_GUARD > 0) {
            cudaMemcpyAsync(guard, m.at, TEST_GUARD, cudaMemcpyDeviceToHost, test_stream());
            cudaMemcpyAsync(guard + TEST_GUARD, m.at + TEST_GUARD + m.bytes, TEST_GUARD,
                            cudaMemcpyDeviceToHost, test_stream());
            cudaStreamSynchronize(test_stream());
        }
        for (int i = 0; i < 2 * TEST_GUARD; i++) spoiled = spoiled || guard[i] != 0xA5;
        cudaFree(m.at);
    }
    test_taken.clear();
    cudaGetLastError();
    if (spoiled) {
        fprintf(stderr, "a kernel wrote beside its output\n");
        abort();
    }
}

/* The three orders in which blocks and their threads take turns, once each eager and late: i from
 * 0 to TEST_ORDERS. */
enum { TEST_ORDERS = 3 };
inline void test_order(int i)
{
    emu_options o = {};
    o.late = i != 1;
    o.order = (emu_order)i;
    o.seed = 7;
    o.shared = 166912; /* an A100's */
    emu_set(o);
}
inline void test_order_default(void) { test_order(0); }

/* make check-emu and a GPU take the long variants, SHORT=1 (under a sanitizer) none; VERBOSE=1 says
 * what was measured */
inline bool test_long(void) { return getenv("LONG") || (ON_GPU && !getenv("SHORT")); }
inline bool test_verbose(void) { return getenv("VERBOSE") != NULL; }

/* ---- numbers ---- */
inline uint32_t test_seed = 1;
inline float test_uniform(void) /* [0, 1) */
{
    test_seed = test_seed * 1664525u + 1013904223u;
    return (float)(test_seed >> 8) / (1 << 24);
}
inline float test_normal(void)
{
    float s = 0;
    for (int i = 0; i < 6; i++) s += test_uniform();
    return (s - 3) * 1.41f;
}
inline float test_widen(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
inline uint16_t test_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return 0x7FFF;
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}
/* Numbers of a type, as f32 and as they lie in memory. */
struct test_numbers {
    std::vector<float> f;    /* exactly what memory holds */
    std::vector<char> bytes; /* f32 or bf16 */
};
inline test_numbers test_round(std::vector<float> v, ts_dtype type)
{
    test_numbers n;
    if (type == TS_BF16) {
        n.bytes.resize(v.size() * 2);
        for (size_t i = 0; i < v.size(); i++) {
            uint16_t h = test_bf16(v[i]);
            memcpy(&n.bytes[2 * i], &h, 2);
            v[i] = test_widen(h);
        }
    } else {
        n.bytes.resize(v.size() * 4);
        memcpy(n.bytes.data(), v.data(), v.size() * 4);
    }
    n.f = std::move(v);
    return n;
}
inline std::vector<float> test_randoms(size_t n, float spread)
{
    std::vector<float> v(n);
    for (float &x : v) x = test_normal() * spread;
    return v;
}
/* A tensor over bytes of the device or of the host; ld 0: packed. */
inline ts_tensor test_tensor(const void *p, ts_dtype type, std::vector<long> dim, long ld = 0)
{
    ts_tensor t = {};
    t.p.at = (uint64_t)(uintptr_t)p;
    t.type = type;
    t.nd = (int)dim.size();
    for (size_t i = 0; i < dim.size(); i++) t.dim[i] = dim[i];
    t.ld = ld ? ld : dim.back();
    return t;
}
#endif
