/* States that generate keeps, and the sentences about them. */
#include "cli/resume.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHORT_SECONDS = 60 }; /* of denoising: less is not worth a file of latents */

/* ---- the command that goes on ---- */
static bool needs_quotes(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_./,:=+@%";
    return !*word || word[strspn(word, plain)];
}

/* For a POSIX shell. */
static void put_word(FILE *f, const char *word)
{
    if (!needs_quotes(word)) {
        fputs(word, f);
        return;
    }
    fputc('\'', f);
    for (; *word; word++)
        if (*word == '\'')
            fputs("'\\''", f);
        else
            fputc(*word, f);
    fputc('\'', f);
}

/* The command line as it was given; a random seed is a number now. malloc'd; NULL: no memory. */
static char *command_text(const ts_cli *c, const ts_render *r)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    for (int i = 0; i < c->argc; i++) {
        if (i) fputc(' ', f);
        put_word(f, c->argv[i]);
    }
    if (c->flags.value[TS_F_SEED].random) fprintf(f, " --seed %llu", (unsigned long long)r->q.seed);
    return fclose(f) ? (free(text), NULL) : text;
}

/* ---- the file ---- */
static ts_status open_own_state(ts_cli *c, ts_render *r)
{
    bool lasting = ts_forecast_seconds(&r->forecast) >= TS_LONG_SECONDS;
    r->own_state = ts_name_beside(r->path, ".state");
    if (!r->own_state) return ts_fail(&c->err, TS_EMEMORY, "no memory for a file's name");
    if (!lasting && access(r->own_state, F_OK)) return TS_OK;
    ts_status st = ts_run_state(r->run, r->own_state, true);
    if (!st) r->state = r->own_state;
    /* nothing that is short has to do with what another run has left */
    if (st == TS_EMODEL && !lasting) return TS_OK;
    return st ? ts_fail(&c->err, st, "%s; --no-state leaves it alone", ts_error(c->ctx)) : TS_OK;
}

ts_status ts_resume_begin(ts_cli *c, ts_render *r)
{
    const char *given = ts_flag_text(&c->flags, TS_F_STATE);
    if (!given)
        return ts_flag_set(&c->flags, TS_F_NO_STATE) || ts_is_standard(r->path)
                   ? TS_OK
                   : open_own_state(c, r);
    ts_status st = ts_run_state(r->run, given, false);
    if (!st) r->state = given;
    return st;
}

void ts_resume_end(const ts_render *r)
{
    if (r->state && r->state == r->own_state) ts_state_remove(r->state);
}

/* ---- what is said ---- */
void ts_resume_say_begin(ts_cli *c, const ts_render *r)
{
    ts_report report;
    ts_run_report(r->run, &report);
    if (!r->state) return;
    if (report.resumed >= r->e.steps)
        ts_screen_note(&c->screen, "all steps are in the state file %s", r->state);
    else if (report.resumed)
        ts_screen_note(&c->screen, "goes on at step %d of %d from %s", report.resumed + 1,
                       r->e.steps, r->state);
    else
        ts_screen_note(&c->screen,
                       "keeps its state in %s: should it be stopped, the same command goes on%s",
                       r->state, r->state == r->own_state ? " (--no-state: keeps none)" : "");
}

static void say_command(ts_cli *c, const ts_render *r, const char *before)
{
    char *command = command_text(c, r);
    ts_screen_note(&c->screen, "%s: this command goes on from %s:\n  %s", before, r->state,
                   command ? command : "the same");
    free(command);
}

const char *ts_resume_whole(const ts_render *r)
{
    ts_report report;
    ts_run_report(r->run, &report);
    return r->state && report.state_steps >= r->e.steps ? r->state : NULL;
}

void ts_resume_say_stop(ts_cli *c, const ts_render *r)
{
    ts_report report;
    char before[112];
    ts_run_report(r->run, &report);
    int n = snprintf(before, sizeof before, "stopped after step %d of %d", report.done, r->e.steps);
    if (report.state_steps && report.state_steps < report.done)
        snprintf(before + n, sizeof before - (size_t)n, ", of which %d are kept",
                 report.state_steps);
    if (!report.done)
        ts_screen_note(&c->screen, "stopped before a step of %d was done", r->e.steps);
    else if (report.state_steps)
        say_command(c, r, before);
    else if (r->state)
        ts_screen_note(&c->screen, "%s, which are lost: %s could not be written", before, r->state);
    else if (r->clips > 1)
        ts_screen_note(&c->screen, "%s, which are lost%s: what should survive is a batch", before,
                       r->grid ? ", as are the clips before" : "");
    else
        ts_screen_note(&c->screen, "%s, which are lost: --state FILE would keep them", before);
}

bool ts_resume_is_short(const ts_render *r)
{
    ts_report report;
    ts_run_report(r->run, &report);
    return !report.resumed && report.denoise_seconds < SHORT_SECONDS;
}

void ts_resume_stop_decode(ts_cli *c, const ts_render *r, const char *saved)
{
    ts_err said = {.code = TS_ESTOP, .text = "stopped while decoding"};
    if (ts_resume_whole(r)) {
        say_command(c, r, said.text);
    } else if (saved || !ts_resume_is_short(r)) {
        ts_rescue(c->ctx, &said, r->run, saved, r->path);
        ts_screen_note(&c->screen, "%s", said.text);
    }
}
