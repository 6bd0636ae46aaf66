/* Copies, rows by index, the shortcuts of the Wan 2.2 VAE, strided products and sums: every CPU
 * level gives the very bytes of the plain C of level "ref", with one thread and with two, and
 * touches no others. */
#include "tests/backend/guarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 256, MOST = 1 << 17 }; /* numbers of a copy's buffers in the random cases */

/* ---- copy: dst in bytes with a margin, filled with one pattern, must end up the same everywhere
 * ---- */
/* *_at: elements before the first */
typedef struct {
    ts_copy c;
    char *src, *dst;
    size_t src_at, dst_at;
} copy_call;

static ts_status do_copy(ts_device *d, void *user)
{
    copy_call *k = user;
    ts_copy c = k->c;
    c.src.at = (uintptr_t)k->src + k->src_at * ts_dtype_size(c.stype);
    c.dst.at = (uintptr_t)k->dst + k->dst_at * ts_dtype_size(c.dtype);
    return ts_copy_op(d, c);
}

/* How far a copy reaches from its first element, down and up. */
static void reach(const ts_copy *c, const long *step, long *down, long *up)
{
    *down = *up = 0;
    for (int i = 0; i < c->nd; i++) {
        long r = (c->dim[i] - 1) * step[i];
        if (c->dim[i] > 0) *(r < 0 ? down : up) += labs(r);
    }
}

static uint32_t state;
static uint32_t next_random(void) { return state = state * 1664525 + 1013904223, state >> 8; }

/* Bytes of every kind: bf16, f16 and f32 NaNs and denormals among them. */
static void scramble(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (char)next_random();
}

/* Where a cast meets NaN, which NaN comes out is not said. */
static bool both_nan(const char *a, const char *b, ts_dtype t)
{
    uint32_t x = 0, y = 0,
             most = t == TS_F32    ? 0x7F800000
                    : t == TS_BF16 ? 0x7F80
                                   : 0x7C00,
             sign = t == TS_F32 ? 0x7FFFFFFF : 0x7FFF;
    memcpy(&x, a, ts_dtype_size(t));
    memcpy(&y, b, ts_dtype_size(t));
    return (x & sign) > most && (y & sign) > most;
}

static void same_bytes(const char *got, const char *want, size_t bytes, const ts_copy *c,
                       const char *what)
{
    size_t e = ts_dtype_size(c->dtype);
    if (!memcmp(got, want, bytes)) return;
    for (size_t i = 0; i < bytes; i += e)
        if (memcmp(got + i, want + i, e) &&
            (c->stype == c->dtype || !both_nan(got + i, want + i, c->dtype))) {
            char text[256];
            int n = snprintf(text, sizeof text, "%s to %s", ts_dtype_name(c->stype),
                             ts_dtype_name(c->dtype));
            for (int d = 0; d < c->nd; d++)
                n += snprintf(text + n, sizeof text - (size_t)n, ", %ld: %ld to %ld", c->dim[d],
                              c->ss[d], c->ds[d]);
            ck_abort_msg("%s: %s: number %zu differs", what, text, i / e);
        }
}

static void try_copy(ts_copy c)
{
    long sd, su, dd, du;
    reach(&c, c.ss, &sd, &su);
    reach(&c, c.ds, &dd, &du);
    size_t se = ts_dtype_size(c.stype), de = ts_dtype_size(c.dtype),
           sb = (size_t)(sd + su + 1) * se, db = (size_t)(dd + du + 1) * de + 2 * GUARD;
    copy_call k = {
        .c = c, .src = malloc(sb), .src_at = (size_t)sd, .dst_at = (size_t)dd + GUARD / de};
    /* whole lines are a case of their own */
    char *want = aligned_alloc(64, (db + 63) & ~(size_t)63),
         *got = aligned_alloc(64, (db + 63) & ~(size_t)63);
    ck_assert(k.src && want && got);
    scramble(k.src, sb);
    memset(want, 0xA5, db);
    k.dst = want;
    guarded_on("ref", 1, do_copy, &k);
    for (const char *const *level = guarded_levels(); *level; level++)
        for (int threads = 1; threads <= 2; threads++) {
            memset(got, 0xA5, db);
            k.dst = got;
            guarded_on(*level, threads, do_copy, &k);
            same_bytes(got, want, db, &c, *level);
        }
    free(k.src);
    free(want);
    free(got);
}

static const ts_dtype casts[] = {TS_F32, TS_BF16, TS_F16};

