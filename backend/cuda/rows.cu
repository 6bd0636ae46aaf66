/* Rows of channels in one pass: norms with what surrounds them, activations, rotations, and what a
 * product of a library leaves to do.
 *
 * All of it is bound by memory. Bytes an element, of types of x and y bytes, tables and statistics
 * apart (they stay in the caches): norm x + y, activate x + mul + y, rope 2 x, epilogue
 * t + resid + y; group norm 2 x + y. A row of up to 8192 numbers is kept in registers between its
 * statistics and its result where no activation follows; else it is read again, from the L1.
 *
 * Statistics are f32, in two passes over the row: the mean, then squares of differences from it. */
#include "backend/cuda/numbers.cuh"

enum { WARP_WIDTH = 1024, KEPT = 32 }; /* KEPT: numbers of a thread in registers */

/* ---- sums ---- */
TS_DEV float add_lanes(float x)
{
    TS_UNROLL
    for (int d = 16; d; d /= 2) x += __shfl_xor_sync(~0u, x, d);
    return x;
}
/* of a block of TS_THREADS */
TS_DEV float add_block(float x)
{
    __shared__ float part[TS_THREADS / TS_WARP];
    x = add_lanes(x);
    __syncthreads(); /* the last sum has been read */
    if (threadIdx.x % TS_WARP == 0) part[threadIdx.x / TS_WARP] = x;
    __syncthreads();
    float sum = 0;
    TS_UNROLL
    for (int i = 0; i < TS_THREADS / TS_WARP; i++) sum += part[i];
    return sum;
}
template <int LANES> TS_DEV float add_all(float x)
{
    if constexpr (LANES == TS_WARP)
        return add_lanes(x);
    else
        return add_block(x);
}

/* ---- norm ---- */
typedef struct {
    const char *x;
    char *y;
    ts_dtype xt, yt;
    long rows, ldx, ldy;
    int C, group; /* group: channels of one, 0: not a group norm */
    const float *w, *b, *scale, *shift;
    long ld_scale, ld_shift;
    const uint8_t *sel;
    const float2 *stat; /* mean and 1 / deviation of the groups */
    float eps;
    ts_norm_kind kind;
    ts_act act;
} norm_args;

/* v, channels c.. of row m, from its normalised numbers on */
template <int V> TS_DEV void finish_norm(const norm_args &a, long m, int c, float (&v)[V])
{
    float t[V];
    long row = a.sel ? a.sel[m] : 0;
    if (a.w) {
        get(t, a.w, TS_F32, c);
        TS_UNROLL
        for (int k = 0; k < V; k++) v[k] *= t[k];
    }
    if (a.b) {
        get(t, a.b, TS_F32, c);
        TS_UNROLL
        for (int k = 0; k < V; k++) v[k] += t[k];
    }
    if (a.scale) {
        get(t, a.scale, TS_F32, row * a.ld_scale + c);
        TS_UNROLL
        for (int k = 0; k < V; k++) v[k] *= 1 + t[k];
    }
    if (a.shift) {
        get(t, a.shift, TS_F32, row * a.ld_shift + c);
        TS_UNROLL
        for (int k = 0; k < V; k++) v[k] += t[k];
    }
}

