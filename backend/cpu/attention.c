/* Attention on the CPU: lists, packing, and the order of work for the kernel of the level.
 *
 * A slot is where one head after another is packed and worked on by the threads that belong to it:
 * all query blocks of a head use its packed keys and values while the caches of these threads still
 * have them, and cores that share no cache do not wait for each other's lines. There are as many
 * slots as the caches have room for heads, at most one a thread. Work items (head, query block) go
 * out longest list first; with each goes a part of the packing of the slot's next head, from memory
 * that was fetched while the item was computed. All threads begin at head 0, whose packing nothing
 * hides; a thread with nothing left to do at its slot moves to the one where most is left. */
#include "backend/cpu/attention.h"

#include <limits.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

/* EACH: rows that are fetched a tile, unless they are many: late enough that they are still there
 * when they are read. Packed heads in work take 1 / CACHED of the cache. */
enum { ROW = 64, EACH = 10, CACHED = 4 };
static const float LOG_ROW = 4.15888308f; /* ln of a whole block's tokens */
/* bytes of all packed heads at most, unless one is more */
static const size_t PACKED = (size_t)512 << 20;

const ts_attn_kernel *ts_attn_kernel_for(const ts_cpu *c, ts_dtype type)
{
    if (c->level == TS_LEVEL_REF) return NULL;
    if (type == TS_BF16 && c->level >= TS_LEVEL_AVX512_BF16) return &ts_attn_avx512_bf16;
    return c->level >= TS_LEVEL_AVX512 ? &ts_attn_avx512 : &ts_attn_avx2;
}

