/* Norms, activations, rope, linear combinations and the check for finite numbers: every CPU level
 * against the plain C of level "ref", one thread against two bit for bit, with nothing written
 * outside the rows. u = 2^-24 is half the distance from 1 to the next f32. */
#include "backend/philox.h"
#include "tests/backend/guarded.h"

#include <math.h>
#include <stdio.h>

static const double u = 1.0 / (1 << 24);
static const long widths[] = {1, 3, 12, 24, 40, 96, 192, 1000, 1536};
/* numbers a tensor: enough for more than one thread */
enum { WIDTHS = sizeof widths / sizeof *widths, NUMBERS = 20000 };
static const ts_dtype floats[] = {TS_F32, TS_BF16};

/* Rounding to bf16 of numbers that differ by less than that can end one step apart: at most 2^-7 of
 * the number. What is below the smallest normal number may become 0. */
static double rounding(ts_tensor t, double want)
{
    return t.type == TS_BF16 ? fabs(want) / 128 : 0;
}

static bool agree(double got, double want, double tol)
{
    return isnan(want) ? isnan(got) : isinf(want) ? got == want : fabs(got - want) <= tol;
}

static void expect_near(const char *what, ts_tensor got, ts_tensor want, double tol)
{
    for (long m = 0; m < want.dim[0]; m++)
        for (long c = 0; c < want.dim[1]; c++) {
            double g = guarded_at(got, m, c), w = guarded_at(want, m, c),
                   t = tol + rounding(want, w) + 0x1p-126;
            if (!agree(g, w, t))
                ck_abort_msg("%s: element %ld of row %ld is %.9g, expected %.9g (within %.1e)",
                             what, c, m, g, w, t);
        }
}

/* ---- norm ---- */
typedef struct {
    ts_norm a;
    bool alias;
    ts_tensor y;
} norm_call;

static ts_status do_norm(ts_device *d, void *user)
{
    norm_call *n = user;
    ts_norm a = n->a;
    a.y = n->y;
    if (n->alias) a.x = n->y;
    return ts_norm_op(d, a);
}

/* options: bits w b table sel act ld alias */
typedef struct {
    ts_norm_kind kind;
    long C;
    int groups, options;
    ts_dtype xt, yt;
    double scale, shift;
    float eps;
} norm_case;

/* Both sides round each of six steps on numbers below M; sums of C squares add at most C / 32 + 8
 * roundings to the deviation (four vectors of eight lanes at least), half of which reach its root.
 * A normalised number is below sqrt(C), and below 4 for these (flat) distributions; the mean is
 * rounded once a side, which counts `shift` / deviation times. */
static double norm_tolerance(const norm_case *k)
{
    double n = fmin(sqrt((double)k->C), 4), w = k->options & 1 ? 1.5 : 1,
           b = k->options & 2 ? 1 : 0, s = k->options & 4 ? 2 : 1, t = k->options & 4 ? 1 : 0;
    double M = (n * w + b) * s + t, mean = k->kind == TS_NORM_LAYER || k->kind == TS_NORM_GROUP
                                               ? fabs(k->shift) / k->scale * 2 * w * s
                                               : 0;
    /* three numbers can be close together */
    if (k->kind == TS_NORM_LAYER && k->C <= 3) mean *= 1e3;
    /* the slope of SiLU is below 1.1 */
    return u * (((double)k->C / 64 + 12 + 12) * M + 2 * mean) * 1.1;
}

