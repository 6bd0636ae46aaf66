/* The encoders of T5 v1.1, mT5 and UMT5 (transformers' modeling_t5.py, modeling_umt5.py): pre-norm
 * blocks of self-attention with a learned bias by relative position and no scaling, and a
 * feed-forward layer, gated or not. T5 has one table of biases, in block 0; UMT5 has one a block.
 *
 *
 *   h += o(softmax(q k' + b) v) of rms(h),   b[a, i, j] = table[bucket(j - i), a]
 *   h += wo(act(wi_0 n) * wi_1 n) of n = rms(h)
 *
 * Only the real tokens are computed: padded keys are masked in the reference, so they change
 * nothing. All texts of a call pass a block together, while its weights are there. The residual h
 * stays in f32, what enters products has the context's type of activations. */
#include "prompts/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const ts_weight *norm1, *norm2;
    ts_layer q, k, v, o, wi0, wi1, wo;
} block;

typedef struct {
    ts_encoder head;
    int vocab, dim, kv, ff, layers, heads, buckets, max_distance;
    double eps;
    bool gated, own_bias; /* own_bias: a table in every block */
    ts_act act;
    const char *embedding; /* its name */
    float *table;          /* biases [layers or 1, buckets, A] */
    block *block;
    const ts_weight *final;
} t5;

/* ---- names in Wan's files and in llama.cpp's ---- */

static const ts_rename t5_heads_of_wan[] = {
    {.from = "token_embedding.", .to = "shared."},
    {.from = "blocks.#.norm1.", .to = "encoder.block.#.layer.0.layer_norm."},
    {.from = "blocks.#.attn.", .to = "encoder.block.#.layer.0.SelfAttention."},
    {.from = "blocks.#.pos_embedding.embedding.",
     .to = "encoder.block.#.layer.0.SelfAttention.relative_attention_bias."},
    {.from = "blocks.#.norm2.", .to = "encoder.block.#.layer.1.layer_norm."},
    {.from = "blocks.#.ffn.gate.0.", .to = "encoder.block.#.layer.1.DenseReluDense.wi_0."},
    {.from = "blocks.#.ffn.fc1.", .to = "encoder.block.#.layer.1.DenseReluDense.wi_1."},
    {.from = "blocks.#.ffn.fc2.", .to = "encoder.block.#.layer.1.DenseReluDense.wo."},
    {.from = "norm.", .to = "encoder.final_layer_norm."},
    {.from = NULL}};
static const ts_rename t5_heads_of_llama[] = {
    {.from = "token_embd.", .to = "shared."},
    {.from = "enc.blk.#.attn_norm.", .to = "encoder.block.#.layer.0.layer_norm."},
    {.from = "enc.blk.#.attn_rel_b.",
     .to = "encoder.block.#.layer.0.SelfAttention.relative_attention_bias."},
    {.from = "enc.blk.#.attn_", .to = "encoder.block.#.layer.0.SelfAttention."},
    {.from = "enc.blk.#.ffn_norm.", .to = "encoder.block.#.layer.1.layer_norm."},
    {.from = "enc.blk.#.ffn_gate.", .to = "encoder.block.#.layer.1.DenseReluDense.wi_0."},
    {.from = "enc.blk.#.ffn_up.", .to = "encoder.block.#.layer.1.DenseReluDense.wi_1."},
    {.from = "enc.blk.#.ffn_down.", .to = "encoder.block.#.layer.1.DenseReluDense.wo."},
    {.from = "enc.output_norm.", .to = "encoder.final_layer_norm."},
    {.from = NULL}};
static const ts_naming t5_namings[] = {{"blocks.0.attn.q.weight", t5_heads_of_wan, NULL},
                                       {"enc.blk.0.attn_q.weight", t5_heads_of_llama, NULL}};
static const ts_names t5_names = {
    .naming = t5_namings,
    .namings = 2,
    .prefix = (const char *const[]){"text_encoders.umt5xxl.transformer.", "text_encoders.umt5xxl.",
                                    "umt5xxl.transformer.", "text_encoder.", "cond_stage_model.",
                                    NULL},
    .unused = (const char *const[]){"spiece_model", "scaled_fp8", "decoder.", "lm_head.", "dec.",
                                    "*.comfy_quant", "*.scale_input", "*.input_scale", NULL}};

