/* Text -> ids. The kinds of file are used as their own libraries use them: tokenizer.json as the
 * tokenizers library (added tokens apart, then the normalizer, words, Unigram or BPE), vocab.json
 * and merges.txt as CLIP's own, spiece.model, by itself or within weights, as SentencePiece (the
 * text as a whole). */
#include "backend/suffix.h"
#include "prompts/bpe.h"
#include "weights/file.h"
#include "weights/source.h"
#include "weights/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_BYTES = 1 << 29 };

/* ---- opening ---- */
/* What is looked for in the text; a normalized token is looked for as the normalizer leaves it. */
static bool index_added(ts_tokenizer *t)
{
    for (int i = 0; i < t->addeds; i++) {
        ts_added *a = t->added + i;
        ts_buf find = {0};
        if (a->normalized)
            ts_normalize_rules(t, &find, a->s);
        else
            ts_buf_put(&find, a->s, strlen(a->s));
        a->find = find.s;
        a->n = find.n;
        if (find.failed) return false;
        if (a->n) t->starts[a->normalized][(uint8_t)*a->find] = true;
    }
    return true;
}

/* A vocabulary within a file of weights: the bytes of a spiece.model as a tensor, or keys. */
typedef struct {
    ts_source source;
    const ts_entry *spiece; /* U8 [bytes] */
    const ts_gguf *keys;
} carrier;

/* false: the file is no weights, or has none; *c is then closed. */
static bool open_carrier(const char *path, carrier *c)
{
    ts_err ignored = {0};
    *c = (carrier){0};
    /* of a GGUF in parts the first has the keys */
    ts_split split;
    ts_split_read(path, &split);
    char *first = ts_split_path(&split, 1);
    ts_status st = first ? ts_source_open(&ignored, first, &c->source) : TS_EMEMORY;
    free(first);
    if (st) return false;
    const ts_source *s = &c->source;
    for (int i = 0; i < s->entries; i++)
        if (!strcmp(s->entry[i].name, "spiece_model") && s->entry[i].t.type == TS_U8 &&
            !s->entry[i].odd)
            c->spiece = s->entry + i;
    if (ts_gguf_of(s) && ts_gguf_find(ts_gguf_of(s), "tokenizer.ggml.tokens"))
        c->keys = ts_gguf_of(s);
    if (c->spiece || c->keys) return true;
    ts_source_close(&c->source);
    return false;
}

bool ts_tokenizer_is_in(const char *path)
{
    carrier c;
    struct stat info;
    bool is = stat(path, &info) == 0 && S_ISREG(info.st_mode) && open_carrier(path, &c);
    if (is) ts_source_close(&c.source);
    return is;
}

/* The file that the place is or has; malloc'd. */
static ts_status find_vocabulary_file(ts_ctx *ctx, const char *place, char **path)
{
    struct stat info;
    int made = stat(place, &info) == 0 && S_ISREG(info.st_mode)
                   ? asprintf(path, "%s", place)
                   : asprintf(path, "%s/tokenizer.json", place);
    if (made < 0) {
        *path = NULL;
        return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a tokenizer");
    }
    if (!stat(*path, &info)) return TS_OK;
    strcpy(strrchr(*path, '/'), "/spiece.model");
    if (!stat(*path, &info)) return TS_OK;
    strcpy(strrchr(*path, '/'), "/vocab.json");
    return stat(*path, &info)
               ? ts_fail(&ctx->err, TS_EMODEL,
                         "%s: none of tokenizer.json, spiece.model and vocab.json is there", place)
               : TS_OK;
}

static ts_status read_vocabulary(ts_tokenizer *t)
{
    ts_status st = TS_OK;
    ts_err *err = &t->ctx->err;
    cJSON *json = NULL;
    uint8_t *data = NULL;
    size_t size = 0;
    carrier c;
    if (open_carrier(t->path, &c)) {
        TRY(c.keys ? ts_tokenizer_gguf(t, c.keys)
                   : ts_tokenizer_spiece(t, c.spiece->t.data, c.spiece->bytes));
    } else if (ts_ends_with(t->path, ".json")) {
        TRY(ts_json_load(err, t->path, &json));
        TRY(ts_ends_with(t->path, "vocab.json") ? ts_bpe_read_clip(t, json)
                                                : ts_tokenizer_json(t, json));
    } else {
        TRY(ts_file_read(err, t->path, MOST_BYTES, "a vocabulary", &data, &size));
        TRY(ts_tokenizer_spiece(t, data, size));
    }
done:
    ts_source_close(&c.source);
    cJSON_Delete(json);
    free(data);
    return st;
}

