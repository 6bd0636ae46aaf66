/* AutoencoderKL against golden numbers of diffusers' class (hash-generated weights) and the
 * fixtures' pictures: decode, encode, tiles, old names, refusals; on the CPU and far. */
#include "tests/codecs/vae_run.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};
enum { LEVELS = 3, Z = 4 };
static const long width[LEVELS] = {8, 16, 16};
static const char config[] =
    "{\"block_out_channels\": [8, 16, 16], \"layers_per_block\": 1, \"norm_num_groups\": 4, "
    "\"latent_channels\": 4, \"sample_size\": 32, \"scaling_factor\": 0.5, "
    "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", "
    "\"DownEncoderBlock2D\"], "
    "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}";

/* ---- a checkpoint of golden weights ---- */
typedef enum { NEW, OLD_NAMES, OLD_SHAPES } dialect; /* of the attention tensors */

static void put(ts_bag *b, const char *name, const char *tail, long o, long i, long k)
{
    char t[256];
    snprintf(t, sizeof t, "%s.%s", name, tail);
    if (k)
        golden_put(b, t, o, i, k, k, 0L);
    else if (i)
        golden_put(b, t, o, i, 0L);
    else
        golden_put(b, t, o, 0L);
}

static void add_layer(ts_bag *b, long o, long i, long k, const char *name)
{
    put(b, name, "weight", o, i, k);
    put(b, name, "bias", o, 0, 0);
}

static void add_res(ts_bag *b, long i, long o, const char *name)
{
    char t[160];
    const struct {
        const char *name;
        long o, i, k;
    } l[] = {{"norm1", i, 0, 0},
             {"norm2", o, 0, 0},
             {"conv1", o, i, 3},
             {"conv2", o, o, 3},
             {"conv_shortcut", o, i, 1}};
    for (int k = 0; k < 4 + (i != o); k++) {
        snprintf(t, sizeof t, "%s.%s", name, l[k].name);
        add_layer(b, l[k].o, l[k].i, l[k].k, t);
    }
}

/* The numbers follow from today's names; `d` says what the file calls them and how it shapes
 * them. */
static void add_attention(ts_bag *b, long c, const char *half, dialect d)
{
    static const char *const now[] = {"to_q", "to_k", "to_v", "to_out.0"}, *const then[] = {
                                                                               "query", "key",
                                                                               "value",
                                                                               "proj_attn"};
    char t[160], w[176];
    snprintf(t, sizeof t, "%s.mid_block.attentions.0.group_norm", half);
    add_layer(b, c, 0, 0, t);
    for (int i = 0; i < 4; i++) {
        const char *name = d == NEW ? now[i] : then[i];
        long dim[4] = {c, c, 1, 1};
        snprintf(t, sizeof t, "%s.mid_block.attentions.0.%s.weight", half, now[i]);
        snprintf(w, sizeof w, "%s.mid_block.attentions.0.%s.weight", half, name);
        golden_weight(t, 2, dim, ts_bag_put(b, w, TS_F32, d == OLD_SHAPES ? 4 : 2, dim, NULL));
        snprintf(t, sizeof t, "%s.mid_block.attentions.0.%s.bias", half, now[i]);
        snprintf(w, sizeof w, "%s.mid_block.attentions.0.%s.bias", half, name);
        golden_weight(t, 1, dim, ts_bag_put(b, w, TS_F32, 1, dim, NULL));
    }
}

static void add_mid(ts_bag *b, long c, const char *half, dialect d)
{
    char t[160];
    for (int i = 0; i < 2; i++) {
        snprintf(t, sizeof t, "%s.mid_block.resnets.%d", half, i);
        add_res(b, c, c, t);
    }
    add_attention(b, c, half, d);
}

