/* Linear layers and convolutions of every CPU level against the plain C of level "ref", with every
 * combination of optional parts. */
#include "backend/cpu/onednn.h"
#include "backend/cpu/ref.h"
#include "backend/host_product.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

typedef struct {
    long M, K, O;
    ts_act act;
    bool bias, gate, sel, resid, alias;
    ts_dtype xt, yt;
} linear_case;

typedef struct {
    long x[4], O, k[3];
    int stride[3], pad[6];
    bool resid, bias;
    ts_dtype type, yt;
    int spread; /* channels between the rows of x and y */
} conv_case;

static void fill_golden(float *x, long n, const char *name) { golden_input(name, 1, n, x); }

/* Uploads f32 numbers as a tensor of any float type. */
static ts_status send_tensor(ts_ctx *c, ts_tensor t, const float *x)
{
    size_t mark = ts_mark(&c->arena);
    ts_tensor f = ts_take(&c->arena, TS_F32, t.nd, t.dim);
    ts_status st = c->dev->ops->upload(c->dev, f.p, x, (size_t)ts_count(f) * sizeof *x);
    if (!st) st = ts_cast(c->dev, f, t);
    ts_release(&c->arena, mark);
    return st;
}

static ts_status fetch_tensor(ts_ctx *c, ts_tensor t, float *x)
{
    size_t mark = ts_mark(&c->arena);
    ts_tensor f = ts_take(&c->arena, TS_F32, t.nd, t.dim);
    ts_status st = ts_cast(c->dev, t, f);
    if (!st) st = c->dev->ops->download(c->dev, x, f.p, (size_t)ts_count(f) * sizeof *x);
    ts_release(&c->arena, mark);
    return st;
}

/* The counting run has said how the weight is wanted; then it is packed once. */
static ts_status settle(ts_ctx *c, ts_weight *w, const float *host, ts_ptr *home)
{
    ts_status st = TS_OK;
    ts_host from = {
        host, TS_F32, w->t.nd, {w->t.dim[0], w->t.dim[1], w->t.dim[2], w->t.dim[3], w->t.dim[4]}};
    if (c->dev->counting) return TS_OK;
    TRY(c->dev->ops->alloc(c->dev, w->want.bytes, home));
    TRY(c->dev->ops->pack(c->dev, &from, 0, w, *home));
    ts_weight_packed(w, *home);
done:
    return st;
}

static ts_weight weight(int nd, const long *dim)
{
    ts_weight w = {.t = ts_tensor_of((ts_ptr){0}, TS_F32, nd, dim)};
    return w;
}

typedef struct {
    const linear_case *l;
    const conv_case *v;
    ts_weight w;
    float *out;
    long n;
} job;

static ts_status linear_phase(ts_ctx *c, void *user)
{
    job *j = user;
    const linear_case *l = j->l;
    ts_status st = TS_OK;
    ts_ptr home = {0};
    long M = l->M, K = l->K, O = l->O;
    float *host = malloc((size_t)((M + O + 4) * (K + O + 8)) * sizeof *host);
    uint8_t *sel = malloc((size_t)M);
    ts_tensor wide = ts_take(&c->arena, l->xt, TS_DIM(M, K + 8)), x = ts_columns(wide, 8, K),
              y = ts_take(&c->arena, l->yt, TS_DIM(M, O));
    ts_tensor bias = ts_take(&c->arena, TS_F32, TS_DIM(O)),
              gate = ts_take(&c->arena, TS_F32, TS_DIM(2, O)),
              rows = ts_take(&c->arena, TS_U8, TS_DIM(M)),
              r = ts_take(&c->arena, l->yt, TS_DIM(M, O));
    ts_weight b = {.t = bias};
    for (long m = 0; m < M; m++) sel[m] = m % 5 == 1;
    fill_golden(host, M * (K + 8), "x");
    TRY(send_tensor(c, wide, host));
    fill_golden(host, O, "b");
    TRY(send_tensor(c, bias, host));
    fill_golden(host, 2 * O, "g");
    TRY(send_tensor(c, gate, host));
    fill_golden(host, M * O, "r");
    TRY(send_tensor(c, r, host));
    TRY(send_tensor(c, y, host));
    TRY(c->dev->ops->upload(c->dev, rows.p, sel, (size_t)M));
    fill_golden(host, O * K, "w");
    TRY(settle(c, &j->w, host, &home));
    ts_linear a = {.x = x, .w = &j->w, .b = l->bias ? &b : NULL, .act = l->act, .y = y};
    if (l->gate) a.gate = l->sel ? gate : ts_row_range(gate, 1, 1);
    if (l->sel) a.sel = rows;
    if (l->resid) a.resid = l->alias ? y : r;
    TRY(ts_linear_op(c->dev, a));
    TRY(fetch_tensor(c, y, j->out));
done:
    if (home.at) c->dev->ops->free(c->dev, home);
    free(host);
    free(sel);
    return st;
}

