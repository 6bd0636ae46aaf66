/* The flash kernels of every CPU level against plain C in double, over head widths, ragged ends, plans, biases, masks, extreme logits; block sums; the cached search. */
#include "backend/cpu/attention.h"
#include "backend/cpu/attention_cached.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 };
typedef struct {
    long B, Nq, Nk, A, D;
    ts_dtype type;
    float scale, spread; /* spread: of q and k; large: one-hot softmax */
    int bias;            /* 0 none, 1 by key, 2 by head and place */
    bool nk, plan, sums;
    long gap;            /* elements between heads' rows: ld = A D + gap */
} shape;

typedef struct { ts_attention a; int nk[4]; ts_plan plan; const ts_plan *plans[4]; void *mem[8]; int n; } call;

static void *keep(call *c, size_t bytes) { return c->mem[c->n++] = aligned_alloc(64, (bytes + 127) & ~(size_t)63); }

static ts_tensor make(call *c, const shape *s, long N, const char *name, float spread)
{
    long ld = s->A * s->D + s->gap, n = s->B * N * ld;
    float *f = malloc((size_t)n * sizeof *f);
    void *p = keep(c, (size_t)(n + GUARD) * ts_dtype_size(s->type));
    golden_input(name, spread, n, f);
    for (long i = 0; i < n; i++) ts_store(p, s->type, i, f[i]);
    for (long i = n; i < n + GUARD; i++) ts_store(p, s->type, i, -77);
    free(f);
    return (ts_tensor){.p = {(uintptr_t)p}, .type = s->type, .nd = 4, .dim = {s->B, N, s->A, s->D}, .ld = ld};
}

static void build(call *c, const shape *s)
{
    memset(c, 0, sizeof *c);
    long nb = (s->Nk + 63) / 64;
    c->a = (ts_attention){.scale = s->scale};
    c->a.q = make(c, s, s->Nq, "q", s->spread), c->a.k = make(c, s, s->Nk, "k", s->spread), c->a.v = make(c, s, s->Nk, "v", 1), c->a.out = make(c, s, s->Nq, "o", 1);
    long lse[] = {s->B, s->A, s->Nq}, bias[] = {s->bias == 2 ? s->A : 1, s->bias == 2 ? s->Nq : 1, s->Nk}, sums[] = {s->B, s->A, (s->Nq + 63) / 64, nb};
    c->a.lse = ts_tensor_of((ts_ptr){(uintptr_t)keep(c, (size_t)(s->B * s->A * s->Nq) * 4)}, TS_F32, 3, lse);
    if (s->bias) {
        float *b = keep(c, (size_t)(bias[0] * bias[1] * bias[2]) * 4);
        golden_input("bias", 3, bias[0] * bias[1] * bias[2], b);
        c->a.bias = ts_tensor_of((ts_ptr){(uintptr_t)b}, TS_F32, 3, bias);
    }
    if (s->sums) c->a.sums = ts_tensor_of((ts_ptr){(uintptr_t)keep(c, (size_t)(s->B * s->A * sums[2] * nb) * 4)}, TS_F32, 4, sums);
    for (int b = 0; b < s->B; b++) c->nk[b] = (int)(s->Nk - b * 3 - s->Nk / 3);
    if (s->nk) c->a.nk = c->nk;
    if (s->plan) {
        long words = (nb + 31) / 32;
        uint32_t *bits = keep(c, (size_t)(s->A * nb * words) * 4);
        memset(bits, 0, (size_t)(s->A * nb * words) * 4);
        for (long r = 0; r < s->A * nb; r++) {
            for (long i = 0; i < nb; i++)
                if (golden_u("plan", (uint32_t)(r * nb + i)) > 0.2) bits[r * words + i / 32] |= 1u << (i % 32);
            long sure = r % nb; /* every row reads at least one; some read only the ragged last */
            if (r % 5 == 3) memset(bits + r * words, 0, (size_t)words * 4), sure = nb - 1;
            bits[r * words + sure / 32] |= 1u << (sure % 32);
        }
        c->plan = (ts_plan){.A = (int)s->A, .nb = (int)nb, .bits = {(uintptr_t)bits}};
        for (int b = 0; b < s->B; b++) c->plans[b] = &c->plan;
        c->a.plan = c->plans;
    }
}

static void drop(call *c)
{
    for (int i = 0; i < c->n; i++) free(c->mem[i]);
}

/* f32: 4 eps of each sum's terms and of the exponent's argument, whose size the spread sets; bf16: P and the output are rounded to 2^-9 each, q and k are the same. */
static double tolerance(const shape *s)
{
    double logit = fabs(s->scale) * s->spread * s->spread * sqrt((double)s->D) + 3;
    return s->type == TS_F32 ? 2e-6 + 4e-7 * logit : 1.2e-2 + 4e-7 * logit;
}

