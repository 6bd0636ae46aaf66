#include "tests/dit/golden_wan.h"

#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const golden_wan golden_w1 = {.patch = {1, 2, 2},
                              .heads = 2,
                              .head_dim = 12,
                              .in = 4,
                              .out = 4,
                              .text_dim = 16,
                              .freq_dim = 256,
                              .ffn_dim = 32,
                              .layers = 2,
                              .cross_norm = true};

const golden_wan golden_w3 = {.patch = {1, 2, 2},
                              .heads = 2,
                              .head_dim = 12,
                              .in = 9,
                              .out = 4,
                              .text_dim = 16,
                              .freq_dim = 256,
                              .ffn_dim = 32,
                              .layers = 2,
                              .cross_norm = true,
                              .image_dim = 4};

/* ---- weights ---- */

static void put_block(ts_bag *b, const golden_wan *c, int i)
{
    char name[128];
    long D = c->heads * c->head_dim;
    static const char *const part[] = {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0",
                                       "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"};
    static const char *const vector[] = {
        "blocks.%d.attn1.norm_q.weight", "blocks.%d.attn1.norm_k.weight",
        "blocks.%d.attn2.norm_q.weight", "blocks.%d.attn2.norm_k.weight",
        "blocks.%d.norm2.weight",        "blocks.%d.norm2.bias"};
    for (size_t k = 0; k < sizeof part / sizeof *part; k++)
        golden_put_linear(b, D, D, "blocks.%d.%s", i, part[k]);
    for (size_t k = 0; k < (c->cross_norm ? 6 : 4); k++) {
        snprintf(name, sizeof name, vector[k], i);
        golden_put(b, name, D, 0L);
    }
    snprintf(name, sizeof name, "blocks.%d.scale_shift_table", i);
    golden_put(b, name, 1L, 6L, D, 0L);
    golden_put_linear(b, c->ffn_dim, D, "blocks.%d.ffn.net.0.proj", i);
    golden_put_linear(b, D, c->ffn_dim, "blocks.%d.ffn.net.2", i);
    if (!c->image_dim) return;
    golden_put_linear(b, D, D, "blocks.%d.attn2.add_k_proj", i);
    golden_put_linear(b, D, D, "blocks.%d.attn2.add_v_proj", i);
    snprintf(name, sizeof name, "blocks.%d.attn2.norm_added_k.weight", i);
    golden_put(b, name, D, 0L);
}

static void put_pictures(ts_bag *b, const golden_wan *c)
{
    long D = c->heads * c->head_dim, P = c->image_dim;
    const char *of = "condition_embedder.image_embedder";
    char name[128];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.norm%d.%s", of, 1 + i / 2, i % 2 ? "bias" : "weight");
        golden_put(b, name, i / 2 ? D : P, 0L);
    }
    golden_put_linear(b, P, P, "%s.ff.net.0.proj", of);
    golden_put_linear(b, D, P, "%s.ff.net.2", of);
}

static long volume(const golden_wan *c) { return c->patch[0] * c->patch[1] * c->patch[2]; }

ts_bag *golden_wan_weights(const golden_wan *c)
{
    long D = c->heads * c->head_dim;
    ts_bag *b = ts_bag_new();
    golden_put(b, "patch_embedding.weight", D, c->in, c->patch[0], c->patch[1], c->patch[2], 0L);
    golden_put(b, "patch_embedding.bias", D, 0L);
    golden_put_linear(b, D, c->freq_dim, "condition_embedder.time_embedder.linear_%d", 1);
    golden_put_linear(b, D, D, "condition_embedder.time_embedder.linear_%d", 2);
    golden_put_linear(b, 6 * D, D, "condition_embedder.time_proj");
    golden_put_linear(b, D, c->text_dim, "condition_embedder.text_embedder.linear_%d", 1);
    golden_put_linear(b, D, D, "condition_embedder.text_embedder.linear_%d", 2);
    for (int i = 0; i < c->layers; i++) put_block(b, c, i);
    if (c->image_dim) put_pictures(b, c);
    golden_put(b, "scale_shift_table", 1L, 2L, D, 0L);
    golden_put_linear(b, volume(c) * c->out, D, "proj_out");
    return b;
}

