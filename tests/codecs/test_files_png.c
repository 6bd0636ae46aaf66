/* Pixels of PNGs: rounded to the nearest level, and enlarged. */
#include "test_files.h"

/* ---- levels ---- */

START_TEST(test_png_bytes)
{
    enum { W = 37, H = 21 };
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    float rgb[W * H * 3];
    int w, h;
    /* every level and every middle between two */
    for (int i = 0; i < W * H * 3; i++) rgb[i] = (float)(i % 511) / 510;
    rgb[0] = -1;
    rgb[1] = 2;
    rgb[2] = NAN;
    rgb[3] = INFINITY;
    rgb[4] = -INFINITY;
    write_still(file, plain(), W, H, 1, rgb);
    uint8_t *got = read_png(file, &w, &h);
    ck_assert_int_eq(w, W);
    ck_assert_int_eq(h, H);
    ck_assert_int_eq(got[0], 0);
    ck_assert_int_eq(got[1], 255);
    ck_assert_int_eq(got[2], 0);
    ck_assert_int_eq(got[3], 255);
    ck_assert_int_eq(got[4], 0);
    for (int i = 5; i < W * H * 3; i++) ck_assert_int_eq(got[i], (int)rintf(rgb[i] * 255));
    check_png_tool(file);
    ck_assert_int_eq(files_in(d), 1);
    free(got);
    free(d);
}
END_TEST

START_TEST(test_png_halves_to_even)
{
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    /* floats whose product with 255 is exactly a half: 0.5 -> 127.5 -> 128; 0.1, 0.3, 0.7 and 0.9
     * are nearest to 25.5, 76.5, 178.5 and 229.5 */
    float rgb[6] = {0.5f, 0.1f, 0.3f, 0.7f, 0.9f, 1};
    int w, h, halves = 0;
    write_still(file, plain(), 2, 1, 1, rgb);
    uint8_t *got = read_png(file, &w, &h);
    for (int i = 0; i < 6; i++) {
        float v = rgb[i] * 255;
        bool half = v - floorf(v) == 0.5f;
        halves += half;
        if (half) ck_assert_int_eq(got[i] % 2, 0);
        ck_assert_int_eq(got[i], (int)rintf(v));
    }
    ck_assert_int_ge(halves, 1);
    ck_assert_int_eq(got[0], 128);
    free(got);
    free(d);
}
END_TEST

/* ---- enlarging ---- */

START_TEST(test_scale_flat)
{
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    for (int v = 0; v < 256; v += 5) {
        ts_file_options o = plain();
        int w, h;
        float *rgb = flat(5, 3, (float)v / 255, (float)(255 - v) / 255, 0.2f);
        o.scale = 3;
        o.overwrite = true;
        write_still(file, o, 5, 3, 1, rgb);
        uint8_t *got = read_png(file, &w, &h);
        ck_assert_int_eq(w, 15);
        ck_assert_int_eq(h, 9);
        for (int i = 0; i < 15 * 9; i++) {
            ck_assert_int_eq(got[3 * i], v);
            ck_assert_int_eq(got[3 * i + 1], 255 - v);
            ck_assert_int_eq(got[3 * i + 2], 51);
        }
        free(got);
        free(rgb);
    }
    free(d);
}
END_TEST

/* A plane stays the plane sampled at (x + 1/2) / n - 1/2. Lanczos of 3 lobes, its weights made to
 * sum to one, misses a slope by at most 2% of a step: below 0.1 at a slope of 4; with two roundings
 * to 8 bits that is 1.1. Further than 3 pixels from the edge. */
START_TEST(test_scale_ramp)
{
    enum { W = 48, H = 32, N = 4 };
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    ts_file_options o = plain();
    float *rgb = malloc(sizeof *rgb * W * H * 3);
    int w, h;
    for (int i = 0; i < W * H; i++) {
        rgb[3 * i] = (float)(4 * (i % W)) / 255;
        rgb[3 * i + 1] = (float)(4 * (i / W)) / 255;
        rgb[3 * i + 2] = (float)(2 * (i % W) + 3 * (i / W)) / 255;
    }
    o.scale = N;
    write_still(file, o, W, H, 1, rgb);
    uint8_t *got = read_png(file, &w, &h);
    ck_assert_int_eq(w, W * N);
    ck_assert_int_eq(h, H * N);
    for (int y = 3 * N; y < h - 3 * N; y++)
        for (int x = 3 * N; x < w - 3 * N; x++) {
            double u = (x + 0.5) / N - 0.5, v = (y + 0.5) / N - 0.5;
            const uint8_t *p = got + ((size_t)y * w + x) * 3;
            ck_assert_double_le(fabs(p[0] - 4 * u), 1.1);
            ck_assert_double_le(fabs(p[1] - 4 * v), 1.1);
            ck_assert_double_le(fabs(p[2] - 2 * u - 3 * v), 1.1);
        }
    free(got);
    free(rgb);
    free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("files_png");
    TCase *c = tcase_create("files_png");
    suite_add_tcase(s, c);
    tcase_add_test(c, test_png_bytes);
    tcase_add_test(c, test_png_halves_to_even);
    tcase_add_test(c, test_scale_flat);
    tcase_add_test(c, test_scale_ramp);
    return testing_main(s);
}
