/* What the PixArt pipelines do to a caption by default (clean_caption of diffusers'
 * pipeline_pixart_alpha.py, from the captions of web pictures that the text encoders were trained
 * with): the whole list of rules, twice. Percent escapes, lower case and HTML by hand; rules are
 * regular expressions of PCRE2 with Unicode's properties, as Python's `re` has them.
 *
 * Not done: ftfy's repair of mojibake (see clean.c). */
#include "prompts/clean.h"
#include "prompts/text.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <assert.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* ---- percent escapes ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes of the character that begins s, at most n; 0: none does, and *bad bytes of it are to be
 * replaced by one U+FFFD (the longest part that could have begun one). */
static size_t measure_char(const uint8_t *s, size_t n, size_t *bad)
{
    size_t want = s[0] < 0x80                    ? 1
                  : s[0] >= 0xC2 && s[0] <= 0xDF ? 2
                  : s[0] >= 0xE0 && s[0] <= 0xEF ? 3
                  : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4
                                                 : 0;
    uint8_t low = s[0] == 0xE0   ? 0xA0
                  : s[0] == 0xF0 ? 0x90
                                 : 0x80,
            high = s[0] == 0xED   ? 0x9F
                   : s[0] == 0xF4 ? 0x8F
                                  : 0xBF;
    *bad = 1;
    for (size_t i = 1; i < want; i++, low = 0x80, high = 0xBF) {
        if (i >= n || s[i] < low || s[i] > high) return 0;
        *bad = i + 1;
    }
    return want;
}

static void put_bytes(ts_buf *out, const uint8_t *s, size_t n)
{
    for (size_t bad, i = 0, k; i < n; i += k) {
        k = measure_char(s + i, n - i, &bad);
        /* no string here can hold a NUL; it would go with the other control characters */
        if (k && s[i])
            ts_buf_put(out, (const char *)s + i, k);
        else if (!k) {
            ts_buf_char(out, 0xFFFD);
            k = bad;
        }
    }
}

/* '+' becomes a blank, %XX its byte. Runs of ASCII are decoded by themselves, as
 * urllib.parse.unquote does. */
static void unquote_url(ts_buf *out, const char *s)
{
    ts_buf run = {0};
    ts_buf_put(out, "", 0);
    while (*s) {
        run.n = 0;
        for (; *s && !((uint8_t)*s & 0x80); s++) {
            int a = *s == '%' ? hex_digit(s[1]) : -1, b = a >= 0 ? hex_digit(s[2]) : -1;
            char c = *s == '+' ? ' ' : *s;
            if (b >= 0) {
                c = (char)(16 * a + b);
                s += 2;
            }
            ts_buf_put(&run, &c, 1);
        }
        if (run.n) put_bytes(out, (const uint8_t *)run.s, run.n);
        size_t n = 0;
        while ((uint8_t)s[n] & 0x80) n++;
        ts_buf_put(out, s, n);
        s += n;
    }
    out->failed |= run.failed;
    free(run.s);
}

/* ---- blanks at the ends, lower case ---- */

static void put_stripped(ts_buf *out, const char *s)
{
    int32_t c;
    size_t end = 0;
    for (size_t n; n = ts_utf8_next(s, &c), *s && ts_is_space(c);) s += n;
    for (size_t at = 0, n; s[at]; at += n) {
        n = ts_utf8_next(s + at, &c);
        if (!ts_is_space(c)) end = at + n;
    }
    ts_buf_put(out, s, end);
}

static bool is_cased(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
           c == 0xAA || c == 0xBA;
}

