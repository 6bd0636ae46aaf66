/* A pipeline is one row: which transformer, VAE and text encoders it joins, how it treats text, and the settings its authors recommend. Adding a family: its transformer, its VAE, its encoder, a row here. */
#ifndef TS_FAMILIES_H
#define TS_FAMILIES_H
#include "codecs/vae.h"
#include "dit/dit.h"

typedef struct {
    int width, height, frames, steps, scale;
    double fps, guidance, guidance_2;
    const char *negative;
} ts_defaults;

typedef struct {
    const char *pipeline;          /* _class_name of model_index.json */
    bool experts, per_token;       /* the row is for models with boundary_ratio; with expand_timesteps */
    const ts_dit_class *dit;
    const ts_vae_class *vae;
    const char *encoders[3];       /* classes of text_encoder that it accepts */
    int text_max;                  /* ids, end token included */
    ts_defaults def;
} ts_family;
/* NULL: no row has this pipeline. */
const ts_family *ts_family_of(const char *pipeline, bool experts, bool per_token);
void ts_family_names(char *out, size_t size); /* "WanPipeline, ..." for sentences */
#endif
