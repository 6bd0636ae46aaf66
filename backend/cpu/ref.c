/* Every operation as its formula in ops.h reads, in f32. */
#include "backend/cpu/ref.h"

#include "backend/philox.h"

#include <math.h>
#include <stdlib.h>

uint16_t ts_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7FFFFFFF;
    if (u > 0x7F800000) return (uint16_t)(sign | 0x7E00);
    if (u >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520 and more round to infinity */
    /* below the smallest normal: units of 2^-24 */
    if (u < 0x38800000) {
        float a;
        memcpy(&a, &u, 4);
        return (uint16_t)(sign | (uint16_t)rintf(ldexpf(a, 24)));
    }
    u += 0xFFF + (u >> 13 & 1);
    return (uint16_t)(sign | (u - 0x38000000) >> 13);
}

float ts_act_ref(ts_act act, float x)
{
    switch (act) {
    case TS_ACT_SILU: return x / (1 + expf(-x));
    case TS_ACT_GELU: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case TS_ACT_GELU_TANH: return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case TS_ACT_QUICK_GELU: return x / (1 + expf(-1.702f * x));
    case TS_ACT_RELU: return x > 0 ? x : 0;
    case TS_ACT_NONE: break;
    }
    return x;
}

void ts_linear_ref(const ts_linear *a)
{
    long M = ts_rows(a->x), K = a->x.dim[a->x.nd - 1], O = a->w->t.dim[0];
    const void *x = ts_host_of(a->x.p), *w = ts_host_of(a->w->t.p), *r = ts_host_of(a->resid.p);
    const float *b = ts_numbers_of(a->b);
    void *y = ts_host_of(a->y.p);
#pragma omp parallel for schedule(static)
    for (long m = 0; m < M; m++) {
        const float *g = ts_table_row(a->gate, a->sel, m);
        for (long o = 0; o < O; o++) {
            float s = 0;
            for (long k = 0; k < K; k++)
                s += ts_load(x, a->x.type, m * a->x.ld + k) * ts_load(w, a->w->t.type, o * K + k);
            s = ts_act_ref(a->act, s + (b ? b[o] : 0));
            if (g) s *= g[o];
            if (r) s += ts_load(r, a->resid.type, m * a->resid.ld + o);
            ts_store(y, a->y.type, m * a->y.ld + o, s);
        }
    }
}

/* One output element. k: kernel sizes t h w */
static float conv_at(const ts_conv *a, const long k[3], long f, long h, long w, long o)
{
    long F = a->x.dim[0], H = a->x.dim[1], W = a->x.dim[2], C = a->x.dim[3];
    const void *x = ts_host_of(a->x.p), *wt = ts_host_of(a->w->t.p);
    float s = 0;
    for (long t = 0; t < k[0]; t++)
        for (long i = 0; i < k[1]; i++)
            for (long j = 0; j < k[2]; j++) {
                long sf = f * a->stride[0] + t - a->pad[0], sh = h * a->stride[1] + i - a->pad[2],
                     sw = w * a->stride[2] + j - a->pad[4];
                if (sf < 0 || sf >= F || sh < 0 || sh >= H || sw < 0 || sw >= W) continue;
                for (long c = 0; c < C; c++)
                    s += ts_load(x, a->x.type, ((sf * H + sh) * W + sw) * a->x.ld + c) *
                         ts_load(wt, a->w->t.type,
                                 (((o * C + c) * k[0] + t) * k[1] + i) * k[2] + j);
            }
    return s;
}

void ts_conv_ref(const ts_conv *a)
{
    const ts_tensor *w = &a->w->t;
    long k[3] = {w->nd == 5 ? w->dim[2] : 1, w->dim[w->nd - 2], w->dim[w->nd - 1]}, O = w->dim[0],
         H = a->y.dim[1], W = a->y.dim[2], rows = ts_rows(a->y);
    const float *b = ts_numbers_of(a->b);
    const void *r = ts_host_of(a->resid.p);
    void *y = ts_host_of(a->y.p);
#pragma omp parallel for schedule(static)
    for (long n = 0; n < rows; n++)
        for (long o = 0; o < O; o++) {
            float s = conv_at(a, k, n / (H * W), n / W % H, n % W, o) + (b ? b[o] : 0);
            if (r) s += ts_load(r, a->resid.type, n * a->resid.ld + o);
            ts_store(y, a->y.type, n * a->y.ld + o, s);
        }
}

