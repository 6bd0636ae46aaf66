/* tessera's public API: generate, batch and bench are callers of these. Thread rules: one context
 * is used by one thread at a time; any number of contexts may exist. Contexts compute on OpenMP's
 * threads of the thread that calls, as many as they were opened with, and leave its setting as it
 * was. */
#ifndef TESSERA_H
#define TESSERA_H
#include "backend/base.h"
#include "prompts/prompt_file.h"

#include <stdbool.h>

typedef struct ts_ctx ts_ctx;
typedef struct ts_model ts_model;
typedef struct ts_run ts_run;
typedef struct ts_bag ts_bag;
typedef struct ts_texts ts_texts;

typedef struct {
    int threads;           /* 0: as many as the machine and its cgroup allow */
    const char *precision; /* "auto", "f32", "bf16" */
    /* highest CPU level: "ref", "avx2", "avx512", "avx512_bf16"; NULL: the best there is. For
     * matrix products avx2 is the limit of the process, if no context computed before */
    const char *cpu;
    size_t memory;   /* bytes that may be used; 0: what the machine and its cgroup allow */
    const char *hub; /* Hugging Face cache folder, for models by name; may be NULL */
    const char *default_model; /* folder of the default model; may be NULL */
    bool profile; /* time every operation: for ts_run_profile and step_seconds of ts_report */
} ts_options;
ts_options ts_options_default(void);
/* On failure *ctx may still be set, only to be asked for ts_error and closed. */
ts_status ts_open(const ts_options *, const ts_env *, ts_ctx **);
void ts_close(ts_ctx *);
/* The precision of models that are opened from here on: "auto", "f32" or "bf16". TS_EUSAGE: another
 * word, or one that this machine does not compute in; then it stays what it was. */
ts_status ts_set_precision(ts_ctx *, const char *);
const char *ts_error(const ts_ctx *); /* the sentence of the last failure */
const char *ts_version(void);         /* "0.1.0" */
char *ts_versions(const ts_ctx *);    /* CPU level, threads, libraries, one a line; malloc'd */

/* Reads configs only. `name`: a diffusers directory, or ORG/NAME in the hub folder; NULL: the
 * default model. */
ts_status ts_model_open(ts_ctx *, const char *name, ts_model **);
void ts_model_close(ts_model *);
/* components, classes, parameters, dtypes, sizes, defaults; malloc'd */
ts_status ts_model_json(ts_model *, char **json);

/* one picture or clip. Filled with the model's defaults by ts_request_init; strings are borrowed */
typedef struct {
    const char *prompt, *negative;
    int width, height, frames;
    /* pictures drawn at once, with seeds seed, seed + 1, ...; of models of pictures */
    int count;
    /* the size as it is, instead of the nearest that the model was trained on and resizing; of
     * models with such a list */
    bool no_bins;
    double fps;
    int steps;
    double guidance, guidance_2; /* guidance_2: second expert */
    double shift;                /* of a flow's timetable; 0: as the scheduler config says */
    /* "unipc", "euler" of a flow, "dpmpp-2m", "ddim", "euler", "lcm" of diffusion; NULL: as the
     * scheduler config says */
    const char *sampler;
    uint64_t seed;
    int scale;            /* enlarge while writing; only recorded here */
    const char *vae_tile; /* "auto", "off", "WxH" */
    /* "dense" or a policy of sparse attention, NAME[:key=value,...] */
    const char *attention;
    /* for ts_run_plans: the plans in force at the end; what every search saw */
    bool keep_plans, keep_scores;
    /* of searches, the last one's scores of each layer and branch: enough for ts_plan_images */
    bool keep_last_scores;
    /* file: latents and solver history after each step; a run of the same request goes on from it.
     * NULL: none */
    const char *state;
    const char *noise_file; /* only recorded; noise comes as a bag */
    /* picture to begin with instead of noise alone; ts_run_picture reads it. Of models of pictures.
     * NULL: none */
    const char *init;
    /* share of the steps that are run on it, more than 0 and at most 1; without `init` of no
     * meaning */
    double strength;
} ts_request;
void ts_request_init(ts_model *, ts_request *);

typedef struct { /* what a run will take, known before it starts */
    /* of what is written: after rounding to what the model needs; frames: or pictures */
    int width, height, frames;
    int latent[4]; /* C F H W; of pictures: C, how many, H W */
    long tokens;
    int layers, text_tokens, negative_tokens;       /* text_tokens: with the end token */
    size_t text_bytes, denoise_bytes, decode_bytes; /* peak of each phase, weights included */
    size_t weight_bytes;                            /* of the transformer, packed */
    double step_flops, decode_flops;                /* one step of all branches; the whole decode */
    int tile_w, tile_h;                             /* of the VAE; 0: off */
    const char *precision;
} ts_estimate;

