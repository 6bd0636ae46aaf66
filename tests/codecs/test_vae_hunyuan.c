/* AutoencoderKLHunyuanVideo against golden numbers of diffusers' class (hash-generated weights):
 * decode and encode, one tile of time and several, tiles of space with them; on the CPU and far;
 * configs that are refused. What is decoded is clamped to -1..1, as frames are. */
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
static const char config[] =
    "{\"block_out_channels\": [8, 8, 16, 16], \"layers_per_block\": 1, \"norm_num_groups\": 4, "
    "\"latent_channels\": 4, \"scaling_factor\": 0.5}";

/* ---- a checkpoint of golden weights ---- */
static void put(ts_bag *b, const char *name, long o, long i, long k)
{
    char t[256];
    snprintf(t, sizeof t, "%s.weight", name);
    if (k)
        golden_put(b, t, o, i, k, k, k, 0L);
    else if (i)
        golden_put(b, t, o, i, 0L);
    else
        golden_put(b, t, o, 0L);
    snprintf(t, sizeof t, "%s.bias", name);
    golden_put(b, t, o, 0L);
}

static void put_res(ts_bag *b, long i, long o, const char *name)
{
    char t[256];
    const struct {
        const char *name;
        long o, i, k;
    } l[] = {{"norm1", i, 0, 0},
             {"norm2", o, 0, 0},
             {"conv1.conv", o, i, 3},
             {"conv2.conv", o, o, 3},
             {"conv_shortcut.conv", o, i, 1}};
    for (int k = 0; k < 4 + (i != o); k++) {
        snprintf(t, sizeof t, "%s.%s", name, l[k].name);
        put(b, t, l[k].o, l[k].i, l[k].k);
    }
}

static void put_mid(ts_bag *b, long c, const char *half)
{
    static const char *const linear[] = {"to_q", "to_k", "to_v", "to_out.0"};
    char t[160];
    for (int i = 0; i < 2; i++) {
        snprintf(t, sizeof t, "%s.mid_block.resnets.%d", half, i);
        put_res(b, c, c, t);
    }
    snprintf(t, sizeof t, "%s.mid_block.attentions.0.group_norm", half);
    put(b, t, c, 0, 0);
    for (int i = 0; i < 4; i++) {
        snprintf(t, sizeof t, "%s.mid_block.attentions.0.%s", half, linear[i]);
        put(b, t, c, c, 0);
    }
}

static ts_bag *checkpoint(void)
{
    ts_bag *b = ts_bag_new();
    char t[160];
    long in = width[0], out;
    put(b, "encoder.conv_in.conv", in, 3, 3);
    for (int i = 0; i < LEVELS; i++, in = out) {
        out = width[i];
        snprintf(t, sizeof t, "encoder.down_blocks.%d.resnets.0", i);
        put_res(b, in, out, t);
        snprintf(t, sizeof t, "encoder.down_blocks.%d.downsamplers.0.conv.conv", i);
        if (i + 1 < LEVELS) put(b, t, out, out, 3);
    }
    put_mid(b, in, "encoder");
    put(b, "encoder.conv_norm_out", in, 0, 0);
    put(b, "encoder.conv_out.conv", 2 * Z, in, 3);
    put(b, "quant_conv", 2 * Z, 2 * Z, 1);
    put(b, "post_quant_conv", Z, Z, 1);
    put(b, "decoder.conv_in.conv", in, Z, 3);
    put_mid(b, in, "decoder");
    for (int i = 0; i < LEVELS; i++, in = out) {
        out = width[LEVELS - 1 - i];
        for (int r = 0; r < 2; r++) {
            snprintf(t, sizeof t, "decoder.up_blocks.%d.resnets.%d", i, r);
            put_res(b, r ? out : in, out, t);
        }
        snprintf(t, sizeof t, "decoder.up_blocks.%d.upsamplers.0.conv.conv", i);
        if (i + 1 < LEVELS) put(b, t, out, out, 3);
    }
    put(b, "decoder.conv_norm_out", in, 0, 0);
    put(b, "decoder.conv_out.conv", 3, in, 3);
    return b;
}

static void open_golden(ts_ctx *c, vae_run *j)
{
    char *tmp = testing_tmp(), path[4096];
    ts_bag *b = checkpoint();
    snprintf(path, sizeof path, "%s/model.safetensors", tmp);
    ck_ok(c, ts_bag_save(&c->err, b, path));
    vae_run_open(c, j, cJSON_Parse(config), tmp, "model");
    ck_assert(j->info.stride == 8 && j->info.time_stride == 4 && j->info.channels == Z &&
              j->info.tile.w == 256);
    ck_assert_str_eq(testing_warned(c), "");
    ts_bag_free(b);
    free(tmp);
}

/* ---- golden: F, H, W of latents (decode) or pixels (encode) ---- */
typedef struct {
    const char *name;
    long f, h, w;
    int tile;
    double first[6], last[2], mean, rms;
} golden;

