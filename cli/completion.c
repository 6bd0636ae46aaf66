/* Scripts by which bash, zsh and fish complete command lines: commands, the flags of each, values
 * that have names, files by their extensions. Everything but the extensions is in the tables of
 * commands and flags. */
#include "cli/commands.h"

#include <string.h>

#define SHELLS "bash|zsh|fish"
#define PICTURES "png|jpg|jpeg|webp|tif|tiff|gif|bmp|tga|PNG|JPG|JPEG"
#define ANY "" /* files of every extension */

/* Extensions of the files that a flag reads or writes; other FILEs are of any kind. */
static const struct {
    ts_flag_id flag;
    const char *extensions;
} flag_files[] = {{TS_F_OUTPUT, "mp4|webm|gif|mkv|y4m|png|jpg|webp"},
                  {TS_F_INIT, PICTURES},
                  {TS_F_IMAGE, PICTURES},
                  {TS_F_LAST_IMAGE, PICTURES},
                  {TS_F_NOISE, "safetensors"},
                  {TS_F_SAVE_LATENTS, "safetensors"},
                  {TS_F_SAVE_PLAN, "safetensors"},
                  {TS_F_REPORT, "html"},
                  {TS_F_HTML, "html"},
                  {TS_F_JSON_FILE, "json"},
                  {TS_F_TILE_OUTPUT, "json"}};

/* What a shell can say of a value, or of a command's words; all NULL: nothing. */
typedef struct {
    const char *words;      /* "unipc|euler" */
    const char *extensions; /* "mp4|gif"; ANY; NULL: no files */
    bool folders;
} offer;

static offer offer_of_flag(const ts_flag *f)
{
    offer o = {.words = f->choices};
    if (!f->value) return o;
    o.folders = !strcmp(f->value, "DIR");
    if (strcmp(f->value, "FILE") != 0) return o;
    o.extensions = ANY;
    for (size_t i = 0; i < sizeof flag_files / sizeof *flag_files; i++)
        if (flag_files[i].flag == f->id) o.extensions = flag_files[i].extensions;
    return o;
}

static offer offer_of_words(const ts_command *c)
{
    switch (c->bit) {
    case TS_CMD_DECODE: return (offer){.extensions = "safetensors|state"};
    case TS_CMD_INFO: return (offer){.extensions = ANY};
    case TS_CMD_MODELS: return (offer){.folders = true};
    case TS_CMD_BATCH: return (offer){.extensions = "txt|jsonl|csv"};
    case TS_CMD_COMPLETION: return (offer){.words = SHELLS};
    default: return (offer){0};
    }
}

/* "unipc|euler" with another text between */
static void put_list(FILE *f, const char *list, const char *between)
{
    for (; *list; list++)
        if (*list == '|')
            fputs(between, f);
        else
            fputc(*list, f);
}

/* What help says of a flag, without its default; within single quotes, with a backslash before
 * each of `special`. */
static void put_description(FILE *f, const char *text, const char *special)
{
    const char *end = strstr(text, " (default");
    for (; *text && text != end; text++)
        if (*text == '\'')
            fputs("'\\''", f);
        else
            fprintf(f, "%s%c", strchr(special, *text) ? "\\" : "", *text);
}

/* ---- bash ---- */
static void put_bash_offer(FILE *f, const offer *o)
{
    if (o->words) {
        fputs("_tessera_words ", f);
        put_list(f, o->words, " ");
        fputs("; ", f);
    }
    if (o->extensions) {
        fputs(*o->extensions ? "_tessera_files " : "_tessera_files", f);
        put_list(f, o->extensions, " ");
        fputs("; ", f);
    }
    if (o->folders) fputs("_tessera_folders; ", f);
}

static void put_bash_command(FILE *f, const ts_command *c, const ts_flag *table, int rows)
{
    const offer words = offer_of_words(c);
    fprintf(f, "    %s)\n        case $before in\n", c->name);
    for (int i = 0; i < rows; i++) {
        const ts_flag *t = table + i;
        const offer o = offer_of_flag(t);
        if (!(t->commands & c->bit) || !t->value) continue;
        fprintf(f, "        --%s", t->name);
        if (t->letter) fprintf(f, " | -%c", t->letter);
        fputs(") ", f);
        put_bash_offer(f, &o);
        fputs("return ;;\n", f);
    }
    fputs("        esac\n        case $cur in\n        -*) _tessera_words", f);
    for (int i = 0; i < rows; i++)
        if (table[i].commands & c->bit) fprintf(f, " --%s", table[i].name);
    fputs(" ;;\n", f);
    if (words.words || words.extensions || words.folders) {
        fputs("        *) ", f);
        put_bash_offer(f, &words);
        fputs(";;\n", f);
    }
    fputs("        esac\n        ;;\n", f);
}