static void compare(const shape *s, const call *got, const call *want, const char *level)
{
    double tol = tolerance(s), worst = 0, worst_lse = 0;
    long ld = got->a.out.ld, n = s->B * s->Nq;
    for (long i = 0; i < n; i++)
        for (long d = 0; d < ld; d++) {
            float g = ts_load(ts_host_of(got->a.out.p), s->type, i * ld + d), w = ts_load(ts_host_of(want->a.out.p), s->type, i * ld + d);
            double e = fabs((double)g - w);
            if (!(e <= worst)) worst = e;
        }
    for (long i = n * ld; i < n * ld + GUARD; i++) ck_assert_msg(ts_load(ts_host_of(got->a.out.p), s->type, i) == -77, "written past the end");
    const float *lg = ts_host_of(got->a.lse.p), *lw = ts_host_of(want->a.lse.p);
    for (long i = 0; i < s->B * s->A * s->Nq; i++) {
        double e = fabs((double)lg[i] - lw[i]);
        if (!(e <= worst_lse)) worst_lse = e;
    }
    ck_assert_msg(worst <= tol && worst_lse <= tol * 3, "%s N %ldx%ld A %ld D %ld type %d bias %d nk %d plan %d spread %g: out off by %.2e, lse by %.2e (tolerance %.1e)", level, s->Nq, s->Nk, s->A, s->D,
                  s->type, s->bias, s->nk, s->plan, s->spread, worst, worst_lse, tol);
    if (!s->sums) return;
    const float *sg = ts_host_of(got->a.sums.p), *sw = ts_host_of(want->a.sums.p);
    long nb = got->a.sums.dim[3], rows = s->B * s->A * got->a.sums.dim[2];
    for (long r = 0; r < rows; r++) {
        double sum = 0, tokens = (double)(s->Nq - r % got->a.sums.dim[2] * 64 < 64 ? s->Nq - r % got->a.sums.dim[2] * 64 : 64);
        for (long i = 0; i < nb; i++) {
            sum += sg[r * nb + i];
            ck_assert_msg(fabs(sg[r * nb + i] - sw[r * nb + i]) <= tol * 64, "%s: block sum %g, expected %g", level, sg[r * nb + i], sw[r * nb + i]);
        }
        ck_assert_msg(fabs(sum - tokens) <= tol * 64, "%s: block sums of a row add up to %g, expected %g", level, sum, tokens);
    }
}

static const char *const levels[] = {"avx2", "avx512", "avx512_bf16"};

static void each_level(const shape *s)
{
    call want, got;
    ts_ctx *ref = testing_open("cpu", "ref", 2);
    build(&want, s);
    ck_ok(ref, ref->dev->ops->attention(ref->dev, &want.a));
    testing_close(ref);
    ts_ctx *best = testing_open("cpu", NULL, 1);
    ts_level most = ((ts_cpu *)best->dev)->level;
    testing_close(best);
    for (int l = 0; l < 3; l++) {
        if ((int)most < l + 1) continue;
        for (int threads = 1; threads <= 2; threads++) {
            ts_ctx *c = testing_open("cpu", levels[l], threads);
            build(&got, s);
            ck_ok(c, c->dev->ops->attention(c->dev, &got.a));
            compare(s, &got, &want, levels[l]);
            drop(&got), testing_close(c);
        }
    }
    drop(&want);
}

START_TEST(widths)
{
    static const long D[] = {2, 12, 16, 24, 32, 40, 64, 72, 80, 96, 128, 384};
    for (size_t i = 0; i < sizeof D / sizeof *D; i++)
        for (int t = 0; t < 2; t++)
            each_level(&(shape){.B = 1, .Nq = 150, .Nk = 150, .A = 2, .D = D[i], .type = t ? TS_BF16 : TS_F32, .scale = 1 / sqrtf((float)D[i]), .spread = 1.7f, .sums = true, .gap = i % 3});
}
END_TEST

START_TEST(lengths)
{
    static const long N[][2] = {{1, 1}, {5, 5}, {63, 63}, {64, 64}, {65, 65}, {129, 129}, {429, 429}, {1000, 1000}, {70, 13}, {3, 200}, {200, 1}};
    for (size_t i = 0; i < sizeof N / sizeof *N; i++)
        for (int t = 0; t < 2; t++)
            each_level(&(shape){.B = 1, .Nq = N[i][0], .Nk = N[i][1], .A = 3, .D = 64, .type = t ? TS_BF16 : TS_F32, .scale = 0.125f, .spread = 1.7f, .plan = N[i][0] == N[i][1] && i % 2, .sums = i % 2 == 0});
}
END_TEST

