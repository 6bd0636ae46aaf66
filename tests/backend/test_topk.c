/* Plans from scores against their definition done the slow way, block sums and means of every level
 * against double, on the CPU and behind far addresses. */
#include "backend/cpu/cpu.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t state = 1;
static float draw_number(void) /* -1..1 */
{
    state = state * 1664525u + 1013904223u;
    return (float)((int32_t)state) / 2147483648.0f;
}

static ts_ptr send_guarded(ts_ctx *c, const void *data, size_t bytes)
{
    ts_ptr p;
    ck_ok(c, c->dev->ops->alloc(c->dev, bytes, &p));
    ck_ok(c, c->dev->ops->upload(c->dev, p, data, bytes));
    return p;
}

/* Room for a result with bytes before and behind it that must stay. */
enum { GUARD = 256, PATTERN = 0xA5 };

static ts_ptr take_guarded_room(ts_ctx *c, size_t bytes)
{
    char *pattern = malloc(bytes + 2 * GUARD);
    memset(pattern, PATTERN, bytes + 2 * GUARD);
    ts_ptr p = send_guarded(c, pattern, bytes + 2 * GUARD);
    free(pattern);
    return ts_at(p, GUARD);
}

static void fetch_guarded(ts_ctx *c, void *to, ts_ptr p, size_t bytes, const char *what)
{
    unsigned char *all = malloc(bytes + 2 * GUARD);
    ck_ok(c, c->dev->ops->download(c->dev, all, (ts_ptr){p.at - GUARD}, bytes + 2 * GUARD));
    for (size_t i = 0; i < bytes + 2 * GUARD; i++)
        if ((i < GUARD || i >= GUARD + bytes) && all[i] != PATTERN)
            ck_abort_msg("%s: byte %ld of %zu is written", what, (long)i - GUARD, bytes);
    memcpy(to, all + GUARD, bytes);
    free(all);
}

static void free_guarded(ts_ctx *c, ts_ptr room)
{
    c->dev->ops->free(c->dev, (ts_ptr){room.at - GUARD});
}

/* Top-k is one of the searches whose scratch a counting run sizes: here it is sized by use. */
typedef struct {
    long A, nb;
    double keep;
    bool diagonal, adaptive;
    int ties;
    long nv; /* 0: nb */
    double mass;
} pattern;

static long chosen_blocks(const pattern *p) { return p->nv ? p->nv : p->nb; }

static void draw_scores(const pattern *p, float *score)
{
    for (long i = 0; i < p->A * p->nb * p->nb; i++) {
        double x = exp(4 * draw_number() * (double)(1 + i / (p->nb * p->nb)));
        score[i] = (float)(p->ties ? floor(x * p->ties) / p->ties : x);
    }
}

static int by_score(const void *x, const void *y)
{
    const double *a = x, *b = y;
    return a[0] > b[0] ? -1 : a[0] < b[0] ? 1 : a[1] < b[1] ? -1 : 1;
}

/* The definition: sort the row's first nv, take the first k; the rest is read in any case. Returns
 * what share of the row is read. */
static double take_row(const float *row, long nb, long nv, long k, long forced, bool *kept)
{
    double list[nb][2], sum = 0, all = 0;
    for (long j = 0; j < nb; j++) {
        list[j][0] = j == forced ? INFINITY : row[j];
        list[j][1] = (double)j;
        kept[j] = j >= nv;
        all += row[j];
    }
    qsort(list, (size_t)nv, sizeof *list, by_score);
    for (long i = 0; i < k; i++) kept[(long)list[i][1]] = true;
    for (long j = 0; j < nb; j++) /* in one order, so that heads of equal recall are equal */
        if (kept[j]) sum += row[j];
    return all > 0 ? sum / all : 1;
}

static long budget(double keep, long nb)
{
    long k = (long)floor(keep * (double)nb + 0.5);
    return k < 1 ? 1 : k > nb ? nb : k;
}

/* The definition of `mass`: blocks are added, the largest first, until what is read holds as much;
 * how many of the nv are read then. */
