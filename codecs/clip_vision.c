/* CLIP's image encoder, as CLIPVisionModel of transformers computes it:
 *
 *   h = ln([class; conv(pixels)] + positions), kernel = stride = patch
 *   h += O(attention(Q n, K n, V n)), n = ln(h)
 *   h += W2 act(W1 n),                n = ln(h)
 *
 * What diffusion transformers read (hidden_states[-2]) is h before the last layer, which is
 * therefore never run; the norm behind it is not used either. The residual stream h is f32,
 * activations have the type of ctx->act. */
#include "codecs/clip_vision.h"

#include "codecs/picture_resize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    ts_layer q, k, v, o, up, down, norm1, norm2;
} clip_block;

struct ts_clip_vision {
    ts_ctx *ctx;
    ts_clip_vision_info info;
    ts_weights *weights;
    const ts_weight *class_row, *positions;
    ts_layer patch, norm;
    clip_block *block; /* [layers - 1] and the last, which is bound alone */
};

/* ---- configs ---- */

static ts_status read_activation(ts_ctx *ctx, const char *path, const char *name, ts_act *out)
{
    static const struct {
        const char *name;
        ts_act act;
    } known[] = {{"gelu", TS_ACT_GELU},
                 {"quick_gelu", TS_ACT_QUICK_GELU},
                 {"gelu_new", TS_ACT_GELU_TANH},
                 {"gelu_pytorch_tanh", TS_ACT_GELU_TANH}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) {
            *out = known[i].act;
            return TS_OK;
        }
    return ts_fail(&ctx->err, TS_EMODEL,
                   "%s: hidden_act \"%s\" is not supported (gelu, quick_gelu, gelu_new, "
                   "gelu_pytorch_tanh)",
                   path, name);
}

static ts_status read_encoder_config(ts_ctx *ctx, const ts_component *c, ts_clip_vision_info *i)
{
    ts_status st;
    char act[64] = "quick_gelu";
    const ts_key keys[] = {
        {"hidden_size", TS_KEY_INT, &i->width, 0, NULL, NULL},
        {"intermediate_size", TS_KEY_INT, &i->ff, 0, NULL, NULL},
        {"num_hidden_layers", TS_KEY_INT, &i->layers, 0, NULL, NULL},
        {"num_attention_heads", TS_KEY_INT, &i->heads, 0, NULL, NULL},
        {"num_channels", TS_KEY_INT, &i->channels, 0, NULL, NULL},
        {"image_size", TS_KEY_INT, &i->image, 0, NULL, NULL},
        {"patch_size", TS_KEY_INT, &i->patch, 0, NULL, NULL},
        {"layer_norm_eps", TS_KEY_FLOAT, &i->eps, 0, NULL, NULL},
        {"hidden_act", TS_KEY_STRING, act, 0, NULL, NULL},
        TS_ONLY("model_type", "\"clip_vision_model\""),
        /* of training, or of a head that is not used */
        TS_IGNORED("architectures"),
        TS_IGNORED("attention_dropout"),
        TS_IGNORED("dropout"),
        TS_IGNORED("dtype"),
        TS_IGNORED("torch_dtype"),
        TS_IGNORED("initializer_factor"),
        TS_IGNORED("initializer_range"),
        TS_IGNORED("projection_dim"),
        TS_IGNORED("transformers_version"),
    };
    TRY(ts_config_read(ctx, c->config, c->config_path, keys, sizeof keys / sizeof *keys));
    TRY(read_activation(ctx, c->config_path, act, &i->act));
    const ts_range range[] = {
        {"hidden_size", i->width, 1, 1 << 16},     {"intermediate_size", i->ff, 1, 1 << 20},
        {"num_hidden_layers", i->layers, 1, 4096}, {"num_attention_heads", i->heads, 1, 4096},
        {"num_channels", i->channels, 3, 3},       {"image_size", i->image, 1, 1 << 14},
        {"patch_size", i->patch, 1, i->image}};
    TRY(ts_config_ranges(ctx, c->config_path, range, sizeof range / sizeof *range));
    if (i->width % i->heads)
        TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: hidden_size %d is no multiple of %d heads",
                    c->config_path, i->width, i->heads));
done:
    return st;
}