START_TEST(parts)
{
    for (int bias = 0; bias < 3; bias++)
        for (int rest = 0; rest < 4; rest++) {
            bool plan = (rest & 2) && !bias;
            for (int t = 0; t < 2; t++)
                each_level(&(shape){.B = 2, .Nq = 333, .Nk = 333, .A = 2, .D = 48, .type = t ? TS_BF16 : TS_F32, .scale = 0.15f, .spread = 1.5f, .bias = bias, .nk = (rest & 1) && !plan, .plan = plan,
                                    .sums = !bias && !(rest & 1), .gap = 16});
        }
}
END_TEST

START_TEST(extremes)
{
    static const float spread[] = {0, 1e-20f, 30, 300};
    for (int i = 0; i < 4; i++)
        for (int t = 0; t < 2; t++) {
            shape s = {.B = 1, .Nq = 100, .Nk = 200, .A = 1, .D = 32, .type = t ? TS_BF16 : TS_F32, .scale = 1, .spread = spread[i]};
            each_level(&s);
        }
}
END_TEST

/* A plan that keeps everything is the same list as no plan: the same bits come out. */
START_TEST(keep_all)
{
    shape s = {.B = 1, .Nq = 500, .Nk = 500, .A = 2, .D = 64, .type = TS_F32, .scale = 0.125f, .spread = 1.7f, .plan = true};
    call dense, full;
    ts_ctx *c = testing_open("cpu", NULL, 2);
    build(&dense, &s), build(&full, &s);
    dense.a.plan = NULL;
    memset(ts_host_of(full.plan.bits), 0xFF, (size_t)(2 * 8) * 4);
    uint32_t *bits = ts_host_of(full.plan.bits);
    for (int i = 0; i < 16; i++) bits[i] = 0xFF;
    ck_ok(c, c->dev->ops->attention(c->dev, &dense.a));
    ck_ok(c, c->dev->ops->attention(c->dev, &full.a));
    ck_assert(!memcmp(ts_host_of(dense.a.out.p), ts_host_of(full.a.out.p), (size_t)(500 * 128) * 4));
    drop(&dense), drop(&full), testing_close(c);
}
END_TEST

/* With the lse of the same q and k the cached search finds what the fused one found. */
START_TEST(cached)
{
    for (int t = 0; t < 2; t++) {
        shape s = {.B = 1, .Nq = 429, .Nk = 429, .A = 2, .D = 64, .type = t ? TS_BF16 : TS_F32, .scale = 0.125f, .spread = 1.7f, .sums = true};
        ts_ctx *best = testing_open("cpu", NULL, 2);
        ts_level most = ((ts_cpu *)best->dev)->level;
        testing_close(best);
        for (int l = 0; l < 3 && l < (int)most; l++) {
            ts_ctx *c = testing_open("cpu", levels[l], 2);
            call x;
            float sums[2 * 7 * 7];
            build(&x, &s);
            ck_ok(c, c->dev->ops->attention(c->dev, &x.a));
            ck_ok(c, ts_cpu_block_sums((ts_cpu *)c->dev, &x.a, ts_host_of(x.a.lse.p), sums));
            const float *fused = ts_host_of(x.a.sums.p);
            /* lse is rounded to f32: a relative error of its ulp times ln 2; the fused sums of bf16 are of the same f32 logits */
            for (int i = 0; i < 98; i++) ck_assert_msg(fabsf(sums[i] - fused[i]) <= 2e-5f * fmaxf(1, fused[i]) + (t ? 2e-3f * fused[i] : 0), "%s: %g, fused %g", levels[l], sums[i], fused[i]);
            drop(&x), testing_close(c);
        }
    }
}
END_TEST

START_TEST(refused)
{
    shape s = {.B = 1, .Nq = 64, .Nk = 64, .A = 1, .D = 16, .type = TS_F32, .scale = 1, .spread = 1};
    call x;
    ts_ctx *c = testing_open("cpu", NULL, 1);
    build(&x, &s);
    x.a.k.dim[3] = 8;
    ck_assert_int_eq(c->dev->ops->attention(c->dev, &x.a), TS_ESHAPE);
    ck_assert(strstr(c->err.text, "attention"));
    drop(&x), testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attention");
    TCase *tc = tcase_create("attention");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, widths);
    tcase_add_test(tc, lengths);
    tcase_add_test(tc, parts);
    tcase_add_test(tc, extremes);
    tcase_add_test(tc, keep_all);
    tcase_add_test(tc, cached);
    tcase_add_test(tc, refused);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed != 0;
}
