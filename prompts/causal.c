/* Text encoders whose tokens see what is before them: the text tower of CLIP (transformers'
 * modeling_clip.py) and Llama (modeling_llama.py). Pre-norm blocks of both:
 *
 *   h += o(softmax(q k' / sqrt(d) + mask) v) of n(h),   h += down(m) of n(h)
 *   CLIP   n: layer norm; positions are added to the embedding;  m = act(up n)
 *   Llama  n: rms; q and k turn by their positions;              m = act(gate n) * up n
 *
 * Llama turns channels j and j + d/2 of a head together: q and k are laid out with these side by
 * side, which changes no product of theirs. Its heads share keys and values, A / KV each.
 *
 * Pads stand behind a text, where no token sees them, so only the real tokens are computed. All
 * texts of a call pass a block together, while its weights are there; layers behind the output that
 * is wanted are not entered. */
#include "prompts/causal_files.h"
#include "prompts/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    ts_layer norm1, norm2;               /* without b: rms */
    ts_layer q, k, v, o, gate, up, down; /* gate: of Llama */
} causal_block;
typedef struct {
    ts_encoder head;
    bool llama;
    bool paired; /* rows of q and k are laid out as Llama turns them: see lay_heads */
    int vocab, dim, ff, layers, heads, kv, d; /* d: width of a head */
    int longest, end;                         /* CLIP: positions; its end token */
    double eps, theta;
    bool bias, ff_bias;
    ts_act act;
    causal_block *block;
    const ts_weight *positions;
    ts_layer norm; /* behind the layers */
} causal;

/* ---- config ---- */

static ts_status read_act(causal *e, const ts_component *c, const char *name)
{
    static const struct {
        const char *name;
        ts_act act;
    } acts[] = {{"quick_gelu", TS_ACT_QUICK_GELU},
                {"gelu", TS_ACT_GELU},
                {"gelu_new", TS_ACT_GELU_TANH},
                {"gelu_pytorch_tanh", TS_ACT_GELU_TANH},
                {"silu", TS_ACT_SILU},
                {"relu", TS_ACT_RELU}};
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (!strcmp(name, acts[i].name)) {
            e->act = acts[i].act;
            return TS_OK;
        }
    return ts_fail(&e->head.ctx->err, TS_EMODEL,
                   "%s: hidden_act \"%s\" is not supported (quick_gelu, gelu, gelu_new, "
                   "gelu_pytorch_tanh, silu, relu)",
                   c->config_path, name);
}

static ts_status check_causal(const causal *e, const ts_component *c)
{
    ts_ctx *ctx = e->head.ctx;
    const ts_range range[] = {{"vocab_size", e->vocab, 1, 1 << 24},
                              {"hidden_size", e->dim, 1, 1 << 16},
                              {"intermediate_size", e->ff, 1, 1 << 20},
                              {"num_hidden_layers", e->layers, 1, 4096},
                              {"num_attention_heads", e->heads, 1, 4096},
                              {"num_key_value_heads", e->kv, 1, e->heads},
                              {"max_position_embeddings", e->longest, 1, 1 << 24}};
    ts_status st = ts_config_ranges(ctx, c->config_path, range, sizeof range / sizeof *range);
    if (st) return st;
    if (!e->llama && e->dim % e->heads)
        return ts_fail(&ctx->err, TS_EMODEL, "%s: hidden_size %d is no multiple of %d heads",
                       c->config_path, e->dim, e->heads);
    if (e->heads % e->kv)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: %d num_attention_heads are no multiple of %d num_key_value_heads",
                       c->config_path, e->heads, e->kv);
    if (e->d < 1 || e->d > 4096 || (e->llama && e->d % 2))
        return ts_fail(&ctx->err, TS_EMODEL, "%s: head_dim is %d, expected an even number to 4096",
                       c->config_path, e->d);
    if (e->llama && !(e->theta > 0))
        return ts_fail(&ctx->err, TS_EMODEL, "%s: rope_theta is %g, must be more than 0",
                       c->config_path, e->theta);
    return TS_OK;
}

