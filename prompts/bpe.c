/* Byte-level BPE (Sennrich et al., 2016; Radford et al., 2019). A text is split by regular
 * expressions; the bytes of a piece become letters, those that can be seen themselves, the others
 * U+0100, U+0101, ..; then of all pairs of neighbours the one of lowest rank is merged, the
 * leftmost first, until no pair has a rank. A heap of pairs keeps that at n log n. */
#include "prompts/bpe.h"

#include "backend/hash.h"

#include <stdlib.h>
#include <string.h>

/* ---- letters ---- */

static bool byte_is_seen(int b)
{
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

size_t ts_bpe_letter(uint8_t byte, char out[2])
{
    int c = byte;
    if (!byte_is_seen(byte)) {
        c = 256;
        for (int b = 0; b < byte; b++) c += !byte_is_seen(b);
    }
    out[0] = (char)c;
    if (c < 128) return 1;
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 63));
    return 2;
}

/* ---- opening ---- */

static ts_status refuse_bpe_memory(const ts_tokenizer *t)
{
    return ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for the vocabulary", t->path);
}

ts_status ts_bpe_new(ts_tokenizer *t)
{
    t->bpe = calloc(1, sizeof *t->bpe);
    if (!t->bpe) return refuse_bpe_memory(t);
    t->bpe->end = "";
    return TS_OK;
}

void ts_bpe_free(ts_bpe *b)
{
    if (!b) return;
    for (int i = 0; i < b->splits; i++) pcre2_code_free(b->split[i].code);
    free(b->merge);
    free(b->slot);
    free(b);
}

/* What Oniguruma means by \s: Unicode's White_Space. PCRE2 adds U+180E. */
#define WHITE                                                                                    \
    "\\t-\\r\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}" \
    "\\x{3000}"

static ts_status put_pattern(ts_tokenizer *t, const char *pattern, ts_buf *out)
{
    bool inside = false; /* a class in brackets */
    for (const char *p = pattern; *p; p++) {
        if (*p == '\\' && p[1] == 'S' && inside)
            return ts_fail(&t->ctx->err, TS_EMODEL,
                           "%s: \\S within brackets in the pattern \"%.80s\" is not supported",
                           t->path, pattern);
        const char *white = *p == '\\' && (p[1] == 's' || p[1] == 'S')
                                ? (inside        ? WHITE
                                   : p[1] == 's' ? "[" WHITE "]"
                                                 : "[^" WHITE "]")
                                : NULL;
        if (white) {
            ts_buf_put(out, white, strlen(white));
            p++;
            continue;
        }
        if (*p == '[') inside = true;
        if (*p == ']') inside = false;
        ts_buf_put(out, p, *p == '\\' && p[1] ? 2 : 1);
        if (*p == '\\' && p[1]) p++;
    }
    return out->failed ? refuse_bpe_memory(t) : TS_OK;
}

ts_status ts_bpe_split(ts_tokenizer *t, const char *pattern, bool gaps)
{
    ts_status st;
    ts_bpe *b = t->bpe;
    ts_buf text = {0};
    int code;
    PCRE2_SIZE at;
    if (b->splits == TS_BPE_SPLITS)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: more than %d splits are not supported",
                       t->path, TS_BPE_SPLITS);
    TRY(put_pattern(t, pattern, &text));
    pcre2_code *made = pcre2_compile((PCRE2_SPTR)ts_buf_text(&text), text.n,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code, &at, NULL);
    if (!made)
        TRY(ts_fail(&t->ctx->err, TS_EMODEL, "%s: the pattern \"%.80s\" is not supported", t->path,
                    pattern));
    b->split[b->splits].code = made;
    b->split[b->splits++].gaps = gaps;
done:
    free(text.s);
    return st;
}

ts_status ts_bpe_add(ts_tokenizer *t, int left, int right, int to)
{
    ts_bpe *b = t->bpe;
    if ((b->merges & (b->merges - 1)) == 0) {
        size_t room = b->merges ? 2 * (size_t)b->merges : 1;
        ts_bpe_merge *more = realloc(b->merge, room * sizeof *more);
        if (!more) return refuse_bpe_memory(t);
        b->merge = more;
    }
    b->merge[b->merges] = (ts_bpe_merge){left, right, b->merges, to};
    b->merges++;
    return TS_OK;
}

static size_t slot_of_pair(const ts_bpe *b, int left, int right)
{
    int pair[2] = {left, right};
    uint64_t h = ts_hash(TS_HASH, pair, sizeof pair);
    size_t at = (size_t)(h ^ h >> 32) & (b->slots - 1);
    for (; b->slot[at]; at = (at + 1) & (b->slots - 1)) {
        const ts_bpe_merge *m = b->merge + b->slot[at] - 1;
        if (m->left == left && m->right == right) break;
    }
    return at;
}

static const ts_bpe_merge *find_merge(const ts_bpe *b, int left, int right)
{
    int n = b->slot[slot_of_pair(b, left, right)];
    return n ? b->merge + n - 1 : NULL;
}

