/* The texts of one or many runs: each distinct one is tokenized and encoded once, all with the
 * encoder opened once, and the encoder's memory goes back before a run begins. Encoded texts can be
 * kept in a folder; what a file there stands for is the encoder's files, its arithmetic and the
 * ids, so that it serves any model folder that has the same encoder.
 *
 * Every text is encoded at its own length, so its states do not depend on its company. */
#include "sampler/texts.h"

#include "backend/hash.h"
#include "backend/suffix.h"
#include "weights/bag.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    char *text;
    int32_t *ids;
    int n;
    float *states;    /* [n, text_dim]; NULL: not encoded */
    ts_status failed; /* what encoding this one ended with, and its sentence */
    char *sentence;
} entry;

struct ts_texts {
    ts_model *m;
    entry *e;
    int n;
    int *slot, slots;    /* open addressing by hash of the text: index + 1, 0: free */
    ts_encoder *encoder; /* from the first count until all are encoded */
    uint64_t identity;   /* of the encoder's files; 0: not known yet */
    bool cache_failed;   /* said so */
};

static ts_err *err_of(const ts_texts *t) { return &t->m->ctx->err; }
static ts_status no_memory(const ts_texts *t)
{
    return ts_fail(err_of(t), TS_EMEMORY, "no memory for %d texts", t->n + 1);
}

ts_status ts_texts_open(ts_model *m, ts_texts **out)
{
    ts_texts *t = *out = calloc(1, sizeof *t);
    if (!t) return ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for texts");
    t->m = m;
    return TS_OK;
}

void ts_texts_close(ts_texts *t)
{
    if (!t) return;
    for (int i = 0; i < t->n; i++) {
        free(t->e[i].text);
        free(t->e[i].ids);
        free(t->e[i].states);
        free(t->e[i].sentence);
    }
    ts_encoder_close(t->encoder);
    free(t->e);
    free(t->slot);
    free(t);
}

static int *slot_of(const ts_texts *t, const char *text)
{
    for (uint64_t i = ts_hash(TS_HASH, text, strlen(text));; i++) {
        int *s = t->slot + i % (uint64_t)t->slots;
        if (!*s || !strcmp(t->e[*s - 1].text, text)) return s;
    }
}

static ts_status grow(ts_texts *t)
{
    if (2 * (t->n + 1) <= t->slots) return TS_OK;
    int slots = t->slots ? 2 * t->slots : 16, *old = t->slot;
    entry *more = realloc(t->e, sizeof *more * (size_t)slots);
    if (!more) return no_memory(t);
    t->e = more;
    t->slot = calloc((size_t)slots, sizeof *t->slot);
    if (!t->slot) return t->slot = old, no_memory(t);
    t->slots = slots;
    for (int i = 0; i < t->n; i++) *slot_of(t, t->e[i].text) = i + 1;
    free(old);
    return TS_OK;
}

ts_status ts_texts_add(ts_texts *t, const char *text, const char *what, int *id)
{
    ts_status st = TS_OK;
    entry e = {0};
    TRY(grow(t));
    int *slot = slot_of(t, text);
    if (!*slot) {
        e.text = strdup(text);
        if (!e.text) TRY(no_memory(t));
        TRY(ts_model_tokenize(t->m, text, what, &e.ids, &e.n));
        t->e[t->n++] = e;
        *slot = t->n;
        e = (entry){0};
    }
    *id = *slot - 1;
done:
    free(e.text);
    free(e.ids);
    return st;
}

int ts_texts_tokens(const ts_texts *t, int id) { return t->e[id].n; }
const float *ts_texts_states(const ts_texts *t, int id) { return t->e[id].states; }

size_t ts_texts_bytes(const ts_texts *t, int id)
{
    return (size_t)t->e[id].n * (size_t)t->m->dit_info.text_dim * sizeof(float);
}

void ts_texts_drop(ts_texts *t, int id)
{
    free(t->e[id].states);
    t->e[id].states = NULL;
}

ts_status ts_texts_failed(const ts_texts *t, int id)
{
    const entry *e = t->e + id;
    if (!e->failed) return TS_OK;
    return ts_fail(err_of(t), e->failed, "%s",
                   e->sentence ? e->sentence : "a text could not be encoded");
}

/* ---- the encoder ---- */
static ts_status open_encoder(ts_texts *t)
{
    ts_status st = TS_OK;
    if (t->encoder) return TS_OK;
    /* what earlier runs have left makes room */
    for (int i = 0; i < 2 && t->m->dit[i]; i++) ts_weights_leave(ts_dit_weights(t->m->dit[i]));
    if (t->m->vae_weights) ts_weights_leave(t->m->vae_weights);
    TRY(ts_encoder_open(t->m->ctx, ts_model_dir_part(&t->m->dir, "text_encoder"), &t->encoder));
    long width = ts_encoder_width(t->encoder);
    if (width != t->m->dit_info.text_dim)
        TRY(ts_fail(err_of(t), TS_EMODEL,
                    "%s: the text encoder's width is %ld, the transformer takes %d", t->m->dir.dir,
                    width, t->m->dit_info.text_dim));
    /* each layer is used once: nothing is worth keeping */
    ts_weights_budget(ts_encoder_weights(t->encoder), 0);
done:
    if (st) {
        ts_encoder_close(t->encoder);
        t->encoder = NULL;
    }
    return st;
}

