/* A stand-in for the part of Check that the tests of CUDA kernels use, so that `make check-cuda`
 * needs a compiler and a GPU's driver and nothing else. One test at a time, in this process; what
 * it prints at the end is Check's line, which tests/run.sh reads. */
#ifndef CHECK_MIN_H
#define CHECK_MIN_H
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

struct TTest {
    const char *name;
    void (*run)(int);
    const char *file;
    int line;
};
typedef void (*SFun)(void);
struct check_failure {
    std::string text;
};
struct TCase {
    struct entry {
        const TTest *test;
        int from, to;
    };
    std::string name;
    std::vector<entry> tests;
    std::vector<SFun> setup, teardown; /* of every test */
    std::vector<SFun> open, close;     /* of the case */
};
struct Suite {
    std::string name;
    std::vector<TCase *> cases;
};

#define START_TEST(id)                                                 \
    static void id##_fn(int);                                          \
    static const TTest id##_test = {#id, id##_fn, __FILE__, __LINE__}; \
    static const TTest *id = &id##_test;                               \
    static void id##_fn([[maybe_unused]] int _i)
#define END_TEST
static inline Suite *suite_create(const char *name) { return new Suite{name, {}}; }
static inline TCase *tcase_create(const char *name) { return new TCase{name, {}, {}, {}, {}, {}}; }
static inline void suite_add_tcase(Suite *s, TCase *c) { s->cases.push_back(c); }
static inline void tcase_add_loop_test(TCase *c, const TTest *t, int from, int to)
{
    c->tests.push_back({t, from, to});
}
static inline void tcase_add_test(TCase *c, const TTest *t) { tcase_add_loop_test(c, t, 0, 1); }
static inline void tcase_set_timeout(TCase *, double) {}
static inline void tcase_add_checked_fixture(TCase *c, SFun setup, SFun teardown)
{
    if (setup) c->setup.push_back(setup);
    if (teardown) c->teardown.push_back(teardown);
}
static inline void tcase_add_unchecked_fixture(TCase *c, SFun open, SFun close)
{
    if (open) c->open.push_back(open);
    if (close) c->close.push_back(close);
}

__attribute__((format(printf, 3, 4))) static inline void check_fail(const char *file, int line,
                                                                    const char *format, ...)
{
    char text[2048];
    int n = snprintf(text, sizeof text, "%s:%d: ", file, line);
    va_list ap;
    va_start(ap, format);
    vsnprintf(text + n, sizeof text - (size_t)n, format, ap);
    va_end(ap);
    throw check_failure{text};
}
#define ck_assert_msg(cond, ...)                                  \
    do {                                                          \
        if (!(cond)) check_fail(__FILE__, __LINE__, __VA_ARGS__); \
    } while (0)
#define ck_assert(cond) ck_assert_msg(cond, "%s", #cond)
#define ck_abort_msg(...) check_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CK_COMPARE(a, op, b, type, format)                                                     \
    do {                                                                                       \
        type ck_a = (a), ck_b = (b);                                                           \
        ck_assert_msg(ck_a op ck_b, "%s %s %s: " format ", " format, #a, #op, #b, ck_a, ck_b); \
    } while (0)
#define ck_assert_int_eq(a, b) CK_COMPARE(a, ==, b, intmax_t, "%jd")
#define ck_assert_int_ne(a, b) CK_COMPARE(a, !=, b, intmax_t, "%jd")
#define ck_assert_int_lt(a, b) CK_COMPARE(a, <, b, intmax_t, "%jd")
#define ck_assert_int_le(a, b) CK_COMPARE(a, <=, b, intmax_t, "%jd")
#define ck_assert_int_gt(a, b) CK_COMPARE(a, >, b, intmax_t, "%jd")
#define ck_assert_int_ge(a, b) CK_COMPARE(a, >=, b, intmax_t, "%jd")
#define ck_assert_uint_eq(a, b) CK_COMPARE(a, ==, b, uintmax_t, "%ju")
#define ck_assert_double_eq(a, b) CK_COMPARE(a, ==, b, double, "%.9g")
#define ck_assert_double_le(a, b) CK_COMPARE(a, <=, b, double, "%.9g")
#define ck_assert_ptr_null(a) ck_assert_msg((a) == nullptr, "%s is not NULL", #a)
#define ck_assert_ptr_nonnull(a) ck_assert_msg((a) != nullptr, "%s is NULL", #a)
#define ck_assert_str_eq(a, b)                                                             \
    do {                                                                                   \
        std::string ck_a = (a), ck_b = (b);                                                \
        ck_assert_msg(ck_a == ck_b, "%s: \"%s\", \"%s\"", #a, ck_a.c_str(), ck_b.c_str()); \
    } while (0)

/* 0: all passed */
static inline int testing_main(Suite *s)
{
    const char *only = getenv("CK_RUN_CASE");
    int done = 0, failed = 0;
    printf("Running suite(s): %s\n", s->name.c_str());
    for (TCase *c : s->cases) {
        if (only && c->name != only) continue;
        for (SFun f : c->open) f();
        for (TCase::entry &e : c->tests)
            for (int i = e.from; i < e.to; i++) {
                done++;
                try {
                    for (SFun f : c->setup) f();
                    e.test->run(i);
                } catch (check_failure &x) {
                    failed++;
                    printf("%s:F:%s:%s:%d: %s\n", s->name.c_str(), c->name.c_str(), e.test->name, i,
                           x.text.c_str());
                }
                for (SFun f : c->teardown) f();
            }
        for (SFun f : c->close) f();
    }
    printf("%d%%: Checks: %d, Failures: %d, Errors: 0\n", done ? 100 * (done - failed) / done : 100,
           done, failed);
    return failed != 0;
}
#endif