static ts_status read_clip_text(causal *e, const ts_component *c)
{
    ts_status st;
    char act[64] = "quick_gelu";
    const ts_key keys[] = {
        {"vocab_size", TS_KEY_INT, &e->vocab, 0, NULL, NULL},
        {"hidden_size", TS_KEY_INT, &e->dim, 0, NULL, NULL},
        {"intermediate_size", TS_KEY_INT, &e->ff, 0, NULL, NULL},
        {"num_hidden_layers", TS_KEY_INT, &e->layers, 0, NULL, NULL},
        {"num_attention_heads", TS_KEY_INT, &e->heads, 0, NULL, NULL},
        {"max_position_embeddings", TS_KEY_INT, &e->longest, 0, NULL, NULL},
        {"layer_norm_eps", TS_KEY_FLOAT, &e->eps, 0, NULL, NULL},
        {"eos_token_id", TS_KEY_INT, &e->end, 0, NULL, NULL},
        {"hidden_act", TS_KEY_STRING, act, 0, NULL, NULL},
        TS_ONLY("model_type", "\"clip_text_model\""),
        /* of training, of the tokenizer, or of a head that is not used */
        TS_IGNORED("architectures"),
        TS_IGNORED("attention_dropout"),
        TS_IGNORED("bos_token_id"),
        TS_IGNORED("dropout"),
        TS_IGNORED("dtype"),
        TS_IGNORED("initializer_factor"),
        TS_IGNORED("initializer_range"),
        TS_IGNORED("pad_token_id"),
        TS_IGNORED("projection_dim"),
        TS_IGNORED("torch_dtype"),
        TS_IGNORED("transformers_version"),
    };
    TRY(ts_config_read(e->head.ctx, c->config, c->config_path, keys, sizeof keys / sizeof *keys));
    TRY(read_act(e, c, act));
    e->kv = e->heads;
    if (e->heads > 0) e->d = e->dim / e->heads;
    TRY(check_causal(e, c));
done:
    return st;
}

static ts_status read_llama(causal *e, const ts_component *c)
{
    ts_status st;
    char act[64] = "silu";
    const cJSON *rope = cJSON_GetObjectItemCaseSensitive(c->config, "rope_parameters");
    const ts_key keys[] = {
        {"vocab_size", TS_KEY_INT, &e->vocab, 0, NULL, NULL},
        {"hidden_size", TS_KEY_INT, &e->dim, 0, NULL, NULL},
        {"intermediate_size", TS_KEY_INT, &e->ff, 0, NULL, NULL},
        {"num_hidden_layers", TS_KEY_INT, &e->layers, 0, NULL, NULL},
        {"num_attention_heads", TS_KEY_INT, &e->heads, 0, NULL, NULL},
        {"num_key_value_heads", TS_KEY_INT, &e->kv, 0, NULL, NULL},
        {"head_dim", TS_KEY_INT, &e->d, 0, NULL, NULL},
        {"max_position_embeddings", TS_KEY_INT, &e->longest, 0, NULL, NULL},
        {"rms_norm_eps", TS_KEY_FLOAT, &e->eps, 0, NULL, NULL},
        {"rope_theta", TS_KEY_FLOAT, &e->theta, 0, NULL, NULL},
        {"attention_bias", TS_KEY_BOOL, &e->bias, 0, NULL, NULL},
        {"mlp_bias", TS_KEY_BOOL, &e->ff_bias, 0, NULL, NULL},
        {"hidden_act", TS_KEY_STRING, act, 0, NULL, NULL},
        TS_ONLY("model_type", "\"llama\""),
        TS_ONLY("rope_scaling", "null"),
        TS_IGNORED("rope_parameters"), /* below */
        /* of training, of the tokenizer, or of a head that is not used */
        TS_IGNORED("architectures"),
        TS_IGNORED("attention_dropout"),
        TS_IGNORED("bos_token_id"),
        TS_IGNORED("dtype"),
        TS_IGNORED("eos_token_id"),
        TS_IGNORED("initializer_range"),
        TS_IGNORED("pad_token_id"),
        TS_IGNORED("pretraining_tp"),
        TS_IGNORED("tie_word_embeddings"),
        TS_IGNORED("torch_dtype"),
        TS_IGNORED("transformers_version"),
        TS_IGNORED("use_cache"),
    };
    const ts_key turns[] = {{"rope_theta", TS_KEY_FLOAT, &e->theta, 0, NULL, NULL},
                            TS_ONLY("rope_type", "\"default\"|null")};
    TRY(ts_config_read(e->head.ctx, c->config, c->config_path, keys, sizeof keys / sizeof *keys));
    if (cJSON_IsObject(rope))
        TRY(ts_config_read(e->head.ctx, rope, c->config_path, turns, sizeof turns / sizeof *turns));
    TRY(read_act(e, c, act));
    if (!e->kv) e->kv = e->heads;
    if (!e->d && e->heads > 0) e->d = e->dim / e->heads;
    TRY(check_causal(e, c));
done:
    return st;
}

