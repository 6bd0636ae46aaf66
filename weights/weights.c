/* Where a layer's weights are: found by name in the mapped files, packed for the device group by
 * group.
 *
 * A group stays resident when its packed bytes still fit in the budget, in order of group; the
 * others share one slot, and whoever enters evicts whoever was there. group[0] holds matrices that
 * several groups found and always stays; the callers' group g is group[g + 1]. Opening files is the
 * business of checkpoint.c. */
#include "weights/weights.h"

#include "weights/checkpoint.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* NOWHERE: the address of vectors that are not read yet; dereferencing it faults */
enum { ALIGN = 256, NOWHERE = 256 };

typedef struct {
    ts_weight w; /* what models hold */
    ts_role role;
    int group;     /* index into group[] */
    bool found;    /* by find: then role and group hold */
    bool read;     /* by rows */
    bool in_place; /* of the plan: used where the file is mapped */
    ts_form plan;  /* what w wanted when memory was laid out */
    size_t at;     /* bytes from the group's home */
} item;

typedef struct {
    int *item;
    int n, room;
    size_t bytes;
    ts_ptr home; /* own memory, when it stays */
    bool stays, packed;
} group;

struct ts_weights {
    ts_ctx *ctx;
    ts_checkpoint files;
    item *item; /* one a name of files */
    group *group;
    int groups;
    int *vector, vectors, loaded; /* items in order of finding; the first `loaded` are resident */
    ts_ptr *chunk;                /* memory of vectors: one a round of loading */
    int chunks;
    size_t most, budget; /* bytes that may be held: at most, and as the caller said */
    size_t all;          /* bytes of everything packed, once it is decided what stays */
    bool planned;
    ts_ptr slot;
    int owner; /* the group in the slot; -1: none */
};

static size_t align(size_t n) { return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

static ts_status memory(ts_weights *ws)
{
    return ts_fail(&ws->ctx->err, TS_EMEMORY, "%s: out of memory", ws->files.what);
}

static const ts_entry *entry_of(const ts_weights *ws, int i) { return ws->files.name[i].e; }

/* Rows of item i as f32: out [rows, ts_entry_width]. */
static ts_status read_rows(ts_weights *ws, int i, long first, long rows, float *out)
{
    const ts_named *n = ws->files.name + i;
    return n->source->class->read(&ws->ctx->err, n->source, n->e, first, rows, out);
}

/* ---- open, close ---- */

ts_status ts_weights_open(ts_ctx *ctx, const char *dir, const char *stem, ts_weights **out)
{
    ts_status st;
    ts_weights *ws = calloc(1, sizeof *ws);
    *out = NULL;
    if (!ws) return ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", dir);
    ws->ctx = ctx;
    ws->owner = -1;
    TRY(ts_checkpoint_open(ctx, dir, stem, &ws->files));
    size_t names = (size_t)ws->files.names;
    ws->item = calloc(names + 1, sizeof *ws->item);
    ws->vector = malloc((names + 1) * sizeof *ws->vector);
    ws->chunk = malloc((names + 1) * sizeof *ws->chunk);
    ws->group = calloc(1, sizeof *ws->group);
    ws->groups = 1;
    if (!ws->item || !ws->vector || !ws->chunk || !ws->group) TRY(memory(ws));
    for (int i = 0; i < ws->files.sources; i++) ws->most += ws->files.source[i].size;
    ws->most += ws->most / 4;
    if (ws->most < (size_t)256 << 20) ws->most = (size_t)256 << 20;
    ws->budget = ws->most;
    *out = ws;
    ws = NULL;
done:
    ts_weights_close(ws);
    return st;
}

static void evict(ts_weights *ws, group *g)
{
    for (int i = 0; i < g->n; i++) {
        item *t = ws->item + g->item[i];
        t->w.t.p.at = 0;
        t->w.t.type = entry_of(ws, g->item[i])->t.type;
        t->w.layout = 0;
    }
    g->packed = false;
}

static void give_back(ts_weights *ws, ts_ptr *p)
{
    if (p->at) ws->ctx->dev->ops->free(ws->ctx->dev, *p);
    p->at = 0;
}

/* Back to no matrix resident and no memory held for any. */
static void forget(ts_weights *ws)
{
    for (int i = 0; i < ws->groups; i++) {
        evict(ws, ws->group + i);
        give_back(ws, &ws->group[i].home);
        ws->group[i].stays = false;
    }
    give_back(ws, &ws->slot);
    ws->owner = -1;
    ws->planned = false;
}

void ts_weights_close(ts_weights *ws)
{
    if (!ws) return;
    if (ws->group) forget(ws);
    for (int i = 0; i < ws->chunks; i++) give_back(ws, ws->chunk + i);
    for (int i = 0; ws->group && i < ws->groups; i++) free(ws->group[i].item);
    free(ws->group);
    free(ws->item);
    free(ws->vector);
    free(ws->chunk);
    ts_checkpoint_close(&ws->files);
    free(ws);
}

/* ---- find ---- */

bool ts_weights_has(const ts_weights *ws, const char *name)
{
    return ts_checkpoint_find(&ws->files, name) >= 0;
}

/* The entry of a name, of a type that can be computed with and the wanted shape. */
static ts_status look_up(ts_weights *ws, const char *name, int nd, const long *dim, int *index)
{
    ts_err *err = &ws->ctx->err;
    char got[96], want[96];
    int i = *index = ts_checkpoint_find(&ws->files, name);
    if (i < 0)
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\" %s is missing", ws->files.what, name,
                       ts_shape_text(nd, dim, want));
    const ts_entry *e = entry_of(ws, i);
    const char *path = ws->files.name[i].source->path;
    if (e->odd)
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\": %s is not supported", path, name,
                       e->odd);
    bool same = nd == e->t.nd;
    for (int d = 0; same && d < nd; d++) same = dim[d] == -1 || dim[d] == e->t.dim[d];
    if (!same)
        return ts_fail(err, TS_ESHAPE, "%s: tensor \"%s\" is %s, expected %s", path, name,
                       ts_shape_text(e->t.nd, e->t.dim, got), ts_shape_text(nd, dim, want));
    if (e->t.type != TS_F32 && e->t.type != TS_BF16 && e->t.type != TS_F16)
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\" is %s, expected F32, BF16 or F16", path,
                       name, ts_dtype_name(e->t.type));
    return TS_OK;
}

