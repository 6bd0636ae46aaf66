/* out = softmax(scale q k' + bias) v, a row at a time in double: the oracle of the fast kernels. */
#include "backend/cpu/attention.h"
#include "backend/cpu/ref.h"

#include <math.h>
#include <stdlib.h>

static long element_of(ts_tensor t, long b, long n, long h)
{
    return (b * t.dim[1] + n) * t.ld + h * t.dim[3];
}

/* Logits of one row into s; -inf where a key is not read. */
static void compute_logits(const ts_attention *a, long b, long h, long n, double *s)
{
    long Nk = a->k.dim[1], D = a->q.dim[3], qa = element_of(a->q, b, n, h);
    for (long m = 0; m < Nk; m++) {
        bool out = (a->nk && m >= a->nk[b]) ||
                   (a->plan && a->plan[b] &&
                    !ts_plan_reads(a->plan[b], h, n / TS_BLOCK, m / TS_BLOCK));
        long ka = element_of(a->k, b, m, h);
        double x = 0;
        for (long d = 0; d < D && !out; d++)
            x += (double)ts_load(ts_host_of(a->q.p), a->q.type, qa + d) *
                 ts_load(ts_host_of(a->k.p), a->k.type, ka + d);
        x *= a->scale;
        if (ts_there(a->bias)) {
            const long *bd = a->bias.dim;
            x += ((const float *)ts_host_of(
                a->bias.p))[((bd[0] == 1 ? 0 : h) * bd[1] + (bd[1] == 1 ? 0 : n)) * a->bias.ld + m];
        }
        s[m] = out ? -INFINITY : x;
    }
}

/* The logit of the pooled key of a block. */
static double pooled_logit(ts_tensor q, ts_tensor k, float scale, long b, long h, long n, long j)
{
    double x = 0;
    long D = q.dim[3], qa = element_of(q, b, n, h), ka = element_of(k, b, j, h);
    for (long d = 0; d < D; d++)
        x += (double)ts_load(ts_host_of(q.p), q.type, qa + d) *
             ((const float *)ts_host_of(k.p))[ka + d];
    return x * scale + log((double)ts_block_rows(q.dim[1], j));
}

/* Weights of what the plan leaves out, into z [nb], with the rows' maximum; false: none. */
static bool pooled_logits(const ts_attention *a, long b, long h, long n, double *z, double *max)
{
    long nb = ts_there(a->pooled_k) ? a->pooled_k.dim[1] : 0;
    if (!nb || !a->plan[b] || ts_form_of(a->form, h, TS_REST_MEAN) == TS_REST_NONE) return false;
    for (long j = 0; j < nb; j++) {
        z[j] = ts_plan_reads(a->plan[b], h, n / TS_BLOCK, j)
                   ? -INFINITY
                   : pooled_logit(a->q, a->pooled_k, a->scale, b, h, n, j);
        *max = fmax(*max, z[j]);
    }
    return true;
}

/* z [nb]: room for logits of means */
static void attend_row(const ts_attention *a, long b, long h, long n, double *s, double *o,
                       double *z)
{
    long Nk = a->k.dim[1], D = a->q.dim[3], Nq = a->q.dim[1], A = a->q.dim[2];
    double max = -INFINITY, sum = 0;
    bool rest = pooled_logits(a, b, h, n, z, &max);
    compute_logits(a, b, h, n, s);
    /* a NaN comes through as the exponential of one */
    for (long m = 0; m < Nk; m++) max = fmax(max, s[m]);
    for (long d = 0; d < D; d++) o[d] = 0;
    for (long m = 0; m < Nk; m++) {
        s[m] = s[m] == -INFINITY ? 0 : exp(s[m] - max);
        if (s[m] == 0) continue;
        sum += s[m];
        long va = element_of(a->v, b, m, h);
        for (long d = 0; d < D; d++) o[d] += s[m] * ts_load(ts_host_of(a->v.p), a->v.type, va + d);
    }
    for (long j = 0; rest && j < a->pooled_k.dim[1]; j++) {
        double w = z[j] == -INFINITY ? 0 : exp(z[j] - max);
        const float *v = (const float *)ts_host_of(a->pooled_v.p) +
                         element_of(a->pooled_v, b, j, h);
        sum += w;
        for (long d = 0; d < D; d++) o[d] += w * (double)v[d];
    }
    for (long d = 0; d < D; d++)
        ts_store(ts_host_of(a->out.p), a->out.type, element_of(a->out, b, n, h) + d,
                 (float)(sum == 0 ? 0 : o[d] / sum));
    if (ts_there(a->lse))
        ((float *)ts_host_of(a->lse.p))[(b * A + h) * Nq + n] = (float)(max + log(sum));
    for (long m = 0; m < Nk; m++) s[m] = sum == 0 ? 0 : s[m] / sum;
}

