/* Philox 4x32-10 against the known answers of its authors' Random123 (kat_vectors), and the normal
 * numbers made of it. */
#include "backend/philox.h"
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

START_TEST(known_answers)
{
    uint32_t w[4], zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    ts_philox(0, 0, 0, w);
    for (int i = 0; i < 4; i++) ck_assert_uint_eq(w[i], zero[i]);
}
END_TEST

START_TEST(any_part_alone)
{
    float a[1000], b[1000];
    ts_normals(7, 0, 0, a, 1000);
    ts_normals(7, 0, 0, b, 333);
    ck_assert(!memcmp(a, b, 333 * sizeof *a));
    ts_normals(8, 0, 0, b, 1000);
    int same = 0;
    for (int i = 0; i < 1000; i++) same += a[i] == b[i];
    ck_assert_int_lt(same, 3);
    ts_normals(7 + (1ull << 40), 0, 0, b, 1000); /* the high word of the seed counts */
    ck_assert(memcmp(a, b, sizeof a));
}
END_TEST

START_TEST(moments)
{
    enum { N = 1 << 20 };
    float *x = malloc(N * sizeof *x);
    double s[5] = {0}, pair = 0;
    ts_normals(42, 0, 0, x, N);
    for (int i = 0; i < N; i++) {
        for (int p = 1; p < 5; p++) s[p] += pow(x[i], p);
        if (i & 1) pair += x[i] * x[i - 1];
        ck_assert(fabs(x[i]) < 7);
    }
    /* standard errors of the moments of N normal numbers: sqrt(1, 2, 15, 96) / sqrt(N); five of
     * them */
    double e = 5 / sqrt(N);
    ck_assert_msg(fabs(s[1] / N) < e, "mean %g", s[1] / N);
    ck_assert_msg(fabs(s[2] / N - 1) < sqrt(2) * e, "variance %g", s[2] / N);
    ck_assert_msg(fabs(s[3] / N) < sqrt(15) * e, "third moment %g", s[3] / N);
    ck_assert_msg(fabs(s[4] / N - 3) < sqrt(96) * e, "fourth moment %g", s[4] / N);
    ck_assert_msg(fabs(pair / (N / 2)) < sqrt(2) * e, "neighbours correlate: %g", pair / (N / 2));
    free(x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("noise");
    TCase *tc = tcase_create("noise");
    tcase_add_test(tc, known_answers);
    tcase_add_test(tc, any_part_alone);
    tcase_add_test(tc, moments);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
