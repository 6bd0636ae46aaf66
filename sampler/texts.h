/* The part of ts_texts (tessera.h) that runs use. Internal to sampler/. */
#ifndef TS_TEXTS_H
#define TS_TEXTS_H
#include "sampler/run.h"

const float *ts_texts_states(const ts_texts *, int id); /* [tokens, text_dim]; NULL: not encoded */
/* TS_OK, or how its encoding ended, with the sentence */
ts_status ts_texts_failed(const ts_texts *, int id);
/* Sizes an encoding of these: peak bytes, weights included. Leaves the encoder open for it. */
ts_status ts_texts_count(ts_texts *, const int *ids, int n, size_t *bytes);
/* ts_texts_encode without its events */
ts_status ts_texts_fill(ts_texts *, const int *ids, int n, const char *cache);
#endif
