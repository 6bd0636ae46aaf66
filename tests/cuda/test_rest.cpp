/* What stands for the blocks that a plan leaves out, on the device: means, errors of heads, choices
 * by them, against the plain C of the CPU. */
#include "backend/cuda/rest_kernels.h"
#include "tests/cuda/twins.h"

static const ts_cuda_chip chip = {8, 0, 3, 166912}; /* an A100 of three multiprocessors */
static ts_device *cpu;
static ts_err cpu_err;
static void open_cpu(void)
{
    ts_device_options o = {};
    o.kind = "cpu";
    o.threads = 1;
    o.level = "ref";
    ck_assert_msg(!ts_device_open(o, NULL, &cpu_err, &cpu), "%s", cpu_err.text);
    test_order_default();
    ck_cuda(ts_cuda_attention_init(&chip));
}
static void close_cpu(void)
{
    test_release();
    ts_device_close(cpu);
}
#define ck_cpu(call) ck_assert_msg(!(call), "%s", cpu_err.text)

struct heads_case {
    long B, N, A, D, pad;
    ts_dtype type;
};
static const heads_case heads[] = {
    {1, 200, 3, 64, 0, TS_BF16}, {2, 65, 2, 40, 8, TS_F32},  {2, 130, 3, 7, 1, TS_BF16},
    {1, 1, 1, 1, 0, TS_F32},     {1, 64, 2, 128, 4, TS_F32}, {1, 449, 5, 16, 0, TS_BF16},
    {1, 130, 1, 20, 4, TS_BF16},
};
enum { HEADS = sizeof heads / sizeof *heads };
static std::string name_of(const heads_case &c)
{
    char text[100];
    snprintf(text, sizeof text, "[%ld, %ld, %ld, %ld] %s, %ld apart", c.B, c.N, c.A, c.D,
             ts_dtype_name(c.type), c.A * c.D + c.pad);
    return text;
}
/* [B, N, A, D] of numbers by chance */
static twin heads_of(const heads_case &c)
{
    long C = c.A * c.D;
    return twin_shaped(twin_random(c.type, c.B * c.N, C, C + c.pad, 0, 1, 0.5f),
                       {c.B, c.N, c.A, c.D});
}

START_TEST(means)
{
    const heads_case &c = heads[_i];
    const long nb = (c.N + 63) / 64, C = c.A * c.D;
    for (int order = 0; order < TEST_ORDERS; order++) {
        test_order(order);
        twin x = heads_of(c), y = twin_random(TS_F32, c.B * nb, C);
        ts_pool h = {x.host, y.host}, d = {x.device, y.device};
        h.y = twin_shaped(y, {c.B, nb, c.A, c.D}).host;
        d.y = twin_shaped(y, {c.B, nb, c.A, c.D}).device;
        h.y.ld = d.y.ld = C;
        ck_cuda(ts_cuda_pool(&d, test_stream()));
        ck_cpu(cpu->ops->pool(cpu, &h));
        twin_check(y, name_of(c), twin_exact);
    }
}
END_TEST

/* ---- what pooled keys weigh ----
 * A logit to the base 2 is x = scale log2 e q k' + log2 n, off by
 *   dx = ((D + 2) 2^-23 + r) scale log2 e sum |q||k| + 2^-22 (|x| + 6),
 * r = 2^-8 where pooled keys are rounded to bf16, else 0; a weight and lse of the row by
 *   dw = 2 ln 2 max dx + 2^-20 + (nb + 70) 2^-24, relative */