/* Mean and reciprocal deviation of group g: all rows, C / groups channels. */
static void measure_group(const ts_norm *a, long rows, long C, long g, float *mean, float *inv)
{
    long n = C / a->groups;
    const void *x = ts_host_of(a->x.p);
    double s = 0, q = 0;
    for (long m = 0; m < rows; m++)
        for (long c = g * n; c < (g + 1) * n; c++) s += ts_load(x, a->x.type, m * a->x.ld + c);
    s /= (double)(rows * n);
    for (long m = 0; m < rows; m++)
        for (long c = g * n; c < (g + 1) * n; c++) {
            double d = ts_load(x, a->x.type, m * a->x.ld + c) - s;
            q += d * d;
        }
    *mean = (float)s;
    *inv = (float)(1 / sqrt(q / (double)(rows * n) + a->eps));
}

static void row_of(const ts_norm *a, long C, long m, float *mean, float *inv)
{
    const void *x = ts_host_of(a->x.p);
    double s = 0, q = 0;
    if (a->kind == TS_NORM_LAYER)
        for (long c = 0; c < C; c++) s += ts_load(x, a->x.type, m * a->x.ld + c);
    s /= (double)C;
    for (long c = 0; c < C; c++) {
        double d = ts_load(x, a->x.type, m * a->x.ld + c) - s;
        q += d * d;
    }
    *mean = (float)s;
    if (a->kind == TS_NORM_L2)
        *inv = (float)(sqrt((double)C) / fmax(sqrt(q), a->eps));
    else
        *inv = (float)(1 / sqrt(q / (double)C + a->eps));
}

void ts_norm_ref(const ts_norm *a, float (*stat)[2])
{
    long rows = ts_rows(a->x), C = a->x.dim[a->x.nd - 1],
         groups = a->kind == TS_NORM_GROUP ? a->groups : 0;
    const float *w = ts_numbers_of(a->w), *b = ts_numbers_of(a->b);
    for (long g = 0; g < groups; g++) measure_group(a, rows, C, g, &stat[g][0], &stat[g][1]);
    const void *x = ts_host_of(a->x.p);
    void *y = ts_host_of(a->y.p);
#pragma omp parallel for schedule(static)
    for (long m = 0; m < rows; m++) {
        const float *scale = ts_table_row(a->scale, a->sel, m),
                    *shift = ts_table_row(a->shift, a->sel, m);
        float mean = 0, inv = 0;
        if (!groups) row_of(a, C, m, &mean, &inv);
        for (long c = 0; c < C; c++) {
            if (groups) {
                mean = stat[c / (C / groups)][0];
                inv = stat[c / (C / groups)][1];
            }
            float v = (ts_load(x, a->x.type, m * a->x.ld + c) - mean) * inv;
            if (w) v *= w[c];
            if (b) v += b[c];
            if (scale) v *= 1 + scale[c];
            if (shift) v += shift[c];
            ts_store(y, a->y.type, m * a->y.ld + c, ts_act_ref(a->act, v));
        }
    }
}

void ts_activate_ref(const ts_activate *a)
{
    long rows = ts_rows(a->x), C = a->x.dim[a->x.nd - 1];
#pragma omp parallel for schedule(static)
    for (long m = 0; m < rows; m++)
        for (long c = 0; c < C; c++) {
            float v = ts_act_ref(a->act, ts_load(ts_host_of(a->x.p), a->x.type, m * a->x.ld + c));
            if (ts_there(a->mul))
                v *= ts_load(ts_host_of(a->mul.p), a->mul.type, m * a->mul.ld + c);
            ts_store(ts_host_of(a->y.p), a->y.type, m * a->y.ld + c, v);
        }
}