/* A size of a processor: a number, which is the shortest edge or both sides, or an object. */
static ts_status read_size(ts_ctx *ctx, const char *path, const cJSON *config, const char *key,
                           int *edge, int *w, int *h)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, key);
    const struct {
        const char *name;
        int *out;
    } part[] = {{"shortest_edge", edge}, {"width", w}, {"height", h}};
    enum { MOST = 1 << 14 };
    int found = 0;
    if (!v || cJSON_IsNull(v)) return TS_OK;
    *edge = *w = *h = 0;
    if (cJSON_IsNumber(v)) *edge = v->valueint;
    for (int i = 0; i < 3 && cJSON_IsObject(v); i++) {
        const cJSON *n = cJSON_GetObjectItemCaseSensitive(v, part[i].name);
        if (!cJSON_IsNumber(n)) continue;
        *part[i].out = n->valueint;
        found++;
    }
    bool one = *edge > 0 && *edge <= MOST && found < 2,
         two = !*edge && *w > 0 && *h > 0 && *w <= MOST && *h <= MOST;
    if (one || two) return TS_OK;
    char *got = cJSON_PrintUnformatted(v);
    ts_status st = ts_fail(&ctx->err, TS_EMODEL,
                           "%s: \"%s\" is %.80s, expected {\"shortest_edge\": N} or {\"height\": "
                           "N, \"width\": N} of 1 to %d",
                           path, key, got ? got : "?", MOST);
    free(got);
    return st;
}

static ts_status read_processor(ts_ctx *ctx, const char *path, const cJSON *json,
                                ts_clip_vision_info *i)
{
    ts_status st;
    int crop = i->image, crop_w = 0, crop_h = 0;
    const ts_key keys[] = {
        {"rescale_factor", TS_KEY_FLOAT, &i->rescale, 0, NULL, NULL},
        {"image_mean", TS_KEY_FLOATS, i->mean, 3, NULL, NULL},
        {"image_std", TS_KEY_FLOATS, i->std, 3, NULL, NULL},
        TS_ONLY("do_resize", "true|null"),
        TS_ONLY("do_center_crop", "true|null"),
        TS_ONLY("do_rescale", "true|null"),
        TS_ONLY("do_normalize", "true|null"),
        TS_ONLY("resample", "3|null"), /* bicubic */
        TS_IGNORED("size"),
        TS_IGNORED("crop_size"),
        TS_IGNORED("do_convert_rgb"),
        TS_IGNORED("image_processor_type"),
        TS_IGNORED("feature_extractor_type"),
        TS_IGNORED("processor_class"),
    };
    TRY(ts_config_read(ctx, json, path, keys, sizeof keys / sizeof *keys));
    TRY(read_size(ctx, path, json, "size", &i->edge, &i->edge_w, &i->edge_h));
    TRY(read_size(ctx, path, json, "crop_size", &crop, &crop_w, &crop_h));
    if (crop) crop_w = crop_h = crop;
    if (crop_w != i->image || crop_h != i->image)
        TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: \"crop_size\" is %dx%d, the encoder sees %dx%d",
                    path, crop_w, crop_h, i->image, i->image));
    for (int k = 0; k < 3; k++)
        if (!(i->std[k] > 0))
            TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: \"image_std\" is %g, must be more than 0", path,
                        i->std[k]));
done:
    return st;
}

ts_status ts_clip_vision_read(ts_ctx *ctx, const ts_component *encoder,
                              const ts_component *processor, ts_clip_vision_info *i)
{
    ts_status st;
    char path[4096];
    cJSON *json = NULL;
    *i = (ts_clip_vision_info){.width = 768,
                               .ff = 3072,
                               .layers = 12,
                               .heads = 12,
                               .channels = 3,
                               .image = 224,
                               .patch = 32,
                               .eps = 1e-5,
                               .rescale = 1 / 255.0,
                               .mean = {0.48145466F, 0.4578275F, 0.40821073F},
                               .std = {0.26862954F, 0.26130258F, 0.27577711F}};
    TRY(read_encoder_config(ctx, encoder, i));
    i->edge = i->image;
    if (!processor) goto done;
    snprintf(path, sizeof path, "%s/preprocessor_config.json", processor->dir);
    TRY(ts_json_load(&ctx->err, path, &json));
    TRY(read_processor(ctx, path, json, i));
done:
    cJSON_Delete(json);
    return st;
}

/* ---- pixels ---- */

/* a / 2, towards minus infinity */
static int half_down(int a) { return a >= 0 ? a / 2 : -((1 - a) / 2); }

