/* One call of attention on the device and the same on the host, with bounds of the error that
 * follow from the formats:
 *
 *   logits x = scale log2 e q k' + bias log2 e, D products in f32, in any order:
 *       dx = (D + 2) 2^-23 scale log2 e sum |q||k| + 2^-23 (|x| + |bias| log2 e)
 *   weights 2^x by the special function unit, then to bf16 on tensor cores:
 *       dw = ln 2 2 dx + 2^-21 + u, relative, u = 2^-8 for bf16 and 0 for f32
 *   their sum, in f32: ds = sum w dw (without u) + (Nk + 70) 2^-24
 *   output: sum w |v| (dw + ds + (Nk + 3 blocks) 2^-24) + u' |o|, u' of the output's type
 * A pooled key is one more, of logit x + log2 of its block's tokens, rounded to bf16 where the
 * others are, u of it, and so is its value. lse: ds + 2^-22 |lse| + 3e-7; a block's sum: w (2 ds +
 * 2 ln 2 max dx + 64 2^-20)
 */
#ifndef ATTENTION_CASE_H
#define ATTENTION_CASE_H
#include "tests/cuda/device.h"

extern "C" {
void ts_attention_ref(const ts_attention *); /* backend/cpu */
void ts_block_sums_ref(const ts_block_sums *);
}

struct attention_shape {
    ts_dtype type;
    int B, A, Nq, Nk, D;
    double keep;            /* < 1: of a plan at random */
    bool shared_plan, sums; /* one pattern for all heads */
    int bias;               /* 0 none; 1 of keys; 2 of heads, rows and keys; 3: 2 with -inf */
    int nk;                 /* > 0: keys of the batch's last element; < 0: it has none */
    bool in_place;          /* out is q */
    int pad;                /* numbers between tokens */
    float spread;           /* of queries and keys */
    int rest = 0;           /* 1: pooled keys for all heads; 2: for those of a form */
    int every = 0;
};

struct attention_case {
    attention_shape s;
    ts_attention host, device;
    test_numbers q, k, v;
    std::vector<float> bias, out, lse, sums; /* the host's, of f32 */
    std::vector<float> pooled_k, pooled_v;   /* [B, nb, A, D] */
    std::vector<int32_t> form;
    std::vector<int> nk;
    std::vector<std::vector<uint32_t>> bits;
    std::vector<ts_plan> plans, device_plans;
    std::vector<const ts_plan *> plan, device_plan;
    int nq, nkb; /* blocks */
    long ld;
};

static inline std::vector<uint32_t> attention_bits(const attention_shape &s, int nb)
{
    const size_t words = ((size_t)nb + 31) / 32, rows = (size_t)(s.shared_plan ? 1 : s.A) * nb;
    std::vector<uint32_t> bits(rows * words);
    for (size_t r = 0; r < rows; r++) {
        uint32_t *row = &bits[r * words];
        for (int j = 0; j < nb; j++)
            if (test_uniform() < s.keep) row[j / 32] |= 1u << j % 32;
        int one = (int)(test_uniform() * (float)nb) % nb;
        row[one / 32] |= 1u << one % 32;
    }
    return bits;
}
static inline void attention_plans(attention_case *c)
{
    const attention_shape &s = c->s;
    c->bits.resize((size_t)s.B);
    c->plans.resize((size_t)s.B);
    c->device_plans.resize((size_t)s.B);
    for (size_t b = 0; b < (size_t)s.B; b++) {
        c->bits[b] = attention_bits(s, c->nkb);
        ts_plan p = {s.shared_plan ? 1 : s.A, c->nkb, {(uint64_t)(uintptr_t)c->bits[b].data()}, 1};
        c->plans[b] = c->device_plans[b] = p;
        c->device_plans[b].bits.at = (uint64_t)(uintptr_t)test_give(c->bits[b]);
    }
    for (size_t b = 0; b < (size_t)s.B; b++) {
        /* the middle one of several is dense */
        bool dense = s.B > 2 && b == 1;
        c->plan.push_back(dense ? NULL : &c->plans[b]);
        c->device_plan.push_back(dense ? NULL : &c->device_plans[b]);
    }
    c->host.plan = c->plan.data();
    c->device.plan = c->device_plan.data();
}
static inline void attention_bias(attention_case *c)
{
    const attention_shape &s = c->s;
    const long heads = s.bias == 1 ? 1 : s.A, rows = s.bias == 1 ? 1 : s.Nq, ld = s.Nk + 3;
    c->bias = test_randoms((size_t)(heads * rows * ld), 2);
    for (size_t i = 0; s.bias == 3 && i < c->bias.size(); i++)
        if (test_uniform() < 0.7 || i / (size_t)ld % 5 == 2) c->bias[i] = -INFINITY;
    c->host.bias = test_tensor(c->bias.data(), TS_F32, {heads, rows, s.Nk}, ld);
    c->device.bias = test_tensor(test_give(c->bias), TS_F32, {heads, rows, s.Nk}, ld);
}

