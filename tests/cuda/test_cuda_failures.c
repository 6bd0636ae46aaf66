/* What fails on the CUDA device, at every call of the runtime in turn: opening, memory, operations,
 * whole runs. One sentence and the right status each, nothing is left behind, and a run that was
 * saved goes on where it was. */
#include "backend/cuda/cuda.h"
#include "sampler/run.h"
#include "tests/cuda/emu/emulated.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const emu_options modes[] = {{.late = 1, .guard = 1}, {.late = 0, .guard = 1}};
enum { MODES = sizeof modes / sizeof *modes };
static const int with[] = {0, cudaErrorMemoryAllocation, cudaErrorIllegalAddress};

static ts_err err;
static ts_env env;

/* ---- opening, memory ---- */
static void expect_refusal(emu_options o, const char *kind, ts_status status, const char *words)
{
    ts_device *d = NULL;
    emu_set(o);
    ts_status st = emulated_open(kind, &env, &err, &d);
    ck_assert_msg(st == status && !d, "%s: status %d: %s", kind, st, err.text);
    ck_assert_msg(strstr(err.text, words), "%s: %s", kind, err.text);
    ck_assert_int_eq(emu_open_handles(), 0);
}

START_TEST(not_there)
{
    expect_refusal((emu_options){.devices = -1}, "cuda", TS_EDEVICE, "no NVIDIA GPU");
    expect_refusal((emu_options){.devices = -2}, "cuda", TS_EDEVICE, "driver");
    expect_refusal((emu_options){.devices = 2}, "cuda:2", TS_EDEVICE, "there are 2");
    expect_refusal((emu_options){.major = 7, .minor = 5}, "cuda", TS_EDEVICE, "7.5");
    expect_refusal((emu_options){0}, "cuda:", TS_EUSAGE, "cuda:NUMBER");
    expect_refusal((emu_options){0}, "cuda:1x", TS_EUSAGE, "cuda:NUMBER");
    expect_refusal((emu_options){0}, "cuda:-1", TS_EUSAGE, "cuda:NUMBER");
    expect_refusal((emu_options){.memory = 4096}, "cuda", TS_EMEMORY, "memory");
}
END_TEST

START_TEST(out_of_memory)
{
    ts_ptr p;
    ts_device *d = NULL;
    emu_set((emu_options){.memory = 64 << 20});
    ck_assert_msg(emulated_open("cuda", &env, &err, &d) == TS_OK, "%s", err.text);
    ck_assert_int_eq(d->ops->alloc(d, 65 << 20, &p), TS_EMEMORY);
    ck_assert_uint_eq(p.at, 0);
    ck_assert_msg(strstr(err.text, "68.2 MB") && strstr(err.text, "free of 67.1 MB") &&
                      strstr(err.text, "`vram`"),
                  "%s", err.text);
    ck_assert_int_eq(ts_alloc_for(d, 65 << 20, "weights", &p), TS_EMEMORY);
    ck_assert_msg(!strncmp(err.text, "weights: no memory for 68.2 MB", 30), "%s", err.text);
    ck_assert_msg(d->ops->alloc(d, 1 << 20, &p) == TS_OK, "%s", err.text);
    d->ops->free(d, p);
    ts_device_close(d);
    emulated_expect_clean();
    ck_assert_int_eq(emu_open_handles(), 0);
}
END_TEST

