/* From modules of a file to tensors of a set, and the sums. */
#include "weights/lora.h"

#include "backend/host_product.h"
#include "weights/set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is added to one tensor: s B A, or s times a whole difference. */
typedef struct {
    int at;                  /* index into the set's names */
    ts_named rows;           /* B, or the difference, in the rows of that tensor */
    ts_entry shape;          /* of them: rows.e */
    const ts_entry *a;       /* NULL: a whole difference */
    const ts_lora_module *m; /* for sentences */
    double scale;
} term;
struct ts_lora_bound {
    ts_ctx *ctx;
    const ts_lora_file *file;
    const ts_checkpoint *set;
    term *term; /* sorted by `at` */
    int terms, room;
};

typedef struct { /* tensors that a name stands for */
    int at[TS_NAME_CUTS];
    ts_cut cut[TS_NAME_CUTS];
    int n;
} targets;

typedef struct {
    char *flat; /* malloc'd: the module with '_' for '.' */
    char *dotted;
} flat_name;

typedef struct {
    ts_lora_bound *b;
    const ts_names *names;
    double strength;
    flat_name *flat; /* sorted */
    int flats;
    ts_lora_fit *fit;
} binding;

static ts_status refuse_lora_memory(const ts_lora_bound *b)
{
    return ts_fail(&b->ctx->err, TS_EMEMORY, "%s: out of memory", b->file->path);
}

/* ---- names ---- */

/* The tensors of the set that a whole name stands for, in its own naming or another. */
static void find_targets(const binding *x, const char *name, targets *t)
{
    const ts_checkpoint *c = x->b->set;
    t->n = 0;
    int i = ts_checkpoint_find(c, name);
    if (i >= 0) {
        t->at[0] = i;
        t->cut[0] = (ts_cut){0};
        t->n = 1;
        return;
    }
    for (int k = 0; x->names && k < x->names->namings && t->n == 0; k++) {
        ts_renamed found[TS_NAME_CUTS];
        int n = ts_naming_apply(x->names->naming + k, name, found);
        for (int f = 0; f < n; f++) {
            i = ts_checkpoint_find(c, found[f].name);
            if (i < 0) continue;
            t->at[t->n] = i;
            t->cut[t->n++] = found[f].cut;
        }
    }
}

static char *flatten(const char *name)
{
    char *s = strdup(name);
    for (char *p = s; p && *p; p++)
        if (*p == '.') *p = '_';
    return s;
}

static int compare_flat(const void *a, const void *b)
{
    return strcmp(((const flat_name *)a)->flat, ((const flat_name *)b)->flat);
}

static bool add_flat(binding *x, const char *tensor)
{
    char module[TS_NAME_ROOM];
    snprintf(module, sizeof module, "%s", tensor);
    char *dot = strrchr(module, '.');
    if (dot && (!strcmp(dot, ".weight") || !strcmp(dot, ".bias"))) *dot = 0;
    flat_name *f = x->flat + x->flats++;
    f->flat = flatten(module);
    f->dotted = strdup(module);
    return f->flat && f->dotted;
}

/* Every module of the set, in every naming. */
static ts_status list_flat_names(binding *x)
{
    const ts_checkpoint *c = x->b->set;
    int namings = x->names ? x->names->namings : 0;
    char other[TS_NAME_ROOM];
    x->flat = calloc((size_t)c->names * (size_t)(namings + 1) + 1, sizeof *x->flat);
    if (!x->flat) return refuse_lora_memory(x->b);
    for (int i = 0; i < c->names; i++) {
        bool good = add_flat(x, c->name[i].name);
        for (int k = 0; good && k < namings; k++)
            if (ts_naming_reverse(x->names->naming + k, c->name[i].name, other))
                good = add_flat(x, other);
        if (!good) return refuse_lora_memory(x->b);
    }
    qsort(x->flat, (size_t)x->flats, sizeof *x->flat, compare_flat);
    return TS_OK;
}

/* The module with its dots. */
static const char *with_dots(const binding *x, const char *module)
{
    const flat_name key = {.flat = (char *)module},
                    *found = strchr(module, '.') ? NULL
                                                 : bsearch(&key, x->flat, (size_t)x->flats,
                                                           sizeof key, compare_flat);
    return found ? found->dotted : module;
}

