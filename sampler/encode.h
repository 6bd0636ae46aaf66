/* Pixels to latents, for runs that begin with pictures or are made of them. Internal to sampler/.
 */
#ifndef TS_ENCODE_H
#define TS_ENCODE_H
#include "sampler/run.h"

/* pixels f32 host [F, H, W, 3] in -1..1 -> to f32 [F', H', W', C] of the device, normalised: the
 * mean of what the encoder says; or to [F', H', W', 2 C]: mean and logarithm of the variance as
 * they leave it. Opens and closes ctx->arena. TS_EMEMORY: they do not fit. */
ts_status ts_encode(ts_run *, ts_host pixels, ts_tensor to);
/* Bytes that this takes, weights included; latent: C (or 2 C) F H W of what comes of it.
 * TS_EMEMORY. */
ts_status ts_encode_count(ts_run *, ts_host pixels, const long latent[4], size_t *bytes);
#endif
