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

const ts_model_slot ts_model_slots[TS_MODEL_FILES] = {
    {"transformer", "diffusion_pytorch_model", TS_PART_TRANSFORMER, NULL},
    {"transformer_2", "diffusion_pytorch_model", TS_PART_TRANSFORMER, NULL},
    {"vae", "diffusion_pytorch_model", TS_PART_VAE, NULL},
    {"text_encoder", "model", TS_PART_TEXT_ENCODER, "tokenizer"},
    {"tokenizer", NULL, TS_PART_NONE, NULL},
    {"image_encoder", "model", TS_PART_IMAGE_ENCODER, NULL},
    {"text_encoder_2", "model", TS_PART_CLIP_TEXT, "tokenizer_2"},
    {"tokenizer_2", NULL, TS_PART_NONE, NULL},
};

const char *ts_model_file_name(int i) { return ts_model_slots[i].name; }

ts_status ts_model_file_memory(ts_model *m)
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
    static const ts_dit_class *const dits[] = {&ts_dit_wan, &ts_dit_pixart, &ts_dit_hunyuanvideo,
                                               &ts_dit_cogvideox, &ts_dit_opensora};
    static const ts_vae_class *const vaes[] = {&ts_vae_wan, &ts_vae_kl, &ts_vae_hunyuanvideo,
                                               &ts_vae_cogvideox, &ts_vae_causal};
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

static ts_status refuse_kind(ts_model *m, const ts_model_slot *s, const char *what,
                             const ts_checkpoint *c)
{
    ts_err *err = &m->ctx->err;
    const ts_kind *other = ts_kind_of(c->source, c->sources, TS_PART_NONE);
    if (!other)
        return ts_fail(err, TS_EMODEL, "%s: nothing in it is known, %s was wanted", what,
                       ts_part_name(s->part));
    if (other->part == s->part)
        return ts_fail(err, TS_EMODEL, "%s is %s, which is not read from a file by itself", what,
                       other->what);
    return ts_fail(err, TS_EMODEL, "%s is %s, %s was wanted%s", what, other->what,
                   ts_part_name(s->part),
                   other->part == TS_PART_LORA        ? " (a LoRA is given beside a model)"
                   : other->part == TS_PART_CLIP_TEXT ? " (CLIP's is a model's second)"
                                                      : "");
}

