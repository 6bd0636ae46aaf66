/* A run's state between two steps, so that a killed run goes on where it was: latents, solver
 * history, how many steps are done, and what denoising depends on of the request that they belong
 * to. Plans that were searched for change seldom and may be large: they are in a file of their own,
 * written when they have changed, under the one of two names that the state does not name. The
 * state names it by its hash, so whatever is interrupted leaves a state with the plans that belong
 * to it. */
#include "sampler/identity.h"
#include "sampler/latents.h"
#include "sampler/loras.h"
#include "sampler/run.h"

#include "attention/saved.h"
#include "backend/hash.h"
#include "backend/number.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const char *name;
    ts_tensor t;
} part;

static int list_parts(const ts_solver *s, ts_tensor x, part out[TS_HISTORY + 1])
{
    const char *name[TS_HISTORY];
    ts_tensor t[TS_HISTORY];
    int n = ts_solver_history(s, name, t);
    out[0] = (part){"latents", x};
    for (int i = 0; i < n; i++) out[i + 1] = (part){name[i], t[i]};
    return n + 1;
}

/* ---- what denoising depends on ---- */
static void add_hash(cJSON *j, const char *key, uint64_t h)
{
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)h);
    cJSON_AddStringToObject(j, key, text);
}

/* Those that add_hash has put there. */
static bool is_hash(const char *key)
{
    return !strcmp(key, "model") || !strcmp(key, "plan") || !strcmp(key, "noise") ||
           !strcmp(key, "init") || !strcmp(key, "image") || !strcmp(key, "last_image");
}

/* LoRAs by content, strength and expert, in their order. */
static ts_status add_lora_contents(ts_run *r, cJSON *j)
{
    cJSON *all, *one;
    if (!r->q.loras) return TS_OK;
    ts_status st = ts_loras_json(&r->ctx->err, r->q.loras, true, &all);
    if (st) return st;
    cJSON_ArrayForEach(one, all) cJSON_DeleteItemFromObjectCaseSensitive(one, "file");
    char *text = cJSON_PrintUnformatted(all);
    cJSON_Delete(all);
    if (!text) return ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state");
    cJSON_AddStringToObject(j, "loras", text);
    free(text);
    return TS_OK;
}

/* Files by what is in them: they may move, and may not change. */
static ts_status add_contents(ts_run *r, cJSON *j)
{
    ts_status st = TS_OK;
    uint64_t model = TS_HASH, plan = TS_HASH;
    TRY(ts_identity_model(r->m, r->q.init || r->q.image, &model));
    add_hash(j, "model", model);
    TRY(add_lora_contents(r, j));
    if (*r->policy.file) {
        TRY(ts_identity_file(&r->ctx->err, r->policy.file, &plan));
        add_hash(j, "plan", plan);
    }
    size_t noise = ts_latents_count(r->latent) * sizeof *r->noise;
    if (r->noise) {
        uint64_t h = ts_hash(TS_HASH, r->noise, noise);
        if (r->step_noise) h = ts_hash(h, r->step_noise, (size_t)r->q.steps * noise);
        if (r->image_noise) h = ts_hash(h, r->image_noise, noise / (size_t)r->latent[1]);
        add_hash(j, "noise", h);
    }
    if (r->q.init) {
        add_hash(j, "init", r->picture_hash);
        cJSON_AddNumberToObject(j, "strength", r->q.strength);
    }
    if (r->q.image) add_hash(j, "image", r->image[TS_FIRST].hash);
    if (r->q.last_image) add_hash(j, "last_image", r->image[TS_LAST].hash);
done:
    return st;
}

static void add_drawing(const ts_run *r, cJSON *j)
{
    const ts_request *q = &r->q;
    int stride = r->m->vae_info.stride;
    char size[48];
    snprintf(size, sizeof size, "%ldx%ld", r->latent[3] * stride, r->latent[2] * stride);
    cJSON_AddStringToObject(j, "pipeline", r->m->dir.pipeline);
    cJSON_AddStringToObject(j, "prompt", q->prompt);
    if (r->branches == 2) cJSON_AddStringToObject(j, "negative", q->negative);
    cJSON_AddStringToObject(j, "size", size);
    if (r->pictures)
        cJSON_AddNumberToObject(j, "count", r->pictures);
    else
        cJSON_AddNumberToObject(j, "frames", q->frames);
    cJSON_AddNumberToObject(j, "steps", q->steps);
    cJSON_AddNumberToObject(j, "guidance", q->guidance);
    if (q->dynamic_guidance) cJSON_AddBoolToObject(j, "dynamic_guidance", true);
    if (r->m->family->experts) {
        cJSON_AddNumberToObject(j, "guidance_2", q->guidance_2);
        cJSON_AddNumberToObject(j, "boundary", r->m->boundary);
    }
    if (!r->m->family->diffusion) cJSON_AddNumberToObject(j, "shift", q->shift);
    cJSON_AddStringToObject(j, "sampler", q->sampler);
    if (strcmp(q->timesteps, "default") != 0) cJSON_AddStringToObject(j, "timesteps", q->timesteps);
    cJSON_AddStringToObject(j, "precision", r->ctx->act == TS_BF16 ? "bf16" : "f32");
}

