/* Linear layers and convolutions: which path a call takes. A product goes straight into y where
 * cuBLASLt can finish it (the tanh form of GELU, or no activation, and no gate: the library was
 * asked to scale rows by one and had no way of doing it); else into scratch as f32, some rows at a
 * time, and the epilogue kernel does the rest with one rounding.
 *
 * A convolution whose shape cuDNN has a plan for goes to cuDNN; any other is a product of the rows
 * that its kernel covers. */
#include "backend/cuda/cuda.h"

enum {
    ALIGN = 256,
    PART = 128 << 20,   /* bytes of f32 results, or of unfolded rows, at a time */
    LARGEST = 256 << 20 /* bytes of workspace that a plan of cuDNN may need */
};

static size_t align_part(size_t n) { return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

/* What scratch is divided into: the library's workspace, unfolded rows of x, results as f32. */
typedef struct {
    long rows; /* of y at a time */
    size_t unfolded, result;
} parts;

static parts divide_scratch(long rows, size_t unfolded, size_t result)
{
    size_t most = unfolded > result ? unfolded : result;
    long fit = most ? (long)(PART / most) : rows;
    parts p = {fit < 1 ? 1 : fit > rows ? rows : fit, 0, 0};
    p.unfolded = align_part(unfolded * (size_t)p.rows);
    p.result = align_part(result * (size_t)p.rows);
    return p;
}

/* The library finishes y = resid + (x W' + b), or y = gelu(x W' + b), by itself. */
static bool is_direct(const ts_linear *a)
{
    if (ts_there(a->gate)) return false;
    return a->act == TS_ACT_NONE || (a->act == TS_ACT_GELU_TANH && !ts_there(a->resid));
}

/* Bytes of the bias as the library adds it, of the type of y; 0: as it is. */
static size_t count_bias(const ts_linear *a)
{
    return a->b && a->y.type != TS_F32 ? align_part((size_t)ts_count(a->b->t) * sizeof(float)) : 0;
}

/* Rows of x, rows of y, which depend on the same rows of the rest. */
typedef struct {
    ts_linear a;
    long first, rows;
    void *workspace, *result;
} piece;

static const float *bias_of(const ts_weight *b) { return b ? ts_cuda_at(b->t.p) : NULL; }

static void *row_address(ts_tensor t, long row)
{
    return ts_cuda_at(ts_at(t.p, (size_t)(row * t.ld) * ts_dtype_size(t.type)));
}

/* bias: where count_bias counts something, else not looked at */
static ts_lt_product direct_product(const ts_linear *a, const void *bias)
{
    long K = a->x.dim[a->x.nd - 1], O = a->y.dim[a->y.nd - 1];
    return (ts_lt_product){.m = O,
                           .n = ts_rows(a->y),
                           .k = K,
                           .a = ts_cuda_at(a->w->t.p),
                           .lda = K,
                           .b = ts_cuda_at(a->x.p),
                           .ldb = a->x.ld,
                           .in = a->x.type,
                           .c = ts_there(a->resid) ? ts_cuda_at(a->resid.p) : NULL,
                           .ldc = a->resid.ld,
                           .d = ts_cuda_at(a->y.p),
                           .ldd = a->y.ld,
                           .out = a->y.type,
                           .bias = count_bias(a) ? bias : bias_of(a->b),
                           .gelu = a->act == TS_ACT_GELU_TANH};
}

static ts_status run_direct(ts_cuda *c, const ts_linear *a, const ts_lt_product *m, void *workspace)
{
    ts_status st = TS_OK;
    if (count_bias(a)) {
        long O = a->b->t.dim[0];
        ts_cuda_epilogue_args e = {
            .t = ts_tensor_of(a->b->t.p, TS_F32, 2, (long[]){1, O}),
            .y = ts_tensor_of((ts_ptr){(uintptr_t)m->bias}, a->y.type, 2, (long[]){1, O})};
        st = ts_cuda_result(c, ts_cuda_epilogue(&e, c->queue), "a bias");
    }
    return st ? st : ts_lt_run(c->lt, c->dev.err, m, workspace, c->queue);
}

static ts_tensor rows_of(ts_tensor t, long first, long rows)
{
    if (!ts_there(t)) return t;
    ts_tensor r = {ts_at(t.p, (size_t)(first * t.ld) * ts_dtype_size(t.type)),
                   t.type,
                   2,
                   {rows, t.dim[t.nd - 1]},
                   t.ld};
    return r;
}

static ts_status run_piece(ts_cuda *c, const piece *p)
{
    const ts_linear *a = &p->a;
    long K = a->x.dim[a->x.nd - 1], O = a->y.dim[a->y.nd - 1];
    ts_lt_product m = {.m = O,
                       .n = p->rows,
                       .k = K,
                       .a = ts_cuda_at(a->w->t.p),
                       .lda = K,
                       .b = row_address(a->x, p->first),
                       .ldb = a->x.ld,
                       .in = a->x.type,
                       .d = p->result,
                       .ldd = O,
                       .out = TS_F32};
    ts_status st = ts_lt_run(c->lt, c->dev.err, &m, p->workspace, c->queue);
    if (st) return st;
    ts_cuda_epilogue_args e = {
        .t = ts_tensor_of((ts_ptr){(uintptr_t)p->result}, TS_F32, 2, (long[]){p->rows, O}),
        .b = bias_of(a->b),
        .act = a->act,
        .gate = a->gate,
        .sel = a->sel,
        .resid = rows_of(a->resid, p->first, p->rows),
        .y = rows_of(a->y, p->first, p->rows)};
    if (ts_there(e.sel)) {
        e.sel.p = ts_at(a->sel.p, (size_t)p->first);
        e.sel.nd = 1;
        e.sel.dim[0] = p->rows;
    }
    return ts_cuda_result(c, ts_cuda_epilogue(&e, c->queue), "finishing a product");
}

ts_status ts_cuda_linear(ts_cuda *c, const ts_linear *a)
{
    ts_status st;
    void *scratch;
    long M = ts_rows(a->x), O = a->y.dim[a->y.nd - 1];
    ts_lt_product m = direct_product(a, (void *)(uintptr_t)ALIGN); /* any place for the bias */
    if (c->dev.counting)
        ts_wish(&c->dev, a->w,
                (ts_form){a->x.type, 0, (size_t)ts_count(a->w->t) * ts_dtype_size(a->x.type)});
    /* without addresses the library can not be asked; what it refuses then is a surprise to the
     * scratch, which grows once */
    bool direct = is_direct(a) && (c->dev.counting || M == 0 || ts_lt_has(c->lt, &m));
    parts p = divide_scratch(M, 0, direct ? 0 : (size_t)O * sizeof(float));
    TRY(ts_cuda_scratch(c, TS_LT_WORKSPACE + p.result + (direct ? count_bias(a) : 0), &scratch));
    if (c->dev.counting || M == 0) goto done;
    if (direct) {
        m = direct_product(a, (char *)scratch + TS_LT_WORKSPACE);
        st = run_direct(c, a, &m, scratch);
        goto done;
    }
    for (long i = 0; i < M; i += p.rows)
        TRY(run_piece(c, &(piece){*a, i, M - i < p.rows ? M - i : p.rows, scratch,
                                  (char *)scratch + TS_LT_WORKSPACE}));
done:
    return st;
}

/* ---- convolutions ---- */
static ts_dnn_shape convolution_shape(const ts_conv *a)
{
    const ts_tensor *w = &a->w->t;
    ts_dnn_shape s = {.type = a->x.type, .C = a->x.dim[3], .O = w->dim[0]};
    for (int i = 0; i < 3; i++) {
        s.x[i] = a->x.dim[i];
        s.y[i] = a->y.dim[i];
        s.kernel[i] = w->nd == 5 ? w->dim[2 + i] : i ? w->dim[1 + i] : 1;
        s.stride[i] = a->stride[i];
        s.before[i] = a->pad[2 * i];
        s.after[i] = a->pad[2 * i + 1];
    }
    return s;
}

/* Every output is the product of one row of x as it lies there. */
static bool takes_one_row(const ts_dnn_shape *s)
{
    for (int i = 0; i < 3; i++)
        if (s->kernel[i] != 1 || s->stride[i] != 1 || s->before[i] || s->after[i]) return false;
    return true;
}

/* As plans are made for it: no gaps, an address that is a multiple of 16 (0 while counting). */
static bool is_plain(ts_tensor t) { return t.ld == t.dim[t.nd - 1] && t.p.at % 16 == 0; }

/* Room for y before bias and residual; y itself where they are absent. */
static ts_status conv_by_library(ts_cuda *c, const ts_conv *a, const ts_dnn_shape *s, size_t work)
{
    bool bare = !a->b && !ts_there(a->resid);
    size_t room = bare ? 0 : (size_t)ts_count(a->y) * ts_dtype_size(a->x.type);
    void *scratch;
    ts_status st = ts_cuda_scratch(c, align_part(work) + room, &scratch);
    if (st || c->dev.counting) return st;
    void *t = bare ? ts_cuda_at(a->y.p) : (char *)scratch + align_part(work);
    st = ts_dnn_conv(c->dnn, c->dev.err, s, ts_cuda_at(a->x.p), ts_cuda_at(a->w->t.p), t, scratch,
                     c->queue);
    if (st || bare) return st;
    ts_cuda_epilogue_args e = {.t = a->y, .b = bias_of(a->b), .resid = a->resid, .y = a->y};
    e.t.p = (ts_ptr){(uintptr_t)t};
    e.t.type = a->x.type;
    e.t.ld = s->O;
    return ts_cuda_result(c, ts_cuda_epilogue(&e, c->queue), "finishing a convolution");
}

/* The convolution as a linear layer of unfolded rows, as many at a time as scratch holds. */
static ts_status conv_by_rows(ts_cuda *c, const ts_conv *a, const ts_dnn_shape *s)
{
    ts_status st;
    void *scratch;
    long K = s->C * s->kernel[0] * s->kernel[1] * s->kernel[2], M = ts_rows(a->y);
    bool unfold = !takes_one_row(s);
    parts p = divide_scratch(M, unfold ? (size_t)K * ts_dtype_size(a->x.type) : 0,
                             (size_t)s->O * sizeof(float));
    TRY(ts_cuda_scratch(c, TS_LT_WORKSPACE + p.unfolded + p.result, &scratch));
    if (c->dev.counting) goto done;
    char *unfolded = (char *)scratch + TS_LT_WORKSPACE;
    for (long i = 0; i < M; i += p.rows) {
        long n = M - i < p.rows ? M - i : p.rows;
        piece q = {{.w = a->w, .b = a->b}, 0, n, scratch, unfolded + p.unfolded};
        if (unfold) {
            TRY(ts_cuda_result(c, ts_cuda_unfold(a, i, n, unfolded, c->queue),
                               "unfolding a convolution"));
            q.a.x = ts_tensor_of((ts_ptr){(uintptr_t)unfolded}, a->x.type, 2, (long[]){n, K});
        } else {
            q.a.x = rows_of(a->x, i, n);
        }
        q.a.y = rows_of(a->y, i, n);
        q.a.resid = rows_of(a->resid, i, n);
        TRY(run_piece(c, &q));
    }
done:
    return st;
}

ts_status ts_cuda_conv(ts_cuda *c, const ts_conv *a)
{
    ts_dnn_shape s = convolution_shape(a);
    size_t work = 0;
    if (c->dev.counting)
        ts_wish(&c->dev, a->w,
                (ts_form){a->x.type, TS_CUDA_TAPS_LAST,
                          (size_t)ts_count(a->w->t) * ts_dtype_size(a->x.type)});
    bool plain = is_plain(a->x) && is_plain(a->y) && a->w->t.p.at % 16 == 0 &&
                 (a->x.type == a->y.type || a->b || ts_there(a->resid));
    if (c->dnn && plain && !takes_one_row(&s) && ts_dnn_plan_conv(c->dnn, &s, LARGEST, &work))
        return conv_by_library(c, a, &s, work);
    return conv_by_rows(c, a, &s);
}

ts_status ts_cuda_peak(ts_cuda *c, ts_dtype type, double *flops)
{
    enum { N = 8192, TIMES = 4 };
    ts_status st;
    cudaEvent_t from = NULL, to = NULL;
    float ms = 0;
    char *m = NULL;
    size_t one = (size_t)N * N * ts_dtype_size(type);
    *flops = 0;
    TRY(ts_cuda_take(c, 3 * one + TS_LT_WORKSPACE, "measuring products", ts_cuda_others,
                     (void **)&m));
    TRY(ts_cuda_result(c, cudaMemsetAsync(m, 0, 2 * one, c->queue), "measuring"));
    TRY(ts_cuda_result(c, cudaEventCreateWithFlags(&from, 0), "measuring"));
    TRY(ts_cuda_result(c, cudaEventCreateWithFlags(&to, 0), "measuring"));
    for (int i = 0; i <= TIMES; i++) { /* once to warm up */
        ts_lt_product p = {.m = N,
                           .n = N,
                           .k = N,
                           .a = m,
                           .lda = N,
                           .b = m + one,
                           .ldb = N,
                           .in = type,
                           .d = m + 2 * one,
                           .ldd = N,
                           .out = type};
        if (i == 1) TRY(ts_cuda_result(c, cudaEventRecord(from, c->queue), "measuring"));
        TRY(ts_lt_run(c->lt, c->dev.err, &p, m + 3 * one, c->queue));
    }
    TRY(ts_cuda_result(c, cudaEventRecord(to, c->queue), "measuring"));
    TRY(ts_cuda_join(&c->dev));
    TRY(ts_cuda_result(c, cudaEventElapsedTime(&ms, from, to), "measuring"));
    if (ms > 0) *flops = 2.0 * N * N * N * TIMES / (ms * 1e-3);
done:
    if (from) cudaEventDestroy(from);
    if (to) cudaEventDestroy(to);
    if (m) cudaFree(m);
    return st;
}
