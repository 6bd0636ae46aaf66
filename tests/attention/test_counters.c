/* What a run counts, why it fell back to dense, and what it refuses. */
#include "attention/report.h"
#include "tests/attention/sparse_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a run says of itself, from numbers made up. */
START_TEST(in_words)
{
    ts_err err = {0};
    ts_attn a = {.o = {.timed = true},
                 .counters = {.dense = 10,
                              .searched = 5,
                              .again = 4,
                              .sparse = 21,
                              .dense_s = 20,
                              .searched_s = 12.5,
                              .again_s = 6,
                              .sparse_s = 21,
                              .search_s = 3.25,
                              .kept = 7.5,
                              .read = 7.5,
                              .recall = 5.4,
                              .recall_least = 0.512,
                              .recalls = 9}};
    /* of four heads 0.1, 0.2, 0.3 and 0.4 */
    ts_attn_counters by_mass = {.heads = 4,
                                .head_sum = 1,
                                .head_squares = 0.3,
                                .head_least = 0.1,
                                .head_most = 0.4,
                                .dense = 1};
    ck_assert(ts_policy_parse(&err, "adaspa:keep=0.25,min-tokens=0", &a.o.policy) == TS_OK);
    double measured, gain = ts_attn_gain(&a.counters, &measured);
    ck_assert_double_eq_tol(gain, 40 / (10 + 5 + 0.5 * 4 + 7.5), 1e-12);
    /* 40 calls of the 2 s that a dense one took, over what they did take */
    ck_assert_double_eq_tol(measured, 2 * 40 / 59.5, 1e-12);
    char *said = ts_attn_report(&a);
    const char *rest = said ? strchr(said, '\n') : NULL;
    ck_assert_msg(rest != NULL, "%s", said);
    /* 7.5 of 25, 22.5 of 40 */
    ck_assert_str_eq(
        rest,
        "\n  calls     10 dense, 5 dense with a search, 25 sparse (4 of them after a new search)\n"
        "  kept      30.0% of the blocks in sparse calls, 56.2% of the whole run's\n"
        "  recall    0.600 of the weights in a new plan's blocks, least 0.512 (9 plans)\n"
        "  time      59.50 s in attention, 3.25 s of it searching\n"
        "  gain      1.63x of attention by arithmetic, 1.34x against the dense calls of this "
        "run\n");
    free(said);
    ts_attn other = {.o = a.o, .counters = by_mass};
    said = ts_attn_report(&other);
    ck_assert_msg(strstr(said, "\n  density   25.0% of the blocks in a head's new plan, 10.0% to "
                               "40.0%, standard deviation 11.2% (4 heads of layers)\n") != NULL,
                  "%s", said);
    free(said);
    /* then a dense call with a search is what there is to compare with */
    a.counters.dense = 0;
    a.counters.dense_s = 0;
    ts_attn_gain(&a.counters, &measured);
    ck_assert_double_eq_tol(measured, 2.5 * 30 / 39.5, 1e-12);
    a.counters.searched = 0;
    a.counters.searched_s = 0;
    ts_attn_gain(&a.counters, &measured);
    ck_assert_double_eq(measured, 0);
}
END_TEST

/* Gain of attention by arithmetic: a later search is half a dense call, or with a residual one and
 * a sparse one, means of blocks are nothing. */
START_TEST(gains)
{
    static const struct {
        const char *policy;
        double again, searches; /* by kept row sums; dense, with residuals */
    } of[] = {{"adaspa:keep=0.4,min-tokens=0,order=raster,adaptive=off", 1, 0},
              {"adaspa:keep=0.4,min-tokens=0,order=raster,search-steps=1+3", 0, 2},
              {"pooled:keep=0.4,min-tokens=0,order=raster,dense-steps=1", 0, 0},
              {"window:keep=0.4,min-tokens=0,order=raster,dense-steps=1", 0, 0}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        sparse_run j = sparse_run_on("cpu", 1, of[i].policy, 0);
        const ts_attn_counters *c = &j.attn.counters;
        double measured, kept = 0.4; /* 2 of 5 blocks */
        double dense = fmax(1, of[i].searches);
        ck_assert_int_eq(c->dense + c->searched, (long)dense * LAYERS * SLOTS);
        ck_assert_int_eq(c->again, (long)of[i].again * LAYERS * SLOTS);
        ck_assert_int_eq(c->again + c->sparse, (long)(4 - dense) * LAYERS * SLOTS);
        double work = dense + 0.5 * of[i].again + (4 - dense + of[i].searches) * kept;
        ck_assert_double_eq_tol(ts_attn_gain(c, &measured), 4 / work, 1e-9);
        ck_assert(measured > 0);
        ck_assert((c->search_s > 0) == (i < 3));
        sparse_run_free(&j);
    }
}
END_TEST

