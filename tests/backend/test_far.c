/* The lazy device that tests run on: that it is late with everything it may be late with, keeps
 * what it promises to have read, and finds the faults that it is there to find. */
#include "tests/testing.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 4 };
static ts_ctx *c;
static ts_device *d;
static ts_ptr room[8];
static int rooms;

static void open_far(void)
{
    c = testing_open("far", NULL, 1);
    d = c->dev;
    rooms = 0;
}
static void close_far(void)
{
    for (int i = 0; i < rooms; i++) d->ops->free(d, room[i]);
    testing_close(c);
}

static ts_tensor take_tensor(ts_dtype type, int nd, const long *dim)
{
    ts_tensor t = ts_tensor_of((ts_ptr){0}, type, nd, dim);
    ck_ok(c, d->ops->alloc(d, (size_t)ts_count(t) * ts_dtype_size(type), room + rooms));
    t.p = room[rooms++];
    return t;
}

/* What is in t now; joins. */
static const float *numbers_of(ts_tensor t)
{
    static float f[64];
    ck_ok(c, d->ops->download(d, f, t.p, (size_t)ts_count(t) * sizeof *f));
    return f;
}

static void expect_pair(ts_tensor t, float a, float b)
{
    const float *f = numbers_of(t);
    ck_assert_msg(f[0] == a && f[1] == b, "%g %g, expected %g %g", f[0], f[1], a, b);
}

/* Bytes of upload and pack are read at once, whatever becomes of them; operations keep their order.
 */
START_TEST(order)
{
    float f[N] = {1, 2, 3, 4};
    ts_tensor x = take_tensor(TS_F32, TS_DIM(N)), y = take_tensor(TS_F32, TS_DIM(N));
    ts_weight w = {.t = ts_tensor_of((ts_ptr){0}, TS_F32, TS_DIM(2, 2)),
                   .want = {TS_F32, 0, sizeof f}};
    ts_tensor home = take_tensor(TS_F32, TS_DIM(2, 2));
    ck_ok(c, d->ops->upload(d, x.p, f, sizeof f));
    memset(f, 0, sizeof f);
    ck_ok(c, ts_lincomb_op(d, (ts_lincomb){1, {2}, {x}, y}));
    f[0] = 7;
    ck_ok(c, d->ops->upload(d, x.p, f, sizeof f));
    ck_ok(c, ts_lincomb_op(d, (ts_lincomb){2, {1, 1}, {x, y}, y}));
    f[1] = 9;
    ck_ok(c, d->ops->pack(d, &(ts_host){f, TS_F32, 2, {2, 2}}, 0, &w, home.p));
    memset(f, 0, sizeof f);
    expect_pair(y, 9, 4);
    expect_pair(home, 7, 9);
}
END_TEST

/* What arguments point to is read before the call returns: keys, plans, weights. */
START_TEST(arguments)
{
    float f[N] = {1, 2, 3, 4};
    ts_tensor q = take_tensor(TS_F32, TS_DIM(2, 1, 1, 2)),
              out = take_tensor(TS_F32, TS_DIM(2, 1, 1, 2));
    ts_tensor bits = take_tensor(TS_U32, TS_DIM(1));
    uint32_t one = 1;
    int nk[2] = {1, 1};
    ts_plan plan = {.A = 1, .nb = 1, .bits = bits.p, .share = 1};
    const ts_plan *plans[2] = {&plan, NULL};
    ts_weight w = {.t = take_tensor(TS_F32, TS_DIM(2))};
    ts_tensor y = take_tensor(TS_F32, TS_DIM(2, 2)), x = q;
    x.nd = 2;
    x.dim[1] = 2;
    ck_ok(c, d->ops->upload(d, q.p, f, sizeof f));
    ck_ok(c, d->ops->upload(d, bits.p, &one, sizeof one));
    ck_ok(c, d->ops->upload(d, w.t.p, f, 2 * sizeof *f));
    ts_attention a = {.q = q, .k = q, .v = q, .out = out, .scale = 1, .nk = nk, .plan = plans};
    ck_ok(c, ts_attention_op(d, a));
    ck_ok(c, ts_norm_op(d, (ts_norm){.kind = TS_NORM_RMS, .x = x, .w = &w, .y = y}));
    nk[0] = nk[1] = 0;
    plans[0] = NULL;
    plan = (ts_plan){0};
    w.t.p.at = 0;
    expect_pair(out, 1, 2); /* of one key: its value */
    ck_assert_float_eq_tol(numbers_of(y)[1] / numbers_of(y)[0], 4, 1e-5f); /* (1, 2) times w */
}
END_TEST