static void try_norm(const norm_case *k)
{
    long C = k->C, rows = NUMBERS / C + 2, ld = k->options & 32 ? C + 5 : C;
    ts_tensor x = guarded_tensor(k->xt, rows, C, ld, "x", k->scale, k->shift), y[4], want;
    ts_tensor w = guarded_tensor(TS_F32, 1, C, C, "w", 0.5, 1),
              b = guarded_tensor(TS_F32, 1, C, C, "b", 1, 0),
              m = guarded_tensor(TS_F32, 2, C, C, "m", 1, 0),
              sel = guarded_tensor(TS_F32, 1, rows, rows, "s", 1, 0);
    uint8_t *choice = (uint8_t *)(uintptr_t)sel.p.at;
    for (long i = 0; i < rows; i++) choice[i] = i % 3 == 1;
    sel.type = TS_U8;
    ts_weight ww = {.t = w}, wb = {.t = b};
    norm_call n = {.a = {.kind = k->kind, .groups = k->groups, .eps = k->eps, .x = x},
                   .alias = k->options & 64};
    if (k->options & 1) n.a.w = &ww;
    if (k->options & 2) n.a.b = &wb;
    if (k->options & 4) {
        n.a.scale = m;
        n.a.shift = ts_row_range(m, 1, 1);
    }
    if (k->options & 4 && k->options & 8) {
        n.a.sel = sel;
        n.a.shift = m;
    }
    if (k->options & 16) n.a.act = TS_ACT_SILU;
    char what[128];
    const char *const *level = guarded_levels();
    n.y = want = n.alias ? guarded_twin(x) : guarded_tensor(k->yt, rows, C, ld, "y", 1, 0);
    guarded_on("ref", 1, do_norm, &n);
    for (int i = 0; level[i]; i++) {
        for (int t = 0; t < 2; t++) {
            n.y = y[t] = n.alias ? guarded_twin(x) : guarded_tensor(k->yt, rows, C, ld, "y", 1, 0);
            guarded_on(level[i], t + 1, do_norm, &n);
        }
        snprintf(what, sizeof what, "norm %d at %s, C %ld, options %d, %s to %s", k->kind, level[i],
                 C, k->options, ts_dtype_name(k->xt), ts_dtype_name(k->yt));
        expect_near(what, y[0], want, norm_tolerance(k));
        guarded_same(y[1], y[0], what);
        guarded_check(y[0], what);
    }
    guarded_free();
}

START_TEST(test_norm)
{
    for (int i = 0; i < WIDTHS; i++)
        for (int kind = TS_NORM_LAYER; kind <= TS_NORM_GROUP; kind++)
            for (int t = 0; t < 4; t++) {
                static const int options[] = {
                    0, 1 | 64, 1 | 2 | 16, 4, 4 | 8 | 32, 1 | 2 | 4 | 8 | 16 | 32 | 64, 1 | 16};
                norm_case k = {.kind = kind,
                               .C = widths[i],
                               .groups = widths[i] % 4 ? 1 : 4,
                               .xt = floats[t / 2],
                               .yt = floats[t % 2],
                               .scale = 1.7,
                               .shift = 0.2,
                               .eps = 1e-6f};
                for (int o = 0; o < 7; o++) {
                    k.options = options[(o + i + t) % 7];
                    if (o >= 3 && t) break;
                    if (k.options & 64) k.yt = k.xt;
                    try_norm(&k);
                }
            }
}
END_TEST

START_TEST(test_norm_extreme)
{
    /* Numbers whose squares f32 can not hold: a norm does not depend on the scale. */
    for (int kind = TS_NORM_LAYER; kind <= TS_NORM_L2; kind++)
        for (int i = 0; i < 3; i++) {
            static const double scale[] = {1e30, 1e-30, 1e-19};
            for (int c = 2; c < WIDTHS; c += 3)
                try_norm(&(norm_case){.kind = kind,
                                      .C = widths[c],
                                      .options = 1,
                                      .xt = TS_F32,
                                      .yt = TS_F32,
                                      .scale = scale[i],
                                      .shift = 0,
                                      .eps = 0});
        }
    /* A mean a thousand times the deviation costs a thousand times the rounding of the mean, no
     * more. */
    for (int c = 4; c < WIDTHS; c++)
        try_norm(&(norm_case){.kind = TS_NORM_LAYER,
                              .C = widths[c],
                              .xt = TS_F32,
                              .yt = TS_F32,
                              .scale = 1,
                              .shift = 1000,
                              .eps = 1e-6f});
    for (int c = 4; c < WIDTHS; c++)
        try_norm(&(norm_case){.kind = TS_NORM_GROUP,
                              .groups = 4,
                              .C = widths[c],
                              .xt = TS_F32,
                              .yt = TS_F32,
                              .scale = 1,
                              .shift = 1000,
                              .eps = 1e-6f});
}
END_TEST

