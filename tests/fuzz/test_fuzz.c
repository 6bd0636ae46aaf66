/* Every reader of files that may come from anybody, fed with what was a good file once. Inputs are
 * made by chance, but the same ones each time: input `i` of a target follows from its corpus and
 * from `i` alone, so that one that ends the program can be made again. Without arguments a Check
 * program with some thousand inputs; with arguments, as `make fuzz` runs it: test_fuzz INPUTS
 * [TARGET [FIRST]], under sanitizers.
 *
 * Nothing is asked of a result but that it is one: no bad access, no leak, no endless loop, and a
 * refusal has its sentence. */
#include "attention/plan_file.h"
#include "attention/policy.h"
#include "codecs/clip_vision.h"
#include "codecs/files.h"
#include "codecs/movie.h"
#include "codecs/picture.c"
#include "codecs/vae.h"
#include "dit/dit.h"
#include "prompts/rows.h"
#include "prompts/text.h"
#include "sampler/tessera.h"
#include "tests/fuzz/damage.h"
#include "tests/testing.h"
#include "weights/config.h"
#include "weights/gguf.h"
#include "weights/kinds.h"
#include "weights/lora.h"
#include "weights/safetensors.h"
#include "weights/set.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SEEDS = 16, PATIENCE = 20, QUICK = 400 };

static ts_ctx *ctx;
static char *folder;            /* of files that are read by path */
static ts_tokenizer *tokenizer; /* a good one */
static int memory_file = -1;

static void failed_without_sentence(const char *target, ts_status st, const ts_err *err)
{
    if (st == TS_OK || *err->text) return;
    fprintf(stderr, "%s: status %d without a sentence\n", target, (int)st);
    abort();
}

static damage_seed good_index;

/* ---- files by path ---- */
static const char *as_file(const uint8_t *in, size_t n)
{
    static char path[64];
    if (memory_file < 0) memory_file = memfd_create("input", 0);
    if (ftruncate(memory_file, 0) || pwrite(memory_file, in, n, 0) != (ssize_t)n) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory_file);
    return path;
}

static void put_file(const char *name, const uint8_t *in, size_t n)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    /* the parts of the model folder are links to the tree */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, in, n) != (ssize_t)n) abort();
    close(fd);
}

/* ---- targets: whether the input was taken as what it should be ---- */
static bool prompts(const uint8_t *in, size_t n)
{
    ts_err err = {0};
    ts_prompts *p;
    bool taken = false;
    for (int kind = TS_PROMPTS_GUESS; kind <= TS_PROMPTS_CSV; kind++) {
        ts_status st = ts_prompts_parse(&err, "file", (ts_prompts_kind)kind, (const char *)in, n,
                                        &p);
        failed_without_sentence("prompts", st, &err);
        for (int i = 0; !st && i < p->rows; i++) {
            if (p->row[i].index != i + 1 || (!p->row[i].faulty && !p->row[i].prompt)) abort();
            for (int k = 0; k < p->row[i].fields; k++)
                if (!p->row[i].field[k].key || !p->row[i].field[k].value) abort();
        }
        for (int i = 1; !st && i < p->faults; i++)
            if (p->fault[i].line < p->fault[i - 1].line) abort();
        if (st) continue;
        taken = taken || (p->rows && !p->faults);
        ts_prompts_free(p);
    }
    return taken;
}

static volatile uint8_t sink;

static bool safetensors(const uint8_t *in, size_t n)
{
    ts_err err = {0};
    ts_safetensors s;
    ts_status st = ts_safetensors_open(&err, as_file(in, n), &s);
    failed_without_sentence("safetensors", st, &err);
    if (st) return false;
    for (int i = 0; i < s.entries; i++) {
        const uint8_t *b = s.entry[i].t.data;
        if (s.entry[i].bytes) {
            sink = b[0];
            sink = b[s.entry[i].bytes - 1];
        }
        if (ts_safetensors_find(&s, s.entry[i].name) != s.entry + i) abort();
    }
    ts_safetensors_close(&s);
    ts_bag *bag;
    if (!ts_bag_load(&err, as_file(in, n), &bag)) ts_bag_free(bag);
    return true;
}

