/* Wan's VAEs in single files: the names that its authors give to their tensors, which ComfyUI
 * keeps, and the config as the shapes tell it. The 2.1 kind has one flat list of layers a side,
 * the 2.2 kind a list of lists, of two residual blocks a level in the encoder and three in the
 * decoder. */
#include "codecs/vae_wan_files.h"

#include <stdio.h>

/* what both kinds have */
#define ENDS                                                                    \
    {.from = "encoder.conv1.", .to = "encoder.conv_in."},                       \
        {.from = "encoder.middle.0.", .to = "encoder.mid_block.resnets.0."},    \
        {.from = "encoder.middle.1.", .to = "encoder.mid_block.attentions.0."}, \
        {.from = "encoder.middle.2.", .to = "encoder.mid_block.resnets.1."},    \
        {.from = "encoder.head.0.", .to = "encoder.norm_out."},                 \
        {.from = "encoder.head.2.", .to = "encoder.conv_out."},                 \
        {.from = "decoder.conv1.", .to = "decoder.conv_in."},                   \
        {.from = "decoder.middle.0.", .to = "decoder.mid_block.resnets.0."},    \
        {.from = "decoder.middle.1.", .to = "decoder.mid_block.attentions.0."}, \
        {.from = "decoder.middle.2.", .to = "decoder.mid_block.resnets.1."},    \
        {.from = "decoder.head.0.", .to = "decoder.norm_out."},                 \
        {.from = "decoder.head.2.", .to = "decoder.conv_out."},                 \
        {.from = "conv1.", .to = "quant_conv."},                                \
    {                                                                           \
        .from = "conv2.", .to = "post_quant_conv."                              \
    }

static const ts_rename heads_of_21[] = {
    ENDS,
    {.from = "encoder.downsamples.#.", .to = "encoder.down_blocks.#."},
    {.from = "decoder.upsamples.0.", .to = "decoder.up_blocks.0.resnets.0."},
    {.from = "decoder.upsamples.1.", .to = "decoder.up_blocks.0.resnets.1."},
    {.from = "decoder.upsamples.2.", .to = "decoder.up_blocks.0.resnets.2."},
    {.from = "decoder.upsamples.3.", .to = "decoder.up_blocks.0.upsamplers.0."},
    {.from = "decoder.upsamples.4.", .to = "decoder.up_blocks.1.resnets.0."},
    {.from = "decoder.upsamples.5.", .to = "decoder.up_blocks.1.resnets.1."},
    {.from = "decoder.upsamples.6.", .to = "decoder.up_blocks.1.resnets.2."},
    {.from = "decoder.upsamples.7.", .to = "decoder.up_blocks.1.upsamplers.0."},
    {.from = "decoder.upsamples.8.", .to = "decoder.up_blocks.2.resnets.0."},
    {.from = "decoder.upsamples.9.", .to = "decoder.up_blocks.2.resnets.1."},
    {.from = "decoder.upsamples.10.", .to = "decoder.up_blocks.2.resnets.2."},
    {.from = "decoder.upsamples.11.", .to = "decoder.up_blocks.2.upsamplers.0."},
    {.from = "decoder.upsamples.12.", .to = "decoder.up_blocks.3.resnets.0."},
    {.from = "decoder.upsamples.13.", .to = "decoder.up_blocks.3.resnets.1."},
    {.from = "decoder.upsamples.14.", .to = "decoder.up_blocks.3.resnets.2."},
    {.from = NULL}};
static const ts_rename heads_of_22[] = {
    ENDS,
    {.from = "encoder.downsamples.#.downsamples.0.", .to = "encoder.down_blocks.#.resnets.0."},
    {.from = "encoder.downsamples.#.downsamples.1.", .to = "encoder.down_blocks.#.resnets.1."},
    {.from = "encoder.downsamples.#.downsamples.2.", .to = "encoder.down_blocks.#.downsampler."},
    {.from = "decoder.upsamples.#.upsamples.0.", .to = "decoder.up_blocks.#.resnets.0."},
    {.from = "decoder.upsamples.#.upsamples.1.", .to = "decoder.up_blocks.#.resnets.1."},
    {.from = "decoder.upsamples.#.upsamples.2.", .to = "decoder.up_blocks.#.resnets.2."},
    {.from = "decoder.upsamples.#.upsamples.3.", .to = "decoder.up_blocks.#.upsampler."},
    {.from = NULL}};
static const ts_rename wan_vae_tails[] = {
    {.from = "residual.0.", .to = "norm1."},       {.from = "residual.2.", .to = "conv1."},
    {.from = "residual.3.", .to = "norm2."},       {.from = "residual.6.", .to = "conv2."},
    {.from = "shortcut.", .to = "conv_shortcut."}, {.from = NULL}};
