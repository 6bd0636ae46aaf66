/* Copies and whatever goes element by element, on the device against the CPU's plain C, in three
 * orders of blocks and threads: bytes equal, but where products are added up (lincomb). */
#include "tests/cuda/twins.h"

static const ts_dtype stored[] = {TS_F32, TS_BF16, TS_F16};
static const double u = 0x1p-24;
static bool is_long(void) { return getenv("LONG") != NULL; }
static uint32_t draw(uint32_t n) { return (uint32_t)(test_uniform() * (float)n) % n; }

static bool is_nan(const unsigned char *p, ts_dtype t)
{
    uint32_t x = 0, most = t == TS_F32 ? 0x7F800000 : t == TS_BF16 ? 0x7F80 : 0x7C00;
    memcpy(&x, p, ts_dtype_size(t));
    return (x & (t == TS_F32 ? 0x7FFFFFFF : 0x7FFF)) > most;
}
/* Every byte of a twin, those between its rows too. nan: which one a cast makes is not said. */
static void check_bytes(const twin &t, const char *what, bool nan = false)
{
    std::vector<unsigned char> got = twin_fetch(t), &want = *t.bytes;
    size_t e = ts_dtype_size(t.host.type);
    if (got == want) return;
    for (size_t i = t.first % e; i + e <= got.size(); i += e)
        if (memcmp(&got[i], &want[i], e) &&
            !(nan && is_nan(&got[i], t.host.type) && is_nan(&want[i], t.host.type)))
            ck_abort_msg("%s: number %ld differs", what, ((long)i - (long)t.first) / (long)e);
}

/* ---- copy ---- */
static void reach(const ts_copy &c, const long *step, long *down, long *up)
{
    *down = *up = 0;
    for (int i = 0; i < c.nd; i++)
        if (c.dim[i] > 0) *(step[i] < 0 ? down : up) += labs(step[i]) * (c.dim[i] - 1);
}

/* off: numbers beyond an aligned address, of the source and of the destination */
static void try_copy(ts_copy c, int off)
{
    long sd, su, dd, du;
    reach(c, c.ss, &sd, &su);
    reach(c, c.ds, &dd, &du);
    twin s = twin_room(c.stype, 1, sd + su + 1, 0, off / 2),
         d = twin_room(c.dtype, 1, dd + du + 1, 0, off % 2);
    for (size_t i = s.first; i + TWIN_GUARD < s.bytes->size(); i++)
        (*s.bytes)[i] = (unsigned char)draw(256);
    s.send();
    d.send();
    auto at = [](ts_ptr p, long n, ts_dtype t) { return ts_at(p, (size_t)n * ts_dtype_size(t)); };
    ts_copy h = c;
    h.src = at(s.host.p, sd, c.stype);
    h.dst = at(d.host.p, dd, c.dtype);
    c.src = at(s.device.p, sd, c.stype);
    c.dst = at(d.device.p, dd, c.dtype);
    ck_cuda(ts_cuda_copy(&c, test_stream()));
    ts_copy_ref(&h);
    char what[256];
    int n = snprintf(what, sizeof what, "%s to %s", ts_dtype_name(c.stype), ts_dtype_name(c.dtype));
    for (int i = 0; i < c.nd; i++)
        n += snprintf(what + n, sizeof what - (size_t)n, ", %ld: %ld to %ld", c.dim[i], c.ss[i],
                      c.ds[i]);
    check_bytes(d, what, c.stype != c.dtype);
    test_release();
}

/* Dimensions of random sizes, with gaps, in any order on either side, repeated or backwards. */
static ts_copy random_copy(void)
{
    static const long sizes[] = {1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 33, 64, 70, 100};
    ts_copy c = {};
    long all = 1;
    int order[2][8];
    bool cast = draw(2);
    c.nd = 1 + (int)draw(5);
    c.stype = cast ? stored[draw(3)] : (ts_dtype)draw(TS_DTYPES);
    c.dtype = cast ? stored[draw(3)] : c.stype;
    for (int i = 0; i < c.nd; i++) {
        c.dim[i] = sizes[draw(14)];
        while (all * c.dim[i] > 1 << 13) c.dim[i] = (c.dim[i] + 1) / 2;
        all *= c.dim[i];
        order[0][i] = order[1][i] = i;
    }
    for (int side = 0; side < 2; side++) {
        long *step = side ? c.ds : c.ss, at = draw(8) ? 1 : 2;
        for (int i = c.nd - 1; i > 0 && draw(3); i--)
            std::swap(order[side][i], order[side][draw((uint32_t)i + 1)]);
        for (int i = c.nd - 1; i >= 0; i--) {
            int d = order[side][i];
            step[d] = at;
            at = at * c.dim[d] + (draw(4) ? 0 : 1 + draw(3));
            if (!side && draw(8) == 0) step[d] = 0;
            if (draw(16) == 0) step[d] = -step[d];
        }
    }
    return c;
}

