/* The operations of the seam, named by their mathematics: argument structs with optional parts. */
#ifndef TS_OPS_H
#define TS_OPS_H
#include "backend/tensor.h"

/* ---- attention plans ---- */
enum { TS_BLOCK = 64 }; /* queries and keys to a block */
/* Which key blocks each query block reads; const once made. Softmax runs over the kept keys
 * only. */
typedef struct {
    int A, nb; /* A 1: one pattern for all heads */
    /* u32 [A, nb, ceil(nb / 32)], bit j of word j/32: key block j is read; every row reads at least
     * one */
    ts_ptr bits;
    /* of all blocks that are read, as its maker knows it: for records and counters, never for
     * results */
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

typedef struct {            /* y = resid + gate * act(x W' + b) */
    ts_tensor x;            /* [M, K] f32 or bf16 */
    const ts_weight *w, *b; /* [O, K]; [O] or NULL */
    ts_act act;
    ts_tensor gate;  /* f32 [R, O], absent: 1 */
    ts_tensor sel;   /* u8 [M]: the row of gate for each row of x; absent: row 0 */
    ts_tensor resid; /* [M, O] of the type of y; may be y itself */
    ts_tensor y;     /* [M, O] f32 or bf16 */
} ts_linear;

typedef struct {            /* cross-correlation, as every framework's conv */
    ts_tensor x;            /* [F, H, W, C] f32 or bf16 */
    const ts_weight *w, *b; /* [O, C, kt, kh, kw] or [O, C, kh, kw] (kt = 1) */
    int stride[3];          /* t h w */
    int pad[6];             /* zeros before and after: t t h h w w */
    ts_tensor resid;        /* like y, added; may be y itself */
    ts_tensor y;            /* [F', H', W', O] */
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
    const ts_weight *w, *b; /* [C] or NULL */
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

/* What stands for the blocks that a plan leaves out. Softmax over the kept keys alone renormalises
 * what is dropped. As `mean` a dropped block of n keys is n keys at their mean, with the mean of
 * its values; as `linear` the values change with the query as they do to first order around that
 * mean (ts_rest_linear) */
typedef enum { TS_REST_NONE, TS_REST_MEAN, TS_REST_LINEAR } ts_rest_form;

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
    /* f32 [B, nb, A, D] of ts_pool: with a plan, what it leaves out takes part as its means, one
     * key of logit z = scale q . pooled_k + log n a block of n keys; lse counts it. Absent: nothing
     */
    ts_tensor pooled_k, pooled_v;
    ts_tensor form; /* i32 [A], a ts_rest_form a head, of which 0 is none; absent: all take means */
    int every; /* computes query blocks 0, every, 2 every, .. and writes no other rows; 0: all */
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

typedef struct {    /* y[b, j, h] = mean of x over the tokens of block j */
    ts_tensor x, y; /* [B, N, A, D] f32 or bf16, ld: token to token; f32 [B, nb, A, D], packed */
} ts_pool;

/* What the pooled key of a block weighs among all of them: sums[p][j] = sum over the rows r of
 * query block p of exp(z - lse[r]), z = scale q . k[j] + log of the tokens of block j, lse[r] = log
 * of the sum of exp(z) over j. A row of sums adds up to the rows of its block */
typedef struct {
    ts_tensor q, k; /* [B, N, A, D] f32 or bf16, ld: token to token; f32 [B, nb, A, D] of ts_pool */
    float scale;
    ts_tensor lse;  /* f32 [B, A, N] out; may be absent */
    ts_tensor sums; /* f32 [B, A, nb, nb] out */
} ts_pool_sums;

/* The first-order part of TS_REST_LINEAR: out[r] += exp(min(own[r] - lse[r], 0)) q[r] M_p for the
 * rows r of query block p of heads of that form, M_p = sum over the blocks j that the plan leaves
 * out of sums[p][j] / rows of p x C_j, C_j = scale x mean over block j of (k - mean k)' (v - mean
 * v), [D, D]: rows of a block differ in what the rest weighs, not in how that is shared out among
 * blocks */
typedef struct {
    ts_tensor q, k, v, out;       /* [1, N, A, D] of one type, f32 or bf16; ld: token to token */
    ts_tensor pooled_k, pooled_v; /* f32 [1, nb, A, D] */
    float scale;
    ts_tensor sums, own; /* f32 [1, A, nb, nb] and [1, A, N]: sums and lse of ts_pool_sums */
    ts_tensor lse;       /* f32 [1, A, N] of the call, which counts the means */
    ts_plan plan;
    ts_tensor form; /* i32 [A]; absent: all heads */
    int every;      /* for rows of query blocks 0, every, 2 every, .. alone; 0: all */
} ts_rest_linear;

/* error[h] = sum of (x - of)^2 over the rows of query blocks 0, every, 2 every, .. of head h */
typedef struct {
    ts_tensor x, of; /* [1, N, A, D] of one type, f32 or bf16; ld: token to token */
    int every;       /* 0: all blocks */
    ts_tensor error; /* f32 [A] out */
} ts_head_errors;

/* choice[h] = the candidate of least error[.][h], the lower one among equals, where that is less
 * than error[0][h] / margin, else 0 */
typedef struct {
    ts_tensor error;  /* f32 [n, A] */
    float margin;     /* at least 1 */
    ts_tensor choice; /* i32 [A] out */
    ts_tensor stat;   /* f32 [A] out, the same numbers; may be absent */
} ts_choose;

/* a plan from scores: in every row of blocks the budget's (ts_plan_budget) largest, the lower block
 * first among equals */
typedef struct {
    ts_tensor scores; /* f32 [A, nb, nb] */
    /* the first nv blocks choose among themselves, with a budget of nv; blocks from nv on are read
     * by every row and read everything. 0: all nb */
    int nv;
    double keep; /* k of every head, in (0, 1] */
    /* in (0, 1): instead of keep's budget a row has the fewest blocks, the largest first, whose
     * scores (at least 0) with the block itself, where `diagonal`, and blocks from nv on add up to
     * this share of its nb scores; at least one of the nv. Counted in whole 2^-40ths of the power
     * of two above the row's largest, so that every device counts alike. 1: all. 0: by keep */
    double mass;
    bool diagonal; /* the block itself is one of its row's budget */
    /* heads whose rows lose little give to those that lose much (arXiv 2502.21079, 3.3). Recall of
     * a head: mean over its first nv rows of the scores read / all nb scores, at `keep`; n = heads
     * above 0.8, at most A / 2; high = min(1, 1.5 keep): the n best have 2 keep - high, the n worst
     * high */
    bool adaptive;
    /* i32 [A]: heads h with who[h] = which alone are chosen for, others keep bits and stat as they
     * are; absent: all. Not with `adaptive` */
    ts_tensor who;
    int which;
    ts_tensor weights; /* f32 [A, nb, nb]: recalls in stat are shares of these; absent: of scores */
    ts_plan plan;      /* bits [A, nb, ..] out */
    /* f32 [3, A] out: recall at `keep`, recall of the plan, blocks kept of the nv x nv; may be
     * absent */
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

/* y[i, j] = standard normal number first + i rows + j columns of a stream of the seed (ts_normals):
 * whatever the order of y in memory, a number belongs to its place in the clip */
typedef struct {
    uint64_t seed, first;
    uint32_t stream;
    long rows, columns; /* in the stream, from row to row and from column to column of y; >= 0 */
    ts_tensor y;        /* [..., C] f32 */
} ts_randn;

typedef struct { /* y = sum c_i x_i in f32; y may be one of them */
    int n;
    float c[8];
    ts_tensor x[8], y; /* of equal count, f32 or bf16 */
} ts_lincomb;

/* An operand with steps of its own: element (i0, i1, ..) is sum i_d step_d elements from p; a step
 * of 0 repeats */
typedef struct {
    ts_ptr p; /* 0: absent */
    ts_dtype type;
    long step[6];
} ts_strided;

/* y = min(max(x s + b, low), high) in f32, the product rounded before the sum, so that every device
 * gives the same bits: latents scaled by channel, seams blended along a ramp, pixels in 0..1 */
typedef struct {
    int nd;
    long dim[6];
    ts_strided x, y; /* f32 or bf16; y may be x, with the same steps */
    /* f32 or bf16; absent: the numbers `scale` and `shift`; b may be y, with the same steps */
    ts_strided s, b;
    float scale, shift;
    float low, high; /* equal: no limits. NaN passes */
} ts_affine;

/* parameter-free shortcuts of the Wan 2.2 VAE, added to y
 * expand (DupUp3D): y[ft f + a - drop, fs i + b, fs j + d, o] += x[f, i, j, ((o ft + a) fs^2 + b fs
 * + d) / r], r = O ft fs^2 / C reduce (AvgDown3D): y[f, i, j, o] += mean over g = C ft fs^2 / O of
 * the unshuffled channels ((c ft + a) fs + b) fs + d; `drop` zero frames stand before x */
typedef struct {
    bool reduce;
    int ft, fs, drop;
    ts_tensor x, y; /* [F, H, W, C], [F', H', W', O]; f32 or bf16 */
} ts_resample;
#endif
