/* What becomes of a good file: bits, bytes, words and numbers of it, at random. */
#include "tests/fuzz/damage.h"

#include <ctype.h>
#include <string.h>

const char *const damage_json_words[] = {
    "{",    "}",    "[",         "]",       "\"",       ":",       ",",
    "null", "true", "false",     "-",       "1e999",    "\\u0000", "\\ud800",
    "\\\"", "NaN",  "-Infinity", "{\"a\":", "[[[[[[[[", "\"\"",    NULL};
const char *const damage_row_words[] = {
    "\n", "\r\n", "#",      " --",          "--w ",     "--n \"",       "\"", "\"\"",  ",",
    ";",  "\t",   "prompt", "\xEF\xBB\xBF", "\xFF\xFE", "{\"prompt\":", "}",  "[1,2]", "\\u0000",
    "_",  "=",    NULL};
const char *const damage_policy_words[] = {
    ":",  ",",      "=",    "+",      "-",   "keep=",         "order=",        "file=", "k=",
    "0.", "adaspa", "tile", "blocks", "1e9", "search-steps=", "dense-layers=", NULL};
const char *const damage_text_words[] = {"&",
                                         ";",
                                         "&#",
                                         "&#x",
                                         "&amp;",
                                         "&lt",
                                         " ",
                                         "\xC2\x85",
                                         "\xE2\x80\x9C",
                                         "\xE2\x96\x81",
                                         "\xCC\x81",
                                         "\xEF\xBC\xA1",
                                         "\xF0\x9F\x90\xBC",
                                         NULL};
const char *const damage_bytes_words[] = {"\x0A",
                                          "\x12",
                                          "\x1A\x01",
                                          "\xFF\xFF\xFF\xFF\x0F",
                                          "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01",
                                          "\x80\x80\x80\x80\x80",
                                          NULL};
const char *const damage_fp8_words[] = {".weight\"",
                                        ".scale_weight\"",
                                        ".weight_scale\"",
                                        ".comfy_quant\"",
                                        "scaled_fp8\"",
                                        ".qweight\"",
                                        "F8_E4M3",
                                        "F8_E5M2",
                                        "F8_E8M0",
                                        "F32",
                                        "BF16",
                                        "U8",
                                        "I8",
                                        "[]",
                                        "[1]",
                                        "[4,1]",
                                        "[2,2,1]",
                                        "{\"format\":",
                                        "null",
                                        NULL};
const char *const damage_lora_words[] = {".lora_up.weight",
                                         ".lora_A.weight",
                                         ".alpha",
                                         ".diff",
                                         ".diff_b",
                                         ".diff_m",
                                         "diffusion_model.",
                                         "blocks.1.",
                                         "self_attn.q",
                                         "attn1.to_q",
                                         "F16",
                                         "F32",
                                         "[]",
                                         "[32]",
                                         "[2,32]",
                                         "[32,2]",
                                         "[0,32]",
                                         "(((",
                                         NULL};
const char *const damage_gguf_words[] = {"GGUF\3",
                                         "\1\1\1\1\1\1\1\1",
                                         "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F",
                                         "\x09",
                                         "\x08",
                                         "general.alignment",
                                         "split.count",
                                         "tokenizer.ggml.tokens",
                                         "tokenizer.ggml.scores",
                                         "tokenizer.ggml.precompiled_charsmap",
                                         "comfy.gguf.orig_shape.",
                                         "\x0C",
                                         "\x0E",
                                         NULL};
const char *const damage_picture_words[] = {
    "ANMF",     "EXIF", "XMP ",     "RIFF",     "\x21\xF9\x04",
    "\x21\xFE", "\x2C", "\xFF\xE1", "\xFF\xFE", "Exif\1\1",
    "eXIf",     "iTXt", "IDAT",     "II*",      "\xFF\xFF\xFF\x7F",
    NULL};
const char *const damage_output_words[] = {"XMP ",
                                           "ANMF",
                                           "VP8X",
                                           "\x21\xFE",
                                           "\xFF\xFE",
                                           "iTXt",
                                           "tEXt",
                                           "tessera",
                                           "moov",
                                           "udta",
                                           "ilst",
                                           "mdat",
                                           "\x1A\x45\xDF\xA3",
                                           "COMMENT",
                                           "FRAME\n",
                                           "&amp;",
                                           "&lt",
                                           "\xFF\xFF\xFF\x7F",
                                           NULL};

