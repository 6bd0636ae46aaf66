/* Weights on real devices: whatever the stored type, the wanted type, the backend and the budget, a
 * linear layer sees the same numbers. */
#include "tests/golden.h"
#include "tests/weights/scratch.h"
#include "weights/safetensors.h"
#include "weights/set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 4, M = 7 };
static const long out_dim[GROUPS] = {48, 33, 64, 1}, in_dim[GROUPS] = {40, 48, 17, 96};
static const ts_dtype stored_types[] = {TS_F32, TS_BF16, TS_F16}, x_types[] = {TS_F32, TS_BF16};

typedef struct {
    ts_weights *ws;
    ts_layer layer[GROUPS];
    ts_dtype x_type;
    void (*hide)(ts_weights *); /* done to the set once it is open; NULL */
    float y[GROUPS][M * 64];
} net;

/* Input of group g, of numbers that bf16 holds. */
static void make_x(int g, float *x)
{
    char name[32];
    snprintf(name, sizeof name, "input.x%d", g);
    golden_input(name, 1.7, M * in_dim[g], x);
    for (long i = 0; i < M * in_dim[g]; i++) {
        uint16_t h = scratch_bf16(x[i]);
        ts_widen(TS_BF16, &h, 1, x + i);
    }
}

static ts_status run(ts_ctx *ctx, void *user)
{
    ts_status st;
    net *n = user;
    ts_device *dev = ctx->dev;
    for (int turn = 0; turn < 2; turn++)
        for (int g = 0; g < GROUPS; g++) {
            float x[M * 96];
            uint16_t half[M * 96];
            size_t mark = ts_mark(&ctx->arena), count = (size_t)(M * in_dim[g]);
            ts_tensor tx = ts_take(&ctx->arena, n->x_type, TS_DIM(M, in_dim[g])),
                      ty = ts_take(&ctx->arena, TS_F32, TS_DIM(M, out_dim[g]));
            make_x(g, x);
            for (size_t i = 0; i < count; i++) half[i] = scratch_bf16(x[i]);
            TRY(ts_weights_enter(n->ws, g));
            TRY(dev->ops->upload(dev, tx.p, n->x_type == TS_F32 ? (void *)x : half,
                                 count * ts_dtype_size(n->x_type)));
            TRY(ts_linear_op(
                dev, (ts_linear){.x = tx, .w = n->layer[g].w, .b = n->layer[g].b, .y = ty}));
            TRY(dev->ops->download(dev, n->y[g], ty.p, (size_t)(M * out_dim[g]) * sizeof(float)));
            ts_release(&ctx->arena, mark);
        }
done:
    return st;
}

static void as_type(ts_dtype type, const float *f, long n, void *to)
{
    for (long i = 0; i < n; i++) {
        if (type == TS_F32)
            ((float *)to)[i] = f[i];
        else
            ((uint16_t *)to)[i] = type == TS_BF16 ? scratch_bf16(f[i]) : scratch_f16(f[i]);
    }
}

/* The numbers of a tensor as a file of `type` holds them: F16 gets multiples of 2^-9 below 2, which
 * it holds exactly. */
static void make_weight(const char *name, int nd, const long *dim, ts_dtype type, float *w)
{
    long n = nd == 2 ? dim[0] * dim[1] : dim[0];
    golden_weight(name, nd, dim, w);
    for (long i = 0; i < n; i++) {
        if (type == TS_F16) w[i] = rintf(w[i] * 512) / 512;
        if (type == TS_BF16) {
            uint16_t h = scratch_bf16(w[i]);
            ts_widen(TS_BF16, &h, 1, w + i);
        }
    }
}

