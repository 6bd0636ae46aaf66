/* One value of a flag: from text, and in words what was wanted. */
#include "cli/flag_value.h"

#include "backend/nearest.h"
#include "backend/number.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

static bool read_whole_value(const char *s, double min, double max, long *out)
{
    uint64_t n;
    bool negative = *s == '-';
    if (!ts_whole_read(s + negative, LONG_MAX, &n)) return false;
    *out = negative ? -(long)n : (long)n;
    return (double)*out >= min && (double)*out <= max;
}

static bool read_real(const char *s, double min, double max, double *out)
{
    return ts_number_read(s, out) && *out >= min && *out <= max;
}

bool ts_parse_size(const char *s, int min, int max, int *w, int *h)
{
    uint64_t a, b;
    const char *end;
    if (!ts_whole_prefix(s, &a, &end) || (*end != 'x' && *end != 'X')) return false;
    if (!ts_whole_read(end + 1, (uint64_t)max, &b)) return false;
    if (a < (uint64_t)min || a > (uint64_t)max || b < (uint64_t)min) return false;
    *w = (int)a;
    *h = (int)b;
    return true;
}

int ts_parse_list(const char *s, bool integers, double min, double max, double out[TS_LIST])
{
    int n = 0;
    for (char one[32]; n < TS_LIST; s++) {
        long i;
        size_t length = strcspn(s, ",");
        snprintf(one, sizeof one, "%.*s", length < sizeof one ? (int)length : 0, s);
        if (integers ? !read_whole_value(one, min, max, &i) : !read_real(one, min, max, out + n))
            return 0;
        if (integers) out[n] = (double)i;
        n++;
        s += length;
        if (!*s) return n;
    }
    return 0;
}

static bool read_bytes(const char *s, double min, double max, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *end;
    double x;
    if (!isdigit((unsigned char)*s) || !ts_number_prefix(s, &x, &end)) return false;
    const char *u = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (u) {
        for (const char *p = units; p <= u; p++) x *= 1024;
        end++;
        if (*end == 'i') end++;
    }
    if (*end == 'B' || *end == 'b') end++;
    if (*end || x < min || x > max) return false;
    *out = (uint64_t)x;
    return true;
}

static bool read_seed_value(const char *s, ts_flag_value *v)
{
    v->random = !strcmp(s, "random") || !strcmp(s, "-1");
    return v->random || ts_whole_read(s, UINT64_MAX, &v->wide);
}

static bool is_choice(const char *choices, const char *s)
{
    size_t n = strlen(s);
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (n && !strchr(s, '|') && !strncmp(p, s, n) && (p[n] == '|' || !p[n])) return true;
    return false;
}

bool ts_flag_convert(const ts_flag *f, const char *s, ts_flag_value *v)
{
    switch (f->kind) {
    case TS_KIND_SWITCH: return true;
    case TS_KIND_TEXT: return *s || f->id == TS_F_NEGATIVE || f->id == TS_F_PROMPT;
    case TS_KIND_TEXTS:
        if (!*s || v->n == TS_TIMES_GIVEN) return false;
        v->all[v->n++] = s;
        return true;
    case TS_KIND_WHOLE: return read_whole_value(s, f->min, f->max, &v->whole);
    case TS_KIND_REAL: return read_real(s, f->min, f->max, &v->real);
    case TS_KIND_CHOICE: return is_choice(f->choices, s);
    case TS_KIND_SIZE: return ts_parse_size(s, (int)f->min, (int)f->max, &v->w, &v->h);
    case TS_KIND_TILE:
        return is_choice(f->choices, s) || ts_parse_size(s, (int)f->min, (int)f->max, &v->w, &v->h);
    case TS_KIND_BYTES: return read_bytes(s, f->min, f->max, &v->wide);
    case TS_KIND_WHOLES: return ts_parse_list(s, true, f->min, f->max, (double[TS_LIST]){0}) > 0;
    case TS_KIND_REALS: return ts_parse_list(s, false, f->min, f->max, (double[TS_LIST]){0}) > 0;
    case TS_KIND_SEED: return read_seed_value(s, v);
    }
    return false;
}

