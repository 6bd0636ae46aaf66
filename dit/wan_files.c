/* Wan's transformer in single files: the names that its authors give to its tensors, which ComfyUI,
 * LoRAs and GGUF files keep, and the config as the shapes tell it. The tree of modules is that of
 * diffusers' transformer_wan.py; nothing is split or reordered. */
#include "dit/wan_files.h"

#include <stdio.h>

static const ts_rename wan_heads[] = {
    {.from = "blocks.#.self_attn.", .to = "blocks.#.attn1."},
    {.from = "blocks.#.cross_attn.", .to = "blocks.#.attn2."},
    {.from = "blocks.#.norm3.", .to = "blocks.#.norm2."},
    {.from = "blocks.#.ffn.0.", .to = "blocks.#.ffn.net.0.proj."},
    {.from = "blocks.#.ffn.2.", .to = "blocks.#.ffn.net.2."},
    {.from = "blocks.#.modulation", .to = "blocks.#.scale_shift_table"},
    {.from = "head.modulation", .to = "scale_shift_table"},
    {.from = "head.head.", .to = "proj_out."},
    {.from = "time_embedding.0.", .to = "condition_embedder.time_embedder.linear_1."},
    {.from = "time_embedding.2.", .to = "condition_embedder.time_embedder.linear_2."},
    {.from = "time_projection.1.", .to = "condition_embedder.time_proj."},
    {.from = "text_embedding.0.", .to = "condition_embedder.text_embedder.linear_1."},
    {.from = "text_embedding.2.", .to = "condition_embedder.text_embedder.linear_2."},
    {.from = "img_emb.proj.0.", .to = "condition_embedder.image_embedder.norm1."},
    {.from = "img_emb.proj.1.", .to = "condition_embedder.image_embedder.ff.net.0.proj."},
    {.from = "img_emb.proj.3.", .to = "condition_embedder.image_embedder.ff.net.2."},
    {.from = "img_emb.proj.4.", .to = "condition_embedder.image_embedder.norm2."},
    {.from = "img_emb.emb_pos", .to = "condition_embedder.image_embedder.pos_embed"},
    {.from = NULL}};
static const ts_rename wan_tails[] = {{.from = "q.", .to = "to_q."},
                                      {.from = "k.", .to = "to_k."},
                                      {.from = "v.", .to = "to_v."},
                                      {.from = "o.", .to = "to_out.0."},
                                      {.from = "k_img.", .to = "add_k_proj."},
                                      {.from = "v_img.", .to = "add_v_proj."},
                                      {.from = "norm_k_img.", .to = "norm_added_k."},
                                      {.from = NULL}};
static const ts_naming wan_namings[] = {{"head.modulation", wan_heads, wan_tails}};
const ts_names ts_wan_names = {.naming = wan_namings,
                               .namings = 1,
                               .prefix = (const char *const[]){TS_TRANSFORMER_PREFIXES, NULL},
                               .unused = (const char *const[]){"freqs", "rope.", "*._extra_state",
                                                               "*.norm_q_img.weight",
                                                               TS_QUANTIZED_MARKS, NULL}};

/* ---- the config ---- */

/* A number, or null where it is 0. */
static void add_or_null(cJSON *config, const char *key, long n)
{
    if (n)
        cJSON_AddNumberToObject(config, key, (double)n);
    else
        cJSON_AddNullToObject(config, key);
}

ts_status ts_wan_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { HEAD = 128, PATCH = 4 }; /* of all that were published: channels of a head, a patch */
    const char *patch = "patch_embedding.weight", *image = "condition_embedder.image_embedder";
    char norm[64], positions[64];
    snprintf(norm, sizeof norm, "%s.norm1.weight", image);
    snprintf(positions, sizeof positions, "%s.pos_embed", image);
    int at = ts_checkpoint_find(c, patch);
    long dim = ts_checkpoint_dim(c, "scale_shift_table", 2),
         ffn = ts_checkpoint_dim(c, "blocks.0.ffn.net.0.proj.weight", 0),
         freq = ts_checkpoint_dim(c, "condition_embedder.time_embedder.linear_1.weight", 1),
         text = ts_checkpoint_dim(c, "condition_embedder.text_embedder.linear_1.weight", 1),
         out = ts_checkpoint_dim(c, "proj_out.weight", 0) / PATCH,
         layers = ts_checkpoint_blocks(c, "blocks."), in;
    if (dim == 0) dim = ts_checkpoint_dim(c, "scale_shift_table", 1); /* [2, D] */
    if (dim == 0 || ffn == 0 || freq == 0 || text == 0 || out == 0 || layers == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a Wan transformer without some of its embedders, its output or blocks",
                       c->what);
    in = at < 0 ? 0 : ts_entry_count(c->name[at].e) / (dim * PATCH);
    if (in == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: tensor \"%s\" is missing: an unfinished conversion", c->what, patch);
    cJSON_AddNumberToObject(config, "_dim", (double)dim);
    if (dim % HEAD == 0) {
        cJSON_AddNumberToObject(config, "num_attention_heads", (double)(dim / HEAD));
        cJSON_AddNumberToObject(config, "attention_head_dim", HEAD);
    }
    cJSON_AddNumberToObject(config, "num_layers", (double)layers);
    cJSON_AddNumberToObject(config, "ffn_dim", (double)ffn);
    cJSON_AddNumberToObject(config, "freq_dim", (double)freq);
    cJSON_AddNumberToObject(config, "text_dim", (double)text);
    cJSON_AddNumberToObject(config, "in_channels", (double)in);
    cJSON_AddNumberToObject(config, "out_channels", (double)out);
    add_or_null(config, "image_dim", ts_checkpoint_dim(c, norm, 0));
    add_or_null(config, "added_kv_proj_dim",
                ts_checkpoint_dim(c, "blocks.0.attn2.add_k_proj.weight", 0));
    add_or_null(config, "pos_embed_seq_len", ts_checkpoint_dim(c, positions, 1));
    return TS_OK;
}
