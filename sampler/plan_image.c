/* Plans as pictures: for every layer and branch one PNG, a head a tile, a block of queries a row, a
 * block of keys a column. plan-BRANCH-LAYER.png: blocks read are bright. recall-BRANCH-LAYER.png,
 * where scores were kept: how much weight the last search saw in each block, on a logarithmic
 * scale; what is read is green, what is lost is red. */
#include "sampler/run.h"

#include "attention/plan_file.h"
#include "codecs/png.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEAST = 96, MOST = 512, GAP = 2 }; /* side of a tile in pixels */
enum { MOST_HEADS = 4096, MOST_BLOCKS = 1 << 20 };
typedef struct {
    int A, nb, columns, side, w, h;
    const uint32_t *bits; /* [A, nb, words] */
    const float *score;   /* [A, nb, scored] or NULL */
    int scored;           /* nb, and blocks that hold text, which are not drawn */
} sheet;

static void set_colour(uint8_t *p, double v, const int from[3], const int to[3])
{
    for (int c = 0; c < 3; c++) p[c] = (uint8_t)lrint(from[c] + v * (to[c] - from[c]));
}

/* Share of cells read, and mean score, of the cells that pixel (x, y) of a tile stands for. */
static void average_cell(const sheet *s, int head, int y, int x, double *read, double *score)
{
    int p0 = y * s->nb / s->side, p1 = (y + 1) * s->nb / s->side, j0 = x * s->nb / s->side,
        j1 = (x + 1) * s->nb / s->side, n = 0;
    if (p1 == p0) p1++;
    if (j1 == j0) j1++;
    *read = *score = 0;
    for (int p = p0; p < p1; p++)
        for (int j = j0; j < j1; j++, n++) {
            long row = (long)head * s->nb + p;
            *read += s->bits[row * ts_plan_words(s->nb) + j / 32] >> j % 32 & 1;
            if (s->score) *score += s->score[row * s->scored + j];
        }
    *read /= n;
    *score /= n;
}

static ts_status draw_sheet(ts_ctx *ctx, const sheet *s, bool recall, const char *path)
{
    static const int night[3] = {24, 26, 34}, amber[3] = {255, 190, 80}, green[3] = {120, 230, 140},
                     red[3] = {255, 80, 70};
    uint8_t *rgb = calloc((size_t)s->w * s->h, 3);
    if (!rgb)
        return ts_fail(&ctx->err, TS_EMEMORY, "%s: no memory for a picture of %dx%d", path, s->w,
                       s->h);
    for (int a = 0; a < s->A; a++)
        for (int y = 0; y < s->side; y++)
            for (int x = 0; x < s->side; x++) {
                double read, score;
                average_cell(s, a, y, x, &read, &score);
                uint8_t *p = rgb + ((long)(a / s->columns * (s->side + GAP) + GAP + y) * s->w +
                                    a % s->columns * (s->side + GAP) + GAP + x) *
                                       3;
                /* a row's weight spread evenly: the middle */
                double level = (log2(score * s->scored / TS_BLOCK + 1e-9) + 5) / 10;
                if (!recall)
                    set_colour(p, read, night, amber);
                else
                    set_colour(p,
                               level < 0   ? 0
                               : level > 1 ? 1
                                           : level,
                               night, read >= 0.5 ? green : red);
            }
    ts_status st = ts_png_write(&ctx->err, path, s->w, s->h, rgb, &(ts_png_text){.name = path});
    free(rgb);
    return st;
}

/* Scores of the last search of a layer and branch, [A, nb, *columns]; NULL: none are there. */
static const float *last_scores(const ts_bag *bag, const char *branch, int layer, int A, int nb,
                                int *columns)
{
    char prefix[96];
    const float *found = NULL;
    int last = -1, n = snprintf(prefix, sizeof prefix, "wsum.%s.%d.", branch, layer);
    for (int i = 0; i < ts_bag_count(bag); i++) {
        const char *name = ts_bag_name(bag, i);
        ts_host h;
        ts_err err;
        if (strncmp(name, prefix, (size_t)n) || atoi(name + n) <= last ||
            ts_bag_get(&err, bag, name, TS_F32, 3, (long[]){A, nb, -1}, &h) || h.dim[2] < nb)
            continue;
        last = atoi(name + n);
        *columns = (int)h.dim[2];
        found = h.data;
    }
    return found;
}

static ts_status draw_layer(ts_ctx *ctx, const ts_bag *bag, const char *dir, const char *branch,
                            int layer, const ts_host *rows)
{
    ts_status st = TS_OK;
    char path[4096];
    sheet s = {.A = (int)rows->dim[0], .nb = (int)rows->dim[1] - 1};
    uint32_t *bits = NULL;
    if (rows->dim[0] < 1 || rows->dim[0] > MOST_HEADS || rows->dim[1] < 2 ||
        rows->dim[1] > MOST_BLOCKS)
        TRY(ts_fail(&ctx->err, TS_EMODEL,
                    "layer %d of branch %s: a plan of %ld heads and %ld blocks can not be drawn, "
                    "expected 1 to %d and 1 to %d",
                    layer, branch, rows->dim[0], rows->dim[1] - 1, MOST_HEADS, MOST_BLOCKS - 1));
    bits = malloc((size_t)s.A * (size_t)s.nb * (size_t)ts_plan_words(s.nb) * sizeof *bits);
    if (!bits)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "%s: no memory for a plan of %d heads", dir, s.A));
    TRY(ts_plan_get(&ctx->err, bag, dir, branch, layer, s.A, s.nb, bits));
    s.bits = bits;
    s.score = last_scores(bag, branch, layer, s.A, s.nb, &s.scored);
    s.side = s.nb < LEAST ? s.nb * ((LEAST + s.nb - 1) / s.nb) : s.nb < MOST ? s.nb : MOST;
    while (s.columns * s.columns < s.A) s.columns++;
    s.w = s.columns * (s.side + GAP) + GAP;
    s.h = (s.A + s.columns - 1) / s.columns * (s.side + GAP) + GAP;
    snprintf(path, sizeof path, "%s/plan-%s-%02d.png", dir, branch, layer);
    TRY(draw_sheet(ctx, &s, false, path));
    snprintf(path, sizeof path, "%s/recall-%s-%02d.png", dir, branch, layer);
    if (s.score) TRY(draw_sheet(ctx, &s, true, path));
done:
    free(bits);
    return st;
}

ts_status ts_plan_images(ts_ctx *ctx, const ts_bag *bag, const char *dir)
{
    ts_status st = TS_OK;
    char branch[32], part[8];
    int layer;
    ts_host rows;
    if (!bag || !dir)
        return ts_fail(&ctx->err, TS_EUSAGE, "ts_plan_images: no plans, or no folder");
    if (mkdir(dir, 0777) && access(dir, W_OK | X_OK))
        return ts_fail(&ctx->err, TS_EIO, "%s: can not make pictures of plans there", dir);
    for (int i = 0; i < ts_bag_count(bag); i++) {
        if (sscanf(ts_bag_name(bag, i), "plan.%31[^.].%d.%7s", branch, &layer, part) != 3 ||
            strcmp(part, "rows"))
            continue;
        TRY(ts_bag_get(&ctx->err, bag, ts_bag_name(bag, i), TS_I32, 2, (long[]){-1, -1}, &rows));
        TRY(draw_layer(ctx, bag, dir, branch, layer, &rows));
    }
done:
    return st;
}
