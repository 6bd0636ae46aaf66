/* One evaluation of a diffusion transformer. dit.c owns the only layer loop, and with it weights,
 * stop, progress and hooks; a class says what a layer is. */
#ifndef TS_DIT_H
#define TS_DIT_H
#include "attention/attend.h"
#include "weights/bag.h"
#include "weights/checkpoint.h"
#include "weights/config.h"
#include "weights/weights.h"

typedef struct {
    int layers, heads, head_dim, dim; /* dim = heads x head_dim */
    int in_channels, out_channels;
    int patch[3];   /* t h w: latents per token */
    int text_dim;   /* width of the text states */
    int pooled_dim; /* of a text's pooled row; 0: it reads none */
    int beside;     /* channels of in_channels that stand beside the sample's own; 0: none */
    /* width of the states of a picture's encoder; 0: it sees no pictures */
    int picture_dim;
    int picture_rows; /* of all pictures together; 0: any number */
    /* side of the latent that a picture model was trained at; 0: not said */
    int sample_size;
    int clip[3]; /* t h w: latents of the clips that it was trained on; 0: not said */
    bool fixed;  /* it draws no others than clip[1] and clip[2] say */
    float eps;
} ts_dit_info;

/* Rows of a table of config.json, into the info `o`: what classes have under one name. */
#define TS_DIT_KEYS(o)                                                     \
    {"num_attention_heads", TS_KEY_INT, &(o)->heads, 0, NULL, NULL},       \
        {"attention_head_dim", TS_KEY_INT, &(o)->head_dim, 0, NULL, NULL}, \
        {"in_channels", TS_KEY_INT, &(o)->in_channels, 0, NULL, NULL},     \
        {"out_channels", TS_KEY_INT, &(o)->out_channels, 0, NULL, NULL},   \
    {                                                                      \
        "num_layers", TS_KEY_INT, &(o)->layers, 0, NULL, NULL              \
    }

/* What a run is conditioned on. Host data is read before ts_dit_prepare returns. */
typedef struct {
    /* [slots], by guidance branch: `states` f32 [rows, text_dim], the real rows of the text
     * encoder; of families with a second encoder also `pooled` f32 [1, width] */
    const ts_bag *const *text;
    int slots;
    /* rows that the model sees of a text, zeros after the real ones; 0: as many as its class says
     */
    long text_rows;
    /* f32 [C', F, H, W]: channels that stand beside the sample's own, ts_dit_info.beside of them;
     * data NULL: none, and then a sample brings all channels itself */
    ts_host latents;
    /* f32 [rows, picture_dim]: states of a picture's encoder, of several pictures behind each
     * other; data NULL: none */
    ts_host picture;
    double guidance;   /* of models that are told it; 0: not told */
    int height, width; /* of the picture in pixels, for models that are told it; 0: not known */
} ts_dit_inputs;

typedef struct { /* one sample of one evaluation */
    int trow;    /* row of the tables that prepare made: index into its t */
    int slot;    /* which text: index into its texts; also the guidance branch */
    int sample;  /* of a batch, from 0; ts_attn sees slot + sample times the texts prepared */
    /* u8 [N], in the grid's order of tokens and in raster order (absent: they are the same): where
     * it is 1 the token's timestep is row trow_sel instead; absent: nowhere */
    ts_tensor sel, sel_raster;
    int trow_sel;
} ts_eval;

/* The stream of a sample is h f32 [T, dim]: the grid's N tokens, then the rows of text that pass
 * the blocks with them. */
typedef struct {
    const char *cls;   /* _class_name in transformer/config.json */
    const char *older; /* what old files call it; NULL: the same */
    /* what its tensors are called where not as in a diffusers directory; NULL: nothing else */
    const ts_names *names;
    /* The config that the shapes of a checkpoint tell, for files that come without one: keys as
     * describe reads them, those left out that shapes do not tell; "_dim" is the width. TS_EMODEL.
     * NULL: they tell too little. */
    ts_status (*infer)(ts_ctx *, const ts_checkpoint *, cJSON *config);
    size_t size;        /* of the class's own struct, zeroed by ts_dit_open */
    size_t config_size; /* of its config struct, zeroed, which describe fills */
    ts_status (*describe)(ts_ctx *, const cJSON *, const char *path, ts_dit_info *, void *config);
    /* Group i = block i, group `layers` = what enter and leave use; groups beyond are entered by
     * prepare only. `config` is there until close. */
    ts_status (*bind)(void *self, ts_ctx *, const ts_dit_info *, const void *config, ts_weights *);
    void (*close)(void *self); /* frees what bind made; also after a failed bind */
    /* Once a run: everything that depends only on timestep, conditions or the grid (positions in
     * the grid's order of tokens), carved from ctx->arena and living as long as it. t: [nt] as the
     * model is fed them. */
    ts_status (*prepare)(void *self, const ts_grid *, const ts_dit_inputs *, const float *t,
                         int nt);
    /* rows of text in the stream of a sample of this slot; asked before prepare, too. NULL: none in
     * any */
    long (*rows)(const void *self, const ts_dit_inputs *, int slot);
    /* x f32 [F, H, W, C], without the channels beside it -> h, its tokens in raster order: dit.c
     * puts them in order, and back before leave */
    ts_status (*enter)(void *self, ts_eval, ts_tensor x, ts_tensor h);
    /* in place; its one self-attention over the stream is ts_attend, which knows step and layer */
    ts_status (*block)(void *self, int layer, ts_eval, ts_attn *, ts_tensor h);
    /* h f32 [N, dim]: the tokens alone, in raster order, as the eval's sel is then -> v f32 [F, H,
     * W, out_channels] */
    ts_status (*leave)(void *self, ts_eval, ts_tensor h, ts_tensor v);
    /* of the timestep, f32 [1, dim or 6 dim], for taps */
    ts_tensor (*embedding)(void *self, ts_eval);
    /* rows of text the model was trained on, the rest of them is zero; 0: it sees the real rows
     * alone */
    long text_rows;
} ts_dit_class;
extern const ts_dit_class ts_dit_wan;    /* WanTransformer3DModel, dit/wan.c */
extern const ts_dit_class ts_dit_pixart; /* PixArtTransformer2DModel, dit/pixart.c */
/* HunyuanVideoTransformer3DModel, dit/hunyuanvideo.c */
extern const ts_dit_class ts_dit_hunyuanvideo;
extern const ts_dit_class ts_dit_cogvideox; /* CogVideoXTransformer3DModel, dit/cogvideox.c */
extern const ts_dit_class ts_dit_opensora;  /* OpenSoraT2V, dit/opensora.c */

