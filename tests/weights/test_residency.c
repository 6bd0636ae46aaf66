/* Where matrices are, on a device that only keeps accounts: who stays, who takes turns, what is
 * allocated, and when pages are touched. */
#include "tests/weights/scratch.h"
#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Stands before the C library's: what was asked to be read ahead is written down. */
static uintptr_t ahead[16][2];
static int aheads;
int madvise(void *at, size_t n, int advice)
{
    if (advice == MADV_WILLNEED && aheads < 16) {
        ahead[aheads][0] = (uintptr_t)at;
        ahead[aheads++][1] = (uintptr_t)at + n;
    }
    return (int)syscall(SYS_madvise, at, n, advice);
}

/* What goes ahead of the queue, as late as a device may do it: when it is waited for. */
typedef struct {
    const void *host;
    const ts_weight *to; /* NULL: an upload */
    uint8_t *at;
    size_t bytes;
} ahead_copy;
typedef struct {
    ts_device dev; /* first */
    ts_ops ops;
    long allocs, frees, packs, uploads;
    bool adopts;
    int refuse; /* this many operations from now one fails; 0: none */
    ahead_copy coming[64];
    long begun, arrived; /* copies ahead: coming[arrived .. begun) are still to be done */
    struct {
        uint8_t *p;
        size_t bytes;
    } block[64]; /* what is allocated */
} ledger;

static ts_status strike(ledger *l, const char *what)
{
    return l->refuse && --l->refuse == 0 ? ts_fail(l->dev.err, TS_EMEMORY, "%s refused", what)
                                         : TS_OK;
}

/* Memory is neither written to nor freed while something comes to it. */
static void check_nothing_comes(const ledger *l, const uint8_t *at, size_t n)
{
    for (long k = l->arrived; k < l->begun; k++) {
        const ahead_copy *c = l->coming + k;
        ck_assert_msg(c->at >= at + n || at >= c->at + c->bytes, "copy %ld still comes there", k);
    }
}

static ts_status alloc(ts_device *d, size_t n, ts_ptr *p)
{
    ledger *l = (ledger *)d;
    ts_status st = strike(l, "alloc");
    if (st != TS_OK) return st;
    l->allocs++;
    p->at = (uint64_t)(uintptr_t)malloc(n); /* malloc, so that a sanitizer sees a byte too far */
    int i = 0;
    while (l->block[i].p) i++;
    l->block[i].p = (uint8_t *)(uintptr_t)p->at;
    l->block[i].bytes = n;
    return TS_OK;
}

static void release(ts_device *d, ts_ptr p)
{
    ledger *l = (ledger *)d;
    uint8_t *memory = (uint8_t *)(uintptr_t)p.at;
    int i = 0;
    while (l->block[i].p != memory) i++;
    check_nothing_comes(l, memory, l->block[i].bytes);
    l->block[i].p = NULL;
    l->frees++;
    free(memory);
}

static ts_ptr adopt(ts_device *d, const void *host, size_t n)
{
    (void)n;
    return (ts_ptr){((ledger *)d)->adopts ? (uint64_t)(uintptr_t)host : 0};
}

static ts_status upload(ts_device *d, ts_ptr p, const void *host, size_t n)
{
    ledger *l = (ledger *)d;
    ts_status st = strike(l, "upload");
    if (st != TS_OK) return st;
    l->uploads++;
    check_nothing_comes(l, (uint8_t *)(uintptr_t)p.at, n);
    memcpy((void *)(uintptr_t)p.at, host, n);
    return TS_OK;
}

/* "Packs" by filling want.bytes with the stored byte, all of a matrix being one: what lies where
 * can be seen, and overlaps as well. Reads every page, as packing does. */
static ts_status pack(ts_device *d, const ts_host *from, long first, const ts_weight *to, ts_ptr at)
{
    ledger *l = (ledger *)d;
    ts_status st = strike(l, "pack");
    ck_assert_int_eq(first, 0);
    if (st != TS_OK) return st;
    l->packs++;
    const uint8_t *b = from->data;
    size_t n = 4 * (size_t)(from->dim[0] * from->dim[1]);
    ck_assert_msg(memcmp(b, b + 1, n - 1) == 0, "a stored matrix is damaged");
    memset((void *)(uintptr_t)at.at, b[0], to->want.bytes);
    return TS_OK;
}

