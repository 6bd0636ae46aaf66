/* Where a set's matrices and vectors are on the device.
 *
 * A group stays resident when its packed bytes still fit in the budget, in order of group. The
 * others take turns in slots, each evicting the one that its slot held: one slot where the device
 * packs at once; two where it goes ahead of its queue, so that one group comes while another is
 * computed with. Nothing is written to a slot before what was queued with its last owner: upload
 * and pack are queued themselves, and what goes ahead comes after everything that was queued before
 * it. */
#include "weights/set.h"

#include "backend/number.h"
#include "backend/team.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 256 };

static size_t align_up(size_t n) { return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

/* ---- rows as f32, and what is added to them ---- */

ts_status ts_weights_add_delta(ts_weights *ws, const ts_delta *d)
{
    assert(!ws->planned && ws->loaded == 0);
    ts_delta *more = realloc(ws->delta, (size_t)(ws->deltas + 1) * sizeof *more);
    if (!more) return ts_set_no_memory(ws);
    ws->delta = more;
    ws->delta[ws->deltas++] = *d;
    for (int i = 0; i < ws->files.names; i++)
        if (d->touches(d->user, ws->files.name[i].name)) ws->item[i].changed = true;
    return TS_OK;
}

ts_status ts_weights_set_deltas(ts_weights *ws, const ts_delta *d, int n)
{
    ts_status st = TS_OK;
    ts_set_forget(ws);
    ts_set_free_vectors(ws);
    for (int i = 0; i < ws->loaded; i++) ws->item[ws->vector[i]].w.t.p.at = TS_NOWHERE;
    ws->loaded = ws->deltas = 0;
    for (int i = 0; i < ws->files.names; i++) ws->item[i].changed = false;
    for (int i = 0; i < n && !st; i++) st = ts_weights_add_delta(ws, d + i);
    if (st) ws->deltas = 0; /* what they would change is read as it is stored, row by row */
    return st;
}

typedef struct {
    const ts_named *n;
    long first;
    float *out;
} row_range;

static ts_status read_part(void *user, ts_err *err, long first, long rows)
{
    const row_range *r = user;
    return ts_named_read(err, r->n, r->first + first, rows,
                         r->out + first * ts_entry_width(r->n->e));
}

ts_status ts_set_rows(ts_weights *ws, int i, long first, long rows, float *out)
{
    enum { WORTH_SHARING = 1 << 17 };
    const ts_named *n = ws->files.name + i;
    bool large = rows * ts_entry_width(n->e) >= WORTH_SHARING;
    ts_status st = ts_team_share(&ws->ctx->err, large ? ws->threads : 1, rows, read_part,
                                 &(row_range){n, first, out});
    for (int k = 0; st == TS_OK && ws->item[i].changed && k < ws->deltas; k++) {
        const ts_delta *d = ws->delta + k;
        if (d->touches(d->user, n->name)) st = d->apply(d->user, n->name, first, rows, out);
    }
    return st;
}

/* ---- memory ---- */

/* The device can be given the numbers as they are stored; else they are made row by row. */
static bool is_stored_whole(const ts_weights *ws, int i)
{
    return ts_entry_of(ws, i)->t.data && !ws->item[i].changed;
}

static bool is_wanted_as_stored(const ts_weights *ws, int i, ts_form want)
{
    return is_stored_whole(ws, i) && want.layout == 0 && want.type == ts_entry_of(ws, i)->t.type;
}

/* The counting run asks for what the file holds, and the device can use it where it is. */
static bool can_stay_mapped(const ts_weights *ws, int i)
{
    const ts_entry *e = ts_entry_of(ws, i);
    ts_device *dev = ws->ctx->dev;
    return is_wanted_as_stored(ws, i, ws->item[i].w.want) && e->bytes &&
           (uintptr_t)e->t.data % ts_dtype_size(e->t.type) == 0 &&
           dev->ops->adopt(dev, e->t.data, e->bytes).at != 0;
}

static size_t packed_bytes(const ts_weights *ws, int i)
{
    size_t n = ws->item[i].w.want.bytes;
    return n == 0 || can_stay_mapped(ws, i) ? 0 : align_up(n);
}

/* Of a vector on the device: one element at least, so that it has an address. */
static size_t vector_room(ts_tensor t)
{
    long n = ts_count(t);
    return align_up((size_t)(n ? n : 1) * sizeof(float));
}

static size_t vector_bytes(const ts_weights *ws)
{
    size_t all = 0;
    for (int i = 0; i < ws->vectors; i++) all += vector_room(ws->item[ws->vector[i]].w.t);
    return all;
}

/* Rows of a matrix that are made at a time, about 8 MB of them. */
static long part_rows(const ts_entry *e)
{
    enum { BYTES = 8 << 20 };
    long all = ts_entry_rows(e), width = ts_entry_width(e),
         n = width ? BYTES / (width * (long)sizeof(float)) / TS_PACK_ROWS * TS_PACK_ROWS : all;
    if (n < TS_PACK_ROWS) n = TS_PACK_ROWS;
    return n < all ? n : all;
}

static int slots_of(const ts_weights *ws) { return ws->ctx->dev->goes_ahead ? 2 : 1; }

static void free_device_memory(ts_weights *ws, ts_ptr *p)
{
    if (p->at) ws->ctx->dev->ops->free(ws->ctx->dev, *p);
    p->at = 0;
}

/* After it the group is no longer coming: its slot may be written to and its memory freed. */
static ts_status wait_for_group(ts_weights *ws, const ts_group *g)
{
    ts_device *dev = ws->ctx->dev;
    return g->place == TS_COMING ? dev->ops->wait(dev, g->last) : TS_OK;
}

static void evict_group(ts_weights *ws, ts_group *g)
{
    for (int i = 0; i < g->n; i++) {
        ts_item *t = ws->item + g->item[i];
        t->w.t.p.at = 0;
        t->w.t.type = ts_entry_of(ws, g->item[i])->t.type;
        t->w.layout = 0;
    }
    g->place = TS_AWAY;
    for (int s = 0; s < ws->slots; s++)
        if (ws->slot[s].owner == g - ws->group) ws->slot[s].owner = -1;
}

void ts_set_forget(ts_weights *ws)
{
    for (int i = 0; i < ws->groups; i++) {
        ts_group *g = ws->group + i;
        wait_for_group(ws, g); /* if that fails, there is nothing better to do than to go on */
        evict_group(ws, g);
        free_device_memory(ws, &g->home);
        g->stays = false;
    }
    for (int s = 0; s < ws->slots; s++) free_device_memory(ws, &ws->slot[s].home);
    ws->slots = 0;
    free(ws->rows);
    ws->rows = NULL;
    ws->planned = false;
}

void ts_set_free_vectors(ts_weights *ws)
{
    for (int i = 0; i < ws->chunks; i++) free_device_memory(ws, ws->chunk + i);
    ws->chunks = 0;
}

/* ---- who stays ---- */

static void lay_out_group(ts_weights *ws, ts_group *g)
{
    g->bytes = 0;
    for (int i = 0; i < g->n; i++) {
        ts_item *t = ws->item + g->item[i];
        size_t n = packed_bytes(ws, g->item[i]);
        t->plan = t->w;
        t->in_place = t->plan.want.bytes && n == 0;
        t->at = g->bytes;
        g->bytes += n;
    }
}

/* Another counting run has asked for something else since memory was laid out. */
static bool wants_else(const ts_weights *ws, const ts_group *g)
{
    for (int i = 0; i < g->n; i++) {
        const ts_item *t = ws->item + g->item[i];
        ts_form was = t->plan.want, now = t->w.want;
        if (now.type != was.type || now.layout != was.layout || now.bytes != was.bytes) return true;
    }
    return false;
}

/* Host memory for the largest part of a matrix that is made row by row. */
static ts_status alloc_rows(ts_weights *ws)
{
    size_t most = 0;
    for (int i = 0; i < ws->files.names; i++) {
        const ts_entry *e = ts_entry_of(ws, i);
        if (ws->item[i].plan.want.bytes == 0 || is_stored_whole(ws, i)) continue;
        size_t n = (size_t)(part_rows(e) * ts_entry_width(e)) * sizeof(float);
        if (n > most) most = n;
    }
    if (most == 0) return TS_OK;
    /* a device with memory of its own keeps none of the host's threads busy */
    ws->threads = ws->ctx->dev->own_memory ? ts_device_cpus() : ts_facts(ws->ctx->dev).threads;
    ws->rows = malloc(most);
    return ws->rows ? TS_OK : ts_set_no_memory(ws);
}

/* Takes all the memory that matrices will ever need. */
static ts_status alloc_matrices(ts_weights *ws, size_t slot, int slots)
{
    ts_status st = TS_OK;
    ts_device *dev = ws->ctx->dev;
    for (int i = 0; i < ws->groups; i++)
        if (ws->group[i].stays && ws->group[i].bytes)
            TRY(ts_alloc_for(dev, ws->group[i].bytes, "weights", &ws->group[i].home));
    for (int s = 0; s < slots; s++) {
        ws->slot[s] = (ts_slot){.owner = -1};
        ws->slots++;
        TRY(ts_alloc_for(dev, slot, "weights", &ws->slot[s].home));
    }
    TRY(alloc_rows(ws));
done:
    return st;
}

/* Bytes of groups that take turns although there is a budget and weights have to be decoded. */
static size_t decoded_again(const ts_weights *ws)
{
    size_t leaving = 0;
    for (int i = 0; i < ws->groups; i++)
        if (!ws->group[i].stays) leaving += ws->group[i].bytes;
    if (!leaving || !ws->budget) return 0;
    for (int i = 0; i < ws->files.names; i++)
        if (ws->item[i].plan.want.bytes && ts_is_decoded(ws, i)) return leaving;
    return 0;
}

static void warn_of_turns(ts_weights *ws)
{
    char all[TS_NUMBER_TEXT], room[TS_NUMBER_TEXT], rest[TS_NUMBER_TEXT];
    ws->warned = true;
    ts_warn(ws->ctx,
            "%s: decoded, its weights take %s, and %s may be held: %s of them are decoded again "
            "whenever they are used",
            ws->files.what, ts_bytes_text((double)ws->all, all),
            ts_bytes_text((double)ws->budget, room), ts_bytes_text((double)ws->again, rest));
}

static ts_status plan_memory(ts_weights *ws)
{
    ts_status st;
    size_t all = vector_bytes(ws), taken = all, largest = 0, slot = 0;
    int leaving = 0, slots = slots_of(ws);
    ts_set_forget(ws);
    for (int i = 0; i < ws->groups; i++) {
        ts_group *g = ws->group + i;
        lay_out_group(ws, g);
        all += g->bytes;
        if (i && g->bytes > largest) largest = g->bytes;
    }
    if (all > ws->budget) taken += (size_t)slots * largest;
    ws->all = all;
    for (int i = 0; i < ws->groups; i++) {
        ts_group *g = ws->group + i;
        g->stays = i == 0 || taken + g->bytes <= ws->budget || g->bytes == 0;
        if (g->stays) {
            taken += g->bytes;
        } else {
            leaving++;
            if (g->bytes > slot) slot = g->bytes;
        }
    }
    ws->current = 0;
    ws->again = decoded_again(ws);
    TRY(alloc_matrices(ws, slot, leaving < slots ? leaving : slots));
    ws->planned = true;
done:
    if (st != TS_OK) ts_set_forget(ws);
    return st;
}

/* ---- bringing matrices ---- */

/* The pages that lie wholly inside the bytes of item i (drop), or all that it touches (want). Of a
 * part of a tensor the whole is meant. */
static void advise_pages(const ts_weights *ws, int i, bool drop)
{
    const ts_entry *e = ws->files.name[i].stored;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)e->at,
              end = begin + e->bytes;
    if (!e->at) return;
    if (drop) {
        begin = (begin + page - 1) & -page;
        end &= -page;
    } else {
        begin &= -page;
    }
    /* advice: nothing depends on its success */
    if (begin < end) madvise((void *)begin, end - begin, drop ? MADV_DONTNEED : MADV_WILLNEED);
}

