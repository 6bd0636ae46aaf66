/* What HunyuanVideo makes of a text before its blocks: diffusers' context_embedder. With t the
 * timestep, c the states of a text:
 *
 *   r = mlp'(sincos(t)) + mlp'(mean of c),   text = refiner(proj(c), r), of blocks
 *   h += gate_a O(attention(Q n, K n, V n)), h += gate_f W2 silu(W1 n), n = ln(h) w + b,
 *   [gate_a gate_f] = M silu(r)
 *
 * Internal to dit/hunyuanvideo*.c. */
#ifndef TS_HUNYUANVIDEO_TEXT_H
#define TS_HUNYUANVIDEO_TEXT_H
#include "dit/parts.h"

enum { TS_HUNYUAN_SINES = 256 }; /* of a timestep, and of a guidance */

typedef struct {
    ts_layer mod, q, k, v, o, up, down, norm1, norm2;
} ts_hunyuan_refiner;

typedef struct {
    ts_ctx *ctx;
    const ts_dit_info *info;
    int refiners;
    ts_hunyuan_refiner *refiner;
    ts_layer in, time1, time2, pool1, pool2;
    /* of a run */
    ts_part_texts texts;
    int nt;
    ts_tensor emb;    /* f32 [slots nt, D]: r of a slot's timesteps */
    ts_tensor states; /* f32 [rows, D] of all texts: proj(c) */
} ts_hunyuan_text;

/* info: lent until unbind. refiners: blocks; their weights are of group `ends`, the others of
 * `embedders`. TS_EMEMORY, TS_EMODEL; unbind whatever it said. */
ts_status ts_hunyuan_text_bind(ts_hunyuan_text *, ts_ctx *, ts_weights *, const ts_dit_info *info,
                               int refiners, int ends, int embedders);
void ts_hunyuan_text_unbind(ts_hunyuan_text *);
/* A run of nt timesteps begins: lays the texts out and takes what outlives its preparation. */
ts_status ts_hunyuan_text_carve(ts_hunyuan_text *, const ts_dit_inputs *, int nt);
/* Of timesteps t [nt], with group `embedders` entered. */
ts_status ts_hunyuan_text_prepare(ts_hunyuan_text *, const ts_dit_inputs *, const float *t);
/* text f32 [rows of the slot's text, D], refined, with group `ends` entered */
ts_status ts_hunyuan_text_enter(ts_hunyuan_text *, ts_eval, ts_tensor text);

/* to [slots nt, D]: row (slot, t) = time[t] + text[slot], time [nt, D], text [slots, D] */
ts_status ts_hunyuan_join(ts_ctx *, ts_tensor time, ts_tensor text, ts_tensor to);
#endif
