/* The flash kernel, written once for every instruction set: the including file defines its vectors
 * and this becomes its code.
 *
 * For a block of 64 queries and a list of key blocks, four blocks at a time: S = Q K' into L1, then
 * per row (x = S sc in units of log2)
 *   m' = max(m, max x), P = 2^(x - m'), l = l 2^(m - m') + sum P, O = O 2^(m - m') + P V
 * and at the end O / l, lse = m ln 2 + ln l (Milakov and Gimelshein 2018; Dao et al.,
 * FlashAttention, 2022). Dense is the list of all blocks.
 *
 * Block sums come out of the same pass: for each row and key block its sum of P and the maximum
 * then in force are kept; when the row's lse is known, sum exp(s - lse) = sum P 2^(m_then - lse2),
 * 64 exponentials a tile instead of 4096, exactly the numbers of a second pass.
 *
 * To define: VW lanes; vf; VLOAD VSTORE VSET VMAX VADD VMUL VFMADD VFMSUB VSUB VEXP VSUM VTOP; NV
 * vectors a panel; KS; el; kb (type of a B vector); BLOAD ABCAST MAC; PSTORE2(p, a, b) two vectors
 * of P; OSTORE(p, v) a vector of the output; LOADROW(to, from, D, scale) a row of Q; TRANSPOSE(to,
 * stride, from, stride) a VW x VW square of 32-bit units; PAIR(to, a, b) VW columns of KS rows of V
 * side by side; KERNEL the name; SCALED 1 when Q carries the scale already. */
#include <math.h>

enum {
    G = TS_ATTN_GROUP,
    PW = VW * NV,
    AHEAD = 8,
    LINE = TS_ATTN_LINE,
    PLINE = LINE * (int)(sizeof(float) / sizeof(el))
};
#define AI static inline __attribute__((always_inline))

/* ---- micro-kernels: R rows x C vectors, accumulators by name so that compilers keep them in
 * registers ---- */
#define DEF1(r) vf x##r;
#define DEF2(r) DEF1(r) vf y##r;
#define DEF3(r) DEF2(r) vf z##r;
#define DEF4(r) DEF3(r) vf w##r;
#define ZERO1(r) x##r = VSET(0);
#define ZERO2(r) ZERO1(r) y##r = x##r;
#define ZERO3(r) ZERO2(r) z##r = x##r;
#define ZERO4(r) ZERO3(r) w##r = x##r;
#define OLD1(r)              \
    {                        \
        vf s_ = VSET(al[r]); \
        x##r = VMUL(VLOAD(c + r * ldc), s_);
#define OLD2(r) OLD1(r) y##r = VMUL(VLOAD(c + r * ldc + VW), s_);
#define OLD3(r) OLD2(r) z##r = VMUL(VLOAD(c + r * ldc + 2 * VW), s_);
#define OLD4(r) OLD3(r) w##r = VMUL(VLOAD(c + r * ldc + 3 * VW), s_);
#define MUL1(r)                       \
    a = ABCAST(A + r * lda + k * KS); \
    x##r = MAC(a, b0, x##r);
#define MUL2(r) MUL1(r) y##r = MAC(a, b1, y##r);
#define MUL3(r) MUL2(r) z##r = MAC(a, b2, z##r);
#define MUL4(r) MUL3(r) w##r = MAC(a, b3, w##r);
#define PUT1(r) VSTORE(c + r * ldc, x##r);
#define PUT2(r) PUT1(r) VSTORE(c + r * ldc + VW, y##r);
#define PUT3(r) PUT2(r) VSTORE(c + r * ldc + 2 * VW, z##r);
#define PUT4(r) PUT3(r) VSTORE(c + r * ldc + 3 * VW, w##r);
#define GET1(b) b0 = BLOAD(b)
#define GET2(b) GET1(b), b1 = BLOAD(b + VW * KS)
#define GET3(b) GET2(b), b2 = BLOAD(b + 2 * VW * KS)
#define GET4(b) GET3(b), b3 = BLOAD(b + 3 * VW * KS)
#define CLOSE(r) }
#define ROWS6(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define ROWS4(X) X(0) X(1) X(2) X(3)
#define OLDC1(r) OLD1(r) CLOSE(r)
#define OLDC2(r) OLD2(r) CLOSE(r)
#define OLDC3(r) OLD3(r) CLOSE(r)
#define OLDC4(r) OLD4(r) CLOSE(r)

/* c [R][C VW] = A [R][K] B, B [K / KS][C VW][KS] */
#define PRODUCT(R, C)                                                                              \
    AI void product##R##C(long K, const el *restrict A, long lda, const el *restrict B,            \
                          float *restrict c, long ldc)                                             \
    {                                                                                              \
        ROWS##R(DEF##C) ROWS##R(ZERO##C) _Pragma("GCC unroll 2") for (long k = 0; k < K / KS; k++) \
        {                                                                                          \
            const el *b = B + k * C * VW * KS;                                                     \
            kb GET##C(b), a;                                                                       \
            ROWS##R(MUL##C)                                                                        \
        }                                                                                          \
        ROWS##R(PUT##C)                                                                            \
    }
