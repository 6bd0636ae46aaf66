/* Plans handed over in files: a replay computes the same bytes, a file that does not fit is
 * refused, metadata. */
#include "attention/plan_file.h"
#include "tests/attention/sparse_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *tmp;

static char *save(const sparse_run *j, const char *name)
{
    ts_err err = {0};
    char *path;
    if (asprintf(&path, "%s/%s", tmp, name) < 0) abort();
    ck_assert_msg(ts_bag_save(&err, ts_attn_plans(&j->attn), path) == TS_OK, "%s", err.text);
    return path;
}

/* A saved plan computes what the policy that made it did: all steps of fixed plans, those after the
 * last search of found ones. */
static void check_replay(const char *backend, const char *policy)
{
    char with[4200];
    sparse_run j = sparse_run_on(backend, 1, policy, 1), r;
    char *path = save(&j, "plan.safetensors");
    bool found = ts_policy_keeps_plans(&j.attn.o.policy),
         pooled = j.attn.o.policy.kind == TS_POOLED;
    int first = found ? 3 : pooled ? STEPS : 2; /* fixed ones have one dense step */
    snprintf(with, sizeof with, "blocks:file=%s,dense-steps=%d", path, first - 1);
    r = sparse_run_on(backend, 1, with, 1);
    ck_assert_int_eq(r.order, j.order);
    for (int step = first; step <= STEPS; step++)
        for (int slot = 0; slot < SLOTS; slot++)
            for (int layer = 0; layer < LAYERS; layer++)
                ck_assert_msg(!memcmp(sparse_output(&j, step, slot, layer),
                                      sparse_output(&r, step, slot, layer),
                                      (size_t)sparse_count(&j) * sizeof(float)),
                              "%s: step %d", policy, step);
    char *again = save(&r, "again.safetensors");
    ts_bag *was = testing_bag(path), *now = testing_bag(again);
    for (int i = 0; i < ts_bag_count(was); i++)
        if (!strncmp(ts_bag_name(was, i), "plan.", 5))
            ck_assert(ts_bag_has(now, ts_bag_name(was, i)));
    /* the last plans of adaspa and pooled have the budget of all before them, but for heads that
     * change places */
    const ts_attn_counters *c = &j.attn.counters;
    ck_assert_double_eq_tol(r.attn.counters.kept / (double)r.attn.counters.sparse,
                            c->kept / (double)(c->sparse + c->again), found ? 0.05 : 1e-12);
    ts_bag_free(was);
    ts_bag_free(now);
    free(path);
    free(again);
    sparse_run_free(&j);
    sparse_run_free(&r);
}

START_TEST(replay) { check_replay("cpu", sparse_some[_i]); }
END_TEST
START_TEST(replay_far) { check_replay("far", sparse_some[_i]); }
END_TEST

static void misfit(const ts_bag *bag, const char *keys, ts_attn_options o, ts_status code,
                   const char *want)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_attn a = {0};
    char path[4200], with[4400], sentence[4400];
    snprintf(path, sizeof path, "%s/misfit.safetensors", tmp);
    ck_ok(ctx, ts_bag_save(&ctx->err, bag, path));
    snprintf(with, sizeof with, "blocks:file=%s%s", path, keys);
    ck_ok(ctx, ts_policy_parse(&ctx->err, with, &o.policy));
    ts_policy_settle(&o.policy, STEPS);
    ctx->dev->counting = true;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, 0));
    ck_assert_int_eq(ts_attn_open(&a, ctx, &o), code);
    snprintf(sentence, sizeof sentence, "%s%s", *want == ':' ? path : "", want);
    ck_assert_msg(code == TS_OK || strstr(ctx->err.text, sentence), "\"%s\", expected \"%s\"",
                  ctx->err.text, sentence);
    ts_attn_close(&a);
    ts_arena_close(&ctx->arena);
    testing_close(ctx);
}

