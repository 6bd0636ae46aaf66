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

#include <math.h>
#include <stdlib.h>

enum { FREQ = 256 }; /* of sincos */

typedef struct {
    int sample_size; /* side of the latent that it was trained at */
    int cross_dim;   /* width of what keys and values of the text read */
    int caption_dim; /* width of the text states; 0: they enter as they are */
    double scale;    /* of positions */
} pixart_config;

typedef struct {
    ts_adaln base;
    const pixart_config *config;
    ts_layer time1, time2, modulate, text1, text2, size1, size2, aspect1, aspect2;
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
        {"num_attention_heads", TS_KEY_INT, &o->heads, 0, NULL, NULL},
        {"attention_head_dim", TS_KEY_INT, &o->head_dim, 0, NULL, NULL},
        {"in_channels", TS_KEY_INT, &o->in_channels, 0, NULL, NULL},
        {"out_channels", TS_KEY_INT, &o->out_channels, 0, NULL, NULL},
        {"num_layers", TS_KEY_INT, &o->layers, 0, NULL, NULL},
        {"cross_attention_dim", TS_KEY_INT, &c->cross_dim, 0, NULL, NULL},
        {"caption_channels", TS_KEY_INT, &c->caption_dim, 0, NULL, NULL},
        {"sample_size", TS_KEY_INT, &c->sample_size, 0, NULL, NULL},
        {"patch_size", TS_KEY_INT, &patch, 0, NULL, NULL},
        {"norm_eps", TS_KEY_FLOAT, &eps, 0, NULL, NULL},
        {"interpolation_scale", TS_KEY_FLOAT, &c->scale, 0, NULL, NULL},
        {"attention_bias", TS_KEY_ONLY, NULL, 0, NULL, "true"},
        {"activation_fn", TS_KEY_ONLY, NULL, 0, NULL, "\"gelu-approximate\""},
        {"norm_type", TS_KEY_ONLY, NULL, 0, NULL, "\"ada_norm_single\""},
        {"norm_elementwise_affine", TS_KEY_ONLY, NULL, 0, NULL, "false"},
        {"attention_type", TS_KEY_ONLY, NULL, 0, NULL, "\"default\""},
        /* what counts is whether the checkpoint has the embedders: some files say nothing, some the
         * wrong thing */
        {"use_additional_conditions", TS_KEY_ONLY, NULL, 0, NULL, "true|false|null"},
        {"double_self_attention", TS_KEY_ONLY, NULL, 0, NULL, "false|null"},
        {"only_cross_attention", TS_KEY_ONLY, NULL, 0, NULL, "false|null"},
        {"num_vector_embeds", TS_KEY_ONLY, NULL, 0, NULL, "null"},
        /* of training, of memory, or of the class's other uses */
        {"dropout", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
        {"norm_num_groups", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
        {"num_embeds_ada_norm", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
        {"upcast_attention", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
        {"use_linear_projection", TS_KEY_IGNORE, NULL, 0, NULL, NULL},
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

static ts_status bind_embedders(pixart *p)
{
    ts_status st;
    ts_weights *ws = p->base.weights;
    long D = p->base.info.dim, third = D / 3, caption = p->config->caption_dim;
    int g = ts_adaln_group_embed(&p->base);
    TRY(ts_find_linear(ws, g, &p->time1, D, FREQ, true,
                       "adaln_single.emb.timestep_embedder.linear_1"));
    TRY(ts_find_linear(ws, g, &p->time2, D, D, true,
                       "adaln_single.emb.timestep_embedder.linear_2"));
    TRY(ts_find_linear(ws, g, &p->modulate, 6 * D, D, true, "adaln_single.linear"));
    p->sized = ts_weights_has(ws, "adaln_single.emb.resolution_embedder.linear_1.weight");
    if (p->sized) {
        TRY(ts_find_linear(ws, g, &p->size1, third, FREQ, true,
                           "adaln_single.emb.resolution_embedder.linear_1"));
        TRY(ts_find_linear(ws, g, &p->size2, third, third, true,
                           "adaln_single.emb.resolution_embedder.linear_2"));
        TRY(ts_find_linear(ws, g, &p->aspect1, third, FREQ, true,
                           "adaln_single.emb.aspect_ratio_embedder.linear_1"));
        TRY(ts_find_linear(ws, g, &p->aspect2, third, third, true,
                           "adaln_single.emb.aspect_ratio_embedder.linear_2"));
    }
    if (caption) {
        TRY(ts_find_linear(ws, g, &p->text1, D, caption, true, "caption_projection.linear_1"));
        TRY(ts_find_linear(ws, g, &p->text2, D, D, true, "caption_projection.linear_2"));
    }
done:
    return st;
}

static ts_status bind_pixart(void *self, ts_ctx *ctx, const ts_dit_info *info, const void *config,
                             ts_weights *ws)
{
    ts_status st;
    pixart *p = self;
    ts_adaln *a = &p->base;
    long D = info->dim, side = info->patch[1];
    p->config = config;
    TRY(ts_adaln_bind(a, ctx, info, ws));
    for (int i = 0; i < info->layers; i++) {
        TRY(ts_adaln_bind_block(a, i, "transformer_blocks", "ff", p->config->cross_dim, 4 * D));
        TRY(ts_find_vector(ws, i, &a->block[i].table, 2, (long[]){6, D},
                           "transformer_blocks.%d.scale_shift_table", i));
    }
    TRY(ts_find_conv(ws, ts_adaln_group_ends(a), &a->patch, 4,
                     (long[]){D, info->in_channels, side, side}, "pos_embed.proj"));
    TRY(ts_find_linear(ws, ts_adaln_group_ends(a), &a->out, side * side * info->out_channels, D,
                       true, "proj_out"));
    TRY(ts_find_vector(ws, ts_adaln_group_ends(a), &a->table, 2, (long[]){2, D},
                       "scale_shift_table"));
    TRY(bind_embedders(p));
    if (p->sized && D % 3)
        TRY(ts_fail(&ctx->err, TS_EMODEL,
                    "a width of %ld with size conditions, expected a multiple of 3", D));
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

/* [sin(v w_0) .., cos(v w_0) ..] of the n positions v = i / (n / base) / scale of an axis: [n, D /
 * 2]. Positions in f32, angles in f64, as the oracle's. */
static void axis_rows(const pixart *p, long n, float *out)
{
    long quarter = p->base.info.dim / 4;
    float stretch = (float)((double)n / (double)(p->config->sample_size / p->base.info.patch[1])),
          scale = (float)p->config->scale;
    for (long i = 0; i < n; i++) {
        float v = (float)i / stretch / scale;
        for (long k = 0; k < quarter; k++) {
            double angle = (double)v * pow(10000, -(double)k / (double)quarter);
            out[i * 2 * quarter + k] = (float)sin(angle);
            out[i * 2 * quarter + quarter + k] = (float)cos(angle);
        }
    }
}

/* Columns 0 .. D / 2 - 1 hold the token's x, the others its y. */
static ts_status prepare_positions(pixart *p)
{
    ts_status st = TS_OK;
    ts_adaln *a = &p->base;
    long H = a->grid.H, W = a->grid.W, D = a->info.dim, half = D / 2;
    float *host = malloc((size_t)((H > W ? H : W) * half) * sizeof *host);
    ts_tensor x = ts_part_take(a->ctx, TS_F32, W, half), y = ts_part_take(a->ctx, TS_F32, H, half);
    ts_copy c = {.dst = a->positions.p,
                 .stype = TS_F32,
                 .dtype = TS_F32,
                 .nd = 4,
                 .dim = {a->grid.F, H, W, half},
                 .ds = {H * W * D, W * D, D, 1}};
    if (!host)
        TRY(ts_fail(&a->ctx->err, TS_EMEMORY, "positions of %ldx%ld tokens: out of memory", W, H));
    axis_rows(p, W, host);
    TRY(ts_part_upload(a->ctx, x, host));
    axis_rows(p, H, host);
    TRY(ts_part_upload(a->ctx, y, host));
    c.src = x.p;
    c.ss[2] = half;
    c.ss[3] = 1;
    TRY(ts_copy_op(a->ctx->dev, c));
    c.src = y.p;
    c.dst = ts_at(c.dst, (size_t)half * sizeof(float));
    c.ss[1] = half;
    c.ss[2] = 0;
    TRY(ts_copy_op(a->ctx->dev, c));
done:
    free(host);
    return st;
}

/* Keys and values of all texts for every block. */
static ts_status prepare_text(pixart *p, const ts_dit_inputs *in)
{
    ts_status st;
    ts_adaln *a = &p->base;
    ts_ctx *ctx = a->ctx;
    ts_tensor c; /* [T, D] */
    TRY(ts_adaln_text(a, in, &p->text1, &p->text2, &c));
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
    TRY(ts_part_embed(ctx, &p->time1, &p->time2, t, nt, a->emb));
    if (p->sized) TRY(add_size(p, in));
    TRY(ts_part_project(ctx, &p->modulate, a->emb, a->e6));
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

static ts_tensor select_pixart_embedding(void *self, ts_eval e)
{
    pixart *p = self;
    return ts_row_range(p->base.e6, e.trow, 1);
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
    .embedding = select_pixart_embedding,
};
