/* The part of ts_texts (tessera.h) that runs use, and what its files share: texts.c has the table,
 * texts_encode.c the encoders, texts_cache.c what is kept in a folder. Internal to sampler/. */
#ifndef TS_TEXTS_H
#define TS_TEXTS_H
#include "sampler/run.h"

typedef struct {
    char *text;
    int32_t *ids[TS_TEXT_RULES]; /* by rule of the family */
    int n[TS_TEXT_RULES];
    ts_bag *bag;      /* what the rules' encoders made of it, by ts_rule_name; NULL: nothing yet */
    ts_status failed; /* what encoding this one ended with, and its sentence */
    char *sentence;
} ts_text;

struct ts_texts {
    ts_model *m;
    ts_text *e;
    int n;
    int *slot, slots;                 /* open addressing by hash of the text: index + 1, 0: free */
    ts_encoder *encoder;              /* from the first count until all are encoded; NULL */
    int rule;                         /* whose it is */
    uint64_t identity[TS_TEXT_RULES]; /* of the encoders' files; 0: not known yet */
    bool cache_failed;                /* said so */
    int children;                     /* runs that share it and are open */
    bool closed;                      /* by its owner; it goes with its last child */
};
/* A child of it is closed: frees it when it was the last one and it is closed. NULL is legal. */
void ts_texts_release(ts_texts *);
static inline ts_err *ts_texts_err(const ts_texts *t) { return &t->m->ctx->err; }

/* Everything that the family's rules ask for, [tokens, text_dim] `states` among it; NULL: not
 * encoded. */
const ts_bag *ts_texts_bag(const ts_texts *, int id);
/* A bag of the same shapes that holds zeros, for counting runs; the caller's. TS_EMEMORY. */
ts_status ts_texts_zeros(const ts_texts *, int id, ts_bag **);
/* TS_OK, or how its encoding ended, with the sentence */
ts_status ts_texts_failed(const ts_texts *, int id);
/* Sizes an encoding of these: peak bytes, weights included, and the operations of all of it. Leaves
 * an encoder open for it. */
ts_status ts_texts_count(ts_texts *, const int *ids, int n, size_t *bytes, ts_profile *);
/* ts_texts_encode without its events */
ts_status ts_texts_fill(ts_texts *, const int *ids, int n, const char *cache);

/* rows that a rule hands on of a text */
int ts_text_rows(const ts_texts *, int rule, const ts_text *);
bool ts_text_has(const ts_texts *, int rule, const ts_text *); /* the rule's rows are there */
/* rows f32 [ts_text_rows, width]. TS_EMEMORY. */
ts_status ts_text_put(ts_texts *, int rule, ts_text *, long width, const float *rows);

/* texts_cache.c: looks for a rule's rows in the folder; a file that can not be used is as good as
 * none. */
ts_status ts_texts_load(ts_texts *, int rule, ts_text *, const char *cache);
ts_status ts_texts_save(ts_texts *, int rule, const ts_text *, const char *cache);
#endif
