/* The flash kernels of every CPU level against plain C in double, over head widths, ragged ends,
 * plans, biases, masks, extreme logits; block sums; the cached search. */
#include "tests/backend/test_attention.h"
#include "backend/cpu/cpu.h"

#include <pthread.h>
#include <time.h>

static const char *const levels[] = {"avx2", "avx512", "avx512_bf16"};

/* Levels from 0, "ref". */
static bool has_level(int level)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    bool has = level <= (int)((ts_cpu *)c->dev)->level;
    testing_close(c);
    return has;
}

static void each_level(const shape *s)
{
    call want, got;
    ts_ctx *ref = testing_open("cpu", "ref", 2);
    build_call(&want, s);
    ck_ok(ref, ref->dev->ops->attention(ref->dev, &want.a));
    testing_close(ref);
    for (int l = 0; l < 3; l++) {
        if (!has_level(l + 1)) continue;
        for (int threads = 1; threads <= 2; threads++) {
            ts_ctx *c = testing_open("cpu", levels[l], threads);
            build_call(&got, s);
            ck_ok(c, c->dev->ops->attention(c->dev, &got.a));
            compare_calls(s, &got, &want, levels[l]);
            free_call_memory(&got);
            testing_close(c);
        }
    }
    free_call_memory(&want);
}

START_TEST(widths)
{
    static const long D[] = {2, 12, 16, 24, 32, 40, 64, 72, 80, 96, 128, 384};
    for (size_t i = 0; i < sizeof D / sizeof *D; i++)
        for (int t = 0; t < 2; t++)
            each_level(&(shape){.B = 1,
                                .Nq = 150,
                                .Nk = 150,
                                .A = 2,
                                .D = D[i],
                                .type = t ? TS_BF16 : TS_F32,
                                .scale = 1 / sqrtf((float)D[i]),
                                .spread = 1.7f,
                                .sums = true,
                                .gap = i % 3});
}
END_TEST

START_TEST(lengths)
{
    static const long N[][2] = {{1, 1},     {5, 5},       {63, 63}, {64, 64}, {65, 65}, {129, 129},
                                {429, 429}, {1000, 1000}, {70, 13}, {3, 200}, {200, 1}};
    for (size_t i = 0; i < sizeof N / sizeof *N; i++)
        for (int t = 0; t < 2; t++)
            each_level(&(shape){.B = 1,
                                .Nq = N[i][0],
                                .Nk = N[i][1],
                                .A = 3,
                                .D = 64,
                                .type = t ? TS_BF16 : TS_F32,
                                .scale = 0.125f,
                                .spread = 1.7f,
                                .plan = N[i][0] == N[i][1] && i % 2,
                                .sums = i % 2 == 0});
}
END_TEST

START_TEST(parts)
{
    for (int bias = 0; bias < 3; bias++)
        for (int rest = 0; rest < 4; rest++) {
            bool plan = (rest & 2) && !bias;
            for (int t = 0; t < 2; t++)
                each_level(&(shape){.B = 2,
                                    .Nq = 333,
                                    .Nk = 333,
                                    .A = 2,
                                    .D = 48,
                                    .type = t ? TS_BF16 : TS_F32,
                                    .scale = 0.15f,
                                    .spread = 1.5f,
                                    .bias = bias,
                                    .nk = (rest & 1) && !plan,
                                    .plan = plan,
                                    .sums = !bias && !(rest & 1),
                                    .gap = 16});
        }
}
END_TEST

/* One plan for all heads. */
START_TEST(shared_plan)
{
    for (int t = 0; t < 2; t++)
        each_level(&(shape){.B = 2,
                            .Nq = 333,
                            .Nk = 333,
                            .A = 3,
                            .D = 32,
                            .type = t ? TS_BF16 : TS_F32,
                            .scale = 0.2f,
                            .spread = 1.5f,
                            .plan = true,
                            .shared = true,
                            .sums = true});
}
END_TEST

