/* What searches see, choose and count: block sums and means against double, budgets shared by
 * heads, recall. */
#include "attention/patterns.h"
#include "attention/plan_file.h"
#include "tests/attention/sparse_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Plans of pooled against means in double: the block itself, and of the rest none that is left out
 * is better (f32 means: 1e-5) than one that is read. */
START_TEST(pooled_plans)
{
    static const char *const policy[] = {"pooled:keep=0.5,min-tokens=0,order=raster",
                                         "pooled:keep=0.5,min-tokens=0,order=tile"};
    enum { MOST = 8 };
    sparse_run j = sparse_run_on("cpu", 1, policy[_i % 2], _i / 2);
    int nb = j.grid.nb, words = (int)ts_plan_words(nb);
    uint32_t *bits = malloc((size_t)(A * nb * words) * sizeof *bits);
    float *x[2];
    ts_err err = {0};
    for (int i = 0; i < 2; i++) {
        x[i] = malloc((size_t)sparse_count(&j) * sizeof *x[i]);
        sparse_draw(&j, i, STEPS, 1, 2, x[i]);
    }
    ck_assert(nb <= MOST && ts_plan_get(&err, ts_attn_plans(&j.attn), "plans", "uncond", 2, A, nb,
                                        bits) == TS_OK);
    for (int a = 0; a < A; a++) {
        double mean[2][MOST][D] = {0};
        for (int n = 0; n < j.grid.N; n++)
            for (int i = 0; i < 2; i++)
                for (int d = 0; d < D; d++)
                    mean[i][n / TS_BLOCK][d] += x[i][(long)j.at[n] * WIDTH + a * D + d] /
                                                (double)(n / TS_BLOCK < nb - 1
                                                             ? TS_BLOCK
                                                             : j.grid.N - (nb - 1) * TS_BLOCK);
        for (int p = 0; p < nb; p++) {
            const uint32_t *row = bits + (a * nb + p) * words;
            double least = INFINITY, most = -INFINITY;
            for (int i = 0; i < nb; i++) {
                double score = 0;
                for (int d = 0; d < D; d++) score += mean[0][p][d] * mean[1][i][d];
                if (i != p && row[0] >> i & 1) least = fmin(least, score);
                if (!(row[0] >> i & 1)) most = fmax(most, score);
            }
            ck_assert(row[0] >> p & 1);
            ck_assert_int_eq(ts_bits_count(row, 1, nb), ts_plan_budget(0.5, nb));
            ck_assert_msg(least >= most - 1e-5, "head %d, row %d: %g is read, %g is not", a, p,
                          least, most);
        }
    }
    free(bits);
    free(x[0]);
    free(x[1]);
    sparse_run_free(&j);
}
END_TEST

static double held(const float *row, const uint32_t *bits, int nb)
{
    double kept = 0;
    for (int i = 0; i < nb; i++) kept += bits[i / 32] >> i % 32 & 1 ? row[i] : 0;
    return kept;
}

static double logit(const float *q, const float *k, long n, long m, int a)
{
    double s = 0;
    for (long d = 0; d < D; d++)
        s += (double)q[n * WIDTH + a * D + d] * k[m * WIDTH + a * D + d] / sqrt(D);
    return s;
}

/* Block sums of a later search: today's logits, the log sum exp of the first search. Both are sums
 * of f32 logits of some units: 1e-5. */
START_TEST(cached_sums)
{
    enum { SLOT = 1, LAYER = 2, HEAD = 2 };
    sparse_run j = sparse_run_on("cpu", 1, "adaspa:search=mass,keep=0.4,min-tokens=0,order=raster",
                                 0);
    const float *wsum = sparse_scores(&j, "wsum", SLOT, LAYER, 2) +
                        (long)HEAD * j.grid.nb * j.grid.nb;
    long N = j.grid.N, nb = j.grid.nb;
    float *x[4];
    double *want = calloc((size_t)(nb * nb), sizeof *want);
    for (int i = 0; i < 4; i++) {
        x[i] = malloc((size_t)sparse_count(&j) * sizeof *x[i]);
        sparse_draw(&j, i % 2, 1 + i / 2, SLOT, LAYER, x[i]);
    }
    for (long n = 0; n < N; n++) {
        double sum = 0;
        for (long m = 0; m < N; m++) sum += exp(logit(x[0], x[1], n, m, HEAD));
        for (long m = 0; m < N; m++)
            want[n / TS_BLOCK * nb + m / TS_BLOCK] += exp(logit(x[2], x[3], n, m, HEAD)) / sum;
    }
    for (long i = 0; i < nb * nb; i++) ck_assert_double_eq_tol(wsum[i] / want[i], 1, 1e-5);
    for (int i = 0; i < 4; i++) free(x[i]);
    free(want);
    sparse_run_free(&j);
}
END_TEST