static ts_status pack_by_rows(ts_weights *ws, int i, ts_ptr at)
{
    ts_status st = TS_OK;
    ts_device *dev = ws->ctx->dev;
    const ts_entry *e = ts_entry_of(ws, i);
    long all = ts_entry_rows(e), n = part_rows(e);
    for (long first = 0; first < all; first += n) {
        ts_host part = e->t;
        part.data = ws->rows;
        part.type = TS_F32;
        part.dim[0] = all - first < n ? all - first : n;
        TRY(ts_set_rows(ws, i, first, part.dim[0], ws->rows));
        TRY(dev->ops->pack(dev, &part, first, &ws->item[i].plan, at));
    }
done:
    return st;
}

/* From stored to packed: the one way of a matrix to the device. */
static ts_status begin_matrix(ts_weights *ws, int i, ts_ptr at, ts_ticket *last)
{
    ts_device *dev = ws->ctx->dev;
    const ts_entry *e = ts_entry_of(ws, i);
    ts_item *t = ws->item + i;
    if (!is_stored_whole(ws, i)) return pack_by_rows(ws, i, at);
    if (is_wanted_as_stored(ws, i, t->plan.want))
        return dev->ops->upload_ahead(dev, at, e->t.data, e->bytes, last);
    return dev->ops->pack_ahead(dev, &e->t, 0, &t->plan, at, last);
}

