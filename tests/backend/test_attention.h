/* What the tests of attention share: a call of a shape with guarded results, and its comparison
 * with plain C. */
#ifndef TEST_ATTENTION_H
#define TEST_ATTENTION_H
#include "backend/cpu/attention.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 };
typedef struct {
    long B, Nq, Nk, A, D;
    ts_dtype type;
    float scale, spread;         /* spread: of q and k; large: one-hot softmax */
    int bias;                    /* 0 none, 1 by key, 2 by head and place */
    bool nk, plan, shared, sums; /* shared: one plan for all heads */
    long gap;                    /* elements between heads' rows: ld = A D + gap */
} shape;

typedef struct {
    ts_attention a;
    int nk[4];
    ts_plan plan;
    const ts_plan *plans[4];
    void *mem[8];
    int n;
} call;

static void *keep_bytes(call *c, size_t bytes)
{
    return c->mem[c->n++] = aligned_alloc(64, (bytes + 127) & ~(size_t)63);
}

/* f32 results of n numbers with guards behind them. */
static ts_ptr result(call *c, long n)
{
    float *p = keep_bytes(c, (size_t)(n + GUARD) * sizeof *p);
    for (long i = n; i < n + GUARD; i++) p[i] = -77;
    return (ts_ptr){(uintptr_t)p};
}

static void check_guards(ts_tensor t)
{
    const float *p = ts_host_of(t.p);
    for (long i = ts_count(t); i < ts_count(t) + GUARD; i++)
        ck_assert_msg(p[i] == -77, "written past the end");
}

static ts_tensor random_heads(call *c, const shape *s, long N, const char *name, float spread)
{
    long ld = s->A * s->D + s->gap, n = s->B * N * ld;
    float *f = malloc((size_t)n * sizeof *f);
    void *p = keep_bytes(c, (size_t)(n + GUARD) * ts_dtype_size(s->type));
    golden_input(name, spread, n, f);
    for (long i = 0; i < n; i++) ts_store(p, s->type, i, f[i]);
    for (long i = n; i < n + GUARD; i++) ts_store(p, s->type, i, -77);
    free(f);
    return (ts_tensor){
        .p = {(uintptr_t)p}, .type = s->type, .nd = 4, .dim = {s->B, N, s->A, s->D}, .ld = ld};
}

static void build_call(call *c, const shape *s)
{
    memset(c, 0, sizeof *c);
    long nb = (s->Nk + 63) / 64;
    c->a = (ts_attention){.scale = s->scale};
    c->a.q = random_heads(c, s, s->Nq, "q", s->spread);
    c->a.k = random_heads(c, s, s->Nk, "k", s->spread);
    c->a.v = random_heads(c, s, s->Nk, "v", 1);
    c->a.out = random_heads(c, s, s->Nq, "o", 1);
    long lse[] = {s->B, s->A, s->Nq},
         bias[] = {s->bias == 2 ? s->A : 1, s->bias == 2 ? s->Nq : 1, s->Nk},
         sums[] = {s->B, s->A, (s->Nq + 63) / 64, nb};
    c->a.lse = ts_tensor_of(result(c, s->B * s->A * s->Nq), TS_F32, 3, lse);
    if (s->bias) {
        float *b = keep_bytes(c, (size_t)(bias[0] * bias[1] * bias[2]) * 4);
        golden_input("bias", 3, bias[0] * bias[1] * bias[2], b);
        c->a.bias = ts_tensor_of((ts_ptr){(uintptr_t)b}, TS_F32, 3, bias);
    }
    if (s->sums) c->a.sums = ts_tensor_of(result(c, s->B * s->A * sums[2] * nb), TS_F32, 4, sums);
    for (int b = 0; b < s->B; b++) c->nk[b] = (int)(s->Nk - b * 3 - s->Nk / 3);
    if (s->nk) c->a.nk = c->nk;
    if (s->plan) {
        long words = (nb + 31) / 32;
        uint32_t *bits = keep_bytes(c, (size_t)(s->A * nb * words) * 4);
        memset(bits, 0, (size_t)(s->A * nb * words) * 4);
        for (long r = 0; r < s->A * nb; r++) {
            for (long i = 0; i < nb; i++)
                if (golden_u("plan", (uint32_t)(r * nb + i)) > 0.2)
                    bits[r * words + i / 32] |= 1u << (i % 32);
            long sure = r % nb; /* every row reads at least one; some read only the ragged last */
            if (r % 5 == 3) {
                memset(bits + r * words, 0, (size_t)words * 4);
                sure = nb - 1;
            }
            bits[r * words + sure / 32] |= 1u << (sure % 32);
        }
        c->plan = (ts_plan){
            .A = s->shared ? 1 : (int)s->A, .nb = (int)nb, .bits = {(uintptr_t)bits}};
        for (int b = 0; b < s->B; b++) c->plans[b] = &c->plan;
        c->a.plan = c->plans;
    }
}

static void free_call_memory(call *c)
{
    for (int i = 0; i < c->n; i++) free(c->mem[i]);
}

