/* Opens a diffusers directory: which family, which settings. Only configs are read here; weights
 * are mapped by the first run. */
#include "sampler/model.h"
#include "backend/number.h"

#include "attention/attend.h"
#include "sampler/loras.h"
#include "sampler/model_files.h"
#include "sampler/preview.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A component that must be there with its config. */
static ts_status need_part(ts_model *m, const char *name, const ts_component **out)
{
    *out = ts_model_dir_part(&m->dir, name);
    if (!*out || !(*out)->config)
        return ts_fail(&m->ctx->err, TS_EMODEL, "%s: no %s/config.json", m->dir.dir, name);
    return TS_OK;
}

/* model_index.json and the component's own config each say what it is; a config without the key is
 * believed. older: what the class was called once; NULL: the same. */
static ts_status check_class(ts_model *m, const ts_component *c, const char *wanted,
                             const char *older)
{
    ts_err *err = &m->ctx->err;
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(c->config, "_class_name");
    assert(wanted);
    if (strcmp(c->cls, wanted) && (!older || strcmp(c->cls, older)))
        return ts_fail(err, TS_EMODEL, "%s/model_index.json: %s is of class %s, a %s takes %s",
                       m->dir.dir, c->name, c->cls, m->dir.pipeline, wanted);
    if (!own || (cJSON_IsString(own) && (!strcmp(own->valuestring, wanted) ||
                                         (older && !strcmp(own->valuestring, older)))))
        return TS_OK;
    char *got = cJSON_PrintUnformatted(own);
    ts_status st = ts_fail(err, TS_EMODEL, "%s: \"_class_name\" is %.80s, a %s takes %s",
                           c->config_path, got ? got : "?", m->dir.pipeline, wanted);
    free(got);
    return st;
}

static ts_status check_encoder(ts_model *m, const ts_text_rule *rule)
{
    ts_status st;
    const ts_component *text;
    TRY(need_part(m, rule->component, &text));
    const char *encoder = rule->encoders[0];
    for (int i = 0; rule->encoders[i]; i++)
        if (!strcmp(text->cls, rule->encoders[i])) encoder = text->cls;
    TRY(check_class(m, text, encoder, NULL));
done:
    return st;
}

/* What stands in the transformer's channels, and the encoder whose states it reads. */
static ts_status read_images(ts_model *m, const ts_component *dit)
{
    ts_status st = TS_OK;
    ts_err *err = &m->ctx->err;
    const ts_component *encoder;
    const ts_dit_info *d = &m->dit_info;
    int channels = m->vae_info.channels, beside = 0;
    if (m->family->image == TS_IMAGE_BESIDE) beside = m->vae_info.time_stride + channels;
    if (m->family->image == TS_IMAGE_DRAWN) beside = channels;
    if (d->beside != beside)
        TRY(ts_fail(err, TS_EMODEL, "%s: %d channels in, %d out, but a %s with a VAE of %d has %d",
                    dit->config_path, d->in_channels, d->out_channels, m->dir.pipeline, channels,
                    channels + beside));
    if (!d->picture_dim) goto done;
    if (!beside)
        TRY(ts_fail(err, TS_EMODEL, "%s: \"image_dim\" is %d, a %s has no image encoder",
                    dit->config_path, d->picture_dim, m->dir.pipeline));
    TRY(need_part(m, "image_encoder", &encoder));
    TRY(check_class(m, encoder, "CLIPVisionModel", NULL));
    TRY(ts_clip_vision_read(m->ctx, encoder, ts_model_dir_part(&m->dir, "image_processor"),
                            &m->vision));
    if (m->vision.width != d->picture_dim)
        TRY(ts_fail(err, TS_EMODEL, "%s: the image encoder's width is %d, the transformer takes %d",
                    m->dir.dir, m->vision.width, d->picture_dim));
    long rows = ts_clip_vision_rows(&m->vision);
    if (d->picture_rows && d->picture_rows != 2 * rows)
        TRY(ts_fail(err, TS_EMODEL,
                    "%s: \"pos_embed_seq_len\" is %d, two images have %ld rows of states",
                    dit->config_path, d->picture_rows, 2 * rows));
done:
    return st;
}

