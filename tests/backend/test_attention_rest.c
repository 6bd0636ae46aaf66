/* What stands for the blocks that a plan leaves out: every level against plain C, and the formulas
 * against what they promise. Errors of heads, and choices by them. */
#include "backend/cpu/attention.h"
#include "backend/cpu/cpu.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A sequence of A heads on some device; numbers of the host beside it. */
typedef struct {
    ts_ctx *c;
    long N, A, D, nb;
    ts_dtype type;
    float scale;
    ts_tensor q, k, v, out, kp, vp, lse, own, sums, form;
    ts_plan plan;
    const ts_plan *plans[1];
    ts_ptr mem[16];
    int n;
} rest_case;

static ts_tensor send(rest_case *r, ts_dtype type, int nd, const long *dim, const void *data)
{
    ts_tensor t = ts_tensor_of((ts_ptr){1}, type, nd, dim);
    size_t bytes = (size_t)ts_count(t) * ts_dtype_size(type);
    ck_ok(r->c, r->c->dev->ops->alloc(r->c->dev, bytes, &t.p));
    r->mem[r->n++] = t.p;
    if (data) ck_ok(r->c, r->c->dev->ops->upload(r->c->dev, t.p, data, bytes));
    return t;
}

static float *fetch(rest_case *r, ts_tensor t)
{
    long n = ts_count(t);
    size_t size = ts_dtype_size(t.type);
    char *raw = malloc((size_t)n * size);
    float *f = malloc((size_t)n * sizeof *f);
    ck_ok(r->c, r->c->dev->ops->download(r->c->dev, raw, t.p, (size_t)n * size));
    for (long i = 0; i < n; i++)
        f[i] = t.type == TS_I32 ? (float)((int32_t *)(void *)raw)[i] : ts_load(raw, t.type, i);
    free(raw);
    return f;
}

static ts_tensor send_floats(rest_case *r, const float *f)
{
    long n = r->N * r->A * r->D;
    char *raw = malloc((size_t)n * ts_dtype_size(r->type));
    for (long i = 0; i < n; i++) ts_store(raw, r->type, i, f[i]);
    ts_tensor t = send(r, r->type, 4, (long[]){1, r->N, r->A, r->D}, raw);
    free(raw);
    return t;
}

/* Heads of every form in turn where `mixed`; q, k, v [N, A, D], NULL: by chance. */
static void open_case(rest_case *r, const char *backend, const char *level, bool mixed,
                      const float *q, const float *k, const float *v)
{
    long n = r->N * r->A * r->D, words;
    r->c = testing_open(backend, level, 2);
    r->n = 0;
    r->nb = (r->N + 63) / 64;
    words = ts_plan_words((int)r->nb);
    float *f = malloc((size_t)n * sizeof *f);
    const float *given[] = {q, k, v};
    ts_tensor *to[] = {&r->q, &r->k, &r->v};
    for (int i = 0; i < 3; i++) {
        golden_input((const char *[]){"q", "k", "v"}[i], i < 2 ? 1.7 : 1, n, f);
        *to[i] = send_floats(r, given[i] ? given[i] : f);
    }
    r->out = send(r, r->type, 4, r->q.dim, NULL);
    r->kp = send(r, TS_F32, 4, (long[]){1, r->nb, r->A, r->D}, NULL);
    r->vp = send(r, TS_F32, 4, (long[]){1, r->nb, r->A, r->D}, NULL);
    r->lse = send(r, TS_F32, 3, (long[]){1, r->A, r->N}, NULL);
    r->own = send(r, TS_F32, 3, (long[]){1, r->A, r->N}, NULL);
    r->sums = send(r, TS_F32, 4, (long[]){1, r->A, r->nb, r->nb}, NULL);
    r->q.ld = r->k.ld = r->v.ld = r->out.ld = r->kp.ld = r->vp.ld = r->A * r->D;
    int32_t *form = malloc((size_t)r->A * sizeof *form);
    for (long h = 0; h < r->A; h++) form[h] = mixed ? (int32_t)(h % 3) : TS_REST_LINEAR;
    r->form = send(r, TS_I32, 1, &r->A, form);
    uint32_t *bits = calloc((size_t)(r->A * r->nb * words), sizeof *bits);
    for (long i = 0; i < r->A * r->nb; i++)
        for (long j = 0; j < r->nb; j++)
            if (j == i % r->nb || golden_u("plan", (uint32_t)(i * r->nb + j)) > 0.5)
                bits[i * words + j / 32] |= 1u << j % 32;
    r->plan = (ts_plan){.A = (int)r->A,
                        .nb = (int)r->nb,
                        .bits = send(r, TS_U32, 3, (long[]){r->A, r->nb, words}, bits).p};
    r->plans[0] = &r->plan;
    free(bits);
    free(form);
    free(f);
}

