/* Linear layers and convolutions of the CUDA device against plain C: what cuBLASLt and cuDNN are
 * asked for, in the shapes that models have and in odd ones. On the emulated device the two
 * libraries have twins on the host; on a GPU they are NVIDIA's.
 *
 * Bounds: K products summed in f32 in any order are off by K u S, S the sum of their absolute
 * values and u = 2^-24; tensor cores, which drop bits instead of rounding, by twice that. What is
 * added afterwards is rounded once each, y once more to its type. */
#include "tests/cuda/attention_case.h"
#include "tests/cuda/twins.h"
extern "C" {
#include "backend/cuda/cuda.h"
}

static const double u = 0x1p-24;
static ts_err err;
static ts_env env;
static ts_device *dev;

static void open_it(void)
{
    emu_options o = {};
    o.late = 1;
    emu_set(o);
    ts_device_options kind = {};
    kind.kind = "cuda";
    ck_assert_msg(ts_cuda_open_with(kind, 64 << 10, &env, &err, &dev) == TS_OK, "%s", err.text);
}
static void close_it(void)
{
    ts_device_close(dev);
    dev = NULL;
    test_release();
}

/* What was sent through test_stream has arrived; the call; all of it is done. */
static void settle(void) { ck_well("before"); }
#define ck_device(call, what)                                                          \
    do {                                                                               \
        settle();                                                                      \
        ts_status ck_st_ = (call);                                                     \
        if (!ck_st_) ck_st_ = dev->ops->join(dev);                                     \
        ck_assert_msg(ck_st_ == TS_OK, "%s: %s", std::string(what).c_str(), err.text); \
    } while (0)

static ts_weight weight_of(ts_tensor t)
{
    ts_weight w = {};
    w.t = t;
    return w;
}
static double rounding(ts_dtype type, double x)
{
    return type == TS_BF16 ? std::fabs(x) / 256 : std::fabs(x) * u;
}

/* ---- the library's own arguments ---- */
struct lt_case {
    long m, n, k;
    ts_dtype in, out;
    bool bias, adds;
    long gap; /* numbers between columns */
};
static const lt_case lt_cases[] = {
    {24, 70, 40, TS_F32, TS_F32, false, false, 0},  {24, 70, 40, TS_F32, TS_F32, true, true, 0},
    {24, 70, 40, TS_BF16, TS_BF16, false, true, 0}, {24, 70, 40, TS_BF16, TS_F32, true, true, 0},
    {24, 70, 40, TS_BF16, TS_F32, true, false, 8},  {64, 1, 256, TS_BF16, TS_F32, false, false, 0},
    {8, 8, 8, TS_F32, TS_F32, true, false, 4},
};
START_TEST(columns_are_as_the_library_has_them)
{
    const lt_case c = lt_cases[_i];
    twin a = twin_random(c.in, c.m, c.k, c.k + c.gap), b = twin_random(c.in, c.n, c.k, c.k + c.gap);
    twin d = twin_random(c.out, c.n, c.m, c.m + c.gap), bias = twin_random(TS_F32, 1, c.m);
    twin before = twin_copy(d);
    char *work = test_take<char>(TS_LT_WORKSPACE);
    ts_lt_product p = {};
    p.m = c.m, p.n = c.n, p.k = c.k, p.in = c.in, p.out = c.out;
    p.a = ts_cuda_at(a.device.p), p.b = ts_cuda_at(b.device.p), p.d = ts_cuda_at(d.device.p);
    p.lda = a.device.ld, p.ldb = b.device.ld, p.ldd = d.device.ld;
    if (c.adds) p.c = ts_cuda_at(before.device.p), p.ldc = before.device.ld;
    if (c.bias) p.bias = (const float *)ts_cuda_at(bias.device.p);
    ts_cuda *cu = ts_cuda_of(dev);
    ck_assert(ts_lt_has(cu->lt, &p));
    ck_device(ts_lt_run(cu->lt, &err, &p, work, cu->queue), "product");
    for (long j = 0; j < c.n; j++)
        for (long i = 0; i < c.m; i++) {
            double sum = 0;
            for (long k = 0; k < c.k; k++) sum += (double)a.get(i, k) * b.get(j, k);
            if (c.bias) sum += bias.get(0, i);
            if (c.adds) sum += before.get(j, i);
            d.set(j, i, (float)sum);
        }
    twin_check(d, "product", [&](long j, long i, double want) {
        double S = 0;
        for (long k = 0; k < c.k; k++) S += std::fabs((double)a.get(i, k) * b.get(j, k));
        return 2 * (double)(c.k + 4) * u * (S + 8) + 2 * rounding(c.out, want);
    });
}
END_TEST

