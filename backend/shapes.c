/* Argument checks of the operations, the same for every device. */
#include "backend/shapes.h"

#include <stdio.h>
#include <string.h>

enum { FLOATS = 1 << TS_F32 | 1 << TS_BF16, STORED = FLOATS | 1 << TS_F16, TEXT = 128 };

/* "[3, 4, 5] F32" */
static const char *describe_tensor(ts_tensor t, char text[TEXT])
{
    int n = snprintf(text, TEXT, "[");
    for (int i = 0; i < t.nd && n < TEXT - 40; i++)
        n += snprintf(text + n, (size_t)(TEXT - n), i ? ", %ld" : "%ld", t.dim[i]);
    snprintf(text + n, (size_t)(TEXT - n), "] %s",
             t.type < TS_DTYPES ? ts_dtype_name(t.type) : "of no type");
    return text;
}

static ts_tensor expected_shape(ts_dtype type, int nd, const long *dim)
{
    return ts_tensor_of((ts_ptr){0}, type, nd, dim);
}

static ts_status refuse_tensor(ts_device *d, const char *op, const char *which, ts_tensor got,
                               const char *wanted, ts_tensor as)
{
    char a[TEXT], b[TEXT];
    return ts_fail(d->err, TS_ESHAPE, "%s: %s is %s, expected %s%s%s", op, which,
                   describe_tensor(got, a), wanted, *wanted ? " " : "", describe_tensor(as, b));
}

/* A tensor that must be there, of one of the types in the mask, with rows that do not overlap. */
static ts_status check_present(ts_device *d, const char *op, const char *which, ts_tensor t,
                               int types)
{
    char text[TEXT];
    if (!ts_there(t)) return ts_fail(d->err, TS_ESHAPE, "%s: %s is absent", op, which);
    if (t.type >= TS_DTYPES || !(types >> t.type & 1))
        return ts_fail(d->err, TS_ESHAPE, "%s: %s is %s, expected another type", op, which,
                       describe_tensor(t, text));
    bool sane = t.nd >= 1 && t.nd <= 5;
    for (int i = 0; sane && i < t.nd; i++) sane = t.dim[i] >= 0;
    if (!sane || (t.ld < t.dim[t.nd - 1] && ts_rows(t) > 1))
        return ts_fail(d->err, TS_ESHAPE, "%s: %s is %s with rows %ld elements apart", op, which,
                       describe_tensor(t, text), t.ld);
    return TS_OK;
}

/* rows x width, whatever the number of dimensions; rows -1: any */
static ts_status check_matrix(ts_device *d, const char *op, const char *which, ts_tensor t,
                              int types, long rows, long width)
{
    ts_status st = check_present(d, op, which, t, types);
    if (st) return st;
    if ((rows >= 0 && ts_rows(t) != rows) || t.dim[t.nd - 1] != width)
        return refuse_tensor(
            d, op, which, t, "rows and width of",
            expected_shape(t.type, 2, (long[]){rows < 0 ? ts_rows(t) : rows, width}));
    return TS_OK;
}

/* A table of one row a timestep, and which row each row of x takes. */
static ts_status check_table(ts_device *d, const char *op, const char *which, ts_tensor t,
                             ts_tensor sel, long rows, long width)
{
    if (!ts_there(t)) return TS_OK;
    ts_status st = check_matrix(d, op, which, t, 1 << TS_F32, -1, width);
    if (st || !ts_there(sel)) return st;
    if (sel.type != TS_U8 || ts_count(sel) != rows)
        return refuse_tensor(d, op, "sel", sel,
                             "one number a row:", expected_shape(TS_U8, 1, &rows));
    return TS_OK;
}

/* No device multiplies by it yet, and a result without it would be wrong. */
static ts_status check_unscaled(ts_device *d, const char *op, const ts_weight *w)
{
    char text[TEXT];
    if (!ts_there(w->scale)) return TS_OK;
    return ts_fail(d->err, TS_EDEVICE, "%s: weight %s has a scale, which device %s can not apply",
                   op, describe_tensor(w->t, text), d->name);
}

static ts_status check_vector(ts_device *d, const char *op, const char *which, const ts_weight *w,
                              long width)
{
    if (!w) return TS_OK;
    if (ts_count(w->t) != width || w->t.type != TS_F32)
        return refuse_tensor(d, op, which, w->t, "", expected_shape(TS_F32, 1, &width));
    ts_status st = check_unscaled(d, op, w);
    if (st) return st;
    return d->counting || ts_there(w->t)
               ? TS_OK
               : ts_fail(d->err, TS_EDEVICE, "%s: %s of %ld is not resident", op, which, width);
}

