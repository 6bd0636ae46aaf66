/* The CPU device: opening, memory, and the checks that stand before every operation. On a counting device an operation ends after its checks. */
#include "backend/cpu/limits.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/ref.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static ts_cpu *cpu_of(ts_device *d) { return (ts_cpu *)d; }
static ts_status misfit(ts_device *d, const char *op, const char *what) { return ts_fail(d->err, TS_ESHAPE, "%s: %s", op, what); }
#define NEED(op, ok) do { if (!(ok)) return misfit(d, op, "wrong shape or type, expected " #ok); } while (0)

static bool is_float(ts_tensor t) { return t.type == TS_F32 || t.type == TS_BF16; }
static long width(ts_tensor t) { return t.nd ? t.dim[t.nd - 1] : 1; }
static bool same(ts_tensor a, ts_tensor b) { return ts_rows(a) == ts_rows(b) && width(a) == width(b); }
static bool vector_fits(const ts_weight *w, long n) { return !w || (w->t.type == TS_F32 && ts_count(w->t) == n); }
static bool table_fits(ts_tensor t, ts_tensor sel, long rows, long n)
{
    return !ts_there(t) || (t.type == TS_F32 && width(t) == n && (!ts_there(sel) || (sel.type == TS_U8 && ts_count(sel) == rows)));
}

/* ---- memory ---- */
static ts_status alloc(ts_device *d, size_t bytes, ts_ptr *p)
{
    void *m = NULL;
    if (posix_memalign(&m, 4096, bytes ? bytes : 1)) return ts_fail(d->err, TS_EMEMORY, "no memory for %.1f MB", (double)bytes / 1e6);
    p->at = (uintptr_t)m;
    return TS_OK;
}

static void release(ts_device *d, ts_ptr p)
{
    (void)d;
    free(ts_host_of(p));
}

static ts_ptr adopt(ts_device *d, const void *host, size_t bytes)
{
    (void)d, (void)bytes;
    return (ts_ptr){(uintptr_t)host};
}

static ts_status upload(ts_device *d, ts_ptr p, const void *host, size_t bytes)
{
    if (!d->counting) memcpy(ts_host_of(p), host, bytes);
    return TS_OK;
}

static ts_status download(ts_device *d, void *host, ts_ptr p, size_t bytes)
{
    if (d->counting) memset(host, 0, bytes);
    else memcpy(host, ts_host_of(p), bytes);
    return TS_OK;
}

static ts_status join(ts_device *d)
{
    (void)d;
    return TS_OK;
}

static ts_status zero(ts_device *d, ts_ptr p, size_t bytes)
{
    if (!d->counting) memset(ts_host_of(p), 0, bytes);
    return TS_OK;
}

ts_status ts_cpu_scratch(ts_cpu *c, size_t bytes, void **out)
{
    *out = NULL;
    if (bytes > c->scratch_want) c->scratch_want = bytes;
    if (c->dev.counting) return TS_OK;
    if (c->scratch_want > c->scratch_size) {
        free(c->scratch);
        c->scratch = NULL, c->scratch_size = 0;
        if (posix_memalign(&c->scratch, ALIGN, c->scratch_want))
            return ts_fail(c->dev.err, TS_EMEMORY, "no memory for %.1f MB of scratch", (double)c->scratch_want / 1e6);
        c->scratch_size = c->scratch_want;
    }
    *out = c->scratch;
    return TS_OK;
}

/* ---- operations ---- */
static void want(ts_weight *w, ts_dtype type)
{
    w->want_type = type, w->want_layout = 0, w->want_bytes = (size_t)ts_count(w->t) * ts_dtype_size(type);
}

/* oneDNN has no plain C path and no bf16 without the instructions. */
static bool by_onednn(const ts_cpu *c, ts_dtype x) { return c->dnnl && (x == TS_F32 || c->dev.has_bf16); }

static ts_status pack(ts_device *d, const ts_host *from, ts_weight *to, ts_ptr at)
{
    if (cpu_of(d)->dnnl) return ts_onednn_pack(cpu_of(d), from, to, at);
    ts_pack_ref(from, to->want_type, ts_host_of(at));
    to->t.p = at, to->t.type = to->want_type, to->layout = to->want_layout;
    return TS_OK;
}