/* ---- linear layers ---- */
struct linear_case {
    const char *label;
    long M, K, O;
    ts_dtype x, y;
    ts_act act;
    bool bias, gate, sel, resid;
    long pad; /* numbers between rows of x, y and resid */
    int longer;
};
static const linear_case linears[] = {
    {"f32", 70, 40, 24, TS_F32, TS_F32, TS_ACT_NONE, true, false, false, true, 0, 0},
    {"f32, gated", 70, 40, 24, TS_F32, TS_F32, TS_ACT_GELU_TANH, true, true, true, true, 0, 0},
    {"f32, odd", 33, 7, 5, TS_F32, TS_F32, TS_ACT_NONE, true, false, false, false, 3, 0},
    {"f32, odd bf16", 1, 7, 1, TS_F32, TS_BF16, TS_ACT_NONE, false, false, false, false, 0, 0},
    {"bf16", 33, 64, 48, TS_BF16, TS_BF16, TS_ACT_NONE, false, false, false, true, 0, 0},
    {"bf16, SiLU", 33, 64, 48, TS_BF16, TS_BF16, TS_ACT_SILU, true, false, false, false, 8, 0},
    {"bf16, GELU", 33, 64, 48, TS_BF16, TS_BF16, TS_ACT_GELU_TANH, true, false, false, false, 0, 0},
    {"f32, GELU", 9, 40, 24, TS_F32, TS_F32, TS_ACT_GELU_TANH, false, false, false, false, 0, 0},
    {"f32, one gate", 33, 40, 24, TS_F32, TS_F32, TS_ACT_NONE, true, true, false, true, 8, 0},
    {"bf16, one gate", 33, 64, 48, TS_BF16, TS_F32, TS_ACT_NONE, true, true, false, true, 0, 0},
    {"bf16, one gate, odd", 9, 64, 47, TS_BF16, TS_F32, TS_ACT_NONE, true, true, false, true, 0, 0},
    {"bf16 throughout, one gate", 33, 64, 48, TS_BF16, TS_BF16, TS_ACT_NONE, true, true, false,
     true, 0, 0},
    {"bf16 to f32", 33, 64, 48, TS_BF16, TS_F32, TS_ACT_NONE, true, false, false, true, 8, 0},
    {"bf16, gated", 33, 64, 48, TS_BF16, TS_F32, TS_ACT_NONE, true, true, true, true, 0, 0},
    {"bf16, odd", 33, 63, 47, TS_BF16, TS_F32, TS_ACT_NONE, true, false, false, true, 1, 0},
    {"bf16, odd both", 9, 5, 3, TS_BF16, TS_BF16, TS_ACT_NONE, true, false, false, true, 1, 0},
    {"time embedding", 1, 256, 192, TS_F32, TS_F32, TS_ACT_SILU, true, false, false, false, 0, 0},
    {"qkv of Wan", 500, 1536, 1536, TS_BF16, TS_BF16, TS_ACT_NONE, true, false, false, false, 0, 1},
    {"ffn of Wan", 300, 1536, 8960, TS_BF16, TS_BF16, TS_ACT_GELU_TANH, true, false, false, false,
     0, 1},
    {"out of Wan", 300, 8960, 1536, TS_BF16, TS_F32, TS_ACT_NONE, true, true, false, true, 0, 1},
};
static void try_linear(const linear_case &c)
{
    twin x = twin_random(c.x, c.M, c.K, c.K + c.pad), w = twin_random(c.x, c.O, c.K);
    twin b = twin_shaped(twin_random(TS_F32, 1, c.O), {c.O}), g = twin_random(TS_F32, 2, c.O);
    twin s = twin_shaped(twin_room(TS_U8, 1, c.M), {c.M});
    for (long m = 0; m < c.M; m++) (*s.bytes)[s.first + (size_t)m] = m % 3 == 1;
    s.send();
    twin r = twin_random(c.y, c.M, c.O, c.O + c.pad), y = twin_random(c.y, c.M, c.O, c.O + c.pad);
    ts_weight hw = weight_of(w.host), dw = weight_of(w.device), hb = weight_of(b.host),
              db = weight_of(b.device);
    ts_linear h = {}, d = {};
    h.act = d.act = c.act;
    h.x = x.host, d.x = x.device, h.y = y.host, d.y = y.device, h.w = &hw, d.w = &dw;
    if (c.bias) h.b = &hb, d.b = &db;
    if (c.gate) h.gate = g.host, d.gate = g.device;
    if (c.sel) h.sel = s.host, d.sel = s.device;
    if (c.resid) h.resid = r.host, d.resid = r.device;
    ck_device(dev->ops->linear(dev, &d), c.label);
    ts_linear_ref(&h);
    /* the largest slope of an activation is below 1.13, of gates 4 */
    twin_check(y, c.label, [&](long m, long o, double want) {
        double S = 0;
        for (long k = 0; k < c.K; k++) S += std::fabs((double)x.get(m, k) * w.get(o, k));
        double sum = (2 * (double)c.K + 8) * u * (S + 8) * (c.act ? 1.13 : 1) * (c.gate ? 4 : 1);
        double bias = c.bias ? std::fabs(b.get(0, o)) : 0; /* the library adds one of y's type */
        return 1.5 * sum + 16 * u * std::fabs(want) + 2 * rounding(c.y, std::fabs(want) + sum) +
               rounding(c.y, bias);
    });
}
START_TEST(linear_layers)
{
    if (linears[_i].longer && !ON_GPU) return;
    try_linear(linears[_i]);
}
END_TEST