/* ---- bind ---- */

static ts_status bind_clip_text_block(causal *e, int i)
{
    causal_block *b = e->block + i;
    long D = e->dim, F = e->ff;
    const ts_layer_row row[] = {
        TS_LINEAR(&b->q, "self_attn.q_proj", D, D), TS_LINEAR(&b->k, "self_attn.k_proj", D, D),
        TS_LINEAR(&b->v, "self_attn.v_proj", D, D), TS_LINEAR(&b->o, "self_attn.out_proj", D, D),
        TS_LINEAR(&b->up, "mlp.fc1", F, D),         TS_LINEAR(&b->down, "mlp.fc2", D, F),
        TS_NORM(&b->norm1, "layer_norm1", D),       TS_NORM(&b->norm2, "layer_norm2", D),
    };
    return ts_find_layers(e->head.weights, i, row, sizeof row / sizeof *row, "encoder.layers", i);
}

static ts_status bind_llama_block(causal *e, int i)
{
    ts_status st;
    causal_block *b = e->block + i;
    ts_weights *ws = e->head.weights;
    long D = e->dim, F = e->ff, Q = (long)e->heads * e->d, K = (long)e->kv * e->d;
    const ts_layer_row row[] = {
        {&b->q, "self_attn.q_proj", Q, D, e->bias},    {&b->k, "self_attn.k_proj", K, D, e->bias},
        {&b->v, "self_attn.v_proj", K, D, e->bias},    {&b->o, "self_attn.o_proj", D, Q, e->bias},
        {&b->gate, "mlp.gate_proj", F, D, e->ff_bias}, {&b->up, "mlp.up_proj", F, D, e->ff_bias},
        {&b->down, "mlp.down_proj", D, F, e->ff_bias}};
    TRY(ts_find_layers(ws, i, row, sizeof row / sizeof *row, "layers", i));
    TRY(ts_find_vector(ws, i, &b->norm1.w, 1, &D, "layers.%d.input_layernorm.weight", i));
    TRY(ts_find_vector(ws, i, &b->norm2.w, 1, &D, "layers.%d.post_attention_layernorm.weight", i));
done:
    return st;
}

static const char *name_of_embedding(const causal *e)
{
    return e->llama ? "embed_tokens.weight" : "embeddings.token_embedding.weight";
}

static ts_status bind_causal(causal *e)
{
    ts_status st = TS_OK;
    ts_weights *ws = e->head.weights;
    long D = e->dim;
    for (int i = 0; i < e->layers; i++)
        TRY(e->llama ? bind_llama_block(e, i) : bind_clip_text_block(e, i));
    if (e->llama) {
        TRY(ts_find_vector(ws, 0, &e->norm.w, 1, &D, "norm.weight"));
    } else {
        TRY(ts_find_norm(ws, 0, &e->norm, D, "final_layer_norm"));
        TRY(ts_find_vector(ws, 0, &e->positions, 2, (long[]){e->longest, D},
                           "embeddings.position_embedding.weight"));
    }
    TRY(ts_weights_rows(ws, name_of_embedding(e), NULL, 0, e->vocab, e->dim, NULL));
done:
    return st;
}

static void close_causal(ts_encoder *head)
{
    causal *e = (causal *)head;
    if (!e) return;
    ts_weights_close(e->head.weights);
    free(e->block);
    free(e);
}