char *golden_wan_save(const golden_wan *c, const ts_bag *b)
{
    char path[600], *dir = testing_tmp(), out[24] = "null", pictures[96] = "";
    ts_err err = {0};
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    ck_assert_msg(ts_bag_save(&err, b, path) == TS_OK, "%s", err.text);
    snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    if (c->out != c->in) snprintf(out, sizeof out, "%ld", c->out);
    if (c->image_dim)
        snprintf(pictures, sizeof pictures, ", \"image_dim\": %ld, \"added_kv_proj_dim\": %ld",
                 c->image_dim, c->heads * c->head_dim);
    ck_assert(
        fprintf(f,
                "{\"patch_size\": [%ld, %ld, %ld], \"num_attention_heads\": %ld, "
                "\"attention_head_dim\": %ld, \"in_channels\": %ld, \"out_channels\": %s, "
                "\"text_dim\": %ld, "
                "\"freq_dim\": %ld, \"ffn_dim\": %ld, \"num_layers\": %ld, \"cross_attn_norm\": "
                "%s, \"qk_norm\": \"rms_norm_across_heads\", \"rope_max_seq_len\": 32%s}",
                c->patch[0], c->patch[1], c->patch[2], c->heads, c->head_dim, c->in, out,
                c->text_dim, c->freq_dim, c->ffn_dim, c->layers, c->cross_norm ? "true" : "false",
                pictures) > 0);
    ck_assert_int_eq(fclose(f), 0);
    return dir;
}

/* ---- forward, in f64 ---- */

typedef struct {
    const golden_wan *c;
    const ts_bag *b;
    long D, N, T, g[3];
} model;

static const float *get(const model *m, const char *format, int i)
{
    char name[128];
    snprintf(name, sizeof name, format, i);
    return testing_f32(m->b, name, NULL);
}

static double *make(long n) { return calloc((size_t)n, sizeof(double)); }

/* y [rows, out] = x [rows, in] W' + b */
static double *linear(const model *m, const double *x, long rows, long out, long in,
                      const char *format, int i)
{
    char name[128];
    snprintf(name, sizeof name, "%s.weight", format);
    const float *w = get(m, name, i);
    snprintf(name, sizeof name, "%s.bias", format);
    const float *b = get(m, name, i);
    double *y = make(rows * out);
    for (long r = 0; r < rows; r++)
        for (long o = 0; o < out; o++) {
            double s = b[o];
            for (long k = 0; k < in; k++) s += w[o * in + k] * x[r * in + k];
            y[r * out + o] = s;
        }
    return y;
}

static double silu(double x) { return x / (1 + exp(-x)); }
static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
static double *map(double *x, long n, double (*f)(double))
{
    for (long i = 0; i < n; i++) x[i] = f(x[i]);
    return x;
}

static void rms(const model *m, double *x, long rows, const char *format, int i)
{
    const float *w = get(m, format, i);
    for (long r = 0; r < rows; r++) {
        double q = 0;
        for (long c = 0; c < m->D; c++) q += x[r * m->D + c] * x[r * m->D + c];
        for (long c = 0; c < m->D; c++) x[r * m->D + c] *= w[c] / sqrt(q / (double)m->D + 1e-6);
    }
}

/* ln(h) (1 + scale) + shift; scale and shift stand `step` apart from token to token */
static double *norm(const model *m, const double *h, const double *scale, const double *shift,
                    long step)
{
    double *y = make(m->N * m->D);
    for (long n = 0; n < m->N; n++) {
        const double *x = h + n * m->D;
        double mean = 0, var = 0;
        for (long c = 0; c < m->D; c++) mean += x[c] / (double)m->D;
        for (long c = 0; c < m->D; c++) var += (x[c] - mean) * (x[c] - mean) / (double)m->D;
        for (long c = 0; c < m->D; c++)
            y[n * m->D + c] = (x[c] - mean) / sqrt(var + 1e-6) * (1 + scale[n * step + c]) +
                              shift[n * step + c];
    }
    return y;
}

static void rope(const model *m, double *x)
{
    long d = m->c->head_dim, side = 2 * (d / 6), width[3] = {d - 2 * side, side, side};
    for (long n = 0; n < m->N; n++)
        for (long a = 0; a < m->c->heads; a++) {
            long at[3] = {n / (m->g[1] * m->g[2]), n / m->g[2] % m->g[1], n % m->g[2]};
            double *p = x + n * m->D + a * d;
            for (int axis = 0; axis < 3; p += width[axis++])
                for (long j = 0; j < width[axis] / 2; j++) {
                    double w = (double)at[axis] *
                               pow(10000, -2.0 * (double)j / (double)width[axis]),
                           u = p[2 * j], v = p[2 * j + 1];
                    p[2 * j] = u * cos(w) - v * sin(w);
                    p[2 * j + 1] = v * cos(w) + u * sin(w);
                }
        }
}

