/* Element by element: rows by index, linear combinations, scales and shifts, noise, the shortcuts
 * of the Wan 2.2 VAE, the check for finite numbers, the rows of a convolution. Copies are in
 * copy.cu.
 *
 * Bound by memory, in bytes an element of y, of types of x and y bytes: gather x + y; lincomb
 * sum x_i + y; affine x + y and s, b where they do not repeat; resample 2 y and x / r of it
 * (expand) or r x (reduce); check x; unfold x + y, of which x comes from the caches kt kh kw times.
 * randn is bound by the f64 unit where that is narrow: some 200 operations a number. */
#include "backend/cuda/numbers.cuh"
extern "C" {
#include "backend/strides.h"
}

/* ---- gather ---- */
typedef struct {
    ts_operand x, y;
    const int *ids;
    long V; /* rows of the table */
    ts_cuda_fault *fault;
    template <int N> __device__ void at(long i, long c) const
    {
        float v[N] = {};
        int id = ids[i];
        if (id >= 0 && id < V)
            get(v, x.p, x.type, id * x.ld + c);
        else if (c == 0 &&
                 atomicCAS(&fault->bad_id, 0, (int)(i < INT_MAX ? i + 1 : INT_MAX)) == 0) {
            fault->id = id;
            fault->rows = (int)V;
        }
        put(y.p, y.type, i * y.ld + c, v);
    }
} gather_work;

cudaError_t ts_cuda_gather(const ts_gather *a, ts_cuda_fault *fault, cudaStream_t s)
{
    gather_work w = {ts_operand_of(a->x), ts_operand_of(a->y), (const int *)ts_address(a->ids.p),
                     a->x.dim[0], fault};
    long n = ts_count(a->ids), C = a->x.dim[1];
    ts_operand all[] = {w.x, w.y};
    return ts_sweep(w, n, C, ts_vector_of(all, 2, 2), s);
}

/* ---- lincomb ---- */
typedef struct {
    int n;
    float c[8];
    ts_operand x[8], y;
    long w[8], C; /* w: numbers of a row of x; C: of y */
    template <int V> __device__ void at(long m, long c0) const
    {
        float sum[V] = {};
        for (int i = 0; i < n; i++) {
            float v[V];
            long row = m, column = c0;
            if (w[i] != C) split_index(m * C + c0, w[i], &row, &column);
            get(v, x[i].p, x[i].type, row * x[i].ld + column);
            TS_UNROLL
            for (int k = 0; k < V; k++) sum[k] += c[i] * v[k];
        }
        put(y.p, y.type, m * y.ld + c0, sum);
    }
} lincomb_work;

static long width_of(ts_tensor t) { return t.nd ? t.dim[t.nd - 1] : 1; }
static bool is_packed(ts_tensor t) { return t.ld == width_of(t) || ts_rows(t) == 1; }

cudaError_t ts_cuda_lincomb(const ts_lincomb *a, cudaStream_t s)
{
    lincomb_work w = {};
    w.n = a->n;
    w.y = ts_operand_of(a->y);
    w.C = width_of(a->y);
    long rows = ts_rows(a->y);
    bool packed = is_packed(a->y), even = true;
    ts_operand all[9] = {w.y};
    for (int i = 0; i < a->n; i++) {
        w.c[i] = a->c[i];
        w.x[i] = all[i + 1] = ts_operand_of(a->x[i]);
        w.w[i] = width_of(a->x[i]);
        packed = packed && is_packed(a->x[i]);
    }
    if (packed) { /* one row */
        w.C *= rows;
        rows = 1;
    }
    for (int i = 0; i < a->n; i++) {
        if (packed) w.w[i] = w.C;
        even = even && (w.w[i] == w.C || (w.w[i] % 8 == 0 && w.C % 8 == 0));
    }
    int V = even ? ts_vector_of(all, a->n + 1, packed ? 1 : 2) : 1;
    return ts_sweep(w, rows, w.C, V, s);
}

