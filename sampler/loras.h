/* LoRAs of a model: which files, how strong, and that the weights of the transformers are those of
 * the run that is at work. Internal to sampler/. */
#ifndef TS_LORAS_H
#define TS_LORAS_H
#include "sampler/model.h"

typedef enum { TS_LORA_BOTH, TS_LORA_HIGH, TS_LORA_LOW } ts_lora_expert;
typedef struct { /* a line of ts_request.loras */
    char *path;
    double strength;
    ts_lora_expert expert;
} ts_lora_wish;
/* *out, malloc'd, for ts_lora_wishes_free; text NULL: none. TS_EUSAGE, TS_EMEMORY. */
ts_status ts_lora_wishes_read(ts_err *, const char *text, ts_lora_wish **out, int *n);
void ts_lora_wishes_free(ts_lora_wish *, int n);
/* The text again; malloc'd; NULL: no memory. */
char *ts_lora_wishes_text(const ts_lora_wish *, int n);
/* "both", "high", "low" */
const char *ts_lora_expert_name(ts_lora_expert);

/* The transformers of the model have these from here on; nothing happens when they have. What of
 * them does not fit is warned of. TS_EMODEL: what is
 * wrong with a file; the model then has none. */
ts_status ts_model_set_loras(ts_model *, const char *text);
void ts_model_free_loras(ts_model *);
/* Warns of settings that are far from what a LoRA that the model has was made for. */
void ts_loras_advise(ts_model *, const ts_request *);
/* What is known of the text's files beside their names, for metadata: [{"file", "strength",
 * "expert", and of those that are there "hash"}]; bare: names without folders. TS_EUSAGE,
 * TS_EMEMORY. */
ts_status ts_loras_json(ts_err *, const char *text, bool bare, cJSON **out);
#endif
