/* Top-k of every row of blocks by selection (no row is sorted), k a budget or what a share of the
 * row's mass takes, heads that share their budget by
 * recall (AdaSpa, arXiv 2502.21079, section 3.3).
 *
 * A float's bits, flipped so that unsigned integers order as the floats do, are split by
 * quickselect until the budget's smallest is known; a pass in order then takes what is larger and,
 * of its equals, the first. Every row is computed alone: thread counts change nothing. */
#include "backend/cpu/topk.h"

#include "backend/cpu/ref.h"

#include <float.h>
#include <math.h>

static uint32_t sortable_bits(float x)
{
    uint32_t u;
    x += 0.0f; /* -0 counts as 0 */
    memcpy(&u, &x, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

static void swap_indices(uint32_t *a, uint32_t *b)
{
    uint32_t t = *a;
    *a = *b;
    *b = t;
}

/* The k-th largest (k from 1) of n; reorders them. Three-way partition around the median of three:
 * many equal scores cost nothing. */
static uint32_t nth_largest(uint32_t *x, long n, long k)
{
    while (n > 1) {
        uint32_t a = x[0], b = x[n / 2], c = x[n - 1],
                 pivot = a > b ? (b > c   ? b
                                  : a > c ? c
                                          : a)
                               : (a > c   ? a
                                  : b > c ? c
                                          : b);
        /* [0, larger) > pivot, [larger, i) = pivot, [smaller, n) < pivot */
        long larger = 0, i = 0, smaller = n;
        while (i < smaller) {
            if (x[i] > pivot)
                swap_indices(x + larger++, x + i++);
            else if (x[i] < pivot)
                swap_indices(x + i, x + --smaller);
            else
                i++;
        }
        if (k <= larger)
            n = larger;
        else if (k <= smaller)
            return pivot;
        else {
            x += smaller;
            n -= smaller;
            k -= smaller;
        }
    }
    return x[0];
}

/* ---- budgets by mass ---- */
/* What turns the scores of a row into whole numbers below 2^40. */
static double unit_of_row(const float *score, long nb)
{
    float most = 0;
    int exponent;
    for (long j = 0; j < nb; j++) most = score[j] > most ? score[j] : most;
    frexp((double)fminf(most, FLT_MAX), &exponent);
    return ldexp(1, 40 - exponent);
}

static uint64_t mass_of(float score, double unit)
{
    return score > 0 ? (uint64_t)((double)fminf(score, FLT_MAX) * unit) : 0;
}

static float score_of_bits(uint32_t u)
{
    float x;
    u = u & 0x80000000u ? u & 0x7FFFFFFFu : ~u;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* The fewest of n, the largest first, that add up to `need`, which they do; reorders them. As
 * nth_largest, by mass. */
static long count_by_mass(uint32_t *x, long n, uint64_t need, double unit)
{
    long taken = 0;
    while (need > 0 && n > 0) {
        uint32_t pivot = x[n / 2];
        long larger = 0, i = 0, smaller = n;
        uint64_t above = 0, one = mass_of(score_of_bits(pivot), unit);
        while (i < smaller) {
            if (x[i] > pivot) {
                above += mass_of(score_of_bits(x[i]), unit);
                swap_indices(x + larger++, x + i++);
            } else if (x[i] < pivot)
                swap_indices(x + i, x + --smaller);
            else
                i++;
        }
        uint64_t equal = (uint64_t)(smaller - larger) * one;
        if (need <= above)
            n = larger;
        else if (need <= above + equal)
            return taken + larger + (long)((need - above + one - 1) / one);
        else {
            need -= above + equal;
            taken += smaller;
            x += smaller;
            n -= smaller;
        }
    }
    return taken;
}

/* The number of blocks, block `forced` (-1: none) among them, that a row's share of mass takes. */
static long budget_of_mass(const float *score, long nb, long nv, double share, long forced,
                           uint32_t *work)
{
    double unit = unit_of_row(score, nb);
    uint64_t all = 0, held = 0;
    long n = 0;
    for (long j = 0; j < nb; j++) {
        uint64_t mass = mass_of(score[j], unit);
        all += mass;
        if (j >= nv || j == forced)
            held += mass;
        else
            work[n++] = sortable_bits(score[j]);
    }
    uint64_t need = (uint64_t)ceil(share * (double)all);
    long k = (forced >= 0) + (need > held ? count_by_mass(work, n, need - held, unit) : 0);
    return k > 0 ? k : 1;
}

/* Bits of one row: of the first nv blocks those of the k largest scores, block `forced` (-1: none)
 * among them, and all blocks from nv on. Returns the share of the row's weights that they hold. */
static double choose_row(const float *score, const float *weight, long nb, long nv, long k,
                         long forced, uint32_t *work, uint32_t *bits)
{
    double kept = 0, all = 0;
    memset(bits, 0, (size_t)ts_plan_words((int)nb) * sizeof *bits);
    long n = 0, left = k;
    for (long j = 0; j < nv; j++)
        if (j != forced) work[n++] = sortable_bits(score[j]);
    if (forced >= 0) {
        bits[forced / 32] |= 1u << forced % 32;
        left--;
    }
    uint32_t least = left > 0 ? nth_largest(work, n, left) : UINT32_MAX;
    long larger = 0;
    for (long j = 0; left > 0 && j < nv; j++)
        larger += j != forced && sortable_bits(score[j]) > least;
    long equal = left - larger;
    for (long j = 0; j < nv; j++) {
        uint32_t u = sortable_bits(score[j]);
        bool take = left > 0 && j != forced && (u > least || (u == least && equal-- > 0));
        if (take) bits[j / 32] |= 1u << j % 32;
        all += weight[j];
        if (take || j == forced) kept += weight[j];
    }
    for (long j = nv; j < nb; j++) {
        bits[j / 32] |= 1u << j % 32;
        all += weight[j];
        kept += weight[j];
    }
    return all > 0 ? kept / all : 1;
}

typedef struct {
    const ts_topk *a;
    long A, nb, nv;
    double *recall;         /* [A, nv] of rows */
    double *head;           /* [A] */
    long *k;                /* [A] budgets */
    long *blocks;           /* [A, nv] that rows have */
    double mass;            /* 0: rows have their head's budget */
    uint32_t *work;         /* [threads, nv] */
    unsigned char *changed; /* [A] */
} selection;

static bool is_chosen(const ts_topk *a, long h)
{
    return !ts_there(a->who) || ((const int32_t *)ts_host_of(a->who.p))[h] == a->which;
}

static double average_rows(const double *x, long n)
{
    double sum = 0;
    for (long i = 0; i < n; i++) sum += x[i];
    return sum / (double)n;
}

/* Rows of the heads whose budget is new, with recall by head. */
static void choose_heads(const ts_cpu *c, selection *s)
{
    const ts_topk *a = s->a;
    long nb = s->nb, nv = s->nv, words = ts_plan_words((int)nb);
    const float *score = ts_host_of(a->scores.p),
                *weight = ts_there(a->weights) ? ts_host_of(a->weights.p) : score;
    uint32_t *bits = ts_host_of(a->plan.bits);
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (long chunk = 0; chunk < c->threads; chunk++)
        for (long i = chunk; i < s->A * nv; i += c->threads) {
            long h = i / nv, p = i % nv, row = h * nb + p;
            long own = a->diagonal ? p : -1;
            if (!s->changed[h]) continue;
            s->blocks[i] = s->mass > 0 ? budget_of_mass(score + row * nb, nb, nv, s->mass, own,
                                                        s->work + chunk * nv)
                                       : s->k[h];
            s->recall[i] = choose_row(score + row * nb, weight + row * nb, nb, nv, s->blocks[i],
                                      own, s->work + chunk * nv, bits + row * words);
        }
    for (long h = 0; h < s->A; h++)
        if (is_chosen(a, h)) s->head[h] = average_rows(s->recall + h * nv, nv);
}

/* The blocks from nv on read everything. */
static void fill_rows_behind(const selection *s)
{
    long words = ts_plan_words((int)s->nb);
    uint32_t *bits = ts_host_of(s->a->plan.bits);
    for (long h = 0; h < s->A; h++)
        for (long p = s->nv; p < s->nb && is_chosen(s->a, h); p++)
            for (long i = 0; i < words; i++)
                bits[(h * s->nb + p) * words + i] = i < s->nb / 32 ? UINT32_MAX
                                                                   : (1u << s->nb % 32) - 1;
}

/* Is head a of higher recall than b? Among equals the lower one counts as higher. */
static bool ranks_above(const double *recall, long a, long b)
{
    return recall[a] > recall[b] || (recall[a] == recall[b] && a < b);
}

/* New budgets by recall; false: none changed. */
static bool adapt_budgets(selection *s)
{
    double keep = s->a->keep, high = fmin(1, 1.5 * keep), low = 2 * keep - high;
    long n = 0, base = s->k[0], many = ts_plan_budget(high, s->nv),
         few = ts_plan_budget(low, s->nv);
    for (long h = 0; h < s->A; h++) n += s->head[h] > 0.8;
    if (n > s->A / 2) n = s->A / 2;
    for (long h = 0; h < s->A; h++) {
        long better = 0;
        for (long g = 0; g < s->A; g++) better += ranks_above(s->head, g, h);
        if (better < n)
            s->k[h] = few;
        else if (better >= s->A - n)
            s->k[h] = many;
        s->changed[h] = s->k[h] != base;
    }
    return n > 0;
}

static long blocks_of_head(const selection *s, long head)
{
    long sum = 0;
    for (long p = 0; p < s->nv; p++) sum += s->blocks[head * s->nv + p];
    return sum;
}

static void write_stat(const selection *s, int row)
{
    if (!ts_there(s->a->stat)) return;
    float *stat = (float *)ts_host_of(s->a->stat.p) + row * s->a->stat.ld;
    for (long h = 0; h < s->A; h++)
        if (is_chosen(s->a, h)) stat[h] = row < 2 ? (float)s->head[h] : (float)blocks_of_head(s, h);
}

ts_status ts_cpu_topk(ts_cpu *c, const ts_topk *a)
{
    selection s = {.a = a, .A = a->scores.dim[0], .nb = a->scores.dim[1]};
    s.nv = a->nv ? a->nv : s.nb;
    s.mass = a->mass < 1 ? a->mass : 0;
    size_t rows = (size_t)(s.A * s.nv);
    void *scratch;
    ts_status st = ts_cpu_scratch(c,
                                  (rows + (size_t)s.A) * (sizeof(double) + sizeof(long)) +
                                      (size_t)s.A + (size_t)(c->threads * s.nv) * sizeof(uint32_t) +
                                      8,
                                  &scratch);
    if (st || c->dev.counting) return st;
    s.recall = scratch;
    s.head = s.recall + rows;
    s.k = (long *)(s.head + s.A);
    s.blocks = s.k + s.A;
    s.work = (uint32_t *)(s.blocks + rows);
    s.changed = (unsigned char *)(s.work + c->threads * s.nv);
    for (long h = 0; h < s.A; h++) {
        s.k[h] = ts_plan_budget(a->mass < 1 ? a->keep : 1, s.nv);
        s.changed[h] = is_chosen(a, h);
    }
    fill_rows_behind(&s);
    choose_heads(c, &s);
    write_stat(&s, 0);
    if (a->adaptive && adapt_budgets(&s)) choose_heads(c, &s);
    write_stat(&s, 1);
    write_stat(&s, 2);
    return TS_OK;
}