static ts_status check_resident(ts_device *d, const char *op, const ts_weight *w, ts_dtype type)
{
    char text[TEXT];
    ts_status st = check_unscaled(d, op, w);
    if (st) return st;
    if (d->counting || (ts_there(w->t) && w->t.type == type)) return TS_OK;
    return ts_fail(d->err, TS_EDEVICE, "%s: weight %s is not resident%s%s", op,
                   describe_tensor(w->t, text), ts_there(w->t) ? " as " : "",
                   ts_there(w->t) ? ts_dtype_name(type) : "");
}

ts_status ts_shapes_linear(ts_device *d, const ts_linear *a)
{
    ts_status st;
    TRY(check_present(d, "linear", "x", a->x, FLOATS));
    long M = ts_rows(a->x), K = a->x.dim[a->x.nd - 1], O = a->w->t.dim[0];
    if (a->w->t.nd < 2 || O < 1 || ts_count(a->w->t) != O * K)
        return refuse_tensor(d, "linear", "x", a->x, "the width of weight", a->w->t);
    TRY(check_vector(d, "linear", "bias", a->b, O));
    TRY(check_matrix(d, "linear", "y", a->y, FLOATS, M, O));
    TRY(check_table(d, "linear", "gate", a->gate, a->sel, M, O));
    if (ts_there(a->resid)) TRY(check_matrix(d, "linear", "resid", a->resid, 1 << a->y.type, M, O));
    TRY(check_resident(d, "linear", a->w, a->x.type));
done:
    return st;
}

ts_status ts_shapes_conv(ts_device *d, const ts_conv *a)
{
    ts_status st;
    const ts_tensor *w = &a->w->t;
    TRY(check_present(d, "conv", "x", a->x, FLOATS));
    TRY(check_present(d, "conv", "y", a->y, FLOATS));
    if (a->x.nd != 4 || a->y.nd != 4 || (w->nd != 4 && w->nd != 5))
        return ts_fail(
            d->err, TS_ESHAPE,
            "conv: x, y and weight have %d, %d and %d dimensions, expected 4, 4 and 4 or 5",
            a->x.nd, a->y.nd, w->nd);
    if (w->dim[1] != a->x.dim[3])
        return refuse_tensor(d, "conv", "x", a->x, "the channels of weight", *w);
    long want[4] = {0, 0, 0, w->dim[0]};
    for (int i = 0; i < 3; i++) {
        long k = w->nd == 5 ? w->dim[2 + i]
                 : i        ? w->dim[1 + i]
                            : 1,
             span = a->x.dim[i] + a->pad[2 * i] + a->pad[2 * i + 1] - k;
        if (a->stride[i] < 1 || a->pad[2 * i] < 0 || a->pad[2 * i + 1] < 0)
            return ts_fail(d->err, TS_ESHAPE, "conv: stride %d, padding %d and %d along axis %d",
                           a->stride[i], a->pad[2 * i], a->pad[2 * i + 1], i);
        if (span < 0)
            return ts_fail(d->err, TS_ESHAPE,
                           "conv: kernel of %ld along axis %d, x has %ld with its padding", k, i,
                           span + k);
        want[i] = span / a->stride[i] + 1;
    }
    if (memcmp(want, a->y.dim, sizeof want))
        return refuse_tensor(d, "conv", "y", a->y, "", expected_shape(a->y.type, 4, want));
    TRY(check_vector(d, "conv", "bias", a->b, want[3]));
    if (ts_there(a->resid))
        TRY(check_matrix(d, "conv", "resid", a->resid, 1 << a->y.type, ts_rows(a->y), want[3]));
    TRY(check_resident(d, "conv", a->w, a->x.type));
done:
    return st;
}

ts_status ts_shapes_norm(ts_device *d, const ts_norm *a)
{
    ts_status st;
    TRY(check_present(d, "norm", "x", a->x, FLOATS));
    long N = ts_rows(a->x), C = a->x.dim[a->x.nd - 1];
    TRY(check_matrix(d, "norm", "y", a->y, FLOATS, N, C));
    TRY(check_vector(d, "norm", "weight", a->w, C));
    TRY(check_vector(d, "norm", "bias", a->b, C));
    TRY(check_table(d, "norm", "scale", a->scale, a->sel, N, C));
    TRY(check_table(d, "norm", "shift", a->shift, a->sel, N, C));
    if (a->kind == TS_NORM_GROUP && (a->groups < 1 || C % a->groups))
        return ts_fail(d->err, TS_ESHAPE, "norm: %ld channels in %d groups", C, a->groups);
done:
    return st;
}

