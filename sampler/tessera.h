/* tessera's public API, for C and C++. docs/api.md is its manual, docs/example.c a first program;
 * benchmarks are in tessera-bench.h.
 *
 * Threads: a context, and what was opened by it, is used by one thread at a time; any number of
 * contexts may exist.
 *
 * Errors: what can fail returns a status, its sentence is ts_error of the context. A call that
 * fails sets the pointer that it was to fill to NULL, except where said. A handle (ts_ctx,
 * ts_model, ts_run, ts_texts) is not NULL, except in _close and ts_error; what else a call can not
 * do without is refused with TS_EUSAGE when it is NULL, before anything is done.
 *
 * Ownership: what _open made takes _close, what _read made takes _free, and NULL is legal in both;
 * texts that are malloc'd take free() or ts_free. A context, a model or texts that are closed
 * before what was opened with them stay in memory until the last of it is closed, and get no new
 * ones; env is let go by ts_close, whatever stays.
 *
 * Contexts compute on OpenMP's threads of the thread that calls, as many as they were opened with,
 * and leave its setting as it was.
 *
 * The whole process: the first context decides which instructions oneDNN uses (ts_options.cpu);
 * opening or reading an output silences libav's own log. Locale, signals, standard streams and the
 * environment are left alone. */
#ifndef TESSERA_H
#define TESSERA_H
#include "backend/base.h"
#include "prompts/prompt_file.h"

#include <stdbool.h>

/* Of this header; that of the library that is linked is ts_version(). */
#define TS_VERSION_MAJOR 0
#define TS_VERSION_MINOR 1
#define TS_VERSION_PATCH 0
#define TS_VERSION_NUMBER(major, minor, patch) ((major)*1000000 + (minor)*1000 + (patch))
/* #if TS_VERSION_AT_LEAST(0, 2, 0) */
#define TS_VERSION_AT_LEAST(major, minor, patch)                                \
    (TS_VERSION_NUMBER(TS_VERSION_MAJOR, TS_VERSION_MINOR, TS_VERSION_PATCH) >= \
     TS_VERSION_NUMBER(major, minor, patch))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ts_ctx ts_ctx;
typedef struct ts_model ts_model;
typedef struct ts_run ts_run;
typedef struct ts_bag ts_bag;
typedef struct ts_texts ts_texts;

/* Set by ts_options_default. New members go to the end: a program that was built with fewer of them
 * gets their defaults, one that was built with more than the library has is refused. */
typedef struct {
    size_t size;           /* of this struct */
    int threads;           /* 0: as many as the machine and its cgroup allow */
    const char *precision; /* "auto", "f32", "bf16" */
    /* highest CPU level: "ref", "avx2", "avx512", "avx512_bf16"; NULL: the best there is. For
     * matrix products avx2 is the limit of the process, if no context computed before */
    const char *cpu;
    /* bytes that may be used; 0: what the machine and its cgroup allow, and of it for packed
     * weights what others leave; see vram */
    size_t memory;
    const char *hub;           /* Hugging Face cache folder, for models by name; may be NULL */
    const char *default_model; /* its folder; NULL: where `make install` puts it */
    bool profile;       /* time every operation: for ts_run_profile and step_seconds of ts_report */
    const char *device; /* "cpu", "cuda", "cuda:1"; NULL or "auto": the best there is */
    /* the same of a device with memory of its own, where `memory` means nothing; 0: what is free,
     * but for a little */
    size_t vram;
} ts_options;
TS_API void ts_options_init(ts_options *, size_t size);
static inline ts_options ts_options_default(void)
{
    ts_options o;
    ts_options_init(&o, sizeof o);
    return o;
}
/* Options NULL: the defaults; borrowed until the call returns, as what env points to is not. On
 * failure *ctx may still be set, only to be asked for ts_error and closed. */
TS_API ts_status ts_open(const ts_options *, const ts_env *, ts_ctx **);
TS_API void ts_close(ts_ctx *);
/* The precision of models that are opened from here on: "auto", "f32" or "bf16". TS_EUSAGE: another
 * word, or one that this machine does not compute in; then it stays what it was. */
