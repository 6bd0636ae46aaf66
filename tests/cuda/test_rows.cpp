/* Norms, activations, rotations and epilogues of products on the device against the CPU's plain C,
 * in three orders of blocks and threads. u = 2^-24 is half the distance from 1 to the next f32. */
#include "tests/cuda/twins.h"

static const double u = 0x1p-24;
static const ts_dtype floats[] = {TS_F32, TS_BF16};
static bool is_long(void) { return getenv("LONG") != NULL; }
static uint32_t draw(uint32_t n) { return (uint32_t)(test_uniform() * (float)n) % n; }

/* ---- norm ---- */
typedef struct {
    ts_norm_kind kind;
    long rows, C;
    int groups;
    ts_dtype xt, yt;
    float spread, shift;
} norm_case;
enum {
    W = 1,
    B = 2,
    TABLE = 4,
    SEL = 8,
    ACT = 16,
    WIDE = 32,
    ALIAS = 64,
    OFF = 128,
    ONLY_SCALE = 256
};

typedef struct {
    double size, mean, deviation; /* of a row, or of a group: mean of |x| too */
} moments;

static moments measure(const twin &x, long m0, long m1, long c0, long c1, bool centred)
{
    double n = (double)((m1 - m0) * (c1 - c0)), size = 0, mean = 0, square = 0;
    for (long m = m0; m < m1; m++)
        for (long c = c0; c < c1; c++) {
            size += fabs(x.get(m, c)) / n;
            mean += centred ? x.get(m, c) / n : 0;
        }
    for (long m = m0; m < m1; m++)
        for (long c = c0; c < c1; c++) square += pow(x.get(m, c) - mean, 2) / n;
    return {size, mean, sqrt(square)};
}

/* The device sums f32: a thread adds n of them, 32 or more threads follow in 13 steps at most. With
 * d = n + 13 the mean is off by d u |x| and rounded, the sum of squares by (d + 3) u of itself and
 * by what the mean is off; half of either is the root's, which rounds twice more. So is the number
 * in relation to the deviation. Each side then rounds at most six steps on numbers below M. The
 * slope of an activation is below 1.13, its own error 10 u of the argument (test_activate). */
typedef struct {
    double off, slope; /* off + slope |x - mean| */
    moments s;
} norm_bound;

static norm_bound bound_row(const norm_case *k, moments s, float eps, long threads)
{
    long all = k->kind == TS_NORM_GROUP ? 8192 : k->C;
    double d = (double)(all / threads) + 1 + 13, e = k->kind == TS_NORM_L2 ? 0 : eps,
           inv = k->kind == TS_NORM_L2 ? 1 / fmax(s.deviation, eps / sqrt((double)k->C))
                                       : 1 / sqrt(s.deviation * s.deviation + e),
           mean = (d * s.size + 2 * fabs(s.mean)) * u + 0x1p-126;
    if (s.mean == 0 && k->kind != TS_NORM_LAYER && k->kind != TS_NORM_GROUP) mean = 0;
    double relative = 0.5 * (d + 3) * u + 4 * u + 0.5 * mean * mean * inv * inv;
    return {mean * inv, (relative + 3 * u) * inv, s};
}