static ts_bag *without(const ts_bag *bag, const char *name)
{
    ts_bag *out = ts_bag_new();
    static const char *const keys[] = {"attention", "order", "tokens", "block",
                                       "grid",      "heads", "layers"};
    ts_err err = {0};
    for (int i = 0; i < ts_bag_count(bag); i++) {
        ts_host h;
        if (!strcmp(ts_bag_name(bag, i), name) || strncmp(ts_bag_name(bag, i), "plan.", 5))
            continue;
        ck_assert(ts_bag_get(&err, bag, ts_bag_name(bag, i), TS_I32, -1, NULL, &h) == TS_OK);
        ts_bag_put(out, ts_bag_name(bag, i), TS_I32, h.nd, h.dim, h.data);
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        ck_assert_msg(ts_bag_meta_get(bag, keys[i]) != NULL, "no %s", keys[i]);
        if (strcmp(keys[i], name)) ts_bag_meta(out, keys[i], ts_bag_meta_get(bag, keys[i]));
    }
    return out;
}

START_TEST(misfits)
{
    sparse_run j = sparse_run_on("cpu", 1, "window:keep=0.4,min-tokens=0,order=tile", 0);
    const ts_bag *bag = ts_attn_plans(&j.attn);
    const ts_attn_options fit = {
        .grid = j.grid, .layers = LAYERS, .heads = A, .slots = SLOTS, .slot_name = sparse_branches};
    ts_attn_options o = fit;
    misfit(bag, "", o, TS_OK, "");
    o.grid = ts_grid_of(3, 9, 13);
    misfit(bag, "", o, TS_EMODEL, ": made for 300 tokens, this run has 351");
    o.grid = ts_grid_of(6, 5, 10);
    misfit(bag, "", o, TS_EMODEL, ": made for a grid of 5x6x10 tokens, this run has 6x5x10");
    o = fit;
    o.heads = 8;
    misfit(bag, "", o, TS_EMODEL, ": made for 4 heads, this run has 8");
    o = fit;
    o.layers = 2;
    misfit(bag, "", o, TS_EMODEL, ": made for 3 layers, this run has 2");
    static const char *const needed[] = {"tokens", "block", "heads", "layers"};
    for (int i = 0; i < 4; i++) {
        char sentence[128];
        ts_bag *less = without(bag, needed[i]);
        snprintf(sentence, sizeof sentence, ": no plan file of tessera, it does not say its %s",
                 needed[i]);
        misfit(less, "", fit, TS_EMODEL, sentence);
        ts_bag_free(less);
    }
    ts_bag *less = without(bag, "grid");
    misfit(less, "", fit, TS_EMODEL, ": made for a grid of unknown tokens, this run has 5x6x10");
    ts_bag_free(less);
    less = without(bag, "order");
    misfit(less, "", fit, TS_EMODEL, ": tokens in order \"\", expected raster or tile");
    ts_bag_meta(less, "plan_format", "2");
    misfit(less, "", fit, TS_EMODEL, ": plans of format 2, expected 1");
    ts_bag_meta(less, "plan_format", "1");
    ts_bag_meta(less, "order", "spiral");
    misfit(less, "", fit, TS_EMODEL, ": tokens in order \"spiral\", expected raster or tile");
    ts_bag_free(less);
    less = without(bag, "plan.uncond.1.rows");
    misfit(less, "", fit, TS_EMODEL, ": no plan for layer 1 of branch uncond (plan.uncond.1.rows)");
    misfit(less, ",dense-layers=1", fit, TS_OK, ""); /* not needed there */
    ts_bag_meta(less, "block", "128");
    misfit(less, "", fit, TS_EMODEL, ": made for 128 block, this run has 64");
    ts_bag_free(less);
    sparse_run_free(&j);
}
END_TEST

START_TEST(metadata)
{
    sparse_run j = sparse_run_on("cpu", 1, "random:keep=0.4,min-tokens=0,order=tile", 1);
    const struct {
        const char *key, *value;
    } want[] = {{"attention", "random:keep=0.4,order=tile,min-tokens=0,dense-steps=1,seed=0"},
                {"order", "tile"},
                {"tokens", "351"},
                {"block", "64"},
                {"grid", "3x9x13"},
                {"heads", "4"},
                {"layers", "3"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_str_eq(ts_bag_meta_get(ts_attn_plans(&j.attn), want[i].key), want[i].value);
    sparse_run_free(&j);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("replay");
    TCase *t = tcase_create("replay");
    tmp = testing_tmp();
    tcase_add_loop_test(t, replay, 0, SOME);
    tcase_add_loop_test(t, replay_far, 0, SOME);
    tcase_add_test(t, misfits);
    tcase_add_test(t, metadata);
    suite_add_tcase(s, t);
    return testing_main(s);
}
