/* Checkpoints of AutoencoderKLWan made up for tests. */
#ifndef VAE_CHECKPOINT_H
#define VAE_CHECKPOINT_H
#include "weights/bag.h"
/* as in config.json */
typedef struct {
    bool residual;
    int base, dec, z, levels, mult[4], res;
    bool time[3];
} vae_shape;
ts_bag *vae_checkpoint(const vae_shape *); /* golden weights; ts_bag_free */
/* a file of zeros that takes no room on disk: for runs that only count. Returns its parameters. */
long vae_hollow(const vae_shape *, const char *path);
#endif
