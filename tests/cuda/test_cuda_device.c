/* The host side of the CUDA device, on the emulator with streams that run at once and as late as
 * the API allows: copies through stages, what goes ahead, joins, moments, products. */
#include "backend/cpu/ref.h"
#include "backend/cuda/cuda.h"
#include "tests/cuda/emu/emulated.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const emu_options modes[] = {{.late = 1, .guard = 1}, {.late = 0, .guard = 1}};
enum { MODES = sizeof modes / sizeof *modes };

static ts_err err;
static ts_env env;

static ts_device *open_device(int mode)
{
    ts_device *d = NULL;
    emu_set(modes[mode]);
    ck_assert_msg(emulated_open("cuda", &env, &err, &d) == TS_OK, "%s", err.text);
    return d;
}

static void close_device(ts_device *d)
{
    ts_device_close(d);
    emulated_expect_clean();
    ck_assert_int_eq(emu_open_handles(), 0);
}

#define ck_dev(call)                                                \
    do {                                                            \
        ts_status ck_dev_ = (call);                                 \
        ck_assert_msg(ck_dev_ == TS_OK, "%s: %s", #call, err.text); \
    } while (0)

static ts_ptr take(ts_device *d, size_t bytes)
{
    ts_ptr p;
    ck_dev(d->ops->alloc(d, bytes, &p));
    return p;
}

static unsigned noise_state = 1;
static unsigned noise(void) { return noise_state = noise_state * 1664525u + 1013904223u; }

/* -1..1 */
static void draw_floats(long n, float *x)
{
    for (long i = 0; i < n; i++) x[i] = (float)(noise() >> 8) / (1 << 23) - 1;
}

static uint8_t *random_bytes(size_t n)
{
    uint8_t *p = malloc(n ? n : 1);
    ck_assert_ptr_nonnull(p);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(noise() >> 24);
    return p;
}

/* ---- copies ---- */
/* Sizes around the halves of a stage; the caller's bytes are spoiled as soon as upload returns. */
START_TEST(uploads)
{
    static const size_t sizes[] = {0, 1, 3, 4096, 12287, 12288, 12289, 40000, 123457};
    ts_device *d = open_device(_i);
    enum { N = sizeof sizes / sizeof *sizes };
    ts_ptr p[N];
    uint8_t *kept[N];
    for (int i = 0; i < N; i++) {
        p[i] = take(d, sizes[i] + 64);
        ck_dev(d->ops->zero(d, p[i], sizes[i] + 64));
        kept[i] = random_bytes(sizes[i]);
        uint8_t *mine = malloc(sizes[i] + 1);
        memcpy(mine, kept[i], sizes[i]);
        ck_dev(d->ops->upload(d, ts_at(p[i], 5), mine, sizes[i]));
        memset(mine, 0xEE, sizes[i]);
        free(mine);
    }
    for (int i = 0; i < N; i++) {
        uint8_t *back = malloc(sizes[i] + 64);
        ck_dev(d->ops->download(d, back, p[i], sizes[i] + 64));
        ck_assert_msg(!memcmp(back + 5, kept[i], sizes[i]), "%zu bytes came back otherwise",
                      sizes[i]);
        for (size_t k = 0; k < 64; k++)
            if (k < 5)
                ck_assert_int_eq(back[k], 0);
            else if (k > 5)
                ck_assert_int_eq(back[sizes[i] + k], 0);
        free(back);
        free(kept[i]);
        d->ops->free(d, p[i]);
    }
    close_device(d);
}
END_TEST

/* What is queued with the target comes first, and what is queued beside it does not wait. */
START_TEST(goes_ahead)
{
    enum { BYTES = 50000 };
    ts_device *d = open_device(_i);
    ts_ptr a = take(d, BYTES), b = take(d, BYTES), c = take(d, BYTES);
    uint8_t *x = random_bytes(BYTES), *y = random_bytes(BYTES), back[BYTES];
    ts_ticket t = {0}, u = {0};
    ck_dev(d->ops->upload(d, a, x, BYTES));
    ts_copy copy = {.src = a,
                    .dst = b,
                    .stype = TS_U8,
                    .dtype = TS_U8,
                    .nd = 1,
                    .dim = {BYTES},
                    .ss = {1},
                    .ds = {1}};
    ck_dev(d->ops->copy(d, &copy)); /* reads a before the new bytes come */
    ck_dev(d->ops->upload_ahead(d, a, y, BYTES, &t));
    ck_dev(d->ops->upload_ahead(d, c, y, BYTES, &u));
    ck_assert_uint_lt(t.id, u.id);
    ck_dev(d->ops->wait(d, u));
    ck_dev(d->ops->wait(d, t));
    long joins = ts_cuda_joins(d);
    memset(y, 0, BYTES); /* nobody reads it any more */
    ck_dev(d->ops->download(d, back, b, BYTES));
    ck_assert_int_gt(ts_cuda_joins(d), joins);
    ck_assert(!memcmp(back, x, BYTES));
    ck_dev(d->ops->download(d, back, a, BYTES));
    ck_assert(memcmp(back, x, BYTES));
    ck_dev(d->ops->download(d, x, c, BYTES));
    ck_assert(!memcmp(back, x, BYTES) && (x[0] || x[1] || x[2] || x[3]));
    free(x);
    free(y);
    d->ops->free(d, a);
    d->ops->free(d, b);
    d->ops->free(d, c);
    close_device(d);
}
END_TEST

/* More tickets than are kept: the old ones have passed with the later ones. */
START_TEST(many_tickets)
{
    enum { N = 3 * TS_CUDA_TICKETS };
    ts_device *d = open_device(_i);
    ts_ptr p = take(d, 4 * N);
    uint32_t x[N], back[N];
    ts_ticket t[N];
    for (uint32_t i = 0; i < N; i++) {
        x[i] = i + 1;
        ck_dev(d->ops->upload_ahead(d, ts_at(p, 4 * (size_t)i), x + i, 4, t + i));
    }
    for (int i = 0; i < N; i += 7) ck_dev(d->ops->wait(d, t[i]));
    ck_dev(d->ops->wait(d, t[N - 1]));
    ck_dev(d->ops->download(d, back, p, sizeof back));
    ck_assert(!memcmp(back, x, sizeof x));
    d->ops->free(d, p);
    close_device(d);
}
END_TEST

/* ---- packing ---- */
typedef struct {
    int nd;
    long dim[5];
    ts_dtype stored, want;
    int layout;
} pack_case;

static const pack_case packs[] = {
    {2, {500, 33}, TS_F32, TS_F32, 0},
    {2, {500, 33}, TS_F32, TS_BF16, 0},
    {2, {500, 33}, TS_BF16, TS_F32, 0},
    {2, {500, 33}, TS_F16, TS_BF16, 0},
    {2, {3, 1000}, TS_F16, TS_F32, 0},
    {5, {250, 6, 3, 2, 2}, TS_F32, TS_F32, TS_CUDA_TAPS_LAST},
    {5, {250, 6, 3, 2, 2}, TS_BF16, TS_F32, TS_CUDA_TAPS_LAST},
    {4, {200, 5, 3, 3}, TS_BF16, TS_BF16, TS_CUDA_TAPS_LAST},
    {4, {200, 48, 1, 1}, TS_BF16, TS_BF16, TS_CUDA_TAPS_LAST},
};
enum { PACKS = sizeof packs / sizeof *packs };

/* Element e of the wanted order is which of the stored one. */
static long stored_place(const pack_case *k, long e)
{
    long taps = 1;
    for (int i = 2; i < k->nd; i++) taps *= k->dim[i];
    long row = taps * k->dim[1], o = e / row, rest = e % row;
    if (k->layout != TS_CUDA_TAPS_LAST) return e;
    return o * row + rest % k->dim[1] * taps + rest / k->dim[1];
}

static void try_pack(ts_device *d, const pack_case *k, bool ahead)
{
    ts_weight w = {.t = ts_tensor_of((ts_ptr){0}, TS_F32, k->nd, k->dim)};
    long n = ts_count(w.t), row = n / k->dim[0];
    size_t bytes = (size_t)n * ts_dtype_size(k->want), stored = ts_dtype_size(k->stored);
    w.want = (ts_form){k->want, k->layout, bytes};
    float *x = malloc((size_t)n * sizeof *x);
    char *host = malloc((size_t)n * stored), *back = malloc(bytes);
    draw_floats(n, x);
    for (long i = 0; i < n; i++) ts_store(host, k->stored, i, x[i]);
    ts_ptr p = take(d, bytes);
    ts_host from = {host, k->stored, k->nd, {0}};
    memcpy(from.dim, k->dim, sizeof from.dim);
    ts_ticket t;
    for (long first = 0; first < k->dim[0]; first += TS_PACK_ROWS) {
        from.data = host + (size_t)(first * row) * stored;
        from.dim[0] = k->dim[0] - first < TS_PACK_ROWS ? k->dim[0] - first : TS_PACK_ROWS;
        if (ahead)
            ck_dev(d->ops->pack_ahead(d, &from, first, &w, p, &t));
        else
            ck_dev(d->ops->pack(d, &from, first, &w, p));
    }
    if (ahead) ck_dev(d->ops->wait(d, t));
    float *as_stored = x;
    for (long i = 0; i < n; i++) as_stored[i] = ts_load(host, k->stored, i);
    memset(host, 0xEE, (size_t)n * stored);
    ck_dev(d->ops->download(d, back, p, bytes));
    for (long i = 0; i < n; i++) {
        char want[4];
        ts_store(want, k->want, 0, as_stored[stored_place(k, i)]);
        ck_assert_msg(ts_load(back, k->want, i) == ts_load(want, k->want, 0),
                      "pack %s to %s, layout %d: number %ld is %g, expected %g",
                      ts_dtype_name(k->stored), ts_dtype_name(k->want), k->layout, i,
                      (double)ts_load(back, k->want, i), (double)ts_load(want, k->want, 0));
    }
    d->ops->free(d, p);
    free(x);
    free(host);
    free(back);
}

START_TEST(packing)
{
    ts_device *d = open_device(_i);
    for (int i = 0; i < PACKS; i++) {
        try_pack(d, packs + i, false);
        try_pack(d, packs + i, true);
    }
    close_device(d);
}
END_TEST

/* ---- the queue ---- */
START_TEST(only_joins_wait)
{
    ts_device *d = open_device(_i);
    ts_ptr p = take(d, 4096);
    ts_tensor t = ts_tensor_of(p, TS_F32, 1, (long[]){1024});
    ts_moment from, to;
    double seconds = -1;
    int tag;
    ck_dev(d->ops->zero(d, p, 4096));
    ck_dev(d->ops->mark(d, &from));
    for (int i = 0; i < 100; i++) {
        ts_lincomb a = {.n = 1, .c = {2}, .x = {t}, .y = t};
        ck_dev(d->ops->lincomb(d, &a));
        ck_dev(d->ops->check(d, t, i + 1));
    }
    ck_dev(d->ops->mark(d, &to));
    ck_assert_int_eq(ts_cuda_joins(d), 0);
    ck_dev(d->ops->checked(d, &tag));
    ck_assert_int_eq(ts_cuda_joins(d), 1);
    ck_assert_int_eq(tag, 0);
    ck_dev(d->ops->elapsed(d, from, to, &seconds));
    ck_assert(seconds >= 0);
    d->ops->free(d, p);
    close_device(d);
}
END_TEST

/* The first bad tensor is named once; an id out of the table comes out of the next join. */
START_TEST(faults_of_kernels)
{
    ts_device *d = open_device(_i);
    float x[64] = {0}, bad[64] = {[9] = NAN};
    int32_t ids[4] = {1, 0, 8, -1};
    int tag;
    ts_ptr p = take(d, sizeof x), q = take(d, sizeof x), i = take(d, sizeof ids),
           y = take(d, 64 * 4);
    ts_tensor good = ts_tensor_of(p, TS_F32, 1, (long[]){64}),
              wrong = ts_tensor_of(q, TS_F32, 1, (long[]){64});
    ck_dev(d->ops->upload(d, p, x, sizeof x));
    ck_dev(d->ops->upload(d, q, bad, sizeof bad));
    ck_dev(d->ops->upload(d, i, ids, sizeof ids));
    ck_dev(d->ops->check(d, good, 1));
    ck_dev(d->ops->check(d, wrong, 2));
    ck_dev(d->ops->check(d, wrong, 3));
    ck_dev(d->ops->checked(d, &tag));
    ck_assert_int_eq(tag, 2);
    ck_dev(d->ops->checked(d, &tag));
    ck_assert_int_eq(tag, 0);
    ts_gather g = {.x = ts_tensor_of(p, TS_F32, 2, (long[]){8, 8}),
                   .ids = ts_tensor_of(i, TS_I32, 1, (long[]){4}),
                   .y = ts_tensor_of(y, TS_F32, 2, (long[]){4, 8})};
    ck_dev(d->ops->gather(d, &g));
    ck_assert_int_eq(d->ops->join(d), TS_ESHAPE);
    ck_assert_msg(strstr(err.text, "the table has 8 rows"), "%s", err.text);
    ck_dev(d->ops->join(d));
    d->ops->free(d, p);
    d->ops->free(d, q);
    d->ops->free(d, i);
    d->ops->free(d, y);
    close_device(d);
}
END_TEST

/* ---- products ---- */
typedef struct {
    long M, K, O;
    ts_dtype x, y;
    ts_act act;
    bool bias, gate, sel, resid;
} product;

static const product products[] = {
    {70, 40, 24, TS_F32, TS_F32, TS_ACT_NONE, false, false, false, false},
    {70, 40, 24, TS_F32, TS_F32, TS_ACT_NONE, true, false, false, true},
    {70, 40, 24, TS_F32, TS_F32, TS_ACT_GELU_TANH, true, true, true, true},
    {1, 7, 1, TS_F32, TS_BF16, TS_ACT_NONE, false, false, false, false},
    {33, 64, 48, TS_BF16, TS_BF16, TS_ACT_NONE, false, false, false, true},
    {33, 64, 48, TS_BF16, TS_BF16, TS_ACT_SILU, true, false, false, false},
    {33, 64, 48, TS_BF16, TS_F32, TS_ACT_NONE, true, false, false, true},
    {33, 64, 48, TS_BF16, TS_F32, TS_ACT_NONE, true, true, false, true},
};
enum { PRODUCTS = sizeof products / sizeof *products };

/* Sums of K products of f32 in any order, and one rounding to the type of y. */
static double product_bound(const product *k, double largest)
{
    double u = 0x1p-24;
    return (double)(k->K + 8) * u * largest + (k->y == TS_BF16 ? largest / 128 : 0);
}

static ts_tensor send(ts_device *d, ts_dtype type, long rows, long C, char **host)
{
    long n = rows * C;
    float *x = malloc((size_t)n * sizeof *x);
    *host = malloc((size_t)n * ts_dtype_size(type));
    draw_floats(n, x);
    for (long i = 0; i < n; i++) {
        if (type == TS_U8)
            (*host)[i] = (char)(i % 3 == 1);
        else
            ts_store(*host, type, i, x[i]);
    }
    free(x);
    ts_tensor t = ts_tensor_of(take(d, (size_t)n * ts_dtype_size(type)), type, 2,
                               (long[]){rows, C});
    ck_dev(d->ops->upload(d, t.p, *host, (size_t)n * ts_dtype_size(type)));
    return t;
}

static void try_product(ts_device *d, const product *k)
{
    char *host[6];
    ts_tensor t[6] = {send(d, k->x, k->M, k->K, host),    send(d, k->x, k->O, k->K, host + 1),
                      send(d, TS_F32, 1, k->O, host + 2), send(d, TS_F32, 2, k->O, host + 3),
                      send(d, TS_U8, 1, k->M, host + 4),  send(d, k->y, k->M, k->O, host + 5)};
    t[2] = ts_view(t[2], 1, &k->O);
    t[4] = ts_view(t[4], 1, &k->M);
    ts_weight w = {.t = t[1]}, b = {.t = t[2]};
    ts_linear a = {.x = t[0],
                   .w = &w,
                   .act = k->act,
                   .y = ts_tensor_of(take(d, (size_t)(k->M * k->O) * ts_dtype_size(k->y)), k->y, 2,
                                     (long[]){k->M, k->O})};
    if (k->bias) a.b = &b;
    if (k->gate) a.gate = t[3];
    if (k->sel) a.sel = t[4];
    if (k->resid) a.resid = t[5];
    d->counting = true;
    ck_dev(d->ops->linear(d, &a));
    d->counting = false;
    ck_assert(w.want.type == k->x && w.want.layout == 0);
    ck_dev(d->ops->linear(d, &a));
    size_t bytes = (size_t)(k->M * k->O) * ts_dtype_size(k->y);
    char *got = malloc(bytes), *want = malloc(bytes);
    ck_dev(d->ops->download(d, got, a.y.p, bytes));
    for (int i = 0; i < 6; i++) t[i].p.at = (uintptr_t)host[i];
    ts_ptr y = a.y.p;
    w.t = t[1];
    b.t = t[2];
    a.x = t[0];
    if (k->gate) a.gate = t[3];
    if (k->sel) a.sel = t[4];
    if (k->resid) a.resid = t[5];
    a.y.p.at = (uintptr_t)want;
    ts_linear_ref(&a);
    double bound = product_bound(k, 0.6 * (double)k->K + 3);
    for (long i = 0; i < k->M * k->O; i++)
        ck_assert_msg(fabs((double)ts_load(got, k->y, i) - (double)ts_load(want, k->y, i)) <= bound,
                      "product of %ld x %ld: number %ld is %g, expected %g", k->M, k->K, i,
                      (double)ts_load(got, k->y, i), (double)ts_load(want, k->y, i));
    d->ops->free(d, y);
    (void)y;
    free(got);
    free(want);
    for (int i = 0; i < 6; i++) free(host[i]);
}

START_TEST(linear_layers)
{
    ts_device *d = open_device(_i);
    for (int i = 0; i < PRODUCTS; i++) try_product(d, products + i);
    ts_device_close(d); /* inputs are left to it */
    emulated_expect_clean();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda device");
    TCase *tc = tcase_create("cuda device");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, uploads, 0, MODES);
    tcase_add_loop_test(tc, goes_ahead, 0, MODES);
    tcase_add_loop_test(tc, many_tickets, 0, MODES);
    tcase_add_loop_test(tc, packing, 0, MODES);
    tcase_add_loop_test(tc, only_joins_wait, 0, MODES);
    tcase_add_loop_test(tc, faults_of_kernels, 0, MODES);
    tcase_add_loop_test(tc, linear_layers, 0, MODES);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
