/* What the Wan pipeline does to a prompt before its tokenizer sees it: ftfy.fix_text with its
 * default settings except that mojibake is not guessed at, html.unescape twice, white space
 * collapsed.
 *
 * ftfy works a line at a time until nothing changes: HTML entities (while no '<' was seen), C1
 * controls as Windows-1252, Latin ligatures, full-width forms, curly quotes, line ends, terminal
 * escapes, control characters, NFC. */
#include "prompts/clean.h"
#include "prompts/buffer.h"
#include "prompts/entities.h"
#include "prompts/text.h"

#include <stdlib.h>
#include <string.h>

/* a text that is escaped deeper than MOST_PASSES times is left so: the work stays linear */
enum { MOST_PASSES = 64, MOST_NAME = 32, MOST_FTFY_NAME = 24 };

/* ---- character references ---- */

/* Code points 0x80..0x9F mean Windows-1252, as in browsers. */
static const uint16_t cp1252[32] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                    0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0x8D,   0x17D,  0x8F,
                                    0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                    0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};

static int32_t map_numeric_reference(unsigned long v)
{
    if (v == 0) return 0xFFFD;
    if (v == 0x0D) return 0x0D;
    if (v >= 0x80 && v < 0xA0) return cp1252[v - 0x80];
    if ((v >= 0xD800 && v <= 0xDFFF) || v > 0x10FFFF) return 0xFFFD;
    /* no character: dropped */
    if (v < 9 || (v >= 0xE && v <= 0x1F) || (v >= 0x7F && v < 0xA0) ||
        (v >= 0xFDD0 && v <= 0xFDEF) || v == 0xB || (v & 0xFFFE) == 0xFFFE)
        return -1;
    return (int32_t)v;
}

/* used: bytes after '&', 0: none; text, or the character c, or nothing (c < 0) */
typedef struct {
    size_t used;
    const char *text;
    int32_t c;
} reference;

static reference read_number(const char *s) /* s after "&#" */
{
    bool hex = s[0] == 'x' || s[0] == 'X';
    const char *digits = s + hex;
    size_t n = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789"),
           zeros = strspn(digits, "0");
    if (!n) return (reference){0};
    unsigned long v = n > zeros + 10 ? 0x110000 : strtoul(digits, NULL, hex ? 16 : 10);
    return (reference){1 + hex + n + (digits[n] == ';'), NULL, map_numeric_reference(v)};
}

static const ts_entity *find_entity(const char *name, size_t n)
{
    int lo = 0, hi = ts_entity_count - 1;
    while (lo <= hi) {
        int mid = (lo + hi) / 2, order = strncmp(name, ts_entities[mid].name, n);
        if (order == 0 && ts_entities[mid].name[n]) order = -1;
        if (order == 0) return ts_entities + mid;
        if (order < 0)
            hi = mid - 1;
        else
            lo = mid + 1;
    }
    return NULL;
}

static reference read_name(const char *s) /* s after '&' */
{
    size_t n = strcspn(s, "\t\n\f <&#;");
    if (n > MOST_NAME)
        n = MOST_NAME;
    else if (n && s[n] == ';')
        n++;
    for (; n > 1; n--) { /* the longest known beginning */
        const ts_entity *e = find_entity(s, n);
        if (e) return (reference){n, e->text, 0};
    }
    return (reference){0};
}

static void put_decoded_reference(ts_buf *t, const reference *r)
{
    if (r->text)
        ts_buf_put(t, r->text, strlen(r->text));
    else if (r->c >= 0)
        ts_buf_char(t, r->c);
}

void ts_html_unescape(ts_buf *t, const char *s)
{
    ts_buf_put(t, "", 0);
    while (*s) {
        size_t n = strcspn(s, "&");
        ts_buf_put(t, s, n);
        s += n;
        if (!*s) break;
        reference r = s[1] == '#' ? read_number(s + 2) : read_name(s + 1);
        if (r.used)
            put_decoded_reference(t, &r);
        else
            ts_buf_put(t, "&", 1);
        s += 1 + r.used;
    }
}

/* Of an entity that is written in capitals and exists only in small letters, ftfy takes the
 * capital: &EACUTE; */
