/* A stand-in for the part of Check that the C tests of the CUDA device use (check_min.h is the one
 * for C++), so that `make check-cuda` needs a compiler and a driver alone. */
#ifndef BARE_CHECK_H
#define BARE_CHECK_H
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct TTest {
    const char *name;
    void (*run)(int);
} TTest;
typedef void (*SFun)(void);
typedef struct TCase TCase;
typedef struct Suite Suite;
typedef struct SRunner SRunner;
enum fork_status { CK_FORK_GETENV, CK_FORK, CK_NOFORK };
enum print_output { CK_SILENT, CK_MINIMAL, CK_NORMAL };

#define START_TEST(id)                             \
    static void id##_fn(int);                      \
    static const TTest id##_test = {#id, id##_fn}; \
    static const TTest *const id = &id##_test;     \
    static void id##_fn(__attribute__((unused)) int _i)
#define END_TEST

Suite *suite_create(const char *name);
TCase *tcase_create(const char *name);
void suite_add_tcase(Suite *, TCase *);
void tcase_set_timeout(TCase *, double); /* nothing */
void tcase_add_checked_fixture(TCase *, SFun setup, SFun teardown);
void bare_add(TCase *, const TTest *, int from, int to);
#define tcase_add_test(tc, test) bare_add(tc, test, 0, 1)
#define tcase_add_loop_test(tc, test, from, to) bare_add(tc, test, from, to)
SRunner *srunner_create(Suite *);
void srunner_set_fork_status(SRunner *, enum fork_status); /* nothing: all in this process */
void srunner_run_all(SRunner *, enum print_output);
int srunner_ntests_failed(SRunner *);
void srunner_free(SRunner *);

/* Ends the test that runs. */
_Noreturn void bare_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define ck_assert_msg(cond, ...)                                 \
    do {                                                         \
        if (!(cond)) bare_fail(__FILE__, __LINE__, __VA_ARGS__); \
    } while (0)
#define ck_assert(cond) ck_assert_msg(cond, "%s", #cond)
#define ck_abort_msg(...) bare_fail(__FILE__, __LINE__, __VA_ARGS__)
#define BARE_COMPARE(a, op, b, type, format)                                                   \
    do {                                                                                       \
        type ck_a = (a), ck_b = (b);                                                           \
        ck_assert_msg(ck_a op ck_b, "%s %s %s: " format ", " format, #a, #op, #b, ck_a, ck_b); \
    } while (0)
#define ck_assert_int_eq(a, b) BARE_COMPARE(a, ==, b, intmax_t, "%jd")
#define ck_assert_int_gt(a, b) BARE_COMPARE(a, >, b, intmax_t, "%jd")
#define ck_assert_int_ge(a, b) BARE_COMPARE(a, >=, b, intmax_t, "%jd")
#define ck_assert_int_le(a, b) BARE_COMPARE(a, <=, b, intmax_t, "%jd")
#define ck_assert_uint_eq(a, b) BARE_COMPARE(a, ==, b, uintmax_t, "%ju")
#define ck_assert_uint_lt(a, b) BARE_COMPARE(a, <, b, uintmax_t, "%ju")
#define ck_assert_ptr_null(a) ck_assert_msg(!(a), "%s is not NULL", #a)
#define ck_assert_ptr_nonnull(a) ck_assert_msg(a, "%s is NULL", #a)
#define ck_assert_str_eq(a, b)                                                    \
    do {                                                                          \
        const char *ck_a = (a), *ck_b = (b);                                      \
        ck_assert_msg(!strcmp(ck_a, ck_b), "%s: \"%s\", \"%s\"", #a, ck_a, ck_b); \
    } while (0)
#endif
