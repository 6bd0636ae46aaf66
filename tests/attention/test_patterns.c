/* Orders and patterns against their definitions, spelled out token by token; plans in bags and the
 * files that can be wrong. */
#include "attention/patterns.h"
#include "attention/plan_file.h"
#include "backend/philox.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int shapes[][3] = {{1, 5, 13}, {1, 16, 24}, {1, 17, 30}, {2, 3, 5},
                                {3, 8, 11}, {4, 4, 4},   {5, 6, 10},  {8, 6, 9},
                                {9, 5, 7},  {7, 13, 3},  {33, 2, 3},  {40, 3, 5}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct {
    ts_grid g;
    int32_t *at;
} ordered;

static ordered order_of(int shape, ts_order o)
{
    ordered x = {ts_grid_of(shapes[shape][0], shapes[shape][1], shapes[shape][2]), NULL};
    x.at = malloc((size_t)x.g.N * sizeof *x.at);
    ts_grid_order(&x.g, o, x.at);
    return x;
}

static bool has(const uint32_t *bits, int nb, int p, int j)
{
    return bits[p * ts_plan_words(nb) + j / 32] >> j % 32 & 1;
}

static uint32_t *room(int A, int nb)
{
    size_t n = (size_t)A * (size_t)nb * (size_t)ts_plan_words(nb);
    uint32_t *bits = malloc(n * sizeof *bits);
    memset(bits, 0xa5, n * sizeof *bits); /* what was there before must not matter */
    return bits;
}

static void no_strays(const uint32_t *bits, int rows, int nb)
{
    ck_assert(ts_bits_valid(bits, rows, nb));
    long n = 0;
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < nb; j++) n += has(bits, nb, r, j);
    ck_assert_int_eq(ts_bits_count(bits, rows, nb), n);
}

/* ---- orders ---- */
typedef struct {
    int key[6], id;
} sorted;

static int by_key(const void *x, const void *y)
{
    const sorted *a = x, *b = y;
    for (int i = 0; i < 6; i++)
        if (a->key[i] != b->key[i]) return a->key[i] - b->key[i];
    return 0;
}

START_TEST(tile_order)
{
    ordered x = order_of(_i, TS_TILE_ORDER);
    sorted *s = malloc((size_t)x.g.N * sizeof *s);
    for (int i = 0; i < x.g.N; i++) {
        int t = i / (x.g.H * x.g.W), y = i / x.g.W % x.g.H, c = i % x.g.W;
        if (x.g.F > 1)
            s[i] = (sorted){{t / 4, y / 4, c / 4, t % 4, y % 4, c % 4}, i};
        else
            s[i] = (sorted){{t, y / 8, c / 8, y % 8, c % 8, 0}, i};
    }
    qsort(s, (size_t)x.g.N, sizeof *s, by_key);
    for (int i = 0; i < x.g.N; i++)
        ck_assert_msg(x.at[i] == s[i].id, "place %d of %dx%dx%d: token %d, expected %d", i, x.g.F,
                      x.g.H, x.g.W, x.at[i], s[i].id);
    free(s);
    free(x.at);
}
END_TEST

START_TEST(raster_order)
{
    ordered x = order_of(_i, TS_RASTER);
    for (int i = 0; i < x.g.N; i++) ck_assert_int_eq(x.at[i], i);
    free(x.at);
}
END_TEST

START_TEST(order_names)
{
    ck_assert_str_eq(ts_order_name(TS_RASTER), "raster");
    ck_assert_str_eq(ts_order_name(TS_TILE_ORDER), "tile");
}
END_TEST

/* ---- tile ---- */
static bool is_reference(int frame, int F, int k)
{
    for (int m = 0; m < k; m++)
        if (frame == (int)ceil((double)m * F / k)) return true;
    return false;
}