static double *attend(const model *m, const double *q, const double *k, const double *v, long keys)
{
    long d = m->c->head_dim, D = m->D;
    double *out = make(m->N * D), *p = make(keys);
    for (long n = 0; n < m->N; n++)
        for (long a = 0; a < m->c->heads; a++) {
            double most = -INFINITY, sum = 0;
            for (long j = 0; j < keys; j++) {
                p[j] = 0;
                for (long c = a * d; c < (a + 1) * d; c++)
                    p[j] += q[n * D + c] * k[j * D + c] / sqrt((double)d);
                most = fmax(most, p[j]);
            }
            for (long j = 0; j < keys; j++) sum += p[j] = exp(p[j] - most);
            for (long j = 0; j < keys; j++)
                for (long c = a * d; c < (a + 1) * d; c++)
                    out[n * D + c] += p[j] / sum * v[j * D + c];
        }
    free(p);
    return out;
}

/* h += gate x; gate NULL: 1 */
static void add(const model *m, double *h, const double *x, const double *gate, long step)
{
    for (long n = 0; n < m->N; n++)
        for (long c = 0; c < m->D; c++)
            h[n * m->D + c] += x[n * m->D + c] * (gate ? gate[n * step + c] : 1);
}

static void run_block(const model *m, int i, double *h, const double *text, const double *e6)
{
    long D = m->D, N = m->N;
    const float *table = get(m, "blocks.%d.scale_shift_table", i);
    double *mod = make(N * 6 * D), *w = make(N * D), *b = make(N * D);
    for (long n = 0; n < N; n++)
        for (long c = 0; c < 6 * D; c++) mod[n * 6 * D + c] = table[c] + e6[n * 6 * D + c];
    double *x = norm(m, h, mod + D, mod, 6 * D);
    double *q = linear(m, x, N, D, D, "blocks.%d.attn1.to_q", i),
           *k = linear(m, x, N, D, D, "blocks.%d.attn1.to_k", i),
           *v = linear(m, x, N, D, D, "blocks.%d.attn1.to_v", i);
    rms(m, q, N, "blocks.%d.attn1.norm_q.weight", i);
    rms(m, k, N, "blocks.%d.attn1.norm_k.weight", i);
    rope(m, q);
    rope(m, k);
    double *y = attend(m, q, k, v, N), *o = linear(m, y, N, D, D, "blocks.%d.attn1.to_out.0", i);
    add(m, h, o, mod + 2 * D, 6 * D);
    free(x);
    free(q);
    free(k);
    free(v);
    free(y);
    free(o);
    if (m->c->cross_norm) {
        for (long n = 0; n < N * D; n++) {
            w[n] = get(m, "blocks.%d.norm2.weight", i)[n % D] - 1;
            b[n] = get(m, "blocks.%d.norm2.bias", i)[n % D];
        }
        x = norm(m, h, w, b, D);
    } else {
        x = memcpy(make(N * D), h, (size_t)(N * D) * sizeof *h);
    }
    q = linear(m, x, N, D, D, "blocks.%d.attn2.to_q", i);
    k = linear(m, text, m->T, D, D, "blocks.%d.attn2.to_k", i);
    v = linear(m, text, m->T, D, D, "blocks.%d.attn2.to_v", i);
    rms(m, q, N, "blocks.%d.attn2.norm_q.weight", i);
    rms(m, k, m->T, "blocks.%d.attn2.norm_k.weight", i);
    y = attend(m, q, k, v, m->T);
    o = linear(m, y, N, D, D, "blocks.%d.attn2.to_out.0", i);
    add(m, h, o, NULL, 0);
    free(x);
    free(q);
    free(k);
    free(v);
    free(y);
    free(o);
    x = norm(m, h, mod + 4 * D, mod + 3 * D, 6 * D);
    y = map(linear(m, x, N, m->c->ffn_dim, D, "blocks.%d.ffn.net.0.proj", i), N * m->c->ffn_dim,
            gelu);
    o = linear(m, y, N, D, m->c->ffn_dim, "blocks.%d.ffn.net.2", i);
    add(m, h, o, mod + 5 * D, 6 * D);
    free(x);
    free(y);
    free(o);
    free(mod);
    free(w);
    free(b);
}

