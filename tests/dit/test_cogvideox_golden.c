/* CogVideoX's transformer against golden numbers that need no files: places as sines, as turns at
 * the size of training and at another one, patches two latent frames deep; what those that make
 * clips of images add: learned positions, and an offset of the timestep. The numbers are of
 * diffusers, from the same hash of names (golden.h); its latents have frames before channels. */
#include "dit/dit.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>

enum { H = 6, W = 8, C = 4, MOST = 4 * C * H * W, ROWS = 8, TEXT = 8, TIME = 8, D = 32, HEAD = 16 };

typedef struct {
    const char *what, *config;
    int frames, depth; /* depth 0: patch_size_t null */
    double first[6], last[2], mean, root;
    int learned; /* latent frames whose positions are learned; 0: none */
    bool offset;
} golden_case;
#define LEARNED                                                                                 \
    "\"use_rotary_positional_embeddings\": true, \"use_learned_positional_embeddings\": true, " \
    "\"sample_height\": 6, \"sample_width\": 8, \"max_text_seq_length\": 8, \"sample_frames\": "
static const golden_case of[] = {
    {"sines",
     "\"sample_height\": 6, \"sample_width\": 8",
     3,
     0,
     {-0.99861, -2.16599, -0.42455, 0.47812, 0.41206, -2.48088},
     {0.85154, -0.55696},
     -0.109718,
     1.041705,
     0,
     false},
    {"turns",
     "\"use_rotary_positional_embeddings\": true, \"sample_height\": 6, \"sample_width\": 8",
     3,
     0,
     {-1.11427, -0.57255, -0.26001, 2.05355, 0.78217, -1.42307},
     {0.75389, 0.16785},
     -0.015462,
     1.006148,
     0,
     false},
    {"turns in the middle of a larger size",
     "\"use_rotary_positional_embeddings\": true, \"sample_height\": 24, \"sample_width\": 20",
     3,
     0,
     {-1.10370, -0.60644, -0.25423, 2.05624, 0.76239, -1.40398},
     {0.75238, 0.16109},
     -0.013866,
     1.005003,
     0,
     false},
    {"deep patches",
     "\"use_rotary_positional_embeddings\": true, \"patch_size_t\": 2, \"sample_height\": 6, "
     "\"sample_width\": 8",
     4,
     2,
     {-0.27352, -1.85071, 1.53641, 0.60482, 0.83309, -2.27621},
     {-0.41199, -0.43435},
     0.001909,
     0.990381,
     0,
     false},
    {"an epsilon that norms of heads do not read",
     "\"use_rotary_positional_embeddings\": true, \"sample_height\": 6, \"sample_width\": 8, "
     "\"norm_eps\": 0.01",
     3,
     0,
     {-1.10498, -0.57178, -0.25760, 2.04246, 0.77886, -1.41649},
     {0.75189, 0.17006},
     -0.015088,
     1.001317,
     0,
     false},
    {"learned positions",
     LEARNED "9",
     3,
     0,
     {-1.08713, -0.59495, -0.25028, 2.08203, 0.79610, -1.42182},
     {0.71825, 0.17561},
     -0.014711,
     1.005678,
     3,
     false},
    {"learned positions of another length",
     LEARNED "17",
     3,
     0,
     {-1.05288, -2.21225, -0.44121, 0.49650, 0.43635, -2.48030},
     {0.82779, -0.58025},
     -0.111776,
     1.042013,
     5,
     false},
    {"an offset",
     "\"use_rotary_positional_embeddings\": true, \"patch_size_t\": 2, \"sample_height\": 6, "
     "\"sample_width\": 8, \"ofs_embed_dim\": 8",
     4,
     2,
     {-0.23288, -1.57012, 1.39836, 0.81619, 0.85751, -1.96259},
     {-0.32224, -0.67534},
     0.009223,
     0.956333,
     0,
     true},
};
enum { GOLDEN = sizeof of / sizeof *of };

static void put_norm(ts_bag *b, long width, const char *name)
{
    char t[128];
    snprintf(t, sizeof t, "%s.weight", name);
    golden_put(b, t, width, 0L);
    snprintf(t, sizeof t, "%s.bias", name);
    golden_put(b, t, width, 0L);
}

static void put_block(ts_bag *b, int i)
{
    static const char *const square[] = {"to_q", "to_k", "to_v", "to_out.0"};
    char t[128];
    for (int n = 1; n <= 2; n++) {
        golden_put_linear(b, 6L * D, TIME, "transformer_blocks.%d.norm%d.linear", i, n);
        snprintf(t, sizeof t, "transformer_blocks.%d.norm%d.norm", i, n);
        put_norm(b, D, t);
    }
    for (size_t k = 0; k < sizeof square / sizeof *square; k++)
        golden_put_linear(b, D, D, "transformer_blocks.%d.attn1.%s", i, square[k]);
    for (int k = 0; k < 2; k++) {
        snprintf(t, sizeof t, "transformer_blocks.%d.attn1.norm_%c", i, k ? 'k' : 'q');
        put_norm(b, HEAD, t);
    }
    golden_put_linear(b, 4L * D, D, "transformer_blocks.%d.ff.net.0.proj", i);
    golden_put_linear(b, D, 4L * D, "transformer_blocks.%d.ff.net.2", i);
}