/* c [R][C VW] = al c (NULL: nothing yet) + sum over n blocks of P [R][64] V, V [64 / KS][C VW][KS]
 * at `off` of each block; P of block i at A0 + 64 i */
#define GATHERED(R, C)                                                                          \
    AI void gathered##R##C(int n, const el *restrict A0, long lda, const el *const *restrict V, \
                           size_t off, float *restrict c, long ldc, const float *al)            \
    {                                                                                           \
        ROWS##R(DEF##C) if (al) { ROWS##R(OLDC##C) }                                            \
        else                                                                                    \
        {                                                                                       \
            ROWS##R(ZERO##C)                                                                    \
        }                                                                                       \
        for (int i = 0; i < n; i++) {                                                           \
            const el *A = A0 + i * 64, *B = V[i] + off;                                         \
            _Pragma("GCC unroll 2") for (long k = 0; k < 64 / KS; k++)                          \
            {                                                                                   \
                const el *b = B + k * C * VW * KS;                                              \
                kb GET##C(b), a;                                                                \
                ROWS##R(MUL##C)                                                                 \
            }                                                                                   \
        }                                                                                       \
        ROWS##R(PUT##C)                                                                         \
    }
/* Multiply-adds of registers alone: what the machine could do if nothing had to be loaded. c [6][C
 * VW]: the accumulators, read and written so that no compiler finds two of them equal; b [C VW][KS]
 * of small numbers. */
