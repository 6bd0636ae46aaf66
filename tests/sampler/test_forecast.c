/* What a run will take: measured on parts of the model, without an effect on the run. Times are
 * not compared with anything: machines are shared. */
#include "sampler/run.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* As programs do it: with the device that prices and times operations. */
static ts_ctx *open_context(int threads)
{
    ts_ctx *c;
    ts_options o = ts_options_default();
    o.device = "cpu";
    o.threads = threads;
    o.precision = "f32";
    ck_ok(c, ts_open(&o, NULL, &c));
    return c;
}

static const char *model_path(const char *fixture)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/model", testing_fixture(fixture));
    return path;
}

static ts_request request_of(ts_model *m)
{
    ts_request q;
    ts_request_init(m, &q);
    q.prompt = "a fox";
    q.width = q.height = 64;
    q.frames = q.frames > 1 ? 5 : 1;
    q.steps = 2;
    q.guidance = q.guidance_2 = 3;
    return q;
}

static void expect_times(const ts_forecast *f, bool text)
{
    ck_assert_msg(isfinite(f->denoise_seconds) && isfinite(f->decode_seconds), "%g %g",
                  f->denoise_seconds, f->decode_seconds);
    ck_assert_msg(text == (f->denoise_seconds > 0), "%g", f->denoise_seconds);
    ck_assert_msg(text == (f->text_seconds > 0), "%g", f->text_seconds);
    ck_assert_msg(f->decode_seconds > 0, "%g", f->decode_seconds);
    ck_assert(f->program_bytes > 0 && f->allowed_bytes > 0);
}

/* Latents of a run, asked before or not. */
static ts_bag *latents_of(ts_ctx *c, ts_model *m, bool asked)
{
    ts_run *r;
    ts_bag *bag;
    ts_forecast f = {.size = sizeof f};
    ts_request q = request_of(m);
    ck_ok(c, ts_run_open(m, &q, &r, NULL));
    if (asked) {
        ck_ok(c, ts_run_forecast(r, &f));
        expect_times(&f, true);
    }
    ck_ok(c, ts_run_encode(r));
    ck_ok(c, ts_run_denoise(r, &bag));
    ts_run_close(r);
    return bag;
}

START_TEST(a_run_is_the_same_after_it)
{
    static const char *const fixture[] = {"wan21-t2v", "wan22-a14b", "wan21-tile",
                                          "pixart-alpha-256"};
    const char *path = fixture[_i];
    for (int threads = 1; threads <= 2; threads++) {
        ts_ctx *c = open_context(threads);
        ts_model *m, *n;
        ck_ok(c, ts_model_open(c, model_path(path), &m));
        ts_bag *without = latents_of(c, m, false);
        ts_model_close(m);
        ck_ok(c, ts_model_open(c, model_path(path), &n));
        ts_bag *with = latents_of(c, n, true);
        ts_host a, b;
        ck_ok(c, ts_bag_get(&c->err, without, "latents", TS_F32, 4, (long[]){-1, -1, -1, -1}, &a));
        ck_ok(c, ts_bag_get(&c->err, with, "latents", TS_F32, 4, a.dim, &b));
        ck_assert(!memcmp(a.data, b.data,
                          (size_t)(a.dim[0] * a.dim[1] * a.dim[2] * a.dim[3]) * sizeof(float)));
        ts_bag_free(with);
        ts_bag_free(without);
        ts_model_close(n);
        ts_close(c);
    }
}
END_TEST

START_TEST(of_decoding_alone)
{
    ts_ctx *c = open_context(1);
    ts_model *m;
    ts_run *r;
    ts_forecast f = {.size = sizeof f};
    ck_ok(c, ts_model_open(c, model_path("wan21-t2v"), &m));
    ts_bag *z = latents_of(c, m, false);
    ts_request q = request_of(m);
    const ts_run_options decoding = {.size = sizeof decoding, .latents = z};
    ck_ok(c, ts_run_open_with(m, &q, &decoding, &r, NULL));
    ck_ok(c, ts_run_forecast(r, &f));
    expect_times(&f, false);
    ts_run_close(r);
    ts_bag_free(z);
    ts_model_close(m);
    ts_close(c);
}
END_TEST

/* Nothing of it is an event or a warning, and a struct of another version is refused. */
static int heard;
static void hear_event(void *user, const ts_event *e) { (void)user, (void)e, heard++; }
static void hear_warning(void *user, const char *s) { (void)user, (void)s, heard++; }

START_TEST(silent_and_refusing)
{
    ts_ctx *c = open_context(1);
    ts_model *m;
    ts_run *r;
    ts_forecast f = {.size = sizeof f};
    ck_ok(c, ts_model_open(c, model_path("wan21-t2v"), &m));
    ts_request q = request_of(m);
    q.width = q.height = 1040; /* more than is measured at once, rounded when it is smaller */
    ck_ok(c, ts_run_open(m, &q, &r, NULL));
    c->env.progress = hear_event;
    c->env.warn = hear_warning;
    ck_ok(c, ts_run_forecast(r, &f));
    ck_assert_int_eq(heard, 0);
    ck_assert_ptr_eq(c->env.progress, hear_event);
    f.size++;
    ck_assert_int_eq(ts_run_forecast(r, &f), TS_EUSAGE);
    ck_assert_int_eq(ts_run_forecast(r, NULL), TS_EUSAGE);
    ts_run_close(r);
    ts_model_close(m);
    ts_close(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("forecast");
    TCase *t = tcase_create("forecast");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_run_is_the_same_after_it, 0, 4);
    tcase_add_test(t, of_decoding_alone);
    tcase_add_test(t, silent_and_refusing);
    suite_add_tcase(s, t);
    return testing_main(s);
}
