/* CLIP's image encoder (Radford et al., 2021; CLIPVisionModel of transformers): a picture becomes a
 * row of states for itself and one for each of its patches. */
#ifndef TS_CLIP_VISION_H
#define TS_CLIP_VISION_H
#include "codecs/picture.h"
#include "weights/checkpoint.h"
#include "weights/model_dir.h"
#include "weights/weights.h"

typedef struct {
    int width, ff, layers, heads, channels, image, patch; /* image: pixels to a side */
    double eps;
    ts_act act;
    /* its processor: the shorter side is resized to `edge` (0: both sides to edge_w x edge_h), the
     * middle image x image is taken, then (x rescale - mean) / std */
    int edge, edge_w, edge_h;
    double rescale;
    float mean[3], std[3];
} ts_clip_vision_info;
/* rows of states of a picture */
static inline long ts_clip_vision_rows(const ts_clip_vision_info *i)
{
    return (long)(i->image / i->patch) * (i->image / i->patch) + 1;
}

extern const ts_names ts_clip_vision_names;
/* as ts_vae_class.infer */
ts_status ts_clip_vision_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
/* Reads the configs; processor: its folder has preprocessor_config.json; NULL: as published with
 * every CLIP. TS_EMODEL. */
ts_status ts_clip_vision_read(ts_ctx *, const ts_component *encoder, const ts_component *processor,
                              ts_clip_vision_info *);
/* What the encoder sees of a picture: out [image, image, 3]. TS_EMEMORY. */
ts_status ts_clip_vision_pixels(ts_err *, const ts_clip_vision_info *, const ts_picture *,
                                float *out);

typedef struct ts_clip_vision ts_clip_vision;
/* Binds the weights of `dir`, or of the file that it is. TS_EMODEL, TS_ESHAPE. */
ts_status ts_clip_vision_open(ts_ctx *, const ts_clip_vision_info *, const char *dir,
                              ts_clip_vision **);
void ts_clip_vision_close(ts_clip_vision *); /* NULL is legal */
ts_weights *ts_clip_vision_weights(ts_clip_vision *);
/* pixels[i] of n pictures -> out f32 [n, rows, width] (host, the caller's): the states before the
 * last layer, each weight group entered once for all. On a counting device it only counts. Uses
 * ctx->arena and gives it back. TS_ENUMBER: NaN or infinity; TS_ESTOP. */
ts_status ts_clip_vision_run(ts_clip_vision *, const float *const *pixels, int n, float *out);
#endif