/* Until it has arrived nobody may read what is there. */
static ts_status begin_copy(ledger *l, ahead_copy c, const char *what, ts_ticket *t)
{
    ts_status st = strike(l, what);
    if (st != TS_OK) return st;
    ck_assert_msg(l->dev.goes_ahead, "nothing goes ahead here");
    ck_assert_int_lt(l->begun, 64);
    check_nothing_comes(l, c.at, c.bytes);
    memset(c.at, 0xEE, c.bytes);
    l->coming[l->begun++] = c;
    t->id = (uint64_t)l->begun;
    return TS_OK;
}

static ts_status upload_ahead(ts_device *d, ts_ptr p, const void *host, size_t n, ts_ticket *t)
{
    ledger *l = (ledger *)d;
    *t = (ts_ticket){0};
    if (!l->dev.goes_ahead) return upload(d, p, host, n);
    l->uploads++;
    return begin_copy(l, (ahead_copy){host, NULL, (uint8_t *)(uintptr_t)p.at, n}, "upload ahead",
                      t);
}

static ts_status pack_ahead(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                            ts_ptr at, ts_ticket *t)
{
    ledger *l = (ledger *)d;
    *t = (ts_ticket){0};
    if (!l->dev.goes_ahead) return pack(d, from, first, to, at);
    l->packs++;
    return begin_copy(l, (ahead_copy){from->data, to, (uint8_t *)(uintptr_t)at.at, to->want.bytes},
                      "pack ahead", t);
}

static ts_status wait_ahead(ts_device *d, ts_ticket t)
{
    ledger *l = (ledger *)d;
    ts_status st = t.id > (uint64_t)l->arrived ? strike(l, "wait") : TS_OK;
    for (; l->arrived < (long)t.id; l->arrived++) {
        ahead_copy c = l->coming[l->arrived];
        if (c.to)
            memset(c.at, *(const uint8_t *)c.host, c.to->want.bytes);
        else
            memcpy(c.at, c.host, c.bytes);
    }
    return st;
}

static void shut(ts_device *d) { (void)d; }

typedef struct {
    ts_ctx ctx;
    ledger dev;
    ts_weights *ws;
    const ts_weight *w[16], *v[4];
} bench;
/* two matrices a group, 1 MiB each in f32; bytes of a packed group, of all vectors */
enum { GROUPS = 4, ROWS = 512, COLUMNS = 512, GROUP = 2048, VECTORS = 3 * 256 };

static char *dir;

static void open_bench(bench *b, bool adopts)
{
    memset(b, 0, sizeof *b);
    b->dev.ops = (ts_ops){.alloc = alloc,
                          .free = release,
                          .adopt = adopt,
                          .upload = upload,
                          .upload_ahead = upload_ahead,
                          .pack_ahead = pack_ahead,
                          .wait = wait_ahead,
                          .pack = pack,
                          .close = shut};
    b->dev.dev = (ts_device){.ops = &b->dev.ops, .err = &b->ctx.err, .env = &b->ctx.env};
    b->dev.adopts = adopts;
    b->ctx.dev = &b->dev.dev;
    ck_ok(&b->ctx, ts_weights_open(&b->ctx, dir, "model", &b->ws));
    for (int i = 0; i < 2 * GROUPS; i++) {
        char name[32];
        snprintf(name, sizeof name, "m%d", i);
        ck_ok(&b->ctx, ts_weights_find(b->ws, i / 2, TS_ROLE_MATRIX, name, 2,
                                       (long[]){ROWS, COLUMNS}, b->w + i));
    }
    for (int i = 0; i < 3; i++)
        ck_ok(&b->ctx, ts_find_vector(b->ws, i, b->v + i, 2, (long[]){1, -1}, "v%d", i));
}

static void close_bench(bench *b)
{
    ts_weights_close(b->ws);
    ck_assert_int_eq(b->dev.allocs, b->dev.frees);
}

/* What a counting run leaves behind. */
static void want(const ts_weight *w, ts_dtype type, int layout, size_t bytes)
{
    ts_keep_wish(NULL, w, (ts_form){type, layout, bytes});
}

static void want_all(bench *b)
{
    for (int i = 0; i < 2 * GROUPS; i++) want(b->w[i], TS_BF16, 5, 1000 + (size_t)i);
}