/* ---- convolutions ---- */
struct conv_case {
    const char *label;
    long x[4], O, kernel[3];
    int stride[3], pad[6];
    bool bias, resid;
    int longer;
};
static const conv_case convs[] = {
    {"causal", {3, 9, 10, 8}, 16, {3, 3, 3}, {1, 1, 1}, {2, 0, 1, 1, 1, 1}, true, false, 0},
    {"residual", {4, 6, 7, 8}, 8, {3, 3, 3}, {1, 1, 1}, {0, 0, 1, 1, 1, 1}, true, true, 0},
    {"bare", {2, 6, 7, 8}, 8, {1, 3, 3}, {1, 1, 1}, {0, 0, 1, 1, 1, 1}, false, false, 0},
    {"halves", {1, 9, 8, 8}, 16, {1, 3, 3}, {1, 2, 2}, {0, 0, 0, 1, 0, 1}, true, false, 0},
    {"of time", {5, 4, 4, 8}, 8, {3, 1, 1}, {1, 1, 1}, {0, 0, 0, 0, 0, 0}, true, false, 0},
    {"point", {2, 5, 5, 8}, 24, {1, 1, 1}, {1, 1, 1}, {0, 0, 0, 0, 0, 0}, true, true, 0},
    {"patches", {2, 8, 8, 4}, 16, {1, 2, 2}, {1, 2, 2}, {0, 0, 0, 0, 0, 0}, true, false, 0},
    {"odd channels", {2, 5, 6, 3}, 5, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1, 1, 1}, true, false, 0},
    {"to pixels", {2, 9, 9, 32}, 3, {3, 3, 3}, {1, 1, 1}, {2, 0, 1, 1, 1, 1}, true, false, 0},
    {"Wan's widest", {4, 60, 104, 96}, 96, {3, 3, 3}, {1, 1, 1}, {0, 0, 1, 1, 1, 1}, true, true, 1},
    {"Wan's deepest",
     {2, 30, 52, 384},
     384,
     {3, 3, 3},
     {1, 1, 1},
     {2, 0, 1, 1, 1, 1},
     true,
     false,
     1},
};
enum { CONVS = sizeof convs / sizeof *convs };

