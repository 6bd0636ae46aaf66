/* Opening and closing a context: device, precision, limits; versions and errors. */
#include "sampler/tessera.h"

#include "backend/ctx.h"
#include "prompts/text.h"
#include "sampler/model.h"
#include "weights/bag.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Members that this library does not know are 0. */
void ts_options_init(ts_options *o, size_t size)
{
    const ts_options all = {.size = size, .precision = "auto"};
    memset(o, 0, size);
    memcpy(o, &all, size < sizeof all ? size : sizeof all);
}

/* The caller's options, of its version of the struct, in this one's. */
static ts_status read_options(ts_ctx *c, const ts_options *o, ts_options *out)
{
    ts_options_init(out, sizeof *out);
    if (!o) return TS_OK;
    if (o->size < sizeof o->size || o->size > sizeof *out)
        return ts_fail(&c->err, TS_EUSAGE,
                       "options of %zu bytes, this library (%s) knows %zu: begin with "
                       "ts_options_default, or take the library that the program was built for",
                       o->size, ts_version(), sizeof *out);
    memcpy(out, o, o->size);
    return TS_OK;
}

static ts_status choose_precision(ts_ctx *c, const char *name)
{
    bool bf16 = c->dev->has_bf16;
    if (!name || !strcmp(name, "auto"))
        c->act = bf16 ? TS_BF16 : TS_F32;
    else if (!strcmp(name, "f32"))
        c->act = TS_F32;
    else if (strcmp(name, "bf16"))
        return ts_fail(&c->err, TS_EUSAGE, "precision %s: must be auto, f32 or bf16", name);
    else if (!bf16)
        return ts_fail(&c->err, TS_EUSAGE,
                       "precision bf16: device %s (%s) has no bf16 arithmetic: use f32",
                       c->dev->name, ts_facts(c->dev).level);
    else
        c->act = TS_BF16;
    c->codec = c->dev->convolves_bf16 ? c->act : TS_F32;
    return TS_OK;
}

ts_status ts_set_precision(ts_ctx *c, const char *name) { return choose_precision(c, name); }

/* Of a device's own memory a little is left for its copies, libraries and what displays take. */
static size_t choose_memory(const ts_device *d, const ts_options *o, size_t available, size_t total)
{
    enum { LEFT = 384 << 20 };
    if (!d->own_memory) return o->memory ? o->memory : total;
    if (o->vram) return o->vram;
    return available > 2 * (size_t)LEFT ? available - LEFT : available / 2;
}

/* Sizes of tiles follow from the memory of the machine, so that a file comes out alike whatever
 * else runs. Packed weights take what others leave, less a sixteenth of all, for what those take
 * later and for pages of files. */
static size_t leave_others(const ts_device *d, const ts_options *o, size_t available, size_t total)
{
    size_t kept = total / 16;
    if (d->own_memory || o->memory) return 0;
    return available > 2 * kept ? available - kept : available / 2 + 1;
}

/* They would take turns. */
static void warn_threads(const ts_ctx *c, int threads)
{
    int cpus = ts_device_cpus();
    if (threads > cpus)
        ts_warn(c, "%d threads, of %d CPU%s that may be used: more threads than CPUs are slower",
                threads, cpus, cpus == 1 ? "" : "s");
}

