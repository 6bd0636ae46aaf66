/* The CPU device's own promises: what it refuses and how it says so, at every level and while
 * counting; threads; ids out of range. */
#include "backend/cpu/cpu.h"
#include "tests/testing.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

static ts_ctx *c;
static float numbers[4096];

static void open_cpu_context(void) { c = testing_open("cpu", NULL, 1); }
static void close_cpu_context(void)
{
    testing_close(c);
    c = NULL;
}

/* An f32 tensor over numbers that nothing reads before they are refused. */
static ts_tensor f32(int nd, const long *dim)
{
    return ts_tensor_of(c->dev->ops->adopt(c->dev, numbers, sizeof numbers), TS_F32, nd, dim);
}
static ts_tensor typed(ts_dtype type, int nd, const long *dim)
{
    ts_tensor t = f32(nd, dim);
    t.type = type;
    return t;
}

/* Refused with `code` and a sentence that holds `words`, counting or not. */
#define REFUSED(call, code, words)                                                       \
    do {                                                                                 \
        for (int n_ = 0; n_ < 2; n_++) {                                                 \
            c->dev->counting = n_;                                                       \
            c->err = (ts_err){0};                                                        \
            ts_status got_ = (call);                                                     \
            ck_assert_msg(got_ == (code) && strstr(c->err.text, words),                  \
                          "%s (counting %d): %d, \"%s\"", #call, n_, got_, c->err.text); \
        }                                                                                \
        c->dev->counting = false;                                                        \
    } while (0)

START_TEST(linear_shapes)
{
    ts_weight w = {.t = f32(TS_DIM(8, 4))}, b = {.t = f32(TS_DIM(7))},
              half = {.t = typed(TS_BF16, TS_DIM(8))};
    ts_linear a = {.x = f32(TS_DIM(3, 4)), .w = &w, .y = f32(TS_DIM(3, 8))}, bad;
    ck_ok(c, ts_linear_op(c->dev, a));
    bad = a;
    bad.x = f32(TS_DIM(3, 5));
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE,
            "linear: x is [3, 5] F32, expected the width of weight [8, 4] F32");
    bad = a;
    bad.y = f32(TS_DIM(2, 8));
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE,
            "linear: y is [2, 8] F32, expected rows and width of [3, 8]");
    bad = a;
    bad.x.type = TS_F16;
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE, "linear: x is [3, 4] F16");
    bad = a;
    bad.x.p.at = 0;
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE, "linear: x is absent");
    bad = a;
    bad.x.ld = 3;
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE, "rows 3 elements apart");
    bad = a;
    bad.b = &b;
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE, "linear: bias is [7] F32");
    bad.b = &half;
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE, "linear: bias is [8] BF16");
    bad = a;
    bad.gate = f32(TS_DIM(1, 9));
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE, "linear: gate is [1, 9]");
    bad = a;
    bad.gate = f32(TS_DIM(1, 8));
    bad.sel = typed(TS_U8, TS_DIM(4));
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE, "linear: sel is [4] U8");
    bad = a;
    bad.resid = typed(TS_BF16, TS_DIM(3, 8));
    REFUSED(ts_linear_op(c->dev, bad), TS_ESHAPE, "linear: resid is [3, 8] BF16");
    w.t.p.at = 0;
    ck_assert_int_eq(ts_linear_op(c->dev, a), TS_EDEVICE);
    ck_assert_str_eq(c->err.text, "linear: weight [8, 4] F32 is not resident");
    w.t = typed(TS_F16, TS_DIM(8, 4));
    ck_assert_int_eq(ts_linear_op(c->dev, a), TS_EDEVICE);
    ck_assert_ptr_nonnull(strstr(c->err.text, "not resident as F32"));
}
END_TEST

/* A scale that a device can not apply is refused, and never left out. */
START_TEST(scales_are_refused)
{
    ts_weight w = {.t = f32(TS_DIM(8, 4))}, k = {.t = f32(TS_DIM(6, 4, 1, 1, 1))},
              b = {.t = f32(TS_DIM(8))};
    ts_linear l = {.x = f32(TS_DIM(3, 4)), .w = &w, .b = &b, .y = f32(TS_DIM(3, 8))};
    ts_conv v = {
        .x = f32(TS_DIM(3, 5, 5, 4)), .w = &k, .stride = {1, 1, 1}, .y = f32(TS_DIM(3, 5, 5, 6))};
    ck_ok(c, ts_linear_op(c->dev, l));
    ck_ok(c, ts_conv_op(c->dev, v));
    w.scale = k.scale = f32(TS_DIM(1));
    REFUSED(ts_linear_op(c->dev, l), TS_EDEVICE,
            "linear: weight [8, 4] F32 has a scale, which device cpu can not apply");
    REFUSED(ts_conv_op(c->dev, v), TS_EDEVICE, "conv: weight [6, 4, 1, 1, 1] F32 has a scale");
    w.scale.p.at = 0;
    b.scale = f32(TS_DIM(8));
    REFUSED(ts_linear_op(c->dev, l), TS_EDEVICE, "linear: weight [8] F32 has a scale");
}
END_TEST