/* ---- falling back ---- */
static void check_fallback(const char *policy, int shape, ts_status want, const char *warned,
                           const char *why, long sparse)
{
    sparse_run j = sparse_run_of(policy, shape);
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ctx->dev->counting = true;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
    ts_status st = sparse_phase(ctx, &j);
    ts_arena_close(&ctx->arena);
    ctx->dev->counting = false;
    ck_assert_int_eq(st, want);
    if (warned)
        ck_assert_msg(strstr(testing_warned(ctx), warned) != NULL, "%s: warned \"%s\"", policy,
                      testing_warned(ctx));
    else
        ck_assert_str_eq(testing_warned(ctx), "");
    if (want)
        ck_assert_msg(strstr(ctx->err.text, why) &&
                          strstr(ctx->err.text, ", and strict refuses that"),
                      "%s: \"%s\"", policy, ctx->err.text);
    else {
        ck_assert_msg(strstr(j.attn.why, why) != NULL, "%s: because \"%s\"", policy, j.attn.why);
        testing_run(ctx, sparse_phase, &j);
        ck_assert_msg(strstr(j.attn.why, why) != NULL, "%s: because \"%s\"", policy, j.attn.why);
        ck_assert_int_eq(j.attn.counters.sparse + j.attn.counters.again, sparse);
        char *report = ts_attn_report(&j.attn);
        ck_assert_msg(report && strstr(report, why), "%s: %s", policy, report);
        free(report);
    }
    sparse_run_free(&j);
    testing_close(ctx);
}

START_TEST(fallbacks)
{
    static const char *const few = "240 tokens are fewer than min-tokens=256, below which sparsity "
                                   "does not pay: everything is dense",
                             *const none = "no step was left to be sparse: everything is dense",
                             *const single =
                                 "1 of 1 latent frame see everything: every block is read";
    check_fallback("window", SHAPES, TS_OK,
                   "attention window: 240 tokens are fewer than min-tokens=256", few, 0);
    check_fallback("adaspa", SHAPES, TS_OK, few, few, 0);
    check_fallback("adaspa:strict", SHAPES, TS_EFAIL, NULL, few, 0);
    /* that was asked for */
    check_fallback("pooled:min-tokens=301,strict", 0, TS_OK, NULL,
                   "300 tokens are fewer than min-tokens=301", 0);
    check_fallback("pooled:min-tokens=300,strict,dense-steps=0", 0, TS_OK, NULL, "",
                   STEPS * SLOTS * LAYERS);
    check_fallback("tile:min-tokens=0,dense-steps=0", 2, TS_OK, single, single,
                   STEPS * SLOTS * LAYERS);
    check_fallback("tile:min-tokens=0,strict", 2, TS_EFAIL, NULL, single, 0);
    char file[4200], tiles[4300]; /* what a file says of each layer was asked for */
    char *tmp = testing_tmp();
    snprintf(file, sizeof file, "%s/t.json", tmp);
    FILE *f = fopen(file, "w");
    ck_assert(f && fputs("{\"frames\": 1, \"layers\": [1, 1, 1]}", f) > 0 && fclose(f) == 0);
    snprintf(tiles, sizeof tiles, "tile:file=%s,min-tokens=0,strict,dense-steps=0", file);
    check_fallback(tiles, 2, TS_OK, NULL, "", STEPS * SLOTS * LAYERS);
    free(tmp);
    /* so was this */
    check_fallback("adaspa:min-tokens=0,search-steps=4,strict", 0, TS_OK, NULL, none, 0);
    check_fallback("window:min-tokens=0,dense-steps=4,strict", 0, TS_OK, NULL, none, 0);
    check_fallback("random:min-tokens=0,dense-layers=0-2,strict", 0, TS_OK, NULL, none, 0);
}
END_TEST