/* Everything that the host asks of the runtime, in one go; the status of the first that fails. */
static ts_status use_device(ts_device *d)
{
    enum { M = 70, K = 40, O = 24 };
    ts_status st;
    static float x[M * K];
    float back[O];
    int tag;
    double seconds;
    ts_ticket t = {0};
    ts_moment from, to;
    ts_ptr p = {0}, q = {0};
    ts_weight w = {.t = ts_tensor_of((ts_ptr){0}, TS_F32, 2, (long[]){O, K}),
                   .want = {TS_BF16, 0, O * K * 2}};
    ts_host from_host = {x, TS_F32, 2, {O, K}};
    TRY(d->ops->alloc(d, sizeof x + O * K * 4, &p));
    TRY(d->ops->alloc(d, M * O * 4, &q));
    TRY(d->ops->mark(d, &from));
    TRY(d->ops->upload(d, p, x, sizeof x));
    TRY(d->ops->pack(d, &from_host, 0, &w, ts_at(p, sizeof x)));
    TRY(d->ops->pack_ahead(d, &from_host, 0, &w, ts_at(p, sizeof x), &t));
    TRY(d->ops->wait(d, t));
    w.want.type = TS_F32;
    TRY(d->ops->pack_ahead(d, &from_host, 0, &w, ts_at(p, sizeof x), &t));
    TRY(d->ops->wait(d, t));
    w.t.p = ts_at(p, sizeof x);
    ts_linear l = {.x = ts_tensor_of(p, TS_F32, 2, (long[]){M, K}),
                   .w = &w,
                   .act = TS_ACT_SILU,
                   .y = ts_tensor_of(q, TS_F32, 2, (long[]){M, O})};
    TRY(d->ops->linear(d, &l));
    TRY(d->ops->check(d, l.y, 1));
    TRY(d->ops->checked(d, &tag));
    TRY(d->ops->mark(d, &to));
    TRY(d->ops->download(d, back, q, sizeof back));
    TRY(d->ops->elapsed(d, from, to, &seconds));
    TRY(d->ops->join(d));
done:
    if (p.at) d->ops->free(d, p);
    if (q.at) d->ops->free(d, q);
    return st;
}

/* The n-th call fails, for every n until none is left: one sentence each, nothing leaks. */
START_TEST(every_call_fails)
{
    int n = 0, failed = 0;
    for (bool done = false; !done; n++) {
        ts_device *d = NULL;
        emu_options o = modes[n % MODES];
        o.fail_after = n + 1;
        o.fail_with = with[_i];
        emu_set(o);
        err.text[0] = 0;
        emu_stats_read(1);
        ts_status st = emulated_open("cuda", &env, &err, &d);
        if (!st) st = use_device(d);
        done = emu_stats_read(0).calls <= n;
        if (st) {
            failed++;
            ck_assert_msg(st == TS_EDEVICE || st == TS_EMEMORY, "call %d: status %d", n, st);
            ck_assert_msg(strlen(err.text) > 10, "call %d: no sentence", n);
        }
        ts_device_close(d);
        emu_error();
        emu_set(modes[0]);
        ck_assert_msg(emu_open_handles() == 0, "call %d (%s): %ld are left", n, err.text,
                      emu_open_handles());
    }
    ck_assert_msg(failed > 40 && n < 1000, "%d of %d calls failed", failed, n);
}
END_TEST

/* ---- whole runs ---- */
enum { STEPS = 3 };
static const emu_options at_once = {.late = 0}; /* no guard: each costs system calls */
typedef struct {
    ts_ctx ctx;
    ts_model *m;
    ts_run *r;
    ts_bag *latents;
} session;

static ts_status keep(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    (void)s, (void)w, (void)h, (void)frames, (void)fps, (void)json;
    return TS_OK;
}
static ts_status see(ts_sink *s, const ts_frame *f) { return (void)s, (void)f, TS_OK; }
static ts_status end(ts_sink *s) { return (void)s, TS_OK; }
static void drop(ts_sink *s) { (void)s; }

/* Opens a device and a model, encodes, denoises, saving after every step, decodes. */
static ts_status run_all(session *s, const char *state)
{
    ts_status st;
    ts_request q;
    ts_estimate e;
    char path[600];
    ts_sink sink = {keep, see, end, drop, ""};
    ts_ctx *c = &s->ctx;
    *s = (session){.ctx = {.act = TS_F32, .codec = TS_F32, .owns_dev = true, .memory = 1 << 30}};
    TRY(testing_cuda_open(&c->env, &c->err, &c->dev));
    snprintf(path, sizeof path, "%s/model", testing_fixture("wan21-t2i-bf16"));
    TRY(ts_model_open(c, path, &s->m));
    ts_request_init(s->m, &q);
    q.prompt = "a fox";
    q.negative = "";
    q.width = q.height = 32;
    q.frames = 1;
    q.steps = STEPS;
    q.guidance = 1;
    q.no_bins = true;
    q.state = state;
    TRY(ts_run_open(s->m, &q, &s->r, &e));
    TRY(ts_run_encode(s->r));
    TRY(ts_run_denoise(s->r, &s->latents));
    TRY(ts_run_decode(s->r, s->latents, &sink));
done:
    return st;
}

static void close_all(session *s)
{
    ts_bag_free(s->latents);
    ts_run_close(s->r);
    ts_model_close(s->m);
    ts_device_close(s->ctx.dev);
}

