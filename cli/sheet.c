/* A contact sheet: a sink that puts all frames of a clip or pictures of a batch side by side into
 * one picture for another sink. */
#include "cli/sheet.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 8, MOST = 1 << 15 }; /* pixels between pictures; to a side of the sheet */

struct ts_sheet {
    ts_sink s; /* first: a ts_sink * is a ts_sheet * */
    ts_sink *to;
    int columns, rows, frames, w, h; /* w, h: of one */
    float *rgb;                      /* of all */
};

static ts_status pass_error(ts_sheet *t, ts_status st)
{
    if (st) memcpy(t->s.error, t->to->error, sizeof t->s.error);
    return st;
}

static int sheet_width(const ts_sheet *t) { return t->columns * (t->w + GAP) - GAP; }
static int sheet_height(const ts_sheet *t) { return t->rows * (t->h + GAP) - GAP; }

static int count_sheet_columns(int w, int h, int frames)
{
    int columns = (int)lround(ceil(sqrt((double)frames * h / w)));
    return columns > frames ? frames : columns;
}

void ts_sheet_size(int w, int h, int frames, long *width, long *height)
{
    int columns = count_sheet_columns(w, h, frames), rows = (frames + columns - 1) / columns;
    *width = (long)columns * (w + GAP) - GAP;
    *height = (long)rows * (h + GAP) - GAP;
}

void ts_sheet_place(int w, int h, int frames, int i, long *left, long *top)
{
    int columns = count_sheet_columns(w, h, frames);
    *left = (long)(i % columns) * (w + GAP);
    *top = (long)(i / columns) * (h + GAP);
}

ts_status ts_sheet_check(ts_err *err, int w, int h, int frames)
{
    long width, height;
    ts_sheet_size(w, h, frames, &width, &height);
    if (width <= MOST && height <= MOST) return TS_OK;
    return ts_fail(err, TS_EUSAGE,
                   "a sheet of %d pictures of %dx%d would be %ldx%ld, at most %d a side: ask for "
                   "fewer or smaller ones",
                   frames, w, h, width, height, MOST);
}

/* The metadata, which say that this is a sheet; malloc'd. NULL: none. */
static char *describe_sheet(const char *json)
{
    cJSON *j = json ? cJSON_Parse(json) : NULL;
    char *text = NULL;
    if (cJSON_IsObject(j)) {
        cJSON_AddTrueToObject(j, "grid");
        text = cJSON_PrintUnformatted(j);
    }
    cJSON_Delete(j);
    return text;
}

static ts_status open_sheet(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    ts_sheet *t = (ts_sheet *)s;
    ts_err err;
    long width, height;
    t->w = w;
    t->h = h;
    t->frames = frames;
    t->columns = count_sheet_columns(w, h, frames);
    t->rows = (frames + t->columns - 1) / t->columns;
    if (ts_sheet_check(&err, w, h, frames)) {
        snprintf(s->error, sizeof s->error, "%s", err.text);
        return err.code;
    }
    ts_sheet_size(w, h, frames, &width, &height);
    size_t n = (size_t)width * (size_t)height * 3;
    free(t->rgb);
    t->rgb = malloc(n * sizeof *t->rgb);
    if (!t->rgb) {
        snprintf(s->error, sizeof s->error, "no memory for a sheet of %ldx%ld", width, height);
        return TS_EMEMORY;
    }
    for (size_t i = 0; i < n; i++) t->rgb[i] = 1;
    char *own = describe_sheet(json);
    ts_status st = pass_error(t, t->to->open(t->to, (int)width, (int)height, 1, fps, own));
    free(own);
    return st;
}

static ts_status put_picture(ts_sink *s, const ts_frame *f)
{
    ts_sheet *t = (ts_sheet *)s;
    size_t row = (size_t)sheet_width(t) * 3;
    float *at = t->rgb + (size_t)(f->index / t->columns * (t->h + GAP)) * row +
                (size_t)(f->index % t->columns * (t->w + GAP)) * 3;
    for (int y = 0; y < t->h; y++)
        memcpy(at + (size_t)y * row, f->rgb + (size_t)y * (size_t)t->w * 3,
               (size_t)t->w * 3 * sizeof *at);
    return TS_OK;
}

static ts_status close_sheet(ts_sink *s)
{
    ts_sheet *t = (ts_sheet *)s;
    ts_frame whole = {.w = sheet_width(t), .h = sheet_height(t), .rgb = t->rgb};
    ts_status st = pass_error(t, t->to->frame(t->to, &whole));
    return st ? st : pass_error(t, t->to->close(t->to));
}

static void abort_sheet(ts_sink *s) { ((ts_sheet *)s)->to->abort(((ts_sheet *)s)->to); }

ts_sheet *ts_sheet_new(ts_sink *to)
{
    ts_sheet *t = calloc(1, sizeof *t);
    if (t)
        *t = (ts_sheet){.s = {.open = open_sheet,
                              .frame = put_picture,
                              .close = close_sheet,
                              .abort = abort_sheet},
                        .to = to};
    return t;
}

ts_sink *ts_sheet_sink(ts_sheet *t) { return &t->s; }

void ts_sheet_free(ts_sheet *t)
{
    if (!t) return;
    free(t->rgb);
    free(t);
}