/* Relative errors that the arithmetic explains, in roundings of 2^-24. An argument of the
 * exponential is a logit, as large as the spread and a bias of 3 make it, in units of log2: its
 * sum, its scale and its difference from the maximum are rounded, 4 of its size; the sum of
 * exponentials and the products with v are 16 more. lse has the size of a logit itself: 4 more of
 * those. The exponential of the bf16 kernel is off by 7.5e-5. */
static const double ROUND = 1 / 16777216.0;

static bool by_bf16(const shape *s, const char *level)
{
    return s->type == TS_BF16 && strcmp(level, "avx2") && strcmp(level, "avx512");
}
static double logit_of(const shape *s)
{
    return fabs(s->scale) * s->spread * s->spread * sqrt((double)s->D) + 3;
}
static double weight_error(const shape *s, const char *level)
{
    return ROUND * (4 * logit_of(s) + 16) + (by_bf16(s, level) ? 7.5e-5 : 7.5e-8);
}
static double lse_error(const shape *s, const char *level)
{
    return weight_error(s, level) + ROUND * 4 * logit_of(s);
}

/* v lies within -1..1, so an output is off by what its weights are; in the bf16 kernel they are
 * rounded to 2^-9 before they meet v. A bf16 output is rounded, and the expected one too: where
 * they fall to different sides they lie one step of up to 2^-7 apart. */
static void compare_out(const shape *s, const call *got, const call *want, const char *level)
{
    double weight = weight_error(s, level), fixed = weight + (by_bf16(s, level) ? 1 / 512.0 : 0),
           step = s->type == TS_BF16 ? 1 / 128.0 : 0, off = 0, size = 0;
    long ld = got->a.out.ld, n = s->B * s->Nq;
    for (long i = 0; i < n * ld; i++) {
        double g = ts_load(ts_host_of(got->a.out.p), s->type, i),
               w = ts_load(ts_host_of(want->a.out.p), s->type, i), e = fabs(g - w);
        if (!(e <= fixed + step * fabs(w)))
            ck_abort_msg("%s N %ldx%ld A %ld D %ld type %d bias %d nk %d plan %d spread %g: row "
                         "%ld, column %ld is %.9g, expected %.9g, within %.1e",
                         level, s->Nq, s->Nk, s->A, s->D, s->type, s->bias, s->nk, s->plan,
                         s->spread, i / ld, i % ld, g, w, fixed + step * fabs(w));
        off += e * e;
        size += w * w;
    }
    for (long i = n * ld; i < n * ld + GUARD; i++)
        ck_assert_msg(ts_load(ts_host_of(got->a.out.p), s->type, i) == -77, "written past the end");
    /* All of it together. Three roundings to 2^-9 in the bf16 kernel: weights, output, and what is
     * expected. Other kernels' bf16 outputs are a step off as often as an error of `weight` reaches
     * over the middle of one, twice weight in a step: sqrt(2 weight step). */
    double rel = sqrt(off / (size + 1e-30)), most = s->type == TS_F32   ? weight
                                                    : by_bf16(s, level) ? sqrt(3) / 512
                                                                        : sqrt(2 * weight * step);
    if (s->spread < 3)
        ck_assert_msg(rel <= most, "%s N %ldx%ld D %ld type %d: relative error %.2e, at most %.1e",
                      level, s->Nq, s->Nk, s->D, s->type, rel, most);
}

static void compare_calls(const shape *s, const call *got, const call *want, const char *level)
{
    compare_out(s, got, want, level);
    check_guards(got->a.lse);
    const float *lg = ts_host_of(got->a.lse.p), *lw = ts_host_of(want->a.lse.p);
    for (long i = 0; i < s->B * s->A * s->Nq; i++)
        if (!(fabs((double)lg[i] - lw[i]) <= lse_error(s, level)))
            ck_abort_msg(
                "%s N %ldx%ld D %ld type %d spread %g: lse %.9g, expected %.9g, within %.1e", level,
                s->Nq, s->Nk, s->D, s->type, s->spread, lg[i], lw[i], lse_error(s, level));
    if (!s->sums) return;
    check_guards(got->a.sums);
    const float *sg = ts_host_of(got->a.sums.p), *sw = ts_host_of(want->a.sums.p);
    long nb = got->a.sums.dim[3], rows = s->B * s->A * got->a.sums.dim[2];
    /* of the sum itself, and of all sums that it is divided by */
    double error = 2 * weight_error(s, level);
    for (long r = 0; r < rows; r++) {
        double sum = 0, tokens = (double)(s->Nq - r % got->a.sums.dim[2] * 64 < 64
                                              ? s->Nq - r % got->a.sums.dim[2] * 64
                                              : 64);
        for (long i = r * nb; i < (r + 1) * nb; i++) {
            sum += sg[i];
            /* the least exponential is 2^-125 */
            ck_assert_msg(fabs((double)sg[i] - sw[i]) <= error * sw[i] + 4096 * 0x1p-125,
                          "%s: block sum %.9g, expected %.9g, within %.1e of it", level, sg[i],
                          sw[i], error);
        }
        ck_assert_msg(fabs(sum - tokens) <= error * tokens,
                      "%s: block sums of a row add up to %.9g, expected %g", level, sum, tokens);
    }
}
#endif