ts_status ts_clip_vision_pixels(ts_err *err, const ts_clip_vision_info *i, const ts_picture *p,
                                float *out)
{
    ts_picture r;
    int S = i->image, w = i->edge_w, h = i->edge_h;
    if (i->edge) {
        int shorter = p->w < p->h ? p->w : p->h, longer = p->w < p->h ? p->h : p->w,
            other = (int)((int64_t)i->edge * longer / shorter);
        w = p->w <= p->h ? i->edge : other;
        h = p->w <= p->h ? other : i->edge;
    }
    ts_status st = ts_picture_resize(err, p, w, h, TS_FILTER_BICUBIC, &r);
    if (st) return st;
    /* the middle; what lies beyond is black */
    int left = half_down(w - S), top = half_down(h - S);
    for (int y = 0; y < S; y++)
        for (int x = 0; x < S; x++) {
            int a = x + left, b = y + top;
            bool inside = a >= 0 && a < w && b >= 0 && b < h;
            const uint8_t *from = r.rgb + 3 * ((size_t)(inside ? b : 0) * (size_t)w +
                                               (size_t)(inside ? a : 0));
            for (int c = 0; c < 3; c++)
                out[3 * ((size_t)y * (size_t)S + (size_t)x) + (size_t)c] =
                    ((float)((inside ? from[c] : 0) * i->rescale) - i->mean[c]) / i->std[c];
        }
    ts_picture_free(&r);
    return TS_OK;
}

/* ---- names in the files of Wan's authors ---- */

static const ts_rename clip_heads_of_wan[] = {
    {.from = "patch_embedding.", .to = "embeddings.patch_embedding."},
    {.from = "cls_embedding", .to = "embeddings.class_embedding"},
    {.from = "pos_embedding", .to = "embeddings.position_embedding.weight"},
    {.from = "pre_norm.", .to = "pre_layrnorm."},
    {.from = "transformer.#.norm1.", .to = "encoder.layers.#.layer_norm1."},
    {.from = "transformer.#.norm2.", .to = "encoder.layers.#.layer_norm2."},
    {.from = "transformer.#.attn.to_qkv.",
     .to = "encoder.layers.#.self_attn.q_proj.",
     .cut = {3, 0, 1, 0}},
    {.from = "transformer.#.attn.to_qkv.",
     .to = "encoder.layers.#.self_attn.k_proj.",
     .cut = {3, 1, 1, 0}},
    {.from = "transformer.#.attn.to_qkv.",
     .to = "encoder.layers.#.self_attn.v_proj.",
     .cut = {3, 2, 1, 0}},
    {.from = "transformer.#.attn.proj.", .to = "encoder.layers.#.self_attn.out_proj."},
    {.from = "transformer.#.mlp.0.", .to = "encoder.layers.#.mlp.fc1."},
    {.from = "transformer.#.mlp.2.", .to = "encoder.layers.#.mlp.fc2."},
    {.from = NULL}};
static const ts_naming clip_namings[] = {{"cls_embedding", clip_heads_of_wan, NULL}};
const ts_names ts_clip_vision_names = {
    .naming = clip_namings,
    .namings = 1,
    .prefix = (const char *const[]){"vision_model.", "visual.", NULL},
    .unused = (const char *const[]){"embeddings.position_ids",
                                    "vision_model.embeddings.position_ids", "post_layernorm.",
                                    "vision_model.post_layernorm.", "visual_projection.",
                                    "post_norm.", "head", "log_scale", "textual.", NULL}};

ts_status ts_clip_vision_infer(ts_ctx *ctx, const ts_checkpoint *c, cJSON *config)
{
    enum { HEAD = 80 }; /* channels of a head, of ViT-H/14, which every Wan has */
    int at = ts_checkpoint_find(c, "embeddings.class_embedding");
    long width = at < 0 ? 0 : ts_entry_count(c->name[at].e),
         ff = ts_checkpoint_dim(c, "encoder.layers.0.mlp.fc1.weight", 0),
         layers = ts_checkpoint_blocks(c, "encoder.layers."),
         patch = ts_checkpoint_dim(c, "embeddings.patch_embedding.weight", 3), side = 0;
    at = ts_checkpoint_find(c, "embeddings.position_embedding.weight");
    long rows = at < 0 || !width ? 0 : ts_entry_count(c->name[at].e) / width - 1;
    while (side * side < rows) side++;
    if (width == 0 || ff == 0 || layers == 0 || patch == 0 || rows < 1 || side * side != rows)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: a CLIP image encoder without some of its embeddings or layers",
                       c->what);
    cJSON_AddNumberToObject(config, "_dim", (double)width);
    if (width % HEAD == 0)
        cJSON_AddNumberToObject(config, "num_attention_heads", (double)(width / HEAD));
    cJSON_AddNumberToObject(config, "hidden_size", (double)width);
    cJSON_AddNumberToObject(config, "intermediate_size", (double)ff);
    cJSON_AddNumberToObject(config, "num_hidden_layers", (double)layers);
    cJSON_AddNumberToObject(config, "image_size", (double)(side * patch));
    cJSON_AddNumberToObject(config, "patch_size", (double)patch);
    cJSON_AddStringToObject(config, "hidden_act", "gelu");
    return TS_OK;
}

