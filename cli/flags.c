/* Reads a command line, and keys of prompt files, by the table of flags. */
#include "cli/flags.h"

#include "backend/nearest.h"
#include "cli/flag_value.h"
#include "cli/flags_table.h"

#include <stdarg.h>
#include <string.h>

enum { MAX_NAME = 48 }; /* bytes of a name that is told */

static ts_status refuse_flag(ts_flags *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(p->error, sizeof p->error, format, list);
    va_end(list);
    return TS_EUSAGE;
}

/* The names of the flags of a command behind the first n of `list`, and NULL; returns list. */
static const char **list_flags(unsigned command, const char **list, int n)
{
    int rows;
    const ts_flag *table = ts_flags_table(&rows);
    for (int i = 0; i < rows; i++)
        if (table[i].commands & command) list[n++] = table[i].name;
    list[n] = NULL;
    return list;
}

/* A flag of the command, by the name here or that of other programs; _ is as good as -. */
static const ts_flag *find_flag(unsigned command, const char *name, size_t n)
{
    char spelt[MAX_NAME];
    if (n >= sizeof spelt) return NULL;
    for (size_t i = 0; i < n; i++) spelt[i] = (char)(name[i] == '_' ? '-' : name[i]);
    const ts_flag *f = ts_flag_find(command, spelt, n, 0);
    return f ? f : ts_flag_alias(command, spelt, n);
}

/* `name` without dashes and value. */
static ts_status refuse_unknown_flag(ts_flags *p, unsigned command, const char *dashes,
                                     const char *name)
{
    const char *list[TS_F_COUNT + 1], *near, *habit = ts_flag_habit(name);
    const ts_flag *other = *dashes && dashes[1] ? find_flag(~0u, name, strlen(name)) : NULL;
    if (habit && habit[0] == '-')
        return refuse_flag(p, "unknown flag %s%s: did you mean %s?", dashes, name, habit);
    if (habit) return refuse_flag(p, "unknown flag %s%s: %s", dashes, name, habit);
    near = ts_nearest(name, list_flags(command, list, 0));
    if (other && near)
        return refuse_flag(p, "--%s is not a flag of this command: did you mean --%s?", name, near);
    if (other) return refuse_flag(p, "--%s is not a flag of this command", name);
    if (near) return refuse_flag(p, "unknown flag %s%.64s: did you mean --%s?", dashes, name, near);
    return refuse_flag(p, "unknown flag %s%.64s: --help lists them all", dashes, name);
}

static ts_status refuse_value(ts_flags *p, const ts_flag *f, const char *got)
{
    char want[160], near[64];
    ts_flag_wanted(f, want, sizeof want);
    if (!got) return refuse_flag(p, "--%s needs a value: %s", f->name, want);
    if (ts_flag_nearest(f, got, near, sizeof near))
        return refuse_flag(p, "--%s: got \"%.100s\", wanted %s: did you mean %s?", f->name, got,
                           want, near);
    return refuse_flag(p, "--%s: got \"%.100s\", wanted %s", f->name, got, want);
}

/* A known flag where a value should stand is a forgotten value; `--x=--y` says that it is meant. */
static bool refuse_missing_value(unsigned command, const char *next)
{
    if (!next) return true;
    if (next[0] != '-') return false;
    if (next[1] && next[1] != '-' && !next[2])
        return ts_flag_find(command, next + 1, 1, next[1]) != NULL;
    return next[1] == '-' && next[2] && find_flag(command, next + 2, strcspn(next + 2, "="));
}

/* What a value means beside itself: a prompt is a word, a side is half of a size. */
static void spread_value(ts_flags *p, const ts_flag *f, const ts_flag_value *v)
{
    ts_flag_value *size = p->value + TS_F_SIZE;
    if (f->id == TS_F_PROMPT && p->words++ < TS_WORDS) {
        p->word[p->words - 1] = v->text;
        p->plain[p->words - 1] = true;
    }
    if (f->id != TS_F_WIDTH && f->id != TS_F_HEIGHT) return;
    size->set = true;
    *(f->id == TS_F_WIDTH ? &size->w : &size->h) = (int)v->whole;
}