static double weight_is_off(const twin &q, const twin &k, const heads_case &c, float scale, long b,
                            long h, long n)
{
    const long nb = (c.N + 63) / 64;
    const double r = c.type == TS_BF16 ? 0x1p-8 : 0;
    double most = 0;
    for (long j = 0; j < nb; j++) {
        double abs = 0;
        for (long d = 0; d < c.D; d++)
            abs += std::fabs((double)q.get(b * c.N + n, h * c.D + d) *
                             k.get(b * nb + j, h * c.D + d));
        abs *= scale * M_LOG2E;
        most = std::fmax(most, ((double)(c.D + 2) * 0x1p-23 + r) * abs + 0x1p-22 * (abs + 6));
    }
    return 2 * M_LN2 * most + 0x1p-20 + (double)(nb + 70) * 0x1p-24;
}
static void try_weights(const heads_case &c, bool lse)
{
    const long nb = (c.N + 63) / 64, C = c.A * c.D;
    const float scale = 1.5f / std::sqrt((float)c.D);
    twin q = twin_random(c.type, c.B * c.N, C, C + c.pad),
         k = twin_random(TS_F32, c.B * nb, C, 0, 0, 1.5f), l = twin_random(TS_F32, c.B * c.A, c.N),
         sums = twin_random(TS_F32, c.B * c.A * nb, nb);
    ts_pool_sums h = {}, d;
    h.scale = scale;
    d = h;
    const std::vector<long> of_q = {c.B, c.N, c.A, c.D}, of_k = {c.B, nb, c.A, c.D},
                            of_l = {c.B, c.A, c.N}, of_s = {c.B, c.A, nb, nb};
    h.q = twin_shaped(q, of_q).host, d.q = twin_shaped(q, of_q).device;
    h.k = twin_shaped(k, of_k).host, d.k = twin_shaped(k, of_k).device;
    h.k.ld = d.k.ld = C;
    h.sums = twin_shaped(sums, of_s).host, d.sums = twin_shaped(sums, of_s).device;
    if (lse) h.lse = twin_shaped(l, of_l).host, d.lse = twin_shaped(l, of_l).device;
    ck_cuda(ts_cuda_pool_sums(&d, test_take<char>(ts_cuda_pool_sums_scratch(&d)), test_stream()));
    ck_cpu(cpu->ops->pool_sums(cpu, &h));
    std::vector<double> off((size_t)(c.B * c.A * c.N));
    for (size_t i = 0; i < off.size(); i++) {
        const long bh = (long)i / c.N;
        off[i] = weight_is_off(q, k, c, scale, bh / c.A, bh % c.A, (long)i % c.N);
    }
    twin_check(sums, name_of(c) + ", weights", [&](long row, long, double want) {
        double most = 0;
        for (long n = row % nb * 64; n < c.N && n < row % nb * 64 + 64; n++)
            most = std::fmax(most, off[(size_t)(row / nb * c.N + n)]);
        return want * (most + 64 * 0x1p-24);
    });
    twin_check(l, name_of(c) + ", lse", [&](long row, long n, double want) {
        return lse ? off[(size_t)(row * c.N + n)] + 0x1p-22 * std::fabs(want) + 3e-7 : 0;
    });
}
START_TEST(weights)
{
    for (int order = 0; order < TEST_ORDERS; order++) {
        test_order(order);
        try_weights(heads[_i], order != 1);
    }
}
END_TEST
/* More pooled keys than a tile has. */
START_TEST(weights_of_many)
{
    test_order(_i);
    try_weights({1, 64 * 129 + 7, 1, 16, 0, _i ? TS_BF16 : TS_F32}, true);
}
END_TEST

/* ---- the linear part ----
 * An output is x + share q M, q M a sum of D sums of up to nb sums of 64 products: off by the
 * roundings of these, of the share, and in bf16 of what is multiplied: k, v, w, C and M, of
 *   S = share sum_d |q_d| sum_j w_j sum_n |k - mean||v - mean|
 * and once on each side when it is stored. */
struct linear_case {
    long N, A, D, pad;
    ts_dtype type;
    int every;
    bool form, shared;
    int at_a_time = 0; /* heads; 0: all that have room */
};
static const linear_case linears[] = {
    {200, 3, 64, 0, TS_F32, 0, true, false, 2}, {333, 4, 64, 8, TS_BF16, 0, false, true, 3},
    {64, 1, 16, 0, TS_BF16, 0, false, false},   {463, 3, 40, 8, TS_BF16, 3, true, false},
    {463, 2, 37, 1, TS_F32, 2, false, false},   {130, 2, 128, 0, TS_BF16, 0, false, false},
    {200, 2, 20, 1, TS_BF16, 0, false, false},  {200, 1, 72, 0, TS_BF16, 0, false, false},
    {65, 1, 130, 0, TS_F32, 0, false, false},   {8300, 1, 8, 0, TS_BF16, 0, false, false},
};
enum { LINEARS = sizeof linears / sizeof *linears };