/* Rows of every entry that has some, from both ends. */
static void read_entries(const char *target, const ts_source *s)
{
    static float row[1 << 14];
    ts_err err = {0};
    for (int i = 0; i < s->entries; i++) {
        const ts_entry *e = s->entry + i;
        long rows = ts_entry_rows(e), width = ts_entry_width(e);
        if (e->odd || !rows || width > 1 << 14) continue;
        bool whole = ts_entry_count(e) <= 1 << 14;
        if (e->t.data && e->t.type > TS_F16) continue; /* of mapped integers read gives nothing */
        ts_status st = s->class->read(&err, s, e, 0, whole ? rows : 1, row);
        if (!st) st = s->class->read(&err, s, e, rows - 1, 1, row);
        failed_without_sentence(target, st, &err);
        sink = (uint8_t)row[0];
    }
}

static bool fp8(const uint8_t *in, size_t n)
{
    ts_source s;
    ts_status st = ts_source_open(&ctx->err, as_file(in, n), &s);
    failed_without_sentence("fp8", st, &ctx->err);
    if (st) return false;
    read_entries("fp8", &s);
    ts_source_close(&s);
    return true;
}

static bool config(const uint8_t *in, size_t n)
{
    cJSON *j = NULL;
    ts_dit_info dit = {0};
    ts_vae_info vae = {0};
    ts_status st = ts_json_load(&ctx->err, as_file(in, n), &j);
    failed_without_sentence("config", st, &ctx->err);
    if (st) return false;
    ts_dit_read(ctx, &ts_dit_wan, j, "config.json", &dit);
    ts_dit_read(ctx, &ts_dit_pixart, j, "config.json", &dit);
    void *own[2] = {calloc(1, ts_vae_wan.config_size), calloc(1, ts_vae_kl.config_size)};
    if (own[0]) ts_vae_wan.describe(ctx, j, "config.json", &vae, own[0]);
    if (own[1]) ts_vae_kl.describe(ctx, j, "config.json", &vae, own[1]);
    free(own[0]);
    free(own[1]);
    ts_component c = {.name = "text_encoder",
                      .cls = "UMT5EncoderModel",
                      .dir = "/nonexistent",
                      .config = j,
                      .config_path = "config.json"};
    ts_encoder *e = NULL;
    if (ts_encoder_open(ctx, &c, &e) == TS_OK) abort();
    ts_encoder_close(e);
    cJSON_Delete(j);
    return true;
}

/* A model folder in which one file is the input. */
static bool model(const char *file, const uint8_t *in, size_t n, const char *target)
{
    ts_model *m = NULL;
    put_file(file, in, n);
    ts_status st = ts_model_open(ctx, folder, &m);
    failed_without_sentence(target, st, &ctx->err);
    ts_model_close(m);
    return !st;
}

static bool scheduler(const uint8_t *in, size_t n)
{
    return model("scheduler/scheduler_config.json", in, n, "scheduler");
}

static bool model_index(const uint8_t *in, size_t n)
{
    bool taken = model("model_index.json", in, n, "index");
    put_file("model_index.json", good_index.b, good_index.n); /* other targets find a good one */
    return taken;
}

static bool tokenize(ts_tokenizer *t, const char *text)
{
    int32_t *ids = NULL;
    int count;
    bool cut;
    ts_status st = ts_tokenize(t, text, 64, &ids, &count, &cut);
    failed_without_sentence("tokenize", st, &ctx->err);
    for (int i = 0; !st && i < count; i++)
        if (ids[i] < 0 || ids[i] >= ts_token_count(t)) abort();
    if (!st) free(ids);
    return !st;
}

