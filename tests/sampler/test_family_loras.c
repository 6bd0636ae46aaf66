/* LoRAs of HunyuanVideo, CogVideoX and Open-Sora-Plan in the keys that their trainers write, on
 * weights of diffusers' names: one pair on a fused layer is as many as diffusers has, each with its
 * rows of B. */
#include "dit/dit.h"
#include "tests/weights/scratch.h"
#include "weights/bag.h"
#include "weights/lora.h"
#include "weights/set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK = 3, TARGETS = 5, MOST = 1 << 14 };

typedef struct { /* rows [to, to + n) of a tensor are changed by rows [from, from + n) of B */
    const char *tensor;
    long to, from, n;
} target;
typedef struct {
    const char *module; /* as the file has it, prefix and all */
    const char *down, *up, *alpha;
    long in, out;
    target target[TARGETS];
} pair;

#define PEFT(name) name, ".lora_A.weight", ".lora_B.weight", NULL
#define KOHYA(name) name, ".lora_down.weight", ".lora_up.weight", ".alpha"
#define DUAL_Q "transformer_blocks.0.attn.to_q.weight"
#define DUAL_K "transformer_blocks.0.attn.to_k.weight"
#define DUAL_V "transformer_blocks.0.attn.to_v.weight"
#define IMG_QKV                                                        \
    32, 96,                                                            \
    {                                                                  \
        {DUAL_Q, 0, 0, 32}, {DUAL_K, 0, 32, 32}, { DUAL_V, 0, 64, 32 } \
    }
#define SINGLE(part) "single_transformer_blocks.1." part ".weight"
#define LINEAR_1                                                           \
    32, 224,                                                               \
    {                                                                      \
        {SINGLE("attn.to_q"), 0, 0, 32}, {SINGLE("attn.to_k"), 0, 32, 32}, \
            {SINGLE("attn.to_v"), 0, 64, 32},                              \
        {                                                                  \
            SINGLE("proj_mlp"), 0, 96, 128                                 \
        }                                                                  \
    }
#define ONE(in, tensor, rows)  \
    in, rows,                  \
    {                          \
        {                      \
            tensor, 0, 0, rows \
        }                      \
    }
