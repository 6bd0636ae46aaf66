/* Sentences, warnings and progress; the small arithmetic of tensors. */
#include "backend/ctx.h"
#include "backend/number.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names in files and arguments are anybody's: what would move a terminal's cursor, colour it or
 * begin a line of its own (C0, DEL, and C1 in UTF-8) is shown as '?'. */
static void mask_controls(char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)s[0], next = (unsigned char)s[1];
        bool wide = c == 0xC2 && next >= 0x80 && next <= 0x9F;
        if (wide) s[1] = '?';
        if (wide || c < ' ' || c == 0x7F) s[0] = '?';
    }
}

/* in parentheses: the analyzer has a macro of this name */
ts_status(ts_fail)(ts_err *err, ts_status code, const char *format, ...)
{
    char text[sizeof err->text]; /* the arguments may point into the slot */
    va_list ap;
    va_start(ap, format);
    locale_t was = ts_point_begin();
    vsnprintf(text, sizeof text, format, ap);
    ts_point_end(was);
    va_end(ap);
    mask_controls(text);
    memcpy(err->text, text, strlen(text) + 1);
    err->code = code;
    return code;
}

void ts_warn(const ts_ctx *c, const char *format, ...)
{
    char text[512];
    va_list ap;
    if (!c->env.warn) return;
    va_start(ap, format);
    locale_t was = ts_point_begin();
    vsnprintf(text, sizeof text, format, ap);
    ts_point_end(was);
    va_end(ap);
    mask_controls(text);
    c->env.warn(c->env.user, text);
}

/* Nothing happens on a counting device that a user would want to see. */
void ts_progress(const ts_ctx *c, ts_event e)
{
    if (c->env.progress && !c->dev->counting) c->env.progress(c->env.user, &e);
}

ts_status ts_stopped(ts_ctx *c)
{
    if (!c->env.stop || !__atomic_load_n(c->env.stop, __ATOMIC_RELAXED)) return TS_OK;
    return ts_fail(&c->err, TS_ESTOP, "stopped");
}

size_t ts_dtype_size(ts_dtype t)
{
    static const size_t size[TS_DTYPES] = {4, 2, 2, 4, 4, 1, 8};
    return size[t];
}

const char *ts_dtype_name(ts_dtype t)
{
    static const char *const name[TS_DTYPES] = {"F32", "BF16", "F16", "I32", "U32", "U8", "I64"};
    return name[t];
}

ts_tensor ts_tensor_of(ts_ptr p, ts_dtype type, int nd, const long *dim)
{
    ts_tensor t = {.p = p, .type = type, .nd = nd};
    assert(nd >= 0 && nd <= 5);
    for (int i = 0; i < nd; i++) t.dim[i] = dim[i];
    t.ld = nd ? dim[nd - 1] : 1;
    return t;
}

long ts_rows(ts_tensor t)
{
    long n = 1;
    for (int i = 0; i + 1 < t.nd; i++) n *= t.dim[i];
    return n;
}

long ts_count(ts_tensor t) { return t.nd ? ts_rows(t) * t.dim[t.nd - 1] : 1; }

ts_tensor ts_view(ts_tensor t, int nd, const long *dim)
{
    ts_tensor v = ts_tensor_of(t.p, t.type, nd, dim);
    assert(ts_count(v) == ts_count(t));
    bool packed = t.nd == 0 || t.ld == t.dim[t.nd - 1];
    assert(packed || v.dim[nd - 1] == t.dim[t.nd - 1]);
    if (!packed) v.ld = t.ld;
    return v;
}

ts_tensor ts_row_range(ts_tensor t, long first, long rows)
{
    assert(t.nd == 2 && first >= 0 && first + rows <= t.dim[0]);
    t.p = ts_at(t.p, (size_t)(first * t.ld) * ts_dtype_size(t.type));
    t.dim[0] = rows;
    return t;
}

ts_tensor ts_columns(ts_tensor t, long first, long columns)
{
    assert(t.nd >= 1 && first >= 0 && first + columns <= t.dim[t.nd - 1]);
    t.p = ts_at(t.p, (size_t)first * ts_dtype_size(t.type));
    t.dim[t.nd - 1] = columns;
    return t;
}

ts_status ts_alloc_for(ts_device *dev, size_t bytes, const char *what, ts_ptr *p)
{
    ts_status st = dev->ops->alloc(dev, bytes, p);
    return st == TS_EMEMORY ? ts_fail(dev->err, st, "%s: %s", what, dev->err->text) : st;
}

ts_status ts_cast(ts_device *dev, ts_tensor from, ts_tensor to)
{
    long rows = ts_rows(from), columns = from.dim[from.nd - 1];
    assert(ts_count(from) == ts_count(to) && to.dim[to.nd - 1] == columns);
    return ts_copy_op(dev, (ts_copy){.src = from.p,
                                     .dst = to.p,
                                     .stype = from.type,
                                     .dtype = to.type,
                                     .nd = 2,
                                     .dim = {rows, columns},
                                     .ss = {from.ld, 1},
                                     .ds = {to.ld, 1}});
}

void ts_keep_wish(void *user, const ts_weight *w, ts_form f)
{
    (void)user;
    ((ts_weight *)(uintptr_t)w)->want = f; /* const to the operation alone, not to its owner */
}