static void try_norm(const norm_case *k, int options)
{
    long C = k->C, ld = options & WIDE ? C + 5 : C;
    int off = options & OFF ? 1 : 0;
    if (k->xt != k->yt) options &= ~ALIAS;
    twin x = twin_random(k->xt, k->rows, C, ld, off, k->spread, k->shift),
         y = options & ALIAS ? x : twin_random(k->yt, k->rows, C, ld, off),
         w = twin_random(TS_F32, 1, C, C, off, 0.5f, 1), b = twin_random(TS_F32, 1, C),
         table = twin_random(TS_F32, 4, C, options & OFF ? C + 3 : 0),
         before = options & ALIAS ? twin_copy(x) : x;
    std::vector<uint8_t> sel((size_t)k->rows);
    for (uint8_t &s : sel) s = (uint8_t)draw(2);
    uint8_t *device_sel = test_give(sel);
    ts_weight hw = {}, hb = {}, dw = {}, db = {};
    ts_norm a = {};
    a.kind = k->kind;
    a.groups = k->groups;
    a.eps = k->kind == TS_NORM_L2 ? 1e-12f : 1e-6f;
    a.act = options & ACT ? (ts_act)(1 + draw(5)) : TS_ACT_NONE;
    ts_norm d = a;
    auto both = [](ts_tensor *h, ts_tensor *e, const twin &t) { *h = t.host, *e = t.device; };
    both(&a.x, &d.x, x);
    both(&a.y, &d.y, y);
    both(&hw.t, &dw.t, w);
    both(&hb.t, &db.t, b);
    if (options & W) a.w = &hw, d.w = &dw;
    if (options & B) a.b = &hb, d.b = &db;
    if (options & TABLE) {
        both(&a.scale, &d.scale, table);
        a.scale.dim[0] = d.scale.dim[0] = 2;
        if (!(options & ONLY_SCALE)) {
            a.shift = ts_row_range(table.host, 2, 2);
            d.shift = ts_row_range(table.device, 2, 2);
        }
        if (options & SEL) {
            a.sel = test_tensor(sel.data(), TS_U8, {k->rows});
            d.sel = test_tensor(device_sel, TS_U8, {k->rows});
        }
    }
    void *scratch = test_take<char>(ts_cuda_norm_scratch(&d));
    ck_cuda(ts_cuda_norm(&d, scratch, test_stream()));
    float statistics[64][2];
    ck_assert_int_le(k->groups, 64);
    ts_norm_ref(&a, statistics);
    std::vector<norm_bound> bounds;
    bool centred = k->kind == TS_NORM_LAYER || k->kind == TS_NORM_GROUP;
    if (k->kind == TS_NORM_GROUP)
        for (long g = 0, n = C / k->groups; g < k->groups; g++)
            bounds.push_back(
                bound_row(k, measure(before, 0, k->rows, g * n, g * n + n, true), a.eps, 256));
    else
        for (long m = 0; m < k->rows; m++)
            bounds.push_back(bound_row(k, measure(before, m, m + 1, 0, C, centred), a.eps,
                                       C <= 1024 ? 32 : 256));
    char what[128];
    snprintf(what, sizeof what, "norm %d, %ld x %ld in %d groups, options %d, %s to %s", k->kind,
             k->rows, C, k->groups, options, ts_dtype_name(k->xt), ts_dtype_name(k->yt));
    twin_check(y, what, [&](long m, long c, double want) {
        const norm_bound &e = bounds[(size_t)(k->groups ? c / (C / k->groups) : m)];
        double far = fabs(before.get(m, c) - e.s.mean), W1 = options & W ? fabs(w.get(0, c)) : 1,
               B1 = options & B ? fabs(b.get(0, c)) : 0, S1 = 1, T1 = 0;
        long row = options & SEL ? sel[(size_t)m] : 0;
        if (options & TABLE) S1 = fabs(1 + table.get(row, c));
        if (options & TABLE && !(options & ONLY_SCALE)) T1 = fabs(table.get(2 + row, c));
        double inv = e.s.deviation > 0 ? far / e.s.deviation : 0, M = (inv * W1 + B1) * S1 + T1,
               off = (e.off + e.slope * far) * W1 * S1 + 12 * u * (M + inv * W1 + B1);
        if (a.act) off = 1.13 * off + 10 * u * M;
        return off + twin_step(y.host.type, want);
    });
    test_release();
}