static inline void attention_pooled(attention_case *c)
{
    const attention_shape &s = c->s;
    const std::vector<long> dim = {s.B, c->nkb, s.A, s.D};
    const size_t n = (size_t)(s.B * c->nkb * s.A * s.D);
    c->pooled_k = test_randoms(n, s.spread);
    c->pooled_v = test_randoms(n, 1);
    c->host.pooled_k = test_tensor(c->pooled_k.data(), TS_F32, dim, (long)s.A * s.D);
    c->host.pooled_v = test_tensor(c->pooled_v.data(), TS_F32, dim, (long)s.A * s.D);
    c->device.pooled_k = test_tensor(test_give(c->pooled_k), TS_F32, dim, (long)s.A * s.D);
    c->device.pooled_v = test_tensor(test_give(c->pooled_v), TS_F32, dim, (long)s.A * s.D);
    for (int h = 0; h < s.A; h++) c->form.push_back(s.rest == 2 ? (h + 1) % 3 : 1);
    if (s.rest != 2) return;
    c->host.form = test_tensor(c->form.data(), TS_I32, {s.A});
    c->device.form = test_tensor(test_give(c->form), TS_I32, {s.A});
}
/* what is not computed stays as it was */
enum { ATTENTION_MARK = 77 };
static inline void attention_mark(attention_case *c)
{
    test_numbers out = test_round(std::vector<float>(c->out.size(), ATTENTION_MARK), c->s.type);
    c->out.assign(c->out.size(), ATTENTION_MARK);
    c->lse.assign(c->lse.size(), ATTENTION_MARK);
    c->device.out.p.at = (uint64_t)(uintptr_t)test_give(out.bytes);
    c->device.lse.p.at = (uint64_t)(uintptr_t)test_give(c->lse);
}

static inline void attention_make(attention_case *c, attention_shape s)
{
    c->s = s;
    c->nq = (s.Nq + 63) / 64;
    c->nkb = (s.Nk + 63) / 64;
    c->ld = (long)s.A * s.D + s.pad;
    const size_t nq = (size_t)(s.B * s.Nq * c->ld), nk = (size_t)(s.B * s.Nk * c->ld);
    c->q = test_round(test_randoms(nq, s.spread), s.type);
    c->k = test_round(test_randoms(nk, s.spread), s.type);
    c->v = test_round(test_randoms(nk, 1), s.type);
    c->out.resize(nq);
    c->lse.resize((size_t)(s.B * s.A * s.Nq));
    c->sums.resize((size_t)(s.B * s.A * c->nq * c->nkb));
    ts_attention h = {}, *d = &c->device;
    const std::vector<long> of_q = {s.B, s.Nq, s.A, s.D}, of_k = {s.B, s.Nk, s.A, s.D};
    h.scale = 1 / sqrtf((float)s.D);
    *d = h;
    h.q = test_tensor(c->q.bytes.data(), s.type, of_q, c->ld);
    h.k = test_tensor(c->k.bytes.data(), s.type, of_k, c->ld);
    h.v = test_tensor(c->v.bytes.data(), s.type, of_k, c->ld);
    h.out = test_tensor(c->out.data(), TS_F32, of_q, c->ld);
    h.lse = test_tensor(c->lse.data(), TS_F32, {s.B, s.A, s.Nq});
    if (s.sums) h.sums = test_tensor(c->sums.data(), TS_F32, {s.B, s.A, c->nq, c->nkb});
    d->q = test_tensor(test_give(c->q.bytes), s.type, of_q, c->ld);
    d->k = test_tensor(test_give(c->k.bytes), s.type, of_k, c->ld);
    d->v = test_tensor(test_give(c->v.bytes), s.type, of_k, c->ld);
    d->out = s.in_place ? d->q
                        : test_tensor(test_take<char>(c->q.bytes.size()), s.type, of_q, c->ld);
    d->lse = test_tensor(test_take<float>(c->lse.size()), TS_F32, {s.B, s.A, s.Nq});
    if (s.sums)
        d->sums = test_tensor(test_take<float>(c->sums.size()), TS_F32, {s.B, s.A, c->nq, c->nkb});
    c->host = h;
    c->host.every = d->every = s.every;
    if (s.every) attention_mark(c);
    if (s.rest) attention_pooled(c);
    if (s.nk) {
        c->nk.assign((size_t)s.B, s.Nk);
        c->nk.back() = s.nk < 0 ? 0 : s.nk;
        c->host.nk = d->nk = c->nk.data();
    }
    if (s.bias) attention_bias(c);
    if (s.keep < 1) attention_plans(c);
}

