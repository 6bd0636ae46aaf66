/* The model directory: which components a model has, where they are, and their configs. */
#ifndef TS_MODEL_DIR_H
#define TS_MODEL_DIR_H
#include "weights/config.h"

typedef struct {
    char name[32], library[32], cls[64]; /* "vae", "diffusers", "AutoencoderKLWan" */
    char *dir;
    /* config.json or scheduler_config.json; NULL: the folder has none, which only tokenizers and
     * processors may */
    cJSON *config;
    char *config_path; /* of it, for sentences; never NULL */
} ts_component;
typedef struct {
    char *dir;
    char pipeline[64];
    cJSON *index; /* model_index.json */
    /* those that are not [null, null]; config NULL where the folder has none (tokenizer) */
    ts_component part[16];
    int parts;
} ts_model_dir;
/* `name` is a directory or, where `hub` (a Hugging Face cache folder, may be NULL) has it,
 * ORG/NAME: HUB/models--ORG--NAME/snapshots/<what refs/main holds, or the only one>. TS_EMODEL says
 * what is missing where, and what the folder looks like instead. *out is closed on failure. */
ts_status ts_model_dir_open(ts_ctx *, const char *name, const char *hub, ts_model_dir *);
void ts_model_dir_close(ts_model_dir *);
const ts_component *ts_model_dir_part(const ts_model_dir *, const char *name); /* NULL: none */
#endif