ts_status ts_bpe_index(ts_tokenizer *t)
{
    ts_bpe *b = t->bpe;
    char name[16];
    for (b->slots = 64; b->slots < 2 * (size_t)b->merges; b->slots *= 2) {}
    b->slot = calloc(b->slots, sizeof *b->slot);
    if (!b->slot) return refuse_bpe_memory(t);
    for (int i = 0; i < b->merges; i++)
        b->slot[slot_of_pair(b, b->merge[i].left, b->merge[i].right)] = i + 1;
    for (int i = 0; i < 256; i++)
        for (int last = 0; last < 2; last++) {
            size_t n = ts_bpe_letter((uint8_t)i, name), end = last ? strlen(b->end) : 0;
            memcpy(name + n, b->end, end);
            b->byte[last][i] = ts_tokenizer_find(t, name, n + end);
            if (b->byte[last][i] < 0)
                return ts_fail(&t->ctx->err, TS_EMODEL,
                               "%s: the vocabulary has no token for byte 0x%02X%s", t->path,
                               (unsigned)i, end ? " at the end of a word" : "");
        }
    return TS_OK;
}

/* ---- merging ---- */

typedef struct { /* a letter or what it has become; n, p: its neighbours, -1: none */
    int id, next, before;
} symbol;
typedef struct { /* a pair that had this merge when it was noted */
    int rank, at;
} candidate;
typedef struct {
    const ts_bpe *bpe;
    symbol *s;
    candidate *heap;
    int n; /* of the heap */
} merging;

static bool comes_before(candidate a, candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void note_pair(merging *m, int at)
{
    if (at < 0 || m->s[at].next < 0) return;
    const ts_bpe_merge *r = find_merge(m->bpe, m->s[at].id, m->s[m->s[at].next].id);
    if (!r) return;
    candidate c = {r->rank, at};
    int i = m->n++;
    for (; i && comes_before(c, m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = c;
}

static candidate take_pair(merging *m)
{
    candidate top = m->heap[0], last = m->heap[--m->n];
    int i = 0;
    for (int k; (k = 2 * i + 1) < m->n; i = k) {
        if (k + 1 < m->n && comes_before(m->heap[k + 1], m->heap[k])) k++;
        if (!comes_before(m->heap[k], last)) break;
        m->heap[i] = m->heap[k];
    }
    m->heap[i] = last;
    return top;
}

/* A note is stale when its pair is not what it was. */
static void merge_pair(merging *m, candidate c)
{
    symbol *left = m->s + c.at;
    if (left->id < 0 || left->next < 0) return;
    symbol *right = m->s + left->next;
    const ts_bpe_merge *r = find_merge(m->bpe, left->id, right->id);
    if (!r || r->rank != c.rank) return;
    left->id = r->to;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0) m->s[left->next].before = c.at;
    note_pair(m, left->before);
    note_pair(m, c.at);
}

static void encode_bpe_piece(const ts_tokenizer *t, const char *s, size_t n, ts_list *out)
{
    const ts_bpe *b = t->bpe;
    ts_buf word = {0};
    char letter[2];
    int whole = -1;
    for (size_t i = 0; b->whole && i < n; i++)
        ts_buf_put(&word, letter, ts_bpe_letter((uint8_t)s[i], letter));
    if (b->whole && n) {
        ts_buf_put(&word, b->end, strlen(b->end));
        whole = ts_tokenizer_find(t, ts_buf_text(&word), word.n);
    }
    out->failed |= word.failed;
    free(word.s);
    if (!n || whole >= 0) {
        if (n) ts_list_push(out, whole);
        return;
    }
    /* every merge notes two pairs and ends one */
    merging m = {.bpe = b, .s = malloc(n * sizeof *m.s), .heap = malloc(3 * n * sizeof *m.heap)};
    if (!m.s || !m.heap) {
        out->failed = true;
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        m.s[i] = (symbol){b->byte[i + 1 == n][(uint8_t)s[i]], i + 1 < n ? (int)i + 1 : -1,
                          (int)i - 1};
    for (size_t i = 0; i < n; i++) note_pair(&m, (int)i);
    while (m.n) merge_pair(&m, take_pair(&m));
    for (int i = 0; i >= 0; i = m.s[i].next) ts_list_push(out, m.s[i].id);
done:
    free(m.s);
    free(m.heap);
}

/* ---- splitting ---- */

static void split_bpe(const ts_tokenizer *t, int level, const char *s, size_t n, ts_list *out)
{
    const ts_bpe *b = t->bpe;
    if (!n || out->failed) return;
    if (level == b->splits) {
        encode_bpe_piece(t, s, n, out);
        return;
    }
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    size_t done = 0;
    out->failed |= !data;
    while (data && done < n) {
        int found = pcre2_match(b->split[level].code, (PCRE2_SPTR)s, n, done,
                                PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data, NULL);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(data);
        /* -1: no more; other failures are of memory and of its limits */
        out->failed |= found < 0 && found != PCRE2_ERROR_NOMATCH;
        size_t from = found < 0 ? n : at[0], to = found < 0 ? n : at[1];
        if (b->split[level].gaps) split_bpe(t, level + 1, s + done, from - done, out);
        split_bpe(t, level + 1, s + from, to - from, out);
        done = to;
    }
    pcre2_match_data_free(data);
}

void ts_bpe_encode(const ts_tokenizer *t, const char *s, size_t n, ts_list *out)
{
    split_bpe(t, 0, s, n, out);
}