static bool tokenizer_of(const char *name, const uint8_t *in, size_t n)
{
    static const char *const texts[] = {"", "a b  aab",
                                        "\xE2\x96\x81 x \xC3\x84\xCC\x81 user xz <pad> X y",
                                        "\xF0\x9F\x90\xBC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    char dir[4300], other[4400];
    ts_tokenizer *t;
    snprintf(dir, sizeof dir, "%s/tokens", folder);
    snprintf(other, sizeof other, "tokens/%s", name);
    put_file(other, in, n);
    ts_status st = ts_tokenizer_open(ctx, dir, &t);
    failed_without_sentence(name, st, &ctx->err);
    for (size_t i = 0; !st && i < sizeof texts / sizeof *texts; i++) tokenize(t, texts[i]);
    if (!st) ts_tokenizer_close(t);
    snprintf(other, sizeof other, "%s/%s", dir, name);
    unlink(other);
    return !st;
}

static bool tokenizer_json(const uint8_t *in, size_t n)
{
    return tokenizer_of("tokenizer.json", in, n);
}
static bool spiece(const uint8_t *in, size_t n) { return tokenizer_of("spiece.model", in, n); }

static void read_values(const ts_gguf *g)
{
    static const char *const keys[] = {
        "general.architecture",  "general.alignment",   "f", "b", "d", "i", "tokenizer.ggml.tokens",
        "tokenizer.ggml.scores", "tokenizer.ggml.model"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const ts_gguf_value *v = ts_gguf_find(g, keys[k]);
        const char *s;
        size_t bytes;
        int64_t whole;
        ts_gguf_whole(g, keys[k], &whole);
        if (ts_gguf_text(g, keys[k], &s, &bytes) && bytes) sink = (uint8_t)s[bytes - 1];
        const uint8_t *at = v ? v->data : NULL;
        for (uint64_t i = 0; v && i < v->n; i++)
            if (v->type == TS_GGUF_STRING) {
                s = ts_gguf_next_text(&at, &bytes);
                if (bytes) sink = (uint8_t)s[bytes - 1];
            } else {
                sink = ts_gguf_number(v, i) > 0;
            }
    }
}

static bool gguf(const uint8_t *in, size_t n)
{
    ts_source s;
    ts_tokenizer *t;
    const char *path = as_file(in, n);
    ts_status st = ts_source_open(&ctx->err, path, &s);
    failed_without_sentence("gguf", st, &ctx->err);
    if (st) return false;
    read_entries("gguf", &s);
    bool words = false;
    if (ts_gguf_of(&s)) {
        read_values(ts_gguf_of(&s));
        words = ts_gguf_find(ts_gguf_of(&s), "tokenizer.ggml.tokens");
    }
    ts_source_close(&s);
    if (!words) return true;
    st = ts_tokenizer_open(ctx, path, &t);
    failed_without_sentence("gguf", st, &ctx->err);
    if (st) return false;
    tokenize(t, "a \xEF\xBC\xA1 ab");
    ts_tokenizer_close(t);
    return true;
}

static char *as_text(const uint8_t *in, size_t n)
{
    char *text = malloc(n + 1);
    if (!text) abort();
    memcpy(text, in, n);
    text[n] = 0;
    return text;
}

static bool text(const uint8_t *in, size_t n)
{
    char *s = as_text(in, n), *clean = NULL;
    ts_status st = ts_clean_prompt(&ctx->err, s, &clean);
    failed_without_sentence("text", st, &ctx->err);
    bool taken = !st && tokenize(tokenizer, clean);
    taken = tokenize(tokenizer, s) && taken;
    free(clean);
    free(s);
    return taken;
}

static bool plan(const uint8_t *in, size_t n)
{
    ts_err err = {0};
    ts_bag *bag;
    uint32_t bits[2 * 3];
    if (ts_bag_load(&err, as_file(in, n), &bag)) return false;
    ts_status st = ts_plan_get(&err, bag, "plan", "cond", 0, 2, 3, bits);
    failed_without_sentence("plan", st, &err);
    ts_bag_free(bag);
    return !st;
}

static bool tile(const uint8_t *in, size_t n)
{
    ts_err err = {0};
    int k[3];
    ts_status st = ts_tile_file(&err, as_file(in, n), 5, 3, k);
    failed_without_sentence("tile", st, &err);
    return !st;
}

static bool policy(const uint8_t *in, size_t n)
{
    ts_err err = {0};
    ts_policy p, q;
    char *s = as_text(in, n);
    ts_status st = ts_policy_parse(&err, s, &p);
    failed_without_sentence("policy", st, &err);
    if (!st) {
        char *again = ts_policy_text(&p);
        /* what we write we read */
        if (ts_policy_parse(&err, again, &q)) {
            fprintf(stderr, "%s: %s\n", again, err.text);
            abort();
        }
        free(again);
        ts_policy_settle(&p, 7);
        for (int step = 1; step <= 7; step++) ts_policy_decide(&p, step, step % 3, step > 2);
    }
    free(s);
    return !st;
}

static bool metadata(const uint8_t *in, size_t n)
{
    static ts_model *m;
    ts_request q;
    char *s = as_text(in, n);
    if (!m && ts_model_open(ctx, "weights/default", &m)) abort();
    ts_request_init(m, &q);
    ts_status st = ts_request_from_json(m, s, &q);
    ts_request_free(&q);
    failed_without_sentence("metadata", st, &ctx->err);
    free(s);
    return !st;
}

/* A LoRA of a small transformer: bound, and added to the first rows of whatever it touches. */
static bool lora(const uint8_t *in, size_t n)
{
    static ts_weights *ws;
    static float row[1 << 14];
    ts_lora_file f;
    ts_lora_fit fit;
    ts_lora_bound *bound = NULL;
    if (!ws && ts_weights_open(ctx, "tests/fixtures/wan21-t2v/model/transformer",
                               "diffusion_pytorch_model", ts_dit_wan.names, &ws))
        abort();
    ts_status st = ts_lora_open(&ctx->err, as_file(in, n), &f);
    failed_without_sentence("lora", st, &ctx->err);
    if (st) return false;
    st = ts_lora_bind(ctx, ws, ts_dit_wan.names, &f, 0.5, &bound, &fit);
    failed_without_sentence("lora", st, &ctx->err);
    if (!st) {
        ts_delta d = ts_lora_delta(bound);
        if (ts_weights_set_deltas(ws, &d, 1)) abort();
        for (int i = 0; i < ws->files.names; i++) {
            if (!ws->item[i].changed || ts_entry_width(ts_entry_of(ws, i)) > 1 << 14) continue;
            st = ts_set_rows(ws, i, 0, 1, row);
            failed_without_sentence("lora", st, &ctx->err);
        }
        if (ts_weights_set_deltas(ws, NULL, 0)) abort();
    }
    bool taken = !st && fit.keys;
    ts_lora_release(bound);
    ts_lora_close(&f);
    return taken;
}

/* The last row of each tensor, cut and decoded as it may be. */
static void read_last_rows(const ts_checkpoint *c)
{
    for (int k = 0; k < c->names; k++) {
        static float row[1 << 14];
        const ts_named *one = c->name + k;
        if (one->e->odd || ts_entry_rows(one->e) < 1 || ts_entry_width(one->e) > 1 << 14 ||
            ts_entry_width(one->stored) > 1 << 14 ||
            (one->stored->t.data && one->stored->t.type > TS_F16))
            continue;
        ts_status st = ts_named_read(&ctx->err, one, ts_entry_rows(one->e) - 1, 1, row);
        failed_without_sentence("part", st, &ctx->err);
        sink = (uint8_t)row[0];
    }
}

/* A file as a component: what it is, renamed, and its config from its shapes, by the reader of its
 * kind, and by one that may be of another. */
static bool part(const uint8_t *in, size_t n)
{
    const struct {
        const char *cls;
        const ts_names *names;
        ts_status (*infer)(ts_ctx *, const ts_checkpoint *, cJSON *);
    } readers[] = {
#define READER(class) {class.cls, class.names, class.infer}
        READER(ts_dit_wan),
        READER(ts_dit_pixart),
        READER(ts_dit_hunyuanvideo),
        READER(ts_dit_cogvideox),
        READER(ts_dit_opensora),
        READER(ts_vae_wan),
        READER(ts_vae_hunyuanvideo),
        READER(ts_vae_cogvideox),
        READER(ts_vae_causal),
        READER(ts_encoder_umt5),
        READER(ts_encoder_llama),
        READER(ts_encoder_clip),
        {"CLIPVisionModel", &ts_clip_vision_names, ts_clip_vision_infer}};
    enum { READERS = sizeof readers / sizeof *readers };
    bool taken = false;
    const char *path = as_file(in, n);
    for (int turn = 0; turn < 2; turn++) {
        ts_checkpoint c;
        ts_status st = ts_checkpoint_open(ctx, path, "model", NULL, &c);
        failed_without_sentence("part", st, &ctx->err);
        if (st) return false;
        const ts_kind *kind = ts_kind_of(c.source, c.sources, TS_PART_NONE);
        size_t k = 0;
        while (k < READERS && (turn || !kind || !kind->cls || strcmp(kind->cls, readers[k].cls)))
            k++;
        if (k == READERS) k = n % READERS;
        st = ts_checkpoint_rename(ctx, &c, readers[k].names);
        failed_without_sentence("part", st, &ctx->err);
        if (!st) {
            cJSON *j = cJSON_CreateObject();
            st = readers[k].infer(ctx, &c, j);
            failed_without_sentence("part", st, &ctx->err);
            taken = taken || !st;
            read_last_rows(&c);
            cJSON_Delete(j);
        }
        ts_checkpoint_close(&c);
    }
    return taken;
}

enum { SMALL = 1 << 16 }; /* pixels: larger ones take their time for nothing */

/* By libav, and whole, with its EXIF, by whoever reads it. */
static bool picture(const uint8_t *in, size_t n)
{
    ts_err err = {0};
    ts_picture p = {0};
    bool known = false;
    int channels = 0, w = 0, h = 0;
    ts_status st = ts_picture_decode_libav(&err, "input", in, n, SMALL, &known, &channels, &p);
    failed_without_sentence("picture", st, &err);
    if (known && !st) {
        size_t bytes = (size_t)p.w * (size_t)p.h * (size_t)channels;
        if (p.w < 1 || p.h < 1 || channels < 3 || channels > 4) abort();
        sink = p.rgb[0];
        sink = p.rgb[bytes - 1];
        ts_picture_free(&p);
    }
    bool small = known ? !st
                       : largest_table(in, n) <= 256 &&
                             stbi_info_from_memory(in, (int)n, &w, &h, &channels) &&
                             (long)w * h <= SMALL;
    if (!small) return false;
    st = ts_picture_read(&err, as_file(in, n), &p);
    failed_without_sentence("picture", st, &err);
    if (!st) sink = p.rgb[(size_t)p.w * (size_t)p.h * 3 - 1];
    ts_picture_free(&p);
    return !st;
}

/* What was written: what it is, and the text that it carries. */
static bool output(const uint8_t *in, size_t n)
{
    ts_err err = {0};
    ts_movie_facts facts;
    char *json = NULL;
    const char *path = as_file(in, n);
    ts_status st = ts_file_info(&err, path, &json);
    failed_without_sentence("output", st, &err);
    if (json) {
        cJSON *j = cJSON_Parse(json);
        if (st || !cJSON_HasObjectItem(j, "tessera")) abort();
        cJSON_Delete(j);
        free(json);
    }
    st = ts_movie_probe(&err, path, &facts);
    failed_without_sentence("output", st, &err);
    if (!st && (!*facts.container || facts.frames < 0 || facts.w < 0 || facts.h < 0)) abort();
    return !st;
}

/* ---- inputs ---- */
typedef struct {
    const char *name;
    bool (*run)(const uint8_t *, size_t);
    const char *const *words; /* what its files are made of; ended by NULL */
} target;

enum {
    PROMPTS,
    SAFETENSORS,
    CONFIG,
    SCHEDULER,
    INDEX,
    TOKENIZER_JSON,
    SPIECE,
    TEXT,
    PLAN,
    TILE,
    POLICY,
    METADATA,
    FP8,
    GGUF,
    LORA,
    PART,
    PICTURE,
    OUTPUT,
    TARGETS
};
static const target targets[TARGETS] = {
    [PROMPTS] = {"prompts", prompts, damage_row_words},
    [SAFETENSORS] = {"safetensors", safetensors, damage_json_words},
    [CONFIG] = {"config", config, damage_json_words},
    [SCHEDULER] = {"scheduler", scheduler, damage_json_words},
    [INDEX] = {"index", model_index, damage_json_words},
    [TOKENIZER_JSON] = {"tokenizer_json", tokenizer_json, damage_json_words},
    [SPIECE] = {"spiece", spiece, damage_bytes_words},
    [TEXT] = {"text", text, damage_text_words},
    [PLAN] = {"plan", plan, damage_json_words},
    [TILE] = {"tile", tile, damage_json_words},
    [POLICY] = {"policy", policy, damage_policy_words},
    [METADATA] = {"metadata", metadata, damage_json_words},
    [FP8] = {"fp8", fp8, damage_fp8_words},
    [GGUF] = {"gguf", gguf, damage_gguf_words},
    [LORA] = {"lora", lora, damage_lora_words},
    [PART] = {"part", part, damage_lora_words},
    [PICTURE] = {"picture", picture, damage_picture_words},
    [OUTPUT] = {"output", output, damage_output_words}};

static damage_seed corpus[TARGETS][SEEDS];
static int seeds[TARGETS];

static void make_input(int which, uint64_t i)
{
    bool mend = damage_make(corpus[which], seeds[which], targets[which].words,
                            (uint64_t)(which + 1), i);
    if (mend &&
        (which == SAFETENSORS || which == PLAN || which == FP8 || which == LORA || which == PART))
        damage_mend_length();
}

static void read_corpus(void)
{
    for (int t = 0; t < TARGETS; t++) {
        char path[4200];
        struct dirent **list;
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s", targets[t].name);
        int n = scandir(path, &list, NULL, alphasort);
        for (int i = 0; i < n; i++) {
            if (list[i]->d_name[0] != '.' && seeds[t] < SEEDS) {
                damage_seed *s = &corpus[t][seeds[t]++];
                snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", targets[t].name,
                         list[i]->d_name);
                FILE *f = fopen(path, "rb");
                s->b = malloc(DAMAGE_ROOM / 2);
                s->n = f && s->b ? fread(s->b, 1, DAMAGE_ROOM / 2, f) : 0;
                if (f) fclose(f);
            }
            free(list[i]);
        }
        if (n >= 0) free(list);
        if (!seeds[t]) {
            fprintf(stderr, "tests/fuzz/corpus/%s is empty\n", targets[t].name);
            exit(2);
        }
    }
}

