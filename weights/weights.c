/* Sets of weights: opened, and their tensors found by name. Which files hold them is the business
 * of checkpoint.c, where their bytes are on the device that of residency.c. */
#include "weights/set.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ts_status ts_set_no_memory(ts_weights *ws)
{
    return ts_fail(&ws->ctx->err, TS_EMEMORY, "%s: out of memory", ws->files.what);
}

/* ---- open, close ---- */

ts_status ts_weights_open(ts_ctx *ctx, const char *place, const char *stem, const ts_names *names,
                          ts_weights **out)
{
    ts_status st;
    ts_weights *ws = calloc(1, sizeof *ws);
    *out = NULL;
    if (!ws) return ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", place);
    ws->ctx = ctx;
    TRY(ts_checkpoint_open(ctx, place, stem, names, &ws->files));
    size_t most = (size_t)ws->files.names + 1;
    ws->item = calloc(most, sizeof *ws->item);
    ws->vector = malloc(most * sizeof *ws->vector);
    ws->chunk = malloc(most * sizeof *ws->chunk);
    ws->group = calloc(1, sizeof *ws->group);
    if (!ws->item || !ws->vector || !ws->chunk || !ws->group) TRY(ts_set_no_memory(ws));
    ws->groups = 1;
    for (int i = 0; i < ws->files.sources; i++) ws->most += ws->files.source[i].size;
    for (int i = 0; i < ws->files.names; i++)
        if (ts_is_decoded(ws, i))
            ws->most += (size_t)ts_entry_count(ts_entry_of(ws, i)) * sizeof(float);
    ws->most += ws->most / 4;
    if (ws->most < (size_t)256 << 20) ws->most = (size_t)256 << 20;
    ws->budget = ws->most;
    *out = ws;
    ws = NULL;
done:
    ts_weights_close(ws);
    return st;
}

void ts_weights_close(ts_weights *ws)
{
    if (!ws) return;
    ts_set_forget(ws);
    ts_set_free_vectors(ws);
    for (int i = 0; i < ws->groups; i++) free(ws->group[i].item);
    free(ws->group);
    free(ws->item);
    free(ws->vector);
    free(ws->chunk);
    free(ws->delta);
    ts_checkpoint_close(&ws->files);
    free(ws);
}

/* ---- find ---- */

const ts_naming *ts_weights_naming(const ts_weights *ws) { return ws->files.naming; }

bool ts_weights_has(const ts_weights *ws, const char *name)
{
    return ts_checkpoint_find(&ws->files, name) >= 0;
}

static ts_status refuse_missing(ts_weights *ws, const char *name, int nd, const long *dim)
{
    char want[96], own[TS_NAME_ROOM];
    if (ws->files.naming) ts_naming_reverse(ws->files.naming, name, own);
    return ts_fail(&ws->ctx->err, TS_EMODEL, "%s: tensor \"%s\" %s is missing", ws->files.what,
                   ws->files.naming ? own : name, ts_shape_text(nd, dim, want));
}

/* The entry of a name, of a type that can be computed with and the wanted shape. */
static ts_status look_up_entry(ts_weights *ws, const char *name, int nd, const long *dim,
                               int *index)
{
    ts_err *err = &ws->ctx->err;
    char got[96], want[96];
    bool same;
    int i = *index = ts_checkpoint_find(&ws->files, name);
    if (i < 0) return refuse_missing(ws, name, nd, dim);
    const ts_named *n = ws->files.name + i;
    const char *path = n->source->path, *own = n->stored->name;
    if (n->e->odd)
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\": %s is not supported", path, own,
                       n->e->odd);
    ts_status st = ts_checkpoint_reshape(ws->ctx, &ws->files, i, nd, dim, &same);
    if (st) return st;
    const ts_host *t = &n->e->t;
    if (!same)
        return ts_fail(err, TS_ESHAPE, "%s: tensor \"%s\" is %s, expected %s", path, own,
                       ts_shape_text(t->nd, t->dim, got), ts_shape_text(nd, dim, want));
    if (t->type != TS_F32 && t->type != TS_BF16 && t->type != TS_F16)
        return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\" is %s, expected F32, BF16 or F16", path,
                       own, ts_dtype_name(t->type));
    return TS_OK;
}

