/* Encoded texts kept in a folder. What a file there stands for is the encoder's files, its
 * arithmetic and the ids (docs/formats.md), so that it serves any model folder that has the same
 * encoder. */
#include "sampler/texts.h"

#include "backend/hash.h"
#include "backend/suffix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static ts_status out_of_memory(const ts_texts *t)
{
    return ts_fail(ts_texts_err(t), TS_EMEMORY, "no memory for a cached text");
}

/* What makes one encoder differ from another: its config, and of each weight file the size and
 * samples all over it. */
static ts_status hash_samples(ts_texts *t, const char *path, uint64_t *h)
{
    enum { SAMPLES = 64, BYTES = 64 };
    struct stat s;
    uint8_t b[BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &s)) {
        if (fd >= 0) close(fd);
        return ts_fail(ts_texts_err(t), TS_EMODEL, "%s: %s", path, strerror(errno));
    }
    *h = ts_hash(*h, &s.st_size, sizeof s.st_size);
    for (int i = 0; i < SAMPLES; i++) {
        ssize_t n = pread(fd, b, sizeof b,
                          s.st_size > BYTES ? (s.st_size - BYTES) / (SAMPLES - 1) * i : 0);
        if (n > 0) *h = ts_hash(*h, b, (size_t)n);
    }
    close(fd);
    return TS_OK;
}

static ts_status identify_encoder(ts_texts *t, int rule)
{
    ts_status st = TS_OK;
    const ts_component *c = ts_model_dir_part(&t->m->dir, t->m->family->text[rule].component);
    struct dirent **list = NULL;
    char *path = NULL;
    uint64_t h = TS_HASH;
    int n = 0;
    if (t->identity[rule]) return TS_OK;
    n = scandir(c->dir, &list, NULL, alphasort);
    if (n < 0) TRY(ts_fail(ts_texts_err(t), TS_EMODEL, "%s: %s", c->dir, strerror(errno)));
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        if (!ts_ends_with(name, ".safetensors") && !ts_ends_with(name, ".json")) continue;
        free(path);
        if (asprintf(&path, "%s/%s", c->dir, name) < 0) {
            path = NULL;
            TRY(out_of_memory(t));
        }
        h = ts_hash(h, name, strlen(name));
        TRY(hash_samples(t, path, &h));
    }
    t->identity[rule] = h;
done:
    for (int i = 0; i < n; i++) free(list[i]);
    free(list);
    free(path);
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
        TRY(out_of_memory(t));
    }
done:
    return st;
}

/* -1: of any width, as only the encoder knows it. */
static long width_of(const ts_texts *t, int rule)
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
                   (long[]){ts_text_rows(t, rule, e), width_of(t, rule)}, &rows))
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
        TRY(out_of_memory(t));
    if (ts_bag_save(&why, bag, path) && !t->cache_failed) {
        ts_warn(t->m->ctx, "texts can not be kept for later runs: %s", why.text);
        t->cache_failed = true;
    }
done:
    ts_bag_free(bag);
    free(path);
    return st;
}
