/* Attention on the CPU: checks, lists, packing, and the queue of work for the kernel of the level.
 *
 * Heads are taken a round at a time: their packed keys and values are used by all their query blocks while the cache still has them. A round is as few heads as keep all threads
 * evenly busy. Work items (head, query block) go out longest list first; each packs a part of the next round, from memory that was fetched while it computed. */
#include "backend/cpu/attention.h"

#include <omp.h>

enum { ROW = 64, SHARE = 64, EACH = 3 }; /* SHARE: items a thread at least in a round, so that the wait for the last one is short; EACH: rows that are fetched a tile, unless they are many */
static const size_t CACHED = (size_t)4 << 20, PACKED = (size_t)512 << 20; /* bytes of packed heads: as many as a shared cache surely keeps; never more, unless one head is more */

static ts_status misfit(ts_device *d, const char *what) { return ts_fail(d->err, TS_ESHAPE, "attention: %s", what); }

/* Plans, lse and sums. */
static ts_status fit_results(ts_device *d, const ts_attention *a)
{
    long B = a->q.dim[0], Nq = a->q.dim[1], A = a->q.dim[2], Nk = a->k.dim[1], nqb = (Nq + ROW - 1) / ROW, nkb = (Nk + ROW - 1) / ROW;
    const long *l = a->lse.dim, *s = a->sums.dim;
    if (a->plan && (Nq != Nk || ts_there(a->bias))) return misfit(d, "a plan needs as many keys as queries, and no bias");
    for (long b = 0; a->plan && b < B; b++) {
        const ts_plan *p = a->plan[b];
        if (p && (p->nb != nkb || (p->A != 1 && p->A != A))) return ts_fail(d->err, TS_ESHAPE, "attention: a plan of %d heads and %d blocks, expected %ld and %ld", p->A, p->nb, A, nkb);
    }
    if (ts_there(a->lse) && (a->lse.type != TS_F32 || a->lse.nd != 3 || l[0] != B || l[1] != A || l[2] != Nq || a->lse.ld != Nq)) return misfit(d, "lse is packed f32 [B, A, Nq]");
    if (ts_there(a->sums) && (a->sums.type != TS_F32 || a->sums.nd != 4 || s[0] != B || s[1] != A || s[2] != nqb || s[3] != nkb || a->sums.ld != nkb))
        return misfit(d, "sums is packed f32 [B, A, blocks of queries, blocks of keys]");
    return TS_OK;
}

static ts_status fit(ts_device *d, const ts_attention *a)
{
    const long *q = a->q.dim, *k = a->k.dim;
    if (a->q.nd != 4 || a->k.nd != 4 || a->v.nd != 4 || a->out.nd != 4) return misfit(d, "q, k, v and out are [B, N, A, D]");
    if (a->q.type != TS_F32 && a->q.type != TS_BF16) return misfit(d, "q is f32 or bf16");
    if (a->k.type != a->q.type || a->v.type != a->q.type || a->out.type != a->q.type) return misfit(d, "q, k, v and out are of one type");
    for (int i = 0; i < 4; i++)
        if (a->v.dim[i] != k[i] || a->out.dim[i] != q[i] || (i != 1 && k[i] != q[i]))
            return ts_fail(d->err, TS_ESHAPE, "attention: q [%ld, %ld, %ld, %ld] does not go with k [%ld, %ld, %ld, %ld]", q[0], q[1], q[2], q[3], k[0], k[1], k[2], k[3]);
    if (ts_there(a->bias)) {
        const long *b = a->bias.dim;
        if (a->bias.nd != 3 || a->bias.type != TS_F32 || (b[0] != 1 && b[0] != q[2]) || (b[1] != 1 && b[1] != q[1]) || b[2] != k[1]) return misfit(d, "bias is f32 [A or 1, Nq or 1, Nk]");
    }
    if (!(a->scale > 0)) return ts_fail(d->err, TS_ESHAPE, "attention: scale %g, expected more than 0", (double)a->scale);
    const ts_tensor *strided[] = {&a->q, &a->k, &a->v, &a->out};
    for (int i = 0; i < 4; i++)
        if (strided[i]->ld < q[2] * q[3]) return ts_fail(d->err, TS_ESHAPE, "attention: %ld elements from token to token, expected at least %ld x %ld", strided[i]->ld, q[2], q[3]);
    for (long b = 0; a->nk && b < q[0]; b++)
        if (a->nk[b] < 0 || a->nk[b] > k[1]) return ts_fail(d->err, TS_ESHAPE, "attention: %d keys to read, there are %ld", a->nk[b], k[1]);
    return fit_results(d, a);
}

