/* Means of blocks, which stand for what a plan leaves out, and the choice of what stands for it:
 * errors of heads, and the candidates of least error. */
#include "backend/cuda/numbers.cuh"

namespace
{
/* A row is a block of tokens of one element of the batch, a channel one of all heads: tokens are
 * added in their order in f32 and divided at the end, as on the CPU. */
struct pool_work {
    const char *x;
    ts_dtype type;
    long ld, N, nb, C;
    float *y;
    template <int V> __device__ void at(long row, long c) const
    {
        float sum[V] = {}, v[V];
        long b, block;
        split_index(row, nb, &b, &block);
        const int left = (int)min(N - block * TS_BLOCK, (long)TS_BLOCK);
        long from = (b * N + block * TS_BLOCK) * ld + c;
        TS_UNROLL_BY(4)
        for (int n = 0; n < left; n++, from += ld) {
            get(v, x, type, from);
            TS_UNROLL
            for (int k = 0; k < V; k++) sum[k] += v[k];
        }
        TS_UNROLL
        for (int k = 0; k < V; k++) sum[k] /= (float)left;
        put(y, TS_F32, row * C + c, sum);
    }
};

/* ---- errors ---- */
struct error_args {
    const char *x, *of;
    ts_dtype type;
    long ldx, ldo, N, D, every, blocks; /* blocks: that are looked at */
    double *part;                       /* [A, blocks] */
    float *error;                       /* [A] */
};

/* All threads' numbers, added in an order that is always the same; to thread 0. */
TS_DEV double sum_of_threads(double mine, double *part)
{
    const int t = (int)threadIdx.x;
    part[t] = mine;
    for (int half = TS_THREADS / 2; half; half /= 2) {
        __syncthreads();
        if (t < half) part[t] += part[t + half];
    }
    return t == 0 ? part[0] : 0;
}

/* A thread block a head and block of rows, a warp a row. */
__global__ void __launch_bounds__(TS_THREADS) measure_blocks(error_args a)
{
    __shared__ double part[TS_THREADS];
    const long head = blockIdx.x / a.blocks, block = blockIdx.x % a.blocks * a.every;
    const long first = block * TS_BLOCK;
    const long end = first + TS_BLOCK < a.N ? first + TS_BLOCK : a.N;
    double sum = 0;
    for (long n = first + threadIdx.x / TS_WARP; n < end; n += TS_THREADS / TS_WARP)
        for (long d = threadIdx.x % TS_WARP; d < a.D; d += TS_WARP) {
            float x[1], of[1];
            get(x, a.x, a.type, n * a.ldx + head * a.D + d);
            get(of, a.of, a.type, n * a.ldo + head * a.D + d);
            const double off = (double)x[0] - (double)of[0];
            sum += off * off;
        }
    sum = sum_of_threads(sum, part);
    if (threadIdx.x == 0) a.part[blockIdx.x] = sum;
}

/* A thread block a head. */
__global__ void __launch_bounds__(TS_THREADS) add_blocks(error_args a)
{
    __shared__ double part[TS_THREADS];
    double sum = 0;
    for (long i = threadIdx.x; i < a.blocks; i += TS_THREADS)
        sum += a.part[blockIdx.x * a.blocks + i];
    sum = sum_of_threads(sum, part);
    if (threadIdx.x == 0) a.error[blockIdx.x] = (float)sum;
}

error_args prepare_errors(const ts_head_errors *e)
{
    error_args a = {};
    const long nb = (e->x.dim[1] + TS_BLOCK - 1) / TS_BLOCK;
    a.x = ts_address(e->x.p);
    a.of = ts_address(e->of.p);
    a.type = e->x.type;
    a.ldx = e->x.ld;
    a.ldo = e->of.ld;
    a.N = e->x.dim[1];
    a.D = e->x.dim[3];
    a.every = e->every > 1 ? e->every : 1;
    a.blocks = (nb + a.every - 1) / a.every;
    a.error = (float *)ts_address(e->error.p);
    return a;
}

/* ---- choices ---- */
struct choice_args {
    const float *error; /* [n, A] */
    long n, A, ld;
    float margin;
    int32_t *choice;
    float *stat; /* or NULL */
};
__global__ void __launch_bounds__(TS_THREADS) choose_least(choice_args a)
{
    const long h = thread_index();
    if (h >= a.A) return;
    long least = 0;
    for (long i = 1; i < a.n; i++)
        if (a.error[i * a.ld + h] < a.error[least * a.ld + h]) least = i;
    if (!(__fmul_rn(a.error[least * a.ld + h], a.margin) < a.error[h])) least = 0;
    a.choice[h] = (int32_t)least;
    if (a.stat) a.stat[h] = (float)least;
}
} /* namespace */

cudaError_t ts_cuda_pool(const ts_pool *p, cudaStream_t s)
{
    const ts_operand x = ts_operand_of(p->x), y = ts_operand_of(p->y);
    pool_work w = {};
    w.x = x.p;
    w.type = x.type;
    w.ld = x.ld;
    w.N = p->x.dim[1];
    w.nb = p->y.dim[1];
    w.C = p->x.dim[2] * p->x.dim[3];
    w.y = (float *)y.p;
    /* a vector of x is 16 bytes, of y one or two of them */
    int V = x.type == TS_BF16 ? 8 : 4;
    if (!ts_vectors_fit(x.p, x.type, x.ld, w.N, V) || !ts_vectors_fit(y.p, TS_F32, w.C, w.nb, V))
        V = 1;
    return ts_sweep(w, p->x.dim[0] * w.nb, w.C, V, s);
}

size_t ts_cuda_head_errors_scratch(const ts_head_errors *e)
{
    return (size_t)(e->x.dim[2] * prepare_errors(e).blocks) * sizeof(double);
}
cudaError_t ts_cuda_head_errors(const ts_head_errors *e, void *scratch, cudaStream_t s)
{
    error_args a = prepare_errors(e);
    const unsigned A = (unsigned)e->x.dim[2];
    a.part = (double *)scratch;
    cudaError_t st = TS_LAUNCH(measure_blocks, dim3(A * (unsigned)a.blocks), dim3(TS_THREADS), 0, s,
                               a);
    return st ? st : TS_LAUNCH(add_blocks, dim3(A), dim3(TS_THREADS), 0, s, a);
}

cudaError_t ts_cuda_choose(const ts_choose *c, cudaStream_t s)
{
    choice_args a = {};
    a.error = (const float *)ts_address(c->error.p);
    a.n = c->error.dim[0];
    a.A = c->error.dim[1];
    a.ld = c->error.ld;
    a.margin = c->margin;
    a.choice = (int32_t *)ts_address(c->choice.p);
    a.stat = (float *)ts_address(c->stat.p);
    return TS_SWEEP(choose_least, a.A, s, a);
}
