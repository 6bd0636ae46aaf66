/* CogVideoXTransformer3DModel (CogVideoX 2B, 5B and 1.5), as diffusers defines it
 * (models/transformers/cogvideox_transformer_3d.py; Yang et al., CogVideoX, 2024). With t the
 * timestep, c the text, h one stream of video tokens and, behind them, rows of text (the reference
 * has the text first; attention does not know order, and only video turns by its place):
 *
 *   emb = mlp(sincos(t)), text = P c, video = W patch + positions
 *   block  [shift scale gate shift' scale' gate'] = W1 silu(emb), primes for rows of text
 *          n = ln(h) (1 + scale) + shift
 *          h += gate O(attention(rope(ln(Q n)), rope(ln(K n)), V n)), ln of each head
 *          the same with W2 and the feed-forward
 *   leave  [shift scale] = W silu(emb), v = P(ln(ln'(h)) (1 + scale) + shift)
 *
 * Every ln but those of heads has weights and the config's eps. A patch is a vector with the
 * channel slowest, on the way in and out. 2B adds sines of the place to its patches, the others
 * turn queries and keys; 1.5 takes patches that are two latent frames deep. Those that make clips
 * of images see latents of one beside the sample's. 5B-I2V also adds learned positions to the
 * patches and the text, of clips as long as those that it was trained on; to the patches of others
 * sines of the place, as the reference does. 1.5-5B-I2V: emb = mlp(sincos(t)) + mlp'(sincos(2)). */
#include "dit/cogvideox_files.h"
#include "dit/parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int time_dim;           /* A: width of the timestep's embedding */
    int height, width;      /* of the latent that it was trained at */
    bool rope, deep;        /* deep: patch_size_t is there, the patch embedding is linear */
    bool learned;           /* positions, of clips of the size and length of training */
    int frames, text_rows;  /* of that training: frames before the VAE, rows of text */
    int offset_dim;         /* of what the timestep's embedding has added; 0: nothing */
    double space, duration; /* what places are divided by before their sines are taken */
} cogvideox_config;

typedef struct {
    ts_layer modulate1, modulate2, q, k, v, o, up, down, norm1, norm2, norm_q, norm_k;
} cogvideox_block;

typedef struct {
    ts_ctx *ctx;
    ts_weights *weights;
    ts_dit_info info;
    const cogvideox_config *config;
    cogvideox_block *block;
    ts_layer patch, text, time1, time2, offset1, offset2, modulate, out, norm_final, norm_out;
    const ts_weight *learned; /* [1, text rows + N, D]; NULL: none */
    /* the run's */
    ts_grid grid;
    ts_tensor emb;       /* f32 [nt, A] */
    ts_tensor beside;    /* f32 [F, H, W, C'] beside a sample's channels; absent: none */
    ts_tensor positions; /* f32 [N, D] in raster order; absent: none */
    ts_tensor cos, sin;  /* f32 [N, d / 2] in the grid's order; absent: nothing turns */
    ts_part_texts texts;
    ts_tensor rows; /* f32 [rows of all texts, D] as they enter */
    ts_tensor sel;  /* u8 [N + rows of the longest text]: 1 in text */
} cogvideox;

enum { VIDEO_ROWS, TEXT_ROWS, PARTS_OF_MODULATION }; /* rows of a block's modulation */

/* Groups of weights: blocks, enter and leave, what only prepare uses. */
static int group_of_stream_ends(const cogvideox *m) { return m->info.layers; }
static int group_of_embedding(const cogvideox *m) { return m->info.layers + 1; }
static long patch_width(const cogvideox *m, int channels)
{
    const int *p = m->info.patch;
    return (long)channels * p[0] * p[1] * p[2];
}

/* ---- describe ---- */