static ts_status linear(ts_device *d, const ts_linear *a)
{
    long M = ts_rows(a->x), K = width(a->x), O = a->w->t.dim[0];
    NEED("linear", is_float(a->x) && is_float(a->y));
    if (ts_count(a->w->t) != O * K) return ts_fail(d->err, TS_ESHAPE, "linear: rows of %ld, the weight takes %ld", K, ts_count(a->w->t) / O);
    NEED("linear", ts_rows(a->y) == M && width(a->y) == O);
    NEED("linear", vector_fits(a->b, O) && table_fits(a->gate, a->sel, M, O));
    NEED("linear", !ts_there(a->resid) || (same(a->resid, a->y) && a->resid.type == a->y.type));
    if (!d->counting && (!ts_there(a->w->t) || a->w->t.type != a->x.type))
        return ts_fail(d->err, TS_EDEVICE, "linear: the weight is not resident as %s", ts_dtype_name(a->x.type));
    if (by_onednn(cpu_of(d), a->x.type)) return ts_onednn_linear(cpu_of(d), a);
    if (d->counting) {
        want(a->w, a->x.type);
        return TS_OK;
    }
    ts_linear_ref(a);
    return TS_OK;
}

static long out_size(long in, int before, int after, long kernel, int stride) { return (in + before + after - kernel) / stride + 1; }

static ts_status conv(ts_device *d, const ts_conv *a)
{
    const ts_tensor *w = &a->w->t;
    NEED("conv", is_float(a->x) && is_float(a->y) && a->x.nd == 4 && a->y.nd == 4 && (w->nd == 4 || w->nd == 5));
    long k[3] = {w->nd == 5 ? w->dim[2] : 1, w->dim[w->nd - 2], w->dim[w->nd - 1]};
    if (w->dim[1] != a->x.dim[3]) return ts_fail(d->err, TS_ESHAPE, "conv: %ld channels, the kernel takes %ld", a->x.dim[3], w->dim[1]);
    for (int i = 0; i < 3; i++) {
        long n = out_size(a->x.dim[i], a->pad[2 * i], a->pad[2 * i + 1], k[i], a->stride[i]);
        if (n != a->y.dim[i]) return ts_fail(d->err, TS_ESHAPE, "conv: %ld along axis %d, expected %ld", a->y.dim[i], i, n);
    }
    NEED("conv", a->y.dim[3] == w->dim[0] && vector_fits(a->b, w->dim[0]));
    NEED("conv", !ts_there(a->resid) || (same(a->resid, a->y) && a->resid.type == a->y.type));
    if (!d->counting && (!ts_there(a->w->t) || a->w->t.type != a->x.type))
        return ts_fail(d->err, TS_EDEVICE, "conv: the weight is not resident as %s", ts_dtype_name(a->x.type));
    if (by_onednn(cpu_of(d), a->x.type)) return ts_onednn_conv(cpu_of(d), a);
    if (d->counting) {
        want(a->w, a->x.type);
        return TS_OK;
    }
    ts_conv_ref(a);
    return TS_OK;
}

static ts_status norm(ts_device *d, const ts_norm *a)
{
    long rows = ts_rows(a->x), C = width(a->x);
    NEED("norm", is_float(a->x) && is_float(a->y) && same(a->x, a->y));
    NEED("norm", vector_fits(a->w, C) && vector_fits(a->b, C) && table_fits(a->scale, a->sel, rows, C) && table_fits(a->shift, a->sel, rows, C));
    NEED("norm", a->kind != TS_NORM_GROUP || (a->groups > 0 && C % a->groups == 0));
    void *scratch;
    ts_status st = ts_cpu_scratch(cpu_of(d), ts_norm_scratch(a), &scratch);
    if (!st && !d->counting) cpu_of(d)->run.norm(a, scratch);
    return st;
}

static ts_status activate(ts_device *d, const ts_activate *a)
{
    NEED("activate", is_float(a->x) && is_float(a->y) && same(a->x, a->y));
    NEED("activate", !ts_there(a->mul) || (is_float(a->mul) && same(a->mul, a->x)));
    if (!d->counting) cpu_of(d)->run.activate(a);
    return TS_OK;
}

static ts_status rope(ts_device *d, const ts_rope *a)
{
    NEED("rope", is_float(a->x) && a->x.nd == 3 && a->x.dim[2] % 2 == 0);
    NEED("rope", a->cos.type == TS_F32 && a->sin.type == TS_F32 && ts_rows(a->cos) == a->x.dim[0] && width(a->cos) == a->x.dim[2] / 2 && same(a->cos, a->sin));
    if (!d->counting) cpu_of(d)->run.rope(a);
    return TS_OK;
}

static bool is_any_float(ts_dtype t) { return t == TS_F32 || t == TS_BF16 || t == TS_F16; }

static ts_status copy(ts_device *d, const ts_copy *a)
{
    NEED("copy", a->nd >= 0 && a->nd <= 8);
    NEED("copy", a->stype == a->dtype || (is_any_float(a->stype) && is_any_float(a->dtype)));
    if (!d->counting) cpu_of(d)->run.copy(a);
    return TS_OK;
}

static ts_status gather(ts_device *d, const ts_gather *a)
{
    NEED("gather", a->x.nd == 2 && a->ids.type == TS_I32 && ts_rows(a->y) == ts_count(a->ids) && width(a->y) == a->x.dim[1]);
    NEED("gather", is_any_float(a->x.type) && is_any_float(a->y.type));
    if (!d->counting) cpu_of(d)->run.gather(a);
    return TS_OK;
}

