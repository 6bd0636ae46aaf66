/* OpenSoraT2V (Open-Sora-Plan 1.2): PixArt's blocks over all tokens of a clip (adaln.c), without
 * sizes and without positions that are added to patches. Queries and keys turn by their place, a
 * third of a head for each of t, y and x: channels j and j + d / 6 of a third turn together by
 * position / scale 10000^(-6 j / d). With t the timestep, c the text:
 *
 *   emb = mlp(sincos(t)), e = W silu(emb), text = mlp(c)
 *
 * The weights' own program keeps its tables of angles by length: of two axes that are as long as
 * each other the second takes the scale of the first, and so it does here. Padded rows of the text
 * are masked in the reference, so only the real rows are keys. */
#include "dit/adaln.h"
#include "dit/opensora_files.h"

#include <stdlib.h>

typedef struct {
    int cross_dim;   /* width of what keys and values of the text read */
    double scale[3]; /* t h w: what positions are divided by */
} opensora_config;

typedef struct {
    ts_adaln base;
    const opensora_config *config;
    ts_adaln_embedders embed;
} opensora;

/* ---- describe ---- */

static ts_status check_opensora_ranges(ts_ctx *ctx, const char *path, const ts_dit_info *o,
                                       const opensora_config *c)
{
    static const char *const axis[] = {"t", "h", "w"};
    const ts_range range[] = {
        {"num_layers", o->layers, 1, 4096},
        {"num_attention_heads", o->heads, 1, 4096},
        {"attention_head_dim", o->head_dim, 6, 4096},
        {"in_channels", o->in_channels, 1, 1 << 12},
        {"out_channels", o->out_channels, 1, 1 << 12},
        {"caption_channels", o->text_dim, 1, 1 << 20},
        {"patch_size", o->patch[1], 1, 64},
        {"patch_size_t", o->patch[0], 1, 1},
        {"sample_size_t", o->clip[0], 0, 1 << 14},
        {"sample_size", o->clip[1], 0, 1 << 14},
        {"sample_size", o->clip[2], 0, 1 << 14},
    };
    long D = (long)o->heads * o->head_dim;
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st != TS_OK) return st;
    if (o->head_dim % 6)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"attention_head_dim\" is %d, expected a multiple of 6", path,
                       o->head_dim);
    if (c->cross_dim != D)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"cross_attention_dim\" is %d, but the projected caption has %ld", path,
                       c->cross_dim, D);
    for (int i = 0; i < 3; i++)
        if (!(c->scale[i] > 0 && c->scale[i] < 1e6))
            return ts_fail(&ctx->err, TS_EMODEL,
                           "%s: \"interpolation_scale_%s\" is %g, expected a number above 0", path,
                           axis[i], c->scale[i]);
    return TS_OK;
}

static ts_status describe_opensora(ts_ctx *ctx, const cJSON *config, const char *path,
                                   ts_dit_info *o, void *own)
{
    ts_status st;
    opensora_config *c = own;
    int patch = 2, deep = 1, sides = 0;
    double eps = 1e-6;
    *c = (opensora_config){.cross_dim = 2304, .scale = {1, 1, 1}};
    *o = (ts_dit_info){.layers = 32,
                       .heads = 24,
                       .head_dim = 96,
                       .in_channels = 4,
                       .out_channels = 4,
                       .text_dim = 4096};
    const ts_key key[] = {
        TS_DIT_KEYS(o),
        {"cross_attention_dim", TS_KEY_INT, &c->cross_dim, 0, NULL, NULL},
        {"caption_channels", TS_KEY_INT, &o->text_dim, 0, NULL, NULL},
        {"patch_size", TS_KEY_INT, &patch, 0, NULL, NULL},
        {"patch_size_t", TS_KEY_INT, &deep, 0, NULL, NULL},
        {"sample_size", TS_KEY_INTS, o->clip + 1, 2, &sides, NULL},
        {"sample_size_t", TS_KEY_INT, o->clip, 0, NULL, NULL},
        {"norm_eps", TS_KEY_FLOAT, &eps, 0, NULL, NULL},
        {"interpolation_scale_t", TS_KEY_FLOAT, c->scale, 0, NULL, NULL},
        {"interpolation_scale_h", TS_KEY_FLOAT, c->scale + 1, 0, NULL, NULL},
        {"interpolation_scale_w", TS_KEY_FLOAT, c->scale + 2, 0, NULL, NULL},
        TS_ONLY("use_rope", "true"),
        TS_ONLY("attention_bias", "true"),
        TS_ONLY("activation_fn", "\"gelu-approximate\""),
        TS_ONLY("norm_type", "\"ada_norm_single\""),
        TS_ONLY("norm_elementwise_affine", "false"),
        TS_ONLY("attention_type", "\"default\""),
        TS_ONLY("use_additional_conditions", "false|null"),
        TS_ONLY("double_self_attention", "false|null"),
        TS_ONLY("only_cross_attention", "false|null"),
        TS_ONLY("num_vector_embeds", "null"),
        TS_ONLY("downsampler", "null"),
        /* of training, of how the reference computes, or of the class's other uses */
        TS_IGNORED("attention_mode"),
        TS_IGNORED("dropout"),
        TS_IGNORED("norm_num_groups"),
        TS_IGNORED("num_embeds_ada_norm"),
        TS_IGNORED("upcast_attention"),
        TS_IGNORED("use_linear_projection"),
        TS_IGNORED("use_stable_fp32"),
    };
    TRY(ts_config_read(ctx, config, path, key, (int)(sizeof key / sizeof *key)));
    if (sides == 1) o->clip[2] = o->clip[1];
    o->patch[0] = deep;
    o->patch[1] = o->patch[2] = patch;
    o->eps = (float)eps;
    TRY(check_opensora_ranges(ctx, path, o, c));
    o->dim = o->heads * o->head_dim;
done:
    return st;
}

