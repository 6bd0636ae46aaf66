/* Latents -> frames and back. A class streams: frames are pulled in display order, memory is
 * bounded by one chunk of a whole frame, or with tiles by the clip and one chunk of a tile. */
#ifndef TS_VAE_H
#define TS_VAE_H
#include "weights/checkpoint.h"
#include "weights/config.h"
#include "weights/weights.h"

typedef struct {
    int w, h;
} ts_vae_tile; /* pixels; 0: the whole frame at once */

typedef struct {
    int channels; /* of the latent */
    /* pixels to a latent: frames = time_stride (F - 1) + 1; width = stride W */
    int time_stride, stride;
    /* latents that are decoded together after the first: clips have a multiple of so many and one;
     * 0: 1 */
    int time_step;
    float mean[128], std[128]; /* decoder input = latent std + mean */
    /* latents of an image that conditions a clip are scaled as a decoder's are, not the reverse of
     * that: so its transformer was trained */
    bool images_as_decoded;
    ts_vae_tile tile; /* that its authors use; 0: not said */
    double overlap_w,
        overlap_h;      /* of tiles with the next, of their width and height; 0: a quarter */
    const void *config; /* the class's own struct, owned by the caller of describe */
} ts_vae_info;

typedef struct ts_vae ts_vae; /* one decode in progress */
typedef struct {
    const char *cls; /* _class_name in vae/config.json */
    /* what its tensors are called where not as in a diffusers directory; NULL: nothing else */
    const ts_names *names;
    /* The config that the shapes of a checkpoint tell, for files that come without one; latent
     * statistics are those of the published VAE of so many channels. TS_EMODEL. NULL: they tell too
     * little. */
    ts_status (*infer)(ts_ctx *, const ts_checkpoint *, cJSON *config);
    size_t config_size; /* bytes of the class's config struct */
    /* config: config_size bytes, 8-byte aligned, the caller's; filled, and read as long as the info
     * is */
    ts_status (*describe)(ts_ctx *, const cJSON *, const char *path, ts_vae_info *, void *config);
    /* latents: f32 [F, H, W, C] of the device, normalised as the sampler holds them; read until
     * close. Everything is carved from ctx->arena and stays the arena's. The weights stay the
     * caller's. */
    ts_status (*open)(ts_ctx *, ts_weights *, const ts_vae_info *, ts_tensor latents, ts_vae_tile,
                      ts_vae **);
    /* Borrowed until the next call; (x + 1) / 2 of the decoder's output; AutoencoderKL's may leave
     * 0..1, others are clamped to it. One download a frame. Of tiles: progress as base.h says.
     * TS_ENUMBER: the frame holds NaN or infinity. */
    ts_status (*next)(ts_vae *, ts_frame *, bool *end);
    void (*close)(ts_vae *);
    /* pixels: f32 host [F, H, W, 3] in -1..1, uploaded a chunk at a time; latent: f32 [F', H', W',
     * C] of the device, normalised. `moments`, where present: also mean and logvar [F', H', W', 2
     * C] as they leave the encoder. NULL:
     * only decoding is there. */
    ts_status (*encode)(ts_ctx *, ts_weights *, const ts_vae_info *, ts_host pixels, ts_vae_tile,
                        ts_tensor latent, ts_tensor moments);
} ts_vae_class;
extern const ts_vae_class ts_vae_kl;  /* AutoencoderKL: codecs/vae_kl.c */
extern const ts_vae_class ts_vae_wan; /* AutoencoderKLWan, 2.1 and 2.2: codecs/vae_wan.c */
/* AutoencoderKLHunyuanVideo: codecs/vae_hunyuanvideo.c */
extern const ts_vae_class ts_vae_hunyuanvideo;
extern const ts_vae_class ts_vae_causal;    /* CausalVAEModel: codecs/vae_causal.c */
extern const ts_vae_class ts_vae_cogvideox; /* codecs/vae_cogvideox.c */
#endif
