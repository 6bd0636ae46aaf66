/* Latents on the device are [F, H, W, C], of pictures [n, H, W, C], from noise to the decoder. What
 * people and files see (noise, latents, states) is [C, F, H, W]: put in the other order here, at
 * the edges. Internal to sampler/. */
#ifndef TS_LATENTS_H
#define TS_LATENTS_H
#include "backend/ctx.h"

/* shape: C F H W in all of these */
static inline size_t ts_latents_count(const long shape[4])
{
    return (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
}
/* first [C, F, H, W] <-> last [F, H, W, C]; host memory that does not overlap */
void ts_latents_last(const long shape[4], const float *first, float *last);
void ts_latents_first(const long shape[4], const float *last, float *first);
/* [F, H, W, C] from the arena; with C of its own, as an output has that is wider than its input */
ts_tensor ts_latents_take(ts_arena *, const long shape[4], long channels);
/* x f32 [F, H, W, C] from and to host f32 [C, F, H, W]. TS_EMEMORY. */
ts_status ts_latents_upload(ts_ctx *, const long shape[4], const float *from, ts_tensor x);
ts_status ts_latents_download(ts_ctx *, const long shape[4], ts_tensor x, float *to);
#endif
