/* The arena: alignment, order, marks, and that counting says what a run needs; and the profile
 * device: everything is passed on, timed and priced. */
#include "tests/testing.h"

#include <string.h>

static ts_device *open_cpu(ts_err *err)
{
    ts_device *d = NULL;
    ck_assert_msg(ts_device_open((ts_device_options){.threads = 1}, NULL, err, &d) == TS_OK, "%s",
                  err->text);
    return d;
}

/* ---- arena ---- */
static void take_some(ts_arena *a, ts_tensor out[4])
{
    out[0] = ts_take(a, TS_F32, TS_DIM(3, 5));
    out[1] = ts_take(a, TS_BF16, TS_DIM(1));
    size_t mark = ts_mark(a);
    out[2] = ts_take(a, TS_U8, TS_DIM(1000));
    ts_release(a, mark);
    out[3] = ts_take(a, TS_F32, TS_DIM(2, 2, 2));
}

START_TEST(test_take)
{
    ts_err err = {0};
    ts_device *d = open_cpu(&err);
    ts_arena a;
    ts_tensor t[4];
    d->counting = true;
    ck_assert_int_eq(ts_arena_open(&a, d, 0), TS_OK);
    take_some(&a, t);
    size_t need = a.peak;
    ck_assert_uint_eq(need, 256 + 256 + 1024);
    /* any amount can be counted */
    ck_assert_uint_eq(ts_take(&a, TS_F32, TS_DIM(1L << 40)).dim[0], 1L << 40);
    ts_arena_close(&a);
    ck_assert_uint_eq(a.base.at, 0);
    d->counting = false;
    ck_assert_int_eq(ts_arena_open(&a, d, need), TS_OK);
    take_some(&a, t);
    ck_assert_uint_eq(a.peak, need);
    ck_assert_uint_eq(ts_mark(&a), 256 + 256 + 256);
    for (int i = 0; i < 4; i++) ck_assert_uint_eq((t[i].p.at - a.base.at) % 256, 0);
    ck_assert_uint_eq(t[1].p.at, t[0].p.at + 256);
    ck_assert_uint_eq(t[3].p.at, t[2].p.at); /* what was given back is taken again */
    ck_assert_int_eq(t[0].ld, 5);
    ck_assert_int_eq(t[3].nd, 3);
    ts_tensor all[3] = {t[0], t[1], t[3]};
    /* the bytes exist */
    for (int i = 0; i < 3; i++)
        memset((void *)(uintptr_t)all[i].p.at, i,
               (size_t)ts_count(all[i]) * ts_dtype_size(all[i].type));
    ts_arena_close(&a);
    ts_device_close(d);
}
END_TEST

static ts_status fail_alloc(ts_device *d, size_t bytes, ts_ptr *p)
{
    (void)p;
    return ts_fail(d->err, TS_EMEMORY, "no memory for %zu", bytes);
}

START_TEST(test_nothing)
{
    ts_err err = {0};
    ts_device *d = open_cpu(&err);
    ts_arena a;
    ck_assert_int_eq(ts_arena_open(&a, d, 0), TS_OK);
    ck_assert_uint_ne(a.base.at, 0);
    ck_assert_uint_eq(a.peak, 0);
    ts_arena_close(&a);
    ts_arena_close(&a); /* twice is legal */
    ts_ops poor = {.alloc = fail_alloc};
    ts_device empty = {.ops = &poor, .err = &err};
    ck_assert_int_eq(ts_arena_open(&a, &empty, 12345), TS_EMEMORY);
    ck_assert_str_eq(err.text, "activations: no memory for 12345");
    ts_arena_close(&a); /* so is one that never opened */
    ts_device_close(d);
}
END_TEST

static ts_status take_a_thousand(ts_ctx *c, void *counted)
{
    ts_take(&c->arena, TS_F32, TS_DIM(1000));
    *(bool *)counted = c->dev->counting;
    return TS_OK;
}

/* A phase that is counted within one that is leaves the device counting. */
START_TEST(test_count_phase)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    for (int within = 0; within < 2; within++) {
        size_t bytes = 0;
        bool counted = false;
        c->dev->counting = within;
        ck_ok(c, ts_count_phase(c, take_a_thousand, &counted, &bytes));
        ck_assert(counted);
        ck_assert_uint_eq(bytes, 4096);
        ck_assert_int_eq(c->dev->counting, within);
    }
    c->dev->counting = false;
    testing_close(c);
}
END_TEST

/* ---- profile ---- */
typedef struct {
    float x[6], w[4], y[6];
} numbers;

static ts_tensor host2(const float *p, long rows, long columns)
{
    return ts_tensor_of((ts_ptr){(uintptr_t)p}, TS_F32, TS_DIM(rows, columns));
}

