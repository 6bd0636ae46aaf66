/* AutoencoderKLWan against golden numbers of diffusers' class (hash-generated weights): decode,
 * encode, tiles; on the CPU and far. */
#include "tests/codecs/vae_checkpoint.h"
#include "tests/codecs/vae_run.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>

static const vae_shape kind_21 = {false, 4, 4, 4, 4, {1, 2, 2, 2}, 1, {false, true, true}};
static const vae_shape kind_22 = {true, 4, 4, 4, 4, {1, 2, 2, 2}, 1, {false, true, true}};

/* A checkpoint in DIR/model.safetensors. A quarter of the golden output stays within -1..1, so that
 * no frame is clamped. */
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

static const char config_21[] =
    "{\"base_dim\": 4, \"z_dim\": 4, \"dim_mult\": [1,2,2,2], \"num_res_blocks\": 1, "
    "\"attn_scales\": [], \"temperal_downsample\": [false,true,true], "
    "\"latents_mean\": [0,0,0,0], \"latents_std\": [1,1,1,1]}";
static const char config_22[] =
    "{\"base_dim\": 4, \"decoder_base_dim\": 4, \"z_dim\": 4, \"dim_mult\": [1,2,2,2], "
    "\"num_res_blocks\": 1, \"temperal_downsample\": [false,true,true], \"is_residual\": true, "
    "\"in_channels\": 12, \"out_channels\": 12, \"patch_size\": 2, \"latents_mean\": [0,0,0,0], "
    "\"latents_std\": [1,1,1,1]}";

typedef struct {
    const char *name, *config;
    const vae_shape *s;
    bool encodes;
    long in[4]; /* latent C F H W, or pixels F H W 3 */
    int tile;
    double first[6], last[2], mean, rms;
} golden;

static const golden cases[] = {{"V1",
                                config_21,
                                &kind_21,
                                false,
                                {4, 3, 3, 4},
                                0,
                                {0.22910, -0.18312, 0.27360, 0.16725, 0.33169, 0.28250},
                                {-0.57717, 0.10495},
                                -0.157808,
                                0.667464},
                               {"V3",
                                config_22,
                                &kind_22,
                                false,
                                {4, 3, 2, 3},
                                0,
                                {-0.03755, -0.04835, -0.04769, 0.09295, 0.00628, -0.06106},
                                {-0.31245, -0.71322},
                                -0.054417,
                                0.587179},
                               {"V12",
                                config_21,
                                &kind_21,
                                false,
                                {4, 2, 10, 13},
                                64,
                                {0.04913, -0.18630, -0.01738, -0.07311, -0.09487, -0.10582},
                                {0.15253, -0.15019},
                                -0.162311,
                                0.615495},
                               {"V13",
                                config_22,
                                &kind_22,
                                false,
                                {4, 2, 10, 13},
                                128,
                                {-0.07529, -0.22431, 0.25210, -0.08673, 0.17124, -0.05435},
                                {-0.43467, -0.60845},
                                -0.083860,
                                0.560590},
                               {"V2",
                                config_21,
                                &kind_21,
                                true,
                                {9, 16, 24, 3},
                                0,
                                {0.25781, 0.57970, 0.38081, -0.04583, -0.36413, -0.08843},
                                {-0.04750, -0.31151},
                                -0.024766,
                                0.436645},
                               {"V4",
                                config_22,
                                &kind_22,
                                true,
                                {9, 32, 48, 3},
                                0,
                                {0.08456, -0.11145, -0.16656, 0.26271, 0.03507, 0.22550},
                                {-0.00190, -0.17298},
                                0.016915,
                                0.330147}};
enum { CASES = sizeof cases / sizeof *cases };

/* Encodes golden pixels, whose order is [3, F, H, W], into r->out, moments of which there are as
 * many as is returned. */
static long encode_golden(ts_ctx *c, vae_run *r, float *in)
{
    long F = r->in.dim[0], hw = r->in.dim[1] * r->in.dim[2],
         n = r->info.channels * ((F - 1) / r->info.time_stride + 1) * hw /
             (r->info.stride * r->info.stride);
    float *planes = malloc((size_t)(F * hw * 3) * sizeof *planes);
    golden_input("input.v", 1.0, F * hw * 3, planes);
    for (long f = 0; f < F; f++)
        for (long i = 0; i < hw; i++)
            for (int k = 0; k < 3; k++) in[(f * hw + i) * 3 + k] = planes[(k * F + f) * hw + i];
    free(planes);
    r->out = calloc((size_t)(2 * n), sizeof *r->out);
    r->latent = calloc((size_t)n, sizeof *r->latent);
    testing_run(c, vae_run_encode, r);
    ck_assert_mem_eq(r->latent, r->out, (size_t)n * sizeof *r->latent); /* mean 0, std 1 */
    return 2 * n;
}

static void run_case(const golden *g, const char *backend)
{
    ts_ctx *c = testing_open(backend, NULL, 2);
    char *tmp = testing_tmp();
    vae_run r = {.cls = &ts_vae_wan, .tile = {g->tile, g->tile}};
    save(c, g->s, tmp);
    vae_run_open(c, &r, cJSON_Parse(g->config), tmp, "model");
    long n = g->in[0] * g->in[1] * g->in[2] * g->in[3], N;
    float *in = malloc((size_t)n * sizeof *in), *got;
    r.in = (ts_host){in, TS_F32, 4, {g->in[0], g->in[1], g->in[2], g->in[3]}};
    if (g->encodes) {
        N = encode_golden(c, &r, in);
        got = r.out;
    } else {
        golden_input("input.z", 1.7, n, in);
        N = 3 * ((g->in[1] - 1) * r.info.time_stride + 1) * g->in[2] * g->in[3] * r.info.stride *
            r.info.stride;
        r.out = calloc((size_t)N, sizeof *r.out);
        testing_run(c, vae_run_decode, &r);
        for (long i = 0; i < N; i++)
            ck_assert_msg(r.out[i] > 0 && r.out[i] < 1, "%s: clamped", g->name);
        got = vae_run_planes(&r);
        for (long i = 0; i < N; i++) got[i] *= 4;
        free(r.out);
    }
    golden_expect(g->name, got, N, g->first, g->last, g->mean, g->rms, 2e-5);
    free(in);
    free(got);
    free(r.latent);
    free(tmp);
    vae_run_close(&r);
    testing_close(c);
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
