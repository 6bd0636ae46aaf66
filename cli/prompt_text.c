/* Prompts that are read, and prompts in another program's language. */
#include "cli/prompt_text.h"

#include "backend/number.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 20 }; /* bytes of a prompt */

/* Lines are joined by blanks; white space around the text and a byte order mark go. */
static void join_lines(char *text)
{
    char *from = text + (strncmp(text, "\xef\xbb\xbf", 3) ? 0 : 3), *to = text;
    while (isspace((unsigned char)*from)) from++;
    for (; *from; from++) {
        bool end = *from == '\n' || *from == '\r';
        if (!end)
            *to++ = *from;
        else if (to > text && to[-1] != ' ')
            *to++ = ' ';
    }
    while (to > text && isspace((unsigned char)to[-1])) to--;
    *to = 0;
}

/* All of a stream; malloc'd, ended by 0. */
static ts_status read_prompt(ts_err *err, FILE *f, const char *name, const char *advice, char **out)
{
    ts_status st = TS_OK;
    char *text = malloc(MOST + 1);
    *out = NULL;
    if (!text) return ts_fail(err, TS_EMEMORY, "no memory for a prompt");
    size_t n = fread(text, 1, MOST + 1, f);
    if (ferror(f)) TRY(ts_fail(err, TS_EMODEL, "%s: %s%s", name, strerror(errno), advice));
    if (n > MOST)
        TRY(ts_fail(err, TS_EMODEL, "%s: more than %d bytes, which is no prompt", name, MOST));
    text[n] = 0;
    if (strlen(text) < n)
        TRY(ts_fail(err, TS_EMODEL, "%s: is no text in UTF-8: byte 0 at offset %zu", name,
                    strlen(text)));
    join_lines(text);
    *out = text;
    text = NULL;
done:
    free(text);
    return st;
}

static ts_status read_prompt_file(ts_err *err, const char *path, char **out)
{
    static const char advice[] = " (--prompt takes a text that begins with @)";
    FILE *f = fopen(path, "re");
    if (!f) return ts_fail(err, TS_EMODEL, "@%.200s: %s%s", path, strerror(errno), advice);
    ts_status st = read_prompt(err, f, path, advice, out);
    fclose(f);
    return st;
}

/* Is standard input a picture? */
static bool is_read_by_flag(const ts_flags *f)
{
    static const ts_flag_id some[] = {TS_F_INIT, TS_F_IMAGE, TS_F_LAST_IMAGE};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const char *name = ts_flag_text(f, some[i]);
        if (name && !strcmp(name, "-")) return true;
    }
    return false;
}

ts_status ts_prompt_words(ts_cli *c)
{
    ts_status st = TS_OK;
    bool standard = false;
    ts_flags *f = &c->flags;
    for (int i = 0; i < f->words && i < TS_WORDS; i++) {
        const char *word = f->word[i];
        bool input = !strcmp(word, "-");
        if (f->plain[i] || (!input && word[0] != '@')) continue;
        if (input && (standard || is_read_by_flag(f)))
            TRY(ts_fail(&c->err, TS_EUSAGE, "- is standard input, and can be read once"));
        if (!input && !word[1])
            TRY(ts_fail(&c->err, TS_EUSAGE,
                        "@: the name of a file is missing (--prompt takes a text that begins with "
                        "@)"));
        char **own = realloc(c->text, (size_t)(c->texts + 1) * sizeof *own);
        if (!own) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for a prompt"));
        c->text = own;
        TRY(input ? read_prompt(&c->err, stdin, "standard input", "", own + c->texts)
                  : read_prompt_file(&c->err, word + 1, own + c->texts));
        f->word[i] = own[c->texts++];
        standard = standard || input;
    }
done:
    return st;
}

/* "(a fox:1.5)": a number before the closing bracket. s stands at the colon. */
static bool is_weight(const char *s)
{
    double weight;
    const char *end;
    s += 1 + strspn(s + 1, " ");
    return ts_number_prefix(s + (*s == '-'), &weight, &end) && *(end + strspn(end, " ")) == ')';
}

/* What of it the prompt uses, for a sentence; NULL: nothing. */
static const char *find_foreign(const char *s)
{
    int round = 0;
    char open = 0; /* [ or { that stands open */
    for (; *s; s++) {
        if (*s == '<' && (!strncasecmp(s, "<lora:", 6) || !strncasecmp(s, "<lyco:", 6) ||
                          !strncasecmp(s, "<hypernet:", 10)))
            return "<lora:...>";
        if (*s == '(' && s[1] == '(') return "((...))";
        if (*s == '(') round++;
        if (*s == ')' && round) round--;
        if (*s == ':' && round && is_weight(s)) return "(text:weight)";
        if (*s == '[' || *s == '{') open = *s;
        if (*s == ']' || *s == '}') open = 0;
        if (*s == '|' && open) return open == '[' ? "[a|b]" : "{a|b}";
    }
    return NULL;
}

void ts_prompt_warn(ts_screen *screen, const char *prompt)
{
    char text[160];
    const char *found = find_foreign(prompt);
    if (!found) return;
    snprintf(text, sizeof text,
             "the prompt has %s: weights, LoRAs and choices in prompts are not known here, it is "
             "drawn as text",
             found);
    ts_screen_warn(screen, text);
}