static ts_status do_work(ts_device *d, numbers *n)
{
    ts_status st = TS_OK;
    ts_weight w = {.t = ts_tensor_of((ts_ptr){0}, TS_F32, TS_DIM(2, 2))};
    bool counting = d->counting;
    char home[1 << 14] __attribute__((aligned(64)));
    d->counting = true;
    ts_linear l = {.x = host2(n->x, 3, 2), .w = &w, .y = host2(n->y, 3, 2)};
    TRY(ts_linear_op(d, l));
    d->counting = counting;
    if (!counting) {
        ck_assert_uint_le(w.want.bytes, sizeof home);
        TRY(d->ops->pack(d, &(ts_host){.data = n->w, .type = TS_F32, .nd = 2, .dim = {2, 2}}, 0, &w,
                         (ts_ptr){(uintptr_t)home}));
        ts_weight_packed(&w, (ts_ptr){(uintptr_t)home});
    }
    TRY(ts_linear_op(d, l));
    TRY(ts_lincomb_op(d, (ts_lincomb){.n = 1, .c = {2}, .x = {l.y}, .y = l.y}));
    TRY(ts_cast(d, l.y, l.y));
    TRY(ts_norm_op(d, (ts_norm){.kind = TS_NORM_RMS, .x = l.x, .y = l.x}));
done:
    d->counting = counting;
    return st;
}

START_TEST(test_profile)
{
    ts_err err = {0};
    ts_device *d = open_cpu(&err), *p = NULL;
    ts_profile sum;
    ck_assert_int_eq(ts_profile_read(d, &sum, false), TS_OK);
    ck_assert_int_eq(sum.calls[TS_TIME_LINEAR], 0); /* a device that is no profile */
    ck_assert_int_eq(ts_profile_open(d, &p), TS_OK);
    ck_assert_str_eq(p->name, "cpu");
    numbers n = {.x = {1, 2, 3, 4, 5, 6}, .w = {1, 0, 1, 1}}, again = n;
    bool was = true;
    ck_assert_int_eq(do_work(p, &again), TS_OK);
    ts_profile_read(p, &sum, true);
    for (int i = 0; i < TS_TIMES; i++) ck_assert_double_eq(sum.seconds[i], 0); /* nobody asked */
    ck_assert_int_eq(sum.calls[TS_TIME_LINEAR], 2);
    ck_assert_int_eq(ts_profile_time(p, true, &was), TS_OK);
    ck_assert(!was);
    ck_assert_msg(do_work(p, &n) == TS_OK, "%s", err.text);
    static const float want[] = {2, 6, 6, 14, 10, 22};
    /* the inner device did the work */
    for (int i = 0; i < 6; i++) ck_assert_float_eq(n.y[i], want[i]);
    ts_profile_read(p, &sum, true);
    ck_assert_int_eq(sum.calls[TS_TIME_LINEAR], 2); /* one of them counting: priced, not timed */
    ck_assert_double_eq(sum.flops[TS_TIME_LINEAR], 2 * 2.0 * 3 * 2 * 2);
    ck_assert(sum.seconds[TS_TIME_LINEAR] > 0 && sum.seconds[TS_TIME_NORM] > 0 &&
              sum.seconds[TS_TIME_ROPE] == 0);
    ck_assert_int_eq(sum.calls[TS_TIME_COPY], 1);
    ck_assert_int_eq(sum.calls[TS_TIME_NORM], 1);
    ck_assert_int_eq(sum.calls[TS_TIME_OTHER], 1);
    ts_profile_read(p, &sum, false);
    ck_assert_int_eq(sum.calls[TS_TIME_LINEAR], 0); /* it was reset */
    p->counting = true;
    ck_assert_int_eq(do_work(p, &n), TS_OK);
    ts_profile_read(p, &sum, false);
    ck_assert(sum.seconds[TS_TIME_LINEAR] == 0 && sum.flops[TS_TIME_LINEAR] > 0);
    ck_assert(d->counting); /* the inner device counts too */
    p->counting = false;
    ts_tensor one = host2(n.x, 3, 2);
    for (int i = 0; i < TS_MOMENTS; i++) /* more than a device keeps moments for */
        ck_assert_int_eq(ts_lincomb_op(p, (ts_lincomb){1, {1}, {one}, one}), TS_OK);
    ts_profile_read(p, &sum, true);
    ck_assert_int_eq(sum.calls[TS_TIME_OTHER], TS_MOMENTS + 1);
    ck_assert(sum.seconds[TS_TIME_OTHER] > 0);
    ck_assert_int_eq(ts_profile_time(p, false, &was), TS_OK);
    ck_assert(was);
    ck_assert_int_eq(do_work(p, &again), TS_OK);
    ts_profile_read(p, &sum, true);
    ck_assert_double_eq(sum.seconds[TS_TIME_LINEAR], 0);
    int tag = 0;
    n.x[3] = __builtin_inff();
    ck_assert_int_eq(p->ops->check(p, host2(n.x, 3, 2), 4), TS_OK);
    ck_assert_int_eq(p->ops->checked(p, &tag), TS_OK);
    ck_assert_int_eq(tag, 4);
    ck_assert_int_eq(ts_lincomb_op(p, (ts_lincomb){.n = 9}), TS_ESHAPE); /* errors pass */
    ts_device_close(p);                                                  /* closes the inner one */
    for (int i = 0; i < TS_TIMES; i++) ck_assert_int_gt(strlen(ts_time_name((ts_time)i)), 2);
}
END_TEST

