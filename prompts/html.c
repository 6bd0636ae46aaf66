/* The text of HTML as Python's html.parser cuts it up and BeautifulSoup's `.text` puts it together:
 * for prompts, which hold a tag now and then, and more often a '<' or '&' that is none.
 *
 * A tag is '<' and a letter, up to '>' outside of quoted values; '</' and a letter up to '>';
 * '<!--' up to '-->'; '<!' and '<?' up to '>'. What the end of the text cuts off stays text, up to
 * the next '>' or '<'. References: &name; of HTML 4 and 5, an unknown one keeps its name and loses
 * its semicolon; &#n;. */
#include "prompts/clean.h"
#include "prompts/entities.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f'); }
static bool is_blank(char c) { return c == ' ' || (c >= 9 && c <= 13); }

/* Behind the '>' of a start tag that s begins; NULL: the text ends before. */
static const char *end_of_start(const char *s)
{
    for (s++; *s && !is_blank(*s) && *s != '/' && *s != '>';) s++;
    while (*s && *s != '>') {
        if (*s == '=') { /* a value: quoted, or up to a blank */
            for (s++; is_blank(*s);) s++;
            if (*s == '"' || *s == '\'') {
                const char *close = strchr(s + 1, *s);
                if (!close) return NULL;
                s = close + 1;
            } else {
                while (*s && *s != '>' && !is_blank(*s)) s++;
            }
        } else {
            s++;
        }
    }
    return *s ? s + 1 : NULL;
}

/* Behind what begins with '<' here; NULL: it is no markup, or the text ends before it does. */
static const char *end_of_markup(const char *s)
{
    const char *end;
    if (is_letter(s[1])) return end_of_start(s);
    if (!strncmp(s, "<!--", 4)) return (end = strstr(s + 4, "-->")) ? end + 3 : NULL;
    if (s[1] == '/' || s[1] == '!' || s[1] == '?')
        return (end = strchr(s + 2, '>')) ? end + 1 : NULL;
    return NULL;
}

/* Elements whose text is not the document's. */
static const char *find_hidden_element(const char *tag)
{
    static const char *const names[] = {"script", "style", "template", "rt", "rp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if (!strncasecmp(tag, names[i], n) && (is_blank(tag[n]) || tag[n] == '/' || tag[n] == '>'))
            return names[i];
    }
    return NULL;
}

/* Behind the end tag of `name`, or the end of the text. */
static const char *skip_element(const char *s, const char *name)
{
    size_t n = strlen(name);
    for (; *s; s++)
        if (s[0] == '<' && s[1] == '/' && !strncasecmp(s + 2, name, n) && !is_letter(s[2 + n])) {
            const char *end = strchr(s, '>');
            return end ? end + 1 : s + strlen(s);
        }
    return s;
}

/* ---- references ---- */

/* Decodes the n bytes of a reference as html.unescape does; false: it means nothing. */
static bool put_known(ts_buf *out, const char *s, size_t n)
{
    char text[64];
    ts_buf one = {0};
    if (n + 2 > sizeof text) return false;
    memcpy(text, s, n);
    text[n] = ';';
    text[n + 1] = 0;
    ts_html_unescape(&one, text);
    /* an unknown one keeps its semicolon; a control character is nothing */
    bool known = !(one.n > 1 && one.s[one.n - 1] == ';');
    if (known) ts_buf_put(out, ts_buf_text(&one), one.n);
    out->failed |= one.failed;
    free(one.s);
    return known;
}

/* s at '&'. Returns what was read, 0: it is an ampersand like any other. The parser wants to see a
 * character behind a reference that can not belong to it. */
static size_t put_text_reference(ts_buf *out, const char *s)
{
    size_t n = 1;
    if (s[1] == '#') {
        bool hex = s[2] == 'x' || s[2] == 'X';
        n = 2 + hex + strspn(s + 2 + hex, hex ? "0123456789abcdefABCDEF" : "0123456789");
        if (n == 2u + hex || !s[n] || is_hex(s[n])) return 0;
    } else {
        if (!is_letter(s[1])) return 0;
        while (is_letter(s[n]) || is_digit(s[n]) || s[n] == '-' || s[n] == '.') n++;
        if (!s[n])
            while (n && s[n] != '-' && s[n] != '.') n--; /* the last of these then ends it */
        if (!n) return 0;
    }
    if (!put_known(out, s, n)) ts_buf_put(out, s, n);
    return n + (s[n] == ';');
}

/* s at a '<' that begins no markup. Returns what was taken of it. */
static size_t put_cut(ts_buf *out, const char *s, bool *late)
{
    const char *end = s + 1;
    if (is_letter(s[1]) || s[1] == '/' || s[1] == '!' || s[1] == '?') {
        const char *close = strchr(s + 1, '>'), *open = strchr(s + 1, '<');
        *late = true;
        if (close)
            end = close + 1;
        else if (open)
            end = open;
    }
    ts_buf_put(out, s, (size_t)(end - s));
    return (size_t)(end - s);
}

/* s at a "&#" without a number. The parser passes over one of these where a semicolon follows
 * anywhere, and over none once it has seen something that the end of the text cuts off (late): what
 * follows is then text as it stands. Returns what was taken. */
static size_t put_broken(ts_buf *out, const char *s, bool *late)
{
    size_t n = *late || !strchr(s, ';') ? strlen(s) : 2;
    *late = true;
    ts_buf_put(out, s, n);
    return n;
}

void ts_html_text(ts_buf *out, const char *s)
{
    bool late = false;
    ts_buf_put(out, "", 0);
    while (*s) {
        size_t n = strcspn(s, "<&");
        ts_buf_put(out, s, n);
        s += n;
        if (*s == '<') {
            const char *end = end_of_markup(s),
                       *name = end && is_letter(s[1]) ? find_hidden_element(s + 1) : NULL;
            if (end)
                s = name && end[-2] != '/' ? skip_element(end, name) : end;
            else
                s += put_cut(out, s, &late);
        } else if (*s == '&') {
            n = put_text_reference(out, s);
            if (!n && s[1] == '#' && s[2])
                s += put_broken(out, s, &late);
            else if (!n && s[1] && !s[2] && (is_letter(s[1]) || s[1] == '#'))
                s++; /* the parser loses an ampersand that stands before one last letter */
            else if (!n)
                ts_buf_put(out, s++, 1);
            else
                s += n;
        }
    }
}
