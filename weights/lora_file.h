/* A file of differences to weights (LoRA): its keys in every spelling, sorted by the module that
 * they belong to, and the scale of each. Which weights these modules are is the business of lora.c.
 */
#ifndef TS_LORA_FILE_H
#define TS_LORA_FILE_H
#include "weights/config.h"
#include "weights/source.h"

typedef struct {
    const char *name; /* the module as the file has it, prefixes gone; it may have '_' for '.' */
    const char *key;  /* one of its keys, for sentences */
    /* A [r, in] and B [out, r], of convolutions with more dimensions; alpha; a bias of B; whole
     * differences of weight (or of the tensor that is called like the module) and bias, and of the
     * table of modulation within it. NULL: not there */
    const ts_entry *a, *b, *alpha, *b_bias, *diff, *diff_b, *diff_m;
    int keys;
} ts_lora_module;
typedef struct {
    char *path;
    ts_source source;
    ts_lora_module *module; /* sorted by name */
    int modules;
    int keys;             /* of modules */
    int text_keys;        /* of text encoders, which are left out */
    bool config;          /* the numbers below hold */
    double r, alpha;      /* of adapter_config.json, or of the file's metadata */
    bool rank_stabilized; /* scale alpha / sqrt(r) */
    cJSON *json;          /* the config, for its patterns */
    const char *head;     /* before the config's keys: "transformer." or "" */
} ts_lora_file;

/* `path`: a safetensors file, or a folder of PEFT (adapter_model.safetensors, adapter_config.json).
 * Refuses what is no LoRA, or one of a kind that is not read (DoRA, LoHa, LoKr, ...), by its kind.
 * TS_EMODEL, TS_EMEMORY; *out is closed on failure. */
ts_status ts_lora_open(ts_err *, const char *path, ts_lora_file *out);
void ts_lora_close(ts_lora_file *); /* a zeroed one is legal */
/* The scale of a module with a pair: alpha / r by its own alpha, by the config's patterns, or 1.
 * zero: its own alpha is 0. TS_EMODEL: an alpha that is no finite number. */
ts_status ts_lora_scale(ts_err *, const ts_lora_file *, const ts_lora_module *, double *scale,
                        bool *zero);
#endif
