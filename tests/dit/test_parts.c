/* The parts that families are composed of, against the same written plainly; on the CPU and behind
 * addresses that fault. */
#include "dit/parts.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};

/* A phase of one test: what goes up, what comes down. */
typedef struct {
    ts_status (*run)(ts_ctx *, void *job);
    int variant;
    float in[4096], out[4096];
} job;

static ts_status fetch_numbers(ts_ctx *ctx, ts_tensor t, float *to)
{
    return ctx->dev->counting
               ? TS_OK
               : ctx->dev->ops->download(ctx->dev, to, t.p, (size_t)ts_count(t) * sizeof *to);
}

static void run_job(int backend, job *j)
{
    ts_ctx *ctx = testing_open(backends[backend], NULL, 0);
    testing_run(ctx, j->run, j);
    testing_close(ctx);
}

/* ---- rms of heads ---- */
enum { N = 5, A = 3, D = 8, WIDE = A * D + 7 };

/* variant 0: rows of heads are packed; 1: they lie in wider rows, of which the rest stays */
static ts_status norm_heads(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    job *j = user;
    long width = j->variant ? WIDE : A * D;
    ts_tensor x = ts_part_take(ctx, TS_F32, N, width), w = ts_take(&ctx->arena, TS_F32, TS_DIM(D));
    TRY(ts_part_upload(ctx, x, j->in));
    TRY(ts_part_upload(ctx, w, j->in + N * WIDE));
    TRY(ts_part_rms(ctx, &(ts_weight){.t = w}, 1e-3f, ts_part_heads(ts_columns(x, 0, A * D), A)));
    TRY(fetch_numbers(ctx, x, j->out));
done:
    return st;
}

START_TEST(rms_of_each_head)
{
    job j = {.run = norm_heads, .variant = _i / 2};
    long width = j.variant ? WIDE : A * D;
    golden_input("rms", 1, N * WIDE + D, j.in);
    run_job(_i % 2, &j);
    for (long n = 0; n < N; n++) {
        for (long a = 0; a < A; a++) {
            const float *x = j.in + n * width + a * D;
            double square = 0;
            for (long d = 0; d < D; d++) square += (double)x[d] * x[d] / D;
            for (long d = 0; d < D; d++)
                ck_assert_double_eq_tol(j.out[n * width + a * D + d],
                                        x[d] / sqrt(square + 1e-3) * j.in[N * WIDE + d], 1e-6);
        }
        for (long i = A * D; i < width; i++) ck_assert(j.out[n * width + i] == j.in[n * width + i]);
    }
}
END_TEST

/* ---- modulation ---- */

/* table [2, D] + a row of D (variant 0) or of 2 D (variant 1) for rows 2 and 0 */
static ts_status modulate_rows(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    job *j = user;
    ts_tensor table = ts_part_take(ctx, TS_F32, 2, D),
              of = ts_part_take(ctx, TS_F32, 3, (1 + j->variant) * D), m;
    TRY(ts_part_upload(ctx, table, j->in));
    TRY(ts_part_upload(ctx, of, j->in + 2 * D));
    TRY(ts_part_modulation(ctx, table, of, (int[]){2, 0}, 2, &m));
    ck_assert(m.dim[0] == 2 && m.dim[1] == 2 * D);
    TRY(fetch_numbers(ctx, m, j->out));
done:
    return st;
}

START_TEST(modulation_of_chosen_rows)
{
    job j = {.run = modulate_rows, .variant = _i / 2};
    const int row[2] = {2, 0};
    golden_input("modulation", 1, 8 * D, j.in);
    run_job(_i % 2, &j);
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 2 * D; i++) {
            const float *of = j.in + 2 * D + row[r] * (1 + j.variant) * D;
            ck_assert(j.out[r * 2 * D + i] == j.in[i] + of[j.variant ? i : i % D]);
        }
}
END_TEST

/* ---- latents and tokens ---- */
enum { PF = 4, PH = 6, PW = 4, PC = 3 };
static const int patch[3] = {2, 3, 2};

static ts_status put_back(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    job *j = user;
    ts_tensor rows = ts_part_take(ctx, TS_F32, 2 * 2 * 2, 2 * 3 * 2 * PC),
              v = ts_take(&ctx->arena, TS_F32, TS_DIM(PF, PH, PW, PC));
    TRY(ts_part_upload(ctx, rows, j->in));
    TRY(ts_part_unpatchify(ctx, patch, rows, v));
    TRY(fetch_numbers(ctx, v, j->out));
done:
    return st;
}

START_TEST(patches_back_to_latents)
{
    job j = {.run = put_back};
    golden_input("patches", 1, PF * PH * PW * PC, j.in);
    run_job(_i, &j);
    for (int f = 0; f < PF; f++)
        for (int y = 0; y < PH; y++)
            for (int x = 0; x < PW; x++)
                for (int c = 0; c < PC; c++) {
                    int token = (f / 2 * 2 + y / 3) * 2 + x / 2,
                        inside = ((f % 2 * 3 + y % 3) * 2 + x % 2) * PC + c;
                    ck_assert(j.out[((f * PH + y) * PW + x) * PC + c] ==
                              j.in[token * 2 * 3 * 2 * PC + inside]);
                }
}
END_TEST

