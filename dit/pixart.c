/* PixArtTransformer2DModel (PixArt-alpha and PixArt-Sigma), as diffusers defines it
 * (models/transformers/pixart_transformer_2d.py; Chen et al., PixArt-alpha, 2023): config, weights
 * and what is made once a run. With t the timestep, c the text; the sizes only where the checkpoint
 * has their embedders:
 *
 *   emb = mlp(sincos(t)) + [mlp_r(sincos(height)) mlp_r(sincos(width)) mlp_a(sincos(height /
 *   width))],  e = W silu(emb),  text = mlp(c)
 *
 * Positions are fixed: [sin(x w) cos(x w) sin(y w) cos(y w)], w_i = 10000^(-4 i / D), with x and y
 * stretched so that every grid spans that of the training size. Blocks are those of adaln.c,
 * without rms, rope or a norm before cross-attention. Padded rows of the text are masked in the
 * reference (-10000 on their logits leaves exactly 0 of them in f32), so only the real rows are
 * keys. Of the output's channels the first half is the noise, the second a variance that samplers
 * do not use. */
#include "dit/adaln.h"
#include "dit/pixart_files.h"

#include <stdlib.h>

enum { FREQ = 256 }; /* of sincos */
#define EMBEDDERS "adaln_single.emb."

typedef struct {
    int sample_size; /* side of the latent that it was trained at */
    int cross_dim;   /* width of what keys and values of the text read */
    int caption_dim; /* width of the text states; 0: they enter as they are */
    double scale;    /* of positions */
} pixart_config;

typedef struct {
    ts_adaln base;
    const pixart_config *config;
    ts_adaln_embedders embed;
    ts_layer size1, size2, aspect1, aspect2;
    bool sized; /* the checkpoint has size1 .. aspect2 */
} pixart;

/* ---- describe ---- */

static ts_status check_pixart_ranges(ts_ctx *ctx, const char *path, const ts_dit_info *o,
                                     const pixart_config *c)
{
    const ts_range range[] = {
        {"num_layers", o->layers, 1, 4096},
        {"num_attention_heads", o->heads, 1, 4096},
        {"attention_head_dim", o->head_dim, 1, 4096},
        {"in_channels", o->in_channels, 1, 1 << 12},
        {"out_channels", o->out_channels, 1, 1 << 12},
        {"caption_channels", c->caption_dim, 0, 1 << 20},
        {"cross_attention_dim", c->cross_dim, 1, 1 << 20},
        {"sample_size", c->sample_size, 1, 1 << 14},
        {"patch_size", o->patch[1], 1, 64},
    };
    long D = (long)o->heads * o->head_dim;
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st != TS_OK) return st;
    if (c->sample_size < o->patch[1])
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"sample_size\" is %d, expected at least the \"patch_size\" of %d",
                       path, c->sample_size, o->patch[1]);
    if (!(c->scale > 0 && c->scale < 1e6))
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"interpolation_scale\" is %g, expected a number above 0", path,
                       c->scale);
    if (D % 4)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: %d heads of %d are a width of %ld, expected a multiple of 4", path,
                       o->heads, o->head_dim, D);
    if (c->caption_dim && c->cross_dim != D)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"cross_attention_dim\" is %d, but the projected caption has %ld", path,
                       c->cross_dim, D);
    return TS_OK;
}