static void find_of_module(const binding *x, const char *module, const char *end, targets *t)
{
    char name[TS_NAME_ROOM];
    t->n = 0;
    if (snprintf(name, sizeof name, "%s%s", module, end) < (int)sizeof name)
        find_targets(x, name, t);
}

/* ---- terms ---- */

static term *add_term(binding *x, int at, const ts_lora_module *m, double scale)
{
    ts_lora_bound *b = x->b;
    if (b->terms == b->room) {
        int room = b->room ? 2 * b->room : 64;
        term *more = realloc(b->term, (size_t)room * sizeof *more);
        if (!more) return NULL;
        b->term = more;
        b->room = room;
    }
    term *t = b->term + b->terms++;
    *t = (term){.at = at, .m = m, .scale = scale * x->strength};
    return t;
}

/* The tensor's rows of what the file has for a fused one; false: they are not so many. */
static bool take_rows(term *t, const ts_named *target, const ts_source *source, const ts_entry *e,
                      long width, ts_cut cut)
{
    int of = cut.of ? cut.of : 1, parts = cut.of ? cut.n * (cut.then ? 2 : 1) : 1;
    long count = ts_entry_rows(target->e) * width, have = ts_entry_count(e), one = have / of;
    if (have % of || one * parts != count) return false;
    t->shape = *e;
    t->shape.t = target->e->t;
    t->shape.t.data = NULL;
    if (width != ts_entry_width(target->e)) {
        t->shape.t.nd = 2;
        t->shape.t.dim[0] = count / width;
        t->shape.t.dim[1] = width;
    }
    t->rows = (ts_named){.name = e->name,
                         .source = source,
                         .stored = e,
                         .first = one * cut.first,
                         .turn = cut.of ? one * cut.n : count,
                         .second = cut.then ? one * (cut.then - 1) : 0};
    return true;
}

static bool is_number_type(const ts_entry *e)
{
    return !e->odd && (e->t.type == TS_F32 || e->t.type == TS_F16 || e->t.type == TS_BF16);
}

static ts_status refuse_type(const binding *x, const ts_entry *e)
{
    return ts_fail(&x->b->ctx->err, TS_EMODEL, "%s: \"%s\" is %s%s, expected F32, F16 or BF16",
                   x->b->file->path, e->name, e->odd ? "of " : "", e->odd ? e->odd : e->storage);
}

/* Of another model: refused, but for the first layer, whose channels differ between variants of one
 * model. *skip: it is left out. */
static ts_status refuse_shape(const binding *x, const ts_named *target, const ts_entry *e,
                              const char *what, bool *skip)
{
    char got[96], want[96];
    ts_shape_text(e->t.nd, e->t.dim, got);
    ts_shape_text(target->e->t.nd, target->e->t.dim, want);
    *skip = strstr(target->name, "patch_embed") != NULL;
    if (*skip) {
        ts_warn(x->b->ctx, "%s: \"%s\" is %s, the model's tensor %s: it is left out",
                x->b->file->path, e->name, got, want);
        return TS_OK;
    }
    return ts_fail(&x->b->ctx->err, TS_EMODEL,
                   "%s: \"%s\" is %s, which does not fit%s the model's %s of %s: a LoRA of another "
                   "model",
                   x->b->file->path, e->name, got, what, target->name, want);
}

/* A whole difference for each of the targets. */
static ts_status bind_difference(binding *x, const ts_lora_module *m, const ts_entry *e,
                                 double scale, const targets *t, bool *fits)
{
    for (int i = 0; i < t->n; i++) {
        const ts_named *target = x->b->set->name + t->at[i];
        bool skip = false;
        if (!is_number_type(e)) return refuse_type(x, e);
        term *one = add_term(x, t->at[i], m, scale);
        if (!one) return refuse_lora_memory(x->b);
        if (!take_rows(one, target, &x->b->file->source, e, ts_entry_width(target->e), t->cut[i])) {
            x->b->terms--;
            ts_status st = refuse_shape(x, target, e, "", &skip);
            if (st) return st;
            continue;
        }
        x->fit->differences++;
        *fits = true;
    }
    return TS_OK;
}

