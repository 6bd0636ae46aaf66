/* Encoding of texts: all with an encoder opened once, a rule of the family after the other, and the
 * encoders' memory goes back before a run begins. Every text is encoded at its own length, so what
 * comes of it does not depend on its company. */
#include "sampler/texts.h"

#include <stdlib.h>
#include <string.h>

static ts_status refuse_encode_memory(const ts_texts *t, int n)
{
    return ts_fail(ts_texts_err(t), TS_EMEMORY, "no memory for %d texts", n);
}

static const ts_text_rule *rule_of(const ts_texts *t, int rule)
{
    return t->m->family->text + rule;
}

/* ---- the life of an encoder ---- */

static void close_encoder(ts_texts *t)
{
    ts_encoder_close(t->encoder);
    t->encoder = NULL;
}

static ts_status open_encoder(ts_texts *t, int rule)
{
    ts_status st = TS_OK;
    ts_model *m = t->m;
    if (t->encoder && t->rule == rule) return TS_OK;
    close_encoder(t);
    /* what earlier runs have left makes room */
    for (int i = 0; i < 2 && m->dit[i]; i++) ts_weights_leave(ts_dit_weights(m->dit[i]));
    if (m->vae_weights) ts_weights_leave(m->vae_weights);
    TRY(ts_encoder_open(m->ctx, ts_model_dir_part(&m->dir, rule_of(t, rule)->component),
                        &t->encoder));
    t->rule = rule;
    long width = t->encoder->width;
    if (!rule_of(t, rule)->output.pooled && width != m->dit_info.text_dim)
        TRY(ts_fail(ts_texts_err(t), TS_EMODEL,
                    "%s: the text encoder's width is %ld, the transformer takes %d", m->dir.dir,
                    width, m->dit_info.text_dim));
    /* each layer is used once: nothing is worth keeping */
    ts_weights_budget(t->encoder->weights, 0);
done:
    if (st) close_encoder(t);
    return st;
}

/* ---- one call of it ---- */

typedef struct {
    ts_texts *t;
    const int *ids; /* [n] of the texts */
    int n;
    float **out; /* [n]: [tokens, width], or [1, pooled] */
} some_texts;

static long find_encoder_width(const ts_texts *t)
{
    return rule_of(t, t->rule)->output.pooled ? t->encoder->pooled : t->encoder->width;
}

static ts_status take_output(some_texts *s)
{
    const ts_texts *t = s->t;
    s->out = calloc((size_t)s->n, sizeof *s->out);
    if (!s->out) return refuse_encode_memory(t, s->n);
    for (int i = 0; i < s->n; i++) {
        long rows = rule_of(t, t->rule)->output.pooled ? 1 : t->e[s->ids[i]].n[t->rule];
        s->out[i] = malloc((size_t)(rows * find_encoder_width(t)) * sizeof(float));
        if (!s->out[i])
            return ts_fail(ts_texts_err(t), TS_EMEMORY, "no memory for %ld text states", rows);
    }
    return TS_OK;
}

static void free_output(some_texts *s)
{
    for (int i = 0; s->out && i < s->n; i++) free(s->out[i]);
    free(s->out);
}

static ts_status run_encoder(ts_ctx *c, void *user)
{
    ts_status st = TS_OK;
    const some_texts *s = user;
    ts_texts *t = s->t;
    ts_ids *in = calloc((size_t)s->n, sizeof *in);
    (void)c;
    if (!in) TRY(refuse_encode_memory(t, s->n));
    for (int i = 0; i < s->n; i++) {
        const ts_text *e = t->e + s->ids[i];
        in[i] = (ts_ids){e->ids[t->rule], e->n[t->rule]};
    }
    TRY(ts_encoder_run(t->encoder, rule_of(t, t->rule)->output, in, s->n, s->out));
done:
    free(in);
    return st;
}

/* p: the operations that were counted, none of which has taken any time. */
static ts_status count_encoder(some_texts *s, size_t *arena, ts_profile *p)
{
    ts_ctx *c = s->t->m->ctx;
    ts_status st = ts_count_phase(c, run_encoder, s, arena);
    ts_profile_read(c->dev, p, true);
    return st;
}

