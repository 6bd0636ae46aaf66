/* The tensors of one component as one table of names over its sources: a single file, or shards
 * with their index. */
#ifndef TS_CHECKPOINT_H
#define TS_CHECKPOINT_H
#include "weights/source.h"

typedef struct {
    const char *name; /* what models ask for; today as the file has it */
    const ts_entry *e;
    const ts_source *source; /* that holds it */
} ts_named;
typedef struct {
    char *what; /* the file or index, for sentences */
    ts_source *source;
    int sources;
    ts_named *name; /* sorted by name, all different */
    int names;
} ts_checkpoint;
/* DIR/STEM.safetensors, else DIR/STEM.safetensors.index.json with its shards, else a variant of
 * either (bf16 before fp16 before others). A tensor of a shard that the index leaves out is there
 * too, with one warning. TS_EMODEL names file and tensor; *out is closed on failure. */
ts_status ts_checkpoint_open(ts_ctx *, const char *dir, const char *stem, ts_checkpoint *out);
void ts_checkpoint_close(ts_checkpoint *);
/* index into `name`; -1: not there */
int ts_checkpoint_find(const ts_checkpoint *, const char *name);
#endif
