/* Reads spiece.model: SentencePiece's ModelProto in protobuf's wire format
 * (sentencepiece_model.proto). Only the fields that encoding needs; every length is checked. */
#include "prompts/unigram.h"

#include <float.h>
#include <string.h>

typedef struct {
    const uint8_t *p, *end;
    bool bad;
} reader;
/* value: varint or fixed; body: length-delimited */
typedef struct {
    int field, wire;
    uint64_t value;
    reader body;
} record;

static uint64_t read_varint(reader *r)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        uint8_t b = *r->p++;
        v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) return v;
    }
    r->bad = true;
    return 0;
}

static bool read_field(reader *r, record *out)
{
    if (r->bad || r->p >= r->end) return false;
    uint64_t tag = read_varint(r), n = 0;
    *out = (record){.field = (int)(tag >> 3), .wire = (int)(tag & 7)};
    if (out->wire == 0)
        out->value = read_varint(r);
    else if (out->wire == 1)
        n = 8;
    else if (out->wire == 2)
        n = read_varint(r);
    else if (out->wire == 5)
        n = 4;
    else
        r->bad = true;
    if (r->bad || n > (uint64_t)(r->end - r->p)) {
        r->bad = true;
        return false;
    }
    out->body = (reader){r->p, r->p + n, false};
    r->p += n;
    return true;
}

static float read_fixed32(const record *r)
{
    float f = 0;
    if (r->body.end - r->body.p == 4) memcpy(&f, r->body.p, 4);
    return f;
}

/* model type; spaces end words instead of beginning them */
typedef struct {
    uint64_t type;
    bool suffix;
    int eos, unk;
} facts;

static ts_status read_piece(ts_tokenizer *t, reader r)
{
    record x;
    reader s = {0};
    float score = 0;
    uint64_t type = TS_PIECE_NORMAL;
    while (read_field(&r, &x)) {
        if (x.field == 1 && x.wire == 2) s = x.body;
        if (x.field == 2) score = read_fixed32(&x);
        if (x.field == 3 && x.wire == 0) type = x.value;
    }
    if (r.bad || type < TS_PIECE_NORMAL || type > TS_PIECE_BYTE)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: piece %d is damaged", t->path, t->pieces);
    if (!ts_tokenizer_add(t, (const char *)s.p, (size_t)(s.end - s.p), score, (ts_piece_type)type))
        return ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for the vocabulary", t->path);
    return TS_OK;
}

static void read_trainer(ts_tokenizer *t, reader r, facts *f)
{
    record x;
    while (read_field(&r, &x)) {
        if (x.wire != 0) continue;
        if (x.field == 3) f->type = x.value;
        if (x.field == 24) f->suffix = x.value != 0;
        if (x.field == 35) t->byte_fallback = x.value != 0;
        if (x.field == 40) f->unk = (int)(int64_t)x.value;
        if (x.field == 42) f->eos = (int)(int64_t)x.value;
    }
}

static ts_status read_spiece_normalizer(ts_tokenizer *t, reader r)
{
    record x;
    while (read_field(&r, &x)) {
        if (x.field == 2 && x.wire == 2 && x.body.end > x.body.p && !t->map.units) {
            ts_status st = ts_charsmap_init(&t->ctx->err, t->path, x.body.p,
                                            (size_t)(x.body.end - x.body.p), &t->map);
            if (st) return st;
        }
        if (x.field == 3) t->dummy_prefix = x.value != 0;
        if (x.field == 4) t->collapse = x.value != 0;
        if (x.field == 5) t->escape = x.value != 0;
    }
    return TS_OK;
}

/* Pieces that a user defined win over any split of the same characters. */
static void score_users(ts_tokenizer *t, float most)
{
    for (int i = 0; i < t->pieces; i++)
        if (t->piece[i].type == TS_PIECE_USER)
            t->piece[i].score = (float)t->piece[i].n * most - 0.1;
}

ts_status ts_tokenizer_settle(ts_tokenizer *t, int64_t unk, int64_t eos)
{
    /* most: no less than FLT_MIN there either */
    float least = FLT_MAX, most = FLT_MIN;
    for (int i = 0; i < t->pieces; i++) {
        const ts_piece *p = t->piece + i;
        float score = (float)p->score;
        if (p->type == TS_PIECE_UNKNOWN) unk = i;
        if (!strcmp(p->s, "</s>")) eos = i;
        if (p->type == TS_PIECE_NORMAL && score < least) least = score;
        if (p->type == TS_PIECE_NORMAL && score > most) most = score;
    }
    if (unk < 0 || unk >= t->pieces || eos < 0 || eos >= t->pieces)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: no unknown or end piece among %d", t->path,
                       t->pieces);
    score_users(t, most);
    t->unk = (int)unk;
    t->unk_score = least - 10;
    t->after[t->afters++] = (int)eos;
    return TS_OK;
}

ts_status ts_tokenizer_spiece(ts_tokenizer *t, const uint8_t *data, size_t size)
{
    ts_status st = TS_OK;
    reader r = {data, data + size, false};
    record x;
    facts f = {.type = 1, .unk = 0, .eos = 2};
    t->sentencepiece = t->dummy_prefix = t->collapse = t->escape = true;
    while (read_field(&r, &x)) {
        if (x.wire != 2) continue;
        if (x.field == 1) TRY(read_piece(t, x.body));
        if (x.field == 2) read_trainer(t, x.body, &f);
        if (x.field == 3) TRY(read_spiece_normalizer(t, x.body));
    }
    if (r.bad || !t->pieces)
        TRY(ts_fail(&t->ctx->err, TS_EMODEL, "%s: damaged, or not a SentencePiece model", t->path));
    if (f.type != 1)
        TRY(ts_fail(&t->ctx->err, TS_EMODEL,
                    "%s: model_type %llu is not supported, only Unigram (1)", t->path,
                    (unsigned long long)f.type));
    if (f.suffix)
        TRY(ts_fail(&t->ctx->err, TS_EMODEL, "%s: treat_whitespace_as_suffix is not supported",
                    t->path));
    TRY(ts_tokenizer_settle(t, f.unk, f.eos));
done:
    return st;
}