static void write_bash(FILE *f)
{
    int commands, rows;
    const ts_command *c = ts_commands(&commands);
    const ts_flag *table = ts_flags_table(&rows);
    fputs("_tessera_words()\n"
          "{\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$*\" -- \"$cur\")\n"
          "}\n"
          "_tessera_folders()\n"
          "{\n"
          "    compopt -o filenames\n"
          "    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- \"$cur\")\n"
          "}\n"
          "_tessera_files() # their extensions; none: all\n"
          "{\n"
          "    local extension\n"
          "    for extension; do\n"
          "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < \\\n"
          "            <(compgen -f -X \"!*.$extension\" -- \"$cur\")\n"
          "    done\n"
          "    if [ $# = 0 ]; then mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); fi\n"
          "    if [ $# = 0 ]; then compopt -o filenames; else _tessera_folders; fi\n"
          "}\n"
          "_tessera()\n"
          "{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    COMPREPLY=()\n"
          "    # --flag=value is three words\n"
          "    if [ \"$cur\" = = ]; then\n"
          "        cur=\n"
          "    elif [ \"$before\" = = ]; then\n"
          "        before=${COMP_WORDS[COMP_CWORD - 2]}\n"
          "    fi\n"
          "    if [ \"$COMP_CWORD\" = 1 ] || [ \"${COMP_WORDS[1]}\" = help ]; then\n"
          "        _tessera_words",
          f);
    for (int i = 0; i < commands; i++) fprintf(f, " %s", c[i].name);
    fputs(" help\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n", f);
    for (int i = 0; i < commands; i++) put_bash_command(f, c + i, table, rows);
    fputs("    esac\n}\ncomplete -F _tessera tessera\n", f);
}

/* ---- zsh ---- */
static void put_zsh_offer(FILE *f, const offer *o)
{
    if (o->words && (o->extensions || o->folders)) {
        fputs(" _alternative \"words\\:word\\:(", f);
        put_list(f, o->words, " ");
        fprintf(f, ")\" \"files\\:file\\:_files%s\"", o->folders ? " -/" : "");
    } else if (o->words) {
        fputc('(', f);
        put_list(f, o->words, " ");
        fputc(')', f);
    } else if (o->extensions) {
        fputs(*o->extensions ? "_files -g \"*.(" : "_files", f);
        put_list(f, o->extensions, "|");
        fputs(*o->extensions ? ")\"" : "", f);
    } else {
        fputs(o->folders ? "_files -/" : " ", f);
    }
}

/* One way to write a flag: "-o+" or "--output=". */
static void put_zsh_flag(FILE *f, const ts_flag *t, const char *way)
{
    const offer o = offer_of_flag(t);
    fputs(" \\\n            '", f);
    if (t->letter) fprintf(f, "(-%c --%s)", t->letter, t->name);
    fprintf(f, "%s[", way);
    put_description(f, t->help, "[]\\");
    fputc(']', f);
    if (t->value) {
        fputc(':', f);
        put_description(f, t->value, ":\\");
        fputc(':', f);
        put_zsh_offer(f, &o);
    }
    fputc('\'', f);
}

static void put_zsh_command(FILE *f, const ts_command *c, const ts_flag *table, int rows)
{
    const offer words = offer_of_words(c);
    char way[64];
    fprintf(f, "    %s)\n        _arguments", c->name);
    for (int i = 0; i < rows; i++) {
        const ts_flag *t = table + i;
        if (!(t->commands & c->bit)) continue;
        if (t->letter) {
            snprintf(way, sizeof way, "-%c%s", t->letter, t->value ? "+" : "");
            put_zsh_flag(f, t, way);
        }
        snprintf(way, sizeof way, "%s--%s%s", t->kind == TS_KIND_TEXTS ? "*" : "", t->name,
                 t->value ? "=" : "");
        put_zsh_flag(f, t, way);
    }
    fputs(" \\\n            '*:word:", f);
    put_zsh_offer(f, &words);
    fputs("'\n        ;;\n", f);
}