/* What operations cost by their shapes, on a counting device. */
START_TEST(test_prices)
{
    enum { B = 2, N = 130, A = 3, D = 16, NB = 3 };
    ts_err err = {0};
    ts_device *d = open_cpu(&err), *p = NULL;
    ts_profile sum;
    ts_ptr at = {4096};
    ck_assert_int_eq(ts_profile_open(d, &p), TS_OK);
    p->counting = true;
    ts_weight w = {.t = ts_tensor_of((ts_ptr){0}, TS_F32, TS_DIM(6, 4, 1, 3, 3))};
    ts_conv conv = {.x = ts_tensor_of(at, TS_F32, TS_DIM(2, 9, 7, 4)),
                    .w = &w,
                    .stride = {1, 2, 2},
                    .pad = {0, 0, 1, 1, 1, 1},
                    .y = ts_tensor_of(at, TS_F32, TS_DIM(2, 5, 4, 6))};
    ck_assert_msg(ts_conv_op(p, conv) == TS_OK, "%s", err.text);
    ts_profile_read(p, &sum, true);
    ck_assert_double_eq(sum.flops[TS_TIME_CONV], 2.0 * (2 * 5 * 4 * 6) * (4 * 3 * 3));
    ts_tensor x = ts_tensor_of(at, TS_F32, TS_DIM(B, N, A, D)),
              lse = ts_tensor_of(at, TS_F32, TS_DIM(B, A, N)),
              sums = ts_tensor_of(at, TS_F32, TS_DIM(B, A, NB, NB));
    x.ld = A * D;
    ts_plan quarter = {.A = A, .nb = NB, .bits = at, .share = 0.25};
    const ts_plan *plans[B] = {&quarter, NULL}; /* the second of the batch reads everything */
    ts_attention a = {.q = x, .k = x, .v = x, .out = x, .scale = 1};
    const double one = 4.0 * N * N * A * D;
    ck_assert_msg(ts_attention_op(p, a) == TS_OK, "%s", err.text);
    ts_profile_read(p, &sum, true);
    ck_assert_double_eq(sum.flops[TS_TIME_ATTENTION], B * one);
    a.plan = plans;
    ck_assert_msg(ts_attention_op(p, a) == TS_OK, "%s", err.text);
    ts_profile_read(p, &sum, true);
    ck_assert_double_eq(sum.flops[TS_TIME_ATTENTION], 1.25 * one);
    ck_assert_msg(ts_block_sums_op(p, (ts_block_sums){x, x, 1, lse, sums}) == TS_OK, "%s",
                  err.text);
    ts_profile_read(p, &sum, false);
    ck_assert_double_eq(sum.flops[TS_TIME_SEARCH], B * one / 2); /* no values */
    ck_assert_msg(ts_block_means_op(p, (ts_block_means){x, x, sums}) == TS_OK, "%s", err.text);
    ck_assert_msg(ts_topk_op(p, (ts_topk){.scores = ts_tensor_of(at, TS_F32, TS_DIM(A, NB, NB)),
                                          .keep = 0.5,
                                          .plan = quarter}) == TS_OK,
                  "%s", err.text);
    ts_profile_read(p, &sum, false);
    ck_assert_int_eq(sum.calls[TS_TIME_SEARCH], 3);
    /* reset after each */
    ck_assert(sum.calls[TS_TIME_ATTENTION] == 0 && sum.calls[TS_TIME_OTHER] == 0);
    ts_device_close(p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("arena and profile");
    TCase *t = tcase_create("all");
    suite_add_tcase(s, t);
    tcase_add_test(t, test_take);
    tcase_add_test(t, test_nothing);
    tcase_add_test(t, test_count_phase);
    tcase_add_test(t, test_profile);
    tcase_add_test(t, test_prices);
    return testing_main(s);
}