/* What a row may be off. */
struct attention_row {
    /* of keys, and then of pooled keys: weights, errors of logits to the base 2 */
    std::vector<double> w, dx;
    double ds, most; /* of the sum; the largest dx of a key that is read */
};
static inline attention_row attention_bound(const attention_case &c, int b, int h, int n)
{
    const attention_shape &s = c.s;
    const double scale = (double)c.host.scale * M_LOG2E;
    const float *q = &c.q.f[(size_t)((b * s.Nq + n) * c.ld + h * s.D)];
    const int keys = c.nk.empty() ? s.Nk : c.nk[(size_t)b];
    const ts_plan *plan = c.plan.empty() ? NULL : c.plan[(size_t)b];
    const size_t words = ((size_t)c.nkb + 31) / 32;
    const bool rest = s.rest && plan && c.form[(size_t)h];
    const size_t keys_all = (size_t)(s.Nk + (rest ? c.nkb : 0));
    attention_row r = {std::vector<double>(keys_all), std::vector<double>(keys_all), 0, 0};
    double max = -INFINITY, sum = 0;
    for (int m = 0; m < s.Nk; m++) {
        const float *k = &c.k.f[(size_t)((b * s.Nk + m) * c.ld + h * s.D)];
        double dot = 0, abs = 0, bias = 0;
        bool read = m < keys;
        if (plan) {
            size_t row = (size_t)(s.shared_plan ? 0 : h) * (size_t)c.nq + (size_t)n / 64;
            read = read && c.bits[(size_t)b][row * words + (size_t)m / 64 / 32] >> m / 64 % 32 & 1;
        }
        r.w[(size_t)m] = -INFINITY;
        if (!read) continue;
        for (int d = 0; d < s.D; d++) {
            dot += (double)q[d] * k[d];
            abs += fabs((double)q[d] * k[d]);
        }
        if (s.bias)
            bias = M_LOG2E *
                   c.bias[(size_t)((s.bias == 1 ? 0 : h * s.Nq + n) * c.host.bias.ld + m)];
        r.w[(size_t)m] = dot * scale + bias;
        if (r.w[(size_t)m] == -INFINITY) continue;
        r.dx[(size_t)m] = (s.D + 2) * 0x1p-23 * scale * abs +
                          0x1p-23 * (fabs(r.w[(size_t)m]) + fabs(bias));
        max = fmax(max, r.w[(size_t)m]);
        r.most = fmax(r.most, r.dx[(size_t)m]);
    }
    for (int j = 0; rest && j < c.nkb; j++) {
        const size_t row = (size_t)(s.shared_plan ? 0 : h) * (size_t)c.nq + (size_t)n / 64;
        const float *k = &c.pooled_k[(size_t)(((b * c.nkb + j) * s.A + h) * s.D)];
        const int tokens = j == c.nkb - 1 ? s.Nk - 64 * j : 64;
        double &w = r.w[(size_t)(s.Nk + j)], &dx = r.dx[(size_t)(s.Nk + j)], abs = 0;
        w = -INFINITY;
        if (c.bits[(size_t)b][row * words + (size_t)j / 32] >> j % 32 & 1) continue;
        w = log2(tokens);
        for (int d = 0; d < s.D; d++) {
            w += scale * q[d] * k[d];
            abs += scale * fabs((double)q[d] * k[d]);
        }
        dx = ((s.D + 2) * 0x1p-23 + (s.type == TS_BF16 ? 0x1p-8 : 0)) * abs + 0x1p-22 * (abs + 6);
        max = fmax(max, w);
        r.most = fmax(r.most, dx);
    }
    for (double &w : r.w) sum += w = w == -INFINITY ? 0 : exp2(w - max);
    for (size_t m = 0; m < r.w.size(); m++) {
        if (sum > 0) r.w[m] /= sum;
        r.ds += r.w[m] * (M_LN2 * 2 * r.dx[m] + 0x1p-21);
    }
    r.ds += (s.Nk + 70) * 0x1p-24;
    return r;
}

/* The largest error as a share of its bound, NaN being 1e9; *what says where. */
struct attention_worst {
    double share = 0;
    std::string what;
    void note(double off, double bound, const char *of, int b, int h, int n, int i)
    {
        double x = off == off ? fabs(off) / bound : 1e9;
        if (x <= share) return;
        share = x;
        char text[200];
        snprintf(text, sizeof text, "%s, batch %d, head %d, row %d, %d: off by %g, bound %g", of, b,
                 h, n, i, off, bound);
        what = text;
    }
};
static inline double attention_off(double got, double want) /* infinities may be equal */
{
    return got == want ? 0 : fabs(got - want);
}

