/* Owns the reading of prompt files: lines, bytes that are no text, the list of faults, and the two
 * kinds that are read a line at a time: text with inline options, JSONL. CSV is rows_csv.c's.
 *
 * Text: PROMPT --key value --key value. An option begins at white space, two dashes and a letter;
 * its value goes on to the next one. The one-letter names are those that other programs for clips
 * use. Word processors make one long dash of two and no-break spaces of spaces: both are read as
 * what was typed. */
#include "prompts/rows_parse.h"

#include "backend/number.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <utf8proc.h>

#define EXACT 9007199254740992.0 /* 2^53: a double holds every whole number up to it */
enum { READ_AT_ONCE = 1 << 16, MOST_BYTES = 1 << 30 };

/* ---- faults ---- */
static ts_status refuse_rows_memory(ts_err *err, const ts_prompts *r)
{
    return ts_fail(err, TS_EMEMORY, "%s: no memory for its rows", r->name);
}

static ts_status add_fault(ts_err *err, ts_prompts *r, int line, const char *format, va_list list)
{
    char *text = NULL;
    ts_fault *more = NULL;
    if (vasprintf(&text, format, list) < 0) return refuse_rows_memory(err, r);
    if (!(r->faults & (r->faults - 1))) { /* room for the next power of two */
        more = realloc(r->fault, sizeof *more * (r->faults ? 2 * (size_t)r->faults : 1));
        if (!more) return free(text), refuse_rows_memory(err, r);
        r->fault = more;
    }
    int at = r->faults++;
    for (; at > 0 && r->fault[at - 1].line > line; at--) r->fault[at] = r->fault[at - 1];
    r->fault[at] = (ts_fault){line, text};
    return TS_OK;
}

ts_status ts_prompts_fault(ts_err *err, ts_prompts *r, ts_prompt *row, int line, const char *format,
                           ...)
{
    va_list list;
    va_start(list, format);
    ts_status st = add_fault(err, r, line, format, list);
    va_end(list);
    if (row) row->faulty = 1;
    return st;
}

void ts_parse_fault(ts_parse *p, ts_prompt *row, int line, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    if (!p->st) p->st = add_fault(p->err, p->rows, line, format, list);
    va_end(list);
    if (row) row->faulty = 1;
}

/* ---- rows ---- */
/* Bytes of the blank that begins at s: white space, and what looks like it or like nothing in an
 * editor (no-break, narrow, ideographic, zero width); 0: there is none. */
static size_t blank_at(const char *s, size_t n)
{
    static const char *const wide[] = {"\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x8B",
                                       "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE2\x81\xA0",
                                       "\xE3\x80\x80", "\xEF\xBB\xBF"};
    if (n && (*s == ' ' || *s == '\t' || *s == '\r' || *s == '\n')) return 1;
    if (n > 2 && !memcmp(s, "\xE2\x80", 2) && (uint8_t)s[2] >= 0x80 && (uint8_t)s[2] <= 0x8A)
        return 3;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t m = strlen(wide[i]);
        if (n >= m && !memcmp(s, wide[i], m)) return m;
    }
    return 0;
}

static size_t blank_before(const char *s, size_t i)
{
    for (size_t m = 1; m <= 3 && m <= i; m++)
        if (blank_at(s + i - m, m) == m) return m;
    return 0;
}

void ts_parse_trim(const char **s, size_t *n)
{
    for (size_t m; (m = blank_at(*s, *n)); *n -= m) *s += m;
    for (size_t m; (m = blank_before(*s, *n)); *n -= m) {}
}

size_t ts_parse_line(const char *s, size_t n, size_t *all)
{
    size_t length = 0, end;
    while (length < n && s[length] != '\r' && s[length] != '\n') length++;
    for (end = length; end < n && s[end] == '\r';) end++;
    *all = end < n && s[end] == '\n' ? end + 1 : length < n ? length + 1 : n;
    return length;
}

