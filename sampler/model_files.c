/* Components by file: what each file is, which config goes with it, and what stands for the rest of
 * a model where no directory does. */
#include "sampler/model_files.h"

#include "weights/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* A component as the table of ts_model_files has it. */
typedef struct {
    const char *name, *stem;
    ts_part part;
} slot;
static const slot slots[TS_MODEL_FILES] = {
    {"transformer", "diffusion_pytorch_model", TS_PART_TRANSFORMER},
    {"transformer_2", "diffusion_pytorch_model", TS_PART_TRANSFORMER},
    {"vae", "diffusion_pytorch_model", TS_PART_VAE},
    {"text_encoder", "model", TS_PART_TEXT_ENCODER},
    {"tokenizer", NULL, TS_PART_NONE},
    {"image_encoder", "model", TS_PART_IMAGE_ENCODER},
};

const char *ts_model_file_name(int i) { return slots[i].name; }

static ts_status refuse_file_memory(ts_model *m)
{
    return ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a model's files");
}

/* ---- what a class says of files ---- */

typedef struct {
    const ts_names *names;
    ts_status (*infer)(ts_ctx *, const ts_checkpoint *, cJSON *config);
    const char *cls, *older; /* older: what the class was called once; NULL: the same */
} reader;

static reader find_reader(const ts_kind *k)
{
    static const ts_dit_class *const dits[] = {&ts_dit_wan, &ts_dit_pixart, &ts_dit_hunyuanvideo};
    static const ts_vae_class *const vaes[] = {&ts_vae_wan, &ts_vae_kl};
    for (size_t i = 0; k->cls && i < sizeof dits / sizeof *dits; i++)
        if (!strcmp(dits[i]->cls, k->cls))
            return (reader){dits[i]->names, dits[i]->infer, dits[i]->cls, dits[i]->older};
    for (size_t i = 0; k->cls && i < sizeof vaes / sizeof *vaes; i++)
        if (!strcmp(vaes[i]->cls, k->cls))
            return (reader){vaes[i]->names, vaes[i]->infer, vaes[i]->cls, NULL};
    if (k->cls && !strcmp(k->cls, "CLIPVisionModel"))
        return (reader){&ts_clip_vision_names, ts_clip_vision_infer, k->cls, NULL};
    const ts_encoder_class *e = k->cls ? ts_encoder_class_of(k->cls) : NULL;
    return e ? (reader){e->names, e->infer, e->cls, NULL} : (reader){0};
}

/* ---- which file is it ---- */

static ts_status refuse_kind(ts_model *m, const slot *s, const char *what, const ts_checkpoint *c)
{
    ts_err *err = &m->ctx->err;
    const ts_kind *other = NULL;
    for (int i = 0; i < c->sources && !other; i++) other = ts_kind_of(c->source + i, TS_PART_NONE);
    if (!other)
        return ts_fail(err, TS_EMODEL, "%s: nothing in it is known, %s was wanted", what,
                       ts_part_name(s->part));
    if (other->part == s->part)
        return ts_fail(err, TS_EMODEL, "%s is %s, which is not read from a file by itself", what,
                       other->what);
    return ts_fail(err, TS_EMODEL, "%s is %s, %s was wanted%s", what, other->what,
                   ts_part_name(s->part),
                   other->part == TS_PART_LORA ? " (a LoRA is given beside a model)" : "");
}

/* A GGUF says what it is for; those of city96 and llama.cpp, and some that are other words. */
static ts_status refuse_architecture(ts_model *m, const ts_checkpoint *c)
{
    static const char *const known[] = {"wan",       "hyvid", "pixart", "cogvideox",
                                        "t5encoder", "t5",    "pig",    "cow"};
    const char *s;
    size_t n;
    for (int i = 0; i < c->sources; i++) {
        const ts_gguf *g = ts_gguf_of(c->source + i);
        bool good = !g || !ts_gguf_text(g, "general.architecture", &s, &n);
        for (size_t k = 0; k < sizeof known / sizeof *known && !good; k++)
            good = n == strlen(known[k]) && !memcmp(s, known[k], n);
        if (!good)
            return ts_fail(&m->ctx->err, TS_EMODEL,
                           "%s is of architecture %.*s: a language model, or one that is not read",
                           c->source[i].path, n < 40 ? (int)n : 40, s);
    }
    return TS_OK;
}

