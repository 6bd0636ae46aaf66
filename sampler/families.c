/* The table of pipelines. Sources of the settings: the model cards of the Wan 2.1 and 2.2
 * repositories and diffusers' pipeline_wan.py, pipeline_wan_i2v.py,
 * pipeline_pixart_alpha.py, pipeline_pixart_sigma.py, pipeline_hunyuan_video.py,
 * pipeline_cogvideox.py and pipeline_cogvideox_image2video.py. */
#include "sampler/families.h"

#include <stdio.h>
#include <string.h>

/* The negative prompt that the authors of Wan ship as their own default; users paste it into nearly
 * every command. */
#define WAN_NEGATIVE                                                                             \
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，"          \
    "画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"   \
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，" \
    "畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，"    \
    "杂乱的背景，三条腿，背景人很多，倒着走"
static const char wan_negative[] = WAN_NEGATIVE;
/* Of clips made of an image they also ship: no shaking camera. */
static const char wan_image_negative[] = "镜头晃动，" WAN_NEGATIVE;
#define WAN                                                       \
    .dit = &ts_dit_wan, .vae = &ts_vae_wan,                       \
    .text = {{.component = "text_encoder",                        \
              .tokenizer = "tokenizer",                           \
              .encoders = {"UMT5EncoderModel", "T5EncoderModel"}, \
              .clean = ts_clean_prompt,                           \
              .max = 512}}
#define WAN_IMAGE WAN, .pipeline = "WanImageToVideoPipeline", .needs_image = true
#define PIXART(ids)                                                                \
    .dit = &ts_dit_pixart, .vae = &ts_vae_kl, .pictures = true, .diffusion = true, \
    .variance = true, .bins = true,                                                \
    .text = {{.component = "text_encoder",                                         \
              .tokenizer = "tokenizer",                                            \
              .encoders = {"T5EncoderModel"},                                      \
              .clean = ts_clean_caption,                                           \
              .max = (ids)}},                                                      \
    .def = {0, 0, 1, 20, 1, 1, 4.5, 4.5, ""}
/* The negative prompt of Open-Sora-Plan's sampling script. */
static const char opensora_negative[] =
    "nsfw, lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer "
    "digits, "
    "cropped, worst quality, low quality, normal quality, jpeg artifacts, signature, watermark, "
    "username, blurry.";

static const ts_defaults cogvideox_deep = {.width = 1360,
                                           .height = 768,
                                           .frames = 81,
                                           .steps = 50,
                                           .scale = 1,
                                           .fps = 16,
                                           .guidance = 6,
                                           .guidance_2 = 6,
                                           .negative = ""};

#define COGVIDEOX                                                                                \
    .dit = &ts_dit_cogvideox, .vae = &ts_vae_cogvideox, .diffusion = true, .pads_latents = true, \
    .dynamic_guidance = true,                                                                    \
    .text = {{.component = "text_encoder",                                                       \
              .tokenizer = "tokenizer",                                                          \
              .encoders = {"T5EncoderModel"},                                                    \
              .clean = ts_keep_prompt,                                                           \
              .max = 226,                                                                        \
              .pad = true}},                                                                     \
    .def = {720, 480, 49, 50, 1, 8, 6, 6, ""}, .def_deep = &cogvideox_deep

/* 95 tokens, which are not handed on: the begin token and what stands before the prompt. */
#define HUNYUAN_BEFORE                                                                             \
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following " \
    "aspects: 1. The main content and theme of the video.2. The color, shape, size, texture, "     \
    "quantity, text, and spatial relationships of the objects.3. Actions, events, behaviors "      \
    "temporal relationships, physical movement changes of the objects.4. background "              \
    "environment, light, style and atmosphere.5. camera angles, movements, and transitions used "  \
    "in the video:<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"

