/* Who watches a run's steps: what is seen of them, that the run gives the same bits, what ends it,
 * and whether the colours of a preview are those of the picture. */
#include "sampler/watch.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};

typedef struct {
    ts_ctx *c;
    ts_model *m;
    ts_run *r;
    long n; /* of latents */
} run;

typedef struct {
    int calls, number[16], count;
    double sigma[17]; /* after each step */
    float *x[16], *clean[16];
    long n;
    int end_at; /* 0: never */
    ts_status end;
    bool preview;
    ts_frame last;
    float *rgb; /* of the last preview */
} seen;

static run open_run(const char *backend, const char *fixture, const char *sampler)
{
    run o = {.c = testing_open(backend, NULL, 1)};
    char path[4096];
    ts_request q;
    ts_estimate e;
    snprintf(path, sizeof path, "%s/model", testing_fixture(fixture));
    ck_ok(o.c, ts_model_open(o.c, fixture[0] ? path : "weights/default", &o.m));
    ts_request_init(o.m, &q);
    q.prompt = "a panda";
    q.width = q.height = 64;
    q.frames = 1;
    q.steps = 5;
    q.no_bins = true;
    if (sampler) q.sampler = sampler;
    ck_ok(o.c, ts_run_open(o.m, &q, &o.r, &e));
    o.n = (long)e.latent[0] * e.latent[1] * e.latent[2] * e.latent[3];
    ck_ok(o.c, ts_run_encode(o.r));
    return o;
}

static void close_run(run *o)
{
    ts_run_close(o->r);
    ts_model_close(o->m);
    testing_close(o->c);
}

static ts_status look(void *user, ts_step *s)
{
    ts_status st = TS_OK;
    seen *w = user;
    int i = w->calls++, shape[4];
    ck_assert_int_lt(i, 16);
    w->number[i] = ts_step_number(s);
    w->count = ts_step_count(s);
    w->sigma[i] = ts_step_sigma(s);
    ts_step_shape(s, shape);
    ck_assert_int_eq((long)shape[0] * shape[1] * shape[2] * shape[3], w->n);
    w->x[i] = malloc((size_t)w->n * sizeof(float));
    w->clean[i] = malloc((size_t)w->n * sizeof(float));
    TRY(ts_step_latents(s, w->x[i]));
    TRY(ts_step_clean(s, w->clean[i]));
    if (w->preview) {
        TRY(ts_step_preview(s, -1, &w->last));
        size_t n = (size_t)w->last.w * (size_t)w->last.h * 3;
        free(w->rgb);
        w->rgb = malloc(n * sizeof(float));
        memcpy(w->rgb, w->last.rgb, n * sizeof(float));
    }
    if (w->number[i] == w->end_at) st = w->end;
done:
    return st;
}

static void free_seen(seen *w)
{
    for (int i = 0; i < w->calls; i++) {
        free(w->x[i]);
        free(w->clean[i]);
    }
    free(w->rgb);
}

static ts_watch watch_of(seen *w, int every)
{
    return (ts_watch){
        .size = sizeof(ts_watch), .step = look, .user = w, .every = every, .preview = w->preview};
}

static float *denoise(run *o)
{
    ts_bag *bag;
    float *x = malloc((size_t)o->n * sizeof *x);
    ck_ok(o->c, ts_run_denoise(o->r, &bag));
    memcpy(x, testing_f32(bag, "latents", NULL), (size_t)o->n * sizeof *x);
    ts_bag_free(bag);
    return x;
}

/* a x + b y, as floats */
static float *mixed(double a, const float *x, double b, const float *y, long n)
{
    float *z = malloc((size_t)n * sizeof *z);
    for (long i = 0; i < n; i++) z[i] = (float)(a * x[i] + b * y[i]);
    return z;
}

/* A step of first order: the next sample is what the step foretold, under less of the noise that
 * the sample before had beside it. */
static void check_first_order(const seen *w, const ts_schedule *l, bool flow)
{
    for (int i = 0; i + 1 < w->calls; i++) {
        /* timesteps of DDIM may lie closer than what each goes to */
        double s = flow ? w->sigma[i] : l->at[i + 1].s / l->at[i + 1].a, t = w->sigma[i + 1];
        /* how much of a sample is signal; diffusion's variance is kept */
        double at = flow ? 1 - s : 1 / sqrt(1 + s * s), to = flow ? 1 - t : 1 / sqrt(1 + t * t);
        /* noise = (x - at clean) / (at s), of a flow (x - at clean) / s */
        double noise = flow ? t / s : to * t / (at * s);
        float *want = mixed(noise, w->x[i], to - noise * at, w->clean[i + 1], w->n);
        double e = testing_rel(w->x[i + 1], want, w->n);
        ck_assert_msg(e < 1e-5, "step %d: relative error %.2e", i + 2, e);
        free(want);
    }
}

