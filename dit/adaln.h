/* Transformers with adaLN-single (Chen et al., PixArt-alpha, 2023): one projection of the timestep
 * modulates every block, and each block adds a table of its own to it. PixArt and Wan are such
 * transformers; config, names of weights, embedders and positions are each class's own. What a
 * block is composed of is in parts.h. Internal to dit/. */
#ifndef TS_ADALN_H
#define TS_ADALN_H
#include "dit/parts.h"

/* norms: rms over all heads together; NULL: none */
typedef struct {
    ts_layer q, k, v, o;
    const ts_weight *norm_q, *norm_k;
} ts_adaln_attention;
typedef struct {
    ts_adaln_attention self, cross;
    ts_layer up, down;
    ts_layer norm;          /* before cross-attention; not bound: the identity */
    const ts_weight *table; /* 6 D numbers */
    /* keys and values of pictures in cross-attention; not bound: it sees none */
    ts_layer picture_k, picture_v;
    const ts_weight *picture_norm; /* of the keys */
} ts_adaln_block;

typedef struct { /* the first member of a class's struct */
    ts_ctx *ctx;
    ts_weights *weights;
    ts_dit_info info;
    ts_adaln_block *block;
    ts_layer patch, out;
    const ts_weight *table; /* 2 D numbers */
    /* the run's */
    ts_grid grid;
    ts_tensor emb, e6;   /* of the timesteps: f32 [nt, D], [nt, 6 D] */
    ts_tensor positions; /* f32 [N, D] in raster order, added to the patches; absent: none */
    /* f32 [N, d / 2] in the grid's order, turning queries and keys; absent: they are not turned */
    ts_tensor cos, sin;
    /* of a model's, not a run's: channels j and j + d / 6 of each third of a head turn together,
     * instead of those beside each other */
    bool split;
    ts_part_texts text; /* T rows */
    ts_tensor kv;       /* [layers 2 T, D]: keys then values of a layer */
    ts_tensor beside;   /* f32 [F, H, W, C']: channels beside a sample's; absent: none */
    /* [layers 2 R, D]: keys then values of the R rows of pictures; absent: there are none */
    ts_tensor picture;
} ts_adaln;

/* Groups of weights: blocks, enter and leave, then what only prepare uses: embedders, and keys and
 * values of the text for each block. */
static inline int ts_adaln_group_ends(const ts_adaln *a) { return a->info.layers; }
static inline int ts_adaln_group_embed(const ts_adaln *a) { return a->info.layers + 1; }
static inline int ts_adaln_group_text(const ts_adaln *a, int layer)
{
    return a->info.layers + 2 + layer;
}

/* Takes ctx, info and weights, and room for the blocks: ts_adaln_unbind. TS_EMEMORY. */
ts_status ts_adaln_bind(ts_adaln *, ts_ctx *, const ts_dit_info *, ts_weights *);
/* The linear layers of block i, BLOCKS.i.attn1, .attn2 and .FF.net; text: what keys and values of
 * the text read, ff: the width of the feed-forward. Norms and table are the class's to find. */
ts_status ts_adaln_bind_block(ts_adaln *, int i, const char *blocks, const char *ff_name, long text,
                              long ff);
void ts_adaln_unbind(void *self);

/* Of the timestep, its projection, and the text, where it is projected. */
typedef struct {
    ts_layer time1, time2, modulate, text1, text2;
} ts_adaln_embedders;
/* All of the layers that PixArt's transformers and those after them have, under diffusers' names.
 * text: what keys and values of the text read, caption: the width of its states where they are
 * projected, else 0. */
ts_status ts_adaln_bind_pixart(ts_adaln *, ts_ctx *, const ts_dit_info *, ts_weights *, long text,
                               long caption, ts_adaln_embedders *);

/* Begins a run: the grid, where each text's rows are, the channels beside a sample's, and room for
 * emb, e6, kv, picture and bias. text_rows: of texts that do not say their length, as in
 * ts_dit_class. TS_EMODEL: a guidance, which these models are not told. */
ts_status ts_adaln_begin(ts_adaln *, const ts_grid *, const ts_dit_inputs *, long text_rows,
                         long nt);
/* *c [T, D] = l2 gelu(l1 states) of all texts' rows, or the states where l1 is not bound; it lives
 * until the caller's mark. */
ts_status ts_adaln_text(ts_adaln *, const ts_dit_inputs *, const ts_layer *l1, const ts_layer *l2,
                        ts_tensor *c);
/* Keys and values of c for every block, and of pictures [R, D], which may be absent. */
ts_status ts_adaln_keys_and_values(ts_adaln *, ts_tensor c, ts_tensor pictures);

/* For ts_dit_class. */
ts_status ts_adaln_enter(void *self, ts_eval, ts_tensor x, ts_tensor h);
ts_status ts_adaln_run_block(void *self, int layer, ts_eval, ts_attn *, ts_tensor h);
ts_status ts_adaln_leave(void *self, ts_eval, ts_tensor h, ts_tensor v);
ts_tensor ts_adaln_embedding(void *self, ts_eval); /* the projection of the timestep, [1, 6 D] */
#endif