/* Dimensions of random sizes in a random order in the destination, with gaps; any steps in the
 * source: packed in another order, repeated, backwards. */
static ts_copy random_copy(void)
{
    static const long sizes[] = {1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 33, 64, 70, 100, 129};
    ts_copy c = {.nd = 1 + (int)(next_random() % 5)};
    int order[2][8];
    long all = 1;
    bool cast = next_random() % 2;
    c.stype = cast ? casts[next_random() % 3] : (ts_dtype)(next_random() % TS_DTYPES);
    c.dtype = cast ? casts[next_random() % 3] : c.stype;
    for (int i = 0; i < c.nd; i++) {
        c.dim[i] = sizes[next_random() % 15];
        while (all * c.dim[i] > MOST / 4) c.dim[i] = (c.dim[i] + 1) / 2;
        all *= c.dim[i];
        order[0][i] = order[1][i] = i;
    }
    for (int side = 0; side < 2; side++) {
        long *step = side ? c.ds : c.ss, at = next_random() % 8 ? 1 : 2;
        for (int i = c.nd - 1; i > 0 && next_random() % 3; i--) {
            int j = (int)(next_random() % (uint32_t)(i + 1)), t = order[side][i];
            order[side][i] = order[side][j];
            order[side][j] = t;
        }
        for (int i = c.nd - 1; i >= 0; i--) {
            int d = order[side][i];
            step[d] = at;
            at = at * c.dim[d] + (next_random() % 4 ? 0 : 1 + next_random() % 3);
            if (!side && next_random() % 8 == 0) step[d] = 0;
            if (next_random() % 16 == 0) step[d] = -step[d];
        }
    }
    return c;
}

START_TEST(test_copy_random)
{
    state = 20;
    for (int i = 0; i < 500; i++) try_copy(random_copy());
}
END_TEST

START_TEST(test_copy_casts)
{
    for (int s = 0; s < 3; s++)
        for (int d = 0; d < 3; d++) {
            try_copy((ts_copy){.stype = casts[s],
                               .dtype = casts[d],
                               .nd = 1,
                               .dim = {65536},
                               .ss = {1},
                               .ds = {1}});
            try_copy((ts_copy){.stype = casts[s],
                               .dtype = casts[d],
                               .nd = 2,
                               .dim = {37, 1000},
                               .ss = {1003, 1},
                               .ds = {1000, 1}});
            try_copy((ts_copy){.stype = casts[s],
                               .dtype = casts[d],
                               .nd = 2,
                               .dim = {301, 77},
                               .ss = {1, 301},
                               .ds = {80, 1}});
        }
}
END_TEST

/* What the models ask for. */
START_TEST(test_copy_shapes)
{
    long H = 18, W = 11, C = 24, F = 3, K = 64, N = 1500;
    try_copy((ts_copy){.nd = 5,
                       .dim = {H, 2, W, 2, C},
                       .ss = {W * C, 0, C, 0, 1},
                       .ds = {4 * W * C, 2 * W * C, 2 * C, C, 1}});
    try_copy((ts_copy){.nd = 4,
                       .dim = {F, 2, H * W, C},
                       .ss = {H * W * 2 * C, C, 2 * C, 1},
                       .ds = {2 * H * W * C, H * W * C, C, 1}});
    try_copy((ts_copy){.nd = 7,
                       .dim = {F, H, W, 1, 2, 2, 16},
                       .ss = {H * W * K, W * K, K, K, 32, 16, 1},
                       .ds = {4 * H * W, 4 * W, 2, 4 * H * W, 2 * W, 1, 4 * F * H * W}});
    for (long c = 1; c < 40; c += 6) {
        try_copy((ts_copy){.nd = 2, .dim = {N, c}, .ss = {1, N}, .ds = {c, 1}});
        try_copy((ts_copy){.nd = 2, .dim = {c, N}, .ss = {1, c}, .ds = {N, 1}});
        try_copy(
            (ts_copy){.nd = 3, .dim = {5, N / 5, c}, .ss = {0, 0, 1}, .ds = {N / 5 * c, c, 1}});
    }
    try_copy((ts_copy){.nd = 0});
    try_copy((ts_copy){.nd = 2, .dim = {5, 0}, .ss = {1, 1}, .ds = {1, 1}});
    try_copy((ts_copy){.stype = TS_I64,
                       .dtype = TS_I64,
                       .nd = 2,
                       .dim = {100, 100},
                       .ss = {1, 100},
                       .ds = {100, 1}});
}
END_TEST