static const ts_family rows[] = {
    /* 2.1 T2V 1.3B, 14B */
    {WAN, .pipeline = "WanPipeline", .def = {832, 480, 81, 50, 1, 16, 5, 5, wan_negative}},
    /* 2.2 T2V-A14B */
    {WAN, .pipeline = "WanPipeline", .experts = true,
     .def = {832, 480, 81, 40, 1, 16, 4, 3, wan_negative}},
    /* 2.2 TI2V-5B */
    {WAN, .pipeline = "WanPipeline", .per_token = true, .image = TS_IMAGE_KEPT,
     .def = {1280, 704, 121, 50, 1, 24, 5, 5, wan_negative}},
    /* 2.1 I2V and FLF2V 14B */
    {WAN_IMAGE, .image = TS_IMAGE_BESIDE,
     .def = {832, 480, 81, 50, 1, 16, 5, 5, wan_image_negative}},
    /* 2.2 I2V-A14B */
    {WAN_IMAGE, .experts = true, .image = TS_IMAGE_BESIDE,
     .def = {832, 480, 81, 40, 1, 16, 3.5, 3.5, wan_image_negative}},
    /* 2.2 TI2V-5B, saved as a pipeline of images */
    {WAN_IMAGE, .per_token = true, .image = TS_IMAGE_KEPT,
     .def = {1280, 704, 121, 50, 1, 24, 5, 5, wan_negative}},
    {PIXART(120), .pipeline = "PixArtAlphaPipeline"},
    {PIXART(300), .pipeline = "PixArtSigmaPipeline"},
    {.pipeline = "HunyuanVideoPipeline",
     .told_guidance = true,
     .trailing = true,
     .dit = &ts_dit_hunyuanvideo,
     .vae = &ts_vae_hunyuanvideo,
     .text = {{.component = "text_encoder",
               .tokenizer = "tokenizer",
               .encoders = {"LlamaModel"},
               .clean = ts_keep_prompt,
               .prefix = HUNYUAN_BEFORE,
               .suffix = "<|eot_id|>",
               .max = 351,
               .crop = 95,
               .output = {.hidden = -3}},
              {.component = "text_encoder_2",
               .tokenizer = "tokenizer_2",
               .encoders = {"CLIPTextModel"},
               .clean = ts_keep_prompt,
               .max = 77,
               .output = {.pooled = true}}},
     .def = {1280, 720, 129, 50, 1, 24, 6, 6, ""}},
    /* 1.2; size and length: the config's */
    {.pipeline = "OpenSoraPipeline",
     .dit = &ts_dit_opensora,
     .vae = &ts_vae_causal,
     .diffusion = true,
     .cuts_frames = true,
     .text = {{.component = "text_encoder",
               .tokenizer = "tokenizer",
               .encoders = {"MT5EncoderModel"},
               .clean = ts_clean_caption_with_han,
               .max = 512}},
     .def = {640, 480, 29, 100, 1, 24, 7.5, 7.5, opensora_negative}},
    /* 2B, 5B, 1.5-5B */
    {COGVIDEOX, .pipeline = "CogVideoXPipeline"},
    /* 5B-I2V, 1.5-5B-I2V */
    {COGVIDEOX, .pipeline = "CogVideoXImageToVideoPipeline", .image = TS_IMAGE_DRAWN,
     .needs_image = true},
};
enum { ROWS = sizeof rows / sizeof *rows };

const ts_family *ts_family_of(const char *pipeline, bool experts, bool per_token)
{
    for (int i = 0; i < ROWS; i++)
        if (!strcmp(rows[i].pipeline, pipeline) && rows[i].experts == experts &&
            rows[i].per_token == per_token)
            return rows + i;
    return NULL;
}

void ts_family_names(char *out, size_t size)
{
    size_t at = 0;
    for (int i = 0; i < ROWS && at < size; i++)
        if (i == 0 || strcmp(rows[i].pipeline, rows[i - 1].pipeline))
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", rows[i].pipeline);
}
