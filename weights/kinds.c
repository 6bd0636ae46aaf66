/* The table of what tells the parts of models apart. The tensors are those that the published files
 * have in every naming that is about. */
#include "weights/kinds.h"

#include "backend/suffix.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    const char *mark, *also; /* tensors; also NULL: one is enough */
    ts_kind kind;
} row;
#define WAN_T2V "WanTransformer3DModel"
#define WAN_VAE "AutoencoderKLWan"
#define PIXART "PixArtTransformer2DModel"
#define OPENSORA "OpenSoraT2V"
#define HUNYUAN "HunyuanVideoTransformer3DModel"
#define UNREAD(what)                    \
    {                                   \
        TS_PART_TRANSFORMER, what, NULL \
    }

#define COGVIDEOX                                                                     \
    {                                                                                 \
        TS_PART_TRANSFORMER, "a CogVideoX transformer", "CogVideoXTransformer3DModel" \
    }
#define OTHER_TEXT                                                                \
    {                                                                             \
        TS_PART_TEXT_ENCODER, "a language model of another kind than Llama", NULL \
    }

/* Of several rows that fit the first counts: variants before what they vary. */
static const row rows[] = {
    {"vace_blocks.0.after_proj.weight", NULL, UNREAD("a Wan VACE transformer")},
    {"vace_blocks.0.proj_out.weight", NULL, UNREAD("a Wan VACE transformer")},
    {"control_adapter.conv.weight", NULL, UNREAD("a Wan transformer with camera control")},
    {"face_adapter.fuser_blocks.0.linear1_kv.weight", NULL, UNREAD("a Wan Animate transformer")},
    {"motion_encoder.dec.direction.weight", NULL, UNREAD("a Wan Animate transformer")},
    {"patch_embedding_pose.weight", NULL, UNREAD("a Wan transformer driven by poses")},
    {"audio_proj.audio_proj_glob_1.layer.weight", NULL,
     UNREAD("a Wan transformer driven by sound")},
    {"casual_audio_encoder.weights", NULL, UNREAD("a Wan transformer driven by sound")},
    {"ref_conv.weight", NULL, UNREAD("a Wan transformer with reference pictures")},
    {"head.modulation", NULL, {TS_PART_TRANSFORMER, "a Wan transformer", WAN_T2V}},
    {"condition_embedder.time_proj.weight",
     NULL,
     {TS_PART_TRANSFORMER, "a Wan transformer", WAN_T2V}},
    {"decoder.middle.0.residual.0.gamma", NULL, {TS_PART_VAE, "a Wan VAE", WAN_VAE}},
    {"decoder.mid_block.resnets.0.norm1.gamma", NULL, {TS_PART_VAE, "a Wan VAE", WAN_VAE}},
    {"decoder.conv_in.conv.weight",
     "decoder.mid_block.resnets.0.norm1.norm_layer.weight",
     {TS_PART_VAE, "a CogVideoX VAE", "AutoencoderKLCogVideoX"}},
    {"decoder.conv_in.conv.weight",
     "decoder.mid_block.attentions.0.to_q.weight",
     {TS_PART_VAE, "a HunyuanVideo VAE", "AutoencoderKLHunyuanVideo"}},
    {"decoder.conv_in.conv.weight",
     "decoder.mid.attn_1.q.weight",
     {TS_PART_VAE, "a HunyuanVideo VAE", "AutoencoderKLHunyuanVideo"}},
    {"decoder.conv_in.conv.weight",
     "decoder.mid.attn_1.q.conv.weight",
     {TS_PART_VAE, "an Open-Sora-Plan VAE", "CausalVAEModel"}},
    {"encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
     NULL,
     {TS_PART_TEXT_ENCODER, "a UMT5 text encoder", "UMT5EncoderModel"}},
    {"encoder.block.0.layer.0.SelfAttention.q.weight",
     NULL,
     {TS_PART_TEXT_ENCODER, "a T5 text encoder", "T5EncoderModel"}},
    {"blocks.0.attn.q.weight",
     "token_embedding.weight",
     {TS_PART_TEXT_ENCODER, "a UMT5 text encoder", "UMT5EncoderModel"}},
    {"enc.blk.1.attn_rel_b.weight",
     NULL,
     {TS_PART_TEXT_ENCODER, "a UMT5 text encoder", "UMT5EncoderModel"}},
    {"enc.blk.0.attn_q.weight",
     NULL,
     {TS_PART_TEXT_ENCODER, "a T5 text encoder", "T5EncoderModel"}},
    /* language models that are laid out like Llama, but for a norm or a bias */
    {"layers.0.self_attn.q_proj.bias", "embed_tokens.weight", OTHER_TEXT},
    {"layers.0.self_attn.q_norm.weight", "embed_tokens.weight", OTHER_TEXT},
    {"layers.0.pre_feedforward_layernorm.weight", "embed_tokens.weight", OTHER_TEXT},
    {"layers.0.self_attn.q_proj.weight",
     "embed_tokens.weight",
     {TS_PART_TEXT_ENCODER, "a Llama text encoder", "LlamaModel"}},
    {"blk.0.attn_q.bias", "token_embd.weight", OTHER_TEXT},
    {"blk.0.attn_q_norm.weight", "token_embd.weight", OTHER_TEXT},
    {"blk.0.attn_q.weight",
     "blk.0.ffn_gate.weight",
     {TS_PART_TEXT_ENCODER, "a Llama text encoder", "LlamaModel"}},
    {"embeddings.token_embedding.weight",
     "encoder.layers.0.self_attn.q_proj.weight",
     {TS_PART_CLIP_TEXT, "a CLIP text encoder", "CLIPTextModel"}},
    /* of Flux the blocks are called as ComfyUI calls those of HunyuanVideo */
    {"double_blocks.0.img_attn.qkv.weight", "txt_in.weight", UNREAD("a Flux transformer")},
    {"clean_x_embedder.proj.weight", NULL, UNREAD("a FramePack transformer")},
    {"double_blocks.0.img_attn_qkv.weight",
     NULL,
     {TS_PART_TRANSFORMER, "a HunyuanVideo transformer", HUNYUAN}},
    {"double_blocks.0.img_attn.qkv.weight",
     "txt_in.individual_token_refiner.blocks.0.norm1.weight",
     {TS_PART_TRANSFORMER, "a HunyuanVideo transformer", HUNYUAN}},
    {"context_embedder.token_refiner.refiner_blocks.0.norm1.weight",
     "single_transformer_blocks.0.proj_mlp.weight",
     {TS_PART_TRANSFORMER, "a HunyuanVideo transformer", HUNYUAN}},
    {"t_block.1.weight",
     "blocks.0.cross_attn.kv_linear.weight",
     {TS_PART_TRANSFORMER, "a PixArt transformer", PIXART}},
    {"adaln_single.linear.weight",
     "caption_projection.linear_1.weight",
     {TS_PART_TRANSFORMER, "an Open-Sora-Plan transformer", OPENSORA}},
    {"adaln_single.linear.weight",
     "caption_projection.linear_1.weight",
     {TS_PART_TRANSFORMER, "a PixArt transformer", PIXART}},
    {"transformer_blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight", COGVIDEOX},
    {"blocks.0.norm1.linear.weight", "patch_embed.text_proj.weight", COGVIDEOX},
    {"mixins.patch_embed.proj.weight", "mixins.patch_embed.text_proj.weight", COGVIDEOX},
    {"vision_model.embeddings.class_embedding",
     NULL,
     {TS_PART_IMAGE_ENCODER, "a CLIP image encoder", "CLIPVisionModel"}},
    {"visual.cls_embedding",
     NULL,
     {TS_PART_IMAGE_ENCODER, "a CLIP image encoder", "CLIPVisionModel"}},
};
static const char *const prefixes[] = {"",
                                       "model.diffusion_model.",
                                       "diffusion_model.",
                                       "model.model.",
                                       "net.",
                                       "transformer.",
                                       "vae.",
                                       "first_stage_model.",
                                       "text_encoders.umt5xxl.transformer.",
                                       "text_encoders.umt5xxl.",
                                       "umt5xxl.transformer.",
                                       "text_encoder.",
                                       "cond_stage_model.",
                                       "module.",
                                       "model.",
                                       "language_model.model.",
                                       "llama.transformer.model.",
                                       "text_encoders.llama.transformer.model.",
                                       "text_model.",
                                       "text_encoder_2.text_model.",
                                       "cond_stage_model.transformer.text_model.",
                                       "clip_l.transformer.text_model.",
                                       "text_encoders.clip_l.transformer.text_model."};