/* temb [N, D] */
static double *embed_time(const model *m, const float *t)
{
    long half = m->c->freq_dim / 2;
    double *e = make(m->N * 2 * half);
    for (long n = 0; n < m->N; n++)
        for (long i = 0; i < half; i++) {
            /* f32 is part of the definition */
            float angle = t[n] * expf((float)-log(10000) * (float)i / (float)half);
            e[n * 2 * half + i] = cos(angle);
            e[(n * 2 + 1) * half + i] = sin(angle);
        }
    double *a = map(
        linear(m, e, m->N, m->D, 2 * half, "condition_embedder.time_embedder.linear_%d", 1),
        m->N * m->D, silu);
    double *temb = linear(m, a, m->N, m->D, m->D, "condition_embedder.time_embedder.linear_%d", 2);
    free(e);
    free(a);
    return temb;
}

/* Index in [channels, F, H, W] of offset (a, b, d) in the patch of token n. */
static long pixel(const model *m, const long latent[4], long c, long n, long a, long b, long d)
{
    const long *p = m->c->patch;
    long f = n / (m->g[1] * m->g[2]) * p[0] + a, y = n / m->g[2] % m->g[1] * p[1] + b,
         x = n % m->g[2] * p[2] + d;
    return ((c * latent[1] + f) * latent[2] + y) * latent[3] + x;
}

static double *patchify(const model *m, const float *x, const long latent[4])
{
    const long *p = m->c->patch, K = m->c->in * volume(m->c);
    double *rows = make(m->N * K);
    for (long n = 0; n < m->N; n++)
        for (long c = 0, k = 0; c < m->c->in; c++)
            for (long a = 0; a < p[0]; a++)
                for (long b = 0; b < p[1]; b++)
                    for (long d = 0; d < p[2]; d++)
                        rows[n * K + k++] = x[pixel(m, latent, c, n, a, b, d)];
    double *h = linear(m, rows, m->N, m->D, K, "patch_embedding", 0);
    free(rows);
    return h;
}

void golden_wan_forward(const golden_wan *c, const ts_bag *bag, const float *x,
                        const long latent[4], const float *text, long rows, const float *t,
                        float *v)
{
    const long *p = c->patch;
    model m = {.c = c,
               .b = bag,
               .D = c->heads * c->head_dim,
               .T = rows,
               .g = {latent[1] / p[0], latent[2] / p[1], latent[3] / p[2]}};
    long D = m.D, N = m.N = m.g[0] * m.g[1] * m.g[2], K = volume(c) * c->out;
    double *wide = make(rows * c->text_dim), *mod = make(N * 2 * D), *temb = embed_time(&m, t);
    for (long i = 0; i < rows * c->text_dim; i++) wide[i] = text[i];
    double *a = map(
        linear(&m, wide, rows, D, c->text_dim, "condition_embedder.text_embedder.linear_%d", 1),
        rows * D, gelu);
    double *states = linear(&m, a, rows, D, D, "condition_embedder.text_embedder.linear_%d", 2);
    double *s = map(memcpy(make(N * D), temb, (size_t)(N * D) * sizeof *temb), N * D, silu),
           *e6 = linear(&m, s, N, 6 * D, D, "condition_embedder.time_proj", 0);
    double *h = patchify(&m, x, latent);
    for (int i = 0; i < c->layers; i++) run_block(&m, i, h, states, e6);
    for (long n = 0; n < N; n++)
        for (long k = 0; k < 2 * D; k++)
            mod[n * 2 * D + k] = get(&m, "scale_shift_table", 0)[k] + temb[n * D + k % D];
    double *y = norm(&m, h, mod + D, mod, 2 * D), *o = linear(&m, y, N, K, D, "proj_out", 0);
    for (long n = 0; n < N; n++)
        for (long k = 0; k < K; k++) {
            long ch = k % c->out, q = k / c->out;
            v[pixel(&m, latent, ch, n, q / (p[1] * p[2]), q / p[2] % p[1], q % p[2])] = (float)
                o[n * K + k];
        }
    free(wide);
    free(mod);
    free(temb);
    free(a);
    free(states);
    free(s);
    free(e6);
    free(h);
    free(y);
    free(o);
}
