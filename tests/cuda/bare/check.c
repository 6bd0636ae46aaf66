/* The suite of one program, run test by test in this process; ends with the line that tests/run.sh
 * reads. */
#include "tests/cuda/bare/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

enum { MOST = 64 };

typedef struct {
    const TTest *test;
    int from, to;
} entry;
struct TCase {
    const char *name;
    entry entries[MOST];
    int n;
    SFun setup, teardown;
};
struct Suite {
    const char *name;
    TCase *cases[MOST];
    int n;
};
struct SRunner {
    Suite *suite;
    int failed;
};

static jmp_buf back;
static char said[4096];

/* A program makes a few of them, for as long as it runs. */
static void *make_zeroed(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p) {
        fprintf(stderr, "no memory for a test\n");
        exit(1);
    }
    return p;
}

static void leave_if_full(int n)
{
    if (n < MOST) return;
    fprintf(stderr, "too many tests for tests/cuda/bare/check.c\n");
    exit(1);
}

Suite *suite_create(const char *name)
{
    Suite *s = make_zeroed(sizeof *s);
    s->name = name;
    return s;
}

TCase *tcase_create(const char *name)
{
    TCase *c = make_zeroed(sizeof *c);
    c->name = name;
    return c;
}

void suite_add_tcase(Suite *s, TCase *c)
{
    leave_if_full(s->n);
    s->cases[s->n++] = c;
}

void tcase_set_timeout(TCase *c, double seconds)
{
    (void)c;
    (void)seconds;
}

void tcase_add_checked_fixture(TCase *c, SFun setup, SFun teardown)
{
    c->setup = setup;
    c->teardown = teardown;
}

void bare_add(TCase *c, const TTest *t, int from, int to)
{
    leave_if_full(c->n);
    c->entries[c->n++] = (entry){t, from, to};
}

SRunner *srunner_create(Suite *s)
{
    SRunner *r = make_zeroed(sizeof *r);
    r->suite = s;
    return r;
}

void srunner_set_fork_status(SRunner *r, enum fork_status how)
{
    (void)r;
    (void)how;
}

int srunner_ntests_failed(SRunner *r) { return r->failed; }
void srunner_free(SRunner *r) { free(r); }

void bare_fail(const char *file, int line, const char *format, ...)
{
    int n = snprintf(said, sizeof said, "%s:%d: ", file, line);
    va_list ap;
    va_start(ap, format);
    vsnprintf(said + n, sizeof said - (size_t)n, format, ap);
    va_end(ap);
    longjmp(back, 1);
}

/* True: it did not fail. */
static int attempt(const TCase *c, const TTest *t, int i)
{
    volatile int fine = 0;
    said[0] = 0;
    if (!setjmp(back)) {
        if (c->setup) c->setup();
        t->run(i);
        fine = 1;
    }
    if (!fine) printf("%s:%d:F: %s\n", t->name, i, said);
    if (!setjmp(back)) {
        if (c->teardown) c->teardown();
    } else {
        printf("%s:%d:F: %s\n", t->name, i, said);
        fine = 0;
    }
    return fine;
}

void srunner_run_all(SRunner *r, enum print_output how)
{
    int done = 0;
    (void)how;
    printf("Running suite(s): %s\n", r->suite->name);
    for (int k = 0; k < r->suite->n; k++) {
        const TCase *c = r->suite->cases[k];
        for (const entry *e = c->entries; e < c->entries + c->n; e++)
            for (int i = e->from; i < e->to; i++, done++) r->failed += !attempt(c, e->test, i);
    }
    printf("%d%%: Checks: %d, Failures: %d, Errors: 0\n",
           done ? 100 * (done - r->failed) / done : 100, done, r->failed);
}