/* The calls of a run that has its weights and saves its steps, and its latents: what every run that
 * failed in the middle must come to. */
static long count_run(const char *state, float *latents, long *n)
{
    session s;
    emu_set(at_once);
    emu_stats_read(1);
    ts_status st = run_all(&s, state);
    ck_assert_msg(st == TS_OK, "%s", s.ctx.err.text);
    const float *z = testing_f32(s.latents, "latents", n);
    ck_assert_int_le(*n, 4096);
    memcpy(latents, z, (size_t)*n * sizeof *z);
    long calls = emu_stats_read(0).calls; /* what fails at closing is nobody's concern */
    close_all(&s);
    emulated_expect_clean();
    return calls;
}

/* The n-th call of all fails, once and for all where the device is lost: a sentence, exit code 4,
 * nothing left; and the next run, on a device that works, goes on from the last step saved. */
START_TEST(runs_fail_and_go_on)
{
    static float want[4096];
    long n, m, resumed = 0;
    char *folder = testing_tmp(), state[4096];
    snprintf(state, sizeof state, "%s/state.safetensors", folder);
    long calls = count_run(state, want, &n);
    long pace = getenv("LONG") ? 23 : calls / 9;
    for (long at = 1 + 3 * _i; at <= calls; at += pace) {
        session s;
        emu_options o = at_once;
        unlink(state);
        o.fail_after = (int)at;
        o.fail_with = with[_i];
        emu_set(o);
        ts_status st = run_all(&s, state);
        ck_assert_msg(st == TS_EDEVICE || st == TS_EMEMORY, "call %ld of %ld: status %d: %s", at,
                      calls, st, s.ctx.err.text);
        ck_assert_msg(strlen(s.ctx.err.text) > 10, "call %ld: no sentence", at);
        close_all(&s);
        emu_error();
        emu_set(modes[0]);
        ck_assert_msg(emu_open_handles() == 0, "call %ld: %ld are left", at, emu_open_handles());
        bool saved = access(state, R_OK) == 0;
        resumed += saved;
        if (!saved) continue;
        emu_set(at_once);
        st = run_all(&s, state);
        ck_assert_msg(st == TS_OK, "after call %ld: %s", at, s.ctx.err.text);
        const float *z = testing_f32(s.latents, "latents", &m);
        ck_assert_int_eq(n, m);
        ck_assert_msg(!memcmp(z, want, (size_t)n * sizeof *z), "after call %ld: other latents", at);
        close_all(&s);
        emulated_expect_clean();
    }
    ck_assert_int_gt(resumed, 1);
    free(folder);
}
END_TEST

/* What a lost device says: what was asked of it, and what was queued before. */
START_TEST(says_what_was_queued)
{
    ts_device *d = NULL;
    emu_set(modes[0]);
    ck_assert_msg(emulated_open("cuda", &env, &err, &d) == TS_OK, "%s", err.text);
    ts_ptr p;
    ck_assert_int_eq(d->ops->alloc(d, 4096, &p), TS_OK);
    ts_tensor t = ts_tensor_of(p, TS_F32, 1, (long[]){1024});
    ts_lincomb a = {.n = 1, .c = {1}, .x = {t}, .y = t};
    ck_assert_int_eq(d->ops->zero(d, p, 4096), TS_OK);
    ck_assert_int_eq(d->ops->lincomb(d, &a), TS_OK);
    ck_assert_int_eq(d->ops->activate(d, &(ts_activate){.act = TS_ACT_SILU, .x = t, .y = t}),
                     TS_OK);
    emu_options o = modes[0];
    o.fail_after = 1;
    o.fail_with = cudaErrorIllegalAddress;
    emu_set(o);
    ck_assert_int_eq(d->ops->join(d), TS_EDEVICE);
    ck_assert_msg(strstr(err.text, "waiting") && strstr(err.text, "queued last: lincomb, activate"),
                  "%s", err.text);
    d->ops->free(d, p);
    ts_device_close(d);
    emu_error();
    emu_set(modes[0]);
    ck_assert_int_eq(emu_open_handles(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda failures");
    TCase *tc = tcase_create("cuda failures");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, not_there);
    tcase_add_test(tc, out_of_memory);
    tcase_add_loop_test(tc, every_call_fails, 0, 3);
    tcase_add_test(tc, says_what_was_queued);
    tcase_add_loop_test(tc, runs_fail_and_go_on, 0, 3);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