/* LANES threads a row. KEEP: vectors of a thread that stay in registers, 0: rows are read again */
template <int V, int LANES, int KEEP>
static __global__ void __launch_bounds__(TS_THREADS) standardize_rows(norm_args a)
{
    long m = (long)blockIdx.x * (TS_THREADS / LANES) + threadIdx.x / LANES;
    if (m >= a.rows) return; /* all of a warp, or of a block */
    int first = (int)threadIdx.x % LANES * V;
    float kept[KEEP ? KEEP : 1][V];
    if constexpr (KEEP > 0) {
        TS_UNROLL
        for (int i = 0; i < KEEP; i++)
            if (first + i * LANES * V < a.C)
                get(kept[i], a.x, a.xt, m * a.ldx + first + i * LANES * V);
    }
    auto each = [&](auto act) {
        if constexpr (KEEP > 0) {
            TS_UNROLL
            for (int i = 0; i < KEEP; i++)
                if (first + i * LANES * V < a.C) act(kept[i], first + i * LANES * V);
        } else {
            for (long c = first; c < a.C; c += LANES * V) {
                float v[V];
                get(v, a.x, a.xt, m * a.ldx + c);
                act(v, (int)c);
            }
        }
    };
    float mean = 0, sum = 0, square = 0;
    if (a.kind == TS_NORM_LAYER) {
        each([&](const float(&v)[V], int) {
            TS_UNROLL
            for (int k = 0; k < V; k++) sum += v[k];
        });
        mean = add_all<LANES>(sum) / (float)a.C;
    }
    each([&](const float(&v)[V], int) {
        TS_UNROLL
        for (int k = 0; k < V; k++) square += (v[k] - mean) * (v[k] - mean);
    });
    square = add_all<LANES>(square);
    float inv = a.kind == TS_NORM_L2 ? sqrtf((float)a.C) / fmaxf(sqrtf(square), a.eps)
                                     : 1 / sqrtf(square / (float)a.C + a.eps);
    each([&](const float(&v)[V], int c) {
        float out[V];
        TS_UNROLL
        for (int k = 0; k < V; k++) out[k] = (v[k] - mean) * inv;
        finish_norm(a, m, c, out);
        if constexpr (KEEP == 0) activate_all(a.act, out);
        put(a.y, a.yt, m * a.ldy + c, out);
    });
}

template <int V> static cudaError_t launch_norm(const norm_args &a, cudaStream_t s)
{
    constexpr int keep = V == 1 ? 0 : KEPT / V;
    bool warp = a.C <= WARP_WIDTH, kept = V > 1 && a.act == TS_ACT_NONE && a.C <= KEPT * TS_THREADS;
    long threads = a.rows * (warp ? TS_WARP : TS_THREADS);
    if (a.rows > LONG_MAX / TS_THREADS) return cudaErrorInvalidValue;
    if (warp && kept) return TS_SWEEP((standardize_rows<V, TS_WARP, keep>), threads, s, a);
    if (warp) return TS_SWEEP((standardize_rows<V, TS_WARP, 0>), threads, s, a);
    if (kept) return TS_SWEEP((standardize_rows<V, TS_THREADS, keep>), threads, s, a);
    return TS_SWEEP((standardize_rows<V, TS_THREADS, 0>), threads, s, a);
}

/* ---- group norm: pieces of rows x a group's channels, their sum, the result ---- */
enum { PIECE = 8192 }; /* numbers of a thread block, which reads them twice */
static long rows_of_piece(const norm_args &a) { return a.group > PIECE ? 1 : PIECE / a.group; }
static long count_pieces(const norm_args &a)
{
    return (a.rows + rows_of_piece(a) - 1) / rows_of_piece(a);
}

/* part[g][piece]: mean and sum of squared differences from it */
template <int V>
static __global__ void __launch_bounds__(TS_THREADS)
    measure_pieces(norm_args a, long piece_rows, long pieces, float2 *part)
{
    long groups = a.C / a.group, piece = blockIdx.x / groups, g = blockIdx.x % groups,
         from = piece * piece_rows, to = from + piece_rows < a.rows ? from + piece_rows : a.rows;
    int wide = a.group / V, down = TS_THREADS / wide, right = TS_THREADS % wide;
    float mean = 0, sum = 0, count = (float)(to - from) * (float)a.group;
    for (int pass = 0; pass < 2; pass++) {
        long m = from + (int)threadIdx.x / wide;
        int c = (int)threadIdx.x % wide;
        for (sum = 0; m < to; m += down) {
            float v[V];
            get(v, a.x, a.xt, m * a.ldx + g * a.group + c * V);
            TS_UNROLL
            for (int k = 0; k < V; k++) sum += pass ? (v[k] - mean) * (v[k] - mean) : v[k];
            c += right;
            if (c >= wide) {
                c -= wide;
                m++;
            }
        }
        sum = add_block(sum);
        if (!pass) mean = sum / count;
    }
    if (threadIdx.x == 0) part[g * pieces + piece] = make_float2(mean, sum);
}