static ts_status check_pair(const binding *x, const ts_lora_module *m)
{
    ts_err *err = &x->b->ctx->err;
    const char *path = x->b->file->path;
    if (!m->a || !m->b)
        return ts_fail(err, TS_EMODEL, "%s: \"%s\": %s without its %s", path, m->key,
                       m->a ? "A (down)" : "B (up)", m->a ? "B (up)" : "A (down)");
    if (!is_number_type(m->a)) return refuse_type(x, m->a);
    if (!is_number_type(m->b)) return refuse_type(x, m->b);
    long r = ts_entry_rows(m->a);
    if (m->a->t.nd < 2 || m->b->t.nd < 2 || r < 1 || ts_entry_rows(m->b) < 1 ||
        ts_entry_width(m->b) != r)
        return ts_fail(err, TS_EMODEL,
                       "%s: \"%s\": A (down) has %ld rows, B (up) %ld columns: both are the rank",
                       path, m->name, r, ts_entry_width(m->b));
    return TS_OK;
}

static ts_status bind_pair(binding *x, const ts_lora_module *m, const targets *t, bool *fits)
{
    ts_status st;
    double scale;
    bool zero, skip;
    TRY(check_pair(x, m));
    TRY(ts_lora_scale(&x->b->ctx->err, x->b->file, m, &scale, &zero));
    if (zero)
        ts_warn(x->b->ctx, "%s: \"%s\" has an alpha of 0: it adds nothing", x->b->file->path,
                m->name);
    for (int i = 0; i < t->n; i++) {
        const ts_named *target = x->b->set->name + t->at[i];
        term *one = add_term(x, t->at[i], m, scale);
        if (!one) TRY(refuse_lora_memory(x->b));
        long r = ts_entry_rows(m->a);
        bool wide = ts_entry_width(target->e) == ts_entry_width(m->a) && target->e->t.nd >= 2;
        if (!wide || !take_rows(one, target, &x->b->file->source, m->b, r, t->cut[i])) {
            x->b->terms--;
            TRY(refuse_shape(x, target, wide ? m->b : m->a, wide ? " the rows of" : "", &skip));
            continue;
        }
        one->a = m->a;
        x->fit->layers++;
        if (r > x->fit->rank_most) x->fit->rank_most = r;
        if (r < x->fit->rank_least || !x->fit->rank_least) x->fit->rank_least = r;
        *fits = true;
    }
    if (m->b_bias) {
        targets bias;
        find_of_module(x, with_dots(x, m->name), ".bias", &bias);
        TRY(bind_difference(x, m, m->b_bias, scale, &bias, fits));
    }
done:
    return st;
}

/* ---- modules ---- */

static ts_status bind_module(binding *x, const ts_lora_module *m)
{
    ts_status st = TS_OK;
    const char *name = with_dots(x, m->name);
    targets weight, bias, table;
    bool fits = false;
    find_of_module(x, name, ".weight", &weight);
    if (weight.n == 0) find_of_module(x, name, "", &weight);
    find_of_module(x, name, ".bias", &bias);
    find_of_module(x, name, ".modulation", &table);
    if (table.n == 0) find_of_module(x, name, ".scale_shift_table", &table);
    if (weight.n && (m->a || m->b)) TRY(bind_pair(x, m, &weight, &fits));
    if (weight.n && m->diff) TRY(bind_difference(x, m, m->diff, 1, &weight, &fits));
    if (bias.n && m->diff_b) TRY(bind_difference(x, m, m->diff_b, 1, &bias, &fits));
    if (table.n && m->diff_m) TRY(bind_difference(x, m, m->diff_m, 1, &table, &fits));
    if (fits) {
        x->fit->keys += m->keys;
        goto done;
    }
    for (int i = 0; i < 3; i++)
        if (!x->fit->some[i]) {
            x->fit->some[i] = m->key;
            break;
        }
    x->fit->left += m->keys;
done:
    return st;
}

static int compare_terms(const void *a, const void *b)
{
    const term *x = a, *y = b;
    return x->at - y->at;
}

/* One tensor has one pair and one difference at most of a file: two modules that are one by two
 * names would count twice. */
static ts_status refuse_twice(const ts_lora_bound *b)
{
    for (int i = 1; i < b->terms; i++)
        for (int k = i - 1; k >= 0 && b->term[k].at == b->term[i].at; k--)
            if (!b->term[k].a == !b->term[i].a && b->term[k].m != b->term[i].m)
                return ts_fail(&b->ctx->err, TS_EMODEL,
                               "%s: \"%s\" and \"%s\" are two names of one layer", b->file->path,
                               b->term[k].m->name, b->term[i].m->name);
    return TS_OK;
}