static bool reserve(ts_weights *ws, int g)
{
    if (g >= ws->groups) {
        group *more = realloc(ws->group, (size_t)(g + 1) * sizeof *more);
        if (!more) return false;
        memset(more + ws->groups, 0, (size_t)(g + 1 - ws->groups) * sizeof *more);
        ws->group = more;
        ws->groups = g + 1;
    }
    group *to = ws->group + g;
    if (to->n == to->room) {
        int room = to->room ? 2 * to->room : 16;
        int *more = realloc(to->item, (size_t)room * sizeof *more);
        if (!more) return false;
        to->item = more;
        to->room = room;
    }
    return true;
}

/* A matrix joins a group; one that another group has found already moves to those that always
 * stay. */
static ts_status enlist(ts_weights *ws, int index, int g)
{
    item *t = ws->item + index;
    if (t->found && (t->group == g || t->group == 0)) return TS_OK;
    if (t->found) g = 0;
    if (!reserve(ws, g)) return memory(ws);
    if (ws->planned) forget(ws);
    if (t->found) {
        group *from = ws->group + t->group;
        int k = 0;
        while (from->item[k] != index) k++;
        memmove(from->item + k, from->item + k + 1, (size_t)(--from->n - k) * sizeof *from->item);
    }
    ws->group[g].item[ws->group[g].n++] = index;
    t->group = g;
    return TS_OK;
}

ts_status ts_weights_find(ts_weights *ws, int g, ts_role role, const char *name, int nd,
                          const long *dim, const ts_weight **out)
{
    int i;
    assert(g >= 0);
    *out = NULL;
    ts_status st = look_up(ws, name, nd, dim, &i);
    if (st != TS_OK) return st;
    item *t = ws->item + i;
    const ts_host *stored = &entry_of(ws, i)->t;
    assert(!t->found || t->role == role);
    if (role == TS_ROLE_MATRIX && (st = enlist(ws, i, g + 1)) != TS_OK) return st;
    if (!t->found) {
        bool vector = role == TS_ROLE_VECTOR;
        t->w.t = ts_tensor_of((ts_ptr){vector ? NOWHERE : 0}, vector ? TS_F32 : stored->type,
                              stored->nd, stored->dim);
        t->role = role;
        t->found = true;
        if (vector) ws->vector[ws->vectors++] = i;
    }
    *out = &t->w;
    return TS_OK;
}

