/* Attention on the CPU: checks, scratch and the choice of kernel. */
#include "backend/cpu/attention.h"

static ts_status misfit(ts_device *d, const char *what) { return ts_fail(d->err, TS_ESHAPE, "attention: %s", what); }

static ts_status fit(ts_device *d, const ts_attention *a)
{
    const long *q = a->q.dim, *k = a->k.dim;
    if (a->q.nd != 4 || a->k.nd != 4 || a->v.nd != 4 || a->out.nd != 4) return misfit(d, "q, k, v and out are [B, N, A, D]");
    if (a->q.type != TS_F32 && a->q.type != TS_BF16) return misfit(d, "q is f32 or bf16");
    if (a->k.type != a->q.type || a->v.type != a->q.type || a->out.type != a->q.type) return misfit(d, "q, k, v and out are of one type");
    for (int i = 0; i < 4; i++)
        if (a->v.dim[i] != k[i] || a->out.dim[i] != q[i] || (i != 1 && k[i] != q[i]))
            return ts_fail(d->err, TS_ESHAPE, "attention: q [%ld, %ld, %ld, %ld] does not go with k [%ld, %ld, %ld, %ld]", q[0], q[1], q[2], q[3], k[0], k[1], k[2], k[3]);
    if (ts_there(a->bias)) {
        const long *b = a->bias.dim;
        if (a->bias.nd != 3 || a->bias.type != TS_F32 || (b[0] != 1 && b[0] != q[2]) || (b[1] != 1 && b[1] != q[1]) || b[2] != k[1]) return misfit(d, "bias is f32 [A or 1, Nq or 1, Nk]");
    }
    if (a->plan && (q[1] != k[1] || ts_there(a->bias))) return misfit(d, "a plan needs as many keys as queries, and no bias");
    return TS_OK;
}

ts_status ts_cpu_attention(ts_device *d, const ts_attention *a)
{
    ts_status st = fit(d, a);
    if (st) return st;
    if (!d->counting) ts_attention_ref(a);
    return TS_OK;
}