TS_API ts_status ts_set_precision(ts_ctx *, const char *);
/* Frees a text that a call has malloc'd, for languages that do not reach free(). NULL is legal. */
TS_API void ts_free(void *);
TS_API const char *ts_error(const ts_ctx *); /* the sentence of the last failure */
TS_API const char *ts_version(void);         /* "0.1.0": of the library, not of this header */
TS_API char *ts_versions(const ts_ctx *); /* CPU level, threads, libraries, one a line; malloc'd */

/* Reads configs only. `name`: a diffusers directory, or ORG/NAME in the hub folder; NULL: the
 * default model. */
TS_API ts_status ts_model_open(ts_ctx *, const char *name, ts_model **);
/* Components given by themselves, in the place of a model's own: files of weights (safetensors,
 * GGUF; of several parts any, or their index) in the naming of diffusers, of the model's authors or
 * of ComfyUI, or folders. NULL: the model's own. Begin with {sizeof of it}. */
typedef struct {
    size_t size; /* of this struct */
    const char *transformer, *transformer_2, *vae, *text_encoder;
    /* tokenizer.json, spiece.model, or a folder with one; NULL: what the text encoder's file
     * carries, what stands beside it, else the model's */
    const char *tokenizer;
    const char *image_encoder; /* of transformers that see images */
    /* of models with two text encoders (HunyuanVideo): the one whose output stands for the whole
     * text, CLIP's, and its tokenizer (vocab.json, too, with merges.txt beside it) */
    const char *text_encoder_2, *tokenizer_2;
} ts_model_files;
/* As ts_model_open. `name` NULL and files with a transformer: they alone are the model, and what
 * they do not say of its settings is as published for its shape. */
TS_API ts_status ts_model_open_files(ts_ctx *, const char *name, const ts_model_files *,
                                     ts_model **);
TS_API void ts_model_close(ts_model *);
/* How many images a clip of this model is made of: at least, and at most. 0 and 0: of text alone;
 * 0 and 1: it may begin with one; 1 and 2: it begins with one and may end with another. */
TS_API void ts_model_images(const ts_model *, int *least, int *most);
/* components, classes, parameters, dtypes, sizes, defaults; malloc'd */
TS_API ts_status ts_model_json(ts_model *, char **json);

/* One picture or clip. Filled with the model's defaults by ts_request_init, grows as ts_options
 * does. A string that the caller puts here is borrowed until the call that is given the request
 * returns; those that are here after ts_request_init live as long as the model. */
typedef struct {
    size_t size; /* of this struct */
    /* strings that the library put here, until ts_request_free; of copies of a struct, one is
     * freed */
    struct ts_strings *own;
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
    /* "unipc", "euler" of a flow, "dpmpp-2m", "ddim", "euler", "lcm",
     * "dpmpp-2m-sde", "euler-a" of diffusion; NULL: as the
     * scheduler config says */
    const char *sampler;
    uint64_t seed;
    int scale;            /* enlarge while writing, 1 to 64; only recorded here */
    const char *vae_tile; /* "auto", "off", "WxH" */
    /* "dense", a policy of sparse attention, NAME[:key=value,...], or "auto": one that measurements
     * recommend for the size and steps (ts_run_advice) */
    const char *attention;
    /* for ts_run_plans: the plans in force at the end; what every search saw */
    bool keep_plans, keep_scores;
    /* of searches, the last one's scores of each layer and branch: enough for ts_plan_images */
    bool keep_last_scores;
    /* file: latents and solver history after each step, beside it, FILE.plans-1 or -2, the plans
     * that were searched for; a run of the same request goes on from it. NULL: none */
    const char *state;
    const char *noise_file; /* only recorded; noise comes as a bag */
    /* picture to begin with instead of noise alone; ts_run_picture reads it. Of models of pictures.
     * NULL: none */
    const char *init;
    /* share of the steps that are run on it, more than 0 and at most 1; without `init` of no
     * meaning */
    double strength;
    /* "none", or a method of step caching, NAME[:key=value,...]: steps that the last computed one
     * foretells well enough are not evaluated */
    const char *cache_steps;
    /* LoRAs that are added to the transformers' weights, in lines [high=|low=]FILE[:STRENGTH]: a
     * safetensors file or a folder of PEFT; of models with two experts for one of them or, without
     * the word, for both; strength 1 where it is not said. NULL: none */
    const char *loras;
    /* of a flow, before its shift: "default", as the sampler has it; "trailing", evenly from 1000
     * down, as few-step models are distilled; or the timesteps themselves, "1000,750,500,250" */
    const char *timesteps;
    /* images that the clip begins and ends with, of models that make clips of them
     * (ts_model_images); ts_run_image reads them. NULL: none */
    const char *image, *last_image;
    /* of CogVideoX: each step's guidance is 1 + guidance (1 - cos(pi ((N - t) / N)^5)) / 2, with
     * the number of steps N and the step's timestep t, up to 1000: diffusers' use_dynamic_cfg */
    bool dynamic_guidance;
} ts_request;
TS_API void ts_request_init_sized(ts_model *, ts_request *, size_t size);
static inline void ts_request_init(ts_model *m, ts_request *q)
{
    ts_request_init_sized(m, q, sizeof *q);
}
/* Applies metadata that ts_run_json made (a file's, say) over `q`, which then owns its strings. On
 * failure q is as it was. TS_EMODEL, TS_EMEMORY. */