static ts_bag *checkpoint(dialect d)
{
    ts_bag *b = ts_bag_new();
    char t[160];
    long in = width[0], out;
    add_layer(b, in, 3, 3, "encoder.conv_in");
    for (int i = 0; i < LEVELS; i++, in = out) {
        out = width[i];
        snprintf(t, sizeof t, "encoder.down_blocks.%d.resnets.0", i);
        add_res(b, in, out, t);
        snprintf(t, sizeof t, "encoder.down_blocks.%d.downsamplers.0.conv", i);
        if (i + 1 < LEVELS) add_layer(b, out, out, 3, t);
    }
    add_mid(b, in, "encoder", d);
    add_layer(b, in, 0, 0, "encoder.conv_norm_out");
    add_layer(b, 2 * Z, in, 3, "encoder.conv_out");
    add_layer(b, 2 * Z, 2 * Z, 1, "quant_conv");
    add_layer(b, Z, Z, 1, "post_quant_conv");
    add_layer(b, in, Z, 3, "decoder.conv_in");
    add_mid(b, in, "decoder", d);
    for (int i = 0; i < LEVELS; i++, in = out) {
        out = width[LEVELS - 1 - i];
        for (int r = 0; r < 2; r++) {
            snprintf(t, sizeof t, "decoder.up_blocks.%d.resnets.%d", i, r);
            add_res(b, r ? out : in, out, t);
        }
        snprintf(t, sizeof t, "decoder.up_blocks.%d.upsamplers.0.conv", i);
        if (i + 1 < LEVELS) add_layer(b, out, out, 3, t);
    }
    add_layer(b, in, 0, 0, "decoder.conv_norm_out");
    add_layer(b, 3, in, 3, "decoder.conv_out");
    return b;
}

/* ---- golden ---- */
static void open_golden(ts_ctx *c, vae_run *j, dialect d)
{
    char *tmp = testing_tmp(), path[4096];
    ts_bag *b = checkpoint(d);
    snprintf(path, sizeof path, "%s/model.safetensors", tmp);
    ck_ok(c, ts_bag_save(&c->err, b, path));
    vae_run_open(c, j, cJSON_Parse(config), tmp, "model");
    ck_assert(j->info.stride == 4 && j->info.time_stride == 1 && j->info.channels == Z &&
              j->info.tile.w == 32);
    ts_bag_free(b);
    free(tmp);
}

typedef struct {
    const char *name;
    long h, w;
    int tile;
    double first[6], last[2], mean, rms;
} golden;
static const golden v10 = {"V10",
                           5,
                           6,
                           0,
                           {0.28102, 0.31592, 0.86180, 0.73218, -0.29981, 0.09124},
                           {-0.24746, -0.19580},
                           -0.231400,
                           0.713862},
                    v11 = {"V11",
                           16,
                           24,
                           0,
                           {0.32318, 0.07814, 0.13956, 0.54963, -0.28088, -0.00435},
                           {-1.00273, 0.14427},
                           -0.054489,
                           0.588216},
                    v15 = {"V15",
                           13,
                           17,
                           32,
                           {0.10613, 0.22170, 0.04852, 0.42665, 0.41970, 0.12105},
                           {-0.03660, 0.05125},
                           -0.242313,
                           0.685648};

static void run_decode(const golden *g, const char *backend, dialect d)
{
    ts_ctx *c = testing_open(backend, NULL, 2);
    vae_run j = {.cls = &ts_vae_kl, .tile = {g->tile, g->tile}};
    open_golden(c, &j, d);
    long n = g->h * g->w;
    float *z = malloc((size_t)(Z * n) * sizeof *z);
    golden_input("input.z", 1.7, Z * n, z);
    /* the scaling factor: the decoder sees the golden input itself */
    for (long i = 0; i < Z * n; i++) z[i] *= 0.5f;
    j.in = (ts_host){z, TS_F32, 4, {Z, 1, g->h, g->w}};
    j.out = calloc((size_t)n * 16 * 3, sizeof *j.out);
    testing_run(c, vae_run_decode, &j);
    float *got = vae_run_planes(&j);
    golden_expect(g->name, got, 3 * n * 16, g->first, g->last, g->mean, g->rms, 2e-5);
    free(z);
    free(got);
    free(j.out);
    vae_run_close(&j);
    testing_close(c);
}

