/* The first-order part of what a plan leaves out on a GPU: as many heads at a time as scratch has
 * room for. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/rest_kernels.h"

enum { PART = 256 << 20 }; /* bytes of scratch, where a head takes no more */

/* What scratch is divided into; bytes. */
typedef struct {
    size_t weight, square; /* of a head: weights; C or M */
    int heads;             /* at a time */
    long ldw;
} rest_parts;

static rest_parts divide_rest(const ts_rest_linear *a)
{
    const size_t size = sizeof(float), nb = (size_t)a->plan.nb, D = (size_t)a->q.dim[3];
    rest_parts r = {.ldw = (long)((nb + 7) & ~(size_t)7)};
    r.weight = nb * (size_t)r.ldw * size;
    r.square = nb * D * D * size;
    size_t heads = PART / (r.weight + 2 * r.square), A = (size_t)a->q.dim[2];
    r.heads = (int)(heads < 1 ? 1 : heads > A ? A : heads);
    return r;
}
size_t ts_cuda_rest_linear_scratch(const ts_rest_linear *a)
{
    rest_parts r = divide_rest(a);
    return (size_t)r.heads * (r.weight + 2 * r.square);
}

cudaError_t ts_cuda_rest_linear(const ts_rest_linear *a, void *scratch, cudaStream_t stream)
{
    const int A = (int)a->q.dim[2];
    rest_parts r = divide_rest(a);
    char *at = scratch;
    cudaError_t e = cudaSuccess;
    ts_rest_args p = {
        .q = ts_cuda_at(a->q.p),
        .k = ts_cuda_at(a->k.p),
        .v = ts_cuda_at(a->v.p),
        .out = ts_cuda_at(a->out.p),
        .ldq = a->q.ld,
        .ldk = a->k.ld,
        .ldv = a->v.ld,
        .ldo = a->out.ld,
        .A = A,
        .N = (int)a->q.dim[1],
        .nb = a->plan.nb,
        .D = (int)a->q.dim[3],
        .every = a->every > 1 ? a->every : 1,
        .scale = a->scale,
        .pooled_k = ts_cuda_at(a->pooled_k.p),
        .pooled_v = ts_cuda_at(a->pooled_v.p),
        .sums = ts_cuda_at(a->sums.p),
        .own = ts_cuda_at(a->own.p),
        .lse = ts_cuda_at(a->lse.p),
        .bits = ts_cuda_at(a->plan.bits),
        .shared_plan = a->plan.A == 1,
        .form = ts_cuda_at(a->form.p),
        .covariance = at,
        .mixed = at + (size_t)r.heads * r.square,
        .weight = at + 2 * (size_t)r.heads * r.square,
        .ldw = r.ldw,
    };
    for (p.first = 0; p.first < A && !e; p.first += r.heads) {
        p.heads = A - p.first < r.heads ? A - p.first : r.heads;
        e = ts_rest_linear_any(&p, a->q.type == TS_BF16, stream);
    }
    return e;
}