/* The encoder of a file without a config: everything but what all that were published share. */
static ts_status infer_t5(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    const char *table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
               *q = "encoder.block.0.layer.0.SelfAttention.q.weight",
               *up = "encoder.block.0.layer.1.DenseReluDense.wi_1.weight",
               *gate = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight";
    long heads = ts_checkpoint_dim(c, table, 1), width = ts_checkpoint_dim(c, q, 0),
         ff = ts_checkpoint_dim(c, gate, 0), dim = ts_checkpoint_dim(c, "shared.weight", 1);
    if (heads == 0 || width == 0 || width % heads || ff == 0 || dim == 0)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a T5 text encoder without its embedding, position biases or layers",
                       c->what);
    cJSON_AddNumberToObject(config, "vocab_size", (double)ts_checkpoint_dim(c, "shared.weight", 0));
    cJSON_AddNumberToObject(config, "d_model", (double)dim);
    cJSON_AddNumberToObject(config, "d_kv", (double)(width / heads));
    cJSON_AddNumberToObject(config, "d_ff", (double)ff);
    cJSON_AddNumberToObject(config, "num_layers",
                            (double)ts_checkpoint_blocks(c, "encoder.block."));
    cJSON_AddNumberToObject(config, "num_heads", (double)heads);
    cJSON_AddNumberToObject(config, "relative_attention_num_buckets",
                            (double)ts_checkpoint_dim(c, table, 0));
    cJSON_AddStringToObject(config, "feed_forward_proj",
                            ts_checkpoint_find(c, up) >= 0 ? "gated-gelu" : "gelu");
    return TS_OK;
}

static ts_status read_config(t5 *e, const ts_component *c)
{
    char feed[64] = "relu";
    /* The whole model holds the encoder under the same names. */
    bool mt5 = e->head.cls == &ts_encoder_mt5;
    const char *classes =
        mt5 ? "[\"MT5EncoderModel\"]|[\"MT5ForConditionalGeneration\"]|[\"MT5Model\"]|null"
        : e->own_bias
            ? "[\"UMT5EncoderModel\"]|[\"UMT5ForConditionalGeneration\"]|[\"UMT5Model\"]|null"
            : "[\"T5EncoderModel\"]|[\"T5ForConditionalGeneration\"]|[\"T5Model\"]|null";
    ts_key keys[] = {
        {"vocab_size", TS_KEY_INT, &e->vocab, 0, NULL, NULL},
        {"d_model", TS_KEY_INT, &e->dim, 0, NULL, NULL},
        {"d_kv", TS_KEY_INT, &e->kv, 0, NULL, NULL},
        {"d_ff", TS_KEY_INT, &e->ff, 0, NULL, NULL},
        {"num_layers", TS_KEY_INT, &e->layers, 0, NULL, NULL},
        {"num_heads", TS_KEY_INT, &e->heads, 0, NULL, NULL},
        {"relative_attention_num_buckets", TS_KEY_INT, &e->buckets, 0, NULL, NULL},
        {"relative_attention_max_distance", TS_KEY_INT, &e->max_distance, 0, NULL, NULL},
        {"layer_norm_epsilon", TS_KEY_FLOAT, &e->eps, 0, NULL, NULL},
        {"feed_forward_proj", TS_KEY_STRING, feed, 0, NULL, NULL},
        TS_ONLY("architectures", classes),
        TS_ONLY("model_type", e->own_bias ? "\"umt5\""
                              : mt5       ? "\"mt5\""
                                          : "\"t5\""),
        /* of the decoder, of training, or said by the keys above */
        TS_IGNORED("classifier_dropout"),
        TS_IGNORED("decoder_start_token_id"),
        TS_IGNORED("dense_act_fn"),
        TS_IGNORED("dropout_rate"),
        TS_IGNORED("dtype"),
        TS_IGNORED("torch_dtype"),
        TS_IGNORED("eos_token_id"),
        TS_IGNORED("pad_token_id"),
        TS_IGNORED("initializer_factor"),
        TS_IGNORED("is_decoder"),
        TS_IGNORED("is_encoder_decoder"),
        TS_IGNORED("is_gated_act"),
        TS_IGNORED("num_decoder_layers"),
        TS_IGNORED("output_past"),
        TS_IGNORED("scalable_attention"),
        TS_IGNORED("scale_decoder_outputs"),
        TS_IGNORED("tie_word_embeddings"),
        TS_IGNORED("tokenizer_class"),
        TS_IGNORED("transformers_version"),
        TS_IGNORED("use_cache")};
    ts_status st = ts_config_read(e->head.ctx, c->config, c->config_path, keys,
                                  sizeof keys / sizeof *keys);
    if (st) return st;
    e->gated = !strncmp(feed, "gated-", 6);
    const char *act = e->gated ? feed + 6 : feed;
    if (!strcmp(act, "relu"))
        e->act = TS_ACT_RELU;
    else if (!strcmp(act, "silu"))
        e->act = TS_ACT_SILU;
    else if (!strcmp(act, "gelu_new") || (e->gated && !strcmp(act, "gelu")))
        e->act = TS_ACT_GELU_TANH; /* "gated-gelu" means the tanh form */
    else if (!strcmp(act, "gelu"))
        e->act = TS_ACT_GELU;
    else
        return ts_fail(&e->head.ctx->err, TS_EMODEL,
                       "%s: feed_forward_proj \"%s\" is not supported (relu, gelu, gated-relu, "
                       "gated-silu, gated-gelu)",
                       c->config_path, feed);
    if (e->vocab < 1 || e->dim < 1 || e->kv < 1 || e->ff < 1 || e->layers < 1 || e->heads < 1)
        return ts_fail(&e->head.ctx->err, TS_EMODEL, "%s: a size is less than 1", c->config_path);
    if (e->buckets < 4 || e->max_distance <= e->buckets / 4)
        return ts_fail(
            &e->head.ctx->err, TS_EMODEL,
            "%s: %d relative_attention_num_buckets for a relative_attention_max_distance of %d",
            c->config_path, e->buckets, e->max_distance);
    return TS_OK;
}