void ts_rope_ref(const ts_rope *a)
{
    long N = a->x.dim[0], A = a->x.dim[1], D = a->x.dim[2];
    void *x = ts_host_of(a->x.p);
#pragma omp parallel for schedule(static)
    for (long n = 0; n < N; n++) {
        const float *c = (const float *)ts_host_of(a->cos.p) + n * a->cos.ld,
                    *s = (const float *)ts_host_of(a->sin.p) + n * a->sin.ld;
        for (long h = 0; h < A; h++)
            for (long j = 0; j < D / 2; j++) {
                long i = n * a->x.ld + h * D + 2 * j;
                float u = ts_load(x, a->x.type, i), v = ts_load(x, a->x.type, i + 1);
                ts_store(x, a->x.type, i, u * c[j] - v * s[j]);
                ts_store(x, a->x.type, i + 1, v * c[j] + u * s[j]);
            }
    }
}

static void copy_one(const ts_copy *a, long s, long d)
{
    size_t n = ts_dtype_size(a->stype);
    if (a->stype == a->dtype)
        memcpy((char *)ts_host_of(a->dst) + (size_t)d * n,
               (const char *)ts_host_of(a->src) + (size_t)s * n, n);
    else
        ts_store(ts_host_of(a->dst), a->dtype, d, ts_load(ts_host_of(a->src), a->stype, s));
}

void ts_copy_ref(const ts_copy *a)
{
    long outer = 1, in = a->nd ? a->dim[a->nd - 1] : 1;
    for (int i = 0; i + 1 < a->nd; i++) outer *= a->dim[i];
#pragma omp parallel for schedule(static)
    for (long n = 0; n < outer; n++) {
        long s = 0, d = 0, rest = n;
        for (int i = a->nd - 2; i >= 0; i--) {
            long k = rest % a->dim[i];
            rest /= a->dim[i];
            s += k * a->ss[i];
            d += k * a->ds[i];
        }
        for (long k = 0; k < in; k++)
            copy_one(a, s + k * (a->nd ? a->ss[a->nd - 1] : 0),
                     d + k * (a->nd ? a->ds[a->nd - 1] : 0));
    }
}

void ts_gather_ref(const ts_gather *a)
{
    long n = ts_count(a->ids), C = a->x.dim[1];
    const int32_t *id = ts_host_of(a->ids.p);
    for (long i = 0; i < n; i++)
        for (long c = 0; c < C; c++)
            ts_store(ts_host_of(a->y.p), a->y.type, i * a->y.ld + c,
                     ts_load(ts_host_of(a->x.p), a->x.type, id[i] * a->x.ld + c));
}

void ts_lincomb_ref(const ts_lincomb *a)
{
    long rows = ts_rows(a->y), C = a->y.nd ? a->y.dim[a->y.nd - 1] : 1;
#pragma omp parallel for schedule(static)
    for (long m = 0; m < rows; m++)
        for (long c = 0; c < C; c++) {
            float s = 0;
            for (int i = 0; i < a->n; i++) {
                const ts_tensor *x = a->x + i;
                long w = x->nd ? x->dim[x->nd - 1] : 1, e = m * C + c;
                s += a->c[i] * ts_load(ts_host_of(x->p), x->type, e / w * x->ld + e % w);
            }
            ts_store(ts_host_of(a->y.p), a->y.type, m * a->y.ld + c, s);
        }
}

static void add_to(ts_tensor t, long f, long h, long w, long c, float v)
{
    long i = ((f * t.dim[1] + h) * t.dim[2] + w) * t.ld + c;
    ts_store(ts_host_of(t.p), t.type, i, ts_load(ts_host_of(t.p), t.type, i) + v);
}

static float padded_at(ts_tensor t, long f, long h, long w, long c)
{
    return f < 0 ? 0
                 : ts_load(ts_host_of(t.p), t.type, ((f * t.dim[1] + h) * t.dim[2] + w) * t.ld + c);
}

