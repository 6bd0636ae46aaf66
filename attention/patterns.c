/* Fixed patterns: attention tile, sliding window, random. Everything in integers or double, so that
 * a plan is the same on every machine. */
#include "attention/patterns.h"

#include "backend/philox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

long ts_bits_count(const uint32_t *bits, long rows, int nb)
{
    long n = 0;
    for (long i = 0; i < rows * ts_plan_words(nb); i++) n += __builtin_popcount(bits[i]);
    return n;
}

bool ts_bits_valid(const uint32_t *bits, long rows, int nb)
{
    long words = ts_plan_words(nb);
    for (long r = 0; r < rows; r++, bits += words) {
        uint32_t any = 0;
        for (long i = 0; i < words; i++) any |= bits[i];
        if (!any || (nb % 32 && bits[words - 1] >> nb % 32)) return false;
    }
    return true;
}

static void set(uint32_t *row, long j) { row[j / 32] |= 1u << j % 32; }

/* ---- tile ---- */
/* of each block: its frames, and whether one of them sees all */
typedef struct {
    uint32_t *frames;
    bool *reference;
    long words;
} frame_sets;

static void collect(const ts_grid *g, const int32_t *at, int k, int block, frame_sets *s)
{
    int area = g->H * g->W;
    bool all = k <= 0 || k >= g->F;
    for (int i = 0; i < g->N; i++) {
        int frame = at[i] / area, b = i / block;
        set(s->frames + b * s->words, frame);
        bool ref = all;
        for (int m = 0; m < k && !ref; m++) ref = ((long)m * g->F + k - 1) / k == frame;
        s->reference[b] |= ref;
    }
}

static bool meet(const uint32_t *a, const uint32_t *b, long words)
{
    for (long i = 0; i < words; i++)
        if (a[i] & b[i]) return true;
    return false;
}

bool ts_pattern_tile(const ts_grid *g, const int32_t *at, int k, int block, uint32_t *bits)
{
    int nb = (g->N + block - 1) / block;
    long words = ts_plan_words(nb);
    frame_sets s = {.words = (g->F + 31) / 32};
    s.frames = calloc((size_t)(nb * s.words), sizeof *s.frames);
    s.reference = calloc((size_t)nb, sizeof *s.reference);
    bool ok = s.frames && s.reference;
    memset(bits, 0, (size_t)(nb * words) * sizeof *bits);
    if (ok) collect(g, at, k, block, &s);
    for (int p = 0; ok && p < nb; p++)
        for (int j = 0; j < nb; j++)
            if (s.reference[p] || s.reference[j] ||
                meet(s.frames + p * s.words, s.frames + j * s.words, s.words))
                set(bits + p * words, j);
    free(s.frames);
    free(s.reference);
    return ok;
}

/* ---- window and random: the least of a row ---- */
typedef struct {
    double far;
    int block;
} candidate;

static int nearer(const void *x, const void *y)
{
    const candidate *a = x, *b = y;
    return a->far < b->far ? -1 : a->far > b->far ? 1 : a->block - b->block;
}

static void take_least(candidate *c, long n, long k, uint32_t *row)
{
    qsort(c, (size_t)n, sizeof *c, nearer);
    for (long i = 0; i < k; i++) set(row, c[i].block);
}

typedef struct {
    double x[3];
} place;

static void centres(const ts_grid *g, const int32_t *at, place *c)
{
    for (int b = 0; b < g->nb; b++) {
        int first = b * TS_BLOCK, end = first + TS_BLOCK < g->N ? first + TS_BLOCK : g->N;
        long sum[3] = {0};
        for (int i = first; i < end; i++) {
            sum[0] += at[i] / (g->H * g->W);
            sum[1] += at[i] / g->W % g->H;
            sum[2] += at[i] % g->W;
        }
        for (int a = 0; a < 3; a++) c[b].x[a] = (double)sum[a] / (double)(end - first);
    }
}

bool ts_pattern_window(const ts_grid *g, const int32_t *at, double keep, uint32_t *bits)
{
    long nb = g->nb, words = ts_plan_words(g->nb), k = ts_plan_budget(keep, nb);
    double extent[3] = {g->F, g->H, g->W};
    place *c = malloc((size_t)nb * sizeof *c);
    candidate *row = malloc((size_t)nb * sizeof *row);
    bool ok = c && row;
    memset(bits, 0, (size_t)(nb * words) * sizeof *bits);
    if (ok) centres(g, at, c);
    for (long p = 0; ok && p < nb; p++) {
        for (int j = 0; j < nb; j++) {
            row[j] = (candidate){0, j};
            for (int a = 0; a < 3; a++)
                row[j].far = fmax(row[j].far, fabs(c[p].x[a] - c[j].x[a]) / extent[a]);
        }
        take_least(row, nb, k, bits + p * words);
    }
    free(c);
    free(row);
    return ok;
}

bool ts_pattern_random(int nb, double keep, uint64_t seed, int layer, int head, uint32_t *bits)
{
    long words = ts_plan_words(nb), k = ts_plan_budget(keep, nb);
    candidate *row = malloc((size_t)nb * sizeof *row);
    memset(bits, 0, (size_t)(nb * words) * sizeof *bits);
    for (int p = 0; row && p < nb; p++) {
        long n = 0;
        uint32_t w[4];
        for (int j = 0; j < nb; j++) {
            if (j % 4 == 0)
                ts_philox(seed, (uint64_t)p << 32 | (uint32_t)(j / 4),
                          (uint64_t)layer << 32 | (uint32_t)head, w);
            if (j != p) row[n++] = (candidate){w[j % 4], j};
        }
        set(bits + p * words, p);
        take_least(row, n, k - 1, bits + p * words);
    }
    bool ok = row != NULL;
    free(row);
    return ok;
}
