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
    int bench_frames;                                  /* that bench measures; 0: as `frames` */
    int trained_width, trained_height, trained_frames; /* 0: not said */
} ts_defaults;

/* How a pipeline reads a prompt with one of its text encoders. */
enum { TS_TEXT_RULES = 2 };
typedef struct {
    const char *component, *tokenizer; /* folders of the model */
    const char *encoders[3];           /* classes of the component that it accepts */
    ts_status (*clean)(ts_err *, const char *text, char **); /* before it is tokenized */
    const char *prefix, *suffix; /* a template around the cleaned text; NULL: nothing */
    int max;                     /* ids, those of the template and the end token included */
    bool pad; /* every text has as many: ids 0 follow, which encoder and transformer read as others
               */
    int crop; /* rows at the beginning, of the template, that are not handed on */
    ts_text_output output;
} ts_text_rule;

/* What an image is to the clips of a pipeline: nothing; latents of a clip with it and a mask beside
 * the sample's own channels; latents of it alone beside the first of the sample's, drawn from what
 * the encoder says of them; the first latents, which are kept. */
typedef enum { TS_IMAGE_NONE, TS_IMAGE_BESIDE, TS_IMAGE_DRAWN, TS_IMAGE_KEPT } ts_image_use;

typedef struct {
    const char *pipeline; /* _class_name of model_index.json */
    /* the row is for models with boundary_ratio; with expand_timesteps */
    bool experts, per_token;
    bool dynamic_guidance; /* it may change from step to step, as ts_request says */
    /* its transformer is told the guidance, and has no branch without the prompt, whatever it is */
    bool told_guidance;
    bool trailing; /* its default timesteps are `trailing`; of a flow */
    bool pictures; /* it draws pictures, one or a batch of them, and no clips */
    /* it predicts noise at discrete timesteps; else the velocity of a rectified flow */
    bool diffusion;
    /* its output has a variance behind the prediction, as many channels again, which samplers do
     * not use */
    bool variance;
    /* it was trained on a list of sizes; defaults of width and height 0: its sample size */
    bool bins;
    /* latent frames that are no whole number of patches get more before the first, which are drawn
     * and then left out of the clip; else clips have whole patches */
    bool pads_latents;
    /* clips may have any number of frames: what is decoded beyond them is cut from the end; else as
     * many as latents give */
    bool cuts_frames;
    ts_image_use image;
    bool needs_image; /* there is no clip without one */
    const ts_dit_class *dit;
    const ts_vae_class *vae;
    ts_text_rule text[TS_TEXT_RULES]; /* the first gives `states`; component NULL: no more rules */
    ts_defaults def;
    /* of models whose patches are several latent frames deep; NULL: the same */
    const ts_defaults *def_deep;
} ts_family;
static inline int ts_family_rules(const ts_family *f)
{
    int n = 0;
    while (n < TS_TEXT_RULES && f->text[n].component) n++;
    return n;
}
/* what a rule's rows are called in a text's bag */
static inline const char *ts_rule_name(const ts_text_rule *rule)
{
    return rule->output.pooled ? "pooled" : "states";
}
/* NULL: no row has this pipeline. */
const ts_family *ts_family_of(const char *pipeline, bool experts, bool per_token);
void ts_family_names(char *out, size_t size); /* "WanPipeline, ..." for sentences */
#endif