/* Matrix i is resident and its bytes are all its own. */
static void check_there(const bench *b, int i)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)b->w[i]->t.p.at;
    ck_assert_msg(p != NULL, "matrix %d is not resident", i);
    ck_assert(b->w[i]->layout == 5 && b->w[i]->t.type == TS_BF16 && (uintptr_t)p % 16 == 0);
    for (size_t k = 0; k < b->w[i]->want.bytes; k++)
        ck_assert_msg(p[k] == 100 + i, "matrix %d, byte %zu", i, k);
}

static void check_away(const bench *b, int i)
{
    ck_assert(b->w[i]->t.p.at == 0 && b->w[i]->layout == 0 && b->w[i]->t.type == TS_F32);
}

/* KiB of the model file's pages that this process has mapped in. */
static long resident_kib(void)
{
    char line[1024];
    bool ours = false;
    long sum = 0, n;
    FILE *f = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) {
        if (strchr(line, '-') && strchr(line, ':') && !strncmp(line + strcspn(line, " "), " r", 2))
            ours = strstr(line, dir) != NULL;
        if (ours && sscanf(line, "Rss: %ld", &n) == 1) sum += n;
    }
    fclose(f);
    return sum;
}

static bool mapped(void)
{
    char line[1024];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f)) found |= strstr(line, dir) != NULL;
    if (f) fclose(f);
    return found;
}

START_TEST(everything_stays_by_default)
{
    bench b;
    size_t largest;
    open_bench(&b, true);
    ck_assert(b.v[0]->t.p.at && b.v[0]->t.type == TS_F32 && b.v[0]->t.nd == 2 &&
              b.w[0]->t.p.at == 0);
    want_all(&b);
    b.dev.dev.counting = true;
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    ck_assert(b.dev.allocs == 0 && b.dev.packs == 0); /* nothing on a counting device */
    ck_assert_uint_eq(ts_weights_packed(b.ws, &largest), GROUPS * GROUP + VECTORS);
    ck_assert_uint_eq(largest, GROUP);
    b.dev.dev.counting = false;
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) check_there(&b, i);
    ck_assert(b.dev.packs == 8 && b.dev.uploads == 3 && b.dev.allocs == GROUPS + 1);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 77)); /* a group without matrices */
    close_bench(&b);
}
END_TEST

START_TEST(vectors_are_there_from_the_first_enter)
{
    bench b;
    open_bench(&b, true);
    uint64_t before = b.v[2]->t.p.at;
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 3)); /* of any group, with no matrix wanted */
    ck_assert(b.dev.packs == 0 && b.dev.uploads == 3 && b.v[2]->t.p.at != before);
    for (int i = 0; i < 3; i++) {
        const float *f = (const float *)(uintptr_t)b.v[i]->t.p.at;
        for (int k = 0; k < 3 + i; k++) ck_assert_float_eq(f[k], (float)(i + k) - 0.5f);
    }
    /* found late: read at the next enter, the others stay put */
    ck_ok(&b.ctx, ts_find_vector(b.ws, 0, b.v + 3, 2, (long[]){1, 6}, "v%d", 3));
    before = b.v[0]->t.p.at;
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    ck_assert(b.dev.uploads == 4 && b.v[0]->t.p.at == before &&
              ((const float *)(uintptr_t)b.v[3]->t.p.at)[5] == 7.5f);
    close_bench(&b);
}
END_TEST

/* A budget for two of the four groups beside the slot and the vectors: 0 and 1 stay, 2 and 3 take
 * turns, and after the first round nothing is allocated. */
START_TEST(others_take_turns_in_one_slot)
{
    bench b;
    open_bench(&b, true);
    want_all(&b);
    ts_weights_budget(b.ws, 3 * GROUP + VECTORS + 255);
    for (int round = 0; round < 3; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            check_there(&b, 2 * g);
            check_there(&b, 2 * g + 1);
            ck_assert_int_eq(b.dev.allocs, 4); /* two groups, the slot, vectors */
            if (g < 2) continue;
            check_there(&b, 0);
            check_there(&b, 3);
            check_away(&b, g == 2 ? 6 : 4);
            check_away(&b, g == 2 ? 7 : 5);
        }
    ck_assert_int_eq(b.dev.packs, 4 + 3 * 4);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 3)); /* still in the slot */
    ck_assert_int_eq(b.dev.packs, 16);
    ts_weights_budget(b.ws, 3 * GROUP + VECTORS - 1); /* a byte less: only group 0 stays */
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    check_there(&b, 0);
    check_away(&b, 2);
    check_away(&b, 4);
    check_there(&b, 6);
    close_bench(&b);
}
END_TEST

