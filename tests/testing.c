/* What tests share: contexts built by hand on every backend, a phase run as callers run it,
 * fixtures, temporary folders. */
#include "tests/testing.h"

#include "weights/config.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    ts_ctx ctx; /* first: a ts_ctx * is a context * */
    char warned[16384];
} context;

static void note_warning(void *user, const char *sentence)
{
    context *c = user;
    size_t n = strlen(c->warned);
    snprintf(c->warned + n, sizeof c->warned - n, "%s\n", sentence);
}

ts_ctx *testing_open(const char *backend, const char *level, int threads)
{
    context *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    ts_ctx *ctx = &c->ctx;
    ctx->env = (ts_env){.warn = note_warning, .user = c};
    ctx->act = ctx->codec = TS_F32;
    ctx->owns_dev = true;
    if (!strcmp(backend, "cuda")) {
        ck_assert_msg(testing_cuda_open != NULL, "this program has no emulated device");
        ck_ok(ctx, testing_cuda_open(&ctx->env, &ctx->err, &ctx->dev));
        ctx->memory = (size_t)1 << 30;
        return ctx;
    }
    ck_ok(ctx, ts_device_open((ts_device_options){"cpu", threads, level}, &ctx->env, &ctx->err,
                              &ctx->dev));
    size_t available;
    ck_ok(ctx, ctx->dev->ops->memory(ctx->dev, &available, &ctx->memory));
    if (!strcmp(backend, "far")) {
        ts_device *inner = ctx->dev;
        ck_ok(ctx, ts_far_open(inner, &ctx->dev));
    } else {
        ck_assert_str_eq(backend, "cpu");
    }
    return ctx;
}

void testing_close(ts_ctx *ctx)
{
    if (!ctx) return;
    ts_device_close(ctx->dev);
    free(ctx);
}

const char *testing_warned(const ts_ctx *ctx) { return ((const context *)ctx)->warned; }

size_t testing_run(ts_ctx *ctx, ts_status (*phase)(ts_ctx *, void *), void *user)
{
    size_t size;
    ck_ok(ctx, ts_count_phase(ctx, phase, user, &size));
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, size));
    ck_ok(ctx, phase(ctx, user));
    ts_arena_close(&ctx->arena);
    return size;
}

const char *testing_fixture(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "tests/fixtures/%s", name);
    return path;
}

cJSON *testing_case(const char *name)
{
    char path[600];
    ts_err err = {0};
    cJSON *json = NULL;
    snprintf(path, sizeof path, "%s/case.json", testing_fixture(name));
    ts_status st = ts_json_load(&err, path, &json);
    ck_assert_msg(st == TS_OK, "%s", err.text);
    return json;
}

ts_bag *testing_bag(const char *path)
{
    ts_err err = {0};
    ts_bag *bag = NULL;
    ts_status st = ts_bag_load(&err, path, &bag);
    ck_assert_msg(st == TS_OK, "%s", err.text);
    return bag;
}

const float *testing_f32(const ts_bag *bag, const char *name, long *count)
{
    ts_err err = {0};
    ts_host t = {0};
    ts_status st = ts_bag_get(&err, bag, name, TS_F32, -1, NULL, &t);
    ck_assert_msg(st == TS_OK, "%s", err.text);
    long n = 1;
    for (int i = 0; i < t.nd; i++) n *= t.dim[i];
    if (count) *count = n;
    return t.data;
}

double testing_rel(const float *got, const float *want, long n)
{
    double d = 0, w = 0;
    for (long i = 0; i < n; i++) {
        double e = (double)got[i] - want[i];
        if (!isfinite(got[i]) || !isfinite(want[i])) return (double)NAN;
        d += e * e;
        w += (double)want[i] * want[i];
    }
    return d == 0 ? 0 : sqrt(d / w);
}

/* ---- temporary folders ---- */

typedef struct folder {
    char *path;
    pid_t owner; /* a forked test leaves its parent's folders alone */
    struct folder *next;
} folder;
static folder *folders;

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *ftw)
{
    (void)info;
    (void)kind;
    (void)ftw;
    return remove(path), 0;
}

static void remove_folders(void)
{
    for (folder *f = folders; f; f = f->next)
        if (f->owner == getpid()) nftw(f->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

char *testing_tmp(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    folder *f = malloc(sizeof *f);
    if (!f || asprintf(&path, "%s/tessera-test-XXXXXX", base && *base ? base : "/tmp") < 0 ||
        !mkdtemp(path)) {
        /* Check asserts only inside a test; a main may call this, too */
        fprintf(stderr, "can not make a temporary folder\n");
        exit(1);
    }
    if (!folders) atexit(remove_folders);
    *f = (folder){strdup(path), getpid(), folders};
    folders = f;
    return path;
}