/* Ahead: read when it is waited for, NaN until then, in order with what comes after the wait. */
START_TEST(ahead)
{
    float f[N] = {1, 2, 3, 4};
    ts_tensor x = take_tensor(TS_F32, TS_DIM(N)), y = take_tensor(TS_F32, TS_DIM(N)),
              z = take_tensor(TS_F32, TS_DIM(N));
    ts_weight w = {.t = ts_tensor_of((ts_ptr){0}, TS_F32, TS_DIM(2, 2)),
                   .want = {TS_F32, 0, sizeof f}};
    ts_ticket first, second;
    ck_ok(c, d->ops->upload(d, x.p, f, sizeof f));
    ck_ok(c, ts_lincomb_op(d, (ts_lincomb){1, {1}, {x}, y})); /* reads x as it was */
    ck_ok(c, d->ops->upload_ahead(d, x.p, f, sizeof f, &first));
    ck_ok(c, d->ops->pack_ahead(d, &(ts_host){f, TS_F32, 2, {2, 2}}, 0, &w, z.p, &second));
    ck_assert(first.id && second.id && first.id != second.id);
    expect_pair(y, 1, 2);
    ck_assert(numbers_of(x)[0] != numbers_of(x)[0]);
    f[0] = 5; /* not what a caller may do: shows when it is read */
    ck_ok(c, d->ops->wait(d, first));
    f[0] = 6;
    ck_ok(c, ts_lincomb_op(d, (ts_lincomb){1, {1}, {x}, y}));
    expect_pair(y, 5, 2);
    ck_assert(numbers_of(z)[0] != numbers_of(z)[0]);
    ck_ok(c, d->ops->wait(d, first)); /* again: nothing */
    ck_ok(c, d->ops->wait(d, second));
    f[0] = 7;
    expect_pair(z, 6, 2);
    ck_ok(c, d->ops->wait(d, (ts_ticket){0}));
}
END_TEST

/* Shapes are refused by the call, numbers at the join; what comes behind is not run. */
START_TEST(errors)
{
    int32_t id[2] = {0, 9};
    float f[N] = {1, 2, 3, 4};
    int tag = 0;
    ts_tensor x = take_tensor(TS_F32, TS_DIM(2, 2)), y = take_tensor(TS_F32, TS_DIM(2, 2));
    ts_tensor ids = take_tensor(TS_I32, TS_DIM(2));
    ck_ok(c, d->ops->upload(d, x.p, f, sizeof f));
    ck_ok(c, d->ops->upload(d, y.p, f, sizeof f));
    ck_ok(c, d->ops->upload(d, ids.p, id, sizeof id));
    ck_assert_int_eq(ts_gather_op(d, (ts_gather){x, ids, x}), TS_OK);
    ck_ok(c, ts_lincomb_op(d, (ts_lincomb){1, {2}, {y}, y}));
    ck_assert_int_eq(ts_lincomb_op(d, (ts_lincomb){9, {1}, {x}, y}), TS_ESHAPE);
    ck_assert_int_eq(d->ops->join(d), TS_ESHAPE);
    ck_assert_str_eq(c->err.text, "gather: id 9 at 1, the table has 2 rows");
    expect_pair(y, 1, 2);
    f[1] = 1 / (f[0] - 1);
    ck_ok(c, d->ops->upload(d, x.p, f, sizeof f));
    ck_ok(c, d->ops->check(d, x, 3));
    f[1] = 0;
    ck_ok(c, d->ops->checked(d, &tag));
    ck_assert_int_eq(tag, 3);
}
END_TEST