/* Runs with different room share weights: while all of them fit, nobody packs again; the first
 * budget that is too small changes what stays. */
START_TEST(a_budget_that_fits_everything_changes_nothing)
{
    bench b;
    open_bench(&b, false);
    want_all(&b);
    const size_t enough = GROUPS * GROUP + VECTORS,
                 budgets[] = {SIZE_MAX, enough, enough + 1, 2 * enough};
    for (int i = 0; i < 4; i++) {
        ts_weights_budget(b.ws, budgets[i]);
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        ck_assert_int_eq(b.dev.packs, 2 * GROUPS);
    }
    ts_weights_budget(b.ws, enough - 1);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    ck_assert_int_eq(b.dev.packs, 4 * GROUPS);
    for (int i = 0; i < 2; i++) check_there(&b, i);
    check_away(&b, 2 * (GROUPS - 2)); /* the last two took turns */
    close_bench(&b);
}
END_TEST

START_TEST(no_budget_streams_everything)
{
    bench b;
    open_bench(&b, false);
    want_all(&b);
    want(b.w[4], TS_BF16, 5, 5000); /* the largest decides the slot */
    ts_weights_budget(b.ws, 0);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            for (int i = 0; i < 2 * GROUPS; i++) {
                if (i / 2 == g)
                    check_there(&b, i);
                else
                    check_away(&b, i);
            }
        }
    ck_assert(b.dev.allocs == 2 && b.dev.packs == 16);
    close_bench(&b);
}
END_TEST

/* A large group first does not keep later, smaller ones from staying. */
START_TEST(small_groups_stay_after_a_large_one)
{
    bench b;
    open_bench(&b, false);
    want_all(&b);
    want(b.w[0], TS_BF16, 5, 100000);
    ts_weights_budget(b.ws, 100096 + 1024 + 3 * GROUP + VECTORS);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) check_there(&b, i);
    ck_assert_int_eq(b.dev.packs, 8);
    close_bench(&b);
}
END_TEST

START_TEST(unused_matrices_are_left_alone)
{
    bench b;
    open_bench(&b, true);
    want(b.w[2], TS_BF16, 5, 999);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    check_there(&b, 2);
    for (int i = 0; i < 2 * GROUPS; i++)
        if (i != 2) check_away(&b, i);
    ck_assert_int_eq(b.dev.packs, 1);
    close_bench(&b);
}
END_TEST

/* Stored type, row-major: in the mapping where the device can, uploaded where it can not; never
 * packed. */
START_TEST(stored_form_is_used_in_place)
{
    for (int adopts = 0; adopts < 2; adopts++) {
        bench b;
        open_bench(&b, adopts);
        size_t n = sizeof(float) * ROWS * COLUMNS, largest;
        for (int i = 0; i < 2 * GROUPS; i++) want(b.w[i], TS_F32, 0, n);
        ck_assert_uint_eq(ts_weights_packed(b.ws, &largest), (adopts ? 0 : 8 * n) + 3 * 256);
        ts_weights_budget(b.ws, 0);
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            for (int i = 2 * g; i < 2 * g + 2; i++) {
                const uint8_t *p = (const uint8_t *)(uintptr_t)b.w[i]->t.p.at;
                ck_assert(p && b.w[i]->layout == 0 && b.w[i]->t.type == TS_F32 && p[0] == 100 + i &&
                          p[n - 1] == 100 + i);
            }
            /* what is mapped is never evicted */
            ck_assert((b.w[0]->t.p.at != 0) == (g == 0 || adopts));
        }
        ck_assert(b.dev.packs == 0 && b.dev.uploads == (adopts ? 3 : 11) &&
                  b.dev.allocs == (adopts ? 1 : 2));
        close_bench(&b);
    }
}
END_TEST

/* Another counting run wants other layouts: decided anew, nothing leaks, the data follow. */
START_TEST(wants_may_change)
{
    bench b;
    open_bench(&b, true);
    want_all(&b);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) want(b.w[i], TS_BF16, 5, 3000);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) check_there(&b, i);
    ck_assert_int_eq(b.dev.packs, 16);
    ts_weights_budget(b.ws, 0);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 1));
    check_there(&b, 2);
    check_away(&b, 0);
    close_bench(&b);
}
END_TEST