/* As the device keeps kernels: [O, kt, kh, kw, C] of [O, C, kt, kh, kw]. */
static twin taps_last(const twin &w, long O, long C, long taps)
{
    return twin_of(w.host.type, O, taps * C, 0, 0,
                   [&](long o, long i) { return w.get(o, i % C * taps + i / C); });
}
/* true: by cuDNN */
static bool try_conv(const conv_case &c, ts_dtype type, ts_dtype out)
{
    long C = c.x[3], taps = c.kernel[0] * c.kernel[1] * c.kernel[2], y[4] = {0, 0, 0, c.O};
    for (int i = 0; i < 3; i++)
        y[i] = (c.x[i] + c.pad[2 * i] + c.pad[2 * i + 1] - c.kernel[i]) / c.stride[i] + 1;
    long rows = c.x[0] * c.x[1] * c.x[2], M = y[0] * y[1] * y[2];
    float spread = 1 / std::sqrt((float)(C * taps));
    twin x = twin_random(type, rows, C), w = twin_random(type, c.O, C * taps, 0, 0, spread);
    twin d = taps_last(w, c.O, C, taps), b = twin_shaped(twin_random(TS_F32, 1, c.O), {c.O});
    twin r = twin_random(out, M, c.O), to = twin_random(out, M, c.O);
    std::vector<long> xd(c.x, c.x + 4), yd(y, y + 4);
    std::vector<long> wd = {c.O, C, c.kernel[0], c.kernel[1], c.kernel[2]};
    ts_weight hw = weight_of(test_tensor((void *)(uintptr_t)w.host.p.at, type, wd));
    ts_weight dw = weight_of(test_tensor((void *)(uintptr_t)d.device.p.at, type, wd));
    dw.layout = TS_CUDA_TAPS_LAST;
    ts_weight hb = weight_of(b.host), db = weight_of(b.device);
    twin xs = twin_shaped(x, xd), rs = twin_shaped(r, yd), ys = twin_shaped(to, yd);
    ts_conv h = {}, g = {};
    h.x = xs.host, g.x = xs.device, h.w = &hw, g.w = &dw, h.y = ys.host, g.y = ys.device;
    if (c.bias) h.b = &hb, g.b = &db;
    if (c.resid) h.resid = rs.host, g.resid = rs.device;
    for (int i = 0; i < 3; i++) h.stride[i] = g.stride[i] = c.stride[i];
    for (int i = 0; i < 6; i++) h.pad[i] = g.pad[i] = c.pad[i];
    ts_cuda *cu = ts_cuda_of(dev);
    long before = ts_dnn_runs(cu->dnn);
    std::string what = std::string(c.label) + ", " + ts_dtype_name(type) + " to " +
                       ts_dtype_name(out);
    ck_device(dev->ops->conv(dev, &g), what);
    bool by_library = ts_dnn_runs(cu->dnn) > before;
    ts_conv_ref(&h);
    /* numbers are below 4.3 and weights below 4.3 spread. cuDNN rounds the sum to the type of x
     * before what is added to it */
    double S = 4.3 * 4.3 * (double)(C * taps) * spread;
    twin_check(to, what, [&](long, long, double want) {
        double sum = 2 * (double)(C * taps + 8) * u * S;
        return sum + 4 * u * std::fabs(want) + rounding(type, std::fabs(want) + 9) +
               2 * rounding(out, std::fabs(want) + sum);
    });
    return by_library;
}
START_TEST(convolutions)
{
    const conv_case &c = convs[_i];
    if (c.longer && !ON_GPU) return;
    ts_cuda *cu = ts_cuda_of(dev);
    ts_dnn *dnn = cu->dnn;
    bool bf16 = try_conv(c, TS_BF16, TS_BF16), f32 = try_conv(c, TS_F32, TS_F32);
    if (test_verbose() || ON_GPU)
        printf("%s: bf16 by %s, f32 by %s\n", c.label, bf16 ? "cuDNN" : "products",
               f32 ? "cuDNN" : "products");
    cu->dnn = NULL; /* where it is missing, or has no plan */
    ck_assert(!try_conv(c, TS_BF16, TS_BF16));
    try_conv(c, TS_F32, TS_F32);
    try_conv(c, TS_BF16, TS_F32);
    cu->dnn = dnn;
}
END_TEST

/* A machine with cuDNN has plans for what a VAE is made of. */
START_TEST(cudnn_is_there)
{
    ts_cuda *cu = ts_cuda_of(dev);
    char about[1024];
    dev->ops->about(dev, about, sizeof about);
    if (ON_GPU) printf("%s\n", about);
    if (!cu->dnn) {
        printf("skip convolutions by cuDNN: %s\n", cu->dnn_missing);
        return;
    }
    ck_assert_msg(try_conv(convs[0], TS_BF16, TS_BF16), "cuDNN has no plan for a causal kernel");
    ck_assert_msg(try_conv(convs[1], TS_BF16, TS_BF16), "cuDNN has no plan for a residual block");
}
END_TEST