START_TEST(norms)
{
    static const long widths[] = {1, 3, 12, 40, 96, 1000, 1023, 1024, 1536, 8192, 8200};
    test_order(_i);
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int kind = TS_NORM_LAYER; kind <= TS_NORM_L2; kind++)
            for (int t = 0; t < 4; t++) {
                if (!is_long() && (t + kind + (int)w + _i) % 2) continue;
                norm_case k = {(ts_norm_kind)kind,
                               widths[w] > 2000 ? 2 : (long)(1 + draw(12)),
                               widths[w],
                               0,
                               floats[t / 2],
                               floats[t % 2],
                               2,
                               kind == TS_NORM_LAYER ? 1.f : 0.f};
                try_norm(&k, (int)draw(512));
                if (is_long() || t == (int)w % 4) try_norm(&k, W | B | TABLE | SEL);
            }
}
END_TEST

START_TEST(group_norms)
{
    static const struct {
        long rows, C;
        int groups;
    } k[] = {{1, 1, 1},    {7, 3, 3},     {130, 12, 3}, {33, 96, 32}, {9, 512, 32},
             {3000, 6, 2}, {1100, 16, 1}, {2, 8200, 1}, {40, 40, 40}, {1030, 8, 1}};
    test_order(_i);
    for (size_t i = 0; i < sizeof k / sizeof *k; i++)
        for (int t = 0; t < 4; t++) {
            norm_case c = {TS_NORM_GROUP, k[i].rows,     k[i].C, k[i].groups,
                           floats[t / 2], floats[t % 2], 2,      0.5f};
            if (is_long() || t == _i || t == 3) try_norm(&c, (int)draw(512));
        }
}
END_TEST

/* Rows of one number many times over have no deviation but eps; a zero row of L2 stays zero. */
START_TEST(flat_rows)
{
    test_order(_i);
    for (int kind = TS_NORM_LAYER; kind <= TS_NORM_L2; kind++) {
        norm_case k = {
            (ts_norm_kind)kind, 3, 64, 0, TS_F32, TS_F32, 0, kind == TS_NORM_L2 ? 0.f : 4.f};
        try_norm(&k, B);
    }
    norm_case k = {TS_NORM_GROUP, 5, 64, 4, TS_BF16, TS_BF16, 0, 4};
    try_norm(&k, B);
}
END_TEST

/* ---- activate ---- */
/* As in tests/backend/test_rest.c: x times a number in 0..1 that a few roundings reach. The
 * device's functions are within 2 ulp, 4 u: exp of an argument 3 roundings off, sum, quotient,
 * products. */
static double bound_activation(double in, double want, bool mul, ts_dtype type)
{
    if (std::isnan(in)) return 0;
    if (fabs(in) >= 100) return twin_step(type, want) + (mul ? 2 * u * fabs(want) : 0);
    return 16 * u * fabs(in) + (mul ? 2 * u * fabs(want) : 0) + twin_step(type, want);
}

static void try_activate(ts_act act, long rows, long C, ts_dtype xt, ts_dtype yt, int options)
{
    static const float odd[] = {0,      -0.0f, 1e-40f, -1e-40f, 1e30f,  -1e30f,   88.5f,
                                -88.5f, 104,   -104,   3e38f,   -3e38f, INFINITY, -INFINITY,
                                NAN,    5.5f,  -5.5f,  -13,     1e-20f};
    bool wide = options & 1, mul = options & 2, alias = xt == yt && options & 4;
    int off = options & 8 ? 1 : 0;
    long ld = wide ? C + 3 : C;
    twin x = twin_of(xt, rows, C, ld, off, [&](long m, long c) {
        long i = m * C + c;
        return i % 7 == 0 && i / 7 < 19 ? odd[i / 7] : 5 * test_normal();
    });
    twin before = twin_copy(x), y = alias ? x : twin_random(yt, rows, C, ld, off),
         t = twin_random(options & 16 ? TS_F32 : yt, rows, C, options & 32 ? C + 8 : 0);
    ts_activate a = {act, x.host, {}, y.host}, d = {act, x.device, {}, y.device};
    if (mul) a.mul = t.host, d.mul = t.device;
    ck_cuda(ts_cuda_activate(&d, test_stream()));
    ts_activate_ref(&a);
    char what[128];
    snprintf(what, sizeof what, "activation %d, %ld x %ld, options %d, %s to %s", act, rows, C,
             options, ts_dtype_name(xt), ts_dtype_name(yt));
    twin_check(y, what, [&](long m, long c, double want) {
        double in = before.get(m, c), factor = mul ? fabs(t.get(m, c)) : 1;
        return fmax(factor, 1) * bound_activation(in, want, mul, yt);
    });
    test_release();
}

