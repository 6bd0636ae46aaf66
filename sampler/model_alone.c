/* A model of files alone: what stands for the directory that it does not come with, by the
 * published model of the transformer's shape, and parts that are in the transformer's own file. */
#include "sampler/model_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a pipeline reads ---- */

/* NULL: it is not known. */
static const ts_family *family_of_pipeline(ts_model *m)
{
    const cJSON *e = cJSON_GetObjectItemCaseSensitive(m->dir.index, "expand_timesteps");
    return ts_family_of(m->dir.pipeline, ts_model_part(m, "transformer_2") != NULL,
                        cJSON_IsTrue(e));
}

ts_status ts_model_check_second(ts_model *m, const char *const path[TS_MODEL_FILES])
{
    const ts_family *f = family_of_pipeline(m);
    for (int i = TS_SLOT_TEXT_2; f && i < TS_MODEL_FILES; i++)
        if (path[i] && ts_family_rules(f) < 2)
            return ts_fail(&m->ctx->err, TS_EUSAGE, "%s, a second text encoder's: a %s has one",
                           path[i], m->dir.pipeline);
    return TS_OK;
}

/* ---- a model of files alone ---- */

static double number_of(const ts_component *c, const char *key)
{
    const cJSON *v = c ? cJSON_GetObjectItemCaseSensitive(c->config, key) : NULL;
    return v ? v->valuedouble : 0;
}

/* The model is of this pipeline, with this scheduler of this class. */
static ts_status put_pipeline(ts_model *m, const char *pipeline, const char *index,
                              const char *scheduler, const char *config)
{
    ts_component *one = ts_model_part(m, "transformer");
    m->dir.dir = strdup(one->dir);
    m->dir.index = cJSON_Parse(index);
    snprintf(m->dir.pipeline, sizeof m->dir.pipeline, "%s", pipeline);
    if (!m->dir.dir || !m->dir.index) return ts_model_file_memory(m);
    return ts_model_put_part(m, "scheduler", scheduler, one->dir, cJSON_Parse(config));
}

/* By the sizes of the published models (their cards and original configs): 1.3B 3, 14B and 5B 5,
 * two experts from text 12. */
static double usual_shift(bool experts, double layers, double in)
{
    if (experts && in == 16) return 12;
    return layers == 40 || in == 48 ? 5 : 3;
}

static ts_status stand_for_wan(ts_model *m)
{
    enum { PICTURE_IN = 36, RESIDUAL_IN = 48 };
    const ts_component *one = ts_model_part(m, "transformer");
    bool experts = ts_model_part(m, "transformer_2");
    double in = number_of(one, "in_channels"), layers = number_of(one, "num_layers");
    char index[128], scheduler[256];
    snprintf(index, sizeof index, "{\"boundary_ratio\": %s, \"expand_timesteps\": %s}",
             !experts           ? "null"
             : in == PICTURE_IN ? "0.9"
                                : "0.875",
             in == RESIDUAL_IN ? "true" : "false");
    snprintf(scheduler, sizeof scheduler,
             "{\"prediction_type\": \"flow_prediction\", \"use_flow_sigmas\": true, "
             "\"flow_shift\": %g}",
             usual_shift(experts, layers, in));
    return put_pipeline(m, in == PICTURE_IN ? "WanImageToVideoPipeline" : "WanPipeline", index,
                        "UniPCMultistepScheduler", scheduler);
}

static ts_status stand_for_hunyuanvideo(ts_model *m)
{
    return put_pipeline(m, "HunyuanVideoPipeline", "{}", "FlowMatchEulerDiscreteScheduler",
                        "{\"shift\": 7}");
}

/* 2B is told from 5B and 1.5 by its width. */
static bool is_small_cogvideox(ts_model *m)
{
    return number_of(ts_model_part(m, "transformer"), "_dim") == 1920;
}

static ts_status stand_for_cogvideox(ts_model *m)
{
    char scheduler[512];
    snprintf(scheduler, sizeof scheduler,
             "{\"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": "
             "\"scaled_linear\", \"prediction_type\": \"v_prediction\", \"timestep_spacing\": "
             "\"trailing\", \"set_alpha_to_one\": true, \"clip_sample\": false, "
             "\"rescale_betas_zero_snr\": true, \"snr_shift_scale\": %d}",
             is_small_cogvideox(m) ? 3 : 1);
    const ts_component *one = ts_model_part(m, "transformer");
    bool image = number_of(one, "in_channels") > number_of(one, "out_channels");
    return put_pipeline(m, image ? "CogVideoXImageToVideoPipeline" : "CogVideoXPipeline", "{}",
                        "CogVideoXDDIMScheduler", scheduler);
}

