/* Fixed patterns: attention tile, sliding window, radial, random. Everything in integers or double,
 * so that a plan is the same on every machine. */
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

static void set_bit(uint32_t *row, long j) { row[j / 32] |= 1u << j % 32; }

/* Bits from..to - 1 of a row. */
static void set_bits(uint32_t *row, long from, long to)
{
    for (long j = from; j < to; j++) set_bit(row, j);
}

void ts_bits_widen(const uint32_t *chosen, int A, ts_sequence s, uint32_t *plan)
{
    long words = ts_plan_words(s.nb), few = ts_plan_words(s.nv);
    memset(plan, 0, (size_t)(A * s.nb * words) * sizeof *plan);
    for (long a = 0; a < A; a++)
        for (long p = 0; p < s.nb; p++) {
            uint32_t *row = plan + (a * s.nb + p) * words;
            if (p < s.nv) memcpy(row, chosen + (a * s.nv + p) * few, (size_t)few * sizeof *row);
            set_bits(row, p < s.nv ? s.nv : 0, s.nb);
        }
}

void ts_bits_narrow(const uint32_t *plan, int A, ts_sequence s, uint32_t *chosen)
{
    long words = ts_plan_words(s.nb), few = ts_plan_words(s.nv);
    for (long a = 0; a < A; a++)
        for (long p = 0; p < s.nv; p++) {
            uint32_t *row = chosen + (a * s.nv + p) * few;
            memcpy(row, plan + (a * s.nb + p) * words, (size_t)few * sizeof *row);
            if (s.nv % 32) row[few - 1] &= (1u << s.nv % 32) - 1;
        }
}

/* ---- tile ---- */
typedef struct {
    uint32_t *frames; /* [blocks, words]: those that a block has tokens of */
    int *first, *last;
    bool *reference; /* one of them sees all */
    long words;
} frame_sets;

/* of[F]: is it a reference frame? */
static void mark_references(int F, int k, bool *of)
{
    bool all = k <= 0 || k >= F;
    for (int f = 0; f < F; f++) of[f] = all;
    for (int m = 0; m < k && !all; m++) of[((long)m * F + k - 1) / k] = true;
}

static void collect_frames(const ts_grid *g, const int32_t *at, const bool *reference, int block,
                           int blocks, frame_sets *s)
{
    int area = g->H * g->W;
    for (int b = 0; b < blocks; b++) {
        s->first[b] = g->F;
        s->last[b] = 0;
        for (int i = b * block; i < (b + 1) * block && i < g->N; i++) {
            int frame = at[i] / area;
            set_bit(s->frames + b * s->words, frame);
            if (frame < s->first[b]) s->first[b] = frame;
            if (frame > s->last[b]) s->last[b] = frame;
            s->reference[b] |= reference[frame];
        }
    }
}

/* Have blocks p and j a frame in common? */
static bool share_frame(const frame_sets *s, long p, long j)
{
    int from = s->first[p] > s->first[j] ? s->first[p] : s->first[j],
        to = s->last[p] < s->last[j] ? s->last[p] : s->last[j];
    if (from > to) return false;
    for (long i = from / 32; i <= to / 32; i++)
        if (s->frames[p * s->words + i] & s->frames[j * s->words + i]) return true;
    return false;
}

static bool open_sets(const ts_grid *g, int blocks, frame_sets *s)
{
    *s = (frame_sets){.words = (g->F + 31) / 32};
    s->frames = calloc((size_t)(blocks * s->words), sizeof *s->frames);
    s->first = malloc((size_t)blocks * sizeof *s->first);
    s->last = malloc((size_t)blocks * sizeof *s->last);
    s->reference = calloc((size_t)blocks, sizeof *s->reference);
    return s->frames && s->first && s->last && s->reference;
}

static void close_sets(frame_sets *s)
{
    free(s->frames);
    free(s->first);
    free(s->last);
    free(s->reference);
}