static const pair hunyuan[] = {
    /* diffusion-pipe, musubi, ComfyUI, finetrainers */
    {PEFT("transformer.double_blocks.0.img_attn_qkv"), IMG_QKV},
    {KOHYA("lora_unet_double_blocks_0_img_attn_qkv"), IMG_QKV},
    {PEFT("diffusion_model.double_blocks.0.img_attn.qkv"), IMG_QKV},
    {PEFT("transformer.transformer_blocks.0.attn.to_q"), ONE(32, DUAL_Q, 32)},
    {KOHYA("lora_unet_double_blocks_1_txt_attn_qkv"),
     32,
     96,
     {{"transformer_blocks.1.attn.add_q_proj.weight", 0, 0, 32},
      {"transformer_blocks.1.attn.add_k_proj.weight", 0, 32, 32},
      {"transformer_blocks.1.attn.add_v_proj.weight", 0, 64, 32}}},
    {PEFT("transformer.single_blocks.1.linear1"), LINEAR_1},
    {KOHYA("lora_unet_single_blocks_1_linear1"), LINEAR_1},
    {KOHYA("lora_unet_single_blocks_1_linear2"), ONE(160, SINGLE("proj_out"), 32)},
    {KOHYA("lora_unet_double_blocks_0_img_mlp_fc1"),
     ONE(32, "transformer_blocks.0.ff.net.0.proj.weight", 128)},
    {PEFT("diffusion_model.double_blocks.0.img_mlp.0"),
     ONE(32, "transformer_blocks.0.ff.net.0.proj.weight", 128)},
    {PEFT("diffusion_model.single_blocks.1.modulation.lin"), ONE(32, SINGLE("norm.linear"), 96)},
    {KOHYA("lora_unet_txt_in_individual_token_refiner_blocks_1_self_attn_qkv"),
     32,
     96,
     {{"context_embedder.token_refiner.refiner_blocks.1.attn.to_q.weight", 0, 0, 32},
      {"context_embedder.token_refiner.refiner_blocks.1.attn.to_k.weight", 0, 32, 32},
      {"context_embedder.token_refiner.refiner_blocks.1.attn.to_v.weight", 0, 64, 32}}},
    /* shift and scale stand the other way round */
    {PEFT("diffusion_model.final_layer.adaLN_modulation.1"),
     32,
     64,
     {{"norm_out.linear.weight", 0, 32, 32}, {"norm_out.linear.weight", 32, 0, 32}}},
};
#define COG_Q "transformer_blocks.1.attn1.to_q.weight"
static const pair cogvideox[] = {
    /* diffusers, CogVideoX-Fun, PEFT, SimpleTuner */
    {PEFT("transformer.transformer_blocks.1.attn1.to_q"), ONE(32, COG_Q, 32)},
    {KOHYA("lora_unet_transformer_blocks_1_attn1_to_q"), ONE(32, COG_Q, 32)},
    {PEFT("base_model.model.transformer_blocks.1.attn1.to_q"), ONE(32, COG_Q, 32)},
    {KOHYA("lycoris_transformer_blocks_1_attn1_to_q"), ONE(32, COG_Q, 32)},
    {PEFT("transformer_blocks.1.attn1.to_q"), ONE(32, COG_Q, 32)},
    {KOHYA("lora_unet_transformer_blocks_1_ff_net_0_proj"),
     ONE(32, "transformer_blocks.1.ff.net.0.proj.weight", 128)},
    /* ComfyUI, SAT */
    {PEFT("diffusion_model.blocks.1.attn1.to_q"), ONE(32, COG_Q, 32)},
    {PEFT("model.diffusion_model.transformer.layers.1.attention.query_key_value"),
     32,
     96,
     {{COG_Q, 0, 0, 32},
      {"transformer_blocks.1.attn1.to_k.weight", 0, 32, 32},
      {"transformer_blocks.1.attn1.to_v.weight", 0, 64, 32}}},
    {PEFT("model.diffusion_model.mixins.adaln_layer.adaLN_modulations.1.1"),
     16,
     384,
     {{"transformer_blocks.1.norm1.linear.weight", 0, 0, 96},
      {"transformer_blocks.1.norm1.linear.weight", 96, 192, 96},
      {"transformer_blocks.1.norm2.linear.weight", 0, 96, 96},
      {"transformer_blocks.1.norm2.linear.weight", 96, 288, 96}}},
};
static const pair opensora[] = {
    {PEFT("transformer.transformer_blocks.1.attn2.to_k"),
     ONE(48, "transformer_blocks.1.attn2.to_k.weight", 48)},
    {KOHYA("lora_unet_transformer_blocks_1_attn2_to_k"),
     ONE(48, "transformer_blocks.1.attn2.to_k.weight", 48)},
};
static const struct {
    const char *fixture;
    const ts_dit_class *dit;
    const pair *pairs;
    int n;
} families[] = {
    {"hunyuanvideo-t2v", &ts_dit_hunyuanvideo, hunyuan, sizeof hunyuan / sizeof *hunyuan},
    {"cogvideox-2b", &ts_dit_cogvideox, cogvideox, sizeof cogvideox / sizeof *cogvideox},
    {"open-sora-plan-v1.2", &ts_dit_opensora, opensora, sizeof opensora / sizeof *opensora},
};
enum { FAMILIES = sizeof families / sizeof *families };

static void put_numbers(ts_bag *bag, const char *module, const char *end, long rows, long width,
                        float *copy)
{
    char key[256];
    snprintf(key, sizeof key, "%s%s", module, end);
    float *v = ts_bag_put(bag, key, TS_F32, 2, (long[]){rows, width}, NULL);
    for (long i = 0; i < rows * width; i++) v[i] = copy[i] = (float)sin(0.37 * (double)(i + rows));
}

static void write_pair(const char *path, const pair *p, float *a, float *b)
{
    ts_err err = {0};
    ts_bag *bag = ts_bag_new();
    char key[256];
    put_numbers(bag, p->module, p->down, RANK, p->in, a);
    put_numbers(bag, p->module, p->up, p->out, RANK, b);
    if (p->alpha) {
        snprintf(key, sizeof key, "%s%s", p->module, p->alpha);
        float *alpha = ts_bag_put(bag, key, TS_F32, 0, NULL, NULL);
        *alpha = 1.5F;
    }
    ck_assert_msg(!ts_bag_save(&err, bag, path), "%s", err.text);
    ts_bag_free(bag);
}

static long read_rows(ts_ctx *c, ts_weights *ws, const char *tensor, float *out)
{
    int at = ts_checkpoint_find(&ws->files, tensor);
    ck_assert_msg(at >= 0, "no %s", tensor);
    const ts_entry *e = ts_entry_of(ws, at);
    ck_assert(ts_entry_count(e) <= MOST);
    ck_ok(c, ts_set_rows(ws, at, 0, ts_entry_rows(e), out));
    return ts_entry_width(e);
}

