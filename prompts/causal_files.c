/* Encoders whose tokens see what is before them in single files: names as transformers has them
 * with all that may stand before, llama.cpp's names, and the config as shapes or a GGUF's keys tell
 * it. */
#include "prompts/causal_files.h"

#include "weights/gguf.h"

/* ---- CLIP ---- */

const ts_names ts_clip_text_names = {
    .prefix = (const char *const[]){"text_encoders.clip_l.transformer.text_model.",
                                    "clip_l.transformer.text_model.",
                                    "cond_stage_model.transformer.text_model.",
                                    "text_encoder_2.text_model.", "text_model.", NULL},
    .unused = (const char *const[]){"embeddings.position_ids", "text_model.embeddings.position_ids",
                                    "text_projection.", "vision_model.", "visual_projection.",
                                    "logit_scale", TS_QUANTIZED_MARKS, NULL}};

ts_status ts_clip_text_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { HEAD = 64 }; /* channels of a head, of all that were published */
    static const char table[] = "embeddings.token_embedding.weight",
                      positions[] = "embeddings.position_embedding.weight",
                      up[] = "encoder.layers.0.mlp.fc1.weight";
    long vocab = ts_checkpoint_dim(c, table, 0), dim = ts_checkpoint_dim(c, table, 1),
         longest = ts_checkpoint_dim(c, positions, 0), ff = ts_checkpoint_dim(c, up, 0),
         layers = ts_checkpoint_blocks(c, "encoder.layers.");
    if (vocab == 0 || dim == 0 || longest == 0 || ff == 0 || layers == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a CLIP text encoder without its embeddings or layers", c->what);
    cJSON_AddNumberToObject(config, "vocab_size", (double)vocab);
    cJSON_AddNumberToObject(config, "hidden_size", (double)dim);
    cJSON_AddNumberToObject(config, "intermediate_size", (double)ff);
    cJSON_AddNumberToObject(config, "num_hidden_layers", (double)layers);
    cJSON_AddNumberToObject(config, "max_position_embeddings", (double)longest);
    if (dim % HEAD == 0)
        cJSON_AddNumberToObject(config, "num_attention_heads", (double)(dim / HEAD));
    else
        cJSON_AddStringToObject(config, TS_UNTOLD, "how many heads it has");
    return TS_OK;
}

/* ---- Llama ---- */

static const ts_rename heads_of_llama_cpp[] = {
    {.from = "token_embd.", .to = "embed_tokens."},
    {.from = "blk.#.attn_norm.", .to = "layers.#.input_layernorm."},
    {.from = "blk.#.attn_q.", .to = "layers.#.self_attn.q_proj."},
    {.from = "blk.#.attn_k.", .to = "layers.#.self_attn.k_proj."},
    {.from = "blk.#.attn_v.", .to = "layers.#.self_attn.v_proj."},
    {.from = "blk.#.attn_output.", .to = "layers.#.self_attn.o_proj."},
    {.from = "blk.#.ffn_norm.", .to = "layers.#.post_attention_layernorm."},
    {.from = "blk.#.ffn_gate.", .to = "layers.#.mlp.gate_proj."},
    {.from = "blk.#.ffn_up.", .to = "layers.#.mlp.up_proj."},
    {.from = "blk.#.ffn_down.", .to = "layers.#.mlp.down_proj."},
    {.from = "output_norm.", .to = "norm."},
    {.from = NULL}};
static const ts_naming llama_namings[] = {{"blk.0.attn_q.weight", heads_of_llama_cpp, NULL}};
const ts_names ts_llama_names = {
    .naming = llama_namings,
    .namings = 1,
    .prefix = (const char *const[]){"text_encoders.llama.transformer.model.",
                                    "llama.transformer.model.", "language_model.model.", "model.",
                                    NULL},
    .unused = (const char *const[]){"lm_head.", "language_model.lm_head.", "vision_tower.",
                                    "multi_modal_projector.", "*rotary_emb.inv_freq",
                                    "=output.weight", TS_QUANTIZED_MARKS, NULL}};

bool ts_llama_pairs(const ts_naming *naming) { return naming == llama_namings; }

/* Keys of the file's own that stand for those of a config; false: it has none. */
static bool read_llama_keys(const ts_checkpoint *c, cJSON *config)
{
    static const struct {
        const char *from, *to;
    } keys[] = {{"llama.attention.head_count", "num_attention_heads"},
                {"llama.attention.head_count_kv", "num_key_value_heads"},
                {"llama.attention.key_length", "head_dim"},
                {"llama.rope.freq_base", "rope_theta"},
                {"llama.attention.layer_norm_rms_epsilon", "rms_norm_eps"},
                {"llama.context_length", "max_position_embeddings"}};
    const ts_gguf *g = NULL;
    const char *s;
    size_t n;
    for (int i = 0; i < c->sources && !g; i++) g = ts_gguf_of(c->source + i);
    if (!g || !ts_gguf_find(g, keys[0].from)) return false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const ts_gguf_value *v = ts_gguf_find(g, keys[i].from);
        if (v && !v->array && v->type != TS_GGUF_STRING)
            cJSON_AddNumberToObject(config, keys[i].to, ts_gguf_number(v, 0));
    }
    /* which run_llama does not do: its class refuses the key */
    if (ts_checkpoint_find(c, "rope_freqs.weight") >= 0 ||
        (ts_gguf_text(g, "llama.rope.scaling.type", &s, &n) &&
         !ts_gguf_text_is(g, "llama.rope.scaling.type", "none")))
        cJSON_AddStringToObject(config, "rope_scaling", "llama3");
    return true;
}

ts_status ts_llama_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { HEAD = 128 }; /* of all that were published: channels of a head */
    static const char table[] = "embed_tokens.weight", q[] = "layers.0.self_attn.q_proj.weight",
                      k[] = "layers.0.self_attn.k_proj.weight",
                      gate[] = "layers.0.mlp.gate_proj.weight";
    static const double theta_of_llama_3 = 500000, eps_of_llama_3 = 1e-5;
    long vocab = ts_checkpoint_dim(c, table, 0), dim = ts_checkpoint_dim(c, table, 1),
         rows = ts_checkpoint_dim(c, q, 0), shared = ts_checkpoint_dim(c, k, 0),
         ff = ts_checkpoint_dim(c, gate, 0), layers = ts_checkpoint_blocks(c, "layers.");
    if (vocab == 0 || dim == 0 || rows == 0 || shared == 0 || ff == 0 || layers == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a Llama text encoder without its embedding or layers", c->what);
    cJSON_AddNumberToObject(config, "vocab_size", (double)vocab);
    cJSON_AddNumberToObject(config, "hidden_size", (double)dim);
    cJSON_AddNumberToObject(config, "intermediate_size", (double)ff);
    cJSON_AddNumberToObject(config, "num_hidden_layers", (double)layers);
    if (read_llama_keys(c, config)) return TS_OK;
    if (rows % HEAD || shared % HEAD) {
        cJSON_AddStringToObject(config, TS_UNTOLD, "how many heads it has");
        return TS_OK;
    }
    cJSON_AddNumberToObject(config, "num_attention_heads", (double)(rows / HEAD));
    cJSON_AddNumberToObject(config, "num_key_value_heads", (double)(shared / HEAD));
    cJSON_AddNumberToObject(config, "head_dim", HEAD);
    cJSON_AddNumberToObject(config, "max_position_embeddings", 8192);
    cJSON_AddNumberToObject(config, "rope_theta", theta_of_llama_3);
    cJSON_AddNumberToObject(config, "rms_norm_eps", eps_of_llama_3);
    return TS_OK;
}