bool ts_pattern_tile(const ts_grid *g, const int32_t *at, int k, int block, int blocks,
                     uint32_t *bits)
{
    long words = ts_plan_words(blocks);
    frame_sets s;
    bool *reference = malloc((size_t)g->F * sizeof *reference);
    bool ok = open_sets(g, blocks, &s) && reference;
    memset(bits, 0, (size_t)(blocks * words) * sizeof *bits);
    if (ok) mark_references(g->F, k, reference);
    if (ok) collect_frames(g, at, reference, block, blocks, &s);
    for (long p = 0; ok && p < blocks; p++)
        for (long j = p; j < blocks; j++)
            if (s.reference[p] || s.reference[j] || share_frame(&s, p, j)) {
                set_bit(bits + p * words, j);
                set_bit(bits + j * words, p);
            }
    free(reference);
    close_sets(&s);
    return ok;
}

/* ---- window, radial and random: the least of a row ---- */
typedef struct {
    double far;
    int block;
} candidate;

static bool is_nearer(const candidate *a, const candidate *b)
{
    return a->far < b->far || (a->far == b->far && a->block < b->block);
}

/* Reorders n candidates so that the k nearest stand first, in any order (Hoare's selection). */
static void put_nearest_first(candidate *c, long n, long k)
{
    long left = 0, right = n - 1;
    while (left < right) {
        candidate pivot = c[k - 1];
        long i = left, j = right;
        while (i <= j) {
            while (is_nearer(c + i, &pivot)) i++;
            while (is_nearer(&pivot, c + j)) j--;
            if (i > j) break;
            candidate t = c[i];
            c[i++] = c[j];
            c[j--] = t;
        }
        if (j < k - 1) left = i;
        if (i > k - 1) right = j;
    }
}

static void set_nearest(candidate *c, long n, long k, uint32_t *row)
{
    if (k > 0) put_nearest_first(c, n, k);
    for (long i = 0; i < k; i++) set_bit(row, c[i].block);
}

/* Where a block's tokens are on average. */
typedef struct {
    double x[3];  /* frame, row, column */
    double index; /* in raster order within a frame */
    bool begins;  /* one of them is of the first frame */
} place;

static void find_centres(const ts_grid *g, const int32_t *at, int blocks, place *c)
{
    int area = g->H * g->W;
    for (int b = 0; b < blocks; b++) {
        int first = b * TS_BLOCK, end = first + TS_BLOCK < g->N ? first + TS_BLOCK : g->N;
        long sum[3] = {0}, index = 0;
        c[b].begins = false;
        for (int i = first; i < end; i++) {
            sum[0] += at[i] / area;
            sum[1] += at[i] / g->W % g->H;
            sum[2] += at[i] % g->W;
            index += at[i] % area;
            c[b].begins |= at[i] < area;
        }
        for (int a = 0; a < 3; a++) c[b].x[a] = (double)sum[a] / (double)(end - first);
        c[b].index = (double)index / (double)(end - first);
    }
}

typedef double distance(const ts_grid *, const place *blocks, int p, int j);

/* Each row's budget of the nearest. */
static bool read_nearest(const ts_grid *g, const int32_t *at, double keep, int blocks,
                         distance *between, uint32_t *bits)
{
    long nb = blocks, words = ts_plan_words(blocks), k = ts_plan_budget(keep, nb);
    place *c = malloc((size_t)nb * sizeof *c);
    candidate *row = malloc((size_t)nb * sizeof *row);
    bool ok = c && row;
    memset(bits, 0, (size_t)(nb * words) * sizeof *bits);
    if (ok) find_centres(g, at, blocks, c);
    for (int p = 0; ok && p < nb; p++) {
        for (int j = 0; j < nb; j++) row[j] = (candidate){between(g, c, p, j), j};
        set_nearest(row, nb, k, bits + p * words);
    }
    free(c);
    free(row);
    return ok;
}

static double window_distance(const ts_grid *g, const place *c, int p, int j)
{
    double extent[3] = {g->F, g->H, g->W}, far = 0;
    for (int a = 0; a < 3; a++) far = fmax(far, fabs(c[p].x[a] - c[j].x[a]) / extent[a]);
    return far;
}

bool ts_pattern_window(const ts_grid *g, const int32_t *at, double keep, int blocks, uint32_t *bits)
{
    return read_nearest(g, at, keep, blocks, window_distance, bits);
}

static double radial_distance(const ts_grid *g, const place *c, int p, int j)
{
    if (p == j) return -2;
    if (g->F > 1 && c[j].begins) return -1;
    double frames = fmax(fabs(c[p].x[0] - c[j].x[0]), 1);
    return ldexp(fabs(c[p].index - c[j].index) + 1, ilogb(frames)) / (g->H * g->W);
}