bool ts_parse_text(ts_parse *p, ts_prompt *row, int line, const char *s, size_t n)
{
    int32_t c;
    for (size_t i = 0; i < n;) {
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s + i,
                                              (utf8proc_ssize_t)(n - i), &c);
        if (k > 0 && c) {
            i += (size_t)k;
            continue;
        }
        ts_parse_fault(p, row, line, "byte 0x%02x at column %zu, expected UTF-8 text",
                       (uint8_t)s[i], i + 1);
        return false;
    }
    return true;
}

static char *copy_field(ts_parse *p, const char *s, size_t n)
{
    char *text = strndup(s, n);
    if (!text && !p->st) p->st = refuse_rows_memory(p->err, p->rows);
    return text;
}

void ts_parse_field(ts_parse *p, ts_prompt *row, const char *key, size_t key_n, const char *value,
                    size_t value_n, bool number)
{
    char *name = copy_field(p, key, key_n), *text = copy_field(p, value, value_n);
    ts_setting *more = NULL;
    if (p->st) goto done;
    /* a leading one says that the key is the user's own */
    for (char *c = name; *c; c++) *c = *c == '_' && c > name ? '-' : *c;
    bool prompt = !strcmp(name, "prompt"), twice = prompt && row->prompt;
    for (int i = 0; i < row->fields; i++) twice |= !strcmp(row->field[i].key, name);
    if (twice) {
        ts_parse_fault(p, row, row->line, "%s is given twice, expected once", name);
    } else if (prompt) {
        if (number)
            ts_parse_fault(p, row, row->line, "prompt: got the number %s, expected a text", text);
        row->prompt = text;
        text = NULL;
    } else if (name[0] != '_') {
        more = realloc(row->field, sizeof *more * (size_t)(row->fields + 1));
        if (!more) {
            p->st = refuse_rows_memory(p->err, p->rows);
            goto done;
        }
        row->field = more;
        row->field[row->fields++] = (ts_setting){name, text, number};
        name = text = NULL;
    }
done:
    free(name);
    free(text);
}

static void free_row(ts_prompt *row)
{
    for (int i = 0; i < row->fields; i++) {
        free((char *)row->field[i].key);
        free((char *)row->field[i].value);
    }
    free(row->field);
    free((char *)row->prompt);
    *row = (ts_prompt){0};
}

void ts_parse_row(ts_parse *p, ts_prompt *row)
{
    ts_prompts *r = p->rows;
    const char *s = row->prompt ? row->prompt : "";
    size_t n = strlen(s);
    ts_parse_trim(&s, &n);
    if (!n && !row->faulty)
        ts_parse_fault(p, row, row->line,
                       row->prompt ? "the prompt is empty, expected a text"
                                   : "no prompt, expected a text");
    row->index = r->rows + 1;
    if (!p->st && !(r->rows & (r->rows - 1))) {
        ts_prompt *more = realloc(r->row, sizeof *more * (r->rows ? 2 * (size_t)r->rows : 1));
        if (!more)
            p->st = refuse_rows_memory(p->err, r);
        else
            r->row = more;
    }
    if (p->st)
        free_row(row);
    else
        r->row[r->rows++] = *row;
}

/* ---- text ---- */
static const struct {
    const char *brief, *name;
} brief_names[] = {{"w", "width"},    {"h", "height"},   {"f", "frames"},
                   {"d", "seed"},     {"s", "steps"},    {"g", "guidance"},
                   {"l", "guidance"}, {"n", "negative"}, {"fs", "shift"}};