static ts_status read_parts(ts_model *m)
{
    ts_status st = TS_OK;
    const ts_component *dit, *vae;
    TRY(need_part(m, "transformer", &dit));
    TRY(need_part(m, "vae", &vae));
    TRY(check_class(m, dit, m->family->dit->cls, m->family->dit->older));
    TRY(check_class(m, vae, m->family->vae->cls, NULL));
    for (int i = 0; i < ts_family_rules(m->family); i++) TRY(check_encoder(m, m->family->text + i));
    TRY(ts_dit_read(m->ctx, m->family->dit, dit->config, dit->config_path, &m->dit_info));
    m->vae_config = calloc(1, m->family->vae->config_size);
    if (!m->vae_config) TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a config"));
    TRY(m->family->vae->describe(m->ctx, vae->config, vae->config_path, &m->vae_info,
                                 m->vae_config));
    int in = m->dit_info.in_channels, out = m->dit_info.out_channels,
        channels = m->vae_info.channels;
    if (in - m->dit_info.beside != channels ||
        (out != channels && !(m->family->variance && out == 2 * channels)))
        TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: %d channels in, %d out, but the VAE has %d",
                    dit->config_path, in, out, channels));
    TRY(read_images(m, dit));
    if (m->family->experts) {
        const ts_component *second;
        ts_dit_info info = {0};
        TRY(need_part(m, "transformer_2", &second));
        TRY(check_class(m, second, m->family->dit->cls, m->family->dit->older));
        TRY(ts_dit_read(m->ctx, m->family->dit, second->config, second->config_path, &info));
        if (info.in_channels != m->dit_info.in_channels ||
            info.out_channels != m->dit_info.out_channels ||
            info.text_dim != m->dit_info.text_dim || info.picture_dim != m->dit_info.picture_dim ||
            info.picture_rows != m->dit_info.picture_rows ||
            memcmp(info.patch, m->dit_info.patch, sizeof info.patch))
            TRY(ts_fail(&m->ctx->err, TS_EMODEL,
                        "%s: channels, text width or patch differ from the first transformer's",
                        second->config_path));
    }
done:
    return st;
}

/* tessera.json beside model_index.json: settings that suit this model better than its family's. */
static ts_status read_defaults(ts_model *m)
{
    ts_status st = TS_OK;
    cJSON *j = NULL;
    char path[4096];
    m->def = m->dit_info.patch[0] > 1 && m->family->def_deep ? *m->family->def_deep
                                                             : m->family->def;
    if (!m->def.width) m->def.width = m->def.height = m->dit_info.sample_size * m->vae_info.stride;
    if (m->dit_info.clip[0])
        m->def.frames = (m->dit_info.clip[0] - 1) * m->vae_info.time_stride + 1;
    if (m->dit_info.clip[1]) {
        m->def.height = m->dit_info.clip[1] * m->vae_info.stride;
        m->def.width = m->dit_info.clip[2] * m->vae_info.stride;
    }
    /* distilled with guidance in it */
    if (m->solver == TS_LCM) {
        m->def.steps = 4;
        m->def.guidance = m->def.guidance_2 = 1;
    }
    snprintf(path, sizeof path, "%s/tessera.json", m->dir.dir);
    FILE *f = fopen(path, "rb");
    if (!f) return TS_OK;
    fclose(f);
    ts_defaults *d = &m->def;
    char *negative = NULL;
    ts_key keys[] = {{"width", TS_KEY_INT, &d->width, 0, NULL, NULL},
                     {"height", TS_KEY_INT, &d->height, 0, NULL, NULL},
                     {"frames", TS_KEY_INT, &d->frames, 0, NULL, NULL},
                     {"steps", TS_KEY_INT, &d->steps, 0, NULL, NULL},
                     {"scale", TS_KEY_INT, &d->scale, 0, NULL, NULL},
                     {"bench_frames", TS_KEY_INT, &d->bench_frames, 0, NULL, NULL},
                     {"trained_width", TS_KEY_INT, &d->trained_width, 0, NULL, NULL},
                     {"trained_height", TS_KEY_INT, &d->trained_height, 0, NULL, NULL},
                     {"trained_frames", TS_KEY_INT, &d->trained_frames, 0, NULL, NULL},
                     {"fps", TS_KEY_FLOAT, &d->fps, 0, NULL, NULL},
                     {"guidance", TS_KEY_FLOAT, &d->guidance, 0, NULL, NULL},
                     {"guidance_2", TS_KEY_FLOAT, &d->guidance_2, 0, NULL, NULL},
                     TS_IGNORED("negative")};
    TRY(ts_json_load(&m->ctx->err, path, &j));
    TRY(ts_config_read(m->ctx, j, path, keys, sizeof keys / sizeof *keys));
    negative = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "negative"));
    if (negative) {
        if (strlen(negative) >= sizeof m->negative)
            TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: negative prompt of %zu bytes, at most %zu",
                        path, strlen(negative), sizeof m->negative - 1));
        strcpy(m->negative, negative);
        d->negative = m->negative;
    }
    if (!cJSON_GetObjectItemCaseSensitive(j, "guidance_2") &&
        cJSON_GetObjectItemCaseSensitive(j, "guidance"))
        d->guidance_2 = d->guidance;
    struct {
        const char *key;
        double got, most;
    } range[] = {{"width", d->width, INT_MAX},   {"height", d->height, INT_MAX},
                 {"frames", d->frames, INT_MAX}, {"steps", d->steps, TS_MAX_STEPS},
                 {"scale", d->scale, 64},        {"fps", d->fps, 1000}};
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (!(range[i].got > 0 && range[i].got <= range[i].most))
            TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: %s is %g, must be more than 0 and at most %g",
                        path, range[i].key, range[i].got, range[i].most));
    int *may[] = {&d->bench_frames, &d->trained_width, &d->trained_height, &d->trained_frames};
    static const char *const name[] = {"bench_frames", "trained_width", "trained_height",
                                       "trained_frames"};
    for (size_t i = 0; i < sizeof may / sizeof *may; i++)
        if (*may[i] < 0)
            TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: %s is %d, must be 0 or more", path, name[i],
                        *may[i]));
