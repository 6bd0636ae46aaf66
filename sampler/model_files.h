/* A model whose components are files, some of them or all. Internal to sampler/. */
#ifndef TS_MODEL_FILES_H
#define TS_MODEL_FILES_H
#include "sampler/model.h"
#include "weights/kinds.h"

/* m->dir with the files in the place of its components, their configs as their own config.json, the
 * directory's or their shapes tell them; where m->dir is closed, the files stand for a model.
 * m->file: where they are. TS_EMODEL: what is missing, or is not what it was given as. */
ts_status ts_model_take_files(ts_model *, const ts_model_files *);
/* Adds what the shapes of a file of that kind tell of its config; nothing where they tell too
 * little. */
void ts_describe_part(ts_ctx *, const char *path, const ts_kind *, cJSON *j);
#endif