START_TEST(copies)
{
    test_order(_i);
    for (int i = is_long() ? 600 : 100; i > 0; i--) try_copy(random_copy(), (int)draw(4));
}
END_TEST

static ts_copy copy_of(ts_dtype from, ts_dtype to, std::vector<long> dim, std::vector<long> ss,
                       std::vector<long> ds)
{
    ts_copy c = {};
    c.stype = from;
    c.dtype = to;
    c.nd = (int)dim.size();
    for (int i = 0; i < c.nd; i++) {
        c.dim[i] = dim[(size_t)i];
        c.ss[i] = ss[(size_t)i];
        c.ds[i] = ds[(size_t)i];
    }
    return c;
}

/* What the models ask for: patches, transposes of both kinds, joins, casts of whole tensors. */
START_TEST(copies_of_models)
{
    const long H = 6, W = 5, C = 24, F = 3, K = 64, N = 150;
    test_order(_i);
    for (int s = 0; s < 3; s++)
        for (int d = 0; d < 3; d++) {
            ts_dtype f = stored[s], t = stored[d];
            try_copy(copy_of(f, t, {1027}, {1}, {1}), 0);
            try_copy(copy_of(f, t, {1027}, {1}, {1}), 1 + d);
            try_copy(copy_of(f, t, {5, 88}, {96, 1}, {88, 1}), 0);
            try_copy(copy_of(f, t, {70, 37}, {1, 70}, {40, 1}), 0);
            try_copy(copy_of(f, t, {F, H, W, 1, 2, 2, 16}, {H * W * K, W * K, K, K, 32, 16, 1},
                             {4 * H * W, 4 * W, 2, 4 * H * W, 2 * W, 1, 4 * F * H * W}),
                     0);
        }
    try_copy(copy_of(TS_F32, TS_F32, {H, 2, W, 2, C}, {W * C, 0, C, 0, 1},
                     {4 * W * C, 2 * W * C, 2 * C, C, 1}),
             0);
    for (ts_dtype t : {TS_U8, TS_BF16, TS_I32, TS_I64})
        for (long c = 1; c < 40; c += 13) {
            try_copy(copy_of(t, t, {N, c}, {1, N}, {c, 1}), 0);
            try_copy(copy_of(t, t, {c, N}, {1, c}, {N, 1}), 1);
            try_copy(copy_of(t, t, {5, N / 5, c}, {0, 0, 1}, {N / 5 * c, c, 1}), 0);
        }
    try_copy(copy_of(TS_F32, TS_BF16, {}, {}, {}), 0);
    try_copy(copy_of(TS_F32, TS_F32, {5, 0}, {1, 1}, {1, 1}), 0);
}
END_TEST

/* ---- gather ---- */
START_TEST(gathers)
{
    static const long widths[] = {1, 3, 40, 1536};
    test_order(_i);
    for (int w = 0; w < 4; w++)
        for (int s = 0; s < 9; s++) {
            long n = 1 + draw(12), V = 17, C = widths[w];
            twin x = twin_random(stored[s / 3], V, C, C + s % 2, draw(4) ? 0 : 1),
                 y = twin_random(stored[s % 3], n, C, C + (s % 4 ? 8 : 3));
            std::vector<int> id((size_t)n);
            for (int &i : id) i = (int)draw(17);
            ts_gather h = {x.host, test_tensor(id.data(), TS_I32, {n}), y.host},
                      d = {x.device, test_tensor(test_give(id), TS_I32, {n}), y.device};
            ts_cuda_fault *fault = test_give(std::vector<ts_cuda_fault>(1));
            ck_cuda(ts_cuda_gather(&d, fault, test_stream()));
            ts_gather_ref(&h);
            check_bytes(y, "gather");
            ck_assert_int_eq(test_fetch(fault, 1)[0].bad_id, 0);
            test_release();
        }
}
END_TEST

