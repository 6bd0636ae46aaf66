/* Open-Sora-Plan's transformer in single files, which have diffusers' names; what shapes tell of
 * its config: not the size and length that it was trained at, by which its positions are scaled, so
 * a directory has to stand beside it. */
#include "dit/opensora_files.h"

const ts_names ts_opensora_names = {
    .prefix = (const char *const[]){TS_TRANSFORMER_PREFIXES, "module.", NULL},
    .unused = (const char *const[]){TS_QUANTIZED_MARKS, NULL}};

ts_status ts_opensora_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { PATCH = 4 }; /* of all that were published */
    long dim = ts_checkpoint_dim(c, "scale_shift_table", 1),
         cross = ts_checkpoint_dim(c, "transformer_blocks.0.attn2.to_k.weight", 1),
         layers = ts_checkpoint_blocks(c, "transformer_blocks."),
         caption = ts_checkpoint_dim(c, "caption_projection.linear_1.weight", 1),
         in = ts_checkpoint_dim(c, "pos_embed.proj.weight", 1),
         out = ts_checkpoint_dim(c, "proj_out.weight", 0) / PATCH;
    if (dim == 0 || cross == 0 || layers == 0 || caption == 0 || in == 0 || out == 0)
        return ts_fail(
            &ctx->err, TS_EMODEL,
            "%s: an Open-Sora-Plan transformer without some of its embedders, its output "
            "or its first block",
            c->what);
    cJSON_AddNumberToObject(config, "_dim", (double)dim);
    cJSON_AddNumberToObject(config, "num_layers", (double)layers);
    cJSON_AddNumberToObject(config, "cross_attention_dim", (double)cross);
    cJSON_AddNumberToObject(config, "caption_channels", (double)caption);
    cJSON_AddNumberToObject(config, "in_channels", (double)in);
    cJSON_AddNumberToObject(config, "out_channels", (double)out);
    cJSON_AddStringToObject(config, TS_UNTOLD, "the size and length that it was trained at");
    return TS_OK;
}
