/* The command line as data: one table of flags. Parsing, --help, the suggestions after a slip and
 * the list in docs/tessera.1 (checked by a test) follow from it. */
#ifndef TS_FLAGS_H
#define TS_FLAGS_H
#include "backend/base.h"

#include <stdbool.h>
#include <stdio.h>

typedef enum {
    TS_CMD_GENERATE = 1,
    TS_CMD_DECODE = 2,
    TS_CMD_INFO = 4,
    TS_CMD_TOKENS = 8,
    TS_CMD_BENCH = 16,
    TS_CMD_BATCH = 32,
    TS_CMD_SEARCH_TILE = 128,
    TS_CMD_MODELS = 256,
    TS_CMD_COMPLETION = 512,
    TS_CMD_CONFIG = 1024,
    TS_ROW = 64 /* no command: a row of a prompt file */
} ts_command_bit;

typedef enum {
    TS_F_OUTPUT,
    TS_F_OUTPUT_FORMAT,
    TS_F_OVERWRITE,
    TS_F_SCALE,
    TS_F_CRF,
    TS_F_QUALITY,
    TS_F_NO_METADATA,
    TS_F_PROMPT,
    TS_F_MODEL,
    TS_F_TRANSFORMER,
    TS_F_TRANSFORMER_2,
    TS_F_VAE,
    TS_F_TEXT_ENCODER,
    TS_F_TOKENIZER,
    TS_F_IMAGE_ENCODER,
    TS_F_TEXT_ENCODER_2,
    TS_F_TOKENIZER_2,
    TS_F_MODELS,
    TS_F_LORA,
    TS_F_LORA_HIGH,
    TS_F_LORA_LOW,
    TS_F_SIZE,
    TS_F_WIDTH,
    TS_F_HEIGHT,
    TS_F_FRAMES,
    TS_F_FPS,
    TS_F_STEPS,
    TS_F_GUIDANCE,
    TS_F_GUIDANCE_2,
    TS_F_DYNAMIC_GUIDANCE,
    TS_F_NEGATIVE,
    TS_F_SEED,
    TS_F_SAMPLER,
    TS_F_SHIFT,
    TS_F_TIMESTEPS,
    TS_F_ATTENTION,
    TS_F_CACHE_STEPS,
    TS_F_VAE_TILE,
    TS_F_NO_BINS,
    TS_F_PICTURES,
    TS_F_GRID,
    TS_F_INIT,
    TS_F_STRENGTH,
    TS_F_IMAGE,
    TS_F_LAST_IMAGE,
    TS_F_FROM,
    TS_F_NOISE,
    TS_F_SAVE_LATENTS,
    TS_F_STATE,
    TS_F_NO_STATE,
    TS_F_SAVE_PLAN,
    TS_F_SAVE_PLAN_SCORES,
    TS_F_PLAN_IMAGE,
    TS_F_PREVIEW,
    TS_F_PREVIEW_EVERY,
    TS_F_OUT,
    TS_F_NAME,
    TS_F_FORMAT,
    TS_F_COPIES,
    TS_F_KEEP_GOING,
    TS_F_FAIL_FAST,
    TS_F_RETRY,
    TS_F_RESUME_STEPS,
    TS_F_SHARD,
    TS_F_QUEUE,
    TS_F_CLAIM_TIMEOUT,
    TS_F_CACHE,
    TS_F_REPORT,
    TS_F_STATUS,
    TS_F_BENCH_ATTENTION,
    TS_F_BENCH_CACHE,
    TS_F_SWEEP,
    TS_F_HTML,
    TS_F_STEP,
    TS_F_KERNEL,
    TS_F_TOKENS,
    TS_F_HEADS,
    TS_F_DIM,
    TS_F_KEEP,
    TS_F_REPEATS,
    TS_F_TILE_OUTPUT,
    TS_F_KS,
    TS_F_LOSS,
    TS_F_SAMPLES,
    TS_F_PRECISION,
    TS_F_THREADS,
    TS_F_DEVICE,
    TS_F_CPU,
    TS_F_MEMORY,
    TS_F_VRAM,
    TS_F_PROGRESS,
    TS_F_QUIET,
    TS_F_PROFILE,
    TS_F_EXEC,
    TS_F_DRY_RUN,
    TS_F_JSON,
    TS_F_JSON_FILE,
    TS_F_PRESET,
    TS_F_NO_CONFIG,
    TS_F_HELP,
    TS_F_COUNT
} ts_flag_id;