static void close_case(rest_case *r)
{
    for (int i = 0; i < r->n; i++) r->c->dev->ops->free(r->c->dev, r->mem[i]);
    testing_close(r->c);
}

/* The operations in the order in which attention asks for them. form: of all heads, -1: r->form */
static void run_case(rest_case *r, ts_rest_form most, int every)
{
    ts_device *d = r->c->dev;
    ck_ok(r->c, ts_pool_op(d, (ts_pool){r->k, r->kp}));
    ck_ok(r->c, ts_pool_op(d, (ts_pool){r->v, r->vp}));
    ts_attention a = {.q = r->q,
                      .k = r->k,
                      .v = r->v,
                      .out = r->out,
                      .scale = r->scale,
                      .plan = r->plans,
                      .lse = r->lse,
                      .every = every};
    if (most) {
        a.pooled_k = r->kp;
        a.pooled_v = r->vp;
        a.form = r->form;
    }
    ck_ok(r->c, ts_attention_op(d, a));
    ck_ok(r->c,
          ts_pool_sums_op(
              d, (ts_pool_sums){
                     .q = r->q, .k = r->kp, .scale = r->scale, .lse = r->own, .sums = r->sums}));
    if (most < TS_REST_LINEAR) return;
    ck_ok(r->c, ts_rest_linear_op(d, (ts_rest_linear){.q = r->q,
                                                      .k = r->k,
                                                      .v = r->v,
                                                      .out = r->out,
                                                      .pooled_k = r->kp,
                                                      .pooled_v = r->vp,
                                                      .scale = r->scale,
                                                      .sums = r->sums,
                                                      .own = r->own,
                                                      .lse = r->lse,
                                                      .plan = r->plan,
                                                      .form = r->form,
                                                      .every = every}));
}

/* ---- every level against plain C ---- */
/* Outputs lie within -1..1 but for the linear part, which the spread of q and k makes up to some
 * times as large. Of f32: 4 roundings of a logit and 16 of sums, as in test_attention.h. The bf16
 * kernel rounds pooled keys and values, weights, covariances and what comes out to 2^-9 each: of a
 * logit of size x a rounded key is x 2^-9 / sqrt(D) off, of which exp makes as much of the weight.
 * An output is off by at most the sum of the four, and rounded twice. */
static double most_off(const rest_case *r, const char *level, double size)
{
    bool bf16 = r->type == TS_BF16;
    double logit = 1.7 * 1.7 * sqrt((double)r->D) * (double)r->scale;
    (void)level;
    return (bf16 ? 6 / 512.0 : (4 * logit + 64) * 0x1p-24 + 7.5e-8) * (1 + size);
}

static void compare(rest_case *got, rest_case *want, const char *level, const char *what,
                    ts_tensor g, ts_tensor w)
{
    float *x = fetch(got, g), *y = fetch(want, w);
    for (long i = 0; i < ts_count(g); i++) {
        double most = most_off(got, level, fabs((double)y[i]));
        if (!(fabs((double)x[i] - y[i]) <= most))
            ck_abort_msg("%s, N %ld A %ld D %ld type %d: %s %ld is %.9g, expected %.9g within %.1e",
                         level, got->N, got->A, got->D, got->type, what, i, x[i], y[i], most);
    }
    free(x);
    free(y);
}