static ts_status conv_phase(ts_ctx *c, void *user)
{
    job *j = user;
    const conv_case *v = j->v;
    ts_status st = TS_OK;
    ts_ptr home = {0};
    long y[4], n = v->O * v->x[3] * v->k[0] * v->k[1] * v->k[2];
    for (int i = 0; i < 3; i++)
        y[i] = (v->x[i] + v->pad[2 * i] + v->pad[2 * i + 1] - v->k[i]) / v->stride[i] + 1;
    y[3] = v->O;
    ts_dtype yt = v->yt == TS_BF16 ? TS_BF16 : v->type;
    long wide_x[4] = {v->x[0], v->x[1], v->x[2], v->x[3] + v->spread},
         wide_y[4] = {y[0], y[1], y[2], y[3] + v->spread};
    ts_tensor x = ts_columns(ts_take(&c->arena, v->type, 4, wide_x), v->spread, v->x[3]),
              out = ts_columns(ts_take(&c->arena, yt, 4, wide_y), v->spread, y[3]),
              bias = ts_take(&c->arena, TS_F32, TS_DIM(v->O));
    ts_weight b = {.t = bias};
    float *host = malloc((size_t)(n + ts_count(x) + ts_count(out)) * sizeof *host);
    fill_golden(host, ts_count(x), "x");
    TRY(send_tensor(c, x, host));
    fill_golden(host, v->O, "b");
    TRY(send_tensor(c, bias, host));
    fill_golden(host, ts_count(out), "r");
    TRY(send_tensor(c, out, host));
    fill_golden(host, n, "w");
    TRY(settle(c, &j->w, host, &home));
    ts_conv a = {.x = x, .w = &j->w, .b = v->bias ? &b : NULL, .y = out};
    if (v->resid) a.resid = out;
    memcpy(a.stride, v->stride, sizeof a.stride);
    memcpy(a.pad, v->pad, sizeof a.pad);
    TRY(ts_conv_op(c->dev, a));
    j->n = ts_count(out);
    TRY(fetch_tensor(c, out, j->out));
done:
    if (home.at) c->dev->ops->free(c->dev, home);
    free(host);
    return st;
}

/* f32: the sum of k products of numbers within -1..1 deviates by sqrt(k) / 3, and each addition
 * rounds it by 0.2 eps of itself: two orders of summation lie K eps / 14 apart. Of hundreds of
 * thousands of sums some grow to 4.5 deviations, and their roundings with them: K eps is three
 * deviations of those. The activation, what it is multiplied by and what is added are a few
 * roundings more of about the result's size. bf16: operands are the same, sums are f32, and both
 * results are rounded: where they fall to different sides they lie a step of up to 2^-7 apart. */
static void compare_numbers(const char *what, const float *got, const float *want, long n, long K,
                            ts_dtype y)
{
    for (long i = 0; i < n; i++) {
        double tol = FLT_EPSILON * ((double)K + 2 * fabs(want[i]) + 2) +
                     (y == TS_BF16 ? fabs(want[i]) / 128 : 0);
        if (!(fabs((double)got[i] - want[i]) <= tol))
            ck_abort_msg("%s: element %ld is %.9g, expected %.9g (within %.1e)", what, i, got[i],
                         want[i], tol);
    }
}

static void both(const char *backend, const char *level, ts_status (*phase)(ts_ctx *, void *),
                 job *j, float *out)
{
    ts_ctx *c = testing_open(backend, level, 2);
    j->out = out;
    testing_run(c, phase, j);
    testing_close(c);
}

