/* Pictures: the list of sizes against diffusers' own, batches against pictures drawn alone, states
 * of a batch, what is refused. */
#include "sampler/bins.h"
#include "sampler/latents.h"
#include "sampler/run.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};
#define MODEL "tests/fixtures/pixart-sigma/model"

/* ---- sizes: random ones and what diffusers' classify_height_width_bin makes of them ---- */
static const struct {
    int sample, w, h, bin_w, bin_h;
} bins[] = {
    {32, 982, 1258, 224, 288},     {32, 438, 2970, 128, 512},     {32, 1638, 1977, 224, 272},
    {32, 650, 385, 320, 192},      {32, 288, 97, 432, 144},       {32, 1660, 2266, 208, 288},
    {32, 3775, 1201, 448, 144},    {32, 3294, 3150, 256, 240},    {32, 2147, 2214, 256, 256},
    {32, 3209, 723, 512, 128},     {64, 3402, 450, 1024, 256},    {64, 1088, 894, 544, 448},
    {64, 3878, 3814, 512, 512},    {64, 121, 3411, 256, 1024},    {64, 2640, 3320, 448, 576},
    {64, 1082, 3294, 288, 864},    {64, 1129, 808, 576, 416},     {64, 691, 1285, 384, 672},
    {64, 1202, 2584, 352, 736},    {64, 3951, 3516, 544, 480},    {128, 1541, 371, 2048, 512},
    {128, 3476, 2497, 1152, 832},  {128, 1398, 2767, 704, 1408},  {128, 1604, 2088, 896, 1152},
    {128, 1035, 744, 1152, 832},   {128, 1162, 381, 1728, 576},   {128, 3884, 3844, 1024, 1024},
    {128, 3366, 3561, 960, 1024},  {128, 3875, 2259, 1344, 768},  {128, 3458, 1245, 1664, 576},
    {128, 45, 3738, 512, 2048},    {256, 1211, 2360, 1408, 2816}, {256, 2903, 3629, 1792, 2304},
    {256, 1292, 3489, 1152, 3328}, {256, 3150, 2098, 2432, 1664}, {256, 815, 1711, 1408, 2944},
    {256, 1196, 1781, 1664, 2432}, {256, 1864, 676, 3328, 1152},  {256, 1079, 3344, 1152, 3584},
    {256, 3282, 193, 4096, 1024},  {256, 348, 205, 2560, 1536}};

START_TEST(nearest_sizes)
{
    for (size_t i = 0; i < sizeof bins / sizeof *bins; i++) {
        int w = bins[i].w, h = bins[i].h;
        ck_assert(ts_bin(bins[i].sample, &w, &h));
        ck_assert_msg(w == bins[i].bin_w && h == bins[i].bin_h,
                      "%dx%d at %d: %dx%d, expected %dx%d", bins[i].w, bins[i].h, bins[i].sample, w,
                      h, bins[i].bin_w, bins[i].bin_h);
    }
    int w = 100, h = 50;
    ck_assert(!ts_bin(8, &w, &h) && w == 100 && h == 50);
}
END_TEST

/* ---- batches ---- */
typedef struct {
    ts_ctx *c;
    ts_model *m;
} opened;

static opened open_model(const char *backend)
{
    opened o = {.c = testing_open(backend, NULL, 2)};
    ck_ok(o.c, ts_model_open(o.c, MODEL, &o.m));
    return o;
}

static void close_model(opened o)
{
    ts_model_close(o.m);
    testing_close(o.c);
}

static ts_request request_of(ts_model *m, const char *sampler)
{
    ts_request q;
    ts_request_init(m, &q);
    q.prompt = "two cats";
    q.width = 48;
    q.height = 64;
    q.no_bins = true;
    q.steps = 3;
    q.sampler = sampler;
    return q;
}

static ts_bag *draw(opened o, const ts_request *q)
{
    ts_run *r;
    ts_estimate e;
    ts_bag *z;
    ck_ok(o.c, ts_run_open(o.m, q, &r, &e));
    ck_assert_int_eq(e.frames, q->count);
    ck_ok(o.c, ts_run_encode(r));
    ck_ok(o.c, ts_run_denoise(r, &z));
    ts_run_close(r);
    return z;
}