/* ---- affine: the product is rounded before the sum, as on every device ---- */
/* where a run begins */
typedef struct {
    long x, s, b, y;
} affine_place;

/* absent: of an operand that is not there. One that repeats is read once. */
template <int V>
TS_DEV void load_side(float (&v)[V], const ts_strided &t, long at, long c, int axis, float absent)
{
    if (t.p.at && (V == 1 || t.step[axis])) {
        get(v, (const void *)t.p.at, t.type, at + c * t.step[axis]);
        return;
    }
    float one[1] = {absent};
    if (t.p.at) get(one, (const void *)t.p.at, t.type, at);
    TS_UNROLL
    for (int k = 0; k < V; k++) v[k] = one[0];
}
template <int V> TS_DEV void scale_and_shift(const ts_affine &a, const affine_place &at, long c)
{
    float x[V], s[V], b[V];
    load_side(x, a.x, at.x, c, a.nd - 1, 0);
    load_side(s, a.s, at.s, c, a.nd - 1, a.scale);
    load_side(b, a.b, at.b, c, a.nd - 1, a.shift);
    TS_UNROLL
    for (int k = 0; k < V; k++) {
        float v = __fadd_rn(__fmul_rn(x[k], s[k]), b[k]);
        if (a.low < a.high) v = v < a.low ? a.low : v > a.high ? a.high : v;
        x[k] = v;
    }
    put((void *)a.y.p.at, a.y.type, at.y + c * a.y.step[a.nd - 1], x);
}
template <int V>
static __global__ void __launch_bounds__(TS_THREADS) scale_runs(ts_affine a, long rows)
{
    long run = a.dim[a.nd - 1], m, c;
    affine_place at = {};
    split_index(thread_index(), (run + V - 1) / V, &m, &c);
    if (m >= rows) return;
    for (int d = a.nd - 2; d >= 0; d--) {
        long k;
        split_index(m, a.dim[d], &m, &k);
        at.x += k * a.x.step[d];
        at.s += k * a.s.step[d];
        at.b += k * a.b.step[d];
        at.y += k * a.y.step[d];
    }
    c *= V;
    if (V == 1 || c + V <= run)
        scale_and_shift<V>(a, at, c);
    else
        for (; c < run; c++) scale_and_shift<1>(a, at, c);
}

/* Numbers of a vector: x and y go on by 1 along the last dimension, s and b do or repeat. */
static int vector_of_sides(const ts_affine *a)
{
    const ts_strided *side[] = {&a->x, &a->y, &a->s, &a->b};
    int last = a->nd - 1, V = 8;
    for (int i = 0; i < 4; i++)
        if (side[i]->p.at && side[i]->type == TS_F32) V = 4;
    for (int i = 0; i < 4; i++) {
        const ts_strided *t = side[i];
        if (!t->p.at || (i > 1 && t->step[last] == 0)) continue;
        bool fits = t->step[last] == 1 && ts_vectors_fit(ts_address(t->p), t->type, 0, 1, V);
        for (int d = 0; d < last; d++)
            fits = fits && ts_vectors_fit(NULL, t->type, labs(t->step[d]), 2, V);
        if (!fits) return 1;
    }
    return V;
}

cudaError_t ts_cuda_affine(const ts_affine *a, cudaStream_t s)
{
    ts_affine p;
    long all = 1;
    if (!ts_affine_plan(a, &p)) return cudaSuccess;
    for (int d = 0; d < p.nd; d++) {
        if (all > LONG_MAX / TS_THREADS / p.dim[d]) return cudaErrorInvalidValue;
        all *= p.dim[d];
    }
    long run = p.dim[p.nd - 1], rows = all / run;
    int V = vector_of_sides(&p);
    return V == 8   ? TS_SWEEP((scale_runs<8>), rows * ((run + 7) / 8), s, p, rows)
           : V == 4 ? TS_SWEEP((scale_runs<4>), rows * ((run + 3) / 4), s, p, rows)
                    : TS_SWEEP((scale_runs<1>), rows * run, s, p, rows);
}

