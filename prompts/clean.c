/* What the Wan pipeline does to a prompt before its tokenizer sees it: the substitutions of ftfy.fix_text that are no guesses (no repair of mojibake), html.unescape twice, white space collapsed.
 * Order as there: ftfy (terminal escapes, Latin ligatures, full-width forms, curly quotes, line ends, control characters, NFC), then unescape, then strip and collapse. */
#include "prompts/buffer.h"
#include "prompts/entities.h"
#include "prompts/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static ts_status validate(ts_err *err, const char *s)
{
    const char *at = s;
    while (*at) {
        int32_t c;
        size_t n = ts_utf8_next(at, &c);
        if (!n) return ts_fail(err, TS_EUSAGE, "the text is not UTF-8: byte 0x%02x at offset %zu", (unsigned char)*at, (size_t)(at - s));
        at += n;
    }
    return TS_OK;
}

/* ftfy's ligature table */
static const char *ligature(int32_t c)
{
    static const struct { int32_t c; const char *s; } table[] = {
        {0x132, "IJ"}, {0x133, "ij"}, {0x149, "'n"}, {0x1F1, "DZ"}, {0x1F2, "Dz"}, {0x1F3, "dz"}, {0x1C4, "D\xC5\xBD"}, {0x1C5, "D\xC5\xBE"}, {0x1C6, "d\xC5\xBE"},
        {0x1C7, "LJ"}, {0x1C8, "Lj"}, {0x1C9, "lj"}, {0x1CA, "NJ"}, {0x1CB, "Nj"}, {0x1CC, "nj"}, {0xFB00, "ff"}, {0xFB01, "fi"}, {0xFB02, "fl"}, {0xFB03, "ffi"}, {0xFB04, "ffl"},
        {0xFB05, "\xC5\xBFt"}, {0xFB06, "st"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].c == c) return table[i].s;
    return NULL;
}

