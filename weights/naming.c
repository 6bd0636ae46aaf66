/* Rules that rename tensors. */
#include "weights/naming.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { NUMBERS = 4, DIGITS = 12 };

/* Digits of a name where the pattern has '#'. */
typedef struct {
    char text[NUMBERS][DIGITS];
    int n;
} numbers;

/* Bytes of `name` that the pattern fits; -1: it does not. */
static int match_pattern(const char *pattern, const char *name, numbers *found)
{
    const char *s = name;
    found->n = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*s++ != *pattern) return -1;
            continue;
        }
        int k = 0;
        while (isdigit((unsigned char)s[k])) k++;
        if (k == 0 || k >= DIGITS || found->n == NUMBERS) return -1;
        memcpy(found->text[found->n], s, (size_t)k);
        found->text[found->n++][k] = 0;
        s += k;
    }
    return (int)(s - name);
}

/* Appends the pattern with its numbers; false: there is no room. */
static bool append_pattern(char out[TS_NAME_ROOM], const char *pattern, const numbers *found)
{
    size_t at = strlen(out);
    int k = 0;
    for (; *pattern; pattern++) {
        char one[2] = {*pattern, 0};
        const char *add = *pattern == '#' && k < found->n ? found->text[k++] : one;
        size_t n = strlen(add);
        if (at + n >= TS_NAME_ROOM) return false;
        memcpy(out + at, add, n + 1);
        at += n;
    }
    return true;
}

/* What follows a head, renamed by the first rule of the list that fits, there or back. */
static bool append_tail(char out[TS_NAME_ROOM], const ts_rename *list, const char *rest, bool back)
{
    numbers found = {.n = 0};
    for (const ts_rename *r = list; r && r->from; r++) {
        int n = match_pattern(back ? r->to : r->from, rest, &found);
        if (n < 0) continue;
        if (!append_pattern(out, back ? r->from : r->to, &found)) return false;
        rest += n;
        break;
    }
    size_t at = strlen(out), more = strlen(rest);
    if (at + more >= TS_NAME_ROOM) return false;
    memcpy(out + at, rest, more + 1);
    return true;
}

static void keep_name(const char *name, char out[TS_NAME_ROOM])
{
    snprintf(out, TS_NAME_ROOM, "%s", name);
}

int ts_naming_apply(const ts_naming *naming, const char *name, ts_renamed out[TS_NAME_CUTS])
{
    int n = 0;
    for (const ts_rename *r = naming->head; r->from && n < TS_NAME_CUTS; r++) {
        numbers found;
        int fits = match_pattern(r->from, name, &found);
        if (fits < 0) continue;
        out[n].name[0] = 0;
        out[n].cut = r->cut;
        if (append_pattern(out[n].name, r->to, &found) &&
            append_tail(out[n].name, naming->tail, name + fits, false))
            n++;
        /* one name, unless the tensor is cut */
        if (r->cut.of == 0) break;
    }
    if (n == 0) {
        keep_name(name, out[0].name);
        out[0].cut = (ts_cut){0};
        n = 1;
    }
    return n;
}

bool ts_naming_reverse(const ts_naming *naming, const char *name, char out[TS_NAME_ROOM])
{
    for (const ts_rename *r = naming->head; r->from; r++) {
        numbers found;
        int fits = match_pattern(r->to, name, &found);
        if (fits < 0) continue;
        out[0] = 0;
        if (append_pattern(out, r->from, &found) &&
            append_tail(out, naming->tail, name + fits, true))
            return true;
    }
    keep_name(name, out);
    return false;
}

bool ts_names_are_unused(const ts_names *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *const *p = names->unused; p && *p; p++) {
        bool at_end = **p == '*', whole = **p == '=';
        const char *part = *p + (at_end || whole);
        size_t k = strlen(part);
        if ((whole ? k == n : k <= n) && !memcmp(at_end ? name + n - k : name, part, k))
            return true;
    }
    return false;
}