static const struct {
    const char *backend, *level;
} places[] = {{"cpu", "avx2"}, {"cpu", "avx512"}, {"cpu", "avx512_bf16"}, {"far", NULL}};

static bool has_place(int i)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    bool has = i == 3 || i + 1 <= (int)((ts_cpu *)c->dev)->level;
    testing_close(c);
    return has;
}

static void each_place(const rest_case *shape)
{
    rest_case want = *shape, got = *shape;
    open_case(&want, "cpu", "ref", true, NULL, NULL, NULL);
    run_case(&want, TS_REST_LINEAR, 0);
    for (int i = 0; i < 4; i++) {
        if (!has_place(i)) continue;
        const char *level = places[i].level ? places[i].level : places[i].backend;
        open_case(&got, places[i].backend, places[i].level, true, NULL, NULL, NULL);
        run_case(&got, TS_REST_LINEAR, 0);
        compare(&got, &want, level, "output", got.out, want.out);
        compare(&got, &want, level, "lse", got.lse, want.lse);
        compare(&got, &want, level, "lse of means", got.own, want.own);
        compare(&got, &want, level, "weight", got.sums, want.sums);
        compare(&got, &want, level, "mean key", got.kp, want.kp);
        close_case(&got);
    }
    close_case(&want);
}

/* Widths, ragged ends of one row and of all but one, more than 64 and more than 8 x 64 blocks. */
START_TEST(levels)
{
    static const long shapes[][3] = {{333, 4, 64}, {129, 3, 40},  {64 * 5, 3, 128},
                                     {63, 3, 16},  {4161, 3, 32}, {64 * 3 + 1, 3, 72}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = 0; t < 2; t++)
            each_place(&(rest_case){.N = shapes[i][0],
                                    .A = shapes[i][1],
                                    .D = shapes[i][2],
                                    .type = t ? TS_BF16 : TS_F32,
                                    .scale = 1 / sqrtf((float)shapes[i][2])});
}
END_TEST

/* Weights of the pooled keys of 520 blocks: they come in more than one group of the kernel's. */
START_TEST(many_blocks)
{
    rest_case want = {.N = 64 * 519 + 7, .A = 1, .D = 8, .type = TS_F32, .scale = 0.35f},
              got = want;
    rest_case *both[] = {&want, &got};
    for (int i = 0; i < 2; i++) {
        rest_case *r = both[i];
        open_case(r, "cpu", i ? NULL : "ref", false, NULL, NULL, NULL);
        ck_ok(r->c, ts_pool_op(r->c->dev, (ts_pool){r->k, r->kp}));
        ck_ok(r->c, ts_pool_sums_op(r->c->dev, (ts_pool_sums){.q = r->q,
                                                              .k = r->kp,
                                                              .scale = r->scale,
                                                              .lse = r->own,
                                                              .sums = r->sums}));
    }
    compare(&got, &want, "cpu", "weight", got.sums, want.sums);
    compare(&got, &want, "cpu", "lse of means", got.own, want.own);
    close_case(&got);
    close_case(&want);
}
END_TEST

/* Query blocks 0, 3, 6 alone are computed; rows between stay as they were. */
START_TEST(sampled)
{
    for (int i = -1; i < 4; i++) {
        if (i >= 0 && !has_place(i)) continue;
        rest_case all = {.N = 64 * 7 + 9, .A = 3, .D = 32, .type = TS_F32, .scale = 0.17f},
                  some = all;
        const char *backend = i < 0 ? "cpu" : places[i].backend,
                   *level = i < 0 ? "ref" : places[i].level;
        open_case(&all, backend, level, true, NULL, NULL, NULL);
        open_case(&some, backend, level, true, NULL, NULL, NULL);
        long n = ts_count(all.out);
        float *mark = malloc((size_t)n * sizeof *mark);
        for (long k = 0; k < n; k++) mark[k] = 77;
        ck_ok(some.c,
              some.c->dev->ops->upload(some.c->dev, some.out.p, mark, (size_t)n * sizeof *mark));
        run_case(&all, TS_REST_LINEAR, 0);
        run_case(&some, TS_REST_LINEAR, 3);
        float *x = fetch(&some, some.out), *y = fetch(&all, all.out);
        for (long k = 0; k < n; k++)
            ck_assert_msg(x[k] == (k / (3 * 32) / 64 % 3 ? 77 : y[k]), "row %ld", k / 64);
        free(x);
        free(y);
        free(mark);
        close_case(&all);
        close_case(&some);
    }
}
END_TEST

