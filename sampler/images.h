/* Clips of images: what a model takes of them, and how they become conditions of a run. A model has
 * one of three uses for an image: latents of a clip with it stand beside the sample's in every
 * step, with a mask of the frames that are given, and states of an image encoder beside the text
 * where the model has one; latents of it alone do, beside the sample's first; or they are kept as
 * the first frame of the clip. Internal to sampler/. */
#ifndef TS_IMAGES_H
#define TS_IMAGES_H
#include "sampler/run.h"

/* Does the request name the images that the model takes? TS_EUSAGE. */
ts_status ts_images_check(ts_run *);
/* Room for what the images become, zeros until they are encoded. TS_EMEMORY. */
ts_status ts_images_room(ts_run *);
void ts_images_close(ts_run *);
/* Bytes that encoding takes, weights included, and its operations, added to *price; 0 without
 * images. TS_EMEMORY: they do not fit; TS_EMODEL. */
ts_status ts_images_count(ts_run *, size_t *bytes, ts_profile *price);
/* TS_EUSAGE: one that the request names has not been read. */
ts_status ts_images_encode(ts_run *);
/* Where the first frame is kept: that of x f32 [F, H, W, C], on the device, becomes the image's.
 * Elsewhere nothing happens. */
ts_status ts_images_keep(const ts_run *, ts_tensor x);
bool ts_images_kept(const ts_run *);
/* Are the latents of its image drawn, by the seed or of noise that is given? */
bool ts_images_drawn(const ts_run *);
#endif