static ts_status open_causal(ts_ctx *ctx, const ts_component *c, const ts_encoder_class *cls,
                             causal defaults, ts_encoder **out)
{
    ts_status st = TS_OK;
    causal *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a text encoder");
    *e = defaults;
    e->head.cls = cls;
    e->head.ctx = ctx;
    TRY(e->llama ? read_llama(e, c) : read_clip_text(e, c));
    e->head.width = e->dim;
    e->head.pooled = e->llama ? 0 : e->dim;
    TRY(ts_weights_open(ctx, c->dir, "model", cls->names, &e->head.weights));
    e->paired = ts_llama_pairs(ts_weights_naming(e->head.weights));
    e->block = calloc((size_t)e->layers, sizeof *e->block);
    if (!e->block) TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for %d layers", e->layers));
    TRY(bind_causal(e));
    ts_weights_warn_unused(e->head.weights);
    *out = &e->head;
    e = NULL;
done:
    close_causal(e ? &e->head : NULL);
    return st;
}

static ts_status open_clip_text(ts_ctx *ctx, const ts_component *c, ts_encoder **out)
{
    causal of_class = {.vocab = 49408,
                       .dim = 512,
                       .ff = 2048,
                       .layers = 12,
                       .heads = 8,
                       .longest = 77,
                       .end = 49407,
                       .eps = 1e-5,
                       .bias = true,
                       .ff_bias = true};
    return open_causal(ctx, c, &ts_encoder_clip, of_class, out);
}

static ts_status open_llama(ts_ctx *ctx, const ts_component *c, ts_encoder **out)
{
    causal of_class = {.llama = true,
                       .vocab = 32000,
                       .dim = 4096,
                       .ff = 11008,
                       .layers = 32,
                       .heads = 32,
                       .longest = 2048,
                       .eps = 1e-6,
                       .theta = 10000};
    return open_causal(ctx, c, &ts_encoder_llama, of_class, out);
}

/* ---- run ---- */

typedef struct {            /* one call's buffers; L is the longest text */
    ts_tensor *h;           /* f32 [n_i, dim] of each text */
    ts_tensor n;            /* [L, dim] */
    ts_tensor q, k, v, out; /* [L, A d], k and v of Llama [L, KV d] */
    ts_tensor qs, ks, vs;   /* Llama: [L, A d], as attention reads them */
    ts_tensor f, g;         /* [L, ff]; g: of Llama */
    ts_tensor cos, sin;     /* Llama: [L, d / 2] */
    ts_tensor line, mask;   /* f32 [2 L - 1] by distance; [1, n, n] */
    float *host;            /* of an embedding or of tables */
    int L, spread;          /* spread: the n of mask, 0: none */
} causal_work;

/* What a key that is not to be seen has added to its logit. */
static const float UNSEEN = -1e30F;

static ts_status take_causal(causal *e, causal_work *w, const ts_ids *ids, int n)
{
    ts_ctx *ctx = e->head.ctx;
    ts_arena *a = &ctx->arena;
    for (int i = 0; i < n; i++) {
        if (ids[i].n < 1) return ts_fail(&ctx->err, TS_EUSAGE, "text %d has no tokens", i + 1);
        w->L = ids[i].n > w->L ? ids[i].n : w->L;
    }
    if (w->L > e->longest)
        return ts_fail(&ctx->err, TS_ESHAPE, "a text of %d tokens, the encoder reads at most %d",
                       w->L, e->longest);
    long L = w->L, Q = (long)e->heads * e->d, K = (long)e->kv * e->d;
    size_t room = (size_t)L * (size_t)(e->dim > e->d ? e->dim : e->d) + 2 * (size_t)L;
    w->h = calloc((size_t)n, sizeof *w->h);
    w->host = malloc(room * sizeof *w->host);
    if (!w->h || !w->host)
        return ts_fail(&ctx->err, TS_EMEMORY, "no memory for texts of %d tokens", w->L);
    for (int i = 0; i < n; i++) w->h[i] = ts_take(a, TS_F32, TS_DIM(ids[i].n, e->dim));
    w->n = ts_take(a, ctx->act, TS_DIM(L, e->dim));
    w->q = ts_take(a, ctx->act, TS_DIM(L, Q));
    w->k = ts_take(a, ctx->act, TS_DIM(L, K));
    w->v = ts_take(a, ctx->act, TS_DIM(L, K));
    w->out = ts_take(a, ctx->act, TS_DIM(L, Q));
    w->f = ts_take(a, ctx->act, TS_DIM(L, e->ff));
    w->line = ts_take(a, TS_F32, TS_DIM(1, 2 * L - 1));
    w->mask = ts_take(a, TS_F32, TS_DIM(1, L, L));
    if (!e->llama) return TS_OK;
    w->qs = ts_take(a, ctx->act, TS_DIM(L, Q));
    w->ks = ts_take(a, ctx->act, TS_DIM(L, Q));
    w->vs = ts_take(a, ctx->act, TS_DIM(L, Q));
    w->g = ts_take(a, ctx->act, TS_DIM(L, e->ff));
    w->cos = ts_take(a, TS_F32, TS_DIM(L, e->d / 2));
    w->sin = ts_take(a, TS_F32, TS_DIM(L, e->d / 2));
    return TS_OK;
}