static ts_status describe_pixart(ts_ctx *ctx, const cJSON *config, const char *path, ts_dit_info *o,
                                 void *own)
{
    ts_status st;
    pixart_config *c = own;
    int patch = 2;
    double eps = 1e-6;
    *c = (pixart_config){.sample_size = 128, .cross_dim = 1152};
    *o = (ts_dit_info){
        .layers = 28, .heads = 16, .head_dim = 72, .in_channels = 4, .out_channels = 8};
    const ts_key key[] = {
        TS_DIT_KEYS(o),
        {"cross_attention_dim", TS_KEY_INT, &c->cross_dim, 0, NULL, NULL},
        {"caption_channels", TS_KEY_INT, &c->caption_dim, 0, NULL, NULL},
        {"sample_size", TS_KEY_INT, &c->sample_size, 0, NULL, NULL},
        {"patch_size", TS_KEY_INT, &patch, 0, NULL, NULL},
        {"norm_eps", TS_KEY_FLOAT, &eps, 0, NULL, NULL},
        {"interpolation_scale", TS_KEY_FLOAT, &c->scale, 0, NULL, NULL},
        TS_ONLY("attention_bias", "true"),
        TS_ONLY("activation_fn", "\"gelu-approximate\""),
        TS_ONLY("norm_type", "\"ada_norm_single\""),
        TS_ONLY("norm_elementwise_affine", "false"),
        TS_ONLY("attention_type", "\"default\""),
        /* what counts is whether the checkpoint has the embedders: some files say nothing, some the
         * wrong thing */
        TS_ONLY("use_additional_conditions", "true|false|null"),
        TS_ONLY("double_self_attention", "false|null"),
        TS_ONLY("only_cross_attention", "false|null"),
        TS_ONLY("num_vector_embeds", "null"),
        /* of training, of memory, or of the class's other uses */
        TS_IGNORED("dropout"),
        TS_IGNORED("norm_num_groups"),
        TS_IGNORED("num_embeds_ada_norm"),
        TS_IGNORED("upcast_attention"),
        TS_IGNORED("use_linear_projection"),
    };
    TRY(ts_config_read(ctx, config, path, key, (int)(sizeof key / sizeof *key)));
    if (!cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(config, "interpolation_scale")))
        c->scale = c->sample_size / 64 > 1 ? c->sample_size / 64 : 1;
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(config, "out_channels")))
        o->out_channels = o->in_channels;
    o->patch[0] = 1;
    o->patch[1] = o->patch[2] = patch;
    o->text_dim = c->caption_dim ? c->caption_dim : c->cross_dim;
    o->sample_size = c->sample_size;
    o->eps = (float)eps;
    TRY(check_pixart_ranges(ctx, path, o, c));
    o->dim = o->heads * o->head_dim;
done:
    return st;
}

/* ---- bind ---- */

static ts_status bind_sizes(pixart *p, ts_weights *ws)
{
    long third = p->base.info.dim / 3;
    const ts_layer_row row[] = {
        TS_LINEAR(&p->size1, EMBEDDERS "resolution_embedder.linear_1", third, FREQ),
        TS_LINEAR(&p->size2, EMBEDDERS "resolution_embedder.linear_2", third, third),
        TS_LINEAR(&p->aspect1, EMBEDDERS "aspect_ratio_embedder.linear_1", third, FREQ),
        TS_LINEAR(&p->aspect2, EMBEDDERS "aspect_ratio_embedder.linear_2", third, third),
    };
    p->sized = ts_weights_has(ws, EMBEDDERS "resolution_embedder.linear_1.weight");
    return p->sized ? ts_find_layers(ws, ts_adaln_group_embed(&p->base), row,
                                     sizeof row / sizeof *row, NULL, 0)
                    : TS_OK;
}

static ts_status bind_pixart(void *self, ts_ctx *ctx, const ts_dit_info *info, const void *config,
                             ts_weights *ws)
{
    ts_status st;
    pixart *p = self;
    p->config = config;
    TRY(ts_adaln_bind_pixart(&p->base, ctx, info, ws, p->config->cross_dim, p->config->caption_dim,
                             &p->embed));
    TRY(bind_sizes(p, ws));
    if (p->sized && info->dim % 3)
        TRY(ts_fail(&ctx->err, TS_EMODEL,
                    "a width of %d with size conditions, expected a multiple of 3", info->dim));
done:
    return st;
}

/* ---- prepare ---- */

/* What the picture's size adds to the embedding of every timestep. */
static ts_status add_size(pixart *p, const ts_dit_inputs *in)
{
    ts_status st = TS_OK;
    ts_adaln *a = &p->base;
    ts_ctx *ctx = a->ctx;
    long D = a->info.dim, third = D / 3;
    float size[2] = {(float)in->height, (float)in->width}, aspect = size[0] / size[1];
    ts_tensor part = ts_part_take(ctx, TS_F32, 3, third), row = ts_view(part, TS_DIM(1, D));
    TRY(ts_part_embed(ctx, &p->size1, &p->size2, size, 2, ts_row_range(part, 0, 2)));
    TRY(ts_part_embed(ctx, &p->aspect1, &p->aspect2, &aspect, 1, ts_row_range(part, 2, 1)));
    for (long i = 0; i < a->emb.dim[0]; i++) {
        ts_tensor of = ts_row_range(a->emb, i, 1);
        TRY(ts_part_add(ctx, of, row, of));
    }
done:
    return st;
}

