/* Which steps are evaluated, and what stands for the others. */
#include "sampler/step_cache.h"

#include "backend/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the language ---- */
static const char *const keys[] = {"threshold", "first", "last"};
static const char *const wanted[] = {"a number more than 0", "a whole number from 1",
                                     "a whole number from 0"};

static bool set_key(ts_cache_wish *w, int key, const char *value)
{
    uint64_t n = 0;
    if (!key) return ts_number_read(value, &w->threshold) && w->threshold > 0;
    if (!ts_whole_read(value, 1000000, &n) || (key == 1 && !n)) return false;
    *(key == 1 ? &w->first : &w->last) = (int)n;
    return true;
}

static ts_status parse_cache_key(ts_err *err, ts_cache_wish *w, const char *s, size_t n)
{
    char word[64];
    const char *equal = memchr(s, '=', n);
    size_t length = equal ? (size_t)(equal - s) : n;
    int key = 0;
    while (key < 3 && (strlen(keys[key]) != length || memcmp(keys[key], s, length))) key++;
    if (key == 3)
        return ts_fail(err, TS_EUSAGE,
                       "cache-steps easycache: no key \"%.*s\", expected threshold, first or last",
                       (int)length, s);
    snprintf(word, sizeof word, "%.*s", equal ? (int)(n - length - 1) : 0, equal ? equal + 1 : "");
    if (!set_key(w, key, word))
        return ts_fail(err, TS_EUSAGE, "cache-steps easycache: %s=%s, expected %s", keys[key], word,
                       wanted[key]);
    return TS_OK;
}

ts_status ts_cache_parse(ts_err *err, const char *text, ts_cache_wish *w)
{
    ts_status st = TS_OK;
    static const char *const name = "easycache";
    size_t n = strcspn(text, ":");
    *w = (ts_cache_wish){.threshold = 0.05, .first = 3, .last = 1};
    if (!strcmp(text, "none")) return TS_OK;
    if (n != strlen(name) || memcmp(text, name, n))
        return ts_fail(err, TS_EUSAGE, "cache-steps %.80s: no such method, expected none or %s",
                       text, name);
    w->on = true;
    if (text[n] && !text[n + 1])
        return ts_fail(err, TS_EUSAGE, "cache-steps %s: a key must follow the colon", name);
    for (const char *s = text[n] ? text + n + 1 : NULL; s; s = *s == ',' ? s + 1 : NULL) {
        size_t length = strcspn(s, ",");
        TRY(parse_cache_key(err, w, s, length));
        s += length;
    }
done:
    return st;
}

char *ts_cache_text(const ts_cache_wish *w)
{
    char *text = NULL, number[TS_NUMBER_TEXT];
    if (!w->on) return strdup("none");
    return asprintf(&text, "easycache:threshold=%s,first=%d,last=%d",
                    ts_number_text(w->threshold, number), w->first, w->last) < 0
               ? NULL
               : text;
}

/* ---- norms ---- */
/* [.., C'] as heads of one: its first C columns. */
static ts_tensor as_rows(ts_tensor t, long C)
{
    ts_tensor h = ts_tensor_of(t.p, t.type, 4, (long[]){1, ts_rows(t), 1, C});
    h.ld = t.ld;
    return h;
}

static ts_status queue_distance(const ts_step_cache *c, ts_ctx *ctx, ts_tensor a, ts_tensor b,
                                int at)
{
    long C = c->x.dim[c->x.nd - 1];
    ts_tensor error = ts_tensor_of(ts_at(c->sums.p, (size_t)at * sizeof(float)), TS_F32, 1,
                                   (long[]){1});
    return ts_head_errors_op(ctx->dev, (ts_head_errors){as_rows(a, C), as_rows(b, C), 0, error});
}

/* ---- the run ---- */
ts_status ts_step_cache_open(ts_step_cache *c, ts_ctx *ctx, const ts_cache_wish *w, ts_tensor x,
                             const ts_tensor *v, int branches)
{
    ts_arena *a = &ctx->arena;
    *c = (ts_step_cache){.wish = *w, .branches = branches, .expert = -1};
    if (!w->on) return TS_OK;
    c->x = ts_take(a, TS_F32, x.nd, x.dim);
    c->zero = ts_take(a, TS_F32, x.nd, x.dim);
    for (int s = 0; s < branches; s++) c->v[s] = ts_take(a, TS_F32, v[s].nd, v[s].dim);
    c->sums = ts_take(a, TS_F32, TS_DIM(4));
    return ctx->dev->ops->zero(ctx->dev, c->zero.p, (size_t)ts_count(c->zero) * sizeof(float));
}