bool ts_attention_ref(const ts_attention *a)
{
    long B = a->q.dim[0], Nq = a->q.dim[1], A = a->q.dim[2], D = a->q.dim[3], Nk = a->k.dim[1],
         nq = (Nq + TS_BLOCK - 1) / TS_BLOCK, nk = (Nk + TS_BLOCK - 1) / TS_BLOCK;
    bool ok = true;
#pragma omp parallel reduction(&& : ok)
    {
        double *s = malloc((size_t)(Nk + D + 2 * nk) * sizeof *s), *o = s + Nk, *w = o + D;
        ok = s != NULL;
#pragma omp for schedule(dynamic)
        for (long i = 0; i < B * A * nq; i++) {
            long b = i / (A * nq), h = i / nq % A, block = i % nq;
            if (!ok || (a->every && block % a->every)) continue;
            for (long j = 0; j < nk; j++) w[j] = 0;
            for (long n = block * TS_BLOCK; n < Nq && n < (block + 1) * TS_BLOCK; n++) {
                attend_row(a, b, h, n, s, o, w + nk);
                for (long m = 0; m < Nk; m++) w[m / TS_BLOCK] += s[m];
            }
            if (ts_there(a->sums))
                for (long j = 0; j < nk; j++)
                    ((float *)ts_host_of(
                        a->sums.p))[((b * A + h) * nq + block) * nk + j] = (float)w[j];
        }
        free(s);
    }
    return ok;
}

bool ts_block_sums_ref(const ts_block_sums *a)
{
    long B = a->q.dim[0], N = a->q.dim[1], A = a->q.dim[2], nb = (N + TS_BLOCK - 1) / TS_BLOCK;
    ts_attention logits_of = {.q = a->q, .k = a->k, .scale = a->scale};
    const float *lse = ts_host_of(a->lse.p);
    float *sums = ts_host_of(a->sums.p);
    bool ok = true;
#pragma omp parallel reduction(&& : ok)
    {
        double *s = malloc((size_t)(N + nb) * sizeof *s), *w = s + N;
        ok = s != NULL;
#pragma omp for schedule(dynamic)
        for (long i = 0; i < B * A * nb; i++) {
            if (!ok) continue;
            long bh = i / nb, block = i % nb;
            for (long j = 0; j < nb; j++) w[j] = 0;
            for (long n = block * TS_BLOCK; n < N && n < (block + 1) * TS_BLOCK; n++) {
                compute_logits(&logits_of, bh / A, bh % A, n, s);
                for (long m = 0; m < N; m++)
                    w[m / TS_BLOCK] += exp(fmin(s[m] - (double)lse[bh * N + n], 115 * M_LN2));
            }
            for (long j = 0; j < nb; j++) sums[i * nb + j] = (float)w[j];
        }
        free(s);
    }
    return ok;
}

bool ts_pool_sums_ref(const ts_pool_sums *a)
{
    long B = a->q.dim[0], N = a->q.dim[1], A = a->q.dim[2], nb = a->k.dim[1];
    float *sums = ts_host_of(a->sums.p);
    bool ok = true;
#pragma omp parallel reduction(&& : ok)
    {
        double *z = malloc((size_t)(2 * nb) * sizeof *z), *w = z + nb;
        ok = z != NULL;
#pragma omp for schedule(dynamic)
        for (long i = 0; i < B * A * nb; i++) {
            if (!ok) continue;
            long bh = i / nb, block = i % nb;
            for (long j = 0; j < nb; j++) w[j] = 0;
            for (long n = block * TS_BLOCK; n < N && n < (block + 1) * TS_BLOCK; n++) {
                double max = -INFINITY, sum = 0;
                for (long j = 0; j < nb; j++) {
                    z[j] = pooled_logit(a->q, a->k, a->scale, bh / A, bh % A, n, j);
                    max = fmax(max, z[j]);
                }
                for (long j = 0; j < nb; j++) sum += exp(z[j] - max);
                if (ts_there(a->lse))
                    ((float *)ts_host_of(a->lse.p))[bh * N + n] = (float)(max + log(sum));
                for (long j = 0; j < nb; j++) w[j] += exp(z[j] - max) / sum;
            }
            for (long j = 0; j < nb; j++) sums[i * nb + j] = (float)w[j];
        }
        free(z);
    }
    return ok;
}
