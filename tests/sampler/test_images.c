/* Clips made of images, beside what whole pipelines show: which images a model takes, what happens
 * to requests that have others, and what a run keeps of them. */
#include "sampler/run.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile int stop;
static int stop_after; /* a step; 0: none */

static void watch(void *user, const ts_event *e)
{
    (void)user;
    if (stop_after && e->phase == TS_PHASE_DENOISE && e->layer == 0 && e->step == stop_after)
        stop = 1;
}

typedef struct {
    ts_ctx *c;
    ts_model *m;
    char image[600], last[600];
} opened;

static opened open_fixture(const char *fixture)
{
    char path[600];
    opened o = {.c = testing_open("cpu", NULL, 1)};
    o.c->env.progress = watch;
    o.c->env.stop = &stop;
    stop = stop_after = 0;
    snprintf(path, sizeof path, "%s/model", testing_fixture(fixture));
    ck_ok(o.c, ts_model_open(o.c, path, &o.m));
    snprintf(o.image, sizeof o.image, "%s/image.png", testing_fixture("wan22-i2v-a14b"));
    snprintf(o.last, sizeof o.last, "%s/last.png", testing_fixture("wan21-flf2v"));
    return o;
}

static void close_fixture(opened o)
{
    ts_model_close(o.m);
    testing_close(o.c);
}

static ts_request request_of(const opened *o)
{
    ts_request q;
    ts_request_init(o->m, &q);
    q.prompt = "a fox";
    q.width = q.height = 64;
    q.frames = 9;
    q.steps = 3;
    q.guidance = q.guidance_2 = 1;
    return q;
}

static void refuse(const opened *o, const ts_request *q, const char *says)
{
    ts_run *r;
    ck_assert_int_eq(ts_run_open(o->m, q, &r, NULL), TS_EUSAGE);
    ck_assert_msg(strstr(o->c->err.text, says) != NULL, "\"%s\" does not say \"%s\"",
                  o->c->err.text, says);
}

static const struct {
    const char *fixture;
    int least, most;
    const char *none, *one, *two, *last; /* NULL: accepted */
} takes[] = {
    {"wan21-t2v", 0, 0, NULL, "makes clips of text alone", "makes clips of text alone",
     "makes clips of text alone"},
    {"pixart-sigma", 0, 0, NULL, "makes pictures", "makes pictures", "makes pictures"},
    {"wan21-i2v", 1, 1, "`image` gives it", NULL, "places for the states of one image",
     "`image` gives it"},
    {"wan21-flf2v", 2, 2, "`image` gives it", "`last_image` gives it", NULL, "`image` gives it"},
    {"wan22-i2v-a14b", 1, 2, "`image` gives it", NULL, NULL, "`image` gives it"},
    {"wan22-ti2v-5b-i2v", 0, 1, NULL, NULL, "keeps the first frame", "without a first one"},
    {"cogvideox15-5b-i2v", 1, 1, "`image` gives it", NULL, "is given the first frame",
     "`image` gives it"},
};

START_TEST(what_models_take)
{
    opened o = open_fixture(takes[_i].fixture);
    const char *const says[4] = {takes[_i].none, takes[_i].one, takes[_i].last, takes[_i].two};
    int least, most;
    ts_model_images(o.m, &least, &most);
    ck_assert(least == takes[_i].least && most == takes[_i].most);
    for (int k = 0; k < 4; k++) {
        ts_request q = request_of(&o);
        ts_run *r;
        if (o.m->family->pictures) q.frames = 1;
        q.image = k & 1 ? o.image : NULL;
        q.last_image = k & 2 ? o.last : NULL;
        if (says[k]) {
            refuse(&o, &q, says[k]);
            continue;
        }
        ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
        ts_run_close(r);
    }
    close_fixture(o);
}
END_TEST

START_TEST(one_frame_has_no_last)
{
    opened o = open_fixture("wan22-i2v-a14b");
    ts_request q = request_of(&o);
    q.image = o.image;
    q.last_image = o.last;
    q.frames = 1;
    refuse(&o, &q, "a clip of 1 frame ends with its first");
    close_fixture(o);
}
END_TEST