#ifndef LEVEL
/* the best there is; oneDNN's own level is one a process, so others are programs of their own */
#define LEVEL NULL
#endif

START_TEST(linears)
{
    static const long shape[][3] = {{1, 64, 128}, {7, 24, 40}, {65, 96, 33}, {128, 192, 576}};
    static const ts_act acts[] = {TS_ACT_NONE, TS_ACT_GELU_TANH, TS_ACT_SILU,
                                  TS_ACT_GELU, TS_ACT_RELU,      TS_ACT_QUICK_GELU};
    float *want = malloc(sizeof *want * 128 * 576), *got = malloc(sizeof *got * 128 * 576);
    ts_ctx *probe = testing_open("cpu", LEVEL, 1);
    bool bf16 = probe->dev->has_bf16;
    testing_close(probe);
    if (!bf16) printf("skip: no bf16 instructions: linear layers in bf16\n");
    for (int s = 0; s < 4; s++)
        for (int parts = 0; parts < 32; parts++)
            for (int t = 0; t < 4; t++) {
                linear_case l = {shape[s][0],
                                 shape[s][1],
                                 shape[s][2],
                                 acts[(parts + s + t) % 6],
                                 parts & 1,
                                 (parts & 2) != 0,
                                 (parts & 4) && (parts & 2),
                                 (parts & 8) != 0,
                                 (parts & 16) != 0,
                                 t & 1 ? TS_BF16 : TS_F32,
                                 t & 2 ? TS_BF16 : TS_F32};
                /* every combination on one shape, some on the others */
                if ((l.xt == TS_BF16 && !bf16) || (s != 2 && parts % 7)) continue;
                char what[128];
                snprintf(what, sizeof what, "linear %ldx%ldx%ld act %d parts %d types %d", l.M, l.K,
                         l.O, l.act, parts, t);
                job j = {.l = &l, .w = weight(TS_DIM(l.O, l.K))};
                both("cpu", "ref", linear_phase, &j, want);
                job k = {.l = &l, .w = weight(TS_DIM(l.O, l.K))};
                both(parts & 1 ? "far" : "cpu", LEVEL, linear_phase, &k, got);
                compare_numbers(what, got, want, l.M * l.O, l.K, l.yt);
            }
    free(want);
    free(got);
}
END_TEST

static const conv_case conv_cases[] = {
    {{1, 9, 7, 16}, 24, {3, 3, 3}, {1, 1, 1}, {2, 0, 1, 1, 1, 1}, false, true, TS_F32, TS_F32, 0},
    {{4, 6, 5, 16}, 16, {3, 3, 3}, {1, 1, 1}, {0, 0, 1, 1, 1, 1}, true, true, TS_F32, TS_F32, 0},
    {{3, 8, 8, 12}, 3, {3, 3, 3}, {1, 1, 1}, {2, 0, 1, 1, 1, 1}, false, true, TS_F32, TS_F32, 0},
    {{2, 8, 8, 3}, 20, {1, 3, 3}, {1, 1, 1}, {0, 0, 1, 1, 1, 1}, true, false, TS_F32, TS_F32, 0},
    {{2, 9, 9, 16}, 16, {1, 3, 3}, {1, 2, 2}, {0, 0, 0, 1, 0, 1}, false, true, TS_F32, TS_F32, 0},
    {{5, 4, 6, 8}, 16, {3, 1, 1}, {1, 1, 1}, {2, 0, 0, 0, 0, 0}, false, true, TS_F32, TS_F32, 0},
    {{5, 4, 4, 8}, 8, {3, 1, 1}, {2, 1, 1}, {0, 0, 0, 0, 0, 0}, false, true, TS_F32, TS_F32, 0},
    {{3, 5, 5, 48}, 32, {1, 1, 1}, {1, 1, 1}, {0, 0, 0, 0, 0, 0}, true, true, TS_F32, TS_F32, 0},
    {{4, 6, 5, 16}, 16, {3, 3, 3}, {1, 1, 1}, {0, 0, 1, 1, 1, 1}, true, true, TS_BF16, TS_BF16, 0},
    {{3, 6, 5, 16}, 24, {3, 3, 3}, {1, 1, 1}, {2, 0, 1, 1, 1, 1}, true, true, TS_F32, TS_F32, 5},
    {{2, 7, 7, 8}, 16, {1, 3, 3}, {1, 1, 1}, {0, 0, 1, 1, 1, 1}, true, true, TS_F32, TS_BF16, 0},
    {{2, 7, 7, 8}, 16, {1, 3, 3}, {1, 2, 2}, {0, 0, 1, 1, 1, 1}, true, false, TS_BF16, TS_BF16, 8},
};