TS_API ts_status ts_request_from_json(ts_model *, const char *json, ts_request *q);
/* Sets width and height to what suits `image`, which is read: the model's own area in the image's
 * proportions, in multiples that the model draws. Without an image nothing changes. TS_EMODEL,
 * TS_EUSAGE. */
TS_API ts_status ts_request_fit_image(ts_model *, ts_request *);
/* *hash: of what is in the files of its attention policy and its LoRAs, so that a request is told
 * from one of the same words; 0: it names none. Of LoRAs it is their size and samples. TS_EMODEL:
 * one can not be read; TS_EUSAGE. */
TS_API ts_status ts_request_files(ts_model *, const ts_request *, uint64_t *hash);
/* Frees what ts_request_from_json put into it; the request is of no more use. NULL is legal. */
TS_API void ts_request_free(ts_request *);

/* The whole way in one call: text, noise or picture, denoising, decoding, with what the request
 * names (noise_file, init and images are read), into a new file of the kind that the name of `path`
 * says: .png, .jpg, .webp, .mp4, .webm, .gif, .mkv, .y4m, numbered f-%04d.png, or a folder;
 * metadata included. A file that exists is refused. Needs libpng and libav when linked. */
TS_API ts_status ts_generate(ts_model *, const ts_request *, const char *path);
/* The same into a sink of the caller's, which is aborted on failure. */
TS_API ts_status ts_generate_to(ts_model *, const ts_request *, ts_sink *);

typedef struct { /* what a run will take, known before it starts */
    /* of what is written: after rounding to what the model needs; frames: or pictures */
    int width, height, frames;
    int latent[4]; /* C F H W; of pictures: C, how many, H W */
    long tokens;
    int layers, text_tokens, negative_tokens; /* text_tokens: with the end token */
    /* peak of each phase, weights included; of text: with images, which are encoded then */
    size_t text_bytes, denoise_bytes, decode_bytes;
    size_t weight_bytes;             /* of the transformer, packed */
    double step_flops, decode_flops; /* one step of all branches; the whole decode */
    int tile_w, tile_h;              /* of the VAE; 0: off */
    const char *precision;
    int steps; /* that are run: with `init`, the share `strength` of those asked for */
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
    int resumed;     /* steps taken from the state file; known after ts_run_state or
                      * ts_run_encode */
    int done;        /* steps of denoising so far, those among them */
    int state_steps; /* how many the state file holds: fewer where it could not be written */
} ts_report;

/* Checks the request, rounds sizes (said through env.warn), sizes every phase by running it on a
 * counting device. Nothing is rendered. The estimate may be NULL. TS_EUSAGE,
 * TS_EMODEL, TS_EMEMORY. */