START_TEST(conv_shapes)
{
    ts_weight w = {.t = f32(TS_DIM(6, 4, 3, 3, 3))};
    ts_conv a = {.x = f32(TS_DIM(3, 5, 5, 4)),
                 .w = &w,
                 .stride = {1, 1, 1},
                 .pad = {2, 0, 1, 1, 1, 1},
                 .y = f32(TS_DIM(3, 5, 5, 6))},
            bad;
    ck_ok(c, ts_conv_op(c->dev, a));
    bad = a;
    bad.x = f32(TS_DIM(3, 5, 5, 3));
    REFUSED(ts_conv_op(c->dev, bad), TS_ESHAPE,
            "conv: x is [3, 5, 5, 3] F32, expected the channels of weight [6, 4, 3, 3, 3]");
    bad = a;
    bad.y = f32(TS_DIM(3, 5, 4, 6));
    REFUSED(ts_conv_op(c->dev, bad), TS_ESHAPE,
            "conv: y is [3, 5, 4, 6] F32, expected [3, 5, 5, 6]");
    bad = a;
    bad.stride[1] = 0;
    REFUSED(ts_conv_op(c->dev, bad), TS_ESHAPE, "conv: stride 0");
    bad = a;
    bad.pad[0] = -1;
    REFUSED(ts_conv_op(c->dev, bad), TS_ESHAPE, "padding -1");
    bad = a;
    bad.pad[0] = 0;
    bad.x = f32(TS_DIM(2, 5, 5, 4));
    REFUSED(ts_conv_op(c->dev, bad), TS_ESHAPE, "conv: kernel of 3 along axis 0, x has 2");
    bad = a;
    bad.x = f32(TS_DIM(15, 5, 4));
    REFUSED(ts_conv_op(c->dev, bad), TS_ESHAPE, "3, 4 and 5 dimensions");
    bad = a;
    bad.resid = f32(TS_DIM(3, 5, 5, 5));
    REFUSED(ts_conv_op(c->dev, bad), TS_ESHAPE, "conv: resid is");
}
END_TEST

START_TEST(norm_and_rope_shapes)
{
    ts_weight missing = {.t = f32(TS_DIM(8))};
    ts_norm n = {.kind = TS_NORM_RMS, .x = f32(TS_DIM(2, 8)), .y = f32(TS_DIM(2, 8))};
    ck_ok(c, ts_norm_op(c->dev, n));
    n.scale = f32(TS_DIM(1, 4));
    REFUSED(ts_norm_op(c->dev, n), TS_ESHAPE, "norm: scale is [1, 4]");
    n = (ts_norm){
        .kind = TS_NORM_GROUP, .groups = 3, .x = f32(TS_DIM(2, 8)), .y = f32(TS_DIM(2, 8))};
    REFUSED(ts_norm_op(c->dev, n), TS_ESHAPE, "norm: 8 channels in 3 groups");
    n.groups = 0;
    REFUSED(ts_norm_op(c->dev, n), TS_ESHAPE, "norm: 8 channels in 0 groups");
    missing.t.p.at = 0;
    n = (ts_norm){
        .kind = TS_NORM_RMS, .w = &missing, .x = f32(TS_DIM(2, 8)), .y = f32(TS_DIM(2, 8))};
    ck_assert_int_eq(ts_norm_op(c->dev, n), TS_EDEVICE);
    ck_assert_str_eq(c->err.text, "norm: weight of 8 is not resident");

    ts_rope r = {.x = f32(TS_DIM(3, 2, 4)), .cos = f32(TS_DIM(3, 2)), .sin = f32(TS_DIM(3, 2))};
    /* heads would lie on top of each other */
    REFUSED(ts_rope_op(c->dev, r), TS_ESHAPE, "tokens 4 elements apart, expected 8 or more");
    r.x.ld = 8;
    ck_ok(c, ts_rope_op(c->dev, r));
    r.sin = f32(TS_DIM(3, 1));
    REFUSED(ts_rope_op(c->dev, r), TS_ESHAPE, "rope: sin is [3, 1]");
    r.x = f32(TS_DIM(3, 2, 3));
    REFUSED(ts_rope_op(c->dev, r), TS_ESHAPE, "even D");
}
END_TEST