/* The default is the most there is: f32 copies of everything fit, twice the memory does not. */
START_TEST(widening_is_bounded)
{
    bench b;
    open_bench(&b, true);
    /* 320 MiB of packed matrices from a file of 8 */
    for (int i = 0; i < 2 * GROUPS; i++) want(b.w[i], TS_BF16, 5, (size_t)40 << 20);
    ts_weights_budget(b.ws, SIZE_MAX);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    /* 256 MiB hold a slot of 80 and two groups */
    ck_assert(b.w[0]->t.p.at && b.w[2]->t.p.at && !b.w[4]->t.p.at && b.w[6]->t.p.at);
    close_bench(&b);
}
END_TEST

START_TEST(leaving_gives_memory_back)
{
    bench b;
    open_bench(&b, true);
    want_all(&b);
    want(b.w[7], TS_F32, 0, sizeof(float) * ROWS * COLUMNS);
    for (int round = 0; round < 2; round++) {
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        for (int i = 0; i < 2 * GROUPS - 1; i++) check_there(&b, i);
        /* reads it all */
        ck_assert(memchr((void *)(uintptr_t)b.w[7]->t.p.at, 0, sizeof(float) * ROWS * COLUMNS) ==
                  NULL);
        ck_assert_int_gt(resident_kib(), 1000);
        ts_weights_leave(b.ws);
        for (int i = 0; i < 2 * GROUPS; i++) check_away(&b, i);
        ck_assert_int_eq(b.dev.allocs - b.dev.frees, 1); /* the vectors stay */
        ck_assert_int_lt(resident_kib(), 512);
    }
    ck_assert(b.dev.packs == 14 && b.dev.uploads == 3);
    close_bench(&b);
}
END_TEST

START_TEST(shared_matrices_always_stay)
{
    bench b;
    const ts_weight *again;
    open_bench(&b, true);
    want_all(&b);
    ck_ok(&b.ctx, ts_weights_find(b.ws, 3, TS_ROLE_MATRIX, "m0", 2, (long[]){-1, -1}, &again));
    ck_assert_ptr_eq(again, b.w[0]);
    ck_ok(&b.ctx, ts_weights_find(b.ws, 2, TS_ROLE_MATRIX, "m0", 2, (long[]){-1, -1}, &again));
    /* the same group twice is no sharing */
    ck_ok(&b.ctx, ts_weights_find(b.ws, 0, TS_ROLE_MATRIX, "m1", 2, (long[]){-1, -1}, &again));
    ts_weights_budget(b.ws, 0);
    for (int g = GROUPS - 1; g >= 0; g--) {
        ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        check_there(&b, 0);
        check_there(&b, 2 * g + 1);
        if (g) check_away(&b, 1);
    }
    close_bench(&b);
}
END_TEST

/* A bench whose device goes ahead of its queue and can use nothing in place. */
static void open_ahead(bench *b)
{
    open_bench(b, false);
    b->dev.dev.goes_ahead = true;
    want_all(b);
    ts_weights_budget(b->ws, 0);
}

/* Group g is there, no other is; `next` is on its way, and nothing else. */
static void check_ahead(const bench *b, int g, long begun)
{
    for (int i = 0; i < 2 * GROUPS; i++) {
        if (i / 2 == g)
            check_there(b, i);
        else
            check_away(b, i);
    }
    ck_assert_int_eq(b->dev.begun, begun);
    ck_assert_int_eq(b->dev.begun - b->dev.arrived, 2);
}

/* While a group is computed with the next one comes, to the other of two slots; only what is
 * entered is waited for. */
START_TEST(the_next_group_comes_while_one_is_there)
{
    bench b;
    size_t slots;
    open_ahead(&b);
    ck_assert_uint_eq(ts_weights_packed(b.ws, &slots), GROUPS * GROUP + VECTORS);
    ck_assert_uint_eq(slots, 2 * GROUP);
    for (int round = 0, n = 2; round < 3; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            check_ahead(&b, g, n += 2);
            ck_assert_int_eq(b.dev.allocs, 3); /* two slots, vectors */
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            check_ahead(&b, g, n);
        }
    close_bench(&b);
}
END_TEST