/* Picture k of a batch is the one that seed + k draws alone, to the last bit, also where the solver
 * adds noise, and where each picture has plans of its own. */
static const struct {
    const char *sampler, *attention;
    int w, h;
} batches[] = {{"dpmpp-2m", "dense", 48, 64},
               {"lcm", "dense", 48, 64},
               {"euler", "dense", 48, 64},
               {"ddim", "dense", 48, 64},
               {"dpmpp-2m", "adaspa:keep=0.4,search-steps=1,min-tokens=0,order=tile", 240, 272}};
enum { BATCHES = sizeof batches / sizeof *batches };

START_TEST(batch_is_many_alone)
{
    enum { N = 3 };
    opened o = open_model(backends[_i / BATCHES]);
    ts_request q = request_of(o.m, batches[_i % BATCHES].sampler);
    q.count = N;
    q.seed = 7;
    q.attention = batches[_i % BATCHES].attention;
    q.width = batches[_i % BATCHES].w;
    q.height = batches[_i % BATCHES].h;
    ts_bag *all = draw(o, &q);
    long n, m;
    const float *a = testing_f32(all, "latents", &n);
    q.count = 1;
    for (int k = 0; k < N; k++) {
        q.seed = 7 + (uint64_t)k;
        ts_bag *one = draw(o, &q);
        const float *z = testing_f32(one, "latents", &m);
        ck_assert_int_eq(n, N * m);
        for (long c = 0; c < 4; c++)
            ck_assert_mem_eq(a + (c * N + k) * (m / 4), z + c * (m / 4),
                             (size_t)(m / 4) * sizeof *z);
        ts_bag_free(one);
    }
    ts_bag_free(all);
    close_model(o);
}
END_TEST

/* A batch that is stopped after its first step goes on from its state to the same latents. */
typedef struct {
    volatile int stop;
    int after;
} stopper;

static void stop_after(void *user, const ts_event *e)
{
    stopper *s = user;
    if (e->phase == TS_PHASE_DENOISE && e->step == s->after && e->layer == 0) s->stop = 1;
}

START_TEST(state_of_a_batch)
{
    static const char *const samplers[] = {"dpmpp-2m", "lcm"};
    opened o = open_model("cpu");
    ts_request q = request_of(o.m, samplers[_i]);
    char *tmp = testing_tmp(), path[4096];
    stopper s = {.after = 2};
    q.count = 2;
    q.steps = 5;
    ts_bag *whole = draw(o, &q), *z = NULL;
    snprintf(path, sizeof path, "%s/state.safetensors", tmp);
    q.state = path;
    ts_run *r;
    ts_estimate e;
    ts_report report;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
    ck_ok(o.c, ts_run_encode(r));
    ts_env kept = o.c->env;
    o.c->env = (ts_env){.progress = stop_after, .user = &s, .stop = &s.stop};
    ck_assert_int_eq(ts_run_denoise(r, &z), TS_ESTOP);
    o.c->env = kept;
    ts_run_close(r);
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
    ck_ok(o.c, ts_run_encode(r));
    ck_ok(o.c, ts_run_denoise(r, &z));
    ts_run_report(r, &report);
    ck_assert_int_eq(report.resumed, 2);
    long n;
    const float *a = testing_f32(whole, "latents", &n), *b = testing_f32(z, "latents", NULL);
    ck_assert_mem_eq(a, b, (size_t)n * sizeof *a);
    ts_bag_free(whole);
    ts_bag_free(z);
    ts_run_close(r);
    free(tmp);
    close_model(o);
}
END_TEST

/* The latents of the picture that a run begins with, [C, H, W]; malloc'd. */
static float *picture_of(const ts_run *r)
{
    long shape[4] = {r->latent[0], 1, r->latent[2], r->latent[3]};
    float *host = malloc(ts_latents_count(shape) * sizeof *host);
    ck_ok(r->ctx, ts_latents_download(r->ctx, shape, r->picture, host));
    return host;
}