ts_status ts_step_cache_ask(ts_step_cache *c, ts_ctx *ctx, ts_tensor x, int branches, int expert,
                            bool *reuse)
{
    ts_status st = TS_OK;
    float d = 0;
    *reuse = false;
    if (c->known < branches || c->expert != expert || c->rate <= 0) return TS_OK;
    TRY(queue_distance(c, ctx, x, c->x, 0));
    TRY(ctx->dev->ops->download(ctx->dev, &d, c->sums.p, sizeof d));
    *reuse = c->rate * sqrt((double)d) < c->wish.threshold * c->size;
done:
    return st;
}

ts_status ts_step_cache_reuse(ts_step_cache *c, ts_ctx *ctx, const ts_tensor *v)
{
    ts_status st = TS_OK;
    for (int s = 0; s < c->branches; s++) TRY(ts_cast(ctx->dev, c->v[s], v[s]));
    c->reused++;
done:
    return st;
}

ts_status ts_step_cache_keep(ts_step_cache *c, ts_ctx *ctx, ts_tensor x, const ts_tensor *v,
                             int branches, int expert)
{
    ts_status st = TS_OK;
    float sum[3] = {0};
    bool before = c->known && c->expert == expert;
    if (before) {
        TRY(queue_distance(c, ctx, x, c->x, 0));
        TRY(queue_distance(c, ctx, v[0], c->v[0], 1));
    }
    TRY(queue_distance(c, ctx, v[0], c->zero, 2));
    TRY(ctx->dev->ops->download(ctx->dev, sum, c->sums.p, sizeof sum));
    c->rate = before && sum[0] > 0 ? sqrt((double)sum[1] / (double)sum[0]) : 0;
    c->size = sqrt((double)sum[2]);
    TRY(ts_cast(ctx->dev, x, c->x));
    for (int s = 0; s < branches; s++) TRY(ts_cast(ctx->dev, v[s], c->v[s]));
    c->known = branches;
    c->expert = expert;
    c->computed++;
done:
    return st;
}

/* ---- interruptions ---- */
int ts_step_cache_parts(const ts_step_cache *c, const char *name[TS_CACHE_TENSORS],
                        ts_tensor t[TS_CACHE_TENSORS])
{
    static const char *const velocity[TS_CACHE_BRANCHES] = {"cache.velocity.cond",
                                                            "cache.velocity.uncond"};
    int n = 0;
    if (!c->wish.on || !c->known) return 0;
    name[n] = "cache.latents";
    t[n++] = c->x;
    for (int s = 0; s < c->known; s++) {
        name[n] = velocity[s];
        t[n++] = c->v[s];
    }
    return n;
}

void ts_step_cache_say(const ts_step_cache *c, char text[TS_CACHE_TEXT])
{
    snprintf(text, TS_CACHE_TEXT, "%d %d %.17g %.17g %ld %ld", c->known, c->expert, c->rate,
             c->size, c->computed, c->reused);
}

bool ts_step_cache_heed(ts_step_cache *c, const char *text)
{
    ts_step_cache r = *c;
    if (sscanf(text, "%d %d %lf %lf %ld %ld", &r.known, &r.expert, &r.rate, &r.size, &r.computed,
               &r.reused) != 6 ||
        r.known < 0 || r.known > r.branches || !(r.rate >= 0) || !(r.size >= 0))
        return false;
    *c = r;
    return true;
}

char *ts_step_cache_report(const ts_step_cache *c)
{
    char *said = c->wish.on ? ts_cache_text(&c->wish) : NULL, *text = NULL;
    if (said && asprintf(&text, "cache %s\n  steps     %ld computed, %ld reused\n", said,
                         c->computed, c->reused) < 0)
        text = NULL;
    free(said);
    return text;
}