static ts_status lincomb(ts_device *d, const ts_lincomb *a)
{
    NEED("lincomb", a->n >= 1 && a->n <= 8 && is_float(a->y));
    for (int i = 0; i < a->n; i++) NEED("lincomb", is_float(a->x[i]) && ts_count(a->x[i]) == ts_count(a->y));
    if (!d->counting) cpu_of(d)->run.lincomb(a);
    return TS_OK;
}

static ts_status resample(ts_device *d, const ts_resample *a)
{
    const long *x = a->x.dim, *y = a->y.dim, ft = a->ft, fs = a->fs;
    NEED("resample", is_float(a->x) && is_float(a->y) && a->x.nd == 4 && a->y.nd == 4 && ft >= 1 && fs >= 1 && a->drop >= 0 && a->drop < ft);
    if (a->reduce) NEED("resample", (x[0] + a->drop) == y[0] * ft && x[1] == y[1] * fs && x[2] == y[2] * fs && x[3] * ft * fs * fs % y[3] == 0);
    else NEED("resample", y[0] == x[0] * ft - a->drop && y[1] == x[1] * fs && y[2] == x[2] * fs && y[3] * ft * fs * fs % x[3] == 0);
    void *scratch;
    ts_status st = ts_cpu_scratch(cpu_of(d), ts_resample_scratch(a), &scratch);
    if (!st && !d->counting) cpu_of(d)->run.resample(a, scratch);
    return st;
}

static ts_status check(ts_device *d, ts_tensor t, int tag)
{
    ts_cpu *c = cpu_of(d);
    NEED("check", is_float(t) && tag > 0);
    if (!d->counting && !c->bad_tag && !c->run.finite(t)) c->bad_tag = tag;
    return TS_OK;
}

static ts_status checked(ts_device *d, int *tag)
{
    *tag = cpu_of(d)->bad_tag;
    cpu_of(d)->bad_tag = 0;
    return TS_OK;
}

static void shut(ts_device *d)
{
    ts_onednn_close(cpu_of(d));
    free(cpu_of(d)->scratch);
    free(d);
}

static const ts_ops ops = {.alloc = alloc, .free = release, .adopt = adopt, .upload = upload, .download = download, .join = join, .pack = pack, .zero = zero, .copy = copy,
                           .gather = gather, .linear = linear, .conv = conv, .norm = norm, .activate = activate, .rope = rope, .attention = ts_cpu_attention,
                           .lincomb = lincomb, .resample = resample, .check = check, .checked = checked, .close = shut};

void ts_cpu_versions(char *out, size_t size)
{
    ts_onednn_version(out, size);
}

/* ---- opening ---- */
static const char *const levels[] = {"ref", "avx2", "avx512", "avx512_bf16"};

static ts_level best(void)
{
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx512 && __builtin_cpu_supports("avx512bf16") ? TS_LEVEL_AVX512_BF16 : avx512 ? TS_LEVEL_AVX512 : avx2 ? TS_LEVEL_AVX2 : TS_LEVEL_REF;
}

static ts_status choose_level(const char *name, ts_err *err, ts_level *out)
{
    ts_level most = best();
    *out = most;
    if (!name) return TS_OK;
    for (int i = 0; i <= TS_LEVEL_AVX512_BF16; i++)
        if (!strcmp(name, levels[i])) {
            if (i > (int)most) return ts_fail(err, TS_EUSAGE, "CPU level %s: this machine has at most %s", name, levels[most]);
            *out = (ts_level)i;
            return TS_OK;
        }
    return ts_fail(err, TS_EUSAGE, "CPU level %s: must be ref, avx2, avx512 or avx512_bf16", name);
}

ts_status ts_cpu_open(ts_cpu_options o, const ts_env *env, ts_err *err, ts_device **out)
{
    ts_level level;
    *out = NULL;
    ts_status st = choose_level(o.level, err, &level);
    if (st) return st;
    ts_cpu *c = calloc(1, sizeof *c);
    if (!c) return ts_fail(err, TS_EMEMORY, "no memory for a device");
    c->level = level;
    c->threads = o.threads > 0 ? o.threads : ts_cpu_threads();
    omp_set_num_threads(c->threads);
    c->dev = (ts_device){.ops = &ops, .err = err, .env = env, .has_bf16 = level == TS_LEVEL_AVX512_BF16, .name = "cpu", .level = levels[level], .threads = c->threads};
    ts_simd_init(&c->run, level);
    if (level != TS_LEVEL_REF) st = ts_onednn_open(c);
    if (st) shut(&c->dev);
    else *out = &c->dev;
    return st;
}
