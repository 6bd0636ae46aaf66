/* Attention kernels of the CPU: what the driver (attention.c) and the files of one instruction set
 * each share. */
#ifndef TS_CPU_ATTENTION_H
#define TS_CPU_ATTENTION_H
#include "backend/cpu/ref.h"

/* One call as a kernel sees it. Packed keys: per head and block of 64 keys, K [D / ks][64][ks] in
 * panels, V [columns][64 / ks][.][ks] in panels; missing keys are zero. */
typedef struct {
    const ts_attention *a;
    long Nq, Nk, A, D;
    long Dk, Dv;             /* D padded for K (to ks) and for V (to a vector) */
    long nqb, nkb;           /* blocks of queries and keys */
    long npb;                /* blocks of pooled keys, packed behind the others */
    size_t k_block, v_block; /* elements of a packed block */
} ts_attn_job;

/* Rows of memory that will be needed soon: fetched a few at a time between tiles of work, so that
 * the thread that reads or writes them does not wait. */
/* at most: the output's and the next queries' rows, and for each of up to 8 pieces of the next head
 * that a thread packs after an item the rows of K and V and the packed blocks that they go to; what
 * is more is fetched when it is packed */
enum { TS_ATTN_PARTS = 2 + 4 * 8 };
typedef struct {
    struct {
        const char *row;
        size_t step;
        long left;
    } part[TS_ATTN_PARTS];
    int at, parts;
    size_t bytes; /* of a row */
    /* rows a tile; tiles until the first: what is fetched too early is gone again */
    long each, skip;
} ts_attn_ahead;
static inline void ts_attn_ahead_tile(ts_attn_ahead *a)
{
    if (a->skip-- > 0) return;
    for (long i = 0; i < a->each && a->at < a->parts; i++) {
        for (size_t b = 0; b < a->bytes; b += 64) __builtin_prefetch(a->part[a->at].row + b, 0, 2);
        a->part[a->at].row += a->part[a->at].step;
        if (--a->part[a->at].left <= 0) a->at++;
    }
}

/* key blocks that a softmax step takes at most; their logits of a row, padded so that rows do not
 * share lines of the cache */
enum { TS_ATTN_GROUP = 8, TS_ATTN_LINE = TS_ATTN_GROUP * 64 + 16 };

/* What one worker needs beside its stack. */
typedef struct {
    const void *k, *v; /* the packed head: [nkb][block] */
    /* [6][TS_ATTN_LINE] logits, then in their place the weights in the kernel's type */
    float *s;
    void *q;  /* [64][Dk] */
    float *o; /* [64][Dv] */
    /* [nkb][64] of each key block: row sums and the maxima in force, only for block sums */
    float *sum, *max;
    const int *list; /* key blocks to read, ascending; those of pooled keys count from nkb on */
    int n;
    /* [npb][64] of the pooled keys: log of how many each stands for, -inf where it stands for none;
     * NULL: none of them is read */
    const float *stand;
    ts_attn_ahead *ahead;
} ts_attn_work;

typedef struct {
    const char *name;
    int ks; /* elements that one multiply-add takes from a row: 1 f32, 2 bf16 */
    size_t elem;
    long column; /* V columns are padded to this */
    /* bh = batch A + head; v NULL: keys only */
    void (*pack)(const ts_attn_job *, long bh, long block, void *k, void *v);
    void (*item)(const ts_attn_job *, long bh, long qblock, const ts_attn_work *);
    /* Block sums of query block x key block from a known lse: one pass, no V. sums [nkb] */
    void (*cached)(const ts_attn_job *, long bh, long qblock, const ts_attn_work *,
                   const float *lse, float *sums);
    /* What pooled keys weigh in a query block (ts_pool_sums): sums [Nk], and each row's lse unless
     * NULL; `stand` says what each key stands for. Keeps exponentials in w->sum */
    void (*pooled)(const ts_attn_job *, long bh, long qblock, const ts_attn_work *, float *lse,
                   float *sums);
    /* `rounds` x `lanes` multiply-adds that touch no memory: the machine's peak. small [lanes / 6]
     * in the kernel's type, c [lanes / ks] f32 */
    void (*spin)(long rounds, const void *small, float *c);
    long lanes;
    /* Kernels in f32, NULL in others. c [rows][panel] = A [rows][K] B [K][panel], rows even, 4 or
     * more; `to` [columns][64] = the transpose of `from` [64][columns], columns a multiple of
     * panel */
    void (*product)(long rows, long K, const float *A, long lda, const float *B, float *c,
                    long ldc);
    void (*across)(const float *from, long columns, float *to);
    long panel;
} ts_attn_kernel;
extern const ts_attn_kernel ts_attn_avx2, ts_attn_avx512, ts_attn_avx512_bf16;

/* The level's kernel for tensors of a type; NULL: plain C. */
const ts_attn_kernel *ts_attn_kernel_for(const ts_cpu *, ts_dtype);

/* false: no memory */
bool ts_attention_ref(const ts_attention *);
bool ts_block_sums_ref(const ts_block_sums *);
bool ts_pool_sums_ref(const ts_pool_sums *);
/* Is the block of keys read in that block of queries of a head? */
static inline bool ts_plan_reads(const ts_plan *p, long head, long q, long k)
{
    long words = (p->nb + 31) / 32, h = p->A == 1 ? 0 : head;
    return ((const uint32_t *)ts_host_of(p->bits))[(h * p->nb + q) * words + k / 32] >> (k % 32) &
           1;
}
/* Of a head of a call with pooled keys or a rest. */
static inline int ts_form_of(ts_tensor form, long head, ts_rest_form absent)
{
    return ts_there(form) ? ((const int32_t *)ts_host_of(form.p))[head] : (int)absent;
}
static inline long ts_block_rows(long N, long block) /* tokens of a block of N */
{
    return N - block * TS_BLOCK < TS_BLOCK ? N - block * TS_BLOCK : TS_BLOCK;
}
#endif