/* More than a thread's caches hold: stores go past them, in one run or in many, aligned or not. */
START_TEST(test_copy_large)
{
    long n = (17 << 20) / 4;
    for (long gap = 0; gap < 4; gap += 3)
        try_copy((ts_copy){.nd = 1, .dim = {n + gap}, .ss = {1}, .ds = {1}});
    /* the second run begins within a line */
    try_copy((ts_copy){.nd = 2, .dim = {2, n / 2 + 3}, .ss = {n / 2 + 4, 1}, .ds = {n / 2 + 5, 1}});
    try_copy((ts_copy){.nd = 2, .dim = {n / 1000, 1001}, .ss = {1002, 1}, .ds = {1003, 1}});
    /* whole lines */
    try_copy((ts_copy){.nd = 2, .dim = {n / 1040, 1040}, .ss = {1041, 1}, .ds = {1056, 1}});
    try_copy((ts_copy){.dtype = TS_BF16, .nd = 1, .dim = {2 * n}, .ss = {1}, .ds = {1}});
}
END_TEST

/* ---- gather ---- */
static ts_status do_gather(ts_device *d, void *user) { return ts_gather_op(d, *(ts_gather *)user); }

START_TEST(test_gather)
{
    static const long widths[] = {1, 3, 40, 1000, 1536};
    for (int w = 0; w < 5; w++)
        for (int s = 0; s < 9; s++) {
            long n = 30, V = 17, C = widths[w];
            ts_gather g = {.x = guarded_tensor(casts[s / 3], V, C, C + s % 2, "x", 3, 0),
                           .ids = guarded_tensor(TS_F32, 1, n, n, "i", 1, 0)};
            int32_t *id = (int32_t *)(uintptr_t)g.ids.p.at;
            for (long i = 0; i < n; i++) id[i] = (int32_t)(i * 7 % V);
            g.ids.type = TS_I32;
            ts_tensor want = g.y = guarded_tensor(casts[s % 3], n, C, C + 2, "y", 1, 0);
            guarded_on("ref", 1, do_gather, &g);
            for (const char *const *level = guarded_levels(); *level; level++) {
                g.y = guarded_tensor(casts[s % 3], n, C, C + 2, "y", 1, 0);
                guarded_on(*level, 2, do_gather, &g);
                guarded_same(g.y, want, *level);
                guarded_check(g.y, *level);
            }
            guarded_free();
        }
}
END_TEST

/* ---- resample ---- */
typedef struct {
    ts_resample a;
    ts_tensor y;
} resample_call;

static ts_status do_resample(ts_device *d, void *user)
{
    resample_call *k = user;
    k->a.y.p = k->y.p;
    return ts_resample_op(d, k->a);
}

static ts_tensor as4(ts_tensor t, long F, long H, long W)
{
    return (ts_tensor){.p = t.p, .type = t.type, .nd = 4, .dim = {F, H, W, t.dim[1]}, .ld = t.ld};
}

static void try_resample(bool reduce, int ft, int fs, int drop, long C, long O, ts_dtype xt,
                         ts_dtype yt)
{
    /* small side and large side */
    long f = 2, h = 3, w = 17, F = f * ft - drop, H = h * fs, W = w * fs;
    long xr = reduce ? F * H * W : f * h * w, yr = reduce ? f * h * w : F * H * W;
    ts_tensor x = guarded_tensor(xt, xr, C, C + 1, "x", 1.7, 0),
              y = guarded_tensor(yt, yr, O, O + 3, "y", 1.7, 0), want;
    resample_call k = {.a = {.reduce = reduce,
                             .ft = ft,
                             .fs = fs,
                             .drop = drop,
                             .x = reduce ? as4(x, F, H, W) : as4(x, f, h, w),
                             .y = reduce ? as4(y, f, h, w) : as4(y, F, H, W)}};
    k.y = want = guarded_twin(y);
    guarded_on("ref", 1, do_resample, &k);
    for (const char *const *level = guarded_levels(); *level; level++)
        for (int threads = 1; threads <= 2; threads++) {
            char what[96];
            snprintf(what, sizeof what, "%s at %s, %d x %d, drop %d, %ld to %ld",
                     reduce ? "reduce" : "expand", *level, ft, fs, drop, C, O);
            k.y = guarded_twin(y);
            guarded_on(*level, threads, do_resample, &k);
            guarded_same(k.y, want, what);
            guarded_check(k.y, what);
        }
    guarded_free();
}

