/* What a file of weights is, by the names of its tensors: which part of which model. */
#ifndef TS_KINDS_H
#define TS_KINDS_H
#include "weights/source.h"

typedef enum {
    TS_PART_NONE,
    TS_PART_TRANSFORMER,
    TS_PART_VAE,
    TS_PART_TEXT_ENCODER,
    TS_PART_CLIP_TEXT, /* of models with two text encoders: the second */
    TS_PART_IMAGE_ENCODER,
    TS_PART_LORA,
} ts_part;
typedef struct {
    ts_part part;
    const char *what; /* "a Wan transformer", for sentences */
    /* the diffusers or transformers class that reads it; NULL: it is known, and not read */
    const char *cls;
} ts_kind;
/* Of n files together: the kind of this part, or with TS_PART_NONE of the first part that is there
 * (they may hold several). NULL: nothing is known in them. */
const ts_kind *ts_kind_of(const ts_source *, int n, ts_part of);
const char *ts_part_name(ts_part); /* "a transformer", for sentences */
#endif