done:
    cJSON_Delete(j);
    return st;
}

/* What model_index.json says beside its components. */
static ts_status read_pipeline_index(ts_model *m, bool *per_token)
{
    ts_status st = TS_OK;
    const ts_key keys[] = {{"boundary_ratio", TS_KEY_FLOAT, &m->boundary, 0, NULL, NULL},
                           {"expand_timesteps", TS_KEY_BOOL, per_token, 0, NULL, NULL}};
    char path[4096];
    cJSON *said = cJSON_CreateObject();
    const cJSON *j;
    if (!said) return ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a config");
    snprintf(path, sizeof path, "%s/model_index.json", m->dir.dir);
    cJSON_ArrayForEach(j, m->dir.index) if (!cJSON_IsArray(j) || cJSON_GetArraySize(j) != 2)
        cJSON_AddItemToObject(said, j->string, cJSON_Duplicate(j, true));
    TRY(ts_config_read(m->ctx, said, path, keys, (int)(sizeof keys / sizeof *keys)));
    if (!(m->boundary >= 0 && m->boundary <= 1))
        TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: \"boundary_ratio\" is %g, expected 0 to 1", path,
                    m->boundary));
done:
    cJSON_Delete(said);
    return st;
}

/* Is the component one that this family reads? */
static bool is_read(const ts_model *m, const ts_component *c)
{
    static const char *const all[] = {"transformer", "vae", "scheduler"};
    static const char *const of_images[] = {"image_encoder", "image_processor"};
    const ts_family *f = m->family;
    bool read = f->experts && !strcmp(c->name, "transformer_2");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) read = read || !strcmp(c->name, all[i]);
    for (int i = 0; i < 2 && f->image == TS_IMAGE_BESIDE; i++)
        read = read || !strcmp(c->name, of_images[i]);
    for (int i = 0; i < ts_family_rules(f); i++)
        read = read || !strcmp(c->name, f->text[i].component) ||
               !strcmp(c->name, f->text[i].tokenizer);
    return read;
}

static void warn_of_components(ts_model *m)
{
    for (int i = 0; i < m->dir.parts; i++) {
        const ts_component *c = m->dir.part + i;
        if (!is_read(m, c))
            ts_warn(m->ctx, "%s/model_index.json: component \"%s\" (%s) is not used: a %s has none",
                    m->dir.dir, c->name, c->cls, m->dir.pipeline);
    }
}

