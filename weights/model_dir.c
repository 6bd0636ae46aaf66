/* Finds a model: a diffusers directory, or a name in a Hugging Face cache, and reads
 * model_index.json and the config of every component.
 *
 *   DIR/model_index.json   {"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderKLWan"],
 *   "transformer_2": [null, null], "boundary_ratio": 0.9, ...} DIR/<component>/       config.json
 *   or scheduler_config.json, weights, vocabularies */
#include "weights/model_dir.h"

#include "backend/suffix.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_dir(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static bool is_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

static char *join_path(const char *dir, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* A link without a target counts as there: opening it then says what is wrong. */
static bool has_file(const char *dir, const char *name)
{
    char *path = join_path(dir, name);
    bool there = path && faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    free(path);
    return there;
}

/* A file name of `dir` that starts and ends so, the first in order; NULL: none. */
static char *find_file_like(const char *dir, const char *head, const char *tail)
{
    char *found = NULL;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || strncmp(e->d_name, head, strlen(head)) ||
            !ts_ends_with(e->d_name, tail))
            continue;
        if (found && strcmp(found, e->d_name) < 0) continue;
        free(found);
        found = strdup(e->d_name);
    }
    if (d) closedir(d);
    return found;
}

/* ---- which directory ---- */

/* The revision that refs/main names, or the only snapshot. */
static ts_status find_snapshot(ts_ctx *ctx, const char *name, const char *repo, char **dir)
{
    char rev[128] = "", *ref = join_path(repo, "refs/main"),
         *snapshots = join_path(repo, "snapshots");
    ts_status st = TS_OK;
    FILE *f = ref ? fopen(ref, "re") : NULL;
    if (f) {
        size_t n = fread(rev, 1, sizeof rev - 1, f);
        while (n && isspace((unsigned char)rev[n - 1])) n--;
        rev[n] = 0;
        fclose(f);
        if (strchr(rev, '/')) rev[0] = 0;
    }
    if (!rev[0] && snapshots) {
        char *only = find_file_like(snapshots, "", "");
        DIR *d = opendir(snapshots);
        int n = 0;
        for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
        if (d) closedir(d);
        if (only && n == 1)
            snprintf(rev, sizeof rev, "%s", only);
        else if (n > 1)
            st = ts_fail(
                &ctx->err, TS_EMODEL,
                "%s: %s holds %d snapshots and no refs/main says which: give the folder of one",
                name, repo, n);
        free(only);
    }
    if (st == TS_OK) {
        *dir = snapshots ? join_path(snapshots, rev) : NULL;
        if (!rev[0] || !*dir || !is_dir(*dir))
            st = ts_fail(&ctx->err, TS_EMODEL, "%s: %s has no snapshot%s%s: download it again",
                         name, repo, rev[0] ? " " : "", rev);
    }
    if (st != TS_OK) {
        free(*dir);
        *dir = NULL;
    }
    free(ref);
    free(snapshots);
    return st;
}

/* Not in the cache. Advice to download is given for what can be run, or may be: tens of gigabytes
 * are not fetched for nothing. */