static void check_tile(const ordered *x, int k, int block)
{
    int nb = (x->g.N + block - 1) / block, area = x->g.H * x->g.W;
    uint32_t *bits = room(1, nb);
    char *want = calloc((size_t)nb * (size_t)nb, 1), *reference = calloc((size_t)x->g.F, 1);
    for (int f = 0; f < x->g.F; f++) reference[f] = k == 0 || is_reference(f, x->g.F, k);
    for (int i = 0; i < x->g.N; i++)
        for (int j = 0; j < x->g.N; j++) {
            int a = x->at[i] / area, b = x->at[j] / area;
            if (a == b || reference[a] || reference[b]) want[i / block * nb + j / block] = 1;
        }
    ck_assert(ts_pattern_tile(&x->g, x->at, k, block, nb, bits));
    no_strays(bits, nb, nb);
    for (int p = 0; p < nb; p++)
        for (int j = 0; j < nb; j++)
            ck_assert_msg(has(bits, nb, p, j) == want[p * nb + j],
                          "%dx%dx%d, k %d, blocks of %d: %d of row %d is %d", x->g.F, x->g.H,
                          x->g.W, k, block, j, p, has(bits, nb, p, j));
    free(bits);
    free(want);
    free(reference);
}

START_TEST(tile)
{
    for (int o = 0; o < 2; o++) {
        ordered x = order_of(_i, (ts_order)o);
        for (int k = 0; k <= x.g.F + 1; k++) {
            check_tile(&x, k, TS_BLOCK);
            check_tile(&x, k, 16);
        }
        free(x.at);
    }
}
END_TEST

/* Everything is read with k of 0, of F, and beyond. */
START_TEST(tile_full)
{
    ordered x = order_of(7, TS_RASTER); /* 8 frames */
    uint32_t *bits = room(1, x.g.nb);
    const int ks[] = {0, 8, 9, 1000000};
    for (int i = 0; i < 4; i++) {
        ck_assert(ts_pattern_tile(&x.g, x.at, ks[i], TS_BLOCK, x.g.nb, bits));
        ck_assert_int_eq(ts_bits_count(bits, x.g.nb, x.g.nb), (long)x.g.nb * x.g.nb);
    }
    free(bits);
    free(x.at);
}
END_TEST

/* arXiv 2502.06155, Table 1: 29 and 93 frames of 720p, 3600 tokens to a latent frame, blocks of
 * 128. */
static const struct {
    int F, k;
    double sparsity;
} published[] = {{8, 4, 17.60},  {8, 3, 29.88},  {8, 2, 45.47},  {8, 1, 64.38}, {24, 12, 21.51},
                 {24, 8, 40.30}, {24, 6, 51.88}, {24, 4, 64.98}, {24, 3, 72.05}};

START_TEST(nine_sparsities)
{
    ts_grid g = ts_grid_of(published[_i].F, 45, 80);
    enum { BLOCK = 128 };
    int nb = (g.N + BLOCK - 1) / BLOCK;
    int32_t *at = malloc((size_t)g.N * sizeof *at);
    uint32_t *bits = room(1, nb);
    ts_grid_order(&g, TS_RASTER, at);
    ck_assert(ts_pattern_tile(&g, at, published[_i].k, BLOCK, nb, bits));
    double sparsity = 100 * (1 - (double)ts_bits_count(bits, nb, nb) / ((double)nb * nb));
    ck_assert_msg(round(sparsity * 100) == round(published[_i].sparsity * 100),
                  "(%d:%d): %.4f, expected %.2f", published[_i].k, g.F - published[_i].k, sparsity,
                  published[_i].sparsity);
    free(at);
    free(bits);
}
END_TEST

/* ---- window and radial ---- */
static double *centres(const ordered *x)
{
    double *c = malloc((size_t)(3 * x->g.nb) * sizeof *c);
    for (int b = 0; b < x->g.nb; b++) {
        double sum[3] = {0}, n = 0;
        for (int i = b * TS_BLOCK; i < x->g.N && i < (b + 1) * TS_BLOCK; i++, n++) {
            sum[0] += x->at[i] / (x->g.H * x->g.W);
            sum[1] += x->at[i] / x->g.W % x->g.H;
            sum[2] += x->at[i] % x->g.W;
        }
        for (int a = 0; a < 3; a++) c[3 * b + a] = sum[a] / n;
    }
    return c;
}

static double distance(const ordered *x, const double *c, int p, int j)
{
    const double extent[3] = {x->g.F, x->g.H, x->g.W};
    double far = 0;
    for (int a = 0; a < 3; a++) {
        double d = fabs(c[3 * p + a] - c[3 * j + a]) / extent[a];
        if (d > far) far = d;
    }
    return far;
}