static char *make_model(ts_dtype type)
{
    char *dir = testing_tmp(), path[600], name[32];
    ts_bag *bag = ts_bag_new();
    ts_err err = {0};
    static float w[64 * 96], stored[64 * 96];
    for (int g = 0; g < GROUPS; g++) {
        snprintf(name, sizeof name, "blocks.%d.weight", g);
        make_weight(name, 2, (long[]){out_dim[g], in_dim[g]}, type, w);
        as_type(type, w, out_dim[g] * in_dim[g], stored);
        ts_bag_put(bag, name, type, 2, (long[]){out_dim[g], in_dim[g]}, stored);
        snprintf(name, sizeof name, "blocks.%d.bias", g);
        make_weight(name, 1, (long[]){out_dim[g]}, type, w);
        as_type(type, w, out_dim[g], stored);
        ts_bag_put(bag, name, type, 1, (long[]){out_dim[g]}, stored);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
    ts_bag_free(bag);
    return dir;
}

static void run_net(net *n, const char *dir, ts_dtype x_type, const char *backend,
                    const char *level, bool stream, const ts_delta *delta)
{
    ts_ctx *ctx = testing_open(backend, level, 2);
    memset(n->y, 0, sizeof n->y);
    n->x_type = x_type;
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &n->ws));
    if (delta) ck_ok(ctx, ts_weights_add_delta(n->ws, delta));
    if (n->hide) n->hide(n->ws);
    for (int g = 0; g < GROUPS; g++)
        ck_ok(ctx,
              ts_find_linear(n->ws, g, n->layer + g, out_dim[g], in_dim[g], true, "blocks.%d", g));
    if (stream) ts_weights_budget(n->ws, 0);
    testing_run(ctx, run, n);
    for (int g = 0; g < GROUPS; g++) {
        ck_assert_int_gt(n->layer[g].w->want.bytes, 0);
        ck_assert_int_eq(n->layer[g].w->want.type, x_type);
    }
    ts_weights_close(n->ws);
    testing_close(ctx);
}

/* y = x W' + b in double and in plain f32, W rounded to the type of x. */
static void check_net(const net *n, ts_dtype type)
{
    static float w[64 * 96];
    float x[M * 96], b[64], plain[M * 64], want[M * 64];
    char name[32];
    for (int g = 0; g < GROUPS; g++) {
        long O = out_dim[g], K = in_dim[g];
        make_x(g, x);
        snprintf(name, sizeof name, "blocks.%d.weight", g);
        make_weight(name, 2, (long[]){O, K}, type, w);
        snprintf(name, sizeof name, "blocks.%d.bias", g);
        make_weight(name, 1, (long[]){O}, type, b);
        for (long i = 0; n->x_type == TS_BF16 && i < O * K; i++) {
            uint16_t h = scratch_bf16(w[i]);
            ts_widen(TS_BF16, &h, 1, w + i);
        }
        for (long m = 0; m < M; m++)
            for (long o = 0; o < O; o++) {
                double exact = b[o];
                float sum = 0;
                for (long k = 0; k < K; k++) {
                    exact += (double)x[m * K + k] * w[o * K + k];
                    sum += x[m * K + k] * w[o * K + k];
                }
                want[m * O + o] = (float)exact;
                plain[m * O + o] = sum + b[o];
            }
        double error = testing_rel(n->y[g], want, M * O),
               bound = 2 * testing_rel(plain, want, M * O) + 0x1p-23;
        ck_assert_msg(error <= bound, "%s, x %s, group %d: error %g, bound %g", ts_dtype_name(type),
                      ts_dtype_name(n->x_type), g, error, bound);
    }
}

/* ---- a source that maps no numbers ---- */

/* What a class of blocks is to weights.c: entries without data, whose rows are made by read. */
static const void *hidden[2 * GROUPS];
static ts_dtype hidden_type[2 * GROUPS];
static int reads;

static ts_status read_hidden(ts_err *err, const ts_source *s, const ts_entry *e, long first,
                             long rows, float *out)
{
    ts_entry stored = *e;
    stored.t.data = hidden[e - s->entry];
    stored.t.type = hidden_type[e - s->entry];
    reads++;
    return ts_source_read_mapped(err, s, &stored, first, rows, out);
}

static void close_hidden(ts_source *s) { ts_source_safetensors.close(s); }