typedef struct {
    double text_seconds, denoise_seconds, decode_seconds;
    /* per step: linear and conv, attention, rest; 0 where operations are not timed */
    double step_seconds[3];
    /* calls; a call that searches again is sparse too */
    long attention_dense, attention_searched, attention_sparse;
    /* mean share of blocks that sparse calls read; mean recall of plans when they were made, 0: not
     * measured */
    double kept, recall;
    double attention_seconds; /* of denoising: in self-attention, searching included */
    double search_seconds;    /* in block sums, means and top-k */
    /* of attention alone, against full attention: by arithmetic, and by the run's dense calls (0:
     * there were none) */
    double attention_gain, attention_gain_measured;
    int resumed; /* steps taken from the state file */
} ts_report;

/* Checks the request, rounds sizes (said through env.warn), sizes every phase by running it on a
 * counting device. Nothing is rendered; --dry-run ends here. TS_EUSAGE, TS_EMODEL, TS_EMEMORY. */
ts_status ts_run_open(ts_model *, const ts_request *, ts_run **, ts_estimate *);
/* Texts that several runs share: each distinct one is encoded once, all with the text encoder
 * opened once, and its memory is returned before a run begins. The model outlives them. */
ts_status ts_texts_open(ts_model *, ts_texts **);
void ts_texts_close(ts_texts *);
/* Tokenizes. `what` names the text in warnings ("the prompt has 600 tokens, ..."). The same text
 * again is the same id. TS_EUSAGE: not UTF-8. */
ts_status ts_texts_add(ts_texts *, const char *text, const char *what, int *id);
int ts_texts_tokens(const ts_texts *, int id);
size_t ts_texts_bytes(const ts_texts *, int id); /* of its states, once encoded */
/* its states are not needed any more, or not now */
void ts_texts_drop(ts_texts *, int id);
/* Encodes those of ids[0..n) that are not encoded. `cache`: NULL, or an existing folder where
 * states are looked for first and kept; that they can not be kept is warned of once. A text whose
 * encoding fails by itself (NaN, memory) fails the runs that use it, in ts_run_encode; TS_EMODEL,
 * TS_EIO, TS_ESTOP end the call. Progress: TS_PHASE_TEXT. */
ts_status ts_texts_encode(ts_texts *, const int *ids, int n, const char *cache);
/* ts_run_open with texts of this kind: prompt and negative prompt are added if they are not there,
 * ts_run_encode encodes what is not encoded, and *estimate has no text_bytes. `like`: NULL, or a
 * run of the same model whose sizes are taken, without counting anew, when they hold for this one.
 * The texts outlive the run. Packed weights stay for the next run of this kind where they take no
 * more than half of the memory; ts_model_close, or encoding more texts, gives them back. */
ts_status ts_run_open_with(ts_model *, const ts_request *, ts_texts *, const ts_run *like,
                           ts_run **, ts_estimate *);
/* For `decode`: the geometry comes from the latents; `req` gives size-independent settings
 * (vae_tile, fps). TS_ENUMBER: NaN or infinity in them. */
ts_status ts_run_open_latents(ts_model *, const ts_request *, const ts_bag *latents, ts_run **,
                              ts_estimate *);
void ts_run_close(ts_run *);
/* The text encoder opens and closes inside. */
ts_status ts_run_encode(ts_run *);
/* `noise` [C, F, H, W] f32 of the bag instead of the drawn one; checked at once, copied. TS_ESHAPE,
 * TS_EMODEL, TS_ENUMBER. */
ts_status ts_run_noise(ts_run *, const ts_bag *);
/* Reads the picture that the request's `init` stands for (usually that path): resized to cover the
 * size that is drawn, its middle taken, encoded. Before ts_run_denoise. TS_EMODEL, TS_EMEMORY. */
ts_status ts_run_picture(ts_run *, const char *path);
/* *latents: a new bag with `latents` [C, F, H, W] f32 and metadata that is enough to decode and to
 * render again. */
ts_status ts_run_denoise(ts_run *, ts_bag **latents);
ts_status ts_run_decode(ts_run *, const ts_bag *latents, ts_sink *);
void ts_run_report(const ts_run *, ts_report *);
/* the metadata that files carry (docs/formats.md); malloc'd */
char *ts_run_json(const ts_run *);
char *ts_run_parameters(const ts_run *); /* the same as A1111 text; malloc'd */
/* table of times by operation, for people; measures the machine's matmul peak for it, a second or
 * so; malloc'd; NULL: nothing was denoised, or ts_options.profile was not set */
char *ts_run_profile(const ts_run *);
/* what sparse attention did, some lines for people; malloc'd; NULL: the run was to be dense, or has
 * not been */
