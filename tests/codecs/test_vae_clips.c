/* AutoencoderKLWan on whole models: frames of the fixtures, tiles against tiles blended by hand,
 * memory of the published shapes, and what is refused. */
#include "tests/codecs/vae_checkpoint.h"
#include "tests/codecs/vae_run.h"
#include "tests/golden.h"
#include "tests/testing.h"
#include "weights/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *config(const vae_shape *s)
{
    cJSON *j = cJSON_CreateObject(), *mult = cJSON_AddArrayToObject(j, "dim_mult"),
          *time = cJSON_AddArrayToObject(j, "temperal_downsample");
    cJSON *mean = cJSON_AddArrayToObject(j, "latents_mean"),
          *std = cJSON_AddArrayToObject(j, "latents_std");
    cJSON_AddNumberToObject(j, "base_dim", s->base);
    cJSON_AddNumberToObject(j, "decoder_base_dim", s->dec);
    cJSON_AddNumberToObject(j, "z_dim", s->z);
    cJSON_AddNumberToObject(j, "num_res_blocks", s->res);
    cJSON_AddBoolToObject(j, "is_residual", s->residual);
    for (int i = 0; i < s->levels; i++) cJSON_AddItemToArray(mult, cJSON_CreateNumber(s->mult[i]));
    for (int i = 0; i + 1 < s->levels; i++)
        cJSON_AddItemToArray(time, cJSON_CreateBool(s->time[i]));
    for (int i = 0; i < s->z; i++) {
        cJSON_AddItemToArray(mean, cJSON_CreateNumber(0.5 - i));
        cJSON_AddItemToArray(std, cJSON_CreateNumber(1 + i));
    }
    if (s->residual) {
        cJSON_AddNumberToObject(j, "in_channels", 12);
        cJSON_AddNumberToObject(j, "out_channels", 12);
        cJSON_AddNumberToObject(j, "patch_size", 2);
    }
    return j;
}

/* A job on a checkpoint of golden weights (hollow: of none). */
static void begin(ts_ctx *c, const vae_shape *s, bool hollow, vae_run *j)
{
    char *tmp = testing_tmp(), path[4096];
    snprintf(path, sizeof path, "%s/model.safetensors", tmp);
    if (hollow) {
        vae_hollow(s, path);
    } else {
        ts_bag *bag = vae_checkpoint(s);
        ck_ok(c, ts_bag_save(&c->err, bag, path));
        ts_bag_free(bag);
    }
    vae_run_open(c, j, config(s), tmp, "model");
    free(tmp);
}

/* ---- fixtures ---- */
static const struct {
    const char *fixture, *vae;
} clips[] = {{"wan21-t2v", NULL},      {"wan21-t2v-euler", NULL},
             {"wan21-t2i-bf16", NULL}, {"wan22-a14b", NULL},
             {"wan22-ti2v-5b", NULL},  {"default-model", "weights/default/vae"}};
enum { CLIPS = sizeof clips / sizeof *clips };

/* The oracle's own f32 sums differ between processors by 1e-6 of values up to 1; the golden
 * networks of as many layers are held to 2e-5 of values up to 2, which is 1e-5 in 0..1. */
