/* Strided copies of up to 8 dimensions with casts: patches, transposes, repeats, joins.
 *
 * What is left of the dimensions once they are sorted and joined (backend/strides.h) goes one of
 * three ways. Where both sides run along the
 * last dimension, 16 bytes a thread (of one type as mere bytes). Where the source runs along
 * another one, tiles of 32 x 32 through shared memory, so that both sides are read and written
 * along their own. Else, number by number in the order of the destination.
 *
 * Bound by memory: the bytes of source and destination, each once (twice the source's where its
 * runs are shorter than a sector of 32 bytes). */
#include "backend/cuda/numbers.cuh"
extern "C" {
#include "backend/strides.h"
}

enum { TILE = 32, TILE_ROWS = 8, LEAST = 8 }; /* LEAST: of a side that is worth tiles */

/* Where number i of the dimensions before `nd` begins. */
TS_DEV void locate_run(const ts_copy &p, int nd, long i, long *src, long *dst)
{
    *src = *dst = 0;
    for (int d = nd - 1; d >= 0; d--) {
        long k;
        split_index(i, p.dim[d], &i, &k);
        *src += k * p.ss[d];
        *dst += k * p.ds[d];
    }
}

/* ---- runs along the last dimension of both ---- */
/* Equal types: V is the bytes of a vector, of numbers of size W. */
template <class T, int V> TS_DEV void copy_some(const ts_copy &p, long src, long dst)
{
    const T *from = (const T *)p.src.at + src;
    T *to = (T *)p.dst.at + dst;
    if constexpr (V == 1) {
        *to = *from;
    } else {
        uint32_t w[4];
        load_words(w, from);
        store_words(to, w);
    }
}
template <class T, int V>
static __global__ void __launch_bounds__(TS_THREADS) move_runs(ts_copy p, long rows)
{
    long run = p.dim[p.nd - 1], m, c, src, dst;
    split_index(thread_index(), (run + V - 1) / V, &m, &c);
    if (m >= rows) return;
    locate_run(p, p.nd - 1, m, &src, &dst);
    c *= V;
    if (V == 1 || c + V <= run)
        copy_some<T, V>(p, src + c * p.ss[p.nd - 1], dst + c * p.ds[p.nd - 1]);
    else
        for (; c < run; c++) copy_some<T, 1>(p, src + c, dst + c);
}

template <int V> TS_DEV void cast_some(const ts_copy &p, long src, long dst)
{
    float v[V];
    get(v, (const void *)p.src.at, p.stype, src);
    put((void *)p.dst.at, p.dtype, dst, v);
}
template <int V>
static __global__ void __launch_bounds__(TS_THREADS) cast_runs(ts_copy p, long rows)
{
    long run = p.dim[p.nd - 1], m, c, src, dst;
    split_index(thread_index(), (run + V - 1) / V, &m, &c);
    if (m >= rows) return;
    locate_run(p, p.nd - 1, m, &src, &dst);
    c *= V;
    if (V == 1 || c + V <= run)
        cast_some<V>(p, src + c * p.ss[p.nd - 1], dst + c * p.ds[p.nd - 1]);
    else
        for (; c < run; c++) cast_some<1>(p, src + c, dst + c);
}

/* ---- tiles ---- */
/* a number of the source as the destination keeps it */
template <class T> TS_DEV T convert_number(const ts_copy &p, long src)
{
    if (p.stype == p.dtype) return ((const T *)p.src.at)[src];
    float v[1];
    T t;
    get(v, (const void *)p.src.at, p.stype, src);
    if constexpr (sizeof(T) == 4)
        t = __float_as_uint(v[0]);
    else
        t = (T)narrow_pair(p.dtype, v[0], 0);
    return t;
}
/* The last dimension is the destination's, the one before it the source's. T: a number of the
 * destination, S: as it lies in shared memory, of a bank at least. Rows of 33: neither way do two
 * threads of a warp meet in a bank. */
template <class T, class S>
static __global__ void __launch_bounds__(TILE *TILE_ROWS)
    copy_tiles(ts_copy p, long down, long right)
{
    TS_SHARED(memory);
    S(*tile)[TILE + 1] = (S(*)[TILE + 1]) memory;
    int s = p.nd - 2, d = p.nd - 1, x = threadIdx.x % TILE, y = threadIdx.x / TILE;
    long rest, i, j, src, dst;
    split_index(blockIdx.x, right, &rest, &j);
    split_index(rest, down, &rest, &i);
    locate_run(p, p.nd - 2, rest, &src, &dst);
    i *= TILE; /* along the source's */
    j *= TILE; /* along the destination's */
    for (int k = y; k < TILE; k += TILE_ROWS)
        if (i + x < p.dim[s] && j + k < p.dim[d])
            tile[k][x] = convert_number<T>(p, src + (i + x) * p.ss[s] + (j + k) * p.ss[d]);
    __syncthreads();
    for (int k = y; k < TILE; k += TILE_ROWS)
        if (i + k < p.dim[s] && j + x < p.dim[d])
            ((T *)p.dst.at)[dst + (i + k) * p.ds[s] + (j + x) * p.ds[d]] = (T)tile[x][k];
}