START_TEST(convs)
{
    enum { MOST = 1 << 16 };
    float *want = malloc(MOST * sizeof *want), *got = malloc(MOST * sizeof *got);
    ts_ctx *probe = testing_open("cpu", LEVEL, 1);
    bool bf16 = probe->dev->has_bf16;
    testing_close(probe);
    for (size_t i = 0; i < sizeof conv_cases / sizeof *conv_cases; i++) {
        const conv_case *v = conv_cases + i;
        if (v->type == TS_BF16 && !bf16) {
            printf("skip: no bf16 instructions: convolutions in bf16\n");
            continue;
        }
        long five[] = {v->O, v->x[3], v->k[0], v->k[1], v->k[2]},
             four[] = {v->O, v->x[3], v->k[1], v->k[2]};
        for (int flat = 0; flat < (v->k[0] == 1 ? 2 : 1); flat++) {
            char what[64];
            snprintf(what, sizeof what, "conv %zu%s", i, flat ? " as 2-D" : "");
            job j = {.v = v, .w = flat ? weight(4, four) : weight(5, five)}, k = j;
            both("cpu", "ref", conv_phase, &j, want);
            both("far", LEVEL, conv_phase, &k, got);
            compare_numbers(what, got, want, j.n, v->x[3] * v->k[0] * v->k[1] * v->k[2], v->yt);
        }
    }
    free(want);
    free(got);
}
END_TEST

/* A causal convolution of a clip: a chunk of one frame, then chunks of three, two zero frames of
 * the past before each. One counting run sees both uses of the weight. */
enum { PAST = 2 };
typedef struct {
    long C, O, side;
    ts_weight w;
    float *out[2]; /* [1 or 3, side, side, O] */
    bool moved;    /* the second use chose another layout than the first */
} clip;

static long chunk(int use) { return use ? 3 : 1; }

static ts_status run_clip(ts_ctx *c, void *user)
{
    clip *j = user;
    ts_status st = TS_OK;
    ts_ptr home = {0};
    long n = j->O * j->C * 27, frame = j->side * j->side * j->C;
    int layout[2] = {0};
    float *host = calloc((size_t)(n + (PAST + chunk(1)) * frame), sizeof *host);
    ts_tensor bias = ts_take(&c->arena, TS_F32, TS_DIM(j->O));
    ts_weight b = {.t = bias};
    fill_golden(host, j->O, "b");
    TRY(send_tensor(c, bias, host));
    fill_golden(host, n, "w");
    TRY(settle(c, &j->w, host, &home));
    memset(host, 0, (size_t)(PAST * frame) * sizeof *host);
    for (int use = 0; use < 2; use++) {
        size_t mark = ts_mark(&c->arena);
        ts_tensor x = ts_take(&c->arena, TS_F32, TS_DIM(PAST + chunk(use), j->side, j->side, j->C)),
                  y = ts_take(&c->arena, TS_F32, TS_DIM(chunk(use), j->side, j->side, j->O));
        fill_golden(host + PAST * frame, chunk(use) * frame, use ? "later" : "first");
        TRY(send_tensor(c, x, host));
        TRY(ts_conv_op(c->dev, (ts_conv){.x = x,
                                         .w = &j->w,
                                         .b = &b,
                                         .stride = {1, 1, 1},
                                         .pad = {0, 0, 1, 1, 1, 1},
                                         .y = y}));
        TRY(fetch_tensor(c, y, j->out[use]));
        layout[use] = j->w.want.layout;
        ts_release(&c->arena, mark);
    }
    if (c->dev->counting) j->moved = layout[0] != layout[1];
done:
    if (home.at) c->dev->ops->free(c->dev, home);
    free(host);
    return st;
}

