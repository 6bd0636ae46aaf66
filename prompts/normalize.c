/* The text that a vocabulary is made of: the normalizers of the tokenizers library
 * (tokenizer.json), rule by rule, and SentencePiece's own (spiece.model). */
#include "prompts/unigram.h"

#include <stdlib.h>
#include <string.h>

static void put_string(ts_buf *t, const char *s) { ts_buf_put(t, s, strlen(s)); }

/* ---- tokenizer.json ---- */
static void map_part(const ts_tokenizer *t, ts_buf *out, const char *s, size_t n)
{
    size_t used;
    const char *to = ts_charsmap_find(&t->map, s, n, false, &used);
    if (to)
        put_string(out, to);
    else
        ts_buf_put(out, s, n);
}

/* A grapheme of less than 6 bytes becomes what the map has for the shortest beginning of it, any
 * other is mapped by character. The library does so; SentencePiece takes the longest match. */
static void map_graphemes(const ts_tokenizer *t, ts_buf *out, const char *s)
{
    while (*s) {
        int32_t c, d;
        utf8proc_int32_t state = 0;
        size_t n = ts_utf8_next(s, &c), k, used;
        for (; s[n]; n += k, c = d) {
            k = ts_utf8_next(s + n, &d);
            if (utf8proc_grapheme_break_stateful(c, d, &state)) break;
        }
        const char *to = n < 6 ? ts_charsmap_find(&t->map, s, n, false, &used) : NULL;
        if (to)
            put_string(out, to);
        else
            for (size_t i = 0; i < n; i += k) {
                k = ts_utf8_next(s + i, &d);
                map_part(t, out, s + i, k);
            }
        s += n;
    }
}

static void strip_spaces(ts_buf *out, const char *s, bool left, bool right)
{
    size_t n = strlen(s), k, keep = 0;
    int32_t c;
    for (; left && n; s += k, n -= k) {
        k = ts_utf8_next(s, &c);
        if (!ts_is_white(c)) break;
    }
    for (size_t i = 0; right && i < n; i += k) {
        k = ts_utf8_next(s + i, &c);
        if (!ts_is_white(c)) keep = i + k;
    }
    ts_buf_put(out, s, right ? keep : n);
}

static void replace_string(ts_buf *out, const char *s, const char *from, const char *to)
{
    size_t n = strlen(from);
    for (const char *hit; (hit = strstr(s, from)); s = hit + n) {
        ts_buf_put(out, s, (size_t)(hit - s));
        put_string(out, to);
    }
    put_string(out, s);
}

static void replace_spaces(ts_buf *out, const char *s, const char *to)
{
    while (*s) {
        size_t n = strspn(s, " ");
        if (n >= 2)
            put_string(out, to);
        else
            ts_buf_put(out, s, n);
        s += n;
        n = strcspn(s, " ");
        ts_buf_put(out, s, n);
        s += n;
    }
}

static void lower_text(ts_buf *out, const char *s)
{
    int32_t c;
    while (*s) {
        size_t n = ts_utf8_next(s, &c);
        if (c == 0x130)
            put_string(out, "i\xCC\x87"); /* the one letter whose small form is two */
        else if (c == 0xFFFD)
            ts_buf_put(out, s, n);
        else
            ts_buf_char(out, utf8proc_tolower(c));
        s += n;
    }
}

static void join_white(ts_buf *out, const char *s)
{
    int32_t c;
    for (bool after = false, white; *s; after = white) {
        size_t n = ts_utf8_next(s, &c);
        white = ts_is_white(c);
        if (!white)
            ts_buf_put(out, s, n);
        else if (!after)
            put_string(out, " ");
        s += n;
    }
}

static void apply_normalizer(const ts_tokenizer *t, const ts_rule *r, ts_buf *out, const char *s)
{
    ts_buf_put(out, "", 0);
    switch (r->kind) {
    case TS_RULE_CHARSMAP: map_graphemes(t, out, s); break;
    case TS_RULE_STRIP: strip_spaces(out, s, r->left, r->right); break;
    case TS_RULE_REPLACE: replace_string(out, s, r->from, r->to); break;
    case TS_RULE_SPACES: replace_spaces(out, s, r->to); break;
    case TS_RULE_WHITE: join_white(out, s); break;
    case TS_RULE_NFC: ts_buf_normalize(out, s, UTF8PROC_COMPOSE); break;
    case TS_RULE_NFD: ts_buf_normalize(out, s, UTF8PROC_DECOMPOSE); break;
    case TS_RULE_NFKC: ts_buf_normalize(out, s, UTF8PROC_COMPOSE | UTF8PROC_COMPAT); break;
    case TS_RULE_NFKD: ts_buf_normalize(out, s, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT); break;
    case TS_RULE_LOWER: lower_text(out, s); break;
    case TS_RULE_PREPEND:
        if (*s) put_string(out, r->to);
        put_string(out, s);
        break;
    }
}

void ts_normalize_rules(const ts_tokenizer *t, ts_buf *out, const char *s)
{
    put_string(out, s);
    for (int i = 0; i < t->rules && !out->failed; i++) {
        ts_buf next = {0};
        apply_normalizer(t, t->rule + i, &next, ts_buf_text(out));
        free(out->s);
        *out = next;
    }
}

/* ---- spiece.model ---- */
typedef struct {
    const char *s;
    size_t n, used;
} part; /* what the first `used` bytes become */

/* A piece that a user defined stays as it is; else the longest match of the map; else one
 * character. */
static part first_part(const ts_tokenizer *t, const char *s, size_t n)
{
    int32_t c;
    size_t used = 0;
    for (size_t k = t->longest_user < n ? t->longest_user : n; k; k--) {
        int id = ts_tokenizer_find(t, s, k);
        if (id >= 0 && t->piece[id].type == TS_PIECE_USER) return (part){s, k, k};
    }
    const char *to = ts_charsmap_find(&t->map, s, n, true, &used);
    if (to) return (part){to, strlen(to), used};
    used = ts_utf8_next(s, &c);
    if (used == 1 && c == 0xFFFD) return (part){"\xEF\xBF\xBD", 3, 1};
    return (part){s, used, used};
}

static bool buffer_ends_in(const ts_buf *t, const char *tail)
{
    size_t n = strlen(tail);
    return t->n >= n && !memcmp(t->s + t->n - n, tail, n);
}

void ts_normalize_spiece(const ts_tokenizer *t, ts_buf *out, const char *s)
{
    const char *space = t->escape ? TS_MARK : " ";
    size_t n = strlen(s);
    part p;
    ts_buf_put(out, "", 0);
    for (; t->collapse && n; s += p.used, n -= p.used) {
        p = first_part(t, s, n);
        if (p.n != 1 || *p.s != ' ') break;
    }
    if (!n) return;
    if (t->dummy_prefix) put_string(out, space);
    for (bool after_space = t->collapse; n && !out->failed; s += p.used, n -= p.used) {
        p = first_part(t, s, n);
        while (after_space && p.n && *p.s == ' ') {
            p.s++;
            p.n--;
        }
        for (size_t i = 0; i < p.n; i++) {
            if (p.s[i] == ' ')
                put_string(out, space);
            else
                ts_buf_put(out, p.s + i, 1);
        }
        if (p.n) after_space = t->collapse && p.s[p.n - 1] == ' ';
    }
    while (t->collapse && out->s && buffer_ends_in(out, space)) out->s[out->n -= strlen(space)] = 0;
}
