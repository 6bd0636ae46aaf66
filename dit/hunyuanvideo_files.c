/* HunyuanVideo's transformer in single files: the names that its authors give to its tensors, which
 * GGUF files keep, and those of ComfyUI's own model, which LoRAs have; and the config as the shapes
 * tell it. Queries, keys and values of a layer are one tensor, of a single block with the first
 * layer of its feed-forward behind them, four times as wide; the last modulation has its shift
 * before its scale, which diffusers has the other way round. */
#include "dit/hunyuanvideo_files.h"

#define REFINER "context_embedder.token_refiner.refiner_blocks.#."
#define REFINER_IN "txt_in.individual_token_refiner.blocks.#."
#define DUAL "transformer_blocks.#."
#define DUAL_IN "double_blocks.#."
#define SINGLE "single_transformer_blocks.#."
#define SINGLE_IN "single_blocks.#."
#define QKV(was, is, q, k, v)                             \
    {was, is q, {3, 0, 1, 0}}, {was, is k, {3, 1, 1, 0}}, \
    {                                                     \
        was, is v, { 3, 2, 1, 0 }                         \
    }
#define PAIR(was, one, two, is) \
    {.from = was one, .to = is "linear_1."}, { .from = was two, .to = is "linear_2." }
/* One of the streams of a dual block; what is spelled in two ways as NAMES has it. */
#define SIDE(side, lin, _, up, down, mod, o, ff)                        \
    {.from = DUAL_IN side "_mod." lin, .to = DUAL mod},                 \
        {.from = DUAL_IN side "_attn" _ "proj.", .to = DUAL "attn." o}, \
        {.from = DUAL_IN side "_mlp." up, .to = DUAL ff "net.0.proj."}, \
    {                                                                   \
        .from = DUAL_IN side "_mlp." down, .to = DUAL ff "net.2."       \
    }
/* But for the norms of heads. */
#define NAMES(lin, _, up, down, in, out, c_in, c_out)                                         \
    {.from = "img_in.proj.", .to = "x_embedder.proj."},                                       \
        {.from = "txt_in.input_embedder.", .to = "context_embedder.proj_in."},                \
        PAIR("vector_in.", "in_layer.", "out_layer.", "time_text_embed.text_embedder."),      \
        PAIR("time_in.", in, out, "time_text_embed.timestep_embedder."),                      \
        PAIR("guidance_in.", in, out, "time_text_embed.guidance_embedder."),                  \
        PAIR("txt_in.t_embedder.", in, out,                                                   \
             "context_embedder.time_text_embed.timestep_embedder."),                          \
        PAIR("txt_in.c_embedder.", c_in, c_out,                                               \
             "context_embedder.time_text_embed.text_embedder."),                              \
        {.from = REFINER_IN "norm1.", .to = REFINER "norm1."},                                \
        {.from = REFINER_IN "norm2.", .to = REFINER "norm2."},                                \
        {.from = REFINER_IN "adaLN_modulation.1.", .to = REFINER "norm_out.linear."},         \
        QKV(REFINER_IN "self_attn" _ "qkv.", REFINER "attn.", "to_q.", "to_k.", "to_v."),     \
        {.from = REFINER_IN "self_attn" _ "proj.", .to = REFINER "attn.to_out.0."},           \
        {.from = REFINER_IN "mlp." up, .to = REFINER "ff.net.0.proj."},                       \
        {.from = REFINER_IN "mlp." down, .to = REFINER "ff.net.2."},                          \
        SIDE("img", lin, _, up, down, "norm1.linear.", "to_out.0.", "ff."),                   \
        QKV(DUAL_IN "img_attn" _ "qkv.", DUAL "attn.", "to_q.", "to_k.", "to_v."),            \
        SIDE("txt", lin, _, up, down, "norm1_context.linear.", "to_add_out.", "ff_context."), \
        QKV(DUAL_IN "txt_attn" _ "qkv.", DUAL "attn.", "add_q_proj.", "add_k_proj.",          \
            "add_v_proj."),                                                                   \
        {.from = SINGLE_IN "modulation." lin, .to = SINGLE "norm.linear."},                   \
        {SINGLE_IN "linear1.", SINGLE "attn.to_q.", {7, 0, 1, 0}},                            \
        {SINGLE_IN "linear1.", SINGLE "attn.to_k.", {7, 1, 1, 0}},                            \
        {SINGLE_IN "linear1.", SINGLE "attn.to_v.", {7, 2, 1, 0}},                            \
        {SINGLE_IN "linear1.", SINGLE "proj_mlp.", {7, 3, 4, 0}},                             \
        {.from = SINGLE_IN "linear2.", .to = SINGLE "proj_out."},                             \
        {.from = "final_layer.linear.", .to = "proj_out."},                                   \
    {                                                                                         \
        "final_layer.adaLN_modulation.1.", "norm_out.linear.", { 2, 1, 1, 1 }                 \
    }

