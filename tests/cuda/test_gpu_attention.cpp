/* Attention as the host side calls it: the kernel that each call takes, those of any type and head
 * width, block sums and block means, against plain C. */
#include "backend/cuda/attention_launch.h"
#include "tests/cuda/attention_case.h"

static const ts_cuda_chip ampere = {8, 0, 108, 166912}, ada = {8, 9, 128, 101376},
                          hopper = {9, 0, 132, 232448}, small = {8, 9, 3, 101376};

/* ---- the choice ---- */
static ts_attention call_of(ts_dtype type, int D, bool sums, bool bias, bool plan = false)
{
    static const ts_plan *const plans[1] = {};
    ts_attention a = {};
    if (plan) a.plan = plans;
    a.q = a.k = a.v = a.out = test_tensor((void *)256, type, {1, 200, 3, D}, 3 * D);
    if (sums) a.sums = test_tensor((void *)256, TS_F32, {1, 3, 4, 4});
    if (bias) a.bias = test_tensor((void *)256, TS_F32, {1, 1, 200});
    return a;
}
static const struct {
    ts_dtype type;
    int D;
    bool sums, bias, plan;
    const char *ampere, *ada, *hopper; /* "": attention_f32.cu */
} choices[] = {
    {TS_BF16, 128, false, false, false, "flash128_m2_w4_s1", "flash128_m1_w4_s1",
     "flash128_m2_w4_s1"},
    {TS_BF16, 128, true, false, false, "flash128_m2_w4_s1", "flash128_m1_w4_s1",
     "flash128_m2_w4_s1"},
    {TS_BF16, 128, false, true, false, "flash128_m1_w4_s1", "flash128_m1_w4_s1",
     "flash128_m1_w4_s1"},
    {TS_BF16, 72, false, false, false, "flash80_m1_w4_s2", "flash80_m1_w4_s2", "flash80_m1_w4_s2"},
    {TS_BF16, 64, false, false, false, "flash64_m2_w4_s2", "flash64_m1_w4_s2", "flash64_m2_w4_s2"},
    {TS_BF16, 16, true, false, false, "flash32_m1_w4_s2", "flash32_m1_w4_s2", "flash32_m1_w4_s2"},
    {TS_BF16, 128, false, false, true, "flash128_m2_w2_s1", "flash128_m1_w4_s1",
     "flash128_m2_w2_s1"},
    {TS_BF16, 64, false, false, true, "flash64_m1_w4_s2", "flash64_m1_w4_s2", "flash64_m1_w4_s2"},
    {TS_BF16, 64, true, true, false, "", "", ""},
    {TS_BF16, 136, false, false, false, "", "", ""},
    {TS_BF16, 12, false, false, false, "", "", ""},
    {TS_F32, 64, false, false, false, "", "", ""},
};
START_TEST(chip_and_call_choose_the_kernel)
{
    for (auto &c : choices) {
        ts_attention a = call_of(c.type, c.D, c.sums, c.bias, c.plan);
        const ts_cuda_chip *chips[] = {&ampere, &ada, &hopper};
        const char *want[] = {c.ampere, c.ada, c.hopper};
        for (int i = 0; i < 3; i++) {
            const ts_flash_kernel *f = ts_flash_choice(&a, chips[i]);
            ck_assert_str_eq(f ? f->name : "", want[i]);
            ck_assert(!f || (f->sums == c.sums && f->bias == c.bias));
        }
    }
    /* pooled keys, and rows of some blocks alone, which 128 rows would not be */
    ts_attention p = call_of(TS_BF16, 128, false, false, true), e = p;
    p.pooled_k = test_tensor((void *)256, TS_F32, {1, 4, 3, 128});
    e.every = 8;
    ck_assert_str_eq(ts_flash_choice(&p, &hopper)->name, "flash128_m2_w2_s1");
    ck_assert_str_eq(ts_flash_choice(&e, &ada)->name, "flash128_m1_w4_s1");
    ck_assert(ts_flash_choice(&p, &hopper)->rest && ts_flash_choice(&e, &hopper)->rest);
    e.sums = test_tensor((void *)256, TS_F32, {1, 3, 4, 4});
    ck_assert_ptr_null(ts_flash_choice(&e, &hopper));
    /* rows or an address that are no whole chunks of 16 bytes */
    ts_attention a = call_of(TS_BF16, 128, false, false);
    a.k.p.at += 2;
    ck_assert_ptr_null(ts_flash_choice(&a, &ampere));
    a = call_of(TS_BF16, 128, false, false);
    a.v.ld += 4;
    ck_assert_ptr_null(ts_flash_choice(&a, &ampere));
}
END_TEST