static ts_status check_cogvideox_ranges(ts_ctx *ctx, const char *path, const ts_dit_info *o,
                                        const cogvideox_config *c)
{
    const ts_range range[] = {
        {"num_layers", o->layers, 1, 4096},
        {"num_attention_heads", o->heads, 1, 4096},
        {"attention_head_dim", o->head_dim, 8, 4096},
        {"in_channels", o->in_channels, 1, 1 << 12},
        {"out_channels", o->out_channels, 1, 1 << 12},
        {"text_embed_dim", o->text_dim, 1, 1 << 20},
        {"time_embed_dim", c->time_dim, 1, 1 << 20},
        {"patch_size", o->patch[1], 1, 64},
        {"patch_size_t", o->patch[0], 1, 64},
        {"sample_height", c->height, o->patch[1], 1 << 14},
        {"sample_width", c->width, o->patch[1], 1 << 14},
    };
    long D = (long)o->heads * o->head_dim;
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st != TS_OK) return st;
    if (o->head_dim % 16)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"attention_head_dim\" is %d, expected a multiple of 16", path,
                       o->head_dim);
    if (!c->rope && D % 16)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: %d heads of %d are a width of %ld, expected a multiple of 16", path,
                       o->heads, o->head_dim, D);
    if (!(c->space > 0 && c->duration > 0))
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"spatial_interpolation_scale\" is %g, "
                       "\"temporal_interpolation_scale\" %g, expected numbers above 0",
                       path, c->space, c->duration);
    return TS_OK;
}

/* Positions and offset of models that make clips of images. */
static ts_status check_cogvideox_additions(ts_ctx *ctx, const char *path, const cogvideox_config *c)
{
    const ts_range range[] = {{"sample_frames", c->frames, 1, 1 << 20},
                              {"max_text_seq_length", c->text_rows, 1, 1 << 20},
                              {"ofs_embed_dim", c->offset_dim, 0, 1 << 20}};
    ts_status st = ts_config_ranges(ctx, path, range, (int)(sizeof range / sizeof *range));
    if (st != TS_OK) return st;
    if (c->learned && (!c->rope || c->deep))
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"use_learned_positional_embeddings\" with%s: not supported", path,
                       c->deep ? " \"patch_size_t\"" : "out \"use_rotary_positional_embeddings\"");
    if (c->offset_dim && c->offset_dim != c->time_dim)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: \"ofs_embed_dim\" is %d, expected %d, \"time_embed_dim\"", path,
                       c->offset_dim, c->time_dim);
    return TS_OK;
}

static ts_status describe_cogvideox(ts_ctx *ctx, const cJSON *config, const char *path,
                                    ts_dit_info *o, void *own)
{
    ts_status st;
    cogvideox_config *c = own;
    int patch = 2, deep = 1;
    double eps = 1e-5;
    *c = (cogvideox_config){.time_dim = 512,
                            .height = 60,
                            .width = 90,
                            .space = 1.875,
                            .duration = 1,
                            .frames = 49,
                            .text_rows = 226};
    *o = (ts_dit_info){.layers = 30,
                       .heads = 30,
                       .head_dim = 64,
                       .in_channels = 16,
                       .out_channels = 16,
                       .text_dim = 4096};
    const ts_key key[] = {
        TS_DIT_KEYS(o),
        {"text_embed_dim", TS_KEY_INT, &o->text_dim, 0, NULL, NULL},
        {"time_embed_dim", TS_KEY_INT, &c->time_dim, 0, NULL, NULL},
        {"sample_height", TS_KEY_INT, &c->height, 0, NULL, NULL},
        {"sample_width", TS_KEY_INT, &c->width, 0, NULL, NULL},
        {"patch_size", TS_KEY_INT, &patch, 0, NULL, NULL},
        {"patch_size_t", TS_KEY_INT, &deep, 0, NULL, NULL},
        {"norm_eps", TS_KEY_FLOAT, &eps, 0, NULL, NULL},
        {"spatial_interpolation_scale", TS_KEY_FLOAT, &c->space, 0, NULL, NULL},
        {"temporal_interpolation_scale", TS_KEY_FLOAT, &c->duration, 0, NULL, NULL},
        {"use_rotary_positional_embeddings", TS_KEY_BOOL, &c->rope, 0, NULL, NULL},
        {"use_learned_positional_embeddings", TS_KEY_BOOL, &c->learned, 0, NULL, NULL},
        {"ofs_embed_dim", TS_KEY_INT, &c->offset_dim, 0, NULL, NULL},
        {"sample_frames", TS_KEY_INT, &c->frames, 0, NULL, NULL},
        {"max_text_seq_length", TS_KEY_INT, &c->text_rows, 0, NULL, NULL},
        TS_ONLY("attention_bias", "true"),
        TS_ONLY("norm_elementwise_affine", "true"),
        TS_ONLY("activation_fn", "\"gelu-approximate\""),
        TS_ONLY("timestep_activation_fn", "\"silu\""),
        TS_ONLY("flip_sin_to_cos", "true"),
        TS_ONLY("freq_shift", "0"),
        TS_ONLY("temporal_compression_ratio", "4"),
        /* of training, of another class of patch embedding */
        TS_IGNORED("dropout"),
        TS_IGNORED("patch_bias"),
    };
    TRY(ts_config_read(ctx, config, path, key, (int)(sizeof key / sizeof *key)));
    c->deep = cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(config, "patch_size_t"));
    o->patch[0] = deep;
    o->patch[1] = o->patch[2] = patch;
    o->eps = (float)eps;
    TRY(check_cogvideox_ranges(ctx, path, o, c));
    TRY(check_cogvideox_additions(ctx, path, c));
    o->dim = o->heads * o->head_dim;
    if (o->in_channels > o->out_channels) o->beside = o->in_channels - o->out_channels;
    o->fixed = c->learned;
    if (c->learned)
        memcpy(o->clip, (int[]){(c->frames - 1) / 4 + 1, c->height, c->width}, sizeof o->clip);
