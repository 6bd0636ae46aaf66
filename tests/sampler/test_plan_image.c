/* Pictures of plans, pixel by pixel: where a head's tile lies, what a cell read, left out, seen and
 * lost looks like, which search is drawn, more blocks than pixels. */
#include "attention/plan_file.h"
#include "sampler/run.h"
#include "tests/codecs/test_files.h"

enum { GAP = 2 };
static const int night[3] = {24, 26, 34}, amber[3] = {255, 190, 80}, green[3] = {120, 230, 140},
                 red[3] = {255, 80, 70};

/* The pixel is a share v of the way from night to that colour. */
static void is_mix(const uint8_t *pixel, double v, const int to[3], const char *what, int y, int x)
{
    for (int c = 0; c < 3; c++)
        if (fabs(pixel[c] - (night[c] + v * (to[c] - night[c]))) > 0.501)
            ck_abort_msg("%s, pixel %d, %d: channel %d is %d, expected %g", what, x, y, c, pixel[c],
                         night[c] + v * (to[c] - night[c]));
}

/* Three heads of five blocks: 20 pixels a cell, two tiles a row. Bit j of a row's mask: read. */
static const uint32_t masks[3][5] = {{1, 2, 4, 8, 16}, {3, 3, 31, 24, 17}, {1, 31, 1, 31, 2}};

/* Weights of the last search in powers of two of an even spread, -6..6 by cell: beyond 5 either way
 * is the end of the scale. */
static double exponent(int head, int p, int j) { return (head * 25 + p * 5 + j) % 13 - 6; }

START_TEST(cells)
{
    enum { A = 3, NB = 5, CELL = 20, SIDE = NB * CELL };
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_bag *bag = ts_bag_new();
    float last[A * NB * NB], earlier[A * NB * NB] = {0};
    char *dir = testing_tmp();
    for (int i = 0; i < A * NB * NB; i++)
        last[i] = (float)(exp2(exponent(i / 25, i / 5 % 5, i % 5)) * TS_BLOCK / NB);
    ck_ok(c, ts_plan_put(&c->err, bag, "cond", 3, A, NB, &masks[0][0], false));
    /* of this layer and branch the 30th step's is the last: neither by name nor by place */
    const char *const searches[] = {"wsum.cond.3.10", "wsum.cond.3.2",  "wsum.cond.3.30",
                                    "wsum.cond.3.9",  "wsum.cond.4.31", "wsum.uncond.3.32"};
    for (int i = 0; i < 6; i++)
        ck_assert(ts_bag_put(bag, searches[i], TS_F32, 3, (long[]){A, NB, NB},
                             i == 2 ? last : earlier) != NULL);
    ck_ok(c, ts_plan_images(c, bag, path_in(dir, "drawn")));
    ck_assert_int_eq(files_in(path_in(dir, "drawn")), 2);
    for (int recall = 0; recall < 2; recall++) {
        int w, h;
        const char *name = recall ? "drawn/recall-cond-03.png" : "drawn/plan-cond-03.png";
        uint8_t *rgb = read_png(path_in(dir, name), &w, &h);
        ck_assert(w == 2 * (SIDE + GAP) + GAP && h == w);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                const uint8_t *pixel = rgb + ((long)y * w + x) * 3;
                int head = y / (SIDE + GAP) * 2 + x / (SIDE + GAP), ty = y % (SIDE + GAP) - GAP,
                    tx = x % (SIDE + GAP) - GAP;
                if (head >= A || ty < 0 || tx < 0) {
                    if (pixel[0] || pixel[1] || pixel[2])
                        ck_abort_msg("%s, pixel %d, %d between tiles is not black", name, x, y);
                    continue;
                }
                bool read = masks[head][ty / CELL] >> tx / CELL & 1;
                double level = fmin(fmax((exponent(head, ty / CELL, tx / CELL) + 5) / 10, 0), 1);
                if (recall)
                    is_mix(pixel, level, read ? green : red, name, y, x);
                else
                    is_mix(pixel, read, amber, name, y, x);
            }
        free(rgb);
    }
    ts_bag_free(bag);
    free(dir);
    testing_close(c);
}
END_TEST

/* 600 blocks in 512 pixels: a pixel is the mean of the cells it covers. The left half is read, and
 * the very last cell. */
