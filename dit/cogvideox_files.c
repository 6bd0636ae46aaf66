/* CogVideoX' transformer in single files: the names of its authors' program (SAT), with queries,
 * keys and values of a layer in one tensor, and both modulations of a block in another, in twelve
 * parts: video's three of the first, of the second, text's three of the first, of the second; the
 * names of ComfyUI, which are diffusers' but for one word; and the config as the shapes tell it. */
#include "dit/cogvideox_files.h"

#define BLOCK "transformer_blocks.#."
#define LAYER "transformer.layers.#."
#define ADALN "mixins.adaln_layer."
static const ts_rename heads_of_sat[] = {
    {LAYER "attention.query_key_value.", BLOCK "attn1.to_q.", {3, 0, 1, 0}},
    {LAYER "attention.query_key_value.", BLOCK "attn1.to_k.", {3, 1, 1, 0}},
    {LAYER "attention.query_key_value.", BLOCK "attn1.to_v.", {3, 2, 1, 0}},
    {.from = LAYER "attention.dense.", .to = BLOCK "attn1.to_out.0."},
    {.from = LAYER "mlp.dense_h_to_4h.", .to = BLOCK "ff.net.0.proj."},
    {.from = LAYER "mlp.dense_4h_to_h.", .to = BLOCK "ff.net.2."},
    {.from = LAYER "input_layernorm.", .to = BLOCK "norm1.norm."},
    {.from = LAYER "post_attention_layernorm.", .to = BLOCK "norm2.norm."},
    {.from = LAYER "post_attn1_layernorm.", .to = BLOCK "norm2.norm."},
    {ADALN "adaLN_modulations.#.1.", BLOCK "norm1.linear.", {12, 0, 3, 6 + 1}},
    {ADALN "adaLN_modulations.#.1.", BLOCK "norm2.linear.", {12, 3, 3, 9 + 1}},
    {.from = ADALN "query_layernorm_list.#.", .to = BLOCK "attn1.norm_q."},
    {.from = ADALN "key_layernorm_list.#.", .to = BLOCK "attn1.norm_k."},
    {.from = "transformer.final_layernorm.", .to = "norm_final."},
    {.from = "time_embed.0.", .to = "time_embedding.linear_1."},
    {.from = "time_embed.2.", .to = "time_embedding.linear_2."},
    {.from = "ofs_embed.0.", .to = "ofs_embedding.linear_1."},
    {.from = "ofs_embed.2.", .to = "ofs_embedding.linear_2."},
    {.from = "mixins.patch_embed.", .to = "patch_embed."},
    {.from = "mixins.pos_embed.pos_embedding", .to = "patch_embed.pos_embedding"},
    {.from = "mixins.final_layer.norm_final.", .to = "norm_out.norm."},
    {.from = "mixins.final_layer.linear.", .to = "proj_out."},
    {.from = "mixins.final_layer.adaLN_modulation.1.", .to = "norm_out.linear."},
    {.from = NULL}};
static const ts_rename heads_of_blocks[] = {{.from = "blocks.#.", .to = BLOCK}, {.from = NULL}};
static const ts_naming cogvideox_namings[] = {
    {"mixins.patch_embed.proj.weight", heads_of_sat, NULL},
    {"blocks.0.norm1.linear.weight", heads_of_blocks, NULL}};
const ts_names ts_cogvideox_names = {
    .naming = cogvideox_namings,
    .namings = 2,
    /* "transformer." begins names of SAT's own */
    .prefix = (const char *const[]){"model.diffusion_model.", "diffusion_model.", "model.model.",
                                    "net.", NULL},
    /* turns of SAT are tables that are made here */
    .unused = (const char *const[]){"mixins.pos_embed.freqs_", "transformer.word_embeddings.",
                                    "transformer.position_embeddings.", TS_QUANTIZED_MARKS, NULL}};

/* ---- the config ---- */

ts_status ts_cogvideox_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { PATCH = 4, DEEP = 2 }; /* of all that were published: a patch, latent frames in it */
    enum { SMALL = 1920, LARGE = 3072 }; /* 2B adds positions, 5B turns by them */
    static const char patch[] = "patch_embed.proj.weight";
    int at = ts_checkpoint_find(c, patch);
    bool deep = at >= 0 && c->name[at].e->t.nd == 2;
    long dim = ts_checkpoint_dim(c, "transformer_blocks.0.norm1.linear.weight", 0) / 6,
         time = ts_checkpoint_dim(c, "transformer_blocks.0.norm1.linear.weight", 1),
         head = ts_checkpoint_dim(c, "transformer_blocks.0.attn1.norm_q.weight", 0),
         text = ts_checkpoint_dim(c, "patch_embed.text_proj.weight", 1),
         rows = ts_checkpoint_dim(c, "proj_out.weight", 0) / (deep ? PATCH * DEEP : PATCH),
         layers = ts_checkpoint_blocks(c, "transformer_blocks."),
         ofs = ts_checkpoint_dim(c, "ofs_embedding.linear_1.weight", 0);
    /* of 2B the table is of sines, of 5B-I2V it was learned */
    bool learned = dim != SMALL && ts_checkpoint_find(c, "patch_embed.pos_embedding") >= 0;
    if (dim == 0 || time == 0 || head == 0 || dim % head || text == 0 || rows == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a CogVideoX transformer without some of its embedders, its output or "
                       "its first block",
                       c->what);
    long in = at < 0 ? 0 : ts_entry_count(c->name[at].e) / (dim * (deep ? PATCH * DEEP : PATCH));
    if (in == 0)
        return ts_fail(&ctx->err, TS_EMODEL, "%s: tensor \"%s\" is missing", c->what, patch);
    cJSON_AddNumberToObject(config, "_dim", (double)dim);
    cJSON_AddNumberToObject(config, "num_attention_heads", (double)(dim / head));
    cJSON_AddNumberToObject(config, "attention_head_dim", (double)head);
    cJSON_AddNumberToObject(config, "num_layers", (double)layers);
    cJSON_AddNumberToObject(config, "time_embed_dim", (double)time);
    cJSON_AddNumberToObject(config, "text_embed_dim", (double)text);
    cJSON_AddNumberToObject(config, "in_channels", (double)in);
    cJSON_AddNumberToObject(config, "out_channels", (double)rows);
    if (deep)
        cJSON_AddNumberToObject(config, "patch_size_t", DEEP);
    else
        cJSON_AddNullToObject(config, "patch_size_t");
    if (ofs) cJSON_AddNumberToObject(config, "ofs_embed_dim", (double)ofs);
    if (learned) cJSON_AddBoolToObject(config, "use_learned_positional_embeddings", true);
    if (deep || learned || dim == LARGE || dim == SMALL)
        cJSON_AddBoolToObject(config, "use_rotary_positional_embeddings", dim != SMALL);
    else
        cJSON_AddStringToObject(config, TS_UNTOLD, "whether positions are added or turned by");
    return TS_OK;
}
