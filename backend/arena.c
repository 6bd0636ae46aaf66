/* A bump allocator over one allocation; on a counting device over addresses that do not exist,
 * where it only finds out how high it gets. */
#include "backend/ctx.h"

#include <assert.h>

enum { ALIGN = 256 };
#define NOWHERE (UINT64_C(1) << 59) /* base of a counting arena: no memory is ever there */

ts_status ts_arena_open(ts_arena *a, ts_device *dev, size_t size)
{
    *a = (ts_arena){.dev = dev, .size = dev->counting ? SIZE_MAX : size};
    if (dev->counting) {
        a->base.at = NOWHERE;
        return TS_OK;
    }
    return ts_alloc_for(dev, size ? size : ALIGN, "activations", &a->base);
}

void ts_arena_close(ts_arena *a)
{
    if (a->base.at && a->base.at != NOWHERE) a->dev->ops->free(a->dev, a->base);
    *a = (ts_arena){0};
}

ts_tensor ts_take(ts_arena *a, ts_dtype type, int nd, const long *dim)
{
    ts_tensor t = ts_tensor_of(ts_at(a->base, a->used), type, nd, dim);
    size_t bytes = ((size_t)ts_count(t) * ts_dtype_size(type) + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    assert(bytes <= a->size - a->used);
    a->used += bytes;
    if (a->used > a->peak) a->peak = a->used;
    return t;
}

ts_status ts_count_phase(ts_ctx *c, ts_status (*phase)(ts_ctx *, void *), void *user, size_t *bytes)
{
    ts_status st;
    bool counting = c->dev->counting;
    c->dev->counting = true;
    TRY(ts_arena_open(&c->arena, c->dev, 0));
    st = phase(c, user);
    *bytes = c->arena.peak;
    ts_arena_close(&c->arena);
done:
    c->dev->counting = counting;
    return st;
}