void ts_weights_warn_unused(ts_weights *ws)
{
    const char *name[3] = {"", "", ""};
    int n = 0;
    for (int i = 0; i < ws->files.names; i++) {
        if (ws->item[i].found || ws->item[i].read) continue;
        if (n < 3) name[n] = ws->files.name[i].name;
        n++;
    }
    if (n == 1)
        ts_warn(ws->ctx, "%s: tensor \"%s\" is not used", ws->files.what, name[0]);
    else if (n == 2)
        ts_warn(ws->ctx, "%s: tensors \"%s\" and \"%s\" are not used", ws->files.what, name[0],
                name[1]);
    else if (n)
        ts_warn(ws->ctx, "%s: %d tensors are not used: \"%s\", \"%s\", \"%s\"%s", ws->files.what, n,
                name[0], name[1], name[2], n > 3 ? ", ..." : "");
}

/* ---- residency ---- */

/* The counting run asks for what the file holds, and the device can use it where it is. */
static bool can_stay_mapped(const ts_weights *ws, int i)
{
    const ts_entry *e = entry_of(ws, i);
    const ts_weight *w = &ws->item[i].w;
    ts_device *dev = ws->ctx->dev;
    bool as_stored = w->want.layout == 0 && w->want.type == e->t.type &&
                     (uintptr_t)e->t.data % ts_dtype_size(e->t.type) == 0;
    return as_stored && e->bytes && dev->ops->adopt(dev, e->t.data, e->bytes).at != 0;
}

static size_t packed_bytes(const ts_weights *ws, int i)
{
    size_t n = ws->item[i].w.want.bytes;
    return n == 0 || can_stay_mapped(ws, i) ? 0 : align(n);
}

/* Of a vector on the device: one element at least, so that it has an address. */
static size_t room_for(ts_tensor t)
{
    long n = ts_count(t);
    return align((size_t)(n ? n : 1) * sizeof(float));
}

static void lay_out(ts_weights *ws, group *g)
{
    g->bytes = 0;
    for (int i = 0; i < g->n; i++) {
        item *t = ws->item + g->item[i];
        size_t n = packed_bytes(ws, g->item[i]);
        t->plan = t->w.want;
        t->in_place = t->plan.bytes && n == 0;
        t->at = g->bytes;
        g->bytes += n;
    }
}

static bool changed(const ts_weights *ws, const group *g)
{
    for (int i = 0; i < g->n; i++) {
        const item *t = ws->item + g->item[i];
        ts_form now = t->w.want;
        if (now.type != t->plan.type || now.layout != t->plan.layout || now.bytes != t->plan.bytes)
            return true;
    }
    return false;
}

static size_t vector_bytes(const ts_weights *ws)
{
    size_t all = 0;
    for (int i = 0; i < ws->vectors; i++) all += room_for(ws->item[ws->vector[i]].w.t);
    return all;
}

/* Who stays and who takes turns; takes all the memory that matrices will ever need. */
static ts_status decide(ts_weights *ws)
{
    ts_status st = TS_OK;
    ts_device *dev = ws->ctx->dev;
    size_t all = vector_bytes(ws), largest = 0, slot = 0;
    forget(ws);
    for (int i = 0; i < ws->groups; i++) {
        group *g = ws->group + i;
        lay_out(ws, g);
        all += g->bytes;
        if (i && g->bytes > largest) largest = g->bytes;
    }
    size_t taken = vector_bytes(ws) + (all > ws->budget ? largest : 0);
    ws->all = all;
    for (int i = 0; i < ws->groups; i++) {
        group *g = ws->group + i;
        g->stays = i == 0 || taken + g->bytes <= ws->budget || g->bytes == 0;
        if (g->stays)
            taken += g->bytes;
        else if (g->bytes > slot)
            slot = g->bytes;
    }
    for (int i = 0; i < ws->groups; i++)
        if (ws->group[i].stays && ws->group[i].bytes)
            TRY(dev->ops->alloc(dev, ws->group[i].bytes, &ws->group[i].home));
    if (slot) TRY(dev->ops->alloc(dev, slot, &ws->slot));
    ws->planned = true;
done:
    if (st != TS_OK) forget(ws);
    return st;
}

/* The pages that lie wholly inside a tensor's bytes (drop), or all that it touches (want). */
static void advise(const ts_entry *e, bool drop)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)e->t.data,
              end = begin + e->bytes;
    if (drop) {
        begin = (begin + page - 1) & -page;
        end &= -page;
    } else
        begin &= -page;
    /* advice: nothing depends on its success */
    if (begin < end) madvise((void *)begin, end - begin, drop ? MADV_DONTNEED : MADV_WILLNEED);
}

