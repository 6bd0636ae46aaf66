/* What stands for the blocks that a plan leaves out, on the device: means, errors of heads, choices
 * by them, against the plain C of the CPU. */
#include "tests/cuda/twins.h"

static ts_device *cpu;
static ts_err cpu_err;
static void open_cpu(void)
{
    ts_device_options o = {};
    o.kind = "cpu";
    o.threads = 1;
    o.level = "ref";
    ck_assert_msg(!ts_device_open(o, NULL, &cpu_err, &cpu), "%s", cpu_err.text);
    test_order_default();
}
static void close_cpu(void)
{
    test_release();
    ts_device_close(cpu);
}
#define ck_cpu(call) ck_assert_msg(!(call), "%s", cpu_err.text)

struct heads_case {
    long B, N, A, D, pad;
    ts_dtype type;
};
static const heads_case heads[] = {
    {1, 200, 3, 64, 0, TS_BF16}, {2, 65, 2, 40, 8, TS_F32},  {2, 130, 3, 7, 1, TS_BF16},
    {1, 1, 1, 1, 0, TS_F32},     {1, 64, 2, 128, 4, TS_F32}, {1, 449, 5, 16, 0, TS_BF16},
};
enum { HEADS = sizeof heads / sizeof *heads };
static std::string name_of(const heads_case &c)
{
    char text[100];
    snprintf(text, sizeof text, "[%ld, %ld, %ld, %ld] %s, %ld apart", c.B, c.N, c.A, c.D,
             ts_dtype_name(c.type), c.A * c.D + c.pad);
    return text;
}
/* [B, N, A, D] of numbers by chance */
static twin heads_of(const heads_case &c)
{
    long C = c.A * c.D;
    return twin_shaped(twin_random(c.type, c.B * c.N, C, C + c.pad, 0, 1, 0.5f),
                       {c.B, c.N, c.A, c.D});
}

START_TEST(means)
{
    const heads_case &c = heads[_i];
    const long nb = (c.N + 63) / 64, C = c.A * c.D;
    for (int order = 0; order < TEST_ORDERS; order++) {
        test_order(order);
        twin x = heads_of(c), y = twin_random(TS_F32, c.B * nb, C);
        ts_pool h = {x.host, y.host}, d = {x.device, y.device};
        h.y = twin_shaped(y, {c.B, nb, c.A, c.D}).host;
        d.y = twin_shaped(y, {c.B, nb, c.A, c.D}).device;
        h.y.ld = d.y.ld = C;
        ck_cuda(ts_cuda_pool(&d, test_stream()));
        ck_cpu(cpu->ops->pool(cpu, &h));
        twin_check(y, name_of(c), twin_exact);
    }
}
END_TEST

/* Sums of squares of the same differences in f64, in other orders. */
START_TEST(errors)
{
    heads_case c = heads[_i];
    c.B = 1;
    for (int every = 0; every < 4; every += 3) {
        test_order(every ? 2 : _i % 2);
        twin x = heads_of(c), of = heads_of(c), e = twin_random(TS_F32, 1, c.A);
        ts_head_errors h = {x.host, of.host, every, e.host},
                       d = {x.device, of.device, every, e.device};
        ck_cuda(ts_cuda_head_errors(&d, test_take<char>(ts_cuda_head_errors_scratch(&d)),
                                    test_stream()));
        ck_cpu(cpu->ops->head_errors(cpu, &h));
        twin_check(e, name_of(c), [](long, long, double want) { return 0x1p-23 * want; });
    }
}
END_TEST

/* With ties, and with what is just within the margin and just beyond it. */
START_TEST(choices)
{
    const long A = 70, n = 4;
    for (int stat = 0; stat < 2; stat++) {
        test_order(1 + stat);
        twin e = twin_of(TS_F32, n, A, A + 2, 0,
                         [](long, long) { return std::floor(8 * test_uniform()) / 4; });
        twin choice = twin_room(TS_F32, 1, A), as_number = twin_room(TS_F32, 1, A);
        choice.send();
        as_number.send();
        ts_choose h = {}, d = {};
        h.error = e.host;
        d.error = e.device;
        h.margin = d.margin = stat ? 2 : 1;
        h.choice = test_tensor((void *)(uintptr_t)choice.host.p.at, TS_I32, {A});
        d.choice = test_tensor((void *)(uintptr_t)choice.device.p.at, TS_I32, {A});
        if (stat) h.stat = as_number.host, d.stat = as_number.device;
        ck_cuda(ts_cuda_choose(&d, test_stream()));
        ck_cpu(cpu->ops->choose(cpu, &h));
        ck_assert_msg(twin_fetch(choice) == *choice.bytes, "choices differ");
        ck_assert_msg(twin_fetch(as_number) == *as_number.bytes, "numbers of choices differ");
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda rest");
    TCase *t = tcase_create("rest");
    tcase_set_timeout(t, 600);
    tcase_add_checked_fixture(t, open_cpu, close_cpu);
    tcase_add_loop_test(t, means, 0, HEADS);
    tcase_add_loop_test(t, errors, 0, HEADS);
    tcase_add_test(t, choices);
    suite_add_tcase(suite, t);
    return testing_main(suite);
}