/* A row of an id that is none is zero, and the first gather that meets one is remembered. */
START_TEST(bad_ids)
{
    test_order(_i);
    ts_cuda_fault *fault = test_give(std::vector<ts_cuda_fault>(1));
    twin x = twin_random(TS_BF16, 5, 24), y = twin_random(TS_BF16, 4, 24);
    for (int pass = 0; pass < 2; pass++) {
        std::vector<int> id = {4, pass ? -7 : 2, pass ? 0 : 5, 0};
        ts_gather d = {x.device, test_tensor(test_give(id), TS_I32, {4}), y.device};
        ck_cuda(ts_cuda_gather(&d, fault, test_stream()));
        for (long m = 0; m < 4; m++)
            for (long c = 0; c < 24; c++)
                y.set(m, c, id[(size_t)m] < 0 || id[(size_t)m] > 4 ? 0 : x.get(id[(size_t)m], c));
        check_bytes(y, "gather of a bad id");
        ts_cuda_fault f = test_fetch(fault, 1)[0];
        ck_assert_int_eq(f.bad_id, 3);
        ck_assert_int_eq(f.id, 5);
        ck_assert_int_eq(f.rows, 5);
        ck_assert_int_eq(f.bad_tag, 0);
    }
    test_release();
}
END_TEST

/* ---- lincomb ---- */
static void try_lincomb(int n, long rows, long C, int options)
{
    ts_lincomb h = {}, d;
    std::vector<twin> x;
    bool shaped = options & 1, wide = options & 2, in_place = options & 4;
    ts_dtype yt = options & 8 ? TS_BF16 : TS_F32;
    twin y = twin_random(yt, rows, C, wide ? C + 8 : C, options & 16 ? 1 : 0);
    h.n = n;
    for (int i = 0; i < n; i++) {
        h.c[i] = test_normal();
        ts_dtype t = options & 32 && i % 2 ? TS_BF16 : TS_F32;
        x.push_back(in_place && i == n - 1 ? y
                    : shaped && i == 0 && C % 2 == 0
                        ? twin_random(t, rows * 2, C / 2, C / 2 + 8)
                        : twin_random(t, rows, C, wide && i == 1 ? C + 3 : C));
    }
    d = h;
    std::vector<twin> before;
    for (int i = 0; i < n; i++) {
        h.x[i] = x[(size_t)i].host;
        d.x[i] = x[(size_t)i].device;
        before.push_back(twin_copy(x[(size_t)i]));
    }
    h.y = y.host;
    d.y = y.device;
    ck_cuda(ts_cuda_lincomb(&d, test_stream()));
    ts_lincomb_ref(&h);
    char what[96];
    snprintf(what, sizeof what, "lincomb of %d, %ld x %ld, options %d", n, rows, C, options);
    /* either side rounds n products and n sums; contracted products are not rounded */
    twin_check(y, what, [&](long m, long c, double want) {
        double sum = 0;
        for (int i = 0; i < n; i++) {
            long w = before[(size_t)i].host.dim[1], e = m * C + c;
            sum += fabs(h.c[i] * before[(size_t)i].get(e / w, e % w));
        }
        return 2 * (n + 1) * u * sum + twin_step(yt, want);
    });
    test_release();
}

START_TEST(lincombs)
{
    static const long widths[] = {1, 3, 16, 24, 1023, 8192};
    test_order(_i);
    for (int w = 0; w < 6; w++)
        for (int n = 1; n <= 8; n++)
            for (int k = is_long() ? 4 : 1; k > 0; k--)
                try_lincomb(n, widths[w] > 1000 ? 1 : 1 + (long)draw(9), widths[w], (int)draw(64));
}
END_TEST

/* ---- affine ---- */
/* A packed operand of which some dimensions repeat. */
static ts_strided random_side(const ts_affine &a, twin *memory)
{
    ts_strided s = {};
    long at = 1;
    s.type = stored[draw(2)];
    for (int i = a.nd - 1; i >= 0; i--) {
        s.step[i] = draw(2) ? at : 0;
        if (s.step[i]) at *= a.dim[i];
    }
    *memory = twin_random(s.type, 1, at);
    return s;
}