START_TEST(extremes)
{
    static const float spread[] = {0, 1e-20f, 30, 300};
    for (int i = 0; i < 4; i++)
        for (int t = 0; t < 2; t++) {
            shape s = {.B = 1,
                       .Nq = 100,
                       .Nk = 200,
                       .A = 1,
                       .D = 32,
                       .type = t ? TS_BF16 : TS_F32,
                       .scale = 1,
                       .spread = spread[i],
                       .sums = true};
            each_level(&s);
        }
}
END_TEST

/* No key counts for the second of a batch, and a bias of -inf leaves the fifth row nothing: zeros,
 * and no block has a weight, whatever lay there. */
START_TEST(nothing_to_read)
{
    for (int t = 0; t < 2; t++)
        for (int l = 0; l < 4; l++) {
            if (!has_level(l)) continue;
            shape s = {.B = 2,
                       .Nq = 70,
                       .Nk = 130,
                       .A = 2,
                       .D = 40,
                       .type = t ? TS_BF16 : TS_F32,
                       .scale = 0.15f,
                       .spread = 1.7f,
                       .nk = true,
                       .bias = 2,
                       .sums = true};
            call x, before;
            ts_ctx *c = testing_open("cpu", l ? levels[l - 1] : "ref", 2);
            build_call(&x, &s);
            build_call(&before, &s);
            for (long i = 0; i < s.B * s.Nk * s.A * s.D; i++)
                ts_store(ts_host_of(before.a.v.p), s.type, i, NAN);
            for (long h = 0; h < s.A; h++)
                for (long k = 0; k < s.Nk; k++)
                    ((float *)ts_host_of(x.a.bias.p))[(h * s.Nq + 4) * s.Nk + k] = -INFINITY;
            float *sums = ts_host_of(x.a.sums.p);
            for (int live = 0; live < 2; live++) { /* batches that have keys */
                /* leaves NaN wherever it worked */
                ck_ok(c, c->dev->ops->attention(c->dev, &before.a));
                x.nk[0] = live ? before.nk[0] : 0;
                x.nk[1] = 0;
                for (long i = 0; i < ts_count(x.a.sums); i++) sums[i] = 1e9f;
                ck_ok(c, c->dev->ops->attention(c->dev, &x.a));
                for (long n = 0; n < 2 * s.Nq; n++)
                    for (long d = 0; d < s.A * s.D; d++) {
                        float y = ts_load(ts_host_of(x.a.out.p), s.type, n * x.a.out.ld + d);
                        if ((y == 0) != (n == 4 || n >= live * s.Nq) || isnan(y))
                            ck_abort_msg("%s: row %ld of batch %ld is %g", ts_facts(c->dev).level,
                                         n % s.Nq, n / s.Nq, y);
                    }
                const float *lse = ts_host_of(x.a.lse.p);
                for (long i = 0; i < 2 * s.A * s.Nq; i++)
                    ck_assert_msg((lse[i] == -INFINITY) ==
                                      (i % s.Nq == 4 || i >= live * s.A * s.Nq),
                                  "%s: lse of row %ld is %g", ts_facts(c->dev).level, i, lse[i]);
                for (long i = 0; i < ts_count(x.a.sums); i += 3) {
                    /* of 70 rows 64 and 6; the fifth reads nothing */
                    double all = (double)sums[i] + sums[i + 1] + sums[i + 2],
                           rows = i >= live * s.A * 6 ? 0
                                  : i / 3 % 2         ? 6
                                                      : 63;
                    ck_assert_msg(fabs(all - rows) <=
                                      rows * 2 * weight_error(&s, ts_facts(c->dev).level),
                                  "%s: weights of block %ld add up to %g, expected %g",
                                  ts_facts(c->dev).level, i / 3, all, rows);
                }
            }
            free_call_memory(&before);
            free_call_memory(&x);
            testing_close(c);
        }
}
END_TEST

