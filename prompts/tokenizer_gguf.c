/* Reads the vocabulary that a text encoder's GGUF has among its keys (llama.cpp,
 * convert_hf_to_gguf.py): the pieces of spiece.model in order, with what encoding needs of its
 * other fields, or the tokens and merges of a byte-level BPE.
 *
 *   tokenizer.ggml.model   "t5": SentencePiece's Unigram; "gpt2": BPE
 *   .tokens .scores .token_type         arrays of one length: texts, f32, i32 as ts_piece_type
 *   .precompiled_charsmap  bytes; .add_space_prefix, .remove_extra_whitespaces: bool
 *   .unknown_token_id, .eos_token_id
 *   of BPE: .merges, texts "a b" by rank; .pre: by which regular expression texts are cut before,
 *   of which Llama 3's is known; .bos_token_id, .add_bos_token, .add_eos_token */
#include "prompts/bpe.h"

#include <stdlib.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name
enum { MOST_PIECES = 1 << 24 };

static ts_status refuse_tokens_memory(ts_tokenizer *t)
{
    return ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for the vocabulary", t->path);
}

/* ---- Unigram ---- */

static ts_status add_pieces(ts_tokenizer *t, const ts_gguf *g, const ts_gguf_value *token)
{
    const ts_gguf_value *score = ts_gguf_array(g, KEY("scores"), TS_GGUF_F32),
                        *type = ts_gguf_array(g, KEY("token_type"), TS_GGUF_I32);
    const uint8_t *at = token->data;
    if (token->n == 0 || token->n > MOST_PIECES || !score || score->n != token->n || !type ||
        type->n != token->n)
        return ts_fail(&t->ctx->err, TS_EMODEL,
                       "%s: the keys " KEY("tokens") ", " KEY("scores") " and " KEY(
                           "token_type") " are not a vocabulary of one length: %llu, %llu, %llu",
                       t->path, (unsigned long long)token->n,
                       (unsigned long long)(score ? score->n : 0),
                       (unsigned long long)(type ? type->n : 0));
    for (uint64_t i = 0; i < token->n; i++) {
        size_t n;
        const char *s = ts_gguf_next_text(&at, &n);
        double kind = ts_gguf_number(type, i);
        if (kind < TS_PIECE_NORMAL || kind > TS_PIECE_BYTE)
            return ts_fail(&t->ctx->err, TS_EMODEL, "%s: token %llu is of type %g, not 1 to 6",
                           t->path, (unsigned long long)i, kind);
        if (kind == TS_PIECE_BYTE) t->byte_fallback = true;
        if (!ts_tokenizer_add(t, s, n, ts_gguf_number(score, i), (ts_piece_type)kind))
            return refuse_tokens_memory(t);
    }
    return TS_OK;
}

static bool read_flag_key(const ts_gguf *g, const char *key, bool otherwise)
{
    int64_t v;
    return ts_gguf_whole(g, key, &v) ? v != 0 : otherwise;
}

/* Writers differ in the sign of a byte. */
static ts_status add_charsmap(ts_tokenizer *t, const ts_gguf *g)
{
    const ts_gguf_value *map = ts_gguf_array(g, KEY("precompiled_charsmap"), TS_GGUF_U8);
    if (!map) map = ts_gguf_array(g, KEY("precompiled_charsmap"), TS_GGUF_I8);
    return map && map->n ? ts_charsmap_init(&t->ctx->err, t->path, map->data, map->bytes, &t->map)
                         : TS_OK;
}

/* ---- byte-level BPE ---- */

/* Llama 3's (transformers, its tokenizer.json). */
static const char pattern_of_llama_3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static ts_status check_split(ts_tokenizer *t, const ts_gguf *g)
{
    /* "default": of converters that did not know it yet */
    static const char *const known[] = {"llama-bpe", "llama3", "llama-v3", "default"};
    const char *pre;
    size_t n;
    if (!ts_gguf_text(g, KEY("pre"), &pre, &n)) return TS_OK;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ts_gguf_text_is(g, KEY("pre"), known[i])) return TS_OK;
    return ts_fail(&t->ctx->err, TS_EMODEL,
                   "%s: a BPE vocabulary cut as \"%.*s\" does it, supported is \"llama-bpe\"",
                   t->path, n < 40 ? (int)n : 40, pre);
}

/* Tokens that are no result of merges are cut out of a text before it is looked at, and are no
 * pieces that a text could become. */
