/* A run's state between two steps, so that a killed run goes on where it was: latents, solver
 * history, plans that were searched for, how many steps are done, and the request they belong
 * to. */
#include "sampler/latents.h"
#include "sampler/run.h"

#include "attention/saved.h"

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
    TRY(ts_attn_save(&r->attn, bag));
    snprintf(done, sizeof done, "%d", s->done);
    ts_bag_meta(bag, "tessera", json);
    ts_bag_meta(bag, "done", done);
    TRY(ts_bag_save(&r->ctx->err, bag, r->q.state));
done:
    free(json);
    ts_bag_free(bag);
    return st;
}

/* Names the first setting in which the request that a state was saved for differs from this one. */
static ts_status name_difference(ts_run *r, const char *was, const char *now)
{
    ts_status st = TS_OK;
    cJSON *a = cJSON_Parse(was), *b = cJSON_Parse(now);
    const cJSON *key;
    char *had = NULL, *has = NULL;
    cJSON_ArrayForEach(key, b)
    {
        const cJSON *old = cJSON_GetObjectItemCaseSensitive(a, key->string);
        if (old && cJSON_Compare(old, key, true)) continue;
        had = old ? cJSON_PrintUnformatted(old) : strdup("none");
        has = cJSON_PrintUnformatted(key);
        st = ts_fail(&r->ctx->err, TS_EMODEL,
                     "%s: the state of another request, %s %.120s instead of %.120s: remove it or "
                     "give another file",
                     r->q.state, key->string, had, has);
        break;
    }
    if (!st)
        st = ts_fail(&r->ctx->err, TS_EMODEL,
                     "%s: the state of another request: remove it or give another file",
                     r->q.state);
    cJSON_Delete(a);
    cJSON_Delete(b);
    free(had);
    free(has);
    return st;
}

ts_status ts_state_load(ts_run *r, ts_solver *s, ts_tensor x, bool *found)
{
    ts_status st = TS_OK;
    ts_bag *bag = NULL;
    char *json = ts_run_json(r);
    part p[TS_HISTORY + 1];
    *found = access(r->q.state, F_OK) == 0;
    if (!*found) goto done;
    TRY(ts_bag_load(&r->ctx->err, r->q.state, &bag));
    const char *was = ts_bag_meta_get(bag, "tessera"), *steps = ts_bag_meta_get(bag, "done");
    if (!was || !steps)
        TRY(ts_fail(&r->ctx->err, TS_EMODEL, "%s: not a state file of tessera", r->q.state));
    if (strcmp(was, json)) TRY(name_difference(r, was, json));
    int n = atoi(steps);
    if (n < r->schedule.first || n > r->q.steps)
        TRY(ts_fail(&r->ctx->err, TS_EMODEL, "%s: %s of %d steps done", r->q.state, steps,
                    r->q.steps));
    for (int i = 0, k = list_parts(s, x, p); i < k; i++) {
        ts_host h;
        TRY(ts_bag_get(&r->ctx->err, bag, p[i].name, TS_F32, 4, r->latent, &h));
        TRY(ts_latents_upload(r->ctx, r->latent, h.data, p[i].t));
    }
    TRY(ts_attn_load(&r->attn, bag));
    s->done = n;
done:
    free(json);
    ts_bag_free(bag);
    return st;
}