/* Opens the file as it is, to know what it is, and renames its tensors as its class does. */
static ts_status open_as_part(ts_model *m, const slot *s, const char *path, ts_checkpoint *c,
                              reader *r)
{
    ts_status st;
    const ts_kind *k = NULL;
    TRY(ts_checkpoint_open(m->ctx, path, s->stem, NULL, c));
    for (int i = 0; i < c->sources && !k; i++) k = ts_kind_of(c->source + i, s->part);
    *r = k ? find_reader(k) : (reader){0};
    TRY(refuse_architecture(m, c));
    if (!r->infer) TRY(refuse_kind(m, s, path, c));
    if (r->names) TRY(ts_checkpoint_rename(m->ctx, c, r->names));
done:
    if (st) ts_checkpoint_close(c);
    return st;
}

/* ---- configs ---- */

/* DIR/config.json of the folder where it says that it is the class's own; else NULL. */
static cJSON *load_own_config(const char *path, const char *cls)
{
    char file[4096];
    ts_err ignored = {0};
    cJSON *j = NULL;
    snprintf(file, sizeof file, "%s/config.json", path);
    if (access(file, R_OK) || ts_json_load(&ignored, file, &j)) return NULL;
    const char *own = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "_class_name")),
               *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "model_type"));
    /* transformers says no class, but which kind of model */
    if ((own && !strcmp(own, cls)) || (!own && type && !strncasecmp(type, cls, strlen(type))))
        return j;
    cJSON_Delete(j);
    return NULL;
}

static bool is_same_value(const cJSON *a, const cJSON *b)
{
    if (cJSON_IsNull(b)) return !a || cJSON_IsNull(a);
    if (cJSON_IsNumber(b)) return cJSON_IsNumber(a) && a->valuedouble == b->valuedouble;
    return cJSON_Compare(a, b, true);
}

/* The width that a config tells, in one number or two. */
static double told_width(const cJSON *config)
{
    const cJSON *heads = cJSON_GetObjectItemCaseSensitive(config, "num_attention_heads"),
                *head = cJSON_GetObjectItemCaseSensitive(config, "attention_head_dim"),
                *whole = cJSON_GetObjectItemCaseSensitive(config, "hidden_size");
    return whole ? whole->valuedouble : heads && head ? heads->valuedouble * head->valuedouble : 0;
}

/* Does a directory's config say what the shapes tell? What is left to it (heads, statistics) is not
 * compared. first: the key that it says otherwise. */
static bool agrees(const cJSON *had, const cJSON *told, const char **first)
{
    static const char *const left[] = {"num_attention_heads", "attention_head_dim", "latents_mean",
                                       "latents_std", "feed_forward_proj"};
    const cJSON *b;
    cJSON_ArrayForEach(b, told)
    {
        bool free = false;
        const cJSON *a = cJSON_GetObjectItemCaseSensitive(had, b->string);
        for (size_t i = 0; i < sizeof left / sizeof *left; i++)
            free = free || !strcmp(b->string, left[i]);
        if (free || !strcmp(b->string, TS_UNTOLD)) continue;
        *first = b->string;
        if (!strcmp(b->string, "_dim")) {
            if (told_width(had) == b->valuedouble) continue;
            return false;
        }
        /* what a config leaves out is its class's default, which bind will find right or wrong */
        if (a && !is_same_value(a, b)) return false;
    }
    return true;
}

/* Latent statistics of a directory's VAE of as many channels are those of the model. */
static void keep_statistics(const cJSON *had, cJSON *told)
{
    static const char *const keys[] = {"latents_mean", "latents_std"};
    const cJSON *z = cJSON_GetObjectItemCaseSensitive(had, "z_dim");
    if (!z || !is_same_value(z, cJSON_GetObjectItemCaseSensitive(told, "z_dim"))) return;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(had, keys[i]);
        if (!cJSON_IsArray(list)) continue;
        cJSON_DeleteItemFromObjectCaseSensitive(told, keys[i]);
        cJSON_AddItemToObject(told, keys[i], cJSON_Duplicate(list, true));
    }
}

/* Where the width does not tell how many heads there are, the file's metadata may, in the form that
 * ComfyUI reads: {"transformer": {"num_heads": 12}}. */
static void add_heads(const ts_checkpoint *c, cJSON *told)
{
    const cJSON *dim = cJSON_GetObjectItemCaseSensitive(told, "_dim");
    for (int i = 0; dim && i < c->sources; i++) {
        const char *text = ts_source_meta(c->source + i, "config");
        cJSON *j = text ? cJSON_Parse(text) : NULL;
        const cJSON *heads = cJSON_GetObjectItemCaseSensitive(
            cJSON_GetObjectItemCaseSensitive(j, "transformer"), "num_heads");
        double n = heads ? heads->valuedouble : 0;
        if (n >= 1 && fmod(dim->valuedouble, n) == 0) {
            cJSON_DeleteItemFromObjectCaseSensitive(told, "num_attention_heads");
            cJSON_DeleteItemFromObjectCaseSensitive(told, "attention_head_dim");
            cJSON_AddItemToObject(told, "num_attention_heads", cJSON_CreateNumber(n));
            cJSON_AddItemToObject(told, "attention_head_dim",
                                  cJSON_CreateNumber(dim->valuedouble / n));
        }
        cJSON_Delete(j);
    }
}