static void check_clip(const char *name, const ts_bag *want, const vae_run *j)
{
    ts_err err = {0};
    ts_host frames, ends;
    /* [3, 2 or 1, rows, W], before the clamp: rows at even distances of first and last frame */
    ck_assert_msg(ts_bag_get(&err, want, "pixels", TS_F32, 4,
                             (long[]){3, -1, -1, j->in.dim[3] * j->info.stride}, &ends) == TS_OK,
                  "%s: %s", name, err.text);
    long kept = ends.dim[1], rows = ends.dim[2], W = ends.dim[3], apart = j->pixels / W / rows;
    const float *e = ends.data;
    ck_assert(kept == 1 || kept == 2);
    ck_assert_int_eq(apart * rows * W, j->pixels);
    for (long k = 0; k < kept; k++)
        for (long i = 0; i < rows * W; i++)
            for (long c = 0; c < 3; c++) {
                long f = k ? j->frames - 1 : 0, at = i / W * apart * W + i % W;
                float w = e[(c * kept + k) * rows * W + i] * 0.5f + 0.5f,
                      got = j->out[(f * j->pixels + at) * 3 + c];
                w = fminf(fmaxf(w, 0), 1);
                ck_assert_msg(fabsf(got - w) <= 1e-5f,
                              "%s: frame %ld, position %ld, colour %ld is %.6f, expected %.6f",
                              name, f, at, c, (double)got, (double)w);
            }
    ck_assert_msg(ts_bag_get(&err, want, "frames", TS_U8, 4, (long[]){j->frames, -1, -1, 3},
                             &frames) == TS_OK,
                  "%s: %s", name, err.text);
    ck_assert_int_eq(frames.dim[1] * frames.dim[2], j->pixels);
    const uint8_t *w = frames.data;
    long total = j->frames * j->pixels * 3, off = 0;
    /* 1e-5 of 255 levels rounds the other way for at most one sample in 200, and never by more than
     * one */
    for (long i = 0; i < total; i++) {
        int d = abs((int)rintf(j->out[i] * 255) - w[i]);
        ck_assert_msg(d <= 1, "%s: sample %ld is off by %d levels", name, i, d);
        off += d;
    }
    ck_assert_msg(off * 200 <= total, "%s: %ld of %ld samples are off", name, off, total);
}

static void decode_clip(int which, const char *backend)
{
    ts_ctx *c = testing_open(backend, NULL, 2);
    char path[4096], dir[1024];
    vae_run j = {.cls = &ts_vae_wan};
    snprintf(path, sizeof path, "%s/expected.safetensors", testing_fixture(clips[which].fixture));
    ts_bag *want = testing_bag(path);
    snprintf(dir, sizeof dir, clips[which].vae ? "%s" : "%s/model/vae",
             clips[which].vae ? clips[which].vae : testing_fixture(clips[which].fixture));
    vae_run_open_fixture(c, &j, dir, want);
    long frames = (j.in.dim[1] - 1) * j.info.time_stride + 1;
    j.out = malloc(
        (size_t)(frames * j.in.dim[2] * j.in.dim[3] * j.info.stride * j.info.stride * 3) *
        sizeof(float));
    testing_run(c, vae_run_decode, &j);
    check_clip(clips[which].fixture, want, &j);
    free(j.out);
    vae_run_close(&j);
    ts_bag_free(want);
    testing_close(c);
}

START_TEST(fixtures) { decode_clip(_i, "cpu"); }
END_TEST
START_TEST(fixtures_far) { decode_clip(_i, "far"); }
END_TEST

/* ---- tiles and single frames of the encoder ---- */
static const vae_shape small = {false, 4, 4, 4, 4, {1, 2, 2, 2}, 1, {false, true, true}};
/* pixels, latents; a tile of 64 pixels */
enum { H = 80, W = 104, F = 5, HL = H / 8, WL = W / 8, FL = 2, TILE = 8, STRIDE = 6, C = 8 };

/* Moments [C, FL, h, w] of a crop, untiled. */
static float *encode_crop(ts_ctx *c, vae_run *j, const float *px, int y, int x, int h, int w)
{
    float *cut = malloc((size_t)(F * h * w * 64 * 3) * sizeof *cut),
          *out = malloc((size_t)(C * FL * h * w) * sizeof *out);
    for (int f = 0; f < F; f++)
        for (int r = 0; r < h * 8; r++)
            memcpy(cut + (f * h * 8 + r) * w * 8 * 3, px + ((f * H + y * 8 + r) * W + x * 8) * 3,
                   (size_t)(w * 8 * 3) * sizeof *cut);
    j->in = (ts_host){cut, TS_F32, 4, {F, h * 8, w * 8, 3}};
    j->out = out;
    j->tile = (ts_vae_tile){0, 0};
    testing_run(c, vae_run_encode, j);
    free(cut);
    return out;
}