ts_status ts_shapes_activate(ts_device *d, const ts_activate *a)
{
    ts_status st;
    TRY(check_present(d, "activate", "x", a->x, FLOATS));
    TRY(check_matrix(d, "activate", "y", a->y, FLOATS, ts_rows(a->x), a->x.dim[a->x.nd - 1]));
    if (ts_there(a->mul))
        TRY(check_matrix(d, "activate", "mul", a->mul, FLOATS, ts_rows(a->x),
                         a->x.dim[a->x.nd - 1]));
done:
    return st;
}

ts_status ts_shapes_rope(ts_device *d, const ts_rope *a)
{
    ts_status st;
    char text[TEXT];
    TRY(check_present(d, "rope", "x", a->x, FLOATS));
    const long *n = a->x.dim;
    if (a->x.nd != 3 || n[2] % 2)
        return ts_fail(d->err, TS_ESHAPE, "rope: x is %s, expected [N, A, D] with an even D",
                       describe_tensor(a->x, text));
    if (n[0] > 1 && a->x.ld < n[1] * n[2])
        return ts_fail(d->err, TS_ESHAPE,
                       "rope: x is %s with tokens %ld elements apart, expected %ld or more",
                       describe_tensor(a->x, text), a->x.ld, n[1] * n[2]);
    TRY(check_matrix(d, "rope", "cos", a->cos, 1 << TS_F32, n[0], n[2] / 2));
    TRY(check_matrix(d, "rope", "sin", a->sin, 1 << TS_F32, n[0], n[2] / 2));
done:
    return st;
}

static ts_status misfit_attention(ts_device *d, const char *what)
{
    return ts_fail(d->err, TS_ESHAPE, "attention: %s", what);
}

/* Means of blocks, f32 [B, nb, A, D] packed, of [B, N, A, D]. */
static ts_status check_pooled(ts_device *d, const char *op, const char *which, ts_tensor t,
                              ts_tensor of)
{
    long nb = (of.dim[1] + TS_BLOCK - 1) / TS_BLOCK, *n = of.dim;
    ts_status st = check_present(d, op, which, t, 1 << TS_F32);
    if (st) return st;
    if (t.nd != 4 || t.dim[0] != n[0] || t.dim[1] != nb || t.dim[2] != n[2] || t.dim[3] != n[3] ||
        t.ld != n[2] * n[3])
        return refuse_tensor(d, op, which, t, "packed",
                             expected_shape(TS_F32, 4, (long[]){n[0], nb, n[2], n[3]}));
    return TS_OK;
}

static ts_status check_form(ts_device *d, const char *op, const char *which, ts_tensor t, long A)
{
    if (ts_there(t) && (t.type != TS_I32 || ts_count(t) != A))
        return refuse_tensor(d, op, which, t, "one number a head:", expected_shape(TS_I32, 1, &A));
    return TS_OK;
}

static ts_status attention_rest(ts_device *d, const ts_attention *a)
{
    ts_status st;
    if (!a->plan || ts_there(a->sums))
        return misfit_attention(d, "pooled keys stand for what a plan leaves out, without sums");
    if (!(a->scale > 0)) return misfit_attention(d, "pooled keys need a scale of more than 0");
    TRY(check_pooled(d, "attention", "pooled_k", a->pooled_k, a->k));
    TRY(check_pooled(d, "attention", "pooled_v", a->pooled_v, a->v));
    TRY(check_form(d, "attention", "form", a->form, a->q.dim[2]));
done:
    return st;
}

