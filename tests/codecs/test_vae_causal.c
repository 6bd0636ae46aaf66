/* CausalVAEModel's decoder against golden numbers of the reference's arithmetic (hash-generated
 * weights), on the CPU and far. What is decoded is clamped to -1..1, as frames are. */
#include "tests/codecs/vae_run.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const backends[] = {"cpu", "far"};
enum { LEVELS = 4, Z = 4 };
static const long width[LEVELS] = {8, 8, 16, 16};
static const char config[] =
    "{\"hidden_size\": 8, \"hidden_size_mult\": [1, 1, 2, 2], \"num_res_blocks\": 1, "
    "\"norm_num_groups\": 4}";
static const double SCALE = 0.18215;

/* ---- a checkpoint of golden weights ---- */
static void put_conv(ts_bag *b, const char *name, long o, long i, long kt, long k)
{
    char t[256];
    snprintf(t, sizeof t, "%s.conv.weight", name);
    golden_put(b, t, o, i, kt, k, k, 0L);
    snprintf(t, sizeof t, "%s.conv.bias", name);
    golden_put(b, t, o, 0L);
}

static void put_norm(ts_bag *b, const char *name, long c)
{
    char t[256];
    snprintf(t, sizeof t, "%s.weight", name);
    golden_put(b, t, c, 0L);
    snprintf(t, sizeof t, "%s.bias", name);
    golden_put(b, t, c, 0L);
}

static void put_residual(ts_bag *b, const char *name, long i, long o)
{
    char t[256];
    for (int k = 0; k < 2; k++) {
        snprintf(t, sizeof t, "%s.norm%d", name, k + 1);
        put_norm(b, t, k ? o : i);
        snprintf(t, sizeof t, "%s.conv%d", name, k + 1);
        put_conv(b, t, o, k ? o : i, 3, 3);
    }
    snprintf(t, sizeof t, "%s.nin_shortcut", name);
    if (i != o) put_conv(b, t, o, i, 1, 1);
}

static ts_bag *checkpoint(void)
{
    static const char *const point[] = {"q", "k", "v", "proj_out"};
    ts_bag *b = ts_bag_new();
    char t[160];
    long in = width[LEVELS - 1];
    put_conv(b, "post_quant_conv", Z, Z, 1, 1);
    put_conv(b, "decoder.conv_in", in, Z, 3, 3);
    put_residual(b, "decoder.mid.block_1", in, in);
    put_residual(b, "decoder.mid.block_2", in, in);
    put_norm(b, "decoder.mid.attn_1.norm", in);
    for (int i = 0; i < 4; i++) {
        snprintf(t, sizeof t, "decoder.mid.attn_1.%s", point[i]);
        put_conv(b, t, in, in, 1, 1);
    }
    for (int i = LEVELS - 1; i >= 0; i--) {
        for (int r = 0; r < 2; r++, in = width[i]) {
            snprintf(t, sizeof t, "decoder.up.%d.block.%d", i, r);
            put_residual(b, t, in, width[i]);
        }
        snprintf(t, sizeof t, "decoder.up.%d.upsample.conv", i);
        if (i) put_conv(b, t, in, in, i > 1 ? 3 : 1, 3);
    }
    put_norm(b, "decoder.norm_out", in);
    put_conv(b, "decoder.conv_out", 3, in, 3, 3);
    return b;
}

static const struct {
    const char *name;
    long f;
    double first[6], last[2], mean, rms;
} of[] = {
    {"three latents",
     3,
     {-0.03185, -0.28540, -0.55882, -0.88708, -1, -1},
     {0.11875, -0.09503},
     -0.044687,
     0.541988},
    {"one latent",
     1,
     {-0.27444, -0.59102, -0.71901, -0.77002, -0.82972, -0.63767},
     {0.60022, 0.23922},
     -0.082393,
     0.515683},
    {"four latents",
     4,
     {-0.10593, -0.26567, -0.29344, -0.37268, -0.38310, -0.33395},
     {0.75529, 0.70939},
     0.015136,
     0.505009},
};
enum { CASES = sizeof of / sizeof *of, H = 2, W = 3 };

START_TEST(decoder)
{
    ts_ctx *c = testing_open(backends[_i % 2], NULL, 2);
    vae_run j = {.cls = &ts_vae_causal};
    char *tmp = testing_tmp(), path[4096];
    ts_bag *b = checkpoint();
    long f = of[_i / 2].f, n = Z * f * H * W, out = 3 * (4 * (f - 1) + 1) * H * W * 64;
    float *z = malloc((size_t)n * sizeof *z);
    snprintf(path, sizeof path, "%s/model.safetensors", tmp);
    ck_ok(c, ts_bag_save(&c->err, b, path));
    vae_run_open(c, &j, cJSON_Parse(config), tmp, "model");
    golden_input("input.z", 1.7, n, z);
    /* the scaling factor: the decoder sees the golden input itself */
    for (long i = 0; i < n; i++) z[i] = (float)(z[i] * SCALE);
    j.in = (ts_host){z, TS_F32, 4, {Z, f, H, W}};
    j.out = calloc((size_t)out, sizeof *j.out);
    testing_run(c, vae_run_decode, &j);
    float *got = vae_run_planes(&j);
    golden_expect(of[_i / 2].name, got, out, of[_i / 2].first, of[_i / 2].last, of[_i / 2].mean,
                  of[_i / 2].rms, 2e-5);
    free(z);
    free(got);
    free(j.out);
    vae_run_close(&j);
    ts_bag_free(b);
    testing_close(c);
    free(tmp);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vae_causal");
    TCase *tc = tcase_create("vae_causal");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, decoder, 0, 2 * CASES);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