TS_API ts_status ts_run_open(ts_model *, const ts_request *, ts_run **, ts_estimate *);
/* How a run differs from that; begin with {sizeof of it}, the rest is 0. */
typedef struct {
    size_t size; /* of this struct */
    /* Prompt and negative prompt are taken from these texts, and added if they are not there;
     * ts_run_encode encodes what is not encoded, and the estimate has no text_bytes. The texts
     * outlive the run. Packed weights stay for the next run of this kind where they take no more
     * than half of the memory; ts_model_close, or encoding more texts, gives them back. */
    ts_texts *texts;
    /* a run of the same model with texts: its sizes are taken, without counting anew, when they
     * hold for this one */
    const ts_run *like;
    /* Nothing is denoised, these are decoded (of a state between two steps its prediction of the
     * clean ones, where it has one): they give the size and the number of frames, the
     * request what does not depend on them (vae_tile, fps). TS_ENUMBER: NaN or infinity in them. */
    const ts_bag *latents;
} ts_run_options;
TS_API ts_status ts_run_open_with(ts_model *, const ts_request *, const ts_run_options *, ts_run **,
                                  ts_estimate *);
/* Texts that several runs share: each distinct one is encoded once, all with the text encoder
 * opened once, and its memory is returned before a run begins. The model outlives them. */
TS_API ts_status ts_texts_open(ts_model *, ts_texts **);
TS_API void ts_texts_close(ts_texts *);
/* Tokenizes. `what` names the text in warnings ("the prompt has 600 tokens, ..."). The same text
 * again is the same id. TS_EUSAGE: not UTF-8. */
TS_API ts_status ts_texts_add(ts_texts *, const char *text, const char *what, int *id);
TS_API int ts_texts_tokens(const ts_texts *, int id);
TS_API size_t ts_texts_bytes(const ts_texts *, int id); /* of its states, once encoded */
/* its states are not needed any more, or not now */
TS_API void ts_texts_drop(ts_texts *, int id);
/* Encodes those of ids[0..n) that are not encoded. `cache`: NULL, or an existing folder where
 * states are looked for first and kept; that they can not be kept is warned of once. A text whose
 * encoding fails by itself (NaN, memory) fails the runs that use it, in ts_run_encode; TS_EMODEL,
 * TS_EIO, TS_ESTOP end the call. Progress: TS_PHASE_TEXT. */
TS_API ts_status ts_texts_encode(ts_texts *, const int *ids, int n, const char *cache);
TS_API void ts_run_close(ts_run *);
/* What a run will take on this machine. Begin with {sizeof of it}. */
typedef struct {
    size_t size;                                          /* of this struct */
    double text_seconds, denoise_seconds, decode_seconds; /* text: 0 where others share it */
    /* of the process beside what ts_estimate says of phases; that may be used */
    size_t program_bytes, allowed_bytes;
} ts_forecast;
/* Measures the pace of a layer of the model, of a few latents through its decoder and of a layer of
 * its text encoder, and extends it to the run: some seconds for a large model. Between ts_run_open
 * and ts_run_encode; changes nothing of what the run makes. TS_EMEMORY, TS_ESTOP. */
TS_API ts_status ts_run_forecast(ts_run *, ts_forecast *);
/* Removes a state file (ts_request.state) and the plans beside it, where they are there. */
TS_API void ts_state_remove(const char *state);
/* The order of calls: ts_run_open; ts_run_noise, ts_run_picture and ts_run_image where wanted, and
 * ts_run_encode;
 * ts_run_denoise, as often as wanted; then ts_run_latents, ts_run_decode, ts_run_plans. A call that
 * comes too early, or after one that failed, is refused with TS_EUSAGE (ts_run_plans: TS_EFAIL). A
 * run that was opened for given latents has ts_run_decode alone. */
/* Texts and images; their encoders open and close inside. */
TS_API ts_status ts_run_encode(ts_run *);
/* The state file from here on, as ts_request.state is: NULL: none. spare: that it can not be
 * written is warned of after each step and ends nothing. Whether it is there and belongs to this
 * run is looked at now, and ts_report.resumed follows: after ts_run_noise, ts_run_picture and
 * ts_run_image, before ts_run_encode. TS_EMODEL: it does not, and no state is kept. */
