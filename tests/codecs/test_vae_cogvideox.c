/* AutoencoderKLCogVideoX against golden numbers of diffusers' class (hash-generated weights):
 * decode and encode, a chunk and several, with frames left over, tiles of space; on the CPU and
 * far. What is decoded is clamped to -1..1, as frames are. */
#include "tests/codecs/vae_run.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};
enum { LEVELS = 4, Z = 4 };
static const long width[LEVELS] = {8, 8, 16, 16};

/* ---- a checkpoint of golden weights ---- */
static void put_conv(ts_bag *b, const char *name, long o, long i, long k)
{
    char t[256];
    snprintf(t, sizeof t, "%s.weight", name);
    golden_put(b, t, o, i, k, k, k, 0L);
    snprintf(t, sizeof t, "%s.bias", name);
    golden_put(b, t, o, 0L);
}

static void put_sampler(ts_bag *b, const char *name, long c)
{
    char t[256];
    snprintf(t, sizeof t, "%s.weight", name);
    golden_put(b, t, c, c, 3L, 3L, 0L);
    snprintf(t, sizeof t, "%s.bias", name);
    golden_put(b, t, c, 0L);
}

static void put_norm(ts_bag *b, const char *name, long c, bool guided)
{
    char t[256];
    snprintf(t, sizeof t, "%s%s.weight", name, guided ? ".norm_layer" : "");
    golden_put(b, t, c, 0L);
    snprintf(t, sizeof t, "%s%s.bias", name, guided ? ".norm_layer" : "");
    golden_put(b, t, c, 0L);
    for (int i = 0; i < 2 && guided; i++) {
        snprintf(t, sizeof t, "%s.conv_%c.conv", name, i ? 'b' : 'y');
        put_conv(b, t, c, Z, 1);
    }
}

static void put_residual(ts_bag *b, const char *name, long i, long o, bool guided)
{
    char t[256];
    for (int k = 0; k < 2; k++) {
        snprintf(t, sizeof t, "%s.norm%d", name, k + 1);
        put_norm(b, t, k ? o : i, guided);
        snprintf(t, sizeof t, "%s.conv%d.conv", name, k + 1);
        put_conv(b, t, o, k ? o : i, 3);
    }
    snprintf(t, sizeof t, "%s.conv_shortcut", name);
    if (i != o) put_conv(b, t, o, i, 1);
}

static void put_half(ts_bag *b, bool decoder, int residuals)
{
    const char *half = decoder ? "decoder" : "encoder", *way = decoder ? "up" : "down";
    char t[160];
    long in = decoder ? width[LEVELS - 1] : width[0], ends = width[LEVELS - 1];
    snprintf(t, sizeof t, "%s.conv_in.conv", half);
    put_conv(b, t, in, decoder ? Z : 3, 3);
    for (int i = 0; i < LEVELS; i++) {
        long out = width[decoder ? LEVELS - 1 - i : i];
        for (int r = 0; r < residuals; r++, in = out) {
            snprintf(t, sizeof t, "%s.%s_blocks.%d.resnets.%d", half, way, i, r);
            put_residual(b, t, in, out, decoder);
        }
        snprintf(t, sizeof t, "%s.%s_blocks.%d.%ssamplers.0.conv", half, way, i, way);
        if (i + 1 < LEVELS) put_sampler(b, t, out);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(t, sizeof t, "%s.mid_block.resnets.%d", half, i);
        put_residual(b, t, ends, ends, decoder);
    }
    snprintf(t, sizeof t, "%s.norm_out", half);
    put_norm(b, t, in, decoder);
    snprintf(t, sizeof t, "%s.conv_out.conv", half);
    put_conv(b, t, decoder ? 3 : 2 * Z, in, 3);
}

/* ---- golden: F, H, W of latents (decode) or pixels (encode) ---- */
typedef struct {
    const char *name;
    long f, h, w;
    bool tiled; /* as its authors cut a model of clips of 160 x 96 */
    int residuals;
    double eps, first[6], last[2], mean, rms;
} golden;