TS_DEV double add_lanes_f64(double x)
{
    TS_UNROLL
    for (int d = 16; d; d /= 2) x += __shfl_xor_sync(~0u, x, d);
    return x;
}

/* A warp a group: squares about the mean of all are those about a piece's own and what its mean is
 * off by. */
static __global__ void __launch_bounds__(TS_THREADS)
    merge_pieces(norm_args a, long piece_rows, long pieces, const float2 *part, float2 *stat)
{
    long g = thread_index() / TS_WARP, groups = a.C / a.group, lane = threadIdx.x % TS_WARP;
    double mean = 0, square = 0, all = (double)a.rows * a.group;
    if (g >= groups) return;
    auto weight = [&](long i) {
        long left = a.rows - i * piece_rows;
        return (double)(left < piece_rows ? left : piece_rows) * a.group;
    };
    for (long i = lane; i < pieces; i += TS_WARP) mean += weight(i) * part[g * pieces + i].x;
    mean = add_lanes_f64(mean) / all;
    for (long i = lane; i < pieces; i += TS_WARP) {
        float2 p = part[g * pieces + i];
        square += p.y + weight(i) * (p.x - mean) * (p.x - mean);
    }
    square = add_lanes_f64(square);
    if (lane == 0)
        stat[g] = make_float2((float)mean, (float)(1 / sqrt(square / all + (double)a.eps)));
}

template <int V>
static __global__ void __launch_bounds__(TS_THREADS) standardize_groups(norm_args a)
{
    long m, c;
    split_index(thread_index(), a.C / V, &m, &c);
    if (m >= a.rows) return;
    float v[V];
    get(v, a.x, a.xt, m * a.ldx + c * V);
    TS_UNROLL
    for (int k = 0; k < V; k++) {
        float2 s = a.stat[(int)(c * V + k) / a.group];
        v[k] = (v[k] - s.x) * s.y;
    }
    finish_norm(a, m, (int)c * V, v);
    activate_all(a.act, v);
    put(a.y, a.yt, m * a.ldy + c * V, v);
}

template <int V> static cudaError_t launch_groups(norm_args a, float2 *scratch, cudaStream_t s)
{
    long groups = a.C / a.group, pieces = count_pieces(a), rows = rows_of_piece(a);
    float2 *part = scratch + groups;
    if (a.rows > LONG_MAX / a.C || groups * pieces > INT_MAX) return cudaErrorInvalidValue;
    dim3 blocks((unsigned)(groups * pieces)), threads(TS_THREADS);
    a.stat = scratch;
    cudaError_t e = a.group % V == 0 ? TS_LAUNCH((measure_pieces<V>), blocks, threads, 0, s, a,
                                                 rows, pieces, part)
                                     : TS_LAUNCH((measure_pieces<1>), blocks, threads, 0, s, a,
                                                 rows, pieces, part);
    if (!e) e = TS_SWEEP(merge_pieces, groups * TS_WARP, s, a, rows, pieces, part, scratch);
    if (!e) e = TS_SWEEP((standardize_groups<V>), a.rows * (a.C / V), s, a);
    return e;
}

static const float *numbers_at(const ts_weight *w)
{
    return w ? (const float *)ts_address(w->t.p) : NULL;
}