static clip clip_on(const char *backend, const char *level, const long *shape)
{
    clip j = {.C = shape[0],
              .O = shape[1],
              .side = shape[2],
              .w = weight(TS_DIM(shape[1], shape[0], 3, 3, 3))};
    ts_ctx *c = testing_open(backend, level, 2);
    for (int use = 0; use < 2; use++)
        j.out[use] = malloc((size_t)(chunk(use) * j.side * j.side * j.O) * sizeof(float));
    testing_run(c, run_clip, &j);
    testing_close(c);
    return j;
}

/* The later use may need another layout than the first one chose; both must be right in either. Of
 * these shapes oneDNN 2.6 moves the first two, with AVX-512 and two threads. */
START_TEST(one_weight_for_short_and_long_chunks)
{
    static const long shape[][3] = {{12, 64, 8}, {64, 64, 8}, {64, 64, 32}, {24, 20, 9}};
    bool moved = false;
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        clip want = clip_on("cpu", "ref", shape[i]);
        for (int far = 0; far < 2; far++) {
            clip got = clip_on(far ? "far" : "cpu", LEVEL, shape[i]);
            moved |= got.moved;
            for (int use = 0; use < 2; use++) {
                char what[96];
                snprintf(what, sizeof what, "%ld to %ld channels, %s, %ld frames", want.C, want.O,
                         far ? "far" : "cpu", chunk(use));
                compare_numbers(what, got.out[use], want.out[use],
                                chunk(use) * want.side * want.side * want.O, want.C * 27, TS_F32);
                free(got.out[use]);
            }
        }
        free(want.out[0]);
        free(want.out[1]);
    }
    if (!moved)
        printf("skip: this oneDNN takes one layout for chunks of every length here: weights that "
               "are moved\n");
}
END_TEST

/* Numbers that every type holds exactly: multiples of 1/8 from -1 to 1. */
static float weight_in_eighths(long i)
{
    return (float)((uint32_t)i * 2654435761u >> 16 & 15) / 8 - 1;
}

static void store(void *p, ts_dtype type, long i, float x)
{
    if (type == TS_F32)
        ((float *)p)[i] = x;
    else if (type == TS_BF16)
        ((uint16_t *)p)[i] = ts_to_bf16(x);
    else
        ((uint16_t *)p)[i] = ts_to_f16(x);
}

/* Every stored type into every layout, in slices with a ragged last one, over memory that holds
 * NaN: what is not written shows in the product, which is exact (|sum| < 2^11, steps of 2^-6). */
START_TEST(packs)
{
    enum { M = 3, K = 3001, O = 1500 }; /* 18 MB in f32, 9 MB in bf16 */
    static const ts_dtype stored[] = {TS_F32, TS_BF16, TS_F16};
    ts_ctx *c = testing_open("cpu", LEVEL, 2);
    float *x = malloc(sizeof *x * M * K), *w = malloc(sizeof *w * O * K),
          *y = malloc(sizeof *y * M * O);
    uint16_t *narrow = malloc(2 * M * K);
    for (long i = 0; i < M * K; i++) {
        x[i] = weight_in_eighths(i + 7);
        narrow[i] = ts_to_bf16(x[i]);
    }
    for (int s = 0; s < 3; s++)
        for (int b = 0; b < (c->dev->has_bf16 ? 2 : 1); b++) {
            ts_dtype xt = b ? TS_BF16 : TS_F32;
            for (long i = 0; i < O * K; i++) store(w, stored[s], i, weight_in_eighths(i));
            ts_weight weights = weight(TS_DIM(O, K));
            ts_ptr home = {0};
            ts_host from = {w, stored[s], 2, {O, K}};
            ts_linear a = {
                .x = ts_tensor_of(c->dev->ops->adopt(c->dev, b ? (void *)narrow : x, 1), xt,
                                  TS_DIM(M, K)),
                .w = &weights,
                .y = ts_tensor_of(c->dev->ops->adopt(c->dev, y, 1), TS_F32, TS_DIM(M, O))};
            c->dev->counting = true;
            ck_ok(c, ts_linear_op(c->dev, a));
            c->dev->counting = false;
            ck_ok(c, c->dev->ops->alloc(c->dev, weights.want.bytes, &home));
            memset((void *)(uintptr_t)home.at, 0xFF, weights.want.bytes);
            /* at once, and in parts that are no slices of the device's own */
            for (long o = 0, n = s == 1 ? O : 3 * TS_PACK_ROWS; o < O; o += n) {
                size_t before = (size_t)(o * K) * ts_dtype_size(stored[s]);
                from.data = (const char *)w + before;
                from.dim[0] = O - o < n ? O - o : n;
                ck_ok(c, c->dev->ops->pack(c->dev, &from, o, &weights, home));
            }
            ts_weight_packed(&weights, home);
            ck_ok(c, ts_linear_op(c->dev, a));
            for (long m = 0; m < M; m++)
                for (long o = 0; o < O; o++) {
                    double sum = 0;
                    for (long k = 0; k < K; k++)
                        sum += (double)x[m * K + k] * weight_in_eighths(o * K + k);
                    ck_assert_msg(
                        y[m * O + o] == (float)sum, "%s for %s: row %ld of weight: %g, expected %g",
                        ts_dtype_name(stored[s]), ts_dtype_name(xt), o, y[m * O + o], sum);
                }
            ck_assert_uint_le(((ts_cpu *)c->dev)->scratch_size, 8 << 20);
            c->dev->ops->free(c->dev, home);
        }
    free(x);
    free(w);
    free(y);
    free(narrow);
    testing_close(c);
}
END_TEST