void ts_resample_ref(const ts_resample *a)
{
    long F = a->y.dim[0], H = a->y.dim[1], W = a->y.dim[2], O = a->y.dim[3], C = a->x.dim[3],
         fs = a->fs, ft = a->ft;
    long r = a->reduce ? C * ft * fs * fs / O : O * ft * fs * fs / C;
#pragma omp parallel for collapse(2) schedule(static)
    for (long f = 0; f < F; f++)
        for (long h = 0; h < H; h++)
            for (long w = 0; w < W; w++)
                for (long o = 0; o < O; o++) {
                    float v = 0;
                    if (!a->reduce) {
                        long g = f + a->drop;
                        v = padded_at(a->x, g / ft, h / fs, w / fs,
                                      ((o * ft + g % ft) * fs * fs + h % fs * fs + w % fs) / r);
                    } else {
                        for (long j = o * r; j < (o + 1) * r; j++)
                            v += padded_at(a->x, f * ft + j / (fs * fs) % ft - a->drop,
                                           h * fs + j / fs % fs, w * fs + j % fs,
                                           j / (fs * fs * ft));
                        v /= (float)r;
                    }
                    add_to(a->y, f, h, w, o, v);
                }
}

static float number_at(ts_strided s, long at, float absent)
{
    return s.p.at ? ts_load(ts_host_of(s.p), s.type, at) : absent;
}

void ts_affine_ref(const ts_affine *a)
{
    long all = 1;
    for (int i = 0; i < a->nd; i++) all *= a->dim[i];
#pragma omp parallel for schedule(static)
    for (long n = 0; n < all; n++) {
        long x = 0, s = 0, b = 0, y = 0, rest = n;
        for (int i = a->nd - 1; i >= 0; i--) {
            long k = rest % a->dim[i];
            rest /= a->dim[i];
            x += k * a->x.step[i];
            s += k * a->s.step[i];
            b += k * a->b.step[i];
            y += k * a->y.step[i];
        }
        /* volatile: the compiler may not fuse it with the sum */
        volatile float product = number_at(a->x, x, 0) * number_at(a->s, s, a->scale);
        float v = product + number_at(a->b, b, a->shift);
        if (a->low < a->high) v = v < a->low ? a->low : v > a->high ? a->high : v;
        ts_store(ts_host_of(a->y.p), a->y.type, y, v);
    }
}

/* A block of Philox makes four numbers that follow each other: along rows or columns of y,
 * whichever are one apart in the stream. */
void ts_randn_ref(const ts_randn *a)
{
    enum { PIECE = 512 };
    long C = a->y.nd ? a->y.dim[a->y.nd - 1] : 1, M = ts_rows(a->y);
    bool along = a->columns == 1;
    long lines = along ? M : C, n = along ? C : M, pieces = (n + PIECE - 1) / PIECE;
    long line = along ? a->rows : a->columns, step = along ? 1 : a->rows;
    float *y = ts_host_of(a->y.p);
#pragma omp parallel for schedule(static)
    for (long k = 0; k < lines * pieces; k++) {
        float z[PIECE];
        long l = k / pieces, i = k % pieces * PIECE, many = n - i < PIECE ? n - i : PIECE;
        uint64_t first = a->first + (uint64_t)(l * line + i * step);
        if (step == 1)
            ts_normals(a->seed, a->stream, first, z, (size_t)many);
        else
            for (long j = 0; j < many; j++)
                ts_normals(a->seed, a->stream, first + (uint64_t)(j * step), z + j, 1);
        for (long j = 0; j < many; j++)
            y[along ? l * a->y.ld + i + j : (i + j) * a->y.ld + l] = z[j];
    }
}

bool ts_finite_ref(ts_tensor t)
{
    long rows = ts_rows(t), C = t.nd ? t.dim[t.nd - 1] : 1;
    int bad = 0;
#pragma omp parallel for schedule(static) reduction(| : bad)
    for (long m = 0; m < rows; m++)
        for (long c = 0; c < C; c++)
            bad |= !isfinite(ts_load(ts_host_of(t.p), t.type, m * t.ld + c));
    return !bad;
}

void ts_pack_ref(const ts_host *from, ts_dtype to, void *out)
{
    long n = 1;
    for (int i = 0; i < from->nd; i++) n *= from->dim[i];
    if (from->type == to)
        memcpy(out, from->data, (size_t)n * ts_dtype_size(to));
    else
#pragma omp parallel for schedule(static)
        for (long i = 0; i < n; i++) ts_store(out, to, i, ts_load(from->data, from->type, i));
}
