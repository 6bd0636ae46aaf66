/* CSV as RFC 4180 has it: fields in quotes may hold separators, line ends and doubled quotes; the
 * first record names the columns. Spreadsheets of some countries write semicolons, others tabs: the
 * header decides. An empty field is one that was not given. */
#include "prompts/rows_parse.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct {
    ts_parse *p;
    const char *s, *end;
    int line; /* of s */
    char separator;
    /* the last one read, quotes undone; room for the whole rest of the file is never needed: it
     * grows */
    char *field;
    size_t n, room;
    bool last; /* it ended its record */
    bool open; /* its quote was never closed */
} reader;

enum { MOST_COLUMNS = 256 };

static void append_field(reader *r, const char *s, size_t n)
{
    if (r->n + n + 1 > r->room) {
        size_t room = 2 * r->room + n + 64;
        char *more = realloc(r->field, room);
        if (!more) {
            if (!r->p->st)
                r->p->st = ts_fail(r->p->err, TS_EMEMORY, "%s: no memory for a field",
                                   r->p->rows->name);
            return;
        }
        r->field = more;
        r->room = room;
    }
    memcpy(r->field + r->n, s, n);
    r->n += n;
}

/* Behind a field: its separator, or the end of the record. */
static void finish_field(reader *r)
{
    r->last = r->s == r->end || *r->s != r->separator;
    if (r->s < r->end && *r->s == r->separator) {
        r->s++;
        return;
    }
    if (r->s == r->end) return;
    size_t all;
    ts_parse_line(r->s, (size_t)(r->end - r->s), &all);
    r->s += all;
    r->line++;
}

static bool at_end(const reader *r)
{
    return r->s == r->end || *r->s == r->separator || *r->s == '\n' || *r->s == '\r';
}

static void next_field(reader *r, ts_prompt *row)
{
    int began = r->line;
    r->n = 0;
    const char *quote = r->s;
    while (quote < r->end && *quote == ' ') quote++;
    bool quoted = quote < r->end && *quote == '"';
    if (quoted) {
        r->s = quote + 1;
        while (r->s < r->end) {
            if (*r->s == '"' && (r->s + 1 == r->end || r->s[1] != '"')) break;
            if (*r->s == '"') r->s++;
            if (*r->s == '\n' || (*r->s == '\r' && (r->s + 1 == r->end || r->s[1] != '\n')))
                r->line++;
            append_field(r, r->s++, 1);
        }
        r->open = r->s == r->end;
        if (r->open)
            ts_parse_fault(r->p, row, began,
                           "a quote is opened and never closed, expected \" at the end of the "
                           "field: nothing behind it can be read");
        else
            r->s++;
        while (r->s < r->end && *r->s == ' ' && !at_end(r)) r->s++;
        if (!at_end(r))
            ts_parse_fault(r->p, row, r->line,
                           "text behind a closing quote, expected a separator: a quote within a "
                           "field is written twice");
    }
    while (!at_end(r)) {
        if (!quoted) append_field(r, r->s, 1);
        r->s++;
    }
    finish_field(r);
}

static char separator_of(const char *s, size_t n)
{
    size_t count[3] = {0};
    static const char which[3] = {',', ';', '\t'};
    bool quoted = false;
    for (size_t i = 0; i < n && (quoted || (s[i] != '\n' && s[i] != '\r')); i++) {
        if (s[i] == '"') quoted = !quoted;
        for (int k = 0; k < 3 && !quoted; k++) count[k] += s[i] == which[k];
    }
    int best = 0;
    for (int k = 1; k < 3; k++)
        if (count[k] > count[best]) best = k;
    return which[best];
}

/* `sep=;`: a first line that tells spreadsheets their separator. Bytes of it; 0: there is none. */
static size_t separator_line(const char *s, size_t n, char *separator)
{
    size_t all, length = ts_parse_line(s, n, &all);
    if (length && *s == '"' && s[length - 1] == '"') {
        s++;
        length -= length > 1 ? 2 : 1;
    }
    if (length != 5 || strncasecmp(s, "sep=", 4) || !strchr(",;\t", s[4])) return 0;
    *separator = s[4];
    return all;
}