static void try_affine(const ts_copy &c, bool onto)
{
    long xd, xu, yd, yu;
    twin s = {}, b = {};
    reach(c, c.ss, &xd, &xu);
    reach(c, c.ds, &yd, &yu);
    ts_affine h = {}, d;
    h.nd = c.nd;
    h.scale = 0.7f;
    h.shift = -0.3f;
    h.x.type = stored[draw(2)];
    h.y.type = stored[draw(2)];
    for (int i = 0; i < c.nd; i++) {
        h.dim[i] = c.dim[i];
        h.x.step[i] = c.ss[i];
        h.y.step[i] = c.ds[i];
    }
    twin x = twin_random(h.x.type, 1, xd + xu + 1, 0, draw(4) ? 0 : 1, 1.5f),
         y = twin_random(h.y.type, 1, yd + yu + 1, 0, draw(4) ? 0 : 1);
    if (draw(8) == 0) x.set(0, 0, NAN), x.send();
    if (draw(4)) h.s = random_side(h, &s);
    if (onto)
        h.b = h.y;
    else if (draw(4))
        h.b = random_side(h, &b);
    if (draw(2)) h.low = -0.8f, h.high = 0.9f;
    d = h;
    auto at = [](ts_ptr p, long n, ts_dtype t) { return ts_at(p, (size_t)n * ts_dtype_size(t)); };
    h.x.p = at(x.host.p, xd, h.x.type);
    d.x.p = at(x.device.p, xd, h.x.type);
    h.y.p = at(y.host.p, yd, h.y.type);
    d.y.p = at(y.device.p, yd, h.y.type);
    h.s.p = s.host.p;
    d.s.p = s.device.p;
    h.b.p = onto ? h.y.p : b.host.p;
    d.b.p = onto ? d.y.p : b.device.p;
    ck_cuda(ts_cuda_affine(&d, test_stream()));
    ts_affine_ref(&h);
    check_bytes(y, onto ? "affine onto y" : "affine", true);
    test_release();
}

START_TEST(affines)
{
    test_order(_i);
    for (int i = is_long() ? 400 : 90; i > 0; i--) {
        ts_copy c = random_copy();
        try_affine(c, draw(3) == 0);
    }
    for (long n : {1L, 3L, 1023L, 8192L}) /* vectors */
        try_affine(copy_of(TS_F32, TS_F32, {2, n}, {n + 8 - n % 8, 1}, {n, 1}), false);
}
END_TEST

/* ---- noise ---- */
/* log, sin and cos of the device are within 2 units of 2^-53 of those here: the same f32 but for
 * one number in 10^8. */
START_TEST(noise)
{
    static const struct {
        long M, C, ld, rows, columns;
        uint64_t first;
    } k[] = {{3, 1000, 1003, 1000, 1, 0}, {1037, 3, 5, 1, 1037, 6},
             {1, 1, 1, 0, 0, 7},          {7, 5, 5, 2, 3, 1},
             {2, 9, 9, 0, 1, 5},          {500, 4, 4, 1, 9000, (uint64_t)1 << 40}};
    test_order(_i);
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        twin y = twin_random(TS_F32, k[i].M, k[i].C, k[i].ld);
        ts_randn h = {((uint64_t)i << 40) + 11,
                      k[i].first,
                      (uint32_t)i,
                      k[i].rows,
                      k[i].columns,
                      y.host},
                 d = h;
        d.y = y.device;
        ck_cuda(ts_cuda_randn(&d, test_stream()));
        ts_randn_ref(&h);
        twin_check(y, "randn", twin_exact);
        test_release();
    }
}
END_TEST

/* ---- resample ---- */
static void try_resample(bool reduce, int ft, int fs, int drop, long C, long O, int types)
{
    long f = 2, h = 2, w = 3, F = f * ft - drop, H = h * fs, W = w * fs;
    ts_dtype xt = stored[types / 2], yt = stored[types % 2];
    twin x = twin_random(xt, reduce ? F * H * W : f * h * w, C, C + (types ? 0 : 1)),
         y = twin_random(yt, reduce ? f * h * w : F * H * W, O, O + (types % 2 ? 8 : 3));
    x = twin_shaped(x, reduce ? std::vector<long>{F, H, W, C} : std::vector<long>{f, h, w, C});
    y = twin_shaped(y, reduce ? std::vector<long>{f, h, w, O} : std::vector<long>{F, H, W, O});
    ts_resample a = {reduce, ft, fs, drop, x.host, y.host},
                d = {reduce, ft, fs, drop, x.device, y.device};
    ck_cuda(ts_cuda_resample(&d, test_stream()));
    ts_resample_ref(&a);
    char what[96];
    snprintf(what, sizeof what, "%s %d x %d, drop %d, %ld to %ld", reduce ? "reduce" : "expand", ft,
             fs, drop, C, O);
    check_bytes(y, what);
    test_release();
}