uint8_t damage_input[DAMAGE_ROOM];
size_t damage_input_n;

static uint64_t state;
static uint64_t next(void) /* splitmix64 */
{
    uint64_t z = (state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}
static size_t below(size_t n) { return n ? (size_t)(next() % n) : 0; }

static void cut(size_t at, size_t n)
{
    memmove(damage_input + at, damage_input + at + n, damage_input_n - at - n);
    damage_input_n -= n;
}

static void insert(size_t at, const uint8_t *from, size_t n)
{
    if (damage_input_n + n > DAMAGE_ROOM) return;
    uint8_t piece[4096];
    if (n > sizeof piece) n = sizeof piece;
    memcpy(piece, from, n); /* it may be a part of the input */
    memmove(damage_input + at + n, damage_input + at, damage_input_n - at);
    memcpy(damage_input + at, piece, n);
    damage_input_n += n;
}

static void other_number(void)
{
    static const char *const numbers[] = {"0",
                                          "-1",
                                          "1",
                                          "2147483647",
                                          "2147483648",
                                          "-2147483648",
                                          "4294967296",
                                          "9223372036854775807",
                                          "18446744073709551616",
                                          "1e308",
                                          "1e999",
                                          "0.5",
                                          "1e-320",
                                          "9007199254740993"};
    size_t at = below(damage_input_n);
    while (at < damage_input_n && !isdigit(damage_input[at])) at++;
    size_t end = at;
    while (end < damage_input_n && isdigit(damage_input[end])) end++;
    const char *s = numbers[below(sizeof numbers / sizeof *numbers)];
    cut(at, end - at);
    insert(at, (const uint8_t *)s, strlen(s));
}

static void mutate(const damage_seed *corpus, size_t seeds, const char *const *list)
{
    static const uint64_t edges[] = {0,          1,          0x7F,      0x80,
                                     0xFF,       0x7FFF,     0xFFFF,    0x7FFFFFFF,
                                     0x80000000, 0xFFFFFFFF, INT64_MAX, UINT64_C(1) << 63,
                                     UINT64_MAX, 1 << 20};
    size_t at = below(damage_input_n + 1), n = 1 + below(below(4) ? 8 : 200), words = 0;
    while (list[words]) words++;
    const char *word = list[below(words)];
    const damage_seed *other = corpus + below(seeds);
    if (n > damage_input_n - at) n = damage_input_n - at;
    switch (below(10)) {
    case 0:
        if (at < damage_input_n) damage_input[at] ^= (uint8_t)(1 << below(8));
        break;
    case 1:
        if (at < damage_input_n) damage_input[at] = (uint8_t)next();
        break;
    case 2: cut(at, n); break;
    case 3: insert(below(damage_input_n + 1), damage_input + at, n); break;
    case 4: insert(at, (const uint8_t *)word, strlen(word)); break;
    case 5:
        if (n >= strlen(word)) memcpy(damage_input + at, word, strlen(word));
        break;
    case 6: other_number(); break;
    case 7: {
        uint64_t x = edges[below(sizeof edges / sizeof *edges)];
        size_t wide = (size_t)1 << below(4);
        if (wide <= damage_input_n - at) memcpy(damage_input + at, &x, wide);
        break;
    }
    case 8: {
        size_t from = below(other->n), many = 1 + below(64);
        insert(at, other->b + from, many < other->n - from ? many : other->n - from);
        break;
    }
    case 9:
        if (!below(4)) damage_input_n = at;
        break;
    }
}

/* The header's length agrees with where its JSON ends, or nothing behind it is ever reached. */
void damage_mend_length(void)
{
    size_t end = damage_input_n;
    while (end > 8 && damage_input[end - 1] != '}') end--;
    if (end <= 8) return;
    uint64_t n = end - 8;
    memcpy(damage_input, &n, 8);
}

bool damage_make(const damage_seed *corpus, int seeds, const char *const *words, uint64_t of,
                 uint64_t i)
{
    state = of * UINT64_C(0x51ED2701A3C6B04D) + i;
    const damage_seed *from = corpus + below((size_t)seeds);
    memcpy(damage_input, from->b, damage_input_n = from->n);
    /* input 0 is a good one */
    for (size_t k = 1 + below(below(2) ? 4 : 16); i && k; k--) mutate(corpus, (size_t)seeds, words);
    return i && below(4);
}
