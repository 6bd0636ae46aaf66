/* Owns the table of flags and the one parser that reads a command line by it. */
#include "cli/flags.h"

#include "backend/number.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    GEN = TS_CMD_GENERATE,
    DEC = TS_CMD_DECODE,
    INFO = TS_CMD_INFO,
    TOK = TS_CMD_TOKENS,
    BENCH = TS_CMD_BENCH,
    SRCH = TS_CMD_SEARCH_TILE,
    BATCH = TS_CMD_BATCH,
    ROW = TS_ROW
};
#define MEMORY_MIN (16.0 * 1024 * 1024)
#define MEMORY_MAX (1024.0 * 1024 * 1024 * 1024 * 1024 * 8)

static const ts_flag table[] = {
    {TS_F_OUTPUT, "output", 'o', TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN | DEC | ROW, "Output",
     "File to write: .mp4, .webm, .gif, .png, a pattern like f-%04d.png, or a folder/ of numbered "
     "PNGs (default: tessera.mp4, or tessera.png for one frame)"},
    {TS_F_OVERWRITE, "overwrite", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL,
     GEN | DEC | BENCH | BATCH | SRCH, NULL, "Replace files that exist"},
    {TS_F_SCALE, "scale", 0, TS_KIND_WHOLE, "N", 1, 16, NULL, GEN | DEC | BATCH | ROW, NULL,
     "Enlarge N times while writing, 1 to 16 (default: the model's; 1 for numbered PNGs)"},
    {TS_F_CRF, "crf", 0, TS_KIND_WHOLE, "N", 0, 63, NULL, GEN | DEC | BATCH | ROW, NULL,
     "Video quality, 0 (best) to 51 for MP4, 63 for WebM (default: 18, 24)"},
    {TS_F_NO_METADATA, "no-metadata", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | DEC | BATCH, NULL,
     "Leave prompt and settings out of the file"},

    {TS_F_MODEL, "model", 0, TS_KIND_TEXT, "DIR", 0, 0, NULL,
     GEN | DEC | TOK | BENCH | BATCH | SRCH, "Picture",
     "A diffusers folder, or ORG/NAME in the Hugging Face cache (default: the model that comes "
     "with tessera)"},
    {TS_F_SIZE, "size", 0, TS_KIND_SIZE, "WxH", TS_SIDE_MIN, TS_SIDE_MAX, NULL,
     GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Width and height in pixels, 16 to 8192 each (default: the model's)"},
    {TS_F_FRAMES, "frames", 0, TS_KIND_WHOLE, "N", 1, 10000, NULL, GEN | BENCH | BATCH | ROW | SRCH,
     NULL, "Number of frames, 1 to 10000 (default: the model's; 1 for a .png)"},
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
    {TS_F_NEGATIVE, "negative", 0, TS_KIND_TEXT, "TEXT", 0, 0, NULL,
     GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Negative prompt: what to steer away from (default: the model's)"},
    {TS_F_SEED, "seed", 0, TS_KIND_SEED, "N", 0, 0, NULL, GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Seed of the noise, 0 to 18446744073709551615, or random (default: 42)"},
    {TS_F_SAMPLER, "sampler", 0, TS_KIND_CHOICE, "NAME", 0, 0, "unipc|euler|dpmpp-2m|ddim|lcm",
     GEN | BENCH | BATCH | ROW | SRCH, NULL,
     "Solver: unipc or euler for models of flow; dpmpp-2m, ddim, euler or lcm for models of "
     "diffusion (default: the model's)"},
    {TS_F_SHIFT, "shift", 0, TS_KIND_REAL, "X", 0.01, 100, NULL, GEN | BENCH | BATCH | ROW | SRCH,
     NULL, "Shift of the noise schedule, 0.01 to 100 (default: the model's)"},
    {TS_F_ATTENTION, "attention", 0, TS_KIND_TEXT, "POLICY", 0, 0, NULL, GEN | BATCH | ROW, NULL,
     "How the transformer attends: dense, adaspa, tile, window, pooled, random or blocks, with "
     "keys like adaspa:keep=0.2 (default: dense)"},
    {TS_F_VAE_TILE, "vae-tile", 0, TS_KIND_TILE, "WxH", TS_SIDE_MIN, TS_SIDE_MAX, NULL,
     GEN | DEC | BENCH | BATCH | ROW, NULL,
     "Decode in tiles of this many pixels: auto (only when a frame does not fit the memory), off "
     "or WxH (default: auto)"},
    {TS_F_NO_BINS, "no-bins", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | BATCH, NULL,
     "Draw a picture at the size given, instead of the nearest that the model was trained on and "
     "resizing it"},
    {TS_F_PICTURES, "count", 0, TS_KIND_WHOLE, "N", 1, 64, NULL, GEN, NULL,
     "Draw N pictures at once, 1 to 64, with seeds that follow each other (default: 1); models of "
     "pictures only"},
    {TS_F_GRID, "grid", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | DEC, NULL,
     "Put all pictures or frames side by side into one .png"},
    {TS_F_INIT, "init", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Begin with a picture (PNG, JPEG, BMP, TGA) under noise instead of noise alone; models of "
     "pictures only"},
    {TS_F_STRENGTH, "strength", 0, TS_KIND_REAL, "X", 0.01, 1, NULL, GEN, NULL,
     "How much of it may change: the share of the steps that are run, 0.01 to 1 (default: 0.6)"},

    {TS_F_FROM, "from", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, "Files",
     "Render again what FILE, an output or latents of tessera, was made from; other flags "
     "override"},
    {TS_F_NOISE, "noise", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Start from the tensor noise [C, F, H, W] of a safetensors file instead of the seed's"},
    {TS_F_SAVE_LATENTS, "save-latents", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Write the final latents (safetensors) before decoding; tessera decode goes on from them"},
    {TS_F_STATE, "state", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Save the state after every step; the same command goes on from it"},
    {TS_F_SAVE_PLAN, "save-plan", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, GEN, NULL,
     "Write the plans of sparse attention (safetensors); --attention blocks:file=FILE replays "
     "them"},
    {TS_F_SAVE_PLAN_SCORES, "save-plan-scores", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN, NULL,
     "Add to them what every search saw"},
    {TS_F_PLAN_IMAGE, "plan-image", 0, TS_KIND_TEXT, "DIR", 0, 0, NULL, GEN, NULL,
     "Draw plans and recall as PNGs into a folder, a head a tile"},

    {TS_F_OUT, "out", 'o', TS_KIND_TEXT, "DIR", 0, 0, NULL, BATCH, "Batch",
     "Folder of the outputs, made if need be; the account of the work is kept there, too"},
    {TS_F_NAME, "name", 0, TS_KIND_TEXT, "TEMPLATE", 0, 0, NULL, BATCH, NULL,
     "Names of the outputs, from fields in braces (default: {index:04}_{slug:60}_s{seed})"},
    {TS_F_FORMAT, "format", 0, TS_KIND_CHOICE, "KIND", 0, 0, "png|mp4|webm|gif|frames", BATCH | ROW,
     NULL,
     "What is written: png, mp4, webm, gif or frames, a folder of PNGs (default: png for one "
     "frame, else mp4)"},
    {TS_F_COPIES, "count", 0, TS_KIND_WHOLE, "N", 1, 10000, NULL, BATCH | ROW, NULL,
     "Renderings of each row, 1 to 10000, with seeds that follow each other (default: 1)"},
    {TS_F_KEEP_GOING, "keep-going", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Skip rows that can not be used or fail, and end with exit code 1 (the default)"},
    {TS_F_FAIL_FAST, "fail-fast", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Stop at the first row that fails; begin with none when one can not be used"},
    {TS_F_RETRY, "retry", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Render rows again that failed in an earlier run"},
    {TS_F_RESUME_STEPS, "resume-steps", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, BATCH, NULL,
     "Save the state of a row after every step, so that a killed row goes on there"},
    {TS_F_SHARD, "shard", 0, TS_KIND_TEXT, "I/N", 0, 0, NULL, BATCH, NULL,
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

    {TS_F_BENCH_ATTENTION, "attention", 0, TS_KIND_TEXTS, "POLICY", 0, 0, NULL, BENCH, "Measuring",
     "A policy to measure against dense; may be given 32 times (default: adaspa)"},
    {TS_F_SWEEP, "sweep", 0, TS_KIND_TEXT, "KEY=A:B:STEP", 0, 0, NULL, BENCH, NULL,
     "Measure every policy that takes KEY at these values, like keep=0.1:0.5:0.1"},
    {TS_F_HTML, "html", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, BENCH, NULL,
     "Write a report with charts, clips side by side and plans, as one HTML page"},
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
     GEN | DEC | INFO | BENCH | BATCH | SRCH, "Machine",
     "Arithmetic of transformer and text encoder: auto (bf16 where the CPU has it), f32 or bf16 "
     "(default: auto)"},
    {TS_F_THREADS, "threads", 0, TS_KIND_WHOLE, "N", 1, 1024, NULL,
     GEN | DEC | INFO | BENCH | BATCH | SRCH, NULL,
     "CPU threads, 1 to 1024 (default: all that machine and cgroup allow)"},
    {TS_F_CPU, "cpu", 0, TS_KIND_CHOICE, "LEVEL", 0, 0, "ref|avx2|avx512|avx512_bf16",
     GEN | DEC | INFO | BENCH | BATCH | SRCH, NULL,
     "Highest instruction set to use: ref, avx2, avx512 or avx512_bf16 (default: the CPU's)"},
    {TS_F_MEMORY, "memory", 0, TS_KIND_BYTES, "SIZE", MEMORY_MIN, MEMORY_MAX, NULL,
     GEN | DEC | INFO | BENCH | BATCH | SRCH, NULL,
     "Memory that may be used, for instance 8G (default: what machine and cgroup allow)"},

    {TS_F_PROGRESS, "progress", 0, TS_KIND_CHOICE, "KIND", 0, 0, "bar|json|none",
     GEN | DEC | BENCH | BATCH | SRCH, "Reporting",
     "Progress on stderr: bar, json (one event a line) or none (default: bar)"},
    {TS_F_QUIET, "quiet", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL,
     GEN | DEC | INFO | TOK | BENCH | BATCH | SRCH, NULL, "Nothing on stderr but errors"},
    {TS_F_PROFILE, "profile", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN, NULL,
     "Time every operation and print a table on stderr"},
    {TS_F_DRY_RUN, "dry-run", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, GEN | DEC | BATCH, NULL,
     "Check everything, print sizes, memory and cost, and render nothing"},
    {TS_F_JSON, "json", 0, TS_KIND_SWITCH, NULL, 0, 0, NULL, INFO | TOK, NULL, "Print JSON"},
    {TS_F_JSON_FILE, "json", 0, TS_KIND_TEXT, "FILE", 0, 0, NULL, BENCH, NULL,
     "Write everything that was measured to FILE, as JSON"},
    {TS_F_HELP, "help", 'h', TS_KIND_SWITCH, NULL, 0, 0, NULL,
     GEN | DEC | INFO | TOK | BENCH | BATCH | SRCH, NULL, "Print this help"},
};
enum { ROWS = sizeof table / sizeof *table };

/* What other programs call these; a slip of habit gets the right name. */
static const struct {
    const char *theirs, *ours;
} habits[] = {
    {"width", "--size WxH"},
    {"height", "--size WxH"},
    {"prompt", "the prompt itself, in quotes"},
    {"negative-prompt", "--negative"},
    {"cfg-scale", "--guidance"},
    {"cfg", "--guidance"},
    {"guidance-scale", "--guidance"},
    {"guidance-scale-2", "--guidance-2"},
    {"num-frames", "--frames"},
    {"video-frames", "--frames"},
    {"num-inference-steps", "--steps"},
    {"sampling-method", "--sampler"},
    {"scheduler", "--sampler"},
    {"flow-shift", "--shift"},
    {"out", "--output"},
    {"force", "--overwrite"},
    {"vae-tiling", "--vae-tile auto"},
    {"dtype", "--precision"},
    {"verbose", "--profile"},
};

const ts_flag *ts_flags_table(int *count)
{
    *count = ROWS;
    return table;
}

/* ---- suggestions ---- */
enum { LONGEST = 48 };

static int least_of(int a, int b) { return a < b ? a : b; }

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b (optimal string
 * alignment). */
static int edit_distance(const char *a, const char *b)
{
    int d[LONGEST + 1][LONGEST + 1], n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            d[i][j] = least_of(least_of(d[i - 1][j], d[i][j - 1]) + 1,
                               d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least_of(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[n][m];
}

const char *ts_nearest(const char *word, const char *const *list)
{
    const char *best = NULL;
    int nearest = LONGEST;
    for (; *list; list++) {
        int n = (int)strlen(word), far = edit_distance(word, *list);
        if (n >= 3 && !strncmp(word, *list, (size_t)n)) far = 1; /* the beginning of it */
        if (far <= 1 + n / 4 && far < nearest) {
            best = *list;
            nearest = far;
        }
    }
    return best;
}

/* ---- values ---- */
static bool read_whole(const char *s, double min, double max, long *out)
{
    uint64_t n;
    bool negative = *s == '-';
    if (!ts_whole_read(s + negative, LONG_MAX, &n)) return false;
    *out = negative ? -(long)n : (long)n;
    return (double)*out >= min && (double)*out <= max;
}

static bool read_real(const char *s, double min, double max, double *out)
{
    return ts_number_read(s, out) && *out >= min && *out <= max;
}

bool ts_parse_size(const char *s, int min, int max, int *w, int *h)
{
    uint64_t a, b;
    const char *end;
    if (!ts_whole_prefix(s, &a, &end) || (*end != 'x' && *end != 'X')) return false;
    if (!ts_whole_read(end + 1, (uint64_t)max, &b)) return false;
    if (a < (uint64_t)min || a > (uint64_t)max || b < (uint64_t)min) return false;
    *w = (int)a;
    *h = (int)b;
    return true;
}

int ts_parse_list(const char *s, bool integers, double min, double max, double out[TS_LIST])
{
    int n = 0;
    for (char one[32]; n < TS_LIST; s++) {
        long i;
        size_t length = strcspn(s, ",");
        snprintf(one, sizeof one, "%.*s", length < sizeof one ? (int)length : 0, s);
        if (integers ? !read_whole(one, min, max, &i) : !read_real(one, min, max, out + n))
            return 0;
        if (integers) out[n] = (double)i;
        n++;
        s += length;
        if (!*s) return n;
    }
    return 0;
}

static bool read_bytes(const char *s, double min, double max, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *end;
    double x;
    if (!isdigit((unsigned char)*s) || !ts_number_prefix(s, &x, &end)) return false;
    const char *u = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (u) {
        for (const char *p = units; p <= u; p++) x *= 1024;
        end++;
        if (*end == 'i') end++;
    }
    if (*end == 'B' || *end == 'b') end++;
    if (*end || x < min || x > max) return false;
    *out = (uint64_t)x;
    return true;
}

static bool read_seed(const char *s, ts_flag_value *v)
{
    v->random = !strcmp(s, "random") || !strcmp(s, "-1");
    return v->random || ts_whole_read(s, UINT64_MAX, &v->wide);
}

static bool is_choice(const char *choices, const char *s)
{
    size_t n = strlen(s);
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (n && !strchr(s, '|') && !strncmp(p, s, n) && (p[n] == '|' || !p[n])) return true;
    return false;
}

static bool convert_value(const ts_flag *f, const char *s, ts_flag_value *v)
{
    switch (f->kind) {
    case TS_KIND_SWITCH: return true;
    case TS_KIND_TEXT: return *s || f->id == TS_F_NEGATIVE;
    case TS_KIND_TEXTS:
        if (!*s || v->n == TS_TIMES_GIVEN) return false;
        v->all[v->n++] = s;
        return true;
    case TS_KIND_WHOLE: return read_whole(s, f->min, f->max, &v->whole);
    case TS_KIND_REAL: return read_real(s, f->min, f->max, &v->real);
    case TS_KIND_CHOICE: return is_choice(f->choices, s);
    case TS_KIND_SIZE: return ts_parse_size(s, (int)f->min, (int)f->max, &v->w, &v->h);
    case TS_KIND_TILE:
        return is_choice("auto|off", s) || ts_parse_size(s, (int)f->min, (int)f->max, &v->w, &v->h);
    case TS_KIND_BYTES: return read_bytes(s, f->min, f->max, &v->wide);
    case TS_KIND_WHOLES: return ts_parse_list(s, true, f->min, f->max, (double[TS_LIST]){0}) > 0;
    case TS_KIND_REALS: return ts_parse_list(s, false, f->min, f->max, (double[TS_LIST]){0}) > 0;
    case TS_KIND_SEED: return read_seed(s, v);
    }
    return false;
}

/* "unipc|euler" -> "unipc or euler" */
static void list_choices(const char *choices, char *out, size_t size)
{
    size_t n = 0;
    const char *last = strrchr(choices, '|');
    for (const char *p = choices; *p && n + 8 < size; p++) {
        const char *between = *p != '|' ? NULL : p == last ? " or " : ", ";
        if (between)
            n += (size_t)snprintf(out + n, size - n, "%s", between);
        else
            out[n++] = *p;
    }
    out[n] = 0;
}

static void describe_value(const ts_flag *f, char *out, size_t size)
{
    switch (f->kind) {
    case TS_KIND_SWITCH: snprintf(out, size, "no value"); break;
    case TS_KIND_TEXT:
        snprintf(out, size, "a %s",
                 f->id == TS_F_NEGATIVE    ? "text"
                 : f->id == TS_F_ATTENTION ? "policy"
                 : f->id == TS_F_SWEEP     ? "range like keep=0.1:0.5:0.1"
                 : f->id == TS_F_MODEL     ? "folder or name"
                                           : "file name");
        break;
    case TS_KIND_WHOLE:
        snprintf(out, size, "a whole number from %.0f to %.0f", f->min, f->max);
        break;
    case TS_KIND_REAL: snprintf(out, size, "a number from %g to %g", f->min, f->max); break;
    case TS_KIND_CHOICE: list_choices(f->choices, out, size); break;
    case TS_KIND_SIZE:
        snprintf(out, size, "WxH with %.0f to %.0f pixels a side, for instance 832x480", f->min,
                 f->max);
        break;
    case TS_KIND_TILE:
        snprintf(out, size, "auto, off or WxH with %.0f to %.0f pixels a side", f->min, f->max);
        break;
    case TS_KIND_BYTES:
        snprintf(out, size, "a size with its unit, %.0fM to %.0fT, for instance 8G",
                 f->min / 1024 / 1024, f->max / 1024 / 1024 / 1024 / 1024);
        break;
    case TS_KIND_TEXTS:
        snprintf(out, size, "%s, at most %d times", f->value, TS_TIMES_GIVEN);
        break;
    case TS_KIND_WHOLES:
        snprintf(out, size,
                 "whole numbers from %.0f to %.0f with commas between, at most %d of them", f->min,
                 f->max, TS_LIST);
        break;
    case TS_KIND_REALS:
        snprintf(out, size, "numbers from %g to %g with commas between, at most %d of them", f->min,
                 f->max, TS_LIST);
        break;
    case TS_KIND_SEED:
        snprintf(out, size, "a whole number from 0 to 18446744073709551615, or random");
        break;
    }
}

/* ---- parsing ---- */
static ts_status refuse_flag(ts_flags *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(p->error, sizeof p->error, format, list);
    va_end(list);
    return TS_EUSAGE;
}

const char *ts_flag_name(ts_flag_id id)
{
    for (int i = 0; i < ROWS; i++)
        if (table[i].id == id) return table[i].name;
    return "";
}

static const ts_flag *find_flag(unsigned command, const char *name, size_t n, char letter)
{
    for (int i = 0; i < ROWS; i++) {
        const ts_flag *f = table + i;
        if (!(f->commands & command)) continue;
        if (letter ? f->letter == letter : strlen(f->name) == n && !strncmp(f->name, name, n))
            return f;
    }
    return NULL;
}

/* `name` without dashes and value. */
static ts_status refuse_unknown_flag(ts_flags *p, unsigned command, const char *dashes,
                                     const char *name)
{
    const char *list[ROWS + 1], *near;
    int n = 0;
    const ts_flag *other = *dashes && dashes[1] ? find_flag(~0u, name, strlen(name), 0) : NULL;
    for (size_t i = 0; i < sizeof habits / sizeof *habits; i++)
        if (!strcmp(habits[i].theirs, name))
            return refuse_flag(p, "unknown flag %s%s: did you mean %s?", dashes, name,
                               habits[i].ours);
    for (int i = 0; i < ROWS; i++)
        if (table[i].commands & command) list[n++] = table[i].name;
    list[n] = NULL;
    near = ts_nearest(name, list);
    if (other && near)
        return refuse_flag(p, "--%s is not a flag of this command: did you mean --%s?", name, near);
    if (other) return refuse_flag(p, "--%s is not a flag of this command", name);
    if (near) return refuse_flag(p, "unknown flag %s%.64s: did you mean --%s?", dashes, name, near);
    return refuse_flag(p, "unknown flag %s%.64s: --help lists them all", dashes, name);
}

static ts_status refuse_value(ts_flags *p, const ts_flag *f, const char *got)
{
    char want[160];
    describe_value(f, want, sizeof want);
    if (!got) return refuse_flag(p, "--%s needs a value: %s", f->name, want);
    return refuse_flag(p, "--%s: got \"%.100s\", wanted %s", f->name, got, want);
}

/* A known flag where a value should stand is a forgotten value; `--x=--y` says that it is meant. */
static bool refuse_missing_value(unsigned command, const char *next)
{
    if (!next) return true;
    return !strncmp(next, "--", 2) && next[2] &&
           find_flag(command, next + 2, strcspn(next + 2, "="), 0);
}

static ts_status parse_flag(ts_flags *p, unsigned command, const char *arg, const char *next,
                            int *used)
{
    bool letter = arg[1] != '-';
    char name[LONGEST + 1];
    const char *body = arg + (letter ? 1 : 2), *value = NULL;
    size_t n = letter ? 1 : strcspn(body, "=");
    const ts_flag *f = find_flag(command, body, n, letter ? *body : 0);
    snprintf(name, sizeof name, "%.*s", letter ? LONGEST : (int)(n < LONGEST ? n : LONGEST), body);
    if (!f) return refuse_unknown_flag(p, command, letter ? "-" : "--", name);
    if (body[n]) value = body + n + (body[n] == '=');
    ts_flag_value v = {.set = true};
    if (f->kind == TS_KIND_TEXTS) {
        v = p->value[f->id];
        v.set = true;
    }
    if (f->kind == TS_KIND_SWITCH) {
        if (value) return refuse_flag(p, "--%s takes no value, got \"%.100s\"", f->name, value);
    } else {
        if (!value) {
            if (refuse_missing_value(command, next)) return refuse_value(p, f, NULL);
            value = next;
            *used = 2;
        }
        if (!convert_value(f, value, &v)) return refuse_value(p, f, value);
    }
    v.text = value;
    p->value[f->id] = v;
    return TS_OK;
}

ts_status ts_flags_parse(ts_flags *p, ts_command_bit command, int argc, char *const *argv)
{
    memset(p, 0, sizeof *p);
    bool ended = false;
    for (int i = 0, used; i < argc; i += used) {
        const char *arg = argv[i];
        used = 1;
        if (!ended && !strcmp(arg, "--")) {
            ended = true;
        } else if (!ended && arg[0] == '-' && arg[1]) {
            ts_status st = parse_flag(p, command, arg, i + 1 < argc ? argv[i + 1] : NULL, &used);
            if (st) return st;
        } else {
            if (p->words < TS_WORDS) p->word[p->words] = arg;
            p->words++;
        }
    }
    return TS_OK;
}

ts_status ts_flags_key(ts_flags *p, const char *key, const char *value)
{
    const char *list[ROWS + 6] = {"prompt", "width", "height", "seeds"}, *near;
    char want[160];
    int n = 4;
    const ts_flag *f = find_flag(ROW, key, strlen(key), 0);
    if (f) {
        ts_flag_value v = {.set = true, .text = value};
        describe_value(f, want, sizeof want);
        if (!convert_value(f, value, &v))
            return refuse_flag(p, "%s: got \"%.100s\", expected %s", f->name, value, want);
        p->value[f->id] = v;
        return TS_OK;
    }
    for (size_t i = 0; i < sizeof habits / sizeof *habits; i++)
        if (!strcmp(habits[i].theirs, key) && habits[i].ours[0] == '-' &&
            find_flag(ROW, habits[i].ours + 2, strcspn(habits[i].ours + 2, " "), 0))
            return refuse_flag(p, "unknown key %s, expected %.*s", key,
                               (int)strcspn(habits[i].ours + 2, " "), habits[i].ours + 2);
    for (int i = 0; i < ROWS; i++)
        if (table[i].commands & ROW) list[n++] = table[i].name;
    list[n] = NULL;
    near = ts_nearest(key, list);
    if (near) return refuse_flag(p, "unknown key %.64s, expected %s", key, near);
    char all[400];
    size_t at = 0;
    for (int i = 0; i < n && at < sizeof all; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", list[i]);
    return refuse_flag(p, "unknown key %.64s, expected one of %s", key, all);
}

/* ---- help ---- */
enum { COLUMN = 27, WIDTH = 100 };

static void print_wrapped(FILE *out, const char *text, int at)
{
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > COLUMN && at + 1 + n > WIDTH) {
            fprintf(out, "\n%*s", COLUMN, "");
            at = COLUMN;
        } else if (at > COLUMN) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", n, text);
        at += n;
        text += n;
        if (*text) text++;
    }
    fputc('\n', out);
}

void ts_flags_help(FILE *out, ts_command_bit command)
{
    const char *group = NULL, *said = NULL;
    for (int i = 0; i < ROWS; i++) {
        const ts_flag *f = table + i;
        char left[COLUMN + 32];
        if (f->group) group = f->group;
        if (!(f->commands & command)) continue;
        if (group != said) fprintf(out, "\n%s:\n", said = group);
        char letter[8] = "    ";
        if (f->letter) snprintf(letter, sizeof letter, "-%c, ", f->letter);
        snprintf(left, sizeof left, "  %s--%s%s%s", letter, f->name, f->value ? " " : "",
                 f->value ? f->value : "");
        fprintf(out, "%-*s", COLUMN, left);
        print_wrapped(out, f->help, COLUMN);
    }
}