typedef enum {
    TS_KIND_SWITCH, /* no value */
    TS_KIND_TEXT,
    TS_KIND_TEXTS,  /* `text`, may be given TS_TIMES_GIVEN times: `all`, `n` */
    TS_KIND_WHOLE,  /* `whole`, min..max */
    TS_KIND_REAL,   /* `real`, min..max */
    TS_KIND_CHOICE, /* `text`, one of choices */
    TS_KIND_SIZE,   /* `w`, `h`, each min..max */
    TS_KIND_TILE,   /* `text`: auto, off or a size */
    TS_KIND_BYTES,  /* `wide`, min..: a number with K, M, G or T (powers of 1024) */
    TS_KIND_WHOLES, /* `text`: whole numbers min..max between commas, at most TS_LIST of them */
    TS_KIND_REALS,  /* the same of numbers */
    TS_KIND_SEED    /* `wide`; `random` */
} ts_flag_kind;

typedef struct {
    ts_flag_id id;
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    ts_flag_kind kind;
    const char *value; /* how help calls the value; NULL: a switch */
    double min, max;
    const char
        *choices;      /* "unipc|euler": of TS_KIND_CHOICE all, else words that it may begin with */
    unsigned commands; /* ts_command_bit, or'ed */
    const char *group; /* heading of help; NULL: that of the row above */
    const char *help;  /* one line, no full stop */
} ts_flag;

enum { TS_TIMES_GIVEN = 32 };
typedef struct {
    bool set, random;
    const char *text; /* as given; borrowed from argv */
    long whole;
    double real;
    uint64_t wide;
    int w, h;
    const char *all[TS_TIMES_GIVEN]; /* texts in the order given */
    int n;
} ts_flag_value;

enum { TS_WORDS = 256, TS_LIST = 32, TS_SIDE_MIN = 16, TS_SIDE_MAX = 8192 /* pixels */ };
typedef struct {
    ts_flag_value value[TS_F_COUNT];
    const char *word[TS_WORDS]; /* what is not a flag, and texts of --prompt: the first of them */
    bool plain[TS_WORDS];       /* the word is what it says: that of --prompt */
    int words;                  /* how many there were */
    char error[512];
} ts_flags;

/* Parses argv[0..argc) (without program and command) for one command. --x V, --x=V, -o V, -oV;
 * names that other programs have for a flag (ts_flag_alias); `--` ends the flags; of a flag given
 * twice the last counts, --width and --height being the halves of --size (0: not given). TS_EUSAGE:
 * flags->error says which flag, what was got and wanted, and what was probably meant. */
ts_status ts_flags_parse(ts_flags *, ts_command_bit, int argc, char *const *argv);
/* One setting of a row of a prompt file, by its key (a long name) into the same values. TS_EUSAGE:
 * flags->error, in the words of rows: "steps: got "0", expected ...". */
ts_status ts_flags_key(ts_flags *, const char *key, const char *value);
/* A whole number that a program wrote with a fraction of zeros (42.0), without it; any other text
 * as it is, cut where out ends. */
void ts_drop_fraction(const char *value, char *out, size_t size);
enum { TS_HELP_LEAST = 40, TS_HELP_MOST = 120 };
/* The flags of a command, in lines of at most `width` columns where words allow it. */
void ts_flags_help(FILE *, ts_command_bit, int width);
/* The columns that help may take: what `columns` (of the environment; NULL) says, else the terminal
 * that `out` is, else 80; TS_HELP_LEAST to TS_HELP_MOST. */
int ts_help_width(FILE *out, const char *columns);
/* Prints text and a line end, broken between words; `at`: the column that it begins in, `indent`:
 * where later lines begin. A line feed in the text begins a line. */
void ts_print_wrapped(FILE *out, const char *text, int at, int indent, int width);
/* A sentence of the library, which names members of its structs as `vae_tile`: with the flags that
 * set them, --vae-tile. Other words between such quotes stay. Cut where out ends. */
void ts_flags_reword(const char *sentence, char *out, size_t size);
const ts_flag *ts_flags_table(int *count);
const char *ts_flag_name(ts_flag_id); /* without the dashes */
static inline bool ts_flag_set(const ts_flags *f, ts_flag_id id) { return f->value[id].set; }
static inline const char *ts_flag_text(const ts_flags *f, ts_flag_id id)
{
    return f->value[id].text; /* NULL: not given */
}
/* "832x480": two whole numbers, each min..max. */
bool ts_parse_size(const char *, int min, int max, int *w, int *h);
/* "4096,16384": numbers min..max, whole ones only when `integers`; how many, 0: the text is not
 * that. */
int ts_parse_list(const char *, bool integers, double min, double max, double out[TS_LIST]);
#endif