static long blocks_of_mass(const pattern *p, const float *row, long forced)
{
    long nb = p->nb, nv = chosen_blocks(p), n = 0;
    double list[nb][2], all = 0, sum = 0, most = 0;
    for (long j = 0; j < nb; j++) most = fmax(most, row[j]);
    double unit = exp2(39 - floor(log2(most)));
    for (long j = 0; j < nb; j++) {
        double x = floor(row[j] * unit);
        all += x;
        if (j >= nv || j == forced) sum += x;
        list[j][0] = j == forced ? INFINITY : row[j];
        list[j][1] = x;
    }
    qsort(list, (size_t)nv, sizeof *list, by_score);
    if (forced >= 0) n = 1;
    while (n < nv && (n == 0 || sum < p->mass * all)) sum += list[n++][1];
    return p->mass < 1 ? n : nv;
}

static void define(const pattern *p, const float *score, long *blocks, double *base, double *recall,
                   bool *kept)
{
    long order[p->A], k[p->A], give = 0, nv = chosen_blocks(p);
    for (long i = 0; i < p->A * p->nb * p->nb; i++) kept[i] = true; /* rows from nv on */
    for (int pass = 0; pass < 2; pass++)
        for (long a = 0; a < p->A; a++) {
            if (!pass) {
                k[a] = budget(p->keep, nv);
                order[a] = a;
            }
            double sum = 0;
            if (p->mass > 0) blocks[a] = 0;
            for (long r = 0; r < nv; r++) {
                const float *row = score + (a * p->nb + r) * p->nb;
                long own = p->diagonal ? r : -1,
                     n = p->mass > 0 ? blocks_of_mass(p, row, own) : k[a];
                if (p->mass > 0) blocks[a] += n;
                sum += take_row(row, p->nb, nv, n, own, kept + (a * p->nb + r) * p->nb);
            }
            if (!(p->mass > 0)) blocks[a] = k[a] * nv;
            recall[a] = sum / (double)nv;
            if (!pass) base[a] = recall[a];
            if (pass || a < p->A - 1 || !p->adaptive) continue;
            for (long i = 0; i < p->A; i++) give += base[i] > 0.8;
            if (give > p->A / 2) give = p->A / 2;
            for (long i = 1; i < p->A; i++) /* insertion: stable, highest first */
                for (long j = i; j > 0 && base[order[j]] > base[order[j - 1]]; j--) {
                    long t = order[j];
                    order[j] = order[j - 1];
                    order[j - 1] = t;
                }
            double high = fmin(1, 1.5 * p->keep);
            for (long i = 0; i < give; i++) {
                k[order[i]] = budget(2 * p->keep - high, nv);
                k[order[p->A - 1 - i]] = budget(high, nv);
            }
        }
}

static void check_pattern(const pattern *p, ts_ctx *c)
{
    long A = p->A, nb = p->nb, words = ts_plan_words((int)nb), cells = A * nb * nb, ld = A + 2;
    float *score = malloc((size_t)cells * 4), stat[3 * ld];
    uint32_t *bits = malloc((size_t)(A * nb * words) * 4);
    bool *kept = malloc((size_t)cells);
    long blocks[A];
    double base[A], recall[A];
    draw_scores(p, score);
    ts_topk t = {.scores = ts_tensor_of(send_guarded(c, score, (size_t)cells * 4), TS_F32,
                                        TS_DIM(A, nb, nb)),
                 .nv = (int)p->nv,
                 .keep = p->keep,
                 .diagonal = p->diagonal,
                 .adaptive = p->adaptive,
                 .mass = p->mass,
                 .plan = {.A = (int)A,
                          .nb = (int)nb,
                          .bits = take_guarded_room(c, (size_t)(A * nb * words) * 4)},
                 .stat = ts_tensor_of(take_guarded_room(c, sizeof stat), TS_F32, TS_DIM(3, A))};
    t.stat.ld = ld;
    ck_ok(c, ts_topk_op(c->dev, t));
    fetch_guarded(c, bits, t.plan.bits, (size_t)(A * nb * words) * 4, "bits");
    fetch_guarded(c, stat, t.stat.p, sizeof stat, "stat");
    define(p, score, blocks, base, recall, kept);
    /* an assertion that holds writes to a file, too: only what is wrong is asserted, of millions */
    for (long i = 0; i < A * nb; i++)
        for (long j = 0; j < words * 32; j++)
            if ((bits[i * words + j / 32] >> j % 32 & 1) != (j < nb && kept[i * nb + j]))
                ck_abort_msg("%ld of %ld blocks, keep %g: block %ld of row %ld", p->nv, nb, p->keep,
                             j, i);
    for (long a = 0; a < A; a++)
        ck_assert(fabs(stat[a] - base[a]) < 1e-6 && fabs(stat[ld + a] - recall[a]) < 1e-6 &&
                  (long)stat[2 * ld + a] == blocks[a]);
    c->dev->ops->free(c->dev, t.scores.p);
    free_guarded(c, t.plan.bits);
    free_guarded(c, t.stat.p);
    free(score);
    free(bits);
    free(kept);
}