/* ---- image to image: the fixture's picture, encoded and drawn over, against diffusers' parts
 * (tools/make_init.py) ---- */
START_TEST(begins_with_a_picture)
{
    opened o = open_model(backends[_i]);
    cJSON *j = testing_case("pixart-sigma");
    ts_bag *want = testing_bag("tests/fixtures/pixart-sigma/init.safetensors"),
           *noise = testing_bag("tests/fixtures/pixart-sigma/noise.safetensors"), *z;
    ts_request q;
    ts_run *r;
    ts_estimate e;
    long n;
    ts_request_init(o.m, &q);
    q.prompt = cJSON_GetObjectItem(j, "prompt")->valuestring;
    q.negative = cJSON_GetObjectItem(j, "negative")->valuestring;
    q.width = 128;
    q.height = 192;
    q.no_bins = true;
    q.steps = 5;
    q.guidance = 3.5;
    q.init = "tests/fixtures/pixart-sigma/init.png";
    q.strength = 0.6;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
    ck_ok(o.c, ts_run_noise(r, noise));
    ck_ok(o.c, ts_run_encode(r));
    ck_assert_int_eq(ts_run_denoise(r, &z), TS_EUSAGE);
    ck_assert_str_eq(o.c->err.text, "the picture to begin with has not been read");
    ck_assert_int_eq(ts_run_latents(r, &z), TS_EUSAGE); /* there are none */
    ck_ok(o.c, ts_run_picture(r, q.init));
    const float *encoded = testing_f32(want, "encoded", &n),
                *latents = testing_f32(want, "latents", NULL);
    float *picture = picture_of(r);
    double off = testing_rel(picture, encoded, n);
    free(picture);
    /* as for the pipelines: the oracle differs from itself by up to 2e-6 */
    ck_assert_msg(off < 1e-5, "encoded pictures differ by %.2e", off);
    ck_ok(o.c, ts_run_denoise(r, &z));
    off = testing_rel(testing_f32(z, "latents", NULL), latents, n);
    ck_assert_msg(off < 1e-5, "latents differ by %.2e", off);
    ts_bag_free(z);
    ts_bag_free(want);
    ts_bag_free(noise);
    ts_run_close(r);
    cJSON_Delete(j);
    close_model(o);
}
END_TEST

/* The steps that run are those that are told of. */
static void watch_steps(void *user, const ts_event *e)
{
    int *last = user;
    if (e->phase != TS_PHASE_DENOISE) return;
    ck_assert_int_eq(e->steps, 3);
    ck_assert_msg(e->step == *last || e->step == *last + 1, "step %d after %d", e->step, *last);
    *last = e->step;
}

START_TEST(steps_of_a_strength)
{
    opened o = open_model("cpu");
    ts_request q = request_of(o.m, NULL);
    ts_run *r;
    ts_estimate whole, part;
    ts_report report;
    int last = 0;
    q.steps = 5;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &whole));
    ts_run_close(r);
    q.init = "tests/fixtures/pixart-sigma/init.png";
    q.strength = 0.6;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &part));
    ck_assert_int_eq(whole.steps, 5);
    ck_assert_int_eq(part.steps, 3);
    ck_ok(o.c, ts_run_picture(r, q.init));
    ck_ok(o.c, ts_run_encode(r));
    o.c->env.progress = watch_steps;
    o.c->env.user = &last;
    ck_ok(o.c, ts_run_denoise(r, NULL));
    o.c->env.progress = NULL;
    ck_assert_int_eq(last, 3);
    ts_run_report(r, &report);
    ck_assert_int_eq(report.resumed, 0);
    ts_run_close(r);
    close_model(o);
}
END_TEST

START_TEST(pictures_refused)
{
    opened o = open_model("cpu");
    ts_request q = request_of(o.m, NULL);
    ts_run *r;
    ts_estimate e;
    q.init = "x.png";
    q.strength = 0;
    ck_assert_int_eq(ts_run_open(o.m, &q, &r, &e), TS_EUSAGE);
    ck_assert_str_eq(o.c->err.text, "strength 0: must be more than 0, at most 1");
    q.strength = 0.2;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
    ck_assert_int_eq(e.steps, 1);
    ts_run_close(r);
    q.strength = 1;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
    ck_assert_int_eq(ts_run_picture(r, "tests/fixtures/pixart-sigma/case.json"), TS_EMODEL);
    ck_assert(!strncmp(o.c->err.text,
                       "tests/fixtures/pixart-sigma/case.json: not a picture that can be read "
                       "(PNG, JPEG, WebP, TIFF, GIF, BMP, TGA): ",
                       100));
    ts_run_close(r);
    close_model(o);
}
END_TEST

