#include "tests/prompts/t5_plain.h"

#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const ts_bag *bag;
    const t5_shape *s;
    t5_rounding r;
    int n, real;
} model;

static double single(const model *m, double x) { return m->r == T5_EXACT ? x : (double)(float)x; }

/* Sums are kept in f32 wherever anything is rounded. */
static double half(const model *m, double x)
{
    if (m->r != T5_HALF) return single(m, x);
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, 4);
    u = (u + 0x7FFF + (u >> 16 & 1)) & 0xFFFF0000u;
    memcpy(&f, &u, 4);
    return f;
}

static const float *tensor(const model *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static const float *tensor(const model *m, const char *format, ...)
{
    char name[160];
    va_list ap;
    va_start(ap, format);
    vsnprintf(name, sizeof name, format, ap);
    va_end(ap);
    return testing_f32(m->bag, name, NULL);
}

/* Where the distances of the logarithmic buckets begin, written out from ln(d / e) / ln(128 / e)
 * (nb - e). */
static int bucket(int buckets, int rel)
{
    static const int at32[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91},
                     at8[] = {0, 1, 2, 16};
    const int *at = buckets == 32 ? at32 : at8;
    int b = buckets / 2 - 1;
    while (abs(rel) < at[b]) b--;
    return rel > 0 ? b + buckets / 2 : b;
}

/* y [n, out] = x [n, in] w' */
static void linear(const model *m, const double *x, const float *w, int in, int out, double *y)
{
    for (int t = 0; t < m->n; t++)
        for (int o = 0; o < out; o++) {
            double sum = 0;
            for (int i = 0; i < in; i++)
                sum = single(m, sum + x[t * in + i] * half(m, w[o * in + i]));
            y[t * out + o] = half(m, sum);
        }
}

static void rms(const model *m, const double *x, const float *g, double *y, bool last)
{
    int C = m->s->dim;
    for (int t = 0; t < m->n; t++) {
        double sum = 0;
        for (int i = 0; i < C; i++) sum = single(m, sum + x[t * C + i] * x[t * C + i]);
        double scale = 1 / sqrt(sum / C + 1e-6);
        for (int i = 0; i < C; i++) {
            double v = x[t * C + i] * scale * g[i];
            y[t * C + i] = last ? single(m, v) : half(m, v);
        }
    }
}

static double activate(ts_act act, double x)
{
    switch (act) {
    case TS_ACT_RELU: return x > 0 ? x : 0;
    case TS_ACT_SILU: return x / (1 + exp(-x));
    case TS_ACT_GELU: return 0.5 * x * (1 + erf(x * sqrt(0.5)));
    case TS_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    default: ck_abort_msg("no such activation in T5");
    }
    return 0;
}

static void add(const model *m, double *h, const double *x)
{
    for (int i = 0; i < m->n * m->s->dim; i++) h[i] = single(m, h[i] + x[i]);
}

/* One head of one query: o [D] */
static void attend_one(const model *m, const float *table, const double *q, const double *k,
                       const double *v, int head, int i, double *p, double *o)
{
    int D = m->s->kv, A = m->s->heads, inner = A * D;
    double most = -HUGE_VAL, sum = 0;
    for (int j = 0; j < m->real; j++) {
        p[j] = table[bucket(m->s->buckets, j - i) * A + head];
        for (int d = 0; d < D; d++)
            p[j] = single(m, p[j] + q[i * inner + head * D + d] * k[j * inner + head * D + d]);
        if (p[j] > most) most = p[j];
    }
    for (int j = 0; j < m->real; j++) {
        p[j] = single(m, exp(p[j] - most));
        sum = single(m, sum + p[j]);
    }
    for (int d = 0; d < D; d++) {
        double y = 0;
        for (int j = 0; j < m->real; j++)
            y = single(m, y + half(m, p[j]) * v[j * inner + head * D + d]);
        o[i * inner + head * D + d] = half(m, y / sum);
    }
}

static double *room(int n) { return calloc((size_t)n, sizeof(double)); }

static void attention(const model *m, int layer, double *h)
{
    int inner = m->s->heads * m->s->kv, n = m->n;
    double *x = room(n * m->s->dim), *y = room(n * m->s->dim), *q = room(n * inner),
           *k = room(n * inner), *v = room(n * inner), *o = room(n * inner), *p = room(n);
    double *to[] = {q, k, v};
    const float *table = tensor(
        m, "encoder.block.%d.layer.0.SelfAttention.relative_attention_bias.weight",
        m->s->every ? layer : 0);
    rms(m, h, tensor(m, "encoder.block.%d.layer.0.layer_norm.weight", layer), x, false);
    for (int i = 0; i < 3; i++)
        linear(m, x, tensor(m, "encoder.block.%d.layer.0.SelfAttention.%c.weight", layer, "qkv"[i]),
               m->s->dim, inner, to[i]);
    for (int a = 0; a < m->s->heads; a++)
        for (int i = 0; i < n; i++) attend_one(m, table, q, k, v, a, i, p, o);
    linear(m, o, tensor(m, "encoder.block.%d.layer.0.SelfAttention.o.weight", layer), inner,
           m->s->dim, y);
    add(m, h, y);
    free(x);
    free(y);
    free(q);
    free(k);
    free(v);
    free(o);
    free(p);
}

static void feed(const model *m, int layer, double *h)
{
    int n = m->n, F = m->s->ff, C = m->s->dim;
    double *x = room(n * C), *y = room(n * C), *f = room(n * F), *g = room(n * F);
    rms(m, h, tensor(m, "encoder.block.%d.layer.1.layer_norm.weight", layer), x, false);
    linear(m, x,
           tensor(m, "encoder.block.%d.layer.1.DenseReluDense.%s.weight", layer,
                  m->s->gated ? "wi_0" : "wi"),
           C, F, f);
    if (m->s->gated)
        linear(m, x, tensor(m, "encoder.block.%d.layer.1.DenseReluDense.wi_1.weight", layer), C, F,
               g);
    for (int i = 0; i < n * F; i++)
        f[i] = half(m, activate(m->s->act, f[i]) * (m->s->gated ? g[i] : 1));
    linear(m, f, tensor(m, "encoder.block.%d.layer.1.DenseReluDense.wo.weight", layer), F, C, y);
    add(m, h, y);
    free(x);
    free(y);
    free(f);
    free(g);
}

void t5_plain(const ts_bag *bag, const t5_shape *s, t5_rounding r, const int32_t *ids, int n,
              int real, double *out)
{
    model m = {bag, s, r, n, real};
    const float *table = tensor(
        &m, ts_bag_has(bag, "shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight");
    for (int t = 0; t < n; t++)
        for (int i = 0; i < s->dim; i++) out[t * s->dim + i] = table[ids[t] * s->dim + i];
    for (int i = 0; i < s->layers; i++) {
        attention(&m, i, out);
        feed(&m, i, out);
    }
    rms(&m, out, tensor(&m, "encoder.final_layer_norm.weight"), out, true);
}

ts_bag *t5_golden(const t5_shape *s, const char *embedding)
{
    ts_bag *b = ts_bag_new();
    char t[160];
    long dim = s->dim, inner = (long)s->heads * s->kv, ff = s->ff;
    golden_put_plain(b, embedding, (long)s->vocab, dim, 0L);
    golden_put(b, "encoder.final_layer_norm.weight", dim, 0L);
    for (int i = 0; i < s->layers; i++) {
        for (int k = 0; k < 4; k++) {
            snprintf(t, sizeof t, "encoder.block.%d.layer.0.SelfAttention.%c.weight", i, "qkvo"[k]);
            golden_put(b, t, k < 3 ? inner : dim, k < 3 ? dim : inner, 0L);
        }
        snprintf(t, sizeof t,
                 "encoder.block.%d.layer.0.SelfAttention.relative_attention_bias.weight", i);
        if (i == 0 || s->every) golden_put_plain(b, t, (long)s->buckets, (long)s->heads, 0L);
        for (int k = 0; k < 2; k++) {
            snprintf(t, sizeof t, "encoder.block.%d.layer.%d.layer_norm.weight", i, k);
            golden_put(b, t, dim, 0L);
        }
        static const char *const in[] = {"wi_0", "wi_1", "wi"};
        for (int k = s->gated ? 0 : 2; k < (s->gated ? 2 : 3); k++) {
            snprintf(t, sizeof t, "encoder.block.%d.layer.1.DenseReluDense.%s.weight", i, in[k]);
            golden_put(b, t, ff, dim, 0L);
        }
        snprintf(t, sizeof t, "encoder.block.%d.layer.1.DenseReluDense.wo.weight", i);
        golden_put(b, t, dim, ff, 0L);
    }
    return b;
}