/* From the definition, token by token: frames apart, places of a frame apart, both on average. */
static double radial_distance(const ordered *x, int p, int j)
{
    int area = x->g.H * x->g.W, of[2] = {p, j};
    double frame[2], place[2];
    bool begins = false;
    if (p == j) return -2;
    for (int k = 0; k < 2; k++) {
        double frames = 0, places = 0, n = 0;
        for (int i = of[k] * TS_BLOCK; i < x->g.N && i < (of[k] + 1) * TS_BLOCK; i++, n++) {
            frames += x->at[i] / area;
            places += x->at[i] % area;
            begins |= k && x->at[i] / area == 0;
        }
        frame[k] = frames / n;
        place[k] = places / n;
    }
    if (begins && x->g.F > 1) return -1;
    double d = fabs(frame[0] - frame[1]), e = fabs(place[0] - place[1]);
    int b = 0;
    while (d >= 2) d /= 2, b++; /* floor(log2 max(d, 1)) */
    return (e + 1) * pow(2, b) / area;
}

/* A block is read when fewer than the budget are nearer, or as near with a lower number. */
static void check_nearest(const ordered *x, const uint32_t *bits, const double *far, double keep)
{
    int nb = x->g.nb;
    no_strays(bits, nb, nb);
    for (int p = 0; p < nb; p++)
        for (int j = 0; j < nb; j++) {
            const double *row = far + p * nb;
            int before = 0;
            for (int i = 0; i < nb; i++) before += row[i] < row[j] || (row[i] == row[j] && i < j);
            ck_assert_msg(has(bits, nb, p, j) == (before < ts_plan_budget(keep, nb)),
                          "%dx%dx%d, keep %g: %d of row %d", x->g.F, x->g.H, x->g.W, keep, j, p);
        }
}

static void check_distances(const ordered *x, double keep)
{
    int nb = x->g.nb;
    uint32_t *bits = room(1, nb);
    double *c = centres(x), *far = malloc((size_t)nb * (size_t)nb * sizeof *far);
    ck_assert(ts_pattern_window(&x->g, x->at, keep, nb, bits));
    for (int i = 0; i < nb * nb; i++) far[i] = distance(x, c, i / nb, i % nb);
    check_nearest(x, bits, far, keep);
    ck_assert(ts_pattern_radial(&x->g, x->at, keep, nb, bits));
    for (int i = 0; i < nb * nb; i++) far[i] = radial_distance(x, i / nb, i % nb);
    check_nearest(x, bits, far, keep);
    free(far);
    free(bits);
    free(c);
}

START_TEST(window_and_radial)
{
    for (int o = 0; o < 2; o++) {
        ordered x = order_of(_i, (ts_order)o);
        check_distances(&x, 0.01);
        check_distances(&x, 0.2);
        check_distances(&x, 0.5);
        check_distances(&x, 1);
        free(x.at);
    }
}
END_TEST

START_TEST(budget)
{
    ck_assert_int_eq(ts_plan_budget(1e-9, 100), 1);
    ck_assert_int_eq(ts_plan_budget(0.2, 1), 1);
    ck_assert_int_eq(ts_plan_budget(0.2, 12), 2);
    ck_assert_int_eq(ts_plan_budget(0.2, 13), 3);
    ck_assert_int_eq(ts_plan_budget(0.5, 5), 3);
    ck_assert_int_eq(ts_plan_budget(1, 7), 7);
    for (int nb = 1; nb < 300; nb++)
        for (int hundredths = 1; hundredths <= 100; hundredths++) {
            /* exact, but where a double decides a tie */
            long want = (2L * hundredths * nb + 100) / 200;
            if (hundredths * nb % 100 == 50) continue;
            ck_assert_int_eq(ts_plan_budget(hundredths / 100.0, nb), want < 1 ? 1 : want);
        }
}
END_TEST

