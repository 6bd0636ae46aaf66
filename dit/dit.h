/* One evaluation of a diffusion transformer. dit.c owns the only layer loop: weights, stop, NaN
 * checks, progress and taps; a class says what a layer is. */
#ifndef TS_DIT_H
#define TS_DIT_H
#include "attention/attend.h"
#include "weights/config.h"
#include "weights/weights.h"

typedef struct {
    int layers, heads, head_dim, dim; /* dim = heads x head_dim */
    int in_channels, out_channels;
    int patch[3]; /* t h w: latents per token */
    int text_dim; /* width of the text states */
    /* side of the latent that a picture model was trained at; 0: not said */
    int sample_size;
    long params[16]; /* the class's own, filled by describe */
    float eps;
} ts_dit_info;

typedef struct {
    ts_host states; /* f32 [rows, text_dim]: real rows of the text encoder */
    /* rows that the model sees, zeros after the real ones; 0: text_rows of the class, or where that
     * is 0 the real ones */
    long length;
} ts_dit_text;

typedef struct { /* one sample of one evaluation */
    int trow;    /* row of the tables that prepare made: index into its t */
    int slot;    /* which text: index into its texts; also the guidance branch */
    int sample;  /* of a batch, from 0; ts_attn sees slot + sample times the texts prepared */
    /* u8 [N], in the grid's order of tokens: where it is 1 the token's timestep is row trow_sel
     * instead; absent: nowhere */
    ts_tensor sel;
    int trow_sel;
} ts_eval;

typedef struct {
    const char *cls;   /* _class_name in transformer/config.json */
    const char *older; /* what old files call it; NULL: the same */
    size_t size;       /* of the class's own struct, zeroed by ts_dit_open */
    ts_status (*describe)(ts_ctx *, const cJSON *, const char *path, ts_dit_info *);
    /* Group i = block i, group `layers` = what enter and leave use; groups beyond are entered by
     * prepare only. */
    ts_status (*bind)(void *self, ts_ctx *, const ts_dit_info *, ts_weights *);
    void (*close)(void *self); /* frees what bind made; also after a failed bind */
    /* NULL: the class does not ask for the picture's size */
    void (*pixels)(void *self, int height, int width);
    /* Once a run: everything that depends only on timestep, text or the grid (positions in the
     * grid's order of tokens), carved from ctx->arena and living as long as it. t: [nt] as the
     * model is fed them. */
    ts_status (*prepare)(void *self, const ts_grid *, const ts_dit_text *text, int texts,
                         const float *t, int nt);
    /* x f32 [C, F, H, W] -> h f32 [N, dim], raster: dit.c puts tokens in order, and back before
     * leave */
    ts_status (*enter)(void *self, ts_eval, ts_tensor x, ts_tensor h);
    /* in place */
    ts_status (*block)(void *self, int layer, ts_eval, ts_attn *, int attn_layer, ts_tensor h);
    /* -> v f32 [out_channels, F, H, W] */
    ts_status (*leave)(void *self, ts_eval, ts_tensor h, ts_tensor v);
    /* of the timestep, f32 [1, dim or 6 dim], for taps */
    ts_tensor (*embedding)(void *self, ts_eval);
    /* rows the model was trained on, the rest of them is zero; 0: it sees the real rows alone */
    long text_rows;
} ts_dit_class;
extern const ts_dit_class ts_dit_wan;    /* WanTransformer3DModel, dit/wan.c */
extern const ts_dit_class ts_dit_pixart; /* PixArtTransformer2DModel, dit/pixart.c */

typedef struct ts_dit ts_dit;
/* Binds weights of `dir` (a component folder) to the class; warns of unused tensors. `first_layer`
 * numbers its layers in plans (second expert: layers of the first). */
ts_status ts_dit_open(ts_ctx *, const ts_dit_class *, const cJSON *config, const char *config_path,
                      const char *dir, int first_layer, ts_dit **);
void ts_dit_close(ts_dit *); /* NULL is legal */
const ts_dit_info *ts_dit_describe(const ts_dit *);
ts_weights *ts_dit_weights(ts_dit *);
/* The picture's size in pixels, for classes that are told; before prepare. */
void ts_dit_pixels(ts_dit *, int height, int width);
/* Makes the tables of a run: grid in tokens (after patching), texts by slot, timesteps t[nt]. Host
 * data is read before it returns. Call it again with another arena. TS_EUSAGE, TS_ESHAPE. */
ts_status ts_dit_prepare(ts_dit *, const ts_grid *, const ts_dit_text *, int texts, const float *t,
                         int nt);
/* v[i] = model(x[i], t[eval[i].trow], text[eval[i].slot]) for n samples; every layer's weights are
 * entered once. x[i] f32 [C, F, H, W] (may be the same tensor), v[i] f32. `event`: the step and the
 * seconds so far; layers are added to it for progress (before each) and errors. NaN or infinity:
 * TS_ENUMBER naming step and layer. A step allocates nothing: its activations are taken from
 * ctx->arena and given back. ctx->tap sees `condition_embedder` [1, dim or 6 dim],
 * `patch_embedding` and `blocks.I` [N, dim] of step 1, sample by sample, in the grid's order of
 * tokens. */
ts_status ts_dit_step(ts_dit *, ts_attn *, ts_event event, int n, const ts_eval *,
                      const ts_tensor *x, const ts_tensor *v);
#endif
