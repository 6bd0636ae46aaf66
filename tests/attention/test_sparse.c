/* What policies compute: the kept keys' softmax and no other, dense where they are to be, the same
 * bytes with any number of threads and behind addresses that fault. */
#include "attention/plan_file.h"
#include "tests/attention/sparse_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double apart(const sparse_run *a, const sparse_run *b, int step)
{
    double worst = 0;
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++)
            worst = fmax(worst, testing_rel(sparse_output(a, step, slot, layer),
                                            sparse_output(b, step, slot, layer), sparse_count(a)));
    return worst;
}

/* ---- what is computed ---- */
static const char *const everything[] = {"adaspa:keep=1,min-tokens=0,order=raster",
                                         "adaspa:mass=1,min-tokens=0,order=tile",
                                         "adaspa:keep=1,min-tokens=0,order=tile",
                                         "svg:keep=1,min-tokens=0,order=raster",
                                         "svg:keep=1,min-tokens=0,order=tile",
                                         "recycled:keep=1,min-tokens=0,order=tile,similar=1",
                                         "window:keep=1,min-tokens=0,order=raster,dense-steps=0",
                                         "window:keep=1,min-tokens=0,order=tile,dense-steps=0",
                                         "pooled:keep=1,min-tokens=0,order=raster,dense-steps=0",
                                         "pooled:keep=1,min-tokens=0,order=tile,dense-steps=0",
                                         "random:keep=1,min-tokens=0,order=raster,dense-steps=0",
                                         "random:keep=1,min-tokens=0,order=tile,dense-steps=0",
                                         "tile:k=9,min-tokens=0,order=raster,dense-steps=0",
                                         "tile:k=9,min-tokens=0,order=tile,dense-steps=0"};
enum { EVERYTHING = sizeof everything / sizeof *everything };

/* Sums of a few hundred f32 terms, in another order where tokens are. */
static void check_everything(const char *backend, const char *policy)
{
    for (int shape = 0; shape < SHAPES; shape++) {
        sparse_run dense = sparse_run_on(backend, 1, "dense", shape),
                   j = sparse_run_on(backend, 1, policy, shape);
        for (int step = 1; step <= STEPS; step++)
            ck_assert_msg(apart(&j, &dense, step) < 1e-6, "%s, step %d: %.2e from dense", policy,
                          step, apart(&j, &dense, step));
        ck_assert_int_gt(j.attn.counters.sparse + j.attn.counters.again, 0);
        ck_assert_double_eq_tol(j.attn.counters.kept,
                                (double)(j.attn.counters.sparse + j.attn.counters.again), 1e-9);
        sparse_run_free(&dense);
        sparse_run_free(&j);
    }
}

START_TEST(keep_all) { check_everything("cpu", everything[_i]); }
END_TEST
START_TEST(keep_all_far) { check_everything("far", everything[_i]); }
END_TEST

/* Softmax over the kept keys of a downloaded plan, spelled out. */
static void check_masked(const sparse_run *j, int step, int slot, int layer, const uint32_t *bits)
{
    long N = j->grid.N, nb = j->grid.nb, words = ts_plan_words((int)nb);
    float *x[3];
    double worst = 0, norm = 0;
    for (int i = 0; i < 3; i++) {
        x[i] = malloc((size_t)sparse_count(j) * sizeof *x[i]);
        sparse_draw(j, i, step, slot, layer, x[i]);
    }
    double *p = malloc((size_t)N * sizeof *p);
    for (long n = 0; n < N; n += 7)
        for (long a = 0; a < A; a++) {
            double sum = 0;
            for (long m = 0; m < N; m++) {
                p[m] = 0;
                for (long d = 0; d < D; d++)
                    p[m] += (double)x[0][j->at[n] * WIDTH + a * D + d] *
                            x[1][j->at[m] * WIDTH + a * D + d] / sqrt(D);
                p[m] = bits[(a * nb + n / TS_BLOCK) * words + m / TS_BLOCK / 32] >>
                                   m / TS_BLOCK % 32 &
                               1
                           ? exp(p[m])
                           : 0;
                sum += p[m];
            }
            for (long d = 0; d < D; d++) {
                double y = 0,
                       got = sparse_output(j, step, slot, layer)[j->at[n] * WIDTH + a * D + d];
                for (long m = 0; m < N; m++) y += p[m] / sum * x[2][j->at[m] * WIDTH + a * D + d];
                worst += (y - got) * (y - got);
                norm += y * y;
            }
        }
    ck_assert_msg(sqrt(worst / norm) < 1e-6, "%s, step %d, %s, layer %d: %.2e from its plan",
                  j->policy, step, sparse_branches[slot], layer, sqrt(worst / norm));
    free(p);
    for (int i = 0; i < 3; i++) free(x[i]);
}

static void check_plans(const char *backend, const char *policy, int shape)
{
    sparse_run j = sparse_run_on(backend, 1, policy, shape);
    ts_err err = {0};
    uint32_t *bits = malloc((size_t)(A * j.grid.nb * ts_plan_words(j.grid.nb)) * sizeof *bits);
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            ck_assert_msg(ts_plan_get(&err, ts_attn_plans(&j.attn), "plans", sparse_branches[slot],
                                      layer, A, j.grid.nb, bits) == TS_OK,
                          "%s", err.text);
            check_masked(&j, STEPS, slot, layer, bits);
        }
    free(bits);
    sparse_run_free(&j);
}