/* Out of order: what came in vain is waited for before anything is written over it. */
START_TEST(jumps_find_their_group)
{
    static const int order[] = {0, 2, 1, 1, 3, 2, 0, 3, 0, 1, 2, 3};
    bench b;
    open_ahead(&b);
    for (size_t k = 0; k < sizeof order / sizeof *order; k++) {
        ck_ok(&b.ctx, ts_weights_enter(b.ws, order[k]));
        check_there(&b, 2 * order[k]);
        check_there(&b, 2 * order[k] + 1);
        check_away(&b, (2 * order[k] + 2) % (2 * GROUPS));
    }
    close_bench(&b);
}
END_TEST

/* The budget counts both slots: two groups of four stay beside them. A device that packs at once
 * has one slot, and three stay. Groups that stay come ahead as well, once. */
START_TEST(slots_count_in_the_budget)
{
    for (int goes = 0; goes < 2; goes++) {
        bench b;
        open_ahead(&b);
        b.dev.dev.goes_ahead = goes;
        ts_weights_budget(b.ws, 3 * GROUP + VECTORS);
        for (int round = 0; round < 3; round++)
            for (int g = 0; g < GROUPS; g++) {
                ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
                check_there(&b, 2 * g);
                check_there(&b, 2 * g + 1);
                check_there(&b, 0);
                if (round && !goes) check_there(&b, 2);
            }
        ck_assert_int_eq(b.dev.allocs, goes ? 1 + 2 + 1 : 2 + 1 + 1);
        /* three take turns with one that is on its way at the end; two take turns */
        ck_assert_int_eq(b.dev.packs, goes ? 2 + 3 * 6 + 2 : 4 + 3 * 4);
        close_bench(&b);
    }
}
END_TEST

/* One that takes turns with nobody has one slot and is packed once. */
START_TEST(one_group_alone_needs_one_slot)
{
    bench b;
    open_bench(&b, false);
    b.dev.dev.goes_ahead = true;
    want_all(&b);
    want(b.w[6], TS_BF16, 5, 100000);
    ts_weights_budget(b.ws, 2 * (100096 + 1024) + 3 * GROUP + VECTORS - 1 - 1024);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    ck_assert_int_le(b.dev.allocs, 2 + 2 + 1);
    for (int i = 6; i < 8; i++) check_there(&b, i);
    close_bench(&b);
}
END_TEST

/* Stored type, row-major: uploaded ahead, from the mapping. */
START_TEST(stored_form_comes_ahead)
{
    bench b;
    size_t n = sizeof(float) * ROWS * COLUMNS;
    open_ahead(&b);
    for (int i = 0; i < 2 * GROUPS; i++) want(b.w[i], TS_F32, 0, n);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            for (int i = 2 * g; i < 2 * g + 2; i++) {
                const uint8_t *p = (const uint8_t *)(uintptr_t)b.w[i]->t.p.at;
                ck_assert(p && b.w[i]->layout == 0 && b.w[i]->t.type == TS_F32 && p[0] == 100 + i &&
                          p[n - 1] == 100 + i);
            }
            check_away(&b, (2 * g + 2) % (2 * GROUPS));
        }
    ck_assert(b.dev.packs == 0 && b.dev.begun == 2 * (2 * GROUPS + 1));
    close_bench(&b);
}
END_TEST

/* What is on its way when everything changes has arrived before its memory is freed or laid out
 * anew. */
START_TEST(changes_wait_for_what_is_coming)
{
    bench b;
    const ts_weight *again;
    open_ahead(&b);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    check_ahead(&b, 0, 4);
    ts_weights_leave(b.ws);
    ck_assert_int_eq(b.dev.allocs - b.dev.frees, 1);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    /* another counting run: larger, when it is on its way, and when its time to begin comes */
    want(b.w[2], TS_BF16, 5, 5000);
    want(b.w[4], TS_BF16, 5, 7000);
    for (int g = 1; g < GROUPS; g++) {
        ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        check_there(&b, 2 * g);
    }
    want(b.w[0], TS_BF16, 5, 9000);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 2));
    check_there(&b, 4);
    want(b.w[6], TS_BF16, 5, 30000);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 1));
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 2)); /* 3 begins as memory was laid out, in vain */
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 3));
    check_there(&b, 6);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    check_there(&b, 0);
    /* the group that is coming loses a matrix to those that always stay */
    ck_ok(&b.ctx, ts_weights_find(b.ws, 3, TS_ROLE_MATRIX, "m2", 2, (long[]){-1, -1}, &again));
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 1));
    check_there(&b, 2);
    ts_weights_budget(b.ws, SIZE_MAX);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) check_there(&b, i);
    close_bench(&b);
}
END_TEST