/* What a config says that others than its class need. TS_EMODEL. */
ts_status ts_dit_read(ts_ctx *, const ts_dit_class *, const cJSON *config, const char *config_path,
                      ts_dit_info *);

typedef struct ts_dit ts_dit;
/* Binds weights of `dir` (a component folder) to the class; warns of unused tensors. `first_layer`
 * numbers its layers in plans (second expert: layers of the first). */
ts_status ts_dit_open(ts_ctx *, const ts_dit_class *, const cJSON *config, const char *config_path,
                      const char *dir, int first_layer, ts_dit **);
void ts_dit_close(ts_dit *); /* NULL is legal */
const ts_dit_info *ts_dit_describe(const ts_dit *);
ts_weights *ts_dit_weights(ts_dit *);
int ts_dit_first_layer(const ts_dit *); /* as ts_dit_open was given it */
/* Rows of text that pass the blocks with the tokens of a sample of this slot: ts_attn has to know
 * them before prepare. */
long ts_dit_text_rows(const ts_dit *, const ts_dit_inputs *, int slot);
/* Makes the tables of a run: grid in tokens (after patching), conditions, timesteps t[nt]. Call it
 * again with another arena. TS_EUSAGE, TS_ESHAPE. */
ts_status ts_dit_prepare(ts_dit *, const ts_grid *, const ts_dit_inputs *, const float *t, int nt);

/* ---- hooks: what looks at an evaluation from above, at its samples and between its layers ---- */
typedef struct { /* an evaluation in progress */
    ts_dit *dit;
    ts_attn *attn;
    ts_event event; /* its step; the layer in progress, from 1 */
    int n;          /* samples */
    const ts_eval *eval;
    const ts_tensor *x, *v;
    ts_tensor h;          /* f32 [all samples' T, dim] */
    double began, before; /* clock; seconds of the phase by then */
} ts_dit_pass;
/* of a hook's `layer`: before the first one, and behind the last of them */
enum { TS_DIT_ENTERED = -1 };
typedef struct ts_dit_hook ts_dit_hook;
/* Functions may be NULL. They are called on a counting device too, and what they take from the
 * arena they give back. A status ends the evaluation. */
struct ts_dit_hook {
    void *user;
    const ts_dit_hook *next; /* called after this one; NULL: none */
    /* the samples have entered, no layer is begun; the samples have left */
    ts_status (*step_before)(void *user, const ts_dit_pass *);
    ts_status (*step_after)(void *user, const ts_dit_pass *);
    /* the layer's weights are there, no sample has passed it */
    ts_status (*layer_before)(void *user, const ts_dit_pass *, int layer);
    /* a sample has passed it: t is its tokens [N, dim] of the stream. Layer TS_DIT_ENTERED: it has
     * entered; layer `layers`: it has left, and t is v */
    ts_status (*sample_after)(void *user, const ts_dit_pass *, int layer, int sample, ts_tensor t);
};
/* These from now on; borrowed. NULL: none. */
void ts_dit_watch(ts_dit *, const ts_dit_hook *);
/* From layer_before: a copy of the sample's stream passes the layer and is thrown away; attention's
 * observer sees its call. */
ts_status ts_dit_probe_layer(const ts_dit_pass *, int layer, int sample);

/* v[i] = model(x[i], t[eval[i].trow], text[eval[i].slot]) for n samples; every layer's weights are
 * entered once. x[i] f32 [F, H, W, C] (may be the same tensor), v[i] f32, both packed. `event`: the
 * step and the seconds so far; layers are added to it for progress (before each) and errors. NaN or
 * infinity: TS_ENUMBER naming step and layer. A step allocates nothing: its activations are taken
 * from ctx->arena and given back. ctx->tap sees `condition_embedder` [1, dim or 6 dim],
 * `patch_embedding` and `blocks.I` [N, dim] of step 1, sample by sample, in the grid's order of
 * tokens. */
ts_status ts_dit_step(ts_dit *, ts_attn *, ts_event event, int n, const ts_eval *,
                      const ts_tensor *x, const ts_tensor *v);
#endif