static ts_status bind_t5_block(t5 *e, int i)
{
    ts_status st = TS_OK;
    block *b = e->block + i;
    long dim[1] = {e->dim}, in = e->dim, inner = (long)e->heads * e->kv;
    ts_layer *attn[] = {&b->q, &b->k, &b->v};
    for (int k = 0; k < 3; k++)
        TRY(ts_find_linear(e->head.weights, i, attn[k], inner, in, false,
                           "encoder.block.%d.layer.0.SelfAttention.%c", i, "qkv"[k]));
    TRY(ts_find_linear(e->head.weights, i, &b->o, in, inner, false,
                       "encoder.block.%d.layer.0.SelfAttention.o", i));
    TRY(ts_find_vector(e->head.weights, i, &b->norm1, 1, dim,
                       "encoder.block.%d.layer.0.layer_norm.weight", i));
    TRY(ts_find_vector(e->head.weights, i, &b->norm2, 1, dim,
                       "encoder.block.%d.layer.1.layer_norm.weight", i));
    TRY(ts_find_linear(e->head.weights, i, &b->wi0, e->ff, in, false,
                       e->gated ? "encoder.block.%d.layer.1.DenseReluDense.wi_0"
                                : "encoder.block.%d.layer.1.DenseReluDense.wi",
                       i));
    if (e->gated)
        TRY(ts_find_linear(e->head.weights, i, &b->wi1, e->ff, in, false,
                           "encoder.block.%d.layer.1.DenseReluDense.wi_1", i));
    TRY(ts_find_linear(e->head.weights, i, &b->wo, in, e->ff, false,
                       "encoder.block.%d.layer.1.DenseReluDense.wo", i));
done:
    return st;
}

/* Tables that are used on the host: the biases are read, the embedding is only looked up. */
static ts_status bind_tables(t5 *e)
{
    ts_status st = TS_OK;
    static const char *const names[] = {"encoder.embed_tokens.weight", "shared.weight"};
    size_t size = (size_t)e->buckets * (size_t)e->heads;
    char name[128];
    int n = e->own_bias ? e->layers : 1;
    int32_t *ids = malloc((size_t)e->buckets * sizeof *ids);
    e->table = malloc((size_t)n * size * sizeof(float));
    if (!ids || !e->table)
        TRY(ts_fail(&e->head.ctx->err, TS_EMEMORY, "no memory for %d tables of biases", n));
    for (int i = 0; i < e->buckets; i++) ids[i] = i;
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name,
                 "encoder.block.%d.layer.0.SelfAttention.relative_attention_bias.weight", i);
        TRY(ts_weights_rows(e->head.weights, name, ids, e->buckets, e->buckets, e->heads,
                            e->table + (size_t)i * size));
    }
    e->embedding = names[1];
    /* of the two, files have either or both with the same numbers */
    for (int i = 0; i < 2; i++)
        if (ts_weights_has(e->head.weights, names[i])) e->embedding = names[i];
    for (int i = 0; i < 2; i++)
        if (names[i] == e->embedding || ts_weights_has(e->head.weights, names[i]))
            TRY(ts_weights_rows(e->head.weights, names[i], NULL, 0, e->vocab, e->dim, NULL));