START_TEST(activations)
{
    static const long widths[] = {1, 3, 24, 1023, 8192};
    test_order(_i);
    for (int act = TS_ACT_NONE; act <= TS_ACT_RELU; act++)
        for (int w = 0; w < 5; w++)
            for (int t = 0; t < 4; t++)
                if (is_long() || (t + w + act + _i) % 2)
                    try_activate((ts_act)act, widths[w] > 1000 ? 1 : 1 + (long)draw(30), widths[w],
                                 floats[t / 2], floats[t % 2], (int)draw(64));
}
END_TEST

/* ---- rope ---- */
static void try_rope(long N, long A, long D, ts_dtype type, int options)
{
    long ld = A * D + (options & 1 ? 8 : options & 2 ? 3 : 0);
    twin x = twin_random(type, N, A * D, ld, options & 4 ? 1 : 0), before = twin_copy(x), angle[2];
    for (twin &t : angle) t = twin_random(TS_F32, N, D / 2, options & 8 ? D / 2 + 1 : D / 2);
    ts_rope a = {twin_shaped(x, {N, A, D}).host, angle[0].host, angle[1].host},
            d = {twin_shaped(x, {N, A, D}).device, angle[0].device, angle[1].device};
    ck_cuda(ts_cuda_rope(&d, test_stream()));
    ts_rope_ref(&a);
    char what[96];
    snprintf(what, sizeof what, "rope of [%ld, %ld, %ld] %s, options %d", N, A, D,
             ts_dtype_name(type), options);
    /* two products and a sum, one of the products unrounded perhaps */
    twin_check(x, what, [&](long m, long c, double want) {
        long j = c % D / 2;
        double sum = fabs(before.get(m, c) * angle[0].get(m, j)) +
                     fabs(before.get(m, c ^ 1) * angle[1].get(m, j));
        return 4 * u * sum + twin_step(type, want);
    });
    test_release();
}

START_TEST(rotations)
{
    test_order(_i);
    for (int t = 0; t < 2; t++)
        for (int options = 0; options < 16; options += is_long() ? 1 : 3) {
            try_rope(5, 3, 16, floats[t], options);
            try_rope(1, 1, 2, floats[t], options);
            try_rope(3, 2, 6, floats[t], options);
            try_rope(9, 2, 128, floats[t], options);
        }
}
END_TEST

/* ---- epilogue ---- */
static void try_epilogue(long M, long O, ts_dtype tt, ts_dtype yt, int options)
{
    bool bias = options & 1, gate = options & 2, sel = gate && options & 4, resid = options & 8,
         in_place = options & 16 && tt == yt, onto = options & 32 && resid && !in_place;
    int off = options & 64 ? 1 : 0;
    long ld = options & 128 ? O + 5 : O;
    ts_act act = options & 256 ? (ts_act)(1 + draw(5)) : TS_ACT_NONE;
    twin t = twin_random(tt, M, O, ld, off), r = twin_random(yt, M, O, ld + 3, off),
         b = twin_random(TS_F32, 1, O, O, off), g = twin_random(TS_F32, 3, O, O + off),
         y = in_place ? t
             : onto   ? r
                      : twin_random(yt, M, O, ld),
         t0 = twin_copy(t), r0 = twin_copy(r);
    std::vector<uint8_t> choice((size_t)M);
    for (uint8_t &s : choice) s = (uint8_t)draw(3);
    ts_cuda_epilogue_args d = {};
    d.t = t.device;
    d.y = y.device;
    d.act = act;
    if (bias) d.b = (const float *)(uintptr_t)b.device.p.at;
    if (gate) d.gate = g.device;
    if (sel) d.sel = test_tensor(test_give(choice), TS_U8, {M});
    if (resid) d.resid = r.device;
    ck_cuda(ts_cuda_epilogue(&d, test_stream()));
    for (long m = 0; m < M; m++) /* what ts_linear_ref does with its sum */
        for (long c = 0; c < O; c++) {
            float v = ts_act_ref(act, t0.get(m, c) + (bias ? b.get(0, c) : 0));
            if (gate) v *= g.get(sel ? choice[(size_t)m] : 0, c);
            if (resid) v += r0.get(m, c);
            y.set(m, c, v);
        }
    char what[96];
    snprintf(what, sizeof what, "epilogue of %ld x %ld, options %d, %s to %s", M, O, options,
             ts_dtype_name(tt), ts_dtype_name(yt));
    twin_check(y, what, [&](long m, long c, double want) {
        double in = fabs(t0.get(m, c)) + (bias ? fabs(b.get(0, c)) : 0),
               factor = gate ? fabs(g.get(sel ? choice[(size_t)m] : 0, c)) : 1,
               rest = resid ? fabs(r0.get(m, c)) : 0;
        return (1.13 * 2 + 16) * u * in * factor + 4 * u * (in * factor + rest) +
               twin_step(yt, want);
    });
    test_release();
}

