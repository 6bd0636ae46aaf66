/* PSNR and SSIM against sums done the slow way, and where the answer is known. */
#include "sampler/tessera-bench.h"
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t state = 5;
static uint8_t byte(void)
{
    state = state * 1664525u + 1013904223u;
    return (uint8_t)(state >> 24);
}

START_TEST(psnr)
{
    uint8_t a[300], b[300];
    for (int i = 0; i < 300; i++) {
        a[i] = (uint8_t)(i % 200);
        b[i] = (uint8_t)(a[i] + 10);
    }
    ck_assert(ts_mse(a, a, 300) == 0 && isinf(ts_psnr(0)));
    ck_assert(ts_mse(a, b, 300) == 100);
    ck_assert(fabs(ts_psnr(100) - 28.1308036) < 1e-6); /* 10 log10(65025 / 100) */
    b[0] = a[0];
    ck_assert(fabs(ts_mse(a, b, 300) - 100.0 * 299 / 300) < 1e-9);
}
END_TEST

static double luma(const uint8_t *p) { return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]; }

/* Window by window, two-dimensional weights, central moments. */
static double slow(const uint8_t *a, const uint8_t *b, int w, int h, int n)
{
    double sum = 0, weight[11][11], all = 0, c1 = 6.5025, c2 = 58.5225;
    int places = 0;
    for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++)
            all += weight[y][x] = exp(-((y - n / 2) * (y - n / 2) + (x - n / 2) * (x - n / 2)) /
                                      4.5);
    for (int y0 = 0; y0 + n <= h; y0++)
        for (int x0 = 0; x0 + n <= w; x0++, places++) {
            double ma = 0, mb = 0, va = 0, vb = 0, ab = 0;
            for (int y = 0; y < n; y++)
                for (int x = 0; x < n; x++) {
                    long i = ((long)(y0 + y) * w + x0 + x) * 3;
                    ma += weight[y][x] / all * luma(a + i);
                    mb += weight[y][x] / all * luma(b + i);
                }
            for (int y = 0; y < n; y++)
                for (int x = 0; x < n; x++) {
                    long i = ((long)(y0 + y) * w + x0 + x) * 3;
                    double da = luma(a + i) - ma, db = luma(b + i) - mb, k = weight[y][x] / all;
                    va += k * da * da;
                    vb += k * db * db;
                    ab += k * da * db;
                }
            sum += (2 * ma * mb + c1) * (2 * ab + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
        }
    return sum / places;
}

START_TEST(ssim)
{
    static const int sizes[][3] = {{11, 11, 11}, {24, 17, 11}, {13, 30, 11},
                                   {8, 20, 7},   {1, 5, 1},    {5, 5, 5}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int w = sizes[s][0], h = sizes[s][1];
        uint8_t a[w * h * 3], b[w * h * 3];
        for (int i = 0; i < w * h * 3; i++) {
            a[i] = byte();
            b[i] = (uint8_t)(s % 2 ? byte() : a[i] / 2 + 40);
        }
        ck_assert(fabs(ts_ssim(a, a, w, h) - 1) < 1e-12);
        double got = ts_ssim(a, b, w, h), want = slow(a, b, w, h, sizes[s][2]);
        /* moments about zero of numbers below 65025 lose 1e-11 */
        ck_assert_msg(fabs(got - want) < 1e-9, "%dx%d: %.12f, expected %.12f", w, h, got, want);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *tc = tcase_create("metrics");
    tcase_add_test(tc, psnr);
    tcase_add_test(tc, ssim);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
