/* A Unigram vocabulary (SentencePiece) and the text rules around it. Filled by the readers of tokenizer.json and spiece.model, used by tokenize.c. */
#ifndef TS_UNIGRAM_H
#define TS_UNIGRAM_H
#include "prompts/buffer.h"
#include "prompts/text.h"

/* A precompiled character map: a double-array trie from bytes to offsets of NUL-terminated replacements. */
typedef struct { uint32_t *unit; size_t units; char *text; size_t text_size; } ts_charsmap;
ts_status ts_charsmap_init(ts_err *, const char *path, const void *blob, size_t size, ts_charsmap *); /* copies; TS_EMODEL */
void ts_charsmap_free(ts_charsmap *);
/* The replacement of the longest (or shortest) beginning of s[0..n) that the map has, its length in *used; NULL: none. */
const char *ts_charsmap_find(const ts_charsmap *, const char *s, size_t n, bool longest, size_t *used);

typedef enum { TS_PIECE_NORMAL = 1, TS_PIECE_UNKNOWN, TS_PIECE_CONTROL, TS_PIECE_USER, TS_PIECE_UNUSED, TS_PIECE_BYTE } ts_piece_type;
typedef struct { char *s; size_t n; double score; ts_piece_type type; } ts_piece;

typedef enum { TS_RULE_CHARSMAP, TS_RULE_STRIP, TS_RULE_REPLACE, TS_RULE_SPACES, TS_RULE_NFC, TS_RULE_NFD, TS_RULE_NFKC, TS_RULE_NFKD, TS_RULE_LOWER, TS_RULE_PREPEND } ts_rule_kind;
typedef struct { ts_rule_kind kind; bool left, right; char *from, *to; } ts_rule; /* SPACES: two spaces or more become `to` */
typedef struct { char *s; size_t n; int id; bool lstrip, rstrip; } ts_added;

struct ts_tokenizer {
    ts_ctx *ctx;
    char *path;             /* for sentences */
    bool sentencepiece;     /* spiece.model: its own text rules, f32 sums */
    ts_piece *piece;
    int pieces, unk;
    int *slot;              /* hash table of piece numbers + 1 */
    size_t slots, longest;
    double unk_score;
    bool byte_fallback;
    int byte[256];          /* piece of a byte, -1: none */
    ts_charsmap map;
    ts_rule rule[16];       /* tokenizer.json: in order */
    int rules;
    bool words, metaspace, prepend; /* split at white space; spaces become U+2581; one before the text */
    bool dummy_prefix, collapse, escape; /* spiece.model */
    ts_added *added;
    int addeds;
    int before[4], befores, after[4], afters; /* ids of the template: </s> */
};
/* Readers: fill a zeroed tokenizer. TS_EMODEL. */
ts_status ts_tokenizer_json(ts_tokenizer *, const cJSON *);
ts_status ts_tokenizer_spiece(ts_tokenizer *, const uint8_t *data, size_t size);
bool ts_tokenizer_add(ts_tokenizer *, const char *s, size_t n, double score, ts_piece_type); /* false: no memory */
int ts_tokenizer_find(const ts_tokenizer *, const char *s, size_t n); /* -1: no such piece */
#endif