/* ---- random ---- */
START_TEST(random_counts)
{
    const int nbs[] = {1, 2, 3, 31, 32, 33, 70};
    const double keeps[] = {0.001, 0.2, 0.5, 1};
    for (int n = 0; n < 7; n++)
        for (int i = 0; i < 4; i++) {
            int nb = nbs[n];
            uint32_t *bits = room(1, nb), *again = room(1, nb);
            ck_assert(ts_pattern_random(nb, keeps[i], 7, 2, 1, bits));
            ck_assert(ts_pattern_random(nb, keeps[i], 7, 2, 1, again));
            no_strays(bits, nb, nb);
            ck_assert(!memcmp(bits, again, (size_t)(nb * ts_plan_words(nb)) * sizeof *bits));
            for (int p = 0; p < nb; p++) {
                ck_assert(has(bits, nb, p, p));
                ck_assert_int_eq(ts_bits_count(bits + p * ts_plan_words(nb), 1, nb),
                                 ts_plan_budget(keeps[i], nb));
            }
            free(bits);
            free(again);
        }
}
END_TEST

/* The words that decide, straight from the generator. */
START_TEST(random_definition)
{
    enum { NB = 45 };
    uint32_t *bits = room(1, NB), word[NB], w[4];
    const uint64_t seed = 0x123456789abcdef0u;
    ck_assert(ts_pattern_random(NB, 0.3, seed, 11, 5, bits));
    for (int p = 0; p < NB; p++) {
        for (int j = 0; j < NB; j++) {
            ts_philox(seed, ((uint64_t)p << 32) + (uint64_t)(j / 4), (UINT64_C(11) << 32) + 5, w);
            word[j] = w[j % 4];
        }
        for (int j = 0; j < NB; j++) {
            int before = 0;
            for (int i = 0; i < NB; i++)
                before += i != p && (word[i] < word[j] || (word[i] == word[j] && i < j));
            ck_assert(has(bits, NB, p, j) == (j == p || before < ts_plan_budget(0.3, NB) - 1));
        }
    }
    free(bits);
}
END_TEST

/* Another layer, head or seed: other blocks. Row by row they agree no more than by chance: of 200
 * others 39 are drawn twice, the mean overlap over 200 rows is 39 * 39 / 199 = 7.6, its deviation
 * 0.16. */
static double overlap(const uint32_t *a, const uint32_t *b, int nb)
{
    long both = 0;
    for (long i = 0; i < nb * ts_plan_words(nb); i++) both += __builtin_popcount(a[i] & b[i]);
    return (double)both / nb - 1; /* less the block itself */
}

