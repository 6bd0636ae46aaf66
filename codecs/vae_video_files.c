/* VAEs of causal convolutions in single files. HunyuanVideo's authors and CogVideoX' in diffusers
 * name their tensors alike, Open-Sora-Plan's as latent diffusion did, and so does ComfyUI those of
 * HunyuanVideo: levels of the decoder counted from the full size, attention as convolutions. */
#include "codecs/vae_video_files.h"

#include <stdio.h>

enum { LEVELS = 8 };

static const ts_rename heads_of_ldm[] = {
    {.from = "encoder.down.#.block.#.", .to = "encoder.down_blocks.#.resnets.#."},
    {.from = "encoder.down.#.downsample.", .to = "encoder.down_blocks.#.downsamplers.0."},
    {.from = "encoder.mid.block_1.", .to = "encoder.mid_block.resnets.0."},
    {.from = "encoder.mid.attn_1.", .to = "encoder.mid_block.attentions.0."},
    {.from = "encoder.mid.block_2.", .to = "encoder.mid_block.resnets.1."},
    {.from = "encoder.norm_out.", .to = "encoder.conv_norm_out."},
    {.from = "decoder.up.3.block.#.", .to = "decoder.up_blocks.0.resnets.#."},
    {.from = "decoder.up.3.upsample.", .to = "decoder.up_blocks.0.upsamplers.0."},
    {.from = "decoder.up.2.block.#.", .to = "decoder.up_blocks.1.resnets.#."},
    {.from = "decoder.up.2.upsample.", .to = "decoder.up_blocks.1.upsamplers.0."},
    {.from = "decoder.up.1.block.#.", .to = "decoder.up_blocks.2.resnets.#."},
    {.from = "decoder.up.1.upsample.", .to = "decoder.up_blocks.2.upsamplers.0."},
    {.from = "decoder.up.0.block.#.", .to = "decoder.up_blocks.3.resnets.#."},
    {.from = "decoder.mid.block_1.", .to = "decoder.mid_block.resnets.0."},
    {.from = "decoder.mid.attn_1.", .to = "decoder.mid_block.attentions.0."},
    {.from = "decoder.mid.block_2.", .to = "decoder.mid_block.resnets.1."},
    {.from = "decoder.norm_out.", .to = "decoder.conv_norm_out."},
    {.from = NULL}};
static const ts_rename tails_of_ldm[] = {{.from = "nin_shortcut.", .to = "conv_shortcut."},
                                         {.from = "norm.", .to = "group_norm."},
                                         {.from = "q.", .to = "to_q."},
                                         {.from = "k.", .to = "to_k."},
                                         {.from = "v.", .to = "to_v."},
                                         {.from = "proj_out.", .to = "to_out.0."},
                                         {.from = NULL}};
static const ts_naming hunyuan_vae_namings[] = {
    {"decoder.mid.attn_1.q.weight", heads_of_ldm, tails_of_ldm}};
#define VAE_PREFIXES \
    .prefix = (const char *const[]) { "first_stage_model.", "vae.", NULL }
const ts_names ts_vae_hunyuanvideo_names = {
    .naming = hunyuan_vae_namings, .namings = 1, VAE_PREFIXES};
const ts_names ts_vae_cogvideox_names = {VAE_PREFIXES};
const ts_names ts_vae_causal_names = {VAE_PREFIXES, .unused = (const char *const[]){"loss.", NULL}};

/* ---- configs ---- */

/* Rows of the first convolution of a level; 0: there is no such level. */
static long width_of_level(const ts_checkpoint *c, const char *format, int level)
{
    char name[96];
    snprintf(name, sizeof name, format, level);
    return ts_checkpoint_dim(c, name, 0);
}

static ts_status refuse_parts(ts_ctx *ctx, const ts_checkpoint *c, const char *whose)
{
    return ts_fail(&ctx->err, TS_EMODEL,
                   "%s: a VAE of %s without its first convolution or its levels", c->what, whose);
}