/* What was denoised of a request, with its images read from files, [n] floats. */
static float *denoise(const opened *o, const ts_request *q, long *n)
{
    ts_run *r;
    ts_bag *latents;
    ck_ok(o->c, ts_run_open(o->m, q, &r, NULL));
    if (q->image) ck_ok(o->c, ts_run_image(r, q->image, false));
    if (q->last_image) ck_ok(o->c, ts_run_image(r, q->last_image, true));
    ck_ok(o->c, ts_run_encode(r));
    ck_ok(o->c, ts_run_denoise(r, &latents));
    const float *z = testing_f32(latents, "latents", n);
    float *copy = malloc((size_t)*n * sizeof *copy);
    memcpy(copy, z, (size_t)*n * sizeof *copy);
    ts_bag_free(latents);
    ts_run_close(r);
    return copy;
}

/* Every image counts, and the same again is the same. */
START_TEST(images_count)
{
    opened o = open_fixture("wan22-i2v-a14b");
    ts_request q = request_of(&o);
    long n;
    q.image = o.image;
    float *one = denoise(&o, &q, &n), *again = denoise(&o, &q, &n);
    q.last_image = o.last;
    float *two = denoise(&o, &q, &n);
    q.image = o.last;
    float *other = denoise(&o, &q, &n);
    ck_assert(!memcmp(one, again, (size_t)n * sizeof *one));
    ck_assert(testing_rel(two, one, n) > 1e-3 && testing_rel(other, two, n) > 1e-3);
    free(one);
    free(again);
    free(two);
    free(other);
    close_fixture(o);
}
END_TEST

/* Tokens of the frame that is kept are found wherever attention has put them. */
START_TEST(kept_in_any_order)
{
    opened o = open_fixture("wan22-ti2v-5b-i2v");
    ts_request q = request_of(&o);
    long n;
    q.width = q.height = 320;
    q.image = o.image;
    float *raster = denoise(&o, &q, &n);
    q.attention = "adaspa:keep=1,order=tile";
    float *tiles = denoise(&o, &q, &n);
    double e = testing_rel(tiles, raster, n);
    ck_assert_msg(e < 1e-5, "tile order differs by %.2e", e);
    free(raster);
    free(tiles);
    close_fixture(o);
}
END_TEST

START_TEST(not_read)
{
    opened o = open_fixture("wan21-flf2v");
    ts_request q = request_of(&o);
    ts_run *r;
    static const uint8_t rgb[3];
    q.image = o.image;
    q.last_image = o.last;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_ok(o.c, ts_run_image(r, o.image, false));
    ck_assert_int_eq(ts_run_encode(r), TS_EUSAGE);
    ck_assert_msg(strstr(o.c->err.text, "the last image has not been read") != NULL, "%s",
                  o.c->err.text);
    ck_assert_int_eq(ts_run_image(r, "/nowhere.png", true), TS_EMODEL);
    ck_assert_int_eq(ts_run_image(r, NULL, true), TS_EUSAGE);
    ck_assert_int_eq(ts_run_image_rgb(r, 0, 1, rgb, true), TS_EUSAGE);
    ck_ok(o.c, ts_run_image_rgb(r, 1, 1, rgb, true));
    ck_ok(o.c, ts_run_encode(r));
    ts_run_close(r);
    close_fixture(o);
    o = open_fixture("wan22-ti2v-5b-i2v");
    q = request_of(&o);
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_assert_int_eq(ts_run_image(r, o.image, false), TS_EUSAGE);
    ck_assert_msg(strstr(o.c->err.text, "the request names no image") != NULL, "%s", o.c->err.text);
    ts_run_close(r);
    close_fixture(o);
}
END_TEST

