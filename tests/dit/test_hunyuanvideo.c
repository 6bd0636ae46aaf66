/* The HunyuanVideo transformer against golden numbers of diffusers' class, on the CPU and far;
 * texts of two lengths in one evaluation as each alone; what is refused. Whole models are compared
 * in sampler/test_pipeline. */
#include "dit/dit.h"
#include "sampler/latents.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"cpu", "far"};
enum { C = 4, F = 2, H = 4, W = 6, COUNT = C * F * H * W, D = 32, TEXT = 16, POOLED = 8, REAL = 9 };
static const long latent[4] = {C, F, H, W};
static const char config_text[] =
    "{\"in_channels\": 4, \"out_channels\": 4, \"num_attention_heads\": 2, "
    "\"attention_head_dim\": 16, \"num_layers\": 1, \"num_single_layers\": 1, "
    "\"num_refiner_layers\": 1, \"text_embed_dim\": 16, \"pooled_projection_dim\": 8, "
    "\"rope_axes_dim\": [4, 6, 6], \"mlp_ratio\": %d}";

static void put_linears(ts_bag *b, const char *at, const char *const *name, int n, long out,
                        long in)
{
    for (int i = 0; i < n; i++) golden_put_linear(b, out, in, "%s.%s", at, name[i]);
}

static void put_embedder(ts_bag *b, const char *name, long in)
{
    golden_put_linear(b, D, in, "%s.linear_1", name);
    golden_put_linear(b, D, D, "%s.linear_2", name);
}

static void put_vectors(ts_bag *b, const char *at, const char *const *name, int n, long width)
{
    char t[160];
    for (int i = 0; i < n; i++) {
        snprintf(t, sizeof t, "%s.%s", at, name[i]);
        golden_put(b, t, width, 0L);
    }
}

/* ratio: of the feed-forward layers' width to the model's, but for the refiner's */
static char *save(ts_ctx *ctx, long ratio)
{
    static const char dual[] = "transformer_blocks.0", single[] = "single_transformer_blocks.0",
                      refiner[] = "context_embedder.token_refiner.refiner_blocks.0";
    static const char *const square[] = {"attn.to_q",       "attn.to_k",       "attn.to_v",
                                         "attn.to_out.0",   "attn.add_q_proj", "attn.add_k_proj",
                                         "attn.add_v_proj", "attn.to_add_out"},
                             *const up[] = {"ff.net.0.proj", "ff_context.net.0.proj"},
                             *const down[] = {"ff.net.2", "ff_context.net.2"},
                             *const mod[] = {"norm1.linear", "norm1_context.linear"},
                             *const rms[] = {"attn.norm_q.weight", "attn.norm_k.weight",
                                             "attn.norm_added_q.weight",
                                             "attn.norm_added_k.weight"},
                             *const ln[] = {"norm1.weight", "norm1.bias", "norm2.weight",
                                            "norm2.bias"};
    char path[4096], *dir = testing_tmp();
    ts_bag *b = ts_bag_new();
    golden_put(b, "x_embedder.proj.weight", (long)D, (long)C, 1L, 2L, 2L, 0L);
    golden_put(b, "x_embedder.proj.bias", (long)D, 0L);
    put_embedder(b, "context_embedder.time_text_embed.timestep_embedder", 256);
    put_embedder(b, "context_embedder.time_text_embed.text_embedder", TEXT);
    golden_put_linear(b, D, TEXT, "context_embedder.proj_in");
    put_embedder(b, "time_text_embed.timestep_embedder", 256);
    put_embedder(b, "time_text_embed.guidance_embedder", 256);
    put_embedder(b, "time_text_embed.text_embedder", POOLED);
    put_linears(b, refiner, square, 4, D, D);
    put_linears(b, refiner, up, 1, 4L * D, D);
    put_linears(b, refiner, down, 1, D, 4L * D);
    golden_put_linear(b, 2L * D, D, "%s.norm_out.linear", refiner);
    put_vectors(b, refiner, ln, 4, D);
    put_linears(b, dual, square, 8, D, D);
    put_linears(b, dual, up, 2, ratio * D, D);
    put_linears(b, dual, down, 2, D, ratio * D);
    put_linears(b, dual, mod, 2, 6L * D, D);
    put_vectors(b, dual, rms, 4, D / 2);
    put_linears(b, single, square, 3, D, D);
    put_vectors(b, single, rms, 2, D / 2);
    golden_put_linear(b, 3L * D, D, "%s.norm.linear", single);
    golden_put_linear(b, ratio * D, D, "%s.proj_mlp", single);
    golden_put_linear(b, D, (1 + ratio) * D, "%s.proj_out", single);
    golden_put_linear(b, 2L * D, D, "norm_out.linear");
    golden_put_linear(b, 4L * C, D, "proj_out");
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    ck_ok(ctx, ts_bag_save(&ctx->err, b, path));
    ts_bag_free(b);
    return dir;
}

