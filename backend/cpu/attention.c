/* Attention on the CPU: lists, packing, and the order of work for the kernel of the level.
 *
 * A seat is where one head after another is packed and worked on by the threads that sit there: all
 * its query blocks use its packed keys and values while the caches of these threads still have
 * them, and cores that share no cache do not wait for each other's lines. There are as many seats
 * as the caches have room for heads, at most one a thread. Work items (head, query block) go out
 * longest list first; with each goes a part of the packing of the seat's next head, from memory
 * that was fetched while the item was computed. All begin at head 0, whose packing nothing hides;
 * who has nothing left to do at a seat helps where most is left. */
#include "backend/cpu/attention.h"

#include <limits.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

/* EACH: rows that are fetched a tile, unless they are many: late enough that they are still there
 * when somebody comes. Packed heads in work take 1 / CACHED of the cache. */
enum { ROW = 64, EACH = 10, CACHED = 4 };
/* bytes of all packed heads at most, unless one is more */
static const size_t PACKED = (size_t)512 << 20;

static const ts_attn_kernel *choose(const ts_cpu *c, ts_dtype type)
{
    if (c->level == TS_LEVEL_REF) return NULL;
    if (type == TS_BF16 && c->level >= TS_LEVEL_AVX512_BF16) return &ts_attn_avx512_bf16;
    return c->level >= TS_LEVEL_AVX512 ? &ts_attn_avx512 : &ts_attn_avx2;
}