/* Plans, lse and sums. */
static ts_status attention_results(ts_device *d, const ts_attention *a)
{
    long B = a->q.dim[0], Nq = a->q.dim[1], A = a->q.dim[2], Nk = a->k.dim[1],
         nqb = (Nq + TS_BLOCK - 1) / TS_BLOCK, nkb = (Nk + TS_BLOCK - 1) / TS_BLOCK;
    const long *l = a->lse.dim, *s = a->sums.dim;
    if (a->plan && (Nq != Nk || ts_there(a->bias)))
        return misfit_attention(d, "a plan needs as many keys as queries, and no bias");
    for (long b = 0; a->plan && b < B; b++) {
        const ts_plan *p = a->plan[b];
        if (p && (p->nb != nkb || (p->A != 1 && p->A != A)))
            return ts_fail(d->err, TS_ESHAPE,
                           "attention: a plan of %d heads and %d blocks, expected %ld and %ld",
                           p->A, p->nb, A, nkb);
    }
    if (ts_there(a->pooled_k)) {
        ts_status st = attention_rest(d, a);
        if (st) return st;
    }
    if (a->every < 0) return misfit_attention(d, "every is 0 or more");
    if (ts_there(a->lse) && (a->lse.type != TS_F32 || a->lse.nd != 3 || l[0] != B || l[1] != A ||
                             l[2] != Nq || a->lse.ld != Nq))
        return misfit_attention(d, "lse is packed f32 [B, A, Nq]");
    if (ts_there(a->sums) && (a->sums.type != TS_F32 || a->sums.nd != 4 || s[0] != B || s[1] != A ||
                              s[2] != nqb || s[3] != nkb || a->sums.ld != nkb))
        return misfit_attention(d, "sums is packed f32 [B, A, blocks of queries, blocks of keys]");
    return TS_OK;
}

ts_status ts_shapes_attention(ts_device *d, const ts_attention *a)
{
    const long *q = a->q.dim, *k = a->k.dim;
    if (a->q.nd != 4 || a->k.nd != 4 || a->v.nd != 4 || a->out.nd != 4)
        return misfit_attention(d, "q, k, v and out are [B, N, A, D]");
    if (a->q.type != TS_F32 && a->q.type != TS_BF16) return misfit_attention(d, "q is f32 or bf16");
    if (a->k.type != a->q.type || a->v.type != a->q.type || a->out.type != a->q.type)
        return misfit_attention(d, "q, k, v and out are of one type");
    for (int i = 0; i < 4; i++)
        if (q[i] < 1 || k[i] < 1)
            return ts_fail(d->err, TS_ESHAPE,
                           "attention: q [%ld, %ld, %ld, %ld] and k [%ld, %ld, %ld, %ld], expected "
                           "at least 1 of each",
                           q[0], q[1], q[2], q[3], k[0], k[1], k[2], k[3]);
    for (int i = 0; i < 4; i++)
        if (a->v.dim[i] != k[i] || a->out.dim[i] != q[i] || (i != 1 && k[i] != q[i]))
            return ts_fail(
                d->err, TS_ESHAPE,
                "attention: q [%ld, %ld, %ld, %ld] does not go with k [%ld, %ld, %ld, %ld]", q[0],
                q[1], q[2], q[3], k[0], k[1], k[2], k[3]);
    if (ts_there(a->bias)) {
        const long *b = a->bias.dim;
        if (a->bias.nd != 3 || a->bias.type != TS_F32 || (b[0] != 1 && b[0] != q[2]) ||
            (b[1] != 1 && b[1] != q[1]) || b[2] != k[1])
            return misfit_attention(d, "bias is f32 [A or 1, Nq or 1, Nk]");
    }
    if (!(a->scale > 0))
        return ts_fail(d->err, TS_ESHAPE, "attention: scale %g, expected more than 0",
                       (double)a->scale);
    const ts_tensor *strided[] = {&a->q, &a->k, &a->v, &a->out};
    for (int i = 0; i < 4; i++)
        if (strided[i]->ld < q[2] * q[3])
            return ts_fail(
                d->err, TS_ESHAPE,
                "attention: %ld elements from token to token, expected at least %ld x %ld",
                strided[i]->ld, q[2], q[3]);
    for (long b = 0; a->nk && b < q[0]; b++)
        if (a->nk[b] < 0 || a->nk[b] > k[1])
            return ts_fail(d->err, TS_ESHAPE, "attention: %d keys to read, there are %ld", a->nk[b],
                           k[1]);
    return attention_results(d, a);
}