/* A run that was stopped goes on with the same images, and with no others. */
START_TEST(resumed)
{
    static const char *const fixtures[] = {"wan22-ti2v-5b-i2v", "wan22-i2v-a14b",
                                           "cogvideox15-5b-i2v"};
    opened o = open_fixture(fixtures[_i]);
    ts_request q = request_of(&o);
    ts_run *r;
    long n;
    char *tmp = testing_tmp(), state[4096];
    snprintf(state, sizeof state, "%s/state", tmp);
    q.image = o.image;
    float *whole = denoise(&o, &q, &n);
    q.state = state;
    stop_after = 1;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_ok(o.c, ts_run_image(r, q.image, false));
    ck_ok(o.c, ts_run_encode(r));
    ck_assert_int_eq(ts_run_denoise(r, NULL), TS_ESTOP);
    ts_run_close(r);
    stop = stop_after = 0;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_ok(o.c, ts_run_image(r, o.last, false));
    ck_assert_int_eq(ts_run_encode(r), TS_EMODEL);
    ck_assert_msg(strstr(o.c->err.text, "image") != NULL, "%s", o.c->err.text);
    ts_run_close(r);
    float *rest = denoise(&o, &q, &n);
    ck_assert(!memcmp(whole, rest, (size_t)n * sizeof *whole));
    free(whole);
    free(rest);
    free(tmp);
    close_fixture(o);
}
END_TEST

/* The area of 832x480 in the proportions of 150x70, in multiples of 16. */
START_TEST(fitted)
{
    opened o = open_fixture("wan21-i2v");
    ts_request q = request_of(&o);
    char path[600];
    ck_ok(o.c, ts_request_fit_image(o.m, &q));
    ck_assert(q.width == 64 && q.height == 64);
    snprintf(path, sizeof path, "%s/image.png", testing_fixture("wan21-i2v"));
    q.image = path;
    ck_ok(o.c, ts_request_fit_image(o.m, &q));
    ck_assert_msg(q.width == 912 && q.height == 432, "%dx%d", q.width, q.height);
    q.image = "/nowhere.png";
    ck_assert_int_eq(ts_request_fit_image(o.m, &q), TS_EMODEL);
    q.image = "-";
    ck_assert_int_eq(ts_request_fit_image(o.m, &q), TS_EUSAGE);
    close_fixture(o);
}
END_TEST

/* The request that metadata gives has the images, and what was seen of them is noted. */
START_TEST(recorded)
{
    opened o = open_fixture("wan21-flf2v");
    ts_request q = request_of(&o), back;
    ts_run *r;
    q.image = o.image;
    q.last_image = o.last;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_ok(o.c, ts_run_image(r, o.image, false));
    char *json = ts_run_json(r);
    cJSON *j = cJSON_Parse(json);
    ck_assert_uint_eq(strlen(cJSON_GetStringValue(cJSON_GetObjectItem(j, "image_hash"))), 16);
    ck_assert(!cJSON_HasObjectItem(j, "last_image_hash"));
    ts_request_init(o.m, &back);
    ck_ok(o.c, ts_request_from_json(o.m, json, &back));
    ck_assert_str_eq(back.image, o.image);
    ck_assert_str_eq(back.last_image, o.last);
    ts_request_free(&back);
    cJSON_Delete(j);
    free(json);
    ts_run_close(r);
    close_fixture(o);
}
END_TEST

/* What an image's latents are drawn with: the seed's numbers, or those of a bag, and then of two
 * runs whose other noise is the same the seed counts no more. */