TS_API ts_status ts_run_state(ts_run *, const char *file, bool spare);
/* `noise` [C, F, H, W] f32 of the bag instead of the drawn one; with a solver that adds noise after
 * steps also `step_noise` [steps, C, F, H, W], where it is there, of which row s - 1 is what step s
 * adds; with a model that draws latents of an image `image_noise` [C, 1, H, W], where it is there.
 * With such a model before ts_run_encode. Checked at once, copied. TS_EUSAGE, TS_ESHAPE, TS_EMODEL,
 * TS_ENUMBER. */
TS_API ts_status ts_run_noise(ts_run *, const ts_bag *);
/* Reads the picture that the request's `init` stands for (usually that path; "-": from standard
 * input): resized to cover the size that is drawn, its middle taken, encoded. Before
 * ts_run_denoise. TS_EMODEL, TS_EMEMORY. */
TS_API ts_status ts_run_picture(ts_run *, const char *path);
/* The same of pixels [h, w, 3], borrowed until it returns; the request's `init` is a name for them.
 * TS_EUSAGE, TS_EMEMORY. */
TS_API ts_status ts_run_picture_rgb(ts_run *, int w, int h, const uint8_t *rgb);
/* Reads the image that the request's `image` (last: `last_image`) stands for (usually that path;
 * "-": from standard input): resized to the clip's size, whatever its proportions, and seen by the
 * model's image encoder as it is. Alpha is left out. Before ts_run_encode, which encodes it.
 * TS_EUSAGE: the request names none; TS_EMODEL, TS_EMEMORY. */
TS_API ts_status ts_run_image(ts_run *, const char *path, bool last);
/* The same of pixels [h, w, 3], borrowed until it returns. */
TS_API ts_status ts_run_image_rgb(ts_run *, int w, int h, const uint8_t *rgb, bool last);
/* ---- watching steps ---- */
/* A step that has been taken, as the function of a ts_watch sees it; lent until that returns. */
typedef struct ts_step ts_step;
typedef struct { /* begin with {sizeof of it} */
    size_t size; /* of this struct */
    /* Called by ts_run_denoise, on its thread, after every `every`-th step and after the last. Of
     * the context it may call ts_step_* and ts_output_* alone. Another status than TS_OK ends the
     * denoising, which returns it: TS_ESTOP is as good as ts_env.stop. */
    ts_status (*step)(void *user, ts_step *);
    void *user;
    int every; /* 0: 1 */
    /* ts_step_preview will be called: its colours are fitted on the way, which takes the VAE's
     * weights and a decoding of 12 x 12 latents beside the denoising, whose weights get less room.
     * TS_EMEMORY: they can not have less. */
    bool preview;
} ts_watch;
/* From the next ts_run_denoise of this run on, what one who watches sees of its steps; NULL:
 * nobody. The run gives the same bits watched or not. Strings and `user` are borrowed until the run
 * is closed or watched by another. TS_EUSAGE, TS_EMEMORY, TS_ESTOP: nobody watches. */
TS_API ts_status ts_run_watch(ts_run *, const ts_watch *);
TS_API int ts_step_number(const ts_step *); /* from 1; in a run that goes on, of all its steps */
TS_API int ts_step_count(const ts_step *);
/* Noise that is left: of a flow its sigma, 1 to 0; of diffusion sqrt(1 - alpha) / sqrt(alpha) of
 * the sample; after the last step 0, of some timetables a little more. */
TS_API double ts_step_sigma(const ts_step *);
TS_API void ts_step_shape(const ts_step *, int shape[4]); /* C F H W, as of ts_estimate.latent */
/* out f32 [C, F, H, W]: the sample after the step. TS_EMEMORY. */
TS_API ts_status ts_step_latents(ts_step *, float *out);
/* The same of the clean latents that the model foretold in this step. */
TS_API ts_status ts_step_clean(ts_step *, float *out);
/* A linear map of those to colours, a quarter as wide and high as what is drawn: w, h, index and
 * rgb, which is borrowed until the next call with this step. The 1st, 2nd, 4th, 8th, ... call of a
 * model decodes 12 x 12 of the latents and fits the map to what it has seen so. frame: of the
 * latents, 0 to F - 1, of pictures which one; -1: the middle one. TS_EUSAGE, TS_EMEMORY. */