START_TEST(stop_comes_first)
{
    bench b;
    volatile int stop = 1;
    open_bench(&b, true);
    want_all(&b);
    b.ctx.env.stop = &stop;
    ck_assert_int_eq(ts_weights_enter(b.ws, 0), TS_ESTOP);
    b.dev.dev.counting = true;
    ck_assert_int_eq(ts_weights_enter(b.ws, 0), TS_ESTOP);
    ck_assert_int_eq(b.dev.allocs, 0);
    close_bench(&b);
}
END_TEST

/* Whichever operation fails: the sentence comes through, nothing half stays, nothing leaks, and
 * trying again works. */
START_TEST(failures_leave_it_whole)
{
    int failures = 0;
    for (int k = 1; k < 40; k++) {
        bench b;
        ts_status st = TS_OK;
        open_bench(&b, true);
        want_all(&b);
        ts_weights_budget(b.ws, 3 * GROUP + VECTORS);
        b.dev.refuse = k;
        for (int g = 0; g < GROUPS && st == TS_OK; g++) st = ts_weights_enter(b.ws, g);
        if (st != TS_OK) {
            failures++;
            ck_assert_msg(st == TS_EMEMORY && strstr(b.ctx.err.text, "refused"), "%s",
                          b.ctx.err.text);
        }
        /* memory is taken whole or not at all; the fourth is that of the vectors */
        if (k <= 4) ck_assert_int_eq(b.dev.allocs - b.dev.frees, k == 4 ? 3 : 0);
        int half = (int)(b.dev.packs / 2 * 2); /* of the group whose packing failed */
        if (k > 4 && st != TS_OK) {
            check_away(&b, half);
            check_away(&b, half + 1);
        }
        b.dev.refuse = 0;
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            check_there(&b, 2 * g);
            check_there(&b, 2 * g + 1);
        }
        ck_assert_float_eq(*(const float *)(uintptr_t)b.v[2]->t.p.at, 1.5f);
        close_bench(&b);
    }
    ck_assert_int_eq(failures, 4 + 3 + 8);
}
END_TEST

/* The same ahead of the queue: copies that have begun are waited for, whatever fails beside them.
 */
START_TEST(failures_ahead_leave_it_whole)
{
    int failures = 0;
    for (int k = 1; k < 40; k++) {
        bench b;
        ts_status st = TS_OK;
        open_ahead(&b);
        b.dev.refuse = k;
        for (int g = 0; g < GROUPS && st == TS_OK; g++) st = ts_weights_enter(b.ws, g);
        if (st != TS_OK) {
            failures++;
            ck_assert_msg(st == TS_EMEMORY && strstr(b.ctx.err.text, "refused"), "%s",
                          b.ctx.err.text);
        }
        for (int i = 0; i < 2 * GROUPS; i++)
            if (b.w[i]->t.p.at) check_there(&b, i);
        b.dev.refuse = 0;
        if (k % 2) /* else right away */
            for (int g = 0; g < GROUPS; g++) {
                ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
                check_there(&b, 2 * g);
                check_there(&b, 2 * g + 1);
            }
        close_bench(&b);
    }
    /* allocs; vectors; five groups begin, of which four are waited for */
    ck_assert_int_eq(failures, 3 + 3 + 2 * 5 + 4);
}
END_TEST

/* Where the file holds matrix i: its bytes are all 100 + i. */
static bool ahead_of(int range, int i)
{
    const uint8_t *p = (const uint8_t *)ahead[range][0];
    size_t n = ahead[range][1] - ahead[range][0], page = (size_t)sysconf(_SC_PAGESIZE);
    return n >= 4 * ROWS * COLUMNS && n < 4 * ROWS * COLUMNS + 2 * page && p[page] == 100 + i &&
           p[4 * ROWS * COLUMNS - 1] == 100 + i;
}

/* The group that will be packed next is read ahead; what is resident or in the slot is not, nor a
 * matrix that nobody uses. */
