/* A request as JSON, so that a file can be rendered again, as the settings' line that image viewers
 * know, and read from such JSON. What was asked for is checked in request.c. */
#include "backend/number.h"
#include "backend/utf8.h"
#include "sampler/loras.h"
#include "sampler/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *precision(const ts_run *r) { return r->ctx->act == TS_BF16 ? "bf16" : "f32"; }

/* A double holds integers up to 2^53; larger seeds travel as strings. */
static void add_seed(cJSON *j, uint64_t seed)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    if (seed <= 1ull << 53)
        cJSON_AddRawToObject(j, "seed", text);
    else
        cJSON_AddStringToObject(j, "seed", text);
}

/* A path in full, or its last part. A model of the cache is ORG/NAME, and no path. */
static void add_path(cJSON *j, const char *key, const char *path, bool bare)
{
    cJSON_AddStringToObject(j, key, bare && *path == '/' ? strrchr(path, '/') + 1 : path);
}

static void add_loras(cJSON *j, const char *text, bool bare)
{
    ts_err ignored = {0};
    cJSON *all;
    if (!text || !*text || ts_loras_json(&ignored, text, bare, &all)) return;
    cJSON_AddItemToObject(j, "loras", all);
}

/* A name, and what the pixels were, once they have been read. */
static void add_image(const ts_run *r, cJSON *j, int i, const char *key, const char *path,
                      bool bare)
{
    char name[32], text[24];
    if (!path) return;
    add_path(j, key, path, bare);
    if (!r->image[i].frame.rgb) return;
    snprintf(name, sizeof name, "%s_hash", key);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)r->image[i].hash);
    cJSON_AddStringToObject(j, name, text);
}

static char *write_json(const ts_run *r, bool bare)
{
    const ts_request *q = &r->q;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "tessera", ts_version());
    add_path(j, "model", r->m->name, bare);
    for (int i = 0; i < TS_MODEL_FILES; i++)
        if (r->m->file[i]) add_path(j, ts_model_file_name(i), r->m->file[i], bare);
    cJSON_AddStringToObject(j, "pipeline", r->m->dir.pipeline);
    cJSON_AddStringToObject(j, "prompt", q->prompt);
    cJSON_AddStringToObject(j, "negative", q->negative);
    cJSON_AddNumberToObject(j, "width", q->width);
    cJSON_AddNumberToObject(j, "height", q->height);
    cJSON_AddNumberToObject(j, "frames", q->frames);
    if (r->pictures) cJSON_AddNumberToObject(j, "count", q->count);
    if (r->m->family->bins) cJSON_AddBoolToObject(j, "bins", !q->no_bins);
    cJSON_AddNumberToObject(j, "fps", q->fps);
    cJSON_AddNumberToObject(j, "steps", q->steps);
    cJSON_AddNumberToObject(j, "guidance", q->guidance);
    if (r->m->family->experts) cJSON_AddNumberToObject(j, "guidance_2", q->guidance_2);
    if (q->dynamic_guidance) cJSON_AddBoolToObject(j, "dynamic_guidance", true);
    if (!r->m->family->diffusion) cJSON_AddNumberToObject(j, "shift", q->shift);
    cJSON_AddStringToObject(j, "sampler", q->sampler);
    if (strcmp(q->timesteps, "default") != 0) cJSON_AddStringToObject(j, "timesteps", q->timesteps);
    add_loras(j, q->loras, bare);
    if (ts_run_seeded(r, q->noise_file)) add_seed(j, q->seed);
    cJSON_AddStringToObject(j, "precision", precision(r));
    cJSON_AddStringToObject(j, "attention", q->attention);
    if (r->cache_wish.on) cJSON_AddStringToObject(j, "cache_steps", q->cache_steps);
    cJSON_AddNumberToObject(j, "scale", q->scale);
    char tile[32] = "off";
    if (r->tile.w) snprintf(tile, sizeof tile, "%dx%d", r->tile.w, r->tile.h);
    cJSON_AddStringToObject(j, "vae_tile", tile);
    if (q->noise_file) add_path(j, "noise", q->noise_file, bare);
    if (q->init) {
        add_path(j, "init", q->init, bare);
        cJSON_AddNumberToObject(j, "strength", q->strength);
    }
    add_image(r, j, TS_FIRST, "image", q->image, bare);
    add_image(r, j, TS_LAST, "last_image", q->last_image, bare);
    char *text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    return ts_utf8_repair_own(text); /* names of files are bytes */
}