START_TEST(random_differs)
{
    enum { NB = 200 };
    uint32_t *a = room(1, NB), *b = room(1, NB);
    const struct {
        uint64_t seed;
        int layer, head;
    } other[] = {{1, 0, 0}, {UINT64_C(1) << 32, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    ck_assert(ts_pattern_random(NB, 0.2, 0, 0, 0, a));
    for (int i = 0; i < 4; i++) {
        ck_assert(ts_pattern_random(NB, 0.2, other[i].seed, other[i].layer, other[i].head, b));
        ck_assert_double_eq_tol(overlap(a, b, NB), 39.0 * 39 / 199, 5 * 0.16);
    }
    free(a);
    free(b);
}
END_TEST

/* ---- plans in bags ---- */
enum { A = 3, NB = 37 };
static ts_err err;

static uint32_t *some(void)
{
    uint32_t *bits = room(A, NB);
    for (int h = 0; h < A; h++)
        ck_assert(
            ts_pattern_random(NB, 0.1 + 0.2 * h, 3, 0, h, bits + (long)h * NB * ts_plan_words(NB)));
    return bits;
}

static ts_bag *bagged(const uint32_t *bits, bool shared)
{
    ts_bag *bag = ts_bag_new();
    ck_assert_msg(ts_plan_put(&err, bag, "cond", 4, A, NB, bits, shared) == TS_OK, "%s", err.text);
    return bag;
}

START_TEST(round_trip)
{
    size_t size = (size_t)(A * NB * ts_plan_words(NB)) * sizeof(uint32_t);
    uint32_t *bits = some(), *back = room(A, NB);
    ts_bag *bag = bagged(bits, false);
    ck_assert_msg(ts_plan_get(&err, bag, "p", "cond", 4, A, NB, back) == TS_OK, "%s", err.text);
    ck_assert(!memcmp(bits, back, size));
    ts_bag_free(bag);
    bag = bagged(bits, true); /* the first head's for all */
    ck_assert_msg(ts_plan_get(&err, bag, "p", "cond", 4, A, NB, back) == TS_OK, "%s", err.text);
    for (int h = 0; h < A; h++)
        ck_assert(!memcmp(bits, back + (long)h * NB * ts_plan_words(NB), size / A));
    ts_bag_free(bag);
    free(bits);
    free(back);
}
END_TEST

/* The numbers as the file has them: offsets run on from head to head, blocks ascend. */
START_TEST(layout)
{
    const uint32_t bits[2 * 2] = {1, 3, 2, 1}; /* 2 heads of 2 blocks */
    ts_bag *bag = ts_bag_new();
    ts_host rows, blocks;
    ck_assert(ts_plan_put(&err, bag, "uncond", 12, 2, 2, bits, false) == TS_OK);
    ck_assert(ts_bag_get(&err, bag, "plan.uncond.12.rows", TS_I32, 2, (long[]){2, 3}, &rows) ==
              TS_OK);
    ck_assert(ts_bag_get(&err, bag, "plan.uncond.12.blocks", TS_I32, 1, (long[]){5}, &blocks) ==
              TS_OK);
    ck_assert(!memcmp(rows.data, (int32_t[]){0, 1, 3, 3, 4, 5}, 6 * sizeof(int32_t)));
    ck_assert(!memcmp(blocks.data, (int32_t[]){0, 0, 1, 1, 0}, 5 * sizeof(int32_t)));
    ts_bag_free(bag);
}
END_TEST

static void refuse(const ts_bag *bag, const char *branch, int layer, int heads, int nb,
                   ts_status code, const char *sentence)
{
    uint32_t *back = room(heads, nb);
    ck_assert_int_eq(ts_plan_get(&err, bag, "p.safetensors", branch, layer, heads, nb, back), code);
    ck_assert_msg(strstr(err.text, sentence) != NULL, "\"%s\" does not say \"%s\"", err.text,
                  sentence);
    free(back);
}

START_TEST(misfits)
{
    uint32_t *bits = some();
    ts_bag *bag = bagged(bits, false);
    refuse(bag, "cond", 5, A, NB, TS_EMODEL,
           "p.safetensors: no plan for layer 5 of branch cond (plan.cond.5.rows)");
    refuse(bag, "uncond", 4, A, NB, TS_EMODEL,
           "p.safetensors: no plan for layer 4 of branch uncond (plan.uncond.4.rows)");
    refuse(bag, "cond", 4, A + 1, NB, TS_ESHAPE, "plan.cond.4.rows");
    refuse(bag, "cond", 4, A, NB - 1, TS_ESHAPE, "plan.cond.4.rows");
    ts_bag_free(bag);
    free(bits);
}
END_TEST

/* One number of a good file is another. */
static const struct {
    bool rows;
    long at;
    int32_t value;
    const char *sentence;
} damages[] = {
    {true, 0, 1, "row 0 runs from 1 to"},
    {true, 0, -1, "row 0 runs from -1 to"},
    {true, 1, 0, "row 0 runs from 0 to 0"},
    {true, 2, 1, "row 1 runs from"},
    {true, NB, 1 << 30, "runs from"},
    {true, NB + 1, 0, "row 37 runs from 0"},
    {true, 3 * (NB + 1) - 1, 1 << 30, "row 110 runs from"},
    {false, 0, -1, "block -1 in row 0, expected ascending blocks below 37"},
    {false, 3, NB, "block 37 in row 0, expected ascending blocks below 37"},
    {false, 1, 36, "expected ascending blocks below 37"},
};
enum { DAMAGES = sizeof damages / sizeof *damages };

START_TEST(damaged)
{
    uint32_t *bits = some();
    ts_bag *bag = bagged(bits, false), *bad = ts_bag_new();
    ts_host rows, blocks;
    ck_assert(ts_bag_get(&err, bag, "plan.cond.4.rows", TS_I32, 2, (long[]){A, NB + 1}, &rows) ==
              TS_OK);
    ck_assert(ts_bag_get(&err, bag, "plan.cond.4.blocks", TS_I32, 1, (long[]){-1}, &blocks) ==
              TS_OK);
    int32_t *r = ts_bag_put(bad, "plan.cond.4.rows", TS_I32, 2, rows.dim, rows.data),
            *b = ts_bag_put(bad, "plan.cond.4.blocks", TS_I32, 1, blocks.dim, blocks.data);
    ck_assert(damages[_i].rows || damages[_i].at < r[1]); /* in the first row */
    (damages[_i].rows ? r : b)[damages[_i].at] = damages[_i].value;
    refuse(bad, "cond", 4, A, NB, TS_EMODEL, damages[_i].sentence);
    ts_bag_free(bag);
    ts_bag_free(bad);
    free(bits);
}
END_TEST

START_TEST(lengths)
{
    uint32_t *bits = some();
    ts_bag *bag = bagged(bits, false);
    ts_host rows, blocks;
    ck_assert(ts_bag_get(&err, bag, "plan.cond.4.rows", TS_I32, 2, (long[]){A, NB + 1}, &rows) ==
              TS_OK);
    ck_assert(ts_bag_get(&err, bag, "plan.cond.4.blocks", TS_I32, 1, (long[]){-1}, &blocks) ==
              TS_OK);
    const struct {
        long longer;
        const char *sentence;
    } other[] = {{1, "blocks, its rows have"}, {-1, "row 110 runs from"}};
    for (int i = 0; i < 2; i++) {
        ts_bag *bad = ts_bag_new();
        int32_t *to;
        ts_bag_put(bad, "plan.cond.4.rows", TS_I32, 2, rows.dim, rows.data);
        to = ts_bag_put(bad, "plan.cond.4.blocks", TS_I32, 1,
                        (long[]){blocks.dim[0] + other[i].longer}, NULL);
        memset(to, 0, (size_t)(blocks.dim[0] + other[i].longer) * sizeof *to);
        memcpy(to, blocks.data,
               (size_t)(blocks.dim[0] + (other[i].longer < 0 ? -1 : 0)) * sizeof *to);
        refuse(bad, "cond", 4, A, NB, TS_EMODEL, other[i].sentence);
        ts_bag_free(bad);
    }
    ts_bag *bad = ts_bag_new(); /* no blocks at all; another type */
    ts_bag_put(bad, "plan.cond.4.rows", TS_I32, 2, rows.dim, rows.data);
    refuse(bad, "cond", 4, A, NB, TS_EMODEL, "plan.cond.4.blocks");
    ts_bag_put(bad, "plan.cond.4.blocks", TS_F32, 1, blocks.dim, blocks.data);
    refuse(bad, "cond", 4, A, NB, TS_ESHAPE, "plan.cond.4.blocks");
    ts_bag_free(bad);
    ts_bag_free(bag);
    free(bits);
}
END_TEST

/* ---- a k for every layer ---- */
static const char *write_file(const char *text)
{
    static char path[4096];
    char *folder = testing_tmp();
    snprintf(path, sizeof path, "%s/k.json", folder);
    free(folder);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    return path;
}

START_TEST(tile_file)
{
    int k[3] = {-1, -1, -1};
    ck_assert_msg(
        ts_tile_file(
            &err,
            write_file("{\"made_by\": {\"frames\": 9}, \"layers\": [2, 0, 40], \"frames\": 8}"), 8,
            3, k) == TS_OK,
        "%s", err.text);
    ck_assert(k[0] == 2 && k[1] == 0 && k[2] == 40);
}
END_TEST

static const struct {
    const char *text, *sentence;
} files[] = {
    {"", "k.json"},
    {"frames 8", "k.json"},
    {"[8, [1, 2, 3]]",
     ": expected {\"frames\": F, \"layers\": [k, ...]}, as tessera search-tile writes it"},
    {"{\"layers\": [1, 2, 3]}", ": expected {\"frames\": F"},
    {"{\"format\": 2, \"frames\": 8, \"layers\": [1, 2, 3]}", ": tiles of format 2, this version"},
    {"{\"frames\": 8}", ": expected {\"frames\": F"},
    {"{\"frames\": \"8\", \"layers\": [1, 2, 3]}", ": expected {\"frames\": F"},
    {"{\"frames\": 8, \"layers\": 3}", ": expected {\"frames\": F"},
    {"{\"frames\": 7, \"layers\": [1, 2, 3]}", ": made for 7 latent frames, this clip has 8"},
    {"{\"frames\": 8.5, \"layers\": [1, 2, 3]}", ": made for 8.5 latent frames, this clip has 8"},
    {"{\"frames\": 8, \"layers\": [1, 2]}", ": made for 2 layers, the model has 3"},
    {"{\"frames\": 8, \"layers\": [1, 2, 3, 4]}", ": made for 4 layers, the model has 3"},
    {"{\"frames\": 8, \"layers\": [1, -2, 3]}",
     ": layer 1 has no whole number of reference frames"},
    {"{\"frames\": 8, \"layers\": [1, 2, 2.5]}",
     ": layer 2 has no whole number of reference frames"},
    {"{\"frames\": 8, \"layers\": [null, 2, 3]}",
     ": layer 0 has no whole number of reference frames"},
    {"{\"frames\": 8, \"layers\": [1e300, 2, 3]}",
     ": layer 0 has no whole number of reference frames"},
};
enum { FILES = sizeof files / sizeof *files };

START_TEST(tile_file_faults)
{
    int k[3];
    const char *path = write_file(files[_i].text);
    ck_assert_int_eq(ts_tile_file(&err, path, 8, 3, k), TS_EMODEL);
    ck_assert_msg(strstr(err.text, path) && strstr(err.text, files[_i].sentence),
                  "\"%s\" does not say \"%s\"", err.text, files[_i].sentence);
}
END_TEST

START_TEST(no_tile_file)
{
    int k[3];
    ck_assert_int_eq(ts_tile_file(&err, "/nowhere/k.json", 8, 3, k), TS_EMODEL);
    ck_assert_msg(strstr(err.text, "/nowhere/k.json"), "%s", err.text);
}
END_TEST

/* ---- beside text ---- */
/* A choice among nv blocks as a plan of nb, and back, around the ends of words. */
START_TEST(widened)
{
    static const int video[] = {1, 2, 31, 32, 33, 63, 64, 65, 100}, text[] = {1, 31, 64, 65, 2100};
    enum { HEADS = 3 };
    for (int i = 0; i < 9; i++)
        for (int t = 0; t < 5; t++) {
            ts_sequence q = ts_sequence_of(video[i] * TS_BLOCK + 7 * i % TS_BLOCK, text[t]);
            ck_assert(q.nv == video[i] && q.nb > q.nv);
            uint32_t *chosen = room(HEADS, q.nv), *plan = room(HEADS, q.nb),
                     *back = room(HEADS, q.nv);
            for (int h = 0; h < HEADS; h++)
                ck_assert(ts_pattern_random(q.nv, 0.4, 9, t, h,
                                            chosen + (long)h * q.nv * ts_plan_words(q.nv)));
            ts_bits_widen(chosen, HEADS, q, plan);
            no_strays(plan, HEADS * q.nb, q.nb);
            for (int p = 0; p < HEADS * q.nb; p++)
                for (int j = 0; j < q.nb; j++) {
                    int h = p / q.nb, row = p % q.nb;
                    bool want = row >= q.nv || j >= q.nv || has(chosen, q.nv, h * q.nv + row, j);
                    if (has(plan, q.nb, p, j) != want)
                        ck_abort_msg("%d of %d blocks, row %d, block %d", q.nv, q.nb, p, j);
                }
            ts_bits_narrow(plan, HEADS, q, back);
            ck_assert(
                !memcmp(chosen, back, (size_t)(HEADS * q.nv * ts_plan_words(q.nv)) * sizeof *back));
            free(chosen);
            free(plan);
            free(back);
        }
}
END_TEST

/* Without text a plan is its choice. */
START_TEST(not_widened)
{
    ts_sequence q = ts_sequence_of(70 * TS_BLOCK - 1, 0);
    uint32_t *chosen = room(1, q.nb), *plan = room(1, q.nb);
    ck_assert(ts_pattern_random(q.nb, 0.2, 1, 2, 3, chosen));
    ts_bits_widen(chosen, 1, q, plan);
    ck_assert(!memcmp(chosen, plan, (size_t)(q.nb * ts_plan_words(q.nb)) * sizeof *plan));
    free(chosen);
    free(plan);
}
END_TEST

START_TEST(no_blocks)
{
    ts_bag *bag = ts_bag_new();
    uint32_t bits;
    int32_t zeros[3] = {0};
    ts_bag_put(bag, "plan.cond.0.rows", TS_I32, 2, (long[]){3, 1}, zeros);
    ts_bag_put(bag, "plan.cond.0.blocks", TS_I32, 1, (long[]){0}, zeros);
    ck_assert_int_eq(ts_plan_get(&err, bag, "p", "cond", 0, 3, 0, &bits), TS_EMODEL);
    ck_assert_str_eq(err.text, "p: layer 0 of branch cond: a plan of 3 heads and 0 blocks");
    ts_bag_free(bag);
}
END_TEST

/* What adaspa's candidates of the grid score: window and tile, token by token. */
START_TEST(nearness)
{
    enum { MOST = 64 };
    static float scores[2 * (MOST + 1) * (MOST + 1)];
    ordered x = order_of(_i / 2, _i % 2 ? TS_TILE_ORDER : TS_RASTER);
    const ts_grid *g = &x.g;
    int nv = (g->N + TS_BLOCK - 1) / TS_BLOCK, nb = nv + 1, area = g->H * g->W;
    ck_assert_int_le(nv, MOST);
    ck_assert(ts_pattern_near(g, x.at, nv, nb, scores));
    for (int p = 0; p < nb; p++)
        for (int j = 0; j < nb; j++) {
            double mean[2][4] = {{0}}, extent[3] = {g->F, g->H, g->W}, far = 0;
            bool common = false;
            int level = g->F, of[2] = {p, j};
            for (int i = 0; i < 2 && p < nv && j < nv; i++) {
                int first = of[i] * TS_BLOCK, n = g->N - first < TS_BLOCK ? g->N - first : TS_BLOCK;
                for (int t = first; t < first + n; t++) {
                    int frame = x.at[t] / area, place = x.at[t] % area;
                    double y[4] = {frame, place / g->W, place % g->W, place};
                    for (int a = 0; a < 4; a++) mean[i][a] += y[a] / n;
                    for (int u = p * TS_BLOCK; u < (p + 1) * TS_BLOCK && u < g->N; u++)
                        common |= i && x.at[u] / area == frame;
                    for (int k = 1; i && k < level; k++)
                        for (int m = 0; m < k; m++)
                            if ((m * g->F + k - 1) / k == frame) level = k;
                }
            }
            for (int a = 0; a < 3; a++) far = fmax(far, fabs(mean[0][a] - mean[1][a]) / extent[a]);
            double tiled = fabs(mean[0][3] - mean[1][3]) / area + (common ? 0 : level);
            if (p == nv || j == nv) far = tiled = 0; /* text */
            ck_assert_double_eq_tol(scores[p * nb + j], -far, 1e-6);
            ck_assert_double_eq_tol(scores[(nb + p) * nb + j], -tiled, 1e-5);
        }
    free(x.at);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("patterns");
    TCase *t = tcase_create("patterns");
    tcase_add_loop_test(t, tile_order, 0, SHAPES);
    tcase_add_loop_test(t, raster_order, 0, SHAPES);
    tcase_add_test(t, order_names);
    tcase_add_loop_test(t, tile, 0, SHAPES);
    tcase_add_test(t, tile_full);
    tcase_add_loop_test(t, nine_sparsities, 0, 9);
    tcase_add_loop_test(t, window_and_radial, 0, SHAPES);
    tcase_add_test(t, budget);
    tcase_add_test(t, random_counts);
    tcase_add_test(t, random_definition);
    tcase_add_test(t, random_differs);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, layout);
    tcase_add_test(t, misfits);
    tcase_add_loop_test(t, damaged, 0, DAMAGES);
    tcase_add_test(t, lengths);
    tcase_add_test(t, tile_file);
    tcase_add_loop_test(t, tile_file_faults, 0, FILES);
    tcase_add_loop_test(t, nearness, 0, 2 * SHAPES);
    tcase_add_test(t, no_tile_file);
    tcase_add_test(t, widened);
    tcase_add_test(t, not_widened);
    tcase_add_test(t, no_blocks);
    suite_add_tcase(s, t);
    return testing_main(s);
}