static char *save_weights(ts_ctx *ctx, const golden_case *g)
{
    char path[4096], *dir = testing_tmp();
    ts_bag *b = ts_bag_new();
    long patch = 4L * C * (g->depth ? g->depth : 1);
    if (g->depth)
        golden_put(b, "patch_embed.proj.weight", (long)D, patch, 0L);
    else
        golden_put(b, "patch_embed.proj.weight", (long)D, (long)C, 2L, 2L, 0L);
    golden_put(b, "patch_embed.proj.bias", (long)D, 0L);
    golden_put_linear(b, D, TEXT, "patch_embed.text_proj");
    golden_put_linear(b, TIME, D, "time_embedding.linear_1");
    golden_put_linear(b, TIME, TIME, "time_embedding.linear_2");
    if (g->offset) {
        golden_put_linear(b, TIME, TIME, "ofs_embedding.linear_1");
        golden_put_linear(b, TIME, TIME, "ofs_embedding.linear_2");
    }
    if (g->learned)
        golden_put(b, "patch_embed.pos_embedding", 1L, ROWS + (long)g->learned * (H / 2) * (W / 2),
                   (long)D, 0L);
    for (int i = 0; i < 2; i++) put_block(b, i);
    put_norm(b, D, "norm_final");
    golden_put_linear(b, 2L * D, TIME, "norm_out.linear");
    put_norm(b, D, "norm_out.norm");
    golden_put_linear(b, patch, D, "proj_out");
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    ck_ok(ctx, ts_bag_save(&ctx->err, b, path));
    ts_bag_free(b);
    return dir;
}

typedef struct {
    ts_dit *dit;
    int frames;
    float x[MOST], v[MOST]; /* [F, C, H, W] */
} golden_run;

/* [F, C, H, W] <-> [F, H, W, C] */
static void swap_channels(int frames, bool last, const float *from, float *to)
{
    for (long f = 0; f < frames; f++)
        for (long c = 0; c < C; c++)
            for (long p = 0; p < (long)H * W; p++) {
                long a = (f * C + c) * H * W + p, b = (f * H * W + p) * C + c;
                to[last ? b : a] = from[last ? a : b];
            }
}

static ts_status evaluate_golden(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    golden_run *g = user;
    ts_device *dev = ctx->dev;
    float host[MOST], states[ROWS * TEXT], t = 499;
    int text = ROWS;
    ts_attn attn = {0};
    ts_grid grid = ts_grid_of(g->frames / ts_dit_describe(g->dit)->patch[0], H / 2, W / 2);
    ts_tensor x = ts_take(&ctx->arena, TS_F32, TS_DIM(g->frames, H, W, C)),
              v = ts_take(&ctx->arena, TS_F32, TS_DIM(g->frames, H, W, C));
    ts_bag *bag = ts_bag_new();
    size_t bytes = (size_t)ts_count(x) * sizeof(float);
    golden_input("input.ctx", 1.7, ROWS * TEXT, states);
    ts_bag_put(bag, "states", TS_F32, 2, (long[]){ROWS, TEXT}, states);
    ts_dit_inputs in = {.text = (const ts_bag *const[]){bag}, .slots = 1};
    ck_assert_int_eq(ts_dit_text_rows(g->dit, &in, 0), ROWS);
    swap_channels(g->frames, true, g->x, host);
    TRY(dev->ops->upload(dev, x.p, host, bytes));
    TRY(ts_attn_open(
        &attn, ctx,
        &(ts_attn_options){.grid = grid, .layers = 2, .heads = 2, .slots = 1, .text = &text}));
    TRY(ts_dit_prepare(g->dit, &grid, &in, &t, 1));
    TRY(ts_dit_step(g->dit, &attn, (ts_event){.step = 1, .steps = 1}, 1, &(ts_eval){.trow = 0}, &x,
                    &v));
    if (!dev->counting) {
        TRY(dev->ops->download(dev, host, v.p, bytes));
        swap_channels(g->frames, false, host, g->v);
    }
done:
    ts_attn_close(&attn);
    ts_bag_free(bag);
    return st;
}

START_TEST(golden)
{
    ts_ctx *ctx = testing_open(_i / GOLDEN ? "far" : "cpu", NULL, 0);
    char json[512], *dir = save_weights(ctx, of + _i % GOLDEN);
    golden_run g = {.frames = of[_i % GOLDEN].frames};
    long n = (long)g.frames * C * H * W;
    snprintf(json, sizeof json,
             "{\"num_layers\": 2, \"num_attention_heads\": 2, \"attention_head_dim\": 16, "
             "\"in_channels\": 4, \"out_channels\": 4, \"time_embed_dim\": 8, "
             "\"text_embed_dim\": 8, %s}",
             of[_i % GOLDEN].config);
    cJSON *config = cJSON_Parse(json);
    ck_assert_ptr_nonnull(config);
    ck_ok(ctx, ts_dit_open(ctx, &ts_dit_cogvideox, config, "config.json", dir, 0, &g.dit));
    golden_input("input.x", 1.7, n, g.x);
    testing_run(ctx, evaluate_golden, &g);
    golden_expect(of[_i % GOLDEN].what, g.v, n, of[_i % GOLDEN].first, of[_i % GOLDEN].last,
                  of[_i % GOLDEN].mean, of[_i % GOLDEN].root, 2e-5);
    ck_assert_str_eq(testing_warned(ctx), "");
    ts_dit_close(g.dit);
    cJSON_Delete(config);
    testing_close(ctx);
    free(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cogvideox golden");
    TCase *tc = tcase_create("golden");
    tcase_add_loop_test(tc, golden, 0, 2 * GOLDEN);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