done:
    free(ids);
    return st;
}

static void close_t5(ts_encoder *head)
{
    t5 *e = (t5 *)head;
    if (!e) return;
    ts_weights_close(e->head.weights);
    free(e->block);
    free(e->table);
    free(e);
}

static ts_status open_class(ts_ctx *ctx, const ts_component *c, const ts_encoder_class *cls,
                            ts_encoder **out)
{
    ts_status st = TS_OK;
    t5 *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a text encoder");
    *e = (t5){.head = {.cls = cls, .ctx = ctx},
              .vocab = 32128,
              .dim = 512,
              .kv = 64,
              .ff = 2048,
              .layers = 6,
              .heads = 8,
              .buckets = 32,
              .max_distance = 128,
              .eps = 1e-6,
              .own_bias = cls == &ts_encoder_umt5};
    TRY(read_config(e, c));
    e->head.width = e->dim;
    TRY(ts_weights_open(ctx, c->dir, "model", cls->names, &e->head.weights));
    e->block = calloc((size_t)e->layers, sizeof *e->block);
    if (!e->block) TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for %d layers", e->layers));
    for (int i = 0; i < e->layers; i++) TRY(bind_t5_block(e, i));
    TRY(ts_find_vector(e->head.weights, 0, &e->final, 1, (long[]){e->dim},
                       "encoder.final_layer_norm.weight"));
    TRY(bind_tables(e));
    ts_weights_warn_unused(e->head.weights);
    *out = &e->head;
    e = NULL;
done:
    close_t5(e ? &e->head : NULL);
    return st;
}

static ts_status open_t5(ts_ctx *ctx, const ts_component *c, ts_encoder **out)
{
    return open_class(ctx, c, &ts_encoder_t5, out);
}

static ts_status open_mt5(ts_ctx *ctx, const ts_component *c, ts_encoder **out)
{
    return open_class(ctx, c, &ts_encoder_mt5, out);
}

static ts_status open_umt5(ts_ctx *ctx, const ts_component *c, ts_encoder **out)
{
    return open_class(ctx, c, &ts_encoder_umt5, out);
}

/* Bucket of a key `rel` to the right of its query: half of the buckets a side; exact near,
 * logarithmic far. */
static int bucket_of(const t5 *e, int rel)
{
    int half = e->buckets / 2, exact = half / 2, d = abs(rel), side = rel > 0 ? half : 0;
    if (d < exact) return side + d;
    int far = exact + (int)(logf((float)d / (float)exact) /
                            (float)log((double)e->max_distance / exact) * (float)(half - exact));
    return side + (far < half ? far : half - 1);
}

typedef struct {             /* one call's buffers; L is the longest text */
    ts_tensor *h;            /* [n_i, dim] of each text */
    ts_tensor n, q, k, v, o; /* [L, dim], [L, A D] four times */
    ts_tensor f, g;          /* [L, ff] */
    ts_tensor line, bias;    /* [A, 2 L - 1]: biases by distance; [A, L, L]: by pair */
    float *host;             /* of the embedding or of line */
    /* spread: the length for which bias holds the pairs of line, 0: none */
    int L, spread;
} work;

/* The biases of a block by distance: line[a, L - 1 + rel] = table[bucket_of(rel), a]. */
static ts_status load_line(t5 *e, work *w, int layer)
{
    const float *table = e->table +
                         (size_t)(e->own_bias ? layer : 0) * (size_t)e->buckets * (size_t)e->heads;
    ts_device *dev = e->head.ctx->dev;
    int n = 2 * w->L - 1;
    if (layer && !e->own_bias) return TS_OK;
    for (int i = 0; i < n; i++) {
        const float *row = table + (size_t)bucket_of(e, i - w->L + 1) * (size_t)e->heads;
        for (int a = 0; a < e->heads; a++) w->host[(size_t)a * (size_t)n + (size_t)i] = row[a];
    }
    w->spread = 0;
    return dev->ops->upload(dev, w->line.p, w->host, (size_t)e->heads * (size_t)n * sizeof(float));
}