static const ts_attn_kernel *choose(const ts_cpu *c, ts_dtype type)
{
    if (c->level == TS_LEVEL_REF) return NULL;
    if (type == TS_BF16 && c->level >= TS_LEVEL_AVX512_BF16) return &ts_attn_avx512_bf16;
    return c->level >= TS_LEVEL_AVX512 ? &ts_attn_avx512 : &ts_attn_avx2;
}

static long up(long n, long unit) { return (n + unit - 1) / unit * unit; }
static size_t pad(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

typedef struct { int count, item; } slot; /* length of a list, and whose */
typedef struct {                          /* where things are in the scratch buffer */
    size_t keys, values, half, slots, starts, work, one, all; /* half: keys and values of a round; one: a worker's share */
    int halves;
    long heads, first;                    /* of a round at most, of the first */
} plan_of_memory;

static ts_attn_job describe(const ts_attention *a, const ts_attn_kernel *k)
{
    ts_attn_job j = {.a = a, .Nq = a->q.dim[1], .Nk = a->k.dim[1], .A = a->q.dim[2], .D = a->q.dim[3]};
    j.Dk = up(j.D, k->ks), j.Dv = up(j.D, k->column);
    j.nqb = up(j.Nq, ROW) / ROW, j.nkb = up(j.Nk, ROW) / ROW;
    j.k_block = (size_t)(ROW * j.Dk), j.v_block = (size_t)(ROW * j.Dv);
    return j;
}

static plan_of_memory lay_out(const ts_attn_job *j, const ts_attn_kernel *k, int threads, bool values, bool sums)
{
    plan_of_memory m = {0};
    long all = j->a->q.dim[0] * j->A;
    size_t head = (size_t)j->nkb * (j->k_block + (values ? j->v_block : 0)) * k->elem;
    m.heads = (long)(CACHED / (head + 1));
    long even = up((long)SHARE * threads, j->nqb) / j->nqb, most = (long)(PACKED / (head + 1));
    if (m.heads < even) m.heads = even;
    if (m.heads > most) m.heads = most;
    if (m.heads < 1) m.heads = 1;
    if (m.heads > all) m.heads = all;
    m.first = m.heads < all && even / 2 < m.heads ? up(even, 2) / 2 : m.heads; /* nothing hides its packing */
    m.keys = pad((size_t)(m.heads * j->nkb) * j->k_block * k->elem);
    if (values) m.values = pad((size_t)(m.heads * j->nkb) * j->v_block * k->elem);
    m.slots = pad((size_t)(m.heads * j->nqb) * sizeof(slot)) * 2;
    m.starts = pad((size_t)(j->nkb + 1) * sizeof(int));
    m.one = pad((size_t)(6 * TS_ATTN_LINE) * sizeof(float)) + pad((size_t)(ROW * j->Dk + 2 * j->Dk) * k->elem) + pad((size_t)(ROW * j->Dv + 2 * j->Dv) * sizeof(float)) +
            pad((size_t)j->nkb * sizeof(int)) + (sums ? 2 * pad((size_t)(j->nkb * ROW) * sizeof(float)) : 0);
    m.work = m.one * (size_t)threads;
    m.half = m.keys + m.values;
    m.halves = m.heads < all ? 2 : 1;
    m.all = m.half * (size_t)m.halves + m.slots + m.starts + m.work;
    return m;
}

static ts_attn_work worker(const ts_attn_job *j, const ts_attn_kernel *k, char *at, bool sums, int **list)
{
    ts_attn_work w = {0};
    w.s = (float *)at, at += pad((size_t)(6 * TS_ATTN_LINE) * sizeof(float));
    w.q = at, at += pad((size_t)(ROW * j->Dk + 2 * j->Dk) * k->elem);
    w.o = (float *)at, at += pad((size_t)(ROW * j->Dv + 2 * j->Dv) * sizeof(float));
    *list = (int *)at, at += pad((size_t)j->nkb * sizeof(int));
    if (sums) w.sum = (float *)at, w.max = (float *)(at + pad((size_t)(j->nkb * ROW) * sizeof(float)));
    w.list = *list;
    return w;
}

/* Key blocks that a query block reads, ascending; list NULL: only how many. */
static int blocks_of(const ts_attn_job *j, long bh, long qblock, int *list)
{
    const ts_attention *a = j->a;
    long b = bh / j->A, h = bh % j->A, keys = a->nk ? a->nk[b] : j->Nk, last = up(keys, ROW) / ROW;
    const ts_plan *p = a->plan ? a->plan[b] : NULL;
    int n = 0;
    if (!p) {
        for (long i = 0; list && i < last; i++) list[i] = (int)i;
        return (int)last;
    }
    long words = (p->nb + 31) / 32;
    const uint32_t *row = (const uint32_t *)ts_host_of(p->bits) + ((p->A == 1 ? 0 : h) * p->nb + qblock) * words;
    for (long i = 0; i < words; i++) {
        if (!list) n += __builtin_popcount(row[i]);
        else
            for (uint32_t bits = row[i]; bits; bits &= bits - 1) list[n++] = (int)(i * 32 + __builtin_ctz(bits));
    }
    return n;
}

/* Longest first, otherwise in order: items of a head stay together and its keys in the cache. `start` [nkb + 1]: where the lists of each length begin. */
static void queue(const ts_attn_job *j, long heads, slot *s, slot *t, int *start)
{
    long n = heads * j->nqb;
    memset(start, 0, (size_t)(j->nkb + 1) * sizeof *start);
    for (long i = 0; i < n; i++) {
        t[i] = (slot){blocks_of(j, j->first + i / j->nqb, i % j->nqb, NULL), (int)i};
        start[t[i].count]++;
    }
    for (long c = j->nkb, at = 0; c >= 0; c--) {
        int many = start[c];
        start[c] = (int)at, at += many;
    }
    for (long i = 0; i < n; i++) s[start[t[i].count]++] = t[i];
}

/* ---- rounds ---- */
typedef struct { /* one call */
    ts_cpu *c;
    const ts_attn_kernel *k;
    ts_attn_job j;
    plan_of_memory m;
    char *scratch;
    const float *lse;  /* kept one of a cached search, which then fills sums and reads no values; NULL: attention itself */
    float *sums;
    long heads, later; /* of this round, of the next */
    int half;          /* where this round's packed heads are; the other half takes the next one's */
} call;

static char *packed_keys(const call *x, int half) { return x->scratch + (size_t)half * x->m.half; }
static char *packed_values(const call *x, int half) { return packed_keys(x, half) + x->m.keys; }

/* Block i of a round's heads, of which the first is `first`. */
static void pack_block(const call *x, int half, long first, long i)
{
    char *keys = packed_keys(x, half) + (size_t)i * x->j.k_block * x->k->elem, *values = packed_values(x, half) + (size_t)i * x->j.v_block * x->k->elem;
    x->k->pack(&x->j, first + i / x->j.nkb, i % x->j.nkb, keys, x->lse ? NULL : values);
}

static void expect_rows(ts_attn_ahead *a, const char *row, size_t step, long rows)
{
    if (rows <= 0 || a->parts == TS_ATTN_PARTS) return;
    a->part[a->parts].row = row, a->part[a->parts].step = step, a->part[a->parts++].left = rows;
}

static void expect(ts_attn_ahead *a, const ts_tensor *t, long bh, long block)
{
    long N = t->dim[1], A = t->dim[2], first = block * ROW, rows = N - first < ROW ? N - first : ROW;
    expect_rows(a, (const char *)ts_host_of(t->p) + (size_t)((bh / A * N + first) * t->ld + bh % A * t->dim[3]) * ts_dtype_size(t->type), (size_t)t->ld * ts_dtype_size(t->type), rows);
}

/* While an item is worked on, what comes next is fetched: its output, the queries of the item that this worker will probably have next (-1: none), and the blocks begin..end of the next round,
 * which it packs when it is done. */
static ts_attn_ahead look_ahead(const call *x, long item, long next, long begin, long end, long tiles)
{
    const ts_attn_job *j = &x->j;
    ts_attn_ahead a = {.bytes = (size_t)j->D * ts_dtype_size(j->a->q.type)};
    long rows = 0;
    if (!x->lse) expect(&a, &j->a->out, j->first + item / j->nqb, item % j->nqb);
    if (next >= 0) expect(&a, &j->a->q, j->first + next / j->nqb, next % j->nqb);
    for (long i = begin; i < end; i++) {
        expect(&a, &j->a->k, j->first + x->heads + i / j->nkb, i % j->nkb);
        expect_rows(&a, packed_keys(x, 1 - x->half) + (size_t)i * j->k_block * x->k->elem, a.bytes, (long)(j->k_block * x->k->elem / a.bytes));
        if (x->lse) continue;
        expect(&a, &j->a->v, j->first + x->heads + i / j->nkb, i % j->nkb);
        expect_rows(&a, packed_values(x, 1 - x->half) + (size_t)i * j->v_block * x->k->elem, a.bytes, (long)(j->v_block * x->k->elem / a.bytes));
    }
    for (int i = 0; i < a.parts; i++) rows += a.part[i].left;
    a.each = rows > EACH * tiles ? up(rows, tiles) / tiles : EACH;
    a.skip = tiles - rows / a.each - 1;
    return a;
}

/* The items of a round, each with its part of the packing of the next one. False: stopped. */
static bool round_of(call *x)
{
    ts_attn_job *j = &x->j;
    ts_cpu *c = x->c;
    char *slots = x->scratch + x->m.half * (size_t)x->m.halves, *starts = slots + x->m.slots, *work = starts + x->m.starts;
    slot *s = (slot *)slots, *t = (slot *)(slots + x->m.slots / 2);
    long items = x->heads * j->nqb, blocks = x->later * j->nkb;
    int stopped = 0;
    double packing = 0;
    j->k = packed_keys(x, x->half), j->v = packed_values(x, x->half);
    queue(j, x->heads, s, t, (int *)starts);
#pragma omp parallel reduction(| : stopped) reduction(+ : packing) num_threads(c->threads)
    {
        int *list;
        ts_attn_work w = worker(j, x->k, work + (size_t)omp_get_thread_num() * x->m.one, !x->lse && ts_there(j->a->sums), &list);
#pragma omp for schedule(dynamic, 1)
        for (long i = 0; i < items; i++) {
            long item = s[i].item, bh = j->first + item / j->nqb, q = item % j->nqb, begin = item * blocks / items, end = (item + 1) * blocks / items;
            if (stopped || ts_cpu_stop(c)) {
                stopped = 1;
                continue;
            }
            w.n = blocks_of(j, bh, q, list);
            ts_attn_ahead ahead = look_ahead(x, item, i + c->threads < items ? s[i + c->threads].item : -1, begin, end, (w.n ? w.n : 1) * (ROW / 6 + 1));
            w.ahead = &ahead;
            if (x->lse) x->k->cached(j, bh, q, &w, x->lse + bh * j->Nq, x->sums + (bh * j->nqb + q) * j->nkb);
            else x->k->item(j, bh, q, &w);
            double start = omp_get_wtime();
            for (long b = begin; b < end; b++) pack_block(x, 1 - x->half, j->first + x->heads, b);
            packing += omp_get_wtime() - start;
        }
    }
    c->dev.packing += packing;
    return !stopped;
}

/* The first round's keys and values, while nothing else can be done. */
static void pack_first(call *x)
{
    double packing = 0;
    long blocks = x->heads * x->j.nkb;
#pragma omp parallel reduction(+ : packing) num_threads(x->c->threads)
    {
        double start = omp_get_wtime();
#pragma omp for schedule(static) nowait
        for (long i = 0; i < blocks; i++) pack_block(x, 0, 0, i);
        packing += omp_get_wtime() - start;
    }
    x->c->dev.packing += packing;
}

static ts_status run(ts_cpu *c, const ts_attention *a, const float *lse, float *sums)
{
    call x = {.c = c, .k = choose(c, a->q.type), .lse = lse, .sums = sums};
    x.j = describe(a, x.k);
    x.m = lay_out(&x.j, x.k, c->threads, !lse, !lse && ts_there(a->sums));
    long all = a->q.dim[0] * x.j.A;
    void *scratch;
    ts_status st = ts_cpu_scratch(c, x.m.all, &scratch);
    if (st || c->dev.counting) return st;
    x.scratch = scratch;
    x.heads = x.m.first;
    pack_first(&x);
    for (; x.j.first < all; x.j.first += x.heads, x.heads = x.later, x.half = 1 - x.half) {
        long left = all - x.j.first - x.heads;
        x.later = left < x.m.heads ? left : x.m.heads;
        if (!round_of(&x)) return ts_fail(c->dev.err, TS_ESTOP, "stopped");
    }
    return TS_OK;
}

ts_status ts_cpu_attention(ts_device *d, const ts_attention *a)
{
    ts_cpu *c = (ts_cpu *)d;
    ts_status st = fit(d, a);
    if (st) return st;
    if (choose(c, a->q.type)) return run(c, a, NULL, NULL);
    if (!d->counting) ts_attention_ref(a);
    return TS_OK;
}

ts_status ts_cpu_block_sums(ts_cpu *c, const ts_block_sums *s)
{
    if (choose(c, s->q.type)) {
        ts_attention a = {.q = s->q, .k = s->k, .v = s->k, .out = s->q, .scale = s->scale}; /* values and output only lend their shapes */
        return run(c, &a, ts_host_of(s->lse.p), ts_host_of(s->sums.p));
    }
    if (!c->dev.counting) ts_block_sums_ref(s);
    return TS_OK;
}

/* The best of some short runs: others may hold a core for a while, and a peak is what is left of that. */
double ts_cpu_peak(ts_cpu *c, ts_dtype type)
{
    enum { MOST = 6 * 64, TRIES = 5 };
    const ts_attn_kernel *k = type == TS_F32 || (type == TS_BF16 && c->dev.has_bf16) ? choose(c, type) : NULL;
    double best = 0;
    long rounds = 1 << 14;
    for (int i = 0; k && i < TRIES; i++) {
        double start = omp_get_wtime();
#pragma omp parallel num_threads(c->threads)
        {
            uint32_t small[MOST / 6];
            float sum[MOST] = {0};
            for (int n = 0; n < MOST / 6; n++) small[n] = 0x3A003A00; /* 2^-11 in bf16, about that in f32 */
            k->spin(rounds, small, sum);
        }
        double seconds = omp_get_wtime() - start, rate = 2.0 * (double)(rounds * k->lanes) * c->threads / seconds;
        if (seconds < 2e-3) rounds *= 2, i--; /* too short to say anything */
        else if (rate > best) best = rate;
    }
    return best;
}
