/* Suggestions after a slip of the fingers, or of habit: letters of either case, and what other
 * programs write between them, are the same. */
#include "backend/nearest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 48 };

/* Lower case, + as p (DPM++ is dpmpp), blanks and underscores as hyphens; cut. */
static void fold_word(const char *word, char out[LONGEST + 2])
{
    size_t n = 0;
    for (; word[n] && n < LONGEST + 1; n++) {
        char c = (char)tolower((unsigned char)word[n]);
        out[n] = c;
        if (c == '+') out[n] = 'p';
        if (c == '_' || c == ' ') out[n] = '-';
    }
    out[n] = 0;
}

bool ts_same_word(const char *a, const char *b)
{
    char x[LONGEST + 2], y[LONGEST + 2];
    fold_word(a, x);
    fold_word(b, y);
    return !strcmp(x, y);
}

static int least_of(int a, int b) { return a < b ? a : b; }

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b (optimal string
 * alignment). */
static int edit_distance(const char *a, const char *b)
{
    int d[LONGEST + 1][LONGEST + 1], n = (int)strlen(a), m = (int)strlen(b);
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            d[i][j] = least_of(least_of(d[i - 1][j], d[i][j - 1]) + 1,
                               d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least_of(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[n][m];
}

const char *ts_nearest(const char *word, const char *const *list)
{
    const char *best = NULL;
    int nearest = LONGEST;
    char folded[LONGEST + 2];
    fold_word(word, folded);
    for (; *list; list++) {
        int n = (int)strlen(folded), far = edit_distance(folded, *list);
        if (n >= 3 && far && !strncmp(folded, *list, (size_t)n)) far = 1; /* the beginning of it */
        if (far <= 1 + n / 5 && far < nearest) {
            best = *list;
            nearest = far;
        }
    }
    return best;
}