/* Columns 0 .. D / 2 - 1 hold the token's x, the others its y: positions i / (n / base) / scale of
 * the n of an axis, in f32 as the oracle's. */
static ts_status prepare_positions(pixart *p)
{
    ts_status st = TS_OK;
    ts_adaln *a = &p->base;
    long half = a->info.dim / 2, length[3] = {a->grid.F, a->grid.H, a->grid.W},
         longest = length[1] > length[2] ? length[1] : length[2];
    int base = p->config->sample_size / a->info.patch[1];
    float scale = (float)p->config->scale;
    double *at = malloc((size_t)longest * sizeof *at);
    if (!at)
        TRY(ts_fail(&a->ctx->err, TS_EMEMORY, "positions of %ldx%ld tokens: out of memory",
                    length[2], length[1]));
    for (int axis = 2; axis > 0; axis--) {
        float stretch = (float)((double)length[axis] / (double)base);
        for (long i = 0; i < length[axis]; i++) at[i] = (double)((float)i / stretch / scale);
        TRY(ts_part_sines(a->ctx, &a->grid, axis, at, half, a->positions, axis == 2 ? 0 : half));
    }
done:
    free(at);
    return st;
}

/* Keys and values of all texts for every block. */
static ts_status prepare_text(pixart *p, const ts_dit_inputs *in)
{
    ts_status st;
    ts_adaln *a = &p->base;
    ts_ctx *ctx = a->ctx;
    ts_tensor c; /* [T, D] */
    TRY(ts_adaln_text(a, in, &p->embed.text1, &p->embed.text2, &c));
    for (int i = 0; i < in->slots && ctx->tap && !ctx->dev->counting; i++)
        TRY(ctx->tap(ctx->tap_user, "caption_projection", ts_part_text_rows(&a->text, c, i)));
    TRY(ts_adaln_keys_and_values(a, c, (ts_tensor){0}));
done:
    return st;
}

static ts_status prepare_pixart_tables(pixart *p, const ts_dit_inputs *in, const float *t, int nt)
{
    ts_status st;
    ts_adaln *a = &p->base;
    ts_ctx *ctx = a->ctx;
    size_t mark = ts_mark(&ctx->arena);
    TRY(ts_weights_enter(a->weights, ts_adaln_group_embed(a)));
    TRY(ts_part_embed(ctx, &p->embed.time1, &p->embed.time2, t, nt, a->emb));
    if (p->sized) TRY(add_size(p, in));
    TRY(ts_part_project(ctx, &p->embed.modulate, a->emb, a->e6));
    TRY(prepare_positions(p));
    TRY(prepare_text(p, in));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status prepare_pixart(void *self, const ts_grid *grid, const ts_dit_inputs *in,
                                const float *t, int nt)
{
    ts_status st;
    pixart *p = self;
    ts_adaln *a = &p->base;
    ts_err *err = &a->ctx->err;
    if (grid->F != 1)
        TRY(ts_fail(err, TS_EUSAGE, "%d frames, but this model draws pictures", grid->F));
    if (p->sized && (in->height < 1 || in->width < 1))
        TRY(ts_fail(err, TS_EUSAGE, "a picture of %dx%d pixels: this model has to know the size",
                    in->width, in->height));
    TRY(ts_adaln_begin(a, grid, in, ts_dit_pixart.text_rows, nt));
    a->positions = ts_part_take(a->ctx, TS_F32, grid->N, a->info.dim);
    TRY(prepare_pixart_tables(p, in, t, nt));
done:
    return st;
}

const ts_dit_class ts_dit_pixart = {
    .cls = "PixArtTransformer2DModel",
    .older = "Transformer2DModel",
    .names = &ts_pixart_names,
    .infer = ts_pixart_infer,
    .size = sizeof(pixart),
    .config_size = sizeof(pixart_config),
    .describe = describe_pixart,
    .bind = bind_pixart,
    .close = ts_adaln_unbind,
    .prepare = prepare_pixart,
    .enter = ts_adaln_enter,
    .block = ts_adaln_run_block,
    .leave = ts_adaln_leave,
    .embedding = ts_adaln_embedding,
};
