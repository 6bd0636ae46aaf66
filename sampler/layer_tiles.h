/* Which attention tile (k : F - k) each layer bears: greedy in layer order. Before a layer is
 * computed for good, its samples pass it once for nothing but a comparison of every candidate's
 * self-attention output with full attention's; the sparsest candidate whose relative error,
 * averaged over the samples, is small enough then computes the layer, so that later layers see what
 * earlier choices do. arXiv 2502.06155 searches masks by layer; what is measured there was not
 * published. Here it is |o_k - o|^2 / |o|^2 of the heads' output, before its projection. */
#ifndef TS_LAYER_TILES_H
#define TS_LAYER_TILES_H
#include "dit/dit.h"

typedef struct {
    ts_attn *attn;
    const int *k; /* [ks] candidates, ascending: the sparsest first; borrowed */
    int ks;
    double loss; /* the largest error that a layer may have */
    /* [layers] out: a k, or 0: none is good enough, everything is read; the caller's */
    int *chosen;
    double *error; /* [layers, ks] out, the caller's */
    ts_plan *plan; /* [slots, ks + 1], the last one of a slot reads everything */
    int samples;   /* seen by the layer being tried */
    bool trying;
    ts_dit_hook hook; /* for ts_dit_watch: every layer is tried and chosen before it is computed */
} ts_layer_tiles;
/* `a` is open with a tile policy that has no dense steps; carves the candidates' plans from its
 * arena, observes its calls, makes the hook. TS_EMEMORY. */
ts_status ts_layer_tiles_open(ts_layer_tiles *, ts_attn *);
void ts_layer_tiles_close(ts_layer_tiles *); /* plans' table; a zeroed one is legal */
/* What the hook does before a layer: from _try on the calls of attention are compared; _choose ends
 * that and fixes the layer's tile. */
void ts_layer_tiles_try(ts_layer_tiles *, int layer);
void ts_layer_tiles_choose(ts_layer_tiles *, int layer);
#endif