/* NaN and infinity stay in their row; rows of zeros stay zeros. */
START_TEST(test_norm_bad_rows)
{
    const char *const *level = guarded_levels();
    for (int kind = TS_NORM_LAYER; kind <= TS_NORM_L2; kind++)
        for (int i = 0; level[i]; i++) {
            ts_tensor x = guarded_tensor(TS_F32, 6, 40, 40, "x", 1, 0), y = guarded_twin(x);
            guarded_set(x, 1, 7, NAN);
            guarded_set(x, 3, 39, INFINITY);
            for (long c = 0; c < 40; c++) guarded_set(x, 4, c, 0);
            norm_call n = {.a = {.kind = kind, .eps = 1e-6f, .x = x}, .y = y};
            guarded_on(level[i], 1, do_norm, &n);
            for (long c = 0; c < 40; c++) {
                ck_assert(isnan(guarded_at(y, 1, 7)) && guarded_at(y, 4, c) == 0);
                ck_assert(isnan(guarded_at(y, 3, 39)) && isfinite(guarded_at(y, 0, c)) &&
                          isfinite(guarded_at(y, 2, c)) && isfinite(guarded_at(y, 5, c)));
            }
            guarded_free();
        }
}
END_TEST

/* ---- activate ---- */
typedef struct {
    ts_activate a;
    bool alias;
    ts_tensor y;
} act_call;

static ts_status do_act(ts_device *d, void *user)
{
    act_call *n = user;
    ts_activate a = n->a;
    a.y = n->y;
    if (n->alias) a.x = n->y;
    return ts_activate_op(d, a);
}

static void try_act(ts_act act, long C, ts_dtype xt, ts_dtype yt, bool mul, bool wide, bool alias)
{
    static const float odd[] = {0,      -0.0f, 1e-40f, -1e-40f, 1e30f,  -1e30f,   88.5f,
                                -88.5f, 104,   -104,   3e38f,   -3e38f, INFINITY, -INFINITY,
                                NAN,    5.5f,  -5.5f,  -13,     1e-20f};
    long rows = NUMBERS / C + 2, ld = wide ? C + 3 : C;
    ts_tensor x = guarded_tensor(xt, rows, C, ld, "x", 9, 0),
              m = guarded_tensor(yt, rows, C, ld, "m", 1, 0), y[2], want;
    for (int i = 0; i < (int)(sizeof odd / sizeof *odd); i++)
        guarded_set(x, 7 * i / C, 7 * i % C, odd[i]);
    act_call n = {.a = {.act = act, .x = x}, .alias = alias};
    if (mul) n.a.mul = m;
    n.y = want = alias ? guarded_twin(x) : guarded_tensor(yt, rows, C, ld, "y", 1, 0);
    guarded_on("ref", 1, do_act, &n);
    for (const char *const *level = guarded_levels(); *level; level++) {
        char what[96];
        snprintf(what, sizeof what, "activation %d at %s, C %ld, %s to %s", act, *level, C,
                 ts_dtype_name(xt), ts_dtype_name(yt));
        for (int t = 0; t < 2; t++) {
            n.y = y[t] = alias ? guarded_twin(x) : guarded_tensor(yt, rows, C, ld, "y", 1, 0);
            guarded_on(*level, t + 1, do_act, &n);
        }
        guarded_same(y[1], y[0], what);
        guarded_check(y[0], what);
        for (long r = 0; r < rows; r++)
            for (long c = 0; c < C; c++) {
                /* Both are x times a number in 0..1 that a few roundings reach: exp within 2 u a
                 * side, an argument 3 roundings off weighs 0.37 of them, sum, quotient and products
                 * one each. */
                double in = guarded_at(x, r, c), w = guarded_at(want, r, c),
                       g = guarded_at(y[0], r, c),
                       tol = 10 * u * fabs(in) + rounding(want, w) + 0x1p-126;
                if (isnan(in)) tol = 0;
                /* all or nothing */
                if (fabs(in) >= 100 && fabs(in) < INFINITY)
                    tol = rounding(want, w) + (mul ? 2 * u * fabs(w) : 0) + 0x1p-126;
                if (!agree(g, w, tol))
                    ck_abort_msg("%s: of %.9g is %.9g, expected %.9g (within %.1e)", what, in, g, w,
                                 tol);
            }
    }
    guarded_free();
}

