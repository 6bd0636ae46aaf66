/* Suggestions after a slip of the fingers. */
#include "cli/flags.h"

#include <string.h>

enum { LONGEST = 48 };

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
    for (; *list; list++) {
        int n = (int)strlen(word), far = edit_distance(word, *list);
        if (n >= 3 && !strncmp(word, *list, (size_t)n)) far = 1; /* the beginning of it */
        if (far <= 1 + n / 4 && far < nearest) {
            best = *list;
            nearest = far;
        }
    }
    return best;
}
