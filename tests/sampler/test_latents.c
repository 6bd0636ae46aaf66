/* Latents between the order of files and the device's; what a run does with them: nothing comes
 * down between the first step and the decoder when nobody asks, and what was denoised is there for
 * both. */
#include "sampler/latents.h"

#include "sampler/run.h"
#include "tests/testing.h"

#include <stdlib.h>
#include <string.h>

START_TEST(channels_first_and_last)
{
    const long shape[4] = {3, 2, 4, 5};
    float first[120], last[120], back[120];
    ck_assert_uint_eq(ts_latents_count(shape), 120);
    for (int i = 0; i < 120; i++) first[i] = (float)i;
    ts_latents_last(shape, first, last);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 40; i++) ck_assert(last[i * 3 + c] == first[c * 40 + i]);
    ts_latents_first(shape, last, back);
    ck_assert(!memcmp(first, back, sizeof first));
}
END_TEST

/* ---- a run ---- */

static const ts_ops *real_ops;
static int downloads, joins, checks;
static ts_status count_download(ts_device *d, void *to, ts_ptr p, size_t bytes)
{
    downloads++;
    return real_ops->download(d, to, p, bytes);
}
static ts_status count_join(ts_device *d)
{
    joins++;
    return real_ops->join(d);
}
static ts_status count_checked(ts_device *d, int *tag)
{
    checks++;
    return real_ops->checked(d, tag);
}

/* Keeps the last byte of every sample that it is shown. */
typedef struct {
    ts_sink s;
    float sum;
    int n;
} summing;
static ts_status sum_open(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    (void)s;
    (void)fps;
    ck_assert(w > 0 && h > 0 && frames > 0 && json);
    return TS_OK;
}
static ts_status sum_frame(ts_sink *s, const ts_frame *f)
{
    summing *m = (summing *)s;
    for (long i = 0; i < (long)f->w * f->h * 3; i++) m->sum += f->rgb[i] * (float)(i % 7 + 1);
    m->n++;
    return TS_OK;
}
static ts_status sum_close(ts_sink *s)
{
    (void)s;
    return TS_OK;
}
static void sum_abort(ts_sink *s) { (void)s; }

static const struct {
    const char *backend, *model, *sampler;
    int steps, count;
} runs[] = {
    {"cpu", "tests/fixtures/wan21-t2v/model", NULL, 3, 1},
    {"far", "tests/fixtures/wan21-t2v/model", NULL, 3, 1},
    {"cpu", "tests/fixtures/pixart-alpha-256/model", NULL, 3, 2},
    {"far", "tests/fixtures/pixart-alpha-256/model", "lcm", 3, 2}, /* adds noise in each step */
};
enum { RUNS = sizeof runs / sizeof *runs };

START_TEST(nothing_comes_down)
{
    ts_ctx *c = testing_open(runs[_i].backend, NULL, 1);
    ts_model *m;
    ts_run *r;
    ts_request q;
    ts_estimate e;
    ts_bag *bag;
    summing kept = {.s = {.open = sum_open, .frame = sum_frame, .close = sum_close}}, given;
    kept.s.abort = sum_abort;
    given = kept;
    ck_ok(c, ts_model_open(c, runs[_i].model, &m));
    ts_request_init(m, &q);
    q.prompt = "a panda";
    q.width = q.height = 64;
    q.frames = m->family->pictures ? 1 : 5;
    q.steps = runs[_i].steps;
    q.count = runs[_i].count;
    q.no_bins = true;
    if (runs[_i].sampler) q.sampler = runs[_i].sampler;
    ck_ok(c, ts_run_open(m, &q, &r, &e));
    ck_assert_int_eq(ts_run_latents(r, &bag), TS_EUSAGE);
    ck_assert_ptr_null(bag);
    ck_ok(c, ts_run_encode(r));
    ts_ops ops = *c->dev->ops;
    real_ops = c->dev->ops;
    ops.download = count_download;
    ops.join = count_join;
    ops.checked = count_checked;
    downloads = checks = 0;
    c->dev->ops = &ops;
    ck_ok(c, ts_run_denoise(r, NULL));
    ck_assert_int_eq(downloads, 0);
    /* one an evaluation, one before them and one behind */
    ck_assert_int_eq(checks, runs[_i].steps + 2);
    ck_ok(c, ts_run_decode(r, NULL, &kept.s));
    c->dev->ops = real_ops;
    ck_assert_int_eq(downloads, e.frames); /* frames, and nothing else */
    ck_ok(c, ts_run_latents(r, &bag));
    ck_ok(c, ts_run_decode(r, bag, &given.s));
    ck_assert(kept.n == e.frames && given.n == kept.n && kept.sum == given.sum);
    ts_bag_free(bag);
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("latents");
    TCase *t = tcase_create("latents");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, channels_first_and_last);
    tcase_add_loop_test(t, nothing_comes_down, 0, RUNS);
    suite_add_tcase(s, t);
    return testing_main(s);
}