ts_status ts_tokenizer_open(ts_ctx *ctx, const char *place, ts_tokenizer **out)
{
    ts_status st = TS_OK;
    ts_tokenizer *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a tokenizer");
    t->ctx = ctx;
    TRY(find_vocabulary_file(ctx, place, &t->path));
    TRY(read_vocabulary(t));
    if ((!t->bpe && !ts_tokenizer_index(t)) || !index_added(t))
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "%s: no memory for the vocabulary", t->path));
    *out = t;
    t = NULL;
done:
    ts_tokenizer_close(t);
    return st;
}

void ts_tokenizer_close(ts_tokenizer *t)
{
    if (!t) return;
    for (int i = 0; i < t->pieces; i++) free(t->piece[i].s);
    for (int i = 0; i < t->addeds; i++) {
        free(t->added[i].s);
        free(t->added[i].find);
    }
    for (int i = 0; i < t->rules; i++) {
        free(t->rule[i].from);
        free(t->rule[i].to);
    }
    ts_charsmap_free(&t->map);
    ts_bpe_free(t->bpe);
    free(t->piece);
    free(t->slot);
    free(t->added);
    free(t->path);
    free(t);
}

const char *ts_token_piece(const ts_tokenizer *t, int id)
{
    for (int i = 0; i < t->addeds; i++)
        if (t->added[i].id == id) return t->added[i].s;
    return id >= 0 && id < t->pieces ? t->piece[id].s : NULL;
}

int ts_token_count(const ts_tokenizer *t)
{
    int n = t->pieces;
    for (int i = 0; i < t->addeds; i++)
        if (t->added[i].id >= n) n = t->added[i].id + 1;
    return n;
}

/* ---- words ---- */
/* Spaces become marks; words begin at marks and are searched apart. */
static void search_words(const ts_tokenizer *t, const char *s, size_t n, bool first, ts_list *out)
{
    ts_buf marked = {0};
    bool prepend = t->prepend == TS_PREPEND_ALWAYS || (t->prepend == TS_PREPEND_FIRST && first);
    if (!n) return;
    if (prepend && *s != ' ' && strncmp(s, TS_MARK, 3)) ts_buf_put(&marked, TS_MARK, 3);
    for (size_t i = 0; i < n; i++)
        ts_buf_put(&marked, s[i] == ' ' ? TS_MARK : s + i, s[i] == ' ' ? 3 : 1);
    for (const char *w = ts_buf_text(&marked); *w;) {
        const char *next = t->whole ? NULL : strstr(w + 1, TS_MARK);
        size_t k = next ? (size_t)(next - w) : strlen(w);
        ts_tokenizer_search(t, w, k, out);
        w += k;
    }
    out->failed |= marked.failed;
    free(marked.s);
}

/* first: s begins the whole text */
static void split_words(const ts_tokenizer *t, const char *s, bool first, ts_list *out)
{
    const char *begin = s;
    int32_t c;
    if (t->bpe)
        ts_bpe_encode(t, s, strlen(s), out);
    else if (!t->metaspace && !t->words)
        ts_tokenizer_search(t, s, strlen(s), out);
    else if (!t->words)
        search_words(t, s, strlen(s), first, out);
    else
        while (*s) {
            size_t n = 0, k = 0;
            for (; s[n]; n += k) {
                k = ts_utf8_next(s + n, &c);
                if (ts_is_white(c)) break;
            }
            if (t->metaspace)
                search_words(t, s, n, first && s == begin, out);
            else if (n)
                ts_tokenizer_search(t, s, n, out);
            s += n;
            if (*s) s += k; /* the white space that ended the word */
        }
}