/* ---- what the formulas promise ---- */
/* Dense attention of the same tokens. */
static float *dense_of(rest_case *r)
{
    ck_ok(r->c,
          ts_attention_op(
              r->c->dev,
              (ts_attention){.q = r->q, .k = r->k, .v = r->v, .out = r->out, .scale = r->scale}));
    return fetch(r, r->out);
}

static double error_of(rest_case *r, const float *dense, ts_rest_form form)
{
    int32_t f[4] = {(int32_t)form, (int32_t)form, (int32_t)form, (int32_t)form};
    ck_ok(r->c, r->c->dev->ops->upload(r->c->dev, r->form.p, f, (size_t)r->A * sizeof *f));
    run_case(r, form, 0);
    float *x = fetch(r, r->out);
    double e = testing_rel(x, dense, r->N * r->A * r->D);
    free(x);
    return e;
}

/* Keys and values that are the same within a block are what `mean` says they are, but for the mean
 * itself: 64 sums of equal numbers, each rounded. */
START_TEST(mean_of_equal_keys)
{
    rest_case r = {.N = 64 * 6 + 11, .A = 2, .D = 32, .type = TS_F32, .scale = 0.18f};
    long n = r.N * r.A * r.D;
    float *k = malloc((size_t)n * sizeof *k), *v = malloc((size_t)n * sizeof *v);
    for (long i = 0; i < n; i++) {
        long same = i / (r.A * r.D) / 64 * r.A * r.D + i % (r.A * r.D);
        k[i] = (float)(1.7 * golden_u("k", (uint32_t)same));
        v[i] = (float)golden_u("v", (uint32_t)same);
    }
    open_case(&r, "cpu", NULL, false, NULL, k, v);
    float *dense = dense_of(&r);
    ck_assert_double_gt(error_of(&r, dense, TS_REST_NONE), 0.1); /* a plan that matters */
    ck_assert_double_le(error_of(&r, dense, TS_REST_MEAN), 64 * 0x1p-24);
    ck_assert_double_le(error_of(&r, dense, TS_REST_LINEAR), 64 * 0x1p-24);
    free(dense);
    free(k);
    free(v);
    close_case(&r);
}
END_TEST

/* Queries equal within their blocks, whose rows then weigh alike; values whose means are equal over
 * blocks, so that it does not matter how much a dropped block weighs in the second order; and
 * tokens a small e around the means of their blocks, one half opposite to the other: odd orders
 * vanish. `mean` is off in the second order of e, `linear` in the fourth. */
START_TEST(linear_in_a_small_offset)
{
    double off[2][2];
    for (int half = 0; half < 2; half++) {
        rest_case r = {.N = 64 * 6, .A = 1, .D = 16, .type = TS_F32, .scale = 0.25f};
        long n = r.N * r.A * r.D, D = r.D;
        double e = half ? 0.15 : 0.3;
        float *q = malloc((size_t)(3 * n) * sizeof *q), *k = q + n, *v = k + n;
        for (long i = 0; i < n; i++) {
            long d = i % D, token = i / D % 64, block = i / D / 64;
            double a = (token < 32 ? e : -e) *
                       golden_u("a", (uint32_t)((block * 32 + token % 32) * D + d));
            q[i] = (float)(2 * golden_u("q", (uint32_t)(block * D + d)));
            k[i] = (float)(golden_u("k", (uint32_t)(block * D + d)) + a);
            v[i] = (float)(1 + a); /* values that follow their keys */
        }
        open_case(&r, "cpu", NULL, false, q, k, v);
        float *dense = dense_of(&r);
        off[half][0] = error_of(&r, dense, TS_REST_MEAN);
        off[half][1] = error_of(&r, dense, TS_REST_LINEAR);
        free(dense);
        free(q);
        close_case(&r);
    }
    ck_assert_msg(off[0][0] / off[1][0] > 3.5 && off[0][0] / off[1][0] < 4.5, "mean: %g, %g",
                  off[0][0], off[1][0]);
    ck_assert_msg(off[0][1] / off[1][1] > 13 && off[0][1] / off[1][1] < 18, "linear: %g, %g",
                  off[0][1], off[1][1]);
}
END_TEST

