/* Which model: flags before what an earlier run had. */
#include "cli/open_model.h"

#include "backend/number.h"
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
    {TS_F_IMAGE_ENCODER, "image_encoder", {"clip_vision", NULL}},
    {TS_F_TEXT_ENCODER_2, "text_encoder_2", {"text_encoders", "clip", NULL}},
    {TS_F_TOKENIZER_2, "tokenizer_2", {"text_encoders", "clip", NULL}},
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

/* Where a file of an earlier run is now: as metadata are looked for, or in --models; NULL: nowhere.
 */
static char *find_again(ts_cli *c, const char *from, const char *name, const char *const *below)
{
    const char *root = ts_flag_text(&c->flags, TS_F_MODELS);
    char *found = ts_metadata_find(from, name);
    for (; !found && root && *below; below++) found = try_name(root, *below, name);
    return found;
}

static ts_status find_recorded(ts_cli *c, int i, const char *json, const char *from, char **path)
{
    char *was = ts_metadata_field(json, parts[i].key);
    ts_status st = TS_OK;
    if (was) *path = find_again(c, from, was, parts[i].below);
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
                            .tokenizer = path[4],
                            .image_encoder = path[5],
                            .text_encoder_2 = path[6],
                            .tokenizer_2 = path[7]};
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

/* ---- LoRAs ---- */

static const struct {
    ts_flag_id id;
    const char *head;
} lora_flags[] = {{TS_F_LORA, ""}, {TS_F_LORA_HIGH, "high="}, {TS_F_LORA_LOW, "low="}};

static const char *const lora_folders[] = {"loras", NULL};

/* The colon before a strength; NULL: none is given. */
static const char *find_strength(const char *text, const char *end)
{
    const char *colon = end;
    double x;
    char number[40];
    while (colon > text && *colon != ':') colon--;
    size_t n = (size_t)(end - colon);
    if (*colon != ':' || n < 2 || n > sizeof number - 1) return NULL;
    memcpy(number, colon + 1, n - 1);
    number[n - 1] = 0;
    return ts_number_read(number, &x) ? colon : NULL;
}

static ts_status append_lora(ts_cli *c, ts_flag_id id, const char *head, const char *text, size_t n,
                             char **lines)
{
    ts_status st = TS_OK;
    const char *strength = find_strength(text, text + n);
    size_t bytes = strength ? (size_t)(strength - text) : n;
    char *name = strndup(text, bytes), *path = NULL, *full = NULL, *more = NULL;
    if (!name) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for a LoRA's name"));
    TRY(ts_cli_find_weights(c, ts_flag_name(id), name, lora_folders, &path));
    full = realpath(path, NULL);
    if (asprintf(&more, "%s%s%s%s%.*s", *lines ? *lines : "", *lines ? "\n" : "", head,
                 full ? full : path, (int)(n - bytes), text + bytes) < 0) {
        more = NULL;
        TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for a LoRA's name"));
    }
    free(*lines);
    *lines = more;
done:
    free(name);
    free(path);
    free(full);
    return st;
}

/* One value of a flag, or of a row, where several stand between commas. */
static ts_status append_loras(ts_cli *c, ts_flag_id id, const char *head, const char *text,
                              char **lines)
{
    ts_status st = TS_OK;
    if (access(text, F_OK) == 0 || !strchr(text, ','))
        return append_lora(c, id, head, text, strlen(text), lines);
    while (*text && !st) {
        size_t n;
        text += strspn(text, ", ");
        n = strcspn(text, ",");
        if (n) st = append_lora(c, id, head, text, n, lines);
        text += n;
    }
    return st;
}

static ts_status list_given(ts_cli *c, const ts_flag_value *v, char **lines)
{
    ts_status st = TS_OK;
    *lines = NULL;
    for (size_t i = 0; i < sizeof lora_flags / sizeof *lora_flags; i++)
        for (int k = 0; k < v[lora_flags[i].id].n && !st; k++)
            st = append_loras(c, lora_flags[i].id, lora_flags[i].head, v[lora_flags[i].id].all[k],
                              lines);
    if (st) {
        free(*lines);
        *lines = NULL;
    }
    return st;
}

static ts_status list_recorded(ts_cli *c, const char *from, const char *loras, char **lines)
{
    ts_status st = TS_OK;
    *lines = NULL;
    while (*loras && !st) {
        size_t n = strcspn(loras, "\n"), head = 0;
        for (size_t i = 1; i < sizeof lora_flags / sizeof *lora_flags; i++)
            if (!strncmp(loras, lora_flags[i].head, strlen(lora_flags[i].head)))
                head = strlen(lora_flags[i].head);
        const char *strength = find_strength(loras + head, loras + n);
        size_t bytes = strength ? (size_t)(strength - loras) : n;
        char *name = strndup(loras + head, bytes - head),
             *found = name ? find_again(c, from, name, lora_folders) : NULL, *more = NULL;
        if (!found)
            st = ts_fail(&c->err, TS_EMODEL,
                         "%s, a LoRA that %s was made with, is not there: --lora gives it", name,
                         from);
        else if (asprintf(&more, "%s%s%.*s%s%.*s", *lines ? *lines : "", *lines ? "\n" : "",
                          (int)head, loras, found, (int)(n - bytes), loras + bytes) < 0)
            st = ts_fail(&c->err, TS_EMEMORY, "no memory for a LoRA's name");
        else {
            free(*lines);
            *lines = more;
        }
        free(name);
        free(found);
        loras += n + (loras[n] == '\n');
    }
    if (st) {
        free(*lines);
        *lines = NULL;
    }
    return st;
}

ts_status ts_cli_set_loras(ts_cli *c, const ts_flag_value *v, const char *from, ts_request *q)
{
    ts_status st = TS_OK;
    char *lines = NULL;
    TRY(list_given(c, v, &lines));
    if (!lines && from && q->loras) TRY(list_recorded(c, from, q->loras, &lines));
    q->loras = lines;
    if (!lines) goto done;
    char **own = realloc(c->text, (size_t)(c->texts + 1) * sizeof *own);
    if (!own) {
        free(lines);
        TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for a LoRA's name"));
    }
    c->text = own;
    c->text[c->texts++] = lines;
done:
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

void ts_cli_any_images(const ts_model *m, ts_request *q)
{
    int least, most;
    ts_model_images(m, &least, &most);
    if (least > 0) q->image = "an image";
    if (least > 1) q->last_image = "another";
}