START_TEST(more_blocks_than_pixels)
{
    enum { NB = 600, SIDE = 512, WORDS = (NB + 31) / 32 };
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_bag *bag = ts_bag_new();
    uint32_t *bits = calloc(NB * WORDS, sizeof *bits);
    char *dir = testing_tmp();
    int w, h;
    for (int p = 0; p < NB; p++)
        for (int j = 0; j < NB / 2; j++) bits[p * WORDS + j / 32] |= 1u << j % 32;
    bits[599 * WORDS + 599 / 32] |= 1u << 599 % 32;
    ck_ok(c, ts_plan_put(&c->err, bag, "uncond", 11, 1, NB, bits, false));
    ck_ok(c, ts_plan_images(c, bag, dir));
    ck_assert_int_eq(files_in(dir), 1); /* no search, no recall */
    uint8_t *rgb = read_png(path_in(dir, "plan-uncond-11.png"), &w, &h);
    ck_assert(w == SIDE + 2 * GAP && h == w);
    /* of the last pixel's 2 x 2 cells one */
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            is_mix(rgb + ((long)(y + GAP) * w + x + GAP) * 3,
                   x < SIDE / 2                     ? 1
                   : x == SIDE - 1 && y == SIDE - 1 ? 0.25
                                                    : 0,
                   amber, "600 blocks", y, x);
    free(rgb);
    free(bits);
    free(dir);
    ts_bag_free(bag);
    testing_close(c);
}
END_TEST

/* Scores with columns of text behind those of the video's two blocks: they are not drawn, but a
 * row's weight is spread over all four. */
START_TEST(beside_text)
{
    enum { NB = 2, COLUMNS = 4, CELL = 48, SIDE = NB * CELL };
    static const uint32_t read[NB] = {1, 2};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_bag *bag = ts_bag_new();
    float sums[NB][COLUMNS] = {{16, 32, 8, 8}, {4, 16, 32, 12}};
    char *dir = testing_tmp();
    int w, h;
    ck_ok(c, ts_plan_put(&c->err, bag, "cond", 0, 1, NB, read, false));
    ck_assert(ts_bag_put(bag, "wsum.cond.0.1", TS_F32, 3, (long[]){1, NB, COLUMNS}, sums) != NULL);
    ck_ok(c, ts_plan_images(c, bag, dir));
    uint8_t *rgb = read_png(path_in(dir, "recall-cond-00.png"), &w, &h);
    ck_assert(w == SIDE + 2 * GAP && h == w);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int p = y / CELL, j = x / CELL; /* 64 / 4 is an even share: the middle */
            is_mix(rgb + ((long)(y + GAP) * w + x + GAP) * 3,
                   (log2((double)sums[p][j] / 16) + 5) / 10, p == j ? green : red, "text", y, x);
        }
    free(rgb);
    free(dir);
    ts_bag_free(bag);
    testing_close(c);
}
END_TEST

/* Plans that a file can hold and that nobody makes. */
START_TEST(no_blocks)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    static const long shape[][2] = {{3, 1}, {0, 5}, {5000, 2}};
    int32_t zeros[10000] = {0};
    for (int i = 0; i < 3; i++) {
        ts_bag *bag = ts_bag_new();
        ts_bag_put(bag, "plan.cond.7.rows", TS_I32, 2, shape[i], zeros);
        ts_bag_put(bag, "plan.cond.7.blocks", TS_I32, 1, (long[]){0}, zeros);
        ck_assert_int_eq(ts_plan_images(c, bag, dir), TS_EMODEL);
        ck_assert_msg(strstr(c->err.text, "layer 7 of branch cond: a plan of ") != NULL, "\"%s\"",
                      c->err.text);
        ts_bag_free(bag);
    }
    free(dir);
    testing_close(c);
}
END_TEST

START_TEST(no_folder)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_bag *bag = ts_bag_new();
    ck_assert_int_eq(ts_plan_images(c, bag, "/nowhere/at/all"), TS_EIO);
    ck_assert_str_eq(c->err.text, "/nowhere/at/all: can not make pictures of plans there");
    ts_bag_free(bag);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan pictures");
    TCase *t = tcase_create("plan pictures");
    tcase_add_test(t, cells);
    tcase_add_test(t, more_blocks_than_pixels);
    tcase_add_test(t, beside_text);
    tcase_add_test(t, no_blocks);
    tcase_add_test(t, no_folder);
    suite_add_tcase(s, t);
    return testing_main(s);
}