/* ---- whole calls ---- */
struct call_case {
    const char *label;
    attention_shape s;
    int longer;
};
/*   type B  A  Nq  Nk  D keep shared sums bias nk in_place pad spread */
static const call_case calls[] = {
    {"f32, D 16", {TS_F32, 2, 2, 100, 100, 16, 0.5, 0, 1, 0, 70, 0, 3, 1}, 0},
    {"f32, D 5", {TS_F32, 1, 1, 3, 2, 5, 1, 0, 0, 0, 0, 0, 0, 1}, 0},
    {"f32, D 64, in place", {TS_F32, 1, 2, 150, 150, 64, 0.4, 1, 1, 0, 0, 1, 0, 3}, 0},
    {"f32, D 72, bias", {TS_F32, 2, 2, 70, 130, 72, 1, 0, 0, 1, 100, 0, 0, 1}, 0},
    {"f32, D 24, infinite bias", {TS_F32, 1, 2, 70, 200, 24, 1, 0, 1, 3, 0, 0, 0, 1}, 0},
    {"f32, D 512", {TS_F32, 1, 1, 70, 70, 512, 1, 0, 0, 0, 0, 1, 0, 1}, 0},
    {"f32, D 384", {TS_F32, 1, 1, 40, 130, 384, 1, 0, 0, 0, 0, 0, 0, 1}, 1},
    {"f32, D 200", {TS_F32, 1, 1, 40, 70, 200, 1, 0, 0, 0, 0, 0, 0, 1}, 0},
    {"f32, D 530", {TS_F32, 1, 1, 20, 70, 530, 1, 0, 1, 0, 0, 0, 0, 1}, 0},
    {"f32, words", {TS_F32, 1, 1, 2100, 2100, 8, 0.03, 0, 1, 0, 0, 0, 0, 1}, 0},
    {"f32, no keys", {TS_F32, 2, 1, 70, 70, 16, 1, 0, 1, 0, -1, 0, 0, 1}, 0},
    {"bf16, D 136", {TS_BF16, 1, 1, 70, 70, 136, 1, 0, 1, 0, 0, 0, 0, 1}, 0},
    {"bf16, D 12", {TS_BF16, 2, 3, 100, 100, 12, 0.5, 0, 1, 0, 30, 1, 1, 1}, 0},
    {"bf16, D 64, sums and bias", {TS_BF16, 1, 2, 70, 100, 64, 1, 0, 1, 2, 0, 0, 0, 1}, 0},
    {"bf16, D 128", {TS_BF16, 2, 2, 150, 150, 128, 0.5, 0, 1, 0, 0, 1, 0, 1}, 0},
    {"bf16, D 24", {TS_BF16, 1, 3, 100, 100, 24, 0.5, 0, 0, 0, 0, 0, 0, 1}, 0},
    {"f32, rest", {TS_F32, 3, 4, 330, 330, 24, 0.4, 0, 0, 0, 0, 1, 3, 1, 2}, 0},
    {"f32, rest, masked", {TS_F32, 1, 2, 200, 200, 40, 0.3, 1, 0, 0, 50, 0, 0, 1, 1}, 0},
    {"f32, rest, words", {TS_F32, 1, 1, 4160, 4160, 8, 0.02, 0, 0, 0, 0, 0, 0, 1, 1}, 1},
    {"f32, rest, D 200", {TS_F32, 1, 1, 200, 200, 200, 0.4, 0, 0, 0, 0, 0, 0, 1, 1}, 0},
    {"f32, rest, D 530", {TS_F32, 1, 1, 130, 130, 530, 0.4, 0, 0, 0, 0, 0, 0, 1, 1}, 0},
    {"bf16, rest, D 12", {TS_BF16, 1, 3, 200, 200, 12, 0.4, 0, 0, 0, 0, 0, 0, 1, 2}, 0},
    {"bf16, rest, D 128", {TS_BF16, 2, 3, 200, 200, 128, 0.4, 0, 0, 0, 0, 0, 0, 1, 2}, 0},
    {"f32, every third", {TS_F32, 2, 2, 460, 460, 32, 0.4, 0, 0, 0, 0, 0, 0, 1, 2, 3}, 0},
    {"f32, every second, sums", {TS_F32, 1, 2, 200, 200, 16, 1, 0, 1, 0, 0, 0, 0, 1, 0, 2}, 0},
    {"bf16, every second, bias", {TS_BF16, 1, 2, 200, 200, 64, 1, 0, 0, 2, 0, 0, 0, 1, 0, 2}, 0},
    {"bf16, every third, D 128", {TS_BF16, 1, 2, 460, 460, 128, 0.4, 0, 0, 0, 0, 0, 0, 1, 1, 3}, 0},
};
START_TEST(call_is_within_its_bounds)
{
    const call_case *t = calls + _i;
    if (t->longer && !test_long()) return;
    test_order(_i % TEST_ORDERS);
    attention_case c = {};
    attention_make(&c, t->s);
    size_t scratch = ts_cuda_attention_scratch(&c.device, &small);
    if (_i % 2 && t->s.sums) { /* nobody asks for lse: the scratch has room for it */
        c.device.lse = {};
        scratch = ts_cuda_attention_scratch(&c.device, &small);
    }
    ck_cuda(ts_cuda_attention(&c.device, &small, test_take<char>(scratch), test_stream()));
    std::string found = test_found();
    ck_assert_msg(found.empty(), "%s: %s", t->label, found.c_str());
    ts_attention_ref(&c.host);
    attention_worst worst = attention_compare(c);
    ck_assert_msg(worst.share <= 1, "%s: %.2f of the bound: %s", t->label, worst.share,
                  worst.what.c_str());
    if (test_verbose())
        printf("%s: %.2f of the bound: %s\n", t->label, worst.share, worst.what.c_str());
}
END_TEST