typedef struct {
    ts_dit *dit;
    const ts_bag *text[2];
    int slots, rows[2];
    double guidance, size; /* size: of the latents; 0: 1.7 */
    float v[2][COUNT];
} run;

static ts_status evaluate(ts_ctx *ctx, void *user)
{
    ts_status st;
    run *r = user;
    ts_attn attn = {0};
    static const char *const names[2] = {"a", "b"};
    static float x[COUNT];
    const float t[2] = {500, 875}; /* the second is asked for */
    ts_grid grid = ts_grid_of(F, H / 2, W / 2);
    ts_tensor in = ts_latents_take(&ctx->arena, latent, C), xs[2] = {in, in}, vs[2];
    ts_eval eval[2];
    ts_dit_inputs inputs = {.text = r->text, .slots = r->slots, .guidance = r->guidance};
    golden_input("input.x", r->size > 0 ? r->size : 1.7, COUNT, x);
    if (!ctx->dev->counting) TRY(ts_latents_upload(ctx, latent, x, in));
    for (int i = 0; i < r->slots; i++) {
        vs[i] = ts_latents_take(&ctx->arena, latent, C);
        eval[i] = (ts_eval){.trow = 1, .slot = i};
        r->rows[i] = (int)ts_dit_text_rows(r->dit, &inputs, i);
    }
    TRY(ts_attn_open(&attn, ctx,
                     &(ts_attn_options){.grid = grid,
                                        .layers = 2,
                                        .heads = 2,
                                        .slots = r->slots,
                                        .slot_name = names,
                                        .text = r->rows}));
    TRY(ts_dit_prepare(r->dit, &grid, &inputs, t, 2));
    TRY(ts_dit_step(r->dit, &attn, (ts_event){.phase = TS_PHASE_DENOISE, .step = 1, .steps = 1},
                    r->slots, eval, xs, vs));
    for (int i = 0; i < r->slots && !ctx->dev->counting; i++)
        TRY(ts_latents_download(ctx, latent, vs[i], r->v[i]));
done:
    ts_attn_close(&attn);
    return st;
}

static ts_bag *text_of(int rows, bool pooled)
{
    ts_bag *b = ts_bag_new();
    long s[2] = {rows, TEXT}, p[2] = {1, POOLED};
    golden_input("input.ctx", 1.7, (long)rows * TEXT, ts_bag_put(b, "states", TS_F32, 2, s, NULL));
    if (pooled)
        golden_input("input.pool", 1.7, POOLED, ts_bag_put(b, "pooled", TS_F32, 2, p, NULL));
    return b;
}

static ts_dit *open_ratio(ts_ctx *ctx, int ratio)
{
    ts_dit *dit;
    char *dir = save(ctx, ratio), text[sizeof config_text + 16];
    snprintf(text, sizeof text, config_text, ratio);
    cJSON *config = cJSON_Parse(text);
    ck_ok(ctx, ts_dit_open(ctx, &ts_dit_hunyuanvideo, config, "config.json", dir, 0, &dit));
    ck_assert_str_eq(testing_warned(ctx), "");
    cJSON_Delete(config);
    free(dir);
    return dit;
}

static ts_dit *open_golden(ts_ctx *ctx) { return open_ratio(ctx, 4); }

/* The sines of a guidance of 6000 are of angles that in f32 are 5e-4 apart: where an exponential
 * differs from the oracle's in its last bit, so does one of 128 of each. Hence not 2e-5. */
START_TEST(golden)
{
    static const double first[6] = {-0.21986, 0.27856, -0.41823, -0.43401, 1.21825, 0.10737},
                        last[2] = {0.21240, 2.47153};
    ts_ctx *ctx = testing_open(backends[_i], NULL, 0);
    ts_bag *text = text_of(REAL, true);
    /* the masked rows are not there at all */
    run r = {.dit = open_golden(ctx), .text = {text}, .slots = 1, .guidance = 6};
    testing_run(ctx, evaluate, &r);
    ck_assert_int_eq(r.rows[0], REAL);
    golden_expect("H1", r.v[0], COUNT, first, last, 0.073746, 1.264550, 1e-4);
    ts_dit_close(r.dit);
    ts_bag_free(text);
    testing_close(ctx);
}
END_TEST

