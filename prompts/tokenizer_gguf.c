/* Reads the vocabulary that a text encoder's GGUF has among its keys: the pieces of spiece.model in
 * order, with what encoding needs of its other fields (llama.cpp, convert_hf_to_gguf.py).
 *
 *   tokenizer.ggml.model   "t5": SentencePiece's Unigram
 *   .tokens .scores .token_type         arrays of one length: texts, f32, i32 as ts_piece_type
 *   .precompiled_charsmap  bytes; .add_space_prefix, .remove_extra_whitespaces: bool
 *   .unknown_token_id, .eos_token_id */
#include "prompts/unigram.h"

#include <string.h>

#define KEY(name) "tokenizer.ggml." name
enum { MOST_PIECES = 1 << 24 };

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
            return ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for the vocabulary", t->path);
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
    if (ts_gguf_text(g, KEY("model"), &kind, &n) && !ts_gguf_text_is(g, KEY("model"), "t5"))
        return ts_fail(&t->ctx->err, TS_EMODEL,
                       "%s: a vocabulary of the kind \"%.*s\", supported is \"t5\"", t->path,
                       n < 40 ? (int)n : 40, kind);
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