/* ---- running ---- */
static struct {
    int target;
    uint64_t i;
    char path[256];
} current;

/* Called when the program dies: the input that did it. Only what a signal handler may call. */
static void save_input(void)
{
    int fd = open(current.path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) return;
    ssize_t wrote = write(fd, damage_input, damage_input_n);
    close(fd);
    char line[400];
    int n = snprintf(line, sizeof line, "input %llu of %s, %zd bytes, is in %s\n",
                     (unsigned long long)current.i, targets[current.target].name, wrote,
                     current.path);
    if (write(STDERR_FILENO, line, (size_t)n) < 0) return;
}

static void on_signal(int number)
{
    if (number == SIGALRM && write(STDERR_FILENO, "too slow\n", 9) < 0) return;
    save_input();
    signal(number, SIG_DFL);
    raise(number == SIGALRM ? SIGKILL : number);
}

void __sanitizer_set_death_callback(void (*)(void)) __attribute__((weak));

static void prepare(void)
{
    static const struct {
        const char *name, *of;
    } parts[] = {{"transformer", "transformer"},
                 {"transformer_2", "transformer"},
                 {"vae", "vae"},
                 {"text_encoder", "text_encoder"},
                 {"tokenizer", "tokenizer"}};
    ts_options o = ts_options_default();
    o.threads = 1;
    o.cpu = "ref";
    if (ts_open(&o, NULL, &ctx)) abort();
    folder = testing_tmp();
    char path[4400], from[200];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(from, sizeof from, "tests/fixtures/wan21-t2v/model/%s", parts[i].of);
        snprintf(path, sizeof path, "%s/%s", folder, parts[i].name);
        char *full = realpath(from, NULL);
        if (!full || symlink(full, path)) abort();
        free(full);
    }
    good_index = corpus[INDEX][1]; /* index/b.json, of one transformer */
    put_file("model_index.json", good_index.b, good_index.n);
    snprintf(path, sizeof path, "%s/scheduler", folder);
    if (mkdir(path, 0700)) abort();
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", folder);
    put_file("scheduler/scheduler_config.json", corpus[SCHEDULER][0].b, corpus[SCHEDULER][0].n);
    snprintf(path, sizeof path, "%s/tokens", folder);
    if (mkdir(path, 0700)) abort();
    if (ts_tokenizer_open(ctx, "weights/default/tokenizer", &tokenizer)) abort();
}