static void hide_numbers(ts_weights *ws)
{
    static const ts_source_class blocks = {.read = read_hidden, .close = close_hidden};
    ts_source *s = ws->files.source;
    s->class = &blocks;
    ck_assert_int_eq(s->entries, 2 * GROUPS);
    for (int i = 0; i < s->entries; i++) {
        ts_entry *e = (ts_entry *)(uintptr_t)(s->entry + i);
        hidden[i] = e->t.data;
        hidden_type[i] = e->t.type;
        e->t.data = NULL;
        e->t.type = TS_F32;
    }
}

START_TEST(every_type_budget_and_backend)
{
    static net first, other;
    for (size_t s = 0; s < 3; s++) {
        char *dir = make_model(stored_types[s]);
        for (size_t t = 0; t < 2; t++) {
            run_net(&first, dir, x_types[t], "cpu", NULL, false, NULL);
            check_net(&first, stored_types[s]);
            for (int k = 1; k < 4; k++) {
                run_net(&other, dir, x_types[t], k & 1 ? "far" : "cpu", NULL, k & 2, NULL);
                for (int g = 0; g < GROUPS; g++)
                    ck_assert_msg(!memcmp(first.y[g], other.y[g], sizeof first.y[g]),
                                  "%s, %s, %s in the file, x in %s: group %d differs",
                                  k & 1 ? "far" : "cpu", k & 2 ? "streaming" : "resident",
                                  ts_dtype_name(stored_types[s]), ts_dtype_name(x_types[t]), g);
            }
            run_net(&other, dir, x_types[t], "cpu", "ref", true, NULL);
            check_net(&other, stored_types[s]);
        }
        free(dir);
    }
}
END_TEST

START_TEST(sources_may_map_nothing)
{
    static net mapped, got = {.hide = hide_numbers};
    for (size_t s = 0; s < 3; s++) {
        char *dir = make_model(stored_types[s]);
        for (size_t t = 0; t < 2; t++)
            for (int k = 0; k < 6; k++) {
                const char *device = k % 3 == 1 ? "far" : "cpu", *level = k % 3 == 2 ? "ref" : NULL;
                run_net(&mapped, dir, x_types[t], device, level, false, NULL);
                reads = 0;
                run_net(&got, dir, x_types[t], device, level, k / 3, NULL);
                /* vectors once; matrices once, or at both passes through the groups */
                ck_assert_int_ge(reads, k / 3 ? 3 * GROUPS : 2 * GROUPS);
                for (int g = 0; g < GROUPS; g++)
                    ck_assert_msg(!memcmp(mapped.y[g], got.y[g], sizeof got.y[g]),
                                  "%s %s, %s, %s in the file, x in %s: group %d differs", device,
                                  level ? level : "", k / 3 ? "streaming" : "resident",
                                  ts_dtype_name(stored_types[s]), ts_dtype_name(x_types[t]), g);
            }
        free(dir);
    }
}
END_TEST

/* ---- deltas ---- */

static const char *const touched[] = {"blocks.1.weight", "blocks.3.weight", "blocks.2.bias"};

static bool touches(void *user, const char *name)
{
    (void)user;
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, touched[i])) return true;
    return false;
}

/* Adds a quarter of the number of the row, counted from 1. */
static ts_status add_quarters(void *user, const char *name, long first, long rows, float *w)
{
    static const long width[] = {48, 96, 64};
    int which = 0;
    (void)user;
    while (which < 3 && strcmp(name, touched[which])) which++;
    ck_assert_msg(which < 3, "%s is not touched", name);
    for (long i = 0; i < rows * width[which]; i++)
        w[i] += 0.25f * (float)(first + i / width[which] + 1);
    return TS_OK;
}
static const ts_delta quarters = {touches, add_quarters, NULL};