static void write_zsh(FILE *f)
{
    int commands, rows;
    const ts_command *c = ts_commands(&commands);
    const ts_flag *table = ts_flags_table(&rows);
    fputs("_tessera()\n{\n    local -a commands=(\n", f);
    for (int i = 0; i < commands; i++) {
        fprintf(f, "        '%s:", c[i].name);
        put_description(f, c[i].summary, ":\\");
        fputs("'\n", f);
    }
    fputs("        'help:Flags of a command'\n"
          "    )\n"
          "    if (( CURRENT == 2 )) || [[ $words[2] == help ]]; then\n"
          "        _describe command commands\n"
          "        return\n"
          "    fi\n"
          "    shift words\n"
          "    (( CURRENT-- ))\n"
          "    case $words[1] in\n",
          f);
    for (int i = 0; i < commands; i++) put_zsh_command(f, c + i, table, rows);
    fputs("    esac\n}\n"
          "# found in fpath it is to complete at once, read by source to be known\n"
          "if [[ $funcstack[1] == _tessera ]]; then\n    _tessera \"$@\"\nelse\n"
          "    compdef _tessera tessera\nfi\n",
          f);
}

/* ---- fish ---- */
/* Files are of every extension: fish's own filter has one. */
static void put_fish_offer(FILE *f, const offer *o, bool flag)
{
    if (o->extensions)
        fputs(flag ? " -r -F" : " -F", f);
    else if (flag)
        fputs(" -x", f);
    if (!o->words && !o->folders) return;
    fputs(" -a '", f);
    if (o->words) put_list(f, o->words, " ");
    if (o->folders) fputs(" (__fish_complete_directories)", f);
    fputc('\'', f);
}

static void put_fish_command(FILE *f, const ts_command *c, const ts_flag *table, int rows)
{
    const offer words = offer_of_words(c);
    if (words.words || words.extensions || words.folders) {
        fprintf(f, "complete -c tessera -n '__fish_seen_subcommand_from %s'", c->name);
        put_fish_offer(f, &words, false);
        fputc('\n', f);
    }
    for (int i = 0; i < rows; i++) {
        const ts_flag *t = table + i;
        const offer o = offer_of_flag(t);
        if (!(t->commands & c->bit)) continue;
        fprintf(f, "complete -c tessera -n '__fish_seen_subcommand_from %s'", c->name);
        if (t->letter) fprintf(f, " -s %c", t->letter);
        fprintf(f, " -l %s", t->name);
        if (t->value) put_fish_offer(f, &o, true);
        fputs(" -d '", f);
        put_description(f, t->help, "\\");
        fputs("'\n", f);
    }
}

static void write_fish(FILE *f)
{
    int commands, rows;
    const ts_command *c = ts_commands(&commands);
    const ts_flag *table = ts_flags_table(&rows);
    fputs("complete -c tessera -f\n", f);
    for (int i = 0; i < commands; i++) {
        fprintf(f, "complete -c tessera -n __fish_use_subcommand -a %s -d '", c[i].name);
        put_description(f, c[i].summary, "\\");
        fputs("'\n", f);
    }
    fputs("complete -c tessera -n __fish_use_subcommand -a help -d 'Flags of a command'\n"
          "complete -c tessera -n '__fish_seen_subcommand_from help' -a '",
          f);
    for (int i = 0; i < commands; i++) fprintf(f, "%s%s", i ? " " : "", c[i].name);
    fputs("'\n", f);
    for (int i = 0; i < commands; i++) put_fish_command(f, c + i, table, rows);
}

ts_status ts_cli_completion(ts_cli *c)
{
    const char *shell = c->flags.word[0];
    static const struct {
        const char *name, *first;
        void (*write)(FILE *);
    } shells[] = {{"bash", "", write_bash},
                  {"zsh", "#compdef tessera\n", write_zsh},
                  {"fish", "", write_fish}};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(shell, shells[i].name) != 0) continue;
        printf("%s# Completion of tessera %s, as tessera completion %s prints it.\n",
               shells[i].first, ts_version(), shell);
        shells[i].write(stdout);
        return TS_OK;
    }
    return ts_fail(&c->err, TS_EUSAGE, "completion: got \"%.64s\", wanted bash, zsh or fish",
                   shell);
}