static ts_status add_tokens(ts_tokenizer *t, const ts_gguf *g, const ts_gguf_value *token)
{
    const ts_gguf_value *type = ts_gguf_array(g, KEY("token_type"), TS_GGUF_I32);
    const uint8_t *at = token->data;
    if (token->n == 0 || token->n > MOST_PIECES || !type || type->n != token->n)
        return ts_fail(&t->ctx->err, TS_EMODEL,
                       "%s: the keys " KEY("tokens") " and " KEY(
                           "token_type") " are not a vocabulary of one length: %llu, %llu",
                       t->path, (unsigned long long)token->n,
                       (unsigned long long)(type ? type->n : 0));
    t->added = calloc((size_t)token->n, sizeof *t->added);
    if (!t->added) return refuse_tokens_memory(t);
    for (uint64_t i = 0; i < token->n; i++) {
        size_t n;
        const char *s = ts_gguf_next_text(&at, &n);
        double kind = ts_gguf_number(type, i);
        bool apart = kind == TS_PIECE_CONTROL || kind == TS_PIECE_USER,
             plain = kind == TS_PIECE_NORMAL;
        if (apart && n) {
            ts_added *a = t->added + t->addeds;
            *a = (ts_added){.s = strndup(s, n), .id = (int)i};
            if (!a->s) return refuse_tokens_memory(t);
            t->addeds++;
        }
        if (!ts_tokenizer_add(t, plain ? s : "", plain ? n : 0, 0, TS_PIECE_NORMAL))
            return refuse_tokens_memory(t);
    }
    return TS_OK;
}

/* The token that stands before or behind every text, where the file says so. */
static ts_status add_frame(ts_tokenizer *t, const ts_gguf *g, const char *wanted, bool otherwise,
                           const char *key, int *id, int *n)
{
    int64_t v;
    if (!read_flag_key(g, wanted, otherwise)) return TS_OK;
    if (!ts_gguf_whole(g, key, &v) || v < 0 || v >= t->pieces)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: \"%s\" is missing, or none of the %d tokens",
                       t->path, key, t->pieces);
    *id = (int)v;
    *n = 1;
    return TS_OK;
}

static ts_status read_gguf_bpe(ts_tokenizer *t, const ts_gguf *g, const ts_gguf_value *token)
{
    ts_status st;
    const ts_gguf_value *merge = ts_gguf_array(g, KEY("merges"), TS_GGUF_STRING);
    if (!merge)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: a BPE vocabulary without " KEY("merges"),
                       t->path);
    TRY(check_split(t, g));
    TRY(ts_bpe_new(t));
    t->bpe->whole = true;
    TRY(ts_bpe_split(t, pattern_of_llama_3, true));
    TRY(add_tokens(t, g, token));
    if (!ts_tokenizer_index(t)) TRY(refuse_tokens_memory(t));
    const uint8_t *at = merge->data;
    for (uint64_t i = 0; i < merge->n; i++) {
        size_t n;
        const char *s = ts_gguf_next_text(&at, &n);
        TRY(ts_bpe_add_line(t, s, n));
    }
    TRY(ts_bpe_index(t));
    TRY(add_frame(t, g, KEY("add_bos_token"), true, KEY("bos_token_id"), t->before, &t->befores));
    TRY(add_frame(t, g, KEY("add_eos_token"), false, KEY("eos_token_id"), t->after, &t->afters));
done:
    return st;
}

ts_status ts_tokenizer_gguf(ts_tokenizer *t, const ts_gguf *g)
{
    ts_status st;
    const char *kind;
    size_t n;
    int64_t unk = -1, eos = -1;
    const ts_gguf_value *token = ts_gguf_array(g, KEY("tokens"), TS_GGUF_STRING);
    if (!token)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: has no vocabulary (" KEY("tokens") ")",
                       t->path);
    if (ts_gguf_text_is(g, KEY("model"), "gpt2")) return read_gguf_bpe(t, g, token);
    if (ts_gguf_text(g, KEY("model"), &kind, &n) && !ts_gguf_text_is(g, KEY("model"), "t5"))
        return ts_fail(&t->ctx->err, TS_EMODEL,
                       "%s: a vocabulary of the kind \"%.*s\", supported are \"t5\" and \"gpt2\"",
                       t->path, n < 40 ? (int)n : 40, kind);
    t->sentencepiece = t->escape = true;
    t->dummy_prefix = read_flag_key(g, KEY("add_space_prefix"), true);
    t->collapse = read_flag_key(g, KEY("remove_extra_whitespaces"), true);
    TRY(add_pieces(t, g, token));
    TRY(add_charsmap(t, g));
    ts_gguf_whole(g, KEY("unknown_token_id"), &unk);
    ts_gguf_whole(g, KEY("eos_token_id"), &eos);
    TRY(ts_tokenizer_settle(t, unk, eos));
done:
    return st;
}