/* Rows of the first search sum to their tokens; recall is what the plan holds of them; a row's best
 * blocks hold at least as much as any other's of the same number. */
START_TEST(searches)
{
    int shape = _i;
    sparse_run j = sparse_run_on(
        "cpu", 1, "adaspa:search=mass,keep=0.4,adaptive=off,min-tokens=0,order=raster", shape);
    int nb = j.grid.nb, words = (int)ts_plan_words(nb), budget = (int)ts_plan_budget(0.4, nb);
    uint32_t *bits = malloc((size_t)(A * nb * words) * sizeof *bits),
             *fixed = malloc((size_t)(nb * words) * sizeof *fixed);
    ts_err err = {0};
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            const float *first = sparse_scores(&j, "wsum", slot, layer, 1),
                        *wsum = sparse_scores(&j, "wsum", slot, layer, 2),
                        *recall = sparse_scores(&j, "recall", slot, layer, 2);
            ck_assert(ts_plan_get(&err, ts_attn_plans(&j.attn), "plans", sparse_branches[slot],
                                  layer, A, nb, bits) == TS_OK);
            for (int a = 0; a < A; a++) {
                double mean = 0;
                for (int p = 0; p < nb; p++) {
                    const float *row = wsum + (a * nb + p) * nb;
                    const uint32_t *best = bits + (a * nb + p) * words;
                    double sum = 0, all = 0, kept = held(row, best, nb);
                    int tokens = p < nb - 1 ? TS_BLOCK : j.grid.N - p * TS_BLOCK;
                    for (int i = 0; i < nb; i++) {
                        sum += first[(a * nb + p) * nb + i];
                        all += row[i];
                    }
                    ck_assert_double_eq_tol(sum, tokens, 1e-5 * tokens);
                    ck_assert_int_eq(ts_bits_count(best, 1, nb), budget);
                    mean += kept / all / nb;
                    ck_assert(ts_pattern_window(&j.grid, j.at, 0.4, nb, fixed));
                    ck_assert(kept >= held(row, fixed + p * words, nb));
                    for (uint64_t seed = 0; seed < 20; seed++) {
                        ck_assert(ts_pattern_random(nb, 0.4, seed, layer, a, fixed));
                        ck_assert(kept >= held(row, fixed + p * words, nb));
                    }
                }
                ck_assert_double_eq_tol(recall[a], mean, 1e-6);
            }
        }
    free(bits);
    free(fixed);
    sparse_run_free(&j);
}
END_TEST

