/* Dimensions sorted and joined, for every device alike. */
#include "backend/strides.h"

#include <stdlib.h>

bool ts_copy_plan(const ts_copy *a, ts_copy *out)
{
    *out = *a;
    out->nd = 0;
    for (int i = 0; i < a->nd; i++) {
        if (a->dim[i] <= 0) return false;
        if (a->dim[i] == 1) continue;
        int at = out->nd++;
        for (; at > 0 && labs(out->ds[at - 1]) < labs(a->ds[i]); at--) {
            out->dim[at] = out->dim[at - 1];
            out->ss[at] = out->ss[at - 1];
            out->ds[at] = out->ds[at - 1];
        }
        out->dim[at] = a->dim[i];
        out->ss[at] = a->ss[i];
        out->ds[at] = a->ds[i];
    }
    int n = 0;
    for (int i = 0; i < out->nd; i++) {
        long d = out->dim[i], ss = out->ss[i], ds = out->ds[i];
        if (n && out->ss[n - 1] == d * ss && out->ds[n - 1] == d * ds) {
            n--;
            d *= out->dim[n];
        }
        out->dim[n] = d;
        out->ss[n] = ss;
        out->ds[n] = ds;
        n++;
    }
    if (!n) {
        out->dim[0] = 1;
        out->ss[0] = out->ds[0] = 1;
        n = 1;
    }
    out->nd = n;
    return true;
}

/* Dimension `from` of a becomes dimension `to` of out. */
static void place_dimension(const ts_affine *a, int from, ts_affine *out, int to)
{
    out->dim[to] = a->dim[from];
    out->x.step[to] = a->x.step[from];
    out->s.step[to] = a->s.step[from];
    out->b.step[to] = a->b.step[from];
    out->y.step[to] = a->y.step[from];
}

static bool can_join_axes(const ts_strided *s, int outer, int inner, long d)
{
    return !s->p.at || s->step[outer] == d * s->step[inner];
}

bool ts_affine_plan(const ts_affine *a, ts_affine *out)
{
    ts_affine sorted = *a;
    int n = 0;
    *out = *a;
    sorted.nd = 0;
    for (int i = 0; i < a->nd; i++) {
        if (a->dim[i] <= 0) return false;
        if (a->dim[i] == 1) continue;
        int at = sorted.nd++;
        for (; at > 0 && labs(sorted.y.step[at - 1]) < labs(a->y.step[i]); at--)
            place_dimension(&sorted, at - 1, &sorted, at);
        place_dimension(a, i, &sorted, at);
    }
    for (int i = 0; i < sorted.nd; i++) {
        long d = sorted.dim[i];
        bool joined = i && can_join_axes(&sorted.x, i - 1, i, d) &&
                      can_join_axes(&sorted.s, i - 1, i, d) &&
                      can_join_axes(&sorted.b, i - 1, i, d) &&
                      can_join_axes(&sorted.y, i - 1, i, d);
        if (joined) {
            n--;
            sorted.dim[i] *= out->dim[n];
        }
        place_dimension(&sorted, i, out, n++);
    }
    out->nd = n;
    if (n) return true;
    out->nd = 1;
    out->dim[0] = 1;
    out->x.step[0] = out->s.step[0] = out->b.step[0] = out->y.step[0] = 1;
    return true;
}
