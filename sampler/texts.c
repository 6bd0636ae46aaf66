/* The table of the texts of one or many runs: each distinct one is tokenized once, and has one bag
 * of what the encoders made of it. */
#include "sampler/texts.h"

#include "backend/hash.h"

#include <stdlib.h>
#include <string.h>

static ts_status refuse_texts_memory(const ts_texts *t)
{
    return ts_fail(ts_texts_err(t), TS_EMEMORY, "no memory for %d texts", t->n + 1);
}

ts_status ts_texts_open(ts_model *m, ts_texts **out)
{
    ts_texts *t = *out = calloc(1, sizeof *t);
    if (!t) return ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for texts");
    t->m = m;
    m->children++;
    return TS_OK;
}

static void free_text(ts_text *e)
{
    free(e->text);
    for (int i = 0; i < TS_TEXT_RULES; i++) free(e->ids[i]);
    ts_bag_free(e->bag);
    free(e->sentence);
}

static void free_texts(ts_texts *t)
{
    ts_model *m = t->m;
    for (int i = 0; i < t->n; i++) free_text(t->e + i);
    ts_encoder_close(t->encoder);
    free(t->e);
    free(t->slot);
    free(t);
    ts_model_release(m);
}

void ts_texts_close(ts_texts *t)
{
    if (!t) return;
    t->closed = true;
    if (!t->children) free_texts(t);
}

void ts_texts_release(ts_texts *t)
{
    if (t && --t->children == 0 && t->closed) free_texts(t);
}

static int *slot_of(const ts_texts *t, const char *text)
{
    for (uint64_t i = ts_hash(TS_HASH, text, strlen(text));; i++) {
        int *s = t->slot + i % (uint64_t)t->slots;
        if (!*s || !strcmp(t->e[*s - 1].text, text)) return s;
    }
}

static ts_status grow_table(ts_texts *t)
{
    if (2 * (t->n + 1) <= t->slots) return TS_OK;
    int slots = t->slots ? 2 * t->slots : 16, *old = t->slot;
    ts_text *more = realloc(t->e, sizeof *more * (size_t)slots);
    if (!more) return refuse_texts_memory(t);
    t->e = more;
    t->slot = calloc((size_t)slots, sizeof *t->slot);
    if (!t->slot) {
        t->slot = old;
        return refuse_texts_memory(t);
    }
    t->slots = slots;
    for (int i = 0; i < t->n; i++) *slot_of(t, t->e[i].text) = i + 1;
    free(old);
    return TS_OK;
}

ts_status ts_texts_add(ts_texts *t, const char *text, const char *what, int *id)
{
    ts_status st = TS_OK;
    ts_text e = {0};
    if (!text) return ts_fail(ts_texts_err(t), TS_EUSAGE, "ts_texts_add: no text");
    TRY(grow_table(t));
    int *slot = slot_of(t, text);
    if (!*slot) {
        e.text = strdup(text);
        if (!e.text) TRY(refuse_texts_memory(t));
        for (int i = 0; i < ts_family_rules(t->m->family); i++)
            TRY(ts_model_tokenize(t->m, i, text, what, &e.ids[i], &e.n[i]));
        t->e[t->n++] = e;
        *slot = t->n;
        e = (ts_text){0};
    }
    *id = *slot - 1;
done:
    free_text(&e);
    return st;
}

int ts_text_rows(const ts_texts *t, int rule, const ts_text *e)
{
    const ts_text_rule *r = t->m->family->text + rule;
    if (r->output.pooled) return 1;
    return e->n[rule] > r->crop ? e->n[rule] - r->crop : 0;
}

int ts_texts_tokens(const ts_texts *t, int id) { return ts_text_rows(t, 0, t->e + id); }

size_t ts_texts_bytes(const ts_texts *t, int id)
{
    return (size_t)ts_texts_tokens(t, id) * (size_t)t->m->dit_info.text_dim * sizeof(float);
}

bool ts_text_has(const ts_texts *t, int rule, const ts_text *e)
{
    return e->bag && ts_bag_has(e->bag, ts_rule_name(t->m->family->text + rule));
}

ts_status ts_text_put(ts_texts *t, int rule, ts_text *e, long width, const float *rows)
{
    const char *name = ts_rule_name(t->m->family->text + rule);
    long dim[2] = {ts_text_rows(t, rule, e), width};
    if (!e->bag) e->bag = ts_bag_new();
    if (!e->bag || !ts_bag_put(e->bag, name, TS_F32, 2, dim, rows))
        return ts_fail(ts_texts_err(t), TS_EMEMORY, "no memory for %ld text states", dim[0]);
    return TS_OK;
}

const ts_bag *ts_texts_bag(const ts_texts *t, int id)
{
    const ts_text *e = t->e + id;
    for (int i = 0; i < ts_family_rules(t->m->family); i++)
        if (!ts_text_has(t, i, e)) return NULL;
    return e->bag;
}

ts_status ts_texts_zeros(const ts_texts *t, int id, ts_bag **out)
{
    long dim[2] = {ts_texts_tokens(t, id), t->m->dit_info.text_dim},
         pooled[2] = {1, t->m->dit_info.pooled_dim};
    *out = ts_bag_new();
    if (!*out || !ts_bag_put(*out, "states", TS_F32, 2, dim, NULL) ||
        (pooled[1] && !ts_bag_put(*out, "pooled", TS_F32, 2, pooled, NULL)))
        return ts_fail(ts_texts_err(t), TS_EMEMORY, "no memory for %ld text states", dim[0]);
    return TS_OK;
}

void ts_texts_drop(ts_texts *t, int id)
{
    ts_bag_free(t->e[id].bag);
    t->e[id].bag = NULL;
}

ts_status ts_texts_failed(const ts_texts *t, int id)
{
    const ts_text *e = t->e + id;
    if (!e->failed) return TS_OK;
    return ts_fail(ts_texts_err(t), e->failed, "%s",
                   e->sentence ? e->sentence : "a text could not be encoded");
}