/* ---- block sums of a known lse ---- */
static const call_case searches[] = {
    {"bf16, D 64", {TS_BF16, 2, 2, 200, 200, 64, 1, 0, 1, 0, 0, 0, 8, 1}, 0},
    {"bf16, D 128", {TS_BF16, 1, 2, 130, 130, 128, 1, 0, 1, 0, 0, 0, 0, 1}, 0},
    {"bf16, D 72", {TS_BF16, 1, 1, 64, 64, 72, 1, 0, 1, 0, 0, 0, 0, 2}, 0},
    {"bf16, D 16", {TS_BF16, 1, 2, 1, 1, 16, 1, 0, 1, 0, 0, 0, 0, 1}, 0},
    {"bf16, D 12", {TS_BF16, 2, 1, 100, 100, 12, 1, 0, 1, 0, 0, 0, 0, 1}, 0},
    {"f32, D 40", {TS_F32, 1, 2, 150, 150, 40, 1, 0, 1, 0, 0, 0, 3, 1}, 0},
};
/* lse as it is, of another time (every logit off by one, as x - lse is), and so low that exponents
 * stop at 115 */
static const float shifts[] = {0, 1.5f, -200};

START_TEST(block_sums_are_within_their_bounds)
{
    const call_case *t = searches + _i;
    attention_case c = {};
    attention_make(&c, t->s);
    const attention_shape &s = t->s;
    ts_attention_ref(&c.host);
    const std::vector<float> lse = c.lse;
    const size_t n = c.sums.size();
    for (float shift : shifts) {
        test_order((int)(&shift - shifts));
        for (size_t i = 0; i < lse.size(); i++) c.lse[i] = lse[i] + shift;
        ts_block_sums host = {c.host.q, c.host.k, c.host.scale, c.host.lse, c.host.sums};
        ts_block_sums device = {c.device.q, c.device.k, c.device.scale, {}, c.device.sums};
        device.lse = c.host.lse;
        device.lse.p.at = (uint64_t)(uintptr_t)test_give(c.lse);
        ck_cuda(ts_cuda_block_sums(&device, &small, test_stream()));
        std::vector<float> got = test_fetch((float *)(uintptr_t)c.device.sums.p.at, n);
        ts_block_sums_ref(&host);
        for (int i = 0; i < s.B * s.A * c.nq; i++) {
            const int b = i / (s.A * c.nq), h = i / c.nq % s.A;
            double dx = 0, most = 0;
            for (int r = i % c.nq * 64; r < s.Nq && r < i % c.nq * 64 + 64; r++) {
                dx = fmax(dx, attention_bound(c, b, h, r).most);
                most = fmax(most, fabs((double)c.lse[(size_t)((b * s.A + h) * s.Nq + r)]));
            }
            for (int j = 0; j < c.nkb; j++) {
                const size_t at = (size_t)(i * c.nkb + j);
                /* a logit's error, lse's two roundings and the difference's, 2^x, 4096 additions of
                 * which a thread does 32 */
                double bound = c.sums[at] * (M_LN2 * dx + 3 * 0x1p-24 * (2 * most + 400) + 0x1p-21 +
                                             48 * 0x1p-24);
                double off = fabs((double)got[at] - c.sums[at]);
                ck_assert_msg(off <= bound, "%s, shift %g, row %d, block %d: %g, not %g (bound %g)",
                              t->label, shift, i, j, got[at], c.sums[at], bound);
            }
        }
    }
}
END_TEST

