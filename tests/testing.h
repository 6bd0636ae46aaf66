/* What tests share: contexts on every backend, fixture folders, comparisons. */
#ifndef TESTING_H
#define TESTING_H
#include "weights/bag.h"

#include <check.h>
#include <cjson/cJSON.h>

/* A context on "cpu" (all threads, f32), "far" (the CPU operations behind addresses that fault
 * when dereferenced, and no adopting of host bytes) or "cuda" (emulated, in programs of tests/cuda
 * alone). Fails the test when it can not be. */
ts_ctx *testing_open(const char *backend, const char *level, int threads);
void testing_close(ts_ctx *); /* NULL is legal */
/* what was warned of so far, each sentence followed by a newline */
const char *testing_warned(const ts_ctx *);
/* Runs `phase` twice as every caller does: counting, then with an arena of that size (ctx->arena).
 * Whatever the phase uses of models and weights was opened before. Returns the size. */
size_t testing_run(ts_ctx *, ts_status (*phase)(ts_ctx *, void *), void *user);
/* path of tests/fixtures/NAME (also NAME/FILE), relative to the root of the tree, valid until the
 * next call */
const char *testing_fixture(const char *name);
cJSON *testing_case(const char *name); /* its case.json; cJSON_Delete */
ts_bag *testing_bag(const char *path); /* ts_bag_free */
/* the bag's own numbers; count may be NULL */
const float *testing_f32(const ts_bag *, const char *name, long *count);
/* relative L2: |got - want| / |want|; NaN where anything is not finite */
double testing_rel(const float *got, const float *want, long n);
/* a new folder under $TMPDIR, removed at exit; malloc'd */
char *testing_tmp(void);
/* what a test program ends with: runs the suite in this process, prints Check's account, frees it;
 * 0: all passed */
int testing_main(Suite *);
#define ck_ok(ctx, call)                                                  \
    do {                                                                  \
        ts_status ck_st_ = (call);                                        \
        ck_assert_msg(ck_st_ == TS_OK, "%s: %s", #call, (ctx)->err.text); \
    } while (0)

/* What opens the emulated device: in programs that have one. */
ts_status testing_cuda_open(const ts_env *, ts_err *, ts_device **) __attribute__((weak));
/* tests/far.c */
ts_status ts_far_open(ts_device *inner, ts_device **);
#endif
