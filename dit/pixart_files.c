/* PixArt's transformer in single files: the names that its authors give to its tensors, with
 * queries, keys and values of a layer in one, and what shapes tell of the config: not the size that
 * it was trained at, nor how positions are scaled, so a directory has to stand beside it. */
#include "dit/pixart_files.h"

static const ts_rename pixart_heads[] = {
    {.from = "x_embedder.proj.", .to = "pos_embed.proj."},
    {.from = "y_embedder.y_proj.fc1.", .to = "caption_projection.linear_1."},
    {.from = "y_embedder.y_proj.fc2.", .to = "caption_projection.linear_2."},
    {.from = "t_embedder.mlp.0.", .to = "adaln_single.emb.timestep_embedder.linear_1."},
    {.from = "t_embedder.mlp.2.", .to = "adaln_single.emb.timestep_embedder.linear_2."},
    {.from = "csize_embedder.mlp.0.", .to = "adaln_single.emb.resolution_embedder.linear_1."},
    {.from = "csize_embedder.mlp.2.", .to = "adaln_single.emb.resolution_embedder.linear_2."},
    {.from = "ar_embedder.mlp.0.", .to = "adaln_single.emb.aspect_ratio_embedder.linear_1."},
    {.from = "ar_embedder.mlp.2.", .to = "adaln_single.emb.aspect_ratio_embedder.linear_2."},
    {.from = "t_block.1.", .to = "adaln_single.linear."},
    {.from = "final_layer.linear.", .to = "proj_out."},
    {.from = "final_layer.scale_shift_table", .to = "scale_shift_table"},
    {.from = "blocks.#.scale_shift_table", .to = "transformer_blocks.#.scale_shift_table"},
    {.from = "blocks.#.attn.qkv.", .to = "transformer_blocks.#.attn1.to_q.", .cut = {3, 0, 1, 0}},
    {.from = "blocks.#.attn.qkv.", .to = "transformer_blocks.#.attn1.to_k.", .cut = {3, 1, 1, 0}},
    {.from = "blocks.#.attn.qkv.", .to = "transformer_blocks.#.attn1.to_v.", .cut = {3, 2, 1, 0}},
    {.from = "blocks.#.attn.proj.", .to = "transformer_blocks.#.attn1.to_out.0."},
    {.from = "blocks.#.cross_attn.q_linear.", .to = "transformer_blocks.#.attn2.to_q."},
    {.from = "blocks.#.cross_attn.kv_linear.",
     .to = "transformer_blocks.#.attn2.to_k.",
     .cut = {2, 0, 1, 0}},
    {.from = "blocks.#.cross_attn.kv_linear.",
     .to = "transformer_blocks.#.attn2.to_v.",
     .cut = {2, 1, 1, 0}},
    {.from = "blocks.#.cross_attn.proj.", .to = "transformer_blocks.#.attn2.to_out.0."},
    {.from = "blocks.#.mlp.fc1.", .to = "transformer_blocks.#.ff.net.0.proj."},
    {.from = "blocks.#.mlp.fc2.", .to = "transformer_blocks.#.ff.net.2."},
    {.from = NULL}};
static const ts_naming pixart_namings[] = {{"t_block.1.weight", pixart_heads, NULL}};
const ts_names ts_pixart_names = {
    .naming = pixart_namings,
    .namings = 1,
    .prefix = (const char *const[]){TS_TRANSFORMER_PREFIXES, NULL},
    /* positions are computed, and the text of no text is the encoder's */
    .unused = (const char *const[]){"y_embedder.y_embedding", "=pos_embed", TS_QUANTIZED_MARKS,
                                    NULL}};

ts_status ts_pixart_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    long dim = ts_checkpoint_dim(c, "scale_shift_table", 1),
         layers = ts_checkpoint_blocks(c, "transformer_blocks."),
         caption = ts_checkpoint_dim(c, "caption_projection.linear_1.weight", 1),
         in = ts_checkpoint_dim(c, "pos_embed.proj.weight", 1);
    if (dim == 0 || layers == 0 || caption == 0 || in == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a PixArt transformer without some of its embedders or blocks", c->what);
    cJSON_AddNumberToObject(config, "_dim", (double)dim);
    cJSON_AddNumberToObject(config, "num_layers", (double)layers);
    cJSON_AddNumberToObject(config, "caption_channels", (double)caption);
    cJSON_AddNumberToObject(config, "in_channels", (double)in);
    cJSON_AddStringToObject(config, TS_UNTOLD, "the size that it was trained at");
    return TS_OK;
}
