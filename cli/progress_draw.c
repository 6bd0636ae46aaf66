/* What a screen shows of a run's events: a bar, lines, JSON. When it shows them is progress.c's. */
#include "cli/progress_draw.h"

#include "backend/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static const char *const doing[] = {"encoding text", "denoising", "decoding", "measuring"};
/* NULL: hundredths, shown as the share alone */
static const char *const unit[] = {"prompt", "step", "frame", NULL};
static const char *const key[] = {"text", "denoise", "decode", "bench"};

void ts_draw_json(ts_screen *s, cJSON *j)
{
    char *text = ts_utf8_repair_own(cJSON_PrintUnformatted(j)); /* names of files are bytes */
    cJSON_Delete(j);
    if (text) fprintf(s->out, "%s\n", text);
    free(text);
    fflush(s->out);
}

cJSON *ts_draw_event(const char *name)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "event", name);
    return j;
}

double ts_draw_milliseconds(double seconds) { return round(seconds * 1000) / 1000; }

void ts_draw_wipe(ts_screen *s)
{
    if (s->drawn) fputs(s->over ? "\r\033[K\033[A\r\033[K" : "\r\033[K", s->out);
    s->drawn = s->over = false;
}

static int count_columns(const ts_screen *s)
{
    struct winsize w;
    if (s->columns) return s->columns;
    return ioctl(fileno(s->out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

/* "row 3/8", or of a bench "prompt 1/2, turn 2/3". */
const char *ts_draw_place(const ts_screen *s, char out[TS_DRAW_PLACE])
{
    const ts_screen_turn *t = &s->turn;
    int n = 0;
    if (!t->policy) {
        snprintf(out, TS_DRAW_PLACE, "row %d/%d", s->row, s->rows);
        return out;
    }
    if (t->prompts) n = snprintf(out, TS_DRAW_PLACE, "prompt %d/%d, ", t->prompt, t->prompts);
    if (t->turn)
        snprintf(out + n, (size_t)(TS_DRAW_PLACE - n), "turn %d/%d", t->turn, t->turns);
    else
        snprintf(out + n, (size_t)(TS_DRAW_PLACE - n), "comparing");
    return out;
}

/* The line of the batch or bench, above that of what is at work. */
static void batch_bar_text(const ts_screen *s, double now, char *line, int room)
{
    char left[24];
    char place[TS_DRAW_PLACE];
    const char *name = s->turn.policy ? s->turn.policy : s->row_output;
    double rest = ts_screen_batch_left(s, now);
    int n = snprintf(line, (size_t)room + 1, "%s", ts_draw_place(s, place));
    if (rest >= 0 && n < room)
        n += snprintf(line + n, (size_t)(room - n) + 1, ", %s left", ts_clock_text(rest, left));
    if (n + 2 < room) snprintf(line + n, (size_t)(room - n) + 1, ": %s", name ? name : "");
}

/* "denoising  5/50 ": as wide at every step. Before the first of them weights are brought. */
static void head_text(const ts_event *e, char *out, size_t size)
{
    char last[16];
    int digits = snprintf(last, sizeof last, "%d", e->steps);
    if (e->step == 0 && e->layers == 0 && e->phase != TS_PHASE_BENCH)
        snprintf(out, size, "%s: loading weights ", doing[e->phase]);
    else if (unit[e->phase])
        snprintf(out, size, "%s %*d/%d ", doing[e->phase], digits, e->step, e->steps);
    else
        snprintf(out, size, "%s ", doing[e->phase]);
}

/* What stands behind the bar, columns of fixed widths, what matters first; `detail` of them: share
 * and time left, time spent, seconds a step, layer. */
static int tail_text(const ts_screen *s, const ts_event *e, double now, int detail, char *out,
                     int size)
{
    double rest = ts_screen_left(s, now), spent = now - s->phase_began,
           steps = (s->share - s->first) * e->steps, pace = steps > 0 ? spent / steps : 0;
    char text[24];
    int n = snprintf(out, (size_t)size, " %3.0f%% %7s left", floor(s->share * 100),
                     rest >= 0 ? ts_clock_text(rest, text) : "-:--");
    if (detail > 0) n += snprintf(out + n, (size_t)(size - n), " %7s", ts_clock_text(spent, text));
    if (detail > 1 && unit[e->phase] && pace > 0)
        n += snprintf(out + n, (size_t)(size - n), " %6.*f s/%s",
                      pace < 10     ? 2
                      : pace < 1000 ? 1
                                    : 0,
                      pace, unit[e->phase]);
    else if (detail > 1 && unit[e->phase])
        n += snprintf(out + n, (size_t)(size - n), " %6s s/%s", "-", unit[e->phase]);
    if (detail > 2 && s->layers) {
        int digits = snprintf(text, sizeof text, "%d", s->layers);
        if (e->layers)
            n += snprintf(out + n, (size_t)(size - n), " layer %*d/%d", digits, e->layer,
                          e->layers);
        else
            n += snprintf(out + n, (size_t)(size - n), " layer %*s/%d", digits, "-", s->layers);
    }
    return n;
}

/* One line, as much of it as `room` columns hold: the bar goes last. */
static void bar_text(const ts_screen *s, const ts_event *e, double now, char *line, int room)
{
    enum { MOST = 40, LEAST = 10, DETAILS = 3 };
    char tail[160], head[96], cells[MOST + 1];
    int n, bar, detail = DETAILS;
    head_text(e, head, sizeof head);
    do {
        n = tail_text(s, e, now, detail, tail, sizeof tail);
        bar = room - (int)strlen(head) - n - 2;
    } while (bar < LEAST && detail-- > 0);
    if (bar < 5) {
        bool fits = (int)strlen(head) + n - 1 <= room;
        snprintf(line, (size_t)room + 1, "%s%s", fits ? head : tail + 1, fits ? tail + 1 : "");
        return;
    }
    if (bar > MOST) bar = MOST;
    int full = (int)(s->share * bar);
    memset(cells, '#', (size_t)full);
    memset(cells + full, '.', (size_t)(bar - full));
    cells[bar] = 0;
    snprintf(line, (size_t)room + 1, "%s[%s]%s", head, cells, tail);
}

/* One write a drawing, and never the last column: nothing flickers or wraps. */
void ts_draw_bar(ts_screen *s, const ts_event *e, double now)
{
    char line[512], over[128];
    int room = count_columns(s) - 1;
    if (room > (int)sizeof line - 1) room = sizeof line - 1;
    bar_text(s, e, now, line, room);
    if (s->rows && s->row) {
        batch_bar_text(s, now, over, room < (int)sizeof over ? room : (int)sizeof over - 1);
        fprintf(s->out, "%s\r%s\033[K\n\r%s\033[K", s->over ? "\033[A" : "", over, line);
        s->over = true;
    } else {
        fprintf(s->out, "\r%s\033[K", line);
    }
    fflush(s->out);
    s->drawn = true;
}

void ts_draw_line(ts_screen *s, const ts_event *e, double now)
{
    char spent[24], left[24], place[TS_DRAW_PLACE];
    double rest = ts_screen_left(s, now);
    if (s->rows && s->row) fprintf(s->out, "%s: ", ts_draw_place(s, place));
    if (s->turn.policy) fprintf(s->out, "%s: ", s->turn.policy);
    fprintf(s->out, "%s: ", doing[e->phase]);
    if (unit[e->phase]) fprintf(s->out, "%s %d of %d, ", unit[e->phase], e->step, e->steps);
    fprintf(s->out, "%.0f%%, %s", floor(s->share * 100),
            ts_clock_text(now - s->phase_began, spent));
    if (rest >= 0) fprintf(s->out, ", %s left", ts_clock_text(rest, left));
    rest = ts_screen_batch_left(s, now);
    if (rest >= 0)
        fprintf(s->out, ", %s of the %s", ts_clock_text(rest, left),
                s->turn.policy ? "bench" : "batch");
    fputc('\n', s->out);
    fflush(s->out);
}

/* Where in a batch or bench. */
static void add_place(cJSON *j, const ts_screen *s, double now)
{
    const ts_screen_turn *t = &s->turn;
    double rest = ts_screen_batch_left(s, now);
    if (t->policy) {
        cJSON_AddStringToObject(j, "policy", t->policy);
        if (t->prompts) {
            cJSON_AddNumberToObject(j, "prompt", t->prompt);
            cJSON_AddNumberToObject(j, "prompts", t->prompts);
        }
        cJSON_AddNumberToObject(j, "turn", t->turn);
        cJSON_AddNumberToObject(j, "turns", t->turns);
    } else {
        cJSON_AddNumberToObject(j, "row", s->row);
        cJSON_AddNumberToObject(j, "rows", s->rows);
    }
    cJSON *left = rest < 0 ? cJSON_CreateNull() : cJSON_CreateNumber(ts_draw_milliseconds(rest));
    cJSON_AddItemToObject(j, t->policy ? "bench_eta" : "batch_eta", left);
}

void ts_draw_progress(ts_screen *s, const ts_event *e, double now)
{
    double rest = ts_screen_left(s, now);
    cJSON *j = ts_draw_event("progress");
    cJSON_AddStringToObject(j, "phase", key[e->phase]);
    cJSON_AddNumberToObject(j, "step", e->step);
    cJSON_AddNumberToObject(j, "steps", e->steps);
    cJSON_AddNumberToObject(j, "layer", e->layer);
    cJSON_AddNumberToObject(j, "layers", e->layers);
    cJSON_AddNumberToObject(j, "seconds", ts_draw_milliseconds(now - s->phase_began));
    if (rest < 0)
        cJSON_AddNullToObject(j, "eta");
    else
        cJSON_AddNumberToObject(j, "eta", ts_draw_milliseconds(rest));
    if (s->rows && s->row) add_place(j, s, now);
    ts_draw_json(s, j);
}

void ts_draw_end(ts_screen *s, const ts_event *e, double now)
{
    char spent[24];
    double t = now - s->phase_began;
    ts_draw_wipe(s);
    if (t < 10)
        snprintf(spent, sizeof spent, "%.1f s", t);
    else
        ts_clock_text(t, spent);
    if (unit[e->phase])
        fprintf(s->out, "%s: %d %s%s in %s\n", doing[e->phase], e->steps, unit[e->phase],
                e->steps == 1 ? "" : "s", spent);
    else
        fprintf(s->out, "%s: %s\n", doing[e->phase], spent);
    fflush(s->out);
}

void ts_draw_begin(ts_screen *s, const ts_event *e)
{
    if (e->phase == TS_PHASE_TEXT || !unit[e->phase]) return;
    fprintf(s->out, "%s: %d %s%s\n", doing[e->phase], e->steps, unit[e->phase],
            e->steps == 1 ? "" : "s");
    fflush(s->out);
}
