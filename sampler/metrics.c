/* How near one clip is to another: PSNR of 8-bit samples, and SSIM of luma (Wang, Bovik, Sheikh,
 * Simoncelli, IEEE TIP 13(4), 2004): a Gaussian window of 11 pixels, sigma 1.5, K1 0.01, K2 0.03,
 * averaged over the places where the window fits. */
#include "sampler/tessera-bench.h"

#include <math.h>
#include <stdlib.h>

double ts_mse(const uint8_t *a, const uint8_t *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return n ? sum / (double)n : 0;
}

double ts_psnr(double mse) { return mse > 0 ? 10 * log10(255.0 * 255.0 / mse) : INFINITY; }

enum { WINDOW = 11 };

/* Weighted means over windows that fit: [h, w] -> [h - n + 1, w - n + 1], first along rows, then
 * along columns. */
static void blur_plane(const double *x, int w, int h, const double *g, int n, double *rows,
                       double *out)
{
    int ow = w - n + 1, oh = h - n + 1;
    for (int y = 0; y < h; y++)
        for (int i = 0; i < ow; i++) {
            double sum = 0;
            for (int k = 0; k < n; k++) sum += g[k] * x[(long)y * w + i + k];
            rows[(long)y * ow + i] = sum;
        }
    for (int y = 0; y < oh; y++)
        for (int i = 0; i < ow; i++) {
            double sum = 0;
            for (int k = 0; k < n; k++) sum += g[k] * rows[(long)(y + k) * ow + i];
            out[(long)y * ow + i] = sum;
        }
}

static int make_window(int w, int h, double *g)
{
    int n = w < h ? w : h;
    double sum = 0;
    n = n > WINDOW ? WINDOW : n - (n % 2 == 0);
    for (int k = 0; k < n; k++)
        sum += g[k] = exp(-(double)(k - n / 2) * (k - n / 2) / (2 * 1.5 * 1.5));
    for (int k = 0; k < n; k++) g[k] /= sum;
    return n;
}

double ts_ssim(const uint8_t *a, const uint8_t *b, int w, int h)
{
    enum { X, Y, XX, YY, XY, MAPS };
    const double c1 = 0.01 * 255 * 0.01 * 255, c2 = 0.03 * 255 * 0.03 * 255;
    double g[WINDOW], sum = 0;
    long n = (long)w * h;
    int size = make_window(w, h, g);
    double *store = malloc((size_t)n * (2 * MAPS + 1) * sizeof *store), *map[MAPS], *mean[MAPS],
           *rows = store;
    if (!store) return NAN;
    for (int m = 0; m < MAPS; m++) {
        map[m] = store + (1 + m) * n;
        mean[m] = store + (1 + MAPS + m) * n;
    }
    for (long i = 0; i < n; i++) {
        double x = 0.299 * a[3 * i] + 0.587 * a[3 * i + 1] + 0.114 * a[3 * i + 2],
               y = 0.299 * b[3 * i] + 0.587 * b[3 * i + 1] + 0.114 * b[3 * i + 2];
        map[X][i] = x;
        map[Y][i] = y;
        map[XX][i] = x * x;
        map[YY][i] = y * y;
        map[XY][i] = x * y;
    }
    for (int m = 0; m < MAPS; m++) blur_plane(map[m], w, h, g, size, rows, mean[m]);
    long places = (long)(w - size + 1) * (h - size + 1);
    for (long i = 0; i < places; i++) {
        double x = mean[X][i], y = mean[Y][i], xx = mean[XX][i] - x * x, yy = mean[YY][i] - y * y,
               xy = mean[XY][i] - x * y;
        sum += (2 * x * y + c1) * (2 * xy + c2) / ((x * x + y * y + c1) * (xx + yy + c2));
    }
    free(store);
    return sum / (double)places;
}