/* The mask by distance, and the turns of positions 0 .. L - 1. */
static ts_status upload_tables(causal *e, causal_work *w)
{
    ts_status st;
    ts_device *dev = e->head.ctx->dev;
    int half = e->d / 2;
    for (int i = 0; i < 2 * w->L - 1; i++) w->host[i] = i < w->L ? 0 : UNSEEN;
    TRY(dev->ops->upload(dev, w->line.p, w->host, (size_t)(2 * w->L - 1) * sizeof(float)));
    for (int part = 0; e->llama && part < 2; part++) {
        for (int p = 0; p < w->L; p++)
            for (int j = 0; j < half; j++) {
                float turn = (float)pow(e->theta, -2.0 * j / e->d), angle = (float)p * turn;
                w->host[p * half + j] = part ? sinf(angle) : cosf(angle);
            }
        TRY(dev->ops->upload(dev, part ? w->sin.p : w->cos.p, w->host,
                             (size_t)w->L * (size_t)half * sizeof(float)));
    }
done:
    return st;
}

static ts_status embed_causal(causal *e, causal_work *w, const ts_ids *ids, int n)
{
    ts_status st = TS_OK;
    ts_device *dev = e->head.ctx->dev;
    for (int i = 0; i < n; i++) {
        TRY(ts_weights_rows(e->head.weights, name_of_embedding(e), ids[i].ids, ids[i].n, e->vocab,
                            e->dim, w->host));
        TRY(dev->ops->upload(dev, w->h[i].p, w->host, (size_t)ts_count(w->h[i]) * sizeof(float)));
        if (e->positions)
            TRY(ts_lincomb_op(
                dev, (ts_lincomb){.n = 2,
                                  .c = {1, 1},
                                  .x = {w->h[i], ts_row_range(e->positions->t, 0, ids[i].n)},
                                  .y = w->h[i]}));
    }
done:
    return st;
}

/* mask[i, j] = line[L - 1 + j - i]: one step to the left a row */
static ts_status spread_mask(causal *e, causal_work *w, long n)
{
    if (w->spread == n) return TS_OK;
    w->spread = (int)n;
    return ts_copy_op(e->head.ctx->dev,
                      (ts_copy){.src = ts_at(w->line.p, (size_t)(w->L - 1) * sizeof(float)),
                                .dst = w->mask.p,
                                .stype = TS_F32,
                                .dtype = TS_F32,
                                .nd = 2,
                                .dim = {n, n},
                                .ss = {-1, 1},
                                .ds = {n, 1}});
}

static ts_status norm_causal(causal *e, const ts_layer *n, ts_tensor x, ts_tensor y)
{
    return ts_norm_op(e->head.ctx->dev, (ts_norm){.kind = n->b ? TS_NORM_LAYER : TS_NORM_RMS,
                                                  .eps = (float)e->eps,
                                                  .x = x,
                                                  .w = n->w,
                                                  .b = n->b,
                                                  .y = y});
}