/* Bytes of the dash at s; *wide: it is one that stands for two. */
static size_t dash_at(const char *s, size_t n, bool *wide)
{
    static const struct {
        const char *dash;
        bool wide;
    } dashes[] = {{"-", false},
                  {"\xE2\x80\x90", false},
                  {"\xE2\x80\x91", false},
                  {"\xE2\x80\x92", true},
                  {"\xE2\x80\x93", true},
                  {"\xE2\x80\x94", true},
                  {"\xE2\x80\x95", true},
                  {"\xE2\x88\x92", false},
                  {"\xEF\xB9\x98", true},
                  {"\xEF\xB9\xA3", false},
                  {"\xEF\xBC\x8D", false}};
    for (size_t i = 0; i < sizeof dashes / sizeof *dashes; i++) {
        size_t m = strlen(dashes[i].dash);
        if (n < m || memcmp(s, dashes[i].dash, m)) continue;
        *wide = dashes[i].wide;
        return m;
    }
    return 0;
}

static size_t key_length(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && !blank_at(s + i, n - i) && s[i] != '=') i++;
    return i;
}

/* A long dash may begin a word of a prompt, too: it is an option's where a known name follows. */
static bool is_known_key(const char *s, size_t n)
{
    static const char *const names[] = {
        "attention",  "count",    "crf",       "format", "fps",        "frames",   "guidance",
        "guidance-2", "height",   "image",     "init",   "last-image", "lora",     "lora-high",
        "lora-low",   "negative", "timesteps", "output", "sampler",    "scale",    "seed",
        "seeds",      "shift",    "size",      "steps",  "strength",   "vae-tile", "width"};
    for (size_t i = 0; i < sizeof brief_names / sizeof *brief_names; i++)
        if (n == strlen(brief_names[i].brief) && !memcmp(s, brief_names[i].brief, n)) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (n == strlen(names[i]) && !memcmp(s, names[i], n)) return true;
    return false;
}

/* Bytes of the dashes of an option that begins at i; 0: none does. */
static size_t option_mark(const char *s, size_t n, size_t i)
{
    bool wide = false, second = false;
    if (i && !blank_before(s, i)) return 0;
    size_t a = dash_at(s + i, n - i, &wide), b = a ? dash_at(s + i + a, n - i - a, &second) : 0;
    const char *key = s + i + a + b;
    size_t left = n - i - a - b;
    if (!a || (!b && !wide) || !left || !isalpha((unsigned char)*key)) return 0;
    return b || is_known_key(key, key_length(key, left)) ? a + b : 0;
}

static size_t next_option(const char *s, size_t n, size_t from)
{
    while (from < n && !option_mark(s, n, from)) from++;
    return from;
}

/* `"a value" --w`: the quote that ends a quoted value; n: there is none. */
static size_t closing_quote(const char *s, size_t n, size_t open)
{
    for (size_t i = open + 1; i < n; i++)
        if (s[i] == '"' && (i + 1 == n || blank_at(s + i + 1, n - i - 1))) return i;
    return n;
}

static void read_row_options(ts_parse *p, ts_prompt *row, const char *s, size_t n, size_t i)
{
    while (i < n && !p->st) {
        i += option_mark(s, n, i);
        const char *key = s + i;
        size_t key_n = key_length(key, n - i);
        i += key_n;
        if (i < n && s[i] == '=') i++;
        for (size_t m; (m = blank_at(s + i, n - i));) i += m;
        size_t end = i < n && s[i] == '"' ? closing_quote(s, n, i) : n,
               next = next_option(s, n, end < n ? end : i);
        const char *value = s + i;
        size_t value_n = next - i;
        ts_parse_trim(&value, &value_n);
        if (end < n && value + value_n == s + end + 1) {
            value++;
            value_n -= 2;
        }
        for (size_t k = 0; k < sizeof brief_names / sizeof *brief_names; k++)
            if (key_n == strlen(brief_names[k].brief) &&
                !strncmp(key, brief_names[k].brief, key_n)) {
                key = brief_names[k].name;
                key_n = strlen(key);
                break;
            }
        ts_parse_field(p, row, key, key_n, value, value_n, false);
        i = next;
    }
}

