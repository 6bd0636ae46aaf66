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

/* ---- between model_files.c and model_alone.c ---- */

/* A component as ts_model_files has it. */
typedef struct {
    const char *name, *stem;
    ts_part part;
    const char *tokenizer; /* of a text encoder: what its tokenizer is called; else NULL */
} ts_model_slot;
/* Places in ts_model_slots; from TEXT_2 on they are a second text encoder's. */
enum { TS_SLOT_TRANSFORMER, TS_SLOT_TEXT = 3, TS_SLOT_IMAGE = 5, TS_SLOT_TEXT_2 };
extern const ts_model_slot ts_model_slots[TS_MODEL_FILES];
ts_status ts_model_file_memory(ts_model *);                /* TS_EMEMORY */
ts_component *ts_model_part(ts_model *, const char *name); /* NULL: none */
/* In the place of the component of that name; config, which may be NULL, is taken. */
ts_status ts_model_put_part(ts_model *, const char *name, const char *cls, const char *path,
                            cJSON *config);
/* The part of the slot's kind that is in the file. */
ts_status ts_model_take_file(ts_model *, const ts_model_slot *, const char *path);
/* The tokenizer of a text encoder: in its file, beside it, in the folder above, else the
 * directory's. */
ts_status ts_model_find_vocabulary(ts_model *, const ts_model_slot *, const char *encoder);
/* TS_EUSAGE: files of a second text encoder, which the pipeline of m->dir does not have. */
ts_status ts_model_check_second(ts_model *, const char *const path[TS_MODEL_FILES]);
/* The rest of a model whose transformer is there: pipeline, scheduler, parts that were not given.
 * path: in order of ts_model_files. TS_EMODEL says what is missing. */
ts_status ts_model_complete(ts_model *, const char *const path[TS_MODEL_FILES]);
#endif