/* Changed are the rows that should be, by what they should be, and no others of any tensor. */
static void expect_pair(ts_ctx *c, ts_weights *ws, const pair *p, const ts_delta *d, const float *a,
                        const float *b)
{
    static float was[MOST], got[MOST];
    double scale = p->alpha ? 1.5 / RANK : 1;
    int changed = 0, tensors = 0;
    for (int i = 0; i < TARGETS && p->target[i].tensor; i++) {
        const target *t = p->target + i;
        ck_ok(c, ts_weights_set_deltas(ws, NULL, 0));
        read_rows(c, ws, t->tensor, was);
        ck_ok(c, ts_weights_set_deltas(ws, d, 1));
        long width = read_rows(c, ws, t->tensor, got);
        ck_assert_int_eq(width, p->in);
        for (long r = 0; r < t->n; r++)
            for (long k = 0; k < width; k++) {
                double sum = was[(t->to + r) * width + k];
                for (int j = 0; j < RANK; j++)
                    sum += scale * (double)b[(t->from + r) * RANK + j] * (double)a[j * width + k];
                double off = fabs(sum - (double)got[(t->to + r) * width + k]);
                ck_assert_msg(off < 1e-5, "%s: %s [%ld, %ld] is off by %g", p->module, t->tensor,
                              t->to + r, k, off);
            }
        tensors += i == 0 || strcmp(t->tensor, p->target[i - 1].tensor) != 0;
    }
    for (int i = 0; i < ws->files.names; i++) changed += ws->item[i].changed;
    ck_assert_msg(changed == tensors, "%s: %d tensors changed, expected %d", p->module, changed,
                  tensors);
}

START_TEST(pairs_of_every_trainer)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp(), path[4096], folder[4096];
    static float a[MOST], b[MOST];
    const ts_dit_class *dit = families[_i].dit;
    snprintf(folder, sizeof folder, "%s/model/transformer", testing_fixture(families[_i].fixture));
    snprintf(path, sizeof path, "%s/a.safetensors", dir);
    for (int i = 0; i < families[_i].n; i++) {
        const pair *p = families[_i].pairs + i;
        ts_err err = {0};
        ts_weights *ws;
        ts_lora_file f;
        ts_lora_fit fit;
        ts_lora_bound *bound;
        write_pair(path, p, a, b);
        ck_ok(c, ts_weights_open(c, folder, "diffusion_pytorch_model", dit->names, &ws));
        ck_assert_msg(!ts_lora_open(&err, path, &f), "%s", err.text);
        ck_ok(c, ts_lora_bind(c, ws, dit->names, &f, 1, &bound, &fit));
        ck_assert_msg(fit.left == 0 && fit.keys == (p->alpha ? 3 : 2), "%s: %d left", p->module,
                      fit.left);
        ts_delta d = ts_lora_delta(bound);
        expect_pair(c, ws, p, &d, a, b);
        ck_ok(c, ts_weights_set_deltas(ws, NULL, 0));
        ts_lora_release(bound);
        ts_lora_close(&f);
        ts_weights_close(ws);
    }
    free(dir);
    testing_close(c);
}
END_TEST

/* Of another width, or of rows that the parts of a fused layer do not share. */
START_TEST(pairs_that_do_not_fit)
{
    static const struct {
        pair p;
        const char *says[2];
    } row[] = {
        {{PEFT("transformer.double_blocks.0.img_attn_qkv"), 48, 144, {{NULL, 0, 0, 0}}},
         {"[3, 48]", "a LoRA of another model"}},
        {{PEFT("transformer.double_blocks.0.img_attn_qkv"), 32, 95, {{NULL, 0, 0, 0}}},
         {"[95, 3]", "a LoRA of another model"}},
        {{PEFT("transformer.single_blocks.0.linear1"), 32, 256, {{NULL, 0, 0, 0}}},
         {"[256, 3]", "a LoRA of another model"}},
    };
    static float a[MOST], b[MOST];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_ctx *c = testing_open("cpu", NULL, 1);
        char *dir = testing_tmp(), path[4096], folder[4096];
        ts_err err = {0};
        ts_weights *ws;
        ts_lora_file f;
        ts_lora_fit fit;
        ts_lora_bound *bound;
        snprintf(folder, sizeof folder, "%s/model/transformer",
                 testing_fixture(families[0].fixture));
        snprintf(path, sizeof path, "%s/a.safetensors", dir);
        write_pair(path, &row[i].p, a, b);
        ck_ok(c, ts_weights_open(c, folder, "diffusion_pytorch_model", ts_dit_hunyuanvideo.names,
                                 &ws));
        ck_assert_msg(!ts_lora_open(&err, path, &f), "%s", err.text);
        scratch_expect(&c->err, ts_lora_bind(c, ws, ts_dit_hunyuanvideo.names, &f, 1, &bound, &fit),
                       TS_EMODEL, row[i].says[0], row[i].says[1], NULL);
        ts_lora_close(&f);
        ts_weights_close(ws);
        free(dir);
        testing_close(c);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("family LoRAs");
    TCase *tc = tcase_create("family LoRAs");
    tcase_add_loop_test(tc, pairs_of_every_trainer, 0, FAMILIES);
    tcase_add_test(tc, pairs_that_do_not_fit);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
