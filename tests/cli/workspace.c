/* One folder for all tests of a program: each leaves it empty. */
#include "tests/cli/workspace.h"

#include "tests/cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *folder;

const char *scratch_open(void) { return folder = testing_tmp(); }

const char *scratch_path(const char *name)
{
    static char path[4][4300];
    static int next;
    char *to = path[next++ % 4];
    snprintf(to, sizeof path[0], "%s/%s", folder, name);
    return to;
}

void scratch_put(const char *name, const char *text)
{
    FILE *f = fopen(scratch_path(name), "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

bool scratch_has(const char *name) { return access(scratch_path(name), F_OK) == 0; }

int scratch_count(const char *name, const char *phrase)
{
    if (!scratch_has(name)) return 0;
    char *text = program_slurp(scratch_path(name), NULL);
    int n = text_count(text, phrase);
    free(text);
    return n;
}

void scratch_clear(void)
{
    program_expect(program_shell("find %s -mindepth 1 -delete", folder), 0);
}

void text_has(const char *text, const char *phrase)
{
    ck_assert_msg(strstr(text, phrase) != NULL, "\"%s\" is not in\n%.6000s", phrase, text);
}
void text_lacks(const char *text, const char *phrase)
{
    ck_assert_msg(!strstr(text, phrase), "\"%s\" is in\n%.6000s", phrase, text);
}

int text_count(const char *text, const char *phrase)
{
    int n = 0;
    for (; (text = strstr(text, phrase)); text++) n++;
    return n;
}
