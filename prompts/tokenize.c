/* Text -> ids: normalisation, words, the Viterbi search of a Unigram model (Kudo, Subword Regularization, 2018), byte fallback.
 * The two kinds of file are used as their own libraries use them: tokenizer.json as the tokenizers library (map by grapheme, words apart, sums in double), spiece.model as SentencePiece
 * (longest match, the text as a whole, sums in float). */
#include "prompts/unigram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MARK "\xE2\x96\x81" /* U+2581, what a space becomes */

/* ---- vocabulary ---- */
static uint64_t hash_step(uint64_t h, uint8_t c) { return (h ^ c) * UINT64_C(1099511628211); }
#define HASH_START UINT64_C(14695981039346656037)

bool ts_tokenizer_add(ts_tokenizer *t, const char *s, size_t n, double score, ts_piece_type type)
{
    if ((t->pieces & (t->pieces - 1)) == 0) {
        void *more = realloc(t->piece, (size_t)(t->pieces ? 2 * t->pieces : 1) * sizeof *t->piece);
        if (!more) return false;
        t->piece = more;
    }
    char *own = malloc(n + 1);
    if (!own) return false;
    memcpy(own, s, n);
    own[n] = 0;
    t->piece[t->pieces++] = (ts_piece){own, n, score, type};
    if (n > t->longest) t->longest = n;
    return true;
}

static bool index_pieces(ts_tokenizer *t)
{
    for (t->slots = 64; t->slots < 2 * (size_t)t->pieces; t->slots *= 2) {}
    t->slot = calloc(t->slots, sizeof *t->slot);
    if (!t->slot) return false;
    for (int b = 0; b < 256; b++) t->byte[b] = -1;
    for (int i = 0; i < t->pieces; i++) {
        const ts_piece *p = t->piece + i;
        uint64_t h = HASH_START;
        for (size_t k = 0; k < p->n; k++) h = hash_step(h, (uint8_t)p->s[k]);
        size_t at = h & (t->slots - 1);
        while (t->slot[at] && (t->piece[t->slot[at] - 1].n != p->n || memcmp(t->piece[t->slot[at] - 1].s, p->s, p->n))) at = (at + 1) & (t->slots - 1);
        t->slot[at] = i + 1; /* of equal pieces the last counts, as in a dictionary */
        unsigned b;
        int used = 0;
        if (p->n == 6 && sscanf(p->s, "<0x%2X>%n", &b, &used) == 1 && used == 6) t->byte[b] = i;
    }
    return true;
}

static int lookup(const ts_tokenizer *t, uint64_t h, const char *s, size_t n)
{
    for (size_t at = h & (t->slots - 1); t->slot[at]; at = (at + 1) & (t->slots - 1)) {
        const ts_piece *p = t->piece + t->slot[at] - 1;
        if (p->n == n && !memcmp(p->s, s, n)) return t->slot[at] - 1;
    }
    return -1;
}

int ts_tokenizer_find(const ts_tokenizer *t, const char *s, size_t n)
{
    uint64_t h = HASH_START;
    for (size_t k = 0; k < n; k++) h = hash_step(h, (uint8_t)s[k]);
    return lookup(t, h, s, n);
}

/* ---- opening ---- */
static ts_status read_file(ts_err *err, const char *path, uint8_t **data, size_t *size)
{
    FILE *f = fopen(path, "rb");
    long n = -1;
    *data = NULL;
    if (f && !fseek(f, 0, SEEK_END)) n = ftell(f), rewind(f);
    if (n >= 0) *data = malloc((size_t)n + 1);
    bool ok = *data && fread(*data, 1, (size_t)n, f) == (size_t)n;
    if (f) fclose(f);
    *size = ok ? (size_t)n : 0;
    return ok ? TS_OK : ts_fail(err, TS_EMODEL, "%s: can not be read", path);
}