TS_API ts_status ts_step_preview(ts_step *, int frame, ts_frame *);

/* What it ends with stays on the device for ts_run_decode. latents: NULL, or as ts_run_latents. */
TS_API ts_status ts_run_denoise(ts_run *, ts_bag **latents);
/* *latents: a new bag with `latents` [C, F, H, W] f32 of the last denoising, and metadata that is
 * enough to decode and to render again. TS_EUSAGE: nothing has been denoised. */
TS_API ts_status ts_run_latents(ts_run *, ts_bag **latents);
/* latents NULL: those of the run's last denoising. */
TS_API ts_status ts_run_decode(ts_run *, const ts_bag *latents, ts_sink *);
TS_API void ts_run_report(const ts_run *, ts_report *);
/* the metadata that latents and states carry (docs/formats.md), paths in full; sinks get names
 * without folders; malloc'd */
TS_API char *ts_run_json(const ts_run *);
TS_API char *ts_run_parameters(const ts_run *); /* the same as A1111 text; malloc'd */
/* table of times by operation, for people; measures the machine's matmul peak for it, a second or
 * so; malloc'd; NULL: nothing was denoised, or ts_options.profile was not set */
TS_API char *ts_run_profile(const ts_run *);
/* What LoRAs the run's transformers have, a line each, for people; malloc'd; NULL: none. */
TS_API char *ts_run_loras(const ts_run *);
/* what sparse attention did, some lines for people; malloc'd; NULL: the run was to be dense, or has
 * not been */
TS_API char *ts_run_attention(const ts_run *);
/* `attention` "auto": what it stands for in this run, what that is expected to gain and on what it
 * was measured, one line for people; malloc'd; NULL: a policy was named, or there is no memory. The
 * metadata have the policy in full. */
TS_API char *ts_run_advice(const ts_run *);
/* The same of step caching: which steps were computed and which reused; NULL: it was not asked for.
 */
TS_API char *ts_run_cache(const ts_run *);
/* After denoising with keep_plans: tensors and metadata of docs/formats.md; the run's own.
 * TS_EFAIL: there are none, and why. */
TS_API ts_status ts_run_plans(ts_run *, const ts_bag **);
/* Pictures of plans (of ts_run_plans or a file of them) into a folder, made if need be:
 * plan-BRANCH-LAYER.png, and with scores recall-BRANCH-LAYER.png; a head a tile, a block a pixel or
 * more. */
TS_API ts_status ts_plan_images(ts_ctx *, const ts_bag *, const char *dir);

/* Is it a policy of sparse attention that can be read? TS_EUSAGE: what is wrong. */
TS_API ts_status ts_attention_check(ts_ctx *, const char *policy);

/* Pieces and ids of a text as the model's tokenizer sees it after cleaning: JSON {"text", "tokens":
 * [{"id", "piece"}], "truncated"}; malloc'd. */
TS_API ts_status ts_tokens(ts_model *, const char *text, char **json);

/* Prompt files (docs/formats.md): text, JSONL, CSV; "-": standard input. A fault never ends the
 * reading: it is listed, and its row is `faulty`. TS_EMODEL: the file can not be read. */
TS_API ts_status ts_prompt_file_read(ts_ctx *, const char *path, ts_prompts **);
TS_API void ts_prompt_file_free(ts_prompts *);
/* Adds to the list, in order of line, what only the caller can find; row NULL: of the file. */
TS_API ts_status ts_prompt_file_fault(ts_ctx *, ts_prompts *, ts_prompt *row, int line,
                                      const char *sentence);

