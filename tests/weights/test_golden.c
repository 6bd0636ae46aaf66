/* The golden numbers' own check values, so that a wrong hash is not looked for in a model. */
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>

START_TEST(hash_and_rules)
{
    static const double u[3] = {-0.584938014857471, -0.36873221723362803, 0.3051553233526647};
    static const float x[4] = {0.71714199f, 1.26526606f, -0.40724468f, 0.25573301f};
    float got[12];
    /* u of element 0 is mix(h): undone here, it gives FNV-1a of the name */
    uint32_t h = (uint32_t)llround((golden_u("proj_out.weight", 0) + 1) / 2 * 4294967296.0);
    h ^= h >> 16;
    h *= 0x43021123u;
    h ^= h >> 15 ^ h >> 30;
    h *= 0x1d69e2a5u;
    h ^= h >> 16;
    ck_assert_uint_eq(h, 2416752477u);
    for (uint32_t j = 0; j < 3; j++)
        ck_assert_double_eq_tol(golden_u("proj_out.weight", j), u[j], 1e-15);
    golden_input("input.x", 1.7, 4, got);
    for (int j = 0; j < 4; j++) ck_assert_float_eq_tol(got[j], x[j], 5e-9f);
    struct {
        const char *name;
        int nd;
        long dim[2];
        double base, scale;
    } rule[] = {
        {"blocks.0.scale_shift_table", 2, {3, 4}, 0, 0.3},
        {"x.gamma", 2, {3, 4}, 1, 0.2},
        {"norm.weight", 1, {12, 0}, 1, 0.2},
        {"pos_embed", 2, {3, 4}, 0, 0.1},
        {"norm.bias", 1, {12, 0}, 0, 0.1},
        {"proj_out.weight", 2, {3, 4}, 0, sqrt(3.0 / 4)},
    };
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++) {
        golden_weight(rule[i].name, rule[i].nd, rule[i].dim, got);
        for (uint32_t j = 0; j < 12; j++)
            ck_assert_float_eq(got[j],
                               (float)(rule[i].base + rule[i].scale * golden_u(rule[i].name, j)));
    }
}
END_TEST

START_TEST(bags)
{
    ts_bag *b = ts_bag_new();
    long n;
    golden_put(b, "proj_out.weight", 2L, 3L, 2L, 0L);
    golden_put_plain(b, "shared.weight", 5L, 1L, 0L);
    const float *w = testing_f32(b, "proj_out.weight", &n);
    ck_assert(n == 12 && w[11] == (float)(sqrt(0.5) * golden_u("proj_out.weight", 11)));
    w = testing_f32(b, "shared.weight", &n);
    ck_assert(n == 5 && w[4] == (float)golden_u("shared.weight", 4));
    ts_bag_free(b);
}
END_TEST

START_TEST(relative_error)
{
    const float a[2] = {3, 4}, b[2] = {3, 4.5f}, bad[2] = {3, NAN}, zero[2] = {0, 0};
    ck_assert_double_eq(testing_rel(a, a, 2), 0);
    ck_assert_double_eq_tol(testing_rel(b, a, 2), 0.1, 1e-12);
    ck_assert(isnan(testing_rel(bad, a, 2)) && isnan(testing_rel(a, bad, 2)));
    ck_assert(isinf(testing_rel(a, zero, 2)) && testing_rel(zero, zero, 2) == 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("golden");
    TCase *t = tcase_create("all");
    tcase_add_test(t, hash_and_rules);
    tcase_add_test(t, bags);
    tcase_add_test(t, relative_error);
    suite_add_tcase(s, t);
    return testing_main(s);
}