/* The model of `type` with the quarters added, in F32. */
static char *make_sum(ts_dtype type)
{
    char *dir = testing_tmp(), path[600], name[32];
    ts_bag *bag = ts_bag_new();
    ts_err err = {0};
    static float w[64 * 96];
    for (int k = 0; k < 2 * GROUPS; k++) {
        int g = k / 2, nd = k % 2 ? 1 : 2;
        long dim[2] = {out_dim[g], in_dim[g]};
        snprintf(name, sizeof name, "blocks.%d.%s", g, k % 2 ? "bias" : "weight");
        make_weight(name, nd, dim, type, w);
        if (touches(NULL, name)) add_quarters(NULL, name, 0, nd == 2 ? dim[0] : 1, w);
        ts_bag_put(bag, name, TS_F32, nd, dim, w);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
    ts_bag_free(bag);
    return dir;
}

/* The same numbers as of a checkpoint that was saved with the sum, whatever the type in the file,
 * the device and the budget. */
START_TEST(deltas_equal_a_checkpoint_of_the_sum)
{
    static net sum, got;
    for (size_t s = 0; s < 3; s++) {
        char *dir = make_model(stored_types[s]), *sum_dir = make_sum(stored_types[s]);
        for (size_t t = 0; t < 2; t++)
            for (int k = 0; k < 6; k++) {
                const char *device = k % 3 == 1 ? "far" : "cpu", *level = k % 3 == 2 ? "ref" : NULL;
                run_net(&sum, sum_dir, x_types[t], device, level, false, NULL);
                run_net(&got, dir, x_types[t], device, level, k / 3, &quarters);
                for (int g = 0; g < GROUPS; g++)
                    ck_assert_msg(!memcmp(sum.y[g], got.y[g], sizeof sum.y[g]),
                                  "%s %s, %s, %s in the file, x in %s: group %d differs", device,
                                  level ? level : "", k / 3 ? "streaming" : "resident",
                                  ts_dtype_name(stored_types[s]), ts_dtype_name(x_types[t]), g);
            }
        free(dir);
        free(sum_dir);
    }
}
END_TEST

/* A table of 14 MB in f32, so that it is made in three parts: rows of eighths, to which a delta
 * adds eighths. */
enum { TALL = 1200, WIDE = 3001 };
static float eighth(long i) { return (float)(i * 7919 % 33 - 16) / 8; }
static float row_eighth(long row) { return (float)(row % 16) / 8; }

typedef struct {
    ts_err *err;
    int calls, refuse; /* this call fails; 0: none */
    long rows[8];
} wide_delta;
static bool touches_all(void *user, const char *name)
{
    (void)user;
    (void)name;
    return true;
}
static ts_status add_eighths(void *user, const char *name, long first, long rows, float *w)
{
    wide_delta *d = user;
    (void)name;
    if (++d->calls == d->refuse) return ts_fail(d->err, TS_EMODEL, "delta refused");
    ck_assert_int_lt(d->calls, 8);
    d->rows[d->calls] = rows;
    for (long i = 0; i < rows * WIDE; i++) w[i] += row_eighth(first + i / WIDE);
    return TS_OK;
}

static char *make_table(void)
{
    char *dir = testing_tmp(), path[600];
    ts_bag *bag = ts_bag_new();
    ts_err err = {0};
    uint16_t *w = malloc(sizeof *w * TALL * WIDE);
    for (long i = 0; i < TALL * WIDE; i++) w[i] = scratch_bf16(eighth(i));
    ts_bag_put(bag, "table.weight", TS_BF16, 2, (long[]){TALL, WIDE}, w);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
    ts_bag_free(bag);
    free(w);
    return dir;
}

typedef struct {
    ts_weights *ws;
    ts_layer layer;
    float x[WIDE], y[TALL];
} table;
static ts_status multiply(ts_ctx *ctx, void *user)
{
    ts_status st;
    table *t = user;
    ts_device *dev = ctx->dev;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor x = ts_take(&ctx->arena, TS_F32, TS_DIM(1, WIDE)),
              y = ts_take(&ctx->arena, TS_F32, TS_DIM(1, TALL));
    TRY(dev->ops->upload(dev, x.p, t->x, sizeof t->x));
    TRY(ts_weights_enter(t->ws, 0));
    TRY(ts_linear_op(dev, (ts_linear){.x = x, .w = t->layer.w, .y = y}));
    TRY(dev->ops->download(dev, t->y, y.p, sizeof t->y));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

START_TEST(deltas_come_in_parts)
{
    static table t;
    char *dir = make_table();
    for (int refuse = 0; refuse < 4; refuse++) {
        ts_ctx *ctx = testing_open("cpu", NULL, 2);
        wide_delta d = {&ctx->err, 0, refuse, {0}};
        size_t arena;
        ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &t.ws));
        ck_ok(ctx, ts_weights_add_delta(t.ws, &(ts_delta){touches_all, add_eighths, &d}));
        ck_ok(ctx, ts_find_linear(t.ws, 0, &t.layer, TALL, WIDE, false, "table"));
        for (int k = 0; k < WIDE; k++) t.x[k] = eighth(k + 5);
        ck_ok(ctx, ts_count_phase(ctx, multiply, &t, &arena));
        ck_assert_int_eq(d.calls, 0);
        ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, arena));
        if (refuse) {
            scratch_expect(&ctx->err, multiply(ctx, &t), TS_EMODEL, "delta refused", NULL);
            ck_assert(d.calls == refuse && !ts_there(t.layer.w->t));
            d.calls = d.refuse = 0;
        }
        ck_ok(ctx, multiply(ctx, &t));
        ck_assert(d.calls == 3 && d.rows[1] == 576 && d.rows[2] == 576 && d.rows[3] == 48);
        for (long o = 0; o < TALL; o++) {
            double want = 0;
            for (long k = 0; k < WIDE; k++)
                want += (double)t.x[k] * (eighth(o * WIDE + k) + row_eighth(o));
            ck_assert_msg(t.y[o] == (float)want, "row %ld: %g, expected %g", o, t.y[o], want);
        }
        ts_arena_close(&ctx->arena);
        ts_weights_close(t.ws);
        testing_close(ctx);
    }
    free(dir);
}
END_TEST