done:
    return st;
}

/* ---- bind ---- */

static ts_status bind_cogvideox_block(cogvideox *m, int i)
{
    cogvideox_block *b = m->block + i;
    long D = m->info.dim, d = m->info.head_dim, A = m->config->time_dim;
    const ts_layer_row row[] = {
        TS_LINEAR(&b->modulate1, "norm1.linear", 6 * D, A),
        TS_LINEAR(&b->modulate2, "norm2.linear", 6 * D, A),
        TS_LINEAR(&b->q, "attn1.to_q", D, D),
        TS_LINEAR(&b->k, "attn1.to_k", D, D),
        TS_LINEAR(&b->v, "attn1.to_v", D, D),
        TS_LINEAR(&b->o, "attn1.to_out.0", D, D),
        TS_LINEAR(&b->up, "ff.net.0.proj", 4 * D, D),
        TS_LINEAR(&b->down, "ff.net.2", D, 4 * D),
        TS_NORM(&b->norm1, "norm1.norm", D),
        TS_NORM(&b->norm2, "norm2.norm", D),
        TS_NORM(&b->norm_q, "attn1.norm_q", d),
        TS_NORM(&b->norm_k, "attn1.norm_k", d),
    };
    return ts_find_layers(m->weights, i, row, sizeof row / sizeof *row, "transformer_blocks", i);
}

/* tokens of the clips whose positions are learned */
static long count_learned(const ts_dit_info *o)
{
    return (long)o->clip[0] * (o->clip[1] / o->patch[1]) * (o->clip[2] / o->patch[2]);
}

static ts_status bind_cogvideox(void *self, ts_ctx *ctx, const ts_dit_info *info,
                                const void *config, ts_weights *ws)
{
    ts_status st = TS_OK;
    cogvideox *m = self;
    long D = info->dim, side = info->patch[1];
    m->ctx = ctx;
    m->weights = ws;
    m->info = *info;
    m->config = config;
    long A = m->config->time_dim;
    int ends = group_of_stream_ends(m), embed = group_of_embedding(m);
    const ts_layer_row end[] = {
        TS_NORM(&m->norm_final, "norm_final", D),
        TS_NORM(&m->norm_out, "norm_out.norm", D),
        TS_LINEAR(&m->modulate, "norm_out.linear", 2 * D, A),
        TS_LINEAR(&m->out, "proj_out", patch_width(m, info->out_channels), D),
    };
    const ts_layer_row embedder[] = {
        TS_LINEAR(&m->text, "patch_embed.text_proj", D, info->text_dim),
        TS_LINEAR(&m->time1, "time_embedding.linear_1", A, D),
        TS_LINEAR(&m->time2, "time_embedding.linear_2", A, A),
        TS_LINEAR(&m->offset1, "ofs_embedding.linear_1", A, A), /* these two where it is told */
        TS_LINEAR(&m->offset2, "ofs_embedding.linear_2", A, A),
    };
    m->block = calloc((size_t)info->layers, sizeof *m->block);
    if (!m->block)
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "a transformer of %d layers: out of memory",
                    info->layers));
    for (int i = 0; i < info->layers; i++) TRY(bind_cogvideox_block(m, i));
    if (m->config->deep)
        TRY(ts_find_linear(ws, ends, &m->patch, D, patch_width(m, info->in_channels), true,
                           "patch_embed.proj"));
    else
        TRY(ts_find_conv(ws, ends, &m->patch, 4, (long[]){D, info->in_channels, side, side},
                         "patch_embed.proj"));
    TRY(ts_find_layers(ws, ends, end, sizeof end / sizeof *end, NULL, 0));
    TRY(ts_find_layers(ws, embed, embedder, m->config->offset_dim ? 5 : 3, NULL, 0));
    if (m->config->learned)
        TRY(ts_find_vector(ws, ends, &m->learned, 3,
                           (long[]){1, m->config->text_rows + count_learned(info), D},
                           "patch_embed.pos_embedding"));
