/* A vocabulary, Unigram (SentencePiece) or byte-level BPE (bpe.h), and the rules of text around it.
 * Filled by the readers of tokenizer.json, spiece.model, GGUF and vocab.json, used by normalize.c,
 * unigram.c, bpe.c and tokenize.c. */
#ifndef TS_UNIGRAM_H
#define TS_UNIGRAM_H
#include "prompts/buffer.h"
#include "prompts/text.h"
#include "weights/gguf.h"

#define TS_MARK "\xE2\x96\x81" /* U+2581, what a space becomes */

/* A precompiled character map: a double-array trie from bytes to offsets of NUL-terminated
 * replacements. */
typedef struct {
    uint32_t *unit;
    size_t units;
    char *text;
    size_t text_size;
} ts_charsmap;
/* copies; TS_EMODEL */
ts_status ts_charsmap_init(ts_err *, const char *path, const void *blob, size_t size,
                           ts_charsmap *);
void ts_charsmap_free(ts_charsmap *);
/* The replacement of the longest (or shortest) beginning of s[0..n) that the map has, its length in
 * *used; NULL: none. */
const char *ts_charsmap_find(const ts_charsmap *, const char *s, size_t n, bool longest,
                             size_t *used);

typedef enum {
    TS_PIECE_NORMAL = 1,
    TS_PIECE_UNKNOWN,
    TS_PIECE_CONTROL,
    TS_PIECE_USER,
    TS_PIECE_UNUSED,
    TS_PIECE_BYTE
} ts_piece_type;
typedef struct {
    char *s;
    size_t n;
    double score;
    ts_piece_type type;
} ts_piece;

typedef enum {
    TS_RULE_CHARSMAP,
    TS_RULE_STRIP,
    TS_RULE_REPLACE,
    TS_RULE_SPACES,
    TS_RULE_WHITE,
    TS_RULE_NFC,
    TS_RULE_NFD,
    TS_RULE_NFKC,
    TS_RULE_NFKD,
    TS_RULE_LOWER,
    TS_RULE_PREPEND
} ts_rule_kind;
/* SPACES: two spaces or more become `to`; WHITE: white space becomes one space */
typedef struct {
    ts_rule_kind kind;
    bool left, right;
    char *from, *to;
} ts_rule;
/* A token that is found before the model sees the text: in the raw text, or, `normalized`, in the
 * normalized one, where it looks like `find`. It takes the white space beside it along: left,
 * right. */
typedef struct {
    char *s, *find;
    size_t n;
    int id;
    bool left, right, normalized;
} ts_added;
typedef enum { TS_PREPEND_NEVER, TS_PREPEND_FIRST, TS_PREPEND_ALWAYS } ts_prepend;

typedef struct ts_bpe ts_bpe;
struct ts_tokenizer {
    ts_ctx *ctx;
    char *path;         /* for sentences */
    ts_bpe *bpe;        /* NULL: Unigram */
    bool sentencepiece; /* spiece.model, GGUF: its own rules of text, f32 sums */
    ts_piece *piece;
    int pieces, unk;
    int *slot;             /* hash table of piece numbers + 1 */
    size_t slots, longest; /* longest: bytes of a piece */
    double unk_score;
    bool byte_fallback;
    int byte[256]; /* piece of a byte, -1: none */
    ts_charsmap map;
    ts_rule rule[16]; /* tokenizer.json: in order */
    int rules;
    /* split at white space; spaces become marks; whole: and no split at marks */
    bool words, metaspace, whole;
    ts_prepend prepend;                  /* a mark before a text that has none */
    bool dummy_prefix, collapse, escape; /* spiece.model */
    size_t longest_user; /* bytes of the longest piece that a user defined; 0: there are none */
    ts_added *added;
    int addeds;
    bool starts[2][256];                      /* first bytes of added tokens: raw, normalized */
    int before[4], befores, after[4], afters; /* ids of the template: </s> */
};
/* Readers: fill a zeroed tokenizer. TS_EMODEL. */
ts_status ts_tokenizer_json(ts_tokenizer *, const cJSON *);
ts_status ts_tokenizer_spiece(ts_tokenizer *, const uint8_t *data, size_t size);
/* The pieces of a spiece.model as llama.cpp's converter keeps them: the keys tokenizer.ggml.* */
ts_status ts_tokenizer_gguf(ts_tokenizer *, const ts_gguf *);
/* What a reader of SentencePiece's pieces ends with: scores of pieces that users defined, of what
 * is unknown, the end token. unk, eos: their numbers where no piece of that kind and no "</s>" says
 * otherwise. TS_EMODEL: there are none. */
ts_status ts_tokenizer_settle(ts_tokenizer *, int64_t unk, int64_t eos);

/* unigram.c */
/* zero to begin; id: free; failed: memory ran out */
typedef struct {
    int32_t *id;
    int n, room;
    bool failed;
} ts_list;
void ts_list_push(ts_list *, int id);
/* false: no memory */
bool ts_tokenizer_add(ts_tokenizer *, const char *s, size_t n, double score, ts_piece_type);
/* once all pieces are there; false: no memory */
bool ts_tokenizer_index(ts_tokenizer *);
int ts_tokenizer_find(const ts_tokenizer *, const char *s, size_t n); /* -1: no such piece */
/* the best split of s[0..n) */
void ts_tokenizer_search(const ts_tokenizer *, const char *s, size_t n, ts_list *out);

/* normalize.c */
/* the normalizer of tokenizer.json */
void ts_normalize_rules(const ts_tokenizer *, ts_buf *out, const char *);
void ts_normalize_spiece(const ts_tokenizer *, ts_buf *out, const char *);
#endif