/* Text: one block (the mixed one alone) or more behind the video's, in the same word or beyond. */
START_TEST(plans)
{
    static const long sizes[] = {1, 2, 5, 31, 32, 33, 64, 129}, text[] = {1, 2, 40};
    static const double keeps[] = {0.01, 0.2, 0.35, 0.5, 0.7, 1};
    ts_ctx *on[2][2];
    for (int i = 0; i < 4; i++)
        on[i / 2][i % 2] = testing_open(i / 2 ? "far" : "cpu", NULL, 1 + i % 2);
    state = 7;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++)
            for (int f = 0; f < 24; f++)
                check_pattern(&(pattern){.A = 1 + f % 12,
                                         .nb = sizes[s] + (f / 12 ? text[(s + i) % 3] : 0),
                                         .nv = f / 12 ? sizes[s] : 0,
                                         .keep = keeps[i],
                                         .diagonal = f & 1,
                                         .adaptive = f & 2,
                                         .ties = f & 4 ? 3 : 0},
                              on[s % 2][f % 2]);
    for (int i = 0; i < 4; i++) testing_close(on[i / 2][i % 2]);
}
END_TEST

/* Shares of mass instead of budgets, one of them all. */
START_TEST(masses)
{
    static const long sizes[] = {1, 2, 5, 31, 33, 64, 129}, text[] = {1, 2, 40};
    static const double shares[] = {1e-9, 0.2, 0.5, 0.9, 0.999, 1};
    ts_ctx *on[2] = {testing_open("cpu", NULL, 2), testing_open("far", NULL, 1)};
    state = 11;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
            for (int f = 0; f < 8; f++)
                check_pattern(&(pattern){.A = 1 + f % 5,
                                         .nb = sizes[s] + (f & 4 ? text[(s + i) % 3] : 0),
                                         .nv = f & 4 ? sizes[s] : 0,
                                         .keep = 0.2,
                                         .mass = shares[i],
                                         .diagonal = f & 1,
                                         .ties = f & 2 ? 3 : 0},
                              on[(s + i) % 2]);
    for (int i = 0; i < 2; i++) testing_close(on[i]);
}
END_TEST

/* One head of N blocks on the CPU, without a device's memory. */
static void pick_blocks(const float *score, long A, long nb, double keep, bool adaptive,
                        uint32_t *bits, float *stat)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ck_ok(c, ts_topk_op(
                 c->dev,
                 (ts_topk){
                     .scores = ts_tensor_of((ts_ptr){(uintptr_t)score}, TS_F32, TS_DIM(A, nb, nb)),
                     .keep = keep,
                     .adaptive = adaptive,
                     .plan = {.A = (int)A, .nb = (int)nb, .bits = {(uintptr_t)bits}},
                     .stat = ts_tensor_of((ts_ptr){(uintptr_t)stat}, TS_F32, TS_DIM(3, A))}));
    testing_close(c);
}

/* -0 and 0 are equal, so the first of them are taken; negative scores lie below both. */
START_TEST(zeros_of_both_signs)
{
    static const float score[16] = {-1,    -0.0f, 0,     -0.0f, 0,  -0.0f, -2, 0,
                                    -0.0f, -0.0f, -0.0f, 0,     -3, -3,    0,  -0.0f};
    static const uint32_t want[4] = {6, 3, 3, 12}; /* of 1 2 3; of 0 1 3, of 0 1 2 3, of 2 3 */
    uint32_t bits[4];
    float stat[3];
    pick_blocks(score, 1, 4, 0.5, false, bits, stat);
    for (int i = 0; i < 4; i++) ck_assert_uint_eq(bits[i], want[i]);
}
END_TEST

/* More than 0.8 of the weight in a fifth of the blocks makes a head one that can give: of 0.79,
 * 0.798, 0.81 and 0.95 the latter two, to the first two. */
