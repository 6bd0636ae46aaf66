/* Top-k of every row of blocks by selection (no row is sorted), heads that share their budget by
 * recall (AdaSpa, arXiv 2502.21079, section 3.3).
 *
 * A float's bits, flipped so that unsigned integers order as the floats do, are split by
 * quickselect until the budget's smallest is known; a pass in order then takes what is larger and,
 * of its equals, the first. Every row is computed alone: thread counts change nothing. */
#include "backend/cpu/topk.h"

#include "backend/cpu/ref.h"

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
            if (s->changed[h])
                s->recall[i] = choose_row(score + row * nb, weight + row * nb, nb, nv, s->k[h],
                                          a->diagonal ? p : -1, s->work + chunk * nv,
                                          bits + row * words);
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

static void write_stat(const selection *s, int row)
{
    if (!ts_there(s->a->stat)) return;
    float *stat = (float *)ts_host_of(s->a->stat.p) + row * s->a->stat.ld;
    for (long h = 0; h < s->A; h++)
        if (is_chosen(s->a, h)) stat[h] = row < 2 ? (float)s->head[h] : (float)(s->k[h] * s->nv);
}

ts_status ts_cpu_topk(ts_cpu *c, const ts_topk *a)
{
    selection s = {.a = a, .A = a->scores.dim[0], .nb = a->scores.dim[1]};
    s.nv = a->nv ? a->nv : s.nb;
    size_t rows = (size_t)(s.A * s.nv);
    void *scratch;
    ts_status st = ts_cpu_scratch(c,
                                  (rows + (size_t)s.A) * sizeof(double) +
                                      (size_t)s.A * (sizeof(long) + 1) +
                                      (size_t)(c->threads * s.nv) * sizeof(uint32_t) + 8,
                                  &scratch);
    if (st || c->dev.counting) return st;
    s.recall = scratch;
    s.head = s.recall + rows;
    s.k = (long *)(s.head + s.A);
    s.work = (uint32_t *)(s.k + s.A);
    s.changed = (unsigned char *)(s.work + c->threads * s.nv);
    for (long h = 0; h < s.A; h++) {
        s.k[h] = ts_plan_budget(a->keep, s.nv);
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