static bool reserve_group(ts_weights *ws, int g)
{
    if (g >= ws->groups) {
        ts_group *more = realloc(ws->group, (size_t)(g + 1) * sizeof *more);
        if (!more) return false;
        memset(more + ws->groups, 0, (size_t)(g + 1 - ws->groups) * sizeof *more);
        ws->group = more;
        ws->groups = g + 1;
    }
    ts_group *to = ws->group + g;
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
static ts_status enlist_matrix(ts_weights *ws, int index, int g)
{
    ts_item *t = ws->item + index;
    if (t->found && (t->group == g || t->group == 0)) return TS_OK;
    if (t->found) g = 0;
    if (!reserve_group(ws, g)) return ts_set_no_memory(ws);
    if (ws->planned) ts_set_forget(ws);
    if (t->found) {
        ts_group *from = ws->group + t->group;
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
    ts_status st = look_up_entry(ws, name, nd, dim, &i);
    if (st != TS_OK) return st;
    ts_item *t = ws->item + i;
    const ts_host *stored = &ts_entry_of(ws, i)->t;
    assert(!t->found || t->role == role);
    if (role == TS_ROLE_MATRIX && (st = enlist_matrix(ws, i, g + 1)) != TS_OK) return st;
    if (!t->found) {
        bool vector = role == TS_ROLE_VECTOR;
        t->w.t = ts_tensor_of((ts_ptr){vector ? TS_NOWHERE : 0}, vector ? TS_F32 : stored->type,
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

/* ---- tables, statistics, layers ---- */

ts_status ts_weights_rows(ts_weights *ws, const char *name, const int32_t *ids, int n, long vocab,
                          long dim, float *out)
{
    int i;
    ts_status st = look_up_entry(ws, name, 2, (long[]){vocab, dim}, &i);
    if (st != TS_OK) return st;
    const ts_entry *e = ts_entry_of(ws, i);
    ws->item[i].read = true;
    for (int k = 0; k < n; k++) {
        if (ids[k] < 0 || ids[k] >= e->t.dim[0])
            return ts_fail(&ws->ctx->err, TS_ESHAPE,
                           "%s: id %d is outside of tensor \"%s\", which has %ld rows",
                           ws->files.name[i].source->path, ids[k], name, e->t.dim[0]);
        st = ts_set_rows(ws, i, ids[k], 1, out + k * e->t.dim[1]);
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
        const ts_entry *e = ts_entry_of(ws, i);
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
    if (n < 0) return ts_set_no_memory(ws);
    char *full = realloc(name, (size_t)n + 8);
    if (!full) TRY(ts_set_no_memory(ws));
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
    if (n < 0) return ts_set_no_memory(ws);
    ts_status st = ts_weights_find(ws, g, TS_ROLE_VECTOR, full, nd, dim, out);
    free(full);
    return st;
}

ts_status ts_find_norm(ts_weights *ws, int g, ts_layer *out, long width, const char *prefix, ...)
{
    ts_status st;
    va_list ap;
    char *name = NULL;
    va_start(ap, prefix);
    int n = vasprintf(&name, prefix, ap);
    va_end(ap);
    *out = (ts_layer){NULL, NULL};
    if (n < 0) return ts_set_no_memory(ws);
    TRY(ts_find_vector(ws, g, &out->w, 1, &width, "%s.weight", name));
    TRY(ts_find_vector(ws, g, &out->b, 1, &width, "%s.bias", name));
done:
    free(name);
    return st;
}

ts_status ts_find_layers(ts_weights *ws, int g, const ts_layer_row *row, size_t rows,
                         const char *blocks, int i)
{
    ts_status st = TS_OK;
    for (const ts_layer_row *r = row; r < row + rows; r++) {
        char name[TS_NAME_ROOM];
        if (blocks)
            snprintf(name, sizeof name, "%s.%d.%s", blocks, i, r->name);
        else
            snprintf(name, sizeof name, "%s", r->name);
        TRY(r->in ? ts_find_linear(ws, g, r->layer, r->out, r->in, r->bias, "%s", name)
                  : ts_find_norm(ws, g, r->layer, r->out, "%s", name));
    }
done:
    return st;
}