/* A plan that reads everything leaves nothing out, whatever stands for it: bits of dense. */
START_TEST(nothing_left_out)
{
    rest_case r = {.N = 300, .A = 3, .D = 32, .type = TS_F32, .scale = 0.18f};
    open_case(&r, "cpu", NULL, false, NULL, NULL, NULL);
    uint32_t all[3 * 5];
    for (int i = 0; i < 15; i++) all[i] = 31;
    ck_ok(r.c, r.c->dev->ops->upload(r.c->dev, r.plan.bits, all, sizeof all));
    float *dense = dense_of(&r);
    for (int form = TS_REST_NONE; form <= TS_REST_LINEAR; form++)
        ck_assert_double_le(error_of(&r, dense, (ts_rest_form)form), 1e-7);
    free(dense);
    close_case(&r);
}
END_TEST

/* ---- errors, choices, some heads ---- */
START_TEST(errors_and_choices)
{
    for (int far = 0; far < 2; far++) {
        rest_case r = {.N = 64 * 4 + 5, .A = 3, .D = 16, .type = TS_F32, .scale = 0.25f};
        open_case(&r, far ? "far" : "cpu", NULL, false, NULL, NULL, NULL);
        ts_device *d = r.c->dev;
        ts_tensor error = send(&r, TS_F32, 2, (long[]){3, 3}, NULL);
        float *q = fetch(&r, r.q), *k = fetch(&r, r.k), *e;
        for (int every = 0; every < 4; every += 3) {
            ck_ok(r.c, ts_head_errors_op(
                           d, (ts_head_errors){r.q, r.k, every, ts_row_range(error, 1, 1)}));
            e = fetch(&r, error);
            for (long h = 0; h < 3; h++) {
                double sum = 0;
                for (long i = 0; i < r.N * 48; i++)
                    if (i / 16 % 3 == h && (!every || i / 48 / 64 % every == 0))
                        sum += ((double)q[i] - k[i]) * ((double)q[i] - k[i]);
                ck_assert_double_le(fabs((double)e[3 + h] - sum), 1e-6 * sum);
            }
            free(e);
        }
        /* [candidate, head] */
        static const float off[9] = {4, 4, 4, /**/ 2.1f, 1.9f, 1, /**/ 3, 1.8f, 1};
        static const float expected[3] = {0, 2, 1};
        ts_tensor choice = send(&r, TS_I32, 1, &r.A, NULL), stat = send(&r, TS_F32, 1, &r.A, NULL);
        ck_ok(r.c, d->ops->upload(d, error.p, off, sizeof off));
        ck_ok(r.c, ts_choose_op(d, (ts_choose){error, 2, choice, stat}));
        float *got = fetch(&r, choice), *also = fetch(&r, stat);
        for (int h = 0; h < 3; h++) {
            ck_assert(got[h] == expected[h]);
            ck_assert(also[h] == expected[h]);
        }
        free(got);
        free(also);
        free(q);
        free(k);
        close_case(&r);
    }
}
END_TEST