START_TEST(drawn)
{
    opened o = open_fixture("cogvideox15-5b-i2v");
    ts_request q = request_of(&o);
    ts_run *r;
    float *beside[4];
    size_t n = 0;
    char path[600];
    q.image = o.image;
    q.width = 80;
    q.height = 48;
    snprintf(path, sizeof path, "%s/noise.safetensors", testing_fixture("cogvideox15-5b-i2v"));
    q.steps = 4;
    ts_bag *noise = testing_bag(path);
    for (int i = 0; i < 4; i++) {
        q.seed = (uint64_t)(i % 2);
        ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
        if (i > 1) ck_ok(o.c, ts_run_noise(r, noise));
        ck_ok(o.c, ts_run_image(r, q.image, false));
        ck_ok(o.c, ts_run_encode(r));
        ck_assert(ts_run_seeded(r, i > 1) == (i < 2));
        ck_assert_int_eq(ts_run_noise(r, noise), TS_EUSAGE);
        ck_assert_msg(strstr(o.c->err.text, "the image is encoded"), "%s", o.c->err.text);
        n = (size_t)(r->latent[0] * r->latent[1] * r->latent[2] * r->latent[3]);
        beside[i] = malloc(n * sizeof(float));
        memcpy(beside[i], r->beside, n * sizeof(float));
        ts_run_close(r);
    }
    double seeds = testing_rel(beside[1], beside[0], (long)n),
           given = testing_rel(beside[2], beside[0], (long)n);
    ck_assert_msg(seeds > 1e-3 && given > 1e-3, "%.2e, %.2e", seeds, given);
    ck_assert(!memcmp(beside[2], beside[3], n * sizeof(float)));
    for (int i = 0; i < 4; i++) free(beside[i]);
    ts_bag_free(noise);
    close_fixture(o);
    /* nothing is drawn where latents of the image are means */
    o = open_fixture("wan22-ti2v-5b-i2v");
    q = request_of(&o);
    q.image = o.image;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    noise = ts_bag_new();
    ts_bag_put(noise, "noise", TS_F32, 4, r->latent, NULL);
    ts_bag_put(noise, "image_noise", TS_F32, 4, r->latent, NULL);
    ck_ok(o.c, ts_run_noise(r, noise));
    ck_assert_msg(strstr(testing_warned(o.c), "image_noise has no effect"), "%s",
                  testing_warned(o.c));
    ts_bag_free(noise);
    ts_run_close(r);
    close_fixture(o);
}
END_TEST

/* Positions that were learned are of one size; another length is warned of. */
START_TEST(learned_size)
{
    opened o = open_fixture("cogvideox-5b-i2v");
    ts_request q = request_of(&o);
    ts_run *r;
    q.image = o.image;
    ck_assert(o.m->def.width == 64 && o.m->def.height == 48 && o.m->def.frames == 9);
    refuse(&o, &q, "has learned where things are in clips of 64x48");
    q.width = 200;
    ck_ok(o.c, ts_request_fit_image(o.m, &q));
    ck_assert(q.width == 64 && q.height == 48);
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_assert_str_eq(testing_warned(o.c), "");
    ts_run_close(r);
    q.frames = 17;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, NULL));
    ck_assert_msg(strstr(testing_warned(o.c), "learned places in clips of 9 frames"), "%s",
                  testing_warned(o.c));
    ts_run_close(r);
    close_fixture(o);
}
END_TEST

/* One call reads them. */
START_TEST(in_one_call)
{
    opened o = open_fixture("wan22-ti2v-5b-i2v");
    ts_request q = request_of(&o);
    char *tmp = testing_tmp(), path[4096];
    snprintf(path, sizeof path, "%s/a.png", tmp);
    q.image = o.image;
    q.frames = 1;
    ck_ok(o.c, ts_generate(o.m, &q, path));
    free(tmp);
    close_fixture(o);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("images");
    TCase *tc = tcase_create("images");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, what_models_take, 0, sizeof takes / sizeof *takes);
    tcase_add_test(tc, one_frame_has_no_last);
    tcase_add_test(tc, images_count);
    tcase_add_test(tc, kept_in_any_order);
    tcase_add_test(tc, not_read);
    tcase_add_loop_test(tc, resumed, 0, 3);
    tcase_add_test(tc, drawn);
    tcase_add_test(tc, learned_size);
    tcase_add_test(tc, fitted);
    tcase_add_test(tc, recorded);
    tcase_add_test(tc, in_one_call);
    suite_add_tcase(s, tc);
    return testing_main(s);
}