START_TEST(the_next_group_is_read_ahead)
{
    bench b;
    open_bench(&b, true);
    want_all(&b);
    want(b.w[7], TS_F32, 0, 0);
    /* group 0 stays, the others take turns; 3 is smaller and would fit, but 0 came first */
    ts_weights_budget(b.ws, 2 * GROUP + VECTORS);
    aheads = 0;
    static const int next[2][GROUPS] = {{1, 2, 3, 1}, {-1, 2, 3, 1}};
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) {
            int n = next[round][g];
            aheads = 0;
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            ck_assert_int_eq(aheads, n < 0 ? 0 : n == 3 ? 1 : 2);
            for (int k = 0; k < aheads; k++) ck_assert(ahead_of(k, 2 * n + k));
        }
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 3));
    ck_assert_int_eq(aheads, 2); /* nothing new: it was there */
    close_bench(&b);
}
END_TEST

/* 8 MiB of matrices: opening, binding and counting touch headers alone, and packed pages are given
 * back. */
START_TEST(pages_are_touched_late_and_given_back)
{
    bench b;
    open_bench(&b, true);
    ck_assert(mapped());
    want_all(&b);
    b.dev.dev.counting = true;
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    ts_weights_warn_unused(b.ws);
    ck_assert_int_lt(resident_kib(), 256); /* the header and what the kernel maps around it */
    b.dev.dev.counting = false;
    for (int g = 0; g < GROUPS; g++) {
        ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        ck_assert_int_lt(resident_kib(), 512);
    }
    close_bench(&b);
    ck_assert(!mapped());
}
END_TEST

static void make_model(void)
{
    static float m[ROWS * COLUMNS];
    char path[600], name[32];
    ts_err err;
    ts_bag *bag = ts_bag_new();
    for (int i = 0; i < 2 * GROUPS; i++) {
        memset(m, 100 + i, sizeof m);
        snprintf(name, sizeof name, "m%d", i);
        ts_bag_put(bag, name, TS_F32, 2, (long[]){ROWS, COLUMNS}, m);
    }
    for (int i = 0; i < 4; i++) {
        float v[8];
        uint16_t h[8];
        for (int k = 0; k < 8; k++) {
            v[k] = (float)(i + k) - 0.5f;
            h[k] = i == 1 ? scratch_bf16(v[k]) : scratch_f16(v[k]);
        }
        snprintf(name, sizeof name, "v%d", i);
        ts_bag_put(bag, name,
                   i == 1   ? TS_BF16
                   : i == 2 ? TS_F16
                            : TS_F32,
                   2, (long[]){1, 3 + i}, i == 1 || i == 2 ? (void *)h : v);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (ts_bag_save(&err, bag, path) != TS_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    ts_bag_free(bag);
}

int main(void)
{
    dir = testing_tmp();
    make_model();
    Suite *s = suite_create("residency");
    TCase *t = tcase_create("all");
    tcase_add_test(t, everything_stays_by_default);
    tcase_add_test(t, vectors_are_there_from_the_first_enter);
    tcase_add_test(t, others_take_turns_in_one_slot);
    tcase_add_test(t, a_budget_that_fits_everything_changes_nothing);
    tcase_add_test(t, no_budget_streams_everything);
    tcase_add_test(t, small_groups_stay_after_a_large_one);
    tcase_add_test(t, unused_matrices_are_left_alone);
    tcase_add_test(t, stored_form_is_used_in_place);
    tcase_add_test(t, wants_may_change);
    tcase_add_test(t, widening_is_bounded);
    tcase_add_test(t, leaving_gives_memory_back);
    tcase_add_test(t, shared_matrices_always_stay);
    tcase_add_test(t, stop_comes_first);
    tcase_add_test(t, failures_leave_it_whole);
    tcase_add_test(t, the_next_group_comes_while_one_is_there);
    tcase_add_test(t, jumps_find_their_group);
    tcase_add_test(t, slots_count_in_the_budget);
    tcase_add_test(t, one_group_alone_needs_one_slot);
    tcase_add_test(t, stored_form_comes_ahead);
    tcase_add_test(t, changes_wait_for_what_is_coming);
    tcase_add_test(t, failures_ahead_leave_it_whole);
    tcase_add_test(t, the_next_group_is_read_ahead);
    tcase_add_test(t, pages_are_touched_late_and_given_back);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(dir);
    return failed;
}
