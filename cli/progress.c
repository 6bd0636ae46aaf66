/* Owns stderr during a run. Time left is measured, not predicted: the pace of the phase so far,
 * extended to its end and, by the ratio of operations, over the decoding that follows. */
#include "cli/progress_draw.h"

#include "backend/clock.h"
#include "backend/hash.h"
#include "cli/flags.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SENTENCE = 2048 }; /* bytes of one that is shown */
#define REDRAW 0.1        /* seconds between drawings of the bar */
#define EVENT 0.5         /* between events within a step */
#define LINE 10.0         /* between lines where there is no terminal */

void ts_screen_init(ts_screen *s, ts_screen_mode mode, FILE *out)
{
    const char *term = getenv("TERM");
    *s = (ts_screen){.mode = mode, .out = out, .clock = ts_seconds, .phase = -1};
    if (mode == TS_SCREEN_BAR && (!isatty(fileno(out)) || (term && !strcmp(term, "dumb"))))
        s->mode = TS_SCREEN_LINES;
    s->began = s->clock();
}

double ts_event_share(const ts_event *e)
{
    if (e->steps < 1) return 0;
    double done = e->step;
    if (e->layers > 0) { /* a layer has begun, so its step is not done */
        double part = (double)(e->layer > 0 ? e->layer - 1 : 0) / e->layers;
        done = e->step > 0 ? e->step - 1 + part : part * e->steps; /* step 0: of all steps */
    }
    done /= e->steps;
    return done < 0 ? 0 : done > 1 ? 1 : done;
}

double ts_screen_left(const ts_screen *s, double now)
{
    double did = s->share - s->first, spent = now - s->phase_began;
    if (s->phase < 0 || did <= 0 || spent <= 0) return -1;
    double left = spent / did * (1 - s->share);
    if (s->phase == TS_PHASE_DENOISE && s->cost[TS_PHASE_DENOISE] > 0)
        left += spent / did * s->cost[TS_PHASE_DECODE] / s->cost[TS_PHASE_DENOISE];
    if (s->phase == TS_PHASE_TEXT) return -1; /* says nothing about the rest */
    return left;
}