/* Counting overtakes what is queued, which is computed all the same. */
START_TEST(counting)
{
    float f[N] = {1, 2, 3, 4};
    ts_tensor x = take_tensor(TS_F32, TS_DIM(N)), y = take_tensor(TS_F32, TS_DIM(N));
    ts_weight w = {.t = ts_tensor_of((ts_ptr){0}, TS_F32, TS_DIM(3, 4))};
    ck_ok(c, d->ops->upload(d, x.p, f, sizeof f));
    d->counting = true;
    x.nd = 2;
    x.dim[0] = 1;
    x.dim[1] = N;
    ck_ok(c, ts_linear_op(
                 d, (ts_linear){.x = x, .w = &w, .y = ts_tensor_of(x.p, TS_F32, TS_DIM(1, 3))}));
    ck_assert_uint_gt(w.want.bytes, 0);
    ck_ok(c, d->ops->join(d));
    d->counting = false;
    ck_ok(c, ts_lincomb_op(d, (ts_lincomb){1, {1}, {x}, y}));
    expect_pair(y, 1, 2);
}
END_TEST

START_TEST(times)
{
    ts_moment from, to;
    double seconds = -1;
    ts_tensor x = take_tensor(TS_F32, TS_DIM(N));
    ck_ok(c, d->ops->mark(d, &from));
    ck_ok(c, d->ops->zero(d, x.p, N * sizeof(float)));
    ck_ok(c, d->ops->mark(d, &to));
    ck_ok(c, d->ops->join(d));
    ck_ok(c, d->ops->elapsed(d, from, to, &seconds));
    ck_assert(seconds >= 0 && seconds < 60);
}
END_TEST

/* ---- faults that it must find: assertions inside of the device ---- */
START_TEST(host_address)
{
    static float f[N];
    ts_tensor x = take_tensor(TS_F32, TS_DIM(N)), leak = x;
    leak.p.at = (uintptr_t)f;
    ck_ok(c, ts_activate_op(d, (ts_activate){.x = x, .y = x}));
    ck_ok(c, ts_activate_op(d, (ts_activate){.x = x, .y = leak}));
}
END_TEST

START_TEST(early_time)
{
    ts_moment from, to;
    double seconds;
    ck_ok(c, d->ops->mark(d, &from));
    ck_ok(c, d->ops->mark(d, &to));
    ck_ok(c, d->ops->elapsed(d, from, to, &seconds));
}
END_TEST

START_TEST(early_free)
{
    static const float f[N];
    ts_ticket t;
    ts_tensor x = take_tensor(TS_F32, TS_DIM(N));
    ck_ok(c, d->ops->upload_ahead(d, ts_at(x.p, 8), f, 8, &t));
    d->ops->free(d, x.p);
}
END_TEST

/* In a child of its own: a runner inside of a runner would take over the outer one's messages. Exit
 * code 0: the one test failed, with the sentence wanted. */
static int run_inner(const TTest *test, const char *words)
{
    Suite *inner = suite_create("inner");
    TCase *tc = tcase_create("inner");
    tcase_add_checked_fixture(tc, open_far, NULL);
    tcase_add_test(tc, test);
    suite_add_tcase(inner, tc);
    SRunner *sr = srunner_create(inner);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_SILENT);
    TestResult **failed = srunner_failures(sr);
    return srunner_ntests_failed(sr) == 1 && strstr(tr_msg(failed[0]), words) ? 0 : 2;
}

START_TEST(watches)
{
    const struct {
        const TTest *test;
        const char *words;
    } fault[] = {{host_address, "address of the host"},
                 {early_time, "a moment that has not passed"},
                 {early_free, "memory is freed into which something is still copied"}};
    for (size_t i = 0; i < sizeof fault / sizeof *fault; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) _exit(run_inner(fault[i].test, fault[i].words));
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "not found: %s (%d)",
                      fault[i].words, status);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("far");
    TCase *tc = tcase_create("far");
    tcase_add_checked_fixture(tc, open_far, close_far);
    tcase_add_test(tc, order);
    tcase_add_test(tc, arguments);
    tcase_add_test(tc, ahead);
    tcase_add_test(tc, errors);
    tcase_add_test(tc, counting);
    tcase_add_test(tc, times);
    tcase_add_test(tc, watches);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
