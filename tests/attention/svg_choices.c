/* The definition of --attention svg in double. */
#include "tests/attention/svg_choices.h"
#include "attention/plans.h"

#include "attention/plan_file.h"
#include "tests/attention/sparse_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 8 }; /* blocks */

/* Mean place of a block's tokens: frame-major (spatial) or, temporal, all frames of a pixel
 * together. */
static double place_of(const sparse_run *j, int pattern, int block)
{
    int area = j->grid.H * j->grid.W, n = 0;
    double sum = 0;
    for (int i = block * 64; i < (block + 1) * 64 && i < j->grid.N; i++, n++)
        sum += pattern ? j->at[i] % area * j->grid.F + j->at[i] / area : j->at[i];
    return sum / n;
}

/* The budget's nearest blocks of a row, the lower one among equals. */
static void choose_nearest(const sparse_run *j, int pattern, int row, bool chosen[MOST])
{
    int nb = j->grid.nb;
    memset(chosen, 0, MOST * sizeof *chosen);
    for (int k = 0; k < (int)floor(0.4 * nb + 0.5); k++) {
        int best = -1;
        double least = INFINITY;
        for (int b = 0; b < nb; b++) {
            double far = fabs(place_of(j, pattern, row) - place_of(j, pattern, b));
            if (chosen[b] || far > least - 1e-6) continue;
            least = far;
            best = b;
        }
        chosen[best] = true;
    }
}

/* |what a pattern gives - full attention|^2 of a head in the step that searches. */
static double error_of(const sparse_run *j, int pattern, int slot, int layer, int head)
{
    long N = j->grid.N;
    double error = 0, *w = malloc((size_t)N * sizeof *w);
    float *x[3];
    for (int i = 0; i < 3; i++) {
        x[i] = malloc((size_t)sparse_count(j) * sizeof *x[i]);
        sparse_draw(j, i, 1, slot, layer, x[i]);
    }
    for (long n = 0; n < N; n++) {
        bool chosen[MOST];
        double all = 0, some = 0;
        choose_nearest(j, pattern, (int)(n / 64), chosen);
        for (long m = 0; m < N; m++) {
            double s = 0;
            for (long d = 0; d < D; d++)
                s += (double)x[0][j->at[n] * WIDTH + head * D + d] *
                     x[1][j->at[m] * WIDTH + head * D + d];
            w[m] = exp(s / sqrt(D));
            all += w[m];
            some += chosen[m / 64] ? w[m] : 0;
        }
        for (long d = 0; d < D; d++) {
            double y = 0;
            for (long m = 0; m < N; m++)
                y += (w[m] / all - (chosen[m / 64] ? w[m] / some : 0)) *
                     x[2][j->at[m] * WIDTH + head * D + d];
            error += y * y;
        }
    }
    for (int i = 0; i < 3; i++) free(x[i]);
    free(w);
    return error;
}

static void check_head(const sparse_run *j, int slot, int layer, int head, const uint32_t *bits,
                       int seen[2])
{
    int nb = j->grid.nb;
    double spatial = error_of(j, 0, slot, layer, head),
           temporal = error_of(j, 1, slot, layer, head);
    int wanted = temporal < spatial;
    if (fabs(spatial - temporal) < 1e-5 * spatial) return; /* either may be nearer in f32 */
    seen[wanted]++;
    for (int p = 0; p < nb; p++) {
        bool chosen[MOST];
        choose_nearest(j, wanted, p, chosen);
        for (int b = 0; b < nb; b++)
            ck_assert_msg((bits[head * nb + p] >> b & 1) == chosen[b],
                          "%s, layer %d, head %d: row %d, block %d: errors %g, %g",
                          sparse_branches[slot], layer, head, p, b, spatial, temporal);
    }
}

void svg_choices(const char *backend, int shape)
{
    ts_err err = {0};
    uint32_t bits[A * MOST];
    int seen[2] = {0};
    sparse_run j = sparse_run_on(backend, 1, SVG_POLICY, shape);
    for (int slot = 0; slot < SLOTS; slot++)
        for (int layer = 0; layer < LAYERS; layer++) {
            ck_assert_msg(ts_plan_get(&err, ts_attn_plans(&j.attn), "plans", sparse_branches[slot],
                                      layer, A, j.grid.nb, bits) == TS_OK,
                          "%s", err.text);
            for (int h = 0; h < A; h++) check_head(&j, slot, layer, h, bits, seen);
        }
    const long *ranked = j.attn.counters.ranked;
    ck_assert_msg(seen[0] > 2 && seen[1] > 2, "spatial %d, temporal %d", seen[0], seen[1]);
    ck_assert(ranked[TS_RANK_SPATIAL] >= seen[0] && ranked[TS_RANK_TEMPORAL] >= seen[1] &&
              ranked[TS_RANK_SPATIAL] + ranked[TS_RANK_TEMPORAL] == SLOTS * LAYERS * A);
    ck_assert(j.attn.counters.searched == SLOTS * LAYERS &&
              j.attn.counters.sparse == 3 * SLOTS * LAYERS && j.attn.counters.recall_least > 0);
    sparse_run_free(&j);
}