/* Only heads of that choice get new bits and statistics. */
START_TEST(topk_of_some_heads)
{
    rest_case r = {.N = 64 * 10, .A = 3, .D = 16, .type = TS_F32, .scale = 0.25f};
    open_case(&r, "far", NULL, false, NULL, NULL, NULL);
    ts_device *d = r.c->dev;
    run_case(&r, TS_REST_NONE, 0);
    uint32_t before[30], after[30], whole[30];
    static const int32_t who[3] = {1, 0, 1};
    float stat[9] = {-1, -1, -1, -1, -1, -1, -1, -1, -1};
    ts_tensor w = send(&r, TS_I32, 1, &r.A, who), s = send(&r, TS_F32, 2, (long[]){3, 3}, stat);
    ck_ok(r.c, d->ops->download(d, before, r.plan.bits, sizeof before));
    ts_topk t = {.scores = ts_view(r.sums, 3, (long[]){3, 10, 10}),
                 .keep = 0.3,
                 .plan = r.plan,
                 .stat = s,
                 .who = w,
                 .which = 1};
    ck_ok(r.c, ts_topk_op(d, t));
    ck_ok(r.c, d->ops->download(d, after, r.plan.bits, sizeof after));
    ck_ok(r.c, d->ops->download(d, stat, s.p, sizeof stat));
    t.who.p.at = 0;
    /* recall is of other weights where they are given: of equal ones the blocks' number */
    float equal[300];
    for (int i = 0; i < 300; i++) equal[i] = 2;
    t.weights = send(&r, TS_F32, 3, (long[]){3, 10, 10}, equal);
    ck_ok(r.c, ts_topk_op(d, t));
    float *recall = fetch(&r, s);
    for (int i = 0; i < 6; i++) ck_assert_double_le(fabs((double)recall[i] - 0.3), 1e-6);
    free(recall);
    ck_ok(r.c, d->ops->download(d, whole, r.plan.bits, sizeof whole));
    for (int i = 0; i < 30; i++) ck_assert_uint_eq(after[i], who[i / 10] ? whole[i] : before[i]);
    ck_assert(memcmp(before, whole, 40) != 0 && memcmp(before + 10, whole + 10, 40) != 0);
    for (int i = 0; i < 9; i++) ck_assert_msg((stat[i] == -1) == (i % 3 == 1), "stat %d", i);
    close_case(&r);
}
END_TEST

START_TEST(refused)
{
    rest_case r = {.N = 130, .A = 2, .D = 16, .type = TS_F32, .scale = 0.25f};
    open_case(&r, "cpu", NULL, false, NULL, NULL, NULL);
    ts_device *d = r.c->dev;
    ts_attention a = {
        .q = r.q, .k = r.k, .v = r.v, .out = r.out, .scale = 1, .pooled_k = r.kp, .pooled_v = r.vp};
    ck_assert_int_eq(ts_attention_op(d, a), TS_ESHAPE); /* without a plan */
    a.plan = r.plans;
    a.pooled_v = r.v;
    ck_assert_int_eq(ts_attention_op(d, a), TS_ESHAPE);
    ck_assert_str_eq(r.c->err.text,
                     "attention: pooled_v is [1, 130, 2, 16] F32, expected packed [1, 3, 2, 16] "
                     "F32");
    a.pooled_v = r.vp;
    a.form = r.lse;
    ck_assert_int_eq(ts_attention_op(d, a), TS_ESHAPE);
    ck_assert_int_eq(ts_pool_op(d, (ts_pool){r.k, r.v}), TS_ESHAPE);
    ck_assert_int_eq(
        ts_pool_sums_op(d, (ts_pool_sums){.q = r.q, .k = r.kp, .scale = 0, .sums = r.sums}),
        TS_ESHAPE);
    ck_assert_int_eq(ts_choose_op(d, (ts_choose){.error = r.lse, .margin = 2}), TS_ESHAPE);
    ck_assert_int_eq(ts_head_errors_op(d, (ts_head_errors){r.q, r.kp, 0, r.lse}), TS_ESHAPE);
    close_case(&r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("attention rest");
    TCase *t = tcase_create("rest");
    tcase_set_timeout(t, 600);
    tcase_add_test(t, levels);
    tcase_add_test(t, many_blocks);
    tcase_add_test(t, sampled);
    tcase_add_test(t, mean_of_equal_keys);
    tcase_add_test(t, linear_in_a_small_offset);
    tcase_add_test(t, nothing_left_out);
    tcase_add_test(t, errors_and_choices);
    tcase_add_test(t, topk_of_some_heads);
    tcase_add_test(t, refused);
    suite_add_tcase(s, t);
    return testing_main(s);
}