static const golden decoded[] = {
    {"one tile of time",
     3,
     2,
     3,
     0,
     {-0.10478, -0.17624, -0.19505, -0.15194, -0.10688, -0.15709},
     {0.41725, 0.38797},
     0.245478,
     0.466512},
    {"the longest clip of one tile",
     4,
     2,
     3,
     0,
     {0.24704, 0.29541, 0.32572, 0.43015, 0.75349, 0.38655},
     {1, 1},
     0.095835,
     0.450196},
    {"the shortest of two",
     5,
     2,
     3,
     0,
     {0.00811, -0.04497, -0.01942, -0.05877, -0.01859, -0.05829},
     {0.89325, 0.73539},
     0.017876,
     0.501003},
    {"three, the last of one latent",
     7,
     2,
     3,
     0,
     {1, 1, 1, 1, 0.36058, 0.27472},
     {0.89060, 0.73187},
     0.079316,
     0.467773},
    {"three, the last of two latents",
     8,
     2,
     3,
     0,
     {0.22173, 0.08056, 0.12326, 0.08262, 0.28955, 0.05842},
     {1, 1},
     0.023596,
     0.456248},
    {"two, in tiles of space",
     6,
     10,
     9,
     64,
     {0.02219, 0.03136, 0.09898, 0.04219, -0.00943, 0.02846},
     {1, 0.98906},
     0.092168,
     0.435772},
};
static const golden encoded[] = {
    {"one tile of time",
     9,
     16,
     24,
     0,
     {-0.49271, -0.09389, -0.47171, -0.70606, -0.20809, -0.25993},
     {-0.33493, -0.14007},
     -0.147045,
     0.433125},
    {"two tiles",
     17,
     16,
     24,
     0,
     {-0.88752, -0.38196, -0.61040, -0.50069, -0.53563, -0.71608},
     {-0.23571, -0.09821},
     -0.072428,
     0.480338},
    {"three tiles",
     29,
     16,
     24,
     0,
     {-0.57739, -0.55953, -0.48131, -1.27881, -0.81760, -0.59290},
     {0.12744, -0.15480},
     -0.004638,
     0.721954},
    {"two, in tiles of space",
     21,
     80,
     72,
     64,
     {-0.41984, -1.43796, -0.43829, 0.02281, 0.12757, -0.24111},
     {-0.30058, 0.02683},
     0.069989,
     0.647114},
};
enum { DECODED = sizeof decoded / sizeof *decoded, ENCODED = sizeof encoded / sizeof *encoded };

START_TEST(decoder)
{
    const golden *g = decoded + _i / 2;
    ts_ctx *c = testing_open(backends[_i % 2], NULL, 2);
    vae_run j = {.cls = &ts_vae_hunyuanvideo, .tile = {g->tile, g->tile}};
    open_golden(c, &j);
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
    vae_run j = {.cls = &ts_vae_hunyuanvideo, .tile = {g->tile, g->tile}};
    open_golden(c, &j);
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

static const struct {
    const char *config, *says;
} refused[] = {
    {"{\"block_out_channels\": [8, 12], \"norm_num_groups\": 8, \"spatial_compression_ratio\": 2, "
     "\"temporal_compression_ratio\": 2}",
     "block_out_channels[1] is 12, must be a multiple of norm_num_groups, 8"},
    {"{\"spatial_compression_ratio\": 16}", "spatial_compression_ratio"},
    {"{\"temporal_compression_ratio\": 3}",
     "temporal_compression_ratio is 3, expected a power of 2"},
    {"{\"temporal_compression_ratio\": 16}", "temporal_compression_ratio"},
    {"{\"scaling_factor\": 0}", "scaling_factor is 0, expected a number that is not 0"},
    {"{\"act_fn\": \"gelu\"}", "act_fn"},
    {"{\"up_block_types\": [\"HunyuanVideoUpBlock3D\", \"HunyuanVideoUpBlock3D\", "
     "\"HunyuanVideoUpBlock3D\", \"UpDecoderBlock2D\"]}",
     "has UpDecoderBlock2D, only HunyuanVideoUpBlock3D is supported"},
};
START_TEST(refused_configs)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_vae_info info;
    void *own = calloc(1, ts_vae_hunyuanvideo.config_size);
    cJSON *j = cJSON_Parse(refused[_i].config);
    ck_assert_int_eq(ts_vae_hunyuanvideo.describe(c, j, "config.json", &info, own), TS_EMODEL);
    ck_assert_msg(strstr(c->err.text, refused[_i].says), "%s", c->err.text);
    cJSON_Delete(j);
    free(own);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vae_hunyuan");
    TCase *tc = tcase_create("vae_hunyuan");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, decoder, 0, 2 * DECODED);
    tcase_add_loop_test(tc, encoder, 0, 2 * ENCODED);
    tcase_add_loop_test(tc, refused_configs, 0, sizeof refused / sizeof *refused);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
