/* The search for attention tiles on random queries, keys and values: errors against a softmax
 * spelled out, the choice that follows, and that the choice then computes the layer. */
#include "sampler/layer_tiles.h"

#include "attention/patterns.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    F = 7,
    H = 8,
    W = 8,
    N = F * H * W,
    A = 2,
    D = 8,
    WIDTH = A * D,
    LAYERS = 2,
    KS = 3,
    SAMPLES = 3,
    SLOTS = 2,
    TEXT = 150, /* at most */
    ROWS = N + TEXT
};
static const int ks[KS] = {1, 2, 4};

typedef struct {
    double loss;
    bool in_place;
    int text[SLOTS]; /* samples take slots in turn */
    /* outputs of the last sample: during the trial, and after it */
    float x[SAMPLES][3][ROWS * WIDTH], tried[ROWS * WIDTH], out[ROWS * WIDTH];
    int chosen[LAYERS];
    double error[LAYERS * KS];
} job;

static int rows_of(const job *j, int sample) { return N + j->text[sample % SLOTS]; }

static ts_status attend(ts_ctx *ctx, job *j, ts_attn *a, int sample, float *out)
{
    ts_status st = TS_OK;
    ts_device *dev = ctx->dev;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor t[4];
    long T = rows_of(j, sample);
    size_t bytes = (size_t)(T * WIDTH) * sizeof(float);
    for (int i = 0; i < 4; i++) {
        t[i] = ts_take(&ctx->arena, TS_F32, TS_DIM(T, A, D));
        t[i].ld = WIDTH;
    }
    for (int i = 0; i < 3; i++) TRY(dev->ops->upload(dev, t[i].p, j->x[sample][i], bytes));
    ts_attn_begin(a, 1, 1, sample % SLOTS);
    if (j->in_place) t[3] = t[0];
    TRY(ts_attend(a, t[0], t[1], t[2], t[3]));
    if (!dev->counting) TRY(dev->ops->download(dev, out, t[3].p, bytes));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status phase(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    job *j = user;
    ts_attn a = {0};
    ts_layer_tiles s = {.k = ks, .ks = KS, .loss = j->loss, .chosen = j->chosen, .error = j->error};
    ts_attn_options o = {
        .grid = ts_grid_of(F, H, W), .layers = LAYERS, .heads = A, .slots = SLOTS, .text = j->text};
    TRY(ts_policy_parse(&ctx->err, "tile:min-tokens=0,dense-steps=0,order=raster", &o.policy));
    TRY(ts_attn_open(&a, ctx, &o));
    ck_assert_ptr_null(a.observe);
    TRY(ts_layer_tiles_open(&s, &a));
    ck_assert_ptr_nonnull(a.observe);
    ts_layer_tiles_try(&s, 1);
    for (int i = 0; i < SAMPLES; i++) TRY(attend(ctx, j, &a, i, j->tried));
    ts_layer_tiles_choose(&s, 1);
    TRY(attend(ctx, j, &a, SAMPLES - 1, j->out));
done:
    ts_layer_tiles_close(&s);
    ts_attn_close(&a);
    return st;
}

/* k 0: everything. */
static void plain(const job *j, int sample, int k, double *out)
{
    ts_grid g = ts_grid_of(F, H, W);
    uint32_t bits[16];
    int32_t at[N];
    int T = rows_of(j, sample), nv = N / TS_BLOCK; /* a whole number */
    ts_grid_order(&g, TS_RASTER, at);
    ck_assert(ts_pattern_tile(&g, at, k, TS_BLOCK, nv, bits));
    for (int n = 0; n < T; n++)
        for (int a = 0; a < A; a++) {
            double p[ROWS], sum = 0;
            for (int m = 0; m < T; m++) {
                double s = 0;
                for (int d = 0; d < D; d++)
                    s += (double)j->x[sample][0][n * WIDTH + a * D + d] *
                         j->x[sample][1][m * WIDTH + a * D + d] / sqrt(D);
                bool read = n >= N || m >= N || bits[n / TS_BLOCK] >> m / TS_BLOCK & 1;
                sum += p[m] = read ? exp(s) : 0;
            }
            for (int d = 0; d < D; d++) {
                double y = 0;
                for (int m = 0; m < T; m++)
                    y += p[m] / sum * j->x[sample][2][m * WIDTH + a * D + d];
                out[n * WIDTH + a * D + d] = y;
            }
        }
}

static double apart(const double *a, const double *b, int rows)
{
    double off = 0, all = 0;
    for (int i = 0; i < rows * WIDTH; i++) {
        off += (a[i] - b[i]) * (a[i] - b[i]);
        all += b[i] * b[i];
    }
    return off / all;
}

static job *fresh(double loss, bool in_place)
{
    job *j = calloc(1, sizeof *j);
    j->loss = loss;
    j->in_place = in_place;
    for (int s = 0; s < SAMPLES; s++)
        for (int i = 0; i < 3; i++) {
            char name[32];
            snprintf(name, sizeof name, "input.%d.%d", s, i);
            golden_input(name, 1.7, ROWS * WIDTH, j->x[s][i]);
        }
    return j;
}

static void check_output(const float *got, const double *want, int rows)
{
    double x[ROWS * WIDTH];
    for (int i = 0; i < rows * WIDTH; i++) x[i] = got[i];
    ck_assert_double_lt(apart(x, want, rows), 1e-12); /* squared */
}

/* On the CPU, behind addresses that fault, and with the output where the queries were; without
 * text, and with one of two branches that has more of it than the other. */
START_TEST(errors)
{
    static const int text[2][SLOTS] = {{0, 0}, {TEXT, 7}};
    static double full[SAMPLES][ROWS * WIDTH], other[ROWS * WIDTH];
    double want[KS] = {0};
    int last = SAMPLES - 1;
    job *j = fresh(0, false);
    memcpy(j->text, text[_i], sizeof j->text);
    int rows = rows_of(j, last);
    for (int s = 0; s < SAMPLES; s++) {
        plain(j, s, 0, full[s]);
        for (int i = 0; i < KS; i++) {
            plain(j, s, ks[i], other);
            want[i] += apart(other, full[s], rows_of(j, s)) / SAMPLES;
        }
    }
    /* F 7, k 4: something is left out */
    ck_assert(want[0] > want[1] && want[1] > want[2] && want[2] > 1e-4);
    const double losses[] = {
        0,  want[2] * 0.999, want[2] * 1.001, want[1] * 1.001, want[0] * 0.999, want[0] * 1.001,
        1e9};
    const int chosen[] = {0, 0, 4, 2, 2, 1, 1};
    for (int i = 0; i < 7; i++) {
        ts_ctx *ctx = testing_open(i % 2 ? "far" : "cpu", NULL, 1);
        free(j);
        j = fresh(losses[i], i > 3);
        memcpy(j->text, text[_i], sizeof j->text);
        testing_run(ctx, phase, j);
        for (int k = 0; k < KS; k++) ck_assert_double_eq_tol(j->error[KS + k] / want[k], 1, 1e-5);
        ck_assert_int_eq(j->chosen[1], chosen[i]);
        ck_assert_int_eq(j->chosen[0], 0); /* not tried */
        check_output(j->tried, full[last], rows);
        plain(j, last, chosen[i], other);
        check_output(j->out, other, rows);
        testing_close(ctx);
    }
    free(j);
}
END_TEST

/* Not a number is no error that a layer may have. */
START_TEST(not_a_number)
{
    job *j = fresh(1e9, false);
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    j->x[1][2][7] = NAN;
    testing_run(ctx, phase, j);
    ck_assert_int_eq(j->chosen[1], 0);
    free(j);
    testing_close(ctx);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tile search");
    TCase *t = tcase_create("tile search");
    tcase_add_loop_test(t, errors, 0, 2);
    tcase_add_test(t, not_a_number);
    suite_add_tcase(s, t);
    return testing_main(s);
}