/* Rows by the thousand with a gate for each, and f32 to bf16: scratch stays small, pieces join. */
START_TEST(pieces)
{
    static const linear_case cases[] = {
        {1100, 24, 4608, TS_ACT_SILU, true, true, true, true, true, TS_F32, TS_F32},
        {1100, 24, 4608, TS_ACT_NONE, true, false, false, true, false, TS_F32, TS_BF16}};
    float *want = malloc(sizeof *want * 1100 * 4608), *got = malloc(sizeof *got * 1100 * 4608);
    for (int i = 0; i < 2; i++) {
        const linear_case *l = cases + i;
        job j = {.l = l, .w = weight(TS_DIM(l->O, l->K))}, k = j;
        both("cpu", "ref", linear_phase, &j, want);
        ts_ctx *c = testing_open("cpu", LEVEL, 2);
        k.out = got;
        testing_run(c, linear_phase, &k);
        ck_assert_uint_le(((ts_cpu *)c->dev)->scratch_size, 17 << 20);
        testing_close(c);
        compare_numbers("pieces", got, want, l->M * l->O, l->K, l->yt);
    }
    free(want);
    free(got);
}
END_TEST

/* One weight can not be resident in two types: said while counting, not found out by a wrong
 * picture. */
START_TEST(two_types)
{
    ts_ctx *c = testing_open("cpu", LEVEL, 1);
    if (c->dev->has_bf16) {
        ts_weight w = weight(TS_DIM(16, 16));
        ts_ptr any = {4096};
        c->dev->counting = true;
        ck_ok(c, ts_linear_op(c->dev, (ts_linear){.x = ts_tensor_of(any, TS_F32, TS_DIM(4, 16)),
                                                  .w = &w,
                                                  .y = ts_tensor_of(any, TS_F32, TS_DIM(4, 16))}));
        ck_assert_int_eq(
            ts_linear_op(c->dev, (ts_linear){.x = ts_tensor_of(any, TS_BF16, TS_DIM(4, 16)),
                                             .w = &w,
                                             .y = ts_tensor_of(any, TS_F32, TS_DIM(4, 16))}),
            TS_EDEVICE);
        ck_assert_ptr_nonnull(strstr(c->err.text, "one type only"));
    } else {
        printf("skip: no bf16 instructions: a weight of two types\n");
    }
    testing_close(c);
}
END_TEST

/* More shapes than primitives are kept for: the oldest go, and are made again where they come back;
 * what is used in between stays. */
