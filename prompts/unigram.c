/* A Unigram model (Kudo, Subword Regularization, 2018): the split of a text into pieces whose
 * scores (log probabilities) add up to the most, by Viterbi's search.
 *
 *   best[0] = 0,  best[e] = max over pieces text[b..e) of best[b] + score;  a character that is no
 *   piece itself costs unk_score
 *
 * On a tie the earlier start stays. The tokenizers library sums in f64, SentencePiece in f32, which
 * decides between splits that are nearly as good. */
#include "prompts/unigram.h"

#include "backend/hash.h"

#include <stdlib.h>
#include <string.h>

/* ---- vocabulary: FNV-1a, open addressing ---- */
/* A product carries only upwards: the high half has seen all bits, the low bits have not. */
static size_t first_slot(const ts_tokenizer *t, uint64_t h)
{
    return (size_t)(h ^ h >> 32) & (t->slots - 1);
}

bool ts_tokenizer_add(ts_tokenizer *t, const char *s, size_t n, double score, ts_piece_type type)
{
    if ((t->pieces & (t->pieces - 1)) == 0) {
        void *more = realloc(t->piece, (size_t)(t->pieces ? 2 * t->pieces : 1) * sizeof *t->piece);
        if (!more) return false;
        t->piece = more;
    }
    char *own = malloc(n + 1);
    if (!own) return false;
    if (n) memcpy(own, s, n);
    own[n] = 0;
    t->piece[t->pieces++] = (ts_piece){own, n, score, type};
    if (n > t->longest) t->longest = n;
    if (type == TS_PIECE_USER && n > t->longest_user) t->longest_user = n;
    /* cppcheck-suppress memleak ; the piece has it */
    return true;
}

/* <0xHH>, capitals only */
static int byte_of(const ts_piece *p)
{
    static const char hex[] = "0123456789ABCDEF";
    if (p->n != 6 || memcmp(p->s, "<0x", 3) || p->s[5] != '>') return -1;
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): without its end, on purpose */
    const char *high = memchr(hex, p->s[3], 16), *low = memchr(hex, p->s[4], 16);
    return high && low ? (int)((high - hex) << 4 | (low - hex)) : -1;
}

bool ts_tokenizer_index(ts_tokenizer *t)
{
    for (t->slots = 64; t->slots < 2 * (size_t)t->pieces; t->slots *= 2) {}
    t->slot = calloc(t->slots, sizeof *t->slot);
    if (!t->slot) return false;
    for (int b = 0; b < 256; b++) t->byte[b] = -1;
    for (int i = 0; i < t->pieces; i++) {
        const ts_piece *p = t->piece + i;
        uint64_t h = ts_hash(TS_HASH, p->s, p->n);
        size_t at = first_slot(t, h);
        while (t->slot[at] && (t->piece[t->slot[at] - 1].n != p->n ||
                               memcmp(t->piece[t->slot[at] - 1].s, p->s, p->n)))
            at = (at + 1) & (t->slots - 1);
        t->slot[at] = i + 1; /* of equal pieces the last counts, as in a dictionary */
        int b = byte_of(p);
        if (b >= 0) t->byte[b] = i;
    }
    return true;
}

static int find_piece(const ts_tokenizer *t, uint64_t h, const char *s, size_t n)
{
    for (size_t at = first_slot(t, h); t->slot[at]; at = (at + 1) & (t->slots - 1)) {
        const ts_piece *p = t->piece + t->slot[at] - 1;
        if (p->n == n && !memcmp(p->s, s, n)) return t->slot[at] - 1;
    }
    return -1;
}

int ts_tokenizer_find(const ts_tokenizer *t, const char *s, size_t n)
{
    uint64_t h = ts_hash(TS_HASH, s, n);
    return find_piece(t, h, s, n);
}

/* ---- Viterbi ---- */
void ts_list_push(ts_list *l, int id)
{
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 64;
        int32_t *more = realloc(l->id, (size_t)room * sizeof *more);
        if (!more) {
            l->failed = true;
            return;
        }
        l->id = more;
        l->room = room;
    }
    l->id[l->n++] = id;
}

/* of the best way to a place: its sum, where its last piece begins, the piece */
typedef struct {
    double best;
    size_t from;
    int id;
    bool reached;
} node;

static bool is_usable_piece(const ts_tokenizer *t, const ts_piece *p)
{
    return !t->sentencepiece || p->type == TS_PIECE_NORMAL || p->type == TS_PIECE_USER;
}

static void relax_node(const ts_tokenizer *t, node *to, double score, size_t from, int id)
{
    if (t->sentencepiece) score = (float)score;
    if (to->reached && !(score > to->best)) return;
    *to = (node){score, from, id, true};
}

/* A run of characters that no piece covers: its bytes when all of them have pieces, else one
 * unknown token. */
static void push_unknown(const ts_tokenizer *t, ts_list *out, const char *s, size_t n)
{
    bool bytes = t->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++) bytes = t->byte[(uint8_t)s[i]] >= 0;
    if (!bytes) ts_list_push(out, t->unk);
    for (size_t i = 0; bytes && i < n; i++) ts_list_push(out, t->byte[(uint8_t)s[i]]);
}

static void push_best_path(const ts_tokenizer *t, const node *at, const char *s, size_t n,
                           ts_list *out)
{
    ts_list ends = {0};
    for (size_t e = n; e; e = at[e].from) ts_list_push(&ends, (int)e);
    for (int i = ends.n - 1; i >= 0; i--) {
        size_t b = at[ends.id[i]].from;
        if (at[ends.id[i]].id != t->unk) {
            ts_list_push(out, at[ends.id[i]].id);
            continue;
        }
        /* neighbours that are unknown are one */
        while (i > 0 && at[ends.id[i - 1]].id == t->unk) i--;
        push_unknown(t, out, s + b, (size_t)ends.id[i] - b);
    }
    out->failed |= ends.failed;
    free(ends.id);
}

void ts_tokenizer_search(const ts_tokenizer *t, const char *s, size_t n, ts_list *out)
{
    node *at = n < INT32_MAX ? calloc(n + 1, sizeof *at) : NULL;
    if (!at) {
        out->failed = true;
        return;
    }
    at[0].reached = true;
    for (size_t b = 0; b < n;) {
        int32_t c;
        size_t one = ts_utf8_next(s + b, &c);
        uint64_t h = TS_HASH;
        bool single = false;
        for (size_t k = 1; k <= t->longest && b + k <= n; k++) {
            h = ts_hash(h, s + b + k - 1, 1);
            /* inside a character */
            if (k < one || (b + k < n && ((uint8_t)s[b + k] & 0xC0) == 0x80)) continue;
            int id = find_piece(t, h, s + b, k);
            if (id < 0 || !is_usable_piece(t, t->piece + id)) continue;
            relax_node(t, at + b + k, at[b].best + t->piece[id].score, b, id);
            single |= k == one;
        }
        if (!single) relax_node(t, at + b + one, at[b].best + t->unk_score, b, t->unk);
        b += one;
    }
    push_best_path(t, at, s, n, out);
    free(at);
}