static void try_linear(const linear_case &c)
{
    const long nb = (c.N + 63) / 64, C = c.A * c.D, words = ts_plan_words((int)nb);
    heads_case as = {1, c.N, c.A, c.D, c.pad, c.type};
    twin q = heads_of(as), k = heads_of(as), v = heads_of(as), out = heads_of(as);
    twin kp = twin_random(TS_F32, nb, C), vp = twin_random(TS_F32, nb, C),
         sums = twin_random(TS_F32, c.A * nb, nb), own = twin_random(TS_F32, c.A, c.N);
    const std::vector<long> pooled = {1, nb, c.A, c.D}, of_rows = {1, c.A, c.N};
    twin lse = own, form = twin_room(TS_F32, 1, c.A);
    for (twin *t : {&kp, &vp}) {
        *t = twin_shaped(*t, pooled);
        t->host.ld = t->device.ld = C;
    }
    sums = twin_shaped(sums, {1, c.A, nb, nb});
    own = twin_shaped(own, of_rows);
    ts_pool pools[] = {{k.host, kp.host}, {v.host, vp.host}};
    for (ts_pool &p : pools) ck_cpu(cpu->ops->pool(cpu, &p));
    ts_pool_sums weigh = {};
    weigh.q = q.host, weigh.k = kp.host, weigh.scale = 1 / std::sqrt((float)c.D);
    weigh.lse = own.host, weigh.sums = sums.host;
    ck_cpu(cpu->ops->pool_sums(cpu, &weigh));
    for (twin *t : {&kp, &vp, &own, &sums}) *t = twin_copy(*t);
    lse = twin_of(TS_F32, c.A, c.N, 0, 0,
                  [&](long h, long n) { return own.get(h, n) + 2 * test_uniform() - 0.5f; });
    lse = twin_shaped(lse, of_rows);
    for (long h = 0; h < c.A; h++) {
        int32_t of = (int32_t)((h + 1) % 3);
        memcpy(form.bytes->data() + form.first + 4 * h, &of, 4);
    }
    form.send();
    std::vector<uint32_t> bits((size_t)((c.shared ? 1 : c.A) * nb * words));
    auto read = [&](long h, long p, long j) {
        return bits[(size_t)(((c.shared ? 0 : h) * nb + p) * words + j / 32)] >> j % 32 & 1;
    };
    for (long i = 0; i < (c.shared ? 1 : c.A) * nb; i++)
        for (long j = 0; j < nb; j++)
            if (j == i % nb || test_uniform() < 0.5)
                bits[(size_t)(i * words + j / 32)] |= 1u << j % 32;
    ts_rest_linear h = {}, d;
    h.scale = weigh.scale;
    h.every = c.every;
    h.plan.A = c.shared ? 1 : (int)c.A;
    h.plan.nb = (int)nb;
    d = h;
    h.plan.bits.at = (uint64_t)(uintptr_t)bits.data();
    d.plan.bits.at = (uint64_t)(uintptr_t)test_give(bits);
    h.q = q.host, h.k = k.host, h.v = v.host, h.out = out.host;
    d.q = q.device, d.k = k.device, d.v = v.device, d.out = out.device;
    h.pooled_k = kp.host, h.pooled_v = vp.host, h.sums = sums.host, h.own = own.host;
    d.pooled_k = kp.device, d.pooled_v = vp.device, d.sums = sums.device, d.own = own.device;
    h.lse = lse.host, d.lse = lse.device;
    if (c.form) {
        h.form = test_tensor((void *)(uintptr_t)form.host.p.at, TS_I32, {c.A});
        d.form = test_tensor((void *)(uintptr_t)form.device.p.at, TS_I32, {c.A});
    }
    ck_cuda(
        ts_cuda_rest_linear(&d, test_take<char>(ts_cuda_rest_linear_scratch(&d)), test_stream()));
    ck_cpu(cpu->ops->rest_linear(cpu, &h));

    const bool bf16 = c.type == TS_BF16;
    std::vector<double> spread((size_t)(nb * c.D * c.D)), mixed((size_t)(c.D * c.D));
    std::vector<double> within((size_t)(c.N * C));
    for (long hd = 0; hd < c.A; hd++) {
        if (c.form && (hd + 1) % 3 != TS_REST_LINEAR) continue;
        std::fill(spread.begin(), spread.end(), 0);
        for (long n = 0; n < c.N; n++)
            for (long x = 0; x < c.D; x++) {
                double a = k.get(n, hd * c.D + x) - (double)kp.get(n / 64, hd * c.D + x);
                for (long y = 0; y < c.D; y++)
                    spread[(size_t)((n / 64 * c.D + x) * c.D + y)] += std::fabs(
                        a * (v.get(n, hd * c.D + y) - (double)vp.get(n / 64, hd * c.D + y)));
            }
        for (long p = 0; p < nb; p++) {
            const double rows = (double)std::min(c.N - 64 * p, 64L);
            if (c.every && p % c.every) continue;
            std::fill(mixed.begin(), mixed.end(), 0);
            for (long j = 0; j < nb; j++) {
                if (read(hd, p, j)) continue;
                const double w = (double)sums.get(hd * nb + p, j) * h.scale / rows /
                                 (double)std::min(c.N - 64 * j, 64L);
                for (long i = 0; i < c.D * c.D; i++)
                    mixed[(size_t)i] += w * spread[(size_t)(j * c.D * c.D + i)];
            }
            for (long n = 64 * p; n < c.N && n < 64 * p + 64; n++) {
                const double o = own.get(hd, n), l = lse.get(hd, n),
                             share = std::exp(std::fmin(o - l, 0));
                const double off = (double)(64 + nb + c.D + 20) * 0x1p-24 +
                                   (std::fabs(o) + std::fabs(l)) * 0x1p-22 + (bf16 ? 5.1 / 256 : 0);
                for (long e = 0; e < c.D; e++) {
                    double S = 0;
                    for (long x = 0; x < c.D; x++)
                        S += std::fabs((double)q.get(n, hd * c.D + x)) *
                             mixed[(size_t)(x * c.D + e)];
                    within[(size_t)(n * C + hd * c.D + e)] = off * share * S;
                }
            }
        }
    }
    twin_check(
        twin_shaped(out, {c.N, C}), name_of(as) + ", linear", [&](long n, long e, double want) {
            const double off = within[(size_t)(n * C + e)];
            return off == 0 ? 0
                            : off + (bf16 ? twin_step(TS_BF16, want) : std::fabs(want) * 0x1p-22);
        });
}
START_TEST(linear_part)
{
    for (int order = 0; order < TEST_ORDERS; order++) {
        if (order && linears[_i].N > 1000) break;
        test_order(order);
        try_linear(linears[_i]);
    }
}
END_TEST