START_TEST(decoder) { run_decode(&v10, backends[_i], NEW); }
END_TEST
START_TEST(decoder_in_tiles) { run_decode(&v15, backends[_i], NEW); }
END_TEST
START_TEST(old_names)
{
    run_decode(&v10, "cpu", OLD_NAMES);
    run_decode(&v10, "cpu", OLD_SHAPES);
}
END_TEST

START_TEST(encoder)
{
    const golden *g = &v11;
    ts_ctx *c = testing_open(backends[_i], NULL, 2);
    vae_run j = {.cls = &ts_vae_kl};
    open_golden(c, &j, NEW);
    long n = g->h * g->w, cells = n / 16;
    float *planes = malloc((size_t)n * 3 * sizeof *planes),
          *px = malloc((size_t)n * 3 * sizeof *px);
    golden_input("input.v", 1.0, 3 * n, planes);
    for (long i = 0; i < n; i++)
        for (int k = 0; k < 3; k++) px[3 * i + k] = planes[k * n + i];
    j.in = (ts_host){px, TS_F32, 4, {1, g->h, g->w, 3}};
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

/* Where a tile is not blended, it holds what encoding its pixels alone gives; so does every picture
 * of several. */
START_TEST(encoder_in_tiles)
{
    /* 8 latents to a tile, one every 6 */
    enum { N = 2, H = 40, W = 56, TILE = 32, KEPT = 6, BLEND = 2, HL = H / 4, WL = W / 4 };
    static float px[N * H * W * 3], crop[TILE * TILE * 3], all[2 * Z * N * HL * WL],
        alone[2 * Z * 64], latent[Z * N * HL * WL], ignored[Z * 64];
    ts_ctx *c = testing_open(backends[_i], NULL, 2);
    vae_run whole = {.cls = &ts_vae_kl,
                     .in = {px, TS_F32, 4, {N, H, W, 3}},
                     .tile = {TILE, TILE},
                     .out = all,
                     .latent = latent};
    open_golden(c, &whole, NEW);
    golden_input("input.v", 1.0, N * H * W * 3, px);
    testing_run(c, vae_run_encode, &whole);
    vae_run one = whole;
    one.tile = (ts_vae_tile){0, 0};
    one.out = alone;
    one.latent = ignored;
    for (int f = 0; f < N; f++)
        for (int y = 0; y < HL; y += KEPT)
            for (int x = 0; x < WL; x += KEPT) {
                int h = y + 8 < HL ? 8 : HL - y, w = x + 8 < WL ? 8 : WL - x;
                for (int r = 0; r < 4 * h; r++)
                    memcpy(crop + r * 4 * w * 3, px + ((f * H + 4 * y + r) * W + 4 * x) * 3,
                           (size_t)(4 * w * 3) * sizeof *crop);
                one.in = (ts_host){crop, TS_F32, 4, {1, 4 * h, 4 * w, 3}};
                testing_run(c, vae_run_encode, &one);
                for (int k = 0; k < 2 * Z; k++)
                    for (int r = y ? BLEND : 0; r < h && r < KEPT; r++)
                        for (int q = x ? BLEND : 0; q < w && q < KEPT; q++)
                            ck_assert_msg(
                                all[((k * N + f) * HL + y + r) * WL + x + q] ==
                                    alone[(k * h + r) * w + q],
                                "picture %d, tile at %d, %d, channel %d, row %d, column %d", f, y,
                                x, k, r, q);
            }
    for (int i = 0; i < Z * N * HL * WL; i++) ck_assert(fabsf(latent[i] - 0.5f * all[i]) <= 1e-6f);
    vae_run_close(&whole);
    testing_close(c);
}
END_TEST

/* Pictures of a batch know nothing of each other: each comes out as if it were alone. So do tiles
 * of a picture that fits into one. */
START_TEST(pictures_are_independent)
{
    enum { N = 3, H = 5, W = 6, CELLS = H * W, PIXELS = CELLS * 16 * 3 };
    ts_ctx *c = testing_open("cpu", NULL, 2);
    float z[Z * N * CELLS], one[Z * CELLS], all[N * PIXELS], alone[PIXELS];
    vae_run j = {.cls = &ts_vae_kl, .in = {z, TS_F32, 4, {Z, N, H, W}}, .out = all};
    open_golden(c, &j, NEW);
    golden_input("input.z", 1.7, Z * N * CELLS, z);
    testing_run(c, vae_run_decode, &j);
    for (int k = 0; k < N; k++) {
        for (int i = 0; i < Z; i++)
            memcpy(one + i * CELLS, z + (i * N + k) * CELLS, CELLS * sizeof *z);
        j.in = (ts_host){one, TS_F32, 4, {Z, 1, H, W}};
        j.out = alone;
        j.tile = (ts_vae_tile){64, 64};
        testing_run(c, vae_run_decode, &j);
        ck_assert_mem_eq(alone, all + k * PIXELS, sizeof alone);
    }
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

/* Each picture's tiles are said as they begin, and a picture leaves the device once. */
static void hear_tile(void *user, const ts_event *e)
{
    int *events = user, n = (*events)++;
    ck_assert(e->phase == TS_PHASE_DECODE && e->step == n / 6 + 1 && e->steps == 2 &&
              e->layer == n % 6 + 1 && e->layers == 6);
}

START_TEST(traffic)
{
    ts_ctx *c = testing_open(backends[_i % 2], NULL, 2);
    static float z[Z * 2 * 10 * 14];
    bool tiled = _i / 2;
    int events = 0;
    vae_run j = {.cls = &ts_vae_kl, .in = {z, TS_F32, 4, {Z, 2, 10, 14}}};
    open_golden(c, &j, NEW);
    if (tiled) j.tile = (ts_vae_tile){32, 32};
    vae_run_record(c);
    c->env.progress = hear_tile;
    c->env.user = &events;
    testing_run(c, vae_run_decode, &j);
    ck_assert_int_eq(events, tiled ? 12 : 0);
    ck_assert_int_eq(j.downloads, 2);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

/* ---- fixtures ---- */
START_TEST(fixture)
{
    static const char *const names[] = {"pixart-alpha-256", "pixart-alpha-1024-micro",
                                        "pixart-sigma"};
    char dir[256], path[300];
    ts_ctx *c = testing_open(backends[_i / 3], NULL, 2);
    vae_run j = {.cls = &ts_vae_kl};
    snprintf(path, sizeof path, "%s/expected.safetensors", testing_fixture(names[_i % 3]));
    ts_bag *b = testing_bag(path);
    snprintf(dir, sizeof dir, "%s/model/vae", testing_fixture(names[_i % 3]));
    vae_run_open_fixture(c, &j, dir, b);
    ts_host want; /* [3, 1, rows, W]: rows at even distances */
    long H = j.in.dim[2] * j.info.stride, W = j.in.dim[3] * j.info.stride;
    ck_ok(c, ts_bag_get(&c->err, b, "pixels", TS_F32, 4, (long[]){3, 1, -1, W}, &want));
    long rows = want.dim[2], apart = H / rows;
    ck_assert_int_eq(rows * apart, H);
    j.out = calloc((size_t)(3 * H * W), sizeof *j.out);
    testing_run(c, vae_run_decode, &j);
    float *planes = vae_run_planes(&j);
    for (long i = 0; i < 3 * rows; i++)
        memmove(planes + i * W, planes + i * apart * W, (size_t)W * sizeof *planes);
    double rel = testing_rel(planes, want.data, 3 * rows * W);
    ck_assert_msg(rel <= 1e-5, "%s: pixels differ by %.2e", names[_i % 3], rel);
    free(j.out);
    free(planes);
    ts_bag_free(b);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

/* ---- refusals ---- */
START_TEST(configs_refused)
{
    static const struct {
        const char *json, *says;
    } bad[] = {
        {"{\"in_channels\": 4}", "in_channels"},
        {"{\"block_out_channels\": [30]}", "must be a multiple of norm_num_groups, 32"},
        {"{\"layers_per_block\": 9}", "layers_per_block is 9, expected 1 to 7"},
        {"{\"latent_channels\": 0}", "latent_channels is 0"},
        {"{\"scaling_factor\": 0}", "scaling_factor is 0"},
        {"{\"sample_size\": -1}", "sample_size is -1"},
        {"{\"block_out_channels\": [32, 32], \"up_block_types\": [\"UpDecoderBlock2D\"]}",
         "each of the 2 levels"},
        {"{\"down_block_types\": [\"AttnDownEncoderBlock2D\"]}",
         "AttnDownEncoderBlock2D, only DownEncoderBlock2D"},
        {"{\"latents_mean\": [0, 0, 0, 0]}", "latents_mean"},
    };
    ts_ctx *c = testing_open("cpu", NULL, 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cJSON *json = cJSON_Parse(bad[i].json);
        ts_vae_info info = {0};
        void *own = calloc(1, ts_vae_kl.config_size);
        ck_assert_int_eq(ts_vae_kl.describe(c, json, "vae/config.json", &info, own), TS_EMODEL);
        ck_assert_msg(strstr(c->err.text, bad[i].says) &&
                          !strncmp(c->err.text, "vae/config.json", 15),
                      "\"%s\" does not say \"%s\"", c->err.text, bad[i].says);
        free(own);
        cJSON_Delete(json);
    }
    testing_close(c);
}
END_TEST

START_TEST(stopped)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    static float z[Z * 10 * 14];
    vae_run j = {.cls = &ts_vae_kl, .in = {z, TS_F32, 4, {Z, 1, 10, 14}}, .tile = {32, 32}};
    volatile int stop = 1;
    open_golden(c, &j, NEW);
    testing_run(c, vae_run_decode, &j);
    ck_ok(c, ts_arena_open(&c->arena, c->dev, 64 << 20));
    c->env.stop = &stop;
    ck_assert_int_eq(vae_run_decode(c, &j), TS_ESTOP);
    ts_arena_close(&c->arena);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

START_TEST(inputs_refused)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    vae_run j = {.cls = &ts_vae_kl};
    float x[16 * 24 * 3] = {0};
    ts_tensor none = {0}, z = ts_tensor_of((ts_ptr){1}, TS_F32, TS_DIM(1, 5, 6, Z));
    ts_vae *v = NULL;
    open_golden(c, &j, NEW);
    ck_assert_int_eq(ts_vae_kl.encode(c, j.w, &j.info, (ts_host){x, TS_F32, 4, {1, 15, 24, 3}},
                                      (ts_vae_tile){0, 0}, none, none),
                     TS_ESHAPE);
    ck_assert_str_eq(c->err.text, "1 pictures of 24x15: sides must be multiples of 4");
    ck_assert_int_eq(ts_vae_kl.open(c, j.w, &j.info, z, (ts_vae_tile){30, 32}, &v), TS_EUSAGE);
    ck_assert_str_eq(c->err.text, "VAE tile 30x32: must be multiples of 4");
    ck_assert_ptr_null(v);
    vae_run_close(&j);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vae_kl");
    TCase *tc = tcase_create("vae_kl");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, decoder, 0, 2);
    tcase_add_loop_test(tc, decoder_in_tiles, 0, 2);
    tcase_add_test(tc, old_names);
    tcase_add_loop_test(tc, encoder, 0, 2);
    tcase_add_loop_test(tc, encoder_in_tiles, 0, 2);
    tcase_add_loop_test(tc, traffic, 0, 4);
    tcase_add_test(tc, stopped);
    tcase_add_test(tc, pictures_are_independent);
    tcase_add_loop_test(tc, fixture, 0, 6);
    tcase_add_test(tc, configs_refused);
    tcase_add_test(tc, inputs_refused);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