static bool readable(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

ts_status ts_tokenizer_open(ts_ctx *ctx, const char *dir, ts_tokenizer **out)
{
    ts_status st = TS_OK;
    char path[4096];
    cJSON *json = NULL;
    uint8_t *data = NULL;
    size_t size;
    ts_tokenizer *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a tokenizer");
    t->ctx = ctx;
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    bool is_json = readable(path);
    if (!is_json) snprintf(path, sizeof path, "%s/spiece.model", dir);
    if (!is_json && !readable(path)) TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: neither tokenizer.json nor spiece.model is there", dir));
    t->path = strdup(path);
    if (is_json) {
        TRY(ts_json_load(&ctx->err, path, &json));
        TRY(ts_tokenizer_json(t, json));
    } else {
        TRY(read_file(&ctx->err, path, &data, &size));
        TRY(ts_tokenizer_spiece(t, data, size));
    }
    if (!index_pieces(t)) TRY(ts_fail(&ctx->err, TS_EMEMORY, "%s: no memory for the vocab", path));
    *out = t, t = NULL;
done:
    ts_tokenizer_close(t);
    cJSON_Delete(json);
    free(data);
    return st;
}

void ts_tokenizer_close(ts_tokenizer *t)
{
    if (!t) return;
    for (int i = 0; i < t->pieces; i++) free(t->piece[i].s);
    for (int i = 0; i < t->addeds; i++) free(t->added[i].s);
    for (int i = 0; i < t->rules; i++) free(t->rule[i].from), free(t->rule[i].to);
    ts_charsmap_free(&t->map);
    free(t->piece), free(t->slot), free(t->added), free(t->path);
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

/* ---- normalisation ---- */
static void map_char(const ts_tokenizer *t, ts_buf *out, const char *s, size_t n)
{
    size_t used;
    const char *to = ts_charsmap_find(&t->map, s, n, false, &used);
    if (to) ts_buf_put(out, to, strlen(to));
    else ts_buf_put(out, s, n);
}

/* By grapheme when the map knows one of less than 6 bytes, else by character. */
static void map_graphemes(const ts_tokenizer *t, ts_buf *out, const char *s)
{
    while (*s) {
        int32_t c, d;
        utf8proc_int32_t state = 0;
        size_t n = ts_utf8_next(s, &c), k, used;
        while (s[n] && (k = ts_utf8_next(s + n, &d)) != 0 && !utf8proc_grapheme_break_stateful(c, d, &state)) n += k, c = d;
        const char *to = n < 6 ? ts_charsmap_find(&t->map, s, n, false, &used) : NULL;
        if (to) ts_buf_put(out, to, strlen(to));
        else
            for (size_t i = 0; i < n; i += k) {
                k = ts_utf8_next(s + i, &d);
                map_char(t, out, s + i, k);
            }
        s += n;
    }
}

static void strip(ts_buf *out, const char *s, bool left, bool right)
{
    size_t n = strlen(s), k;
    int32_t c;
    while (left && n && (k = ts_utf8_next(s, &c)) != 0 && ts_is_space(c)) s += k, n -= k;
    while (right && n) {
        size_t start = n - 1;
        while (start && ((uint8_t)s[start] & 0xC0) == 0x80) start--;
        if (!ts_utf8_next(s + start, &c) || !ts_is_space(c)) break;
        n = start;
    }
    ts_buf_put(out, s, n);
}

static void replace(ts_buf *out, const char *s, const char *from, const char *to)
{
    size_t n = strlen(from);
    for (const char *hit; (hit = strstr(s, from)); s = hit + n) ts_buf_put(out, s, (size_t)(hit - s)), ts_buf_put(out, to, strlen(to));
    ts_buf_put(out, s, strlen(s));
}

static void replace_spaces(ts_buf *out, const char *s, const char *to)
{
    while (*s) {
        size_t n = strspn(s, " ");
        if (n >= 2) ts_buf_put(out, to, strlen(to));
        else if (n) ts_buf_put(out, " ", 1);
        s += n;
        n = strcspn(s, " ");
        ts_buf_put(out, s, n);
        s += n;
    }
}

static void compose(ts_buf *out, const char *s, utf8proc_option_t options)
{
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)s, 0, &made, (utf8proc_option_t)(UTF8PROC_NULLTERM | UTF8PROC_STABLE | options));
    if (n >= 0) ts_buf_put(out, (const char *)made, (size_t)n);
    else out->failed = true;
    free(made);
}

static void lower(ts_buf *out, const char *s)
{
    int32_t c;
    for (size_t n; *s; s += n) {
        if (!(n = ts_utf8_next(s, &c))) break;
        ts_buf_char(out, utf8proc_tolower(c));
    }
}

static void apply(const ts_tokenizer *t, const ts_rule *r, ts_buf *out, const char *s)
{
    ts_buf_put(out, "", 0);
    switch (r->kind) {
    case TS_RULE_CHARSMAP: map_graphemes(t, out, s); break;
    case TS_RULE_STRIP: strip(out, s, r->left, r->right); break;
    case TS_RULE_REPLACE: replace(out, s, r->from, r->to); break;
    case TS_RULE_SPACES: replace_spaces(out, s, r->to); break;
    case TS_RULE_NFC: compose(out, s, UTF8PROC_COMPOSE); break;
    case TS_RULE_NFD: compose(out, s, UTF8PROC_DECOMPOSE); break;
    case TS_RULE_NFKC: compose(out, s, (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_COMPAT)); break;
    case TS_RULE_NFKD: compose(out, s, (utf8proc_option_t)(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT)); break;
    case TS_RULE_LOWER: lower(out, s); break;
    case TS_RULE_PREPEND:
        if (*s) ts_buf_put(out, r->to, strlen(r->to));
        ts_buf_put(out, s, strlen(s));
        break;
    }
}