/* q and k of a search, and a table [.., A, nb, nb] of what is known of their blocks. */
static ts_status check_blocks(ts_device *d, const char *op, ts_tensor q, ts_tensor k,
                              const char *which, ts_tensor t)
{
    ts_status st = check_present(d, op, "q", q, FLOATS);
    if (!st) st = check_present(d, op, "k", k, 1 << q.type);
    if (st) return st;
    if (q.nd != 4)
        return refuse_tensor(d, op, "q", q, "four dimensions, such as",
                             expected_shape(q.type, 4, (long[]){1, q.dim[0], 1, q.dim[q.nd - 1]}));
    if (k.nd != 4 || memcmp(q.dim, k.dim, 4 * sizeof *q.dim))
        return refuse_tensor(d, op, "k", k, "the same as q:", q);
    long B = q.dim[0], A = q.dim[2], nb = (q.dim[1] + TS_BLOCK - 1) / TS_BLOCK;
    if (q.ld < A * q.dim[3] || k.ld < A * q.dim[3])
        return ts_fail(d->err, TS_ESHAPE,
                       "%s: %ld and %ld elements from token to token, expected at least %ld", op,
                       q.ld, k.ld, A * q.dim[3]);
    st = check_matrix(d, op, which, t, 1 << TS_F32, B * A * nb, nb);
    if (!st && t.ld != nb)
        return ts_fail(d->err, TS_ESHAPE, "%s: rows of %s are %ld elements apart, expected %ld", op,
                       which, t.ld, nb);
    return st;
}

/* f32 [B, A, N], packed. */
static ts_status check_lse(ts_device *d, const char *op, const char *which, ts_tensor t,
                           ts_tensor q)
{
    ts_status st = check_matrix(d, op, which, t, 1 << TS_F32, q.dim[0] * q.dim[2], q.dim[1]);
    if (!st && t.ld != q.dim[1])
        return ts_fail(d->err, TS_ESHAPE, "%s: rows of %s are %ld elements apart, expected %ld", op,
                       which, t.ld, q.dim[1]);
    return st;
}

ts_status ts_shapes_block_sums(ts_device *d, const ts_block_sums *a)
{
    ts_status st = check_blocks(d, "block sums", a->q, a->k, "sums", a->sums);
    if (!st) st = check_lse(d, "block sums", "lse", a->lse, a->q);
    if (!st && !(a->scale > 0))
        return ts_fail(d->err, TS_ESHAPE, "block sums: scale %g, expected more than 0",
                       (double)a->scale);
    return st;
}

ts_status ts_shapes_block_means(ts_device *d, const ts_block_means *a)
{
    return check_blocks(d, "block means", a->q, a->k, "scores", a->scores);
}

ts_status ts_shapes_topk(ts_device *d, const ts_topk *a)
{
    const ts_plan *p = &a->plan;
    ts_status st = check_present(d, "top-k", "scores", a->scores, 1 << TS_F32);
    if (st) return st;
    const long *s = a->scores.dim;
    if (a->scores.nd != 3 || s[1] != s[2] || a->scores.ld != s[2])
        return refuse_tensor(d, "top-k", "scores", a->scores, "packed and square, such as",
                             expected_shape(TS_F32, 3, (long[]){s[0], s[1], s[1]}));
    if (!(a->keep > 0 && a->keep <= 1))
        return ts_fail(d->err, TS_ESHAPE, "top-k: keep %g, expected more than 0 and at most 1",
                       a->keep);
    if (!(a->mass >= 0 && a->mass <= 1))
        return ts_fail(d->err, TS_ESHAPE, "top-k: mass %g, expected 0 to 1", a->mass);
    if (a->mass > 0 && a->adaptive)
        return ts_fail(d->err, TS_ESHAPE,
                       "top-k: adaptive shares budgets, with mass %g there are none", a->mass);
    if (a->nv < 0 || a->nv > s[1])
        return ts_fail(d->err, TS_ESHAPE, "top-k: a choice among %d blocks, expected 0 to %ld",
                       a->nv, s[1]);
    if (!p->bits.at || p->A != s[0] || p->nb != s[1])
        return ts_fail(d->err, TS_ESHAPE,
                       "top-k: a plan of %d heads and %d blocks, expected %ld and %ld", p->A, p->nb,
                       s[0], s[1]);
    if (ts_there(a->who) && a->adaptive)
        return ts_fail(d->err, TS_ESHAPE, "top-k: adaptive is for all heads, expected no who");
    if (ts_there(a->weights) && (a->weights.type != TS_F32 || a->weights.ld != s[2] ||
                                 ts_count(a->weights) != ts_count(a->scores)))
        return refuse_tensor(d, "top-k", "weights", a->weights, "the shape of scores:", a->scores);
    st = check_form(d, "top-k", "who", a->who, s[0]);
    if (!st && ts_there(a->stat))
        st = check_matrix(d, "top-k", "stat", a->stat, 1 << TS_F32, 3, s[0]);
    return st;
}