static const struct {
    const char *fixture, *sampler;
    bool first_order, flow;
} samplers[] = {
    {"wan21-t2v", "unipc", false, true},   {"wan21-t2v", "euler", true, true},
    {"wan22-a14b", "unipc", false, true},  {"pixart-sigma", "dpmpp-2m", false, false},
    {"pixart-sigma", "ddim", true, false}, {"pixart-sigma", "euler", true, false},
    {"pixart-sigma", "lcm", false, false},
};
enum { SAMPLERS = sizeof samplers / sizeof *samplers };

/* The same bits watched and not; the last sample is the run's; noise becomes less; where the last
 * step leaves none, the sample is what it foretold. */
START_TEST(every_sampler)
{
    for (int b = 0; b < 2; b++) {
        run o = open_run(backends[b], samplers[_i].fixture, samplers[_i].sampler);
        float *alone = denoise(&o);
        seen w = {.n = o.n, .preview = true};
        ck_ok(o.c, ts_run_watch(o.r, &(ts_watch[]){watch_of(&w, 0)}[0]));
        float *watched = denoise(&o);
        ck_assert(!memcmp(alone, watched, (size_t)o.n * sizeof *alone));
        ck_assert(w.calls == 5 && w.count == 5 && w.number[0] == 1 && w.number[4] == 5);
        ck_assert(!memcmp(w.x[4], alone, (size_t)o.n * sizeof *alone));
        for (int i = 1; i < 5; i++) ck_assert(w.sigma[i] < w.sigma[i - 1]);
        ck_assert(w.sigma[4] < 0.05 && w.sigma[0] > 0);
        if (samplers[_i].first_order) {
            check_first_order(&w, &o.r->schedule, samplers[_i].flow);
        } else {
            double e = testing_rel(w.clean[4], w.x[4], o.n);
            ck_assert_msg(e < 1e-5, "the last step: %.2e", e);
        }
        int stride = o.m->vae_info.stride;
        ck_assert_int_eq(w.last.w, 64 / stride * (stride / 4));
        ck_ok(o.c, ts_run_watch(o.r, NULL));
        free(denoise(&o));
        ck_assert_int_eq(w.calls, 5);
        free_seen(&w);
        free(alone);
        free(watched);
        close_run(&o);
    }
}
END_TEST

/* A run that is watched from its beginning, before anything was denoised, in every operation's
 * layout: the model has decoded for it. */
START_TEST(watched_first)
{
    run o = open_run("cpu", "", NULL);
    float *alone = denoise(&o);
    close_run(&o);
    o = open_run("cpu", "", NULL);
    seen w = {.n = o.n, .preview = true};
    ts_watch watch = watch_of(&w, 2);
    ck_ok(o.c, ts_run_watch(o.r, &watch));
    float *watched = denoise(&o);
    ck_assert(!memcmp(alone, watched, (size_t)o.n * sizeof *alone));
    ck_assert(w.calls == 3 && w.number[0] == 2 && w.number[1] == 4 && w.number[2] == 5);
    free_seen(&w);
    free(alone);
    free(watched);
    close_run(&o);
}
END_TEST

START_TEST(the_function_ends_it)
{
    run o = open_run("cpu", "wan21-t2v", NULL);
    seen w = {.n = o.n, .end_at = 2, .end = TS_ESTOP};
    ts_watch watch = watch_of(&w, 1);
    ck_ok(o.c, ts_run_watch(o.r, &watch));
    ck_assert_int_eq(ts_run_denoise(o.r, NULL), TS_ESTOP);
    ck_assert_int_eq(w.calls, 2);
    ck_assert_str_eq(ts_error(o.c), "the function that watches ended the run after step 2");
    free_seen(&w);
    /* a call of its own that failed says why */
    w = (seen){.n = o.n, .preview = true};
    watch = watch_of(&w, 1);
    watch.preview = false;
    ck_ok(o.c, ts_run_watch(o.r, &watch));
    ck_assert_int_eq(ts_run_denoise(o.r, NULL), TS_EUSAGE);
    ck_assert_str_eq(ts_error(o.c), "ts_step_preview: the watch did not ask for previews");
    free_seen(&w);
    /* and the run goes on */
    ck_ok(o.c, ts_run_watch(o.r, NULL));
    free(denoise(&o));
    close_run(&o);
}
END_TEST