typedef struct {
    ts_texts *t;
    const int *ids;
    int n;
} some; /* of the texts */

static ts_status run(ts_ctx *c, void *user)
{
    ts_status st = TS_OK;
    const some *s = user;
    ts_ids *in = calloc((size_t)s->n, sizeof *in);
    float **out = calloc((size_t)s->n, sizeof *out);
    (void)c;
    if (!in || !out) TRY(no_memory(s->t));
    for (int i = 0; i < s->n; i++) {
        const entry *e = s->t->e + s->ids[i];
        in[i] = (ts_ids){e->ids, e->n};
        out[i] = e->states;
    }
    TRY(ts_encoder_run(s->t->encoder, in, s->n, out));
done:
    free(in);
    free(out);
    return st;
}

static ts_status count(const some *s, size_t *arena)
{
    ts_profile p;
    ts_ctx *c = s->t->m->ctx;
    ts_status st = ts_count_phase(c, run, (void *)s, arena);
    ts_profile_read(c->dev, &p, true); /* what was counted is no time of anything */
    return st;
}

static ts_status make_room(ts_texts *t, entry *e)
{
    if (!e->states)
        e->states = calloc((size_t)e->n * (size_t)t->m->dit_info.text_dim, sizeof(float));
    return e->states ? TS_OK : ts_fail(err_of(t), TS_EMEMORY, "no memory for %d text states", e->n);
}

ts_status ts_texts_count(ts_texts *t, const int *ids, int n, size_t *bytes)
{
    ts_status st = TS_OK;
    size_t arena, largest;
    TRY(open_encoder(t));
    for (int i = 0; i < n; i++) TRY(make_room(t, t->e + ids[i]));
    TRY(count(&(some){t, ids, n}, &arena));
    for (int i = 0; i < n; i++) ts_texts_drop(t, ids[i]);
    ts_weights_packed(ts_encoder_weights(t->encoder), &largest);
    *bytes = arena + largest;
done:
    return st;
}

/* States of ids[0..n), or of none of them. */
static ts_status encode_some(ts_texts *t, const int *ids, int n)
{
    ts_status st = TS_OK;
    ts_ctx *c = t->m->ctx;
    size_t arena;
    some s = {t, ids, n};
    for (int i = 0; i < n; i++) TRY(make_room(t, t->e + ids[i]));
    TRY(count(&s, &arena));
    TRY(ts_arena_open(&c->arena, c->dev, arena));
    TRY(run(c, &s));
done:
    ts_arena_close(&c->arena);
    for (int i = 0; st && i < n; i++) ts_texts_drop(t, ids[i]);
    return st;
}

/* A failure of one text, not of the machine, is that text's alone. */
static ts_status encode_chunk(ts_texts *t, const int *ids, int n)
{
    ts_status st = encode_some(t, ids, n);
    if (st != TS_ENUMBER && st != TS_EMEMORY) return st;
    for (int i = 0; n > 1 && i < n; i++) {
        st = encode_chunk(t, ids + i, 1);
        if (st) return st;
    }
    if (n == 1) {
        t->e[ids[0]].failed = st;
        t->e[ids[0]].sentence = strdup(err_of(t)->text);
    }
    return TS_OK;
}

/* ---- the cache ---- */
/* What makes one encoder differ from another: its config, and of each weight file the size and
 * samples all over it. */
static ts_status sample(ts_texts *t, const char *path, uint64_t *h)
{
    enum { SAMPLES = 64, BYTES = 64 };
    struct stat s;
    uint8_t b[BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &s)) {
        if (fd >= 0) close(fd);
        return ts_fail(err_of(t), TS_EMODEL, "%s: %s", path, strerror(errno));
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

static ts_status identify(ts_texts *t)
{
    ts_status st = TS_OK;
    const ts_component *c = ts_model_dir_part(&t->m->dir, "text_encoder");
    struct dirent **list = NULL;
    int n = t->identity ? 0 : scandir(c->dir, &list, NULL, alphasort);
    uint64_t h = TS_HASH;
    if (n < 0) TRY(ts_fail(err_of(t), TS_EMODEL, "%s: %s", c->dir, strerror(errno)));
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        const char *name = list[i]->d_name;
        if (st || (!ts_ends_with(name, ".safetensors") && !ts_ends_with(name, ".json"))) continue;
        if (asprintf(&path, "%s/%s", c->dir, name) < 0) TRY(no_memory(t));
        h = ts_hash(h, name, strlen(name));
        st = sample(t, path, &h);
        free(path);
    }
    if (n > 0) t->identity = h;
done:
    for (int i = 0; i < n; i++) free(list[i]);
    free(list);
    return st;
}