/* [B, N, A, D] of a float type, tokens at least A D apart. */
static ts_status check_heads(ts_device *d, const char *op, const char *which, ts_tensor t,
                             int types)
{
    char text[TEXT];
    ts_status st = check_present(d, op, which, t, types);
    if (st) return st;
    if (t.nd != 4 || t.ld < t.dim[2] * t.dim[3])
        return ts_fail(d->err, TS_ESHAPE,
                       "%s: %s is %s, tokens %ld elements apart, expected [B, N, A, D] with A D or "
                       "more",
                       op, which, describe_tensor(t, text), t.ld);
    return TS_OK;
}

/* A tensor of heads like another. */
static ts_status check_alike(ts_device *d, const char *op, const char *which, ts_tensor t,
                             ts_tensor as)
{
    ts_status st = check_heads(d, op, which, t, 1 << as.type);
    if (!st && memcmp(t.dim, as.dim, 4 * sizeof *t.dim))
        return refuse_tensor(d, op, which, t, "", as);
    return st;
}

ts_status ts_shapes_pool(ts_device *d, const ts_pool *a)
{
    ts_status st = check_heads(d, "pool", "x", a->x, FLOATS);
    return st ? st : check_pooled(d, "pool", "y", a->y, a->x);
}

/* f32 [B, A, nb, nb] and f32 [B, A, N], packed, of q. */
static ts_status check_sums(ts_device *d, const char *op, ts_tensor sums, ts_tensor q)
{
    long nb = (q.dim[1] + TS_BLOCK - 1) / TS_BLOCK;
    ts_status st = check_matrix(d, op, "sums", sums, 1 << TS_F32, q.dim[0] * q.dim[2] * nb, nb);
    if (!st && sums.ld != nb)
        return ts_fail(d->err, TS_ESHAPE, "%s: rows of sums are %ld elements apart, expected %ld",
                       op, sums.ld, nb);
    return st;
}

ts_status ts_shapes_pool_sums(ts_device *d, const ts_pool_sums *a)
{
    ts_status st;
    TRY(check_heads(d, "pool sums", "q", a->q, FLOATS));
    TRY(check_pooled(d, "pool sums", "k", a->k, a->q));
    TRY(check_sums(d, "pool sums", a->sums, a->q));
    if (ts_there(a->lse)) TRY(check_lse(d, "pool sums", "lse", a->lse, a->q));
    if (!(a->scale > 0))
        TRY(ts_fail(d->err, TS_ESHAPE, "pool sums: scale %g, expected more than 0",
                    (double)a->scale));
done:
    return st;
}

ts_status ts_shapes_rest_linear(ts_device *d, const ts_rest_linear *a)
{
    static const char *const op = "linear rest";
    ts_status st;
    TRY(check_heads(d, op, "q", a->q, FLOATS));
    TRY(check_alike(d, op, "k", a->k, a->q));
    TRY(check_alike(d, op, "v", a->v, a->q));
    TRY(check_alike(d, op, "out", a->out, a->q));
    TRY(check_pooled(d, op, "pooled_k", a->pooled_k, a->q));
    TRY(check_pooled(d, op, "pooled_v", a->pooled_v, a->q));
    TRY(check_sums(d, op, a->sums, a->q));
    TRY(check_lse(d, op, "own", a->own, a->q));
    TRY(check_lse(d, op, "lse", a->lse, a->q));
    TRY(check_form(d, op, "form", a->form, a->q.dim[2]));
    if (a->q.dim[0] != 1 || !(a->scale > 0) || a->every < 0)
        TRY(ts_fail(d->err, TS_ESHAPE,
                    "%s: batch of %ld, scale %g, every %d, expected 1, more than 0, 0 or more", op,
                    a->q.dim[0], (double)a->scale, a->every));
    if (!a->plan.bits.at || a->plan.nb != a->pooled_k.dim[1] ||
        (a->plan.A != 1 && a->plan.A != a->q.dim[2]))
        TRY(ts_fail(d->err, TS_ESHAPE, "%s: a plan of %d heads and %d blocks, expected %ld and %ld",
                    op, a->plan.A, a->plan.nb, a->q.dim[2], a->pooled_k.dim[1]));
done:
    return st;
}