static void text_line(ts_parse *p, const char *s, size_t n, int line)
{
    ts_prompt row = {.line = line};
    if (ts_parse_text(p, &row, line, s, n)) {
        size_t at = next_option(s, n, 0), prompt_n = at;
        const char *prompt = s;
        ts_parse_trim(&prompt, &prompt_n);
        ts_parse_field(p, &row, "prompt", 6, prompt, prompt_n, false);
        read_row_options(p, &row, s, n, at);
    }
    ts_parse_row(p, &row);
}

/* ---- JSONL ---- */
static const char *kind_of(const cJSON *v)
{
    return cJSON_IsObject(v)   ? "an object"
           : cJSON_IsArray(v)  ? "a list"
           : cJSON_IsString(v) ? "a text"
           : cJSON_IsNumber(v) ? "a number"
           : cJSON_IsTrue(v)   ? "true"
           : cJSON_IsFalse(v)  ? "false"
                               : "null";
}

/* A value as text, in `out`; false: it has no such form, and the fault is told. */
static bool value_text(ts_parse *p, ts_prompt *row, const cJSON *v, const char *key, char *out,
                       size_t size)
{
    if (cJSON_IsString(v)) return snprintf(out, size, "%s", v->valuestring), true;
    double x = v->valuedouble;
    if (x == floor(x) && fabs(x) > EXACT) {
        ts_parse_fault(p, row, row->line,
                       "%.64s: %.17g is more than JSON numbers hold exactly, expected it in quotes",
                       key, x);
        return false;
    }
    char text[TS_NUMBER_TEXT];
    snprintf(out, size, "%s", ts_number_text(x, text));
    return true;
}

/* Several numbers or texts, as text between commas. */
static void json_list(ts_parse *p, ts_prompt *row, const cJSON *v)
{
    const char *key = v->string;
    char number[64], *list = NULL;
    size_t n = 0;
    bool numbers = true;
    const cJSON *item;
    cJSON_ArrayForEach(item, v)
    {
        const char *one = cJSON_IsString(item) ? item->valuestring : number;
        bool plain = cJSON_IsNumber(item) || cJSON_IsString(item);
        if (!plain)
            ts_parse_fault(p, row, row->line, "%.64s: %s in a list, expected numbers or texts", key,
                           kind_of(item));
        if (!plain || (one == number && !value_text(p, row, item, key, number, sizeof number)))
            break;
        char *more = realloc(list, n + strlen(one) + 2);
        if (!more) {
            p->st = refuse_rows_memory(p->err, p->rows);
            break;
        }
        list = more;
        numbers = numbers && cJSON_IsNumber(item);
        n += (size_t)sprintf(list + n, "%s%s", n ? "," : "", one);
    }
    ts_parse_field(p, row, key, strlen(key), list ? list : "", n, numbers);
    free(list);
}

/* Only seeds and LoRAs are lists, and no key takes true or false. */
static void json_field(ts_parse *p, ts_prompt *row, const cJSON *v)
{
    const char *key = v->string;
    bool prompt = !strcmp(key, "prompt"),
         several = !strcmp(key, "seed") || !strcmp(key, "seeds") || !strncmp(key, "lora", 4);
    char one[64];
    if (cJSON_IsNull(v) || key[0] == '_') return;
    if (cJSON_IsString(v)) {
        const char *value = v->valuestring;
        size_t n = strlen(value);
        if (!prompt && strcmp(key, "negative")) ts_parse_trim(&value, &n);
        ts_parse_field(p, row, key, strlen(key), value, n, false);
    } else if (cJSON_IsArray(v) && several) {
        json_list(p, row, v);
    } else if (cJSON_IsNumber(v)) {
        if (value_text(p, row, v, key, one, sizeof one))
            ts_parse_field(p, row, key, strlen(key), one, strlen(one), true);
    } else {
        ts_parse_fault(p, row, row->line, "%.64s: got %s, expected %s", key, kind_of(v),
                       prompt ? "a text" : "a text or a number");
        /* told: that there is none is not told as well */
        if (prompt && !row->prompt) ts_parse_field(p, row, key, strlen(key), "", 0, false);
    }
}