/* Of one component: a file, or those that it is split into. */
typedef struct {
    const ts_source *s;
    int n;
} sources;

static const ts_entry *find_entry(sources s, const char *prefix, const char *mark)
{
    char name[256];
    const ts_entry *e = NULL;
    int n = snprintf(name, sizeof name, "%s%s", prefix, mark);
    for (int i = 0; i < s.n && !e && n > 0 && n < (int)sizeof name; i++)
        e = ts_source_find(s.s + i, name);
    return e;
}

/* Open-Sora-Plan and PixArt have the same blocks under the same names; the output of PixArt has a
 * variance behind the prediction. */
static bool has_variance(sources s, const char *prefix)
{
    const ts_entry *out = find_entry(s, prefix, "proj_out.weight"),
                   *in = find_entry(s, prefix, "pos_embed.proj.weight");
    return !out || !in || out->odd || in->odd || in->t.nd < 2 ||
           ts_entry_rows(out) != ts_entry_width(in);
}

static bool fits_row(sources s, const char *prefix, const row *r)
{
    if (!find_entry(s, prefix, r->mark) || (r->also && !find_entry(s, prefix, r->also)))
        return false;
    return !r->kind.cls || strcmp(r->kind.cls, OPENSORA) != 0 || !has_variance(s, prefix);
}

static const ts_kind *find_model_part(sources s, ts_part of)
{
    for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const row *r = rows + i;
            if ((!of || r->kind.part == of) && fits_row(s, prefixes[p], r)) return &r->kind;
        }
    return NULL;
}

/* Names that only differences to weights have. */
static bool is_lora(const ts_source *s)
{
    static const char *const parts[] = {".lora_", "_lora.", ".lora.", ".hada_",
                                        ".lokr_", ".oft_",  ".boft_", ".dora_"},
                             *const ends[] = {".diff", ".diff_b", ".diff_m"};
    for (int i = 0; i < s->entries; i++) {
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            if (strstr(s->entry[i].name, parts[k])) return true;
        for (size_t k = 0; k < sizeof ends / sizeof *ends; k++)
            if (ts_ends_with(s->entry[i].name, ends[k])) return true;
    }
    return false;
}

const ts_kind *ts_kind_of(const ts_source *s, int n, ts_part of)
{
    static const ts_kind lora = {TS_PART_LORA, "a LoRA", NULL};
    bool differences = false;
    for (int i = 0; i < n; i++) differences = differences || is_lora(s + i);
    if (of == TS_PART_LORA || (of == TS_PART_NONE && differences))
        return differences ? &lora : NULL;
    return find_model_part((sources){s, n}, of);
}

const char *ts_part_name(ts_part part)
{
    static const char *const name[] = {"weights",
                                       "a transformer",
                                       "a VAE",
                                       "a text encoder",
                                       "a second text encoder (CLIP)",
                                       "an image encoder",
                                       "a LoRA"};
    return name[part];
}
