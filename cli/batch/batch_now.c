/* What a process at work leaves for --status: its command line in the manifest, and in its work
 * folder a small file with the row and the step that it is at. That file is for looking: it is not
 * brought to the disk, and one that can not be written is left out. */
#include "cli/batch/batch_manifest.h"

#include "backend/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOW "now.json"
#define EVERY 1.0 /* seconds between two versions of it */

/* ---- the command line ---- */
/* As a shell takes it. Of a queue's address what stands before the host, a password among it, is
 * left out. */
static void write_word(FILE *f, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_=./:,@%+";
    const char *url = strstr(word, "redis://"),
               *at = url ? memrchr(url, '@', 8 + strcspn(url + 8, "/")) : NULL;
    bool quoted = !*word || word[strspn(word, plain)];
    if (quoted) fputc('\'', f);
    for (const char *c = word; *c; c++) {
        if (at && c == url + 8) c = at + 1;
        if (*c == '\'')
            fputs("'\\''", f);
        else if (*c)
            fputc(*c, f);
        else
            break;
    }
    if (quoted) fputc('\'', f);
}

char *ts_batch_command(void)
{
    char *text = NULL, *word = NULL;
    size_t size, room = 0;
    FILE *in = fopen("/proc/self/cmdline", "re"), *f = in ? open_memstream(&text, &size) : NULL;
    for (bool first = true; f && getdelim(&word, &room, 0, in) > 0; first = false) {
        if (!first) fputc(' ', f);
        write_word(f, word);
    }
    if (in) fclose(in);
    if (f) fclose(f);
    free(word);
    return text;
}

/* ---- the row at work ---- */
static void write_now(ts_batch *b, const ts_event *e, double left)
{
    static const char *const phase[] = {"text", "denoise", "decode", "bench"};
    const ts_screen *s = &b->c->screen;
    char *path = NULL, *part = NULL, *text;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "output", s->row_output ? s->row_output : "");
    cJSON_AddStringToObject(j, "phase", phase[e->phase]);
    cJSON_AddNumberToObject(j, "step", e->step);
    cJSON_AddNumberToObject(j, "steps", e->steps);
    if (left >= 0) cJSON_AddNumberToObject(j, "eta", (double)(long)(left * 1000) / 1000);
    text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    if (asprintf(&path, "%s/" NOW, b->work) < 0) path = NULL;
    if (asprintf(&part, "%s/.now", b->work) < 0) part = NULL;
    FILE *f = path && part && text ? fopen(part, "we") : NULL;
    if (f) {
        bool good = fputs(text, f) >= 0;
        if (fclose(f) || !good || rename(part, path)) unlink(part);
    }
    free(text);
    free(path);
    free(part);
}

static void watch_row(void *user, const ts_event *e, double left)
{
    ts_batch *b = user;
    double now = ts_seconds();
    if (!b->work || !b->c->screen.row_output) return;
    if (b->now_written > 0 && now - b->now_written < EVERY) return;
    b->now_written = now;
    write_now(b, e, left);
}

/* That of a process that was killed, too, before its place is taken. */
static void forget_now(const ts_batch *b)
{
    char *path = NULL;
    if (!b->work || asprintf(&path, "%s/" NOW, b->work) < 0) return;
    unlink(path);
    free(path);
}

void ts_batch_watch(ts_batch *b)
{
    forget_now(b);
    b->c->screen.watch = watch_row;
    b->c->screen.watcher = b;
}

void ts_batch_unwatch(ts_batch *b)
{
    b->c->screen.watch = NULL;
    forget_now(b);
}

cJSON *ts_batch_now(const char *out, const char *share)
{
    char *path = NULL, text[4096];
    if (asprintf(&path, "%s/.tessera-batch/%s/" NOW, out, share) < 0) return NULL;
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f) fclose(f);
    free(path);
    return cJSON_ParseWithLength(text, n);
}