static ts_status apply_causal_linear(causal *e, const ts_layer *l, ts_tensor x, ts_act act,
                                     ts_tensor resid, ts_tensor y)
{
    return ts_linear_op(
        e->head.ctx->dev,
        (ts_linear){.x = x, .w = l->w, .b = l->b, .act = act, .resid = resid, .y = y});
}

/* to [n, A d] = from [n, H d], each of its heads A / H times; pair: channels j and j + d/2 come to
 * stand side by side */
static ts_status lay_heads(causal *e, ts_tensor from, int heads, bool pair, ts_tensor to)
{
    long d = e->d, half = d / 2, times = e->heads / heads;
    ts_copy c = {.src = from.p,
                 .dst = to.p,
                 .stype = from.type,
                 .dtype = to.type,
                 .nd = 5,
                 .dim = {from.dim[0], heads, times, 2, half},
                 .ss = {from.ld, d, 0, half, 1},
                 .ds = {to.ld, times * d, d, half, 1}};
    if (pair) {
        c.ds[3] = 1;
        c.ds[4] = 2;
    }
    return ts_copy_op(e->head.ctx->dev, c);
}

static ts_status turn_heads(causal *e, const causal_work *w, ts_tensor x)
{
    long n = x.dim[0];
    ts_tensor heads = {x.p, x.type, 3, {n, e->heads, e->d}, x.ld};
    return ts_rope_op(e->head.ctx->dev, (ts_rope){.x = heads,
                                                  .cos = ts_row_range(w->cos, 0, n),
                                                  .sin = ts_row_range(w->sin, 0, n)});
}

static ts_status attend_causal(causal *e, const causal_block *b, causal_work *w, ts_tensor h)
{
    ts_status st;
    long n = h.dim[0];
    ts_tensor none = {0}, x = ts_row_range(w->n, 0, n), q = ts_row_range(w->q, 0, n),
              k = ts_row_range(w->k, 0, n), v = ts_row_range(w->v, 0, n),
              o = ts_row_range(w->out, 0, n);
    TRY(norm_causal(e, &b->norm1, h, x));
    TRY(apply_causal_linear(e, &b->q, x, TS_ACT_NONE, none, q));
    TRY(apply_causal_linear(e, &b->k, x, TS_ACT_NONE, none, k));
    TRY(apply_causal_linear(e, &b->v, x, TS_ACT_NONE, none, v));
    if (e->llama) {
        ts_tensor qs = ts_row_range(w->qs, 0, n), ks = ts_row_range(w->ks, 0, n),
                  vs = ts_row_range(w->vs, 0, n);
        TRY(lay_heads(e, q, e->heads, !e->paired, qs));
        TRY(lay_heads(e, k, e->kv, !e->paired, ks));
        TRY(lay_heads(e, v, e->kv, false, vs));
        TRY(turn_heads(e, w, qs));
        TRY(turn_heads(e, w, ks));
        q = qs;
        k = ks;
        v = vs;
    }
    ts_tensor heads[4] = {q, k, v, o};
    for (int i = 0; i < 4; i++)
        heads[i] = (ts_tensor){heads[i].p, q.type, 4, {1, n, e->heads, e->d}, heads[i].ld};
    TRY(spread_mask(e, w, n));
    TRY(ts_attention_op(e->head.ctx->dev,
                        (ts_attention){.q = heads[0],
                                       .k = heads[1],
                                       .v = heads[2],
                                       .out = heads[3],
                                       .scale = 1 / sqrtf((float)e->d),
                                       .bias = ts_tensor_of(w->mask.p, TS_F32, TS_DIM(1, n, n))}));
    TRY(apply_causal_linear(e, &b->o, o, TS_ACT_NONE, h, h));
done:
    return st;
}

static ts_status apply_causal_feed_forward(causal *e, const causal_block *b, const causal_work *w,
                                           ts_tensor h)
{
    ts_status st;
    long n = h.dim[0];
    ts_tensor none = {0}, x = ts_row_range(w->n, 0, n), f = ts_row_range(w->f, 0, n);
    TRY(norm_causal(e, &b->norm2, h, x));
    if (e->llama) {
        ts_tensor g = ts_row_range(w->g, 0, n);
        TRY(apply_causal_linear(e, &b->gate, x, TS_ACT_NONE, none, g));
        TRY(apply_causal_linear(e, &b->up, x, TS_ACT_NONE, none, f));
        TRY(ts_activate_op(e->head.ctx->dev,
                           (ts_activate){.act = e->act, .x = g, .mul = f, .y = f}));
    } else {
        TRY(apply_causal_linear(e, &b->up, x, e->act, none, f));
    }
    TRY(apply_causal_linear(e, &b->down, f, TS_ACT_NONE, h, h));
done:
    return st;
}

