/* AutoencoderKLWan against golden numbers of diffusers' class (hash-generated weights): decode, encode, tiles; on the CPU and far. */
#include "codecs/vae.h"

#include "tests/codecs/vae_checkpoint.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const vae_shape kind_21 = {false, 4, 4, 4, 4, {1, 2, 2, 2}, 1, {false, true, true}};
static const vae_shape kind_22 = {true, 4, 4, 4, 4, {1, 2, 2, 2}, 1, {false, true, true}};

/* A checkpoint in DIR/model.safetensors. A quarter of the golden output stays within -1..1, so that no frame is clamped. */
static void save(ts_ctx *c, const vae_shape *shape, const char *dir)
{
    char path[4096];
    const char *name[] = {"decoder.conv_out.weight", "decoder.conv_out.bias"};
    ts_bag *b = vae_checkpoint(shape);
    for (int k = 0; k < 2; k++) {
        long n;
        float *x = (float *)(uintptr_t)testing_f32(b, name[k], &n);
        for (long i = 0; i < n; i++) x[i] *= 0.25f;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_ok(c, ts_bag_save(&c->err, b, path));
    ts_bag_free(b);
}

static const char config_21[] = "{\"base_dim\": 4, \"z_dim\": 4, \"dim_mult\": [1,2,2,2], \"num_res_blocks\": 1, \"attn_scales\": [], \"temperal_downsample\": [false,true,true], "
                                "\"latents_mean\": [0,0,0,0], \"latents_std\": [1,1,1,1]}";
static const char config_22[] = "{\"base_dim\": 4, \"decoder_base_dim\": 4, \"z_dim\": 4, \"dim_mult\": [1,2,2,2], \"num_res_blocks\": 1, \"temperal_downsample\": [false,true,true], \"is_residual\": true, "
                                "\"in_channels\": 12, \"out_channels\": 12, \"patch_size\": 2, \"latents_mean\": [0,0,0,0], \"latents_std\": [1,1,1,1]}";

typedef struct {
    ts_weights *w;
    ts_vae_info info;
    ts_host in;
    ts_vae_tile tile;
    float *out;   /* decode: [3, F, H, W] of (x + 1) / 2 clamped; encode: moments */
    long frames;
} job;

static ts_status decode(ts_ctx *c, void *user)
{
    job *j = user;
    ts_status st = TS_OK;
    ts_vae *v = NULL;
    bool end = false;
    TRY(ts_vae_wan.open(c, j->w, &j->info, j->in, j->tile, &v));
    for (long f = 0;; f++) {
        ts_frame one;
        TRY(ts_vae_wan.next(v, &one, &end));
        if (end) {
            ck_assert_int_eq(f, j->frames);
            break;
        }
        ck_assert(one.index == f && f < j->frames);
        long n = (long)one.w * one.h;
        for (long i = 0; i < n; i++)
            for (int k = 0; k < 3; k++) j->out[(k * j->frames + f) * n + i] = one.rgb[i * 3 + k];
    }
done:
    ts_vae_wan.close(v);
    return st;
}

static ts_status encode(ts_ctx *c, void *user)
{
    job *j = user;
    long n = j->info.channels * ((j->in.dim[0] - 1) / j->info.time_stride + 1) * (j->in.dim[1] / j->info.stride) * (j->in.dim[2] / j->info.stride);
    float *latent = malloc((size_t)n * sizeof *latent);
    ts_status st = ts_vae_wan.encode(c, j->w, &j->info, j->in, j->tile, latent, j->out);
    for (long i = 0; !st && !c->dev->counting && i < n; i++) ck_assert(latent[i] == j->out[i]); /* mean 0, std 1 */
    free(latent);
    return st;
}

typedef struct {
    const char *name, *config;
    const vae_shape *s;
    bool encodes;
    long in[4];         /* latent C F H W, or pixels F H W 3 */
    int tile;
    double first[6], last[2], mean, rms;
} golden;

static const golden cases[] = {
    {"V1", config_21, &kind_21, false, {4, 3, 3, 4}, 0, {0.22910, -0.18312, 0.27360, 0.16725, 0.33169, 0.28250}, {-0.57717, 0.10495}, -0.157808, 0.667464},
    {"V3", config_22, &kind_22, false, {4, 3, 2, 3}, 0, {-0.03755, -0.04835, -0.04769, 0.09295, 0.00628, -0.06106}, {-0.31245, -0.71322}, -0.054417, 0.587179},
    {"V12", config_21, &kind_21, false, {4, 2, 10, 13}, 64, {0.04913, -0.18630, -0.01738, -0.07311, -0.09487, -0.10582}, {0.15253, -0.15019}, -0.162311, 0.615495},
    {"V13", config_22, &kind_22, false, {4, 2, 10, 13}, 128, {-0.07529, -0.22431, 0.25210, -0.08673, 0.17124, -0.05435}, {-0.43467, -0.60845}, -0.083860, 0.560590},
    {"V2", config_21, &kind_21, true, {9, 16, 24, 3}, 0, {0.25781, 0.57970, 0.38081, -0.04583, -0.36413, -0.08843}, {-0.04750, -0.31151}, -0.024766, 0.436645},
    {"V4", config_22, &kind_22, true, {9, 32, 48, 3}, 0, {0.08456, -0.11145, -0.16656, 0.26271, 0.03507, 0.22550}, {-0.00190, -0.17298}, 0.016915, 0.330147}};
enum { CASES = sizeof cases / sizeof *cases };

static void run_case(const golden *g, const char *backend)
{
    ts_ctx *c = testing_open(backend, NULL, 2);
    char *tmp = testing_tmp();
    cJSON *json = cJSON_Parse(g->config);
    job j = {.tile = {g->tile, g->tile}};
    save(c, g->s, tmp);
    ck_ok(c, ts_vae_wan.describe(c, json, "config.json", &j.info));
    ck_ok(c, ts_weights_open(c, tmp, "model", &j.w));
    long n = g->in[0] * g->in[1] * g->in[2] * g->in[3], N;
    float *in = malloc((size_t)n * sizeof *in);
    if (g->encodes) { /* golden order is [3, F, H, W] */
        long F = g->in[0], hw = g->in[1] * g->in[2];
        float *planes = malloc((size_t)n * sizeof *planes);
        golden_input("input.v", 1.0, n, planes);
        for (long f = 0; f < F; f++)
            for (long i = 0; i < hw; i++)
                for (int k = 0; k < 3; k++) in[(f * hw + i) * 3 + k] = planes[(k * F + f) * hw + i];
        free(planes);
        N = 2 * j.info.channels * ((F - 1) / j.info.time_stride + 1) * (g->in[1] / j.info.stride) * (g->in[2] / j.info.stride);
    } else {
        golden_input("input.z", 1.7, n, in);
        j.frames = (g->in[1] - 1) * j.info.time_stride + 1;
        N = 3 * j.frames * g->in[2] * g->in[3] * j.info.stride * j.info.stride;
    }
    j.out = calloc((size_t)N, sizeof *j.out);
    j.in = (ts_host){in, TS_F32, 4, {g->in[0], g->in[1], g->in[2], g->in[3]}};
    testing_run(c, g->encodes ? encode : decode, &j);
    for (long i = 0; !g->encodes && i < N; i++) {
        ck_assert_msg(j.out[i] > 0 && j.out[i] < 1, "%s: clamped", g->name);
        j.out[i] = 4 * (2 * j.out[i] - 1);
    }
    golden_expect(g->name, j.out, N, g->first, g->last, g->mean, g->rms, 2e-5);
    free(in), free(j.out), free(tmp);
    ts_weights_close(j.w), cJSON_Delete(json), testing_close(c);
}

START_TEST(goldens) { run_case(cases + _i, "cpu"); }
END_TEST
START_TEST(goldens_far) { run_case(cases + _i, "far"); }
END_TEST

int main(void)
{
    Suite *suite = suite_create("vae");
    TCase *tc = tcase_create("vae");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, goldens, 0, CASES);
    tcase_add_loop_test(tc, goldens_far, 0, CASES);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