static const golden decoded[] = {
    {"chunks of three and two latents",
     5,
     2,
     3,
     false,
     1,
     1e-6,
     {0.10589, 0.54602, 0.61858, 0.51566, 0.62392, 0.64649},
     {-0.33257, -0.14739},
     0.100476,
     0.628069},
    {"one latent",
     1,
     2,
     3,
     false,
     1,
     1e-6,
     {0.51819, -0.02550, -0.06481, 0.02118, 0.05497, 0.09677},
     {-0.03012, -0.24951},
     -0.048558,
     0.480017},
    {"tiles",
     3,
     9,
     17,
     true,
     1,
     1e-6,
     {0.14400, -0.37894, -0.42809, -0.49604, -0.37965, -0.57736},
     {-0.45763, -0.50618},
     0.116390,
     0.605780},
    {"tiles along a side that is as long as one",
     3,
     6,
     13,
     true,
     1,
     1e-6,
     {0.22112, 0.37650, 0.31301, 0.35122, 0.40638, 0.10510},
     {0.14971, 0.25937},
     0.114273,
     0.610592},
    {"norms that do not read norm_eps",
     3,
     2,
     3,
     false,
     2,
     1e-2,
     {-0.28509, -0.52921, -0.29565, -0.42949, -0.54011, -0.45621},
     {-1, -0.86685},
     0.107491,
     0.594709},
};
static const golden encoded[] = {
    {"chunks of nine and eight frames",
     17,
     16,
     24,
     false,
     1,
     1e-6,
     {-0.29967, -0.14242, -0.50914, -0.36449, -1.27155, -1.07712},
     {-0.65128, 0.09470},
     -0.087195,
     0.534552},
    {"one frame",
     1,
     16,
     24,
     false,
     1,
     1e-6,
     {-0.51180, -0.36179, -0.62421, -0.94646, -0.99409, -0.74491},
     {-0.11427, 0.11243},
     -0.135621,
     0.497702},
    {"five frames left over",
     13,
     16,
     24,
     false,
     1,
     1e-6,
     {-0.19016, -0.01433, -0.10793, 0.08466, -0.73897, -1.27275},
     {-0.12153, -0.38192},
     -0.068020,
     0.499498},
    {"three chunks of eight frames",
     24,
     16,
     24,
     false,
     1,
     1e-6,
     {0.11796, -0.40325, 0.29351, -0.06368, -0.44625, -0.23229},
     {-0.58530, -0.09307},
     -0.051708,
     0.436131},
    {"tiles",
     9,
     72,
     136,
     true,
     1,
     1e-6,
     {-0.22252, 0.25341, -0.62134, -0.59823, -0.01903, -0.29918},
     {-0.04688, -0.00682},
     -0.102527,
     0.597154},
    {"two residuals, another norm_eps, which the last norm does not read",
     9,
     16,
     24,
     false,
     2,
     1e-2,
     {0.06085, -0.27732, -0.36534, -0.13973, -0.83683, -0.37860},
     {-0.68365, -0.11617},
     -0.121057,
     0.433572},
};
enum { DECODED = sizeof decoded / sizeof *decoded, ENCODED = sizeof encoded / sizeof *encoded };

static void open_golden(ts_ctx *c, vae_run *j, const golden *g)
{
    char *tmp = testing_tmp(), path[4096], config[400];
    ts_bag *b = ts_bag_new();
    put_half(b, false, g->residuals);
    put_half(b, true, g->residuals + 1);
    snprintf(path, sizeof path, "%s/model.safetensors", tmp);
    ck_ok(c, ts_bag_save(&c->err, b, path));
    snprintf(config, sizeof config,
             "{\"block_out_channels\": [8, 8, 16, 16], \"layers_per_block\": %d, "
             "\"norm_num_groups\": 2, \"norm_eps\": %g, \"latent_channels\": 4, "
             "\"scaling_factor\": 0.5, \"sample_height\": 96, \"sample_width\": 160}",
             g->residuals, g->eps);
    vae_run_open(c, j, cJSON_Parse(config), tmp, "model");
    ck_assert(j->info.stride == 8 && j->info.time_stride == 4 && j->info.channels == Z &&
              j->info.tile.w == 80 && j->info.tile.h == 48);
    if (g->tiled) j->tile = j->info.tile;
    ck_assert_str_eq(testing_warned(c), "");
    ts_bag_free(b);
    free(tmp);
}

START_TEST(decoder)
{
    const golden *g = decoded + _i / 2;
    ts_ctx *c = testing_open(backends[_i % 2], NULL, 2);
    vae_run j = {.cls = &ts_vae_cogvideox};
    open_golden(c, &j, g);
    long n = g->f * g->h * g->w, out = 3 * (4 * (g->f - 1) + 1) * g->h * g->w * 64;
    float *z = malloc((size_t)(Z * n) * sizeof *z);
    golden_input("input.z", 1.7, Z * n, z);
    /* the scaling factor: the decoder sees the golden input itself */
    for (long i = 0; i < Z * n; i++) z[i] *= 0.5f;
    j.in = (ts_host){z, TS_F32, 4, {Z, g->f, g->h, g->w}};
    j.out = calloc((size_t)out, sizeof *j.out);
    testing_run(c, vae_run_decode, &j);
    float *got = vae_run_planes(&j);
    golden_expect(g->name, got, out, g->first, g->last, g->mean, g->rms, 2e-5);
    free(z);
    free(got);
    free(j.out);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

START_TEST(encoder)
{
    const golden *g = encoded + _i / 2;
    ts_ctx *c = testing_open(backends[_i % 2], NULL, 2);
    vae_run j = {.cls = &ts_vae_cogvideox};
    open_golden(c, &j, g);
    long n = g->f * g->h * g->w, cells = ((g->f - 1) / 4 + 1) * (g->h / 8) * (g->w / 8);
    float *planes = malloc((size_t)n * 3 * sizeof *planes),
          *px = malloc((size_t)n * 3 * sizeof *px);
    golden_input("input.v", 1.0, 3 * n, planes);
    for (long i = 0; i < n; i++)
        for (int k = 0; k < 3; k++) px[3 * i + k] = planes[k * n + i];
    j.in = (ts_host){px, TS_F32, 4, {g->f, g->h, g->w, 3}};
    j.out = calloc((size_t)(2 * Z * cells), sizeof(float));
    j.latent = calloc((size_t)(Z * cells), sizeof(float));
    testing_run(c, vae_run_encode, &j);
    golden_expect(g->name, j.out, 2 * Z * cells, g->first, g->last, g->mean, g->rms, 2e-5);
    for (long i = 0; i < Z * cells; i++) ck_assert(fabsf(j.latent[i] - 0.5f * j.out[i]) <= 1e-6f);
    free(planes);
    free(px);
    free(j.out);
    free(j.latent);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vae_cogvideox");
    TCase *tc = tcase_create("vae_cogvideox");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, decoder, 0, 2 * DECODED);
    tcase_add_loop_test(tc, encoder, 0, 2 * ENCODED);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