/* The row that stands for a text of CLIP: its first end token. Configs of the original files say 2,
 * which is none: there it is the first of the largest ids. */
static int find_end(const causal *e, ts_ids ids)
{
    int at = 0;
    for (int i = 0; i < ids.n; i++) {
        if (e->end == 2 && ids.ids[i] > ids.ids[at]) at = i;
        if (e->end != 2 && ids.ids[i] == e->end) return i;
    }
    return at;
}

static ts_status download_causal(causal *e, ts_text_output output, causal_work *w,
                                 const ts_ids *ids, int n, bool ended, float *const *out)
{
    ts_status st = TS_OK;
    ts_device *dev = e->head.ctx->dev;
    for (int i = 0; i < n; i++) {
        ts_tensor h = w->h[i];
        if (output.pooled) h = ts_row_range(h, find_end(e, ids[i]), 1);
        if (ended) TRY(norm_causal(e, &e->norm, h, h));
        TRY(dev->ops->download(dev, out[i], h.p, (size_t)ts_count(h) * sizeof(float)));
        for (long k = 0; !dev->counting && k < ts_count(h); k++)
            if (!isfinite(out[i][k]))
                TRY(ts_fail(&e->head.ctx->err, TS_ENUMBER,
                            "the text encoder's states of text %d hold NaN or infinity", i + 1));
    }
done:
    return st;
}

static ts_status run_causal(ts_encoder *head, ts_text_output output, const ts_ids *ids, int n,
                            float *const *out)
{
    ts_status st = TS_OK;
    causal *e = (causal *)head;
    causal_work w = {0};
    double began = ts_seconds();
    size_t mark = ts_mark(&e->head.ctx->arena);
    bool ended = output.hidden >= -1;
    int layers = ended ? e->layers : e->layers + 1 + output.hidden;
    if (layers < 0 || output.hidden > 0 || (output.pooled && !e->head.pooled))
        TRY(ts_fail(&e->head.ctx->err, TS_EUSAGE, "%s of %d layers has no %s %d", head->cls->cls,
                    e->layers, output.pooled ? "pooled state" : "hidden state", output.hidden));
    TRY(take_causal(e, &w, ids, n));
    TRY(ts_weights_enter(e->head.weights, 0));
    TRY(upload_tables(e, &w));
    TRY(embed_causal(e, &w, ids, n));
    for (int i = 0; i < layers; i++) {
        TRY(ts_weights_enter(e->head.weights, i));
        for (int k = 0; k < n; k++) {
            TRY(attend_causal(e, e->block + i, &w, w.h[k]));
            TRY(apply_causal_feed_forward(e, e->block + i, &w, w.h[k]));
        }
        ts_progress(e->head.ctx, (ts_event){.phase = TS_PHASE_TEXT,
                                            .step = 1,
                                            .steps = 1,
                                            .layer = i + 1,
                                            .layers = layers,
                                            .seconds = ts_seconds() - began});
    }
    TRY(download_causal(e, output, &w, ids, n, ended, out));
done:
    ts_release(&e->head.ctx->arena, mark);
    free(w.host);
    free(w.h);
    return st;
}

const ts_encoder_class ts_encoder_clip = {.cls = "CLIPTextModel",
                                          .names = &ts_clip_text_names,
                                          .infer = ts_clip_text_infer,
                                          .open = open_clip_text,
                                          .close = close_causal,
                                          .run = run_causal};
const ts_encoder_class ts_encoder_llama = {.cls = "LlamaModel",
                                           .names = &ts_llama_names,
                                           .infer = ts_llama_infer,
                                           .open = open_llama,
                                           .close = close_causal,
                                           .run = run_causal};