static ts_status parse_flag(ts_flags *p, unsigned command, const char *arg, const char *next,
                            int *used)
{
    bool letter = arg[1] != '-';
    char name[MAX_NAME + 1];
    const char *body = arg + (letter ? 1 : 2), *value = NULL;
    size_t n = letter ? 1 : strcspn(body, "=");
    const ts_flag *f = letter ? ts_flag_find(command, body, n, *body) : find_flag(command, body, n);
    snprintf(name, sizeof name, "%.*s", letter ? MAX_NAME : (int)(n < MAX_NAME ? n : MAX_NAME),
             body);
    if (!f) return refuse_unknown_flag(p, command, letter ? "-" : "--", name);
    if (body[n]) value = body + n + (body[n] == '=');
    ts_flag_value v = {.set = true};
    if (f->kind == TS_KIND_TEXTS) {
        v = p->value[f->id];
        v.set = true;
    }
    if (f->kind == TS_KIND_SWITCH) {
        if (value) return refuse_flag(p, "--%s takes no value, got \"%.100s\"", f->name, value);
    } else {
        if (!value) {
            if (refuse_missing_value(command, next)) return refuse_value(p, f, NULL);
            value = next;
            *used = 2;
        }
        if (!ts_flag_convert(f, value, &v)) return refuse_value(p, f, value);
    }
    v.text = value;
    p->value[f->id] = v;
    spread_value(p, f, &v);
    return TS_OK;
}

ts_status ts_flags_parse(ts_flags *p, ts_command_bit command, int argc, char *const *argv)
{
    memset(p, 0, sizeof *p);
    bool ended = false;
    for (int i = 0, used; i < argc; i += used) {
        const char *arg = argv[i];
        used = 1;
        if (!ended && !strcmp(arg, "--")) {
            ended = true;
        } else if (!ended && arg[0] == '-' && arg[1]) {
            ts_status st = parse_flag(p, command, arg, i + 1 < argc ? argv[i + 1] : NULL, &used);
            if (st) return st;
        } else {
            if (p->words < TS_WORDS) p->word[p->words] = arg;
            p->words++;
        }
    }
    return TS_OK;
}

static ts_status refuse_unknown_key(ts_flags *p, const char *key)
{
    const char *list[TS_F_COUNT + 6] = {"prompt", "width", "height", "seeds"}, *near;
    const char *habit = ts_flag_habit(key);
    const ts_flag *alias = ts_flag_alias(TS_ROW, key, strlen(key));
    if (alias) return refuse_flag(p, "unknown key %s, expected %s", key, alias->name);
    int n = habit && habit[0] == '-' ? (int)strcspn(habit + 2, " ") : 0;
    if (n && ts_flag_find(TS_ROW, habit + 2, (size_t)n, 0))
        return refuse_flag(p, "unknown key %s, expected %.*s", key, n, habit + 2);
    if (ts_flag_find(TS_CMD_BATCH, key, strlen(key), 0))
        return refuse_flag(p, "%s is no key of a row: --%s holds for all rows of a batch", key,
                           key);
    if (ts_flag_find(TS_CMD_GENERATE, key, strlen(key), 0))
        return refuse_flag(p, "%s is no key of a row: only generate has --%s", key, key);
    near = ts_nearest(key, list_flags(TS_ROW, list, 4));
    if (near) return refuse_flag(p, "unknown key %.64s, expected %s", key, near);
    return refuse_flag(p, "unknown key %.64s, expected prompt, or a flag's name like steps", key);
}

void ts_drop_fraction(const char *value, char *out, size_t size)
{
    size_t n = strspn(value, "0123456789"),
           zeros = n && value[n] == '.' ? strspn(value + n + 1, "0") : 0;
    bool whole = zeros && !value[n + 1 + zeros];
    snprintf(out, size, "%.*s", whole ? (int)n : (int)strlen(value), value);
}

ts_status ts_flags_key(ts_flags *p, const char *key, const char *value)
{
    char want[160], near[64], whole[64];
    const ts_flag *f = ts_flag_find(TS_ROW, key, strlen(key), 0);
    ts_flag_value v = {.set = true, .text = value};
    if (!f) return refuse_unknown_key(p, key);
    ts_flag_wanted(f, want, sizeof want);
    ts_drop_fraction(value, whole, sizeof whole);
    if (!ts_flag_convert(f, f->kind == TS_KIND_WHOLE ? whole : value, &v))
        return ts_flag_nearest(f, value, near, sizeof near)
                   ? refuse_flag(p, "%s: got \"%.100s\", expected %s: did you mean %s?", f->name,
                                 value, want, near)
                   : refuse_flag(p, "%s: got \"%.100s\", expected %s", f->name, value, want);
    p->value[f->id] = v;
    return TS_OK;
}

void ts_flags_reword(const char *sentence, char *out, size_t size)
{
    size_t used = 0;
    while (*sentence && used + 1 < size) {
        const char *name = sentence + 1, *end = *sentence == '`' ? strchr(name, '`') : NULL;
        const ts_flag *f = end ? find_flag(~0u, name, (size_t)(end - name)) : NULL;
        if (f) {
            int n = snprintf(out + used, size - used, "--%s", f->name);
            used += (size_t)n < size - used ? (size_t)n : size - used - 1;
            sentence = end + 1;
        } else {
            out[used++] = *sentence++;
        }
    }
    if (size) out[used] = 0;
}