ts_status ts_lora_bind(ts_ctx *ctx, const ts_weights *ws, const ts_names *names,
                       const ts_lora_file *file, double strength, ts_lora_bound **out,
                       ts_lora_fit *fit)
{
    ts_status st;
    ts_lora_bound *b = calloc(1, sizeof *b);
    binding x = {.b = b, .names = names, .strength = strength, .fit = fit};
    *out = NULL;
    *fit = (ts_lora_fit){0};
    if (!b) return ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", file->path);
    *b = (ts_lora_bound){.ctx = ctx, .file = file, .set = &ws->files};
    TRY(list_flat_names(&x));
    for (int i = 0; i < file->modules; i++) TRY(bind_module(&x, file->module + i));
    if (b->terms) qsort(b->term, (size_t)b->terms, sizeof *b->term, compare_terms);
    for (int i = 0; i < b->terms; i++) b->term[i].rows.e = &b->term[i].shape;
    TRY(refuse_twice(b));
    *out = b;
    b = NULL;
done:
    for (int i = 0; i < x.flats; i++) {
        free(x.flat[i].flat);
        free(x.flat[i].dotted);
    }
    free(x.flat);
    ts_lora_release(b);
    return st;
}

void ts_lora_release(ts_lora_bound *b)
{
    if (!b) return;
    free(b->term);
    free(b);
}

/* ---- the sums ---- */

/* The first of its terms; b->terms: it has none. */
static int find_terms(const ts_lora_bound *b, const char *name)
{
    int at = ts_checkpoint_find(b->set, name), low = 0, high = b->terms;
    while (at >= 0 && low < high) {
        int mid = (low + high) / 2;
        if (b->term[mid].at < at)
            low = mid + 1;
        else
            high = mid;
    }
    return at >= 0 && low < b->terms && b->term[low].at == at ? low : b->terms;
}

static bool touches_tensor(void *user, const char *name)
{
    const ts_lora_bound *b = user;
    return find_terms(b, name) < b->terms;
}

static ts_status check_finite(const ts_lora_bound *b, const term *t, const float *v, long n)
{
    bool good = true;
    for (long i = 0; i < n; i++) good = good && isfinite(v[i]);
    if (good) return TS_OK;
    return ts_fail(&b->ctx->err, TS_EMODEL, "%s: \"%s\" holds NaN or infinity", b->file->path,
                   t->m->name);
}

static ts_status add_one_term(const ts_lora_bound *b, const term *t, long first, long rows,
                              float *w)
{
    ts_status st;
    long width = ts_entry_width(b->set->name[t->at].e), r = t->a ? ts_entry_rows(t->a) : 0,
         columns = t->a ? r : width;
    float *part = malloc((size_t)(rows * columns) * sizeof *part + 1), *a = NULL;
    if (!part) TRY(refuse_lora_memory(b));
    TRY(ts_named_read(&b->ctx->err, &t->rows, first, rows, part));
    TRY(check_finite(b, t, part, rows * columns));
    if (t->a) {
        if (!(a = malloc((size_t)(r * width) * sizeof *a + 1))) TRY(refuse_lora_memory(b));
        TRY(b->file->source.class->read(&b->ctx->err, &b->file->source, t->a, 0, r, a));
        TRY(check_finite(b, t, a, r * width));
        ts_host_add_product(w, part, a, rows, width, r, (float)t->scale);
    } else {
        for (long i = 0; i < rows * columns; i++) w[i] += (float)t->scale * part[i];
    }
done:
    free(part);
    free(a);
    return st;
}

static ts_status add_terms(void *user, const char *name, long first, long rows, float *w)
{
    ts_status st = TS_OK;
    const ts_lora_bound *b = user;
    int i = find_terms(b, name), at = i < b->terms ? b->term[i].at : 0;
    for (; !st && i < b->terms && b->term[i].at == at; i++)
        st = add_one_term(b, b->term + i, first, rows, w);
    return st;
}

ts_delta ts_lora_delta(ts_lora_bound *b)
{
    return (ts_delta){.touches = touches_tensor, .apply = add_terms, .user = b};
}