static void run(int which, uint64_t first, uint64_t count)
{
    struct timespec began, now;
    uint8_t *exact = NULL;
    clock_gettime(CLOCK_MONOTONIC, &began);
    double said = 0, seconds = 0;
    current.target = which;
    snprintf(current.path, sizeof current.path, "build/fuzz-%s-input", targets[which].name);
    for (uint64_t i = first; i < first + count; i++) {
        current.i = i;
        make_input(which, i);
        exact = malloc(damage_input_n ? damage_input_n : 1); /* bytes behind its end are nobody's */
        if (!exact) abort();
        memcpy(exact, damage_input, damage_input_n);
        alarm(PATIENCE);
        targets[which].run(exact, damage_input_n);
        alarm(0);
        free(exact);
        if (i & 255) continue;
        clock_gettime(CLOCK_MONOTONIC, &now);
        seconds = (double)(now.tv_sec - began.tv_sec) +
                  1e-9 * (double)(now.tv_nsec - began.tv_nsec);
        if (count <= QUICK || seconds - said < 30) continue;
        said = seconds;
        fprintf(stderr, "%s: %llu inputs, %.0f a second\n", targets[which].name,
                (unsigned long long)(i - first), (double)(i - first) / seconds);
    }
    if (count > QUICK) {
        printf("%s: %llu inputs from %llu on, none ended the program, %.0f s\n",
               targets[which].name, (unsigned long long)count, (unsigned long long)first, seconds);
        fflush(stdout);
    }
}