START_TEST(what_heads_give_from)
{
    enum { A = 4, NB = 10 };
    static const float best[A] = {0.79f, 0.798f, 0.81f, 0.95f};
    static const long want[2][A] = {{3, 3, 1, 1}, {2, 3, 2, 1}};
    float score[A * NB * NB], stat[3 * A];
    uint32_t bits[A * NB];
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < A * NB * NB; i++) {
            /* then only one gives, to the least */
            float b = t && i / (NB * NB) == 2 ? 0.795f : best[i / (NB * NB)];
            if (t && i / (NB * NB) == 1) b = 0.79f;
            if (t && i / (NB * NB) == 0) b = 0.798f;
            score[i] = i % NB < 2 ? b / 2 : (1 - b) / 8;
        }
        pick_blocks(score, A, NB, 0.2, true, bits, stat);
        for (int a = 0; a < A; a++)
            ck_assert_msg((long)stat[2 * A + a] == want[t][a] * NB,
                          "%d: head %d keeps %g of %d blocks", t, a, (double)stat[2 * A + a],
                          NB * NB);
    }
}
END_TEST

/* Keep's mean over heads stays: as many heads give as take, by the same amount. */
START_TEST(heads_share)
{
    enum { A = 8, NB = 100 };
    float *score = calloc(A * NB * NB, 4), stat[3 * A];
    /* three heads look at one block only, five at all alike */
    for (long i = 0; i < A * NB * NB; i++) score[i] = i / (NB * NB) < 3 && i % NB != 7 ? 1e-6f : 1;
    uint32_t bits[A * NB * 4];
    pick_blocks(score, A, NB, 0.2, true, bits, stat);
    static const long want[A] = {10, 10, 10, 20, 20, 30, 30, 30};
    for (int a = 0; a < A; a++) ck_assert_int_eq((long)stat[2 * A + a], want[a] * NB);
    free(score);
}
END_TEST

/* ---- sums and means ---- */
typedef struct {
    long B, N, A, D, pad;
    ts_dtype type;
} shape;

static float round_to(float x, ts_dtype t)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    if (t == TS_BF16) u &= 0xFFFF0000u;
    memcpy(&x, &u, 4);
    return x;
}

static ts_tensor rows(ts_ctx *c, const shape *s, float *x)
{
    long ld = s->A * s->D + s->pad, n = s->B * s->N * ld;
    uint16_t *half = malloc((size_t)n * 2);
    for (long i = 0; i < n; i++) {
        uint32_t u;
        x[i] = round_to(1.7f * draw_number(), s->type);
        memcpy(&u, x + i, 4);
        half[i] = (uint16_t)(u >> 16);
    }
    ts_tensor t = ts_tensor_of(
        send_guarded(c, s->type == TS_BF16 ? (void *)half : x, (size_t)n * ts_dtype_size(s->type)),
        s->type, TS_DIM(s->B, s->N, s->A, s->D));
    t.ld = ld;
    free(half);
    return t;
}

static double dot(const shape *s, const float *x, const float *y, long b, long n, long m, long h)
{
    long ld = s->A * s->D + s->pad;
    double sum = 0;
    for (long d = 0; d < s->D; d++)
        sum += (double)x[(b * s->N + n) * ld + h * s->D + d] *
               y[(b * s->N + m) * ld + h * s->D + d];
    return sum;
}

/* What f32 may be off by, of numbers drawn uniformly from -1.7..1.7 (deviation 0.98): five standard
 * deviations, a rounding being uniform within ROUND of a number's power of two.
 *
 * Sums: a logit adds D products, whose partial sums grow as sqrt(d): 0.4 sqrt(D) ROUND in units of
 * the exponent, 2 sqrt(D) for five. lse in units of log2 lies in 4..8 and is rounded twice: 2.3
 * ROUND, and the sum of exponentials a few times. That is one exponential's; a sum's are not all
 * off alike. Plain C is double and rounds once. The exponential of the bf16 kernel is off by up to
 * 7.5e-5 itself. Means: D products of means of rq and rk rows, 0.98 / sqrt(rq) and 0.98 / sqrt(rk)
 * large: 0.4 D / sqrt(rq rk) for adding them up; the means themselves, after 64 additions, are off
 * by 0.4 ROUND times the other's size. */
static const double ROUND = 1 / 16777216.0;