static ts_status choose_family(ts_model *m)
{
    bool experts = ts_model_dir_part(&m->dir, "transformer_2") != NULL, per_token = false;
    ts_status st = read_pipeline_index(m, &per_token);
    if (st) return st;
    if (experts != (m->boundary > 0))
        return ts_fail(&m->ctx->err, TS_EMODEL, "%s/model_index.json: %s", m->dir.dir,
                       experts ? "transformer_2 without boundary_ratio"
                               : "boundary_ratio without transformer_2");
    m->family = ts_family_of(m->dir.pipeline, experts, per_token);
    if (m->family) {
        warn_of_components(m);
        return TS_OK;
    }
    char known[256];
    ts_family_names(known, sizeof known);
    return ts_fail(&m->ctx->err, TS_EMODEL,
                   "%s/model_index.json: pipeline %s is not supported (%s)", m->dir.dir,
                   m->dir.pipeline, known);
}

static ts_status find_default(ts_ctx *ctx)
{
    const char *folder = ctx->default_model;
    char path[4096];
    if (folder) snprintf(path, sizeof path, "%s/model_index.json", folder);
    if (folder && access(path, R_OK) == 0) return TS_OK;
    return ts_fail(&ctx->err, TS_EMODEL,
                   "the default model is not installed (%s is no model folder): name another",
                   folder ? folder : "nothing");
}

static ts_status warn_of_memory(ts_ctx *ctx)
{
    size_t available, total;
    char may[TS_NUMBER_TEXT], have[TS_NUMBER_TEXT];
    ts_status st = ctx->dev->ops->memory(ctx->dev, &available, &total);
    if (!st && ctx->memory > total)
        ts_warn(ctx,
                ctx->dev->own_memory
                    ? "%s of the GPU's memory may be used, it has %s: what does not fit will end "
                      "the program"
                    : "%s of memory may be used, this machine and its cgroup have %s: what "
                      "does not fit will be slow, or end the program",
                ts_bytes_text((double)ctx->memory, may), ts_bytes_text((double)total, have));
    return st;
}

/* The directory that the model is, or is but for some files; none where a transformer is given
 * without a name. */
static ts_status open_directory(ts_model *m, const char *name, const ts_model_files *files)
{
    ts_status st = TS_OK;
    bool standard = !name || !strcmp(name, "default");
    if (!name && files->transformer) {
        m->name = realpath(files->transformer, NULL);
        if (!m->name) m->name = strdup(files->transformer);
        return TS_OK;
    }
    if (standard) TRY(find_default(m->ctx));
    TRY(ts_model_dir_open(m->ctx, standard ? m->ctx->default_model : name, m->ctx->hub, &m->dir));
    char *full = standard ? NULL : realpath(name, NULL);
    m->name = full ? full : strdup(standard ? "default" : name);
done:
    return st;
}

ts_status ts_model_open_files(ts_ctx *ctx, const char *name, const ts_model_files *given,
                              ts_model **out)
{
    ts_status st = TS_OK;
    ts_model_files files = {.size = sizeof files};
    if (out) *out = NULL;
    if (!ctx) return TS_EUSAGE;
    if (!out) return ts_fail(&ctx->err, TS_EUSAGE, "ts_model_open: nowhere to put the model");
    if (given && (given->size < sizeof given->size || given->size > sizeof files))
        return ts_fail(&ctx->err, TS_EUSAGE,
                       "files of a model of %zu bytes, this library (%s) knows %zu", given->size,
                       ts_version(), sizeof files);
    if (given) memcpy(&files, given, given->size);
    ts_model *m = calloc(1, sizeof *m);
    if (!m) return ts_fail(&ctx->err, TS_EMEMORY, "no memory for a model");
    m->ctx = ctx;
    ctx->children++;
    TRY(warn_of_memory(ctx));
    TRY(open_directory(m, name, &files));
    TRY(ts_model_take_files(m, &files));
    TRY(choose_family(m));
    TRY(read_parts(m));
    TRY(ts_model_scheduler(m));
    TRY(read_defaults(m));
    *out = m;
done:
    if (st) ts_model_close(m);
    return st;
}

ts_status ts_model_open(ts_ctx *ctx, const char *name, ts_model **out)
{
    return ts_model_open_files(ctx, name, NULL, out);
}

