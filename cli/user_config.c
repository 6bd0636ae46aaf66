/* The file of the user's defaults: its lines, and which of them hold for a command line. */
#include "cli/user_config.h"

#include "backend/nearest.h"
#include "cli/commands.h"
#include "cli/flags_table.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20 };
/* in the order in which they go before each other */
typedef enum { OF_ALL, OF_COMMAND, OF_MODEL, OF_PRESET } section_kind;
static const char *const kind_words[] = {"", "", "model ", "preset "};

typedef struct {
    section_kind kind;
    char *name; /* of the command, model or preset; borrowed from the text; NULL: of all */
    const ts_flag *flag;
    char *word; /* --flag=value, or --flag of a switch; NULL: a switch that is off */
    int line;
} setting;

struct ts_user_config {
    char *path, *text;
    setting *all;
    int n;
    char **preset; /* their names; borrowed from the text */
    int presets;
    char **words; /* the last command line */
};

char *ts_user_config_path(void)
{
    static const struct {
        const char *variable, *rest;
    } places[] = {{"XDG_CONFIG_HOME", "tessera/config"}, {"HOME", ".config/tessera/config"}};
    const char *file = getenv("TESSERA_CONFIG");
    char *path = NULL;
    if (file) return *file ? strdup(file) : NULL;
    for (int i = 0; i < 2; i++) {
        const char *folder = getenv(places[i].variable);
        if (!folder || !*folder) continue;
        return asprintf(&path, "%s/%s", folder, places[i].rest) < 0 ? NULL : path;
    }
    return NULL;
}

static char *trim(char *s)
{
    static const char blanks[] = " \t\r";
    s += strspn(s, blanks);
    size_t n = strlen(s);
    while (n && strchr(blanks, s[n - 1])) s[--n] = 0;
    return s;
}

static ts_status refuse_line(ts_err *err, const ts_user_config *c, int line, const char *what)
{
    return ts_fail(err, TS_EUSAGE, "%s:%d: %s", c->path, line, what);
}

/* ---- sections ---- */
static ts_status read_section(ts_user_config *c, ts_err *err, char *s, int line, setting *at)
{
    size_t n = strlen(s);
    char text[300];
    if (s[n - 1] != ']') return refuse_line(err, c, line, "a section ends with ]");
    s[n - 1] = 0;
    s = trim(s + 1);
    *at = (setting){.kind = OF_COMMAND, .name = s};
    for (int k = OF_MODEL; k <= OF_PRESET; k++) {
        size_t w = strlen(kind_words[k]);
        if (strncmp(s, kind_words[k], w)) continue;
        at->kind = (section_kind)k;
        at->name = trim(s + w);
        if (*at->name && k == OF_PRESET) c->preset[c->presets++] = at->name;
        if (*at->name) return TS_OK;
    }
    if (at->kind == OF_COMMAND && ts_command_find(s)) return TS_OK;
    snprintf(text, sizeof text,
             "[%.100s] is no section: wanted a command, \"model NAME\" or \"preset NAME\"", s);
    return refuse_line(err, c, line, text);
}

/* ---- settings ---- */
/* What belongs to one run, and what says where all this is. */
static bool is_for_the_line_alone(ts_flag_id id)
{
    static const ts_flag_id some[] = {
        TS_F_PROMPT,  TS_F_OUTPUT, TS_F_OVERWRITE, TS_F_INIT,      TS_F_FROM,
        TS_F_NOISE,   TS_F_STATE,  TS_F_DRY_RUN,   TS_F_HELP,      TS_F_NO_CONFIG,
        TS_F_PRESET,  TS_F_STATUS, TS_F_QUEUE,     TS_F_SHARD,     TS_F_OUT,
        TS_F_HTML,    TS_F_REPORT, TS_F_JSON,      TS_F_JSON_FILE, TS_F_SAVE_LATENTS,
        TS_F_PREVIEW, TS_F_IMAGE,  TS_F_LAST_IMAGE};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        if (some[i] == id) return true;
    return false;
}

static bool is_word_of(const char *s, const char *const words[4])
{
    for (int i = 0; i < 4; i++)
        if (!strcasecmp(s, words[i])) return true;
    return false;
}