/* The shapes of a VAE do not tell how its latents are scaled; those of images are the other way
 * round in 1.5. */
static ts_status scale_cogvideox(ts_model *m)
{
    static const char scale[] = "scaling_factor", invert[] = "invert_scale_latents";
    cJSON *config = ts_model_part(m, "vae")->config;
    bool deep = number_of(ts_model_part(m, "transformer"), "patch_size_t") > 1;
    if (!cJSON_GetObjectItemCaseSensitive(config, scale) &&
        (!cJSON_AddNumberToObject(config, scale, is_small_cogvideox(m) ? 1.15258426 : 0.7) ||
         !cJSON_AddBoolToObject(config, invert, deep)))
        return ts_model_file_memory(m);
    return TS_OK;
}

/* Transformers that need no directory: what model_index.json and scheduler_config.json of the
 * published one say. */
static const struct {
    const char *cls;
    ts_status (*stand)(ts_model *);
    ts_status (*finish)(ts_model *); /* once all parts are there; NULL: nothing is to be done */
} alone_rows[] = {
    {"WanTransformer3DModel", stand_for_wan, NULL},
    {"HunyuanVideoTransformer3DModel", stand_for_hunyuanvideo, NULL},
    {"CogVideoXTransformer3DModel", stand_for_cogvideox, scale_cogvideox},
};

enum { ALONE = sizeof alone_rows / sizeof *alone_rows };

/* The row of the transformer; ALONE: it needs a directory. */
static int find_alone(ts_model *m)
{
    int i = 0;
    while (i < ALONE && strcmp(alone_rows[i].cls, ts_model_part(m, "transformer")->cls) != 0) i++;
    return i;
}

/* A part that was not given may be in the file of the transformer. */
static bool has_part(ts_model *m, const ts_model_slot *s, const char *path)
{
    ts_checkpoint c;
    if (ts_checkpoint_open(m->ctx, path, s->stem, NULL, &c)) return false;
    bool found = ts_kind_of(c.source, c.sources, s->part);
    ts_checkpoint_close(&c);
    return found;
}

/* Does a model of the pipeline have the part? */
static bool is_needed(ts_model *m, const ts_model_slot *s)
{
    const ts_family *f = family_of_pipeline(m);
    if (s->part == TS_PART_VAE) return true;
    for (int i = 0; f && i < ts_family_rules(f); i++)
        if (!strcmp(f->text[i].component, s->name)) return true;
    return false;
}

/* "a VAE, a text encoder": what is neither given nor in the transformer's file. */
static ts_status refuse_incomplete(ts_model *m, const char *const path[TS_MODEL_FILES])
{
    char list[256] = "";
    for (int i = 0; i < TS_MODEL_FILES; i++)
        if (!path[i] && is_needed(m, ts_model_slots + i) &&
            !has_part(m, ts_model_slots + i, path[TS_SLOT_TRANSFORMER]))
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? ", " : "",
                     ts_part_name(ts_model_slots[i].part));
    if (!*list) return TS_OK;
    return ts_fail(&m->ctx->err, TS_EMODEL,
                   "%s: a transformer alone is no model: %s must be given, too, or a model folder",
                   path[TS_SLOT_TRANSFORMER], list);
}

ts_status ts_model_complete(ts_model *m, const char *const path[TS_MODEL_FILES])
{
    ts_status st = TS_OK;
    int row = find_alone(m);
    if (row == ALONE)
        TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: a %s needs a model folder, too",
                    path[TS_SLOT_TRANSFORMER], ts_model_part(m, "transformer")->cls));
    TRY(alone_rows[row].stand(m));
    TRY(ts_model_check_second(m, path));
    TRY(refuse_incomplete(m, path));
    for (int i = 0; i < TS_MODEL_FILES; i++) {
        const ts_model_slot *s = ts_model_slots + i;
        if (path[i] || !is_needed(m, s)) continue;
        TRY(ts_model_take_file(m, s, path[TS_SLOT_TRANSFORMER]));
        if (s->tokenizer && !ts_model_part(m, s->tokenizer))
            TRY(ts_model_find_vocabulary(m, s, path[TS_SLOT_TRANSFORMER]));
    }
    const cJSON *seen = cJSON_GetObjectItemCaseSensitive(ts_model_part(m, "transformer")->config,
                                                         "image_dim");
    if (cJSON_IsNumber(seen) && !path[TS_SLOT_IMAGE])
        TRY(ts_fail(&m->ctx->err, TS_EMODEL,
                    "%s: a transformer that sees images: an image encoder must be given, too",
                    path[TS_SLOT_TRANSFORMER]));
    if (alone_rows[row].finish) TRY(alone_rows[row].finish(m));
done:
    return st;
}