ts_status ts_shapes_head_errors(ts_device *d, const ts_head_errors *a)
{
    ts_status st = check_heads(d, "head errors", "x", a->x, FLOATS);
    if (!st) st = check_alike(d, "head errors", "of", a->of, a->x);
    if (!st && (a->x.dim[0] != 1 || a->every < 0))
        st = ts_fail(d->err, TS_ESHAPE,
                     "head errors: batch of %ld, every %d, expected 1 and 0 or more", a->x.dim[0],
                     a->every);
    return st ? st : check_matrix(d, "head errors", "error", a->error, 1 << TS_F32, 1, a->x.dim[2]);
}

ts_status ts_shapes_choose(ts_device *d, const ts_choose *a)
{
    ts_status st = check_present(d, "choose", "error", a->error, 1 << TS_F32);
    if (st) return st;
    if (a->error.nd != 2 || a->error.dim[0] < 1 || !(a->margin >= 1))
        return ts_fail(d->err, TS_ESHAPE,
                       "choose: %d dimensions, margin %g, expected [n, A] and at least 1",
                       a->error.nd, (double)a->margin);
    TRY(check_present(d, "choose", "choice", a->choice, 1 << TS_I32));
    TRY(check_form(d, "choose", "choice", a->choice, a->error.dim[1]));
    if (ts_there(a->stat))
        TRY(check_matrix(d, "choose", "stat", a->stat, 1 << TS_F32, 1, a->error.dim[1]));
done:
    return st;
}

ts_status ts_shapes_copy(ts_device *d, const ts_copy *a)
{
    if (!a->src.at || !a->dst.at)
        return ts_fail(d->err, TS_ESHAPE, "copy: the %s is absent",
                       a->src.at ? "target" : "source");
    if (a->nd < 0 || a->nd > 8)
        return ts_fail(d->err, TS_ESHAPE, "copy: %d dimensions, expected 0 to 8", a->nd);
    bool known = a->stype < TS_DTYPES && a->dtype < TS_DTYPES;
    if (!known || (a->stype != a->dtype && !(STORED >> a->stype & 1 && STORED >> a->dtype & 1)))
        return ts_fail(
            d->err, TS_ESHAPE, "copy: from %s to %s, expected one type or two of F32, BF16 and F16",
            known ? ts_dtype_name(a->stype) : "?", known ? ts_dtype_name(a->dtype) : "?");
    for (int i = 0; i < a->nd; i++)
        if (a->dim[i] < 0)
            return ts_fail(d->err, TS_ESHAPE, "copy: dimension %d is %ld", i, a->dim[i]);
    return TS_OK;
}

ts_status ts_shapes_gather(ts_device *d, const ts_gather *a)
{
    ts_status st;
    TRY(check_present(d, "gather", "x", a->x, STORED));
    TRY(check_present(d, "gather", "ids", a->ids, 1 << TS_I32));
    if (a->x.nd != 2)
        return ts_fail(d->err, TS_ESHAPE, "gather: x has %d dimensions, expected 2", a->x.nd);
    TRY(check_matrix(d, "gather", "y", a->y, STORED, ts_count(a->ids), a->x.dim[1]));
done:
    return st;
}

ts_status ts_shapes_lincomb(ts_device *d, const ts_lincomb *a)
{
    ts_status st;
    if (a->n < 1 || a->n > 8)
        return ts_fail(d->err, TS_ESHAPE, "lincomb: %d tensors, expected 1 to 8", a->n);
    TRY(check_present(d, "lincomb", "y", a->y, FLOATS));
    for (int i = 0; i < a->n; i++) {
        TRY(check_present(d, "lincomb", "x", a->x[i], FLOATS));
        if (ts_count(a->x[i]) != ts_count(a->y))
            return refuse_tensor(d, "lincomb", "x", a->x[i], "as many numbers as y:", a->y);
    }
done:
    return st;
}

ts_status ts_shapes_randn(ts_device *d, const ts_randn *a)
{
    if (a->rows < 0 || a->columns < 0)
        return ts_fail(d->err, TS_ESHAPE,
                       "randn: rows %ld and columns %ld apart, expected at least 0", a->rows,
                       a->columns);
    return check_present(d, "randn", "y", a->y, 1 << TS_F32);
}