/* ---- refusals and what is said ---- */
START_TEST(requests_refused)
{
    opened o = open_model("cpu");
    static const struct {
        int frames, count, steps;
        const char *sampler, *says;
    } bad[] = {{4, 1, 3, NULL, "4 frames: this model draws pictures, `count` 4 draws so many"},
               {1, 65, 3, NULL, "65 pictures at once: must be 1 to 64"},
               {1, 0, 3, NULL, "0 pictures at once: must be 1 to 64"},
               {1, 1, 3, "unipc",
                "sampler unipc: must be dpmpp-2m, ddim, euler, lcm, dpmpp-2m-sde or euler-a for "
                "this model"},
               {1, 1, 60, "lcm", "60 steps: sampler lcm has 50 at most"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ts_request q = request_of(o.m, bad[i].sampler);
        ts_run *r;
        ts_estimate e;
        q.frames = bad[i].frames;
        q.count = bad[i].count;
        q.steps = bad[i].steps;
        ck_assert_int_eq(ts_run_open(o.m, &q, &r, &e), TS_EUSAGE);
        ck_assert_str_eq(o.c->err.text, bad[i].says);
    }
    close_model(o);
}
END_TEST

START_TEST(sizes_said)
{
    opened o = open_model("cpu");
    ts_request q = request_of(o.m, NULL);
    ts_run *r;
    ts_estimate e;
    ck_assert(o.m->def.width == 512 && o.m->def.height == 512); /* the sample size */
    q.width = 50;
    q.shift = 3;
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
    ck_assert(e.width == 48 && e.height == 64 && e.latent[3] == 6);
    ck_assert_str_eq(testing_warned(o.c),
                     "shift 3 has no effect: this model's timetable has none\nsize 50x64 becomes "
                     "48x64: the model draws multiples of 16x16\n");
    ts_run_close(r);
    close_model(o);
}
END_TEST

/* Where a whole picture does not fit the memory it is decoded in the tiles of the VAE's authors,
 * and where those do not fit in smaller ones. */
START_TEST(tiles_that_fit)
{
    opened o = open_model("cpu");
    ts_request q = request_of(o.m, NULL);
    size_t bytes[3];
    ts_run *r;
    ts_estimate e;
    static const char *const tiles[] = {"off", "320x320", "256x256"};
    q.width = q.height = 640;
    o.m->vae_info.tile = (ts_vae_tile){320, 320};
    for (int i = 0; i < 3; i++) {
        q.vae_tile = tiles[i];
        ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
        bytes[i] = e.decode_bytes;
        ts_run_close(r);
    }
    ck_assert(bytes[0] > bytes[1] && bytes[1] > bytes[2] && bytes[2] > e.denoise_bytes);
    q.vae_tile = "auto";
    for (int i = 0; i < 3; i++) {
        o.c->memory = bytes[i];
        ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
        ck_assert_int_eq(e.tile_w, i == 0 ? 0 : i == 1 ? 320 : 256);
        ck_assert_uint_eq(e.decode_bytes, bytes[i]);
        ts_run_close(r);
    }
    close_model(o);
}
END_TEST

/* A first picture is encoded as the decoder works, and in the same tiles as it would try, down to
 * those that fit. */
START_TEST(first_picture_in_tiles)
{
    enum { N = 4 * 80 * 80 };
    opened o = open_model("cpu");
    ts_request q = request_of(o.m, NULL);
    float *made[3] = {NULL};
    size_t needs = 0, memory = o.c->memory;
    static const char *const tiles[] = {"off", "320x320", "256x256"};
    q.width = q.height = 640;
    o.m->vae_info.tile = (ts_vae_tile){320, 320};
    q.init = "tests/fixtures/pixart-sigma/init.png";
    for (int i = 0; i < 3; i++) { /* what each kind of tiles makes of it */
        ts_run *r;
        ts_estimate e;
        q.vae_tile = tiles[i];
        ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
        ck_ok(o.c, ts_run_picture(r, q.init));
        made[i] = picture_of(r);
        for (int k = 0; k < i; k++)
            ck_assert_int_ne(memcmp(made[i], made[k], N * sizeof *made[i]), 0);
        if (!i) needs = e.decode_bytes;
        ts_run_close(r);
    }
    ts_run *r;
    ts_estimate e;
    int seen[3] = {0};
    q.vae_tile = "auto";
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
    for (size_t m = needs; m > needs / 16; m -= needs / 16) {
        o.c->memory = m;
        ts_status st = ts_run_picture(r, q.init);
        if (st) {
            ck_assert_int_eq(st, TS_EMEMORY);
            ck_assert_msg(strstr(o.c->err.text, "encoding a picture of 640x640 needs"), "%s",
                          o.c->err.text);
            break;
        }
        float *now = picture_of(r);
        for (int k = 0; k < 3; k++) seen[k] += !memcmp(now, made[k], N * sizeof *made[k]);
        free(now);
    }
    ck_assert_msg(seen[0] && seen[1] && seen[2],
                  "%d in one piece, %d in tiles of 320, %d in tiles of 256", seen[0], seen[1],
                  seen[2]);
    o.c->memory = memory;
    for (int i = 0; i < 3; i++) free(made[i]);
    ts_run_close(r);
    close_model(o);
}
END_TEST

/* A prompt that is nothing after cleaning, and one that is longer than the model reads. */
START_TEST(texts_at_the_edges)
{
    opened o = open_model("cpu");
    char text[4000] = "";
    ts_request q = request_of(o.m, NULL);
    ts_run *r;
    ts_estimate e;
    for (int i = 0; i < 400; i++) strcat(text, "zebra ");
    q.prompt = text;
    q.negative = "(((";
    ck_ok(o.c, ts_run_open(o.m, &q, &r, &e));
    ck_assert_int_eq(e.text_tokens, 300);
    ck_assert_int_eq(e.negative_tokens, 1); /* the end token is never masked */
    ck_assert_msg(strstr(testing_warned(o.c), "the model reads 300: the rest is ignored"), "%s",
                  testing_warned(o.c));
    ts_bag *z;
    ck_ok(o.c, ts_run_encode(r));
    ck_ok(o.c, ts_run_denoise(r, &z));
    ts_bag_free(z);
    ts_run_close(r);
    close_model(o);
}
END_TEST

/* ---- scheduler configs ---- */
static ts_status read_scheduler(ts_ctx *c, const char *cls, const char *json, ts_model *m)
{
    ts_model_dir dir = {.dir = (char *)"M", .parts = 1};
    snprintf(dir.part[0].name, sizeof dir.part[0].name, "scheduler");
    snprintf(dir.part[0].cls, sizeof dir.part[0].cls, "%s", cls);
    dir.part[0].config = cJSON_Parse(json);
    dir.part[0].config_path = (char *)"s.json";
    *m = (ts_model){
        .ctx = c, .dir = dir, .family = ts_family_of("PixArtAlphaPipeline", false, false)};
    ts_status st = ts_model_scheduler(m);
    cJSON_Delete(dir.part[0].config);
    return st;
}

START_TEST(schedulers)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = calloc(1, sizeof *m);
    static const struct {
        const char *cls, *json, *says;
    } bad[] = {
        {"PNDMScheduler", "{}",
         "s.json: scheduler class PNDMScheduler is not supported (DPMSolverMultistepScheduler, "
         "DDIMScheduler, EulerDiscreteScheduler, LCMScheduler, EulerAncestralDiscreteScheduler, "
         "CogVideoXDDIMScheduler, CogVideoXDPMScheduler)"},
        {"CogVideoXDDIMScheduler", "{\"snr_shift_scale\": -1}",
         "s.json: \"snr_shift_scale\" is -1, expected a number above 0"},
        {"DDIMScheduler", "{\"beta_schedule\": \"sigmoid\"}",
         "s.json: \"beta_schedule\" is \"sigmoid\", supported are \"linear\", \"scaled_linear\", "
         "\"squaredcos_cap_v2\""},
        {"DDIMScheduler", "{\"beta_start\": 0.5, \"beta_end\": 0.1}",
         "s.json: beta_start 0.5 and beta_end 0.1: expected 0 < beta_start <= beta_end < 1"},
        {"DPMSolverMultistepScheduler", "{\"solver_order\": 3}",
         "s.json: \"solver_order\" is 3, supported are 1 and 2"},
        {"DPMSolverMultistepScheduler", "{\"solver_type\": \"bh2\"}",
         "s.json: \"solver_type\" is \"bh2\", supported are \"midpoint\", \"heun\""},
        {"DDIMScheduler", "{\"rescale_betas_zero_snr\": true}",
         "s.json: \"rescale_betas_zero_snr\" with \"prediction_type\" \"epsilon\": noise can not "
         "be predicted from noise alone"},
        {"LCMScheduler", "{\"original_inference_steps\": 0}",
         "s.json: \"original_inference_steps\" is 0, expected 1 to 1000"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(read_scheduler(c, bad[i].cls, bad[i].json, m), TS_EMODEL);
        ck_assert_str_eq(c->err.text, bad[i].says);
    }
    ck_ok(c, read_scheduler(c, "DDIMScheduler", "{}", m));
    ck_assert(m->solver == TS_DDIM && m->diffusion.clip == 1 &&
              m->diffusion.spacing == TS_SPACING_LEADING && m->diffusion.alpha_to_one);
    ck_ok(c,
          read_scheduler(c, "EulerDiscreteScheduler",
                         "{\"use_karras_sigmas\": true, \"timestep_spacing\": \"trailing\"}", m));
    ck_assert(m->solver == TS_EULER_NOISE && m->diffusion.karras &&
              m->diffusion.spacing == TS_SPACING_TRAILING && m->diffusion.clip == 0);
    ck_ok(c, read_scheduler(
                 c, "DPMSolverMultistepScheduler",
                 "{\"solver_type\": \"heun\", \"lambda_min_clipped\": null, \"final_sigmas_type\": "
                 "\"sigma_min\", \"prediction_type\": \"v_prediction\"}",
                 m));
    ck_assert(m->solver == TS_DPMPP_2M && m->diffusion.heun && m->diffusion.final_min &&
              m->diffusion.prediction == TS_PREDICT_V && m->diffusion.order == 2);
    ck_ok(c, read_scheduler(
                 c, "LCMScheduler",
                 "{\"original_inference_steps\": 40, \"beta_schedule\": \"scaled_linear\"}", m));
    ck_assert(m->solver == TS_LCM && m->diffusion.original_steps == 40 &&
              m->diffusion.beta == TS_BETA_SCALED && m->diffusion.clip == 0);
    ck_ok(c, read_scheduler(c, "CogVideoXDPMScheduler", "{\"clip_sample\": true}", m));
    ck_assert(m->solver == TS_DPMPP_2M_SDE && m->diffusion.snr_shift == 3 &&
              m->diffusion.beta == TS_BETA_SCALED && m->diffusion.clip == 0);
    free(m);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pictures");
    TCase *tc = tcase_create("pictures");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, nearest_sizes);
    tcase_add_loop_test(tc, batch_is_many_alone, 0, 2 * BATCHES);
    tcase_add_loop_test(tc, state_of_a_batch, 0, 2);
    tcase_add_loop_test(tc, begins_with_a_picture, 0, 2);
    tcase_add_test(tc, pictures_refused);
    tcase_add_test(tc, requests_refused);
    tcase_add_test(tc, sizes_said);
    tcase_add_test(tc, tiles_that_fit);
    tcase_add_test(tc, first_picture_in_tiles);
    tcase_add_test(tc, texts_at_the_edges);
    tcase_add_test(tc, schedulers);
    tcase_add_test(tc, steps_of_a_strength);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