START_TEST(encode_tiles)
{
    ts_ctx *c = testing_open("cpu", NULL, 2);
    vae_run j = {.cls = &ts_vae_wan};
    begin(c, &small, false, &j);
    float *px = malloc(sizeof(float) * F * H * W * 3),
          *got = malloc(sizeof(float) * C * FL * HL * WL), *t[2][3] = {{NULL}};
    j.latent = malloc(sizeof(float) * C * FL * HL * WL);
    golden_input("input.v", 1.0, (long)F * H * W * 3, px);
    int h[2] = {TILE, HL - STRIDE}, w[3] = {TILE, WL - STRIDE, WL - 2 * STRIDE};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++)
            t[i][k] = encode_crop(c, &j, px, i * STRIDE, k * STRIDE, h[i], w[k]);
    /* with the tile above, then with the one on the left */
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++)
            for (int p = 0; p < C * FL; p++)
                for (int axis = 0; axis < 2; axis++) {
                    if (!(axis ? k : i)) continue;
                    const float *a = axis ? t[i][k - 1] : t[i - 1][k];
                    int ah = axis ? h[i] : h[i - 1], aw = axis ? w[k - 1] : w[k],
                        most = TILE - STRIDE,
                        e = axis          ? (w[k] < most ? w[k] : most)
                            : h[i] < most ? h[i]
                                          : most;
                    for (int y = 0; y < (axis ? h[i] : e); y++)
                        for (int x = 0; x < (axis ? e : w[k]); x++) {
                            float mix = (float)(axis ? x : y) / (float)e,
                                  *b = t[i][k] + (p * h[i] + y) * w[k] + x;
                            *b = a[(p * ah + (axis ? y : ah - e + y)) * aw +
                                   (axis ? aw - e + x : x)] *
                                     (1 - mix) +
                                 *b * mix;
                        }
                }
    j.in = (ts_host){px, TS_F32, 4, {F, H, W, 3}};
    j.out = got;
    j.tile = (ts_vae_tile){64, 64};
    testing_run(c, vae_run_encode, &j);
    for (int p = 0; p < C * FL; p++)
        for (int y = 0; y < HL; y++)
            for (int x = 0; x < WL; x++) {
                int i = y / STRIDE, k = x / STRIDE;
                float want = t[i][k][(p * h[i] + y - i * STRIDE) * w[k] + x - k * STRIDE],
                      is = got[(p * HL + y) * WL + x];
                ck_assert_msg(fabsf(is - want) <= 2e-6f,
                              "plane %d at %d, %d is %.6f, expected %.6f", p, y, x, (double)is,
                              (double)want);
                int q = p / FL;
                if (q < 4)
                    ck_assert(fabsf(j.latent[(p * HL + y) * WL + x] -
                                    (is - (0.5f - (float)q)) / (float)(1 + q)) < 1e-6f);
            }
    for (int i = 0; i < 6; i++) free(t[i / 3][i % 3]);
    free(px);
    free(got);
    free(j.latent);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