bool ts_pattern_radial(const ts_grid *g, const int32_t *at, double keep, int blocks, uint32_t *bits)
{
    return read_nearest(g, at, keep, blocks, radial_distance, bits);
}

bool ts_pattern_svg(const ts_grid *g, const int32_t *at, int nv, int nb, float *scores)
{
    size_t all = (size_t)nb * (size_t)nb;
    place *c = malloc((size_t)nv * sizeof *c);
    memset(scores, 0, 2 * all * sizeof *scores);
    if (c) find_centres(g, at, nv, c);
    for (size_t p = 0; c && p < (size_t)nv; p++)
        for (size_t j = 0; j < (size_t)nv; j++) {
            double frames = c[p].x[0] - c[j].x[0], places = c[p].index - c[j].index;
            float *to = scores + p * (size_t)nb + j;
            to[0] = (float)-fabs(frames * g->H * g->W + places);
            to[all] = (float)-fabs(places * g->F + frames);
        }
    bool ok = c != NULL;
    free(c);
    return ok;
}

/* The fewest reference frames with which frame f is one. */
static int level_of_frame(int F, int f)
{
    int k = 1;
    bool is = false;
    for (; k < F; k++) {
        for (int m = 0; m < k && !is; m++) is = ((long)m * F + k - 1) / k == f;
        if (is) break;
    }
    return k;
}

/* level [nv]: the least of a block's frames. */
static bool find_levels(const ts_grid *g, const frame_sets *s, int nv, int *level)
{
    int *of = malloc((size_t)g->F * sizeof *of);
    if (!of) return false;
    for (int f = 0; f < g->F; f++) of[f] = level_of_frame(g->F, f);
    for (int b = 0; b < nv; b++) {
        level[b] = g->F;
        for (int f = s->first[b]; f <= s->last[b]; f++)
            if (s->frames[b * s->words + f / 32] >> f % 32 & 1 && of[f] < level[b])
                level[b] = of[f];
    }
    free(of);
    return true;
}

bool ts_pattern_near(const ts_grid *g, const int32_t *at, int nv, int nb, float *scores)
{
    size_t all = (size_t)nb * (size_t)nb;
    frame_sets s;
    bool *none = calloc((size_t)g->F, sizeof *none);
    place *c = malloc((size_t)nv * sizeof *c);
    int *level = malloc((size_t)nv * sizeof *level);
    bool ok = open_sets(g, nv, &s) && none && c && level;
    memset(scores, 0, 2 * all * sizeof *scores);
    if (ok) {
        find_centres(g, at, nv, c);
        collect_frames(g, at, none, TS_BLOCK, nv, &s);
        ok = find_levels(g, &s, nv, level);
    }
    for (int p = 0; ok && p < nv; p++)
        for (int j = 0; j < nv; j++) {
            float *to = scores + (size_t)p * (size_t)nb + (size_t)j;
            double places = fabs(c[p].index - c[j].index) / (g->H * g->W);
            to[0] = (float)-window_distance(g, c, p, j);
            to[all] = (float)-(places + (share_frame(&s, p, j) ? 0 : level[j]));
        }
    close_sets(&s);
    free(none);
    free(c);
    free(level);
    return ok;
}

bool ts_pattern_random(int blocks, double keep, uint64_t seed, int layer, int head, uint32_t *bits)
{
    long words = ts_plan_words(blocks), k = ts_plan_budget(keep, blocks);
    candidate *row = malloc((size_t)blocks * sizeof *row);
    memset(bits, 0, (size_t)(blocks * words) * sizeof *bits);
    for (int p = 0; row && p < blocks; p++) {
        long n = 0;
        uint32_t w[4];
        for (int j = 0; j < blocks; j++) {
            if (j % 4 == 0)
                ts_philox(seed, (uint64_t)p << 32 | (uint32_t)(j / 4),
                          (uint64_t)layer << 32 | (uint32_t)head, w);
            if (j != p) row[n++] = (candidate){w[j % 4], j};
        }
        set_bit(bits + p * words, p);
        set_nearest(row, n, k - 1, bits + p * words);
    }
    bool ok = row != NULL;
    free(row);
    return ok;
}
