/* The first-order part of what a plan leaves out on a GPU: as many heads at a time as scratch has
 * room for. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/rest_kernels.h"

enum { PART = 256 << 20 }; /* bytes of scratch, where a head takes no more */

/* What scratch is divided into; bytes. */
typedef struct {
    size_t weight, covariance, mixed; /* of a head */
    int heads, nq;                    /* at a time; query blocks of each */
    long ldw;
    bool tensor; /* on tensor cores */
} rest_parts;

static bool has_whole_chunks(ts_tensor t) { return t.p.at % 16 == 0 && t.ld % 8 == 0; }

static rest_parts divide_rest(const ts_rest_linear *a, int at_most)
{
    const size_t nb = (size_t)a->plan.nb, D = (size_t)a->q.dim[3], A = (size_t)a->q.dim[2];
    const size_t every = a->every > 1 ? (size_t)a->every : 1, nq = (nb + every - 1) / every;
    rest_parts r = {.nq = (int)nq, .ldw = (long)((nb + 7) & ~(size_t)7)};
    r.tensor = a->q.type == TS_BF16 && D % 8 == 0 && D <= 128 && has_whole_chunks(a->q) &&
               has_whole_chunks(a->k) && has_whole_chunks(a->v) && has_whole_chunks(a->out);
    size_t size = r.tensor ? sizeof(uint16_t) : sizeof(float);
    r.weight = nq * (size_t)r.ldw * size;
    r.covariance = nb * D * D * size;
    r.mixed = nq * D * D * size;
    size_t heads = PART / (r.weight + r.covariance + r.mixed);
    if (at_most) heads = (size_t)at_most;
    r.heads = (int)(heads < 1 ? 1 : heads > A ? A : heads);
    return r;
}
size_t ts_rest_linear_room_of(const ts_rest_linear *a, int at_most)
{
    rest_parts r = divide_rest(a, at_most);
    return (size_t)r.heads * (r.weight + r.covariance + r.mixed);
}

cudaError_t ts_rest_linear_run(const ts_rest_linear *a, int at_most, void *scratch,
                               cudaStream_t stream)
{
    const int A = (int)a->q.dim[2];
    rest_parts r = divide_rest(a, at_most);
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
        .nq = r.nq,
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
        .mixed = at + (size_t)r.heads * r.covariance,
        .weight = at + (size_t)r.heads * (r.covariance + r.mixed),
        .ldw = r.ldw,
    };
    for (p.first = 0; p.first < A && !e; p.first += r.heads) {
        p.heads = A - p.first < r.heads ? A - p.first : r.heads;
        e = r.tensor ? ts_rest_linear_bf16(&p, stream)
                     : ts_rest_linear_any(&p, a->q.type == TS_BF16, stream);
    }
    return e;
}

size_t ts_cuda_rest_linear_scratch(const ts_rest_linear *a) { return ts_rest_linear_room_of(a, 0); }
cudaError_t ts_cuda_rest_linear(const ts_rest_linear *a, void *scratch, cudaStream_t stream)
{
    return ts_rest_linear_run(a, 0, scratch, stream);
}