static norm_args prepare_norm(const ts_norm *n)
{
    long C = n->x.dim[n->x.nd - 1];
    return {.x = ts_address(n->x.p),
            .y = ts_address(n->y.p),
            .xt = n->x.type,
            .yt = n->y.type,
            .rows = ts_rows(n->x),
            .ldx = n->x.ld,
            .ldy = n->y.ld,
            .C = (int)C,
            .group = n->kind == TS_NORM_GROUP ? (int)(C / n->groups) : 0,
            .w = numbers_at(n->w),
            .b = numbers_at(n->b),
            .scale = (const float *)ts_address(n->scale.p),
            .shift = (const float *)ts_address(n->shift.p),
            .ld_scale = n->scale.ld,
            .ld_shift = n->shift.ld,
            .sel = (const uint8_t *)ts_address(n->sel.p),
            .stat = NULL,
            .eps = n->eps,
            .kind = n->kind,
            .act = n->act};
}

/* Whether what goes with the channels can be read by vectors of V. */
static bool tables_fit(const norm_args &a, int V)
{
    long rows = a.sel ? 0 : 1; /* row 0 alone */
    return a.C % V == 0 && ts_vectors_fit(a.w, TS_F32, 0, 1, V) &&
           ts_vectors_fit(a.b, TS_F32, 0, 1, V) &&
           ts_vectors_fit(a.scale, TS_F32, a.ld_scale, rows, V) &&
           ts_vectors_fit(a.shift, TS_F32, a.ld_shift, rows, V);
}

size_t ts_cuda_norm_scratch(const ts_norm *n)
{
    if (n->kind != TS_NORM_GROUP || ts_count(n->x) == 0) return 0;
    norm_args a = prepare_norm(n);
    return (size_t)n->groups * (size_t)(1 + count_pieces(a)) * sizeof(float2);
}

cudaError_t ts_cuda_norm(const ts_norm *n, void *scratch, cudaStream_t s)
{
    if (ts_count(n->x) == 0) return cudaSuccess;
    if (n->x.dim[n->x.nd - 1] > INT_MAX / 2) return cudaErrorInvalidValue;
    norm_args a = prepare_norm(n);
    ts_operand all[] = {ts_operand_of(n->x), ts_operand_of(n->y)};
    int V = ts_vector_of(all, 2, a.rows);
    if (!tables_fit(a, V)) V = 1;
    if (a.group)
        return V == 8   ? launch_groups<8>(a, (float2 *)scratch, s)
               : V == 4 ? launch_groups<4>(a, (float2 *)scratch, s)
                        : launch_groups<1>(a, (float2 *)scratch, s);
    return V == 8 ? launch_norm<8>(a, s) : V == 4 ? launch_norm<4>(a, s) : launch_norm<1>(a, s);
}

/* ---- activate, epilogue, rope ---- */
typedef struct {
    ts_act act;
    ts_operand x, mul, y;
    template <int V> __device__ void at(long m, long c) const
    {
        float v[V], t[V];
        get(v, x.p, x.type, m * x.ld + c);
        activate_all(act, v);
        if (mul.p) {
            get(t, mul.p, mul.type, m * mul.ld + c);
            TS_UNROLL
            for (int k = 0; k < V; k++) v[k] *= t[k];
        }
        put(y.p, y.type, m * y.ld + c, v);
    }
} activate_work;

cudaError_t ts_cuda_activate(const ts_activate *a, cudaStream_t s)
{
    activate_work w = {a->act, ts_operand_of(a->x), ts_operand_of(a->mul), ts_operand_of(a->y)};
    long rows = ts_rows(a->x), C = a->x.dim[a->x.nd - 1];
    if (w.x.ld == C && w.y.ld == C && (!w.mul.p || w.mul.ld == C)) {
        C *= rows;
        rows = 1;
    }
    ts_operand all[] = {w.x, w.mul, w.y};
    return ts_sweep(w, rows, C, ts_vector_of(all, 3, rows), s);
}

