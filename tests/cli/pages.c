/* Chromium opens pages.html, which opens the page, looks at what was laid out and says it; what was
 * painted is read from a picture of the same moment. */
#include "tests/cli/pages.h"
#include "codecs/picture.h"
#include "tests/cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDE = 2560, HIGH = 3 * 700 + 200 }; /* three frames, and the browser's own bars */
static char faults[16384];

static void add_fault(const char *line)
{
    size_t n = strlen(faults);
    snprintf(faults + n, sizeof faults - n, "%s\n", line);
}

bool pages_can_be_drawn(void)
{
    static int can = -1;
    if (can < 0) {
        can = !program_shell("command -v chromium")->code;
        if (!can)
            printf("skip: chromium is not installed: no page is looked at (make check-pages "
                   "installs it)\n");
    }
    return can;
}

/* In one colour: nothing was painted there. */
static void check_painted(const ts_picture *p, const char *line)
{
    int x, y, w, h;
    char text[96];
    ck_assert_int_eq(sscanf(line, "drawn %d %d %d %d", &x, &y, &w, &h), 4);
    if (x < 0 || y < 0 || w < 1 || h < 1 || x + w > p->w || y + h > p->h) {
        snprintf(text, sizeof text, "a picture at %d, %d of %d x %d has no place", x, y, w, h);
        add_fault(text);
        return;
    }
    const uint8_t *first = p->rgb + ((size_t)y * p->w + x) * 3;
    for (int i = y; i < y + h; i++)
        for (int k = x; k < x + w; k++)
            if (memcmp(first, p->rgb + ((size_t)i * p->w + k) * 3, 3)) return;
    snprintf(text, sizeof text, "nothing is painted at %d, %d of %d x %d", x, y, w, h);
    add_fault(text);
}

/* Text of the document: the few entities that it can have. */
static void unescape(char *s)
{
    static const char *const entity[] = {"&amp;", "&lt;", "&gt;", "&nbsp;"};
    char *to = s;
    for (; *s; to++) {
        int i = 0;
        while (i < 4 && strncmp(s, entity[i], strlen(entity[i]))) i++;
        *to = i < 4 ? "&<> "[i] : *s;
        s += i < 4 ? strlen(entity[i]) : 1;
    }
    *to = 0;
}

static void read_said(char *said, const ts_picture *shot)
{
    bool looked = false;
    for (char *save, *line = strtok_r(said, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        char text[4200];
        unescape(line);
        if (!strncmp(line, "fault ", 6)) add_fault(line + 6);
        if (!strncmp(line, "drawn ", 6)) check_painted(shot, line);
        if (!strncmp(line, "link ", 5) && access(line + 5, F_OK)) {
            snprintf(text, sizeof text, "a link leads to no file: %s", line + 5);
            add_fault(text);
        }
        looked = looked || !strcmp(line, "looked");
    }
    if (!looked) add_fault("the page was never ready");
}

const char *pages_faults(const char *path)
{
    static char *folder;
    char *full = realpath(path, NULL), out[4096];
    ts_err err = {0};
    ts_picture shot = {0};
    *faults = 0;
    if (!folder) folder = testing_tmp();
    ck_assert_msg(full != NULL, "%s: there is no such page", path);
    const program_result *r = program_shell(
        "timeout 120 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars "
        "--allow-file-access-from-files --force-device-scale-factor=1 --enable-logging=stderr "
        "--user-data-dir=%s/p --window-size=%d,%d --screenshot=%s/shot.png --dump-dom "
        "\"file://$PWD/tests/cli/pages.html?page=%s\" >%s/dom",
        folder, WIDE, HIGH, folder, full, folder);
    ck_assert_msg(!r->code, "chromium: %d\n%s", r->code, r->err);
    for (const char *s = r->err; (s = strstr(s, "\"Uncaught ")); s++) {
        char text[400];
        snprintf(text, sizeof text, "a script fails: %.*s", (int)strcspn(s, "\n"), s);
        add_fault(text);
    }
    snprintf(out, sizeof out, "%s/shot.png", folder);
    ck_assert_msg(!ts_picture_read(&err, out, &shot), "%s", err.text);
    snprintf(out, sizeof out, "%s/dom", folder);
    char *dom = program_slurp(out, NULL), *said = strstr(dom, "<pre id=\"said\">"),
         *end = said ? strstr(said, "</pre>") : NULL;
    ck_assert_msg(end != NULL, "nothing was said");
    *end = 0;
    read_said(strchr(said, '>') + 1, &shot);
    ts_picture_free(&shot);
    free(dom);
    free(full);
    return faults;
}

void pages_expect_sound(const char *path)
{
    const char *what = pages_faults(path);
    ck_assert_msg(!*what, "%s:\n%s", path, what);
}