static inline void attention_compare_row(const attention_case &c, const attention_row &r,
                                         const std::vector<float> &out, int b, int h, int n,
                                         attention_worst *worst)
{
    const attention_shape &s = c.s;
    const double u = s.type == TS_BF16 ? 0x1p-8 : 0, last = s.type == TS_BF16 ? 0x1p-8 : 0x1p-22;
    const size_t at = (size_t)((b * s.Nq + n) * c.ld + h * s.D);
    std::vector<double> bound((size_t)s.D);
    for (int m = 0; m < (int)r.w.size(); m++) {
        const bool pooled = m >= s.Nk;
        const size_t of = (size_t)(((b * c.nkb + m - s.Nk) * s.A + h) * s.D);
        const float *v = pooled ? &c.pooled_v[of]
                                : &c.v.f[(size_t)((b * s.Nk + m) * c.ld + h * s.D)];
        double p = r.w[(size_t)m], each;
        if (p == 0) continue;
        each = M_LN2 * 2 * r.dx[(size_t)m] + 0x1p-21 + u + r.ds + (s.Nk + 4 * c.nkb) * 0x1p-24;
        if (pooled) each += u;
        for (int d = 0; d < s.D; d++) bound[(size_t)d] += p * fabs((double)v[d]) * each;
    }
    for (int d = 0; d < s.D; d++) {
        const double want = c.out[at + (size_t)d];
        worst->note(attention_off(out[at + (size_t)d], want),
                    bound[(size_t)d] * 1.01 + last * fabs(want) + 1e-30, "out", b, h, n, d);
    }
}

/* After the host's and the device's call: out, lse and sums of both. */
static inline attention_worst attention_compare(const attention_case &c)
{
    const attention_shape &s = c.s;
    attention_worst worst;
    const char *of_out = (const char *)(uintptr_t)c.device.out.p.at;
    std::vector<char> bytes = test_fetch(of_out, c.q.bytes.size());
    std::vector<float> out(c.out.size());
    std::vector<float> lse = c.lse; /* where nobody has asked for it */
    if (ts_there(c.device.lse))
        lse = test_fetch((const float *)(uintptr_t)c.device.lse.p.at, c.lse.size());
    std::vector<float> sums;
    if (s.sums) sums = test_fetch((const float *)(uintptr_t)c.device.sums.p.at, c.sums.size());
    for (size_t i = 0; i < out.size(); i++) {
        uint16_t half;
        if (s.type == TS_BF16) {
            memcpy(&half, &bytes[2 * i], 2);
            out[i] = test_widen(half);
        } else {
            memcpy(&out[i], &bytes[4 * i], 4);
        }
    }
    for (int i = 0; i < s.B * s.A * c.nq; i++) {
        const int b = i / (s.A * c.nq), h = i / c.nq % s.A, block = i % c.nq;
        const bool computed = s.every < 2 || block % s.every == 0;
        std::vector<double> share((size_t)c.nkb);
        double rows = 0;
        for (int n = 64 * block; n < s.Nq && n < 64 * block + 64; n++) {
            attention_row r = attention_bound(c, b, h, n);
            const size_t at = (size_t)((b * s.A + h) * s.Nq + n);
            if (!computed) {
                for (int d = 0; d < s.D; d++)
                    worst.note(out[(size_t)((b * s.Nq + n) * c.ld + h * s.D + d)] - ATTENTION_MARK,
                               1e-30, "untouched out", b, h, n, d);
                worst.note(lse[at] - ATTENTION_MARK, 1e-30, "untouched lse", b, h, n, 0);
                continue;
            }
            attention_compare_row(c, r, out, b, h, n, &worst);
            worst.note(attention_off(lse[at], c.lse[at]),
                       r.ds + 0x1p-22 * fabs((double)c.lse[at]) + 3e-7, "lse", b, h, n, 0);
            rows = fmax(rows, 2 * r.ds + 2 * M_LN2 * r.most +
                                  0x1p-22 * fmin(200, fabs((double)c.lse[at])));
            for (int m = 0; m < s.Nk; m++) share[(size_t)m / 64] += r.w[(size_t)m];
        }
        for (int j = 0; s.sums && computed && j < c.nkb; j++) {
            const size_t at = (size_t)(i * c.nkb + j);
            worst.note(attention_off(sums[at], c.sums[at]),
                       share[(size_t)j] * (rows + 64 * 0x1p-20) + 1e-30, "sums", b, h, block, j);
        }
    }
    return worst;
}
#endif