START_TEST(test_resample)
{
    static const struct {
        int ft, fs;
        long C, O;
    } expand[] = {{2, 2, 48, 48}, {2, 2, 96, 48}, {1, 2, 40, 20}, {1, 2, 24, 24},
                  {2, 2, 3, 12},  {1, 1, 20, 20}, {2, 1, 33, 66}},
      reduce[] = {{1, 2, 20, 40}, {2, 2, 40, 40}, {2, 2, 24, 96}, {1, 1, 20, 20},
                  {2, 2, 40, 20}, {1, 2, 3, 6},   {3, 1, 40, 8}};
    for (int i = 0; i < 7; i++)
        for (int drop = 0; drop < 2; drop++)
            for (int t = 0; t < 4; t++) {
                ts_dtype xt = t / 2 ? TS_BF16 : TS_F32, yt = t % 2 ? TS_BF16 : TS_F32;
                if (drop < expand[i].ft)
                    try_resample(false, expand[i].ft, expand[i].fs, drop, expand[i].C, expand[i].O,
                                 xt, yt);
                if (drop < reduce[i].ft)
                    try_resample(true, reduce[i].ft, reduce[i].fs, drop, reduce[i].C, reduce[i].O,
                                 xt, yt);
            }
}
END_TEST

/* ---- affine: the strides of random copies, scales and shifts that repeat or not ---- */
typedef struct {
    ts_affine a;
    char *y;
    size_t y_at; /* bytes */
} affine_call;

static ts_status do_affine(ts_device *d, void *user)
{
    affine_call *k = user;
    ts_affine a = k->a;
    a.y.p.at = (uintptr_t)k->y + k->y_at;
    if (a.b.p.at == 1) a.b.p = a.y.p;
    return ts_affine_op(d, a);
}

/* Numbers of -2..2 in `count` elements; malloc'd. */
static void *fill_numbers(ts_dtype type, size_t count)
{
    float *f = malloc(count * sizeof *f);
    uint16_t *h = (uint16_t *)f;
    ck_assert_ptr_nonnull(f);
    for (size_t i = 0; i < count; i++) {
        float v = (float)(next_random() % 4001) / 1000 - 2;
        uint32_t u;
        memcpy(&u, &v, 4);
        if (type == TS_F32)
            f[i] = v;
        else
            h[i] = (uint16_t)(u >> 16);
    }
    return f;
}

/* A packed operand of which some dimensions repeat. */
static ts_strided random_operand(const ts_affine *a, ts_dtype type, void **memory)
{
    ts_strided s = {.type = type};
    long at = 1;
    for (int i = a->nd - 1; i >= 0; i--) {
        s.step[i] = next_random() % 2 ? at : 0;
        if (s.step[i]) at *= a->dim[i];
    }
    *memory = fill_numbers(type, (size_t)at);
    s.p.at = (uintptr_t)*memory;
    return s;
}

static void try_affine(ts_copy c, bool in_place)
{
    static const ts_dtype types[] = {TS_F32, TS_BF16};
    long down, up, yd, yu;
    void *x, *s = NULL, *b = NULL;
    affine_call k = {.a = {.nd = c.nd,
                           .x.type = types[next_random() % 2],
                           .y.type = types[next_random() % 2],
                           .scale = 0.7f,
                           .shift = -0.3f}};
    reach(&c, c.ss, &down, &up);
    reach(&c, c.ds, &yd, &yu);
    for (int i = 0; i < c.nd; i++) {
        k.a.dim[i] = c.dim[i];
        k.a.x.step[i] = c.ss[i];
        k.a.y.step[i] = c.ds[i];
    }
    size_t ye = ts_dtype_size(k.a.y.type), bytes = (size_t)(yd + yu + 1) * ye + 2 * GUARD;
    x = fill_numbers(k.a.x.type, (size_t)(down + up + 1));
    k.a.x.p.at = (uintptr_t)x + (size_t)down * ts_dtype_size(k.a.x.type);
    if (next_random() % 4) k.a.s = random_operand(&k.a, types[next_random() % 2], &s);
    if (in_place) {
        k.a.b = k.a.y;
        k.a.b.p.at = 1; /* y itself */
    } else if (next_random() % 4) {
        k.a.b = random_operand(&k.a, types[next_random() % 2], &b);
    }
    if (next_random() % 2) {
        k.a.low = -0.5f;
        k.a.high = 1;
    }
    char *first = fill_numbers(TS_F32, bytes / 4 + 1), *want = malloc(bytes), *got = malloc(bytes);
    k.y_at = (size_t)yd * ye + GUARD;
    k.y = memcpy(want, first, bytes);
    guarded_on("ref", 1, do_affine, &k);
    for (const char *const *level = guarded_levels(); *level; level++)
        for (int threads = 1; threads <= 2; threads++) {
            k.y = memcpy(got, first, bytes);
            guarded_on(*level, threads, do_affine, &k);
            ck_assert_msg(!memcmp(got, want, bytes), "%s: other bytes than ref", *level);
        }
    free(x);
    free(s);
    free(b);
    free(first);
    free(want);
    free(got);
}

