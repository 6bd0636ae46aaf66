/* Attention on the CPU: checks, lists, packing, and the queue of work for the kernel of the level.
 *
 * Heads are taken a round at a time: their keys and values are packed, then used by all their query blocks while the cache still has them. A round is as few heads as keep all threads
 * evenly busy. Work items (head, query block) go out longest list first. */
#include "backend/cpu/attention.h"

#include <omp.h>

enum { ROW = 64, SHARE = 64 }; /* SHARE: items a thread at least in a round, so that the wait for the last one is short */
static const size_t CACHED = (size_t)12 << 20, PACKED = (size_t)512 << 20; /* bytes of packed heads: as many as a shared cache surely keeps; never more, unless one head is more */

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
    size_t keys, values, slots, starts, work, one, all; /* one: a worker's share */
    long heads;                           /* packed at once */
} plan_of_memory;

static ts_attn_job describe(const ts_attention *a, const ts_attn_kernel *k)
{
    ts_attn_job j = {.a = a, .Nq = a->q.dim[1], .Nk = a->k.dim[1], .A = a->q.dim[2], .D = a->q.dim[3]};
    j.Dk = up(j.D, k->ks), j.Dv = up(j.D, k->column);
    j.nqb = up(j.Nq, ROW) / ROW, j.nkb = up(j.Nk, ROW) / ROW;
    j.k_block = (size_t)(ROW * j.Dk), j.v_block = (size_t)(ROW * j.Dv);
    return j;
}

static plan_of_memory lay_out(const ts_attn_job *j, const ts_attn_kernel *k, int threads, bool sums)
{
    plan_of_memory m = {0};
    long all = j->a->q.dim[0] * j->A;
    size_t head = (size_t)j->nkb * (j->k_block + j->v_block) * k->elem;
    m.heads = (long)(CACHED / (head + 1));
    long even = up((long)SHARE * threads, j->nqb) / j->nqb, most = (long)(PACKED / (head + 1));
    if (m.heads < even) m.heads = even;
    if (m.heads > most) m.heads = most;
    if (m.heads < 1) m.heads = 1;
    if (m.heads > all) m.heads = all;
    m.keys = pad((size_t)(m.heads * j->nkb) * j->k_block * k->elem);
    m.values = pad((size_t)(m.heads * j->nkb) * j->v_block * k->elem);
    m.slots = pad((size_t)(m.heads * j->nqb) * sizeof(slot)) * 2;
    m.starts = pad((size_t)(j->nkb + 1) * sizeof(int));
    m.one = pad((size_t)(6 * 4 * ROW) * sizeof(float)) * 2 + pad((size_t)(ROW * j->Dk + 2 * j->Dk) * k->elem) + pad((size_t)(ROW * j->Dv + 2 * j->Dv) * sizeof(float)) +
            pad((size_t)j->nkb * sizeof(int)) + (sums ? 2 * pad((size_t)(j->nkb * ROW) * sizeof(float)) : 0);
    m.work = m.one * (size_t)threads;
    m.all = m.keys + m.values + m.slots + m.starts + m.work;
    return m;
}

static ts_attn_work worker(const ts_attn_job *j, const ts_attn_kernel *k, char *at, bool sums, int **list)
{
    ts_attn_work w = {0};
    w.s = (float *)at, at += pad((size_t)(6 * 4 * ROW) * sizeof(float));
    w.p = at, at += pad((size_t)(6 * 4 * ROW) * sizeof(float));
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

/* One round: pack `heads` heads, then all their query blocks. lse: kept one of a cached search, NULL: attention itself. False: stopped. */
static bool round_of(ts_cpu *c, const ts_attn_kernel *k, ts_attn_job *j, long heads, const plan_of_memory *m, char *scratch, const float *lse, float *sums)
{
    char *keys = scratch, *values = keys + m->keys, *slots = values + m->values, *starts = slots + m->slots, *work = starts + m->starts;
    slot *s = (slot *)slots, *t = (slot *)(slots + m->slots / 2);
    int stopped = 0;
    bool want_sums = !lse && ts_there(j->a->sums);
    double packing = 0;
    j->k = keys, j->v = values;
#pragma omp parallel reduction(+ : packing) num_threads(c->threads)
    {
        double start = omp_get_wtime();
#pragma omp for schedule(static) nowait
        for (long i = 0; i < heads * j->nkb; i++)
            k->pack(j, j->first + i / j->nkb, i % j->nkb, keys + (size_t)i * j->k_block * k->elem, values + (size_t)i * j->v_block * k->elem);
        packing += omp_get_wtime() - start;
    }
    c->dev.packing += packing;
    queue(j, heads, s, t, (int *)starts);
#pragma omp parallel reduction(| : stopped) num_threads(c->threads)
    {
        int *list;
        ts_attn_work w = worker(j, k, work + (size_t)omp_get_thread_num() * m->one, want_sums, &list);
#pragma omp for schedule(dynamic, 1)
        for (long i = 0; i < heads * j->nqb; i++) {
            long bh = j->first + s[i].item / j->nqb, q = s[i].item % j->nqb;
            if (stopped || ts_cpu_stop(c)) {
                stopped = 1;
                continue;
            }
            w.n = blocks_of(j, bh, q, list);
            if (lse) k->cached(j, bh, q, &w, lse + bh * j->Nq, sums + (bh * j->nqb + q) * j->nkb);
            else k->item(j, bh, q, &w);
        }
    }
    return !stopped;
}

static ts_status run(ts_cpu *c, const ts_attention *a, const float *lse, float *sums)
{
    const ts_attn_kernel *k = choose(c, a->q.type);
    ts_attn_job j = describe(a, k);
    plan_of_memory m = lay_out(&j, k, c->threads, !lse && ts_there(a->sums));
    long all = a->q.dim[0] * j.A;
    void *scratch;
    ts_status st = ts_cpu_scratch(c, m.all, &scratch);
    if (st || c->dev.counting) return st;
    for (j.first = 0; j.first < all; j.first += m.heads) {
        long heads = all - j.first < m.heads ? all - j.first : m.heads;
        if (!round_of(c, k, &j, heads, &m, scratch, lse, sums)) return ts_fail(c->dev.err, TS_ESTOP, "stopped");
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