char *ts_run_json(const ts_run *r) { return write_json(r, false); }
char *ts_run_public_json(const ts_run *r) { return write_json(r, true); }

/* A value of the settings' line as the web UI writes it: a JSON string where it would else end the
 * value or begin another. malloc'd; NULL: no memory. */
static char *parameter_value(const char *value)
{
    if (!strpbrk(value, ",:\n")) return strdup(value);
    cJSON *j = cJSON_CreateString(value);
    char *text = cJSON_PrintUnformatted(j);
    cJSON_Delete(j);
    return text;
}

/* The text that image viewers know from AUTOMATIC1111's web UI. */
char *ts_run_parameters(const ts_run *r)
{
    const ts_request *q = &r->q;
    char *text = NULL, guidance[TS_NUMBER_TEXT], seed[40] = "";
    const char *slash = strrchr(r->m->name, '/');
    char *model = parameter_value(slash ? slash + 1 : r->m->name);
    if (ts_run_seeded(r, q->noise_file))
        snprintf(seed, sizeof seed, "Seed: %llu, ", (unsigned long long)q->seed);
    if (!model ||
        asprintf(&text,
                 "%s%s%s\nSteps: %d, Sampler: %s, CFG scale: %s, %sSize: %dx%d, Model: "
                 "%s, Version: tessera %s",
                 q->prompt, *q->negative ? "\nNegative prompt: " : "", q->negative, q->steps,
                 ts_solver_title(r->schedule.kind), ts_number_text(q->guidance, guidance), seed,
                 q->width, q->height, model, ts_version()) < 0)
        text = NULL;
    free(model);
    return ts_utf8_repair_own(text);
}

/* A run's request with another seed, for what is written of it. */
static char *of_picture(const ts_run *r, int picture, char *(*write)(const ts_run *))
{
    ts_run *one = malloc(sizeof *one);
    char *text = NULL;
    if (!one) return NULL;
    *one = *r;
    one->q.seed += (uint64_t)picture;
    one->q.count = 1;
    text = write(one);
    free(one);
    return text;
}

char *ts_run_json_of(const ts_run *r, int picture)
{
    return of_picture(r, picture, ts_run_public_json);
}
char *ts_run_parameters_of(const ts_run *r, int picture)
{
    return of_picture(r, picture, ts_run_parameters);
}

/* ---- requests from metadata ---- */

/* The library's own strings of a request, newest first. */
typedef struct ts_strings ts_strings;
struct ts_strings {
    ts_strings *next;
    char text[];
};

void ts_request_free(ts_request *q)
{
    if (!q) return;
    while (q->own) {
        ts_strings *first = q->own;
        q->own = first->next;
        free(first);
    }
}

static const char *own_string(ts_request *q, const char *s)
{
    size_t n = strlen(s) + 1;
    ts_strings *one = malloc(sizeof *one + n);
    if (!one) return NULL;
    one->next = q->own;
    q->own = one;
    return memcpy(one->text, s, n);
}

/* As add_seed writes it: a number up to 2^53, digits above. */
static ts_status read_seed(ts_err *e, const cJSON *v, uint64_t *seed)
{
    if (cJSON_IsNumber(v)) {
        double x = v->valuedouble;
        if (!(x >= 0 && x <= 0x1p53 && x == floor(x)))
            return ts_fail(
                e, TS_EMODEL,
                "metadata: the seed is %.17g, expected a whole number from 0 to 2^53, or "
                "a larger one in quotes",
                x);
        *seed = (uint64_t)x;
    }
    if (cJSON_IsString(v) && !ts_whole_read(v->valuestring, UINT64_MAX, seed))
        return ts_fail(e, TS_EMODEL,
                       "metadata: the seed is \"%.40s\", expected a whole number below 2^64",
                       v->valuestring);
    return TS_OK;
}

/* Files of this version say nothing, which is 1 (CHANGELOG.md, Formats). */
static ts_status check_format(ts_err *e, const cJSON *j)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, "format");
    if (!v || (cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 2)) return TS_OK;
    return ts_fail(e, TS_EMODEL, "metadata of format %g, tessera %s reads 1",
                   cJSON_GetNumberValue(v), ts_version());
}