static char *cache_path(const ts_texts *t, const entry *e, const char *cache)
{
    char *path = NULL;
    uint64_t h = ts_hash(ts_hash(t->identity, e->ids, (size_t)e->n * sizeof *e->ids),
                         &t->m->ctx->act, sizeof t->m->ctx->act);
    return asprintf(&path, "%s/text-%016llx.safetensors", cache, (unsigned long long)h) < 0 ? NULL
                                                                                            : path;
}

/* A file that can not be used is as good as none: it is written anew. */
static ts_status load(ts_texts *t, entry *e, const char *cache)
{
    ts_status st = TS_OK;
    char *path = cache_path(t, e, cache);
    ts_bag *bag = NULL;
    ts_err ignored;
    ts_host ids, states;
    if (!path) TRY(no_memory(t));
    if (access(path, R_OK) || ts_bag_load(&ignored, path, &bag)) goto done;
    if (ts_bag_get(&ignored, bag, "ids", TS_I32, 1, (long[]){e->n}, &ids) ||
        memcmp(ids.data, e->ids, (size_t)e->n * sizeof *e->ids))
        goto done;
    if (ts_bag_get(&ignored, bag, "states", TS_F32, 2, (long[]){e->n, t->m->dit_info.text_dim},
                   &states))
        goto done;
    size_t bytes = (size_t)e->n * (size_t)t->m->dit_info.text_dim * sizeof(float);
    e->states = malloc(bytes);
    if (!e->states) TRY(no_memory(t));
    memcpy(e->states, states.data, bytes);
done:
    ts_bag_free(bag);
    free(path);
    return st;
}

/* What is not in the cache is encoded again another time: no reason to end a run. */
static ts_status save(ts_texts *t, const entry *e, const char *cache)
{
    ts_err why;
    ts_status st = TS_OK;
    char *path = cache_path(t, e, cache);
    ts_bag *bag = ts_bag_new();
    if (!path || !bag || !ts_bag_put(bag, "ids", TS_I32, 1, (long[]){e->n}, e->ids) ||
        !ts_bag_put(bag, "states", TS_F32, 2, (long[]){e->n, t->m->dit_info.text_dim}, e->states))
        TRY(no_memory(t));
    if (ts_bag_save(&why, bag, path) && !t->cache_failed) {
        ts_warn(t->m->ctx, "texts can not be kept for later runs: %s", why.text);
        t->cache_failed = true;
    }
done:
    ts_bag_free(bag);
    free(path);
    return st;
}

/* ---- all of it ---- */
static ts_status encode_todo(ts_texts *t, const int *ids, int n, const char *cache)
{
    ts_status st = TS_OK;
    size_t room = t->m->ctx->memory / 8;
    for (int from = 0, to; from < n; from = to) {
        size_t bytes = 0;
        for (to = from; to < n && (to == from || bytes + ts_texts_bytes(t, ids[to]) <= room); to++)
            bytes += ts_texts_bytes(t, ids[to]);
        TRY(open_encoder(t));
        TRY(encode_chunk(t, ids + from, to - from));
        for (int i = from; cache && i < to; i++)
            if (t->e[ids[i]].states) TRY(save(t, t->e + ids[i], cache));
    }
done:
    return st;
}

ts_status ts_texts_fill(ts_texts *t, const int *ids, int n, const char *cache)
{
    ts_status st = TS_OK;
    int todo = 0, *list = malloc(sizeof *list * (size_t)(n > 0 ? n : 1));
    bool *seen = calloc((size_t)(t->n > 0 ? t->n : 1), sizeof *seen);
    if (!list || !seen) TRY(no_memory(t));
    if (cache) TRY(identify(t));
    for (int i = 0; i < n; i++) {
        entry *e = t->e + ids[i];
        if (e->states || e->failed || seen[ids[i]]) continue;
        seen[ids[i]] = true;
        if (cache) TRY(load(t, e, cache));
        if (!e->states) list[todo++] = ids[i];
    }
    TRY(encode_todo(t, list, todo, cache));
done:
    ts_encoder_close(t->encoder);
    t->encoder = NULL;
    free(list);
    free(seen);
    return st;
}

ts_status ts_texts_encode(ts_texts *t, const int *ids, int n, const char *cache)
{
    double start = ts_seconds();
    ts_progress(t->m->ctx, (ts_event){.phase = TS_PHASE_TEXT, .steps = n});
    ts_status st = ts_texts_fill(t, ids, n, cache);
    if (!st)
        ts_progress(t->m->ctx, (ts_event){.phase = TS_PHASE_TEXT,
                                          .step = n,
                                          .steps = n,
                                          .seconds = ts_seconds() - start});
    return st;
}