static ts_status ask_for_frames(void *user, ts_step *s)
{
    ts_frame f;
    int *frames = user;
    ck_assert_int_eq(ts_step_preview(s, *frames, &f), TS_EUSAGE);
    ck_assert_ptr_null(f.rgb);
    ck_assert_int_eq(ts_step_preview(s, -2, &f), TS_EUSAGE);
    for (int i = 0; i < *frames; i++) {
        ck_assert_int_eq(ts_step_preview(s, i, &f), TS_OK);
        ck_assert_int_eq(f.index, i);
    }
    ck_assert_int_eq(ts_step_preview(s, -1, &f), TS_OK);
    ck_assert_int_eq(f.index, *frames / 2);
    return TS_OK;
}

static void refused(run *o, const ts_watch *w, const char *sentence)
{
    ck_assert_int_eq(ts_run_watch(o->r, w), TS_EUSAGE);
    ck_assert_msg(strstr(ts_error(o->c), sentence), "%s", ts_error(o->c));
}

/* Memory for a preview is taken from the weights that stay; where these have no more to give, there
 * is none. The bits are the same. */
START_TEST(memory_for_previews)
{
    run o = open_run("cpu", "", NULL);
    float *alone = denoise(&o);
    size_t largest, all = ts_weights_packed(ts_dit_weights(o.m->dit[0]), &largest), bytes,
                    memory = o.c->memory;
    seen w = {.n = o.n, .preview = true};
    ts_watch watch = watch_of(&w, 2);
    ck_ok(o.c, ts_run_watch(o.r, &watch));
    bytes = o.r->watched.bytes;
    ck_assert(bytes > 0 && all > largest);
    size_t fixed = memory - ts_run_room(o.r);
    o.c->memory = fixed + largest; /* fixed: activations and the preview */
    ck_assert_int_eq(ts_run_room(o.r), largest);
    ck_ok(o.c, ts_run_watch(o.r, &watch));
    float *watched = denoise(&o);
    ck_assert(!memcmp(alone, watched, (size_t)o.n * sizeof *alone));
    o.c->memory--;
    ck_assert_int_eq(ts_run_watch(o.r, &watch), TS_EMEMORY);
    ck_assert_msg(strstr(ts_error(o.c), "a preview needs ") && strstr(ts_error(o.c), "leaves"),
                  "%s", ts_error(o.c));
    ck_assert_int_eq(o.r->watched.bytes, 0);
    free_seen(&w);
    free(alone);
    free(watched);
    close_run(&o);
}
END_TEST

/* What other programs have is not taken for weights that stay, and said where a phase wants it
 * besides. The bits are the same. */
START_TEST(memory_of_others)
{
    run o = open_run("cpu", "", NULL);
    float *alone = denoise(&o);
    size_t largest, all = ts_weights_packed(ts_dit_weights(o.m->dit[0]), &largest),
                    fixed = o.c->memory - ts_run_room(o.r);
    ck_assert(all > largest);
    o.c->unused = fixed + largest;
    ck_assert_uint_eq(ts_run_room(o.r), largest);
    float *beside = denoise(&o);
    ck_assert(!memcmp(alone, beside, (size_t)o.n * sizeof *alone));
    ck_assert(!strstr(testing_warned(o.c), "other programs"));
    o.c->unused = 1000;
    ck_assert_uint_eq(ts_run_room(o.r), 1);
    ts_request q;
    ts_estimate e;
    ts_run *other;
    ts_request_init(o.m, &q);
    q.prompt = "a panda";
    q.frames = 1;
    ck_ok(o.c, ts_run_open(o.m, &q, &other, &e));
    ck_assert_msg(strstr(testing_warned(o.c), "denoising needs ") &&
                      strstr(testing_warned(o.c), "other programs leave 1.0 kB of"),
                  "%s", testing_warned(o.c));
    ck_assert(!strstr(testing_warned(o.c), "decoding needs "));
    other->arena[TS_PHASE_DENOISE] = other->scratch[TS_PHASE_DENOISE] = 0; /* decoding alone */
    ck_ok(o.c, ts_run_size_decode(other, &e));
    ck_assert_msg(strstr(testing_warned(o.c), "decoding needs "), "%s", testing_warned(o.c));
    ts_run_close(other);
    free(alone);
    free(beside);
    close_run(&o);
}
END_TEST