/* Sums of squares of the same differences in f64, in other orders. */
START_TEST(errors)
{
    heads_case c = heads[_i];
    c.B = 1;
    for (int every = 0; every < 4; every += 3) {
        test_order(every ? 2 : _i % 2);
        twin x = heads_of(c), of = heads_of(c), e = twin_random(TS_F32, 1, c.A);
        ts_head_errors h = {x.host, of.host, every, e.host},
                       d = {x.device, of.device, every, e.device};
        ck_cuda(ts_cuda_head_errors(&d, test_take<char>(ts_cuda_head_errors_scratch(&d)),
                                    test_stream()));
        ck_cpu(cpu->ops->head_errors(cpu, &h));
        twin_check(e, name_of(c), [](long, long, double want) { return 0x1p-23 * want; });
    }
}
END_TEST

/* With ties, and with what is just within the margin and just beyond it. */
START_TEST(choices)
{
    const long A = 70, n = 4;
    for (int stat = 0; stat < 2; stat++) {
        test_order(1 + stat);
        twin e = twin_of(TS_F32, n, A, A + 2, 0,
                         [](long, long) { return std::floor(8 * test_uniform()) / 4; });
        twin choice = twin_room(TS_F32, 1, A), as_number = twin_room(TS_F32, 1, A);
        choice.send();
        as_number.send();
        ts_choose h = {}, d = {};
        h.error = e.host;
        d.error = e.device;
        h.margin = d.margin = stat ? 2 : 1;
        h.choice = test_tensor((void *)(uintptr_t)choice.host.p.at, TS_I32, {A});
        d.choice = test_tensor((void *)(uintptr_t)choice.device.p.at, TS_I32, {A});
        if (stat) h.stat = as_number.host, d.stat = as_number.device;
        ck_cuda(ts_cuda_choose(&d, test_stream()));
        ck_cpu(cpu->ops->choose(cpu, &h));
        ck_assert_msg(twin_fetch(choice) == *choice.bytes, "choices differ");
        ck_assert_msg(twin_fetch(as_number) == *as_number.bytes, "numbers of choices differ");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda rest");
    TCase *t = tcase_create("rest");
    tcase_set_timeout(t, 600);
    tcase_add_checked_fixture(t, open_cpu, close_cpu);
    tcase_add_loop_test(t, means, 0, HEADS);
    tcase_add_loop_test(t, errors, 0, HEADS);
    tcase_add_loop_test(t, weights, 0, HEADS);
    tcase_add_loop_test(t, weights_of_many, 0, 2);
    tcase_add_loop_test(t, linear_part, 0, LINEARS);
    tcase_add_test(t, choices);
    suite_add_tcase(suite, t);
    return testing_main(suite);
}