/* Unicode's Case_Ignorable: what may stand inside of a word and says nothing of its case. */
static bool is_ignorable(int32_t c)
{
    static const int32_t marks[] = {'\'',   '.',    ':',    0xB7,   0x387,  0x55F,
                                    0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                    0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    utf8proc_category_t k = utf8proc_category(c);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (marks[i] == c) return true;
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK;
}

/* The first character that says something is a letter with a case. */
static bool goes_on(const char *s)
{
    int32_t c;
    for (size_t n; *s; s += n) {
        n = ts_utf8_next(s, &c);
        if (!is_ignorable(c)) return is_cased(c);
    }
    return false;
}

/* Python's str.lower: a sigma that ends a word has a form of its own, and one capital becomes two
 * characters. */
static void put_lower(ts_buf *out, const char *s)
{
    int32_t c;
    bool word = false; /* the last character that says something has a case */
    ts_buf_put(out, "", 0);
    for (size_t n; *s; s += n) {
        n = ts_utf8_next(s, &c);
        if (c == 0x130)
            ts_buf_put(out, "i\xCC\x87", 3);
        else if (c == 0x3A3 && word && !goes_on(s + n))
            ts_buf_char(out, 0x3C2);
        else
            ts_buf_char(out, utf8proc_tolower(c));
        if (!is_ignorable(c)) word = is_cased(c);
    }
}

/* ---- rules ---- */
typedef struct {
    const char *find, *put;
} rule;

#define HOST "[a-zA-Z0-9.-]+\\.(?:com|co|ru|net|org|edu|gov|it)[\\w/-]*\\b/?(?!@)"
#define SCHEME_END "(?:/{1,3}|[a-zA-Z0-9%])"
#define PICTURES "(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)"

static const rule addresses[] = {
    {"<person>", "person"},
    {"\\b(?:https?:" SCHEME_END "|" HOST ")", ""},
    {"\\b(?:www:" SCHEME_END "|" HOST ")", ""},
};
static const rule marks[] = {
    {"@\\w+\\b", ""},
};
/* strokes, phonetic extensions, enclosed and compatibility forms, ideographs, hexagrams */
static const rule without_han[] = {{"[\\x{31C0}-\\x{9FFF}]+", ""}};
static const rule with_han[] = {{"[\\x{31C0}-\\x{4DFF}]+", ""}};
static const rule signs[] = {
    {"[\\x2D\\x{58A}\\x{5BE}\\x{1400}\\x{1806}\\x{2010}-\\x{2015}\\x{2E17}\\x{2E1A}\\x{2E3A}\\x{"
     "2E3B}\\x{2E40}\\x{301C}\\x{3030}\\x{30A0}\\x{FE31}\\x{FE32}\\x{FE58}\\x{FE63}\\x{FF0D}]+",
     "-"},
    {"[`\\x{B4}\\x{AB}\\x{BB}\\x{201C}\\x{201D}\\x{A8}]", "\""},
    {"[\\x{2018}\\x{2019}]", "'"},
    {"&quot;?", ""},
    {"&amp", ""},
    {"\\d{1,3}(?:\\.\\d{1,3}){3}", " "},
    {"\\d:\\d\\d\\s+$", ""},
    {"\\\\n", " "},
    {"#\\d{1,3}\\b", ""},
    {"#\\d{5,}\\b", ""},
    {"\\b\\d{6,}\\b", ""},
    {"\\S+\\." PICTURES, ""},
    {"[\"']{2,}", "\""},
    {"\\.{2,}", " "},
    {"[#\\x{AE}\\x{2022}\\x{A9}\\x{2122}&@\\x{B7}\\x{BA}\\x{BD}\\x{BE}\\x{BF}\\x{A1}\\x{A7}~)(\\][}"
     "{|\\\\/*]+",
     " "},
    {"\\s+\\.\\s+", " "},
};
/* where there are more than three of them: this-is-my-cute-cat */
static const rule joined[] = {{"[-_]", " "}};
static const rule codes[] = {
    {"\\b[a-zA-Z]{1,3}\\d{3,15}\\b", ""},
    {"\\b[a-zA-Z]+\\d+[a-zA-Z]+\\b", ""},
    {"\\b\\d+[a-zA-Z]+\\d+\\b", ""},
    {"(?:worldwide\\s+)?(?:free\\s+)?shipping", ""},
    {"(?:free\\s)?download(?:\\sfree)?", ""},
    {"\\bclick\\b\\s(?:for|on)\\s\\w+", ""},
    {"\\b" PICTURES "(?:\\simages?)?", ""},
    {"\\bpage\\s+\\d+\\b", ""},
    {"\\b\\d*[a-zA-Z]+\\d+[a-zA-Z]+\\d+[a-zA-Z\\d]*\\b", " "},
    {"\\b\\d+\\.?\\d*[x\\x{445}\\x{D7}]\\d+\\.?\\d*\\b", ""},
    {"\\b\\s+:\\s+", ": "},
    {"(\\D[,./])\\b", "$1 "},
    {"\\s+", " "},
    {"^[\"']([\\w\\W]+)[\"']$", "$1"},
    {"^['_,\\-:;]", ""},
    {"['_,\\-:+]$", ""},
    {"^\\.\\S+$", ""},
};

/* t <- its text after every rule. */
static ts_status apply_caption_rules(ts_err *err, ts_buf *t, const rule *r, size_t rules)
{
    ts_status st = TS_OK;
    pcre2_code *code = NULL;
    char *to = NULL;
    for (; rules--; r++) {
        int fault;
        PCRE2_SIZE at, size = 2 * t->n + 64; /* the longest replacement adds one character to two */
        const char *text = ts_buf_text(t);
        code = pcre2_compile((PCRE2_SPTR)r->find, PCRE2_ZERO_TERMINATED,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &fault, &at, NULL);
        to = malloc(size);
        if (!code || !to) TRY(ts_fail(err, TS_EMEMORY, "no memory for a text of %zu bytes", t->n));
        int n = pcre2_substitute(
            code, (PCRE2_SPTR)text, t->n, 0, PCRE2_SUBSTITUTE_GLOBAL | PCRE2_NO_UTF_CHECK, NULL,
            NULL, (PCRE2_SPTR)r->put, PCRE2_ZERO_TERMINATED, (PCRE2_UCHAR *)to, &size);
        assert(n != PCRE2_ERROR_NOMEMORY);
        if (n < 0)
            TRY(ts_fail(err, TS_EUSAGE,
                        "the text has parts that are too long to be cleaned (%zu bytes in all)",
                        t->n));
        t->n = 0;
        ts_buf_put(t, to, size);
        pcre2_code_free(code);
        free(to);
        code = NULL;
        to = NULL;
    }
done:
    pcre2_code_free(code);
    free(to);
    return st;
}
#define APPLY(text, list) apply_caption_rules(err, text, list, sizeof(list) / sizeof *(list))

/* t <- what `make` makes of it; `make` appends to an empty buffer. */
static void rewrite_text(ts_buf *t, void (*make)(ts_buf *, const char *))
{
    ts_buf made = {0};
    make(&made, ts_buf_text(t));
    made.failed |= t->failed;
    free(t->s);
    *t = made;
}

static int count_joins(const char *s)
{
    int n = 0;
    for (; *s; s++) n += *s == '-' || *s == '_';
    return n;
}

static ts_status clean_caption_once(ts_err *err, ts_buf *t, bool han)
{
    ts_status st = TS_OK;
    rewrite_text(t, unquote_url);
    rewrite_text(t, put_stripped);
    rewrite_text(t, put_lower);
    TRY(APPLY(t, addresses));
    rewrite_text(t, ts_html_text);
    TRY(APPLY(t, marks));
    TRY(han ? APPLY(t, with_han) : APPLY(t, without_han));
    TRY(APPLY(t, signs));
    if (count_joins(ts_buf_text(t)) > 3) TRY(APPLY(t, joined));
    rewrite_text(t, ts_fix_text);
    rewrite_text(t, ts_html_unescape);
    rewrite_text(t, ts_html_unescape);
    TRY(APPLY(t, codes));
    rewrite_text(t, put_stripped);
done:
    return st;
}

static ts_status clean_caption(ts_err *err, const char *text, bool han, char **out)
{
    ts_buf t = {0};
    ts_status st = ts_utf8_check(err, text);
    *out = NULL;
    if (st) return st;
    ts_buf_put(&t, text, strlen(text));
    for (int i = 0; i < 2; i++) TRY(clean_caption_once(err, &t, han));
    if (t.failed || !t.s)
        TRY(ts_fail(err, TS_EMEMORY, "no memory for a text of %zu bytes", strlen(text)));
    *out = t.s;
    t.s = NULL;
done:
    free(t.s);
    return st;
}

ts_status ts_clean_caption(ts_err *err, const char *text, char **out)
{
    return clean_caption(err, text, false, out);
}

ts_status ts_clean_caption_with_han(ts_err *err, const char *text, char **out)
{
    return clean_caption(err, text, true, out);
}