START_TEST(test_activate)
{
    for (int act = TS_ACT_NONE; act <= TS_ACT_RELU; act++)
        for (int i = 0; i < WIDTHS; i++) {
            ts_dtype xt = floats[(i + act) % 2], yt = floats[(i + act) / 2 % 2];
            try_act(act, widths[i], xt, yt, i % 2, i % 3 == 1, xt == yt && i % 3 == 0);
        }
    for (int act = TS_ACT_NONE; act <= TS_ACT_RELU; act++)
        try_act(act, 1000, TS_F32, TS_F32, false, false, false);
}
END_TEST

/* The exponential's own error, seen where SiLU is x e^x to the last bit but a few: 1.1e-7 of it,
 * and a rounding each of the sum, the quotient and the number compared. */
START_TEST(test_exponential)
{
    long n = 60000;
    for (const char *const *level = guarded_levels(); *level; level++) {
        ts_tensor x = guarded_tensor(TS_F32, 1, n, n, "x", 39.5, -40.5);
        act_call k = {.a = {.act = TS_ACT_SILU, .x = x},
                      .y = guarded_tensor(TS_F32, 1, n, n, "y", 1, 0)};
        guarded_on(*level, 1, do_act, &k);
        for (long c = 0; c < n; c++) {
            double in = guarded_at(x, 0, c), want = in / (1 + exp(-in)),
                   got = guarded_at(k.y, 0, c);
            if (!(fabs(got / want - 1) <= 1.1e-7 + 3 * u))
                ck_abort_msg("%s: SiLU of %.9g is off by %.2e of itself", *level, in,
                             fabs(got / want - 1));
        }
        guarded_free();
    }
}
END_TEST

/* ---- rope ---- */
typedef struct {
    ts_rope a;
    ts_tensor x;
} rope_call;

static ts_status do_rope(ts_device *d, void *user)
{
    rope_call *n = user;
    n->a.x.p = n->x.p;
    return ts_rope_op(d, n->a);
}

static void try_rope(ts_dtype type, long N, long A, long D, long gap)
{
    ts_tensor x = guarded_tensor(type, N, A * D, A * D + gap, "x", 1.7, 0),
              c = guarded_tensor(TS_F32, N, D / 2, D / 2 + gap, "c", 1, 0),
              s = guarded_tensor(TS_F32, N, D / 2, D / 2 + gap, "s", 1, 0), want, y[2];
    rope_call n = {
        .a = {.x = {.type = type, .nd = 3, .dim = {N, A, D}, .ld = x.ld}, .cos = c, .sin = s}};
    n.x = want = guarded_twin(x);
    guarded_on("ref", 1, do_rope, &n);
    for (const char *const *level = guarded_levels(); *level; level++) {
        char what[96];
        snprintf(what, sizeof what, "rope at %s, %s, N %ld, A %ld, D %ld", *level,
                 ts_dtype_name(type), N, A, D);
        for (int t = 0; t < 2; t++) {
            n.x = y[t] = guarded_twin(x);
            guarded_on(*level, t + 1, do_rope, &n);
        }
        /* two products below 1.7 and a sum, rounded on both sides */
        expect_near(what, y[0], want, 4 * u * 2 * 1.7);
        guarded_same(y[1], y[0], what);
        guarded_check(y[0], what);
    }
    guarded_free();
}

START_TEST(test_rope)
{
    for (int t = 0; t < 2; t++) {
        static const long D[] = {2, 6, 10, 16, 24, 34, 40, 64, 128};
        for (int i = 0; i < 9; i++)
            try_rope(floats[t], NUMBERS / (3 * D[i]) + 2, 3, D[i], i % 2 ? 4 : 0);
        try_rope(floats[t], 1, 1, 128, 0);
        try_rope(floats[t], 13, 12, 128, 3 * 128);
    }
}
END_TEST

/* ---- lincomb ---- */
static ts_status do_lincomb(ts_device *d, void *user)
{
    return ts_lincomb_op(d, *(ts_lincomb *)user);
}