static ts_status need_told(ts_model *m, const slot *s, const ts_checkpoint *c, const cJSON *told)
{
    const cJSON *dim = cJSON_GetObjectItemCaseSensitive(told, "_dim"),
                *z = cJSON_GetObjectItemCaseSensitive(told, "z_dim"),
                *untold = cJSON_GetObjectItemCaseSensitive(told, TS_UNTOLD);
    if (untold)
        return ts_fail(&m->ctx->err, TS_EMODEL,
                       "%s: its shapes do not tell %s: a model folder with the same %s beside it "
                       "would",
                       c->what, untold->valuestring, s->name);
    if (dim && !cJSON_GetObjectItemCaseSensitive(told, "num_attention_heads"))
        return ts_fail(&m->ctx->err, TS_EMODEL,
                       "%s: its width, %.0f, does not tell how many heads it has: a model folder "
                       "with the same %s beside it would",
                       c->what, dim->valuedouble, s->name);
    if (z && !cJSON_GetObjectItemCaseSensitive(told, "latents_mean"))
        return ts_fail(&m->ctx->err, TS_EMODEL,
                       "%s: a VAE of %.0f channels, whose latents' mean and deviation are not "
                       "known: a model folder would tell them",
                       c->what, z->valuedouble);
    return TS_OK;
}

/* Which config goes with the file; had: the directory's, or NULL. *out is the caller's. */
static ts_status choose_config(ts_model *m, const slot *s, const char *path, const ts_checkpoint *c,
                               const reader *r, const cJSON *had, cJSON **out)
{
    ts_status st = TS_OK;
    const char *key = "";
    cJSON *told = NULL;
    *out = load_own_config(path, r->cls);
    if (*out) return TS_OK;
    if (!(told = cJSON_CreateObject())) TRY(refuse_file_memory(m));
    TRY(r->infer(m->ctx, c, told));
    if (had && agrees(had, told, &key)) {
        *out = cJSON_Duplicate(had, true);
    } else {
        if (had) keep_statistics(had, told);
        add_heads(c, told);
        TRY(need_told(m, s, c, told));
        if (had)
            ts_warn(m->ctx, "%s: not the %s of %s (%s differs): its shapes tell its config",
                    c->what, s->name, m->dir.dir, *key == '_' ? "its width" : key);
        *out = told;
        told = NULL;
    }
    if (!*out) TRY(refuse_file_memory(m));
done:
    cJSON_Delete(told);
    return st;
}

/* ---- components ---- */

static ts_component *find_part(ts_model *m, const char *name)
{
    for (int i = 0; i < m->dir.parts; i++)
        if (!strcmp(m->dir.part[i].name, name)) return m->dir.part + i;
    return NULL;
}

/* In the place of the component of that name; config, which may be NULL, is taken. */
static ts_status put_part(ts_model *m, const char *name, const char *cls, const char *path,
                          cJSON *config)
{
    ts_component *c = find_part(m, name);
    char *dir = strdup(path), *config_path = strdup(path);
    if (!dir || !config_path ||
        (!c && m->dir.parts == (int)(sizeof m->dir.part / sizeof *m->dir.part))) {
        free(dir);
        free(config_path);
        cJSON_Delete(config);
        return refuse_file_memory(m);
    }
    if (!c) c = m->dir.part + m->dir.parts++;
    free(c->dir);
    free(c->config_path);
    cJSON_Delete(c->config);
    *c = (ts_component){.dir = dir, .config = config, .config_path = config_path};
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->cls, sizeof c->cls, "%s", cls);
    return TS_OK;
}

static bool is_of_class(const ts_component *c, const reader *r)
{
    return (r->cls && !strcmp(c->cls, r->cls)) || (r->older && !strcmp(c->cls, r->older));
}