done:
    return st;
}

static void unbind_cogvideox(void *self)
{
    cogvideox *m = self;
    free(m->block);
}

/* ---- prepare ---- */

static ts_status refuse_positions(const cogvideox *m)
{
    return ts_fail(&m->ctx->err, TS_EMEMORY, "positions of %d tokens: out of memory", m->grid.N);
}

/* Columns 0 .. D / 4 - 1 hold the token's frame, then as many and a half its x, then its y. */
static ts_status prepare_sines(cogvideox *m)
{
    ts_status st = TS_OK;
    const ts_grid *g = &m->grid;
    long D = m->info.dim, length[3] = {g->F, g->H, g->W}, column = 0;
    const struct {
        int axis;
        long width;
        double scale;
    } part[] = {{0, D / 4, m->config->duration},
                {2, 3 * D / 8, m->config->space},
                {1, 3 * D / 8, m->config->space}};
    double *at = malloc((size_t)(length[0] + length[1] + length[2]) * sizeof *at);
    if (!at) TRY(refuse_positions(m));
    for (int i = 0; i < 3; i++) {
        for (long k = 0; k < length[part[i].axis]; k++) at[k] = (double)k / part[i].scale;
        TRY(ts_part_sines(m->ctx, g, part[i].axis, at, part[i].width, m->positions, column));
        column += part[i].width;
    }
done:
    free(at);
    return st;
}

/* Where tokens of an axis stand in the grid of training: n of them from `first` on span `length`.
 */
static void fill_places(long n, double first, double length, double *at)
{
    double last = (first + length) * (double)(n - 1) / (double)n;
    for (long i = 0; i < n; i++)
        at[i] = n > 1 ? first + (double)i * (last - first) / (double)(n - 1) : first;
}

/* Sizes other than that of training are laid into its middle as large as they fit; those with deep
 * patches count from 0. */
static ts_status prepare_places(cogvideox *m)
{
    ts_status st = TS_OK;
    const cogvideox_config *c = m->config;
    long F = m->grid.F, H = m->grid.H, W = m->grid.W, d = m->info.head_dim,
         width[3] = {d / 4, d / 8 * 3, d / 8 * 3};
    int side = m->info.patch[1];
    double *at = malloc((size_t)(F + H + W) * sizeof *at), bh = floor((double)c->height / side),
           bw = floor((double)c->width / side), h = bh, w = bw;
    if (!at) TRY(refuse_positions(m));
    for (long i = 0; i < F; i++) at[i] = (double)i;
    if (c->deep) {
        for (long i = 0; i < H; i++) at[F + i] = (double)i;
        for (long i = 0; i < W; i++) at[F + H + i] = (double)i;
    } else {
        if ((double)H / (double)W > bh / bw)
            w = rint(bh / (double)H * (double)W);
        else
            h = rint(bw / (double)W * (double)H);
        fill_places(H, rint((bh - h) / 2), h, at + F);
        fill_places(W, rint((bw - w) / 2), w, at + F + H);
    }
    TRY(ts_part_rope_table(m->ctx, &m->grid, width, 10000,
                           (const double *[]){at, at + F, at + F + H}, m->cos, m->sin));
done:
    free(at);
    return st;
}

static ts_status mark_text(cogvideox *m)
{
    ts_status st = TS_OK;
    long n = m->sel.dim[0];
    uint8_t *host = malloc((size_t)n);
    if (!host) TRY(refuse_positions(m));
    for (long i = 0; i < n; i++) host[i] = i < m->grid.N ? VIDEO_ROWS : TEXT_ROWS;
    TRY(m->ctx->dev->ops->upload(m->ctx->dev, m->sel.p, host, (size_t)n));
done:
    free(host);
    return st;
}