START_TEST(epilogues)
{
    static const long widths[] = {1, 3, 64, 1023, 8192};
    test_order(_i);
    for (int w = 0; w < 5; w++)
        for (int t = 0; t < 4; t++)
            for (int n = is_long() ? 12 : 2; n > 0; n--)
                try_epilogue(widths[w] > 1000 ? 2 : 1 + (long)draw(20), widths[w], floats[t / 2],
                             floats[t % 2], (int)draw(512));
}
END_TEST

/* ---- nothing, and too much ---- */
START_TEST(sizes)
{
    float *p = test_take<float>(4);
    ts_tensor none = test_tensor(p, TS_F32, {0, 4}), thin = test_tensor(p, TS_F32, {4, 0}),
              vast = test_tensor(p, TS_F32, {1L << 45, 1L << 18}, 1L << 18);
    ts_tensor heads = test_tensor(p, TS_F32, {1L << 45, 1, 1L << 18});
    for (ts_tensor t : {none, thin, vast}) {
        cudaError_t want = t.dim[0] > 4 ? cudaErrorInvalidValue : cudaSuccess;
        for (int kind = TS_NORM_LAYER; kind <= TS_NORM_GROUP; kind++) {
            ts_norm n = {};
            n.kind = (ts_norm_kind)kind;
            n.groups = 1;
            n.x = n.y = t;
            ck_assert_int_eq(ts_cuda_norm(&n, p, test_stream()), want);
        }
        ts_activate a = {TS_ACT_SILU, t, {}, t};
        ts_cuda_epilogue_args e = {};
        e.t = e.y = t;
        ck_assert_int_eq(ts_cuda_activate(&a, test_stream()), want);
        ck_assert_int_eq(ts_cuda_epilogue(&e, test_stream()), want);
    }
    ts_rope r = {heads, heads, heads};
    ck_assert_int_eq(ts_cuda_rope(&r, test_stream()), cudaErrorInvalidValue);
    r.x.dim[0] = 0;
    ck_assert_int_eq(ts_cuda_rope(&r, test_stream()), cudaSuccess);
    ck_well("launch");
    test_release();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda rows");
    TCase *t = tcase_create("rows");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, norms, 0, TEST_ORDERS);
    tcase_add_loop_test(t, group_norms, 0, TEST_ORDERS);
    tcase_add_loop_test(t, flat_rows, 0, TEST_ORDERS);
    tcase_add_loop_test(t, activations, 0, TEST_ORDERS);
    tcase_add_loop_test(t, rotations, 0, TEST_ORDERS);
    tcase_add_loop_test(t, epilogues, 0, TEST_ORDERS);
    tcase_add_test(t, sizes);
    suite_add_tcase(suite, t);
    return testing_main(suite);
}
