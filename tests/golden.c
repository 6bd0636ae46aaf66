#include "tests/golden.h"

#include "backend/suffix.h"

#include <check.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t fnv(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

double golden_u(const char *name, uint32_t j)
{
    uint32_t x = fnv(name) + j * 0x9E3779B9u;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x / 4294967296.0 * 2 - 1;
}

static long product(int nd, const long *dim)
{
    long n = 1;
    for (int i = 0; i < nd; i++) n *= dim[i];
    return n;
}

void golden_weight(const char *name, int nd, const long *dim, float *out)
{
    long n = product(nd, dim);
    double a = sqrt(3.0 * (double)dim[0] / (double)n), b = 0;
    if (ts_ends_with(name, "scale_shift_table"))
        a = 0.3;
    else if (ts_ends_with(name, "gamma") || (nd == 1 && ts_ends_with(name, "weight"))) {
        a = 0.2;
        b = 1;
    } else if (ts_ends_with(name, "pos_embed"))
        a = 0.1;
    else if (nd == 1)
        a = 0.1;
    for (long j = 0; j < n; j++) out[j] = (float)(b + a * golden_u(name, (uint32_t)j));
}

void golden_input(const char *name, double scale, long n, float *out)
{
    for (long j = 0; j < n; j++) out[j] = (float)(scale * golden_u(name, (uint32_t)j));
}

static int dims(va_list ap, long dim[5])
{
    int nd = 0;
    for (long d; (d = va_arg(ap, long)) != 0;) dim[nd++] = d;
    return nd;
}

void golden_put(ts_bag *bag, const char *name, ...)
{
    long dim[5];
    va_list ap;
    va_start(ap, name);
    int nd = dims(ap, dim);
    va_end(ap);
    golden_weight(name, nd, dim, ts_bag_put(bag, name, TS_F32, nd, dim, NULL));
}

void golden_put_plain(ts_bag *bag, const char *name, ...)
{
    long dim[5];
    va_list ap;
    va_start(ap, name);
    int nd = dims(ap, dim);
    va_end(ap);
    golden_input(name, 1.0, product(nd, dim), ts_bag_put(bag, name, TS_F32, nd, dim, NULL));
}

void golden_put_linear(ts_bag *bag, long out, long in, const char *name, ...)
{
    char full[160];
    va_list ap;
    va_start(ap, name);
    int n = vsnprintf(full, sizeof full - 8, name, ap);
    va_end(ap);
    ck_assert(n > 0 && n < (int)sizeof full - 8);
    strcpy(full + n, ".weight");
    golden_put(bag, full, out, in, 0L);
    strcpy(full + n, ".bias");
    golden_put(bag, full, out, 0L);
}

static void near(const char *what, const char *which, int i, double got, double want, double tol)
{
    ck_assert_msg(fabs(got - want) <= tol, "%s: %s[%d] is %.6f, expected %.6f", what, which, i, got,
                  want);
}

void golden_expect(const char *what, const float *x, long n, const double first[6],
                   const double last[2], double mean, double rms, double tol)
{
    double s = 0, q = 0;
    for (long i = 0; i < n; i++) {
        s += x[i];
        q += (double)x[i] * x[i];
    }
    for (int i = 0; i < 6; i++) near(what, "first", i, x[i], first[i], tol);
    for (int i = 0; i < 2; i++) near(what, "last", i, x[n - 2 + i], last[i], tol);
    near(what, "mean", 0, s / (double)n, mean, tol);
    near(what, "rms", 0, sqrt(q / (double)n), rms, tol);
}