#define SPIN(C)                                                                      \
    static __attribute__((noinline)) void NAME(spin)(long rounds, const void *small, \
                                                     float *restrict c)              \
    {                                                                                \
        const el *A = small, *b = small;                                             \
        const long lda = 0, k = 0, ldc = C * VW;                                     \
        const float al[6] = {1, 1, 1, 1, 1, 1};                                      \
        ROWS6(DEF##C) ROWS6(OLDC##C) kb GET##C(b), a;                                \
        for (long i = 0; i < rounds; i++) {                                          \
            ROWS6(MUL##C)                                                            \
        }                                                                            \
        ROWS6(PUT##C)                                                                \
    }
#if NV == 4
PRODUCT(6, 4)
PRODUCT(4, 4)
GATHERED(6, 4)
GATHERED(4, 4)
GATHERED(6, 3)
GATHERED(4, 3)
GATHERED(6, 2)
GATHERED(4, 2)
GATHERED(6, 1)
GATHERED(4, 1)
SPIN(4)
#else
PRODUCT(6, 2)
PRODUCT(4, 2)
GATHERED(6, 2)
GATHERED(4, 2)
GATHERED(6, 1)
GATHERED(4, 1)
SPIN(2)
#endif

AI void logits(int R, long Dk, const el *q, const el *k, float *s)
{
    for (int p = 0; p < 64 / PW; p++) {
        const el *panel = k + p * PW * Dk;
#if NV == 4
        if (R == 6)
            product64(Dk, q, Dk, panel, s + p * PW, LINE);
        else
            product44(Dk, q, Dk, panel, s + p * PW, LINE);
#else
        if (R == 6)
            product62(Dk, q, Dk, panel, s + p * PW, LINE);
        else
            product42(Dk, q, Dk, panel, s + p * PW, LINE);
#endif
    }
}

AI void weighted(int R, int n, long Dv, const el *p, const el *const *v, float *o, const float *al)
{
    for (long c = 0; c < Dv; c += PW) {
        long left = (Dv - c) / VW, off = c * 64;
#define TAKE(C)                                                       \
    do {                                                              \
        if (R == 6)                                                   \
            gathered6##C(n, p, PLINE, v, (size_t)off, o + c, Dv, al); \
        else                                                          \
            gathered4##C(n, p, PLINE, v, (size_t)off, o + c, Dv, al); \
    } while (0)
        if (left >= NV) {
#if NV == 4
            TAKE(4);
        } else if (left == 3) {
            TAKE(3);
        } else if (left == 2) {
#endif
            TAKE(2);
        } else {
            TAKE(1);
        }
    }
}

/* ---- softmax of R rows over n blocks in s ---- */
/* One row: returns 2^(m - m'); ts, tm: this row's entries for block sums, NULL: none. */
AI float softmax(int n, const float *s, el *p, float sc, float *m, float *l, float *ts, float *tm)
{
    vf mx = VLOAD(s);
    for (int j = VW; j < 64 * n; j += VW) mx = VMAX(mx, VLOAD(s + j));
    float old = *m, now = VTOP(mx) * sc;
    if (now <= old) now = old;
    /* Every key so far is masked: weights of 2^-125, which the alpha of the first key that is not
     * makes 0. A NaN that the maximum lost still comes through. */
    vf vs = VSET(sc), vm = VSET(now == -INFINITY ? 0 : now), all = VSET(0);
    for (int i = 0; i < n; i++) {
        vf u = VSET(0), w = VSET(0);
        for (int j = 64 * i; j < 64 * i + 64; j += 2 * VW) {
            vf a = VEXP(VFMSUB(VLOAD(s + j), vs, vm)), b = VEXP(VFMSUB(VLOAD(s + j + VW), vs, vm));
            u = VADD(u, a);
            w = VADD(w, b);
            PSTORE2(p + j, a, b);
        }
        u = VADD(u, w);
        all = VADD(all, u);
        if (ts) {
            ts[i * 64] = VSUM(u);
            tm[i * 64] = now;
        }
    }
    float alpha = 1;
    if (now != old) {
        float e[VW] __attribute__((aligned(64)));
        VSTORE(e, VEXP(VSET(old - now)));
        alpha = old == -INFINITY ? 0 : e[0];
        *m = now;
    }
    VSTORE(l, VFMADD(VLOAD(l), VSET(alpha), all));
    return alpha;
}

/* What lies beyond the last key is no key; a bias, and what pooled keys stand for, is added in the
 * units that sc turns into log2. */
static __attribute__((noinline)) void adjust(const ts_attn_job *j, long bh, long row, int R,
                                             const int *list, int n, long keys, float sc,
                                             const float *stand, float *s)
{
    const ts_tensor *b = &j->a->bias;
    const float unit = 1.44269504f / sc;
    for (int r = 0; r < R; r++)
        for (int i = 0; i < n; i++) {
            float *t = s + r * LINE + i * 64;
            long first = (long)list[i] * 64;
            if (list[i] >= j->nkb) {
                const float *add = stand + (list[i] - j->nkb) * 64;
                for (long k = 0; k < 64; k++) t[k] += add[k] * unit;
                continue;
            }
            if (ts_there(*b) && row + r < j->Nq) {
                long head = b->dim[0] == 1 ? 0 : bh % j->A, line = b->dim[1] == 1 ? 0 : row + r;
                const float *add = (const float *)ts_host_of(b->p) +
                                   (head * b->dim[1] + line) * b->ld + first;
                for (long k = 0; k < 64 && first + k < keys; k++) t[k] += add[k] * unit;
            }
            for (long k = keys > first ? keys - first : 0; k < 64; k++) t[k] = -INFINITY;
        }
}

AI void rows(int R, const ts_attn_job *j, long bh, long qblock, const ts_attn_work *w, long row,
             const int *list, int n, long keys, bool odd, float sc, float *m, float *l)
{
    const el *k[G], *v[G];
    float al[6];
    for (int i = 0; i < n; i++) {
        k[i] = (const el *)w->k + (size_t)list[i] * j->k_block;
        v[i] = (const el *)w->v + (size_t)list[i] * j->v_block;
        logits(R, j->Dk, (const el *)w->q + row * j->Dk, k[i], w->s + i * 64);
        ts_attn_ahead_tile(w->ahead);
    }
    if (odd) adjust(j, bh, qblock * 64 + row, R, list, n, keys, sc, w->stand, w->s);
    for (int r = 0; r < R; r++) {
        float *ts = w->sum ? w->sum + (list - w->list) * 64 + row + r : NULL,
              *tm = w->sum ? w->max + (list - w->list) * 64 + row + r : NULL;
        al[r] = softmax(n, w->s + r * LINE, (el *)(void *)w->s + r * PLINE, sc, m + row + r,
                        l + (row + r) * VW, ts, tm);
    }
    weighted(R, n, j->Dv, (const el *)(const void *)w->s, v, w->o + row * j->Dv,
             list == w->list ? NULL : al);
}

static void load_q(const ts_attn_job *j, long bh, long qblock, float scale, el *q)
{
    const ts_tensor *t = &j->a->q;
    long b = bh / j->A, h = bh % j->A, n = j->Nq - qblock * 64 < 64 ? j->Nq - qblock * 64 : 64;
    long fast = t->type == ELTYPE ? j->D / VW * VW : 0;
    for (long r = 0; r < n; r++, q += j->Dk) {
        long at = (b * j->Nq + qblock * 64 + r) * t->ld + h * j->D;
        if (fast) LOADROW(q, (const el *)ts_host_of(t->p) + at, fast, scale);
        for (long d = fast; d < j->Dk; d++)
            q[d] = d < j->D ? TOEL(ts_load(ts_host_of(t->p), t->type, at + d) * scale) : TOEL(0.0f);
    }
    memset(q, 0, (size_t)((64 - n) * j->Dk) * sizeof *q);
}

/* A row of the output, o / l, in the tensor's type. */
AI void store_row(const ts_tensor *t, long at, const float *o, long D, float inv)
{
    long d = 0;
    if (t->type == ELTYPE)
        for (; d + VW <= D; d += VW)
            OSTORE((el *)ts_host_of(t->p) + at + d, VMUL(VLOAD(o + d), VSET(inv)));
    for (; d < D; d++) ts_store(ts_host_of(t->p), t->type, at + d, o[d] * inv);
}

static void finish_rows(const ts_attn_job *j, long bh, long qblock, const ts_attn_work *w,
                        const float *m, const float *l)
{
    const ts_tensor *t = &j->a->out;
    long b = bh / j->A, h = bh % j->A, n = j->Nq - qblock * 64 < 64 ? j->Nq - qblock * 64 : 64;
    float *lse = ts_there(j->a->lse) ? (float *)ts_host_of(j->a->lse.p) + bh * j->Nq + qblock * 64
                                     : NULL;
    float lse2[64];
    for (long r = 0; r < 64; r++) {
        /* no key at all: 0 */
        float sum = VSUM(VLOAD(l + r * VW)), inv = m[r] == -INFINITY && !isnan(sum) ? 0 : 1 / sum;
        const float *o = w->o + r * j->Dv;
        if (w->sum) lse2[r] = m[r] + log2f(sum);
        if (r >= n) continue;
        long at = (b * j->Nq + qblock * 64 + r) * t->ld + h * j->D;
        store_row(t, at, o, j->D, inv);
        if (lse) lse[r] = m[r] * 0.69314718f + logf(sum);
    }
    if (!w->sum) return;
    float *sums = (float *)ts_host_of(j->a->sums.p) + (bh * j->nqb + qblock) * j->nkb;
    memset(sums, 0, (size_t)j->nkb * sizeof *sums);
    for (int i = 0; i < w->n; i++) {
        vf total = VSET(0);
        for (long r = 0; r < 64; r += VW) {
            float e[VW] __attribute__((aligned(64))), live[VW] __attribute__((aligned(64)));
            for (int k = 0; k < VW; k++) {
                bool on = r + k < n && m[r + k] != -INFINITY;
                e[k] = on ? w->max[i * 64 + r + k] - lse2[r + k] : 0;
                live[k] = on ? w->sum[i * 64 + r + k] : 0;
            }
            total = VFMADD(VLOAD(live), VEXP(VLOAD(e)), total);
        }
        sums[w->list[i]] = VSUM(total);
    }
}

AI bool is_odd(const ts_attn_job *j, const int *list, int n, long keys)
{
    return ts_there(j->a->bias) || ((long)list[n - 1] + 1) * 64 > keys;
}

static void NAME(item)(const ts_attn_job *j, long bh, long qblock, const ts_attn_work *w)
{
    float m[66], l[66 * VW] __attribute__((aligned(64))), log2e = j->a->scale * 1.44269504f,
                                                          sc = SCALED ? 1 : log2e;
    long keys = j->a->nk ? j->a->nk[bh / j->A] : j->Nk,
         n = j->Nq - qblock * 64 < 64 ? j->Nq - qblock * 64 : 64;
    for (int r = 0; r < 66; r++) m[r] = -INFINITY;
    memset(l, 0, sizeof l);
    if (!w->n) memset(w->o, 0, (size_t)(64 * j->Dv) * sizeof(float));
    load_q(j, bh, qblock, SCALED ? log2e : 1, w->q);
    for (int i = 0; i < w->n; i += G) {
        int g = w->n - i < G ? w->n - i : G;
        bool odd = is_odd(j, w->list + i, g, keys);
        long r = 0;
        for (; r < n && 64 - r >= 6; r += 6)
            rows(6, j, bh, qblock, w, r, w->list + i, g, keys, odd, sc, m, l);
        if (r < n) rows(4, j, bh, qblock, w, r, w->list + i, g, keys, odd, sc, m, l);
    }
    finish_rows(j, bh, qblock, w, m, l);
}

/* ---- block sums from a kept lse ---- */
/* One key block at a time: its exponentials are computed while the products of the next one are, as
 * far as the core looks ahead. */
AI void cached_rows(int R, const ts_attn_job *j, long bh, long qblock, const ts_attn_work *w,
                    long row, const int *block, long keys, bool odd, float sc, const float *lse2,
                    long live, vf *acc)
{
    logits(R, j->Dk, (const el *)w->q + row * j->Dk, (const el *)w->k + (size_t)*block * j->k_block,
           w->s);
    ts_attn_ahead_tile(w->ahead);
    if (odd) adjust(j, bh, qblock * 64 + row, R, block, 1, keys, sc, NULL, w->s);
    for (int r = 0; r < R && row + r < live; r++) {
        vf vs = VSET(sc), vm = VSET(lse2[row + r]), most = VSET(115), u = VSET(0), v = VSET(0);
        const float *s = w->s + r * LINE;
        for (int k = 0; k < 64; k += 2 * VW) {
            u = VADD(u, VEXP(VMIN(VFMSUB(VLOAD(s + k), vs, vm), most)));
            v = VADD(v, VEXP(VMIN(VFMSUB(VLOAD(s + k + VW), vs, vm), most)));
        }
        *acc = VADD(*acc, VADD(u, v));
    }
}

static void NAME(cached)(const ts_attn_job *j, long bh, long qblock, const ts_attn_work *w,
                         const float *lse, float *sums)
{
    float lse2[64], log2e = j->a->scale * 1.44269504f, sc = SCALED ? 1 : log2e;
    long keys = j->a->nk ? j->a->nk[bh / j->A] : j->Nk,
         n = j->Nq - qblock * 64 < 64 ? j->Nq - qblock * 64 : 64;
    for (long r = 0; r < 64; r++) lse2[r] = r < n ? lse[qblock * 64 + r] * 1.44269504f : 0;
    load_q(j, bh, qblock, SCALED ? log2e : 1, w->q);
    for (int i = 0; i < w->n; i++) {
        bool odd = is_odd(j, w->list + i, 1, keys);
        vf acc = VSET(0);
        long r = 0;
        for (; r < n && 64 - r >= 6; r += 6)
            cached_rows(6, j, bh, qblock, w, r, w->list + i, keys, odd, sc, lse2, n, &acc);
        if (r < n) cached_rows(4, j, bh, qblock, w, r, w->list + i, keys, odd, sc, lse2, n, &acc);
        sums[w->list[i]] = VSUM(acc);
    }
}

/* ---- what pooled keys weigh ---- */
/* n blocks of pooled keys from `first` on: x = S sc + stand, in units of log2, into w->s */
AI void stand_rows(int R, const ts_attn_job *j, const ts_attn_work *w, long row, long first, int n,
                   float sc)
{
    for (int i = 0; i < n; i++)
        logits(R, j->Dk, (const el *)w->q + row * j->Dk,
               (const el *)w->k + (size_t)(first + i) * j->k_block, w->s + i * 64);
    for (int r = 0; r < R; r++)
        for (int c = 0; c < 64 * n; c += VW) {
            float *s = w->s + r * LINE + c;
            VSTORE(s, VFMADD(VLOAD(w->stand + first * 64 + c), VSET(1.44269504f),
                             VMUL(VLOAD(s), VSET(sc))));
        }
}

/* m + log2 l: maxima and sums of R rows over all pooled keys. The exponentials of the last group
 * are left in w->s, of that group's maxima. */
AI void pooled_softmax(int R, const ts_attn_job *j, const ts_attn_work *w, long row, float sc,
                       float *m, float *l)
{
    for (int r = 0; r < R; r++) {
        m[r] = -INFINITY;
        l[r] = 0;
    }
    for (long i = 0; i < j->nkb; i += G) {
        int g = j->nkb - i < G ? (int)(j->nkb - i) : G;
        stand_rows(R, j, w, row, i, g, sc);
        for (int r = 0; r < R; r++) {
            float *s = w->s + r * LINE;
            vf mx = VLOAD(s), sum = VSET(0);
            for (int c = VW; c < 64 * g; c += VW) mx = VMAX(mx, VLOAD(s + c));
            float now = VTOP(mx);
            if (now < m[r]) now = m[r];
            for (int c = 0; c < 64 * g; c += VW) {
                vf e = VEXP(VSUB(VLOAD(s + c), VSET(now)));
                VSTORE(s + c, e);
                sum = VADD(sum, e);
            }
            l[r] = l[r] * exp2f(m[r] - now) + VSUM(sum);
            m[r] = now;
        }
    }
}

/* Adds R rows' weights to w->sum. Of more than one group they are computed again. */
AI void pooled_strip(int R, const ts_attn_job *j, const ts_attn_work *w, long row, long live,
                     float sc, float *lse)
{
    float m[6], l[6], each[6];
    bool again = j->nkb > G;
    pooled_softmax(R, j, w, row, sc, m, l);
    for (int r = 0; r < R; r++) each[r] = row + r < live ? 1 / l[r] : 0;
    for (int r = 0; lse && r < R && row + r < live; r++)
        lse[row + r] = m[r] * 0.69314718f + logf(l[r]);
    for (long i = 0; i < j->nkb; i += G) {
        int g = j->nkb - i < G ? (int)(j->nkb - i) : G;
        if (again) stand_rows(R, j, w, row, i, g, sc);
        for (int c = 0; c < 64 * g; c += VW) {
            float *to = w->sum + i * 64 + c;
            vf sum = VLOAD(to);
            for (int r = 0; r < R; r++) {
                vf e = VLOAD(w->s + r * LINE + c);
                if (again) e = VEXP(VSUB(e, VSET(m[r])));
                sum = VFMADD(e, VSET(each[r]), sum);
            }
            VSTORE(to, sum);
        }
    }
    ts_attn_ahead_tile(w->ahead);
}

static void NAME(pooled)(const ts_attn_job *j, long bh, long qblock, const ts_attn_work *w,
                         float *lse, float *sums)
{
    float log2e = j->a->scale * 1.44269504f, sc = SCALED ? 1 : log2e;
    long n = j->Nq - qblock * 64 < 64 ? j->Nq - qblock * 64 : 64, r = 0;
    if (lse) lse += qblock * 64;
    /* not 0: what is masked adds next to nothing, which would leave numbers that are not normal */
    for (long i = 0; i < j->nkb * 64; i++) w->sum[i] = 0x1p-60f;
    load_q(j, bh, qblock, SCALED ? log2e : 1, w->q);
    for (; r < n && 64 - r >= 6; r += 6) pooled_strip(6, j, w, r, n, sc, lse);
    if (r < n) pooled_strip(4, j, w, r, n, sc, lse);
    memcpy(sums, w->sum, (size_t)j->Nk * sizeof *sums);
}

/* ---- packing one block of 64 keys ---- */
/* rows x columns elements of t from element `at`, widened or rounded, into a corner of `to`
 * [.][stride]; the rest of its `lines` lines is zero. */
static void stage(el *to, long stride, long lines, const ts_tensor *t, long at, long live,
                  long columns)
{
    memset(to, 0, (size_t)(lines * stride) * sizeof *to);
    for (long r = 0; r < live; r++, at += t->ld) {
        if (t->type == ELTYPE)
            memcpy(to + r * stride, (const el *)ts_host_of(t->p) + at,
                   (size_t)columns * sizeof *to);
        else
            for (long d = 0; d < columns; d++)
                to[r * stride + d] = TOEL(ts_load(ts_host_of(t->p), t->type, at + d));
    }
}

static inline long clip(long x, long most) { return x < 0 ? 0 : x > most ? most : x; }

/* 32 bits are one number or a pair of them: K is a transpose of such units. n of the 64 keys are
 * there. */
static void NAME(pack_k)(const ts_attn_job *j, const ts_tensor *t, long at, long n, el *to)
{
    enum { U = VW * KS };
    el from[VW * U] __attribute__((aligned(64)));
    uint32_t square[VW * VW] __attribute__((aligned(64)));
    bool same = t->type == ELTYPE && t->ld % KS == 0;
    for (long p = 0; p < 64; p += PW)
        for (long r = p; r < p + PW; r += VW)
            for (long d = 0; d < j->Dk; d += U) {
                uint32_t *place = (uint32_t *)(void *)(to + p * j->Dk + d * PW + (r - p) * KS);
                for (long i = 0; i < VW; i++)
                    __builtin_prefetch((const el *)ts_host_of(t->p) + at + (r + VW + i) * t->ld +
                                       d);
                if (same && r + VW <= n && d + U <= j->D) {
                    TRANSPOSE(place, PW,
                              (const uint32_t *)(const void *)((const el *)ts_host_of(t->p) + at +
                                                               r * t->ld + d),
                              t->ld / KS);
                    continue;
                }
                stage(from, U, VW, t, at + r * t->ld + d, clip(n - r, VW), clip(j->D - d, U));
                TRANSPOSE(square, VW, (const uint32_t *)(const void *)from, VW);
                for (long i = 0; i < clip((j->Dk - d) / KS, VW); i++)
                    memcpy(place + i * PW, square + i * VW, VW * sizeof *square);
            }
}

/* A row at a time, so that each is read once from end to end. */
static void NAME(pack_v)(const ts_attn_job *j, const ts_tensor *t, long at, long n, el *to)
{
    el from[KS * VW];
    for (long r = 0; r < 64; r += KS) {
        for (long c = 0; c < j->D; c += 64 / (long)sizeof(el))
            for (long i = 0; i < KS; i++)
                __builtin_prefetch((const el *)ts_host_of(t->p) + at + (r + AHEAD + i) * t->ld + c);
        for (long c = 0; c < j->Dv; c += PW) {
            long wide = j->Dv - c < PW ? j->Dv - c : PW;
            for (long d = 0; d < wide; d += VW) {
                el *place = to + c * 64 + r * wide + d * KS;
                const el *a = from;
                long ld = VW, from_at = at + r * t->ld + c + d;
                if (t->type == ELTYPE && r + KS <= n && c + d + VW <= j->D) {
                    a = (const el *)ts_host_of(t->p) + from_at;
                    ld = t->ld;
                } else
                    stage(from, VW, KS, t, from_at, clip(n - r, KS), clip(j->D - c - d, VW));
                PAIR(place, a, a + (KS - 1) * ld);
            }
        }
    }
}

/* Masked keys are packed as if there were none: whatever they hold, a weight of nearly 0 times it
 * stays 0. */
static void NAME(pack)(const ts_attn_job *j, long bh, long block, void *kp, void *vp)
{
    bool pooled = block >= j->nkb;
    const ts_tensor *kt = pooled ? &j->a->pooled_k : &j->a->k,
                    *vt = pooled ? &j->a->pooled_v : &j->a->v;
    if (pooled) block -= j->nkb;
    long b = bh / j->A, h = bh % j->A, all = kt->dim[1],
         keys = !pooled && j->a->nk ? j->a->nk[b] : all, n = clip(keys - block * 64, 64),
         row = b * all + block * 64;
    NAME(pack_k)(j, kt, row * kt->ld + h * j->D, n, kp);
    if (vp) NAME(pack_v)(j, vt, row * vt->ld + h * j->D, n, vp);
}

/* ---- products of f32 matrices, by the kernels whose Q carries the scale ---- */
#if SCALED
static void NAME(product)(long rows, long K, const float *A, long lda, const float *B, float *c,
                          long ldc)
{
    for (long r = 0; r < rows;) {
        bool six = rows - r >= 6 && rows - r != 8;
#if NV == 4
        if (six)
            product64(K, A + r * lda, lda, B, c + r * ldc, ldc);
        else
            product44(K, A + r * lda, lda, B, c + r * ldc, ldc);
#else
        if (six)
            product62(K, A + r * lda, lda, B, c + r * ldc, ldc);
        else
            product42(K, A + r * lda, lda, B, c + r * ldc, ldc);
#endif
        r += six ? 6 : 4;
    }
}

static void NAME(across)(const float *from, long columns, float *to)
{
    for (long c = 0; c < columns; c += VW)
        for (long r = 0; r < 64; r += VW)
            TRANSPOSE((uint32_t *)(void *)(to + c * 64 + r), 64,
                      (const uint32_t *)(const void *)(from + r * columns + c), columns);
}
#endif

const ts_attn_kernel NAME(ts_attn) = {.name = KERNEL,
                                      .ks = KS,
                                      .elem = sizeof(el),
                                      .column = VW,
                                      .pack = NAME(pack),
                                      .item = NAME(item),
                                      .cached = NAME(cached),
                                      .pooled = NAME(pooled),
#if SCALED
                                      .product = NAME(product),
                                      .across = NAME(across),
                                      .panel = PW,
#endif
                                      .spin = NAME(spin),
                                      .lanes = 6 * PW * KS};