bool ts_csv_likely(const char *s, size_t n)
{
    char separator;
    size_t all, skipped = separator_line(s, n, &separator);
    s += skipped;
    n -= skipped;
    size_t length = ts_parse_line(s, n, &all);
    if (!skipped) separator = separator_of(s, n);
    bool found = false;
    for (size_t from = 0; from <= length;) {
        size_t to = from;
        while (to < length && s[to] != separator) to++;
        const char *name = s + from;
        size_t name_n = to - from;
        ts_parse_trim(&name, &name_n);
        if (name_n > 1 && name[0] == '"' && name[name_n - 1] == '"') {
            name++;
            name_n -= 2;
        }
        for (size_t i = 0; i < name_n; i++)
            if (!isalnum((unsigned char)name[i]) && name[i] != '_' && name[i] != '-') return false;
        found = found || (name_n == 6 && !strncasecmp(name, "prompt", 6));
        from = to + 1;
    }
    return found;
}

/* Column names, malloc'd one by one; returns how many; -1: the header can not be used. */
static int read_header(reader *r, char *names[MOST_COLUMNS])
{
    int n = 0;
    bool prompt = false, good = true;
    do {
        next_field(r, NULL);
        if (r->p->st) return n;
        const char *name = r->field ? r->field : "";
        size_t name_n = r->n;
        ts_parse_trim(&name, &name_n);
        if (n == MOST_COLUMNS) {
            ts_parse_fault(r->p, NULL, r->p->rows->header,
                           "more than %d columns, expected prompt and settings", MOST_COLUMNS);
            good = false;
            break;
        }
        if (!ts_parse_text(r->p, NULL, r->p->rows->header, name, name_n)) good = false;
        names[n] = strndup(name, name_n);
        if (!names[n]) {
            r->p->st = ts_fail(r->p->err, TS_EMEMORY, "%s: no memory for a header",
                               r->p->rows->name);
            return n;
        }
        for (char *c = names[n]; *c; c++)
            *c = (char)(*c == '_' && c > names[n] ? '-' : tolower((unsigned char)*c));
        for (int i = 0; i < n; i++)
            if (*names[n] && !strcmp(names[i], names[n])) {
                ts_parse_fault(r->p, NULL, r->p->rows->header,
                               "column %s stands twice in the header, expected once", names[n]);
                good = false;
            }
        prompt = prompt || !strcmp(names[n], "prompt");
        n++;
    } while (!r->last);
    if (!prompt && good && !r->open)
        ts_parse_fault(r->p, NULL, r->p->rows->header,
                       "no column named prompt, expected a header that names the columns");
    if (prompt && good && !r->open) return n;
    for (int i = 0; i < n; i++) free(names[i]);
    return -1;
}

static void read_record(reader *r, char *const *names, int columns)
{
    ts_prompt row = {.line = r->line};
    int n = 0;
    bool any = false;
    do {
        next_field(r, &row);
        if (r->p->st) break;
        const char *value = r->field ? r->field : "";
        size_t value_n = r->n;
        ts_parse_trim(&value, &value_n);
        any = any || value_n; /* spreadsheets write empty rows as separators alone */
        if (n < columns && value_n && ts_parse_text(r->p, &row, row.line, value, value_n)) {
            if (*names[n])
                ts_parse_field(r->p, &row, names[n], strlen(names[n]), value, value_n, false);
            else
                ts_parse_fault(r->p, &row, row.line,
                               "a value in column %d, which the header does not name", n + 1);
        }
        n++;
    } while (!r->last);
    if (n > columns)
        ts_parse_fault(r->p, &row, row.line,
                       "%d fields, expected %d as in the header: a field that holds a separator "
                       "goes in quotes",
                       n, columns);
    if (any || row.faulty) ts_parse_row(r->p, &row);
}

void ts_csv_parse(ts_parse *p, const char *s, size_t n)
{
    reader r = {.p = p, .s = s, .end = s + n, .line = 1};
    size_t skipped = separator_line(s, n, &r.separator);
    r.s += skipped;
    r.line += skipped > 0;
    if (!skipped) r.separator = separator_of(s, n);
    p->rows->header = r.line;
    char *names[MOST_COLUMNS];
    int columns = n > skipped ? read_header(&r, names) : -1;
    while (columns >= 0 && r.s < r.end && !p->st) read_record(&r, names, columns);
    for (int i = 0; i < columns; i++) free(names[i]);
    free(r.field);
}