/* clips: a single frame has no tile */
START_TEST(masked) { check_plans("cpu", sparse_some[_i], _i % 2); }
END_TEST
START_TEST(masked_far) { check_plans("far", sparse_some[_i], 1 - _i % 2); }
END_TEST

/* Four steps of adaspa: dense with a search, again, sparse, sparse. */
START_TEST(search_is_dense)
{
    sparse_run dense = sparse_run_on("cpu", 1, "dense", 0),
               j = sparse_run_on("cpu", 1, "adaspa:search=mass,keep=0.3,min-tokens=0,order=raster",
                                 0);
    const ts_attn_counters *c = &j.attn.counters;
    ck_assert_msg(apart(&j, &dense, 1) < 1e-6, "%.2e", apart(&j, &dense, 1));
    for (int step = 2; step <= STEPS; step++)
        ck_assert_msg(apart(&j, &dense, step) > 1e-3, "step %d is dense", step);
    ck_assert(c->dense == 0 && c->searched == LAYERS * SLOTS && c->again == LAYERS * SLOTS &&
              c->sparse == 2 * LAYERS * SLOTS && c->recalls == 2 * LAYERS * SLOTS);
    ck_assert(c->recall_least > 0 && c->recall_least <= c->recall / (double)c->recalls &&
              c->recall / (double)c->recalls <= 1);
    ck_assert(c->search_s > 0 && c->searched_s > 0 && c->again_s > 0 && c->sparse_s > 0 &&
              c->dense_s == 0);
    sparse_run_free(&dense);
    sparse_run_free(&j);
}
END_TEST

START_TEST(dense_layers)
{
    sparse_run dense = sparse_run_on("cpu", 1, "dense", 0),
               j = sparse_run_on(
                   "cpu", 1,
                   "window:keep=0.3,min-tokens=0,order=raster,dense-layers=1,dense-steps=2", 0);
    for (int step = 1; step <= STEPS; step++)
        for (int layer = 0; layer < LAYERS; layer++) {
            double e = testing_rel(sparse_output(&j, step, 1, layer),
                                   sparse_output(&dense, step, 1, layer), sparse_count(&j));
            ck_assert_msg(step <= 2 || layer == 1 ? e < 1e-6 : e > 1e-3, "step %d, layer %d: %.2e",
                          step, layer, e);
        }
    ck_assert(j.attn.counters.dense == (2 * LAYERS + 2) * SLOTS &&
              j.attn.counters.sparse == 2 * (LAYERS - 1) * SLOTS);
    sparse_run_free(&dense);
    sparse_run_free(&j);
}
END_TEST

/* ---- the same bytes ---- */
static void same_bags(const ts_bag *a, const ts_bag *b)
{
    ts_err err = {0};
    ck_assert_int_eq(ts_bag_count(a), ts_bag_count(b));
    ck_assert_int_gt(ts_bag_count(a), 0);
    for (int i = 0; i < ts_bag_count(a); i++) {
        ts_host x, y;
        const char *name = ts_bag_name(a, i);
        bool whole = strstr(name, ".rows") || strstr(name, ".blocks");
        ck_assert(ts_bag_get(&err, a, name, whole ? TS_I32 : TS_F32, -1, NULL, &x) == TS_OK);
        ck_assert_msg(ts_bag_get(&err, b, name, x.type, x.nd, x.dim, &y) == TS_OK, "%s", err.text);
        size_t n = 4;
        for (int d = 0; d < x.nd; d++) n *= (size_t)x.dim[d];
        ck_assert_msg(!memcmp(x.data, y.data, n), "%s differs", name);
    }
}

START_TEST(threads)
{
    sparse_run a = sparse_run_on("cpu", 1, sparse_some[_i], 0),
               b = sparse_run_on("cpu", 2, sparse_some[_i], 0),
               c = sparse_run_on("cpu", 2, sparse_some[_i], 0),
               d = sparse_run_on("far", 2, sparse_some[_i], 0);
    const sparse_run *other[] = {&b, &c, &d};
    for (int i = 0; i < 3; i++) {
        same_bags(ts_attn_plans(&a.attn), ts_attn_plans(&other[i]->attn));
        ck_assert(!memcmp(a.out, other[i]->out,
                          (size_t)(STEPS * SLOTS * LAYERS * sparse_count(&a)) * sizeof *a.out));
    }
    sparse_run_free(&a);
    sparse_run_free(&b);
    sparse_run_free(&c);
    sparse_run_free(&d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sparse");
    TCase *t = tcase_create("sparse");
    tcase_add_loop_test(t, keep_all, 0, EVERYTHING);
    tcase_add_loop_test(t, keep_all_far, 0, EVERYTHING);
    tcase_add_loop_test(t, masked, 0, SOME);
    tcase_add_loop_test(t, masked_far, 0, SOME);
    tcase_add_test(t, search_is_dense);
    tcase_add_test(t, dense_layers);
    tcase_add_loop_test(t, threads, 0, SOME);
    suite_add_tcase(s, t);
    return testing_main(s);
}