/* JSON, malloc'd. Neither how it is decoded and written nor where files lie is in it. */
static ts_status describe_request(ts_run *r, char **out)
{
    ts_status st = TS_OK;
    cJSON *j = cJSON_CreateObject();
    ts_policy policy = r->policy;
    char seed[24], *attention;
    *out = NULL;
    policy.file[0] = 0; /* what is in it counts */
    attention = ts_policy_text(&policy);
    if (!j || !attention) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state"));
    add_drawing(r, j);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->q.seed);
    if (ts_run_seeded(r, r->noise)) cJSON_AddStringToObject(j, "seed", seed);
    cJSON_AddStringToObject(j, "attention", attention);
    if (r->cache_wish.on) cJSON_AddStringToObject(j, "cache_steps", r->q.cache_steps);
    TRY(add_contents(r, j));
    *out = cJSON_PrintUnformatted(j);
    if (!*out) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state"));
done:
    cJSON_Delete(j);
    free(attention);
    return st;
}

/* ---- the files of plans ---- */
enum { PLAN_FILES = 2 };

/* Beside the state's; malloc'd; NULL: no memory. */
static char *name_plan_file(const char *state, int slot)
{
    char *path = NULL;
    return asprintf(&path, "%s.plans-%d", state, slot) < 0 ? NULL : path;
}

static void remove_plan_files(const char *state, int kept)
{
    for (int slot = 1; slot <= PLAN_FILES; slot++) {
        char *path = slot == kept ? NULL : name_plan_file(state, slot);
        if (path) unlink(path);
        free(path);
    }
}

void ts_state_remove(const char *path)
{
    if (!path) return;
    unlink(path); /* first: a state without its plans is of no use */
    remove_plan_files(path, 0);
}

/* Writes the plans where they are not those of r->saved, which then says where they are. */
static ts_status save_changed_plans(ts_run *r, const char *json)
{
    ts_status st = TS_OK;
    const ts_attn_counters *n = &r->attn.counters;
    long searches = n->searched + n->again + n->turned; /* a change each */
    ts_saved_plans to = {.slot = r->saved.slot % PLAN_FILES + 1, .searches = searches};
    ts_bag *bag = NULL;
    char *path = NULL;
    if (searches == r->saved.searches) goto done;
    bag = ts_bag_new();
    path = name_plan_file(r->q.state, to.slot);
    if (!bag || !path) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state"));
    TRY(ts_attn_save(&r->attn, bag));
    ts_bag_meta(bag, "tessera", json);
    if (!ts_bag_count(bag)) goto done; /* the policy keeps none */
    TRY(ts_bag_save(&r->ctx->err, bag, path));
    to.hash = TS_HASH;
    TRY(ts_identity_file(&r->ctx->err, path, &to.hash));
    r->saved = to;
done:
    free(path);
    ts_bag_free(bag);
    return st;
}

/* Where they are: "1 0123456789abcdef", the file's number and hash. */
static void name_plans(const ts_run *r, ts_bag *bag)
{
    char text[48];
    if (!r->saved.slot) return;
    snprintf(text, sizeof text, "%d %016llx", r->saved.slot, (unsigned long long)r->saved.hash);
    ts_bag_meta(bag, "plans", text);
    ts_bag_meta(bag, "state_format", "2");
}

/* What name_plans has said; slot 0: nothing, the state has its plans in itself or none. Are they
 * there? */
static ts_status find_plans(ts_run *r, const ts_bag *bag, ts_saved_plans *out)
{
    ts_status st = TS_OK;
    const char *text = ts_bag_meta_get(bag, "plans");
    unsigned long long said = 0;
    char *path = NULL;
    *out = (ts_saved_plans){0};
    if (!text) return TS_OK;
    if (sscanf(text, "%1d %16llx", &out->slot, &said) != 2 || out->slot < 1 ||
        out->slot > PLAN_FILES)
        TRY(ts_fail(&r->ctx->err, TS_EMODEL,
                    "%s: names its plans \"%.40s\", expected a number "
                    "and a hash",
                    r->q.state, text));
    path = name_plan_file(r->q.state, out->slot);
    if (!path) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state"));
    out->hash = TS_HASH;
    TRY(ts_identity_file(&r->ctx->err, path, &out->hash));
    if (out->hash != said)
        TRY(ts_fail(&r->ctx->err, TS_EMODEL,
                    "%s: not the plans that %s was saved with: their hash is %016llx, expected "
                    "%016llx: remove both or bring the right one back",
                    path, r->q.state, (unsigned long long)out->hash, said));
done:
    free(path);
    return st;
}