/* the 2.2 kind first: it has the tensor that tells the 2.1 kind, too */
static const ts_naming wan_vae_namings[] = {
    {"decoder.upsamples.0.upsamples.0.residual.0.gamma", heads_of_22, wan_vae_tails},
    {"decoder.middle.0.residual.0.gamma", heads_of_21, wan_vae_tails}};
const ts_names ts_vae_wan_names = {
    .naming = wan_vae_namings,
    .namings = 2,
    .prefix = (const char *const[]){"first_stage_model.", "vae.", NULL},
    .unused = (const char *const[]){"*._extra_state", NULL}};

/* ---- the config ---- */

static void add_statistic_list(cJSON *config, const char *key, const double *v, int n)
{
    cJSON_AddItemToObject(config, key, cJSON_CreateDoubleArray(v, n));
}

/* Of the VAEs of Wan 2.1 and 2.2: the configs of their diffusers directories. */
static void add_statistics(cJSON *config, long z)
{
    static const double mean_16[] = {-0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653,
                                     -0.1517, 1.5508,  0.4134,  -0.0715, 0.5517,  -0.3632,
                                     -0.1922, -0.9497, 0.2503,  -0.2921},
                        std_16[] = {2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                                    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160},
                        mean_48[] = {-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174,  0.1838,
                                     0.1557,  -0.1382, 0.0542,  0.2813,  0.0891,  0.1570,  -0.0098,
                                     0.0375,  -0.1825, -0.2246, -0.1207, -0.0698, 0.5109,  0.2665,
                                     -0.2108, -0.2158, 0.2502,  -0.2055, -0.0322, 0.1109,  0.1567,
                                     -0.0729, 0.0899,  -0.2799, -0.1230, -0.0313, -0.1649, 0.0117,
                                     0.0723,  -0.2839, -0.2083, -0.0520, 0.3748,  0.0152,  0.1957,
                                     0.1433,  -0.2944, 0.3573,  -0.0548, -0.1681, -0.0667},
                        std_48[] = {0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
                                    0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
                                    0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
                                    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
                                    0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
                                    0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744};
    if (z != 16 && z != 48) return;
    add_statistic_list(config, "latents_mean", z == 16 ? mean_16 : mean_48, (int)z);
    add_statistic_list(config, "latents_std", z == 16 ? std_16 : std_48, (int)z);
}

/* Does the encoder halve time behind a level? */
static bool halves_time(const ts_checkpoint *c, int level, bool residual)
{
    char name[96];
    if (residual)
        snprintf(name, sizeof name, "encoder.down_blocks.%d.downsampler.time_conv.weight", level);
    else
        snprintf(name, sizeof name, "encoder.down_blocks.%d.time_conv.weight", 3 * level + 2);
    return ts_checkpoint_find(c, name) >= 0;
}

ts_status ts_vae_wan_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { LEVELS = 4, WIDEST = 4 }; /* of both: widths of 1, 2, 4 and 4 times the base */
    bool residual = ts_checkpoint_find(c, "decoder.up_blocks.0.upsampler.resample.1.weight") >= 0;
    long z = ts_checkpoint_dim(c, "decoder.conv_in.weight", 1),
         wide = ts_checkpoint_dim(c, "decoder.conv_in.weight", 0),
         base = ts_checkpoint_dim(c, "encoder.conv_in.weight", 0),
         in = ts_checkpoint_dim(c, "encoder.conv_in.weight", 1);
    if (z == 0 || wide == 0 || base == 0 || wide % WIDEST || (in != 3 && in != 12))
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a Wan VAE without its first convolutions, or of no known shape",
                       c->what);
    cJSON_AddNumberToObject(config, "z_dim", (double)z);
    cJSON_AddNumberToObject(config, "base_dim", (double)base);
    cJSON_AddNumberToObject(config, "decoder_base_dim", (double)(wide / WIDEST));
    cJSON_AddBoolToObject(config, "is_residual", residual);
    cJSON_AddNumberToObject(config, "in_channels", (double)in);
    cJSON_AddNumberToObject(config, "out_channels", (double)in);
    cJSON_AddNumberToObject(config, "patch_size", in == 12 ? 2 : 1);
    cJSON *time = cJSON_AddArrayToObject(config, "temperal_downsample");
    for (int i = 0; i < LEVELS - 1; i++)
        cJSON_AddItemToArray(time, cJSON_CreateBool(halves_time(c, i, residual)));
    add_statistics(config, z);
    return TS_OK;
}