/* Deltas add up in order; rows of tables have them too; what is touched is not used in the mapping.
 */
START_TEST(deltas_reach_rows_and_add_up)
{
    static float row[2 * WIDE];
    static table t;
    char *dir = make_table();
    ts_ctx *ctx = testing_open("cpu", NULL, 2);
    wide_delta d = {.err = &ctx->err};
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &t.ws));
    ck_ok(ctx, ts_weights_add_delta(t.ws, &(ts_delta){touches_all, add_eighths, &d}));
    ck_ok(ctx, ts_weights_add_delta(t.ws, &(ts_delta){touches_all, add_eighths, &d}));
    ck_ok(ctx, ts_weights_add_delta(t.ws, &quarters)); /* of other names */
    ck_ok(ctx, ts_weights_rows(t.ws, "table.weight", (int32_t[]){1199, 2}, 2, TALL, WIDE, row));
    for (long k = 0; k < WIDE; k++)
        ck_assert(row[k] == eighth(1199L * WIDE + k) + 2 * row_eighth(1199) &&
                  row[WIDE + k] == eighth(2L * WIDE + k) + 2 * row_eighth(2));
    d.refuse = 5;
    scratch_expect(&ctx->err,
                   ts_weights_rows(t.ws, "table.weight", (int32_t[]){0}, 1, TALL, WIDE, row),
                   TS_EMODEL, "delta refused", NULL);
    ts_weights_close(t.ws);
    testing_close(ctx);
    free(dir);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("weights");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, every_type_budget_and_backend);
    tcase_add_test(t, sources_may_map_nothing);
    tcase_add_test(t, deltas_equal_a_checkpoint_of_the_sum);
    tcase_add_test(t, deltas_come_in_parts);
    tcase_add_test(t, deltas_reach_rows_and_add_up);
    suite_add_tcase(s, t);
    return testing_main(s);
}