static void normalize_json(const ts_tokenizer *t, ts_buf *out, const char *s)
{
    ts_buf_put(out, s, strlen(s));
    for (int i = 0; i < t->rules && !out->failed; i++) {
        ts_buf next = {0};
        apply(t, t->rule + i, &next, out->s);
        free(out->s);
        *out = next;
    }
}

/* SentencePiece: the longest match of the map at each place; spaces collapsed and trimmed, one before, all of them marks. */
static void normalize_spiece(const ts_tokenizer *t, ts_buf *out, const char *s)
{
    ts_buf mapped = {0};
    size_t n = strlen(s), used;
    ts_buf_put(&mapped, "", 0);
    while (n && !mapped.failed) {
        int32_t c;
        const char *to = ts_charsmap_find(&t->map, s, n, true, &used);
        if (!to) used = ts_utf8_next(s, &c);
        if (!used) used = 1, to = "\xEF\xBF\xBD";
        ts_buf_put(&mapped, to ? to : s, to ? strlen(to) : used);
        s += used, n -= used;
    }
    const char *m = mapped.s ? mapped.s : "";
    n = strlen(m);
    if (t->collapse) {
        while (*m == ' ') m++, n--;
        while (n && m[n - 1] == ' ') n--;
    }
    const char *space = t->escape ? MARK : " ";
    ts_buf_put(out, "", 0);
    if (n && t->dummy_prefix) ts_buf_put(out, space, strlen(space));
    for (size_t i = 0; i < n; i++) {
        if (m[i] != ' ') ts_buf_put(out, m + i, 1);
        else if (!t->collapse || m[i - 1] != ' ') ts_buf_put(out, space, strlen(space));
    }
    out->failed |= mapped.failed;
    free(mapped.s);
}

/* ---- Viterbi ---- */
typedef struct { int32_t *id; int n, room; bool failed; } list;

static void push(list *l, int id)
{
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 64;
        int32_t *more = realloc(l->id, (size_t)room * sizeof *more);
        if (!more) {
            l->failed = true;
            return;
        }
        l->id = more, l->room = room;
    }
    l->id[l->n++] = id;
}

typedef struct { double best; size_t from; int id; bool reached; } node;

static bool usable(const ts_tokenizer *t, const ts_piece *p) { return !t->sentencepiece || p->type == TS_PIECE_NORMAL || p->type == TS_PIECE_USER; }

static void relax(const ts_tokenizer *t, node *to, double score, size_t from, int id)
{
    if (t->sentencepiece) score = (float)score;
    if (to->reached && !(score > to->best)) return;
    *to = (node){score, from, id, true};
}

/* A run of characters that no piece covers: its bytes when all of them have pieces, else one unknown token. */
static void push_unknown(const ts_tokenizer *t, list *out, const char *s, size_t n)
{
    bool bytes = t->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++) bytes = t->byte[(uint8_t)s[i]] >= 0;
    if (!bytes) push(out, t->unk);
    for (size_t i = 0; bytes && i < n; i++) push(out, t->byte[(uint8_t)s[i]]);
}

static void backtrack(const ts_tokenizer *t, const node *at, const char *s, size_t n, list *out)
{
    list ends = {0};
    for (size_t e = n; e; e = at[e].from) push(&ends, (int)e);
    for (int i = ends.n - 1; i >= 0; i--) {
        size_t e = (size_t)ends.id[i], b = at[e].from;
        if (at[e].id != t->unk) {
            push(out, at[e].id);
            continue;
        }
        while (i > 0 && at[ends.id[i - 1]].id == t->unk) i--; /* neighbours that are unknown are one */
        e = (size_t)ends.id[i];
        push_unknown(t, out, s + b, e - b);
    }
    out->failed |= ends.failed;
    free(ends.id);
}