START_TEST(watches_that_make_no_sense)
{
    run o = open_run("cpu", "wan21-t2v", NULL);
    seen w = {.n = o.n};
    ts_watch watch = watch_of(&w, 1);
    watch.size = 4;
    refused(&o, &watch, "a watch of 4 bytes");
    watch = watch_of(&w, -1);
    refused(&o, &watch, "every -1 steps");
    watch = watch_of(&w, 1);
    watch.step = NULL;
    refused(&o, &watch, "no function");
    int frames = 1;
    watch = (ts_watch){
        .size = sizeof watch, .step = ask_for_frames, .user = &frames, .preview = true};
    ck_ok(o.c, ts_run_watch(o.r, &watch));
    ts_bag *bag;
    ck_ok(o.c, ts_run_denoise(o.r, &bag));
    ts_run_close(o.r);
    ts_request q;
    ts_request_init(o.m, &q);
    ck_ok(o.c, ts_run_open_with(o.m, &q,
                                &(ts_run_options){.size = sizeof(ts_run_options), .latents = bag},
                                &o.r, NULL));
    refused(&o, &watch, "to decode given latents");
    ts_bag_free(bag);
    close_run(&o);
}
END_TEST

/* ---- colours ---- */
typedef struct {
    ts_sink s;
    const seen *w;
    double left, all; /* squares about the preview, and about the mean */
} judge;
static ts_status begin(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    ck_assert(s && w && h && frames && fps > 0 && json);
    return TS_OK;
}
/* Blocks of 4 x 4 pixels, each a pixel of the preview. */
static ts_status compare(ts_sink *s, const ts_frame *f)
{
    judge *j = (judge *)s;
    const ts_frame *p = &j->w->last;
    ck_assert(p->w == f->w / 4 && p->h == f->h / 4);
    for (int k = 0; k < 3; k++) {
        double sum = 0, squares = 0;
        for (int i = 0; i < p->w * p->h; i++) {
            double v = 0;
            for (int a = 0; a < 16; a++)
                v += f->rgb[3 * ((i / p->w * 4 + a / 4) * f->w + i % p->w * 4 + a % 4) + k] / 16;
            double d = v - j->w->rgb[3 * i + k];
            j->left += d * d;
            sum += v;
            squares += v * v;
        }
        j->all += squares - sum * sum / (p->w * p->h);
    }
    return TS_OK;
}
static ts_status end(ts_sink *s) { return s ? TS_OK : TS_EFAIL; }
static void drop(ts_sink *s) { (void)s; }

/* The model that comes with the program was trained: most of what its decoder draws of a picture
 * in blocks is in the preview of the last step, place by place. */
START_TEST(colours_are_those_of_the_picture)
{
    for (int b = 0; b < 2; b++) {
        run o = open_run(backends[b], "", NULL);
        seen w = {.n = o.n, .preview = true};
        ts_watch watch = watch_of(&w, 5);
        ck_ok(o.c, ts_run_watch(o.r, &watch));
        ck_ok(o.c, ts_run_denoise(o.r, NULL));
        judge j = {.s = {.open = begin, .frame = compare, .close = end, .abort = drop}, .w = &w};
        ck_ok(o.c, ts_run_decode(o.r, NULL, &j.s));
        ck_assert_msg(j.left < 0.5 * j.all, "%.3f of the variance is left", j.left / j.all);
        free_seen(&w);
        close_run(&o);
    }
}
END_TEST

/* A map that is known: one channel is red, the place within a latent is green. */
START_TEST(a_map_by_hand)
{
    float map[2 * 12] = {0};
    const ts_preview p = {.channels = 1, .side = 2, .columns = 12, .map = map};
    const float z[] = {0.25f, 2, -1, 0.5f};
    float rgb[4 * 2 * 2 * 3];
    for (int i = 0; i < 4; i++) map[3 * i] = 1;
    for (int i = 0; i < 4; i++) map[12 + 3 * i + 1] = (float)i / 4;
    ts_preview_frame(&p, z, 2, 2, rgb);
    const float red[] = {0.25f, 1, 0, 0.5f};
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++) {
            const float *v = rgb + 3 * (4 * y + x);
            ck_assert(v[0] == red[y / 2 * 2 + x / 2] && v[2] == 0);
            ck_assert(v[1] == (float)(y % 2 * 2 + x % 2) / 4);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watch");
    TCase *tc = tcase_create("watch");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, every_sampler, 0, SAMPLERS);
    tcase_add_test(tc, watched_first);
    tcase_add_test(tc, the_function_ends_it);
    tcase_add_test(tc, memory_for_previews);
    tcase_add_test(tc, memory_of_others);
    tcase_add_test(tc, watches_that_make_no_sense);
    tcase_add_test(tc, colours_are_those_of_the_picture);
    tcase_add_test(tc, a_map_by_hand);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