ts_status ts_shapes_resample(ts_device *d, const ts_resample *a)
{
    ts_status st;
    TRY(check_present(d, "resample", "x", a->x, FLOATS));
    TRY(check_present(d, "resample", "y", a->y, FLOATS));
    if (a->x.nd != 4 || a->y.nd != 4 || a->ft < 1 || a->fs < 1 || a->drop < 0 || a->drop >= a->ft)
        return ts_fail(d->err, TS_ESHAPE,
                       "resample: %d and %d dimensions, factors %d and %d, drop %d; expected 4 and "
                       "4, 1 or more, less than the first factor",
                       a->x.nd, a->y.nd, a->ft, a->fs, a->drop);
    const ts_tensor *fine = a->reduce ? &a->x : &a->y, *coarse = a->reduce ? &a->y : &a->x;
    long want[4] = {coarse->dim[0] * a->ft - a->drop, coarse->dim[1] * a->fs,
                    coarse->dim[2] * a->fs, fine->dim[3]};
    if (memcmp(want, fine->dim, sizeof want))
        return refuse_tensor(d, "resample", a->reduce ? "x" : "y", *fine, "",
                             expected_shape(fine->type, 4, want));
    if (fine->dim[3] * a->ft * a->fs * a->fs % coarse->dim[3])
        return ts_fail(d->err, TS_ESHAPE, "resample: %ld channels times %d do not divide into %ld",
                       fine->dim[3], a->ft * a->fs * a->fs, coarse->dim[3]);
done:
    return st;
}

static ts_status check_strided(ts_device *d, const char *which, ts_strided s)
{
    if (!s.p.at) return ts_fail(d->err, TS_ESHAPE, "affine: %s is absent", which);
    if (s.type >= TS_DTYPES || !(FLOATS >> s.type & 1))
        return ts_fail(d->err, TS_ESHAPE, "affine: %s is %s, expected F32 or BF16", which,
                       s.type < TS_DTYPES ? ts_dtype_name(s.type) : "of no type");
    return TS_OK;
}

ts_status ts_shapes_affine(ts_device *d, const ts_affine *a)
{
    ts_status st = TS_OK;
    if (a->nd < 0 || a->nd > 6)
        return ts_fail(d->err, TS_ESHAPE, "affine: %d dimensions, expected 0 to 6", a->nd);
    TRY(check_strided(d, "x", a->x));
    TRY(check_strided(d, "y", a->y));
    if (a->s.p.at) TRY(check_strided(d, "s", a->s));
    if (a->b.p.at) TRY(check_strided(d, "b", a->b));
    for (int i = 0; i < a->nd; i++)
        if (a->dim[i] < 0 || (a->dim[i] > 1 && !a->y.step[i]))
            return ts_fail(d->err, TS_ESHAPE,
                           "affine: dimension %d is %ld with steps of %ld in y, expected 0 or more "
                           "and steps that are not 0",
                           i, a->dim[i], a->y.step[i]);
    if (!(a->low <= a->high))
        return ts_fail(d->err, TS_ESHAPE, "affine: limits %g and %g, expected the lower one first",
                       (double)a->low, (double)a->high);
done:
    return st;
}

ts_status ts_shapes_check(ts_device *d, ts_tensor t, int tag)
{
    if (tag < 1) return ts_fail(d->err, TS_ESHAPE, "check: tag %d, expected 1 or more", tag);
    return check_present(d, "check", "the tensor", t, FLOATS);
}

ts_status ts_shapes_pack(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                         ts_ptr at)
{
    long n = 1, rows = from->nd ? from->dim[0] : 1, all = to->t.dim[0], end = first + rows;
    for (int i = 0; i < from->nd; i++) n *= from->dim[i];
    if (!from->data || !at.at)
        return ts_fail(d->err, TS_ESHAPE, "pack: the %s is absent",
                       from->data ? "target" : "source");
    if (from->type >= TS_DTYPES || !(STORED >> from->type & 1))
        return ts_fail(d->err, TS_ESHAPE, "pack: the stored type is not F32, BF16 or F16");
    if (first < 0 || rows < 0 || end > all || first % TS_PACK_ROWS ||
        (end < all && rows % TS_PACK_ROWS))
        return ts_fail(d->err, TS_ESHAPE,
                       "pack: %ld rows from row %ld on, of %ld: expected multiples of %d", rows,
                       first, all, TS_PACK_ROWS);
    if (n != ts_count(to->t) / all * rows)
        return ts_fail(d->err, TS_ESHAPE, "pack: %ld numbers are stored, expected %ld", n,
                       ts_count(to->t) / all * rows);
    return TS_OK;
}