static void compare_block_sums(const shape *s, const char *backend, const char *level)
{
    bool plain = !strcmp(level, "ref"), rough = s->type == TS_BF16 && !strcmp(level, "avx512_bf16");
    ts_ctx *c = testing_open(backend, level, 2);
    long ld = s->A * s->D + s->pad, n = s->B * s->N * ld, nb = (s->N + 63) / 64,
         cells = s->B * s->A * nb * nb;
    float *q = malloc((size_t)n * 4), *k = malloc((size_t)n * 4),
          *lse = malloc((size_t)(s->B * s->A * s->N) * 4), *got = malloc((size_t)cells * 4);
    ts_tensor tq = rows(c, s, q), tk = rows(c, s, k);
    for (long i = 0; i < s->B * s->A * s->N; i++) lse[i] = 3 + draw_number();
    lse[0] = -300; /* exponents far beyond float: clamped */
    ts_tensor tl = ts_tensor_of(send_guarded(c, lse, (size_t)(s->B * s->A * s->N) * 4), TS_F32,
                                TS_DIM(s->B, s->A, s->N)),
              ts = ts_tensor_of(take_guarded_room(c, (size_t)cells * 4), TS_F32,
                                TS_DIM(s->B, s->A, nb, nb));
    float scale = (float)(1 / sqrt((double)s->D));
    ck_ok(c, ts_block_sums_op(c->dev, (ts_block_sums){tq, tk, scale, tl, ts}));
    fetch_guarded(c, got, ts.p, (size_t)cells * 4, "sums");
    for (long i = 0; i < cells; i++) {
        long j = i % nb, p = i / nb % nb, bh = i / (nb * nb);
        double want = 0;
        for (long r = p * 64; r < s->N && r < p * 64 + 64; r++)
            for (long m = j * 64; m < s->N && m < j * 64 + 64; m++)
                want += exp(
                    fmin(scale * dot(s, q, k, bh / s->A, r, m, bh % s->A) - lse[bh * s->N + r],
                         115 * M_LN2));
        double tol = want * (plain ? 2 : 2 * sqrt((double)s->D) + 16) * ROUND +
                     want * (rough ? 7.5e-5 : 0);
        ck_assert_msg(fabs(got[i] - want) <= tol,
                      "%s %s: sum %ld is %.9g, expected %.9g, within %.1e", backend, level, i,
                      got[i], want, tol);
    }
    float means[nb * nb * s->A * s->B];
    ck_ok(c, ts_block_means_op(c->dev, (ts_block_means){tq, tk, ts}));
    fetch_guarded(c, means, ts.p, (size_t)cells * 4, "means");
    for (long i = 0; i < cells; i++) {
        long j = i % nb, p = i / nb % nb, bh = i / (nb * nb), rq = 0, rk = 0;
        double want = 0;
        for (long r = p * 64; r < s->N && r < p * 64 + 64; r++, rq++) {
            rk = 0;
            for (long m = j * 64; m < s->N && m < j * 64 + 64; m++, rk++)
                want += dot(s, q, k, bh / s->A, r, m, bh % s->A);
        }
        want /= (double)(rq * rk);
        double tol = 2 * ROUND *
                     ((double)s->D / sqrt((double)(rq * rk)) +
                      sqrt((double)s->D) * (1 / sqrt((double)rq) + 1 / sqrt((double)rk)));
        ck_assert_msg(fabs(means[i] - want) <= tol, "mean %ld is %.9g, expected %.9g, within %.1e",
                      i, means[i], want, tol);
    }
    c->dev->ops->free(c->dev, tq.p);
    c->dev->ops->free(c->dev, tk.p);
    c->dev->ops->free(c->dev, tl.p);
    free_guarded(c, ts.p);
    free(q);
    free(k);
    free(lse);
    free(got);
    testing_close(c);
}

START_TEST(sums)
{
    static const char *const levels[] = {"ref", "avx2", "avx512", "avx512_bf16"};
    static const shape shapes[] = {{1, 1, 1, 16, 0, TS_F32},     {1, 64, 2, 64, 0, TS_F32},
                                   {2, 131, 3, 40, 8, TS_F32},   {1, 300, 1, 128, 0, TS_F32},
                                   {1, 200, 2, 72, 16, TS_BF16}, {2, 65, 1, 64, 0, TS_BF16}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_level most = ((ts_cpu *)c->dev)->level;
    testing_close(c);
    for (int l = 0; l < 4; l++) {
        if (l > (int)most) {
            printf("skip: this CPU has no %s\n", levels[l]);
            continue;
        }
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            if (shapes[i].type == TS_BF16 && l == 3) {
                compare_block_sums(shapes + i, "far", levels[l]);
                continue;
            }
            compare_block_sums(shapes + i, "cpu", levels[l]);
        }
    }
}
END_TEST