static ts_status take_file(ts_model *m, const slot *s, const char *path)
{
    ts_status st;
    ts_checkpoint c = {0};
    reader r;
    cJSON *config;
    TRY(open_as_part(m, s, path, &c, &r));
    const ts_component *had = find_part(m, s->name);
    /* a second expert that the directory does not have is as the first */
    if (!had && s->part == TS_PART_TRANSFORMER) had = find_part(m, "transformer");
    TRY(choose_config(m, s, path, &c, &r, had && is_of_class(had, &r) ? had->config : NULL,
                      &config));
    TRY(put_part(m, s->name, r.cls, path, config));
done:
    ts_checkpoint_close(&c);
    return st;
}

/* ---- the tokenizer of a text encoder by file ---- */

static bool is_readable(const char *path) { return access(path, R_OK) == 0; }

/* FOLDER/NAME, where it holds a vocabulary: found[] is its path. */
static bool try_vocabulary(const char *folder, const char *name, char found[4200])
{
    static const char *const files[] = {"tokenizer.json", "spiece.model"};
    char path[4200];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s%s%s", folder, name, *name ? "/" : "", files[i]);
        if (!is_readable(path)) continue;
        memcpy(found, path, sizeof path);
        return true;
    }
    return false;
}

/* Beside the encoder, in the folder above; else in the directory of the model. */
static ts_status find_vocabulary(ts_model *m, const char *encoder)
{
    static const char *const below[] = {"tokenizer", "google/umt5-xxl", ""}, *const above[] = {
                                                                                 ".", ".."};
    char folder[4096], found[4200];
    struct stat s;
    const char *slash = strrchr(encoder, '/');
    bool inside = stat(encoder, &s) == 0 && S_ISDIR(s.st_mode);
    if (ts_tokenizer_is_in(encoder)) return put_part(m, "tokenizer", "", encoder, NULL);
    for (size_t i = 0; i < sizeof above / sizeof *above; i++) {
        snprintf(folder, sizeof folder, "%.*s/%s",
                 inside  ? (int)strlen(encoder)
                 : slash ? (int)(slash - encoder)
                         : 1,
                 inside || slash ? encoder : ".", above[i]);
        for (size_t k = 0; k < sizeof below / sizeof *below; k++)
            if (try_vocabulary(folder, below[k], found))
                return put_part(m, "tokenizer", "", found, NULL);
    }
    if (find_part(m, "tokenizer")) return TS_OK;
    return ts_fail(&m->ctx->err, TS_EMODEL,
                   "%s: no tokenizer is in it, beside it or above it (tokenizer/, "
                   "google/umt5-xxl/, tokenizer.json, spiece.model): it must be given, too",
                   encoder);
}

/* ---- a model of files alone ---- */

static double number_of(const ts_component *c, const char *key)
{
    const cJSON *v = c ? cJSON_GetObjectItemCaseSensitive(c->config, key) : NULL;
    return v ? v->valuedouble : 0;
}

/* By the sizes of the published models (their cards and original configs): 1.3B 3, 14B and 5B 5,
 * two experts from text 12. */
static double usual_shift(bool experts, double layers, double in)
{
    if (experts && in == 16) return 12;
    return layers == 40 || in == 48 ? 5 : 3;
}

/* What model_index.json and scheduler_config.json of the published directory say. */
static ts_status stand_for_model(ts_model *m)
{
    enum { PICTURE_IN = 36, RESIDUAL_IN = 48 };
    ts_component *one = find_part(m, "transformer");
    bool experts = find_part(m, "transformer_2");
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
    m->dir.dir = strdup(one->dir);
    m->dir.index = cJSON_Parse(index);
    snprintf(m->dir.pipeline, sizeof m->dir.pipeline, "%s",
             in == PICTURE_IN ? "WanImageToVideoPipeline" : "WanPipeline");
    if (!m->dir.dir || !m->dir.index) return refuse_file_memory(m);
    return put_part(m, "scheduler", "UniPCMultistepScheduler", one->dir, cJSON_Parse(scheduler));
}

/* A part that was not given may be in the file of the transformer. */
static bool has_part(ts_model *m, const slot *s, const char *path)
{
    ts_checkpoint c;
    bool found = false;
    if (ts_checkpoint_open(m->ctx, path, s->stem, NULL, &c)) return false;
    for (int i = 0; i < c.sources; i++) found = found || ts_kind_of(c.source + i, s->part);
    ts_checkpoint_close(&c);
    return found;
}