ts_status ts_texts_count(ts_texts *t, const int *ids, int n, size_t *bytes, ts_profile *sum)
{
    ts_status st = TS_OK;
    some_texts s = {.t = t, .ids = ids, .n = n};
    *bytes = 0;
    *sum = (ts_profile){0};
    for (int rule = 0; rule < ts_family_rules(t->m->family); rule++) {
        size_t arena, largest;
        ts_profile p;
        TRY(open_encoder(t, rule));
        TRY(take_output(&s));
        TRY(count_encoder(&s, &arena, &p));
        for (int i = 0; i < TS_TIMES; i++) sum->flops[i] += p.flops[i];
        free_output(&s);
        s.out = NULL;
        ts_weights_packed(t->encoder->weights, &largest);
        if (arena + largest > *bytes) *bytes = arena + largest;
    }
done:
    free_output(&s);
    return st;
}

/* The open encoder's rows of ids[0..n), or of none of them. */
static ts_status encode_some(ts_texts *t, const int *ids, int n)
{
    ts_status st = TS_OK;
    ts_ctx *c = t->m->ctx;
    size_t arena;
    ts_profile counted;
    const ts_text_rule *rule = rule_of(t, t->rule);
    some_texts s = {.t = t, .ids = ids, .n = n};
    TRY(take_output(&s));
    TRY(count_encoder(&s, &arena, &counted));
    TRY(ts_arena_open(&c->arena, c->dev, arena));
    TRY(run_encoder(c, &s));
    for (int i = 0; i < n; i++) {
        ts_text *e = t->e + ids[i];
        long crop = rule->output.pooled ? 0 : e->n[t->rule] - ts_text_rows(t, t->rule, e);
        TRY(ts_text_put(t, t->rule, e, find_encoder_width(t),
                        s.out[i] + crop * find_encoder_width(t)));
    }
done:
    ts_arena_close(&c->arena);
    free_output(&s);
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
        t->e[ids[0]].sentence = strdup(ts_texts_err(t)->text);
    }
    return TS_OK;
}

/* ---- all of it ---- */

static ts_status encode_todo(ts_texts *t, int rule, const int *ids, int n, const char *cache)
{
    ts_status st = TS_OK;
    size_t room = t->m->ctx->memory / 8;
    for (int from = 0, to; from < n; from = to) {
        size_t bytes = 0;
        for (to = from; to < n && (to == from || bytes + ts_texts_bytes(t, ids[to]) <= room); to++)
            bytes += ts_texts_bytes(t, ids[to]);
        TRY(open_encoder(t, rule));
        TRY(encode_chunk(t, ids + from, to - from));
        for (int i = from; cache && i < to; i++)
            if (ts_text_has(t, rule, t->e + ids[i]))
                TRY(ts_texts_save(t, rule, t->e + ids[i], cache));
    }
done:
    return st;
}

ts_status ts_texts_fill(ts_texts *t, const int *ids, int n, const char *cache)
{
    ts_status st = TS_OK;
    int *list = malloc(sizeof *list * (size_t)(n > 0 ? n : 1));
    bool *seen = malloc((size_t)(t->n > 0 ? t->n : 1) * sizeof *seen);
    if (!list || !seen) TRY(refuse_encode_memory(t, n));
    for (int rule = 0; rule < ts_family_rules(t->m->family); rule++) {
        int todo = 0;
        memset(seen, 0, (size_t)t->n * sizeof *seen);
        for (int i = 0; i < n; i++) {
            ts_text *e = t->e + ids[i];
            if (ts_text_has(t, rule, e) || e->failed || seen[ids[i]]) continue;
            seen[ids[i]] = true;
            if (cache) TRY(ts_texts_load(t, rule, e, cache));
            if (!ts_text_has(t, rule, e)) list[todo++] = ids[i];
        }
        TRY(encode_todo(t, rule, list, todo, cache));
    }
done:
    close_encoder(t);
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
