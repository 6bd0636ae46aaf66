/* Palette and dithering.
 *
 * Colours: the counted colours are one box; the box and the plane across it that lower the squared
 * error most are split next (n1, n2 colours of sums s1, s2: by |s1|^2/n1 + |s2|^2/n2 - |s|^2/n),
 * until there are 255 boxes or every box is one colour; a box gives its mean (Wu, Efficient
 * statistical computations for optimal color quantization, 1991, on exact colours instead of 5 bits
 * a channel). Dithering: Floyd and Steinberg, 1976: what a pixel lost goes on to its neighbours:
 * 7/16 right, 3/16 5/16 1/16 below. */
#include "codecs/movie_palette.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLOURS = 255, TABLE = 1 << 24 };

typedef struct {
    uint8_t c[3];
    uint32_t n;
} colour;
typedef struct {
    double n, s[3];
} moment;
typedef struct {
    size_t first, count; /* in the list of colours */
    int axis, at;        /* the best split: c[axis] <= at */
    double gain;         /* 0: one colour */
    double mean[3];
} box;

struct ts_palette {
    uint32_t *counts;  /* [2^24] pixels of each colour; NULL once the palette is made */
    uint16_t *nearest; /* [2^24] 1 + the palette's index, 0: not asked yet */
    int colours;
    uint8_t rgb[COLOURS][3];
    uint32_t argb[COLOURS + 1];
    int *error; /* [2, w + 2, 3] */
    int error_w;
};

ts_status ts_palette_new(ts_err *err, ts_palette **out)
{
    ts_palette *p = calloc(1, sizeof *p);
    if (p) p->counts = calloc(TABLE, sizeof *p->counts);
    if (!p || !p->counts) {
        free(p);
        return ts_fail(err, TS_EMEMORY, "no memory to choose colours for a GIF");
    }
    *out = p;
    return TS_OK;
}

void ts_palette_free(ts_palette *p)
{
    if (!p) return;
    free(p->counts);
    free(p->nearest);
    free(p->error);
    free(p);
}

static uint32_t key_of(const uint8_t *c)
{
    return (uint32_t)c[0] << 16 | (uint32_t)c[1] << 8 | c[2];
}

void ts_palette_count(ts_palette *p, const uint8_t *rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) {
        uint32_t *n = &p->counts[key_of(rgb + 3 * i)];
        *n += *n < UINT32_MAX;
    }
}

static double compute_energy(const moment *m)
{
    return m->n > 0 ? (m->s[0] * m->s[0] + m->s[1] * m->s[1] + m->s[2] * m->s[2]) / m->n : 0;
}

/* Mean and best split of a box. */
static void measure_box(box *b, const colour *list)
{
    moment slice[3][256], all = {0};
    memset(slice, 0, sizeof slice);
    for (size_t i = b->first; i < b->first + b->count; i++)
        for (int a = 0; a < 3; a++) {
            moment *m = &slice[a][list[i].c[a]];
            m->n += list[i].n;
            for (int k = 0; k < 3; k++) m->s[k] += (double)list[i].n * list[i].c[k];
        }
    for (int v = 0; v < 256; v++) {
        all.n += slice[0][v].n;
        for (int k = 0; k < 3; k++) all.s[k] += slice[0][v].s[k];
    }
    for (int k = 0; k < 3; k++) b->mean[k] = all.s[k] / all.n;
    b->gain = 0;
    for (int a = 0; a < 3; a++) {
        moment low = {0};
        for (int v = 0; v < 255; v++) {
            if (slice[a][v].n == 0) continue;
            low.n += slice[a][v].n;
            for (int k = 0; k < 3; k++) low.s[k] += slice[a][v].s[k];
            moment high = {all.n - low.n,
                           {all.s[0] - low.s[0], all.s[1] - low.s[1], all.s[2] - low.s[2]}};
            double gain = high.n > 0
                              ? compute_energy(&low) + compute_energy(&high) - compute_energy(&all)
                              : 0;
            if (gain > b->gain) {
                b->gain = gain;
                b->axis = a;
                b->at = v;
            }
        }
    }
}