/* ---- bind ---- */

static ts_status bind_opensora(void *self, ts_ctx *ctx, const ts_dit_info *info, const void *config,
                               ts_weights *ws)
{
    ts_status st;
    opensora *m = self;
    m->config = config;
    TRY(ts_adaln_bind_pixart(&m->base, ctx, info, ws, info->dim, info->text_dim, &m->embed));
    m->base.split = true;
done:
    return st;
}

/* ---- prepare ---- */

static ts_status prepare_thirds(opensora *m)
{
    ts_status st = TS_OK;
    ts_adaln *a = &m->base;
    long third = a->info.head_dim / 3, width[3] = {third, third, third},
         length[3] = {a->grid.F, a->grid.H, a->grid.W};
    const double *of[3];
    double *at = malloc((size_t)(length[0] + length[1] + length[2]) * sizeof *at), *next = at;
    if (!at)
        TRY(ts_fail(&a->ctx->err, TS_EMEMORY, "positions of %d tokens: out of memory", a->grid.N));
    for (int axis = 0; axis < 3; axis++) {
        int like = 0;
        while (length[like] != length[axis]) like++;
        of[axis] = next;
        for (long i = 0; i < length[axis]; i++) *next++ = (double)i / m->config->scale[like];
    }
    TRY(ts_part_rope_table(a->ctx, &a->grid, width, 10000, of, a->cos, a->sin));
done:
    free(at);
    return st;
}

static ts_status prepare_opensora_tables(opensora *m, const ts_dit_inputs *in, const float *t,
                                         int nt)
{
    ts_status st;
    ts_adaln *a = &m->base;
    ts_ctx *ctx = a->ctx;
    ts_tensor c; /* [T, D] */
    size_t mark = ts_mark(&ctx->arena);
    TRY(ts_weights_enter(a->weights, ts_adaln_group_embed(a)));
    TRY(ts_part_embed(ctx, &m->embed.time1, &m->embed.time2, t, nt, a->emb));
    TRY(ts_part_project(ctx, &m->embed.modulate, a->emb, a->e6));
    TRY(prepare_thirds(m));
    TRY(ts_adaln_text(a, in, &m->embed.text1, &m->embed.text2, &c));
    TRY(ts_adaln_keys_and_values(a, c, (ts_tensor){0}));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status prepare_opensora(void *self, const ts_grid *grid, const ts_dit_inputs *in,
                                  const float *t, int nt)
{
    ts_status st;
    opensora *m = self;
    ts_adaln *a = &m->base;
    TRY(ts_adaln_begin(a, grid, in, ts_dit_opensora.text_rows, nt));
    a->cos = ts_part_take(a->ctx, TS_F32, grid->N, a->info.head_dim / 2);
    a->sin = ts_part_take(a->ctx, TS_F32, grid->N, a->info.head_dim / 2);
    TRY(prepare_opensora_tables(m, in, t, nt));
done:
    return st;
}

const ts_dit_class ts_dit_opensora = {
    .cls = "OpenSoraT2V",
    .names = &ts_opensora_names,
    .infer = ts_opensora_infer,
    .size = sizeof(opensora),
    .config_size = sizeof(opensora_config),
    .describe = describe_opensora,
    .bind = bind_opensora,
    .close = ts_adaln_unbind,
    .prepare = prepare_opensora,
    .enter = ts_adaln_enter,
    .block = ts_adaln_run_block,
    .leave = ts_adaln_leave,
    .embedding = ts_adaln_embedding,
};