static ts_status load_plans(ts_run *r, const ts_bag *state)
{
    ts_status st = TS_OK;
    ts_bag *bag = NULL;
    char *path = NULL;
    TRY(find_plans(r, state, &r->saved));
    if (r->saved.slot) {
        path = name_plan_file(r->q.state, r->saved.slot);
        if (!path) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state"));
        TRY(ts_bag_load(&r->ctx->err, path, &bag));
    }
    TRY(ts_attn_load(&r->attn, bag ? bag : state));
done:
    free(path);
    ts_bag_free(bag);
    return st;
}

/* ---- what steps are foretold by ---- */
/* A tensor's shape as files have it: C F H W. */
static void shape_of_part(const ts_run *r, ts_tensor t, long shape[4])
{
    memcpy(shape, r->latent, sizeof r->latent);
    shape[0] = t.dim[t.nd - 1];
}

static ts_status save_cache(ts_run *r, ts_bag *bag)
{
    ts_status st = TS_OK;
    const char *name[TS_CACHE_TENSORS];
    ts_tensor t[TS_CACHE_TENSORS];
    char said[TS_CACHE_TEXT];
    int n = ts_step_cache_parts(&r->cache, name, t);
    for (int i = 0; i < n; i++) {
        long shape[4];
        shape_of_part(r, t[i], shape);
        float *to = ts_bag_put(bag, name[i], TS_F32, 4, shape, NULL);
        if (!to) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state"));
        TRY(ts_latents_download(r->ctx, shape, t[i], to));
    }
    if (!n) goto done;
    locale_t was = ts_point_begin();
    ts_step_cache_say(&r->cache, said);
    ts_point_end(was);
    ts_bag_meta(bag, "cache", said);
done:
    return st;
}

static ts_status load_cache(ts_run *r, const ts_bag *bag)
{
    ts_status st = TS_OK;
    const char *name[TS_CACHE_TENSORS], *said = ts_bag_meta_get(bag, "cache");
    ts_tensor t[TS_CACHE_TENSORS];
    if (!r->cache.wish.on || !said) return TS_OK;
    locale_t was = ts_point_begin();
    bool read = ts_step_cache_heed(&r->cache, said);
    ts_point_end(was);
    if (!read)
        TRY(ts_fail(&r->ctx->err, TS_EMODEL, "%s: says \"%.80s\" of its step cache", r->q.state,
                    said));
    for (int i = 0, n = ts_step_cache_parts(&r->cache, name, t); i < n; i++) {
        ts_host h;
        long shape[4];
        shape_of_part(r, t[i], shape);
        TRY(ts_bag_get(&r->ctx->err, bag, name[i], TS_F32, 4, shape, &h));
        TRY(ts_latents_upload(r->ctx, shape, h.data, t[i]));
    }
done:
    return st;
}

/* ---- saving ---- */
ts_status ts_state_save(ts_run *r, const ts_solver *s, ts_tensor x)
{
    ts_status st = TS_OK;
    ts_bag *bag = ts_bag_new();
    char *json = ts_run_json(r), done[16];
    part p[TS_HISTORY + 1];
    if (!bag || !json) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state"));
    for (int i = 0, n = list_parts(s, x, p); i < n; i++) {
        float *to = ts_bag_put(bag, p[i].name, TS_F32, 4, r->latent, NULL);
        if (!to) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for the state"));
        TRY(ts_latents_download(r->ctx, r->latent, p[i].t, to));
    }
    TRY(save_cache(r, bag));
    TRY(save_changed_plans(r, json));
    name_plans(r, bag);
    snprintf(done, sizeof done, "%d", s->done);
    ts_bag_meta(bag, "tessera", json);
    ts_bag_meta(bag, "request", r->state_request);
    ts_bag_meta(bag, "done", done);
    if (s->done < r->q.steps && ts_bag_has(bag, "solver.m0"))
        ts_bag_meta(bag, "prediction", "solver.m0");
    TRY(ts_bag_save(&r->ctx->err, bag, r->q.state));
    remove_plan_files(r->q.state, r->saved.slot);
done:
    free(json);
    ts_bag_free(bag);
    return st;
}

/* ---- looking at ---- */
const char *ts_state_shown(const ts_bag *bag)
{
    const char *prediction = ts_bag_meta_get(bag, "prediction");
    return prediction ? prediction : "latents";
}