const char *ts_clock_text(double seconds, char out[24])
{
    long t = seconds > 0 ? lround(seconds) : 0;
    if (t >= 3600)
        snprintf(out, 24, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(out, 24, "%ld:%02ld", t / 60, t % 60);
    return out;
}

double ts_screen_batch_left(const ts_screen *s, double now)
{
    double left = ts_screen_left(s, now), spent = now - s->row_began, pace;
    if (s->rows < 1 || s->row < 1 || s->batch_cost <= 0) return -1;
    if (s->batch_did > 0)
        pace = s->batch_spent / s->batch_did;
    else if (left >= 0 && s->row_cost > 0)
        pace = (spent + left) / s->row_cost;
    else if (s->turn.policy)
        pace = 1; /* its cost is in seconds */
    else
        return -1;
    if (left < 0) left = pace * s->row_cost > spent ? pace * s->row_cost - spent : 0;
    return left + pace * (s->batch_cost - s->batch_did - s->row_cost);
}

/* ---- events ---- */
static void enter_phase(ts_screen *s, const ts_event *e, double now)
{
    if (s->phase == (int)e->phase) return;
    s->phase = (int)e->phase;
    s->phase_began = now;
    s->share = 0;
    s->first = -1;
    s->layers = 0;
    s->said = now;
}

void ts_screen_event(void *user, const ts_event *e)
{
    ts_screen *s = user;
    if (!s->armed) return;
    double now = s->clock(), share = ts_event_share(e);
    bool begins = s->phase != (int)e->phase, whole = e->layers == 0,
         ends = whole && e->steps > 0 && e->step == e->steps;
    enter_phase(s, e, now);
    if (e->layers) s->layers = e->layers;
    /* not 0 when the run was resumed */
    if (s->first < 0 && (e->step > 0 || e->layers > 0))
        s->first = e->step > 0 ? (double)(e->step - 1) / e->steps : 0;
    if (share > s->share) s->share = share;
    if (s->watch) s->watch(s->watcher, e, ts_screen_left(s, now));
    if (s->mode == TS_SCREEN_NONE) return;
    double every = s->mode == TS_SCREEN_BAR ? REDRAW : s->mode == TS_SCREEN_JSON ? EVENT : LINE;
    bool due = now - s->said >= every || (s->mode == TS_SCREEN_JSON && whole);
    bool row = s->rows && s->row; /* of many: its phases are not worth a line each */
    if (s->mode != TS_SCREEN_JSON && ends && !row) {
        ts_draw_end(s, e, now);
    } else if (begins || due) {
        s->said = now;
        if (s->mode == TS_SCREEN_JSON)
            ts_draw_progress(s, e, now);
        else if (s->mode == TS_SCREEN_BAR)
            ts_draw_bar(s, e, now);
        else if (!begins)
            ts_draw_line(s, e, now);
        else if (!row)
            ts_draw_begin(s, e);
    }
}

/* A config is read by everybody who needs it, and each reader has the same to say. */
static bool warned_before(ts_screen *s, const char *sentence)
{
    enum { MOST = sizeof s->warned / sizeof *s->warned };
    uint64_t h = ts_hash_text(TS_HASH, sentence);
    for (int i = 0; i < s->warnings; i++)
        if (s->warned[i] == h) return true;
    if (s->warnings < MOST) s->warned[s->warnings++] = h;
    return false;
}

void ts_screen_reword(const ts_screen *s, const char *sentence, char *out, size_t size)
{
    char flagged[SENTENCE];
    ts_flags_reword(sentence, flagged, sizeof flagged);
    sentence = flagged;
    const char *at = s->made_at ? strstr(sentence, s->made_at) : NULL;
    if (at)
        snprintf(out, size, "%.*s%s%s", (int)(at - sentence), sentence, s->made_as,
                 at + strlen(s->made_at));
    else
        snprintf(out, size, "%s", sentence);
}

void ts_screen_warn(void *user, const char *said)
{
    ts_screen *s = user;
    char sentence[SENTENCE];
    ts_screen_reword(s, said, sentence, sizeof sentence);
    if (s->mode == TS_SCREEN_NONE || warned_before(s, sentence)) return;
    if (s->mode == TS_SCREEN_JSON) {
        cJSON *j = ts_draw_event("warning");
        cJSON_AddStringToObject(j, "message", sentence);
        ts_draw_json(s, j);
        return;
    }
    ts_draw_wipe(s);
    fprintf(s->out, "tessera: warning: %s\n", sentence);
    fflush(s->out);
}

void ts_screen_fault(ts_screen *s, const char *file, int line, const char *said)
{
    char sentence[SENTENCE];
    ts_flags_reword(said, sentence, sizeof sentence);
    if (s->mode == TS_SCREEN_JSON) {
        cJSON *j = ts_draw_event("fault");
        cJSON_AddStringToObject(j, "file", file);
        cJSON_AddNumberToObject(j, "line", line);
        cJSON_AddStringToObject(j, "message", sentence);
        ts_draw_json(s, j);
        return;
    }
    ts_draw_wipe(s);
    if (line)
        fprintf(s->out, "%s:%d: %s\n", file, line, sentence);
    else
        fprintf(s->out, "%s: %s\n", file, sentence);
    fflush(s->out);
}

void ts_screen_note(ts_screen *s, const char *format, ...)
{
    va_list list;
    if (s->mode == TS_SCREEN_NONE || s->mode == TS_SCREEN_JSON) return;
    ts_draw_wipe(s);
    va_start(list, format);
    vfprintf(s->out, format, list);
    va_end(list);
    fputc('\n', s->out);
    fflush(s->out);
}

void ts_screen_clear(ts_screen *s)
{
    ts_draw_wipe(s);
    fflush(s->out);
}

void ts_screen_preview(ts_screen *s, const char *path, int step, int steps)
{
    if (s->mode != TS_SCREEN_JSON) return;
    cJSON *j = ts_draw_event("preview");
    cJSON_AddStringToObject(j, "path", path);
    cJSON_AddNumberToObject(j, "step", step);
    cJSON_AddNumberToObject(j, "steps", steps);
    ts_draw_json(s, j);
}

void ts_screen_table(ts_screen *s, const char *name, const char *text)
{
    if (s->mode == TS_SCREEN_JSON) {
        cJSON *j = ts_draw_event(name);
        cJSON_AddStringToObject(j, "text", text);
        ts_draw_json(s, j);
        return;
    }
    ts_draw_wipe(s); /* asked for by a flag: shown even when quiet */
    fputs(text, s->out);
    if (*text && text[strlen(text) - 1] != '\n') fputc('\n', s->out);
    fflush(s->out);
}

void ts_screen_written(ts_screen *s, long w, long h)
{
    s->written_w = w;
    s->written_h = h;
}

void ts_screen_forecast(ts_screen *s, const ts_forecast *f) { s->forecast = *f; }

static void add_forecast(cJSON *j, const ts_forecast *f)
{
    if (!f->allowed_bytes) return;
    cJSON_AddNumberToObject(j, "expected_text_seconds", ts_draw_milliseconds(f->text_seconds));
    cJSON_AddNumberToObject(j, "expected_denoise_seconds",
                            ts_draw_milliseconds(f->denoise_seconds));
    cJSON_AddNumberToObject(j, "expected_decode_seconds", ts_draw_milliseconds(f->decode_seconds));
    cJSON_AddNumberToObject(j, "allowed_bytes", (double)f->allowed_bytes);
}

void ts_screen_start(ts_screen *s, const ts_estimate *e, int steps, const char *output,
                     const char *json)
{
    /* text is no matter; the VAE computes in f32, at about half the pace of bf16 */
    s->cost[TS_PHASE_DENOISE] = e->step_flops * steps;
    s->cost[TS_PHASE_DECODE] = e->decode_flops *
                               (e->precision && !strcmp(e->precision, "bf16") ? 2 : 1);
    s->armed = true;
    s->phase = -1; /* a bench has several runs: each begins anew */
    if (s->mode != TS_SCREEN_JSON) return;
    cJSON *j = ts_draw_event("start"), *request = json ? cJSON_Parse(json) : NULL;
    cJSON_AddStringToObject(j, "output", output);
    if (s->written_w) {
        cJSON_AddNumberToObject(j, "written_width", (double)s->written_w);
        cJSON_AddNumberToObject(j, "written_height", (double)s->written_h);
    }
    if (request) cJSON_AddItemToObject(j, "request", request);
    cJSON_AddNumberToObject(j, "tokens", (double)e->tokens);
    cJSON_AddNumberToObject(j, "text_bytes", (double)e->text_bytes);
    cJSON_AddNumberToObject(j, "denoise_bytes", (double)e->denoise_bytes);
    cJSON_AddNumberToObject(j, "decode_bytes", (double)e->decode_bytes);
    cJSON_AddNumberToObject(j, "step_flops", e->step_flops);
    cJSON_AddNumberToObject(j, "decode_flops", e->decode_flops);
    add_forecast(j, &s->forecast);
    ts_draw_json(s, j);
}

/* ---- a batch ---- */
void ts_screen_batch(ts_screen *s, int rows, double cost)
{
    s->rows = rows;
    s->row = 0;
    s->batch_cost = cost;
    s->batch_did = s->batch_spent = 0;
    if (s->mode != TS_SCREEN_JSON) return;
    cJSON *j = ts_draw_event("batch");
    cJSON_AddNumberToObject(j, "rows", rows);
    cJSON_AddNumberToObject(j, "flops", cost);
    ts_draw_json(s, j);
}

void ts_screen_batch_texts(ts_screen *s)
{
    ts_draw_wipe(s);
    s->cost[TS_PHASE_DENOISE] = s->cost[TS_PHASE_DECODE] = 0;
    s->armed = true;
    s->phase = -1;
}

void ts_screen_row(ts_screen *s, const char *output, double cost)
{
    s->row++;
    s->row_output = output;
    s->row_cost = cost;
    s->row_began = s->clock();
    s->phase = -1;
    if (s->row > s->rows) s->rows = s->row; /* of a queue, a row may come back */
    s->armed = false;                       /* until the run begins: its sizing is no event */
}

void ts_screen_row_done(ts_screen *s, const ts_row_end *r)
{
    double left;
    char text[24];
    s->batch_did += s->row_cost;
    s->batch_spent += s->clock() - s->row_began;
    s->row_cost = 0;
    s->row_output = NULL;
    s->row_began = s->clock();
    s->phase = -1;
    s->armed = false;
    left = ts_screen_batch_left(s, s->row_began);
    if (s->mode == TS_SCREEN_NONE) return;
    if (s->mode == TS_SCREEN_JSON) {
        cJSON *j = ts_draw_event("row");
        cJSON_AddNumberToObject(j, "row", s->row);
        cJSON_AddNumberToObject(j, "rows", s->rows);
        cJSON_AddStringToObject(j, "status", r->status);
        cJSON_AddStringToObject(j, "output", r->output);
        if (r->path) {
            cJSON_AddStringToObject(j, "path", r->path);
            cJSON_AddNumberToObject(j, "written_width", (double)s->written_w);
            cJSON_AddNumberToObject(j, "written_height", (double)s->written_h);
            cJSON_AddNumberToObject(j, "frames", r->frames);
            cJSON_AddNumberToObject(j, "bytes", r->bytes);
        }
        cJSON_AddStringToObject(j, "file", r->file);
        cJSON_AddNumberToObject(j, "line", r->line);
        cJSON_AddNumberToObject(j, "index", r->index);
        if (r->seed <= UINT64_C(1) << 53)
            cJSON_AddNumberToObject(j, "seed", (double)r->seed);
        else {
            snprintf(text, sizeof text, "%llu", (unsigned long long)r->seed);
            cJSON_AddStringToObject(j, "seed", text);
        }
        cJSON_AddNumberToObject(j, "seconds", ts_draw_milliseconds(r->seconds));
        if (r->error) cJSON_AddStringToObject(j, "error", r->error);
        if (left < 0)
            cJSON_AddNullToObject(j, "batch_eta");
        else
            cJSON_AddNumberToObject(j, "batch_eta", ts_draw_milliseconds(left));
        ts_draw_json(s, j);
        return;
    }
    bool good = !strcmp(r->status, "done");
    if (good && s->mode == TS_SCREEN_BAR) return;
    ts_draw_wipe(s);
    if (r->error) fprintf(s->out, "%s:%d: %s\n", r->file, r->line, r->error);
    if (s->mode == TS_SCREEN_LINES) {
        fprintf(s->out, "row %d/%d: %s%s%s in %.1f s", s->row, s->rows, r->output, good ? "" : ", ",
                good ? "" : r->status, r->seconds);
        if (left >= 0 && s->row < s->rows) fprintf(s->out, ", %s left", ts_clock_text(left, text));
        fputc('\n', s->out);
    }
    fflush(s->out);
}

void ts_screen_batch_done(ts_screen *s, const ts_batch_end *end)
{
    double seconds = s->clock() - s->began;
    char spent[24];
    ts_draw_wipe(s);
    s->rows = s->row = 0;
    if (s->mode == TS_SCREEN_JSON) {
        cJSON *j = ts_draw_event("batch_done");
        cJSON_AddNumberToObject(j, "done", end->done);
        cJSON_AddNumberToObject(j, "failed", end->failed);
        cJSON_AddNumberToObject(j, "skipped", end->skipped);
        if (end->shared) {
            cJSON_AddNumberToObject(j, "others_done", end->others_done);
            cJSON_AddNumberToObject(j, "others_failed", end->others_failed);
        }
        cJSON_AddNumberToObject(j, "seconds", ts_draw_milliseconds(seconds));
        ts_draw_json(s, j);
        return;
    }
    ts_clock_text(seconds, spent);
    if (end->shared)
        ts_screen_note(s,
                       "%d done here, %d failed, %d skipped in %s; other workers: %d done, %d "
                       "failed",
                       end->done, end->failed, end->skipped, spent, end->others_done,
                       end->others_failed);
    else
        ts_screen_note(s, "%d done, %d failed, %d skipped in %s", end->done, end->failed,
                       end->skipped, spent);
}

/* ---- a bench ---- */
void ts_screen_bench(ts_screen *s, const ts_screen_plan *p)
{
    s->rows = 1;
    s->row = 0;
    s->batch_cost = p->seconds;
    s->batch_did = s->batch_spent = 0;
    if (s->mode != TS_SCREEN_JSON) return;
    cJSON *j = ts_draw_event("bench_begin");
    cJSON_AddNumberToObject(j, "policies", p->policies);
    cJSON_AddNumberToObject(j, "prompts", p->prompts);
    cJSON_AddNumberToObject(j, "turns", p->turns);
    if (p->seconds > 0)
        cJSON_AddNumberToObject(j, "expected_seconds", ts_draw_milliseconds(p->seconds));
    ts_draw_json(s, j);
}

void ts_screen_measure(ts_screen *s, const ts_screen_turn *t, double seconds)
{
    char place[TS_DRAW_PLACE];
    s->turn = *t;
    s->row = 1;
    s->row_cost = seconds;
    s->row_began = s->clock();
    s->phase = -1;
    s->cost[TS_PHASE_DECODE] = 0; /* it does not follow */
    if (s->mode != TS_SCREEN_LINES) return;
    fprintf(s->out, "%s: %s\n", ts_draw_place(s, place), t->policy);
    fflush(s->out);
}

void ts_screen_measured(ts_screen *s)
{
    s->batch_did += s->row_cost;
    s->batch_spent += s->clock() - s->row_began;
    s->row_cost = 0;
    s->row = 0;
}

void ts_screen_done(ts_screen *s, const ts_report *r, const ts_written *w)
{
    double seconds = s->clock() - s->began;
    char spent[24];
    if (s->mode == TS_SCREEN_NONE) return;
    if (s->mode != TS_SCREEN_JSON) {
        if (seconds < 10)
            ts_screen_note(s, "done in %.1f s", seconds);
        else
            ts_screen_note(s, "done in %s", ts_clock_text(seconds, spent));
        if (r->resumed) ts_screen_note(s, "of its steps %d came from the state file", r->resumed);
        return;
    }
    cJSON *j = ts_draw_event("done");
    cJSON_AddStringToObject(j, "output", w->output);
    if (w->n)
        cJSON_AddItemToObject(j, "paths",
                              cJSON_CreateStringArray((const char *const *)w->paths, w->n));
    if (w->frames) cJSON_AddNumberToObject(j, "frames", w->frames);
    if (w->bytes > 0) cJSON_AddNumberToObject(j, "bytes", w->bytes);
    if (s->written_w) {
        cJSON_AddNumberToObject(j, "written_width", (double)s->written_w);
        cJSON_AddNumberToObject(j, "written_height", (double)s->written_h);
    }
    cJSON_AddNumberToObject(j, "seconds", ts_draw_milliseconds(seconds));
    cJSON_AddNumberToObject(j, "text_seconds", ts_draw_milliseconds(r->text_seconds));
    cJSON_AddNumberToObject(j, "denoise_seconds", ts_draw_milliseconds(r->denoise_seconds));
    cJSON_AddNumberToObject(j, "decode_seconds", ts_draw_milliseconds(r->decode_seconds));
    cJSON_AddNumberToObject(j, "resumed", r->resumed);
    cJSON *a = cJSON_AddObjectToObject(j, "attention");
    cJSON_AddNumberToObject(a, "dense", (double)r->attention_dense);
    cJSON_AddNumberToObject(a, "searched", (double)r->attention_searched);
    cJSON_AddNumberToObject(a, "sparse", (double)r->attention_sparse);
    cJSON_AddNumberToObject(a, "kept", r->kept);
    cJSON_AddNumberToObject(a, "recall", r->recall);
    cJSON_AddNumberToObject(a, "search_seconds", ts_draw_milliseconds(r->search_seconds));
    cJSON_AddNumberToObject(a, "gain", r->attention_gain);
    cJSON_AddNumberToObject(a, "gain_measured", r->attention_gain_measured);
    ts_draw_json(s, j);
}

void ts_screen_error(ts_screen *s, int code, const char *said)
{
    char sentence[SENTENCE];
    ts_flags_reword(said, sentence, sizeof sentence);
    if (s->mode == TS_SCREEN_JSON) {
        cJSON *j = ts_draw_event("error");
        cJSON_AddNumberToObject(j, "code", code);
        cJSON_AddStringToObject(j, "message", sentence);
        ts_draw_json(s, j);
        return;
    }
    ts_draw_wipe(s);
    fprintf(s->out, "tessera: %s\n", sentence);
    fflush(s->out);
}