static bool put_capital(ts_buf *t, const char *name, size_t n)
{
    static const struct {
        int32_t c;
        const char *up;
    } odd[] = {{0xDF, "SS"},   {0x149, "\xCA\xBCN"}, {0x1F0, "J\xCC\x8C"}, {0xFB00, "FF"},
               {0xFB01, "FI"}, {0xFB02, "FL"},       {0xFB03, "FFI"},      {0xFB04, "FFL"}};
    char low[MOST_NAME + 1];
    for (size_t i = 0; i < n; i++) {
        if (name[i] >= 'a' && name[i] <= 'z') return false;
        low[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    }
    const ts_entity *e = find_entity(low, n);
    if (!e || read_name(name).used) return false;
    int32_t c;
    for (const char *s = e->text; *s;) {
        const char *up = NULL;
        s += ts_utf8_next(s, &c);
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
            if (odd[i].c == c) up = odd[i].up;
        if (up)
            ts_buf_put(t, up, strlen(up));
        else
            ts_buf_char(t, utf8proc_toupper(c));
    }
    return true;
}

/* ftfy's unescape: only references that end in ';' and are known as a whole. */
static void unescape_whole(ts_buf *t, const char *s)
{
    while (*s) {
        size_t n = strcspn(s, "&");
        ts_buf_put(t, s, n);
        s += n;
        if (!*s) break;
        bool number = s[1] == '#', done = false;
        const char *name = s + 1 + number;
        n = strspn(name, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
        if (n && n <= MOST_FTFY_NAME && name[n] == ';') {
            reference r = number ? read_number(name) : read_name(name);
            done = r.used == number + n + 1 && (r.text || r.c != ';');
            if (done)
                put_decoded_reference(t, &r);
            else
                done = !number && put_capital(t, name, n + 1);
        }
        if (!done) ts_buf_put(t, "&", 1);
        s += done ? 1 + number + n + 1 : 1;
    }
}

/* ---- characters ---- */

/* ftfy's ligature table */
static const char *expand_ligature(int32_t c)
{
    static const struct {
        int32_t c;
        const char *s;
    } table[] = {{0x132, "IJ"},         {0x133, "ij"},  {0x149, "'n"},        {0x1F1, "DZ"},
                 {0x1F2, "Dz"},         {0x1F3, "dz"},  {0x1C4, "D\xC5\xBD"}, {0x1C5, "D\xC5\xBE"},
                 {0x1C6, "d\xC5\xBE"},  {0x1C7, "LJ"},  {0x1C8, "Lj"},        {0x1C9, "lj"},
                 {0x1CA, "NJ"},         {0x1CB, "Nj"},  {0x1CC, "nj"},        {0xFB00, "ff"},
                 {0xFB01, "fi"},        {0xFB02, "fl"}, {0xFB03, "ffi"},      {0xFB04, "ffl"},
                 {0xFB05, "\xC5\xBFt"}, {0xFB06, "st"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].c == c) return table[i].s;
    return NULL;
}

static bool is_removed_control(int32_t c)
{
    return (c < 0x20 && c != 9 && c != 10 && c != 12 && c != 13) || c == 0x7F ||
           (c >= 0x206A && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

/* Bytes of a terminal escape, ESC [ digits and ; ... letter, or 0. As for Python, the digits of
 * every script are digits. */
static size_t measure_escape(const char *s)
{
    const char *at = s + 2;
    int32_t c;
    if (s[0] != 0x1B || s[1] != '[') return 0;
    for (size_t n; *at; at += n) {
        n = ts_utf8_next(at, &c);
        if (c != ';' && utf8proc_category(c) != UTF8PROC_CATEGORY_ND) break;
    }
    return (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ? (size_t)(at - s) + 1 : 0;
}

/* Half- and full-width forms become what they are made of (their NFKC). */
static void put_width(ts_buf *t, int32_t c)
{
    int32_t out[18];
    utf8proc_ssize_t n = utf8proc_decompose_char(c, out, 18, UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE,
                                                 NULL);
    n = n > 0 ? utf8proc_normalize_utf32(out, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE) : n;
    for (utf8proc_ssize_t i = 0; i < n; i++) ts_buf_char(t, out[i]);
}

static void map_char(ts_buf *t, int32_t c)
{
    if (c >= 0x80 && c < 0xA0) c = cp1252[c - 0x80];
    const char *apart = expand_ligature(c);
    if (apart)
        ts_buf_put(t, apart, strlen(apart));
    else if ((c >= 0xFF01 && c <= 0xFFEE) || c == 0x3000)
        put_width(t, c);
    else if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B))
        ts_buf_char(t, '\'');
    else if (c >= 0x201C && c <= 0x201F)
        ts_buf_char(t, '"');
    else if (c == 0x2028 || c == 0x2029)
        ts_buf_char(t, '\n');
    else
        ts_buf_char(t, c);
}

static void map_chars(ts_buf *t, const char *s)
{
    int32_t c;
    while (*s) {
        s += ts_utf8_next(s, &c);
        if (c == '\r') {
            s += *s == '\n';
            c = '\n';
        }
        map_char(t, c);
    }
}

static void drop_controls(ts_buf *t, const char *s)
{
    int32_t c;
    while (*s) {
        size_t skip = measure_escape(s), n = ts_utf8_next(s, &c);
        if (!skip && !is_removed_control(c)) ts_buf_put(t, s, n);
        s += skip ? skip : n;
    }
}

/* ---- the whole ---- */

static void fix_line_once(ts_buf *out, const char *s, bool entities)
{
    ts_buf plain = {0}, mapped = {0}, kept = {0};
    if (entities)
        unescape_whole(&plain, s);
    else
        ts_buf_put(&plain, s, strlen(s));
    map_chars(&mapped, ts_buf_text(&plain));
    drop_controls(&kept, ts_buf_text(&mapped));
    ts_buf_normalize(out, ts_buf_text(&kept), UTF8PROC_COMPOSE);
    out->failed |= plain.failed | mapped.failed | kept.failed;
    free(plain.s);
    free(mapped.s);
    free(kept.s);
}

static void fix_line(ts_buf *out, const char *s, size_t n, bool entities)
{
    ts_buf line = {0};
    bool again = true;
    ts_buf_put(&line, s, n);
    for (int i = 0; i < MOST_PASSES && again && !line.failed; i++) {
        ts_buf next = {0};
        fix_line_once(&next, ts_buf_text(&line), entities);
        again = strcmp(ts_buf_text(&next), ts_buf_text(&line));
        free(line.s);
        line = next;
    }
    ts_buf_put(out, ts_buf_text(&line), line.n);
    out->failed |= line.failed;
    free(line.s);
}

void ts_fix_text(ts_buf *out, const char *s)
{
    bool entities = true; /* until a line has a '<', which means that the text is HTML */
    for (size_t n; *s; s += n) {
        n = strcspn(s, "\n");
        n += s[n] == '\n';
        entities = entities && !memchr(s, '<', n);
        fix_line(out, s, n, entities);
    }
}

static void collapse_spaces(ts_buf *t, const char *s)
{
    bool gap = false;
    int32_t c;
    ts_buf_put(t, "", 0);
    for (size_t n; *s; s += n) {
        n = ts_utf8_next(s, &c);
        if (ts_is_space(c))
            gap = t->n > 0;
        else {
            if (gap) ts_buf_put(t, " ", 1);
            ts_buf_put(t, s, n);
            gap = false;
        }
    }
}

ts_status ts_keep_prompt(ts_err *err, const char *s, char **out)
{
    ts_status st = ts_utf8_check(err, s);
    *out = st ? NULL : strdup(s);
    return st || *out ? st : ts_fail(err, TS_EMEMORY, "no memory for %zu bytes", strlen(s));
}

ts_status ts_clean_prompt(ts_err *err, const char *s, char **out)
{
    ts_buf fixed = {0}, once = {0}, twice = {0}, done = {0};
    ts_status st = ts_utf8_check(err, s);
    *out = NULL;
    if (st) return st;
    ts_fix_text(&fixed, s);
    ts_html_unescape(&once, ts_buf_text(&fixed));
    ts_html_unescape(&twice, ts_buf_text(&once));
    collapse_spaces(&done, ts_buf_text(&twice));
    if (fixed.failed || once.failed || twice.failed || done.failed)
        st = ts_fail(err, TS_EMEMORY, "no memory for a text of %zu bytes", strlen(s));
    else {
        *out = done.s;
        done.s = NULL;
    }
    free(fixed.s);
    free(once.s);
    free(twice.s);
    free(done.s);
    return st;
}
