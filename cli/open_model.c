/* Which model: flags before what an earlier run had. */
#include "cli/open_model.h"

#include "cli/metadata.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A component by file: its flag, its key in metadata, and where ComfyUI's folder has such. */
static const struct {
    ts_flag_id id;
    const char *key, *below[4];
} parts[] = {
    {TS_F_TRANSFORMER, "transformer", {"diffusion_models", "unet", NULL}},
    {TS_F_TRANSFORMER_2, "transformer_2", {"diffusion_models", "unet", NULL}},
    {TS_F_VAE, "vae", {"vae", NULL}},
    {TS_F_TEXT_ENCODER, "text_encoder", {"text_encoders", "clip", NULL}},
    {TS_F_TOKENIZER, "tokenizer", {"text_encoders", "clip", NULL}},
};
enum { PARTS = sizeof parts / sizeof *parts };

/* ---- names that stand for paths ---- */

static char *try_name(const char *root, const char *below, const char *name)
{
    static const char *const ends[] = {"", ".safetensors", ".gguf"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char *path;
        if (asprintf(&path, "%s/%s/%s%s", root, below, name, ends[i]) < 0) return NULL;
        if (access(path, F_OK) == 0) return path;
        free(path);
    }
    return NULL;
}

ts_status ts_cli_find_weights(ts_cli *c, const char *flag, const char *name,
                              const char *const *below, char **path)
{
    const char *root = ts_flag_text(&c->flags, TS_F_MODELS);
    char looked[512] = "";
    *path = NULL;
    if (access(name, F_OK) == 0) {
        *path = strdup(name);
        return *path ? TS_OK : ts_fail(&c->err, TS_EMEMORY, "no memory for a name");
    }
    for (; root && *below; below++) {
        *path = try_name(root, *below, name);
        if (*path) return TS_OK;
        snprintf(looked + strlen(looked), sizeof looked - strlen(looked), "%s%s/%s",
                 *looked ? ", " : ", nor in ", root, *below);
    }
    return ts_fail(&c->err, TS_EMODEL, "--%s: got %.300s, which is not there%s%s", flag, name,
                   looked, root ? "" : " (--models DIR says where names are looked for)");
}

/* ---- what an earlier run had ---- */

static ts_status find_recorded(ts_cli *c, int i, const char *json, const char *from, char **path)
{
    char *was = ts_metadata_field(json, parts[i].key);
    ts_status st = TS_OK;
    if (was) *path = ts_metadata_find(from, was);
    if (was && !*path)
        st = ts_fail(&c->err, TS_EMODEL,
                     "%s, the %s that %s was made with, is not there: --%s "
                     "gives it",
                     was, parts[i].key, from, ts_flag_name(parts[i].id));
    free(was);
    return st;
}

/* Files of an earlier run go with its model; another model has its own. */
static ts_status find_part_files(ts_cli *c, const char *json, const char *from, char *path[PARTS])
{
    ts_status st = TS_OK;
    for (int i = 0; i < PARTS && !st; i++) {
        const char *given = ts_flag_text(&c->flags, parts[i].id);
        if (given)
            st = ts_cli_find_weights(c, ts_flag_name(parts[i].id), given, parts[i].below, path + i);
        else if (json && !ts_flag_set(&c->flags, TS_F_MODEL))
            st = find_recorded(c, i, json, from, path + i);
    }
    return st;
}

static bool is_recorded_alone(const char *json, const char *model)
{
    char *transformer = ts_metadata_field(json, "transformer");
    bool same = transformer && model && !strcmp(transformer, model);
    free(transformer);
    return same;
}

ts_status ts_cli_open_model(ts_cli *c, const char *json, const char *from)
{
    ts_status st;
    char *path[PARTS] = {NULL}, *recorded = ts_metadata_field(json, "model"), *found = NULL;
    const char *given = ts_flag_text(&c->flags, TS_F_MODEL), *name = given;
    TRY(find_part_files(c, json, from, path));
    if (!given && recorded && !is_recorded_alone(json, recorded)) {
        if (strcmp(recorded, "default") != 0 && !strchr(recorded, '/'))
            found = ts_metadata_find(from, recorded);
        name = found ? found : recorded;
    }
    ts_model_files files = {.size = sizeof files,
                            .transformer = path[0],
                            .transformer_2 = path[1],
                            .vae = path[2],
                            .text_encoder = path[3],
                            .tokenizer = path[4]};
    st = ts_model_open_files(c->ctx, name, &files, &c->model);
    if (st && name && !given)
        ts_fail(&c->err, st, "%s (the model that %s names; --model gives another)",
                ts_error(c->ctx), from);
done:
    for (int i = 0; i < PARTS; i++) free(path[i]);
    free(recorded);
    free(found);
    return st;
}

char *ts_cli_model_text(const ts_flags *f, const char *model)
{
    char *text = strdup(model);
    for (int i = 0; text && i < PARTS; i++) {
        const char *given = ts_flag_text(f, parts[i].id);
        char *more = NULL, *path = given ? realpath(given, NULL) : NULL;
        if (given && asprintf(&more, "%s\n%s=%s", text, parts[i].key, path ? path : given) < 0)
            more = NULL;
        free(path);
        if (!given) continue;
        free(text);
        text = more;
    }
    return text;
}