/* The slot that the group entered last is not in. */
static ts_status take_slot(ts_weights *ws, int index, ts_ptr *home)
{
    ts_slot *s = ws->slot + (ws->slots == 2 ? !ws->current : 0);
    if (s->owner >= 0) {
        ts_status st = wait_for_group(ws, ws->group + s->owner);
        if (st != TS_OK) return st;
        evict_group(ws, ws->group + s->owner);
    }
    s->owner = index;
    *home = s->home;
    return TS_OK;
}

static ts_ptr home_of(const ts_weights *ws, int index)
{
    for (int s = 0; s < ws->slots; s++)
        if (ws->slot[s].owner == index) return ws->slot[s].home;
    return ws->group[index].home;
}

/* Whatever of it has begun to come. */
static void drop_group(ts_weights *ws, int index)
{
    wait_for_group(ws, ws->group + index);
    evict_group(ws, ws->group + index);
}

static ts_status begin_group(ts_weights *ws, int index)
{
    ts_status st = TS_OK;
    ts_group *g = ws->group + index;
    ts_ptr home = g->home;
    if (!g->stays) TRY(take_slot(ws, index, &home));
    g->place = TS_COMING;
    g->last = (ts_ticket){0};
    ws->cost.bytes += (double)g->bytes;
    for (int i = 0; i < g->n; i++) {
        const ts_item *t = ws->item + g->item[i];
        ts_ticket now = {0};
        if (t->plan.want.bytes == 0 || t->in_place) continue;
        TRY(begin_matrix(ws, g->item[i], ts_at(home, t->at), &now));
        if (now.id)
            g->last = now;
        else
            advise_pages(ws, g->item[i], true); /* they have been read */
    }
done:
    if (st != TS_OK) drop_group(ws, index);
    return st;
}

