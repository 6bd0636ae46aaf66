/* Byte-level BPE: pieces of text become bytes, bytes letters, and pairs of these are merged. Filled
 * by the readers of tokenizer.json and of vocab.json with merges.txt (bpe_files.c). */
#ifndef TS_BPE_H
#define TS_BPE_H
#define PCRE2_CODE_UNIT_WIDTH 8
#include "prompts/unigram.h"

#include <pcre2.h>

enum { TS_BPE_SPLITS = 4 };
typedef struct { /* what two neighbours become */
    int left, right, rank, to;
} ts_bpe_merge;
struct ts_bpe {
    int byte[2][256];    /* ids of the letters of bytes, [1]: of the last one of a piece */
    const char *end;     /* what is added to the last letter of a piece: "" or "</w>" */
    bool whole;          /* a piece that is in the vocabulary is that token, whatever merges say */
    ts_bpe_merge *merge; /* [merges], in order of rank */
    int merges, *slot;   /* hash table of merge numbers + 1 */
    size_t slots;
    struct {
        pcre2_code *code;
        bool gaps;          /* what lies between matches are pieces, too */
    } split[TS_BPE_SPLITS]; /* one after the other, each of the pieces of that before */
    int splits;
};

/* A zeroed tokenizer's; TS_EMEMORY. */
ts_status ts_bpe_new(ts_tokenizer *);
void ts_bpe_free(ts_bpe *); /* NULL is legal */
/* A split by a regular expression as the tokenizers library (Oniguruma) reads it. TS_EMODEL. */
ts_status ts_bpe_split(ts_tokenizer *, const char *pattern, bool gaps);
/* Appends a merge of two letters' ids into a third. TS_EMEMORY. */
ts_status ts_bpe_add(ts_tokenizer *, int left, int right, int to);
/* The same by their names, "a b" of n bytes, as merges.txt and tokenizer.json have it. TS_EMODEL,
 * TS_EMEMORY. */
ts_status ts_bpe_add_line(ts_tokenizer *, const char *, size_t n);
/* Once pieces are indexed and merges are there. TS_EMODEL: a byte has no token; TS_EMEMORY. */
ts_status ts_bpe_index(ts_tokenizer *);
/* the letter that stands for a byte, as UTF-8; its length */
size_t ts_bpe_letter(uint8_t byte, char out[2]);
/* ids of s[0..n) */
void ts_bpe_encode(const ts_tokenizer *, const char *s, size_t n, ts_list *out);

/* bpe_files.c. TS_EMODEL. */
ts_status ts_bpe_read_model(ts_tokenizer *, const cJSON *model); /* of tokenizer.json */
ts_status ts_bpe_read_pre(ts_tokenizer *, const cJSON *pre, int depth);
/* vocab.json and merges.txt beside it, as CLIP's authors publish them */
ts_status ts_bpe_read_clip(ts_tokenizer *, const cJSON *vocab);
#endif