static void search(const ts_tokenizer *t, const char *s, size_t n, list *out)
{
    node *at = calloc(n + 1, sizeof *at);
    if (!at) {
        out->failed = true;
        return;
    }
    at[0].reached = true;
    for (size_t b = 0; b < n;) {
        int32_t c;
        size_t one = ts_utf8_next(s + b, &c);
        uint64_t h = HASH_START;
        bool single = false;
        if (!one) one = 1;
        for (size_t k = 1; k <= t->longest && b + k <= n; k++) {
            h = hash_step(h, (uint8_t)s[b + k - 1]);
            if (b + k < n && ((uint8_t)s[b + k] & 0xC0) == 0x80) continue; /* inside a character */
            int id = lookup(t, h, s + b, k);
            if (id < 0 || !usable(t, t->piece + id)) continue;
            relax(t, at + b + k, at[b].best + t->piece[id].score, b, id);
            single |= k == one;
        }
        if (!single) relax(t, at + b + one, at[b].best + t->unk_score, b, t->unk);
        b += one;
    }
    backtrack(t, at, s, n, out);
    free(at);
}

/* ---- from text to ids ---- */
/* Words begin at marks and are searched apart. */
static void search_words(const ts_tokenizer *t, const char *s, list *out)
{
    while (*s) {
        const char *next = strstr(s + 1, MARK);
        size_t n = next ? (size_t)(next - s) : strlen(s);
        search(t, s, n, out);
        s += n;
    }
}

static void meta(const ts_tokenizer *t, const char *s, size_t n, list *out)
{
    ts_buf marked = {0};
    if (!n) return;
    if (t->prepend && *s != ' ' && strncmp(s, MARK, 3)) ts_buf_put(&marked, MARK, 3);
    for (size_t i = 0; i < n; i++) ts_buf_put(&marked, s[i] == ' ' ? MARK : s + i, s[i] == ' ' ? 3 : 1);
    if (marked.s) search_words(t, marked.s, out);
    out->failed |= marked.failed;
    free(marked.s);
}

static void encode_json(const ts_tokenizer *t, const char *s, list *out)
{
    ts_buf plain = {0};
    normalize_json(t, &plain, s);
    const char *p = plain.s ? plain.s : "";
    if (!t->metaspace) search(t, p, strlen(p), out);
    else if (!t->words) meta(t, p, strlen(p), out);
    else
        while (*p) {
            int32_t c;
            size_t n = 0, k;
            while (p[n] && (k = ts_utf8_next(p + n, &c)) != 0 && !ts_is_space(c)) n += k;
            meta(t, p, n, out);
            p += n;
            while (*p && (k = ts_utf8_next(p, &c)) != 0 && ts_is_space(c)) p += k;
        }
    out->failed |= plain.failed;
    free(plain.s);
}

static void encode_spiece(const ts_tokenizer *t, const char *s, list *out)
{
    ts_buf plain = {0};
    normalize_spiece(t, &plain, s);
    if (plain.s) search(t, plain.s, plain.n, out);
    out->failed |= plain.failed;
    free(plain.s);
}

/* The leftmost added token in s, the longest of those that begin there. */
static const ts_added *first_added(const ts_tokenizer *t, const char *s, const char **where)
{
    const ts_added *best = NULL;
    for (int i = 0; i < t->addeds; i++) {
        const char *hit = strstr(s, t->added[i].s);
        if (hit && (!best || hit < *where || (hit == *where && t->added[i].n > best->n))) best = t->added + i, *where = hit;
    }
    return best;
}

static void encode(const ts_tokenizer *t, const char *s, list *out)
{
    const char *hit = s;
    for (const ts_added *a; (a = first_added(t, s, &hit)); s = hit + a->n) {
        ts_buf head = {0};
        ts_buf_put(&head, s, (size_t)(hit - s));
        if (head.s && head.n) encode_json(t, head.s, out);
        out->failed |= head.failed;
        free(head.s);
        push(out, a->id);
    }
    if (t->sentencepiece) encode_spiece(t, s, out);
    else encode_json(t, s, out);
}

ts_status ts_tokenize(ts_tokenizer *t, const char *text, int max, int32_t **ids, int *n, bool *truncated)
{
    list l = {0};
    int room = max - t->befores - t->afters;
    for (int i = 0; i < t->befores; i++) push(&l, t->before[i]);
    encode(t, text, &l);
    *truncated = l.n - t->befores > room;
    if (*truncated) l.n = t->befores + room;
    for (int i = 0; i < t->afters; i++) push(&l, t->after[i]);
    if (l.failed) {
        free(l.id);
        return ts_fail(&t->ctx->err, TS_EMEMORY, "no memory to tokenize %zu bytes", strlen(text));
    }
    *ids = l.id, *n = l.n;
    return TS_OK;
}