ts_status ts_open(const ts_options *options, const ts_env *env, ts_ctx **out)
{
    ts_status st = TS_OK;
    ts_options o;
    ts_ctx *c;
    ts_device *dev = NULL;
    size_t available, total;
    if (!out) return TS_EUSAGE;
    *out = c = calloc(1, sizeof *c);
    if (!c) return TS_EMEMORY;
    if (env) c->env = *env;
    TRY(read_options(c, options, &o));
    if (o.threads < 0)
        TRY(ts_fail(&c->err, TS_EUSAGE,
                    "%d threads: must be 1 or more, or 0 for all that may be "
                    "used",
                    o.threads));
    TRY(ts_device_open((ts_device_options){.kind = o.device, .threads = o.threads, .level = o.cpu},
                       &c->env, &c->err, &dev));
    c->dev = dev;
    c->owns_dev = true;
    /* prices runs before they start */
    TRY(ts_profile_open(dev, &c->dev));
    TRY(ts_profile_time(c->dev, o.profile, NULL));
    TRY(choose_precision(c, o.precision));
    warn_threads(c, o.threads);
    TRY(c->dev->ops->memory(c->dev, &available, &total));
    c->memory = choose_memory(c->dev, &o, available, total);
    c->unused = leave_others(c->dev, &o, available, total);
    c->default_model = strdup(o.default_model ? o.default_model : TS_DEFAULT_INSTALLED);
    if (!c->default_model) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for a context"));
    c->hub = o.hub ? strdup(o.hub) : NULL;
done:
    return st;
}

static void free_ctx(ts_ctx *c)
{
    if (c->owns_dev) ts_device_close(c->dev);
    free((char *)c->default_model);
    free((char *)c->hub);
    free(c);
}

/* What env points to may be gone from here on. */
void ts_close(ts_ctx *c)
{
    if (!c) return;
    c->closed = true;
    c->env = (ts_env){0};
    if (!c->children) free_ctx(c);
}

void ts_ctx_release(ts_ctx *c)
{
    if (--c->children == 0 && c->closed) free_ctx(c);
}

const char *ts_error(const ts_ctx *c) { return c ? c->err.text : "there is no context"; }
const char *ts_version(void) { return TS_VERSION; }
void ts_free(void *p) { free(p); }

ts_status ts_tokens(ts_model *m, const char *text, char **json)
{
    ts_status st = TS_OK;
    char *clean = NULL;
    int32_t *ids = NULL;
    int n = 0;
    bool cut = false;
    ts_tokenizer *t;
    if (json) *json = NULL;
    if (!m) return TS_EUSAGE;
    if (!text || !json)
        return ts_fail(&m->ctx->err, TS_EUSAGE, "ts_tokens: no %s",
                       text ? "place for the answer" : "text");
    cJSON *j = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(j, "tokens");
    TRY(ts_model_tokenizer(m, 0, &t));
    TRY(ts_model_phrase(m, 0, text, &clean));
    TRY(ts_tokenize(t, clean, m->family->text[0].max, &ids, &n, &cut));
    cJSON_AddStringToObject(j, "text", clean);
    for (int i = 0; i < n; i++) {
        const char *piece = ts_token_piece(t, ids[i]);
        cJSON *token = cJSON_CreateObject();
        cJSON_AddNumberToObject(token, "id", ids[i]);
        cJSON_AddStringToObject(token, "piece", piece ? piece : "");
        cJSON_AddItemToArray(list, token);
    }
    cJSON_AddBoolToObject(j, "truncated", cut);
    *json = cJSON_PrintUnformatted(j);
done:
    cJSON_Delete(j);
    free(clean);
    free(ids);
    return st;
}

ts_status ts_bag_read(ts_ctx *c, const char *path, ts_bag **out)
{
    if (out) *out = NULL;
    if (!path || !out) return ts_fail(&c->err, TS_EUSAGE, "ts_bag_read: no path, or no place");
    return ts_bag_load(&c->err, path, out);
}
ts_status ts_bag_write(ts_ctx *c, const ts_bag *bag, const char *path)
{
    if (!bag || !path) return ts_fail(&c->err, TS_EUSAGE, "ts_bag_write: no bag, or no path");
    return ts_bag_save(&c->err, bag, path);
}
ts_status ts_bag_write_new(ts_ctx *c, const ts_bag *bag, const char *path)
{
    if (!bag || !path) return ts_fail(&c->err, TS_EUSAGE, "ts_bag_write_new: no bag, or no path");
    return ts_bag_save_new(&c->err, bag, path);
}