/* A GGUF says what it is for; those of city96 and llama.cpp, and some that are other words. */
static ts_status refuse_architecture(ts_model *m, const ts_checkpoint *c)
{
    static const char *const known[] = {"wan", "hyvid", "pixart", "cogvideox", "t5encoder",
                                        "t5",  "llama", "pig",    "cow"};
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
static ts_status open_as_part(ts_model *m, const ts_model_slot *s, const char *path,
                              ts_checkpoint *c, reader *r)
{
    ts_status st;
    TRY(ts_checkpoint_open(m->ctx, path, s->stem, NULL, c));
    const ts_kind *k = ts_kind_of(c->source, c->sources, s->part);
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
    if (cJSON_IsNumber(b)) /* of a file's keys, b may be a float */
        return cJSON_IsNumber(a) &&
               fabs(a->valuedouble - b->valuedouble) <= 1e-6 * fabs(a->valuedouble);
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
    static const char *const channels[] = {"z_dim", "latent_channels", "z_channels"},
                             *const keys[] = {"latents_mean", "latents_std", "scaling_factor",
                                              "invert_scale_latents"};
    bool same = false;
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
        const cJSON *z = cJSON_GetObjectItemCaseSensitive(had, channels[i]);
        same = same || (z && is_same_value(z, cJSON_GetObjectItemCaseSensitive(told, channels[i])));
    }
    for (size_t i = 0; same && i < sizeof keys / sizeof *keys; i++) {
        const cJSON *own = cJSON_GetObjectItemCaseSensitive(had, keys[i]);
        if (!own || cJSON_IsNull(own)) continue;
        cJSON_DeleteItemFromObjectCaseSensitive(told, keys[i]);
        cJSON_AddItemToObject(told, keys[i], cJSON_Duplicate(own, true));
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

static ts_status need_told(ts_model *m, const ts_model_slot *s, const ts_checkpoint *c,
                           const cJSON *told)
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
static ts_status choose_config(ts_model *m, const ts_model_slot *s, const char *path,
                               const ts_checkpoint *c, const reader *r, const cJSON *had,
                               cJSON **out)
{
    ts_status st = TS_OK;
    const char *key = "";
    cJSON *told = NULL;
    *out = load_own_config(path, r->cls);
    if (*out) return TS_OK;
    if (!(told = cJSON_CreateObject())) TRY(ts_model_file_memory(m));
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
    if (!*out) TRY(ts_model_file_memory(m));
done:
    cJSON_Delete(told);
    return st;
}

/* ---- components ---- */

ts_component *ts_model_part(ts_model *m, const char *name)
{
    for (int i = 0; i < m->dir.parts; i++)
        if (!strcmp(m->dir.part[i].name, name)) return m->dir.part + i;
    return NULL;
}

ts_status ts_model_put_part(ts_model *m, const char *name, const char *cls, const char *path,
                            cJSON *config)
{
    ts_component *c = ts_model_part(m, name);
    char *dir = strdup(path), *config_path = strdup(path);
    if (!dir || !config_path ||
        (!c && m->dir.parts == (int)(sizeof m->dir.part / sizeof *m->dir.part))) {
        free(dir);
        free(config_path);
        cJSON_Delete(config);
        return ts_model_file_memory(m);
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

/* The class that a directory has for what its files alone do not tell apart. */
static void take_own_class(const ts_component *had, reader *r)
{
    const ts_encoder_class *own = had ? ts_encoder_class_of(had->cls) : NULL;
    if (own && own->like && r->cls && !strcmp(own->like, r->cls)) r->cls = own->cls;
}

static bool is_of_class(const ts_component *c, const reader *r)
{
    return (r->cls && !strcmp(c->cls, r->cls)) || (r->older && !strcmp(c->cls, r->older));
}

ts_status ts_model_take_file(ts_model *m, const ts_model_slot *s, const char *path)
{
    ts_status st;
    ts_checkpoint c = {0};
    reader r;
    cJSON *config;
    TRY(open_as_part(m, s, path, &c, &r));
    const ts_component *had = ts_model_part(m, s->name);
    take_own_class(had, &r);
    if (had && !s->tokenizer && !is_of_class(had, &r))
        TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s is of class %s, the %s of %s is of %s", path,
                    r.cls, s->name, m->dir.dir, had->cls));
    /* a second expert that the directory does not have is as the first */
    if (!had && s->part == TS_PART_TRANSFORMER) had = ts_model_part(m, "transformer");
    TRY(choose_config(m, s, path, &c, &r, had && is_of_class(had, &r) ? had->config : NULL,
                      &config));
    TRY(ts_model_put_part(m, s->name, r.cls, path, config));
done:
    ts_checkpoint_close(&c);
    return st;
}

/* ---- the tokenizer of a text encoder by file ---- */

/* Where the vocabulary of a class's encoder is looked for beside it: in which folders, under which
 * names. */
static const struct {
    const char *cls, *below[4], *files[3];
} vocabularies[] = {
    {"LlamaModel", {"tokenizer", ""}, {"tokenizer.json"}},
    /* what lies beside may be of another encoder, but for the names that CLIP alone has */
    {"CLIPTextModel",
     {"tokenizer_2", "openai/clip-vit-large-patch14", "clip-vit-large-patch14"},
     {"tokenizer.json", "vocab.json"}},
    {"CLIPTextModel", {""}, {"vocab.json"}},
    {"", {"tokenizer", "google/umt5-xxl", ""}, {"tokenizer.json", "spiece.model"}},
};
enum { VOCABULARIES = sizeof vocabularies / sizeof *vocabularies };

static bool is_vocabulary_of(int row, const char *cls)
{
    bool other = true;
    for (int i = 0; i < VOCABULARIES; i++) other = other && strcmp(vocabularies[i].cls, cls) != 0;
    return !strcmp(vocabularies[row].cls, other ? "" : cls);
}

/* FOLDER, or a folder below it, where it holds a vocabulary of the row: found[] is its path. */
static bool try_vocabulary(const char *folder, int row, char found[4200])
{
    for (const char *const *below = vocabularies[row].below; *below; below++)
        for (const char *const *file = vocabularies[row].files; *file; file++) {
            snprintf(found, 4200, "%s/%s%s%s", folder, *below, **below ? "/" : "", *file);
            if (access(found, R_OK) == 0) return true;
        }
    return false;
}

/* "tokenizer/, spiece.model" */
static void list_vocabulary_places(const char *cls, char text[256])
{
    *text = 0;
    for (int row = 0; row < VOCABULARIES; row++)
        for (int i = 0; is_vocabulary_of(row, cls) && vocabularies[row].below[i]; i++) {
            const char *folder = vocabularies[row].below[i];
            for (int k = 0; k < (*folder ? 1 : 3) && vocabularies[row].files[k]; k++)
                snprintf(text + strlen(text), 256 - strlen(text), "%s%s%s", *text ? ", " : "",
                         folder, *folder ? "/" : vocabularies[row].files[k]);
        }
}

ts_status ts_model_find_vocabulary(ts_model *m, const ts_model_slot *s, const char *encoder)
{
    static const char *const above[] = {".", ".."};
    char folder[4096], found[4200], places[256];
    struct stat info;
    const char *slash = strrchr(encoder, '/'), *cls = ts_model_part(m, s->name)->cls;
    bool inside = stat(encoder, &info) == 0 && S_ISDIR(info.st_mode);
    if (ts_tokenizer_is_in(encoder)) return ts_model_put_part(m, s->tokenizer, "", encoder, NULL);
    for (size_t i = 0; i < sizeof above / sizeof *above; i++) {
        snprintf(folder, sizeof folder, "%.*s/%s",
                 inside  ? (int)strlen(encoder)
                 : slash ? (int)(slash - encoder)
                         : 1,
                 inside || slash ? encoder : ".", above[i]);
        for (int row = 0; row < VOCABULARIES; row++)
            if (is_vocabulary_of(row, cls) && try_vocabulary(folder, row, found))
                return ts_model_put_part(m, s->tokenizer, "", found, NULL);
    }
    if (ts_model_part(m, s->tokenizer)) return TS_OK;
    list_vocabulary_places(cls, places);
    return ts_fail(&m->ctx->err, TS_EMODEL,
                   "%s: no tokenizer is in it, beside it or above it (%s): it must be given, too",
                   encoder, places);
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
    if (first && !second && !ts_model_part(m, "transformer_2") &&
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
    return ts_model_file_memory(m);
}

ts_status ts_model_take_files(ts_model *m, const ts_model_files *f)
{
    ts_status st = TS_OK;
    const char *const path[TS_MODEL_FILES] = {f->transformer,    f->transformer_2, f->vae,
                                              f->text_encoder,   f->tokenizer,     f->image_encoder,
                                              f->text_encoder_2, f->tokenizer_2};
    bool alone = !m->dir.index;
    if (!alone) TRY(ts_model_check_second(m, path));
    for (int i = 0; i < TS_MODEL_FILES; i++) {
        if (!path[i]) continue;
        m->file[i] = realpath(path[i], NULL);
        if (!m->file[i])
            TRY(ts_fail(&m->ctx->err, TS_EMODEL, "%s: there is no such %s file or folder", path[i],
                        ts_model_slots[i].name));
        if (ts_model_slots[i].part)
            TRY(ts_model_take_file(m, ts_model_slots + i, path[i]));
        else
            TRY(ts_model_put_part(m, ts_model_slots[i].name, "", path[i], NULL));
    }
    if (f->text_encoder && !f->tokenizer)
        TRY(ts_model_find_vocabulary(m, ts_model_slots + TS_SLOT_TEXT, f->text_encoder));
    if (f->text_encoder_2 && !f->tokenizer_2)
        TRY(ts_model_find_vocabulary(m, ts_model_slots + TS_SLOT_TEXT_2, f->text_encoder_2));
    warn_of_experts(m, f->transformer, f->transformer_2);
    if (alone) TRY(ts_model_complete(m, path));
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