/* The word of a command line that says the same, looked at as one is. */
static ts_status take_value(ts_user_config *c, ts_err *err, setting *s, unsigned command,
                            const char *value)
{
    static const char *const yes[4] = {"yes", "true", "on", "1"}, *const no[4] = {"no", "false",
                                                                                  "off", "0"};
    bool is_switch = s->flag && s->flag->kind == TS_KIND_SWITCH;
    char text[600];
    ts_flags *f = malloc(sizeof *f);
    ts_status st = TS_OK;
    if (!f) return ts_fail(err, TS_EMEMORY, "no memory for %s", c->path);
    if (is_switch && is_word_of(value, no)) goto done;
    if (is_switch && !is_word_of(value, yes)) {
        snprintf(text, sizeof text, "%s: got \"%.100s\", wanted yes or no", s->flag->name, value);
        st = refuse_line(err, c, s->line, text);
        goto done;
    }
    if (asprintf(&s->word, is_switch ? "--%s" : "--%s=%s", s->flag->name, value) < 0) {
        s->word = NULL;
        st = ts_fail(err, TS_EMEMORY, "no memory for %s", c->path);
        goto done;
    }
    st = ts_flags_parse(f, (ts_command_bit)command, 1, (char *const *)&s->word);
    if (st) st = refuse_line(err, c, s->line, f->error);
done:
    free(f);
    return st;
}

static ts_status read_setting(ts_user_config *c, ts_err *err, char *line, setting *s)
{
    enum { ALL = ~(unsigned)TS_ROW };
    const ts_command *of = s->kind == OF_COMMAND ? ts_command_find(s->name) : NULL;
    unsigned commands = of ? (unsigned)of->bit : (unsigned)ALL;
    char *equals = strchr(line, '='), *value = equals ? trim(equals + 1) : "yes", text[600];
    if (equals) *equals = 0;
    char *name = trim(line);
    if (!strncmp(name, "--", 2)) name += 2;
    for (char *p = name; *p; p++)
        if (*p == '_') *p = '-';
    s->flag = ts_flag_find(commands, name, strlen(name), 0);
    if (!s->flag) s->flag = ts_flag_alias(commands, name, strlen(name));
    if (!s->flag) { /* in the words of a command line that has it */
        char *word = NULL;
        ts_flags f;
        if (asprintf(&word, "--%s", name) < 0) return ts_fail(err, TS_EMEMORY, "no memory");
        ts_flags_parse(&f, of ? of->bit : TS_CMD_GENERATE, 1, &word);
        free(word);
        return refuse_line(err, c, s->line, f.error);
    }
    if (is_for_the_line_alone(s->flag->id)) {
        snprintf(text, sizeof text, "--%s belongs to one run: it goes on the command line",
                 s->flag->name);
        return refuse_line(err, c, s->line, text);
    }
    if (!equals && s->flag->kind != TS_KIND_SWITCH) {
        snprintf(text, sizeof text, "%s has no value: wanted %s = ...", name, name);
        return refuse_line(err, c, s->line, text);
    }
    unsigned both = commands & s->flag->commands;
    return take_value(c, err, s, both & -both, value);
}

static ts_status read_lines(ts_user_config *c, ts_err *err)
{
    int lines = 1, number = 0;
    ts_status st;
    setting at = {0};
    for (const char *p = c->text; *p; p++) lines += *p == '\n';
    c->all = calloc((size_t)lines, sizeof *c->all);
    c->preset = calloc((size_t)lines, sizeof *c->preset);
    if (!c->all || !c->preset) return ts_fail(err, TS_EMEMORY, "no memory for %s", c->path);
    for (char *p = c->text, *next; p; p = next) {
        next = strchr(p, '\n');
        if (next) *next++ = 0;
        number++;
        char *line = trim(p);
        if (!*line || *line == '#' || *line == ';') continue;
        if (*line == '[') {
            TRY(read_section(c, err, line, number, &at));
            continue;
        }
        at.line = number;
        at.word = NULL;
        st = read_setting(c, err, line, &at);
        c->all[c->n++] = at;
        TRY(st);
    }
    return TS_OK;
done:
    return st;
}

