/* A pipeline is one row: which transformer, VAE and text encoders it joins, how it treats text, and
 * the settings its authors recommend. Adding a family: its transformer, its VAE, its encoder, a row
 * here. */
#ifndef TS_FAMILIES_H
#define TS_FAMILIES_H
#include "codecs/vae.h"
#include "dit/dit.h"
#include "prompts/text.h"

typedef struct {
    int width, height, frames, steps, scale;
    double fps, guidance, guidance_2;
    const char *negative;
} ts_defaults;

typedef struct {
    const char *pipeline; /* _class_name of model_index.json */
    /* the row is for models with boundary_ratio; with expand_timesteps */
    bool experts, per_token;
    bool pictures; /* it draws pictures, one or a batch of them, and no clips */
    /* it predicts noise at discrete timesteps; else the velocity of a rectified flow */
    bool diffusion;
    /* its output has a variance behind the prediction, as many channels again, which samplers do
     * not use */
    bool variance;
    /* it was trained on a list of sizes; defaults of width and height 0: its sample size */
    bool bins;
    /* of prompts, before they are tokenized */
    ts_status (*clean)(ts_err *, const char *text, char **);
    const ts_dit_class *dit;
    const ts_vae_class *vae;
    const char *encoders[3]; /* classes of text_encoder that it accepts */
    int text_max;            /* ids, end token included */
    ts_defaults def;
} ts_family;
/* NULL: no row has this pipeline. */
const ts_family *ts_family_of(const char *pipeline, bool experts, bool per_token);
void ts_family_names(char *out, size_t size); /* "WanPipeline, ..." for sentences */
#endif