static long up(long n, long unit) { return (n + unit - 1) / unit * unit; }
static size_t pad(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

typedef struct {                   /* how far a head is */
    _Alignas(64) atomic_long laid; /* pieces of packing that somebody has taken */
    atomic_long packed;            /* and that are there */
    atomic_long taken, done;       /* items */
} progress;
typedef struct {
    /* the first with items to take, or whose last item has just been taken */
    _Alignas(64) atomic_long head;
    atomic_int threads; /* that sit there */
} seat;
typedef struct { /* where things are in the scratch buffer */
    /* buffer: a packed head and its queue; one: a worker's share */
    size_t keys, values, items, starts, buffer, heads, seats, one, all;
    long sitting, halves; /* seats; buffers a seat */
} plan_of_memory;

static ts_attn_job describe(const ts_attention *a, const ts_attn_kernel *k)
{
    ts_attn_job j = {
        .a = a, .Nq = a->q.dim[1], .Nk = a->k.dim[1], .A = a->q.dim[2], .D = a->q.dim[3]};
    j.Dk = up(j.D, k->ks);
    j.Dv = up(j.D, k->column);
    j.nqb = up(j.Nq, ROW) / ROW;
    j.nkb = up(j.Nk, ROW) / ROW;
    j.k_block = (size_t)(ROW * j.Dk);
    j.v_block = (size_t)(ROW * j.Dv);
    return j;
}

static long least(long a, long b) { return a < b ? a : b; }

static plan_of_memory lay_out(const ts_attn_job *j, const ts_attn_kernel *k, const ts_cpu *c,
                              bool values, bool sums)
{
    plan_of_memory m = {0};
    long all = j->a->q.dim[0] * j->A;
    m.keys = pad((size_t)j->nkb * j->k_block * k->elem);
    if (values) m.values = pad((size_t)j->nkb * j->v_block * k->elem);
    m.items = pad((size_t)j->nqb * sizeof(int));
    m.starts = pad((size_t)(j->nkb + 1) * sizeof(int));
    m.buffer = m.keys + m.values + 2 * m.items + m.starts;
    long fit = (long)((size_t)c->threads * c->cache / CACHED / (m.keys + m.values)),
         most = (long)(PACKED / (2 * m.buffer));
    m.sitting = least(least(c->threads, all), least(fit, most));
    if (m.sitting < 1) m.sitting = 1;
    /* one: nothing is packed beside */
    m.halves = m.sitting < all && 2 * m.buffer <= PACKED ? 2 : 1;
    m.heads = pad((size_t)all * sizeof(progress));
    m.seats = pad((size_t)m.sitting * sizeof(seat));
    m.one = pad((size_t)(6 * TS_ATTN_LINE) * sizeof(float)) +
            pad((size_t)(ROW * j->Dk + 2 * j->Dk) * k->elem) +
            pad((size_t)(ROW * j->Dv + 2 * j->Dv) * sizeof(float)) +
            pad((size_t)j->nkb * sizeof(int)) +
            (sums ? 2 * pad((size_t)(j->nkb * ROW) * sizeof(float)) : 0);
    m.all = (size_t)(m.sitting * m.halves) * m.buffer + m.heads + m.seats +
            (size_t)c->threads * m.one;
    return m;
}

static ts_attn_work worker(const ts_attn_job *j, const ts_attn_kernel *k, char *at, bool sums,
                           int **list)
{
    ts_attn_work w = {0};
    w.s = (float *)at;
    at += pad((size_t)(6 * TS_ATTN_LINE) * sizeof(float));
    w.q = at;
    at += pad((size_t)(ROW * j->Dk + 2 * j->Dk) * k->elem);
    w.o = (float *)at;
    at += pad((size_t)(ROW * j->Dv + 2 * j->Dv) * sizeof(float));
    *list = (int *)at;
    at += pad((size_t)j->nkb * sizeof(int));
    if (sums) {
        w.sum = (float *)at;
        w.max = (float *)(at + pad((size_t)(j->nkb * ROW) * sizeof(float)));
    }
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
    const uint32_t *row = (const uint32_t *)ts_host_of(p->bits) +
                          ((p->A == 1 ? 0 : h) * p->nb + qblock) * words;
    for (long i = 0; i < words; i++) {
        if (!list)
            n += __builtin_popcount(row[i]);
        else
            for (uint32_t bits = row[i]; bits; bits &= bits - 1)
                list[n++] = (int)(i * 32 + __builtin_ctz(bits));
    }
    return n;
}

typedef struct { /* one call */
    ts_cpu *c;
    const ts_attn_kernel *k;
    ts_attn_job j;
    plan_of_memory m;
    char *buffers;
    progress *head;
    seat *seat;
    /* kept one of a cached search, which then fills sums and reads no values; NULL: attention
     * itself */
    const float *lse;
    float *sums;
    long all; /* heads */
    atomic_bool stopped;
} call;

/* A seat has neighbouring heads, which take turns in its buffers: so threads write rows of memory
 * that lie apart. */
static long first_of(const call *x, long at) { return at * x->all / x->m.sitting; }
static long seat_of(const call *x, long h) { return ((h + 1) * x->m.sitting - 1) / x->all; }
static char *packed_keys(const call *x, long h)
{
    long at = seat_of(x, h);
    return x->buffers +
           (size_t)(at * x->m.halves + (h - first_of(x, at)) % x->m.halves) * x->m.buffer;
}
static char *packed_values(const call *x, long h) { return packed_keys(x, h) + x->m.keys; }
static int *queue_of(const call *x, long h)
{
    return (int *)(void *)(packed_values(x, h) + x->m.values);
}

/* Query blocks, longest list first, otherwise in order. */
static void queue(const call *x, long h)
{
    const ts_attn_job *j = &x->j;
    /* start: where the lists of each length begin */
    int *item = queue_of(x, h), *count = (int *)(void *)((char *)item + x->m.items),
        *start = (int *)(void *)((char *)count + x->m.items);
    memset(start, 0, (size_t)(j->nkb + 1) * sizeof *start);
    for (long i = 0; i < j->nqb; i++) start[count[i] = blocks_of(j, h, i, NULL)]++;
    for (long c = j->nkb, at = 0; c >= 0; c--) {
        int many = start[c];
        start[c] = (int)at;
        at += many;
    }
    for (long i = 0; i < j->nqb; i++) item[start[count[i]]++] = (int)i;
}

/* Piece 0 of the packing of a head is its queue, each other piece a block of keys. */
static long pieces(const call *x) { return x->j.nkb + 1; }

static void pack_pieces(const call *x, long h, long begin, long end)
{
    for (long i = begin; i < end; i++) {
        if (!i)
            queue(x, h);
        else
            x->k->pack(
                &x->j, h, i - 1, packed_keys(x, h) + (size_t)(i - 1) * x->j.k_block * x->k->elem,
                x->lse ? NULL : packed_values(x, h) + (size_t)(i - 1) * x->j.v_block * x->k->elem);
    }
    atomic_fetch_add_explicit(&x->head[h].packed, end - begin, memory_order_release);
}

static void expect_rows(ts_attn_ahead *a, const char *row, size_t step, long rows)
{
    if (rows <= 0 || a->parts == TS_ATTN_PARTS) return;
    a->part[a->parts].row = row;
    a->part[a->parts].step = step;
    a->part[a->parts++].left = rows;
}

static void expect(ts_attn_ahead *a, const ts_tensor *t, long bh, long block)
{
    long N = t->dim[1], A = t->dim[2], first = block * ROW,
         rows = N - first < ROW ? N - first : ROW;
    expect_rows(a,
                (const char *)ts_host_of(t->p) +
                    (size_t)((bh / A * N + first) * t->ld + bh % A * t->dim[3]) *
                        ts_dtype_size(t->type),
                (size_t)t->ld * ts_dtype_size(t->type), rows);
}

static void expect_piece(ts_attn_ahead *a, const call *x, long h, long i)
{
    const ts_attn_job *j = &x->j;
    size_t k = j->k_block * x->k->elem, v = j->v_block * x->k->elem;
    expect(a, &j->a->k, h, i - 1);
    expect_rows(a, packed_keys(x, h) + (size_t)(i - 1) * k, a->bytes, (long)(k / a->bytes));
    if (x->lse) return;
    expect(a, &j->a->v, h, i - 1);
    expect_rows(a, packed_values(x, h) + (size_t)(i - 1) * v, a->bytes, (long)(v / a->bytes));
}

/* While an item is worked on, what comes next is fetched: its output, the queries of the item that
 * this worker will probably have next (-1: none), and the pieces begin..end of the next head, which
 * it packs when it is done. */
static ts_attn_ahead look_ahead(const call *x, long h, long item, long next, long later, long begin,
                                long end, long tiles)
{
    const ts_attn_job *j = &x->j;
    ts_attn_ahead a = {.bytes = (size_t)j->D * ts_dtype_size(j->a->q.type)};
    long rows = 0;
    if (!x->lse) expect(&a, &j->a->out, h, item);
    if (next >= 0) expect(&a, &j->a->q, h, next);
    for (long i = begin ? begin : 1; i < end; i++) expect_piece(&a, x, later, i);
    for (int i = 0; i < a.parts; i++) rows += a.part[i].left;
    a.each = rows > EACH * tiles ? up(rows, tiles) / tiles : EACH;
    a.skip = tiles - rows / a.each - 1;
    return a;
}

/* ---- seats ---- */
static bool stopped(call *x)
{
    if (ts_cpu_stop(x->c)) atomic_store_explicit(&x->stopped, true, memory_order_relaxed);
    return atomic_load_explicit(&x->stopped, memory_order_relaxed);
}

/* Until *n is `want`; false: stopped. */
static bool await(call *x, atomic_long *n, long want)
{
    for (long i = 0; atomic_load_explicit(n, memory_order_acquire) < want; i++) {
        if (stopped(x)) return false;
        if (i > 1000) sched_yield();
    }
    return true;
}

/* The head whose buffer h takes; NULL: it is the first there. */
static progress *before(call *x, long h)
{
    return h - first_of(x, seat_of(x, h)) < x->m.halves ? NULL : x->head + h - x->m.halves;
}

/* Pieces of head h (-1: none) for one thread to pack, so that `due` of them are taken: from *begin
 * on, returns the end. None while its buffer is in use. */
static long take_pieces(call *x, long h, long due, long *begin)
{
    *begin = 0;
    if (h < 0) return 0;
    progress *p = x->head + h, *b = before(x, h);
    if (b && atomic_load_explicit(&b->done, memory_order_acquire) < x->j.nqb) return 0;
    long laid = atomic_load_explicit(&p->laid, memory_order_relaxed);
    if (due > pieces(x)) due = pieces(x);
    if (laid >= due) return 0;
    *begin = atomic_fetch_add_explicit(&p->laid, due - laid, memory_order_relaxed);
    long end = least(*begin + due - laid, pieces(x));
    return *begin < end ? end : *begin;
}

/* The head of a seat that comes after h; -1: none. */
static long next_to_pack(const call *x, long at, long h)
{
    long next = seat_of(x, h) == at ? h + 1 : first_of(x, at);
    return next < first_of(x, at + 1) ? next : -1;
}

/* What is left of the packing of a head. */
static void pack_rest(call *x, long h)
{
    atomic_long *laid = &x->head[h].laid;
    for (long i; !stopped(x) &&
                 (i = atomic_fetch_add_explicit(laid, 1, memory_order_relaxed)) < pieces(x);) {
        ts_attn_ahead now = {.bytes = (size_t)x->j.D * ts_dtype_size(x->j.a->q.type),
                             .each = LONG_MAX};
        if (i) expect_piece(&now, x, h, i);
        ts_attn_ahead_tile(&now);
        pack_pieces(x, h, i, i + 1);
    }
}

/* What is left of a head, together with whoever else is at it; `at`: the thread's seat (only head 0
 * has guests), whose next head is packed beside. */
static void work_on(call *x, long at, long h, ts_attn_work *w, int *list, double *packing)
{
    const ts_attn_job *j = &x->j;
    progress *p = x->head + h;
    long begin, end, i,
        later = next_to_pack(x, at, h),
        here = h ? (x->c->threads + x->m.sitting - 1) / x->m.sitting : x->c->threads;
    /* of many items none of the last, which everybody waits for, has a piece */
    long early = j->nqb > 2 * here ? j->nqb - here : j->nqb;
    if (before(x, h) && !await(x, &before(x, h)->done, j->nqb)) return;
    double start = omp_get_wtime();
    pack_rest(x, h);
    *packing += omp_get_wtime() - start;
    if (!await(x, &p->packed, pieces(x))) return;
    const int *s = queue_of(x, h);
    w->k = packed_keys(x, h);
    w->v = packed_values(x, h);
    while (!stopped(x) &&
           (i = atomic_fetch_add_explicit(&p->taken, 1, memory_order_relaxed)) < j->nqb) {
        end = take_pieces(x, later, ((i + 1) * pieces(x) + early - 1) / early, &begin);
        w->n = blocks_of(j, h, s[i], list);
        ts_attn_ahead ahead = look_ahead(x, h, s[i], i + here < j->nqb ? s[i + here] : -1, later,
                                         begin, end, (w->n ? w->n : 1) * (ROW / 6 + 1));
        w->ahead = &ahead;
        if (x->lse)
            x->k->cached(j, h, s[i], w, x->lse + h * j->Nq, x->sums + (h * j->nqb + s[i]) * j->nkb);
        else
            x->k->item(j, h, s[i], w);
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
        if (begin == end) continue;
        start = omp_get_wtime();
        pack_pieces(x, later, begin, end);
        *packing += omp_get_wtime() - start;
    }
    atomic_compare_exchange_strong(&x->seat[seat_of(x, h)].head, &h, h + 1);
}

/* Items of a seat's heads that nobody has taken. */
static long left_at(const call *x, long i)
{
    long first = atomic_load(&x->seat[i].head), end = first_of(x, i + 1);
    return first < end
               ? (end - first) * x->j.nqb - least(atomic_load(&x->head[first].taken), x->j.nqb)
               : 0;
}

/* The head that a thread works on next: of its seat, which it leaves for the one where most is left
 * for each who sits there. -1: nothing is left to take. */
static long next_head(const call *x, long *at)
{
    for (;;) {
        long h = atomic_load(&x->seat[*at].head), to = -1;
        double most = 0;
        if (h < first_of(x, *at + 1)) return h;
        for (long i = 0; i < x->m.sitting; i++) {
            double each = (double)left_at(x, i) / (1 + atomic_load(&x->seat[i].threads));
            if (each > most) {
                most = each;
                to = i;
            }
        }
        if (to < 0) return -1;
        atomic_fetch_sub(&x->seat[*at].threads, 1);
        atomic_fetch_add(&x->seat[to].threads, 1);
        *at = to;
    }
}

static ts_status run(ts_cpu *c, const ts_attention *a, const float *lse, float *sums)
{
    call x = {.c = c,
              .k = choose(c, a->q.type),
              .lse = lse,
              .sums = sums,
              .all = a->q.dim[0] * a->q.dim[2]};
    x.j = describe(a, x.k);
    bool with_sums = !lse && ts_there(a->sums);
    x.m = lay_out(&x.j, x.k, c, !lse, with_sums);
    void *scratch;
    double packing = 0;
    ts_status st = ts_cpu_scratch(c, x.m.all, &scratch);
    if (st || c->dev.counting) return st;
    x.head = scratch;
    x.seat = (seat *)(void *)((char *)x.head + x.m.heads);
    x.buffers = (char *)x.seat + x.m.seats;
    char *work = x.buffers + (size_t)(x.m.sitting * x.m.halves) * x.m.buffer;
    memset(x.head, 0, x.m.heads + x.m.seats);
    for (long i = 0; i < x.m.sitting; i++) atomic_init(&x.seat[i].head, first_of(&x, i));
#pragma omp parallel reduction(+ : packing) num_threads(c->threads)
    {
        int *list;
        ts_attn_work w = worker(&x.j, x.k, work + (size_t)omp_get_thread_num() * x.m.one, with_sums,
                                &list);
        long at = omp_get_thread_num() * x.m.sitting / omp_get_num_threads();
        atomic_fetch_add(&x.seat[at].threads, 1);
        work_on(&x, at, 0, &w, list, &packing); /* nothing hides its packing: all share it */
        for (long h; !stopped(&x) && (h = next_head(&x, &at)) >= 0;)
            work_on(&x, at, h, &w, list, &packing);
    }
    c->packing += packing;
    return atomic_load(&x.stopped) ? ts_fail(c->dev.err, TS_ESTOP, "stopped") : TS_OK;
}

ts_status ts_cpu_attention(ts_cpu *c, const ts_attention *a)
{
    if (choose(c, a->q.type)) return run(c, a, NULL, NULL);
    if (!c->dev.counting) ts_attention_ref(a);
    return TS_OK;
}

ts_status ts_cpu_block_sums(ts_cpu *c, const ts_block_sums *s)
{
    if (choose(c, s->q.type)) {
        /* values and output only lend their shapes */
        ts_attention a = {.q = s->q, .k = s->k, .v = s->k, .out = s->q, .scale = s->scale};
        return run(c, &a, ts_host_of(s->lse.p), ts_host_of(s->sums.p));
    }
    if (!c->dev.counting) ts_block_sums_ref(s);
    return TS_OK;
}

/* The best of some short runs: others may hold a core for a while, and a peak is what is left of
 * that. */
double ts_cpu_peak(ts_cpu *c, ts_dtype type)
{
    enum { MOST = 6 * 64, TRIES = 5 };
    const ts_attn_kernel *k = type == TS_F32 || (type == TS_BF16 && c->dev.has_bf16)
                                  ? choose(c, type)
                                  : NULL;
    double best = 0;
    long rounds = 1 << 14;
    for (int i = 0; k && i < TRIES; i++) {
        double start = omp_get_wtime();
#pragma omp parallel num_threads(c->threads)
        {
            uint32_t small[MOST / 6];
            float sum[MOST] = {0};
            /* 2^-11 in bf16, about that in f32 */
            for (int n = 0; n < MOST / 6; n++) small[n] = 0x3A003A00;
            k->spin(rounds, small, sum);
        }
        double seconds = omp_get_wtime() - start,
               rate = 2.0 * (double)(rounds * k->lanes) * c->threads / seconds;
        if (seconds < 2e-3) { /* too short to say anything */
            rounds *= 2;
            i--;
        } else if (rate > best)
            best = rate;
    }
    return best;
}