/* An escaped NUL would silently end a text. */
static bool has_escaped_nul(const char *s, size_t n)
{
    for (size_t i = 0; i + 5 < n; i++) {
        if (s[i] != '\\') continue;
        if (!memcmp(s + i + 1, "u0000", 5)) return true;
        i++;
    }
    return false;
}

static void json_row(ts_parse *p, const char *s, size_t n, int line)
{
    ts_prompt row = {.line = line};
    const char *end = NULL;
    cJSON *j = NULL;
    if (!ts_parse_text(p, &row, line, s, n)) goto done;
    if (has_escaped_nul(s, n)) {
        ts_parse_fault(p, &row, line, "\\u0000 in a text, expected characters");
        goto done;
    }
    j = cJSON_ParseWithLengthOpts(s, n, &end, 0);
    if (!j) {
        ts_parse_fault(p, &row, line, "broken JSON at column %td, expected one object on the line",
                       end ? end - s + 1 : 1);
        goto done;
    }
    const char *rest = end;
    size_t rest_n = n - (size_t)(end - s);
    ts_parse_trim(&rest, &rest_n);
    if (!cJSON_IsObject(j))
        ts_parse_fault(p, &row, line, "got %s, expected an object like {\"prompt\": \"a panda\"}%s",
                       kind_of(j), cJSON_IsArray(j) ? " on each line" : "");
    else if (rest_n)
        ts_parse_fault(p, &row, line,
                       "more text at column %td behind the object, expected the end of the line",
                       rest - s + 1);
    const cJSON *v;
    if (cJSON_IsObject(j)) cJSON_ArrayForEach(v, j) json_field(p, &row, v);
done:
    cJSON_Delete(j);
    ts_parse_row(p, &row);
}

/* ---- the file ---- */
/* A line that begins with #, or, behind blanks, with # and a blank: an indented "#1 fan" is a
 * prompt. inside: the line, trimmed. */
static bool is_comment(const char *line, const char *inside, size_t n)
{
    return n && *inside == '#' && (inside == line || n == 1 || blank_at(inside + 1, n - 1));
}

static void visit_lines(ts_parse *p, const char *s, size_t n,
                        void (*each)(ts_parse *, const char *, size_t, int))
{
    size_t all;
    for (int line = 1; n && !p->st; line++) {
        size_t length = ts_parse_line(s, n, &all), inside_n = length;
        const char *inside = s;
        ts_parse_trim(&inside, &inside_n);
        if (inside_n && !is_comment(s, inside, inside_n)) each(p, s, length, line);
        s += all;
        n -= all;
    }
}

/* The first line that is neither empty nor a comment, trimmed; false: there is none. s, n: what is
 * behind it. */
static bool first_line(const char **s, size_t *n, int *line, const char **text, size_t *length)
{
    size_t all;
    for (; *n; (*line)++) {
        const char *begin = *text = *s;
        *length = ts_parse_line(*s, *n, &all);
        *s += all;
        *n -= all;
        ts_parse_trim(text, length);
        if (*length && !is_comment(begin, *text, *length)) return true;
    }
    return false;
}

/* Behind the value that begins at s, in JSON that is known to be sound. */
static const char *value_end(const char *s, const char *end)
{
    int depth = 0;
    bool quoted = false;
    for (; s < end; s++) {
        if (quoted && *s == '\\')
            s++;
        else if (*s == '"')
            quoted = !quoted;
        else if (!quoted && (*s == '{' || *s == '['))
            depth++;
        else if (!quoted && !depth && (*s == ',' || *s == ']'))
            break;
        else if (!quoted && (*s == '}' || *s == ']'))
            depth--;
    }
    return s;
}