static ts_status read_strings(ts_err *e, const cJSON *j, ts_request *q)
{
    const struct {
        const char *key, **out;
    } strings[] = {{"prompt", &q->prompt},        {"negative", &q->negative},
                   {"sampler", &q->sampler},      {"attention", &q->attention},
                   {"vae_tile", &q->vae_tile},    {"init", &q->init},
                   {"noise", &q->noise_file},     {"cache_steps", &q->cache_steps},
                   {"timesteps", &q->timesteps},  {"image", &q->image},
                   {"last_image", &q->last_image}};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        const char *text = cJSON_GetStringValue(
            cJSON_GetObjectItemCaseSensitive(j, strings[i].key));
        if (!text) continue;
        *strings[i].out = own_string(q, text);
        if (!*strings[i].out) return ts_fail(e, TS_EMEMORY, "no memory for a request");
    }
    return TS_OK;
}

/* The list that metadata have, as lines. */
static ts_status read_loras(ts_err *e, const cJSON *j, ts_request *q)
{
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(j, "loras"), *one;
    int n = 0;
    ts_lora_wish wish[64];
    if (!cJSON_IsArray(all)) return TS_OK;
    cJSON_ArrayForEach(one, all)
    {
        const cJSON *strength = cJSON_GetObjectItemCaseSensitive(one, "strength");
        char *file = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "file")),
             *expert = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "expert"));
        if (!file || !cJSON_IsNumber(strength) || n == (int)(sizeof wish / sizeof *wish))
            return ts_fail(e, TS_EMODEL, "metadata: \"loras\" is no list of files and strengths");
        wish[n].path = file;
        wish[n].strength = strength->valuedouble;
        wish[n].expert = TS_LORA_BOTH;
        for (int k = TS_LORA_HIGH; expert && k <= TS_LORA_LOW; k++)
            if (!strcmp(expert, ts_lora_expert_name((ts_lora_expert)k)))
                wish[n].expert = (ts_lora_expert)k;
        n++;
    }
    char *text = ts_lora_wishes_text(wish, n);
    q->loras = text ? own_string(q, text) : NULL;
    free(text);
    return q->loras ? TS_OK : ts_fail(e, TS_EMEMORY, "no memory for a request");
}

static void read_numbers(const cJSON *j, ts_request *q)
{
    const struct {
        const char *key;
        int *out;
    } ints[] = {{"width", &q->width}, {"height", &q->height}, {"frames", &q->frames},
                {"steps", &q->steps}, {"scale", &q->scale},   {"count", &q->count}};
    const struct {
        const char *key;
        double *out;
    } floats[] = {{"fps", &q->fps},
                  {"guidance", &q->guidance},
                  {"guidance_2", &q->guidance_2},
                  {"shift", &q->shift},
                  {"strength", &q->strength}};
    const cJSON *v;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (cJSON_IsNumber(v = cJSON_GetObjectItemCaseSensitive(j, ints[i].key)))
            *ints[i].out = v->valueint;
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if (cJSON_IsNumber(v = cJSON_GetObjectItemCaseSensitive(j, floats[i].key)))
            *floats[i].out = v->valuedouble;
    if (cJSON_IsBool(v = cJSON_GetObjectItemCaseSensitive(j, "bins")))
        q->no_bins = cJSON_IsFalse(v);
    if (cJSON_IsBool(v = cJSON_GetObjectItemCaseSensitive(j, "dynamic_guidance")))
        q->dynamic_guidance = cJSON_IsTrue(v);
}

ts_status ts_request_from_json(ts_model *m, const char *json, ts_request *q)
{
    ts_status st = TS_OK;
    ts_err *err = &m->ctx->err;
    ts_request was, now;
    cJSON *j = cJSON_Parse(json);
    TRY(ts_request_read(m, q, &was));
    now = was;
    now.own = NULL;
    if (!cJSON_IsObject(j) || !cJSON_GetObjectItemCaseSensitive(j, "tessera"))
        TRY(ts_fail(err, TS_EMODEL, "metadata is not tessera's"));
    TRY(check_format(err, j));
    read_numbers(j, &now);
    TRY(read_seed(err, cJSON_GetObjectItemCaseSensitive(j, "seed"), &now.seed));
    st = read_strings(err, j, &now);
    if (!st) st = read_loras(err, j, &now);
    if (st) {
        ts_request_free(&now);
        goto done;
    }
    ts_strings **end = &now.own;
    while (*end) end = &(*end)->next;
    *end = was.own;
    memcpy(q, &now, now.size);
done:
    cJSON_Delete(j);
    return st;
}