/* What the two that diffusers has share; groups: of the norms of all that were published. */
static ts_status infer_levels(ts_ctx *ctx, const ts_checkpoint *c, const char *whose, cJSON *config)
{
    enum { GROUPS = 32 };
    int width[LEVELS];
    bool groups = true;
    long z = ts_checkpoint_dim(c, "decoder.conv_in.conv.weight", 1),
         levels = ts_checkpoint_blocks(c, "decoder.up_blocks."),
         residuals = ts_checkpoint_blocks(c, "decoder.up_blocks.0.resnets.");
    if (z == 0 || levels < 1 || levels > LEVELS || residuals < 2)
        return refuse_parts(ctx, c, whose);
    for (int i = 0; i < levels; i++) {
        long w = width_of_level(c, "decoder.up_blocks.%d.resnets.0.conv1.conv.weight", i);
        if (w == 0) return refuse_parts(ctx, c, whose);
        width[levels - 1 - i] = (int)w;
        groups = groups && w % GROUPS == 0;
    }
    cJSON_AddNumberToObject(config, "latent_channels", (double)z);
    cJSON_AddItemToObject(config, "block_out_channels", cJSON_CreateIntArray(width, (int)levels));
    cJSON_AddNumberToObject(config, "layers_per_block", (double)(residuals - 1));
    if (!groups)
        cJSON_AddStringToObject(config, TS_UNTOLD, "how many groups of channels its norms have");
    return TS_OK;
}

ts_status ts_vae_hunyuanvideo_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    bool attention = ts_checkpoint_find(c, "decoder.mid_block.attentions.0.to_q.weight") >= 0;
    cJSON_AddBoolToObject(config, "mid_block_add_attention", attention);
    return infer_levels(ctx, c, "HunyuanVideo", config);
}

ts_status ts_vae_cogvideox_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    return infer_levels(ctx, c, "CogVideoX", config);
}

ts_status ts_vae_causal_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { GROUPS = 32 };
    static const char *const kinds[] = {"", "SpatialUpsample2x", "Spatial2xTime2x3DUpsample"};
    long z = ts_checkpoint_dim(c, "decoder.conv_in.conv.weight", 1),
         levels = ts_checkpoint_blocks(c, "decoder.up."),
         residuals = ts_checkpoint_blocks(c, "decoder.up.0.block."),
         base = width_of_level(c, "decoder.up.%d.block.0.conv1.conv.weight", 0);
    int times[LEVELS];
    const char *up[LEVELS];
    if (z == 0 || levels < 1 || levels > LEVELS || residuals < 2 || base == 0)
        return refuse_parts(ctx, c, "Open-Sora-Plan");
    for (int i = 0; i < levels; i++) {
        char name[96];
        long w = width_of_level(c, "decoder.up.%d.block.0.conv1.conv.weight", i);
        if (w == 0 || w % base) return refuse_parts(ctx, c, "Open-Sora-Plan");
        times[i] = (int)(w / base);
        snprintf(name, sizeof name, "decoder.up.%d.upsample.conv.conv.weight", i);
        long deep = ts_checkpoint_dim(c, name, 2);
        up[i] = kinds[deep == 0 ? 0 : deep == 1 ? 1 : 2];
    }
    cJSON_AddNumberToObject(config, "z_channels", (double)z);
    cJSON_AddNumberToObject(config, "embed_dim", (double)z);
    cJSON_AddNumberToObject(config, "hidden_size", (double)base);
    cJSON_AddItemToObject(config, "hidden_size_mult", cJSON_CreateIntArray(times, (int)levels));
    cJSON_AddNumberToObject(config, "num_res_blocks", (double)(residuals - 1));
    cJSON_AddItemToObject(config, "decoder_spatial_upsample",
                          cJSON_CreateStringArray(up, (int)levels));
    if (base % GROUPS)
        cJSON_AddStringToObject(config, TS_UNTOLD, "how many groups of channels its norms have");
    return TS_OK;
}