static ts_status place(ts_weights *ws, int i, ts_ptr at)
{
    ts_status st;
    ts_device *dev = ws->ctx->dev;
    const ts_entry *e = entry_of(ws, i);
    item *t = ws->item + i;
    if (t->in_place) {
        t->w.t.p = dev->ops->adopt(dev, e->t.data, e->bytes);
        return TS_OK;
    }
    if (t->plan.layout == 0 && t->plan.type == e->t.type) {
        TRY(dev->ops->upload(dev, at, e->t.data, e->bytes));
        t->w.t.p = at;
    } else {
        TRY(dev->ops->pack(dev, &e->t, 0, &t->w, at));
        ts_weight_packed(&t->w, at);
    }
    advise(e, true);
done:
    return st;
}

static ts_status make_resident(ts_weights *ws, int index)
{
    ts_status st = TS_OK;
    group *g = ws->group + index;
    if (g->packed) return TS_OK;
    if (!g->stays) {
        if (ws->owner >= 0) evict(ws, ws->group + ws->owner);
        ws->owner = index;
    }
    ts_ptr home = g->stays ? g->home : ws->slot;
    for (int i = 0; i < g->n; i++) {
        const item *t = ws->item + g->item[i];
        if (t->plan.bytes) TRY(place(ws, g->item[i], ts_at(home, t->at)));
    }
    g->packed = true;
done:
    if (st != TS_OK) evict(ws, g);
    return st;
}

/* Vectors found since the last round: widened to f32 one by one and uploaded. */
static ts_status load_vectors(ts_weights *ws)
{
    ts_status st = TS_OK;
    ts_device *dev = ws->ctx->dev;
    size_t bytes = 0, largest = 0;
    float *f = NULL;
    if (ws->loaded == ws->vectors) return TS_OK;
    for (int i = ws->loaded; i < ws->vectors; i++) {
        size_t n = room_for(ws->item[ws->vector[i]].w.t);
        bytes += n;
        if (n > largest) largest = n;
    }
    ts_ptr home = {0}, at;
    if (!(f = malloc(largest))) TRY(memory(ws));
    TRY(dev->ops->alloc(dev, bytes, &home));
    at = home;
    for (int i = ws->loaded; i < ws->vectors; i++) {
        ts_tensor *t = &ws->item[ws->vector[i]].w.t;
        size_t n = (size_t)ts_count(*t);
        TRY(read_rows(ws, ws->vector[i], 0, ts_entry_rows(entry_of(ws, ws->vector[i])), f));
        if (n) TRY(dev->ops->upload(dev, at, f, n * sizeof *f));
        t->p = at;
        at = ts_at(at, room_for(*t));
    }
    ws->chunk[ws->chunks++] = home;
    ws->loaded = ws->vectors;
done:
    if (st != TS_OK) {
        for (int i = ws->loaded; i < ws->vectors; i++) ws->item[ws->vector[i]].w.t.p.at = NOWHERE;
        give_back(ws, &home);
    }
    free(f);
    return st;
}

/* Asks the kernel to read what will be packed next: the first group after this one, going round,
 * that is not resident. */
static void prefetch(ts_weights *ws, int index)
{
    for (int k = 1; k < ws->groups; k++) {
        group *g = ws->group + (index + k) % ws->groups;
        if (g->packed || g->n == 0) continue;
        for (int i = 0; i < g->n; i++)
            if (ws->item[g->item[i]].plan.bytes) advise(entry_of(ws, g->item[i]), false);
        return;
    }
}

ts_status ts_weights_enter(ts_weights *ws, int g)
{
    ts_status st;
    bool fresh;
    TRY(ts_stopped(ws->ctx));
    if (ws->ctx->dev->counting) return TS_OK;
    g++;
    if (!ws->planned || changed(ws, ws->group) || (g < ws->groups && changed(ws, ws->group + g)))
        TRY(decide(ws));
    TRY(load_vectors(ws));
    TRY(make_resident(ws, 0));
    if (g >= ws->groups) return TS_OK;
    fresh = !ws->group[g].packed;
    TRY(make_resident(ws, g));
    if (fresh) prefetch(ws, g);
done:
    return st;
}

void ts_weights_budget(ts_weights *ws, size_t bytes)
{
    if (bytes > ws->most) bytes = ws->most;
    /* what fits entirely stays as it is */
    if (bytes != ws->budget && (ws->all > bytes || ws->all > ws->budget)) ws->planned = false;
    ws->budget = bytes;
}

void ts_weights_leave(ts_weights *ws)
{
    for (int i = 0; i < ws->files.names; i++)
        if (ws->item[i].in_place && ts_there(ws->item[i].w.t)) advise(entry_of(ws, i), true);
    forget(ws);
}