/* A request to stop ends it between two pieces of work. */
START_TEST(stopped)
{
    volatile int stop = 1;
    for (int l = 1; l < 4; l++) {
        if (!has_level(l)) continue;
        shape s = {.B = 1,
                   .Nq = 200,
                   .Nk = 200,
                   .A = 2,
                   .D = 16,
                   .type = TS_F32,
                   .scale = 0.25f,
                   .spread = 1};
        call x;
        ts_ctx *c = testing_open("cpu", levels[l - 1], 2);
        build_call(&x, &s);
        c->env.stop = &stop;
        ck_assert_int_eq(c->dev->ops->attention(c->dev, &x.a), TS_ESTOP);
        c->env.stop = NULL;
        ck_ok(c, c->dev->ops->attention(c->dev, &x.a));
        free_call_memory(&x);
        testing_close(c);
    }
}
END_TEST

/* Asked for at any moment, by whoever works or waits: the call ends, and the next one is whole. */
static void *stop_later(void *stop)
{
    nanosleep(&(struct timespec){.tv_nsec = rand() % 4000000}, NULL);
    __atomic_store_n((int *)stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

START_TEST(stopped_anywhere)
{
    shape s = {.B = 1,
               .Nq = 700,
               .Nk = 700,
               .A = 5,
               .D = 64,
               .type = TS_F32,
               .scale = 0.125f,
               .spread = 1,
               .plan = true};
    call x;
    build_call(&x, &s);
    for (int i = 0; i < 60; i++) {
        ts_ctx *c = testing_open("cpu", NULL, 1 + i % 4);
        int stop = 0;
        pthread_t other;
        ((ts_cpu *)c->dev)->cache = i % 3 ? (size_t)1 << 30 : 0;
        c->env.stop = &stop;
        ck_assert_int_eq(pthread_create(&other, NULL, stop_later, &stop), 0);
        ts_status st;
        while (!(st = c->dev->ops->attention(c->dev, &x.a)) &&
               ((ts_cpu *)c->dev)->level > TS_LEVEL_REF &&
               !__atomic_load_n(&stop, __ATOMIC_RELAXED)) {}
        ck_assert_msg(st == TS_OK || st == TS_ESTOP, "%s", c->err.text);
        pthread_join(other, NULL);
        c->env.stop = NULL;
        ck_ok(c, c->dev->ops->attention(c->dev, &x.a));
        testing_close(c);
    }
    free_call_memory(&x);
}
END_TEST

/* Packed heads take 512 MB at most, but one has to fit, and then no other beside it: two million
 * keys of 64 f32 numbers and as many values are a GB. Counted only. */
START_TEST(a_head_larger_than_all_room)
{
    enum { N = 1 << 21 };
    ts_ctx *c = testing_open("cpu", NULL, 1);
    if (((ts_cpu *)c->dev)->level > TS_LEVEL_REF) {
        ts_tensor t = ts_tensor_of((ts_ptr){4096}, TS_F32, TS_DIM(1, N, 2, 64));
        t.ld = 2 * 64;
        c->dev->counting = true;
        ck_ok(c, c->dev->ops->attention(
                     c->dev, &(ts_attention){.q = t, .k = t, .v = t, .out = t, .scale = 1}));
        ck_assert_uint_gt(((ts_cpu *)c->dev)->scratch_want, (size_t)N * 64 * 2 * sizeof(float));
        ck_assert_uint_lt(((ts_cpu *)c->dev)->scratch_want, (size_t)N * 64 * 3 * sizeof(float));
    }
    testing_close(c);
}
END_TEST

/* A plan that keeps everything is the same list as no plan: the same bits come out. */
START_TEST(keep_all)
{
    shape s = {.B = 1,
               .Nq = 500,
               .Nk = 500,
               .A = 2,
               .D = 64,
               .type = TS_F32,
               .scale = 0.125f,
               .spread = 1.7f,
               .plan = true};
    call dense, full;
    ts_ctx *c = testing_open("cpu", NULL, 2);
    build_call(&dense, &s);
    build_call(&full, &s);
    dense.a.plan = NULL;
    memset(ts_host_of(full.plan.bits), 0xFF, (size_t)(2 * 8) * 4);
    uint32_t *bits = ts_host_of(full.plan.bits);
    for (int i = 0; i < 16; i++) bits[i] = 0xFF;
    ck_ok(c, c->dev->ops->attention(c->dev, &dense.a));
    ck_ok(c, c->dev->ops->attention(c->dev, &full.a));
    ck_assert(
        !memcmp(ts_host_of(dense.a.out.p), ts_host_of(full.a.out.p), (size_t)(500 * 128) * 4));
    free_call_memory(&dense);
    free_call_memory(&full);
    testing_close(c);
}
END_TEST

/* With the lse of the same q and k the cached search finds what the fused one found. */
START_TEST(cached)
{
    for (int t = 0; t < 2; t++) {
        shape s = {.B = 1,
                   .Nq = 429,
                   .Nk = 429,
                   .A = 2,
                   .D = 64,
                   .type = t ? TS_BF16 : TS_F32,
                   .scale = 0.125f,
                   .spread = 1.7f,
                   .sums = true};
        for (int l = 0; l < 3; l++) {
            if (!has_level(l + 1)) continue;
            ts_ctx *c = testing_open("cpu", levels[l], 2);
            call x;
            build_call(&x, &s);
            ts_tensor again = ts_tensor_of(result(&x, 98), TS_F32, TS_DIM(1, 2, 7, 7));
            ck_ok(c, c->dev->ops->attention(c->dev, &x.a));
            ck_ok(c, ts_block_sums_op(c->dev,
                                      (ts_block_sums){x.a.q, x.a.k, x.a.scale, x.a.lse, again}));
            check_guards(again);
            const float *sums = ts_host_of(again.p), *fused = ts_host_of(x.a.sums.p);
            /* the fused one has the error of its weights, the other one that of lse */
            for (int i = 0; i < 98; i++)
                ck_assert_msg(fabsf(sums[i] - fused[i]) <= fused[i] * (weight_error(&s, levels[l]) +
                                                                       lse_error(&s, levels[l])),
                              "%s: %g, fused %g", levels[l], sums[i], fused[i]);
            free_call_memory(&x);
            testing_close(c);
        }
    }
}
END_TEST

/* A NaN anywhere reaches every row that reads it; one behind the last key that counts reaches
 * none. */
START_TEST(not_a_number)
{
    for (int t = 0; t < 2; t++)
        for (int l = 0; l < 4; l++) {
            if (!has_level(l)) continue;
            ts_ctx *c = testing_open("cpu", l ? levels[l - 1] : "ref", 2);
            shape s = {.B = 1,
                       .Nq = 100,
                       .Nk = 200,
                       .A = 1,
                       .D = 40,
                       .type = t ? TS_BF16 : TS_F32,
                       .scale = 0.15f,
                       .spread = 1.7f,
                       .nk = true};
            for (int where = 0; where < 4; where++) {
                call x;
                build_call(&x, &s);
                long nan_at = where == 0 ? 7 * 40 : where == 3 ? (long)x.nk[0] * 40 : 5 * 40;
                ts_store(ts_host_of((where == 0   ? x.a.q
                                     : where == 1 ? x.a.k
                                                  : x.a.v)
                                        .p),
                         s.type, nan_at, NAN);
                if (where == 3) ts_store(ts_host_of(x.a.k.p), s.type, nan_at, NAN);
                ck_ok(c, c->dev->ops->attention(c->dev, &x.a));
                for (long n = 0; n < 100; n++) {
                    bool bad = isnan(ts_load(ts_host_of(x.a.out.p), s.type, n * 40)),
                         want = where == 0 ? n == 7 : where < 3;
                    ck_assert_msg(bad == want, "%s: NaN in %d, row %ld: %d", ts_facts(c->dev).level,
                                  where, n, bad);
                }
                free_call_memory(&x);
            }
            testing_close(c);
        }
}
END_TEST

/* A bias of -inf on the first keys, as a causal mask has on others, and logits that are all far
 * below zero. */
START_TEST(masked_first)
{
    for (int t = 0; t < 2; t++)
        for (int l = 0; l < 3; l++) {
            shape s = {.B = 1,
                       .Nq = 70,
                       .Nk = 700,
                       .A = 1,
                       .D = 16,
                       .type = t ? TS_BF16 : TS_F32,
                       .scale = 0.25f,
                       .spread = 1.7f,
                       .bias = 1};
            if (!has_level(l + 1)) continue;
            call got, want;
            ts_ctx *ref = testing_open("cpu", "ref", 2), *c = testing_open("cpu", levels[l], 2);
            build_call(&got, &s);
            build_call(&want, &s);
            for (int k = 0; k < 700; k++)
                ((float *)ts_host_of(got.a.bias.p))[k] = ((float *)ts_host_of(
                    want.a.bias.p))[k] = k < 300 ? -INFINITY : -400.0f + (float)(k % 7);
            ck_ok(c, c->dev->ops->attention(c->dev, &got.a));
            ck_ok(ref, ref->dev->ops->attention(ref->dev, &want.a));
            /* the argument of exp is of the size of 400: its rounding is that of a logit of that
             * size */
            s.spread = 30;
            compare_calls(&s, &got, &want, levels[l]);
            free_call_memory(&got);
            free_call_memory(&want);
            testing_close(c);
            testing_close(ref);
        }
}
END_TEST

static void search(ts_ctx *c, const call *x)
{
    ck_ok(c, c->dev->ops->block_sums(c->dev, &(ts_block_sums){.q = x->a.q,
                                                              .k = x->a.k,
                                                              .scale = x->a.scale,
                                                              .lse = x->a.lse,
                                                              .sums = x->a.sums}));
}

/* However heads are shared out between seats, buffers and threads - fewer heads than threads or
 * more, caches that hold no head, one or all - no bit changes of what one thread gives, which is
 * what plain C gives. */
START_TEST(threads_and_seats)
{
    static const char *const level[] = {"ref", "avx2", "avx512", "avx512_bf16"};
    static const struct {
        int threads;
        size_t cache;
    } room[] = {{2, 0}, {2, 1 << 30}, {3, 1 << 30}, {4, 1 << 20}, {7, 1 << 30}, {1, 1 << 30}};
    static const long sizes[][2] = {{1, 140}, {2, 140}, {5, 450}, {60, 140}}; /* heads, tokens */
    for (int t = 0; t < 8; t++) {
        shape s = {.B = 2,
                   .Nq = sizes[t / 2][1],
                   .Nk = sizes[t / 2][1],
                   .A = sizes[t / 2][0],
                   .D = 40,
                   .type = t % 2 ? TS_BF16 : TS_F32,
                   .scale = 0.15f,
                   .spread = 1.7f,
                   .plan = true,
                   .sums = true,
                   .gap = 8};
        each_level(&s);
        for (int l = 0; l < 4; l++) {
            call one, more, searched;
            if (!has_level(l)) continue;
            ts_ctx *c = testing_open("cpu", level[l], 1);
            build_call(&one, &s);
            ck_ok(c, c->dev->ops->attention(c->dev, &one.a));
            build_call(&searched, &s);
            memcpy(ts_host_of(searched.a.lse.p), ts_host_of(one.a.lse.p),
                   (size_t)ts_count(one.a.lse) * 4);
            search(c, &searched);
            testing_close(c);
            for (size_t i = 0; i < sizeof room / sizeof *room; i++) {
                c = testing_open("cpu", level[l], room[i].threads);
                ((ts_cpu *)c->dev)->cache = room[i].cache;
                build_call(&more, &s);
                ck_ok(c, c->dev->ops->attention(c->dev, &more.a));
                ck_assert_msg(!memcmp(ts_host_of(one.a.out.p), ts_host_of(more.a.out.p),
                                      (size_t)(s.B * s.Nq * one.a.out.ld) * ts_dtype_size(s.type)),
                              "%s: output of %d threads", level[l], room[i].threads);
                ck_assert_msg(!memcmp(ts_host_of(one.a.lse.p), ts_host_of(more.a.lse.p),
                                      (size_t)ts_count(one.a.lse) * 4),
                              "%s: lse of %d threads", level[l], room[i].threads);
                ck_assert_msg(!memcmp(ts_host_of(one.a.sums.p), ts_host_of(more.a.sums.p),
                                      (size_t)ts_count(one.a.sums) * 4),
                              "%s: sums of %d threads", level[l], room[i].threads);
                search(c, &more);
                testing_close(c);
                ck_assert_msg(!memcmp(ts_host_of(searched.a.sums.p), ts_host_of(more.a.sums.p),
                                      (size_t)ts_count(one.a.sums) * 4),
                              "%s: cached sums of %d threads", level[l], room[i].threads);
                free_call_memory(&more);
            }
            free_call_memory(&one);
            free_call_memory(&searched);
        }
    }
}
END_TEST

/* The clock is read where the owner of the device asks for it, also through a profile. */
START_TEST(packing_is_timed_on_request)
{
    shape s = {.B = 1,
               .Nq = 300,
               .Nk = 300,
               .A = 3,
               .D = 64,
               .type = TS_F32,
               .scale = 0.125f,
               .spread = 1};
    call x;
    build_call(&x, &s);
    for (int l = 1; l < 3; l++) {
        if (!has_level(l)) continue;
        ts_ctx *c = testing_open("cpu", levels[l - 1], 2);
        ck_ok(c, c->dev->ops->attention(c->dev, &x.a));
        ck_assert_double_eq(ts_facts(c->dev).packing, 0);
        ck_ok(c, ts_profile_open(c->dev, &c->dev));
        c->dev->time_packing = true;
        ck_ok(c, c->dev->ops->attention(c->dev, &x.a));
        ck_assert_double_gt(ts_facts(c->dev).packing, 0);
        testing_close(c);
    }
    free_call_memory(&x);
}
END_TEST

/* Searching while computing changes no bit of what is computed, and a plan's lse is that of the
 * kept keys. */
START_TEST(searching_changes_nothing)
{
    for (int t = 0; t < 2; t++)
        for (int plan = 0; plan < 2; plan++) {
            shape s = {.B = 1,
                       .Nq = 715,
                       .Nk = 715,
                       .A = 2,
                       .D = 72,
                       .type = t ? TS_BF16 : TS_F32,
                       .scale = 0.12f,
                       .spread = 2,
                       .plan = plan,
                       .sums = true};
            for (int l = 0; l < 3; l++) {
                if (!has_level(l + 1)) continue;
                call with, without;
                ts_ctx *c = testing_open("cpu", levels[l], 2);
                build_call(&with, &s);
                build_call(&without, &s);
                without.a.sums = (ts_tensor){0};
                ck_ok(c, c->dev->ops->attention(c->dev, &with.a));
                ck_ok(c, c->dev->ops->attention(c->dev, &without.a));
                ck_assert(!memcmp(ts_host_of(with.a.out.p), ts_host_of(without.a.out.p),
                                  (size_t)(s.Nq * with.a.out.ld) * ts_dtype_size(s.type)));
                ck_assert(!memcmp(ts_host_of(with.a.lse.p), ts_host_of(without.a.lse.p),
                                  (size_t)ts_count(with.a.lse) * 4));
                free_call_memory(&with);
                free_call_memory(&without);
                testing_close(c);
            }
        }
}
END_TEST

/* A row of biases for all queries (the multiplicity of padded text) or one for each, with another
 * number of keys than of queries, in one block and in many. */
START_TEST(biases_of_other_lengths)
{
    static const long N[][2] = {{70, 13}, {3, 200}, {200, 1}, {130, 577}, {65, 512}};
    for (size_t i = 0; i < sizeof N / sizeof *N; i++)
        for (int bias = 1; bias <= 2; bias++)
            for (int t = 0; t < 2; t++)
                each_level(&(shape){.B = 2,
                                    .Nq = N[i][0],
                                    .Nk = N[i][1],
                                    .A = 2,
                                    .D = 64,
                                    .type = t ? TS_BF16 : TS_F32,
                                    .scale = 0.125f,
                                    .spread = 1.7f,
                                    .bias = bias,
                                    .nk = i % 2});
}
END_TEST

/* Every level with kernels of its own has a peak, and bf16 only where there are instructions for
 * it. */
START_TEST(peaks)
{
    static const char *const level[] = {"ref", "avx2", "avx512", "avx512_bf16"};
    for (int l = 0; l < 4 && has_level(l); l++) {
        double f32 = -1, bf16 = -1;
        ts_ctx *c = testing_open("cpu", level[l], 1);
        ck_ok(c, c->dev->ops->peak(c->dev, TS_F32, &f32));
        ck_ok(c, c->dev->ops->peak(c->dev, TS_BF16, &bf16));
        ck_assert_msg(l ? f32 > 1e9 : f32 == 0, "%s: %g", level[l], f32);
        ck_assert_msg(l == 3 ? bf16 > 1e9 : bf16 == 0, "%s: %g", level[l], bf16);
        testing_close(c);
    }
}
END_TEST

START_TEST(refused)
{
    shape s = {
        .B = 1, .Nq = 64, .Nk = 64, .A = 1, .D = 16, .type = TS_F32, .scale = 1, .spread = 1};
    call x;
    ts_ctx *c = testing_open("cpu", NULL, 1);
    build_call(&x, &s);
    const ts_plan blocks = {.A = 1, .nb = 2, .bits = x.a.lse.p},
                  heads = {.A = 2, .nb = 1, .bits = x.a.lse.p},
                  right = {.A = 1, .nb = 1, .bits = x.a.lse.p}, *plans[] = {&blocks},
                  *heads_of[] = {&heads}, *fits[] = {&right};
    float bias[64] = {0};
    for (int i = 0; i < 18; i++) {
        ts_attention a = x.a;
        int nk = i == 5 ? 65 : -1;
        if (i == 0) a.k.dim[3] = 8;
        if (i == 1) a.scale = 0;
        if (i == 2) a.v.ld = 15;
        if (i == 3) a.lse.dim[2] = 63;
        if (i == 4 || i == 5) a.nk = &nk;
        if (i == 6) a.plan = plans;
        if (i == 7) a.sums = a.lse;
        if (i == 8) a.plan = heads_of;
        if (i == 9) {
            a.plan = fits;
            a.bias = ts_tensor_of((ts_ptr){(uintptr_t)bias}, TS_F32, TS_DIM(1, 1, 64));
        }
        if (i == 10) {
            a.plan = fits;
            a.q.dim[1] = a.out.dim[1] = a.lse.dim[2] = a.lse.ld = 63;
        }
        if (i == 11) a.lse.ld = 65;
        if (i == 12) a.v.type = TS_BF16;
        if (i == 13) a.bias = ts_tensor_of((ts_ptr){(uintptr_t)bias}, TS_F32, TS_DIM(2, 1, 64));
        if (i >= 14) a.q.dim[i - 14] = a.k.dim[i - 14] = a.v.dim[i - 14] = a.out.dim[i - 14] = 0;
        ck_assert_msg(c->dev->ops->attention(c->dev, &a) == TS_ESHAPE, "slip %d is taken", i);
        ck_assert_msg(strstr(c->err.text, "attention: ") != NULL, "%s", c->err.text);
    }
    free_call_memory(&x);
    testing_close(c);
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
    tcase_add_test(tc, shared_plan);
    tcase_add_test(tc, extremes);
    tcase_add_test(tc, nothing_to_read);
    tcase_add_test(tc, stopped);
    tcase_add_test(tc, stopped_anywhere);
    tcase_add_test(tc, a_head_larger_than_all_room);
    tcase_add_test(tc, keep_all);
    tcase_add_test(tc, cached);
    tcase_add_test(tc, not_a_number);
    tcase_add_test(tc, masked_first);
    tcase_add_test(tc, threads_and_seats);
    tcase_add_test(tc, packing_is_timed_on_request);
    tcase_add_test(tc, searching_changes_nothing);
    tcase_add_test(tc, biases_of_other_lengths);
    tcase_add_test(tc, peaks);
    tcase_add_test(tc, refused);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
