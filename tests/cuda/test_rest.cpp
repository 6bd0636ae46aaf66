/* What stands for the blocks that a plan leaves out, on the device: means, errors of heads, choices
 * by them, against the plain C of the CPU. */
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
    tcase_add_test(t, choices);
    suite_add_tcase(suite, t);
    return testing_main(suite);
}
