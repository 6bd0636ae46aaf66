/* --attention recycled against its definition in double: when a layer searches again, what it then
 * reads, and what a run says of it. */
#include "attention/plans.h"
#include "attention/report.h"
#include "tests/attention/sparse_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Mean over heads and blocks of the cosine of mean queries of two steps. */
static double likeness(const sparse_run *j, int slot, int layer, int now, int then)
{
    float *x[2];
    int nb = j->grid.nb, step[2] = {now, then};
    double sum = 0;
    for (int i = 0; i < 2; i++) {
        x[i] = malloc((size_t)sparse_count(j) * sizeof *x[i]);
        sparse_draw(j, 0, step[i], slot, layer, x[i]);
    }
    for (int a = 0; a < A; a++)
        for (int p = 0; p < nb; p++) {
            double mean[2][D] = {{0}}, dot = 0, one = 0, two = 0;
            for (int n = p * TS_BLOCK; n < (p + 1) * TS_BLOCK && n < j->grid.N; n++)
                for (int i = 0; i < 2 * D; i++)
                    mean[i / D][i % D] += x[i / D][(long)j->at[n] * WIDTH + a * D + i % D];
            for (int d = 0; d < D; d++) {
                dot += mean[0][d] * mean[1][d];
                one += mean[0][d] * mean[0][d];
                two += mean[1][d] * mean[1][d];
            }
            sum += dot / sqrt(one * two) / nb / A;
        }
    free(x[0]);
    free(x[1]);
    return sum;
}

/* Steps that search by the definition, bits; a step decides by the queries of the one before.
 * False: some likeness is so near to the threshold that f32 may decide otherwise. */
static bool define_searches(const sparse_run *j, const ts_policy *p, int slot, int layer,
                            unsigned *steps)
{
    int last = 1, n = 1;
    bool stale = false;
    *steps = 1 << 1;
    for (int step = 2; step <= STEPS; step++) {
        if (stale && n < p->searches && step - last >= p->apart) {
            *steps |= 1u << step;
            last = step;
            stale = false;
            n++;
            continue;
        }
        double alike = likeness(j, slot, layer, step, last);
        if (fabs(alike - p->similar) < 1e-5) return false;
        stale = alike < p->similar;
    }
    return true;
}

/* Does a plan of file come from a search? Calls that search are dense. */
static unsigned found_searches(const sparse_run *j, const sparse_run *dense, int slot, int layer)
{
    unsigned steps = 0;
    for (int step = 1; step <= STEPS; step++)
        if (testing_rel(sparse_output(j, step, slot, layer),
                        sparse_output(dense, step, slot, layer), sparse_count(j)) < 1e-6)
            steps |= 1u << step;
    return steps;
}

static const char *const keys[] = {
    "similar=1,apart=1", "similar=0.97,apart=1",         "similar=0.95,apart=1", "similar=0",
    "similar=1,apart=2", "similar=1,apart=1,searches=2", "similar=1,searches=1"};
enum { KEYS = sizeof keys / sizeof *keys };

static void check_searches(const char *backend, const char *with, int shape)
{
    char policy[128];
    snprintf(policy, sizeof policy, "recycled:keep=0.4,min-tokens=0,%s", with);
    sparse_run dense = sparse_run_on("cpu", 1, "dense", shape),
               j = sparse_run_on(backend, 1, policy, shape);
    long searches = 0;
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            unsigned want, got = found_searches(&j, &dense, slot, layer);
            int n = ts_plans_of(&j.attn, slot, layer)->searches;
            searches += n;
            ck_assert_int_eq(n, __builtin_popcount(got));
            if (define_searches(&j, &j.attn.o.policy, slot, layer, &want))
                ck_assert_msg(got == want, "%s, %s, layer %d: searches %x, expected %x", policy,
                              sparse_branches[slot], layer, got, want);
        }
    const ts_attn_counters *c = &j.attn.counters;
    ck_assert_int_eq(c->searched, searches);
    ck_assert_int_eq(c->compared, c->sparse);
    ck_assert(c->again == 0 && c->dense == 0);
    double alike = c->alike / (double)c->compared;
    ck_assert(c->alike_least <= alike && alike <= 1 + 1e-6 && c->alike_least > 0.5);
    char *said = ts_attn_report(&j.attn);
    ck_assert_msg(strstr(said, "  searches  of cond, by layer: ") && strstr(said, "  alike     "),
                  "%s", said);
    free(said);
    sparse_run_free(&dense);
    sparse_run_free(&j);
}

START_TEST(searches) { check_searches("cpu", keys[_i % KEYS], _i / KEYS); }
END_TEST
START_TEST(searches_far) { check_searches("far", keys[_i], 0); }
END_TEST

int main(void)
{
    Suite *s = suite_create("recycle");
    TCase *t = tcase_create("recycle");
    tcase_add_loop_test(t, searches, 0, KEYS * SHAPES);
    tcase_add_loop_test(t, searches_far, 0, 2);
    suite_add_tcase(s, t);
    return testing_main(s);
}
