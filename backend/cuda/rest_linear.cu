/* The first-order part of what a plan leaves out, on the cores for f32: weights w_pj of what query
 * block p leaves out, covariances C_j of the blocks, M_p = sum_j w_pj C_j, and out += share q M_p,
 * the last three as products of tiles.
 *
 * Heads of another form leave at once: the host does not know the forms. */
#include "backend/cuda/product_tile.cuh"
#include "backend/cuda/rest_parts.cuh"

namespace
{
/* C_j = (k - mean k)' (v - mean v) */
template <class T> struct covariance_of {
    ts_rest_args p;
    int head, block, rows, columns, depth;
    static constexpr bool a_along = false, b_along = false;
    __device__ bool begin(int item)
    {
        head = p.first + item / p.nb;
        block = item % p.nb;
        rows = columns = p.D;
        depth = min(p.N - 64 * block, 64);
        return ts_is_linear(p, head);
    }
    __device__ float a(int d, int n) const
    {
        return ts_read_f32((const T *)p.k, (block * 64L + n) * p.ldk + (long)head * p.D + d) -
               p.pooled_k[((long)block * p.A + head) * p.D + d];
    }
    __device__ float b(int n, int e) const
    {
        return ts_read_f32((const T *)p.v, (block * 64L + n) * p.ldv + (long)head * p.D + e) -
               p.pooled_v[((long)block * p.A + head) * p.D + e];
    }
    __device__ void put(int d, int e, float x) const
    {
        float *to = (float *)p.covariance + ((long)(head - p.first) * p.nb + block) * p.D * p.D;
        to[(long)d * p.D + e] = x;
    }
};

/* M = w C, of all query blocks of a head at once */
struct mix_of {
    ts_rest_args p;
    int head, rows, columns, depth;
    static constexpr bool a_along = true, b_along = false;
    __device__ bool begin(int item)
    {
        head = item;
        rows = p.nq;
        depth = p.nb;
        columns = p.D * p.D;
        return ts_is_linear(p, p.first + item);
    }
    __device__ float a(int q, int j) const
    {
        return ((const float *)p.weight)[((long)head * p.nq + q) * p.ldw + j];
    }
    __device__ float b(int j, int i) const
    {
        return ((const float *)p.covariance)[((long)head * p.nb + j) * p.D * p.D + i];
    }
    __device__ void put(int q, int i, float x) const
    {
        ((float *)p.mixed)[((long)head * p.nq + q) * p.D * p.D + i] = x;
    }
};

/* out += share q M_p */
template <class T> struct apply_of {
    ts_rest_args p;
    int head, place, block, rows, columns, depth; /* place: of M */
    static constexpr bool a_along = true, b_along = false;
    __device__ bool begin(int item)
    {
        head = p.first + item / p.nq;
        place = item;
        block = item % p.nq * p.every;
        rows = min(p.N - 64 * block, 64);
        columns = depth = p.D;
        return ts_is_linear(p, head);
    }
    __device__ float a(int n, int d) const
    {
        return ts_read_f32((const T *)p.q, (block * 64L + n) * p.ldq + (long)head * p.D + d);
    }
    __device__ float b(int d, int e) const
    {
        const long square = (long)p.D * p.D;
        return ((const float *)p.mixed)[place * square + (long)d * p.D + e];
    }
    __device__ void put(int n, int e, float x) const
    {
        const long row = block * 64L + n, at = row * p.ldo + (long)head * p.D + e;
        T *out = (T *)p.out;
        ts_write_f32(out, at, fmaf(ts_share_of_rest(p, head, row), x, ts_read_f32(out, at)));
    }
};

template <class T> cudaError_t add_linear_part(const ts_rest_args *a, cudaStream_t s)
{
    const long heads = a->heads, D = a->D;
    covariance_of<T> covariance = {};
    mix_of mix = {};
    apply_of<T> apply = {};
    covariance.p = mix.p = apply.p = *a;
    cudaError_t e = TS_SWEEP((ts_weigh_rest<float>), heads * a->nq * a->ldw, s, *a);
    if (!e) e = ts_launch_tiles(covariance, heads * a->nb, D, D, s);
    if (!e) e = ts_launch_tiles(mix, heads, a->nq, D * D, s);
    if (!e) e = ts_launch_tiles(apply, heads * a->nq, 64, D, s);
    return e;
}
} /* namespace */

cudaError_t ts_rest_linear_any(const ts_rest_args *a, bool bf16, cudaStream_t s)
{
    return bf16 ? add_linear_part<uint16_t>(a, s) : add_linear_part<float>(a, s);
}