static ts_status refuse_absent_name(ts_err *err, const char *name, const char *repo)
{
    /* repositories whose layout or pipeline is not read; instead: one that is, of the same model */
    static const struct {
        const char *name, *instead;
    } others[] = {
        {"Wan-AI/Wan2.1-T2V-1.3B", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"},
        {"Wan-AI/Wan2.1-T2V-14B", "Wan-AI/Wan2.1-T2V-14B-Diffusers"},
        {"Wan-AI/Wan2.2-T2V-A14B", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"},
        {"Wan-AI/Wan2.2-TI2V-5B", "Wan-AI/Wan2.2-TI2V-5B-Diffusers"},
        {"Wan-AI/Wan2.1-I2V-14B-480P", "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"},
        {"Wan-AI/Wan2.1-I2V-14B-720P", "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers"},
        {"Wan-AI/Wan2.1-FLF2V-14B-720P", "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers"},
        {"Wan-AI/Wan2.2-I2V-A14B", "Wan-AI/Wan2.2-I2V-A14B-Diffusers"},
        {"tencent/HunyuanVideo", "hunyuanvideo-community/HunyuanVideo"},
        {"PixArt-alpha/PixArt-alpha", "PixArt-alpha/PixArt-XL-2-1024-MS"},
        {"PixArt-alpha/PixArt-Sigma", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"},
    };
    /* families that are read: of Wan in the layout of those that say so, of others by whole names
     */
    static const char *const read[] = {"wan2.1-t2v",  "wan2.1-i2v",       "wan2.1-flf2v",
                                       "wan2.2-t2v",  "wan2.2-i2v",       "wan2.2-ti2v",
                                       "pixart-xl-2", "pixart-sigma-xl-2"};
    static const char *const whole[] = {"THUDM/CogVideoX-2b",
                                        "THUDM/CogVideoX-5b",
                                        "THUDM/CogVideoX-5b-I2V",
                                        "THUDM/CogVideoX1.5-5B",
                                        "THUDM/CogVideoX1.5-5B-I2V",
                                        "zai-org/CogVideoX-2b",
                                        "zai-org/CogVideoX-5b",
                                        "zai-org/CogVideoX-5b-I2V",
                                        "zai-org/CogVideoX1.5-5B",
                                        "zai-org/CogVideoX1.5-5B-I2V",
                                        "hunyuanvideo-community/HunyuanVideo"};
    static const char *const unread[] = {"flux",       "stable-diffusion",
                                         "sdxl",       "sd3",
                                         "qwen-image", "z-image",
                                         "hunyuan",    "ltx",
                                         "mochi",      "cogvideo",
                                         "i2v",        "flf2v",
                                         "vace",       "gguf",
                                         "comfyui",    "sana",
                                         "lumina",     "hidream",
                                         "chroma",     "animatediff",
                                         "svd"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcasecmp(name, others[i].name))
            return ts_fail(
                err, TS_EMODEL,
                "%s: is not in the cache, and in a layout that is not read: take %s (`hf "
                "download %s`)",
                name, others[i].instead, others[i].instead);
    bool known = false;
    for (size_t i = 0; i < sizeof read / sizeof *read; i++)
        known = known || (strcasestr(name, read[i]) &&
                          (read[i][0] == 'p' || strcasestr(name, "-diffusers")));
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        known = known || !strcasecmp(name, whole[i]);
    for (size_t i = 0; i < sizeof unread / sizeof *unread; i++)
        if (!known && strcasestr(name, unread[i]))
            return ts_fail(err, TS_EMODEL,
                           "%s: there is neither such a folder nor %s, and by its name it is of a "
                           "family that is not read (Wan 2.1 and 2.2, CogVideoX, HunyuanVideo and "
                           "PixArt are)",
                           name, repo);
    return ts_fail(
        err, TS_EMODEL,
        known ? "%s: there is neither such a folder nor %s: download it with `hf "
                "download %s`"
              : "%s: there is neither such a folder nor %s (what `hf download` fetches "
                "can be used if its model_index.json names a pipeline that is read, such as "
                "a WanPipeline)",
        name, repo, name);
}

static ts_status find_dir(ts_ctx *ctx, const char *name, const char *hub, char **dir)
{
    ts_err *err = &ctx->err;
    if (is_dir(name)) {
        size_t n = strlen(name);
        while (n > 1 && name[n - 1] == '/') n--;
        return (*dir = strndup(name, n)) ? TS_OK
                                         : ts_fail(err, TS_EMEMORY, "%s: out of memory", name);
    }
    if (is_file(name))
        return ts_fail(err, TS_EMODEL,
                       "%s is a file: a model is a folder in the diffusers layout "
                       "(model_index.json, transformer/, vae/, text_encoder/, ...)",
                       name);
    const char *slash = strchr(name, '/');
    bool named = name[0] && name[0] != '.' && name[0] != '/' && name[0] != '~' && slash &&
                 slash[1] && !strchr(slash + 1, '/');
    if (!named) return ts_fail(err, TS_EMODEL, "%s: there is no such folder", name);
    if (!hub)
        return ts_fail(err, TS_EMODEL,
                       "%s: there is no such folder, and no Hugging Face cache to look in", name);
    char *repo = NULL;
    if (asprintf(&repo, "%s/models--%.*s--%s", hub, (int)(slash - name), name, slash + 1) < 0)
        return ts_fail(err, TS_EMEMORY, "%s: out of memory", name);
    ts_status st = is_dir(repo) ? find_snapshot(ctx, name, repo, dir)
                                : refuse_absent_name(err, name, repo);
    free(repo);
    return st;
}

/* The folder has no model_index.json: what is it? */
static ts_status say_what_it_is(ts_ctx *ctx, const char *dir)
{
    static const char *const wants =
        "a model is a folder in the diffusers layout: model_index.json, transformer/, vae/, "
        "text_encoder/, tokenizer/, scheduler/";
    char *file = NULL, *repo = find_file_like(dir, "models--", ""),
         *up = join_path(dir, "../model_index.json");
    for (const char *const *tail =
             (const char *const[]){".safetensors", ".gguf", ".ckpt", ".pth", NULL};
         *tail && !file; tail++)
        file = find_file_like(dir, "", *tail);
    ts_status st;
    if (repo)
        st = ts_fail(&ctx->err, TS_EMODEL,
                     "%s is a Hugging Face cache (it holds %s): name the model as ORG/NAME, or "
                     "give the folder under snapshots/",
                     dir, repo);
    else if (has_file(dir, "snapshots"))
        st = ts_fail(&ctx->err, TS_EMODEL,
                     "%s is a repository of a Hugging Face cache: give the folder under its "
                     "snapshots/, or name the model as ORG/NAME",
                     dir);
    else if (up && is_file(up))
        st = ts_fail(&ctx->err, TS_EMODEL,
                     "%s is one component of a model: give the folder above it", dir);
    else if (has_file(dir, "transformer"))
        st = ts_fail(&ctx->err, TS_EMODEL,
                     "%s has a transformer/ but no model_index.json: the download is incomplete",
                     dir);
    else if (file)
        st = ts_fail(&ctx->err, TS_EMODEL,
                     "%s has no model_index.json; %s looks like a checkpoint in the original "
                     "layout. Take the repository whose name ends in -Diffusers; %s",
                     dir, file, wants);
    else
        st = ts_fail(&ctx->err, TS_EMODEL, "%s has no model_index.json; %s", dir, wants);
    free(file);
    free(repo);
    free(up);
    return st;
}

/* ---- components ---- */

static bool keep_text(char *to, size_t room, const cJSON *text)
{
    if (!cJSON_IsString(text) || strlen(text->valuestring) >= room) return false;
    memcpy(to, text->valuestring, strlen(text->valuestring) + 1);
    return true;
}

static ts_status read_component(ts_ctx *ctx, const char *index, const char *dir, const cJSON *j,
                                ts_component *c)
{
    ts_err *err = &ctx->err;
    if (!keep_text(c->library, sizeof c->library, cJSON_GetArrayItem(j, 0)) ||
        !keep_text(c->cls, sizeof c->cls, cJSON_GetArrayItem(j, 1)) ||
        strlen(j->string) >= sizeof c->name || strchr(j->string, '/') || j->string[0] == '.' ||
        !j->string[0])
        return ts_fail(err, TS_EMODEL, "%s: \"%s\" is no [library, class]", index, j->string);
    snprintf(c->name, sizeof c->name, "%s", j->string);
    if (!(c->dir = join_path(dir, c->name)))
        return ts_fail(err, TS_EMEMORY, "%s: out of memory", index);
    if (!is_dir(c->dir))
        return ts_fail(err, TS_EMODEL, "%s is missing: model_index.json names it (%s)", c->dir,
                       c->cls);
    bool scheduler = !has_file(c->dir, "config.json") &&
                     (has_file(c->dir, "scheduler_config.json") || !strcmp(c->name, "scheduler"));
    if (!(c->config_path = join_path(c->dir, scheduler ? "scheduler_config.json" : "config.json")))
        return ts_fail(err, TS_EMEMORY, "%s: out of memory", index);
    bool needed = !strcmp(c->library, "diffusers") || strstr(c->cls, "Model");
    if (access(c->config_path, F_OK) && !needed) return TS_OK;
    return ts_json_load(err, c->config_path, &c->config);
}

ts_status ts_model_dir_open(ts_ctx *ctx, const char *name, const char *hub, ts_model_dir *m)
{
    ts_status st;
    char *index = NULL;
    const cJSON *j;
    memset(m, 0, sizeof *m);
    TRY(find_dir(ctx, name, hub, &m->dir));
    if (!has_file(m->dir, "model_index.json")) TRY(say_what_it_is(ctx, m->dir));
    if (!(index = join_path(m->dir, "model_index.json")))
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", name));
    TRY(ts_json_load(&ctx->err, index, &m->index));
    if (!keep_text(m->pipeline, sizeof m->pipeline,
                   cJSON_GetObjectItemCaseSensitive(m->index, "_class_name")))
        TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: no \"_class_name\" says which pipeline this is",
                    index));
    cJSON_ArrayForEach(j, m->index)
    {
        if (!cJSON_IsArray(j) || cJSON_GetArraySize(j) != 2 || j->string[0] == '_') continue;
        if (cJSON_IsNull(cJSON_GetArrayItem(j, 0)) || cJSON_IsNull(cJSON_GetArrayItem(j, 1)))
            continue;
        if (ts_model_dir_part(m, j->string))
            TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: \"%s\" appears twice", index, j->string));
        if (m->parts == (int)(sizeof m->part / sizeof *m->part))
            TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: more than %d components", index, m->parts));
        TRY(read_component(ctx, index, m->dir, j, m->part + m->parts++));
    }
done:
    free(index);
    if (st != TS_OK) ts_model_dir_close(m);
    return st;
}

void ts_model_dir_close(ts_model_dir *m)
{
    for (int i = 0; i < m->parts; i++) {
        free(m->part[i].dir);
        free(m->part[i].config_path);
        cJSON_Delete(m->part[i].config);
    }
    cJSON_Delete(m->index);
    free(m->dir);
    memset(m, 0, sizeof *m);
}

const ts_component *ts_model_dir_part(const ts_model_dir *m, const char *name)
{
    for (int i = 0; i < m->parts; i++)
        if (!strcmp(m->part[i].name, name)) return m->part + i;
    return NULL;
}