static void try_lincomb(int n, long C, bool wide, bool alias, ts_dtype yt)
{
    long rows = NUMBERS / C / 2 * 2 + 2;
    ts_lincomb a = {.n = n};
    double most = 0;
    for (int i = 0; i < n; i++) {
        bool other = i % 3 == 2; /* the same numbers in rows of another width */
        a.c[i] = (float)(i % 2 ? -1.25 : 0.7 + i);
        a.x[i] = guarded_tensor(i == alias ? yt : floats[i % 2], other ? rows / 2 : rows,
                                other ? 2 * C : C, (other ? 2 * C : C) + (wide ? i : 0), "x", 1.7,
                                0);
        most += fabs((double)a.c[i]) * 1.7;
    }
    ts_tensor want, y[2], first = a.x[0];
    a.y = want = alias ? guarded_twin(first)
                       : guarded_tensor(yt, rows, C, C + (wide ? 3 : 0), "y", 1, 0);
    if (alias) a.x[0] = a.y;
    guarded_on("ref", 1, do_lincomb, &a);
    for (const char *const *level = guarded_levels(); *level; level++) {
        char what[96];
        snprintf(what, sizeof what, "sum of %d at %s, C %ld", n, *level, C);
        for (int t = 0; t < 2; t++) {
            a.y = y[t] = alias ? guarded_twin(first)
                               : guarded_tensor(yt, rows, C, C + (wide ? 3 : 0), "y", 1, 0);
            if (alias) a.x[0] = a.y;
            guarded_on(*level, t + 1, do_lincomb, &a);
        }
        /* n products and sums a side, each rounded below `most` */
        expect_near(what, y[0], want, 2 * (n + 1) * u * most);
        guarded_same(y[1], y[0], what);
        guarded_check(y[0], what);
    }
    guarded_free();
}

/* Outputs that do not fit in caches go past them, unless they are in place: the numbers must be the
 * same. */
typedef struct {
    ts_tensor x, y;
} large_call;

static ts_status expect_equal(ts_device *d, const large_call *k, const char *what)
{
    if (!memcmp((void *)(uintptr_t)k->x.p.at, (void *)(uintptr_t)k->y.p.at,
                (size_t)ts_count(k->x) * ts_dtype_size(k->x.type)))
        return TS_OK;
    return ts_fail(d->err, TS_EDEVICE, "%s: other numbers in place", what);
}

static ts_status do_large(ts_device *d, void *user)
{
    large_call *k = user;
    ts_status st = TS_OK;
    ts_tensor to[2] = {k->y, k->x};
    for (int i = 0; i < 2; i++)
        TRY(ts_activate_op(d, (ts_activate){.act = TS_ACT_SILU, .x = k->x, .y = to[i]}));
    TRY(expect_equal(d, k, "activate"));
    for (int i = 0; i < 2; i++)
        TRY(ts_norm_op(d, (ts_norm){.kind = TS_NORM_RMS, .eps = 1e-6f, .x = k->x, .y = to[i]}));
    TRY(expect_equal(d, k, "norm"));
    for (int i = 0; i < 2; i++)
        TRY(ts_lincomb_op(d, (ts_lincomb){.n = 1, .c = {3}, .x = {k->x}, .y = to[i]}));
    TRY(expect_equal(d, k, "lincomb"));
done:
    return st;
}

START_TEST(test_large)
{
    for (int t = 0; t < 2; t++) {
        long C = 1048, rows = ((17 << 20) / (t ? 2 : 4) + C - 1) / C;
        large_call k = {guarded_tensor(floats[t], rows, C, C, "x", 1.7, 0.1),
                        guarded_tensor(floats[t], rows, C, C, "y", 1, 0)};
        for (const char *const *level = guarded_levels(); *level; level++)
            guarded_on(*level, 2, do_large, &k);
        guarded_free();
    }
}
END_TEST

START_TEST(test_lincomb)
{
    for (int i = 0; i < WIDTHS; i++)
        for (int o = 0; o < 4; o++)
            try_lincomb(i % 8 + 1, widths[i], o & 1, o & 2, floats[(i + o) % 2]);
    try_lincomb(8, 96, true, true, TS_F32);
}
END_TEST

/* ---- check ---- */
typedef struct {
    ts_tensor t;
    int tag;
} check_call;