/* Exponentials by themselves: queries are 0, so that every key of a row weighs exp(-lse); of each
 * block's rows one has a finite lse, others weigh 2^-126. */
START_TEST(exponentials)
{
    enum { N = 32 * 64, A = 8, D = 16, NB = N / 64 };
    static const char *const levels[] = {"avx2", "avx512", "avx512_bf16"};
    for (int l = 0; l < 3; l++)
        for (int t = 0; t < 2; t++) {
            ts_ctx *c = testing_open("cpu", NULL, 2);
            ts_level most = ((ts_cpu *)c->dev)->level;
            testing_close(c);
            if ((int)most < l + 1) continue;
            c = testing_open("cpu", levels[l], 2);
            void *zero = calloc(N * A * D, 4);
            float *lse = malloc(N * A * sizeof *lse), *got = malloc(NB * NB * A * sizeof *got);
            for (int i = 0; i < N * A; i++)
                lse[i] = i % 64 == i / 64 % 64 ? 2 * ((float)(i / 64) / (NB * A) - 0.5f) : 200;
            ts_tensor x = ts_tensor_of((ts_ptr){(uintptr_t)zero}, t ? TS_BF16 : TS_F32,
                                       TS_DIM(1, N, A, D));
            x.ld = A * D;
            ck_ok(c,
                  ts_block_sums_op(
                      c->dev,
                      (ts_block_sums){
                          x, x, 1, ts_tensor_of((ts_ptr){(uintptr_t)lse}, TS_F32, TS_DIM(1, A, N)),
                          ts_tensor_of((ts_ptr){(uintptr_t)got}, TS_F32, TS_DIM(1, A, NB, NB))}));
            for (int i = 0; i < NB * A; i++) {
                /* as the kernels say; and the argument, at most 1.44, is rounded, as is a sum of 64
                 * equal numbers */
                double want = 64 * exp(-lse[i * 64 + i % 64]),
                       most_off = t && l == 2 ? 7.5e-5 : 7.5e-8;
                for (int j = 0; j < NB; j++)
                    ck_assert_msg(fabs(got[i * NB + j] / want - 1) <= most_off + 4 * ROUND,
                                  "%s: exp(%g) is off by %.2e", levels[l],
                                  -(double)lse[i * 64 + i % 64], got[i * NB + j] / want - 1);
            }
            free(zero);
            free(lse);
            free(got);
            testing_close(c);
        }
}
END_TEST

