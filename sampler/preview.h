/* Colours of latents without their decoder: a linear map, fitted to what the VAE makes of pieces of
 * the very latents that a run foretells. Numbers that are drawn will not do: what a model draws
 * lies in few directions of its latents, and a decoder bends along them. Internal to sampler/. */
#ifndef TS_PREVIEW_H
#define TS_PREVIEW_H
#include "sampler/run.h"

/* rgb of a latent's place ~ (z, 1) M, M = (A^T A + R)^-1 A^T B: a row of A is (z, 1), a row of B
 * the pixels, R a little on the diagonal. */
typedef struct ts_preview {
    int channels;
    int side;     /* a latent becomes side x side pixels, of 4 x 4 pixels of the VAE's each */
    int columns;  /* side * side * 3: of B and M */
    long shown;   /* frames that were asked for */
    double rows;  /* of A so far, as they are weighed */
    double *ata;  /* [C + 1, C + 1] A^T A */
    double *atb;  /* [C + 1, columns] A^T B */
    double *work; /* as large as both and a row of each */
    float *map;   /* [C + 1, columns] M */
} ts_preview;
/* Of the run's model, once, which frees it; bytes: what fitting takes beside the denoising. A run
 * of which nothing has been denoised. TS_EMEMORY. */
ts_status ts_preview_open(ts_run *, size_t *bytes);
void ts_preview_free(ts_preview *); /* NULL is legal */
/* Now that z, host [H, W, C], is to be shown: is the map worth another fit? The 1st, 2nd, 4th, 8th,
 * ... time; then a piece of at most 12 x 12 latents is decoded, and the map is that of all pieces
 * so far, the last one first. Between two steps. TS_ESTOP, TS_ENUMBER. */
ts_status ts_preview_fit(ts_run *, const float *z);
/* z -> rgb [H side, W side, 3] in 0..1. */
void ts_preview_frame(const ts_preview *, const float *z, long H, long W, float *rgb);
#endif