/* bias[a, i, j] = line[a, L - 1 + j - i] for a text of n tokens: one step to the left a row. */
static ts_status spread_biases(t5 *e, work *w, long n)
{
    long from = 2L * w->L - 1;
    if (w->spread == n) return TS_OK;
    w->spread = (int)n;
    return ts_copy_op(e->head.ctx->dev,
                      (ts_copy){.src = ts_at(w->line.p, (size_t)(w->L - 1) * sizeof(float)),
                                .dst = w->bias.p,
                                .stype = TS_F32,
                                .dtype = TS_F32,
                                .nd = 3,
                                .dim = {e->heads, n, n},
                                .ss = {from, -1, 1},
                                .ds = {n * n, n, 1}});
}

static ts_status norm_rows(t5 *e, ts_tensor x, const ts_weight *g, ts_tensor y)
{
    return ts_norm_op(e->head.ctx->dev,
                      (ts_norm){.kind = TS_NORM_RMS, .eps = (float)e->eps, .x = x, .w = g, .y = y});
}

static ts_tensor first_rows(ts_tensor t, long rows) { return ts_row_range(t, 0, rows); }

static ts_status attend_text(t5 *e, const block *b, const work *w, ts_tensor h)
{
    ts_status st = TS_OK;
    ts_device *dev = e->head.ctx->dev;
    long L = h.dim[0];
    ts_tensor n = first_rows(w->n, L), q = first_rows(w->q, L), k = first_rows(w->k, L),
              v = first_rows(w->v, L), o = first_rows(w->o, L),
              bias = ts_tensor_of(w->bias.p, TS_F32, TS_DIM(e->heads, L, L));
    TRY(norm_rows(e, h, b->norm1, n));
    TRY(ts_linear_op(dev, (ts_linear){.x = n, .w = b->q.w, .y = q}));
    TRY(ts_linear_op(dev, (ts_linear){.x = n, .w = b->k.w, .y = k}));
    TRY(ts_linear_op(dev, (ts_linear){.x = n, .w = b->v.w, .y = v}));
    ts_tensor heads[4] = {q, k, v, o};
    for (int i = 0; i < 4; i++)
        heads[i] = (ts_tensor){
            .p = heads[i].p, .type = q.type, .nd = 4, .dim = {1, L, e->heads, e->kv}, .ld = q.ld};
    TRY(ts_attention_op(dev, (ts_attention){.q = heads[0],
                                            .k = heads[1],
                                            .v = heads[2],
                                            .out = heads[3],
                                            .scale = 1,
                                            .bias = bias}));
    TRY(ts_linear_op(dev, (ts_linear){.x = o, .w = b->o.w, .resid = h, .y = h}));
done:
    return st;
}

static ts_status apply_t5_feed_forward(t5 *e, const block *b, const work *w, ts_tensor h)
{
    ts_status st = TS_OK;
    ts_device *dev = e->head.ctx->dev;
    long L = h.dim[0];
    ts_tensor n = first_rows(w->n, L), f = first_rows(w->f, L);
    TRY(norm_rows(e, h, b->norm2, n));
    TRY(ts_linear_op(
        dev, (ts_linear){.x = n, .w = b->wi0.w, .act = e->gated ? TS_ACT_NONE : e->act, .y = f}));
    if (e->gated) {
        ts_tensor g = first_rows(w->g, L);
        TRY(ts_linear_op(dev, (ts_linear){.x = n, .w = b->wi1.w, .y = g}));
        TRY(ts_activate_op(dev, (ts_activate){.act = e->act, .x = f, .mul = g, .y = f}));
    }
    TRY(ts_linear_op(dev, (ts_linear){.x = f, .w = b->wo.w, .resid = h, .y = h}));
done:
    return st;
}

static ts_status take_buffers(t5 *e, work *w, const ts_ids *ids, int n)
{
    ts_arena *a = &e->head.ctx->arena;
    ts_dtype act = e->head.ctx->act;
    long inner = (long)e->heads * e->kv;
    for (int i = 0; i < n; i++) {
        if (ids[i].n < 1)
            return ts_fail(&e->head.ctx->err, TS_EUSAGE, "text %d has no tokens", i + 1);
        w->L = ids[i].n > w->L ? ids[i].n : w->L;
    }
    long L = w->L, line = 2 * L - 1;
    size_t biases = (size_t)e->heads * (size_t)line, states = (size_t)L * (size_t)e->dim;
    w->h = calloc((size_t)n, sizeof *w->h);
    w->host = malloc((biases > states ? biases : states) * sizeof(float));
    if (!w->h || !w->host)
        return ts_fail(&e->head.ctx->err, TS_EMEMORY, "no memory for texts of %d tokens", w->L);
    for (int i = 0; i < n; i++) w->h[i] = ts_take(a, TS_F32, TS_DIM(ids[i].n, e->dim));
    w->n = ts_take(a, act, TS_DIM(L, e->dim));
    w->q = ts_take(a, act, TS_DIM(L, inner));
    w->k = ts_take(a, act, TS_DIM(L, inner));
    w->v = ts_take(a, act, TS_DIM(L, inner));
    w->o = ts_take(a, act, TS_DIM(L, inner));
    w->f = ts_take(a, act, TS_DIM(L, e->ff));
    if (e->gated) w->g = ts_take(a, act, TS_DIM(L, e->ff));
    w->line = ts_take(a, TS_F32, TS_DIM(e->heads, line));
    w->bias = ts_take(a, TS_F32, TS_DIM(e->heads, L, L));
    return TS_OK;
}