/* ---- rope ---- */
enum { GF = 2, GH = 3, GW = 2, TOKENS = GF * GH * GW, HALF = 6 };

/* variant 1: tokens in the reverse order */
static ts_status make_table(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    job *j = user;
    int32_t perm[TOKENS];
    ts_grid g = ts_grid_of(GF, GH, GW);
    const double t[GF] = {0, 1}, y[GH] = {-0.5, 0.25, 1}, x[GW] = {3, 4.5};
    ts_tensor c = ts_part_take(ctx, TS_F32, TOKENS, HALF),
              s = ts_part_take(ctx, TS_F32, TOKENS, HALF);
    for (int i = 0; i < TOKENS; i++) perm[i] = TOKENS - 1 - i;
    if (j->variant) {
        g.perm = ts_take(&ctx->arena, TS_I32, TS_DIM(TOKENS));
        TRY(ctx->dev->ops->upload(ctx->dev, g.perm.p, perm, sizeof perm));
        TRY(ctx->dev->ops->join(ctx->dev));
    }
    TRY(ts_part_rope_table(ctx, &g, (long[]){4, 2, 6}, 256, (const double *[]){t, y, x}, c, s));
    TRY(fetch_numbers(ctx, c, j->out));
    TRY(fetch_numbers(ctx, s, j->out + TOKENS * HALF));
done:
    return st;
}

START_TEST(rope_table)
{
    job j = {.run = make_table, .variant = _i / 2};
    const double at[3][3] = {{0, 1}, {-0.5, 0.25, 1}, {3, 4.5}};
    const int width[3] = {4, 2, 6};
    run_job(_i % 2, &j);
    for (int n = 0; n < TOKENS; n++) {
        int raster = j.variant ? TOKENS - 1 - n : n, column = 0;
        const int index[3] = {raster / (GH * GW), raster / GW % GH, raster % GW};
        for (int axis = 0; axis < 3; axis++)
            for (int i = 0; i < width[axis] / 2; i++, column++) {
                double angle = at[axis][index[axis]] * pow(256, -2.0 * i / width[axis]);
                ck_assert(j.out[n * HALF + column] == (float)cos(angle));
                ck_assert(j.out[(TOKENS + n) * HALF + column] == (float)sin(angle));
            }
    }
}
END_TEST

/* ---- rows of text ---- */

static ts_status lay_texts(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    job *j = user;
    ts_part_texts t;
    ts_bag *bag[2] = {ts_bag_new(), ts_bag_new()};
    ts_bag_put(bag[0], "states", TS_F32, 2, (long[]){2, 4}, j->in);
    ts_bag_put(bag[1], "states", TS_F32, 2, (long[]){3, 4}, j->in + 8);
    ts_dit_inputs in = {.text = (const ts_bag *const *)bag, .slots = 2};
    TRY(ts_part_texts_lay(ctx, &t, &in, j->variant));
    ts_tensor states = ts_part_take(ctx, TS_F32, t.rows, 4);
    TRY(ts_part_texts_upload(ctx, &t, &in, states));
    TRY(fetch_numbers(ctx, states, j->out));
    TRY(fetch_numbers(ctx, t.bias, j->out + 100));
    j->out[200] = (float)t.rows;
    j->out[201] = (float)ts_part_text_rows(&t, states, 1).dim[0];
    j->out[202] = ts_there(ts_part_text_bias(&t, 0)) ? 1.f : 0.f;
    j->out[203] = ts_there(ts_part_text_bias(&t, 1)) ? 1.f : 0.f;
done:
    for (int i = 0; i < 2; i++) ts_bag_free(bag[i]);
    return st;
}

START_TEST(zero_rows_stand_once)
{
    job j = {.run = lay_texts, .variant = 3}; /* the first has one zero row, the second none */
    golden_input("states", 1, 20, j.in);
    run_job(_i, &j);
    ck_assert(j.out[200] == 6 && j.out[201] == 3 && j.out[202] == 1 && j.out[203] == 0);
    for (int i = 0; i < 4; i++) ck_assert(j.out[8 + i] == 0);
    ck_assert(!memcmp(j.out, j.in, 8 * sizeof(float)));
    ck_assert(!memcmp(j.out + 12, j.in + 8, 12 * sizeof(float)));
    j.variant = 10;
    run_job(_i, &j);
    ck_assert(j.out[200] == 7 && j.out[202] == 1 && j.out[203] == 1);
    ck_assert(j.out[100] == 0 && j.out[102] == (float)log(8) && j.out[106] == (float)log(7));
    j.variant = 0; /* the real rows alone */
    run_job(_i, &j);
    ck_assert(j.out[200] == 5 && j.out[202] == 0 && j.out[203] == 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("parts");
    TCase *c = tcase_create("parts");
    tcase_add_loop_test(c, rms_of_each_head, 0, 4);
    tcase_add_loop_test(c, modulation_of_chosen_rows, 0, 4);
    tcase_add_loop_test(c, patches_back_to_latents, 0, 2);
    tcase_add_loop_test(c, rope_table, 0, 4);
    tcase_add_loop_test(c, zero_rows_stand_once, 0, 2);
    suite_add_tcase(s, c);
    return testing_main(s);
}