/* ---- block means ---- */
static const struct {
    ts_dtype type;
    int B, A, N, D, pad;
} means[] = {
    {TS_BF16, 2, 3, 200, 24, 0},
    {TS_F32, 1, 2, 1100, 5, 1},
    {TS_F32, 1, 1, 1, 1, 0},
    {TS_BF16, 1, 2, 129, 200, 8},
};
START_TEST(block_means_are_within_their_bounds)
{
    auto m = means[_i];
    const int nb = (m.N + 63) / 64;
    const long ld = (long)m.A * m.D + m.pad;
    const std::vector<long> dim = {m.B, m.N, m.A, m.D};
    test_numbers q = test_round(test_randoms((size_t)(m.B * m.N * ld), 1), m.type);
    test_numbers k = test_round(test_randoms((size_t)(m.B * m.N * ld), 1), m.type);
    const size_t n = (size_t)(m.B * m.A * nb * nb);
    float *scores = test_take<float>(n);
    ts_block_means a = {test_tensor(test_give(q.bytes), m.type, dim, ld),
                        test_tensor(test_give(k.bytes), m.type, dim, ld),
                        test_tensor(scores, TS_F32, {m.B, m.A, nb, nb})};
    size_t scratch = ts_cuda_block_means_scratch(&a);
    test_order(_i % TEST_ORDERS);
    ck_cuda(ts_cuda_block_means(&a, test_take<char>(scratch), test_stream()));
    std::vector<float> got = test_fetch(scores, n);
    /* means of rows in double, and of their absolute values */
    auto mean = [&](const test_numbers &x, int b, int h, int block, int d, bool abs) {
        double sum = 0;
        int first = block * 64, end = first + 64 < m.N ? first + 64 : m.N;
        for (int r = first; r < end; r++) {
            double v = x.f[(size_t)((b * m.N + r) * ld + h * m.D + d)];
            sum += abs ? fabs(v) : v;
        }
        return sum / (end - first);
    };
    for (int i = 0; i < m.B * m.A; i++)
        for (int p = 0; p < nb; p++)
            for (int j = 0; j < nb; j++) {
                double want = 0, terms = 0;
                for (int d = 0; d < m.D; d++) {
                    int b = i / m.A, h = i % m.A;
                    want += mean(q, b, h, p, d, false) * mean(k, b, h, j, d, false);
                    terms += mean(q, b, h, p, d, true) * mean(k, b, h, j, d, true);
                }
                double off = fabs(got[(size_t)((i * nb + p) * nb + j)] - want);
                double bound = (2 * 65 + m.D) * 0x1p-24 * terms;
                ck_assert_msg(off <= bound, "head %d, %d, %d: off by %g, bound %g", i, p, j, off,
                              bound);
            }
}
END_TEST

static void open_chip(void)
{
    test_order_default();
    ck_cuda(ts_cuda_attention_init(&small));
}

int main(void)
{
    Suite *s = suite_create("gpu_attention");
    TCase *c = tcase_create("attention");
    tcase_set_timeout(c, 600);
    tcase_add_checked_fixture(c, open_chip, test_release);
    tcase_add_test(c, chip_and_call_choose_the_kernel);
    tcase_add_loop_test(c, call_is_within_its_bounds, 0, sizeof calls / sizeof *calls);
    tcase_add_loop_test(c, block_sums_are_within_their_bounds, 0,
                        sizeof searches / sizeof *searches);
    tcase_add_loop_test(c, block_means_are_within_their_bounds, 0, sizeof means / sizeof *means);
    suite_add_tcase(s, c);
    return testing_main(s);
}