START_TEST(test_affine_random)
{
    state = 7;
    for (int i = 0; i < 400; i++) try_affine(random_copy(), i % 4 == 0);
    /* rows that are long enough to be shared */
    for (int i = 0; i < 4; i++)
        try_affine((ts_copy){.nd = 2, .dim = {3, 90001}, .ss = {90003, 1}, .ds = {90002, 1}},
                   i % 2);
    try_affine((ts_copy){.nd = 0}, false);
    try_affine((ts_copy){.nd = 2, .dim = {5, 0}, .ss = {1, 1}, .ds = {1, 1}}, false);
}
END_TEST

/* The formula, one number at a time: limits hold, and the product is rounded before the sum. */
START_TEST(test_affine_formula)
{
    /* rounded, x s is 1 + 2^-11; in one operation with the sum 2^-24 would be left */
    float x[4] = {-3, 0.25f, 5, 1 + 0x1p-12f}, y[4], one = 1 + 0x1p-12f;
    for (int i = 0; i < 3; i++) {
        const char *levels[] = {"ref", guarded_levels()[0], guarded_levels()[1]};
        if (!levels[i]) break;
        affine_call k = {.a = {.nd = 1,
                               .dim = {3},
                               .x = {{(uintptr_t)x}, TS_F32, {1}},
                               .y = {.step = {1}},
                               .scale = 0.5f,
                               .shift = 0.5f,
                               .high = 1},
                         .y = (char *)y};
        guarded_on(levels[i], 1, do_affine, &k);
        ck_assert(y[0] == 0 && y[1] == 0.625f && y[2] == 1);
        k.a.x.p.at = (uintptr_t)(x + 3);
        k.a.s = (ts_strided){{(uintptr_t)&one}, TS_F32, {0}};
        k.a.dim[0] = 1;
        k.a.shift = -1 - 0x1p-11f;
        k.a.high = 0;
        guarded_on(levels[i], 1, do_affine, &k);
        ck_assert_msg(y[0] == 0, "%s: %g", levels[i], (double)y[0]);
    }
}
END_TEST

static ts_status do_refused(ts_device *d, void *user)
{
    float x[4] = {0};
    ts_strided t = {{(uintptr_t)x}, TS_F32, {1}};
    ts_affine bad[] = {{.nd = 7, .x = t, .y = t},
                       {.nd = 1, .dim = {4}, .y = t},
                       {.nd = 1, .dim = {4}, .x = t},
                       {.nd = 1, .dim = {4}, .x = t, .y = t, .s = {t.p, TS_I32, {1}}},
                       {.nd = 1, .dim = {4}, .x = t, .y = {t.p, TS_F32, {0}}},
                       {.nd = 1, .dim = {-1}, .x = t, .y = t},
                       {.nd = 1, .dim = {4}, .x = t, .y = t, .low = 1}};
    const char *says[] = {"7 dimensions", "x is absent",       "y is absent",   "s is I32",
                          "steps of 0",   "dimension 0 is -1", "limits 1 and 0"};
    (void)user;
    for (int i = 0; i < 7; i++) {
        ck_assert_int_eq(ts_affine_op(d, bad[i]), TS_ESHAPE);
        ck_assert_msg(strstr(d->err->text, says[i]), "\"%s\" does not say \"%s\"", d->err->text,
                      says[i]);
    }
    return TS_OK;
}

START_TEST(test_affine_refused) { guarded_on("ref", 1, do_refused, NULL); }
END_TEST

int main(void)
{
    Suite *s = suite_create("move");
    TCase *t = tcase_create("all");
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_copy_random);
    tcase_add_test(t, test_copy_casts);
    tcase_add_test(t, test_copy_shapes);
    tcase_add_test(t, test_copy_large);
    tcase_add_test(t, test_gather);
    tcase_add_test(t, test_resample);
    tcase_add_test(t, test_affine_random);
    tcase_add_test(t, test_affine_formula);
    tcase_add_test(t, test_affine_refused);
    return testing_main(s);
}
