/* Wan transformers with golden weights: a folder to open, and what the sheet of the family says
 * they compute, in f64 and as plainly as it can be written. */
#ifndef GOLDEN_WAN_H
#define GOLDEN_WAN_H
#include "weights/bag.h"

typedef struct {
    long patch[3], heads, head_dim, in, out, text_dim, freq_dim, ffn_dim, layers;
    bool cross_norm;
    long image_dim; /* 0: it sees no pictures, which golden_wan_forward never does */
} golden_wan;
extern const golden_wan golden_w1, golden_w3;
ts_bag *golden_wan_weights(const golden_wan *);
/* A new folder with config.json and the weights; malloc'd. */
char *golden_wan_save(const golden_wan *, const ts_bag *);
/* x [in, F, H, W], text [rows, text_dim] with all its rows, zeros too, t a timestep for each token
 * -> v [out, F, H, W] */
void golden_wan_forward(const golden_wan *, const ts_bag *, const float *x, const long latent[4],
                        const float *text, long rows, const float *t, float *v);
#endif
