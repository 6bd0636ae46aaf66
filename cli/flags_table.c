/* The table of flags: names, kinds, ranges, commands and help. Everything else follows from it. */
#include "cli/flags_table.h"

#include <string.h>

enum {
    GEN = TS_CMD_GENERATE,
    DEC = TS_CMD_DECODE,
    INFO = TS_CMD_INFO,
    MODELS = TS_CMD_MODELS,
    COMP = TS_CMD_COMPLETION,
    CONF = TS_CMD_CONFIG,
    TOK = TS_CMD_TOKENS,
    BENCH = TS_CMD_BENCH,
    SRCH = TS_CMD_SEARCH_TILE,
    BATCH = TS_CMD_BATCH,
    ROW = TS_ROW,
    FILES = GEN | DEC | TOK | BENCH | BATCH | SRCH /* commands that open a model */
};
#define MEMORY_MIN (16.0 * 1024 * 1024)
#define MEMORY_MAX (1024.0 * 1024 * 1024 * 1024 * 1024 * 8)

static const ts_flag table[] = {
    {TS_F_OUTPUT, "output", 'o', TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN | DEC | ROW, "Output",
     "File to write: .mp4, .webm, .gif, .mkv, .y4m, .png, .jpg, .webp (with --frames an "
     "animation), a pattern like f-%04d.png or f-%04d.jpg, a folder/ of numbered PNGs, or - for "
     "standard output (Y4M, a PNG of one frame, or what --format says); folders on the way are "
     "made (default: tessera.mp4, or tessera.png for one frame, and "
     "tessera-2 where that is there)"},
    {TS_F_OUTPUT_FORMAT, "format", 0, TS_KIND_CHOICE, "KIND", 0, 0,
     "png|jpg|webp|mp4|webm|gif|mkv|y4m", GEN | DEC, NULL,
     "What is written where the name does not say it: png, jpg, webp, mp4, webm, gif, mkv or y4m; "
     "of -o - (but mp4), of a folder/ (pictures), as the extension of a name without, or of "
     "tessera.KIND"},
    {TS_F_OVERWRITE, "overwrite", 'y', TS_KIND_SWITCH, NULL, 0, 0, NULL,
     GEN | DEC | BENCH | BATCH | SRCH, NULL, "Replace files that exist"},
    {TS_F_SCALE, "scale", 0, TS_KIND_WHOLE, "N", 1, 16, NULL, GEN | DEC | BATCH | ROW, NULL,
     "Enlarge N times while writing, 1 to 16 (default: the model's; 1 for numbered pictures)"},
    {TS_F_CRF, "crf", 0, TS_KIND_WHOLE, "N", 0, 63, NULL, GEN | DEC | BATCH | ROW, NULL,
     "Video quality, 1 (best) to 51 for MP4 and MKV, 63 for WebM (default: 18, 24); 0: lossless, "
     "of "
     "MKV every level of RGB (FFV1)"},
    {TS_F_QUALITY, "quality", 0, TS_KIND_WHOLE, "N", 1, 100, NULL, GEN | DEC | BATCH | ROW, NULL,
     "Quality of .jpg and .webp, 1 to 100; 100: lossless WebP (default: 95)"},
    {TS_F_NO_METADATA, "no-metadata", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | DEC | BATCH, NULL,
     "Leave prompt and settings out of the file"},

    {TS_F_PROMPT, "prompt", 'p', TS_KIND_TEXT, "TEXT", 0, 0, NULL, GEN | TOK | BENCH | SRCH,
     "Picture", "The prompt, as it stands: also one that is - or begins with @"},
    {TS_F_MODEL, "model", 'm', TS_KIND_TEXT, "DIR", 0, 0, "default",
     GEN | DEC | TOK | BENCH | BATCH | SRCH, NULL,
     "A diffusers folder, or ORG/NAME in the Hugging Face cache (default: the model that comes "
     "with tessera)"},
    {TS_F_TRANSFORMER, "transformer", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, FILES, NULL,
     "Transformer from a file (safetensors, GGUF, one of several parts) or a folder, in the naming "
     "of diffusers, of its authors or of ComfyUI; without --model and with the others: the model"},
    {TS_F_TRANSFORMER_2, "transformer-2", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, FILES, NULL,
     "The same of the second expert, which ends what the first (high noise) begins"},
    {TS_F_VAE, "vae", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, FILES, NULL, "The same of the VAE"},
    {TS_F_TEXT_ENCODER, "text-encoder", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, FILES, NULL,
     "The same of the text encoder, with the tokenizer that is in the file or beside it"},
    {TS_F_TOKENIZER, "tokenizer", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, FILES, NULL,
     "tokenizer.json, spiece.model, or a folder with one"},
    {TS_F_IMAGE_ENCODER, "image-encoder", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, FILES, NULL,
     "The same as --transformer, of the image encoder (CLIP vision) that Wan 2.1's transformers "
     "for images read"},
    {TS_F_TEXT_ENCODER_2, "text-encoder-2", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, FILES, NULL,
     "The same as --text-encoder, of the second one (CLIP) that HunyuanVideo reads"},
    {TS_F_TOKENIZER_2, "tokenizer-2", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, FILES, NULL,
     "Its tokenizer.json, its vocab.json (with merges.txt beside it), or a folder with one"},
    {TS_F_MODELS, "models", 0, TS_KIND_TEXT, "DIR", 0, 0, NULL, FILES, NULL,
     "ComfyUI's folder of models: in its diffusion_models/, vae/, text_encoders/, loras/ names are "
     "looked for that are no paths"},
    {TS_F_LORA, "lora", 0, TS_KIND_TEXTS, "FILE", 0, 0, NULL, GEN | BENCH | BATCH | ROW | SRCH,
     NULL,
     "Add a LoRA to the transformer, of a model with two experts to both: FILE or FILE:STRENGTH, "
     "-100 to 100 (default: 1); may be given several times"},
    {TS_F_LORA_HIGH, "lora-high", 0, TS_KIND_TEXTS, "FILE", 0, 0, NULL,
     GEN | BENCH | BATCH | ROW | SRCH, NULL, "The same, to the first (high-noise) expert alone"},
    {TS_F_LORA_LOW, "lora-low", 0, TS_KIND_TEXTS, "FILE", 0, 0, NULL,
     GEN | BENCH | BATCH | ROW | SRCH, NULL, "The same, to the second (low-noise) expert alone"},
    {TS_F_SIZE, "size", 0, TS_KIND_SIZE, "WxH", TS_SIDE_MIN, TS_SIDE_MAX, NULL,
     GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Width and height in pixels, 16 to 8192 each (default: the model's; with --image as many "
     "pixels "
     "in its proportions)"},
    {TS_F_WIDTH, "width", 'W', TS_KIND_WHOLE, "N", TS_SIDE_MIN, TS_SIDE_MAX, NULL,
     GEN | BENCH | BATCH | SRCH, NULL, "Width alone, 16 to 8192 (default: that of --size)"},
    {TS_F_HEIGHT, "height", 'H', TS_KIND_WHOLE, "N", TS_SIDE_MIN, TS_SIDE_MAX, NULL,
     GEN | BENCH | BATCH | SRCH, NULL, "Height alone, 16 to 8192 (default: that of --size)"},
    {TS_F_FRAMES, "frames", 0, TS_KIND_WHOLE, "N", 1, 10000, NULL, GEN | BENCH | BATCH | ROW | SRCH,
     NULL, "Number of frames, 1 to 10000 (default: the model's; 1 for a picture)"},
    {TS_F_FPS, "fps", 0, TS_KIND_REAL, "X", 0.1, 240, NULL, GEN | DEC | BENCH | BATCH | ROW, NULL,
     "Frames a second, 0.1 to 240 (default: the model's)"},
    {TS_F_STEPS, "steps", 0, TS_KIND_WHOLE, "N", 1, 1000, NULL, GEN | BENCH | BATCH | ROW | SRCH,
     NULL, "Denoising steps, 1 to 1000 (default: the model's)"},
    {TS_F_GUIDANCE, "guidance", 0, TS_KIND_REAL, "X", 0, 100, NULL,
     GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Classifier-free guidance, 0 to 100; up to 1 means without, in half the time (default: the "
     "model's)"},
    {TS_F_GUIDANCE_2, "guidance-2", 0, TS_KIND_REAL, "X", 0, 100, NULL,
     GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Guidance of a model's second expert (default: --guidance if given, else the model's)"},
    {TS_F_DYNAMIC_GUIDANCE, "dynamic-guidance", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL,
     GEN | BENCH | BATCH, NULL,
     "Guidance that changes from step to step, of CogVideoX alone: 1 and more, to 1 and "
     "--guidance"},
    {TS_F_NEGATIVE, "negative", 'n', TS_KIND_TEXT, "TEXT", 0, 0, NULL,
     GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Negative prompt: what to steer away from (default: the model's)"},
    {TS_F_SEED, "seed", 's', TS_KIND_SEED, "N", 0, 0, "random", GEN | BENCH | BATCH | ROW | SRCH,
     NULL, "Seed of the noise, 0 to 18446744073709551615, or random (default: 42)"},
    {TS_F_SAMPLER, "sampler", 0, TS_KIND_CHOICE, "NAME", 0, 0,
     "unipc|euler|dpmpp-2m|ddim|lcm|dpmpp-2m-sde|euler-a", GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Solver: unipc or euler for models of flow; dpmpp-2m, ddim, euler, lcm, dpmpp-2m-sde or "
     "euler-a for models of "
     "diffusion (default: the model's)"},
    {TS_F_SHIFT, "shift", 0, TS_KIND_REAL, "X", 0.01, 100, NULL, GEN | BENCH | BATCH | ROW | SRCH,
     NULL, "Shift of the noise schedule, 0.01 to 100 (default: the model's)"},
    {TS_F_TIMESTEPS, "timesteps", 0, TS_KIND_TEXT, "LIST", 0, 0, "default|trailing",
     GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Timesteps of a model of flow before their shift: default, as the sampler has them; trailing, "
     "evenly from 1000, for models of few steps; or a list like 1000,750,500,250, instead of "
     "--steps"},
    {TS_F_ATTENTION, "attention", 0, TS_KIND_TEXT, "POLICY", 0, 0,
     "dense|auto|adaspa|tile|window|radial|pooled|svg|recycled|random|blocks", GEN | BATCH | ROW,
     NULL,
     "How the transformer attends: dense, auto (what measurements recommend), adaspa, tile, "
     "window, radial, pooled, svg, recycled, random or blocks, with keys like adaspa:keep=0.2 "
     "(default: "
     "dense)"},
    {TS_F_CACHE_STEPS, "cache-steps", 0, TS_KIND_TEXT, "METHOD", 0, 0, "none|easycache",
     GEN | BATCH | ROW, NULL,
     "Steps that the last computed one foretells are not evaluated: none or easycache, with keys "
     "like easycache:threshold=0.1 (default: none)"},
    {TS_F_VAE_TILE, "vae-tile", 0, TS_KIND_TILE, "WxH", TS_SIDE_MIN, TS_SIDE_MAX, "auto|off",
     GEN | DEC | BENCH | BATCH | ROW, NULL,
     "Decode in tiles of this many pixels: auto (only when a frame does not fit the memory), off "
     "or WxH (default: auto)"},
    {TS_F_NO_BINS, "no-bins", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | BATCH, NULL,
     "Draw a picture at the size given, instead of the nearest that the model was trained on and "
     "resizing it"},
    {TS_F_PICTURES, "count", 'b', TS_KIND_WHOLE, "N", 1, 64, NULL, GEN, NULL,
     "Make N with seeds that follow each other, 1 to 64 (default: 1): pictures at once, clips in "
     "turn"},
    {TS_F_GRID, "grid", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | DEC, NULL,
     "Put all pictures, or all frames of a clip, side by side into one picture; of --count clips "
     "each frame, into one clip"},
    {TS_F_INIT, "init", 'i', TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN | BATCH | ROW, NULL,
     "Begin with a picture (PNG, JPEG, WebP, TIFF, GIF, BMP, TGA; - is standard input) under noise "
     "instead of noise alone; models of pictures only"},
    {TS_F_STRENGTH, "strength", 0, TS_KIND_REAL, "X", 0.01, 1, NULL, GEN | BATCH | ROW, NULL,
     "How much of it may change: the share of the steps that are run, 0.01 to 1 (default: 0.6)"},
    {TS_F_IMAGE, "image", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN | BENCH | BATCH | ROW, NULL,
     "Image that the clip begins with, of models that make clips of one (formats as --init); "
     "without --size the clip has its proportions"},
    {TS_F_LAST_IMAGE, "last-image", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN | BENCH | BATCH | ROW,
     NULL, "Image that the clip ends with, of models that take two"},

    {TS_F_FROM, "from", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, "Files",
     "Render again what FILE, an output or latents of tessera, was made from; other flags "
     "override"},
    {TS_F_NOISE, "noise", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Start from the tensor noise [C, F, H, W] of a safetensors file instead of the seed's; where "
     "it has step_noise [steps, C, F, H, W], samplers that add noise after steps take that, and "
     "models that draw latents of an image image_noise [C, 1, H, W]"},
    {TS_F_SAVE_LATENTS, "save-latents", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Write the final latents (safetensors) before decoding; tessera decode goes on from them"},
    {TS_F_STATE, "state", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Save the state after every step; the same command goes on from it"},
    {TS_F_NO_STATE, "no-state", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | BATCH, NULL,
     "Keep no state beside the output of a run that takes more than ten minutes"},
    {TS_F_SAVE_PLAN, "save-plan", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Write the plans of sparse attention (safetensors); --attention blocks:file=FILE replays "
     "them"},
    {TS_F_SAVE_PLAN_SCORES, "save-plan-scores", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN, NULL,
     "Add to them what every search saw"},
    {TS_F_PLAN_IMAGE, "plan-image", 0, TS_KIND_TEXT, "DIR", 0, 0, NULL, GEN, NULL,
     "Draw plans and recall as PNGs into a folder, a head a tile"},
    {TS_F_PREVIEW, "preview", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN | BATCH | ROW, NULL,
     "Show how far the run is in a file that is replaced after steps: the middle frame in a .png, "
     "all of the latents in a .gif or another clip; a quarter of the size, in the colours of a "
     "linear map; term: on a terminal that shows pictures"},
    {TS_F_PREVIEW_EVERY, "preview-every", 0, TS_KIND_WHOLE, "N", 1, 1000, NULL, GEN | BATCH, NULL,
     "Steps from one preview to the next, 1 to 1000 (default: 1)"},

    {TS_F_OUT, "out", 'o', TS_KIND_TEXT, "DIR", 0, 0, NULL, BATCH, "Batch",
     "Folder of the outputs, made if need be; the manifest of the batch is kept there, too"},
    {TS_F_NAME, "name", 0, TS_KIND_TEXT, "TEMPLATE", 0, 0, NULL, BATCH, NULL,
     "Names of the outputs, from fields in braces (default: {slug:60}_s{seed}_{hash:6})"},
    {TS_F_FORMAT, "format", 0, TS_KIND_CHOICE, "KIND", 0, 0,
     "png|jpg|webp|mp4|webm|gif|mkv|y4m|frames", BATCH | ROW, NULL,
     "What is written: png, jpg, webp, mp4, webm, gif, mkv, y4m or frames, a folder of PNGs "
     "(default: png for "
     "one frame, else mp4)"},
    {TS_F_COPIES, "count", 'b', TS_KIND_WHOLE, "N", 1, 10000, NULL, BATCH | ROW, NULL,
     "Renderings of each row, 1 to 10000, with seeds that follow each other (default: 1)"},
    {TS_F_KEEP_GOING, "keep-going", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Skip rows that can not be used or fail, and end with exit code 1 (the default)"},
    {TS_F_FAIL_FAST, "fail-fast", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Stop at the first row that fails; begin with none when one can not be used"},
    {TS_F_RETRY, "retry", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Render rows again that failed in an earlier run"},
    {TS_F_RESUME_STEPS, "resume-steps", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Save the state of a row after every step, so that a killed row goes on there"},
    {TS_F_SHARD, "shard", 0, TS_KIND_TEXT, "I/N", 0, 0, "auto", BATCH, NULL,
     "Render share I of N; auto takes both from Slurm, Open MPI or AWS Batch, auto/N the index "
     "from Kubernetes or GNU parallel"},
    {TS_F_QUEUE, "queue", 0, TS_KIND_TEXT, "URL", 0, 0, NULL, BATCH, NULL,
     "Share the rows one by one with other workers: redis://HOST:PORT/NAME"},
    {TS_F_CLAIM_TIMEOUT, "claim-timeout", 0, TS_KIND_WHOLE, "SECS", 1, 1000000, NULL, BATCH, NULL,
     "With --queue: a row whose worker has been silent for so long is taken over (default: 900)"},
    {TS_F_CACHE, "cache", 0, TS_KIND_TEXT, "DIR", 0, 0, NULL, BATCH, NULL,
     "Keep encoded texts in a folder, made if need be, for later runs"},
    {TS_F_REPORT, "report", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, BATCH, NULL,
     "Write a page with a strip of frames, prompt, seed and seconds of every row"},
    {TS_F_STATUS, "status", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Tell what all shares have done so far, and render nothing"},

    {TS_F_BENCH_ATTENTION, "attention", 0, TS_KIND_TEXTS, "POLICY", 0, 0,
     "dense|auto|adaspa|tile|window|radial|pooled|svg|recycled|random|blocks", BENCH, "Measuring",
     "A policy to measure against dense; may be given 32 times (default: adaspa)"},
    {TS_F_BENCH_CACHE, "cache-steps", 0, TS_KIND_TEXTS, "METHOD", 0, 0, "easycache", BENCH, NULL,
     "Measure every policy, dense among them, with step caching too; may be given 32 times"},
    {TS_F_SWEEP, "sweep", 0, TS_KIND_TEXT, "KEY=A:B:STEP", 0, 0, NULL, BENCH, NULL,
     "Measure every policy that takes KEY at these values, like keep=0.1:0.5:0.1"},
    {TS_F_HTML, "html", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, BENCH, NULL,
     "Write a report as one HTML page: what it comes to in words, charts, of prompts clips side by "
     "side and plans"},
    {TS_F_STEP, "step", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BENCH, NULL,
     "Measure single evaluations of the transformer, on random numbers, without text encoder and "
     "VAE"},
    {TS_F_KERNEL, "kernel", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BENCH, NULL,
     "Measure the attention kernels alone"},
    {TS_F_TOKENS, "tokens", 0, TS_KIND_WHOLES, "N,N,...", 1, 1 << 24, NULL, BENCH, NULL,
     "Numbers of tokens (default: 4096,16384)"},
    {TS_F_HEADS, "heads", 0, TS_KIND_WHOLE, "N", 1, 1024, NULL, BENCH, NULL,
     "Heads, 1 to 1024 (default: 12)"},
    {TS_F_DIM, "dim", 0, TS_KIND_WHOLE, "N", 1, 1024, NULL, BENCH, NULL,
     "Width of a head, 1 to 1024 (default: 128)"},
    {TS_F_KEEP, "keep", 0, TS_KIND_REALS, "X,X,...", 0.0001, 1, NULL, BENCH, NULL,
     "Shares of the key blocks that plans keep, 0.0001 to 1 (default: 1,0.5,0.2,0.1)"},
    {TS_F_REPEATS, "repeats", 0, TS_KIND_WHOLE, "N", 1, 1000, NULL, BENCH, NULL,
     "Times that each is measured, in turns, 1 to 1000; medians count (default: 3 for clips, 1 for "
     "--step, 5 for --kernel)"},

    {TS_F_TILE_OUTPUT, "output", 'o', TS_KIND_TEXT, "FILE", 0, 0, NULL, SRCH, "Search",
     "File to write, for --attention tile:file=FILE (default: tile.json)"},
    {TS_F_KS, "ks", 0, TS_KIND_WHOLES, "K,K,...", 1, 10000, NULL, SRCH, NULL,
     "Numbers of reference frames to choose from (default: 1,2,3,4 of 8 latent frames, scaled)"},
    {TS_F_LOSS, "loss", 0, TS_KIND_REAL, "X", 0, 1000, NULL, SRCH, NULL,
     "Largest relative squared error of a layer's self-attention output, 0 to 1000 (default: 0.1)"},
    {TS_F_SAMPLES, "samples", 0, TS_KIND_WHOLE, "N", 1, 32, NULL, SRCH, NULL,
     "Steps of each prompt to measure at, 1 to 32 (default: 3)"},

    {TS_F_PRECISION, "precision", 0, TS_KIND_CHOICE, "TYPE", 0, 0, "auto|f32|bf16",
     GEN | DEC | INFO | MODELS | BENCH | BATCH | SRCH, "Machine",
     "Arithmetic of transformer and text encoder: auto (bf16 where the CPU has it), f32 or bf16 "
     "(default: auto)"},
    {TS_F_THREADS, "threads", 't', TS_KIND_WHOLE, "N", 1, 1024, NULL,
     GEN | DEC | INFO | MODELS | BENCH | BATCH | SRCH, NULL,
     "CPU threads, 1 to 1024 (default: all that machine and cgroup allow; more are warned of)"},
    {TS_F_DEVICE, "device", 0, TS_KIND_TEXT, "KIND", 0, 0, "auto|cpu|cuda",
     GEN | DEC | INFO | MODELS | BENCH | BATCH | SRCH, NULL,
     "Device to compute on: auto, cpu, cuda or cuda:NUMBER (default: auto, the best there is)"},
    {TS_F_CPU, "cpu", 0, TS_KIND_CHOICE, "LEVEL", 0, 0, "ref|avx2|avx512|avx512_bf16",
     GEN | DEC | INFO | MODELS | BENCH | BATCH | SRCH, NULL,
     "Highest instruction set to use: ref, avx2, avx512 or avx512_bf16 (default: the CPU's)"},
    {TS_F_MEMORY, "memory", 0, TS_KIND_BYTES, "SIZE", MEMORY_MIN, MEMORY_MAX, NULL,
     GEN | DEC | INFO | MODELS | BENCH | BATCH | SRCH, NULL,
     "Memory that may be used, for instance 8G (default: what machine and cgroup allow; for "
     "weights that stay, what others leave of it)"},
    {TS_F_VRAM, "vram", 0, TS_KIND_BYTES, "SIZE", MEMORY_MIN, MEMORY_MAX, NULL,
     GEN | DEC | INFO | MODELS | BENCH | BATCH | SRCH, NULL,
     "The same of a GPU's own memory (default: what is free); weights that do not fit are "
     "streamed"},

    {TS_F_PROGRESS, "progress", 0, TS_KIND_CHOICE, "KIND", 0, 0, "bar|json|none",
     GEN | DEC | BENCH | BATCH | SRCH, "Reporting",
     "Progress on stderr: bar, json (one event a line) or none (default: bar)"},
    {TS_F_QUIET, "quiet", 'q', TS_KIND_SWITCH, NULL, 0, 0, NULL,
     GEN | DEC | INFO | MODELS | TOK | BENCH | BATCH | SRCH, NULL, "Nothing on stderr but errors"},
    {TS_F_PROFILE, "profile", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN, NULL,
     "Time every operation and print a table on stderr"},
    {TS_F_EXEC, "exec", 0, TS_KIND_TEXT, "CMD", 0, 0, NULL, GEN | BATCH, NULL,
     "Run a shell command when an output is there, which TESSERA_OUTPUT names"},
    {TS_F_DRY_RUN, "dry-run", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | DEC | BATCH, NULL,
     "Check everything, print sizes, memory, cost and time, and render nothing"},
    {TS_F_JSON, "json", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, INFO | MODELS | TOK | BATCH, NULL,
     "Print JSON; of a batch its status or plan"},
    {TS_F_JSON_FILE, "json", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, BENCH, NULL,
     "Write everything that was measured to FILE, as JSON"},
    {TS_F_PRESET, "preset", 0, TS_KIND_TEXT, "NAME", 0, 0, NULL, GEN | DEC | BENCH | BATCH | SRCH,
     NULL, "Take the section [preset NAME] of the configuration file"},
    {TS_F_NO_CONFIG, "no-config", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL,
     GEN | DEC | INFO | MODELS | TOK | BENCH | BATCH | SRCH, NULL,
     "Leave the configuration file alone"},
    {TS_F_HELP, "help", 'h', TS_KIND_SWITCH, NULL, 0, 0, NULL,
     GEN | DEC | INFO | MODELS | TOK | BENCH | BATCH | SRCH | COMP | CONF, NULL, "Print this help"},
};
enum { ROWS = sizeof table / sizeof *table };
_Static_assert((int)ROWS == (int)TS_F_COUNT, "a row for every flag");

/* What other programs call these, where meaning and values are the same. */
static const struct {
    const char *theirs, *ours;
} aliases[] = {
    {"negative-prompt", "negative"},
    {"cfg-scale", "guidance"},
    {"cfg", "guidance"},
    {"guidance-scale", "guidance"},
    {"guidance-scale-2", "guidance-2"},
    {"num-frames", "frames"},
    {"video-frames", "frames"},
    {"num-inference-steps", "steps"},
    {"flow-shift", "shift"},
    {"batch-count", "count"},
    {"output-dir", "out"},
    {"init-img", "init"},
    {"end-img", "last-image"},
    {"force", "overwrite"},
    {"preview-interval", "preview-every"},
};

/* What has no name here, or other values; a slip of habit gets the right one. */
static const struct {
    const char *theirs, *ours;
} habits[] = {
    {"prompt-file", "the command batch reads files of prompts, @FILE is one prompt"},
    {"sampling-method", "--sampler"},
    {"scheduler", "--sampler"},
    {"output-dir", "--output DIR/"},
    {"outdir", "--output DIR/, or --out of batch"},
    {"out", "--output"},
    {"lora-model-dir", "--models DIR, whose loras/ is looked in"},
    {"diffusion-model", "--transformer"},
    {"high-noise-diffusion-model", "--transformer, and --transformer-2 for the other"},
    {"dit", "--transformer"},
    {"t5xxl", "--text-encoder"},
    {"t5", "--text-encoder"},
    {"sigmas", "--timesteps, 1000 times sigma before the shift"},
    {"vae-tiling", "--vae-tile auto"},
    {"dtype", "--precision"},
    {"type", "--precision"},
    {"preview-path", "--preview FILE"},
    {"verbose", "--profile"},
    {"v", "--profile, or tessera --version"},
    {"f", "--frames"},
    {"w", "-W, of width"},
    {"h", "-H, of height"},
    {"l", "--guidance"},
    {"g", "--guidance"},
};

const ts_flag *ts_flags_table(int *count)
{
    *count = ROWS;
    return table;
}

const char *ts_flag_habit(const char *theirs)
{
    for (size_t i = 0; i < sizeof habits / sizeof *habits; i++)
        if (!strcmp(habits[i].theirs, theirs)) return habits[i].ours;
    return NULL;
}

const ts_flag *ts_flag_alias(unsigned commands, const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strlen(aliases[i].theirs) == n && !strncmp(aliases[i].theirs, name, n))
            return ts_flag_find(commands, aliases[i].ours, strlen(aliases[i].ours), 0);
    return NULL;
}

const char *ts_flag_alias_at(int i, const char **ours)
{
    if ((size_t)i >= sizeof aliases / sizeof *aliases) return NULL;
    *ours = aliases[i].ours;
    return aliases[i].theirs;
}

const char *ts_flag_name(ts_flag_id id)
{
    for (int i = 0; i < ROWS; i++)
        if (table[i].id == id) return table[i].name;
    return "";
}

const ts_flag *ts_flag_find(unsigned command, const char *name, size_t n, char letter)
{
    for (int i = 0; i < ROWS; i++) {
        const ts_flag *f = table + i;
        if (!(f->commands & command)) continue;
        if (letter ? f->letter == letter : strlen(f->name) == n && !strncmp(f->name, name, n))
            return f;
    }
    return NULL;
}