static ts_status read_text(ts_user_config *c, ts_err *err, FILE *f)
{
    size_t n;
    c->text = malloc(MOST_BYTES + 2);
    if (!c->text) return ts_fail(err, TS_EMEMORY, "no memory for %s", c->path);
    errno = 0;
    n = fread(c->text, 1, MOST_BYTES + 1, f);
    if (ferror(f)) return ts_fail(err, TS_EIO, "%s can not be read: %s", c->path, strerror(errno));
    if (n > MOST_BYTES) return ts_fail(err, TS_EUSAGE, "%s has more than 1 MB", c->path);
    c->text[n] = 0;
    if (strlen(c->text) != n) return ts_fail(err, TS_EUSAGE, "%s is not a text", c->path);
    return TS_OK;
}

ts_status ts_user_config_open(ts_err *err, ts_user_config **out)
{
    ts_status st = TS_OK;
    char *path = ts_user_config_path();
    FILE *f = path ? fopen(path, "r") : NULL;
    *out = NULL;
    if (!f && path && errno != ENOENT && errno != ENOTDIR)
        st = ts_fail(err, TS_EIO, "%s can not be read: %s", path, strerror(errno));
    if (!f) {
        free(path);
        return st;
    }
    ts_user_config *c = calloc(1, sizeof *c);
    if (!c) {
        free(path);
        st = ts_fail(err, TS_EMEMORY, "no memory for a configuration");
    } else {
        c->path = path;
        st = read_text(c, err, f);
        if (!st) st = read_lines(c, err);
    }
    fclose(f);
    if (st)
        ts_user_config_close(c);
    else
        *out = c;
    return st;
}

void ts_user_config_close(ts_user_config *c)
{
    if (!c) return;
    for (int i = 0; i < c->n; i++) free(c->all[i].word);
    free(c->all);
    free(c->preset);
    free(c->words);
    free(c->text);
    free(c->path);
    free(c);
}

/* ---- a command line ---- */
/* `name` of a section is the model's as it was given, or its last folder's. */
static bool is_model(const char *name, const char *model)
{
    size_t n = strlen(model), w = strlen(name);
    while (n && model[n - 1] == '/') n--;
    if (w == n && !strncmp(name, model, n)) return true;
    return n > w && model[n - w - 1] == '/' && !strncmp(model + n - w, name, w);
}

typedef struct {
    const char *command, *model, *preset;
    ts_command_bit bit;
} asked;

static bool holds(const setting *s, const asked *a)
{
    if (!(s->flag->commands & a->bit)) return false;
    if (s->kind == OF_ALL) return true;
    if (s->kind == OF_COMMAND) return !strcmp(s->name, a->command);
    if (s->kind == OF_MODEL) return is_model(s->name, a->model);
    return a->preset && !strcmp(s->name, a->preset);
}

/* Whether b, said later, leaves nothing of a: a size has both halves in it. */
static bool covers(ts_flag_id b, ts_flag_id a)
{
    return a == b || (b == TS_F_SIZE && (a == TS_F_WIDTH || a == TS_F_HEIGHT));
}

static bool is_on_line(const ts_flags *line, ts_flag_id id)
{
    bool size = ts_flag_text(line, TS_F_SIZE) != NULL; /* halves count as set, but are no text */
    /* a name that was given says the kind by itself */
    if (id == TS_F_OUTPUT_FORMAT && ts_flag_set(line, TS_F_OUTPUT)) return true;
    return (size && covers(TS_F_SIZE, id)) || (id != TS_F_SIZE && ts_flag_set(line, id));
}

/* Another setting of a section that goes before that of `s`, or later in its own, says otherwise;
 * what may be given several times adds up within a section. */
static bool is_replaced(const ts_user_config *c, const setting *s, const asked *a)
{
    for (int i = 0; i < c->n; i++) {
        const setting *o = c->all + i;
        if (o == s || !covers(o->flag->id, s->flag->id) || !holds(o, a)) continue;
        if (o->kind > s->kind) return true;
        if (o->kind == s->kind && o > s && s->flag->kind != TS_KIND_TEXTS) return true;
    }
    return false;
}