/* Latents so small that the norms' epsilon counts; feed-forward layers twice as wide as the model,
 * but for the refiner's. */
START_TEST(golden_small)
{
    static const double first[6] = {-0.50898, -1.35115, -0.70915, -1.13566, -0.51642, -0.81392},
                        last[2] = {-0.20628, 0.74444};
    ts_ctx *ctx = testing_open(backends[_i], NULL, 0);
    ts_bag *text = text_of(REAL, true);
    run r = {.dit = open_ratio(ctx, 2), .text = {text}, .slots = 1, .guidance = 6, .size = 0.017};
    testing_run(ctx, evaluate, &r);
    golden_expect("H2", r.v[0], COUNT, first, last, -0.011836, 0.975273, 1e-4);
    ts_dit_close(r.dit);
    ts_bag_free(text);
    testing_close(ctx);
}
END_TEST

START_TEST(texts_of_two_lengths)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    ts_bag *text[2] = {text_of(REAL, true), text_of(3, true)};
    run both = {.dit = open_golden(ctx), .text = {text[0], text[1]}, .slots = 2, .guidance = 6};
    testing_run(ctx, evaluate, &both);
    for (int i = 0; i < 2; i++) {
        run one = {.dit = both.dit, .text = {text[i]}, .slots = 1, .guidance = 6};
        testing_run(ctx, evaluate, &one);
        double off = testing_rel(both.v[i], one.v[0], COUNT);
        ck_assert_msg(off < 1e-6, "text %d: relative error %.2e", i, off);
    }
    ts_dit_close(both.dit);
    for (int i = 0; i < 2; i++) ts_bag_free(text[i]);
    testing_close(ctx);
}
END_TEST

/* A text without the row of the second encoder. */
START_TEST(no_pooled_row)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    ts_bag *text = text_of(REAL, false);
    ts_dit_inputs in = {.text = (const ts_bag *[]){text}, .slots = 1, .guidance = 6};
    ts_dit *dit = open_golden(ctx);
    ts_grid grid = ts_grid_of(F, H / 2, W / 2);
    const float t = 875;
    size_t bytes = 1 << 20;
    ck_ok(ctx, ts_arena_open(&ctx->arena, ctx->dev, bytes));
    ck_assert_int_ne(ts_dit_prepare(dit, &grid, &in, &t, 1), TS_OK);
    ck_assert_msg(strstr(ctx->err.text, "pooled"), "%s", ctx->err.text);
    ts_arena_close(&ctx->arena);
    ts_dit_close(dit);
    ts_bag_free(text);
    testing_close(ctx);
}
END_TEST

static const struct {
    const char *config, *says;
} refused[] = {
    {"{\"rope_axes_dim\": [16, 56, 54]}",
     "\"rope_axes_dim\" adds up to 126, \"attention_head_dim\" is 128"},
    {"{\"rope_axes_dim\": [16, 55, 57]}", "\"rope_axes_dim\" has 55, expected even numbers"},
    {"{\"rope_theta\": -1}", "\"rope_theta\" is -1, must be more than 0"},
    {"{\"image_condition_type\": \"token_replace\"}", "image_condition_type"},
    {"{\"qk_norm\": \"layer_norm\"}", "qk_norm"},
    {"{\"num_layers\": 0, \"num_single_layers\": 0}", "num_layers and num_single_layers together"},
    {"{\"mlp_ratio\": 0}", "mlp_ratio"},
};
START_TEST(refused_configs)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_dit_info info;
    cJSON *j = cJSON_Parse(refused[_i].config);
    ck_assert_int_eq(ts_dit_read(ctx, &ts_dit_hunyuanvideo, j, "config.json", &info), TS_EMODEL);
    ck_assert_msg(strstr(ctx->err.text, refused[_i].says), "%s", ctx->err.text);
    cJSON_Delete(j);
    testing_close(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hunyuanvideo");
    TCase *tc = tcase_create("hunyuanvideo");
    tcase_add_loop_test(tc, golden, 0, 2);
    tcase_add_loop_test(tc, golden_small, 0, 2);
    tcase_add_test(tc, texts_of_two_lengths);
    tcase_add_test(tc, no_pooled_row);
    tcase_add_loop_test(tc, refused_configs, 0, sizeof refused / sizeof *refused);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