char *ts_run_attention(const ts_run *);
/* what one large matrix product reaches now, in the context's precision, FLOP/s; takes a second or
 * so; 0: could not be measured */
double ts_matmul_peak(ts_ctx *);
/* After denoising with keep_plans: tensors and metadata of docs/formats.md; the run's own.
 * TS_EFAIL: there are none, and why. */
ts_status ts_run_plans(ts_run *, const ts_bag **);
/* Pictures of plans (of ts_run_plans or a file of them) into a folder, made if need be:
 * plan-BRANCH-LAYER.png, and with scores recall-BRANCH-LAYER.png; a head a tile, a block a pixel or
 * more. */
ts_status ts_plan_images(ts_ctx *, const ts_bag *, const char *dir);
/* Applies metadata that ts_run_json made (a file's) over `req`; strings are kept by the model. */
ts_status ts_request_from_json(ts_model *, const char *json, ts_request *);

/* How near clips are, in 8-bit samples: mean squared error; its PSNR in dB (infinite: equal); mean
 * SSIM of luma of one frame [h, w, 3] (Wang et al. 2004), NaN: no memory. */
double ts_mse(const uint8_t *a, const uint8_t *b, size_t n);
double ts_psnr(double mse);
double ts_ssim(const uint8_t *a, const uint8_t *b, int w, int h);

/* Is it a policy of sparse attention that can be read? TS_EUSAGE: what is wrong. */
ts_status ts_attention_check(ts_ctx *, const char *policy);

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
ts_status ts_search_tile(ts_model *, const ts_request *q, const ts_tile_options *, char **json);

/* Pieces and ids of a text as the model's tokenizer sees it after cleaning: JSON {"text", "tokens":
 * [{"id", "piece"}], "truncated"}; malloc'd. */
ts_status ts_tokens(ts_model *, const char *text, char **json);

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
} ts_step_row;
typedef struct {
    void (*row)(void *user, const ts_step_row *); /* after each evaluation */
    void *user;
} ts_step_bench;
/* `q`: size, frames, steps, attention, seed. Progress: TS_PHASE_BENCH. TS_EUSAGE, TS_EMODEL,
 * TS_EMEMORY, TS_ESTOP. */
ts_status ts_bench_step(ts_model *, const ts_request *q, const ts_step_bench *);

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
    double seconds;
    /* useful ones a second: 4 tokens^2 heads dim kept, half of it for cached; 0: packing */
    double flops;
    double peak_share; /* flops / the peak of the precision in use; 0: not known */
    /* seconds of it in which keys and values were laid out for the kernel; of packing itself the
     * same as seconds */
    double packing;
    double kernel_ratio; /* sparse: the ratio with the packing of both taken out; 0: none */
    /* sparse: dense seconds x kept / seconds; fused, cached, packing: seconds / dense seconds;
     * uneven: seconds of one thread / seconds; 0: none */
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
ts_status ts_bench_kernel(ts_ctx *, const ts_kernel_bench *);

/* Prompt files (docs/formats.md): text, JSONL, CSV; "-": standard input. A fault never ends the
 * reading: it is listed, and its row is `faulty`. TS_EMODEL: the file can not be read. */
ts_status ts_prompt_file_read(ts_ctx *, const char *path, ts_prompts **);
void ts_prompt_file_free(ts_prompts *);
/* Adds to the list, in order of line, what only the caller can find; row NULL: of the file. */
ts_status ts_prompt_file_fault(ts_ctx *, ts_prompts *, ts_prompt *row, int line,
                               const char *sentence);

/* Bags: named host tensors in safetensors files. */
ts_status ts_bag_read(ts_ctx *, const char *path, ts_bag **);
ts_status ts_bag_write(ts_ctx *, const ts_bag *, const char *path); /* replaces a file */
/* a file that has the name stays: TS_EUSAGE */
ts_status ts_bag_write_new(ts_ctx *, const ts_bag *, const char *path);
void ts_bag_free(ts_bag *);
const char *ts_bag_meta_get(const ts_bag *, const char *key);

/* Files (needs libpng and libav when linked). */
typedef struct {
    int crf, scale;
    bool overwrite, metadata;
    const char *title, *parameters;
} ts_output;
/* before any work: kind, folder, existing file, frames into one PNG */
ts_status ts_output_check(ts_ctx *, const char *path, const ts_output *, int frames);
/* free with ts_output_close */
ts_status ts_output_open(ts_ctx *, const char *path, const ts_output *, ts_sink **);
void ts_output_close(ts_sink *);
/* *json NULL: the file carries none; malloc'd */
ts_status ts_output_info(ts_ctx *, const char *path, char **json);
#endif
