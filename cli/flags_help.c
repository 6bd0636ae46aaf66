/* Help, from the table of flags. */
#include "cli/flags.h"

#include <string.h>

enum { COLUMN = 27, WIDTH = 100 };

static void print_wrapped(FILE *out, const char *text, int at)
{
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > COLUMN && at + 1 + n > WIDTH) {
            fprintf(out, "\n%*s", COLUMN, "");
            at = COLUMN;
        } else if (at > COLUMN) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", n, text);
        at += n;
        text += n;
        if (*text) text++;
    }
    fputc('\n', out);
}

void ts_flags_help(FILE *out, ts_command_bit command)
{
    const char *group = NULL, *said = NULL;
    int rows;
    const ts_flag *table = ts_flags_table(&rows);
    for (int i = 0; i < rows; i++) {
        const ts_flag *f = table + i;
        char left[COLUMN + 32];
        if (f->group) group = f->group;
        if (!(f->commands & command)) continue;
        if (group != said) fprintf(out, "\n%s:\n", said = group);
        char letter[8] = "    ";
        if (f->letter) snprintf(letter, sizeof letter, "-%c, ", f->letter);
        snprintf(left, sizeof left, "  %s--%s%s%s", letter, f->name, f->value ? " " : "",
                 f->value ? f->value : "");
        fprintf(out, "%-*s", COLUMN, left);
        print_wrapped(out, f->help, COLUMN);
    }
}