/* Rows by mass: the block itself, and no more others than it takes. f32 sums: 1e-5. */
START_TEST(by_mass)
{
    sparse_run j = sparse_run_on("cpu", 1, "adaspa:mass=0.6,min-tokens=0,order=raster", _i);
    int nb = j.grid.nb, words = (int)ts_plan_words(nb), few = 0, many = 0;
    uint32_t *bits = malloc((size_t)(A * nb * words) * sizeof *bits);
    const ts_attn_counters *c = &j.attn.counters;
    ts_err err = {0};
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            const float *wsum = sparse_scores(&j, "wsum", slot, layer, 2);
            ck_assert(ts_plan_get(&err, ts_attn_plans(&j.attn), "plans", sparse_branches[slot],
                                  layer, A, nb, bits) == TS_OK);
            for (int a = 0; a < A; a++) {
                long blocks = ts_bits_count(bits + (long)a * nb * words, nb, nb);
                ck_assert(blocks >= c->head_least * nb * nb - 0.5 &&
                          blocks <= c->head_most * nb * nb + 0.5);
                for (int p = 0; p < nb; p++) {
                    const float *row = wsum + (a * nb + p) * nb;
                    const uint32_t *read = bits + (a * nb + p) * words;
                    double all = 0, kept = held(row, read, nb), least = INFINITY, most = 0;
                    for (int i = 0; i < nb; i++) {
                        all += row[i];
                        if (i != p && read[0] >> i & 1) least = fmin(least, row[i]);
                        if (!(read[0] >> i & 1)) most = fmax(most, row[i]);
                    }
                    ck_assert(read[0] >> p & 1);
                    ck_assert_double_ge(kept, 0.6 * all * (1 - 1e-5));
                    if (least < INFINITY) /* one fewer is not enough */
                        ck_assert(least >= most && kept - least <= 0.6 * all * (1 + 1e-5));
                    few += kept == row[p];
                    many += ts_bits_count(read, 1, nb) > 2;
                }
            }
        }
    printf("%d rows read themselves alone, %d three blocks and more\n", few, many);
    ck_assert(many > 0);
    ck_assert_int_eq(c->heads, 2 * SLOTS * LAYERS * A); /* two searches */
    double mean = c->head_sum / (double)c->heads;
    ck_assert(c->head_least <= mean && mean <= c->head_most && c->head_most <= 1 &&
              c->head_squares >= mean * c->head_sum * (1 - 1e-9));
    free(bits);
    sparse_run_free(&j);
}
END_TEST

/* Heads share the budget: as many have more as have less, by what they have in excess, so that the
 * mean of the keeps is what was asked. 19 blocks, keep 0.4: 0.2, 0.4 or 0.6 of them. */
START_TEST(adaptive)
{
    sparse_run j = sparse_run_of("adaspa:search=mass,keep=0.4,min-tokens=0,order=raster", 0);
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    int unequal = 0;
    free(j.out);
    free(j.at);
    j.grid = ts_grid_of(6, 14, 14);
    j.plans = j.scores = true;
    j.out = calloc((size_t)(STEPS * SLOTS * LAYERS * sparse_count(&j)), sizeof *j.out);
    j.at = calloc((size_t)j.grid.N, sizeof *j.at);
    testing_run(ctx, sparse_phase, &j);
    int nb = j.grid.nb, words = (int)ts_plan_words(nb), count[A];
    ck_assert_int_eq(nb, 19);
    uint32_t *bits = malloc((size_t)(A * nb * words) * sizeof *bits);
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            const float *recall = sparse_scores(&j, "recall", slot, layer, 2);
            int above = 0, few = 0, many = 0;
            ck_ok(ctx, ts_plan_get(&ctx->err, ts_attn_plans(&j.attn), "plans",
                                   sparse_branches[slot], layer, A, nb, bits));
            for (int a = 0; a < A; a++) {
                count[a] = (int)ts_bits_count(bits + (long)a * nb * words, 1, nb);
                above += recall[a] > 0.8;
                few += count[a] == ts_plan_budget(0.2, nb);
                many += count[a] == ts_plan_budget(0.6, nb);
                for (int p = 0; p < nb; p++)
                    ck_assert_int_eq(ts_bits_count(bits + ((long)a * nb + p) * words, 1, nb),
                                     count[a]);
            }
            ck_assert_int_eq(few, above < A / 2 ? above : A / 2);
            ck_assert_int_eq(many, few);
            for (int a = 0; a < A; a++)
                for (int b = 0; b < A; b++)
                    ck_assert(recall[a] <= recall[b] || count[a] <= count[b]);
            unequal += few > 0;
        }
    printf("%d of %d plans with unequal heads\n", unequal, SLOTS * LAYERS);
    ck_assert_int_gt(unequal, 0);
    free(bits);
    sparse_run_free(&j);
    testing_close(ctx);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("searches");
    TCase *t = tcase_create("searches");
    tcase_add_loop_test(t, pooled_plans, 0, 2 * SHAPES);
    tcase_add_test(t, cached_sums);
    tcase_add_loop_test(t, searches, 0, SHAPES);
    tcase_add_loop_test(t, by_mass, 0, SHAPES);
    tcase_add_test(t, adaptive);
    suite_add_tcase(s, t);
    return testing_main(s);
}