static ts_status embed_ids(t5 *e, work *w, const ts_ids *ids, int n)
{
    ts_status st = TS_OK;
    ts_device *dev = e->head.ctx->dev;
    for (int i = 0; i < n; i++) {
        TRY(ts_weights_rows(e->head.weights, e->embedding, ids[i].ids, ids[i].n, e->vocab, e->dim,
                            w->host));
        TRY(dev->ops->upload(dev, w->h[i].p, w->host, (size_t)ts_count(w->h[i]) * sizeof(float)));
    }
done:
    return st;
}

static ts_status download_states(t5 *e, work *w, int n, float *const *out)
{
    ts_status st = TS_OK;
    ts_device *dev = e->head.ctx->dev;
    for (int i = 0; i < n; i++) {
        TRY(norm_rows(e, w->h[i], e->final, w->h[i]));
        TRY(dev->ops->download(dev, out[i], w->h[i].p, (size_t)ts_count(w->h[i]) * sizeof(float)));
        for (long k = 0; k < ts_count(w->h[i]); k++)
            if (!isfinite(out[i][k]))
                TRY(ts_fail(&e->head.ctx->err, TS_ENUMBER,
                            "the text encoder's states of text %d hold NaN or infinity", i + 1));
    }
done:
    return st;
}

static ts_status run_t5(ts_encoder *head, ts_text_output output, const ts_ids *ids, int n,
                        float *const *out)
{
    ts_status st = TS_OK;
    t5 *e = (t5 *)head;
    work w = {0};
    double began = ts_seconds();
    size_t mark = ts_mark(&e->head.ctx->arena);
    if (output.hidden || output.pooled)
        TRY(ts_fail(&e->head.ctx->err, TS_EUSAGE,
                    "%s has the states that it ends with, and no others", head->cls->cls));
    TRY(take_buffers(e, &w, ids, n));
    TRY(embed_ids(e, &w, ids, n));
    for (int i = 0; i < e->layers; i++) {
        TRY(ts_weights_enter(e->head.weights, i));
        TRY(load_line(e, &w, i));
        for (int k = 0; k < n; k++) {
            TRY(spread_biases(e, &w, ids[k].n));
            TRY(attend_text(e, e->block + i, &w, w.h[k]));
            TRY(apply_t5_feed_forward(e, e->block + i, &w, w.h[k]));
        }
        ts_progress(e->head.ctx, (ts_event){.phase = TS_PHASE_TEXT,
                                            .step = 1,
                                            .steps = 1,
                                            .layer = i + 1,
                                            .layers = e->layers,
                                            .seconds = ts_seconds() - began});
    }
    TRY(download_states(e, &w, n, out));
done:
    ts_release(&e->head.ctx->arena, mark);
    free(w.host);
    free(w.h);
    return st;
}

const ts_encoder_class ts_encoder_t5 = {.cls = "T5EncoderModel",
                                        .names = &t5_names,
                                        .infer = infer_t5,
                                        .open = open_t5,
                                        .close = close_t5,
                                        .run = run_t5};
const ts_encoder_class ts_encoder_umt5 = {.cls = "UMT5EncoderModel",
                                          .names = &t5_names,
                                          .infer = infer_t5,
                                          .open = open_umt5,
                                          .close = close_t5,
                                          .run = run_t5};
/* T5 v1.1 on another vocabulary */
const ts_encoder_class ts_encoder_mt5 = {.cls = "MT5EncoderModel",
                                         .like = "T5EncoderModel",
                                         .names = &t5_names,
                                         .infer = infer_t5,
                                         .open = open_mt5,
                                         .close = close_t5,
                                         .run = run_t5};