/* What every timestep's embedding has added: emb [nt, A]. */
static ts_status add_offset(cogvideox *m)
{
    static const float OFFSET = 2; /* the reference knows no other */
    ts_status st = TS_OK;
    ts_ctx *ctx = m->ctx;
    long A = m->config->time_dim;
    if (!m->config->offset_dim) return TS_OK;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor row = ts_part_take(ctx, TS_F32, 1, A);
    ts_strided emb = {m->emb.p, TS_F32, {A, 1}};
    TRY(ts_part_embed(ctx, &m->offset1, &m->offset2, &OFFSET, 1, row));
    TRY(ts_affine_op(ctx->dev, (ts_affine){.nd = 2,
                                           .dim = {m->emb.dim[0], A},
                                           .x = emb,
                                           .b = {row.p, TS_F32, {0, 1}},
                                           .scale = 1,
                                           .y = emb}));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

/* Are the clip's positions those that were learned? */
static bool has_learned_positions(const cogvideox *m)
{
    return m->config->learned && m->grid.F == m->info.clip[0];
}

static ts_status check_learned_rows(const cogvideox *m, const ts_dit_inputs *in)
{
    long rows = m->config->text_rows;
    for (int i = 0; has_learned_positions(m) && i < in->slots; i++)
        if (m->texts.of[i].rows != rows)
            return ts_fail(&m->ctx->err, TS_EMODEL,
                           "a text of %ld rows: the positions that were learned are of %ld",
                           m->texts.of[i].rows, rows);
    return TS_OK;
}

static ts_status check_fixed_size(const cogvideox *m)
{
    const int *clip = m->info.clip, *p = m->info.patch;
    if (!m->info.fixed || (m->grid.H == clip[1] / p[1] && m->grid.W == clip[2] / p[2]))
        return TS_OK;
    return ts_fail(&m->ctx->err, TS_EMODEL,
                   "latents of %dx%d: the positions that were learned are of %dx%d",
                   m->grid.W * p[2], m->grid.H * p[1], clip[2], clip[1]);
}

static ts_status prepare_cogvideox_tables(cogvideox *m, const ts_dit_inputs *in, const float *t,
                                          int nt)
{
    ts_status st;
    ts_ctx *ctx = m->ctx;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor x;
    TRY(ts_weights_enter(m->weights, group_of_embedding(m)));
    TRY(ts_part_embed(ctx, &m->time1, &m->time2, t, nt, m->emb));
    TRY(add_offset(m));
    TRY(ts_part_texts_take(ctx, &m->texts, in, m->info.text_dim, &x));
    TRY(ts_part_linear(ctx, &m->text, x, TS_ACT_NONE, m->rows));
    TRY(mark_text(m));
    if (m->config->rope) TRY(prepare_places(m));
    if (ts_there(m->positions)) TRY(prepare_sines(m));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

/* Rows of a slot's text; without a text of that name a later check says so. */
static long count_rows(const void *self, const ts_dit_inputs *in, int slot)
{
    const ts_host *states = ts_bag_find(in->text[slot], "states");
    (void)self;
    return states ? states->dim[0] : 0;
}

static ts_status prepare_cogvideox(void *self, const ts_grid *grid, const ts_dit_inputs *in,
                                   const float *t, int nt)
{
    ts_status st;
    cogvideox *m = self;
    ts_ctx *ctx = m->ctx;
    long longest = 0, D = m->info.dim, d = m->info.head_dim;
    if (in->guidance != 0)
        TRY(ts_fail(&ctx->err, TS_EMODEL, "a guidance that the model is told: this one is not"));
    m->grid = *grid;
    m->positions = m->cos = m->sin = (ts_tensor){0};
    TRY(check_fixed_size(m));
    TRY(ts_part_beside(ctx, in, &m->beside));
    for (int i = 0; i < in->slots; i++)
        if (count_rows(m, in, i) > longest) longest = count_rows(m, in, i);
    TRY(ts_part_texts_lay(ctx, &m->texts, in, 0));
    TRY(check_learned_rows(m, in));
    m->emb = ts_part_take(ctx, TS_F32, nt, m->config->time_dim);
    m->rows = ts_part_take(ctx, TS_F32, m->texts.rows, D);
    m->sel = ts_take(&ctx->arena, TS_U8, TS_DIM(grid->N + longest));
    if (m->config->rope) {
        m->cos = ts_part_take(ctx, TS_F32, grid->N, d / 2);
        m->sin = ts_part_take(ctx, TS_F32, grid->N, d / 2);
    }
    if (!m->config->rope || (m->config->learned && !has_learned_positions(m)))
        m->positions = ts_part_take(ctx, TS_F32, grid->N, D);
    TRY(prepare_cogvideox_tables(m, in, t, nt));
done:
    return st;
}

/* ---- enter, block, leave ---- */

/* Positions that were learned: of the text and of video, [rows, D], weights of the group that is
 * entered. */
static ts_tensor learned_rows(const cogvideox *m, bool video)
{
    long rows = m->config->text_rows, N = count_learned(&m->info), D = m->info.dim;
    return ts_row_range(ts_view(m->learned->t, TS_DIM(rows + N, D)), video ? rows : 0,
                        video ? N : rows);
}

static ts_status enter_cogvideox(void *self, ts_eval e, ts_tensor x, ts_tensor h)
{
    ts_status st;
    cogvideox *m = self;
    ts_ctx *ctx = m->ctx;
    long N = m->grid.N;
    bool learned = has_learned_positions(m);
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor text = ts_part_text_rows(&m->texts, m->rows, e.slot), video = ts_row_range(h, 0, N),
              behind = ts_row_range(h, N, text.dim[0]),
              rows = ts_part_take(ctx, TS_F32, N, patch_width(m, m->info.in_channels)),
              places = learned ? learned_rows(m, true) : m->positions;
    TRY(ts_part_join(ctx, m->beside, &x));
    TRY(ts_part_move_patches(ctx, m->info.patch, x, rows, true));
    TRY(ts_linear_op(
        ctx->dev,
        (ts_linear){.x = rows, .w = m->patch.w, .b = m->patch.b, .resid = places, .y = video}));
    if (learned)
        TRY(ts_part_add(ctx, text, learned_rows(m, false), behind));
    else
        TRY(ts_cast(ctx->dev, text, behind));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

/* *m: rows of a block's shifts, scales and gates, video's and text's [2, 3 D], until the caller's
 * mark. */
static ts_status modulate_rows(cogvideox *m, const ts_layer *l, ts_eval e, long rows,
                               ts_modulation *out)
{
    long D = m->info.dim;
    ts_tensor all = ts_part_take(m->ctx, TS_F32, 1, 6 * D);
    *out = (ts_modulation){.m = ts_view(all, TS_DIM(PARTS_OF_MODULATION, 3 * D)),
                           .sel = ts_tensor_of(m->sel.p, TS_U8, TS_DIM(rows))};
    return ts_part_project(m->ctx, l, ts_row_range(m->emb, e.trow, 1), all);
}

enum { SHIFT, SCALE, GATE }; /* places in a row of modulation */

/* y = (ln(h) w + b) (1 + scale) + shift */
static ts_status norm_stream(const cogvideox *m, const ts_layer *n, ts_modulation mod, ts_tensor h,
                             ts_tensor y)
{
    long D = m->info.dim;
    return ts_norm_op(m->ctx->dev, (ts_norm){.kind = TS_NORM_LAYER,
                                             .eps = m->info.eps,
                                             .x = h,
                                             .w = n->w,
                                             .b = n->b,
                                             .scale = ts_columns(mod.m, SCALE * D, D),
                                             .shift = ts_columns(mod.m, SHIFT * D, D),
                                             .sel = mod.sel,
                                             .y = y});
}

/* x = ln of each head in place, then turned where it is video's: x [T, D] */
static ts_status norm_heads_and_turn(const cogvideox *m, const ts_layer *n, ts_tensor x)
{
    ts_status st;
    int A = m->info.heads;
    ts_tensor heads = ts_tensor_of(x.p, x.type, TS_DIM(x.dim[0] * A, m->info.head_dim));
    TRY(ts_part_norm(m->ctx, n, 1e-6F, heads, heads)); /* whatever the config's eps is */
    if (ts_there(m->cos))
        TRY(ts_rope_op(m->ctx->dev, (ts_rope){.x = ts_part_heads(ts_row_range(x, 0, m->grid.N), A),
                                              .cos = m->cos,
                                              .sin = m->sin}));
done:
    return st;
}

static ts_status attend_joint_stream(cogvideox *m, const cogvideox_block *b, ts_eval e,
                                     ts_attn *attn, ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = m->ctx;
    long T = h.dim[0], D = m->info.dim;
    int A = m->info.heads;
    ts_modulation mod;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, ctx->act, T, D); /* the norm of h, then what is read */
    ts_tensor q = ts_part_take(ctx, ctx->act, T, D), k = ts_part_take(ctx, ctx->act, T, D),
              v = ts_part_take(ctx, ctx->act, T, D);
    TRY(modulate_rows(m, &b->modulate1, e, T, &mod));
    TRY(norm_stream(m, &b->norm1, mod, h, n));
    TRY(ts_part_linear(ctx, &b->q, n, TS_ACT_NONE, q));
    TRY(ts_part_linear(ctx, &b->k, n, TS_ACT_NONE, k));
    TRY(ts_part_linear(ctx, &b->v, n, TS_ACT_NONE, v));
    TRY(norm_heads_and_turn(m, &b->norm_q, q));
    TRY(norm_heads_and_turn(m, &b->norm_k, k));
    TRY(ts_attend(attn, ts_part_heads(q, A), ts_part_heads(k, A), ts_part_heads(v, A),
                  ts_part_heads(n, A)));
    TRY(ts_part_add_gated(ctx, &b->o, n, mod, GATE, h));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status feed_stream(cogvideox *m, const cogvideox_block *b, ts_eval e, ts_tensor h)
{
    ts_status st;
    ts_ctx *ctx = m->ctx;
    long T = h.dim[0], D = m->info.dim;
    ts_modulation mod;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, ctx->act, T, D), u = ts_part_take(ctx, ctx->act, T, 4 * D);
    TRY(modulate_rows(m, &b->modulate2, e, T, &mod));
    TRY(norm_stream(m, &b->norm2, mod, h, n));
    TRY(ts_part_linear(ctx, &b->up, n, TS_ACT_GELU_TANH, u));
    TRY(ts_part_add_gated(ctx, &b->down, u, mod, GATE, h));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status run_cogvideox_block(void *self, int layer, ts_eval e, ts_attn *attn, ts_tensor h)
{
    ts_status st;
    cogvideox *m = self;
    TRY(attend_joint_stream(m, m->block + layer, e, attn, h));
    TRY(feed_stream(m, m->block + layer, e, h));
done:
    return st;
}

static ts_status leave_cogvideox(void *self, ts_eval e, ts_tensor h, ts_tensor v)
{
    ts_status st;
    cogvideox *m = self;
    ts_ctx *ctx = m->ctx;
    long N = h.dim[0], D = m->info.dim;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor n = ts_part_take(ctx, TS_F32, N, D), mod = ts_part_take(ctx, TS_F32, 1, 2 * D),
              o = ts_part_take(ctx, TS_F32, N, patch_width(m, m->info.out_channels));
    TRY(ts_part_project(ctx, &m->modulate, ts_row_range(m->emb, e.trow, 1), mod));
    TRY(ts_part_norm(ctx, &m->norm_final, m->info.eps, h, n));
    TRY(norm_stream(m, &m->norm_out, (ts_modulation){.m = mod}, n, n));
    TRY(ts_part_linear(ctx, &m->out, n, TS_ACT_NONE, o));
    TRY(ts_part_move_patches(ctx, m->info.patch, v, o, false));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_tensor select_cogvideox_embedding(void *self, ts_eval e)
{
    cogvideox *m = self;
    return ts_row_range(m->emb, e.trow, 1);
}

const ts_dit_class ts_dit_cogvideox = {
    .cls = "CogVideoXTransformer3DModel",
    .names = &ts_cogvideox_names,
    .infer = ts_cogvideox_infer,
    .size = sizeof(cogvideox),
    .config_size = sizeof(cogvideox_config),
    .describe = describe_cogvideox,
    .bind = bind_cogvideox,
    .close = unbind_cogvideox,
    .prepare = prepare_cogvideox,
    .rows = count_rows,
    .enter = enter_cogvideox,
    .block = run_cogvideox_block,
    .leave = leave_cogvideox,
    .embedding = select_cogvideox_embedding,
};