START_TEST(some_inputs) { run(_i, 0, QUICK); }
END_TEST

START_TEST(inputs_are_the_same_each_time)
{
    for (int t = 0; t < TARGETS; t++) {
        static uint8_t was[DAMAGE_ROOM];
        make_input(t, 12345);
        size_t n = damage_input_n;
        memcpy(was, damage_input, n);
        make_input(t, 7);
        make_input(t, 12345);
        ck_assert(n == damage_input_n && !memcmp(was, damage_input, n));
    }
}
END_TEST

/* The corpus is made of files that are taken, or no mutation would get far. */
START_TEST(the_corpus_is_good)
{
    const target *t = targets + _i;
    for (int i = 0; i < seeds[_i]; i++)
        ck_assert_msg(t->run(corpus[_i][i].b, corpus[_i][i].n), "%s, file %d: %s", t->name, i,
                      ctx->err.text);
}
END_TEST

int main(int argc, char **argv)
{
    int failed = 0;
    read_corpus();
    prepare();
    static const int which[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGALRM};
    for (size_t i = 0; i < sizeof which / sizeof *which; i++)
        if (!__sanitizer_set_death_callback || which[i] == SIGALRM || which[i] == SIGABRT)
            signal(which[i], on_signal);
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(save_input);
    if (argc > 1) {
        for (int t = 0; t < TARGETS; t++)
            if (argc < 3 || !strcmp(argv[2], targets[t].name))
                run(t, argc > 3 ? strtoull(argv[3], NULL, 10) : 0, strtoull(argv[1], NULL, 10));
    } else {
        Suite *s = suite_create("fuzz");
        TCase *t = tcase_create("fuzz");
        tcase_set_timeout(t, 0);
        tcase_add_test(t, inputs_are_the_same_each_time);
        tcase_add_loop_test(t, the_corpus_is_good, 0, TARGETS);
        tcase_add_loop_test(t, some_inputs, 0, TARGETS);
        suite_add_tcase(s, t);
        failed = testing_main(s);
    }
    ts_tokenizer_close(tokenizer);
    ts_close(ctx);
    for (int t = 0; t < TARGETS; t++)
        for (int i = 0; i < seeds[t]; i++) free(corpus[t][i].b);
    free(folder);
    return failed;
}