static ts_status complete_model(ts_model *m, const char *const path[TS_MODEL_FILES])
{
    ts_status st = TS_OK;
    enum { VAE = 2, TEXT = 3, TOKENIZER = 4, IMAGE = 5 };
    for (int i = VAE; i <= TEXT; i++) {
        if (path[i]) continue;
        if (!has_part(m, slots + i, path[0]))
            TRY(ts_fail(&m->ctx->err, TS_EMODEL,
                        "%s: a transformer alone is no model: %s must be given, too, or a model "
                        "folder that has %s",
                        path[0], ts_part_name(slots[i].part),
                        path[TEXT] || i == TEXT ? "it" : "it and a text encoder"));
        TRY(take_file(m, slots + i, path[0]));
        if (i == TEXT && !path[TOKENIZER]) TRY(find_vocabulary(m, path[0]));
    }
    const cJSON *seen = cJSON_GetObjectItemCaseSensitive(find_part(m, "transformer")->config,
                                                         "image_dim");
    if (cJSON_IsNumber(seen) && !path[IMAGE])
        TRY(ts_fail(&m->ctx->err, TS_EMODEL,
                    "%s: a transformer that sees images: an image encoder must be given, too",
                    path[0]));
    TRY(stand_for_model(m));
done:
    return st;
}

/* ---- experts ---- */

static bool names_noise(const char *path, const char *which)
{
    char mark[3][24];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    snprintf(mark[0], sizeof mark[0], "%s_noise", which);
    snprintf(mark[1], sizeof mark[1], "%snoise", which);
    snprintf(mark[2], sizeof mark[2], "%s-noise", which);
    for (int i = 0; i < 3; i++)
        if (strcasestr(name, mark[i])) return true;
    return false;
}

static void warn_of_experts(ts_model *m, const char *first, const char *second)
{
    if (first && !second && !find_part(m, "transformer_2") &&
        (names_noise(first, "high") || names_noise(first, "low")))
        ts_warn(m->ctx, "%s is by its name one expert of two: it works alone", first);
    if ((first && names_noise(first, "low")) || (second && names_noise(second, "high")))
        if (second)
            ts_warn(m->ctx,
                    "%s begins and %s ends: by their names it should be the other way round",
                    first ? first : "the model's own expert", second);
}

/* A directory of one expert becomes one of two. */
static ts_status join_experts(ts_model *m)
{
    static const char key[] = "boundary_ratio";
    if (cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(m->dir.index, key))) return TS_OK;
    cJSON_DeleteItemFromObjectCaseSensitive(m->dir.index, key);
    cJSON *share = cJSON_CreateNumber(0.875);
    if (cJSON_AddItemToObject(m->dir.index, key, share)) return TS_OK;
    cJSON_Delete(share);
    return refuse_file_memory(m);
}

ts_status ts_model_take_files(ts_model *m, const ts_model_files *f)
{
    ts_status st = TS_OK;
    const char *const path[TS_MODEL_FILES] = {f->transformer,  f->transformer_2, f->vae,
                                              f->text_encoder, f->tokenizer,     f->image_encoder};
    bool alone = !m->dir.index;
    for (int i = 0; i < TS_MODEL_FILES; i++) {
        if (!path[i]) continue;
        m->file[i] = realpath(path[i], NULL);
        if (!m->file[i])
            TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: there is no such %s file or folder", path[i],
                        slots[i].name));
        if (slots[i].part)
            TRY(take_file(m, slots + i, path[i]));
        else
            TRY(put_part(m, "tokenizer", "", path[i], NULL));
    }
    if (f->text_encoder && !f->tokenizer) TRY(find_vocabulary(m, f->text_encoder));
    warn_of_experts(m, f->transformer, f->transformer_2);
    if (alone) TRY(complete_model(m, path));
    if (!alone && f->transformer_2) TRY(join_experts(m));
done:
    return st;
}

void ts_describe_part(ts_ctx *ctx, const char *path, const ts_kind *k, cJSON *j)
{
    ts_checkpoint c = {0};
    ts_err was = ctx->err;
    const reader r = find_reader(k);
    cJSON *told = cJSON_CreateObject(), *v;
    if (r.infer && !ts_checkpoint_open(ctx, path, "model", r.names, &c) &&
        !r.infer(ctx, &c, told)) {
        cJSON_AddStringToObject(j, "class", r.cls);
        if (c.naming) cJSON_AddStringToObject(j, "names", "of its authors");
        while ((v = told->child)) {
            cJSON_DetachItemViaPointer(told, v);
            if (cJSON_IsArray(v) || cJSON_IsNull(v) || !strcmp(v->string, TS_UNTOLD))
                cJSON_Delete(v);
            else
                cJSON_AddItemToObject(j, *v->string == '_' ? "width" : v->string, v);
        }
    }
    ts_checkpoint_close(&c);
    cJSON_Delete(told);
    ctx->err = was;
}