/* ---- noise: backend/philox.h, whose words and formula are repeated here ---- */
TS_DEV void draw_words(uint64_t seed, uint64_t counter, uint64_t more, uint32_t (&c)[4])
{
    c[0] = (uint32_t)counter;
    c[1] = (uint32_t)(counter >> 32);
    c[2] = (uint32_t)more;
    c[3] = (uint32_t)(more >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    TS_UNROLL
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[0] = n0;
        c[1] = (uint32_t)b;
        c[2] = n2;
        c[3] = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* sin and cos of the f64 number nearest to 2 pi u, times which the angle is: those of 2 pi u itself
 * and what it is off by. (The device's sin has a path for large angles, which takes memory.) */
TS_DEV double turned(double u, bool sine)
{
    const double turn = 6.283185307179586476925286766559, rest = 2.4492935982947064e-16;
    double a = turn * u, off = -__fma_rn(turn, u, -a) - rest * u, s, c;
    sincospi(2 * u, &s, &c);
    return sine ? s + off * c : c - off * s;
}

/* In f64, as ts_normals. log, sin and cos of two libraries differ by 2 units of 2^-53: one number
 * in some 10^8 then rounds to the next f32. */
typedef struct {
    uint64_t seed, first;
    uint32_t stream;
    long rows, columns;
    float *y;
    long ld;
    template <int V> __device__ void at(long m, long c) const
    {
        const double unit = 1.0 / 4294967296.0;
        uint64_t i = first + (uint64_t)(m * rows + c * columns);
        uint32_t w[4];
        draw_words(seed, i / 4, stream, w);
        uint32_t u = i & 2 ? w[2] : w[0], v = i & 2 ? w[3] : w[1];
        y[m * ld + c] = (float)(sqrt(-2 * log((u + 1.0) * unit)) * turned(v * unit, i & 1));
    }
} randn_work;

cudaError_t ts_cuda_randn(const ts_randn *a, cudaStream_t s)
{
    randn_work w = {a->seed, a->first, a->stream, a->rows, a->columns, (float *)ts_address(a->y.p),
                    a->y.ld};
    return ts_sweep<randn_work, 1>(w, ts_rows(a->y), width_of(a->y), 1, s);
}

/* ---- resample ---- */
/* p.dim: [F, H, W, C] */
typedef struct {
    bool reduce;
    long ft, fs, drop, r, H, W, xH, xW;
    ts_operand x, y;
    __device__ float x_at(long f, long h, long w, long c) const
    {
        float v[1] = {0};
        if (f >= 0) get(v, x.p, x.type, ((f * xH + h) * xW + w) * x.ld + c);
        return v[0];
    }
    __device__ float value_at(long f, long h, long w, long o) const
    {
        long g = f + drop, a, b, d, e, one, v = 0;
        float sum = 0;
        if (!reduce) {
            split_index(g, ft, &a, &one);
            split_index(h, fs, &b, &d);
            split_index(w, fs, &e, &v);
            split_index(((o * ft + one) * fs + d) * fs + v, r, &one, &v);
            return x_at(a, b, e, one);
        }
        split_index(o * r, fs, &a, &d);
        split_index(a, fs, &a, &b);
        split_index(a, ft, &e, &a);
        for (long j = 0; j < r; j++) { /* channel (e ft + a) fs^2 + b fs + d */
            sum += x_at(f * ft + a - drop, h * fs + b, w * fs + d, e);
            if (++d < fs) continue;
            d = 0;
            if (++b < fs) continue;
            b = 0;
            if (++a < ft) continue;
            a = 0;
            e++;
        }
        return sum / (float)r;
    }
    template <int V> __device__ void at(long m, long c) const
    {
        long f, h, w;
        float v[V];
        split_index(m, W, &h, &w);
        split_index(h, H, &f, &h);
        get(v, y.p, y.type, m * y.ld + c);
        TS_UNROLL
        for (int k = 0; k < V; k++) v[k] += value_at(f, h, w, c + k);
        put(y.p, y.type, m * y.ld + c, v);
    }
} resample_work;

cudaError_t ts_cuda_resample(const ts_resample *a, cudaStream_t s)
{
    long C = a->x.dim[3], O = a->y.dim[3], rows = ts_rows(a->y), all = (long)a->ft * a->fs * a->fs;
    if (rows == 0 || O == 0) return cudaSuccess;
    resample_work w = {a->reduce,
                       a->ft,
                       a->fs,
                       a->drop,
                       a->reduce ? C * all / O : O * all / C,
                       a->y.dim[1],
                       a->y.dim[2],
                       a->x.dim[1],
                       a->x.dim[2],
                       ts_operand_of(a->x),
                       ts_operand_of(a->y)};
    return ts_sweep(w, rows, O, ts_vector_of(&w.y, 1, rows), s);
}

/* ---- check ---- */
typedef struct {
    ts_operand x;
    int tag, *bad;
    template <int V> __device__ void at(long m, long c) const
    {
        float v[V];
        bool fine = true;
        get(v, x.p, x.type, m * x.ld + c);
        TS_UNROLL
        for (int k = 0; k < V; k++) fine = fine && (__float_as_uint(v[k]) << 1) < 0xFF000000u;
        if (!fine) atomicCAS(bad, 0, tag);
    }
} check_work;

cudaError_t ts_cuda_check(ts_tensor t, int tag, ts_cuda_fault *fault, cudaStream_t s)
{
    check_work w = {ts_operand_of(t), tag, &fault->bad_tag};
    long rows = ts_rows(t), C = width_of(t);
    if (is_packed(t)) {
        C *= rows;
        rows = 1;
    }
    return ts_sweep(w, rows, C, ts_vector_of(&w.x, 1, rows), s);
}

/* ---- unfold ---- */
typedef struct {
    ts_operand x;
    char *to;
    long first, C, F, H, W, H1, W1; /* H1, W1: of y */
    long k[3], stride[3], pad[3];
    template <int V> __device__ void at(long m, long e) const
    {
        long tap, c, f, h, w, t, i, j, row = k[0] * k[1] * k[2] * C;
        float v[V] = {};
        split_index(e, C, &tap, &c);
        split_index(m + first, W1, &h, &w);
        split_index(h, H1, &f, &h);
        split_index(tap, k[2], &i, &j);
        split_index(i, k[1], &t, &i);
        f = f * stride[0] + t - pad[0];
        h = h * stride[1] + i - pad[1];
        w = w * stride[2] + j - pad[2];
        if (f >= 0 && f < F && h >= 0 && h < H && w >= 0 && w < W)
            get(v, x.p, x.type, ((f * H + h) * W + w) * x.ld + c);
        put(to, x.type, m * row + e, v);
    }
} unfold_work;

cudaError_t ts_cuda_unfold(const ts_conv *a, long first, long count, void *to, cudaStream_t s)
{
    const ts_tensor *t = &a->w->t;
    const long *n = a->x.dim;
    unfold_work w = {};
    w.x = ts_operand_of(a->x);
    w.to = (char *)to;
    w.first = first;
    w.F = n[0];
    w.H = n[1];
    w.W = n[2];
    w.C = n[3];
    w.H1 = a->y.dim[1];
    w.W1 = a->y.dim[2];
    for (int i = 0; i < 3; i++) {
        w.k[i] = i || t->nd == 5 ? t->dim[t->nd - 3 + i] : 1;
        w.stride[i] = a->stride[i];
        w.pad[i] = a->pad[2 * i];
    }
    long row = w.k[0] * w.k[1] * w.k[2] * w.C;
    ts_operand all[] = {w.x, {w.to, w.x.type, row}};
    int V = ts_vector_of(all, 2, 2);
    return ts_sweep(w, count, row, w.C % V == 0 ? V : 1, s);
}