static void place_matrix(ts_weights *ws, int i, ts_ptr at)
{
    ts_device *dev = ws->ctx->dev;
    const ts_entry *e = ts_entry_of(ws, i);
    ts_item *t = ws->item + i;
    t->w.t.p = t->in_place ? dev->ops->adopt(dev, e->t.data, e->bytes) : at;
    t->w.t.type = t->plan.want.type;
    t->w.layout = t->plan.want.layout;
    if (!t->in_place && ws->group[t->group].last.id) advise_pages(ws, i, true);
}

static ts_status finish_group(ts_weights *ws, int index)
{
    ts_status st = TS_OK;
    ts_group *g = ws->group + index;
    if (g->place == TS_AWAY) TRY(begin_group(ws, index));
    if (g->place == TS_COMING) {
        TRY(wait_for_group(ws, g));
        for (int i = 0; i < g->n; i++) {
            const ts_item *t = ws->item + g->item[i];
            if (t->plan.want.bytes) place_matrix(ws, g->item[i], ts_at(home_of(ws, index), t->at));
        }
        g->place = TS_HERE;
    }
    if (ws->slots == 2 && ws->slot[!ws->current].owner == index) ws->current = !ws->current;
done:
    if (st != TS_OK) drop_group(ws, index);
    return st;
}

/* The groups that are needed after this one, going round, and are not resident: where the device
 * goes ahead the first of them begins to come; of the next one the kernel is asked to read the
 * pages. */