/* ---- bind ---- */

static ts_status bind_clip_block(ts_clip_vision *v, int i)
{
    clip_block *b = v->block + i;
    long D = v->info.width, F = v->info.ff;
    const ts_layer_row row[] = {
        TS_LINEAR(&b->q, "self_attn.q_proj", D, D), TS_LINEAR(&b->k, "self_attn.k_proj", D, D),
        TS_LINEAR(&b->v, "self_attn.v_proj", D, D), TS_LINEAR(&b->o, "self_attn.out_proj", D, D),
        TS_LINEAR(&b->up, "mlp.fc1", F, D),         TS_LINEAR(&b->down, "mlp.fc2", D, F),
        TS_NORM(&b->norm1, "layer_norm1", D),       TS_NORM(&b->norm2, "layer_norm2", D),
    };
    return ts_find_layers(v->weights, i, row, sizeof row / sizeof *row, "encoder.layers", i);
}

static ts_status bind_clip(ts_clip_vision *v)
{
    ts_status st;
    const ts_clip_vision_info *i = &v->info;
    ts_weights *ws = v->weights;
    long D = i->width, p = i->patch;
    int embed = i->layers; /* the group behind the layers */
    TRY(ts_find_vector(ws, embed, &v->class_row, 1, &D, "embeddings.class_embedding"));
    TRY(ts_find_vector(ws, embed, &v->positions, 2, (long[]){ts_clip_vision_rows(i), D},
                       "embeddings.position_embedding.weight"));
    TRY(ts_weights_find(ws, embed, TS_ROLE_MATRIX, "embeddings.patch_embedding.weight", 4,
                        (long[]){D, i->channels, p, p}, &v->patch.w));
    TRY(ts_find_norm(ws, embed, &v->norm, D, "pre_layrnorm")); /* so spelt */
    for (int k = 0; k < i->layers; k++) TRY(bind_clip_block(v, k));
done:
    return st;
}

ts_status ts_clip_vision_open(ts_ctx *ctx, const ts_clip_vision_info *info, const char *dir,
                              ts_clip_vision **out)
{
    ts_status st = TS_OK;
    ts_clip_vision *v = calloc(1, sizeof *v);
    *out = NULL;
    if (!v || !(v->block = calloc((size_t)info->layers, sizeof *v->block)))
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for an image encoder"));
    v->ctx = ctx;
    v->info = *info;
    TRY(ts_weights_open(ctx, dir, "model", &ts_clip_vision_names, &v->weights));
    TRY(bind_clip(v));
    ts_weights_warn_unused(v->weights);
    ts_weights_budget(v->weights, 0); /* each layer is used once: nothing is worth keeping */
    *out = v;
    v = NULL;
done:
    ts_clip_vision_close(v);
    return st;
}

void ts_clip_vision_close(ts_clip_vision *v)
{
    if (!v) return;
    ts_weights_close(v->weights);
    free(v->block);
    free(v);
}

ts_weights *ts_clip_vision_weights(ts_clip_vision *v) { return v->weights; }

/* ---- run ---- */

static ts_status norm_clip(ts_clip_vision *v, ts_tensor x, const ts_layer *n, ts_tensor y)
{
    return ts_norm_op(v->ctx->dev, (ts_norm){.kind = TS_NORM_LAYER,
                                             .eps = (float)v->info.eps,
                                             .x = x,
                                             .w = n->w,
                                             .b = n->b,
                                             .y = y});
}