START_TEST(resamples)
{
    static const struct {
        int ft, fs;
        long C, O;
    } expand[] = {{2, 2, 48, 48}, {2, 2, 96, 48}, {1, 2, 40, 20},
                  {2, 2, 3, 12},  {1, 1, 20, 20}, {2, 1, 33, 66}},
      reduce[] = {{1, 2, 20, 40}, {2, 2, 40, 40}, {2, 2, 24, 96},
                  {2, 2, 40, 20}, {1, 2, 3, 6},   {3, 1, 40, 8}};
    test_order(_i);
    for (int i = 0; i < 6; i++)
        for (int t = 0; t < 4; t++) {
            if (!is_long() && (t + i + _i) % 2) continue;
            for (int drop = 0; drop < 2; drop++) {
                if (drop < expand[i].ft)
                    try_resample(false, expand[i].ft, expand[i].fs, drop, expand[i].C, expand[i].O,
                                 t);
                if (drop < reduce[i].ft)
                    try_resample(true, reduce[i].ft, reduce[i].fs, drop, reduce[i].C, reduce[i].O,
                                 t);
            }
        }
}
END_TEST

/* ---- check ---- */
START_TEST(checks)
{
    static const long shape[][3] = {{1, 1, 1}, {7, 3, 5}, {3, 1000, 1000}, {2, 1023, 1040}};
    test_order(_i);
    for (int s = 0; s < 4; s++)
        for (int t = 0; t < 2; t++)
            for (float bad : {0.f, 3e38f, INFINITY, -INFINITY, NAN}) {
                long m = draw((uint32_t)shape[s][0]),
                     c = bad == 0 ? 0 : shape[s][1] - 1 - draw(2) % shape[s][1];
                twin x = twin_of(
                    stored[t], shape[s][0], shape[s][1], shape[s][2], 0,
                    [&](long i, long j) { return i == m && j == c ? bad : test_normal(); });
                ts_cuda_fault *fault = test_give(std::vector<ts_cuda_fault>(1));
                ck_cuda(ts_cuda_check(x.device, 5, fault, test_stream()));
                ck_cuda(ts_cuda_check(x.device, 6, fault, test_stream()));
                ck_assert_int_eq(test_fetch(fault, 1)[0].bad_tag, ts_finite_ref(x.host) ? 0 : 5);
                test_release();
            }
}
END_TEST

/* ---- unfold ---- */
static void try_unfold(long F, long H, long W, long C, std::vector<long> k, std::vector<int> stride,
                       std::vector<int> pad, ts_dtype type)
{
    twin x = twin_random(type, F * H * W, C, C + (C % 8 ? 1 : 0));
    ts_weight w = {};
    ts_conv a = {};
    std::vector<long> shape = {1, C};
    long n[3] = {F, H, W}, o[3];
    for (long i : k) shape.push_back(i);
    w.t = test_tensor(NULL, TS_F32, shape);
    if (k.size() == 2) k.insert(k.begin(), 1);
    for (int i = 0; i < 3; i++) {
        a.stride[i] = stride[(size_t)i];
        a.pad[2 * i] = pad[(size_t)(2 * i)];
        a.pad[2 * i + 1] = pad[(size_t)(2 * i + 1)];
        o[i] = (n[i] + a.pad[2 * i] + a.pad[2 * i + 1] - k[(size_t)i]) / stride[(size_t)i] + 1;
    }
    a.w = &w;
    a.x = twin_shaped(x, {F, H, W, C}).device;
    a.y = test_tensor(NULL, type, {o[0], o[1], o[2], 1});
    long all = o[0] * o[1] * o[2], first = all / 3, count = all - first,
         row = k[0] * k[1] * k[2] * C;
    twin to = twin_room(type, count, row);
    to.send();
    ck_cuda(ts_cuda_unfold(&a, first, count, (void *)(uintptr_t)to.device.p.at, test_stream()));
    for (long m = 0; m < count; m++)
        for (long e = 0; e < row; e++) {
            long p = m + first, c = e % C, t = e / C,
                 f = p / (o[1] * o[2]) * a.stride[0] + t / (k[1] * k[2]) - a.pad[0],
                 h = p / o[2] % o[1] * a.stride[1] + t / k[2] % k[1] - a.pad[2],
                 v = p % o[2] * a.stride[2] + t % k[2] - a.pad[4];
            bool in = f >= 0 && f < F && h >= 0 && h < H && v >= 0 && v < W;
            to.set(m, e, in ? x.get((f * H + h) * W + v, c) : 0);
        }
    check_bytes(to, "unfold");
    test_release();
}

