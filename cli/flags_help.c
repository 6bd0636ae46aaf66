/* Help, from the table of flags. */
#include "cli/flags.h"

#include "backend/number.h"

#include <string.h>
#include <sys/ioctl.h>

enum { COLUMN = 27, NARROW = 72, INDENT = 8, UNKNOWN = 80 };

int ts_help_width(FILE *out, const char *columns)
{
    struct winsize w;
    uint64_t n = UNKNOWN;
    bool said = columns && ts_whole_read(columns, INT32_MAX, &n) && n > 0;
    if (!said) n = ioctl(fileno(out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : UNKNOWN;
    return n < TS_HELP_LEAST ? TS_HELP_LEAST : n > TS_HELP_MOST ? TS_HELP_MOST : (int)n;
}

void ts_print_wrapped(FILE *out, const char *text, int at, int indent, int width)
{
    bool begun = false; /* a word stands on the line */
    for (; *text; text += strspn(text, " ")) {
        int n = (int)strcspn(text, " \n");
        if (begun && at + 1 + n > width) {
            fprintf(out, "\n%*s", indent, "");
            at = indent;
        } else if (begun) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", n, text);
        at += n;
        text += n;
        begun = *text != '\n';
        if (begun) continue;
        fprintf(out, "\n%*s", indent, "");
        at = indent;
        text++;
    }
    fputc('\n', out);
}

void ts_flags_help(FILE *out, ts_command_bit command, int width)
{
    const char *group = NULL, *said = NULL;
    int rows, column = width < NARROW ? INDENT : COLUMN;
    const ts_flag *table = ts_flags_table(&rows);
    for (int i = 0; i < rows; i++) {
        const ts_flag *f = table + i;
        char left[COLUMN + 32], letter[8] = "    ";
        if (f->group) group = f->group;
        if (!(f->commands & command)) continue;
        if (group != said) fprintf(out, "\n%s:\n", said = group);
        if (f->letter) snprintf(letter, sizeof letter, "-%c, ", f->letter);
        int n = snprintf(left, sizeof left, "  %s--%s%s%s", letter, f->name, f->value ? " " : "",
                         f->value ? f->value : "");
        fputs(left, out);
        /* beside the flag where there is room, else below it */
        if (n < column)
            fprintf(out, "%*s", column - n, "");
        else
            fprintf(out, "\n%*s", column, "");
        ts_print_wrapped(out, f->help, column, column, width);
    }
}
