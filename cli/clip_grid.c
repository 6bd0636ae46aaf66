/* The grid of generate --count N --grid, of a model that makes its clips in turn: all are kept
 * until the last is there, since a frame of the file has one of each. */
#include "cli/clip_grid.h"

#include "cli/sheet.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ts_clip_grid {
    ts_sink s; /* first: a ts_sink * is a ts_clip_grid * */
    int clips, full;
    int w, h, frames; /* of each */
    double fps;
    char *json;    /* of the first */
    uint8_t **rgb; /* of each [frames, h, w, 3] */
};

static size_t count_bytes(const ts_clip_grid *g)
{
    return ts_clip_grid_bytes(1, g->frames, g->w, g->h);
}

static ts_status say_grid(ts_sink *s, ts_status st, const char *what)
{
    snprintf(s->error, sizeof s->error, "a grid of clips: %s", what);
    return st;
}

static ts_status open_clip(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    ts_clip_grid *g = (ts_clip_grid *)s;
    if (g->full && (w != g->w || h != g->h || frames != g->frames))
        return say_grid(s, TS_ESHAPE, "one is of another size");
    g->w = w;
    g->h = h;
    g->frames = frames;
    g->fps = fps;
    if (!g->full && json && !g->json && !(g->json = strdup(json)))
        return say_grid(s, TS_EMEMORY, "no memory for the metadata");
    free(g->rgb[g->full]);
    g->rgb[g->full] = malloc(count_bytes(g));
    return g->rgb[g->full] ? TS_OK : say_grid(s, TS_EMEMORY, "no memory for another one");
}

static ts_status put_clip_frame(ts_sink *s, const ts_frame *f)
{
    ts_clip_grid *g = (ts_clip_grid *)s;
    size_t n = (size_t)g->w * (size_t)g->h * 3;
    uint8_t *to = g->rgb[g->full] + n * (size_t)f->index;
    for (size_t i = 0; i < n; i++) {
        float v = f->rgb[i] > 0 ? f->rgb[i] : 0; /* NaN too */
        to[i] = (uint8_t)lrintf(255 * (v < 1 ? v : 1));
    }
    return TS_OK;
}

static ts_status close_clip(ts_sink *s)
{
    ((ts_clip_grid *)s)->full++;
    return TS_OK;
}

static void abort_clip(ts_sink *s) { (void)s; }

ts_clip_grid *ts_clip_grid_new(int clips)
{
    ts_clip_grid *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    *g = (ts_clip_grid){
        .s = {.open = open_clip, .frame = put_clip_frame, .close = close_clip, .abort = abort_clip},
        .clips = clips,
        .rgb = calloc((size_t)clips, sizeof *g->rgb)};
    if (g->rgb) return g;
    free(g);
    return NULL;
}

ts_sink *ts_clip_grid_sink(ts_clip_grid *g) { return &g->s; }

bool ts_clip_grid_is_full(const ts_clip_grid *g) { return g->full == g->clips; }

size_t ts_clip_grid_bytes(int clips, int frames, int w, int h)
{
    return (size_t)clips * (size_t)frames * (size_t)w * (size_t)h * 3;
}

void ts_clip_grid_free(ts_clip_grid *g)
{
    if (!g) return;
    for (int i = 0; i < g->clips; i++) free(g->rgb[i]);
    free(g->rgb);
    free(g->json);
    free(g);
}

/* malloc'd; NULL: none */
static char *describe_grid(const ts_clip_grid *g)
{
    cJSON *j = g->json ? cJSON_Parse(g->json) : NULL;
    char *text = NULL;
    if (cJSON_IsObject(j)) {
        cJSON_AddTrueToObject(j, "grid");
        cJSON_AddNumberToObject(j, "count", g->clips);
        text = cJSON_PrintUnformatted(j);
    }
    cJSON_Delete(j);
    return text;
}

/* Frame `index` of all clips into rgb [height, width, 3], which is white between them. */
static void compose_frame(const ts_clip_grid *g, int index, float *rgb, long width)
{
    size_t row = (size_t)g->w * 3, frame = row * (size_t)g->h;
    for (int i = 0; i < g->clips; i++) {
        const uint8_t *from = g->rgb[i] + frame * (size_t)index;
        long left, top;
        ts_sheet_place(g->w, g->h, g->clips, i, &left, &top);
        for (int y = 0; y < g->h; y++) {
            float *to = rgb + ((top + y) * width + left) * 3;
            for (size_t x = 0; x < row; x++) to[x] = (float)*from++ / 255;
        }
    }
}

ts_status ts_clip_grid_write(const ts_clip_grid *g, ts_sink *to)
{
    ts_status st = TS_OK;
    long width, height;
    char *json = describe_grid(g);
    ts_sheet_size(g->w, g->h, g->clips, &width, &height);
    size_t n = (size_t)width * (size_t)height * 3;
    float *rgb = malloc(n * sizeof *rgb);
    if (!rgb) TRY(say_grid(to, TS_EMEMORY, "no memory for a frame of all"));
    for (size_t i = 0; i < n; i++) rgb[i] = 1;
    TRY(to->open(to, (int)width, (int)height, g->frames, g->fps, json));
    for (int i = 0; i < g->frames; i++) {
        compose_frame(g, i, rgb, width);
        const ts_frame f = {.w = (int)width, .h = (int)height, .index = i, .rgb = rgb};
        TRY(to->frame(to, &f));
    }
    TRY(to->close(to));
done:
    free(rgb);
    free(json);
    return st;
}