static ts_status begin_next_group(ts_weights *ws, int index)
{
    bool begun = !ws->ctx->dev->goes_ahead;
    for (int k = 1; k < ws->groups; k++) {
        int next = (index + k) % ws->groups;
        ts_group *g = ws->group + next;
        if (g->place == TS_HERE || g->n == 0) continue;
        if (!begun) {
            ts_status st = TS_OK;
            begun = true;
            if (g->place == TS_AWAY) st = begin_group(ws, next);
            if (st != TS_OK) return st;
            continue;
        }
        for (int i = 0; i < g->n; i++)
            if (ws->item[g->item[i]].plan.want.bytes) advise_pages(ws, g->item[i], false);
        break;
    }
    return TS_OK;
}

/* ---- vectors ---- */

/* Vectors found since the last round: one by one as f32, and uploaded. */
static ts_status load_vectors(ts_weights *ws)
{
    ts_status st = TS_OK;
    ts_device *dev = ws->ctx->dev;
    size_t bytes = 0, largest = 0;
    float *f = NULL;
    if (ws->loaded == ws->vectors) return TS_OK;
    for (int i = ws->loaded; i < ws->vectors; i++) {
        size_t n = vector_room(ws->item[ws->vector[i]].w.t);
        bytes += n;
        if (n > largest) largest = n;
    }
    ts_ptr home = {0}, at;
    if (!(f = malloc(largest))) TRY(ts_set_no_memory(ws));
    TRY(ts_alloc_for(dev, bytes, "weights", &home));
    at = home;
    for (int i = ws->loaded; i < ws->vectors; i++) {
        ts_tensor *t = &ws->item[ws->vector[i]].w.t;
        size_t n = (size_t)ts_count(*t);
        TRY(ts_set_rows(ws, ws->vector[i], 0, ts_entry_rows(ts_entry_of(ws, ws->vector[i])), f));
        if (n) TRY(dev->ops->upload(dev, at, f, n * sizeof *f));
        t->p = at;
        at = ts_at(at, vector_room(*t));
    }
    ws->chunk[ws->chunks++] = home;
    ws->loaded = ws->vectors;
done:
    if (st != TS_OK) {
        for (int i = ws->loaded; i < ws->vectors; i++)
            ws->item[ws->vector[i]].w.t.p.at = TS_NOWHERE;
        free_device_memory(ws, &home);
    }
    free(f);
    return st;
}

/* ---- what callers ask for ---- */

static ts_status enter_group(ts_weights *ws, int g)
{
    ts_status st;
    bool fresh;
    if (!ws->planned || wants_else(ws, ws->group) ||
        (g < ws->groups && wants_else(ws, ws->group + g)))
        TRY(plan_memory(ws));
    TRY(load_vectors(ws));
    TRY(finish_group(ws, 0));
    if (g >= ws->groups) return TS_OK;
    fresh = ws->group[g].place != TS_HERE;
    TRY(finish_group(ws, g));
    if (fresh) TRY(begin_next_group(ws, g));
done:
    return st;
}

ts_status ts_weights_enter(ts_weights *ws, int g)
{
    ts_status st = ts_stopped(ws->ctx);
    if (st || ws->ctx->dev->counting) return st;
    double start = ts_seconds();
    st = enter_group(ws, g + 1);
    /* not when planned, which a forecast may have done, of which nothing is heard */
    if (!st && ws->again && !ws->warned && ws->ctx->env.warn) warn_of_turns(ws);
    ws->cost.seconds += ts_seconds() - start;
    return st;
}

ts_weights_cost ts_weights_spent(ts_weights *ws, bool reset)
{
    ts_weights_cost c = ws->cost;
    if (reset) ws->cost = (ts_weights_cost){0};
    return c;
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
        if (ws->item[i].in_place && ts_there(ws->item[i].w.t)) advise_pages(ws, i, true);
    ts_set_forget(ws);
}

size_t ts_weights_packed(const ts_weights *ws, size_t *slots)
{
    size_t all = vector_bytes(ws), largest = 0;
    for (int g = 0; g < ws->groups; g++) {
        size_t n = 0;
        for (int i = 0; i < ws->group[g].n; i++) n += packed_bytes(ws, ws->group[g].item[i]);
        all += n;
        if (g && n > largest) largest = n;
    }
    if (slots) *slots = (size_t)slots_of(ws) * largest;
    return all;
}
