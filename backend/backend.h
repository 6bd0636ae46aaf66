/* The seam between what tessera computes and where: a device is an ordered queue with one table of
 * operations, named by their mathematics. Nothing above this header knows CPU from GPU; addresses
 * are opaque and are never dereferenced above it.
 *
 * Shapes: N tokens, A heads, D head width, C channels, F H W frames and their grid. Tensors are
 * row-major with channels last. */
#ifndef TS_BACKEND_H
#define TS_BACKEND_H
#include "base.h"

#include <stdbool.h>

/* ---- errors ---- */
typedef struct {
    ts_status code;
    char text[512];
} ts_err;
/* Writes the sentence (what, which, got, wanted) into the slot and returns `code`. */
ts_status ts_fail(ts_err *, ts_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The one macro with control flow: needs a local `ts_status st` and a label `done`. */
#define TRY(call)                              \
    do {                                       \
        if ((st = (call)) != TS_OK) goto done; \
    } while (0)

/* ---- tensors ---- */
typedef enum { TS_F32, TS_BF16, TS_F16, TS_I32, TS_U32, TS_U8, TS_I64, TS_DTYPES } ts_dtype;
size_t ts_dtype_size(ts_dtype);
const char *ts_dtype_name(ts_dtype); /* "F32", ... as safetensors spells them */

typedef struct {
    uint64_t at;
} ts_ptr; /* 0: none */
typedef struct {
    ts_ptr p; /* p.at 0: the tensor is absent */
    ts_dtype type;
    int nd;
    long dim[5];
    /* elements from one row (last dimension) to the next; all other dimensions are packed on it */
    long ld;
} ts_tensor;
ts_tensor ts_tensor_of(ts_ptr, ts_dtype, int nd, const long *dim); /* packed: ld = dim[nd-1] */
/* product of all dimensions but the last */
long ts_rows(ts_tensor);
long ts_count(ts_tensor); /* product of all dimensions */
/* the same elements in another packed shape; ld must allow it */
ts_tensor ts_view(ts_tensor, int nd, const long *dim);
ts_tensor ts_row_range(ts_tensor, long first, long rows); /* rows of a 2-D tensor */
/* a slice of the last dimension */
ts_tensor ts_columns(ts_tensor, long first, long columns);
static inline ts_ptr ts_at(ts_ptr p, size_t bytes) { return (ts_ptr){p.at + bytes}; }
static inline bool ts_there(ts_tensor t) { return t.p.at != 0; }

/* A weight has a stable address for the life of its ts_weights; where its bytes are now is the
 * business of weights/. Vectors (biases, norms, tables of modulation) are always resident f32. A
 * matrix or kernel has its stored shape in `t.dim` whatever its layout: linear [out, in], conv
 * [out, in, kh, kw] or [out, in, kt, kh, kw]. */
typedef struct {
    ts_tensor t; /* p 0: not resident now */
    int layout;  /* what t.p holds: 0 row-major, else a number that the device gave */
    /* written by the counting run: the type (that of x) and layout in which the operation wants it,
     * ... */
    ts_dtype want_type;
    int want_layout;
    size_t want_bytes; /* ... and its size so; 0: no operation has used it */
} ts_weight;

/* ---- attention plans ---- */
enum { TS_BLOCK = 64 }; /* queries and keys to a block */
/* which key blocks each query block reads; const once made. Softmax runs over the kept keys
 * only. */
typedef struct {
    int A, nb; /* A 1: one pattern for all heads */
    /* u32 [A, nb, ceil(nb / 32)], bit j of word j/32: key block j is read; every row reads at least
     * one */
    ts_ptr bits;
    /* of all blocks that are read, as its maker knows it: for accounts, never for results */
    double share;
} ts_plan;
static inline long ts_plan_budget(double keep, long nb) /* key blocks that a row of blocks reads */
{
    long k = (long)(keep * (double)nb + 0.5);
    return k < 1 ? 1 : k > nb ? nb : k;
}
static inline long ts_plan_words(int nb) { return (nb + 31L) / 32; } /* of a row of bits */

/* ---- operations. Optional parts are absent (p 0 or NULL) and always honoured; whether they are
 * fused is the device's business. ---- */
typedef enum {
    TS_ACT_NONE,
    TS_ACT_SILU,
    TS_ACT_GELU,
    TS_ACT_GELU_TANH,
    TS_ACT_QUICK_GELU,
    TS_ACT_RELU
} ts_act;

typedef struct {      /* y = resid + gate * act(x W' + b) */
    ts_tensor x;      /* [M, K] f32 or bf16 */
    ts_weight *w, *b; /* [O, K]; [O] or NULL */
    ts_act act;
    ts_tensor gate;  /* f32 [R, O], absent: 1 */
    ts_tensor sel;   /* u8 [M]: the row of gate for each row of x; absent: row 0 */
    ts_tensor resid; /* [M, O] of the type of y; may be y itself */
    ts_tensor y;     /* [M, O] f32 or bf16 */
} ts_linear;

typedef struct {      /* cross-correlation, as every framework's conv */
    ts_tensor x;      /* [F, H, W, C] f32 or bf16 */
    ts_weight *w, *b; /* [O, C, kt, kh, kw] or [O, C, kh, kw] (kt = 1) */
    int stride[3];    /* t h w */
    int pad[6];       /* zeros before and after: t t h h w w */
    ts_tensor resid;  /* like y, added; may be y itself */
    ts_tensor y;      /* [F', H', W', O] */
} ts_conv;

typedef enum { TS_NORM_LAYER, TS_NORM_RMS, TS_NORM_L2, TS_NORM_GROUP } ts_norm_kind;
/* y = act((n(x) w + b) (1 + scale) + shift), statistics in f32 over the last dimension
 * layer: (x - mean) / sqrt(var + eps); rms: x / sqrt(mean x^2 + eps); l2: x / max(|x|, eps)
 * sqrt(C); group: over [all rows of x] x [C / groups channels] */
typedef struct {
    ts_norm_kind kind;
    int groups;
    float eps;
    ts_tensor x;            /* [..., C] f32 or bf16 */
    ts_weight *w, *b;       /* [C] or NULL */
    ts_tensor scale, shift; /* f32 [R, C] */
    ts_tensor sel;          /* u8 [rows of x]: row of scale and shift; absent: row 0 */
    ts_act act;
    ts_tensor y; /* like x, f32 or bf16; may be x */
} ts_norm;

typedef struct { /* y = act(x) * mul */
    ts_act act;
    ts_tensor x, mul, y; /* [..., C], any of f32 and bf16; mul may be absent; y may be x */
} ts_activate;

/* channels (2j, 2j+1) of every head turn by the angle of their token, in place */
typedef struct {
    /* [N, A, D] f32 or bf16, ld: elements from token to token (heads are packed) */
    ts_tensor x;
    ts_tensor cos, sin; /* f32 [N, D / 2] */
} ts_rope;

typedef struct { /* out = softmax(scale q k' + bias) v */
    /* [B, Nq, A, D], [B, Nk, A, D] twice, [B, Nq, A, D]; all of one type, f32 or bf16; ld: token to
     * token; any D; out may be q */
    ts_tensor q, k, v, out;
    float scale;
    /* f32 [A or 1, Nq or 1, Nk], the same for each of B (relative positions, log of a
     * multiplicity) */
    ts_tensor bias;
    const int *nk;              /* host [B]: keys from nk[b] on are masked; NULL: none */
    const ts_plan *const *plan; /* [B] or NULL: dense. Needs Nq = Nk, no bias */
    ts_tensor lse; /* f32 [B, A, Nq] out, log sum exp of the scaled logits; may be absent */
    /* f32 [B, A, nb, nb] out: sum over a tile of exp(s - lse[row]), with the dense output; may be
     * absent */
    ts_tensor sums;
} ts_attention;

/* sums[p][j] = sum over the tile (query block p, key block j) of exp(scale q k' - lse[row]): one
 * pass, no values. Exponents are clamped to 115 ln 2, below overflow */
typedef struct {
    ts_tensor q, k; /* [B, N, A, D], f32 or bf16; ld: token to token */
    float scale;
    ts_tensor lse;  /* f32 [B, A, N]: of these rows at another time */
    ts_tensor sums; /* f32 [B, A, nb, nb] out */
} ts_block_sums;

typedef struct {      /* scores[p][j] = mean of block p's queries . mean of block j's keys */
    ts_tensor q, k;   /* [B, N, A, D], f32 or bf16; ld: token to token */
    ts_tensor scores; /* f32 [B, A, nb, nb] out */
} ts_block_means;

/* a plan from scores: in every row of blocks the budget's (ts_plan_budget) largest, the lower block
 * first among equals */
typedef struct {
    ts_tensor scores; /* f32 [A, nb, nb] */
    double keep;      /* k of every head, in (0, 1] */
    bool diagonal;    /* the block itself is one of its row's budget */
    /* heads whose rows lose little give to those that lose much (arXiv 2502.21079, 3.3). Recall of
     * a head: mean over its rows of kept / all scores at `keep`; n = heads above 0.8, at most A /
     * 2; high = min(1, 1.5 keep): the n best have 2 keep - high, the n worst high */
    bool adaptive;
    ts_plan plan; /* bits [A, nb, ..] out */
    /* f32 [3, A] out: recall at `keep`, recall of the plan, blocks kept in all; may be absent */
    ts_tensor stat;
} ts_topk;

/* dst[sum i_d ds_d] = cast(src[sum i_d ss_d]): patches, transposes, repeats (ss 0), joins, casts */
typedef struct {
    ts_ptr src, dst;
    ts_dtype stype, dtype;
    int nd;
    long dim[8], ss[8], ds[8]; /* elements */
} ts_copy;

typedef struct {         /* y[i] = x[ids[i]] */
    ts_tensor x, ids, y; /* [V, C], i32 [n], [n, C] */
} ts_gather;

typedef struct { /* y = sum c_i x_i in f32; y may be one of them */
    int n;
    float c[8];
    ts_tensor x[8], y; /* of equal count, f32 or bf16 */
} ts_lincomb;

/* parameter-free shortcuts of the Wan 2.2 VAE, added to y
 * expand (DupUp3D): y[ft f + a - drop, fs i + b, fs j + d, o] += x[f, i, j, ((o ft + a) fs^2 + b fs
 * + d) / r], r = O ft fs^2 / C reduce (AvgDown3D): y[f, i, j, o] += mean over g = C ft fs^2 / O of
 * the unshuffled channels ((c ft + a) fs + b) fs + d; `drop` zero frames stand before x */
typedef struct {
    bool reduce;
    int ft, fs, drop;
    ts_tensor x, y; /* [F, H, W, C], [F', H', W', O]; f32 or bf16 */
} ts_resample;

/* A host tensor: bytes in memory that the caller or a mapped file owns. */
typedef struct {
    const void *data;
    ts_dtype type;
    int nd;
    long dim[5];
} ts_host;

typedef struct ts_device ts_device;
typedef struct {
    ts_status (*alloc)(ts_device *, size_t bytes, ts_ptr *); /* TS_EMEMORY names the size */
    void (*free)(ts_device *, ts_ptr);
    /* the address of host bytes, used in place; 0: this device can not */
    ts_ptr (*adopt)(ts_device *, const void *host, size_t bytes);
    ts_status (*upload)(ts_device *, ts_ptr, const void *host, size_t bytes);
    ts_status (*download)(ts_device *, void *host, ts_ptr, size_t bytes); /* joins */
    ts_status (*join)(ts_device *);
    /* stored -> want_type, want_layout in want_bytes at `at`; sets t.p, t.type, layout */
    ts_status (*pack)(ts_device *, const ts_host *from, ts_weight *to, ts_ptr at);
    ts_status (*zero)(ts_device *, ts_ptr, size_t bytes);
    ts_status (*copy)(ts_device *, const ts_copy *);
    ts_status (*gather)(ts_device *, const ts_gather *);
    ts_status (*linear)(ts_device *, const ts_linear *);
    ts_status (*conv)(ts_device *, const ts_conv *);
    ts_status (*norm)(ts_device *, const ts_norm *);
    ts_status (*activate)(ts_device *, const ts_activate *);
    ts_status (*rope)(ts_device *, const ts_rope *);
    ts_status (*attention)(ts_device *, const ts_attention *);
    ts_status (*block_sums)(ts_device *, const ts_block_sums *);
    ts_status (*block_means)(ts_device *, const ts_block_means *);
    ts_status (*topk)(ts_device *, const ts_topk *);
    /* measures what multiply-adds of f32 or bf16 reach on all threads when nothing is loaded, a
     * second; 0: it has no such kernel */
    ts_status (*peak)(ts_device *, ts_dtype, double *flops);
    ts_status (*lincomb)(ts_device *, const ts_lincomb *);
    ts_status (*resample)(ts_device *, const ts_resample *);
    /* remembers the first tag (> 0) whose tensor holds NaN or infinity */
    ts_status (*check)(ts_device *, ts_tensor, int tag);
    ts_status (*checked)(ts_device *, int *tag); /* joins; 0: all were finite; forgets */
    void (*close)(ts_device *);
} ts_ops;

struct ts_device { /* the head of every device; what follows is its own */
    const ts_ops *ops;
    ts_err *err; /* the context's slot */
    const ts_env *env;
    /* operations check shapes, make their primitives, take maxima of scratch, choose weight
     * layouts, and compute nothing */
    bool counting;
    bool has_bf16;     /* bf16 arithmetic is native */
    const char *name;  /* "cpu", ... */
    const char *level; /* CPU level in use: "ref", "avx2", "avx512", "avx512_bf16" */
    int threads;
    /* seconds that attention has spent so far on laying out keys and values for its kernel, of all
     * threads together */
    double packing;
};

/* Calls read `ts_linear_op(dev, (ts_linear){.x = ...})`. Each returns TS_EDEVICE or TS_ESHAPE with
 * a sentence. */
static inline ts_status ts_linear_op(ts_device *d, ts_linear a) { return d->ops->linear(d, &a); }
static inline ts_status ts_conv_op(ts_device *d, ts_conv a) { return d->ops->conv(d, &a); }
static inline ts_status ts_norm_op(ts_device *d, ts_norm a) { return d->ops->norm(d, &a); }
static inline ts_status ts_activate_op(ts_device *d, ts_activate a)
{
    return d->ops->activate(d, &a);
}
static inline ts_status ts_rope_op(ts_device *d, ts_rope a) { return d->ops->rope(d, &a); }
static inline ts_status ts_attention_op(ts_device *d, ts_attention a)
{
    return d->ops->attention(d, &a);
}
static inline ts_status ts_block_sums_op(ts_device *d, ts_block_sums a)
{
    return d->ops->block_sums(d, &a);
}
static inline ts_status ts_block_means_op(ts_device *d, ts_block_means a)
{
    return d->ops->block_means(d, &a);
}
static inline ts_status ts_topk_op(ts_device *d, ts_topk a) { return d->ops->topk(d, &a); }
static inline ts_status ts_copy_op(ts_device *d, ts_copy a) { return d->ops->copy(d, &a); }
static inline ts_status ts_gather_op(ts_device *d, ts_gather a) { return d->ops->gather(d, &a); }
static inline ts_status ts_lincomb_op(ts_device *d, ts_lincomb a) { return d->ops->lincomb(d, &a); }
static inline ts_status ts_resample_op(ts_device *d, ts_resample a)
{
    return d->ops->resample(d, &a);
}
/* same shape, any types and ld: one copy */
ts_status ts_cast(ts_device *, ts_tensor from, ts_tensor to);

/* ---- devices ---- */
typedef struct {
    int threads; /* 0: as many as the machine and its cgroup allow */
    /* NULL: the best there is, else "ref", "avx2", "avx512", "avx512_bf16": the highest that may be
     * used */
    const char *level;
} ts_cpu_options;
ts_status ts_cpu_open(ts_cpu_options, const ts_env *, ts_err *, ts_device **);
void ts_device_close(ts_device *);            /* NULL is legal */
void ts_cpu_versions(char *out, size_t size); /* libraries of the CPU device */
/* bytes this process may use: the machine's, or less by its cgroup */
size_t ts_cpu_memory(void);

typedef struct ts_ctx ts_ctx; /* below */

/* ---- arena: a phase's memory, taken in order, given back in reverse, sized by running the phase
 * on a counting device ---- */
typedef struct {
    ts_device *dev;
    ts_ptr base;
    size_t size, used, peak;
} ts_arena;
/* a counting device needs no size: any amount can be taken, `peak` is the answer */
ts_status ts_arena_open(ts_arena *, ts_device *, size_t size);
void ts_arena_close(ts_arena *);
/* 256-byte aligned, not cleared; running out is our own mistake: assert */
ts_tensor ts_take(ts_arena *, ts_dtype, int nd, const long *dim);
/* nd, dim of ts_take, ts_view, ts_tensor_of */
#define TS_DIM(...) \
    (int)(sizeof((long[]){__VA_ARGS__}) / sizeof(long)), (long[]) { __VA_ARGS__ }
static inline size_t ts_mark(const ts_arena *a) { return a->used; }
static inline void ts_release(ts_arena *a, size_t mark) { a->used = mark; }

/* What `phase` takes from the context's arena, by running it on the counting device. The device
 * counts no more when it returns, whatever it returns. */
ts_status ts_count_phase(ts_ctx *, ts_status (*phase)(ts_ctx *, void *user), void *user,
                         size_t *bytes);

/* ---- profile: the same operations, timed. Wraps a device; closing it closes the wrapped one.
 * ---- */
typedef enum {
    TS_TIME_LINEAR,
    TS_TIME_CONV,
    TS_TIME_ATTENTION,
    TS_TIME_SEARCH,
    TS_TIME_NORM,
    TS_TIME_ROPE,
    TS_TIME_COPY,
    TS_TIME_OTHER,
    TS_TIMES
} ts_time;
typedef struct {
    double seconds[TS_TIMES], flops[TS_TIMES];
    long calls[TS_TIMES];
} ts_profile;
ts_status ts_profile_open(ts_device *inner, ts_device **);
/* zeros for a device that is not a profile */
ts_status ts_profile_read(ts_device *, ts_profile *, bool reset);
const char *ts_time_name(ts_time);
double ts_seconds(void); /* a clock that only goes forward */

/* ---- the context: one run at a time on one device. Internal; tessera.h shows it as opaque.
 * ---- */
struct ts_ctx {
    ts_err err;
    ts_env env;
    ts_device *dev;
    ts_arena arena; /* the phase's */
    ts_dtype act;   /* activations of transformers and text encoders: TS_F32 or TS_BF16 */
    size_t memory;  /* bytes that may be used */
    const char *default_model, *hub; /* paths, may be NULL */
    /* tests: sees activations of the first evaluation of each branch; NULL */
    ts_status (*tap)(void *user, const char *name, ts_tensor);
    void *tap_user;
    bool owns_dev;
};
void ts_warn(const ts_ctx *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ts_progress(const ts_ctx *, ts_event);
ts_status ts_stopped(ts_ctx *); /* TS_ESTOP once stop was asked for */
#endif
