/* Benchmarks: what the machine, the kernels, a policy and a model reach. For tools; names, rows and
 * their meaning may change with any version, unlike those of tessera.h. */
#ifndef TESSERA_BENCH_H
#define TESSERA_BENCH_H
#include "sampler/tessera.h"

#ifdef __cplusplus
extern "C" {
#endif

/* what one large matrix product reaches now, in the context's precision, FLOP/s; takes a second or
 * so; 0: could not be measured */
TS_API double ts_matmul_peak(ts_ctx *);

/* How near clips are, in 8-bit samples: mean squared error; its PSNR in dB (infinite: equal); mean
 * SSIM of luma of one frame [h, w, 3] (Wang et al. 2004), NaN: no memory. */
TS_API double ts_mse(const uint8_t *a, const uint8_t *b, size_t n);
TS_API double ts_psnr(double mse);
TS_API double ts_ssim(const uint8_t *a, const uint8_t *b, int w, int h);

/* The sparsest attention tile that every layer bears, greedy in layer order: the smallest k of k :
 * F - k whose self-attention output differs from full attention's by no more than `loss`, |o_k -
 * o|^2 / |o|^2 averaged over prompts, guidance branches and steps. */
typedef struct { /* borrowed until the call returns */
    const char *const *prompt;
    int prompts;  /* at most 8 */
    const int *k; /* candidates, 1 .. latent frames - 2 */
    int ks;       /* 0: 1, 2, 3, 4 of 8 latent frames, scaled */
    double loss;
    int samples; /* steps to measure at, of each expert; at most 32 */
} ts_tile_options;
/* `q`: everything but the prompt. *json: what --attention tile:file=FILE reads (docs/formats.md);
 * malloc'd. Progress: text and denoising of each prompt, then TS_PHASE_BENCH. TS_EUSAGE, TS_EMODEL,
 * TS_EMEMORY, TS_ESTOP. */
TS_API ts_status ts_search_tile(ts_model *, const ts_request *q, const ts_tile_options *,
                                char **json);

/* Single evaluations of a transformer with one guidance branch, on random latents and text, one of
 * each kind that the policy's schedule has. */
enum { TS_STEP_KINDS = 5 };
typedef struct {
    /* "dense", "dense with a search", "sparse after a new search", "sparse", "sparse, pooled" */
    const char *attention_policy, *kind;
    int steps; /* steps of this kind in a run of the request's steps */
    long tokens;
    double kept; /* share of blocks read, dense layers counted in */
    /* of self-attention by arithmetic, a dense evaluation being 1: the blocks read, and half a
     * dense call for a new search */
    double work;
    /* attention: self-attention; search is part of it; rest: cross-attention too */
    double seconds, linear, attention, search, rest;
    double cpu; /* seconds of all threads */
} ts_step_row;
typedef struct {
    void (*row)(void *user, const ts_step_row *); /* after each evaluation */
    void *user;
} ts_step_bench;
/* `q`: size, frames, steps, attention, seed. Progress: TS_PHASE_BENCH. TS_EUSAGE, TS_EMODEL,
 * TS_EMEMORY, TS_ESTOP. */
TS_API ts_status ts_bench_step(ts_model *, const ts_request *q, const ts_step_bench *);

/* The attention kernels alone, on random tensors [1, tokens, heads, dim], timed in turns: every
 * repeat times each of them once, what is reported are medians. */
typedef enum {
    /* multiply-adds of registers alone, what the machine could do: f32, then bf16 where it has the
     * instructions */
    TS_KERNEL_PEAK,
    TS_KERNEL_DENSE,   /* every key block is read */
    TS_KERNEL_FUSED,   /* dense, with block sums */
    TS_KERNEL_CACHED,  /* block sums alone, from a kept lse */
    TS_KERNEL_PACKING, /* part of the dense time: laying out keys and values for the kernel */
    TS_KERNEL_SPARSE,  /* the same number of random key blocks in every row of blocks */
    /* of the plan whose share is nearest to a fifth: with means of the other blocks, and with their
     * linear part too; what is made of keys and values for it is made in each call */
    TS_KERNEL_MEANS,
    TS_KERNEL_LINEAR,
    /* rows of very different lengths (0.1 to 1.9 of the smallest share asked for): all threads
     * against one */
    TS_KERNEL_UNEVEN
} ts_kernel_what;
typedef struct {
    ts_kernel_what what;
    const char *name;      /* "dense", ... */
    const char *precision; /* "f32", "bf16" */
    const char *level;     /* of the CPU, in use */
    long tokens;           /* 0: peak */
    int threads, repeats;  /* repeats: how many went into the medians */
    double keep, kept;     /* of the key blocks: as asked, as read; 1: dense */
    double seconds, fastest, slowest;
    double cpu; /* seconds of all threads */
    /* useful ones a second: 4 tokens^2 heads dim kept, half of it for cached; 0: packing */
    double flops;
    double peak_share; /* flops / the peak of the precision in use; 0: not known */
    /* seconds of it in which keys and values were laid out for the kernel; of packing itself the
     * same as seconds */
    double packing;
    double kernel_ratio; /* sparse: the ratio with the packing of both taken out; 0: none */
    /* sparse: dense seconds x kept / seconds; fused, cached, packing: seconds / dense seconds;
     * means, linear: seconds / those of sparse with their plan; uneven: seconds of one thread /
     * seconds; 0: none */
    double ratio;
} ts_kernel_row;
typedef struct { /* borrowed until the call returns */
    const long *tokens;
    const double *keep; /* 0 < keep <= 1; 1 stands for dense, which is always measured */
    int tokens_count, keep_count;
    int heads, dim, repeats;
    /* called when all of a number of tokens is measured, or stop was asked for */
    void (*row)(void *user, const ts_kernel_row *);
    void *user;
} ts_kernel_bench;
/* On the CPU at the level, threads and precision of the context. TS_EUSAGE, TS_EMEMORY, TS_ESTOP.
 * Progress: TS_PHASE_BENCH. */
TS_API ts_status ts_bench_kernel(ts_ctx *, const ts_kernel_bench *);

/* Frames of the clips that `tessera bench` compares when none are given: as many as the model says
 * show what sparse attention is worth, else its default. */
TS_API int ts_bench_frames(const ts_model *);
/* Of a run that has denoised: the share of its steps that were evaluated, less than 1 with step
 * caching. */
TS_API double ts_run_computed(const ts_run *);
/* Is that a method of step caching, as ts_request.cache_steps takes it? TS_EUSAGE. */
TS_API ts_status ts_cache_check(ts_ctx *, const char *method);

#ifdef __cplusplus
}
#endif
#endif
