/* What a checkpoint's tensors are called and how they are cut, where its files say it otherwise. */
#include "weights/rename.h"

#include <stdlib.h>
#include <string.h>

struct ts_alias {
    ts_alias *next;
    ts_entry e;
    char name[];
};

/* Owned by the checkpoint: a name, and an entry that begins as a copy. */
static ts_alias *add_alias(ts_checkpoint *c, const char *name, const ts_entry *like)
{
    size_t n = strlen(name) + 1;
    ts_alias *a = malloc(sizeof *a + n);
    if (!a) return NULL;
    memcpy(a->name, name, n);
    a->e = *like;
    a->e.name = a->name;
    a->next = c->alias;
    c->alias = a;
    return a;
}

void ts_checkpoint_free_aliases(ts_checkpoint *c)
{
    while (c->alias) {
        ts_alias *next = c->alias->next;
        free(c->alias);
        c->alias = next;
    }
}

static ts_status refuse_alias_memory(ts_ctx *ctx, const ts_checkpoint *c)
{
    return ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory for names", c->what);
}

/* ---- prefixes ---- */

static bool has_prefix(const char *name, const char *prefix)
{
    return !strncmp(name, prefix, strlen(prefix));
}

/* The first prefix of the list that a tensor has; NULL: none. */
static const char *find_prefix(const ts_checkpoint *c, const ts_names *names)
{
    for (const char *const *p = names->prefix; p && *p; p++)
        for (int i = 0; i < c->names; i++)
            if (has_prefix(c->name[i].name, *p)) return *p;
    return NULL;
}

static void strip_prefix(ts_checkpoint *c, const char *prefix)
{
    int kept = 0;
    for (int i = 0; i < c->names; i++) {
        if (!has_prefix(c->name[i].name, prefix)) continue;
        c->name[kept] = c->name[i];
        c->name[kept++].name += strlen(prefix);
    }
    c->names = kept; /* still in order */
}

/* ---- cuts ---- */

/* `to` becomes the cut of `was`, its rows in e. */
static ts_status cut_rows(ts_ctx *ctx, const ts_checkpoint *c, const ts_named *was, ts_cut cut,
                          ts_entry *e, ts_named *to)
{
    int n = cut.n * (cut.then ? 2 : 1);
    if (e->odd) return TS_OK;
    if (e->t.nd == 0 || e->t.dim[0] % cut.of)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: tensor \"%s\" has %ld rows, which are not %d equal parts", c->what,
                       was->stored->name, e->t.nd ? e->t.dim[0] : 1, cut.of);
    long one = ts_entry_count(was->e) / cut.of;
    e->t.dim[0] = e->t.dim[0] / cut.of * n;
    e->bytes = e->bytes / (size_t)cut.of * (size_t)n;
    to->first = one * cut.first;
    to->turn = one * cut.n;
    to->second = cut.then ? one * (cut.then - 1) : 0;
    if (cut.then)
        e->t.data = NULL;
    else if (e->t.data)
        e->t.data = (const char *)e->t.data + (size_t)to->first * ts_dtype_size(e->t.type);
    return TS_OK;
}

/* ---- renaming ---- */

static const ts_naming *find_naming(const ts_checkpoint *c, const ts_names *names)
{
    for (int i = 0; i < names->namings; i++)
        if (ts_checkpoint_find(c, names->naming[i].mark) >= 0) return names->naming + i;
    return NULL;
}

static int compare_renamed(const void *a, const void *b)
{
    return strcmp(((const ts_named *)a)->name, ((const ts_named *)b)->name);
}

static ts_status rename_one(ts_ctx *ctx, ts_checkpoint *c, const ts_named *was, ts_named *to,
                            int *n)
{
    ts_status st = TS_OK;
    ts_renamed found[TS_NAME_CUTS];
    int all = ts_naming_apply(c->naming, was->name, found);
    for (int k = 0; k < all; k++, (*n)++) {
        to[*n] = *was;
        if (found[k].cut.of == 0 && !strcmp(found[k].name, was->name)) continue;
        ts_alias *a = add_alias(c, found[k].name, was->e);
        if (!a) TRY(refuse_alias_memory(ctx, c));
        to[*n].name = a->name;
        to[*n].e = &a->e;
        if (found[k].cut.of) TRY(cut_rows(ctx, c, was, found[k].cut, &a->e, to + *n));
    }
done:
    return st;
}

