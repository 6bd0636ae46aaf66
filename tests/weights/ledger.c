/* The device of the tests of residency, and the model on it. */
#include "tests/weights/ledger.h"

#include "tests/weights/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

char *residency_dir;

void residency_open(residency *b, bool adopts)
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
    ck_ok(&b->ctx, ts_weights_open(&b->ctx, residency_dir, "model", NULL, &b->ws));
    for (int i = 0; i < 2 * GROUPS; i++) {
        char name[32];
        snprintf(name, sizeof name, "m%d", i);
        ck_ok(&b->ctx, ts_weights_find(b->ws, i / 2, TS_ROLE_MATRIX, name, 2,
                                       (long[]){ROWS, COLUMNS}, b->w + i));
    }
    for (int i = 0; i < 3; i++)
        ck_ok(&b->ctx, ts_find_vector(b->ws, i, b->v + i, 2, (long[]){1, -1}, "v%d", i));
}

void residency_close(residency *b)
{
    ts_weights_close(b->ws);
    ck_assert_int_eq(b->dev.allocs, b->dev.frees);
}

/* What a counting run leaves behind. */
void residency_want(const ts_weight *w, ts_dtype type, int layout, size_t bytes)
{
    ts_keep_wish(NULL, w, (ts_form){type, layout, bytes});
}

void residency_want_all(residency *b)
{
    for (int i = 0; i < 2 * GROUPS; i++) residency_want(b->w[i], TS_BF16, 5, 1000 + (size_t)i);
}

/* Matrix i is resident and its bytes are all its own. */
void residency_there(const residency *b, int i)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)b->w[i]->t.p.at;
    ck_assert_msg(p != NULL, "matrix %d is not resident", i);
    ck_assert(b->w[i]->layout == 5 && b->w[i]->t.type == TS_BF16 && (uintptr_t)p % 16 == 0);
    for (size_t k = 0; k < b->w[i]->want.bytes; k++)
        ck_assert_msg(p[k] == 100 + i, "matrix %d, byte %zu", i, k);
}

void residency_away(const residency *b, int i)
{
    ck_assert(b->w[i]->t.p.at == 0 && b->w[i]->layout == 0 && b->w[i]->t.type == TS_F32);
}

/* KiB of the model file's pages that this process has residency_mapped in. */
long residency_kib(void)
{
    char line[1024];
    bool ours = false;
    long sum = 0, n;
    FILE *f = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) {
        if (strchr(line, '-') && strchr(line, ':') && !strncmp(line + strcspn(line, " "), " r", 2))
            ours = strstr(line, residency_dir) != NULL;
        if (ours && sscanf(line, "Rss: %ld", &n) == 1) sum += n;
    }
    fclose(f);
    return sum;
}

bool residency_mapped(void)
{
    char line[1024];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f)) found |= strstr(line, residency_dir) != NULL;
    if (f) fclose(f);
    return found;
}

void residency_model(void)
{
    static float m[ROWS * COLUMNS];
    char path[600], name[32];
    residency_dir = testing_tmp();
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
    snprintf(path, sizeof path, "%s/model.safetensors", residency_dir);
    if (ts_bag_save(&err, bag, path) != TS_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    ts_bag_free(bag);
}
