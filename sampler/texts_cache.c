/* Encoded texts kept in a folder. What a file there stands for is the encoder's files, its
 * arithmetic and the ids (docs/formats.md), so that it serves any model folder that has the same
 * encoder. */
#include "sampler/texts.h"

#include "backend/hash.h"
#include "sampler/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ts_status refuse_cache_memory(const ts_texts *t)
{
    return ts_fail(ts_texts_err(t), TS_EMEMORY, "no memory for a cached text");
}

static ts_status identify_encoder(ts_texts *t, int rule)
{
    const ts_component *c = ts_model_dir_part(&t->m->dir, t->m->family->text[rule].component);
    uint64_t h = TS_HASH;
    if (t->identity[rule]) return TS_OK;
    ts_status st = ts_identity_folder(ts_texts_err(t), c->dir, &h);
    if (!st) t->identity[rule] = h;
    return st;
}

static ts_status cache_path(ts_texts *t, int rule, const ts_text *e, const char *cache, char **path)
{
    ts_status st;
    const ts_text_rule *r = t->m->family->text + rule;
    *path = NULL;
    TRY(identify_encoder(t, rule));
    uint64_t h = ts_hash(t->identity[rule], e->ids[rule],
                         (size_t)e->n[rule] * sizeof *e->ids[rule]);
    h = ts_hash(h, &t->m->ctx->act, sizeof t->m->ctx->act);
    if (r->output.hidden) h = ts_hash(h, &r->output.hidden, sizeof r->output.hidden);
    if (r->crop) h = ts_hash(h, &r->crop, sizeof r->crop);
    if (asprintf(path, "%s/text-%016llx.safetensors", cache, (unsigned long long)h) < 0) {
        *path = NULL;
        TRY(refuse_cache_memory(t));
    }
done:
    return st;
}

/* -1: of any width, as only the encoder knows it. */
static long find_cached_width(const ts_texts *t, int rule)
{
    return t->m->family->text[rule].output.pooled ? -1 : t->m->dit_info.text_dim;
}

ts_status ts_texts_load(ts_texts *t, int rule, ts_text *e, const char *cache)
{
    ts_status st = TS_OK;
    const char *name = ts_rule_name(t->m->family->text + rule);
    char *path = NULL;
    ts_bag *bag = NULL;
    ts_err ignored;
    ts_host ids, rows;
    TRY(cache_path(t, rule, e, cache, &path));
    if (access(path, R_OK) || ts_bag_load(&ignored, path, &bag)) goto done;
    if (ts_bag_get(&ignored, bag, "ids", TS_I32, 1, (long[]){e->n[rule]}, &ids) ||
        memcmp(ids.data, e->ids[rule], (size_t)e->n[rule] * sizeof *e->ids[rule]))
        goto done;
    if (ts_bag_get(&ignored, bag, name, TS_F32, 2,
                   (long[]){ts_text_rows(t, rule, e), find_cached_width(t, rule)}, &rows))
        goto done;
    TRY(ts_text_put(t, rule, e, rows.dim[1], rows.data));
done:
    ts_bag_free(bag);
    free(path);
    return st;
}

/* What is not in the cache is encoded again another time: no reason to end a run. */
ts_status ts_texts_save(ts_texts *t, int rule, const ts_text *e, const char *cache)
{
    ts_status st = TS_OK;
    const char *name = ts_rule_name(t->m->family->text + rule);
    char *path = NULL;
    ts_err why;
    ts_host rows;
    ts_bag *bag = ts_bag_new();
    TRY(cache_path(t, rule, e, cache, &path));
    TRY(ts_bag_get(ts_texts_err(t), e->bag, name, TS_F32, 2, (long[]){-1, -1}, &rows));
    if (!bag || !ts_bag_put(bag, "ids", TS_I32, 1, (long[]){e->n[rule]}, e->ids[rule]) ||
        !ts_bag_put(bag, name, TS_F32, 2, rows.dim, rows.data))
        TRY(refuse_cache_memory(t));
    if (ts_bag_save(&why, bag, path) && !t->cache_failed) {
        ts_warn(t->m->ctx, "texts can not be kept for later runs: %s", why.text);
        t->cache_failed = true;
    }
done:
    ts_bag_free(bag);
    free(path);
    return st;
}