/* A run of one step has none left; nobody asked for that. */
START_TEST(one_step)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    for (int strict = 0; strict < 2; strict++) {
        sparse_run j = sparse_run_of(strict ? "adaspa:min-tokens=0,strict" : "adaspa:min-tokens=0",
                                     0);
        ts_attn_options o = {.grid = j.grid,
                             .layers = 1,
                             .heads = A,
                             .width = D,
                             .slots = 1,
                             .slot_name = sparse_branches};
        ck_ok(ctx, ts_policy_parse(&ctx->err, j.policy, &o.policy));
        ts_policy_settle(&o.policy, 1);
        ctx->dev->counting = true;
        ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
        ck_ok(ctx, ts_attn_open(&j.attn, ctx, &o));
        ck_ok(ctx, sparse_call(ctx, &j, 1, 0, 0));
        ck_ok(ctx, ts_attn_step_end(&j.attn));
        ck_assert_int_eq(ts_attn_finish(&j.attn), strict ? TS_EFAIL : TS_OK);
        ck_assert(strstr(strict ? ctx->err.text : testing_warned(ctx),
                         "attention adaspa: no step was left to be sparse: everything is dense"));
        ts_arena_close(&ctx->arena);
        ctx->dev->counting = false;
        sparse_run_free(&j);
    }
    testing_close(ctx);
}
END_TEST

/* Nothing of the policy's is given away for a call that it can not answer. */
START_TEST(other_heads)
{
    sparse_run j = sparse_run_of("window:min-tokens=0", 0);
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ctx->dev->counting = true;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
    ck_ok(ctx, sparse_open(ctx, &j));
    ts_tensor t = ts_take(&ctx->arena, TS_F32, TS_DIM(j.grid.N, 3, D));
    t.ld = 3 * D;
    ck_assert_int_eq(ts_attend(&j.attn, t, t, t, t), TS_ESHAPE);
    ck_assert_msg(
        strstr(ctx->err.text,
               "layer 1, branch 0: 3 heads, expected layers and branches below 3 and 2, 4 heads"),
        "%s", ctx->err.text);
    t = ts_take(&ctx->arena, TS_F32, TS_DIM(j.grid.N, A, D));
    t.ld = WIDTH;
    ts_attn_begin(&j.attn, 1, 3, 0);
    ck_assert_int_eq(ts_attend(&j.attn, t, t, t, t), TS_ESHAPE);
    ts_attn_begin(&j.attn, 1, 0, 2);
    ck_assert_int_eq(ts_attend(&j.attn, t, t, t, t), TS_ESHAPE);
    ts_arena_close(&ctx->arena);
    ctx->dev->counting = false;
    sparse_run_free(&j);
    testing_close(ctx);
}
END_TEST

/* Patterns can take long: stop is asked for between them, in the counting run no less. */
START_TEST(stopped)
{
    static const char *const policy[] = {"random:min-tokens=0", "window:min-tokens=0",
                                         "tile:min-tokens=0"};
    static const int stop = 1;
    for (int counting = 0; counting < 2; counting++)
        for (int i = 0; i < 3; i++) {
            ts_ctx *ctx = testing_open("cpu", NULL, 1);
            sparse_run j = sparse_run_of(policy[i], 0);
            ctx->env.stop = &stop;
            ctx->dev->counting = counting;
            ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 1 << 20));
            ck_assert_int_eq(sparse_open(ctx, &j), TS_ESTOP);
            ts_arena_close(&ctx->arena);
            ctx->dev->counting = false;
            sparse_run_free(&j);
            testing_close(ctx);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("counters");
    TCase *t = tcase_create("counters");
    tcase_add_test(t, in_words);
    tcase_add_test(t, gains);
    tcase_add_test(t, fallbacks);
    tcase_add_test(t, one_step);
    tcase_add_test(t, other_heads);
    tcase_add_test(t, stopped);
    suite_add_tcase(s, t);
    return testing_main(s);
}