/* Bags: named host tensors, in memory and in safetensors files. */
TS_API ts_bag *ts_bag_new(void); /* an empty one; NULL: no memory */
/* A copy of f32 [dim[0], ..., dim[nd - 1]], at most five dimensions, in the place of a tensor of
 * that name; data NULL: zeros. TS_EUSAGE, TS_EMEMORY. */
TS_API ts_status ts_bag_add(ts_ctx *, ts_bag *, const char *name, int nd, const long *dim,
                            const float *data);
/* The tensor of a name, which is the bag's until it is replaced: its type as safetensors spells it
 * ("F32", "I32", ...), shape and bytes; each of the four may be NULL. TS_EMODEL: there is none. */
TS_API ts_status ts_bag_tensor(ts_ctx *, const ts_bag *, const char *name, const char **type,
                               int *nd, long dim[5], const void **data);
TS_API int ts_bag_count(const ts_bag *);
TS_API const char *ts_bag_name(const ts_bag *, int i); /* in order of name; NULL: no such i */
/* Text beside the tensors; value NULL: it goes. TS_EUSAGE, TS_EMEMORY. */
TS_API ts_status ts_bag_meta_set(ts_ctx *, ts_bag *, const char *key, const char *value);
TS_API ts_status ts_bag_read(ts_ctx *, const char *path, ts_bag **);
TS_API ts_status ts_bag_write(ts_ctx *, const ts_bag *, const char *path); /* replaces a file */
/* a file that has the name stays: TS_EUSAGE */
TS_API ts_status ts_bag_write_new(ts_ctx *, const ts_bag *, const char *path);
TS_API void ts_bag_free(ts_bag *);
TS_API const char *ts_bag_meta_get(const ts_bag *, const char *key);

/* Files (needs libpng and libav when linked). Set by ts_output_default; grows as ts_options does.
 */
typedef struct {
    size_t size; /* of this struct */
    int crf;     /* quality of clips, 0 to 51 or 63; -1: as suits the kind */
    int scale;   /* enlarge while writing, from 1 */
    bool overwrite, metadata;
    const char *title, *parameters; /* what the file says of itself; may be NULL */
    const char *format; /* of "-": "mkv", "jpg", ...; NULL: PNG of one frame, else Y4M */
    int quality;        /* of JPEG and WebP, 1 to 100 (WebP: lossless); 0: as suits the kind */
} ts_output;
TS_API void ts_output_init(ts_output *, size_t size);
/* Every file by its kind's own quality and with metadata; one that exists is refused. */
static inline ts_output ts_output_default(void)
{
    ts_output o;
    ts_output_init(&o, sizeof o);
    return o;
}
/* before any work: kind, folder, existing file, frames into one PNG */
TS_API ts_status ts_output_check(ts_ctx *, const char *path, const ts_output *, int frames);
/* before any work, too, once they are known: w x h times o->scale is not larger than the kind of
 * file takes, and the names of so many frames fit */
TS_API ts_status ts_output_check_size(ts_ctx *, const char *path, const ts_output *, int w, int h,
                                      int frames);
/* Memory that the encoder of such a file takes while so many frames of w x h, as they are written,
 * pass: about, as measured; 0: another kind. */
TS_API size_t ts_output_bytes(const char *path, int w, int h, int frames);
/* Makes the folders that lead to it, before hours of work; opening the sink does so, too. TS_EIO.
 */
TS_API ts_status ts_output_folders(ts_ctx *, const char *path);
/* free with ts_output_close */
TS_API ts_status ts_output_open(ts_ctx *, const char *path, const ts_output *, ts_sink **);
TS_API void ts_output_close(ts_sink *);
/* What a file is by its content, whoever wrote it: JSON {"kind": "clip", "picture", "latents",
 * "state", "plans", "tiles", "encoded text", "noise" or "weights", "bytes", and what
 * docs/formats.md lists}; malloc'd. TS_EMODEL: none of these. Needs libav when linked. */
TS_API ts_status ts_file_json(ts_ctx *, const char *path, char **json);
/* *json NULL: the file carries none; malloc'd */
TS_API ts_status ts_output_info(ts_ctx *, const char *path, char **json);

#ifdef __cplusplus
}
#endif
#endif
