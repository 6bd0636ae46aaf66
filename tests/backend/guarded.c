#include "tests/backend/guarded.h"

#include "backend/cpu/ref.h"
#include "tests/golden.h"

#include <stdio.h>
#include <stdlib.h>

enum { GUARD = 192, MOST = 64, PATTERN = 0xA5 };
typedef struct {
    char *all, *at;
    size_t bytes;
} block;
static block blocks[MOST];
static int count;

static size_t span(ts_tensor t)
{
    return ((size_t)(t.dim[0] - 1) * (size_t)t.ld + (size_t)t.dim[1]) * ts_dtype_size(t.type);
}
static char *row_start(ts_tensor t, long m)
{
    return (char *)(uintptr_t)t.p.at + (size_t)(m * t.ld) * ts_dtype_size(t.type);
}

static ts_tensor take_guarded(ts_dtype type, long rows, long C, long ld)
{
    ts_tensor t = {.type = type, .nd = 2, .dim = {rows, C}, .ld = ld};
    ck_assert_int_lt(count, MOST);
    block *b = blocks + count++;
    b->bytes = span(t);
    b->all = malloc(b->bytes + 3 * GUARD);
    ck_assert_ptr_nonnull(b->all);
    memset(b->all, PATTERN, b->bytes + 3 * GUARD);
    b->at = (char *)(((uintptr_t)b->all + GUARD) / 64 * 64 +
                     (b->bytes >> 20 ? 0 : ts_dtype_size(type)));
    t.p.at = (uintptr_t)b->at;
    return t;
}

ts_tensor guarded_tensor(ts_dtype type, long rows, long C, long ld, const char *name, double scale,
                         double shift)
{
    ts_tensor t = take_guarded(type, rows, C, ld);
    for (long m = 0; m < rows; m++)
        for (long c = 0; c < C; c++)
            guarded_set(t, m, c, (float)(scale * golden_u(name, (uint32_t)(m * C + c)) + shift));
    return t;
}

ts_tensor guarded_twin(ts_tensor t)
{
    ts_tensor u = take_guarded(t.type, t.dim[0], t.dim[1], t.ld);
    memcpy(row_start(u, 0), row_start(t, 0), span(t));
    return u;
}

void guarded_check(ts_tensor t, const char *what)
{
    const unsigned char *from = NULL, *to = NULL, *p;
    size_t width = (size_t)t.dim[1] * ts_dtype_size(t.type),
           step = (size_t)t.ld * ts_dtype_size(t.type);
    for (int i = 0; i < count; i++)
        if (blocks[i].at == row_start(t, 0)) {
            from = (void *)blocks[i].all;
            to = from + blocks[i].bytes + 3 * GUARD;
        }
    ck_assert_ptr_nonnull(from);
    for (p = from; p < to; p++) {
        long off = p - (const unsigned char *)row_start(t, 0);
        bool inside = off >= 0 && (size_t)off < span(t) && (size_t)off % step < width;
        if (inside)
            p += width - (size_t)off % step - 1;
        else if (*p != PATTERN)
            ck_abort_msg("%s: byte %ld outside the rows was written", what, off);
    }
}

void guarded_free(void)
{
    while (count) free(blocks[--count].all);
}

double guarded_at(ts_tensor t, long m, long c) { return ts_load(row_start(t, m), t.type, c); }
void guarded_set(ts_tensor t, long m, long c, float x) { ts_store(row_start(t, m), t.type, c, x); }

void guarded_same(ts_tensor a, ts_tensor b, const char *what)
{
    for (long m = 0; m < a.dim[0]; m++)
        if (memcmp(row_start(a, m), row_start(b, m), (size_t)a.dim[1] * ts_dtype_size(a.type)))
            for (long c = 0; c < a.dim[1]; c++)
                if (memcmp(row_start(a, m) + (size_t)c * ts_dtype_size(a.type),
                           row_start(b, m) + (size_t)c * ts_dtype_size(a.type),
                           ts_dtype_size(a.type)))
                    ck_abort_msg("%s: element %ld of row %ld is %.9g, expected %.9g", what, c, m,
                                 guarded_at(a, m, c), guarded_at(b, m, c));
}

const char *const *guarded_levels(void)
{
    static const char *const all[] = {"avx2", "avx512", "avx512_bf16"};
    static const char *have[4];
    if (have[0]) return have;
    for (int i = 0, n = 0; i < 3; i++) {
        ts_err err = {0};
        ts_device *d = NULL;
        if (ts_device_open((ts_device_options){"cpu", 1, all[i]}, NULL, &err, &d))
            printf("skip: %s\n", err.text);
        else
            have[n++] = all[i];
        ts_device_close(d);
    }
    return have;
}

void guarded_on(const char *level, int threads, ts_status (*f)(ts_device *, void *), void *user)
{
    ts_err err = {0};
    ts_device *d = NULL;
    ts_status st = ts_device_open((ts_device_options){"cpu", threads, level}, NULL, &err, &d);
    if (!st) st = f(d, user);
    ck_assert_msg(st == TS_OK, "%s: %s", level, err.text);
    ts_device_close(d);
}