static ts_status rename_all(ts_ctx *ctx, ts_checkpoint *c)
{
    ts_status st = TS_OK;
    int n = 0;
    ts_named *to = malloc(((size_t)c->names * TS_NAME_CUTS + 1) * sizeof *to);
    if (!to) return refuse_alias_memory(ctx, c);
    for (int i = 0; i < c->names; i++) TRY(rename_one(ctx, c, c->name + i, to, &n));
    qsort(to, (size_t)n, sizeof *to, compare_renamed);
    for (int i = 1; i < n; i++)
        if (!strcmp(to[i - 1].name, to[i].name))
            TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: tensors \"%s\" and \"%s\" are two names of one",
                        c->what, to[i - 1].stored->name, to[i].stored->name));
    free(c->name);
    c->name = to;
    c->names = n;
    to = NULL;
done:
    free(to);
    return st;
}

ts_status ts_checkpoint_rename(ts_ctx *ctx, ts_checkpoint *c, const ts_names *names)
{
    int kept = 0;
    const char *prefix = find_prefix(c, names);
    if (prefix) strip_prefix(c, prefix);
    for (int i = 0; i < c->names; i++)
        if (!ts_names_are_unused(names, c->name[i].name)) c->name[kept++] = c->name[i];
    c->names = kept;
    c->naming = find_naming(c, names);
    return c->naming ? rename_all(ctx, c) : TS_OK;
}

/* ---- shapes ---- */

/* Ones in front are left out; returns how many dimensions stay. */
static int skip_ones(int nd, const long *dim, const long **from)
{
    while (nd > 1 && *dim == 1) nd--, dim++;
    *from = dim;
    return nd;
}

/* Equal, where `any` may have -1 for whatever is there. */
static bool are_equal(int nd, const long *dim, int wanted, const long *any)
{
    bool same = nd == wanted;
    for (int d = 0; same && d < nd; d++) same = any[d] == -1 || dim[d] == any[d];
    return same;
}

static bool is_folded(int nd, const long *dim, int wanted, const long *want)
{
    if (wanted != nd + 1 || nd < 2 || want[0] < 1 || want[1] < 1) return false;
    return dim[0] == want[0] * want[1] && are_equal(nd - 1, dim + 1, wanted - 2, want + 2);
}

ts_status ts_checkpoint_reshape(ts_ctx *ctx, ts_checkpoint *c, int i, int nd, const long *dim,
                                bool *same)
{
    ts_named *n = c->name + i;
    const ts_host *t = &n->e->t;
    const long *a, *b;
    *same = are_equal(t->nd, t->dim, nd, dim);
    if (*same || n->e->odd) return TS_OK;
    int na = skip_ones(t->nd, t->dim, &a), nb = skip_ones(nd, dim, &b);
    /* a convolution of single places is a linear layer */
    while (nd == 2 && na > 2 && a[na - 1] == 1) na--;
    if (!are_equal(na, a, nb, b) && !is_folded(t->nd, t->dim, nd, dim)) return TS_OK;
    for (int d = 0; d < nd; d++)
        if (dim[d] == -1) return TS_OK;
    ts_alias *other = add_alias(c, n->name, n->e);
    if (!other) return refuse_alias_memory(ctx, c);
    other->e.t.nd = nd;
    memcpy(other->e.t.dim, dim, (size_t)nd * sizeof *dim);
    n->e = &other->e;
    *same = true;
    return TS_OK;
}

/* ---- reading ---- */

/* Numbers [at, end) of what the file has. */
static ts_status read_span(ts_err *err, const ts_named *n, long at, long end, float *out)
{
    const ts_source_class *class = n->source->class;
    long width = ts_entry_width(n->stored);
    if (at == end) return TS_OK;
    long row = at / width, after = (end + width - 1) / width;
    if (row * width == at && after * width == end)
        return class->read(err, n->source, n->stored, row, after - row, out);
    float *whole = malloc((size_t)((after - row) * width) * sizeof *whole);
    if (!whole) return ts_fail(err, TS_EMEMORY, "%s: out of memory", n->source->path);
    ts_status st = class->read(err, n->source, n->stored, row, after - row, whole);
    if (!st) memcpy(out, whole + (at - row * width), (size_t)(end - at) * sizeof *out);
    free(whole);
    return st;
}

ts_status ts_named_read(ts_err *err, const ts_named *n, long first, long rows, float *out)
{
    long width = ts_entry_width(n->e), at = first * width, end = at + rows * width,
         turn = at > n->turn    ? at
                : end < n->turn ? end
                                : n->turn;
    ts_status st = read_span(err, n, n->first + at, n->first + turn, out);
    if (!st)
        st = read_span(err, n, n->second + turn - n->turn, n->second + end - n->turn,
                       out + (turn - at));
    return st;
}