/* Splits `b` by its plane; the upper part goes to `upper`. */
static void split_box(box *b, box *upper, colour *list)
{
    size_t low = b->first, high = b->first + b->count;
    while (low < high) {
        if (list[low].c[b->axis] <= b->at) {
            low++;
        } else {
            colour t = list[low];
            list[low] = list[--high];
            list[high] = t;
        }
    }
    *upper = (box){.first = low, .count = b->first + b->count - low};
    b->count = low - b->first;
    measure_box(b, list);
    measure_box(upper, list);
}

static int choose_colours(box *boxes, colour *list, size_t n)
{
    int count = 1;
    boxes[0] = (box){.count = n};
    measure_box(&boxes[0], list);
    while (count < COLOURS) {
        box *best = boxes;
        for (box *b = boxes + 1; b < boxes + count; b++)
            if (b->gain > best->gain) best = b;
        if (best->gain <= 0) break;
        split_box(best, &boxes[count++], list);
    }
    return count;
}

ts_status ts_palette_make(ts_err *err, ts_palette *p)
{
    ts_status st = TS_OK;
    box boxes[COLOURS];
    size_t n = 0;
    for (size_t i = 0; i < TABLE; i++) n += p->counts[i] != 0;
    colour *list = malloc((n + 1) * sizeof *list);
    p->nearest = calloc(TABLE, sizeof *p->nearest);
    if (!list || !p->nearest)
        TRY(ts_fail(err, TS_EMEMORY, "no memory to choose colours for a GIF"));
    n = 0;
    for (uint32_t i = 0; i < TABLE; i++)
        if (p->counts[i])
            list[n++] = (colour){{(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}, p->counts[i]};
    if (n == 0) list[n++] = (colour){.n = 1};
    p->colours = choose_colours(boxes, list, n);
    for (int i = 0; i < COLOURS; i++) {
        for (int k = 0; k < 3; k++)
            p->rgb[i][k] = i < p->colours ? (uint8_t)lround(boxes[i].mean[k]) : 0;
        p->argb[i] = 0xff000000u | key_of(p->rgb[i]);
    }
    p->argb[COLOURS] = 0;
    free(p->counts);
    p->counts = NULL;
done:
    free(list);
    return st;
}

const uint32_t *ts_palette_colours(const ts_palette *p) { return p->argb; }

static int find_nearest(ts_palette *p, const uint8_t *c)
{
    uint16_t *known = &p->nearest[key_of(c)];
    int best = 0, least = INT32_MAX;
    if (*known) return *known - 1;
    for (int i = 0; i < p->colours; i++) {
        int r = c[0] - p->rgb[i][0], g = c[1] - p->rgb[i][1], b = c[2] - p->rgb[i][2],
            d = r * r + g * g + b * b;
        if (d < least) {
            least = d;
            best = i;
        }
    }
    *known = (uint16_t)(best + 1);
    return best;
}

ts_status ts_palette_dither(ts_err *err, ts_palette *p, int w, int h, const uint8_t *rgb,
                            uint8_t *out)
{
    size_t row = ((size_t)w + 2) * 3;
    if (w != p->error_w) {
        free(p->error);
        p->error_w = 0;
        p->error = malloc(2 * row * sizeof *p->error);
        if (!p->error) return ts_fail(err, TS_EMEMORY, "no memory to dither a GIF");
        p->error_w = w;
    }
    memset(p->error, 0, 2 * row * sizeof *p->error);
    for (int y = 0; y < h; y++) {
        /* one pixel of room on either side */
        int *here = p->error + (y & 1) * row + 3, *below = p->error + (~y & 1) * row + 3;
        memset(below - 3, 0, row * sizeof *below);
        for (int x = 0; x < w; x++) {
            uint8_t want[3];
            for (int k = 0; k < 3; k++) { /* errors are in 1/16; rounded to nearest */
                int v = rgb[((size_t)y * w + x) * 3 + k] + ((here[x * 3 + k] + 8) >> 4);
                /* no colour lies beyond these; the rest of the error is dropped */
                want[k] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
            }
            int index = find_nearest(p, want);
            out[(size_t)y * w + x] = (uint8_t)index;
            for (int k = 0; k < 3; k++) {
                int e = want[k] - p->rgb[index][k];
                here[(x + 1) * 3 + k] += 7 * e;
                below[(x - 1) * 3 + k] += 3 * e;
                below[x * 3 + k] += 5 * e;
                below[(x + 1) * 3 + k] += e;
            }
        }
    }
    return TS_OK;
}