/* ---- added tokens ---- */
/* The leftmost added token in s, the longest of those that begin there. */
static const ts_added *first_added(const ts_tokenizer *t, bool normalized, const char *s,
                                   const char **where)
{
    for (; *s; s++) {
        const ts_added *best = NULL;
        if (!t->starts[normalized][(uint8_t)*s]) continue;
        for (int i = 0; i < t->addeds; i++) {
            const ts_added *a = t->added + i;
            if (a->normalized == normalized && a->n && (!best || a->n > best->n) &&
                !strncmp(s, a->find, a->n))
                best = a;
        }
        if (!best) continue;
        *where = s;
        return best;
    }
    return NULL;
}

static const char *skip_white(const char *s)
{
    int32_t c;
    for (size_t n; *s; s += n) {
        n = ts_utf8_next(s, &c);
        if (!ts_is_white(c)) break;
    }
    return s;
}

/* Where the white space that ends s[0..end) begins. */
static const char *before_white(const char *s, const char *end)
{
    const char *keep = s;
    int32_t c;
    while (s < end) {
        s += ts_utf8_next(s, &c);
        if (!ts_is_white(c)) keep = s;
    }
    return keep;
}

/* The normalizer took white space away from the front: then what is left does not begin the whole
 * text. */
static bool lost_white(const char *raw, const char *plain)
{
    int32_t c, d;
    ts_utf8_next(raw, &c);
    ts_utf8_next(plain, &d);
    return ts_is_white(c) && !ts_is_white(d);
}

/* What is no added token goes through the normalizer, then the same with added tokens that are
 * normalized, then into words. */
static void encode_text(const ts_tokenizer *t, bool normalized, const char *s, bool first,
                        ts_list *out)
{
    for (bool more = true; more && !out->failed;) {
        const char *hit = s + strlen(s);
        const ts_added *a = first_added(t, normalized, s, &hit);
        const char *end = a && a->left ? before_white(s, hit) : hit;
        ts_buf text = {0}, plain = {0};
        ts_buf_put(&text, s, (size_t)(end - s));
        if (!normalized) ts_normalize_rules(t, &plain, ts_buf_text(&text));
        if (text.n && !normalized)
            encode_text(t, true, ts_buf_text(&plain),
                        first && !lost_white(ts_buf_text(&text), ts_buf_text(&plain)), out);
        else if (text.n)
            split_words(t, ts_buf_text(&text), first, out);
        out->failed |= text.failed | plain.failed;
        free(text.s);
        free(plain.s);
        more = a != NULL;
        first = false;
        if (!a) break;
        ts_list_push(out, a->id);
        s = a->right ? skip_white(hit + a->n) : hit + a->n;
    }
}

ts_status ts_tokenize(ts_tokenizer *t, const char *text, int max, int32_t **ids, int *n,
                      bool *truncated)
{
    ts_list l = {0};
    ts_buf plain = {0};
    int room = max - t->befores - t->afters;
    ts_status st = ts_utf8_check(&t->ctx->err, text);
    *ids = NULL;
    *n = 0;
    *truncated = false;
    if (!st && room < 0)
        st = ts_fail(&t->ctx->err, TS_EUSAGE, "%d tokens: at least %d are needed", max,
                     t->befores + t->afters);
    if (st) return st;
    for (int i = 0; i < t->befores; i++) ts_list_push(&l, t->before[i]);
    if (t->sentencepiece) {
        ts_normalize_spiece(t, &plain, text);
        ts_tokenizer_search(t, ts_buf_text(&plain), plain.n, &l);
    } else {
        encode_text(t, false, text, true, &l);
    }
    *truncated = l.n - t->befores > room;
    if (*truncated) l.n = t->befores + room;
    for (int i = 0; i < t->afters; i++) ts_list_push(&l, t->after[i]);
    if (l.failed || plain.failed)
        st = ts_fail(&t->ctx->err, TS_EMEMORY, "no memory to tokenize %zu bytes", strlen(text));
    else {
        *ids = l.id;
        *n = l.n;
        l.id = NULL;
    }
    free(l.id);
    free(plain.s);
    return st;
}