static bool ends_line(const char *s, size_t n) { return s[n - 1] == '\n' || s[n - 1] == '\r'; }

/* Elements of a sound array: rows, each with the line where it begins. */
static void array_rows(ts_parse *p, const char *s, const char *end, int line)
{
    for (s++; s < end && *s != ']' && !p->st;) {
        const char *from = s, *to = value_end(s, end);
        size_t n = (size_t)(to - s), all;
        ts_parse_trim(&from, &n);
        for (; s < from; s += all) {
            ts_parse_line(s, (size_t)(from - s), &all);
            line += ends_line(s, all);
        }
        json_row(p, from, n, line);
        for (; s < to; s += all) {
            ts_parse_line(s, (size_t)(to - s), &all);
            line += ends_line(s, all);
        }
        s = to + (to < end && *to == ',');
    }
}

/* A value is begun that does not end on its line. */
static bool is_unclosed(const char *s, size_t n)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted && s[i] == '\\')
            i++;
        else if (s[i] == '"')
            quoted = !quoted;
        else if (!quoted)
            depth += (s[i] == '{' || s[i] == '[') - (s[i] == '}' || s[i] == ']');
    }
    return depth > 0 && !quoted;
}

/* JSON that is not a line a row: an array of objects is read; objects over several lines are named
 * as such, once, and no rows are made of their parts. */
static void json_file(ts_parse *p, const char *s, size_t n)
{
    const char *rest = s, *end = NULL, *first = NULL, *second = NULL;
    size_t rest_n = n, first_n = 0, second_n = 0;
    int line = 1, next;
    cJSON *whole = NULL, *alone = NULL;
    if (!first_line(&rest, &rest_n, &line, &first, &first_n)) return;
    next = line + 1;
    bool more = first_line(&rest, &rest_n, &next, &second, &second_n);
    size_t all_n = n - (size_t)(first - s);
    if (*first == '[' || *first == '{') alone = cJSON_ParseWithLengthOpts(first, first_n, NULL, 0);
    if (*first == '[') whole = cJSON_ParseWithLengthOpts(first, all_n, &end, 0);
    const char *behind = end;
    size_t behind_n = whole && end ? all_n - (size_t)(end - first) : 0;
    ts_parse_trim(&behind, &behind_n);
    if (whole && !behind_n) {
        array_rows(p, first, end, line);
    } else if (*first == '[' && !alone) {
        int at = line;
        size_t all;
        for (const char *c = first; end && c < end; c += all) {
            size_t length = ts_parse_line(c, (size_t)(end - c), &all);
            at += all > length;
        }
        ts_parse_fault(p, NULL, at,
                       "broken JSON, expected an array of objects like {\"prompt\": \"a panda\"} "
                       "or one object on each line: jq -c '.[]' makes lines of an array");
    } else if (*first == '{' && is_unclosed(first, first_n) && more &&
               (*second == '"' || *second == '}' || strchr("[:", first[first_n - 1]))) {
        ts_parse_fault(p, NULL, line,
                       "an object over several lines, expected one object on each line: jq -c . "
                       "makes lines of them, jq -c '.[]' of an array");
    } else {
        visit_lines(p, s, n, json_row);
    }
    cJSON_Delete(whole);
    cJSON_Delete(alone);
}

ts_prompts_kind ts_prompts_kind_of(const char *name)
{
    static const struct {
        const char *end;
        ts_prompts_kind kind;
    } ends[] = {{".txt", TS_PROMPTS_TEXT},     {".jsonl", TS_PROMPTS_JSONL},
                {".ndjson", TS_PROMPTS_JSONL}, {".json", TS_PROMPTS_JSONL},
                {".csv", TS_PROMPTS_CSV},      {".tsv", TS_PROMPTS_CSV}};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i].end) && !strcasecmp(name + n - strlen(ends[i].end), ends[i].end))
            return ends[i].kind;
    return TS_PROMPTS_GUESS;
}