static const char *model_of(const ts_user_config *c, const asked *a, const ts_flags *line)
{
    const char *model = ts_flag_text(line, TS_F_MODEL), *of = NULL;
    const char *variable = getenv("TESSERA_MODEL");
    section_kind kind = OF_ALL;
    if (model) return model;
    for (int i = 0; i < c->n; i++) {
        const setting *s = c->all + i;
        if (s->flag->id != TS_F_MODEL || s->kind == OF_MODEL || s->kind < kind || !holds(s, a))
            continue;
        kind = s->kind;
        of = strchr(s->word, '=') + 1;
    }
    if (of && kind == OF_PRESET) return of;
    if (variable && *variable) return variable;
    return of ? of : "default";
}

static ts_status refuse_preset(const ts_user_config *c, ts_err *err, const char *name)
{
    char *path = c ? NULL : ts_user_config_path();
    const char *file = c ? c->path : path, *near = NULL;
    const char **names = calloc((size_t)(c ? c->presets : 0) + 1, sizeof *names);
    for (int i = 0; names && c && i < c->presets; i++) names[i] = c->preset[i];
    if (names) near = ts_nearest(name, names);
    ts_status st = ts_fail(err, TS_EUSAGE, "--preset %.60s: %s%s has no [preset %.60s]%s%s%s", name,
                           c || !file ? "" : "there is no ", file ? file : "the configuration",
                           name, near ? ": did you mean " : "", near ? near : "", near ? "?" : "");
    if (!c && file)
        st = ts_fail(err, TS_EUSAGE, "--preset %.60s: there is no %s to have it", name, file);
    free(names);
    free(path);
    return st;
}

ts_status ts_user_config_words(ts_user_config *c, ts_err *err, const char *command,
                               ts_command_bit bit, const ts_flags *line, int argc,
                               char *const *argv, int *n, char *const **words)
{
    asked a = {.command = command, .bit = bit, .preset = ts_flag_text(line, TS_F_PRESET)};
    const char *variable = getenv("TESSERA_MODEL");
    bool known = !a.preset;
    *n = argc;
    *words = argv;
    for (int i = 0; c && a.preset && i < c->presets; i++)
        known = known || !strcmp(c->preset[i], a.preset);
    if (!known) return refuse_preset(c, err, a.preset);
    if (!c) return TS_OK;
    a.model = "";
    a.model = model_of(c, &a, line);
    free(c->words);
    c->words = calloc((size_t)(c->n + argc) + 1, sizeof *c->words);
    if (!c->words) return ts_fail(err, TS_EMEMORY, "no memory for a command line");
    *n = 0;
    for (int k = OF_ALL; k <= OF_PRESET; k++) {
        for (int i = 0; i < c->n; i++) {
            const setting *s = c->all + i;
            if ((int)s->kind != k || !s->word || !holds(s, &a) || is_on_line(line, s->flag->id) ||
                is_replaced(c, s, &a))
                continue;
            /* a file knows what it was made by; the environment is nearer than a file at home */
            bool model = s->flag->id == TS_F_MODEL && k != OF_PRESET;
            if (model &&
                ((variable && *variable) || ts_flag_set(line, TS_F_FROM) || bit == TS_CMD_DECODE))
                continue;
            c->words[(*n)++] = s->word;
        }
    }
    for (int i = 0; i < argc; i++) c->words[(*n)++] = argv[i];
    *words = c->words;
    return TS_OK;
}

void ts_user_config_print(const ts_user_config *c, FILE *out)
{
    const char *name = "";
    int kind = OF_ALL;
    fprintf(out, "%s\n", c->path);
    for (int i = 0; i < c->n; i++) {
        const setting *s = c->all + i;
        const char *value = s->word ? strchr(s->word, '=') : NULL;
        if ((int)s->kind != kind || strcmp(s->name ? s->name : "", name)) {
            kind = s->kind;
            name = s->name ? s->name : "";
            fprintf(out, "       [%s%s]\n", kind_words[kind], name);
        }
        fprintf(out, "%5d  %s = %s\n", s->line, s->flag->name,
                value     ? value + 1
                : s->word ? "yes"
                          : "no");
    }
}