static long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }
static size_t pad_to_line(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* What threads of a call share. Every field is atomic, or written before the call's threads begin.
 * claim_pieces, pack_pieces, pack_rest and work_on_head run on any of them at once. A thread that
 * has claimed pieces or an item is the only one that touches their memory, until it counts them as
 * packed or done (release); a thread that reads them waits for that count first (acquire). */
typedef struct {                           /* how far a head is */
    _Alignas(64) atomic_long pieces_taken; /* pieces of packing that threads have claimed */
    atomic_long pieces_packed;             /* of these, packed */
    atomic_long items_taken, items_done;
} head_state;
typedef struct {
    /* the first with items to take, or whose last item has just been taken */
    _Alignas(64) atomic_long head;
    atomic_int threads; /* that belong to it now */
} slot;
typedef struct { /* where things are in the scratch buffer */
    /* buffer: a packed head and its queue; one: a worker's share */
    size_t keys, values, items, starts, buffer, head_bytes, slot_bytes, one, all;
    long slots, panels_per_slot; /* panels: buffers of a packed head */
} scratch_layout;

static ts_attn_job describe_job(const ts_attention *a, const ts_attn_kernel *k)
{
    ts_attn_job j = {
        .a = a, .Nq = a->q.dim[1], .Nk = a->k.dim[1], .A = a->q.dim[2], .D = a->q.dim[3]};
    j.Dk = round_up(j.D, k->ks);
    j.Dv = round_up(j.D, k->column);
    j.nqb = round_up(j.Nq, ROW) / ROW;
    j.nkb = round_up(j.Nk, ROW) / ROW;
    if (ts_there(a->pooled_k)) j.npb = round_up(a->pooled_k.dim[1], ROW) / ROW;
    j.k_block = (size_t)(ROW * j.Dk);
    j.v_block = (size_t)(ROW * j.Dv);
    return j;
}

static long min_long(long a, long b) { return a < b ? a : b; }

/* What the pooled keys of an item stand for: of a call's own, or where keys are pooled ones. */
static size_t stand_bytes(const ts_attn_job *j)
{
    return pad_to_line((size_t)((j->npb > j->nkb ? j->npb : j->nkb) * ROW) * sizeof(float));
}

static scratch_layout lay_out_scratch(const ts_attn_job *j, const ts_attn_kernel *k,
                                      const ts_cpu *c, bool values, bool sums)
{
    scratch_layout m = {0};
    long all = j->a->q.dim[0] * j->A;
    m.keys = pad_to_line((size_t)(j->nkb + j->npb) * j->k_block * k->elem);
    if (values) m.values = pad_to_line((size_t)(j->nkb + j->npb) * j->v_block * k->elem);
    m.items = pad_to_line((size_t)j->nqb * sizeof(int));
    m.starts = pad_to_line((size_t)(j->nkb + 1) * sizeof(int));
    m.buffer = m.keys + m.values + 2 * m.items + m.starts;
    long fit = (long)((size_t)c->threads * c->cache / CACHED / (m.keys + m.values)),
         most = (long)(PACKED / (2 * m.buffer));
    m.slots = min_long(min_long(c->threads, all), min_long(fit, most));
    if (m.slots < 1) m.slots = 1;
    /* one: nothing is packed beside */
    m.panels_per_slot = m.slots < all && 2 * m.buffer <= PACKED ? 2 : 1;
    m.head_bytes = pad_to_line((size_t)all * sizeof(head_state));
    m.slot_bytes = pad_to_line((size_t)m.slots * sizeof(slot));
    m.one = pad_to_line((size_t)(6 * TS_ATTN_LINE) * sizeof(float)) +
            pad_to_line((size_t)(ROW * j->Dk + 2 * j->Dk) * k->elem) +
            pad_to_line((size_t)(ROW * j->Dv + 2 * j->Dv) * sizeof(float)) +
            pad_to_line((size_t)(j->nkb + j->npb) * sizeof(int)) + stand_bytes(j) +
            (sums ? 2 * pad_to_line((size_t)(j->nkb * ROW) * sizeof(float)) : 0);
    m.all = (size_t)(m.slots * m.panels_per_slot) * m.buffer + m.head_bytes + m.slot_bytes +
            (size_t)c->threads * m.one;
    return m;
}

static ts_attn_work place_worker(const ts_attn_job *j, const ts_attn_kernel *k, char *at, bool sums,
                                 int **list, float **stand)
{
    ts_attn_work w = {0};
    w.s = (float *)at;
    at += pad_to_line((size_t)(6 * TS_ATTN_LINE) * sizeof(float));
    w.q = at;
    at += pad_to_line((size_t)(ROW * j->Dk + 2 * j->Dk) * k->elem);
    w.o = (float *)at;
    at += pad_to_line((size_t)(ROW * j->Dv + 2 * j->Dv) * sizeof(float));
    *list = (int *)at;
    at += pad_to_line((size_t)(j->nkb + j->npb) * sizeof(int));
    *stand = (float *)at;
    at += stand_bytes(j);
    if (sums) {
        w.sum = (float *)at;
        w.max = (float *)(at + pad_to_line((size_t)(j->nkb * ROW) * sizeof(float)));
    }
    w.list = *list;
    return w;
}

/* Key blocks that a query block reads, ascending; list NULL: only how many. */
static int blocks_of(const ts_attn_job *j, long bh, long qblock, int *list)
{
    const ts_attention *a = j->a;
    long b = bh / j->A, h = bh % j->A, keys = a->nk ? a->nk[b] : j->Nk,
         last = round_up(keys, ROW) / ROW;
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

/* What a call is for. */
typedef enum { ATTEND, BLOCK_SUMS, POOL_SUMS } purpose;

typedef struct { /* one call */
    ts_cpu *c;
    purpose what;
    const ts_attn_kernel *k;
    ts_attn_job j;
    scratch_layout m;
    char *buffers;
    head_state *head;
    slot *slot;
    float *lse; /* of sums of blocks: given; of pooled keys: found, may be NULL */
    float *sums;
    long N;     /* tokens that pooled keys stand for */
    long all;   /* heads */
    long items; /* query blocks of a head that are computed */
    atomic_bool stopped;
} call;

/* A slot has neighbouring heads, which take turns in its buffers: so threads write rows of memory
 * that lie apart. */
static long first_head(const call *x, long at) { return at * x->all / x->m.slots; }
static long slot_of_head(const call *x, long h) { return ((h + 1) * x->m.slots - 1) / x->all; }
static char *packed_keys(const call *x, long h)
{
    long at = slot_of_head(x, h);
    return x->buffers +
           (size_t)(at * x->m.panels_per_slot + (h - first_head(x, at)) % x->m.panels_per_slot) *
               x->m.buffer;
}
static char *packed_values(const call *x, long h) { return packed_keys(x, h) + x->m.keys; }
static int *queue_of(const call *x, long h)
{
    return (int *)(void *)(packed_values(x, h) + x->m.values);
}

/* Query blocks, longest list first, otherwise in order. */
static void queue_items(const call *x, long h)
{
    const ts_attn_job *j = &x->j;
    long every = j->a->every > 1 ? j->a->every : 1;
    /* start: where the lists of each length begin */
    int *item = queue_of(x, h), *count = (int *)(void *)((char *)item + x->m.items),
        *start = (int *)(void *)((char *)count + x->m.items);
    memset(start, 0, (size_t)(j->nkb + 1) * sizeof *start);
    for (long i = 0; i < x->items; i++) start[count[i] = blocks_of(j, h, i * every, NULL)]++;
    for (long c = j->nkb, at = 0; c >= 0; c--) {
        int many = start[c];
        start[c] = (int)at;
        at += many;
    }
    for (long i = 0; i < x->items; i++) item[start[count[i]]++] = (int)(i * every);
}

/* Piece 0 of the packing of a head is its queue, each other piece a block of keys. */
static long piece_count(const call *x) { return x->j.nkb + x->j.npb + 1; }

static void pack_pieces(const call *x, long h, long begin, long end)
{
    for (long i = begin; i < end; i++) {
        if (!i)
            queue_items(x, h);
        else
            x->k->pack(
                &x->j, h, i - 1, packed_keys(x, h) + (size_t)(i - 1) * x->j.k_block * x->k->elem,
                x->what ? NULL : packed_values(x, h) + (size_t)(i - 1) * x->j.v_block * x->k->elem);
    }
    atomic_fetch_add_explicit(&x->head[h].pieces_packed, end - begin, memory_order_release);
}

static void expect_rows(ts_attn_ahead *a, const char *row, size_t step, long rows)
{
    if (rows <= 0 || a->parts == TS_ATTN_PARTS) return;
    a->part[a->parts].row = row;
    a->part[a->parts].step = step;
    a->part[a->parts++].left = rows;
}

static void expect_block(ts_attn_ahead *a, const ts_tensor *t, long bh, long block)
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
    if (i > j->nkb) return; /* pooled keys are few */
    size_t k = j->k_block * x->k->elem, v = j->v_block * x->k->elem;
    expect_block(a, &j->a->k, h, i - 1);
    expect_rows(a, packed_keys(x, h) + (size_t)(i - 1) * k, a->bytes, (long)(k / a->bytes));
    if (x->what) return;
    expect_block(a, &j->a->v, h, i - 1);
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
    if (!x->what) expect_block(&a, &j->a->out, h, item);
    if (next >= 0) expect_block(&a, &j->a->q, h, next);
    for (long i = begin ? begin : 1; i < end; i++) expect_piece(&a, x, later, i);
    for (int i = 0; i < a.parts; i++) rows += a.part[i].left;
    a.each = rows > EACH * tiles ? round_up(rows, tiles) / tiles : EACH;
    a.skip = tiles - rows / a.each - 1;
    return a;
}

/* ---- slots ---- */
static bool stop_asked(call *x)
{
    if (ts_cpu_stop(x->c)) atomic_store_explicit(&x->stopped, true, memory_order_relaxed);
    return atomic_load_explicit(&x->stopped, memory_order_relaxed);
}

/* Until *n is `want`; false: stopped. */
static bool wait_for(call *x, atomic_long *n, long want)
{
    for (long i = 0; atomic_load_explicit(n, memory_order_acquire) < want; i++) {
        if (stop_asked(x)) return false;
        if (i > 1000) sched_yield();
    }
    return true;
}

/* The head whose buffer h takes; NULL: it is the first there. */
static head_state *earlier_user(call *x, long h)
{
    return h - first_head(x, slot_of_head(x, h)) < x->m.panels_per_slot
               ? NULL
               : x->head + h - x->m.panels_per_slot;
}

/* Pieces of head h (-1: none) for one thread to pack, so that `due` of them are taken: from *begin
 * on, returns the end. None while its buffer is in use. */
static long claim_pieces(call *x, long h, long due, long *begin)
{
    *begin = 0;
    if (h < 0) return 0;
    head_state *p = x->head + h, *b = earlier_user(x, h);
    if (b && atomic_load_explicit(&b->items_done, memory_order_acquire) < x->items) return 0;
    long pieces_taken = atomic_load_explicit(&p->pieces_taken, memory_order_relaxed);
    if (due > piece_count(x)) due = piece_count(x);
    if (pieces_taken >= due) return 0;
    *begin = atomic_fetch_add_explicit(&p->pieces_taken, due - pieces_taken, memory_order_relaxed);
    long end = min_long(*begin + due - pieces_taken, piece_count(x));
    return *begin < end ? end : *begin;
}

/* The head of a slot that comes after h; -1: none. */
static long next_to_pack(const call *x, long at, long h)
{
    long next = slot_of_head(x, h) == at ? h + 1 : first_head(x, at);
    return next < first_head(x, at + 1) ? next : -1;
}

/* 0 unless packing is timed: the clock is read for every head and item. */
static double read_clock(const call *x) { return x->c->dev.time_packing ? omp_get_wtime() : 0; }

/* What is left of the packing of a head. */
static void pack_rest(call *x, long h)
{
    atomic_long *pieces_taken = &x->head[h].pieces_taken;
    for (long i; !stop_asked(x) && (i = atomic_fetch_add_explicit(
                                        pieces_taken, 1, memory_order_relaxed)) < piece_count(x);) {
        ts_attn_ahead now = {.bytes = (size_t)x->j.D * ts_dtype_size(x->j.a->q.type),
                             .each = LONG_MAX};
        if (i) expect_piece(&now, x, h, i);
        ts_attn_ahead_tile(&now);
        pack_pieces(x, h, i, i + 1);
    }
}

/* What each pooled key stands for in a query block; NULL: no pooled key is read. */
static const float *stand_for(const call *x, long h, long qblock, float *to)
{
    const ts_attn_job *j = &x->j;
    bool keys = x->what == POOL_SUMS;
    const ts_attention *a = j->a;
    const ts_plan *p = keys || !a->plan ? NULL : a->plan[h / j->A];
    long nb = keys ? j->Nk : j->nkb, room = (keys ? j->nkb : j->npb) * ROW;
    if (!keys && (!j->npb || !p || ts_form_of(a->form, h % j->A, TS_REST_MEAN) == TS_REST_NONE))
        return NULL;
    for (long i = 0; i < room; i++) {
        bool none = i >= nb || (p && ts_plan_reads(p, h % j->A, qblock, i));
        to[i] = none ? -INFINITY : LOG_ROW;
    }
    if (to[nb - 1] > 0) to[nb - 1] = logf((float)ts_block_rows(x->N, nb - 1));
    return to;
}

/* Takes and computes items of head h until none is left; other threads may do so at the same time.
 * `at`: the thread's slot, whose next head it packs between items; h is of another slot only where
 * it is 0, the head at which all threads begin. */
static void work_on_head(call *x, long at, long h, ts_attn_work *w, int *list, float *stand,
                         double *packing)
{
    const ts_attn_job *j = &x->j;
    head_state *p = x->head + h;
    long begin, end, i, later = next_to_pack(x, at, h),
                        here = h ? (x->c->threads + x->m.slots - 1) / x->m.slots : x->c->threads;
    /* of many items the last, which all threads wait for, have no piece */
    long early = x->items > 2 * here ? x->items - here : x->items;
    if (earlier_user(x, h) && !wait_for(x, &earlier_user(x, h)->items_done, x->items)) return;
    double start = read_clock(x);
    pack_rest(x, h);
    *packing += read_clock(x) - start;
    if (!wait_for(x, &p->pieces_packed, piece_count(x))) return;
    const int *s = queue_of(x, h);
    w->k = packed_keys(x, h);
    w->v = packed_values(x, h);
    while (!stop_asked(x) &&
           (i = atomic_fetch_add_explicit(&p->items_taken, 1, memory_order_relaxed)) < x->items) {
        end = claim_pieces(x, later, ((i + 1) * piece_count(x) + early - 1) / early, &begin);
        w->n = blocks_of(j, h, s[i], list);
        w->stand = stand_for(x, h, s[i], stand);
        for (long b = 0; w->stand && b < j->npb; b++) list[w->n++] = (int)(j->nkb + b);
        ts_attn_ahead ahead = look_ahead(x, h, s[i], i + here < x->items ? s[i + here] : -1, later,
                                         begin, end, (w->n ? w->n : 1) * (ROW / 6 + 1));
        w->ahead = &ahead;
        if (x->what == BLOCK_SUMS)
            x->k->cached(j, h, s[i], w, x->lse + h * j->Nq, x->sums + (h * j->nqb + s[i]) * j->nkb);
        else if (x->what == POOL_SUMS)
            x->k->pooled(j, h, s[i], w, x->lse ? x->lse + h * j->Nq : NULL,
                         x->sums + (h * j->nqb + s[i]) * j->Nk);
        else
            x->k->item(j, h, s[i], w);
        atomic_fetch_add_explicit(&p->items_done, 1, memory_order_release);
        if (begin == end) continue;
        start = read_clock(x);
        pack_pieces(x, later, begin, end);
        *packing += read_clock(x) - start;
    }
    atomic_compare_exchange_strong(&x->slot[slot_of_head(x, h)].head, &h, h + 1);
}

/* Items of a slot's heads that no thread has taken. */
static long items_left(const call *x, long i)
{
    long first = atomic_load(&x->slot[i].head), end = first_head(x, i + 1);
    return first < end ? (end - first) * x->items -
                             min_long(atomic_load(&x->head[first].items_taken), x->items)
                       : 0;
}

/* The head that a thread works on next: of its slot, which it leaves for the one where most items
 * are left for each of its threads. -1: nothing is left to take. */
static long next_head(const call *x, long *at)
{
    for (;;) {
        long h = atomic_load(&x->slot[*at].head), to = -1;
        double most = 0;
        if (h < first_head(x, *at + 1)) return h;
        for (long i = 0; i < x->m.slots; i++) {
            double each = (double)items_left(x, i) / (1 + atomic_load(&x->slot[i].threads));
            if (each > most) {
                most = each;
                to = i;
            }
        }
        if (to < 0) return -1;
        atomic_fetch_sub(&x->slot[*at].threads, 1);
        atomic_fetch_add(&x->slot[to].threads, 1);
        *at = to;
    }
}

static ts_status run_attention(ts_cpu *c, purpose what, const ts_attention *a, float *lse,
                               float *sums)
{
    call x = {.c = c,
              .what = what,
              .k = ts_attn_kernel_for(c, a->q.type),
              .lse = lse,
              .sums = sums,
              .N = a->q.dim[1],
              .all = a->q.dim[0] * a->q.dim[2]};
    x.j = describe_job(a, x.k);
    x.items = a->every > 1 ? (x.j.nqb + a->every - 1) / a->every : x.j.nqb;
    bool with_sums = what == POOL_SUMS || (!what && ts_there(a->sums));
    x.m = lay_out_scratch(&x.j, x.k, c, !what, with_sums);
    void *scratch;
    double packing = 0;
    ts_status st = ts_cpu_scratch(c, x.m.all, &scratch);
    if (st || c->dev.counting) return st;
    x.head = scratch;
    x.slot = (slot *)(void *)((char *)x.head + x.m.head_bytes);
    x.buffers = (char *)x.slot + x.m.slot_bytes;
    char *work = x.buffers + (size_t)(x.m.slots * x.m.panels_per_slot) * x.m.buffer;
    memset(x.head, 0, x.m.head_bytes + x.m.slot_bytes);
    for (long i = 0; i < x.m.slots; i++) atomic_init(&x.slot[i].head, first_head(&x, i));
#pragma omp parallel reduction(+ : packing) num_threads(c->threads)
    {
        int *list;
        float *stand;
        ts_attn_work w = place_worker(&x.j, x.k, work + (size_t)omp_get_thread_num() * x.m.one,
                                      with_sums, &list, &stand);
        long at = omp_get_thread_num() * x.m.slots / omp_get_num_threads();
        atomic_fetch_add(&x.slot[at].threads, 1);
        work_on_head(&x, at, 0, &w, list, stand,
                     &packing); /* nothing hides its packing: all share it */
        for (long h; !stop_asked(&x) && (h = next_head(&x, &at)) >= 0;)
            work_on_head(&x, at, h, &w, list, stand, &packing);
    }
    c->packing += packing;
    return atomic_load(&x.stopped) ? ts_fail(c->dev.err, TS_ESTOP, "stopped") : TS_OK;
}

ts_status ts_cpu_attention(ts_cpu *c, const ts_attention *a)
{
    if (ts_attn_kernel_for(c, a->q.type)) return run_attention(c, ATTEND, a, NULL, NULL);
    if (!c->dev.counting && !ts_attention_ref(a))
        return ts_fail(c->dev.err, TS_EMEMORY, "no memory for attention");
    return TS_OK;
}

ts_status ts_cpu_block_sums(ts_cpu *c, const ts_block_sums *s)
{
    if (ts_attn_kernel_for(c, s->q.type)) {
        /* values and output only lend their shapes */
        ts_attention a = {.q = s->q, .k = s->k, .v = s->k, .out = s->q, .scale = s->scale};
        return run_attention(c, BLOCK_SUMS, &a, ts_host_of(s->lse.p), ts_host_of(s->sums.p));
    }
    if (!c->dev.counting && !ts_block_sums_ref(s))
        return ts_fail(c->dev.err, TS_EMEMORY, "no memory for sums of attention");
    return TS_OK;
}

ts_status ts_cpu_pool_sums(ts_cpu *c, const ts_pool_sums *s)
{
    if (ts_attn_kernel_for(c, s->q.type)) {
        ts_attention a = {.q = s->q, .k = s->k, .v = s->k, .out = s->q, .scale = s->scale};
        return run_attention(c, POOL_SUMS, &a, ts_there(s->lse) ? ts_host_of(s->lse.p) : NULL,
                             ts_host_of(s->sums.p));
    }
    if (!c->dev.counting && !ts_pool_sums_ref(s))
        return ts_fail(c->dev.err, TS_EMEMORY, "no memory for weights of pooled keys");
    return TS_OK;
}

/* The best of some short runs: others may hold a core for a while, and a peak is what is left of
 * that. */
double ts_cpu_peak(ts_cpu *c, ts_dtype type)
{
    enum { MOST = 6 * 64, TRIES = 5 };
    const ts_attn_kernel *k = type == TS_F32 || (type == TS_BF16 && c->dev.has_bf16)
                                  ? ts_attn_kernel_for(c, type)
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