/* ---- dense attention ---- */
static const struct {
    attention_shape s;
    bool by_library;
} heads[] = {
    {{TS_BF16, 1, 2, 192, 192, 64, 1, false, false, 0, 0, false, 0, 1}, true},
    {{TS_BF16, 2, 3, 70, 133, 128, 1, false, false, 0, 0, false, 24, 2}, true},
    {{TS_BF16, 1, 2, 133, 64, 72, 1, false, false, 0, 0, false, 0, 1}, true},
    /* a plan, a bias, rows that end earlier, out in the place of q, f32: the own kernels */
    {{TS_BF16, 1, 2, 192, 192, 64, 0.5, false, false, 0, 0, false, 0, 1}, false},
    {{TS_BF16, 1, 2, 96, 96, 64, 1, false, false, 1, 0, false, 0, 1}, false},
    {{TS_BF16, 2, 2, 96, 96, 64, 1, false, false, 0, 40, false, 0, 1}, false},
    {{TS_BF16, 1, 2, 96, 96, 64, 1, false, false, 0, 0, true, 0, 1}, false},
    {{TS_F32, 1, 2, 96, 96, 64, 1, false, false, 0, 0, false, 0, 1}, false},
};
START_TEST(dense_attention)
{
    ts_cuda *cu = ts_cuda_of(dev);
    std::string what = "case " + std::to_string(_i);
    attention_case c;
    cu->dense_by_dnn = 1;
    attention_make(&c, heads[_i].s);
    c.device.lse = {};
    long before = ts_dnn_runs(cu->dnn);
    ck_device(dev->ops->attention(dev, &c.device), what);
    bool by_library = ts_dnn_runs(cu->dnn) > before;
    if (cu->dnn && !ON_GPU) ck_assert_int_eq(by_library, heads[_i].by_library);
    if (!heads[_i].by_library) ck_assert(!by_library);
    if (ON_GPU) printf("attention, case %d: by %s\n", _i, by_library ? "cuDNN" : "own kernels");
    ts_attention_ref(&c.host);
    attention_worst w = attention_compare(c);
    ck_assert_msg(w.share <= 1, "%s: %.3g of the bound: %s", what.c_str(), w.share, w.what.c_str());
}
END_TEST
START_TEST(dense_attention_of_few_tokens)
{
    ts_cuda *cu = ts_cuda_of(dev);
    attention_case c;
    attention_make(&c, heads[0].s);
    c.device.lse = {};
    cu->dense_by_dnn = heads[0].s.Nk + 1;
    long before = ts_dnn_runs(cu->dnn);
    ck_device(dev->ops->attention(dev, &c.device), "few tokens");
    ck_assert_int_eq(ts_dnn_runs(cu->dnn), before);
}
END_TEST

START_TEST(peak_is_measured)
{
    double flops = 0;
    if (!ON_GPU) return; /* 2.2 TFLOP each */
    for (ts_dtype type : {TS_BF16, TS_F32}) {
        ck_assert_msg(dev->ops->peak(dev, type, &flops) == TS_OK, "%s", err.text);
        printf("products of %s: %.1f TFLOP/s\n", ts_dtype_name(type), flops / 1e12);
        ck_assert(flops > 1e12);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gpu_library");
    TCase *c = tcase_create("library");
    tcase_set_timeout(c, 600);
    tcase_add_checked_fixture(c, open_it, close_it);
    tcase_add_test(c, cudnn_is_there);
    tcase_add_loop_test(c, dense_attention, 0, sizeof heads / sizeof *heads);
    tcase_add_test(c, dense_attention_of_few_tokens);
    tcase_add_loop_test(c, columns_are_as_the_library_has_them, 0,
                        sizeof lt_cases / sizeof *lt_cases);
    tcase_add_loop_test(c, linear_layers, 0, sizeof linears / sizeof *linears);
    tcase_add_loop_test(c, convolutions, 0, CONVS);
    tcase_add_test(c, peak_is_measured);
    suite_add_tcase(s, c);
    return testing_main(s);
}
