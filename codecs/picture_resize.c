/* Resampling as Pillow's (libImaging/Resample.c, MIT-CMU, algorithm): an axis at a time, each pass
 * rounded to 8 bits. With scale = from / to and f = max(scale, 1), place i of an axis is at
 * c = (i + 1/2) scale and reads the places j of [c - s f + 1/2, c + s f + 1/2) with weights
 *
 *   w_j = k((j - c + 1/2) / f) / sum,  W_j = round(2^22 w_j),  x = (2^21 + sum W_j x_j) >> 22
 *
 * within 0..255; s and k are the filter's. An axis that keeps its size is not filtered. */
#include "codecs/picture_resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BITS = 22 };

/* of one place: weights of source places first .. first + n - 1 */
typedef struct {
    int first, n;
    int32_t *w;
} span;

static double sinc(double x) { return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x); }

static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static void weigh_span(double (*kernel)(double), double support, int from, int to, int i, double *w,
                       span *s)
{
    double scale = (double)from / to, f = scale > 1 ? scale : 1, c = (i + 0.5) * scale, sum = 0;
    int a = (int)(c - support * f + 0.5), b = (int)(c + support * f + 0.5);
    s->first = a < 0 ? 0 : a;
    s->n = (b > from ? from : b) - s->first;
    for (int k = 0; k < s->n; k++) sum += w[k] = kernel((s->first + k - c + 0.5) / f);
    for (int k = 0; k < s->n; k++)
        s->w[k] = (int32_t)round((sum == 0 ? w[k] : w[k] / sum) * (1 << BITS));
}

/* The spans of an axis, with one block of weights; free_spans. NULL: no memory. */
static span *make_spans(ts_filter filter, int from, int to)
{
    double support = filter == TS_FILTER_LANCZOS ? 3 : 2,
           wide = support * ((double)from / to > 1 ? (double)from / to : 1);
    size_t most = 2 * (size_t)ceil(wide) + 1;
    span *s = calloc((size_t)to, sizeof *s);
    int32_t *block = calloc((size_t)to * most, sizeof *block);
    double *w = malloc(most * sizeof *w);
    for (int i = 0; s && block && w && i < to; i++) {
        s[i].w = block + (size_t)i * most;
        weigh_span(filter == TS_FILTER_LANCZOS ? lanczos : bicubic, support, from, to, i, w, s + i);
    }
    bool made = s && block && w;
    free(w);
    if (made) return s; /* NOLINT(clang-analyzer-unix.Malloc): s[0] has the block */
    free(block);
    free(s);
    return NULL;
}

static void free_spans(span *s)
{
    if (s) free(s->w);
    free(s);
}

static uint8_t round_sum(int64_t sum)
{
    int64_t x = (sum + (1 << (BITS - 1))) >> BITS;
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
}

/* One axis: `lines` of `places`; a place is `step` bytes from the next, a line is `line` bytes, and
 * what is told apart within it is `parts` bytes wide. */
typedef struct {
    int lines, parts;
    size_t line_from, line_to, step;
} axis;

static void filter_axis(const axis *a, const span *s, int to, const uint8_t *from, uint8_t *out)
{
    for (int l = 0; l < a->lines; l++)
        for (int i = 0; i < to; i++) {
            const uint8_t *x = from + (size_t)l * a->line_from + (size_t)s[i].first * a->step;
            uint8_t *y = out + (size_t)l * a->line_to + (size_t)i * a->step;
            for (int p = 0; p < a->parts; p++) {
                int64_t sum = 0;
                for (int k = 0; k < s[i].n; k++)
                    sum += (int64_t)s[i].w[k] * x[(size_t)k * a->step + (size_t)p];
                y[p] = round_sum(sum);
            }
        }
}

/* `p` becomes w wide, or h high. */
static ts_status resize_axis(ts_err *err, ts_picture *p, ts_filter filter, bool across, int to)
{
    int from = across ? p->w : p->h, w = across ? to : p->w, h = across ? p->h : to;
    size_t row = (size_t)p->w * 3;
    axis a = across ? (axis){p->h, 3, row, (size_t)w * 3, 3} : (axis){1, p->w * 3, 0, 0, row};
    if (from == to) return TS_OK;
    span *s = make_spans(filter, from, to);
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3);
    if (!s || !rgb) {
        free_spans(s);
        free(rgb);
        return ts_fail(err, TS_EMEMORY, "no memory to resize a picture of %dx%d", p->w, p->h);
    }
    filter_axis(&a, s, to, p->rgb, rgb);
    free_spans(s);
    free(p->rgb);
    *p = (ts_picture){.w = w, .h = h, .rgb = rgb, .see_through = p->see_through};
    return TS_OK;
}

ts_status ts_picture_resize(ts_err *err, const ts_picture *p, int w, int h, ts_filter filter,
                            ts_picture *out)
{
    ts_status st = TS_OK;
    size_t n = (size_t)p->w * (size_t)p->h * 3;
    /* as of Pillow 13: down first where that leaves less to do across */
    bool down_first = h < p->h && p->h - h > 2 * (p->w - w);
    *out = *p;
    out->rgb = malloc(n);
    if (!out->rgb)
        TRY(ts_fail(err, TS_EMEMORY, "no memory to resize a picture of %dx%d", p->w, p->h));
    memcpy(out->rgb, p->rgb, n);
    TRY(resize_axis(err, out, filter, !down_first, down_first ? h : w));
    TRY(resize_axis(err, out, filter, down_first, down_first ? w : h));
done:
    if (st) ts_picture_free(out);
    return st;
}