/* What other programs call a value, where the letters alone do not tell. */
static const struct {
    ts_flag_id flag;
    const char *theirs, *ours;
} words[] = {
    {TS_F_PRECISION, "float32", "f32"},
    {TS_F_PRECISION, "float", "f32"},
    {TS_F_PRECISION, "float16", "bf16"},
    {TS_F_PRECISION, "half", "bf16"},
    {TS_F_PRECISION, "fp16", "bf16"},
    {TS_F_PRECISION, "bfloat16", "bf16"},
    {TS_F_SAMPLER, "flow-match-euler", "euler"},
    {TS_F_SAMPLER, "dpm-solver", "dpmpp-2m"},
    {TS_F_SAMPLER, "dpm", "dpmpp-2m"},
    {TS_F_FORMAT, "video", "mp4"},
    {TS_F_FORMAT, "image", "png"},
};

bool ts_flag_nearest(const ts_flag *f, const char *text, char *out, size_t size)
{
    enum { MOST = 16 };
    const char *list[MOST + 1];
    char copy[128], *rest = copy;
    int n = 0;
    if (f->kind != TS_KIND_TILE && f->kind != TS_KIND_CHOICE) return false;
    snprintf(copy, sizeof copy, "%s", f->choices);
    while (n < MOST && (list[n] = strsep(&rest, "|"))) n++;
    list[n] = NULL;
    const char *near = ts_nearest(text, list);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].flag == f->id && ts_same_word(text, words[i].theirs)) near = words[i].ours;
    if (near) snprintf(out, size, "%s", near);
    return near != NULL;
}

/* "unipc|euler" -> "unipc or euler" */
static void list_choices(const char *choices, char *out, size_t size)
{
    size_t n = 0;
    const char *last = strrchr(choices, '|');
    for (const char *p = choices; *p && n + 8 < size; p++) {
        const char *between = *p != '|' ? NULL : p == last ? " or " : ", ";
        if (between)
            n += (size_t)snprintf(out + n, size - n, "%s", between);
        else
            out[n++] = *p;
    }
    out[n] = 0;
}

/* What help calls a text, in a word. */
static const char *name_text_kind(const char *value)
{
    static const struct {
        const char *value, *word;
    } kinds[] = {{"TEXT", "text"},
                 {"POLICY", "policy"},
                 {"KEY=A:B:STEP", "range like keep=0.1:0.5:0.1"},
                 {"DIR", "folder"},
                 {"METHOD", "method"},
                 {"TEMPLATE", "template like {slug}-{seed}"},
                 {"NAME", "name"},
                 {"I/N", "share like 1/4"},
                 {"URL", "URL"},
                 {"CMD", "command"},
                 {"KIND", "kind of device"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].value, value)) return kinds[i].word;
    return "file name";
}

void ts_flag_wanted(const ts_flag *f, char *out, size_t size)
{
    switch (f->kind) {
    case TS_KIND_SWITCH: snprintf(out, size, "no value"); break;
    case TS_KIND_TEXT:
        snprintf(out, size, "a %s",
                 f->id == TS_F_MODEL ? "folder or name" : name_text_kind(f->value));
        break;
    case TS_KIND_WHOLE:
        snprintf(out, size, "a whole number from %.0f to %.0f", f->min, f->max);
        break;
    case TS_KIND_REAL: snprintf(out, size, "a number from %g to %g", f->min, f->max); break;
    case TS_KIND_CHOICE: list_choices(f->choices, out, size); break;
    case TS_KIND_SIZE:
        snprintf(out, size, "WxH with %.0f to %.0f pixels a side, for instance 832x480", f->min,
                 f->max);
        break;
    case TS_KIND_TILE:
        snprintf(out, size, "auto, off or WxH with %.0f to %.0f pixels a side", f->min, f->max);
        break;
    case TS_KIND_BYTES:
        snprintf(out, size, "a size with its unit, %.0fM to %.0fT, for instance 8G",
                 f->min / 1024 / 1024, f->max / 1024 / 1024 / 1024 / 1024);
        break;
    case TS_KIND_TEXTS:
        snprintf(out, size, "%s, at most %d times", f->value, TS_TIMES_GIVEN);
        break;
    case TS_KIND_WHOLES:
        snprintf(out, size,
                 "whole numbers from %.0f to %.0f with commas between, at most %d of them", f->min,
                 f->max, TS_LIST);
        break;
    case TS_KIND_REALS:
        snprintf(out, size, "numbers from %g to %g with commas between, at most %d of them", f->min,
                 f->max, TS_LIST);
        break;
    case TS_KIND_SEED:
        snprintf(out, size, "a whole number from 0 to 18446744073709551615, or random");
        break;
    }
}