static ts_status do_check(ts_device *d, void *user)
{
    check_call *n = user;
    ts_status st = d->ops->check(d, n->t, 7);
    if (!st) st = d->ops->check(d, n->t, 8); /* the first tag counts */
    return st ? st : d->ops->checked(d, &n->tag);
}

static int tag_of(const char *level, ts_tensor t)
{
    check_call n = {.t = t, .tag = -1};
    guarded_on(level, 2, do_check, &n);
    return n.tag;
}

START_TEST(test_check)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < WIDTHS; i++)
        for (int t = 0; t < 2; t++)
            for (const char *const *level = guarded_levels(); *level; level++) {
                long C = widths[i], rows = NUMBERS / C + 2, ld = i % 2 ? C + 3 : C;
                ts_tensor x = guarded_tensor(floats[t], rows, C, ld, "x", 3.3e38, 0);
                guarded_set(x, 0, 0, 1e-42f);
                /* NaN between the rows is nobody's */
                if (ld > C)
                    memset((char *)(uintptr_t)x.p.at + (size_t)C * ts_dtype_size(x.type), 0xFF,
                           ts_dtype_size(x.type));
                ck_assert_int_eq(tag_of(*level, x), 0);
                long place[][2] = {{0, 0}, {rows - 1, C - 1}, {rows / 2, C / 2}, {rows / 3, C - 1}};
                for (int p = 0; p < 4; p++) {
                    float was = (float)guarded_at(x, place[p][0], place[p][1]);
                    guarded_set(x, place[p][0], place[p][1], bad[p % 3]);
                    ck_assert_int_eq(tag_of(*level, x), 7);
                    guarded_set(x, place[p][0], place[p][1], was);
                }
                guarded_free();
            }
}
END_TEST

/* ---- noise ---- */
static ts_status do_randn(ts_device *d, void *user) { return ts_randn_op(d, *(ts_randn *)user); }

/* Every number is the one of its place in the stream, drawn alone, whatever lies beside it. */
START_TEST(test_randn)
{
    static const struct {
        long M, C, ld, rows, columns;
        uint64_t first;
    } k[] = {{3, 1000, 1003, 1000, 1, 0},                     /* channels first */
             {1037, 3, 5, 1, 1037, 6},                        /* channels last of the same clip */
             {1, 1, 1, 0, 0, 7},          {7, 5, 5, 2, 3, 1}, /* neither */
             {2, 9, 9, 0, 1, 5},          {5000, 4, 4, 1, 9000, (uint64_t)1 << 40}};
    for (size_t i = 0; i < sizeof k / sizeof *k; i++)
        for (int threads = 1; threads < 4; threads += 2) {
            ts_tensor y = guarded_tensor(TS_F32, k[i].M, k[i].C, k[i].ld, "randn", 1, 0);
            ts_randn a = {.seed = 11 + i,
                          .first = k[i].first,
                          .stream = (uint32_t)i,
                          .rows = k[i].rows,
                          .columns = k[i].columns,
                          .y = y};
            guarded_on("ref", threads, do_randn, &a);
            for (long m = 0; m < k[i].M; m++)
                for (long c = 0; c < k[i].C; c++) {
                    float want;
                    uint64_t at = k[i].first + (uint64_t)(m * k[i].rows + c * k[i].columns);
                    ts_normals(11 + i, (uint32_t)i, at, &want, 1);
                    if (guarded_at(y, m, c) != (double)want)
                        ck_abort_msg("case %zu: [%ld, %ld] is %.9g, expected %.9g", i, m, c,
                                     guarded_at(y, m, c), (double)want);
                }
            guarded_check(y, "randn");
            guarded_free();
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rest");
    TCase *t = tcase_create("all");
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_norm);
    tcase_add_test(t, test_norm_extreme);
    tcase_add_test(t, test_norm_bad_rows);
    tcase_add_test(t, test_activate);
    tcase_add_test(t, test_exponential);
    tcase_add_test(t, test_rope);
    tcase_add_test(t, test_lincomb);
    tcase_add_test(t, test_randn);
    tcase_add_test(t, test_large);
    tcase_add_test(t, test_check);
    return testing_main(s);
}