static void free_model(ts_model *m)
{
    ts_ctx *ctx = m->ctx;
    for (int i = 0; i < 2; i++) ts_dit_close(m->dit[i]);
    ts_model_free_loras(m);
    ts_weights_close(m->vae_weights);
    for (int i = 0; i < TS_TEXT_RULES; i++) ts_tokenizer_close(m->tokenizer[i]);
    ts_model_dir_close(&m->dir);
    free(m->vae_config);
    ts_preview_free(m->preview);
    for (int i = 0; i < TS_MODEL_FILES; i++) free(m->file[i]);
    free(m->name);
    free(m);
    ts_ctx_release(ctx);
}

void ts_model_close(ts_model *m)
{
    if (!m) return;
    m->closed = true;
    if (!m->children) free_model(m);
}

void ts_model_release(ts_model *m)
{
    if (--m->children == 0 && m->closed) free_model(m);
}

ts_status ts_model_tokenizer(ts_model *m, int rule, ts_tokenizer **out)
{
    ts_status st = TS_OK;
    const char *name = m->family->text[rule].tokenizer;
    if (!m->tokenizer[rule]) {
        const ts_component *c = ts_model_dir_part(&m->dir, name);
        if (!c) TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: no %s folder", m->dir.dir, name));
        TRY(ts_tokenizer_open(m->ctx, c->dir, &m->tokenizer[rule]));
    }
    *out = m->tokenizer[rule];
done:
    return st;
}

ts_status ts_model_weights(ts_model *m)
{
    ts_status st = TS_OK;
    int layers = 0;
    size_t room;
    bool mapped = m->vae_weights;
    for (int i = 0; i < (m->family->experts ? 2 : 1); i++) {
        const ts_component *c = ts_model_dir_part(&m->dir, i ? "transformer_2" : "transformer");
        if (!m->dit[i])
            TRY(ts_dit_open(m->ctx, m->family->dit, c->config, c->config_path, c->dir, layers,
                            &m->dit[i]));
        layers += ts_dit_describe(m->dit[i])->layers;
    }
    if (!m->vae_weights)
        TRY(ts_weights_open(m->ctx, ts_model_dir_part(&m->dir, "vae")->dir,
                            "diffusion_pytorch_model", m->family->vae->names, &m->vae_weights));
    if (mapped) return TS_OK; /* runs before this one hold memory that counts as theirs */
    TRY(ts_device_room(m->ctx->dev, &room));
    if (room < m->ctx->memory) m->ctx->memory = room;
done:
    return st;
}

ts_status ts_model_phrase(ts_model *m, int rule, const char *text, char **out)
{
    ts_status st = TS_OK;
    const ts_text_rule *t = m->family->text + rule;
    char *clean = NULL;
    *out = NULL;
    TRY(t->clean(&m->ctx->err, text, &clean));
    if (!t->prefix && !t->suffix) {
        *out = clean;
        clean = NULL;
    } else if (asprintf(out, "%s%s%s", t->prefix ? t->prefix : "", clean,
                        t->suffix ? t->suffix : "") < 0) {
        *out = NULL;
        TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a prompt"));
    }
done:
    free(clean);
    return st;
}

ts_status ts_model_tokenize(ts_model *m, int rule, const char *text, const char *what,
                            int32_t **ids, int *n)
{
    ts_status st = TS_OK;
    char *phrase = NULL;
    int32_t *all = NULL;
    int count = 0, max = m->family->text[rule].max;
    ts_tokenizer *t;
    bool cut = false;
    *ids = NULL;
    TRY(ts_model_tokenizer(m, rule, &t));
    TRY(ts_model_phrase(m, rule, text, &phrase));
    TRY(ts_tokenize(t, phrase, max, ids, n, &cut));
    if (cut) {
        TRY(ts_tokenize(t, phrase, 1 << 24, &all, &count, &cut));
        ts_warn(m->ctx, "the %s has %d tokens, the model reads %d: the rest is ignored", what,
                count, max);
    }
    if (m->family->text[rule].pad && *n < max) {
        int32_t *more = realloc(*ids, (size_t)max * sizeof *more);
        if (!more) TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a prompt"));
        *ids = more;
        memset(more + *n, 0, (size_t)(max - *n) * sizeof *more);
        *n = max;
    }
done:
    free(phrase);
    free(all);
    return st;
}