static ts_prompts_kind guess_kind(const char *s, size_t n)
{
    const char *inside = s;
    size_t inside_n = n;
    ts_parse_trim(&inside, &inside_n);
    if (inside_n && *inside == '{') return TS_PROMPTS_JSONL;
    if (inside_n && *inside == '[') { /* text may begin with one, too */
        inside++;
        inside_n--;
        ts_parse_trim(&inside, &inside_n);
        if (inside_n && *inside == '{') return TS_PROMPTS_JSONL;
    }
    return ts_csv_likely(s, n) ? TS_PROMPTS_CSV : TS_PROMPTS_TEXT;
}

ts_status ts_prompts_parse(ts_err *err, const char *name, ts_prompts_kind kind, const char *s,
                           size_t n, ts_prompts **out)
{
    ts_parse p = {.err = err, .rows = calloc(1, sizeof *p.rows)};
    *out = NULL;
    if (p.rows) p.rows->name = strdup(name);
    if (!p.rows || !p.rows->name) {
        ts_prompts_free(p.rows);
        return ts_fail(err, TS_EMEMORY, "%s: no memory for its rows", name);
    }
    const uint8_t *b = (const uint8_t *)s;
    if (n >= 2 && ((b[0] == 0xFF && b[1] == 0xFE) || (b[0] == 0xFE && b[1] == 0xFF))) {
        ts_parse_fault(&p, NULL, 1,
                       "the file is UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8 converts it");
        n = 0;
    }
    if (n >= 3 && b[0] == 0xEF && b[1] == 0xBB && b[2] == 0xBF) {
        s += 3;
        n -= 3;
    }
    if (kind == TS_PROMPTS_GUESS) kind = guess_kind(s, n);
    if (kind == TS_PROMPTS_CSV)
        ts_csv_parse(&p, s, n);
    else if (kind == TS_PROMPTS_JSONL)
        json_file(&p, s, n);
    else
        visit_lines(&p, s, n, text_line);
    if (!p.st && !p.rows->rows && !p.rows->faults)
        ts_parse_fault(&p, NULL, 0, "no prompt in the file, expected one a row");
    if (p.st)
        ts_prompts_free(p.rows);
    else
        *out = p.rows;
    return p.st;
}

ts_status ts_prompts_read(ts_err *err, const char *path, ts_prompts **out)
{
    ts_status st = TS_OK;
    bool standard = !strcmp(path, "-");
    const char *name = standard ? "stdin" : path;
    FILE *f = standard ? stdin : fopen(path, "rbe");
    char *text = NULL;
    size_t n = 0, got;
    *out = NULL;
    if (!f) return ts_fail(err, TS_EMODEL, "%s: %s", path, strerror(errno));
    do {
        char *more = realloc(text, n + READ_AT_ONCE);
        if (!more)
            TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for %zu bytes", name, n + READ_AT_ONCE));
        text = more;
        n += got = fread(text + n, 1, READ_AT_ONCE, f);
        if (n > MOST_BYTES)
            TRY(ts_fail(err, TS_EMODEL, "%s: more than 1 GB, expected a file of prompts", name));
    } while (got);
    if (ferror(f)) TRY(ts_fail(err, TS_EMODEL, "%s: %s", name, strerror(errno)));
    TRY(ts_prompts_parse(err, name, standard ? TS_PROMPTS_GUESS : ts_prompts_kind_of(path), text, n,
                         out));
done:
    if (!standard) fclose(f);
    free(text);
    return st;
}

void ts_prompts_free(ts_prompts *r)
{
    if (!r) return;
    for (int i = 0; i < r->rows; i++) free_row(r->row + i);
    for (int i = 0; i < r->faults; i++) free(r->fault[i].text);
    free(r->row);
    free(r->fault);
    free(r->name);
    free(r);
}