START_TEST(unfolds)
{
    test_order(_i);
    for (int t = 0; t < 2; t++) {
        try_unfold(3, 5, 6, 8, {3, 3, 3}, {1, 1, 1}, {2, 0, 1, 1, 1, 1}, stored[t]);
        try_unfold(1, 8, 9, 3, {3, 3}, {1, 2, 2}, {0, 0, 0, 1, 0, 1}, stored[t]);
        try_unfold(2, 4, 6, 16, {1, 2, 2}, {1, 2, 2}, {0, 0, 0, 0, 0, 0}, stored[t]);
        try_unfold(1, 1, 1, 1, {1, 1, 1}, {1, 1, 1}, {0, 0, 0, 0, 0, 0}, stored[t]);
        try_unfold(4, 3, 2, 5, {3, 1, 1}, {2, 1, 1}, {2, 0, 0, 0, 0, 0}, stored[t]);
    }
}
END_TEST

/* ---- nothing, and too much ---- */
START_TEST(sizes)
{
    float *p = test_take<float>(4);
    ts_cuda_fault *fault = test_take<ts_cuda_fault>(1);
    const long most = 1L << 45;
    for (long n : {0L, most}) {
        cudaError_t want = n ? cudaErrorInvalidValue : cudaSuccess;
        ts_tensor t = test_tensor(p, TS_F32, {n, 1L << 18});
        ts_copy c = copy_of(TS_F32, TS_F32, {n, 1L << 18}, {1L << 18, 1}, {1L << 18, 1}),
                turned = copy_of(TS_F32, TS_F32, {1L << 22, n / 8}, {1, 1L << 22}, {n / 8, 1});
        c.src = c.dst = turned.src = turned.dst = t.p;
        ts_gather g = {t, test_tensor(p, TS_I32, {n}), t};
        ts_lincomb l = {};
        l.n = 1;
        l.x[0] = l.y = t;
        ts_affine a = {};
        a.nd = 2;
        a.dim[0] = n;
        a.dim[1] = 1L << 18;
        a.x.p = a.y.p = t.p;
        a.y.step[0] = a.x.step[0] = 1L << 18;
        a.y.step[1] = a.x.step[1] = 1;
        ts_randn r = {1, 0, 0, 1, 1, t};
        ck_assert_int_eq(ts_cuda_copy(&c, test_stream()), want);
        ck_assert_int_eq(ts_cuda_copy(&turned, test_stream()), want);
        ck_assert_int_eq(ts_cuda_gather(&g, fault, test_stream()), want);
        ck_assert_int_eq(ts_cuda_lincomb(&l, test_stream()), want);
        ck_assert_int_eq(ts_cuda_affine(&a, test_stream()), want);
        ck_assert_int_eq(ts_cuda_randn(&r, test_stream()), want);
        ck_assert_int_eq(ts_cuda_check(t, 1, fault, test_stream()), want);
    }
    ck_well("launch");
    test_release();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda move");
    TCase *t = tcase_create("move");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, copies, 0, TEST_ORDERS);
    tcase_add_loop_test(t, copies_of_models, 0, TEST_ORDERS);
    tcase_add_loop_test(t, gathers, 0, TEST_ORDERS);
    tcase_add_loop_test(t, bad_ids, 0, TEST_ORDERS);
    tcase_add_loop_test(t, lincombs, 0, TEST_ORDERS);
    tcase_add_loop_test(t, affines, 0, TEST_ORDERS);
    tcase_add_loop_test(t, noise, 0, TEST_ORDERS);
    tcase_add_loop_test(t, resamples, 0, TEST_ORDERS);
    tcase_add_loop_test(t, checks, 0, TEST_ORDERS);
    tcase_add_loop_test(t, unfolds, 0, TEST_ORDERS);
    tcase_add_test(t, sizes);
    suite_add_tcase(suite, t);
    return testing_main(suite);
}