START_TEST(other_shapes)
{
    REFUSED(ts_activate_op(c->dev, (ts_activate){.x = f32(TS_DIM(2, 8)), .y = f32(TS_DIM(2, 7))}),
            TS_ESHAPE, "activate: y is [2, 7]");
    REFUSED(ts_lincomb_op(c->dev, (ts_lincomb){.n = 9, .y = f32(TS_DIM(2))}), TS_ESHAPE,
            "lincomb: 9 tensors");
    REFUSED(ts_lincomb_op(c->dev, (ts_lincomb){.n = 1, .x = {f32(TS_DIM(3))}, .y = f32(TS_DIM(2))}),
            TS_ESHAPE, "lincomb: x is [3]");
    ts_copy a = {.src = f32(TS_DIM(1)).p,
                 .dst = f32(TS_DIM(1)).p,
                 .stype = TS_I32,
                 .dtype = TS_F32,
                 .nd = 1,
                 .dim = {1}};
    REFUSED(ts_copy_op(c->dev, a), TS_ESHAPE, "copy: from I32 to F32");
    a.stype = TS_F32;
    a.dst.at = 0;
    REFUSED(ts_copy_op(c->dev, a), TS_ESHAPE, "copy: the target is absent");
    ts_resample r = {.reduce = true,
                     .ft = 2,
                     .fs = 2,
                     .x = f32(TS_DIM(4, 4, 4, 8)),
                     .y = f32(TS_DIM(2, 2, 2, 16))};
    ck_ok(c, ts_resample_op(c->dev, r));
    r.drop = 2;
    REFUSED(ts_resample_op(c->dev, r), TS_ESHAPE, "drop 2");
    r.drop = 1;
    REFUSED(ts_resample_op(c->dev, r), TS_ESHAPE,
            "resample: x is [4, 4, 4, 8] F32, expected [3, 4, 4, 8]");
    r.drop = 0;
    r.y = f32(TS_DIM(2, 2, 2, 15));
    REFUSED(ts_resample_op(c->dev, r), TS_ESHAPE, "do not divide into 15");
    REFUSED(c->dev->ops->check(c->dev, f32(TS_DIM(2)), 0), TS_ESHAPE, "check: tag 0");
    REFUSED(ts_randn_op(c->dev, (ts_randn){.rows = -1, .y = f32(TS_DIM(2))}), TS_ESHAPE,
            "randn: rows -1 and columns 0 apart");
    REFUSED(ts_randn_op(c->dev, (ts_randn){.y = typed(TS_BF16, TS_DIM(2))}), TS_ESHAPE,
            "randn: y is [2] BF16");
    ts_weight w = {.t = f32(TS_DIM(2, 3))};
    REFUSED(c->dev->ops->pack(c->dev, &(ts_host){numbers, TS_F32, 2, {2, 2}}, 0, &w, w.t.p),
            TS_ESHAPE, "pack: 4 numbers are stored, expected 6");
    REFUSED(c->dev->ops->pack(c->dev, &(ts_host){numbers, TS_F32, 2, {2, 3}}, 1, &w, w.t.p),
            TS_ESHAPE, "pack: 2 rows from row 1 on, of 2: expected multiples of 192");
    REFUSED(c->dev->ops->pack(c->dev, &(ts_host){numbers, TS_F32, 2, {1, 3}}, 0, &w, w.t.p),
            TS_ESHAPE, "pack: 1 rows from row 0 on, of 2");
    REFUSED(c->dev->ops->pack(c->dev, &(ts_host){numbers, TS_I64, 2, {2, 3}}, 0, &w, w.t.p),
            TS_ESHAPE, "not F32, BF16 or F16");
}
END_TEST

START_TEST(ids)
{
    int32_t id[] = {0, 3, 2};
    ts_tensor at = ts_tensor_of(c->dev->ops->adopt(c->dev, id, sizeof id), TS_I32, TS_DIM(3)),
              y = f32(TS_DIM(3, 4));
    y.p = ts_at(y.p, 1024);
    ts_gather a = {.x = f32(TS_DIM(4, 4)), .ids = at, .y = y};
    for (int i = 0; i < 16; i++) numbers[i] = (float)i;
    ck_ok(c, ts_gather_op(c->dev, a));
    ck_assert_float_eq(numbers[256 + 4], 12);
    id[1] = 4;
    ck_assert_int_eq(ts_gather_op(c->dev, a), TS_ESHAPE);
    ck_assert_str_eq(c->err.text, "gather: id 4 at 1, the table has 4 rows");
    id[1] = -1;
    ck_assert_int_eq(ts_gather_op(c->dev, a), TS_ESHAPE);
}
END_TEST