/* ---- going on ---- */
static ts_status refuse_difference(ts_run *r, const char *key, const cJSON *old, const cJSON *now)
{
    char *had = old ? cJSON_PrintUnformatted(old) : strdup("not said"),
         *has = now ? cJSON_PrintUnformatted(now) : strdup("not said");
    ts_status st = ts_fail(&r->ctx->err, TS_EMODEL,
                           "%s: the state of another request: %s is %.120s there, %.120s is asked "
                           "for%s: remove it or give another file",
                           r->q.state, key, had ? had : "?", has ? has : "?",
                           is_hash(key) ? " (hashes of what is in it)" : "");
    free(had);
    free(has);
    return st;
}

/* Names the first thing in which the request that a state was saved for differs from this one. */
static ts_status compare_requests(ts_run *r, const char *was, const char *now)
{
    ts_status st = TS_OK;
    cJSON *a = cJSON_Parse(was), *b = cJSON_Parse(now);
    const cJSON *key, *old;
    if (!cJSON_IsObject(a))
        TRY(ts_fail(&r->ctx->err, TS_EMODEL, "%s: its request is not JSON", r->q.state));
    cJSON_ArrayForEach(key, b)
    {
        old = cJSON_GetObjectItemCaseSensitive(a, key->string);
        if (!old || !cJSON_Compare(old, key, true))
            TRY(refuse_difference(r, key->string, old, key));
    }
    cJSON_ArrayForEach(key, a)
    {
        if (!cJSON_GetObjectItemCaseSensitive(b, key->string))
            TRY(refuse_difference(r, key->string, key, NULL));
    }
done:
    cJSON_Delete(a);
    cJSON_Delete(b);
    return st;
}

/* *out NULL: there is no file. */
static ts_status open_state(ts_run *r, ts_bag **out)
{
    ts_status st = TS_OK;
    *out = NULL;
    free(r->state_request);
    r->state_request = NULL;
    TRY(describe_request(r, &r->state_request));
    if (access(r->q.state, F_OK)) goto done;
    TRY(ts_bag_load(&r->ctx->err, r->q.state, out));
    const char *was = ts_bag_meta_get(*out, "request"),
               *format = ts_bag_meta_get(*out, "state_format");
    if (format && strcmp(format, "1") && strcmp(format, "2"))
        TRY(ts_fail(&r->ctx->err, TS_EMODEL, "%s: a state of format %.20s, tessera %s reads 1 to 2",
                    r->q.state, format, ts_version()));
    if (!was || !ts_bag_meta_get(*out, "done"))
        TRY(ts_fail(&r->ctx->err, TS_EMODEL, "%s: not a state file of tessera", r->q.state));
    TRY(compare_requests(r, was, r->state_request));
done:
    if (st) {
        ts_bag_free(*out);
        *out = NULL;
    }
    return st;
}

ts_status ts_state_check(ts_run *r)
{
    ts_bag *bag = NULL;
    ts_saved_plans plans;
    ts_status st = r->q.state ? open_state(r, &bag) : TS_OK;
    if (!st && bag) st = find_plans(r, bag, &plans);
    if (!st && bag) {
        int done = atoi(ts_bag_meta_get(bag, "done")) - r->schedule.first;
        r->report.resumed = r->report.done = r->report.state_steps = done > 0 ? done : 0;
    }
    ts_bag_free(bag);
    return st;
}

ts_status ts_run_state(ts_run *r, const char *file, bool spare)
{
    char *own = file ? strdup(file) : NULL;
    if (file && !own) return ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for a file's name");
    if (!r->texts) {
        free(own);
        return ts_fail(&r->ctx->err, TS_EUSAGE,
                       "ts_run_state: this run was opened to decode given latents");
    }
    free((char *)r->q.state);
    r->q.state = own;
    r->state_spare = spare;
    r->report.resumed = r->report.done = r->report.state_steps = 0;
    ts_status st = ts_state_check(r);
    if (st) {
        free(own);
        r->q.state = NULL;
    }
    return st;
}

ts_status ts_state_load(ts_run *r, ts_solver *s, ts_tensor x, bool *found)
{
    ts_status st = TS_OK;
    ts_bag *bag = NULL;
    part p[TS_HISTORY + 1];
    r->saved = (ts_saved_plans){0};
    TRY(open_state(r, &bag));
    *found = bag != NULL;
    if (!*found) goto done;
    const char *steps = ts_bag_meta_get(bag, "done");
    int n = atoi(steps);
    if (n < r->schedule.first || n > r->q.steps)
        TRY(ts_fail(&r->ctx->err, TS_EMODEL, "%s: %s of %d steps done", r->q.state, steps,
                    r->q.steps));
    for (int i = 0, k = list_parts(s, x, p); i < k; i++) {
        ts_host h;
        TRY(ts_bag_get(&r->ctx->err, bag, p[i].name, TS_F32, 4, r->latent, &h));
        TRY(ts_latents_upload(r->ctx, r->latent, h.data, p[i].t));
    }
    TRY(load_plans(r, bag));
    TRY(load_cache(r, bag));
    s->done = n;
done:
    ts_bag_free(bag);
    return st;
}