typedef struct {
    ts_act act;
    ts_operand t, resid, y;
    const float *b, *gate;
    long ld_gate;
    const uint8_t *sel;
    template <int V> __device__ void at(long m, long c) const
    {
        float v[V], u[V];
        get(v, t.p, t.type, m * t.ld + c);
        if (b) {
            get(u, b, TS_F32, c);
            TS_UNROLL
            for (int k = 0; k < V; k++) v[k] += u[k];
        }
        activate_all(act, v);
        if (gate) {
            get(u, gate, TS_F32, (sel ? sel[m] : 0) * ld_gate + c);
            TS_UNROLL
            for (int k = 0; k < V; k++) v[k] *= u[k];
        }
        if (resid.p) {
            get(u, resid.p, resid.type, m * resid.ld + c);
            TS_UNROLL
            for (int k = 0; k < V; k++) v[k] += u[k];
        }
        put(y.p, y.type, m * y.ld + c, v);
    }
} epilogue_work;

cudaError_t ts_cuda_epilogue(const ts_cuda_epilogue_args *a, cudaStream_t s)
{
    epilogue_work w = {a->act,
                       ts_operand_of(a->t),
                       ts_operand_of(a->resid),
                       ts_operand_of(a->y),
                       a->b,
                       (const float *)ts_address(a->gate.p),
                       a->gate.ld,
                       (const uint8_t *)ts_address(a->sel.p)};
    long rows = ts_rows(a->y), C = a->y.dim[a->y.nd - 1];
    ts_operand all[] = {w.t, w.resid, w.y};
    int V = ts_vector_of(all, 3, rows);
    if (!ts_vectors_fit(w.b, TS_F32, 0, 1, V) ||
        !ts_vectors_fit(w.gate, TS_F32, w.ld_gate, w.sel ? 0 : 1, V))
        V = 1;
    return ts_sweep(w, rows, C, V, s);
}

/* V numbers, V / 2 angles */
template <int V>
static __global__ void __launch_bounds__(TS_THREADS)
    rotate_pairs(ts_operand x, ts_operand cosine, ts_operand sine, long N, long AD, long D)
{
    long n, e, head, d;
    split_index(thread_index(), AD / V, &n, &e);
    if (n >= N) return;
    split_index(e * V, D, &head, &d);
    float v[V], c[V / 2], s[V / 2];
    get(v, x.p, x.type, n * x.ld + e * V);
    get(c, cosine.p, TS_F32, n * cosine.ld + d / 2);
    get(s, sine.p, TS_F32, n * sine.ld + d / 2);
    TS_UNROLL
    for (int k = 0; k < V; k += 2) {
        float a = v[k], b = v[k + 1];
        v[k] = a * c[k / 2] - b * s[k / 2];
        v[k + 1] = b * c[k / 2] + a * s[k / 2];
    }
    put(x.p, x.type, n * x.ld + e * V, v);
}

cudaError_t ts_cuda_rope(const ts_rope *a, cudaStream_t s)
{
    ts_operand x = ts_operand_of(a->x), c = ts_operand_of(a->cos), i = ts_operand_of(a->sin);
    long N = a->x.dim[0], D = a->x.dim[2], AD = a->x.dim[1] * D;
    int V = ts_vector_of(&x, 1, N);
    if (V == 1 || D % V || !ts_vectors_fit(c.p, TS_F32, c.ld, N, V / 2) ||
        !ts_vectors_fit(i.p, TS_F32, i.ld, N, V / 2))
        V = 2;
    if (N == 0 || AD == 0) return cudaSuccess;
    if (N > LONG_MAX / AD) return cudaErrorInvalidValue;
    long threads = N * (AD / V);
    return V == 8   ? TS_SWEEP((rotate_pairs<8>), threads, s, x, c, i, N, AD, D)
           : V == 4 ? TS_SWEEP((rotate_pairs<4>), threads, s, x, c, i, N, AD, D)
                    : TS_SWEEP((rotate_pairs<2>), threads, s, x, c, i, N, AD, D);
}