START_TEST(refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    float x[64];
    uint32_t bits[4];
    ts_tensor s = ts_tensor_of((ts_ptr){(uintptr_t)x}, TS_F32, TS_DIM(1, 4, 4));
    ts_plan p = {.A = 1, .nb = 4, .bits = {(uintptr_t)bits}},
            other = {.A = 2, .nb = 4, .bits = {(uintptr_t)bits}};
    ck_assert_int_eq(ts_topk_op(c->dev, (ts_topk){.scores = s, .keep = 0, .plan = p}), TS_ESHAPE);
    ck_assert_str_eq(c->err.text, "top-k: keep 0, expected more than 0 and at most 1");
    ck_assert_int_eq(ts_topk_op(c->dev, (ts_topk){.scores = s, .keep = 1, .plan = other}),
                     TS_ESHAPE);
    ck_assert_str_eq(c->err.text, "top-k: a plan of 2 heads and 4 blocks, expected 1 and 4");
    ck_assert_int_eq(ts_topk_op(c->dev, (ts_topk){.scores = s, .keep = 1, .mass = 1.5, .plan = p}),
                     TS_ESHAPE);
    ck_assert_str_eq(c->err.text, "top-k: mass 1.5, expected 0 to 1");
    ck_assert_int_eq(
        ts_topk_op(c->dev,
                   (ts_topk){.scores = s, .keep = 1, .mass = 0.5, .adaptive = true, .plan = p}),
        TS_ESHAPE);
    ck_assert_str_eq(c->err.text, "top-k: adaptive shares budgets, with mass 0.5 there are none");
    for (int nv = -1; nv <= 5; nv += 6) {
        char sentence[80];
        ck_assert_int_eq(ts_topk_op(c->dev, (ts_topk){.scores = s, .nv = nv, .keep = 1, .plan = p}),
                         TS_ESHAPE);
        snprintf(sentence, sizeof sentence, "top-k: a choice among %d blocks, expected 0 to 4", nv);
        ck_assert_str_eq(c->err.text, sentence);
    }
    ts_tensor q = ts_tensor_of((ts_ptr){(uintptr_t)x}, TS_F32, TS_DIM(1, 4, 1, 4)),
              lse = ts_tensor_of((ts_ptr){(uintptr_t)x}, TS_F32, TS_DIM(1, 1, 3)),
              sum = ts_tensor_of((ts_ptr){(uintptr_t)x}, TS_F32, TS_DIM(1, 1, 1, 1));
    ck_assert_int_eq(ts_block_sums_op(c->dev, (ts_block_sums){q, q, 1, lse, sum}), TS_ESHAPE);
    ck_assert_str_eq(c->err.text,
                     "block sums: lse is [1, 1, 3] F32, expected rows and width of [1, 4] F32");
    ck_assert_int_eq(ts_block_means_op(c->dev, (ts_block_means){q, q, lse}), TS_ESHAPE);
    ts_tensor wide = ts_tensor_of(s.p, TS_F32, TS_DIM(1, 2, 4)),
              stat = ts_tensor_of(s.p, TS_F32, TS_DIM(2, 1));
    wide.ld = 4;
    ck_assert_int_eq(ts_topk_op(c->dev, (ts_topk){.scores = wide, .keep = 1, .plan = p}),
                     TS_ESHAPE);
    ck_assert_str_eq(
        c->err.text,
        "top-k: scores is [1, 2, 4] F32, expected packed and square, such as [1, 2, 2] F32");
    ck_assert_int_eq(ts_topk_op(c->dev, (ts_topk){.scores = s, .keep = 1, .plan = p, .stat = stat}),
                     TS_ESHAPE);
    ck_assert_str_eq(c->err.text,
                     "top-k: stat is [2, 1] F32, expected rows and width of [3, 1] F32");
    p.bits.at = 0;
    ck_assert_int_eq(ts_topk_op(c->dev, (ts_topk){.scores = s, .keep = 1, .plan = p}), TS_ESHAPE);
    testing_close(c);
}
END_TEST

/* One slip at a time in two blocks of two heads. */
START_TEST(searches_refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    const ts_ptr at = {4096}; /* counting looks at shapes alone */
    c->dev->counting = true;
    static const char *const sentence[] = {
        NULL,
        "rows of sums are 3 elements apart, expected 2",
        "rows of lse are 129 elements apart, expected 128",
        "scale 0, expected more than 0",
        "7 and 8 elements from token to token, expected at least 8",
        "8 and 7 elements from token to token, expected at least 8",
        "k is [1, 127, 2, 4] F32, expected the same as q: [1, 128, 2, 4] F32",
        "k is [1, 128, 2, 4] BF16, expected another type"};
    for (int i = 0; i < 8; i++) {
        ts_tensor x = ts_tensor_of(at, TS_F32, TS_DIM(1, 128, 2, 4));
        x.ld = 8;
        ts_block_sums a = {x, x, 1, ts_tensor_of(at, TS_F32, TS_DIM(1, 2, 128)),
                           ts_tensor_of(at, TS_F32, TS_DIM(1, 2, 2, 2))};
        if (i == 1) a.sums.ld = 3;
        if (i == 2) a.lse.ld = 129;
        if (i == 3) a.scale = 0;
        if (i == 4) a.q.ld = 7;
        if (i == 5) a.k.ld = 7;
        if (i == 6) a.k.dim[1] = 127;
        if (i == 7) a.k.type = TS_BF16;
        ts_status st = ts_block_sums_op(c->dev, a);
        ck_assert_int_eq(st, sentence[i] ? TS_ESHAPE : TS_OK);
        if (sentence[i])
            ck_assert_msg(strstr(c->err.text, sentence[i]) != NULL, "\"%s\", expected \"%s\"",
                          c->err.text, sentence[i]);
    }
    c->dev->counting = false;
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("topk");
    TCase *tc = tcase_create("topk");
    tcase_add_test(tc, plans);
    tcase_add_test(tc, masses);
    tcase_add_test(tc, zeros_of_both_signs);
    tcase_add_test(tc, what_heads_give_from);
    tcase_add_test(tc, heads_share);
    tcase_add_test(tc, sums);
    tcase_add_test(tc, exponentials);
    tcase_add_test(tc, refused);
    tcase_add_test(tc, searches_refused);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
