/* One decoding or encoding by a VAE of any class: what goes in and what came out. */
#ifndef VAE_RUN_H
#define VAE_RUN_H
#include "codecs/vae.h"
#include "weights/bag.h"

typedef struct {
    const ts_vae_class *cls;
    ts_weights *w;
    ts_vae_info info;
    void *config; /* of info */
    ts_host in;   /* decode: latents [C, F, H, W]; encode: pixels */
    ts_vae_tile tile;
    /* the caller's. decode: rgb [F, H, W, 3], NULL: not kept; encode: moments [2 C, F, H, W] and
     * latent [C, F, H, W] */
    float *out, *latent;
    long pixels, frames; /* of the decoded */
    size_t held;         /* bytes of the arena that the open decoder holds */
    long downloads;      /* of a decoding, on a device that records */
} vae_run;

/* Describes the class by a config, which it deletes, and opens the weights
 * DIR/COMPONENT.safetensors. */
void vae_run_open(ts_ctx *, vae_run *, cJSON *config, const char *dir, const char *component);
/* The same of a model's folder, without a warning; the latents of `expected` go in. */
void vae_run_open_fixture(ts_ctx *, vae_run *, const char *dir, const ts_bag *expected);
void vae_run_close(vae_run *);
/* Counts what leaves this context's device from here on. */
void vae_run_record(ts_ctx *);
/* Phases for testing_run, user: vae_run. */
ts_status vae_run_decode(ts_ctx *, void *user);
ts_status vae_run_encode(ts_ctx *, void *user);
/* What was decoded as the oracle has it, [3, F, H, W] before (x + 1) / 2; malloc'd. */
float *vae_run_planes(const vae_run *);
#endif