/* ---- the host's part ---- */
static void swap_dimensions(ts_copy *p, int a, int b)
{
    long *of[] = {p->dim, p->ss, p->ds};
    for (int i = 0; i < 3; i++) {
        long t = of[i][a];
        of[i][a] = of[i][b];
        of[i][b] = t;
    }
}

/* The dimension along which the source runs, if that is not the last and both are long: it is put
 * before the last. */
static bool find_tiles(ts_copy *p)
{
    int last = p->nd - 1, best = last;
    for (int i = 0; i < last; i++)
        if (p->ss[i] && p->dim[i] >= LEAST && (best == last || labs(p->ss[i]) < labs(p->ss[best])))
            best = i;
    if (best == last || p->dim[last] < LEAST || labs(p->ss[best]) >= labs(p->ss[last]))
        return false;
    for (int i = best; i + 1 < last; i++) swap_dimensions(p, i, i + 1);
    return true;
}

static bool runs_fit(const ts_copy *p, int V)
{
    int last = p->nd - 1;
    bool fits = p->ss[last] == 1 && p->ds[last] == 1 && p->dim[last] >= V &&
                ts_vectors_fit(ts_address(p->src), p->stype, 0, 1, V) &&
                ts_vectors_fit(ts_address(p->dst), p->dtype, 0, 1, V);
    for (int i = 0; i < last; i++)
        fits = fits && ts_vectors_fit(NULL, p->stype, labs(p->ss[i]), 2, V) &&
               ts_vectors_fit(NULL, p->dtype, labs(p->ds[i]), 2, V);
    return fits;
}

template <class T> static cudaError_t launch_runs(const ts_copy &p, long rows, cudaStream_t s)
{
    constexpr int V = 16 / sizeof(T);
    long run = p.dim[p.nd - 1];
    if (runs_fit(&p, V)) return TS_SWEEP((move_runs<T, V>), rows * ((run + V - 1) / V), s, p, rows);
    return TS_SWEEP((move_runs<T, 1>), rows * run, s, p, rows);
}

static cudaError_t launch_casts(const ts_copy &p, long rows, cudaStream_t s)
{
    long run = p.dim[p.nd - 1];
    bool narrow = p.stype != TS_F32 && p.dtype != TS_F32;
    if (narrow && runs_fit(&p, 8))
        return TS_SWEEP((cast_runs<8>), rows * ((run + 7) / 8), s, p, rows);
    if (!narrow && runs_fit(&p, 4))
        return TS_SWEEP((cast_runs<4>), rows * ((run + 3) / 4), s, p, rows);
    return TS_SWEEP((cast_runs<1>), rows * run, s, p, rows);
}

static cudaError_t launch_tiles(const ts_copy &p, long rows, cudaStream_t s)
{
    long down = (p.dim[p.nd - 2] + TILE - 1) / TILE, right = (p.dim[p.nd - 1] + TILE - 1) / TILE,
         blocks = rows / p.dim[p.nd - 2] * down * right;
    if (blocks > INT_MAX) return cudaErrorInvalidValue;
    dim3 grid((unsigned)blocks), threads(TILE * TILE_ROWS);
    size_t size = ts_dtype_size(p.dtype), shared = TILE * (TILE + 1) * (size < 4 ? 4 : size);
    switch (size) {
    case 1:
        return TS_LAUNCH((copy_tiles<uint8_t, uint32_t>), grid, threads, shared, s, p, down, right);
    case 2:
        return TS_LAUNCH((copy_tiles<uint16_t, uint32_t>), grid, threads, shared, s, p, down,
                         right);
    case 4:
        return TS_LAUNCH((copy_tiles<uint32_t, uint32_t>), grid, threads, shared, s, p, down,
                         right);
    default:
        return TS_LAUNCH((copy_tiles<uint64_t, uint64_t>), grid, threads, shared, s, p, down,
                         right);
    }
}

cudaError_t ts_cuda_copy(const ts_copy *c, cudaStream_t s)
{
    ts_copy p;
    long all = 1;
    if (!ts_copy_plan(c, &p)) return cudaSuccess;
    for (int i = 0; i < p.nd; i++) {
        if (all > LONG_MAX / TS_THREADS / p.dim[i]) return cudaErrorInvalidValue;
        all *= p.dim[i];
    }
    long rows = all / p.dim[p.nd - 1];
    if (find_tiles(&p)) return launch_tiles(p, rows, s);
    if (p.stype != p.dtype) return launch_casts(p, rows, s);
    switch (ts_dtype_size(p.stype)) {
    case 1: return launch_runs<uint8_t>(p, rows, s);
    case 2: return launch_runs<uint16_t>(p, rows, s);
    case 4: return launch_runs<uint32_t>(p, rows, s);
    default: return launch_runs<uint64_t>(p, rows, s);
    }
}