START_TEST(many_lengths)
{
    enum { LENGTHS = 600, MOST = 512, K = 5, O = 3 };
    ts_ctx *c = testing_open("cpu", NULL, 1);
    static float x[LENGTHS * K], w[O * K], y[LENGTHS * O];
    ts_weight weight = {.t = ts_tensor_of((ts_ptr){(uintptr_t)w}, TS_F32, TS_DIM(O, K))};
    for (int i = 0; i < LENGTHS * K; i++) x[i] = (float)(i % 7 - 3);
    for (int i = 0; i < O * K; i++) w[i] = (float)(i % 5 - 2);
    if (((ts_cpu *)c->dev)->level == TS_LEVEL_REF) {
        printf("skip: no vector instructions: primitives\n");
        testing_close(c);
        return;
    }
    weight.layout = 0; /* row-major, as it is stored */
    for (long i = 0; i < 2 * LENGTHS; i++) {
        long M = i % 2 ? 1 : i / 2 % LENGTHS + 1;
        memset(y, 0, sizeof y);
        ck_ok(c, ts_linear_op(
                     c->dev,
                     (ts_linear){.x = ts_tensor_of((ts_ptr){(uintptr_t)x}, TS_F32, TS_DIM(M, K)),
                                 .w = &weight,
                                 .y = ts_tensor_of((ts_ptr){(uintptr_t)y}, TS_F32, TS_DIM(M, O))}));
        for (long m = 0; m < M; m++)
            for (int o = 0; o < O; o++) {
                float want = 0;
                for (int k = 0; k < K; k++) want += x[m * K + k] * w[o * K + k];
                ck_assert_float_eq(y[m * O + o], want);
            }
        int kept = ts_onednn_primitives((ts_cpu *)c->dev);
        ck_assert_int_eq(kept, i / 2 < MOST ? i / 2 + 1 : MOST);
    }
    testing_close(c);
}
END_TEST

/* ---- signals ---- */
static volatile sig_atomic_t handled, on_heap, elsewhere;
static char *stack_from, *stack_to;
static pthread_t caller;

static void look_where(int number)
{
    char here;
    (void)number;
    handled++;
    if (!pthread_equal(pthread_self(), caller))
        elsewhere++;
    else if (&here < stack_from || &here >= stack_to)
        on_heap++;
}

/* A frame of a handler lies on its thread's stack, however busy oneDNN is. */
START_TEST(signals)
{
    enum { M = 256, K = 256, O = 512, LEAST = 300 };
    pthread_attr_t attr;
    size_t size;
    void *from;
    caller = pthread_self();
    ck_assert(!pthread_getattr_np(caller, &attr) && !pthread_attr_getstack(&attr, &from, &size));
    pthread_attr_destroy(&attr);
    stack_from = from;
    stack_to = stack_from + size;
    ts_ctx *c = testing_open("cpu", LEVEL, 2);
    static float x[M * K], w[O * K], y[M * O];
    ts_weight weight = {.t = ts_tensor_of((ts_ptr){(uintptr_t)w}, TS_F32, TS_DIM(O, K))};
    struct sigaction act = {.sa_handler = look_where, .sa_flags = SA_RESTART}, old;
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &act, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 100000 && handled < LEAST; i++) {
        memset(y, 0xff, sizeof y);
        ts_linear a = {.x = ts_tensor_of((ts_ptr){(uintptr_t)x}, TS_F32, TS_DIM(M, K)),
                       .w = &weight,
                       .y = ts_tensor_of((ts_ptr){(uintptr_t)y}, TS_F32, TS_DIM(M, O))};
        ck_ok(c, ts_linear_op(c->dev, a));
        if (i % 2) ts_host_add_product(y, x, w, M, O, K, 1);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &old, NULL);
    ck_assert_int_ge(handled, LEAST);
    ck_assert_msg(!on_heap && !elsewhere, "of %d frames %d off the stack, %d in other threads",
                  (int)handled, (int)on_heap, (int)elsewhere);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("linear");
    TCase *tc = tcase_create("linear");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, linears);
    tcase_add_test(tc, convs);
    tcase_add_test(tc, one_weight_for_short_and_long_chunks);
    tcase_add_test(tc, packs);
    tcase_add_test(tc, pieces);
    tcase_add_test(tc, two_types);
    tcase_add_test(tc, many_lengths);
    tcase_add_test(tc, signals);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
