/* Latents -> frames and back. A class streams: frames are pulled in display order, memory is
 * bounded by one chunk. */
#ifndef TS_VAE_H
#define TS_VAE_H
#include "weights/config.h"
#include "weights/weights.h"

typedef struct {
    int channels; /* of the latent */
    /* pixels to a latent: frames = time_stride (F - 1) + 1; width = stride W */
    int time_stride, stride;
    float mean[128], std[128]; /* decoder input = latent std + mean */
    int tile;                  /* pixels to a side of the tiles that its authors use; 0: not said */
    long params[64];           /* the class's own, filled by describe */
} ts_vae_info;

typedef struct {
    int w, h;
} ts_vae_tile;                /* pixels; 0: the whole frame at once */
typedef struct ts_vae ts_vae; /* one decode in progress */
typedef struct {
    const char *cls; /* _class_name in vae/config.json */
    ts_status (*describe)(ts_ctx *, const cJSON *, const char *path, ts_vae_info *);
    /* latents: f32 host [C, F, H, W], normalised as the sampler holds them; read until close.
     * Everything is carved from ctx->arena. The weights stay the caller's. */
    ts_status (*open)(ts_ctx *, ts_weights *, const ts_vae_info *, ts_host latents, ts_vae_tile,
                      ts_vae **);
    /* borrowed until the next call; (x + 1) / 2 of the decoder's output; AutoencoderKL's may leave
     * 0..1, others are clamped to it */
    ts_status (*next)(ts_vae *, ts_frame *, bool *end);
    void (*close)(ts_vae *);
    /* pixels: f32 host [F, H, W, 3] in -1..1; latent: f32 [C, F', H', W'] normalised, caller's.
     * `moments` not NULL: also mean and logvar [2 C, F', H', W'] as they leave the encoder. */
    ts_status (*encode)(ts_ctx *, ts_weights *, const ts_vae_info *, ts_host pixels, ts_vae_tile,
                        float *latent, float *moments);
} ts_vae_class;
extern const ts_vae_class ts_vae_kl;  /* AutoencoderKL: codecs/vae_kl.c */
extern const ts_vae_class ts_vae_wan; /* AutoencoderKLWan, 2.1 and 2.2: codecs/vae_wan.c */
#endif