static ts_status apply_clip_linear(ts_clip_vision *v, const ts_layer *l, ts_tensor x, ts_act act,
                                   ts_tensor resid, ts_tensor y)
{
    return ts_linear_op(
        v->ctx->dev, (ts_linear){.x = x, .w = l->w, .b = l->b, .act = act, .resid = resid, .y = y});
}

/* h f32 [rows, D] of pixels [S, S, 3] */
static ts_status embed_picture(ts_clip_vision *v, const float *pixels, ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = v->ctx;
    long S = v->info.image, D = v->info.width, p = v->info.patch, g = S / p;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor x = ts_take(&ctx->arena, TS_F32, TS_DIM(1, S, S, 3)),
              patches = ts_row_range(h, 1, g * g);
    TRY(ctx->dev->ops->upload(ctx->dev, x.p, pixels, (size_t)ts_count(x) * sizeof *pixels));
    TRY(ts_conv_op(ctx->dev, (ts_conv){.x = x,
                                       .w = v->patch.w,
                                       .stride = {1, (int)p, (int)p},
                                       .y = ts_view(patches, TS_DIM(1, g, g, D))}));
    TRY(ts_cast(ctx->dev, ts_view(v->class_row->t, TS_DIM(1, D)), ts_row_range(h, 0, 1)));
    TRY(ts_lincomb_op(ctx->dev,
                      (ts_lincomb){.n = 2, .c = {1, 1}, .x = {h, v->positions->t}, .y = h}));
    TRY(norm_clip(v, h, &v->norm, h));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status run_clip_block(ts_clip_vision *v, const clip_block *b, ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = v->ctx;
    long R = h.dim[0], D = v->info.width, A = v->info.heads;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor none = {0}, n = ts_take(&ctx->arena, ctx->act, TS_DIM(R, D)),
              up = ts_take(&ctx->arena, ctx->act, TS_DIM(R, v->info.ff)), part[3], heads[3];
    const ts_layer *in[3] = {&b->q, &b->k, &b->v};
    TRY(norm_clip(v, h, &b->norm1, n));
    for (int i = 0; i < 3; i++) {
        part[i] = ts_take(&ctx->arena, ctx->act, TS_DIM(R, D));
        heads[i] = ts_view(part[i], TS_DIM(1, R, A, D / A));
        heads[i].ld = D;
        TRY(apply_clip_linear(v, in[i], n, TS_ACT_NONE, none, part[i]));
    }
    TRY(ts_attention_op(ctx->dev, (ts_attention){.q = heads[0],
                                                 .k = heads[1],
                                                 .v = heads[2],
                                                 .out = heads[0],
                                                 .scale = 1 / sqrtf((float)D / (float)A)}));
    TRY(apply_clip_linear(v, &b->o, part[0], TS_ACT_NONE, h, h));
    TRY(norm_clip(v, h, &b->norm2, n));
    TRY(apply_clip_linear(v, &b->up, n, v->info.act, none, up));
    TRY(apply_clip_linear(v, &b->down, up, TS_ACT_NONE, h, h));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status download_clip(ts_clip_vision *v, ts_tensor h, int n, float *out)
{
    ts_status st = v->ctx->dev->ops->download(v->ctx->dev, out, h.p,
                                              (size_t)ts_count(h) * sizeof *out);
    for (long i = 0; !st && !v->ctx->dev->counting && i < ts_count(h); i++)
        if (!isfinite(out[i]))
            st = ts_fail(&v->ctx->err, TS_ENUMBER,
                         "the image encoder's states of image %d hold NaN or infinity", n + 1);
    return st;
}

ts_status ts_clip_vision_run(ts_clip_vision *v, const float *const *pixels, int n, float *out)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = v->ctx;
    long R = ts_clip_vision_rows(&v->info), D = v->info.width;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor all = ts_take(&ctx->arena, TS_F32, TS_DIM(n * R, D));
    TRY(ts_weights_enter(v->weights, v->info.layers));
    for (int k = 0; k < n; k++) TRY(embed_picture(v, pixels[k], ts_row_range(all, k * R, R)));
    for (int i = 0; i + 1 < v->info.layers; i++) {
        TRY(ts_weights_enter(v->weights, i));
        for (int k = 0; k < n; k++)
            TRY(run_clip_block(v, v->block + i, ts_row_range(all, k * R, R)));
    }
    for (int k = 0; k < n; k++)
        TRY(download_clip(v, ts_row_range(all, k * R, R), k, out + k * R * D));
done:
    ts_release(&ctx->arena, mark);
    return st;
}
