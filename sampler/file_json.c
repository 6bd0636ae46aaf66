/* What a file is, by its content: pictures and clips by libav, safetensors by the names of their
 * tensors, tiles by their keys. Headers only, but that frames of a kind that has no index are
 * counted. */
#include "backend/suffix.h"
#include "sampler/tessera.h"

#include "codecs/movie.h"
#include "sampler/file_weights.h"
#include "weights/config.h"
#include "weights/file.h"
#include "weights/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *find_meta(const ts_safetensors *s, const char *key)
{
    for (int i = 0; i < s->metas; i++)
        if (!strcmp(s->meta[i].key, key)) return s->meta[i].value;
    return NULL;
}

static void add_shape(cJSON *j, const ts_entry *e)
{
    cJSON *shape = cJSON_AddArrayToObject(j, "shape");
    for (int i = 0; i < e->t.nd; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)e->t.dim[i]));
    cJSON_AddStringToObject(j, "type", e->storage);
}

/* What a state says: steps done, and of how many. */
static void describe_state(const ts_safetensors *s, const char *done, cJSON *j)
{
    const char *text = find_meta(s, "tessera");
    cJSON *was = text ? cJSON_Parse(text) : NULL;
    const cJSON *steps = cJSON_GetObjectItemCaseSensitive(was, "steps");
    cJSON_AddNumberToObject(j, "done", atoi(done));
    if (cJSON_IsNumber(steps)) cJSON_AddNumberToObject(j, "steps", steps->valuedouble);
    cJSON_Delete(was);
}

static void describe_plan_file(const ts_safetensors *s, cJSON *j)
{
    static const char *const keys[] = {"attention", "order", "tokens", "block",
                                       "grid",      "heads", "layers", "text"};
    bool scores = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *value = find_meta(s, keys[i]);
        if (value) cJSON_AddStringToObject(j, keys[i], value);
    }
    for (int i = 0; i < s->entries; i++) scores = scores || !strncmp(s->entry[i].name, "wsum.", 5);
    cJSON_AddBoolToObject(j, "scores", scores);
}

static ts_status describe_tensors(ts_ctx *ctx, const char *path, cJSON *j)
{
    ts_safetensors s;
    ts_status st = ts_safetensors_open(&ctx->err, path, &s);
    if (st) return st;
    const ts_entry *latents = ts_safetensors_find(&s, "latents"),
                   *noise = ts_safetensors_find(&s, "noise"), *ids = ts_safetensors_find(&s, "ids"),
                   *states = ts_safetensors_find(&s, "states");
    const char *done = find_meta(&s, "done");
    bool plans = s.entries && find_meta(&s, "tokens") && find_meta(&s, "block");
    const char *kind = latents && done ? "state"
                       : latents       ? "latents"
                       : plans         ? "plans"
                       : ids && states ? "encoded text"
                       : noise         ? "noise"
                                       : NULL;
    if (kind) cJSON_AddStringToObject(j, "kind", kind);
    if (latents && done) describe_state(&s, done, j);
    if (latents || noise)
        add_shape(j, latents ? latents : noise);
    else if (plans)
        describe_plan_file(&s, j);
    else if (ids && states)
        add_shape(j, states);
    else
        st = ts_describe_weights(ctx, path, j);
    ts_safetensors_close(&s);
    return st;
}

static ts_status describe_tiles(ts_err *err, const char *path, cJSON *j)
{
    cJSON *tiles = NULL;
    ts_status st = ts_json_load(err, path, &tiles);
    if (st) return st;
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(tiles, "layers"),
                *frames = cJSON_GetObjectItemCaseSensitive(tiles, "frames"),
                *kept = cJSON_GetObjectItemCaseSensitive(tiles, "kept"),
                *made = cJSON_GetObjectItemCaseSensitive(tiles, "made_with"),
                *model = cJSON_GetObjectItemCaseSensitive(made, "model");
    if (!cJSON_IsArray(layers) || !cJSON_IsNumber(frames))
        TRY(ts_fail(err, TS_EMODEL, "%s: is JSON, but none that tessera writes", path));
    cJSON_AddStringToObject(j, "kind", "tiles");
    cJSON_AddNumberToObject(j, "latent_frames", frames->valuedouble);
    cJSON_AddNumberToObject(j, "layers", cJSON_GetArraySize(layers));
    cJSON_AddItemToObject(j, "k", cJSON_Duplicate(layers, true));
    if (cJSON_IsNumber(kept)) cJSON_AddNumberToObject(j, "kept", kept->valuedouble);
    if (cJSON_IsString(model)) cJSON_AddStringToObject(j, "model", model->valuestring);
done:
    cJSON_Delete(tiles);
    return st;
}

static ts_status describe_movie(ts_err *err, const char *path, cJSON *j)
{
    ts_movie_facts m;
    ts_status st = ts_movie_probe(err, path, &m);
    if (st) return st;
    bool clip = m.frames != 1;
    cJSON_AddStringToObject(j, "kind", clip ? "clip" : "picture");
    cJSON_AddStringToObject(j, "container", m.container);
    cJSON_AddStringToObject(j, "codec", m.codec);
    cJSON_AddNumberToObject(j, "width", m.w);
    cJSON_AddNumberToObject(j, "height", m.h);
    if (!clip) return TS_OK;
    cJSON_AddNumberToObject(j, "frames", (double)m.frames);
    if (m.seconds > 0) cJSON_AddNumberToObject(j, "seconds", m.seconds);
    return TS_OK;
}

ts_status ts_file_json(ts_ctx *c, const char *path, char **json)
{
    ts_status st = TS_OK;
    unsigned char head[32] = {0};
    struct stat s;
    FILE *f = NULL;
    cJSON *j = NULL;
    if (json) *json = NULL;
    if (!path || !json)
        return ts_fail(&c->err, TS_EUSAGE, "ts_file_json: no path or place for the answer");
    if (!(f = fopen(path, "rbe")) || fstat(fileno(f), &s))
        TRY(ts_fail(&c->err, TS_EMODEL, "%s: %s", path, strerror(errno)));
    if (!S_ISREG(s.st_mode)) TRY(ts_fail(&c->err, TS_EMODEL, "%s: is not a file", path));
    size_t n = fread(head, 1, sizeof head, f);
    if (n == 0) TRY(ts_fail(&c->err, TS_EMODEL, "%s: is empty", path));
    if (!(j = cJSON_CreateObject()))
        TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for what %s is", path));
    TRY(ts_file_refuse_pointer(&c->err, path, head, n));
    if (n > 8 && head[8] == '{' && !head[7])
        TRY(describe_tensors(c, path, j));
    else if ((n > 4 && !memcmp(head, "GGUF", 4)) || ts_ends_with(path, ".index.json"))
        TRY(ts_describe_weights(c, path, j));
    else if (head[0] == '{')
        TRY(describe_tiles(&c->err, path, j));
    else
        TRY(describe_movie(&c->err, path, j));
    cJSON_AddNumberToObject(j, "bytes", (double)s.st_size);
    *json = cJSON_PrintUnformatted(j);
    if (!*json) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for what %s is", path));
done:
    if (f) fclose(f);
    cJSON_Delete(j);
    return st;
}