static const ts_rename heads_of_authors[] = {
    NAMES("linear.", "_", "fc1.", "fc2.", "mlp.0.", "mlp.2.", "linear_1.", "linear_2."),
    {.from = DUAL_IN "img_attn_q_norm.", .to = DUAL "attn.norm_q."},
    {.from = DUAL_IN "img_attn_k_norm.", .to = DUAL "attn.norm_k."},
    {.from = DUAL_IN "txt_attn_q_norm.", .to = DUAL "attn.norm_added_q."},
    {.from = DUAL_IN "txt_attn_k_norm.", .to = DUAL "attn.norm_added_k."},
    {.from = SINGLE_IN "q_norm.", .to = SINGLE "attn.norm_q."},
    {.from = SINGLE_IN "k_norm.", .to = SINGLE "attn.norm_k."},
    {.from = NULL}};
static const ts_rename heads_of_comfyui[] = {
    NAMES("lin.", ".", "0.", "2.", "in_layer.", "out_layer.", "in_layer.", "out_layer."),
    {.from = DUAL_IN "img_attn.norm.query_norm.scale", .to = DUAL "attn.norm_q.weight"},
    {.from = DUAL_IN "img_attn.norm.key_norm.scale", .to = DUAL "attn.norm_k.weight"},
    {.from = DUAL_IN "txt_attn.norm.query_norm.scale", .to = DUAL "attn.norm_added_q.weight"},
    {.from = DUAL_IN "txt_attn.norm.key_norm.scale", .to = DUAL "attn.norm_added_k.weight"},
    {.from = SINGLE_IN "norm.query_norm.scale", .to = SINGLE "attn.norm_q.weight"},
    {.from = SINGLE_IN "norm.key_norm.scale", .to = SINGLE "attn.norm_k.weight"},
    {.from = NULL}};
static const ts_naming hunyuan_namings[] = {
    {"double_blocks.0.img_attn_qkv.weight", heads_of_authors, NULL},
    {"double_blocks.0.img_attn.qkv.weight", heads_of_comfyui, NULL}};
const ts_names ts_hunyuanvideo_names = {
    .naming = hunyuan_namings,
    .namings = 2,
    .prefix = (const char *const[]){TS_TRANSFORMER_PREFIXES, NULL},
    .unused = (const char *const[]){TS_QUANTIZED_MARKS, NULL}};

/* ---- the config ---- */

ts_status ts_hunyuanvideo_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { PATCH = 4, HEAD = 128 }; /* of all that were published: a patch, channels of a head */
    static const int axes[] = {16, 56, 56};
    int at = ts_checkpoint_find(c, "x_embedder.proj.weight");
    long dim = ts_checkpoint_dim(c, "time_text_embed.timestep_embedder.linear_2.weight", 0),
         head = ts_checkpoint_dim(c, "transformer_blocks.0.attn.norm_q.weight", 0),
         up = ts_checkpoint_dim(c, "transformer_blocks.0.ff.net.0.proj.weight", 0),
         text = ts_checkpoint_dim(c, "context_embedder.proj_in.weight", 1),
         pooled = ts_checkpoint_dim(c, "time_text_embed.text_embedder.linear_1.weight", 1),
         out = ts_checkpoint_dim(c, "proj_out.weight", 0) / PATCH,
         layers = ts_checkpoint_blocks(c, "transformer_blocks."),
         single = ts_checkpoint_blocks(c, "single_transformer_blocks."),
         refiner = ts_checkpoint_blocks(c, "context_embedder.token_refiner.refiner_blocks.");
    if (dim == 0 || head == 0 || dim % head || up == 0 || text == 0 || pooled == 0 || out == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a HunyuanVideo transformer without some of its embedders, its output "
                       "or its first block",
                       c->what);
    long in = at < 0 ? 0 : ts_entry_count(c->name[at].e) / (dim * PATCH);
    if (in == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: tensor \"%s\" is missing: an unfinished conversion", c->what,
                       c->naming ? "img_in.proj.weight" : "x_embedder.proj.weight");
    cJSON_AddNumberToObject(config, "_dim", (double)dim);
    cJSON_AddNumberToObject(config, "num_attention_heads", (double)(dim / head));
    cJSON_AddNumberToObject(config, "attention_head_dim", (double)head);
    cJSON_AddNumberToObject(config, "num_layers", (double)layers);
    cJSON_AddNumberToObject(config, "num_single_layers", (double)single);
    cJSON_AddNumberToObject(config, "num_refiner_layers", (double)refiner);
    cJSON_AddNumberToObject(config, "mlp_ratio", (double)up / (double)dim);
    cJSON_AddNumberToObject(config, "in_channels", (double)in);
    cJSON_AddNumberToObject(config, "out_channels", (double)out);
    cJSON_AddNumberToObject(config, "text_embed_dim", (double)text);
    cJSON_AddNumberToObject(config, "pooled_projection_dim", (double)pooled);
    cJSON_AddBoolToObject(
        config, "guidance_embeds",
        ts_checkpoint_find(c, "time_text_embed.guidance_embedder.linear_1.weight") >= 0);
    if (head == HEAD)
        cJSON_AddItemToObject(config, "rope_axes_dim", cJSON_CreateIntArray(axes, 3));
    else
        cJSON_AddStringToObject(config, TS_UNTOLD,
                                "how its positions share the channels of a head");
    return TS_OK;
}
