/* A flash kernel's own source, compiled for any machine: SIMDe computes each instruction in plain
 * C, so that a CPU without the instructions still tests what it will never run. The including file
 * then includes the kernel, which takes the place of the library's, and EMULATED(level, type)
 * closes it. */
#ifndef TEST_ATTENTION_SIMDE_H
#define TEST_ATTENTION_SIMDE_H
#define _IMMINTRIN_H_INCLUDED /* of gcc and */
#define __IMMINTRIN_H         /* of clang: the compiler's own intrinsics stay out */
#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wextra"
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#pragma GCC diagnostic pop

#include "tests/backend/test_attention.h"

/* ---- what SIMDe 0.7.4 lacks ---- */
#define LACKING static inline __attribute__((always_inline))
LACKING __m512 lacking_reduce(__m512 t, int how)
{
    float x[16];
    ck_assert_int_eq(how, 0x09); /* minus the floor */
    memcpy(x, &t, sizeof x);
    for (int i = 0; i < 16; i++) x[i] -= floorf(x[i]);
    memcpy(&t, x, sizeof x);
    return t;
}

LACKING float lacking_sum(__m512 v)
{
    float x[16], y = 0;
    memcpy(x, &v, sizeof x);
    for (int i = 0; i < 16; i++) y += x[i];
    return y;
}

LACKING float lacking_top(__m512 v)
{
    float x[16];
    memcpy(x, &v, sizeof x);
    for (int i = 1; i < 16; i++) x[0] = x[0] > x[i] ? x[0] : x[i];
    return x[0];
}

LACKING __m512i lacking_widen(__m256i v)
{
    uint16_t x[16];
    uint32_t y[16];
    __m512i r;
    memcpy(x, &v, sizeof x);
    for (int i = 0; i < 16; i++) y[i] = x[i];
    memcpy(&r, y, sizeof r);
    return r;
}

LACKING __m256bh lacking_round(__m512 v)
{
    float x[16];
    uint16_t y[16];
    __m256bh r;
    memcpy(x, &v, sizeof x);
    for (int i = 0; i < 16; i++) y[i] = ts_to_bf16(x[i]);
    memcpy(&r, y, sizeof r);
    return r;
}

LACKING __m512bh lacking_round_two(__m512 high, __m512 low)
{
    __m256bh half[2] = {lacking_round(low), lacking_round(high)};
    __m512bh r;
    memcpy(&r, half, sizeof r);
    return r;
}
#undef _mm512_reduce_ps
#undef _mm512_reduce_add_ps
#undef _mm512_reduce_max_ps
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtneps_pbh
#undef _mm512_cvtne2ps_pbh
#define _mm512_reduce_ps lacking_reduce
#define _mm512_reduce_add_ps lacking_sum
#define _mm512_reduce_max_ps lacking_top
#define _mm512_cvtepu16_epi32 lacking_widen
#define _mm512_cvtneps_pbh lacking_round
#define _mm512_cvtne2ps_pbh lacking_round_two

/* The driver of the level with this kernel in it, whatever the machine is. */
static void run_shape(ts_level level, const shape *s)
{
    call got, want;
    ts_ctx *c = testing_open("cpu", "ref", 2);
    build_call(&got, s);
    build_call(&want, s);
    ck_ok(c, c->dev->ops->attention(c->dev, &want.a));
    ((ts_cpu *)c->dev)->level = level;
    ck_ok(c, c->dev->ops->attention(c->dev, &got.a));
    compare_calls(s, &got, &want, "emulated");
    free_call_memory(&got);
    free_call_memory(&want);
    testing_close(c);
}

static void every(ts_level level, ts_dtype type)
{
    static const long D[] = {2, 12, 40, 64, 72, 128}, N[] = {1, 5, 63, 65, 200, 429};
    for (int i = 0; i < 6; i++)
        run_shape(level, &(shape){.B = 1,
                                  .Nq = 70,
                                  .Nk = 70,
                                  .A = 2,
                                  .D = D[i],
                                  .type = type,
                                  .scale = 1 / sqrtf((float)D[i]),
                                  .spread = 1.7f,
                                  .sums = true,
                                  .gap = i % 3});
    for (int i = 0; i < 6; i++)
        run_shape(level, &(shape){.B = 1,
                                  .Nq = N[i],
                                  .Nk = N[i],
                                  .A = 1,
                                  .D = 32,
                                  .type = type,
                                  .scale = 0.2f,
                                  .spread = 1.7f,
                                  .plan = i % 2,
                                  .sums = i % 2 == 0});
    run_shape(level, &(shape){.B = 2,
                              .Nq = 66,
                              .Nk = 150,
                              .A = 2,
                              .D = 48,
                              .type = type,
                              .scale = 0.15f,
                              .spread = 1.5f,
                              .bias = 2,
                              .nk = true,
                              .gap = 16});
    run_shape(level, &(shape){.B = 1,
                              .Nq = 100,
                              .Nk = 200,
                              .A = 1,
                              .D = 32,
                              .type = type,
                              .scale = 1,
                              .spread = 300});
}

#define EMULATED(level, type)                               \
    START_TEST(emulated) { every(level, type); }            \
    END_TEST                                                \
    int main(void)                                          \
    {                                                       \
        Suite *suite = suite_create("attention, emulated"); \
        TCase *tc = tcase_create("attention, emulated");    \
        tcase_set_timeout(tc, 120);                         \
        tcase_add_test(tc, emulated);                       \
        suite_add_tcase(suite, tc);                         \
        return testing_main(suite);                         \
    }
#endif