/* A picture is a clip's first frame, and frames that do not fill a group are not seen. */
START_TEST(encode_counts)
{
    ts_ctx *c = testing_open("cpu", NULL, 2);
    vae_run j = {.cls = &ts_vae_wan};
    enum { N = 16 * 24, Z = 2 * 3 };
    static float px[9 * N * 3], m[3][C * 3 * Z], latent[4 * 3 * Z];
    long frames[] = {9, 8, 1}, latents[] = {3, 2, 1};
    begin(c, &small, false, &j);
    golden_input("input.v", 1.0, 9L * N * 3, px);
    j.latent = latent;
    for (int k = 0; k < 3; k++) {
        j.in = (ts_host){px, TS_F32, 4, {frames[k], 16, 24, 3}};
        j.out = m[k];
        testing_run(c, vae_run_encode, &j);
        for (int p = 0; p < C; p++)
            for (int i = 0; i < latents[k] * Z; i++)
                ck_assert(fabsf(m[k][p * latents[k] * Z + i] - m[0][p * 3 * Z + i]) < 2e-6f);
    }
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

/* ---- what leaves the device, and what is said meanwhile ---- */
typedef struct {
    const vae_run *run;
    int events, parts;
} listener;

/* Every chunk of every tile, in order, before the first frame. */
static void hear_chunk(void *user, const ts_event *e)
{
    listener *l = user;
    ck_assert_int_eq(e->phase, TS_PHASE_DECODE);
    ck_assert_int_eq(e->step, 0);
    ck_assert_int_eq(e->steps, 9);
    ck_assert_int_eq(e->layer, ++l->events);
    ck_assert_int_eq(e->layers, l->parts);
    ck_assert(e->seconds >= 0);
    ck_assert_int_eq(l->run->frames, 0);
}

START_TEST(traffic)
{
    static const vae_shape small_22 = {true, 4, 4, 4, 4, {1, 2, 2, 2}, 1, {false, true, true}};
    ts_ctx *c = testing_open(_i % 2 ? "far" : "cpu", NULL, 2);
    bool tiled = _i & 2, patched = _i & 4;
    int side = patched ? 128 : 64; /* 8 latents: 3 tiles of 3 chunks */
    vae_run j = {.cls = &ts_vae_wan};
    listener l = {.run = &j, .parts = 9};
    static float z[4 * 3 * 2 * 13];
    begin(c, patched ? &small_22 : &small, false, &j);
    j.in = (ts_host){z, TS_F32, 4, {4, 3, 2, 13}};
    if (tiled) j.tile = (ts_vae_tile){side, side};
    vae_run_record(c);
    c->env.progress = hear_chunk;
    c->env.user = &l;
    testing_run(c, vae_run_decode, &j);
    ck_assert_int_eq(l.events, tiled ? 9 : 0);
    ck_assert_int_eq(j.frames, 9);
    ck_assert_int_eq(j.downloads, 9);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

/* ---- memory ---- */
static const vae_shape published_21 = {false, 96, 96, 16, 4, {1, 2, 4, 4}, 2, {false, true, true}},
                       published_22 = {true, 160, 256, 48, 4, {1, 2, 4, 4}, 2, {false, true, true}};
static const struct {
    const vae_shape *shape;
    long frames;
    int tile;
    double most;
} sizes[] = {{&published_21, 17, 0, 4.7e9},
             {&published_21, 17, 256, 0.9e9},
             {&published_21, 1, 0, 0.8e9},
             {&published_22, 17, 0, 4.1e9},
             {&published_22, 17, 256, 0.8e9}};
enum { SIZES = sizeof sizes / sizeof *sizes };

START_TEST(memory)
{
    ts_ctx *c = testing_open("cpu", NULL, 2);
    vae_run j = {.cls = &ts_vae_wan, .tile = {sizes[_i].tile, sizes[_i].tile}};
    begin(c, sizes[_i].shape, true, &j);
    long latents = (sizes[_i].frames - 1) / 4 + 1, h = 480 / j.info.stride, w = 832 / j.info.stride;
    float *z = calloc((size_t)(j.info.channels * latents * h * w), sizeof *z);
    j.in = (ts_host){z, TS_F32, 4, {j.info.channels, latents, h, w}};
    c->dev->counting = true;
    ck_ok(c, ts_arena_open(&c->arena, c->dev, 0));
    ck_ok(c, vae_run_decode(c, &j));
    ck_assert_int_eq(j.frames, sizes[_i].frames);
    ck_assert_int_eq(c->arena.used, j.held); /* chunks and tiles leave nothing behind */
    /* the clip, and of its tiles no more than the seams: in both axes 64 pixels of 192 */
    if (sizes[_i].tile)
        ck_assert_int_lt(j.held, (size_t)(1.3 * 12 * 480 * 832 * (double)sizes[_i].frames));
    ck_assert_msg((double)c->arena.peak <= sizes[_i].most, "%.3f GB for %ld frames, %.3f allowed",
                  (double)c->arena.peak / 1e9, sizes[_i].frames, sizes[_i].most / 1e9);
    ts_arena_close(&c->arena);
    free(z);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

START_TEST(parameters)
{
    char *tmp = testing_tmp(), path[4096];
    snprintf(path, sizeof path, "%s/a.safetensors", tmp);
    ck_assert_int_eq(vae_hollow(&published_21, path), 126892531);
    ck_assert_int_eq(vae_hollow(&published_22, path), 704688668);
    free(tmp);
}
END_TEST

/* ---- what goes wrong ---- */
static const struct {
    const char *key, *value, *says;
} refused[] = {{"attn_scales", "[0.5]", "attn_scales"},
               {"temperal_downsample", "[true]", "temperal_downsample has 1"},
               {"temperal_downsample", "[1, 2, 3]", "booleans"},
               {"latents_mean", "[0]", "latents_mean"},
               {"in_channels", "4", "in_channels 4"},
               {"num_res_blocks", "8", "num_res_blocks"},
               {"dim_mult", "[1, 2, 0, 2]", "dim_mult"},
               {"scale_factor_spatial", "16", "scale_factor_spatial 16"},
               {"scale_factor_temporal", "8", "scale_factor_temporal 8"}};
enum { REFUSED = sizeof refused / sizeof *refused };

START_TEST(configs)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    cJSON *json = config(&small);
    ts_vae_info info = {0};
    void *own = calloc(1, ts_vae_wan.config_size);
    ck_ok(c, ts_vae_wan.describe(c, json, "config.json", &info, own));
    ck_assert(info.channels == 4 && info.stride == 8 && info.time_stride == 4 &&
              info.mean[1] == -0.5f && info.std[3] == 4);
    cJSON_DeleteItemFromObject(json, refused[_i].key);
    cJSON_AddItemToObject(json, refused[_i].key, cJSON_Parse(refused[_i].value));
    ck_assert_int_eq(ts_vae_wan.describe(c, json, "config.json", &info, own), TS_EMODEL);
    ck_assert_msg(strstr(c->err.text, refused[_i].says) && strstr(c->err.text, "config.json"), "%s",
                  c->err.text);
    free(own);
    cJSON_Delete(json);
    testing_close(c);
}
END_TEST

START_TEST(failures)
{
    ts_ctx *c = testing_open("cpu", NULL, 2);
    vae_run j = {.cls = &ts_vae_wan};
    static float z[4 * 2 * 2 * 3];
    volatile int stop = 0;
    begin(c, &small, false, &j);
    j.in = (ts_host){z, TS_F32, 4, {4, 2, 2, 3}};
    testing_run(c, vae_run_decode, &j);
    ck_ok(c, ts_arena_open(&c->arena, c->dev, 64 << 20));
    /* [C, F, H, W]: in the second latent frame, so the first frame is clean */
    z[6 + 2] = (float)NAN;
    ck_assert_int_eq(vae_run_decode(c, &j), TS_ENUMBER);
    ck_assert_msg(strstr(c->err.text, "frame 1 "), "%s", c->err.text);
    ck_assert_int_eq(j.frames, 1);
    c->arena.used = 0;
    z[6 + 2] = 0;
    c->env.stop = &stop;
    stop = 1;
    ck_assert_int_eq(vae_run_decode(c, &j), TS_ESTOP);
    c->env.stop = NULL;
    c->arena.used = 0;
    j.tile = (ts_vae_tile){12, 8};
    ck_assert_int_eq(vae_run_decode(c, &j), TS_EUSAGE);
    ck_assert_msg(strstr(c->err.text, "12x8"), "%s", c->err.text);
    ts_arena_close(&c->arena);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vae clips");
    TCase *tc = tcase_create("vae clips");
    tcase_add_loop_test(tc, fixtures, 0, CLIPS);
    tcase_add_loop_test(tc, fixtures_far, 0, CLIPS);
    tcase_add_test(tc, encode_tiles);
    tcase_add_test(tc, encode_counts);
    tcase_add_loop_test(tc, traffic, 0, 8);
    tcase_add_loop_test(tc, memory, 0, SIZES);
    tcase_add_test(tc, parameters);
    tcase_add_loop_test(tc, configs, 0, REFUSED);
    tcase_add_test(tc, failures);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