static bool is_removed_control(int32_t c)
{
    return (c < 0x20 && c != 9 && c != 10 && c != 12 && c != 13) || c == 0x7F || (c >= 0x206A && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

/* Bytes of a terminal colour escape, ESC [ digits and ; ... letter, or 0. */
static size_t escape(const char *s)
{
    if (s[0] != 0x1B || s[1] != '[') return 0;
    size_t n = 2;
    while ((s[n] >= '0' && s[n] <= '9') || s[n] == ';') n++;
    return (s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') ? n + 1 : 0;
}

/* Half- and full-width forms become what they are made of (their NFKC). */
static void put_width(ts_buf *t, int32_t c)
{
    int32_t out[18];
    utf8proc_ssize_t n = utf8proc_decompose_char(c, out, 18, UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE, NULL);
    n = n > 0 ? utf8proc_normalize_utf32(out, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE) : n;
    for (utf8proc_ssize_t i = 0; i < n; i++) ts_buf_char(t, out[i]);
}

static void fix_char(ts_buf *t, int32_t c)
{
    const char *two = ligature(c);
    if (two) ts_buf_put(t, two, strlen(two));
    else if ((c >= 0xFF01 && c <= 0xFFEE) || c == 0x3000) put_width(t, c);
    else if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) ts_buf_char(t, '\'');
    else if (c >= 0x201C && c <= 0x201F) ts_buf_char(t, '"');
    else if (c == 0x2028 || c == 0x2029 || c == 0x85) ts_buf_char(t, '\n');
    else if (!is_removed_control(c)) ts_buf_char(t, c);
}

static void unescape(ts_buf *t, const char *s);

/* ftfy on one text: its own unescape comes first and only where no '<' hints at HTML. */
static void fix(ts_buf *out, const char *s)
{
    ts_buf plain = {0};
    if (!strchr(s, '<')) unescape(&plain, s);
    else ts_buf_put(&plain, s, strlen(s));
    for (const char *at = plain.s ? plain.s : ""; *at;) {
        int32_t c;
        size_t skip = escape(at), n = ts_utf8_next(at, &c);
        if (skip) {
            at += skip;
            continue;
        }
        at += n;
        if (c == '\r') {
            if (*at == '\n') at++;
            c = '\n';
        }
        fix_char(out, c);
    }
    out->failed |= plain.failed;
    free(plain.s);
}

/* Code points 0x80..0x9F of a numeric reference mean Windows-1252, as in browsers and html.unescape. */
static int32_t numeric(unsigned long v)
{
    static const uint16_t cp1252[32] = {0x20AC, 0x81, 0x201A, 0x192, 0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0x8D, 0x17D, 0x8F,
                                        0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0x9D, 0x17E, 0x178};
    if (v == 0) return 0xFFFD;
    if (v == 0x0D) return 0x0D;
    if (v >= 0x80 && v < 0xA0) return cp1252[v - 0x80];
    if ((v >= 0xD800 && v <= 0xDFFF) || v > 0x10FFFF) return 0xFFFD;
    if (v < 9 || (v >= 0xE && v <= 0x1F) || (v >= 0x7F && v < 0xA0) || (v >= 0xFDD0 && v <= 0xFDEF) || v == 0xB || (v & 0xFFFE) == 0xFFFE) return -1; /* no character: dropped */
    return (int32_t)v;
}

static size_t unescape_number(ts_buf *t, const char *s) /* s after "&#" ; bytes used, 0: no reference */
{
    bool hex = s[0] == 'x' || s[0] == 'X';
    const char *digits = s + hex;
    size_t n = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
    if (!n) return 0;
    unsigned long v = n > 10 && strspn(digits, "0") < n - 10 ? 0x110000 : strtoul(digits, NULL, hex ? 16 : 10);
    int32_t c = numeric(v);
    if (c >= 0) ts_buf_char(t, c);
    return (size_t)(digits - s) + n + (digits[n] == ';');
}

static const ts_entity *find_entity(const char *name, size_t n)
{
    int lo = 0, hi = ts_entity_count - 1;
    while (lo <= hi) {
        int mid = (lo + hi) / 2, order = strncmp(name, ts_entities[mid].name, n);
        if (order == 0 && ts_entities[mid].name[n]) order = -1;
        if (order == 0) return ts_entities + mid;
        if (order < 0) hi = mid - 1;
        else lo = mid + 1;
    }
    return NULL;
}

static size_t unescape_name(ts_buf *t, const char *s) /* s after '&' */
{
    size_t n = strcspn(s, "\t\n\f <&#;");
    if (!n || n > 32) n = n > 32 ? 32 : 0;
    if (n && s[n] == ';') n++;
    for (; n > 1; n--) { /* the longest known beginning */
        const ts_entity *e = find_entity(s, n);
        if (!e) continue;
        ts_buf_put(t, e->text, strlen(e->text));
        return n;
    }
    return 0;
}

static void unescape(ts_buf *t, const char *s)
{
    ts_buf_put(t, "", 0);
    while (*s) {
        if (*s == '&') {
            size_t used = s[1] == '#' ? unescape_number(t, s + 2) : unescape_name(t, s + 1);
            if (used) {
                s += used + (s[1] == '#' ? 2 : 1);
                continue;
            }
        }
        ts_buf_put(t, s++, 1);
    }
}

static void collapse(ts_buf *t, const char *s)
{
    bool gap = false;
    ts_buf_put(t, "", 0);
    while (*s) {
        int32_t c;
        size_t n = ts_utf8_next(s, &c);
        if (ts_is_space(c)) gap = t->n > 0;
        else {
            if (gap) ts_buf_put(t, " ", 1);
            ts_buf_put(t, s, n);
            gap = false;
        }
        s += n ? n : 1;
    }
}

ts_status ts_clean_prompt(ts_err *err, const char *s, char **out)
{
    ts_buf fixed = {0}, once = {0}, twice = {0}, done = {0};
    utf8proc_uint8_t *nfc = NULL;
    *out = NULL;
    ts_status st = validate(err, s);
    if (st) return st;
    ts_buf_put(&fixed, "", 0);
    fix(&fixed, s);
    if (fixed.s) nfc = utf8proc_NFC((const utf8proc_uint8_t *)fixed.s);
    unescape(&once, nfc ? (const char *)nfc : "");
    unescape(&twice, once.s ? once.s : "");
    collapse(&done, twice.s ? twice.s : "");
    if (!nfc || fixed.failed || once.failed || twice.failed || done.failed) st = ts_fail(err, TS_EMEMORY, "no memory for a text of %zu bytes", strlen(s));
    else *out = done.s, done.s = NULL;
    free(fixed.s), free(once.s), free(twice.s), free(done.s), free(nfc);
    return st;
}