/* An operation runs on its device's number of threads; the caller's own OpenMP is as it was. */
static int threads_seen;
static void note_threads(const ts_activate *a)
{
    (void)a;
    threads_seen = omp_get_max_threads();
}

START_TEST(threads)
{
    ts_ctx *three = testing_open("cpu", NULL, 3);
    ts_tensor t = f32(TS_DIM(4));
    double flops;
    omp_set_num_threads(5);
    ts_ctx *of[] = {c, three};
    ts_device *both[] = {c->dev, three->dev};
    for (int i = 0; i < 2; i++) {
        ts_weight w = {.t = f32(TS_DIM(8, 4))};
        ((ts_cpu *)both[i])->run.activate = note_threads;
        ck_ok(of[i], both[i]->ops->check(both[i], t, 1));
        ck_ok(of[i], ts_activate_op(both[i], (ts_activate){.x = t, .y = t}));
        ck_assert_int_eq(threads_seen, i ? 3 : 1);
        ck_ok(of[i], both[i]->ops->peak(both[i], TS_F32, &flops));
        both[i]->counting = true;
        ck_ok(of[i],
              ts_linear_op(both[i],
                           (ts_linear){.x = f32(TS_DIM(1, 4)), .w = &w, .y = f32(TS_DIM(1, 8))}));
        both[i]->counting = false;
        ck_assert_int_eq(omp_get_max_threads(), 5);
    }
    testing_close(three);
    omp_set_num_threads(1);
}
END_TEST

START_TEST(levels)
{
    ts_err err = {0};
    ts_device *d = NULL;
    ck_assert_int_eq(ts_device_open((ts_device_options){.level = "sse9"}, NULL, &err, &d),
                     TS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(err.text, "sse9"));
    ck_assert_ptr_null(d);
    ck_assert_int_eq(
        ts_device_open((ts_device_options){.level = "ref", .threads = 3}, NULL, &err, &d), TS_OK);
    ck_assert_str_eq(ts_facts(d).level, "ref");
    ck_assert_int_eq(ts_facts(d).threads, 3);
    ck_assert(!d->has_bf16);
    ts_device_close(d);
}
END_TEST

/* By name: what there is, what there could be, what there is not; what it says of itself. */
START_TEST(kinds)
{
    static const struct {
        const char *kind;
        ts_status want;
    } k[] = {{NULL, TS_OK},          {"auto", TS_OK},      {"cpu", TS_OK},     {"cuda", TS_EDEVICE},
             {"cuda:1", TS_EDEVICE}, {"cudas", TS_EUSAGE}, {"gpu", TS_EUSAGE}, {"", TS_EUSAGE}};
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        ts_err err = {0};
        ts_device *d = NULL;
        char text[256], part[8];
        size_t available = 0, total = 0;
        ts_device_options o = {k[i].kind, 1, "ref"};
        ck_assert_int_eq(ts_device_open(o, NULL, &err, &d), k[i].want);
        ck_assert_int_eq(d != NULL, k[i].want == TS_OK);
        if (k[i].want) {
            ck_assert_ptr_nonnull(strstr(err.text, k[i].kind));
            continue;
        }
        ck_assert_str_eq(d->name, "cpu");
        ck_assert_int_eq(d->ops->memory(d, &available, &total), TS_OK);
        ck_assert(available > 0 && available <= total);
        d->ops->about(d, text, sizeof text);
        ck_assert_msg(!strncmp(text, "device cpu, level ref, 1 threads, f32 alone\noneDNN ", 51),
                      "%s", text);
        d->ops->about(d, part, sizeof part);
        ck_assert_str_eq(part, "device ");
        ts_device_close(d);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("device");
    TCase *tc = tcase_create("device");
    tcase_add_checked_fixture(tc, open_cpu_context, close_cpu_context);
    tcase_add_test(tc, linear_shapes);
    tcase_add_test(tc, conv_shapes);
    tcase_add_test(tc, scales_are_refused);
    tcase_add_test(tc, norm_and_rope_shapes);
    tcase_add_test(tc, other_shapes);
    tcase_add_test(tc, ids);
    tcase_add_test(tc, threads);
    tcase_add_test(tc, levels);
    tcase_add_test(tc, kinds);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