size_t ts_weights_packed(const ts_weights *ws, size_t *largest_group)
{
    size_t all = vector_bytes(ws), largest = 0;
    for (int g = 0; g < ws->groups; g++) {
        size_t n = 0;
        for (int i = 0; i < ws->group[g].n; i++) n += packed_bytes(ws, ws->group[g].item[i]);
        all += n;
        if (g && n > largest) largest = n;
    }
    if (largest_group) *largest_group = largest;
    return all;
}

/* ---- tables, statistics, layers ---- */

ts_status ts_weights_rows(ts_weights *ws, const char *name, const int32_t *ids, int n, long vocab,
                          long dim, float *out)
{
    int i;
    ts_status st = look_up(ws, name, 2, (long[]){vocab, dim}, &i);
    if (st != TS_OK) return st;
    const ts_entry *e = entry_of(ws, i);
    ws->item[i].read = true;
    for (int k = 0; k < n; k++) {
        if (ids[k] < 0 || ids[k] >= e->t.dim[0])
            return ts_fail(&ws->ctx->err, TS_ESHAPE,
                           "%s: id %d is outside of tensor \"%s\", which has %ld rows",
                           ws->files.name[i].source->path, ids[k], name, e->t.dim[0]);
        st = read_rows(ws, i, ids[k], 1, out + k * e->t.dim[1]);
        if (st != TS_OK) return st;
    }
    return TS_OK;
}

static void add_bytes(ts_weights_stat *s, const char *storage, size_t bytes)
{
    int i = 0;
    while (i < s->storages && strcmp(s->storage[i].name, storage)) i++;
    if (i == (int)(sizeof s->storage / sizeof *s->storage)) return;
    if (i == s->storages) s->storage[s->storages++].name = storage;
    s->storage[i].bytes += bytes;
}

void ts_weights_stats(const ts_weights *ws, ts_weights_stat *s)
{
    memset(s, 0, sizeof *s);
    s->files = ws->files.sources;
    for (int i = 0; i < ws->files.names; i++) {
        const ts_entry *e = entry_of(ws, i);
        s->tensors++;
        s->bytes += e->bytes;
        if (e->odd) continue;
        s->parameters += ts_entry_rows(e) * ts_entry_width(e);
        add_bytes(s, e->storage, e->bytes);
    }
}

/* PREFIX.weight as a matrix and, when asked for, PREFIX.bias as a vector of its first dimension. */
static ts_status find_layer(ts_weights *ws, int g, ts_layer *out, int nd, const long *dim,
                            bool bias, const char *prefix, va_list ap)
{
    ts_status st;
    char *name = NULL;
    int n = vasprintf(&name, prefix, ap);
    *out = (ts_layer){NULL, NULL};
    if (n < 0) return memory(ws);
    char *full = realloc(name, (size_t)n + 8);
    if (!full) TRY(memory(ws));
    name = full;
    strcpy(name + n, ".weight");
    TRY(ts_weights_find(ws, g, TS_ROLE_MATRIX, name, nd, dim, &out->w));
    if (!bias) goto done;
    strcpy(name + n, ".bias");
    TRY(ts_weights_find(ws, g, TS_ROLE_VECTOR, name, 1, out->w->t.dim, &out->b));
done:
    free(name);
    return st;
}

ts_status ts_find_linear(ts_weights *ws, int g, ts_layer *out, long rows, long columns, bool bias,
                         const char *prefix, ...)
{
    va_list ap;
    va_start(ap, prefix);
    ts_status st = find_layer(ws, g, out, 2, (long[]){rows, columns}, bias, prefix, ap);
    va_end(ap);
    return st;
}

ts_status ts_find_conv(ts_weights *ws, int g, ts_layer *out, int nd, const long *dim,
                       const char *prefix, ...)
{
    va_list ap;
    va_start(ap, prefix);
    ts_status st = find_layer(ws, g, out, nd, dim, true, prefix, ap);
    va_end(ap);
    return st;
}

ts_status ts_find_vector(ts_weights *ws, int g, const ts_weight **out, int nd, const long *dim,
                         const char *name, ...)
{
    va_list ap;
    char *full = NULL;
    va_start(ap, name);
    int n = vasprintf(&full, name, ap);
    va_end(ap);
    if (n < 0) return memory(ws);
    ts_status st = ts_weights_find(ws, g, TS_ROLE_VECTOR, full, nd, dim, out);
    free(full);
    return st;
}
